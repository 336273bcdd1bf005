"""What kernel writers are given and what they give back: views of memory in, phases of C text out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

CTYPES = {
    "float32": "float",
    "float64": "double",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
    "bool": "uint8_t",
}
ITEMSIZE = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "uint8": 1, "uint32": 4, "uint64": 8, "bool": 1}


class Epilogue(Protocol):
    """(index variables, one for each axis of the result; the value there) -> statements that use or store it.

    A product in groups has a value for each group, and indices of the columns of one.
    """

    def __call__(self, index: Sequence[str], /, *values: str) -> str: ...


@dataclass(frozen=True, slots=True)
class View:
    """A strided array in generated code.

    ``name`` is a C pointer of ctype * to the element at index 0 everywhere; strides count elements and may be
    0 or negative. Two views with one name are the same memory; others that a step writes do not overlap.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def ctype(self) -> str:
        return CTYPES[self.dtype]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * ITEMSIZE[self.dtype]

    @property
    def contiguous(self) -> bool:
        """True if the elements lie in C order without gaps."""
        expected = 1
        for n, s in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and s != expected:
                return self.size == 0
            expected *= n
        return True

    def at(self, *index: str) -> str:
        """The C expression of the element at these index expressions."""
        terms = [f"({i}) * {s}L" if s != 1 else f"({i})" for i, s in zip(index, self.strides, strict=True) if s]
        return f"{self.name}[{' + '.join(terms) or '0'}]"


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


Attrs = Mapping[str, Any]
Writer = Callable[[Sequence[View], Sequence[View], Attrs, Job], list[Phase]]
"""(outs, ins, attrs, job) -> phases. Shapes are static; every loop bound is a number in the text."""

ScratchSize = Callable[[Sequence[View], Sequence[View], Attrs, int], int]
"""(outs, ins, attrs, threads) -> bytes of shared scratch that the writer's phases use."""


def elements_cost(count: int, per_element: float = 0.1) -> float:
    """Nanoseconds for ``count`` elements."""
    return count * per_element
