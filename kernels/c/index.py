"""Gathering, scattering and placing elements by position.

Indices come from users, so no address is made of one that was not checked: the whole array of indices is looked
through first, by every share of the work or, where it is long, in a phase of its own; the most extreme one is
reported with GN_FAIL, and work goes on as if it pointed at row 0, or nowhere. `take` honours an epilogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.strided import equal_parts, traffic_cost, unit_axis
from graphnet.kernels.text.axes import Dim, at, by_stride, indent, loop, loops, merge, offset, position
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Attrs, View

_BY_ALL = 1 << 14  # indices that every share of the work looks through by itself
_GROUPED = 1 << 18  # elements from which it pays to put equal indices together before adding

_ROW = """\
/* The row that an index means: counted from the end if negative, row 0 if it is out of range. */
GN_INLINE long gn_row(int64_t index, int64_t rows)
{
    index += index < 0 ? rows : 0;
    return (uint64_t)index < (uint64_t)rows ? (long)index : 0;
}
"""
_OWN_ROW = """\
/* The row that an index means: counted from the end if negative, -1 if it is out of range. */
GN_INLINE long gn_own_row(int64_t index, int64_t rows)
{
    index += index < 0 ? rows : 0;
    return (uint64_t)index < (uint64_t)rows ? (long)index : -1;
}
"""


def _check(idx: View, rows: int, wrap: bool = True) -> str:
    """Report the largest index if it is too large, else the smallest if it is too small."""
    dims = merge(idx.shape, by_stride(idx.shape, [idx.strides]), [idx.strides])
    here = at(idx, position(len(idx.shape), [(d, d.var) for d in dims]))
    first = at(idx, ["0"] * len(idx.shape))
    look = f"low = {here} < low ? {here} : low;\nhigh = {here} > high ? {here} : high;"
    lines = [
        f"{idx.ctype} low = {first}, high = {first};",
        loops(dims, look),
        f"const int64_t lowest = low, highest = high, rows = {rows};",
        f"if (highest >= rows)\n    GN_FAIL((long)highest, {rows});",
        f"else if (lowest < {'-rows' if wrap else '0'})\n    GN_FAIL((long)lowest, {rows});",
    ]
    return "{\n" + indent("\n".join(lines)) + "\n}\n"


def _checked(idx: View, rows: int, operands: int, wrap: bool = True) -> tuple[list[Phase], str]:
    """The check as a phase, or as statements at the start of every share."""
    if not idx.size:
        return [], ""
    text = _check(idx, rows, wrap)
    if idx.size <= _BY_ALL:
        return [], text
    cost = traffic_cost(idx.nbytes)
    return [Phase(text, axes=(None,) * operands, cost=cost, note="checks the indices", fails=True)], ""


def _only_check(idx: View, rows: int, operands: int) -> list[Phase]:
    if not idx.size:
        return []
    return [Phase(_check(idx, rows), axes=(None,) * operands, cost=traffic_cost(idx.nbytes), fails=True)]


def bounded(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out = idx counted from the start of an axis of attrs size; others than its own are reported, and give 0.

    With attrs wrap, indices count from the end if negative; without, those are reported too.
    """
    out, idx, size, wrap = outs[0], ins[0], attrs["size"], attrs["wrap"]
    if not out.size:
        return []
    before, text = _checked(idx, size, 2, wrap)
    unit = unit_axis(idx.shape)
    order = by_stride(idx.shape, [idx.strides, out.strides])
    dims = merge(idx.shape, order, [idx.strides, out.strides], lambda a: a if a == unit else -1)
    here = position(len(idx.shape), [(d, d.var) for d in dims])
    body = loops(
        [d for d in dims if unit not in d.axes], f"{at(out, here)} = ({out.ctype})gn_row({at(idx, here)}, {size});"
    )
    body = text + (body if unit is None else loop(f"i{unit}", "lo", "hi", body))
    units, axes = (1, (None, None)) if unit is None else (idx.shape[unit], (unit, None if text else unit))
    return [*before, Phase(body, units, axes, (_ROW,), 20 + 0.5 * idx.size, fails=bool(text))]


