"""The training loop behind ``graphnet train``: a model, its recipe and its data, with checkpoints.

    run = Run(lenet, RECIPE, gn.data.mnist(), seed=1)
    for report in run.train(epochs=10):
        print(report)
        run.save("lenet.gnet")

A recipe is a dict: ``task`` (classification, regression or text), ``loss``, ``optimizer`` (a function of the
learning rate), ``lr``, ``batch_size`` (None: all rows), ``epochs``; for texts ``steps``, and where the loss
adds up several characters, ``loss_terms``; optionally ``options`` of the model, ``dtype`` of the arrays
(float32) and ``shuffle``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from graphnet.api import compile
from graphnet.compiler.errors import DataError, FileError, GraphnetError, NumericsError
from graphnet.data import Dataset, Text, minibatches, sequences
from graphnet.net import Net
from graphnet.trace import spec

Recipe = Mapping[str, Any]
Tick = Callable[[int, Any], object]
"""Told of each step: how many samples it took and their mean loss."""

_HISTORY = 1000


@dataclass(frozen=True)
class Report:
    """What an epoch showed. What a task does not measure is None.

    ``train_loss`` is the mean over the epoch's steps, each before its update (for texts: per character), but
    for regression that of the whole training set after the epoch; ``test_loss``, ``train_accuracy`` and
    ``test_accuracy`` are measured after the epoch. ``seconds`` and ``samples_per_second`` cover the steps,
    not the measuring; a text's samples are characters.
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    perplexity: float | None
    samples: int
    seconds: float
    samples_per_second: float
    lr: float

    def record(self) -> dict[str, Any]:
        """The measured values by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def restore(cls, row: Mapping[str, Any]) -> Report:
        """The report that ``asdict`` gave as ``row``; raises TypeError if it holds anything but numbers."""
        if not all(value is None or isinstance(value, (int, float)) for value in row.values()):
            raise TypeError("a report holds numbers")
        return cls(**row)


class Run:
    """A training run: the net, its data, and how far it has come.

    ``history`` holds the reports so far; of a resumed run, at least those of the last 1000 epochs.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        recipe: Recipe,
        data: Dataset | Text,
        *,
        batch_size: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        shuffle: bool | None = None,
        device: str = "cpu",
        backend: str = "auto",
        precision: str = "float32",
    ) -> None:
        """Compile ``model`` for ``data``. Raises GraphnetError in one line, as ``gn.compile`` does."""
        self._setup(recipe, data, seed, recipe.get("shuffle", False) if shuffle is None else shuffle)
        self.batch_size = self._fitting_batch(batch_size or recipe["batch_size"])
        rate = recipe["lr"] if lr is None else lr
        self.net = compile(
            model,
            self.spec(),
            loss=recipe["loss"],
            optimizer=recipe["optimizer"](rate),
            device=device,
            backend=backend,
            precision=precision,
            seed=seed,
            **model_options(recipe, data),
        )

    def _setup(self, recipe: Recipe, data: Dataset | Text, seed: int, shuffle: bool) -> None:
        check_data(recipe, data)
        if shuffle and isinstance(data, Text):
            raise DataError(f"{data.name}: a text is read in order, its state goes on: leave shuffle out")
        self.recipe, self.data, self.seed, self.shuffle = recipe, data, seed, shuffle
        self.history: list[Report] = []
        self.epoch = 0
        if isinstance(data, Dataset):
            dtype = recipe.get("dtype", "float32")
            targets = data.y_train.dtype if recipe["task"] == "classification" else dtype
            self._train = data.x_train.astype(dtype, copy=False), data.y_train.astype(targets, copy=False)
            self._test = self._train
            if data.x_test is not data.x_train:
                self._test = data.x_test.astype(dtype, copy=False), data.y_test.astype(targets, copy=False)

    def _fitting_batch(self, wanted: int | None) -> int:
        rows = len(self._train[0]) if isinstance(self.data, Dataset) else wanted
        return min(wanted or rows or 1, rows or 1)

    def spec(self) -> Any:
        """The spec of one batch of inputs."""
        if isinstance(self.data, Text):
            return spec((self.batch_size, self.recipe["steps"]), "int32")
        x = self._train[0]
        return spec((self.batch_size, *x.shape[1:]), x.dtype)

    @classmethod
    def resume(cls, net: Net, recipe: Recipe, data: Dataset | Text) -> Run:
        """Go on with a net loaded from a file that ``save`` wrote; the rest equals that of an unbroken run.

        Raises FileError for a net that was saved otherwise, DataError for data that do not fit it.
        """
        run = cls.__new__(cls)
        try:
            saved = net.metadata["run"]
            run._setup(recipe, data, int(saved["seed"]), bool(saved["shuffle"]))
            run.batch_size, run.epoch = int(saved["batch_size"]), int(saved["epoch"])
            run.history = [Report.restore(row) for row in saved["history"]]
        except (KeyError, TypeError, ValueError):
            raise FileError("the file was not saved by a training run: start one without it") from None
        if isinstance(data, Text) and net.metadata.get("vocabulary") != data.vocabulary:
            raise DataError(
                f"the net was trained on a text with other characters than {data.name}: go on with that text, "
                f"or start anew"
            )
        run.net = net
        return run

    def save(self, path: str | os.PathLike[str], **metadata: Any) -> None:
        """Write net and progress to ``path``, at once or not at all. ``metadata`` is kept with them.

        A text's vocabulary is kept too, and the net can then read one character at a time.
        """
        kept: dict[str, Any] = {
            "run": {
                "seed": self.seed,
                "shuffle": self.shuffle,
                "batch_size": self.batch_size,
                "epoch": self.epoch,
                "history": [asdict(report) for report in self.history[-_HISTORY:]],
            }
        }
        if isinstance(self.data, Text):
            kept["vocabulary"] = self.data.vocabulary
            self.net.plan_for(spec((1, 1), "int32"))
        self.net.save(path, **kept, **metadata)

    def train(self, epochs: int, progress: Callable[[int, int], Any] | None = None) -> Iterator[Report]:
        """Train until ``epochs`` are done, giving a report after each.

        ``progress(epoch, samples)`` is entered for each epoch and gives a function that is told of each step.
        Raises NumericsError where the loss is no longer finite.
        """
        while self.epoch < epochs:
            yield self.train_epoch(progress)

    def train_epoch(self, progress: Callable[[int, int], Any] | None = None) -> Report:
        """Train for one epoch and measure."""
        number = self.epoch + 1
        batches = self.batches(number)
        if progress is None:
            loss, samples, seconds = self._steps(batches, lambda samples, loss: None)
        else:
            with progress(number, self.samples(batches)) as tick:
                loss, samples, seconds = self._steps(batches, tick)
        report = self._report(number, loss, samples, seconds)
        if not math.isfinite(report.train_loss):
            raise NumericsError(f"epoch {number}: the loss is {report.train_loss}: use a lower learning rate")
        self.epoch = number
        self.history.append(report)
        return report

    def batches(self, epoch: int) -> Any:
        """The batches of an epoch, in order or shuffled by seed and epoch; ``len`` counts them."""
        if isinstance(self.data, Text):
            return sequences(self.data.ids, self.batch_size, self.recipe["steps"])
        return minibatches(*self._train, batch_size=self.batch_size, shuffle=self.shuffle, seed=self.seed, epoch=epoch)

    def samples(self, batches: Any) -> int:
        """How many samples an epoch has."""
        if isinstance(self.data, Text):
            return int(len(batches) * self.batch_size * self.recipe["steps"])
        return len(self._train[0])

    def _steps(self, batches: Iterable[tuple[np.ndarray, np.ndarray]], tick: Tick) -> tuple[float, int, float]:
        """Mean loss, number of samples and seconds of one pass; a text's state starts anew."""
        net, terms, text = self.net, self.recipe.get("loss_terms", 1), isinstance(self.data, Text)
        losses: list[tuple[Any, int]] = []  # on a GPU, numbers that are not waited for before the end
        if text:
            net.reset_states()
        start = time.perf_counter()
        for x, y in batches:
            samples = y.size if text else len(y)
            loss = net.step(x, y)
            losses.append((loss, samples))
            tick(samples, loss if terms == 1 else loss / terms)
        total, count = 0.0, 0
        for loss, samples in losses:
            total += float(loss) / terms * samples
            count += samples
        return total / count, count, time.perf_counter() - start

    def _report(self, epoch: int, loss: float, samples: int, seconds: float) -> Report:
        task, test_loss, accuracies, perplexity = self.recipe["task"], None, (None, None), None
        apart = task != "text" and self._test is not self._train
        if task == "regression":
            loss = self.mean_loss(*self._train)
            test_loss = self.mean_loss(*self._test) if apart else None
        elif task == "classification":
            accuracies = self.accuracies()
        else:
            perplexity = math.exp(min(loss, 700.0))
        return Report(
            epoch,
            loss,
            accuracies[0],
            test_loss,
            accuracies[1],
            perplexity,
            samples,
            seconds,
            samples / max(seconds, 1e-9),
            float(self._optimizer.lr),
        )

    @property
    def _optimizer(self) -> Any:
        if self.net.optimizer is None:
            raise GraphnetError("the net has no optimizer: it cannot be trained")
        return self.net.optimizer

    def accuracies(self) -> tuple[float, float]:
        """Training and test accuracy."""
        train = accuracy(self.net, *self._train, batch_size=self.batch_size)
        return train, accuracy(self.net, *self._test, batch_size=self.batch_size)

    def mean_loss(self, x: np.ndarray, y: np.ndarray) -> float:
        """The loss over all rows, those of a short last batch counting as much as others."""
        return self.net.evaluate(x, y, batch_size=self.batch_size)

    def loss_before(self) -> float | None:
        """For regression, the loss over the training set as things stand; else None."""
        return self.mean_loss(*self._train) if self.recipe["task"] == "regression" else None


