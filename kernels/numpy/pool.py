"""Pooling over windows, in pieces that gradients of any order are made of.

Windows of kernel (kh, kw) every `stride` elements over x (N, C, H, W) with padding ((pt, pb), (pl, pr)) give
outputs (N, C, oh, ow). Padding is never chosen by a maximum and counts as zero in a sum. Choices are
branchless: a 0 or -1 mask is and-ed with the bits of the numbers, since masked copies mispredict on every
window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from graphnet.kernels.numpy.call import Array, ArrayType, Attrs, Call, scalar
from graphnet.kernels.numpy.reduction import lowest
from graphnet.kernels.numpy.scratch import Spec, carve, carve_bytes
from graphnet.kernels.numpy.windows import Padding, Pair, overlaps


def _taps(x: Array, out: Array, kernel: Pair, stride: Pair, padding: Padding) -> Iterator[tuple[int, Array, Any]]:
    """For each element k of a window: what it meets in x, and the index of the outputs that meet it."""
    size, count = (x.shape[2], x.shape[3]), (out.shape[2], out.shape[3])
    for k, (out_y, out_x), (in_y, in_x) in overlaps(size, count, kernel, stride, padding):
        yield k, x[:, :, in_y, in_x], np.s_[:, :, out_y, out_x]


def window_max(out: Array, x: Array, kernel: Pair, stride: Pair, padding: Padding) -> list[Call]:
    """The maximum of each window, NaN if one is in it: max pooling where no gradient needs the choice."""
    calls: list[Call] = [(out.fill, (lowest(out.dtype),))]
    for _, met, where in _taps(x, out, kernel, stride, padding):
        into = out[where]
        calls.append((partial(np.maximum, out=into), (into, met)))
    return calls


def _index_specs(out: tuple[int, ...], dtype: Any) -> list[Spec]:
    return [(out, dtype), (out, np.bool_), (out, np.bool_)]


def _output_shape(x: tuple[int, ...], attrs: Attrs) -> tuple[int, ...]:
    kernel, stride, padding = attrs["kernel"], attrs["stride"], attrs["padding"]
    size = ((x[2 + d] + sum(padding[d]) - kernel[d]) // stride[d] + 1 for d in (0, 1))
    return (*x[:2], *size)


def max_pool_index_scratch(in_types: Sequence[ArrayType], attrs: Attrs) -> int:
    """Bytes for the maxima and two masks, each as large as the output."""
    (x,) = in_types
    return carve_bytes(*_index_specs(_output_shape(x.shape, attrs), x.dtype))


def max_pool_index(out: Array, x: Array, scratch: Array, kernel: Pair, stride: Pair, padding: Padding) -> list[Call]:
    """Which element of its window, 0 to kh * kw - 1 row by row, is its first maximum; a NaN beats all.

    out (N, C, oh, ow) is uint8 or int32: it counts the elements before the first that reaches the maximum.
    """
    best, unreached, below = carve(scratch, *_index_specs(out.shape, x.dtype))
    calls = window_max(best, x, kernel, stride, padding)
    calls += [(unreached.fill, (True,)), (out.fill, (0,))]
    taps = list(_taps(x, out, kernel, stride, padding))
    for _, met, where in taps[:-1]:
        calls.append((np.less, (met, best[where], below[where])))
        calls.append((np.logical_and, (unreached[where], below[where], unreached[where])))
        calls.append((np.add, (out, unreached.view(np.uint8), out)))
    if x.dtype.kind == "f":
        calls.append((_choose_nan, (out, best, below, [(k, met, below[w], out[w]) for k, met, w in taps[::-1]])))
    return calls


def _choose_nan(out: Array, best: Array, mask: Array, taps: list[tuple[int, Array, Array, Array]]) -> None:
    """Nothing is below NaN, so windows that hold one chose wrongly; this is rare and looked for once."""
    np.isnan(best, mask)
    if not mask.any():
        return
    for k, met, is_nan, chosen in taps:
        np.isnan(met, is_nan)
        np.copyto(chosen, k, "unsafe", is_nan)


def _mask_specs(shape: tuple[int, ...], dtype: Any) -> list[Spec]:
    bits = np.dtype(f"i{np.dtype(dtype).itemsize}")
    return [(shape, np.int8), (shape, bits), (shape, bits)]


def _mask_calls(idx: Array, k: int, narrow: Array, wide: Array) -> list[Call]:
    """wide = -1 where idx is k, else 0."""
    return [
        (np.equal, (idx, scalar(k, idx.dtype), narrow.view(np.bool_))),
        (np.negative, (narrow, narrow)),
        (np.copyto, (wide, narrow)),
    ]


def pool_gather_scratch(in_types: Sequence[ArrayType], attrs: Attrs) -> int:
    """Bytes for masks as large as the output."""
    x, idx = in_types
    return carve_bytes(*_mask_specs(idx.shape, x.dtype))


def pool_gather(
    out: Array, x: Array, idx: Array, scratch: Array, kernel: Pair, stride: Pair, padding: Padding
) -> list[Call]:
    """out[n,c,y,z] = the element of x that idx (N, C, oh, ow) names in window (y, z)."""
    narrow, wide, part = carve(scratch, *_mask_specs(idx.shape, x.dtype))
    bits, bits_out = x.view(wide.dtype), out.view(wide.dtype)
    calls: list[Call] = [(bits_out.fill, (0,))]
    for k, met, where in _taps(bits, out, kernel, stride, padding):
        into = bits_out[where]
        calls += _mask_calls(idx[where], k, narrow[where], wide[where])
        calls.append((np.bitwise_and, (met, wide[where], part[where])))
        calls.append((np.bitwise_or, (into, part[where], into)))
    return calls


pool_scatter_scratch = pool_gather_scratch


def pool_scatter(
    out: Array,
    g: Array,
    idx: Array,
    scratch: Array,
    kernel: Pair,
    stride: Pair,
    padding: Padding,
    shape: Any = None,
) -> list[Call]:
    """Adjoint of `pool_gather`: g is added into out (N, C, H, W) where idx points; `shape` repeats out's."""
    narrow, wide, part = carve(scratch, *_mask_specs(idx.shape, g.dtype))
    bits, bits_out, disjoint = g.view(wide.dtype), out.view(wide.dtype), _disjoint(kernel, stride)
    calls: list[Call] = [] if _tiles(out, g, kernel, stride, padding) else [(out.fill, (0,))]
    targets = out if not disjoint else bits_out
    for k, into, where in _taps(targets, g, kernel, stride, padding):
        calls += _mask_calls(idx[where], k, narrow[where], wide[where])
        if disjoint:
            calls.append((np.bitwise_and, (bits[where], wide[where], into)))
        else:
            calls.append((np.bitwise_and, (bits[where], wide[where], part[where])))
            calls.append((np.add, (into, part.view(g.dtype)[where], into)))
    return calls


