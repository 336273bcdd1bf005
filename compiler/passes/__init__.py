"""The pipeline: one tuple, read top to bottom."""

from graphnet.compiler.passes.exchange import exchange_gather
from graphnet.compiler.passes.fold import fold
from graphnet.compiler.passes.fuse import fuse
from graphnet.compiler.passes.loop_passes import hoist_loops, merge_loops, prune_loops, sink_loops
from graphnet.compiler.passes.one_hot import one_hot
from graphnet.compiler.passes.pipeline import Context, Pass, PassRun, check_order, run_passes
from graphnet.compiler.passes.simplify import drop_markers, simplify
from graphnet.compiler.passes.sink_gathers import sink_gathers
from graphnet.compiler.passes.training import differentiate, update


def _facts(*names: str) -> frozenset[str]:
    return frozenset(names)


#        name               function         needs                      establishes
PIPELINE = (
    Pass("simplify", simplify, _facts("graph"), _facts("simple")),
    Pass("hoist_loops", hoist_loops, _facts("simple"), _facts("hoisted")),
    Pass("exchange_gather", exchange_gather, _facts("simple"), _facts("exchanged")),
    Pass("differentiate", differentiate, _facts("graph"), _facts("gradients"), optional=False),
    Pass("update", update, _facts("gradients"), _facts("step"), optional=False),
    Pass("drop_markers", drop_markers, _facts("gradients"), _facts("unmarked"), optional=False),
    Pass("merge_loops", merge_loops, _facts("gradients"), _facts("merged")),
    Pass("simplify_step", simplify, _facts("step"), _facts("simple step")),
    Pass("hoist_step", hoist_loops, _facts("step"), _facts("hoisted step")),
    Pass("sink_loops", sink_loops, _facts("step"), _facts("sunk")),
    Pass("exchange_step", exchange_gather, _facts("step"), _facts("exchanged step")),
    Pass("fold", fold, _facts("unmarked"), _facts("folded")),
    Pass("one_hot", one_hot, _facts("folded"), _facts("compared")),
    Pass("sink_gathers", sink_gathers, _facts("exchanged step"), _facts("sunk gathers")),
    Pass("simplify_last", simplify, _facts("step"), _facts("simple last")),
    Pass("prune_loops", prune_loops, _facts("step"), _facts("pruned"), optional=False),
    Pass("fuse", fuse, _facts("unmarked"), _facts("fused")),
)
check_order(PIPELINE)

__all__ = ["PIPELINE", "Context", "Pass", "PassRun", "check_order", "run_passes"]