def accuracy(net: Net, x: np.ndarray, y: np.ndarray, batch_size: int = 100) -> float:
    """The share of rows of ``x`` (N, ...) whose largest output is that of their class, ``y`` (N,).

    A short last batch is filled up with zeros, so that it needs no plan of its own.
    """
    right = 0
    for rows, labels in minibatches(x, y, batch_size=batch_size):
        if len(rows) < batch_size:
            rows = np.concatenate([rows, np.zeros((batch_size - len(rows), *rows.shape[1:]), rows.dtype)])
        right += int((net(rows)[: len(labels)].argmax(axis=-1) == labels).sum())
    return right / len(y)


def model_options(recipe: Recipe, data: Dataset | Text) -> dict[str, Any]:
    """The recipe's options of the model, and what it needs to know of a text: the size of the vocabulary."""
    options = dict(recipe.get("options", {}))
    return {**options, "vocabulary": len(data.vocabulary)} if isinstance(data, Text) else options


def check_data(recipe: Recipe, data: Dataset | Text) -> None:
    """Raises DataError in one line if the data set is none for the recipe's task."""
    if isinstance(data, Text):
        found = "text"
    else:
        found = "classification" if data.y_train.dtype.kind in "iu" else "regression"
    if found != recipe["task"]:
        raise DataError(f"data set {data.name} is for {found}: the model needs one for {recipe['task']}")
    if isinstance(data, Text) and len(data.ids) < 2:
        raise DataError(f"{data.name}: the text is empty")
