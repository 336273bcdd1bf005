"""Where threads must wait for each other: a barrier only where data of one thread's share meet another thread.

The pieces of a step are run by all threads, each on its share of the units, or by thread 0 alone. Two pieces
may follow each other without a barrier if what both touch (and one writes) is touched by one thread only:
both run on thread 0, or both cut the memory into the same windows, unit by unit:

    window u of an access with stride S and U units:   [origin + u * S, origin + (u + 1) * S)

Memory is compared by address, since the plan gives the bytes of a dead value to a new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from graphnet.compiler.schedule import Array, Leaf, Many
from graphnet.compiler.strides import slots_apart, span
from graphnet.compiler.text.memory import Memory

FAILED = -2
"""The space of the note that an index was out of range: homes are written after all that may note one."""

Tag = tuple[object, ...] | None
"""What makes two accesses of overlapping memory the same thread's; None is like nothing else."""


@dataclass(frozen=True)
class Access:
    """Bytes [low, high) of a piece of memory, the arena (-1) or a storage; ``nbytes`` of them at a time.

    Inside loops these are the bytes of all iterations. ``moves`` are what each does to the bytes ``at``, as a
    ``LoopTerm`` says it: (loop, modulo, bytes from slot to slot, shift).
    """

    space: int
    low: int
    high: int
    tag: Tag
    write: bool
    nbytes: int = 0
    at: tuple[int, int] | None = None
    moves: tuple[tuple[int, int, int, int], ...] = ()

    def meets(self, other: Access) -> bool:
        """True if the bytes overlap and one of the two writes."""
        return (
            self.space == other.space
            and (self.write or other.write)
            and self.low < other.high
            and other.low < self.high
        )

    def meets_now(self, other: Access) -> bool:
        """As ``meets``, but in one and the same iteration of the loops that move both."""
        apart = slots_apart(self.moves, other.moves) if self.meets(other) else None
        if apart is None:
            return self.meets(other)
        (low, high), (first, last) = self.at or (self.low, self.high), other.at or (other.low, other.high)
        return any(low < last + d and first + d < high for d in apart)

    @property
    def always(self) -> Access:
        """The access as it is over all iterations."""
        return replace(self, at=None, moves=())


@dataclass(eq=False)
class Piece:
    """A phase of a step, as the threads see it; ``barrier`` is set if they must meet before it."""

    accesses: tuple[Access, ...]
    parallel: bool
    barrier: bool = False


@dataclass(eq=False)
class Repeat:
    """Pieces inside a loop; ``barrier`` is set if threads must meet before its first iteration."""

    body: list[Item] = field(default_factory=list)
    barrier: bool = False


@dataclass(eq=False)
class Choice:
    """Two sequences of pieces, of which one is run; ``test`` reads the predicate on every thread."""

    test: Piece
    sides: tuple[list[Item], list[Item]]


Item = Piece | Repeat | Choice
Pending = tuple[Piece, ...]


def place_barriers(items: Sequence[Item]) -> None:
    """Set ``barrier`` on the pieces that need one."""
    while _walk(items, ())[1]:
        pass


def clear(items: Sequence[Item]) -> None:
    """Take back all barriers."""
    for item in items:
        if isinstance(item, Repeat):
            item.barrier = False
            clear(item.body)
    for piece in pieces(items):
        piece.barrier = False


def _walk(items: Sequence[Item], pending: Pending) -> tuple[Pending, bool]:
    """Pieces since the last barrier after ``items``, and whether a barrier was added."""
    added = False
    for item in items:
        if isinstance(item, Repeat):
            inside = list(pieces(item.body))
            if not item.barrier and any(_conflict(before, piece) for before in pending for piece in inside):
                item.barrier = added = True
            pending = () if item.barrier else pending
            for _ in range(2):  # the second time round meets what the first left
                pending, more = _walk(item.body, pending)
                added |= more
        elif isinstance(item, Choice):
            pending, more = _step(item.test, pending)
            first, a = _walk(item.sides[0], pending)
            second, c = _walk(item.sides[1], pending)
            pending = tuple(dict.fromkeys((*first, *second)))
            added |= more or a or c
        else:
            pending, more = _step(item, pending)
            added |= more
    return pending, added


def _step(piece: Piece, pending: Pending) -> tuple[Pending, bool]:
    added = False
    if not piece.barrier and any(_conflict(before, piece) for before in pending):
        piece.barrier = added = True
    if piece.barrier:
        pending = ()
    return tuple(dict.fromkeys((*pending, piece))), added


