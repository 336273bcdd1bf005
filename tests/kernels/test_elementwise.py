"""Elementwise kernels against NumPy's own functions: layouts, broadcasting, in place, special values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from graphnet.kernels.numpy.elementwise import ELEMENTWISE

UNARY = {
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "exp": np.exp, "log": np.log, "log1p": np.log1p,
    "expm1": np.expm1, "sqrt": np.sqrt, "square": np.square, "reciprocal": np.reciprocal, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "arcsin": np.arcsin, "arccos": np.arccos, "arctan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "arcsinh": np.arcsinh, "arctanh": np.arctanh,
    "sigmoid": special.expit, "softplus": lambda x: np.logaddexp(x, 0), "erf": special.erf, "floor": np.floor,
    "ceil": np.ceil, "round": np.rint, "relu": lambda x: np.maximum(x, 0), "identity": np.copy,
    "arccosh": np.arccosh,
}  # fmt: skip
ARITHMETIC = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power,
    "maximum": np.maximum, "minimum": np.minimum, "mod": np.mod, "floor_div": np.floor_divide,
    "arctan2": np.arctan2,
}  # fmt: skip
COMPARISON = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
LOGICAL = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}
TESTS = {"isnan": np.isnan, "isfinite": np.isfinite, "logical_not": np.logical_not}

FLOATS = ["float32", "float64"]
PAIRS = [((), ()), ((3, 4), (3, 4)), ((3, 1), (1, 4)), ((), (2, 3)), ((0, 3), (1, 3)), ((5,), (1,))]
SHAPES = [(), (1,), (0, 3), (4, 1, 5), (33, 17)]


def positive(rng, shape, dtype):
    return np.asarray(rng.uniform(0.1, 0.9, shape), dtype)


def test_every_kernel_is_tested_here():
    """The tables above name all elementwise ops."""
    named = {*UNARY, *ARITHMETIC, *COMPARISON, *LOGICAL, *TESTS, "cast", "where"}
    assert named == set(ELEMENTWISE)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", UNARY)
def test_one_input_ops_agree_with_numpy_in_every_layout(k, rng, op, dtype):
    """Contiguous, strided and in place give NumPy's values."""
    for shape in SHAPES:
        x = np.asarray(positive(rng, shape, dtype) + (op == "arccosh"), dtype)
        with np.errstate(all="ignore"):
            expected = UNARY[op](x)
        close = {"rtol": 1e-6 if dtype == "float32" else 1e-14, "atol": 1e-7}
        got = k.execute(op, np.empty(shape, dtype), x)
        np.testing.assert_allclose(got, expected, **close)
        view = k.strided(x)
        np.testing.assert_allclose(k.execute(op, k.strided(x), view), expected, **close)
        np.testing.assert_allclose(k.execute(op, view, view), expected, **close)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", ARITHMETIC | COMPARISON)
def test_two_input_ops_broadcast_and_run_in_place(k, rng, op, dtype):
    """Either input may be smaller or strided, and `out` may be either input where dtypes allow."""
    reference = (ARITHMETIC | COMPARISON)[op]
    result = dtype if op in ARITHMETIC else "bool"
    # NumPy's vector and scalar loops of pow and arctan2 differ in the last bit.
    close = {"rtol": 1e-6 if dtype == "float32" else 1e-14}
    for left, right in PAIRS:
        a, b = positive(rng, left, dtype), positive(rng, right, dtype)
        shape = np.broadcast_shapes(left, right)
        expected = reference(a, b)
        np.testing.assert_allclose(k.execute(op, np.empty(shape, result), a, k.strided(b)), expected, **close)
        out = k.strided(np.empty(shape, result))
        np.testing.assert_allclose(k.execute(op, out, k.strided(a), b), expected, **close)
        for mine in (0, 1):
            if op in ARITHMETIC and (left, right)[mine] == shape:
                ins = [a.copy(), b.copy()]
                np.testing.assert_allclose(k.execute(op, ins[mine], *ins), expected, **close)


@pytest.mark.parametrize("op", LOGICAL)
def test_logical_ops_on_bools(k, op):
    """The four rows of the truth table, in place."""
    a, b = np.array([False, False, True, True]), np.array([False, True, False, True])
    expected = LOGICAL[op](a, b)
    np.testing.assert_array_equal(k.execute(op, a, a, b), expected)


@pytest.mark.parametrize("op", TESTS)
def test_predicates_see_special_values(k, op):
    """NaN and infinities are told apart."""
    x = np.array([0, 1, np.nan, np.inf, -np.inf], "float32")
    np.testing.assert_array_equal(k.execute(op, np.empty(5, bool), x), TESTS[op](x))


