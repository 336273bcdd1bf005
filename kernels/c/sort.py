"""What orders numbers: arguments of extrema along an axis, and stable sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log2, prod

from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.strided import lines, unit_axis
from graphnet.kernels.text.axes import at, by_stride, loop, loops, merge, position
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Attrs, View

_KEYS = """\
/* Floats as unsigned numbers of the same order, NaN of either sign above all: their maximum is one instruction. */
GN_INLINE uint{bits}_t gn_key{bits}({real} value)
{{
    uint{bits}_t k;
    memcpy(&k, &value, sizeof k);
    return (k ^ ((uint{bits}_t)((int{bits}_t)k >> {last}) >> 1)) - {below_infinity};
}}
GN_INLINE {real} gn_unkey{bits}(uint{bits}_t k)
{{
    {real} value;
    k += {below_infinity};
    k ^= (uint{bits}_t)((int{bits}_t)k >> {last}) >> 1;
    memcpy(&value, &k, sizeof value);
    return value;
}}
"""
KEYS = {
    "float32": _KEYS.format(bits=32, last=31, real="float", below_infinity="0x807fffffu"),
    "float64": _KEYS.format(bits=64, last=63, real="double", below_infinity="0x800fffffffffffffu"),
}


def limit(dtype: str, low: bool) -> str:
    """The C constant that no number of dtype is below, or above."""
    if dtype in ("float32", "float64"):
        return "-INFINITY" if low else "INFINITY"
    if dtype == "bool":
        return "0" if low else "1"
    return f"{dtype.upper()}_{'MIN' if low else 'MAX'}" if dtype.startswith("int") or not low else "0"


# -- arguments of extrema -----------------------------------------------------------------------------------------


def _beyond(dtype: str, low: bool) -> tuple[str, str]:
    """The name and text of the helper that says whether a value displaces the best so far: NaN stays first."""
    ctype = CTYPES[dtype]
    name = f"gn_{'below' if low else 'above'}_{ctype}"
    test = f"v {'<' if low else '>'} best"
    if dtype in KEYS:
        test = f"({test}) | ((v != v) & (best == best))"
    return name, f"GN_INLINE int {name}({ctype} v, {ctype} best) {{ return {test}; }}\n"


def _argument(low: bool, out: View, x: View, axis: int) -> list[Phase]:
    if not out.size:
        return []
    onto = tuple(out.strides[a - (a > axis)] if a != axis else 0 for a in range(len(x.shape)))
    walk, n = lines(x.shape, axis, (x.strides, onto)), x.shape[axis]
    beyond, helper = _beyond(x.dtype, low)
    number = "int64_t" if ITEMSIZE[x.dtype] == 8 else "int32_t"

    def place(value: str) -> str:
        return f"{at(out, [i for a, i in enumerate(walk.index('0')) if a != axis])} = ({out.ctype}){value};"

    def look(index: str, at_index: str) -> str:
        """Compare one element; both stores happen always, so that the loop has no branches."""
        return (
            f"const {x.ctype} v = {at(x, walk.index(index))};\n"
            f"const int more = {beyond}(v, best[l]);\n"
            f"best[l] = more ? v : best[l];\n"
            f"which[l] = more ? ({number})({at_index}) : which[l];"
        )

    if walk.wide is None and n >= 64:
        body = _in_lanes(x, walk.index("l"), n, number, look, beyond) + place("which[first]")
    elif walk.wide is None:
        body = f"{x.ctype} best = {at(x, walk.index('0'))};\nlong which = 0;\n"
        test = f"if ({beyond}(v, best)) {{\n    best = v;\n    which = r;\n}}"
        body += loop("r", 1, n, f"const {x.ctype} v = {at(x, walk.index('r'))};\n{test}") + "\n" + place("which")
    else:
        body = f"{x.ctype} best[{walk.width}];\n{number} which[{walk.width}];\n"
        body += walk.each(f"best[l] = {at(x, walk.index('0'))};\nwhich[l] = 0;") + "\n"
        body += loop("r", 1, n, walk.each(look("r", "r"))) + "\n" + walk.each(place("which[l]"))
    mine = None if walk.shared is None else walk.shared - (walk.shared > axis)
    cost = 20 + x.size * (0.2 if walk.wide else 0.8)
    return [Phase(walk.wrap(body), walk.units, (mine, walk.shared), (helper,), cost, "first of the best")]


def _in_lanes(x: View, start: Sequence[str], n: int, number: str, look: Callable[[str, str], str], beyond: str) -> str:
    """16 candidates, each the first best of every 16th element; then the best of them, or the first of equals."""
    full = n - n % 16
    body = f"{x.ctype} best[16];\n{number} which[16];\n"
    body += loop("l", 0, 16, f"best[l] = {at(x, start)};\nwhich[l] = ({number})l;") + "\n"
    body += loop("r", 16, full, loop("l", 0, 16, look("r + l", "r + l")), 16) + "\n"
    if n % 16:
        body += loop("l", 0, n % 16, look(f"{full} + l", f"{full} + l")) + "\n"
    tie = f"!{beyond}(best[first], best[l]) && which[l] < which[first]"
    better = f"if ({beyond}(best[l], best[first]) || ({tie}))\n    first = l;"
    return body + "long first = 0;\n" + loop("l", 1, 16, better) + "\n"


def argmax(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Index of the first maximum along attrs axis, of the first NaN if there is one; out is int32 or int64."""
    return _argument(False, outs[0], ins[0], attrs["axis"])


