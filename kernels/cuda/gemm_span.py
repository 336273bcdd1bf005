"""Products many terms of which are known to be nothing for some columns: the terms that a tile goes through.

    columns   b b b b c c c c d d d d     blocks of ``width`` columns that need the same terms
    terms     s s s t t t u u u v v v     blocks of ``terms`` terms that the same columns need
    needed    t s - -   u t s -   v u t   a tile of b and c: those from s to u

As columns go on, the first and the last block of terms that they need only rise. So a tile needs, at most, what lies
between the first of its first column and the last of its last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphnet.kernels.cuda.gemm_load import picked


@dataclass(frozen=True, slots=True)
class Span:
    """Columns of block b need terms of block t only if 0 <= first + b - t * pace < size and 0 <= t < taps.

    Entry e has number ``e / below % len(first)`` of ``first`` and of ``taps``; ``first`` may be negative.
    """

    width: int
    terms: int
    size: int
    pace: int
    first: tuple[int, ...]
    taps: tuple[int, ...]
    below: int = 1

    def terms_of(self, entry: int, begin: int, end: int) -> tuple[int, int]:
        """The first term, and the one behind the last, for a tile of the columns from ``begin`` to ``end`` - 1.

        Where it needs none, the two are equal.
        """
        number = entry // self.below % len(self.first)
        start = self.first[number] + self.pace
        low = max(start + begin // self.width - self.size, 0) // self.pace
        high = min(max(start + (end - 1) // self.width, 0) // self.pace, self.taps[number])
        return low * self.terms, max(low, high) * self.terms

    def many(self, entry: int, begin: int, end: int) -> int:
        """How many these are."""
        first, last = self.terms_of(entry, begin, end)
        return last - first

    def runs(self, entry: int, n: int, columns: int) -> Iterator[tuple[int, int]]:
        """(how many tiles, the terms of each) for the tiles of so many of n columns, in order."""
        tile, tiles = 0, -(-n // columns)
        while tile < tiles:
            begin = tile * columns
            edge = (begin // self.width + 1) * self.width
            inside = edge // columns if edge < n else tiles
            count = max(inside - tile, 1)
            yield count, self.many(entry, begin, min(begin + columns, n))
            tile += count

    def average(self, entries: int, n: int, columns: int) -> float:
        """The terms of a tile."""
        kinds = [x * self.below for x in range(min(len(self.first), entries))]
        total = sum(count * terms for entry in kinds for count, terms in self.runs(entry, n, columns))
        return total / (len(kinds) * -(-n // columns))

    def lines(self, n: int, columns: int, depth: int, part: str, parts: int) -> list[str]:
        """Declares ``begin`` and ``stop``, the terms of the tile at column ``start`` or of the part of these.

        A tile cuts its own terms in ``parts``, each of whole chunks of ``depth`` but for the last that has any;
        where there are none stop <= begin.
        """
        number = f"entry / {self.below} % {len(self.first)}" if self.below > 1 else f"entry % {len(self.first)}"
        low, high = (picked([x + self.pace - size for x in self.first], number) for size in (self.size, 0))
        last = f"start + {columns - 1}"
        last = last if n % columns == 0 else f"{last} < {n} ? {last} : {n - 1}"
        pace = f" / {self.pace}" if self.pace > 1 else ""
        lines = [
            f"const int low = start / {self.width} + {low}, high = ({last}) / {self.width} + {high};",
            f"const int taps = {picked(self.taps, number)}, rise = high > 0 ? high{pace} : 0;",
            f"const int needed = (low > 0 ? low{pace} : 0) * {self.terms};",
            f"const int end = (rise < taps ? rise : taps) * {self.terms};",
        ]
        if parts == 1:
            lines.append("const int begin = needed, stop = end;")
        else:
            share = f"(end - needed + {parts * depth - 1}) / {parts * depth} * {depth}"
            lines += [
                f"const int share = end > needed ? {share} : 0;",
                f"const int part = {part}, begin = needed + part * share;",
                "const int stop = begin + share < end ? begin + share : end;",
            ]
        return lines
