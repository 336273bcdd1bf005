"""``graphnet bench``."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graphnet.atomic import write_atomically
from graphnet.cli import options
from graphnet.cli.info import cores, processor
from graphnet.cli.info import versions as version_lines
from graphnet.cli.lookup import find_model, model_names
from graphnet.train import Run

EPILOG = """\
A step is forward, backward and update on one batch of the model's embedded data set, in the recipe's shapes.
Times are wall-clock milliseconds over the repeats, after one step that is not counted; compile is the time
from the model function to a net that is ready to step. graphnet is measured alone: other frameworks are not run
for comparison."""


@dataclass(frozen=True)
class Measured:
    """Times of one model, in milliseconds."""

    model: str
    recipe: str
    batch: tuple[int, ...]
    backend: str
    compile_ms: float
    median_ms: float
    min_ms: float
    max_ms: float
    repeats: int
    samples_per_second: float


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "bench",
        help="measure the time of a training step of the reference models",
        description="Measure compile time and the time of a training step of the reference models.",
        epilog=EPILOG,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help=f"of {', '.join(model_names())} (all)")
    add("--repeats", type=options.count, default=20, metavar="N", help="timed steps of each model (20)")
    add("--batch-size", type=options.count, metavar="N", help="samples in a step (the recipe's)")
    options.add_device(parser)
    add("--json", metavar="FILE", help="write the results as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print a table; returns the exit code."""
    path = options.check_writable("--json", args.json) if args.json else None
    for name in args.models:
        find_model(name)
    print(row("model", "batch", "compile ms", "median ms", "min ms", "max ms"))
    results = []
    for name in args.models or model_names():
        m = measure(name, args.repeats, args.batch_size, args.device, args.backend)
        results.append(m)
        batch = "x".join(map(str, m.batch))
        times = (f"{value:.3f}" for value in (m.compile_ms, m.median_ms, m.min_ms, m.max_ms))
        print(row(m.model, batch, *times), flush=True)
    if path:
        write_atomically(path, (json.dumps(report(results), indent=1) + "\n").encode())
    return 0


def row(model: str, batch: str, *times: str) -> str:
    """A line of the table."""
    return f"{model:8}  {batch:>12}" + "".join(f"  {value:>10}" for value in times)


def measure(name: str, repeats: int, batch_size: int | None, device: str, backend: str) -> Measured:
    """Compile a model for its embedded data and time its steps."""
    model, data = find_model(name).with_data(None, None)
    start = time.perf_counter()
    run = Run(model.function, model.recipe, data, batch_size=batch_size, device=device, backend=backend)
    compiled = time.perf_counter() - start
    x, y = next(iter(run.batches(1)))
    run.net.step(x, y)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run.net.step(x, y)
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    samples = x.size if model.recipe["task"] == "text" else len(x)
    return Measured(
        name,
        model.recipe_name,
        x.shape,
        run.net.backend.name,
        compiled * 1e3,
        median * 1e3,
        min(times) * 1e3,
        max(times) * 1e3,
        repeats,
        samples / median,
    )


def report(results: Sequence[Measured]) -> dict[str, Any]:
    """The results with what they were measured on."""
    return {
        "processor": processor(),
        "cores": cores(),
        "versions": list(version_lines())[:2],
        "results": [asdict(m) for m in results],
    }
