"""Two-dimensional convolution and its two adjoints as matrix products over packed rows (see conv_rows).

    conv2d          y[o, p] = sum over (c, i, j) of w[o, (c, i, j)] * rows[c, j][slot(i) + p]      an image at a time
    conv2d_input    rows[c, j][slot(i) + p] += sum over o of w[o, (c, i, j)] * g[o, p]             then rows add up in x
    conv2d_weight   w[o, (c, i, j)] = sum over images and p of g[o, p] * rows[c, j][slot(i) + p]   chunks of images

No result depends on how units are dealt to threads. The first two have images as units (or parts of them if there
are few), the last has a fixed number of chunks, whose sums a second phase adds up in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from graphnet.kernels.c.conv_rows import ROWS_BYTES, UNITS, Conv, Rows, conv_of, nothing, patch_tile, zeros
from graphnet.kernels.c.conv_text import RANGES, Scratch, block, divisor, in_order, loop, round_up, term, total
from graphnet.kernels.c.conv_weight import conv2d_weight, conv2d_weight_scratch
from graphnet.kernels.c.phase import Job, Phase, elements_cost
from graphnet.kernels.c.tile import best_tile, lanes, vectors
from graphnet.kernels.text.view import Attrs, View

__all__ = [
    "conv2d",
    "conv2d_input",
    "conv2d_input_scratch",
    "conv2d_scratch",
    "conv2d_weight",
    "conv2d_weight_scratch",
]

_LARGE = 10_000_000  # flops that are worth a unit of their own


def _units(conv: Conv, inner: Sequence[tuple[str, int]], body: list[str], split: bool) -> tuple[list[str], int]:
    """Loops over images n and the inner variables that count above 1; units are images, or with split all of these."""
    several = [(name, count) for name, count in inner if count > 1]
    if not split:
        for name, count in reversed(several):
            body = loop(name, count, body)
        return block("for (long n = lo; n < hi; ++n)", body), conv.images
    below = prod(count for _, count in several)
    units, lines = conv.images * below, [f"const long n = u / {below};"]
    for name, count in several:
        below //= count
        lines.append(f"const long {name} = u / {below} % {count};")
    return block("for (long u = lo; u < hi; ++u)", [*lines, *body]), units


# -- forward ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Forward:
    """How one convolution is cut: bands of output rows, and tiles of results by vectors of pixels."""

    conv: Conv

    @cached_property
    def rows(self) -> Rows:
        """Those of a band: as high as memory allows, but lower if there are too few images for many threads."""
        conv, height = self.conv, self.conv.size[0]
        wanted = min(height, -(-UNITS // conv.images), conv.flops // conv.images // _LARGE)
        every = (Rows(conv, -(-height // bands)) for bands in range(max(1, wanted), height + 1))
        planes = conv.channels * conv.kernel[1]
        return next((r for r in every if planes * r.plane * conv.itemsize <= ROWS_BYTES), Rows(conv, 1))

    @property
    def bands(self) -> int:
        return -(-self.conv.size[0] // self.rows.count)

    @cached_property
    def tile(self) -> tuple[int, int]:
        mr, nv = best_tile(self.conv.outputs, self.rows.count * self.conv.size[1], self.conv.dtype)
        return min(mr, self.conv.outputs), nv

    @property
    def columns(self) -> int:
        return self.tile[1] * lanes(self.conv.dtype)

    @property
    def packs_weights(self) -> bool:
        return not in_order(self.conv.w, slice(1, None))

    @cached_property
    def scratch(self) -> Scratch:
        conv, rows = self.conv, self.rows
        scratch = Scratch(conv.w.nbytes if self.packs_weights else 0)
        planes = conv.channels * conv.kernel[1] * rows.plane
        scratch.add(conv.x.ctype, "rows", planes + self.columns, conv.itemsize)
        scratch.add("int32_t", "at", conv.taps, 4)
        scratch.add(conv.x.ctype, "tile", self.tile[0] * self.columns, conv.itemsize)
        if not conv.inside:
            scratch.add(conv.x.ctype, "stage", prod(rows.staged), conv.itemsize)
        return scratch


def conv2d_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int) -> int:
    """Bytes for packed rows of a band of an image for each thread, and for weights if they are strided."""
    (out,), (x, w) = outs, ins
    return 0 if nothing(out, x, w) else _Forward(conv_of(x, w, out, attrs)).scratch.total(threads)


def conv2d(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Cross-correlation: out[n,o,y,z] = sum over c,i,j of w[o,c,i,j] x[n,c,y*sh+i*dh-pt,z*sw+j*dw-pl].

    outs: out (N, O, oh, ow); ins: x (N, C, H, W) and w (O, C / groups, kh, kw), one float dtype; attrs are stride
    (sh, sw), padding ((pt, pb), (pl, pr)), dilation (dh, dw) and groups. An epilogue gets (n, o, pixel).
    """
    (out,), (x, w) = outs, ins
    if nothing(out, x, w):
        return zeros(out, job.epilogue)
    conv = conv_of(x, w, out, attrs)
    plan = _Forward(conv)
    name, tile = patch_tile(*plan.tile, conv.dtype)
    split = plan.bands > 1 and conv.images < UNITS
    body, units = _units(conv, [("band", plan.bands), ("g", conv.groups)], _forward_image(plan, name, job), split)
    body = [*_forward_start(plan), *body]
    lines = [*plan.scratch.declare(job.scratch, body), *body]
    axes = (None, None, None) if split else (0, 0, None)
    note = f"implicit GEMM, tiles of {plan.tile[0]} x {plan.columns}"
    phase = Phase("\n".join(lines), units, axes, (vectors(), RANGES, tile), conv.cost, note)
    return [*(_pack_weights(conv, job) if plan.packs_weights else []), phase]


