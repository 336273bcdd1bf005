"""Elementwise fusion: connected elementwise ops of one shape become one node with a body.

    t = mul(x, y)                      u = fused(x, y, z) { t = mul(x, y); u = add(t, z) }
    u = add(t, z)              ->

A group is run block by block, so its inner values stay in cache and need no memory of their own. Two groups
are joined only if no value leaves the one and comes back through something outside it (that would be a cycle).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Graph, Node, leaf, make, rebuild, rewrite, users
from graphnet.compiler.order import is_phased, phase_of
from graphnet.compiler.passes.pipeline import Context
from graphnet.compiler.passes.simplify import in_bodies
from graphnet.compiler.record import REGISTRY


class _Groups:
    """Groups of nodes and the dependencies between them; every node starts as a group of its own.

    ``_top`` of a group is no lower than that of any group it depends on, so a search can leave out what is
    lower than its goal. It starts as the place in the order and rises where a group gets a higher operand.
    """

    def __init__(self, nodes: Sequence[Node], reads: Mapping[Node, Sequence[Node]]) -> None:
        self.of: dict[Node, int] = {n: i for i, n in enumerate(nodes)}
        self.members: dict[int, list[Node]] = {i: [n] for i, n in enumerate(nodes)}
        self._reads = reads
        self._top = list(range(len(nodes)))

    def _before(self, group: int) -> set[int]:
        return {self.of[i] for n in self.members[group] for i in n.inputs} - {group}

    def _path(self, start: Iterable[int], goal: int) -> bool:
        """Whether a group of ``start`` is or depends on ``goal``."""
        seen: set[int] = set()
        work = list(start)
        while work:
            g = work.pop()
            if g == goal:
                return True
            if g not in seen and self._top[g] >= self._top[goal]:
                seen.add(g)
                work.extend(self._before(g))
        return False

    def join(self, a: int, c: int) -> bool:
        """Merge group ``c`` into ``a`` unless that makes a cycle."""
        if a == c:
            return True
        below = self._before(c) - {a}
        if self._path(below, a) or self._path(self._before(a) - {c}, c):
            return False
        for n in self.members[c]:
            self.of[n] = a
        self.members[a] += self.members.pop(c)
        top = max((self._top[g] for g in below), default=0)
        top, self._top[a] = max(top, self._top[a]), -1
        self._raise(a, top)
        return True

    def _raise(self, group: int, top: int) -> None:
        """Lift a group and all that depends on it to ``top``."""
        work = [group]
        while work:
            g = work.pop()
            if self._top[g] < top:
                self._top[g] = top
                work.extend({self.of[u] for n in self.members[g] for u in self._reads[n]})


def is_fusible(node: Node) -> bool:
    return node.op in REGISTRY and REGISTRY[node.op].kind == "elementwise"


def fuse(graph: Graph, context: Context) -> Graph:
    """Replace groups of two or more elementwise nodes by fused nodes, also inside bodies."""

    def inside(old: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(old, inputs)
        return node if node.op == "fused" else in_bodies(node, lambda g: fuse(g, context))

    graph = rewrite(graph, inside)
    nodes = graph.nodes()
    reads = users(nodes)
    groups = _Groups(nodes, reads)
    # phases that are called apart must not share a step: the target arrives between them
    phase = phase_of(graph) if is_phased(graph) else dict.fromkeys(nodes, "")
    for node in nodes:
        if is_fusible(node):
            for i in dict.fromkeys(node.inputs):
                if is_fusible(i) and i.shape == node.shape and phase[i] == phase[node]:
                    groups.join(groups.of[i], groups.of[node])
    kept = set(graph.roots())
    position = {n: i for i, n in enumerate(nodes)}
    mapping: dict[Node, Node] = {}
    for members in groups.members.values():
        if len(members) > 1:
            _close(sorted(members, key=position.__getitem__), reads, kept, mapping)
    return _apply(graph, mapping)


def _close(members: list[Node], reads: dict[Node, list[Node]], kept: set[Node], mapping: dict[Node, Node]) -> None:
    """Make the fused node of a group, operands first; ``mapping`` takes its results to the new node."""
    own = set(members)
    inputs = list(dict.fromkeys(i for n in members for i in n.inputs if i not in own))
    results = [n for n in members if n in kept or any(u not in own for u in reads[n])]
    leaves = {n: leaf(f"in{i}", "const", n.out, n.where, -1) for i, n in enumerate(inputs)}
    renamed = dict(leaves)
    for n in members:
        renamed[n] = rebuild(n, [renamed[i] for i in n.inputs])
    body = Graph(tuple(leaves.values()), tuple((f"out{i}", renamed[n]) for i, n in enumerate(results)), name="body")
    types = tuple(n.out for n in results)
    fused = make("fused", inputs, {"body": body}, types, results[-1].where)
    for i, n in enumerate(results):
        mapping[n] = make("get", (fused,), {"index": i}, n.out, n.where)


def _apply(graph: Graph, mapping: dict[Node, Node]) -> Graph:
    """Rebuild the graph over fused nodes, whose operands may be results of other groups."""
    done: dict[Node, Node] = {}
    opened: set[Node] = set()

    def new(node: Node) -> Node:
        work = [node]
        while work:
            n = work[-1]
            if n in done:
                work.pop()
                continue
            source = mapping.get(n, n)
            parents = source.inputs[0].inputs if n in mapping else n.inputs
            waiting = [p for p in parents if p not in done]
            if waiting and n in opened:
                raise CompileError(f"{n.where}: fuse: the group of {n!r} depends on itself")
            if waiting:
                opened.add(n)
                work.extend(waiting)
                continue
            inputs = [done[p] for p in parents]
            done[n] = rebuild(source, [rebuild(source.inputs[0], inputs)]) if n in mapping else rebuild(n, inputs)
            work.pop()
        return done[node]

    for root in graph.roots():
        new(root)
    return graph.map(done)
