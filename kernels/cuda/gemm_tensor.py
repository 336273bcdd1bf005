"""Tiles of products on tensor cores: operands rounded to TF32 (10 bits of fraction), sums in float32.

    tensor 1    a @ b  =  a1 @ b1                            a1 is a rounded
    tensor 3    a @ b  =  a2 @ b1 + a1 @ b2 + a1 @ b1        a2 is a - a1 rounded; a2 @ b2 is left out

With three products an operand keeps 21 bits of fraction of its 23, and infinities may become NaN (of inf, a2 is NaN).

    a block    8 warps: rows.threads x columns.threads of them share the tile, ``ways`` groups of those share the terms
    a warp     pieces of 16 rows and of 8 columns, those of its neighbours between them; 8 terms in a step
    a lane     of a piece of rows a[4], of columns b[2], of both together sum[4]:

        a[0] row lane / 4, term lane % 4     a[1] row + 8     a[2] term + 4     a[3] both
        b[0] column lane / 4, term lane % 4     b[1] term + 4
        sum[0] row lane / 4, column lane % 4 * 2     sum[1] column + 1     sum[2] row + 8     sum[3] both

These are the fragments of mma.m16n8k8 with .tf32 operands in NVIDIA's PTX ISA ("Warp Level Matrix Instructions").
How chunks come to shared memory and how results leave it is as for all tiles; rows of shared memory are 8 or 24 longer
than a multiple of 32, so that the 32 lanes of a load meet 32 banks.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphnet.kernels.cuda.gemm_load import Loads, block, times, total, unrolled
from graphnet.kernels.cuda.gemm_results import Results
from graphnet.kernels.cuda.gemm_tile import Product, Side, Text
from graphnet.kernels.cuda.phase import THREADS

ROWS, COLUMNS, TERMS = 16, 8, 8
"""Of one instruction."""

WARPS = THREADS // 32

MMA = """\
/* x as a tensor core takes it, rounded to nearest, ties away from zero */
GN_INLINE uint32_t gn_tf32(float x)
{
#if defined(GN_EMULATED)
    const uint32_t bits = __float_as_uint(x);
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
#else
    uint32_t y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
#endif
}

/* x as the sum of two numbers that a tensor core takes, but for what is below the second */
GN_INLINE void gn_split(float x, uint32_t &high, uint32_t &low)
{
    high = gn_tf32(x) & 0xffffe000u;
    low = gn_tf32(x - __uint_as_float(high));
}

