"""Indexing against NumPy: every kind of key, gathers, scatters and sorting, and keys that are refused."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn

X = np.arange(120.0).reshape(4, 5, 6)
I2 = np.array([[0, -1, 2], [3, 1, 0]], np.int32)
I3 = np.array([1, 0, 3], np.int64)


def check(function, expected, *arrays):
    """The traced function of the arrays gives exactly this."""
    found = gn.jit(function)(*arrays)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found, expected)


KEYS = [
    0,
    -1,
    (1, 2, 3),
    slice(1, 3),
    slice(None, None, -1),
    slice(3, 0, -2),
    slice(2, 2),
    slice(-100, 100),
    (slice(None), slice(1, -1, 2)),
    (..., 0),
    (0, ...),
    (..., slice(4, None, -3), 2),
    None,
    (None, 0, None, slice(1, 2), None),
    (slice(None), None, ..., None),
    (),
    ...,
    np.int64(2),
    (np.int32(1), slice(np.int64(1), np.int64(3))),
    [0, 2],
    [3, 1, 3],
    [],
    [[0, 1], [2, 3]],
    I2,
    (I2, 0),
    (0, I2),
    (slice(None), I2),
    (slice(1, 3), I3),
    (slice(None), slice(None), I3),
    (..., I3),
    (I2, I3),
    (I3, slice(None), I3),
    (I3, None, I3),
    (None, I3, I3),
    (slice(None), I3, I3),
    (0, slice(None), I3),
    (0, slice(None, None, -2), [1]),
    (slice(None), 0, I3),
    (I3, 0, ...),
    (I3, ..., 0),
    (I3, ..., I3),
    (slice(None), I3, ..., I3),
    (I2, [0], slice(2)),
    ([0, 1], [1, 1], [2, -1]),
    ([[0], [1]], [2, 3]),
    (None, I2, None, slice(1, 3), None),
    ([1, 2, 3],),
    (slice(None), [4, 2, 0]),
    X[:, 0, 0] > 30,
    (X[:, 0, 0] > 30, slice(None), 0),
    (slice(None), X[0, :, 0] < 12),
    (..., X[0] < 12),
    (None, X[:, :, 0] > 40, 1),
    [np.int64(1), np.int64(3)],
    X[:, :, 0] > 40,
]


@pytest.mark.parametrize("key", KEYS, ids=lambda k: repr(k).replace("\n", ""))
def test_constant_keys_index_as_in_numpy(key):
    """Ints, slices, None, ``...``, lists, arrays and constant masks, alone and mixed."""
    check(lambda x: x[key], X[key], X)
    check(lambda x: gn.getitem(x, key), X[key], X)


TRACED = [k for k in KEYS if "array" in repr(k) and "True" not in repr(k)]  # masks must be constant


@pytest.mark.parametrize("key", TRACED, ids=lambda k: repr(k).replace("\n", ""))
def test_traced_keys_index_as_in_numpy(key):
    """Index arrays may be computed by the model; negative ones count from the end."""
    parts = key if isinstance(key, tuple) else (key,)
    arrays = [p for p in parts if isinstance(p, np.ndarray)]

    def index(x, *tensors):
        rest = iter(tensors)
        return x[tuple(next(rest) if isinstance(p, np.ndarray) else p for p in parts)]

    check(index, X[key], X, *arrays)


def random_key(random, shape):
    """A tuple of ints, slices, None, ``...``, lists and arrays that fits the shape."""
    used = random.integers(0, len(shape) + 1)
    key, broadcast = [], [(), (1,), (3,), (2, 1), (2, 3)]
    dots = random.integers(0, used + 1) if random.random() < 0.5 else None
    for position in range(used):
        n = shape[position] if dots is None or position < dots else shape[len(shape) - used + position]
        kind = random.integers(0, 4)
        if kind == 0:
            key.append(int(random.integers(-n, n)))
        elif kind == 1:
            ends = [None if random.random() < 0.3 else int(random.integers(-n - 1, n + 2)) for _ in range(2)]
            key.append(slice(*ends, int(random.choice([-2, -1, 1, 2]))))
        else:
            array = random.integers(-n, n, size=broadcast[random.integers(0, 5)]).astype(np.int32)
            key.append(array if kind == 2 else array.tolist())
    if dots is not None:
        key.insert(dots, ...)
    for _ in range(random.integers(0, 3)):
        key.insert(random.integers(0, len(key) + 1), None)
    return tuple(key)


@pytest.mark.parametrize("seed", range(20))
def test_random_keys_index_as_in_numpy(seed):
    """Twenty keys each, drawn over four axes."""
    random = np.random.default_rng(seed)
    shape = (3, 2, 4, 3)
    x = np.arange(72.0).reshape(shape)
    keys = [random_key(random, shape) for _ in range(20)]
    found = gn.jit(lambda x: [x[key] for key in keys])(x)
    for key, result in zip(keys, found, strict=True):
        expected = x[key]
        assert result.shape == expected.shape, key
        np.testing.assert_array_equal(result, expected, err_msg=repr(key))


def test_index_dtypes():
    """Any integer dtype may index, also where indices are combined."""
    for dtype in ("uint8", "int32", "int64"):
        i = np.array([1, 3], dtype)
        check(lambda x, i: x[i], X[i], X, i)
        check(lambda x, i: x[i, 2], X[i, 2], X, i)
        check(lambda x, i: x[i, i], X[i, i], X, i)


def test_a_scalar_tensor_indexes_like_an_int():
    """x[i] with a traced 0-d i drops the axis."""
    check(lambda x, i: x[i], X[2], X, np.int32(2))
    check(lambda x, i: x[:, i, 1], X[:, -1, 1], X, np.int32(-1))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (4, r"index 4 is out of bounds for axis 0 of \(4, 5, 6\)"),
        ((0, -6), "index -6 is out of bounds for axis 1"),
        ((slice(None), [0, 5]), "index 5 is out of bounds for axis 1 of size 5"),
        ((0, 0, 0, 0), r"too many indices for \(4, 5, 6\): 4"),
        ((..., 0, ...), r"an index can hold only one \.\.\."),
        (slice(None, None, 0), "a slice step cannot be 0"),
        (True, "a bool is not an index"),
        (1.5, "an index must be an integer, got float32"),
        ([0.5], "an index must be an integer, got float32"),
        (([0, 1], [0, 1, 2]), "shapes do not broadcast"),
        ((0, np.ones(4, bool)), r"a mask of shape \(4,\) does not fit axis 1 and on of \(4, 5, 6\)"),
        ("a", "needs a tensor, an array or a number, got str"),
    ],
)
def test_keys_that_do_not_fit_are_refused(key, message):
    """The error says why, after this file's line."""
    with pytest.raises((gn.ShapeError, gn.DTypeError), match=rf"test_functions_indexing.py:\d+: getitem: {message}"):
        gn.jit(lambda x: gn.getitem(x, key))(X)


