"""A vector times a matrix that was packed before: sums of rows over panels that lie in one piece.

Read where it lies, a matrix with long rows costs a page for every row of a narrow panel; packed, once in front of a
loop that uses it many times, it is read in order. The sums are those of ``gemm_dots.Sums``, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphnet.kernels.c.gemm_dots import Sums, line, store, sums_name
from graphnet.kernels.c.gemm_pack import block
from graphnet.kernels.c.gemm_tiles import Product, Split
from graphnet.kernels.c.tile import lanes
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Epilogue

WORTH_BYTES = 1 << 17
"""A smaller matrix stays in the first cache, and is read as quickly where it lies."""


def panel_width(p: Product) -> int:
    """Columns of a panel if p is a vector times a matrix worth packing, that sums of rows compute; else 0."""
    found = line(p, Split())
    if p.m != 1 or not isinstance(found, Sums) or p.n % found.step or p.k * p.n * ITEMSIZE[p.dtype] < WORTH_BYTES:
        return 0
    return found.step


@dataclass(frozen=True, slots=True)
class PackedSums:
    """The product by panels of ``width`` columns, from a buffer that ``right.at`` names."""

    product: Product
    width: int
    note = "sums of rows, right operand packed before"

    @property
    def units(self) -> int:
        return self.product.n // self.width

    @property
    def cost(self) -> float:
        return self.product.k * self.product.n * ITEMSIZE[self.product.dtype] / 100

    @property
    def helpers(self) -> tuple[str, ...]:
        return Sums(self.product.turned, True, Split(), self.width).helpers

    def lines(self, epilogue: Epilogue | None) -> list[str]:
        """The statements for panels lo to hi - 1."""
        p, width, ctype = self.product, self.width, CTYPES[self.product.dtype]
        name = sums_name(width // lanes(p.dtype), p.dtype)
        body = [
            f"const {ctype} *panel = (const {ctype} *){p.right.at} + u * {p.k * width}L;",
            f"{name}({p.k}, {p.k}, {p.left.at}, {p.left.across}, panel, {width}, panel, part);",
            "GN_INDEPENDENT",
            f"for (long j = u * {width}; j < (u + 1) * {width}; ++j) {{",
            *(f"    {text}" for text in store(p, epilogue, f"part[j - u * {width}]")),
            "}",
        ]
        head = ["const long i __attribute__((unused)) = 0;", f"{ctype} part[{width}];"]
        return [*head, *block("for (long u = lo; u < hi; ++u)", body)]
