"""What lowering has to know about the backend it lowers for: which memory its kernels want besides operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from graphnet.compiler.grouping import Packing
from graphnet.compiler.ir import Type
from graphnet.compiler.record import lookup
from graphnet.compiler.schedule import Array, Kernel, Rows
from graphnet.compiler.strides import matrix_ready
from graphnet.kernels.numpy import fused as fused_kernels

Scratch = Callable[[str, Mapping[str, Any], Sequence[Array], Array], int]
FusedScratch = Callable[[Sequence[str], tuple[int, ...]], int]
ReducedScratch = Callable[[str, Mapping[str, Any], Sequence[Array], Array, tuple[int, ...]], int]
Copied = Callable[[str, int, Array], bool]


@dataclass(frozen=True)
class Target:
    """A backend as lowering sees it.

    scratch        (op, attrs, inputs, output) -> bytes of scratch the op's kernel needs, 0 for none
    fused_scratch  (dtypes of the temporaries, shape) -> bytes a fused program needs
    copied         (op, position, operand) -> whether an operand must be copied to contiguous memory first
    epilogues      ops whose kernels can run an elementwise program on each element of their result
    reductions     ops whose kernels can reduce the value of an elementwise program, and run one on each result
    reduced_scratch (op, attrs, inputs, output, shape) -> bytes of scratch to reduce a program over shape
    rows           (program over rows) -> whether the backend runs it as one step
    packing        (out, left, right, groups) -> panel width and bytes of a product's right operand packed for a loop
    library        (product) -> whether a library computes it, and its epilogue if it has one: it gets no other
    waits          whether each step inside a loop waits for the whole device, so that fewer are better
    resting        bytes of the largest temporaries that rest for some steps, so that steps may stand side by side
    compiled       whether steps are compiled loops: fused and vectorised, with nothing to pay for a call
    tensor         how many products tensor cores may compute for one of float32: 0 none, 1 or 3
    blocks         of memory that a plan's inputs take turns in; with more than one, no result is a view of an input
    identity       differs for targets that lower differently; plans for a target without one are not kept
    """

    name: str
    scratch: Scratch
    fused_scratch: FusedScratch
    copied: Copied
    compiled: bool = False
    waits: bool = False
    epilogues: tuple[str, ...] = ()
    reductions: tuple[str, ...] = ()
    reduced_scratch: ReducedScratch = lambda op, attrs, inputs, output, shape: 0
    rows: Callable[[Rows], bool] = lambda step: False
    packing: Packing = lambda out, left, right, groups: (0, 0)
    library: Callable[[Kernel], bool] = lambda step: False
    tensor: int = 0
    blocks: int = 1
    resting: int = 0
    identity: str = ""


def _numpy_scratch(op: str, attrs: Mapping[str, Any], inputs: Sequence[Array], output: Array) -> int:
    record = lookup(op)
    if record.scratch is None:
        return 0
    # kernels that take scratch take it always, also for operands so small that they need none of it
    return max(1, record.scratch([Type(a.shape, a.dtype) for a in inputs], attrs))


def _numpy_fused(temps: Sequence[str], shape: tuple[int, ...]) -> int:
    return fused_kernels.fused_scratch(shape, [(t, shape) for t in temps]) if prod(shape) else 0


def _numpy_copied(op: str, position: int, array: Array) -> bool:
    """Operands that NumPy itself would copy on every call."""
    if op == "matmul":
        return not matrix_ready(array)
    return op == "take" and position == 0 and not array.contiguous


NUMPY = Target("numpy", _numpy_scratch, _numpy_fused, _numpy_copied)
