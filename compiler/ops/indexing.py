"""Gathers and scatters by integer index, sorting order, pooling by window index, counter-based randomness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError
from graphnet.compiler.ir import Node, Type
from graphnet.compiler.ops.linear import conv_out_size
from graphnet.compiler.record import Attrs, NoGradient, Op, Sample, register, stream_cost
from graphnet.kernels import numpy as kernels
from graphnet.kernels.numpy import index as k
from graphnet.kernels.numpy import pool as kp
from graphnet.kernels.numpy import random as kr

INTEGERS = ("int32", "int64", "uint8", "uint32")
INDEX = NoGradient("the result is an index")


def _integer(t: Type) -> None:
    if t.dtype not in INTEGERS:
        raise DTypeError(f"indices are {t.dtype}, need integers: cast with .astype('int32')")


def _take(ins: Sequence[Type], attrs: Attrs) -> Type:
    x, idx = ins
    _integer(idx)
    b.require(x.ndim >= 1, "cannot index a scalar")
    b.require(x.shape[0] > 0 or idx.size == 0, "has no rows to take")
    return Type(idx.shape + x.shape[1:], x.dtype)


def _take_grad(g: Node, y: Node, x: Node, idx: Node) -> list[Node | None]:
    return [b.apply("scatter_add", g, idx, rows=x.shape[0]), None]


def _batch_take(n: Node, ins: Sequence[Node], on: Sequence[bool]) -> Node:
    x, idx = ins
    if not on[0]:
        return b.apply("take", x, idx)
    time, rows, rest = x.shape[0], x.shape[1], x.shape[2:]
    if not on[1]:
        found = b.apply("take", b.transpose(x, (1, 0, *range(2, x.ndim))), idx)
        axes = range(found.ndim)
        return b.transpose(found, (idx.ndim, *axes[: idx.ndim], *axes[idx.ndim + 1 :]))
    idx = b.cast(idx, "int32")
    own = b.where(b.lt(idx, 0), b.add(idx, rows), idx)
    # an index that is out of range stays so, and is refused when the loop's rows are one table
    valid = b.logical_and(b.ge(own, 0), b.lt(own, rows))
    first = b.reshape(b.mul(b.iota((time,), 0), rows), (time, *(1,) * (idx.ndim - 1)))
    flat = b.reshape(x, (time * rows, *rest))
    return b.apply("take", flat, b.where(valid, b.add(own, first), time * rows))


def _scatter(ins: Sequence[Type], attrs: Attrs) -> Type:
    g, idx = ins
    _integer(idx)
    b.require(g.shape[: idx.ndim] == idx.shape, "the first axes must be those of the indices")
    return Type((attrs["rows"], *g.shape[idx.ndim :]), g.dtype)


register(
    Op(
        "take",
        "y[i, ..] = x[idx[i], ..] (negative indices count from the end)",
        ("x", "idx"),
        (),
        "kernel",
        _take,
        _take_grad,
        lambda ins, out, attrs: (0, 2 * out.nbytes + ins[1].nbytes),
        (
            Sample(((5, 3), (4,)), dtypes=("float", "index5")),
            Sample(((5,), (2, 3)), dtypes=("float", "index5")),
            Sample(((5, 2), (0,)), dtypes=("float", "index5")),
        ),
        kernel=k.take,
        scratch=kernels.SCRATCH["take"],
        batch=_batch_take,
    )
)


def _bounded(ins: Sequence[Type], attrs: Attrs) -> Type:
    _integer(ins[0])
    return ins[0]


register(
    Op(
        "bounded",
        "idx, which must be in [0, size), or with wrap in [-size, size) and then counted from the start",
        ("idx",),
        ("size", "wrap"),
        "kernel",
        _bounded,
        INDEX,
        stream_cost(),
        (
            Sample(((3, 4),), {"size": 5, "wrap": True}, dtypes=("index5",)),
            Sample(((0,),), {"size": 5, "wrap": True}, dtypes=("index5",)),
        ),
        kernel=k.bounded,
        batch=lambda n, ins, on: b.apply("bounded", ins[0], **n.attrs),
    )
)
register(
    Op(
        "scatter_add",
        "y[r, ..] = sum of g[i, ..] over all i with idx[i] == r: the adjoint of take",
        ("g", "idx"),
        ("rows",),
        "kernel",
        _scatter,
        lambda h, y, g, idx: [b.apply("take", h, idx), None],
        stream_cost(),
        (
            Sample(((4, 3), (4,)), {"rows": 5}, dtypes=("float", "index5")),
            Sample(((2, 3), (2, 3)), {"rows": 5}, dtypes=("float", "index5")),
        ),
        kernel=k.scatter_add,
        scratch=kernels.SCRATCH["scatter_add"],
    )
)
register(
    Op(
        "argsort",
        "the stable order that sorts x along an axis, NaN last",
        ("x",),
        ("axis", "descending"),
        "kernel",
        lambda ins, attrs: Type(ins[0].shape, "int32"),
        INDEX,
        stream_cost(8),
        (
            Sample(((3, 5),), {"axis": 1, "descending": False}),
            Sample(((4, 1),), {"axis": 0, "descending": True}),
        ),
        kernel=k.argsort,
    )
)

POOL_ATTRS = ("kernel", "stride", "padding")


def _pooled(t: Type, attrs: Attrs) -> tuple[int, ...]:
    b.require(t.ndim == 4, "needs (batch, channels, height, width)")
    sizes = tuple(
        conv_out_size(t.shape[2 + i], attrs["kernel"][i], attrs["stride"][i], attrs["padding"][i], 1) for i in (0, 1)
    )
    b.require(min(sizes) > 0, f"the window {attrs['kernel']} is larger than the padded image {t.shape[2:]}")
    return (*t.shape[:2], *sizes)


def _pool_index(ins: Sequence[Type], attrs: Attrs) -> Type:
    wide = math.prod(attrs["kernel"]) > 256
    return Type(_pooled(ins[0], attrs), "int32" if wide else "uint8")


def _pool_attrs(n: Node) -> dict[str, Any]:
    return {name: n.attrs[name] for name in POOL_ATTRS}


def _window(kernel: int, stride: int, pad: int = 0) -> dict[str, Any]:
    return {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": ((pad, pad), (pad, pad))}


def _gather_grad(g: Node, y: Node, x: Node, idx: Node) -> list[Node | None]:
    return [b.apply("pool_scatter", g, idx, shape=x.shape, **_pool_attrs(y)), None]


def _scatter_grad(h: Node, y: Node, g: Node, idx: Node) -> list[Node | None]:
    return [b.apply("pool_gather", h, idx, **_pool_attrs(y)), None]


def _spread_to(ins: Sequence[Type], attrs: Attrs) -> Type:
    whole = Type(attrs["shape"], ins[0].dtype)
    b.require(_pooled(whole, attrs) == ins[0].shape, f"is not what the window makes of {attrs['shape']}")
    return whole


POOL_INPUT = ((2, 3, 6, 5),)
POOLED = (2, 3, 3, 2)

register(
    Op(
        "max_pool_index",
        "position in the window of its first maximum (padding counts as -inf)",
        ("x",),
        POOL_ATTRS,
        "kernel",
        _pool_index,
        INDEX,
        stream_cost(),
        (Sample(POOL_INPUT, _window(2, 2)), Sample(POOL_INPUT, _window(3, 2, 1))),
        kernel=kp.max_pool_index,
        scratch=kernels.SCRATCH["max_pool_index"],
    )
)
register(
    Op(
        "pool_gather",
        "y[n,c,i,j] = the element of window (i,j) at position idx[n,c,i,j]",
        ("x", "idx"),
        POOL_ATTRS,
        "kernel",
        lambda ins, attrs: Type(_pooled(ins[0], attrs), ins[0].dtype),
        _gather_grad,
        stream_cost(),
        (Sample((*POOL_INPUT, POOLED), _window(2, 2), dtypes=("float", "window4")),),
        kernel=kp.pool_gather,
        scratch=kernels.SCRATCH["pool_gather"],
    )
)
register(
    Op(
        "pool_scatter",
        "adds g[n,c,i,j] to the element of window (i,j) at position idx: the adjoint of pool_gather",
        ("g", "idx"),
        (*POOL_ATTRS, "shape"),
        "kernel",
        _spread_to,
        _scatter_grad,
        stream_cost(),
        (Sample((POOLED, POOLED), _window(2, 2) | {"shape": POOL_INPUT[0]}, dtypes=("float", "window4")),),
        kernel=kp.pool_scatter,
        scratch=kernels.SCRATCH["pool_scatter"],
    )
)
register(
    Op(
        "window_sum",
        "y[n,c,i,j] = sum of window (i,j), zero outside the image",
        ("x",),
        POOL_ATTRS,
        "kernel",
        lambda ins, attrs: Type(_pooled(ins[0], attrs), ins[0].dtype),
        lambda g, y, x: [b.apply("window_spread", g, shape=x.shape, **_pool_attrs(y))],
        stream_cost(),
        (Sample(POOL_INPUT, _window(2, 2)), Sample(POOL_INPUT, _window(3, 1, 1))),
        kernel=kp.window_sum,
    )
)
register(
    Op(
        "window_spread",
        "adds g[n,c,i,j] to every element of window (i,j): the adjoint of window_sum",
        ("g",),
        (*POOL_ATTRS, "shape"),
        "kernel",
        _spread_to,
        lambda h, y, g: [b.apply("window_sum", h, **_pool_attrs(y))],
        stream_cost(),
        (Sample((POOLED,), _window(2, 2) | {"shape": POOL_INPUT[0]}),),
        kernel=kp.window_spread,
    )
)


def _random(ins: Sequence[Type], attrs: Attrs) -> Type:
    if any(t.dtype != "uint64" for t in ins[:2]):
        raise DTypeError("seed and step are uint64 scalars")
    return Type(attrs["shape"], attrs["dtype"])


register(
    Op(
        "random_uniform",
        "uniform in [0, 1): Philox4x32-10 keyed by seed and stream, counted by element, step and loop index",
        ("seed", "step", "*t"),
        ("stream", "shape", "dtype"),
        "kernel",
        _random,
        NoGradient("the result does not depend on anything differentiable"),
        stream_cost(40),
        (Sample(((), ()), {"stream": 1, "shape": (3, 5), "dtype": "float32"}, dtypes=("uint64", "uint64")),),
        kernel=kr.random_uniform,
        scratch=kernels.SCRATCH["random_uniform"],
    )
)
