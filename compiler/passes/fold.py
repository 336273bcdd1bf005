"""Constant folding: what is known at compile time is computed there, by the numpy kernels.

    mul(iota(100), 10)  ->  constant of 100 numbers

Results above ``LIMIT`` elements stay computed at run time: they would swell the graph and its dumps.
"""

from __future__ import annotations

from graphnet.compiler.ir import Constant, Graph, Node, make, rebuild, rewrite
from graphnet.compiler.passes.pipeline import Context
from graphnet.compiler.passes.simplify import in_bodies
from graphnet.compiler.record import REGISTRY
from graphnet.kernels.numpy import evaluate

LIMIT = 65536


def fold(graph: Graph, context: Context) -> Graph:
    """Replace nodes whose operands are all constants by constants."""

    def visit(old: Node, inputs: tuple[Node, ...]) -> Node:
        node = in_bodies(rebuild(old, inputs), lambda g: fold(g, context))
        record = REGISTRY.get(node.op)
        if record is None or not inputs or node.out.size > LIMIT:
            return node
        if not all(i.op in ("constant", "iota") for i in inputs) or node.op in (
            "broadcast_to",
            "stop_gradient",
        ):
            return node
        literals = [_literal(i) for i in inputs]
        data = evaluate.evaluate(node.op, record.kernel, literals, node.out, node.attrs, record.scratch)
        value = Constant(data, node.shape, node.dtype)
        return make("constant", (), {"value": value}, node.type, node.where)

    return rewrite(graph, visit)


def _literal(node: Node) -> evaluate.Literal:
    if node.op == "constant":
        value = node.attrs["value"]
        return value.data, value.shape, value.dtype
    record = REGISTRY["iota"]
    return evaluate.evaluate("iota", record.kernel, [], node.out, node.attrs, None), node.shape, node.dtype
