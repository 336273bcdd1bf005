"""Where values live: the name of a buffer, and which buffer each node of a plan's graph was given.

A plan holds steps, not nodes. ``homes_of`` walks the ordered graph beside the steps it became: every node that
is neither leaf, constant, view nor concatenation made exactly one step of its own name, in order; concatenations
are found where they are read, and views follow from their operands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod

from graphnet.compiler.ir import Constant, Graph, Node, is_leaf
from graphnet.compiler.ops.control import bodies
from graphnet.compiler.order import is_view, order
from graphnet.compiler.printers.numbering import Region, inner, number, result
from graphnet.compiler.printers.text import clean, count, literal, shape
from graphnet.compiler.schedule import (
    Array,
    Branch,
    Fused,
    Kernel,
    Loop,
    LoopTerm,
    Many,
    Part,
    Plan,
    Prologue,
    Rows,
    Step,
    Storage,
    flat,
)
from graphnet.compiler.strides import reshaped, view


class Buffers:
    """Names the arrays of one plan: ``arena+0x1240 51,200 B``, ``param lenet/conv2d_1/w``, a constant's value."""

    def __init__(self, plan: Plan) -> None:
        self._storages = {s.id: s for s in plan.storages}
        self._lengths = {s.id: s.length for s in flat(plan.steps) if isinstance(s, Loop)}

    def storage(self, array: Array) -> Storage:
        return self._storages[array.storage]

    def literal(self, array: Array) -> str | None:
        """The number a constant of one element holds, else None."""
        s = self.storage(array)
        if s.kind != "constant" or s.data is None:
            return None
        return literal(Constant(s.data, (), array.dtype))

    def name(self, array: Array) -> str:
        """The buffer in brackets; what moves with loop 3 is written in its counter, k3."""
        s = self.storage(array)
        start = array.offset * array.itemsize
        moving = "".join(self._moving(term, array.itemsize) for term in array.terms)
        if s.kind == "temp":
            base = f"arena+{s.offset + start:#x}" if s.offset >= 0 else "no memory"
            return f"[{base}{moving} {count(min(array.nbytes, s.nbytes))} B]"
        value = self.literal(array)
        if value is not None:
            return f"[constant {value}]"
        name = s.kind if s.name == s.kind else f"{s.kind} {clean(s.name)}"
        return f"[{name}{f'+{start:#x}' if start else ''}{moving}]"

    def _moving(self, term: LoopTerm, itemsize: int) -> str:
        step = term.stride * itemsize
        index = f"k{term.loop}"
        if term.shift:
            index = f"({index}+{term.shift})"
        if self._lengths.get(term.loop, 0) + term.shift > term.modulo:
            index = f"({index}%{term.modulo})"
        return f"{'-' if step < 0 else '+'}{abs(step)}*{index}"

    def named(self, array: Array) -> str:
        """The buffer, the shape it is seen in, and its strides where elements do not simply follow each other."""
        gaps = "" if array.contiguous else f" strides {shape(array.strides)}"
        return f"{self.name(array)} {shape(array.shape)}{gaps}"


@dataclass(frozen=True)
class Home:
    """The buffer of a node, and the position of the step that fills it (None for leaves and views)."""

    array: Array
    position: int | None = None


Homes = dict[str, Home]


def homes_of(plan: Plan) -> Homes:
    """Buffers by node number; nodes whose buffer cannot be told from the plan are left out."""
    found: Homes = {}
    region = number(plan.graph)
    for leaf in plan.graph.leaves():
        found[region.refs[leaf]] = Home(plan.leaves[str(leaf.attrs["name"])])
    _walk(region, order(plan.graph).nodes, plan.steps, found)
    for name, node in plan.graph.outputs:
        found.setdefault(region.refs[node], Home(plan.outputs[name]))
    return found


