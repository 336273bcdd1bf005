"""What a plan becomes for a GPU: CUDA text, and the launches that run it, in order.

    Launch    a kernel of the text          Gemm    a product left to cuBLAS

Loops over few iterations are unrolled into launches; others are kernels that hold the loop. A device runs the
launches of a part one after another, on one stream or captured as one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphnet.compiler.schedule import Storage

NOTES = 8
"""Words of ``net.note`` before the ring of losses: failed, step, value, rows, runs, runs before
the one that failed, and two that are free."""

RING = 1024
"""Losses that the device keeps: run number r leaves its loss at place r % RING."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel on ``grid`` blocks of THREADS threads.

    Its parameters are ``struct net`` by value, then ``iterations`` as ints. ``dynamic`` bytes of shared memory are
    asked for at launch. A ``cooperative`` kernel meets at grid-wide barriers: all its blocks must be resident at
    once, so a device may start fewer than ``grid``, which changes no result. ``position`` is that of the (first)
    step of the schedule that it carries out, ``steps`` the positions of all.
    """

    kernel: str
    grid: int
    iterations: tuple[int, ...] = ()
    dynamic: int = 0
    cooperative: bool = False
    steps: tuple[int, ...] = ()

    @property
    def position(self) -> int:
        return self.steps[0] if self.steps else -1


@dataclass(frozen=True, slots=True)
class Matrix:
    """A row-major matrix, or its transpose: bytes ``offset`` into a storage, ``stride`` elements from row to row.

    Matrix number b of a batch begins ``step`` elements times b further on.
    """

    storage: int
    offset: int
    stride: int
    transposed: bool = False
    step: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A row of numbers that lie in one piece, bytes ``offset`` into a storage."""

    storage: int
    offset: int


@dataclass(frozen=True, slots=True)
class Gemm:
    """out (m, n) = left (m, k) @ right (k, n), ``batch`` of them, of one dtype: "float32" or "float64".

    ``transposed`` matrices are stored the other way round; out never is. What the library does besides, if
    ``epilogue`` says so, with a ``row`` of n numbers of the same dtype:

    bias, relu, relu_bias    out = product + row, relu(product), relu(product + row)
    bgrada                   row = the sum of the rows of right
    """

    m: int
    n: int
    k: int
    batch: int
    dtype: str
    left: Matrix
    right: Matrix
    out: Matrix
    steps: tuple[int, ...] = ()
    epilogue: str = ""
    row: Row | None = None

    @property
    def position(self) -> int:
        return self.steps[0] if self.steps else -1


@dataclass(frozen=True)
class Source:
    """The text, the storages that the table H of ``struct net`` is to be filled with, and the launches of each part.

    ``parts`` has "" for everything (with the loss noted and counters moved on at the end) and, for a plan run by
    phases, one for each phase.

    ``pieces`` are the text cut into files that can be compiled at the same time: each kernel is in one of them.

    ``struct net`` in the text is ``{char *A; int64_t *note; uint32_t *barrier; char *H[ENTRIES];}``, passed by value:
    the arena; NOTES + RING words, zero at first; two words for grid-wide barriers, zero at first; the table. For more
    than ``BY_VALUE`` entries H is instead ``char **H``, a table in device memory.
    """

    text: str
    table: tuple[Storage, ...]
    parts: Mapping[str, tuple[Launch | Gemm, ...]]
    pieces: tuple[str, ...] = ()

    @property
    def by_value(self) -> bool:
        return len(self.table) <= BY_VALUE


BY_VALUE = 400
"""Table entries that fit kernel parameters (4 kB)."""
