"""The type of any node from its parts, trusting none of them.

Shape rules of op records are written for graphs that graphnet built. Where the parts come from a file, this
checks first what the rules rely on: operand counts, the attributes' names and kinds, sizes that memory can
hold, and the rules of the ops that have no record (constants, loops, branches).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from graphnet.compiler.errors import CompileError, GraphnetError
from graphnet.compiler.ir import ITEMSIZE, Constant, Graph, Node, Type
from graphnet.compiler.record import REGISTRY, lookup

MAX_AXES = 32
MAX_BYTES = 1 << 40  # of one value

STRUCTURAL = {
    "input": ("name", "role", "depth"),
    "constant": ("value",),
    "get": ("index",),
    "scan": ("body", "length", "reverse", "carries", "xs", "stacks", "sums"),
    "cond": ("then", "orelse"),
}
"""Attribute names of the ops without a record. ``fused`` is no part of a graph as it was traced."""

OPTIONAL = {"constant": {"captured"}}
_WRONG = (GraphnetError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def fail(what: str) -> NoReturn:
    raise CompileError(what)


def check_type(type_: Type, what: str) -> Type:
    """``type_`` if it is one that arrays can have; raises CompileError."""
    sizes = type_.shape
    if not _is_dtype(type_.dtype) or not _sizes(sizes) or max(sizes, default=0) > MAX_BYTES:
        fail(f"{what}: {type_} is not a type that arrays can have")
    if type_.nbytes > MAX_BYTES:
        fail(f"{what}: {type_} is larger than {MAX_BYTES:,} bytes")
    return type_


def attributes(op: str) -> tuple[str, ...]:
    """The names of an op's attributes; raises CompileError for an unknown op."""
    if op in STRUCTURAL:
        return STRUCTURAL[op]
    if op not in REGISTRY:
        fail(f"unknown op {op!r}")
    return REGISTRY[op].attrs


def check_attributes(op: str, attrs: Mapping[str, Any]) -> None:
    """Raise CompileError for a missing, unknown or wrong kind of attribute; ``infer`` sees whether it fits."""
    names = set(attributes(op))
    if not names <= set(attrs) <= names | OPTIONAL.get(op, set()):
        fail(f"{op}: the attributes are {', '.join(sorted(names)) or 'none'}, not {', '.join(sorted(attrs)) or 'none'}")
    for name, value in attrs.items():
        if name in _KINDS and not _KINDS[name](value):
            fail(f"{op}: attribute {name} may not be {str(value)[:60]}")


def infer(op: str, inputs: Sequence[Node], attrs: Mapping[str, Any]) -> Type | tuple[Type, ...]:
    """The type of a node that is no leaf, from its parts; raises CompileError if they do not fit."""
    if any(isinstance(i.type, tuple) for i in inputs) != (op == "get"):
        fail(f"{op}: an operand has several results or needs them")
    types = [] if op == "get" else [i.out for i in inputs]
    special = _SPECIAL.get(op)
    if special is not None:
        return special(types, inputs, attrs)
    record = lookup(op)
    needed = len(record.inputs) - record.variadic
    if len(types) < needed or (len(types) > needed and not record.variadic):
        fail(f"{op}: takes {', '.join(record.inputs) or 'no operands'}, got {len(types)}")
    try:
        type_ = record.infer(types, attrs)
    except _WRONG as error:
        fail(f"{op}: {error}")
    if op in _ADJOINTS:
        _check_adjoint(op, types, attrs)
    axes = types[0].ndim if types else type_.ndim
    if "axis" in attrs and attrs["axis"] >= axes:
        fail(f"{op}: there is no axis {attrs['axis']}")
    return check_type(type_, op)


# the convolution an adjoint belongs to: its operands, and the result that is the adjoint's operand
_ADJOINTS: dict[str, Callable[[list[Type], Type], tuple[list[Type], Type]]] = {
    "conv2d_input": lambda types, whole: ([whole, types[1]], types[0]),
    "conv2d_weight": lambda types, whole: ([types[0], whole], types[1]),
}


def _check_adjoint(op: str, types: list[Type], attrs: Mapping[str, Any]) -> None:
    """The result's shape is given, not worked out: it must be one that the convolution takes."""
    operands, result = _ADJOINTS[op](types, Type(attrs["shape"], types[0].dtype))
    try:
        found = REGISTRY["conv2d"].infer(operands, attrs)
    except _WRONG as error:
        fail(f"{op}: {error}")
    if found != result:
        fail(f"{op}: a convolution of {attrs['shape']} gives {found}, not {result}")


