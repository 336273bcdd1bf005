"""The gates of a recurrent cell computed in the tiles of its product, which is never stored.

    pack w                                  pack w in 2 groups: panels hold the same columns of both halves
    loop:                                   loop:
      matmul_packed p = h @ w        ->       matmul_packed h' = sigmoid(a + (h @ w)[0]) * tanh(b + (h @ w)[1])
      fused h' = sigmoid(a + p[:, :n])
               * tanh(b + p[:, n:])

The tiles of a product cover whole panels, so that a finished one has all that the gates of its columns take. Done
on steps with packs, after ``merge_epilogues``: what it has given to the product is done for each group apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphnet.compiler.epilogues import as_fused
from graphnet.compiler.grouping import Packing, as_stored
from graphnet.compiler.merging import Use, place, placed, readers, use
from graphnet.compiler.program import Ref, overlaps, with_places
from graphnet.compiler.schedule import Array, Epilogue, Fused, Instruction, Kernel, Loop, Step, Storage
from graphnet.compiler.strides import spread_as


def merge_gates(steps: Sequence[Step], storages: list[Storage], packing: Packing, kept: set[int]) -> list[Step]:
    """``steps`` with products in loops and the elementwise steps that take their columns in parts merged.

    ``kept`` are storages that results are read from after the last step. Lifetimes and the packs' sizes follow.
    """
    return _Merger(steps, storages, packing, kept).run(steps)


class _Merger:
    """Merges within each loop's body; the packs are in the list that holds the loop."""

    def __init__(self, steps: Sequence[Step], storages: list[Storage], packing: Packing, kept: set[int]) -> None:
        self._storages = storages
        self._packing = packing
        self._kept = kept
        self._readers = readers(steps)

    def run(self, steps: Sequence[Step]) -> list[Step]:
        """The steps with every product and its gates merged where that is possible."""
        found = list(steps)
        for at, step in enumerate(found):
            if isinstance(step, Loop):
                found[at] = replace(step, body=tuple(self._body(self.run(step.body), found[:at], found)))
        return found

    def _body(self, steps: list[Step], before: Sequence[Step], outside: list[Step]) -> list[Step]:
        """The steps of a loop; packs in front of it change in ``outside``."""
        packs = {s.outputs[0].storage: i for i, s in enumerate(before) if isinstance(s, Kernel) and s.op == "pack"}
        uses = [use(s) for s in steps]
        i = 0
        while i < len(steps):
            product, i = steps[i], i + 1
            if not isinstance(product, Kernel) or product.op != "matmul_packed":
                continue
            at = packs.get(product.inputs[1].storage)
            pack = outside[at] if at is not None else None
            j = self._reader(product, uses, i)
            gates = steps[j] if j is not None else None
            if at is None or not isinstance(pack, Kernel) or j is None or not isinstance(gates, (Kernel, Fused)):
                continue
            merged = self._merge(product, gates, pack)
            where = place(uses, i - 1, j)
            if merged is None or where is None:
                continue
            i -= 1
            steps[where] = placed(merged[0], steps[where], self._storages)
            uses[where] = use(steps[where])
            del steps[j if where == i else i], uses[j if where == i else i]
            outside[at] = merged[1]
            packed = merged[1].outputs[0]
            self._storages[packed.storage].nbytes = packed.nbytes
        return steps

    def _reader(self, product: Kernel, uses: Sequence[Use], start: int) -> int | None:
        """The first step from ``start`` on that reads the product's result, if none but steps of this loop may."""
        out = product.outputs[0]
        s = self._storages[out.storage]
        whole = out.contiguous and out.nbytes == s.nbytes and not out.terms and len(product.outputs) == 1
        if s.kind != "temp" or s.id in self._kept or not whole or self._readers.get(product.inputs[1].storage) != 1:
            return None
        return next((j for j in range(start, len(uses)) if s.id in uses[j].reads), None)

    def _merge(self, product: Kernel, reader: Kernel | Fused, pack: Kernel) -> tuple[Kernel, Kernel] | None:
        """The product with the reader's program on its tiles, and the pack that it reads."""
        out, fused = product.outputs[0], as_fused(reader)
        if fused is None or "groups" in product.attrs:
            return None
        parts = [i for i, a in enumerate(fused.inputs) if a.storage == out.storage]
        groups = len(parts)
        if groups < 2 or self._readers.get(out.storage) != groups or out.shape[1] % groups:
            return None
        if fused.outputs[0].size * groups != out.size:
            return None
        shape = (out.shape[0], out.shape[1] // groups)
        seen = [spread_as(a, fused.outputs[0].shape, shape) for a in (*fused.outputs, *fused.inputs)]
        if any(a is None for a in seen):
            return None
        arrays = [a for a in seen if a is not None]
        outputs, inputs = tuple(arrays[: len(fused.outputs)]), arrays[len(fused.outputs) :]
        parts.sort(key=lambda i: inputs[i].offset)
        if [inputs[i] for i in parts] != [group(out, g, groups) for g in range(groups)]:
            return None
        # a tile's results are written before the product has read all that it reads
        if any(overlaps(a, o) for a in product.inputs for o in outputs):
            return None
        width, nbytes = self._packing(as_stored(product), product.inputs[0], pack.inputs[0], groups)
        if not width:
            return None
        attrs = {"width": width, "groups": groups}
        packed = replace(pack.outputs[0], shape=(nbytes,))
        program, temps, more = _program(product, fused, parts)
        others = [*(a for i, a in enumerate(inputs) if i not in parts), *more]
        epilogue = Epilogue(program, temps, 2, tuple(parts), out.shape, _dtype(product), reader.op, reader.where)
        merged = replace(
            product, attrs=attrs, inputs=(product.inputs[0], packed, *others), outputs=outputs, epilogue=epilogue
        )
        return merged, replace(pack, attrs=attrs, outputs=(packed,))


def group(array: Array, number: int, groups: int) -> Array:
    """One of so many equal parts of the columns of a matrix."""
    n, step = array.shape[1] // groups, array.strides[1]
    return replace(array, shape=(array.shape[0], n), offset=array.offset + number * n * step)


def _dtype(product: Kernel) -> str:
    return product.epilogue.dtype if product.epilogue is not None else product.outputs[0].dtype


def _program(
    product: Kernel, fused: Fused, parts: Sequence[int]
) -> tuple[tuple[Instruction, ...], tuple[str, ...], list[Array]]:
    """Instructions, temporaries and further operands of the gates behind what the product does to each part."""
    own, groups = product.epilogue, len(parts)
    if own is None:
        return fused.program, fused.temps, []
    others = product.inputs[own.own :]
    first, total = len(fused.temps), len(fused.temps) + len(own.temps)
    program: list[Instruction] = []
    more: list[Array] = []
    for g, part in enumerate(parts):
        refs: dict[Ref, Ref] = {("tmp", t): ("tmp", first + t) for t in range(len(own.temps))}
        refs[("out", 0)] = ("tmp", total + g)
        numbers = iter(range(len(fused.inputs) + len(more), len(fused.inputs) + len(more) + len(others)))
        for i in range(len(others) + 1):
            refs["in", i] = ("in", part if i == own.products[0] else next(numbers))
        program += (with_places(i, refs) for i in own.program)
        more += (group(a, g, groups) for a in others)
    refs = {("in", part): ("tmp", total + g) for g, part in enumerate(parts)}
    program += (with_places(i, refs) for i in fused.program)
    return tuple(program), (*fused.temps, *own.temps, *(product.outputs[0].dtype,) * groups), more
