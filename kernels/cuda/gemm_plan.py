"""Which tiles a product is cut into: the cheapest by a model of one multiprocessor, in clocks.

    large            128 x 128, 64 x 64      one sum of a thread over all terms
    small            32 x 32, 8 x 16         the groups of a block share the terms of each sum
    few, long sums   parts of the terms      a second phase adds the parts' sums

Where tiles go through different numbers of terms, the multiprocessor counts that is done last.
The model is of a GPU of 132 multiprocessors (H100, H200). It knows nothing of the device at hand: the order of
additions depends on shapes alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heapreplace
from itertools import chain, product
from math import ceil, gcd
from typing import NamedTuple

from graphnet.kernels.cuda.gemm_load import SECTOR, Kind, power, row_length
from graphnet.kernels.cuda.gemm_span import Span
from graphnet.kernels.cuda.gemm_tensor import COLUMNS, ROWS, TERMS, TensorTile
from graphnet.kernels.cuda.gemm_tensor import row_length as tensor_length
from graphnet.kernels.cuda.gemm_tile import Side, Tile
from graphnet.kernels.cuda.phase import SHARED, THREADS
from graphnet.kernels.text.view import ITEMSIZE

MULTIPROCESSORS = 132
SCHEDULERS = 4
WARPS = THREADS // 32
LATENCY = 700
"""Clocks from a load to the barrier behind which others see it, from the second cache."""
START = 900
"""Clocks for a block to begin, and to end."""
PHASE = 2500
"""Clocks until a phase can begin behind another one."""
CACHE = 28
"""Bytes a clock to each multiprocessor when all of them read the second cache."""
ALONE = 64
"""Bytes a clock to a multiprocessor when few of them do."""
LOADED = 32
"""Elements that a thread may have on the way."""
TENSOR = 6
"""Clocks in which one of a multiprocessor's four tensor cores does 16 x 8 x 8 multiply-adds of TF32 for one warp."""
WAYS = 32
"""Groups of threads that may share the terms of a sum: few threads add them up."""
MANY = 8 * MULTIPROCESSORS
"""Units from which on what differs between them is taken to level out."""
DEPTHS = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the choice depends on: sizes, and for each operand along which axis and in what runs it is loaded.

    ``across``, if given, is the number of columns of a tile; a ``resident`` right operand is in shared memory
    already. ``parts``: the terms may be cut. With a ``span``, tiles differ in how many of the terms they go through.
    ``tensor``: tiles may be for tensor cores, which compute so many
    products for each.
    """

    dtype: str
    m: int
    n: int
    k: int
    entries: int
    left: Kind
    right: Kind
    across: int = 0
    resident: bool = False
    parts: bool = True
    span: Span | None = None
    tensor: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A tile, in how many parts the terms are cut, and what the model says it takes."""

    tile: Tile | TensorTile
    parts: int
    clocks: float


def _sides(limit: int, most: int, least: int) -> list[Side]:
    """Sides of tiles for so many lines: powers of two, and others that fit them much better.

    They have no more than twice the lines there are, but may have ``least``.
    """
    found = []
    for threads in (1, 2, 4, 8, 16):
        for each in range(1, most + 1):
            side = Side(threads, each)
            if side.size > max(power(limit), least):
                continue
            if each == power(each) or 1.1 * _covered(limit, side.size) < _covered(limit, threads * power(each)):
                found.append(side)
    return found


def _covered(limit: int, size: int) -> int:
    """Lines of all tiles of a size."""
    return ceil(limit / size) * size


