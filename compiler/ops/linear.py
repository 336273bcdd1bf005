"""Matrix products and convolutions. Each is bilinear, so the gradients stay inside this set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError
from graphnet.compiler.ir import Node, Type
from graphnet.compiler.ops.elementwise import broadcast_shapes
from graphnet.compiler.record import Attrs, Op, Sample, register
from graphnet.kernels import numpy as kernels
from graphnet.kernels.numpy import conv as kc
from graphnet.kernels.numpy import linear as kl


def _floats(ins: Sequence[Type]) -> None:
    if any(not t.is_float or t.dtype != ins[0].dtype for t in ins):
        raise DTypeError(f"needs floats of one dtype, got {', '.join(t.dtype for t in ins)}")


def _matmul(ins: Sequence[Type], attrs: Attrs) -> Type:
    x, y = ins
    _floats(ins)
    b.require(x.ndim >= 2 and y.ndim >= 2, "needs two axes or more")
    b.require(x.shape[-1] == y.shape[-2], f"inner sizes differ ({x.shape[-1]}, {y.shape[-2]})")
    return Type((*broadcast_shapes([x.shape[:-2], y.shape[:-2]]), x.shape[-2], y.shape[-1]), x.dtype)


def _matmul_grad(g: Node, z: Node, x: Node, y: Node) -> list[Node]:
    if y.ndim == 2 and x.ndim > 2:
        # one product over all rows instead of a product a batch entry that is summed afterwards
        rows = b.reshape(g, (_rows(g), g.shape[-1]))
        flat = b.reshape(x, (_rows(x), x.shape[-1]))
        gx = b.reshape(b.matmul(rows, b.swap_last(y)), x.shape)
        return [gx, b.matmul(b.swap_last(flat), rows)]
    gx = b.sum_to(b.matmul(g, b.swap_last(y)), x.shape)
    return [gx, b.sum_to(b.matmul(b.swap_last(x), g), y.shape)]


def _rows(x: Node) -> int:
    return math.prod(x.shape[:-1])


def _matmul_cost(ins: Sequence[Type], out: Type, attrs: Attrs) -> tuple[int, int]:
    return 2 * out.size * ins[0].shape[-1], sum(t.nbytes for t in ins) + out.nbytes


def _batch_matmul(n: Node, ins: Sequence[Node], on: Sequence[bool]) -> Node:
    x, y = ins
    if on[0] and not on[1] and y.ndim == 2:
        flat = b.matmul(b.reshape(x, (_rows(x), x.shape[-1])), y)
        return b.reshape(flat, (x.shape[0], *n.shape))
    if on[0] and x.ndim - 1 < n.ndim:
        x = b.reshape(x, (x.shape[0], *(1,) * (n.ndim - x.ndim + 1), *x.shape[1:]))
    if on[1] and y.ndim - 1 < n.ndim:
        y = b.reshape(y, (y.shape[0], *(1,) * (n.ndim - y.ndim + 1), *y.shape[1:]))
    return b.matmul(x, y)


register(
    Op(
        "matmul",
        "z[.., i, j] = sum over k of x[.., i, k] * y[.., k, j]",
        ("x", "y"),
        (),
        "kernel",
        _matmul,
        _matmul_grad,
        _matmul_cost,
        (
            Sample(((3, 4), (4, 2))),
            Sample(((2, 3, 4), (4, 2))),
            Sample(((2, 1, 3, 4), (5, 4, 2))),
            Sample(((0, 3), (3, 2))),
            Sample(((2, 0), (0, 3))),
        ),
        kernel=kl.matmul,
        batch=_batch_matmul,
    )
)

CONV_ATTRS = ("stride", "padding", "dilation", "groups")


def conv_out_size(size: int, kernel: int, stride: int, padding: Sequence[int], dilation: int) -> int:
    """(size + padding - dilation*(kernel-1) - 1) // stride + 1"""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def _conv2d(ins: Sequence[Type], attrs: Attrs) -> Type:
    x, w = ins
    _floats(ins)
    b.require(x.ndim == 4 and w.ndim == 4, "needs x (batch, channels, height, width) and w (out, in, kh, kw)")
    groups = attrs["groups"]
    b.require(
        x.shape[1] == w.shape[1] * groups and w.shape[0] % groups == 0,
        f"{x.shape[1]} input channels, but the kernel takes {w.shape[1]} in each of {groups} groups",
    )
    sizes = [
        conv_out_size(x.shape[2 + i], w.shape[2 + i], attrs["stride"][i], attrs["padding"][i], attrs["dilation"][i])
        for i in (0, 1)
    ]
    b.require(min(sizes) > 0, f"the kernel {w.shape[2:]} is larger than the padded image {x.shape[2:]}")
    return Type((x.shape[0], w.shape[0], *sizes), x.dtype)


