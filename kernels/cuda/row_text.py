"""What both ways to run a program over rows have in common: who has which row, and the numbers of a row.

Threads of a row have its columns in turn: thread ``lane`` of 32 has lane, lane + 32, ... in every loop, so that what
it keeps of them is its own. Numbers of a row are computed by all its threads and stored by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

from graphnet.kernels.cuda.fold import WARP, Fold, fold_of, over_lanes, over_warps
from graphnet.kernels.cuda.lines import used
from graphnet.kernels.cuda.phase import THREADS, index_type
from graphnet.kernels.text.axes import indent
from graphnet.kernels.text.collapse import index_text
from graphnet.kernels.text.program import Ref
from graphnet.kernels.text.row_program import Reduce, RowProgram
from graphnet.kernels.text.row_values import RowValues
from graphnet.kernels.text.view import View

WARPS = THREADS // WARP


def bare(block: str) -> str:
    """What stands between the braces of a block."""
    return "\n".join(line[4:] for line in block.split("\n")[1:-1])


class RowText(RowValues, ABC):
    """The text of a program on ``across`` threads a row, which have up to ``each`` columns apiece.

    ``space`` are the row loops, the number ``c`` of a thread's column, and the column ``j``, which ``at`` names.
    """

    truth = "bool"

    def __init__(self, program: RowProgram, across: int) -> None:
        super().__init__(program)
        self.across = across
        self.each = -(-program.columns // across)
        self.side = THREADS // across
        self.rows = prod(program.shape[:-1])
        self.units = -(-self.rows // self.side)
        self.index = index_type(*program.outs, *program.ins)
        self.vars = [f"i{n}" for n in range(len(self.loops))]
        self.at = [*self.vars, "c", "j"]
        self.space = (*(each.size for each in self.loops), self.each, program.columns)
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
                own = f"{self.here} ? {self._at(ref)} : 0" if self.here and any(self.steps(ref)) else self._at(ref)
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
        return self.looped(self.stored(self.assigned(targets, p.instructions(stage), self.at)))

    def _reduced(self, r: Reduce) -> list[str]:
        """The number that a reduction gives, known to all threads of the row."""
        name, acc = self._named(r.result), f"acc{self.numbers}"
        fold = fold_of(r.op, r.dtype, self.each)
        self.folds += fold.helpers
        lines = [f"{fold.ctype} {acc} = {fold.start};"]
        lines += self.looped(fold.into(acc, self.guarded(self.element(r.operand, self.at), fold.start)))
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

    def over(self, ref: Ref) -> View:
        """An operand in memory, over rows, a thread's columns and columns."""
        strides = (*self.steps(ref), 0, self.strides_of(ref)[-1])
        return View(self.view_of(ref).name, self.program.dtype[ref], self.space, strides)

    def own(self, name: str, ref: Ref, along: str) -> View:
        """What a thread keeps of a row, one for each of its columns ("c"), or the row for each column ("j")."""
        strides = (*(0 for _ in self.loops), int(along == "c"), int(along == "j"))
        return View(name, self.program.dtype[ref], self.space, strides)

    def _at(self, ref: Ref) -> str:
        """An operand with one number a row."""
        return f"{self.view_of(ref).name}[{index_text(self.steps(ref), self.vars)}]"

    # -- values ----------------------------------------------------------------------------------------------------

    def _named(self, ref: Ref) -> str:
        """The name of a new number of the row."""
        self.texts[ref] = name = self.numbered()
        return name

    def _number(self, ref: Ref, value: str) -> list[str]:
        return [f"const {self.ctype(ref)} {self._named(ref)} = {value};"]
