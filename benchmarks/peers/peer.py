"""What a library has to bring to take part: its model of a case, one training step, one inference."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from peers.cases import Arrays, Case


class Peer:
    """A library's model of one case. Subclasses compile in ``__init__`` or at the first call, as the library does.

    ``packages`` are those whose versions are reported; ``ids`` is the integer type the library takes without
    converting: class numbers and ids arrive as NumPy arrays of it. Those that compute elsewhere than on the CPU take
    a keyword ``device`` and bring ``start``, ``put``, ``wait`` and ``fetch`` of their own.
    """

    packages: tuple[str, ...] = ("numpy",)
    ids: Any = np.int32

    def __init__(self, case: Case, params: Arrays, threads: int, device: str = "cpu") -> None:
        self.case, self.threads, self.device = case, threads, device

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """Forward, backward and update on one batch; returns the loss before the update as a Python float."""
        raise TypeError(f"{type(self).__name__} has no training step")

    def infer(self, x: np.ndarray) -> np.ndarray:
        """The model's output for one batch as a NumPy array."""
        raise TypeError(f"{type(self).__name__} has no inference")

    def start(self, *batch: Any) -> Any:
        """A step (in inference the output) of NumPy arrays or of what ``put`` gave; need not be done on return."""
        return self.infer(*batch) if self.case.mode == "infer" else self.step(*batch)

    def put(self, array: np.ndarray) -> Any:
        """A copy of an array on the device."""
        return array

    def wait(self) -> None:
        """Return once everything that was started is done."""

    def fetch(self, result: Any) -> np.ndarray:
        """What ``start`` returned, as a NumPy array."""
        return np.asarray(result)

    def facts(self) -> dict[str, Any]:
        """What else is worth keeping: graphnet tells its backend and the cost of its graph."""
        return {}

    def notes(self) -> list[str]:
        """What a reader should know of the times that were measured."""
        return []

    def kernels(self, *batch: np.ndarray) -> list[dict[str, Any]]:
        """Seconds, FLOPs and bytes of each part of a step, where the library tells them."""
        return []

    @classmethod
    def versions(cls) -> dict[str, str]:
        """The packages' versions."""
        found = {}
        for name in cls.packages:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "unknown"
        return found
