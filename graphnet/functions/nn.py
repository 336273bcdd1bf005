"""Convolutions and pooling: images are (batch, channels, height, width), sequences (batch, channels, length).

Padding is an int, (height, width), ((top, bottom), (left, right)), "valid" (none) or "same" (results of size
ceil(size / stride); an odd pixel goes to the end).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphnet.compiler import build as b
from graphnet.compiler.errors import ShapeError
from graphnet.compiler.ir import Node
from graphnet.functions.arguments import floating, integer, integers, node, pair
from graphnet.functions.reductions import max as max_over
from graphnet.functions.reductions import mean
from graphnet.tensor import constant, traced

Padding = Any
Pairs = tuple[tuple[int, int], tuple[int, int]]


def _padding(padding: Padding, sizes: tuple[int, ...], kernel: tuple[int, int], stride: Any, dilation: Any) -> Pairs:
    """((top, bottom), (left, right)) from any of the forms."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        first, second = (_same(*each) for each in zip(sizes, kernel, stride, dilation, strict=True))
        return first, second
    if isinstance(padding, (list, tuple)) and len(padding) == 2 and isinstance(padding[0], (list, tuple)):
        rows, columns = (pair(p, "padding", 0) for p in padding)
        return rows, columns
    if isinstance(padding, str):
        raise ShapeError(f'padding {padding!r} is neither "same" nor "valid"')
    height, width = pair(padding, "padding", 0)
    return (height, height), (width, width)


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return total // 2, total - total // 2


def _needs(x: Node, ndim: int, what: str, layout: str) -> None:
    if x.ndim != ndim:
        raise ShapeError(f"{what} must be {layout}, got {x.shape}")


IMAGES = "(batch, channels, height, width)"
SEQUENCES = "(batch, channels, length)"


def _add_bias(y: Node, bias: Any) -> Node:
    if bias is None:
        return y
    bias = node(bias)
    if bias.shape != (y.shape[1],):
        raise ShapeError(f"b must be ({y.shape[1]},), one a channel, got {bias.shape}")
    return b.add(y, b.reshape(bias, (y.shape[1], *(1,) * (y.ndim - 2))))


@traced
def conv2d(
    x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Padding = 0, dilation: Any = 1, groups: int = 1
) -> Node:
    """Cross-correlation of x (N, C, H, W) with w (O, C/groups, kh, kw), plus b (O,): (N, O, H', W')."""
    return _conv2d(x, w, b, stride, padding, dilation, groups)


def _conv2d(x: Any, w: Any, bias: Any, stride: Any, padding: Padding, dilation: Any, groups: Any) -> Node:
    x, w = b.operands(floating(x), floating(w))
    _needs(x, 4, "x", IMAGES)
    _needs(w, 4, "w", "(out, in/groups, kernel height, kernel width)")
    steps, spread = pair(stride, "stride"), pair(dilation, "dilation")
    border = _padding(padding, x.shape[2:], (w.shape[2], w.shape[3]), steps, spread)
    y = b.apply("conv2d", x, w, stride=steps, padding=border, dilation=spread, groups=_groups(groups))
    return _add_bias(y, bias)


def _groups(groups: Any) -> int:
    count = integer(groups, "groups")
    if count < 1:
        raise ShapeError(f"groups must be at least 1, got {count}")
    return count


@traced
def conv1d(
    x: Any, w: Any, b: Any = None, stride: int = 1, padding: Padding = 0, dilation: int = 1, groups: int = 1
) -> Node:
    """Cross-correlation of x (N, C, L) with w (O, C/groups, k), plus b (O,): (N, O, L')."""
    x, w = node(x), node(w)
    _needs(x, 3, "x", SEQUENCES)
    _needs(w, 3, "w", "(out, in/groups, kernel)")
    steps = (1, integer(stride, "stride"))
    spread = (1, integer(dilation, "dilation"))
    return _flat(_conv2d(_as_image(x), _as_image(w), b, steps, _line(padding), spread, groups))


def _line(padding: Padding) -> Padding:
    """The padding of a line seen as an image of height 1."""
    if isinstance(padding, str):
        return padding
    sizes = integers(padding, "padding")
    if len(sizes) > 2:
        raise ShapeError(f'padding must be an int, (before, after), "same" or "valid", got {padding!r}')
    return ((0, 0), (sizes[0], sizes[-1]))


def _as_image(x: Node) -> Node:
    return b.expand(x, [2])


def _flat(x: Node) -> Node:
    return b.reshape(x, (*x.shape[:2], x.shape[3]))


@traced
def conv_transpose2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Padding = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Node:
    """The adjoint of conv2d: x (N, C, H, W), w (C, O/groups, kh, kw), b (O,) give (N, O, H', W').

    H' = (H - 1) * stride - top - bottom + dilation * (kh - 1) + output_padding + 1, as in PyTorch.
    """
    return _conv_transpose2d(x, w, b, stride, padding, output_padding, dilation, groups)


