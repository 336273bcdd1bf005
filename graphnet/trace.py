"""Tracing: running a model function once on symbolic tensors, recording parameters, states and scopes."""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError, NameError_, ShapeError, TraceError
from graphnet.compiler.ir import FLOATS, ITEMSIZE, Graph, Node, Type, Where, is_leaf, leaf, session
from graphnet.tensor import Tensor, as_node, traced, user_where

SEED, STEP = leaf("rng/seed", "rng", Type((), "uint64")), leaf("rng/step", "rng", Type((), "uint64"))


@dataclass(frozen=True)
class Spec:
    """What a model input looks like: shape, dtype and optionally a name."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str = ""

    @property
    def type(self) -> Type:
        return Type(self.shape, self.dtype)


def spec(shape: int | Sequence[int], dtype: Any = "float32", name: str = "") -> Spec:
    """Describe an input by ``shape`` (ints) and ``dtype`` (name or NumPy dtype); raises ShapeError, DTypeError."""
    if isinstance(dtype, int):
        raise ShapeError(f"{user_where()}: spec: the sizes are one tuple: gn.spec(({shape}, {dtype}))")
    return Spec(_sizes("spec", shape), dtype_name(dtype), name)


def _sizes(what: str, shape: Any) -> tuple[int, ...]:
    """A shape given as one integer or several (Python's or NumPy's)."""
    try:
        sizes = tuple(operator.index(n) for n in (shape if isinstance(shape, Iterable) else (shape,)))
        if all(n >= 0 for n in sizes):
            return sizes
    except TypeError:
        sizes = ()
    raise ShapeError(f"{user_where()}: {what}: sizes must be non-negative integers, got {shape!r}")


def dtype_name(dtype: Any) -> str:
    """The name of a dtype given as name, NumPy dtype or Python type; raises DTypeError."""
    import numpy as np

    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ITEMSIZE:
        raise DTypeError(f"{user_where()}: dtype {name} is not supported: use one of {', '.join(ITEMSIZE)}")
    return name


@dataclass(frozen=True)
class Declared:
    """A parameter or state a model declared: its leaf, initial value and the line that declared it."""

    node: Node
    init: Any
    where: Where

    @property
    def name(self) -> str:
        return str(self.node.attrs["name"])


@dataclass
class _Scope:
    name: str
    counts: dict[str, int] = field(default_factory=dict)


class Trace:
    """What one run of a model function declares. ``training`` switches dropout and batch statistics."""

    def __init__(self, training: bool, allow_params: bool = True) -> None:
        self.training = training
        self.allow_params = allow_params
        self.params: dict[str, Declared] = {}
        self.states: dict[str, Declared] = {}
        self.assigned: dict[str, Node] = {}
        self.streams = 0
        self.scopes: list[_Scope] = [_Scope("")]
        self.depth = 0
        self.times: list[tuple[Node, int]] = []
        self.branch_nodes: set[Node] = set()

    @property
    def scope(self) -> str:
        return "/".join(s.name for s in self.scopes[1:])

    @contextlib.contextmanager
    def activate(self) -> Iterator[Trace]:
        """Make this the current trace."""
        token = _current.set(self)
        try:
            with session(), b.outside():
                yield self
        finally:
            _current.reset(token)

    @contextlib.contextmanager
    def inside(self, function_name: str, explicit: str | None) -> Iterator[None]:
        """The scope of one model function call: its name, numbered below the top level."""
        counts = self.scopes[-1].counts
        counts[function_name] = counts.get(function_name, 0) + 1
        name = explicit or function_name
        if (explicit is None and len(self.scopes) > 1) or (explicit is None and counts[function_name] > 1):
            name = f"{function_name}_{counts[function_name]}"
        self.scopes.append(_Scope(name))
        try:
            yield
        finally:
            self.scopes.pop()

    def check_closed(self, graph: Graph, *more: Node) -> None:
        """Raise TraceError for a tensor that escaped from another trace or from inside a loop or branch."""
        declared = (*self.params.values(), *self.states.values())
        known = {*graph.inputs, *more, SEED, STEP, *(d.node for d in declared)}
        nodes = graph.nodes()
        escaped = next((n for n in nodes if is_leaf(n) and n not in known), None)
        if escaped is None:
            return
        reader = next((n for n in nodes if escaped in n.inputs), escaped)
        what = "a result" if reader is escaped else reader.op
        origin, remedy = "inside a loop or branch", "return it from the function that made it"
        if escaped.attrs["role"] in ("input", "target", "param", "state"):
            origin, remedy = "another trace", "pass it as an argument"
        raise TraceError(
            f"{reader.where}: {what}: a tensor from {origin} (at {escaped.where}) is used outside of it: {remedy}"
        )

    def declare(self, kind: str, name: str, type_: Type, init: Any, role: str) -> Node:
        """Record a parameter or state; raises NameError for bad and repeated names."""
        where = user_where(self.scope)
        if not isinstance(name, str) or not name or "/" in name:
            raise NameError_(f"{where}: {kind}: {name!r} is not a name: use letters without '/'")
        if self.depth and kind == "state":
            raise TraceError(f"{where}: state {name!r}: declared inside a loop or branch: declare it outside")
        full = f"{self.scope}/{name}" if self.scope else name
        for declared in (self.params.get(full), self.states.get(full)):
            if declared is not None:
                raise NameError_(
                    f"{where}: {kind} {full!r} is declared twice, first at {declared.where}: rename one, or "
                    f"declare it once and pass it on"
                )
        node = leaf(full, role, type_, where)
        table = self.params if kind == "param" else self.states
        table[full] = Declared(node, init, where)
        return node


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current(what: str = "this") -> Trace:
    """The running trace; raises TraceError outside of one."""
    trace = _current.get()
    if trace is None:
        raise TraceError(
            f"{user_where()}: {what} works only while a model is traced: call it inside a @gn.model function "
            f"and compile that with gn.compile"
        )
    return trace


def tracing() -> bool:
    """True while any function is traced."""
    return _current.get() is not None


def is_tracing() -> bool:
    return _current.get() is not None


def current_scope() -> str:
    trace = _current.get()
    return trace.scope if trace is not None else ""


def check_call(
    function: Callable[..., Any], what: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
) -> None:
    """Raise NameError with the user's line where ``function`` cannot be called with these arguments."""
    if not callable(function):
        raise NameError_(f"{user_where(current_scope())}: {what} must be a function, got {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in functions do not tell
        return
    try:
        signature.bind(*args, **(kwargs or {}))
    except TypeError as error:
        plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        call = signature.replace(parameters=plain, return_annotation=signature.empty)
        raise NameError_(f"{user_where(current_scope())}: {what}{call}: {error}") from None


def model(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the function builds part of a network; its parameters are named under its name.

    Calls from other model functions are numbered (``lenet/conv2d_1``); ``name="out"`` in a call sets the
    name instead. A model runs while it is traced by ``gn.compile``; a direct call on arrays is an error.
    """

    @functools.wraps(function)
    def call(*args: Any, name: str | None = None, **kwargs: Any) -> Any:
        trace = current(f"model function {function.__name__!r}")
        check_call(function, function.__name__, args, kwargs)
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            where = user_where(trace.scope)
            raise NameError_(f"{where}: {function.__name__}: name={name!r} is not a name: use letters without '/'")
        with trace.inside(function.__name__, name), b.outside():
            return function(*args, **kwargs)

    call.__graphnet_model__ = function  # type: ignore[attr-defined]
    return call


def param(
    name: str, shape: int | Sequence[int], init: Any = None, dtype: Any = "float32", trainable: bool = True
) -> Tensor:
    """Declare a parameter of this model function.

    ``init`` is an initialiser of ``gn.init`` (default glorot_uniform), a number or an array of ``shape``.
    Parameters that are not ``trainable`` are kept and saved, but get no gradient.
    """
    from graphnet import init as initialisers

    trace = current(f"gn.param({name!r})")
    where = user_where(trace.scope)
    if not trace.allow_params:
        raise TraceError(f"{where}: param {name!r}: gn.jit and gn.grad take plain functions: pass it as argument")
    type_ = spec(shape, dtype).type
    if init is None:
        init = initialisers.glorot_uniform()
    return Tensor(trace.declare("param", name, type_, init, "param" if trainable else "state"))


class State(Tensor):
    """A buffer that lives across calls; reading gives the value from before the call."""

    __slots__ = ("_trace",)

    def __init__(self, node: Node, trace: Trace) -> None:
        super().__init__(node)
        self._trace = trace

    def assign(self, value: Any) -> None:
        """Give the state this value once the call is over; raises ShapeError if it does not fit."""
        where = user_where(self._trace.scope)
        name = str(self.node.attrs["name"])
        if name in self._trace.assigned:
            raise NameError_(f"{where}: state {name!r} is assigned twice in one call")
        if self._trace.depth:
            raise TraceError(f"{where}: state {name!r}: assigned inside a loop or branch: assign the loop's result")
        with b.at(where):
            new = b.cast(as_node(value, self.dtype), self.dtype)
        if new.shape != self.shape:
            raise ShapeError(f"{where}: state {name!r} has shape {self.shape}, the assigned value {new.shape}")
        self._trace.assigned[name] = new


def state(name: str, shape: int | Sequence[int], init: Any = 0.0, dtype: Any = "float32") -> State:
    """Declare a buffer that lives across calls, such as an LSTM's hidden state; ``.assign(new)`` updates it.

    No gradient flows into it, so assigning the last hidden state truncates back-propagation there.
    """
    trace = current(f"gn.state({name!r})")
    if not trace.allow_params:
        raise TraceError(f"{user_where()}: state {name!r}: gn.jit and gn.grad take plain functions")
    return State(trace.declare("state", name, spec(shape, dtype).type, init, "state"), trace)


def training() -> bool:
    """True while a training step is traced, False for inference: what dropout and batch_norm look at."""
    return current("gn.training()").training


def _time_index(trace: Trace) -> list[Node]:
    """A loop counter over all enclosing loops, or nothing outside loops."""
    if not trace.times:
        return []
    index, _ = trace.times[0]
    for inner, length in trace.times[1:]:
        index = b.add(b.mul(index, length), inner)
    return [index]


@traced
def random_uniform(shape: int | Sequence[int], low: float = 0.0, high: float = 1.0, dtype: str = "float32") -> Node:
    """Fresh random numbers in [low, high) at every call of the net, repeatable from the net's seed."""
    trace = current("gn.random_uniform")
    trace.streams += 1
    sizes = _sizes("random_uniform", shape)
    if dtype_name(dtype) not in FLOATS:
        raise DTypeError(f"random numbers are floats, not {dtype}: cast them with .astype('{dtype}')")
    node = b.apply("random_uniform", SEED, STEP, *_time_index(trace), stream=trace.streams, shape=sizes, dtype=dtype)
    return node if (low, high) == (0.0, 1.0) else b.add(b.mul(node, high - low), low)


@traced
def random_normal(shape: int | Sequence[int], mean: float = 0.0, std: float = 1.0, dtype: str = "float32") -> Node:
    """Fresh normal numbers by the Box-Muller transform (Box and Muller 1958) of two uniform draws."""
    radius = b.unary("sqrt", b.mul(b.unary("log", b.sub(1.0, random_uniform(shape, dtype=dtype))), -2.0))
    angle = b.mul(random_uniform(shape, dtype=dtype), 6.283185307179586)
    return b.add(b.mul(b.mul(radius, b.unary("cos", angle)), std), mean)
