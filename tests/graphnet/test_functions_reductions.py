"""Reductions against NumPy and SciPy in float64: axes, keepdims, empty arrays, infinities, dtypes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

import graphnet as gn

X = np.random.default_rng(0).normal(size=(3, 4, 5))
SAME = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
    "var": np.var,
    "std": np.std,
    "any": np.any,
    "all": np.all,
    "count_nonzero": np.count_nonzero,
    "logsumexp": scipy.special.logsumexp,
    "norm": lambda x, axis=None, keepdims=False: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (-1, 0), (0, 1, 2)])
def test_reductions_agree_with_numpy(name, axis, keepdims):
    """Over every kind of axis argument."""
    found = gn.jit(lambda x: getattr(gn, name)(x, axis=axis, keepdims=keepdims))(X)
    expected = SAME[name](X, axis=axis, keepdims=keepdims)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("x", [np.float64(1.5), np.ones((1, 1))], ids=["scalar", "size1"])
def test_reductions_of_one_element(name, x):
    """A scalar reduces to itself."""
    np.testing.assert_allclose(gn.jit(getattr(gn, name))(x), SAME[name](x))


@pytest.mark.parametrize(("name", "value"), [("sum", 0), ("prod", 1), ("any", False), ("all", True)])
def test_reductions_of_nothing(name, value):
    """Sums are 0, products 1, any False, all True."""
    np.testing.assert_array_equal(gn.jit(lambda x: getattr(gn, name)(x, axis=0))(np.zeros((0, 2))), [value] * 2)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin", "logsumexp"])
def test_extremes_of_nothing_are_refused(name):
    """There is no largest of no elements."""
    with pytest.raises(gn.ShapeError, match="no elements"):
        gn.jit(lambda x: getattr(gn, name)(x, axis=0))(np.zeros((0, 2)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 11])
def test_prod_of_any_length(size):
    """Halving works for odd lengths, and zeros are factors like others."""
    x = np.arange(1.0, size + 1)
    np.testing.assert_allclose(gn.jit(gn.prod)(x), np.prod(x))
    np.testing.assert_allclose(gn.jit(gn.prod)(x - 1), 0)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_positions_agree_with_numpy(name, axis, keepdims):
    """The first of equal elements wins; the result is int32."""
    x = np.array([[1.0, 3.0, 3.0], [1.0, 0.0, 0.0]])
    found = gn.jit(lambda x: getattr(gn, name)(x, axis=axis, keepdims=keepdims))(x)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, getattr(np, name)(x, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("name", ["var", "std"])
def test_ddof_reduces_the_divisor(name):
    """ddof=1 gives the sample variance."""
    found = gn.jit(lambda x: getattr(gn, name)(x, axis=1, ddof=1))(X)
    np.testing.assert_allclose(found, getattr(np, name)(X, axis=1, ddof=1))


@pytest.mark.parametrize("axis", [-1, 0, 1, (1, 2), None])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_agrees_with_scipy(name, axis):
    """Along one axis, several or all."""
    found = gn.jit(lambda x: getattr(gn, name)(x, axis=axis))(X * 10)
    np.testing.assert_allclose(found, getattr(scipy.special, name)(X * 10, axis=axis), rtol=1e-12, atol=1e-13)


def test_softmax_does_not_overflow_and_masks():
    """Large logits are shifted; -inf has probability 0."""
    x = np.array([1e4, 1e4, -np.inf], np.float32)
    np.testing.assert_allclose(gn.jit(gn.softmax)(x), [0.5, 0.5, 0])
    np.testing.assert_allclose(gn.jit(gn.log_softmax)(x), [-np.log(2), -np.log(2), -np.inf], rtol=1e-6)


@pytest.mark.parametrize("x", [[-np.inf, -np.inf], [np.inf, 1.0], [-np.inf, 2.0], [1e4, 1e4], [-1e4, -1e4]])
def test_logsumexp_of_extremes(x):
    """Infinities and large numbers give what SciPy gives, never NaN."""
    with np.errstate(all="ignore"):
        expected = scipy.special.logsumexp(x)
    np.testing.assert_allclose(gn.jit(gn.logsumexp)(np.array(x)), expected)


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_cumsum_agrees_with_numpy(axis):
    """None runs over the flattened array; reverse runs from the end."""
    np.testing.assert_allclose(gn.jit(lambda x: gn.cumsum(x, axis=axis))(X), np.cumsum(X, axis=axis))
    if axis is not None:
        found = gn.jit(lambda x: gn.cumsum(x, axis=axis, reverse=True))(X)
        np.testing.assert_allclose(found, np.flip(np.cumsum(np.flip(X, axis), axis), axis))


def test_dtypes_of_integer_reductions():
    """Sums of bool count in int32, int32 stays, means are float32."""
    mask, ints = np.array([True, False, True]), np.array([1, 2, 4], np.int32)
    for function, x, dtype, value in [
        (gn.sum, mask, np.int32, 2),
        (gn.sum, ints, np.int32, 7),
        (gn.prod, mask, np.int32, 0),
        (gn.prod, ints, np.int32, 8),
        (gn.mean, mask, np.float32, 2 / 3),
        (gn.mean, ints, np.float32, 7 / 3),
        (gn.max, ints, np.int32, 4),
        (gn.var, ints, np.float32, np.var(ints)),
    ]:
        found = gn.jit(function)(x)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, value, rtol=1e-6)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (2, "sum: axis 2 does not exist: the value has 2 axes"),
        ((0, 0), "names an axis twice"),
        (1.5, "axis must be an integer, got 1.5"),
    ],
)
def test_axes_that_do_not_exist_are_refused(axis, message):
    """The error names the axis."""
    with pytest.raises(gn.ShapeError, match=message):
        gn.jit(lambda x: gn.sum(x, axis=axis))(np.ones((2, 2)))


@pytest.mark.parametrize("order", [None, 1, 2, 3, 2.5, 0, np.inf, -np.inf])
def test_norm_agrees_with_numpy(order):
    """Vector norms of any order."""
    found = gn.jit(lambda x: gn.norm(x, order, axis=1))(X)
    np.testing.assert_allclose(found, np.linalg.norm(X, order, axis=1))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: gn.sum(x, 0, np.float32), "sum: keepdims must be True or False"),
        (lambda x: gn.argmax(x, 0, 1), "argmax: keepdims must be True or False, got 1"),
        (lambda x: gn.cumsum(x, 0, "float32"), "cumsum: reverse must be True or False"),
        (lambda x: gn.sort(x, 0, "stable"), "sort: descending must be True or False"),
        (lambda x: gn.var(x, 0, np.float32), "var: ddof must be an integer"),
        (lambda x: gn.norm(x, 1), "norm: ord 1 is a norm of vectors"),
    ],
)
def test_arguments_in_numpys_places_are_refused(function, message):
    """NumPy has dtype, out or kind where these have flags: a slip is an error, not another result."""
    with pytest.raises(gn.TraceError, match=message):
        gn.jit(function)(X)