def _pack_weights(conv: Conv, job: Job) -> list[Phase]:
    w = conv.w
    o, c, kh, kw = w.shape
    store = f"packed[((o * {c} + c) * {kh} + i) * {kw} + j] = {w.at('o', 'c', 'i', 'j')};"
    inner = loop("c", c, loop("i", kh, loop("j", kw, [store])))
    lines = [f"{w.ctype} *packed = ({w.ctype} *){job.scratch};", *block("for (long o = lo; o < hi; ++o)", inner)]
    return [Phase("\n".join(lines), o, (None, None, 0), (), elements_cost(w.size, 0.5), "weights in order")]


def _forward_start(plan: _Forward) -> list[str]:
    """Fills the table of where each (c, i, j) starts in rows, and clears the margin of stage."""
    conv, rows = plan.conv, plan.rows
    kh, kw = conv.kernel
    # one loop, as gcc would unroll the inner ones of three and take four times as long over the whole function
    start = f"(k / {kh * kw} * {kw} + k % {kw}) * {rows.plane} + {rows.slot()}"
    lines = loop("k", conv.taps, [f"const long i = k / {kw} % {kh};", f"at[k] = (int32_t)({start});"])
    return lines if conv.inside else [*lines, *loop("q", prod(rows.staged), ["stage[q] = 0;"])]


def _forward_image(plan: _Forward, name: str, job: Job) -> list[str]:
    """Packs a band of group g of image n, then multiplies it panel by panel."""
    conv, rows, (x, w) = plan.conv, plan.rows, (plan.conv.x, plan.conv.w)
    (mr, _), (oh, ow) = plan.tile, conv.size
    first = term("band", rows.count, plan.bands)
    pixels, covered = str(rows.count * ow), (rows.count * ow) % plan.columns == 0
    if oh % rows.count:
        pixels, covered = f"({oh} - {first} < {rows.count} ? {oh} - {first} : {rows.count}) * {ow}", False
    weights, step = (w.name, w.strides[0])
    if plan.packs_weights:
        weights, step = f"(const {w.ctype} *){job.scratch}", conv.taps
    call = f"{name}({conv.taps}, weights + row * {step}L, {step}, 1, rows + panel, at"
    last = conv.outputs - mr
    row = f"const long row = {f'top < {last} ? top : {last}' if conv.outputs % mr else 'top'};"
    tiles = loop("top", conv.outputs, [row, *_store_tile(plan, call, covered, job)], mr)
    weights = total(weights, term("g", conv.outputs * step, conv.groups))
    image = total(x.name, term("n", x.strides[0]), term("g", conv.channels * x.strides[1], conv.groups))
    return [
        f"const long pixels = {pixels};",
        f"const {x.ctype} *image = {image};",
        f"const {w.ctype} *weights = {weights};",
        *rows.gather("image", conv.channels, "rows", first),
        *loop("panel", "pixels", tiles, plan.columns),
    ]


