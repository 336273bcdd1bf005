"""Packing: the right operand of a product, copied into panels that are read from front to back.

Panel p holds columns first(p) to first(p) + width - 1 of a (k, n) matrix as k rows of ``width`` elements. The last
panel reaches back so that it is full, too; a matrix narrower than one panel is padded with zeros.

In groups, the matrix is so many of equal size side by side, and a row of a panel the same run of each:

    columns a0 a1 a2 a3 b0 b1 b2 b3, width 4, 2 groups    ->    panels a0 a1 b0 b1 | a2 a3 b2 b3
"""

from __future__ import annotations

from dataclasses import dataclass

from graphnet.kernels.c.tile import lanes, vectors
from graphnet.kernels.text.view import CTYPES, ITEMSIZE


@dataclass(frozen=True, slots=True)
class Matrix:
    """Element (i, j) is at[i * down + j * across]."""

    at: str
    down: int
    across: int

    @property
    def turned(self) -> Matrix:
        return Matrix(self.at, self.across, self.down)

    def element(self, i: str, j: str) -> str:
        return f"{self.at}[{self.offset(i, j) or '0'}]"

    def pointer(self, i: str, j: str) -> str:
        offset = self.offset(i, j)
        return f"{self.at} + {offset}" if offset else self.at

    def offset(self, i: str, j: str) -> str:
        """i and j are C names, numbers or parenthesised."""
        terms = [x if s == 1 else f"{x} * {s}L" for x, s in ((i, self.down), (j, self.across)) if s and x != "0"]
        return " + ".join(terms)


