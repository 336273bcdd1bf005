"""Layers: ``@model`` functions that declare their parameters where they are called.

Parameters take the dtype of the input (float32 for integer inputs) and are named under the layer's scope:
``lenet/conv2d_1/w``. Every layer takes ``name=`` for a scope of its own. ``init`` is what ``gn.param`` takes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphnet import functions as F
from graphnet import init as initialisers
from graphnet.compiler.errors import DTypeError, ShapeError, TraceError
from graphnet.compiler.ir import FLOATS
from graphnet.control import scan
from graphnet.tensor import Tensor, as_node, user_where
from graphnet.trace import model, param, random_uniform, state, training

Cell = Callable[[tuple[Tensor, ...], Tensor], tuple[tuple[Tensor, ...], Tensor]]


def _input(layer: str, x: Any, ndims: Sequence[int], layout: str) -> Tensor:
    """``x`` as a tensor with one of these numbers of axes (none: at least one)."""
    x = x if isinstance(x, Tensor) else Tensor(as_node(x))
    if x.ndim == 0 or (ndims and x.ndim not in ndims):
        raise ShapeError(f"{user_where()}: {layer}: the input must be {layout}, got shape {x.shape}")
    return x


def _size(layer: str, what: str, value: Any, least: int = 1) -> int:
    try:
        size = operator.index(value)
    except TypeError:
        raise ShapeError(f"{user_where()}: {layer}: {what} must be an integer, got {value!r}") from None
    if size < least:
        raise ShapeError(f"{user_where()}: {layer}: {what} must be at least {least}, got {size}")
    return size


def _rate(layer: str, what: str, value: Any) -> float:
    """A Python number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise TraceError(f"{user_where()}: {layer}: {what} must be a number in [0, 1), got {value!r}")
    return float(value)


def _float_dtype(x: Tensor) -> str:
    return x.dtype if x.dtype in FLOATS else "float32"


@model
def dense(x: Any, units: int, bias: bool = True, init: Any = None, bias_init: Any = 0.0) -> Tensor:
    """x @ w + b: (..., features) to (..., units), with w (features, units) and b (units,).

    w starts as glorot_uniform unless ``init`` says otherwise.
    """
    x = _input("dense", x, (), "(..., features)")
    units, dtype = _size("dense", "units", units), _float_dtype(x)
    y = F.matmul(x, param("w", (x.shape[-1], units), init, dtype))
    return y + param("b", (units,), bias_init, dtype) if bias else y


@model
def conv2d(
    x: Any,
    filters: int,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = True,
    init: Any = None,
    bias_init: Any = 0.0,
) -> Tensor:
    """Cross-correlation of images: (N, C, H, W) to (N, filters, H', W'), with w (filters, C/groups, kh, kw).

    ``padding`` is what gn.conv2d takes: an int, a pair, ((top, bottom), (left, right)), "same" or "valid".
    """
    x = _input("conv2d", x, (4,), "(batch, channels, height, width)")
    shape = _filter_shape("conv2d", x, filters, kernel, groups, 2)
    return _convolve(F.conv2d, x, shape, stride, padding, dilation, groups, bias, init, bias_init)


@model
def conv1d(
    x: Any,
    filters: int,
    kernel: int,
    stride: int = 1,
    padding: Any = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    init: Any = None,
    bias_init: Any = 0.0,
) -> Tensor:
    """Cross-correlation of lines: (N, C, L) to (N, filters, L'), with w (filters, C/groups, kernel)."""
    x = _input("conv1d", x, (3,), "(batch, channels, length)")
    shape = _filter_shape("conv1d", x, filters, kernel, groups, 1)
    return _convolve(F.conv1d, x, shape, stride, padding, dilation, groups, bias, init, bias_init)


