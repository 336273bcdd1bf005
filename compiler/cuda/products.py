"""Products that are left to cuBLAS: large ones, of operands whose rows or columns lie in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from graphnet.compiler.cuda.source import Gemm, Matrix
from graphnet.compiler.schedule import Array, Kernel
from graphnet.compiler.text.memory import Memory

LARGE = {"float32": 1 << 28, "tf32": 1 << 22, "bf16": 1 << 22}
"""Multiply-adds from which a product is left to the library, by precision: below, one kernel that also does the
elementwise work behind it saves more than the library's better inner loop. Not measured on a GPU yet."""


def is_large(step: Kernel, precision: str) -> bool:
    """Whether a step is a product that the library should compute, and can."""
    if step.op != "matmul" or step.epilogue is not None or any(a.terms for a in (*step.inputs, *step.outputs)):
        return False
    out, (left, right) = step.outputs[0], step.inputs
    if out.dtype not in ("float32", "float64") or out.size == 0 or len(left.shape) < 2 or len(right.shape) < 2:
        return False
    if out.size * left.shape[-1] < LARGE[precision]:
        return False
    return _layout(out, False) is not None and _layout(left, True) is not None and _layout(right, True) is not None


def gemm(step: Kernel, memory: Memory) -> Gemm:
    """The product as a call of the library; ``is_large`` holds for the step."""
    out, (left, right) = step.outputs[0], step.inputs
    batch = prod(out.shape[:-2])
    return Gemm(
        out.shape[-2],
        out.shape[-1],
        left.shape[-1],
        batch,
        out.dtype,
        _matrix(left, out.shape[:-2], memory),
        _matrix(right, out.shape[:-2], memory),
        _matrix(out, out.shape[:-2], memory),
        (step.position,),
    )


def _matrix(array: Array, batch: tuple[int, ...], memory: Memory) -> Matrix:
    layout = _layout(array, True)
    assert layout is not None
    stride, transposed = layout
    storage = memory.storage(array)
    step = _step(array, batch)
    return Matrix(storage.id, array.offset * array.itemsize, stride, transposed, step or 0)


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
