"""Epochs over a data set on the device: a kernel picks each batch, and many steps are one launch.

    gather, step, gather, step, ...      up to 32 of each in one graph

The kernel knows which batch it is from the runs that the plan has counted, and its rows from the seed and the epoch,
so that nothing passes between host and device inside an epoch but losses, when they are asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnet.backend_cuda import CudaBackend
from graphnet.compiler.ir import Type
from graphnet.data.on_device import OnDevice
from graphnet.device import Call, Device, Graph
from graphnet.device_plan import CudaExecutable
from graphnet.fit import Losses
from graphnet.kernels.cuda.gather import BASE, KERNEL, START, WORDS, gather, order, rows_at
from graphnet.plans import Bound, copy_in

if TYPE_CHECKING:
    from graphnet.net import Net

CHUNKS = (32, 4, 1)
"""Steps of one launch, the most that are left."""


def epoch(net: Net, data: OnDevice, size: int, shuffle: bool, drop_last: bool, number: int) -> Iterator[Losses]:
    """Train a net for an epoch in batches of ``size``; yields the losses of one launch after another."""
    full, rest = divmod(len(data), size)
    parts = [(size, full, 0), (rest, 1, full * size)]
    for batch, count, start in parts:
        if not batch or not count or (start and drop_last):
            continue
        words = order(net.seed, number, shuffle, 0, start)
        run = _on_device if isinstance(net.backend, CudaBackend) else _on_host
        for losses in run(net, data, batch, count, words):
            yield [(loss, batch) for loss in losses]


def _on_host(net: Net, data: OnDevice, batch: int, count: int, words: np.ndarray) -> Iterator[list[Any]]:
    start = int(words[START])
    for first in range(start, start + batch * count, batch):
        rows = rows_at(np.arange(first, first + batch), len(data), words)
        yield [net.step(*(a[rows] for a in data.arrays))]


def _on_device(net: Net, data: OnDevice, batch: int, count: int, words: np.ndarray) -> Iterator[list[Any]]:
    with net._lock:
        net._needs_loss()
        feeds = data.feeds.setdefault(net, {})
        if batch not in feeds:
            feeds[batch] = _feed(net, data, batch)
        net._settle()  # a plan that was stopped stops the others, too
        net._load_hyper()
        net._phases = None
        feeds[batch].begin(words)
    while count:
        with net._lock:
            losses = feeds[batch].start(count)
        count -= len(losses)
        yield losses


def in_order(net: Net, data: OnDevice, size: int) -> Iterator[tuple[Any, ...]]:
    """The data set in batches of ``size``, the last one shorter, where it lies for the net."""
    arrays, device = data.arrays, None
    if isinstance(net.backend, CudaBackend):
        device = net.backend.device
        with net._lock:
            net._needs_loss()
            arrays = _placed(net, data, _bound(net, data, "loss", min(size, len(data))))
    for start in range(0, len(data), size):
        rows = slice(start, min(start + size, len(data)))
        yield tuple(a[rows] if device is None else _view(device, a, rows) for a in arrays)


def _view(device: Device, array: Any, rows: slice) -> Any:
    """Rows of a contiguous array of the device, where they lie."""
    type_ = Type((rows.stop - rows.start, *array.shape[1:]), array.dtype.name)
    return device.view(array, type_, rows.start * (array.nbytes // array.shape[0]))


def _bound(net: Net, data: OnDevice, mode: str, batch: int) -> Bound:
    """The plan for batches of a data set."""
    stand_ins = [np.broadcast_to(np.zeros((), a.dtype), (batch, *a.shape[1:])) for a in data.arrays]
    return net._resolve(mode, stand_ins, with_target=True)


def _feed(net: Net, data: OnDevice, batch: int) -> Feed:
    bound = _bound(net, data, "step", batch)
    net._load_hyper()  # again: a new plan may have brought new hyperparameters
    return Feed(bound, _placed(net, data, bound), net.backend)


def _placed(net: Net, data: OnDevice, bound: Bound) -> tuple[Any, ...]:
    """The data set's arrays on the net's device, in the dtypes of the plan's inputs."""
    device = net.backend.device  # type: ignore[attr-defined]
    info = bound.info
    dtypes = tuple(t.dtype for t in (*info.inputs, *((info.target,) if info.target else ())))
    known = data.placed.setdefault(device, {})
    if dtypes not in known:
        found = []
        for array, dtype in zip(data.arrays, dtypes, strict=True):
            found.append(device.allocate(Type(tuple(array.shape), dtype)))
            copy_in(net.backend, found[-1], array)
        known[dtypes] = tuple(found)
    return known[dtypes]


class Feed:
    """The graphs that train one plan on batches of one data set."""

    def __init__(self, bound: Bound, arrays: Sequence[Any], backend: Any) -> None:
        run = bound.run
        assert isinstance(run, CudaExecutable)
        self._run, self._device = run, backend.device
        device: Device = backend.device
        pairs = [(a, own) for a, own in zip(arrays, bound.inputs, strict=True) if own.size]
        widths = [own.nbytes // own.shape[0] for _, own in pairs]
        text, units = gather(arrays[0].shape[0], bound.inputs[0].shape[0], widths)
        self._order = device.allocate(Type((WORDS,), "int64"))
        words = [device.address(self._order), run.note]
        words += [device.address(a) for a, _ in pairs] + [device.address(own) for _, own in pairs]
        call = Call(device.load(text), KERNEL, units, (struct.pack(f"<{len(words)}Q", *words),))
        self._arrays = arrays  # read by the kernel
        self._work = [call, *run.work()]
        self._graphs: dict[int, Graph] = {}

    def begin(self, words: np.ndarray) -> None:
        """Let the next step be the first of the epoch whose order ``words`` tell."""
        words = words.copy()
        words[BASE] = self._run.runs
        self._device.write(self._order, words)

    def start(self, most: int) -> list[Any]:
        """Launch the next steps, ``most`` or as many as a launch has; returns their losses."""
        chunk = next(n for n in CHUNKS if n <= most)
        if chunk not in self._graphs:
            self._graphs[chunk] = self._device.capture(self._work * chunk)
        self._run.make_room(chunk)
        self._graphs[chunk].launch()
        return self._run.started(chunk)
