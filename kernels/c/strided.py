"""Axes of strided arrays dealt out to threads, and which loops a reduction needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from graphnet.kernels.text.axes import Dim, Index, Strides, by_stride, loop, loops, merge, position
from graphnet.kernels.text.view import View


def unit_axis(shape: Sequence[int], least: int = 8) -> int | None:
    """The axis to deal out to threads: the first that is long enough, else the longest; None if all are short."""
    long = [a for a, n in enumerate(shape) if n >= least]
    rest = [a for a, n in enumerate(shape) if n > 1]
    return long[0] if long else max(rest, key=lambda a: shape[a]) if rest else None


def equal_parts(size: int, wanted: int, most: int) -> int:
    """How many parts to cut size into: its divisor up to ``most`` nearest to wanted, or wanted if none is near."""
    found = [n for n in range(max(2, wanted // 2), min(size, most) + 1) if size % n == 0]
    return min(found, key=lambda n: (abs(n - wanted), n)) if found else max(1, min(size, wanted))


def share_axis(view: View, shape: tuple[int, ...], axis: int, units: int) -> int | None:
    """`Phase.axes` of an operand of the rank of shape: axis, if each unit has an equal part of it, else None."""
    same = len(view.shape) == len(shape) and view.shape[axis] == shape[axis]
    return axis if same and shape[axis] % units == 0 else None


def traffic_cost(nbytes: int) -> float:
    """Nanoseconds in which one core streams bytes from its second cache, or from memory if they are many."""
    return nbytes / (100 if nbytes < 1 << 20 else 80 if nbytes < 1 << 24 else 40)


ROW = 1024  # accumulators that stay in the first cache


@dataclass(frozen=True, slots=True)
class Lines:
    """Loops that follow one axis, for every line of elements along it.

    Where the neighbours of an element belong to other lines, ``width`` lines are followed side by side: those at
    ``column`` of the dim ``wide`` for ``l`` from 0. Units are the indices of axis ``unit``, or blocks of lines.
    """

    shape: tuple[int, ...]
    axis: int
    around: list[Dim]
    wide: Dim | None
    width: int
    unit: int | None
    units: int

    @property
    def blocks(self) -> bool:
        return self.unit is None and self.units > 1

    @property
    def shared(self) -> int | None:
        """The axis that units share out in equal parts, if there is one."""
        if self.wide is None or not self.blocks:
            return self.unit
        axis = self.wide.axes[0]
        return axis if self.wide.size == self.units * self.width and self.shape[axis] % self.units == 0 else None

    @property
    def column(self) -> str:
        return "l" if self.wide is None or self.width == self.wide.size else f"{self.wide.var} + l"

    def index(self, along: str) -> list[str]:
        """Index expressions where the axis stands at ``along``."""
        wide = [(self.wide, self.column)] if self.wide else []
        return position(len(self.shape), [*((d, d.var) for d in self.around), *wide, (Dim((self.axis,), 0), along)])

    def each(self, body: str) -> str:
        """The body for every line that is followed now."""
        if self.wide is None:
            return body
        return loop("l", 0, "width" if self.wide.size % self.width else self.width, body)

    def wrap(self, body: str) -> str:
        """The body for all lines of units lo to hi - 1."""
        wide = self.wide
        if wide is not None and self.width < wide.size:
            if wide.size % self.width:
                left = f"{wide.size} - {wide.var}"
                body = f"const long width = {left} < {self.width} ? {left} : {self.width};\n{body}"
            if self.blocks:
                body = loop("block", "lo", "hi", f"const long {wide.var} = block * {self.width};\n{body}")
            else:
                body = loop(wide.var, 0, wide.size, body, self.width)
        body = loops([d for d in self.around if self.unit not in d.axes], body)
        return body if self.unit is None else loop(f"i{self.unit}", "lo", "hi", body)


def lines(shape: tuple[int, ...], axis: int, strides: Sequence[Strides]) -> Lines:
    """How to follow an axis of arrays with these strides."""
    order = by_stride(shape, strides)
    side = order[-1] if order and order[-1] != axis else None
    rows = [1 if a in (axis, side) else n for a, n in enumerate(shape)]
    unit = unit_axis(rows)
    around = merge(shape, [a for a in order if a != axis], strides, lambda a: a if a == unit else -1)
    if side is None:
        return Lines(shape, axis, around, None, 1, unit, 1 if unit is None else shape[unit])
    wide = around.pop()
    if unit is not None or wide.size < 512:
        return Lines(shape, axis, around, wide, min(wide.size, ROW), unit, 1 if unit is None else shape[unit])
    parts = equal_parts(wide.size, max(8, -(-wide.size // ROW)), max(16, wide.size // 256))
    width = -(-wide.size // parts)
    return Lines(shape, axis, around, wide, width, None, -(-wide.size // width))


# -- reductions: which axis goes where ----------------------------------------------------------------------------

CHAIN = 4096  # additions one after another in one accumulator
SPLIT = 1 << 16  # elements from which a reduction is worth cutting into parts
PARTS = 16


@dataclass(frozen=True, slots=True)
class Source:
    """What is reduced: an expression over an index space, the axes to reduce, and its arrays' strides there."""

    shape: tuple[int, ...]
    reduced: frozenset[int]
    strides: tuple[Strides, ...]
    element: Callable[[Index], str]
    dtype: str

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Plan:
    """Loops over kept and reduced axes around the innermost one, and what a unit of work is.

    ``axis`` is the input's axis that units share out: a kept one (``way`` is "row"), the innermost kept one in
    blocks of ``step`` ("columns"), or the outermost reduced one in parts of ``step`` ("part"); None for one unit.
    ``scattered`` says that what makes one result lies in pieces between what makes others.
    """

    kept: list[Dim]
    reduced: list[Dim]
    inner: Dim | None
    way: str = "one"
    units: int = 1
    step: int = 0
    axis: int | None = None
    scattered: bool = False

    @property
    def inward(self) -> bool:
        """The innermost axis is reduced."""
        return self.inner is not None and self.inner in self.reduced

    @property
    def extent(self) -> int:
        """Elements of the innermost axis that one unit has."""
        cut = self.way == "part" and self.reduced[0] is self.inner
        return self.step if cut else self.inner.size if self.inner else 1

    @property
    def nothing(self) -> bool:
        """There is nothing to combine: no axis is reduced, or an empty one."""
        return not all(d.size for d in self.reduced) or not self.reduced

    @property
    def even(self) -> bool:
        """All units are equal."""
        cut = self.reduced[0] if self.way == "part" else self.inner if self.way == "columns" else None
        return cut is None or cut.size == self.units * self.step

    def bounds(self, dim: Dim) -> tuple[int | str, int | str]:
        """Where a loop over a reduced dim begins and ends: ``begin`` and ``end`` are variables of the part."""
        return ("begin", "end") if self.way == "part" and dim is self.reduced[0] else (0, dim.size)


