"""What a GPU can do at most: its multiply-add rate, its bandwidth, and what it costs to start something on it.

    python benchmarks/cuda_peaks.py            a table; --json for a program

Needs CuPy. Every number is the best of some tries, each timed by the GPU's own events:

    multiply-adds   float32, independent chains in registers, all multiprocessors full
    bandwidth       copies of arrays, bytes read and written, by the size of both together
    a launch        graphs of one empty kernel, started one after another without waiting
    a kernel        one more empty kernel in a graph
    a barrier       one more meeting of all blocks, one a multiprocessor, in a cooperative kernel
    and back        an empty graph started and waited for, by the host's clock
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from floors import Machine
from processes import environment, first_line, usable_cores

from graphnet.device_cupy import no_gpu

SIZES = tuple(1 << bits for bits in (20, 23, 25, 28, 31))  # bytes read and written together
TRIES = 9
CHAINS, ROUNDS, THREADS, BLOCKS = 16, 4096, 256, 8  # multiply-adds: chains a thread, blocks a multiprocessor
MANY = 200  # launches, kernels or barriers in a measurement
WAKING = 0.3  # seconds of work before anything is timed: a GPU that nobody uses runs slowly

SOURCE = r"""
extern "C" __global__ void __launch_bounds__(256) multiply_adds(float *out, int rounds, float scale, float shift)
{
    float x[CHAINS];
#pragma unroll
    for (int k = 0; k < CHAINS; k++)
        x[k] = (float)(threadIdx.x + k);
    for (int i = 0; i < rounds; i++) {
#pragma unroll
        for (int k = 0; k < CHAINS; k++)
            x[k] = fmaf(x[k], scale, shift);
    }
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < CHAINS; k++)
        sum += x[k];
    if (sum == 12345.0f) /* never, but the compiler cannot know */
        out[0] = sum;
}

extern "C" __global__ void __launch_bounds__(256) copy(float4 *to, const float4 *from, long long count)
{
    const long long step = (long long)gridDim.x * blockDim.x;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * step < count; i += 4 * step) {
        const float4 a = from[i], b = from[i + step], c = from[i + 2 * step], d = from[i + 3 * step];
        to[i] = a;
        to[i + step] = b;
        to[i + 2 * step] = c;
        to[i + 3 * step] = d;
    }
    for (; i < count; i += step)
        to[i] = from[i];
}

extern "C" __global__ void nothing() {}

