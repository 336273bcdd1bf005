"""What the compiler did with a graph: the passes and what they changed, what they declined, the plan in bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graphnet.compiler.ir import Where
from graphnet.compiler.passes.pipeline import Context, PassRun
from graphnet.compiler.printers.text import Places, clean, count, plural
from graphnet.compiler.schedule import Branch, Fused, Loop, Many, Plan, Rows, Step, flat

_REASON = re.compile(r"(?P<name>[^:]+): (?P<file>.*?):(?P<line>\d+): (?P<why>.*)", re.DOTALL)
_SEVERAL = {
    "fused group": "fused groups",
    "row program": "row programs",
    "loop": "loops",
    "branch": "branches",
    "pass over several": "passes over several",
}


def explain(context: Context, plan: Plan, times: bool = False) -> str:
    """Passes with node counts before and after, reasons of passes that declined, steps and memory.

    ``times`` adds the milliseconds each pass took, when it ran; without it the text is the same in every run.
    """
    lines = [f"{clean(plan.graph.name)}: {plural(len(context.trail), 'pass', 'passes')}"]
    lines += [_run(run, times) for run in context.trail]
    if times:
        lines.append(f"  {'total':16} {'':>7}    {'':>7}         {_ms(sum(r.seconds for r in context.trail))}")
        if any(run.kept for run in context.trail):
            lines.append("  kept: ran in an earlier compilation, whose plan was found in the cache")
    for name in sorted(context.disabled):
        lines.append(f"  {clean(name):16} left out")
    lines.append("declined" if context.declined else "declined: nothing")
    lines += [f"  {reason}" for reason in _reasons(context.declined)]
    return "\n".join([*lines, *_plan(plan)]) + "\n"


def _reasons(declined: Sequence[str]) -> list[str]:
    """Lines ``pass: file:line: op: why`` with files by the end of their path."""
    found = [_REASON.fullmatch(line) for line in declined]
    places = Places(Where(m["file"], int(m["line"])) for m in found if m)
    texts = []
    for line, m in zip(declined, found, strict=True):
        place = places(Where(m["file"], int(m["line"]))) if m else ""
        texts.append(clean(f"{m['name']}: {place or '(no user line)'}: {m['why']}" if m else line))
    return texts


def _run(run: PassRun, times: bool) -> str:
    change = run.after - run.before
    changed = f"{change:+7,}" if change else f"{'same':>7}"
    line = f"  {run.name:16} {count(run.before):>7} -> {count(run.after):>7} nodes {changed}"
    return f"{line} {_ms(run.seconds)}{' kept' if run.kept else ''}" if times else line


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:9.2f} ms"


def _plan(plan: Plan) -> list[str]:
    steps = list(flat(plan.steps))
    kinds: dict[str, Sequence[Step]] = {
        "fused group": [s for s in steps if isinstance(s, Fused)],
        "row program": [s for s in steps if isinstance(s, Rows)],
        "loop": [s for s in steps if isinstance(s, Loop)],
        "branch": [s for s in steps if isinstance(s, Branch)],
        "pass over several": [s for s in steps if isinstance(s, Many)],
    }
    held = [plural(len(found), what, _SEVERAL[what]) for what, found in kinds.items() if found]
    inside = sum(len(s.program) for s in steps if isinstance(s, Fused))
    if inside:
        held[0] += f" of {plural(inside, 'op')}"
    m = plan.memory
    share = f", {m.arena / m.lower_bound:.3f} x the lower bound" if m.lower_bound else ""
    saved = m.total_temporaries - m.arena
    of_what = f", with {', '.join(held)}" if held else ""
    return [
        f"schedule: {plural(len(steps), 'step')}{of_what}",
        f"memory: arena {count(m.arena)} B{share}; reuse saves {count(saved)} B; "
        f"homes {count(sum(m.homes.values()))} B",
    ]
