"""Losses that are read when they are asked for: a step on a GPU returns before it is done."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from graphnet.compiler.errors import GraphnetError


class Loss:
    """A number that the device may still be computing.

    It behaves as the float it will be: ``float(loss)``, ``f"{loss:.4f}"``, comparisons, arithmetic and
    ``np.asarray`` wait for the device, once. It raises what went wrong in its step, DataError for an index out of
    range. What must have a float (``json.dumps``, say) is given ``float(loss)``.
    """

    __slots__ = ("__weakref__", "_error", "_settle", "_value")

    def __init__(self, settle: Callable[[], None]) -> None:
        """``settle`` sees to it that ``set`` or ``fail`` is called."""
        self._settle: Callable[[], None] | None = settle
        self._value = 0.0
        self._error: GraphnetError | None = None

    @property
    def read(self) -> bool:
        """Whether the value is known here."""
        return self._settle is None

    def set(self, value: float) -> None:
        self._value, self._settle = value, None

    def fail(self, error: GraphnetError) -> None:
        self._error, self._settle = error, None

    def item(self) -> float:
        """The loss, once its step is done."""
        if self._settle is not None:
            self._settle()
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        return self._value

    def __float__(self) -> float:
        return self.item()

    def __repr__(self) -> str:
        return repr(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.item(), dtype)

    def __reduce__(self) -> Any:
        return float, (self.item(),)

    def __hash__(self) -> int:
        return hash(self.item())


def _as_float(name: str) -> Callable[..., Any]:
    """The float's method of this name, on the values of losses."""
    own = getattr(float, name)

    @functools.wraps(own)
    def method(self: Loss, *others: Any) -> Any:
        return own(self.item(), *(o.item() if isinstance(o, Loss) else o for o in others))

    return method


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow")
_METHODS = [f"__{side}{name}__" for name in _BINARY for side in ("", "r")]
_METHODS += [f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs", "bool", "int")]
_METHODS += [f"__{name}__" for name in ("round", "trunc", "floor", "ceil")]
for _name in _METHODS:
    setattr(Loss, _name, _as_float(_name))
numbers.Real.register(Loss)
