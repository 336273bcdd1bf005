"""A right operand that is packed in front of a loop, and products with it whose columns are in groups.

    columns a0 a1 a2 a3 b0 b1 b2 b3, width 4, 2 groups    ->    panels a0 a1 b0 b1 | a2 a3 b2 b3

A panel is what one unit multiplies by: k rows of ``width`` elements, the same run of columns of each group, filled
up with zeros. A unit finds all groups' values of its elements in one place, say all gates of an LSTM, and keeps its
panel on chip for all iterations of the loop if that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

from graphnet.kernels.cuda.gemm_load import Kind, Operand, block, strided, times, unrolled
from graphnet.kernels.cuda.gemm_phases import ahead_of, text_for, tiles_phase
from graphnet.kernels.cuda.gemm_plan import DEPTHS, Plan, Shape, choose
from graphnet.kernels.cuda.gemm_tile import Product, Text, digit
from graphnet.kernels.cuda.phase import THREADS, Job, Phase, index_type
from graphnet.kernels.text.view import ITEMSIZE, Attrs, View

RESIDENT = 128 * 1024
"""Bytes of a panel that stay on chip; a larger one comes through shared memory each time."""

ROOM = 0.1
"""By what part of its time a product may be slower that leaves all of RESIDENT free: a loop may have several."""

RUNS = (1, 2, 4, 8, 16, 32, 64)
"""Columns of each group in a panel."""

WIDEST = 128
"""Columns of the widest panel."""

PACKED = 4 * THREADS
"""Elements that a unit packs."""

SMALL = 2048
"""Multiplications up to which nothing is packed."""


def packed_width(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, tensor: int = 0) -> int:
    """Columns of a panel if right is packed apart, for outs and ins of ``matmul``; 0 if that cannot be done.

    It can for matrices of more than one column and a few multiplications. In ``attrs["groups"]``, one if that is
    left out, it can if these divide the columns. ``tensor`` is that of the job that will multiply.
    """
    (out,), (left, right), groups = outs, ins, attrs.get("groups", 1)
    if len(out.shape) != 2 or len(right.shape) != 2 or out.shape[1] % groups:
        return 0
    columns = out.shape[1] // groups
    if out.shape[1] == 1 or out.size * left.shape[1] <= SMALL:
        return 0
    widths = [run * groups for run in RUNS if run * groups <= WIDEST and run < 2 * columns]

    def cost(width: int) -> float:
        """Clocks, and what the memory is worth that stays taken."""
        item, k = ITEMSIZE[out.dtype], left.shape[1]
        taken = k * width * item / RESIDENT if _resident(k, width, item) else 0.0
        return _plan(out, left, width, groups, tensor).clocks * (1 + ROOM * taken)

    return min(widths, key=cost, default=0)


def packed_bytes(right: View, width: int, groups: int = 1) -> int:
    """Size of the packed operand: a buffer of uint8 that starts at a multiple of 64 bytes."""
    k, n = right.shape
    return _panels(n, width, groups) * width * k * ITEMSIZE[right.dtype]


def pack(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """outs[0], uint8, = ins[0] (k, n) in panels of ``attrs["width"]`` columns, for ``matmul_packed``.

    ``attrs["groups"]``, one if that is left out, must divide n and the width. No phases for an empty operand.
    """
    (packed,), (right,) = outs, ins
    (k, n), width, groups = right.shape, attrs["width"], attrs.get("groups", 1)
    run, columns = width // groups, n // groups
    panels, reach = _panels(n, width, groups), index_type(right, packed)
    total = panels * k * width
    place = [f"const int c = e % {width}, k = e / {width} % {k};"]
    place.append(f"const int column = e / {k * width} * {run} + c % {run};")
    column = "column" if groups == 1 else f"(c / {run} * {columns} + column)"
    source = f"{right.name}[{times('k', right.strides[0])} + {times(column, right.strides[1])}]"
    value = source if columns % run == 0 else f"column < {columns} ? {source} : 0"
    place.append(f"(({right.ctype} *){packed.name})[e] = {value};")
    begin = f"({reach})unit * {PACKED} + threadIdx.x"
    head = f"for ({reach} e = {begin}; e < ({reach})(unit + 1) * {PACKED}; e += {THREADS})"
    body = block(f"if (e < {total})", place) if total % PACKED else place
    note = f"panels of {width}" + (f", {run} columns of each of {groups} groups" if groups > 1 else "")
    return [Phase("\n".join(unrolled(head, body)), -(-total // PACKED), note=note)] if total else []


def matmul_packed(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (m, n) = left (m, k) @ right, where ins are left and what ``pack`` made of right.

    One phase without scratch; where a panel fits, the unit's is its resident load. ``attrs`` are those of ``pack``.
    The epilogue is as for ``matmul``, but in groups it takes, for i < m and j < n / groups, the elements (i, j),
    (i, j + n / groups) and so on together.
    """
    out, width, groups = outs[0], attrs["width"], attrs.get("groups", 1)
    if not out.size:
        return []
    product = _product(out, ins[0], ins[1], width, groups, job)
    text = text_for(product, _plan(out, ins[0], width, groups, job.tensor), job.tensor)
    phase = tiles_phase(text, job)
    if not product.right.resident:
        return [phase]
    rows = text.chunks * text.tile.depth
    load, nbytes = _load(text, ins[1].name, rows), rows * width * ITEMSIZE[out.dtype]
    return [replace(phase, resident=nbytes, load=load, loaded=(1,), note=f"{phase.note}, panel on chip")]


