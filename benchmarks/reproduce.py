"""Train the reference models on the real data and write what they reach as a table, docs/reproduction.md.

    python benchmarks/reproduce.py                    all rows; real data from --data-dir or GRAPHNET_DATA
    python benchmarks/reproduce.py --only lenet       the rows of one model, beside those measured before
    python benchmarks/reproduce.py --resume           go on with an interrupted run

Results are kept in WORK/results.json after each row, and the net after each epoch, so that nothing is lost when a
run is interrupted. The exit code is 1 if anything misses its mark.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import graphnet as gn
from graphnet.atomic import write_atomically
from graphnet.cli.generate import generate
from graphnet.cli.info import cores, numpy_blas, processor, versions
from graphnet.cli.outputs import epoch_line
from graphnet.train import Run

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = 400


@dataclass(frozen=True)
class Mark:
    """A value that must be reached after ``epoch``: at least, at most, or within 1e-4."""

    metric: str
    epoch: int
    sign: str
    value: float
    elsewhere: str = ""

    def holds(self, reached: float) -> bool:
        if self.sign == "±":
            return abs(reached - self.value) <= 1e-4
        return reached >= self.value if self.sign == "≥" else reached <= self.value

    @property
    def required(self) -> str:
        return f"{self.value} ± 0.0001" if self.sign == "±" else f"{self.sign} {self.value}"


@dataclass(frozen=True)
class Row:
    """A run: a model's recipe, the number of epochs, and its marks."""

    model: str
    recipe: str
    epochs: int
    marks: tuple[Mark, ...]
    note: str

    @property
    def key(self) -> str:
        return f"{self.model}-{self.recipe}"


def accuracies(epoch: int, test: float, train: float, elsewhere: str) -> tuple[Mark, Mark]:
    return (
        Mark("test_accuracy", epoch, "≥", test, elsewhere),
        Mark("train_accuracy", epoch, "≥", train),
    )


def losses(*values: tuple[int, float], elsewhere: Sequence[str] = ()) -> tuple[Mark, ...]:
    said = [*elsewhere, *[""] * len(values)]
    return tuple(
        Mark("train_loss", epoch, "≤", value, text) for (epoch, value), text in zip(values, said, strict=False)
    )


LINREG = ((0, 592.14692), (10, 29.685812), (20, 22.946777), (10_000, 21.894831))
ROWS = (
    Row(
        "linreg",
        "knet8",
        10_000,
        tuple(Mark("train_loss", epoch, "±", value) for epoch, value in LINREG),
        "housing, all 506 rows in one batch, zero weights, lr 0.1; an epoch is a step",
    ),
    Row(
        "softmax",
        "knet8",
        10,
        accuracies(10, 0.912, 0.917, "tutorial 0.9153; PyTorch 0.9153, 0.9157"),
        "MNIST 784-10, batches of 100 in file order, lr 0.5",
    ),
    Row(
        "mlp",
        "knet8",
        10,
        accuracies(10, 0.967, 0.984, "tutorial 0.9735; PyTorch 0.9697, 0.9726"),
        "MNIST 784-64-10, batches of 100 in file order, lr 0.5",
    ),
    Row(
        "mlp",
        "shuffled",
        10,
        (Mark("test_accuracy", 10, "≥", 0.972),),
        "the same, in a new order each epoch",
    ),
    Row(
        "lenet",
        "knet8",
        10,
        (
            Mark("test_accuracy", 1, "≥", 0.965, "tutorial 0.971"),
            *accuracies(10, 0.987, 0.994, "tutorial 0.9879; PyTorch 0.9891"),
        ),
        "MNIST, batches of 100 in file order, lr 0.1",
    ),
    Row(
        "charlm",
        "knet7",
        2,
        losses((1, 2.45), (2, 1.60), elsewhere=("slides 2.2448; PyTorch 2.4205", "slides 1.5556; PyTorch 1.5575")),
        "Shakespeare, SGD lr 1.0 on the loss summed over 100 steps, gradient norm at most 5",
    ),
    Row(
        "charlm",
        "adam",
        2,
        losses((1, 1.80), (2, 1.40), elsewhere=("PyTorch 1.7566", "PyTorch 1.3725")),
        "Shakespeare, Adam lr 0.002 on the mean loss, gradient norm at most 5",
    ),
)


class Results:
    """What was measured, by row; every change is written out at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def put(self, key: str, value: Mapping[str, Any] | None) -> None:
        if value is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = dict(value)
        write_atomically(self.path, (json.dumps(self.rows, indent=1) + "\n").encode())


def train(row: Row, work: Path, data_dir: str | None, seed: int, resume: bool) -> dict[str, Any]:
    """Train by a row's recipe; returns the values of its marks and what is worth keeping of the run."""
    module = importlib.import_module(f"graphnet.models.{row.model}")
    recipe = module.RECIPES[row.recipe]
    data = gn.data.load(recipe["data"], data_dir)
    checkpoint = work / f"{row.key}.gnet"
    start, spent = time.perf_counter(), 0.0
    if resume and checkpoint.exists():
        net = gn.load(checkpoint)
        run = Run.resume(net, recipe, data)
        spent = net.metadata["reproduce"]["seconds"]
    else:
        run = Run(getattr(module, row.model), recipe, data, seed=seed)
    values = {"0": {"train_loss": run.loss_before()}} if run.epoch == 0 else {}
    known = {str(report.epoch): report.record() for report in run.history}
    keep_each, unit = row.epochs <= 100, "characters" if isinstance(data, gn.data.Text) else "samples"
    for report in run.train(row.epochs):
        known[str(report.epoch)] = report.record()
        if keep_each:
            print(f"{row.key}: {epoch_line(report, row.epochs, unit, 4)}", flush=True)
            run.save(checkpoint, reproduce={"seconds": spent + time.perf_counter() - start})
    known |= values
    result = {
        "marks": [known[str(mark.epoch)][mark.metric] for mark in row.marks],
        "seconds": spent + time.perf_counter() - start,
        "seed": run.seed,
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {cores()} cores",
        "versions": [*list(versions())[:2], numpy_blas()],
        "backend": run.net.backend.name,
        "history": [report.record() for report in run.history] if keep_each else [],
    }
    if isinstance(data, gn.data.Text):
        written = generate(run.net, len(data.vocabulary), [], SAMPLE, 0.7, seed)
        result["sample"] = "".join(data.vocabulary[index] for index in written)
    checkpoint.unlink(missing_ok=True)
    return result


