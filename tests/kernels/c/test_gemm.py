"""Matrix products in C: every layout, edge and kind, sharing among threads, epilogues, packing apart."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.c import gemm, tile
from graphnet.kernels.c.view import Job

SHAPES = [
    ((1, 1), (1, 1)),
    ((3, 4), (4, 5)),
    ((5, 1), (1, 7)),
    ((1, 40), (40, 1)),
    ((1, 37), (37, 29)),
    ((31, 37), (37, 1)),
    ((506, 13), (13, 1)),
    ((13, 506), (506, 1)),
    ((17, 33), (33, 10)),
    ((20, 33), (33, 70)),
    ((33, 65), (65, 64)),
    ((50, 31), (31, 113)),
]


def plain(x):
    return x


def turned(x):
    """The same matrix with its columns in one piece."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def padded(x):
    """The same matrix in a larger one: no row follows the one before."""
    room = np.full((*x.shape[:-2], x.shape[-2] + 2, x.shape[-1] + 3), np.nan, x.dtype)
    room[..., 1:-1, 2:-1] = x
    return room[..., 1:-1, 2:-1]


def spread(x):
    """The same matrix with gaps between all elements."""
    room = np.full((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), np.nan, x.dtype)
    room[..., ::2, 1::3] = x
    return room[..., ::2, 1::3]


def reversed_(x):
    """The same matrix, stored backwards."""
    return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]


LAYOUTS = [plain, turned, padded, spread, reversed_]


def random(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_product(out, left, right, expected=None):
    """Within the bound for one chain of k multiply-adds, from float64."""
    exact = left.astype("f8") @ right.astype("f8") if expected is None else expected
    bound = np.abs(left.astype("f8")) @ np.abs(right.astype("f8"))
    eps = np.finfo(out.dtype).eps * max(left.shape[-1], 1) * (1 if out.dtype == np.float32 else 2)
    assert (np.abs(out - exact) <= eps * bound + 1e-300).all()


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_products_of_every_layout_agree_with_float64(run_c, shapes):
    """Plain, transposed, padded, spread and backward operands and results."""
    for number, make in enumerate(LAYOUTS):
        left, right = (f(random(s)) for f, s in zip((make, LAYOUTS[number - 2]), shapes, strict=True))
        out = LAYOUTS[number - 1](np.full((left.shape[0], right.shape[1]), np.nan, "f4"))
        run_c(gemm.matmul, [out], [left, right], scratch_size=gemm.matmul_scratch)
        assert_product(out, left, right)
