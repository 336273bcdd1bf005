"""Building nodes: ``apply`` checks operands against the op record, the rest is notation for gradient rules.

Operands may be nodes or Python numbers (which take the other operand's dtype). ``at(where)`` sets the user
line for everything built inside it, so that gradient and rewrite code keeps the line of what it came from.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from graphnet.compiler.errors import DTypeError, GraphnetError, ShapeError
from graphnet.compiler.ir import FLOATS, NOWHERE, Constant, Node, Type, Where, make
from graphnet.compiler.record import lookup

_where: ContextVar[Where] = ContextVar("where", default=NOWHERE)
_inside: ContextVar[bool] = ContextVar("inside", default=False)
Operand = Node | float | int | bool

_RANK = {"bool": 0, "uint8": 1, "int32": 2, "uint32": 2, "int64": 3, "uint64": 3, "float32": 4, "float64": 5}
_STRUCT = {"bool": "?", "uint8": "B", "int32": "i", "int64": "q", "uint32": "I", "uint64": "Q"}
_STRUCT |= {"float32": "f", "float64": "d"}


@contextlib.contextmanager
def at(where: Where, enter: bool = False) -> Iterator[None]:
    """Nodes built inside belong to the user line ``where``; ``enter`` marks the inside of a public function."""
    token = _where.set(where)
    mark = _inside.set(enter or _inside.get())
    try:
        yield
    finally:
        _inside.reset(mark)
        _where.reset(token)


def inside() -> bool:
    """True inside a public function: the functions it calls work on nodes."""
    return _inside.get()


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """User code is called back from here (a scan's cell): public functions take tensors again."""
    mark = _inside.set(False)
    try:
        yield
    finally:
        _inside.reset(mark)


def current_where() -> Where:
    """The user line nodes are built for now."""
    return _where.get()


def apply(op: str, *inputs: Node, **attrs: Any) -> Node:
    """The node ``op(*inputs)``; raises ShapeError or DTypeError with the user's line in front."""
    where = _where.get()
    record = lookup(op)
    try:
        type_ = record.infer([i.out for i in inputs], attrs)
    except GraphnetError as error:
        shapes = " x ".join(f"({', '.join(map(str, i.shape))})" for i in inputs)
        raise type(error)(f"{where}: {op}: {shapes}: {error}") from None
    return make(op, inputs, attrs, type_, where)


def promote(*dtypes: str) -> str:
    """The common dtype: the highest of bool < uint8 < int32 < int64 < float32 < float64."""
    return max(dtypes, key=_RANK.__getitem__)


def scalar(value: float | int | bool, dtype: str) -> Node:
    """A 0-d constant. Not-a-number and infinities are fine for floats."""
    number: Any = float(value) if dtype in FLOATS else bool(value) if dtype == "bool" else int(value)
    try:
        data = struct.pack("<" + _STRUCT[dtype], number)
    except (struct.error, OverflowError):
        raise DTypeError(f"{_where.get()}: the number {value} does not fit {dtype}") from None
    return make("constant", (), {"value": Constant(data, (), dtype)}, Type((), dtype), _where.get())


def scalar_value(node: Node) -> float | int | bool | None:
    """The number a 0-d (or broadcast 0-d) constant stands for, else None."""
    while node.op in ("broadcast_to", "reshape"):
        node = node.inputs[0]
    if node.op != "constant" or node.out.size != 1:
        return None
    value: float | int | bool = struct.unpack("<" + _STRUCT[node.dtype], node.attrs["value"].data)[0]
    return value


def _number_dtype(value: float | int | bool, dtype: str) -> str:
    if isinstance(value, bool):
        return dtype
    if isinstance(value, float) and dtype not in FLOATS:
        return "float32"
    return "int32" if dtype == "bool" else dtype


def operands(*values: Operand) -> tuple[Node, ...]:
    """Nodes of one common dtype: numbers become constants of the nodes' dtype, lower dtypes are cast."""
    nodes = [v for v in values if isinstance(v, Node)]
    dtype = promote(*(n.dtype for n in nodes)) if nodes else "float32"
    for v in values:
        if not isinstance(v, Node):
            dtype = promote(dtype, _number_dtype(v, dtype))
    return tuple(cast(v, dtype) if isinstance(v, Node) else scalar(v, dtype) for v in values)


def cast(x: Node, dtype: str) -> Node:
    return x if x.dtype == dtype else apply("cast", x, dtype=dtype)


def elementwise(op: str, *values: Operand) -> Node:
    """An elementwise op with dtype promotion and broadcasting."""
    return apply(op, *operands(*values))


def _binary(op: str) -> Callable[[Operand, Operand], Node]:
    def build(a: Operand, b: Operand) -> Node:
        return elementwise(op, a, b)

    build.__name__ = op
    return build


add, sub, mul, pow_ = _binary("add"), _binary("sub"), _binary("mul"), _binary("pow")
maximum, minimum = _binary("maximum"), _binary("minimum")
eq, ne, lt, le, gt, ge = (_binary(n) for n in ("eq", "ne", "lt", "le", "gt", "ge"))
logical_and, logical_or = _binary("logical_and"), _binary("logical_or")


def div(a: Operand, b: Operand) -> Node:
    """True division; integer operands become float32."""
    x, y = operands(a, b)
    if x.dtype not in FLOATS:
        x, y = cast(x, "float32"), cast(y, "float32")
    return apply("div", x, y)


def where(condition: Node, a: Operand, b: Operand) -> Node:
    x, y = operands(a, b)
    return apply("where", cast(condition, "bool"), x, y)


def unary(op: str, x: Node) -> Node:
    return apply(op, x)


def neg(x: Node) -> Node:
    return apply("neg", x)


def reshape(x: Node, shape: Sequence[int]) -> Node:
    shape = tuple(shape)
    return x if x.shape == shape else apply("reshape", x, shape=shape)


def transpose(x: Node, perm: Sequence[int]) -> Node:
    perm = tuple(perm)
    return x if perm == tuple(range(x.ndim)) else apply("transpose", x, perm=perm)


def swap_last(x: Node) -> Node:
    """Transpose the last two axes."""
    return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def broadcast_to(x: Node, shape: Sequence[int]) -> Node:
    shape = tuple(shape)
    return x if x.shape == shape else apply("broadcast_to", x, shape=shape)


def expand(x: Node, axes: Sequence[int]) -> Node:
    """Insert size-1 axes at these positions of the result."""
    rest = iter(x.shape)
    return reshape(x, [1 if i in axes else next(rest) for i in range(x.ndim + len(axes))])


def reduce(op: str, x: Node, axes: Sequence[int], keepdims: bool = False) -> Node:
    """sum, max, min over sorted non-negative axes."""
    if not axes and op in ("sum", "max", "min"):
        return x
    return apply(op, x, axes=tuple(axes), keepdims=keepdims)


def sum_(x: Node, axes: Sequence[int], keepdims: bool = False) -> Node:
    return reduce("sum", x, axes, keepdims)


def sum_to(x: Node, shape: tuple[int, ...]) -> Node:
    """Sum away what broadcasting ``shape`` to ``x.shape`` repeated: the adjoint of broadcasting."""
    if x.shape == shape:
        return x
    lead = x.ndim - len(shape)
    axes = [*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)]
    return reshape(sum_(x, axes), shape)


