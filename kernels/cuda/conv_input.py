"""The gradient of a convolution's image as a product, without most of the elements that lie beyond the border.

Pixel h of a residue by the stride meets every ``step``-th row of the kernel, the i-th of which at row h - i * pace
and something of the result. Where that is outside for many, the product is

    x[c, (h, n, w)]   = sum over (i, o, j) of w[c, (i, o, j)] * g[(i, o, j), (h, n, w)]

with rows outermost, so that a tile has few rows h and goes through those rows i alone that any of these meets. Where
it is inside for nearly all, rows come behind images and channels: tiles have longer runs of neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from graphnet.kernels.cuda.conv_parts import Axis, Conv, add, split
from graphnet.kernels.cuda.gemm_load import Operand, block, declared, picked, times
from graphnet.kernels.cuda.gemm_span import Span
from graphnet.kernels.cuda.gemm_tile import Product
from graphnet.kernels.text.view import Epilogue

SKIPPED = 0.1
"""Share of all terms that must be skipped, in tiles of USUAL columns, for rows to be outermost."""

USUAL = 64


@dataclass(frozen=True, slots=True)
class Adjoint:
    """The gradient of the image of ``conv``; ``span`` says which rows of the kernel a tile needs, if rows are
    outermost.
    """

    conv: Conv
    span: Span | None = None

    @classmethod
    def of(cls, conv: Conv) -> Adjoint:
        """With a span where that pays."""
        plain = cls(conv)
        if conv.nothing:
            return plain
        span = plain.rows_needed()
        all_terms = conv.rows.taps * span.terms
        average = span.average(plain.entries, plain.n, USUAL)
        return replace(plain, span=span) if average <= (1 - SKIPPED) * all_terms else plain

    def rows_needed(self) -> Span:
        """The rows of the kernel that a row of pixels meets, of each residue, inside the result."""
        rows, columns = self.conv.rows, self.conv.columns
        starts = [rows.first(r) for r in range(rows.residues)]
        return Span(
            width=self.conv.images * columns.pixels,
            terms=self.conv.outputs * columns.taps,
            size=rows.result,
            pace=rows.pace,
            first=tuple(place for _, place in starts),
            taps=tuple(-(-(rows.kernel - tap) // rows.step) for tap, _ in starts),
            below=columns.residues,
        )

    # -- sizes

    @property
    def entries(self) -> int:
        return self.conv.groups * self.conv.rows.residues * self.conv.columns.residues

    @property
    def n(self) -> int:
        """Pixels of a channel and a residue, in all images."""
        return self.conv.images * self.conv.rows.pixels * self.conv.columns.pixels

    @property
    def partial(self) -> tuple[bool, bool]:
        """Whether some residues meet fewer rows, or columns, than there are terms for; a span leaves such rows out."""
        return self.conv.rows.partial and not self.span, self.conv.columns.partial

    # -- C expressions

    @property
    def place(self) -> tuple[str, str, str]:
        """The group, and the residues by rows and by columns."""
        if self.entries == 1:
            return "0", "0", "0"
        group, down, across = split("entry", self.conv.rows.residues, self.conv.columns.residues)
        return group if self.conv.groups > 1 else "0", down, across

    def term(self, k: str) -> tuple[str, tuple[str, str]]:
        """The channel of the result, and which row and column of those of the kernel that the residue meets."""
        if self.span:
            i, o, j = split(k, self.conv.outputs, self.conv.columns.taps)
        else:
            o, i, j = split(k, self.conv.rows.taps, self.conv.columns.taps)
        return o, (i, j)

    def pixel(self, j: str) -> tuple[str, tuple[str, str]]:
        """The image, and which row and column of those of the residue."""
        if self.span:
            h, n, w = split(j, self.conv.images, self.conv.columns.pixels)
        else:
            n, h, w = split(j, self.conv.rows.pixels, self.conv.columns.pixels)
        return n, (h, w)

    def _axes(self, pair: tuple[str, str], which: int) -> Iterator[tuple[str, Axis, str]]:
        """For rows and for columns: the text of the pair, the axis, and one of what ``Axis.first`` gives."""
        axes = (self.conv.rows, self.conv.columns)
        for text, axis, residue in zip(pair, axes, self.place[1:], strict=True):
            yield text, axis, picked([axis.first(r)[which] for r in range(axis.residues)], residue)

    # -- the product

    def weight(self, k: str) -> tuple[str, ...]:
        """What a term adds to the place in the weights, and the rows and columns that may not be there."""
        o, taps = self.term(k)
        strides = self.conv.w.strides
        places = [add(times(t, axis.step), first) for t, axis, first in self._axes(taps, 0)]
        place = add(times(o, strides[0]), *(times(f"({p})", s) for p, s in zip(places, strides[2:], strict=True)))
        return place, *(p for p, few in zip(places, self.partial, strict=True) if few)

    def line(self, j: str) -> tuple[str, ...]:
        """The part of the place in the result, its row and its column that depends on the pixel."""
        g, (n, pixels) = self.conv.y, self.pixel(j)
        places = [f"({add(p, first)})" for p, _, first in self._axes(pixels, 1)]
        place = add(times(n, g.strides[0]), *(times(p, s) for p, s in zip(places, g.strides[2:], strict=True)))
        return add(place, times(self.place[0], self.conv.outputs * g.strides[1])), *places

    def tap(self, k: str) -> tuple[str, ...]:
        """The part that depends on the term."""
        g, (o, taps) = self.conv.y, self.term(k)
        places = [times(t, -a.pace) for t, a in zip(taps, (self.conv.rows, self.conv.columns), strict=True)]
        place = add(times(o, g.strides[1]), *(times(f"({p})", s) for p, s in zip(places, g.strides[2:], strict=True)))
        return place, *places

    def store(self, i: str, j: str, value: str, epilogue: Epilogue | None) -> str:
        """Puts a pixel's value where it belongs, or hands it on, if the image has one there."""
        conv, (n, pixels), (group, *residues) = self.conv, self.pixel(j), self.place
        axes = (conv.rows, conv.columns)
        h, v = (add(times(p, a.stride), r) for p, a, r in zip(pixels, axes, residues, strict=True))
        channel = add(times(group, conv.channels), i)
        guards = [f"{name} < {a.image}" for name, a in zip(("h", "v"), axes, strict=True) if a.image % a.stride]
        lines = [f"const {conv.reach} h = {h}, v = {v};"]
        if epilogue is None:
            finish = [f"{conv.x.at(n, channel, 'h', 'v')} = {value};"]
        else:
            text = epilogue(("n", "o", "p"), value)
            places = {"n": n, "o": channel, "p": f"h * {conv.columns.image} + v"}
            finish = [*declared(conv.reach, places, [text]), *text.splitlines()]
        return "\n".join([*lines, *(block(f"if ({' && '.join(guards)})", finish) if guards else finish)])

    def product(self, epilogue: Epilogue | None = None) -> Product:
        """Channels of the image by pixels; an ``epilogue`` gets image, channel and pixel of each."""
        conv, group, w = self.conv, self.place[0], self.conv.w
        rows, columns = conv.rows, conv.columns
        weights = Operand(
            w.name,
            lambda i: (
                add(times(i, w.strides[1]), times(group, conv.outputs * w.strides[0])),
                *["0"] * sum(self.partial),
            ),
            self.weight,
            "depth",
            limits=tuple(a.kernel for a, few in zip((rows, columns), self.partial, strict=True) if few),
            tabled=True,
            near=conv.near,
        )
        limits = (rows.result, columns.result)
        signal = Operand(conv.y.name, self.line, self.tap, "line", limits=limits, tabled=True, near=conv.near)
        k = 0 if conv.nothing else conv.outputs * rows.taps * columns.taps
        return Product(
            conv.x.dtype,
            conv.channels,
            self.n,
            k,
            weights,
            signal,
            lambda i, j, value: self.store(i, j, value, epilogue),
            self.entries,
            reach=conv.reach,
            span=self.span,
        )
