"""The recipe: graph -> passes -> lowering -> plan.

What comes behind the optimiser's pass depends on the whole step's graph alone, and its plan is kept (``kept``).
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Graph, reintern, session
from graphnet.compiler.kept import Made, recall
from graphnet.compiler.lower import lower
from graphnet.compiler.passes import PIPELINE, Context, run_passes
from graphnet.compiler.schedule import Plan

WHOLE = 1 + [p.name for p in PIPELINE].index("update")
"""How many passes it takes to the graph of the whole step: they call the optimiser, which may be the user's."""


def debug_level() -> int:
    """GRAPHNET_DEBUG: 1 passes with times, 2 also verifies, 3 also the plan, 4 also graphs and kernels."""
    value = os.environ.get("GRAPHNET_DEBUG", "") or "0"
    if value not in ("0", "1", "2", "3", "4"):
        raise CompileError(f"GRAPHNET_DEBUG must be a number from 0 to 4, got {value!r}")
    return int(value)


def checking() -> bool:
    """GRAPHNET_CHECK=1: every step looks for NaN and infinities; ops are not fused, so that one can be named."""
    return os.environ.get("GRAPHNET_CHECK", "0") not in ("", "0")


def compile_graph(graph: Graph, context: Context, reuse: bool = True) -> Plan:
    """Run the pipeline over ``graph``, lower it and plan its memory."""
    context.debug = max(context.debug, debug_level())
    context.verify = context.verify or os.environ.get("GRAPHNET_VERIFY") == "1"
    if checking():
        context.disabled |= {"fuse"}  # one op a step, so that the check can name the op and its line
    if context.debug:
        shapes = ", ".join(str(n.out) for n in graph.inputs)
        print(f"compile {graph.name}({shapes})", file=sys.stderr)
    with session():
        whole = run_passes(reintern(graph), PIPELINE[:WHOLE], context)
    ordinary = reuse and not (context.debug or context.verify or context.disabled)
    if ordinary and context.target.identity:
        made = recall(whole, context.target, lambda: _finish(whole, context, reuse))
    else:
        made = _finish(whole, context, reuse)
    context.trail += made.trail
    context.declined += [line for line in made.declined if line not in context.declined]
    plan = made.plan
    if context.debug >= 3:
        from graphnet.compiler.printers import memory, schedule

        print(memory.table(plan), file=sys.stderr)
        if context.debug >= 4:
            print(schedule.listing(plan), file=sys.stderr)
    return plan


def _finish(whole: Graph, context: Context, reuse: bool) -> Made:
    """The plan of a whole step, made in a session of its own: nothing else that was built leaves a mark on it."""
    own = replace(context, trail=[], declined=[])
    with session():
        plan = lower(run_passes(reintern(whole), PIPELINE[WHOLE:], own), reuse, context.target)
    return Made(plan, tuple(own.trail), tuple(own.declined))
