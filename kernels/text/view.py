"""Views of memory as generated text names them, and what takes the elements of a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

Attrs = Mapping[str, Any]


class Epilogue(Protocol):
    """(index variables, one for each axis of the result; the value there) -> statements that use or store it.

    A product in groups has a value for each group, and indices of the columns of one. ``how`` is for those that take
    more, see ``program.Finish``.
    """

    def __call__(self, index: Sequence[str], /, *values: str, **how: bool) -> str: ...


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
