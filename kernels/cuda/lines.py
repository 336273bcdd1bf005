"""Lines of elements that are folded: how threads and units share them, and the text that does it.

lines side by side          threads of a line side by side
(12800, 93) -> (93,)        (12800, 93) -> (12800,)
t = threadIdx.x / 32        t = threadIdx.x % 32
k = 32 * block + ... % 32   k = 8 * block + threadIdx.x / 32
acc = v(k, t) + ...         acc = v(k, t) + ...
sums[] in shared memory     acc += that of the lane 16, 8, 4, 2, 1 away
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphnet.kernels.cuda.fold import WARP, Fold, over_lanes, over_warps, power, power_above
from graphnet.kernels.cuda.phase import THREADS, WAVE
from graphnet.kernels.text.axes import indent

SMALL = 4096
"""Elements up to which one unit does it all."""
CHAIN = 64
"""Elements of a thread beyond which few lines are cut into parts."""
SHORTEST = 16
"""Elements of a thread below which no part is cut."""
GROUP = 8
"""Elements that a thread loads before it joins them."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How ``lines`` of ``length`` elements are shared out.

    ``across`` threads have one line, and a block as many lines as it then has room for; with ``inward`` they are
    neighbours, else neighbours have different lines. ``parts`` of ``step`` elements of a line are units of their own.
    """

    lines: int
    length: int
    inward: bool
    across: int
    blocks: int
    parts: int = 1
    step: int = 0

    @property
    def side(self) -> int:
        """Lines that a block has at a time."""
        return THREADS // self.across

    @property
    def units(self) -> int:
        return self.blocks * self.parts

    @property
    def looped(self) -> bool:
        """True if a block has several lines one after another, each thread its own."""
        return self.lines > self.side * self.blocks

    @property
    def ragged(self) -> bool:
        """True if the last block has threads beyond the last line."""
        return self.lines < self.side * self.blocks

    @property
    def chain(self) -> int:
        """Elements of a thread."""
        return -(-(self.step if self.parts > 1 else self.length) // self.across)

    @property
    def group(self) -> int:
        return GROUP if self.chain >= 2 * GROUP else min(self.chain, GROUP // 2)

    @property
    def note(self) -> str:
        threads = f"{self.across} threads a line" if self.across > 1 else "a thread a line"
        return f"{threads}, {self.parts} parts" if self.parts > 1 else threads


def threads_for(lines: int, length: int) -> int:
    """Neighbouring threads for each line: enough to read whole stretches of it, more where threads are left over."""
    if lines * length <= SMALL:
        return min(power(THREADS // lines), power_above(length))
    across = min(power(length // 2), WARP)
    while across < min(THREADS, length) and (
        length > WARP * across or (length > 4 * across and lines * across < WAVE * THREADS)
    ):
        across *= 2
    return across


def _threads_beside(lines: int, length: int) -> int:
    """Threads for each line where neighbours have different lines."""
    if lines <= WARP or lines * length <= SMALL:
        return min(THREADS // power_above(min(lines, THREADS)), power_above(length))
    across = 1
    while across < THREADS // WARP and length > 8 * across and lines * across < 2 * WAVE * THREADS:
        across *= 2
    return across


def cut(lines: int, length: int, inward: bool, split: bool = True) -> Cut:
    """Who does what; with ``split`` the lines may be cut into parts, whose results need joining."""
    across = threads_for(lines, length) if inward else _threads_beside(lines, length)
    if lines * max(length, 1) <= SMALL:
        return Cut(lines, length, inward, across, 1)
    whole = Cut(lines, length, inward, across, -(-lines * across // THREADS))
    # a unit for each multiprocessor; four where that leaves long chains, so that loads of one hide behind another's
    parts = max(
        min(WAVE // whole.blocks, -(-whole.chain // SHORTEST)), min(4 * WAVE // whole.blocks, whole.chain // CHAIN)
    )
    if not split or whole.chain <= CHAIN or parts <= 1:
        return whole
    step = -(-length // parts)
    step += -step % (GROUP * across)
    return Cut(lines, length, inward, across, whole.blocks, -(-length // step), step)


# -- text ---------------------------------------------------------------------------------------------------------

Value = Callable[[str], str]
"""The place along the line ``k`` -> the expression of the element there."""

Finish = Callable[[str], str]
"""The accumulator of the line ``k`` -> statements that one thread runs."""


def fold_lines(how: Cut, fold: Fold, value: Value, head: Sequence[str], finish: Finish, index: str) -> tuple[str, int]:
    """The body of a phase that folds every line, and the bytes of shared memory it uses.

    ``head`` are declarations in terms of ``k``, ``index`` the C type of indices. Where there are parts, the last
    statements find their number in ``part``.
    """
    own = [*head, *_own(how, fold, value, index)]
    if how.looped:
        text = used("\n".join([*own, finish("acc")]))
        return f"for ({index} k = threadIdx.x; k < {how.lines}; k += {THREADS}) {{\n{indent(text)}\n}}", 0
    together, shared, total = _together(how, fold)
    tests = ["t == 0"] * (how.across > 1) + [f"line < {how.lines}"] * how.ragged
    last = finish(total)
    if tests:
        last = f"if ({' && '.join(tests)}) {{\n{indent(last)}\n}}"
    return used("\n".join([*_place(how, index), *own, *together, last])), shared


def used(text: str) -> str:
    """The text without constants at its outer level that nothing behind them names."""
    lines: list[str] = []
    names: set[str] = set()
    for line in reversed(text.split("\n")):
        declared = re.match(r"const [\w ]*\b(\w+) =", line)
        if declared is None or declared[1] in names:
            lines.append(line)
            names.update(re.findall(r"\w+", line))
    return "\n".join(reversed(lines))


def _place(how: Cut, index: str) -> list[str]:
    """Declarations: a thread's line k, its number t among those that share it, the part and its bounds."""
    fast, slow = (how.across, how.side) if how.inward else (how.side, how.across)
    inner, outer = f"threadIdx.x % {fast}", f"threadIdx.x / {fast}"
    if slow == 1 or fast == 1:
        inner = outer = "threadIdx.x"
    t, w = (inner, outer) if how.inward else (outer, inner)
    lines = [f"const int t = {t};"] if how.across > 1 else []
    block = "unit" if index == "int" else f"({index})unit"
    if how.parts > 1:
        lines.append(f"const int part = unit / {how.blocks};" if how.blocks > 1 else "const int part = unit;")
        block += f" % {how.blocks}"
    terms = [block if how.side == 1 else f"{block} * {how.side}"] if how.blocks > 1 else []
    terms += [w] if how.side > 1 else []
    where = " + ".join(terms) or "0"
    if how.ragged:
        lines += [f"const {index} line = {where};", f"const {index} k = line < {how.lines} ? line : {how.lines - 1};"]
    else:
        lines.append(f"const {index} k = {where};")
    if how.parts > 1:
        end = f"begin + {how.step}"
        lines.append(f"const {index} begin = {'' if index == 'int' else f'({index})'}part * {how.step};")
        lines.append(f"const {index} end = {end} < {how.length} ? {end} : {how.length};")
    return lines


