"""Two-dimensional convolution and its two adjoints as matrix products over packed rows (see conv_rows).

    conv2d          y[o, p] = sum over (c, i, j) of w[o, (c, i, j)] * rows[c, j][slot(i) + p]      an image at a time
    conv2d_input    rows[c, j][slot(i) + p] += sum over o of w[o, (c, i, j)] * g[o, p]             then rows add up in x
    conv2d_weight   w[o, (c, i, j)] = sum over images and p of g[o, p] * rows[c, j][slot(i) + p]   chunks of images

No result depends on how units are dealt to threads. The first two have images as units (or parts of them if there
are few), the last has a fixed number of chunks, whose sums a second phase adds up in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.c.conv_rows import Conv, Rows, conv_of, round_up
from graphnet.kernels.c.conv_text import RANGES, block, indent, loop
from graphnet.kernels.c.conv_tiles import folding, patch_tile, pixel_shape, pixel_tile
from graphnet.kernels.c.tile import best_tile, lanes, vectors
from graphnet.kernels.c.view import Attrs, Job, Phase, View, elements_cost

_ROWS = 192 << 10  # bytes of packed rows: they should stay in the second cache beside everything else
_NEAR = 50 << 10  # bytes that a tile of the gradient of the weights reads: about the first cache
_FEW = 16  # units that are enough for any number of threads
_PER_FLOP = 1 / 180  # nanoseconds


class _Scratch:
    """Pieces of memory of one thread, behind ``shared`` bytes for all: names, and where they are."""

    def __init__(self, shared: int = 0) -> None:
        self.shared, self.size = round_up(shared, 64), 0
        self.pieces: list[tuple[str, str, int]] = []

    def add(self, ctype: str, name: str, count: int, itemsize: int) -> None:
        self.pieces.append((ctype, name, self.size))
        self.size += round_up(count * itemsize, 64)

    def total(self, threads: int) -> int:
        return self.shared + threads * self.size

    def declare(self, scratch: str) -> list[str]:
        return [
            f"{ctype} *{name} = ({ctype} *)({scratch} + {self.shared + offset} + tid * {self.size}L);"
            for ctype, name, offset in self.pieces
        ]


def _in_order(view: View, axes: slice) -> bool:
    return View(view.name, view.dtype, view.shape[axes], view.strides[axes]).contiguous


def _divisor(n: int, most: int) -> int:
    """The largest divisor of n that is not above ``most``."""
    return next(d for d in range(max(1, min(n, most)), 0, -1) if n % d == 0)


def _units(conv: Conv, inner: Sequence[tuple[str, int]], body: list[str], split: bool) -> tuple[list[str], int]:
    """Loops over images n and inner variables: images are units, or with split every combination is one."""
    names = [name for name, _ in inner]
    if not split:
        for name, count in reversed(inner):
            body = loop(name, count, body) if count > 1 else [f"const long {name} = 0;", *body]
        return ["for (long n = lo; n < hi; ++n) {", *indent(body), "}"], conv.images
    every, lines = prod(count for _, count in inner), []
    below = every
    lines.append(f"const long n = u / {every};")
    for name, count in inner:
        below //= count
        lines.append(f"const long {name} = u / {below} % {count};")
    assert names
    return ["for (long u = lo; u < hi; ++u) {", *indent([*lines, *body]), "}"], conv.images * every


def _zeros(out: View, job: Job) -> list[Phase]:
    """All of out is zero: nothing is summed."""
    n, o, rows, columns = out.shape
    if job.epilogue is not None:
        inner = loop("p", rows * columns, job.epilogue(("n", "o", "p"), "0").splitlines())
    else:
        inner = loop("y", rows, loop("z", columns, [f"{out.at('n', 'o', 'y', 'z')} = 0;"]))
    body = ["for (long n = lo; n < hi; ++n)", *indent(loop("o", o, inner))]
    return [Phase("\n".join(body), n, (), (), elements_cost(out.size), "zero")]


# -- forward ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Forward:
    """How one convolution is cut: bands of output rows, and tiles of results by vectors of pixels."""

    conv: Conv

    @property
    def bands(self) -> int:
        conv = self.conv
        wanted = min(conv.size[0], -(-_FEW // conv.images), conv.flops // conv.images // 10_000_000)
        counts = (b for b in range(max(1, wanted), conv.size[0]) if self._bytes(-(-conv.size[0] // b)) <= _ROWS)
        return next(counts, conv.size[0])

    def _bytes(self, count: int) -> int:
        return self.conv.channels * self.conv.kernel[1] * Rows(self.conv, count).plane * self.conv.itemsize

    @property
    def rows(self) -> Rows:
        return Rows(self.conv, -(-self.conv.size[0] // self.bands))

    @property
    def tile(self) -> tuple[int, int]:
        mr, nv = best_tile(self.conv.outputs, self.rows.count * self.conv.size[1], self.conv.dtype)
        return min(mr, self.conv.outputs), nv

    @property
    def columns(self) -> int:
        return self.tile[1] * lanes(self.conv.dtype)

    @property
    def packs_weights(self) -> bool:
        return not _in_order(self.conv.w, slice(1, None))

    @property
    def scratch(self) -> _Scratch:
        conv, rows = self.conv, self.rows
        scratch = _Scratch(conv.w.nbytes if self.packs_weights else 0)
        planes = conv.channels * conv.kernel[1] * rows.plane
        scratch.add(conv.x.ctype, "rows", planes + self.columns, conv.itemsize)
        scratch.add("int32_t", "at", conv.taps, 4)
        if not conv.inside:
            scratch.add(conv.x.ctype, "stage", prod(rows.staged), conv.itemsize)
        return scratch


def conv2d_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int) -> int:
    """Bytes for packed rows of a band of an image for each thread, and for weights if they are strided."""
    return _Forward(conv_of(*ins, outs[0], attrs)).scratch.total(threads) if _sums(outs[0], *ins) else 0


def _sums(out: View, a: View, b: View) -> bool:
    return bool(out.size and a.size and b.size)


def conv2d(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Cross-correlation: out[n,o,y,z] = sum over c,i,j of w[o,c,i,j] x[n,c,y*sh+i*dh-pt,z*sw+j*dw-pl].

    outs: out (N, O, oh, ow); ins: x (N, C, H, W) and w (O, C / groups, kh, kw), one float dtype; attrs are stride
    (sh, sw), padding ((pt, pb), (pl, pr)), dilation (dh, dw) and groups. An epilogue gets (n, o, pixel).
    """
    (out,), (x, w) = outs, ins
    if not out.size:
        return []
    if not _sums(out, x, w):
        return _zeros(out, job)
    conv = conv_of(x, w, out, attrs)
    plan = _Forward(conv)
    name, tile = patch_tile(*plan.tile, conv.dtype)
    split = plan.bands > 1 and conv.images < _FEW
    body, units = _units(conv, [("band", plan.bands), ("g", conv.groups)], _forward_image(plan, name, job), split)
    lines = [*plan.scratch.declare(job.scratch), *_forward_start(plan), *body]
    axes = (None, None, None) if split else (0, 0, None)
    note = f"implicit GEMM, tiles of {plan.tile[0]} x {plan.columns}"
    phase = Phase("\n".join(lines), units, axes, (vectors(), RANGES, tile), conv.flops * _PER_FLOP, note)
    return [*(_pack_weights(conv, job) if plan.packs_weights else []), phase]


