"""Matrix products: which way each is done, and the phases it becomes.

Few multiplications are plain loops; a vector times a matrix is sums or dot products, whichever way the matrix lies;
all else is register tiles. Operands are read where they lie, whatever their strides, or packed into scratch.

An operand that stays the same in a loop can be packed once before it: ask ``packed_width``, give a buffer of
``packed_bytes``, write ``pack`` before the loop and ``matmul_packed`` in it. If its columns are in groups of equal
size, say the gates of an LSTM, the tiles can be, too: the epilogue then has the same column of all groups at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import prod

from graphnet.kernels.c import gemm_pack
from graphnet.kernels.c.gemm_dots import LEAST_LINE, Dots, Plain, Sums, few, line
from graphnet.kernels.c.gemm_pack import Matrix, block
from graphnet.kernels.c.gemm_plan import GIGAHERTZ, choose
from graphnet.kernels.c.gemm_tiles import Plan, Product, Split, Text, is_deep
from graphnet.kernels.c.gemm_vector import PackedSums, panel_width
from graphnet.kernels.c.nest import INDEPENDENT
from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.tile import tiles
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Attrs, Epilogue, View

SMALL = 2048
"""Multiplications up to which plain loops are quicker than setting up tiles."""

SERIAL = 3000.0
"""Nanoseconds below which work is not split."""

LOCAL = ("out_e", "left_e", "right_e")
"""C names of out, left and right of one entry of a batch."""

Axes = tuple[int | None, ...]


# -- Leading axes


@dataclass(frozen=True, slots=True)
class Batch:
    """A leading axis that is looped over: its size and the strides of out, left and right along it."""

    size: int
    out: int
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Stack:
    """A product for each entry of the batch."""

    product: Product
    batch: tuple[Batch, ...]

    @property
    def entries(self) -> int:
        return prod(b.size for b in self.batch)


def _stack(out: View, left: View, right: View) -> Stack:
    """Merges leading axes with each other and, where right does not change along them, with the rows."""
    m, n, k = out.shape[-2], out.shape[-1], left.shape[-1]
    steps = [
        [s if d > 1 else 0 for d, s in zip(v.shape[:-2], v.strides[:-2], strict=True)][::-1] for v in (out, left, right)
    ]
    down_out, down_left = out.strides[-2], left.strides[-2]
    batch: list[Batch] = []
    for size, strides in zip(out.shape[-3::-1], zip_longest(*steps, fillvalue=0), strict=True):
        new = Batch(size, *strides)
        if size == 1:
            continue
        if not batch and new.right == 0 and (m == 1 or (new.out, new.left) == (down_out * m, down_left * m)):
            down_out, down_left = (new.out, new.left) if m == 1 else (down_out, down_left)
            m *= size
        elif batch and all(getattr(new, x) == getattr(batch[0], x) * batch[0].size for x in ("out", "left", "right")):
            batch[0] = replace(batch[0], size=batch[0].size * size)
        else:
            batch.insert(0, new)
    names = LOCAL if batch else (out.name, left.name, right.name)
    steps_down, steps_across = (down_out, down_left, right.strides[-2]), (v.strides[-1] for v in (out, left, right))
    matrices = (Matrix(*each) for each in zip(names, steps_down, steps_across, strict=True))
    return Stack(Product(out.dtype, m, n, k, *matrices), tuple(batch))


def _lead(out: View, ins: Sequence[View]) -> tuple[int, Axes]:
    """The size of the first axis of out, columns apart, that is not 1, and which axis it is of out and of ins."""
    axis = next((a for a, size in enumerate(out.shape[:-2]) if size != 1), len(out.shape) - 2)

    def place(view: View, last: int) -> int | None:
        at = axis - len(out.shape) + len(view.shape)
        return at if 0 <= at <= last and view.shape[at] == out.shape[axis] else None

    left, right = ins
    return out.shape[axis], (axis, place(left, len(left.shape) - 2), place(right, len(right.shape) - 3))


# -- Kinds of products. Each has lines(bounds, epilogue, scratch): the statements for a share of the split axis.


@dataclass(frozen=True, slots=True)
class Tiles:
    """Register tiles, as the plan says."""

    plan: Plan

    @property
    def scratch(self) -> int:
        return self.plan.scratch

    @property
    def cost(self) -> float:
        return self.plan.cycles * self.plan.threads / GIGAHERTZ

    @property
    def note(self) -> str:
        return self.plan.note

    @property
    def helpers(self) -> tuple[str, ...]:
        return self.plan.helpers

    def lines(self, bounds: tuple[str, str], epilogue: Epilogue | None, scratch: str) -> list[str]:
        return Text(self.plan, bounds, epilogue, scratch).lines()


Kind = Plain | Dots | Sums | Tiles


def _kind(p: Product, split: Split, shareable: bool) -> Kind:
    work = p.m * p.n * p.k
    found = line(p, split) if work > SMALL // 8 else None
    if not found and (p.k <= 1 or work <= SMALL or 1 in (p.m, p.n)):
        return Plain(p, split)
    return found or few(p, split) or Tiles(choose(p, split, shareable))


# -- Sharing among threads


@dataclass(frozen=True, slots=True)
class Share:
    """How a step is split: ``over`` "batch", "m", "n" or "" and the phase's units, their length and its axes."""

    over: str = ""
    units: int = 1
    length: int = 1
    axes: Axes = (None, None, None)


