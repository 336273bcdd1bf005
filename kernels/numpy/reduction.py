"""Reductions along axes, and cumulative sums.

The order of every sum is fixed by the layout of its input: pairwise along a contiguous axis, one after
another along the others.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphnet.kernels.numpy.blocks import blocks
from graphnet.kernels.numpy.call import Array, ArrayType, Attrs, Call, Kernel
from graphnet.kernels.numpy.scratch import Spec, carve, carve_bytes

_BLOCK = 32768


def _reduction(name: str, function: Callable[..., Any]) -> Kernel:
    """Accumulates in out's dtype."""

    def kernel(out: Array, x: Array, axes: tuple[int, ...], keepdims: bool = False) -> list[Call]:
        if not axes:
            return [(np.copyto, (out, x, "unsafe"))]
        return [(function, (x, axes, out.dtype, out, keepdims))]

    kernel.__name__ = kernel.__qualname__ = name
    return kernel


def _argument_specs(shape: tuple[int, ...], dtype: Any, axis: int) -> list[Spec]:
    length = shape[axis]
    rows = 1 + (builtins.min(_BLOCK, math.prod(shape)) - 1) // length if math.prod(shape) else 0
    return [((rows * length,), dtype), ((rows,), np.intp)]


def lowest(dtype: Any) -> Any:
    """What no number of dtype is below."""
    kind = np.dtype(dtype).kind
    return -np.inf if kind == "f" else False if kind == "b" else np.iinfo(dtype).min


def highest(dtype: Any) -> Any:
    """What no number of dtype is above."""
    kind = np.dtype(dtype).kind
    return np.inf if kind == "f" else True if kind == "b" else np.iinfo(dtype).max


def _extreme(name: str, function: Callable[..., Any], worst: Callable[[Any], Any]) -> Kernel:
    """NaN wins; axes are not empty.

    The initial value is for NumPy 1.26, which without it misses an element of a reversed axis.
    """

    def kernel(out: Array, x: Array, axes: tuple[int, ...], keepdims: bool = False) -> list[Call]:
        if not axes:
            return [(np.copyto, (out, x))]
        return [(function, (x, axes, out.dtype, out, keepdims, worst(out.dtype)))]

    kernel.__name__ = kernel.__qualname__ = name
    return kernel


sum = _reduction("sum", np.add.reduce)
prod = _reduction("prod", np.multiply.reduce)
max = _extreme("max", np.maximum.reduce, lowest)
min = _extreme("min", np.minimum.reduce, highest)
all = _reduction("all", np.logical_and.reduce)


def argument_scratch(in_types: Sequence[ArrayType], attrs: Attrs) -> int:
    """Bytes for one block of rows laid out contiguously, and for their indices."""
    (x,) = in_types
    return carve_bytes(*_argument_specs(x.shape, x.dtype, attrs["axis"]))


def _argument(name: str) -> Kernel:
    """The first index on ties, NaN before all; out is int32 or int64.

    NumPy's own argmax would copy all of a strided input; in blocks of rows the copies go to scratch.
    """

    def kernel(out: Array, x: Array, axis: int, scratch: Array, keepdims: bool = False) -> list[Call]:
        last, length = np.moveaxis(x, axis, -1)[np.newaxis], x.shape[axis]
        target = (np.squeeze(out, axis) if keepdims else out)[np.newaxis]
        rows_buffer, found_buffer = carve(scratch, *_argument_specs(x.shape, x.dtype, axis))
        calls: list[Call] = []
        for index in blocks(last.shape[:-1], builtins.max(1, found_buffer.size)):
            source, into = last[index], target[index]
            found = found_buffer[: into.size].reshape(into.shape)
            if not source.flags.c_contiguous:
                rows = rows_buffer[: source.size].reshape(source.shape)
                calls.append((np.copyto, (rows, source)))
                source = rows
            calls.append((getattr(source.reshape(-1, length), name), (1, found.reshape(-1))))
            calls.append((np.copyto, (into, found, "unsafe")))
        return calls

    kernel.__name__ = kernel.__qualname__ = name
    return kernel


argmax = _argument("argmax")
argmin = _argument("argmin")


def cumsum(out: Array, x: Array, axis: int, reverse: bool = False) -> list[Call]:
    """out[i] = sum of x[: i + 1] along axis, or of x[i:] if reverse."""
    if reverse:
        out, x = np.flip(out, axis), np.flip(x, axis)
    return [(np.add.accumulate, (x, axis, out.dtype, out))]
