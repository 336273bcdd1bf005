"""Elementwise work moved into the reduction that takes it: norms, gradients of broadcast operands, means of errors.

    square  t = x * x
    sum     s = sum(t)          ->   sum  s = sum of x * x        (t is never stored)

The two become one step as a product and its reader do in `epilogues`, where it is known which memory each touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphnet.compiler.epilogues import as_fused
from graphnet.compiler.merging import Use, place, placed, readers, use
from graphnet.compiler.schedule import Array, Fused, Kernel, Loop, Prologue, Step, Storage
from graphnet.compiler.strides import spread_as
from graphnet.compiler.target import Target


def merge_prologues(
    steps: Sequence[Step], storages: list[Storage], target: Target, kept: set[int], apart: bool
) -> list[Step]:
    """``steps`` with reductions and the elementwise steps only they read merged; lifetimes follow.

    ``kept`` are storages that results are read from after the last step; with ``apart`` the phases stay so.
    """
    return _Merger(steps, storages, target, kept, apart).run(steps)


class _Merger:
    """Merges within each list of steps."""

    def __init__(
        self, steps: Sequence[Step], storages: list[Storage], target: Target, kept: set[int], apart: bool
    ) -> None:
        self._storages = storages
        self._target = target
        self._apart = apart
        self._kept = kept
        self._readers = readers(steps)

    def run(self, steps: Sequence[Step]) -> list[Step]:
        """The steps with every reduction and the writer of its operand merged where that is possible."""
        found = [replace(s, body=tuple(self.run(s.body))) if isinstance(s, Loop) else s for s in steps]
        uses = [use(s) for s in found]
        j = 0
        while j < len(found):
            i = self._writer(found, uses, j)
            at = place(uses, i, j) if i is not None else None
            merged = self._merge(found[i], found[j]) if i is not None and at is not None else None
            if merged is None or i is None or at is None:
                j += 1
                continue
            found[at] = placed(self._with_scratch(merged, found[at]), found[at], self._storages)
            uses[at] = use(found[at])
            other = j if at == i else i
            del found[other], uses[other]
        return found

    def _writer(self, steps: Sequence[Step], uses: Sequence[Use], j: int) -> int | None:
        """The step before j that first writes what the reduction at j takes, if nothing else reads that."""
        step = steps[j]
        if not isinstance(step, Kernel) or step.op not in self._target.reductions:
            return None
        if step.prologue is not None or step.epilogue is not None:
            return None
        s = self._storages[step.inputs[0].storage]
        if s.kind != "temp" or s.id in self._kept or self._readers.get(s.id) != 1:
            return None
        return next((i for i in range(j) if s.id in uses[i].writes), None)

    def _merge(self, writer: Step, reduction: Step) -> Kernel | None:
        if not isinstance(writer, (Kernel, Fused)) or not isinstance(reduction, Kernel):
            return None
        if self._apart and writer.phase != reduction.phase:
            return None
        fused = as_fused(writer)
        if fused is None or len(fused.outputs) != 1:
            return None
        out, operand = fused.outputs[0], reduction.inputs[0]
        whole = out.contiguous and out.nbytes == self._storages[out.storage].nbytes
        if not whole or out.size != operand.size or out.size == 0 or out.terms or operand.terms:
            return None
        views = _views(fused.inputs, out, operand)
        if views is None or any(a.storage == o.storage for a in views for o in reduction.outputs):
            return None
        prologue = Prologue(fused.program, fused.temps, operand.shape, writer.op, writer.where, writer.position)
        return replace(reduction, inputs=views, prologue=prologue, scratch=None)

    def _with_scratch(self, merged: Kernel, at: Step) -> Kernel:
        """The step with the scratch that its operands ask for."""
        assert merged.prologue is not None
        out, shape = merged.outputs[0], merged.prologue.shape
        nbytes = self._target.reduced_scratch(merged.op, merged.attrs, merged.inputs, out, shape)
        if not nbytes:
            return merged
        level = self._storages[out.storage].level
        own = Storage(
            len(self._storages), nbytes, "temp", "scratch", merged.where, at.position, at.position, level=level
        )
        self._storages.append(own)
        return replace(merged, scratch=Array(own.id, "uint8", (nbytes,), (1,)))


def _views(inputs: Sequence[Array], out: Array, operand: Array) -> tuple[Array, ...] | None:
    """The operands of a program over ``out`` in the shape and order of axes in which ``operand`` sees it."""
    order = sorted(range(len(operand.shape)), key=lambda a: -operand.strides[a])
    turned = tuple(operand.shape[a] for a in order)
    if (
        operand.offset
        or not replace(operand, shape=turned, strides=tuple(operand.strides[a] for a in order)).contiguous
    ):
        return None
    found = []
    for array in inputs:
        there = spread_as(array, out.shape, turned)
        if there is None:
            return None
        back = tuple(there.strides[order.index(a)] for a in range(len(order)))
        found.append(replace(there, shape=operand.shape, strides=back))
    if _across(found):
        return None
    same = (operand.shape, operand.strides) == (out.shape, out.strides)
    return tuple(inputs) if same else tuple(found)


def _across(views: Sequence[Array]) -> bool:
    """Whether one operand is dense along an axis where another takes long steps: that is better done in tiles."""
    shape = views[0].shape if views else ()
    axes = [a for a, n in enumerate(shape) if n != 1]
    inner = min(axes, key=lambda a: max(abs(v.strides[a]) for v in views), default=None)
    return inner is not None and any(
        abs(v.strides[inner]) > 1 and any(abs(v.strides[a]) == 1 for a in axes) for v in views
    )
