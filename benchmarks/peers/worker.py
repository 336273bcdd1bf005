"""One peer in a process of its own: python -m peers.worker MODULE:CLASS [--cores 0,1]

Reads a request a line from standard input, answers a line each on standard output, both JSON. Between requests it
blocks in a read, so that whoever measures in the meantime has the cores for itself.

    {"do": "load", "file": .., "case": .., "threads": .., "options": ..}   import, build, first step
    {"do": "check", "steps": n}               losses of the first n steps (inference: sizes of the outputs)
    {"do": "warm", "seconds": s}              run for a while, say how long a step takes
    {"do": "round", "seconds": s, "least": n} one measured round: median, least and largest time of a step
    {"do": "end"}                             peak memory; the process ends

A failure is answered with {"error": ..} and ends the process.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import math
import os
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from peers import cases

GROUP = 1e-3  # seconds: shorter steps are timed in groups of this length, which hides the clock's own cost
Reply = dict[str, Any]


class Worker:
    """The state of a worker: a peer with its batches."""

    def __init__(self, target: str) -> None:
        self.target = target

    def load(self, request: Mapping[str, Any]) -> Reply:
        """Import the library, build the model and take its first step, which is where many compile."""
        start = time.perf_counter()
        module, _, name = self.target.partition(":")
        kind = getattr(importlib.import_module(module), name)
        imported = time.perf_counter()
        case = cases.Case.restore(request["case"])
        params, x, y = cases.read(Path(request["file"]))
        if y.dtype == np.int32:
            y = y.astype(kind.ids)
        if x.dtype == np.int32:
            x = x.astype(kind.ids)
        before = peak_memory()
        build = time.perf_counter()
        peer = kind(case, params, request["threads"], **request.get("options", {}))
        self.infers = case.mode == "infer"
        self.call: Callable[..., Any] = peer.infer if self.infers else peer.step
        self.pool = [(a,) for a in x] if self.infers else list(zip(x, y, strict=True))
        if case.model == "empty":
            self.pool = [tuple(np.asarray(a) for a in batch) for batch in self.pool]
        self.first = self.call(*self.pool[0])
        done = time.perf_counter()
        return {
            "import_s": imported - start,
            "compile_s": done - build,
            "before_bytes": before,
            "versions": kind.versions(),
            "facts": peer.facts(),
        }

    def check(self, request: Mapping[str, Any]) -> Reply:
        """Losses of the first steps, that of ``load`` among them; for inference a number for each batch."""
        steps = range(1, len(self.pool) if self.infers else request["steps"])
        found = [self.first, *(self.call(*self.pool[k % len(self.pool)]) for k in steps)]
        values = [size(value) if self.infers else float(value) for value in found]
        return {"values": values}

    def warm(self, request: Mapping[str, Any]) -> Reply:
        """Run untimed, at least twice, then tell the time of a step."""
        times, start = [], time.perf_counter()
        while len(times) < 2 or time.perf_counter() - start < request["seconds"]:
            before = time.perf_counter()
            self.call(*self.pool[len(times) % len(self.pool)])
            times.append(time.perf_counter() - before)
        self.step_s = statistics.median(times)
        return {"step_s": self.step_s}

    def round(self, request: Mapping[str, Any]) -> Reply:
        """Steps for so many seconds, in at least ``least`` groups, after a lead-in that is not counted."""
        group = max(1, math.ceil(GROUP / max(self.step_s, 1e-9)))
        self.last = self.run(group)
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < request["least"] or time.perf_counter() - start < request["seconds"]:
            before = time.perf_counter()
            self.last = self.run(group)
            times.append((time.perf_counter() - before) / group)
        if not np.isfinite(np.asarray(self.last)).all():
            raise FloatingPointError(f"after the round the {'output' if self.infers else 'loss'} is not finite")
        median = statistics.median(times)
        return {"median_s": median, "min_s": min(times), "max_s": max(times), "steps": group * len(times)}

    def run(self, count: int) -> Any:
        """``count`` steps on the batches in turn; returns what the last one gave."""
        call, value = self.call, None
        for batch in itertools.islice(itertools.cycle(self.pool), count):
            value = call(*batch)
        return value

    def end(self, request: Mapping[str, Any]) -> Reply:
        """The largest memory the process ever held."""
        return {"peak_bytes": peak_memory()}


def size(output: Any) -> float:
    """A number that differs if the output does: the mean of its squares, later elements weighing more."""
    flat = np.asarray(output, np.float64).reshape(-1)
    return float(np.mean(flat**2 * np.linspace(1, 2, flat.size)))


def peak_memory() -> int:
    """The largest resident size so far, in bytes.

    Linux keeps it for each program; getrusage would tell that of the process this one was forked from, if larger.
    """
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def pin(cores: str) -> None:
    """Stay on these cores, where the system can do that; threads started later inherit it."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


def channel() -> TextIO:
    """Standard output for answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def main(argv: list[str]) -> int:
    """Serve requests until the end or a failure."""
    target, *rest = argv
    pin(rest[1] if rest[:1] == ["--cores"] else "")
    answers = channel()
    worker = Worker(target)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(worker, request["do"])(request)
        except Exception as error:  # noqa: BLE001  # whatever a library does, it is told to whoever measures
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)
        if "error" in reply or request["do"] == "end":
            return int("error" in reply)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
