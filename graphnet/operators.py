"""Operators and methods of ``Tensor``, set here because they are the public functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphnet import functions as F
from graphnet.compiler.errors import DTypeError
from graphnet.tensor import Tensor, user_where

BINARY: dict[str, Callable[..., Any]] = {
    "add": F.add,
    "sub": F.subtract,
    "mul": F.multiply,
    "truediv": F.divide,
    "floordiv": F.floor_divide,
    "mod": F.mod,
    "pow": F.power,
    "matmul": F.matmul,
}
LOGICAL: dict[str, Callable[..., Any]] = {"and": F.logical_and, "or": F.logical_or, "xor": F.logical_xor}
COMPARE = {
    "lt": F.less,
    "le": F.less_equal,
    "gt": F.greater,
    "ge": F.greater_equal,
    "eq": F.equal,
    "ne": F.not_equal,
}
METHODS = (
    *("sum", "mean", "max", "min", "prod", "var", "std", "argmax", "argmin", "cumsum", "any", "all"),
    *("reshape", "transpose", "swapaxes", "squeeze", "ravel", "repeat", "take", "sort", "argsort"),
    *("astype", "clip", "dot", "round"),
)


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    def operator(self: Tensor, other: Any) -> Any:
        return function(other, self)

    return operator


def boolean_only(symbol: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``&``, ``|``, ``^`` and ``~`` on truth values; on integers they would mean bits, which graphnet lacks."""

    def operator(*operands: Any) -> Any:
        for value in operands:
            if isinstance(value, Tensor) and value.dtype != "bool":
                raise DTypeError(
                    f"{user_where()}: {symbol}: needs truth values, got {value.dtype}: compare first, or use "
                    f"gn.logical_and, gn.logical_or, gn.logical_not"
                )
        return function(*operands)

    return operator


def _shape_method(function: Callable[..., Any]) -> Callable[..., Any]:
    """reshape and transpose take their sizes as one tuple or one by one."""

    def method(self: Tensor, *sizes: Any) -> Any:
        if len(sizes) == 1 and (sizes[0] is None or isinstance(sizes[0], (tuple, list))):
            return function(self, sizes[0])
        return function(self, sizes) if sizes else function(self)

    return method


def install() -> None:
    """Give Tensor its operators and methods; called once when graphnet is imported."""
    for name, function in BINARY.items():
        setattr(Tensor, f"__{name}__", function)
        setattr(Tensor, f"__r{name}__", _reflected(function))
    for name, function in LOGICAL.items():
        checked = boolean_only(name, function)
        setattr(Tensor, f"__{name}__", checked)
        setattr(Tensor, f"__r{name}__", _reflected(checked))
    for name, function in COMPARE.items():
        setattr(Tensor, f"__{name}__", function)
    unary = {
        "__neg__": F.negative,
        "__pos__": lambda self: self,
        "__abs__": F.abs,
        "__round__": F.round,
        "__invert__": boolean_only("~", F.logical_not),
        "__getitem__": F.getitem,
    }
    for name, function in unary.items():
        setattr(Tensor, name, function)
    for name in METHODS:
        function = getattr(F, name)
        setattr(Tensor, name, _shape_method(function) if name in ("reshape", "transpose") else function)
    # gn.flatten keeps the batch axis; the method flattens everything, as an array's does
    setattr(Tensor, "flatten", F.ravel)  # noqa: B010
    Tensor.T = property(F.transpose)  # type: ignore[attr-defined]
