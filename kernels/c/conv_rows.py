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
from functools import cached_property
from math import gcd

from graphnet.kernels.c.conv_text import block, indent, loop, round_up, term, total
from graphnet.kernels.c.phase import Phase, elements_cost
from graphnet.kernels.c.tile import lanes, vector_type
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Attrs, Epilogue, View

ROWS_BYTES = 384 << 10  # of packed rows: they should stay in the second cache beside everything else
UNITS = 16  # enough for any number of threads


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

    @cached_property
    def inside(self) -> bool:
        """No output reaches into padding."""
        ends = (
            (self.size[d] - 1) * self.stride[d] + (self.kernel[d] - 1) * self.dilation[d] - self.padding[d][0]
            for d in (0, 1)
        )
        starts = any(self.padding[d][0] for d in (0, 1))
        return not starts and all(end < size for end, size in zip(ends, self.x.shape[2:], strict=True))

    @property
    def flops(self) -> int:
        return 2 * self.y.size * self.taps

    @property
    def cost(self) -> float:
        """Nanoseconds of one core: products, packing, results."""
        return self.flops / 220 + elements_cost(self.x.size * self.kernel[1] + self.y.size, 0.05)


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

    def slot(self, line: str = "") -> str:
        """Where kernel row i meets output row 0, counted in elements."""
        dh, sh = self.conv.dilation[0], self.conv.stride[0]
        slot = f"i * {dh} / {sh}" if dh % sh else total(term("i", dh // sh))
        if self.classes > 1:
            slot = f"(i % {self.classes} * {self.slots} + {slot})"
        return f"{slot} * {line or self.line}"

    @property
    def staged(self) -> tuple[int, int]:
        """Rows and columns of a channel with its padding, as far as outputs need them."""
        (sh, sw), (dh, dw), (_, kw) = self.conv.stride, self.conv.dilation, self.conv.kernel
        last = max(k * dh % sh for k in range(self.classes)) + sh * (self.slots - 1)
        return last + 1, (self.conv.size[1] - 1) * sw + (kw - 1) * dw + 1

    def _walk(self, first_row: str, inner: Iterable[str]) -> list[str]:
        """Loops over classes s and slots q that hold an image row, h, when output rows start at first_row."""
        height, (sh, _), top = self.conv.x.shape[2], self.conv.stride, self.conv.padding[0][0]
        if not first_row and self.classes == 1 and not top and (self.slots - 1) * sh < height:
            return loop("q", self.slots, [f"const long h = {term('q', sh)};", *inner])
        offset = total(self._first(first_row), self._class_row()) + (f" - {top}" if top else "")
        lines = [
            f"const long offset = {offset};",
            f"const long stop = gn_met_stop({height}, {self.slots}, offset, {sh});",
            f"for (long q = gn_met_first(offset, {sh}); q < stop; ++q) {{",
            f"    const long h = {term('q', sh)} + offset;",
            *indent(inner),
            "}",
        ]
        return self._classes(lines)

    def _first(self, first_row: str) -> str:
        """The image row of a first output row, as if there were no padding."""
        return term(first_row, self.conv.stride[0]) if first_row else ""

    def _classes(self, lines: list[str]) -> list[str]:
        return loop("s", self.classes, lines) if self.classes > 1 else lines

    def _class_row(self) -> str:
        """The first image row of class s."""
        return f"s * {self.conv.dilation[0]} % {self.conv.stride[0]}" if self.classes > 1 else ""

    def _slot_of(self, base: str, line: str = "") -> str:
        """Pointer to slot q of class s of (c, j)."""
        plane = f"(c * {self.conv.kernel[1]} + j) * {self.plane}"
        slot = f"(s * {self.slots} + q)" if self.classes > 1 else "q"
        return total(base, plane, f"{slot} * {line or self.line}")

    def gather(self, image: str, channels: int, into: str, first_row: str = "", line: str = "") -> list[str]:
        """Packs channels from the pointer ``image`` for output rows from first_row (0), slots ``line`` apart.

        Needs RANGES, and if the convolution is not `inside` a buffer ``stage`` as large as `staged`, zero at first.
        """
        conv = self.conv
        (_, kw), (sh, sw), dw, ctype = conv.kernel, conv.stride, conv.dilation[1], conv.x.ctype
        _, channel, down, along = conv.x.strides
        to = f"{ctype} *to = {self._slot_of(into, line)};"
        if conv.inside:
            place = total(image, term("c", channel), term("h", down), term("j", dw * along))
            copy = loop("z", conv.size[1], [f"to[z] = from[{term('z', sw * along) or '0'}];"])
            rows = self._walk(first_row, [f"const {ctype} *from = {place};", to, *copy])
            return loop("c", channels, loop("j", kw, rows))
        row = total(term("q", sh), self._class_row())
        place = total("stage", f"({row}) * {self.staged[1]}", term("j", dw))
        copy = loop("z", conv.size[1], [f"to[z] = from[{term('z', sw)}];"])
        rows = self._classes(loop("q", self.slots, [f"const {ctype} *from = {place};", to, *copy]))
        return loop("c", channels, [*self._stage(total(image, term("c", channel)), first_row), *loop("j", kw, rows)])

    def _stage(self, image: str, first_row: str) -> list[str]:
        """Copies a channel into the middle of ``stage``; what is left and right of it stays zero."""
        conv = self.conv
        (height, width), ((top, _), (left, _)) = self.staged, conv.padding
        columns = max(0, min(conv.x.shape[3], width - left))
        into = f"stage[{total(f'r * {width}', 'v', str(left))}]"
        copy = loop("v", columns, [f"{into} = from[{term('v', conv.x.strides[3]) or '0'}];"])
        source = f"const {conv.x.ctype} *from = {total(image, term('h', conv.x.strides[2]))};"
        row = [
            f"const long h = {total(self._first(first_row), 'r')} - {top};",
            *block(f"if (h >= 0 && h < {conv.x.shape[2]})", [source, *copy]),
            *block("else", loop("v", columns, [f"{into} = 0;"])),
        ]
        return loop("r", height, row)

    def scatter(self, image: str, channels: int, source: str) -> list[str]:
        """Adds packed rows up in the channels from the pointer ``image``, zero at first: the way back of gather."""
        conv = self.conv
        (_, kw), (_, sw), columns = conv.kernel, conv.stride, conv.size[1]
        _, channel, down, along = conv.x.strides
        left = conv.padding[1][0]
        offset = term("j", conv.dilation[1]) + (f" - {left}" if left else "")
        column = term(f"({term('z', sw)} + {offset})", along)
        pointers = [
            f"const {conv.x.ctype} *from = {self._slot_of(source)};",
            f"{conv.x.ctype} *to = {total(image, term('c', channel), term('h', down))};",
        ]
        add = f"to[{column or '0'}] += from[z];"
        bounds = (
            f"start = gn_met_first({offset}, {sw}), end = gn_met_stop({conv.x.shape[3]}, {columns}, {offset}, {sw})"
        )
        adds = block("for (long z = start; z < end; ++z)", [add])
        if conv.inside:
            adds = loop("z", columns, [add])
        rows = loop("c", channels, self._walk("", [*pointers, *adds]))
        return loop("j", kw, rows if conv.inside else [f"const long {bounds};", *rows])


def nothing(*operands: View) -> bool:
    """Whether there is nothing to sum."""
    return not all(view.size for view in operands)


def zeros(out: View, epilogue: Epilogue | None) -> list[Phase]:
    """out is zero everywhere, if it has any element."""
    n, o, rows, columns = out.shape
    if epilogue is not None:
        inner = loop("p", rows * columns, epilogue(("n", "o", "p"), "0").splitlines())
    else:
        inner = loop("y", rows, loop("z", columns, [f"{out.at('n', 'o', 'y', 'z')} = 0;"]))
    body = block("for (long n = lo; n < hi; ++n)", loop("o", o, inner))
    return [Phase("\n".join(body), n, (), (), elements_cost(out.size), "zero")] if out.size else []


def counted(pattern: str, count: int, between: str = " ") -> str:
    return between.join(pattern.format(j) for j in range(count))


def patch_tile(mr: int, nv: int, dtype: str) -> tuple[str, str]:
    """Name and text of a function that adds up rows of b that lie anywhere.

    ``NAME(long K, const T *a, long ai, long ak, const T *b, const int32_t *at, T *t, long ti, int add)``:
    t[i*ti + j] = (add ? t[i*ti + j] : 0) + sum over k < K of a[i*ai + k*ak] * b[at[k] + j], for i < mr and
    j < nv * lanes. Every element is one chain of multiply-adds in the order of k. Needs ``tile.vectors()``.
    """
    ctype, vector, width = CTYPES[dtype], vector_type(dtype), lanes(dtype)
    name, v = f"gn_patches_{mr}x{nv}_{dtype}", vector.upper()
    at = [[f"{v}(t + {i} * ti + {j * width})" for j in range(nv)] for i in range(mr)]
    loads = ", ".join(f"b{j} = {v}(y + {j * width})" for j in range(nv))
    lines = [
        f"GN_CONTRACT static __attribute__((noinline)) void {name}(long K, const {ctype} *restrict a, long ai,",
        f"    long ak, const {ctype} *restrict b, const int32_t *restrict at, {ctype} *restrict t, long ti, int add)",
        "{",
        "    GN_CONTRACTED",
        *(f"    {vector} {counted(f'c{i}_{{0}} = {{{{0}}}}', nv, ', ')};" for i in range(mr)),
        "    if (add) {",
        *("        " + " ".join(f"c{i}_{j} = {at[i][j]};" for j in range(nv)) for i in range(mr)),
        "    }",
        "    for (long k = 0; k < K; ++k, a += ak) {",
        f"        const {ctype} *y = b + at[k];",
        f"        {vector} {loads};",
        *([f"        {counted('GN_KEEP(b{0});', nv)}"] if mr <= 4 else []),
        f"        {ctype} s;",
        *(f"        s = a[{i} * ai]; {counted(f'c{i}_{{0}} += s * b{{0}};', nv)}" for i in range(mr)),
        "    }",
        *("    " + " ".join(f"{at[i][j]} = c{i}_{j};" for j in range(nv)) for i in range(mr)),
        "}",
    ]
    return name, "\n".join(lines) + "\n"
