"""Mappings from names to live arrays: what ``net.params``, ``net.states`` and ``net.grads`` are.

The arrays are the backend's: NumPy's, or those of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import numpy as np

from graphnet.compiler.errors import DataError, DTypeError, NameError_, ShapeError
from graphnet.data import OnDevice
from graphnet.tensor import user_where


def as_array(value: Any) -> np.ndarray:
    """``value`` as a NumPy array.

    Raises ShapeError for nested lists whose rows have different lengths, DTypeError for an array on a GPU, DataError
    for a data set on the device.
    """
    if type(value) is np.ndarray:
        return value
    if isinstance(value, OnDevice):
        raise DataError(
            f"{user_where()}: a data set on the device is for net.fit and net.evaluate: give arrays here, its .arrays"
        )
    device = getattr(value, "__dlpack_device__", None)
    if device is not None and int(device()[0]) not in _HOST:
        raise DTypeError(
            f"{user_where()}: an argument is a {type(value).__name__} on a GPU, the net is on the CPU: compile it "
            f"with device='cuda', or give a NumPy array"
        )
    try:
        return np.asarray(value)
    except ValueError:
        raise ShapeError(f"{user_where()}: a nested list whose rows have different lengths is no array") from None


_HOST = (1, 3)
"""What DLPack calls host memory, pinned or not."""

Write = Callable[[Any, Any], None]


class Arrays(MutableMapping[str, Any]):
    """Names to live arrays. Assigning copies into the array: ``net.params[name] = values``."""

    def __init__(self, arrays: dict[str, Any], kind: str, write: Write) -> None:
        """``write(array, value)`` puts a value of the same shape into an array."""
        self._arrays = arrays
        self._kind = kind
        self._write = write

    def __getitem__(self, name: str) -> Any:
        if name not in self._arrays:
            known = ", ".join(self._arrays) or "none"
            raise NameError_(f"{user_where()}: {self._kind} {name!r} is unknown: there are {known}")
        return self._arrays[name]

    def __setitem__(self, name: str, value: Any) -> None:
        target = self[name]
        new = value if type(value) is type(target) else as_array(value)
        if new.shape != target.shape:
            where = user_where()
            raise ShapeError(f"{where}: {self._kind} {name!r} has shape {target.shape}, the value {new.shape}")
        if new.dtype.kind not in "fiub":
            raise DTypeError(f"{user_where()}: {self._kind} {name!r} is {target.dtype}, the value {new.dtype}")
        self._write(target, new)

    def __delitem__(self, name: str) -> None:
        raise NameError_(f"{user_where()}: {self._kind} {name!r} belongs to the net and cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        rows = (f"  {n}: {a.dtype}({', '.join(map(str, a.shape))})" for n, a in self._arrays.items())
        return "{\n" + "\n".join(rows) + "\n}"