@pytest.mark.parametrize("op", ["add", "sub", "mul", "maximum", "minimum", "mod", "floor_div", "eq", "lt"])
def test_integer_arithmetic_stays_in_its_dtype(k, op):
    """mod and floor_div round towards minus infinity, as in Python."""
    a, b = np.array([7, -7, 7, -7], "int32"), np.array([3, 3, -3, -3], "int32")
    expected = (ARITHMETIC | COMPARISON)[op](a, b)
    np.testing.assert_array_equal(k.execute(op, np.empty(4, expected.dtype), a, b), expected)


def test_sigmoid_saturates_without_nan(k):
    """The ends are exactly 0 and 1."""
    x = np.array([-np.inf, -1000, 0, 1000, np.inf, np.nan], "float32")
    np.testing.assert_array_equal(k.execute("sigmoid", np.empty_like(x), x), [0, 0, 0.5, 1, 1, np.nan])


def test_relu_keeps_nan(k):
    """max(NaN, 0) is NaN: a broken value is not hidden."""
    x = np.array([np.nan, -1, 2], "float64")
    np.testing.assert_array_equal(k.execute("relu", x, x), [np.nan, 0, 2])


def test_softplus_of_large_values_is_linear(k):
    """No overflow at 1000, no underflow to NaN at -1000."""
    for dtype in FLOATS:
        x = np.array([-1000, -30, -1e-8, 0, 79.9, 80, 80.1, 1000, np.inf, -np.inf, np.nan], dtype)
        with np.errstate(invalid="ignore"):
            expected = np.logaddexp(x, 0)
        close = {"rtol": 3e-7 if dtype == "float32" else 1e-15}
        np.testing.assert_allclose(k.execute("softplus", np.empty_like(x), x), expected, **close)
        np.testing.assert_allclose(k.execute("softplus", x, x), expected, **close)


@pytest.mark.parametrize("op", ["floor", "ceil", "round"])
def test_rounding_of_integers_is_a_copy(k, op):
    """An int32 stays what it is."""
    x = np.array([-3, 0, 5], "int32")
    np.testing.assert_array_equal(k.execute(op, np.empty_like(x), x), x)


@pytest.mark.parametrize("source", ["float32", "float64", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("target", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_cast_converts_between_all_dtypes(k, source, target):
    """As astype does, truncating floats towards zero."""
    x = np.array([0, 1, 2.7, 100]).astype(source)
    np.testing.assert_array_equal(k.execute("cast", np.empty(4, target), x, dtype=target), x.astype(target))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_where_selects_bits_and_may_overwrite_a_branch(k, rng, dtype):
    """Either branch may be `out`; broadcasting and strides as everywhere."""
    c = rng.random((5, 7)) < 0.5
    a, b = (rng.integers(0, 9, (5, 7)).astype(dtype) for _ in "ab")
    expected = np.where(c, a, b)
    np.testing.assert_array_equal(k.execute("where", np.empty_like(a), c, a, b), expected)
    views = [k.strided(v) for v in (c, a, b)]
    np.testing.assert_array_equal(k.execute("where", k.strided(a), *views), expected)
    for mine in (0, 1):
        branches = [a.copy(), b.copy()]
        np.testing.assert_array_equal(k.execute("where", branches[mine], c, *branches), expected)
    row = np.where(c[0], a[:, :1], b[0, 0])
    np.testing.assert_array_equal(k.execute("where", np.empty_like(a), c[0], a[:, :1], b[0, 0, ...]), row)


def test_where_never_mixes_in_the_branch_not_taken(k):
    """NaN and infinity on the other side do not leak; NaN on this side survives."""
    c = np.array([True, False, True])
    a, b = np.array([1, np.nan, np.nan], "float32"), np.array([np.inf, -0.0, 1], "float32")
    got = k.execute("where", np.empty(3, "float32"), c, a, b)
    np.testing.assert_array_equal(got, [1, -0.0, np.nan])
    assert np.signbit(got[1])


@pytest.mark.parametrize("op", [*UNARY, *ARITHMETIC, "where", "cast"])
def test_no_kernel_allocates_arrays(k, rng, op):
    """Two megabytes of input, and nothing beside it."""
    x = positive(rng, (1000, 500), "float32") + (op == "arccosh")
    ins = {"where": (x < 0.5, x, x)}.get(op, (x,) if op in UNARY or op == "cast" else (x, x))
    calls = k.bind(op, np.empty(x.shape, "float64" if op == "cast" else "float32"), *ins)
    assert k.peak(calls) < 4096
