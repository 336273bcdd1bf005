"""The backend interface, and the choice of a backend.

A backend turns a plan into an ``Executable``. Memory that outlives a plan (parameters, optimiser slots,
states, hyperparameters) is made by ``allocate`` and handed in by name, so that all plans of a net share it.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
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

    They are the backend's own: NumPy's, or a GPU's, which ``Backend.write`` and ``Backend.read`` reach.
    ``call`` is None, or runs the whole plan on arguments as they are: it returns the loss (or True without
    one), and False if nothing was run because they do not fit exactly.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    call: Callable[..., Any] | None

    counts: bool
    """Whether a whole run moves the counter of random numbers on by itself, also one that ``run`` starts."""

    def filled(self) -> None:
        """Take note that ``inputs`` were written to, or may have been."""

    def run(self, phase: str | None = None) -> None:
        """Execute all steps, or those of one phase."""

    def loss(self) -> Any:
        """The loss of the last whole run: a float, or a ``Loss`` that is one once it is read."""

    def copies(self, arrays: Sequence[Any], there: bool) -> list[Any]:
        """Copies of outputs of the last run: ``there`` as arrays of the device, else as NumPy arrays."""

    def check(self) -> None:
        """Wait for what was started, and raise what went wrong."""

    def profile(self, repeats: int) -> list[tuple[Step, float]]:
        """Median seconds of each top-level step."""


class Backend(Protocol):
    """What a backend offers: its name, what lowering must know of it, memory, and binding."""

    name: str
    target: Target

    def allocate(self, type_: Type) -> Any:
        """Zeroed memory for one value."""

    def read(self, array: Any) -> np.ndarray:
        """The values of an array of this backend, not to be written to."""

    def write(self, array: Any, value: Any) -> None:
        """Put a value, or one for all elements, into an array of this backend; it is converted to its dtype."""

    def argument(self, value: Any) -> Any:
        """A call's argument as an array: NumPy's, or where it lies on this backend's device."""

    def holds(self, value: Any) -> bool:
        """Whether an argument lies on this backend's device."""

    def source(self, plan: Plan) -> str:
        """What runs, as text."""

    def bind(self, plan: Plan, homes: Homes, check: bool = False) -> Executable:
        """Bind a plan to memory; ``check`` looks for NaN and infinities after every step."""


def cuda(precision: str = "float32") -> Backend:
    """The backend for this machine's GPU; raises BackendError without one."""
    from graphnet.backend_cuda import CudaBackend
    from graphnet.device_cupy import gpu

    return CudaBackend(gpu(), precision)


def emulated(precision: str = "float32") -> Backend:
    """The CUDA backend's text, run on the CPU."""
    from graphnet.backend_cuda import CudaBackend
    from graphnet.device_emulated import EmulatedDevice

    return CudaBackend(EmulatedDevice(), precision)


BACKENDS: dict[str, Callable[..., Backend]] = {
    "numpy": NumpyBackend,
    "c": CBackend,
    "cuda": cuda,
    "emulated": emulated,
}

DEVICES: dict[str, tuple[str, ...]] = {"cpu": ("numpy", "c"), "cuda": ("cuda", "emulated")}
"""The backends of each device, for "cuda" the usual one first."""

PRECISIONS = ("float32", "tf32x3", "tf32", "bf16")
"""What products of float32 arrays may round their operands to; for "tf32x3" each operand is two such numbers."""


@functools.cache
def _fastest() -> str:
    """The fastest backend that works on the CPU here; says once what is missing for a faster one."""
    if compiler_or_none() is not None:
        return "c"
    LOG.warning("graphnet: no C compiler was found, so the numpy backend is used: %s", MISSING)
    return "numpy"


def choose(
    device: str, backend: str | Backend = "auto", threads: int | None = None, precision: str = "float32"
) -> Backend:
    """The backend for a device; "auto" takes the fastest that works here, a ``Backend`` is taken as it is.

    Raises BackendError in one line, also for a number of threads or a precision where there is none to choose.
    """
    if not isinstance(backend, str):
        if threads is not None or precision != "float32":
            raise BackendError(
                f"{user_where()}: threads and precision are given to a backend where it is made: leave them out beside "
                f"backend={type(backend).__name__}(...)"
            )
        return backend
    if not isinstance(device, str) or device not in DEVICES:
        raise BackendError(f"{user_where()}: device {device!r} is unknown: {_devices(device)}")
    name = _named(device, backend)
    if precision not in PRECISIONS:
        known = ", ".join(map(repr, PRECISIONS))
        raise BackendError(f"{user_where()}: precision must be one of {known}, got {precision!r}")
    if device == "cpu" and precision != "float32":
        raise BackendError(
            f"{user_where()}: precision {precision!r} is for device='cuda': on the CPU products are float32"
        )
    if threads is not None and (device != "cpu" or backend == "numpy"):
        raise BackendError(
            f"{user_where()}: threads is for backend='c': backend {name!r} has none to set: leave it out"
        )
    # looking into every step is the reference's: its kernels can be asked one at a time
    if checking() or name == "numpy":
        return NumpyBackend()
    return CBackend(threads) if name == "c" else BACKENDS[name](precision)


def _devices(given: object) -> str:
    """What to use instead of an unknown device."""
    name, _, number = str(given).lower().partition(":")
    meant = {**{d: d for d in DEVICES}, "gpu": "cuda"}.get(name)
    hint = f"did you mean {meant!r}? " if meant else ""
    if number.isdigit() and meant == "cuda":
        return f"{hint}CUDA_VISIBLE_DEVICES={number} in the environment chooses the GPU"
    return f"{hint}use one of {', '.join(DEVICES)}"


def _named(device: str, backend: str) -> str:
    """The name of the backend; GRAPHNET_BACKEND chooses among those of the device where none was given."""
    known = DEVICES[device]
    if backend == "auto":
        wanted = os.environ.get("GRAPHNET_BACKEND", "auto")
        if wanted in known:
            return wanted
        if wanted == "auto" or any(wanted in names for names in DEVICES.values()):
            return _fastest() if device == "cpu" else known[0]
        backend = wanted
    if backend in known:
        return backend
    of = next((d for d, names in DEVICES.items() if backend in names), None)
    if of is not None:
        raise BackendError(f"{user_where()}: backend {backend!r} is one of device={of!r}, not of {device!r}")
    raise BackendError(f"{user_where()}: backend {backend!r} is unknown: use one of auto, {', '.join(known)}")
