"""Initial values: their distributions, what they depend on, and what is refused."""

from __future__ import annotations

import functools
import json
import math

import numpy as np
import pytest

import graphnet as gn
from graphnet import init
from graphnet.compiler.ir import Type

BIG = (300, 200)
SPREADS = [
    (init.glorot_uniform(), BIG, 2 / 500),
    (init.glorot_normal(), BIG, 2 / 500),
    (init.xavier_uniform(), (20, 30, 5, 4), 2 / (50 * 20)),
    (init.he_uniform(), BIG, 2 / 300),
    (init.he_normal(), BIG, 2 / 300),
    (init.he_normal(), (20, 30, 5, 4), 2 / 600),
    (init.normal(std=0.5), BIG, 0.25),
    (init.uniform(-0.3, 0.3), BIG, 0.6**2 / 12),
]


@pytest.mark.parametrize(("initialiser", "shape", "variance"), SPREADS, ids=lambda v: str(v))
def test_variance_follows_the_fans(initialiser, shape, variance):
    """fan_in is the first axis of a matrix, and channels times window of a convolution's weight."""
    values = initialiser(shape, "float64", seed=3, stream=5)
    assert abs(values.var() / variance - 1) < 0.05
    assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)


def test_uniform_draws_stay_inside_their_limits():
    """glorot_uniform ends at sqrt(6 / (fan_in + fan_out)), uniform at its own bounds."""
    limit = math.sqrt(6 / 500)
    values = init.glorot_uniform()(BIG)
    assert -limit <= values.min() < -0.99 * limit
    assert 0.99 * limit < values.max() <= limit
    values = init.uniform(2.0, 3.0)(BIG)
    assert values.min() >= 2
    assert values.max() <= 3


def test_normal_has_its_mean():
    """mean shifts the draws."""
    assert abs(init.normal(mean=4.0, std=0.1)(BIG).mean() - 4) < 0.01


