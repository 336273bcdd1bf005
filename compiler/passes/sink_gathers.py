"""Rows of a table are gathered where a loop uses them, for compiled backends.

    scan over take(E, ids)     ->     scan over ids, with take(E, ids_t) inside

The gathered rows of all iterations are never in memory: of an LSTM over 12,800 looked-up rows that is 52 MB that
are neither written nor read again. NumPy gathers once in front of the loop instead, one call being cheaper
than many.
"""

from __future__ import annotations

from graphnet.compiler import build as b
from graphnet.compiler.ir import Graph, Node, Type, substitute
from graphnet.compiler.ops.control import parts, scan
from graphnet.compiler.passes.loop_passes import fresh_leaf, rewrite_scans
from graphnet.compiler.passes.pipeline import Context


def sink_gathers(graph: Graph, context: Context) -> Graph:
    """Move gathers of loop operands into the loop, where the backend compiles loops and its steps wait for nobody."""
    target = context.target
    return rewrite_scans(graph, context, _sink) if target.compiled and not target.waits else graph


def _is_gather(x: Node) -> bool:
    """A gather of rows from a table that is smaller than what is gathered."""
    return x.op == "take" and x.inputs[0].ndim == 2 and x.inputs[1].ndim >= 1 and x.inputs[0].out.size < x.out.size


def _sink(node: Node, context: Context) -> list[Node] | None:
    p = parts(node)
    found = {leaf: x for leaf, x in zip(p.body_xs, p.xs, strict=True) if _is_gather(x)}
    if not found:
        return None
    depth = p.time.attrs["depth"]
    taken = {str(i.attrs["name"]) for i in p.body.inputs}
    inside: dict[Node, Node] = {}
    xs, body_xs, consts, body_consts = [], [], list(p.consts), list(p.body_consts)
    for leaf, x in zip(p.body_xs, p.xs, strict=True):
        if leaf not in found:
            xs.append(x)
            body_xs.append(leaf)
            continue
        table, ids = x.inputs
        own = fresh_leaf(f"ids{len(inside)}", "x", Type(ids.shape[1:], ids.dtype), x, depth, taken)
        rows = fresh_leaf(f"table{len(inside)}", "const", table.out, x, depth, taken)
        with b.at(x.where):
            inside[leaf] = b.apply("take", rows, own)
        xs.append(ids)
        body_xs.append(own)
        consts.append(table)
        body_consts.append(rows)
    renamed = substitute(p.results, inside)
    results = [renamed[r] for r in p.results]
    c, s = len(p.carries), p.stacks
    new = scan(
        p.carries,
        xs,
        consts,
        (*p.body_carries, *body_xs, p.time, *body_consts),
        (results[:c], results[c : c + s], results[c + s :]),
        p.length,
        p.reverse,
        node.where,
    )
    return [b.item(new, i) for i in range(len(results))]
