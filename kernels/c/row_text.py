"""What both ways to write a program over rows have in common: loops over rows, pointers to them, cost."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import prod

from graphnet.kernels.c.nest import INDEPENDENT, variables
from graphnet.kernels.text.axes import indent
from graphnet.kernels.text.collapse import Loop, Share, bounds_of, index_text, share_of, stop_of
from graphnet.kernels.text.program import Ref, function_cost
from graphnet.kernels.text.row_program import Reduce, RowProgram
from graphnet.kernels.text.row_values import RowValues
from graphnet.kernels.text.view import ITEMSIZE


def _share(loops: Sequence[Loop], shape: tuple[int, ...], threads: int) -> Share:
    """How rows are divided: as elements are, but never within a row."""
    if not loops:
        return Share()
    column = Loop(shape[-1], (1,) * len(loops[0].strides), (len(shape) - 1,))
    share = share_of([*loops, column], shape, threads)
    if share.loop < len(loops):
        return share
    return Share(0, loops[0].size, 1, loops[0].axes[0] if len(loops[0].axes) == 1 else None)


def used(text: str, declarations: Mapping[str, str]) -> str:
    """The text behind those declarations, by name, that it needs."""
    needed = (line for name, line in declarations.items() if re.search(rf"\b{name}\b", text))
    return "\n".join([*needed, text])


class RowText(RowValues, ABC):
    """What both ways to write a program have in common; ``space`` is a row, or a block of rows."""

    style = ""
    reducing = 0.03, 8.0
    """Nanoseconds of a reduction for an element and for a row."""
    single = 20.0
    """How much longer a function takes for one number than for an element of a loop."""
    moving = 0.0
    """Nanoseconds to turn an element."""

    def __init__(self, program: RowProgram, threads: int) -> None:
        super().__init__(program)
        self.share = _share(self.loops, program.shape, threads)
        names = (v.name for v in (*program.outs, *program.ins))
        *self.vars, self.column, self.lane = variables(len(self.loops) + 2, names)
        self.bases: dict[Ref, str] = {}

    def body(self) -> str:
        """The text of the phase."""
        once, pointers = self._scalars(), self._pointers()
        text = self.within(pointers)
        for n in reversed(range(len(self.loops))):
            low, high = bounds_of(self.loops, self.share, n, self.vars[n])
            text = self.looped(n, low, high, text)
        return "\n".join([*self.buffers(), *stop_of(self.loops, self.share, self.vars), *once, text])

    @abstractmethod
    def within(self, pointers: Mapping[str, str]) -> str:
        """What is done inside all loops over rows; ``pointers`` are declarations that it may need."""

    def looped(self, number: int, low: str, high: str, text: str) -> str:
        """The text inside the loop over rows of this number."""
        var = self.vars[number]
        return f"for (long {var} = {low}; {var} < {high}; ++{var}) {{\n{indent(text)}\n}}"

    @abstractmethod
    def buffers(self) -> list[str]:
        """Declarations of what is kept; ``within`` has been written."""

    @abstractmethod
    def stack_bytes(self) -> int:
        """Bytes of what is kept."""

    # -- operands ----------------------------------------------------------------------------------------

    def plain_out(self, ref: Ref) -> bool:
        """True for an out with one number a row."""
        return ref[0] == "out" and ref[1] not in self.program.stored

    def _scalars(self) -> list[str]:
        """Declarations of ins that are one number for all rows."""
        lines = []
        for ref in self.ins:
            if not any(self.strides_of(ref)):
                self.texts[ref] = self.numbered()
                lines.append(f"const {self.ctype(ref)} {self.texts[ref]} = {self.view_of(ref).name}[0];")
        return lines

    def _pointers(self) -> dict[str, str]:
        """Declarations by name of where the rows at the loops' variables are; fills ``bases``."""
        outs: list[Ref] = [("out", i) for i in range(len(self.program.outs))]
        written = {v.name for v in self.program.outs}
        names: dict[tuple[str, tuple[int, ...]], str] = {}
        lines: dict[str, str] = {}
        for ref in [*outs, *self.ins]:
            view = self.view_of(ref)
            key = view.name, tuple(self.steps(ref))
            if not any(self.steps(ref)):
                names[key] = view.name
            elif key not in names:
                names[key] = f"row{len(names)}"
                const = "" if view.name in written else "const "
                place = index_text(self.steps(ref), self.vars)
                lines[names[key]] = f"{const}{view.ctype} *restrict {names[key]} = {view.name} + {place};"
            self.bases[ref] = names[key]
        return lines

    def helpers(self) -> tuple[str, ...]:
        return (*super().helpers(), INDEPENDENT)

    def note(self) -> str:
        return f"rows of {self.program.columns} {self.style}"

    def cost(self) -> float:
        """Nanoseconds: functions as measured, memory at 150 bytes/ns, at 25 where no cache holds it."""
        p = self.program
        wide: list[Ref] = [*(r for r in self.ins if p.wide[r]), *(("out", i) for i in p.stored)]
        moved = [ITEMSIZE[p.dtype[ref]] for ref in wide if any(self.steps(ref))]
        column, row = self.moving * len(moved), 2.0
        for instr in p.program:
            if isinstance(instr, Reduce):
                column, row = column + self.reducing[0], row + self.reducing[1]
                continue
            work = sum(map(function_cost, p.functions(instr)))
            column += work + 0.01 if p.wide[instr.result] else 0
            row += 0 if p.wide[instr.result] else self.single * (work + 0.05)
        many = prod(p.shape[:-1])
        total = many * p.columns * sum(moved)
        return many * (row + p.columns * column) + total / (150 if total < 1 << 24 else 25)
