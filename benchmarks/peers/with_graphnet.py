"""graphnet itself, with the models that it ships; ``backend`` is one of its backends or auto."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

import graphnet as gn
from graphnet.models.charlm import charlm as charlm_of_one_layer
from graphnet.models.lenet import lenet
from graphnet.models.linreg import linreg
from graphnet.models.mlp import mlp
from graphnet.models.softmax import softmax
from peers.cases import Arrays, Case
from peers.peer import Peer
from peers.step_costs import cost, costs, least_bytes


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

    def __init__(
        self,
        case: Case,
        params: Arrays,
        threads: int,
        backend: str = "auto",
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        super().__init__(case, params, threads, device)
        self.chosen = {"backend": backend, "device": device, "precision": precision}
        model, options = model_of(case)
        spec = gn.spec(case.shape, "int32" if case.model == "charlm" else "float32")
        training: dict[str, Any] = {}
        if case.mode == "train":
            loss = gn.losses.mse if case.squared else gn.losses.softmax_cross_entropy
            adam = gn.optim.Adam(case.lr, clip_norm=case.clip)
            training = {"loss": loss, "optimizer": adam if case.adam else gn.optim.SGD(case.lr)}
        self.net = self.compile(model, spec, options, **training)
        for name, value in params.items():
            self.net.params[f"{self.net.program.name}/{name}"] = value
        self.on_gpu = self.net.backend.name == "cuda"
        self.start = self.net.step if training else self.net  # called as a user calls it, with nothing in between
        if device == "cpu":
            self.step, self.infer = self.net.step, self.net

    def compile(self, model: Any, spec: Any, options: dict[str, Any], **training: Any) -> gn.Net:
        """The net of a model with its options."""
        return gn.compile(model, spec, **self.chosen, **training, **options)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.net.step(x, y))

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.fetch(self.net(x))

    def put(self, array: np.ndarray) -> Any:
        return cupy().asarray(array) if self.on_gpu else array

    def wait(self) -> None:
        if self.on_gpu:
            cupy().cuda.Device().synchronize()

    def fetch(self, result: Any) -> np.ndarray:
        return cupy().asnumpy(result) if self.on_gpu else np.asarray(result)

    def facts(self) -> dict[str, Any]:
        plan = self.net.plans[0].plan
        flops, nbytes = costs(plan.graph)
        return {
            "backend": self.net.backend.name,
            "flops": flops,
            "op_bytes": nbytes,
            "least_bytes": least_bytes(plan.graph),
            "arena_bytes": plan.memory.arena,
            "arena_allocated_bytes": next(iter(self.net._bound.values())).run.arena.nbytes,
            "parameters": sum(math.prod(p.shape) for p in self.net.params.values()),
        }

    def kernels(self, *batch: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"op": step.op, "phase": step.phase, "where": str(step.where), "seconds": seconds, **cost(step)}
            for step, seconds in self.net.profile(*batch)
        ]


def cupy() -> Any:
    """The module, which only a GPU needs."""
    return importlib.import_module("cupy")
