"""A schedule step as C functions: one for each phase of the kernel that carries it out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphnet.compiler.schedule import HOMES, Leaf, Many
from graphnet.compiler.text.hazards import FAILED, Access, Piece, accesses
from graphnet.compiler.text.memory import Memory
from graphnet.compiler.text.programs import (
    block_comment,
    declared_name,
    indented,
    uses,
)
from graphnet.compiler.text.writers import Names, Writers
from graphnet.kernels.c.many import many
from graphnet.kernels.c.nest import fused
from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.reduction import reduce_of
from graphnet.kernels.c.rows import rows
from graphnet.kernels.c.table import WRITERS
from graphnet.kernels.text.program import Value
from graphnet.kernels.text.view import View


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


def _computing(phase: Phase, value: Value, operand: View) -> Phase:
    cost = phase.cost + operand.size * value.work
    return replace(phase, helpers=(*value.helpers, *phase.helpers), cost=cost)


def _finishing(
    phase: Phase, needed: tuple[str, ...], outs: Sequence[View], own: Sequence[View], others: Sequence[View]
) -> Phase:
    axes = phase.axes or (None,) * (1 + len(own))
    # the program's arrays have the result's axes
    spread = [axes[0] if v.shape == outs[0].shape else None for v in others]
    axes = (*(axes[0] for _ in outs), *axes[1:], *spread)
    return replace(phase, axes=axes, helpers=(*needed, *phase.helpers))


C = Writers("C", WRITERS, fused, rows, many, reduce_of, _computing, _finishing)


class Steps:
    """Writes the functions of one plan's steps."""

    def __init__(self, memory: Memory, threads: int, least_work: float) -> None:
        self._memory = memory
        self._threads = threads
        self._least_work = least_work
        self._names = Names()
        self.cost = 0.0

    def functions(self, step: Leaf | Many, number: int, comment: Sequence[str]) -> list[Function]:
        """One function a phase; ``comment`` stands above the first."""
        job = Job(threads=self._threads, unique=f"s{number}")
        operands, made = C.phases(step, self._memory, job)
        declared = [o.declaration for o in operands if o.declaration]
        found = []
        for index, phase in enumerate(made):
            name = self._names.of(number, index, len(made))
            head = [*comment, phase.note] if index == 0 else [phase.note]
            found.append(self._function(name, step, phase, declared, [h for h in head if h], len(made) == 1, number))
        return found

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
        axes = phase.axes if parallel else ()
        # a phase that stands alone gives each thread scratch of its own
        found = accesses(self._memory, step, axes, phase.units, ("own", number) if alone else None)
        # notes do not disturb each other, only who looks
        return (*found, Access(FAILED, 0, 1, None, False)) if phase.fails else found
