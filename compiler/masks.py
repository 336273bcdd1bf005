"""Masks that are worked out again where they are read, so that a library's product can end in relu.

    matmul p = x @ w                             matmul p = x @ w
    fused  y = relu(p + b), m = y > 0     ->     fused  y = relu(p + b)        (one call of the library, with p)
    where  g = where(m, d, 0)                    fused  g = where(y > 0, d, 0)

A library's epilogue gives relu's result and no mask of a byte an element. Only for y that the phase of the mask's
readers reads in any case, so that its memory is not held for the mask alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from graphnet.compiler.epilogues import as_fused, with_epilogue
from graphnet.compiler.merging import use
from graphnet.compiler.program import with_places
from graphnet.compiler.schedule import Array, Fused, Instruction, Kernel, Leaf, Step, Storage


def recompute_masks(
    steps: Sequence[Step], storages: Sequence[Storage], kept: set[int], library: Callable[[Kernel], bool]
) -> list[Step]:
    """``steps`` with the masks behind a ``library``'s products taken out where it then computes the rest.

    ``kept`` are storages that results are read from after the last step. Lifetimes follow.
    """
    found = list(steps)
    products = {s.outputs[0].storage: s for s in found if isinstance(s, Kernel) and s.op == "matmul" and library(s)}
    for i, step in enumerate(found):
        rest = _without_mask(step) if isinstance(step, Fused) and len(step.outputs) == 2 else None
        product = next((products[a.storage] for a in rest.inputs if a.storage in products), None) if rest else None
        merged = with_epilogue(product, rest) if rest is not None and product is not None else None
        readers = _readers(found, i, storages, kept) if merged is not None and library(merged) else None
        if rest is not None and readers:
            found[i] = rest
            for j, reader in readers.items():
                found[j] = reader
                _live(reader, storages)
    return found


def _without_mask(step: Fused) -> Fused | None:
    """The step without its last instruction, if that is (out 0 compared with a scalar) -> out 1."""
    *rest, last = step.program
    if last.result != ("out", 1) or last.op != "gt" or last.operands[0] != ("out", 0):
        return None
    kind, number = last.operands[1]
    if kind != "in" or step.inputs[number].size != 1 or any(("in", number) in i.operands for i in rest):
        return None
    inputs = tuple(a for k, a in enumerate(step.inputs) if k != number)
    places = {("in", k): ("in", k - 1) for k in range(number + 1, len(step.inputs))}
    program = tuple(with_places(i, places) for i in rest)
    return replace(step, program=program, inputs=inputs, outputs=step.outputs[:1])


def _readers(steps: Sequence[Step], i: int, storages: Sequence[Storage], kept: set[int]) -> dict[int, Fused] | None:
    """The readers of the mask that step i writes, with the mask worked out in each; None if one cannot."""
    step = steps[i]
    assert isinstance(step, Fused)
    result, mask = step.outputs
    own = {result.storage, mask.storage}
    if any(storages[a.storage].kind != "temp" or a.nbytes != storages[a.storage].nbytes for a in step.outputs):
        return None
    if not (result.contiguous and mask.contiguous) or mask.storage in kept:
        return None
    uses = [use(s) for s in steps]
    if any(own & u.writes for k, u in enumerate(uses) if k != i):
        return None
    found = {}
    for j, reader in enumerate(steps):
        if mask.storage not in uses[j].reads:
            continue
        if not isinstance(reader, (Kernel, Fused)):
            return None
        if not any(result.storage in u.reads and s.phase == reader.phase for s, u in zip(steps, uses, strict=True)):
            return None
        fused = as_fused(reader)
        if fused is None:
            return None
        found[j] = _with_mask(fused, step, mask)
    return found


def _with_mask(reader: Fused, step: Fused, mask: Array) -> Fused:
    """The reader with the last instruction of ``step`` in front of its own, instead of the mask as an operand."""
    compare = step.program[-1]
    result, scalar = step.outputs[0], step.inputs[compare.operands[1][1]]
    masks = [k for k, a in enumerate(reader.inputs) if a.storage == mask.storage]
    operands = list(reader.inputs)
    for k in masks:
        operands[k] = replace(operands[k], storage=result.storage, dtype=result.dtype)
    temps = (*reader.temps, *("bool" for _ in masks))
    places = {("in", k): ("tmp", len(reader.temps) + t) for t, k in enumerate(masks)}
    before = [
        Instruction(compare.op, compare.attrs, (("in", k), ("in", len(operands))), places["in", k]) for k in masks
    ]
    program = (*before, *(with_places(i, places) for i in reader.program))
    return replace(reader, program=program, inputs=(*operands, scalar), temps=temps)


def _live(step: Leaf, storages: Sequence[Storage]) -> None:
    for array in step.inputs:
        s = storages[array.storage]
        s.first, s.last = min(s.first, step.position), max(s.last, step.position)
