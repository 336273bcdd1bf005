"""`graphnet bench` beside peers: the harness on small stand-ins for libraries, and that all compute the same."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphnet.cli import main

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Capture = pytest.CaptureFixture[str]

STAND_INS = '''
import os, sys, time
import numpy as np
from peers.with_numpy import Dense


class Good(Dense):
    """Writes its name at every step, and prints, which must not disturb the answers."""

    def __init__(self, case, params, threads, name="", log=""):
        print("a library's greeting")
        super().__init__(case, params, threads)
        self.name, self.log = name, log

    def step(self, x, y):
        if self.log:
            with open(self.log, "a") as file:
                file.write(self.name)
        return super().step(x, y)


class Wrong(Dense):
    """Learns too fast."""

    def step(self, x, y):
        self.optimizer.lr = np.float32(0.11)
        return super().step(x, y)


class Diverging(Dense):
    """Right for the first steps, then not a number."""

    count = 0

    def step(self, x, y):
        self.count += 1
        return super().step(x, y) if self.count < 12 else float("nan")


class Crashing(Dense):
    def step(self, x, y):
        print("the last words", file=sys.stderr)
        sys.stderr.flush()
        os.abort()


class Raising(Dense):
    def step(self, x, y):
        raise ValueError("shapes\\n  do not fit")


class Slow(Dense):
    def __init__(self, case, params, threads):
        time.sleep(60)


class Environment(Dense):
    """Refuses to run with anything but what it was promised."""

    def __init__(self, case, params, threads):
        super().__init__(case, params, threads)
        assert "OPENBLAS_CORETYPE" not in os.environ and os.environ["OMP_NUM_THREADS"] == str(threads) == "1"
        if hasattr(os, "sched_getaffinity"):
            assert len(os.sched_getaffinity(0)) == 1
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
    """Makes an entry for a class of the stand-ins."""
    (tmp_path / "stand_ins.py").write_text(STAND_INS)
    registry = harness("peers.registry")

    def make(kind: str, **options: Any) -> Any:
        name = str(options.get("name") or kind.lower())
        path = (str(tmp_path),)
        return registry.Entry(name, f"stand_ins:{kind}", "a stand-in", "nothing", options=options, path=path)

    return make


def settings(rounds: int = 1, limit: float = 30.0, **limits: float) -> Any:
    cores = harness("processes").usable_cores()[:1]
    seconds = {"": limit, **limits}
    return harness("measuring").Settings(cores, sys.executable, sys.executable, rounds, 0.001, seconds)


def quiet(text: str) -> None:
    """Progress is not shown."""


def measured(*entries: Any, **given: Any) -> Any:
    case = harness("peers.cases").CASES["linreg"]
    (result,) = harness("measuring").measure(case, entries, settings(**given), quiet)
    return result


def test_entries_take_turns_round_after_round(entry: Any, tmp_path: Path) -> None:
    """Each is started once; then A B C warm up, and A B C A B C run their rounds, never two in between."""
    log = tmp_path / "log"
    entries = [entry("Good", name=name, log=str(log)) for name in "abc"]
    result = measured(*entries, rounds=3)
    assert [row.failed for row in result.rows] == ["", "", ""]
    turns = "".join(name for name, _ in groupby(log.read_text()))
    assert turns == "abc" * 5  # first steps, warm-up, three rounds
    for row in result.rows:
        assert len(row.rounds_ms) == 3
        assert 0 < row.min_ms <= row.median_ms <= row.max_ms
        assert row.compile_s > 0
        assert row.memory_mb >= row.before_mb > 0
        assert row.versions["numpy"]


def test_a_peer_that_fails_is_a_row_that_says_why(entry: Any) -> None:
    """Missing, crashed, raising, late, diverging: each is told in its row and the others are measured."""
    registry = harness("peers.registry")
    missing = registry.Entry("missing", "no_such_library:Peer", "not there", "nothing")
    nowhere = registry.Entry("nowhere", "x:Y", "", "")
    kinds = ("Crashing", "Raising", "Diverging", "Good")
    result = measured(missing, *map(entry, kinds), entry("Slow"), slow=0.5)
    rows = {row.name: row for row in result.rows}
    assert "not installed: no module no_such_library" in rows["missing"].failed
    assert rows["crashing"].failed == "crashed (SIGABRT): the last words"
    assert rows["raising"].failed == "ValueError: shapes"
    assert rows["slow"].failed == "stopped: import and compilation took over 0.5 s"
    assert rows["diverging"].failed == "FloatingPointError: after the round the loss is not finite"
    assert rows["good"].failed == ""
    assert rows["good"].ratio == 1.0
    assert result.best is rows["good"]
    python = replace(settings(), peers_python="/no/such/python")
    case = harness("peers.cases").CASES["linreg"]
    (result,) = harness("measuring").measure(case, [nowhere], python, quiet)
    (row,) = result.rows
    assert row.failed == "/no/such/python: No such file or directory"


def test_other_losses_are_marked_and_not_ranked(entry: Any) -> None:
    """Two that agree outvote one, wherever it stands; it gets no ratio and is no best peer."""
    result = measured(entry("Wrong"), entry("Good", name="one"), entry("Good", name="two"))
    rows = {row.name: row for row in result.rows}
    assert [rows[name].agrees for name in ("wrong", "one", "two")] == [False, True, True]
    assert rows["wrong"].difference > 1e-2
    assert rows["wrong"].ratio is None
    assert rows["wrong"].median_ms > 0
    assert result.best.name in ("one", "two")
    assert len(rows["one"].values) == 11
    shown = harness("tables").text(result)
    assert re.search(r"wrong .* DIFFER \d", shown)


def test_workers_are_pinned_and_see_no_crippling_variables(entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What steers a numerical library is not inherited; threads are set, and cores where the system can."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert {"OPENBLAS_CORETYPE", "OMP_NUM_THREADS"} <= set(harness("processes").cleared(os.environ))
    (row,) = measured(entry("Environment")).rows
    assert row.failed == ""


def test_compile_times_are_taken_cold_and_warm(entry: Any) -> None:
    """Two processes one after the other, the second with what the first left in its caches."""
    case = harness("peers.cases").CASES["linreg"]
    (result,) = harness("measuring").compile_times(case, [entry("Good"), entry("Raising")], settings(), quiet)
    good, raising = result.rows
    assert good.compile_s > 0
    assert good.warm_compile_s > 0
    assert good.median_ms is None
    assert raising.failed
    assert raising.warm_compile_s is None
    assert "cold s" in harness("tables").text(result)


def test_reports_hold_every_row(entry: Any) -> None:
    """JSON has all numbers; Markdown has an overview, a table for each case, and reasons in place of numbers."""
    tables, floors = harness("tables"), harness("floors")
    result = measured(entry("Good"), entry("Wrong"), entry("Good", name="also"), entry("Raising"))
    result.floor = floors.Machine(1e9, {1024: 1e9}, "cc").floor(2_000_000, 4096)
    about = {"command": "graphnet bench linreg", "lines": ["a machine"]}
    written = json.loads(json.dumps(tables.report([result], about)))
    (found,) = written["results"]
    assert (found["case"], found["mode"], found["batch"]) == ("linreg", "train", 506)
    assert found["best_peer"] in ("good", "also")
    assert found["floor"]["floor_ms"] == 2.0
    assert [row["name"] for row in found["rows"]] == ["good", "wrong", "also", "raising"]
    assert {"rounds_ms", "median_ms", "min_ms", "max_ms", "ratio", "compile_s", "memory_mb", "values"} <= set(
        found["rows"][0]
    )
    page = tables.markdown([result], about)
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert rows[0] == "| case | good | wrong | also | raising | best peer | floor |"
    assert "floor 2 ms" in page
    assert "a machine" in page
    assert any(line.startswith("| raising | ValueError: shapes |") for line in rows)
    columns = {line.count("|") for line in rows[2:]}
    assert columns == {10}


def test_differences_of_series() -> None:
    """Relative, the largest counts; another length or NaN is infinitely far away."""
    difference = harness("measuring").difference
    assert difference([1.0, 100.0], [1.0, 101.0]) == pytest.approx(1 / 101)
    assert difference([0.0], [0.0]) == 0
    assert difference([1.0], [1.0, 2.0]) == difference([1.0], [float("nan")]) == float("inf")


def test_floor_is_the_larger_of_compute_and_memory() -> None:
    """The bandwidth is that of the largest measured size within what is touched."""
    machine = harness("floors").Machine(2e12, {1 << 16: 1e12, 1 << 20: 1e11}, "cc")
    assert machine.floor(4_000_000_000, 1 << 16)["floor_ms"] == pytest.approx(2.0)
    assert machine.floor(0, 1 << 20)["floor_ms"] == pytest.approx((1 << 20) / 1e11 * 1e3)
    assert machine.bandwidth_for(100) == machine.bandwidth_for((1 << 20) - 1) == 1e12


# -- the same maths everywhere -------------------------------------------------------------------------------------

SMALL = {
    "empty": {},
    "linreg": {"batch": 20},
    "softmax": {"batch": 8},
    "mlp": {"batch": 8, "hidden": (16, 12), "lr": 0.1},
    "lenet": {"batch": 4},
    "charlm": {"batch": 3, "time": 6, "vocabulary": 11, "embedding": 5, "hidden": (8, 7)},
}
LIBRARIES = {
    "numpy": ("peers.with_numpy", "ByHand"),
    "torch": ("peers.with_torch", "Eager"),
    "jax": ("peers.with_jax", "Jitted"),
    "tensorflow": ("peers.with_tensorflow", "Graphed"),
}


def values(kind: Any, case: Any, **options: Any) -> list[float]:
    """What a worker would answer to a check: losses of the first steps, or sizes of outputs."""
    cases, worker = harness("peers.cases"), harness("peers.worker")
    x, y = cases.batches(case)
    x, y = (a.astype(kind.ids) if a.dtype == np.int32 else a for a in (x, y))
    peer = kind(case, cases.parameters(case), 1, **options)
    if case.mode == "infer":
        return [worker.size(peer.infer(np.asarray(x[k]))) for k in range(4)]
    return [float(peer.step(np.asarray(x[k % 4]), np.asarray(y[k % 4]))) for k in range(11)]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("model", SMALL)
def test_peers_compute_what_graphnet_computes(library: str, model: str) -> None:
    """Losses of eleven training steps and the outputs of inference agree, whichever library is installed."""
    pytest.importorskip(library, reason=f"{library} is not installed: make bench installs the peers it can")
    module, name = LIBRARIES[library]
    kind, ours = getattr(harness(module), name), harness("peers.with_graphnet").Graphnet
    case = replace(harness("peers.cases").CASES[model], **SMALL[model])
    losses = values(ours, case, backend="numpy")
    assert losses[-1] != losses[0]
    assert np.isfinite(losses).all()
    np.testing.assert_allclose(values(kind, case), losses, rtol=1e-4)
    for batch in dict.fromkeys((case.batch, min(case.batch, 1))):
        inference = case.inference(batch)
        np.testing.assert_allclose(values(kind, inference), values(ours, inference, backend="numpy"), rtol=1e-4)


def test_costs_count_loops_in_full() -> None:
    """The LSTM's product is there once for each time step; twice the steps cost about twice as much."""
    module, cases = harness("peers.with_graphnet"), harness("peers.cases")
    flops = []
    for time in (8, 16):
        case = replace(cases.CASES["charlm"], batch=4, time=time, vocabulary=11, embedding=5, hidden=(32,))
        flops.append(module.Graphnet(case, cases.parameters(case), 1, backend="numpy").facts()["flops"])
    recurrent = 3 * 2 * 4 * 32 * 128  # forward, and the gradients of state and weights
    assert flops[1] - flops[0] > 8 * recurrent
    assert flops[1] < 2 * flops[0]


