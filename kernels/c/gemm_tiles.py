"""One matrix product in register tiles: how it is cut, and the loops around the tiles.

A product may be computed turned, as out^T = right^T left^T, when that reads and writes memory better. From then on
the side whose elements are broadcast is called rows and the side that fills vectors columns. Every element of the
result is one chain of multiply-adds in the order of k whatever the cut, so the choice never changes a bit of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphnet.kernels.c import gemm_pack
from graphnet.kernels.c.gemm_pack import Matrix, block, steps
from graphnet.kernels.c.tile import ISAS, lanes, micro, target, vectors
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Epilogue

PANEL_BYTES = 1 << 19
"""A panel of the right operand beyond this falls out of the second-level cache, so k is cut in blocks."""


@dataclass(frozen=True, slots=True)
class Product:
    """out (m, n) = left (m, k) @ right (k, n), none of the sizes 0."""

    dtype: str
    m: int
    n: int
    k: int
    out: Matrix
    left: Matrix
    right: Matrix

    @property
    def turned(self) -> Product:
        return Product(self.dtype, self.n, self.m, self.k, self.out.turned, self.right.turned, self.left.turned)


@dataclass(frozen=True, slots=True)
class Split:
    """``threads`` share an axis of the result, "m" or "n" ("" is none), in units of ``unit`` rows or columns."""

    axis: str = ""
    threads: int = 1
    unit: int = 1

    def shares(self, axis: str, size: int) -> tuple[int, ...]:
        """The different numbers of elements that threads get of an axis, the least first."""
        if axis != self.axis:
            return (size,)
        units, t = size // self.unit, self.threads
        return tuple(sorted({(units * (i + 1) // t - units * i // t) * self.unit for i in range(t)}))


@dataclass(frozen=True, slots=True)
class Plan:
    """How a product is cut: ``product`` as computed, tiles of mr x nv vectors, which axis the threads share.

    ``right`` says where the right operand is read: "place", "shared" (packed
    before, by all threads), "panel" or "block" (each thread packs a panel, or its panels of a block of k, when it
    needs them). ``depth`` is the length of a block of k. With ``groups``, of right and of a tile, ``columns`` are
    those of one.
    """

    product: Product
    turned: bool
    mr: int
    nv: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    right: str
    depth: int
    threads: int
    cycles: float
    groups: int = 1

    @property
    def width(self) -> int:
        return self.nv * lanes(self.product.dtype)

    @property
    def run(self) -> int:
        """Columns of a tile in each group."""
        return self.width // self.groups

    @property
    def blocked(self) -> bool:
        return self.depth < self.product.k

    @property
    def rows_first(self) -> bool:
        """Whether a tile's rows meet all panels before the next rows come: if only the right operand is small."""
        p, item = self.product, ITEMSIZE[self.product.dtype]
        small = p.k * p.n * item <= PANEL_BYTES < p.k * max(self.rows) * item
        return small and self.right in ("place", "shared") and not self.blocked

    @property
    def buffer(self) -> int:
        """Elements of the packed right operand that all threads (shared) or each thread needs."""
        count = {
            "place": 0,
            "panel": 1,
            "block": gemm_pack.panels(max(self.columns), self.width),
            "shared": gemm_pack.panels(self.product.n // self.groups, self.run),
        }
        return count[self.right] * self.depth * self.width

    @property
    def sums(self) -> int:
        """Elements of a thread's unfinished tiles."""
        count = -(-max(self.rows) // self.mr) * gemm_pack.panels(max(self.columns), self.width)
        return count * self.mr * self.width * self.blocked

    @property
    def scratch(self) -> int:
        """Bytes of scratch."""
        buffers = self.buffer * (1 if self.right == "shared" else self.threads)
        return ITEMSIZE[self.product.dtype] * (buffers + self.sums * self.threads)

    @property
    def flips(self) -> bool:
        """Whether tiles are transposed on their way to the result."""
        return self.product.out.across != 1 and self.product.out.down == 1 and self.groups == 1

    @property
    def tile_name(self) -> str:
        return f"gn_tile_{self.mr}x{self.nv}_{CTYPES[self.product.dtype]}"

    @property
    def helpers(self) -> tuple[str, ...]:
        """Definitions at file scope that the statements need."""
        dtype = self.product.dtype
        found = (vectors(), micro(self.tile_name, self.mr, self.nv, dtype, "ai", "ak", "bk", "ti"))
        turns = self.flips or (self.right == "panel" and self.product.right.down == 1)
        return (*found, gemm_pack.transpose(dtype)) if turns else found

    @property
    def note(self) -> str:
        """How it is done, in a few words."""
        side = "left operand transposed, " if self.turned else "right operand "
        where = {"place": "in place", "panel": "packed by panels", "block": "packed by blocks"}.get(
            self.right, "packed before"
        )
        text = f"tiles of {self.mr} x {self.width}, {side}{where}"
        text += f", {self.run} columns of each of {self.groups} groups" if self.groups > 1 else ""
        return text + (f", k in blocks of {self.depth}" if self.blocked else "")


def is_deep(p: Product) -> bool:
    """Whether k is so long that tiles are computed in blocks of k."""
    return p.k * 3 * ISAS[target()].vector > PANEL_BYTES


class Text:
    """The loops of a plan as C statements."""

    def __init__(self, plan: Plan, bounds: tuple[str, str], epilogue: Epilogue | None, scratch: str) -> None:
        """``bounds`` are C expressions of the share of the split axis, ``scratch`` of a char * with plan.scratch
        bytes, or of the panels if the right operand is packed already.
        """
        self.plan, self.p, self.epilogue, self.scratch = plan, plan.product, epilogue, scratch
        self.ctype, self.width = CTYPES[self.p.dtype], plan.width
        self.columns = self.p.n // plan.groups
        whole = (("0", str(self.p.m)), ("0", str(self.columns)))
        self.row_bounds = bounds if plan.rows[-1] < self.p.m else whole[0]
        self.column_bounds = bounds if plan.columns[-1] < self.columns else whole[1]
        self.padded = self.p.n < self.width
        self.overrun = self.padded and plan.right == "place"
        stored = epilogue is None and self.p.out.across == 1 and plan.groups == 1
        self.direct = stored and not self.padded and not plan.blocked
        self.flips = plan.flips

    def lines(self) -> list[str]:
        """The statements that compute the share."""
        plan, inner = self.plan, self._tile()
        if plan.rows_first:
            loops = self._rows(self._columns(inner))
        else:
            panel = self._panel() if plan.right == "panel" else []
            loops = self._columns([*panel, *self._rows(inner)])
            if plan.right == "block":
                loops = self._block() + loops
        if plan.blocked:
            loops = [
                f"{self.ctype} *tile = sums; /* every tile keeps its unfinished sums in scratch */",
                f"const long depth = {self.p.k} - k < {plan.depth} ? {self.p.k} - k : {plan.depth};",
                *loops,
            ]
            loops = block(f"for (long k = 0; k < {self.p.k}; k += {plan.depth})", loops)
        return self._declarations() + loops

    def _declarations(self) -> list[str]:
        plan, ctype = self.plan, self.ctype
        lines = []
        start = f"({ctype} *)({self.scratch})"
        tid = "tid" if plan.threads > 1 else "0"
        if plan.right in ("panel", "block"):
            lines.append(f"{ctype} *{plan.right} = {start} + {tid} * {plan.buffer}L;")
        elif plan.right == "shared":
            lines.append(f"const {ctype} *packed = (const {ctype} *)({self.scratch});")
        used = plan.buffer * (1 if plan.right == "shared" else plan.threads)
        if plan.blocked:
            lines.append(f"{ctype} *sums = {start} + {used}L + {tid} * {plan.sums}L;")
        elif not self.direct:
            lines.append(f"{ctype} tile[{plan.mr * self.width}] GN_ALIGNED;")
        if self.flips and self.epilogue:
            lines.append(f"{ctype} turned[{plan.mr * self.width}] GN_ALIGNED;")
        if self.overrun:
            p = self.p
            lines += gemm_pack.tail(p.dtype, p.right, p.n, p.k, self.width, self._tail_rows())
        return lines

    def _tail_rows(self) -> int:
        return -(-(self.width - self.p.n) // self.p.right.down)

    def _columns(self, inner: list[str], stops: bool = True) -> list[str]:
        """The loop over panels; the last reaches back to be full. ``stops`` if inner needs where each ends."""
        if self.padded:
            return [f"const long column = 0, start = 0, stop = {self.columns};", *inner]
        names, run, done = ("column", "start", "stop"), self.plan.run, self.columns // self.plan.run * self.plan.run
        if self.plan.groups > 1 and done < self.columns:
            # what takes groups is long: the last panel has a loop of its own, so that both have constant lengths
            full = [f"const long start = column, stop = column + {run};", *inner]
            last = f"const long column = {done}, start = {self.columns - run}, stop = {self.columns};"
            head = f"for (long column = 0; column < {done}; column += {run})"
            return [*block(head, full), "{", *(f"    {line}" for line in [last, *inner]), "}"]
        return steps(names, self.column_bounds, self.columns, run, inner, stops and not self.direct)

    def _rows(self, inner: list[str]) -> list[str]:
        """The loop over the rows of a panel; the last tile reaches back over rows that are done."""
        return steps(("row", "top", "end"), self.row_bounds, self.p.m, self.plan.mr, inner, not self.direct)

    def _panel(self) -> list[str]:
        """Packs one panel."""
        k, depth = ("k", "depth") if self.plan.blocked else ("0", str(self.p.k))
        return gemm_pack.panel(self.p.dtype, self.p.right, "panel", self.width, self.p.n, k, depth)

    def _block(self) -> list[str]:
        """Packs all panels of the share, eight rows at a time, so that memory is read in long runs."""
        w, element = self.width, self.p.right.element("(k + d)", "(start + c)")
        copy = [
            f"{self.ctype} *panel = {self._in_block()};",
            "for (long d = eight; d < eight + 8 && d < depth; ++d)",
            f"    for (long c = 0; c < {w}; ++c)",
            f"        panel[d * {w} + c] = {element};",
        ]
        return block("for (long eight = 0; eight < depth; eight += 8)", self._columns(copy, False))

    def _in_block(self) -> str:
        lo = self.column_bounds[0]
        return f"block + {'column' if lo == '0' else f'(column - {lo})'} * {self.plan.depth}L"

    def _call(self, depth: str, k: str, right: str, stride: int, result: tuple[str, int], add: str) -> str:
        p = self.p
        left = p.left.pointer("top", k)
        strides = f"{p.left.down}, {p.left.across}, {stride}, {result[1]}"
        return f"{self.plan.tile_name}({depth}, {left}, {right}, {result[0]}, {add}, {strides});"

    def _tile(self) -> list[str]:
        """What is done for one tile."""
        plan, p = self.plan, self.p
        result = (p.out.pointer("top", "start"), p.out.down) if self.direct else ("tile", self.width)
        k, depth, add = ("k", "depth", "k > 0") if plan.blocked else ("0", str(p.k), "0")
        if self.overrun:
            rows = self._tail_rows()
            first = p.k - rows
            lines = [
                self._call(str(first), "0", p.right.pointer("0", "start"), p.right.down, result, "0"),
                self._call(str(rows), f"{first}L", "tail", self.width, result, "1"),
            ]
        elif plan.right == "place":
            lines = [self._call(depth, k, p.right.pointer(k, "start"), p.right.down, result, add)]
        elif plan.right == "shared":
            lines = [self._call(depth, k, f"packed + column * {p.k * plan.groups}L", self.width, result, add)]
        else:
            source = "panel" if plan.right == "panel" else self._in_block()
            lines = [self._call(depth, k, source, self.width, result, add)]
        if plan.blocked:
            finish = block(f"if (k + depth == {p.k})", self._finish())
            return [*lines, *finish, f"tile += {plan.mr * self.width};"]
        return lines if self.direct else lines + self._finish()

    def _finish(self) -> list[str]:
        """Brings the new elements of a tile to the result or the epilogue."""
        p, w = self.p, self.width
        if self.flips and not self.epilogue:
            source = f"tile + (row - top) * {w} + column - start"
            name = gemm_pack.transpose_name(p.dtype)
            return [
                f"{name}(end - row, stop - column, {source}, {w}, {p.out.pointer('row', 'column')}, {p.out.across}L);"
            ]
        r, c = ("j", "i") if self.plan.turned else ("i", "j")
        groups = range(self.plan.groups)
        values = [f"tile[({r} - top) * {w} + {f'{g * self.plan.run} + ' if g else ''}{c} - start]" for g in groups]
        lines = []
        if self.flips:
            name = gemm_pack.transpose_name(p.dtype)
            lines = [f"{name}({self.plan.mr}, {w}, tile, {w}, turned, {self.plan.mr});"]
            values = [f"turned[({c} - start) * {self.plan.mr} + {r} - top]"]
        if self.epilogue:
            body = self.epilogue(("i", "j"), *values).splitlines()
        else:
            places = [p.out.element(r, f"({c} + {g * self.columns})" if g else c) for g in groups]
            body = [f"{place} = {value};" for place, value in zip(places, values, strict=True)]
        loops = [f"for (long {c} = column; {c} < stop; ++{c})", f"for (long {r} = row; {r} < end; ++{r})"]
        outer, innermost = loops if self.flips else loops[::-1]
        # results may lie in their operands' place, which keeps the compiler from vectorising
        independent = ["GN_INDEPENDENT"] if self.epilogue else []
        return [*lines, *block(outer, [*independent, *block(innermost, body)])]
