"""How a tile's operands come to shared memory: from wherever their elements lie, in neighbours where they have some.

    along "line"    neighbouring rows of left, or columns of right, lie side by side: consecutive threads take these
    along "depth"   neighbouring terms do: 8 threads take 32 bytes of a line, the next 8 threads the next line

Shared memory holds both as depth rows of lines. Where 8 terms of several lines are written at once, the length of
a row is an odd multiple of 4, so that they fall into different banks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

from graphnet.kernels.cuda.phase import THREADS

RUNS = """\
/* N neighbours, at a multiple of their size, are one access */
template <int N, typename T> struct alignas(N * sizeof(T)) gn_run {
    T at[N];
};

template <int N, typename T> GN_INLINE void gn_take(T *to, const T *from)
{
    const gn_run<N, T> run = *(const gn_run<N, T> *)from;
#pragma unroll
    for (int e = 0; e < N; ++e)
        to[e] = run.at[e];
}

template <int N, typename T> GN_INLINE void gn_put(T *to, const T *from)
{
    gn_run<N, T> run;
#pragma unroll
    for (int e = 0; e < N; ++e)
        run.at[e] = from[e];
    *(gn_run<N, T> *)to = run;
}

/* N neighbours, or zeros; in one access if memory begins at a multiple of their size */
template <int N, typename T> GN_INLINE void gn_fetch(T *to, const T *from, bool in, bool whole)
{
    if (in && whole) {
        gn_take<N>(to, from);
    } else {
#pragma unroll
        for (int e = 0; e < N; ++e)
            to[e] = in ? from[e] : 0;
    }
}
"""

SECTOR = 8
"""Neighbouring terms that consecutive threads take: 32 bytes of float32, the least that memory delivers."""


FAR = 1 << 29
"""A row or column that is outside wherever one begins to count, and of which two are no overflow."""

NEAR = 1 << 28
"""What rows and columns must stay below for that, on both sides of 0."""


class Kind(NamedTuple):
    """What is known of an operand without its text: ``along`` and ``run``, and how many numbers a table has a term."""

    along: str
    run: int
    table: int = 0


@dataclass(frozen=True, slots=True)
class Operand:
    """Where the elements of one side of a product lie, by line (row of left, column of right) and term.

    The element is ``pointer[line[0] + depth[0]]``, or 0 where line[x] + depth[x] is outside 0 .. limits[x - 1] - 1
    for some x > 0: ``line`` and ``depth`` give C expressions for the name of an index. ``along`` "line" or "depth"
    says which neighbours lie side by side; ``run`` of them can be loaded at once where the pointer is a multiple of
    their size, as it is if ``aligned``. ``tabled``: what depends on the term is worth being kept in a table.
    ``resident``: the lines of a tile lie as shared memory holds them at gn_resident, for all terms. ``near``: limits,
    line[x] and depth[x] for x > 0 are all within NEAR.
    """

    pointer: str
    line: Callable[[str], tuple[str, ...]]
    depth: Callable[[str], tuple[str, ...]]
    along: str
    run: int = 1
    limits: tuple[int, ...] = ()
    tabled: bool = False
    aligned: bool = False
    resident: bool = False
    near: bool = False

    @property
    def kind(self) -> Kind:
        return Kind(self.along, self.run, power(1 + len(self.limits)) if self.tabled else 0)


def strided(pointer: str, line: int, depth: int, lines: int, terms: int, run: int) -> Operand:
    """A matrix with these strides, of lines by terms; ``run`` if everything else is a multiple of it."""
    along = "depth" if abs(depth) == 1 and abs(line) != 1 and terms > 1 else "line"
    near, far, size = (depth, line, terms) if along == "depth" else (line, depth, lines)
    run = run if near == 1 and far % run == 0 and size % run == 0 else 1
    return Operand(pointer, lambda i: (times(i, line),), lambda k: (times(k, depth),), along, run)


def times(name: str, factor: int) -> str:
    """The C expression of an index times a number."""
    return "0" if factor == 0 or name == "0" else name if factor == 1 else f"{name} * {factor}"


def total(*terms: str | int) -> str:
    """Terms added, those left out that are nothing."""
    return " + ".join(str(t) for t in terms if t)


def picked(numbers: Sequence[int], index: str) -> str:
    """The C expression of one of these numbers, whose place is known where the text runs."""
    text = str(numbers[-1])
    if len(set(numbers)) == 1:
        return text
    for place in reversed(range(len(numbers) - 1)):
        text = f"{index} == {place} ? {numbers[place]} : {text}"
    return f"({text})"


def row_length(size: int, along: str) -> int:
    """Elements from term to term in shared memory, for so many lines."""
    four = -(-size // 4) * 4
    return four + 4 if along == "depth" and four % 8 == 0 else four


def power(size: int) -> int:
    """The next power of two."""
    return 1 << (size - 1).bit_length()


def unrolled(head: str, lines: list[str], times: str = "") -> list[str]:
    """A loop that the compiler writes out, or ``times`` rounds of it."""
    return [f"#pragma unroll {times}".rstrip(), *block(head, lines)]


def block(head: str, lines: list[str]) -> list[str]:
    """A statement with a braced body."""
    return [f"{head} {{".lstrip(), *(f"    {line}" for line in lines), "}"]


def declared(ctype: str, values: Mapping[str, str], texts: Iterable[str]) -> list[str]:
    """The declaration of those names that the texts use."""
    words = set(re.findall(r"[A-Za-z_]\w*", "\n".join(texts)))
    found = [f"{name} = {value}" for name, value in values.items() if name in words]
    return [f"const {ctype} {', '.join(found)};"] if found else []


class Loads:
    """The share of each thread in bringing one operand's chunks: which lines and terms, and the text for them."""

    def __init__(self, name: str, operand: Operand, size: int, limit: int, depth: int, ctype: str, reach: str) -> None:
        """``size`` lines of ``limit`` in a tile, chunks of ``depth`` terms; ``reach`` is the C type of indices."""
        self.name, self.operand, self.size, self.limit, self.depth = name, operand, size, limit, depth
        self.ctype, self.reach = ctype, reach
        self.first = "top" if name == "left" else "start"
        self.run = run = operand.run if operand.along == "depth" else gcd(operand.run, size)
        whole = power(size)
        if operand.along == "line":
            lanes = whole // run
            self.line, self.term = times(f"tid % {lanes}", run), f"tid / {lanes}"
            self.lines, self.line_step, self.term_step = 1, whole, THREADS // lanes
        else:
            near = SECTOR // run
            self.line_step = min(whole, THREADS // near)
            below = near * self.line_step
            self.line = f"tid / {near} % {self.line_step}"
            self.term = f"{times(f'tid % {near}', run)} + {times(f'tid / {below}', SECTOR)}"
            self.lines, self.term_step = -(-size // self.line_step), SECTOR * (THREADS // below)
        self.terms = -(-depth // self.term_step)
        # from term to term in shared memory
        self.stride = size if operand.resident else row_length(size, operand.along)
        # what is not there has a row that is outside, so that loads need not ask
        self.hides = operand.tabled and operand.near and bool(operand.limits)
        self.spare_lines = self.lines * self.line_step > size
        self.spare_terms = self.terms * self.term_step > depth

    @property
    def loaded(self) -> int:
        """Elements that a thread has on the way."""
        return 0 if self.operand.resident else self.lines * self.terms * self.run

    @property
    def elements(self) -> int:
        """Of a chunk in shared memory."""
        return 0 if self.operand.resident else self.depth * self.stride

    @property
    def table(self) -> int:
        """Numbers of a chunk's table."""
        return self.depth * self.operand.kind.table

    @property
    def _guarded(self) -> bool:
        """Whether some of a thread's lines are not there."""
        return self.spare_lines or self.limit % self.size != 0

    # -- text

    def start(self) -> list[str]:
        """What a thread's lines are, and what depends on them alone."""
        if self.operand.resident:
            return []
        name, values = self.name, self.operand.line("line")
        lines = [f"const int {name}_line = {self.line}, {name}_term = {self.term};"]
        lines += [f"{self.reach if x == 0 else 'int'} {name}_at{x or ''}[{self.lines}];" for x in range(len(values))]
        fill = [f"{name}_at{x or ''}[q] = {value};" for x, value in enumerate(values)]
        guards = [f"line < {self.limit}"]
        if self.spare_lines and self.limit > self.size:
            guards.append(f"line - {self.first} < {self.size}")
        if self._guarded and self.hides:
            fill[1] = f"{name}_at1[q] = {' && '.join(guards)} ? {values[1]} : {FAR};"
        elif self._guarded:
            lines.append(f"bool {name}_in[{self.lines}];")
            fill.append(f"{name}_in[q] = {' && '.join(guards)};")
        line = f"{self.first} + {name}_line + {times('q', self.line_step)}"
        fill = [*declared(self.reach, {"line": line}, fill), *fill]
        lines += unrolled(f"for (int q = 0; q < {self.lines}; ++q)", fill)
        if self.run > 1 and not self.operand.aligned:
            lines.append(f"const bool {name}_whole = (uint64_t)({self.operand.pointer}) % 16 == 0;")
        return [*lines, f"{self.ctype} {name}_next[{self.loaded}]{' = {}' if self.spare_terms else ''};"]

    def fill(self, buffer: str, begin: str, stop: str) -> list[str]:
        """The table for the chunk that begins at a term; with ``stop``, there are none from that on."""
        if not self.table:
            return []
        # the two operands' tables are filled by different warps
        slot = "tid" if self.name == "left" else f"{THREADS - 1} - tid"
        values = list(self.operand.depth("k"))
        if self.hides and stop:
            values[1] = f"k < {stop} ? {values[1]} : {FAR}"
        lines = [f"const {self.reach} k = {begin} + slot;"]
        for x, value in enumerate(values):
            lines.append(f"{self.name}_table[{self._slot(buffer)}{f' + {x}' if x else ''}] = {value};")
        return ["{", f"    const int slot = {slot};", *(f"    {x}" for x in self._some(lines)), "}"]

    def _some(self, lines: list[str]) -> list[str]:
        return lines if self.depth == THREADS else block(f"if (slot < {self.depth})", lines)

    def _slot(self, buffer: str) -> str:
        """Where the numbers of a term begin in the tables."""
        slot = "slot" if buffer == "0" else f"({times(buffer, self.depth)} + slot)"
        return times(slot, self.operand.kind.table)

    def fetch(self, buffer: str, begin: str, stop: str) -> list[str]:
        """A chunk's elements to registers; with ``stop``, zeros from that term on."""
        if self.operand.resident:
            return []
        name, run, limits = self.name, self.run, self.operand.limits
        depth, inner = self._depth(buffer)
        guards = [f"{name}_in[q]"] if self._guarded and not self.hides else []
        guards += [f"k < {stop}"] if stop and not self.hides else []
        guards += [f"(unsigned)({name}_at{x}[q] + {depth[x]}) < {n}u" for x, n in enumerate(limits, 1)]
        outer = [f"const int slot = {name}_term + {times('p', self.term_step)};"]
        outer += declared(self.reach, {"k": f"{begin} + slot"}, [*guards, *inner])
        # no &&: the loads would be branches, each waiting for its entry of the table before the next is read
        inside = " & ".join(f"({g})" if " " in g and len(guards) > 1 else g for g in guards)
        place = f"{self.operand.pointer} + ({name}_at[q] + {depth[0]})"
        to = f"{name}_next[{self._number}]"
        if run > 1:
            whole = "true" if self.operand.aligned else f"{name}_whole"
            load = f"gn_fetch<{run}>(&{to}, {place}, {inside or 'true'}, {whole});"
        else:
            load = f"{to} = {f'{inside} ? ' if inside else ''}*({place}){' : 0' if inside else ''};"
        inner += unrolled(f"for (int q = 0; q < {self.lines}; ++q)", [load])
        return self._passes(outer, inner)

    def _depth(self, buffer: str) -> tuple[list[str], list[str]]:
        """What depends on the term ``k``, which is at ``slot`` of the chunk: names, and statements that define them."""
        name, many = self.name, self.operand.kind.table
        if not self.table:
            values = self.operand.depth("k")
            names = [f"{name}_depth{x or ''}" for x in range(len(values))]
            types = [self.reach, *("int" for _ in values[1:])]
            return names, [f"const {t} {n} = {v};" for t, n, v in zip(types, names, values, strict=True)]
        at, once = self._slot(buffer), min(many, 4 if self.reach == "int" else 2)
        lines = [f"{self.reach} {name}_entry[{many}];"]
        for x in range(0, many, once):
            source = f"{name}_table[{at}{f' + {x}' if x else ''}]"
            take = f"gn_take<{once}>(&{name}_entry[{x}], &{source});"
            lines.append(f"{name}_entry[{x}] = {source};" if once == 1 else take)
        return [f"{name}_entry[{x}]" for x in range(1 + len(self.operand.limits))], lines

    def put(self, buffer: str) -> list[str]:
        """What ``fetch`` brought, to shared memory."""
        if self.operand.resident:
            return []
        name, run = self.name, self.run
        row = "slot" if buffer == "0" else f"({times(buffer, self.depth)} + slot)"
        place = f"{row} * {self.stride} + {name}_line + {times('q', self.line_step)}"
        source = f"{name}_next[{self._number}"
        if run == 1:
            store = [f"{name}s[{place}] = {source}];"]
        elif self.operand.along == "line":
            store = [f"gn_put<{run}>(&{name}s[{place}], &{source}]);"]
        else:
            store = unrolled(
                f"for (int e = 0; e < {run}; ++e)", [f"{name}s[{place} + e * {self.stride}] = {source} + e];"]
            )
        if self.spare_lines:
            store = block(f"if ({name}_line + {times('q', self.line_step)} < {self.size})", store)
        outer = [f"const int slot = {name}_term + {times('p', self.term_step)};"]
        return self._passes(outer, unrolled(f"for (int q = 0; q < {self.lines}; ++q)", store))

    @property
    def _number(self) -> str:
        """Where in registers the loops over p and q are."""
        return times("q" if self.terms == 1 else "p" if self.lines == 1 else f"(p * {self.lines} + q)", self.run)

    def _passes(self, outer: list[str], inner: list[str]) -> list[str]:
        """For all terms that are the thread's."""
        if self.spare_terms:
            inner = block(f"if (slot < {self.depth})", inner)
        return unrolled(f"for (int p = 0; p < {self.terms}; ++p)", [*outer, *inner])
