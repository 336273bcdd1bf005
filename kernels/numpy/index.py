"""Gathering, scattering and placing elements by position."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from graphnet.kernels.numpy.blocks import blocks
from graphnet.kernels.numpy.call import Array, ArrayType, Attrs, Call, assign, run, scalar
from graphnet.kernels.numpy.linear import is_blasable, without_copy
from graphnet.kernels.numpy.scratch import Spec, carve, carve_bytes

_BLOCK = 32768
_ONE_HOT = 1 << 18
"""Elements of a block of one-hot rows."""

_ROW_AT_ONCE = 48
"""Elements of a row from which one ufunc call a row is faster than `np.add.at`."""


def check_range(idx: Array, rows: int, wrap: bool = True) -> None:
    """Raise ValueError naming an offender unless every index is in [0, rows), or with wrap in [-rows, rows)."""
    if not idx.size:
        return
    low, high = int(idx.min()), int(idx.max())
    if low < (-rows if wrap else 0) or high >= rows:
        bad = high if high >= rows else low
        raise ValueError(f"index {bad} is out of range for {rows} rows: check the ids or labels given")


def bounded(out: Array, idx: Array, size: int, wrap: bool = True) -> list[Call]:
    """out = idx counted from the start of an axis of ``size``; raises ValueError at run for others than its own."""
    calls: list[Call] = [(check_range, (idx, size, wrap))]
    return [*calls, (np.remainder, (idx, scalar(max(size, 1), idx.dtype), out))] if out.size else calls


def _take_specs(x: ArrayType, idx: ArrayType) -> list[Spec]:
    row = prod(x.shape[1:])
    buffered = min(prod(idx.shape), max(1, _BLOCK // max(row, 1)))
    return [(idx.shape, np.intp), ((buffered, *x.shape[1:]), x.dtype)]


def take_scratch(in_types: Sequence[ArrayType], attrs: Attrs) -> int:
    """Bytes for the indices as NumPy wants them and a block of rows."""
    x, idx = in_types
    return carve_bytes(*_take_specs(x, idx))


def take(out: Array, x: Array, idx: Array, scratch: Array) -> list[Call]:
    """out[i] = x[idx[i]]: out.shape = idx.shape + x.shape[1:]; idx any integers, negative from the end.

    Raises ValueError at run for an index outside [-n, n). NumPy copies an x that is not
    contiguous as a whole: the compiler's lowering does that into planned memory first.
    """
    positions, buffer = carve(scratch, *_take_specs(x, idx))
    calls: list[Call] = [(check_range, (idx, x.shape[0]))]
    if not out.size:
        return calls
    if idx.ndim == 0:
        out, idx, positions = out[np.newaxis], idx.reshape(1), positions.reshape(1)
    if idx.dtype != np.intp or not idx.flags.c_contiguous:
        calls.append((np.copyto, (positions, idx, "unsafe")))
        idx = positions
    if out.flags.c_contiguous:
        # Mode "wrap" counts negative indices from the end; mode "raise" would fill a copy of out first.
        return [*calls, (np.take, (x, idx, 0, out, "wrap"))]
    for index in blocks(idx.shape, len(buffer)):
        into, chosen = out[index], idx[index]
        rows = buffer[: chosen.size]
        calls.append((np.take, (x, chosen.reshape(-1), 0, rows, "wrap")))
        calls.append((np.copyto, (into, rows.reshape(into.shape))))
    return calls


def _one_hot_pays(g: ArrayType, idx: ArrayType, rows: int | None) -> bool:
    """Whether a one-hot product beats adding row by row: nanoseconds an id, measured with AVX-512."""
    width = prod(g.shape[len(idx.shape) :])
    if rows is None or np.dtype(g.dtype).kind != "f" or not prod(g.shape) or len(idx.shape) == 0:
        return False
    product = rows * (0.3 + 0.014 * width)
    return product < min(7 * width, 400 + 0.3 * width)


def _one_hot_specs(g: ArrayType, idx: ArrayType, rows: int | None) -> list[Spec]:
    specs: list[Spec] = [(idx.shape, np.intp)]
    if rows is None or not _one_hot_pays(g, idx, rows):
        return specs
    result = rows, prod(g.shape[len(idx.shape) :])
    ids = min(prod(idx.shape), max(1, _ONE_HOT // rows))
    hot = (rows * ids,)
    return [*specs, (hot, np.bool_), (hot, g.dtype), (result, g.dtype), (result, g.dtype), (result, np.bool_)]


def scatter_add_scratch(in_types: Sequence[ArrayType], attrs: Attrs) -> int:
    """Bytes for the indices as NumPy wants them and, where it pays, one-hot rows and their product."""
    g, idx = in_types
    return carve_bytes(*_one_hot_specs(g, idx, attrs.get("rows")))


def scatter_add(out: Array, g: Array, idx: Array, scratch: Array, rows: int | None = None) -> list[Call]:
    """Adjoint of `take`: out (rows, ...) is zero, then out[idx[i]] += g[i] for i in row-major order.

    Raises ValueError at run for an index outside [-rows, rows). With few rows a one-hot matrix times g adds
    through BLAS: for 12,800 ids of 92 rows that took 1.3 ms at width 64 and 10 ms at width 1024, one
    ufunc call an id 5 and 8.5 ms, `np.add.at` 5.7 and 85 ms. The cheapest is chosen by shape.
    """
    positions, *spare = carve(scratch, *_one_hot_specs(g, idx, rows))
    calls: list[Call] = [(check_range, (idx, out.shape[0]))]
    if not g.size:
        return [*calls, (out.fill, (0,))]
    calls.append((np.copyto, (positions, idx, "unsafe")))
    matrix = without_copy(g, (idx.size, g.size // idx.size)) if spare else None
    if matrix is not None and is_blasable(matrix):
        return calls + _one_hot(out, g, matrix, positions, spare)
    return [*calls, (out.fill, (0,)), *_scatter(out, g, positions)]


def _one_hot(out: Array, g: Array, matrix: Array, positions: Array, spare: list[Array]) -> list[Call]:
    match, hot, total, share, finite = spare
    rows, flat = len(total), positions.reshape(-1)
    numbers = np.arange(rows).reshape(-1, 1)
    step = match.size // rows
    calls: list[Call] = [(np.remainder, (flat, scalar(rows, np.intp), flat))]
    for start in range(0, flat.size, step):
        ids = flat[start : start + step]
        equal, block = (a[: rows * ids.size].reshape(rows, ids.size) for a in (match, hot))
        calls += [(np.equal, (numbers, ids, equal)), (np.copyto, (block, equal))]
        calls.append((np.matmul, (block, matrix[start : start + step], share if start else total)))
        if start:
            calls.append((np.add, (total, share, total)))
    by_row = [(out.fill, (0,)), *_scatter(out, g, positions)]
    return [*calls, (np.copyto, (out, total.reshape(out.shape))), (_mend, (total, finite, by_row))]


def _mend(total: Array, finite: Array, by_row: list[Call]) -> None:
    """Zero times infinity is NaN: a g that is not finite would spread from its row to all others."""
    if not np.isfinite(total, finite).all():
        run(by_row)


def _scatter(out: Array, g: Array, positions: Array) -> list[Call]:
    if positions.ndim == 0:
        return _scatter(out, g[np.newaxis], positions.reshape(1))
    if positions.ndim > 1:
        flat = without_copy(g, (positions.size, *out.shape[1:]))
        if flat is None:
            return [call for part, ids in zip(g, positions, strict=True) for call in _scatter(out, part, ids)]
        g, positions = flat, positions.reshape(-1)
    if prod(out.shape[1:]) < _ROW_AT_ONCE:
        return [(np.add.at, (out, positions, g))]
    return [(_add_rows, (out, g, positions.data))]


def _add_rows(out: Array, g: Array, positions: memoryview) -> None:
    add = np.add
    for i, row in zip(positions, g, strict=True):
        into = out[i]
        add(into, row, into)


def place(out: Array, x: Array, starts: Sequence[int], steps: Sequence[int], shape: Any = None) -> list[Call]:
    """Adjoint of a strided slice: out is zero but for out[starts + i * steps] = x[i], for each axis.

    Steps may be negative; starts are the first, non-negative positions; `shape` repeats out's.
    """
    index: tuple[Any, ...] = tuple(
        slice(start, start + step * size if step > 0 or start + step * size >= 0 else None, step)
        for start, step, size in zip(starts, steps, x.shape, strict=True)
    )
    index += (...,)  # A 0-d result would otherwise come out as a number.
    calls: list[Call] = [] if x.shape == out.shape else [(out.fill, (0,))]
    return [*calls, assign(out[index], x)] if x.size else [(out.fill, (0,))]


def concat(out: Array, *xs: Array, axis: int) -> list[Call]:
    """Inputs one after another along axis; one that is that part of out already costs next to nothing."""
    calls: list[Call] = []
    start = 0
    for x in xs:
        stop = start + x.shape[axis]
        into = np.moveaxis(np.moveaxis(out, axis, 0)[start:stop], 0, axis)
        if x.size:
            calls.append(assign(into, x))
        start = stop
    return calls


def copy(out: Array, x: Array) -> list[Call]:
    """out = x, broadcast and materialised."""
    return [assign(out, x)]


def argsort(out: Array, x: Array, axis: int, descending: bool = False) -> list[Call]:
    """Indices that sort x along axis, stable in both directions, NaN last; out is int32 or int64.

    NumPy sorts into an array of its own: this kernel allocates as much as x and its indices.
    """
    return [(_argsort, (out, x, axis, descending))]


def _argsort(out: Array, x: Array, axis: int, descending: bool) -> None:
    if descending:
        x = np.negative(x) if x.dtype.kind == "f" else np.invert(x)
    np.copyto(out, np.argsort(x, axis, "stable"), "unsafe")


def iota(out: Array, axis: int, shape: Any = None, dtype: Any = None) -> list[Call]:
    """out = its own index along axis; the vector of indices is made at bind."""
    positions = np.arange(out.shape[axis]).astype(out.dtype)
    return [(np.copyto, (out, positions.reshape(-1, *(1,) * (out.ndim - 1 - axis % out.ndim))))]


def fill(out: Array, value: Any) -> list[Call]:
    """out = value everywhere."""
    return [(out.fill, (value,))]
