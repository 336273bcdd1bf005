"""Philox against the known answers of Random123, and the layout that all backends share."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.numpy import run
from graphnet.kernels.numpy.random import (
    load,
    philox_normal,
    philox_uniform,
    random_scratch,
    random_uniform,
    rounds,
    stream_key,
)

LOW = 0xFFFFFFFF


def scalar_philox(counter, key):
    """Philox4x32-10 word by word, as the paper writes it."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [b >> 32 ^ c[1] ^ k[0], b & LOW, a >> 32 ^ c[3] ^ k[1], a & LOW]
        k = [k[0] + 0x9E3779B9 & LOW, k[1] + 0xBB67AE85 & LOW]
    return c


VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), VECTORS)
def test_known_answers(counter, key, answer):
    """kat_vectors of Random123 for philox4x32 with 10 rounds."""
    counter, key, answer = ([int(word, 16) for word in text.split()] for text in (counter, key, answer))
    words = [np.array([c, c], "uint64") for c in counter]
    keys, product = np.empty((10, 2), "uint64"), (np.empty(2, "uint64"), np.empty(2, "uint64"))
    seed = np.array(key[0] | key[1] << 32, "uint64")
    load(keys, np.empty(2, "uint64"), 0, seed, np.array(0, "uint64"), None)
    run(rounds(words, keys, product))
    assert [w.tolist() for w in words] == [[a, a] for a in answer]
    assert scalar_philox(counter, key) == answer


def expected_words(seed, stream, step, t, blocks):
    key = seed ^ stream_key(stream)
    count = step & LOW, (step >> 32 ^ t) & LOW
    return [scalar_philox((b & LOW, b >> 32, *count), (key & LOW, key >> 32)) for b in blocks]


@pytest.mark.parametrize(
    ("seed", "stream", "step", "t"),
    [(0, 0, 0, None), (12345, 7, 3, 2), (2**64 - 1, 2**63 + 5, 2**33 + 1, None), (1, 2, 0, -1)],
)
def test_layout_of_words(k, seed, stream, step, t):
    """Element i is word i % 4 of block i // 4, shifted and scaled as the module's docstring says."""
    ins = [np.array(seed, "uint64"), np.array(step, "uint64"), *([] if t is None else [np.array(t, "int32")])]
    words = np.array(expected_words(seed, stream, step, t or 0, range(5)), "uint64")
    attrs = {"stream": stream, "shape": (3, 6)}
    flat = words.ravel()[:18].reshape(3, 6)
    bits = k.execute("random_bits", np.empty((3, 6), "uint32"), *ins, **attrs)
    np.testing.assert_array_equal(bits, flat)
    single = k.execute("random_uniform", k.strided(np.empty((3, 6), "float32")), *ins, **attrs)
    np.testing.assert_array_equal(single, (flat >> 8) * 2.0**-24)
    double = k.execute("random_uniform", np.empty(9, "float64"), *ins, stream=stream, shape=(9,))
    pairs = (words[:, 0::2] << np.uint64(32) | words[:, 1::2]) >> np.uint64(11)
    np.testing.assert_array_equal(double, pairs.ravel()[:9] * 2.0**-53)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_join_without_a_seam(k, dtype):
    """A prefix of a long stream is the short stream, and strided results hold the same numbers."""
    long = philox_uniform(3, 4, (100_003,), dtype)
    np.testing.assert_array_equal(philox_uniform(3, 4, (1001,), dtype), long[:1001])
    view = k.strided(np.empty(100_003, dtype))
    seed, step = np.array(3, "uint64"), np.array(0, "uint64")
    np.testing.assert_array_equal(k.execute("random_uniform", view, seed, step, stream=4), long)
    words = expected_words(3, 4, 0, 0, [8191, 8192, 24_999])
    first = [w[0] >> 8 if dtype == "float32" else (w[0] << 32 | w[1]) >> 11 for w in words]
    per, scale = (4, 2.0**-24) if dtype == "float32" else (2, 2.0**-53)
    np.testing.assert_array_equal(long[[per * 8191, per * 8192, per * 24_999]], np.array(first) * scale)


def test_seed_and_step_are_read_at_run():
    """One binding gives new numbers when the step moves on, the same when it returns."""
    out, seed, step = np.empty(10, "float32"), np.array(1, "uint64"), np.array(0, "uint64")
    scratch = np.empty(random_scratch((), {"shape": (10,)}), "uint8")
    calls = random_uniform(out, seed, step, stream=0, scratch=scratch)
    seen = []
    for now in (0, 1, 0):
        step[...] = now
        run(calls)
        seen.append(out.copy())
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])


def test_empty_and_scalar_results(k):
    """Nothing to write, or one number."""
    seed = np.array(1, "uint64")
    assert k.bind("random_uniform", np.empty((0, 3), "float32"), seed, seed, stream=0) == []
    got = k.execute("random_uniform", np.empty((), "float32"), seed, seed, stream=0)
    np.testing.assert_array_equal(got, philox_uniform(1, 0, (1,), step=1)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_and_normal_have_their_moments(dtype):
    """200,000 draws: mean, variance and range; streams are uncorrelated."""
    u = philox_uniform(0, 1, (200_000,), dtype)
    assert u.dtype == dtype
    assert 0 <= u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert abs(u.mean() - 0.5) < 3e-3
    assert abs(u.var() - 1 / 12) < 1e-3
    z = philox_normal(0, 1, (400, 501), dtype)
    assert z.shape == (400, 501)
    assert z.dtype == dtype
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.1
    assert abs(np.corrcoef(u, philox_uniform(0, 2, (200_000,), dtype))[0, 1]) < 0.01


def test_dropout_masks_allocate_nothing(k):
    """A million numbers through scratch of a fixed size."""
    seed = np.array(1, "uint64")
    for dtype in ("float32", "float64"):
        calls = k.bind("random_uniform", np.empty(1_000_000, dtype), seed, seed, stream=0)
        assert k.peak(calls) < 8192
    assert random_scratch((), {}) < 1 << 20
