"""Lines of C for loops over images: what convolution and pooling share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.c.phase import Phase, elements_cost
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Attrs, View

_BLOCK = 1024  # elements of a row buffer: some of these fit the first cache together
WIDEST = 4096  # elements of a row buffer, at most: it lies on the stack
_UNROLLED = 8  # columns of a window, at most, whose stores are written out

RANGES = """\
/* Outputs o in [first, stop) are those below count for which o * stride + offset lies in [0, size). */
GN_INLINE long gn_met_first(long offset, long stride)
{
    return offset < 0 ? (stride - 1 - offset) / stride : 0;
}
GN_INLINE long gn_met_stop(long size, long count, long offset, long stride)
{
    const long stop = offset < size ? (size - 1 - offset) / stride + 1 : 0;
    return stop < count ? stop : count;
}
"""


def indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" if line else line for line in lines]


def block(head: str, lines: Iterable[str]) -> list[str]:
    """A statement with its body, in braces unless that is one line."""
    inner = indent(lines)
    return [head, *inner] if len(inner) == 1 else [f"{head} {{", *inner, "}"]


def loop(variable: str, count: int | str, lines: Iterable[str], step: int | str = 1) -> list[str]:
    """A loop from 0 to count."""
    advance = f"++{variable}" if step == 1 else f"{variable} += {step}"
    return block(f"for (long {variable} = 0; {variable} < {count}; {advance})", lines)


def downwards(variable: str, count: int, lines: Iterable[str]) -> list[str]:
    """A loop from count - 1 to 0."""
    return block(f"for (long {variable} = {count - 1}; {variable} >= 0; --{variable})", lines)


def term(index: str, stride: int, count: int = 2) -> str:
    """index * stride, or nothing where that is 0: where an axis of ``count`` elements has only one."""
    return "" if stride == 0 or count == 1 else index if stride == 1 else f"{index} * {stride}L"


def total(*terms: str) -> str:
    """The sum of the terms that are there."""
    return " + ".join(t for t in terms if t) or "0"


def round_up(n: int, to: int) -> int:
    return -(-n // to) * to


def divisor(n: int, most: int) -> int:
    """The largest divisor of n that is not above ``most``."""
    return next(d for d in range(max(1, min(n, most)), 0, -1) if n % d == 0)


class Scratch:
    """Pieces of memory of one thread, behind ``shared`` bytes for all: names, and where they are."""

    def __init__(self, shared: int = 0) -> None:
        self.shared, self.size = round_up(shared, 64), 0
        self.pieces: list[tuple[str, str, int]] = []

    def add(self, ctype: str, name: str, count: int, itemsize: int) -> None:
        self.pieces.append((ctype, name, self.size))
        self.size += round_up(count * itemsize, 64)

    def total(self, threads: int) -> int:
        return self.shared + threads * self.size

    def declare(self, scratch: str, lines: Sequence[str]) -> list[str]:
        """Pointers to the pieces that lines use."""
        text = "\n".join(lines)
        return [
            f"{ctype} *{name} = ({ctype} *)({scratch} + {self.shared + offset} + tid * {self.size}L);"
            for ctype, name, offset in self.pieces
            if re.search(rf"\b{name}\b", text)
        ]


def in_order(view: View, axes: slice) -> bool:
    return View(view.name, view.dtype, view.shape[axes], view.strides[axes]).contiguous


@dataclass(frozen=True)
class Windows:
    """Windows of the image x, and any view with the shape of their results."""

    x: View
    out: View
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    @property
    def span(self) -> int:
        """Columns that a row of windows covers, with padding."""
        return (self.out.shape[3] - 1) * self.stride[1] + self.kernel[1]

    def inside(self, *axes: int) -> bool:
        """No window reaches into padding along these axes: 0 is down, 1 along."""
        ends = ((self.out.shape[2 + d] - 1) * self.stride[d] + self.kernel[d] for d in axes)
        return all(self.padding[d][0] == 0 and end <= self.x.shape[2 + d] for d, end in zip(axes, ends, strict=True))

    @property
    def some_missing(self) -> bool:
        """A window may lie in padding altogether."""
        starts = ((self.out.shape[2 + d] - 1) * self.stride[d] - self.padding[d][0] for d in (0, 1))
        late = any(start >= size for start, size in zip(starts, self.x.shape[2:], strict=True))
        return late or any(self.padding[d][0] >= self.kernel[d] for d in (0, 1))

    @property
    def disjoint(self) -> bool:
        return all(s >= k for k, s in zip(self.kernel, self.stride, strict=True))

    @property
    def row_by_row(self) -> bool:
        """Windows are disjoint, inside, and each row of them covers whole rows of the image."""
        whole = self.kernel[1] == self.stride[1] and self.out.shape[3] * self.kernel[1] == self.x.shape[3]
        return whole and self.disjoint and self.inside(0, 1)

    @property
    def few_rows(self) -> bool:
        """Windows are row_by_row, small, and their rows fit a buffer."""
        return self.row_by_row and max(self.kernel) <= _UNROLLED and self.span <= WIDEST

    @property
    def tiles(self) -> bool:
        """Every element of the image lies in exactly one window."""
        return self.row_by_row and self.out.shape[2] * self.kernel[0] == self.x.shape[2]

    @property
    def axis(self) -> int:
        """What is dealt to threads: images, or the channels of a single large one."""
        return 1 if self.x.shape[0] == 1 and self.x.size > 1 << 16 else 0

    @property
    def channels(self) -> int:
        """Channels of a unit."""
        return 1 if self.axis else self.x.shape[1]

    @property
    def rows(self) -> int:
        """Output rows of a unit."""
        return self.channels * self.out.shape[2]

    @property
    def rows_at_once(self) -> int:
        """Output rows of a block: a divisor of all rows if one is large enough, so that loops have fixed lengths."""
        most = max(1, min(self.rows, _BLOCK // max(1, self.span)))
        return next((r for r in range(most, most // 2, -1) if self.rows % r == 0), most)

    def blocks(self, lines: Iterable[str]) -> list[str]:
        """A loop over blocks of ``rows`` output rows from row ``first``."""
        n, every = self.rows_at_once, self.rows
        rest = f"{every} - first < {n} ? {every} - first : {n}" if every % n else str(n)
        return loop("first", every, [f"const long rows = {rest};", *lines], n)

    def pointer(self, name: str, view: View, written: bool = False) -> str:
        """Declares what unit u has of a view."""
        start = total(view.name, term("u", view.strides[self.axis]))
        return f"{'' if written else 'const '}{view.ctype} *{name} = {start};"

    def packed(self, *views: View) -> bool:
        """What a unit has of each view lies in order, without gaps."""
        return all(in_order(view, slice(self.axis + 1, None)) for view in views)

    def phases(self, lines: Iterable[str], operands: int, per_element: float, note: str) -> list[Phase]:
        body = "\n".join(block("for (long u = lo; u < hi; ++u)", lines))
        cost = elements_cost(self.x.size + self.out.size, per_element)
        return [Phase(body, self.x.shape[self.axis], (self.axis,) * operands, (RANGES,), cost, note)]


def windows(x: View, out: View, attrs: Attrs) -> Windows:
    return Windows(x, out, attrs["kernel"], attrs["stride"], attrs["padding"])


def element(pointer: str, view: View, row: str, column: str) -> str:
    """An element, by its row counted over channels, from a pointer to channel 0."""
    _, channel, down, along = view.strides
    height = view.shape[2]
    place = [term(f"({row})", down)]
    if channel != height * down:
        place = [term(f"(({row}) / {height})", channel), term(f"(({row}) % {height})", down)]
    return f"{pointer}[{total(*place, term(column, along))}]"


def plus(dtype: str, a: str, b: str) -> str:
    """a + b as NumPy adds: integers wrap around, booleans are or-ed."""
    if dtype.startswith("float"):
        return f"{a} + {b}"
    if dtype == "bool":
        return f"{a} | {b}"
    unsigned = f"uint{8 * ITEMSIZE[dtype]}_t"
    return f"({CTYPES[dtype]})(({unsigned}){a} + ({unsigned}){b})"
