"""What the public functions accept, brought to one form: nodes, axes, shapes, dtypes, pairs."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError, ShapeError
from graphnet.compiler.ir import ITEMSIZE, Node
from graphnet.tensor import constant

Axis = int | Sequence[int] | None
WEAK = {"float64": "float32", "int64": "int32"}


def node(x: Any) -> Node:
    """A node from a node, a number or a nested list of these; numbers become float32, int32 or bool."""
    if isinstance(x, Node):
        return x
    if isinstance(x, (bool, int, float)):
        return b.scalar(x, "bool" if isinstance(x, bool) else "int32" if isinstance(x, int) else "float32")
    if isinstance(x, (list, tuple)):
        return _from_list(x)
    if isinstance(x, np.ndarray):
        return constant(x)
    raise DTypeError(f"needs a tensor, an array or a number, got {type(x).__name__}")


def _from_list(values: Sequence[Any]) -> Node:
    values = _known(values)
    if _has_node(values):
        parts = b.operands(*(node(v) for v in values))
        if len({p.shape for p in parts}) > 1:
            raise ShapeError(f"a list of tensors of different shapes {', '.join(str(p.shape) for p in parts)}")
        return b.concat([b.expand(p, [0]) for p in parts], 0)
    try:
        host = np.asarray(values)
    except ValueError:
        raise ShapeError("a nested list whose rows have different lengths") from None
    return constant(host.astype(WEAK.get(host.dtype.name, host.dtype.name)))


def _known(value: Any) -> Any:
    """Nested lists with constants as the arrays they hold."""
    if isinstance(value, (list, tuple)):
        return [_known(v) for v in value]
    host = host_array(value) if isinstance(value, Node) else None
    return value if host is None else host


def _has_node(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_node, value))
    return isinstance(value, Node)


def operand(x: Any) -> Node | float | int | bool:
    """A node, or a Python number as it is (it takes the other operand's dtype)."""
    return x if isinstance(x, (bool, int, float)) else node(x)


def floating(x: Any) -> Node:
    """``x`` as a float: integers and bools become float32, floats stay what they are."""
    x = node(x)
    return x if x.out.is_float else b.cast(x, "float32")


def countable(x: Any) -> Node:
    """``x`` as a number that can be added up: bool becomes int32."""
    x = node(x)
    return b.cast(x, "int32") if x.dtype == "bool" else x


def host_array(x: Node) -> np.ndarray | None:
    """The array of a constant node, also behind reshapes; None for values that are not known."""
    if x.op == "reshape":
        inner = host_array(x.inputs[0])
        return None if inner is None else inner.reshape(x.shape)
    if x.op != "constant":
        return None
    value = x.attrs["value"]
    return np.frombuffer(value.data, value.dtype).reshape(value.shape)


def integer(value: Any, what: str) -> int:
    """A Python int from an int, a NumPy integer or an integer constant."""
    if isinstance(value, Node):
        host = host_array(value)
        if host is None:
            raise ShapeError(f"{what} must be known while tracing, not a traced value")
        value = host.item() if host.size == 1 else host
    try:
        return operator.index(value)
    except TypeError:
        raise ShapeError(f"{what} must be an integer, got {value!r}") from None


def integers(value: Any, what: str) -> tuple[int, ...]:
    """A tuple of ints from one int, a sequence of ints or a 1-D integer constant."""
    if isinstance(value, Node) and value.ndim == 1:
        host = host_array(value)
        value = list(host) if host is not None else [value]
    if isinstance(value, (list, tuple)):
        return tuple(integer(v, what) for v in value)
    return (integer(value, what),)


def one_axis(axis: Any, ndim: int) -> int:
    """A non-negative axis number."""
    found = integer(axis, "axis")
    if not -ndim <= found < ndim:
        raise ShapeError(f"axis {found} does not exist: the value has {ndim} axes")
    return found % ndim


def many_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Non-negative axis numbers in the order given; None means all."""
    if axis is None:
        return tuple(range(ndim))
    found = tuple(one_axis(a, ndim) for a in integers(axis, "axis"))
    if len(set(found)) != len(found):
        raise ShapeError(f"axis {axis} names an axis twice")
    return found


def number(value: Any, what: str) -> int | float:
    """A Python number from a number or a constant of one element."""
    found = b.scalar_value(value) if isinstance(value, Node) else value
    return found if isinstance(found, float) else integer(found if found is not None else value, what)


def flag(value: Any, what: str) -> bool:
    """True or False; anything else is an argument in the wrong place (NumPy has dtype or kind there)."""
    if not isinstance(value, (bool, np.bool_)):
        raise DTypeError(f"{what} must be True or False, got {value!r}")
    return bool(value)


def shape_tuple(shape: Any, what: str = "shape") -> tuple[int, ...]:
    """A shape of non-negative sizes."""
    sizes = integers(shape, what)
    if any(n < 0 for n in sizes):
        raise ShapeError(f"{what} {sizes} has a negative size")
    return sizes


def dtype_name(dtype: Any) -> str:
    """A dtype by name, NumPy type or Python type (which mean what they mean in NumPy)."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ITEMSIZE:
        raise DTypeError(f"dtype {name} is not one of {', '.join(ITEMSIZE)}")
    return name


def index_dtype(size: int) -> str:
    """int32, or int64 where positions among ``size`` elements do not fit."""
    return "int32" if size < 2**31 else "int64"


def iota(size: int) -> Node:
    """0, 1, .. size - 1."""
    return b.iota((size,), 0, index_dtype(size))


def pair(value: Any, what: str, least: int = 1) -> tuple[int, int]:
    """(height, width) from one int or two."""
    found = integers(value, what)
    if len(found) == 1:
        found *= 2
    if len(found) != 2 or min(found) < least:
        raise ShapeError(f"{what} must be one or two integers of at least {least}, got {value!r}")
    return found[0], found[1]


def size_of(shape: Sequence[int], axes: Sequence[int]) -> int:
    """Number of elements along ``axes``."""
    return math.prod(shape[a] for a in axes)


def runs(index: np.ndarray) -> list[tuple[int, int, int]]:
    """A 1-D index array as (start, size, step) pieces whose step is -1, 0 or 1."""
    pieces: list[list[int]] = []
    for i in index.tolist():
        if pieces:
            start, size, step = pieces[-1]
            gap = i - (start + (size - 1) * step)
            if gap in (-1, 0, 1) and (size == 1 or gap == step):
                pieces[-1] = [start, size + 1, gap]
                continue
        pieces.append([i, 1, 1])
    return [(start, size, step) for start, size, step in pieces]


def gather_runs(x: Node, axis: int, index: np.ndarray) -> Node:
    """``x`` at ``index`` along an axis as a concatenation of slices: for indices made of few runs."""
    parts = []
    for start, size, step in runs(index):
        starts, sizes, steps = [0] * x.ndim, list(x.shape), [1] * x.ndim
        starts[axis], sizes[axis], steps[axis] = start, 1 if step == 0 else size, step or 1
        part = b.slice_(x, starts, sizes, steps)
        sizes[axis] = size
        parts.append(b.broadcast_to(part, sizes))
    return b.concat(parts, axis) if parts else b.narrow(x, axis, 0, 0)
