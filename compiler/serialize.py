"""Graphs as plain JSON values and back, which is how saved nets hold their program.

    Graph   {"name", "inputs": [n..], "nodes": [Node..], "outputs": [[name, n]..], "updates": [[n, n]..]}
    Node    {"op", "inputs": [n..], "attrs": {name: Value..}, "type": Type or [Type..], "where": w}
    Type    ["float32", 3, 4]
    Value   true, 3, 0.5, "text"; [Value..] is a tuple; {"float": "inf"}; {"constant": c}; {"graph": Graph}

n is the index of an earlier node of the same graph; w and c count source lines and constants, which the
graphs of one ``Writer`` share. Reading trusts nothing: what is wrong with the values, whoever wrote them, is
one CompileError. A graph that was read is equal to the one written, because nodes are hash-consed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import PurePath
from typing import Any

from graphnet.compiler.errors import CompileError
from graphnet.compiler.infer import check_attributes, check_type, fail, infer
from graphnet.compiler.ir import NOWHERE, Constant, Graph, Node, Type, Where, is_leaf, make, toposort
from graphnet.compiler.ops.control import BODIES
from graphnet.compiler.verify import verify

Json = Any

MAX_NODES = 500_000
MAX_LEVELS = 50
MAX_CALLS = 1_000_000  # with loops unrolled, which is what the numpy backend does to them
MAX_INT = 1 << 63

OUTER_ROLES = ("input", "target", "param", "state", "slot", "hyper", "rng")
BODY_ROLES = ("carry", "x", "const", "time")


# -- checked access to plain values -------------------------------------------------------------------


def fields(data: Json, keys: Sequence[str], what: str) -> dict[str, Json]:
    """``data`` if it is an object with exactly these keys."""
    if not isinstance(data, dict) or set(data) != set(keys):
        fail(f"{what}: need an object with {', '.join(keys)}")
    return data


def entries(data: Json, what: str, length: int | None = None) -> list[Json]:
    """``data`` if it is a list (of this length)."""
    if not isinstance(data, list) or length not in (None, len(data)):
        fail(f"{what}: need a list{'' if length is None else f' of {length}'}")
    return data


def count(data: Json, what: str, below: int = MAX_INT) -> int:
    """``data`` if it is an integer from 0 to below ``below``."""
    if type(data) is not int or not 0 <= data < below:
        fail(f"{what}: need an integer from 0 to below {below}")
    return data


def text(data: Json, what: str) -> str:
    """``data`` if it is printable text, so that messages with it stay one line."""
    if not isinstance(data, str) or not data.isprintable():
        fail(f"{what}: need printable text")
    return data


def write_type(type_: Type) -> Json:
    return [type_.dtype, *map(int, type_.shape)]


def read_type(data: Json, what: str = "type") -> Type:
    """The type; sizes that no memory holds are refused before anybody multiplies them."""
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        fail(f"{what}: need a dtype and sizes")
    return check_type(Type(tuple(count(n, what) for n in data[1:]), data[0]), what)


# -- writing ------------------------------------------------------------------------------------------


class Writer:
    """Writes graphs and collects the constants and source lines they share."""

    def __init__(self) -> None:
        self._constants: dict[Constant, int] = {}
        self._wheres: dict[Where, int] = {}

    @property
    def constants(self) -> list[Constant]:
        """The constants of everything written so far, by index."""
        return list(self._constants)

    @property
    def wheres(self) -> Json:
        """The source lines of everything written so far: ``[[file, line, scope]..]``."""
        return [[w.file, w.line, w.scope] for w in self._wheres]

    def where(self, where: Where) -> int:
        """The index of a source line. Of its file only the last name is kept: folders are private."""
        kept = Where(_printable(PurePath(where.file).name), where.line, _printable(where.scope))
        return self._wheres.setdefault(kept, len(self._wheres))

    def graph(self, graph: Graph) -> Json:
        """The graph with its bodies; raises CompileError for attributes without a plain form."""
        nodes = toposort([*graph.inputs, *(home for home, _ in graph.updates), *graph.roots()])
        index = {node: i for i, node in enumerate(nodes)}
        return {
            "name": graph.name,
            "inputs": [index[n] for n in graph.inputs],
            "nodes": [self._node(n, index) for n in nodes],
            "outputs": [[name, index[n]] for name, n in graph.outputs],
            "updates": [[index[home], index[value]] for home, value in graph.updates],
        }

    def _node(self, node: Node, index: Mapping[Node, int]) -> Json:
        several = isinstance(node.type, tuple)
        return {
            "op": node.op,
            "inputs": [index[i] for i in node.inputs],
            "attrs": {name: self.value(node.attrs[name]) for name in sorted(node.attrs)},
            "type": [write_type(t) for t in node.types] if several else write_type(node.out),
            "where": self.where(node.where),
        }

    def value(self, value: object) -> Json:
        """An attribute as a plain value."""
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": repr(value)}
        if value is None or isinstance(value, (bool, float, str)):
            return value
        if isinstance(value, Integral):  # NumPy's too
            return int(value)
        if isinstance(value, tuple):
            return [self.value(v) for v in value]
        if isinstance(value, Constant):
            return {"constant": self._constants.setdefault(value, len(self._constants))}
        if isinstance(value, Graph):
            return {"graph": self.graph(value)}
        fail(f"an attribute of type {type(value).__name__} has no plain form")


def _printable(value: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in value)


# -- reading ------------------------------------------------------------------------------------------


class Reader:
    """Reads what one Writer wrote, given its source lines and constants, and checks every value."""

    def __init__(self, wheres: Json, constants: Sequence[Constant]) -> None:
        self._constants = constants
        self._wheres = [_read_where(w) for w in entries(wheres, "source lines")]
        self._nodes = 0
        self._calls: dict[Graph, int] = {}

    def where(self, data: Json) -> Where:
        """The source line of this index."""
        return self._wheres[count(data, "source line", len(self._wheres))]

    def graph(self, data: Json) -> Graph:
        """A top-level graph, verified; raises CompileError."""
        graph = self._graph(data, 0)
        verify(graph, f"graph {graph.name!r}")
        return graph

    def value(self, data: Json, level: int = 0) -> Any:
        """An attribute from its plain value."""
        if level > MAX_LEVELS:
            fail(f"nested more than {MAX_LEVELS} levels deep")
        if isinstance(data, list):
            return tuple(self.value(v, level + 1) for v in data)
        if not isinstance(data, dict):
            return data if type(data) is not int or abs(data) < MAX_INT else fail("an integer beyond 64 bits")
        if len(data) != 1:
            fail("an attribute: need an object with one of float, constant, graph")
        ((kind, inner),) = data.items()
        if kind == "float" and inner in ("inf", "-inf", "nan"):
            return float(inner)
        if kind == "constant":
            return self._constants[count(inner, "constant", len(self._constants))]
        if kind == "graph":
            return self._graph(inner, level + 1)
        fail("an attribute: need an object with one of float, constant, graph")

    def _graph(self, data: Json, level: int) -> Graph:
        data = fields(data, ("name", "inputs", "nodes", "outputs", "updates"), "graph")
        nodes: list[Node] = []
        for i, item in enumerate(entries(data["nodes"], "nodes")):
            self._nodes += 1
            if self._nodes > MAX_NODES:
                fail(f"more than {MAX_NODES:,} nodes")
            try:
                nodes.append(self._node(item, nodes, level))
            except CompileError as error:
                raise CompileError(f"node {i}: {error}") from None

        def node(n: Json) -> Node:
            return nodes[count(n, "node", len(nodes))]

        def pair(item: Json) -> tuple[Json, Json]:
            first, second = entries(item, "result", 2)
            return first, second

        graph = Graph(
            tuple(node(n) for n in entries(data["inputs"], "inputs")),
            tuple((text(a, "output name"), node(n)) for a, n in map(pair, entries(data["outputs"], "outputs"))),
            tuple((node(home), node(n)) for home, n in map(pair, entries(data["updates"], "updates"))),
            text(data["name"], "graph name"),
        )
        _check_graph(graph, level)
        self._calls[graph] = self._unrolled(nodes)
        return graph

    def _unrolled(self, nodes: Sequence[Node]) -> int:
        """How many ops run in a call."""
        total = len(nodes)
        for node in nodes:
            times = node.attrs["length"] if node.op == "scan" else 1
            total += times * sum(self._calls[node.attrs[name]] for name in BODIES.get(node.op, ()))
        if total > MAX_CALLS:
            fail(f"its loops run more than {MAX_CALLS:,} ops")
        return total

    def _node(self, data: Json, earlier: Sequence[Node], level: int) -> Node:
        data = fields(data, ("op", "inputs", "attrs", "type", "where"), "node")
        op = text(data["op"], "op")
        given = data["attrs"]
        if not isinstance(given, dict):
            fail(f"{op}: need an object of attributes")
        attrs = {name: self.value(given[name], level + 1) for name in sorted(given)}
        check_attributes(op, attrs)
        operands = entries(data["inputs"], f"{op}: inputs")
        inputs = [earlier[count(n, f"{op}: an input is no earlier node", len(earlier))] for n in operands]
        if op == "input":
            if attrs["role"] not in (BODY_ROLES if level else OUTER_ROLES) or inputs:
                fail(f"input {attrs['name']!r}: role {attrs['role']!r} is not possible here")
            return make(op, (), attrs, read_type(data["type"], op), self.where(data["where"]))
        type_ = infer(op, inputs, attrs)
        stored = [write_type(t) for t in type_] if isinstance(type_, tuple) else write_type(type_)
        if data["type"] != stored:
            fail(f"{op}: its operands give {stored}, the type says {str(data['type'])[:60]}")
        return make(op, inputs, attrs, type_, self.where(data["where"]))


def _read_where(data: Json) -> Where:
    file, line, scope = entries(data, "source line", 3)
    found = Where(text(file, "file name"), count(line, "line"), text(scope, "scope"))
    return NOWHERE if found == NOWHERE else found


def _check_graph(graph: Graph, level: int) -> None:
    """What ``verify`` takes for granted. It finds repeated outputs, wrong updates and open bodies."""
    if not all(map(is_leaf, graph.inputs)) or len(set(graph.inputs)) != len(graph.inputs):
        fail("an input is no leaf or is listed twice")
    homes = [home for home, _ in graph.updates]
    if (level and homes) or len(set(homes)) != len(homes):
        fail("a leaf is updated twice or inside a body")
    if any(isinstance(n.type, tuple) for n in graph.roots()):
        fail("a result has several values")
