"""Loops and branches: nodes that hold graphs and have several results.

scan   inputs  carries.. xs.. consts..           body inputs   carries.. xs.. time consts..
       results carries.. stacks.. sums..         body outputs  carries.. stacks.. sums..
       An x is read one leading-axis entry an iteration, a stack collects one, a sum adds up over iterations.
cond   inputs  predicate operands..              both bodies   operands..
       results the outputs of the chosen body

Bodies see nothing but their inputs. Gradients of these live in ``graphnet.compiler.loops``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Graph, Node, Type, Where, make


@dataclass(frozen=True)
class ScanParts:
    """A scan's operands and body taken apart by role."""

    body: Graph
    length: int
    reverse: bool
    carries: tuple[Node, ...]
    xs: tuple[Node, ...]
    consts: tuple[Node, ...]
    stacks: int
    sums: int

    @property
    def body_carries(self) -> tuple[Node, ...]:
        return self.body.inputs[: len(self.carries)]

    @property
    def body_xs(self) -> tuple[Node, ...]:
        return self.body.inputs[len(self.carries) : len(self.carries) + len(self.xs)]

    @property
    def time(self) -> Node:
        return self.body.inputs[len(self.carries) + len(self.xs)]

    @property
    def body_consts(self) -> tuple[Node, ...]:
        return self.body.inputs[len(self.carries) + len(self.xs) + 1 :]

    @property
    def results(self) -> tuple[Node, ...]:
        """Body outputs in order: carries, stacks, sums."""
        return tuple(node for _, node in self.body.outputs)


def parts(node: Node) -> ScanParts:
    """Take a scan node apart."""
    a = node.attrs
    c, x = a["carries"], a["xs"]
    return ScanParts(
        a["body"],
        a["length"],
        a["reverse"],
        node.inputs[:c],
        node.inputs[c : c + x],
        node.inputs[c + x :],
        a["stacks"],
        a["sums"],
    )


def scan(
    carries: Sequence[Node],
    xs: Sequence[Node],
    consts: Sequence[Node],
    inputs: Sequence[Node],
    results: tuple[Sequence[Node], Sequence[Node], Sequence[Node]],
    length: int,
    reverse: bool,
    where: Where,
) -> Node:
    """A scan node from operands, the body's inputs (carries, xs, time, consts) and (carries, stacks, sums)."""
    new, stacks, sums = results
    for old, value in zip(carries, new, strict=True):
        if old.type != value.type:
            raise CompileError(f"{where}: scan: a carry changes from {old.out} to {value.out}")
    named = [
        *((f"carry{i}", n) for i, n in enumerate(new)),
        *((f"stack{i}", n) for i, n in enumerate(stacks)),
        *((f"sum{i}", n) for i, n in enumerate(sums)),
    ]
    types = (
        *(n.out for n in new),
        *(Type((length, *n.shape), n.dtype) for n in stacks),
        *(n.out for n in sums),
    )
    attrs = {
        "body": Graph(tuple(inputs), tuple(named), name="body"),
        "length": length,
        "reverse": reverse,
        "carries": len(carries),
        "xs": len(xs),
        "stacks": len(stacks),
        "sums": len(sums),
    }
    return make("scan", (*carries, *xs, *consts), attrs, types, where)


def cond(predicate: Node, then: Graph, orelse: Graph, operands: Sequence[Node], where: Where) -> Node:
    """A cond node; both graphs take ``operands`` and give results of the same types."""
    types = tuple(n.out for _, n in then.outputs)
    if types != tuple(n.out for _, n in orelse.outputs):
        other = ", ".join(str(n.out) for _, n in orelse.outputs)
        raise CompileError(f"{where}: cond: branches differ: {', '.join(map(str, types))} and {other}")
    return make("cond", (predicate, *operands), {"then": then, "orelse": orelse}, types, where)


BODIES = {"scan": ("body",), "cond": ("then", "orelse"), "fused": ("body",)}


def bodies(node: Node) -> tuple[Graph, ...]:
    """The graphs a node holds."""
    return tuple(node.attrs[name] for name in BODIES.get(node.op, ()))
