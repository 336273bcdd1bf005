"""Batches picked out of a data set that lies on the device, in an order that is worked out, not stored.

    position 0 1 2 3 ..    of an epoch, in order
    row      7 2 9 0 ..    a bijection of [0, rows), keyed by seed and epoch

A Feistel network permutes the numbers of 2h bits, the smallest such range that holds all rows; a number outside of
them is sent through again until it is one (Black, Rogaway: Ciphers with arbitrary finite domains, CT-RSA 2002). So
every row comes once an epoch, and a block can find its rows from the number of the batch alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from graphnet.kernels.cuda.phase import THREADS
from graphnet.kernels.cuda.prelude import HEADER
from graphnet.kernels.numpy.call import run, scalar
from graphnet.kernels.numpy.random import random_bits, random_scratch

ROUNDS = 8
KERNEL = "gn_gather"

BASE, START, SHUFFLED, KEYS = 0, 1, 2, 3
"""Words of the order: runs counted before the epoch, position of the first batch, whether to shuffle, round keys."""
WORDS = KEYS + ROUNDS

STREAM = 1 << 33
"""The random stream of orders: above those of a model's ops and of its parameters."""


def order(seed: int, epoch: int, shuffle: bool, base: int = 0, start: int = 0) -> NDArray[np.int64]:
    """The words (int64) that tell the kernel an epoch's order."""
    words = np.zeros(WORDS, np.int64)
    words[[BASE, START, SHUFFLED]] = base, start, shuffle
    words[KEYS:] = _keys(seed, epoch)
    return words


def _keys(seed: int, epoch: int) -> NDArray[np.uint32]:
    """Round keys: the Philox words of the stream of orders at step ``epoch``."""
    keys = np.empty(ROUNDS, np.uint32)
    scratch = np.empty(random_scratch((), {"shape": keys.shape}), np.uint8)
    run(random_bits(keys, scalar(seed, np.uint64), scalar(epoch, np.uint64), stream=STREAM, scratch=scratch))
    return keys


def half_bits(rows: int) -> int:
    """Bits of half a number that the network permutes: 4**half >= rows."""
    return max(1, -(-(rows - 1).bit_length() // 2))


def rows_at(positions: NDArray[np.int64], rows: int, words: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the kernel computes: the rows (int64) at positions of an epoch, by the order's words."""
    found = np.array(positions, np.uint64)
    if words[SHUFFLED]:
        todo = np.ones(found.shape, bool)
        while todo.any():
            found[todo] = _permuted(found[todo], half_bits(rows), words[KEYS:])
            todo &= found >= rows
    return found.astype(np.int64)


def _permuted(number: NDArray[np.uint64], half: int, keys: NDArray[np.int64]) -> NDArray[np.uint64]:
    mask = np.uint32((1 << half) - 1)
    left = (number >> np.uint64(half)).astype(np.uint32)
    right = (number & np.uint64(mask)).astype(np.uint32)
    for key in keys.astype(np.uint32):
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left.astype(np.uint64) << np.uint64(half)) | right


def _mixed(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The finaliser of MurmurHash3, modulo 2**32."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ x >> np.uint32(shift)) * np.uint32(factor)
    return x ^ x >> np.uint32(16)


_ORDER = """
struct gather {
    const int64_t *order;   /* runs before the epoch, first position, whether to shuffle, round keys */
    const int64_t *note;    /* of the plan: word 4 counts its runs */
    const char *from[ARRAYS];
    char *to[ARRAYS];
};

struct alignas(16) gn_wide { uint64_t low, high; };

GN_INLINE uint32_t gn_mixed(uint32_t x)
{
    x = (x ^ x >> 16) * 0x85EBCA6Bu;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    return x ^ x >> 16;
}

/* the row at a position of the epoch */
GN_INLINE int64_t gn_row(int64_t position, const int64_t *order)
{
    if (!order[SHUFFLED])
        return position;
    uint64_t number = (uint64_t)position;
    do {
        uint32_t left = (uint32_t)(number >> HALF), right = (uint32_t)number & MASK;
        for (int i = 0; i < ROUNDS; ++i) {
            const uint32_t next = left ^ (gn_mixed(right ^ (uint32_t)order[KEYS + i]) & MASK);
            left = right;
            right = next;
        }
        number = (uint64_t)left << HALF | right;
    } while (number >= ROWS);
    return (int64_t)number;
}
"""

_ARRAY = """
/* array NUMBER: WIDTH bytes a row, in words of TYPE; a unit is TOGETHER rows */
GN_INLINE void gn_gather_NUMBER(const struct gather &g, int64_t first, int unit)
{
    const int slot = unit * TOGETHER + (int)threadIdx.x / LANES;
    if ((int)threadIdx.x < TOGETHER * LANES && slot < BATCH) {
        const TYPE *const from = (const TYPE *)g.from[NUMBER] + gn_row(first + slot, g.order) * WORDS;
        TYPE *const to = (TYPE *)g.to[NUMBER] + (int64_t)slot * WORDS;
        for (int w = (int)threadIdx.x % LANES; w < WORDS; w += LANES)
            to[w] = from[w];
    }
}
"""

_KERNEL = """
extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(const __grid_constant__ struct gather g)
{
    const int64_t first = g.order[1] + (g.note[4] - g.order[0]) * BATCH;
    for (int unit = blockIdx.x; unit < UNITS; unit += gridDim.x) {
BODY
    }
}
"""


def gather(rows: int, batch: int, widths: Sequence[int]) -> tuple[str, int]:
    """The text of KERNEL, which copies a batch of rows of several arrays, and how many blocks it wants.

    ``widths`` are the bytes of a row of each array; every row of an array begins at a multiple of what its words
    need if the array does at 16 bytes. The kernel's one parameter is ``struct gather``.
    """
    texts, lines, units = [], [], 0
    for number, width in enumerate(widths):
        ctype, size = next((t, n) for t, n in _WORD_TYPES if width % n == 0)
        words = max(1, width // size)
        together = max(1, THREADS // words)
        values = {"NUMBER": number, "WIDTH": width, "TYPE": ctype, "WORDS": words, "BATCH": batch}
        texts.append(_filled(_ARRAY, values | {"TOGETHER": together, "LANES": THREADS // together}))
        count = -(-batch // together)
        lines.append(f"        if (unit >= {units} && unit < {units + count})")
        lines.append(f"            gn_gather_{number}(g, first, unit - {units});")
        units += count
    half = half_bits(rows)
    values = {"SHUFFLED": SHUFFLED, "KEYS": KEYS, "ROUNDS": ROUNDS, "HALF": half, "MASK": f"{(1 << half) - 1}u"}
    head = _filled(_ORDER, values | {"ROWS": f"{rows}u", "ARRAYS": len(widths)})
    kernel = _filled(_KERNEL, {"KERNEL": KERNEL, "BATCH": batch, "UNITS": units, "BODY": "\n".join(lines)})
    return "\n".join([HEADER, head, *texts, kernel]), units


_WORD_TYPES = (("struct gn_wide", 16), ("uint64_t", 8), ("uint32_t", 4), ("uint8_t", 1))


def _filled(text: str, values: dict[str, object]) -> str:
    for name, value in values.items():
        text = re.sub(rf"(?<![A-Z]){name}(?![A-Z])", str(value), text)
    return text
