"""Gradients of scan and cond.

scan: the backward loop runs in the other direction. What it needs of the forward loop's inner values is
collected by one more scan over the same operands and body inputs, with extra stacks; the pass
``merge_scans`` then folds it into the original loop, so nothing is computed twice.

    forward body   c', y = f(c, x, w)
    backward body  gc, gx, gw = vjp f(c, x, w; gc', gy)     gc carried, gx stacked, gw summed

cond: the branches of the gradient recompute the forward branch from the operands.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphnet.compiler import build as b
from graphnet.compiler.autodiff import gradients, zeros_unless
from graphnet.compiler.ir import Graph, Node, is_leaf, leaf, substitute, toposort
from graphnet.compiler.ops.control import ScanParts, cond, parts, scan


def residuals(roots: Sequence[Node], forward: set[Node], known: set[Node]) -> list[Node]:
    """Forward nodes that the backward ``roots`` read directly and that are not in ``known``."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in known or (not node.inputs and not is_leaf(node)):
            continue
        if node in forward or _inner_loop_value(node, forward):
            found[node] = None
        else:
            stack.extend(reversed(node.inputs))
    return list(found)


def _inner_loop_value(node: Node, forward: set[Node]) -> bool:
    """True for what a nested loop stacked for its own gradient: saved, not run again."""
    return node.op == "get" and node.inputs[0].op == "scan" and all(i in forward for i in node.inputs[0].inputs)


def _fresh(nodes: Sequence[Node], role: str, depth: int) -> list[Node]:
    return [leaf(f"{role}{i}", role, n.out, n.where, depth) for i, n in enumerate(nodes)]


def scan_gradient(node: Node, arriving: Sequence[Node | None], needed: Sequence[bool]) -> list[Node | None]:
    """One gradient (or None) for each scan operand, from one cotangent (or None) for each result."""
    p = parts(node)
    depth = p.time.attrs["depth"] + 1
    carried = [i for i, c in enumerate(p.carries) if c.out.is_float]
    wanted_x = [i for i, x in enumerate(p.xs) if x.out.is_float and needed[len(p.carries) + i]]
    wanted_c = [i for i, c in enumerate(p.consts) if c.out.is_float and needed[len(p.carries) + len(p.xs) + i]]
    # seeds inside the body: carried cotangents, one stack entry or one whole sum gradient each
    first_stack, first_sum = len(p.carries), len(p.carries) + p.stacks
    fed = [i for i in range(first_stack, len(arriving)) if arriving[i] is not None]
    fed_stacks = [i for i in fed if i < first_sum]
    fed_sums = [i for i in fed if i >= first_sum]
    gc = _fresh([p.body_carries[i] for i in carried], "carry", depth)
    gy = _fresh([p.results[i] for i in fed_stacks], "x", depth)
    gs = _fresh([p.results[i] for i in fed_sums], "const", depth)
    seeds = [
        *((p.results[i], g) for i, g in zip(carried, gc, strict=True)),
        *((p.results[i], g) for i, g in zip(fed_stacks, gy, strict=True)),
        *((p.results[i], g) for i, g in zip(fed_sums, gs, strict=True)),
    ]
    wrt = [
        *(p.body_carries[i] for i in carried),
        *(p.body_xs[i] for i in wanted_x),
        *(p.body_consts[i] for i in wanted_c),
    ]
    inner = gradients(seeds, wrt)
    new_carries = [zeros_unless(g, w) for g, w in zip(inner, wrt, strict=True)][: len(carried)]
    rest = inner[len(carried) :]
    live_x = [i for i, g in zip(wanted_x, rest, strict=False) if g is not None]
    live_c = [i for i, g in zip(wanted_c, rest[len(wanted_x) :], strict=True) if g is not None]
    stacks = [g for g in rest[: len(wanted_x)] if g is not None]
    sums = [g for g in rest[len(wanted_x) :] if g is not None]

    backward = _backward_scan(
        node,
        depth,
        carries=(gc, [zeros_unless(arriving[i], p.carries[i]) for i in carried]),
        xs=(gy, [g for i in fed_stacks if (g := arriving[i]) is not None]),
        consts=(gs, [g for i in fed_sums if (g := arriving[i]) is not None]),
        results=(new_carries, stacks, sums),
    )
    leaving: list[Node | None] = [None] * len(node.inputs)
    targets = [
        *carried,
        *(len(p.carries) + i for i in live_x),
        *(len(p.carries) + len(p.xs) + i for i in live_c),
    ]
    for result, operand in enumerate(targets):
        leaving[operand] = b.item(backward, result)
    return leaving


