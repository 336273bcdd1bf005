"""Views and data movement: reshape, transpose, broadcast, slices, concatenation, cumulative sums of indices.

Views move nothing: the plan gives their result the same memory with other strides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError, ShapeError
from graphnet.compiler.ir import Node, Type
from graphnet.compiler.record import Attrs, NoGradient, Op, Sample, free, register, stream_cost
from graphnet.kernels.numpy import index as k


def _lead(time: int, shape: Sequence[int]) -> tuple[int, ...]:
    return (time, *shape)


def _reshape(ins: Sequence[Type], attrs: Attrs) -> Type:
    shape = attrs["shape"]
    b.require(
        math.prod(shape) == ins[0].size,
        f"cannot become {shape}: {ins[0].size} elements, not {math.prod(shape)}",
    )
    return Type(shape, ins[0].dtype)


register(
    Op(
        "reshape",
        "the same elements in C order under another shape",
        ("x",),
        ("shape",),
        "view",
        _reshape,
        lambda g, y, x: [b.reshape(g, x.shape)],
        free,
        (
            Sample(((3, 4),), {"shape": (2, 6)}),
            Sample(((0, 3),), {"shape": (3, 0)}),
            Sample(((1,),), {"shape": ()}),
        ),
        batch=lambda n, ins, on: b.reshape(ins[0], _lead(ins[0].shape[0], n.shape)),
    )
)


def _transpose(ins: Sequence[Type], attrs: Attrs) -> Type:
    perm, shape = attrs["perm"], ins[0].shape
    b.require(sorted(perm) == list(range(len(shape))), f"axes {perm} are not a permutation of {len(shape)} axes")
    return Type(tuple(shape[p] for p in perm), ins[0].dtype)


def _inverse(perm: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(perm)), key=lambda i: perm[i]))


register(
    Op(
        "transpose",
        "y[i_perm] = x[i]",
        ("x",),
        ("perm",),
        "view",
        _transpose,
        lambda g, y, x: [b.transpose(g, _inverse(y.attrs["perm"]))],
        free,
        (Sample(((2, 3, 4),), {"perm": (2, 0, 1)}), Sample(((0, 3),), {"perm": (1, 0)})),
        batch=lambda n, ins, on: b.transpose(ins[0], (0, *(p + 1 for p in n.attrs["perm"]))),
    )
)


def _broadcast(ins: Sequence[Type], attrs: Attrs) -> Type:
    shape, own = attrs["shape"], ins[0].shape
    ok = len(own) <= len(shape) and all(n in (1, m) for n, m in zip(own, shape[len(shape) - len(own) :], strict=True))
    b.require(ok, f"does not broadcast to {shape}")
    return Type(shape, ins[0].dtype)


def _batch_broadcast(n: Node, ins: Sequence[Node], on: Sequence[bool]) -> Node:
    x, time = ins[0], ins[0].shape[0]
    aligned = b.reshape(x, (time, *(1,) * (n.ndim - (x.ndim - 1)), *x.shape[1:]))
    return b.broadcast_to(aligned, _lead(time, n.shape))


register(
    Op(
        "broadcast_to",
        "x repeated along size-1 and new leading axes",
        ("x",),
        ("shape",),
        "view",
        _broadcast,
        lambda g, y, x: [b.sum_to(g, x.shape)],
        free,
        (Sample(((3, 1),), {"shape": (2, 3, 4)}), Sample(((),), {"shape": (0, 2)})),
        batch=_batch_broadcast,
    )
)


def _slice(ins: Sequence[Type], attrs: Attrs) -> Type:
    starts, sizes, steps = attrs["starts"], attrs["sizes"], attrs["steps"]
    for axis, (start, size, step, n) in enumerate(zip(starts, sizes, steps, ins[0].shape, strict=True)):
        last = start + (size - 1) * step
        if size and not (0 <= start < n and 0 <= last < n):
            raise ShapeError(f"slice from {start} to {last} is outside axis {axis} of size {n}")
    return Type(sizes, ins[0].dtype)


def _slice_grad(g: Node, y: Node, x: Node) -> list[Node]:
    return [b.apply("place", g, shape=x.shape, starts=y.attrs["starts"], steps=y.attrs["steps"])]


def _batch_slice(n: Node, ins: Sequence[Node], on: Sequence[bool]) -> Node:
    a, time = n.attrs, ins[0].shape[0]
    return b.slice_(ins[0], (0, *a["starts"]), (time, *a["sizes"]), (1, *a["steps"]))


register(
    Op(
        "slice",
        "y[i] = x[start + i*step] along every axis",
        ("x",),
        ("starts", "sizes", "steps"),
        "view",
        _slice,
        _slice_grad,
        free,
        (
            Sample(((4, 5),), {"starts": (1, 4), "sizes": (2, 3), "steps": (2, -2)}),
            Sample(((4,),), {"starts": (0,), "sizes": (0,), "steps": (1,)}),
        ),
        batch=_batch_slice,
    )
)


def _place(ins: Sequence[Type], attrs: Attrs) -> Type:
    whole = Type(attrs["shape"], ins[0].dtype)
    _slice([whole], {"starts": attrs["starts"], "sizes": ins[0].shape, "steps": attrs["steps"]})
    return whole


def _place_grad(g: Node, y: Node, x: Node) -> list[Node]:
    return [b.slice_(g, y.attrs["starts"], x.shape, y.attrs["steps"])]


def _batch_place(n: Node, ins: Sequence[Node], on: Sequence[bool]) -> Node:
    a, time = n.attrs, ins[0].shape[0]
    return b.apply("place", ins[0], shape=_lead(time, a["shape"]), starts=(0, *a["starts"]), steps=(1, *a["steps"]))


register(
    Op(
        "place",
        "zeros of a shape with y[start + i*step] = x[i]: the adjoint of slice",
        ("x",),
        ("shape", "starts", "steps"),
        "kernel",
        _place,
        _place_grad,
        stream_cost(0),
        (
            Sample(((2, 3),), {"shape": (4, 5), "starts": (1, 4), "steps": (2, -2)}),
            Sample(((0,),), {"shape": (4,), "starts": (0,), "steps": (1,)}),
        ),
        kernel=k.place,
        batch=_batch_place,
    )
)


def _concat(ins: Sequence[Type], attrs: Attrs) -> Type:
    axis, first = attrs["axis"], ins[0]
    for t in ins[1:]:
        if t.dtype != first.dtype:
            raise DTypeError(f"dtypes differ: {first.dtype}, {t.dtype}")
        same = t.ndim == first.ndim and all(
            i == axis or n == m for i, (n, m) in enumerate(zip(t.shape, first.shape, strict=True))
        )
        b.require(same, f"sizes other than those of axis {axis} differ")
    shape = list(first.shape)
    shape[axis] = sum(t.shape[axis] for t in ins)
    return Type(tuple(shape), first.dtype)


def _concat_grad(g: Node, y: Node, *xs: Node) -> list[Node]:
    axis, start, parts = y.attrs["axis"], 0, []
    for x in xs:
        parts.append(b.narrow(g, axis, start, x.shape[axis]))
        start += x.shape[axis]
    return parts


def _batch_concat(n: Node, ins: Sequence[Node], on: Sequence[bool]) -> Node:
    time = next(x.shape[0] for x, batched in zip(ins, on, strict=True) if batched)
    parts = [x if batched else b.broadcast_to(x, _lead(time, x.shape)) for x, batched in zip(ins, on, strict=True)]
    return b.concat(parts, n.attrs["axis"] + 1)


register(
    Op(
        "concat",
        "operands one after the other along an axis",
        ("*xs",),
        ("axis",),
        "kernel",
        _concat,
        _concat_grad,
        stream_cost(0),
        (
            Sample(((2, 3), (1, 3), (0, 3)), {"axis": 0}),
            Sample(((2, 3), (2, 1)), {"axis": 1}),
        ),
        kernel=k.concat,
        batch=_batch_concat,
    )
)
register(
    Op(
        "copy",
        "x in memory of its own, in C order",
        ("x",),
        (),
        "kernel",
        lambda ins, attrs: ins[0],
        lambda g, y, x: [g],
        stream_cost(0),
        (Sample(((3, 4),)),),
        kernel=k.copy,
        batch=lambda n, ins, on: b.apply("copy", ins[0]),
    )
)
register(
    Op(
        "iota",
        "the index along an axis",
        (),
        ("shape", "axis", "dtype"),
        "kernel",
        lambda ins, attrs: Type(attrs["shape"], attrs["dtype"]),
        NoGradient("the result is a constant"),
        stream_cost(0),
        (Sample((), {"shape": (2, 3), "axis": 1, "dtype": "int32"}),),
        kernel=k.iota,
    )
)
