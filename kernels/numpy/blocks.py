"""Cutting an index space into blocks that fit in a cache."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

Index = tuple[slice, ...]


def blocks(shape: tuple[int, ...], limit: int) -> Iterator[Index]:
    """Slices, one per axis, that cover `shape` in row-major order with at most `limit` elements each.

    Trailing axes stay whole as far as they fit, one axis is cut in steps, and the axes before it are taken
    one by one.
    """
    if not prod(shape):
        return
    axis, tail = len(shape), 1
    while axis and tail * shape[axis - 1] <= limit:
        axis -= 1
        tail *= shape[axis]
    whole = tuple(slice(0, size) for size in shape[axis:])
    if not axis:
        yield whole
        return
    step = max(1, limit // tail)
    cut = [slice(start, min(start + step, shape[axis - 1])) for start in range(0, shape[axis - 1], step)]
    for leading in product(*map(range, shape[: axis - 1])):
        head = tuple(slice(i, i + 1) for i in leading)
        for part in cut:
            yield (*head, part, *whole)
