"""graphnet itself, with the models that it ships; ``backend`` is one of its backends or auto."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphnet as gn
from graphnet.compiler.ir import Graph
from graphnet.compiler.record import lookup
from graphnet.models.charlm import charlm as charlm_of_one_layer
from graphnet.models.lenet import lenet
from graphnet.models.linreg import linreg
from graphnet.models.mlp import mlp
from graphnet.models.softmax import softmax
from peers.cases import Arrays, Case
from peers.peer import Peer


@gn.model
def empty(x):
    """The least a net can be: one parameter times a scalar."""
    return x * gn.param("w", (), 0.5)


@gn.model
def charlm(ids, vocabulary, embedding, hidden):
    """The language model with several LSTM layers."""
    x = gn.layers.embedding(ids, vocabulary, embedding)
    for units in hidden:
        x = gn.layers.lstm(x, units, stateful=True)
    return gn.layers.dense(x, vocabulary)


def model_of(case: Case) -> tuple[Any, dict[str, Any]]:
    """The model function of a case, and its options."""
    if case.model == "mlp":
        return mlp, {"hidden": case.hidden}
    if case.model == "charlm":
        sizes = {"vocabulary": case.vocabulary, "embedding": case.embedding}
        several = len(case.hidden) > 1
        model = charlm if several else charlm_of_one_layer
        return model, {**sizes, "hidden": case.hidden if several else case.hidden[0]}
    return {"empty": empty, "linreg": linreg, "softmax": softmax, "lenet": lenet}[case.model], {}


class Graphnet(Peer):
    """A compiled net."""

    packages = ("graphnet", "numpy")

    def __init__(self, case: Case, params: Arrays, threads: int, backend: str = "auto", device: str = "cpu") -> None:
        super().__init__(case, params, threads)
        model, options = model_of(case)
        spec = gn.spec(case.shape, "int32" if case.model == "charlm" else "float32")
        training: dict[str, Any] = {}
        if case.mode == "train":
            loss = gn.losses.mse if case.squared else gn.losses.softmax_cross_entropy
            adam = gn.optim.Adam(case.lr, clip_norm=case.clip)
            training = {"loss": loss, "optimizer": adam if case.adam else gn.optim.SGD(case.lr)}
        self.net = gn.compile(model, spec, backend=backend, device=device, **training, **options)
        for name, value in params.items():
            self.net.params[f"{self.net.program.name}/{name}"][...] = value
        self.step = self.net.step  # called as a user calls it, with nothing in between
        self.infer = self.net

    def facts(self) -> dict[str, Any]:
        plan = self.net.plans[0].plan
        flops, nbytes = costs(plan.graph)
        return {
            "backend": self.net.backend.name,
            "flops": flops,
            "op_bytes": nbytes,
            "least_bytes": least_bytes(plan.graph),
            "arena_bytes": plan.memory.arena,
            "parameters": int(sum(np.asarray(p).size for p in self.net.params.values())),
        }


def costs(graph: Graph) -> tuple[int, int]:
    """FLOPs and bytes moved by all ops of a compiled graph, as their records have them; loops count in full."""
    flops = nbytes = 0
    for node in graph.nodes():
        inner = [value for value in node.attrs.values() if isinstance(value, Graph)]
        if inner:
            counted = [costs(body) for body in inner]
            # a loop runs its body many times, a branch the costlier of its two
            found = max(counted, key=lambda cost: cost[0])
            times = node.attrs.get("length", 1)
        elif not node.inputs or node.op == "get":
            continue
        else:
            found, times = lookup(node.op).cost([i.out for i in node.inputs], node.out, node.attrs), 1
        flops, nbytes = flops + found[0] * times, nbytes + found[1] * times
    return flops, nbytes


def least_bytes(graph: Graph) -> int:
    """What a step must touch however it is computed: every leaf read once, every new value and result written once."""
    read = sum(node.out.nbytes for node in graph.leaves())
    return read + sum(node.out.nbytes for node in graph.roots())
