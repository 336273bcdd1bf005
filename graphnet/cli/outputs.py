"""Where a training run reports to: progress bar, epoch lines, JSON lines, TensorBoard, a learning curve."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from graphnet.atomic import write_atomically
from graphnet.compiler.errors import BackendError, FileError, NameError_
from graphnet.train import Report


class Bar:
    """A tqdm progress bar on stderr for each epoch, where that is a terminal: loss and samples per second."""

    def __init__(self, epochs: int, unit: str, quiet: bool) -> None:
        self.epochs, self.unit = epochs, unit
        self.disable = quiet or not sys.stderr.isatty()

    @contextlib.contextmanager
    def __call__(self, epoch: int, samples: int) -> Iterator[Callable[[int, float], object]]:
        if self.disable:
            yield lambda done, loss: None
            return
        from tqdm import tqdm

        title = f"epoch {epoch}/{self.epochs}"
        with tqdm(total=samples, desc=title, unit=f" {self.unit}", unit_scale=True, leave=False) as bar:

            def tick(done: int, loss: float) -> None:
                bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                bar.update(done)

            yield tick


def epoch_line(report: Report, epochs: int, unit: str, digits: int) -> str:
    """An epoch's results as one line."""
    width = len(str(epochs))
    parts = [f"epoch {report.epoch:{width}}/{epochs}", f"loss {report.train_loss:.{digits}f}"]
    if report.train_accuracy is not None:
        parts.append(f"train accuracy {report.train_accuracy:.4f}")
    if report.test_accuracy is not None:
        parts.append(f"test accuracy {report.test_accuracy:.4f}")
    if report.test_loss is not None:
        parts.append(f"test loss {report.test_loss:.{digits}f}")
    if report.perplexity is not None:
        parts.append(f"perplexity {report.perplexity:.3f}")
    parts += [f"{report.seconds:.2f} s", f"{report.samples_per_second:,.0f} {unit}/s"]
    return "  ".join(parts)


class Sink(Protocol):
    """Takes an epoch's report, and is closed at the end."""

    def add(self, report: Report) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """Appends one JSON object an epoch, each written out before the next epoch starts."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.about = about
        try:
            self.file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise FileError(f"--json {path}: cannot be written: {error.strerror or error}") from None

    def add(self, report: Report) -> None:
        self.file.write(json.dumps({**self.about, **report.record()}) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class TensorBoard:
    """TensorBoard event files: loss, accuracy, perplexity, learning rate and speed by epoch."""

    NAMES: Mapping[str, str] = {
        "train_loss": "loss/train",
        "test_loss": "loss/test",
        "train_accuracy": "accuracy/train",
        "test_accuracy": "accuracy/test",
        "perplexity": "perplexity/train",
        "lr": "learning_rate",
        "samples_per_second": "samples_per_second",
    }

    def __init__(self, folder: str) -> None:
        try:
            module = importlib.import_module("tensorboardX")
        except ImportError:
            raise BackendError("--log-dir needs tensorboardX: pip install tensorboardX") from None
        try:
            self.writer = module.SummaryWriter(logdir=folder)
        except OSError as error:
            raise FileError(f"--log-dir {folder}: cannot be written: {error.strerror or error}") from None

    def add(self, report: Report) -> None:
        values = report.record()
        for name, tag in self.NAMES.items():
            if name in values:
                self.writer.add_scalar(tag, values[name], report.epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def check_plot(path: Path) -> None:
    """Raises NameError if matplotlib writes no files of this kind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kinds = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix[1:].lower() not in kinds:
        raise NameError_(f"--plot {path}: the suffix must be one of .{', .'.join(sorted(kinds))}")


def plot(path: Path, history: Sequence[Report], title: str) -> None:
    """Draw loss, and accuracy where there is one, against the epoch, and write the picture to ``path``."""
    import io

    from matplotlib.figure import Figure

    accuracies = history[0].train_accuracy is not None
    figure = Figure(figsize=(10, 4.2) if accuracies else (6.4, 4.2), layout="constrained")
    axes = figure.subplots(1, 2 if accuracies else 1, squeeze=False)[0]
    figure.suptitle(title)
    _curves(axes[0], history, {"train_loss": "training", "test_loss": "test"}, "loss")
    if accuracies:
        _curves(axes[1], history, {"train_accuracy": "training", "test_accuracy": "test"}, "accuracy")
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=120)
    write_atomically(path, picture.getvalue())


def _curves(axes: Any, history: Sequence[Report], names: Mapping[str, str], what: str) -> None:
    from matplotlib.ticker import MaxNLocator

    marker = "o" if len(history) <= 30 else None
    for (name, label), style in zip(names.items(), ("-", "--"), strict=True):
        points = [(r.epoch, getattr(r, name)) for r in history if getattr(r, name) is not None]
        if points:
            last = f"{label} (last {points[-1][1]:.4f})"
            axes.plot(*zip(*points, strict=True), style, marker=marker, markersize=4, label=last)
    axes.set_xlabel("epoch")
    axes.set_ylabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
