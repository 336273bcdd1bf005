"""A GPU by CuPy: memory, streams, CUDA graphs, and kernels compiled by NVRTC.

All work goes to one stream, in order. It is an ordinary one, so it and CuPy's default stream wait for each other:
what a user does to arrays with CuPy happens before or after a step, never during it. Two more streams take no part in
that: one copies arguments from the host (``device_lane``), on the other graphs are captured, during which nothing may
be synchronised. CuPy's own kernels are not used where plain copies do, so that nothing but the plan's text is compiled.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.metadata
import itertools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import Type
from graphnet.device import Address, Call, Product, Work
from graphnet.device_cublas import Library, library_or_none
from graphnet.device_lane import CupyLane, pinned
from graphnet.device_nvrtc import compiled
from graphnet.kernels.cuda.phase import THREADS
from graphnet.tensor import user_where

CUDA, MANAGED = 2, 13
"""What DLPack calls GPU memory."""

KERNEL = re.compile(r'extern "C" __global__ void __launch_bounds__\(\w+\) (\w+)\(')

SMALL = 256
"""Bytes up to which a value is written through a ring of pinned memory, without waiting for the device."""
PLACES = 256

INSTALL = "pip install cupy-cuda13x nvmath-python (CUDA 12: cupy-cuda12x)"


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
        self.multiprocessors = self._attribute("cudaDevAttrMultiProcessorCount")
        self._most_shared = self._attribute("cudaDevAttrMaxSharedMemoryPerBlockOptin")
        self._ring = pinned(cupy, SMALL * PLACES)
        self._place = 0

    def _attribute(self, name: str) -> int:
        return int(self._runtime.deviceGetAttribute(getattr(self._runtime, name), self.number))

    @functools.cached_property
    def _library(self) -> Library | None:
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
        if nbytes > self.room()[0]:
            self._cupy.get_default_memory_pool().free_all_blocks()
        try:
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
        free, total = self._runtime.memGetInfo()
        return int(free), int(total)

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
        self._follow()
        return array

    def _follow(self) -> None:
        """Let this device's stream wait for what the user's asked; the default stream needs no help."""
        current = self._cupy.cuda.get_current_stream()
        if current.ptr != 0:
            event = self._cupy.cuda.Event(disable_timing=True)
            event.record(current)
            self._stream.wait_event(event)

    def _lead(self) -> None:
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
        if self.holds(value):
            source = self.taken(value, array.dtype.name)
            self.move(self.address(array), self.address(source), array.nbytes)
            self._lead()
            return
        host = np.empty(array.shape, array.dtype)
        np.copyto(host, value, casting="unsafe")
        if array.nbytes <= SMALL:
            self._write_small(self.address(array), host)
            return
        self._copy(self.address(array), host.ctypes.data, host.nbytes, self._runtime.memcpyHostToDevice)
        self._stream.synchronize()  # host may not be given back before it is read

    def _write_small(self, to: Address, host: np.ndarray) -> None:
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
        if array.strides == result.strides:  # every loss that is read comes this way
            self._copy(result.ctypes.data, self.address(array), array.nbytes, self._runtime.memcpyDeviceToHost)
            self._stream.synchronize()
            return result
        low, high = _span(array.shape, array.strides, array.itemsize)
        block = np.empty(high - low, np.uint8)
        self._copy(block.ctypes.data, self.address(array) + low, block.nbytes, self._runtime.memcpyDeviceToHost)
        self._stream.synchronize()
        result[...] = np.ndarray(array.shape, array.dtype, block, -low, array.strides)
        return result

    def copied(self, array: Any) -> Any:
        low, high = _span(array.shape, array.strides, array.itemsize)
        block = self._cupy.ndarray((max(1, high - low),), np.uint8)  # from CuPy's pool, as the user's own arrays are
        self._follow()
        if high > low:
            self.move(self.address(block), self.address(array) + low, high - low)
        self._lead()
        return self._cupy.ndarray(array.shape, array.dtype, block.data + -low, array.strides)

    def move(self, to: Address, source: Address, nbytes: int) -> None:
        self._copy(to, source, nbytes, self._runtime.memcpyDeviceToDevice)

    def lane(self, block: Any) -> CupyLane:
        return CupyLane(self._cupy, block, self._copies, self._stream)

    def _copy(self, to: Address, source: Address, nbytes: int, kind: int) -> None:
        self._runtime.memcpyAsync(to, source, nbytes, kind, self._stream.ptr)

    # -- running --------------------------------------------------------------------------------------

    def load(self, text: str, pieces: Sequence[str] = ()) -> _Modules:
        files = compiled(self._cupy, pieces or (text,), self.capability)
        modules = []
        for path in files:
            modules.append(self._cupy.cuda.Module())
            modules[-1].load(path.read_bytes())
        names = (KERNEL.findall(piece) for piece in pieces or (text,))
        return _Modules({name: m for m, found in zip(modules, names, strict=True) for name in found})

    def capture(self, work: Sequence[Work]) -> _Captured:
        starts = [self._bound(one) for one in work]  # sets what cannot be set while capturing
        self._recording.begin_capture()
        try:
            for start in starts:
                start(self._recording)
        finally:
            graph = self._recording.end_capture()
        return _Captured(graph, self._stream, work)

    def times(self, work: Sequence[Work]) -> list[float]:
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
        if call.dynamic > self._most_shared:
            raise BackendError(
                f"{user_where()}: kernel {call.kernel} needs {call.dynamic:,} B of shared memory in a block, this GPU "
                f"(compute capability {self.capability}) has {self._most_shared:,}"
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


class _Modules:
    """The kernels of a text, by name, each in the module of its piece."""

    def __init__(self, modules: Mapping[str, Any]) -> None:
        self._modules = modules

    def get_function(self, name: str) -> Any:
        return self._modules[name].get_function(name)


class _Captured:
    """A CUDA graph; keeps the modules that its kernels are in."""

    def __init__(self, graph: Any, stream: Any, work: Sequence[Work]) -> None:
        self._graph, self._stream, self._work = graph, stream, work

    def launch(self) -> None:
        self._graph.launch(self._stream)


def _span(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> tuple[int, int]:
    """The bytes from the first element's address that an array covers: (lowest, end)."""
    if not prod(shape):
        return 0, 0
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + itemsize


def describe() -> list[str]:
    """What ``graphnet info`` says of the GPU, the driver and libraries; raises BackendError without a GPU."""
    cupy = cupy_or_error()
    device = gpu()
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(device.number)["name"].decode()
    free, total = device.room()
    major, minor = device.capability[:-1], device.capability[-1]
    lines = [
        f"{name}, compute capability {major}.{minor}, {device.multiprocessors} multiprocessors, "
        f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    ]
    versions = [
        f"driver {_version(runtime.driverGetVersion())}",
        f"CUDA {_version(runtime.runtimeGetVersion())}",
        f"NVRTC {'.'.join(map(str, cupy.cuda.nvrtc.getVersion()))}",
        f"CuPy {cupy.__version__}",
    ]
    lines.append(", ".join(versions))
    lines.append(device._library.describe() if device._library else f"cuBLAS by nvmath: not found: {INSTALL}")
    return lines


def installed() -> str:
    """The packages for GPUs that are installed."""
    found = []
    for title, names in (("CuPy", ("cupy-cuda13x", "cupy-cuda12x", "cupy")), ("nvmath", ("nvmath-python",))):
        versions = [v for name in names if (v := _installed(name))]
        found.append(f"{title} {versions[0] if versions else 'not installed'}")
    return ", ".join(found)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
