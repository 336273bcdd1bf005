"""Functions that move elements or make tensors of shapes, against NumPy, with their errors."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn

X = np.arange(24.0).reshape(2, 3, 4)
MATRIX = np.arange(12.0).reshape(3, 4)


def check(function, expected, *arrays):
    """The traced function of the arrays gives exactly this."""
    found = gn.jit(function)(*arrays)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(6, 4), (-1,), (4, -1, 2), 24, (2, 3, 4, 1), (-1, 12)])
def test_reshape(shape):
    """As NumPy, one size may be -1."""
    check(lambda x: gn.reshape(x, shape), X.reshape(shape), X)


def test_reshape_with_separate_sizes_and_to_a_scalar():
    """reshape(x, 4, -1) and reshape(x, ()) work."""
    check(lambda x: gn.reshape(x, 4, -1), X.reshape(4, -1), X)
    check(lambda x: gn.reshape(x, ()), np.array(5.0), np.array([5.0]))
    check(lambda x: gn.reshape(x, (0, 7)), np.zeros((0, 7)), np.zeros((3, 0)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 5), "24 elements, not 25"),
        ((-1, 5), "24 elements are not a multiple of 5"),
        ((-1, -1), "may hold one -1"),
        (("a",), "shape must be an integer"),
    ],
)
def test_reshape_errors(shape, message):
    """The message has both element counts."""
    with pytest.raises(gn.ShapeError, match=f"test_functions_shaping.py:.*: reshape: .*{message}"):
        gn.jit(lambda x: gn.reshape(x, shape))(X)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: gn.flatten(x), X.reshape(2, 12)),
        (lambda x: gn.flatten(x, start=0), X.reshape(24)),
        (lambda x: gn.flatten(x, 2), X),
        (lambda x: gn.ravel(x), X.ravel()),
        (lambda x: gn.transpose(x), X.T),
        (lambda x: gn.transpose(x, (1, 0, 2)), X.transpose(1, 0, 2)),
        (lambda x: gn.transpose(x, (-1, 0, 1)), X.transpose(-1, 0, 1)),
        (lambda x: gn.swapaxes(x, 0, -1), X.swapaxes(0, -1)),
        (lambda x: gn.moveaxis(x, 0, -1), np.moveaxis(X, 0, -1)),
        (lambda x: gn.moveaxis(x, (0, 1), (2, 0)), np.moveaxis(X, (0, 1), (2, 0))),
        (lambda x: gn.expand_dims(x, 1), np.expand_dims(X, 1)),
        (lambda x: gn.expand_dims(x, (0, -1)), np.expand_dims(X, (0, -1))),
        (lambda x: gn.squeeze(gn.expand_dims(x, (0, 2))), X),
        (lambda x: gn.squeeze(gn.expand_dims(x, 0), 0), X),
        (lambda x: gn.broadcast_to(x, (5, 2, 3, 4)), np.broadcast_to(X, (5, 2, 3, 4))),
        (lambda x: gn.flip(x), np.flip(X)),
        (lambda x: gn.flip(x, 1), np.flip(X, 1)),
        (lambda x: gn.flip(x, (0, -1)), np.flip(X, (0, -1))),
        (lambda x: gn.tile(x, 2), np.tile(X, 2)),
        (lambda x: gn.tile(x, (2, 1, 3)), np.tile(X, (2, 1, 3))),
        (lambda x: gn.tile(x, (2, 1, 1, 1)), np.tile(X, (2, 1, 1, 1))),
        (lambda x: gn.repeat(x, 2), np.repeat(X, 2)),
        (lambda x: gn.repeat(x, 3, axis=1), np.repeat(X, 3, axis=1)),
        (lambda x: gn.repeat(x, (2, 0, 1), axis=1), np.repeat(X, (2, 0, 1), axis=1)),
        (lambda x: gn.roll(x, 5), np.roll(X, 5)),
        (lambda x: gn.roll(x, -1, axis=2), np.roll(X, -1, axis=2)),
        (lambda x: gn.roll(x, (1, 2), axis=(0, 1)), np.roll(X, (1, 2), axis=(0, 1))),
        (lambda x: gn.roll(x, 7, axis=1), np.roll(X, 7, axis=1)),
        (lambda x: gn.tril(x), np.tril(X)),
        (lambda x: gn.tril(x, -1), np.tril(X, -1)),
        (lambda x: gn.triu(x, 1), np.triu(X, 1)),
        (lambda x: gn.concat([x, x + 1]), np.concatenate([X, X + 1])),
        (lambda x: gn.concat([x, x[:, :1]], axis=-2), np.concatenate([X, X[:, :1]], axis=-2)),
        (lambda x: gn.concat((x, x), axis=None), np.concatenate((X, X), axis=None)),
        (lambda x: gn.concatenate([x, np.ones((1, 3, 4))]), np.concatenate([X, np.ones((1, 3, 4))])),
        (lambda x: gn.stack([x, -x]), np.stack([X, -X])),
        (lambda x: gn.stack([x, x], axis=-1), np.stack([X, X], axis=-1)),
        (lambda x: gn.stack(x, axis=2), np.stack(X, axis=2)),
    ],
)
def test_shaping_agrees_with_numpy(function, expected):
    """Every function on one array of three axes."""
    check(function, expected, X)


@pytest.mark.parametrize(("cut", "axis"), [(3, 1), (2, -1), ([1, 3], 2), ([2], 1), ([0, 9, 2], 2), ([-1], 2)])
def test_split_agrees_with_numpy(cut, axis):
    """Equal parts or cuts at indices; parts may be empty."""
    found = gn.jit(lambda x: gn.split(x, cut, axis))(X)
    expected = np.split(X, cut, axis)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("widths", [1, (2, 0), ((0, 1), (3, 2)), ((7, 9), (0, 0))])
def test_pad_agrees_with_numpy(mode, widths):
    """Every mode, also borders wider than the array."""
    check(lambda x: gn.pad(x, widths, mode), np.pad(MATRIX, widths, mode), MATRIX)


def test_pad_with_a_value():
    """Minus infinity and integers too."""
    for value in (3, -np.inf):
        expected = np.pad(MATRIX, 1, constant_values=value)
        check(lambda x, v=value: gn.pad(x, 1, constant_values=v), expected, MATRIX)
    check(lambda x: gn.pad(x, (2, 0)), np.array([0, 0, 5], np.int32), np.array([5], np.int32))
    check(lambda x: gn.pad(x, (2, 0), constant_values=1.0), np.ones(2), np.zeros(0))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: gn.transpose(x, (0, 1)), "transpose: .*not a permutation of the 3 axes"),
        (lambda x: gn.squeeze(x, 1), r"squeeze: axis 1 of \(2, 3, 4\) has size 3, not 1"),
        (lambda x: gn.split(x, 2, 1), "split: axis 1 of size 3 does not split into 2 equal parts"),
        (lambda x: gn.concat([]), "concat: needs at least one tensor"),
        (lambda x: gn.concat([x, x[0]]), "concat: .*sizes other than those of axis 0 differ"),
        (lambda x: gn.stack([x, x[0]]), "stack: shapes differ"),
        (lambda x: gn.concat([gn.sum(x)]), "concat: scalars have no axis"),
        (lambda x: gn.pad(x, 1, "mirror"), "pad: mode 'mirror' is not one of"),
        (lambda x: gn.pad(x, ((1, 1), (1, 1))), "pad: .*3 axes"),
        (lambda x: gn.pad(x, -1), "pad: .*must not be negative"),
        (lambda x: gn.flatten(x, 4), "flatten: start 4 of a value with 3 axes"),
        (lambda x: gn.moveaxis(x, 0, (1, 2)), "moveaxis: 1 source axes, but 2 destinations"),
        (lambda x: gn.repeat(x, (1, 2), 2), "repeat: .*one for each of 4 entries"),
        (lambda x: gn.broadcast_to(x, (2, 3, 5)), "broadcast_to: .*does not broadcast"),
        (lambda x: gn.tril(x[0, 0]), "tril: needs two axes"),
        (lambda x: gn.reshape(x, (gn.sum(x), 2)), "reshape: shape must be known while tracing"),
    ],
)
def test_shaping_errors(function, message):
    """Each starts with this file's line and says what does not fit."""
    with pytest.raises(gn.ShapeError, match=rf"test_functions_shaping.py:\d+: {message}"):
        gn.jit(function)(X)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda: gn.zeros((2, 3)), np.zeros((2, 3), np.float32)),
        (lambda: gn.ones(3, "int32"), np.ones(3, np.int32)),
        (lambda: gn.full((2,), 7), np.full(2, 7, np.int32)),
        (lambda: gn.full((2,), 0.5, np.float64), np.full(2, 0.5)),
        (lambda: gn.arange(5), np.arange(5, dtype=np.int32)),
        (lambda: gn.arange(2, 9, 3), np.arange(2, 9, 3, dtype=np.int32)),
        (lambda: gn.arange(5, 0, -2), np.arange(5, 0, -2, dtype=np.int32)),
        (lambda: gn.arange(3, 1), np.zeros(0, np.int32)),
        (lambda: gn.arange(0, 1, 0.25), np.arange(0, 1, 0.25, dtype=np.float32)),
        (lambda: gn.arange(3, dtype="float64"), np.arange(3.0)),
        (lambda: gn.eye(3), np.eye(3, dtype=np.float32)),
        (lambda: gn.eye(2, 4, 1, np.float64), np.eye(2, 4, 1)),
        (lambda: gn.zeros(()), np.zeros((), np.float32)),
    ],
)
def test_creation_agrees_with_numpy(function, expected):
    """Values, shapes and dtypes."""
    found = gn.jit(lambda x: function())(X)
    assert found.dtype == expected.dtype
    check(lambda x: function(), expected, X)


def test_creation_like_another():
    """Shape and dtype of x unless another dtype is asked for."""
    ints = np.array([[1, 2]], np.int32)
    check(gn.zeros_like, np.zeros_like(ints), ints)
    check(gn.ones_like, np.ones_like(ints), ints)
    check(lambda x: gn.full_like(x, 2.5, "float32"), np.full_like(ints, 2.5, np.float32), ints)


def test_arange_refuses_a_zero_step():
    """It would never end."""
    with pytest.raises(gn.ShapeError, match="arange: step 0 never reaches stop"):
        gn.jit(lambda x: gn.arange(0, 3, 0))(X)


def test_one_hot():
    """Ids of any shape; ids out of range have no 1."""
    ids = np.array([[0, 2], [5, -1]], np.int32)
    check(lambda i: gn.one_hot(i, 3), (ids[..., None] == np.arange(3)).astype(np.float32), ids)
    assert gn.jit(lambda i: gn.one_hot(i, 3, "bool"))(ids).dtype == bool
