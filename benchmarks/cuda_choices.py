"""What only a GPU can decide about graphnet's CUDA backend, measured on one.

    python benchmarks/cuda_choices.py                      everything, as tables
    python benchmarks/cuda_choices.py --only loops         one of the sections below; --json writes them too

    products       graphnet's products beside cuBLAS, one by one
    convolutions   graphnet's convolutions beside cuDNN, one by one
    library        steps with large products left to cuBLAS, with epilogues of cublasLt or without, and with none
    loops          steps whose loop over time is one cooperative kernel, or unrolled into launches of a graph
    together       steps that are one cooperative kernel, or a kernel for each stage
    precision      steps in float32, and on tensor cores: one product of TF32, or three of two such parts

Steps are measured as ``graphnet bench`` measures: every choice in a process of its own, the same first losses from
each, inputs on the device, rounds in turn. cuBLAS and cuDNN are called by PyTorch, in strict float32.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cuda_kernels
import cuda_peaks
import gpu
import tables
from measuring import Result, Settings, measure
from peers.cases import CASES
from peers.registry import Entry
from processes import usable_cores

from graphnet.atomic import write_atomically
from graphnet.cli import options
from graphnet.compiler.errors import GraphnetError
from graphnet.device_cupy import no_gpu

UNROLLED = 100_000  # launches: more than any loop here becomes
OPERATIONS = {"products": cuda_kernels.PRODUCTS, "convolutions": cuda_kernels.CONVOLUTIONS}
STEPS: dict[str, tuple[tuple[str, ...], dict[str, dict[str, Any]]]] = {
    "library": (
        ("mlp-large", "lenet-b1000", "charlm"),
        {"cublaslt": {"epilogues": True}, "cublas": {"epilogues": False}, "own": {"library": False}},
    ),
    "loops": (("charlm", "charlm-h512", "charlm-l2"), {"cooperative": {"unroll": 0}, "unrolled": {"unroll": UNROLLED}}),
    "together": (
        ("empty", "linreg", "softmax", "mlp", "lenet"),
        {"by-stage": {"together": False}, "together": {"together": True}},
    ),
    "precision": (
        ("lenet", "lenet-b1000", "charlm", "mlp-large"),
        {name: {"precision": name} for name in ("float32", "tf32x3", "tf32")},
    ),
}
"""Cases, and the choices to compare: names with the keywords of ``peers.with_choices.backend``."""

HEADS = ("", "graphnet us", "library us", "of library", "GFLOP/s", "of peak", "library's", "apart")


def entries(choices: dict[str, dict[str, Any]], **common: Any) -> list[Entry]:
    """A row for each choice; the fastest is what the others are compared with."""
    target = "peers.with_choices:Chosen"
    return [
        Entry(name, target, f"graphnet, {name}", "graphnet", own=True, options={**common, **given}, device="cuda")
        for name, given in choices.items()
    ]


def steps(section: str, settings: Settings, cases: Sequence[str] = (), **common: Any) -> list[Result]:
    """The results of a section of STEPS, printed as they come; ``cases`` are others than its own."""
    own, choices = STEPS[section]
    found = []
    for name in cases or own:
        (result,) = measure(CASES[name], entries(choices, **common), settings, lambda text: None)
        print(tables.text(result).replace("of best peer", "of fastest   "), flush=True)
        found.append(result)
    return found


def cells(timing: cuda_kernels.Timing, peak: float | None) -> list[str]:
    """A row of the table of operations."""
    flops, ours, theirs = timing.operation.flops, timing.ours_us, timing.theirs_us
    rates = [f"{flops / us / 1e3:.0f}" if us else "-" for us in (ours, theirs)]
    share = f"{flops / ours * 1e6 / peak:.0%}" if peak else "-"
    ratio = f"{ours / theirs:.2f}" if theirs else "-"
    apart = "-" if timing.difference is None else f"{timing.difference:.0e}"
    return [timing.operation.name, tables.number(ours), tables.number(theirs), ratio, rates[0], share, rates[1], apart]


def operations(section: str, rounds: int, peak: float | None) -> list[cuda_kernels.Timing]:
    """The timings of a section of OPERATIONS, printed at its end."""
    torch = cuda_kernels.library()
    found = [cuda_kernels.compare(one, torch, rounds, library=False) for one in OPERATIONS[section]]
    rows = [cells(timing, peak) for timing in found]
    print("\n".join([section, *tables.aligned([list(HEADS), *rows])]), flush=True)
    print("  PyTorch with a GPU is not here: no library to compare with\n" if torch is None else "", flush=True)
    return found


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    known = (*OPERATIONS, *STEPS)
    add("--only", metavar="LIST", default=",".join(known), help=f"sections, with commas (of {', '.join(known)})")
    add("--rounds", type=options.count, default=5, help="rounds in which the choices take turns (5)")
    add("--seconds", type=options.rate, default=0.3, help="length of a turn (0.3)")
    add("--limit", type=options.rate, default=120.0, help="seconds that one may take to compile (120)")
    add("--json", metavar="FILE", help="write the results as JSON")
    args = parser.parse_args(argv)
    args.only = [name.strip() for name in args.only.split(",")]
    if unknown := [name for name in args.only if name not in known]:
        parser.error(f"--only: {unknown[0]!r} is none of {', '.join(known)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 2 without a GPU, with a line on stderr."""
    try:
        args = parse(argv)
        path = options.check_writable("--json", args.json) if args.json else None
        if said := no_gpu():
            raise gpu.NoGpuError(said)
        card = gpu.describe()
    except (GraphnetError, gpu.NoGpuError) as error:
        said = options.one_line(error) if isinstance(error, GraphnetError) else str(error)
        print(f"cuda_choices: {said}", file=sys.stderr)
        return 2
    peaks = cuda_peaks.measure()
    print("\n".join([card.text, peaks if isinstance(peaks, str) else cuda_peaks.table(peaks)]), end="\n\n", flush=True)
    peak = None if isinstance(peaks, str) else peaks.flops
    limits = {"": args.limit}
    python, cores = sys.executable, usable_cores()
    settings = Settings(cores, python, python, args.rounds, args.seconds, limits, "cuda", ("device",))
    report: dict[str, Any] = {"gpu": asdict(card), "peaks": peaks if isinstance(peaks, str) else asdict(peaks)}
    for section in args.only:
        if section in OPERATIONS:
            timings = operations(section, args.rounds, peak)
            report[section] = [{"name": t.operation.name, "flops": t.operation.flops, **times(t)} for t in timings]
        else:
            print(section, flush=True)
            report[section] = [result.record() for result in steps(section, settings)]
        if path:
            write_atomically(Path(path), (json.dumps(report, indent=1) + "\n").encode())
    return 0


def times(timing: cuda_kernels.Timing) -> dict[str, float | None]:
    """The numbers of a timing."""
    return {"ours_us": timing.ours_us, "theirs_us": timing.theirs_us, "difference": timing.difference}


if __name__ == "__main__":
    sys.exit(main())
