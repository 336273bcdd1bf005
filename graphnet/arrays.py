"""Mappings from names to live arrays: what ``net.params``, ``net.states`` and ``net.grads`` are."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import numpy as np

from graphnet.compiler.errors import DTypeError, NameError_, ShapeError
from graphnet.tensor import user_where


def as_array(value: Any) -> np.ndarray:
    """``value`` as an array; raises ShapeError for nested lists whose rows have different lengths."""
    try:
        return np.asarray(value)
    except ValueError:
        raise ShapeError(f"{user_where()}: a nested list whose rows have different lengths is no array") from None


class Arrays(MutableMapping[str, np.ndarray]):
    """Names to live arrays. Assigning copies into the array: ``net.params[name] = values``."""

    def __init__(self, arrays: dict[str, np.ndarray], kind: str) -> None:
        self._arrays = arrays
        self._kind = kind

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            known = ", ".join(self._arrays) or "none"
            raise NameError_(f"{user_where()}: {self._kind} {name!r} is unknown: there are {known}")
        return self._arrays[name]

    def __setitem__(self, name: str, value: Any) -> None:
        target, new = self[name], as_array(value)
        if new.shape != target.shape:
            where = user_where()
            raise ShapeError(f"{where}: {self._kind} {name!r} has shape {target.shape}, the value {new.shape}")
        if new.dtype.kind not in "fiub":
            raise DTypeError(f"{user_where()}: {self._kind} {name!r} is {target.dtype}, the value {new.dtype}")
        np.copyto(target, new, casting="same_kind" if new.dtype.kind == target.dtype.kind else "unsafe")

    def __delitem__(self, name: str) -> None:
        raise NameError_(f"{user_where()}: {self._kind} {name!r} belongs to the net and cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        rows = (f"  {n}: {a.dtype}({', '.join(map(str, a.shape))})" for n, a in self._arrays.items())
        return "{\n" + "\n".join(rows) + "\n}"
