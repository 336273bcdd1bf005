"""Pooling over windows, one pass over the image each; the way back follows the kept index and searches nothing.

Windows of kernel (kh, kw) every `stride` elements over x (N, C, H, W) with padding ((pt, pb), (pl, pr)) give
outputs (N, C, oh, ow). Maxima are found in two steps that vectorise, a block of output rows at a time:

    kh rows of x -> high, which (maximum of each column of a window, and its place) -> best, place

Places number a window row by row, so of equal columns the one with the lower place is taken. Padding stands in
``high`` as the lowest number, at a place behind all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.c.conv_text import RANGES, block, downwards, indent, loop, packed, part, unit_axis
from graphnet.kernels.c.view import CTYPES, ITEMSIZE, Attrs, Job, Phase, View, elements_cost

_BLOCK = 1024  # elements of a row buffer: some of these fit the first cache together
_NOWHERE = 1 << 30  # the place of padding
_UNROLLED = 8  # columns of a window, at most, whose stores are written out
_UNSIGNED = {1: "uint8_t", 4: "uint32_t", 8: "uint64_t"}
_LOWEST = {"float32": "-INFINITY", "float64": "-INFINITY", "int32": "INT32_MIN", "int64": "INT64_MIN"}


@dataclass(frozen=True)
class _Windows:
    """Windows of the image x, and any view with the shape of their results."""

    x: View
    out: View
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    @property
    def span(self) -> int:
        """Columns that a row of windows covers, with padding."""
        return (self.out.shape[3] - 1) * self.stride[1] + self.kernel[1]

    def inside(self, *axes: int) -> bool:
        """No window reaches into padding along these axes: 0 is down, 1 along."""
        ends = ((self.out.shape[2 + d] - 1) * self.stride[d] + self.kernel[d] for d in axes)
        return all(self.padding[d][0] == 0 and end <= self.x.shape[2 + d] for d, end in zip(axes, ends, strict=True))

    @property
    def some_missing(self) -> bool:
        """A window may lie in padding altogether."""
        starts = ((self.out.shape[2 + d] - 1) * self.stride[d] - self.padding[d][0] for d in (0, 1))
        late = any(start >= size for start, size in zip(starts, self.x.shape[2:], strict=True))
        return late or any(self.padding[d][0] >= self.kernel[d] for d in (0, 1))

    @property
    def disjoint(self) -> bool:
        return all(s >= k for k, s in zip(self.kernel, self.stride, strict=True))

    @property
    def row_by_row(self) -> bool:
        """Windows are disjoint, inside, and each row of them covers whole rows of the image."""
        whole = self.kernel[1] == self.stride[1] and self.out.shape[3] * self.kernel[1] == self.x.shape[3]
        return whole and self.disjoint and self.inside(0, 1)

    @property
    def tiles(self) -> bool:
        """Every element of the image lies in exactly one window."""
        return self.row_by_row and self.out.shape[2] * self.kernel[0] == self.x.shape[2]

    @property
    def axis(self) -> int:
        return unit_axis(self.x.shape)

    @property
    def channels(self) -> int:
        """Channels of a unit."""
        return 1 if self.axis else self.x.shape[1]

    @property
    def rows(self) -> int:
        """Output rows of a unit."""
        return self.channels * self.out.shape[2]

    @property
    def rows_at_once(self) -> int:
        """Output rows of a block: a divisor of all rows if one is large enough, so that loops have fixed lengths."""
        most = max(1, min(self.rows, _BLOCK // max(1, self.span)))
        return next((r for r in range(most, most // 2, -1) if self.rows % r == 0), most)

    def blocks(self, lines: Iterable[str]) -> list[str]:
        """A loop over blocks of ``rows`` output rows from row ``first``."""
        n, every = self.rows_at_once, self.rows
        rest = f"{every} - first < {n} ? {every} - first : {n}" if every % n else str(n)
        return loop("first", every, [f"const long rows = {rest};", *lines], n)

    def pointer(self, name: str, view: View, written: bool = False) -> str:
        """Declares what unit u has of a view."""
        return f"{'' if written else 'const '}{view.ctype} *{name} = {part(view, self.axis)};"

    def phases(self, lines: Iterable[str], operands: int, per_element: float, note: str) -> list[Phase]:
        body = "\n".join(["for (long u = lo; u < hi; ++u) {", *indent(lines), "}"])
        cost = elements_cost(self.x.size + self.out.size, per_element)
        return [Phase(body, self.x.shape[self.axis], (self.axis,) * operands, (RANGES,), cost, note)]


def _windows(x: View, out: View, attrs: Attrs) -> _Windows:
    return _Windows(x, out, attrs["kernel"], attrs["stride"], attrs["padding"])


def _element(pointer: str, view: View, row: str, column: str) -> str:
    """An element, by its row counted over channels, from a pointer to channel 0."""
    _, channel, down, along = view.strides
    height = view.shape[2]
    if channel == height * down:
        return f"{pointer}[({row}) * {down}L + ({column}) * {along}L]"
    return f"{pointer}[({row}) / {height} * {channel}L + ({row}) % {height} * {down}L + ({column}) * {along}L]"


def _plus(dtype: str, a: str, b: str) -> str:
    """a + b as NumPy adds: integers wrap around, booleans are or-ed."""
    if dtype.startswith("float"):
        return f"{a} + {b}"
    if dtype == "bool":
        return f"{a} | {b}"
    unsigned = _UNSIGNED[ITEMSIZE[dtype]]
    return f"({CTYPES[dtype]})(({unsigned}){a} + ({unsigned}){b})"


# -- maxima -------------------------------------------------------------------------------------------------


def _choose(
    x: View, count: int | str, m: tuple[str, str], v: tuple[str, str], into: tuple[str, str], later: bool = False
) -> list[str]:
    """For each q the better of two (value, place), a NaN or else the higher; of equals the first, so m if v is later."""
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


def _down(w: _Windows) -> list[str]:
    """Fills top and at, row r of high and which, from the rows of x that the windows of output row t meet."""
    x, (kh, kw), height = w.x, w.kernel, w.out.shape[2]
    _, channel, down, along = x.strides
    into, kept, met = ("top", "at"), ("top[q]", "at[q]"), f"row[q * {along}L]"
    columns, stride = max(0, min(x.shape[3], w.span - w.padding[1][0])), w.stride[0] * down
    if w.inside(0):
        one_image = channel == height * stride
        start = f"t * {stride}L" if one_image else f"t / {height} * {channel}L + t % {height} * {stride}L"
        lines = [f"const {x.ctype} *row = image + {start};"]
        if kh == 1:
            return lines + _set(columns, into, met, 0)
        lower = f"row[q * {along}L + {down}L]", str(kw)
        lines += _choose(x, columns, (met, "0"), lower, into, later=True)
        lower = f"row[q * {along}L + i * {down}L]", f"i * {kw}"
        more = _choose(x, columns, kept, lower, into, later=True)
        return lines + (block(f"for (long i = 2; i < {kh}; ++i)", more) if kh > 2 else [])
    row = f"const {x.ctype} *row = image + t / {height} * {channel}L + (above + i) * {down}L;"
    first = block("if (i == start)", _set(columns, into, met, f"i * {kw}"))
    more = block("else", _choose(x, columns, kept, (met, f"i * {kw}"), into, later=True))
    return [
        f"const long above = t % {height} * {w.stride[0]} - {w.padding[0][0]};",
        f"const long start = gn_first(above, 1), stop = gn_stop({x.shape[2]}, {kh}, above, 1);",
        *block("if (start >= stop)", _set(columns, into, _LOWEST.get(x.dtype, "0"), _NOWHERE)),
        *block("for (long i = start; i < stop; ++i)", [row, *first, *more]),
    ]


def _along(w: _Windows) -> list[str]:
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


def _put(w: _Windows, name: str, view: View, source: str) -> list[str]:
    """Stores a block of results, which lie in order in source."""
    columns = w.out.shape[3]
    if packed(view, w.axis):
        return loop("q", f"rows * {columns}", [f"{name}[first * {columns} + q] = ({view.ctype}){source}[q];"])
    target = _element(name, view, "first + r", "q")
    return loop("r", "rows", loop("q", columns, [f"{target} = ({view.ctype}){source}[r * {columns} + q];"]))


def _maximum(idx: View, out: View | None, x: View, attrs: Attrs) -> list[Phase]:
    w = _windows(x, idx, attrs)
    if not idx.size:
        return []
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
    if out is not None and packed(out, w.axis):
        lines.append(w.pointer("values", out, True))
        inner.insert(0, f"{x.ctype} *best = values + first * {columns};")
    else:
        lines.append(f"GN_ALIGNED {x.ctype} best[{n * columns}] __attribute__((unused));")
    inner += _along(w)
    if w.some_missing:
        missing = block(f"if (place[q] >= {_NOWHERE})", ["best[q] = 0;", f"place[q] = {w.taps - 1};"])
        inner += loop("q", f"rows * {columns}", missing)
    inner += _put(w, "index", idx, "place")
    if out is not None and not packed(out, w.axis):
        lines.append(w.pointer("values", out, True))
        inner += _put(w, "values", out, "best")
    lines += w.blocks(inner)
    return w.phases(lines, 2 if out is None else 3, 0.05, "maxima of rows, then of windows")


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


def _chosen(w: _Windows, idx: View) -> tuple[list[str], str, str]:
    """Statements that decode idx of window (c, y, z), whether it points into the image, and the element it names."""
    x, (kh, kw), (sh, sw) = w.x, w.kernel, w.stride
    _, channel, down, along = x.strides
    lines = [f"const uint64_t k = (uint64_t){_element('index', idx, f'c * {idx.shape[2]} + y', 'z')};"]
    if w.inside(0, 1):
        window = f"c * {channel}L + y * {sh * down}L + z * {sw * along}L"
        if w.taps > 64:
            return lines, f"k < {w.taps}", f"image[{window} + (long)k / {kw} * {down}L + (long)k % {kw} * {along}L]"
        places = ", ".join(str(i * down + j * along) for i in range(kh) for j in range(kw))
        lines.insert(0, f"static const long offset[{w.taps}] = {{{places}}};")
        return lines, f"k < {w.taps}", f"image[{window} + offset[k]]"
    lines += [
        f"const long row = y * {sh} - {w.padding[0][0]} + (long)(k / {kw});",
        f"const long column = z * {sw} - {w.padding[1][0]} + (long)(k % {kw});",
    ]
    inside = f"k < {w.taps} && row >= 0 && row < {x.shape[2]} && column >= 0 && column < {x.shape[3]}"
    return lines, inside, f"image[c * {channel}L + row * {down}L + column * {along}L]"


def pool_gather(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out[n,c,y,z] = the element of x that idx names in window (y, z), 0 if it names none inside x.

    outs: out (N, C, oh, ow); ins: x (N, C, H, W) of any dtype and idx of any integer dtype.
    """
    (out,), (x, idx) = outs, ins
    w = _windows(x, out, attrs)
    if not out.size:
        return []
    decode, inside, element = _chosen(w, idx)
    target = _element("target", out, f"c * {out.shape[2]} + y", "z")
    visit = loop("z", out.shape[3], [*decode, f"{target} = {inside} ? {element} : 0;"])
    visit = loop("c", w.channels, loop("y", out.shape[2], visit))
    return w.phases(
        [w.pointer("image", x), w.pointer("index", idx), w.pointer("target", out, True), *visit], 3, 0.1, "by index"
    )


