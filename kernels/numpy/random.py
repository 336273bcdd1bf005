"""Counter-based randomness: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers, SC 2011).

Element values depend on (seed, stream, step, t, position) only. All backends must agree on this layout:

    mixed   = splitmix64(stream), modulo 2^64: z = stream + 9e3779b97f4a7c15,
              z = (z ^ z >> 30) * bf58476d1ce4e5b9, z = (z ^ z >> 27) * 94d049bb133111eb, z = z ^ z >> 31
    key     = seed ^ mixed; key words (low 32 bits, high 32 bits)
    counter = (block low, block high, step low, step high ^ low 32 bits of t), with t = 0 where there is none
    float32 and uint32: element i is word i % 4 of block i // 4; float32 = (word >> 8) * 2^-24
    float64: element i is words a = 2 (i % 2), b = a + 1 of block i // 2: ((w[a] << 32 | w[b]) >> 11) * 2^-53

Positions are row-major. A step is below 2^32, or counters of different (step, t) could meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from graphnet.kernels.numpy.call import Array, ArrayType, Attrs, Call, run, scalar
from graphnet.kernels.numpy.scratch import Spec, carve, carve_bytes

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
_WORD = scalar(_LOW, np.uint64)
_HALF = scalar(32, np.uint64)
_BLOCK = 8192
"""Counters at a time: the state then stays in the cache. A power of two, so that it never straddles 2^32."""


def stream_key(stream: int) -> int:
    """splitmix64 of a stream number: what the seed is xored with to give the 64-bit key."""
    z = (stream + 0x9E3779B97F4A7C15) & (1 << 64) - 1
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    z = (z ^ z >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
    return z ^ z >> 31


def load(keys: Array, words: Array, mixed: int, seed: Array, step: Array, t: Array | None) -> None:
    """Write the ten round keys (10, 2) and the run's two constant counter words from 0-d inputs."""
    key, count, inner = int(seed) ^ mixed, int(step), 0 if t is None else int(t)
    for r in range(_ROUNDS):
        keys[r, 0] = (key & _LOW) + r * _WEYL[0] & _LOW
        keys[r, 1] = (key >> 32 & _LOW) + r * _WEYL[1] & _LOW
    words[0] = count & _LOW
    words[1] = (count >> 32 ^ inner) & _LOW


def rounds(counter: Sequence[Array], keys: Array, product: tuple[Array, Array]) -> list[Call]:
    """Calls that turn four arrays of counter words, 32 bits in uint64, into the output words in place."""
    c0, c1, c2, c3 = counter
    p0, p1 = product
    m0, m1 = (scalar(m, np.uint64) for m in _MULTIPLIERS)
    calls: list[Call] = []
    for r in range(_ROUNDS):
        k0, k1 = keys[r, 0:1], keys[r, 1:2]
        calls += [(np.multiply, (c0, m0, p0)), (np.multiply, (c2, m1, p1))]
        for p, even, odd, key in ((p1, c0, c1, k0), (p0, c2, c3, k1)):
            calls += [
                (np.right_shift, (p, _HALF, even)),
                (np.bitwise_xor, (even, odd, even)),
                (np.bitwise_xor, (even, key, even)),
                (np.bitwise_and, (p, _WORD, odd)),
            ]
    return calls


