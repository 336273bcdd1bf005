"""Losses: functions of a net's output and a target that return one scalar, the mean over the batch.

Any function of (output, target) that returns a scalar serves as ``loss=``. Those here also say what target
they expect, so that ``gn.compile`` needs no spec for it; for others it is assumed to be like the output.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError, ShapeError, TraceError
from graphnet.compiler.ir import Node, Type
from graphnet.functions.arguments import floating, node
from graphnet.functions.indexing import take_along_axis
from graphnet.functions.reductions import mean
from graphnet.tensor import traced

F = TypeVar("F", bound=Callable[..., Any])


def same_as_output(output: Type) -> Type:
    """A target of the output's shape and dtype."""
    return output


def class_ids(output: Type) -> Type:
    """A target of integer class numbers, one for each row of scores."""
    return Type(output.shape[:-1], "int32")


def loss(target: Callable[[Type], Type] = same_as_output) -> Callable[[F], F]:
    """Decorator: says which target type a loss expects for an output type."""

    def mark(function: F) -> F:
        function.__graphnet_target__ = target  # type: ignore[attr-defined]
        return function

    return mark


def says_target(function: Callable[..., Any]) -> bool:
    """Whether a loss was marked with the target it expects."""
    while isinstance(function, functools.partial):
        function = function.func
    return hasattr(function, "__graphnet_target__")


def target_type(function: Callable[..., Any], output: Type) -> Type:
    """The target type ``function`` wants for ``output``; the output's own type if it does not say."""
    while isinstance(function, functools.partial):
        function = function.func
    rule: Callable[[Type], Type] = getattr(function, "__graphnet_target__", same_as_output)
    return rule(output)


def _pair(output: Any, target: Any) -> tuple[Node, Node]:
    """Output and target of one shape and the output's dtype."""
    output, target = floating(output), node(target)
    if output.shape != target.shape:
        raise ShapeError(f"the output has shape {output.shape}, the target {target.shape}: reshape one to match")
    return output, b.cast(target, output.dtype)


@loss()
@traced
def mse(pred: Any, target: Any) -> Node:
    """Mean squared error: the mean over all elements of (pred - target)**2. Both have the same shape."""
    return mean(b.unary("square", b.sub(*_pair(pred, target))))


@loss()
@traced
def huber(pred: Any, target: Any, delta: float = 1.0) -> Node:
    """Mean over all elements of d*d/2 where |d| <= delta, else delta*(|d| - delta/2), d = pred - target.

    Both have the same shape (Huber, Annals of Mathematical Statistics 1964).
    """
    if not delta > 0:
        raise TraceError(f"delta must be positive, got {delta}")
    error = b.sub(*_pair(pred, target))
    size = b.unary("abs", error)
    # one branch of both formulas: with m = min(|d|, delta), m*(|d| - m/2) is either
    inner = b.minimum(size, delta)
    return mean(b.mul(inner, b.sub(size, b.mul(inner, 0.5))))


@loss()
@traced
def sigmoid_cross_entropy(logits: Any, target: Any) -> Node:
    """Mean over all elements of -z*log(p) - (1 - z)*log(1 - p), p = sigmoid(logits), z = target in [0, 1].

    Both have the same shape. Worked out as max(x, 0) - x*z + log(1 + exp(-|x|)), which does not overflow.
    """
    x, z = _pair(logits, target)
    # softplus is max(x, 0) + log1p(exp(-|x|)) with the right gradient at 0, where max and abs have none
    return mean(b.sub(b.unary("softplus", x), b.mul(x, z)))


@loss(target=class_ids)
@traced
def softmax_cross_entropy(logits: Any, target: Any) -> Node:
    """Mean over rows of -log softmax(logits)[class]; the last axis of ``logits`` holds the classes.

    ``target`` is either integer class numbers of shape ``logits.shape[:-1]`` or probabilities (one-hot rows,
    say) of shape ``logits.shape``. The mean is over all other axes: batch, and time for sequences.
    """
    x, target = floating(logits), node(target)
    if x.ndim == 0:
        raise ShapeError("the logits are a scalar: they need a last axis of classes")
    last = x.ndim - 1
    shifted = b.sub(x, b.unary("stop_gradient", b.reduce("max", x, (last,), keepdims=True)))
    total = b.unary("log", b.sum_(b.unary("exp", shifted), (last,)))
    if target.shape == x.shape:
        target = b.cast(target, x.dtype)
        # not sum(target) * total - ..: the terms of a row are then small where the prediction is good
        return mean(b.neg(b.sum_(b.mul(target, b.sub(shifted, b.expand(total, [last]))), (last,))))
    if target.shape != x.shape[:-1]:
        raise ShapeError(
            f"the logits have shape {x.shape}, the target {target.shape}: give class numbers of shape "
            f"{x.shape[:-1]} or probabilities of shape {x.shape}"
        )
    if target.out.is_float or target.dtype == "bool":
        raise DTypeError(f"class numbers are {target.dtype}: cast with .astype('int32')")
    ids = b.apply("bounded", target, size=x.shape[last], wrap=False)
    picked = take_along_axis(shifted, b.expand(ids, [last]), last)
    return mean(b.sub(total, b.reshape(picked, target.shape)))
