"""Numbered listings of graphs, one line a node, in the manner of Knet.

   4 matmul(2,1) name=>lenet/dense_1 shape=>(100,10) float32  at lenet.py:14

In brackets the numbers of the operands; ``name`` is the model function around the line, or a leaf's own name.
Bodies of loops, branches and fused groups are indented under their node. Collapsed, a line is a model function:

   3 lenet/conv2d_1(1)  [2 ops, 520 parameters] (100,1,28,28) -> (100,20,24,24)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from graphnet.compiler.ir import Graph, Node, Type, is_leaf, users
from graphnet.compiler.printers.buffers import Buffers, Homes, homes_of
from graphnet.compiler.printers.collapse import Group, groups
from graphnet.compiler.printers.numbering import Region, inner, number, operations, result
from graphnet.compiler.printers.text import (
    Places,
    attributes,
    clean,
    count,
    literal,
    origin,
    plural,
    shape,
    type_,
    types,
)
from graphnet.compiler.schedule import Plan


@dataclass
class _Writer:
    places: Places
    buffers: Buffers | None = None
    homes: Homes = field(default_factory=dict)

    def lines(self, region: Region, indent: str = "") -> list[str]:
        found = []
        for node in region.shown:
            ref = region.refs[node]
            found.append(f"{indent}{ref:>4} {self.node(region, node)}")
            for body in inner(region, node):
                found += self._body(body, indent + "     ")
        return found

    def _body(self, body: Region, indent: str) -> list[str]:
        gives = ", ".join(f"{clean(name)}=>{body.refs[node]}" for name, node in body.graph.outputs)
        end = [f"{indent}     gives {gives}"] if not body.fused or len(body.graph.outputs) > 1 else []
        return [*([f"{indent}{body.title}"] if not body.fused else []), *self.lines(body, indent), *end]

    def node(self, region: Region, node: Node) -> str:
        """The line of a node, without its number."""
        if node.op == "constant":
            return self._constant(node)
        head = leaf_head(region, node) if is_leaf(node) else f"{node.op}({operands(region, node)})"
        told = node.type if isinstance(node.type, Type) else None
        words = [head, *(f"{k}=>{v}" for k, v in attributes(node.attrs, told).items())]
        name = node.attrs["name"] if is_leaf(node) else node.where.scope
        if name:
            words.append(f"name=>{clean(name)}")
        words.append(f"shape=>{types(node)}")
        return f"{' '.join(words)}{self._homes(region, node)}{self.places.at(origin(node))}"

    def _constant(self, node: Node) -> str:
        value = literal(node.attrs["value"])
        if value is not None:
            return f"constant {value} shape=>{type_(node.out)}"
        place = self.places(origin(node))
        return f"host constant {type_(node.out)}{f' captured at {place}' if place else ''}"

    def _homes(self, region: Region, node: Node) -> str:
        """Buffers of a node's results, where they are known and not plain from its name."""
        if self.buffers is None or (is_leaf(node) and not region.bound and not region.title):
            return ""
        found = [self.homes.get(result(region.refs[node], node, i)) for i in range(len(node.types))]
        if all(home is None for home in found):
            return ""
        return "  " + " ".join(self.buffers.name(home.array) if home else "[-]" for home in found)


def leaf_head(region: Region, node: Node) -> str:
    """A leaf's role, with what it stands for outside if it is the leaf of a body."""
    outside = region.bound.get(node)
    unused = " unused" if node in region.loose else ""
    return f"{node.attrs['role']}{f'({outside})' if outside else ''}{unused}"


def operands(region: Region, node: Node) -> str:
    return ",".join(region.refs[i] for i in node.inputs)


def results(region: Region) -> list[str]:
    """The lines of named outputs and of updates."""
    graph = region.graph
    found = [f"output {clean(name)}=>{region.refs[node]}" for name, node in graph.outputs]
    found += [
        f"update {clean(str(home.attrs['name']))}({region.refs[home]})=>{region.refs[value]}"
        for home, value in graph.updates
    ]
    return found


def headline(graph: Graph) -> str:
    """What a graph holds, in one line."""
    params = [n for n in graph.leaves() if n.attrs["role"] == "param"]
    size = sum(n.out.size for n in params)
    held = f", {plural(size, 'parameter')} in {plural(len(params), 'array')}" if params else ""
    return f"{clean(graph.name)}: {plural(operations(graph), 'op')}{held}"


def graph_listing(graph: Graph, collapse: int | None = None) -> str:
    """The graph, a numbered line a node.

    ``collapse=n`` writes one line for each call of a model function ``n`` levels below the model itself
    (``collapse=1``: its layers), with forward, backward and update ops of one call on lines of their own.
    """
    if collapse is not None:
        return _collapsed(graph, collapse)
    region = number(graph)
    lines = _Writer(Places.of(graph)).lines(region)
    return "\n".join([headline(graph), *lines, *results(region)]) + "\n"


def plan_listing(plan: Plan) -> str:
    """The listing of a plan's graph with the buffer each value lives in, and the memory numbers around it."""
    region = number(plan.graph)
    writer = _Writer(Places.of(plan.graph), Buffers(plan), homes_of(plan))
    return "\n".join([headline(plan.graph), *writer.lines(region), *results(region), *_foot(plan)]) + "\n"


def _foot(plan: Plan) -> list[str]:
    m = plan.memory
    homes = ", ".join(f"{kind} {count(m.homes[kind])} B" for kind in sorted(m.homes))
    return [
        f"{plural(len(plan.steps), 'step')} in {', '.join(plan.phases) or 'no phase'}",
        f"arena {count(m.arena)} B, lower bound {count(m.lower_bound)} B, without reuse {count(m.total_temporaries)} B",
        f"homes: {homes or 'none'}",
    ]


def _collapsed(graph: Graph, depth: int) -> str:
    found = groups(graph, depth)
    refs = {n: str(i) for i, group in enumerate(found, 1) for n in group.nodes}
    region = replace(number(graph), refs=refs)
    writer = _Writer(Places.of(graph))
    reads, kept = users(graph.nodes()), set(graph.roots())
    lines = [headline(graph)]
    for index, group in enumerate(found, 1):
        line = writer.node(region, group.nodes[0])
        if group.scope:
            line = _call(group, region, group.gives(reads, kept))
        lines.append(f"{index:4} {line}")
    lines += [f"output {clean(name)}=>{refs[node]}" for name, node in graph.outputs]
    if graph.updates:
        lines.append(f"updates of {plural(len(graph.updates), 'leaf', 'leaves')}")
    return "\n".join(lines) + "\n"


def _call(group: Group, region: Region, gives: Sequence[Node]) -> str:
    """One call of a model function: what it reads, how much it holds, the shapes that go in and come out."""
    reads = group.reads()
    sources = ",".join(sorted({region.refs[n] for n in reads}, key=int))
    phase = "" if group.phase == "forward" else f" {group.phase}"
    held = plural(group.ops, "op")
    if group.parameters:
        held += f", {plural(group.parameters, 'parameter')}"
    return f"{clean(group.scope)}({sources}){phase}  [{held}] {shapes(reads)} -> {shapes(gives)}"


def shapes(nodes: Sequence[Node]) -> str:
    """The different shapes among some values, at most three."""
    found = list(dict.fromkeys(shape(n.shape) for n in nodes if not isinstance(n.type, tuple)))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{' '.join(found[:3])}{more}" if found else "nothing"
