"""The C backend: one shared object a plan, one call a step."""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from graphnet.compiler import c, ops, printers
from graphnet.compiler import text as compiler_text
from graphnet.compiler.c import LEAST_WORK, Memory, Source, c_target, emit, identity
from graphnet.compiler.errors import BackendError
from graphnet.compiler.schedule import HOMES, Leaf, Plan, Step, flat, phases_apart
from graphnet.kernels import text as kernels_text
from graphnet.kernels.c import entry, threads
from graphnet.kernels.c.cache import ToolchainError, sources
from graphnet.kernels.c.tile import targeting
from graphnet.kernels.c.toolchain import Compiler, find, load, load_later
from graphnet.plan_memory import Homes, HostMemory, PlanMemory, bad_index
from graphnet.tensor import user_where

FIXED = 8
"""Words of ``struct net`` before its table: A parallel barrier part failed step value rows."""
FAILED, STEP, VALUE, ROWS = 4, 5, 6, 7


def default_threads() -> int:
    """GRAPHNET_THREADS, or the cores this process may use; raises BackendError for a bad number."""
    given = os.environ.get("GRAPHNET_THREADS", "")
    if given and not (given.isdigit() and int(given)):
        raise BackendError(f"GRAPHNET_THREADS must be a number of 1 or more, got {given!r}")
    return int(given) if given else threads.usable_cores()


class CBackend(HostMemory):
    """Compiles each plan with the C compiler found; raises BackendError in one line without one.

    ``threads`` run a step; pieces of less than ``least_work`` nanoseconds are not split among them.
    """

    name = "c"

    def __init__(self, threads: int | None = None, least_work: float = LEAST_WORK) -> None:
        self._least_work = least_work
        self.threads = threads or default_threads()
        compiler = compiler_or_none()
        if compiler is None:
            raise BackendError(f"{user_where()}: backend 'c' needs a C compiler: {MISSING}")
        self.compiler = compiler
        self.target = c_target(self.threads, compiler.isa())
        self._shared = _started(compiler)

    def shared(self, name: str) -> ctypes.CDLL:
        """The thread ``pool`` or the ``entry`` from Python, each one for all plans of the process."""
        try:
            return self._shared[name].result()
        except ToolchainError as error:
            raise BackendError(f"{user_where()}: {error}") from None

    def source(self, plan: Plan) -> str:
        return self.emit(plan).text

    def emit(self, plan: Plan, timed: bool = False) -> Source:
        """The C text of a plan made for this backend's target; ``timed`` adds each step as a part of its own."""
        with targeting(self.compiler.isa()):
            return emit(plan, self.threads, timed, self._least_work)

    def identity(self, plan: Plan) -> str:
        """Differs for plans whose C text differs."""
        return identity(plan, self.threads, self._least_work)

    def bind(self, plan: Plan, homes: Homes, check: bool = False) -> CExecutable:
        return CExecutable(self, plan, homes)


@functools.cache
def _started(compiler: Compiler) -> dict[str, Future[ctypes.CDLL]]:
    """What all plans share, compiled where it is not in the cache yet while the first plan is being made."""
    workers = ThreadPoolExecutor(2, "graphnet-compile")
    jobs = {
        "entry": workers.submit(load, entry.TEXT, compiler, ("-O1",)),
        "pool": workers.submit(threads.runtime, compiler),
    }
    workers.shutdown(wait=False)
    return jobs


FOLDERS = (Path(module.__file__ or "").parent for module in (c, ops, printers, entry, compiler_text, kernels_text))
WRITERS = sources(*FOLDERS)
"""The code that writes C text and the expressions in it, by its files as they were when it was loaded."""

MISSING = "install gcc or clang, or pip install ziglang"


def compiler_or_none() -> Compiler | None:
    """The C compiler; None if there is none. Raises BackendError for a $CC that does not work."""
    try:
        return find()
    except ToolchainError as error:
        raise BackendError(f"{user_where()}: {error}") from None


