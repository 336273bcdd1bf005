"""Counter-based randomness: Philox4x32-10 as `graphnet.kernels.numpy.random` lays it out, bit for bit.

    counter, key  ->  ten rounds  ->  4 words  ->  4 float32 or 2 float64

A thread makes the words of one counter. They go through shared memory, so that consecutive threads store consecutive
elements, or hand them to the epilogue.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphnet.kernels.cuda.nest import Elements, block, body_of, elements
from graphnet.kernels.cuda.phase import THREADS, Job, Phase
from graphnet.kernels.text.axes import at
from graphnet.kernels.text.view import ITEMSIZE, Attrs, View

_PHILOX = """\
/* The four words of a counter, of a step and an iteration t; Philox4x32-10 (Salmon et al., SC 2011). */
GN_INLINE void gn_philox(uint32_t w[4], uint64_t counter, uint64_t key, uint64_t step, uint64_t t)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    w[0] = (uint32_t)counter;
    w[1] = (uint32_t)(counter >> 32);
    w[2] = (uint32_t)step;
    w[3] = (uint32_t)(step >> 32) ^ (uint32_t)t;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const uint64_t p = (uint64_t)w[0] * 0xD2511F53u, q = (uint64_t)w[2] * 0xCD9E8D57u;
        w[0] = (uint32_t)(q >> 32) ^ w[1] ^ k0;
        w[1] = (uint32_t)q;
        w[2] = (uint32_t)(p >> 32) ^ w[3] ^ k1;
        w[3] = (uint32_t)p;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}
"""
_NUMBER = {
    "float32": "(float)(int32_t)(word[q] >> 8) * 0x1p-24f",
    "float64": "(double)(int64_t)(((uint64_t)word[2 * q] << 32 | word[2 * q + 1]) >> 11) * 0x1p-53",
}


def stream_key(stream: int) -> int:
    """splitmix64 of a stream number: what the seed is xored with to give the 64-bit key."""
    z = (stream + 0x9E3779B97F4A7C15) & (1 << 64) - 1
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    z = (z ^ z >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
    return z ^ z >> 31


def random_uniform(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (float32 or float64) uniform in [0, 1); ins are integers without axes: seed, step and perhaps t.

    Other arrays behind them are taken to be read by the epilogue.
    """
    out, (seed, step), t = outs[0], ins[:2], ins[2:3]
    if not out.size:
        return []
    each = 2 if out.dtype == "float64" else 4
    inner = f"(uint64_t){t[0].name}[0]" if t and t[0].shape == () and "int" in t[0].dtype else "0"
    makes = [
        f"const uint64_t key = (uint64_t){seed.name}[0] ^ {stream_key(attrs['stream']):#x}u;",
        "uint32_t word[4];",
        f"gn_philox(word, (uint64_t)unit * {THREADS} + threadIdx.x, key, (uint64_t){step.name}[0], {inner});",
        f"{out.ctype} *made = ({out.ctype} *)gn_shared;",
        *block(f"for (int q = 0; q < {each}; ++q)", [f"made[{each} * threadIdx.x + q] = {_NUMBER[out.dtype]};"]),
        "__syncthreads();",
    ]
    value = f"made[q * {THREADS} + threadIdx.x]"
    names, dims = [f"i{a}" if n > 1 else "0" for a, n in enumerate(out.shape)], [("e", out.size)]
    if job.epilogue is None and out.contiguous:
        store = f"{out.name}[e] = {value};"
    else:
        store = job.epilogue(names, value) if job.epilogue else f"{at(out, names)} = {value};"
        dims = [(f"i{a}", n) for a, n in enumerate(out.shape) if n > 1]
    takes = Elements(tuple(dims), each, elements(dims, out).ctype)
    text = [*makes, *takes.turn(store.split("\n"))]
    shared = takes.block * ITEMSIZE[out.dtype]
    return [Phase(body_of(text), takes.units, shared, helpers=(_PHILOX,), note="Philox4x32-10")]