extern "C" __global__ void meet(unsigned int *barrier, int times)
{
    volatile unsigned int *const met = barrier + 1;
    for (int i = 0; i < times; i++) {
        __syncthreads();
        if (threadIdx.x == 0) {
            const unsigned int before = *met;
            __threadfence();
            if (atomicAdd(barrier, 1u) == gridDim.x - 1) {
                atomicExch(barrier, 0u);
                __threadfence();
                atomicAdd(barrier + 1, 1u);
            } else {
                while (*met == before) {}
            }
            __threadfence();
        }
        __syncthreads();
    }
}
"""


@dataclass(frozen=True)
class Peaks(Machine):
    """Measured limits of a GPU; seconds of a launch, of a kernel in a graph, of a barrier, and of start and wait."""

    name: str
    multiprocessors: int
    launch_s: float
    kernel_s: float
    barrier_s: float
    wait_s: float

    def floor(self, flops: int, nbytes: int) -> dict[str, float]:
        """As of every machine, and no step takes less than a launch."""
        found = super().floor(flops, nbytes)
        launch = self.launch_s * 1e3
        return {**found, "floor_ms": max(found["floor_ms"], launch), "launch_ms": launch}

    @property
    def text(self) -> str:
        rates = f"multiply-adds {self.flops / 1e9:.0f} GFLOP/s; copies {self.rates}"
        return "; ".join([rates, *(f"{what} {seconds * 1e6:.2f} us" for what, seconds in self.times)])

    @property
    def times(self) -> tuple[tuple[str, float], ...]:
        """What was timed, and its seconds."""
        return (
            ("a launch", self.launch_s),
            ("a kernel in a graph", self.kernel_s),
            ("a barrier of all blocks", self.barrier_s),
            ("start and wait", self.wait_s),
        )


class Bench:
    """The measurements on CuPy's current GPU."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.count = cupy.cuda.Device().attributes["MultiProcessorCount"]
        text = SOURCE.replace("CHAINS", str(CHAINS))
        module = cupy.RawModule(code=text)
        self.kernels = {name: module.get_function(name) for name in ("multiply_adds", "copy", "nothing")}
        self.kernels["meet"] = cupy.RawKernel(text, "meet", enable_cooperative_groups=True)

    def seconds(self, run: Callable[[], None]) -> float:
        """The least time between two events around it, of TRIES after one that is not counted."""
        self.cupy.cuda.Device().synchronize()  # arrays are made on another stream
        times = []
        for _ in range(TRIES + 1):
            start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            start.record(self.stream)
            run()
            end.record(self.stream)
            end.synchronize()
            times.append(self.cupy.cuda.get_elapsed_time(start, end) / 1e3)
        return min(times[1:])

    def start(self, name: str, blocks: int, *arguments: Any, times: int = 1) -> None:
        """Start a kernel, several times in a row."""
        with self.stream:
            for _ in range(times):
                self.kernels[name]((blocks,), (THREADS,), arguments)

    def graph(self, record: Callable[[], None]) -> Any:
        """What ``record`` starts, captured."""
        record()  # what is loaded at first use may not be while capturing
        self.stream.synchronize()
        self.stream.begin_capture()
        try:
            record()
        finally:
            graph = self.stream.end_capture()
        return graph

    def flops(self) -> float:
        """Float32 operations a second, two for each multiply-add."""
        blocks = self.count * BLOCKS
        given = (self.cupy.zeros(1, "float32"), np.int32(ROUNDS), np.float32(0.999), np.float32(0.001))
        seconds = self.seconds(lambda: self.start("multiply_adds", blocks, *given))
        return 2.0 * CHAINS * ROUNDS * blocks * THREADS / seconds

    def bandwidth(self, nbytes: int) -> float:
        """Bytes read and written a second, by a kernel or by the driver's copy, whichever is faster."""
        half = nbytes // 2
        to, source = (self.cupy.ones(half // 4, "float32") for _ in range(2))
        times = max(1, (1 << 28) // nbytes)
        runtime = self.cupy.cuda.runtime
        kind, blocks = runtime.memcpyDeviceToDevice, self.count * BLOCKS

        def by_driver() -> None:
            for _ in range(times):
                runtime.memcpyAsync(to.data.ptr, source.data.ptr, half, kind, self.stream.ptr)

        driver = self.graph(by_driver)
        kernel = self.graph(lambda: self.start("copy", blocks, to, source, np.int64(half // 16), times=times))
        seconds = min(self.seconds(lambda graph=graph: graph.launch(self.stream)) for graph in (driver, kernel))
        return float(nbytes) * times / seconds

    def launches(self) -> tuple[float, float, float]:
        """Seconds of a launch, of one more kernel in a graph, and of a start with a wait."""
        one = self.graph(lambda: self.start("nothing", 1))
        many = self.graph(lambda: self.start("nothing", 1, times=MANY))

        def launched() -> None:
            for _ in range(MANY):
                one.launch(self.stream)

        launch, single = self.seconds(launched) / MANY, self.seconds(lambda: one.launch(self.stream))
        kernel = (self.seconds(lambda: many.launch(self.stream)) - single) / (MANY - 1)
        waits = []
        for _ in range(MANY):
            start = time.perf_counter()
            one.launch(self.stream)
            self.stream.synchronize()
            waits.append(time.perf_counter() - start)
        return launch, kernel, min(waits)

    def barrier(self) -> float:
        """Seconds of one more barrier among one block a multiprocessor."""
        words = self.cupy.zeros(2, "uint32")
        many, one = (self.seconds(lambda n=n: self.start("meet", self.count, words, np.int32(n))) for n in (MANY, 1))
        return (many - one) / (MANY - 1)

    def peaks(self) -> Peaks:
        """Everything, the arrays' own memory given back."""
        begin, flops = time.perf_counter(), self.flops()
        while time.perf_counter() - begin < WAKING:
            flops = self.flops()
        pool = self.cupy.get_default_memory_pool()
        bandwidth = {}
        for size in SIZES:
            bandwidth[size] = self.bandwidth(size)
            pool.free_all_blocks()
        launch, kernel, wait = self.launches()
        name = self.cupy.cuda.runtime.getDeviceProperties(self.cupy.cuda.Device().id)["name"].decode()
        compiler = f"NVRTC {'.'.join(map(str, self.cupy.cuda.nvrtc.getVersion()))}"
        return Peaks(flops, bandwidth, compiler, name, self.count, launch, kernel, self.barrier(), wait)


def measure() -> Peaks | str:
    """The peaks of the GPU in use, measured in a process of its own; or in a line why they were not measured."""
    with tempfile.TemporaryDirectory(prefix="graphnet-peaks-") as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--json"]
        around = environment(len(usable_cores()), Path(folder), device="cuda")
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=around)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"cuda_peaks.py: {error}: floors are left out"
    if done.returncode:
        said = first_line((done.stderr.strip().splitlines() or ["failed"])[-1])
        return f"{said}: floors are left out"
    return restore(json.loads(done.stdout))


def restore(found: Mapping[str, Any]) -> Peaks:
    """Peaks as they were before JSON made text of the sizes."""
    return Peaks(**{**found, "bandwidth": {int(size): value for size, value in found["bandwidth"].items()}})


def table(peaks: Peaks) -> str:
    """The peaks for people."""
    rows = [("float32 multiply-adds", f"{peaks.flops / 1e12:.1f} TFLOP/s")]
    rows += [(f"copies of {size / 1e6:.0f} MB", f"{v / 1e9:.0f} GB/s") for size, v in peaks.bandwidth.items()]
    rows += [(what, f"{seconds * 1e6:.2f} us") for what, seconds in peaks.times]
    width = max(len(what) for what, _ in rows)
    lines = [f"{peaks.name}, {peaks.multiprocessors} multiprocessors, {peaks.compiler}"]
    return "\n".join([*lines, *(f"  {what:{width}}  {value:>14}" for what, value in rows)])


def main(argv: list[str] | None = None) -> int:
    """Measure and print; 2 without a GPU, with a line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    if line := no_gpu():
        print(f"cuda_peaks: {line}", file=sys.stderr)
        return 2
    found = Bench(importlib.import_module("cupy")).peaks()
    print(json.dumps(asdict(found)) if args.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
