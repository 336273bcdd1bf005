"""Elementwise kernels: each is one to four ufunc calls into `out`, so nothing is allocated.

Inputs broadcast to `out.shape` and may be strided. `out` may be the same view as any input, except
the condition of `where`. Only `out` serves as a temporary. Where dtypes are mixed (bits times a bool)
NumPy converts through a buffer of fixed size, some tens of KB, whatever the size of the arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from graphnet.kernels.numpy.call import Array, Call, Kernel, assign, same_memory, scalar

ELEMENTWISE: dict[str, Kernel] = {}
"""Every kernel of this module by the name of its op."""


def _register(name: str, kernel: Kernel) -> Kernel:
    kernel.__name__ = kernel.__qualname__ = name
    ELEMENTWISE[name] = kernel
    return kernel


def _ufunc(name: str, function: Callable[..., Any]) -> Kernel:
    def kernel(out: Array, *ins: Array) -> list[Call]:
        return [(function, (*ins, out))]

    return _register(name, kernel)


def _extremum(name: str, function: Callable[..., Any]) -> Kernel:
    """NumPy takes `out` of maximum and minimum by keyword only."""

    def kernel(out: Array, a: Array, b: Array) -> list[Call]:
        return [(partial(function, out=out), (a, b))]

    return _register(name, kernel)


def _rounding(name: str, function: Callable[..., Any]) -> Kernel:
    """Integers are their own floor, ceiling and rounding; older NumPy would answer in float64."""

    def kernel(out: Array, x: Array) -> list[Call]:
        return [(np.copyto, (out, x))] if x.dtype.kind in "iub" else [(function, (x, out))]

    return _register(name, kernel)


neg = _ufunc("neg", np.negative)
abs = _ufunc("abs", np.absolute)
sign = _ufunc("sign", np.sign)
exp = _ufunc("exp", np.exp)
log = _ufunc("log", np.log)
log1p = _ufunc("log1p", np.log1p)
expm1 = _ufunc("expm1", np.expm1)
sqrt = _ufunc("sqrt", np.sqrt)
square = _ufunc("square", np.square)
reciprocal = _ufunc("reciprocal", np.reciprocal)
sin = _ufunc("sin", np.sin)
cos = _ufunc("cos", np.cos)
tan = _ufunc("tan", np.tan)
arcsin = _ufunc("arcsin", np.arcsin)
arccos = _ufunc("arccos", np.arccos)
arctan = _ufunc("arctan", np.arctan)
sinh = _ufunc("sinh", np.sinh)
cosh = _ufunc("cosh", np.cosh)
tanh = _ufunc("tanh", np.tanh)
arcsinh = _ufunc("arcsinh", np.arcsinh)
arccosh = _ufunc("arccosh", np.arccosh)
arctanh = _ufunc("arctanh", np.arctanh)
erf = _ufunc("erf", special.erf)
floor = _rounding("floor", np.floor)
ceil = _rounding("ceil", np.ceil)
round = _rounding("round", np.rint)
logical_not = _ufunc("logical_not", np.logical_not)
isnan = _ufunc("isnan", np.isnan)
isfinite = _ufunc("isfinite", np.isfinite)

add = _ufunc("add", np.add)
sub = _ufunc("sub", np.subtract)
mul = _ufunc("mul", np.multiply)
div = _ufunc("div", np.true_divide)
pow = _ufunc("pow", np.power)
maximum = _extremum("maximum", np.maximum)
minimum = _extremum("minimum", np.minimum)
mod = _ufunc("mod", np.remainder)
floor_div = _ufunc("floor_div", np.floor_divide)
arctan2 = _ufunc("arctan2", np.arctan2)
eq = _ufunc("eq", np.equal)
ne = _ufunc("ne", np.not_equal)
lt = _ufunc("lt", np.less)
le = _ufunc("le", np.less_equal)
gt = _ufunc("gt", np.greater)
ge = _ufunc("ge", np.greater_equal)
logical_and = _ufunc("logical_and", np.logical_and)
logical_or = _ufunc("logical_or", np.logical_or)
logical_xor = _ufunc("logical_xor", np.logical_xor)


def identity(out: Array, x: Array) -> list[Call]:
    """out = x, broadcast."""
    return [assign(out, x)]


def cast(out: Array, x: Array, dtype: str | None = None) -> list[Call]:
    """out = x in out's dtype, as C would convert; `dtype` only repeats it."""
    return [(np.copyto, (out, x, "unsafe"))]


def sigmoid(out: Array, x: Array) -> list[Call]:
    """1 / (1 + exp(-x)): exp overflows to inf for very negative x and the result is then exactly 0."""
    one = scalar(1, out.dtype)
    return [
        (np.negative, (x, out)),
        (np.exp, (out, out)),
        (np.add, (out, one, out)),
        (np.divide, (one, out, out)),
    ]


def relu(out: Array, x: Array) -> list[Call]:
    """max(x, 0); NaN stays NaN."""
    return [(partial(np.maximum, out=out), (x, scalar(0, out.dtype)))]


def softplus(out: Array, x: Array) -> list[Call]:
    """log(1 + exp(x)) without overflow: from 80 on it is x in both precisions.

    np.logaddexp, which has no vector loop, serves where x is overwritten before its last use.
    """
    if same_memory(out, x):
        return [(np.logaddexp, (x, scalar(0, out.dtype), out))]
    return [
        (partial(np.minimum, out=out), (x, scalar(80, out.dtype))),
        (np.exp, (out, out)),
        (np.log1p, (out, out)),
        (partial(np.maximum, out=out), (out, x)),
    ]


def where(out: Array, condition: Array, a: Array, b: Array) -> list[Call]:
    """out = a where condition else b, bit for bit; `out` may be the memory of `a` or `b`, not of `condition`.

    A masked copy mispredicts its branch on irregular masks and is ten times slower than the branchless
    b ^ ((a ^ b) * condition) on the bits, which needs `b` to the end.
    """
    if same_memory(out, b):
        return [(np.copyto, (out, b)), (np.copyto, (out, a, "same_kind", condition))]
    bits = np.dtype(f"u{out.itemsize}")
    bits_out, bits_a, bits_b = out.view(bits), a.view(bits), b.view(bits)
    return [
        (np.bitwise_xor, (bits_a, bits_b, bits_out)),
        (np.multiply, (bits_out, condition, bits_out)),
        (np.bitwise_xor, (bits_out, bits_b, bits_out)),
    ]


for _kernel in (identity, cast, sigmoid, relu, softplus, where):
    ELEMENTWISE[_kernel.__name__] = _kernel
