"""A CuPy that only plays a GPU, for tests of what is asked of the device and when it is waited for.

Its streams do nothing until somebody waits for them, so a buffer that is filled again too early, or memory that is
given back while it is in use, shows as wrong numbers. Or those that are apart from the others do all at once
(``early``), so that a copy that did not wait shows as well. Kernels are run by the emulator.
"""

from __future__ import annotations

import ctypes
import sys
import types
from typing import ClassVar

import numpy as np
import pytest

from graphnet import device_cupy
from graphnet.kernels.cuda import emulator

SPECIAL = 1 << 40
"""Functions and streams have numbers from here on, which are nobody's address."""


class FakeRuntimeError(RuntimeError):
    pass


class Memory:
    def __init__(self, size):
        raw = np.full(size + 256, 0xAB, np.uint8)  # never zero by chance
        self.bytes = raw[-raw.ctypes.data % 256 :][:size]


class MemoryPointer:
    def __init__(self, mem, offset):
        self.mem, self.ptr, self._offset = mem, mem.bytes.ctypes.data + offset, offset

    def __add__(self, offset):
        return MemoryPointer(self.mem, self._offset + offset)


class Array:
    """cupy.ndarray: no NumPy array, so that nothing passes for one."""

    device = types.SimpleNamespace(id=0)

    def __init__(self, shape, dtype, memptr=None, strides=None):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.size, self.ndim = int(np.prod(self.shape)), len(self.shape)
        self.itemsize, self.nbytes = self.dtype.itemsize, self.size * self.dtype.itemsize
        self.data = memptr or MemoryPointer(Memory(max(1, self.nbytes)), 0)
        inner = np.empty(self.shape, self.dtype).strides
        self.strides = tuple(strides) if strides is not None else inner

    def get(self):
        """Its values as they are in memory now."""
        interface = {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3}
        interface["strides"] = self.strides
        return np.asarray(types.SimpleNamespace(__array_interface__=interface, keep=self)).copy()

    def astype(self, dtype):
        return on_gpu(self.get().astype(dtype))

    def clip(self, low, high):
        return on_gpu(self.get().clip(low, high))

    def __dlpack_device__(self):
        return (2, 0)

    def __array__(self, *_):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


def on_gpu(values):
    values = np.ascontiguousarray(values)
    array = Array(values.shape, values.dtype)
    ctypes.memmove(array.data.ptr, values.ctypes.data, values.nbytes)
    return array


class Stream:
    """A queue of functions, and of places in other streams that are waited for."""

    def __init__(self, null=False, non_blocking=False, log=None):
        self.ptr, self.queue, self.captured = 0 if null else SPECIAL + len(FakeCupy.streams), [], None
        self.apart = non_blocking
        FakeCupy.streams[self.ptr] = self

    def add(self, what):
        (self.queue if self.captured is None else self.captured).append(what)
        hurry()

    def step(self):
        what = self.queue[0]
        if isinstance(what, Place):
            what.reach()  # until then it stays in the queue and holds it up
            if self.queue[:1] != [what]:
                return
        self.queue.pop(0)
        if not isinstance(what, Place):
            what()
        hurry()

    def drain(self):
        while self.queue:
            self.step()

    def synchronize(self):
        FakeCupy.log.append("synchronize")
        self.drain()

    def begin_capture(self):
        self.captured = []

    def end_capture(self):
        found, self.captured = self.captured, None
        FakeCupy.log.append(f"capture {len(found)}")
        return types.SimpleNamespace(launch=lambda stream: self._launched(found, stream))

    def _launched(self, found, stream):
        FakeCupy.log.append("graph")
        for what in found:
            stream.add(what)

    def wait_event(self, event):
        FakeCupy.log.append("stream waits")
        if event.place is not None:
            self.add(event.place)


class Place:
    """A place in a stream."""

    def __init__(self, stream):
        self.stream, self.passed = stream, False

    def reach(self):
        while not self.passed:
            self.stream.step()


def hurry():
    """With ``FakeCupy.early``, streams that are apart from the others go on as far as nothing holds them up."""
    for stream in [s for s in FakeCupy.streams.values() if s.apart] if FakeCupy.early else ():
        while stream.queue and getattr(stream.queue[0], "passed", True):
            stream.step()


