"""The graph listing as HTML: foldable calls of model functions and bodies, operands as links."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from graphnet.compiler.ir import Node, Type, is_leaf, users
from graphnet.compiler.printers.buffers import Buffers, homes_of
from graphnet.compiler.printers.collapse import Group, call_of, groups
from graphnet.compiler.printers.listing import results, shapes
from graphnet.compiler.printers.numbering import Region, inner, number, result
from graphnet.compiler.printers.text import Places, attributes, clean, literal, origin, plural, type_, types
from graphnet.compiler.schedule import Plan


def graph(plan: Plan) -> str:
    """The whole graph of a plan, with the buffer of each value; calls of model functions are folded."""
    writer = _Writer(plan)
    lines = []
    for group in groups(plan.graph, 1):
        lines += writer.call(group) if group.scope else writer.node(writer.region, group.nodes[0])
    ends = [f'<div class="node">{escape(line)}</div>' for line in results(writer.region)]
    lines += _folded(_span("dim", "outputs and updates"), ends)
    return "\n".join(['<div class="graph">', *lines, "</div>"])


def _span(kind: str, text: str) -> str:
    return f'<span class="{kind}">{escape(text)}</span>'


def _link(ref: str) -> str:
    return f'<a href="#n{escape(ref.partition("[")[0])}">{escape(ref)}</a>'


def _folded(summary: str, inside: Sequence[str], kind: str = "call") -> list[str]:
    head = f'<details class="{kind}"><summary>{summary}</summary>'
    return [head, '<div class="in">', *inside, "</div></details>"]


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self.region = number(plan.graph)
        self.places = Places.of(plan.graph)
        self.buffers = Buffers(plan)
        self.homes = homes_of(plan)
        self.reads = users(plan.graph.nodes())
        self.kept = set(plan.graph.roots())

    def call(self, group: Group) -> list[str]:
        """One call of a model function, folded."""
        gives = group.gives(self.reads, self.kept)
        facts = [plural(group.ops, "op")]
        if group.parameters:
            facts.append(plural(group.parameters, "parameter"))
        facts.append(f"{shapes(group.reads())} → {shapes(gives)}")
        phase = "" if group.phase == "forward" else f" {group.phase}"
        summary = f"{_span('name', clean(group.scope))}{escape(phase)} {_span('dim', ' · '.join(facts))}"
        return _folded(summary, self.nested(group.nodes, 2))

    def nested(self, nodes: Sequence[Node], depth: int) -> list[str]:
        """Nodes of one call, those of calls further in folded again."""
        members: dict[str | Node, list[Node]] = {}
        for node in nodes:
            if node.op != "get":
                members.setdefault(call_of(node, depth) or node, []).append(node)
        lines = []
        for key, inside in members.items():
            if isinstance(key, str):
                summary = f"{_span('name', clean(key))} {_span('dim', plural(len(inside), 'node'))}"
                lines += _folded(summary, self.nested(inside, depth + 1))
            else:
                lines += self.node(self.region, key)
        return lines

    def node(self, region: Region, node: Node) -> list[str]:
        """The line of a node and its bodies, folded."""
        ref = region.refs[node]
        place = self.places.at(origin(node))
        line = f"{self._head(region, node)}{self._homes(region, node)}{_span('place', place) if place else ''}"
        lines = [f'<div class="node" id="n{escape(ref)}"><span class="n">{escape(ref)}</span>{line}</div>']
        for body in inner(region, node):
            inside = [line for n in body.shown for line in self.node(body, n)]
            gives = ", ".join(f"{escape(clean(k))}=&gt;{_link(body.refs[n])}" for k, n in body.graph.outputs)
            inside.append(f'<div class="node">gives {gives}</div>')
            title = f"{body.title} of {ref} {node.op}: {plural(len(body.shown), 'node')}"
            lines += _folded(_span("dim", title), inside, "body")
        return lines

    def _head(self, region: Region, node: Node) -> str:
        if node.op == "constant":
            value = literal(node.attrs["value"])
            return f"{_span('op', 'constant')} {escape(value or 'array')} {escape(type_(node.out))}"
        if is_leaf(node):
            outside = region.bound.get(node)
            operands = f"({_link(outside)})" if outside else ""
            words = [f"{_span('op', str(node.attrs['role']))}{operands}"]
            words.append(_span("name", clean(str(node.attrs["name"]))))
        else:
            words = [f"{_span('op', node.op)}({','.join(_link(region.refs[i]) for i in node.inputs)})"]
            told = node.type if isinstance(node.type, Type) else None
            words += [escape(f"{k}=>{v}") for k, v in attributes(node.attrs, told).items()]
            if node.where.scope:
                words.append(_span("name", clean(node.where.scope)))
        return " ".join([*words, escape(types(node))])

    def _homes(self, region: Region, node: Node) -> str:
        """The buffers of a node's results; those of leaves are told by their names."""
        if node.op == "constant" or (is_leaf(node) and not region.title):
            return ""
        found = [self.homes.get(result(region.refs[node], node, i)) for i in range(len(node.types))]
        if all(home is None for home in found):
            return ""
        text = " ".join(self.buffers.name(home.array) if home else "[-]" for home in found)
        return f"  {_span('buffer', text)}"
