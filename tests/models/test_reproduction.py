"""What the reference models reach on the real data, in the one-epoch forms; `make reproduce` runs the rest."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import graphnet as gn
from graphnet.kernels.c import toolchain
from graphnet.train import Run

FASTEST = "numpy" if toolchain.find() is None else "c"
BOTH = sorted({"numpy", FASTEST})
MNIST = {"softmax": 0.89, "mlp": 0.93, "lenet": 0.965}
CHARLM = {"knet7": 2.45, "adam": 1.80}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other cores are other tests'; results do not depend on the number of threads."""
    monkeypatch.setenv("GRAPHNET_THREADS", "1")


def run_of(name: str, recipe: str, data_dir: Path, backend: str) -> Run:
    module: Any = importlib.import_module(f"graphnet.models.{name}")
    chosen = module.RECIPES[recipe]
    return Run(getattr(module, name), chosen, gn.data.load(chosen["data"], data_dir), backend=backend)


@pytest.mark.parametrize("backend", BOTH)
def test_linreg_follows_the_tutorial_to_the_last_digit(backend: str, data_dir: Path) -> None:
    """Loss 592.14692 before, 29.685812 after 10 steps, 22.946777 after 20, 21.894831 after 10,000."""
    run = run_of("linreg", "knet8", data_dir, backend)
    assert run.loss_before() == pytest.approx(592.14692, abs=1e-4)
    losses = [report.train_loss for report in run.train(20)]
    assert losses[9] == pytest.approx(29.685812, abs=1e-4)
    assert losses[19] == pytest.approx(22.946777, abs=1e-4)
    x, y = next(iter(run.batches(1)))
    for _ in range(10_000 - 20):
        run.net.step(x, y)
    assert run.net.loss(x, y) == pytest.approx(21.894831, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"), [*((name, b) for name in ("softmax", "mlp") for b in BOTH), ("lenet", FASTEST)]
)
def test_one_epoch_of_mnist_gives_the_accuracy_of_the_tutorial(name: str, backend: str, data_dir: Path) -> None:
    """Test accuracy after one epoch in file order."""
    report = run_of(name, "knet8", data_dir, backend).train_epoch()
    assert report.samples == 60_000
    assert report.test_accuracy is not None
    assert report.test_accuracy >= MNIST[name]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", CHARLM)
def test_one_epoch_of_shakespeare_gives_the_loss_of_the_slides(recipe: str, data_dir: Path) -> None:
    """Mean training loss per character over the first epoch, all of the text but its last few characters."""
    report = run_of("charlm", recipe, data_dir, FASTEST).train_epoch()
    assert report.samples == 436 * 128 * 100
    assert report.train_loss <= CHARLM[recipe]
