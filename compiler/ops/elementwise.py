"""Elementwise ops: one scalar expression each, broadcasting as NumPy does.

The expression is C over the operand names; the C and CUDA writers print it as it stands (with ``f`` suffixes
for float32), the conformance tests check it against the numpy kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError, ShapeError
from graphnet.compiler.ir import FLOATS, Node, Type
from graphnet.compiler.record import Attrs, Grad, NoGradient, Op, Sample, register, stream_cost
from graphnet.kernels.numpy import elementwise as k


def broadcast_shapes(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """NumPy's broadcasting rule; raises ShapeError naming the two sizes that differ."""
    ndim = max((len(s) for s in shapes), default=0)
    result = [1] * ndim
    for shape in shapes:
        for i, n in enumerate(shape, ndim - len(shape)):
            if n != 1 and result[i] not in (1, n):
                raise ShapeError(f"shapes do not broadcast: sizes {result[i]} and {n} of axis {i - ndim} differ")
            result[i] = n if n != 1 else result[i]
    return tuple(result)


def _float_only(ins: Sequence[Type], attrs: Attrs) -> Type:
    if any(not t.is_float for t in ins):
        raise DTypeError(f"needs a float, got {', '.join(t.dtype for t in ins)}: cast with .astype('float32')")
    return _same(ins, attrs)


def _same(ins: Sequence[Type], attrs: Attrs) -> Type:
    shape = broadcast_shapes([t.shape for t in ins])
    if len({t.dtype for t in ins}) != 1:
        raise DTypeError(f"dtypes differ: {', '.join(t.dtype for t in ins)}")
    return Type(shape, ins[0].dtype)


def _number(ins: Sequence[Type], attrs: Attrs) -> Type:
    if ins[0].dtype == "bool":
        raise DTypeError("is not defined for bool: cast with .astype('int32') or use logical ops")
    return _same(ins, attrs)


def _boolean(ins: Sequence[Type], attrs: Attrs) -> Type:
    return Type(_same(ins, attrs).shape, "bool")


def _logical(ins: Sequence[Type], attrs: Attrs) -> Type:
    if any(t.dtype != "bool" for t in ins):
        raise DTypeError(f"needs bool, got {', '.join(t.dtype for t in ins)}: compare first")
    return _same(ins, attrs)


def _select(ins: Sequence[Type], attrs: Attrs) -> Type:
    if ins[0].dtype != "bool" or ins[1].dtype != ins[2].dtype:
        raise DTypeError(f"needs a bool condition and equal branches, got {', '.join(t.dtype for t in ins)}")
    return Type(broadcast_shapes([t.shape for t in ins]), ins[1].dtype)


PAIRS = ((3, 4), (3, 4)), ((3, 1), (1, 4)), ((), (2, 3)), ((0, 3), (1, 3)), ((1,), (5,))


def _unary(
    name: str, maths: str, expr: str, grad: Grad | NoGradient, low: float = -2, high: float = 2, **more: Any
) -> Op:
    dtypes, given = more.pop("dtypes", ()), more.pop("given", {})
    samples = tuple(Sample((s,), given, low, high, dtypes, distinct=True) for s in ((3, 4), (1,), (), (0, 2)))
    options: dict[str, Any] = {
        "infer": _float_only,
        "attrs": (),
        "cost": stream_cost(more.pop("flops", 1)),
        "in_place": True,
    }
    return register(
        Op(
            name,
            maths,
            ("x",),
            kind="elementwise",
            grad=grad,
            expr=expr,
            kernel=more.pop("kernel", None) or getattr(k, name),
            samples=samples,
            **(options | more),
        )
    )


def _binary(
    name: str, maths: str, expr: str, grad: Grad | NoGradient, low: float = -2, high: float = 2, **more: Any
) -> Op:
    dtypes = more.pop("dtypes", ())
    samples = tuple(Sample(s, low=low, high=high, dtypes=dtypes, distinct=True) for s in PAIRS)
    options: dict[str, Any] = {
        "infer": _number,
        "attrs": (),
        "cost": stream_cost(more.pop("flops", 1)),
        "in_place": True,
    }
    return register(
        Op(
            name,
            maths,
            ("x", "y"),
            kind="elementwise",
            grad=grad,
            expr=expr,
            kernel=getattr(k, name),
            samples=samples,
            **(options | more),
        )
    )


STEP = NoGradient("piecewise constant: its gradient is zero wherever it exists")
TRUTH = NoGradient("the result is a truth value")


