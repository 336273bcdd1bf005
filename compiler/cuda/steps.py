"""A schedule step as CUDA device functions: one for each phase of the kernel that carries it out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphnet.compiler.schedule import Leaf, Many
from graphnet.compiler.text.hazards import FAILED, Access, Piece, access, accesses
from graphnet.compiler.text.memory import Memory, Operand
from graphnet.compiler.text.programs import (
    block_comment,
    indented,
    uses,
)
from graphnet.compiler.text.writers import Names, Writers
from graphnet.kernels.cuda.many import many
from graphnet.kernels.cuda.nest import fused
from graphnet.kernels.cuda.phase import Job, Phase
from graphnet.kernels.cuda.reduction import reduce_of
from graphnet.kernels.cuda.rows import rows
from graphnet.kernels.cuda.table import WRITERS
from graphnet.kernels.text.program import Value
from graphnet.kernels.text.view import View

WIDTH = 100
"""Columns of a line, before it is indented."""

ALL_FAILING = Access(FAILED, 0, 1 << 60, None, False)
"""What reads the note touches: all that may write it, which do not disturb each other."""


def failing(number: int) -> Access:
    """What step ``number`` touches if it may note an index."""
    return Access(FAILED, number, number + 1, None, True)


@dataclass(frozen=True)
class Function:
    """A phase as a device function: its text, the arguments of a call, how many units it has, what it touches.

    ``load``, if any, is the text of a function that fills ``resident`` bytes from what ``loaded`` accesses; it is
    called with the arguments ``loading``.
    """

    name: str
    text: str
    arguments: tuple[str, ...]
    units: int
    shared: int
    resident: int
    load: str
    loading: tuple[str, ...]
    loaded: tuple[Access, ...]
    helpers: tuple[str, ...]
    piece: Piece
    fails: bool
    writes_home: bool
    step: int

    def call(self, unit: str, resident: str = "", load: bool = False) -> list[str]:
        """The lines that do a unit, or load what it keeps at ``resident``; both are expressions."""
        given = {"unit": unit, "gn_resident": resident}
        arguments = ["net", *(given.get(a, a) for a in (self.loading if load else self.arguments))]
        return wrapped(f"{self.name}{'_load' if load else ''}(", arguments, ");")


def _computing(phase: Phase, value: Value, operand: View) -> Phase:
    return replace(phase, helpers=(*value.helpers, *phase.helpers))


def _finishing(
    phase: Phase, needed: tuple[str, ...], outs: Sequence[View], own: Sequence[View], others: Sequence[View]
) -> Phase:
    return replace(phase, helpers=(*needed, *phase.helpers))


CUDA = Writers("CUDA", WRITERS, fused, rows, many, reduce_of, _computing, _finishing)


class Steps:
    """Writes the functions of one plan's steps."""

    def __init__(self, memory: Memory, tensor: int = 0) -> None:
        """``tensor``: how many products tensor cores may compute for one of float32."""
        self._memory = memory
        self._tensor = tensor
        self._names = Names()

    def functions(self, step: Leaf | Many, number: int, comment: Sequence[str]) -> list[Function]:
        """One function a phase; ``comment`` stands above the first."""
        operands, made = CUDA.phases(step, self._memory, Job(unique=f"s{number}", tensor=self._tensor))
        found = []
        for index, phase in enumerate(made):
            name = self._names.of(number, index, len(made))
            head = [*comment, phase.note] if index == 0 else [phase.note]
            found.append(self._function(name, step, phase, operands, [h for h in head if h], number))
        return found

    def _function(
        self,
        name: str,
        step: Leaf | Many,
        phase: Phase,
        operands: Sequence[Operand],
        comment: Sequence[str],
        number: int,
    ) -> Function:
        parameters, arguments = self._signature(step, phase.body, operands)
        found = accesses(self._memory, step, named=_named(step, phase, operands))
        load: str = ""
        loading: tuple[str, ...] = ()
        if phase.load:
            given, loading = self._signature(step, phase.load, operands)
            load = _text(f"{name}_load", given, self._head(phase.load, None), phase.load, ["what stays on chip"])
        return Function(
            name,
            _text(name, parameters, self._head(phase.body, number if phase.fails else None), phase.body, comment),
            arguments,
            phase.units,
            phase.shared,
            phase.resident,
            load,
            loading,
            self._loaded(step, phase),
            phase.helpers,
            Piece((*found, *([failing(number)] if phase.fails else [])), True),
            phase.fails,
            any(a.write and a.space >= 0 and self._memory.is_home(a.space) for a in found),
            number,
        )

    def _signature(
        self, step: Leaf | Many, code: str, operands: Sequence[Operand]
    ) -> tuple[list[str], tuple[str, ...]]:
        """Parameters and arguments of a function: what ``code`` names; pointers, so that they are known to be apart."""
        # a promise that what is only read here does not change would let it be read through a cache that does not see
        # what other blocks of the kernel write; that what is written lies apart from all else is promise enough
        pointers = [
            (_shared(o.pointer_type), o.view.name, o.address) for o in operands if o.address and uses(code, o.view.name)
        ]
        if step.scratch is not None and uses(code, "scratch"):
            pointers.append(("char *restrict ", "scratch", self._memory.address(step.scratch)))
        places = [address for _, _, address in pointers]
        iterations = sorted(set(re.findall(r"\bk\d+\b", code)), key=lambda k: int(k[1:]))
        named = [n for n in ("gn_shared", "gn_resident") if uses(code, n)]
        parameters = ["const struct net &net", "const int unit", *(f"char *const {n}" for n in named)]
        parameters += [*(f"const int {k}" for k in iterations), *(f"{type_}{own}" for type_, own, _ in pointers)]
        return parameters, ("unit", *named, *iterations, *places)

    def _head(self, code: str, failing: int | None) -> list[str]:
        """What stands at the top of a function besides its parameters."""
        found = ["char *const A = net.A;"] if uses(code, "A") else []
        found += ["char *const *const H = net.H;"] if uses(code, "H") else []
        return found + ([f"const int gn_step = {failing};"] if failing is not None else [])

    def _loaded(self, step: Leaf | Many, phase: Phase) -> tuple[Access, ...]:
        found = (access(self._memory, step.inputs[i], False, None, 1) for i in phase.loaded)
        return tuple(a for a in found if a is not None)


