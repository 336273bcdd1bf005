"""Which writer of kernels carries out a step, and what it is given: the same for C and for CUDA.

Rows, Fused, Many, one elementwise op      programs        ->  rows, fused, many
Kernel                                     its op          ->  table[op]
Kernel of the value of a program           its prologue    ->  reduce_of, which computes the value
Kernel that hands on what it finishes      its epilogue    ->  table[op], with a job that says so
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from graphnet.compiler.errors import BackendError
from graphnet.compiler.schedule import Epilogue, Fused, Kernel, Leaf, Many, Rows
from graphnet.compiler.strides import contiguous_strides
from graphnet.compiler.text.many import operands_of
from graphnet.compiler.text.memory import Memory, Operand
from graphnet.compiler.text.programs import epilogue_of, instrs, is_elementwise_op, program_of, rows_program
from graphnet.kernels.text.program import Value, value_of
from graphnet.kernels.text.view import View

P = TypeVar("P")
Views = Sequence[View]


@dataclass(frozen=True)
class Writers(Generic[P]):
    """The writers of one ``language``, which give phases of kind P.

    ``computing`` (phase, value, operand) is the first phase of a reduction with what computing its operand adds;
    ``finishing`` (phase, helpers, outs, own, others) that of a kernel whose epilogue needs ``helpers``, stores
    ``outs`` and reads ``others``.
    """

    language: str
    table: Mapping[str, Callable[..., list[P]]]
    fused: Callable[..., list[P]]
    rows: Callable[..., list[P]]
    many: Callable[..., list[P]]
    reduce_of: Callable[..., list[P]]
    computing: Callable[[P, Value, View], P]
    finishing: Callable[[P, tuple[str, ...], Views, Views, Views], P]

    def phases(self, step: Leaf | Many, memory: Memory, job: Any) -> tuple[list[Operand], list[P]]:
        """The operands that a step's functions name, and its phases."""
        if isinstance(step, Many):
            operands, members = operands_of(step, memory)
            outs, ins = _views(operands, len(step.members[0].outputs))
            return operands, self.many(outs, ins, program_of(step.members[0]), members, job)
        operands = memory.operands(step.outputs, step.inputs)
        outs, ins = _views(operands, len(step.outputs))
        return operands, self._leaf(step, outs, ins, job)

    def _leaf(self, step: Leaf, outs: Views, ins: Views, job: Any) -> list[P]:
        if isinstance(step, Rows):
            return self.rows(outs, ins, rows_program(step), step.shape, job)
        if isinstance(step, Fused) or is_elementwise_op(step.op):
            return self.fused(outs, ins, program_of(step), job)
        if step.op not in self.table:
            raise BackendError(f"{step.where}: the {self.language} backend has no kernel for {step.op}")
        if step.epilogue is not None:
            return self._with_epilogue(step, step.epilogue, outs, ins, job)
        return self._kernel(step, outs, ins, job)

    def _kernel(self, step: Kernel, outs: Views, ins: Views, job: Any) -> list[P]:
        """The phases of a step's kernel, whose operand may be the value of a program."""
        if step.prologue is None:
            return self.table[step.op](outs, ins, step.attrs, job)
        shape = step.prologue.shape
        operand = View("value", outs[0].dtype, shape, contiguous_strides(shape))
        program = instrs(step.prologue.program, step.prologue.temps, ins, [operand])
        value = value_of(f"{job.unique}_value", operand, ins, program)
        first, *rest = self.reduce_of(step.op, outs, ins, step.attrs, job, value.element, shape)
        return [self.computing(first, value, operand), *rest]

    def _with_epilogue(self, step: Kernel, epilogue: Epilogue, outs: Views, ins: Views, job: Any) -> list[P]:
        """A kernel that hands its elements to a program instead of storing them."""
        own, others = ins[: epilogue.own], ins[epilogue.own :]
        product = View("product", epilogue.dtype, epilogue.shape, contiguous_strides(epilogue.shape))
        text, needed = epilogue_of(epilogue, outs, others)
        made = self._kernel(step, [product], own, replace(job, epilogue=text))
        return [self.finishing(phase, needed, outs, own, others) for phase in made]


def _views(operands: Sequence[Operand], outs: int) -> tuple[list[View], list[View]]:
    views = [o.view for o in operands]
    return views[:outs], views[outs:]


class Names:
    """Names of a plan's functions: one a phase, and none twice."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def of(self, number: int, phase: int, phases: int) -> str:
        """What phase ``phase`` of step ``number`` is called; what is done in front of a loop has its first step's."""
        wanted = f"s{number}{chr(ord('a') + phase) if phases > 1 else ''}"
        self._given[wanted] = count = self._given.get(wanted, 0) + 1
        return wanted if count == 1 else f"{wanted}_{count}"
