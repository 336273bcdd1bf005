"""Reverse-mode differentiation as graph building: cotangents flow from results to leaves, one rule an op.

    z = mul(x, y)        gz, the gradient of the loss with respect to z, gives
                         gx = mul(gz, y)   and   gy = mul(gz, x)

The result is ordinary graph, so it can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphnet.compiler import build as b
from graphnet.compiler.ir import Node, toposort
from graphnet.compiler.record import NoGradient, lookup


def depends_on(nodes: Sequence[Node], sources: Sequence[Node]) -> set[Node]:
    """The members of the topological sequence ``nodes`` that depend on any of ``sources`` (or are one)."""
    found = set(sources)
    for node in nodes:
        if any(i in found for i in node.inputs):
            found.add(node)
    return found


class Cotangents:
    """Sums of the gradients that reached each node; for a node with several results, one each."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Node, int], Node] = {}

    def add(self, node: Node, gradient: Node, index: int = 0) -> None:
        old = self._sums.get((node, index))
        self._sums[node, index] = gradient if old is None else b.add(old, gradient)

    def of(self, node: Node, index: int = 0) -> Node | None:
        return self._sums.get((node, index))

    def all_of(self, node: Node) -> list[Node | None]:
        return [self.of(node, i) for i in range(len(node.types))]


def gradients(seeds: Sequence[tuple[Node, Node]], wrt: Sequence[Node]) -> list[Node | None]:
    """Gradients of sum(result * cotangent) over ``seeds`` pairs with respect to each node of ``wrt``.

    Returns one node of the same type each, or None where no result depends on it differentiably.
    """
    nodes = toposort([result for result, _ in seeds])
    needed = depends_on(nodes, wrt)
    cotangents = Cotangents()
    for result, seed in seeds:
        cotangents.add(result, seed)
    for node in reversed(nodes):
        if node in needed and node.inputs:
            with b.at(node.where):
                _propagate(node, needed, cotangents)
    return [cotangents.of(w) for w in wrt]


def _propagate(node: Node, needed: set[Node], cotangents: Cotangents) -> None:
    if node.op == "get":
        gradient = cotangents.of(node)
        if gradient is not None:
            cotangents.add(node.inputs[0], gradient, node.attrs["index"])
        return
    arriving = cotangents.all_of(node)
    if all(g is None for g in arriving):
        return
    if node.op in ("scan", "cond"):
        from graphnet.compiler import loops

        rule = loops.scan_gradient if node.op == "scan" else loops.cond_gradient
        leaving = rule(node, arriving, [i in needed for i in node.inputs])
    else:
        record = lookup(node.op)
        if isinstance(record.grad, NoGradient):
            return
        leaving = list(record.grad(arriving[0], node, *node.inputs))
    for operand, gradient in zip(node.inputs, leaving, strict=True):
        if gradient is not None and operand in needed and operand.out.is_float:
            cotangents.add(operand, b.cast(b.sum_to(gradient, operand.shape), operand.dtype))


def zeros_unless(gradient: Node | None, like: Node) -> Node:
    """``gradient``, or zeros where there is none."""
    return b.zeros_like(like) if gradient is None else gradient
