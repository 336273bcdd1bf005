"""The memory plan: an offset in one arena for every temporary, from its lifetime, before anything runs.

    position   0    1    2    3
    a          ####                      offset 0
    b               #########            offset 64
    c                    ####            offset 0     (a is dead)

Largest first, each at the lowest offset free during its lifetime; a second try places by time of birth, and
the smaller arena wins. The largest sum of bytes alive at one position is the bound no plan can beat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from graphnet.compiler.schedule import END, MemoryReport, Storage

ALIGN = 64


def aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN


def _place(storages: Sequence[Storage], key: Callable[[Storage], tuple[int, ...]]) -> tuple[int, dict[int, int]]:
    """Arena size and offsets when storages are placed in the order of ``key``."""
    offsets: dict[int, int] = {}
    placed: list[tuple[int, int, tuple[int, int]]] = []
    arena = 0
    for s in sorted(storages, key=key):
        busy = sorted(span for first, last, span in placed if s.first <= last and first <= s.last)
        at = 0
        for start, end in busy:
            if start - at >= aligned(s.nbytes):
                break
            at = max(at, end)
        offsets[s.id] = at
        placed.append((s.first, s.last, (at, at + aligned(s.nbytes))))
        arena = max(arena, at + aligned(s.nbytes))
    return arena, offsets


def live_bytes(storages: Iterable[Storage]) -> tuple[int, int]:
    """The largest sum of aligned bytes alive at once, and the position where that is."""
    changes: dict[int, int] = {}
    for s in storages:
        changes[s.first] = changes.get(s.first, 0) + aligned(s.nbytes)
        end = END if s.last >= END else s.last + 1
        changes[end] = changes.get(end, 0) - aligned(s.nbytes)
    now = peak = where = 0
    for position in sorted(changes):
        now += changes[position]
        if now > peak:
            peak, where = now, position
    return peak, where


def plan_memory(storages: Sequence[Storage], reuse: bool = True, blocks: int = 1) -> MemoryReport:
    """Give every temporary its offset; with ``reuse`` off each gets memory of its own (for tests)."""
    temps = [s for s in storages if s.kind == "temp" and s.last >= 0]
    bound, peak = live_bytes(temps)
    total = sum(aligned(s.nbytes) for s in temps)
    if reuse:
        keys: tuple[Callable[[Storage], tuple[int, ...]], ...] = (
            lambda s: (-s.nbytes, s.first, s.id),
            lambda s: (s.first, -s.nbytes, s.id),
            lambda s: (s.first - min(s.last, 1 << 30), -s.nbytes, s.id),
        )
        arena, offsets = _place(temps, keys[0])
        for key in keys[1:]:
            if arena > bound:
                arena, offsets = min((arena, offsets), _place(temps, key), key=lambda found: found[0])
    else:
        arena, offsets = 0, {}
        for s in temps:
            offsets[s.id] = arena
            arena += aligned(s.nbytes)
    for s in temps:
        s.offset = offsets[s.id]
    homes: dict[str, int] = {}
    for s in storages:
        if s.kind != "temp":
            homes[s.kind] = homes.get(s.kind, 0) + s.nbytes * (blocks if s.kind == "input" else 1)
    return MemoryReport(arena, bound, total, homes, peak, blocks)
