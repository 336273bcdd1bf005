"""What the benchmark of a GPU computes, without one: choices and single kernels emulated, peers on the CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnet as gn
from graphnet.kernels.c import toolchain

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Capture = pytest.CaptureFixture[str]
FEEDS = ("device", "host", "read")
emulated = pytest.mark.skipif(toolchain.find() is None, reason="the emulator needs a C++ compiler")


@pytest.fixture(scope="module", autouse=True)
def on_the_path() -> Iterator[None]:
    """The folder of the benchmark's modules, as `graphnet bench` puts it there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def harness(name: str) -> Any:
    """A module of the benchmark."""
    return importlib.import_module(name)


@emulated
def test_choices_are_rows_of_a_case(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Emulated: one kernel or one a stage, the same losses; the fewest launches are told."""
    choices = harness("cuda_choices")
    monkeypatch.setitem(choices.CASES, "softmax", replace(harness("peers.cases").CASES["softmax"], batch=4))
    cores, python = harness("processes").usable_cores()[:1], sys.executable
    given = harness("measuring").Settings(cores, python, python, 1, 0.001, {"": 60.0}, "cuda", ("device",))
    (result,) = choices.steps("together", given, ["softmax"], emulated=True)
    by_stage, together = result.rows
    assert (by_stage.name, together.name) == ("by-stage", "together")
    assert (by_stage.failed, together.failed) == ("", "")
    assert together.agrees
    assert together.difference == 0
    assert (by_stage.notes, together.notes) == (["2 launches"], ["1 launches"])
    assert "of fastest" in capsys.readouterr().out


@emulated
def test_operations_are_those_of_the_library() -> None:
    """Products by either side and a convolution with its gradients: graphnet's results, emulated, by NumPy's rules."""
    kernels = harness("cuda_kernels")
    for operation in kernels.layer("dense", 4, 6, 5):
        side, result = kernels.ours(operation, emulated=True)
        a, b = operation.arrays()
        which = operation.name.split()[1]
        expected = (a.T if which == "weights:" else a) @ (b.T if which == "inputs:" else b)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
        assert operation.flops == 2 * 4 * 6 * 5
        assert kernels.seconds(side) > 0
    forward, *gradients = kernels.convolution("conv", 2, 1, 7, 2)
    x, w, g = gradients[0].arrays()
    assert forward.flops == 2 * g.size * 25
    cut = np.lib.stride_tricks.sliding_window_view(x[:, 0], (5, 5), axis=(1, 2))
    _, found = kernels.ours(gradients[0], emulated=True)
    np.testing.assert_allclose(found[:, 0], np.einsum("nijpq,noij->opq", cut, g), rtol=1e-4, atol=1e-4)
    assert found.shape == w.shape


def test_operations_without_a_library_have_no_ratio() -> None:
    """A row with a library and one without."""
    choices, kernels = harness("cuda_choices"), harness("cuda_kernels")
    operation = kernels.product("p", 10, 10, 10)
    both = choices.cells(kernels.Timing(operation, 2.0, 4.0, 1e-7), 1e9)
    assert both == ["p: 10x10 @ 10x10", "2", "4", "0.50", "1", "100%", "0", "1e-07"]
    alone = choices.cells(kernels.Timing(operation, 2.0), None)
    assert alone == ["p: 10x10 @ 10x10", "2", "-", "-", "1", "-", "-", "-"]


def test_steps_cost_what_their_ops_do() -> None:
    """A product with what is fused behind it, and a loop as often as it runs."""
    cost = harness("peers.step_costs").cost

    @gn.model
    def dense(x):
        return gn.relu(gn.layers.dense(x, 5))

    (step,) = gn.compile(dense, gn.spec((4, 6)), backend="numpy").schedule[:1]
    assert cost(step) == {"flops": 2 * 4 * 6 * 5, "bytes": 4 * (4 * 6 + 6 * 5 + 4 * 5), "shape": [4, 5]}

    def sums(times):
        def cell(carry, row):
            return carry + row * 2.0, carry

        net = gn.compile(lambda x: gn.scan(cell, gn.zeros((3,)), x)[0], gn.spec((times, 3)), backend="numpy")
        return sum(cost(step)["flops"] for step in net.schedule)

    assert sums(8) == 2 * sums(4) > 0


FED = {
    "Eager": ("torch", "peers.with_torch"),
    "Captured": ("torch", "peers.with_torch_graph"),
    "Jitted": ("jax", "peers.with_jax"),
}
SMALL = {
    "mlp": {"batch": 8, "hidden": (16, 12), "lr": 0.1},
    "charlm": {"batch": 3, "time": 6, "vocabulary": 11, "embedding": 5, "hidden": (8, 7)},
}


def fed(target: str, case: Any, file: Path, **options: Any) -> list[float]:
    """What a worker answers to a check by all feeds."""
    worker, cases = harness("peers.worker").Worker(target), harness("peers.cases")
    cases.write(case, file)
    worker.load({"file": str(file), "case": case.config(), "threads": 1, "options": options})
    found: list[float] = worker.check({"steps": 11, "feeds": FEEDS})["values"]
    return found


@pytest.mark.parametrize("kind", FED)
@pytest.mark.parametrize("model", SMALL)
def test_peers_take_the_same_steps_however_they_are_fed(kind: str, model: str, tmp_path: Path) -> None:
    """Read, from the host and from the device, training and inference, as graphnet does."""
    library, module = FED[kind]
    pytest.importorskip(library, reason=f"{library} is not installed: make bench installs the peers it can")
    case = replace(harness("peers.cases").CASES[model], **SMALL[model])
    for one in (case, case.inference(case.batch)):
        expected = fed("peers.with_graphnet:Graphnet", one, tmp_path / "case.npz", backend="numpy")
        found = fed(f"{module}:{kind}", one, tmp_path / "case.npz")
        np.testing.assert_allclose(found, expected, rtol=1e-4)
