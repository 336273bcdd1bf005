"""``Net``: a compiled model with its parameters, optimiser state and plans."""

from __future__ import annotations

import copy
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from graphnet import init, tree
from graphnet.arrays import Arrays, as_array
from graphnet.backend import Backend
from graphnet.compiler.compile import checking, compile_graph
from graphnet.compiler.errors import CompileError, DTypeError, NameError_, PlanError, ShapeError
from graphnet.compiler.ir import Graph, Type, is_leaf
from graphnet.compiler.passes import Context
from graphnet.compiler.schedule import Plan
from graphnet.files import Saving
from graphnet.fit import History, evaluate, fit
from graphnet.inspection import Inspection
from graphnet.optim import Optimizer
from graphnet.plans import MODES, Bound, PlanInfo, copy_in, fitting_type, for_mode
from graphnet.program import Program, Traced
from graphnet.tensor import user_where

LOG = logging.getLogger("graphnet")
F = TypeVar("F", bound=Callable[..., Any])


def locked(method: F) -> F:
    """One call at a time: a plan has one set of buffers, so threads take turns."""

    @functools.wraps(method)
    def call(self: Net, *args: Any) -> Any:
        with self._lock:
            return method(self, *args)

    return call  # type: ignore[return-value]


class Net(Inspection, Saving):
    """A compiled model. See ``gn.compile`` for how to make one.

    ``params``, ``states`` and ``grads`` map names to live arrays; ``optimizer`` holds the hyperparameters,
    which may be changed between steps; ``plans`` lists the compiled plans, one for each mode and shape.
    """

    def __init__(
        self,
        program: Program,
        inputs: Sequence[Type],
        target: Type | None,
        optimizer: Optimizer | None,
        backend: Backend,
        seed: int,
        max_plans: int = 16,
    ) -> None:
        self.program = program
        self._optim = optimizer
        self.backend = backend
        self.seed = seed
        self.max_plans = max_plans
        self.metadata: dict[str, Any] = {}
        self.input_types = tuple(inputs)
        self._homes: dict[str, np.ndarray] = {
            "rng/seed": np.array(seed, np.uint64),
            "rng/step": np.array(0, np.uint64),
        }
        self._params: dict[str, np.ndarray] = {}
        self._states: dict[tuple[str, Type], np.ndarray] = {}
        self._state_init: dict[tuple[str, Type], Any] = {}
        self._slots: dict[str, np.ndarray] = {}
        self._bound: dict[Any, Bound] = {}
        self._fast: dict[Any, Bound] = {}
        self._traced: dict[Any, Traced] = {}
        self._phases: tuple[Bound, str] | None = None
        self._lock = threading.RLock()
        self._explicit = target
        first = self._trace(self.input_types, target, training=False)
        if target is None and program.loss_name and first.outputs != tree.LEAF:
            raise CompileError(
                f"{user_where()}: compile: {program.name} returns several outputs: say what the loss takes "
                f"as target with target=gn.spec(...)"
            )
        if target is None and first.outputs == tree.LEAF:
            target = program.target_type(first.graph.outputs[0][1].out)
        self.target_type = target
        self.trainable = target is not None or first.graph.has("loss")
        mode = "step" if optimizer is not None and self.trainable else "infer"
        self._plan(mode, self.input_types, target if mode == "step" else None)

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimiser in the compiled step; its hyperparameters may be set, the optimiser itself may not."""
        return self._optim

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        raise PlanError(
            f"{user_where()}: the optimiser is part of the compiled step: set its hyperparameters "
            f"(net.optimizer.lr = 0.05), or compile again with optimizer={type(value).__name__}(...)"
        )

    def __repr__(self) -> str:
        count = sum(a.size for a in self._params.values())
        return f"<Net {self.program.name}: {count:,} parameters, {len(self._bound)} plans>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Net:
        """A net of its own with equal values; its plans are made anew."""
        optimizer = copy.deepcopy(self._optim, memo)
        twin = Net(self.program, self.input_types, self._explicit, optimizer, self.backend, self.seed, self.max_plans)
        for info in self.plans:
            twin._plan(info.mode, info.inputs, info.target)
        twin.metadata = copy.deepcopy(self.metadata, memo)
        for mine, other in zip(self._arrays(), twin._arrays(), strict=True):
            other[...] = mine
        return twin

    def __reduce__(self) -> Any:
        raise PlanError(f"{user_where()}: a net is not pickled: write it with net.save(path), read it with gn.load")

    # -- plans ----------------------------------------------------------------------------------------

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
                self._state_init[key] = self._states[key].copy()

    def _initial(self, name: str, type_: Type, value: Any, where: object) -> np.ndarray:
        array = self.backend.allocate(type_)
        array[...] = init.initial_value(value, type_, self.seed, init.stream_of(name), where, what=f"param {name!r}")
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
        traced = self._trace(inputs, target, training=mode in ("step", "phases"))
        training = mode in ("step", "phases")
        context = Context(
            update=self._with_updates if training and self.optimizer is not None else None,
            keep_gradients=mode == "phases",
            differentiate=training,
        )
        plan = compile_graph(for_mode(traced.graph, mode), context)
        run = self.backend.bind(plan, self._home_map(plan), checking())
        names = [str(n.attrs["name"]) for n in traced.inputs]
        if traced.target is not None and mode != "infer":
            names.append("target")
        arrays = tuple(run.inputs[n] if n in run.inputs else np.empty(0) for n in names)
        outputs = tuple(a for n, a in run.outputs.items() if n.startswith("output"))
        info = PlanInfo(mode, inputs, target, time.perf_counter() - start, plan)
        return Bound(info, traced, run, context, arrays, outputs, "rng/step" in plan.leaves)

    def _with_updates(self, graph: Graph) -> Graph:
        """The graph with the optimiser's updates of every parameter that has a gradient."""
        if self.optimizer is None:
            return graph
        grads = {n[5:]: node for n, node in graph.outputs if n.startswith("grad/")}
        leaves = {str(n.attrs["name"]): n for n in graph.leaves() if is_leaf(n)}
        params = {name: leaves[name] for name in grads}
        # last parameters first: their gradients are ready first
        backwards = dict(reversed(params.items()))
        found = self.optimizer.updates(backwards, {n: grads[n] for n in backwards})
        return graph.with_results(updates=(*graph.updates, *found))

    def _home_map(self, plan: Plan) -> dict[str, np.ndarray]:
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
                    self._slots[name] = self.backend.allocate(type_)
                    if role == "slot" and self.optimizer is not None:
                        self._slots[name][...] = self.optimizer.slot_init(name)
                homes[name] = self._slots[name]
        return homes

    def plan_for(self, *specs: Any, mode: str = "infer", target: Any = None) -> PlanInfo:
        """Make the plan for these input specs ahead of its first use (and so that ``save`` keeps it)."""
        from graphnet.program import spec_of

        if mode not in MODES:
            raise PlanError(f"{user_where()}: plan_for: mode {mode!r} is unknown: use one of {', '.join(MODES)}")
        kind = spec_of(target).type if target is not None else None
        return self._plan(mode, tuple(spec_of(s).type for s in specs), kind).info

    @property
    def plans(self) -> tuple[PlanInfo, ...]:
        """Every plan made so far, in order; at most ``max_plans``."""
        return tuple(bound.info for bound in self._bound.values())

    # -- calls ----------------------------------------------------------------------------------------

    def _prepare(self, mode: str, args: tuple[Any, ...], with_target: bool) -> Bound:
        """Find or make the plan for these arguments and copy them in."""
        arrays = [as_array(a) for a in args]
        key = (mode, *((a.shape, a.dtype) for a in arrays))
        bound = self._fast.get(key)
        if bound is None:
            bound = self._fast[key] = self._resolve(mode, arrays, with_target)
        for target, value in zip(bound.inputs, arrays, strict=False):
            if target.size:
                copy_in(target, value)
        return bound

    def _resolve(self, mode: str, arrays: list[np.ndarray], with_target: bool) -> Bound:
        count = len(self.input_types)
        expected = count + (1 if with_target and self.target_type is not None else 0)
        inputs = self._fitting(arrays, expected, mode)
        target = None
        if expected > count:
            target = self._target(inputs, arrays[count])
        return self._plan(mode, inputs, target)

    def _fitting(self, arrays: Sequence[np.ndarray], expected: int, what: str) -> tuple[Type, ...]:
        """The plan's types for the inputs among ``arrays``; raises one line if number, axes or dtypes do not fit."""
        count = len(self.input_types)
        if len(arrays) != expected:
            inputs = f"{count} input{'s' if count != 1 else ''}{' and a target' if expected > count else ''}"
            raise PlanError(f"{user_where()}: {self.program.name}: {what} takes {inputs}: it got {len(arrays)} in all")
        triples = zip(self.program.names, self.input_types, arrays[:count], strict=True)
        return tuple(fitting_type(name, type_, array) for name, type_, array in triples)

    def _target(self, inputs: tuple[Type, ...], value: np.ndarray) -> Type:
        """The target's type: as given to compile, else the loss's default.

        One-hot rows and probabilities are floats of the output's shape; a loss that does not say what it takes
        gets integers as they are unless they have the output's shape.
        """
        output = self._trace(inputs, None, training=False).graph.outputs[0][1].out
        default = self._explicit or self.program.target_type(output) or output
        kinds = [default.dtype]
        if self._explicit is None and default.dtype.startswith("int") and value.shape == output.shape and value.ndim:
            kinds = [output.dtype]
        elif self._explicit is None and not self.program.says_target and value.shape != output.shape:
            kinds = ["int32", *kinds] if value.dtype.kind in "iu" else kinds
        fitting = [k for k in kinds if np.can_cast(value.dtype, k, "same_kind")]
        if not fitting:
            raise DTypeError(
                f"{user_where()}: {self.program.loss_name or 'loss'}: the target is {value.dtype}, need "
                f"{default.dtype}: convert it with .astype('{default.dtype}')"
            )
        types = [Type(value.shape, k) for k in fitting]
        return next((t for t in types if self.program.knows(inputs, t)), types[0])

    def _default_target(self, inputs: tuple[Type, ...]) -> Type | None:
        """The target's type before a target was seen: its batch is that of the first input."""
        if self.target_type is None:
            return None
        if self._explicit is not None and inputs == self.input_types:
            return self._explicit
        if self._explicit is None:
            return self.program.target_type(self._trace(inputs, None, training=False).graph.outputs[0][1].out)
        shape = self._explicit.shape
        rows = inputs[0].shape[:1] if inputs else ()
        return Type((*rows, *shape[1:]) if shape and rows else shape, self._explicit.dtype)

    def _advance(self, bound: Bound) -> None:
        if bound.random:
            self._homes["rng/step"] += np.uint64(1)

    def _load_hyper(self) -> None:
        for name, value in self._optimizer().hyper.items():
            slot = self._slots.get(f"optimizer/{name}")
            if slot is not None:
                slot[...] = value

    def _optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise PlanError(f"{user_where()}: {self.program.name} was compiled without an optimizer: pass optimizer=")
        return self.optimizer

    def _needs_loss(self) -> None:
        if not self.trainable:
            raise PlanError(f"{user_where()}: {self.program.name} was compiled without a loss: pass loss=")

    @locked
    def __call__(self, *args: Any) -> Any:
        """Inference on arrays: dropout off, nothing kept for gradients. Returns new arrays."""
        bound = self._prepare("infer", args, with_target=False)
        bound.run.run()
        self._advance(bound)
        if bound.traced.outputs == tree.LEAF:
            return bound.outputs[0].copy()
        return tree.unflatten(bound.traced.outputs, [a.copy() for a in bound.outputs])

    @locked
    def step(self, *args: Any) -> float:
        """One training step: forward, backward and update. Returns the loss before the update."""
        self._needs_loss()
        self._optimizer()
        bound = self._prepare("step", args, with_target=True)
        self._load_hyper()
        bound.run.run()
        self._advance(bound)
        self._phases = None  # gradients of before this step are not to be applied after it
        return float(bound.run.outputs["loss"])

    @locked
    def loss(self, *args: Any) -> float:
        """The loss in inference mode; nothing is updated but states."""
        self._needs_loss()
        bound = self._prepare("loss", args, with_target=True)
        bound.run.run()
        self._advance(bound)
        return float(bound.run.outputs["loss"])

    @locked
    def forward(self, *args: Any) -> Any:
        """The first phase of a training step; returns the model's output (of the training graph)."""
        self._needs_loss()
        arrays = [as_array(a) for a in args]
        inputs = self._fitting(arrays, len(self.input_types), "forward")
        bound = self._plan("phases", inputs, self._default_target(inputs))
        return self._run_forward(bound, arrays)

    def _run_forward(self, bound: Bound, arrays: Sequence[np.ndarray]) -> Any:
        for target, value in zip(bound.inputs, arrays, strict=False):
            if target.size:
                copy_in(target, value)
        bound.run.run("forward")
        self._phases = (bound, "forward")
        copies = [a.copy() for a in bound.outputs]
        return copies[0] if bound.traced.outputs == tree.LEAF else tree.unflatten(bound.traced.outputs, copies)

    @locked
    def backward(self, *target: Any) -> float:
        """The second phase: loss and gradients of the last ``forward``. Returns the loss."""
        bound = self._phase("backward", ("forward", "backward"))
        again = self._phases is not None and self._phases[1] == "backward"
        if self.target_type is not None:
            if len(target) != 1:
                raise PlanError(f"{user_where()}: backward takes the target of the batch given to forward")
            value = as_array(target[0])
            kind = self._target(bound.info.inputs, value)
            if kind != bound.info.target:
                given = bound.inputs[: len(self.input_types)]
                bound = self._plan("phases", bound.info.inputs, kind)
                self._run_forward(bound, given)
                again = False
            copy_in(bound.inputs[-1], value)
        if again:  # the first backward took over memory of values it needed no more
            bound.run.run("forward")
        bound.run.run("backward")
        self._phases = (bound, "backward")
        return float(bound.run.outputs["loss"])

    @locked
    def update(self) -> None:
        """The third phase: apply the gradients of the last ``backward``."""
        self._optimizer()
        bound = self._phase("update", ("backward",))
        self._load_hyper()
        bound.run.run("update")
        self._advance(bound)
        self._phases = (bound, "update")

    def _phase(self, wanted: str, allowed: Sequence[str]) -> Bound:
        if self._phases is None or self._phases[1] not in allowed:
            raise PlanError(
                f"{user_where()}: {wanted}: call {allowed[0]} first: the order is forward, backward, update"
            )
        return self._phases[0]

    def fit(self, x: Any, y: Any = None, **options: Any) -> History:
        """Train over arrays; see :func:`graphnet.fit.fit` for the options."""
        return fit(self, x, y, **options)

    def evaluate(self, x: Any, y: Any = None, batch_size: int | None = None) -> float:
        """The mean loss over samples in inference mode."""
        return evaluate(self, x, y, batch_size)

    # -- state ----------------------------------------------------------------------------------------

    @property
    def params(self) -> Arrays:
        """Parameters by name, live."""
        return Arrays(self._params, "parameter")

    @property
    def states(self) -> Arrays:
        """States by name, live, as the compiled shapes have them."""
        return Arrays({name: array for (name, _), array in reversed(self._states.items())}, "state")

    @property
    def grads(self) -> Arrays:
        """Gradients by parameter name after ``backward``; ``step`` keeps none."""
        if self._phases is None or self._phases[1] == "forward":
            raise PlanError(f"{user_where()}: grads: there are none before net.backward(y); net.step keeps none")
        outputs = self._phases[0].run.outputs
        return Arrays({n[5:]: a for n, a in outputs.items() if n.startswith("grad/")}, "gradient")

    @property
    def slots(self) -> Arrays:
        """Optimiser slots by name, live."""
        return Arrays(dict(self._slots), "slot")

    def _arrays(self) -> list[np.ndarray]:
        """Everything that lives across calls."""
        return [*self._params.values(), *self._slots.values(), *self._states.values(), *self._homes.values()]

    def reset_states(self) -> None:
        """Put every state back to its initial value."""
        for key, initial in self._state_init.items():
            self._states[key][...] = initial
