"""The gradient of a convolution in its weights: products along the pixels of packed rows and of the signal.

    sums[chunk][o, (c, i, j)] = sum over the images of a chunk and pixels p of g[o, p] * rows[c, j][slot(i) + p]

Chunks of images depend on shapes alone; a second phase adds them up in order, whatever thread made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

from graphnet.kernels.c.conv_rows import ROWS_BYTES, UNITS, Conv, Rows, conv_of, counted, nothing, zeros
from graphnet.kernels.c.conv_text import RANGES, Scratch, block, divisor, in_order, loop, round_up, term, total
from graphnet.kernels.c.phase import Job, Phase, elements_cost
from graphnet.kernels.c.tile import ISAS, lanes, target, vector_type, vectors
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Attrs, View

_NEAR = 50 << 10  # bytes that a tile reads: about the first cache


@dataclass(frozen=True)
class _Weight:
    """How the gradient of the weights is cut: chunks of images by blocks of channels, groups of images in a chunk."""

    conv: Conv

    @cached_property
    def chunks(self) -> int:
        parts = self.conv.groups * min(2, self.conv.channels)
        return min(self.conv.images, UNITS if parts == 1 else UNITS // 2)

    @cached_property
    def together(self) -> int:
        """Images that are summed in registers at once: as many as keep what a tile reads in the first cache."""
        most = -(-self.conv.images // self.chunks)
        plane = Rows(self.conv, self.conv.size[0]).plane
        fitting = _NEAR // (5 * (self.conv.pixels + plane) * self.conv.itemsize)
        return -(-most // -(-most // max(1, fitting)))

    @cached_property
    def straight(self) -> bool:
        """g is read where it lies, an image at a time; else images lie side by side in each row of pixels."""
        return self.conv.pixels % lanes(self.conv.dtype) == 0 and in_order(self.conv.y, slice(2, None))

    @cached_property
    def rows(self) -> Rows:
        return Rows(self.conv, self.conv.size[0], 1 if self.straight else self.together)

    @cached_property
    def channels(self) -> int:
        """Channels of a block."""
        copies = self.together if self.straight else 1
        each = self.conv.kernel[1] * self.rows.plane * self.conv.itemsize * copies
        return divisor(self.conv.channels, ROWS_BYTES // (2 * each))  # g is there, too

    @property
    def planes(self) -> int:
        """Pairs (c, j) of a block."""
        return self.channels * self.conv.kernel[1]

    @property
    def blocks(self) -> int:
        return self.conv.channels // self.channels

    @cached_property
    def tile(self) -> tuple[int, int]:
        return pixel_shape(self.conv.outputs, self.planes)

    @property
    def signal(self) -> int:
        """Elements of a channel of packed g."""
        return round_up(self.together * self.conv.pixels, lanes(self.conv.dtype))

    @cached_property
    def scratch(self) -> Scratch:
        conv = self.conv
        scratch = Scratch(self.chunks * conv.w.size * conv.itemsize)
        planes = self.planes * self.rows.plane * (self.together if self.straight else 1)
        scratch.add(conv.x.ctype, "rows", planes + lanes(conv.dtype), conv.itemsize)
        scratch.add(conv.x.ctype, "tile", round_up(prod(self.tile), lanes(conv.dtype)), conv.itemsize)
        scratch.add("int32_t", "at", self.planes, 4)
        if not self.straight:
            scratch.add(conv.x.ctype, "signal", conv.outputs * self.signal, conv.itemsize)
        if not conv.inside:
            scratch.add(conv.x.ctype, "stage", prod(self.rows.staged), conv.itemsize)
        return scratch


def conv2d_weight_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int) -> int:
    """Bytes for the sums of every chunk of images, and packed rows for each thread."""
    (out,), (x, g) = outs, ins
    return 0 if nothing(out, x, g) else _Weight(conv_of(x, out, g, attrs)).scratch.total(threads)


def conv2d_weight(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `conv2d` in w: out (O, C / groups, kh, kw) from x and g (N, O, oh, ow); attrs as for conv2d."""
    (out,), (x, g) = outs, ins
    if nothing(out, x, g):
        return zeros(out, None)
    conv = conv_of(x, out, g, attrs)
    plan = _Weight(conv)
    name, tile = pixel_tile(*plan.tile, conv.dtype)
    parts = conv.groups * plan.blocks
    first, end = (f"{k} * {conv.images} / {plan.chunks}" for k in ("chunk", "(chunk + 1)"))
    sums = total(
        f"({out.ctype} *){job.scratch}", f"chunk * {out.size}L", term("g", conv.outputs * conv.taps, conv.groups)
    )
    lines = [f"const long chunk = u / {parts}, end = {end};"]
    lines += [f"const long g = u / {plan.blocks} % {conv.groups};"] if conv.groups > 1 else []
    lines += [f"const long part = u % {plan.blocks};"] if plan.blocks > 1 else []
    lines += [f"{out.ctype} *sums = {sums};", "int more = 0; /* whether sums hold something */"]
    images = [*_weight_images(plan, name), "more = 1;"]
    lines += block(f"for (long n = {first}; n < end; n += {plan.together})", images)
    kh, kw = conv.kernel
    start = loop("q", plan.planes, [f"at[q] = (int32_t)(q / {kw} * {kh * kw} + q % {kw});"])
    if not conv.inside:
        start += loop("q", prod(plan.rows.staged), ["stage[q] = 0;"])
    lines = [*start, *block("for (long u = lo; u < hi; ++u)", lines)]
    lines = [*plan.scratch.declare(job.scratch, lines), *lines]
    note = f"{plan.chunks} chunks of images, tiles of {plan.tile[0]} x {plan.tile[1]}"
    helpers, cost = (vectors(), RANGES, folding(conv.dtype), tile), conv.cost
    phase = Phase("\n".join(lines), plan.chunks * parts, (None, None, None), helpers, cost, note)
    return [phase, _add_chunks(plan, job)]


