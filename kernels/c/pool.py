"""Pooling over windows, one pass over the image each; the way back follows the kept index and searches nothing.

Windows of kernel (kh, kw) every `stride` elements over x (N, C, H, W) with padding ((pt, pb), (pl, pr)) give
outputs (N, C, oh, ow). Maxima are found in two steps that vectorise, a block of output rows at a time:

    kh rows of x -> high, which (maximum of each column of a window, and its place) -> best, place

Places number a window row by row, so of equal columns the one with the lower place is taken. Padding stands in
``high`` as the lowest number, at a place behind all others.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphnet.kernels.c.conv_text import WIDEST, Windows, block, downwards, element, loop, plus, term, total, windows
from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.text.view import ITEMSIZE, Attrs, View

_NOWHERE = 1 << 30  # the place of padding
_LOWEST = {"float32": "-INFINITY", "float64": "-INFINITY", "int32": "INT32_MIN", "int64": "INT64_MIN"}


# -- maxima -------------------------------------------------------------------------------------------------


def _choose(
    x: View, count: int | str, m: tuple[str, str], v: tuple[str, str], into: tuple[str, str], later: bool = False
) -> list[str]:
    """For each q the better of two (value, place): a NaN, else the higher, else the first (m, if v is later)."""
    real = x.dtype.startswith("float")
    take, equal = ("!(v <= m) & (m == m)", "(v == m) | (v != v)") if real else ("v > m", "v == m")
    body = [
        f"const {x.ctype} m = {m[0]}, v = {v[0]};",
        f"const {_place(x)} own = {m[1]}, new = {v[1]};",
        f"const int take = {take if later else f'({take}) | ((new < own) & ({equal}))'};",
        f"{into[0]}[q] = take ? v : m;",
        f"{into[1]}[q] = take ? new : own;",
    ]
    return loop("q", count, body)


def _place(x: View) -> str:
    """Places are as wide as numbers, so that both fill vectors alike."""
    return "int64_t" if ITEMSIZE[x.dtype] == 8 else "int32_t"


def _set(count: int | str, into: tuple[str, str], value: str, place: str | int) -> list[str]:
    return loop("q", count, [f"{into[0]}[q] = {value};", f"{into[1]}[q] = {place};"])


def _down(w: Windows) -> list[str]:
    """Fills top and at, row r of high and which, from the rows of x that the windows of output row t meet."""
    x, (kh, kw), height = w.x, w.kernel, w.out.shape[2]
    _, channel, down, along = x.strides
    into, kept, met = ("top", "at"), ("top[q]", "at[q]"), f"row[{term('q', along) or '0'}]"
    columns, stride = max(0, min(x.shape[3], w.span - w.padding[1][0])), w.stride[0] * down
    if w.inside(0):
        start = [term("t", stride)]
        if channel != height * stride:
            start = [term(f"t / {height}", channel), term(f"t % {height}", stride)]
        lines = [f"const {x.ctype} *row = {total('image', *start)};"]
        if kh == 1:
            return lines + _set(columns, into, met, 0)
        below = total(term("q", along), f"{down}L")
        lines += _choose(x, columns, (met, "0"), (f"row[{below}]", str(kw)), into, later=True)
        below = f"row[{total(term('q', along), term('i', down))}]"
        more = _choose(x, columns, kept, (below, f"i * {kw}"), into, later=True)
        return lines + (block(f"for (long i = 2; i < {kh}; ++i)", more) if kh > 2 else [])
    place = total("image", term(f"t / {height}", channel), term("(above + i)", down))
    first = block("if (i == start)", _set(columns, into, met, f"i * {kw}"))
    more = block("else", _choose(x, columns, kept, (met, f"i * {kw}"), into, later=True))
    return [
        f"const long above = t % {height} * {w.stride[0]} - {w.padding[0][0]};",
        f"const long start = gn_met_first(above, 1), stop = gn_met_stop({x.shape[2]}, {kh}, above, 1);",
        *block("if (start >= stop)", _set(columns, into, _LOWEST.get(x.dtype, "0"), _NOWHERE)),
        *block("for (long i = start; i < stop; ++i)", [f"const {x.ctype} *row = {place};", *first, *more]),
    ]


def _along(w: Windows) -> list[str]:
    """Fills best and place, one row of windows after the other, from high and which."""
    (kw, sw), columns = (w.kernel[1], w.stride[1]), w.out.shape[3]
    count, source, into = f"rows * {columns}", "", ("best", "place")
    if sw != kw:
        count, source = str(columns), f"r * {w.span} + "
        into = (f"(best + r * {columns})", f"(place + r * {columns})")
    first = f"{source}q * {sw}"
    if kw == 1:
        lines = _set(count, into, f"high[{first}]", f"which[{first}]")
    else:
        second = f"high[{first} + 1]", f"which[{first} + 1] + 1"
        lines = _choose(w.x, count, (f"high[{first}]", f"which[{first}]"), second, into)
    if kw > 2:
        column = f"high[{first} + j]", f"which[{first} + j] + ({_place(w.x)})j"
        more = _choose(w.x, count, (f"{into[0]}[q]", f"{into[1]}[q]"), column, into)
        lines += block(f"for (long j = 2; j < {kw}; ++j)", more)
    return lines if sw == kw else loop("r", "rows", lines)


def _put(w: Windows, name: str, view: View, source: str) -> list[str]:
    """Stores a block of results, which lie in order in source."""
    columns = w.out.shape[3]
    if w.packed(view):
        return loop("q", f"rows * {columns}", [f"{name}[first * {columns} + q] = ({view.ctype}){source}[q];"])
    target = element(name, view, "first + r", "q")
    return loop("r", "rows", loop("q", columns, [f"{target} = ({view.ctype}){source}[r * {columns} + q];"]))


def _columns(view: View, start: int, stop: int) -> View:
    """A part of a view's columns."""
    name = f"({view.name} + {start * view.strides[3]}L)"
    return View(name, view.dtype, (*view.shape[:3], max(0, stop - start)), view.strides)