def _store_tile(plan: _Forward, call: str, covered: bool, job: Job) -> list[str]:
    """Computes a tile straight into the result if that lies in order, else by way of ``tile``."""
    conv, out, columns, (mr, _) = plan.conv, plan.conv.y, plan.columns, plan.tile
    image, channel, down, along = out.strides
    pixel = total(term("band", plan.rows.count * conv.size[1], plan.bands), "panel")
    o = total(term("g", conv.outputs, conv.groups), "row")
    target = total(out.name, term("n", image), term(f"({o})", channel), pixel)
    direct = [f"{call}, {target}, {channel}, 0);"]
    straight = job.epilogue is None and in_order(out, slice(2, None))
    if straight and covered:
        return direct
    if job.epilogue is not None:
        store = job.epilogue(("n", "o", "p"), "sum[q]").splitlines()
    else:
        ow = conv.size[1]
        place = total(term("n", image), term("o", channel), term(f"(p / {ow})", down), term(f"(p % {ow})", along))
        store = [f"{out.name}[{place}] = sum[q];"]
    rows = [
        f"const long o = {o} + i;",
        f"const {out.ctype} *sum = tile + i * {columns};",
        *loop("q", columns if covered else "width", [f"const long p = {pixel} + q;", *store]),
    ]
    over = [
        f"{call}, tile, {columns}, 0);",
        *([] if covered else [f"const long width = pixels - panel < {columns} ? pixels - panel : {columns};"]),
        *block(f"for (long i = {'top - row' if conv.outputs % mr else '0'}; i < {mr}; ++i)", rows),
    ]
    return [*block(f"if (pixels - panel >= {columns})", direct), *block("else", over)] if straight else over


# -- gradient of the image ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Backward:
    """How the gradient of the image is cut: blocks of channels, for which rows of all kernel columns are summed."""

    conv: Conv

    @cached_property
    def rows(self) -> Rows:
        return Rows(self.conv, self.conv.size[0])

    @cached_property
    def channels(self) -> int:
        """Channels of a block."""
        each = self.conv.kernel[1] * self.rows.plane * self.conv.itemsize
        return divisor(self.conv.channels, ROWS_BYTES // each)

    @property
    def planes(self) -> int:
        """Pairs (c, j) of a block."""
        return self.channels * self.conv.kernel[1]

    @cached_property
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

    @cached_property
    def straight(self) -> bool:
        """g is read where it lies."""
        return self.conv.pixels % self.columns == 0 and in_order(self.conv.y, slice(2, None))

    @property
    def weights(self) -> int:
        """Elements of the weights as (groups, kh, blocks, outputs, padded planes)."""
        return self.conv.groups * self.conv.kernel[0] * self.blocks * self.conv.outputs * self.padded

    @cached_property
    def scratch(self) -> Scratch:
        conv = self.conv
        scratch = Scratch(self.weights * conv.itemsize)
        scratch.add(conv.x.ctype, "rows", self.padded * self.rows.plane, conv.itemsize)
        scratch.add("int32_t", "at", conv.outputs, 4)
        scratch.add(conv.x.ctype, "tile", self.tile[0] * self.columns, conv.itemsize)
        if not self.straight:
            scratch.add(conv.x.ctype, "signal", conv.outputs * round_up(conv.pixels, self.columns), conv.itemsize)
        return scratch


def conv2d_input_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, threads: int) -> int:
    """Bytes for weights in the order of use, and packed rows of a block of channels for each thread."""
    (out,), (g, w) = outs, ins
    return 0 if nothing(out, g, w) else _Backward(conv_of(out, w, g, attrs)).scratch.total(threads)


