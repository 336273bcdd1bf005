"""Lowering of scan and cond: slots, carries and the bodies' bindings.

A carry that the loop also stacks lives in that stack: with one more slot than iterations, iteration k reads
slot k and writes slot k+1, and both the stack of old values and that of new values are views of it. Any
other carry alternates between two slots. A stack entry is written where it stays; nothing is copied out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from graphnet.compiler.build import item
from graphnet.compiler.ir import NOWHERE, Graph, Node, Type
from graphnet.compiler.ops.control import ScanParts, parts
from graphnet.compiler.order import order, producible
from graphnet.compiler.schedule import Array, Branch, Kernel, Loop, LoopTerm, Step, slot

if TYPE_CHECKING:
    from graphnet.compiler.lower import Lowering, Values


class _Carry:
    """Memory of one carry: what iteration k reads and writes, and where the last value ends up."""

    def __init__(self, low: Lowering, p: ScanParts, index: int, loop: int) -> None:
        old, new = p.body_carries[index], p.results[index]
        stacked = p.results[len(p.carries) : len(p.carries) + p.stacks]
        self.all_slots = old in stacked or (new in stacked and new is not old)
        slots = p.length + 1 if self.all_slots else 2
        whole = low.allocate(Type((slots, *new.shape), new.dtype), "temp", "carry", old.where)
        entry = replace(whole, shape=whole.shape[1:], strides=whole.strides[1:])
        stride = whole.strides[0]
        # in a reversed loop iteration k handles entry length-1-k: slots run downwards
        down = p.reverse and self.all_slots
        base = replace(entry, offset=p.length * stride) if down else entry
        step, modulo = (-stride, p.length + 1) if down else (stride, slots)
        self.read = replace(base, terms=(LoopTerm(loop, step, 0, modulo),))
        self.write = replace(base, terms=(LoopTerm(loop, step, 1, modulo),))
        self.initial = base
        self.last = replace(base, offset=base.offset + (p.length % modulo) * step)
        rows = replace(whole, shape=(p.length, *new.shape))
        later = replace(rows, offset=rows.offset + stride)
        self.before, self.after = (later, rows) if p.reverse else (rows, later)


def lower_scan(low: Lowering, node: Node, values: Values, dest: Values, steps: list[Step]) -> None:
    """Steps of a loop; binds each of its results in ``values``."""
    p = parts(node)
    loop = low.loop_count
    low.loop_count += 1
    carries = [_Carry(low, p, i, loop) for i in range(len(p.carries))]
    for carry, initial in zip(carries, p.carries, strict=True):
        low.copy(values[initial], carry.initial, node.where, steps)
    inner: Values = {n: c.read for n, c in zip(p.body_carries, carries, strict=True)}
    for n, x in zip(p.body_xs, p.xs, strict=True):
        inner[n] = slot(values[x], loop, p.length, p.reverse)
    inner.update({n: values[c] for n, c in zip(p.body_consts, p.consts, strict=True)})
    if p.time in p.body.nodes():
        inner[p.time] = slot(_ramp(low, p.length), loop, p.length, p.reverse)

    targets: list[tuple[Node, Array]] = [(p.results[i], c.write) for i, c in enumerate(carries)]
    stacks = _stacks(low, node, p, carries, dest, loop, targets)
    sums = _sums(low, p, node, steps)
    inner_dest: Values = {}
    for result, target in targets:
        if result not in inner_dest and result not in inner and producible(result):
            inner_dest[result] = target

    start = low.position
    low.loops.append((start, set()))
    body = low.graph(_sequence(p.body), inner, inner_dest, None)
    for result, target in targets:
        low.copy(inner[result], target, node.where, body)
    for result, total in zip(p.results[len(p.carries) + p.stacks :], sums, strict=True):
        _accumulate(low, inner[result], total, node, body)
    _, touched = low.loops.pop()
    end = max(start, low.position - 1)
    low.position = end + 1
    for index in touched:
        s = low.storages[index]
        s.first, s.last = min(s.first, start), max(s.last, end)
    steps.append(Loop(loop, p.length, tuple(body), node.where, start, low.phase))
    for i, array in enumerate([*(c.last for c in carries), *stacks, *sums]):
        values[item(node, i)] = array


def _ramp(low: Lowering, length: int) -> Array:
    """A stored 0, 1, 2, ...: what the loop counter reads."""
    data = b"".join(i.to_bytes(4, "little") for i in range(length))
    return low.allocate(Type((length,), "int32"), "constant", "time", NOWHERE, data)


def _sequence(graph: Graph) -> Sequence[Node]:
    return order(graph).nodes


def _stacks(
    low: Lowering,
    node: Node,
    p: ScanParts,
    carries: Sequence[_Carry],
    dest: Values,
    loop: int,
    targets: list[tuple[Node, Array]],
) -> list[Array]:
    """An array for each stack; entries that are carries share the carries' slots."""
    news = list(p.results[: len(p.carries)])
    found = []
    for j in range(p.stacks):
        result = p.results[len(p.carries) + j]
        if result in p.body_carries:
            found.append(carries[p.body_carries.index(result)].before)
        elif result in news and carries[news.index(result)].all_slots:
            found.append(carries[news.index(result)].after)
        else:
            index = len(p.carries) + j
            whole = low.result(item(node, index), node.types[index], dest, "stack")
            targets.append((result, slot(whole, loop, p.length, p.reverse)))
            found.append(whole)
    return found


