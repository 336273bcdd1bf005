"""``net.fit``: the training loop for those who want it written for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnet.compiler.errors import DataError
from graphnet.data import minibatches
from graphnet.tensor import user_where

if TYPE_CHECKING:
    from graphnet.net import Net


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
    validation: tuple[Any, ...] | None = None,
    drop_last: bool = False,
    initial_epoch: int = 0,
    callback: Callable[[int, Mapping[str, float]], Any] | None = None,
    verbose: bool = True,
) -> History:
    """Train for ``epochs`` passes over the arrays and return the ``History``.

    ``x`` and ``y`` are arrays (or tuples of arrays for several inputs) of equal length; ``batch_size`` defaults
    to the compiled one; the ragged last batch is trained on unless ``drop_last``. Batches are shuffled by
    (seed, epoch), so a run resumed with ``initial_epoch`` repeats what an unbroken one does. ``callback``
    gets (epoch, values) after each epoch and may return False to stop. Losses are means over samples.
    """
    arrays = _arrays(x, y)
    size = batch_size or _compiled_batch(net)
    history = History()
    for epoch in range(initial_epoch, initial_epoch + epochs):
        batches = _batches(arrays, batch_size=size, shuffle=shuffle, drop_last=drop_last, seed=net.seed, epoch=epoch)
        values = {"loss": _epoch(net, batches, epoch, initial_epoch + epochs, verbose)}
        if validation is not None:
            values["val_loss"] = evaluate(net, *validation, batch_size=size)
        history.add(values)
        if callback is not None and callback(epoch, values) is False:
            break
    return history


def evaluate(net: Net, x: Any, y: Any = None, batch_size: int | None = None) -> float:
    """The mean loss over samples in inference mode."""
    total, count = 0.0, 0
    for batch in _batches(_arrays(x, y), batch_size=batch_size or _compiled_batch(net)):
        total += net.loss(*batch) * len(batch[0])
        count += len(batch[0])
    return total / count


def _arrays(x: Any, y: Any) -> list[np.ndarray]:
    inputs = list(x) if isinstance(x, tuple) else [x]
    return [np.asarray(a) for a in (*inputs, *(() if y is None else (y,)))]


def _batches(arrays: list[np.ndarray], **options: Any) -> Any:
    try:
        return minibatches(*arrays, **options)
    except DataError as error:
        raise DataError(f"{user_where()}: {error}") from None


def _compiled_batch(net: Net) -> int:
    shape = net.input_types[0].shape if net.input_types else ()
    if not shape:
        raise DataError(f"{user_where()}: fit: the compiled input has no batch axis: give batch_size=")
    return shape[0]


def _epoch(net: Net, batches: Any, epoch: int, last: int, verbose: bool) -> float:
    from tqdm import tqdm

    total, count = 0.0, 0
    hidden = not verbose or not sys.stderr.isatty()
    with tqdm(batches, desc=f"epoch {epoch + 1}/{last}", unit="batch", disable=hidden, leave=False) as bar:
        for batch in bar:
            loss = net.step(*batch)
            total += loss * len(batch[0])
            count += len(batch[0])
            bar.set_postfix(loss=f"{total / count:.4f}", refresh=False)
    mean = total / max(count, 1)
    if verbose:
        print(f"epoch {epoch + 1}/{last}: loss {mean:.4f}", file=sys.stderr)
    return mean