def _maximum(idx: View, out: View | None, x: View, attrs: Attrs) -> list[Phase]:
    w = windows(x, idx, attrs)
    if not idx.size:
        return []
    if w.span > WIDEST and idx.shape[3] > 1:
        middle = idx.shape[3] // 2
        return [*_part(idx, out, x, attrs, 0, middle), *_part(idx, out, x, attrs, middle, idx.shape[3])]
    n, columns = w.rows_at_once, idx.shape[3]
    lines = [
        w.pointer("image", x),
        w.pointer("index", idx, True),
        f"GN_ALIGNED {x.ctype} high[{n * w.span}];",
        f"GN_ALIGNED {_place(x)} which[{n * w.span}], place[{n * columns}];",
    ]
    if not w.inside(1):
        lines += _set(n * w.span, ("high", "which"), _LOWEST.get(x.dtype, "0"), _NOWHERE)
    rows = ["const long t = first + r;"]
    column = f"r * {w.span} + {w.padding[1][0]}"
    rows += [f"{x.ctype} *top = high + {column};", f"{_place(x)} *at = which + {column};", *_down(w)]
    inner = loop("r", "rows", rows)
    if out is not None and w.packed(out):
        lines.append(w.pointer("values", out, True))
        inner.insert(0, f"{x.ctype} *best = values + first * {columns};")
    else:
        lines.append(f"GN_ALIGNED {x.ctype} best[{n * columns}] __attribute__((unused));")
    inner += _along(w)
    if w.some_missing:
        missing = block(f"if (place[q] >= {_NOWHERE})", ["best[q] = 0;", f"place[q] = {w.taps - 1};"])
        inner += loop("q", f"rows * {columns}", missing)
    inner += _put(w, "index", idx, "place")
    if out is not None and not w.packed(out):
        lines.append(w.pointer("values", out, True))
        inner += _put(w, "values", out, "best")
    lines += w.blocks(inner)
    return w.phases(lines, 2 if out is None else 3, 0.05, "maxima of rows, then of windows")


def _part(idx: View, out: View | None, x: View, attrs: Attrs, first: int, stop: int) -> list[Phase]:
    """The maxima of some columns of windows."""
    (_, sw), (rows, (left, _)) = attrs["stride"], attrs["padding"]
    start, end = first * sw - left, (stop - 1) * sw - left + attrs["kernel"][1]
    met = _columns(x, min(max(0, start), x.shape[3]), min(end, x.shape[3]))
    padding = (rows, (max(0, -start), max(0, end - x.shape[3])))
    out = out and _columns(out, first, stop)
    return _maximum(_columns(idx, first, stop), out, met, {**attrs, "padding": padding})


