"""The driver: runs the passes of one tuple in order, and it, not the passes, verifies, times and prints.

Each pass is a function ``(Graph, Context) -> Graph``. ``Context`` carries what the user asked for and takes
the reasons of passes that declined to do something (``net.explain()`` shows them).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Graph, Node
from graphnet.compiler.target import NUMPY, Target

BuildUpdates = Callable[[Graph], Graph]


@dataclass
class Context:
    """What a compilation is asked for, and what its passes report.

    ``update`` adds the optimiser to a graph with gradients; ``keep_gradients`` leaves ``grad/<param>``
    outputs in the graph. ``disabled`` names optional passes to leave out (tests compare with and without).
    ``target`` is the backend to lower for.
    """

    update: BuildUpdates | None = None
    keep_gradients: bool = False
    differentiate: bool = False
    verify: bool = False
    debug: int = 0
    disabled: frozenset[str] = frozenset()
    target: Target = NUMPY
    declined: list[str] = field(default_factory=list)
    trail: list[PassRun] = field(default_factory=list)

    def decline(self, name: str, node: Node, why: str) -> None:
        """Record that a pass left ``node`` alone, and why."""
        line = f"{name}: {node.where}: {node.op}: {why}"
        if line not in self.declined:
            self.declined.append(line)


@dataclass(frozen=True)
class Pass:
    """A pass and its contract: the facts it needs established before it and those it establishes."""

    name: str
    run: Callable[[Graph, Context], Graph]
    needs: frozenset[str]
    establishes: frozenset[str]
    optional: bool = True


@dataclass(frozen=True)
class PassRun:
    """One pass as it ran: seconds, and node counts before and after (nested graphs included).

    ``kept`` says that it ran in an earlier compilation, whose plan was used again.
    """

    name: str
    seconds: float
    before: int
    after: int
    kept: bool = False


def count_nodes(graph: Graph) -> int:
    """Nodes of a graph and of the graphs its nodes hold."""
    from graphnet.compiler.ops.control import BODIES, bodies

    nodes = graph.nodes()
    return len(nodes) + sum(count_nodes(g) for n in nodes if n.op in BODIES for g in bodies(n))


def check_order(passes: Sequence[Pass]) -> None:
    """Raise CompileError unless every pass finds what it needs established by an earlier one."""
    established = {"graph"}
    for p in passes:
        missing = p.needs - established
        if missing:
            raise CompileError(f"pass {p.name!r} needs {', '.join(sorted(missing))} established before it")
        established |= p.establishes


def run_passes(graph: Graph, passes: Sequence[Pass], context: Context) -> Graph:
    """Run ``passes`` over ``graph``; verifies after each one if the context asks for it."""
    from graphnet.compiler.verify import verify

    count = count_nodes(graph)
    for p in passes:
        if p.optional and p.name in context.disabled:
            continue
        before = count
        start = time.perf_counter()
        graph = p.run(graph, context)
        seconds = time.perf_counter() - start
        count = count_nodes(graph)
        run = PassRun(p.name, seconds, before, count)
        context.trail.append(run)
        if context.verify or context.debug >= 2:
            verify(graph, f"after pass {p.name!r}")
        if context.debug >= 1:
            _report(run, graph, context.debug)
    return graph


def _report(run: PassRun, graph: Graph, debug: int) -> None:
    print(f"{run.name:16} {run.seconds * 1e3:8.2f} ms  {run.before:5} -> {run.after} nodes", file=sys.stderr)
    if debug >= 4:
        from graphnet.compiler.printers.listing import graph_listing

        print(graph_listing(graph), file=sys.stderr)
