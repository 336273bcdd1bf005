"""``graphnet bench``: graphnet beside its peers where their programs are at hand, else graphnet alone."""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import graphnet
from graphnet.atomic import write_atomically
from graphnet.backend import choose
from graphnet.cli import options
from graphnet.cli.info import cores, processor
from graphnet.cli.info import versions as version_lines
from graphnet.cli.lookup import find_model, model_names
from graphnet.compiler.errors import FileError, GraphnetError
from graphnet.train import Run

EPILOG = """\
Beside its peers: each library runs in a process of its own on the same cores and threads, takes the same first
steps from the same parameters (their losses are compared), then all are timed in turn, round after round. Data are
synthetic. The cases are the reference models in their recipes' shapes, linreg softmax mlp lenet charlm, and
mlp-large lenet-b10 lenet-b1000 charlm-h512 charlm-l2 empty. The peers' programs are in the folder benchmarks of a
checkout; `make bench` there installs the libraries first. Those that are not installed are named above the tables;
one that fails or takes too long is a row that says so. --backend c,numpy measures graphnet on both.

--device cuda measures on a GPU: PyTorch (eager, compiled, in CUDA graphs) and JAX. Steps are fed in three ways, each a
table of its own: device (inputs on the GPU, losses left there), host (NumPy arrays in, losses left there), read (NumPy
arrays in, each loss read).

Alone: a step of the model on one batch of its embedded data set, in the recipe's shapes. Times are wall-clock
milliseconds over the repeats, after one step that is not counted; compile is the time from the model function to a
net that is ready to step."""

COMPARING = (
    *("peers", "peers_dir", "python", "mode", "feed", "kernels", "threads", "rounds", "seconds", "limit", "quick"),
    "markdown",
)
ALONE = ("repeats", "batch_size")


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
        help="measure graphnet's training steps, beside those of other libraries",
        description="Measure training steps of the reference models: graphnet beside other libraries, or alone.",
        epilog=EPILOG,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help=f"cases, see below; alone: of {', '.join(model_names())} (all)")
    options.add_device(parser)
    add("--json", metavar="FILE", help="write the results as JSON")
    _add_comparison(parser.add_argument_group("beside its peers"))
    add = parser.add_argument_group("graphnet alone (--peers none, or either of these)").add_argument
    add("--repeats", type=options.count, metavar="N", help="timed steps of each model (20)")
    add("--batch-size", type=options.count, metavar="N", help="samples in a step (the recipe's)")


def _add_comparison(group: Any) -> None:
    add = group.add_argument
    add(
        "--peers",
        metavar="LIST",
        help="auto: all, where their programs are found (default); none; or names with commas",
    )
    add("--peers-dir", metavar="DIR", help="folder of the peers' programs (benchmarks of the checkout in use)")
    add("--python", metavar="FILE", help="Python that has the peers (.bench-venv of the checkout, else this one)")
    add("--mode", metavar="LIST", help="of train, infer (also at batch 1) and compile (cold and warm) (train)")
    add("--feed", metavar="LIST", help="of device, host and read: how steps are fed (all on cuda, else read)")
    add("--kernels", action="store_true", default=None, help="also graphnet's slowest kernels, beside the peaks")
    add("--threads", type=options.count, metavar="N", help="cores to use, a thread on each (all usable ones)")
    add("--rounds", type=options.count, metavar="N", help="rounds in which all take turns (7)")
    add("--seconds", type=options.rate, metavar="S", help="length of one entry's turn (0.5)")
    add("--limit", metavar="LIST", help="seconds an entry may take to compile: 120, or 60,torch-compile=600 (120)")
    add("--quick", action="store_true", default=None, help="two short rounds, to see whether all works")
    add("--markdown", metavar="FILE", help="write the results as Markdown")