def _zero(w: _Windows) -> list[str]:
    rows, columns = w.channels * w.x.shape[2], w.x.shape[3]
    if packed(w.x, w.axis):
        return loop("q", rows * columns, ["image[q] = 0;"])
    return loop("r", rows, loop("q", columns, [f"{_element('image', w.x, 'r', 'q')} = 0;"]))


def _spread_rows(w: _Windows, g: View, idx: View | None) -> list[str]:
    """Windows row_by_row: g, repeated for each column, goes to all rows of its windows, or to where idx points."""
    x, (kh, kw), columns, width = w.x, w.kernel, g.shape[3], w.x.shape[3]
    sources = [(g, "part")] if idx is None else [(g, "part"), (idx, "index")]
    flat = all(packed(v, w.axis) for v, _ in sources)
    at = f"q * {kw}" if flat else f"r * {width} + q * {kw}"
    found = [f"{name}[first * {columns} + q]" if flat else _element(name, v, "first + r", "q") for v, name in sources]
    wide = f"uint{64 if max(ITEMSIZE[v.dtype] for v, _ in sources) == 8 else 32}_t"
    lines = [f"GN_ALIGNED {x.ctype} values[{w.rows_at_once * width}];"]
    copies = [f"const {x.ctype} v = {found[0]};", *(f"values[{at} + {j}] = v;" for j in range(kw))]
    stored = [f"values[r * {width} + q]"] * kh
    if idx is not None:
        lines.append(f"GN_ALIGNED {wide} hits[{w.rows_at_once * width}]; /* the place, counted from its column */")
        copies += [f"const {wide} k = ({wide}){found[1]};", *(f"hits[{at} + {j}] = k - {j};" for j in range(kw))]
        stored = [f"hits[r * {width} + q] == {i * kw} ? {v} : 0" for i, v in enumerate(stored)]
    repeat = loop("q", f"rows * {columns}" if flat else columns, copies)
    row = f"t / {g.shape[2]} * {x.shape[2]} + t % {g.shape[2]} * {w.stride[0]}"
    store = [f"{_element('image', x, f'{row} + {i}', 'q')} = {v};" for i, v in enumerate(stored)]
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
    w = _windows(out, g, attrs)
    if not out.size:
        return []
    lines = [w.pointer("image", out, True), w.pointer("part", g), w.pointer("index", idx)]
    if w.row_by_row and max(w.kernel) <= _UNROLLED:
        return w.phases([*lines, *_spread_rows(w, g, idx)], 3, 0.05, "rows of disjoint windows")
    decode, inside, element = _chosen(w, idx)
    value = _element("part", g, f"c * {g.shape[2]} + y", "z")
    total = value if w.disjoint else _plus(out.dtype, element, value)
    visit = downwards("z", g.shape[3], [*decode, f"if ({inside})", f"    {element} = {total};"])
    visit = loop("c", w.channels, downwards("y", g.shape[2], visit))
    return w.phases([*lines, *_zero(w), *visit], 3, 0.15, "by index")