def _conv_transpose2d(
    x: Any, w: Any, bias: Any, stride: Any, padding: Padding, extra: Any, dilation: Any, groups: Any
) -> Node:
    x, w = b.operands(floating(x), floating(w))
    _needs(x, 4, "x", IMAGES)
    _needs(w, 4, "w", "(in, out/groups, kernel height, kernel width)")
    steps, spread, more = pair(stride, "stride"), pair(dilation, "dilation"), pair(extra, "output_padding", 0)
    count = _groups(groups)
    if x.shape[1] != w.shape[0] or w.shape[0] % count:
        raise ShapeError(f"x has {x.shape[1]} channels, w takes {w.shape[0]} in {count} groups")
    if padding == "same":
        raise ShapeError('padding "same" is not defined here: give numbers')
    if more[0] >= steps[0] or more[1] >= steps[1]:
        raise ShapeError(f"output_padding {more} must be smaller than stride {steps}")
    border = _padding(padding, x.shape[2:], (w.shape[2], w.shape[3]), steps, spread)
    sizes = [
        (x.shape[2 + i] - 1) * steps[i] - sum(border[i]) + spread[i] * (w.shape[2 + i] - 1) + more[i] + 1
        for i in (0, 1)
    ]
    if min(sizes) < 1:
        raise ShapeError(f"padding {border} leaves nothing of an image of {x.shape[2:]}")
    shape = (x.shape[0], w.shape[1] * count, *sizes)
    attrs = {"stride": steps, "padding": border, "dilation": spread, "groups": count, "shape": shape}
    return _add_bias(b.apply("conv2d_input", x, w, **attrs), bias)


def _window(x: Node, kernel: Any, stride: Any, padding: Padding) -> dict[str, Any]:
    _needs(x, 4, "x", IMAGES)
    size = pair(kernel, "kernel")
    steps = size if stride is None else pair(stride, "stride")
    border = _padding(padding, x.shape[2:], size, steps, (1, 1))
    if any(p >= k for both, k in zip(border, size, strict=True) for p in both):
        raise ShapeError(f"padding {border} must be smaller than the kernel {size}")
    if any(k > n + sum(both) for k, n, both in zip(size, x.shape[2:], border, strict=True)):
        raise ShapeError(f"the window {size} is larger than the padded image {x.shape[2:]}")
    return {"kernel": size, "stride": steps, "padding": border}


@traced
def max_pool2d(x: Any, kernel: Any, stride: Any = None, padding: Padding = 0) -> Node:
    """The largest element of each window of x (N, C, H, W); stride None: the kernel; padding is -inf."""
    return _max_pool(node(x), kernel, stride, padding)


def _max_pool(x: Node, kernel: Any, stride: Any, padding: Padding) -> Node:
    window = _window(x, kernel, stride, padding)
    return b.apply("pool_gather", x, b.apply("max_pool_index", x, **window), **window)


@traced
def avg_pool2d(x: Any, kernel: Any, stride: Any = None, padding: Padding = 0, count_include_pad: bool = True) -> Node:
    """The mean of each window of x (N, C, H, W); stride None: the kernel; padding is 0 or not counted."""
    return _avg_pool(floating(x), kernel, stride, padding, count_include_pad)


def _avg_pool(x: Node, kernel: Any, stride: Any, padding: Padding, count_include_pad: bool) -> Node:
    window = _window(x, kernel, stride, padding)
    total = b.apply("window_sum", x, **window)
    area = window["kernel"][0] * window["kernel"][1]
    if count_include_pad or window["padding"] == ((0, 0), (0, 0)):
        return b.mul(total, 1 / area)
    rows, columns = (_covered(x.shape[2 + i], total.shape[2 + i], window, i) for i in (0, 1))
    return b.mul(total, constant((1 / np.outer(rows, columns)).astype(x.dtype)))


def _covered(size: int, results: int, window: dict[str, Any], axis: int) -> np.ndarray:
    """How many pixels of the image each window position covers along an axis."""
    start = np.arange(results) * window["stride"][axis] - window["padding"][axis][0]
    return np.minimum(start + window["kernel"][axis], size) - np.maximum(start, 0)


def _line_window(x: Node, kernel: Any, stride: Any, padding: Padding) -> tuple[Node, Any, Any, Padding]:
    _needs(x, 3, "x", SEQUENCES)
    steps = None if stride is None else (1, integer(stride, "stride"))
    return _as_image(x), (1, integer(kernel, "kernel")), steps, _line(padding)


@traced
def max_pool1d(x: Any, kernel: int, stride: int | None = None, padding: Padding = 0) -> Node:
    """The largest element of each window of x (N, C, L); stride None is the kernel."""
    return _flat(_max_pool(*_line_window(node(x), kernel, stride, padding)))


@traced
def avg_pool1d(
    x: Any, kernel: int, stride: int | None = None, padding: Padding = 0, count_include_pad: bool = True
) -> Node:
    """The mean of each window of x (N, C, L); stride None is the kernel."""
    return _flat(_avg_pool(*_line_window(floating(x), kernel, stride, padding), count_include_pad))


@traced
def global_avg_pool2d(x: Any, keepdims: bool = False) -> Node:
    """The mean of each channel: (N, C, H, W) to (N, C)."""
    x = node(x)
    _needs(x, 4, "x", IMAGES)
    return mean(x, (2, 3), keepdims)


@traced
def global_max_pool2d(x: Any, keepdims: bool = False) -> Node:
    """The largest element of each channel: (N, C, H, W) to (N, C)."""
    x = node(x)
    _needs(x, 4, "x", IMAGES)
    return max_over(x, (2, 3), keepdims)