def panels(columns: int, width: int) -> int:
    """How many panels hold this many columns."""
    return -(-columns // width)


def panel_start(column: str, columns: int, width: int) -> str:
    """The C expression of the first column of the panel that begins at ``column``, a multiple of width."""
    if columns % width == 0 or columns < width:
        return column
    return f"({column} + {width} <= {columns} ? {column} : {columns - width})"


def _shuffle(a: str, b: str, mask: list[int]) -> str:
    return f"__builtin_shufflevector({a}, {b}, {', '.join(map(str, mask))})"


def _joined(parts: list[str], length: int) -> str:
    """One vector out of 1, 2 or 4 of ``length`` lanes."""
    while len(parts) > 1:
        mask = list(range(2 * length))
        parts = [_shuffle(parts[i], parts[i + 1], mask) for i in range(0, len(parts), 2)]
        length *= 2
    return parts[0]


def _zipped(first: int, step: int, quarter: int, total: int) -> list[int]:
    """Lanes of two vectors, taken in turns of ``step`` from ``first`` on, inside each 16 bytes."""
    mask = []
    for base in range(0, total, quarter):
        for i in range(base + first, base + first + quarter // 2, step):
            mask += [*range(i, i + step), *range(total + i, total + i + step)]
    return mask


def _block(ctype: str, wide: int, quarter: int) -> list[str]:
    """Statements that transpose wide rows x quarter columns at s to quarter rows x wide columns at d."""
    groups, vector, short = wide // quarter, f"gn_{wide}{ctype}", f"gn_{quarter}{ctype}"
    lines = []
    for i in range(quarter):
        parts = [f"*(const {short} *)(s + {i + g * quarter} * lds)" for g in range(groups)]
        lines.append(f"const {vector} r{i} = {_joined(parts, quarter)};")
    low, high = _zipped(0, 1, quarter, wide), _zipped(quarter // 2, 1, quarter, wide)
    if quarter == 2:
        rows = [_shuffle("r0", "r1", low), _shuffle("r0", "r1", high)]
    else:
        for name, a, b, mask in (("t0", 0, 1, low), ("t1", 0, 1, high), ("t2", 2, 3, low), ("t3", 2, 3, high)):
            lines.append(f"const {vector} {name} = {_shuffle(f'r{a}', f'r{b}', mask)};")
        low, high = _zipped(0, 2, quarter, wide), _zipped(2, 2, quarter, wide)
        rows = [_shuffle(a, b, mask) for a, b in (("t0", "t2"), ("t1", "t3")) for mask in (low, high)]
    return lines + [f"*({vector} *)(d + {i} * ldd) = {row};" for i, row in enumerate(rows)]


def transpose_name(dtype: str) -> str:
    """The function that ``transpose(dtype)`` defines."""
    return f"gn_transpose_{CTYPES[dtype]}"


def transpose(dtype: str) -> str:
    """Helper text: ``NAME(long n, long m, const T *src, long lds, T *dst, long ldd)`` copies n rows of m transposed.

    dst[k * ldd + j] = src[j * lds + k] for j < n, k < m, through registers in blocks of a vector by 16 bytes.
    """
    ctype, size = CTYPES[dtype], ITEMSIZE[dtype]
    quarter = 16 // size
    lengths = sorted({quarter, lanes(dtype)}, reverse=True)
    types = [
        f"typedef {ctype} gn_{n}{ctype} __attribute__((vector_size({n * size}), aligned({size}), may_alias));"
        for n in lengths
    ]
    loops = []
    for n in lengths:
        loops += [
            f"    for (; j + {n} <= n; j += {n})",
            f"        for (long k = 0; k + {quarter} <= m; k += {quarter}) {{",
            f"            const {ctype} *s = src + j * lds + k;",
            f"            {ctype} *d = dst + k * ldd + j;",
            *(f"            {line}" for line in _block(ctype, n, quarter)),
            "        }",
        ]
    return "\n".join(
        [
            *types,
            f"GN_ONCE void {transpose_name(dtype)}(long n, long m, const {ctype} *restrict src, long lds,",
            f"    {ctype} *restrict dst, long ldd)",
            "{",
            "    long j = 0;",
            "#if defined(__clang__) || __GNUC__ >= 12",
            *loops,
            "#endif",
            "    for (long i = 0; i < n; ++i)",
            f"        for (long k = i < j ? m / {quarter} * {quarter} : 0; k < m; ++k)",
            "            dst[k * ldd + i] = src[i * lds + k];",
            "}\n",
        ]
    )


def panel(
    dtype: str, right: Matrix, target: str, width: int, columns: int, k: str, depth: str, groups: int = 1
) -> list[str]:
    """Statements that pack ``depth`` rows from row ``k`` on of the panel at column ``start`` to ``target``.

    ``right`` is the operand, ``columns`` how many it has; ``k`` and ``depth`` are C expressions. ``start`` is a
    column of the first of the groups.
    """
    columns, run = columns // groups, width // groups
    count = min(run, columns)
    lines = [f"memset({target}, 0, sizeof(*{target}) * {depth} * {width});"] if columns < run else []
    start, at = ("start", "") if groups == 1 else (f"(start + g * {columns})", f" + g * {run}")
    if right.down == 1:
        call = f"{transpose_name(dtype)}({count}, {depth}, {right.pointer(k, start)}, {right.across}L"
        copy = [f"{call}, {target}{at}, {width});"]
    else:
        row = "d" if k == "0" else f"({k} + d)"
        copy = [
            f"for (long d = 0; d < {depth}; ++d)",
            f"    for (long c = 0; c < {count}; ++c)",
            f"        {target}[d * {width}{at} + c] = {right.element(row, f'({start} + c)')};",
        ]
    if groups > 1:
        copy = [f"for (long g = 0; g < {groups}; ++g)", *(f"    {line}" for line in copy)]
    return lines + copy


def helpers(dtype: str, right: Matrix) -> tuple[str, ...]:
    """Definitions that ``panel`` needs."""
    return (vectors(), transpose(dtype)) if right.down == 1 else ()


def tail(dtype: str, right: Matrix, columns: int, k: int, width: int, rows: int) -> list[str]:
    """Statements that copy the last rows of right (k, columns), padded: whole vectors would reach behind it."""
    return [
        f"{CTYPES[dtype]} tail[{rows * width}] = {{0}}; /* the last rows, which whole vectors would overrun */",
        f"for (long k = 0; k < {rows}; ++k)",
        f"    for (long j = 0; j < {columns}; ++j)",
        f"        tail[k * {width} + j] = {right.element(f'({k - rows} + k)', 'j')};",
    ]


def steps(
    names: tuple[str, str, str], bounds: tuple[str, str], size: int, step: int, inner: list[str], ends: bool = True
) -> list[str]:
    """A loop over bounds, C expressions of a part of ``size``, in steps of which the last reaches back to be full.

    ``names`` are the C variables of the first index that is new, the first of the step and the end of the step;
    the end is left out without ``ends``. The size is at least a step.
    """
    new, first, end = names
    lo, hi = bounds
    if (lo, hi) == ("0", str(size)) and size % step == 0:
        head = f"const long {first} = {new}" + (f", {end} = {new} + {step};" if ends else ";")
    else:
        back = f"{end} - {step}" if hi.isdigit() else f"{end} > {step} ? {end} - {step} : 0"
        head = f"const long {end} = {new} + {step} < {hi} ? {new} + {step} : {hi}, {first} = {back};"
    return block(f"for (long {new} = {lo}; {new} < {hi}; {new} += {step})", [head, *inner])


def block(head: str, lines: list[str]) -> list[str]:
    """A C statement with a braced body."""
    return [f"{head} {{", *(f"    {line}" for line in lines), "}"]
