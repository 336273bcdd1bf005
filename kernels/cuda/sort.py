"""Stable sorting of lines along an axis.

    a short line    sorted in shared memory, with as many beside it as there is room for
    a long one      runs sorted in shared memory, then merged, two and two:  run run run  ->  run run run  ->  run

Keys are unsigned numbers in the order that is asked for. Of two equal ones the first stays first, since an element is
compared by its key and then by its place: so a bitonic network, which is not stable, does, and an element's place
in the merged run is its own place plus the number of those before it in the other run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.cuda.nest import Elements, block, body_of, coordinates, elements
from graphnet.kernels.cuda.phase import THREADS, Job, Phase
from graphnet.kernels.text.axes import at, by_stride, merge, position
from graphnet.kernels.text.view import ITEMSIZE, Attrs, View

RUN = 2048
"""Elements that are sorted in shared memory, a power of two."""

_BEFORE = """\
/* Whether an element comes before another one: by its key, then by its place. */
GN_INLINE bool gn_before{bits}(uint{bits}_t key, int32_t at, uint{bits}_t than, int32_t place)
{{
    return key < than || (key == than && at < place);
}}
"""
_ORDER = """\
/* Floats as unsigned numbers of the same order; all NaN are equal and above the rest, zeros of both signs equal. */
GN_INLINE uint{bits}_t gn_order{bits}({real} v)
{{
    uint{bits}_t k;
    v = v + 0;
    memcpy(&k, &v, sizeof k);
    return v != v ? ~(uint{bits}_t)0 : k ^ ((uint{bits}_t)((int{bits}_t)k >> {last}) | (uint{bits}_t)1 << {last});
}}
"""


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines of x along an axis: ``around`` are coordinates (name, size) of a line, ``index`` where its element r is.

    ``length`` is that of a run: a line and what fills it up to a power of two, or RUN elements of a longer one.
    """

    x: View
    out: View
    axis: int
    around: tuple[tuple[str, int], ...]
    index: tuple[str, ...]
    ctype: str

    @property
    def size(self) -> int:
        return self.x.shape[self.axis]

    @property
    def count(self) -> int:
        return prod(n for _, n in self.around)

    @property
    def bits(self) -> int:
        return 64 if ITEMSIZE[self.x.dtype] == 8 else 32

    @property
    def length(self) -> int:
        return min(RUN, 1 << max(0, self.size - 1).bit_length())

    @property
    def merged(self) -> bool:
        return self.size > self.length

    @property
    def beside(self) -> int:
        """Lines of a unit: enough for two elements a thread."""
        return 1 if self.merged else max(1, min(self.count, 2 * THREADS // self.length))


def _lines(out: View, x: View, axis: int) -> _Lines:
    order = [a for a in by_stride(x.shape, (x.strides, out.strides)) if a != axis]
    dims = merge(x.shape, order, (x.strides, out.strides))
    names = [d.var for d in dims] if len(dims) > 1 else ["line"] * len(dims)
    index = position(len(x.shape), zip(dims, names, strict=True))
    index[axis] = "r"
    around = tuple((name, d.size) for name, d in zip(names, dims, strict=True))
    return _Lines(x, out, axis, around, tuple(index), elements([*around, ("r", x.shape[axis])], out, x).ctype)


def _key(dtype: str, descending: bool, value: str) -> str:
    """The expression of an unsigned number that puts a value in its place."""
    bits = 64 if ITEMSIZE[dtype] == 8 else 32
    if dtype in ("float32", "float64"):
        return f"gn_order{bits}({'-' * descending}{value})"
    lowest = {"int32": " ^ 0x80000000u", "int64": " ^ 0x8000000000000000u"}.get(dtype, "")
    number = f"(uint{bits}_t){value}{lowest}"
    return f"~({number})" if descending else number


def argsort_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs) -> int:
    """Bytes for the keys and the places of all elements, twice, where lines are too long for shared memory."""
    x = ins[0]
    if not x.size or x.shape[attrs["axis"]] <= RUN:
        return 0
    return 2 * (_room(x.size, 8 if ITEMSIZE[x.dtype] == 8 else 4) + _room(x.size, 4))


def _room(count: int, itemsize: int) -> int:
    return -(-count * itemsize // 64) * 64


def argsort(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (int32 or int64) = the order that sorts x along attrs axis, NaN last, stable also if attrs descending."""
    out, x = outs[0], ins[0]
    if not out.size:
        return []
    lines = _lines(out, x, attrs["axis"])
    found = [_runs(lines, attrs["descending"], job)]
    run, turn = lines.length, 0
    while run < lines.size:
        found.append(_merge(lines, run, turn, job))
        run, turn = 2 * run, 1 - turn
    return found


# -- runs ---------------------------------------------------------------------------------------------------------


def _runs(lines: _Lines, descending: bool, job: Job) -> Phase:
    """Sorts every run of a line, to out if there is only one, else to scratch."""
    bits, length = lines.bits, lines.length
    slots, runs = lines.beside * length, -(-lines.size // length)
    units = -(-lines.count // lines.beside) * runs
    number = f"uint{bits}_t"
    line = "unit" if not lines.merged else f"unit / {runs}"
    line = f"{line} * {lines.beside} + s / {length}" if lines.beside > 1 else line
    first = f"unit % {runs} * {length} + " if lines.merged else ""
    where = [f"const {lines.ctype} line = {line}, r = {first}s % {length};"]
    inside = f"if (line < {lines.count} && r < {lines.size})"
    key = _key(lines.x.dtype, descending, at(lines.x, lines.index))
    fill = [
        *where,
        "place[s] = (int32_t)r;",
        f"key[s] = ~({number})0;",
        *block(inside, [*coordinates(lines.around, "line", lines.ctype, [key]), f"key[s] = {key};"]),
    ]
    text = [
        f"{number} *key = ({number} *)gn_shared;",
        f"int32_t *place = (int32_t *)(key + {slots});",
        *block(f"for (int s = threadIdx.x; s < {slots}; s += {THREADS})", fill),
        "__syncthreads();",
        *_network(slots, length, bits),
    ]
    store = (
        _stored(lines, "place[s]") if not lines.merged else [*_kept(lines, 0, job, "line", "r", "key[s]", "place[s]")]
    )
    text += block(f"for (int s = threadIdx.x; s < {slots}; s += {THREADS})", [*where, *block(inside, store)])
    helpers = [_BEFORE.format(bits=bits)]
    if lines.x.dtype.startswith("float"):
        helpers.append(_ORDER.format(bits=bits, real=lines.x.ctype, last=bits - 1))
    note = f"{lines.count} lines of {lines.size}" + f", runs of {length}" * lines.merged
    return Phase(body_of(text), units, slots * (bits // 8 + 4), helpers=tuple(helpers), note=note)


def _network(slots: int, length: int, bits: int) -> list[str]:
    """Batcher's bitonic network on every ``length`` of the slots, upwards all of it: halves are compared mirrored."""
    if length == 1:
        return []
    exchange = [
        f"const uint{bits}_t first = key[low];",
        "const int32_t own = place[low];",
        *block(
            f"if (gn_before{bits}(key[high], place[high], first, own))",
            ["key[low] = key[high];", "place[low] = place[high];", "key[high] = first;", "place[high] = own;"],
        ),
    ]
    pairs = f"for (int p = threadIdx.x; p < {slots // 2}; p += {THREADS})"
    low = [
        "const int low = 2 * p - (p & (half - 1));",
        "const int high = half == size / 2 ? low + size - 1 - 2 * (low & (size - 1)) : low + half;",
    ]
    inner = [*block(pairs, [*low, *exchange]), "__syncthreads();"]
    half = block("for (int half = size / 2; half > 0; half /= 2)", inner)
    return block(f"for (int size = 2; size <= {length}; size *= 2)", half)


def _stored(lines: _Lines, place: str) -> list[str]:
    """Stores what stands at place r of a line."""
    target = at(lines.out, lines.index)
    return [*coordinates(lines.around, "line", lines.ctype, [target]), f"{target} = ({lines.out.ctype}){place};"]


# -- merging ------------------------------------------------------------------------------------------------------


def _kept(lines: _Lines, turn: int, job: Job, line: str, r: str, key: str, place: str) -> list[str]:
    """Stores an element to one of the two halves of scratch."""
    keys, places = _pieces(lines, turn, job)
    index = f"{line} * {lines.size} + {r}"
    return [f"({keys})[{index}] = {key};", f"({places})[{index}] = {place};"]


def _pieces(lines: _Lines, turn: int, job: Job) -> tuple[str, str]:
    """Where keys and places are in one half of scratch."""
    wide = _room(lines.x.size, lines.bits // 8)
    start = turn * (wide + _room(lines.x.size, 4))
    return f"(uint{lines.bits}_t *)({job.scratch} + {start})", f"(int32_t *)({job.scratch} + {start + wide})"


def _merge(lines: _Lines, run: int, turn: int, job: Job) -> Phase:
    """Merges runs two and two: each element finds its place by halving the other run."""
    keys, places = _pieces(lines, turn, job)
    ctype, bits, size = lines.ctype, lines.bits, lines.size
    shape = Elements((("line", lines.count), ("from", size)), 1, ctype)
    search = [
        f"const {ctype} middle = (low + high) / 2;",
        f"if (gn_before{bits}(key[middle], place[middle], own, mine))",
        "    low = middle + 1;",
        "else",
        "    high = middle;",
    ]
    text = [
        f"const uint{bits}_t *key = {keys} + line * {size};",
        f"const int32_t *place = {places} + line * {size};",
        f"const uint{bits}_t own = key[from];",
        "const int32_t mine = place[from];",
        f"const {ctype} start = from / {2 * run} * {2 * run}, middle_of = start + {run};",
        "const bool left = from < middle_of;",
        f"{ctype} low = left ? middle_of : start, high = left ? middle_of + {run} : middle_of;",
        f"low = low < {size} ? low : {size};",
        f"high = high < {size} ? high : {size};",
        f"const {ctype} first = low;",
        *block("while (low < high)", search),
        f"const {ctype} r = (left ? from : from - {run}) + (low - first);",
    ]
    if 2 * run >= size:
        text += _stored(lines, "mine")
    else:
        text += _kept(lines, 1 - turn, job, "line", "r", "own", "mine")
    return Phase(
        body_of(shape.turn(text)), shape.units, helpers=(_BEFORE.format(bits=bits),), note=f"runs of {2 * run}"
    )
