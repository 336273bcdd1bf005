"""The CUDA backend: a plan as CUDA text, on a GPU or on the emulated one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from graphnet.arrays import as_array
from graphnet.compiler.cuda import Gemm, Options, Source, cuda_target, emit
from graphnet.compiler.ir import Type
from graphnet.compiler.schedule import Plan
from graphnet.device import Device
from graphnet.device_plan import CudaExecutable, product_of
from graphnet.plan_memory import Homes


class CudaBackend:
    """Runs plans on a device: ``device_cupy.gpu()``, or an ``EmulatedDevice``.

    ``precision``, one of ``backend.PRECISIONS``, is that of products of float32; with ``library`` False graphnet's own
    kernels compute all of them, with ``epilogues`` False cuBLAS computes products and nothing besides. ``options`` say
    how a plan is cut into kernels. A device without tensor cores for TF32 computes in float32 instead.
    """

    def __init__(
        self,
        device: Device,
        precision: str = "float32",
        library: bool = True,
        options: Options | None = None,
        epilogues: bool = True,
    ) -> None:
        self.device = device
        self.name = device.name
        self.precision = precision if device.tensor else "float32"
        options = options or Options()
        self.options = replace(options, shared=min(options.shared, device.shared))
        fusing = device.fusing if library and epilogues else ""
        fuses = self._fuses if fusing else None
        self.target = cuda_target(library and device.library, self.precision, fuses, fusing)

    def _fuses(self, call: Gemm) -> bool:
        """Whether the device's library computes a product with its epilogue; storages begin at multiples of 16."""
        return self.device.fuses(product_of(call, self.precision, lambda storage: 0))

    def allocate(self, type_: Type) -> Any:
        return self.device.allocate(type_)

    def read(self, array: Any) -> np.ndarray:
        return self.device.read(array)

    def write(self, array: Any, value: Any) -> None:
        self.device.write(array, value)

    def holds(self, value: Any) -> bool:
        return self.device.holds(value)

    def argument(self, value: Any) -> Any:
        """A call's argument as an array, where it lies if that is a GPU."""
        if type(value) is np.ndarray:
            return value
        return self.device.taken(value) if self.device.holds(value) else as_array(value)

    def source(self, plan: Plan) -> str:
        return self.emit(plan).text

    def emit(self, plan: Plan, apart: bool = False) -> Source:
        """The CUDA text of a plan made for this backend's target; ``apart`` gives each step kernels of its own."""
        return emit(plan, self.target, replace(self.options, apart=True) if apart else self.options)

    def bind(self, plan: Plan, homes: Homes, check: bool = False) -> CudaExecutable:
        return CudaExecutable(self, plan, homes)
