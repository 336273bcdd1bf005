"""What writers of CUDA kernels are told besides their operands, and what they give back: phases of CUDA text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphnet.kernels.text.view import Attrs, Epilogue, View

THREADS = 256
"""Threads of every block."""

WAVE = 128
"""Units of equal size that a writer aims at: about one for each multiprocessor of a large GPU. A constant, so that
the order of sums is the same on all of them."""

SHARED = 48 * 1024
"""Bytes of shared memory that a phase may use."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a writer knows besides its operands.

    ``scratch`` is the name of a ``char *`` at a 256-byte boundary with as many bytes as the op's scratch function
    asked for. ``epilogue``, if given, takes each finished element of the result instead of a plain store.
    ``unique`` is a prefix for names outside functions, different for every step. ``tensor``: how many products
    tensor cores may compute for one of float32, 1 of operands rounded to TF32, or 3 of operands in two such parts.
    """

    scratch: str = "scratch"
    epilogue: Epilogue | None = None
    unique: str = "k"
    tensor: int = 0


@dataclass(frozen=True, slots=True)
class Phase:
    """One parallel piece of a step; a step's phases run one after another, each sees all that those before wrote.

    ``body`` are statements that all THREADS threads of a block run for one unit, the ``const int unit`` from 0 to
    ``units`` - 1; threads differ by ``threadIdx.x``. Which block does which unit, and when, is not known: a unit
    must not read what another one of the phase writes, and what it computes must not depend on the grid. All
    threads reach the end of the body (no return), and every ``__syncthreads()`` in it. It may use ``shared`` bytes
    at ``char gn_shared[]``, 16-byte aligned and free at its start. ``helpers`` are definitions at file scope (one
    that occurs twice is written once); ``note`` says in a few words how it is done. ``fails`` is true if the body
    may report a bad index with GN_FAIL(value, rows).

    ``load``, if given, fills ``resident`` bytes at ``char gn_resident[]`` for the body of the same unit, from the ins
    of the numbers ``loaded`` alone. It runs in front of the body; in a loop that changes none of these ins and where
    every block has one unit, in front of the loop, and what it loaded stays on chip.
    """

    body: str
    units: int
    shared: int = 0
    resident: int = 0
    load: str = ""
    loaded: tuple[int, ...] = ()
    helpers: tuple[str, ...] = ()
    note: str = ""
    fails: bool = False


Writer = Callable[[Sequence[View], Sequence[View], Attrs, Job], list[Phase]]
"""(outs, ins, attrs, job) -> phases. Shapes are static; every loop bound is a number in the text."""

ScratchSize = Callable[..., int]
"""(outs, ins, attrs) -> bytes of scratch that the writer's phases use."""


def index_type(*views: View) -> str:
    """The C type for element indices into these views: int where every offset fits."""
    reach = max((sum(abs(s) * (n - 1) for n, s in zip(v.shape, v.strides, strict=True)) for v in views), default=0)
    large = max((v.size for v in views), default=0)
    return "int" if max(reach, large) < 1 << 31 else "long long"