def test_constants():
    """zeros, ones and constant fill."""
    np.testing.assert_array_equal(init.zeros()((2, 3)), np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(init.ones()((4,)), np.ones(4, np.float32))
    np.testing.assert_array_equal(init.constant(-2.5)(()), np.float32(-2.5))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (3, 2, 2, 2)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    """Whichever are fewer, scaled by the gain."""
    w = init.orthogonal(gain=2.0)(shape, "float64", seed=1, stream=2).reshape(shape[0], -1)
    product = w @ w.T if shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_identity_of_matrices_and_convolutions():
    """A matrix has the gain on its diagonal; a convolution passes channel i on as filter i."""
    np.testing.assert_array_equal(init.identity(3.0)((2, 3)), 3 * np.eye(2, 3))
    w = init.identity()((2, 2, 3, 3))
    expected = np.zeros((2, 2, 3, 3))
    expected[0, 0, 1, 1] = expected[1, 1, 1, 1] = 1
    np.testing.assert_array_equal(w, expected)


@pytest.mark.parametrize("initialiser", [init.orthogonal(), init.identity()], ids=str)
def test_matrix_initialisers_refuse_vectors(initialiser):
    """They say how many axes they need."""
    with pytest.raises(gn.ShapeError, match=r"two axes or more, the shape is \(3,\)"):
        initialiser((3,))


@pytest.mark.parametrize("make", [init.glorot_uniform, init.he_normal, init.uniform, init.orthogonal])
def test_values_depend_on_seed_and_stream_and_round_between_dtypes(make):
    """Equal keys give equal values; the float32 values are the rounded float64 ones."""
    draw = make()
    first = draw((8, 8), "float64", seed=1, stream=2)
    np.testing.assert_array_equal(first, make()((8, 8), "float64", seed=1, stream=2))
    np.testing.assert_array_equal(first.astype(np.float32), draw((8, 8), "float32", seed=1, stream=2))
    assert (draw((8, 8), "float64", seed=2, stream=2) != first).any()
    assert (draw((8, 8), "float64", seed=1, stream=3) != first).any()


def test_streams_come_from_names():
    """A name has one stream, for ever; two names have two, away from the streams of random ops."""
    assert init.stream_of("lenet/conv2d_1/w") == 7947813144
    assert init.stream_of("a/w") == init.stream_of("a/w")
    assert init.stream_of("a/w") != init.stream_of("b/w")
    assert init.stream_of("a/w") >= 2**32


def test_config_round_trips_through_json():
    """An initialiser is a record of name and numbers."""
    for initialiser in (init.normal(std=0.2), init.glorot_uniform(), init.zeros(), init.orthogonal(2)):
        assert init.from_config(json.loads(json.dumps(initialiser.config()))) == initialiser
    with pytest.raises(gn.NameError, match="'magic' is not one of glorot_uniform"):
        init.from_config({"name": "magic", "args": {}})


def test_str_shows_the_arguments():
    """As one would write it."""
    assert str(init.normal(std=0.2)) == "normal(mean=0, std=0.2)"


def test_arguments_must_be_numbers():
    """The message starts with the user's line."""
    with pytest.raises(gn.DTypeError, match=r"test_init.py:\d+: init.normal: std must be a number, got 'big'"):
        init.normal(std="big")


@pytest.mark.parametrize(
    "given",
    [
        init.constant(2),
        2,
        2.0,
        np.float64(2),
        np.full((2, 3), 2),
        [[2, 2, 2], [2, 2, 2]],
        lambda s: np.full(s, 2),
    ],
    ids=["initialiser", "int", "float", "scalar", "array", "list", "function"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_initial_value_takes_every_form(given, dtype):
    """Initialiser, number, array, nested list or function of the shape: a new array of the declared type."""
    found = init.initial_value(given, Type((2, 3), dtype), 0, 0, "f.py:1")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.full((2, 3), 2))
    assert found is not given


REFUSED = [
    (np.zeros((3, 2)), "float32", gn.ShapeError, r"the declared shape is (2, 3), the initial value's (3, 2)"),
    (
        lambda shape: np.zeros(5),
        "float32",
        gn.ShapeError,
        r"the declared shape is (2, 3), the initial value's (5,)",
    ),
    ([[1, 2], [3]], "float32", gn.ShapeError, "the initial value is not an array"),
    ("zeros", "float32", gn.DTypeError, "'zeros' is a name: give the initialiser itself"),
    (None, "float32", gn.DTypeError, "an initial value is an Initializer, a number, an array"),
    (0.5, "int32", gn.DTypeError, "the initial value does not fit int32"),
    (-1, "uint8", gn.DTypeError, "the initial value does not fit uint8"),
]


@pytest.mark.parametrize(("given", "dtype", "error", "message"), REFUSED, ids=range(len(REFUSED)))
def test_initial_value_refuses_in_one_line(given, dtype, error, message):
    """What does not fit is named, after the line that declared the parameter."""
    with pytest.raises(error) as caught:
        init.initial_value(given, Type((2, 3), dtype), 0, 0, "f.py:1", "param 'w'")
    text = str(caught.value)
    assert text.startswith("f.py:1: param 'w': ")
    assert message in text
    assert "\n" not in text


def test_initial_values_do_not_depend_on_other_parameters():
    """A layer's values are the same whether or not another one is declared before it."""

    @gn.model
    def net(x, extra):
        if extra:
            x = gn.layers.dense(x, 4, name="before")
        return gn.layers.dense(x[:, :2], 3, name="last")

    small = gn.compile(functools.partial(net, extra=False), gn.spec((2, 4)), seed=7)
    large, other = (gn.compile(functools.partial(net, extra=True), gn.spec((2, 4)), seed=s) for s in (7, 8))
    np.testing.assert_array_equal(small.params["net/last/w"], large.params["net/last/w"])
    assert (large.params["net/last/w"] != other.params["net/last/w"]).any()


def test_parameters_refuse_an_initial_array_of_another_shape():
    """The error names the line of the declaration."""

    @gn.model
    def net(x):
        return x * gn.param("scale", (4,), init=np.ones(3))

    with pytest.raises(gn.ShapeError, match=r"test_init.py:\d+: .*\(4,\).*\(3,\)"):
        gn.compile(net, gn.spec((2, 4)))