# -- sums ---------------------------------------------------------------------------------------------------


def _met(w: _Windows, const: str, statement: str) -> list[str]:
    """Runs a statement for all i, j and z of window row (c, y) that meet column z * sw + j of ``row``, row i."""
    x, (kh, kw), (sh, sw), ((top, _), (left, _)) = w.x, w.kernel, w.stride, w.padding
    columns = w.out.shape[3]
    pointer = f"{const}{x.ctype} *row = image + c * {x.strides[1]}L + (above + i) * {x.strides[2]}L;"
    lines = [
        f"const long above = y * {sh} - {top};",
        f"const long start = gn_first(above, 1), stop = gn_stop({x.shape[2]}, {kh}, above, 1);",
    ]
    along = loop("z", columns, [statement])
    if not w.inside(1):
        bounds = f"gn_first(j - {left}, {sw}), to = gn_stop({x.shape[3]}, {columns}, j - {left}, {sw})"
        along = [f"const long from = {bounds};", "for (long z = from; z < to; ++z)", f"    {statement}"]
    return [*lines, *block("for (long i = start; i < stop; ++i)", [pointer, *loop("j", kw, along)])]


def window_sum(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (N, C, oh, ow) = the sum of each window of x (N, C, H, W), any dtype, element by element row by row."""
    (out,), (x,) = outs, ins
    w = _windows(x, out, attrs)
    if not out.size:
        return []
    columns, column = out.shape[3], f"(z * {w.stride[1]} + j - {w.padding[1][0]}) * {x.strides[3]}L"
    row = [
        f"{x.ctype} sum[{columns}];",
        *loop("z", columns, ["sum[z] = 0;"]),
        *_met(w, "const ", f"sum[z] = {_plus(x.dtype, 'sum[z]', f'row[{column}]')};"),
        *loop("z", columns, [f"{_element('target', out, f'c * {out.shape[2]} + y', 'z')} = sum[z];"]),
    ]
    visit = loop("c", w.channels, loop("y", out.shape[2], row))
    return w.phases([w.pointer("image", x), w.pointer("target", out, True), *visit], 2, 0.05 * w.taps, "row by row")


def window_spread(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `window_sum`: each element of out (N, C, H, W) sums g (N, C, oh, ow) over the windows it is in."""
    (out,), (g,) = outs, ins
    w = _windows(out, g, attrs)
    if not out.size:
        return []
    lines = [w.pointer("image", out, True), w.pointer("part", g)]
    if w.row_by_row and max(w.kernel) <= _UNROLLED:
        return w.phases([*lines, *_spread_rows(w, g, None)], 2, 0.05, "rows of disjoint windows")
    into = f"row[(z * {w.stride[1]} + j - {w.padding[1][0]}) * {out.strides[3]}L]"
    add = f"{into} = {_plus(out.dtype, into, _element('part', g, f'c * {g.shape[2]} + y', 'z'))};"
    # from the last window to the first: an element's place falls from window to window
    visit = loop("c", w.channels, downwards("y", g.shape[2], _met(w, "", add)))
    return w.phases([*lines, *_zero(w), *visit], 2, 0.05 * w.taps, "row by row")