def _pack_weights(conv: Conv, job: Job) -> list[Phase]:
    w = conv.w
    o, c, kh, kw = w.shape
    store = f"packed[((o * {c} + c) * {kh} + i) * {kw} + j] = {w.at('o', 'c', 'i', 'j')};"
    inner = loop("c", c, loop("i", kh, loop("j", kw, [store])))
    body = [f"{w.ctype} *packed = ({w.ctype} *){job.scratch};", "for (long o = lo; o < hi; ++o)", *indent(inner)]
    return [Phase("\n".join(body), o, (None, None, 0), (), elements_cost(w.size, 0.5), "weights in order")]


def _forward_start(plan: _Forward) -> list[str]:
    """Fills the table of where each (c, i, j) starts in rows, and clears the margin of stage."""
    conv, rows = plan.conv, plan.rows
    (kh, kw), c = conv.kernel, conv.channels
    offset = f"(int32_t)((c * {kw} + j) * {rows.plane} + {rows.slot()} * {rows.line})"
    entry = f"at[(c * {kh} + i) * {kw} + j] = {offset};"
    lines = loop("c", c, loop("i", kh, loop("j", kw, [entry])))
    return lines if conv.inside else [*lines, *loop("q", prod(rows.staged), ["stage[q] = 0;"])]


