"""The numpy backend: the reference, always there, the definition of right."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphnet.compiler import printers
from graphnet.compiler.errors import BackendError, DataError, NumericsError
from graphnet.compiler.record import lookup
from graphnet.compiler.schedule import Branch, Fused, Kernel, Loop, Plan, Step
from graphnet.compiler.target import NUMPY
from graphnet.kernels.numpy.fused import fused
from graphnet.kernels.numpy.index import fill
from graphnet.plan_memory import Homes, HostMemory, PlanMemory

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class NumpyBackend(HostMemory):
    """Runs schedules as one flat list of NumPy calls over preallocated arrays."""

    name = "numpy"
    target = NUMPY

    def source(self, plan: Plan) -> str:
        return printers.schedule.listing(plan)

    def bind(self, plan: Plan, homes: Homes, check: bool = False) -> NumpyExecutable:
        return NumpyExecutable(plan, homes, check)


class NumpyExecutable(PlanMemory):
    """A plan bound to NumPy memory; see ``graphnet.backend.Executable``."""

    target = "numpy"
    call: Callable[..., Any] | None = None

    def __init__(self, plan: Plan, homes: Homes, check: bool) -> None:
        super().__init__(plan, homes)
        self._check = check
        self._steps = [(step, self._calls(step)) for step in plan.steps]
        self._all = [call for _, calls in self._steps for call in calls]
        self._phases = {
            phase: [c for step, calls in self._steps if step.phase == phase for c in calls] for phase in plan.phases
        }

    def _calls(self, step: Step) -> list[Call]:
        if isinstance(step, Loop):
            calls: list[Call] = []
            for k in range(step.length):
                self.loops[step.id] = k
                for inner in step.body:
                    calls += self._calls(inner)
            return calls
        if isinstance(step, Branch):
            then = [c for s in step.then for c in self._calls(s)]
            orelse = [c for s in step.orelse for c in self._calls(s)]
            return [(_branch, (self.array(step.predicate), then, orelse))]
        return self._leaf_calls(step)

    def _leaf_calls(self, step: Kernel | Fused) -> list[Call]:
        ins = [self.array(a) for a in step.inputs]
        outs = [self.array(a) for a in step.outputs]
        scratch = self.array(step.scratch) if step.scratch is not None else None
        if isinstance(step, Fused):
            program = [(_kernel(i.op), i.attrs, i.operands, i.result) for i in step.program]
            temps = [(dtype, outs[0].shape) for dtype in step.temps]
            calls = fused(outs, ins, program, temps, scratch)
        else:
            extra = {} if scratch is None else {"scratch": scratch}
            calls = _kernel(step.op)(outs[0], *ins, **step.attrs, **extra)
        if self._check:
            before: list[bool] = []
            calls = [(_note_finite, (before, ins)), *calls, (_check_finite, (before, step, outs))]
        return calls

    def run(self, phase: str | None = None) -> None:
        call: Call | None = None
        if self._check:
            self._check_leaves()
        try:
            with np.errstate(all="ignore"):
                for call in self._all if phase is None else self._phases.get(phase, ()):
                    call[0](*call[1])
        except ValueError as error:  # an index out of range, found by the kernel that uses it
            step = next(step for step, calls in self._steps if any(c is call for c in calls))
            raise DataError(f"{step.where}: {step.where.scope.rpartition('/')[2] or step.op}: {error}") from None

    def _check_leaves(self) -> None:
        for node in self.plan.graph.leaves():
            name = str(node.attrs["name"])
            if not _finite([self.array(self.plan.leaves[name])]):
                raise NumericsError(
                    f"{node.where}: {node.attrs['role']} {name!r} holds NaN or infinity before the call"
                )

    def profile(self, repeats: int) -> list[tuple[Step, float]]:
        seconds: list[list[float]] = [[] for _ in self._steps]
        with np.errstate(all="ignore"):
            for _ in range(repeats):
                for (_, calls), record in zip(self._steps, seconds, strict=True):
                    start = time.perf_counter()
                    for function, arguments in calls:
                        function(*arguments)
                    record.append(time.perf_counter() - start)
        return [(step, float(np.median(record))) for (step, _), record in zip(self._steps, seconds, strict=True)]


def _kernel(op: str) -> Callable[..., list[Call]]:
    """Fill is a step that lowering adds; every other kernel comes from its op's record."""
    kernel = fill if op == "fill" else lookup(op).kernel
    if kernel is None:
        raise BackendError(f"{op} is a view: it has no kernel")
    return kernel


def _branch(predicate: np.ndarray, then: Sequence[Call], orelse: Sequence[Call]) -> None:
    for function, arguments in then if predicate[()] else orelse:
        function(*arguments)


def _finite(arrays: Sequence[np.ndarray]) -> bool:
    return all(np.isfinite(x).all() for x in arrays if x.dtype.kind == "f")


def _note_finite(before: list[bool], ins: Sequence[np.ndarray]) -> None:
    before[:] = [_finite(ins)]  # now: a step may write over its operands


def _check_finite(before: list[bool], step: Kernel | Fused, outs: Sequence[np.ndarray]) -> None:
    for out in outs:
        if before[0] and not _finite([out]):
            what = "NaN" if np.isnan(out).any() else "infinity"
            name = step.op
            if isinstance(step, Fused):
                name = " ".join(i.op for i in step.program)
            raise NumericsError(
                f"{step.where}: {name}: made {what} of finite operands in the {step.phase} phase "
                f"(shape {out.shape}, scope {step.where.scope or 'top level'})"
            )
