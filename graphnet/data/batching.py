"""Batches: examples in order or shuffled, and parallel streams of a long sequence."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphnet.compiler.errors import DataError

_MASK = (1 << 64) - 1


class Minibatches:
    """The batches of ``minibatches``; ``len`` counts them, and every iteration gives the same ones again."""

    def __init__(
        self,
        arrays: tuple[NDArray[Any], ...],
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        seed: int,
        epoch: int,
    ) -> None:
        self._arrays, self._batch_size = arrays, batch_size
        self._order = (seed, epoch) if shuffle else None
        rows = len(arrays[0])
        self._stop = rows - rows % batch_size if drop_last else rows

    def __len__(self) -> int:
        return -(-self._stop // self._batch_size)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        order = None if self._order is None else permutation(len(self._arrays[0]), *self._order)
        for start in range(0, self._stop, self._batch_size):
            rows = slice(start, start + self._batch_size)
            if order is None:
                yield tuple(array[rows] for array in self._arrays)
            else:
                yield tuple(array[order[rows]] for array in self._arrays)


def minibatches(
    *arrays: ArrayLike,
    batch_size: int,
    shuffle: bool = False,
    drop_last: bool = False,
    seed: int = 0,
    epoch: int = 0,
) -> Minibatches:
    """Batches of the rows of ``arrays``, which have equal length: an iterable of tuples with a ``len``.

    Each tuple holds as many arrays as were given, so a single array comes as ``(a,)``: ``for (a,) in ...``.
    In order, the batches are views of the arrays; shuffled, they are copies, and row i of one array stays
    with row i of the others. The shuffling depends on the number of rows, ``seed`` and ``epoch`` alone, the
    same on every machine and NumPy version; raise ``epoch`` from one epoch to the next to see another
    order. The last batch is shorter when ``batch_size`` does not divide the rows, unless ``drop_last``
    leaves it out.

    Raises DataError: no arrays or rows, unequal lengths, a batch size below 1, ``drop_last`` leaving nothing.
    """
    size = _integer("minibatches", "batch_size", batch_size, least=1)
    order = _integer("minibatches", "seed", seed), _integer("minibatches", "epoch", epoch)
    rows = tuple(_array("minibatches", array) for array in arrays)
    if not rows:
        raise DataError("minibatches: no arrays: pass at least one")
    if any(array.ndim == 0 for array in rows):
        raise DataError("minibatches: a scalar has no rows: pass arrays of one dimension or more")
    lengths = [len(array) for array in rows]
    if len(set(lengths)) > 1:
        raise DataError(f"minibatches: lengths differ {tuple(lengths)}: pass arrays with one row for each example")
    if lengths[0] == 0:
        raise DataError("minibatches: the arrays have no rows: pass at least one example")
    if drop_last and lengths[0] < size:
        raise DataError(
            f"minibatches: {lengths[0]} rows make no full batch of {size}: lower batch_size or leave drop_last out"
        )
    return Minibatches(rows, size, shuffle, drop_last, *order)


class Sequences:
    """The batches of ``sequences``; ``len`` counts them, and every iteration gives the same ones again."""

    def __init__(self, ids: NDArray[np.int32], batch_size: int, steps: int) -> None:
        self._steps = steps
        self._count = (ids.size - 1) // (batch_size * steps)
        used = self._count * batch_size * steps
        self._x = ids[:used].reshape(batch_size, -1)
        self._y = ids[1 : used + 1].reshape(batch_size, -1)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        for start in range(0, self._count * self._steps, self._steps):
            columns = slice(start, start + self._steps)
            yield np.ascontiguousarray(self._x[:, columns]), np.ascontiguousarray(self._y[:, columns])


def sequences(ids: ArrayLike, batch_size: int, steps: int) -> Sequences:
    """Batches for truncated backpropagation through time: an iterable of pairs (x, y) with a ``len``.

    ``ids``, N integers, are cut into ``batch_size`` contiguous streams that are read side by side,
    ``steps`` at a time: x and y are int32 (batch_size, steps), y one place ahead of x, and row b of a batch
    goes on where row b of the batch before it ended. So the state is carried from batch to batch, and reset
    (``net.reset_states()``) before the first. There are floor((N - 1) / (batch_size * steps)) batches; the
    ids left over are not used.

    Raises DataError: ids that are not a 1-D array of integers within int32, or too few of them for one batch.
    """
    batch = _integer("sequences", "batch_size", batch_size, least=1)
    length = _integer("sequences", "steps", steps, least=1)
    array = _array("sequences", ids)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"sequences: ids are {array.dtype}{array.shape}: pass a 1-D array of integers")
    if array.size < batch * length + 1:
        raise DataError(
            f"sequences: {array.size:,} ids are too few for one batch of {batch} x {length}, which needs "
            f"{batch * length + 1:,}: lower batch_size or steps"
        )
    if not np.can_cast(array.dtype, np.int32) and (array.max() > 2**31 - 1 or array.min() < -(2**31)):
        raise DataError("sequences: ids do not fit in int32: number the vocabulary from 0")
    return Sequences(array.astype(np.int32, copy=False), batch, length)


def permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A random order of ``range(count)``, fixed by ``seed`` and ``epoch``.

    Philox's raw numbers are sorted, as ``Generator.permutation`` may change between NumPy releases.
    """
    key = np.array([seed & _MASK, epoch & _MASK], dtype=np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")


def _array(function: str, value: ArrayLike) -> NDArray[Any]:
    try:
        return np.asanyarray(value)
    except ValueError as error:
        raise DataError(f"{function}: not an array ({error}): pass rows of equal shape") from error


def _integer(function: str, name: str, value: object, least: int | None = None) -> int:
    wanted = "an integer" if least is None else f"an integer of {least} or more"
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise DataError(f"{function}: {name} is {value!r}: pass {wanted}") from error
    if isinstance(value, bool) or (least is not None and number < least):
        raise DataError(f"{function}: {name} is {value!r}: pass {wanted}")
    return number
