"""Blocks of a GPU's memory that are filled from the host while the GPU is at other work.

    copies      wait(used)  upload n+1 --copied          wait(used)  upload n+2 --copied
    stream          step n ---used       wait(copied)  step n+1 ---used

The copy waits for the last work at its own block alone, and the work behind it for the copy alone: with two blocks in
turn, the arguments of the next step are under way during a step. No wait in here but ``wait`` and ``finish`` is one of
the host's.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def pinned(cupy: Any, nbytes: int) -> np.ndarray:
    """Bytes of host memory that the GPU reads while Python goes on."""
    memory = cupy.cuda.alloc_pinned_memory(max(1, nbytes))
    return np.frombuffer(memory, np.uint8, nbytes)


class CupyLane:
    """See ``graphnet.device.Lane``; ``copies`` is the stream of uploads, ``stream`` that of all else."""

    def __init__(self, cupy: Any, block: Any, copies: Any, stream: Any) -> None:
        self.host = pinned(cupy, block.nbytes)
        self._to, self._source = int(block.data.ptr), self.host.ctypes.data
        self._copy, self._kind = cupy.cuda.runtime.memcpyAsync, cupy.cuda.runtime.memcpyHostToDevice
        self._copies, self._stream = copies, stream
        # a stream that waits for an event waits for it as it was recorded last, so one of each is enough
        self._copied, self._used = (cupy.cuda.Event(disable_timing=True) for _ in range(2))
        self.used()  # the block is zeroed first

    def wait(self) -> None:
        self._copied.synchronize()

    def upload(self, start: int, nbytes: int) -> None:
        copies = self._copies
        copies.wait_event(self._used)
        self._copy(self._to + start, self._source + start, nbytes, self._kind, copies.ptr)
        self._copied.record(copies)
        self._stream.wait_event(self._copied)

    def used(self) -> None:
        self._used.record(self._stream)

    def finish(self) -> None:
        self._used.synchronize()