Bound = tuple[list[Node], list[Node]]  # leaves of a body and the operands they stand for


def _backward_scan(
    node: Node, depth: int, carries: Bound, xs: Bound, consts: Bound, results: tuple[list[Node], ...]
) -> Node:
    """Close the backward body over the forward values it reads and make the reversed loop."""
    p = parts(node)
    roots = [n for group in results for n in group]
    own = {*carries[0], *xs[0], *consts[0]}
    forward = {*toposort(p.results), *p.body.inputs}
    read = residuals(roots, forward, own)
    consts_in, xs_in = set(p.body_consts), set(p.body_xs)
    saved = [n for n in read if n not in consts_in and n not in xs_in and n is not p.time]
    collector = _with_stacks(node, p, saved) if saved else node
    first = len(p.carries) + p.stacks
    mapping: dict[Node, Node] = {}
    for i, n in enumerate(read):
        if n is p.time:
            mapping[n] = leaf("time", "time", n.out, n.where, depth)
        elif n in consts_in:
            mapping[n] = leaf(f"kept{i}", "const", n.out, n.where, depth)
            consts[0].append(mapping[n])
            consts[1].append(p.consts[p.body_consts.index(n)])
        else:
            mapping[n] = leaf(f"saved{i}", "x", n.out, n.where, depth)
            xs[0].append(mapping[n])
            whole = p.xs[p.body_xs.index(n)] if n in xs_in else b.item(collector, first + saved.index(n))
            xs[1].append(whole)
    renamed = substitute(roots, mapping)
    new = tuple([renamed[n] for n in group] for group in results)
    time = leaf("time", "time", p.time.out, p.time.where, depth)
    inputs = (*carries[0], *xs[0], time, *consts[0])
    return scan(carries[1], xs[1], consts[1], inputs, (new[0], new[1], new[2]), p.length, not p.reverse, node.where)


def _with_stacks(node: Node, p: ScanParts, extra: Sequence[Node]) -> Node:
    """The same loop, stacking ``extra`` body values after its own stacks."""
    r, c, s = p.results, len(p.carries), p.stacks
    groups = (r[:c], (*r[c : c + s], *extra), r[c + s :])
    return scan(p.carries, p.xs, p.consts, p.body.inputs, groups, p.length, p.reverse, node.where)


def cond_gradient(node: Node, arriving: Sequence[Node | None], needed: Sequence[bool]) -> list[Node | None]:
    """One gradient (or None) for the predicate and each operand."""
    then, orelse = node.attrs["then"], node.attrs["orelse"]
    operands = node.inputs[1:]
    fed = [(i, g) for i, g in enumerate(arriving) if g is not None]
    wanted = [i for i, n in enumerate(operands) if n.out.is_float and needed[i + 1]]
    # below every leaf of the branches: those of a gradient hold seeds already
    depth = 1 + max((n.attrs["depth"] for n in then.inputs), default=0)
    seeds = [leaf(f"g{i}", "const", g.out, node.where, depth) for i, g in fed]
    graphs, found = [], []
    for branch in (then, orelse):
        results = [n for _, n in branch.outputs]
        wrt = [branch.inputs[i] for i in wanted]
        pairs = [(results[i], s) for (i, _), s in zip(fed, seeds, strict=True)]
        found.append(gradients(pairs, wrt))
        graphs.append((branch, wrt))
    live = [j for j in range(len(wanted)) if any(f[j] is not None for f in found)]
    if not live:
        return [None] * len(node.inputs)
    closed = [
        Graph(
            (*branch.inputs, *seeds),
            tuple((f"grad{j}", zeros_unless(f[j], wrt[j])) for j in live),
            name="body",
        )
        for (branch, wrt), f in zip(graphs, found, strict=True)
    ]
    backward = cond(node.inputs[0], closed[0], closed[1], (*operands, *(g for _, g in fed)), node.where)
    leaving: list[Node | None] = [None] * len(node.inputs)
    for result, j in enumerate(live):
        leaving[wanted[j] + 1] = b.item(backward, result)
    return leaving
