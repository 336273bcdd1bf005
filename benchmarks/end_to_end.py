"""Wall time from the shell and back: ``graphnet train mlp --data mnist`` beside the same script in PyTorch and JAX.

    python benchmarks/end_to_end.py --python .bench-venv/bin/python

Each program starts, imports its library, reads the real data, trains, and measures both accuracies after every epoch,
printing them. The programs run in turn, round after round, on the same cores; the first round starts with empty
caches and is reported apart. The data come from --data-dir or GRAPHNET_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from compare import VENV
from floors import stay
from processes import environment, first_line, usable_cores

from graphnet.atomic import write_atomically
from graphnet.cli import options
from graphnet.compiler.errors import GraphnetError

FOLDER = Path(__file__).resolve().parent
ACCURACY = re.compile(r"test accuracy (\d\.\d+)")


@dataclass
class Program:
    """A program and what its runs took, in seconds; ``failed`` is the last line it said instead."""

    name: str
    command: list[str]
    seconds: list[float] = field(default_factory=list)
    accuracy: float | None = None
    failed: str = ""

    @property
    def later(self) -> list[float]:
        """The runs with warm caches; the only one where there is no other."""
        return self.seconds[1:] or self.seconds


def programs(args: argparse.Namespace, mnist: Path) -> list[Program]:
    """graphnet on each backend, then the peers' scripts."""
    train = [sys.executable, "-m", "graphnet.cli", "train", "mlp", "--data", "mnist", "--data-dir", str(mnist.parent)]
    peers = [args.python, "-m"]
    given = [str(mnist), str(args.epochs)]
    ours = [
        Program(
            "graphnet" if name == "auto" else f"graphnet-{name}",
            [*train, "--epochs", str(args.epochs), "--backend", name],
        )
        for name in args.backend.split(",")
    ]
    return [
        *ours,
        Program("torch", [*peers, "peers.mnist_torch", *given]),
        Program("jax", [*peers, "peers.mnist_jax", *given]),
    ]


def run_once(program: Program, cores: Sequence[int], cache: Path, limit: float) -> None:
    """Run the program once and note its time; a failure is noted too, and ends its part."""
    cache.mkdir(exist_ok=True)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            program.command,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
            cwd=FOLDER,
            env=environment(len(cores), cache),
            preexec_fn=lambda: stay(cores),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        program.failed = first_line(str(error))
        return
    seconds = time.perf_counter() - start
    found = ACCURACY.findall(done.stdout)
    if done.returncode or not found:
        program.failed = first_line((done.stderr.strip().splitlines() or ["no accuracy was printed"])[-1])
        return
    program.seconds.append(seconds)
    program.accuracy = float(found[-1])


def table(found: Sequence[Program]) -> str:
    """The results in Markdown, which reads well on a terminal too."""
    peers = [median(p.later) for p in found if p.seconds and not p.failed and not p.name.startswith("graphnet")]
    lines = [
        "| program | median s | min | max | of best peer | first run s | test accuracy |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for p in found:
        if p.failed or not p.seconds:
            lines.append(f"| {p.name} | {p.failed or 'not run'} | | | | | |")
            continue
        middle = median(p.later)
        ratio = f"{middle / min(peers):.2f}" if peers else "-"
        times = f"{middle:.2f} | {min(p.later):.2f} | {max(p.later):.2f} | {ratio} | {p.seconds[0]:.2f}"
        lines.append(f"| {p.name} | {times} | {p.accuracy:.4f} |")
    return "\n".join(lines) + "\n"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--python", default=str(VENV) if VENV.exists() else sys.executable, help="Python that has the peers")
    add("--data-dir", default=os.environ.get("GRAPHNET_DATA"), help="folder that holds mnist/ (GRAPHNET_DATA)")
    add("--backend", default="auto", help="graphnet's backends, with commas (auto)")
    add("--epochs", type=options.count, default=3, help="epochs of the training (3)")
    add("--rounds", type=options.count, default=5, help="rounds in which the programs take turns (5)")
    add("--threads", type=options.count, help="cores to use (all usable ones)")
    add("--limit", type=options.rate, default=600.0, help="seconds that one run may take (600)")
    add("--json", help="write the results as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all programs in turn and print the table."""
    args = parse(argv)
    mnist = Path(args.data_dir or "", "mnist").absolute()
    if not args.data_dir or not mnist.is_dir():
        print("end_to_end: give --data-dir or set GRAPHNET_DATA: a folder that holds mnist/", file=sys.stderr)
        return 2
    try:
        path = options.check_writable("--json", args.json) if args.json else None
    except GraphnetError as error:
        print(f"end_to_end: {error}", file=sys.stderr)
        return 2
    args.python = os.path.abspath(args.python)
    cores = usable_cores()[: args.threads]
    found = programs(args, mnist)
    with tempfile.TemporaryDirectory(prefix="graphnet-end-to-end-", ignore_cleanup_errors=True) as folder:
        for _ in range(args.rounds):
            for program in found:
                if not program.failed:
                    run_once(program, cores, Path(folder, program.name), args.limit)
    print(table(found))
    if path:
        report: dict[str, Any] = {"cores": cores, "epochs": args.epochs, "programs": [asdict(p) for p in found]}
        write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())
    return int(any(p.failed for p in found if p.name.startswith("graphnet")))


if __name__ == "__main__":
    sys.exit(main())
