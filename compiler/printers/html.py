"""A plan as one self-contained page: summary, graph, memory and schedule, readable without a network."""

from __future__ import annotations

import re
from html import escape

from graphnet.compiler.printers import memory, schedule
from graphnet.compiler.printers.html_graph import graph
from graphnet.compiler.printers.html_style import CSS
from graphnet.compiler.printers.html_timeline import timeline
from graphnet.compiler.printers.numbering import operations
from graphnet.compiler.printers.text import clean, count
from graphnet.compiler.schedule import Plan, flat

_LINE_END = "\n"
# what is coloured in the escaped lines of a listing: buffers, and the place at the end of a step's first line
_BUFFER = re.compile(r"\[[^\]]*\]")
_PLACE = re.compile(r"  at .*$")


def html(plan: Plan, title: str, summary: str = "") -> str:
    """The page of ``plan``; ``summary`` is the text of the layer summary, left out if empty."""
    sections = {
        "summary": f"<pre>{escape(_LINE_END.join(map(clean, summary.splitlines())))}</pre>" if summary else "",
        "graph": graph(plan),
        "memory": _memory(plan),
        "schedule": _schedule(plan),
    }
    shown = [name for name, body in sections.items() if body]
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in shown)
    heading = escape(clean(title))
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{heading}</title>",
        f"<style>{CSS}</style></head><body>",
        f'<header><h1>{heading}</h1><div class="dim">{escape(clean(plan.graph.name))}</div>',
        _facts(plan),
        f"<nav>{links}</nav></header>",
    ]
    for name in shown:
        lines += [f'<section id="{name}"><h2>{name.capitalize()}</h2>', sections[name], "</section>"]
    return "\n".join([*lines, "</body></html>"]) + "\n"


def _facts(plan: Plan) -> str:
    """The numbers a reader looks for first."""
    m = plan.memory
    params = [n for n in plan.graph.leaves() if n.attrs["role"] == "param"]
    ratio = f"{m.arena / m.lower_bound:.3f}" if m.lower_bound else "1.000"
    facts = [
        (count(operations(plan.graph)), "ops"),
        (count(sum(n.out.size for n in params)), "parameters"),
        (count(len(list(flat(plan.steps)))), "steps"),
        (f"{count(m.arena)} B", "arena"),
        (f"{ratio} x", "the lower bound"),
        (f"{count(sum(m.homes.values()))} B", "fixed homes"),
    ]
    items = "".join(f"<li><b>{escape(value)}</b><span>{escape(what)}</span></li>" for value, what in facts)
    return f'<ul class="facts">{items}</ul>'


def _schedule(plan: Plan) -> str:
    """The schedule listing, a foldable block for each run of steps of one phase."""
    _, *lines = schedule.listing(plan).splitlines()
    runs: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith(" "):
            runs[-1][1].append(_coloured(line))
        else:
            runs.append((line.rstrip(":"), []))
    return "\n".join(
        f"<details open><summary>{escape(phase)}</summary><pre>{_LINE_END.join(block)}</pre></details>"
        for phase, block in runs
    )


def _coloured(line: str) -> str:
    text = _PLACE.sub(lambda found: f'<span class="place">{found[0]}</span>', escape(line))
    return _BUFFER.sub(lambda found: f'<span class="buffer">{found[0]}</span>', text)


def _memory(plan: Plan) -> str:
    table = escape(memory.table(plan))
    folded = f"<details><summary>Every temporary, totals and owners</summary><pre>{table}</pre></details>"
    return f"{timeline(plan)}\n{folded}"
