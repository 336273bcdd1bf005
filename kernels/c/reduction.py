"""Sums and extrema over axes, their arguments, and running sums.

Axes are walked in the order of their strides. Where the last is reduced, a row is taken in LANES accumulators
that are folded in a fixed tree; where the last is kept, rows are added to a row of accumulators, four at once.
Long reductions are cut into parts, by shape alone, so that they share out over threads and no chain of additions
is longer than CHAIN: parts go to scratch, and a second phase adds them in order. Thus the order of every sum
depends on shapes and strides only.

    (256, 1024) -> ()       16 parts of 16,384 in 64 lanes each, then 16 numbers
    (12800, 93) -> (93,)    16 parts of 800 rows, then 16 rows
    (12800, 93) -> (12800,) each row in 16 lanes

`sum`, `max` and `min` honour an epilogue; `reduce_of` also takes the expression of what is to be reduced.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.sort import KEYS, argmax, argmin, limit
from graphnet.kernels.c.strided import ROW, Plan, Source, first_stage, lines, partial, plan, share_axis, traffic_cost
from graphnet.kernels.text.axes import Dim, Index, at, indent, loop, loops, position, spread
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Attrs, View

__all__ = ["argmax", "argmin", "cumsum", "max", "min", "reduce_of", "reduce_scratch", "sum"]

_BLOCK = 1024  # elements added up by themselves

Element = Callable[[Index], str]
"""Index expressions, one for each axis of the input -> the C expression of the value there."""


# -- how two values become one ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fold:
    """An accumulator's C type and first value; how a value enters it, two of them join, and a result leaves."""

    ctype: str
    start: str
    pair: str
    lift: str = "{}"
    lower: str = "{}"
    helpers: tuple[str, ...] = ()

    @property
    def infix(self) -> bool:
        return self.pair[0] == "{"

    @property
    def inexact(self) -> bool:
        """Whether rounding errors add up."""
        return self.infix and self.ctype in ("float", "double")

    def join(self, a: str, b: str) -> str:
        return self.pair.format(a, b)

    def into(self, target: str, value: str) -> str:
        if not self.infix:
            return f"{target} = {self.join(target, value)};"
        outer = value[1:-1] if value.startswith("((") else value
        return f"{target} {self.pair[3]}= {outer};"

    def four(self, a: str, b: str, c: str, d: str) -> str:
        halves = self.join(a, b), self.join(c, d)
        return f"(({halves[0]}) {self.pair[3]} ({halves[1]}))" if self.infix else self.join(*halves)


_UNSIGNED = {"int32": "uint32_t", "int64": "uint64_t"}


def _sum(dtype: str) -> Fold:
    """Integers wrap around."""
    ctype = _UNSIGNED.get(dtype, CTYPES[dtype])
    cast = "{}" if ctype == CTYPES[dtype] else f"({CTYPES[dtype]}){{}}"
    return Fold(ctype, "0", "{} | {}" if dtype == "bool" else "{} + {}", lower=cast)


def _choice(name: str, ctype: str, sign: str, nan: bool) -> str:
    """The helper that picks b over a if it is further out, or NaN."""
    test = f"((b {sign} a) | (b != b))" if nan else f"b {sign} a"
    return f"GN_INLINE {ctype} {name}({ctype} a, {ctype} b) {{ return {test} ? b : a; }}\n"


def _extreme(dtype: str, low: bool, few: bool) -> Fold:
    """Floats go as keys where not few are compared at once, a minimum as the maximum of the negated."""
    ctype, minus = CTYPES[dtype], "-" if low else ""
    if dtype in KEYS and not few:
        bits, ctype = 8 * ITEMSIZE[dtype], f"uint{8 * ITEMSIZE[dtype]}_t"
        helpers = KEYS[dtype], _choice(f"gn_max_{ctype}", ctype, ">", nan=False)
        lift = f"gn_key{bits}(-({{}}))" if low else f"gn_key{bits}({{}})"
        return Fold(ctype, "0", f"gn_max_{ctype}({{}}, {{}})", lift, f"{minus}gn_unkey{bits}({{}})", helpers)
    name = f"gn_{'min' if low else 'max'}_{ctype}"
    helper = _choice(name, ctype, "<" if low else ">", nan=dtype in KEYS)
    return Fold(ctype, limit(dtype, not low), f"{name}({{}}, {{}})", helpers=(helper,))


def fold_of(op: str, dtype: str, few: bool) -> Fold:
    """How a "sum", "max" or "min" goes; ``few`` if not many are compared at once."""
    return _sum(dtype) if op == "sum" else _extreme(dtype, op == "min", few)


