"""Programs: what a net is traced from. A function can be traced for any shapes, a saved file holds a few."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from graphnet import losses, tree
from graphnet.compiler import build as b
from graphnet.compiler.errors import NameError_, PlanError, ShapeError, TraceError
from graphnet.compiler.ir import Graph, Node, Type, Where, leaf
from graphnet.tensor import Tensor, as_node, user_where
from graphnet.trace import Declared, Spec, Trace, model

Signature = tuple[tuple[Type, ...], Type | None, bool]


@dataclass(frozen=True)
class Traced:
    """A model traced for one signature: its graph, what it declared, and the nest its outputs form."""

    graph: Graph
    params: Mapping[str, Declared]
    states: Mapping[str, Declared]
    inputs: tuple[Node, ...]
    target: Node | None
    outputs: tree.Structure = field(default=tree.LEAF)

    @property
    def signature(self) -> Signature:
        training = self.graph.name.endswith("training")
        return tuple(n.out for n in self.inputs), self.target.out if self.target else None, training


class Program(Protocol):
    """Where graphs come from."""

    name: str
    loss_name: str
    names: list[str]
    says_target: bool

    def knows(self, inputs: Sequence[Type], target: Type) -> bool:
        """Whether a graph for these types is at hand or can be traced."""

    def trace(self, inputs: Sequence[Type], target: Type | None, training: bool) -> Traced:
        """The graph for these input types, with a loss if ``target`` is given or the model returns it."""

    def target_type(self, output: Type) -> Type | None:
        """The target the loss expects by default for this output."""


def _function_name(fn: Callable[..., Any]) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__name__", type(fn).__name__)
    return "model" if name == "<lambda>" else str(name)


class FunctionProgram:
    """A model function, its options and its loss. Without a loss the model's scalar result can be one."""

    def __init__(
        self,
        fn: Callable[..., Any],
        specs: Sequence[Spec],
        loss: Callable[..., Any] | None,
        options: Mapping[str, Any],
    ) -> None:
        self.fn = fn if _is_model(fn) else model(_named(fn))
        self.name = _function_name(fn)
        self.loss = loss
        self.loss_name = _function_name(loss) if loss else ""
        self.says_target = loss is not None and losses.says_target(loss)
        self.options = dict(options)
        self.names = self._input_names(fn, specs)

    def _input_names(self, fn: Callable[..., Any], specs: Sequence[Spec]) -> list[str]:
        where = user_where()
        try:
            signature = inspect.signature(fn)
            bound = signature.bind(*specs, **self.options)
        except TypeError as error:
            raise NameError_(f"{where}: compile: {self.name}{inspect.signature(fn)}: {error}") from None
        names = []
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                names += [f"{name}{i}" for i in range(len(value))]
            elif isinstance(value, Spec):
                names.append(name)
        names = [spec.name or name for spec, name in zip(specs, names, strict=True)]
        taken = ["target"] if self.loss is not None else []
        for name in names:
            if name in taken:
                raise NameError_(f"{where}: compile: input name {name!r} is taken: give gn.spec(..., name=) another")
            taken.append(name)
        return names

    def knows(self, inputs: Sequence[Type], target: Type) -> bool:
        return True

    def target_type(self, output: Type) -> Type | None:
        return losses.target_type(self.loss, output) if self.loss else None

    def trace(self, inputs: Sequence[Type], target: Type | None, training: bool) -> Traced:
        trace = Trace(training)
        where = user_where()
        with trace.activate():
            leaves = [leaf(n, "input", t, where) for n, t in zip(self.names, inputs, strict=True)]
            target_leaf = leaf("target", "target", target, where) if target else None
            result = self.fn(*(Tensor(n) for n in leaves), **self.options)
            found, structure = tree.flatten(result)
            outputs = _outputs(self.name, found, where)
            named = [(_output_name(i, len(outputs)), n) for i, n in enumerate(outputs)]
            loss = None
            if self.loss is not None and target_leaf is not None:
                with trace.inside(self.loss_name, None):
                    loss = self._loss(result, target_leaf)
            elif self.loss is None and len(outputs) == 1 and outputs[0].shape == () and outputs[0].out.is_float:
                loss = outputs[0]
            if loss is not None:
                named.append(("loss", loss))
        updates = tuple((trace.states[name].node, value) for name, value in trace.assigned.items())
        name = f"{self.name}:{'training' if training else 'inference'}"
        graph = Graph(tuple(leaves), tuple(named), updates, name)
        trace.check_closed(graph, *([target_leaf] if target_leaf else []))
        return Traced(graph, trace.params, trace.states, tuple(leaves), target_leaf, structure)

    def _loss(self, result: Any, target: Node) -> Node:
        value = self.loss(result, Tensor(target)) if self.loss else None
        if not isinstance(value, Tensor) or value.shape != ():
            kind = f"a tensor of shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(f"{user_where()}: loss {self.loss_name!r} must return a scalar, it returned {kind}")
        return value.node


