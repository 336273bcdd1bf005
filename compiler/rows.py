"""Softmax and its kin as one step: elementwise work and reductions over the same rows, a row at a time.

    m = max x                   rows y of x:  m = max x
    e = exp(x - m)                            e = exp(x - m)
    s = sum e             ->                  s = sum e
    y = e / s                                 y = e / s        (m, e and s are never stored)

A reduction over the last axes says what the rows are. Elementwise steps and reductions over the same rows that it
shares values with join it one after another, wherever they stand, if no step between would see a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import prod

from graphnet.compiler.epilogues import as_fused
from graphnet.compiler.merging import Use, places, use
from graphnet.compiler.program import Ref, overlaps, with_places
from graphnet.compiler.schedule import (
    END,
    REDUCTIONS,
    Array,
    Branch,
    Fused,
    Instruction,
    Kernel,
    Leaf,
    Loop,
    Part,
    Rows,
    Step,
    Storage,
    flat,
)
from graphnet.compiler.strides import spread_as

LONGEST = 4096
"""Columns up to which a row stays in the first cache."""

Fits = Callable[[Rows], bool]
"""Whether the backend's kernel for rows takes a program."""


def merge_rows(
    steps: Sequence[Step], storages: Sequence[Storage], fits: Fits, kept: set[int], apart: bool
) -> list[Step]:
    """``steps`` with those over the same rows merged; lifetimes follow.

    ``kept`` are storages that results are read from after the last step; with ``apart`` the phases stay so.
    """
    return _Merger(steps, storages, fits, kept, apart).run(steps)


class _Merger:
    """Merges within each list of steps."""

    def __init__(
        self, steps: Sequence[Step], storages: Sequence[Storage], fits: Fits, kept: set[int], apart: bool
    ) -> None:
        self._storages = storages
        self._fits = fits
        self._kept = kept
        self._apart = apart
        self._readers: dict[int, set[int]] = {}
        for step in flat(tuple(steps)):
            for storage in _read(step):
                self._readers.setdefault(storage, set()).add(step.position)

    def run(self, steps: Sequence[Step], level: int = 0) -> list[Step]:
        """The steps of one list, at this depth of loops and branches, with rows merged."""
        merged = _List([self._inside(s, level + 1) for s in steps])
        changed: set[int] = set()
        for start in range(len(steps)):
            at: int | None = start
            while at is not None:
                at = self._grown(merged, at, changed)
        result = [s for s in merged.steps if s is not None]
        self._live(result, changed, level)
        return result

    def _inside(self, step: Step, level: int) -> Step:
        if isinstance(step, Loop):
            return replace(step, body=tuple(self.run(step.body, level)))
        if isinstance(step, Branch):
            return replace(step, then=tuple(self.run(step.then, level)), orelse=tuple(self.run(step.orelse, level)))
        return step

    def _grown(self, steps: _List, i: int, changed: set[int]) -> int | None:
        """Let one more step join the rows of step i; returns where the two are then."""
        seed = steps.steps[i]
        shape = _shape(seed)
        if seed is None or shape is None:
            return None
        for j in sorted(steps.touching(i), key=lambda j: (abs(j - i), j)):
            low, high = min(i, j), max(i, j)
            left, right = self._member(steps.leaf(low), shape), self._member(steps.leaf(high), shape)
            joined = _joined(left, right) if left is not None and right is not None else None
            if left is None or right is None or joined is None or (self._apart and left.phase != right.phase):
                continue
            joined = self._stored(replace(joined, where=seed.where), {left.position, right.position})
            alone = steps.adjacent(low, high)
            for at in places(steps.uses, low, high):
                if (alone or self._pays(left, right, joined, at == low)) and self._fits(joined):
                    changed |= steps.touched(low) | steps.touched(high)
                    steps.join(at, low + high - at, self._moved(joined, left, right, left if at == low else right))
                    return at
        return None

    def _moved(self, joined: Rows, left: Rows, right: Rows, at: Rows) -> Rows:
        """The joined step at its position; who reads what follows."""
        for storage in _storages((*left.inputs, *right.inputs)):
            self._readers[storage] -= {left.position, right.position}
        for storage in _storages(joined.inputs):
            self._readers[storage].add(at.position)
        return replace(joined, position=at.position, phase=at.phase)

    def _member(self, step: Leaf, shape: tuple[int, ...]) -> Rows | None:
        """A step as a program over rows of this shape."""
        if isinstance(step, Rows):
            return step if step.shape == shape else None
        found = _reduction(step, shape) if isinstance(step, Kernel) and step.op in REDUCTIONS else None
        if found is None and (fused := as_fused(step)) is not None:
            found = _elementwise(replace(fused, op=step.op), shape)
        if found is None or any(self._storages[o.storage].kind != "temp" for o in found.outputs):
            return None
        return None if any(overlaps(o, a) for o in found.outputs for a in found.inputs) else found

    def _stored(self, step: Rows, positions: set[int]) -> Rows:
        """The program with outputs that no other step reads as values of a row's work alone."""
        read = _storages(step.inputs)
        new: dict[Ref, Ref] = {}
        outputs: list[Array] = []
        temps = list(step.temps)
        for i, o in enumerate(step.outputs):
            if o.storage in self._kept or o.storage in read or not self._readers.get(o.storage, set()) <= positions:
                new["out", i] = ("out", len(outputs))
                outputs.append(o)
            else:
                new["out", i] = ("tmp", len(temps))
                temps.append(o.dtype)
        parts = (replace(p, outputs=tuple(_place(new, o) for o in p.outputs)) for p in step.parts)
        program = tuple(with_places(i, new) for i in step.program)
        return replace(step, program=program, outputs=tuple(outputs), temps=tuple(temps), parts=tuple(parts))

    def _pays(self, left: Rows, right: Rows, joined: Rows, early: bool) -> bool:
        """Whether what lives longer because a step is moved is no more than what lives shorter or is not stored."""
        stored = _storages(joined.outputs)
        less = sum(a.nbytes for a in (*left.outputs, *right.outputs) if a.storage not in stored)
        moved = right if early else left
        results = sum(a.nbytes for a in moved.outputs if a.storage in stored)
        read = [self._storages[i] for i in _storages(moved.inputs) - _storages(left.outputs)]
        temps = [s for s in read if s.kind == "temp"]
        if early:
            return results <= less + sum(s.nbytes for s in temps if s.last == right.position)
        return sum(s.nbytes for s in temps if s.last < right.position) <= less + results

    def _live(self, steps: Sequence[Step], changed: set[int], level: int) -> None:
        """Lifetimes of the memory that merged steps touched, if it belongs to this list."""
        spans: dict[int, tuple[int, int]] = {}
        for step in steps:
            found, positions = use(step), [s.position for s in flat((step,))]
            for storage in (found.reads | found.writes) & changed:
                low, high = spans.get(storage, (END, -1))
                spans[storage] = min(low, *positions), max(high, *positions)
        for storage, (low, high) in spans.items():
            s = self._storages[storage]
            if s.kind == "temp" and s.level == level:
                s.first, s.last = low, s.last if s.last >= END else high