# -- text ---------------------------------------------------------------------------------------------------------

Store = Callable[[Index, str], str]
"""(index of the input, 0 along reduced axes; the finished value) -> a statement."""


def _text(source: Source, how: Plan, fold: Fold, store: Store) -> str:
    write = _each if how.nothing else _row if how.inward else _columns
    around = [d for d in how.kept if how.way != "row" or how.axis not in d.axes]
    body = loops(around, write(source, how, fold, store))
    if how.way == "row":
        return loop(f"i{how.axis}", "lo", "hi", body)
    if how.way != "part":
        return body
    size = how.reduced[0].size
    stop = f"begin + {how.step}" if how.even else f"begin + {how.step} < {size} ? begin + {how.step} : {size}"
    return loop("part", "lo", "hi", f"const long begin = part * {how.step};\nconst long end = {stop};\n{body}")


def _reducing(how: Plan, dims: Sequence[Dim], body: str) -> str:
    for dim in reversed(dims):
        body = loop(dim.var, *how.bounds(dim), body)
    return body


def _value(source: Source, how: Plan, fold: Fold, *instead: tuple[Dim, str]) -> str:
    """The element as an accumulator takes it, at the loops' variables or what stands instead."""
    here = [(d, d.var) for d in (*how.kept, *how.reduced)]
    return fold.lift.format(source.element(position(len(source.shape), (*here, *instead))))


def _done(source: Source, how: Plan, store: Store, value: str, *inner: tuple[Dim, str]) -> str:
    return store(position(len(source.shape), [*((d, d.var) for d in how.kept), *inner]), value)


def _each(source: Source, how: Plan, fold: Fold, store: Store) -> str:
    """What is not reduced is copied; what has no elements is the fold's start."""
    inner = [how.inner] if how.inner and not how.inward else []
    here = [(d, d.var) for d in inner]
    value = fold.start if how.reduced else _value(source, how, fold, *here)
    return loops(inner, _done(source, how, store, value, *here))


def _row(source: Source, how: Plan, fold: Fold, store: Store, rolled: str = "", stored: str = "") -> str:
    """The innermost axis in lanes; where it is long, blocks of it are summed by themselves, for accuracy.

    ``rolled`` stands in front of its loops, ``stored`` where the lanes are full.
    """
    inner = how.inner
    assert inner is not None
    size, i = how.extent, inner.var
    lanes = 64 if size >= 256 else 16 if size >= 16 else 1 << size.bit_length() - 1
    begin, end = how.bounds(inner)

    def add(index: str, stop: int | str, to: str = "lane") -> str:
        value = _value(source, how, fold, (inner, index))
        return loop("l", 0, stop, fold.into(f"{to}[l]", value))

    def fresh(name: str, ctype: str, value: str = fold.start) -> str:
        return f"{ctype} {name}[{lanes}];\n" + loop("l", 0, lanes, f"{name}[l] = {value};")

    long = size >= 2 * _BLOCK and fold.inexact
    ctype = "double" if long else fold.ctype
    steps = [(lanes, add(f"{i} + l", lanes))]
    if long:
        block = [fresh("sum", fold.ctype), loop("k", 0, _BLOCK, add(f"{i} + k + l", lanes, "sum"), lanes)]
        steps.insert(0, (_BLOCK, "\n".join([*block, loop("l", 0, lanes, "lane[l] += sum[l];")])))
    lines = [fresh("lane", ctype)]
    if len(how.reduced) == 1 and begin == 0 and not long:
        begin, lines = lanes, [fresh("lane", ctype, _value(source, how, fold, (inner, "l")))]
    walk, reached = _steps(i, begin, end, steps)
    walk = [f"{rolled}\n{text}" for text in walk] if rolled else walk
    if size % lanes or not how.even:
        walk.append(add(f"{reached} + l", f"end - {i}" if end == "end" else size % lanes))
    lines += [_reducing(how, how.reduced[:-1], "\n".join(walk))] if walk else []
    lines += [stored] if stored and lanes > 4 else []
    while lanes > 4:
        lanes //= 2
        lines.append(loop("l", 0, lanes, fold.into("lane[l]", f"lane[l + {lanes}]")))
    few = {1: "lane[0]", 2: f"({fold.join('lane[0]', 'lane[1]')})"}
    total = few.get(lanes) or fold.four("lane[0]", "lane[2]", "lane[1]", "lane[3]")
    total = fold.lower.format(total if ctype == fold.ctype else f"({fold.ctype}){total}")
    return "\n".join([*lines, _done(source, how, store, total)])