def conv2d_input(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `conv2d` in x: out (N, C, H, W) from g (N, O, oh, ow) and w; attrs are those of conv2d."""
    (out,), (g, w) = outs, ins
    if nothing(out, g, w):
        return zeros(out, None)
    conv = conv_of(out, w, g, attrs)
    plan = _Backward(conv)
    name, tile = patch_tile(*plan.tile, conv.dtype)
    split = conv.images < UNITS and conv.flops > _LARGE and plan.blocks * conv.groups > 1
    inner = [("g", conv.groups), ("part", plan.blocks)]
    body, units = _units(conv, inner, _backward_block(plan, name), split)
    signal = g.strides[1] if plan.straight else round_up(conv.pixels, plan.columns)
    start = loop("o", conv.outputs, [f"at[o] = (int32_t)(o * {signal});"])
    weights = f"const {w.ctype} *weights = (const {w.ctype} *){job.scratch};"
    body = [weights, *start, *body]
    lines = [*plan.scratch.declare(job.scratch, body), *body]
    axes = (None, None, None) if split else (0, 0, None)
    note = f"tiles of {plan.tile[0]} x {plan.columns} added into packed rows"
    phase = Phase("\n".join(lines), units, axes, (vectors(), RANGES, tile), conv.cost, note)
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
    text = "\n".join(block("for (long o = lo; o < hi; ++o)", body))
    return Phase(text, w.shape[0], (None, None, 0), (), elements_cost(w.size, 0.5), "weights in the order of use")


def _backward_block(plan: _Backward, name: str) -> list[str]:
    """Adds up the packed rows of a block of channels of image n, and these in the image."""
    conv, rows, x, g = plan.conv, plan.rows, plan.conv.x, plan.conv.y
    outputs, columns, (kh, _) = conv.outputs, plan.columns, conv.kernel
    signal = total(g.name, term("n", g.strides[0]), term("g", outputs * g.strides[1], conv.groups))
    kernel_row = total(term("g", kh, conv.groups), "i")
    weights = total(
        f"({kernel_row}) * {plan.blocks * outputs * plan.padded}", term("part", outputs * plan.padded, plan.blocks)
    )
    call = f"{name}({outputs}, weights + {weights} + row, 1, {plan.padded}, signal + panel, at"
    target = f"rows + row * {rows.plane} + {rows.slot()} + panel"
    tiles = _add_tile(plan, call, target)
    channel = total(term("g", conv.channels, conv.groups), term("part", plan.channels, plan.blocks))
    at = "" if channel == "0" else term(f"({channel})", x.strides[1])
    return [
        *([f"const {g.ctype} *signal = {signal};"] if plan.straight else _pack_signal(plan, signal)),
        *loop("q", plan.padded * rows.plane, ["rows[q] = 0;"]),
        *loop("panel", conv.pixels, loop("i", kh, loop("row", plan.padded, tiles, plan.tile[0])), columns),
        f"{x.ctype} *image = {total(x.name, term('n', x.strides[0]), at)};",
        *_clear(x, plan.channels),
        *rows.scatter("image", plan.channels, "rows"),
    ]


def _add_tile(plan: _Backward, call: str, target: str) -> list[str]:
    """Adds a tile to packed rows; the last pixels, fewer than its columns, by way of ``tile``."""
    conv, columns, (mr, _), ctype = plan.conv, plan.columns, plan.tile, plan.conv.x.ctype
    direct, rest = [f"{call}, {target}, {plan.rows.plane}, 1);"], conv.pixels % columns
    add = loop("q", rest, [f"sum[q] += tile[r * {columns} + q];"])
    over = [
        f"{call}, tile, {columns}, 0);",
        *loop("r", mr, [f"{ctype} *sum = {target} + r * {plan.rows.plane};", *add]),
    ]
    if conv.pixels < columns:
        return over
    return [*block(f"if (panel < {conv.pixels - rest})", direct), *block("else", over)] if rest else direct


def _clear(x: View, channels: int) -> list[str]:
    _, _, height, width = x.shape
    if in_order(x, slice(1, None)):
        return loop("q", channels * height * width, ["image[q] = 0;"])
    place = total(*(term(i, s) for i, s in zip("cyz", x.strides[1:], strict=True)))
    return loop("c", channels, loop("y", height, loop("z", width, [f"image[{place}] = 0;"])))


def _pack_signal(plan: _Backward, signal: str) -> list[str]:
    """Copies an image of g so that a channel fills whole panels."""
    conv, (_, channel, down, along) = plan.conv, plan.conv.y.strides
    (oh, ow), wide = conv.size, round_up(conv.pixels, plan.columns)
    place = (
        [term("p", 1)] if in_order(conv.y, slice(2, None)) else [term(f"(p / {ow})", down), term(f"(p % {ow})", along)]
    )
    lines = loop("p", oh * ow, [f"signal[o * {wide} + p] = from[{total(term('o', channel), *place)}];"])
    if wide > conv.pixels:
        lines += [f"for (long q = {conv.pixels}; q < {wide}; ++q)", f"    signal[o * {wide} + q] = 0;"]
    return [f"const {conv.y.ctype} *from = {signal};", *loop("o", conv.outputs, lines)]