def _disjoint(kernel: Pair, stride: Pair) -> bool:
    return all(s >= k for k, s in zip(kernel, stride, strict=True))


def _tiles(x: Array, out: Array, kernel: Pair, stride: Pair, padding: Padding) -> bool:
    """Whether every element of x lies in exactly one window."""
    exact = all(x.shape[2 + d] == out.shape[2 + d] * kernel[d] for d in (0, 1))
    return exact and kernel == stride and not any(map(any, padding))


def window_sum(out: Array, x: Array, kernel: Pair, stride: Pair, padding: Padding) -> list[Call]:
    """The sum of each window of x, element by element in row-major order."""
    calls: list[Call] = [(out.fill, (0,))]
    for _, met, where in _taps(x, out, kernel, stride, padding):
        calls.append((np.add, (out[where], met, out[where])))
    return calls


def window_spread(out: Array, g: Array, kernel: Pair, stride: Pair, padding: Padding, shape: Any = None) -> list[Call]:
    """Adjoint of `window_sum`: each element of out (N, C, H, W) sums g over the windows it is in."""
    if _tiles(out, g, kernel, stride, padding):
        return [(np.copyto, (into, g)) for _, into, _ in _taps(out, g, kernel, stride, padding)]
    calls: list[Call] = [(out.fill, (0,))]
    for _, into, where in _taps(out, g, kernel, stride, padding):
        calls.append((np.add, (into, g[where], into)))
    return calls
