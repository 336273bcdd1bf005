"""What writers of C kernels are told besides their operands, and what they give back: phases of C text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphnet.kernels.text.view import Attrs, Epilogue, View


@dataclass(frozen=True, slots=True)
class Job:
    """What a writer knows besides its operands.

    ``threads`` run the step (a constant of the generated code); ``scratch`` is the name of a ``char *`` at a
    64-byte boundary with as many bytes as the op's scratch function asked for, shared by all threads.
    ``epilogue``, if given, takes each finished element of the result instead of a plain store.
    ``unique`` is a prefix for names outside functions, different for every step.
    """

    threads: int = 1
    scratch: str = "scratch"
    epilogue: Epilogue | None = None
    unique: str = "k"


@dataclass(frozen=True, slots=True)
class Phase:
    """One parallel piece of a step; a step's phases run one after another with a barrier between them.

    ``body`` are C statements of a function with parameters ``int tid, long lo, long hi``: it does the units lo
    to hi - 1 of ``units`` and may use ``tid`` (0 to threads - 1) to find scratch of its own. What it computes
    for a unit must not depend on lo, hi or tid, bit for bit. ``axes`` has an entry for each of outs, then ins:
    the axis along which unit u touches only the u-th of ``units`` equal parts of that array, or None if a unit
    may touch any of it. ``helpers`` are definitions at file scope that the body needs (a text that occurs twice
    is written once). ``cost`` estimates nanoseconds on one core; ``note`` says in a few words how it is done.
    ``fails`` is true if the body may report a bad index with GN_FAIL(value, rows).
    """

    body: str
    units: int = 1
    axes: tuple[int | None, ...] = ()
    helpers: tuple[str, ...] = ()
    cost: float = 0.0
    note: str = ""
    fails: bool = False


Writer = Callable[[Sequence[View], Sequence[View], Attrs, Job], list[Phase]]
"""(outs, ins, attrs, job) -> phases. Shapes are static; every loop bound is a number in the text."""

ScratchSize = Callable[[Sequence[View], Sequence[View], Attrs, int], int]
"""(outs, ins, attrs, threads) -> bytes of shared scratch that the writer's phases use."""


def elements_cost(count: int, per_element: float = 0.1) -> float:
    """Nanoseconds for ``count`` elements."""
    return count * per_element