def _steps(var: str, begin: int | str, end: int | str, steps: Sequence[tuple[int, str]]) -> tuple[list[str], str]:
    """Loops over whole steps of each length in turn, and where they get to; bounds are numbers or variables."""
    if isinstance(begin, str) or isinstance(end, str):
        heads = (f"for (; {var} + {n} <= {end}; {var} += {n})" for n, _ in steps)
        walk = (f"{head} {{\n{indent(body)}\n}}" for head, (_, body) in zip(heads, steps, strict=True))
        return [f"long {var} = {begin};", *walk], var
    lines, reached = [], begin
    for n, body in steps:
        stop = reached + (end - reached) // n * n
        lines += [loop(var, reached, stop, body, n)] if stop > reached else []
        reached = stop
    return lines, str(reached)


def _columns(source: Source, how: Plan, fold: Fold, store: Store) -> str:
    """Rows added to a row of accumulators, four at once where an element is a short expression."""
    inner, last = how.inner, how.reduced[-1]
    assert inner is not None
    block = how.step if how.way == "columns" else inner.size if inner.size < ROW else ROW
    column = inner, "l" if block == inner.size else f"{inner.var} + l"
    width = "width" if inner.size % block else block

    def add(rows: int) -> str:
        values = [
            _value(source, how, fold, column, (last, f"{last.var} + {k}" if k else last.var)) for k in range(rows)
        ]
        return loop("l", 0, width, fold.into("acc[l]", fold.four(*values) if rows == 4 else values[0]))

    begin, end = how.bounds(last)
    rows = 4 if last.size >= 64 and len(add(1)) < 250 else 1
    whole = rows == 4 and how.even and (how.step if begin else last.size) % 4 == 0
    walk, _ = _steps(last.var, begin, end, [(n, add(n)) for n in ((4,) if whole else (4, 1) if rows == 4 else (1,))])
    lines = [f"{fold.ctype} acc[{block}];", loop("l", 0, width, f"acc[l] = {fold.start};")]
    lines += [_reducing(how, how.reduced[:-1], "\n".join(walk))]
    lines.append(loop("l", 0, width, _done(source, how, store, fold.lower.format("acc[l]"), column)))
    if width == "width":
        left = f"{inner.size} - {inner.var}"
        lines.insert(0, f"const long width = {left} < {block} ? {left} : {block};")
    body = "\n".join(lines)
    if how.way == "columns":
        return loop("block", "lo", "hi", f"const long {inner.var} = block * {block};\n{body}")
    return loop(inner.var, 0, inner.size, body, block) if block < inner.size else body


def fold_row(
    op: str,
    dtype: str,
    size: int,
    element: Callable[[str], str],
    store: Callable[[str], str],
    rolled: str = "",
    stored: str = "",
) -> tuple[str, tuple[str, ...]]:
    """Statements that reduce the elements 0 to size - 1 in lanes, and the helpers they need.

    The variables i0, k, l, lane and sum are theirs. ``rolled`` stands in front of the loops, ``stored`` where the
    lanes are full.
    """
    row = Dim((0,), size)
    source = Source((size,), frozenset((0,)), (), lambda index: element(index[0]), dtype)
    fold = fold_of(op, dtype, size < 16)
    text = _row(source, Plan([], [row], row), fold, lambda index, value: store(value), rolled, stored)
    return text, fold.helpers


# -- writers ------------------------------------------------------------------------------------------------------


def _source(ins: Sequence[View], attrs: Attrs, shape: tuple[int, ...], dtype: str, element: Element | None) -> Source:
    strides = tuple(s for view in ins if (s := spread(view, shape)) is not None)
    reduced = frozenset(a for a in attrs["axes"] if shape[a] != 1)
    return Source(shape, reduced, strides, element or (lambda i: at(ins[0], i)), dtype)


def _phase(source: Source, how: Plan, op: str, store: Store, before: str = "") -> Phase:
    """Its ``axes`` are left to the caller."""
    fold = fold_of(op, source.dtype, how.nothing or (how.inward and how.extent < 16))
    outputs = prod(n for a, n in enumerate(source.shape) if a not in source.reduced)
    read = len([s for s in source.strides if any(s)])
    cost = traffic_cost(source.size * read * ITEMSIZE[source.dtype]) + outputs * (3 if how.inward else 0.2)
    style = "copied" if how.nothing else "in lanes" if how.inward else "by columns"
    note = f"{style}, {how.units} parts of axis {how.axis}" if how.way == "part" else style
    body = before + _text(source, how, fold, store)
    return Phase(body, how.units, (), fold.helpers, 20 + cost * (1 if op == "sum" else 2), note)


