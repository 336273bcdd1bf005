"""A call's arguments on their way to a device: through pinned memory, or read where they lie.

NumPy            copied to pinned memory, from there to a block of the plan's inputs while Python goes on
on the device    copied to the block; when the same place is given again, a graph is captured that reads it there

Blocks take turns, so that one is filled while the device still reads the other. Each has a graph of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnet.compiler.ir import Type
from graphnet.device import Address, Device, Graph

KEPT = 8
"""Graphs kept for arguments at places of their own."""

STALE = 256
"""Calls after which a kept graph that was not used may make room for another."""

ALIGNMENT = 16
"""What kernels take for granted of an input's address."""

Places = tuple[Address, ...]
"""Where a graph reads each argument."""


@dataclass(frozen=True)
class Place:
    """An input of a plan: its storage, its type, and where it lies in a block of inputs."""

    storage: int
    type: Type
    offset: int


class _Block:
    """A block of inputs with its way from the host, a view there for each input, and the graph that reads them."""

    def __init__(self, device: Device, memory: Any, places: Sequence[Place]) -> None:
        self.lane = device.lane(memory)
        self.nbytes = int(memory.nbytes)
        pieces = (self.lane.host[p.offset : p.offset + p.type.nbytes] for p in places)
        self.views = [piece.view(p.type.dtype).reshape(p.type.shape) for piece, p in zip(pieces, places, strict=True)]
        base = device.address(memory)
        self.addresses: Places = tuple(base + p.offset for p in places)
        self.graph: Graph | None = None
        self.held: list[Any] = []  # arguments that a run may still be reading


class Arguments:
    """Takes the arguments of calls of one plan."""

    def __init__(
        self,
        device: Device,
        places: Sequence[Place],
        blocks: Sequence[Any],
        written: Sequence[tuple[Address, int]],
        capture: Callable[[Mapping[int, Address]], Graph],
    ) -> None:
        """``blocks`` are memory for the plan's inputs; ``capture`` makes its graph on storages at other addresses.

        ``written`` are address and bytes of what the plan writes.
        """
        self._device, self._places, self._written, self._capture = device, places, written, capture
        self._blocks = [_Block(device, memory, places) for memory in blocks]
        self._graphs: OrderedDict[Places, tuple[Graph, int]] = OrderedDict()
        self._seen: OrderedDict[Places, None] = OrderedDict()
        self._calls = 0

    def start(self, args: Sequence[Any]) -> bool:
        """Launch the plan on these arguments; False if one does not fit as it is, and then nothing was launched."""
        if len(args) != len(self._places):
            return False
        block = self._blocks[self._calls % len(self._blocks)]
        block.lane.wait()
        if block.held:
            block.lane.finish()
            block.held = []
        addresses = self._taken(args, block)
        if addresses is None:
            return False
        self._calls += 1
        if addresses == block.addresses:
            if block.nbytes:
                block.lane.upload(0, block.nbytes)
            graph = self.graph(block)
        else:
            graph = self._there(addresses, block)
        graph.launch()
        block.lane.used()
        return True

    def used(self) -> None:
        """Tell that work outside of ``start``, which was asked for, may be at the first block."""
        self._blocks[0].lane.used()

    def graph(self, block: _Block | None = None) -> Graph:
        """The graph on a block, by default the first."""
        block = block or self._blocks[0]
        if block.graph is None:
            block.graph = self._capture(self._moved(block.addresses))
        return block.graph

    def _moved(self, addresses: Places) -> dict[int, Address]:
        return {p.storage: address for p, address in zip(self._places, addresses, strict=True)}

    def _taken(self, args: Sequence[Any], block: _Block) -> Places | None:
        """Where each argument is to be read: on the device, or in the block, those from the host being in its lane."""
        addresses = list(block.addresses)
        for i, (view, value) in enumerate(zip(block.views, args, strict=True)):
            if isinstance(value, np.ndarray):
                if not _fill(view, value):
                    return None
                continue
            if not self._device.holds(value) or tuple(value.shape) != view.shape:
                return None
            array = self._device.taken(value)
            if array.dtype != view.dtype:
                if not _convertible(array.dtype, view.dtype):
                    return None
                array = self._device.taken(array, view.dtype.name)
            if view.size:
                addresses[i] = self._device.address(array)
            block.held.append(array)
        return tuple(addresses)

    def _there(self, addresses: Places, block: _Block) -> Graph:
        """A graph for arguments on the device: one that reads them there, or the block's own after a copy."""
        from_host = [at == own for at, own in zip(addresses, block.addresses, strict=True)]
        for p, here in zip(self._places, from_host, strict=True):
            if here and p.type.size:
                block.lane.upload(p.offset, p.type.nbytes)
        found = self._graphs.get(addresses)
        if found is None and addresses in self._seen and self._readable(addresses) and self._has_room():
            found = self._capture(self._moved(addresses)), self._calls
        if found is not None:
            self._graphs[addresses] = found[0], self._calls
            self._graphs.move_to_end(addresses)
            return found[0]
        self._seen[addresses] = None
        if len(self._seen) > STALE:
            self._seen.popitem(last=False)
        for p, here, source, own in zip(self._places, from_host, addresses, block.addresses, strict=True):
            if not here:
                self._device.move(own, source, p.type.nbytes)
        return self.graph(block)

    def _readable(self, addresses: Places) -> bool:
        """Whether a plan may read its arguments there: aligned, and nowhere that it writes."""
        for p, start in zip(self._places, addresses, strict=True):
            if start % ALIGNMENT or any(start < at + n and at < start + p.type.nbytes for at, n in self._written):
                return False
        return True

    def _has_room(self) -> bool:
        """Whether one more graph may be kept, at the cost of one that was not used for long."""
        if len(self._graphs) < KEPT:
            return True
        oldest, (_, used) = next(iter(self._graphs.items()))
        if self._calls - used < STALE:
            return False
        del self._graphs[oldest]
        return True


def _fill(view: np.ndarray, value: np.ndarray) -> bool:
    """Copy an argument of the same shape and a dtype that the plan's takes; False for any other."""
    if value.shape != view.shape:
        return False
    if value.dtype == view.dtype:
        view[...] = value
        return True
    if not _convertible(value.dtype, view.dtype):
        return False
    view[...] = value
    return view.dtype.kind == "f" or np.count_nonzero(view == value) == view.size


def _convertible(given: np.dtype, wanted: np.dtype) -> bool:
    """Whether values of a dtype may become those of another on their way: floats do, and integers that fit."""
    return given.kind in "iuf" and (given.kind == "f") == (wanted.kind == "f") and wanted.kind in "iuf"
