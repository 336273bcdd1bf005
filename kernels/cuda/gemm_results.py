"""How a tile's sums become results: the groups' sums meet in shared memory, are added in order and stored.

    sum[y][x] of each thread    ->    sums (way, row, column) in shared memory    ->    store(i, j, value)

Consecutive threads store consecutive elements. Where each has one at most, what the epilogue reads besides is loaded
before the product begins: in a loop over time it comes from far away, and nothing else waits for it then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphnet.kernels.cuda.gemm_load import block, declared, times, total, unrolled
from graphnet.kernels.cuda.phase import SHARED, THREADS

if TYPE_CHECKING:
    from graphnet.kernels.cuda.gemm_tile import Cut, Product

Pieces = Sequence[tuple[int, int]]


class Results:
    """The text for the results of one tile; ``row_pieces`` and ``column_pieces`` are what a thread has sums of."""

    def __init__(self, product: Product, tile: Cut, parts: int, row_pieces: Pieces, column_pieces: Pieces) -> None:
        self.product, self.tile, self.parts = product, tile, parts
        self.row_pieces, self.column_pieces = row_pieces, column_pieces
        whole = tile.ways * tile.rows.size * self.stride * product.sum_bytes
        # in how many parts the sums meet in shared memory
        self.rounds = 1 if whole <= SHARED else tile.rows.each // row_pieces[0][1]
        self.high, self.wide = tile.rows.size // self.rounds, tile.columns.size // product.groups
        self.nbytes = whole // self.rounds
        once = self.rounds == parts == 1 and self.high * self.wide <= THREADS
        self.loads_ahead = once and product.ahead is not None

    @property
    def stride(self) -> int:
        """From row to row in shared memory."""
        return -(-self.tile.columns.size // 4) * 4 + (4 if self.product.down else 0)

    # -- text

    def ahead(self) -> list[str]:
        """Which element is the thread's, and what its epilogue reads, loaded before anything else."""
        if not self.loads_ahead or self.product.ahead is None:
            return []
        p, guards = self.product, self._mine()
        lines = [f"const int {', '.join(self._one('tid'))};", f"const {p.reach} {', '.join(self._places())};"]
        if guards:
            lines.append(f"const bool mine = {' && '.join(guards)};")
        for number, (ctype, source) in self.product.ahead("i", "j").items():
            lines.append(f"const {ctype} ahead{number} = {f'mine ? {source} : 0' if guards else source};")
        return lines

    def lines(self) -> list[str]:
        """The groups' sums added in order, through shared memory, and stored."""
        lines = [f"{self.product.sum_type} *const sums = ({self.product.sum_type} *)gn_shared;"]
        inner = [*self._handed_in(), "__syncthreads();", *self._elements()]
        if self.rounds == 1:
            return [*lines, *inner]
        inner += ["__syncthreads();"]
        return [*lines, *unrolled(f"for (int round = 0; round < {self.rounds}; ++round)", inner)]

    def _handed_in(self) -> list[str]:
        """A thread's sums, or a round's share of them, to shared memory."""
        lines: list[str] = []
        for first, many in self.row_pieces[: len(self.row_pieces) // self.rounds]:
            lines += unrolled(f"for (int y = 0; y < {many}; ++y)", self._hand_in(first, many))
        return lines

    def _hand_in(self, first: int, many: int) -> list[str]:
        """A thread's sums of one row to shared memory."""
        columns = self.tile.columns
        group = f"group * {self.high}" if self.tile.ways > 1 else ""
        row = total(group, first * self.tile.rows.threads, times("row", many), "y")
        number = f"round * {many} + y" if self.rounds > 1 else total(first, "y")
        lines = [f"{self.product.sum_type} *const to = sums + ({row}) * {self.stride};"]
        for start, count in self.column_pieces:
            place = total(start * columns.threads, times("column", count))
            source = f"sum[{number}][{start}]"
            lines.append(f"gn_put<{count}>(&to[{place}], &{source});" if count > 1 else f"to[{place}] = {source};")
        return lines

    def _elements(self) -> list[str]:
        """The loop over finished elements; a thread's are the same column, or row, where that is possible."""
        if self.loads_ahead:
            return block("if (mine)" if self._mine() else "", self._store())
        guards, body = self._guards(), self._store()
        body = block(f"if ({' && '.join(guards)})", body) if guards else body
        places = dict(text.split(" = ", 1) for text in self._places())
        body = [*declared(self.product.reach, places, body), *body]
        near, far, first, last = self._order()
        if THREADS % first == 0:
            step = THREADS // first
            head = f"for (int {far} = tid / {first}; {far} < {last}; {far} += {step})"
            inner = unrolled(head, body, str(min(4, -(-last // step))))
            return block("", [f"const int {near} = tid % {first};", *inner])
        head = f"for (int e = tid; e < {self.high * self.wide}; e += {THREADS})"
        return unrolled(head, [f"const int {', '.join(self._one('e'))};", *body], "2")

    def _order(self) -> tuple[str, str, int, int]:
        """Row or column in the tile, whichever runs fast, then the other one, and their sizes."""
        return ("r", "c", self.high, self.wide) if self.product.down else ("c", "r", self.wide, self.high)

    def _one(self, number: str) -> list[str]:
        """Row and column in the tile of element ``number``."""
        near, far, first, _ = self._order()
        return [f"{near} = {number} % {first}", f"{far} = {number} / {first}"]

    def _places(self) -> list[str]:
        """Row and column in the product."""
        p = self.product
        top = f"top + round * {self.high}" if self.rounds > 1 else "top"
        return [f"i = {top} + r", f"j = {'start' if p.groups == 1 else f'start / {p.groups}'} + c"]

    def _mine(self) -> list[str]:
        """Under which conditions a thread has an element, where none has more."""
        return [f"tid < {self.high * self.wide}"] * (self.high * self.wide < THREADS) + self._guards()

    def _guards(self) -> list[str]:
        """Under which conditions a row and a column of the tile are in the product."""
        p = self.product
        across = p.across or p.n
        guards = [f"i < {p.m}"] if p.m % self.tile.rows.size else []
        return guards + ([f"j < {across}"] if across % self.wide else [])

    def _store(self) -> list[str]:
        """Adds up and stores one element."""
        p, ways = self.product, self.tile.ways
        lines, names = [], []
        for g in range(p.groups):
            name = f"value{g if p.groups > 1 else ''}"
            place = f"r * {self.stride} + {f'{g * self.wide} + ' if g else ''}c"
            lines.append(f"{p.sum_type} {name} = sums[{place}];")
            if ways > 1:
                add = [f"{name} += sums[g * {self.high * self.stride} + {place}];"]
                lines += unrolled(f"for (int g = 1; g < {ways}; ++g)", add, str(min(ways - 1, 8)))
            names.append(name)
        if self.parts == 1:
            values = (p.cast(name) for name in names)
            how = {"ahead": True} if self.loads_ahead else {}
            return [*lines, *p.store("i", "j", *values, **how).splitlines()]
        entry = f"(({p.reach})part * {p.entries} + entry)" if p.entries > 1 else f"({p.reach})part"
        far, size, near, step = ("j", p.n, "i", p.m) if p.down else ("i", p.m, "j", p.n)
        return [*lines, f"parts[({entry} * {size} + {far}) * {step} + {near}] = value;"]
