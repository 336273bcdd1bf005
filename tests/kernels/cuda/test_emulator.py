"""Emulated CUDA computes what CUDA would, in every order of blocks and threads, and is compiled once."""

from __future__ import annotations

import ctypes
import shlex

import numpy as np
import pytest

from graphnet.kernels.c import toolchain
from graphnet.kernels.c.toolchain import ToolchainError
from graphnet.kernels.cuda import emulator
from graphnet.kernels.cuda.emulator import EmulationError, load
from graphnet.kernels.cuda.prelude import HEADER

ORDERS = ("forward", "reverse", ("shuffled", 1), ("shuffled", 2))

# What is right: every kernel gives the same results in every order, and is CUDA to nvcc.
RIGHT = """
struct net { const float *x; float *y; int32_t *counts; char *H[3]; };

extern "C" __global__ void __launch_bounds__(THREADS) affine(const struct net net, int n)
{
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS)
        net.y[i] = fmaf(net.x[i], 2.0f, 1.0f);
    if (blockIdx.x == 0 && threadIdx.x == 0)
        *(double *)net.H[2] = 0.5;
}

extern "C" __global__ void __launch_bounds__(THREADS) total(const float *restrict x, float *restrict y, int n)
{
    GN_SHARED(32);
    float *const part = (float *)gn_shared;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        sum += x[i];
    for (int by = 16; by; by /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, by);
    if (threadIdx.x % warpSize == 0)
        part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 8) {
        sum = part[threadIdx.x];
        for (int by = 4; by; by /= 2)
            sum += __shfl_down_sync(0xffu, sum, by, 8);
        if (threadIdx.x == 0)
            y[blockIdx.x] = sum;
    }
}

/* rounds of: every block takes over its neighbour's number, plus one; the grid meets twice a round */
GN_INLINE void meet(unsigned *barrier)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        volatile unsigned *const times = barrier + 1;
        const unsigned before = *times;
        __threadfence();
        if (atomicAdd(barrier, 1u) == gridDim.x - 1) {
            atomicExch(barrier, 0u);
            __threadfence();
            atomicAdd(barrier + 1, 1u);
        } else {
            while (*times == before)
                GN_PAUSE();
        }
        __threadfence();
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS) ring(int *numbers, unsigned *barrier, int rounds)
{
    GN_DYNAMIC();
    int *const own = (int *)gn_dynamic;
    own[threadIdx.x] = blockIdx.x * 1000;
    for (int k = 0; k < rounds; k++) {
        meet(barrier);
        const int next = __ldcg(&numbers[(blockIdx.x + 1) % gridDim.x]);
        meet(barrier);
        if (threadIdx.x == 77)
            numbers[blockIdx.x] = next + 1;
    }
    meet(barrier);
    if (own[threadIdx.x] != (int)blockIdx.x * 1000)
        numbers[0] = -1;
}

extern "C" __global__ void shuffles(double *d, long long *l, unsigned *u)
{
    const unsigned t = threadIdx.x, all = 0xffffffffu;
    d[t] = __shfl_sync(all, t * 0.5, 5, 16);
    l[t] = __shfl_up_sync(all, t * 3000000000LL, 2, 8);
    u[t] = __shfl_down_sync(all, t, 3, 16);
    u[64 + t] = __shfl_xor_sync(all, t, 9);
    u[128 + t] = __ballot_sync(all, t % 3 == 0);
    u[192 + t] = __any_sync(all, t == 40) + 2 * __all_sync(all, t < 32);
    u[256 + t] = __syncthreads_or(t == 3) + 2 * __syncthreads_and(t != 3) + 4 * __syncthreads_count(t < 5);
    if (t % 32 < 7)
        u[320 + t] = __shfl_sync(0x7fu, t, 6) + (__activemask() == all);
    else
        __syncwarp(~0x7fu);
}

extern "C" __global__ void atomics(int *i, unsigned long long *q, unsigned *u)
{
    atomicAdd(&i[0], (int)threadIdx.x - 100);
    atomicMax(&i[1], (int)threadIdx.x * 7 % 100);
    atomicMin(&i[2], -(int)threadIdx.x);
    atomicAdd(q, 5000000000ULL);
    atomicOr(&u[0], 1u << threadIdx.x % 32);
    if (atomicCAS(&u[1], 0u, 7u) == 0u)
        u[2] += 1u;
}

extern "C" __global__ void words(float *f, int *i, unsigned *u)
{
    const float4 v = make_float4(1.5f, -2.0f, NAN, INFINITY);
    ((float4 *)f)[0] = v;
    f[4] = min(v.x, v.y) + max(v.x, v.z) + fabs(v.y);
    f[5] = __int_as_float(__float_as_int(v.x) + 1);
    f[6] = (float)__longlong_as_double(__double_as_longlong(0.25) + 1);
    f[7] = __fmul_rn(3.0f, 0.1f);
    i[0] = __popc(0xf0f0u) + 100 * __ffs(8) + 10000 * __clz(1);
    i[1] = min(-3, 2) * 100 + max(4, 7);
    i[2] = INT32_MIN;
    u[0] = max(3u, 5u) + __umulhi(0x80000000u, 6u);
    u[1] = __float_as_uint(-0.0f);
}
"""


