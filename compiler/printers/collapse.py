"""Graphs folded to the calls of model functions: the nodes of one call in one phase become a group.

conv2d, add, w, b of lenet/conv2d_1      ->      lenet/conv2d_1(1)  [2 ops, 520 parameters]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphnet.compiler.ir import Graph, Node, is_leaf, users
from graphnet.compiler.ops.control import bodies
from graphnet.compiler.order import PHASES, phase_of, step_of
from graphnet.compiler.printers.numbering import is_bookkeeping, number, operations

_Key = tuple[str, str]
_OWNED = ("param", "state")
_FOLLOWS = ("param", "state", "slot")


@dataclass(frozen=True)
class Group:
    """Nodes shown as one line: a call of a model function in one phase, or a node alone (no scope)."""

    scope: str
    phase: str
    nodes: tuple[Node, ...]

    @property
    def ops(self) -> int:
        """Nodes that compute something, inside loops and fused groups too."""
        return sum(sum(map(operations, bodies(n))) if bodies(n) else not is_bookkeeping(n) for n in self.nodes)

    @property
    def parameters(self) -> int:
        """Numbers in the parameters that belong to the call."""
        return sum(n.out.size for n in self.nodes if is_leaf(n) and n.attrs["role"] == "param")

    def reads(self) -> list[Node]:
        """Values from outside, without repeats."""
        own = set(self.nodes)
        return list(dict.fromkeys(i for n in self.nodes for i in n.inputs if i not in own))

    def gives(self, reads: Mapping[Node, list[Node]], kept: set[Node]) -> list[Node]:
        """Values that something outside reads, or that are results of the graph."""
        own = set(self.nodes)
        return [
            n
            for n in self.nodes
            if not isinstance(n.type, tuple) and not is_leaf(n) and n.op != "constant"
            if n in kept or any(user not in own for user in reads.get(n, ()))
        ]


def call_of(node: Node, depth: int) -> str:
    """The call ``depth`` levels below the model that a node was built in, or nothing if it is less deep.

    What the optimiser adds counts as one call beside the model's.
    """
    parts = node.where.scope.split("/")
    if depth == 1 and parts[0] == "optimizer":
        return parts[0]
    return "/".join(parts[: depth + 1]) if len(parts) > depth and parts[0] else ""


def groups(graph: Graph, depth: int) -> list[Group]:
    """The lines of a folded graph by phase, operands before users where calls do not interleave."""
    reads, phase = users(graph.nodes()), phase_of(graph)
    nodes = [*number(graph).shown, *(n for n in reads if n.op == "get")]
    key = _keys(depth, nodes, reads, phase)
    members: dict[_Key | Node, list[Node]] = {}
    for node in nodes:
        found = key.get(node)
        members.setdefault(found if found and found[0] else step_of(node), []).append(node)
    rank = {n: i for i, n in enumerate(nodes)}
    made = [
        Group(*(k if isinstance(k, tuple) else ("", phase.get(k, PHASES[0]))), tuple(m)) for k, m in members.items()
    ]
    return sorted(made, key=lambda g: (PHASES.index(g.phase), _middle(g, rank)))


def _middle(group: Group, rank: Mapping[Node, int]) -> int:
    """The number in the middle of a call's ops, so that a few early or late ones do not move its line."""
    ranks = sorted(rank[n] for n in group.nodes if not is_bookkeeping(n))
    return ranks[len(ranks) // 2] if ranks else min(rank[n] for n in group.nodes)


def _keys(
    depth: int, nodes: Sequence[Node], reads: Mapping[Node, list[Node]], phase: Mapping[Node, str]
) -> dict[Node, _Key]:
    """Call and phase of the nodes that have one; parameters, slots and constants go with those that read them."""
    key: dict[Node, _Key] = {}
    for node in nodes:
        if not is_bookkeeping(node):
            key[node] = (call_of(node, depth), phase[node])
    first = {call: (call, p) for call, p in reversed(list(key.values()))}
    for node in nodes:
        if node.op == "get":
            key[node] = key[step_of(node)]
        elif is_leaf(node) and node.attrs["role"] in _OWNED and call_of(node, depth) in first:
            key[node] = first[call_of(node, depth)]
        elif node.op == "constant" or (is_leaf(node) and node.attrs["role"] in _FOLLOWS):
            reader = next((step_of(u) for u in reads.get(node, ()) if step_of(u) in key), None)
            key[node] = key[reader] if reader else ("", "")
    return key