class CExecutable(PlanMemory):
    """A plan bound to memory and to its shared object; see ``graphnet.backend.Executable``."""

    target = "c"

    def __init__(self, backend: CBackend, plan: Plan, homes: Homes) -> None:
        super().__init__(plan, homes)
        self._backend = backend
        self._steps = {s.position: s for s in flat(plan.steps) if isinstance(s, Leaf)}
        self._parts = ("", *phases_apart(plan))
        self._run = self._load(timed=False)
        self._table = Memory(plan).table
        self._net = self._struct()
        self.call = self._entry()

    def _struct(self) -> np.ndarray:
        """``struct net`` as words."""
        net = np.zeros(FIXED + max(1, len(self._table)), np.int64)
        net[0] = self.arena.ctypes.data
        if self._run(None, -1) > 1:
            pool = self._backend.shared("pool")
            net[1], net[2] = (address(getattr(pool, name)) for name in ("gn_parallel", "gn_barrier"))
        for i, storage in enumerate(self._table):
            net[FIXED + i] = self.memory[storage.id].ctypes.data
        return net

    def _load(self, timed: bool) -> Any:
        """The plan's function, from the cache without writing its text again if it is there."""
        backend = self._backend
        known = f"{WRITERS} {timed} {backend.identity(self.plan)}"
        try:
            run = load_later(known, lambda: backend.emit(self.plan, timed).pieces, backend.compiler).gn_run
        except ToolchainError as error:
            raise BackendError(f"{user_where()}: {error}") from None
        run.argtypes, run.restype = (ctypes.c_void_p, ctypes.c_int), ctypes.c_int
        return run

    def _entry(self) -> Callable[..., Any] | None:
        """The built-in function that takes arguments as they are; None where a plan does not fit it."""
        names = list(self.inputs)
        types = [self.plan.leaves[n] for n in names]
        loss = self.plan.outputs.get("loss")
        if len(names) > entry.MAX_INPUTS or any(len(t.shape) > entry.MAX_AXES or t.size == 0 for t in types):
            return None
        call = entry.Call(net=self._net.ctypes.data, run=address(self._run), inputs=len(names), loss_kind=b" ")
        if loss is not None:
            call.loss, call.loss_kind = self.outputs["loss"].ctypes.data, b"f" if loss.dtype == "float32" else b"d"
        slots = {s.id: FIXED + i for i, s in enumerate(self._table)}
        for spec, name, array in zip(call.input, names, types, strict=False):
            own = self.inputs[name]
            spec.kind, spec.itemsize, spec.ndim, spec.nbytes = (
                own.dtype.kind.encode(),
                own.itemsize,
                own.ndim,
                own.nbytes,
            )
            spec.shape[: own.ndim] = own.shape
            spec.slot, spec.own = self._net.ctypes.data + 8 * slots[array.storage], own.ctypes.data
        counter = self._written_homes(call)
        call.counter = counter
        self._call = call
        library = self._backend.shared("entry")
        make = ctypes.PyDLL(None, handle=library._handle).gn_entry
        make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_void_p)
        made: Callable[..., Any] = make(ctypes.addressof(_API), ctypes.addressof(call))
        return made

    def _written_homes(self, call: entry.Call) -> int | None:
        """Notes what arguments must not share memory with; returns the address of the step counter, if it is read."""
        spans = [(self.arena.ctypes.data, self.arena.nbytes)]
        counter = None
        for s in self.plan.storages:
            if s.kind in HOMES:
                spans.append((self.memory[s.id].ctypes.data, s.nbytes))
                counter = spans[-1][0] if s.name == "rng/step" else counter
        self._spans = (ctypes.c_int64 * (2 * len(spans)))(*(v for span in spans for v in span))
        call.homes, call.home = len(spans), ctypes.cast(self._spans, ctypes.POINTER(ctypes.c_int64))
        return counter

    def run(self, phase: str | None = None) -> None:
        if phase is not None and phase not in self.plan.phases:
            return
        part = self._parts.index(phase) if phase is not None and len(self.plan.phases) > 1 else 0
        if self._run(self._net.ctypes.data, part):
            self.fail()

    def fail(self) -> None:
        """Raise DataError for an index out of range in the last run, BackendError if there were no threads."""
        if not self._net[FAILED]:
            raise BackendError(f"{user_where()}: {self._backend.threads} threads could not be started: use threads=1")
        step, value, rows = (int(self._net[i]) for i in (STEP, VALUE, ROWS))
        raise bad_index(self._steps[step], value, rows)

    def profile(self, repeats: int) -> list[tuple[Step, float]]:
        run, pointer = self._load(timed=True), self._net.ctypes.data
        first = len(self._parts)
        seconds: list[list[float]] = [[] for _ in self.plan.steps]
        for _ in range(repeats):
            for i, record in enumerate(seconds):
                start = time.perf_counter()
                run(pointer, first + i)
                record.append(time.perf_counter() - start)
        return [(step, float(np.median(r))) for step, r in zip(self.plan.steps, seconds, strict=True)]


_API = entry.api_table()


def address(function: Any) -> int:
    """The address of a loaded function."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0
