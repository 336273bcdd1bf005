"""NumPy's own functions and operators on traced tensors."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn
from graphnet.numpy_protocol import RENAMED

DRAW = np.random.default_rng(0)
X = DRAW.uniform(0.2, 0.9, size=(2, 3))
Y = DRAW.uniform(0.2, 0.9, size=(2, 3))

UNARY = (
    *("absolute", "arccos", "arcsin", "arctan", "arctanh", "cbrt", "ceil", "cos", "cosh", "deg2rad", "exp"),
    *("exp2", "expm1", "fabs", "floor", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2"),
    *("logical_not", "negative", "positive", "rad2deg", "reciprocal", "rint", "sign", "sin", "sinh", "sqrt"),
    *("square", "tan", "tanh", "trunc"),
)
BINARY = (
    *("add", "arctan2", "divide", "equal", "float_power", "floor_divide", "fmax", "fmin", "fmod", "greater"),
    *("greater_equal", "hypot", "less", "less_equal", "logaddexp", "logical_and", "logical_or", "logical_xor"),
    *("maximum", "minimum", "mod", "multiply", "not_equal", "power", "remainder", "subtract", "true_divide"),
)
FUNCTIONS = {
    "all": lambda x: np.all(x > 0.3, axis=0),
    "amax": lambda x: np.amax(x, axis=1),
    "amin": lambda x: np.amin(x, axis=1),
    "any": lambda x: np.any(x > 0.3),
    "argmax": lambda x: np.argmax(x, axis=1),
    "argsort": lambda x: np.argsort(x, axis=1),
    "around": lambda x: np.around(x, 1),
    "broadcast_to": lambda x: np.broadcast_to(x, (4, 2, 3)),
    "clip": lambda x: np.clip(x, 0.3, 0.6),
    "concatenate": lambda x: np.concatenate([x, x * 2], axis=1),
    "concatenate_arrays": lambda x: np.concatenate([Y, x, Y]),
    "cumsum": lambda x: np.cumsum(x, axis=0),
    "diagonal": lambda x: np.diagonal(x),
    "dot": lambda x: np.dot(x, Y.T),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, Y),
    "expand_dims": lambda x: np.expand_dims(x, 1),
    "flip": lambda x: np.flip(x, 1),
    "matmul": lambda x: np.matmul(x, Y.T),
    "mean": lambda x: np.mean(x, axis=0, keepdims=True),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "ones_like": lambda x: np.ones_like(x),
    "outer": lambda x: np.outer(x[0], x[1]),
    "pad": lambda x: np.pad(x, ((1, 0), (2, 1))),
    "prod": lambda x: np.prod(x, axis=1),
    "ravel": lambda x: np.ravel(x),
    "repeat": lambda x: np.repeat(x, 2, axis=0),
    "reshape": lambda x: np.reshape(x, (3, 2)),
    "roll": lambda x: np.roll(x, 1, axis=1),
    "sort": lambda x: np.sort(x, axis=1),
    "split": lambda x: np.split(x, 3, axis=1)[1],
    "squeeze": lambda x: np.squeeze(x[:1]),
    "stack": lambda x: np.stack([x, Y], axis=1),
    "std": lambda x: np.std(x, axis=1),
    "sum": lambda x: np.sum(x, axis=1),
    "sum_of_all": lambda x: np.sum(x),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "take": lambda x: np.take(x, [1, 0], axis=1),
    "tensordot": lambda x: np.tensordot(x, Y, axes=((1,), (1,))),
    "tile": lambda x: np.tile(x, (2, 1)),
    "transpose": lambda x: np.transpose(x),
    "tril": lambda x: np.tril(x),
    "var": lambda x: np.var(x),
    "where": lambda x: np.where(x > 0.5, x, Y),
    "zeros_like": lambda x: np.zeros_like(x),
}


def traced_form(name):
    return hasattr(gn, name) or name in RENAMED


@pytest.mark.parametrize("name", UNARY)
def test_unary_ufuncs(name):
    """np.tanh(t) is gn.tanh(t); one without a traced form is refused by name."""
    f = getattr(np, name)
    if not traced_form(name):
        with pytest.raises(gn.TraceError, match=rf"test_numpy_protocol\.py:\d+: np\.{name} has no traced form"):
            gn.jit(lambda x: f(x))(X)
    else:
        np.testing.assert_allclose(gn.jit(lambda x: f(x))(X), f(X), rtol=1e-13)


@pytest.mark.parametrize("name", BINARY)
def test_binary_ufuncs_of_tensors_and_arrays(name):
    """On either side, with an array or a number on the other."""
    f = getattr(np, name)
    if not traced_form(name):
        with pytest.raises(gn.TraceError, match=rf"np\.{name} has no traced form"):
            gn.jit(lambda x: f(x, Y))(X)
        return
    np.testing.assert_allclose(gn.jit(lambda x: f(x, Y))(X), f(X, Y), rtol=1e-13)
    np.testing.assert_allclose(gn.jit(lambda x: f(Y, x))(X), f(Y, X), rtol=1e-13)
    np.testing.assert_allclose(gn.jit(lambda x: f(x, 0.5))(X), f(X, 0.5), rtol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    """With NumPy's argument names and defaults."""
    f = FUNCTIONS[name]
    np.testing.assert_allclose(gn.jit(f)(X), f(X), rtol=1e-13)


def test_arrays_do_not_swallow_tensors():
    """array + tensor is one traced addition, not an object array of tensors."""
    found = []
    gn.jit(lambda x: found.append(Y + x) or found[0])(X)
    assert isinstance(found[0], gn.Tensor)
    assert found[0].shape == (2, 3)


@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.maximum, np.minimum])
def test_reductions_of_ufuncs(ufunc):
    """np.add.reduce sums over the first axis unless told otherwise."""
    np.testing.assert_allclose(gn.jit(lambda x: ufunc.reduce(x))(X), ufunc.reduce(X), rtol=1e-14)
    np.testing.assert_allclose(gn.jit(lambda x: ufunc.reduce(x, axis=1))(X), ufunc.reduce(X, axis=1), rtol=1e-14)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: np.add(x, 1, out=np.zeros((2, 3))), r"np\.add: out is not supported"),
        (lambda x: np.add(x, 1, where=np.ones((2, 3), bool)), r"np\.add: where is not supported"),
        (lambda x: np.add.accumulate(x), r"np\.add: accumulate is not supported"),
        (lambda x: np.add.outer(x, x), r"np\.add: outer is not supported"),
        (lambda x: np.sum(x, dtype="float32"), r"np\.sum on a traced tensor: .*'dtype'"),
        (lambda x: np.fft.fft(x), r"np\.fft has no traced form"),
        (lambda x: np.save("x.npy", x), r"np\.save has no traced form"),
    ],
    ids=["out", "where", "accumulate", "outer", "dtype", "fft", "save"],
)
def test_what_has_no_traced_form_is_refused(f, message):
    """Options and functions are never ignored."""
    with pytest.raises(gn.TraceError, match=rf"test_numpy_protocol\.py:\d+: ({message})"):
        gn.jit(f)(X)


def test_gradients_through_numpy_functions():
    """A function written for NumPy is differentiated as it is."""

    def energy(w):
        return np.sum(np.tanh(np.concatenate([w, Y]) @ Y.T) ** 2) + np.mean(np.where(w > 0.5, w, np.exp(w)))

    gradient = gn.grad(energy)(X)
    step = 1e-6
    for i in np.ndindex(X.shape):
        e = np.zeros_like(X)
        e[i] = step
        assert abs(gradient[i] - (energy(X + e) - energy(X - e)) / (2 * step)) < 1e-8
