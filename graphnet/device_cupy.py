"""A GPU by CuPy: memory, streams, CUDA graphs, and kernels compiled by NVRTC.

All work goes to one stream, in order. It is an ordinary one, so it and CuPy's default stream wait for each other, and
a stream that the user has made current is made to: what a user does to arrays with CuPy happens before or after a step,
never during it. Two more streams take no part in that: one copies arguments from the host (``device_lane``), on the
other graphs are captured, during which nothing may be synchronised. CuPy's own kernels are not used where plain copies
do, so that nothing but the plan's text is compiled.

Threads may have nets of their own. What these share, the ring, the landing, the stream of captures and cuBLAS, is used
by one thread at a time, with this GPU current in it: the driver's calls take what is current for granted.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import itertools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import Type
from graphnet.device import Address, Call, Product, Work
from graphnet.device_cublas import Library, library_or_none
from graphnet.device_lane import CupyLane, pinned
from graphnet.device_nvrtc import Modules, compiled
from graphnet.kernels.cuda.phase import THREADS
from graphnet.tensor import user_where

CUDA, MANAGED = 2, 13
"""What DLPack calls GPU memory."""

SMALL = 256
"""Bytes up to which a value is written through a ring of pinned memory, without waiting for the device."""
PLACES = 256

LANDING = 1 << 14
"""Bytes up to which a value is read by way of pinned memory, which takes one copy less: losses are."""

TENSOR = 80
"""The compute capability from which on tensor cores take TF32."""

INSTALL = "pip install 'cupy-cuda13x[ctk]' nvmath-python (CUDA 12: 'cupy-cuda12x[ctk]' 'nvmath-python[sysctk12]')"


def no_gpu() -> str:
    """Why this process cannot use a GPU, in a line; empty where it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns of what the calls below find out
            cupy = importlib.import_module("cupy")
    except ImportError as error:
        return f"device 'cuda' needs CuPy ({_reason(error)}): {INSTALL}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"device 'cuda': no GPU can be used: {_reason(error)}: see nvidia-smi"
    return "" if count else "device 'cuda': there is no GPU here: use device='cpu'"


def cupy_or_error() -> Any:
    """The module cupy, if it is installed and finds a GPU; raises BackendError in one line."""
    if line := no_gpu():
        raise BackendError(f"{user_where()}: {line}")
    return importlib.import_module("cupy")


def _reason(error: Exception) -> str:
    """An error of CuPy in one line: it frames some in pages of advice, with what happened at their end."""
    said = str(error).rpartition("Original error:")[2]
    return " ".join(said.replace("=", " ").split())


@functools.cache
def gpu() -> CupyDevice:
    """The GPU that is current in CuPy, one object for all nets of the process; raises BackendError without one."""
    return CupyDevice(cupy_or_error())


