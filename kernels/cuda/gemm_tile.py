"""Tiles of products: what the threads of a block do for one tile of a result.

    left (rows by k), right (k by columns)    ->    chunks of ``depth`` terms of ``rows.size`` by ``columns.size`` lines
    a block    ``ways`` groups of threads, each of which takes every ways-th term of a chunk
    a thread   ``rows.each`` by ``columns.each`` sums in registers, from pieces of neighbours that are one load

Chunks of both operands come to shared memory by way of registers, the next while one is multiplied. In the end the
groups' sums meet in shared memory and are added in order; consecutive threads take consecutive elements of that.

Where an operand's elements lie is for its ``Operand`` to say, so that products of matrices, of packed matrices and of
patches of images are all this one text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Protocol

from graphnet.kernels.cuda.gemm_load import RUNS, Loads, Operand, block, times, total, unrolled
from graphnet.kernels.cuda.gemm_results import Results
from graphnet.kernels.cuda.gemm_span import Span
from graphnet.kernels.cuda.phase import THREADS
from graphnet.kernels.text.view import CTYPES, ITEMSIZE

UNSIGNED = {"int32": "uint32_t", "int64": "uint64_t", "uint8": "uint32_t", "bool": "uint32_t"}
"""What sums of integers are kept in, so that they wrap."""

UNROLLED = 256
"""Multiplications of a thread that stand side by side."""


@dataclass(frozen=True, slots=True)
class Side:
    """The rows or the columns of a tile: ``threads`` times ``each``."""

    threads: int
    each: int

    @property
    def size(self) -> int:
        return self.threads * self.each

    def pieces(self, widest: int) -> Iterator[tuple[int, int]]:
        """A thread's lines in runs of neighbours: the number of the first and how many, at most ``widest``.

        In the tile, the run of thread t begins at first * threads + many * t, a multiple of many.
        """
        first, many = 0, widest
        while first < self.each:
            if self.each - first < many:
                many //= 2
                continue
            yield first, many
            first += many


@dataclass(frozen=True, slots=True)
class Tile:
    """How a tile is cut; rows.threads * columns.threads divides THREADS, ``depth`` is a multiple of ways."""

    rows: Side
    columns: Side
    depth: int

    @property
    def ways(self) -> int:
        """Groups of threads that share the terms of each sum."""
        return THREADS // (self.rows.threads * self.columns.threads)


class Cut(Protocol):
    """What is common to all kinds of tiles: lines, terms of a chunk, and groups that share the terms of a sum."""

    @property
    def rows(self) -> Side: ...
    @property
    def columns(self) -> Side: ...
    @property
    def depth(self) -> int: ...
    @property
    def ways(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Product:
    """``entries`` products of m rows, n columns and k terms each, all of one dtype.

    The operands' texts may use ``entry``, which is there if there are several. ``store`` gives the statements for
    the finished element at row i and column j of one. In ``groups``, n is a multiple of the tile's columns and the
    tile's columns are so many runs side by side of ``across`` columns of each group: store takes the value of each
    for j < across. ``down``: results lie in memory down their columns. ``reach`` is the C type of indices. With a
    ``span``, a tile goes only through the terms that this says its columns need. If what store reads can be loaded
    ``ahead``, that gives C type and expression by number, and store takes ``ahead=True``.
    """

    dtype: str
    m: int
    n: int
    k: int
    left: Operand
    right: Operand
    store: Callable[..., str]
    entries: int = 1
    groups: int = 1
    across: int = 0
    down: bool = False
    reach: str = "int"
    span: Span | None = None
    ahead: Callable[[str, str], Mapping[int, tuple[str, str]]] | None = None

    @property
    def sum_type(self) -> str:
        return UNSIGNED.get(self.dtype, CTYPES[self.dtype])

    @property
    def sum_bytes(self) -> int:
        return max(ITEMSIZE[self.dtype], 4)

    @property
    def size(self) -> int:
        """Elements of all results."""
        return self.entries * self.m * self.n

    def cast(self, value: str) -> str:
        """A sum as an element."""
        return value if self.sum_type == CTYPES[self.dtype] else f"({CTYPES[self.dtype]}){value}"

    @property
    def widest(self) -> int:
        """Elements of 16 bytes."""
        return 16 // ITEMSIZE[self.dtype] if ITEMSIZE[self.dtype] >= 4 else 1


def digit(name: str, below: int, size: int, before: Sequence[int]) -> str:
    """One index of a number that counts through several: ``below`` places after it, sizes ``before`` it."""
    if size == 1:
        return "0"
    high = name if below == 1 else f"{name} / {below}"
    return high if prod(before) == 1 else f"{high} % {size}"


class Text:
    """The statements of a unit that computes one tile of a product, or some of the terms of one."""

    helpers: tuple[str, ...] = (RUNS,)

    def __init__(self, product: Product, tile: Cut, parts: int = 1) -> None:
        """The terms are cut in about ``parts`` parts, each of whole chunks."""
        self.product, self.tile = product, tile
        self.down, self.across = -(-product.m // tile.rows.size), -(-product.n // tile.columns.size)
        self.length = -(-product.k // (parts * tile.depth)) * tile.depth
        self.parts = -(-product.k // self.length)
        self.chunks = -(-min(self.length, product.k) // tile.depth)
        # a unit's terms do not begin with the product's first, or do not go on to its last
        self.cut = self.parts > 1 or product.span is not None
        # some chunks hold fewer terms than the others, or none
        self.ragged = self.parts * self.length != product.k or product.span is not None
        self.ctype = CTYPES[product.dtype]
        sides = (
            ("left", product.left, tile.rows.size, product.m),
            ("right", product.right, tile.columns.size, product.n),
        )
        self.left, self.right = (Loads(*side, tile.depth, self.ctype, product.reach) for side in sides)
        self.row_pieces = list(tile.rows.pieces(product.widest))
        self.column_pieces = list(tile.columns.pieces(gcd(product.widest, self.right.stride)))
        self.results = self._results()

    # -- sizes

    @property
    def units(self) -> int:
        return self.product.entries * self.parts * self.down * self.across

    @property
    def share(self) -> float:
        """Of all terms, those that a tile goes through on average."""
        p = self.product
        return p.span.average(p.entries, p.n, self.tile.columns.size) / p.k if p.span else 1.0

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return max(sum(self._bytes), self.results.nbytes)

    @property
    def _bytes(self) -> tuple[int, ...]:
        """Of the chunks of left and right, and of their tables."""
        sides, buffers, item = (self.left, self.right), min(self.chunks, 2), ITEMSIZE[self.product.dtype]
        wide = 4 if self.product.reach == "int" else 8
        counts = [x.elements * item for x in sides] + [x.table * wide for x in sides]
        return tuple(-(-buffers * count // 16) * 16 for count in counts)

    def _results(self) -> Results:
        return Results(self.product, self.tile, self.parts, self.row_pieces, self.column_pieces)

    # -- text

    def lines(self, scratch: str) -> list[str]:
        """All statements; ``scratch`` is a char * to the sums of all parts: (part, entry, i, j)."""
        start = [*self._place(), *self._buffers(), *self.left.start(), *self.right.start(), *self._threads()]
        start.append(self._sums())
        ctype = self.product.sum_type
        parts = [f"{ctype} *const parts = ({ctype} *){scratch};"] if self.parts > 1 else []
        start += self.results.ahead()
        return ["const int tid = threadIdx.x;", *parts, *start, *self._loop(), *self.results.lines()]

    def _sums(self) -> str:
        """The declaration of a thread's sums."""
        return f"{self.product.sum_type} sum[{self.tile.rows.each}][{self.tile.columns.each}] = {{}};"

    def _place(self) -> list[str]:
        """Which tile and which of its terms are the unit's."""
        p, tile = self.product, self.tile
        sizes = (p.entries, self.parts, self.down, self.across)
        entry, part, down, across = (digit("unit", prod(sizes[i + 1 :]), sizes[i], sizes[:i]) for i in range(4))
        lines = [f"const {p.reach} entry = {entry};"] if p.entries > 1 else []
        lines.append(f"const int top = {times(down, tile.rows.size)}, start = {times(across, tile.columns.size)};")
        if p.span:
            return [*lines, *p.span.lines(p.n, tile.columns.size, tile.depth, part, self.parts)]
        if self.parts > 1:
            lines.append(f"const int part = {part}, begin = part * {self.length};")
        if self.parts > 1 and self.ragged:
            lines.append(f"const int stop = begin + {self.length} < {p.k} ? begin + {self.length} : {p.k};")
        return lines

    def _buffers(self) -> list[str]:
        """The pieces of shared memory."""
        lines, offset = [], 0
        names = (("lefts", self.ctype), ("rights", self.ctype))
        tables = (("left_table", self.product.reach), ("right_table", self.product.reach))
        for (name, ctype), size in zip((*names, *tables), self._bytes, strict=True):
            if size:
                lines.append(
                    f"{ctype} *const {name} = ({ctype} *){f'(gn_shared + {offset})' if offset else 'gn_shared'};"
                )
            offset += size
        if self.right.operand.resident:
            lines.append(f"const {self.ctype} *const rights = (const {self.ctype} *)gn_resident;")
        return lines

    def _threads(self) -> list[str]:
        """Which rows and columns of the tile, and which terms, are the thread's."""
        down, across = self.tile.rows.threads, self.tile.columns.threads
        lines = [f"const int group = tid / {down * across};"] if self.tile.ways > 1 else []
        # a warp is a block of threads whose columns are read at once
        wide = min(across, 8)
        high = min(down, 32 // wide)
        if across == wide:
            row, column = digit("tid", across, down, (self.tile.ways,)), digit("tid", 1, across, (down, self.tile.ways))
        else:
            block_row = digit("tid", across * high, down // high, (self.tile.ways,))
            row = total(times(block_row, high) if down > high else "", digit("tid", wide, high, (2,)))
            column = f"tid / {wide * high} % {across // wide} * {wide} + tid % {wide}"
        return [*lines, f"const int row = {row}, column = {column};"]

    def _loop(self) -> list[str]:
        """All chunks, the next one on its way while one is multiplied."""
        sides, depth, k = (self.left, self.right), self.tile.depth, self.product.k
        begin, stop = ("begin", "stop") if self.cut else ("0", str(k))
        guard = stop if self.ragged else ""
        base = f"{begin} + " if self.cut else ""
        lines = _both(x.fill("0", begin, guard) for x in sides)
        lines += ["__syncthreads();"] if lines else []
        lines += _both(x.fetch("0", begin, guard) for x in sides)
        lines += _both(x.fill("1", f"{base}{depth}", guard) for x in sides) if self.chunks > 1 else []
        lines += [*_both(x.put("0") for x in sides), "__syncthreads();"]
        if self.chunks == 1:
            return [*lines, *self._multiply("0", begin, stop), "__syncthreads();"]
        chunks = str(self.chunks)
        if self.product.span:
            chunks = "chunks"
            lines.append(f"const int chunks = (stop - begin + {depth - 1}) / {depth};")
        more = f"if (chunk + 1 < {chunks})"
        inner = [
            f"const int now = chunk % 2, at = {base}chunk * {depth};",
            *block(more, _both(x.fetch("(1 - now)", f"at + {depth}", guard) for x in sides)),
            *_both(x.fill("now", f"at + {2 * depth}", guard) for x in sides),
            *self._multiply("now", "at", stop),
            *block(more, _both(x.put("(1 - now)") for x in sides)),
            "__syncthreads();",
        ]
        return [*lines, *unrolled(f"for (int chunk = 0; chunk < {chunks}; ++chunk)", inner, "1")]

    def _multiply(self, now: str, at: str, stop: str) -> list[str]:
        """Multiplies a chunk that is in shared memory, where it is number ``now`` and begins with term ``at``."""
        ways, depth = self.tile.ways, self.tile.depth
        lines = [self._begin(x, now, at) for x in (self.left, self.right)]
        down, across = self.tile.rows.each, self.tile.columns.each
        add = unrolled(f"for (int x = 0; x < {across}; ++x)", [self._add()])
        body = [f"{self.ctype} a[{down}], b[{across}];", *self._take("a", "row"), *self._take("b", "column")]
        body += unrolled(f"for (int y = 0; y < {down}; ++y)", add)
        steps = depth // ways
        near = max(u for u in (1, 2, 4, 8, 16) if steps % u == 0 and (u == 1 or u * down * across <= UNROLLED))
        if not self.ragged:
            lines += unrolled(f"for (int step = 0; step < {steps}; ++step)", body, str(near))
            return ["{", *_inside(lines), "}"]
        left = f"{stop} - {at}" if at != "0" else stop
        lines.append(f"const int steps = {left} < {depth} ? ({left} + {ways - 1}) / {ways} : {steps};")
        inner = unrolled(f"for (int step = first; step < first + {near}; ++step)", body)
        lines += unrolled(f"for (int first = 0; first < steps; first += {near})", inner, "1")
        return ["{", *_inside(lines), "}"]

    def _begin(self, x: Loads, now: str, at: str) -> str:
        """Where the first term of a chunk that the thread takes is."""
        chunk = at if x.operand.resident else times(now, self.tile.depth)
        first = total("" if chunk == "0" else chunk, "group" if self.tile.ways > 1 else "")
        offset = f" + ({first}) * {x.stride}" if first else ""
        return f"const {self.ctype} *const {x.name}_now = {x.name}s{offset};"

    def _take(self, name: str, index: str) -> list[str]:
        """One term's elements of the thread's lines to registers."""
        left = name == "a"
        x, threads = (self.left, self.tile.rows.threads) if left else (self.right, self.tile.columns.threads)
        lines = [f"const {self.ctype} *const {x.name}_step = {x.name}_now + step * {self.tile.ways * x.stride};"]
        for first, many in self.row_pieces if left else self.column_pieces:
            source = f"{x.name}_step[{total(first * threads, times(index, many))}]"
            to = f"{name}[{first}]"
            lines.append(f"{to} = {source};" if many == 1 else f"gn_take<{many}>(&{to}, &{source});")
        return lines

    def _add(self) -> str:
        ctype = self.product.sum_type
        if self.product.dtype in ("float32", "float64"):
            return f"sum[y][x] = {'fmaf' if ctype == 'float' else 'fma'}(a[y], b[x], sum[y][x]);"
        return f"sum[y][x] += ({ctype})a[y] * ({ctype})b[x];"


def _both(parts: Iterable[list[str]]) -> list[str]:
    return [line for lines in parts for line in lines]


def _inside(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