# -- the command ----------------------------------------------------------------------------------------------------


def test_bench_measures_beside_its_peers(tmp_path: Path, capsys: Capture) -> None:
    """One command: graphnet's row, NumPy's by hand, losses that agree, both files, exit code 0."""
    files = {name: tmp_path / f"bench.{name}" for name in ("json", "markdown")}
    wanted = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    choice = ["--peers", "numpy", "--backend", "numpy", "--threads", "1", "--quick", "--seconds", "0.01"]
    assert main(["bench", "linreg", *choice, *wanted]) == 0
    shown = capsys.readouterr().out
    assert "linreg: 13-1, batch 506, SGD" in shown
    written = json.loads(files["json"].read_text())
    assert written["threads"] == 1
    assert written["rounds"] == 2
    (result,) = written["results"]
    assert [row["name"] for row in result["rows"]] == ["graphnet-numpy", "numpy"]
    assert all(row["agrees"] and row["median_ms"] > 0 for row in result["rows"])
    assert result["rows"][0]["facts"]["backend"] == "numpy"
    assert "| linreg |" in files["markdown"].read_text()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("mlb", "unknown model 'mlb': did you mean 'mlp'?"),
        ("--peers torhc", "unknown peer 'torhc': did you mean 'torch'?"),
        ("--mode inference", "unknown mode 'inference': did you mean 'infer'?"),
        ("--limit torhc=3", "unknown peer 'torhc': did you mean 'torch'?"),
        ("--limit 3,jax=soon", "--limit 3,jax=soon: 'soon' is not a number above 0"),
        ("--backend frob", "backend 'frob' is unknown"),
        ("--threads 4096", "--threads 4096: this process may use"),
        ("--python /no/such", "--python /no/such: there is no such program"),
        ("--peers-dir /", "--peers-dir /: holds no compare.py"),
        ("--repeats 2 --rounds 3", "--repeats measures graphnet alone: leave out --rounds"),
        ("--peers none --rounds 3", "--rounds measures graphnet beside its peers: --peers none"),
    ],
)
def test_mistakes_are_one_line(command: str, line: str, capsys: Capture) -> None:
    """Nothing is measured before all names and numbers are known to be good."""
    assert main(["bench", *command.split()]) == 2
    shown = capsys.readouterr()
    (found,) = shown.err.splitlines()
    assert line in found
    assert shown.out == ""


def test_without_the_peers_programs_graphnet_is_measured_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """As where graphnet was installed as a wheel; what only a comparison takes is then an error."""
    bench = importlib.import_module("graphnet.cli.bench")
    monkeypatch.setattr(bench, "peers_folder", lambda given: None)
    assert main(["bench", "linreg", "--backend", "numpy"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "linreg"
    assert main(["bench", "linreg", "--quick"]) == 2
    assert "the peers' programs are not here: give --peers-dir" in capsys.readouterr().err


def test_a_library_that_cannot_be_installed_is_reported(tmp_path: Path, capsys: Capture) -> None:
    """pip's reason in a line, and no failure; every line of the requirements is read."""
    module = harness("install_peers")
    assert module.install(Path(sys.executable), [str(tmp_path / "nothing.whl")]) is False
    assert "left out: ERROR" in capsys.readouterr().out
    names = {line[0].partition("==")[0] for line in module.wanted()}
    assert {"torch", "jax", "pytensor", "tensorflow"} <= names