class _List:
    """A list of steps in which a step that joined another leaves a gap, so that numbers stay what they are."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps: list[Step | None] = list(steps)
        self.uses = [use(s) for s in steps]
        self._touching: dict[int, set[int]] = {}
        for i, step in enumerate(steps):
            if isinstance(step, Leaf):
                for storage in self.touched(i):
                    self._touching.setdefault(storage, set()).add(i)

    def leaf(self, i: int) -> Leaf:
        step = self.steps[i]
        assert isinstance(step, Leaf)
        return step

    def touching(self, i: int) -> set[int]:
        """Steps that touch memory that step i touches."""
        return {j for s in self.touched(i) for j in self._touching.get(s, ())} - {i}

    def touched(self, i: int) -> frozenset[int]:
        return self.uses[i].reads | self.uses[i].writes

    def adjacent(self, i: int, j: int) -> bool:
        return all(s is None for s in self.steps[i + 1 : j])

    def join(self, at: int, other: int, step: Rows) -> None:
        """``step`` stands at one of the two it was made of."""
        for i in (at, other):
            for storage in self.touched(i):
                self._touching[storage].discard(i)
        self.steps[at], self.steps[other] = step, None
        self.uses[at], self.uses[other] = use(step), Use(frozenset(), frozenset())
        for storage in self.touched(at):
            self._touching[storage].add(at)


def _read(step: Step) -> Iterable[int]:
    if isinstance(step, Branch):
        return (step.predicate.storage,)
    return () if isinstance(step, Loop) else _storages(step.inputs)


def _storages(arrays: Iterable[Array]) -> set[int]:
    return {a.storage for a in arrays}


# -- steps as programs over rows ------------------------------------------------------------------------------


def _shape(step: Step | None) -> tuple[int, ...] | None:
    """Rows and columns of a step that others may join."""
    if isinstance(step, Rows):
        return step.shape
    if not isinstance(step, Kernel) or step.op not in REDUCTIONS or step.epilogue is not None:
        return None
    whole, axes = step.inputs[0].shape, step.attrs["axes"]
    first = len(whole) - len(axes)
    columns = prod(whole[first:])
    if tuple(axes) != tuple(range(first, len(whole))) or not 2 <= columns <= LONGEST or prod(whole[:first]) < 2:
        return None
    return (*whole[:first], columns)


def _reduction(step: Kernel, shape: tuple[int, ...]) -> Rows | None:
    own = _shape(step)
    if own is None or own[-1] != shape[-1] or prod(own) != prod(shape):
        return None
    x, out = step.inputs[0], step.outputs[0]
    fused = Fused((), (x,), (out,), (), None, step.where, step.position, step.phase, step.op)
    arrays = [_at_rows(x, x.shape, shape), _at_rows(out, out.shape, (*shape[:-1], 1))]
    return _rows(fused, (Instruction(step.op, {}, (("in", 0),), ("out", 0)),), (), arrays[:1], arrays[1:], shape)


def _elementwise(step: Fused, shape: tuple[int, ...]) -> Rows | None:
    full = step.outputs[0].shape
    if prod(full) not in (prod(shape), prod(shape[:-1])):
        return None
    seen_as = shape if prod(full) == prod(shape) else (*shape[:-1], 1)
    outputs = [_at_rows(o, full, seen_as) for o in step.outputs]
    inputs = [_at_rows(a, full, seen_as) for a in step.inputs]
    # places are used again in a fused program, here each value has one of its own
    now: dict[Ref, Ref] = {("in", i): ("in", i) for i in range(len(inputs))}
    program: list[Instruction] = []
    temps: list[str] = []
    for i in step.program:
        operands = tuple(now[o] for o in i.operands)
        now[i.result] = i.result
        if i.result[0] == "tmp":
            now[i.result] = ("tmp", len(temps))
            temps.append(step.temps[i.result[1]])
        program.append(Instruction(i.op, i.attrs, operands, now[i.result]))
    written = [i.result for i in program if i.result[0] == "out"]
    if sorted(written) != [("out", i) for i in range(len(outputs))]:
        return None
    return _rows(step, tuple(program), tuple(temps), inputs, outputs, shape)


def _rows(
    step: Fused,
    program: tuple[Instruction, ...],
    temps: tuple[str, ...],
    inputs: Sequence[Array | None],
    outputs: Sequence[Array | None],
    shape: tuple[int, ...],
) -> Rows | None:
    ins, outs = [a for a in inputs if a is not None], [a for a in outputs if a is not None]
    if len(ins) < len(inputs) or len(outs) < len(outputs):
        return None
    part = Part(step.op, step.where, step.position, step.outputs[0].shape, tuple(range(len(outs))))
    return Rows(program, tuple(ins), tuple(outs), temps, shape, (part,), step.where, step.position, step.phase)


def _at_rows(array: Array, full: tuple[int, ...], shape: tuple[int, ...]) -> Array | None:
    """An operand over ``full`` as one over ``shape``, with size 1 along axes on which it stays where it is."""
    found = spread_as(array, full, shape)
    if found is None:
        return None
    own = tuple(n if s else 1 for n, s in zip(found.shape, found.strides, strict=True))
    strides = tuple(s if n != 1 else 0 for n, s in zip(own, found.strides, strict=True))
    return replace(found, shape=own, strides=strides)


def _joined(first: Rows, second: Rows) -> Rows | None:
    """Both programs, one after the other; None if the second needs all rows of the first to be done."""
    if any(overlaps(o, a) for o in second.outputs for a in (*first.inputs, *first.outputs)):
        return None
    inputs = list(first.inputs)
    outs, temps = len(first.outputs), len(first.temps)
    new: dict[Ref, Ref] = {("out", i): ("out", outs + i) for i in range(len(second.outputs))}
    new |= {("tmp", i): ("tmp", temps + i) for i in range(len(second.temps))}
    for i, array in enumerate(second.inputs):
        if any(overlaps(o, array) for o in first.outputs):
            if array not in first.outputs:
                return None
            new["in", i] = ("out", first.outputs.index(array))
            continue
        if array not in inputs:
            inputs.append(array)
        new["in", i] = ("in", inputs.index(array))
    parts = (*first.parts, *(replace(p, outputs=tuple(_place(new, o) for o in p.outputs)) for p in second.parts))
    return replace(
        first,
        program=(*first.program, *(with_places(i, new) for i in second.program)),
        inputs=tuple(inputs),
        outputs=(*first.outputs, *second.outputs),
        temps=(*first.temps, *second.temps),
        parts=tuple(sorted(parts, key=lambda p: p.position)),
    )


def _place(new: dict[Ref, Ref], output: int | None) -> int | None:
    """The number an output has now, None if it is one no more."""
    kind, number = new["out", output] if output is not None else ("tmp", 0)
    return number if kind == "out" else None
