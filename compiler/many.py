"""Updates of several homes by one program become one pass over all: an optimiser's step on every parameter.

    fused  w = w - lr * dw  (256,1024)
    fused  b = b - lr * db  (1024,)          ->          many  p = p - lr * dp  for w and dw, b and db

Only what is written to parameters, slots and states is gathered: nothing waits for it before the next call, so
that it can be put off to the place of the last. What it reads must live until then, which may cost next to no
memory: the gradients of biases, not those of matrices that would be free for others.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from graphnet.compiler.epilogues import as_fused
from graphnet.compiler.ir import NOWHERE, Where
from graphnet.compiler.memory import live_bytes
from graphnet.compiler.merging import placed, use
from graphnet.compiler.schedule import Fused, Kernel, Many, Step, Storage

Key = tuple[object, ...]

SLIVER = 1 / 256
"""How much more memory may be alive at once, as a part of what is, for all gradients that wait together."""


def merge_many(steps: Sequence[Step], storages: Sequence[Storage]) -> list[Step]:
    """``steps`` with equal updates of one phase merged where no step between sees a difference; lifetimes follow.

    To be called when the lifetimes are final: a member whose operands would have to be kept, in more than a
    sliver of memory, while the most bytes are alive stays a step of its own.
    """
    return _Gatherer(steps, storages).run()


class _Gatherer:
    def __init__(self, steps: Sequence[Step], storages: Sequence[Storage]) -> None:
        self._steps = list(steps)
        self._storages = storages
        self._uses = [use(s) for s in steps]
        self._fused = {i: f for i, s in enumerate(steps) if (f := self._update(s)) is not None}
        self._gone: set[int] = set()
        self._most = 0.0

    def run(self) -> list[Step]:
        groups = [group for group in self._groups() if len(group) > 1]
        self._most = self._live() * (1 + SLIVER) if groups else 0.0
        # what reads an updated home is put off first, so that it is not between the updates
        for group in sorted(groups, key=lambda g: -g[-1]):
            rest = group
            while len(rest) > 1:
                rest = self._gather(rest)
        return [s for i, s in enumerate(self._steps) if i not in self._gone]

    def _update(self, step: Step) -> Fused | None:
        """An elementwise step that writes homes and nothing else, as a fused program."""
        if not isinstance(step, (Kernel, Fused)) or step.scratch is not None or not step.outputs[0].size:
            return None
        if any(self._storages[a.storage].kind == "temp" for a in step.outputs):
            return None
        found = as_fused(step)
        return replace(found, op=step.op) if found is not None else None

    def _groups(self) -> list[list[int]]:
        """Numbers of the steps of one program, in order."""
        groups: dict[Key, list[int]] = {}
        shared: dict[tuple[int, ...], None] = {}
        for i, step in self._fused.items():
            if step.outputs[0].size > 1:
                numbers = tuple(n for n, a in enumerate(step.inputs) if a.size == 1)
                key = _key(step, numbers)
                if key is not None:
                    groups.setdefault(key, []).append(i)
                    shared[numbers] = None
        # which operands of an update of one element are shared, only larger ones tell
        for i, step in self._fused.items():
            if step.outputs[0].size == 1:
                keys = (_key(step, numbers) for numbers in shared)
                found = next((key for key in keys if key in groups), None)
                if found is not None:
                    groups[found].append(i)
        return [sorted(group) for group in groups.values()]

    def _gather(self, group: list[int]) -> list[int]:
        """Makes those of the group that can be one step at the place of its last; returns the others."""
        last = group[-1]
        taken = self._affordable([i for i in group[:-1] if self._movable(i, last)], last)
        rest = [i for i in group[:-1] if i not in taken]
        if taken:
            members = [self._fused[i] for i in (*taken, last)]
            at = self._steps[last]
            ones = [n for n, a in enumerate(members[0].inputs) if a.size == 1]
            shared = tuple(n for n in ones if all(m.inputs[n] == members[0].inputs[n] for m in members))
            merged = Many(tuple(members), shared, _common([m.where for m in members]), at.position, at.phase)
            self._steps[last] = placed(merged, at, self._storages)
            self._uses[last] = use(self._steps[last])
            self._gone.update(taken)
        return rest

    def _movable(self, i: int, last: int) -> bool:
        """Whether the step i can be run together with the step ``last``."""
        mine = self._uses[i]
        for j in range(i + 1, last + 1):
            other = self._uses[j]
            if j not in self._gone and (
                other.writes & mine.writes or other.writes & mine.reads or other.reads & mine.writes
            ):
                return False
        return True

    def _affordable(self, wanted: list[int], last: int) -> list[int]:
        """Those of the steps whose operands may live until ``last``."""
        kept = self._kept_until(wanted, last)
        if self._live() <= self._most:
            return wanted
        self._restore(kept)
        found = []
        for i in wanted:
            kept = self._kept_until([i], last)
            if self._live() <= self._most:
                found.append(i)
            else:
                self._restore(kept)
        return found

    def _kept_until(self, moved: Sequence[int], last: int) -> dict[int, int]:
        """Prolongs the lives of what the steps read; returns when they ended before."""
        before: dict[int, int] = {}
        for i in moved:
            for array in self._fused[i].inputs:
                s = self._storages[array.storage]
                before.setdefault(s.id, s.last)
                s.last = max(s.last, self._steps[last].position)
        return before

    def _restore(self, lasts: dict[int, int]) -> None:
        for number, last in lasts.items():
            self._storages[number].last = last

    def _live(self) -> int:
        return live_bytes(s for s in self._storages if s.kind == "temp" and s.last >= 0)[0]


def _key(step: Fused, shared: Sequence[int]) -> Key | None:
    """Equal for steps that differ in size and memory only; None where an array is not read element by element."""
    size = step.outputs[0].size
    memory: list[tuple[int, int, str]] = []
    roles: list[object] = []
    for n, array in enumerate((*step.outputs, *step.inputs)):
        if n - len(step.outputs) in shared:
            roles.append(array)
            continue
        if array.size != size or not array.contiguous:
            return None
        memory.append((array.storage, array.offset, array.dtype))
        # the same arrays are the same operands in every member
        roles.append((memory.index(memory[-1]), array.dtype))
    program = tuple((i.op, tuple(sorted(i.attrs.items())), i.operands, i.result) for i in step.program)
    return (step.phase, program, step.temps, *roles)


def _common(wheres: Sequence[Where]) -> Where:
    """The line of all, or none if they differ; the model function around all."""
    line = wheres[0] if len({(w.file, w.line) for w in wheres}) == 1 else NOWHERE
    parts = zip(*(w.scope.split("/") for w in wheres), strict=False)
    scope = itertools.takewhile(lambda names: len(set(names)) == 1, parts)
    return Where(line.file, line.line, "/".join(names[0] for names in scope))
