"""Tensors made from numbers and shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError, ShapeError
from graphnet.compiler.ir import Node
from graphnet.functions.arguments import dtype_name, index_dtype, integer, node, number, shape_tuple
from graphnet.tensor import traced

Shape = int | Sequence[int]


@traced
def zeros(shape: Shape, dtype: Any = "float32") -> Node:
    """A tensor of zeros."""
    return b.full(shape_tuple(shape), 0, dtype_name(dtype))


@traced
def ones(shape: Shape, dtype: Any = "float32") -> Node:
    """A tensor of ones."""
    return b.full(shape_tuple(shape), 1, dtype_name(dtype))


@traced
def full(shape: Shape, fill_value: Any, dtype: Any = None) -> Node:
    """A tensor of one value (or of a tensor broadcast); its dtype is the value's unless given."""
    value = node(fill_value)
    return b.broadcast_to(value if dtype is None else b.cast(value, dtype_name(dtype)), shape_tuple(shape))


def _like(x: Any, value: Any, dtype: Any) -> Node:
    x = node(x)
    return b.broadcast_to(b.cast(node(value), x.dtype if dtype is None else dtype_name(dtype)), x.shape)


@traced
def zeros_like(x: Any, dtype: Any = None) -> Node:
    """Zeros of the shape and dtype of x."""
    return _like(x, 0, dtype)


@traced
def ones_like(x: Any, dtype: Any = None) -> Node:
    """Ones of the shape and dtype of x."""
    return _like(x, 1, dtype)


@traced
def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Node:
    """One value in the shape and dtype of x."""
    return _like(x, fill_value, dtype)


@traced
def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Node:
    """start, start + step, .. below stop (``arange(stop)`` starts at 0): int32, or float32 of floats."""
    if stop is None:
        start, stop = 0, start
    first, last, by = (number(n, "a bound") for n in (start, stop, step))
    if by == 0:
        raise ShapeError("step 0 never reaches stop")
    name = None if dtype is None else dtype_name(dtype)
    if all(isinstance(n, int) for n in (first, last, by)):
        kind = index_dtype(int(abs(first) + abs(last)))
    else:
        kind = "float64" if name == "float64" else "float32"
    index = b.cast(b.iota((max(0, math.ceil((last - first) / by)),), 0), kind)
    scaled = index if by == 1 else b.mul(index, by)
    return b.cast(scaled if first == 0 else b.add(scaled, first), name or kind)


@traced
def eye(n: int, m: int | None = None, k: int = 0, dtype: Any = "float32") -> Node:
    """An (n, m) matrix, square unless m is given, with ones on diagonal k."""
    shape = shape_tuple((n, n if m is None else m))
    hit = b.eq(b.iota(shape, 1), b.add(b.iota(shape, 0), integer(k, "k")))
    return b.cast(hit, dtype_name(dtype))


@traced
def one_hot(ids: Any, classes: int, dtype: Any = "float32") -> Node:
    """(...) integer ids to (..., classes): 1 at the id, 0 elsewhere; 1 nowhere for ids outside 0..classes-1."""
    ids, count = node(ids), integer(classes, "classes")
    if ids.out.is_float:
        raise DTypeError(f"ids are {ids.dtype}, need integers: cast with .astype('int32')")
    shape = (*ids.shape, count)
    return b.cast(b.eq(b.expand(ids, [ids.ndim]), b.iota(shape, ids.ndim)), dtype_name(dtype))