def take(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out[i] = x[idx[i]]: out.shape = idx.shape + x.shape[1:]; idx any integers, negative from the end."""
    out, (x, idx) = outs[0], ins[:2]
    rank, none = len(idx.shape), (None,) * (len(outs) + len(ins))
    if not out.size:
        return _only_check(idx, x.shape[0], len(none))
    full, unit = idx.shape + x.shape[1:], unit_axis(idx.shape)
    along_x = (0,) * rank + x.strides[1:]
    strides = [out.strides, idx.strides + (0,) * (len(full) - rank), along_x]

    def dims(first: int, last: int) -> list[Dim]:
        axes = [a for a in range(first, last) if full[a] != 1]
        return merge(full, axes, strides, lambda a: a if job.epilogue or a == unit else -1)

    ids, row = dims(0, rank), dims(rank, len(full))
    here = position(len(full), [(d, d.var) for d in (*ids, *row)])
    value = f"from[{offset(along_x, here)}]"
    store = job.epilogue(here, value) if job.epilogue else f"{at(out, here)} = {value};"
    number = f"gn_row({at(idx, here[:rank])}, {x.shape[0]})"
    body = f"const {x.ctype} *from = {x.name} + {number} * {x.strides[0]};\n{loops(row, store)}"
    body = loops([d for d in ids if unit not in d.axes], body)
    before, text = _checked(idx, x.shape[0], len(none))
    cost = 20 + idx.size * 1.5 + traffic_cost(2 * out.nbytes)
    if unit is None:
        return [*before, Phase(text + body, 1, none, (_ROW,), cost, "row by row", bool(text))]
    axes = (*(unit for _ in outs), None, None if text else unit, *none[len(outs) + 2 :])
    body = text + loop(f"i{unit}", "lo", "hi", body)
    return [*before, Phase(body, idx.shape[unit], axes, (_ROW,), cost, "row by row", bool(text))]


# -- scatter ------------------------------------------------------------------------------------------------------

_ADD = """\
/* to += rows of n elements, one after another. Not inlined: the compiler would exchange the loops of the caller. */
static __attribute__((noinline, unused)) void gn_add1_{c}({c} *restrict to, const {c} *restrict a, long n)
{{
    for (long j = 0; j < n; j++)
        to[j] += a[j];
}}
static __attribute__((noinline, unused)) void gn_add4_{c}({c} *restrict to, const {c} *restrict a,
    const {c} *restrict b, const {c} *restrict c, const {c} *restrict d, long n)
{{
    for (long j = 0; j < n; j++)
        to[j] = (((to[j] + a[j]) + b[j]) + c[j]) + d[j];
}}
"""
_LINE = 16  # columns of a unit: at least half a cache line, so that threads do not write to the same


@dataclass(frozen=True, slots=True)
class _Scatter:
    """out (rows, ..) += g[i, ..] at idx[i]: dims of the indices and of a row, under g's axes."""

    out: View
    g: View
    idx: View
    ids: list[Dim]
    row: list[Dim]

    @property
    def rank(self) -> int:
        return len(self.idx.shape)

    @property
    def width(self) -> int:
        return prod(d.size for d in self.row)

    @property
    def lined(self) -> bool:
        """Rows are of floats without gaps, in out and in g."""
        if len(self.row) != 1 or self.out.dtype not in ("float32", "float64"):
            return False
        axis = self.row[0].axes[-1]
        return self.g.strides[axis] == 1 and self.out.strides[axis - self.rank + 1] == 1

    @property
    def grouped(self) -> bool:
        """There is enough to add to put equal indices together first, and a number says where a row of g is."""
        return self.lined and len(self.ids) == 1 and self.g.size >= _GROUPED and self.width >= 64

    def here(self, *instead: tuple[Dim, str]) -> list[str]:
        return position(len(self.g.shape), [*((d, d.var) for d in (*self.ids, *self.row)), *instead])

    def start(self, view: View, row: str, column: str) -> str:
        """The address of a column of a row of out."""
        return " + ".join([view.name, f"{row} * {view.strides[0]}", column])


def scatter_add_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int) -> int:
    """Bytes for where each row's indices start, and the indices' positions grouped by row."""
    grouped = outs[0].size and ins[0].size and _scatter(outs[0], *ins).grouped
    return 4 * (outs[0].shape[0] + ins[1].size) if grouped else 0


def _scatter(out: View, g: View, idx: View) -> _Scatter:
    rank = len(idx.shape)
    onto = (0,) * rank + out.strides[1:]
    within = idx.strides + (0,) * (len(g.shape) - rank)
    ids = merge(g.shape, [a for a in range(rank) if g.shape[a] != 1], [g.strides, within])
    row = merge(g.shape, [a for a in range(rank, len(g.shape)) if g.shape[a] != 1], [g.strides, onto])
    return _Scatter(out, g, idx, ids, row)