def _product(out: View, left: View, packed: View, width: int, groups: int, job: Job) -> Product:
    (m, n), k, item = out.shape, left.shape[1], ITEMSIZE[out.dtype]
    columns = n // groups

    def store(i: str, j: str, *values: str, **how: bool) -> str:
        if job.epilogue is not None:
            return job.epilogue((i, j), *values, **how)
        places = [f"{j} + {g * columns}" if g else j for g in range(groups)]
        return "\n".join(f"{out.at(i, place)} = {value};" for place, value in zip(places, values, strict=True))

    panels = Operand(
        f"(const {out.ctype} *){packed.name}",
        lambda j: (f"{j} % {width} + start * {k}",),
        lambda row: (times(row, width),),
        "line",
        gcd(16 // item, width),
        aligned=True,
        resident=_resident(k, width, item),
    )
    return Product(
        out.dtype,
        m,
        _panels(n, width, groups) * width,
        k,
        _left(left),
        panels,
        store,
        groups=groups,
        across=columns,
        down=abs(out.strides[0]) == 1 and abs(out.strides[1]) != 1 and m > 1,
        reach=index_type(out, left, packed),
        ahead=ahead_of(job),
    )


def _load(text: Text, packed: str, rows: int) -> str:
    """The unit's panel, with zeros behind its last row up to so many ``rows``."""
    k, width, ctype = text.product.k, text.tile.columns.size, text.ctype
    panel = digit("unit", 1, text.across, (text.down,))
    run = gcd(16 // ITEMSIZE[text.product.dtype], k * width)
    lines = [
        f"{ctype} *const panel = ({ctype} *)gn_resident;",
        f"const {ctype} *const from = (const {ctype} *){packed} + ({text.product.reach}){panel} * {k * width};",
        f"for (int e = threadIdx.x{f' * {run}' if run > 1 else ''}; e < {k * width}; e += {THREADS * run})",
        f"    gn_put<{run}>(&panel[e], &from[e]);" if run > 1 else "    panel[e] = from[e];",
    ]
    if rows > k:
        lines.append(f"for (int e = {k * width} + threadIdx.x; e < {rows * width}; e += {THREADS})")
        lines.append("    panel[e] = 0;")
    return "\n".join(lines)


def _panels(n: int, width: int, groups: int) -> int:
    return -(-n // width) if groups == 1 else -(-(n // groups) // (width // groups))


def _left(left: View) -> Operand:
    (m, k), wide = left.shape, 16 // ITEMSIZE[left.dtype]
    return strided(left.name, left.strides[0], left.strides[1], m, k, wide)


def _resident(k: int, width: int, item: int) -> bool:
    """Whether a panel stays on chip, with as many rows as any chunks have."""
    return -(-k // DEPTHS[-1]) * DEPTHS[-1] * width * item <= RESIDENT


def _plan(out: View, left: View, width: int, groups: int, tensor: int) -> Plan:
    (m, n), k, item = out.shape, left.shape[1], ITEMSIZE[out.dtype]
    total, panels = _panels(n, width, groups) * width, Kind("line", gcd(16 // item, width))
    shape = Shape(
        out.dtype,
        m,
        total,
        k,
        1,
        _left(left).kind,
        panels,
        across=width,
        parts=False,
        tensor=tensor,
    )
    return choose(replace(shape, resident=_resident(k, width, item)))
