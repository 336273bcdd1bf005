"""Scattering: sums of rows that have one index, in the order in which they come, without atomic additions.

    indices 2 0 2 1 0    row 0: g[1] + g[4]
                    ->   row 1: g[3]
    rows of g            row 2: g[0] + g[2]

A unit has some rows and columns of the result. It looks through the indices, lists those of its rows in order, and
adds their rows of g to sums in shared memory. Where many indices meet few rows, the indices are cut into parts, by
their number alone; a second phase adds up what the parts gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.cuda.index import OWN_ROW, only_check, report
from graphnet.kernels.cuda.nest import Elements, block, body_of, coordinates, declared, elements, fill
from graphnet.kernels.cuda.phase import THREADS, WAVE, Job, Phase
from graphnet.kernels.text.axes import Dim, Strides, merge, offset, position
from graphnet.kernels.text.view import ITEMSIZE, Attrs, View

_ROUND = 4 * THREADS
"""Indices that a unit looks at together, four to a thread."""
_BATCH = 8
"""Rows of g that a thread reads before it adds the first."""
_ROOM = 24 * 1024
"""Bytes for the sums of a unit."""
_FEWEST = 256
"""Indices of a part, at least."""


@dataclass(frozen=True, slots=True)
class _Scatter:
    """out (rows, ..) += g[i, ..] at idx[i]: dims of the indices and of a row, under g's axes.

    A unit has ``block`` rows by ``columns`` columns of one of ``parts`` parts of the indices, ``part`` in each. Its
    threads are ``groups`` by ``columns``; a group has every ``groups``-th row.
    """

    out: View
    g: View
    idx: View
    ids: list[Dim]
    row: list[Dim]
    ctype: str
    columns: int
    parts: int
    part: int
    block: int

    @property
    def rows(self) -> int:
        return self.out.shape[0]

    @property
    def width(self) -> int:
        return prod(d.size for d in self.row)

    @property
    def groups(self) -> int:
        return THREADS // self.columns

    @property
    def cuts(self) -> tuple[int, int, int]:
        """Parts, blocks of rows, blocks of columns."""
        return self.parts, -(-self.rows // self.block), -(-self.width // self.columns)

    def along(self, strides: Strides, dims: list[Dim], at: str) -> tuple[list[str], str]:
        """Declares coordinates of a position in dims, and the offset there."""
        names = [(d.var, d.size) for d in dims] if len(dims) != 1 else [(at, dims[0].size)]
        index = position(len(strides), [(d, n) for d, (n, _) in zip(dims, names, strict=True)])
        text = offset(strides, index)
        return coordinates(names, at, self.ctype, [text]), text


def _scatter(out: View, g: View, idx: View) -> _Scatter:
    rank = len(idx.shape)
    onto = (0,) * rank + out.strides[1:]
    within = idx.strides + (0,) * (len(g.shape) - rank)
    ids = merge(g.shape, [a for a in range(rank) if g.shape[a] != 1], [g.strides, within])
    row = merge(g.shape, [a for a in range(rank, len(g.shape)) if g.shape[a] != 1], [g.strides, onto])
    rows, width = out.shape[0], prod(d.size for d in row)
    columns = next((c for c in (1, 2, 4, 8, 16, 32, 64, 128) if c >= width), THREADS)
    # sums of parts are written and read again: there are eight indices for each of a part's rows
    parts = max(1, min(idx.size // _FEWEST, idx.size // (8 * rows), WAVE // 2))
    part = -(-idx.size // parts)
    parts = -(-idx.size // part)
    wanted = -(-2 * WAVE // (parts * -(-width // columns)))
    size = max(1, min(-(-rows // wanted), _ROOM // (columns * ITEMSIZE[out.dtype])))
    ctype = elements([("r", rows), ("c", width)], out, g, idx).ctype
    return _Scatter(out, g, idx, ids, row, ctype, columns, parts, part, size)


def scatter_add_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs) -> int:
    """Bytes for the sums of each part of the indices, where there are parts."""
    if not outs[0].size or not ins[0].size:
        return 0
    work = _scatter(outs[0], *ins)
    return work.parts * outs[0].nbytes if work.parts > 1 else 0


def scatter_add(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `take`: out (rows, ..) is zero, then out[idx[i]] += g[i] for i in row-major order.

    A unit looks through the indices, lists those of its rows in order, and adds their rows of g to sums in shared
    memory. Many indices of few rows are cut into parts by their number, whose sums are then added in order.
    """
    out, (g, idx) = outs[0], ins
    if not out.size:
        return only_check(idx, out.shape[0])
    if not g.size:
        return fill(outs, [], {"value": 0}, job)
    work = _scatter(out, g, idx)
    found = [_sums(work, job)]
    if work.parts > 1:
        found.append(_of_parts(work, job))
    return found


