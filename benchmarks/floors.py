"""What the machine can do at most: its multiply-add rate and its bandwidth, measured by a small C program.

A case cannot run faster than its floor, the larger of

    floating point operations / the rate of multiply-adds on all threads
    bytes that must be touched / the bandwidth of a triad (a = b + s * c) over arrays of that size
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SIZES = tuple(1 << bits for bits in (15, 18, 21, 24, 27))  # bytes of the three arrays together, for each thread

SOURCE = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
enum { WIDTH = 64 };
#elif defined(__AVX__)
enum { WIDTH = 32 };
#else
enum { WIDTH = 16 };
#endif
typedef float vec __attribute__((vector_size(WIDTH)));
enum { LANES = WIDTH / sizeof(float), CHAINS = 10, TRIES = 9 };

static pthread_barrier_t barrier;
static long fma_rounds = 200000, triad_bytes, triad_rounds;
static volatile float sink;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* CHAINS independent multiply-adds keep both units busy through their latency. */
static void multiply_adds(void) {
    vec x[CHAINS], scale, shift;
    for (int lane = 0; lane < LANES; lane++) {
        scale[lane] = 0.999f;
        shift[lane] = 0.001f;
    }
    for (int k = 0; k < CHAINS; k++) x[k] = scale * (float)k;
    for (long i = 0; i < fma_rounds; i++) {
#pragma GCC unroll 16
        for (int k = 0; k < CHAINS; k++) x[k] = x[k] * scale + shift;
    }
    vec sum = x[0];
    for (int k = 1; k < CHAINS; k++) sum += x[k];
    sink = sum[0];
}

static void triads(float *restrict a, const float *restrict b, const float *restrict c, long n) {
    for (long round = 0; round < triad_rounds; round++) {
        float s = 0.5f + (float)(round & 1);
        for (long i = 0; i < n; i++) a[i] = b[i] + s * c[i];
        __asm__ volatile("" : : "r"(a) : "memory");
    }
}

static void *work(void *argument) {
    double *best = argument;
    long n = triad_bytes / 3 / (long)sizeof(float);
    float *memory = n ? aligned_alloc(64, (3 * n * sizeof(float) + 63) / 64 * 64) : 0;
    if (n) memset(memory, 1, 3 * n * sizeof(float));
    for (int i = 0; i < TRIES; i++) {
        pthread_barrier_wait(&barrier);
        double start = now();
        if (n) triads(memory, memory + n, memory + 2 * n, n);
        else multiply_adds();
        pthread_barrier_wait(&barrier);
        double seconds = now() - start;
        if (i == 0 || seconds < *best) *best = seconds;
    }
    free(memory);
    return 0;
}

static double seconds(int threads) {
    pthread_t handles[threads];
    double best[threads], slowest = 0;
    pthread_barrier_init(&barrier, 0, threads);
    for (int t = 0; t < threads; t++) pthread_create(&handles[t], 0, work, &best[t]);
    for (int t = 0; t < threads; t++) pthread_join(handles[t], 0);
    pthread_barrier_destroy(&barrier);
    for (int t = 0; t < threads; t++) slowest = best[t] > slowest ? best[t] : slowest;
    return slowest;
}

int main(int count, char **arguments) {
    int threads = atoi(arguments[1]);
    double flops = 2.0 * LANES * CHAINS * fma_rounds * threads;
    printf("{\"flops\": %.6g, \"bandwidth\": {", flops / seconds(threads));
    for (int i = 2; i < count; i++) {
        triad_bytes = atol(arguments[i]);
        triad_rounds = 1 + (64L << 20) / triad_bytes;
        double moved = (double)triad_bytes * triad_rounds * threads;
        printf("%s\"%ld\": %.6g", i > 2 ? ", " : "", triad_bytes * threads, moved / seconds(threads));
    }
    printf("}}\n");
    return 0;
}
"""


@dataclass(frozen=True)
class Machine:
    """Measured limits: FLOP/s, and bytes/s by the size of what is touched."""

    flops: float
    bandwidth: Mapping[int, float]
    compiler: str

    @property
    def text(self) -> str:
        """The limits in a line."""
        return f"multiply-adds {self.flops / 1e9:.0f} GFLOP/s; triad {self.rates}"

    @property
    def rates(self) -> str:
        """The bandwidths by size."""
        return ", ".join(f"{v / 1e9:.0f} GB/s over {size(n)}" for n, v in self.bandwidth.items())

    def bandwidth_for(self, nbytes: int) -> float:
        """That of the largest measured size that is no larger, so that the floor is none too high."""
        fitting = [size for size in self.bandwidth if size <= nbytes]
        return self.bandwidth[max(fitting, default=min(self.bandwidth))]

    def floor(self, flops: int, nbytes: int) -> dict[str, float]:
        """The floor of a case in milliseconds, and where it comes from."""
        compute, memory = flops / self.flops * 1e3, nbytes / self.bandwidth_for(nbytes) * 1e3
        return {
            "floor_ms": max(compute, memory),
            "compute_ms": compute,
            "memory_ms": memory,
            "flops": flops,
            "bytes": nbytes,
        }


def compilers() -> list[list[str]]:
    """Commands of C compilers: $CC, then the usual names."""
    given = shlex.split(os.environ.get("CC", ""))
    return [command for command in (given, ["cc"], ["gcc"], ["clang"]) if command and shutil.which(command[0])]


def measure(cores: Sequence[int]) -> Machine | str:
    """The machine's limits on these cores, or in a line why they were not measured."""
    found = compilers()
    if not found:
        return "no C compiler was found: floors are left out"
    with tempfile.TemporaryDirectory(prefix="graphnet-floors-") as folder:
        source, program = Path(folder, "limits.c"), Path(folder, "limits")
        source.write_text(SOURCE)
        built = [*found[0], "-O3", "-march=native", "-ffp-contract=fast", "-pthread", str(source), "-o", str(program)]
        run = [str(program), str(len(cores)), *map(str, SIZES)]
        for command in (built, run):
            try:
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=120,
                    preexec_fn=lambda: stay(cores),
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"{command[0]}: {error}: floors are left out"
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["failed"])[0]
                return f"{command[0]}: {said}: floors are left out"
        limits = json.loads(done.stdout)
    bandwidth = {int(size): value for size, value in limits["bandwidth"].items()}
    return Machine(limits["flops"], bandwidth, " ".join(found[0]))


def size(nbytes: int) -> str:
    """Bytes in a readable unit."""
    return f"{nbytes >> 20} MB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KB"


def stay(cores: Sequence[int]) -> None:
    """Stay on these cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
