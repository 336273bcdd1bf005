"""Matrix products: every layout, stacked and packed, and which layouts BLAS can read."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.numpy.linear import is_blasable

SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 4), (4, 1)),
    ((3, 0), (0, 5)),
    ((0, 4), (4, 5)),
    ((6, 3, 4), (4, 5)),
    ((2, 6, 3, 4), (4, 5)),
    ((6, 3, 4), (6, 4, 5)),
    ((6, 3, 4), (1, 4, 5)),
    ((3, 4), (6, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_matmul_agrees_with_numpy_in_every_layout(k, rng, shapes, dtype):
    """Plain, transposed and strided operands, into plain and strided results."""
    a, b = (rng.integers(-8, 9, s).astype(dtype) for s in shapes)
    expected = a @ b
    layouts = [lambda x: x, lambda x: x.swapaxes(-1, -2).copy().swapaxes(-1, -2), k.strided]
    for make_a in layouts:
        for make_b in layouts:
            for make_out in layouts:
                got = k.execute("matmul", make_out(np.empty_like(expected)), make_a(a), make_b(b))
                np.testing.assert_array_equal(got, expected)


def test_stacked_rows_against_one_matrix_are_one_product(k):
    """(B, M, K) @ (K, N) becomes (B * M, K) @ (K, N), where no copy is needed for it."""
    a, b, out = np.ones((6, 3, 4), "f4"), np.ones((4, 5), "f4"), np.empty((6, 3, 5), "f4")
    ((_, (left, _, _)),) = k.bind("matmul", out, a, b)
    assert left.shape == (18, 4)
    ((_, (left, _, _)),) = k.bind("matmul", out, k.strided(a), b)
    assert left.shape == (6, 3, 4)


def test_blasable_layouts_are_told_apart():
    """Rows or columns must be contiguous, and rows may not overlap."""
    x = np.zeros((8, 6), "f4")
    assert is_blasable(x)
    assert is_blasable(x.T)
    assert is_blasable(x[::2, :3])
    assert is_blasable(x[:, :1])
    assert not is_blasable(x[:, ::2])
    assert not is_blasable(x[:, ::-1])
    assert not is_blasable(np.broadcast_to(x[:1], (8, 6)))
    assert not is_blasable(np.lib.stride_tricks.sliding_window_view(np.zeros(20, "f4"), 4))


def test_products_allocate_nothing(k):
    """Transposed views go to BLAS as they are; the compiler copies what BLAS cannot read."""
    a, b, out = np.ones((300, 200), "f4"), np.ones((300, 100), "f4"), np.empty((200, 100), "f4")
    assert k.peak(k.bind("matmul", out, a.T, b)) < 4096