def _share(stack: Stack, out: View, ins: Sequence[View], threads: int) -> Share:
    p = stack.product
    cost = _kind(p, Split(), False).cost
    size = {"batch": stack.entries, "m": p.m, "n": p.n}
    if threads == 1 or cost * stack.entries < SERIAL:
        return Share()
    if stack.entries > 1 and (stack.entries >= 2 * threads or stack.entries % threads == 0 or cost < SERIAL):
        over = "batch"
    elif is_deep(p):
        over = "n" if p.n > p.m else "m"
    else:
        over = "m" if p.m >= min(4 * threads, p.n) else "n"
    if size[over] < threads * (LEAST_LINE if over != "batch" and 1 in (p.m, p.n) else 1):
        return Share()
    if over == "n":
        return Share("n", p.n, 1, (len(out.shape) - 1, None, len(ins[1].shape) - 1))
    units, axes = _lead(out, ins)
    if over == "m" and stack.batch:
        units, axes = out.shape[-2], (len(out.shape) - 2, len(ins[0].shape) - 2, None)
    if size[over] % units or units < min(4 * threads, size[over]):
        units, axes = size[over], (None, None, None)
    return Share(over, units, size[over] // units, axes)


def _prepared(out: View, ins: Sequence[View], threads: int) -> tuple[Stack, Share, Kind]:
    stack = _stack(out, *ins)
    share = _share(stack, out, ins, threads)
    whole = share.over in ("", "batch")
    split = Split() if whole else Split(share.over, threads, share.length)
    kind = _kind(stack.product, split, not stack.batch)
    return stack, share, kind


def matmul_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int) -> int:
    """Bytes of scratch that ``matmul`` uses, into ``outs`` or, through an epilogue, with elements in order."""
    (out,) = outs
    if not out.size:
        return 0
    steps = tuple(prod(out.shape[axis + 1 :]) for axis in range(len(out.shape)))
    sizes = []
    for view in (out, replace(out, strides=steps)):
        _, share, kind = _prepared(view, ins, threads)
        sizes.append(kind.scratch * (threads if share.over == "batch" else 1))
    return max(sizes)


