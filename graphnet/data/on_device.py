"""Data sets that lie on the device: batches are picked there, and many steps are one launch."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from graphnet.compiler.errors import DataError


class OnDevice:
    """Arrays for ``net.fit`` and ``net.evaluate`` that are put on the net's device once; see :func:`on_device`.

    ``arrays`` are as they were given, ``len`` counts the rows.
    """

    def __init__(self, arrays: tuple[Any, ...]) -> None:
        self.arrays = arrays
        self.placed: weakref.WeakKeyDictionary[Any, dict[tuple[str, ...], tuple[Any, ...]]]
        self.placed = weakref.WeakKeyDictionary()
        self.feeds: weakref.WeakKeyDictionary[Any, dict[int, Any]] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return int(self.arrays[0].shape[0])

    def __repr__(self) -> str:
        kinds = ", ".join(f"{a.dtype}{tuple(a.shape)}" for a in self.arrays)
        return f"<OnDevice: {kinds}>"


def on_device(*arrays: Any) -> OnDevice:
    """Arrays of equal length, inputs and then the target, as a data set that a net keeps on its device.

    ``net.fit(gn.data.on_device(x, y), batch_size=100, epochs=10)`` copies them to the GPU at first use (in the dtypes
    that the net was compiled for) and picks each batch there. The order of an epoch depends on the number of rows,
    the net's seed and the epoch alone, the same on every device, and is another one than ``minibatches`` has. For a
    net on the CPU they stay where they are. ``net.evaluate`` takes it too, and reads the rows in order.

    Raises DataError: no arrays or rows, or unequal lengths.
    """
    found = tuple(a if hasattr(a, "__dlpack_device__") else np.asarray(a) for a in arrays)
    if not found or any(not a.shape for a in found):
        raise DataError("on_device: pass arrays of one dimension or more, inputs and then the target")
    lengths = tuple(int(a.shape[0]) for a in found)
    if len(set(lengths)) > 1 or not lengths[0]:
        raise DataError(f"on_device: lengths {lengths}: pass arrays with one row for each example, and at least one")
    return OnDevice(found)
