"""Elementwise functions: arithmetic, transcendental functions, activations, comparisons, logic, dtypes.

Operands broadcast as in NumPy. Python numbers take the other operand's dtype; of two dtypes the higher wins
(bool < uint8 < int32 < int64 < float32 < float64). Functions of real numbers take integers as float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError
from graphnet.compiler.ir import Node
from graphnet.functions.arguments import dtype_name, floating, node, operand
from graphnet.tensor import traced

Numeric = Any


def _publish(function: Callable[..., Node], name: str, doc: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__module__ = __name__
    function.__doc__ = doc
    return traced(function)


def _float(name: str, doc: str) -> Callable[[Any], Any]:
    """A public function of one float operand, named like its op."""
    return _publish(lambda x: b.unary(name, floating(x)), name, doc)


def _any_number(name: str, op: str, doc: str) -> Callable[[Any], Any]:
    return _publish(lambda x: b.unary(op, node(x)), name, doc)


def _whole(name: str, doc: str) -> Callable[[Any], Any]:
    """A rounding function: integers are whole already."""

    def function(x: Any) -> Node:
        x = node(x)
        return b.unary(name, x) if x.out.is_float else x

    return _publish(function, name, doc)


def _two(name: str, op: str, doc: str) -> Callable[[Any, Any], Any]:
    return _publish(lambda x, y: b.elementwise(op, operand(x), operand(y)), name, doc)


negative = _any_number("negative", "neg", "-x, elementwise.")
abs = _any_number("abs", "abs", "|x|, elementwise; the gradient at 0 is 0.")
sign = _any_number("sign", "sign", "-1, 0 or 1 by the sign of x, elementwise.")
square = _any_number("square", "square", "x * x, elementwise.")
isnan = _any_number("isnan", "isnan", "True where x is not a number.")
isfinite = _any_number("isfinite", "isfinite", "True where x is neither infinite nor not a number.")

exp = _float("exp", "e**x, elementwise.")
expm1 = _float("expm1", "e**x - 1, elementwise, exact near 0.")
log = _float("log", "Natural logarithm, elementwise.")
log1p = _float("log1p", "log(1 + x), elementwise, exact near 0.")
sqrt = _float("sqrt", "Square root, elementwise.")
reciprocal = _float("reciprocal", "1 / x, elementwise.")
sin = _float("sin", "Sine of x in radians, elementwise.")
cos = _float("cos", "Cosine of x in radians, elementwise.")
tan = _float("tan", "Tangent of x in radians, elementwise.")
arcsin = _float("arcsin", "Inverse sine in radians, elementwise.")
arccos = _float("arccos", "Inverse cosine in radians, elementwise.")
arctan = _float("arctan", "Inverse tangent in radians, elementwise.")
sinh = _float("sinh", "Hyperbolic sine, elementwise.")
cosh = _float("cosh", "Hyperbolic cosine, elementwise.")
tanh = _float("tanh", "Hyperbolic tangent, elementwise.")
arcsinh = _float("arcsinh", "Inverse hyperbolic sine, elementwise.")
arccosh = _float("arccosh", "Inverse hyperbolic cosine, elementwise.")
arctanh = _float("arctanh", "Inverse hyperbolic tangent, elementwise.")
sigmoid = _float("sigmoid", "1 / (1 + e**-x), elementwise.")
relu = _float("relu", "max(x, 0), elementwise; the gradient at 0 is 0.")
softplus = _float("softplus", "log(1 + e**x), elementwise, without overflow.")
erf = _float("erf", "Error function, elementwise.")
floor = _whole("floor", "Largest whole number not above x, elementwise.")
ceil = _whole("ceil", "Smallest whole number not below x, elementwise.")

add = _two("add", "add", "x + y, elementwise.")
subtract = _two("subtract", "sub", "x - y, elementwise.")
multiply = _two("multiply", "mul", "x * y, elementwise.")
floor_divide = _two("floor_divide", "floor_div", "floor(x / y), elementwise.")
mod = _two("mod", "mod", "x - y * floor(x / y), elementwise: the remainder with the sign of y.")
remainder = mod
maximum = _two("maximum", "maximum", "The larger of x and y, elementwise; ties give the gradient to x.")
minimum = _two("minimum", "minimum", "The smaller of x and y, elementwise; ties give the gradient to x.")
equal = _two("equal", "eq", "x == y, elementwise.")
not_equal = _two("not_equal", "ne", "x != y, elementwise.")
less = _two("less", "lt", "x < y, elementwise.")
less_equal = _two("less_equal", "le", "x <= y, elementwise.")
greater = _two("greater", "gt", "x > y, elementwise.")
greater_equal = _two("greater_equal", "ge", "x >= y, elementwise.")


@traced
def divide(x: Numeric, y: Numeric) -> Node:
    """x / y, elementwise; integers are divided as float32."""
    return b.div(operand(x), operand(y))


@traced
def power(x: Numeric, y: Numeric) -> Node:
    """x ** y, elementwise. A whole Python exponent of -2 to 4 becomes products, 0.5 a square root."""
    if not isinstance(y, (int, float)) or isinstance(y, bool):
        return b.pow_(operand(x), operand(y))
    x = node(x)
    if isinstance(y, float):
        x = floating(x)
    elif not x.out.is_float and y < 0:
        raise DTypeError(f"{x.dtype} to the negative power {y}: cast with .astype('float32')")
    return _static_power(x, y)


def _static_power(x: Node, y: float) -> Node:
    if y == 0:
        return b.full(x.shape, 1, x.dtype)
    if y in (1, 2):
        return x if y == 1 else b.unary("square", x)
    if y in (3, 4):
        squared = b.unary("square", x)
        return b.mul(squared, x) if y == 3 else b.unary("square", squared)
    if y in (-1, -2):
        return b.unary("reciprocal", x if y == -1 else b.unary("square", x))
    if y in (0.5, -0.5):
        return _static_power(b.unary("sqrt", x), 2 * y)
    return b.pow_(x, y)


@traced
def arctan2(y: Numeric, x: Numeric) -> Node:
    """The angle of the point (x, y) in radians, from -pi to pi, elementwise."""
    return b.apply("arctan2", *b.operands(floating(y), floating(x)))


@traced
def log2(x: Numeric) -> Node:
    """Logarithm to the base 2, elementwise."""
    return b.mul(b.unary("log", floating(x)), 1 / math.log(2))


@traced
def log10(x: Numeric) -> Node:
    """Logarithm to the base 10, elementwise."""
    return b.mul(b.unary("log", floating(x)), 1 / math.log(10))


@traced
def rsqrt(x: Numeric) -> Node:
    """1 / sqrt(x), elementwise."""
    return b.unary("reciprocal", b.unary("sqrt", floating(x)))


@traced
def round(x: Numeric, decimals: int = 0) -> Node:
    """The nearest number with ``decimals`` decimals, halves to even, elementwise."""
    x = node(x)
    if not x.out.is_float:
        return x
    if decimals == 0:
        return b.unary("round", x)
    return b.div(b.unary("round", b.mul(x, 10.0**decimals)), 10.0**decimals)


@traced
def leaky_relu(x: Numeric, negative_slope: float = 0.01) -> Node:
    """x where positive, else negative_slope * x, elementwise."""
    x = floating(x)
    return b.where(b.gt(x, 0), x, b.mul(x, operand(negative_slope)))


@traced
def elu(x: Numeric, alpha: float = 1.0) -> Node:
    """x where positive, else alpha * (e**x - 1), elementwise (Clevert et al., 2015)."""
    x = floating(x)
    return b.where(b.gt(x, 0), x, b.mul(b.unary("expm1", b.minimum(x, 0)), operand(alpha)))


@traced
def selu(x: Numeric) -> Node:
    """The self-normalising elu: 1.0507 * elu(x, 1.6733), elementwise (Klambauer et al., 2017)."""
    return b.mul(elu(x, 1.6732632423543772), 1.0507009873554805)


@traced
def silu(x: Numeric) -> Node:
    """x * sigmoid(x), elementwise; also called swish."""
    x = floating(x)
    return b.mul(x, b.unary("sigmoid", x))


@traced
def gelu(x: Numeric, approximate: bool = False) -> Node:
    """x times the normal distribution function of x, elementwise; ``approximate`` uses the tanh formula."""
    x = floating(x)
    if approximate:
        cubic = b.add(x, b.mul(b.mul(b.unary("square", x), x), 0.044715))
        rising = b.unary("tanh", b.mul(cubic, math.sqrt(2 / math.pi)))
    else:
        rising = b.unary("erf", b.mul(x, math.sqrt(0.5)))
    return b.mul(b.mul(x, 0.5), b.add(rising, 1))


@traced
def softsign(x: Numeric) -> Node:
    """x / (1 + |x|), elementwise."""
    x = floating(x)
    return b.div(x, b.add(b.unary("abs", x), 1))


@traced
def log_sigmoid(x: Numeric) -> Node:
    """log(sigmoid(x)), elementwise, without overflow."""
    return b.neg(b.unary("softplus", b.neg(floating(x))))


@traced
def clip(x: Numeric, min: Numeric = None, max: Numeric = None) -> Node:
    """x limited to [min, max], elementwise; None leaves a side open."""
    x = node(x)
    if min is not None:
        x = b.maximum(x, operand(min))
    return x if max is None else b.minimum(x, operand(max))


@traced
def where(condition: Numeric, x: Numeric = None, y: Numeric = None) -> Node:
    """x where the condition holds, else y, elementwise."""
    if x is None or y is None:
        raise DTypeError("needs (condition, x, y): how many elements a condition selects is not known while tracing")
    if isinstance(x, int) and isinstance(y, int):
        x = node(x)
    return b.where(_truth(condition), operand(x), operand(y))


def _truth(x: Numeric) -> Node:
    """True where x is not zero."""
    x = node(x)
    return x if x.dtype == "bool" else b.ne(x, 0)


@traced
def logical_and(x: Numeric, y: Numeric) -> Node:
    """True where both are true (not zero)."""
    return b.logical_and(_truth(x), _truth(y))


@traced
def logical_or(x: Numeric, y: Numeric) -> Node:
    """True where either is true (not zero)."""
    return b.logical_or(_truth(x), _truth(y))


@traced
def logical_xor(x: Numeric, y: Numeric) -> Node:
    """True where exactly one is true (not zero)."""
    return b.apply("logical_xor", _truth(x), _truth(y))


@traced
def logical_not(x: Numeric) -> Node:
    """True where x is false (zero)."""
    return b.unary("logical_not", _truth(x))


@traced
def isinf(x: Numeric) -> Node:
    """True where x is an infinity."""
    x = node(x)
    if not x.out.is_float:
        return b.full(x.shape, False, "bool")
    return b.eq(b.unary("abs", x), math.inf)


@traced
def astype(x: Numeric, dtype: Any) -> Node:
    """x in another dtype; floats are truncated towards zero, non-zero is True."""
    x, name = node(x), dtype_name(dtype)
    return b.ne(x, 0) if name == "bool" and x.dtype != "bool" else b.cast(x, name)


cast = astype


@traced
def stop_gradient(x: Numeric) -> Node:
    """x, which differentiation takes for a constant."""
    return b.unary("stop_gradient", node(x))
