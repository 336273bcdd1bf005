"""Passes on loops: merge equal ones, move work out in front of them and behind them, drop what nobody reads.

merge_loops   two scans over the same operands and body inputs -> one scan with the union of results
hoist_loops   x_t @ w + b inside           ->  (xs as one matrix) @ w + b before the loop
sink_loops    y_t = h_t @ w inside         ->  stack h_t, one product after the loop
              dw += h_t' @ g_t inside      ->  stack both, one product over all iterations
prune_loops   results, operands and carries without readers disappear

Exists because a product over all time steps at once runs at the speed of a large matrix product, while the
loop's own small ones do not, and because an iteration should hold only what depends on the carry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphnet.compiler import build as b
from graphnet.compiler.autodiff import depends_on
from graphnet.compiler.ir import Graph, Node, Type, is_leaf, leaf, rebuild, rewrite, substitute, toposort
from graphnet.compiler.ops.control import ScanParts, parts, scan
from graphnet.compiler.passes.pipeline import Context
from graphnet.compiler.passes.simplify import in_bodies
from graphnet.compiler.record import REGISTRY

HEAVY = ("matmul", "conv2d", "conv2d_input", "conv2d_weight", "take", "scatter_add", "random_uniform")


def rewrite_scans(graph: Graph, context: Context, one: Callable[[Node, Context], list[Node] | None]) -> Graph:
    """Replace each scan by what ``one`` returns (its results in order), innermost loops first."""
    results: dict[Node, list[Node]] = {}

    def visit(old: Node, inputs: tuple[Node, ...]) -> Node:
        node = in_bodies(rebuild(old, inputs), lambda g: rewrite_scans(g, context, one))
        if node.op == "scan":
            with b.at(node.where):
                found = one(node, context)
            if found is not None:
                results[node] = found
        if node.op == "get" and node.inputs[0] in results:
            index: int = node.attrs["index"]
            return results[node.inputs[0]][index]
        return node

    return rewrite(graph, visit)


def merge_loops(graph: Graph, context: Context) -> Graph:
    """One scan for all scans that differ in collected results only."""
    groups: dict[tuple[object, ...], list[Node]] = {}
    for node in graph.nodes():
        if node.op == "scan":
            p = parts(node)
            key = (node.inputs, p.body.inputs, p.results[: len(p.carries)], p.length, p.reverse)
            groups.setdefault(key, []).append(node)
    plans = {node: _Union(same) for same in groups.values() for node in same if len(same) > 1}

    def visit(old: Node, inputs: tuple[Node, ...]) -> Node:
        if old.op == "get" and old.inputs[0] in plans:
            union = plans[old.inputs[0]]
            return b.item(inputs[0], union.index(old.inputs[0], old.attrs["index"]))
        if old in plans:
            return plans[old].scan(inputs)
        return in_bodies(rebuild(old, inputs), lambda g: merge_loops(g, context))

    return rewrite(graph, visit)


class _Union:
    """The results of several equal loops, each collected once."""

    def __init__(self, same: Sequence[Node]) -> None:
        self._node = same[0]
        p = parts(same[0])
        self._carries = len(p.carries)
        stacks: dict[Node, None] = {}
        sums: dict[Node, None] = {}
        for node in same:
            q = parts(node)
            stacks.update(dict.fromkeys(q.results[self._carries : self._carries + q.stacks]))
            sums.update(dict.fromkeys(q.results[self._carries + q.stacks :]))
        self._stacks, self._sums = list(stacks), list(sums)

    def scan(self, inputs: Sequence[Node]) -> Node:
        p = parts(self._node)
        c, x = len(p.carries), len(p.xs)
        groups = (p.results[:c], self._stacks, self._sums)
        operands = (inputs[:c], inputs[c : c + x], inputs[c + x :])
        return scan(*operands, p.body.inputs, groups, p.length, p.reverse, self._node.where)

    def index(self, node: Node, index: int) -> int:
        """Where result ``index`` of ``node`` is among the union's results."""
        p, c = parts(node), self._carries
        if index < c:
            return index
        if index < c + p.stacks:
            return c + self._stacks.index(p.results[index])
        return c + len(self._stacks) + self._sums.index(p.results[index])