def _count(size: int, per_counter: int) -> int:
    return max(1, min(_BLOCK, -(-size // per_counter)))


def _specs(counters: int) -> list[Spec]:
    state = (counters,), np.uint64
    return [((_ROUNDS, 2), np.uint64), ((2,), np.uint64), *[state] * 7, ((counters, 4), np.uint32)]


def random_scratch(in_types: Sequence[ArrayType], attrs: Attrs) -> int:
    """Bytes for the state of a block of counters; attrs `shape`, if given, is that of the output."""
    shape = attrs.get("shape")
    return carve_bytes(*_specs(_BLOCK if shape is None else _count(prod(shape), 2)))


def _ramp(index: Array) -> list[Call]:
    """index = 0, 1, 2, ... by doubling, in place."""
    calls: list[Call] = [(index.fill, (0,))]
    done = 1
    while done < index.size:
        more = min(done, index.size - done)
        calls.append((np.add, (index[:more], scalar(done, np.uint64), index[done : done + more])))
        done += more
    return calls


def _generate(out: Array, seed: Array, step: Array, t: Array | None, stream: int, scratch: Array) -> list[Call]:
    if not out.size:
        return []
    per_counter = 2 if out.dtype == np.float64 else 4
    keys, words, index, c0, c1, c2, c3, p0, p1, buffer = carve(scratch, *_specs(_count(out.size, per_counter)))
    counter = c0, c1, c2, c3
    gather, values = _gather(out.dtype, counter, buffer)
    calls: list[Call] = [(load, (keys, words, stream_key(stream), seed, step, t)), *_ramp(index)]
    shared = rounds(counter, keys, (p0, p1)) + gather
    for start in range(0, out.size, values.size):
        first, stop = start // per_counter, min(start + values.size, out.size)
        calls.append((np.add, (index, scalar(first & _LOW, np.uint64), c0)))
        calls.append((c1.fill, (first >> 32,)))
        calls += [(np.copyto, (c2, words[0:1])), (np.copyto, (c3, words[1:2]))]
        calls += shared
        if out.flags.c_contiguous:
            calls.append((np.copyto, (out.reshape(-1)[start:stop], values[: stop - start], "same_kind")))
        else:
            calls.append((out.flat.__setitem__, (slice(start, stop), values[: stop - start])))
    if out.dtype.kind == "f":
        scale = 2.0**-53 if out.dtype == np.float64 else 2.0**-24
        calls.append((np.multiply, (out, scalar(scale, out.dtype), out)))
    return calls


def _gather(dtype: Any, counter: Sequence[Array], buffer: Array) -> tuple[list[Call], Array]:
    """Calls that turn output words into integers in the memory of buffer (counters, 4), and those integers.

    They are signed for floats, as that conversion is faster and none has its top bit set.
    """
    calls: list[Call] = []
    if dtype == np.float64:
        pairs = buffer.view(np.uint64)
        for a in (0, 2):
            calls += [
                (np.left_shift, (counter[a], _HALF, counter[a])),
                (np.bitwise_or, (counter[a], counter[a + 1], counter[a])),
                (np.right_shift, (counter[a], scalar(11, np.uint64), pairs[:, a // 2])),
            ]
        return calls, pairs.view(np.int64).reshape(-1)
    calls += [(np.copyto, (buffer[:, k], counter[k], "same_kind")) for k in range(4)]
    if dtype == np.float32:
        calls.append((np.right_shift, (buffer, scalar(8, np.uint32), buffer)))
        buffer = buffer.view(np.int32)
    return calls, buffer.reshape(-1)


def random_bits(
    out: Array, seed: Array, step: Array, t: Array | None = None, *, stream: int, scratch: Array, **_: Any
) -> list[Call]:
    """out (any shape, uint32) = raw Philox words; seed, step and t are 0-d integers read at run."""
    return _generate(out, seed, step, t, stream, scratch)


def random_uniform(
    out: Array, seed: Array, step: Array, t: Array | None = None, *, stream: int, scratch: Array, **_: Any
) -> list[Call]:
    """out (any shape, float32 or float64), uniform in [0, 1); seed, step, t are 0-d integers read at run."""
    return _generate(out, seed, step, t, stream, scratch)


def philox_uniform(seed: int, stream: int, shape: tuple[int, ...], dtype: str = "float32", step: int = 0) -> Array:
    """A new array, uniform in [0, 1): what `random_uniform` would write for these seed, stream and step."""
    out = np.empty(shape, dtype)
    scratch = np.empty(random_scratch((), {"shape": shape}), np.uint8)
    seeds, steps = (scalar(v & (1 << 64) - 1, np.uint64) for v in (seed, step))
    run(random_uniform(out, seeds, steps, stream=stream, scratch=scratch))
    return out


def philox_normal(seed: int, stream: int, shape: tuple[int, ...], dtype: str = "float32", step: int = 0) -> Array:
    """A new array of standard normals: Box-Muller on float64 uniforms, all cosines and then all sines."""
    size = prod(shape)
    half = -(-size // 2)
    u = philox_uniform(seed, stream, (2, half), "float64", step)
    radius, angle = np.sqrt(-2 * np.log1p(-u[0])), 2 * np.pi * u[1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]
    return normal.reshape(shape).astype(dtype)
