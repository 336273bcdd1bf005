"""Gather after the product instead of before it, when the table has fewer rows than there are gathers.

    matmul(take(E, ids), W)             ->  take(matmul(E, W), ids)
    take(M, ids) + row                  ->  take(M + row, ids)
    scatter_add(matmul(G, W), ids)      ->  matmul(scatter_add(G, ids), W)
    matmul(take(E, ids)', G)            ->  matmul(E', scatter_add(G, ids))
    transpose/reshape of take(E, ids)   ->  take(E, transpose/reshape of ids)     (feature axis untouched)

Exists for language models: 12,800 looked-up rows of a table with 92 rows hold 92 distinct ones, so the same
maths costs under 1 % of the work. A layer library sees two layers; the compiler sees one product.
"""

from __future__ import annotations

import math

from graphnet.compiler import build as b
from graphnet.compiler.ir import Graph, Node, rebuild, rewrite
from graphnet.compiler.passes.pipeline import Context
from graphnet.compiler.passes.simplify import in_bodies


def exchange_gather(graph: Graph, context: Context) -> Graph:
    """Apply the exchange bottom-up."""

    def visit(old: Node, inputs: tuple[Node, ...]) -> Node:
        node = in_bodies(rebuild(old, inputs), lambda g: exchange_gather(g, context))
        if node.op not in ("matmul", "transpose", "reshape", "scatter_add") and not _is_row_wise(node):
            return node
        with b.at(node.where):
            for rule in (_product, _view, _row_wise, _scattered, _gathered_rows):
                found = rule(node, context)
                if found is not None:
                    return found
        return node

    return rewrite(graph, visit)


def _table(node: Node) -> bool:
    """A gather of rows from a 2-D table."""
    return node.op == "take" and node.inputs[0].ndim == 2


def _repeats(node: Node) -> bool:
    """More rows are gathered than the table has."""
    return _table(node) and node.inputs[1].out.size > node.inputs[0].shape[0]


def _product(node: Node, context: Context) -> Node | None:
    if node.op != "matmul" or not _table(node.inputs[0]) or node.inputs[1].ndim != 2:
        return None
    table, ids = node.inputs[0].inputs
    if not _repeats(node.inputs[0]):
        rows = table.shape[0]
        context.decline("exchange_gather", node, f"the table's {rows} rows are not fewer than {ids.out.size} gathers")
        return None
    return b.apply("take", b.matmul(table, node.inputs[1]), ids)


def _view(node: Node, context: Context) -> Node | None:
    if node.op not in ("transpose", "reshape") or not _table(node.inputs[0]):
        return None
    table, ids = node.inputs[0].inputs
    if node.op == "transpose":
        perm = node.attrs["perm"]
        return b.apply("take", table, b.transpose(ids, perm[:-1])) if perm[-1] == node.ndim - 1 else None
    if node.shape and node.shape[-1] == table.shape[1] and math.prod(node.shape[:-1]) == ids.out.size:
        return b.apply("take", table, b.reshape(ids, node.shape[:-1]))
    return None


# Finite, with finite gradients, for every finite operand: rows that are never gathered are computed too, and an
# infinity there would turn their zero gradients into NaN.
TOTAL = ("add", "sub", "mul", "neg", "abs", "square", "tanh", "sigmoid", "relu", "softplus", "sin", "cos", "erf")


def _is_row_wise(node: Node) -> bool:
    return node.op in TOTAL and any(_repeats(i) for i in node.inputs)


def _row_wise(node: Node, context: Context) -> Node | None:
    gathers = [i for i in node.inputs if _repeats(i)]
    if not _is_row_wise(node) or len(gathers) != 1 or gathers[0].shape != node.shape:
        return None
    table, ids = gathers[0].inputs
    inputs = []
    for i in node.inputs:
        if i is gathers[0]:
            inputs.append(table)
        elif all(n == 1 for n in i.shape[:-1]) and i.ndim <= node.ndim:
            inputs.append(b.reshape(i, i.shape[-1:]))
        else:
            return None
    return b.apply("take", b.apply(node.op, *inputs, **node.attrs), ids)


def _scattered(node: Node, context: Context) -> Node | None:
    if node.op != "scatter_add" or node.attrs["rows"] >= node.inputs[1].out.size:
        return None
    product, ids = node.inputs
    flat = product
    while flat.op == "reshape":
        flat = flat.inputs[0]
    width = product.shape[-1] if product.ndim else 0
    if flat.op != "matmul" or flat.inputs[1].ndim != 2 or product.ndim != ids.ndim + 1 or flat.shape[-1] != width:
        return None
    g = b.reshape(flat.inputs[0], (*ids.shape, flat.inputs[0].shape[-1]))
    summed = b.apply("scatter_add", g, ids, rows=node.attrs["rows"])
    return b.matmul(summed, flat.inputs[1])


def _gathered_rows(node: Node, context: Context) -> Node | None:
    if node.op != "matmul" or node.ndim != 2 or node.inputs[0].op != "transpose":
        return None
    gathered, g = node.inputs[0].inputs[0], node.inputs[1]
    if not _repeats(gathered) or gathered.ndim != 2:
        return None
    table, ids = gathered.inputs
    summed = b.apply("scatter_add", g, ids, rows=table.shape[0])
    return b.matmul(b.swap_last(table), summed)