def _ratio(g: Node, d: Node) -> list[Node]:
    return [b.div(g, d)]


_unary("neg", "-x", "-x", lambda g, y, x: [b.neg(g)], infer=_number)
_unary("abs", "|x|", "x < 0 ? -x : x", lambda g, y, x: [b.mul(g, b.unary("sign", x))], infer=_number)
_unary("sign", "-1, 0 or 1", "x != x ? x : (x > 0) - (x < 0)", STEP, infer=_number)
_unary("exp", "e**x", "exp(x)", lambda g, y, x: [b.mul(g, y)], flops=8)
_unary("expm1", "e**x - 1", "expm1(x)", lambda g, y, x: [b.mul(g, b.add(y, 1.0))], flops=8)
_unary("log", "ln x", "log(x)", lambda g, y, x: _ratio(g, x), 0.2, 3, flops=8)
_unary("log1p", "ln(1 + x)", "log1p(x)", lambda g, y, x: _ratio(g, b.add(x, 1.0)), -0.5, 2, flops=8)
_unary("sqrt", "x**.5", "sqrt(x)", lambda g, y, x: _ratio(b.mul(g, 0.5), y), 0.2, 3, flops=4)
_unary("square", "x*x", "x * x", lambda g, y, x: [b.mul(g, b.mul(x, 2))], infer=_number)
_unary("reciprocal", "1/x", "1 / x", lambda g, y, x: [b.neg(b.mul(g, b.mul(y, y)))], 0.5, 2, flops=4)
_unary("sin", "sin x", "sin(x)", lambda g, y, x: [b.mul(g, b.unary("cos", x))], flops=8)
_unary("cos", "cos x", "cos(x)", lambda g, y, x: [b.neg(b.mul(g, b.unary("sin", x)))], flops=8)
_unary("tan", "tan x", "tan(x)", lambda g, y, x: [b.mul(g, b.add(b.mul(y, y), 1.0))], -1, 1, flops=8)
_unary("sinh", "sinh x", "sinh(x)", lambda g, y, x: [b.mul(g, b.unary("cosh", x))], flops=8)
_unary("cosh", "cosh x", "cosh(x)", lambda g, y, x: [b.mul(g, b.unary("sinh", x))], flops=8)


def _one_minus_square(x: Node) -> Node:
    return b.sub(1.0, b.mul(x, x))


def _root(x: Node) -> Node:
    return b.unary("sqrt", x)


_unary("tanh", "tanh x", "tanh(x)", lambda g, y, x: [b.mul(g, _one_minus_square(y))], flops=8)
_unary("arcsin", "asin x", "asin(x)", lambda g, y, x: _ratio(g, _root(_one_minus_square(x))), -0.8, 0.8)
_unary("arccos", "acos x", "acos(x)", lambda g, y, x: _ratio(b.neg(g), _root(_one_minus_square(x))), -0.8, 0.8)
_unary("arctan", "atan x", "atan(x)", lambda g, y, x: _ratio(g, b.add(b.mul(x, x), 1.0)), flops=8)
_unary("arcsinh", "asinh x", "asinh(x)", lambda g, y, x: _ratio(g, _root(b.add(b.mul(x, x), 1.0))), flops=8)
_unary("arccosh", "acosh x", "acosh(x)", lambda g, y, x: _ratio(g, _root(b.sub(b.mul(x, x), 1.0))), 1.3, 3)
_unary("arctanh", "atanh x", "atanh(x)", lambda g, y, x: _ratio(g, _one_minus_square(x)), -0.8, 0.8)
_unary(
    "sigmoid",
    "1 / (1 + e**-x)",
    "1 / (1 + exp(-x))",
    lambda g, y, x: [b.mul(g, b.mul(y, b.sub(1.0, y)))],
    flops=8,
)
_unary(
    "relu",
    "max(x, 0), gradient 0 at 0",
    "x > 0 || x != x ? x : 0",
    lambda g, y, x: [b.where(b.gt(y, 0.0), g, 0.0)],
)
_unary(
    "softplus",
    "ln(1 + e**x)",
    "(x > 0 ? x : 0) + log1p(exp(-fabs(x)))",
    lambda g, y, x: [b.mul(g, b.unary("sigmoid", x))],
    flops=16,
)
_unary(
    "erf",
    "2/sqrt(pi) * integral of e**(-t*t) from 0 to x",
    "erf(x)",
    lambda g, y, x: [b.mul(g, b.mul(b.unary("exp", b.neg(b.mul(x, x))), 2 / math.sqrt(math.pi)))],
    flops=16,
)
_unary("floor", "largest integer <= x", "floor(x)", STEP)
_unary("ceil", "smallest integer >= x", "ceil(x)", STEP)
_unary("round", "nearest integer, halves to even", "nearbyint(x)", STEP)
_unary("isnan", "x is not a number", "x != x", TRUTH, infer=_boolean)
_unary("isfinite", "x is neither infinite nor NaN", "x - x == 0", TRUTH, infer=_boolean)
_unary("logical_not", "not x", "!x", TRUTH, infer=_logical, dtypes=("bool",))
_unary("identity", "x, as a node of its own", "x", lambda g, y, x: [g], infer=_same, attrs=("tag",), given={"tag": 0})
_unary(
    "stop_gradient",
    "x, a constant to differentiation",
    "x",
    lambda g, y, x: [None],
    infer=_same,
    kernel=k.identity,
)
_unary(
    "cast",
    "x in another dtype, truncating towards zero",
    "(T)x",
    lambda g, y, x: [b.cast(g, x.dtype) if x.dtype in FLOATS else None],
    attrs=("dtype",),
    given={"dtype": "float64"},
    infer=lambda ins, attrs: Type(ins[0].shape, attrs["dtype"]),
    in_place=False,
)


