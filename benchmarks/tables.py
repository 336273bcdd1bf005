"""Results as text for the terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from measuring import TOLERANCE, Result, Row
from peers.cases import FEEDS

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
ON_A_GPU = """\
On a GPU times are microseconds, by how a step is fed: its inputs are on the device or come as NumPy arrays in each
step, and its loss is read in each step or left there. Steps whose loss is left are timed in runs between two moments
at which the GPU has nothing left to do. *GPU MB* is how much of its memory the process took up to the end of the first
steps, context and libraries included. The losses compared are also those of the last of four steps of each feed. All
compute in float32, without TF32, unless a line above says otherwise of graphnet.
"""
SHOWN = 12  # kernels in a table


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
    found = (row.median_ms, row.min_ms, row.max_ms)
    times = [number(value if value is None else value * scale_of(result)) for value in found]
    grown = None if row.memory_mb is None else row.memory_mb - (row.before_mb or 0.0)
    other = row.gpu_mb if result.device == "cuda" else grown
    memory = ["-" if value is None else f"{value:.0f}" for value in (row.memory_mb, other)]
    noted = "".join(f"; {text}" for text in row.notes)
    return [row.name, *times, ratio, number(row.compile_s), *memory, same + noted]


def scale_of(result: Result) -> float:
    """Times are shown in microseconds on a GPU and of the empty model."""
    return 1e3 if result.device == "cuda" or result.case.model == "empty" else 1.0


def heads_of(result: Result) -> tuple[str, ...]:
    """The columns' heads."""
    heads = HEADS[result.mode]
    if scale_of(result) != 1:
        heads = tuple(head.replace(" ms", " us") for head in heads)
    return tuple(head.replace("grown", "GPU") for head in heads) if result.device == "cuda" else heads


def title(result: Result) -> str:
    """The case, how it is fed unless that is as ever, and its floor in a line."""
    text = f"{result.case.name}: {result.case.text}"
    if result.mode != "compile" and (result.device == "cuda" or result.feed != "read"):
        text = f"{text}; {FEEDS[result.feed]}"
    floor = result.floor
    if floor is None:
        return text
    unit, times = ("us", 1e3) if result.device == "cuda" else ("ms", 1.0)
    least, compute, memory = (number(floor[f"{what}_ms"] * times) for what in ("floor", "compute", "memory"))
    taken = f"{floor['flops'] / 1e6:.4g} MFLOP take {compute}, {floor['bytes'] / 1e6:.3g} MB take {memory}"
    launch = f", a launch takes {number(floor['launch_ms'] * times)}" if "launch_ms" in floor else ""
    return f"{text}; floor {least} {unit} ({taken}{launch})"


def remarks(result: Result) -> Iterator[str]:
    """What graphnet tells of its memory: the arena as planned and as it was allocated."""
    for row in result.rows:
        if row.ours and "arena_allocated_bytes" in row.facts:
            planned, allocated = (f"{row.facts[f'arena_{what}bytes']:,} B" for what in ("", "allocated_"))
            yield f"{row.name}: arena {planned} as planned, {allocated} as allocated"


KERNELS = ("", "phase", "shape", "us", "share", "GFLOP/s", "of peak", "GB/s", "of peak", "")


def kernel_lines(result: Result, limits: Any = None) -> Iterator[tuple[str, list[list[str]]]]:
    """For each row that told its parts a title and the slowest of them, cell by cell.

    Rates are those of the work that ops' records count; ``limits`` is a ``floors.Machine``, or None.
    """
    for row in result.rows:
        if not row.kernels:
            continue
        total = sum(kernel["seconds"] for kernel in row.kernels)
        slowest = sorted(row.kernels, key=lambda kernel: -kernel["seconds"])[:SHOWN]
        title = f"{row.name}: the slowest {len(slowest)} of {len(row.kernels)} steps, {number(total * 1e6)} us in all"
        yield title, [kernel_cells(kernel, total, limits) for kernel in slowest]


