"""`graphnet bench --device cuda` where there is no GPU: feeds, tables and workers on stand-ins, and what is said."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from graphnet.cli import main

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
Capture = pytest.CaptureFixture[str]
FEEDS = ("device", "host", "read")

STAND_INS = '''
import numpy as np
from peers.with_numpy import Dense


class There:
    """An array that only the stand-in's device can read."""

    def __init__(self, array):
        self.array = array


class Later(Dense):
    """Steps are done when they are waited for, or when a result is fetched."""

    def __init__(self, case, params, threads, device="cpu", log="", lost=False):
        super().__init__(case, params, threads)
        self.log, self.lost, self.asked, self.device = log, lost, [], device

    def say(self, letter):
        if self.log:
            with open(self.log, "a") as file:
                file.write(letter)

    def put(self, array):
        return There(array)

    def start(self, x, y):
        self.say("D" if isinstance(x, There) else "H")
        result = There(None)
        self.asked.append((x, y, result))
        return result

    def wait(self):
        self.say("|")
        for x, y, result in self.asked[self.lost:]:
            x, y = (a.array if isinstance(a, There) else a for a in (x, y))
            result.array = np.asarray(super().step(x, y))
        self.asked.clear()

    def fetch(self, result):
        self.wait()
        return result.array

    def step(self, x, y):
        self.say("r")
        return super().step(x, y)

    def kernels(self, *batch):
        return [dict(op="matmul", phase="forward", where="m.py:3", shape=[4, 5], seconds=2e-6, flops=8, bytes=100)]

    def notes(self):
        return ["seen to the end"]


class Failing(Later):
    """Cannot be fed from the device."""

    def put(self, array):
        raise MemoryError("the device is full")
