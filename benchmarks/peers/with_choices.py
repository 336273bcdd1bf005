"""graphnet on a GPU with choices made by hand that its compiler makes by itself: what ``cuda_choices.py`` measures."""

from __future__ import annotations

from typing import Any

import graphnet as gn
from graphnet.backend_cuda import CudaBackend
from graphnet.compiler.cuda import Options
from graphnet.device import Device
from peers.cases import Arrays, Case
from peers.with_graphnet import Graphnet


def device_of(emulated: bool) -> Device:
    """The GPU, or what plays one on the CPU."""
    if emulated:
        from graphnet.device_emulated import EmulatedDevice

        return EmulatedDevice()
    from graphnet.device_cupy import gpu

    return gpu()


def backend(
    emulated: bool = False,
    library: bool = True,
    epilogues: bool = True,
    together: bool = False,
    unroll: int = 0,
    precision: str = "float32",
) -> CudaBackend:
    """The CUDA backend with these choices.

    library    large products are left to cuBLAS
    epilogues  and what cublasLt can compute with them
    together   the kernels of all stages are one cooperative kernel
    unroll     launches up to which a loop is unrolled; a longer one is a cooperative kernel
    """
    options = Options(together=together, unroll=unroll)
    return CudaBackend(device_of(emulated), precision, library, options, epilogues)


class Chosen(Graphnet):
    """A net compiled with ``choices``."""

    def __init__(self, case: Case, params: Arrays, threads: int, device: str = "cuda", **choices: Any) -> None:
        self.choices = choices
        super().__init__(case, params, threads, device=device)

    def compile(self, model: Any, spec: Any, options: dict[str, Any], **training: Any) -> gn.Net:
        return gn.compile(model, spec, device=self.device, backend=backend(**self.choices), **training, **options)

    def notes(self) -> list[str]:
        return [f"{len(next(iter(self.net._bound.values())).run.work())} launches"]