def _own(how: Cut, fold: Fold, value: Value, index: str) -> list[str]:
    """The accumulator of a thread's elements: whole groups in a loop, then what is left."""
    stride = how.across * how.group
    if how.parts > 1:
        whole, rest = f"begin + (end - begin) / {stride} * {stride}", how.length % how.step % stride
    else:
        rest = how.length % stride if stride else 0
        whole = str(how.length - rest)
    left, looped = -(-rest // how.across), whole != "0"
    terms = ["begin"] * (how.parts > 1) + ["t"] * (how.across > 1)
    start = " + ".join(terms) or "0"
    lines = [f"{fold.ctype} acc = {fold.start};"] if looped or not left else []
    if looped:
        stop = "whole" if how.parts > 1 else whole
        group = "\n".join(_group(how, fold, value, "r", how.group))
        lines += [f"{index} r = {start};"] + [f"const {index} whole = {whole};"] * (how.parts > 1)
        lines += [f"for (; r < {stop}; r += {stride}) {{", indent(group), "}"]
    if left:
        end = "end" if how.parts > 1 else str(how.length)
        # no thread's last element but one is beyond the end of a whole line
        sure = 0 if how.parts > 1 else left if rest % how.across == 0 else left - 1
        lines += _group(how, fold, value, "r" if looped else start, left, end, sure, first=not looped)
    return lines


def _group(
    how: Cut, fold: Fold, value: Value, at: str, count: int, end: str = "", sure: int = GROUP, first: bool = False
) -> list[str]:
    """Statements that join ``count`` elements from place ``at`` on; those after ``sure`` may be beyond the end."""
    lines, names = [], []
    for n in range(count):
        place = f"{at} + {n * how.across}" if n and at != "0" else str(n * how.across) if n else at
        text = fold.lift.format(value=value(place), at=place)
        if n >= sure:
            text = f"{place} < {end} ? {text} : {fold.start}"
        names.append(f"v{n}")
        lines.append(f"const {fold.element} v{n} = {text};")
    total = fold.tree(names)
    return [*lines, f"{fold.ctype} acc = {total};" if first else fold.into("acc", total)]


def _together(how: Cut, fold: Fold) -> tuple[list[str], int, str]:
    """Statements that join the accumulators of a line's threads, shared bytes, and the total that thread t = 0 has."""
    if how.across == 1:
        return [], 0, "acc"
    if how.inward:
        lines = over_lanes(fold, "acc", min(how.across, WARP))
        if how.across <= WARP:
            return lines, 0, "acc"
        more, total = over_warps(fold, "acc", how.across // WARP, "warps")
        return [*lines, _shared(fold, "warps"), *more], THREADS // WARP * fold.nbytes, total
    lines = [_shared(fold, "sums"), "sums[threadIdx.x] = acc;", "__syncthreads();"]
    half = how.across // 2
    while half >= GROUP:
        both = fold.into("sums[threadIdx.x]", f"sums[threadIdx.x + {half * how.side}]")
        lines += [f"if (t < {half})", f"    {both}", "__syncthreads();"]
        half //= 2
    count = min(how.across, GROUP)
    total = fold.tree([f"sums[threadIdx.x + {n * how.side}]" if n else "sums[threadIdx.x]" for n in range(count)])
    return lines, THREADS * fold.nbytes, total


def _shared(fold: Fold, name: str) -> str:
    return f"{fold.ctype} *const {name} = ({fold.ctype} *)gn_shared;"
