"""Carving typed temporaries out of one flat scratch buffer that the memory plan owns."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from graphnet.kernels.numpy.call import Array

ALIGNMENT = 64

Spec = tuple[tuple[int, ...], Any]


def _bytes(spec: Spec) -> int:
    shape, dtype = spec
    return -(-prod(shape) * np.dtype(dtype).itemsize // ALIGNMENT) * ALIGNMENT


def carve_bytes(*specs: Spec) -> int:
    """Bytes of scratch `carve` needs for arrays of these (shape, dtype), however the buffer is aligned."""
    total = sum(map(_bytes, specs))
    return total + ALIGNMENT if total else 0


def carve(scratch: Array, *specs: Spec) -> list[Array]:
    """Split a flat uint8 buffer into C-contiguous arrays of the given (shape, dtype), each 64-byte aligned.

    Raises ValueError if the buffer is smaller than they need.
    """
    start = -scratch.ctypes.data % ALIGNMENT
    views: list[Array] = []
    for shape, dtype in specs:
        size = prod(shape) * np.dtype(dtype).itemsize
        if start + size > scratch.size and size:
            raise ValueError(f"scratch of {scratch.size} bytes is too small for {specs}")
        views.append(np.ndarray(shape, dtype, scratch, start) if size else np.empty(shape, dtype))
        start += _bytes((shape, dtype))
    return views
