"""One element picked from each row becomes a comparison with the column number, for compiled backends.

    take(reshape(x, (R*C,)), label + row * C)           ->  sum over c of where(c == label, x, 0)
    scatter_add(g, label + row * C, rows=R*C)           ->  where(c == label, g, 0), seen as (R*C,)

Both sides do the same, but the right one is elementwise: it fuses with its neighbours (a cross entropy's
exponentials and its gradient, say) and vectorises, where a gather and a scatter go element by element.
"""

from __future__ import annotations

import struct

from graphnet.compiler import build as b
from graphnet.compiler.ir import Constant, Graph, Node, Type, make, rebuild, rewrite
from graphnet.compiler.passes.pipeline import Context
from graphnet.compiler.passes.simplify import in_bodies

MOST_COLUMNS = 1024
"""Wider rows are gathered: comparing reads all of them for one element."""


def one_hot(graph: Graph, context: Context) -> Graph:
    """Rewrite picks and their adjoints, where the backend runs fused loops."""
    if not context.target.compiled:
        return graph

    def visit(old: Node, inputs: tuple[Node, ...]) -> Node:
        node = in_bodies(rebuild(old, inputs), lambda g: one_hot(g, context))
        if node.op not in ("take", "scatter_add"):
            return node
        with b.at(node.where):
            return (_picked(node) if node.op == "take" else _spread(node)) or node

    return rewrite(graph, visit)


def _picked(node: Node) -> Node | None:
    flat, index = node.inputs
    found = _row_labels(index, flat.out.size) if flat.ndim == 1 else None
    if found is None or not flat.out.is_float:
        return None
    labels, columns = found
    x = b.reshape(_unflattened(flat, labels.shape), (*labels.shape[:-1], columns))
    return b.reshape(b.sum_(b.where(_hits(labels, columns), x, 0), (labels.ndim - 1,)), node.shape)


def _unflattened(flat: Node, shape: tuple[int, ...]) -> Node:
    """What was flattened, if its rows are the labels'."""
    inner = flat.inputs[0] if flat.op == "reshape" else flat
    return inner if inner.shape[:-1] == shape[:-1] else flat


def _spread(node: Node) -> Node | None:
    g, index = node.inputs
    found = _row_labels(index, node.attrs["rows"]) if node.ndim == 1 else None
    if found is None or not g.out.is_float:
        return None
    labels, columns = found
    return b.reshape(b.where(_hits(labels, columns), b.reshape(g, labels.shape), 0), node.shape)


def _hits(labels: Node, columns: int) -> Node:
    """True where the column is the row's label."""
    numbers = struct.pack(f"={columns}{'i' if labels.dtype == 'int32' else 'q'}", *range(columns))
    value = Constant(numbers, (*(1,) * (labels.ndim - 1), columns), labels.dtype)
    return b.eq(labels, make("constant", (), {"value": value}, Type(value.shape, value.dtype), b.current_where()))


def _row_labels(index: Node, size: int) -> tuple[Node, int] | None:
    """(labels (.., 1), C) if ``index`` is label + row * C for the rows that make up ``size``, in order, else None.

    The labels have the axes they were checked with, so that what follows has those of the rows.
    """
    rows = index.out.size
    while index.op == "reshape":
        index = index.inputs[0]
    if index.op != "add" or not rows or not size or size % rows:
        return None
    columns = size // rows
    for labels, offsets in (index.inputs, index.inputs[::-1]):
        if _is_ramp(offsets, rows, columns) and labels.out.size == rows and columns <= MOST_COLUMNS:
            if _is_bounded(labels, columns):
                while labels.op == "reshape":
                    labels = labels.inputs[0]
                return b.expand(labels, [labels.ndim]), columns
    return None


def _is_ramp(node: Node, rows: int, step: int) -> bool:
    """True for the constant 0, step, 2 * step, ..."""
    while node.op == "reshape":
        node = node.inputs[0]
    if node.op != "constant" or node.dtype not in ("int32", "int64") or node.out.size != rows:
        return False
    code = "i" if node.dtype == "int32" else "q"
    value: Constant = node.attrs["value"]
    return value.data == struct.pack(f"={rows}{code}", *range(0, rows * step, step))


def _is_bounded(node: Node, columns: int) -> bool:
    """True if the labels were checked to be columns."""
    while node.op in ("reshape", "transpose", "cast"):
        node = node.inputs[0]
    size: int = node.attrs.get("size", 0)
    return node.op == "bounded" and size == columns and node.dtype in ("int32", "int64")
