"""What lowering produces: storages, strided arrays on them, and a list of steps with bound arrays.

Storage   a block of memory with a lifetime in schedule positions; temporaries get an arena offset
Array     shape, strides and offset (in elements) on a storage; loop terms move it with an iteration
Kernel    one op on arrays          Fused   an elementwise program over one index space
Rows      an elementwise program with reductions, row after row
Many      equal fused programs on arrays of several sizes, in one pass
Loop      steps run ``length`` times  Branch  one of two step lists, by a predicate
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from graphnet.compiler.ir import ITEMSIZE, Graph, Where

END = 1 << 60


@dataclass(frozen=True, slots=True)
class LoopTerm:
    """Moves an array by ``((k + shift) % modulo) * stride`` elements in iteration ``k`` of ``loop``."""

    loop: int
    stride: int
    shift: int
    modulo: int

    def at(self, k: int) -> int:
        return ((k + self.shift) % self.modulo) * self.stride


@dataclass(frozen=True, slots=True)
class Array:
    """A strided view of a storage; strides and offset count elements."""

    storage: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    terms: tuple[LoopTerm, ...] = ()

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.dtype]

    @property
    def size(self) -> int:
        n = 1
        for s in self.shape:
            n *= s
        return n

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def contiguous(self) -> bool:
        """True if the elements lie in C order without gaps."""
        expected = 1
        for n, s in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and s != expected:
                return self.size == 0
            expected *= n
        return True


@dataclass(slots=True)
class Storage:
    """A block of memory. ``kind``: input param state slot hyper rng constant (homes), temp (in the arena)."""

    id: int
    nbytes: int
    kind: str
    name: str
    where: Where
    first: int = END
    last: int = -1
    level: int = 0
    offset: int = -1
    data: bytes | None = None


HOMES = ("param", "state", "slot", "hyper", "rng")
"""Kinds of storages whose memory outlives the plan."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One op of a fused program; operands and result are ("in" | "out" | "tmp", index)."""

    op: str
    attrs: Mapping[str, Any]
    operands: tuple[tuple[str, int], ...]
    result: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Prologue:
    """An elementwise program whose value a reduction takes at each element of ``shape``, and which is not stored.

    The program's operands stand in the place of the kernel's one, the value of its ("out", 0). ``op``, ``where`` and
    ``position`` are those of the step the program was.
    """

    program: tuple[Instruction, ...]
    temps: tuple[str, ...]
    shape: tuple[int, ...]
    op: str
    where: Where
    position: int


@dataclass(frozen=True, slots=True)
class Epilogue:
    """An elementwise program that takes each finished element of a kernel's result, which is not stored.

    The kernel's operands are the first ``own`` inputs of the step; the program's follow, without its operands
    number ``products``, which are the result (``shape``, ``dtype``), or the parts of equal size that its columns
    are cut into. The step's outputs are the program's. ``op`` and ``where`` are those of the step the program was.
    """

    program: tuple[Instruction, ...]
    temps: tuple[str, ...]
    own: int
    products: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    op: str
    where: Where


@dataclass(frozen=True, slots=True)
class Kernel:
    """One op on arrays, with the scratch memory it asked for."""

    op: str
    attrs: Mapping[str, Any]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    scratch: Array | None
    where: Where
    position: int
    phase: str
    epilogue: Epilogue | None = None
    prologue: Prologue | None = None


@dataclass(frozen=True, slots=True)
class Fused:
    """An elementwise program over the shape of its outputs; ``temps`` are dtypes of block-sized temporaries."""

    program: tuple[Instruction, ...]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    temps: tuple[str, ...]
    scratch: Array | None
    where: Where
    position: int
    phase: str
    op: str = "fused"


@dataclass(frozen=True, slots=True)
class Many:
    """Fused steps of one program in one pass over the elements of all: an optimiser's update of every parameter.

    The ``members`` are independent of each other and keep the positions they had. Their inputs of the numbers
    ``shared`` are one and the same element; all their other arrays are contiguous and as large as their outputs.
    """

    members: tuple[Fused, ...]
    shared: tuple[int, ...]
    where: Where
    position: int
    phase: str
    op: str = "many"

    @property
    def inputs(self) -> tuple[Array, ...]:
        """The shared operands, then those of each member."""
        first = tuple(self.members[0].inputs[i] for i in self.shared)
        return first + tuple(a for m in self.members for i, a in enumerate(m.inputs) if i not in self.shared)

    @property
    def outputs(self) -> tuple[Array, ...]:
        return tuple(a for m in self.members for a in m.outputs)

    @property
    def scratch(self) -> Array | None:
        return None


