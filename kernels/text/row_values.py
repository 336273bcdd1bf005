"""Where the values of a program over rows are while its text is written, and the statements that compute them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from graphnet.kernels.text.collapse import broadcast_strides, index_text, loops_of
from graphnet.kernels.text.maths import definitions
from graphnet.kernels.text.program import Instr, Ref, statements
from graphnet.kernels.text.row_program import RowProgram
from graphnet.kernels.text.view import CTYPES, View


class RowValues:
    """The values of a program, and the loops over its rows.

    A value is known by its text, if that is the same for all of a row, or by the view it lies in.
    """

    truth = "_Bool"
    """The type of a number that is true or false."""
    space: tuple[int, ...] = ()
    """The index space of what is done at once, and of the views."""

    def __init__(self, program: RowProgram) -> None:
        self.program = program
        self.strides = [broadcast_strides(v, program.shape) for v in (*program.outs, *program.ins)]
        self.loops = loops_of(program.shape[:-1], [s[:-1] for s in self.strides], len(program.outs))
        self.ins = [ref for i in range(len(program.ins)) if (ref := ("in", i)) in program.read]
        self.folds: list[str] = []
        self.views: dict[Ref, View] = {}
        self.texts: dict[Ref, str] = {}
        self.numbers = 0

    # -- operands ----------------------------------------------------------------------------------------

    def _operand(self, ref: Ref) -> int:
        """The place of an out or an in among all operands."""
        return ref[1] if ref[0] == "out" else len(self.program.outs) + ref[1]

    def view_of(self, ref: Ref) -> View:
        return (self.program.outs if ref[0] == "out" else self.program.ins)[ref[1]]

    def strides_of(self, ref: Ref) -> tuple[int, ...]:
        return self.strides[self._operand(ref)]

    def steps(self, ref: Ref) -> list[int]:
        """How far an operand moves with each loop over rows."""
        return [each.strides[self._operand(ref)] for each in self.loops]

    def ctype(self, ref: Ref) -> str:
        dtype = self.program.dtype[ref]
        return self.truth if dtype == "bool" else CTYPES[dtype]

    def numbered(self) -> str:
        """A new name for a number a row."""
        self.numbers += 1
        return f"n{self.numbers - 1}"

    # -- statements --------------------------------------------------------------------------------------

    def assigned(self, targets: Sequence[tuple[Ref, View]], instrs: Sequence[Instr], index: Sequence[str]) -> str:
        """The block that computes one element of each target."""
        number = {instr.result: n for n, instr in enumerate(instrs)}
        known: dict[Ref, int] = {}

        def local(ref: Ref) -> Ref:
            return ("tmp", number[ref]) if ref in number else ("in", known.setdefault(ref, len(known)))

        body = [replace(i, operands=tuple(map(local, i.operands)), result=local(i.result)) for i in instrs]
        for n, (ref, _) in enumerate(targets):
            body.append(Instr("x", ("x",), (local(ref),), ("out", n), self.program.dtype[ref]))
        given = {n: self.texts[ref] for ref, n in known.items() if ref in self.texts}
        ins = [View("", self.program.dtype[r], (), ()) if r in self.texts else self.views[r] for r in known]
        return statements([view for _, view in targets], ins, body, index, given)

    def element(self, ref: Ref, index: Sequence[str]) -> str:
        """A value over the columns as an expression, in parentheses around the whole of it."""

        def leaf(at: Ref) -> str:
            return self.texts[at] if at in self.texts else self.place(self.views[at], index)

        text = self.program.expression(ref, leaf)
        return f"({text})" if " " in re.sub(r"\[.*?\]", "", text) else text

    def place(self, view: View, index: Sequence[str]) -> str:
        """The element of a view at an index of the space."""
        strides = broadcast_strides(view, self.space)
        places = [i if i.isidentifier() or s == 1 else f"({i})" for i, s in zip(index, strides, strict=True)]
        return f"{view.name}[{index_text(strides, places)}]"

    def helpers(self) -> tuple[str, ...]:
        """Definitions for the file; the body has been written."""
        functions = [f for i in self.program.program if isinstance(i, Instr) for f in self.program.functions(i)]
        return (*definitions(functions), *dict.fromkeys(self.folds))