def plan(source: Source, targets: Sequence[Strides] | None, cut: bool = True) -> Plan:
    """How to reduce; ``targets`` are strides of the result over the input's axes, None if every index must be known.

    With ``cut`` a long reduction may be cut into parts, whose results need adding up.
    """
    shape, arrays = source.shape, (*source.strides, *(targets or ()))
    order = by_stride(shape, source.strides)
    if not order:
        return Plan([], [], None)
    rows = [n if a in order and a not in source.reduced and a != order[-1] else 1 for a, n in enumerate(shape)]
    axis = unit_axis(rows)

    def key(a: int) -> tuple[bool, int]:
        alone = a not in source.reduced and (targets is None or a == axis)
        return a in source.reduced, a if alone else -1

    dims = merge(shape, [a for a in order if a in source.reduced], arrays, key)
    kept = merge(shape, [a for a in order if a not in source.reduced], arrays, key)
    inner = next(d for d in (*dims, *kept) if d.axes[-1] == order[-1])
    kept = [d for d in kept if d is not inner]
    between = [order.index(d.axes[0]) for d in kept]
    scattered = bool(between and dims) and order.index(dims[0].axes[0]) < between[-1]
    whole = Plan(kept, dims, inner, scattered=scattered)
    units = rows[axis] if axis is not None else 1
    if cut and (part := _parts(source, whole, min(order), axis if units >= 8 else None)):
        return part
    if axis is not None and (units >= 8 or inner in dims):
        return replace(whole, way="row", units=units, axis=axis)
    return _blocks(source, whole, inner)