/* d += a @ b for 16 rows, 8 columns and 8 terms, by all lanes of a warp */
GN_INLINE void gn_mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
#if defined(GN_EMULATED)
    static char site;
    uint32_t(*const warps)[32][6] = (uint32_t(*)[32][6])gn_host->shared(&site, sizeof(uint32_t[THREADS / 32][32][6]));
    uint32_t(*const lanes)[6] = warps[threadIdx.x / 32];
    const int lane = threadIdx.x % 32;
    memcpy(lanes[lane], a, sizeof a);
    memcpy(lanes[lane] + 4, b, sizeof b);
    __syncwarp();
    for (int e = 0; e < 4; ++e) {
        const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
        for (int k = 0; k < 8; ++k) {
            const float x = __uint_as_float(lanes[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2]);
            d[e] = fmaf(x, __uint_as_float(lanes[column * 4 + k % 4][4 + k / 4]), d[e]);
        }
    }
    __syncwarp();
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
"""


@dataclass(frozen=True, slots=True)
class TensorTile:
    """How a tile is cut among warps: ``threads`` of a side are warps, ``each`` whole pieces of ROWS or COLUMNS lines.

    rows.threads * columns.threads divides WARPS; ``depth`` is a multiple of ways * TERMS.
    """

    rows: Side
    columns: Side
    depth: int

    @property
    def ways(self) -> int:
        """Groups of warps that share the terms of each sum."""
        return WARPS // (self.rows.threads * self.columns.threads)

    @property
    def down(self) -> int:
        """Pieces of rows that a warp has."""
        return self.rows.each // ROWS

    @property
    def across(self) -> int:
        """Pieces of columns that a warp has."""
        return self.columns.each // COLUMNS


def row_length(size: int) -> int:
    """Elements from term to term in shared memory, for so many lines: an odd multiple of 8."""
    eight = -(-size // 8)
    return 8 * (eight + 1 - eight % 2)


class TensorText(Text):
    """The statements of a unit that computes one tile on tensor cores."""

    tile: TensorTile
    helpers = (*Text.helpers, MMA)

    def __init__(self, product: Product, tile: TensorTile, parts: int = 1, tensor: int = 1) -> None:
        """``tensor`` products for each, see above."""
        super().__init__(product, tile, parts)
        self.split = tensor > 1
        for side in (self.left, self.right):
            if not side.operand.resident:
                side.stride = row_length(side.size)

    def _results(self) -> Results:
        pieces = [(ROWS * y, ROWS) for y in range(self.tile.down)]
        return _Results(self.product, self.tile, self.parts, pieces, ())

    def _sums(self) -> str:
        return f"float sum[{self.tile.down}][{self.tile.across}][4] = {{}};"

    def _threads(self) -> list[str]:
        """Which warp's rows and columns of the tile, and which terms, are the thread's."""
        down, across = self.tile.rows.threads, self.tile.columns.threads
        lines = ["const int lane = tid % 32;"]
        lines += [f"const int group = tid / {32 * down * across};"] if self.tile.ways > 1 else []
        row = f"tid / {32 * across} % {down}" if down > 1 else "0"
        column = f"tid / 32 % {across}" if across > 1 else "0"
        return [*lines, f"const int row = {times(row, ROWS)}, column = {times(column, COLUMNS)};"]

    def _multiply(self, now: str, at: str, stop: str) -> list[str]:
        tile, terms = self.tile, self.tile.ways * TERMS
        lines = [self._begin(x, now, at) for x in (self.left, self.right)]
        body = [f"uint32_t a[{tile.down}][4], b[{tile.across}][2];"]
        body += [f"uint32_t more_a[{tile.down}][4], more_b[{tile.across}][2];"] if self.split else []
        for x, name, size, many in ((self.left, "a", ROWS, tile.down), (self.right, "b", COLUMNS, tile.across)):
            body.append(f"const {self.ctype} *const {x.name}_step = {x.name}_now + step * {terms * x.stride};")
            warps = tile.rows.threads if name == "a" else tile.columns.threads
            take = []
            for e, offset in enumerate(_offsets(name, x.stride)):
                source = f"{x.name}_step[{total(times('p', size * warps), offset)}]"
                more = f"gn_split({source}, {name}[p][{e}], more_{name}[p][{e}]);"
                take.append(more if self.split else f"{name}[p][{e}] = gn_tf32({source});")
            body += unrolled(f"for (int p = 0; p < {many}; ++p)", take)
        # the small ones first, so that less is lost
        pairs = [("more_a", "b"), ("a", "more_b"), ("a", "b")] if self.split else [("a", "b")]
        multiply = [f"gn_mma(sum[y][x], {left}[y], {right}[x]);" for left, right in pairs]
        add = unrolled(f"for (int x = 0; x < {tile.across}; ++x)", multiply)
        body += unrolled(f"for (int y = 0; y < {tile.down}; ++y)", add)
        steps = str(tile.depth // terms)
        if self.ragged:
            left = f"{stop} - {at}" if at != "0" else stop
            lines.append(f"const int steps = {left} < {tile.depth} ? ({left} + {terms - 1}) / {terms} : {steps};")
            steps = "steps"
        return block("", [*lines, *unrolled(f"for (int step = 0; step < {steps}; ++step)", body, "2")])

    def _begin(self, x: Loads, now: str, at: str) -> str:
        """Where the first terms of a chunk that the warp takes are."""
        chunk = at if x.operand.resident else times(now, self.tile.depth)
        first = total("" if chunk == "0" else chunk, times("group", TERMS) if self.tile.ways > 1 else "")
        offset = f" + ({first}) * {x.stride}" if first else ""
        return f"const {self.ctype} *const {x.name}_now = {x.name}s{offset};"


def _offsets(name: str, stride: int) -> list[str]:
    """Where a lane's elements of a piece of ``a`` or ``b`` lie behind its first term and line."""
    line = "row" if name == "a" else "column"
    near = f"lane % 4 * {stride} + {line} + lane / 4"
    lines = (0, 8) if name == "a" else (0,)
    return [total(near, term * stride, more) for term in (0, 4) for more in lines]


class _Results(Results):
    """The results of a tile whose sums are pieces of 16 rows and 8 columns."""

    tile: TensorTile

    def _handed_in(self) -> list[str]:
        tile, stride = self.tile, self.stride
        group = f"group * {self.high}" if tile.ways > 1 else ""
        number = "round" if self.rounds > 1 else "y"
        piece = "" if self.rounds > 1 else times("y", ROWS * tile.rows.threads)
        row = total(group, piece, "row + lane / 4")
        lines = [f"float *const to = sums + ({row}) * {stride} + column + lane % 4 * 2;"]
        columns = times("x", COLUMNS * tile.columns.threads)
        put = [
            f"gn_put<2>(&to[{columns}], &sum[{number}][x][0]);",
            f"gn_put<2>(&to[{columns} + {8 * stride}], &sum[{number}][x][2]);",
        ]
        lines += unrolled(f"for (int x = 0; x < {tile.across}; ++x)", put)
        if self.rounds > 1:
            return block("", lines)
        return unrolled(f"for (int y = 0; y < {tile.down}; ++y)", lines)