@dataclass(frozen=True, slots=True)
class Part:
    """A step that a program over rows took in: its results' shape, and which output holds each (None: nothing)."""

    op: str
    where: Where
    position: int
    shape: tuple[int, ...]
    outputs: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """A program that is run to its end on each row of ``shape``, whose last axis is the columns.

    Its instructions are elementwise, or one of REDUCTIONS over the columns; each assigns a place of its own. Arrays
    have the rank of ``shape`` and broadcast to it; an output with one column holds a number a row. ``temps`` are the
    dtypes of values that are nowhere but in a row's work, ``parts`` the steps it was made of.
    """

    program: tuple[Instruction, ...]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    temps: tuple[str, ...]
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    where: Where
    position: int
    phase: str
    op: str = "rows"
    scratch: Array | None = None


REDUCTIONS = ("sum", "max", "min")


@dataclass(frozen=True, slots=True)
class Loop:
    """``length`` iterations of ``body``; ``id`` is what loop terms refer to."""

    id: int
    length: int
    body: tuple[Step, ...]
    where: Where
    position: int
    phase: str
    op: str = "scan"


@dataclass(frozen=True, slots=True)
class Branch:
    """``then`` if the predicate holds, else ``orelse``."""

    predicate: Array
    then: tuple[Step, ...]
    orelse: tuple[Step, ...]
    where: Where
    position: int
    phase: str
    op: str = "cond"


Leaf = Kernel | Fused | Rows
"""Steps that compute."""

Step = Leaf | Many | Loop | Branch


def flat(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step, those inside loops and branches after the one that holds them."""
    for step in steps:
        yield step
        if isinstance(step, Loop):
            yield from flat(step.body)
        elif isinstance(step, Branch):
            yield from flat(step.then)
            yield from flat(step.orelse)


@dataclass(frozen=True)
class MemoryReport:
    """Arena bytes as planned, the largest live set (no plan can be smaller), bytes of homes by kind.

    Inputs are there ``blocks`` times, and counted so.
    """

    arena: int
    lower_bound: int
    total_temporaries: int
    homes: Mapping[str, int]
    peak_position: int
    blocks: int = 1


@dataclass(frozen=True)
class Plan:
    """A compiled graph: what a backend executes and dumps show.

    ``leaves`` maps a leaf's name to its array, ``outputs`` a result's name to its array. ``target`` names the
    backend it was lowered for, whose scratch and steps it has.
    """

    graph: Graph
    steps: tuple[Step, ...]
    storages: tuple[Storage, ...]
    leaves: Mapping[str, Array]
    outputs: Mapping[str, Array]
    memory: MemoryReport
    phases: tuple[str, ...] = ()
    target: str = "numpy"

    def phase(self, name: str) -> tuple[Step, ...]:
        """The steps of one phase: forward, backward or update."""
        return tuple(s for s in self.steps if s.phase == name)


def phases_apart(plan: Plan) -> tuple[str, ...]:
    """The phases that are parts of their own besides "", which is everything: those of a plan run by phases."""
    changes = sum(a.phase != b.phase for a, b in itertools.pairwise(plan.steps))
    return plan.phases if len(plan.phases) > 1 and changes == len(plan.phases) - 1 else ()


def slot(array: Array, loop: int, length: int, reverse: bool) -> Array:
    """Entry of the leading axis that iteration ``k`` sees: k, or length-1-k when reversed."""
    stride = array.strides[0]
    start, step = (array.offset + (length - 1) * stride, -stride) if reverse else (array.offset, stride)
    term = LoopTerm(loop, step, 0, max(length, 1))
    return replace(array, shape=array.shape[1:], strides=array.strides[1:], offset=start, terms=(*array.terms, term))
