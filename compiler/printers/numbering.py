"""A number for every node: ``4`` in the graph itself, ``12.3`` in the body of node 12, ``12[1]`` for its second result.

Nodes that only take one result of another (``get``) have no number of their own, and neither have the leaves of
a fused body: both are written as what they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphnet.compiler.ir import Graph, Node, is_leaf
from graphnet.compiler.ops.control import BODIES, bodies, parts

TITLES = {"body": "body", "then": "then", "orelse": "else"}


@dataclass(frozen=True)
class Region:
    """One graph with a reference for each of its nodes.

    ``shown`` are the numbered nodes in order; ``bound`` says what a body's leaf stands for outside of it;
    ``loose`` are nodes that nothing in the graph uses.
    """

    graph: Graph
    title: str
    refs: Mapping[Node, str]
    shown: tuple[Node, ...]
    bound: Mapping[Node, str]
    loose: frozenset[Node]
    fused: bool = False


def _region(graph: Graph, title: str, prefix: str, start: int, outside: Mapping[Node, str], fused: bool) -> Region:
    needed = graph.nodes()
    leaves = graph.leaves()
    refs: dict[Node, str] = dict(outside) if fused else {}
    shown: list[Node] = []
    for node in dict.fromkeys((*graph.inputs, *needed, *leaves)):
        if node.op == "get":
            refs[node] = result(refs[node.inputs[0]], node.inputs[0], node.attrs["index"])
        elif node not in refs:
            refs[node] = f"{prefix}{start + len(shown)}"
            shown.append(node)
    return Region(graph, title, refs, tuple(shown), outside, frozenset(leaves) - frozenset(needed), fused)


def result(ref: str, node: Node, index: int) -> str:
    """How one result of node number ``ref`` is written."""
    return ref if len(node.types) == 1 else f"{ref}[{index}]"


def number(graph: Graph) -> Region:
    """The numbers of a whole graph: its inputs, then everything else with operands before users."""
    return _region(graph, "", "", 1, {}, fused=False)


def inner(region: Region, node: Node) -> list[Region]:
    """The numbered bodies of a node: one of a loop or a fused group, two of a branch."""
    found: list[Region] = []
    start = 1
    for name, body in zip(BODIES.get(node.op, ()), bodies(node), strict=True):
        outside = {leaf: region.refs[operand] for leaf, operand in bindings(node, body)}
        prefix = f"{region.refs[node]}."
        found.append(_region(body, TITLES[name], prefix, start, outside, node.op == "fused"))
        start += len(found[-1].shown)
    return found


def bindings(node: Node, body: Graph) -> list[tuple[Node, Node]]:
    """Pairs of a body's leaf and the operand outside that it stands for; a loop's counter has none."""
    if node.op == "cond":
        return list(zip(body.inputs, node.inputs[1:], strict=True))
    if node.op == "scan":
        p = parts(node)
        inputs = (*p.body_carries, *p.body_xs, *p.body_consts)
        return list(zip(inputs, node.inputs, strict=True))
    return list(zip(body.inputs, node.inputs, strict=True))


def is_bookkeeping(node: Node) -> bool:
    """True for nodes that compute nothing: leaves, constants and projections."""
    return is_leaf(node) or node.op in ("constant", "get")


def operations(graph: Graph) -> int:
    """How many nodes compute something, those of loops, branches and fused groups counted one by one."""
    total = 0
    for node in graph.nodes():
        held = bodies(node)
        if held:
            total += sum(map(operations, held))
        elif not is_bookkeeping(node):
            total += 1
    return total