def matmul(a: Node, b: Node) -> Node:
    return apply("matmul", *operands(a, b))


def slice_(x: Node, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> Node:
    """``starts`` are first indices (non-negative), ``sizes`` result sizes, ``steps`` may be negative."""
    starts, sizes, steps = tuple(starts), tuple(sizes), tuple(steps)
    if sizes == x.shape and all(s == 1 for s in steps):
        return x
    return apply("slice", x, starts=starts, sizes=sizes, steps=steps)


def narrow(x: Node, axis: int, start: int, size: int) -> Node:
    """``size`` consecutive entries of one axis."""
    starts, sizes = [0] * x.ndim, list(x.shape)
    starts[axis], sizes[axis] = start, size
    return slice_(x, starts, sizes, [1] * x.ndim)


def concat(parts: Sequence[Node], axis: int) -> Node:
    return parts[0] if len(parts) == 1 else apply("concat", *operands(*parts), axis=axis)


def iota(shape: Sequence[int], axis: int, dtype: str = "int32") -> Node:
    """The index along ``axis``."""
    return apply("iota", shape=tuple(shape), axis=axis, dtype=dtype)


def full(shape: Sequence[int], value: float, dtype: str) -> Node:
    return broadcast_to(scalar(value, dtype), shape)


def zeros_like(x: Node) -> Node:
    return full(x.shape, 0, x.dtype)


def item(node: Node, index: int) -> Node:
    """Result ``index`` of a node with several results."""
    return make("get", (node,), {"index": index}, node.types[index], node.where)


def require(condition: bool, message: str) -> None:
    """Raise ShapeError(message): for shape rules."""
    if not condition:
        raise ShapeError(message)
