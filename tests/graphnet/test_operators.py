"""Operators and methods of traced tensors against NumPy's on arrays."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import graphnet as gn

DRAW = np.random.default_rng(0)
X = DRAW.uniform(0.5, 3, size=(2, 3))
Y = DRAW.uniform(0.5, 3, size=(2, 3))
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
COMPARE = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
LOGICAL = [operator.and_, operator.or_, operator.xor]


def named(functions):
    return pytest.mark.parametrize("f", functions, ids=lambda f: f.__name__)


def agree(f, *args):
    """gn.jit(f) gives what f gives on arrays, dtype included."""
    found, expected = gn.jit(f)(*args), f(*args)
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@named(BINARY + COMPARE)
@pytest.mark.parametrize("other", [Y, Y[0], Y[:, :1], 2.0, 2, np.float64(2)], ids=["same", "row", "column", *"fis"])
def test_binary_operators_both_ways_round(f, other):
    """Tensor with tensor, array or number, on either side, with broadcasting."""
    agree(f, X, Y)
    agree(lambda x: f(x, other), X)
    agree(lambda x: f(other, x), X)


@named(COMPARE)
def test_comparisons_of_integers(f):
    """They give booleans."""
    agree(f, np.array([1, 2, 3]), np.array([3, 2, 1]))


@named(LOGICAL)
def test_logical_operators_on_booleans(f):
    """and, or, exclusive or, on either side; ~ negates."""
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    agree(f, a, b)
    agree(lambda x: f(x, b), a)
    agree(lambda x: f(b, x), a)
    agree(lambda x: f(~x, x > 0), a)


def test_unary_operators():
    """-x, +x, abs(x) and round(x)."""
    for f in (operator.neg, operator.pos, abs, lambda x: np.round(x) if isinstance(x, np.ndarray) else round(x)):
        agree(f, X - 2)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 4)), ((3,), (3,)), ((5, 2, 3), (3, 4)), ((5, 1, 2, 3), (6, 3, 4))])
def test_matrix_products_both_ways_round(shapes):
    """@ of tensors and arrays, vectors and batches."""
    a, b = (DRAW.normal(size=s) for s in shapes)
    for f in (lambda x: x @ b, lambda x: x @ gn.add(b, 0)):
        np.testing.assert_allclose(gn.jit(f)(a), a @ b, rtol=1e-13)
    np.testing.assert_allclose(gn.jit(lambda y: a @ y)(b), a @ b, rtol=1e-13)


def test_augmented_assignment_rebinds():
    """x += 1 makes a new tensor; the old one keeps its value."""

    def f(x):
        old = x
        x += 1
        x *= 2
        return old, x

    old, new = gn.jit(f)(X)
    np.testing.assert_array_equal(old, X)
    np.testing.assert_array_equal(new, (X + 1) * 2)


@pytest.mark.parametrize(
    "key",
    [
        *(0, -1, slice(1), slice(None, None, -1), slice(0, 9), None, Ellipsis),
        *((0, 1), (slice(None), 1), (Ellipsis, 0), (None, 0), (slice(None), slice(None, None, 2)), (0, None, -1)),
        *([1, 0, 1], np.array([[0, 1], [1, 0]]), (slice(None), [2, 0]), ([0, 1], [2, 0]), np.array([True, False])),
    ],
    ids=str,
)
def test_indexing_as_numpy_does(key):
    """Integers, slices, None, Ellipsis, integer arrays, lists and constant masks."""
    agree(lambda x: x[key], X)


def test_length_iteration_and_unpacking():
    """Over the first axis, as arrays do."""

    def f(x):
        first, second = x
        assert len(x) == 2
        return first - second, [row.sum() for row in x], *reversed(list(second))

    assert len(gn.jit(f)(X)) == 5
    np.testing.assert_allclose(gn.jit(f)(X)[0], X[0] - X[1])
    np.testing.assert_allclose(gn.jit(f)(X)[1], X.sum(1))
    np.testing.assert_allclose(gn.jit(f)(X)[2], X[1, 2])


METHODS = {
    "sum": lambda x: x.sum(axis=0),
    "mean": lambda x: x.mean(),
    "max": lambda x: x.max(1),
    "min": lambda x: x.min(axis=1, keepdims=True),
    "prod": lambda x: x.prod(axis=-1),
    "var": lambda x: x.var(axis=0),
    "std": lambda x: x.std(),
    "reshape": lambda x: x.reshape(3, 2),
    "reshape_tuple": lambda x: x.reshape((3, -1)),
    "transpose": lambda x: x.transpose(),
    "transpose_axes": lambda x: x.transpose(1, 0),
    "T": lambda x: x.T,
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "squeeze": lambda x: x[:1].squeeze(0),
    "ravel": lambda x: x.ravel(),
    "repeat": lambda x: x.repeat(2, axis=1),
    "take": lambda x: x.take(np.array([1, 0]), axis=0),
    "clip": lambda x: x.clip(1, 2),
    "cumsum": lambda x: x.cumsum(axis=1),
    "any": lambda x: (x > 1).any(axis=0),
    "all": lambda x: (x > 1).all(),
    "astype": lambda x: x.astype("float32"),
    "dot": lambda x: x.dot(Y.T),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_those_of_arrays(name):
    """The usual ones, with NumPy's arguments."""
    found, expected = gn.jit(METHODS[name])(X), METHODS[name](X)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_positions_are_int32():
    """argmax, argmin and argsort; NumPy's are int64."""
    for method in ("argmax", "argmin", "argsort"):
        found = gn.jit(lambda x, method=method: getattr(x, method)(axis=1))(X)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, getattr(X, method)(axis=1))


def test_what_a_tensor_says_of_itself():
    """shape, ndim, size, dtype and a representation with the line; hasattr is False for what there is not."""
    seen = []

    def f(x):
        y = x * 2
        seen.append((y.shape, y.ndim, y.size, y.dtype, repr(y), f"{y}", hasattr(y, "numpy")))
        return y

    gn.jit(f)(X)
    shape, ndim, size, dtype, text, formatted, has = seen[0]
    assert (shape, ndim, size, dtype, has) == ((2, 3), 2, 6, "float64", False)
    assert text == formatted
    assert text.startswith("Tensor(float64(2, 3), mul at ")
    assert "test_operators.py:" in text


def test_tensors_are_hashable_by_identity():
    """They can be dictionary keys although == compares elements."""
    counts = {}
    gn.jit(lambda x: counts.setdefault(x, x + 1))(X)
    assert len(counts) == 1


def test_python_numbers_take_the_type_of_the_tensor():
    """0.1 beside float32 is float32; beside float64 it is not rounded first."""
    assert gn.jit(lambda x: x * 0.1)(np.float32(1)).dtype == np.float32
    assert gn.jit(lambda x: x * 0.1)(1.0) == 0.1
    assert gn.jit(lambda x: x + 1)(np.array([1], np.uint8)).dtype == np.uint8
    assert gn.jit(lambda x: x / 2)(np.array([1, 2])).dtype == np.float32
