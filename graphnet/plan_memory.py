"""The memory of the backends on the CPU: arrays, and that of one bound plan: arena, homes handed in, inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphnet.arrays import as_array
from graphnet.compiler.errors import BackendError, DataError
from graphnet.compiler.ir import Type
from graphnet.compiler.schedule import HOMES, Array, Plan, Step, Storage

Homes = Mapping[str, Any]
"""Arrays of the backend, by name."""


def aligned(nbytes: int) -> np.ndarray:
    """Zeroed bytes at a 64-byte boundary."""
    raw = np.zeros(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes]


def allocate(type_: Type) -> np.ndarray:
    """A zeroed array at a 64-byte boundary."""
    return aligned(type_.nbytes).view(type_.dtype).reshape(type_.shape)


def bad_index(step: Step, value: int, rows: int, to: str = "") -> DataError:
    """The error for an index out of range that a step found; ``to`` says which call it was given to."""
    what = step.where.scope.rpartition("/")[2] or step.op
    return DataError(
        f"{step.where}: {what}: index {value} is out of range for {rows} rows: check the ids or labels given{to}"
    )


class HostMemory:
    """The part of a backend on the CPU that is memory: NumPy arrays."""

    def allocate(self, type_: Type) -> np.ndarray:
        return allocate(type_)

    def read(self, array: np.ndarray) -> np.ndarray:
        return array

    def write(self, array: np.ndarray, value: Any) -> None:
        np.copyto(array, value, casting="unsafe")

    def argument(self, value: Any) -> np.ndarray:
        return as_array(value)

    def holds(self, value: Any) -> bool:
        return False


class PlanMemory:
    """``inputs`` are arrays to fill before a run, ``outputs`` hold results until the next one.

    Raises BackendError for a plan that was lowered for another backend than ``target``.
    """

    target: str
    counts = False

    def __init__(self, plan: Plan, homes: Homes) -> None:
        if plan.target != self.target:
            raise BackendError(f"the plan of {plan.graph.name} was lowered for {plan.target}, not for {self.target}")
        self.plan = plan
        self.arena = aligned(plan.memory.arena)
        self.memory = [self._storage(s, homes) for s in plan.storages]
        self.loops: dict[int, int] = {}
        self.inputs = {
            name: self.array(a) for name, a in plan.leaves.items() if plan.storages[a.storage].kind not in HOMES
        }
        self.outputs = {name: self.array(a) for name, a in plan.outputs.items()}

    def _storage(self, s: Storage, homes: Homes) -> np.ndarray:
        if s.kind == "temp":
            return self.arena[s.offset : s.offset + s.nbytes]
        if s.kind in HOMES:
            home = homes[s.name]
            return home.reshape(-1).view(np.uint8)
        if s.data is not None:
            return np.frombuffer(s.data, np.uint8)
        return aligned(s.nbytes)

    def array(self, a: Array) -> np.ndarray:
        """The NumPy view of an array in the iteration that ``loops`` says."""
        offset = a.offset + sum(term.at(self.loops[term.loop]) for term in a.terms)
        size = a.itemsize
        if a.size == 0:
            return np.empty(a.shape, a.dtype)
        strides = [s * size for s in a.strides]
        return np.ndarray(a.shape, a.dtype, self.memory[a.storage], offset * size, strides)

    def loss(self) -> float:
        """The loss of the last run."""
        return float(self.outputs["loss"])

    def copies(self, arrays: Sequence[np.ndarray], there: bool) -> list[np.ndarray]:
        """Copies of outputs of the last run."""
        return [a.copy() for a in arrays]

    def filled(self) -> None:
        """Runs read inputs where they were written."""

    def check(self) -> None:
        """Nothing is outstanding: runs raise what went wrong."""
