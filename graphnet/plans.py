"""What a net keeps for each compiled plan, and how call arguments choose one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnet.backend import Backend, Executable
from graphnet.compiler.errors import DataError, DTypeError, ShapeError
from graphnet.compiler.ir import Graph, Type
from graphnet.compiler.passes import Context
from graphnet.compiler.schedule import Plan
from graphnet.program import Traced
from graphnet.tensor import user_where

MODES = ("step", "phases", "loss", "infer")


@dataclass(frozen=True)
class PlanInfo:
    """A plan the net has made: its mode, input types, seconds to compile and arena bytes."""

    mode: str
    inputs: tuple[Type, ...]
    target: Type | None
    seconds: float
    plan: Plan

    def __str__(self) -> str:
        shapes = ", ".join(str(t) for t in (*self.inputs, *((self.target,) if self.target else ())))
        return f"{self.mode}({shapes}): arena {self.plan.memory.arena:,} B, compiled in {self.seconds:.3f} s"


@dataclass
class Bound:
    """A plan with its memory and the views a call needs."""

    info: PlanInfo
    traced: Traced
    run: Executable
    context: Context
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    random: bool


def for_mode(graph: Graph, mode: str) -> Graph:
    """The results a mode needs."""
    if mode == "infer":
        return graph.with_results(outputs=[(n, v) for n, v in graph.outputs if n != "loss"])
    if mode == "phases":
        return graph
    return graph.with_results(outputs=[(n, v) for n, v in graph.outputs if n == "loss"])


def copy_in(backend: Backend, target: Any, value: Any) -> None:
    """Copy a call's argument into a plan's buffer; integers that would not fit are an error, not wrapped."""
    integers = target.dtype.kind in "iu" and value.dtype.kind in "iu" and value.dtype != target.dtype
    if integers and value.size and isinstance(value, np.ndarray):
        limits = np.iinfo(target.dtype)
        low, high = int(value.min()), int(value.max())
        if low < limits.min or high > limits.max:
            wrong = high if high > limits.max else low
            raise DataError(f"{user_where()}: the integer {wrong} does not fit the compiled dtype {target.dtype}")
    backend.write(target, value)


def fitting_type(name: str, expected: Type, value: Any) -> Type:
    """The plan's type for an input array; raises one line if its axes or dtype do not fit."""
    if value.ndim != expected.ndim:
        raise ShapeError(
            f"{user_where()}: input {name!r} has shape {value.shape}, the net was compiled for {expected.shape}"
        )
    if not np.can_cast(value.dtype, expected.dtype, "same_kind"):
        raise DTypeError(
            f"{user_where()}: input {name!r} is {value.dtype}, the net was compiled for {expected.dtype}: "
            f"convert it with .astype('{expected.dtype}')"
        )
    return Type(value.shape, expected.dtype)