def reduce_of(
    op: str,
    outs: Sequence[View],
    ins: Sequence[View],
    attrs: Attrs,
    job: Job,
    element: Element | None = None,
    shape: tuple[int, ...] | None = None,
) -> list[Phase]:
    """outs[0] = "sum", "max" or "min" over attrs["axes"] of an expression, or what job.epilogue makes of that.

    The axes are sorted and may be none; with attrs["keepdims"] they stay, of size 1. Sums of integers wrap around, an
    extreme is NaN if there is one.

    ``element`` gives the value at an index of ``shape``; without them ins[0] itself is reduced. Axes that all of ins
    walk evenly are one loop, whose variable stands for the last of them and "0" for the others, so element must use
    the index for nothing but the addresses of ins. Views of ins that do not broadcast to shape are taken to be read
    by the epilogue only. Scratch: `reduce_scratch`, with the same ins and shape.
    """
    out, shape, epilogue = outs[0], shape or ins[0].shape, job.epilogue
    if not out.size:
        return []
    source = _source(ins, attrs, shape, out.dtype, element)
    keep = [a for a in range(len(shape)) if attrs["keepdims"] or a not in attrs["axes"]]
    targets = [tuple(0 if a in attrs["axes"] else out.strides[keep.index(a)] for a in range(len(shape)))]

    def store(index: Index, value: str) -> str:
        place = [index[a] for a in keep]
        return epilogue(place, value) if epilogue else f"{at(out, place)} = {value};"

    def axes_of(how: Plan, axis: int | None, read: bool = True) -> tuple[int | None, ...]:
        """The axis of each operand that units share out; ``read`` if the phase reads ins."""
        if axis is None or not how.even:
            return (None,) * (len(outs) + len(ins))
        mine = keep.index(axis) if axis in keep and how.way != "part" else None
        made = [share_axis(v, out.shape, mine, how.units) if mine is not None else None for v in outs]
        return (*made, *(share_axis(v, shape, axis, how.units) if read else None for v in ins))

    first, how, more = first_stage(source, None if epilogue else targets)
    if not more:
        return [replace(_phase(first, how, op, store), axes=axes_of(how, how.axis))]
    middle = partial(first, how)
    name = f"{middle.ctype} *restrict {middle.name} = ({middle.ctype} *){job.scratch};\n"
    unit = "part" if how.way == "part" else "0"
    phase = _phase(first, how, op, lambda i, value: f"{at(middle, [unit, *i])} = {value};", name)
    rest = frozenset({0, *(a + 1 for a in source.reduced - first.reduced)})
    second = Source(middle.shape, rest, (middle.strides,), lambda i: at(middle, i), out.dtype)
    last = plan(second, None if epilogue else [(0, *targets[0])], cut=False)
    final = _phase(second, last, op, lambda i, value: store(i[1:], value), name)
    final = replace(final, axes=axes_of(last, last.axis - 1 if last.axis else None, read=False))
    return [replace(phase, axes=axes_of(how, how.axis)), replace(final, note="adds the parts in order")]


def reduce_scratch(
    outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int, shape: tuple[int, ...] | None = None
) -> int:
    """Bytes for the results of parts."""
    if not outs[0].size:
        return 0
    source = _source(ins, attrs, shape or ins[0].shape, outs[0].dtype, None)
    first, how, more = first_stage(source, None)
    return partial(first, how).nbytes if more else 0


sum, max, min = (functools.partial(reduce_of, op) for op in ("sum", "max", "min"))
sum_scratch = max_scratch = min_scratch = reduce_scratch


def cumsum(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out[i] = sum of x[: i + 1] along attrs axis, or of x[i:] with reverse; one addition after another."""
    out, x, axis = outs[0], ins[0], attrs["axis"]
    if not out.size:
        return []
    fold, walk = _sum(out.dtype), lines(x.shape, axis, (x.strides, out.strides))
    index, acc = walk.index(f"{x.shape[axis] - 1} - r" if attrs["reverse"] else "r"), "acc[l]" if walk.wide else "acc"
    step = f"{fold.into(acc, at(x, index))}\n{at(out, index)} = {fold.lower.format(acc)};"
    body = f"{fold.ctype} acc[{walk.width}];\n{walk.each('acc[l] = 0;')}" if walk.wide else f"{fold.ctype} acc = 0;"
    body = walk.wrap(f"{body}\n{loop('r', 0, x.shape[axis], walk.each(step))}")
    cost = 20 + x.size * (0.1 if walk.wide else 0.5)
    return [Phase(body, walk.units, (walk.shared, walk.shared), cost=cost, note="one after another")]
