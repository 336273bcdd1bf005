"""The memory of one bound plan: arena, homes handed in, inputs; and NumPy views of its arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import Type
from graphnet.compiler.schedule import Array, Plan, Storage

Homes = Mapping[str, np.ndarray]
HOMES = ("param", "state", "slot", "hyper", "rng")
"""Kinds of storages whose memory outlives the plan."""


def aligned(nbytes: int) -> np.ndarray:
    """Zeroed bytes at a 64-byte boundary."""
    raw = np.zeros(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes]


def allocate(type_: Type) -> np.ndarray:
    """A zeroed array at a 64-byte boundary."""
    return aligned(type_.nbytes).view(type_.dtype).reshape(type_.shape)


class PlanMemory:
    """``inputs`` are arrays to fill before a run, ``outputs`` hold results until the next one.

    Raises BackendError for a plan that was lowered for another backend than ``target``.
    """

    target: str

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
