"""Matrix products through BLAS.

`np.matmul` hands a matrix to BLAS only if one of its last two strides is the item size and the other is a
whole number of items and at least a row long. Any other layout makes NumPy copy the operand or run a slow
loop of its own: the compiler's lowering copies those into planned memory first.
"""

from __future__ import annotations

import numpy as np

from graphnet.kernels.numpy.call import Array, Call


def is_blasable(x: Array) -> bool:
    """Whether BLAS can read the last two axes of x, plain or transposed, where they lie."""
    (rows, columns), (down, across), item = x.shape[-2:], x.strides[-2:], x.itemsize

    def rowwise(count: int, length: int, far: int, near: int) -> bool:
        return (near == item or length == 1) and (count == 1 or (far % item == 0 and far >= max(length, 1) * item))

    return rowwise(rows, columns, down, across) or rowwise(columns, rows, across, down)


def without_copy(x: Array, shape: tuple[int, ...]) -> Array | None:
    """A non-empty x in another shape, or None where only a copy could give it."""
    view = x.reshape(shape)
    return view if np.may_share_memory(view, x) else None


def _folded(out: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Stacked rows against one matrix are one tall product, where views allow it."""
    if b.ndim > 2 and b.shape[:-2] == (1,) * (b.ndim - 2):
        b = b.reshape(b.shape[-2:])
    if b.ndim > 2 or a.ndim == 2 or out.shape[:-1] != a.shape[:-1] or not a.size:
        return out, a, b
    rows = a.size // a.shape[-1]
    tall_a, tall_out = without_copy(a, (rows, a.shape[-1])), without_copy(out, (rows, out.shape[-1]))
    return (out, a, b) if tall_a is None or tall_out is None else (tall_out, tall_a, b)


def matmul(out: Array, a: Array, b: Array) -> list[Call]:
    """out (..., m, n) = a (..., m, k) @ b (..., k, n); leading axes broadcast, all of one dtype.

    Views whose last two axes are plain or transposed go to BLAS as they are.
    """
    out, a, b = _folded(out, a, b)
    return [(np.matmul, (a, b, out))]
