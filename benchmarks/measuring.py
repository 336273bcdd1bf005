"""One case: every entry in its own process, the same first steps from each, then rounds in turn, A B C A B C."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import gpu
from peers import cases
from peers.cases import Case
from peers.registry import Entry
from processes import Process, WorkerError

TOLERANCE = 1e-3  # relative difference of losses that rounding may make within the first steps
CHECKED = 11  # losses compared: those after 0 to 10 updates
LEAST = 3  # groups of steps in a round, however long they take
LEAD = 0.1  # seconds that a GPU, which slows down while nobody uses it, is given to get up to speed
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to measure. ``limits`` has seconds for one answer by entry, and under "" those of all others.

    ``feeds`` are of ``cases.FEEDS``; with ``kernels`` entries tell the times of their parts.
    """

    cores: Sequence[int]
    python: str
    peers_python: str
    rounds: int
    seconds: float
    limits: dict[str, float]
    device: str = "cpu"
    feeds: Sequence[str] = ("read",)
    kernels: bool = False

    def python_of(self, entry: Entry) -> str:
        return self.python if entry.own else self.peers_python

    def limit(self, entry: Entry) -> float:
        return self.limits.get(entry.name, self.limits[""])


@dataclass
class Row:
    """What came of one entry; ``failed`` says why there are no times. Times are in milliseconds, of one step.

    ``memory_mb`` is the largest resident size of the process, ``before_mb`` that when the library was imported,
    ``gpu_mb`` what the process took of a GPU's memory up to the end of the first steps.
    """

    name: str
    what: str
    ours: bool
    failed: str = ""
    notes: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    agrees: bool = True
    difference: float | None = None
    rounds_ms: list[float] = field(default_factory=list)
    steps: int = 0
    median_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    ratio: float | None = None
    import_s: float | None = None
    compile_s: float | None = None
    warm_compile_s: float | None = None
    before_mb: float | None = None
    memory_mb: float | None = None
    gpu_mb: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    kernels: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ranked(self) -> bool:
        """Whether its times may be compared."""
        return not self.failed and self.agrees and self.median_ms is not None


