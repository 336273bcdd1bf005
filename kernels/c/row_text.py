"""What both ways to write a program over rows have in common: loops over rows, operands, statements, cost."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from graphnet.kernels.c.nest import INDEPENDENT, variables
from graphnet.kernels.text.axes import indent
from graphnet.kernels.text.collapse import (
    Loop,
    Share,
    bounds_of,
    broadcast_strides,
    index_text,
    loops_of,
    share_of,
    stop_of,
)
from graphnet.kernels.text.maths import definitions
from graphnet.kernels.text.program import Instr, Ref, function_cost, statements
from graphnet.kernels.text.row_program import Reduce, RowProgram
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, View


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


class RowText(ABC):
    """What both ways to write a program have in common: loops over rows, names of values, one row's statements.

    A value is known by its text, if that is the same for all of a row, or by the view it lies in.
    """

    style = ""
    reducing = 0.03, 8.0
    """Nanoseconds of a reduction for an element and for a row."""
    single = 20.0
    """How much longer a function takes for one number than for an element of a loop."""
    moving = 0.0
    """Nanoseconds to turn an element."""
    space: tuple[int, ...] = ()
    """The index space of what is done at once: a row, or a block of rows."""

    def __init__(self, program: RowProgram, threads: int) -> None:
        self.program = program
        views = (*program.outs, *program.ins)
        self.strides = [broadcast_strides(v, program.shape) for v in views]
        self.loops = loops_of(program.shape[:-1], [s[:-1] for s in self.strides], len(program.outs))
        self.share = _share(self.loops, program.shape, threads)
        *self.vars, self.column, self.lane = variables(len(self.loops) + 2, (v.name for v in views))
        self.ins = [ref for i in range(len(program.ins)) if (ref := ("in", i)) in program.read]
        self.folds: list[str] = []
        self.views: dict[Ref, View] = {}
        self.texts: dict[Ref, str] = {}
        self.bases: dict[Ref, str] = {}
        self.numbers = 0

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

    def strides_of(self, ref: Ref) -> tuple[int, ...]:
        return self.strides[ref[1] if ref[0] == "out" else len(self.program.outs) + ref[1]]

    def steps(self, ref: Ref) -> list[int]:
        """How far an operand moves with each loop over rows."""
        number = ref[1] if ref[0] == "out" else len(self.program.outs) + ref[1]
        return [each.strides[number] for each in self.loops]

    def numbered(self) -> str:
        """A new name for a number a row."""
        self.numbers += 1
        return f"n{self.numbers - 1}"

    def plain_out(self, ref: Ref) -> bool:
        """True for an out with one number a row."""
        return ref[0] == "out" and ref[1] not in self.program.stored

    def _scalars(self) -> list[str]:
        """Declarations of ins that are one number for all rows."""
        lines = []
        for ref in self.ins:
            if not any(self.strides_of(ref)):
                self.texts[ref] = self.numbered()
                name = self.program.ins[ref[1]].name
                lines.append(f"const {self.ctype(ref)} {self.texts[ref]} = {name}[0];")
        return lines

    def ctype(self, ref: Ref) -> str:
        dtype = self.program.dtype[ref]
        return "_Bool" if dtype == "bool" else CTYPES[dtype]

    def _pointers(self) -> dict[str, str]:
        """Declarations by name of where the rows at the loops' variables are; fills ``bases``."""
        outs: list[Ref] = [("out", i) for i in range(len(self.program.outs))]
        written = {v.name for v in self.program.outs}
        names: dict[tuple[str, tuple[int, ...]], str] = {}
        lines: dict[str, str] = {}
        for ref in [*outs, *self.ins]:
            view = (self.program.outs if ref[0] == "out" else self.program.ins)[ref[1]]
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

    # -- statements --------------------------------------------------------------------------------------

    def assigned(self, targets: Sequence[tuple[Ref, View]], instrs: Sequence[Instr], index: Sequence[str]) -> str:
        """The block that computes one element of each target."""
        number = {instr.result: n for n, instr in enumerate(instrs)}
        known: dict[Ref, int] = {}

        def local(ref: Ref) -> Ref:
            if ref in number:
                return "tmp", number[ref]
            return "in", known.setdefault(ref, len(known))

        body = [
            replace(i, operands=tuple(local(o) for o in i.operands), result=("tmp", number[i.result])) for i in instrs
        ]
        for n, (ref, _) in enumerate(targets):
            body.append(Instr("x", ("x",), (local(ref),), ("out", n), self.program.dtype[ref]))
        given = {n: self.texts[ref] for ref, n in known.items() if ref in self.texts}
        ins = [View("", self.program.dtype[r], (), ()) if r in self.texts else self.views[r] for r in known]
        return statements([view for _, view in targets], ins, body, index, given)

    def element(self, ref: Ref, index: Sequence[str]) -> str:
        """A value over the columns as an expression, in parentheses around the whole of it."""

        def leaf(at: Ref) -> str:
            if at in self.texts:
                return self.texts[at]
            view = self.views[at]
            strides = broadcast_strides(view, self.space)
            places = [i if i.isidentifier() or s == 1 else f"({i})" for i, s in zip(index, strides, strict=True)]
            return f"{view.name}[{index_text(strides, places)}]"

        text = self.program.expression(ref, leaf)
        return f"({text})" if " " in re.sub(r"\[.*?\]", "", text) else text

    def helpers(self) -> tuple[str, ...]:
        """Definitions for the file; the body has been written."""
        functions = [f for i in self.program.program if isinstance(i, Instr) for f in self.program.functions(i)]
        return (*definitions(functions), *dict.fromkeys(self.folds), INDEPENDENT)

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
