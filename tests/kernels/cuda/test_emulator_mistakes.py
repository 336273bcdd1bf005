"""What CUDA forbids, and what depends on the order of threads, is found in emulated kernels."""

from __future__ import annotations

import os

import numpy as np
import pytest

from graphnet.kernels.c import toolchain
from graphnet.kernels.cuda.emulator import EmulationError, load
from graphnet.kernels.cuda.prelude import HEADER

ORDERS = ("forward", "reverse", ("shuffled", 1), ("shuffled", 2))

# What is wrong, and what is said of it.
WRONG = {
    "returns_early": (
        "if (threadIdx.x != 5) __syncthreads();",
        r"block 0: thread 5 left the kernel while 255 threads wait in __syncthreads of line \d+",
    ),
    "two_barriers": (
        "if (threadIdx.x < 32)\n __syncthreads();\nelse\n __syncthreads();",
        r"block 0: thread 32 is in __syncthreads of line \d+ while thread 0 waits in __syncthreads of line \d+",
    ),
    "missing_lane": (
        "if (threadIdx.x != 7) __syncwarp();",
        r"thread 0 waits in __syncwarp of line \d+ \(mask ffffffff\) for thread 7, which left the kernel",
    ),
    "late_lane": (
        "if (threadIdx.x == 4) __syncthreads(); else if (threadIdx.x < 4) y[0] = __shfl_sync(0x1fu, y[1], 0);",
        r"thread 0 waits in a shuffle of line \d+ \(mask 0000001f\) for thread 4, which waits in __syncthreads",
    ),
    "foreign_mask": (
        "y[threadIdx.x] = __ballot_sync(0xfu, 1);",
        r"thread 4 is in a ballot of line \d+, whose mask 0000000f does not name it",
    ),
    "two_masks": (
        "__syncwarp(threadIdx.x % 2 ? 0xffffffffu : 0xfffffffdu);",
        r"thread 31 is in __syncwarp of line \d+ with mask ffffffff while thread 0 waits .* with mask fffffffd",
    ),
    "silent_lane": (
        "if (threadIdx.x < 4) y[threadIdx.x] = __shfl_sync(0xfu, y[0], 5);",
        r"thread 0 reads lane 5 in a shuffle \(line \d+\), which mask 0000000f does not name",
    ),
    "waits_for_ever": (
        "if (threadIdx.x == 0) while (((volatile int *)y)[3] == 0) GN_PAUSE();\n__syncthreads();",
        "block 0: thread 0 waits for something that no other thread will do",
    ),
    "asks_too_much": (
        "GN_SHARED(48 * 1024 + 16);\ny[0] = gn_shared[0];",
        "asks for 49168 bytes of shared memory, and there are 49152",
    ),
}

# What a sanitizer, where one is on, reports in its own way.
TRAPS = {
    "writes_behind": (
        "GN_SHARED(64);\nif (threadIdx.x == 9 && blockIdx.x == 1) gn_shared[64 + (int)y[0]] = 1;",
        "1: a thread wrote at byte 64 of shared memory that has 64",
    ),
    "misaligned": (
        "*(double *)((char *)y + 4) = 1.0;",
        r"0: thread 0 uses an address that is 0 or not a multiple of the type's alignment \(line \d+\)",
    ),
    "null": (
        "float *none = y[0] == 0.0f ? 0 : y;\n*none = 1.0f;",
        r"0: thread 0 uses an address that is 0 .*\(line \d+\)",
    ),
    "wild": (
        "if (threadIdx.x == 1) y[1LL << 60] = 1.0f;",
        "0: thread 1 uses an address where there is no memory for it",
    ),
    "divides": ("((int *)y)[0] = 1 / ((int *)y)[2];", "0: thread 0 divides by zero"),
    "outside": (
        "float a[4] = {};\na[4 + (int)y[0]] = 1.0f;\nfor (int i = 0; i < 4; i++) y[i] = a[i];",
        r"0: thread 0 uses an index outside of an array \(line \d+\)",
    ),
    "deep": (
        "volatile char a[1 << 17];\nfor (int i = 0; i < 1 << 17; i++) a[i] = (char)i;\ny[0] = a[9];",
        "0: thread 0 has more local variables than fit its stack",
    ),
}

RACES = """
extern "C" __global__ void reads_too_early(int *y)
{
    GN_SHARED(1024);
    int *const x = (int *)gn_shared;
    x[threadIdx.x] = threadIdx.x;
    y[threadIdx.x] = x[(threadIdx.x + 1) % 256];
}
extern "C" __global__ void last_writer_wins(int *y)
{
    __syncthreads();
    y[0] = threadIdx.x;
}
extern "C" __global__ void last_lane_wins(int *y)
{
    __syncwarp();
    if (threadIdx.x < 32)
        y[0] = threadIdx.x;
}
extern "C" __global__ void last_block_wins(int *y)
{
    y[0] = blockIdx.x;
}
"""

FINE = """
extern "C" __global__ void fine(float *y)
{
    y[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f + threadIdx.x, 0) + __syncthreads_count(1);
}
"""


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if toolchain.find() is None:
        pytest.skip("needs a C++ compiler")


def kernels_of(bodies):
    texts = (f'extern "C" __global__ void {name}(float *y)\n{{\n{body}\n}}\n' for name, (body, _) in bodies.items())
    return HEADER + "\n".join(texts)


@pytest.fixture(scope="module")
def wrong():
    return load(kernels_of(WRONG))


@pytest.mark.parametrize("name", WRONG)
def test_what_cuda_forbids_is_found(wrong, name):
    """One line with the kernel, the block and what it did."""
    y = np.zeros(256, np.float32)
    with pytest.raises(EmulationError, match=WRONG[name][1]) as caught:
        wrong.launch(name, 2, [y.ctypes.data])
    assert str(caught.value).startswith(f"{name}: block ")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif("-fsanitize" in os.environ.get("CC", ""), reason="a sanitizer ends the process")
@pytest.mark.parametrize("name", TRAPS)
def test_what_a_gpu_would_trap_on_is_found(name):
    """A bad address or index, a division by zero or too deep a stack ends the kernel, not the process."""
    y = np.zeros(256, np.float32)
    with pytest.raises(EmulationError, match=f"^{name}: block " + TRAPS[name][1]):
        load(kernels_of(TRAPS)).launch(name, 2, [y.ctypes.data])


def test_a_launch_after_a_mistake_is_as_any_other(wrong):
    """Threads that were given up leave nothing behind."""
    fine, y = load(HEADER + FINE), np.zeros(256, np.float32)
    for name in ("returns_early", "late_lane"):
        with pytest.raises(EmulationError):
            wrong.launch(name, 1, [y.ctypes.data])
        fine.launch("fine", 2, [y.ctypes.data])
        assert (y == np.arange(256) // 32 * 32 + 1 + 256).all()


def test_a_race_shows_as_a_result_that_depends_on_the_order():
    """Between threads, behind a barrier, between lanes and between blocks."""
    text = HEADER + RACES
    emulated = load(text)
    for name in emulated.kernels:
        seen = set()
        for order in ORDERS:
            y = np.zeros(256, np.int32)
            emulated.launch(name, 4, [y.ctypes.data], order=order)
            seen.add(y.tobytes())
        assert len(seen) > 1, name


def test_an_order_can_be_had_again():
    """The same seed gives the same order, another one another."""
    emulated = load(HEADER + RACES)

    def run(seed):
        y = np.zeros(256, np.int32)
        emulated.launch("reads_too_early", 1, [y.ctypes.data], order=("shuffled", seed))
        return y.tobytes()

    assert run(1) == run(1) != run(2)
