"""A traced graph in double precision: what gradient checks need."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from graphnet.compiler.ir import Constant, Graph, Node, Type, make
from graphnet.compiler.ops.control import BODIES


def _type(t: Type) -> Type:
    return Type(t.shape, "float64" if t.dtype == "float32" else t.dtype)


def _value(value: Any) -> Any:
    if isinstance(value, Constant) and value.dtype == "float32":
        count = len(value.data) // 4
        wide = struct.pack(f"<{count}d", *struct.unpack(f"<{count}f", value.data))
        return Constant(wide, value.shape, "float64")
    return value


def in_double(graph: Graph) -> tuple[Graph, Mapping[Node, Node]]:
    """The graph with every float32 turned into float64, and the leaves it maps to."""
    done: dict[Node, Node] = {}

    def visit(node: Node) -> Node:
        attrs = {k: _value(v) for k, v in node.attrs.items()}
        if attrs.get("dtype") == "float32":
            attrs["dtype"] = "float64"
        for name in BODIES.get(node.op, ()):
            attrs[name] = in_double(attrs[name])[0]
        type_ = tuple(map(_type, node.type)) if isinstance(node.type, tuple) else _type(node.type)
        return make(node.op, [done[i] for i in node.inputs], attrs, type_, node.where)

    for node in (*graph.leaves(), *graph.nodes()):
        if node not in done:
            done[node] = visit(node)
    leaves = {n: done[n] for n in graph.leaves()}
    whole = Graph(
        tuple(done[n] for n in graph.inputs),
        tuple((name, done[n]) for name, n in graph.outputs),
        tuple((done[h], done[v]) for h, v in graph.updates),
        graph.name,
    )
    return whole, leaves