def kernel_cells(kernel: dict[str, Any], total: float, limits: Any) -> list[str]:
    """A part's time and rates; its place in the program last."""
    seconds = kernel["seconds"]
    rates = []
    for what, peak in (("flops", "flops"), ("bytes", "bandwidth")):
        rate = kernel[what] / seconds if seconds else 0.0
        most = None if limits is None else limits.flops if peak == "flops" else limits.bandwidth_for(kernel[what])
        rates += [f"{rate / 1e9:.4g}", "-" if not most else f"{rate / most:.0%}"]
    shape = "x".join(map(str, kernel["shape"])) or "scalar"
    share = f"{seconds / total:.0%}" if total else "-"
    return [kernel["op"], kernel["phase"], shape, number(seconds * 1e6), share, *rates, kernel["where"]]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose columns stand one below the other; short lines hold a name and a reason."""
    full = [line for line in table if len(line) == len(table[0])]
    widths = [max(len(line[column]) for line in full) for column in range(len(table[0]))]
    widths[0] = max(len(line[0]) for line in table)
    lines = []
    for line in table:
        first = line[0].ljust(widths[0])
        if len(line) != len(table[0]):
            lines.append(f"  {first}  {line[1]}")
            continue
        rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join([first, *rest]).rstrip())
    return lines


def text(result: Result, limits: Any = None) -> str:
    """The tables of one case for the terminal."""
    lines = [title(result), *aligned([list(heads_of(result)), *(cells(result, row) for row in result.rows)])]
    lines += [f"  {remark}" for remark in remarks(result)]
    for name, kernels in kernel_lines(result, limits):
        lines += ["", name, *aligned([list(KERNELS), *kernels])]
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
        found = [brief(rows.get(name), result) for name in names]
        best = result.best
        limit = number(result.floor["floor_ms"] * (1e3 if result.device == "cuda" else 1)) if result.floor else "-"
        what = result.case.name if result.mode == "train" else f"{result.case.name}, inference of {result.case.batch}"
        what += f", {result.feed}" if result.device == "cuda" else ""
        lines.append(f"| {what} | {' | '.join(found)} | {best.name if best else '-'} | {limit} |")
    return [*lines, ""]


def brief(row: Row | None, result: Result) -> str:
    """A row in one cell, in microseconds on a GPU; graphnet's tells its part of the best peer's time too."""
    if row is None or row.failed or row.median_ms is None:
        return "-"
    if not row.agrees:
        return "differs"
    ratio = f" ({row.ratio:.2f} x)" if row.ours and row.ratio is not None else ""
    return number(row.median_ms * (1e3 if result.device == "cuda" else 1)) + ratio


def markdown(results: Sequence[Result], about: dict[str, Any], limits: Any = None) -> str:
    """The whole report."""
    lines = ["# graphnet beside its peers", "", f"`{about['command']}`", ""]
    lines += [f"- {line}" for line in about["lines"]]
    found = {name: version for result in results for row in result.rows for name, version in row.versions.items()}
    lines += [f"- {', '.join(f'{name} {version}' for name, version in found.items())}", "", EXPLAINED]
    lines += [ON_A_GPU] if any(result.device == "cuda" for result in results) else []
    lines += overview(results)
    for result in results:
        lines += [f"## {title(result)}", "", *ruled(heads_of(result), [cells(result, row) for row in result.rows])]
        lines += [f"{remark}\n" for remark in remarks(result)]
        for name, kernels in kernel_lines(result, limits):
            lines += [f"### {name}", "", *ruled(KERNELS, kernels)]
    return "\n".join(lines)


def ruled(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, an empty line behind it; short rows are filled up."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        found = [*row, *[""] * (len(heads) - len(row))]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in found) + " |")
    return [*lines, ""]


def report(results: Sequence[Result], about: dict[str, Any]) -> dict[str, Any]:
    """Everything as JSON can hold it."""
    return {**about, "results": [result.record() for result in results]}