def _weight_images(plan: _Weight, name: str) -> list[str]:
    """Adds the products of images n to n + images - 1, in a block of channels, to the sums of a chunk."""
    conv, rows, (x, g) = plan.conv, plan.rows, (plan.conv.x, plan.conv.y)
    wide, ow = lanes(conv.dtype), conv.size[1]
    channel = total(term("g", conv.channels, conv.groups), term("part", plan.channels, plan.blocks))
    image = total(x.name, term("(n + m)", x.strides[0]), term(f"({channel})", x.strides[1], 1 if channel == "0" else 2))
    signal = total(g.name, term("n", g.strides[0]), term("g", conv.outputs * g.strides[1], conv.groups))
    if plan.straight:
        size = plan.planes * rows.plane
        into, line = total("rows", f"m * {size}"), str(ow)
        lengths = f"images, {conv.pixels // wide}, 0"
        left, right = f"{g.strides[0]}, {g.strides[1]}", f"{size}, {rows.plane}"
        step, lines = g.strides[1], [f"const {g.ctype} *signal = {signal};"]
    else:
        into, line, step = f"rows + m * {ow}", f"{ow} * images", plan.signal
        lengths = f"1, images * {conv.pixels} / {wide}, images * {conv.pixels} % {wide}"
        left, right = f"0, {plan.signal}", f"0, {rows.plane}"
        lines = _pack_signals(plan, signal)
    pack = rows.gather(image, plan.channels, into, line=line)
    operands = f"signal + o * {step}L, {left}, rows + p * {rows.plane} + {rows.slot(line)}, {right}"
    return [
        f"const long images = end - n < {plan.together} ? end - n : {plan.together};",
        *loop("m", "images", pack),
        *lines,
        *_weight_tiles(plan, f"{name}({lengths}, {operands}, tile);"),
    ]


