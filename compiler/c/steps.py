"""A schedule step as C functions: one for each phase of the kernel that carries it out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphnet.compiler.errors import BackendError
from graphnet.compiler.schedule import Array, Epilogue, Fused, Kernel, Leaf, Many, Rows
from graphnet.compiler.strides import contiguous_strides
from graphnet.compiler.text.hazards import Access, Piece, access
from graphnet.compiler.text.many import operands_of
from graphnet.compiler.text.memory import Memory, Operand
from graphnet.compiler.text.programs import (
    block_comment,
    declared_name,
    epilogue_of,
    indented,
    instrs,
    is_elementwise_op,
    program_of,
    rows_program,
    uses,
)
from graphnet.kernels.c.many import many
from graphnet.kernels.c.nest import fused
from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.reduction import reduce_of
from graphnet.kernels.c.rows import rows
from graphnet.kernels.c.table import WRITERS
from graphnet.kernels.text.program import value_of
from graphnet.kernels.text.view import View

FAILED = -2
"""The space of the note that an index was out of range: threads must agree on it before homes are written."""


@dataclass(frozen=True)
class Function:
    """A phase as a C function: its text, how it is called, and what it touches."""

    name: str
    text: str
    signature: str
    helpers: tuple[str, ...]
    arguments: tuple[str, ...]
    units: int
    piece: Piece
    fails: bool
    writes_home: bool
    op: str

    def call(self, threads: int, block: tuple[str, str] | None = None) -> str:
        """The statement that runs this thread's share (all of it without threads), or a block of it."""
        share = {"lo": "0", "hi": str(self.units), "tid": "0"}
        if self.piece.parallel and threads > 1:
            share = {"lo": f"CUT({self.units}, tid)", "hi": f"CUT({self.units}, tid + 1)", "tid": "tid"}
        if block is not None:
            share["lo"], share["hi"] = block
        given = ["net", *(share.get(a, a) for a in self.arguments)]
        return f"{self.name}({', '.join(given)});"


def phases(step: Leaf, outs: Sequence[View], ins: Sequence[View], job: Job) -> list[Phase]:
    """What the kernel writers make of a step."""
    if isinstance(step, Rows):
        return rows(outs, ins, rows_program(step), step.shape, job)
    if isinstance(step, Fused) or is_elementwise_op(step.op):
        return fused(outs, ins, program_of(step), job)
    if step.epilogue is not None:
        return _with_epilogue(step, step.epilogue, outs, ins, job)
    if step.op not in WRITERS:
        raise BackendError(f"{step.where}: the C backend has no kernel for {step.op}")
    return _kernel(step, outs, ins, job)


def _kernel(step: Kernel, outs: Sequence[View], ins: Sequence[View], job: Job) -> list[Phase]:
    """The phases of a step's kernel, whose operand may be the value of a program."""
    if step.prologue is None:
        return WRITERS[step.op](outs, ins, step.attrs, job)
    shape = step.prologue.shape
    operand = View("value", outs[0].dtype, shape, contiguous_strides(shape))
    program = instrs(step.prologue.program, step.prologue.temps, ins, [operand])
    value = value_of(f"{job.unique}_value", operand, ins, program)
    first, *rest = reduce_of(step.op, outs, ins, step.attrs, job, value.element, shape)
    helpers = (*value.helpers, *first.helpers)
    return [replace(first, helpers=helpers, cost=first.cost + operand.size * value.work), *rest]


def _with_epilogue(
    step: Kernel, epilogue: Epilogue, outs: Sequence[View], ins: Sequence[View], job: Job
) -> list[Phase]:
    """A kernel that hands its elements to a program instead of storing them."""
    own, others = ins[: epilogue.own], ins[epilogue.own :]
    product = View("product", epilogue.dtype, epilogue.shape, contiguous_strides(epilogue.shape))
    text, needed = epilogue_of(epilogue, outs, others)
    found = []
    for phase in _kernel(step, [product], own, replace(job, epilogue=text)):
        axes = phase.axes or (None,) * (1 + len(own))
        # the program's arrays have the result's axes
        spread = [axes[0] if v.shape == outs[0].shape else None for v in others]
        axes = (*(axes[0] for _ in outs), *axes[1:], *spread)
        found.append(replace(phase, axes=axes, helpers=(*needed, *phase.helpers)))
    return found


