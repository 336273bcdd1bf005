"""Pooling over windows: a thread computes one result, and on the way back one element of the image.

Windows of kernel (kh, kw) every `stride` elements over x (N, C, H, W) with padding ((pt, pb), (pl, pr)) give
outputs (N, C, oh, ow). Places number a window row by row.

    maximum, sum    out[y, z]  <-  the places of window (y, z), in order
    back            x[h, w]    <-  the windows that meet (h, w), in the order of the places where they do

So nothing is added by two threads, and sums have the order of the loops over places that the CPU runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.cuda.nest import Elements, block, body_of, declared, elements
from graphnet.kernels.cuda.phase import Job, Phase
from graphnet.kernels.text.axes import Dim, merge, offset, position
from graphnet.kernels.text.view import Attrs, View

_UNROLLED = 16
"""Places of a window, at most, whose loop is unrolled."""


@dataclass(frozen=True)
class _Windows:
    """Windows over the image x; ``out`` has the shape of their results.

    ``images`` are dims of the first two axes, ``ctype`` is that of indices.
    """

    x: View
    out: View
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    images: tuple[Dim, ...]
    ctype: str

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    def inside(self, d: int) -> bool:
        """No window reaches into padding along this axis: 0 is down, 1 along."""
        end = (self.out.shape[2 + d] - 1) * self.stride[d] + self.kernel[d]
        return self.padding[d][0] == 0 and end <= self.x.shape[2 + d]

    @property
    def disjoint(self) -> bool:
        return all(s >= k for k, s in zip(self.kernel, self.stride, strict=True))

    @property
    def tiles(self) -> bool:
        """Every element of the image lies in exactly one window."""
        exact = all(self.x.shape[2 + d] == self.out.shape[2 + d] * self.kernel[d] for d in (0, 1))
        return exact and self.kernel == self.stride and not any(map(any, self.padding))

    @property
    def some_missing(self) -> bool:
        """A window may lie in padding altogether."""
        starts = ((self.out.shape[2 + d] - 1) * self.stride[d] - self.padding[d][0] for d in (0, 1))
        late = any(start >= size for start, size in zip(starts, self.x.shape[2:], strict=True))
        return late or any(self.padding[d][0] >= self.kernel[d] for d in (0, 1))

    def element(self, view: View, row: str, column: str) -> str:
        """An element of the image that the thread is in."""
        index = position(4, [(d, d.var) for d in self.images])
        index[2:] = row, column
        return f"{view.name}[{offset(view.strides, index)}]"

    def space(self, view: View, row: str, column: str) -> Elements:
        """One thread for each element of a view, at these coordinates."""
        dims = [*((d.var, d.size) for d in self.images), (row, view.shape[2]), (column, view.shape[3])]
        return Elements(tuple(dims), 1, self.ctype)

    def spot(self, i: str, j: str, lines: Sequence[str]) -> tuple[list[str], list[str]]:
        """Declares row and column of place (i, j) of window (y, z) for lines; tests whether they are in the image."""
        found, tests = {}, []
        for d, (name, at, place) in enumerate((("row", "y", i), ("column", "z", j))):
            start = self.padding[d][0]
            found[name] = f"{at} * {self.stride[d]} + {place}{f' - {start}' if start else ''}"
            if not self.inside(d):
                tests += [f"{name} >= 0", f"{name} < {self.x.shape[2 + d]}"]
        return declared(self.ctype, found, [*tests, *lines]), tests

    def reach(self, lines: Sequence[str]) -> list[str]:
        """Loops over the places (i, j) of window (y, z): lines for each that is no padding, at (row, column) of x."""
        found, tests = self.spot("i", "j", lines)
        inner = [*found, *_guarded(tests, lines)]
        unroll = ["#pragma unroll"] if self.taps <= _UNROLLED else []
        along = [*unroll, *block(f"for (int j = 0; j < {self.kernel[1]}; ++j)", inner)]
        return [*unroll, *block(f"for (int i = 0; i < {self.kernel[0]}; ++i)", along)]

    def met(self, lines: Sequence[str]) -> list[str]:
        """Loops over windows (y, z) that meet element (h, w) of x, by the place (i, j) where they do."""
        text = list(lines)
        for d, (at, i, y) in ((1, ("w", "j", "z")), (0, ("h", "i", "y"))):
            start, step, size, count = self.padding[d][0], self.stride[d], self.kernel[d], self.out.shape[2 + d]
            here = f"{at} + {start}" if start else at
            last = (self.x.shape[2 + d] - 1 + start) // step
            tests = [f"{y} >= 0"] * (size > step) + [f"{y} < {count}"] * (last >= count)
            inner = _guarded(tests, text)
            inner = [*declared(self.ctype, {y: f"({here} - {i}) / {step}"}, inner), *inner]
            text = block(f"for (int {i} = ({here}) % {step}; {i} < {size}; {i} += {step})", inner)
        return text


def _guarded(tests: Sequence[str], lines: Sequence[str]) -> list[str]:
    return block(f"if ({' && '.join(tests)})", lines) if tests else list(lines)


def _windows(x: View, out: View, attrs: Attrs, *more: View) -> _Windows:
    views = (x, out, *more)
    dims = merge(x.shape, [a for a in (0, 1) if x.shape[a] != 1], [v.strides for v in views])
    ctype = elements([("x", max(x.size, out.size))], *views).ctype
    return _Windows(x, out, attrs["kernel"], attrs["stride"], attrs["padding"], tuple(dims), ctype)


def _phase(space: Elements, lines: Sequence[str], note: str) -> list[Phase]:
    return [Phase(body_of(space.turn(lines)), space.units, note=note)]


def _plus(dtype: str, a: str, b: str) -> str:
    """a + b as NumPy adds: integers wrap around, booleans are or-ed."""
    if dtype == "bool":
        return f"{a} | {b}"
    ctypes = {"int32": ("int32_t", "uint32_t"), "int64": ("int64_t", "uint64_t")}
    if dtype in ctypes:
        signed, unsigned = ctypes[dtype]
        return f"({signed})(({unsigned}){a} + ({unsigned}){b})"
    return f"{a} + {b}"


# -- maxima -------------------------------------------------------------------------------------------------------


def _maximum(idx: View, out: View | None, x: View, attrs: Attrs) -> list[Phase]:
    w = _windows(x, idx, attrs, *([out] if out else []))
    if not idx.size:
        return []
    better = "!(v <= best) && best == best" if x.dtype.startswith("float") else "v > best"
    whole = w.inside(0) and w.inside(1)
    # where there is padding, nothing is found before the first element that is none
    test, first = (better, "0") if whole else (f"at < 0 || ({better})", "-1")
    start = w.element(x, f"y * {w.stride[0]}", f"z * {w.stride[1]}") if whole else "0"
    take = block(f"if ({test})", ["best = v;", f"at = i * {w.kernel[1]} + j;"])
    lines = [
        f"{x.ctype} best = {start};",
        f"int at = {first};",
        *w.reach([f"const {x.ctype} v = {w.element(x, 'row', 'column')};", *take]),
    ]
    if w.some_missing:
        lines.append(f"at = at < 0 ? {w.taps - 1} : at;")
    lines.append(f"{w.element(idx, 'y', 'z')} = ({idx.ctype})at;")
    if out is not None:
        lines.append(f"{w.element(out, 'y', 'z')} = best;")
    return _phase(w.space(idx, "y", "z"), lines, "a window a thread")


def max_pool_index(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Which element of its window, 0 to kh * kw - 1 row by row, is its first maximum; a NaN beats all.

    outs: idx (N, C, oh, ow) uint8 or int32; ins: x (N, C, H, W) of any dtype. For a window that is all padding
    it is the last.
    """
    return _maximum(outs[0], None, ins[0], attrs)