def run(args: argparse.Namespace) -> int:
    """Measure and print tables; returns the exit code."""
    alone = [name for name in ALONE if getattr(args, name) is not None]
    comparing = [
        name for name in COMPARING if getattr(args, name) is not None and (name, args.peers) != ("peers", "none")
    ]
    folder = None
    if alone and comparing:
        raise GraphnetError(f"{_option(alone[0])} measures graphnet alone: leave out {_option(comparing[0])}")
    if not alone and args.peers != "none":
        folder = peers_folder(args.peers_dir)
    for name in backends_of(args.backend):
        # an unknown one, or a GPU that is not there, is told before anything is measured
        choose(args.device, name, precision=args.precision)
    if folder is not None:
        return int(_comparison(folder).run(args))
    if comparing:
        why = "--peers none" if args.peers == "none" else "the peers' programs are not here: give --peers-dir"
        raise GraphnetError(f"{_option(comparing[0])} measures graphnet beside its peers: {why}")
    return run_alone(args)


def cautions(args: argparse.Namespace) -> list[str]:
    """What must be known to read graphnet's times rightly."""
    found = []
    if "emulated" in backends_of(args.backend):
        found.append("backend emulated runs CUDA text on the CPU, thread by thread: its times say nothing about a GPU")
    if args.precision != "float32":
        found.append(f"graphnet's products may round their operands to {args.precision}, those of others do not")
    return found


def backends_of(chosen: str) -> list[str]:
    """The names of a comma-separated list."""
    return [name.strip() for name in chosen.split(",")]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def peers_folder(given: str | None) -> Path | None:
    """The folder with the peers' programs; None if this graphnet is not a checkout's and none was given."""
    folder = Path(given) if given else Path(graphnet.__file__).resolve().parent.parent / "benchmarks"
    if (folder / "compare.py").is_file():
        return folder.resolve()
    if given:
        raise FileError(f"--peers-dir {given}: holds no compare.py: name the folder benchmarks of a checkout")
    return None


def _comparison(folder: Path) -> Any:
    """The program that compares, which is no part of the package."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module("compare")


def run_alone(args: argparse.Namespace) -> int:
    """Measure graphnet alone and print a table."""
    path = options.check_writable("--json", args.json) if args.json else None
    for name in args.models:
        find_model(name)
    backends, notes = backends_of(args.backend), cautions(args)
    for note in notes:
        print(note)
    print(row("model", "batch", "compile ms", "median ms", "min ms", "max ms"))
    results = []
    for name in args.models or model_names():
        for backend in backends:
            m = measure(name, args.repeats or 20, args.batch_size, **{**options.device_of(args), "backend": backend})
            results.append(m)
            batch = "x".join(map(str, m.batch))
            times = (f"{value:.3f}" for value in (m.compile_ms, m.median_ms, m.min_ms, m.max_ms))
            print(row(f"{m.model}/{m.backend}" if len(backends) > 1 else m.model, batch, *times), flush=True)
    if path:
        write_atomically(path, (json.dumps(report(results, notes), indent=1) + "\n").encode())
    return 0


def row(model: str, batch: str, *times: str) -> str:
    """A line of the table."""
    return f"{model:8}  {batch:>12}" + "".join(f"  {value:>10}" for value in times)


def measure(name: str, repeats: int, batch_size: int | None, **device: str) -> Measured:
    """Compile a model for its embedded data and time its steps; ``device`` are keywords of ``Run``."""
    model, data = find_model(name).with_data(None, None)
    start = time.perf_counter()
    run = Run(model.function, model.recipe, data, batch_size=batch_size, **device)
    compiled = time.perf_counter() - start
    x, y = next(iter(run.batches(1)))
    float(run.net.step(x, y))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        float(run.net.step(x, y))  # read: on a GPU a step returns before it is done
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


def report(results: Sequence[Measured], notes: Sequence[str]) -> dict[str, Any]:
    """The results with what they were measured on and how to read them."""
    return {
        "processor": processor(),
        "cores": cores(),
        "versions": list(version_lines())[:2],
        "notes": list(notes),
        "results": [asdict(m) for m in results],
    }
