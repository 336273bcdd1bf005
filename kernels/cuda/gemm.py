"""Matrix products: leading axes merged, a tile for each unit, and where terms are cut a second phase that adds up.

    left (.., m, k) @ right (.., k, n)   ->   entries x parts x tiles units   (->   one thread for each element)

Operands are read where they lie, whatever their strides. What one unit does is in ``gemm_tile``, which tiles are
taken in ``gemm_plan``; products whose right operand is packed in front of a loop are in ``gemm_packed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import prod

from graphnet.kernels.cuda.gemm_load import strided, times
from graphnet.kernels.cuda.gemm_packed import matmul_packed, pack, packed_bytes, packed_width
from graphnet.kernels.cuda.gemm_phases import ahead_of, phases, sums_bytes
from graphnet.kernels.cuda.gemm_tile import Product
from graphnet.kernels.cuda.phase import Job, Phase, index_type
from graphnet.kernels.text.view import ITEMSIZE, Attrs, View

__all__ = ["matmul", "matmul_packed", "matmul_scratch", "pack", "packed_bytes", "packed_width"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A leading axis: its size and the strides of out, left and right along it."""

    size: int
    out: int
    left: int
    right: int


def _stack(out: View, left: View, right: View) -> tuple[int, int, int, list[Batch]]:
    """Rows, their strides in out and left, and the leading axes that are left when rows took in what they can."""
    rows, down = out.shape[-2], (out.strides[-2], left.strides[-2])
    steps = [
        [s if n > 1 else 0 for n, s in zip(v.shape[:-2], v.strides[:-2], strict=True)][::-1] for v in (out, left, right)
    ]
    batch: list[Batch] = []
    for size, strides in zip(out.shape[-3::-1], zip_longest(*steps, fillvalue=0), strict=True):
        axis = Batch(size, *strides)
        if size == 1:
            continue
        follows = rows == 1 or (axis.out, axis.left) == (down[0] * rows, down[1] * rows)
        if not batch and axis.right == 0 and follows:
            down = (axis.out, axis.left) if rows == 1 else down
            rows *= size
        elif batch and all(getattr(axis, x) == getattr(batch[0], x) * batch[0].size for x in ("out", "left", "right")):
            batch[0] = replace(batch[0], size=batch[0].size * size)
        else:
            batch.insert(0, axis)
    return rows, *down, batch


def _offset(batch: Sequence[Batch], side: str) -> str:
    """The C expression of where an entry of the batch begins; empty at 0."""
    below, terms = prod(b.size for b in batch), []
    for b in batch:
        below //= b.size
        stride = getattr(b, side)
        index = "entry" if len(batch) == 1 else f"entry / {below} % {b.size}" if below > 1 else f"entry % {b.size}"
        terms += [times(index, stride)] if stride else []
    return " + ".join(terms)


def _product(out: View, ins: Sequence[View], job: Job) -> Product:
    left, right = ins
    rows, down, down_left, batch = _stack(out, left, right)
    (k, n), wide = right.shape[-2:], 16 // ITEMSIZE[out.dtype]
    starts = {side: _offset(batch, side) for side in ("out", "left", "right")}

    def pointer(view: View, side: str) -> str:
        return f"({view.name} + {starts[side]})" if starts[side] else view.name

    def store(i: str, j: str, value: str, **how: bool) -> str:
        if job.epilogue is not None:
            return job.epilogue((i, j), value, **how)
        terms = [t for t in (starts["out"], times(i, down), times(j, out.strides[-1])) if t and t != "0"]
        return f"{out.name}[{' + '.join(terms) or '0'}] = {value};"

    return Product(
        out.dtype,
        rows,
        n,
        k,
        strided(pointer(left, "left"), down_left, left.strides[-1], rows, k, wide),
        strided(pointer(right, "right"), right.strides[-1], right.strides[-2], n, k, wide),
        store,
        entries=prod(b.size for b in batch),
        down=abs(down) == 1 and abs(out.strides[-1]) != 1 and rows > 1,
        reach=index_type(out, left, right),
        ahead=ahead_of(job),
    )


def matmul_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, tensor: int = 0) -> int:
    """Bytes of scratch for the sums of parts of the terms, where ``matmul`` cuts them; ``tensor`` is the job's."""
    return sums_bytes(_product(outs[0], ins, Job()), tensor) if outs[0].size else 0


def matmul(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out (.., m, n) = left (.., m, k) @ right (.., k, n); leading axes broadcast, all of one dtype.

    Any strides; integers wrap. ``job.epilogue`` (two-dimensional results) gets each element once, when it is
    finished. No phases for an empty result.
    """
    return phases(_product(outs[0], ins, job), job) if outs[0].size else []
