"""The memory plan as an SVG drawing: schedule positions across, arena offsets down, a rectangle a storage."""

from __future__ import annotations

from html import escape

from graphnet.compiler.memory import aligned
from graphnet.compiler.printers.memory import last_position, owner, temporaries
from graphnet.compiler.printers.text import Places, clean, count
from graphnet.compiler.schedule import END, Plan, Step, Storage, flat

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 1120, 380, 84, 26, 12, 34
_CHARACTER = 6.2


class _Scale:
    """From positions and bytes to the drawing's units."""

    def __init__(self, plan: Plan) -> None:
        self.end = last_position(plan) + 1
        self.arena = max(plan.memory.arena, 1)

    def x(self, position: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * position / self.end

    def y(self, offset: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * offset / self.arena


def timeline(plan: Plan) -> str:
    """An ``<svg>`` element, or a sentence where there is nothing to draw."""
    temps = temporaries(plan)
    if not temps:
        return '<p class="dim">This plan needs no temporary memory.</p>'
    scale = _Scale(plan)
    places = Places(s.where for s in plan.storages)
    ordered = dict.fromkeys(s.where.scope for s in sorted(temps, key=lambda s: (s.first, s.id)))
    color = {scope: index for index, scope in enumerate(ordered)}
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="memory plan over the schedule">']
    parts += _phases(plan, scale)
    parts += [_block(s, color[s.where.scope], scale, places) for s in temps]
    parts += _axes(plan, scale)
    return "\n".join([*parts, "</svg>"])


def _block(s: Storage, color: int, scale: _Scale, places: Places) -> str:
    last = min(s.last, scale.end - 1)
    left, top = scale.x(s.first), scale.y(s.offset)
    width, height = scale.x(last + 1) - left, scale.y(s.offset + aligned(s.nbytes)) - top
    until = "the end" if s.last >= END else str(s.last)
    title = f"{clean(s.name)}: {count(s.nbytes)} B at {s.offset:#x}, alive {s.first} to {until}, {owner(s, places)}"
    # the golden angle keeps the hues of neighbours apart
    fill = f"hsl({round(210 + color * 137.508) % 360} 52% var(--light))"
    block = (
        f'<g><title>{escape(title)}</title><rect class="block" x="{left:.2f}" y="{top:.2f}" '
        f'width="{max(width, 0.5):.2f}" height="{max(height, 0.5):.2f}" style="fill:{fill}"/>'
    )
    fitting = int((width - 6) / _CHARACTER)
    label = clean(s.name)
    if height >= 12 and fitting >= 3:
        shown = label if len(label) <= fitting else f"{label[: fitting - 1]}…"
        block += f'<text class="label" x="{left + 3:.2f}" y="{top + height / 2 + 4:.2f}">{escape(shown)}</text>'
    return f"{block}</g>"


def _phases(plan: Plan, scale: _Scale) -> list[str]:
    """A line where each run of steps of one phase begins, with its name where there is room."""
    runs: list[tuple[str, Step]] = []
    for step in plan.steps:
        if not runs or runs[-1][0] != step.phase:
            runs.append((step.phase, step))
    ends = [step.position for _, step in runs[1:]] + [scale.end]
    parts = []
    for (phase, step), end in zip(runs, ends, strict=True):
        x = scale.x(step.position)
        parts.append(f'<line class="grid" x1="{x:.2f}" x2="{x:.2f}" y1="{_TOP - 6}" y2="{_HEIGHT - _BOTTOM}"/>')
        if scale.x(end) - x >= _CHARACTER * (len(phase) + 1):
            parts.append(f'<text x="{x + 3:.2f}" y="{_TOP - 9}">{escape(phase)}</text>')
    return parts


def _axes(plan: Plan, scale: _Scale) -> list[str]:
    parts = []
    for quarter in range(5):
        offset = plan.memory.arena * quarter // 4
        y = scale.y(offset)
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.2f}" text-anchor="end">{_size(offset)}</text>')
    steps = len(list(flat(plan.steps)))
    ticks = sorted({(scale.end - 1) * i // 8 for i in range(9)})
    bottom = _HEIGHT - _BOTTOM
    for tick in ticks:
        x = scale.x(tick + 0.5)
        parts.append(f'<text x="{x:.2f}" y="{bottom + 14}" text-anchor="middle">{tick}</text>')
    parts.append(
        f'<text x="{_LEFT}" y="{_HEIGHT - 4}">position of {count(steps)} steps; one colour a model function</text>'
    )
    peak = scale.x(plan.memory.peak_position + 0.5)
    parts.append(f'<line class="peak" x1="{peak:.2f}" x2="{peak:.2f}" y1="{_TOP}" y2="{bottom}"/>')
    note = f"largest live set, {count(plan.memory.lower_bound)} B at position {plan.memory.peak_position}"
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{note} (dashed)</text>')
    return parts


def _size(nbytes: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= size:
            return f"{nbytes / size:.2f} {unit}"
    return f"{nbytes} B"
