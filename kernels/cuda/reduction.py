"""Sums and extrema over axes: threads along what lies side by side, units along the rest.

What is kept are lines, what is reduced is their length. Where neighbours in memory belong to one line, neighbouring
threads share it, as many as its length is worth; where they belong to different ones, neighbouring threads have a line
each and the block's rows of threads share the length. A few long lines are cut into parts, by shape alone: parts go
to scratch, and a second phase joins them in order. Thus the order of every sum depends on shapes and strides only.

    (12800, 93) -> (12800,)       32 threads a line, 8 lines a unit
    (12800, 93) -> (93,)          32 lines by 8 threads a unit, 40 parts of 320 rows, then 40 numbers a line
    (100, 50, 8, 8) -> (50,)      256 threads a line
    (256, 1024) -> ()             64 parts of 4096, then 64 numbers

`sum`, `max` and `min` honour an epilogue; `reduce_of` also takes the expression of what is to be reduced.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.cuda.fold import Fold, fold_of
from graphnet.kernels.cuda.lines import cut, fold_lines
from graphnet.kernels.cuda.phase import Job, Phase, index_type
from graphnet.kernels.text.axes import Dim, Index, Strides, at, by_stride, merge, position, spread
from graphnet.kernels.text.view import Attrs, View

__all__ = ["Space", "fold_space", "max", "min", "reduce_of", "reduce_scratch", "scratch_of", "space_of", "sum"]

BESIDE = 8
"""Elements below which a dense reduced axis is left to a thread, and its neighbours go along a kept one."""
WIDE = 32
"""Lines that make this worth while."""

Element = Callable[[Index], str]
"""Index expressions, one for each axis of the input -> the C expression of the value there."""

Store = Callable[[Index, str], str]
"""(index of the input, "0" along reduced axes; the finished value) -> statements."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is folded: axes that are kept and axes that are reduced, outermost first, as few loops as can be."""

    ndim: int
    kept: list[Dim]
    reduced: list[Dim]
    inward: bool

    @property
    def lines(self) -> int:
        return prod(d.size for d in self.kept)

    @property
    def length(self) -> int:
        return prod(d.size for d in self.reduced)

    def element(self, element: Element, place: str) -> str:
        """The element at a place along the line whose kept dims are variables."""
        there = _unravelled(self.reduced, place)
        return element(position(self.ndim, [*((d, d.var) for d in self.kept), *zip(self.reduced, there, strict=True)]))

    def head(self, index: str) -> list[str]:
        """Declarations of the kept dims' variables at line k."""
        places = _unravelled(self.kept, "k")
        return [f"const {index} {d.var} = {text};" for d, text in zip(self.kept, places, strict=True)]

    @property
    def here(self) -> list[str]:
        """Index expressions of the line."""
        return position(self.ndim, [(d, d.var) for d in self.kept])


def _unravelled(dims: Sequence[Dim], place: str) -> list[str]:
    """The index in each dim of a number that counts through all of them."""
    place = place if place.isalnum() or len(dims) < 2 else f"({place})"
    found, inner = [], 1
    for n, dim in reversed(list(enumerate(dims))):
        text = place if inner == 1 else f"{place} / {inner}"
        found.append(f"{text} % {dim.size}" if n else text)
        inner *= dim.size
    return found[::-1]


def space_of(
    shape: tuple[int, ...], reduced: frozenset[int], strides: Sequence[Strides], targets: Sequence[Strides] | None
) -> Space:
    """The axes of arrays with these strides over shape; ``targets`` are the result's, None to keep its axes apart."""
    order = by_stride(shape, strides)
    arrays = (*strides, *(targets or ()))

    def key(a: int) -> int:
        return a if targets is None and a not in reduced else -1

    inner = merge(shape, [a for a in order if a in reduced], arrays, key)
    kept = merge(shape, [a for a in order if a not in reduced], arrays, key)
    inward = bool(inner) and inner[-1].axes[-1] == order[-1]
    if inward and len(inner) > 1 and inner[-1].size < BESIDE and prod(d.size for d in kept) >= WIDE:
        inward = order[-1 - len(inner[-1].axes)] in reduced
    return Space(len(shape), kept, inner, inward)


