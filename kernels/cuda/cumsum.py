"""Running sums along an axis: a thread a line where lines are short or many, else a block a line, chunk after chunk.

chunk            3 1 4 1 | 5 9 2 6        256 threads with four elements each
in a thread      3 4 8 9 | 5 14 16 22     its last is what it adds to those behind it
over the block   0 0 0 0 | 9 9 9 9        lanes, then warps, then the chunks before
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphnet.kernels.cuda.fold import WARP, Fold, fold_of
from graphnet.kernels.cuda.lines import used
from graphnet.kernels.cuda.phase import THREADS, Job, Phase, index_type
from graphnet.kernels.cuda.reduction import Space, space_of
from graphnet.kernels.text.axes import at, indent
from graphnet.kernels.text.view import Attrs, View

__all__ = ["cumsum"]

SHORT = 32
"""Elements up to which a thread adds up a line alone."""
MANY = 1 << 13
"""Lines beside each other that keep the device busy with a thread each."""
EACH = 4
"""Elements of a thread in one chunk of a long line."""


def cumsum(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out[i] = sum of x[: i + 1] along attrs axis, or of x[i:] with reverse; integers wrap around, bools are or-ed."""
    out, x, axis = outs[0], ins[0], attrs["axis"]
    if not out.size:
        return []
    size, index, fold = x.shape[axis], index_type(out, x), fold_of("sum", out.dtype)
    space = space_of(x.shape, frozenset((axis,)), [x.strides], [out.strides])

    def place(view: View, along: str) -> str:
        here = space.here
        here[axis] = f"{size - 1} - ({along})" if attrs["reverse"] else along
        return at(view, here)

    load, store = (lambda r: place(x, r)), (lambda r, acc: f"{place(out, r)} = {fold.lower.format(acc)};")
    if size > SHORT and (space.inward or space.lines < MANY):
        body, shared = _chunked(space, fold, size, index, load, store)
        return [Phase(body, space.lines, shared, note="a block a line")]
    return [Phase(_alone(space, fold, size, index, load, store), -(-space.lines // THREADS), note="a thread a line")]


Load = Callable[[str], str]
Store = Callable[[str, str], str]


def _alone(space: Space, fold: Fold, size: int, index: str, load: Load, store: Store) -> str:
    step = f"{fold.into('acc', load('r'))}\n{store('r', 'acc')}"
    walk = f"for ({index} r = 0; r < {size}; r++) {{\n{indent(step)}\n}}"
    text = used("\n".join([*space.head(index), f"{fold.ctype} acc = 0;", walk]))
    line = f"const {index} k = {_unit(index)} * {THREADS} + threadIdx.x;"
    return f"{line}\nif (k < {space.lines}) {{\n{indent(text)}\n}}"


def _unit(index: str) -> str:
    return "unit" if index == "int" else f"({index})unit"


def _chunked(space: Space, fold: Fold, size: int, index: str, load: Load, store: Store) -> tuple[str, int]:
    """Text and bytes of shared memory."""
    each, ctype, warps = EACH if size >= EACH * THREADS else 1, fold.ctype, THREADS // WARP
    places = [f"r + {e}" if e else "r" for e in range(each)]
    lines = [f"const {index} r = first + threadIdx.x{f' * {each}' if each > 1 else ''};"]
    lines += [f"{ctype} s{e} = {p} < {size} ? {load(p)} : 0;" for e, p in enumerate(places)]
    lines += [fold.into(f"s{e}", f"s{e - 1}") for e in range(1, each)]
    lines += [f"{ctype} sum = s{each - 1};"]
    for distance in (1, 2, 4, 8, 16):
        lines += [
            "{",
            f"    const {ctype} below = __shfl_up_sync(0xffffffffu, sum, {distance});",
            f"    {fold.into('sum', f'(lane < {distance} ? 0 : below)')}",
            "}",
        ]
    lines += [
        f"{ctype} below = __shfl_up_sync(0xffffffffu, sum, 1);",
        "below = lane ? below : 0;",
        f"if (lane == {WARP - 1})",
        "    sums[warp] = sum;",
        "__syncthreads();",
        f"for (int w = 0; w < {warps}; w++) {{",
        "    if (w == warp)",
        f"        {fold.into('below', 'before')}",
        f"    {fold.into('before', 'sums[w]')}",
        "}",
        *(fold.into(f"s{e}", "below") for e in range(each)),
        *(f"if ({p} < {size})\n    {store(p, f's{e}')}" for e, p in enumerate(places)),
        "__syncthreads();",
    ]
    head = [
        f"const {index} k = {_unit(index)};",
        *space.head(index),
        f"const int lane = threadIdx.x % {WARP}, warp = threadIdx.x / {WARP};",
        f"{ctype} *const sums = ({ctype} *)gn_shared;",
        f"{ctype} before = 0;",
        f"for ({index} first = 0; first < {size}; first += {each * THREADS}) {{",
    ]
    return used("\n".join([*head, indent("\n".join(lines)), "}"])), warps * fold.nbytes
