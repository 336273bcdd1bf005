"""Two-dimensional convolution and its two adjoints as products of tiles; patches are gathered into shared memory.

    conv2d          y[o, (n, y, z)]   = sum over (c, i, j) of w[o, (c, i, j)] * x[(c, i, j), (n, y, z)]
    conv2d_input    x[c, (n, h, w)]   = sum over (o, i, j) of w[c, (o, i, j)] * g[(o, i, j), (n, h, w)]
    conv2d_weight   w[o, (c, i, j)]   = sum over (n, y, z) of g[o, (n, y, z)] * x[(n, y, z), (c, i, j)]

There is never a matrix of patches: a tile keeps a table of what the terms of a chunk add to the place of its rows or
columns. With a stride, the gradient of the image is a product for each residue of pixels, which meet the same
elements of the kernel. Groups are entries of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from graphnet.kernels.cuda.conv_input import Adjoint
from graphnet.kernels.cuda.conv_parts import Conv, add, conv_of, in_order, split
from graphnet.kernels.cuda.gemm_load import Operand, declared, times
from graphnet.kernels.cuda.gemm_phases import phases, sums_bytes
from graphnet.kernels.cuda.gemm_tile import Product
from graphnet.kernels.cuda.phase import Job, Phase
from graphnet.kernels.text.view import ITEMSIZE, Attrs, View

# -- forward


def conv2d_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, tensor: int = 0) -> int:
    """Bytes for the sums of parts of the terms, where there are few results; ``tensor`` is the job's."""
    return sums_bytes(_forward(conv_of(ins[0], ins[1], outs[0], attrs), Job()), tensor)


def conv2d(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Cross-correlation: out[n,o,y,z] = sum over c,i,j of w[o,c,i,j] x[n,c,y*sh+i*dh-pt,z*sw+j*dw-pl].

    outs: out (N, O, oh, ow); ins: x (N, C, H, W) and w (O, C / groups, kh, kw), one dtype; attrs are stride
    (sh, sw), padding ((pt, pb), (pl, pr)), dilation (dh, dw) and groups. An epilogue gets (n, o, pixel).
    """
    return phases(_forward(conv_of(ins[0], ins[1], outs[0], attrs), job), job)


def _forward(conv: Conv, job: Job) -> Product:
    x, w, y, wide = conv.x, conv.w, conv.y, 16 // ITEMSIZE[conv.x.dtype]
    plain = conv.kernel == conv.rows.stride == conv.columns.stride == 1 and not conv.limits
    dense = in_order(w, slice(1, None))
    terms = conv.channels * conv.kernel

    def weight(k: str) -> tuple[str, ...]:
        c, i, j = split(k, conv.rows.kernel, conv.columns.kernel)
        return (k if dense else add(times(c, w.strides[1]), times(i, w.strides[2]), times(j, w.strides[3])),)

    def store(i: str, j: str, value: str) -> str:
        _, row, column = split("p", conv.rows.result, conv.columns.result)
        finish = job.epilogue(("n", "o", "p"), value) if job.epilogue else f"{y.at('n', 'o', row, column)} = {value};"
        places = {"n": f"{j} / {conv.size}", "o": add(conv.group(conv.outputs), i), "p": f"{j} % {conv.size}"}
        return "\n".join([*declared(conv.reach, places, [finish]), finish])

    weights = Operand(
        w.name,
        lambda i: (add(times(i, w.strides[0]), conv.group(conv.outputs * w.strides[0])),),
        weight,
        "depth",
        gcd(wide, terms, w.strides[0]) if dense else 1,
        tabled=not dense,
    )
    run = gcd(wide, conv.size, x.strides[0], x.strides[1]) if plain and in_order(x, slice(2, None)) else 1
    image = Operand(x.name, conv.of_result, conv.of_kernel, "line", run, conv.limits, tabled=True, near=conv.near)
    k, n = 0 if conv.nothing else terms, conv.images * conv.size
    return Product(x.dtype, conv.outputs, n, k, weights, image, store, conv.groups, reach=conv.reach)


# -- gradient of the image


def conv2d_input_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, tensor: int = 0) -> int:
    """Bytes for the sums of parts of the terms, where there are few results; ``tensor`` is the job's."""
    return sums_bytes(Adjoint.of(conv_of(outs[0], ins[1], ins[0], attrs)).product(), tensor)


def conv2d_input(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `conv2d` in x: out (N, C, H, W) from g (N, O, oh, ow) and w; attrs are those of conv2d.

    An epilogue gets (n, c, pixel).
    """
    return phases(Adjoint.of(conv_of(outs[0], ins[1], ins[0], attrs)).product(job.epilogue), job)


# -- gradient of the weights


def conv2d_weight_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, tensor: int = 0) -> int:
    """Bytes for the sums of all parts of the images."""
    return sums_bytes(_weight(conv_of(ins[0], outs[0], ins[1], attrs), Job()), tensor)


def conv2d_weight(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of `conv2d` in w: out (O, C / groups, kh, kw) from x (N, C, H, W) and g; attrs are those of conv2d.

    An epilogue gets (o, c, element of the kernel).
    """
    return phases(_weight(conv_of(ins[0], outs[0], ins[1], attrs), job), job)


def _weight(conv: Conv, job: Job) -> Product:
    x, w, g, wide = conv.x, conv.w, conv.y, 16 // ITEMSIZE[conv.x.dtype]
    dense = in_order(g, slice(2, None))

    def pixel(k: str) -> tuple[str, ...]:
        n, y, z = split(k, conv.rows.result, conv.columns.result)
        inside = [split(k, conv.size)[1]] if dense else [times(y, g.strides[2]), times(z, g.strides[3])]
        return (add(times(n, g.strides[0]), *inside),)

    def store(i: str, j: str, value: str) -> str:
        o = add(conv.group(conv.outputs), i)
        if job.epilogue is None:
            return f"{w.at(o, *split(j, conv.rows.kernel, conv.columns.kernel))} = {value};"
        finish = job.epilogue(("o", "q", "p"), value)
        places = {"o": o, "q": f"{j} / {conv.kernel}", "p": f"{j} % {conv.kernel}"}
        return "\n".join([*declared(conv.reach, places, [finish]), finish])

    signal = Operand(
        g.name,
        lambda i: (add(times(i, g.strides[1]), conv.group(conv.outputs * g.strides[1])),),
        pixel,
        "depth",
        gcd(wide, conv.size, g.strides[0], g.strides[1]) if dense else 1,
        tabled=True,
    )
    image = Operand(x.name, conv.of_kernel, conv.of_result, "depth", 1, conv.limits, tabled=True, near=conv.near)
    k, n = 0 if conv.nothing else conv.images * conv.size, conv.channels * conv.kernel
    return Product(x.dtype, conv.outputs, n, k, signal, image, store, conv.groups, reach=conv.reach)