def hoist_loops(graph: Graph, context: Context) -> Graph:
    """Move heavy work that does not depend on the carry in front of the loop."""
    return rewrite_scans(graph, context, _hoist)


def _hoist(node: Node, context: Context) -> list[Node] | None:
    p = parts(node)
    nodes = toposort(p.results)
    bound = depends_on(nodes, p.body_carries)
    varying = depends_on(nodes, [*p.body_xs, p.time])
    fixed = depends_on(nodes, p.body_consts) - varying - bound
    lift = _Lift(p, can=lambda n: n not in bound)
    frontier: dict[Node, None] = {}
    for n in nodes:
        frontier.update((i, None) for i in n.inputs if n in bound and i not in bound)
    frontier.update((r, None) for r in p.results if r not in bound)
    moved_fixed = [n for n in frontier if n in fixed and not is_leaf(n)]
    moved = [n for n in frontier if n in varying and not is_leaf(n) and lift.worth(n)]
    refused = [n for n in moved if not lift.possible(n)]
    for n in refused:
        context.decline("hoist_loops", n, f"stays in the loop: {lift.reason(n)}")
    moved = [n for n in moved if n not in refused]
    if not moved and not moved_fixed:
        return None
    depth = p.time.attrs["depth"]
    outside = substitute(moved_fixed, dict(zip(p.body_consts, p.consts, strict=True)))
    taken = {str(i.attrs["name"]) for i in p.body.inputs}
    new_consts = {n: fresh_leaf(f"fixed{i}", "const", n.out, n, depth, taken) for i, n in enumerate(moved_fixed)}
    new_xs = {n: fresh_leaf(f"ahead{i}", "x", n.out, n, depth, taken) for i, n in enumerate(moved)}
    renamed = substitute(p.results, {**new_consts, **new_xs})
    results = [renamed[r] for r in p.results]
    c, s = len(p.carries), p.stacks
    inputs = (*p.body_carries, *p.body_xs, *new_xs.values(), p.time, *p.body_consts, *new_consts.values())
    new = scan(
        p.carries,
        [*p.xs, *(lift(n) for n in moved)],
        [*p.consts, *(outside[n] for n in moved_fixed)],
        inputs,
        (results[:c], results[c : c + s], results[c + s :]),
        p.length,
        p.reverse,
        node.where,
    )
    return [b.item(new, i) for i in range(len(results))]


def fresh_leaf(name: str, role: str, type_: Type, like: Node, depth: int, taken: set[str]) -> Node:
    while name in taken:
        name += "'"
    taken.add(name)
    return leaf(name, role, type_, like.where, depth)


