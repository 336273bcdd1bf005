"""Which elements a sliding window meets: shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def overlap(size: int, count: int, offset: int, stride: int) -> tuple[slice, slice]:
    """Outputs o in [0, count) whose element o * stride + offset lies in [0, size), and those elements."""
    first = max(0, -(offset // stride))
    stop = max(first, min(count, (size - 1 - offset) // stride + 1))
    start = first * stride + offset
    return slice(first, stop), slice(start, start + max(0, stop - first - 1) * stride + (stop > first), stride)


def overlaps(
    size: Pair, count: Pair, kernel: Pair, stride: Pair, padding: Padding
) -> Iterator[tuple[int, tuple[slice, slice], tuple[slice, slice]]]:
    """For each element k of a window, row by row: outputs where it is no padding, and what it meets there."""
    (height, width), (rows, columns) = size, count
    for k, (i, j) in enumerate(product(range(kernel[0]), range(kernel[1]))):
        out_y, in_y = overlap(height, rows, i - padding[0][0], stride[0])
        out_x, in_x = overlap(width, columns, j - padding[1][0], stride[1])
        yield k, (out_y, out_x), (in_y, in_x)