def _max_grad(g: Node, y: Node, a: Node, c: Node) -> list[Node]:
    """The whole gradient to the first operand where it is chosen (ties too), else to the second."""
    first = b.eq(y, a)
    return [b.where(first, g, 0.0), b.where(first, 0.0, g)]


def _pow_grad(g: Node, y: Node, a: Node, c: Node) -> list[Node | None]:
    exponent = b.scalar_value(c)
    base = b.mul(g, b.mul(c, b.pow_(a, b.sub(c, 1))))
    if exponent is not None:
        return [base, None]
    safe = b.where(b.gt(a, 0), a, 1)
    return [base, b.mul(g, b.where(b.gt(a, 0), b.mul(y, b.unary("log", safe)), 0))]


def _arctan2_grad(g: Node, y: Node, a: Node, c: Node) -> list[Node]:
    scaled = b.div(g, b.add(b.mul(a, a), b.mul(c, c)))
    return [b.mul(scaled, c), b.neg(b.mul(scaled, a))]


_binary("add", "x + y", "x + y", lambda g, z, x, y: [g, g])
_binary("sub", "x - y", "x - y", lambda g, z, x, y: [g, b.neg(g)])
_binary("mul", "x * y", "x * y", lambda g, z, x, y: [b.mul(g, y), b.mul(g, x)])
_binary(
    "div",
    "x / y",
    "x / y",
    lambda g, z, x, y: [b.div(g, y), b.neg(b.div(b.mul(g, z), y))],
    0.5,
    2,
    infer=_float_only,
    flops=4,
)
_binary("pow", "x**y", "pow(x, y)", _pow_grad, 0.5, 2, flops=16)
_binary("maximum", "the larger; ties give all gradient to x", "x >= y || x != x ? x : y", _max_grad)
_binary("minimum", "the smaller; ties give all gradient to x", "x <= y || x != x ? x : y", _max_grad)
_binary(
    "mod",
    "x - y*floor(x/y), the sign of y",
    "x - y * floor(x / y)",
    lambda g, z, x, y: [g, b.neg(b.mul(g, b.elementwise("floor_div", x, y)))],
    0.5,
    2,
)
_binary("floor_div", "floor(x / y)", "floor(x / y)", STEP, 0.5, 2)
_binary("arctan2", "angle of the point (y, x)", "atan2(x, y)", _arctan2_grad, 0.3, 2, infer=_float_only)
for _name, _sign in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")):
    _binary(_name, f"x {_sign} y", f"x {_sign} y", TRUTH, infer=_boolean)
for _name, _sign in (("and", "&&"), ("or", "||"), ("xor", "!=")):
    _binary(f"logical_{_name}", f"x {_name} y", f"x {_sign} y", TRUTH, infer=_logical, dtypes=("bool", "bool"))
register(
    Op(
        "where",
        "x where the condition holds, else y",
        ("condition", "x", "y"),
        (),
        "elementwise",
        _select,
        lambda g, z, c, x, y: [None, b.where(c, g, 0), b.where(c, 0, g)],
        stream_cost(),
        tuple(Sample(((3, 4), *s), dtypes=("bool", "float", "float")) for s in (((3, 4), (3, 4)), ((3, 1), (1, 4)))),
        kernel=k.where,
        expr="condition ? x : y",
    )
)