def max_pool(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """`max_pool_index` and the `pool_gather` of it in one pass: outs are idx and out, ins is x."""
    return _maximum(outs[0], outs[1], ins[0], attrs)


# -- by index -----------------------------------------------------------------------------------------------------


def pool_gather(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out[n,c,y,z] = the element of x that idx names in window (y, z), 0 if it names none inside x.

    outs: out (N, C, oh, ow); ins: x (N, C, H, W) of any dtype and idx of any integer dtype.
    """
    (out,), (x, idx) = outs, ins
    w = _windows(x, out, attrs, idx)
    if not out.size:
        return []
    named, met = w.element(idx, "y", "z"), w.element(x, "row", "column")
    found, tests = w.spot(f"k / {w.kernel[1]}", f"k % {w.kernel[1]}", [met])
    lines = [
        f"const int k = (uint64_t){named} < {w.taps} ? (int){named} : -1;",
        *found,
        f"{w.element(out, 'y', 'z')} = {' && '.join(['k >= 0', *tests])} ? {met} : 0;",
    ]
    return _phase(w.space(out, "y", "z"), lines, "by index")


def pool_scatter(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `pool_gather`: adds g to the elements of out that idx names; what it names outside is dropped.

    outs: out (N, C, H, W); ins: g (N, C, oh, ow) and idx. Where windows overlap, g is added from the last window
    to the first, that is in the order of places.
    """
    (out,), (g, idx) = outs, ins
    w = _windows(out, g, attrs, idx)
    if not out.size:
        return []
    part, place = f"const {g.ctype} part = {w.element(g, 'y', 'z')};", f"i * {w.kernel[1]} + j"
    test = f"{w.element(idx, 'y', 'z')} == {place}"
    several = f"{_plus(out.dtype, 'value', 'part')} : value"
    return _back(w, [part, f"value = {test} ? {'part : 0' if w.disjoint else several};"])


# -- sums ---------------------------------------------------------------------------------------------------------


def window_sum(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (N, C, oh, ow) = the sum of each window of x (N, C, H, W), any dtype, element by element row by row."""
    (out,), (x,) = outs, ins
    w = _windows(x, out, attrs)
    if not out.size:
        return []
    add = f"sum = {_plus(x.dtype, 'sum', w.element(x, 'row', 'column'))};"
    lines = [f"{x.ctype} sum = 0;", *w.reach([add]), f"{w.element(out, 'y', 'z')} = sum;"]
    return _phase(w.space(out, "y", "z"), lines, "a window a thread")


def window_spread(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `window_sum`: each element of out (N, C, H, W) sums g (N, C, oh, ow) over the windows it is in."""
    (out,), (g,) = outs, ins
    w = _windows(out, g, attrs)
    if not out.size:
        return []
    part = w.element(g, "y", "z")
    return _back(w, [f"value = {part if w.tiles else _plus(out.dtype, 'value', part)};"])


def _back(w: _Windows, lines: Sequence[str]) -> list[Phase]:
    """An element of the image a thread: lines change ``value``, 0 at first, for each window that meets it."""
    text = [f"{w.x.ctype} value = 0;", *w.met(lines), f"{w.element(w.x, 'h', 'w')} = value;"]
    return _phase(w.space(w.x, "h", "w"), text, "an element a thread")