def _weight_tiles(plan: _Weight, call: str) -> list[str]:
    """All tiles of a block of channels; of tiles that overlap, rows and columns are stored once."""
    conv, (mr, nr), (kh, kw) = plan.conv, plan.tile, plan.conv.kernel
    place = total(f"(o + a) * {conv.taps}", term("part", plan.channels * kh * kw, plan.blocks), f"i * {kw}")
    store = [f"{conv.w.ctype} *sum = to + at[p + b];", f"*sum = more ? *sum + tile[a * {nr} + b] : tile[a * {nr} + b];"]
    first, top = ("first - p" if plan.planes % nr else "0"), ("top - o" if conv.outputs % mr else "0")
    row = [f"{conv.w.ctype} *to = sums + {place};", *block(f"for (long b = {first}; b < {nr}; ++b)", store)]
    body = [
        f"const long o = {_start('top', conv.outputs, mr)}, p = {_start('first', plan.planes, nr)};",
        call,
        *block(f"for (long a = {top}; a < {mr}; ++a)", row),
    ]
    return loop("first", plan.planes, loop("top", conv.outputs, loop("i", kh, body), mr), nr)


def _start(variable: str, count: int, size: int) -> str:
    """Where a tile of ``size`` begins: the last one is moved back into range."""
    return f"({variable} < {count - size} ? {variable} : {count - size})" if count % size else variable


def _pack_signals(plan: _Weight, signal: str) -> list[str]:
    """Copies g of some images so that they lie side by side in each row of pixels, with zeros up to whole vectors."""
    conv, (image, channel, down, along) = plan.conv, plan.conv.y.strides
    oh, ow = conv.size
    source = total(term("m", image), term("o", channel), term("y", down), term("z", along))
    copy = f"signal[o * {plan.signal} + (y * images + m) * {ow} + z] = from[{source}];"
    copies = loop("y", oh, loop("m", "images", loop("z", ow, [copy])))
    fill = f"for (long q = images * {conv.pixels}; q < {plan.signal}; ++q)"
    copies += [fill, f"    signal[o * {plan.signal} + q] = 0;"]
    return [f"const {conv.y.ctype} *from = {signal};", *loop("o", conv.outputs, copies)]


def _add_chunks(plan: _Weight, job: Job) -> Phase:
    """out = the sums of all chunks, one after the other."""
    out, taps = plan.conv.w, plan.conv.taps
    added = " + ".join(f"sums[q + {s * out.size}L]" for s in range(plan.chunks))
    lines = [f"const {out.ctype} *sums = (const {out.ctype} *){job.scratch} + o * {taps};"]
    if in_order(out, slice(1, None)):
        to = total(out.name, term("o", out.strides[0]))
        lines += [f"{out.ctype} *to = {to};", *loop("q", taps, [f"to[q] = {added};"])]
    else:
        _, c, kh, kw = out.shape
        store = [f"const long q = (c * {kh} + i) * {kw} + j;", f"{out.at('o', 'c', 'i', 'j')} = {added};"]
        lines += loop("c", c, loop("i", kh, loop("j", kw, store)))
    text = "\n".join(block("for (long o = lo; o < hi; ++o)", lines))
    cost = elements_cost(out.size * plan.chunks, 0.05)
    return Phase(text, out.shape[0], (0, None, None), (), cost, "sum of chunks")


# -- tiles of sums along pixels ----------------------------------------------------------------------------


