"""Products that are left to cuBLAS: large ones, of operands whose rows or columns lie in one piece.

Some take along what follows them, as cublasLt's epilogues do: a bias, relu, the gradient of a bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from graphnet.compiler.cuda.source import Gemm, Matrix, Row
from graphnet.compiler.schedule import Array, Epilogue, Kernel
from graphnet.compiler.sums import SUMS

LARGE = 1 << 28
"""Multiply-adds from which a product is left to the library: below, one kernel that also does the elementwise work
behind it saves more than the library's better inner loop. Not measured on a GPU yet, at any precision."""

ALIGNED = 16
"""Bytes at whose multiples the library wants a row to begin."""


def is_large(step: Kernel) -> bool:
    """Whether a step is a product that the library should compute, and can, but for its epilogue."""
    if step.op != "matmul" or any(a.terms for a in (*step.inputs, *step.outputs)):
        return False
    out, (left, right) = step.outputs[0], step.inputs[:2]
    if out.dtype not in ("float32", "float64") or out.size == 0 or len(left.shape) < 2 or len(right.shape) < 2:
        return False
    if out.size * left.shape[-1] < LARGE:
        return False
    return _layout(out, False) is not None and _layout(left, True) is not None and _layout(right, True) is not None


def gemm(step: Kernel) -> Gemm | None:
    """The product as a call of the library; None if it has no such epilogue. ``is_large`` holds for the step."""
    out, (left, right) = step.outputs[0], step.inputs[:2]
    batch = out.shape[:-2]
    found = _epilogue(step)
    if found is None or (found[0] and prod(batch) != 1):
        return None
    kind, row = found
    return Gemm(
        out.shape[-2],
        out.shape[-1],
        left.shape[-1],
        prod(batch),
        out.dtype,
        _matrix(left, batch),
        _matrix(right, batch),
        _matrix(out, batch),
        (step.position,),
        kind,
        Row(row.storage, row.offset * row.itemsize) if row is not None else None,
    )


def _epilogue(step: Kernel) -> tuple[str, Array | None] | None:
    """What the library does besides the product, and with which row; None if it cannot."""
    out, e = step.outputs[0], step.epilogue
    if e is None and SUMS in step.attrs:
        return ("bgrada", step.outputs[1]) if _is_row(step.outputs[1], out) else None
    if e is None:
        return "", None
    others = step.inputs[e.own :]
    if len(step.outputs) != 1 or len(e.products) != 1 or out.dtype != e.dtype:
        return None
    kind = _KINDS.get(tuple((i.op, len(i.operands)) for i in e.program))
    if kind is None or len(others) != kind.count("bias") or not _is_chain(e):
        return None
    if others and not (_is_row(others[0], out) and others[0].storage != out.storage):
        return None
    return kind, others[0] if others else None


_KINDS = {(("add", 2),): "bias", (("relu", 1),): "relu", (("add", 2), ("relu", 1)): "relu_bias"}


def _is_chain(e: Epilogue) -> bool:
    """Whether each instruction takes what the one before it gives, the first the product."""
    value = ("in", e.products[0])
    for instruction in e.program:
        if instruction.operands.count(value) != 1:
            return False
        value = instruction.result
    return value == ("out", 0)


def _is_row(array: Array, out: Array) -> bool:
    """Whether an array is one number for each column of ``out``, in one piece."""
    *lead, columns = array.shape
    repeats = all(n == 1 or s == 0 for n, s in zip(lead, array.strides[:-1], strict=True))
    whole = columns == out.shape[-1] and (columns == 1 or array.strides[-1] == 1)
    aligned = array.offset * array.itemsize % ALIGNED == 0
    return repeats and whole and aligned and array.dtype == out.dtype and not array.terms


def _matrix(array: Array, batch: tuple[int, ...]) -> Matrix:
    layout = _layout(array, True)
    assert layout is not None
    stride, transposed = layout
    step = _step(array, batch)
    return Matrix(array.storage, array.offset * array.itemsize, stride, transposed, step or 0)


def _layout(array: Array, either: bool) -> tuple[int, bool] | None:
    """Elements between rows (or columns: True) of matrices that lie so, evenly from one to the next; None if not."""
    rows, columns = array.shape[-2:]
    down, along = array.strides[-2:]
    if _step(array, array.shape[:-2]) is None:
        return None
    if (along == 1 or columns == 1) and (down >= max(columns, 1) or rows == 1):
        return max(down, columns, 1), False
    if either and (down == 1 or rows == 1) and (along >= max(rows, 1) or columns == 1):
        return max(along, rows, 1), True
    return None


def _step(array: Array, batch: Sequence[int]) -> int | None:
    """Elements from one matrix to the next if the batch axes are even, 0 if they repeat one matrix; None if not."""
    own = array.shape[:-2]
    strides = (0,) * (len(batch) - len(own)) + tuple(
        s if n != 1 else 0 for n, s in zip(own, array.strides[:-2], strict=True)
    )
    expected, step = 1, None
    for n, s in zip(reversed(batch), reversed(strides), strict=True):
        if n == 1:
            continue
        if step is None:
            step = s
        elif s != step * expected:
            return None
        expected *= n
    return step or 0