def matmul(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (.., m, n) = left (.., m, k) @ right (.., k, n); leading axes broadcast, all of one float dtype.

    Any strides. With ``job.epilogue`` (two-dimensional results) each element goes there when it is finished,
    once, in loops over i and j. No phases for an empty result.
    """
    (out,) = outs
    if not out.size:
        return []
    stack, share, kind = _prepared(out, ins, job.threads)
    bounds = ("lo", "hi") if share.length == 1 else (f"lo * {share.length}L", f"hi * {share.length}L")
    phases = []
    if isinstance(kind, Tiles) and kind.plan.right == "shared":
        packing = _packing(kind.plan.product, kind.plan.width, job.scratch, job.threads)
        phases.append(replace(packing, axes=(None, None, None)))
    own = f" + tid * {kind.scratch}L" if share.over == "batch" and kind.scratch else ""
    lines = kind.lines(bounds, job.epilogue, job.scratch + own)
    if stack.batch:
        lines = _looped(stack, lines, share, [v.name for v in (out, *ins)], bounds)
    cost = kind.cost * stack.entries
    phases.append(Phase(_text(lines), share.units, share.axes, _helpers(kind, job), cost, kind.note))
    return phases


def _helpers(kind: Kind, job: Job) -> tuple[str, ...]:
    tiles_end = isinstance(kind, Tiles) and job.epilogue is not None
    return (*kind.helpers, INDEPENDENT) if tiles_end else kind.helpers


def _looped(stack: Stack, lines: list[str], share: Share, names: Sequence[str], bounds: tuple[str, str]) -> list[str]:
    """The statements for each entry of the batch."""
    ctype, after, heads = CTYPES[stack.product.dtype], stack.entries, []
    offsets: tuple[list[str], ...] = ([], [], [])
    for b in stack.batch:
        after //= b.size
        index = "e" if len(stack.batch) == 1 else f"e / {after}L % {b.size}L" if after > 1 else f"e % {b.size}L"
        for terms, stride in zip(offsets, (b.out, b.left, b.right), strict=True):
            terms += [f"{index} * {stride}L"] if stride else []
    for const, local, name, terms in zip(("", "const ", "const "), LOCAL, names, offsets, strict=True):
        if stack.product.k or not const:
            heads.append(f"{const}{ctype} *{local} = {' + '.join([name, *terms])};")
    lo, hi = bounds if share.over == "batch" else ("0", str(stack.entries))
    return block(f"for (long e = {lo}; e < {hi}; ++e)", heads + lines)


def _packing(p: Product, width: int, buffer: str, threads: int, groups: int = 1) -> Phase:
    """The phase that packs the right operand of a product; its units are pieces of panels."""
    columns, run = p.n // groups, width // groups
    ctype, count = CTYPES[p.dtype], gemm_pack.panels(columns, run)
    step = p.k if count >= 4 * threads else max(64, -(-p.k // (4 * threads)))
    pieces = -(-p.k // step)
    units, cost = count * pieces, p.k * p.n * 0.1
    target, first, depth = f"({ctype} *)({buffer}) + column * {p.k * groups}L", "0", str(p.k)
    lines = [f"const long column = u * {run};"]
    if pieces > 1:
        target, first, depth = f"{target} + first * {width}", "first", "depth"
        lines = [
            f"const long column = u / {pieces} * {run}, first = u % {pieces} * {step};",
            f"const long depth = {p.k} - first < {step} ? {p.k} - first : {step};",
        ]
    lines.append(f"const long start = {gemm_pack.panel_start('column', columns, run)};")
    lines.append(f"{ctype} *panel = {target};")
    lines += gemm_pack.panel(p.dtype, p.right, "panel", width, p.n, first, depth, groups)
    split = cost >= SERIAL and threads > 1
    head = "for (long u = lo; u < hi; ++u)" if split else f"for (long u = 0; u < {units}; ++u)"
    note = f"packs the right operand in panels of {width}"
    note += f", {run} columns of each of {groups} groups" if groups > 1 else ""
    return Phase(_text(block(head, lines)), units if split else 1, (), gemm_pack.helpers(p.dtype, p.right), cost, note)


def _text(lines: list[str]) -> str:
    return "\n".join(lines)


# -- A right operand that is packed apart from the products

SLOWER = 1.3
"""By what factor tiles in groups may be slower than the best: what they save is the result stored and read again."""


def _of_matrices(out: View, left: View, right: Matrix) -> Product:
    """The product of two matrices."""
    (m, n), k = out.shape, left.shape[1]
    result, first = (Matrix(v.name, v.strides[0], v.strides[1]) for v in (out, left))
    return Product(out.dtype, m, n, k, result, first, right)


def _packed(out: View, left: View, right: Matrix, threads: int, width: int, groups: int) -> Plan:
    """The plan of a product of matrices whose rows threads share and whose right operand is packed."""
    split = Split("m", threads) if out.shape[0] >= threads > 1 else Split()
    return choose(_of_matrices(out, left, right), split, width=width, groups=groups)


def packed_width(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> int:
    """Columns in a panel if right is packed apart, for outs and ins of ``matmul``; 0 if that cannot be done.

    It can for matrices (no leading axes) that are large enough for tiles, with k up to a few thousand, and for a
    vector times a large matrix whose rows are dense. In ``attrs["groups"]``, one if that is left out, it can if they
    divide the columns and the vectors of some good tile.
    """
    (out,), (left, right), groups = outs, ins, attrs.get("groups", 1)
    if len(out.shape) != 2 or len(right.shape) != 2 or out.shape[1] == 1 or out.size * left.shape[1] <= SMALL:
        return 0
    matrix = Matrix(right.name, *right.strides)
    if out.shape[0] == 1:
        return panel_width(_of_matrices(out, left, matrix)) if groups == 1 else 0
    plan = _packed(out, left, matrix, job.threads, -1, 1)
    if groups > 1:
        if out.shape[1] % groups or all(nv % groups for _, nv in tiles()):
            return 0
        best, plan = plan, _packed(out, left, matrix, job.threads, -1, groups)
        if plan.cycles > SLOWER * best.cycles:
            return 0
    return 0 if plan.blocked else plan.width


def packed_bytes(right: View, width: int, groups: int = 1) -> int:
    """Size of the packed operand: a buffer of uint8 that starts at a multiple of 64 bytes."""
    k, n = right.shape
    return gemm_pack.panels(n // groups, width // groups) * width * k * ITEMSIZE[right.dtype]


def pack(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """outs[0], uint8, = ins[0] (k, n) in panels of ``attrs["width"]`` columns, for ``matmul_packed``.

    ``attrs["groups"]``, one if that is left out, must divide n and the width.
    """
    (packed,), (right,) = outs, ins
    k, n = right.shape
    matrix = Matrix(right.name, right.strides[0], right.strides[1])
    product = Product(right.dtype, 1, n, k, matrix, matrix, matrix)
    phase = _packing(product, attrs["width"], packed.name, job.threads, attrs.get("groups", 1))
    return [replace(phase, axes=(None, None))]


def matmul_packed(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (m, n) = left (m, k) @ right, where ins are left and what ``pack`` made of right.

    Bit for bit what ``matmul`` gives. One phase; its units are the rows of out and of left, so that steps which
    share rows the same way need no barrier between them, or the panels if there is one row. ``attrs`` are those of
    ``pack``. The epilogue is as for ``matmul``, but in groups it takes, for i < m and j < n / groups, the elements
    (i, j), (i, j + n / groups) and so on together; no scratch.
    """
    (out,), (left, packed) = outs, ins
    matrix = Matrix(packed.name, 0, 1)
    if out.shape[0] == 1:
        sums = PackedSums(_of_matrices(out, left, matrix), attrs["width"])
        lines = sums.lines(job.epilogue)
        return [Phase(_text(lines), sums.units, (1, None, 0), (*sums.helpers, INDEPENDENT), sums.cost, sums.note)]
    kind = Tiles(_packed(out, left, matrix, job.threads, attrs["width"], attrs.get("groups", 1)))
    lines = kind.lines(("lo", "hi"), job.epilogue, packed.name)
    units = out.shape[0] if kind.plan.threads > 1 else 1
    return [Phase(_text(lines), units, (0, 0, None), _helpers(kind, job), kind.cost, kind.note)]
