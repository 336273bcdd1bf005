"""Graphs in Graphviz' DOT language, written by hand: neither graphviz nor pydot is needed.

Model functions, loops, branches and fused groups are clusters, named outputs are ovals, and a dashed line leads
from a new value to the leaf that takes it. Draw with ``dot -Tsvg net.dot -o net.svg``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from graphnet.compiler.ir import Graph
from graphnet.compiler.printers.export import to_networkx
from graphnet.compiler.printers.text import several, shape
from graphnet.compiler.schedule import Plan

_FILLS = {
    "input": "#cfe8ff",
    "target": "#cfe8ff",
    "param": "#ffe3b8",
    "state": "#e6d9ff",
    "slot": "#efe6d5",
    "hyper": "#eeeeee",
    "rng": "#eeeeee",
}
_HEAD = (
    "  rankdir=TB;",
    '  graph [fontname="Helvetica", fontsize=11, style=rounded, color="#999999"];',
    '  node [fontname="Helvetica", fontsize=10, shape=box, style="rounded,filled", fillcolor="#ffffff"];',
    '  edge [fontname="Helvetica", fontsize=9, color="#555555"];',
)


@dataclass
class _Cluster:
    nodes: list[str] = field(default_factory=list)
    inner: dict[str, _Cluster] = field(default_factory=dict)

    def at(self, path: tuple[str, ...]) -> _Cluster:
        here = self
        for name in path:
            here = here.inner.setdefault(name, _Cluster())
        return here


def quoted(text: str) -> str:
    """A DOT string: quotes and backslashes escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def dot(source: Graph | Plan) -> str:
    """The graph, or the graph of a plan, with nodes named as in the listing."""
    graph = to_networkx(source)
    root = _Cluster()
    for name in graph.nodes:
        root.at(_path(graph, name)).nodes.append(name)
    lines = [f"digraph {quoted(graph.graph['name'])} {{", *_HEAD]
    lines += _cluster(graph, root, "cluster", "  ")
    lines += _edges(graph)
    for index, (name, value) in enumerate(graph.graph["outputs"].items()):
        lines.append(f'  "out{index}" [label={quoted(name)}, shape=oval, fillcolor="#d5f2d5"];')
        lines.append(f'  {quoted(value["node"])} -> "out{index}"{_taken(graph, value)};')
    for value in graph.graph["updates"].values():
        ends = f"{quoted(value['node'])} -> {quoted(value['leaf'])}"
        lines.append(f"  {ends} [style=dashed, constraint=false];")
    return "\n".join([*lines, "}"]) + "\n"


def _path(graph: nx.MultiDiGraph, name: str) -> tuple[str, ...]:
    """The clusters around a node, outermost first; a node with a body lies in the cluster of its own body."""
    about = graph.nodes[name]
    if about["parent"]:
        parent = graph.nodes[about["parent"]]
        around = _path(graph, about["parent"])
        around = (*around, about["region"]) if parent["op"] == "cond" else around
    else:
        around = tuple(filter(None, about["scope"].split("/")))
    return (*around, f"{name} {about['op']}") if about["op"] in ("scan", "cond", "fused") else around


def _cluster(graph: nx.MultiDiGraph, cluster: _Cluster, name: str, indent: str) -> list[str]:
    lines = [f"{indent}{quoted(n)} [{_style(graph.nodes[n], n)}];" for n in cluster.nodes]
    for index, (label, inner) in enumerate(cluster.inner.items()):
        inside = f"{name}_{index}"
        lines.append(f"{indent}subgraph {quoted(inside)} {{")
        lines.append(f"{indent}  label={quoted(label)};")
        lines += _cluster(graph, inner, inside, indent + "  ")
        lines.append(f"{indent}}}")
    return lines


def _style(about: Mapping[str, Any], name: str) -> str:
    sizes = about["shape"] if about["shape"] and isinstance(about["shape"][0], list) else [about["shape"]]
    first = about["role"] or about.get("value") or about["op"]
    words = [f"{name} {first}", about["name"], several(map(shape, sizes))]
    style = f"label={quoted(chr(10).join(filter(None, words)))}"
    if about["role"]:
        style += f', fillcolor="{_FILLS.get(about["role"], "#f4f4f4")}"'
    if about["line"]:
        place = f"{about['file']}:{about['line']}"
        style += f", tooltip={quoted(place)}"
    return style


def _edges(graph: nx.MultiDiGraph) -> list[str]:
    """Edges, leaving out operands of a node with a body where an edge goes into the body instead."""
    lines = []
    bound = {(a, graph.nodes[b]["parent"]) for a, b, e in graph.edges(data=True) if e["kind"] == "binding"}
    for source, target, about in graph.edges(data=True):
        inside = (source, target) in bound or graph.nodes[target]["op"] == "fused"
        if about["kind"] == "operand" and inside:
            continue
        label = _taken(graph, {"node": source, "result": about["result"]})
        lines.append(f"  {quoted(source)} -> {quoted(target)}{label};")
    return lines


def _taken(graph: nx.MultiDiGraph, value: Mapping[str, Any]) -> str:
    """A label that tells which of several results is taken."""
    several = isinstance(graph.nodes[value["node"]]["dtype"], list)
    return f' [label="[{value["result"]}]"]' if several else ""