class Event:
    """Waiting for it is waiting for where it was recorded last."""

    def __init__(self, disable_timing=False):
        self.place = None

    def record(self, stream):
        FakeCupy.log.append("event")
        self.place = place = Place(stream)
        stream.add(lambda: setattr(place, "passed", True))

    def synchronize(self):
        if self.place is not None and not self.place.passed:
            FakeCupy.log.append("wait for event")
            self.place.reach()


class Module:
    def load(self, code):
        self.text = emulator.load(code.decode())

    def get_function(self, name):
        found = types.SimpleNamespace(ptr=SPECIAL + len(FakeCupy.functions))
        FakeCupy.functions[found.ptr] = self.text, name
        return found


class FakeCupy:
    """What device_cupy asks of the module cupy. ``log`` tells what was asked, ``free`` is the room there is beside the
    ``pooled`` bytes that CuPy's pool holds for later.

    ``early`` says that streams apart from the others do at once what they are asked. ``device`` is the GPU that is
    current, of one thread alone.
    """

    log: ClassVar[list] = []
    streams: ClassVar[dict] = {}
    functions: ClassVar[dict] = {}
    grids: ClassVar[list] = []
    pinned: ClassVar[list] = []
    free, pooled = 1 << 34, 0
    early = False
    ndarray = Array
    on_gpu = staticmethod(on_gpu)
    Error = FakeRuntimeError
    __version__ = "14.0.0"

    def __init__(self):
        FakeCupy.log, FakeCupy.grids, FakeCupy.pinned, FakeCupy.free = [], [], [], 1 << 34
        FakeCupy.pooled = self.device = 0
        FakeCupy.streams, FakeCupy.functions, FakeCupy.early = {}, {}, False
        runtime = types.SimpleNamespace(
            CUDARuntimeError=FakeRuntimeError,
            cudaDevAttrMultiProcessorCount=16,
            cudaDevAttrMaxSharedMemoryPerBlockOptin=97,
            memcpyHostToDevice="upload",
            memcpyDeviceToHost="download",
            memcpyDeviceToDevice="move",
            getDeviceCount=lambda: 1,
            getDevice=lambda: self.device,
            setDevice=self.set_device,
            memGetInfo=lambda: (FakeCupy.free, 1 << 35),
            deviceGetAttribute=lambda attribute, device: {16: 3, 97: 99_000}[attribute],
            memsetAsync=lambda p, value, n, s: self.streams[s].add(lambda: ctypes.memset(p, value, n)),
            memcpyAsync=self.copy,
        )
        driver = types.SimpleNamespace(
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
            funcSetAttribute=lambda f, attribute, value: self.log.append(f"dynamic {value}"),
            occupancyMaxActiveBlocksPerMultiprocessor=lambda f, block, dynamic: 2,
            launchKernel=lambda *given: self.launch(False, *given[:-1]),
            launchCooperativeKernel=lambda *given: self.launch(True, *given),
        )
        nvrtc = types.SimpleNamespace(
            NVRTCError=FakeRuntimeError,
            getVersion=lambda: (13, 0),
            getSupportedArchs=lambda: (80, 90),
            createProgram=lambda text, name, headers, names: text,
            compileProgram=lambda program, flags: self.log.append("compile"),
            getCUBIN=lambda program: program.encode(),
            destroyProgram=lambda program: None,
        )
        self.cuda = types.SimpleNamespace(
            runtime=runtime,
            driver=driver,
            nvrtc=nvrtc,
            Memory=Memory,
            MemoryPointer=MemoryPointer,
            Stream=Stream,
            Event=Event,
            Module=Module,
            Device=lambda number: types.SimpleNamespace(compute_capability="90"),
            alloc_pinned_memory=self.pin,
            get_current_stream=lambda: self.current,
            get_elapsed_time=lambda a, b: 1.0,
        )
        self.current = Stream(null=True)

    @staticmethod
    def ascontiguousarray(array):
        return array

    @staticmethod
    def from_dlpack(value):
        return value.array

    @staticmethod
    def get_default_memory_pool():
        return types.SimpleNamespace(free_bytes=lambda: FakeCupy.pooled, free_all_blocks=FakeCupy.give_back)

    @staticmethod
    def give_back():
        FakeCupy.free, FakeCupy.pooled = FakeCupy.free + FakeCupy.pooled, 0

    def set_device(self, number):
        self.device = number

    def pin(self, size):
        self.pinned.append(np.zeros(size, np.uint8))
        return self.pinned[-1]

    def copy(self, to, source, n, kind, stream):
        self.log.append(kind)
        self.streams[stream].add(lambda: ctypes.memmove(to, source, n))
        if kind == "download" and not any(0 <= to - p.ctypes.data < p.size for p in self.pinned):
            self.streams[stream].drain()

    def launch(self, cooperative, f, grid, gy, gz, block, by, bz, dynamic, stream, parameters):
        text, name = self.functions[f]
        FakeCupy.grids.append(grid)
        pointers = ctypes.cast(parameters, ctypes.POINTER(ctypes.c_void_p))
        given = [ctypes.string_at(pointers[i], n) for i, n in enumerate(text._sizes[name])]
        run = lambda: text.launch(name, grid, given, dynamic=dynamic, cooperative=cooperative)  # noqa: E731
        self.streams[stream].add(run)


