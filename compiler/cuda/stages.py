"""Which pieces of a plan run side by side: stages, each of which sees all that those before it wrote.

    s3  dw = h.T @ g          stage 0: s3, s4          (one kernel, or the time between two grid-wide barriers)
    s4  dh = g @ w.T     ->   stage 1: s5
    s5  w -= lr * dw

A piece goes to the first stage behind everything that touches the same bytes, if one of the two writes them. Bytes
are compared by address, so that memory which the plan gave to another value keeps its order too; inside a loop, those
of one iteration, as all blocks meet at its end. Loops, branches and products of the library have stages of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphnet.compiler.cuda.source import Gemm
from graphnet.compiler.cuda.steps import ALL_FAILING, Function
from graphnet.compiler.schedule import Branch, Loop
from graphnet.compiler.text.hazards import Access

MANY_UNITS = 1024
"""Units from which a phase fills the machine by itself: two such phases gain nothing from one kernel."""


@dataclass(frozen=True, eq=False)
class LoopOf:
    loop: Loop
    body: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class BranchOf:
    """``predicate`` is the C expression of what decides; ``reads`` its memory."""

    branch: Branch
    predicate: str
    reads: tuple[Access, ...]
    sides: tuple[tuple[Node, ...], tuple[Node, ...]]


@dataclass(frozen=True, eq=False)
class Library:
    """A product of the library and what it touches."""

    gemm: Gemm
    accesses: tuple[Access, ...]


Node = Function | LoopOf | BranchOf | Library


def accesses(node: Node) -> Iterator[Access]:
    """Everything a node touches."""
    if isinstance(node, Function):
        yield from node.piece.accesses
        if node.writes_home:
            yield ALL_FAILING
    elif isinstance(node, Library):
        yield from node.accesses
    else:
        bodies = [node.body] if isinstance(node, LoopOf) else node.sides
        if isinstance(node, BranchOf):
            yield from node.reads
        for body in bodies:
            for inner in body:
                yield from accesses(inner)


def stages(nodes: Sequence[Node], apart: bool = False) -> list[tuple[Node, ...]]:
    """The nodes stage by stage; with ``apart`` every node has its own, in the order given."""
    if apart:
        return [(n,) for n in nodes]
    found: list[list[Node]] = []
    touched: list[_Memory] = []
    for node in nodes:
        all_of_them = accesses(node) if isinstance(node, Function) else (a.always for a in accesses(node))
        mine = tuple(dict.fromkeys(all_of_them))
        at = next((i + 1 for i in reversed(range(len(found))) if touched[i].meets(mine)), 0)
        while at < len(found) and not _together(found[at], node):
            at += 1
        if at == len(found):
            found.append([])
            touched.append(_Memory())
        # what stays on chip is that of the units from 0 on
        found[at].insert(0 if isinstance(node, Function) and node.resident else len(found[at]), node)
        touched[at].add(mine)
    return [tuple(stage) for stage in found]


class _Memory:
    """What the nodes of a stage touch, by space."""

    def __init__(self) -> None:
        self._spaces: dict[int, list[Access]] = {}

    def add(self, found: Sequence[Access]) -> None:
        for a in found:
            self._spaces.setdefault(a.space, []).append(a)

    def meets(self, others: Sequence[Access]) -> bool:
        return any(a.meets_now(o) for o in others for a in self._spaces.get(o.space, ()))


def _together(stage: Sequence[Node], node: Node) -> bool:
    if not isinstance(node, Function):
        return False
    functions = [n for n in stage if isinstance(n, Function)]
    large = node.units >= MANY_UNITS and any(f.units >= MANY_UNITS for f in functions)
    return len(functions) == len(stage) and not large and not (node.resident and any(f.resident for f in functions))