class Steps:
    """Writes the functions of one plan's steps."""

    def __init__(self, memory: Memory, threads: int, least_work: float) -> None:
        self._memory = memory
        self._threads = threads
        self._least_work = least_work
        self._names: dict[str, int] = {}
        self.cost = 0.0

    def functions(self, step: Leaf | Many, number: int, comment: Sequence[str]) -> list[Function]:
        """One function a phase; ``comment`` stands above the first."""
        job = Job(threads=self._threads, unique=f"s{number}")
        operands, made = self._made(step, job)
        declared = [o.declaration for o in operands if o.declaration]
        found = []
        for index, phase in enumerate(made):
            name = self._name(f"s{number}{chr(ord('a') + index) if len(made) > 1 else ''}")
            head = [*comment, phase.note] if index == 0 else [phase.note]
            found.append(self._function(name, step, phase, declared, [h for h in head if h], len(made) == 1, number))
        return found

    def _made(self, step: Leaf | Many, job: Job) -> tuple[list[Operand], list[Phase]]:
        """The operands a step's functions name, and its phases."""
        if isinstance(step, Many):
            operands, members = operands_of(step, self._memory)
            views = [o.view for o in operands]
            first = step.members[0]
            n = len(first.outputs)
            return operands, many(views[:n], views[n:], program_of(first), members, job)
        operands = self._memory.operands(step.outputs, step.inputs)
        views = [o.view for o in operands]
        n = len(step.outputs)
        return operands, phases(step, views[:n], views[n:], job)

    def _name(self, wanted: str) -> str:
        """A name of its own: what is done in front of a loop has the position of the loop's first step."""
        self._names[wanted] = count = self._names.get(wanted, 0) + 1
        return wanted if count == 1 else f"{wanted}_{count}"

    def _function(
        self,
        name: str,
        step: Leaf | Many,
        phase: Phase,
        declared: Sequence[str],
        comment: Sequence[str],
        alone: bool,
        number: int,
    ) -> Function:
        parallel = phase.units > 1 and phase.cost >= self._least_work
        piece = Piece(self._accesses(step, phase, parallel, alone, number), parallel)
        body = phase.body
        lines = list(declared)
        if step.scratch is not None:
            lines.append(f"char *scratch = {self._memory.address(step.scratch)};")
        lines = [line for line in lines if re.search(rf"\b{declared_name(line)}\b", body)]
        used = "\n".join([*lines, body])
        prolog = [f"char *{p} = net->A;" if p == "A" else f"char *const *{p} = net->H;" for p in "AH" if uses(used, p)]
        if phase.fails:
            prolog.append(f"const int gn_step = {number};")
        arguments = [a for a in ("tid", "lo", "hi") if uses(used, a)]
        arguments += sorted(set(re.findall(r"\bk\d+\b", "\n".join(lines))), key=lambda k: int(k[1:]))
        parameters = ["struct net *net", *(f"{'int' if a == 'tid' else 'long'} {a}" for a in arguments)]
        unused = "" if uses(used + " ".join(prolog), "net") or phase.fails else "\n    (void)net;"
        signature = f"void {name}({', '.join(parameters)})"
        text = "\n".join(
            [
                block_comment(comment),
                f"static {signature}",
                "{" + unused,
                *(f"    {line}" for line in [*prolog, *lines]),
                indented(body),
                "}\n",
            ]
        )
        self.cost += phase.cost
        writes = any(self._memory.storage(a).kind in HOMES for a in step.outputs)
        return Function(
            name, text, signature, phase.helpers, tuple(arguments), phase.units, piece, phase.fails, writes, step.op
        )

    def _accesses(
        self, step: Leaf | Many, phase: Phase, parallel: bool, alone: bool, number: int
    ) -> tuple[Access, ...]:
        arrays: list[tuple[Array, bool]] = [*((a, True) for a in step.outputs), *((a, False) for a in step.inputs)]
        axes = phase.axes or (None,) * len(arrays)
        found = [
            access(self._memory, a, write, axis if parallel else None, phase.units)
            for (a, write), axis in zip(arrays, axes, strict=True)
        ]
        if step.scratch is not None:
            scratch = access(self._memory, step.scratch, True, None, 1)
            # a phase that stands alone gives each thread scratch of its own
            found.append(replace(scratch, tag=("own", number)) if scratch and alone else scratch)
        if phase.fails:
            found.append(Access(FAILED, 0, 1, None, False))  # notes do not disturb each other, only who looks
        return tuple(a for a in found if a is not None and not self._is_constant(a))

    def _is_constant(self, found: Access) -> bool:
        return found.space >= 0 and not found.write and self._memory.is_constant(found.space)


HOMES = ("param", "state", "slot", "rng")
