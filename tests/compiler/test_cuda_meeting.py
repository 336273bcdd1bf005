"""How blocks of one CUDA kernel meet, and how the last one is told, in the emulator and in NVIDIA's compiler."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.compiler.cuda.file import ARRIVE, LAST, MEETING
from graphnet.kernels.c import toolchain
from graphnet.kernels.cuda.emulator import load
from graphnet.kernels.cuda.prelude import HEADER

TEXT = f"""{HEADER}{ARRIVE}{MEETING}{LAST}
/* rounds of: each block takes over its neighbour's number, plus one */
extern "C" __global__ void __launch_bounds__(THREADS) ring(int *numbers, uint32_t *barrier, int rounds)
{{
    for (int k = 0; k < rounds; ++k) {{
        const int next = __ldcg(&numbers[(blockIdx.x + 1) % gridDim.x]);
        gn_meet(barrier);
        if (threadIdx.x == THREADS - 1)
            numbers[blockIdx.x] = next + 1;
        if (k + 1 < rounds)
            gn_meet(barrier);
    }}
}}

/* each block counts its threads, the last block sums up */
extern "C" __global__ void __launch_bounds__(THREADS) total(int *counts, uint32_t *barrier)
{{
    if (threadIdx.x == 7)
        counts[blockIdx.x] = blockIdx.x + 1;
    if (gn_last(barrier) && threadIdx.x == 0) {{
        counts[gridDim.x] = 0;
        for (int b = 0; b < gridDim.x; ++b)
            counts[gridDim.x] += counts[b];
    }}
}}
"""


@pytest.fixture(scope="module")
def emulated():
    if toolchain.find() is None:
        pytest.skip("needs a C++ compiler")
    return load(TEXT)


def addresses(*arrays):
    return [a.ctypes.data for a in arrays]


@pytest.mark.parametrize("order", ["forward", "reverse", ("shuffled", 3)], ids=str)
def test_blocks_meet_on_grids_of_any_size_one_after_another(emulated, order):
    """Odd numbers of meetings leave the highest bit behind, and grids of other sizes go on from there."""
    barrier = np.zeros(2, np.uint32)
    meetings = 0
    for blocks, rounds in ((4, 3), (1, 2), (7, 1), (3, 4), (5, 2), (2, 3)):
        numbers = np.arange(blocks, dtype=np.int32) * 10
        emulated.launch("ring", blocks, [*addresses(numbers, barrier), rounds], cooperative=True, order=order)
        assert numbers.tolist() == [(b + rounds) % blocks * 10 + rounds for b in range(blocks)]
        meetings += 2 * rounds - 1
        assert barrier.tolist() == [meetings % 2 << 31, 0]


@pytest.mark.parametrize("order", ["forward", "reverse", ("shuffled", 3)], ids=str)
def test_one_block_is_the_last_and_leaves_the_word_as_it_was(emulated, order):
    """Whatever has met before."""
    barrier = np.array([1 << 31, 0], np.uint32)
    for blocks in (1, 6, 3):
        counts = np.full(blocks + 1, -1, np.int32)
        emulated.launch("total", blocks, addresses(counts, barrier), order=order)
        assert counts[-1] == blocks * (blocks + 1) // 2
        assert barrier.tolist() == [1 << 31, 0]


def test_what_blocks_wrote_is_released_and_acquired(nvrtc):
    """By the only instructions that touch the words of a barrier."""
    ptx = nvrtc(TEXT)
    assert ptx.count("atom.add.acq_rel.gpu.u32") >= 3
    assert "ld.acquire.gpu.u32" in ptx
    assert "membar" not in ptx
    assert "nanosleep" not in ptx
