"""Gradients against central differences, in float64, on the training graph with its randomness held still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnet.compiler.compile import compile_graph
from graphnet.compiler.ir import Type
from graphnet.compiler.passes import Context
from graphnet.double import in_double

if TYPE_CHECKING:
    from graphnet.backend import Backend, Executable
    from graphnet.net import Net


@dataclass(frozen=True)
class Entry:
    """One checked parameter entry: its gradient by the graph and by (L(p+e) - L(p-e)) / 2e."""

    name: str
    index: tuple[int, ...]
    gradient: float
    difference: float

    @property
    def error(self) -> float:
        """|gradient - difference| relative to their size, with a floor of 1e-4 on the size."""
        size = max(abs(self.gradient), abs(self.difference), 1e-4)
        return abs(self.gradient - self.difference) / size


@dataclass(frozen=True)
class Report:
    """All checked entries; prints the worst of each parameter."""

    entries: tuple[Entry, ...]

    @property
    def max_error(self) -> float:
        """The largest relative error, 0 without parameters."""
        return max((e.error for e in self.entries), default=0.0)

    def __str__(self) -> str:
        worst: dict[str, Entry] = {}
        for e in self.entries:
            if e.name not in worst or e.error > worst[e.name].error:
                worst[e.name] = e
        lines = [f"{'error':>9}  {'gradient':>13}  {'difference':>13}  parameter"]
        lines += [
            f"{e.error:9.1e}  {e.gradient:13.6e}  {e.difference:13.6e}  {e.name}{list(e.index)}" for e in worst.values()
        ]
        return "\n".join(lines)


def check(net: Net, args: tuple[Any, ...], samples: int, epsilon: float) -> Report:
    """Check up to ``samples`` entries of each parameter at the net's present state; see ``Report``."""
    net._needs_loss()
    backend = net.backend
    arrays = [backend.argument(a) for a in args]
    bound = net._resolve("loss", arrays, with_target=True)
    traced = net._trace(bound.info.inputs, bound.info.target, training=True)
    graph, _ = in_double(traced.graph)
    context = Context(differentiate=True, keep_gradients=True, target=backend.target)
    plan = compile_graph(graph.with_results(updates=()), context)
    homes = {name: _double(backend, array) for name, array in _homes(net, bound).items()}
    run = backend.bind(plan, homes)
    names = [*net.program.names, "target"]
    for name, value in zip(names, arrays, strict=False):
        if name in run.inputs:
            backend.write(run.inputs[name], value)
    step = backend.read(homes["rng/step"]).copy()

    def again() -> None:
        run.run()
        if run.counts:
            backend.write(homes["rng/step"], step)

    again()
    gradients = {n[5:]: backend.read(a).copy() for n, a in run.outputs.items() if n.startswith("grad/")}
    chosen = np.random.default_rng(0)
    entries = []
    for name, gradient in gradients.items():
        loss = _losses(backend, run, again, homes[name])
        picks = chosen.permutation(gradient.size)[:samples]
        for flat in sorted(int(p) for p in picks):
            index = tuple(int(i) for i in np.unravel_index(flat, gradient.shape))
            slope = (loss(index, epsilon) - loss(index, -epsilon)) / (2 * epsilon)
            entries.append(Entry(name, index, float(gradient[index]), slope))
    return Report(tuple(entries))


def _homes(net: Net, bound: Any) -> dict[str, Any]:
    return net._home_map(bound.info.plan) | net._params | {n: a for (n, _), a in net._states.items()}


def _double(backend: Backend, array: Any) -> Any:
    """A copy of an array of the backend, float32 as float64."""
    dtype = array.dtype.name
    copy = backend.allocate(Type(array.shape, "float64" if dtype == "float32" else dtype))
    backend.write(copy, backend.read(array))
    return copy


def _losses(
    backend: Backend, run: Executable, again: Callable[[], None], home: Any
) -> Callable[[tuple[int, ...], float], float]:
    """A function of an index and a step: the loss with that entry of the home so much larger."""
    kept = backend.read(home).copy()

    def loss(index: tuple[int, ...], step: float) -> float:
        moved = kept.copy()
        moved[index] += step
        backend.write(home, moved)
        again()
        backend.write(home, kept)
        return float(backend.read(run.outputs["loss"]))

    return loss
