"""The compiling half of a net: what it traced, the plans it made, and the memory that outlives them."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from graphnet import init
from graphnet.backend import Backend
from graphnet.compiler.compile import checking, compile_graph
from graphnet.compiler.errors import NameError_, PlanError, ShapeError
from graphnet.compiler.ir import Graph, Type, is_leaf
from graphnet.compiler.passes import Context
from graphnet.compiler.schedule import Plan
from graphnet.optim import Optimizer
from graphnet.plans import MODES, Bound, PlanInfo, for_mode
from graphnet.program import Program, Traced, spec_of
from graphnet.tensor import user_where

LOG = logging.getLogger("graphnet")


class Planner:
    """Traces the program for each signature, gives what it declares memory, compiles and binds plans.

    All plans share parameters, optimiser slots and, where their shapes agree, states.
    """

    input_types: tuple[Type, ...]

    def __init__(
        self, program: Program, optimizer: Optimizer | None, backend: Backend, seed: int, max_plans: int
    ) -> None:
        self.program = program
        self.backend = backend
        self.seed = seed
        self.max_plans = max_plans
        self._optim = optimizer
        # arrays of the backend, which alone reads and writes them
        self._homes: dict[str, Any] = {n: backend.allocate(Type((), "uint64")) for n in ("rng/seed", "rng/step")}
        backend.write(self._homes["rng/seed"], np.array(seed, np.uint64))
        self._params: dict[str, Any] = {}
        self._states: dict[tuple[str, Type], Any] = {}
        self._state_init: dict[tuple[str, Type], np.ndarray] = {}
        self._slots: dict[str, Any] = {}
        self._loaded: dict[str, float] | None = None  # hyperparameters as the slots have them
        self._bound: dict[Any, Bound] = {}
        self._traced: dict[Any, Traced] = {}

    def _trace(self, inputs: tuple[Type, ...], target: Type | None, training: bool) -> Traced:
        key = (inputs, target, training)
        if key not in self._traced:
            traced = self.program.trace(inputs, target, training)
            self._declare(traced)
            self._traced[key] = traced
        return self._traced[key]

    def _declare(self, traced: Traced) -> None:
        """Give memory and initial values to what this trace declared for the first time."""
        for name, declared in traced.params.items():
            type_ = declared.node.out
            if name not in self._params:
                self._params[name] = self._initial(name, type_, declared.init, declared.where)
            elif self._params[name].shape != type_.shape:
                raise ShapeError(
                    f"{declared.where}: param {name!r} has shape {self._params[name].shape} from the first "
                    f"compilation, but {type_.shape} for inputs {', '.join(str(n.out) for n in traced.inputs)}: "
                    f"the net was compiled for {', '.join(map(str, self.input_types))}"
                )
        for name, declared in traced.states.items():
            key = (name, declared.node.out)
            if key not in self._states:
                self._states[key] = self._initial(name, key[1], declared.init, declared.where)
                self._state_init[key] = self.backend.read(self._states[key]).copy()

    def _initial(self, name: str, type_: Type, value: Any, where: object) -> Any:
        found = init.initial_value(value, type_, self.seed, init.stream_of(name), where, what=f"param {name!r}")
        array = self.backend.allocate(type_)
        self.backend.write(array, found)
        return array

    def _plan(self, mode: str, inputs: tuple[Type, ...], target: Type | None) -> Bound:
        key = (mode, inputs, target)
        if key not in self._bound:
            if len(self._bound) >= self.max_plans:
                shapes = ", ".join(map(str, inputs))
                raise PlanError(
                    f"{user_where()}: {self.program.name}: a plan for {mode}({shapes}) would be number "
                    f"{len(self._bound) + 1}, the bound is {self.max_plans}: use fewer input shapes (pad the "
                    f"last batch) or compile with a larger max_plans"
                )
            self._bound[key] = self._compile(mode, inputs, target)
            same = sum(k[0] == mode for k in self._bound)
            # one more shape than compiled is the ragged last batch; several are worth telling without being asked
            level = logging.WARNING if same > 2 else logging.INFO
            LOG.log(level, "graphnet: %s: plan %d for %s", self.program.name, same, self._bound[key].info)
        return self._bound[key]

    def _compile(self, mode: str, inputs: tuple[Type, ...], target: Type | None) -> Bound:
        start = time.perf_counter()
        traced, plan, context = self._compiled(mode, inputs, target, self.backend)
        run = self.backend.bind(plan, self._home_map(plan), checking())
        names = [str(n.attrs["name"]) for n in traced.inputs]
        if traced.target is not None and mode != "infer":
            names.append("target")
        arrays = tuple(run.inputs[n] if n in run.inputs else np.empty(0) for n in names)
        outputs = tuple(a for n, a in run.outputs.items() if n.startswith("output"))
        info = PlanInfo(mode, inputs, target, time.perf_counter() - start, plan)
        return Bound(info, traced, run, context, arrays, outputs, "rng/step" in plan.leaves)

    def _compiled(
        self, mode: str, inputs: tuple[Type, ...], target: Type | None, backend: Backend
    ) -> tuple[Traced, Plan, Context]:
        """The traced program and its plan for a backend; nothing is bound."""
        training = mode in ("step", "phases")
        traced = self._trace(inputs, target, training)
        context = Context(
            update=self._with_updates if training and self._optim is not None else None,
            keep_gradients=mode == "phases",
            differentiate=training,
            target=backend.target,
        )
        return traced, compile_graph(for_mode(traced.graph, mode), context), context

    def _with_updates(self, graph: Graph) -> Graph:
        """The graph with the optimiser's updates of every parameter that has a gradient."""
        if self._optim is None:
            return graph
        grads = {n[5:]: node for n, node in graph.outputs if n.startswith("grad/")}
        leaves = {str(n.attrs["name"]): n for n in graph.leaves() if is_leaf(n)}
        params = {name: leaves[name] for name in grads}
        # last parameters first: their gradients are ready first
        backwards = dict(reversed(params.items()))
        found = self._optim.updates(backwards, {n: grads[n] for n in backwards})
        return graph.with_results(updates=(*graph.updates, *found))

    def _home_map(self, plan: Plan) -> dict[str, Any]:
        """Memory for each leaf of a plan that outlives it."""
        homes = dict(self._homes)
        for node in plan.graph.leaves():
            role, name, type_ = node.attrs["role"], str(node.attrs["name"]), node.out
            if role == "param":
                homes[name] = self._params[name]
            elif role == "state":
                homes[name] = self._params.get(name, self._states.get((name, type_), np.empty(0)))
            elif role in ("slot", "hyper"):
                if name in self._params or any(name == n for n, _ in self._states):
                    raise NameError_(
                        f"{node.where}: {name!r} names both a parameter and optimiser state: rename the model"
                    )
                if name not in self._slots:
                    self._loaded = None
                    self._slots[name] = self.backend.allocate(type_)
                    if role == "slot" and self._optim is not None:
                        self.backend.write(self._slots[name], self._optim.slot_init(name))
                homes[name] = self._slots[name]
        return homes

    def plan_for(self, *specs: Any, mode: str = "infer", target: Any = None) -> PlanInfo:
        """Make the plan for these input specs ahead of its first use (and so that ``save`` keeps it)."""
        if mode not in MODES:
            raise PlanError(f"{user_where()}: plan_for: mode {mode!r} is unknown: use one of {', '.join(MODES)}")
        kind = spec_of(target).type if target is not None else None
        return self._plan(mode, tuple(spec_of(s).type for s in specs), kind).info

    @property
    def plans(self) -> tuple[PlanInfo, ...]:
        """Every plan made so far, in order; at most ``max_plans``."""
        return tuple(bound.info for bound in self._bound.values())

    def _arrays(self) -> list[Any]:
        """Everything that lives across calls."""
        return [*self._params.values(), *self._slots.values(), *self._states.values(), *self._homes.values()]
