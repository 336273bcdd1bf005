"""Making one step of two: what each touches, where the one may stand, how lifetimes follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from graphnet.compiler.schedule import END, Branch, Leaf, Loop, Many, Step, Storage, flat

Merged = TypeVar("Merged", bound=Leaf | Many)


@dataclass(frozen=True)
class Use:
    """Storages a step reads and writes, those of steps inside it included."""

    reads: frozenset[int]
    writes: frozenset[int]


def use(step: Step) -> Use:
    """What a step touches."""
    reads: set[int] = set()
    writes: set[int] = set()
    for s in flat((step,)):
        if isinstance(s, Branch):
            reads.add(s.predicate.storage)
        elif not isinstance(s, Loop):
            reads |= {a.storage for a in s.inputs}
            writes |= {a.storage for a in s.outputs}
            writes |= {s.scratch.storage} if s.scratch is not None else set()
    return Use(frozenset(reads), frozenset(writes))


def readers(steps: Sequence[Step]) -> dict[int, int]:
    """How many operands of all steps lie in each storage; a step that reads one view twice counts once."""
    found: dict[int, int] = {}
    for step in flat(tuple(steps)):
        if isinstance(step, Branch):
            arrays = [step.predicate]
        else:
            arrays = [] if isinstance(step, Loop) else list(dict.fromkeys(step.inputs))
        for array in arrays:
            found[array.storage] = found.get(array.storage, 0) + 1
    return found


def places(uses: Sequence[Use], i: int, j: int) -> list[int]:
    """Those of i and j, in this order, where the steps i and j may be one: no step between would see a difference."""
    between = uses[i + 1 : j]
    early, late = uses[j], uses[i]
    found = []
    if not any(u.writes & (early.reads | early.writes) or u.reads & early.writes for u in between):
        found.append(i)
    if not any(u.writes & (late.reads | late.writes) or u.reads & late.writes for u in between):
        found.append(j)
    return found


def place(uses: Sequence[Use], i: int, j: int) -> int | None:
    """i or j, where the steps i and j may be one; None if a step between them forbids both."""
    return next(iter(places(uses, i, j)), None)


def placed(merged: Merged, at: Step, storages: Sequence[Storage]) -> Merged:
    """The merged step in the place of ``at``; the lifetimes of what it touches follow."""
    scratch = () if merged.scratch is None else (merged.scratch,)
    for array in (*merged.inputs, *merged.outputs, *scratch):
        s = storages[array.storage]
        s.first, s.last = min(s.first, at.position), max(s.last, at.position)
    return replace(merged, position=at.position, phase=at.phase)


def drop_unused(steps: Sequence[Step], storages: Sequence[Storage], kept: set[int]) -> None:
    """Give up the memory of temporaries that no step touches any more."""
    used = set(kept)
    for step in flat(tuple(steps)):
        found = use(step)
        used |= found.reads | found.writes
    for s in storages:
        if s.kind == "temp" and s.id not in used:
            s.first, s.last = END, -1