def _widths(across: int, most: int) -> list[Side]:
    """Sides of exactly so many columns."""
    return [
        Side(threads, across // threads)
        for threads in (1, 2, 4, 8, 16, 32)
        if across % threads == 0 and across // threads <= most
    ]


def _lanes(size: int, kind: Kind) -> int:
    """Threads that load a term of so many lines together; a block must have them."""
    return power(size) // gcd(kind.run, size) if kind.along == "line" else 1


def _per_thread(size: int, depth: int, kind: Kind) -> int:
    """Loads of a thread for a chunk of one operand."""
    whole, run = power(size), gcd(kind.run, size) if kind.along == "line" else kind.run
    if kind.along == "line":
        return ceil(depth * whole / run / THREADS)
    near = SECTOR // run
    lines = min(whole, THREADS // near)
    return ceil(size / lines) * ceil(depth / (SECTOR * (THREADS // (near * lines))))


def _parts(shape: Shape, tiles: int, depth: int) -> Iterator[int]:
    yield 1
    if shape.parts and tiles < MULTIPROCESSORS:
        for parts in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128):
            if parts * depth <= shape.k and tiles * parts <= MULTIPROCESSORS:
                yield parts


class _Block:
    """What a block does in a chunk: instructions, shared and global memory, in clocks of a multiprocessor."""

    def __init__(self, shape: Shape, tile: Tile | TensorTile) -> None:
        item, warps = ITEMSIZE[shape.dtype], WARPS / SCHEDULERS
        self.tile, rows, columns, depth = tile, tile.rows, tile.columns, tile.depth
        sides = [(rows.size, shape.left)] + ([] if shape.resident else [(columns.size, shape.right)])
        loads = [(_per_thread(size, depth, kind), kind) for size, kind in sides]
        self.loaded = sum(count * kind.run for count, kind in loads)
        stores = sum(count * (kind.run if kind.along == "depth" else 1) for count, kind in loads)
        # with a table, each load takes its entry first, and compares rows and columns
        self.loading = warps * (sum(count * (4 + kind.table) for count, kind in loads) + stores + 20)
        self.bytes = sum(size for size, _ in sides) * depth * item
        if isinstance(tile, TensorTile):
            self._on_tensor_cores(tile, shape.tensor)
            lengths = [tensor_length(size) * item + kind.table * 8 for size, kind in sides]
        else:
            self._in_registers(tile, item)
            lengths = [row_length(size, kind.along) * item + kind.table * 8 for size, kind in sides]
        self.shared = sum(2 * depth * length for length in lengths)
        self.results = tile.ways * rows.size * (ceil(columns.size / 4) * 4 + 4) * max(item, 4)

    def _in_registers(self, tile: Tile, item: int) -> None:
        """``step`` and ``banks`` are clocks for ``terms`` terms of each group; ``registers`` those of a thread."""
        sums, widest = tile.rows.each * tile.columns.each, 16 // item if item >= 4 else 1
        pieces = [many for side in (tile.rows, tile.columns) for _, many in side.pieces(widest)]
        self.terms = 1
        self.step = WARPS / SCHEDULERS * (sums * item / 4 + len(pieces) + 1)
        self.banks = WARPS * sum(2 if many * item > 8 else 1 for many in pieces)
        self.registers = sums * (2 if item > 4 else 1) + self.loaded + 56

    def _on_tensor_cores(self, tile: TensorTile, each: int) -> None:
        taken, pieces = 4 * tile.down + 2 * tile.across, tile.down * tile.across
        parts = 2 if each > 1 else 1
        self.terms = TERMS
        # each element that is taken is rounded, too, and what that leaves
        self.step = WARPS / SCHEDULERS * max(TENSOR * pieces * each, (3 * parts - 1) * taken + pieces * each + 4)
        self.banks = WARPS * taken
        self.registers = 4 * pieces + parts * taken + self.loaded + 56

    def resident(self) -> int:
        """Blocks that a multiprocessor holds at once."""
        return max(1, min(2, 65536 // (THREADS * self.registers)))


class _Wave(NamedTuple):
    """What the busiest multiprocessor does at once, ``times``: so many units, their work, and the longest's.

    All terms of a tile, or of a part of them, are work of 1.
    """

    times: float
    units: float
    work: float
    longest: float


def _waves(shape: Shape, columns: int, copies: int, together: int) -> list[_Wave]:
    """The units in order, ``together`` of them at once on each multiprocessor.

    Tiles of so many ``columns`` are in a row ``copies`` times for each entry: for tiles down, and parts.
    """
    units = shape.entries * copies * ceil(shape.n / columns)
    if shape.span is not None:
        return [_busiest(shape.span, shape.n, shape.k, shape.entries, columns, copies, together)]
    full, rest = divmod(units, together * MULTIPROCESSORS)
    last = ceil(rest / MULTIPROCESSORS)
    return [_Wave(full, together, together, 1), _Wave(min(rest, 1), last, last, 1)]


@lru_cache(maxsize=4096)
def _busiest(span: Span, n: int, k: int, entries: int, columns: int, copies: int, together: int) -> _Wave:
    """Units go to multiprocessors in turn while there is room, then to who is done first."""
    units = entries * copies * ceil(n / columns)
    if units > MANY:
        share = span.average(entries, n, columns) / k
        return _Wave(units / (together * MULTIPROCESSORS), together, together * share, share)
    rows = [[terms / k for many, terms in span.runs(e, n, columns) for _ in range(many)] for e in range(entries)]
    work = [x for row in rows for x in row * copies]
    first = work[: together * MULTIPROCESSORS]
    free = [(sum(first[x::MULTIPROCESSORS]), len(first[x::MULTIPROCESSORS])) for x in range(MULTIPROCESSORS)]
    heapify(free)
    for one in work[len(first) :]:
        done, many = free[0]
        heapreplace(free, (done + one, many + 1))
    total, many = max(free)
    count = ceil(many / together)
    return _Wave(count, many / count, total / count, max(total / many, max(work) / count))


def _clocks(shape: Shape, block: _Block, tiles: int, parts: int) -> float:
    """What a product takes with these tiles."""
    tile, item = block.tile, ITEMSIZE[shape.dtype]
    length = ceil(ceil(shape.k / parts) / tile.depth) * tile.depth
    parts = ceil(shape.k / length)
    chunks = ceil(min(length, shape.k) / tile.depth)
    steps = ceil(min(length, shape.k) / (tile.ways * block.terms))
    units = tiles * parts
    rate = min(ALONE, CACHE * MULTIPROCESSORS / min(units, MULTIPROCESSORS))
    compute = max(steps * block.step + chunks * (block.loading + 40), steps * block.banks)
    moved = chunks * block.bytes
    if shape.resident and units > MULTIPROCESSORS:
        # a block with more than one unit loads each one's columns again
        moved += shape.k * shape.across * item
    memory = moved / rate
    outputs = ceil(tile.rows.size * tile.columns.size / THREADS)
    finish = START + outputs * (6 * tile.ways + 30) + 120 * ceil(outputs / 4)

    busy = max(compute, memory)
    # while a chunk is multiplied, the next one is on its way
    alone = (chunks - 1) * max(LATENCY, busy / chunks) + busy / chunks

    def rounds(together: int) -> float:
        return sum(
            wave.times * (LATENCY + max(wave.work * busy, wave.longest * alone) + finish * (1 + wave.units) / 2)
            for wave in _waves(shape, tile.columns.size, ceil(shape.m / tile.rows.size) * parts, together)
        )

    # whether blocks share multiprocessors is not for this kernel alone to say
    total = rounds(1) if shape.resident else (rounds(1) + rounds(block.resident())) / 2
    if parts > 1:
        sums = 2 * parts * shape.entries * shape.m * shape.n * item
        total += PHASE + sums / (CACHE * MULTIPROCESSORS) + LATENCY * ceil(parts / 16)
    return total


def _plans(shape: Shape) -> Iterator[Plan]:
    item = ITEMSIZE[shape.dtype]
    most = 8 if item <= 4 else 4
    fewest = THREADS // WAYS
    rows = _sides(shape.m, most, fewest // power(shape.across or shape.n))
    columns = _widths(shape.across, 16) if shape.across else _sides(shape.n, most, fewest // power(shape.m))
    for down in rows:
        for across in columns:
            threads = down.threads * across.threads
            if threads > THREADS or down.each * across.each > 64:
                continue
            tiles = shape.entries * ceil(shape.m / down.size) * ceil(shape.n / across.size)
            for depth in DEPTHS:
                tile = Tile(down, across, depth)
                if tile.ways > WAYS or depth % tile.ways or depth > max(WAYS, power(shape.k)):
                    continue
                block = _Block(shape, tile)
                # sums that have no room meet a run of each thread's rows at a time
                rounds = 1 if block.results <= SHARED or down.each % (16 // item) else down.each // (16 // item)
                if max(block.shared, block.results / rounds) > SHARED or block.loaded > LOADED:
                    continue
                for parts in _parts(shape, tiles, depth):
                    yield Plan(tile, parts, _clocks(shape, block, tiles, parts))


def _tensor_plans(shape: Shape) -> Iterator[Plan]:
    """Tiles for tensor cores, of no more than twice the lines there are."""
    for warps, down, across, width in product((1, 2, 4, 8), (1, 2, 3, 4), (1, 2, 4, 8), range(1, 9)):
        rows, columns = Side(warps, ROWS * down), Side(across, COLUMNS * width)
        if warps * across > WARPS or down * width > 16:
            continue
        if rows.size > max(2 * shape.m, ROWS) or columns.size > max(2 * shape.n, COLUMNS):
            continue
        if shape.across and columns.size != shape.across:
            continue
        if max(_lanes(rows.size, shape.left), _lanes(columns.size, shape.right)) > THREADS:
            continue
        tiles = shape.entries * ceil(shape.m / rows.size) * ceil(shape.n / columns.size)
        for depth in DEPTHS:
            tile = TensorTile(rows, columns, depth)
            if depth % (tile.ways * TERMS) or depth > max(tile.ways * TERMS, power(shape.k)):
                continue
            block = _Block(shape, tile)
            if block.shared > SHARED or block.loaded > LOADED or block.results > SHARED * tile.down:
                continue
            for parts in _parts(shape, tiles, depth):
                yield Plan(tile, parts, _clocks(shape, block, tiles, parts))


@lru_cache(maxsize=1024)
def choose(shape: Shape) -> Plan:
    """The cheapest plan."""
    plans = chain(_plans(shape), _tensor_plans(shape)) if shape.tensor and shape.dtype == "float32" else _plans(shape)
    return min(plans, key=lambda plan: plan.clocks)