def scatter_add(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `take`: out (rows, ..) is zero, then out[idx[i]] += g[i] for i in row-major order.

    Threads share columns where rows are long, else the rows of out. Where there is much to add, the indices are
    grouped by row first and four rows of g are added to one of out at a time, as fast as g can be read.
    """
    out, (g, idx) = outs[0], ins
    if not out.size:
        return _only_check(idx, out.shape[0], 3)
    work = _scatter(out, g, idx)
    if g.size and work.grouped:
        return _by_group(work, job)
    if g.size and work.lined and work.width >= 2 * _LINE:
        return _by_column(work)
    return _by_row(work)


def _columns(work: _Scatter, before: str, body: str) -> tuple[str, int, int | None]:
    """The body for the columns of a share, the number of units and the axis of a row that they share out."""
    units, width = -(-work.width // _LINE), work.width
    even, axis = width % _LINE == 0, work.row[0].axes[0]
    stop = f"hi * {_LINE}" if even else f"hi * {_LINE} < {width} ? hi * {_LINE} : {width}"
    text = f"{before}const long begin = lo * {_LINE}, width = ({stop}) - begin;\n{body}"
    return text, units, axis if even and work.g.shape[axis] % units == 0 else None


def _by_column(work: _Scatter) -> list[Phase]:
    out, g, idx, c = work.out, work.g, work.idx, work.out.ctype
    before, text = _checked(idx, out.shape[0], 3)
    clear = loop("r", 0, out.shape[0], loop("j", 0, "width", f"{out.name}[r * {out.strides[0]} + begin + j] = 0;"))
    source = offset(g.strides, work.here((work.row[0], "begin")))
    add = (
        f"const long row = gn_own_row({at(idx, work.here()[: work.rank])}, {out.shape[0]});\n"
        f"if (row >= 0)\n    gn_add1_{c}({work.start(out, 'row', 'begin')}, {g.name} + {source}, width);"
    )
    walk = loops(work.ids, add) if work.ids else "{\n" + indent(add) + "\n}"
    body, units, axis = _columns(work, text, f"{clear}\n{walk}")
    axes = (None if axis is None else axis - work.rank + 1, axis, None)
    cost = 20 + idx.size * 3 + traffic_cost(3 * g.nbytes + out.nbytes)
    return [*before, Phase(body, units, axes, (_OWN_ROW, _ADD.format(c=c)), cost, "columns shared out", bool(text))]


def _by_group(work: _Scatter, job: Job) -> list[Phase]:
    out, g, idx, c, rows = work.out, work.g, work.idx, work.out.ctype, work.out.shape[0]
    ids, count = work.ids[0], work.idx.size
    names = f"int32_t *end = (int32_t *){job.scratch}, *order = end + {rows};\n"
    number = f"const long row = gn_own_row({at(idx, work.here()[: work.rank])}, {rows});\nif (row >= 0)\n    "
    group = [
        _check(idx, rows) + names + loop("r", 0, rows, "end[r] = 0;"),
        "/* count the indices of each row, then put each behind the last one of its row */",
        loop(ids.var, 0, count, number + "end[row]++;"),
        "int32_t start = 0;",
        loop("r", 0, rows, "const int32_t many = end[r];\nend[r] = start;\nstart += many;"),
        loop(ids.var, 0, count, number + f"order[end[row]++] = (int32_t){ids.var};"),
    ]
    step = g.strides[ids.axes[-1]]
    sources = [f"{g.name} + order[i{f' + {k}' if k else ''}] * {step}L + begin" for k in range(4)]
    add = (
        f"{c} *to = {work.start(out, 'r', 'begin')};\n"
        f"long i = r > 0 ? end[r - 1] : 0;\n"
        f"{loop('j', 0, 'width', 'to[j] = 0;')}\n"
        f"for (; i + 4 <= end[r]; i += 4)\n    gn_add4_{c}(to, {', '.join(sources)}, width);\n"
        f"for (; i < end[r]; i++)\n    gn_add1_{c}(to, {sources[0]}, width);"
    )
    body, units, axis = _columns(work, names, loop("r", 0, rows, add))
    axes = (None if axis is None else axis - work.rank + 1, axis, None)
    cost = 20 + 1.3 * traffic_cost(g.nbytes) + traffic_cost(out.nbytes)
    return [
        Phase("\n".join(group), 1, (None,) * 3, (_OWN_ROW,), count * 1.5, "groups indices by row", True),
        Phase(body, units, axes, (_ADD.format(c=c),), cost, "columns shared out, four rows of g at a time"),
    ]


def _by_row(work: _Scatter) -> list[Phase]:
    out, g, idx, rows = work.out, work.g, work.idx, work.out.shape[0]
    units = rows if rows <= 4096 else equal_parts(rows, 64, 128)
    step = -(-rows // units)
    units = -(-rows // step)
    before, text = _checked(idx, rows, 3)
    zeros = merge(out.shape, [a for a in range(1, len(out.shape)) if out.shape[a] != 1], [out.strides])
    place = position(len(out.shape), [(d, d.var) for d in zeros])
    clear = loop("r", "begin", "end", loops(zeros, f"{at(out, ['r', *place[1:]])} = 0;"))
    here = work.here()
    target = at(out, ["row", *here[work.rank :]])
    if out.dtype in ("int32", "int64"):
        unsigned = f"u{out.ctype}"
        sum_ = f"{target} = ({out.ctype})(({unsigned}){target} + ({unsigned}){at(g, here)});"
    else:
        sum_ = f"{target} {'|' if out.dtype == 'bool' else '+'}= {at(g, here)};"
    number = f"const long row = gn_own_row({at(idx, here[: work.rank])}, {rows});\n"
    body = f"{number}if (row < begin || row >= end)\n    continue;\n{loops(work.row, sum_)}"
    if not work.ids:
        inside = loops(work.row, sum_)
        body = f"{number}if (row >= begin && row < end) {{\n{indent(inside)}\n}}"
    walk = (loops(work.ids, body) if work.ids else body) if g.size else ""
    stop = f"hi * {step}" if units * step == rows else f"hi * {step} < {rows} ? hi * {step} : {rows}"
    body = f"{text}const long begin = lo * {step}, end = {stop};\n{clear}\n{walk}"
    axes = (0 if rows % units == 0 else None, None, None)
    cost = 20 + idx.size * 2 + traffic_cost(out.nbytes) + g.size * 0.5
    return [*before, Phase(body, units, axes, (_OWN_ROW,), cost, "rows shared out", bool(text))]


# -- by position --------------------------------------------------------------------------------------------------


def place(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of a strided slice: out is zero but for out[starts + i * steps] = x[i]; steps may be negative."""
    out, x, ndim = outs[0], ins[0], len(outs[0].shape)
    starts, steps = attrs["starts"], attrs["steps"]
    if not out.size:
        return []
    whole = [x.shape[a] == n and starts[a] == 0 and steps[a] == 1 for a, n in enumerate(out.shape)]
    unit = unit_axis(out.shape)
    order = [a for a in by_stride(out.shape, [out.strides]) if a != unit]
    zeros = merge(out.shape, order, [out.strides])
    row = [] if unit is None else [(Dim((unit,), 0), f"i{unit}")]
    clear = loops(zeros, f"{at(out, position(ndim, [*((d, d.var) for d in zeros), *row]))} = 0;")
    source = [a for a in order if x.shape[a] != 1]
    moved = merge(x.shape, source, [x.strides, out.strides], lambda a: -1 if whole[a] else a)
    taken = position(ndim, [(d, d.var) for d in moved])
    put = [i if w else _stepped(i, s, t) for i, w, s, t in zip(taken, whole, starts, steps, strict=True)]
    if unit is not None:
        taken[unit], put[unit] = f"i{unit}" if whole[unit] else "from", f"i{unit}"
    copy = loops(moved, f"{at(out, put)} = {at(x, taken)};") if x.size else ""
    filled = all(n == x.shape[a] for a, n in enumerate(out.shape) if a != unit)
    before = "" if filled else clear + "\n"
    cost = 20 + traffic_cost(out.nbytes + 2 * x.nbytes)
    if unit is None:
        return [Phase(copy or clear, 1, (None, None), cost=cost)]
    if not x.size:
        body = clear
    elif whole[unit]:
        body = before + copy
    else:
        start, step, n = starts[unit], steps[unit], x.shape[unit]
        test = f"away % {step} == 0 && from >= 0 && from < {n}" if abs(step) != 1 else f"from >= 0 && from < {n}"
        head = f"const long away = i{unit} - {start}, from = away / {step};\n"
        body = f"{head}{before}if ({test}) {{\n{indent(copy)}\n}}"
        body += f" else {{\n{indent(clear)}\n}}" if filled else ""
    axes = (unit, unit if x.size and whole[unit] else None)
    return [Phase(loop(f"i{unit}", "lo", "hi", body), out.shape[unit], axes, cost=cost)]


def _stepped(index: str, start: int, step: int) -> str:
    return (
        str(start) if index == "0" else f"{start} + {index} * ({step})" if step < 0 else f"{start} + {index} * {step}"
    )


def iota(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out = its own index along attrs axis."""
    out, axis = outs[0], attrs["axis"] % max(len(outs[0].shape), 1)
    if not out.size:
        return []
    unit = unit_axis(out.shape)
    order = by_stride(out.shape, [out.strides])
    dims = merge(out.shape, order, [out.strides], lambda a: a if a in (unit, axis) else -1)
    here = position(len(out.shape), [(d, d.var) for d in dims])
    value = f"{here[axis]} != 0" if out.dtype == "bool" else f"({CTYPES[out.dtype]}){here[axis]}"
    body = loops([d for d in dims if unit not in d.axes], f"{at(out, here)} = {value};")
    cost = 20 + traffic_cost(out.size * ITEMSIZE[out.dtype])
    if unit is None:
        return [Phase(body, 1, (None,), cost=cost)]
    return [Phase(loop(f"i{unit}", "lo", "hi", body), out.shape[unit], (unit,), cost=cost)]