def fold_space(
    space: Space,
    fold_for: Callable[[int], Fold],
    element: Element,
    store: Callable[[str], str],
    job: Job,
    index: str,
) -> list[Phase]:
    """The phases that fold every line of a space; the second, if there is one, joins parts in scratch.

    ``fold_for`` gives the fold for so many elements a thread; ``store`` statements for a line's accumulator.
    """
    how = cut(space.lines, space.length, space.inward)
    fold, head = fold_for(how.chain), space.head(index)

    def value(place: str) -> str:
        return space.element(element, place)

    if how.parts == 1:
        body, shared = fold_lines(how, fold, value, head, store, index)
        return [Phase(body, how.units, shared, helpers=fold.helpers, note=how.note)]

    def place_of(part: str) -> str:
        number = part if part.isalnum() else f"({part})"
        return f"partial[{number} * {how.lines} + k]" if how.lines > 1 else f"partial[{part}]"

    declared = f"{fold.ctype} *restrict partial = ({fold.ctype} *){job.scratch};\n"
    body, shared = fold_lines(how, fold, value, head, lambda acc: f"{place_of('part')} = {acc};", index)
    first = Phase(declared + body, how.units, shared, helpers=fold.helpers, note=how.note)
    last = cut(how.lines, how.parts, how.lines == 1, split=False)
    body, shared = fold_lines(last, fold.joined, place_of, head, store, index)
    note = f"joins the parts in order, {last.note}"
    return [first, Phase(declared + body, last.units, shared, helpers=fold.helpers, note=note)]


def scratch_of(space: Space, fold_for: Callable[[int], Fold]) -> int:
    """Bytes for the results of parts."""
    how = cut(space.lines, space.length, space.inward)
    return how.parts * how.lines * fold_for(how.chain).nbytes if how.parts > 1 else 0


# -- writers ------------------------------------------------------------------------------------------------------


def _reduced(attrs: Attrs, shape: tuple[int, ...]) -> frozenset[int]:
    return frozenset(a for a in attrs["axes"] if shape[a] != 1)


def _strides(ins: Sequence[View], shape: tuple[int, ...]) -> list[Strides]:
    return [s for view in ins if (s := spread(view, shape)) is not None]


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
    walk evenly are one, whose index stands for the last of them and "0" for the others, so element must use the
    index for nothing but the addresses of ins. Views of ins that do not broadcast to shape are taken to be read by
    the epilogue only. No phase but the first reads ins. Scratch: `reduce_scratch`, with the same ins and shape.
    """
    out, shape, epilogue = outs[0], shape or ins[0].shape, job.epilogue
    if not out.size:
        return []
    keep = [a for a in range(len(shape)) if attrs["keepdims"] or a not in attrs["axes"]]
    targets = [tuple(0 if a in attrs["axes"] else out.strides[keep.index(a)] for a in range(len(shape)))]
    space = space_of(shape, _reduced(attrs, shape), _strides(ins, shape), None if epilogue else targets)
    lower = fold_of(op, out.dtype).lower

    def store(acc: str) -> str:
        place = [space.here[a] for a in keep]
        if epilogue is None:
            return f"{at(out, place)} = {lower.format(acc)};"
        return f"const {out.ctype} total = {lower.format(acc)};\n{epilogue(place, 'total')}"

    index = "long long" if prod(shape) >= 1 << 31 else index_type(*outs, *ins)
    read = element or (lambda i: at(ins[0], i))
    return fold_space(space, lambda chain: fold_of(op, out.dtype, chain), read, store, job, index)


def reduce_scratch(
    outs: Sequence[View], ins: Sequence[View], attrs: Attrs, shape: tuple[int, ...] | None = None
) -> int:
    """Bytes for the results of parts: of a sum's, which are no smaller than others."""
    shape = shape or ins[0].shape
    if not outs[0].size:
        return 0
    space = space_of(shape, _reduced(attrs, shape), _strides(ins, shape), None)
    return scratch_of(space, lambda chain: fold_of("sum", outs[0].dtype, chain))


sum, max, min = (functools.partial(reduce_of, op) for op in ("sum", "max", "min"))
sum_scratch = max_scratch = min_scratch = reduce_scratch
