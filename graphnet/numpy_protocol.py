"""NumPy functions on traced tensors: ``np.tanh(t)`` becomes ``gn.tanh(t)`` through NumPy's own protocols."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from graphnet import functions as F
from graphnet.compiler.errors import TraceError
from graphnet.operators import boolean_only
from graphnet.tensor import user_where

# NumPy name -> graphnet name where they differ
RENAMED = {
    "true_divide": "divide",
    "absolute": "abs",
    "fabs": "abs",
    "remainder": "mod",
    "rint": "round",
    "around": "round",
    "concatenate": "concat",
    "amax": "max",
    "amin": "min",
    "float_power": "power",
    "acos": "arccos",
    "asin": "arcsin",
    "atan": "arctan",
    "pow": "power",
}

BITWISE = {
    "bitwise_and": ("&", "logical_and"),
    "bitwise_or": ("|", "logical_or"),
    "bitwise_xor": ("^", "logical_xor"),
    "invert": ("~", "logical_not"),
}


def _find(name: str) -> Callable[..., Any]:
    function = getattr(F, RENAMED.get(name, name), None)
    if function is None or name.startswith("_"):
        raise TraceError(
            f"{user_where()}: np.{name} has no traced form: use the gn functions (gn.{name} does not exist)"
        )
    found: Callable[..., Any] = function
    return found


def ufunc(function: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``np.tanh(t)``, ``array + t``, ``np.add.reduce(t)``."""
    if method == "reduce" and function.__name__ in ("add", "maximum", "minimum", "multiply"):
        name = {"add": "sum", "maximum": "max", "minimum": "min", "multiply": "prod"}[function.__name__]
        allowed = {k: v for k, v in kwargs.items() if k in ("axis", "keepdims")}
        return _find(name)(*inputs, **{"axis": 0, **allowed})
    if method != "__call__" or any(v is not None for v in kwargs.values()):
        extra = ", ".join(kwargs) or method
        raise TraceError(f"{user_where()}: np.{function.__name__}: {extra} is not supported on a traced tensor")
    if function.__name__ in BITWISE:
        symbol, name = BITWISE[function.__name__]
        return boolean_only(symbol, _find(name))(*inputs)
    return _find(function.__name__)(*inputs)


def function(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``np.sum(t, axis=1)``, ``np.concatenate([t, u])``."""
    found = _find(func.__name__)
    try:
        inspect.signature(found).bind(*args, **kwargs)
    except TypeError as error:
        raise TraceError(f"{user_where()}: np.{func.__name__} on a traced tensor: {error}") from None
    return found(*args, **kwargs)
