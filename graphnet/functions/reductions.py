"""Functions that fold axes: sums, extremes, their positions, statistics, softmax and running sums.

``axis`` is an int, a tuple of ints or None for all axes; ``keepdims`` leaves folded axes with size 1.
Sums of bool are int32; means, variances and what follows from them are float32 for integers.
"""

from __future__ import annotations

import math
from typing import Any

from graphnet.compiler import build as b
from graphnet.compiler.errors import ShapeError
from graphnet.compiler.ir import Node
from graphnet.functions.arguments import (
    Axis,
    countable,
    flag,
    floating,
    many_axes,
    node,
    number,
    one_axis,
    size_of,
)
from graphnet.tensor import traced


def _fold(op: str, x: Node, axis: Axis, keepdims: bool) -> Node:
    return b.reduce(op, x, sorted(many_axes(axis, x.ndim)), flag(keepdims, "keepdims"))


def _count(x: Node, axis: Axis) -> int:
    return size_of(x.shape, many_axes(axis, x.ndim))


@traced
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """Sum over axes."""
    return _fold("sum", countable(x), axis, keepdims)


@traced
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """Mean over axes."""
    x = floating(x)
    return b.div(_fold("sum", x, axis, keepdims), _count(x, axis))


@traced
def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """Largest element over axes; the gradient goes to the first of equal elements."""
    return _fold("max", node(x), axis, keepdims)


@traced
def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """Smallest element over axes; the gradient goes to the first of equal elements."""
    return _fold("min", node(x), axis, keepdims)


@traced
def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """Product over axes, as a tree of products of halves: its gradient is right where factors are 0."""
    x = countable(x)
    axes = sorted(many_axes(axis, x.ndim))
    rest = [a for a in range(x.ndim) if a not in axes]
    lead, n = tuple(x.shape[a] for a in rest), size_of(x.shape, axes)
    flat = b.reshape(b.transpose(x, (*rest, *axes)), (*lead, n))
    last, odd = len(rest), None
    while n > 1:
        if n % 2:
            single = b.narrow(flat, last, n - 1, 1)
            odd = single if odd is None else b.mul(odd, single)
        n //= 2
        flat = b.mul(b.narrow(flat, last, 0, n), b.narrow(flat, last, n, n))
    if odd is not None:
        flat = b.mul(flat, odd)
    shape = [1 if a in axes else s for a, s in enumerate(x.shape)] if flag(keepdims, "keepdims") else lead
    return b.full(shape, 1, x.dtype) if n == 0 else b.reshape(flat, shape)