class CupyDevice:
    """One GPU; see ``graphnet.device.Device``."""

    name = "cuda"

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._runtime = cupy.cuda.runtime
        self._driver = cupy.cuda.driver
        self.number = self._runtime.getDevice()
        self._stream = cupy.cuda.Stream()
        self._copies = cupy.cuda.Stream(non_blocking=True)
        self._recording = cupy.cuda.Stream(non_blocking=True)
        self.capability = str(cupy.cuda.Device(self.number).compute_capability)
        self.tensor = int(self.capability) >= TENSOR
        self.multiprocessors = self._attribute("cudaDevAttrMultiProcessorCount")
        self.shared = self._attribute("cudaDevAttrMaxSharedMemoryPerBlockOptin")
        self._lock = threading.RLock()
        self._ring, self._landing = pinned(cupy, SMALL * PLACES), pinned(cupy, LANDING)
        self._place = 0

    def _attribute(self, name: str) -> int:
        return int(self._runtime.deviceGetAttribute(getattr(self._runtime, name), self.number))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread is in here meanwhile, and this GPU is current."""
        with self._lock:
            before = self._runtime.getDevice()
            self._runtime.setDevice(self.number)  # also where it is: it makes the GPU's context the thread's
            try:
                yield
            finally:
                if before != self.number:
                    self._runtime.setDevice(before)

    @functools.cached_property
    def _library(self) -> Library | None:
        with self._alone():
            return library_or_none(self)

    @property
    def library(self) -> bool:
        return self._library is not None

    @property
    def fusing(self) -> str:
        model = f"{self.capability} {self.multiprocessors}"
        return f"{self._library.fusing} {model}" if self._library is not None and self._library.fusing else ""

    def fuses(self, product: Product) -> bool:
        return self._library is not None and self._library.fuses(product)

    # -- memory ---------------------------------------------------------------------------------------

    def allocate(self, type_: Type) -> Any:
        """One plain allocation (never managed memory, never CuPy's pool)."""
        nbytes = max(1, type_.nbytes)
        try:
            with self._alone():
                if nbytes > self._runtime.memGetInfo()[0]:
                    self._cupy.get_default_memory_pool().free_all_blocks()
                memory = self._cupy.cuda.Memory(nbytes)
        except self._runtime.CUDARuntimeError as error:
            free, total = self.room()
            raise BackendError(
                f"{user_where()}: {nbytes:,} B of GPU memory cannot be had, {free:,} of {total:,} B are free: {error}"
            ) from None
        pointer = self._cupy.cuda.MemoryPointer(memory, 0)
        self._runtime.memsetAsync(pointer.ptr, 0, nbytes, self._stream.ptr)
        return self._cupy.ndarray(type_.shape, type_.dtype, pointer)

    def view(self, block: Any, type_: Type, offset: int = 0, strides: Sequence[int] | None = None) -> Any:
        steps = tuple(strides) if strides is not None else None
        return self._cupy.ndarray(type_.shape, type_.dtype, block.data + offset, steps)

    def address(self, array: Any) -> Address:
        return int(array.data.ptr)

    def room(self) -> tuple[int, int]:
        with self._alone():
            free, total = self._runtime.memGetInfo()
            # what CuPy's pool holds and nobody uses is given back when it is needed
            return int(free) + int(self._cupy.get_default_memory_pool().free_bytes()), int(total)

    def holds(self, value: Any) -> bool:
        if isinstance(value, self._cupy.ndarray):
            return True
        device = getattr(value, "__dlpack_device__", None)
        return device is not None and int(device()[0]) in (CUDA, MANAGED)

    def taken(self, value: Any, dtype: str | None = None) -> Any:
        array = value if isinstance(value, self._cupy.ndarray) else self._cupy.from_dlpack(value)
        if array.device.id != self.number:
            raise BackendError(
                f"{user_where()}: an argument lies on GPU {array.device.id}, the net on GPU {self.number}: move it"
            )
        if dtype is not None and array.dtype != dtype:
            kind = np.dtype(dtype)
            if kind.kind in "iu" and array.dtype.kind in "iu" and array.dtype.itemsize > kind.itemsize:
                # what does not fit stays out of every range, and is told as an index that is
                limits = np.iinfo(kind)
                array = array.clip(limits.min, limits.max)
            array = array.astype(kind)
        array = self._cupy.ascontiguousarray(array)
        self.follow()
        return array

    def follow(self) -> None:
        """Let this device's stream wait for what the user's asked; the default stream needs no help."""
        current = self._cupy.cuda.get_current_stream()
        if current.ptr != 0:
            event = self._cupy.cuda.Event(disable_timing=True)
            event.record(current)
            self._stream.wait_event(event)

    def lead(self) -> None:
        """Let the user's stream wait for this device's."""
        current = self._cupy.cuda.get_current_stream()
        if current.ptr != 0:
            event = self._cupy.cuda.Event(disable_timing=True)
            event.record(self._stream)
            current.wait_event(event)

    # -- copies ---------------------------------------------------------------------------------------

    def write(self, array: Any, value: Any) -> None:
        if not array.size:
            return
        host, to = np.empty(array.shape, array.dtype), self.address(array)
        dense = host.strides == array.strides
        if self.holds(value):
            source = self.taken(value, array.dtype.name)
            if dense:
                self.move(to, self.address(source), array.nbytes)
                self.lead()
                return
            value = self.read(source)
        inside = host
        if not dense:  # a gradient may lie turned
            host, inside, to = self._around(array)
        np.copyto(inside, value, casting="unsafe")
        if host.nbytes <= SMALL:
            self._write_small(to, host)
            return
        self._copy(to, host.ctypes.data, host.nbytes, self._runtime.memcpyHostToDevice)
        self._stream.synchronize()  # host may not be given back before it is read

    def _write_small(self, to: Address, host: np.ndarray) -> None:
        with self._lock:
            if self._place == PLACES:
                self._stream.synchronize()
                self._place = 0
            place = self._ring[self._place * SMALL :][: host.nbytes]
            self._place += 1
            place[:] = host.reshape(-1).view(np.uint8)
            self._copy(to, place.ctypes.data, place.nbytes, self._runtime.memcpyHostToDevice)

    def read(self, array: Any) -> np.ndarray:
        result = np.empty(array.shape, array.dtype)
        if not array.size:
            return result
        if array.strides == result.strides and array.nbytes <= LANDING:  # every loss that is read comes this way
            with self._lock:
                place = self._landing[: array.nbytes]
                self._copy(place.ctypes.data, self.address(array), place.nbytes, self._runtime.memcpyDeviceToHost)
                self._stream.synchronize()
                result[...] = place.view(array.dtype).reshape(array.shape)
            return result
        if array.strides == result.strides:
            self._copy(result.ctypes.data, self.address(array), array.nbytes, self._runtime.memcpyDeviceToHost)
            self._stream.synchronize()
            return result
        result[...] = self._around(array)[1]
        return result

    def _around(self, array: Any) -> tuple[np.ndarray, np.ndarray, Address]:
        """The bytes that an array reaches over, read from the device; the array in them; and where they begin there."""
        low, high = _span(array.shape, array.strides, array.itemsize)
        block, begin = np.empty(high - low, np.uint8), self.address(array) + low
        self._copy(block.ctypes.data, begin, block.nbytes, self._runtime.memcpyDeviceToHost)
        self._stream.synchronize()
        return block, np.ndarray(array.shape, array.dtype, block, -low, array.strides), begin

    def copied(self, array: Any) -> Any:
        low, high = _span(array.shape, array.strides, array.itemsize)
        with self._alone():
            # from CuPy's pool, as the user's own arrays are
            block = self._cupy.ndarray((max(1, high - low),), np.uint8)
        self.follow()
        if high > low:
            self.move(self.address(block), self.address(array) + low, high - low)
        self.lead()
        return self._cupy.ndarray(array.shape, array.dtype, block.data + -low, array.strides)

    def move(self, to: Address, source: Address, nbytes: int) -> None:
        self._copy(to, source, nbytes, self._runtime.memcpyDeviceToDevice)

    def lane(self, block: Any) -> CupyLane:
        with self._alone():
            return CupyLane(self._cupy, block, self._copies, self._stream)

    def _copy(self, to: Address, source: Address, nbytes: int, kind: int) -> None:
        self._runtime.memcpyAsync(to, source, nbytes, kind, self._stream.ptr)

    # -- running --------------------------------------------------------------------------------------

    def load(self, text: str, pieces: Sequence[str] = ()) -> Modules:
        texts = pieces or (text,)
        files = compiled(self._cupy, texts, self.capability)
        with self._alone():
            return Modules(self._cupy, texts, files)

    def capture(self, work: Sequence[Work]) -> _Captured:
        with self._alone():
            starts = [self._bound(one) for one in work]  # sets what cannot be set while capturing
            self._recording.begin_capture()
            try:
                for start in starts:
                    start(self._recording)
            finally:
                graph = self._recording.end_capture()
        return _Captured(graph, self, work)

    def launch(self, graph: Any) -> None:
        """Start a graph, behind what the user asked of CuPy so far and in front of what is asked from now on."""
        self.follow()
        graph.launch(self._stream)
        self.lead()

    def times(self, work: Sequence[Work]) -> list[float]:
        with self._alone():
            starts = [self._bound(one) for one in work]
            events = [self._cupy.cuda.Event() for _ in range(len(starts) + 1)]
            events[0].record(self._stream)
            for start, event in zip(starts, events[1:], strict=True):
                start(self._stream)
                event.record(self._stream)
        events[-1].synchronize()
        elapsed = self._cupy.cuda.get_elapsed_time
        return [elapsed(a, b) / 1e3 for a, b in itertools.pairwise(events)]

    def synchronize(self) -> None:
        self._stream.synchronize()
        self._copies.synchronize()

    def _bound(self, one: Work) -> Callable[[Any], None]:
        """A function of a stream that starts the work there."""
        if isinstance(one, Product):
            if self._library is None:
                raise BackendError(f"{user_where()}: a plan leaves products to cuBLAS, which was not found here")
            return self._library.bound(one)
        return self._kernel(one)

    def _kernel(self, call: Call) -> Callable[[Any], None]:
        function = call.module.get_function(call.kernel)
        driver, grid = self._driver, call.grid
        if call.dynamic > self.shared:
            raise BackendError(
                f"{user_where()}: kernel {call.kernel} needs {call.dynamic:,} B of shared memory in a block, this GPU "
                f"(compute capability {self.capability}) has {self.shared:,}"
            )
        if call.dynamic:
            driver.funcSetAttribute(function.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, call.dynamic)
        if call.cooperative:
            grid = min(grid, self._resident(function, call))
        buffers = [ctypes.create_string_buffer(a, len(a)) for a in call.arguments]
        pointers = (ctypes.c_void_p * len(buffers))(*(ctypes.addressof(b) for b in buffers))

        def start(stream: Any) -> None:
            given = (function.ptr, grid, 1, 1, THREADS, 1, 1, call.dynamic, stream.ptr, ctypes.addressof(pointers))
            if call.cooperative:
                driver.launchCooperativeKernel(*given)
            else:
                driver.launchKernel(*given, 0)

        start.__dict__["buffers"] = buffers  # pointed to by ``pointers``
        return start

    def _resident(self, function: Any, call: Call) -> int:
        """How many blocks of a kernel the GPU holds at once."""
        each = self._driver.occupancyMaxActiveBlocksPerMultiprocessor(function.ptr, THREADS, call.dynamic)
        if not each:
            raise BackendError(f"{user_where()}: kernel {call.kernel} does not fit a multiprocessor of this GPU")
        return int(each) * self.multiprocessors


class _Captured:
    """A CUDA graph; keeps the modules that its kernels are in."""

    def __init__(self, graph: Any, device: CupyDevice, work: Sequence[Work]) -> None:
        self._graph, self._device, self._work = graph, device, work

    def launch(self) -> None:
        self._device.launch(self._graph)


def _span(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> tuple[int, int]:
    """The bytes from the first element's address that an array covers: (lowest, end)."""
    if not prod(shape):
        return 0, 0
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + itemsize