def _named(step: Leaf | Many, phase: Phase, operands: Sequence[Operand]) -> tuple[bool, ...]:
    """Which of a step's arrays, and whether its scratch, a phase touches: those that its text names."""
    if isinstance(step, Many):  # whose members' arrays have no names of their own
        return ()
    text = f"{phase.body}\n{phase.load}"
    return *(uses(text, o.view.name.strip("()")) for o in operands), uses(text, "scratch")


def _text(name: str, parameters: Sequence[str], head: Sequence[str], body: str, comment: Sequence[str]) -> str:
    signature = wrapped(f"GN_INLINE void {name}(", parameters, ")")
    lines = [f"    {line}" for line in head]
    return "\n".join([block_comment(comment), *signature, "{", *lines, indented(body), "}\n"])


def wrapped(head: str, items: Sequence[str], end: str) -> list[str]:
    """``head item, item, .. end`` on one line, or with the items on lines of their own where that is long."""
    lines = [head]
    for number, item in enumerate(items):
        text = item + (", " if number < len(items) - 1 else end)
        if len(lines[-1]) + len(text) > WIDTH:
            lines[-1] = lines[-1].rstrip()
            lines.append("    ")
        lines[-1] += text
    return lines


def _shared(pointer_type: str) -> str:
    """The type of a pointer to what other blocks may write."""
    return pointer_type.replace("*restrict", "*") if pointer_type.startswith("const") else pointer_type
