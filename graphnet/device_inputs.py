"""A call's arguments on their way to a device: through pinned memory, or read where they lie.

NumPy            copied to one of two pinned buffers, from there to the plan's inputs while Python goes on
on the device    copied to the plan's inputs; when the same place is given again, a graph is captured that
                 reads it there
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnet.compiler.ir import Type
from graphnet.device import Address, Device, Graph, Mark

BUFFERS = 2
"""Pinned buffers: one is filled while the other is still being read."""

KEPT = 8
"""Graphs kept for arguments at places of their own."""

STALE = 256
"""Calls after which a kept graph that was not used may make room for another."""

ALIGNMENT = 16
"""What kernels take for granted of an input's address."""

Places = tuple[Address, ...]
"""The address of each argument on the device, 0 for those that came from the host."""


@dataclass(frozen=True)
class Place:
    """An input of a plan: its storage, its type, where its own memory lies in the block of inputs, and as an array."""

    storage: int
    type: Type
    offset: int
    own: Any


class _Buffer:
    """A pinned buffer with a view for each input, and the mark after which it may be filled again."""

    def __init__(self, memory: np.ndarray, places: Sequence[Place]) -> None:
        self.memory = memory
        self.views = [
            memory[p.offset : p.offset + p.type.nbytes].view(p.type.dtype).reshape(p.type.shape) for p in places
        ]
        self.mark: Mark | None = None
        self.held: tuple[Any, ...] = ()  # arguments that a run may still be reading


class Arguments:
    """Takes the arguments of calls of one plan."""

    def __init__(
        self,
        device: Device,
        places: Sequence[Place],
        block: Any,
        written: Sequence[tuple[Address, int]],
        own: Callable[[], Graph],
        capture: Callable[[Mapping[int, Address]], Graph],
    ) -> None:
        """``block`` holds the plan's inputs; ``own`` is its graph on them, ``capture`` makes it for other addresses.

        ``written`` are address and bytes of what the plan writes.
        """
        self._device, self._places, self._written = device, places, written
        self._own, self._capture = own, capture
        self._base = device.address(block)
        self._buffers = [_Buffer(device.staging(block.nbytes), places) for _ in range(BUFFERS)]
        self._graphs: OrderedDict[Places, tuple[Graph, int]] = OrderedDict()
        self._seen: OrderedDict[Places, None] = OrderedDict()
        self._calls = 0

    def start(self, args: Sequence[Any]) -> bool:
        """Launch the plan on these arguments; False if one does not fit as it is, and then nothing was launched."""
        if len(args) != len(self._places):
            return False
        buffer = self._buffers[self._calls % BUFFERS]
        if buffer.mark is not None:
            buffer.mark.wait()
            buffer.mark = None
        found = self._taken(args, buffer)
        if found is None:
            return False
        addresses, buffer.held = found
        self._calls += 1
        if not any(addresses):
            if buffer.memory.nbytes:
                self._device.upload(self._base, buffer.memory)
            graph = self._own()
        else:
            for p, view, address in zip(self._places, buffer.views, addresses, strict=True):
                if not address and p.type.size:
                    self._device.upload(self._base + p.offset, view.reshape(-1).view(np.uint8))
            graph = self._there(addresses)
        graph.launch()
        buffer.mark = self._device.mark()
        return True

    def _taken(self, args: Sequence[Any], buffer: _Buffer) -> tuple[Places, tuple[Any, ...]] | None:
        """Where each argument lies, those of the host in the buffer; and what is to be kept alive meanwhile."""
        addresses, held = [], []
        for p, view, value in zip(self._places, buffer.views, args, strict=True):
            if isinstance(value, np.ndarray):
                if not _fill(view, value):
                    return None
                addresses.append(0)
                continue
            if not self._device.holds(value) or tuple(value.shape) != p.type.shape:
                return None
            array = self._device.taken(value)
            kind = np.dtype(p.type.dtype)
            if array.dtype != kind:
                if not (array.dtype.kind in "iu" and kind.kind in "iu"):
                    return None
                array = self._device.taken(array, p.type.dtype)
            addresses.append(self._device.address(array) if p.type.size else 0)
            held.append(array)
        return tuple(addresses), tuple(held)

    def _there(self, addresses: Places) -> Graph:
        """A graph for arguments on the device: one that reads them there, or the plan's own after a copy."""
        found = self._graphs.get(addresses)
        if found is None and addresses in self._seen and self._readable(addresses) and self._has_room():
            moved = {p.storage: a for p, a in zip(self._places, addresses, strict=True) if a}
            found = self._capture(moved), self._calls
        if found is not None:
            self._graphs[addresses] = found[0], self._calls
            self._graphs.move_to_end(addresses)
            return found[0]
        self._seen[addresses] = None
        if len(self._seen) > STALE:
            self._seen.popitem(last=False)
        for p, address in zip(self._places, addresses, strict=True):
            if address:
                self._device.move(self._base + p.offset, address, p.type.nbytes)
        return self._own()

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
    """Copy an argument of the same shape and dtype, or of integers that fit; False for any other."""
    if value.shape != view.shape:
        return False
    if value.dtype == view.dtype:
        np.copyto(view, value)
        return True
    if value.dtype.kind not in "iu" or view.dtype.kind not in "iu":
        return False
    np.copyto(view, value, casting="unsafe")
    return bool((view == value).all())
