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
    needs    the package to install where the module cannot be imported
    own      runs in graphnet's Python instead of the peers'
    ours     graphnet itself, which is not among those it is compared with
    models   the models it differs from others in; empty: all
    path     folders in front of the module search path
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

    def takes(self, case: Case) -> bool:
        """Whether it has something of its own to show for this case."""
        return not self.models or case.model in self.models


PEERS = (
    Entry("numpy", "peers.with_numpy:ByHand", "NumPy by hand, preallocated buffers", "numpy", own=True),
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
    Entry("jax", "peers.with_jax:Jitted", "JAX jit of the whole step, donated buffers", "jax"),
    Entry("pytensor", "peers.with_pytensor:Function", "PyTensor, C", "pytensor", options={"mode": "CVM"}),
    Entry("pytensor-numba", "peers.with_pytensor:Function", "PyTensor, numba", "pytensor", options={"mode": "NUMBA"}),
    Entry("tensorflow", "peers.with_tensorflow:Graphed", "TensorFlow, tf.function of the whole step", "tensorflow"),
)


def graphnet(backend: str = "auto", device: str = "cpu") -> Entry:
    """graphnet on one of its backends."""
    name = "graphnet" if backend == "auto" else f"graphnet-{backend}"
    options = {"backend": backend, "device": device}
    entry = Entry(name, "peers.with_graphnet:Graphnet", f"graphnet, backend {backend}", "graphnet", options=options)
    return replace(entry, own=True, ours=True)
