"""The runtime of a group of fused elementwise ops.

    for each op: the whole of its arrays   ->   for each block: every op on that block

so that what one op writes is still in the cache when the next one reads it. Temporaries are as large as a
block. Axes that are contiguous to each other in every operand are merged first: a group on whole arrays is
one-dimensional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from graphnet.kernels.numpy.blocks import Index, blocks
from graphnet.kernels.numpy.call import Array, Call, Kernel
from graphnet.kernels.numpy.scratch import ALIGNMENT

Ref = tuple[str, int]
"""("in", i), ("out", i) or ("tmp", i)."""

Instr = tuple[Kernel, Mapping[str, Any], Sequence[Ref], Ref]
"""Kernel, its attrs, operands, result."""

Temp = tuple[Any, tuple[int, ...]]
"""dtype and shape of a temporary, which broadcasts to the group's shape."""

BLOCK = 32768
"""Elements of a block."""


def _temp_bytes(temp: Temp) -> int:
    dtype, shape = temp
    size = min(prod(shape), BLOCK) * np.dtype(dtype).itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT


def fused_scratch(shape: tuple[int, ...], temps: Sequence[Temp]) -> int:
    """Bytes of scratch that `fused` needs for a group of this output shape."""
    return sum(map(_temp_bytes, temps)) + ALIGNMENT if temps and prod(shape) else 0


def _extents(shape: tuple[int, ...], full: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (len(full) - len(shape)) + tuple(shape)


def _merged_axes(full: tuple[int, ...], arrays: Sequence[Array], temps: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Axes of `full` in groups that every operand can see as one axis each; axes of size 1 are left out."""

    def mergeable(a: int, b: int) -> bool:
        for x in arrays:
            broadcast = x.shape[a] == 1, x.shape[b] == 1
            if broadcast[0] != broadcast[1] or (not broadcast[0] and x.strides[a] != x.strides[b] * full[b]):
                return False
        return all((t[a] == 1) == (t[b] == 1) for t in temps)

    groups: list[list[int]] = []
    for axis in (a for a, size in enumerate(full) if size > 1):
        if groups and mergeable(groups[-1][-1], axis):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _merge(x: Array, groups: Sequence[list[int]]) -> Array:
    return as_strided(x, [prod(x.shape[a] for a in g) for g in groups], [x.strides[g[-1]] for g in groups])


def _part(index: Index, shape: Sequence[int]) -> tuple[Any, ...]:
    """What an operand of this shape shows of a block; the ellipsis keeps a 0-d operand an array."""
    return *(s if size > 1 else slice(None) for s, size in zip(index, shape, strict=True)), ...


def _slots(temps: Sequence[Temp], program: Sequence[Instr], pinned: set[int]) -> list[tuple[int, int]]:
    """Byte offset and size of each temporary: memory of one that was read for the last time is used again."""
    last = {ref[1]: n for n, instr in enumerate(program) for ref in (*instr[2], instr[3]) if ref[0] == "tmp"}
    slots: list[tuple[int, int]] = [(0, 0)] * len(temps)
    free: list[tuple[int, int]] = []
    end = 0
    placed: set[int] = set()
    for n, (_, _, operands, result) in enumerate(program):
        if result[0] == "tmp" and result[1] not in placed:
            temp, size = result[1], _temp_bytes(temps[result[1]])
            fitting = next((slot for slot in free if slot[1] >= size and temp not in pinned), None)
            if fitting is None:
                slots[temp], end = (end, size), end + size
            else:
                free.remove(fitting)
                slots[temp] = fitting
            placed.add(temp)
        for temp in {ref[1] for ref in (*operands, result) if ref[0] == "tmp"}:
            if last[temp] == n and temp not in pinned:
                free.append(slots[temp])
    return slots


def fused(
    outs: Sequence[Array],
    ins: Sequence[Array],
    program: Sequence[Instr],
    temps: Sequence[Temp],
    scratch: Array | None,
) -> list[Call]:
    """Run a program of elementwise kernels block by block.

    All outs have one shape; ins and temps broadcast to it. Instructions run in order within a block. A
    temporary that does not vary from block to block is computed once, before all others. An out may be the
    same view as an in that no instruction reads once the out is written.
    """
    full = outs[0].shape
    if not prod(full):
        return []
    shapes = [_extents(shape, full) for _, shape in temps]
    arrays = [x.reshape(_extents(x.shape, full)) for x in (*outs, *ins)]
    groups = _merged_axes(full, arrays, shapes)
    merged = [_merge(x, groups) for x in arrays]
    shape = tuple(prod(full[a] for a in g) for g in groups)
    extents = [tuple(prod(t[a] for a in g) for g in groups) for t in shapes]
    cuts = list(blocks(shape, BLOCK))
    varying = [any(c[d] != cuts[0][d] for c in cuts) for d in range(len(shape))]
    constant = {i for i, e in enumerate(extents) if not any(size > 1 and v for size, v in zip(e, varying, strict=True))}
    pinned = constant if len(cuts) > 1 else set()
    slots = _slots(temps, program, pinned)
    start = 0 if scratch is None else -scratch.ctypes.data % ALIGNMENT

    def operand(ref: Ref, index: Index) -> Array:
        kind, i = ref
        if kind != "tmp":
            x = merged[i if kind == "out" else len(outs) + i]
            view: Array = x[_part(index, x.shape)]
            return view
        size = tuple(s.stop - s.start if e > 1 else 1 for s, e in zip(index, extents[i], strict=True))
        return np.ndarray(size, temps[i][0], scratch, start + slots[i][0])

    once: list[Call] = []
    calls: list[Call] = []
    for number, index in enumerate(cuts):
        for kernel, attrs, operands, result in program:
            hoisted = result[0] == "tmp" and result[1] in pinned
            if hoisted and number:
                continue
            bound = kernel(operand(result, index), *(operand(ref, index) for ref in operands), **attrs)
            (once if hoisted else calls).extend(bound)
    return once + calls
