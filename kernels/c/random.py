"""Counter-based randomness: Philox4x32-10 as `graphnet.kernels.numpy.random` lays it out, bit for bit.

The four words of _BLOCK counters are kept in four arrays, and each of the ten rounds is one loop over them, which
the compiler vectorises. Every block stands for itself, so threads may start anywhere. Honours an epilogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.strided import share_axis, unit_axis
from graphnet.kernels.text.axes import Dim, at, indent, loop, loops
from graphnet.kernels.text.view import Attrs, View

_BLOCK = 128  # counters whose words stay in the first cache

_PHILOX = """\
/* The words of n <= BLOCK counters from first on, w[0][l] to w[3][l]; Philox4x32-10 (Salmon et al., SC 2011). */
static __attribute__((unused)) void gn_philox(uint32_t w[4][BLOCK], long n, uint64_t first, uint64_t key,
    uint64_t step, uint64_t t)
{
    const uint32_t low = (uint32_t)step, high = (uint32_t)(step >> 32) ^ (uint32_t)t;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (long l = 0; l < n; l++) {
        w[0][l] = (uint32_t)(first + (uint64_t)l);
        w[1][l] = (uint32_t)((first + (uint64_t)l) >> 32);
        w[2][l] = low;
        w[3][l] = high;
    }
    for (int round = 0; round < 10; round++) {
        for (long l = 0; l < n; l++) {
            const uint64_t p = (uint64_t)w[0][l] * 0xD2511F53u, q = (uint64_t)w[2][l] * 0xCD9E8D57u;
            w[0][l] = (uint32_t)(q >> 32) ^ w[1][l] ^ k0;
            w[1][l] = (uint32_t)q;
            w[2][l] = (uint32_t)(p >> 32) ^ w[3][l] ^ k1;
            w[3][l] = (uint32_t)p;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}
""".replace("BLOCK", str(_BLOCK))

_UNIFORM = {
    "float32": """\
/* count <= 4 * BLOCK uniform numbers from the counter first on */
static __attribute__((unused)) void gn_uniform_float(float *restrict value, long count, uint64_t first, uint64_t key,
    uint64_t step, uint64_t t)
{
    uint32_t w[4][BLOCK];
    const long n = (count + 3) / 4;
    gn_philox(w, n, first, key, step, t);
    for (long l = 0; l < n; l++) {
        value[4 * l] = (float)(int32_t)(w[0][l] >> 8) * 0x1p-24f;
        value[4 * l + 1] = (float)(int32_t)(w[1][l] >> 8) * 0x1p-24f;
        value[4 * l + 2] = (float)(int32_t)(w[2][l] >> 8) * 0x1p-24f;
        value[4 * l + 3] = (float)(int32_t)(w[3][l] >> 8) * 0x1p-24f;
    }
}
""".replace("BLOCK", str(_BLOCK)),
    "float64": """\
/* count <= 2 * BLOCK uniform numbers from the counter first on */
static __attribute__((unused)) void gn_uniform_double(double *restrict value, long count, uint64_t first,
    uint64_t key, uint64_t step, uint64_t t)
{
    uint32_t w[4][BLOCK];
    const long n = (count + 1) / 2;
    gn_philox(w, n, first, key, step, t);
    for (long l = 0; l < n; l++) {
        value[2 * l] = (double)(int64_t)(((uint64_t)w[0][l] << 32 | w[1][l]) >> 11) * 0x1p-53;
        value[2 * l + 1] = (double)(int64_t)(((uint64_t)w[2][l] << 32 | w[3][l]) >> 11) * 0x1p-53;
    }
}
""".replace("BLOCK", str(_BLOCK)),
}


def stream_key(stream: int) -> int:
    """splitmix64 of a stream number: what the seed is xored with to give the 64-bit key."""
    z = (stream + 0x9E3779B97F4A7C15) & (1 << 64) - 1
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    z = (z ^ z >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
    return z ^ z >> 31


def _start(out: View) -> str:
    """Where an index starts in row-major order, for loops i0, i1, .. over all axes but the last."""
    terms = (f"i{a} * {prod(out.shape[a + 1 :])}" for a, n in enumerate(out.shape[:-1]) if n > 1)
    return " + ".join(terms) or "0"


def _in_rows(out: View, job: Job, make: str, most: int) -> Phase:
    """Loops over all axes: no index has to be worked out from a position."""
    *lead, last = range(len(out.shape))
    n, unit = out.shape[last], unit_axis(out.shape[:-1])
    index = [f"i{a}" if out.shape[a] > 1 else "0" for a in lead] + ["j + l"]
    store = job.epilogue(index, "value[l]") if job.epilogue else f"{at(out, index)} = value[l];"
    count = f"const long count = {n} - j < {most} ? {n} - j : {most};\n" if n > most else f"const long count = {n};\n"
    body = f"{count}const long start = {_start(out)} + j;\n{make}\n{loop('l', 0, 'count', store)}"
    body = loop("j", 0, n, body, most) if n > most else f"const long j = 0;\n{body}"
    body = body if unit is not None or n > most else "{\n" + indent(body) + "\n}"
    body = loops([Dim((a,), out.shape[a]) for a in lead if out.shape[a] > 1 and a != unit], body)
    body = body if unit is None else loop(f"i{unit}", "lo", "hi", body)
    return Phase(body, 1 if unit is None else out.shape[unit], (unit,))


def _in_order(out: View, job: Job, make: str, most: int, per_counter: int) -> Phase:
    """Row-major positions in blocks, whatever the axes."""
    units, size, axis = _units(out, most, per_counter)
    index = [_coordinate(out, a) for a in range(len(out.shape))]
    if job.epilogue:
        store = f"const long at = start + l;\n{job.epilogue(index, 'value[l]')}"
    elif out.contiguous:
        store = f"{out.name}[start + l] = value[l];"
    else:
        store = f"const long at = start + l;\n{at(out, index)} = value[l];"
    total = out.size
    stop = f"hi * {size}" if units * size == total else f"hi * {size} < {total} ? hi * {size} : {total}"
    body = f"const long count = stop - start < {most} ? stop - start : {most};\n{make}\n{loop('l', 0, 'count', store)}"
    body = f"const long stop = {stop};\n" + loop("start", f"lo * {size}", "stop", body, most)
    return Phase(body, units, (axis,))


def _units(out: View, most: int, per_counter: int) -> tuple[int, int, int | None]:
    """Units, elements of a unit and the axis they share out: the leading one if its rows end with a counter."""
    axis = next((a for a, n in enumerate(out.shape) if n > 1), None)
    row = prod(out.shape[axis + 1 :]) if axis is not None else 1
    if axis is not None and row % per_counter == 0 and out.shape[axis] >= 8:
        return out.shape[axis], row, axis
    return -(-out.size // most), most, None


def _coordinate(out: View, axis: int) -> str:
    """The index along an axis at row-major position ``at``."""
    behind, n = prod(out.shape[axis + 1 :]), out.shape[axis]
    if n == 1:
        return "0"
    place = "at" if behind == 1 else f"at / {behind}"
    return place if prod(out.shape[:axis]) == 1 else f"{place} % {n}"


def random_uniform(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (float32 or float64) uniform in [0, 1); ins are integers without axes: seed, step and perhaps t.

    Other arrays behind them are taken to be read by the epilogue.
    """
    out, (seed, step), t = outs[0], ins[:2], ins[2:3]
    if not out.size:
        return []
    per_counter = 2 if out.dtype == "float64" else 4
    most = per_counter * _BLOCK
    inner = f"(uint64_t){t[0].name}[0]" if t and t[0].shape == () and "int" in t[0].dtype else "0"
    head = (
        f"const uint64_t key = (uint64_t){seed.name}[0] ^ {stream_key(attrs['stream']):#x}u;\n"
        f"const uint64_t step = (uint64_t){step.name}[0], t = {inner};\n"
        f"{out.ctype} value[{most}];\n"
    )
    make = f"gn_uniform_{out.ctype}(value, count, (uint64_t)(start / {per_counter}), key, step, t);"
    rows = out.shape and out.shape[-1] % per_counter == 0 and out.shape[-1] >= 64
    if rows and (job.epilogue or not out.contiguous):
        phase = _in_rows(out, job, make, most)
    else:
        phase = _in_order(out, job, make, most, per_counter)
    axis = phase.axes[0]
    made = (share_axis(v, out.shape, axis, phase.units) if axis is not None else None for v in outs)
    return [
        replace(
            phase,
            body=head + phase.body,
            axes=(*made, *(None,) * len(ins)),
            helpers=(_PHILOX, _UNIFORM[out.dtype]),
            cost=100 + out.size * (0.4 if per_counter == 4 else 0.8),
            note="Philox4x32-10",
        )
    ]