class Net(ctypes.Structure):
    """``struct net`` of RIGHT."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("H", ctypes.c_void_p * 3),
    )


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if toolchain.find() is None:
        pytest.skip("needs a C++ compiler")


def addresses(*arrays):
    return [a.ctypes.data for a in arrays]


@pytest.fixture(scope="module")
def right():
    return load(HEADER + RIGHT)


def test_kernels_are_listed_in_order(right):
    """`kernels` has the names as they stand in the text, with or without launch bounds."""
    assert right.kernels == ("affine", "total", "ring", "shuffles", "atomics", "words")


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_a_struct_by_value_and_a_number(right, order):
    """Kernels take structs of pointers by value, as a ctypes structure or its bytes, and plain ints."""
    x = np.random.default_rng(1).random(1000, np.float32)
    for raw in (lambda net: net, bytes):
        y, half = np.zeros(1000, np.float32), np.zeros(1)
        net = Net(x.ctypes.data, y.ctypes.data, None, (None, None, half.ctypes.data))
        right.launch("affine", 3, [raw(net), 1000], order=order)
        assert (y == np.float32(2) * x + np.float32(1)).all()
        assert half == 0.5


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_shared_memory_and_shuffles_add_up(right, order):
    """A block's sum through registers and shared memory is exact, and a block's memory is its own."""
    x, y = np.arange(3000, dtype=np.float32) % 17, np.zeros(5, np.float32)
    right.launch("total", 5, [*addresses(x, y), 3000], order=order)
    assert (y == x.sum()).all()


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_blocks_of_a_cooperative_launch_meet(right, order):
    """A grid-wide barrier of atomics and a loop with GN_PAUSE lets blocks pass numbers on, round after round."""
    numbers, barrier = np.array([3, 1, 4, 1], np.int32), np.zeros(2, np.uint32)
    arguments = [*addresses(numbers, barrier), 6]
    right.launch("ring", 4, arguments, dynamic=1024, cooperative=True, order=order)
    assert numbers.tolist() == [10, 7, 9, 7]
    assert barrier.tolist() == [0, 13]


def test_blocks_that_are_not_alive_together_cannot_meet(right):
    """The same kernel launched without `cooperative` is stopped with the thread that waits."""
    numbers, barrier = np.zeros(4, np.int32), np.zeros(2, np.uint32)
    with pytest.raises(EmulationError, match=r"^ring: block 0: thread 0 waits for something that no"):
        right.launch("ring", 4, [*addresses(numbers, barrier), 6], dynamic=1024)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_warp_operations_are_those_of_cuda(right, order):
    """Widths, edges, masks, ballots and barriers that count, for 4 and 8 bytes."""
    t = np.arange(64)
    d, wide, u = np.zeros(64), np.zeros(64, np.int64), np.zeros(384, np.uint32)
    right.launch("shuffles", 1, addresses(d, wide, u), block=64, order=order)
    assert (d == (t // 16 * 16 + 5) * 0.5).all()
    assert (wide == np.where(t % 8 < 2, t, t - 2) * 3000000000).all()
    assert (u[:64] == np.where(t % 16 + 3 < 16, t + 3, t)).all()
    assert (u[64:128] == t ^ 9).all()
    thirds = [sum(1 << i for i in range(32) if (w * 32 + i) % 3 == 0) for w in (0, 1)]
    assert (u[128:192] == np.repeat(thirds, 32)).all()
    assert (u[192:256] == np.repeat([2, 1], 32)).all()
    assert (u[256:320] == 1 + 4 * 5).all()
    assert (u[320:].reshape(2, 32)[:, :7] >> 1 == np.array([[3], [19]])).all()


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_atomics_of_all_threads_count(right, order):
    """Sums, extremes, bits and one winner of a compare and swap, over 3 blocks."""
    i, q, u = np.zeros(3, np.int32), np.zeros(1, np.uint64), np.zeros(3, np.uint32)
    right.launch("atomics", 3, addresses(i, q, u), order=order)
    assert i.tolist() == [3 * (255 * 128 - 25600), 99, -255]
    assert q.tolist() == [768 * 5000000000]
    assert u.tolist() == [0xFFFFFFFF, 7, 1]


def test_words_of_cuda(right):
    """Vectors, bit casts, extremes that pass over NaN, counting bits."""
    f, i, u = np.zeros(8, np.float32), np.zeros(3, np.int32), np.zeros(2, np.uint32)
    right.launch("words", 1, addresses(f, i, u), block=1)
    assert np.array_equal(f[:5], np.float32([1.5, -2, np.nan, np.inf, 1.5]), equal_nan=True)
    assert f[5:].tolist() == [np.nextafter(np.float32(1.5), np.float32(2)), 0.25, np.float32(3) * np.float32(0.1)]
    assert i.tolist() == [8 + 100 * 4 + 10000 * 31, -293, -(2**31)]
    assert u.tolist() == [5 + 3, 1 << 31]


@pytest.mark.slow
def test_what_is_emulated_is_cuda(nvcc_compiles):
    """nvcc takes the text that the tests above ran, without warnings."""
    nvcc_compiles(HEADER + RIGHT)


def test_shared_memory_is_nan_until_it_is_written():
    """At the start of every block, so that what is read too early is seen."""
    text = HEADER + 'extern "C" __global__ void k(float *y) { GN_SHARED(4); y[blockIdx.x] = *(float *)gn_shared;\n'
    emulated = load(text + "__syncthreads(); *(float *)gn_shared = 1.0f; }\n")
    y = np.zeros(3, np.float32)
    emulated.launch("k", 3, addresses(y))
    assert np.isnan(y).all()


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        (("k", 1, [0]), "k: no such kernel: there are affine, total"),
        (("total", 1, [0, 0]), "total: takes 3 arguments, not 2"),
        (("total", 1, [0, 0, bytes(8)]), "total: argument 2 has 8 bytes, not 4"),
        (("total", 0, [0, 0, 0]), "total: cannot run on 0 blocks of 256 threads with 0 bytes"),
        (("total", 1, [0, 0, 0], "backward"), "total: cannot run in order backward"),
    ],
)
def test_a_launch_that_cannot_be_is_refused(right, launch, message):
    """Names, numbers and sizes of arguments are those of the text."""
    name, grid, arguments, order = (*launch, "forward")[:4]
    with pytest.raises(ValueError, match=f"^{message}"):
        right.launch(name, grid, arguments, order=order)


def test_the_same_text_is_compiled_once(tmp_path, monkeypatch):
    """The second load, in this process or in another, starts no compiler."""
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path))
    text = HEADER + 'extern "C" __global__ void k(int *y) { y[0] = 5; }\n'
    first = load(text)
    monkeypatch.setattr(toolchain, "_run", lambda *_: pytest.fail("started a compiler"))
    assert load(text) is first
    emulator._load.cache_clear()
    y = np.zeros(1, np.int32)
    load(text).launch("k", 1, addresses(y))
    assert y[0] == 5


def test_errors_name_the_lines_of_the_text():
    """What the compiler says of a text is said of its own lines, not of what stands in front when emulated."""
    text = HEADER + "\n\nint f() { return missing; }\n"
    line = text[: text.index("missing")].count("\n") + 1
    with pytest.raises(ToolchainError, match=rf"kernels\.cu:{line}:.*missing"):
        load(text)


def test_text_without_the_header_is_refused():
    """The emulator's words come in where the header includes them."""
    with pytest.raises(ValueError, match=r"does not begin with prelude\.HEADER"):
        load("int x;")


def test_a_compiler_without_cxx_is_an_error_in_one_line(tmp_path, monkeypatch):
    """A C compiler alone is not enough, and the line says what is."""
    found = toolchain.find()
    script = tmp_path / "cc"
    refuse = 'case " $* " in *" c++ "*) echo "error: no cc1plus" >&2; exit 1;; esac'
    script.write_text(f'#!/bin/sh\n{refuse}\nexec {shlex.join(found.command)} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path))
    with pytest.raises(ToolchainError, match=r"^no C\+\+ compiler: install g\+\+ or clang\+\+: .*no cc1plus") as caught:
        load(HEADER)
    assert "\n" not in str(caught.value)
