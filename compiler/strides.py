"""Views as arithmetic on shape, strides and offset: what reshape, transpose, broadcast and slice do to an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphnet.compiler.ir import Node
from graphnet.compiler.schedule import Array


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a C-order array."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def reshaped(array: Array, shape: tuple[int, ...]) -> Array | None:
    """The view under another shape, or None where only a copy can have it.

    Walks both shapes in blocks of equal size; a block of the old axes must be evenly strided.
    """
    if array.size == 0 or array.contiguous:
        return replace(array, shape=shape, strides=contiguous_strides(shape))
    old = [(n, s) for n, s in zip(array.shape, array.strides, strict=True) if n != 1]
    strides: list[int] = []
    i = j = 0
    new = list(shape)
    while j < len(new):
        if new[j] == 1:
            strides.append(0)
            j += 1
            continue
        size_old, size_new, first_j, first_i = old[i][0], new[j], j, i
        while size_old != size_new:
            if size_old < size_new:
                i += 1
                size_old *= old[i][0]
            else:
                j += 1
                size_new *= new[j]
        for a in range(first_i, i):
            if old[a][1] != old[a + 1][1] * old[a + 1][0]:
                return None
        step = old[i][1]
        block = []
        for n in reversed(new[first_j : j + 1]):
            block.append(step)
            step *= n
        strides += reversed(block)
        i, j = i + 1, j + 1
    return replace(array, shape=shape, strides=tuple(strides))


def span(array: Array) -> tuple[int, int]:
    """Bytes an array reaches below and above its first element."""
    size = array.itemsize
    reach = [(n - 1) * s * size for n, s in zip(array.shape, array.strides, strict=True)]
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + size


def slots_apart(
    moves: Sequence[tuple[int, int, int, int]], others: Sequence[tuple[int, int, int, int]]
) -> set[int] | None:
    """How far the second of two arrays may be moved from the first in one iteration; None if they move otherwise.

    Each move is (loop, modulo, distance from slot to slot, shift), sorted, as of a ``LoopTerm``.
    """
    if [m[:3] for m in moves] != [m[:3] for m in others]:
        return None
    apart = {0}
    for (_, modulo, stride, shift), (*_, other) in zip(moves, others, strict=True):
        # slot (k + other) % modulo is so many slots after (k + shift) % modulo, or before it, once round
        ahead = (other - shift) % modulo
        apart = {d + stride * slots for d in apart for slots in {ahead, ahead - modulo if ahead else 0}}
    return apart


def spread_as(array: Array, full: tuple[int, ...], shape: tuple[int, ...]) -> Array | None:
    """An operand of a program over ``full`` as one of the same program over ``shape``, of equal size.

    None where it has no such view.
    """
    lead = len(full) - len(array.shape)
    strides = (0,) * lead + tuple(0 if n == 1 else s for n, s in zip(array.shape, array.strides, strict=True))
    spread = replace(array, shape=full, strides=strides)
    return spread if full == shape else reshaped(spread, shape)


def view(node: Node, array: Array) -> Array | None:
    """The array of a view node from its operand's, or None where it needs a copy first."""
    a = node.attrs
    if node.op == "reshape":
        return reshaped(array, a["shape"])
    if node.op == "transpose":
        shape = tuple(array.shape[p] for p in a["perm"])
        return replace(array, shape=shape, strides=tuple(array.strides[p] for p in a["perm"]))
    if node.op == "broadcast_to":
        lead = len(a["shape"]) - len(array.shape)
        strides = [
            0 if n == 1 and m != 1 else s for n, m, s in zip(array.shape, a["shape"][lead:], array.strides, strict=True)
        ]
        return replace(array, shape=a["shape"], strides=(*(0,) * lead, *strides))
    moved = sum(start * s for start, s in zip(a["starts"], array.strides, strict=True))
    strides = [s * step for s, step in zip(array.strides, a["steps"], strict=True)]
    return replace(array, shape=node.shape, strides=tuple(strides), offset=array.offset + moved)


def matrix_ready(array: Array) -> bool:
    """True if the last two axes are a row- or column-major matrix that a BLAS reads without a copy."""
    (rows, columns), (s, t) = array.shape[-2:], array.strides[-2:]
    row_major = (t == 1 or columns == 1) and (s >= columns or rows == 1)
    column_major = (s == 1 or rows == 1) and (t >= rows or columns == 1)
    return row_major or column_major
