"""The training loop: what it reports, and when it refuses to go on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnet as gn
from graphnet.train import Report, Run, accuracy


@gn.model
def line(x: Any) -> Any:
    """x @ w + b, from zeros."""
    return gn.layers.dense(x, 1, init=0.0)


@gn.model
def echo(x: Any) -> Any:
    """The input as scores of its classes, plus a parameter."""
    return x + gn.param("b", x.shape[-1:], 0.0)


RECIPE = {
    "task": "regression",
    "batch_size": 4,
    "epochs": 3,
    "loss": gn.losses.mse,
    "optimizer": gn.optim.SGD,
    "lr": 0.1,
}
LABELS = {**RECIPE, "task": "classification", "loss": gn.losses.softmax_cross_entropy}


def table(rows: int, test_rows: int = 0) -> gn.data.Dataset:
    """y = 2 x + 1, the test rows being others or the same."""
    x = np.linspace(-1, 1, rows + test_rows, dtype=np.float32)[:, None]
    y = 2 * x + 1
    if not test_rows:
        return gn.data.Dataset(x, y, x, y, "line", "a test")
    return gn.data.Dataset(x[:rows], y[:rows], x[rows:], y[rows:], "line", "a test")


def test_regression_reports_the_loss_after_the_epoch() -> None:
    """Short last batches count by their rows; without a test set of its own there is no test loss."""
    data = table(10)
    run = Run(line, RECIPE, data)
    assert run.loss_before() == pytest.approx(float(np.mean(data.y_train**2)), rel=1e-6)
    (report,) = run.train(1)
    x, w, b = data.x_train, run.net.params["line/dense_1/w"], run.net.params["line/dense_1/b"]
    assert report.train_loss == pytest.approx(float(np.mean((x @ w + b - data.y_train) ** 2)), rel=1e-5)
    assert report.test_loss is None
    assert (report.samples, report.epoch, report.lr) == (10, 1, pytest.approx(0.1))
    assert Run(line, RECIPE, table(10, 5)).train_epoch().test_loss is not None


def test_accuracy_counts_the_rows_whose_largest_score_is_right() -> None:
    """Also over a short last batch."""
    x = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
    net = gn.compile(echo, gn.spec((2, 3)))
    assert accuracy(net, x, np.array([0, 1, 2, 0, 0]), batch_size=2) == pytest.approx(0.8)


def test_classification_reports_both_accuracies() -> None:
    """Labels are integers, and the loss is the mean over the steps, each before its update."""
    x = np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    y = (np.arange(8) % 3).astype(np.int32)
    run = Run(echo, {**LABELS, "batch_size": 8}, gn.data.Dataset(x, y, x[:4], (y[:4] + 1) % 3, "rows", "a test"))
    report = run.train_epoch()
    assert (report.train_accuracy, report.test_accuracy) == (1.0, 0.0)
    assert report.train_loss == pytest.approx(math.log(math.e + 2) - 1, rel=1e-6)
    assert set(report.record()) >= {"epoch", "train_loss", "train_accuracy", "test_accuracy", "seconds"}
    assert "perplexity" not in report.record()


def test_texts_start_every_epoch_with_a_fresh_state() -> None:
    """Without learning, two epochs report the same loss; perplexity is its exponential."""

    @gn.model
    def reader(ids: Any, vocabulary: int) -> Any:
        x = gn.layers.embedding(ids, vocabulary, 4, init=gn.init.normal(std=1.0))
        return gn.layers.dense(gn.layers.rnn(x, 4, stateful=True), vocabulary)

    recipe = {**LABELS, "task": "text", "batch_size": 2, "steps": 5, "lr": 0.0}
    text = gn.data.Text("hello world, " * 5, "hello", "a test")
    first, second = Run(reader, recipe, text).train(2)
    assert first.train_loss == second.train_loss
    assert first.perplexity == pytest.approx(math.exp(first.train_loss))
    assert first.samples == (13 * 5 - 1) // 10 * 10


def test_batches_are_never_larger_than_the_data() -> None:
    """A recipe's batch of 100 serves a table of 3 rows; None takes all rows."""
    assert Run(line, {**RECIPE, "batch_size": 100}, table(3)).batch_size == 3
    assert Run(line, {**RECIPE, "batch_size": None}, table(7)).batch_size == 7


def test_resuming_needs_a_file_of_a_run(tmp_path: Path) -> None:
    """A net saved otherwise, or with altered progress, is refused in one line."""
    run = Run(line, RECIPE, table(8))
    run.net.save(tmp_path / "net.gnet")
    with pytest.raises(gn.FileError, match="not saved by a training run"):
        Run.resume(gn.load(tmp_path / "net.gnet"), RECIPE, table(8))
    run.train_epoch()
    run.save(tmp_path / "run.gnet")
    net = gn.load(tmp_path / "run.gnet")
    assert Run.resume(net, RECIPE, table(8)).history == run.history
    net.metadata["run"]["history"][0]["train_loss"] = "low"
    with pytest.raises(gn.FileError, match="not saved by a training run"):
        Run.resume(net, RECIPE, table(8))


def test_reports_hold_numbers_only() -> None:
    """A report comes back from its row."""
    report = Report(1, 0.5, None, None, 0.9, None, 10, 0.1, 100.0, 0.1)
    assert Report.restore({**report.record(), "train_accuracy": None, "test_loss": None, "perplexity": None}) == report


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    """The epoch is not counted."""
    run = Run(line, {**RECIPE, "lr": 1e20}, table(8))
    with pytest.raises(gn.NumericsError, match=r"epoch \d+: the loss is (nan|inf): use a lower learning rate"):
        list(run.train(20))
    assert all(math.isfinite(report.train_loss) for report in run.history)
    assert run.epoch == len(run.history)


def test_data_of_another_task_are_refused() -> None:
    """Labels are no values, and texts are neither shuffled nor values."""
    text = gn.data.Text("some words", "words", "a test")
    with pytest.raises(gn.DataError, match="data set line is for regression: the model needs one for classification"):
        Run(line, LABELS, table(8))
    with pytest.raises(gn.DataError, match="data set words is for text"):
        Run(line, RECIPE, text)
    with pytest.raises(gn.DataError, match="a text is read in order"):
        Run(line, {**RECIPE, "task": "text", "steps": 3}, text, shuffle=True)
