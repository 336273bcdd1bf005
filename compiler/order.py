"""The order of a schedule: operands first, forward before backward before update, readers before overwriters.

A new value of a parameter is written straight into the parameter's memory when every reader of the old value
can run before it. ``order`` decides for which updates that holds and puts those readers first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from graphnet.compiler.autodiff import depends_on
from graphnet.compiler.ir import Graph, Node, is_leaf, toposort, users
from graphnet.compiler.record import REGISTRY

PHASES = ("forward", "backward", "update")


@dataclass(frozen=True)
class Order:
    """Nodes in execution order with the phase of each, and the updates that are written in place."""

    nodes: tuple[Node, ...]
    phase: Mapping[Node, str]
    direct: Mapping[Node, Node]


def is_view(node: Node) -> bool:
    return node.op == "get" or (node.op in REGISTRY and REGISTRY[node.op].kind == "view")


def producible(node: Node) -> bool:
    """True if a step can write this node's value wherever it is told to."""
    if is_leaf(node) or node.op == "constant":
        return False
    return node.inputs[0].op == "fused" if node.op == "get" else not is_view(node)


def step_of(node: Node) -> Node:
    """The node whose step computes ``node``: itself, or the several-result node it is taken from."""
    return node.inputs[0] if node.op == "get" else node


def is_phased(graph: Graph) -> bool:
    """True if the three phases are run apart: gradients are results then."""
    return any(name.startswith("grad/") for name, _ in graph.outputs)


def phase_of(graph: Graph) -> dict[Node, str]:
    """The phase each node belongs to.

    Run apart, forward gives the outputs, backward loss and gradients. In a whole step the loss is forward,
    what reads optimiser state or hyperparameters is update, and what lies between is backward.
    """
    nodes = graph.nodes()
    if not is_phased(graph):
        forward = set(toposort([n for _, n in graph.outputs]))
        optimiser = [n for n in nodes if is_leaf(n) and n.attrs["role"] in ("slot", "hyper")]
        late = depends_on(nodes, optimiser)
        return {n: "forward" if n in forward else "update" if n in late else "backward" for n in nodes}
    found: dict[Node, str] = {}
    groups: dict[str, list[Node]] = {p: [] for p in PHASES}
    for name, node in graph.outputs:
        groups["backward" if name == "loss" or name.startswith("grad/") else "forward"].append(node)
    groups["update"] = [value for _, value in graph.updates]
    for phase in PHASES:
        for node in toposort(groups[phase]):
            found.setdefault(node, phase)
    return found


def _readers(home: Node, reads: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """Nodes whose steps read the memory of ``home``, through views too."""
    found: dict[Node, None] = {}
    work = [home]
    while work:
        for user in reads.get(work.pop(), ()):
            if is_view(user):
                work.append(user)
            else:
                found[user] = None
    return list(found)


def _aliased_homes(graph: Graph) -> set[Node]:
    """Homes whose memory a result or an update's value is a view of: they must not be written early."""
    found = set()
    for node in graph.roots():
        while is_view(node) and node.op != "get":
            node = node.inputs[0]
        if is_leaf(node):
            found.add(node)
    return found


def order(graph: Graph) -> Order:
    """Topological order with the constraints of in-place updates; depth first within a phase."""
    nodes = graph.nodes()
    phase = phase_of(graph)
    dag = nx.DiGraph()
    dag.add_nodes_from(nodes)
    dag.add_edges_from((i, n) for n in nodes for i in n.inputs)
    reads = users(nodes)
    aliased = _aliased_homes(graph)
    apart = is_phased(graph)
    direct: dict[Node, Node] = {}
    for home, value in graph.updates:
        maker = step_of(value)
        taken = value in direct.values() or any(value is o for _, o in graph.outputs)
        if taken or home in aliased or not _writes_in_place(maker):
            continue
        before = [r for r in _readers(home, reads) if r is not maker]
        if apart and any(PHASES.index(phase[r]) > PHASES.index(phase[maker]) for r in before):
            continue
        if any(nx.has_path(dag, maker, r) for r in before):
            continue
        dag.add_edges_from((r, maker) for r in before)
        direct[home] = value
    rank = {n: (PHASES.index(phase[n]) if apart else 0, i) for i, n in enumerate(nodes)}
    sequence = tuple(nx.lexicographical_topological_sort(dag, key=rank.__getitem__))
    return Order(sequence, phase, direct)


def _writes_in_place(node: Node) -> bool:
    if node.op == "fused":
        return True
    record = REGISTRY.get(node.op)
    return record is not None and record.kind == "elementwise" and record.in_place
