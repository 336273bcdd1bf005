"""Packed rows: what convolution keeps of an image instead of its patches.

For each channel c and kernel column j the image is copied once, shifted by j and without the columns that no
output needs, one output row long:

    rows[c, j][slot of image row][z] = x[c, row, z * sw + j * dw - pl]          zero outside the image

Slots put image rows that are sh apart next to each other, so that the patch of kernel element (c, i, j) for all
outputs (y, z) is one run: rows[c, j] from slot(i) on. A kernel of 5 x 5 so costs 5 copies instead of 25, and
stride, padding and dilation are all settled here. The gradient of the image goes the same way back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

from graphnet.kernels.c.conv_text import block, loop
from graphnet.kernels.c.tile import lanes
from graphnet.kernels.c.view import ITEMSIZE, Attrs, View


def round_up(n: int, to: int) -> int:
    return -(-n // to) * to


@dataclass(frozen=True)
class Conv:
    """One convolution of x (N, C * groups, H, W) with w (O * groups, C, kh, kw) to y (N, O * groups, oh, ow)."""

    x: View
    w: View
    y: View
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int

    @property
    def dtype(self) -> str:
        return self.x.dtype

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.dtype]

    @property
    def images(self) -> int:
        return self.x.shape[0]

    @property
    def channels(self) -> int:
        """Image channels of a group."""
        return self.w.shape[1]

    @property
    def outputs(self) -> int:
        """Result channels of a group."""
        return self.w.shape[0] // self.groups

    @property
    def kernel(self) -> tuple[int, int]:
        return self.w.shape[2], self.w.shape[3]

    @property
    def taps(self) -> int:
        """Weights that feed one output."""
        return self.channels * self.kernel[0] * self.kernel[1]

    @property
    def size(self) -> tuple[int, int]:
        """Output rows and columns."""
        return self.y.shape[2], self.y.shape[3]

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def inside(self) -> bool:
        """No output reaches into padding."""
        ends = (
            (self.size[d] - 1) * self.stride[d] + (self.kernel[d] - 1) * self.dilation[d] - self.padding[d][0]
            for d in (0, 1)
        )
        no_start = not any(self.padding[d][0] for d in (0, 1))
        return no_start and all(end < size for end, size in zip(ends, self.x.shape[2:], strict=True))

    @property
    def flops(self) -> int:
        return 2 * self.y.size * self.taps


def conv_of(x: View, w: View, y: View, attrs: Attrs) -> Conv:
    return Conv(x, w, y, attrs["stride"], attrs["padding"], attrs["dilation"], attrs["groups"])


@dataclass(frozen=True)
class Rows:
    """The packed rows of ``count`` output rows of ``images`` images that lie side by side in each slot."""

    conv: Conv
    count: int
    images: int = 1

    @property
    def classes(self) -> int:
        """How many sequences of image rows sh apart the kernel meets; the first is met by kernel row 0."""
        sh, dh = self.conv.stride[0], self.conv.dilation[0]
        return min(self.conv.kernel[0], sh // gcd(sh, dh))

    @property
    def slots(self) -> int:
        """Slots of a class."""
        return self.count + (self.conv.kernel[0] - 1) * self.conv.dilation[0] // self.conv.stride[0]

    @property
    def line(self) -> int:
        """Elements of a slot."""
        return self.images * self.conv.size[1]

    @property
    def plane(self) -> int:
        """Elements from one (c, j) to the next; not a large power of two, which would crowd one set of the cache."""
        item = self.conv.itemsize
        size = round_up(self.classes * self.slots * self.line, 64 // item)
        return size + 64 // item if size * item % 1024 == 0 else size

    def slot(self) -> str:
        """The C expression of the slot where kernel row i meets output row 0."""
        dh, sh = self.conv.dilation[0], self.conv.stride[0]
        start = "i" if dh == sh else f"i * {dh} / {sh}" if sh > 1 else f"i * {dh}"
        return start if self.classes == 1 else f"(i % {self.classes} * {self.slots} + {start})"

    @property
    def staged(self) -> tuple[int, int]:
        """Rows and columns of a channel with its padding, as far as outputs need them."""
        (sh, sw), (dh, dw), (_, kw) = self.conv.stride, self.conv.dilation, self.conv.kernel
        last = max(k * dh % sh for k in range(self.classes)) + sh * (self.slots - 1)
        return last + 1, (self.conv.size[1] - 1) * sw + (kw - 1) * dw + 1

    def walk(self, first_row: str, inner: Iterable[str]) -> list[str]:
        """Loops over classes s and slots q that hold an image row, h, when output rows start at first_row."""
        conv = self.conv
        (sh, _), dh, (top, _) = conv.stride, conv.dilation[0], conv.padding[0]
        start = f"{first_row} * {sh}" if first_row != "0" else ""
        shift = f"s * {dh} % {sh}" if self.classes > 1 else ""
        offset = " + ".join(t for t in (start, shift) if t) + (f" - {top}" if top else "") or "0"
        lines = [
            f"const long offset = {offset};",
            f"const long stop = gn_stop({conv.x.shape[2]}, {self.slots}, offset, {sh});",
            *block(
                f"for (long q = gn_first(offset, {sh}); q < stop; ++q)",
                [f"const long h = q * {sh} + offset;", *inner],
            ),
        ]
        return loop("s", self.classes, lines) if self.classes > 1 else lines

    def place(self, base: str, c: str, j: str, slot: str, line: str = "") -> str:
        """Pointer to a slot of (c, j)."""
        return f"{base} + ({c} * {self.conv.kernel[1]} + {j}) * {self.plane} + {slot} * {line or self.line}"

    def gather(self, image: str, count: int | str, into: str, first_row: str = "0", line: str = "") -> list[str]:
        """Packs ``count`` channels from the pointer expression ``image`` for output rows from first_row.

        Needs ``stage`` of the size `staged`, zero at first, if the convolution is not `inside`; and RANGES.
        """
        conv = self.conv
        (_, kw), sw, (_, channel, down, along) = conv.kernel, conv.stride[1], conv.x.strides
        copy = loop("z", conv.size[1], [f"to[z] = from[z * {sw if not conv.inside else sw * along}L];"])
        target = f"{conv.x.ctype} *to = {self.place(into, 'c', 'j', self._slot('s', 'q'), line)};"
        if conv.inside:
            source = f"const {conv.x.ctype} *from = {image} + c * {channel}L + h * {down}L + j * {conv.dilation[1] * along}L;"
            return loop("c", count, loop("j", kw, self.walk(first_row, [source, target, *copy])))
        shift = f" + s * {conv.dilation[0]} % {conv.stride[0]}" if self.classes > 1 else ""
        source = f"const {conv.x.ctype} *from = stage + (q * {conv.stride[0]}{shift}) * {self.staged[1]} + j * {conv.dilation[1]};"
        inner = loop("q", self.slots, [source, target, *copy])
        inner = loop("s", self.classes, inner) if self.classes > 1 else inner
        return loop("c", count, [*self._stage(f"{image} + c * {channel}L", first_row), *loop("j", kw, inner)])

    def _slot(self, s: str, q: str) -> str:
        return f"({s} * {self.slots} + {q})" if self.classes > 1 else q

    def _stage(self, image: str, first_row: str) -> list[str]:
        """Copies a channel into the middle of ``stage``; what is left and right of it stays zero."""
        conv = self.conv
        (height, width), ((top, _), (left, _)) = self.staged, conv.padding
        columns = max(0, min(conv.x.shape[3], width - left))
        into = f"stage[r * {width} + {left} + v]"
        copy = loop("v", columns, [f"{into} = from[v * {conv.x.strides[3]}L];"])
        row = [
            f"const long h = {first_row} * {conv.stride[0]} + r - {top};",
            *block(f"if (h < 0 || h >= {conv.x.shape[2]})", loop("v", columns, [f"{into} = 0;"])),
            *block("else", [f"const {conv.x.ctype} *from = {image} + h * {conv.x.strides[2]}L;", *copy]),
        ]
        return loop("r", height, row)

    def scatter(self, image: str, count: int | str, source: str) -> list[str]:
        """Adds ``count`` channels of packed rows to the image, which must be zero at first; the way back of gather."""
        conv = self.conv
        (_, kw), (_, sw), (_, channel, down, along) = conv.kernel, conv.stride, conv.x.strides
        offset = f"j * {conv.dilation[1]} - {conv.padding[1][0]}"
        pointers = [
            f"const {conv.x.ctype} *from = {self.place(source, 'c', 'j', self._slot('s', 'q'))};",
            f"{conv.x.ctype} *to = {image} + c * {channel}L + h * {down}L;",
        ]
        add = f"to[(z * {sw} + {offset}) * {along}L] += from[z];"
        if conv.inside:
            return loop("j", kw, loop("c", count, self.walk("0", [*pointers, *loop("z", conv.size[1], [add])])))
        bounds = f"gn_first({offset}, {sw}), to_z = gn_stop({conv.x.shape[3]}, {conv.size[1]}, {offset}, {sw})"
        rows = self.walk("0", [*pointers, *block("for (long z = from_z; z < to_z; ++z)", [add])])
        return loop("j", kw, [f"const long from_z = {bounds};", *loop("c", count, rows)])
