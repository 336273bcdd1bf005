"""The comparison behind ``graphnet bench`` (and ``make bench``, which installs the peers): one run, all peers.

cases.py, registry.py     what is computed, and by whom       (peers/)
processes.py              each in a process of its own, asked over pipes
measuring.py              the same first steps, then rounds in turn
floors.py, cuda_peaks.py  what the machine can do at most, and its GPU
gpu.py                    the GPU's name, and how much of its memory is in use
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
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cuda_peaks
import floors
import gpu
import tables
from measuring import Result, Settings, compile_times, measure
from peers.cases import CASES, FEEDS, Case
from peers.registry import Entry, graphnet, peers
from processes import cleared, usable_cores

from graphnet.atomic import write_atomically
from graphnet.cli import options
from graphnet.cli.bench import backends_of, cautions
from graphnet.cli.info import processor
from graphnet.compiler.errors import BackendError, FileError, GraphnetError, NameError_
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
    modes = listed("mode", args.mode or "train", MODES)
    ours = [graphnet(name, args.device, args.precision) for name in backends_of(args.backend)]
    entries = [*ours, *peers_of(args.peers or "auto", args.device)]
    settings = settings_of(args, entries)
    absent = missing(entries, settings.peers_python)
    entries = [entry for entry in entries if entry.needs not in absent or entry.own]
    card = card_of(args.device, args.backend)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stopped)
    machine = floors.measure(settings.cores) if card is None else cuda_peaks.measure()
    limits = None if isinstance(machine, str) else machine
    about = describe(settings, machine, card, [*absence(absent, settings.peers_python), *cautions(args)])
    about["missing"] = absent
    print("\n".join(about["lines"]), end="\n\n", flush=True)
    results: list[Result] = []
    for mode in modes:
        for case in variants(chosen, mode):
            found = (compile_times if mode == "compile" else measure)(case, entries, settings, tell)
            tell("")
            for result in found:
                add_floor(result, limits)
                print(tables.text(result, limits), flush=True)
            results += found
            write(paths, results, about, limits)
    return int(any(row.ours and (row.failed or not row.agrees) for result in results for row in result.rows))


def stopped(number: int, frame: object) -> None:
    """Ended from outside: the processes and the folders made here end too."""
    raise SystemExit(128 + number)


def write(
    paths: Mapping[str, Path | None], results: Sequence[Result], about: dict[str, Any], limits: floors.Machine | None
) -> None:
    """Write the files after each case, so that an interrupted run leaves what it has."""
    if path := paths["json"]:
        write_atomically(path, (json.dumps(tables.report(results, about), indent=1) + "\n").encode())
    if path := paths["markdown"]:
        write_atomically(path, tables.markdown(results, about, limits).encode())


def find(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """What is called ``name``; raises NameError with what there is."""
    if name not in known:
        raise NameError_(suggest(kind, name, known))
    return known[name]


def card_of(device: str, backends: str) -> gpu.Gpu | None:
    """The GPU, if the device is one and not only emulated; raises BackendError where none answers."""
    if device != "cuda" or set(backends_of(backends)) == {"emulated"}:
        return None
    try:
        return gpu.describe()
    except gpu.NoGpuError as error:
        raise BackendError(f"--device cuda: {error}") from None


def peers_of(chosen: str, device: str) -> list[Entry]:
    """The peers of a comma-separated list; auto and all: every one, the missing ones saying so in their row."""
    known = {entry.name: entry for entry in peers(device)}
    if chosen in ("auto", "all"):
        return list(known.values())
    return [find("peer", name.strip(), known) for name in chosen.split(",")]


def missing(entries: Sequence[Entry], python: str) -> dict[str, list[str]]:
    """The packages that the peers' Python lacks, each with the entries that need it."""
    needed: dict[str, list[str]] = {}
    for entry in entries:
        if entry.needs and not entry.own:
            needed.setdefault(entry.needs, []).append(entry.name)
    look = "import importlib.util, sys; print(*(n for n in sys.argv[1:] if importlib.util.find_spec(n) is None))"
    done = subprocess.run([python, "-c", look, *needed], capture_output=True, text=True, check=False)
    return {name: needed[name] for name in done.stdout.split()}  # a Python that fails is told in every row


def absence(absent: Mapping[str, list[str]], python: str) -> list[str]:
    """What is not installed and therefore not measured, in one line; none if all is there."""
    packages = [p if names == [p] else f"{p} ({', '.join(names)})" for p, names in absent.items()]
    return [f"not installed in {python}, so not measured: {', '.join(packages)}"] if packages else []


def listed(kind: str, chosen: str, known: Sequence[str]) -> list[str]:
    """The names of a comma-separated list, all of which are known."""
    return [find(kind, name.strip(), dict.fromkeys(known, name.strip())) for name in chosen.split(",")]


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
        args.device,
        listed("feed", args.feed or ("device,host,read" if args.device == "cuda" else "read"), list(FEEDS)),
        bool(args.kernels),
    )


def limits_of(text: str, entries: Sequence[Entry]) -> dict[str, float]:
    """``120`` or ``60,torch-compile=600``: seconds by entry, under "" those of all others."""
    everyone = (*peers("cpu"), *peers("cuda"), *entries)
    limits, known = {"": 120.0}, {entry.name: entry for entry in everyone}
    for part in text.split(","):
        name, separator, value = part.rpartition("=")
        if separator:
            find("peer", name.strip(), known)
        try:
            limits[name.strip()] = options.rate(value)
        except argparse.ArgumentTypeError as error:
            raise GraphnetError(f"--limit {text}: {error}") from None
    return limits


def add_floor(result: Result, limits: floors.Machine | None) -> None:
    """The floor by the costs that graphnet's row tells."""
    facts: dict[str, Any] = next((row.facts for row in result.rows if "flops" in row.facts), {})
    if facts and limits is not None and result.mode != "compile":
        result.floor = limits.floor(facts["flops"], facts["least_bytes"])


def describe(
    settings: Settings, machine: floors.Machine | str, card: gpu.Gpu | None = None, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """What everything was measured on and how, for people and as data; ``notes`` are lines of their own."""
    command = shlex.join(["graphnet", *sys.argv[1:]])
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    unset = cleared(os.environ)
    threads, pinned = len(settings.cores), ", ".join(map(str, settings.cores))
    lines = [card.text] if card else []
    lines += [
        f"{processor()}, {threads} of {len(usable_cores())} cores ({pinned}), {date}",
        f"{platform.platform()}, Python {platform.python_version()}",
        f"{settings.rounds} rounds of {settings.seconds:g} s in turn, {threads} threads each",
        f"peers run in {settings.peers_python}",
    ]
    lines.append(machine if isinstance(machine, str) else machine.text)
    if unset:
        lines.append(f"not passed on to the processes: {', '.join(unset)}")
    lines += notes
    return {
        "command": command,
        "date": date,
        "device": settings.device,
        "gpu": asdict(card) if card else None,
        "processor": processor(),
        "platform": platform.platform(),
        "cores": list(settings.cores),
        "threads": threads,
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "cleared": unset,
        "machine": None if isinstance(machine, str) else asdict(machine),
        "lines": lines,
    }


def tell(text: str) -> None:
    """What is being done, on a line of the terminal that the next one overwrites."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