def _conv_attrs(n: Node) -> dict[str, Any]:
    return {name: n.attrs[name] for name in CONV_ATTRS}


def _input(g: Node, w: Node, shape: tuple[int, ...], n: Node) -> Node:
    return b.apply("conv2d_input", g, w, shape=shape, **_conv_attrs(n))


def _weight(x: Node, g: Node, shape: tuple[int, ...], n: Node) -> Node:
    return b.apply("conv2d_weight", x, g, shape=shape, **_conv_attrs(n))


def _forward(x: Node, w: Node, n: Node) -> Node:
    return b.apply("conv2d", x, w, **_conv_attrs(n))


def _cost_forward(ins: Sequence[Type], out: Type, attrs: Attrs) -> tuple[int, int]:
    x, w = ins
    return 2 * out.size * math.prod(w.shape[1:]), x.nbytes + w.nbytes + out.nbytes


def _cost_input(ins: Sequence[Type], out: Type, attrs: Attrs) -> tuple[int, int]:
    g, w = ins
    return 2 * g.size * math.prod(w.shape[1:]), g.nbytes + w.nbytes + out.nbytes


def _cost_weight(ins: Sequence[Type], out: Type, attrs: Attrs) -> tuple[int, int]:
    x, g = ins
    return 2 * g.size * math.prod(out.shape[1:]), x.nbytes + g.nbytes + out.nbytes


def _as_given(ins: Sequence[Type], attrs: Attrs) -> Type:
    _floats(ins)
    return Type(attrs["shape"], ins[0].dtype)


def _plain(stride: int = 1, pad: int = 0, dilation: int = 1, groups: int = 1) -> dict[str, Any]:
    return {
        "stride": (stride, stride),
        "padding": ((pad, pad), (pad, pad)),
        "dilation": (dilation, dilation),
        "groups": groups,
    }


register(
    Op(
        "conv2d",
        "y[n,o,i,j] = sum over c,p,q of x[n,c,i*s+p*d,j*s+q*d] * w[o,c,p,q]  (cross-correlation)",
        ("x", "w"),
        CONV_ATTRS,
        "kernel",
        _conv2d,
        lambda g, y, x, w: [_input(g, w, x.shape, y), _weight(x, g, w.shape, y)],
        _cost_forward,
        (
            Sample(((2, 3, 5, 6), (4, 3, 3, 2)), _plain()),
            Sample(((1, 4, 7, 6), (2, 2, 3, 3)), _plain(stride=2, pad=1, groups=2)),
            Sample(((2, 1, 7, 7), (1, 1, 2, 3)), _plain(dilation=2)),
        ),
        kernel=kc.conv2d,
        scratch=kernels.SCRATCH["conv2d"],
    )
)
register(
    Op(
        "conv2d_input",
        "the adjoint of conv2d in x: spreads g back over the image",
        ("g", "w"),
        (*CONV_ATTRS, "shape"),
        "kernel",
        _as_given,
        lambda h, y, g, w: [_forward(h, w, y), _weight(h, g, w.shape, y)],
        _cost_input,
        (
            Sample(((2, 4, 3, 5), (4, 3, 3, 2)), _plain() | {"shape": (2, 3, 5, 6)}),
            Sample(((1, 2, 4, 3), (2, 2, 3, 3)), _plain(2, 1, groups=2) | {"shape": (1, 4, 7, 6)}),
        ),
        kernel=kc.conv2d_input,
        scratch=kernels.SCRATCH["conv2d_input"],
    )
)
register(
    Op(
        "conv2d_weight",
        "the adjoint of conv2d in w: correlates the image with g",
        ("x", "g"),
        (*CONV_ATTRS, "shape"),
        "kernel",
        _as_given,
        lambda h, y, x, g: [_input(g, h, x.shape, y), _forward(x, h, y)],
        _cost_weight,
        (
            Sample(((2, 3, 5, 6), (2, 4, 3, 5)), _plain() | {"shape": (4, 3, 3, 2)}),
            Sample(((1, 4, 7, 6), (1, 2, 4, 3)), _plain(2, 1, groups=2) | {"shape": (2, 2, 3, 3)}),
        ),
        kernel=kc.conv2d_weight,
        scratch=kernels.SCRATCH["conv2d_weight"],
    )
)