NAMES = {"test_accuracy": "test accuracy", "train_accuracy": "training accuracy", "train_loss": "loss"}


def passed(row: Row, result: Mapping[str, Any]) -> list[bool]:
    return [mark.holds(value) for mark, value in zip(row.marks, result["marks"], strict=True)]


def table(results: Mapping[str, Any]) -> list[str]:
    """The Markdown table, a line a mark."""
    lines = [
        "| model | recipe | measured | required | reached | elsewhere | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        if row.key not in results:
            continue
        result = results[row.key]
        for mark, value, good in zip(row.marks, result["marks"], passed(row, result), strict=True):
            unit = "step" if row.model == "linreg" else "epoch"
            when = f"before the first {unit}" if mark.epoch == 0 else f"after {mark.epoch:,} {unit}s"
            when = when.replace(f" 1 {unit}s", f" 1 {unit}")
            digits = 6 if mark.sign == "±" else 4
            lines.append(
                f"| {row.model} | {row.recipe} | {NAMES[mark.metric]} {when} | {mark.required} "
                f"| {value:.{digits}f} | {mark.elsewhere} | {'pass' if good else '**miss**'} |"
            )
    return lines


def page(results: Mapping[str, Any]) -> str:
    """docs/reproduction.md."""
    lines = [
        "# Reproduction",
        "",
        "What the five reference models reach on the real data, written by `make reproduce`. The requirements come",
        "from Deniz Yuret's Knet8 tutorial and Knet7 slides (2016), the files in `models/` say which; the column",
        "*elsewhere* has what those report, and what independent PyTorch programs by the same recipes reached.",
        "",
        *table(results),
        "",
        "Losses of charlm are means per character over the epoch. Accuracies are measured after the epoch.",
        "",
        "## Runs",
        "",
        "| run | recipe | seconds | seed | backend | date | machine |",
        "|---|---|---|---|---|---|---|",
    ]
    shown = [(row, results[row.key]) for row in ROWS if row.key in results]
    for row, r in shown:
        cells = (row.key, row.note, f"{r['seconds']:.0f}", r["seed"], r["backend"], r["date"], r["machine"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "Seconds are wall-clock time with compiling and measuring.", "", "Versions:", ""]
    lines += [f"- {line}" for line in dict.fromkeys(line for _, r in shown for line in r["versions"])]
    for row, r in shown:
        if r["history"]:
            lines += ["", f"## {row.key}, epoch by epoch", "", *history(r["history"])]
        if "sample" in r:
            text = "\n".join(line.rstrip() for line in r["sample"].replace("```", "'''").strip("\r\n").splitlines())
            lines += ["", f"After {row.epochs} epochs it writes (temperature 0.7):", "", "```", text, "```"]
    return "\n".join(lines) + "\n"


def history(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of what each epoch showed."""
    names = [n for n in ("train_loss", "train_accuracy", "test_accuracy", "perplexity") if n in records[0]]
    heads = ["epoch", *(n.replace("train_loss", "loss").replace("_", " ") for n in names), "seconds"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for record in records:
        cells = [str(record["epoch"]), *(f"{record[n]:.4f}" for n in names), f"{record['seconds']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows asked for; returns 1 if a mark is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", metavar="MODEL", choices=sorted({row.model for row in ROWS}), help="this model"
    )
    parser.add_argument("--out", default=str(ROOT / "docs" / "reproduction.md"), metavar="FILE", help="the page")
    parser.add_argument("--work", default=str(ROOT / "build" / "reproduce"), metavar="DIR", help="for results")
    parser.add_argument("--data-dir", metavar="DIR", help="folder with the real data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="keep rows that are done, go on in the others")
    args = parser.parse_args(argv)
    work, out = Path(args.work), Path(args.out)
    work.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    results = Results(work / "results.json")
    rows = [row for row in ROWS if not args.only or row.model in args.only]
    if not args.resume:
        for row in rows:
            results.put(row.key, None)
    try:
        for row in rows:
            if row.key not in results.rows:
                results.put(row.key, train(row, work, args.data_dir, args.seed, args.resume))
                write_atomically(out, page(results.rows).encode())
    except gn.GraphnetError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("reproduce: interrupted: go on with --resume", file=sys.stderr)
        return 130
    write_atomically(out, page(results.rows).encode())
    print("\n".join(table({row.key: results.rows[row.key] for row in rows})))
    good = all(all(passed(row, results.rows[row.key])) for row in rows)
    print(f"{'all marks reached' if good else 'marks were missed'}; written to {out}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