def argmin(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Index of the first minimum along attrs axis, of the first NaN if there is one; out is int32 or int64."""
    return _argument(True, outs[0], ins[0], attrs["axis"])


# -- sorting ------------------------------------------------------------------------------------------------------

_RUN = 16  # elements sorted by insertion before merging starts

_SORT = """\
/* Sort n keys, and what stands at them, into key and at: runs by insertion, then merged, equal ones in order. */
static __attribute__((unused)) void gn_sort{bits}(uint{bits}_t *restrict key, int32_t *restrict at,
    uint{bits}_t *restrict spare_key, int32_t *restrict spare_at, long n)
{{
    for (long start = 0; start < n; start += {run}) {{
        const long stop = n - start < {run} ? n : start + {run};
        for (long i = start + 1; i < stop; i++) {{
            const uint{bits}_t k = key[i];
            const int32_t a = at[i];
            long j = i;
            for (; j > start && key[j - 1] > k; j--) {{
                key[j] = key[j - 1];
                at[j] = at[j - 1];
            }}
            key[j] = k;
            at[j] = a;
        }}
    }}
    for (long run = {run}; run < n; run *= 2) {{
        for (long start = 0; start < n; start += 2 * run) {{
            const long middle = n - start < run ? n : start + run;
            const long stop = n - middle < run ? n : middle + run;
            long left = start, right = middle, i = start;
            while (left < middle && right < stop) {{
                const int second = key[right] < key[left];
                const long from = second ? right : left;
                spare_key[i] = key[from];
                spare_at[i++] = at[from];
                left += !second;
                right += second;
            }}
            for (const long rest = left < middle ? left - i : right - i; i < stop; i++) {{
                spare_key[i] = key[i + rest];
                spare_at[i] = at[i + rest];
            }}
        }}
        memcpy(key, spare_key, sizeof *key * (size_t)n);
        memcpy(at, spare_at, sizeof *at * (size_t)n);
    }}
}}
"""
_ORDER = """\
/* All NaN are equal and above the rest, and zeros of both signs are equal. */
GN_INLINE uint{bits}_t gn_order{bits}({real} v) {{ return v != v ? UINT{bits}_MAX : gn_key{bits}(v + 0); }}
"""


def _key(dtype: str, descending: bool, value: str) -> str:
    """The expression of an unsigned number that puts a value in its place."""
    if dtype in KEYS:
        return f"gn_order{8 * ITEMSIZE[dtype]}({f'-{value}' if descending else value})"
    bits = 64 if ITEMSIZE[dtype] == 8 else 32
    lowest = {"int32": " ^ 0x80000000u", "int64": " ^ 0x8000000000000000u"}.get(dtype, "")
    number = f"(uint{bits}_t){value}{lowest}"
    return f"~({number})" if descending else number


def _aligned(nbytes: int) -> int:
    return -(-nbytes // 64) * 64


def _row_bytes(x: View, axis: int) -> tuple[int, int]:
    n = x.shape[axis]
    return _aligned(n * (8 if ITEMSIZE[x.dtype] == 8 else 4)), _aligned(n * 4)


def argsort_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int) -> int:
    """Bytes for two rows of keys and two of positions a thread."""
    return 2 * threads * sum(_row_bytes(ins[0], attrs["axis"])) if ins[0].size else 0


def argsort(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (int32 or int64) = the order that sorts x along attrs axis, NaN last, stable also if attrs descending."""
    out, x, axis = outs[0], ins[0], attrs["axis"]
    if not out.size:
        return []
    n, bits = x.shape[axis], 64 if ITEMSIZE[x.dtype] == 8 else 32
    keys, places = _row_bytes(x, axis)
    unit = unit_axis([1 if a == axis else size for a, size in enumerate(x.shape)])
    order = [a for a in by_stride(x.shape, (x.strides, out.strides)) if a != axis]
    around = merge(x.shape, order, (x.strides, out.strides), lambda a: a if a == unit else -1)
    index = position(len(x.shape), [(d, d.var) for d in around])
    index[axis] = "r"
    fill = f"key[r] = {_key(x.dtype, attrs['descending'], at(x, index))};\nplace[r] = (int32_t)r;"
    body = (
        f"{loop('r', 0, n, fill)}\n"
        f"gn_sort{bits}(key, place, spare_key, spare_place, {n});\n"
        f"{loop('r', 0, n, f'{at(out, index)} = place[r];')}"
    )
    body = loops([d for d in around if unit not in d.axes], body)
    body = body if unit is None else loop(f"i{unit}", "lo", "hi", body)
    own = (
        f"char *own = {job.scratch} + tid * {2 * (keys + places)}L;\n"
        f"uint{bits}_t *key = (uint{bits}_t *)own, *spare_key = (uint{bits}_t *)(own + {keys});\n"
        f"int32_t *place = (int32_t *)(own + {2 * keys}), *spare_place = (int32_t *)(own + {2 * keys + places});\n"
    )
    helpers: tuple[str, ...] = (_SORT.format(bits=bits, run=_RUN),)
    if x.dtype in KEYS:
        helpers = (KEYS[x.dtype], _ORDER.format(bits=bits, real=x.ctype), *helpers)
    cost = 20 + x.size * (5 + 2 * log2(max(n, 2)))
    units = 1 if unit is None else x.shape[unit]
    return [Phase(own + body, units, (unit, unit), helpers, cost, f"{prod(x.shape) // n} rows merged")]