def test_slice_bounds_must_be_known():
    """A traced bound would make the size of the result depend on values."""
    check(lambda x: x[gn.full((), 1) :], X[1:], X)
    with pytest.raises(gn.ShapeError, match="a slice bound must be known while tracing"):
        gn.jit(lambda x, i: x[:i])(X, np.int32(2))


def test_masks_computed_by_the_model_are_refused():
    """The message names gn.where."""
    with pytest.raises(gn.DTypeError, match=r"depends on values: use gn\.where"):
        gn.jit(lambda x: x[gn.greater(x, 1)])(X)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("index", [2, [0, -1, 0], I2], ids=["int", "list", "array"])
def test_take_agrees_with_numpy(axis, index):
    """The axes of the indices stand where the axis was."""
    check(lambda x: gn.take(x, index, axis), np.take(X, index, axis), X)
    check(lambda x, i: gn.take(x, i, axis), np.take(X, index, axis), X, np.asarray(index, np.int32))


def test_take_refuses_indices_out_of_bounds():
    """If they are known while tracing."""
    with pytest.raises(gn.ShapeError, match="take: index 4 is out of bounds for axis 0 of size 4"):
        gn.jit(lambda x: gn.take(x, [4], axis=0))(X)


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_take_along_axis_agrees_with_numpy(axis):
    """Also where the other axes of the indices have size 1."""
    order = np.argsort(-X, axis=axis)
    check(lambda x, i: gn.take_along_axis(x, i, axis), np.take_along_axis(X, order, axis), X, order)
    if axis == 1:
        few = np.array([-1, 2]).reshape(1, 2, 1)
        expected = np.take_along_axis(X, np.broadcast_to(few, (4, 2, 6)), 1)
        check(lambda x: gn.take_along_axis(x, few, 1), expected, X)


def test_scatter_add_adds_every_update():
    """An index met twice adds twice; negative ones count from the end; updates broadcast."""
    x, i = np.zeros((4, 2)), np.array([0, 2, 0, -1], np.int32)
    updates = np.arange(8.0).reshape(4, 2)
    expected = x.copy()
    np.add.at(expected, i, updates)
    check(gn.scatter_add, expected, x, i, updates)
    np.add.at(expected, i, 1)
    check(lambda x, i, u: gn.scatter_add(gn.scatter_add(x, i, u), i, 1), expected, x, i, updates)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_sort_and_argsort_agree_with_numpy(axis, descending):
    """Equal elements keep their order, also descending."""
    x = np.random.default_rng(0).integers(0, 4, (4, 5, 3)).astype(float)
    sign = -1 if descending else 1
    found = gn.jit(lambda x: gn.argsort(x, axis, descending))(x)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.argsort(sign * x, axis=axis, kind="stable"))
    check(lambda x: gn.sort(x, axis, descending), sign * np.sort(sign * x, axis=axis), x)


def test_top_k_gives_values_and_indices():
    """Largest first; the first of equal elements wins."""
    x = np.array([[1.0, 3.0, 2.0, 3.0], [0.0, -1.0, -2.0, 5.0]])
    values, indices = gn.jit(lambda x: gn.top_k(x, 3))(x)
    np.testing.assert_array_equal(values, [[3, 3, 2], [5, 0, -1]])
    np.testing.assert_array_equal(indices, [[1, 3, 2], [3, 0, 1]])
    with pytest.raises(gn.ShapeError, match="top_k: k is 5, but must be from 1 to the size of the last axis"):
        gn.jit(lambda x: gn.top_k(x, 5))(x)


def test_empty_axes_have_nothing_to_index():
    """No index into an empty axis, but no indices into it are fine."""
    check(lambda x: x[:, []], np.zeros((2, 0)), np.zeros((2, 0)))
    with pytest.raises(gn.ShapeError, match="take: axis 1 is empty"):
        gn.jit(lambda x, i: gn.take(x, i, axis=1))(np.zeros((2, 0)), np.array([0], np.int32))