def _parts(source: Source, whole: Plan, first: int, rows: int | None) -> Plan | None:
    """Cut the outermost reduced axis, if that is wanted to keep threads busy or chains short."""
    if not whole.reduced or source.size < SPLIT or whole.reduced[0].size < 8:
        return None
    longest, count, lanes = whole.reduced[0], prod(d.size for d in whole.reduced), 64 if whole.inward else 4
    lead = source.shape[longest.axes[0]]
    wanted = max(PARTS, -(-count // (lanes * CHAIN)))
    units = equal_parts(lead if lead >= 8 else longest.size, wanted, 2 * wanted)
    leads = rows != first and (longest.axes[0] == first or rows is None)
    if count <= 2 * lanes * CHAIN and not (leads and count // units >= (64 if whole.inward else 8)):
        return None
    step = -(-longest.size // units)
    if longest.size % units and longest is whole.inner:
        step = -(-step // 64) * 64
    return replace(whole, way="part", units=-(-longest.size // step), step=step, axis=longest.axes[0])


def _blocks(source: Source, whole: Plan, inner: Dim) -> Plan:
    """Share out the columns of a wide row of accumulators."""
    if whole.inward or inner.size < 256 or source.size < SPLIT // 2:
        return whole
    wanted = max(min(32, inner.size // 64), -(-inner.size // ROW))
    units = equal_parts(inner.size, wanted, 2 * wanted)
    step = inner.size // units if inner.size % units == 0 else -(-inner.size // units // 16) * 16
    return replace(whole, way="columns", units=-(-inner.size // step), step=step, axis=inner.axes[0])


def compact(shape: tuple[int, ...], reduced: frozenset[int]) -> tuple[tuple[int, ...], Strides]:
    """The shape with reduced axes as 1, and its strides in C order, 0 along axes of size 1."""
    kept = tuple(1 if a in reduced else n for a, n in enumerate(shape))
    return kept, tuple(0 if kept[a] == 1 else prod(kept[a + 1 :]) for a in range(len(kept)))


def first_stage(source: Source, targets: Sequence[Strides] | None) -> tuple[Source, Plan, bool]:
    """What a first phase reduces and how, and whether a second one has to finish it.

    A short innermost axis is left to the second, and so are outer axes where the parts of one result lie scattered:
    (100, 50, 8, 8) over axes (0, 2, 3) is read once in order, to (100, 50), and then added up.
    """
    found = plan(source, targets)
    inner = frozenset(found.inner.axes) if found.inner else frozenset()
    count = prod(d.size for d in found.reduced)
    if found.inward and found.reduced[-1].size < 16 and count >= 256:
        source = replace(source, reduced=source.reduced - inner)
    elif found.inward and found.scattered and found.reduced[-1].size >= 64 and source.size >= SPLIT:
        source = replace(source, reduced=inner)
    elif found.way != "part":
        return source, found, False
    return source, plan(source, [compact(source.shape, source.reduced)[1]]), True


def partial(source: Source, stage: Plan) -> View:
    """Where a first phase puts its results: one row a part."""
    shape, strides = compact(source.shape, source.reduced)
    return View("partial", source.dtype, (stage.units if stage.way == "part" else 1, *shape), (prod(shape), *strides))