def _infer_constant(types: list[Type], inputs: Sequence[Node], attrs: Mapping[str, Any]) -> Type:
    value: Constant = attrs["value"]
    type_ = check_type(Type(value.shape, value.dtype), "constant")
    if inputs or len(value.data) != type_.nbytes:
        fail(f"constant: {len(value.data)} bytes are not {type_}")
    return type_


def _infer_get(types: list[Type], inputs: Sequence[Node], attrs: Mapping[str, Any]) -> Type:
    if len(inputs) != 1 or attrs["index"] >= len(inputs[0].types):
        fail("get: there is no such result")
    index: int = attrs["index"]
    return inputs[0].types[index]


def _infer_scan(types: list[Type], inputs: Sequence[Node], attrs: Mapping[str, Any]) -> tuple[Type, ...]:
    body, length, c, x = attrs["body"], attrs["length"], attrs["carries"], attrs["xs"]
    stacked = attrs["stacks"]
    results = [n.out for _, n in body.outputs]
    if c + x > len(types) or len(body.inputs) != len(types) + 1 or len(results) != c + stacked + attrs["sums"]:
        fail("scan: operands, body inputs and results do not add up")
    time = body.inputs[c + x]
    rows = [Type((length, *n.shape), n.dtype) for n in body.inputs[c : c + x]]
    takes = [*(n.out for n in body.inputs[:c]), *rows, *(n.out for n in body.inputs[c + x + 1 :])]
    if time.attrs["role"] != "time" or time.out != Type((), "int32") or takes != types:
        fail("scan: operands and body inputs differ")
    if results[:c] != types[:c]:
        fail("scan: a carry changes type")
    stacks = [check_type(Type((length, *t.shape), t.dtype), "scan") for t in results[c : c + stacked]]
    return (*results[:c], *stacks, *results[c + stacked :])


def _infer_cond(types: list[Type], inputs: Sequence[Node], attrs: Mapping[str, Any]) -> tuple[Type, ...]:
    then, orelse = attrs["then"], attrs["orelse"]
    if not types or types[0] != Type((), "bool"):
        fail("cond: the predicate must be a bool scalar")
    for branch in (then, orelse):
        if [n.out for n in branch.inputs] != types[1:]:
            fail("cond: operands and branch inputs differ")
    results = tuple(n.out for _, n in then.outputs)
    if results != tuple(n.out for _, n in orelse.outputs):
        fail("cond: the branches give different results")
    return results


def _infer_fused(types: list[Type], inputs: Sequence[Node], attrs: Mapping[str, Any]) -> tuple[Type, ...]:
    body = attrs["body"]
    if [n.out for n in body.inputs] != types:
        fail("fused: operands and body inputs differ")
    return tuple(n.out for _, n in body.outputs)


_SPECIAL: dict[str, Callable[..., Type | tuple[Type, ...]]] = {
    "constant": _infer_constant,
    "get": _infer_get,
    "scan": _infer_scan,
    "cond": _infer_cond,
    "fused": _infer_fused,
}


def _size(value: object) -> bool:
    return type(value) is int and value >= 0


def _sizes(value: object) -> bool:
    return isinstance(value, tuple) and len(value) <= MAX_AXES and all(map(_size, value))


def _ints(value: object) -> bool:
    return isinstance(value, tuple) and all(type(v) is int for v in value)


def _pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(type(v) is int and v > 0 for v in value)


def _pairs(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_sizes(v) and len(v) == 2 for v in value)


def _is_dtype(value: object) -> bool:
    return isinstance(value, str) and value in ITEMSIZE


def _is(kind: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kind)


# Shape rules check how attributes fit operands, and rely on these kinds.
_KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("axis", "rows", "stream", "tag", "index", "length", "size"), _size),
    **dict.fromkeys(("depth", "carries", "xs", "stacks", "sums"), _size),
    **dict.fromkeys(("shape", "sizes", "starts", "perm", "axes"), _sizes),
    **dict.fromkeys(("kernel", "stride", "dilation"), _pair),
    **dict.fromkeys(("keepdims", "reverse", "descending", "captured", "wrap"), _is(bool)),
    **dict.fromkeys(("body", "then", "orelse"), _is(Graph)),
    "steps": _ints,
    "padding": _pairs,
    "groups": lambda value: _size(value) and value > 0,
    "dtype": _is_dtype,
    "value": _is(Constant),
    "name": lambda value: isinstance(value, str) and value.isprintable(),
    "role": _is(str),
}