def _walk(region: Region, nodes: Iterable[Node], steps: Iterable[Step], found: Homes) -> None:
    """Pair nodes with steps; what a step reads tells the buffers that no step of their own tells."""
    waiting = _as_made(steps)
    taken = [s for s in waiting if isinstance(s, Kernel) and s.epilogue is not None]
    parts = [(s, part) for s in waiting if isinstance(s, Rows) for part in s.parts]
    pairs: list[tuple[Node, Step]] = []
    for node in nodes:
        if is_leaf(node) or node.op in ("constant", "concat") or is_view(node):
            continue
        index = next((i for i, s in enumerate(waiting) if _made_by(s, node)), None)
        if index is not None:
            step = waiting.pop(index)
            if not isinstance(step, Prologue):  # whose value is nowhere
                pairs.append((node, step))
        elif (inside := next((s for s in taken if _ends_in(s, node)), None)) is not None:
            taken.remove(inside)
            for i, array in enumerate(inside.outputs):
                found.setdefault(result(region.refs[node], node, i), Home(array, inside.position))
        elif (in_rows := next((p for p in parts if _is_part(p[1], node)), None)) is not None:
            parts.remove(in_rows)
            _rows_results(region, node, *in_rows, found)
    for node, step in pairs:
        _results(region, node, step, found)
    for node, step in pairs:
        if isinstance(step, Kernel) and step.prologue is not None:
            continue
        if isinstance(step, (Kernel, Fused)) and len(step.inputs) == len(node.inputs):
            for operand, array in zip(node.inputs, step.inputs, strict=True):
                if array.shape == operand.shape:
                    found.setdefault(region.refs[operand], Home(array))
    _views(region, nodes, found)
    for node, step in pairs:
        for part, body, inside_steps in _parts(region, node, step):
            _walk(part, order(body).nodes, inside_steps, found)


def _as_made(steps: Iterable[Step]) -> list[Step | Prologue]:
    """The steps, prologues and members of passes over many, in the order in which nodes made them."""
    found: list[tuple[int, Step | Prologue]] = []
    for step in steps:
        if isinstance(step, Many):
            found += [(m.position, replace(m, position=step.position)) for m in step.members]
        else:
            found.append((step.position, step))
        if isinstance(step, Kernel) and step.prologue is not None:
            found.append((step.prologue.position, step.prologue))
    return [step for _, step in sorted(found, key=lambda pair: pair[0])]


# Steps of compiled backends that carry out more than the node they stem from.
_STEM = {"matmul_packed": "matmul", "max_pool": "max_pool_index"}


def _made_by(step: Step | Prologue, node: Node) -> bool:
    """False for the copies and fills that lowering puts between the steps of nodes."""
    if _STEM.get(step.op, step.op) != node.op or step.where != node.where:
        return False
    if isinstance(step, Prologue):
        return [prod(step.shape)] == [t.size for t in node.types]
    if isinstance(step, Kernel) and step.epilogue is not None:
        return step.epilogue.shape == node.shape
    return not isinstance(step, Kernel) or step.outputs[0].shape == node.shape


def _ends_in(step: Kernel, node: Node) -> bool:
    """True if the node is what the step does with its kernel's result."""
    e = step.epilogue
    if e is None or (e.op, e.where) != (node.op, node.where) or len(step.outputs) != len(node.types):
        return False
    return all(a.size == t.size for a, t in zip(step.outputs, node.types, strict=True))


def _is_part(part: Part, node: Node) -> bool:
    """True if the node is one of those that a program over rows computes."""
    same = (part.op, part.where, len(part.outputs)) == (node.op, node.where, len(node.types))
    return same and part.shape == node.types[0].shape


def _rows_results(region: Region, node: Node, step: Rows, part: Part, found: Homes) -> None:
    for i, (output, type_) in enumerate(zip(part.outputs, node.types, strict=True)):
        if output is not None:
            array = step.outputs[output]
            own = reshaped(array, type_.shape)
            found.setdefault(result(region.refs[node], node, i), Home(own or array, step.position))


def _results(region: Region, node: Node, step: Step, found: Homes) -> None:
    if isinstance(step, Kernel) and step.epilogue is not None:
        return  # the kernel's own result is nowhere
    if isinstance(step, (Kernel, Fused)):
        for index, array in enumerate(step.outputs[: len(node.types)]):
            found.setdefault(result(region.refs[node], node, index), Home(array, step.position))


def _parts(region: Region, node: Node, step: Step) -> Iterator[tuple[Region, Graph, tuple[Step, ...]]]:
    """The bodies of a node beside the steps they became."""
    held = inner(region, node)
    if isinstance(step, Loop):
        yield held[0], bodies(node)[0], step.body
    elif isinstance(step, Branch):
        yield held[0], bodies(node)[0], step.then
        yield held[1], bodies(node)[1], step.orelse


def _views(region: Region, nodes: Iterable[Node], found: Homes) -> None:
    for node in nodes:
        ref = region.refs[node]
        if not is_view(node) or node.op == "get" or ref in found:
            continue
        source = found.get(region.refs[node.inputs[0]])
        seen = view(node, source.array) if source else None
        if seen is not None:
            found[ref] = Home(seen)