def _sums(low: Lowering, p: ScanParts, node: Node, steps: list[Step]) -> list[Array]:
    """Zeroed accumulators for the sums."""
    totals = []
    for result in p.results[len(p.carries) + p.stacks :]:
        total = low.touch(low.allocate(result.out, "temp", "sum over iterations", node.where))
        attrs = {"value": 0}
        steps.append(Kernel("fill", attrs, (), (total,), None, node.where, low.position, low.phase))
        low.position += 1
        totals.append(total)
    return totals


def _accumulate(low: Lowering, term: Array, total: Array, node: Node, body: list[Step]) -> None:
    low.touch(term)
    low.touch(total)
    body.append(Kernel("add", {}, (total, term), (total,), None, node.where, low.position, low.phase))
    low.position += 1


def lower_cond(low: Lowering, node: Node, values: Values, dest: Values, steps: list[Step]) -> None:
    """A branch: both sides write the same result arrays."""
    outs = [low.allocate(type_, "temp", "branch result", node.where) for type_ in node.types]
    start = low.position
    # whatever either side uses must live through both: only one of them runs, in this place
    low.loops.append((start, set()))
    low.touch(values[node.inputs[0]])
    low.position += 1
    sides = [_side(low, node.attrs[name], node, values, outs) for name in ("then", "orelse")]
    _, touched = low.loops.pop()
    end = max(start, low.position - 1)
    for index in touched:
        s = low.storages[index]
        s.first, s.last = min(s.first, start), max(s.last, end)
    predicate = values[node.inputs[0]]
    steps.append(Branch(predicate, tuple(sides[0]), tuple(sides[1]), node.where, start, low.phase))
    for i, out in enumerate(outs):
        values[item(node, i)] = out


def _side(low: Lowering, graph: Graph, node: Node, values: Values, outs: Sequence[Array]) -> list[Step]:
    inner: Values = dict(zip(graph.inputs, (values[i] for i in node.inputs[1:]), strict=True))
    dest: Values = {}
    for (_, result), out in zip(graph.outputs, outs, strict=True):
        if producible(result) and result not in inner:
            dest.setdefault(result, out)
    body = low.graph(_sequence(graph), inner, dest, None)
    for (_, result), out in zip(graph.outputs, outs, strict=True):
        low.copy(inner[result], out, node.where, body)
    return body
