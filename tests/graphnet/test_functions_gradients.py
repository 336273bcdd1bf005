"""First and second derivatives of functions that are built from several ops, against central differences."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn

RANDOM = np.random.default_rng(0)
CUBE = RANDOM.normal(size=(2, 3, 4))
IMAGE = RANDOM.normal(size=(1, 2, 5, 4))
KERNEL = RANDOM.normal(size=(2, 3, 3, 2))
ZEROS = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0], [1.0, 2.0, 4.0]])

CASES = {
    "power": (lambda x: gn.power(gn.abs(x), 2.5), CUBE),
    "power4": (lambda x: gn.power(x, 4), CUBE),
    "exponent": (lambda x: gn.power(2.0, x), CUBE),
    "leaky_relu": (gn.leaky_relu, CUBE),
    "elu": (gn.elu, CUBE),
    "selu": (gn.selu, CUBE),
    "silu": (gn.silu, CUBE),
    "gelu": (gn.gelu, CUBE),
    "gelu_tanh": (lambda x: gn.gelu(x, approximate=True), CUBE),
    "softsign": (gn.softsign, CUBE),
    "log_sigmoid": (gn.log_sigmoid, CUBE),
    "clip": (lambda x: gn.clip(x, -0.5, 0.5), CUBE),
    "where": (lambda x: gn.where(gn.greater(x, 0), gn.square(x), gn.sin(x)), CUBE),
    "mean": (lambda x: gn.square(gn.mean(x, (0, 2))), CUBE),
    "var": (lambda x: gn.var(x, 1, ddof=1), CUBE),
    "std": (lambda x: gn.std(x, (1, 2), keepdims=True), CUBE),
    "norm": (lambda x: gn.norm(x, axis=-1), CUBE),
    "max": (lambda x: gn.square(gn.max(x, (0, 1))), CUBE),
    "prod": (lambda x: gn.prod(x, (0, 2)), CUBE),
    "prod_of_zeros": (lambda x: gn.prod(x, 1), ZEROS),
    "logsumexp": (lambda x: gn.logsumexp(x, (0, 2)), CUBE),
    "softmax": (lambda x: gn.softmax(x, 1), CUBE),
    "log_softmax": (lambda x: gn.log_softmax(x), CUBE),
    "cumsum": (lambda x: gn.square(gn.cumsum(x, 1)), CUBE),
    "transpose": (lambda x: gn.square(gn.transpose(x, (2, 0, 1))), CUBE),
    "pad": (lambda x: gn.square(gn.pad(x, ((0, 1), (2, 0), (1, 1)), constant_values=2)), CUBE),
    "reflect": (lambda x: gn.square(gn.pad(x, ((0, 0), (2, 1), (3, 5)), "reflect")), CUBE),
    "edge": (lambda x: gn.square(gn.pad(x, 2, "edge")), CUBE),
    "tile": (lambda x: gn.square(gn.tile(x, (2, 1, 3))), CUBE),
    "repeat": (lambda x: gn.square(gn.repeat(x, (2, 0, 1), 1)), CUBE),
    "roll": (lambda x: gn.square(gn.roll(x, 1, 2)), CUBE),
    "flip": (lambda x: gn.multiply(gn.flip(x), x), CUBE),
    "stack": (lambda x: gn.stack([gn.square(x), x], 1), CUBE),
    "split": (lambda x: gn.multiply(*gn.split(x, 2, 2)), CUBE),
    "tril": (lambda x: gn.square(gn.tril(x)), CUBE),
    "matmul": (lambda x: gn.matmul(x, gn.swapaxes(x, 1, 2)), CUBE),
    "vector": (lambda x: gn.matmul(x[0, 0], gn.transpose(x[0])), CUBE),
    "tensordot": (lambda x: gn.tensordot(x, x, ((0, 2), (0, 2))), CUBE),
    "einsum": (lambda x: gn.einsum("bij,bkj,bkl->il", x, x, x), CUBE),
    "diagonal": (lambda x: gn.square(gn.einsum("iij->j", x[:, :2])), CUBE),
    "slices": (lambda x: gn.square(x[::-1, 1:, ::2]), CUBE),
    "rows": (lambda x: gn.square(x[[0, 1, 0], [2, 2, -1]]), CUBE),
    "take": (lambda x: gn.square(gn.take(x, [3, 0, 3, 3], axis=2)), CUBE),
    "take_along_axis": (lambda x: gn.square(gn.take_along_axis(x, gn.argsort(x), -1)), CUBE),
    "scatter_add": (lambda x: gn.square(gn.scatter_add(x, [1, 0, 1], x[0])), CUBE),
    "sort": (lambda x: gn.multiply(gn.sort(x, 1), np.arange(4.0)), CUBE),
    "top_k": (lambda x: gn.square(gn.top_k(x, 2)[0]), CUBE),
    "conv2d": (lambda x: gn.conv2d(gn.square(x), KERNEL[:, :2], stride=2, padding="same"), IMAGE),
    "conv1d": (lambda x: gn.conv1d(gn.square(x[:, :, 0]), KERNEL[:, :2, 0], padding=(1, 0)), IMAGE),
    "conv_transpose2d": (lambda x: gn.square(gn.conv_transpose2d(x, KERNEL, None, 2, 1, 1)), IMAGE),
    "max_pool2d": (lambda x: gn.square(gn.max_pool2d(x, 3, 2, 1)), IMAGE),
    "avg_pool2d": (lambda x: gn.square(gn.avg_pool2d(x, 3, 2, 1, count_include_pad=False)), IMAGE),
    "max_pool1d": (lambda x: gn.square(gn.max_pool1d(x[:, :, 0], 2)), IMAGE),
}


def total(name):
    """The case as a scalar function, its results weighted unevenly."""
    function = CASES[name][0]

    def scalar(x):
        y = function(x)
        return gn.sum(gn.multiply(y, np.cos(np.arange(float(y.size))).reshape(y.shape)))

    return scalar


def differences(function, x, step=1e-5):
    """Central differences of a scalar function of an array."""
    slopes = np.empty_like(x)
    for i in np.ndindex(*x.shape):
        low, high = x.copy(), x.copy()
        low[i] -= step
        high[i] += step
        slopes[i] = (function(high) - function(low)) / (2 * step)
    return slopes


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_slopes(name):
    """gn.grad agrees with central differences."""
    x = CASES[name][1]
    found = gn.grad(total(name))(x)
    np.testing.assert_allclose(found, differences(gn.jit(total(name)), x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_second_gradients_are_the_slopes_of_the_first(name):
    """gn.grad of a function of gn.grad agrees with central differences of the first gradient."""
    x = CASES[name][1]

    def slope(x):
        return gn.sum(gn.multiply(gn.grad(total(name))(x), np.sin(np.arange(float(x.size))).reshape(x.shape)))

    np.testing.assert_allclose(gn.grad(slope)(x), differences(gn.jit(slope), x), rtol=1e-5, atol=1e-6)


def test_softmax_of_masked_logits_has_finite_gradients():
    """-inf entries take part with probability and gradient 0."""
    x = np.array([1.0, -np.inf, 2.0])
    for function in (gn.softmax, gn.log_softmax, gn.logsumexp):

        def first(x, function=function):
            return gn.sum(function(x)[..., :1]) if function is not gn.logsumexp else function(x)

        found = gn.grad(first)(x)
        assert np.isfinite(found).all()
        assert found[1] == 0


def test_stop_gradient_stops_it():
    """x * stop_gradient(x) has gradient x."""
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(gn.grad(lambda x: gn.sum(gn.multiply(x, gn.stop_gradient(x))))(x), x)


def test_ties_go_to_the_first():
    """max and max_pool give the gradient to the first of equal elements, relu none at 0."""
    ties = np.ones(3)
    np.testing.assert_array_equal(gn.grad(gn.max)(ties), [1, 0, 0])
    pooled = gn.grad(lambda x: gn.sum(gn.max_pool1d(gn.reshape(x, (1, 1, 3)), 3)))(ties)
    np.testing.assert_array_equal(pooled, [1, 0, 0])
    np.testing.assert_array_equal(gn.grad(lambda x: gn.sum(gn.relu(x)))(np.zeros(2)), [0, 0])