def _convolve(
    function: Callable[..., Tensor],
    x: Tensor,
    shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    bias: bool,
    init: Any,
    bias_init: Any,
) -> Tensor:
    dtype = _float_dtype(x)
    w = param("w", shape, init, dtype)
    b = param("b", shape[:1], bias_init, dtype) if bias else None
    return function(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _filter_shape(layer: str, x: Tensor, filters: Any, kernel: Any, groups: Any, axes: int) -> tuple[int, ...]:
    """(filters, channels / groups, kernel sizes)."""
    filters, groups = _size(layer, "filters", filters), _size(layer, "groups", groups)
    sizes = tuple(kernel) if isinstance(kernel, (tuple, list)) else (kernel,) * axes
    if len(sizes) != axes:
        raise ShapeError(f"{user_where()}: {layer}: kernel must be {axes} integers or one, got {kernel!r}")
    channels = x.shape[1]
    if channels % groups or filters % groups:
        raise ShapeError(
            f"{user_where()}: {layer}: {channels} channels and {filters} filters do not divide into {groups} groups"
        )
    return (filters, channels // groups, *(_size(layer, "kernel", k) for k in sizes))


@model
def embedding(ids: Any, vocabulary: int, size: int, init: Any = None, dtype: str = "float32") -> Tensor:
    """Rows of a table w (vocabulary, size) by integer id: (...) to (..., size).

    w starts uniform in [-0.1, 0.1) unless ``init`` says otherwise.
    """
    ids = ids if isinstance(ids, Tensor) else Tensor(as_node(ids))
    if ids.dtype in FLOATS or ids.dtype == "bool":
        raise DTypeError(f"{user_where()}: embedding: ids are {ids.dtype}, need integers: cast with .astype('int32')")
    shape = (_size("embedding", "vocabulary", vocabulary), _size("embedding", "size", size))
    table = param("w", shape, initialisers.uniform() if init is None else init, dtype)
    return F.take(table, ids, axis=0)


@model
def dropout(x: Any, rate: float) -> Tensor:
    """While training, zero each element with probability ``rate`` and divide the others by 1 - rate.

    For inference x itself (inverted dropout; Srivastava et al., JMLR 2014). ``rate`` is a number in [0, 1).
    """
    x = x if isinstance(x, Tensor) else Tensor(as_node(x))
    rate = _rate("dropout", "rate", rate)
    if rate == 0 or not training():
        return x
    # drawn in float32 whatever the dtype of x, so that checks in float64 drop the same elements
    kept = random_uniform(x.shape) >= rate
    return F.where(kept, x * (1 / (1 - rate)), 0.0)


@model
def batch_norm(x: Any, momentum: float = 0.9, eps: float = 1e-5, axis: int = 1) -> Tensor:
    """(x - mean) / sqrt(var + eps) * scale + shift for each channel of ``axis`` (Ioffe, Szegedy, ICML 2015).

    While training, mean and var are those of the batch over all other axes, and the states mean and var move:
    running = momentum * running + (1 - momentum) * batch. For inference the states are used. As in PyTorch,
    the batch is normalised by its biased variance and the running variance collects the unbiased one. The
    momentum is the share of the old value, as in Keras; PyTorch's is 1 minus this.
    """
    x = _input("batch_norm", x, (), "(batch, channels, ...)")
    momentum = _rate("batch_norm", "momentum", momentum)
    if x.ndim < 2 or not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"{user_where()}: batch_norm: an input of shape {x.shape} has no channel axis {axis}")
    axis, dtype = axis % x.ndim, _float_dtype(x)
    channels = x.shape[axis]
    across = tuple(1 if i != axis else channels for i in range(x.ndim))
    scale, shift = param("scale", (channels,), 1.0, dtype), param("shift", (channels,), 0.0, dtype)
    running_mean, running_var = state("mean", (channels,), 0.0, dtype), state("var", (channels,), 1.0, dtype)
    mean, var = running_mean, running_var
    if training():
        mean, var, unbiased = _batch_moments(x, axis)
        running_mean.assign(running_mean * momentum + mean * (1 - momentum))
        running_var.assign(running_var * momentum + unbiased * (1 - momentum))
    factor = scale * F.rsqrt(var + eps)
    return (x - F.reshape(mean, across)) * F.reshape(factor, across) + F.reshape(shift, across)


def _batch_moments(x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased and unbiased variance of each channel."""
    others = tuple(i for i in range(x.ndim) if i != axis)
    count = math.prod(x.shape[i] for i in others)
    if count < 2:
        raise ShapeError(
            f"{user_where()}: batch_norm: training needs two values or more a channel, the input has shape {x.shape}"
        )
    centred = x - F.mean(x, others, keepdims=True)
    squares = F.sum(F.square(centred), others)
    return F.mean(x, others), squares / count, squares / (count - 1)


@model
def layer_norm(x: Any, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * scale + shift over the last axis, biased variance (Ba et al., 2016).

    scale and shift have the size of the last axis.
    """
    x = _input("layer_norm", x, (), "(..., features)")
    size, dtype = x.shape[-1], _float_dtype(x)
    centred = x - F.mean(x, -1, keepdims=True)
    factor = F.rsqrt(F.mean(F.square(centred), -1, keepdims=True) + eps)
    return centred * factor * param("scale", (size,), 1.0, dtype) + param("shift", (size,), 0.0, dtype)


def _gates(
    layer: str, x: Any, units: Any, gates: int, init: Any, bias_init: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The input, and the parameters wx (features, gates*units), wh (units, gates*units), b (gates*units,)."""
    x = _input(layer, x, (3,), "(batch, time, features)")
    units, dtype = _size(layer, "units", units), _float_dtype(x)
    wx = param("wx", (x.shape[-1], gates * units), init, dtype)
    wh = param("wh", (units, gates * units), init, dtype)
    return x, wx, wh, param("b", (gates * units,), bias_init, dtype)


def _loop(
    layer: str,
    cell: Cell,
    x: Tensor,
    wh: Tensor,
    initial: Sequence[Any] | None,
    names: Sequence[str],
    stateful: bool,
    reverse: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run ``cell`` along the time axis of ``x``; gives (batch, time, units) and the last carry."""
    shape, dtype = (x.shape[0], wh.shape[0]), wh.dtype
    states = [state(name, shape, 0.0, dtype) for name in names] if stateful else []
    carry = tuple(states) or tuple(F.zeros(shape, dtype) for _ in names)
    if initial is not None:
        carry = _initial(layer, initial, shape, names, stateful)
    last, ys = scan(cell, carry, F.transpose(x, (1, 0, 2)), reverse=reverse)
    for kept, value in zip(states, last, strict=False):
        kept.assign(value)
    return F.transpose(ys, (1, 0, 2)), last


def _initial(
    layer: str, initial: Sequence[Any], shape: tuple[int, int], names: Sequence[str], stateful: bool
) -> tuple[Tensor, ...]:
    if stateful:
        raise TraceError(f"{user_where()}: {layer}: give initial= or stateful=True, not both")
    if not isinstance(initial, (tuple, list)) or len(initial) != len(names):
        raise ShapeError(f"{user_where()}: {layer}: initial must be ({', '.join(names)})")
    found = tuple(v if isinstance(v, Tensor) else Tensor(as_node(v)) for v in initial)
    for name, value in zip(names, found, strict=True):
        if value.shape != shape:
            raise ShapeError(f"{user_where()}: {layer}: initial {name} has shape {value.shape}, it needs {shape}")
    return found


@model
def rnn(
    x: Any,
    units: int,
    activation: Callable[[Tensor], Tensor] = F.tanh,
    initial: Any = None,
    return_state: bool = False,
    stateful: bool = False,
    reverse: bool = False,
    init: Any = None,
    bias_init: Any = 0.0,
) -> Any:
    """Simple recurrent layer (Elman 1990): (batch, time, features) to (batch, time, units).

        h[t] = activation(x[t] @ wx + b + h[t-1] @ wh)

    ``initial`` is h before the first step (batch, units), else zeros; ``return_state`` gives (hs, last h);
    ``stateful`` keeps the state ``h`` from call to call; ``reverse`` runs from the last step to the first.
    """
    x, wx, wh, b = _gates("rnn", x, units, 1, init, bias_init)

    def cell(carry: tuple[Tensor, ...], row: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        h = activation((F.matmul(row, wx) + b) + F.matmul(carry[0], wh))
        return (h,), h

    start = None if initial is None else (initial,)
    hs, last = _loop("rnn", cell, x, wh, start, ("h",), stateful, reverse)
    return (hs, last[0]) if return_state else hs


@model
def gru(
    x: Any,
    units: int,
    initial: Any = None,
    return_state: bool = False,
    stateful: bool = False,
    reverse: bool = False,
    init: Any = None,
    bias_init: Any = 0.0,
) -> Any:
    """Gated recurrent unit (Cho et al., 2014): (batch, time, features) to (batch, time, units).

        r = sigmoid(x @ wx_r + b_r + h @ wh_r)           z = sigmoid(x @ wx_z + b_z + h @ wh_z)
        n = tanh(x @ wx_n + b_n + r * (h @ wh_n + bh))   h' = (1 - z) * n + z * h

    wx (features, 3*units), wh (units, 3*units) and b (3*units,) hold the gates r, z, n side by side; bh is
    (units,). These are PyTorch's formulas, its two biases of r and of z added up. Options as for ``rnn``.
    """
    x, wx, wh, b = _gates("gru", x, units, 3, init, bias_init)
    bh = param("bh", (wh.shape[0],), bias_init, wh.dtype)

    def cell(carry: tuple[Tensor, ...], row: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        (h,) = carry
        xr, xz, xn = F.split(F.matmul(row, wx) + b, 3, axis=-1)
        hr, hz, hn = F.split(F.matmul(h, wh), 3, axis=-1)
        n = F.tanh(xn + F.sigmoid(xr + hr) * (hn + bh))
        h = n + F.sigmoid(xz + hz) * (h - n)
        return (h,), h

    start = None if initial is None else (initial,)
    hs, last = _loop("gru", cell, x, wh, start, ("h",), stateful, reverse)
    return (hs, last[0]) if return_state else hs


@model
def lstm(
    x: Any,
    units: int,
    initial: Any = None,
    return_state: bool = False,
    stateful: bool = False,
    reverse: bool = False,
    init: Any = None,
    forget_bias: float = 1.0,
) -> Any:
    """Long short-term memory (Hochreiter, Schmidhuber 1997): (batch, time, features) to (batch, time, units).

        i, f, g, o = x @ wx + b + h @ wh, side by side
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)       h' = sigmoid(o) * tanh(c')

    wx is (features, 4*units), wh (units, 4*units), b (4*units,): zeros but for f, which starts at
    ``forget_bias`` (Jozefowicz et al., ICML 2015). ``initial`` is (h, c), both (batch, units);
    ``return_state`` gives (hs, (h, c)); ``stateful`` keeps the states ``h`` and ``c`` from call to call;
    ``reverse`` runs from the last step to the first.
    """
    units = _size("lstm", "units", units)
    bias = np.repeat([0.0, float(forget_bias), 0.0, 0.0], units)
    x, wx, wh, b = _gates("lstm", x, units, 4, init, bias)

    def cell(carry: tuple[Tensor, ...], row: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        h, c = carry
        i, f, g, o = F.split((F.matmul(row, wx) + b) + F.matmul(h, wh), 4, axis=-1)
        c = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
        h = F.sigmoid(o) * F.tanh(c)
        return (h, c), h

    hs, last = _loop("lstm", cell, x, wh, initial, ("h", "c"), stateful, reverse)
    return (hs, last) if return_state else hs
