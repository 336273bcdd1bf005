"""Reductions over axes, arg-reductions and running sums. Order of summation is fixed, so results repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError
from graphnet.compiler.ir import Node, Type
from graphnet.compiler.record import Attrs, NoGradient, Op, Sample, register, stream_cost
from graphnet.kernels import numpy as kernels
from graphnet.kernels.numpy import reduction as k


def _reduce(ins: Sequence[Type], attrs: Attrs) -> Type:
    axes, x = attrs["axes"], ins[0]
    b.require(
        list(axes) == sorted(set(axes)) and all(0 <= a < x.ndim for a in axes),
        f"axes {axes} of a value with {x.ndim} axes",
    )
    kept = [1 if i in axes else n for i, n in enumerate(x.shape) if attrs["keepdims"] or i not in axes]
    return Type(tuple(kept), x.dtype)


def _nonempty(ins: Sequence[Type], attrs: Attrs) -> Type:
    axes = attrs["axes"] if "axes" in attrs else (attrs["axis"],)
    b.require(all(ins[0].shape[a] for a in axes), f"has no elements along axes {axes}")
    return _reduce(ins, attrs) if "axes" in attrs else _arg(ins, attrs)


def _arg(ins: Sequence[Type], attrs: Attrs) -> Type:
    shape = ins[0].shape
    return Type(shape[: attrs["axis"]] + shape[attrs["axis"] + 1 :], "int32")


def _number(ins: Sequence[Type], attrs: Attrs) -> Type:
    if ins[0].dtype == "bool":
        raise DTypeError("is not defined for bool: cast with .astype('int32') to count, or use any/all")
    return _reduce(ins, attrs)


def _spread(g: Node, y: Node, x: Node) -> Node:
    """A reduced value back with its axes as size 1."""
    return g if y.attrs["keepdims"] else b.expand(g, y.attrs["axes"])


def _first_hit(y: Node, x: Node) -> Node:
    """True at the first element equal to the reduced ``y``: where the gradient of max and min goes."""
    axes = y.attrs["axes"]
    rest = [i for i in range(x.ndim) if i not in axes]
    flat = b.reshape(b.transpose(x, (*rest, *axes)), (*(x.shape[i] for i in rest), math.prod(x.shape[i] for i in axes)))
    which = "argmax" if y.op == "max" else "argmin"
    chosen = b.expand(b.apply(which, flat, axis=len(rest)), [len(rest)])
    hit = b.eq(b.iota(flat.shape, len(rest)), chosen)
    back = b.reshape(hit, [x.shape[i] for i in (*rest, *axes)])
    order = (*rest, *axes)
    return b.transpose(back, sorted(range(x.ndim), key=lambda i: order[i]))


def _extreme_grad(g: Node, y: Node, x: Node) -> list[Node]:
    return [b.where(_first_hit(y, x), _spread(g, y, x), 0)]


def _batch(n: Node, ins: Sequence[Node], on: Sequence[bool]) -> Node:
    axes = tuple(a + 1 for a in n.attrs["axes"])
    return b.apply(n.op, ins[0], axes=axes, keepdims=n.attrs["keepdims"])


def _batch_axis(n: Node, ins: Sequence[Node], on: Sequence[bool]) -> Node:
    return b.apply(n.op, ins[0], **{**n.attrs, "axis": n.attrs["axis"] + 1})


SAMPLES = (
    Sample(((3, 4),), {"axes": (1,), "keepdims": False}, distinct=True),
    Sample(((2, 3, 4),), {"axes": (0, 2), "keepdims": True}, distinct=True),
    Sample(((1, 3),), {"axes": (0,), "keepdims": False}, distinct=True),
)
EMPTY = (Sample(((0, 3),), {"axes": (0,), "keepdims": False}),)

register(
    Op(
        "sum",
        "sum over axes",
        ("x",),
        ("axes", "keepdims"),
        "kernel",
        _number,
        lambda g, y, x: [b.broadcast_to(_spread(g, y, x), x.shape)],
        stream_cost(),
        SAMPLES + EMPTY,
        kernel=k.sum,
        batch=_batch,
    )
)
for _name in ("max", "min"):
    register(
        Op(
            _name,
            f"{_name} over axes; the gradient goes to the first of equal elements",
            ("x",),
            ("axes", "keepdims"),
            "kernel",
            _nonempty,
            _extreme_grad,
            stream_cost(),
            SAMPLES,
            kernel=getattr(k, _name),
            batch=_batch,
        )
    )
for _name in ("argmax", "argmin"):
    register(
        Op(
            _name,
            f"index of the first {_name[3:]} along an axis",
            ("x",),
            ("axis",),
            "kernel",
            _nonempty,
            NoGradient("the result is an index"),
            stream_cost(),
            (Sample(((3, 4),), {"axis": 1}), Sample(((3, 1),), {"axis": 0})),
            kernel=getattr(k, _name),
            scratch=kernels.SCRATCH[_name],
            batch=_batch_axis,
        )
    )


def _cumsum_grad(g: Node, y: Node, x: Node) -> list[Node]:
    return [b.apply("cumsum", g, axis=y.attrs["axis"], reverse=not y.attrs["reverse"])]


register(
    Op(
        "cumsum",
        "running sum along an axis, from the end if reverse",
        ("x",),
        ("axis", "reverse"),
        "kernel",
        lambda ins, attrs: ins[0],
        _cumsum_grad,
        stream_cost(),
        (
            Sample(((3, 4),), {"axis": 1, "reverse": False}),
            Sample(((3, 4),), {"axis": 0, "reverse": True}),
            Sample(((0, 2),), {"axis": 0, "reverse": False}),
        ),
        kernel=k.cumsum,
        batch=_batch_axis,
    )
)
