"""Elementwise work moved into the kernel whose result it takes: bias and activation, an optimiser's update.

    matmul p = x @ w                 matmul p = x @ w, out = relu(p + b)
    fused  out = relu(p + b)    ->   (p is never stored)

Done on steps, where it is known which memory each reads and writes: the two become one at the place of the
later or of the earlier, whichever leaves no step between them that would see a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeGuard

from graphnet.compiler.merging import Use, place, placed, readers, use
from graphnet.compiler.program import overlaps
from graphnet.compiler.record import lookup
from graphnet.compiler.schedule import REDUCTIONS, Epilogue, Fused, Instruction, Kernel, Loop, Step, Storage
from graphnet.compiler.strides import spread_as

WAITING_BYTES = 1 << 14

CONVOLUTIONS = ("conv2d", "conv2d_input", "conv2d_weight")


def merge_epilogues(
    steps: Sequence[Step],
    storages: list[Storage],
    ops: Sequence[str],
    kept: set[int],
    apart: bool,
    library: Callable[[Kernel], bool] = lambda step: False,
) -> list[Step]:
    """``steps`` with the products of ``ops`` and their elementwise readers merged; lifetimes follow.

    ``kept`` are storages that results are read from after the last step; with ``apart`` the phases stay so. A product
    that a ``library`` computes takes its reader if the library computes both.
    """
    return _Merger(steps, storages, ops, kept, apart, library).run(steps)


class _Merger:
    """Merges within each list of steps."""

    def __init__(
        self,
        steps: Sequence[Step],
        storages: list[Storage],
        ops: Sequence[str],
        kept: set[int],
        apart: bool,
        library: Callable[[Kernel], bool],
    ) -> None:
        self._library = library
        self._storages = storages
        self._apart = apart
        self._ops = ops
        self._kept = kept
        self._readers = readers(steps)

    def run(self, steps: Sequence[Step]) -> list[Step]:
        """The steps with every product and its elementwise reader merged where that is possible."""
        found = [replace(s, body=tuple(self.run(s.body))) if isinstance(s, Loop) else s for s in steps]
        uses = [use(s) for s in found]
        i = 0
        while i < len(found):
            j = self._reader(found, uses, i)
            if j is not None and self._is_reduction(found[i]):
                # of several reductions it takes the last: nothing has to wait for the others
                later = (self._reader(found, uses, k) for k in range(i + 1, j))
                j = None if j in later else j
            merged = self._merge(found[i], found[j]) if j is not None else None
            if merged is None or j is None or not self._may_be(merged, found[i]):
                i += 1
                continue
            at = place(uses, i, j)
            if at is None or (at == j and self._keeps_alive(found[i], found[j])):
                i += 1
                continue
            other = j if at == i else i
            found[at] = placed(merged, found[at], self._storages)
            uses[at] = use(found[at])
            del found[other], uses[other]
        return found

    def _reader(self, steps: Sequence[Step], uses: Sequence[Use], i: int) -> int | None:
        """The one step after i that reads what the product at i writes."""
        step = steps[i]
        if not isinstance(step, Kernel) or step.op not in self._ops or step.epilogue is not None:
            return None
        if len(step.outputs) != 1:
            return None
        out = step.outputs[0]
        if step.op == "matmul" and len(out.shape) != 2:
            return None
        s = self._storages[out.storage]
        whole = out.contiguous and out.nbytes == s.nbytes and not out.terms
        if s.kind != "temp" or s.id in self._kept or self._readers.get(s.id) != 1 or not whole or out.size == 0:
            return None
        return next((j for j in range(i + 1, len(steps)) if s.id in uses[j].reads), None)

    def _is_reduction(self, step: Step) -> TypeGuard[Kernel]:
        return isinstance(step, Kernel) and step.op in REDUCTIONS

    def _keeps_alive(self, step: Step, reader: Step) -> bool:
        """Whether much memory that dies with a reduction would have to wait for the reader."""
        if not self._is_reduction(step):
            return False
        held = {a.storage for a in step.inputs}
        dying = (s for s in self._storages if s.id in held and s.kind == "temp" and s.last < reader.position)
        return sum(s.nbytes for s in dying) > WAITING_BYTES

    def _merge(self, product: Step, reader: Step) -> Kernel | None:
        if not isinstance(product, Kernel) or not isinstance(reader, (Kernel, Fused)):
            return None
        return None if self._apart and product.phase != reader.phase else with_epilogue(product, reader)

    def _may_be(self, merged: Kernel, product: Step) -> bool:
        """Whether the library, where it is the library's product, computes the merged step."""
        if not isinstance(product, Kernel) or not self._library(product):
            return True
        # what outlives a run is written by kernels, which see whether an index was out of range
        return self._library(merged) and all(self._storages[a.storage].kind == "temp" for a in merged.outputs)


def with_epilogue(product: Kernel, reader: Kernel | Fused) -> Kernel | None:
    """The product with its reader's work as its epilogue; None if the reader's is no such work."""
    fused = as_fused(reader)
    out = product.outputs[0]
    where = [i for i, a in enumerate(fused.inputs) if a.storage == out.storage] if fused is not None else []
    if fused is None or len(where) != 1 or not fused.inputs[where[0]].contiguous:
        return None
    if fused.inputs[where[0]].size != out.size or fused.inputs[where[0]].dtype != out.dtype:
        return None
    others = [a for i, a in enumerate(fused.inputs) if i != where[0]]
    full = fused.outputs[0].shape
    if math.prod(full) != out.size:
        return None  # the reader repeats the result
    # a convolution's elements are numbered by image, channel and pixel, a kernel's by two channels and element
    flat_shape = (*out.shape[:2], math.prod(out.shape[2:])) if product.op in CONVOLUTIONS else out.shape
    found = [spread_as(a, full, flat_shape) for a in (*fused.outputs, *others)]
    if any(a is None for a in found):
        return None
    arrays = [a for a in found if a is not None]
    outs = tuple(arrays[: len(fused.outputs)])
    # a tile's results are written before the product has read all that it reads
    if any(overlaps(a, o) for a in product.inputs for o in outs):
        return None
    epilogue = Epilogue(
        fused.program, fused.temps, len(product.inputs), (where[0],), out.shape, out.dtype, reader.op, reader.where
    )
    inputs = (*product.inputs, *arrays[len(fused.outputs) :])
    return replace(product, inputs=inputs, outputs=outs, epilogue=epilogue)


def as_fused(step: Kernel | Fused) -> Fused | None:
    """An elementwise step as a fused program."""
    if isinstance(step, Fused):
        return step
    if step.op in ("copy", "fill") or step.epilogue is not None or lookup(step.op).kind != "elementwise":
        return None
    operands = tuple(("in", i) for i in range(len(step.inputs)))
    program = (Instruction(step.op, step.attrs, operands, ("out", 0)),)
    return Fused(program, step.inputs, step.outputs, (), None, step.where, step.position, step.phase)
