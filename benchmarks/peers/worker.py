"""One peer in a process of its own: python -m peers.worker MODULE:CLASS [--cores 0,1]

Reads a request a line from standard input, answers a line each on standard output, both JSON. Between requests it
blocks in a read, so that whoever measures in the meantime has the cores for itself.

    {"do": "load", "file": .., "case": .., "threads": .., "options": ..}   import, build, first step
    {"do": "check", "steps": n, "feeds": ..}  losses of the first n steps and of some by each feed (inference: sizes)
    {"do": "warm", "seconds": s, "feed": f}   run for a while, say how long a step takes
    {"do": "round", "seconds": s, "least": n, "feed": f, "lead": l}
                                              one measured round: median, least and largest time of a step
    {"do": "kernels"}                         seconds, FLOPs and bytes of each part of a step, if the library tells
    {"do": "end"}                             peak memory, notes; the process ends

A feed is one of cases.FEEDS. Steps whose results are read are timed one by one (short ones in groups); others in
runs from one moment at which the device has nothing left to do to the next, so that all that was started counts.
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
RUN, RUN_SECONDS = 10, 2e-2  # steps that are not waited for are timed in runs, which hides the wait at their end
Reply = dict[str, Any]
Way = tuple[Callable[..., Any], list[tuple[Any, ...]]]


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
        self.peer, self.infers = peer, case.mode == "infer"
        self.call: Callable[..., Any] = peer.infer if self.infers else peer.step
        self.pool = [(a,) for a in x] if self.infers else list(zip(x, y, strict=True))
        if case.model == "empty":
            self.pool = [tuple(np.asarray(a) for a in batch) for batch in self.pool]
        self.first = self.call(*self.pool[0])
        done = time.perf_counter()
        self.ways: dict[str, Way] = {"read": (self.call, self.pool), "host": (peer.start, self.pool)}
        return {
            "import_s": imported - start,
            "compile_s": done - build,
            "before_bytes": before,
            "versions": kind.versions(),
            "facts": peer.facts(),
        }

    def way(self, feed: str) -> Way:
        """What a feed calls, and with which batches."""
        if feed not in self.ways:
            self.ways[feed] = self.peer.start, [tuple(self.peer.put(a) for a in batch) for batch in self.pool]
        return self.ways[feed]

    def check(self, request: Mapping[str, Any]) -> Reply:
        """Losses of the first steps, that of ``load`` among them; for inference a number for each batch.

        One more for each feed whose results are not read: that of the last of some steps in a row.
        """
        steps = range(1, len(self.pool) if self.infers else request["steps"])
        found = [self.first, *(self.call(*self.pool[k % len(self.pool)]) for k in steps)]
        found += [self.peer.fetch(self.run(feed, len(self.pool))) for feed in request["feeds"] if feed != "read"]
        values = [size(value) if self.infers else float(value) for value in found]
        return {"values": values}

    def warm(self, request: Mapping[str, Any]) -> Reply:
        """Run untimed, at least twice, then tell the time of a step."""
        feed, times, start = request["feed"], [], time.perf_counter()
        count = 1 if feed == "read" else RUN
        while len(times) < 2 or time.perf_counter() - start < request["seconds"]:
            times.append(self.timed(feed, count, len(times)))
        self.step_s = statistics.median(times)
        return {"step_s": self.step_s}

    def round(self, request: Mapping[str, Any]) -> Reply:
        """Steps for so many seconds, in at least ``least`` groups, after a lead-in that is not counted."""
        feed, step = request["feed"], max(self.step_s, 1e-9)
        group = max(1, math.ceil(GROUP / step)) if feed == "read" else max(RUN, math.ceil(RUN_SECONDS / step))
        start = time.perf_counter()
        self.timed(feed, group)
        while time.perf_counter() - start < request["lead"]:
            self.timed(feed, group)
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < request["least"] or time.perf_counter() - start < request["seconds"]:
            times.append(self.timed(feed, group))
        last = self.last if feed == "read" else self.peer.fetch(self.last)
        if not np.isfinite(np.asarray(last)).all():
            raise FloatingPointError(f"after the round the {'output' if self.infers else 'loss'} is not finite")
        median = statistics.median(times)
        return {"median_s": median, "min_s": min(times), "max_s": max(times), "steps": group * len(times)}

    def timed(self, feed: str, count: int, first: int = 0) -> float:
        """Seconds of one of ``count`` steps in a row, all done at their end."""
        start = time.perf_counter()
        self.last = self.run(feed, count, first)
        if feed != "read":
            self.peer.wait()
        return (time.perf_counter() - start) / count

    def run(self, feed: str, count: int, first: int = 0) -> Any:
        """``count`` steps on the batches in turn, from number ``first``; returns what the last one gave."""
        (call, pool), value = self.way(feed), None
        first %= len(pool)
        for batch in itertools.islice(itertools.cycle(pool), first, first + count):
            value = call(*batch)
        return value

    def kernels(self, request: Mapping[str, Any]) -> Reply:
        """What the library tells of the parts of a step."""
        return {"kernels": self.peer.kernels(*self.pool[0])}

    def end(self, request: Mapping[str, Any]) -> Reply:
        """The largest memory the process ever held, and what is to be known of its times."""
        return {"peak_bytes": peak_memory(), "notes": self.peer.notes()}


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