'''


@pytest.fixture(scope="module", autouse=True)
def on_the_path() -> Iterator[None]:
    """The folder of the benchmark's modules, as `graphnet bench` puts it there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def harness(name: str) -> Any:
    """A module of the benchmark."""
    return importlib.import_module(name)


@pytest.fixture
def entry(tmp_path: Path) -> Callable[..., Any]:
    """Makes an entry for a class of the stand-ins, on a device named cuda."""
    (tmp_path / "stand_ins.py").write_text(STAND_INS)

    def make(kind: str, name: str = "", ours: bool = False, **options: Any) -> Any:
        path = (str(tmp_path),)
        found = harness("peers.registry").Entry(name or kind.lower(), f"stand_ins:{kind}", "a stand-in", path=path)
        return replace(found, options=options, ours=ours, device="cuda")

    return make


def settings(rounds: int = 1, **given: Any) -> Any:
    cores = harness("processes").usable_cores()[:1]
    made = harness("measuring").Settings(cores, sys.executable, sys.executable, rounds, 0.001, {"": 30.0})
    return replace(made, device="cuda", feeds=FEEDS, **given)


def quiet(text: str) -> None:
    """Progress is not shown."""


def measured(*entries: Any, **given: Any) -> Any:
    case = harness("peers.cases").CASES["linreg"]
    return harness("measuring").measure(case, entries, settings(**given), quiet)


def fake_smi(folder: Path, body: str) -> None:
    """A program nvidia-smi in front of all others."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, as far as nvidia-smi tells."""
    folder = tmp_path / "bin"
    folder.mkdir()
    used = 'case "$1" in *memory.used*) echo 512 ;; *) echo "Test GPU, 580.1, 81559, 1980, 700.00" ;; esac'
    fake_smi(folder, used)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def peaks() -> Any:
    found = harness("cuda_peaks").Peaks
    return found(1e12, {1 << 10: 1e12, 1 << 30: 2e12}, "NVRTC 13.0", "Test GPU", 4, 1e-6, 2e-6, 3e-6, 9e-6)


def test_a_case_is_measured_by_each_feed_in_turn(entry: Any, tmp_path: Path) -> None:
    """Runs from the device, then from the host, each waited for once; then read steps, for which nobody waits."""
    log = tmp_path / "log"
    results = measured(entry("Later", log=str(log)), entry("Later", name="other"), rounds=2)
    assert [result.feed for result in results] == list(FEEDS)
    for result in results:
        assert [(row.failed, row.agrees, len(row.values)) for row in result.rows] == [("", True, 13)] * 2
        assert all(0 < row.min_ms <= row.median_ms and len(row.rounds_ms) == 2 for row in result.rows)
        assert all(row.notes[-1] == "seen to the end" for row in result.rows)
        assert min(row.ratio for row in result.rows) == 1
    did = log.read_text()
    checked = "r" * 11 + "DDDD|" + "HHHH|"
    assert did.startswith(checked)
    for letter in "DH":
        runs = [run for run in did[len(checked) :].split("|") if letter in run]
        assert len(runs) >= 2
        assert all(set(run) == {letter} and len(run) >= 10 for run in runs)
    assert set(did[did.rindex("H") + 2 :].strip("|")) == {"r"}


def test_a_step_lost_on_the_way_is_seen(entry: Any) -> None:
    """Steps that were started and not taken make other losses, though all that were read are right."""
    results = measured(entry("Later", name="one"), entry("Later", name="lost", lost=True), entry("Later", name="two"))
    assert [row.agrees for row in results[0].rows] == [True, False, True]
    assert results[0].rows[1].ratio is None


def test_a_failure_by_one_feed_leaves_out_that_entry_only(entry: Any) -> None:
    """Its reason is its row, by every feed."""
    for result in measured(entry("Later"), entry("Failing")):
        assert [row.failed for row in result.rows] == ["", "MemoryError: the device is full"]


def test_tables_of_a_gpu_are_in_microseconds(entry: Any, card: None) -> None:
    """Heads, memory on the GPU, how steps were fed, the launch in the floor, a line for each feed in the overview."""
    tables, limits = harness("tables"), peaks()
    results = measured(entry("Later", name="graphnet", ours=True), entry("Later"), kernels=True)
    for result in results:
        result.floor = limits.floor(1_000_000, 4096)
        assert result.floor["floor_ms"] == 1e-3
        assert all(row.gpu_mb == 0 for row in result.rows)
    shown = [tables.text(result, limits) for result in results]
    for text, feed in zip(shown, harness("peers.cases").FEEDS.values(), strict=True):
        assert f"SGD; {feed}; floor 1 us (1 MFLOP take 1, 0.0041 MB take 0.004096, a launch takes 1)" in text
        heads = text.splitlines()[1].split()
        assert heads[:2] == ["median", "us"]
        assert {"GPU", "losses"} <= set(heads)
        assert "grown" not in heads
    assert f"{results[0].rows[0].median_ms * 1e3:.4g}" in shown[0]
    page = tables.markdown(results, {"command": "graphnet bench", "lines": ["a machine"]}, limits)
    lines = [line for line in page.splitlines() if line.startswith("| linreg")]
    assert [line.split(" | ")[0] for line in lines] == [f"| linreg, {feed}" for feed in FEEDS]
    kernel = "| matmul | forward | 4x5 | 2 | 100% | 0.004 | 0% | 0.05 | 0% | m.py:3 |"
    assert page.count(kernel) == 2
    assert page.count("the slowest 1 of 1 steps, 2 us in all") == 2
    assert "the slowest 1 of 1 steps" in shown[2]
    written = json.loads(json.dumps(tables.report(results, {})))
    assert [(r["device"], r["feed"]) for r in written["results"]] == [("cuda", feed) for feed in FEEDS]


def test_workers_see_one_gpu_and_nothing_that_steers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first visible one, numbered as nvidia-smi does; on the CPU none. JAX leaves memory to the others."""
    environment = harness("processes").environment
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    monkeypatch.setenv("CUDA_HOME", "/opt/cuda")
    found = environment(1, Path("/cache"), device="cuda")
    assert (found["CUDA_VISIBLE_DEVICES"], found["CUDA_DEVICE_ORDER"]) == ("3", "PCI_BUS_ID")
    assert (found["JAX_PLATFORMS"], found["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("cuda", "false")
    assert found["CUDA_HOME"] == "/opt/cuda"
    assert not {"NVIDIA_TF32_OVERRIDE", "CUDA_LAUNCH_BLOCKING"} & set(found)
    on_the_cpu = environment(1, Path("/cache"))
    assert (on_the_cpu["CUDA_VISIBLE_DEVICES"], on_the_cpu["JAX_PLATFORMS"]) == ("", "cpu")


def test_peers_of_a_gpu_are_told_the_device() -> None:
    """Those of the CPU are called as they were."""
    registry = harness("peers.registry")
    found = {entry.name: entry.arguments for entry in registry.peers("cuda")}
    assert {"torch", "torch-cells", "torch-compile", "torch-graphs", "torch-captured", "jax"} <= set(found)
    assert all(arguments["device"] == "cuda" for arguments in found.values())
    assert found["torch-graphs"]["mode"] == "reduce-overhead"
    assert all("device" not in entry.arguments for entry in registry.peers())
    assert registry.graphnet("auto", "cuda").arguments == {"backend": "auto", "device": "cuda"}


def test_nvidia_smi_tells_of_the_gpu_or_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: None) -> None:
    """Name, driver and limits, MB in use; without it, or where it fails, one line."""
    gpu = harness("gpu")
    assert gpu.describe().text == "Test GPU, 81559 MB, up to 1980 MHz and 700.00 W, driver 580.1, GPU 0"
    assert gpu.used_mb() == pytest.approx(512 * 1.048576)
    fake_smi(tmp_path / "bin", "echo 'No devices were found'; exit 6")
    with pytest.raises(gpu.NoGpuError, match=r"^nothing tells of the GPU: nvidia-smi: No devices were found$"):
        gpu.describe()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(gpu.NoGpuError, match="there is no nvidia-smi here"):
        gpu.describe()
    assert gpu.used_mb() is None


def test_peaks_come_from_a_process_of_their_own_or_a_line_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints as JSON is read back as it was; without CuPy it says so and the floors are left out."""
    module, found = harness("cuda_peaks"), peaks()
    assert module.restore(json.loads(json.dumps(asdict(found)))) == found
    assert found.floor(10**12, 0)["floor_ms"] == 1e3
    assert "a barrier of all blocks 3.00 us" in found.text
    assert "start and wait" in module.table(found)
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert module.main(["--json"]) == 2
    monkeypatch.setattr(module, "SIZES", ())
    failing = lambda command, **options: subprocess.CompletedProcess(command, 2, "", "cuda_peaks: none\n")  # noqa: E731
    monkeypatch.setattr(module.subprocess, "run", failing)
    assert module.measure() == "cuda_peaks: none: floors are left out"


def test_peaks_are_work_over_the_time_between_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CuPy that only counts: a millisecond for whatever is timed."""
    module, cupy = harness("cuda_peaks"), MagicMock()
    cupy.cuda.Device.return_value.attributes = {"MultiProcessorCount": 4}
    cupy.cuda.get_elapsed_time.return_value = 1.0
    cupy.cuda.nvrtc.getVersion.return_value = (13, 0)
    cupy.cuda.runtime.getDeviceProperties.return_value = {"name": b"Test GPU"}
    monkeypatch.setattr(module, "WAKING", 1e-9)
    found = module.Bench(cupy).peaks()
    assert found.flops == 2 * module.CHAINS * module.ROUNDS * 4 * module.BLOCKS * module.THREADS / 1e-3
    assert found.bandwidth[1 << 31] == (1 << 31) / 1e-3
    assert found.bandwidth[1 << 20] == (1 << 28) / 1e-3  # as many copies of less
    assert (found.launch_s, found.kernel_s, found.barrier_s) == (1e-3 / module.MANY, 0, 0)
    assert (found.name, found.multiprocessors, found.compiler) == ("Test GPU", 4, "NVRTC 13.0")


# -- the commands --------------------------------------------------------------------------------------------------


def test_the_command_measures_by_three_feeds(
    entry: Any, card: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """On a machine whose GPU answers: three tables a case, the GPU's name and peaks, and JSON of all."""
    compare, bench = harness("compare"), importlib.import_module("graphnet.cli.bench")
    monkeypatch.setattr(bench, "choose", lambda device, backend, precision: None)
    monkeypatch.setattr(compare, "graphnet", lambda *given: entry("Later", name="graphnet", ours=True))
    absent = [replace(entry("Later", name=name), needs="no_such_library") for name in ("this", "that")]
    monkeypatch.setattr(compare, "peers", lambda device: [entry("Later"), entry("Failing"), *absent])
    monkeypatch.setattr(compare.cuda_peaks, "measure", peaks)
    path = tmp_path / "bench.json"
    # the peers' own environment may be in this checkout, too
    given = ["--python", sys.executable, "--seconds", "0.01", "--json", str(path)]
    assert main(["bench", "linreg", "--device", "cuda", "--quick", *given]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].startswith("Test GPU, 81559 MB")
    assert "a kernel in a graph 2.00 us" in shown
    assert shown.count("MemoryError: the device is full") == 3
    told = f"not installed in {sys.executable}, so not measured: no_such_library (this, that)"
    assert shown.count(told) == shown.count("no_such_library") == 1
    written = json.loads(path.read_text())
    assert written["device"] == "cuda"
    assert written["gpu"]["name"] == written["machine"]["name"] == "Test GPU"
    assert [result["feed"] for result in written["results"]] == list(FEEDS)
    assert written["missing"] == {"no_such_library": ["this", "that"]}
    assert told in written["lines"]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("--device cuda --feed disk", "unknown feed 'disk': "),
        ("--device cuda --peers numpy", "unknown peer 'numpy': "),
        ("--device cuda --repeats 2 --kernels", "--repeats measures graphnet alone: leave out --kernels"),
        ("--device cuda", "--device cuda: nothing tells of the GPU: there is no nvidia-smi here"),
    ],
)
def test_mistakes_and_a_missing_gpu_are_one_line(
    command: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    """Nothing is measured then."""
    bench = importlib.import_module("graphnet.cli.bench")
    monkeypatch.setattr(bench, "choose", lambda device, backend, precision: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["bench", *command.split()]) == 2
    shown = capsys.readouterr()
    (found,) = shown.err.splitlines()
    assert line in found
    assert shown.out == ""


def test_without_cupy_every_program_says_the_same_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Before anything is measured; exit code 2."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    programs = {
        "graphnet": lambda: main(["bench", "--device", "cuda"]),
        "cuda_peaks": lambda: harness("cuda_peaks").main([]),
        "cuda_choices": lambda: harness("cuda_choices").main([]),
    }
    told = []
    for name, program in programs.items():
        assert program() == 2
        shown = capsys.readouterr()
        (found,) = shown.err.splitlines()
        assert shown.out == ""
        told.append(found.removeprefix(f"{name}: "))
    assert main(["info"]) == 0
    told.append(next(line for line in capsys.readouterr().out.splitlines() if "cuda: " in line).partition("cuda: ")[2])
    assert told == [harness("graphnet.device_cupy").no_gpu()] * 4
    assert told[0].startswith("device 'cuda' needs CuPy (")


def test_what_times_mean_is_said_before_them(tmp_path: Path, capsys: Capture) -> None:
    """Of the emulator that they say nothing about a GPU; of a precision that others do not have it."""
    path = tmp_path / "bench.json"
    choice = ["linreg", "--device", "cuda", "--backend", "emulated", "--repeats", "1", "--json", str(path)]
    assert main(["bench", *choice]) == 0
    first, heads, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith("on the CPU, thread by thread: its times say nothing about a GPU")
    assert heads.split()[0] == "model"
    assert json.loads(path.read_text())["notes"] == [first]
    given = argparse.Namespace(backend="auto", precision="tf32")
    (line,) = importlib.import_module("graphnet.cli.bench").cautions(given)
    assert line == "graphnet's products may round their operands to tf32, those of others do not"
    entry = harness("peers.registry").graphnet("auto", "cuda", "tf32")
    assert (entry.name, entry.arguments["precision"]) == ("graphnet-tf32", "tf32")


def test_a_checkout_runs_without_being_installed(tmp_path: Path) -> None:
    """From the folder that from_checkout makes, by a Python that has not installed graphnet, in the checkout."""
    assert harness("from_checkout").main([str(tmp_path)]) == 0
    installed = [str(Path(np.__file__).parents[1]), str(tmp_path)]
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(reversed(installed))}
    command = [sys.executable, "-P", "-S", "-c", "import graphnet.cli; print(graphnet.__file__)"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=around, timeout=60)
    assert done.stdout.strip() == str(tmp_path / "graphnet" / "__init__.py"), done.stderr
    assert harness("from_checkout").main([]) == 2
