"""What a net says about itself: listings, dumps, the memory plan, timings, gradient checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from graphnet.atomic import write_atomically
from graphnet.compiler import printers
from graphnet.compiler.cuda import cuda_target, emit
from graphnet.compiler.errors import BackendError, PlanError
from graphnet.compiler.schedule import Plan, Step
from graphnet.tensor import user_where

if TYPE_CHECKING:
    from graphnet.net import Net


class Memory:
    """The memory plan of one plan: planned bytes, the lower bound, who owns what. Prints as a table."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.arena = plan.memory.arena
        self.lower_bound = plan.memory.lower_bound
        self.without_reuse = plan.memory.total_temporaries
        self.homes = dict(plan.memory.homes)

    def __str__(self) -> str:
        return printers.memory.table(self._plan)

    def timeline(self, width: int = 72) -> str:
        """Lifetimes drawn over the schedule."""
        return printers.memory.timeline(self._plan, width)


class Schedule:
    """The steps of one plan in order. Prints as a listing."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __iter__(self) -> Iterator[Step]:
        return iter(self._plan.steps)

    def __len__(self) -> int:
        return len(self._plan.steps)

    def __getitem__(self, index: int) -> Step:
        return self._plan.steps[index]

    def __str__(self) -> str:
        return printers.schedule.listing(self._plan)


DUMPS: dict[str, Callable[[Any], str]] = {
    ".txt": lambda net: net.listing(),
    ".dot": lambda net: printers.dot.dot(net.plan),
    ".json": lambda net: printers.export.to_json(net.plan),
    ".graphml": lambda net: printers.export.to_graphml(net.plan),
    ".html": lambda net: printers.html.html(net.plan, net.program.name, net.summary()),
    ".c": lambda net: text_of(net, "c", "C", "backend='c'"),
    ".cu": lambda net: cuda_text(net),
}
LATER = {".onnx": "the ONNX exporter"}


def cuda_text(net: Net) -> str:
    """The main plan's CUDA text, lowered for a GPU if the net runs elsewhere."""
    if net.backend.target.name == "cuda":
        return net.source()
    target = cuda_target()
    info = net.plans[0]
    _, plan, _ = net._compiled(info.mode, info.inputs, info.target, SimpleNamespace(target=target))
    return emit(plan, target).text


def text_of(net: Net, target: str, language: str, remedy: str) -> str:
    """The main plan's file in a language; raises BackendError for a net of another backend."""
    if net.backend.target.name != target:
        raise BackendError(
            f"{user_where()}: dump: the net runs on the {net.backend.name} backend, which has no {language} text: "
            f"compile with {remedy}"
        )
    return net.source()


class Inspection:
    """The part of ``Net`` that prints and measures; the plan shown is the first one made (the training step)."""

    @property
    def plan(self: Net) -> Plan:
        """The main plan: the training step, or inference for a net without loss or optimiser."""
        return next(iter(self._bound.values())).info.plan

    def __str__(self: Net) -> str:
        return self.listing()

    def listing(self: Net, collapse: int | None = None) -> str:
        """Numbered ops with shapes and buffers; ``collapse=n`` shows one line a model function n levels deep."""
        if collapse is not None:
            return printers.listing.graph_listing(self.plan.graph, collapse)
        return printers.listing.plan_listing(self.plan)

    def summary(self: Net) -> str:
        """A row a layer: operation, output shape, parameters and their share."""
        target = self.target_type if self.trainable else None
        traced = self._trace(self.input_types, target, training=self.trainable)
        params = {name: declared.node.out for name, declared in traced.params.items()}
        forward = [(n, v) for n, v in traced.graph.outputs if n != "loss"] or traced.graph.outputs
        return printers.summary.summary(traced.graph.with_results(outputs=forward, updates=()), params)

    @property
    def memory(self: Net) -> Memory:
        """The memory plan of the main plan."""
        return Memory(self.plan)

    @property
    def schedule(self: Net) -> Schedule:
        """The schedule of the main plan."""
        return Schedule(self.plan)

    def source(self: Net) -> str:
        """What the backend executes, as text: a C or CUDA file, or for numpy the schedule, a line a call."""
        return self.backend.source(self.plan)

    def explain(self: Net, times: bool = True) -> str:
        """The passes with their times, what declined and why, the plan in bytes."""
        bound = next(iter(self._bound.values()))
        return printers.explain.explain(bound.context, bound.info.plan, times=times)

    def dump(self: Net, path: str | Path) -> Path:
        """Write the graph in the format of the suffix: .txt .dot .json .graphml .html, or what runs: .c .cu."""
        target = Path(path)
        writer = DUMPS.get(target.suffix)
        if writer is None:
            if target.suffix in LATER:
                raise BackendError(
                    f"{user_where()}: dump: {target.suffix} needs {LATER[target.suffix]}, not in this version"
                )
            raise PlanError(f"{user_where()}: dump: {target.suffix or 'no suffix'} is unknown: use {', '.join(DUMPS)}")
        write_atomically(target, writer(self).encode())
        return target

    def profile(self: Net, *args: Any, repeats: int = 20) -> Profile:
        """Median seconds of each schedule step over ``repeats`` training steps; the net is left unchanged."""
        mode = "step" if self.optimizer is not None and self.trainable else "infer"
        kept = self._snapshot()
        bound = self._prepare(mode, args, with_target=mode == "step")
        if mode == "step":
            self._load_hyper()
        rows = bound.run.profile(repeats)
        self._restore(kept)
        return Profile(rows)

    def _snapshot(self: Net) -> list[tuple[Any, Any]]:
        self._settle()
        return [(array, self.backend.read(array).copy()) for array in self._arrays()]

    def _restore(self: Net, kept: list[tuple[Any, Any]]) -> None:
        for array, values in kept:
            self.backend.write(array, values)

    def check_gradients(self: Net, *args: Any, samples: int = 8, epsilon: float = 1e-6) -> Any:
        """Compare gradients with central differences in float64; see :class:`graphnet.gradcheck.Report`."""
        from graphnet.gradcheck import check

        return check(self, args, samples, epsilon)


class Profile:
    """Seconds a schedule step, slowest first when printed."""

    def __init__(self, rows: list[tuple[Step, float]]) -> None:
        self.rows = rows
        self.total = sum(seconds for _, seconds in rows)

    def __iter__(self) -> Iterator[tuple[Step, float]]:
        return iter(self.rows)

    def __str__(self) -> str:
        lines = [f"{'ms':>9}  {'share':>6}  step"]
        for step, seconds in sorted(self.rows, key=lambda row: -row[1]):
            share = seconds / self.total if self.total else 0.0
            lines.append(f"{seconds * 1e3:9.4f}  {share:6.1%}  {step.op:14} {step.phase:8} {step.where}")
        lines.append(f"{self.total * 1e3:9.4f}  total")
        return "\n".join(lines)
