"""The types every NumPy kernel is written in.

A kernel runs once, at bind time, on the arrays it will work on for good. It returns the flat list of calls
that do the work; a step of the schedule is `for function, arguments in calls: function(*arguments)` and
nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Call = tuple[Callable[..., object], tuple[object, ...]]
Kernel = Callable[..., list[Call]]
Attrs = Mapping[str, Any]


class ArrayType(Protocol):
    """What a scratch function needs to know of an input: `compiler.ir.Type` and `numpy.ndarray` both fit."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...


ScratchSize = Callable[[Sequence[ArrayType], Attrs], int]


def run(calls: Sequence[Call]) -> None:
    """Execute calls in order; the runtime inlines this loop."""
    for function, arguments in calls:
        function(*arguments)


def same_memory(out: Array, x: Array) -> bool:
    """Whether x starts where out does, so that it is the same view: other overlaps a kernel never gets."""
    return bool(out.ctypes.data == x.ctypes.data and x.size)


def assign(out: Array, x: Array) -> Call:
    """out = x, of one dtype: np.copyto, but that copies x first where only the bounds of the two overlap."""
    if same_memory(out, x) or not np.may_share_memory(out, x):
        return np.copyto, (out, x)
    bits = np.dtype(f"u{out.itemsize}")
    return np.bitwise_or, (x.view(bits), x.view(bits), out.view(bits))


def scalar(value: object, dtype: Any) -> Array:
    """A 0-d constant, made at bind so that no call converts a Python number."""
    return np.array(value, dtype=dtype)
