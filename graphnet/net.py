"""``Net``: a compiled model with its parameters, optimiser state and plans."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from graphnet import tree
from graphnet.arrays import Arrays
from graphnet.backend import Backend
from graphnet.compiler.errors import CompileError, DataError, DTypeError, PlanError
from graphnet.compiler.ir import Type
from graphnet.files import Saving
from graphnet.fit import History, check_options, evaluate, fit
from graphnet.inspection import Inspection
from graphnet.lazy import Loss
from graphnet.optim import Optimizer
from graphnet.planner import Planner
from graphnet.plans import Bound, copy_in, fitting_type
from graphnet.program import Program
from graphnet.tensor import user_where

F = TypeVar("F", bound=Callable[..., Any])


def locked(method: F) -> F:
    """One call at a time: a plan has one set of buffers, so threads take turns."""

    @functools.wraps(method)
    def call(self: Net, *args: Any) -> Any:
        with self._lock:
            return method(self, *args)

    return call  # type: ignore[return-value]


class Net(Planner, Inspection, Saving):
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
        super().__init__(program, optimizer, backend, seed, max_plans)
        self.metadata: dict[str, Any] = {}
        self.input_types = tuple(inputs)
        self._fast: dict[Any, Bound] = {}
        self._last: dict[str, Bound] = {}
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
        self._settle()
        for mine, other in zip(self._arrays(), twin._arrays(), strict=True):
            twin.backend.write(other, self.backend.read(mine))
        return twin

    def __reduce__(self) -> Any:
        raise PlanError(f"{user_where()}: a net is not pickled: write it with net.save(path), read it with gn.load")

    # -- calls ----------------------------------------------------------------------------------------

    def _prepare(self, mode: str, args: tuple[Any, ...], with_target: bool) -> Bound:
        """Find or make the plan for these arguments and copy them in."""
        arrays = [self.backend.argument(a) for a in args]
        key = (mode, *((a.shape, a.dtype) for a in arrays))
        bound = self._fast.get(key)
        if bound is None:
            bound = self._fast[key] = self._resolve(mode, arrays, with_target)
        self._fill(bound, arrays)
        return bound

    def _fill(self, bound: Bound, arrays: Sequence[Any]) -> None:
        try:
            for target, value in zip(bound.inputs, arrays, strict=False):
                if target.size:
                    copy_in(self.backend, target, value)
        finally:
            bound.run.filled()

    def _resolve(self, mode: str, arrays: Sequence[Any], with_target: bool) -> Bound:
        count = len(self.input_types)
        expected = count + (1 if with_target and self.target_type is not None else 0)
        inputs = self._fitting(arrays, expected, mode)
        target = None
        if expected > count:
            target = self._target(inputs, arrays[count])
        return self._plan(mode, inputs, target)

    def _fitting(self, arrays: Sequence[Any], expected: int, what: str) -> tuple[Type, ...]:
        """The plan's types for the inputs among ``arrays``; raises one line if number, axes or dtypes do not fit."""
        count = len(self.input_types)
        if len(arrays) != expected:
            inputs = f"{count} input{'s' if count != 1 else ''}{' and a target' if expected > count else ''}"
            raise PlanError(f"{user_where()}: {self.program.name}: {what} takes {inputs}: it got {len(arrays)} in all")
        triples = zip(self.program.names, self.input_types, arrays[:count], strict=True)
        return tuple(fitting_type(name, type_, array) for name, type_, array in triples)

    def _target(self, inputs: tuple[Type, ...], value: Any) -> Type:
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

    def _load_hyper(self) -> None:
        values = self._optimizer().hyper
        if values == self._loaded:
            return
        known = self._loaded or {}
        for name, value in values.items():
            slot = self._slots.get(f"optimizer/{name}")
            if slot is not None and known.get(name) != value:
                self.backend.write(slot, value)
        self._loaded = dict(values)

    def _direct(self, mode: str, args: tuple[Any, ...]) -> Any:
        """Run the plan last used in this mode on the arguments as they are: the loss or True, False if they differ."""
        bound = self._last.get(mode)
        if bound is None or bound.run.call is None:
            return False
        done = bound.run.call(*args)
        if type(done) is int:  # an index was out of range
            bound.run.fail()
        return done

    def _execute(self, mode: str, args: tuple[Any, ...], with_target: bool) -> Bound:
        """Run a whole plan for these arguments, converted and copied in."""
        self._settle()  # a plan that was stopped stops the others, too
        bound = self._last[mode] = self._prepare(mode, args, with_target)
        if mode == "step":
            self._load_hyper()  # again: a new plan may have brought new hyperparameters
        bound.run.run()
        if bound.random and not bound.run.counts:
            self._count()
        return bound

    def _count(self) -> None:
        """Move the counter of random numbers on."""
        counter = self._homes["rng/step"]
        self.backend.write(counter, self.backend.read(counter) + np.uint64(1))

    def _settle(self) -> None:
        """Wait for calls that did not, and raise what went wrong in them: once, whichever plans it stopped."""
        first = None
        for bound in self._bound.values():
            try:
                bound.run.check()
            except DataError as error:
                first = first or error
        if first is not None:
            raise first

    def _optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise PlanError(f"{user_where()}: {self.program.name} was compiled without an optimizer: pass optimizer=")
        return self.optimizer

    def _needs_loss(self) -> None:
        if not self.trainable:
            raise PlanError(f"{user_where()}: {self.program.name} was compiled without a loss: pass loss=")

    @locked
    def __call__(self, *args: Any) -> Any:
        """Inference on arrays: dropout off, nothing kept for gradients.

        Returns new arrays: of NumPy, or of CuPy where an argument lies on the GPU that the net is on.
        """
        done = self._direct("infer", args)
        bound = self._last["infer"] if done else self._execute("infer", args, with_target=False)
        copies = bound.run.copies(bound.outputs, any(self.backend.holds(a) for a in args))
        return copies[0] if bound.traced.outputs == tree.LEAF else tree.unflatten(bound.traced.outputs, copies)

    def step(self, *args: Any) -> float | Loss:
        """One training step: forward, backward and update. Returns the loss before the update.

        On a GPU it is a :class:`graphnet.lazy.Loss`, a number that is waited for when it is looked at: the step
        may not be done when this returns.
        """
        with self._lock:
            self._needs_loss()
            self._load_hyper()
            self._phases = None  # gradients of before this step are not to be applied after it
            loss = self._direct("step", args)
            if loss is False:
                loss = self._execute("step", args, with_target=True).run.loss()
            return loss

    @locked
    def loss(self, *args: Any) -> float:
        """The loss in inference mode; nothing is updated but states."""
        self._needs_loss()
        loss = self._direct("loss", args)
        if loss is False:
            loss = self._execute("loss", args, with_target=True).run.loss()
        return float(loss)

    @locked
    def forward(self, *args: Any) -> Any:
        """The first phase of a training step; returns the model's output (of the training graph)."""
        self._needs_loss()
        arrays = [self.backend.argument(a) for a in args]
        inputs = self._fitting(arrays, len(self.input_types), "forward")
        bound = self._plan("phases", inputs, self._default_target(inputs))
        return self._run_forward(bound, arrays)

    def _run_forward(self, bound: Bound, arrays: Sequence[Any]) -> Any:
        self._fill(bound, arrays)
        bound.run.run("forward")
        self._phases = (bound, "forward")
        copies = bound.run.copies(bound.outputs, any(self.backend.holds(a) for a in arrays))
        return copies[0] if bound.traced.outputs == tree.LEAF else tree.unflatten(bound.traced.outputs, copies)

    @locked
    def backward(self, *target: Any) -> float:
        """The second phase: loss and gradients of the last ``forward``. Returns the loss."""
        bound = self._phase("backward", ("forward", "backward"))
        again = self._phases is not None and self._phases[1] == "backward"
        if self.target_type is not None:
            if len(target) != 1:
                raise PlanError(f"{user_where()}: backward takes the target of the batch given to forward")
            value = self.backend.argument(target[0])
            kind = self._target(bound.info.inputs, value)
            if kind != bound.info.target:
                given = bound.inputs[: len(self.input_types)]
                bound = self._plan("phases", bound.info.inputs, kind)
                self._run_forward(bound, given)
                again = False
            copy_in(self.backend, bound.inputs[-1], value)
        if again:  # the first backward took over memory of values it needed no more
            bound.run.run("forward")
        bound.run.run("backward")
        self._phases = (bound, "backward")
        return float(self.backend.read(bound.run.outputs["loss"]))

    @locked
    def update(self) -> None:
        """The third phase: apply the gradients of the last ``backward``."""
        self._optimizer()
        bound = self._phase("update", ("backward",))
        self._load_hyper()
        bound.run.run("update")
        if bound.random:
            self._count()
        self._phases = (bound, "update")

    def _phase(self, wanted: str, allowed: Sequence[str]) -> Bound:
        if self._phases is None or self._phases[1] not in allowed:
            raise PlanError(
                f"{user_where()}: {wanted}: call {allowed[0]} first: the order is forward, backward, update"
            )
        return self._phases[0]

    def fit(self, x: Any, y: Any = None, **options: Any) -> History:
        """Train over arrays; see :func:`graphnet.fit.fit` for the options."""
        check_options(options)
        return fit(self, x, y, **options)

    def evaluate(self, x: Any, y: Any = None, batch_size: int | None = None) -> float:
        """The mean loss over samples in inference mode; see :func:`graphnet.fit.evaluate`."""
        return evaluate(self, x, y, batch_size)

    def export_c(self, folder: Any, *, threads: int | None = None, force: bool = False) -> Any:
        """Write a stand-alone C project to ``folder``; see :func:`graphnet.export_c.export_c`."""
        from graphnet.export_c import export_c

        return export_c(self, folder, threads, force)

    # -- state ----------------------------------------------------------------------------------------

    @property
    def params(self) -> Arrays:
        """Parameters by name, live."""
        self._settle()
        return Arrays(self._params, "parameter", self.backend.write)

    @property
    def states(self) -> Arrays:
        """States by name, live, as the compiled shapes have them."""
        self._settle()
        states = {name: array for (name, _), array in reversed(self._states.items())}
        return Arrays(states, "state", self.backend.write)

    @property
    def grads(self) -> Arrays:
        """Gradients by parameter name after ``backward``; ``step`` keeps none."""
        if self._phases is None or self._phases[1] == "forward":
            raise PlanError(f"{user_where()}: grads: there are none before net.backward(y); net.step keeps none")
        outputs = self._phases[0].run.outputs
        found = {n[5:]: a for n, a in outputs.items() if n.startswith("grad/")}
        return Arrays(found, "gradient", self.backend.write)

    @property
    def slots(self) -> Arrays:
        """Optimiser slots by name, live."""
        self._settle()
        return Arrays(dict(self._slots), "slot", self.backend.write)

    def reset_states(self) -> None:
        """Put every state back to its initial value."""
        for key, initial in self._state_init.items():
            self.backend.write(self._states[key], initial)
