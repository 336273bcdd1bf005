"""One op, one record: everything the compiler knows about an op, checked when the record is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Node, Type

Attrs = Mapping[str, Any]
Infer = Callable[[Sequence[Type], Attrs], Type]
Grad = Callable[..., Sequence["Node | None"]]
Cost = Callable[[Sequence[Type], Type, Attrs], tuple[int, int]]
Batch = Callable[[Node, Sequence[Node], Sequence[bool]], "Node | None"]
Kind = Literal["elementwise", "view", "kernel"]


@dataclass(frozen=True)
class NoGradient:
    """Why an op has no gradient: integer or boolean result, or a piecewise constant one."""

    reason: str


@dataclass(frozen=True)
class Sample:
    """One call the conformance tests make: operand shapes, attributes and the range values are drawn from."""

    shapes: tuple[tuple[int, ...], ...]
    attrs: Attrs = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    dtypes: tuple[str, ...] = ()
    distinct: bool = False


@dataclass(frozen=True)
class Op:
    """The record of an op.

    name     how graphs and dumps call it
    maths    the definition in one line
    inputs   operand names; a last name starting with ``*`` takes any number
    attrs    attribute names
    kind     elementwise (one scalar expression), view (no data moves) or kernel
    infer    operand types, attributes -> result type; raises ShapeError or DTypeError without a location
    grad     (g, y, *inputs) -> one gradient or None an input; builds graph, computes nothing
    cost     operand types, result type, attributes -> (floating point operations, bytes moved)
    kernel   the numpy kernel; views have none, they are planned
    expr     the scalar expression over the input names, for elementwise ops
    batch    the same op with an extra leading axis on some operands, or None where it has no such form
    scratch  operand types, attributes -> bytes of scratch the kernel needs
    in_place whether an elementwise kernel may write over an operand
    samples  calls that exercise it
    """

    name: str
    maths: str
    inputs: tuple[str, ...]
    attrs: tuple[str, ...]
    kind: Kind
    infer: Infer
    grad: Grad | NoGradient
    cost: Cost
    samples: tuple[Sample, ...]
    kernel: Callable[..., Any] | None = None
    expr: str = ""
    batch: Batch | None = None
    scratch: Callable[[Sequence[Type], Attrs], int] | None = None
    in_place: bool = False

    def __post_init__(self) -> None:
        missing = [f for f in ("name", "maths", "samples") if not getattr(self, f)]
        if self.kind != "view" and self.kernel is None:
            missing.append("kernel")
        if self.kind == "elementwise" and not self.expr:
            missing.append("expr")
        if missing:
            raise CompileError(f"op record {self.name!r}: missing {', '.join(missing)}")

    @property
    def differentiable(self) -> bool:
        return not isinstance(self.grad, NoGradient)

    @property
    def variadic(self) -> bool:
        return bool(self.inputs) and self.inputs[-1].startswith("*")


REGISTRY: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add a record; a second record of the same name is an error."""
    if op.name in REGISTRY:
        raise CompileError(f"op record {op.name!r} exists already")
    REGISTRY[op.name] = op
    return op


def lookup(name: str) -> Op:
    """The record of op ``name``."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise CompileError(f"unknown op {name!r}") from None


def stream_cost(flops_per_element: int = 1) -> Cost:
    """Cost of an op that reads its operands once and writes its result once."""

    def cost(ins: Sequence[Type], out: Type, attrs: Attrs) -> tuple[int, int]:
        return flops_per_element * out.size, sum(t.nbytes for t in ins) + out.nbytes

    return cost


def free(ins: Sequence[Type], out: Type, attrs: Attrs) -> tuple[int, int]:
    """Cost of an op that moves nothing."""
    return 0, 0
