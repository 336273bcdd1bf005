"""Who takes part: names, the modules behind them, and in which Python they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peers.cases import Case


@dataclass(frozen=True)
class Entry:
    """A row of the tables.

    target   MODULE:CLASS of a peers.peer.Peer
    needs    the library it measures, as it is imported; without it the entry is left out
    own      runs in graphnet's Python instead of the peers'
    ours     graphnet itself, which is not among those it is compared with
    models   the models it differs from others in; empty: all
    path     folders in front of the module search path
    device   what it computes on: cuda, or a name that means the CPU
    """

    name: str
    target: str
    what: str
    needs: str = ""
    own: bool = False
    ours: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    models: Sequence[str] = ()
    path: Sequence[str] = ()
    device: str = "cpu"

    @property
    def arguments(self) -> dict[str, Any]:
        """What its class is called with besides the case; only those that can choose are told the device."""
        return {**self.options, **({} if self.device == "cpu" else {"device": self.device})}

    def takes(self, case: Case) -> bool:
        """Whether it has something of its own to show for this case."""
        return not self.models or case.model in self.models


BY_HAND = Entry("numpy", "peers.with_numpy:ByHand", "NumPy by hand, preallocated buffers", "numpy", own=True)
TORCH = (
    Entry("torch", "peers.with_torch:Eager", "PyTorch eager (torch.nn.LSTM for charlm)", "torch"),
    Entry(
        "torch-cells",
        "peers.with_torch:Eager",
        "PyTorch eager, LSTM by cells, the inputs' product hoisted by hand",
        "torch",
        options={"cells": True},
        models=("charlm",),
    ),
    Entry("torch-compile", "peers.with_torch:Compiled", "torch.compile of the whole step", "torch"),
)
GRAPHED = (
    Entry(
        "torch-graphs",
        "peers.with_torch:Compiled",
        "torch.compile of the whole step, mode reduce-overhead: in CUDA graphs",
        "torch",
        options={"mode": "reduce-overhead"},
    ),
    Entry(
        "torch-autotune",
        "peers.with_torch:Compiled",
        "torch.compile of the whole step, mode max-autotune: in CUDA graphs, kernels chosen by trying",
        "torch",
        options={"mode": "max-autotune"},
    ),
    Entry("torch-captured", "peers.with_torch_graph:Captured", "PyTorch eager, the whole step one CUDA graph", "torch"),
)
JAX = Entry("jax", "peers.with_jax:Jitted", "JAX jit of the whole step, donated buffers", "jax")
CPU_ONLY = (
    Entry("pytensor", "peers.with_pytensor:Function", "PyTensor, C", "pytensor", options={"mode": "CVM"}),
    Entry("pytensor-numba", "peers.with_pytensor:Function", "PyTensor, numba", "pytensor", options={"mode": "NUMBA"}),
    Entry("tensorflow", "peers.with_tensorflow:Graphed", "TensorFlow, tf.function of the whole step", "tensorflow"),
)


def peers(device: str = "cpu") -> list[Entry]:
    """All that graphnet is measured beside on a device."""
    if device == "cuda":
        return [replace(entry, device=device) for entry in (*TORCH, *GRAPHED, JAX)]
    return [BY_HAND, *TORCH, JAX, *CPU_ONLY]


def graphnet(backend: str = "auto", device: str = "cpu", precision: str = "float32") -> Entry:
    """graphnet on one of its backends, with its products in a precision."""
    rounded = "" if precision == "float32" else precision
    name = "-".join(filter(None, ("graphnet", "" if backend == "auto" else backend, rounded)))
    what = f"graphnet, backend {backend}" + (f", products in {rounded}" if rounded else "")
    options = {"backend": backend, **({"precision": rounded} if rounded else {})}
    entry = Entry(name, "peers.with_graphnet:Graphnet", what, "graphnet", options=options)
    return replace(entry, own=True, ours=True, device=device)
