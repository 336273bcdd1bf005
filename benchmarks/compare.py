"""The comparison behind ``graphnet bench`` (and ``make bench``, which installs the peers): one run, all peers.

cases.py, registry.py     what is computed, and by whom       (peers/)
processes.py              each in a process of its own, asked over pipes
measuring.py              the same first steps, then rounds in turn
floors.py                 what the machine can do at most
tables.py                 terminal, Markdown, JSON
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import floors
import tables
from measuring import Result, Settings, compile_times, measure
from peers.cases import CASES, Case
from peers.registry import PEERS, Entry, graphnet
from processes import cleared, usable_cores

from graphnet.atomic import write_atomically
from graphnet.backend import choose
from graphnet.cli import options
from graphnet.cli.info import processor
from graphnet.compiler.errors import FileError, GraphnetError, NameError_
from graphnet.data.suggest import suggest

FOLDER = Path(__file__).resolve().parent
VENV = FOLDER.parent / ".bench-venv" / "bin" / "python"
MODES = ("train", "infer", "compile")


def run(args: argparse.Namespace) -> int:
    """Measure what the options ask for, printing as it goes; 1 if graphnet failed or its losses differ."""
    paths = {
        name: options.check_writable(f"--{name}", value) if (value := getattr(args, name)) else None
        for name in ("json", "markdown")
    }
    chosen = [find("model", name, CASES) for name in args.models] or list(CASES.values())
    modes = modes_of(args.mode or "train")
    backends = [name.strip() for name in args.backend.split(",")]
    for name in backends:
        choose(args.device, name)  # an unknown one is told before anything is measured
    entries = [*(graphnet(name, args.device) for name in backends), *peers_of(args.peers or "auto")]
    settings = settings_of(args, entries)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stopped)
    machine = floors.measure(settings.cores)
    about = describe(settings, machine)
    print("\n".join(about["lines"]), end="\n\n", flush=True)
    results: list[Result] = []
    for mode in modes:
        for case in variants(chosen, mode):
            result = (compile_times if mode == "compile" else measure)(case, entries, settings, tell)
            tell("")
            add_floor(result, machine)
            results.append(result)
            print(tables.text(result), flush=True)
            write(paths, results, about)
    return int(any(row.ours and (row.failed or not row.agrees) for result in results for row in result.rows))


def stopped(number: int, frame: object) -> None:
    """Ended from outside: the processes and the folders made here end too."""
    raise SystemExit(128 + number)


def write(paths: Mapping[str, Path | None], results: Sequence[Result], about: dict[str, Any]) -> None:
    """Write the files after each case, so that an interrupted run leaves what it has."""
    if path := paths["json"]:
        write_atomically(path, (json.dumps(tables.report(results, about), indent=1) + "\n").encode())
    if path := paths["markdown"]:
        write_atomically(path, tables.markdown(results, about).encode())


def find(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """What is called ``name``; raises NameError with what there is."""
    if name not in known:
        raise NameError_(suggest(kind, name, known))
    return known[name]


def peers_of(chosen: str) -> list[Entry]:
    """The peers of a comma-separated list; auto and all: every one, the missing ones saying so in their row."""
    if chosen in ("auto", "all"):
        return list(PEERS)
    known = {entry.name: entry for entry in PEERS}
    return [find("peer", name.strip(), known) for name in chosen.split(",")]


def modes_of(chosen: str) -> list[str]:
    """The modes of a comma-separated list."""
    return [find("mode", name.strip(), dict.fromkeys(MODES, name.strip())) for name in chosen.split(",")]


def variants(chosen: Sequence[Case], mode: str) -> list[Case]:
    """The cases as a mode takes them: inference is measured at the training batch and at batch 1."""
    if mode != "infer":
        return list(chosen)
    return [case.inference(batch) for case in chosen for batch in dict.fromkeys((case.batch, min(case.batch, 1)))]


def settings_of(args: argparse.Namespace, entries: Sequence[Entry]) -> Settings:
    """The settings that the options ask for; raises GraphnetError in one line."""
    cores = usable_cores()
    threads = args.threads or len(cores)
    if threads > len(cores):
        raise GraphnetError(f"--threads {threads}: this process may use {len(cores)} cores")
    python = args.python or (str(VENV) if VENV.exists() else sys.executable)
    if not os.access(python, os.X_OK):
        raise FileError(f"--python {python}: there is no such program: name the Python that has the peers")
    return Settings(
        cores[:threads],
        sys.executable,
        os.path.abspath(python),
        args.rounds or (2 if args.quick else 7),
        args.seconds or (0.05 if args.quick else 0.5),
        limits_of(args.limit or "120", entries),
    )


def limits_of(text: str, entries: Sequence[Entry]) -> dict[str, float]:
    """``120`` or ``60,torch-compile=600``: seconds by entry, under "" those of all others."""
    limits, known = {"": 120.0}, {entry.name: entry for entry in (*PEERS, *entries)}
    for part in text.split(","):
        name, separator, value = part.rpartition("=")
        if separator:
            find("peer", name.strip(), known)
        try:
            limits[name.strip()] = options.rate(value)
        except argparse.ArgumentTypeError as error:
            raise GraphnetError(f"--limit {text}: {error}") from None
    return limits


def add_floor(result: Result, machine: floors.Machine | str) -> None:
    """The floor by the costs that graphnet's row tells."""
    facts: dict[str, Any] = next((row.facts for row in result.rows if "flops" in row.facts), {})
    if facts and not isinstance(machine, str) and result.mode != "compile":
        result.floor = machine.floor(facts["flops"], facts["least_bytes"])


def describe(settings: Settings, machine: floors.Machine | str) -> dict[str, Any]:
    """What everything was measured on and how, for people and as data."""
    command = shlex.join(["graphnet", *sys.argv[1:]])
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    unset = cleared(os.environ)
    threads, pinned = len(settings.cores), ", ".join(map(str, settings.cores))
    lines = [
        f"{processor()}, {threads} of {len(usable_cores())} cores ({pinned}), {date}",
        f"{platform.platform()}, Python {platform.python_version()}",
        f"{settings.rounds} rounds of {settings.seconds:g} s in turn, {threads} threads each",
        f"peers run in {settings.peers_python}",
    ]
    limits: dict[str, Any] | None = None
    if isinstance(machine, str):
        lines.append(machine)
    else:
        limits = {"flops": machine.flops, "bandwidth": machine.bandwidth, "compiler": machine.compiler}
        rates = ", ".join(f"{v / 1e9:.0f} GB/s over {size(n)}" for n, v in machine.bandwidth.items())
        lines.append(f"multiply-adds {machine.flops / 1e9:.0f} GFLOP/s; triad {rates}")
    if unset:
        lines.append(f"not passed on to the processes: {', '.join(unset)}")
    return {
        "command": command,
        "date": date,
        "processor": processor(),
        "platform": platform.platform(),
        "cores": list(settings.cores),
        "threads": threads,
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "cleared": unset,
        "machine": limits,
        "lines": lines,
    }


def size(nbytes: int) -> str:
    """Bytes in a readable unit."""
    return f"{nbytes >> 20} MB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KB"


def tell(text: str) -> None:
    """What is being done, on a line of the terminal that the next one overwrites."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
