"""Which plan a matrix product takes: what its tiles and memory cost in cycles, and the cheapest of the ways to cut it.

The figures were measured, and are for choosing between plans only: no result depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from graphnet.kernels.c.gemm_tiles import PANEL_BYTES, Plan, Product, Split
from graphnet.kernels.c.tile import ISAS, by_size, lanes, target, tile_cycles
from graphnet.kernels.text.view import ITEMSIZE

BLOCK = 256
"""About the length of a block of k."""

L2_BYTES = 1 << 20

GIGAHERTZ = 3.5


def _where(p: Product, width: int, rows: int) -> str:
    """Whether the right operand is read in place or packed, for tiles of this width and so many rows in all."""
    if p.right.across != 1:
        return "pack"
    if p.n < width:
        return "place" if p.right.down >= p.n and p.k > width else "pack"
    extent = abs(p.right.down) * p.k * ITEMSIZE[p.dtype]
    return "place" if extent <= 1 << 17 or rows < 32 or (extent <= 1 << 21 and rows < 384) else "pack"


def _reads(p: Product, mr: int, nv: int, where: str, rows: int, depth: int) -> float:
    """By what factor memory slows a tile down: measured, for choosing between plans only."""
    item = ITEMSIZE[p.dtype]
    factor = 1 + 0.15 / mr + 0.05 / nv + (0.08 if depth < p.k else 0.0)
    if where == "place" and p.n * item >= 2048:
        factor += 0.02 + 0.9 * max(0.0, 1 - mr * nv / 24)
    block_bytes = rows * depth * item
    if p.left.down == 1 and abs(p.left.across) * item >= 1024:
        factor += 0.0125 * max(0, 12 - mr)
        if block_bytes > L2_BYTES and abs(p.left.across) * item >= 4096:
            factor += 0.3
    if block_bytes > L2_BYTES and p.n > nv * lanes(p.dtype):
        factor += 0.08 + 0.005 * max(0, mr - 6) * (p.left.across == 1)
        factor += 0.04 * (block_bytes > 8 * L2_BYTES)
    return factor


def _store_cycles(p: Product) -> float:
    """Cycles to bring the tiles to where the result lies."""
    if p.out.across == 1:
        return 0.05 * p.m * p.n
    far = p.m * p.n * ITEMSIZE[p.dtype] > L2_BYTES
    return p.m * p.n * (1.5 if far or p.out.down != 1 else 0.5)


def _plans(p: Product, turned: bool, split: Split, shareable: bool, packed: int, groups: int) -> Iterable[Plan]:
    """Ways to cut a product that is ``turned`` already, or not, the best of them among these.

    ``packed`` is the width of its right operand's panels, -1 if any will do, 0 if that is not packed.
    """
    best = math.inf
    unit, item, length = ISAS[target()], ITEMSIZE[p.dtype], lanes(p.dtype)
    rows, columns = split.shares("n" if turned else "m", p.m), split.shares("m" if turned else "n", p.n // groups)
    for mr, nv in by_size(target()):
        width, run = nv * length, nv // groups * length
        padded = width > p.n
        if nv % groups or mr > rows[0] or run - length >= columns[0] or (run > columns[0] and not padded):
            continue
        count = -(-rows[-1] // mr) * -(-columns[-1] // run)
        if packed not in (0, -1, width) or count * p.k * tile_cycles(mr, nv) > best:
            continue
        limit = max(PANEL_BYTES // (width * item), 512)
        depth = p.k if p.k <= limit else -(-p.k // -(-p.k // BLOCK))
        where, packing = "shared" if packed else _where(p, width, rows[-1]), 0.0
        if p.n < width and depth < p.k:
            where = "pack"
        if where == "pack":
            where = "shared" if rows[0] < p.m and shareable and depth == p.k else "panel"
            where = "block" if depth < p.k and p.right.across == 1 and p.n >= width else where
            times = split.threads if where == "shared" else 1
            packing = p.k * columns[-1] * (0.35 if 1 in (p.right.down, p.right.across) else 1.5) / times
        reads = _reads(p, mr, nv, where, rows[-1], depth)
        once = (4 if padded else 2) * mr * nv / unit.loads + 15
        cycles = count * (p.k * tile_cycles(mr, nv) * reads + once) + packing + _store_cycles(p) / split.threads
        best = min(best, cycles)
        yield Plan(p, turned, mr, nv, rows, columns, where, depth, split.threads, cycles, groups)


@lru_cache(maxsize=1024)
def _choose(p: Product, split: Split, shareable: bool, width: int, groups: int, isa: str) -> Plan:
    found = list(_plans(p, False, split, shareable, width, groups))
    if not width:
        found += _plans(p.turned, True, split, shareable, 0, 1)
    return min(found, key=lambda plan: plan.cycles)


def choose(p: Product, split: Split, shareable: bool = True, width: int = 0, groups: int = 1) -> Plan:
    """The cheapest plan; ``shareable`` if a phase before may pack the right operand for all threads.

    ``width`` is that of the panels if right is packed already, -1 if it will be in any, 0 if not; in more than one
    of ``groups`` it is, each of so many columns, and some tile of the instruction set has whole vectors of each.
    """
    return _choose(p, split, shareable, width, groups, target())
