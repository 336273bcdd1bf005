"""Graphs for other programs: networkx, JSON (networkx' node-link form) and GraphML.

Nodes are named as in the listing: ``4``, or ``12.3`` inside the body of node 12. Edges run from operand to user:

    operand   ``position`` is the operand's place, ``result`` which of several results is taken
    binding   an operand of a loop or branch to the leaf of the body that stands for it
    result    a value of a body to the node that holds the body
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import networkx as nx

from graphnet.compiler.ir import Constant, Graph, Node, is_leaf
from graphnet.compiler.order import step_of
from graphnet.compiler.printers.buffers import Buffers, homes_of
from graphnet.compiler.printers.numbering import Region, bindings, inner, number
from graphnet.compiler.printers.text import HIDDEN, Places, clean, literal, origin
from graphnet.compiler.schedule import Plan


def to_networkx(source: Graph | Plan) -> nx.MultiDiGraph:
    """A graph with the bodies of its nodes, or the graph of a plan, as one networkx graph.

    Node attributes: op, shape (a list of sizes; of lists for several results), dtype (alike), role and name of
    leaves, scope, file, line, options (other attributes of the op), value (of constants with one element),
    parent and region (the node that holds this one, and in which body). Graph attributes: name, outputs (result
    name -> node and result), updates (leaf name -> leaf, node and result). For a plan also: step (position in the
    schedule) and buffers of nodes, and memory, its numbers in bytes.
    """
    graph = source.graph if isinstance(source, Plan) else source
    found = nx.MultiDiGraph()
    region = number(graph)
    _add(found, region, "", Places.of(graph))
    found.graph["name"] = clean(graph.name)
    found.graph["outputs"] = {clean(name): _value(region, node) for name, node in graph.outputs}
    found.graph["updates"] = {
        clean(str(home.attrs["name"])): {"leaf": region.refs[home], **_value(region, node)}
        for home, node in graph.updates
    }
    if isinstance(source, Plan):
        _add_memory(found, source)
    return found


def _add_memory(found: nx.MultiDiGraph, plan: Plan) -> None:
    buffers, m = Buffers(plan), plan.memory
    for _, about in found.nodes(data=True):
        about |= {"buffers": [], "step": -1}
    for ref, home in homes_of(plan).items():
        about = found.nodes[ref.partition("[")[0]]
        about["buffers"].append(buffers.name(home.array)[1:-1])
        about["step"] = max(about["step"], -1 if home.position is None else home.position)
    found.graph["memory"] = {
        "arena": m.arena,
        "lower_bound": m.lower_bound,
        "without_reuse": m.total_temporaries,
        "homes": dict(sorted(m.homes.items())),
    }


def _value(region: Region, node: Node) -> dict[str, Any]:
    return {"node": region.refs[step_of(node)], "result": _index(node)}


def _index(node: Node) -> int:
    return int(node.attrs["index"]) if node.op == "get" else 0


def _add(found: nx.MultiDiGraph, region: Region, parent: str, places: Places) -> None:
    for node in region.shown:
        ref = region.refs[node]
        found.add_node(ref, **_describe(node, places), parent=parent, region=region.title)
        for position, operand in enumerate(node.inputs):
            source = _source(region, operand)
            found.add_edge(source, ref, kind="operand", position=position, result=_index(operand))
        for body in inner(region, node):
            _add(found, body, ref, places)
            _connect(found, region, node, body)


def _source(region: Region, node: Node) -> str:
    """The node that makes a value: leaves of fused bodies are the values outside."""
    return region.refs[step_of(node)].partition("[")[0]


def _connect(found: nx.MultiDiGraph, region: Region, node: Node, body: Region) -> None:
    """The edges into and out of one body."""
    if not body.fused:
        places = {operand: i for i, operand in reversed(list(enumerate(node.inputs)))}
        for leaf, operand in bindings(node, body.graph):
            found.add_edge(
                _source(region, operand),
                body.refs[leaf],
                kind="binding",
                position=places[operand],
                result=_index(operand),
            )
    for position, (_, value) in enumerate(body.graph.outputs):
        source = _source(body, value)
        if source in found:
            found.add_edge(source, region.refs[node], kind="result", position=position, result=_index(value))


def _describe(node: Node, places: Places) -> dict[str, Any]:
    single = len(node.types) == 1
    shapes, dtypes = [list(t.shape) for t in node.types], [t.dtype for t in node.types]
    where = origin(node)
    file, _, line = places(where).rpartition(":")
    about: dict[str, Any] = {
        "op": node.op,
        "shape": shapes[0] if single else shapes,
        "dtype": dtypes[0] if single else dtypes,
        "role": node.attrs["role"] if is_leaf(node) else "",
        "name": clean(str(node.attrs["name"])) if is_leaf(node) else "",
        "scope": clean(where.scope),
        "file": file,
        "line": int(line or 0),
        "options": {k: _plain(v) for k, v in sorted(node.attrs.items()) if k not in HIDDEN},
    }
    if node.op == "constant":
        about["value"] = literal(node.attrs["value"]) or ""
    return about


def _plain(value: Any) -> Any:
    """An attribute as JSON knows it."""
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, Constant):
        return literal(value) or f"{value.dtype}{list(value.shape)}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return clean(value) if isinstance(value, str) else type(value).__name__


def to_json(source: Graph | Plan) -> str:
    """Node-link form with a line for each node and edge; read by ``nx.node_link_graph(data, edges="edges")``."""
    data = nx.node_link_data(to_networkx(source), edges="edges")
    parts = []
    for key in sorted(data):
        if key in ("nodes", "edges") and data[key]:
            rows = ",\n".join(f"  {_json(row)}" for row in data[key])
            parts.append(f" {_json(key)}: [\n{rows}\n ]")
        else:
            parts.append(f" {_json(key)}: {_json(data[key])}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def to_graphml(source: Graph | Plan) -> str:
    """The same as GraphML; what is neither text nor integer is written as JSON text."""
    found = to_networkx(source)
    flat = nx.MultiDiGraph(**_texts(found.graph))
    flat.add_nodes_from((name, _texts(data)) for name, data in found.nodes(data=True))
    flat.add_edges_from((a, b, key, _texts(data)) for a, b, key, data in found.edges(keys=True, data=True))
    return "\n".join(nx.generate_graphml(flat)) + "\n"


def _texts(data: Mapping[str, Any]) -> dict[str, str | int]:
    return {key: value if isinstance(value, (str, int)) else _json(value) for key, value in data.items()}
