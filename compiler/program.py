"""Fused programs and writing over operands: the two places where the order of reads and writes matters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from graphnet.compiler.ir import Graph, Node, is_leaf
from graphnet.compiler.record import lookup
from graphnet.compiler.schedule import (
    END,
    Array,
    Branch,
    Fused,
    Instruction,
    Leaf,
    Loop,
    Many,
    Rows,
    Step,
    Storage,
    flat,
)
from graphnet.compiler.strides import slots_apart, span

Ref = tuple[str, int]
Rename = Callable[[int], int]
Plain = TypeVar("Plain", bound=Leaf)


def fused_program(body: Graph) -> tuple[tuple[Instruction, ...], tuple[str, ...]]:
    """The instructions of a fused body, and the dtypes of its temporaries (shared by lifetime)."""
    nodes = [n for n in body.nodes() if not is_leaf(n)]
    refs: dict[Node, Ref] = {n: ("in", i) for i, n in enumerate(body.inputs)}
    for i, (_, n) in enumerate(body.outputs):
        refs.setdefault(n, ("out", i))
    last = {i: position for position, n in enumerate(nodes) for i in n.inputs}
    temps: list[str] = []
    free: list[int] = []
    program = []
    for position, n in enumerate(nodes):
        dying = [i for i in dict.fromkeys(n.inputs) if last[i] == position and refs[i][0] == "tmp"]
        if n not in refs:
            # an in-place kernel may take over the memory of an operand that dies here
            over = [i for i in dying if temps[refs[i][1]] == n.dtype and lookup(n.op).in_place]
            if over:
                refs[n] = refs[over[0]]
                dying.remove(over[0])
            else:
                refs[n] = ("tmp", _free_temp(temps, free, n.dtype))
        operands = tuple(refs[i] for i in n.inputs)
        program.append(Instruction(n.op, n.attrs, operands, refs[n]))
        free += [refs[i][1] for i in dying]
    return tuple(program), tuple(temps)


def _free_temp(temps: list[str], free: list[int], dtype: str) -> int:
    for index in free:
        if temps[index] == dtype:
            free.remove(index)
            return index
    temps.append(dtype)
    return len(temps) - 1


def overwrites_safely(program: Sequence[Instruction], operand: int, output: int) -> bool:
    """True if operand ``operand`` is read for the last time no later than ``output`` is first written."""
    write = next((p for p, i in enumerate(program) if i.result == ("out", output)), len(program))
    for position, instruction in enumerate(program):
        if ("in", operand) in instruction.operands and (
            position > write or (position == write and not lookup(instruction.op).in_place)
        ):
            return False
    return True


def clashes(program: Sequence[Instruction], inputs: Sequence[Array], out: Array, index: int) -> bool:
    """True if writing output ``index`` to ``out`` would destroy an operand that is still to be read."""
    return any(
        overlaps(a, out) and (not _same_elements(a, out) or not overwrites_safely(program, operand, index))
        for operand, a in enumerate(inputs)
    )


def overlaps(a: Array, c: Array) -> bool:
    """True unless the arrays are known to be apart in every iteration of the loops that move them."""
    if a.storage != c.storage or 0 in (a.size, c.size) or _columns_apart(a, c):
        return False
    moves = [sorted((t.loop, t.modulo, t.stride * x.itemsize, t.shift) for t in x.terms) for x in (a, c)]
    moved = slots_apart(*moves)
    if moved is None:
        return True
    apart = {c.offset * c.itemsize - a.offset * a.itemsize + d for d in moved}
    (low, high), (first, last) = span(a), span(c)
    return any(low < last + d and first + d < high for d in apart)


def _columns_apart(a: Array, c: Array) -> bool:
    """Whether they are other columns of one matrix, whose rows lie the same number of elements apart."""
    if a.dtype != c.dtype or a.terms != c.terms or {a.strides[-1:], c.strides[-1:]} != {(1,)}:
        return False
    rows = [s for x in (a, c) for n, s in zip(x.shape[:-1], x.strides[:-1], strict=True) if n > 1]
    pitch = math.gcd(*rows)
    (first, wide), (second, other) = ((x.offset % pitch, x.shape[-1]) for x in (a, c)) if pitch else ((0, 0), (0, 0))
    return (
        pitch > 0 and (first + wide <= second or second + other <= first) and max(first + wide, second + other) <= pitch
    )


def _same_elements(a: Array, c: Array) -> bool:
    same = (a.offset, a.shape, a.terms, a.itemsize) == (c.offset, c.shape, c.terms, c.itemsize)
    return same and all(n == 1 or s == t for n, s, t in zip(a.shape, a.strides, c.strides, strict=True))


def with_places(instruction: Instruction, places: Mapping[Ref, Ref]) -> Instruction:
    """The instruction with other places for its operands and its result where ``places`` gives them."""
    operands = tuple(places.get(o, o) for o in instruction.operands)
    return replace(instruction, operands=operands, result=places.get(instruction.result, instruction.result))


def reuse_operands(steps: Sequence[Step], storages: list[Storage]) -> Rename:
    """Let elementwise results take the memory of an operand that dies there; returns old -> new storage."""
    target: dict[int, int] = {}

    def find(storage: int) -> int:
        while storage in target:
            storage = target[storage]
        return storage

    for step in flat(tuple(steps)):
        if isinstance(step, (Many, Loop, Branch)):
            continue
        for index, out in enumerate(step.outputs):
            s = storages[out.storage]
            if s.kind != "temp" or s.first != step.position or out.storage in target:
                continue
            for operand, a in enumerate(step.inputs):
                old = storages[find(a.storage)]
                if old is not s and _may_take(step, operand, index, old, s, find):
                    target[s.id] = old.id
                    old.last = s.last
                    s.first, s.last = END, -1
                    break
    return find


def _may_take(step: Leaf, operand: int, index: int, old: Storage, new: Storage, find: Rename) -> bool:
    a, out = step.inputs[operand], step.outputs[index]
    if old.kind != "temp" or old.last != step.position or old.nbytes != new.nbytes or old.level != new.level:
        return False
    if a.dtype != out.dtype or not _same_elements(a, out) or a.size != old.nbytes // a.itemsize:
        return False

    others = [*step.inputs[:operand], *step.inputs[operand + 1 :]]
    others += [*step.outputs[:index], *step.outputs[index + 1 :]]
    if any(find(o.storage) == old.id for o in others):
        return False
    if isinstance(step, Rows):
        return True  # a row is read before it is written
    if isinstance(step, Fused):
        return overwrites_safely(step.program, operand, index)
    return lookup(step.op).kind == "elementwise" and lookup(step.op).in_place


def renamed(step: Step, find: Rename) -> Step:

    def fix(array: Array) -> Array:
        return replace(array, storage=find(array.storage))

    def leaf(step: Plain) -> Plain:
        return replace(step, inputs=tuple(map(fix, step.inputs)), outputs=tuple(map(fix, step.outputs)))

    if isinstance(step, Loop):
        return replace(step, body=tuple(renamed(s, find) for s in step.body))
    if isinstance(step, Many):
        return replace(step, members=tuple(leaf(m) for m in step.members))
    if isinstance(step, Branch):
        return replace(
            step,
            predicate=fix(step.predicate),
            then=tuple(renamed(s, find) for s in step.then),
            orelse=tuple(renamed(s, find) for s in step.orelse),
        )
    return leaf(step)
