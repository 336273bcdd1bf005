"""Run one kernel on literal operands: constant folding for the compiler, which itself touches no arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Literal = tuple[bytes, tuple[int, ...], str]


def _view(op: str, x: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    if op == "reshape":
        return x.reshape(attrs["shape"])
    if op == "transpose":
        return x.transpose(attrs["perm"])
    if op == "broadcast_to":
        return np.broadcast_to(x, attrs["shape"])
    axes = zip(attrs["starts"], attrs["sizes"], attrs["steps"], strict=True)
    return x[np.ix_(*(start + step * np.arange(size) for start, size, step in axes))]


def evaluate(
    op: str,
    kernel: Callable[..., Any] | None,
    operands: Sequence[Literal],
    out: Any,
    attrs: Mapping[str, Any],
    scratch: Callable[..., int] | None,
) -> bytes:
    """The C-order bytes of ``op`` applied to ``operands``; ``out`` has .shape and .dtype. Views have no kernel."""
    arrays = [np.frombuffer(data, dtype).reshape(shape) for data, shape, dtype in operands]
    with np.errstate(all="ignore"):
        if kernel is None:
            return np.ascontiguousarray(_view(op, arrays[0], attrs)).tobytes()
        result = np.empty(out.shape, out.dtype)
        extra = {"scratch": np.empty(scratch(arrays, attrs), np.uint8)} if scratch else {}
        for function, arguments in kernel(result, *arrays, **{**attrs, **extra}):
            function(*arguments)
        return result.tobytes()
