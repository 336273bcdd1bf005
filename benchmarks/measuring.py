"""One case: every entry in its own process, the same first steps from each, then rounds in turn, A B C A B C."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from peers import cases
from peers.cases import Case
from peers.registry import Entry
from processes import Process, WorkerError

TOLERANCE = 1e-3  # relative difference of losses that rounding may make within the first steps
CHECKED = 11  # losses compared: those after 0 to 10 updates
LEAST = 3  # groups of steps in a round, however long they take
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to measure. ``limits`` has seconds for one answer by entry, and under "" those of all others."""

    cores: Sequence[int]
    python: str
    peers_python: str
    rounds: int
    seconds: float
    limits: dict[str, float]

    def python_of(self, entry: Entry) -> str:
        return self.python if entry.own else self.peers_python

    def limit(self, entry: Entry) -> float:
        return self.limits.get(entry.name, self.limits[""])


@dataclass
class Row:
    """What came of one entry; ``failed`` says why there are no times. Times are in milliseconds, of one step.

    ``memory_mb`` is the largest resident size of the process, ``before_mb`` that when the library was imported.
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
    versions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ranked(self) -> bool:
        """Whether its times may be compared."""
        return not self.failed and self.agrees and self.median_ms is not None


@dataclass
class Result:
    """A case with a row for each entry, and its floor where the machine's limits are known."""

    case: Case
    mode: str
    rows: list[Row]
    floor: dict[str, float] | None = None

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
            "batch": self.case.batch,
            "what": self.case.text,
            "config": self.case.config(),
            "best_peer": best.name if best else None,
            "floor": self.floor,
            "rows": [asdict(row) for row in self.rows],
        }


def measure(case: Case, entries: Sequence[Entry], settings: Settings, tell: Tell) -> Result:
    """Losses, times, compile times and memory of every entry that has something of its own for the case."""
    with workshop(case) as (file, cache), contextlib.ExitStack() as stack:
        running: list[tuple[Row, Process, float]] = []
        rows = []
        for entry in (entry for entry in entries if entry.takes(case)):
            tell(f"{case.name}: {entry.name}: importing and compiling")
            row = Row(entry.name, entry.what, entry.ours)
            rows.append(row)
            with failing(row):
                process = start(entry, settings, cache / entry.name)
                stack.callback(process.close)
                load(process, row, case, file, settings)
                row.values = process.ask("check", settings.limit(entry), steps=CHECKED)["values"]
                running.append((row, process, settings.limit(entry)))
        compare_values(rows)
        take_rounds(case, running, settings, tell)
    finish(rows)
    return Result(case, case.mode, rows)


def take_rounds(case: Case, running: Sequence[tuple[Row, Process, float]], settings: Settings, tell: Tell) -> None:
    """Warm up, then the rounds in turn; a process that fails is left out of the rest."""
    for row, process, limit in running:
        tell(f"{case.name}: {row.name}: warming up")
        with failing(row):
            process.ask("warm", limit, seconds=settings.seconds)
    for number in range(1, settings.rounds + 1):
        for row, process, limit in running:
            if row.failed:
                continue
            tell(f"{case.name}: round {number} of {settings.rounds}: {row.name}")
            with failing(row):
                if not process.asleep():
                    note(row, "busy before its turn")
                answer = process.ask("round", limit, seconds=settings.seconds, least=LEAST)
                row.rounds_ms.append(answer["median_s"] * 1e3)
                row.steps += answer["steps"]
                if not process.asleep():
                    note(row, "keeps using the processor between rounds")
    for row, process, limit in running:
        with failing(row):
            if not row.failed:
                row.memory_mb = process.ask("end", limit)["peak_bytes"] / 1e6


def compile_times(case: Case, entries: Sequence[Entry], settings: Settings, tell: Tell) -> Result:
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
    return Result(case, "compile", rows)


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
        options=dict(entry.options),
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