def max_pool_index(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Which element of its window, 0 to kh * kw - 1 row by row, is its first maximum; a NaN beats all.

    outs: idx (N, C, oh, ow) uint8 or int32; ins: x (N, C, H, W) of any dtype. For a window that is all padding
    it is the last.
    """
    return _maximum(outs[0], None, ins[0], attrs)


def max_pool(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """`max_pool_index` and the `pool_gather` of it in one pass: outs are idx and out, ins is x."""
    return _maximum(outs[0], outs[1], ins[0], attrs)


# -- by index -----------------------------------------------------------------------------------------------


def _chosen(w: Windows, idx: View) -> tuple[list[str], str, str]:
    """Statements that decode idx of window (c, y, z), whether it points into the image, and the element it names."""
    x, (kh, kw), (sh, sw), ((top, _), (left, _)) = w.x, w.kernel, w.stride, w.padding
    _, channel, down, along = x.strides
    place = element("index", idx, f"c * {idx.shape[2]} + y", "z")
    lines = [f"const long k = (uint64_t){place} < {w.taps} ? (long){place} : -1;"]
    if w.inside(0, 1) and w.taps <= 64:
        places = ", ".join(str(i * down + j * along) for i in range(kh) for j in range(kw))
        lines.insert(0, f"static const long offset[{w.taps}] = {{{places}}};")
        window = total(term("c", channel), term("y", sh * down), term("z", sw * along), "offset[k]")
        return lines, "k >= 0", f"image[{window}]"
    lines += [f"const long row = y * {sh} + k / {kw} - {top};", f"const long column = z * {sw} + k % {kw} - {left};"]
    inside = f"k >= 0 && row >= 0 && row < {x.shape[2]} && column >= 0 && column < {x.shape[3]}"
    return lines, inside, f"image[{total(term('c', channel), term('row', down), term('column', along))}]"


def pool_gather(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out[n,c,y,z] = the element of x that idx names in window (y, z), 0 if it names none inside x.

    outs: out (N, C, oh, ow); ins: x (N, C, H, W) of any dtype and idx of any integer dtype.
    """
    (out,), (x, idx) = outs, ins
    w = windows(x, out, attrs)
    if not out.size:
        return []
    decode, inside, met = _chosen(w, idx)
    target = element("target", out, f"c * {out.shape[2]} + y", "z")
    visit = loop("z", out.shape[3], [*decode, f"{target} = {inside} ? {met} : 0;"])
    visit = loop("c", w.channels, loop("y", out.shape[2], visit))
    lines = [w.pointer("image", x), w.pointer("index", idx), w.pointer("target", out, True)]
    return w.phases([*lines, *visit], 3, 0.1, "by index")


def _zero(w: Windows) -> list[str]:
    rows, columns = w.channels * w.x.shape[2], w.x.shape[3]
    if w.packed(w.x):
        return loop("q", rows * columns, ["image[q] = 0;"])
    return loop("r", rows, loop("q", columns, [f"{element('image', w.x, 'r', 'q')} = 0;"]))


def _spread_rows(w: Windows, g: View, idx: View | None) -> list[str]:
    """Windows row_by_row: g, repeated for each column, goes to all rows of its windows, or to where idx points."""
    x, (kh, kw), columns, width = w.x, w.kernel, g.shape[3], w.x.shape[3]
    sources = [(g, "part")] if idx is None else [(g, "part"), (idx, "index")]
    flat = w.packed(*(v for v, _ in sources))
    at = f"q * {kw}" if flat else f"r * {width} + q * {kw}"
    found = [f"{name}[first * {columns} + q]" if flat else element(name, v, "first + r", "q") for v, name in sources]
    wide = f"uint{64 if max(ITEMSIZE[v.dtype] for v, _ in sources) == 8 else 32}_t"
    lines = [f"GN_ALIGNED {x.ctype} values[{w.rows_at_once * width}];"]
    copies = [f"const {x.ctype} v = {found[0]};", *(f"values[{at} + {j}] = v;" for j in range(kw))]
    stored = [f"values[r * {width} + q]"] * kh
    if idx is not None:
        lines.append(f"GN_ALIGNED {wide} hits[{w.rows_at_once * width}]; /* the place, counted from its column */")
        copies += [f"const {wide} k = ({wide}){found[1]};", *(f"hits[{at} + {j}] = k - {j};" for j in range(kw))]
        stored = [f"hits[r * {width} + q] == {i * kw} ? {v} : 0" for i, v in enumerate(stored)]
    repeat = loop("q", f"rows * {columns}" if flat else columns, copies)
    row = f"t * {kh}" if w.tiles else f"t / {g.shape[2]} * {x.shape[2]} + t % {g.shape[2]} * {w.stride[0]}"
    store = [f"{element('image', x, f'{row} + {i}', 'q')} = {v};" for i, v in enumerate(stored)]
    rows = loop("r", "rows", ["const long t = first + r;", *loop("q", width, store)])
    return [
        *lines,
        *([] if w.tiles else _zero(w)),
        *w.blocks([*(repeat if flat else loop("r", "rows", repeat)), *rows]),
    ]


def pool_scatter(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `pool_gather`: adds g to the elements of out that idx names; what it names outside is dropped.

    outs: out (N, C, H, W); ins: g (N, C, oh, ow) and idx. Where windows overlap, g is added from the last window
    to the first, that is in the order of places.
    """
    (out,), (g, idx) = outs, ins
    w = windows(out, g, attrs)
    if not out.size:
        return []
    lines = [w.pointer("image", out, True), w.pointer("part", g), w.pointer("index", idx)]
    if w.few_rows:
        return w.phases([*lines, *_spread_rows(w, g, idx)], 3, 0.05, "rows of disjoint windows")
    decode, inside, met = _chosen(w, idx)
    value = element("part", g, f"c * {g.shape[2]} + y", "z")
    added = value if w.disjoint else plus(out.dtype, met, value)
    visit = downwards("z", g.shape[3], [*decode, *block(f"if ({inside})", [f"{met} = {added};"])])
    visit = loop("c", w.channels, downwards("y", g.shape[2], visit))
    return w.phases([*lines, *_zero(w), *visit], 3, 0.15, "by index")


# -- sums ---------------------------------------------------------------------------------------------------


def _met(w: Windows, const: str, statement: str) -> list[str]:
    """Runs a statement for all i, j and z of window row (c, y) that meet column z * sw + j of ``row``, row i."""
    x, (kh, kw), (sh, sw), ((top, _), (left, _)) = w.x, w.kernel, w.stride, w.padding
    columns = w.out.shape[3]
    pointer = f"{const}{x.ctype} *row = {total('image', term('c', x.strides[1]), term('(above + i)', x.strides[2]))};"
    lines = [
        f"const long above = y * {sh} - {top};",
        f"const long start = gn_met_first(above, 1), stop = gn_met_stop({x.shape[2]}, {kh}, above, 1);",
    ]
    along = loop("z", columns, [statement])
    if not w.inside(1):
        bounds = f"gn_met_first(j - {left}, {sw}), to = gn_met_stop({x.shape[3]}, {columns}, j - {left}, {sw})"
        along = [f"const long from = {bounds};", *block("for (long z = from; z < to; ++z)", [statement])]
    return [*lines, *block("for (long i = start; i < stop; ++i)", [pointer, *loop("j", kw, along)])]


def window_sum(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (N, C, oh, ow) = the sum of each window of x (N, C, H, W), any dtype, element by element row by row."""
    (out,), (x,) = outs, ins
    w = windows(x, out, attrs)
    if not out.size:
        return []
    column = term(f"(z * {w.stride[1]} + j - {w.padding[1][0]})", x.strides[3]) or "0"
    sum_ = element("target", out, f"c * {out.shape[2]} + y", "z")
    clear = loop("z", out.shape[3], [f"{sum_} = 0;"])
    row = [*clear, *_met(w, "const ", f"{sum_} = {plus(x.dtype, sum_, f'row[{column}]')};")]
    visit = loop("c", w.channels, loop("y", out.shape[2], row))
    return w.phases([w.pointer("image", x), w.pointer("target", out, True), *visit], 2, 0.05 * w.taps, "row by row")


def window_spread(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `window_sum`: each element of out (N, C, H, W) sums g (N, C, oh, ow) over the windows it is in."""
    (out,), (g,) = outs, ins
    w = windows(out, g, attrs)
    if not out.size:
        return []
    lines = [w.pointer("image", out, True), w.pointer("part", g)]
    if w.few_rows:
        return w.phases([*lines, *_spread_rows(w, g, None)], 2, 0.05, "rows of disjoint windows")
    column = term(f"(z * {w.stride[1]} + j - {w.padding[1][0]})", out.strides[3])
    into = f"row[{column or '0'}]"
    add = f"{into} = {plus(out.dtype, into, element('part', g, f'c * {g.shape[2]} + y', 'z'))};"
    # from the last window to the first: an element's place falls from window to window
    visit = loop("c", w.channels, downwards("y", g.shape[2], _met(w, "", add)))
    return w.phases([*lines, *_zero(w), *visit], 2, 0.05 * w.taps, "row by row")