def _forward_image(plan: _Forward, name: str, job: Job) -> list[str]:
    """Packs a band of group g of image n, then multiplies it panel by panel."""
    conv, rows = plan.conv, plan.rows
    (mr, _), columns, (oh, ow) = plan.tile, plan.columns, conv.size
    first = f"band * {rows.count}"
    pixels, covered = str(rows.count * ow), (rows.count * ow) % columns == 0
    if oh % rows.count:
        pixels, covered = f"({oh} - {first} < {rows.count} ? {oh} - {first} : {rows.count}) * {ow}", False
    if plan.packs_weights:
        weights, step = f"(const {conv.w.ctype} *){job.scratch}", conv.taps
    else:
        weights, step = conv.w.name, conv.w.strides[0]
    image = f"{conv.x.name} + n * {conv.x.strides[0]}L + g * {conv.channels * conv.x.strides[1]}L"
    call = f"{name}({conv.taps}, weights + row * {step}L, {step}, 1, rows + panel, at"
    tile = _store_tile(plan, call, covered, job)
    row = "top"
    if conv.outputs % mr:
        row = f"top < {conv.outputs - mr} ? top : {conv.outputs - mr}"
    tiles = loop("top", conv.outputs, [f"const long row = {row};", *tile], mr)
    return [
        f"const long pixels = {pixels};",
        f"const {conv.x.ctype} *image = {image};",
        f"const {conv.w.ctype} *weights = {weights} + g * {conv.outputs * step}L;",
        *rows.gather("image", conv.channels, "rows", first if plan.bands > 1 else "0"),
        *loop("panel", "pixels", tiles, columns),
    ]


def _store_tile(plan: _Forward, call: str, covered: bool, job: Job) -> list[str]:
    """Computes a tile straight into the result if that lies in order, else over a tile on the stack."""
    conv, out, columns, (mr, _) = plan.conv, plan.conv.y, plan.columns, plan.tile
    (oh, ow), y = conv.size, out.strides
    straight = job.epilogue is None and (ow == 1 or y[3] == 1) and (oh == 1 or y[2] == ow * (y[3] if ow > 1 else 1))
    pixel, o = f"band * {plan.rows.count * ow} + panel", f"g * {conv.outputs} + row"
    direct = [f"{call}, {out.name} + n * {y[0]}L + ({o}) * {y[1]}L + {pixel}, {y[1]}L, 0);"]
    if straight and covered:
        return direct
    width = str(columns) if covered else f"(pixels - panel < {columns} ? pixels - panel : {columns})"
    if job.epilogue is not None:
        store = job.epilogue(("n", "o", "p"), "sum[q]").splitlines()
    else:
        store = [f"{out.at('n', 'o', f'p / {ow}', f'p % {ow}')} = sum[q];"]
    start = "0" if conv.outputs % mr == 0 else "top - row"
    over = [
        f"GN_ALIGNED {out.ctype} tile[{mr * columns}];",
        f"{call}, tile, {columns}, 0);",
        f"const long width = {width};",
        *block(
            f"for (long i = {start}; i < {mr}; ++i)",
            [
                f"const long o = {o} + i;",
                f"const {out.ctype} *sum = tile + i * {columns};",
                *loop("q", "width", [f"const long p = {pixel} + q;", *store]),
            ],
        ),
    ]
    return [*block(f"if (pixels - panel >= {columns})", direct), *block("else", over)] if straight else over