@traced
def var(x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Node:
    """Mean squared deviation from the mean over axes; the divisor is count - ddof."""
    x = floating(x)
    squares = b.unary("square", b.sub(x, mean(x, axis, True)))
    return b.div(_fold("sum", squares, axis, keepdims), _count(x, axis) - number(ddof, "ddof"))


@traced
def std(x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Node:
    """Square root of the variance over axes; its gradient is infinite where the variance is 0."""
    return b.unary("sqrt", var(x, axis, ddof, keepdims))


@traced
def norm(x: Any, ord: float | None = None, axis: Axis = None, keepdims: bool = False) -> Node:
    """The vector norm sum(|x|**ord) ** (1 / ord) over axes; ord None is 2. It has no gradient where it is 0.

    ``ord`` may be infinite: the largest or smallest |x|. Matrix norms other than ord None are not offered.
    """
    x, p = floating(x), 2 if ord is None else number(ord, "ord")
    if ord is not None and len(many_axes(axis, x.ndim)) > 1:
        raise ShapeError(f"ord {ord} is a norm of vectors: give one axis of the {x.ndim} of {x.shape}")
    if p == 2:
        return b.unary("sqrt", _fold("sum", b.unary("square", x), axis, keepdims))
    size = b.unary("abs", x)
    if p in (1, math.inf, -math.inf):
        return _fold({1: "sum", math.inf: "max", -math.inf: "min"}[p], size, axis, keepdims)
    if p == 0:
        return b.cast(count_nonzero(x, axis, keepdims), x.dtype)
    return b.pow_(_fold("sum", b.pow_(size, float(p)), axis, keepdims), 1 / p)


def _nonzero(x: Any) -> Node:
    x = node(x)
    return b.cast(x if x.dtype == "bool" else b.ne(x, 0), "int32")


@traced
def count_nonzero(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """How many elements are not zero (or true) over axes, int32."""
    return _fold("sum", _nonzero(x), axis, keepdims)


@traced
def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """True where some element over axes is true (not zero)."""
    return b.gt(count_nonzero(x, axis, keepdims), 0)


@traced
def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """True where every element over axes is true (not zero)."""
    x = node(x)
    return b.eq(count_nonzero(x, axis, keepdims), _count(x, axis))


def _position(op: str, x: Node, axis: int | None, keepdims: bool) -> Node:
    kept = flag(keepdims, "keepdims")
    if axis is None:
        found = b.apply(op, b.reshape(x, (x.out.size,)), axis=0)
        return b.reshape(found, (1,) * x.ndim) if kept else found
    where = one_axis(axis, x.ndim)
    found = b.apply(op, x, axis=where)
    return b.expand(found, [where]) if kept else found


@traced
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Node:
    """Index (int32) of the first largest element along an axis; None looks at x in C order."""
    return _position("argmax", node(x), axis, keepdims)


@traced
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Node:
    """Index (int32) of the first smallest element along an axis; None looks at x in C order."""
    return _position("argmin", node(x), axis, keepdims)


def _peak(x: Node, axis: Axis) -> Node:
    """The largest element, sizes kept, taken for a constant: subtracting it changes no result or gradient."""
    return b.unary("stop_gradient", _fold("max", x, axis, True))


@traced
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """log(sum(exp(x))) over axes without overflow; -inf where every element is -inf."""
    x = floating(x)
    peak = _peak(x, axis)
    # an infinite peak would make inf - inf
    peak = b.where(b.unary("isfinite", peak), peak, 0)
    total = b.add(b.unary("log", _fold("sum", b.unary("exp", b.sub(x, peak)), axis, True)), peak)
    return total if flag(keepdims, "keepdims") else _squeeze(total, many_axes(axis, x.ndim))


def _squeeze(x: Node, axes: tuple[int, ...]) -> Node:
    """``x`` without these axes of size 1."""
    return b.reshape(x, [n for a, n in enumerate(x.shape) if a not in axes])


@traced
def softmax(x: Any, axis: Axis = -1) -> Node:
    """exp(x) / sum(exp(x)) along an axis (or axes) without overflow."""
    x = floating(x)
    _needs_axis(x)
    powers = b.unary("exp", b.sub(x, _peak(x, axis)))
    return b.div(powers, _fold("sum", powers, axis, True))


@traced
def log_softmax(x: Any, axis: Axis = -1) -> Node:
    """x - log(sum(exp(x))) along an axis (or axes) without overflow."""
    x = floating(x)
    _needs_axis(x)
    shifted = b.sub(x, _peak(x, axis))
    return b.sub(shifted, b.unary("log", _fold("sum", b.unary("exp", shifted), axis, True)))


def _needs_axis(x: Node) -> None:
    if x.ndim == 0:
        raise ShapeError("a scalar has no axis to normalise over")


@traced
def cumsum(x: Any, axis: int | None = None, reverse: bool = False) -> Node:
    """Running sum along an axis, from the end if ``reverse``; None runs over x in C order."""
    x = countable(x)
    if axis is None:
        return b.apply("cumsum", b.reshape(x, (x.out.size,)), axis=0, reverse=flag(reverse, "reverse"))
    return b.apply("cumsum", x, axis=one_axis(axis, x.ndim), reverse=flag(reverse, "reverse"))
