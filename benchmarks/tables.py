"""Results as text for the terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from measuring import TOLERANCE, Result, Row

HEADS = {
    "train": ("", "median ms", "min", "max", "of best peer", "compile s", "memory MB", "grown MB", "losses"),
    "infer": ("", "median ms", "min", "max", "of best peer", "compile s", "memory MB", "grown MB", "outputs"),
    "compile": ("", "cold s", "warm s", "import s"),
}
EXPLAINED = f"""\
Times are milliseconds of one step as Python sees it (NumPy arrays in, the loss out and read), medians of each
round, then median, least and largest over the rounds. *Of best peer* is the time in units of the fastest peer's.
*Compile* is from the model to the first loss read, caches empty. *Memory* is the largest resident size of the
process, *grown* by how much that exceeds its size when the library had been imported. *Losses* is the largest
relative difference of the losses after 0 to 10 steps from those that most agree on; above {TOLERANCE:g} a row is
marked and not ranked.
"""


def number(value: float | None) -> str:
    """Four significant digits; an exponent only where there would be none but zeros."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:.0f}"
    if value >= 1e-4 or value == 0:
        return f"{value:.4g}"
    return f"{value:.6f}" if value >= 1e-5 else f"{value:.1e}"


def cells(result: Result, row: Row) -> list[str]:
    """The row's columns; a failed one has its reason instead of numbers."""
    if row.failed:
        return [row.name, row.failed]
    if result.mode == "compile":
        return [row.name, number(row.compile_s), number(row.warm_compile_s), number(row.import_s)]
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
    same = "-" if row.difference is None else f"{row.difference:.0e}" if row.agrees else f"DIFFER {row.difference:.1e}"
    scale = 1e3 if result.case.model == "empty" else 1.0
    found = (row.median_ms, row.min_ms, row.max_ms)
    times = [number(value if value is None else value * scale) for value in found]
    grown = None if row.memory_mb is None else row.memory_mb - (row.before_mb or 0.0)
    memory = ["-" if value is None else f"{value:.0f}" for value in (row.memory_mb, grown)]
    noted = "".join(f"; {text}" for text in row.notes)
    return [row.name, *times, ratio, number(row.compile_s), *memory, same + noted]


def heads_of(result: Result) -> tuple[str, ...]:
    """The columns' heads; the empty model's times are in microseconds."""
    heads = HEADS[result.mode]
    return tuple(head.replace(" ms", " us") for head in heads) if result.case.model == "empty" else heads


def title(result: Result) -> str:
    """The case and its floor in a line."""
    text = f"{result.case.name}: {result.case.text}"
    floor = result.floor
    if floor is None:
        return text
    flops = f"{floor['flops'] / 1e6:.4g} MFLOP take {number(floor['compute_ms'])}"
    nbytes = f"{floor['bytes'] / 1e6:.3g} MB take {number(floor['memory_ms'])}"
    return f"{text}; floor {number(floor['floor_ms'])} ms ({flops}, {nbytes})"


def text(result: Result) -> str:
    """The table of one case for the terminal."""
    heads = heads_of(result)
    table = [list(heads), *(cells(result, row) for row in result.rows)]
    full = [line for line in table if len(line) == len(heads)]
    widths = [max(len(line[column]) for line in full) for column in range(len(heads))]
    widths[0] = max(len(line[0]) for line in table)
    lines = [title(result)]
    for line in table:
        first = line[0].ljust(widths[0])
        if len(line) != len(heads):
            lines.append(f"  {first}  {line[1]}")
            continue
        rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join([first, *rest]).rstrip())
    return "\n".join(lines) + "\n"


def overview(results: Sequence[Result]) -> list[str]:
    """Cases by entries: medians, the best peer, the floor."""
    timed = [result for result in results if result.mode != "compile"]
    names = list(dict.fromkeys(row.name for result in timed for row in result.rows))
    if not timed:
        return []
    lines = [
        "| case | " + " | ".join(names) + " | best peer | floor |",
        "|---|" + "---:|" * len(names) + "---|---:|",
    ]
    for result in timed:
        rows = {row.name: row for row in result.rows}
        found = [brief(rows.get(name)) for name in names]
        best = result.best
        limit = number(result.floor["floor_ms"]) if result.floor else "-"
        what = result.case.name if result.mode == "train" else f"{result.case.name}, inference of {result.case.batch}"
        lines.append(f"| {what} | {' | '.join(found)} | {best.name if best else '-'} | {limit} |")
    return [*lines, ""]


def brief(row: Row | None) -> str:
    """A row in one cell; graphnet's tells its part of the best peer's time too."""
    if row is None or row.failed or row.median_ms is None:
        return "-"
    if not row.agrees:
        return "differs"
    ratio = f" ({row.ratio:.2f} x)" if row.ours and row.ratio is not None else ""
    return number(row.median_ms) + ratio


def markdown(results: Sequence[Result], about: dict[str, Any]) -> str:
    """The whole report."""
    lines = ["# graphnet beside its peers", "", f"`{about['command']}`", ""]
    lines += [f"- {line}" for line in about["lines"]]
    found = {name: version for result in results for row in result.rows for name, version in row.versions.items()}
    lines += [f"- {', '.join(f'{name} {version}' for name, version in found.items())}", "", EXPLAINED]
    lines += overview(results)
    for result in results:
        heads = heads_of(result)
        lines += [f"## {title(result)}", "", "| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
        for row in result.rows:
            found = cells(result, row)
            found += [""] * (len(heads) - len(found))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in found) + " |")
        lines.append("")
    return "\n".join(lines)


def report(results: Sequence[Result], about: dict[str, Any]) -> dict[str, Any]:
    """Everything as JSON can hold it."""
    return {**about, "results": [result.record() for result in results]}