# -- gradient of the image ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Backward:
    """How the gradient of the image is cut: blocks of channels, for which rows of all kernel columns are summed."""

    conv: Conv

    @property
    def rows(self) -> Rows:
        return Rows(self.conv, self.conv.size[0])

    @property
    def channels(self) -> int:
        """Channels of a block."""
        each = self.conv.kernel[1] * self.rows.plane * self.conv.itemsize
        return _divisor(self.conv.channels, _ROWS // each)

    @property
    def planes(self) -> int:
        """Pairs (c, j) of a block."""
        return self.channels * self.conv.kernel[1]

    @property
    def tile(self) -> tuple[int, int]:
        return best_tile(self.planes, self.conv.pixels, self.conv.dtype)

    @property
    def columns(self) -> int:
        return self.tile[1] * lanes(self.conv.dtype)

    @property
    def padded(self) -> int:
        """Planes of a block up to whole tiles."""
        return round_up(self.planes, self.tile[0])

    @property
    def blocks(self) -> int:
        return self.conv.channels // self.channels

    @property
    def straight(self) -> bool:
        """g is read where it lies."""
        return self.conv.pixels % self.columns == 0 and _in_order(self.conv.y, slice(2, None))

    @property
    def weights(self) -> int:
        """Elements of the weights as (groups, kh, blocks, outputs, padded planes)."""
        return self.conv.groups * self.conv.kernel[0] * self.blocks * self.conv.outputs * self.padded

    @property
    def scratch(self) -> _Scratch:
        conv = self.conv
        scratch = _Scratch(self.weights * conv.itemsize)
        scratch.add(conv.x.ctype, "rows", self.padded * self.rows.plane, conv.itemsize)
        scratch.add("int32_t", "at", conv.outputs, 4)
        if not self.straight:
            scratch.add(conv.x.ctype, "signal", conv.outputs * round_up(conv.pixels, self.columns), conv.itemsize)
        return scratch


def conv2d_input_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int) -> int:
    """Bytes for weights in the order of use, and packed rows of a block of channels for each thread."""
    (out,), (g, w) = outs, ins
    return _Backward(conv_of(out, w, g, attrs)).scratch.total(threads) if _sums(out, g, w) else 0


