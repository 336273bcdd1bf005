"""Copies of what an elementwise step has just computed, written by that step itself.

    fused  a = x * y             fused  a = x * y, b = x * y      (compilers compute it once)
    copy   b = a           ->

A value that is wanted in two places, in a stack and as a part of a concatenation, say, is lowered to one place and
copied to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphnet.compiler.epilogues import as_fused
from graphnet.compiler.merging import Use, placed, places, use
from graphnet.compiler.program import overlaps
from graphnet.compiler.schedule import Array, Branch, Fused, Kernel, Loop, Step, Storage


def merge_copies(steps: Sequence[Step], storages: Sequence[Storage], apart: bool) -> list[Step]:
    """``steps`` without the copies that the step before can write; with ``apart`` the phases stay so.

    Lifetimes follow. For backends whose programs have a value for each assignment.
    """
    found: list[Step] = []
    for step in steps:
        if isinstance(step, Loop):
            step = replace(step, body=tuple(merge_copies(step.body, storages, apart)))
        elif isinstance(step, Branch):
            sides = (tuple(merge_copies(side, storages, apart)) for side in (step.then, step.orelse))
            step = replace(step, then=next(sides), orelse=next(sides))
        found.append(step)
    uses = [use(s) for s in found]
    j = 0
    while j < len(found):
        i = _writer(found, uses, j, apart)
        if i is None:
            j += 1
            continue
        found[i] = placed(_with_copy(found[i], found[j]), found[i], storages)
        uses[i] = use(found[i])
        del found[j], uses[j]
    return found


def _writer(steps: Sequence[Step], uses: Sequence[Use], j: int, apart: bool) -> int | None:
    """The elementwise step whose result step j copies, if it may write the copy, too."""
    copy = steps[j]
    if not isinstance(copy, Kernel) or copy.op != "copy" or copy.epilogue is not None or copy.prologue is not None:
        return None
    source, target = copy.inputs[0], copy.outputs[0]
    i = next((i for i in reversed(range(j)) if source.storage in uses[i].writes), None)
    writer = steps[i] if i is not None else None
    fused = as_fused(writer) if isinstance(writer, (Kernel, Fused)) else None
    if i is None or fused is None or source not in fused.outputs or source.shape != target.shape:
        return None
    if (apart and copy.phase != steps[i].phase) or i not in places(uses, i, j):
        return None
    # an operand of the step may lie where the copy is written
    return None if any(overlaps(a, target) for a in (*fused.inputs, *fused.outputs)) else i


def _with_copy(step: Step, copy: Step) -> Fused:
    """The elementwise step with one result more."""
    assert isinstance(step, (Kernel, Fused))
    assert isinstance(copy, Kernel)
    fused = as_fused(step)
    assert fused is not None
    own, more = ("out", fused.outputs.index(copy.inputs[0])), ("out", len(fused.outputs))
    last = max(i for i, instruction in enumerate(fused.program) if instruction.result == own)
    again = replace(fused.program[last], result=more)
    program = (*fused.program[: last + 1], again, *fused.program[last + 1 :])
    outputs: tuple[Array, ...] = (*fused.outputs, copy.outputs[0])
    return replace(fused, program=program, outputs=outputs)
