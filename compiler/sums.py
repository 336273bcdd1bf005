"""The gradient of a bias from the product that gives the gradient of its weights, where a library computes that.

    matmul  dw = x.T @ dy             matmul  dw, db = x.T @ dy, sum(dy, 0)
    sum     db = sum(dy, 0)     ->

The sum is over the axis that the product goes along, of an operand that it reads in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from graphnet.compiler.merging import place, placed, use
from graphnet.compiler.schedule import Array, Kernel, Step, Storage
from graphnet.compiler.strides import reshaped

SUMS = "sums"
"""The attribute of a product with two results: left @ right, and the sum of right's rows."""


def sum_with_products(
    steps: Sequence[Step], storages: list[Storage], apart: bool, library: Callable[[Kernel], bool]
) -> list[Step]:
    """``steps`` with the products of a ``library`` and the sums of their right operand's rows as one.

    Lifetimes follow; with ``apart`` the phases stay so.
    """
    found = list(steps)
    uses = [use(s) for s in found]
    for step in steps:
        rows = _rows(step)
        if rows is None or not isinstance(step, Kernel):
            continue
        j = found.index(step)
        for i, product in enumerate(found):
            if not isinstance(product, Kernel) or not _reads(product, rows) or not library(product):
                continue
            outs = (product.outputs[0], _row(step.outputs[0]))
            summed = replace(product, attrs={SUMS: True}, outputs=outs)
            at = place(uses, min(i, j), max(i, j))
            if at is None or not library(summed) or (apart and product.phase != step.phase):
                continue
            found[at] = placed(summed, found[at], storages)
            uses[at] = use(found[at])
            other = i + j - at
            del found[other], uses[other]
            break
    return found


def _rows(step: Step) -> Array | None:
    """The matrix whose rows a step sums, all axes but the last of its operand being one."""
    if not isinstance(step, Kernel) or step.op != "sum" or not step.outputs[0].contiguous:
        return None
    *lead, columns = step.inputs[0].shape or (1,)
    if not lead or step.attrs["axes"] != tuple(range(len(lead))) or not step.inputs[0].size:
        return None
    return reshaped(step.inputs[0], (prod(lead), columns))


def _reads(product: Kernel, rows: Array) -> bool:
    return product.op == "matmul" and len(product.outputs) == 1 and product.inputs[1] == rows


def _row(sums: Array) -> Array:
    """The sums without the axis that was kept for them."""
    return replace(sums, shape=(sums.size,), strides=(1,))