def conv2d_input(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `conv2d` in x: out (N, C, H, W) from g (N, O, oh, ow) and w; attrs are those of conv2d."""
    (out,), (g, w) = outs, ins
    if not out.size:
        return []
    if not _sums(out, g, w):
        return _zeros(out, Job())
    conv = conv_of(out, w, g, attrs)
    plan = _Backward(conv)
    name, tile = patch_tile(*plan.tile, conv.dtype)
    split = conv.images < _FEW and conv.flops > 10_000_000 and plan.blocks * conv.groups > 1
    inner = [("g", conv.groups), ("part", plan.blocks)]
    body, units = _units(conv, inner, _backward_block(plan, name), split)
    signal = g.strides[1] if plan.straight else round_up(conv.pixels, plan.columns)
    start = loop("o", conv.outputs, [f"at[o] = (int32_t)(o * {signal});"])
    weights = f"const {w.ctype} *weights = (const {w.ctype} *){job.scratch};"
    lines = [*plan.scratch.declare(job.scratch), weights, *start, *body]
    axes = (None, None, None) if split else (0, 0, None)
    note = f"tiles of {plan.tile[0]} x {plan.columns} added into packed rows"
    phase = Phase("\n".join(lines), units, axes, (vectors(), RANGES, tile), conv.flops * _PER_FLOP, note)
    return [_turn_weights(plan, job), phase]


def _turn_weights(plan: _Backward, job: Job) -> Phase:
    """w as rows of planes (c, j) for each kernel row and output, with zeros up to whole tiles."""
    conv, w = plan.conv, plan.conv.w
    (kh, kw), outputs, channels = conv.kernel, conv.outputs, plan.channels
    row = f"(((o / {outputs} * {kh} + i) * {plan.blocks} + part) * {outputs} + o % {outputs}) * {plan.padded}"
    source = w.at("o", f"part * {channels} + c", "i", "j")
    fill = loop("c", channels, loop("j", kw, [f"to[c * {kw} + j] = {source};"]))
    if plan.padded > plan.planes:
        fill += [f"for (long q = {plan.planes}; q < {plan.padded}; ++q)", "    to[q] = 0;"]
    inner = [f"{w.ctype} *to = ({w.ctype} *){job.scratch} + {row};", *fill]
    body = loop("i", kh, loop("part", plan.blocks, inner))
    text = "\n".join(["for (long o = lo; o < hi; ++o)", *indent(body)])
    return Phase(text, w.shape[0], (None, None, 0), (), elements_cost(w.size, 0.5), "weights in the order of use")


def _backward_block(plan: _Backward, name: str) -> list[str]:
    """Adds up the packed rows of a block of channels of image n, and these in the image."""
    conv, rows, g = plan.conv, plan.rows, plan.conv.y
    (mr, _), columns, (kh, _), x = plan.tile, plan.columns, conv.kernel, conv.x
    signal = f"{g.name} + n * {g.strides[0]}L + g * {conv.outputs * g.strides[1]}L"
    lines = [] if plan.straight else _pack_signal(plan, signal)
    if plan.straight:
        lines = [f"const {g.ctype} *signal = {signal};"]
    target = f"rows + row * {rows.plane} + {rows.slot()} * {rows.line} + panel"
    weights = f"weights + ((g * {kh} + i) * {plan.blocks} + part) * {conv.outputs * plan.padded} + row"
    call = f"{name}({conv.outputs}, {weights}, 1, {plan.padded}, signal + panel, at"
    direct = [f"{call}, {target}, {rows.plane}, 1);"]
    over = [
        f"GN_ALIGNED {x.ctype} tile[{mr * columns}];",
        f"{call}, tile, {columns}, 0);",
        *loop(
            "r",
            mr,
            [
                f"{x.ctype} *sum = {target} + r * {rows.plane};",
                *loop("q", conv.pixels % columns, [f"sum[q] += tile[r * {columns} + q];"]),
            ],
        ),
    ]
    tiles = direct
    if conv.pixels < columns:
        tiles = over
    elif conv.pixels % columns:
        tiles = [*block(f"if (panel <= {conv.pixels - columns})", direct), *block("else", over)]
    sums = loop("panel", conv.pixels, loop("i", kh, loop("row", plan.padded, tiles, mr)), columns)
    _, channel, down, along = x.strides
    image = f"{x.ctype} *image = {x.name} + n * {x.strides[0]}L + (g * {conv.channels} + part * {plan.channels}) * {channel}L;"
    clear = loop("y", x.shape[2], loop("z", x.shape[3], [f"image[c * {channel}L + y * {down}L + z * {along}L] = 0;"]))
    if _in_order(x, slice(1, None)):
        clear = [f"image[c * {channel}L + y] = 0;"]
        clear = loop("y", x.shape[2] * x.shape[3], clear)
    return [
        *lines,
        *loop("q", plan.padded * rows.plane, ["rows[q] = 0;"]),
        *sums,
        image,
        *loop("c", plan.channels, clear),
        *rows.scatter("image", plan.channels, "rows"),
    ]


def _pack_signal(plan: _Backward, signal: str) -> list[str]:
    """Copies an image of g so that a channel fills whole panels."""
    conv, g = plan.conv, plan.conv.y
    (oh, ow), (_, channel, down, along) = conv.size, g.strides
    wide = round_up(conv.pixels, plan.columns)
    copy = f"signal[o * {wide} + y * {ow} + z] = from[o * {channel}L + y * {down}L + z * {along}L];"
    fill = [f"for (long q = {conv.pixels}; q < {wide}; ++q)", f"    signal[o * {wide} + q] = 0;"]
    copies = loop("y", oh, loop("z", ow, [copy]))
    return [f"const {g.ctype} *from = {signal};", *loop("o", conv.outputs, [*copies, *(fill if wide > conv.pixels else [])])]


# -- gradient of the weights --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Weight:
    """How the gradient of the weights is cut: chunks of images by blocks of channels, groups of images in a chunk."""

    conv: Conv

    @property
    def chunks(self) -> int:
        parts = self.conv.groups * min(2, self.conv.channels)
        return min(self.conv.images, _FEW if parts == 1 else _FEW // 2)

    @property
    def together(self) -> int:
        """Images that are summed in registers at once: as many as keep what a tile reads in the first cache."""
        most = -(-self.conv.images // self.chunks)
        plane = Rows(self.conv, self.conv.size[0]).plane
        fitting = _NEAR // (5 * (self.conv.pixels + plane) * self.conv.itemsize)
        return -(-most // -(-most // max(1, fitting)))

    @property
    def straight(self) -> bool:
        """g is read where it lies, an image at a time; else images lie side by side in each row of pixels."""
        return self.conv.pixels % lanes(self.conv.dtype) == 0 and _in_order(self.conv.y, slice(2, None))

    @property
    def rows(self) -> Rows:
        return Rows(self.conv, self.conv.size[0], 1 if self.straight else self.together)

    @property
    def channels(self) -> int:
        """Channels of a block."""
        copies = self.together if self.straight else 1
        each = self.conv.kernel[1] * self.rows.plane * self.conv.itemsize * copies
        return _divisor(self.conv.channels, _ROWS // each)

    @property
    def planes(self) -> int:
        """Pairs (c, j) of a block."""
        return self.channels * self.conv.kernel[1]

    @property
    def blocks(self) -> int:
        return self.conv.channels // self.channels

    @property
    def tile(self) -> tuple[int, int]:
        return pixel_shape(self.conv.outputs, self.planes)

    @property
    def signal(self) -> int:
        """Elements of a channel of packed g."""
        return round_up(self.together * self.conv.pixels, lanes(self.conv.dtype))

    @property
    def scratch(self) -> _Scratch:
        conv = self.conv
        scratch = _Scratch(self.chunks * conv.w.size * conv.itemsize)
        planes = self.planes * self.rows.plane * (self.together if self.straight else 1)
        scratch.add(conv.x.ctype, "rows", planes + lanes(conv.dtype), conv.itemsize)
        if not self.straight:
            scratch.add(conv.x.ctype, "signal", conv.outputs * self.signal, conv.itemsize)
        if not conv.inside:
            scratch.add(conv.x.ctype, "stage", prod(self.rows.staged), conv.itemsize)
        return scratch


def conv2d_weight_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int) -> int:
    """Bytes for the sums of every chunk of images, and packed rows for each thread."""
    (out,), (x, g) = outs, ins
    return _Weight(conv_of(x, out, g, attrs)).scratch.total(threads) if _sums(out, x, g) else 0


def conv2d_weight(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `conv2d` in w: out (O, C / groups, kh, kw) from x and g (N, O, oh, ow); attrs as for conv2d."""
    (out,), (x, g) = outs, ins
    if not out.size:
        return []
    if not _sums(out, x, g):
        return _zeros(out, Job())
    conv = conv_of(x, out, g, attrs)
    plan = _Weight(conv)
    name, tile = pixel_tile(*plan.tile, conv.dtype)
    parts = conv.groups * plan.blocks
    chunk = [
        f"const long chunk = u / {parts}, g = u / {plan.blocks} % {conv.groups}, part = u % {plan.blocks};",
        f"const long end = (chunk + 1) * {conv.images} / {plan.chunks};",
        f"{out.ctype} *sums = ({out.ctype} *){job.scratch} + chunk * {out.size}L + g * {conv.outputs * conv.taps};",
        f"for (long n = chunk * {conv.images} / {plan.chunks}, more = 0; n < end; n += {plan.together}, more = 1) {{",
        *indent(_weight_images(plan, name)),
        "}",
    ]
    start = [] if conv.inside else loop("q", prod(plan.rows.staged), ["stage[q] = 0;"])
    lines = [*plan.scratch.declare(job.scratch), *start, *block("for (long u = lo; u < hi; ++u)", chunk)]
    note = f"{plan.chunks} chunks of images, tiles of {plan.tile[0]} x {plan.tile[1]}"
    helpers = (vectors(), RANGES, folding(conv.dtype), tile)
    units = plan.chunks * parts
    return [
        Phase("\n".join(lines), units, (None, None, None), helpers, conv.flops * _PER_FLOP, note),
        _add_chunks(plan, job),
    ]


def _weight_images(plan: _Weight, name: str) -> list[str]:
    """Adds the products of images n to n + images - 1, in a block of channels, to the sums of a chunk."""
    conv, rows, g = plan.conv, plan.rows, plan.conv.y
    (mr, nr), (kh, kw), wide = plan.tile, conv.kernel, lanes(conv.dtype)
    image = (
        f"{conv.x.name} + (n + m) * {conv.x.strides[0]}L"
        f" + (g * {conv.channels} + part * {plan.channels}) * {conv.x.strides[1]}L"
    )
    signal = f"{g.name} + n * {g.strides[0]}L + g * {conv.outputs * g.strides[1]}L"
    if plan.straight:
        size = plan.planes * rows.plane
        into, line = f"rows + m * {size}", str(conv.size[1])
        lengths = f"images, {conv.pixels // wide}, 0"
        left, right = f"{g.strides[0]}L, {g.strides[1]}L", f"{size}, {rows.plane}"
        lines = [f"const {g.ctype} *signal = {signal};"]
    else:
        into, line = f"rows + m * {conv.size[1]}", f"{conv.size[1]} * images"
        lengths = f"1, images * {conv.pixels} / {wide}, images * {conv.pixels} % {wide}"
        left, right = f"0, {plan.signal}", f"0, {rows.plane}"
        lines = _pack_signals(plan, signal)
    pack = rows.gather(image, plan.channels, into, line=line)
    call = f"{name}({lengths}, signal + o * {left.split(', ')[1]}, {left}, rows + p * {rows.plane} + {rows.slot()} * {line}, {right}, tile);"
    tiles = [
        f"const long o = {_last(plan.conv.outputs, mr, 'top')}, p = {_last(plan.planes, nr, 'first')};",
        f"GN_ALIGNED {conv.w.ctype} tile[{round_up(mr * nr, wide)}];",
        call,
        f"for (long a = top - o; a < {mr}; ++a) {{",
        f"    for (long b = first - p; b < {nr}; ++b) {{",
        f"        const long c = part * {plan.channels} + (p + b) / {kw}, j = (p + b) % {kw};",
        f"        {conv.w.ctype} *sum = sums + (((o + a) * {conv.channels} + c) * {kh} + i) * {kw} + j;",
        f"        *sum = (more ? *sum : 0) + tile[a * {nr} + b];",
        "    }",
        "}",
    ]
    loops = loop("first", plan.planes, loop("top", conv.outputs, loop("i", kh, tiles), mr), nr)
    return [
        f"const long images = end - n < {plan.together} ? end - n : {plan.together};",
        *loop("m", "images", pack),
        *lines,
        *loops,
    ]


def _last(count: int, size: int, start: str) -> str:
    """Where the tile from start begins: the last one is moved back into range."""
    return f"({start} < {count - size} ? {start} : {count - size})" if count % size else start


def _pack_signals(plan: _Weight, signal: str) -> list[str]:
    """Copies g of some images so that they lie side by side in each row of pixels, with zeros up to whole vectors."""
    conv, g = plan.conv, plan.conv.y
    (oh, ow), (image, channel, down, along) = conv.size, g.strides
    to = f"signal[o * {plan.signal} + (y * images + m) * {ow} + z]"
    copy = f"{to} = from[m * {image}L + o * {channel}L + y * {down}L + z * {along}L];"
    copies = loop("y", oh, loop("m", "images", loop("z", ow, [copy])))
    fill = [f"for (long q = images * {conv.pixels}; q < {plan.signal}; ++q)", f"    signal[o * {plan.signal} + q] = 0;"]
    return [f"const {g.ctype} *from = {signal};", *loop("o", conv.outputs, [*copies, *fill])]


def _add_chunks(plan: _Weight, job: Job) -> Phase:
    """out = the sums of all chunks, one after the other."""
    out, taps = plan.conv.w, plan.conv.taps
    total = " + ".join(f"sums[q + {s * out.size}L]" for s in range(plan.chunks))
    lines = [f"const {out.ctype} *sums = (const {out.ctype} *){job.scratch} + o * {taps};"]
    if _in_order(out, slice(1, None)):
        lines += [f"{out.ctype} *to = {out.name} + o * {out.strides[0]}L;", *loop("q", taps, [f"to[q] = {total};"])]
    else:
        _, c, kh, kw = out.shape
        store = [f"const long q = (c * {kh} + i) * {kw} + j;", f"{out.at('o', 'c', 'i', 'j')} = {total};"]
        lines += loop("c", c, loop("i", kh, loop("j", kw, store)))
    text = "\n".join(block("for (long o = lo; o < hi; ++o)", lines))
    cost = elements_cost(out.size * plan.chunks, 0.05)
    return Phase(text, out.shape[0], (0, None, None), (), cost, "sum of chunks")
