"""The memory plan for people: a table of every temporary, who owns the most, and lifetimes drawn as text."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence

from graphnet.compiler.memory import ALIGN, aligned
from graphnet.compiler.printers.text import Places, clean, count, plural
from graphnet.compiler.schedule import END, Plan, Storage, flat

_OWNERS = 10
_ROWS = 24
_WIDEST = 4
_LETTERS = string.ascii_lowercase[:20]
_KINDS = {
    "input": "inputs and targets",
    "param": "parameters",
    "state": "states",
    "slot": "optimiser slots",
    "hyper": "hyperparameters",
    "rng": "random number keys",
    "constant": "constants",
}


def temporaries(plan: Plan) -> list[Storage]:
    """The storages placed in the arena, by offset, then by birth."""
    placed = [s for s in plan.storages if s.kind == "temp" and s.offset >= 0 and s.last >= 0]
    return sorted(placed, key=lambda s: (s.offset, s.first, s.id))


def last_position(plan: Plan) -> int:
    """The position of the last step, loops and branches opened up."""
    ends = [s.last for s in plan.storages if s.last < END]
    return max([*(s.position for s in flat(plan.steps)), *ends], default=0)


def owner(storage: Storage, places: Places) -> str:
    """``lenet.py:14 lenet/dense_1``: the line that made a storage and the model function around it."""
    words = [places(storage.where), clean(storage.where.scope)]
    return " ".join(word for word in words if word) or "(no user line)"


def table(plan: Plan) -> str:
    """Every temporary with offset, bytes, lifetime and owner; the totals, and the lines alive at the peak."""
    temps = temporaries(plan)
    places = Places(s.where for s in plan.storages)
    width = max([5, *(len(count(s.nbytes)) for s in temps)])
    lines = [f"memory of {clean(plan.graph.name)}"]
    name = max([5, *(len(clean(s.name)) for s in temps)])
    if temps:
        lines.append(f"{'offset':>10}  {'bytes':>{width}}  {'lifetime':>12}  {'value':{name}}  owner")
    for s in temps:
        alive = f"[{s.first}..{'end' if s.last >= END else s.last}]"
        lines.append(f"{s.offset:#10x}  {count(s.nbytes):>{width}}  {alive:>12}  {clean(s.name)}  {owner(s, places)}")
    return "\n".join([*lines, *_totals(plan), *_peak(plan, temps, places)]) + "\n"


def _totals(plan: Plan) -> list[str]:
    m = plan.memory
    ratio = m.arena / m.lower_bound if m.lower_bound else 1.0
    rows = [("arena, as planned", m.arena, f"{ratio:.3f} x the lower bound")]
    rows.append(("lower bound", m.lower_bound, f"largest live set, at position {m.peak_position}"))
    rows.append(("without reuse", m.total_temporaries, "every temporary on its own"))
    for kind in _homes(m.homes):
        turns = f", {m.blocks} blocks in turn" if kind == "input" and m.blocks > 1 else ""
        rows.append((_KINDS.get(kind, kind), m.homes[kind], f"fixed home{turns}"))
    rows.append(("arena and homes", m.arena + sum(m.homes.values()), "all memory of this plan"))
    width = max(len(count(n)) for _, n, _ in rows)
    return ["totals", *(f"  {name:<20} {count(n):>{width}} B  {note}" for name, n, note in rows)]


def _homes(homes: Mapping[str, int]) -> list[str]:
    return [k for k in _KINDS if k in homes] + sorted(k for k in homes if k not in _KINDS)


def _peak(plan: Plan, temps: Sequence[Storage], places: Places) -> list[str]:
    """Bytes alive at the peak by the line that owns them, most first."""
    at = plan.memory.peak_position
    sums: dict[str, int] = {}
    for s in temps:
        if s.first <= at <= s.last:
            sums[owner(s, places)] = sums.get(owner(s, places), 0) + aligned(s.nbytes)
    if not sums:
        return []
    rows = sorted(sums.items(), key=lambda row: (-row[1], row[0]))
    width = len(count(rows[0][1]))
    total = sum(sums.values())
    lines = [f"alive at the peak, position {at}, by owner"]
    lines += [f"  {count(n):>{width}} B  {n / total:6.1%}  {name}" for name, n in rows[:_OWNERS]]
    if len(rows) > _OWNERS:
        lines.append(f"  and {plural(len(rows) - _OWNERS, 'more line')}")
    return lines


def timeline(plan: Plan, width: int = 72) -> str:
    """Lifetimes as a picture of at most ``width`` columns: schedule positions across, arena offsets down.

    Each character shows the storage that fills most of its cell: letters for the largest, # for others.
    """
    temps = temporaries(plan)
    if not temps or not plan.memory.arena:
        return "timeline: no temporaries\n"
    end = last_position(plan) + 1
    columns = [c for c in _cells(end, max(1, width)) for _ in range(max(1, min(_WIDEST, width // end)))]
    rows = [(top * ALIGN, bottom * ALIGN) for top, bottom in _cells(-(-plan.memory.arena // ALIGN), _ROWS)]
    largest = sorted(temps, key=lambda s: (-s.nbytes, s.first, s.id))[: len(_LETTERS)]
    letters = {s.id: letter for s, letter in zip(largest, _LETTERS, strict=False)}
    lines = [f"arena offsets down, positions 0 to {end - 1} across"]
    drawn = [_column(temps, letters, column, rows, end) for column in columns]
    lines += [f"{top:#10x} |{''.join(cells)}|" for (top, _), *cells in zip(rows, *drawn, strict=True)]
    places = Places(s.where for s in temps)
    digits = len(count(largest[0].nbytes))
    for s in largest:
        alive = f"{s.first}..{'end' if s.last >= END else s.last}"
        lines.append(
            f"  {letters[s.id]} {count(s.nbytes):>{digits}} B  {alive:>9}  {clean(s.name)}  {owner(s, places)}"
        )
    if len(temps) > len(largest):
        lines.append(f"  # {plural(len(temps) - len(largest), 'smaller storage')}")
    return "\n".join(lines) + "\n"


def _cells(length: int, most: int) -> list[tuple[int, int]]:
    """At most ``most`` ranges [start, end) that cover ``length``."""
    n = min(length, most)
    return [(i * length // n, (i + 1) * length // n) for i in range(n)]


def _column(
    temps: Iterable[Storage],
    letters: Mapping[int, str],
    column: tuple[int, int],
    rows: Sequence[tuple[int, int]],
    end: int,
) -> list[str]:
    """One character a row: the storage that fills most of the cell."""
    spans = [(s, min(column[1], min(s.last, end) + 1) - max(column[0], s.first)) for s in temps]
    alive = [(s, steps) for s, steps in spans if steps > 0]
    cells = []
    for top, bottom in rows:
        best, symbol = 0, "."
        for s, steps in alive:
            nbytes = min(bottom, s.offset + aligned(s.nbytes)) - max(top, s.offset)
            if nbytes > 0 and steps * nbytes > best:
                best, symbol = steps * nbytes, letters.get(s.id, "#")
        cells.append(symbol)
    return cells
