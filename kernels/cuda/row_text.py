"""What both ways to run a program over rows have in common: who has which row, operands, statements, numbers of a row.

Threads of a row have its columns in turn: thread ``lane`` of 32 has lane, lane + 32, ... in every loop, so that what
it keeps of them is its own. Numbers of a row are computed by all its threads and stored by one.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from math import prod

from graphnet.kernels.cuda.fold import WARP, Fold, fold_of, over_lanes, over_warps
from graphnet.kernels.cuda.lines import used
from graphnet.kernels.cuda.phase import THREADS, index_type
from graphnet.kernels.text.axes import indent
from graphnet.kernels.text.collapse import broadcast_strides, index_text, loops_of
from graphnet.kernels.text.maths import definitions
from graphnet.kernels.text.program import Instr, Ref, statements
from graphnet.kernels.text.row_program import Reduce, RowProgram
from graphnet.kernels.text.view import CTYPES, View

WARPS = THREADS // WARP


def bare(block: str) -> str:
    """What stands between the braces of a block."""
    return "\n".join(line[4:] for line in block.split("\n")[1:-1])


class RowText(ABC):
    """The text of a program on ``across`` threads a row, which have up to ``each`` columns apiece.

    A value is known by its text, if that is the same for all of a row, or by the view it lies in: over the row
    loops, the number ``c`` of a thread's column, and the column ``j``.
    """

    def __init__(self, program: RowProgram, across: int) -> None:
        self.program, self.across = program, across
        self.each = -(-program.columns // across)
        self.side = THREADS // across
        self.rows = prod(program.shape[:-1])
        self.units = -(-self.rows // self.side)
        views = (*program.outs, *program.ins)
        self.index = index_type(*views)
        self.strides = [broadcast_strides(v, program.shape) for v in views]
        self.loops = loops_of(program.shape[:-1], [s[:-1] for s in self.strides], len(program.outs))
        self.vars = [f"i{n}" for n in range(len(self.loops))]
        self.space = (*(each.size for each in self.loops), self.each, program.columns)
        self.ins = [ref for i in range(len(program.ins)) if (ref := ("in", i)) in program.read]
        self.views: dict[Ref, View] = {}
        self.texts: dict[Ref, str] = {}
        self.folds: list[str] = []
        self.numbers = 0
        self.shared = 0

    # -- what the two ways differ in -------------------------------------------------------------------------------

    @abstractmethod
    def opened(self) -> list[str]:
        """Statements in front of all loops, which fill ``views`` for the ins over the columns and for what is kept."""

    @abstractmethod
    def looped(self, body: str) -> list[str]:
        """The loop over a thread's columns."""

    @abstractmethod
    def guarded(self, value: str, otherwise: str) -> str:
        """The value of a column, or what stands for one beyond the last."""

    @abstractmethod
    def stored(self, block: str) -> str:
        """A block done for columns that are there."""

    @property
    def here(self) -> str:
        """The test that a thread's row is one, if some are not."""
        return "here" if self.rows % self.side else ""

    # -- text ------------------------------------------------------------------------------------------------------

    def body(self) -> str:
        """The text of the phase."""
        p = self.program
        lines = [*self._row(), *self.opened()]
        for ref in self.ins:
            if not p.wide[ref]:
                own = f"{self.here} ? {self._at(ref)} : 0" if self.here and any(self._steps(ref)) else self._at(ref)
                lines += self._number(ref, own)
        for stage in range(p.stages):
            for instr in p.narrow(stage):
                lines += self._number(instr.result, p.printed(instr, [self.texts[o] for o in instr.operands]))
            lines += self._loop(stage)
            for r in p.reductions:
                lines += self._reduced(r) if p.stage[r.operand] == stage else []
        return used("\n".join([*lines, *self._stores()]))

    def _row(self) -> list[str]:
        """Declarations of a thread's row and of its number among those that share it."""
        lane, row = f"threadIdx.x % {self.across}", f"threadIdx.x / {self.across}"
        lane = "0" if self.across == 1 else "threadIdx.x" if self.side == 1 else lane
        row = "threadIdx.x" if self.across == 1 else row
        unit = "unit" if self.index == "int" else f"({self.index})unit"
        terms = [f"{unit} * {self.side}" if self.side > 1 else unit] if self.units > 1 else []
        terms += [row] if self.side > 1 else []
        place = " + ".join(terms) or "0"
        lines = [f"const int lane = {lane};"]
        if self.here:
            lines += [f"const {self.index} place = {place};", f"const bool here = place < {self.rows};"]
            place = f"here ? place : {self.rows - 1}"
        lines += [f"const {self.index} row = {place};"] if self.loops else []
        inner = self.rows
        for n, (var, each) in enumerate(zip(self.vars, self.loops, strict=True)):
            inner //= each.size
            text = f"row / {inner}" if inner > 1 else "row"
            lines.append(f"const {self.index} {var} = {f'{text} % {each.size}' if n else text};")
        return lines

    def _loop(self, stage: int) -> list[str]:
        """What is computed for each column at a stage."""
        p = self.program
        targets = [(ref, self.views[ref] if out is None else self.over(ref)) for ref, out in p.targets(stage)]
        if not targets:
            return []
        return self.looped(self.stored(self._assigned(targets, p.instructions(stage))))

    def _reduced(self, r: Reduce) -> list[str]:
        """The number that a reduction gives, known to all threads of the row."""
        name, acc = self._named(r.result), f"acc{self.numbers}"
        fold = fold_of(r.op, r.dtype, self.each)
        self.folds += fold.helpers
        lines = [f"{fold.ctype} {acc} = {fold.start};"]
        lines += self.looped(fold.into(acc, self.guarded(self._element(r.operand), fold.start)))
        lines += over_lanes(fold, acc, min(self.across, WARP))
        if self.across > WARP:
            more, acc = self._over_warps(fold, acc)
            lines += more
        elif not fold.alike and self.across > 1:
            # a maximum of zeros may differ from lane to lane in sign
            acc = f"__shfl_sync(0xffffffffu, {acc}, 0, {self.across})"
        return [*lines, f"const {self.ctype(r.result)} {name} = {fold.lower.format(acc)};"]

    def _over_warps(self, fold: Fold, acc: str) -> tuple[list[str], str]:
        """Each reduction has shared memory of its own, so that none waits for the readers of the one before."""
        place = f"warps{self.numbers}"
        lines = [f"{fold.ctype} *const {place} = ({fold.ctype} *)(gn_shared + {self.shared});"]
        self.shared += WARPS * 8
        more, total = over_warps(fold, acc, self.across // WARP, place)
        return [*lines, *more], total

    def _stores(self) -> list[str]:
        """Numbers of the row that are outs, once all threads have read what they may overwrite."""
        outs: list[Ref] = [("out", i) for i in range(len(self.program.outs)) if i not in self.program.stored]
        if not outs:
            return []
        text = "\n".join(f"{self._at(ref)} = {self.texts[ref]};" for ref in outs)
        test = " && ".join(filter(None, ("lane == 0" if self.across > 1 else "", self.here)))
        wait = [] if self.program.reductions or self.across == 1 else ["__syncthreads();"]
        return [*wait, f"if ({test}) {{\n{indent(text)}\n}}" if test else text]

    # -- operands --------------------------------------------------------------------------------------------------

    def view_of(self, ref: Ref) -> View:
        return (self.program.outs if ref[0] == "out" else self.program.ins)[ref[1]]

    def _all_strides(self, ref: Ref) -> tuple[int, ...]:
        return self.strides[ref[1] if ref[0] == "out" else len(self.program.outs) + ref[1]]

    def _steps(self, ref: Ref) -> list[int]:
        """How far an operand moves with each loop over rows."""
        number = ref[1] if ref[0] == "out" else len(self.program.outs) + ref[1]
        return [each.strides[number] for each in self.loops]

    def over(self, ref: Ref) -> View:
        """An operand in memory, over rows, a thread's columns and columns."""
        strides = (*self._steps(ref), 0, self._all_strides(ref)[-1])
        return View(self.view_of(ref).name, self.program.dtype[ref], self.space, strides)

    def own(self, name: str, ref: Ref, along: str) -> View:
        """What a thread keeps of a row, one for each of its columns ("c"), or the row for each column ("j")."""
        strides = (*(0 for _ in self.loops), int(along == "c"), int(along == "j"))
        return View(name, self.program.dtype[ref], self.space, strides)

    def _at(self, ref: Ref) -> str:
        """An operand with one number a row."""
        return f"{self.view_of(ref).name}[{index_text(self._steps(ref), self.vars)}]"

    def element(self, view: View) -> str:
        """The element of a view at this row and column."""
        strides = broadcast_strides(view, self.space)
        return f"{view.name}[{index_text(strides, [*self.vars, 'c', 'j'])}]"

    def ctype(self, ref: Ref) -> str:
        dtype = self.program.dtype[ref]
        return "bool" if dtype == "bool" else CTYPES[dtype]

    # -- values ----------------------------------------------------------------------------------------------------

    def _named(self, ref: Ref) -> str:
        """The name of a new number of the row."""
        self.texts[ref] = name = f"n{self.numbers}"
        self.numbers += 1
        return name

    def _number(self, ref: Ref, value: str) -> list[str]:
        return [f"const {self.ctype(ref)} {self._named(ref)} = {value};"]

    def _assigned(self, targets: Sequence[tuple[Ref, View]], instrs: Sequence[Instr]) -> str:
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
        return statements([view for _, view in targets], ins, body, [*self.vars, "c", "j"], given)

    def _element(self, ref: Ref) -> str:
        """A value over the columns as an expression, in parentheses around the whole of it."""

        def leaf(at: Ref) -> str:
            return self.texts[at] if at in self.texts else self.element(self.views[at])

        text = self.program.expression(ref, leaf)
        return f"({text})" if " " in re.sub(r"\[.*?\]", "", text) else text

    def helpers(self) -> tuple[str, ...]:
        """Definitions for the file; the body has been written."""
        functions = [f for i in self.program.program if isinstance(i, Instr) for f in self.program.functions(i)]
        return (*definitions(functions), *dict.fromkeys(self.folds))