def _masks(half: int, width: int) -> tuple[str, str]:
    """Which lanes of two vectors are the first and the second half of their parts of 2 * half lanes."""
    lists = [[n for n in range(2 * width) if n // half % 2 == part] for part in (0, 1)]
    return ", ".join(map(str, lists[0])), ", ".join(map(str, lists[1]))


def folding(dtype: str) -> str:
    """Helper text: GN_FOLD{half}_{dtype}(a, b) halves the parts of two vectors, those of a first, by adding."""
    width, index = lanes(dtype), f"gn_lanes_{dtype}"
    half = width // 2
    text = f"""\
#if defined(__clang__)
#define GN_SHUFFLE_{dtype}(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int{8 * ITEMSIZE[dtype]}_t {index} __attribute__((vector_size({width * ITEMSIZE[dtype]})));
#define GN_SHUFFLE_{dtype}(a, b, ...) __builtin_shuffle(a, b, ({index}){{__VA_ARGS__}})
#endif
"""
    while half:
        first, second = _masks(half, width)
        text += f"#define GN_FOLD{half}_{dtype}(a, b) \\\n"
        text += f"    (GN_SHUFFLE_{dtype}(a, b, {first}) \\\n    + GN_SHUFFLE_{dtype}(a, b, {second}))\n"
        half //= 2
    return text


def _folded(names: list[str], dtype: str) -> tuple[list[str], list[str]]:
    """Statements that sum the lanes of each vector, and the vectors that hold the sums in order."""
    half, lines = lanes(dtype) // 2, []
    while half:
        pairs = [(names[n], names[min(n + 1, len(names) - 1)]) for n in range(0, len(names), 2)]
        lines += [f"{a} = GN_FOLD{half}_{dtype}({a}, {b});" for a, b in pairs]
        names = [a for a, _ in pairs]
        half //= 2
    return lines, names


def pixel_tile(mr: int, nr: int, dtype: str) -> tuple[str, str]:
    """Name and text of a function that multiplies mr rows of a by nr rows of b, element by element.

    ``NAME(long segments, long steps, long rest, const T *a, long as, long ai, const T *b, long bs, long bi, T *t)``:
    t[i*nr + j] = sum over s < segments and p < steps * lanes + rest of a[s*as + i*ai + p] * b[s*bs + j*bi + p].
    With rest, which is below lanes, a is read up to a whole vector and must hold zeros there; b is not read there.
    Lanes add up apart and are summed by halves at the end; t has room for whole vectors. Needs ``tile.vectors()``
    and ``folding()``.
    """
    ctype, vector, width = CTYPES[dtype], vector_type(dtype), lanes(dtype)
    name, v = f"gn_pixels_{mr}x{nr}_{dtype}", vector.upper()
    loads = ", ".join(f"b{j} = {v}(y + {j} * row)" for j in range(nr))
    folds, total = _folded([f"c{i}_{j}" for i in range(mr) for j in range(nr)], dtype)
    lines = [
        f"GN_CONTRACT static __attribute__((noinline)) void {name}(long segments, long steps, long rest,",
        f"    const {ctype} *a, long as, long ai, const {ctype} *b, long bs, long bi, {ctype} *t)",
        "{",
        "    GN_CONTRACTED",
        f"    GN_ALIGNED {ctype} last[{nr}][{width}] = {{{{0}}}};",
        *(f"    {vector} {counted(f'c{i}_{{0}} = {{{{0}}}}', nr, ', ')};" for i in range(mr)),
        "    for (long s = 0; s < segments; ++s) {",
        f"        const {ctype} *x = a + s * as, *y = b + s * bs;",
        "        long row = bi;",
        "        for (long step = 0; step < steps + (rest > 0); ++step) {",
        "            if (step == steps) {",
        f"                for (int j = 0; j < {nr}; ++j)",
        "                    for (long l = 0; l < rest; ++l)",
        "                        last[j][l] = y[j * bi + l];",
        "                y = last[0];",
        f"                row = {width};",
        "            }",
        f"            {vector} {loads}, v;",
        f"            {counted('GN_KEEP(b{0});', nr)}",
        *(
            f"            v = {v}(x + {i} * ai); GN_KEEP(v); {counted(f'c{i}_{{0}} += v * b{{0}};', nr)}"
            for i in range(mr)
        ),
        f"            x += {width};",
        f"            y += {width};",
        "        }",
        "    }",
        *(f"    {line}" for line in folds),
        *(f"    {v}(t + {e * width}) = {vector_name};" for e, vector_name in enumerate(total)),
        "}",
    ]
    return name, "\n".join(lines) + "\n"


@lru_cache(maxsize=1024)
def _pixel_shape(m: int, n: int, isa: str) -> tuple[int, int]:
    unit = ISAS[isa]

    def cost(tile: tuple[int, int]) -> tuple[float, int]:
        mr, nr = tile
        cycles = max(mr * nr / unit.fmas, (mr + 1.5 * nr) / unit.loads, unit.latency)
        return -(-m // mr) * -(-n // nr) * (cycles + 0.5), -mr * nr

    shapes = ((mr, nr) for mr in range(1, m + 1) for nr in range(1, n + 1) if (mr + 1) * nr < unit.registers)
    return min((s for s in shapes if max(s) <= 8), key=cost)


def pixel_shape(m: int, n: int) -> tuple[int, int]:
    """The (mr, nr), neither larger than m and n, whose tiles cover m by n results in the fewest cycles."""
    return _pixel_shape(m, n, target())