@dataclass
class Result:
    """A case with a row for each entry, and its floor where the machine's limits are known.

    ``feed`` is the way its steps were fed, of ``cases.FEEDS``.
    """

    case: Case
    mode: str
    rows: list[Row]
    floor: dict[str, float] | None = None
    device: str = "cpu"
    feed: str = "read"

    @property
    def best(self) -> Row | None:
        """The fastest of those that graphnet is compared with."""
        rows = [row for row in self.rows if row.ranked and not row.ours]
        return min(rows, key=lambda row: row.median_ms or 0.0, default=None)

    def record(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        best = self.best
        return {
            "case": self.case.name,
            "mode": self.mode,
            "device": self.device,
            "feed": self.feed,
            "batch": self.case.batch,
            "what": self.case.text,
            "config": self.case.config(),
            "best_peer": best.name if best else None,
            "floor": self.floor,
            "rows": [asdict(row) for row in self.rows],
        }


Running = tuple[Row, Process]


def measure(case: Case, entries: Sequence[Entry], settings: Settings, tell: Tell) -> list[Result]:
    """Losses, times, compile times and memory of every entry that has something of its own for the case.

    A result for each feed, in the order of the settings.
    """
    with workshop(case) as (file, cache), contextlib.ExitStack() as stack:
        processes: dict[str, Process] = {}
        rows = []
        for entry in (entry for entry in entries if entry.takes(case)):
            tell(f"{case.name}: {entry.name}: importing and compiling")
            row = Row(entry.name, entry.what, entry.ours)
            rows.append(row)
            with failing(row):
                process = start(entry, settings, cache / entry.name)
                stack.callback(process.close)
                first_steps(process, row, case, file, settings)
                processes[row.name] = process
        compare_values(rows)
        results = [Result(case, case.mode, copies(rows), None, settings.device, feed) for feed in settings.feeds]
        for result in results:
            for row, before in zip(result.rows, rows, strict=True):
                row.failed = before.failed
            running = [(row, processes[row.name]) for row in result.rows if not row.failed]
            take_rounds(result, running, settings, tell)
            for row, before in zip(result.rows, rows, strict=True):
                before.failed = row.failed
        ending(results, [(row, processes[row.name]) for row in rows if not row.failed], settings, tell)
    for result in results:
        finish(result.rows)
    return results


def copies(rows: Sequence[Row]) -> list[Row]:
    """Rows with what is known so far, to be filled with times."""
    return [replace(row, notes=list(row.notes), rounds_ms=[]) for row in rows]


def first_steps(process: Process, row: Row, case: Case, file: Path, settings: Settings) -> None:
    """Load, take the first steps, and see how much of a GPU's memory that takes."""
    before = gpu.used_mb() if settings.device == "cuda" else None
    load(process, row, case, file, settings)
    limit = settings.limit(process.entry)
    row.values = process.ask("check", limit, steps=CHECKED, feeds=settings.feeds)["values"]
    after = gpu.used_mb() if before is not None else None
    row.gpu_mb = after - before if before is not None and after is not None else None


def take_rounds(result: Result, running: Sequence[Running], settings: Settings, tell: Tell) -> None:
    """Warm up, then the rounds in turn; a process that fails is left out of the rest."""
    name = result.case.name if len(settings.feeds) == 1 else f"{result.case.name}, {result.feed}"
    how: dict[str, Any] = {"seconds": settings.seconds, "feed": result.feed}
    for row, process in running:
        tell(f"{name}: {row.name}: warming up")
        with failing(row):
            process.ask("warm", settings.limit(process.entry), **how)
    how |= {"least": LEAST, "lead": LEAD if settings.device == "cuda" else 0.0}
    for number in range(1, settings.rounds + 1):
        for row, process in running:
            if row.failed:
                continue
            tell(f"{name}: round {number} of {settings.rounds}: {row.name}")
            with failing(row):
                if not process.asleep():
                    note(row, "busy before its turn")
                answer = process.ask("round", settings.limit(process.entry), **how)
                row.rounds_ms.append(answer["median_s"] * 1e3)
                row.steps += answer["steps"]
                if not process.asleep():
                    note(row, "keeps using the processor between rounds")


def ending(results: Sequence[Result], running: Sequence[Running], settings: Settings, tell: Tell) -> None:
    """Ask for the memory that was used, by all feeds together, and for the parts of a step, kept in the last one."""
    for row, process in running:
        rows = [other for result in results for other in result.rows if other.name == row.name]
        limit = settings.limit(process.entry)
        try:
            if settings.kernels:
                tell(f"{results[0].case.name}: {row.name}: a profile")
                rows[-1].kernels = process.ask("kernels", limit)["kernels"]
            end = process.ask("end", limit)
        except WorkerError as error:  # what was measured before stands
            note(rows[-1], str(error))
            continue
        for other in rows:
            other.memory_mb = end["peak_bytes"] / 1e6
            for text in end["notes"]:
                note(other, text)


def compile_times(case: Case, entries: Sequence[Entry], settings: Settings, tell: Tell) -> list[Result]:
    """Seconds from the model to the first loss, twice: with empty caches, then with what the first left there."""
    rows = []
    with workshop(case) as (file, cache):
        for entry in (entry for entry in entries if entry.takes(case)):
            row = Row(entry.name, entry.what, entry.ours)
            rows.append(row)
            with failing(row):
                found = []
                for state in ("cold", "warm"):
                    tell(f"{case.name}: {entry.name}: compiling, {state}")
                    with contextlib.closing(start(entry, settings, cache / entry.name)) as process:
                        load(process, row, case, file, settings)
                        found.append(row.compile_s)
                        process.ask("end", settings.limit(entry))
                row.compile_s, row.warm_compile_s = found
    return [Result(case, "compile", rows, device=settings.device)]


@contextlib.contextmanager
def workshop(case: Case) -> Iterator[tuple[Path, Path]]:
    """A folder for the case's arrays, and one for what libraries keep on disk, empty at first."""
    with tempfile.TemporaryDirectory(prefix="graphnet-bench-", ignore_cleanup_errors=True) as folder:
        file, cache = Path(folder, "case.npz"), Path(folder, "cache")
        cases.write(case, file)
        cache.mkdir()
        yield file, cache


def start(entry: Entry, settings: Settings, cache: Path) -> Process:
    """The entry's process, its caches in a folder of its own."""
    cache.mkdir(exist_ok=True)
    return Process(entry, settings.python_of(entry), settings.cores, cache)


def load(process: Process, row: Row, case: Case, file: Path, settings: Settings) -> None:
    """Import, compile, take the first step."""
    entry = process.entry
    answer = process.ask(
        "load",
        settings.limit(entry),
        file=str(file),
        case=case.config(),
        threads=len(settings.cores),
        options=entry.arguments,
    )
    row.import_s, row.compile_s = answer["import_s"], answer["compile_s"]
    row.before_mb = answer["before_bytes"] / 1e6
    row.versions, row.facts = answer["versions"], answer["facts"]


@contextlib.contextmanager
def failing(row: Row) -> Iterator[None]:
    """A worker's failure is the row's reason."""
    try:
        yield
    except WorkerError as error:
        row.failed = str(error)


def note(row: Row, text: str) -> None:
    if text not in row.notes:
        row.notes.append(text)


def compare_values(rows: Sequence[Row]) -> None:
    """Mark the rows whose losses differ from those that most agree on (of several such, the first row's)."""
    having = [row for row in rows if row.values]
    if not having:
        return

    def followers(row: Row) -> int:
        return sum(difference(row.values, other.values) <= TOLERANCE for other in having)

    reference = max(having, key=followers)  # the first of the largest
    for row in having:
        row.difference = difference(reference.values, row.values)
        row.agrees = row.difference <= TOLERANCE


def difference(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest relative difference of two series; infinite if one has another length or NaN."""
    if len(a) != len(b):
        return float("inf")
    largest = 0.0
    for x, y in zip(a, b, strict=True):
        relative = abs(x - y) / max(abs(x), abs(y), 1e-12)
        largest = max(largest, relative if relative == relative else float("inf"))
    return largest


def finish(rows: Sequence[Row]) -> None:
    """Medians and ranges over the rounds, and ratios to the best peer."""
    for row in rows:
        if row.rounds_ms and not row.failed:
            row.median_ms, row.min_ms, row.max_ms = median(row.rounds_ms), min(row.rounds_ms), max(row.rounds_ms)
    best = min((row.median_ms for row in rows if row.ranked and not row.ours and row.median_ms), default=None)
    for row in rows:
        if best and row.ranked and row.median_ms:
            row.ratio = row.median_ms / best