class _Lift:
    """Rebuilds body values for all iterations at once, with a leading time axis."""

    def __init__(self, p: ScanParts, can: Callable[[Node], bool]) -> None:
        self._p = p
        self._can = can
        self.known: dict[Node, tuple[Node, bool]] = {}
        for inner, outer in zip(p.body_xs, p.xs, strict=True):
            self.known[inner] = (outer, True)
        for inner, outer in zip(p.body_consts, p.consts, strict=True):
            self.known[inner] = (outer, False)

    def reason(self, n: Node) -> str:
        """The op that stands in the way."""
        for node in toposort([n]):
            if node not in self.known and node is not self._p.time and not self.has_form(node):
                return f"{node.op} has no form for all iterations at once"
        return "it depends on the carry"

    def has_form(self, n: Node) -> bool:
        """Whether the op of ``n`` can be computed for all iterations at once."""
        if n.op in ("constant", "iota"):
            return True
        record = REGISTRY.get(n.op)
        return record is not None and (record.kind == "elementwise" or record.batch is not None)

    def possible(self, n: Node) -> bool:
        return (
            n is self._p.time
            or n in self.known
            or (self._can(n) and self.has_form(n) and all(self.possible(i) for i in n.inputs))
        )

    def worth(self, n: Node) -> bool:
        """True if computing ``n`` involves a heavy op that the loop would repeat."""
        if n in self.known or is_leaf(n) or not self._can(n):
            return False
        return n.op in HEAVY or any(self.worth(i) for i in n.inputs)

    def __call__(self, n: Node) -> Node:
        """The value for all iterations (broadcast along time if it does not vary)."""
        value, batched = self.lift(n)
        return value if batched else b.broadcast_to(value, (self._p.length, *n.shape))

    def lift(self, n: Node) -> tuple[Node, bool]:
        if n in self.known:
            return self.known[n]
        if n is self._p.time:
            self.known[n] = (b.iota((self._p.length,), 0), True)
            return self.known[n]
        lifted = [self.lift(i) for i in n.inputs]
        on = [flag for _, flag in lifted]
        inputs = [value for value, _ in lifted]
        if not any(on):
            result = rebuild(n, inputs), False
        else:
            with b.at(n.where):
                batched = _batch(n, inputs, on)
            if batched is None:
                batched = _batch(n, [self(i) for i in n.inputs], [True] * len(on))
            if batched is None:
                raise ValueError(f"{n.op} cannot be batched")
            result = batched, True
        self.known[n] = result
        return result


def _batch(n: Node, inputs: Sequence[Node], on: Sequence[bool]) -> Node | None:
    record = REGISTRY[n.op]
    if record.kind != "elementwise":
        return record.batch(n, inputs, on) if record.batch is not None else None
    aligned = [
        b.reshape(x, (x.shape[0], *(1,) * (n.ndim - x.ndim + 1), *x.shape[1:])) if flag else x
        for x, flag in zip(inputs, on, strict=True)
    ]
    return b.apply(n.op, *aligned, **n.attrs)


def sink_loops(graph: Graph, context: Context) -> Graph:
    """Move work that the carry does not need behind the loop, for all iterations at once."""
    return rewrite_scans(graph, context, _sink)


def _sink(node: Node, context: Context) -> list[Node] | None:
    p = parts(node)
    c, s = len(p.carries), p.stacks
    inside = set(toposort(p.results[:c]))
    inside.update(p.body.inputs)
    probe = _Lift(p, can=lambda n: n not in inside)
    chosen = [i for i in range(c, len(p.results)) if p.results[i] not in inside and probe.worth(p.results[i])]
    needed = _entry_points([p.results[i] for i in chosen], inside, probe)
    stacked = {*needed, *p.results[c : c + s]}
    for i in range(c, len(p.results)):  # reductions of what is stacked anyway
        if i not in chosen and p.results[i] not in inside:
            entry = _entry_points([p.results[i]], inside, probe)
            if i >= c + s and all(e in stacked for e in entry):
                chosen.append(i)
    if not chosen:
        return None
    needed = _entry_points([p.results[i] for i in sorted(chosen)], inside, probe)
    kept = [i for i in range(c, len(p.results)) if i not in chosen]
    stacks = list(dict.fromkeys([*(p.results[i] for i in kept if i < c + s), *needed]))
    sums = [p.results[i] for i in kept if i >= c + s]
    groups = (p.results[:c], stacks, sums)
    new = scan(p.carries, p.xs, p.consts, p.body.inputs, groups, p.length, p.reverse, node.where)
    lift = _Lift(p, can=lambda n: True)
    for index, stacked_value in enumerate(stacks):
        lift.known.setdefault(stacked_value, (b.item(new, c + index), True))
    found: list[Node] = []
    for i, r in enumerate(p.results):
        if i < c:
            found.append(b.item(new, i))
        elif i in chosen:
            found.append(lift(r) if i < c + s else _total(r, lift, p.length))
        elif i < c + s:
            found.append(b.item(new, c + stacks.index(r)))
        else:
            found.append(b.item(new, c + len(stacks) + sums.index(r)))
    return found


