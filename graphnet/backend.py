"""The backend interface, and the choice of a backend.

A backend turns a plan into an ``Executable``. Memory that outlives a plan (parameters, optimiser slots,
states, hyperparameters) is made by ``allocate`` and handed in by name, so that all plans of a net share it.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from graphnet.backend_c import MISSING, CBackend, compiler_or_none
from graphnet.backend_numpy import NumpyBackend
from graphnet.compiler.compile import checking
from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import Type
from graphnet.compiler.schedule import Plan, Step
from graphnet.compiler.target import Target
from graphnet.plan_memory import Homes
from graphnet.tensor import user_where

LOG = logging.getLogger("graphnet")


class Executable(Protocol):
    """A bound plan. ``inputs`` are arrays to fill before a run, ``outputs`` hold results until the next one.

    ``call`` is None, or runs the whole plan on arguments as they are: it returns the loss (or True without
    one), and False if nothing was run because they do not fit exactly.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    call: Callable[..., Any] | None

    def run(self, phase: str | None = None) -> None:
        """Execute all steps, or those of one phase."""

    def profile(self, repeats: int) -> list[tuple[Step, float]]:
        """Median seconds of each top-level step."""


class Backend(Protocol):
    """What a backend offers: its name, what lowering must know of it, memory, and binding."""

    name: str
    target: Target

    def allocate(self, type_: Type) -> np.ndarray:
        """Zeroed memory for one value."""

    def source(self, plan: Plan) -> str:
        """What runs, as text."""

    def bind(self, plan: Plan, homes: Homes, check: bool = False) -> Executable:
        """Bind a plan to memory; ``check`` looks for NaN and infinities after every step."""


BACKENDS: dict[str, Callable[..., Backend]] = {"numpy": NumpyBackend, "c": CBackend}


@functools.cache
def _fastest() -> str:
    """The fastest backend that works here; says once what is missing for a faster one."""
    if compiler_or_none() is not None:
        return "c"
    LOG.warning("graphnet: no C compiler was found, so the numpy backend is used: %s", MISSING)
    return "numpy"


def choose(device: str, backend: str, threads: int | None = None) -> Backend:
    """The backend for a device; "auto" takes the fastest that works here. Raises BackendError in one line."""
    if device != "cpu":
        raise BackendError(f"{user_where()}: device {device!r} is not available in this version: use device='cpu'")
    name = os.environ.get("GRAPHNET_BACKEND", "auto") if backend == "auto" else backend
    name = _fastest() if name == "auto" else name
    if name not in BACKENDS:
        raise BackendError(f"{user_where()}: backend {backend!r} is unknown: use one of auto, {', '.join(BACKENDS)}")
    # looking into every step is the reference's: its kernels can be asked one at a time
    return CBackend(threads) if name == "c" and not checking() else NumpyBackend()