@pytest.fixture
def gpu(monkeypatch):
    """A CuPy that plays a GPU, in the place of the real one; nvmath is missing."""
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(sys.modules, "nvmath", None)
    device_cupy.gpu.cache_clear()
    yield fake
    device_cupy.gpu.cache_clear()


class FakeCublas:
    """cublasGemmEx and its like as their manual has them: column-major, on addresses."""

    ComputeType = types.SimpleNamespace(
        COMPUTE_32F=68, COMPUTE_32F_FAST_TF32=77, COMPUTE_32F_FAST_16BF=75, COMPUTE_64F=70
    )
    Operation = types.SimpleNamespace(N=0, T=1)
    GemmAlgo = types.SimpleNamespace(DFALT=-1)

    def __init__(self, streams):
        self.log, self._streams = [], streams

    def create(self):
        return 7

    def get_version(self, handle):
        return 130002

    def set_stream(self, handle, stream):
        self.stream = self._streams[stream]
        self.workspace = None

    def set_workspace(self, handle, address, nbytes):
        self.workspace = nbytes

    def gemm_ex(self, handle, ta, tb, m, n, k, one, a, at, lda, b, bt, ldb, zero, c, ct, ldc, compute, algorithm):
        given = (one, a, at, lda, 0, b, bt, ldb, 0, zero, c, ct, ldc, 0, 1, compute, algorithm)
        self.gemm_strided_batched_ex(handle, ta, tb, m, n, k, *given)

    def gemm_strided_batched_ex(self, handle, ta, tb, m, n, k, *given):
        one, a, at, lda, sa, b, bt, ldb, sb, zero, c, ct, ldc, sc, batch, compute, algorithm = given
        assert self.workspace
        assert algorithm == -1
        assert at == bt == ct
        scalar = ctypes.c_double if at else ctypes.c_float
        assert [scalar.from_address(p).value for p in (one, zero)] == [1.0, 0.0]
        self.log.append(compute)
        dtype = np.dtype(["float32", "float64"][at])

        def run():
            for i in range(batch):
                left = self.columns(a + i * sa * dtype.itemsize, dtype, lda, *((k, m) if ta else (m, k)))
                right = self.columns(b + i * sb * dtype.itemsize, dtype, ldb, *((n, k) if tb else (k, n)))
                result = self.columns(c + i * sc * dtype.itemsize, dtype, ldc, m, n)
                result[...] = (left.T if ta else left) @ (right.T if tb else right)

        self.stream.add(run)

    @staticmethod
    def columns(address, dtype, ld, rows, cols):
        """A column-major matrix at an address."""
        interface = {"shape": (rows, cols), "typestr": dtype.str, "data": (address, False), "version": 3}
        interface["strides"] = (dtype.itemsize, ld * dtype.itemsize)
        return np.asarray(types.SimpleNamespace(__array_interface__=interface))


@pytest.fixture
def cublas(gpu, monkeypatch):
    """The cuBLAS in the place of nvmath's."""
    fake = FakeCublas(gpu.streams)
    for name in ("nvmath", "nvmath.bindings", "nvmath.bindings.cublas"):
        monkeypatch.setitem(sys.modules, name, fake)
    return fake