def _sums(work: _Scatter, job: Job) -> Phase:
    """The sums of each unit, to out or to where those of its part are."""
    out, c, sums = work.out, work.columns, work.block * work.columns * ITEMSIZE[work.out.dtype]
    item = 4 if work.ctype == "int" else 8
    listed = -(-sums // 16) * 16
    dims = [(n, size) for n, size in zip(("part", "rows", "columns"), work.cuts, strict=True)]
    clear = block(f"for (int r = group; r < {work.block}; r += {work.groups})", [f"sum[r * {c} + lane] = 0;"])
    head = [
        f"{_unsigned(out)} *sum = ({_unsigned(out)} *)gn_shared;",
        f"{work.ctype} *from = ({work.ctype} *)(gn_shared + {listed});",
        f"int *into = (int *)(gn_shared + {listed + item * _ROUND}), *hits = into + {_ROUND};",
        "int bad = 0;",
        *clear,
    ]
    stop = f"first + {work.part}"
    if work.parts * work.part != work.idx.size:
        stop = f"{stop} < {work.idx.size} ? {stop} : {work.idx.size}"
    scan = [
        f"const {work.ctype} first = part * {work.part}, stop = {stop};",
        *block(f"for ({work.ctype} start = first; start < stop; start += {_ROUND})", [*_listing(work), *_adding(work)]),
    ]
    text = [*head, *scan, *_storing(work, job)]
    starts = {"begin": f"rows * {work.block}", "column": f"columns * {c} + lane"}
    text = [*declared(work.ctype, starts, text), *text]
    place = [f"const int lane = threadIdx.x % {c}, group = threadIdx.x / {c};", *coordinates(dims, "unit", "int", text)]
    text = [*place, *text, *report(work.idx, work.rows)]
    note = f"{work.block} rows by {c} columns" + f" of {work.parts} parts" * (work.parts > 1)
    shared = listed + (item + 4) * _ROUND + 4 * (THREADS // 32)
    return Phase(body_of(text), prod(work.cuts), shared, helpers=(OWN_ROW,), note=note, fails=True)


def _listing(work: _Scatter) -> list[str]:
    """Lists where the rows of g that belong to rows of the unit begin, and to which one each belongs, in order."""
    rank, t = len(work.idx.shape), work.ctype
    read, own = work.along(work.idx.strides + (0,) * (len(work.g.shape) - rank), work.ids, "i")
    where, source = work.along((*work.g.strides[:rank], *(0,) * (len(work.g.shape) - rank)), work.ids, "i")
    look = [
        f"const int64_t found = gn_own_row((int64_t){work.idx.name}[{own}], {work.rows});",
        "bad |= found < 0;",
        f"row[q] = found >= begin && found < begin + {work.block} ? (int)(found - begin) : -1;",
    ]
    here = {"i": "start + 4 * (int)threadIdx.x + q"}
    put = [*where, f"from[place] = {source};", "into[place++] = row[q];"]
    return [
        "int row[4], place = 0, count = 0, own = 0;",
        "const unsigned before = (1u << threadIdx.x % 32) - 1;",
        "#pragma unroll",
        *block(
            "for (int q = 0; q < 4; ++q)",
            [
                *declared(t, here, ["i"]),
                "row[q] = -1;",
                *block("if (i < stop)", [*read, *look]),
                "const unsigned hit = __ballot_sync(0xffffffffu, row[q] >= 0);",
                "place += __popc(hit & before);",
                "own += __popc(hit);",
            ],
        ),
        *block("if (threadIdx.x % 32 == 0)", ["hits[threadIdx.x / 32] = own;"]),
        "__syncthreads();",
        *block(
            f"for (int w = 0; w < {THREADS // 32}; ++w)",
            ["place += w < (int)threadIdx.x / 32 ? hits[w] : 0;", "count += hits[w];"],
        ),
        "#pragma unroll",
        *block(
            "for (int q = 0; q < 4; ++q)",
            block("if (row[q] >= 0)", [*declared(t, here, put), *put]),
        ),
        "__syncthreads();",
    ]


def _adding(work: _Scatter) -> list[str]:
    """Adds what is listed to the sums of this thread's rows and column; the list is free behind it."""
    rank, c = len(work.idx.shape), work.columns
    column, within = work.along((*(0,) * rank, *work.g.strides[rank:]), work.row, "column")
    number = _unsigned(work.out)

    def source(k: str) -> str:
        return f"({number}){work.g.name}[from[{k}] + {within}]"

    def add(k: str, value: str) -> str:
        operator = "|=" if work.out.dtype == "bool" else "+="
        return f"sum[into[{k}] * {c} + lane] {operator} {value};"

    mine = f"into[{{}}] % {work.groups} == group"
    several, one = [f"value[u] = {source('k + u')};"], [add("k", source("k"))]
    adds = [add("k + u", "value[u]")]
    if work.groups > 1:
        several = block(f"if ({mine.format('k + u')})", several)
        adds, one = block(f"if ({mine.format('k + u')})", adds), block(f"if ({mine.format('k')})", one)
    unrolled = f"for (int u = 0; u < {_BATCH}; ++u)"
    lines = [
        *column,
        "int k = 0;",
        *block(
            f"for (; k + {_BATCH} <= count; k += {_BATCH})",
            [
                f"{number} value[{_BATCH}];",
                "#pragma unroll",
                *block(unrolled, several),
                "#pragma unroll",
                *block(unrolled, adds),
            ],
        ),
        *block("for (; k < count; ++k)", one),
    ]
    return [*(lines if work.width % c == 0 else block(f"if (column < {work.width})", lines)), "__syncthreads();"]


def _storing(work: _Scatter, job: Job) -> list[str]:
    """Stores the sums of the unit's rows."""
    out, rank = work.out, len(work.idx.shape)
    found: list[str] = []
    if work.parts > 1:
        to = f"(({out.ctype} *){job.scratch})[(part * {work.rows} + row) * {work.width} + column]"
    else:
        found, within = work.along((*(0,) * rank, *out.strides[1:]), work.row, "column")
        to = f"{out.name}[{offset((out.strides[0], 1), ('row', within))}]"
    value = f"({out.ctype})sum[r * {work.columns} + lane]"
    inner = [f"const {work.ctype} row = begin + r;", *block(f"if (row < {work.rows})", [f"{to} = {value};"])]
    lines = [*found, *block(f"for (int r = group; r < {work.block}; r += {work.groups})", inner)]
    return lines if work.width % work.columns == 0 else block(f"if (column < {work.width})", lines)


def _of_parts(work: _Scatter, job: Job) -> Phase:
    """Adds up the sums of all parts, the first part's first."""
    out, rank = work.out, len(work.idx.shape)
    found, within = work.along((*(0,) * rank, *out.strides[1:]), work.row, "column")
    shape = Elements((("row", work.rows), ("column", work.width)), 1, work.ctype)
    number, operator = _unsigned(out), "|=" if out.dtype == "bool" else "+="
    lines = [
        f"const {number} *part = (const {number} *){job.scratch} + row * {work.width} + column;",
        f"{number} sum = part[0];",
        f"#pragma unroll {_BATCH}",
        *block(f"for (int k = 1; k < {work.parts}; ++k)", [f"sum {operator} part[k * {work.rows * work.width}];"]),
        *found,
        f"{out.name}[{offset((out.strides[0], 1), ('row', within))}] = ({out.ctype})sum;",
    ]
    return Phase(body_of(shape.turn(lines)), shape.units, note=f"sums of {work.parts} parts")


def _unsigned(view: View) -> str:
    """The type in which numbers are added: integers wrap around."""
    return f"u{view.ctype}" if view.dtype in ("int32", "int64") else view.ctype
