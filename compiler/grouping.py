"""Steps that a compiled backend runs better than one by one: operands packed once a loop, pooling in one pass.

loop: y = h @ w             p = pack w;  loop: y = h @ p        (w does not change in the loop)
i = max_pool_index x, v = pool_gather x i          ->          i, v = max_pool x
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from graphnet.compiler.ir import Type
from graphnet.compiler.schedule import Array, Kernel, Loop, Step, Storage, flat
from graphnet.compiler.strides import contiguous_strides

Packing = Callable[[Array, Array, Array, int], tuple[int, int]]
"""(out, left, right, groups) -> columns of a panel and bytes of a product's packed right operand, 0 for not at all."""


def hoist_packs(steps: Sequence[Step], storages: list[Storage], packing: Packing) -> list[Step]:
    """Loops over products with a fixed right operand find it packed in front of them."""
    found: list[Step] = []
    for step in steps:
        if isinstance(step, Loop):
            written = {a.storage for s in flat(step.body) if not isinstance(s, Loop) for a in _outputs(s)}
            body: list[Step] = []
            packs: dict[tuple[Array, int], Kernel] = {}
            for inner in hoist_packs(step.body, storages, packing):
                width, nbytes = _packing(inner, written, packing)
                if width and isinstance(inner, Kernel):
                    inner = _use_pack(inner, width, nbytes, step, storages, packs)
                body.append(inner)
            found += packs.values()
            step = replace(step, body=tuple(body))
        found.append(step)
    return found


def _outputs(step: Step) -> tuple[Array, ...]:
    return step.outputs if hasattr(step, "outputs") else ()


def _packing(step: Step, written: set[int], packing: Packing) -> tuple[int, int]:
    if not isinstance(step, Kernel) or step.op != "matmul":
        return 0, 0
    right = step.inputs[1]
    if right.terms or right.storage in written:
        return 0, 0
    return packing(as_stored(step), step.inputs[0], right, 1)


def as_stored(step: Kernel) -> Array:
    """The result as the product's own kernel would store it."""
    dtype = step.epilogue.dtype if step.epilogue is not None else step.outputs[0].dtype
    return replace(step.outputs[0], dtype=dtype)


def _use_pack(
    step: Kernel, width: int, nbytes: int, loop: Loop, storages: list[Storage], packs: dict[tuple[Array, int], Kernel]
) -> Kernel:
    """The product with its right operand read from a pack, which is made in front of the loop."""
    right = step.inputs[1]
    last = max(s.position for s in flat((loop,)))
    if (right, width) not in packs:
        level = storages[right.storage].level
        own = Storage(len(storages), nbytes, "temp", "packed", step.where, loop.position, last, level)
        storages.append(own)
        shape = Type((nbytes,), "uint8")
        out = Array(own.id, shape.dtype, shape.shape, contiguous_strides(shape.shape))
        attrs = {"width": width}
        packs[right, width] = Kernel("pack", attrs, (right,), (out,), None, step.where, loop.position, loop.phase)
    packed = packs[right, width].outputs[0]
    attrs = {"width": width}
    return replace(
        step, op="matmul_packed", attrs=attrs, inputs=(step.inputs[0], packed, *step.inputs[2:]), scratch=None
    )


def pair_pools(steps: Sequence[Step], storages: list[Storage]) -> list[Step]:
    """The position and the value of each window's maximum from one pass over the image."""
    found = [replace(s, body=tuple(pair_pools(s.body, storages))) if isinstance(s, Loop) else s for s in steps]
    i = 0
    while i < len(found):
        step = found[i]
        if isinstance(step, Kernel) and step.op == "max_pool_index":
            j = next((j for j in range(i + 1, len(found)) if _gathers(found[j], step)), None)
            if j is not None and not _touched(found[i + 1 : j], found[j]):
                gather = found.pop(j)
                value = _outputs(gather)[0]
                storages[value.storage].first = min(storages[value.storage].first, step.position)
                found[i] = replace(step, op="max_pool", outputs=(step.outputs[0], value), scratch=None)
        i += 1
    return found


def _gathers(step: Step, index: Kernel) -> bool:
    return (
        isinstance(step, Kernel)
        and step.op == "pool_gather"
        and step.inputs == (index.inputs[0], index.outputs[0])
        and all(step.attrs[k] == index.attrs[k] for k in ("kernel", "stride", "padding"))
        and step.phase == index.phase
    )


def _touched(between: Sequence[Step], gather: Step) -> bool:
    """Whether a step between uses the memory that the gather writes."""
    mine = {a.storage for a in _outputs(gather)}
    return any(a.storage in mine for s in flat(tuple(between)) for a in (*_outputs(s), *getattr(s, "inputs", ())))