def _conflict(before: Piece, piece: Piece) -> bool:
    serial = not before.parallel and not piece.parallel
    for a in before.accesses:
        for c in piece.accesses:
            if FAILED in (a.space, c.space):
                # every thread looks at the note, and all must see the same there, also where thread 0 runs both
                if a.space == c.space and a.write != c.write:
                    return True
            elif not serial and a.meets(c) and (a.tag is None or a.tag != c.tag or before.parallel != piece.parallel):
                return True
    return False


def pieces(items: Sequence[Item]) -> Iterator[Piece]:
    """All pieces of a sequence."""
    for item in items:
        if isinstance(item, Repeat):
            yield from pieces(item.body)
        elif isinstance(item, Choice):
            yield item.test
            for side in item.sides:
                yield from pieces(side)
        else:
            yield item


def access(memory: Memory, array: Array, write: bool, axis: int | None, units: int) -> Access | None:
    """The access of a phase to an array that unit u touches part u of along ``axis``; None if it has no bytes."""
    if array.size == 0:
        return None
    storage = memory.storage(array)
    size = array.itemsize
    start = array.offset * size + (storage.offset if storage.kind == "temp" else 0)
    low, high = span(array)
    moves = [_moves(memory, t.loop, t.stride * size, t.shift, t.modulo) for t in array.terms]
    space = -1 if storage.kind == "temp" else storage.id
    bytes_low = start + low + sum(m[0] for m in moves)
    bytes_high = start + high + sum(m[1] for m in moves)
    tag = None
    if axis is not None and units > 1 and array.shape[axis] % units == 0:
        tag = _windows(memory, array, start, axis, units)
    terms = sorted((t.loop, t.modulo, t.stride * size, t.shift) for t in array.terms)
    return Access(space, bytes_low, bytes_high, tag, write, array.nbytes, (start + low, start + high), tuple(terms))


def accesses(
    memory: Memory,
    step: Leaf | Many,
    axes: Sequence[int | None] = (),
    units: int = 1,
    scratch: Tag = None,
    named: Sequence[bool] = (),
) -> tuple[Access, ...]:
    """What a phase of a step touches: outs and ins, in whose ``axes`` its units lie, and scratch, by its tag.

    ``named``, if given, says which outs, then ins, then whether scratch are touched at all. Constants are left out, as
    nothing writes them.
    """
    arrays = [*((a, True) for a in step.outputs), *((a, False) for a in step.inputs)]
    named = named or (True,) * (len(arrays) + 1)
    ways = zip(arrays, axes or (None,) * len(arrays), named[:-1], strict=True)
    found = [access(memory, a, write, axis, units) for (a, write), axis, touched in ways if touched]
    if step.scratch is not None and named[-1] and (own := access(memory, step.scratch, True, None, 1)):
        found.append(replace(own, tag=scratch))
    return tuple(a for a in found if a and (a.write or a.space < 0 or not memory.is_constant(a.space)))


def _moves(memory: Memory, loop: int, stride: int, shift: int, modulo: int) -> tuple[int, int]:
    """The least and the largest displacement by a loop term, in bytes."""
    last = memory.lengths[loop] - 1 + shift
    ends = (0, (modulo - 1) * stride) if last >= modulo else (shift * stride, last * stride)
    return min(ends), max(ends)


def _windows(memory: Memory, array: Array, start: int, axis: int, units: int) -> Tag:
    """The windows the units of an access lie in, or None if they do not keep to windows."""
    size = array.itemsize
    part = array.shape[axis] // units
    stride = array.strides[axis] * size * part
    if stride <= 0:
        return None
    inner = [(n if i != axis else part, s) for i, (n, s) in enumerate(zip(array.shape, array.strides, strict=True))]
    low = sum(min((n - 1) * s * size, 0) for n, s in inner)
    high = sum(max((n - 1) * s * size, 0) for n, s in inner) + size
    for t in array.terms:
        step = t.stride * size
        if step % (stride * units):
            least, most = _moves(memory, t.loop, step, t.shift, t.modulo)
            low, high = low + least, high + most
    first = start + low
    # the storage's own start is where rows of this stride begin
    base = memory.storage(array).offset if memory.storage(array).kind == "temp" else 0
    inside = (first - base) % stride
    if inside + (high - low) > stride:
        return None
    return ("windows", stride, units, (first - inside) % (stride * units))
