"""``net.fit``: the training loop for those who want it written for them."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnet.compiler.errors import DataError, NameError_
from graphnet.data import OnDevice, minibatches
from graphnet.data.suggest import suggest
from graphnet.tensor import user_where

if TYPE_CHECKING:
    from graphnet.net import Net

Losses = Sequence[tuple[Any, int]]
"""Losses of steps, each with its number of samples."""


@dataclass
class History:
    """What ``fit`` recorded: a list of values an epoch under "loss" and, with validation data, "val_loss"."""

    history: dict[str, list[float]] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]


def fit(
    net: Net,
    x: Any,
    y: Any = None,
    epochs: int = 1,
    batch_size: int | None = None,
    shuffle: bool = True,
    validation: tuple[Any, ...] | OnDevice | None = None,
    drop_last: bool = False,
    initial_epoch: int = 0,
    callback: Callable[[int, Mapping[str, float]], Any] | None = None,
    verbose: bool = True,
) -> History:
    """Train for ``epochs`` passes over the arrays and return the ``History``.

    ``x`` and ``y`` are arrays (or tuples of arrays for several inputs) of equal length, or ``x`` alone is a data
    set that lies on the device, ``gn.data.on_device(x, y)``; ``batch_size`` defaults to the compiled one;
    the ragged last batch is trained on unless ``drop_last``. Batches are shuffled by
    (seed, epoch), so a run resumed with ``initial_epoch`` repeats what an unbroken one does. ``callback``
    gets (epoch, values) after each epoch and may return False to stop. ``validation`` is what ``evaluate`` takes, as a
    tuple (x, y), or a data set on the device. Losses are means over samples.
    """
    size = _batch_size("fit", net, batch_size)
    _at_least("fit", "epochs", epochs, 0)
    steps = _steps(net, x, y, size, shuffle, drop_last)
    history = History()
    for epoch in range(initial_epoch, initial_epoch + epochs):
        values = {"loss": _epoch(steps(epoch), epoch, initial_epoch + epochs, verbose)}
        if validation is not None:
            held_out = (validation,) if isinstance(validation, OnDevice) else validation
            values["val_loss"] = evaluate(net, *held_out, batch_size=size)
        history.add(values)
        if callback is not None and callback(epoch, values) is False:
            break
    return history


OPTIONS = tuple(inspect.signature(fit).parameters)[3:]


def check_options(given: Iterable[str]) -> None:
    """Raises NameError for an option that ``fit`` does not have."""
    for name in given:
        if name not in OPTIONS:
            raise NameError_(f"{user_where()}: fit: {suggest('option', name, OPTIONS)}")


def evaluate(net: Net, x: Any, y: Any = None, batch_size: int | None = None) -> float:
    """The mean loss over samples in inference mode.

    ``x`` and ``y`` are as ``fit`` takes them: arrays, or ``x`` alone a data set on the device. Raises DataError.
    """
    size = _batch_size("evaluate", net, batch_size)
    total, count = 0.0, 0
    if isinstance(x, OnDevice):
        _alone("evaluate", y)
        from graphnet.device_feed import in_order  # and with it the CUDA backend

        batches = in_order(net, x, size)
    else:
        batches = _batches(_arrays(x, y), batch_size=size)
    for batch in batches:
        rows = int(batch[0].shape[0])
        total += net.loss(*batch) * rows
        count += rows
    return total / count


def _alone(call: str, y: Any) -> None:
    if y is not None:
        raise DataError(f"{user_where()}: {call}: a data set on the device holds its target: leave y out")


def _arrays(x: Any, y: Any) -> list[np.ndarray]:
    inputs = list(x) if isinstance(x, tuple) else [x]
    return [np.asarray(a) for a in (*inputs, *(() if y is None else (y,)))]


def _batches(arrays: list[np.ndarray], **options: Any) -> Any:
    try:
        return minibatches(*arrays, **options)
    except DataError as error:
        raise DataError(f"{user_where()}: {error}") from None


def _batch_size(call: str, net: Net, given: int | None) -> int:
    """The batch size that was given, or else the compiled one."""
    if given is not None:
        return _at_least(call, "batch_size", given, 1)
    shape = net.input_types[0].shape if net.input_types else ()
    if not shape:
        raise DataError(f"{user_where()}: {call}: the compiled input has no batch axis: give batch_size=")
    return shape[0]


def _at_least(call: str, name: str, given: int, least: int) -> int:
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
        raise DataError(f"{user_where()}: {call}: {name} must be an integer of at least {least}, got {given!r}")
    return int(given)


def _steps(
    net: Net, x: Any, y: Any, size: int, shuffle: bool, drop_last: bool
) -> Callable[[int], tuple[int, Iterable[Losses]]]:
    """A function of an epoch's number: how many batches it has, and the losses of its steps as they are started."""
    if isinstance(x, OnDevice):
        _alone("fit", y)
        if drop_last and len(x) < size:
            raise DataError(f"{user_where()}: fit: {len(x)} rows make no full batch of {size}: lower batch_size")
        count = len(x) // size if drop_last else -(-len(x) // size)
        from graphnet.device_feed import epoch as on_device  # and with it the CUDA backend

        return lambda epoch: (count, on_device(net, x, size, shuffle, drop_last, epoch))
    arrays = _arrays(x, y)

    def steps(epoch: int) -> tuple[int, Iterable[Losses]]:
        batches = _batches(arrays, batch_size=size, shuffle=shuffle, drop_last=drop_last, seed=net.seed, epoch=epoch)
        return len(batches), ([(net.step(*batch), len(batch[0]))] for batch in batches)

    return steps


def _epoch(steps: tuple[int, Iterable[Losses]], epoch: int, last: int, verbose: bool) -> float:
    """The mean loss of an epoch. Losses are looked at once a while and at its end: a GPU need not wait for that."""
    from tqdm import tqdm

    count, losses = steps
    hidden = not verbose or not sys.stderr.isatty()
    unread: list[tuple[Any, int]] = []
    total, samples, due = 0.0, 0, 0.0
    with tqdm(total=count, desc=f"epoch {epoch + 1}/{last}", unit="batch", disable=hidden, leave=False) as bar:
        for some in losses:
            unread += some
            bar.update(len(some))
            if len(unread) > _UNREAD or (not hidden and time.monotonic() > due):
                total, samples = _added(unread, total, samples)
                unread, due = [], time.monotonic() + _SECONDS
                bar.set_postfix(loss=f"{total / samples:.4f}", refresh=False)
    total, samples = _added(unread, total, samples)
    mean = total / max(samples, 1)
    if verbose:
        print(f"epoch {epoch + 1}/{last}: loss {mean:.4f}", file=sys.stderr)
    return mean


_UNREAD = 512
"""Losses after which they are read."""
_SECONDS = 0.2
"""How often the progress bar shows the loss."""


def _added(losses: Losses, total: float, samples: int) -> tuple[float, int]:
    """The sum of losses times samples, and of samples, with these added."""
    for loss, n in losses:
        total += float(loss) * n
        samples += n
    return total, samples
