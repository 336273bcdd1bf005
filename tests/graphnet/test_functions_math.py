"""Elementwise functions against NumPy and SciPy in float64, their dtypes, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special

import graphnet as gn

POINTS = np.array([[-3.0, -1.0, -0.4, 0.0], [0.3, 0.9, 1.5, 40.0]])
INNER = np.array([-0.9, -0.3, 0.0, 0.7])
POSITIVE = np.array([[0.1, 1.0], [2.5, 30.0]])
EVERYWHERE = {
    "negative": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "square": np.square,
    "exp": np.exp,
    "expm1": np.expm1,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "arctan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "arcsinh": np.arcsinh,
    "sigmoid": scipy.special.expit,
    "relu": lambda x: np.maximum(x, 0),
    "softplus": lambda x: np.logaddexp(x, 0),
    "erf": scipy.special.erf,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "isnan": np.isnan,
    "isfinite": np.isfinite,
    "isinf": np.isinf,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "silu": lambda x: x * scipy.special.expit(x),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "log_sigmoid": scipy.special.log_expit,
    "logical_not": np.logical_not,
    "stop_gradient": lambda x: x,
}
ABOVE_ZERO = {
    "log": np.log,
    "log1p": np.log1p,
    "log2": np.log2,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": np.reciprocal,
}
INSIDE_ONE = {"arcsin": np.arcsin, "arccos": np.arccos, "arctanh": np.arctanh}
UNARY = (
    [(name, f, POINTS) for name, f in EVERYWHERE.items()]
    + [(name, f, POSITIVE) for name, f in ABOVE_ZERO.items()]
    + [(name, f, INNER) for name, f in INSIDE_ONE.items()]
    + [("arccosh", np.arccosh, POSITIVE + 1)]
)
BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "floor_divide": np.floor_divide,
    "mod": np.mod,
    "remainder": np.remainder,
    "arctan2": np.arctan2,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
FLOATS_ONLY = sorted({"exp", "sin", "tanh", "sigmoid", "relu", "gelu", "softplus", "log2", "rsqrt", "elu"})


@pytest.mark.parametrize(("name", "reference", "x"), UNARY, ids=[name for name, _, _ in UNARY])
@pytest.mark.parametrize("shape", ["whole", "scalar", "empty"])
def test_unary_functions_agree_with_numpy(name, reference, x, shape):
    """In float64, on matrices, scalars and empty arrays."""
    x = {"whole": x, "scalar": x.reshape(-1)[1], "empty": x[:0]}[shape]
    found = gn.jit(getattr(gn, name))(x)
    expected = reference(x)
    assert found.shape == np.shape(expected)
    assert found.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("shapes", [((2, 4), (2, 4)), ((2, 1), (4,)), ((), (3,)), ((0, 3), (1, 3))])
def test_binary_functions_broadcast_as_numpy_does(name, shapes):
    """Equal shapes, size-1 axes, scalars and empty arrays."""
    draw = np.random.default_rng(0)
    x, y = (draw.choice([-2.5, -1.0, 0.5, 1.0, 2.0, 3.5], size=s) for s in shapes)
    found = gn.jit(getattr(gn, name))(x, y)
    expected = BINARY[name](x, y)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 5, -1, -2, -3, 0.5, -0.5, 2.5, 1 / 3])
def test_power_with_a_number(exponent):
    """Whole, negative and fractional exponents agree with NumPy, products or not."""
    found = gn.jit(lambda x: gn.power(x, exponent))(POSITIVE)
    np.testing.assert_allclose(found, POSITIVE**exponent, rtol=1e-12)


def test_power_of_negative_bases_and_of_tensors():
    """A whole exponent keeps the sign of a negative base; the base may be a number, both tensors."""
    x = np.array([-2.0, -0.5, 3.0])
    np.testing.assert_allclose(gn.jit(lambda x: gn.power(x, 3))(x), x**3, rtol=1e-12)
    np.testing.assert_allclose(gn.jit(gn.power)(np.abs(x), x), np.abs(x) ** x, rtol=1e-12)
    np.testing.assert_allclose(gn.jit(lambda x: gn.power(2, x))(x), 2**x, rtol=1e-12)


def test_integer_powers_stay_integers():
    """Whole powers of int32 are int32; a float exponent gives float32."""
    x = np.array([-2, 3], np.int32)
    for exponent in (0, 1, 2, 3, 4, 5):
        found = gn.jit(lambda x, e=exponent: gn.power(x, e))(x)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, x**exponent)
    assert gn.jit(lambda x: gn.power(x, 2.0))(x).dtype == np.float32


def test_negative_power_of_integers_is_refused():
    """The message says to cast."""
    with pytest.raises(gn.DTypeError, match=r"power: int32 to the negative power -1: cast"):
        gn.jit(lambda x: gn.power(x, -1))(np.array([2], np.int32))


@pytest.mark.parametrize("name", FLOATS_ONLY)
def test_functions_of_real_numbers_take_integers_as_float32(name):
    """exp(int32) is float32 with the value of exp(float32)."""
    found = gn.jit(getattr(gn, name))(np.array([1, 2], np.int32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, gn.jit(getattr(gn, name))(np.array([1, 2], np.float32)))


@pytest.mark.parametrize("name", ["floor", "ceil", "round", "abs", "negative", "square"])
def test_functions_of_any_number_keep_integers(name):
    """Rounding an integer changes neither value nor dtype."""
    assert gn.jit(getattr(gn, name))(np.array([-3, 2], np.int32)).dtype == np.int32


def test_numbers_take_the_dtype_of_the_tensor():
    """Python numbers are weak; a float lifts an integer to float32; arrays keep their dtype."""
    x32, ints = np.ones(2, np.float32), np.array([1, 2], np.int32)
    assert gn.jit(lambda x: gn.add(x, 1.5))(x32).dtype == np.float32
    assert gn.jit(lambda x: gn.multiply(2, x))(x32).dtype == np.float32
    assert gn.jit(lambda x: gn.add(x, 1))(ints).dtype == np.int32
    assert gn.jit(lambda x: gn.add(x, 0.5))(ints).dtype == np.float32
    assert gn.jit(lambda x: gn.divide(x, 2))(ints).dtype == np.float32
    assert gn.jit(lambda x: gn.add(x, np.ones(2)))(x32).dtype == np.float64
    assert gn.jit(lambda x: gn.add(x, [1.0, 2.0]))(x32).dtype == np.float32


def test_two_numbers_make_a_tensor():
    """Functions of numbers alone are float32 scalars."""
    found = gn.jit(lambda x: gn.multiply(x, gn.exp(gn.add(1, 2))))(np.float32(1))
    np.testing.assert_allclose(found, math.exp(3), rtol=1e-6)


def test_round_to_decimals():
    """Halves go to even, as in NumPy."""
    x = np.array([1.2345, -2.5, 0.125])
    np.testing.assert_allclose(gn.jit(lambda x: gn.round(x, 2))(x), np.round(x, 2))
    np.testing.assert_allclose(gn.jit(lambda x: gn.round(x, -1))(x * 100), np.round(x * 100, -1))


def test_gelu_approximation():
    """The tanh formula is within 1e-3 of the exact one and not equal to it."""
    exact = gn.jit(gn.gelu)(POINTS)
    rough = gn.jit(lambda x: gn.gelu(x, approximate=True))(POINTS)
    assert 0 < np.abs(exact - rough).max() < 1e-3


@pytest.mark.parametrize("bounds", [(-1, 1), (None, 0.5), (0, None), (None, None)])
def test_clip_limits_either_side(bounds):
    """None leaves a side open."""
    lowest, highest = (
        -math.inf if bounds[0] is None else bounds[0],
        math.inf if bounds[1] is None else bounds[1],
    )
    np.testing.assert_array_equal(gn.jit(lambda x: gn.clip(x, *bounds))(POINTS), np.clip(POINTS, lowest, highest))


def test_where_chooses_and_broadcasts():
    """Conditions may be numbers; branches may be numbers; two ints give int32."""
    mask = np.array([[True], [False]])
    np.testing.assert_array_equal(gn.jit(lambda c, x: gn.where(c, x, 0))(mask, POINTS), np.where(mask, POINTS, 0))
    np.testing.assert_array_equal(
        gn.jit(lambda c: gn.where(c, 1.5, -1))(np.array([0, 2], np.int32)), np.float32([-1, 1.5])
    )
    assert gn.jit(lambda c: gn.where(c, 1, 0))(mask).dtype == np.int32


def test_where_with_a_condition_only_is_refused():
    """The number of true elements is not known while tracing."""
    with pytest.raises(gn.DTypeError, match=r"where: needs \(condition, x, y\)"):
        gn.jit(lambda c: gn.where(c))(np.array([True]))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("int32", "int32"), (np.float64, "float64"), (np.dtype("uint8"), "uint8"), (bool, "bool")],
)
def test_astype_takes_names_and_types(dtype, name):
    """Values are truncated towards zero; non-zero is True, a fraction too."""
    x = np.array([0.0, 0.5, 2.7])
    found = gn.jit(lambda x: gn.astype(x, dtype))(x)
    assert found.dtype == name
    np.testing.assert_array_equal(found, x.astype(name))


def test_astype_refuses_dtypes_graphnet_lacks():
    """The message lists those there are."""
    with pytest.raises(gn.DTypeError, match=r"astype: dtype complex64 is not one of bool, uint8, int32"):
        gn.jit(lambda x: gn.astype(x, "complex64"))(POINTS)


def test_shapes_that_do_not_broadcast_name_line_and_sizes():
    """The error starts with the user's line."""
    with pytest.raises(gn.ShapeError, match=r"^\S*test_functions_math\.py:\d+: .*sizes 2 and 3 of axis -1 differ"):
        gn.jit(lambda x, y: gn.add(x, y))(np.ones(2), np.ones(3))


def test_what_is_not_a_tensor_is_refused():
    """A string is no operand."""
    with pytest.raises(gn.DTypeError, match=r"exp: needs a tensor, an array or a number, got str"):
        gn.jit(lambda x: gn.add(x, gn.exp("one")))(POINTS)


def test_extremes_do_not_overflow():
    """Activations of large numbers are finite or 0, never NaN."""
    x = np.array([-1e4, 1e4], np.float32)
    for name in (
        "sigmoid",
        "softplus",
        "tanh",
        "silu",
        "gelu",
        "elu",
        "selu",
        "log_sigmoid",
        "softsign",
        "erf",
    ):
        assert np.isfinite(gn.jit(getattr(gn, name))(x)).all(), name
