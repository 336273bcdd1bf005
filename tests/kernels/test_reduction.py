"""Reductions, arguments of extrema and cumulative sums against NumPy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

REDUCTIONS = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions_over_any_axes(k, rng, op, dtype):
    """Every subset of axes, with and without keepdims, from and to strided arrays."""
    x = rng.integers(1, 4, (2, 3, 1, 4)).astype(dtype)
    for axes in (c for n in range(5) for c in combinations(range(4), n)):
        for keepdims in (False, True):
            expected = REDUCTIONS[op](x, axis=axes, keepdims=keepdims)
            attrs = {"axes": axes, "keepdims": keepdims}
            for source in (x, k.strided(x), x.transpose(3, 2, 1, 0).copy().T):
                got = k.execute(op, np.empty(expected.shape, dtype), source, **attrs)
                np.testing.assert_array_equal(got, expected)
            got = k.execute(op, k.strided(np.empty(expected.shape, dtype)), x, **attrs)
            np.testing.assert_array_equal(got, expected)


def test_sum_and_prod_of_nothing(k):
    """An empty axis sums to 0 and multiplies to 1."""
    x = np.empty((0, 3), "float32")
    np.testing.assert_array_equal(k.execute("sum", np.empty(3, "float32"), x, axes=(0,), keepdims=False), 0)
    np.testing.assert_array_equal(k.execute("prod", np.empty(3, "float32"), x, axes=(0,), keepdims=False), 1)


def test_sum_of_bools_counts(k):
    """A mask sums in the dtype of the result."""
    x = np.ones((300, 2), bool)
    for dtype in ("int32", "float32"):
        got = k.execute("sum", np.empty(2, dtype), x, axes=(0,), keepdims=False)
        np.testing.assert_array_equal(got, [300, 300])


def test_all_of_bools(k):
    """True only without a False."""
    x = np.array([[True, True], [True, False]])
    got = k.execute("all", np.empty(2, bool), x, axes=(1,), keepdims=False)
    np.testing.assert_array_equal(got, [True, False])


def test_extrema_of_nan_are_nan(k):
    """As for every maximum in graphnet."""
    x = np.array([[1, np.nan], [2, 3]], "float32")
    np.testing.assert_array_equal(k.execute("max", np.empty(2, "f4"), x, axes=(1,), keepdims=False), [np.nan, 3])


@pytest.mark.parametrize("out", ["int32", "int64"])
@pytest.mark.parametrize("op", ["argmax", "argmin"])
def test_argument_of_extremum_is_the_first(k, rng, op, out):
    """Ties go to the first index, along any axis, in any layout, over several blocks."""
    for shape in [(3, 4, 5), (1, 1), (7,), (300, 200), (2, 70_000)]:
        x = rng.integers(0, 3, shape).astype("float32")
        for axis in range(x.ndim):
            expected = getattr(np, op)(x, axis)
            for source in (x, k.strided(x)):
                got = k.execute(op, np.empty(expected.shape, out), source, axis=axis)
                np.testing.assert_array_equal(got, expected)
            strided_out = k.strided(np.empty(expected.shape, out))
            np.testing.assert_array_equal(k.execute(op, strided_out, x, axis=axis), expected)


def test_argmax_of_no_rows(k):
    """An empty batch has an empty answer."""
    assert k.execute("argmax", np.empty(0, "int32"), np.empty((0, 5), "f4"), axis=1).shape == (0,)


def test_argmax_puts_nan_first(k):
    """The first NaN is the maximum."""
    x = np.array([1, np.nan, 5, np.nan], "float64")
    assert k.execute("argmax", np.empty((), "int64"), x, axis=0) == 1


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cumsum_runs_either_way(k, rng, axis, reverse):
    """Reversed, element i holds the sum from i to the end."""
    x = rng.integers(0, 9, (3, 1, 4)).astype("float32")
    expected = np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)
    for out in (np.empty_like(x), k.strided(x)):
        got = k.execute("cumsum", out, k.strided(x), axis=axis, reverse=reverse)
        np.testing.assert_array_equal(got, expected)


def test_reductions_allocate_nothing(k, rng):
    """Not even where an argmax walks a strided array."""
    x = rng.random((1000, 500), "float32")
    for op in REDUCTIONS:
        for axes in ((0,), (1,), (0, 1)):
            out = np.empty(x.sum(axes).shape, "f4")
            assert k.peak(k.bind(op, out, x, axes=axes, keepdims=False)) < 4096
    for axis, n in ((0, 500), (1, 1000)):
        assert k.peak(k.bind("argmax", np.empty(n, "i4"), x, axis=axis)) < 4096
    for reverse in (False, True):
        assert k.peak(k.bind("cumsum", np.empty_like(x), x, axis=0, reverse=reverse)) < 4096