def _entry_points(results: Sequence[Node], inside: set[Node], probe: _Lift) -> list[Node]:
    """Body values that must be stacked so that ``results`` can be computed behind the loop."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    work = list(reversed(results))
    while work:
        n = work.pop()
        if n in seen or n in probe.known or n.op in ("constant", "iota"):
            continue
        seen.add(n)
        if n.op == "input" and n.attrs["role"] == "time":
            continue
        if n in inside or not probe.has_form(n):
            found[n] = None
        else:
            work.extend(reversed(n.inputs))
    return list(found)


def _total(r: Node, lift: _Lift, length: int) -> Node:
    """The sum of ``r`` over all iterations."""
    if r.op == "matmul" and all(i.ndim == 2 for i in r.inputs):
        (x, x_on), (y, y_on) = lift.lift(r.inputs[0]), lift.lift(r.inputs[1])
        if x_on and y_on:
            rows, inner, columns = r.shape[0], r.inputs[0].shape[1], r.shape[1]
            wide = b.reshape(b.transpose(x, (1, 0, 2)), (rows, length * inner))
            return b.matmul(wide, b.reshape(y, (length * inner, columns)))
        if x_on or y_on:
            return b.matmul(b.sum_(x, [0]) if x_on else x, b.sum_(y, [0]) if y_on else y)
    return b.sum_(lift(r), [0])


def prune_loops(graph: Graph, context: Context) -> Graph:
    """Drop loop results nobody reads, then carries and operands the rest does not need."""
    used: dict[Node, set[int]] = {}
    for node in graph.nodes():
        if node.op == "get" and node.inputs[0].op == "scan":
            used.setdefault(node.inputs[0], set()).add(node.attrs["index"])
    kept: dict[Node, list[int]] = {}

    def visit(old: Node, inputs: tuple[Node, ...]) -> Node:
        if old.op == "get" and old.inputs[0] in kept:
            return b.item(inputs[0], kept[old.inputs[0]].index(old.attrs["index"]))
        node = in_bodies(rebuild(old, inputs), lambda g: prune_loops(g, context))
        if old in used:
            return _prune(node, used[old], kept.setdefault(old, []))
        return node

    pruned = rewrite(graph, visit)
    return prune_loops(pruned, context) if pruned.roots() != graph.roots() else pruned


def _prune(node: Node, indices: set[int], keep: list[int]) -> Node:
    """The loop without what is not needed for the results ``indices``; lists the results it kept."""
    p = parts(node)
    c = len(p.carries)
    live = {i for i in indices if i < c}
    collected = [i for i in range(c, len(p.results)) if i in indices]
    while True:
        reach = set(toposort([p.results[i] for i in (*sorted(live), *collected)]))
        more = {i for i in range(c) if p.body_carries[i] in reach} - live
        if not more:
            break
        live |= more
    xs = [i for i, x in enumerate(p.body_xs) if x in reach]
    consts = [i for i, k in enumerate(p.body_consts) if k in reach]
    carries = sorted(live)
    keep += [*carries, *collected]
    if len(keep) == len(p.results) and len(xs) == len(p.xs) and len(consts) == len(p.consts):
        return node
    stacks = [p.results[i] for i in collected if i < c + p.stacks]
    sums = [p.results[i] for i in collected if i >= c + p.stacks]
    inputs = (
        *(p.body_carries[i] for i in carries),
        *(p.body_xs[i] for i in xs),
        p.time,
        *(p.body_consts[i] for i in consts),
    )
    operands = (
        [p.carries[i] for i in carries],
        [p.xs[i] for i in xs],
        [p.consts[i] for i in consts],
    )
    groups = ([p.results[i] for i in carries], stacks, sums)
    return scan(*operands, inputs, groups, p.length, p.reverse, node.where)
