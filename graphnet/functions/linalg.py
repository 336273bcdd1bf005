"""Matrix products. Floats go to the matmul op; integers are multiplied and summed in their dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphnet.compiler import build as b
from graphnet.compiler.errors import ShapeError
from graphnet.compiler.ir import Node
from graphnet.functions.arguments import countable, integer, many_axes, node, one_axis, size_of
from graphnet.tensor import traced


@traced
def matmul(x: Any, y: Any) -> Node:
    """Matrix product over the last two axes, leading axes broadcast; 1-D operands are a row and a column."""
    left, right = b.operands(node(x), node(y))
    if left.ndim == 0 or right.ndim == 0:
        raise ShapeError("a scalar operand: use * instead")
    inner = right.shape[max(0, right.ndim - 2)]
    if left.shape[-1] != inner:
        raise ShapeError(f"{left.shape} x {right.shape}: inner sizes differ ({left.shape[-1]}, {inner})")
    z = product(
        b.expand(left, [0]) if left.ndim == 1 else left,
        b.expand(right, [1]) if right.ndim == 1 else right,
    )
    shape = z.shape if right.ndim > 1 else z.shape[:-1]
    if left.ndim == 1:
        place = z.ndim - 2
        shape = shape[:place] + shape[place + 1 :]
    return b.reshape(z, shape)


def product(x: Node, y: Node) -> Node:
    """Matrix product of operands with two axes or more, of any numeric dtype."""
    if x.out.is_float:
        return b.matmul(x, y)
    x, y = countable(x), countable(y)
    both = b.mul(b.expand(x, [x.ndim]), b.expand(y, [y.ndim - 2]))
    return b.sum_(both, [both.ndim - 2])


@traced
def dot(x: Any, y: Any) -> Node:
    """NumPy's dot: the last axis of x with the last but one of y; a scalar operand multiplies."""
    left, right = node(x), node(y)
    if left.ndim == 0 or right.ndim == 0:
        return b.mul(left, right)
    if left.ndim <= 2 and right.ndim <= 2:
        return matmul(left, right)
    return contract(left, right, [left.ndim - 1], [max(0, right.ndim - 2)])


@traced
def outer(x: Any, y: Any) -> Node:
    """All products of elements: (size of x, size of y)."""
    left, right = node(x), node(y)
    return b.mul(b.reshape(left, (left.out.size, 1)), b.reshape(right, (1, right.out.size)))


@traced
def tensordot(x: Any, y: Any, axes: int | Sequence[Any] = 2) -> Node:
    """Sum of products over axes of both: the last n of x with the first n of y, or (axes of x, axes of y)."""
    left, right = node(x), node(y)
    if isinstance(axes, (list, tuple)):
        if len(axes) != 2:
            raise ShapeError(f"axes must be a number or (axes of x, axes of y), got {axes}")
        return contract(left, right, many_axes(axes[0], left.ndim), many_axes(axes[1], right.ndim))
    count = integer(axes, "axes")
    if not 0 <= count <= min(left.ndim, right.ndim):
        raise ShapeError(f"{left.shape} x {right.shape}: cannot contract {count} axes")
    return contract(left, right, range(left.ndim - count, left.ndim), range(count))


def contract(x: Node, y: Node, over_x: Sequence[int], over_y: Sequence[int]) -> Node:
    """Sum of products over paired axes as one matrix product: (rest of x, rest of y)."""
    x, y = b.operands(x, y)
    if [x.shape[a] for a in over_x] != [y.shape[a] for a in over_y]:
        raise ShapeError(f"{x.shape} x {y.shape}: axes {tuple(over_x)} and {tuple(over_y)} have different sizes")
    rows, columns = ([a for a in range(n.ndim) if a not in over] for n, over in ((x, over_x), (y, over_y)))
    inner = size_of(x.shape, over_x)
    left = b.reshape(b.transpose(x, (*rows, *over_x)), (size_of(x.shape, rows), inner))
    right = b.reshape(b.transpose(y, (*over_y, *columns)), (inner, size_of(y.shape, columns)))
    return b.reshape(product(left, right), [*(x.shape[a] for a in rows), *(y.shape[a] for a in columns)])


@traced
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    """The diagonal of two axes as the last axis; ``offset`` counts columns to the right."""
    x = node(x)
    if x.ndim < 2:
        raise ShapeError(f"needs two axes or more, got {x.shape}")
    rows, columns = one_axis(axis1, x.ndim), one_axis(axis2, x.ndim)
    if rows == columns:
        raise ShapeError(f"axis1 and axis2 are both {rows}")
    return diagonal_of(x, rows, columns, integer(offset, "offset"))


def diagonal_of(x: Node, rows: int, columns: int, offset: int = 0) -> Node:
    """The diagonal of two axes, moved to the end: every (columns + 1)-th element of the flattened pair."""
    rest = [a for a in range(x.ndim) if a not in (rows, columns)]
    n, m = x.shape[rows], x.shape[columns]
    size = max(0, min(n, m - offset) if offset >= 0 else min(n + offset, m))
    lead = tuple(x.shape[a] for a in rest)
    flat = b.reshape(b.transpose(x, (*rest, rows, columns)), (*lead, n * m))
    start = 0 if size == 0 else offset if offset >= 0 else -offset * m
    return b.slice_(flat, [0] * len(lead) + [start], [*lead, size], [1] * len(lead) + [m + 1])
