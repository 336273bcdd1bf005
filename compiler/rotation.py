"""A loop turned so that what ends an iteration and what begins the next one stand together.

    loop k < L:                               fused   g0 = dh0 * ...
      fused   g = dh * ...                    loop k < L - 1:
      matmul  dh' = g @ w.T        ->           matmul  p = g @ w.T
                                                fused   g' = p * ...      (merge_epilogues makes the two one)
                                              matmul  dh' = g @ w.T       (left out if nobody reads it)

The backward half of a recurrent cell is of this kind: elementwise work on a carry, then the product that makes the next
value of it. Turned, the product's tiles do the elementwise work, and where every step waits for the whole device an
iteration waits once instead of twice. If it is an elementwise step behind the product that makes the carry, say
dh' = p + d, that and what begins the next iteration become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from graphnet.compiler.epilogues import as_fused
from graphnet.compiler.ir import Type
from graphnet.compiler.merging import readers, use
from graphnet.compiler.program import clashes, with_places
from graphnet.compiler.schedule import END, Array, Branch, Fused, Kernel, Loop, Step, Storage
from graphnet.compiler.strides import contiguous_strides

FEWEST = 3
"""Iterations from which on a loop is turned."""

Plain = Kernel | Fused


def rotate_loops(
    steps: Sequence[Step], storages: list[Storage], kept: set[int], library: Callable[[Kernel], bool]
) -> list[Step]:
    """``steps`` with every loop turned whose product can then take what the next iteration begins with.

    ``kept`` are storages that results are read from after the last step. What a ``library`` computes takes nothing.
    Done before steps are merged, while positions follow their order; positions and lifetimes are renewed.
    """
    return _Rotation(storages, {**readers(steps), **dict.fromkeys(kept, END)}, library).run(steps)


class _Rotation:
    """Goes through the steps in order; ``_grown`` is how many there are more so far."""

    def __init__(self, storages: list[Storage], read: dict[int, int], library: Callable[[Kernel], bool]) -> None:
        self._storages = storages
        self._read = read
        self._library = library
        self._grown = 0

    def run(self, steps: Sequence[Step]) -> list[Step]:
        """The steps with their loops turned, and positions behind these moved on."""
        found: list[Step] = []
        for old in steps:
            step = replace(old, position=old.position + self._grown)
            if isinstance(step, Branch):
                step = replace(step, then=tuple(self.run(step.then)), orelse=tuple(self.run(step.orelse)))
            if isinstance(step, Loop):
                step = replace(step, body=tuple(self.run(step.body)))
                found += self._turned(step)
            else:
                found.append(step)
        return found

    def _turned(self, loop: Loop) -> list[Step]:
        """The first steps of the first iteration, a shorter loop, the rest of the last one; or the loop itself."""
        body = [s for s in loop.body if isinstance(s, Plain)]
        if loop.length < FEWEST or len(body) < len(loop.body):
            return [loop]
        pair = next((p for p in _pairs(body) if self._fits(body, *p, loop.id)), None)
        if pair is None:
            return [loop]
        number, maker = pair[0] + 1, body[pair[1]]
        early, late, carry = body[:number], body[number:], maker.outputs[0]
        unread = [maker, *(s for s in late if _is_product(s) and s.outputs[0] in maker.inputs)]
        ended = [s for s in late if s not in unread or self._read[carry.storage] > 1]
        own = self._make_room(loop, carry, number + len(ended))
        first = [_at(s, loop.id, 0) for s in early]
        following = [_replaced(_next(s, loop.id), carry, own) for s in early]
        made = _replaced(maker, carry, own)
        if _is_product(maker):
            inside = [made if s is maker else s for s in late] + following
        else:
            inside = [s for s in late if s is not maker] + [_joined(made, following[0], own)]
        last = [_at(s, loop.id, loop.length - 1) for s in self._with_own(ended, late, early, carry)]
        numbers = iter(range(loop.position, loop.position + len(inside) + number + len(ended)))
        first = [replace(s, position=next(numbers)) for s in first]
        inside = [replace(s, position=next(numbers)) for s in inside]
        last = [replace(s, position=next(numbers)) for s in last]
        shorter = replace(loop, length=loop.length - 1, body=tuple(inside), position=inside[0].position)
        return [*first, shorter, *last]

    def _fits(self, body: Sequence[Plain], reader: int, maker: int, loop: int) -> bool:
        """Whether step ``maker`` makes the carry that only the elementwise step ``reader`` takes, whole."""
        step, fused = body[maker], as_fused(body[reader])
        assert fused is not None
        carry = step.outputs[0]
        s, before = self._storages[carry.storage], _moved(carry, loop, -1)
        if len(carry.terms) != 1 or carry.terms[0].modulo != 2 or s.kind != "temp":
            return False
        products = [p for p in body if _is_product(p) and (p is step or p.outputs[0] in step.inputs)]
        if any(self._library(p) for p in products if isinstance(p, Kernel)):
            return False
        if not _is_product(step) and not (products and _may_join(body, reader, maker, loop)):
            return False
        if not carry.contiguous or carry.size != fused.outputs[0].size or fused.inputs.count(before) != 1:
            return False
        uses = [use(step) for step in body]
        return [i for i, u in enumerate(uses) if s.id in u.reads] == [reader] and [
            i for i, u in enumerate(uses) if s.id in u.writes
        ] == [maker]

    def _with_own(
        self, ended: Sequence[Plain], late: Sequence[Plain], early: Sequence[Plain], carry: Array
    ) -> list[Plain]:
        """The steps with memory of their own for what an iteration keeps to itself: each value has one writer then."""
        touched = [{i for s in part for i in use(s).reads | use(s).writes} for part in (late, early)]
        own: dict[int, int] = {}
        for number in sorted(touched[0] - touched[1]):
            s = self._storages[number]
            if s.kind == "temp" and s.level > self._storages[carry.storage].level:
                own[number] = len(self._storages)
                self._storages.append(replace(s, id=len(self._storages)))
        return [_changed(s, lambda a: replace(a, storage=own.get(a.storage, a.storage))) for s in ended]

    def _make_room(self, loop: Loop, carry: Array, more: int) -> Array:
        """Memory for what the product hands on inside the loop; what the loop touches lives to the end of it all."""
        start, end = loop.position, max(s.position for s in loop.body)
        for s in self._storages:
            if end < s.first < END:  # the first use of what lies inside stays where it is
                s.first += more
            if start <= s.last <= end:
                s.last = end + more
            elif end < s.last < END:
                s.last += more
        self._grown += more
        of = self._storages[carry.storage]
        type_ = Type(carry.shape, carry.dtype)
        own = Storage(
            len(self._storages), type_.nbytes, "temp", "product", of.where, start, end + more, level=of.level + 1
        )
        self._storages.append(own)
        return Array(own.id, carry.dtype, carry.shape, contiguous_strides(carry.shape))


def _is_product(step: Plain) -> bool:
    return isinstance(step, Kernel) and step.op == "matmul" and len(step.outputs[0].shape) == 2


def _pairs(body: Sequence[Plain]) -> list[tuple[int, int]]:
    """An elementwise step, with none but such before it, and what may make its carry behind it."""
    found = []
    for reader, step in enumerate(body):
        if as_fused(step) is None:
            break
        found += [
            (reader, maker)
            for maker, other in enumerate(body[reader + 1 :], reader + 1)
            if _is_product(other) or as_fused(other) is not None
        ]
    return found


def _may_join(body: Sequence[Plain], reader: int, maker: int, loop: int) -> bool:
    """Whether an elementwise step may wait for the end of an iteration, and be one with what begins the next."""
    step = body[maker]
    made = {a.storage for a in step.inputs}
    if reader or len(step.outputs) != 1 or any(use(s).writes & made for s in body[maker + 1 :]):
        return False
    joined = _joined(step, _next(body[reader], loop), step.outputs[0])
    return not any(clashes(joined.program, joined.inputs, out, i) for i, out in enumerate(joined.outputs))


def _joined(first: Plain, second: Plain, value: Array) -> Fused:
    """Two elementwise steps as one; the result of the first, which only the second reads, is stored nowhere."""
    one, two = as_fused(first), as_fused(second)
    assert one is not None
    assert two is not None
    at, temps = two.inputs.index(value), len(one.temps)
    others = [a for i, a in enumerate(two.inputs) if i != at]
    places: dict[tuple[str, int], tuple[str, int]] = {("out", 0): ("tmp", temps)}
    program = [with_places(i, places) for i in one.program]
    places = {("tmp", t): ("tmp", temps + 1 + t) for t in range(len(two.temps))}
    places |= {("in", i): ("in", len(one.inputs) + i - (i > at)) for i in range(len(two.inputs))}
    places["in", at] = ("tmp", temps)
    program += (with_places(i, places) for i in two.program)
    return replace(
        two, program=tuple(program), inputs=(*one.inputs, *others), temps=(*one.temps, value.dtype, *two.temps)
    )


def _changed(step: Plain, change: Callable[[Array], Array]) -> Plain:
    """The step with other arrays."""
    scratch = None if step.scratch is None else change(step.scratch)
    return replace(
        step, inputs=tuple(map(change, step.inputs)), outputs=tuple(map(change, step.outputs)), scratch=scratch
    )


def _replaced(step: Plain, carry: Array, own: Array) -> Plain:
    return _changed(step, lambda a: own if a == carry else a)


def _next(step: Plain, loop: int) -> Plain:
    """What the step is in the iteration that follows."""
    return _changed(step, lambda a: _moved(a, loop, 1))


def _at(step: Plain, loop: int, k: int) -> Plain:
    """What the step is in iteration ``k``, for a place outside the loop."""

    def fixed(array: Array) -> Array:
        offset = array.offset + sum(t.at(k) for t in array.terms if t.loop == loop)
        return replace(array, offset=offset, terms=tuple(t for t in array.terms if t.loop != loop))

    return _changed(step, fixed)


def _moved(array: Array, loop: int, by: int) -> Array:
    """The array so many iterations later."""
    terms = (replace(t, shift=(t.shift + by) % t.modulo) if t.loop == loop else t for t in array.terms)
    return replace(array, terms=tuple(terms))