def _outputs(name: str, found: Sequence[Any], where: Where) -> list[Node]:
    """The model's results as nodes."""
    if not found:
        raise TraceError(f"{where}: model {name!r} returned nothing: return a tensor, or a nest of tensors")
    for value in found:
        if not isinstance(value, (Tensor, np.ndarray, np.generic, bool, int, float)):
            raise TraceError(f"{where}: model {name!r} must return tensors, it returned {type(value).__name__}")
    with b.at(where):
        return [as_node(v) for v in found]


def _output_name(index: int, count: int) -> str:
    return "output" if count == 1 else f"output/{index}"


def _is_model(fn: Callable[..., Any]) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return hasattr(fn, "__graphnet_model__")


def _named(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` under a name that can head parameter names."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    call.__name__ = _function_name(fn)
    return call


class SavedProgram:
    """Graphs from a file: they run and train on, for the shapes they were saved for."""

    def __init__(self, name: str, loss_name: str, traced: Sequence[Traced], targets: Mapping[Type, Type]) -> None:
        self.name = name
        self.loss_name = loss_name
        self._targets = dict(targets)
        self._graphs = {t.signature: t for t in traced}
        self.names = [str(n.attrs["name"]) for n in traced[0].inputs] if traced else []

    says_target = False

    def knows(self, inputs: Sequence[Type], target: Type) -> bool:
        return any(known[:2] == (tuple(inputs), target) for known in self._graphs)

    def trace(self, inputs: Sequence[Type], target: Type | None, training: bool) -> Traced:
        found = self._graphs.get((tuple(inputs), target, training))
        if found is None:
            known = "; ".join(sorted({", ".join(map(str, inputs)) for inputs, _, _ in self._graphs}))
            what = "training" if training else "inference"
            wanted = ", ".join(map(str, inputs)) + (f" with target {target}" if target else "")
            raise PlanError(
                f"{user_where()}: this saved net has no {what} graph for {wanted} (saved inputs: {known}): compile "
                f"the model function for other shapes and call its restore(path)"
            )
        return found

    def target_type(self, output: Type) -> Type | None:
        return self._targets.get(output)

    @property
    def traced(self) -> tuple[Traced, ...]:
        return tuple(self._graphs.values())


def spec_of(value: Any) -> Spec:
    """A spec from a spec or an example array; raises TraceError for anything else."""
    if isinstance(value, Spec):
        return value
    if isinstance(value, np.ndarray):
        small = value.dtype.kind in "iu" and (not value.size or abs(value).max() < 1 << 31)
        dtype = {"float16": "float32", "int64": "int32" if small else "int64"}.get(value.dtype.name, value.dtype.name)
        return Spec(value.shape, dtype)
    raise TraceError(
        f"{user_where()}: compile: inputs are described by gn.spec(shape) or an example array, "
        f"got {type(value).__name__}"
    )
