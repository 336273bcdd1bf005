"""Short rows: a block of rows is turned, so that the loops from row to row are the inner ones, and turned back.

100 rows of 10    ->    10 loops over 100 numbers each, for every value of the program
"""

from __future__ import annotations

from collections.abc import Mapping

from graphnet.kernels.c.reduction import fold_of
from graphnet.kernels.c.row_text import RowText, used
from graphnet.kernels.text.axes import indent, loop
from graphnet.kernels.text.collapse import index_text
from graphnet.kernels.text.program import Ref
from graphnet.kernels.text.row_program import Reduce, RowProgram
from graphnet.kernels.text.view import View

BLOCK = 64
"""Rows that are done side by side; twice as many where they are all and very short."""


class Beside(RowText):
    """A block of rows at once; the inner loops go from row to row."""

    style = "side by side"
    reducing = 0.05, 0.1
    single = 1.0
    moving = 0.1

    def __init__(self, program: RowProgram, threads: int) -> None:
        super().__init__(program, threads)
        size = self.loops[-1].size
        self.block = size if size <= BLOCK * (2 if program.columns <= 16 else 1) else BLOCK
        self.space = (self.block, program.columns)
        shared = self.share.units > 1 and self.share.loop == len(self.loops) - 1
        # the last block may be smaller
        self.width = "width" if shared or size % self.block else str(self.block)
        self.held: dict[str, View] = {}

    def stack_bytes(self) -> int:
        self.body()
        return sum(v.nbytes for v in self.held.values())

    def buffers(self) -> list[str]:
        return [f"{v.ctype} {v.name}[{v.size}] GN_ALIGNED;" for v in self.held.values()]

    def looped(self, number: int, low: str, high: str, text: str) -> str:
        if number < len(self.loops) - 1:
            return super().looped(number, low, high, text)
        var, step = self.vars[number], self.block
        if self.width != "width":
            return loop(var, low, high, text, step)
        width = f"const long width = {high} - {var} < {step} ? {high} - {var} : {step};"
        head = f"for (long {var} = {low}; {var} < {high}; {var} += {step}) {{"
        return f"{head}\n{indent(width)}\n{indent(text)}\n}}"

    def within(self, pointers: Mapping[str, str]) -> str:
        return used("\n".join(self._block()), pointers)

    def _block(self) -> list[str]:
        """The statements for a block of rows."""
        p = self.program
        self.turned: dict[Ref, View] = {}
        lines = [line for ref in self.ins if ref not in self.texts for line in self._taken(ref)]
        for i in p.stored:
            self.turned["out", i] = self._hold("b", p.outs[i].dtype)
        for ref in p.made:
            own = ref in self.turned and p.stored[ref[1]] == p.stage[ref]
            if ref in p.kept:
                self.views[ref] = self.turned[ref] if own else self._hold("b", p.dtype[ref])
        for stage in range(p.stages):
            lines += self._numbers(stage)
            lines += self._loop(stage)
            for r in p.reductions:
                lines += self._reduced(r) if p.stage[r.operand] == stage else []
        for ref, view in self.turned.items():
            lines.append(self._rows_and_columns(f"{self._element(self._at(ref))} = {self._element(view)};"))
        return lines

    # -- memory ------------------------------------------------------------------------------------------

    def _hold(self, kind: str, dtype: str) -> View:
        """A new buffer: "b" for rows and columns, "n" for a number a row."""
        name = self.numbered() if kind == "n" else f"b{sum(n[0] == 'b' for n in self.held)}"
        columns = self.program.columns if kind == "b" else 1
        self.held[name] = View(name, dtype, (self.block, columns), (1, self.block if kind == "b" else 0))
        return self.held[name]

    def _at(self, ref: Ref) -> View:
        """An operand's rows."""
        columns = self.program.columns if self.strides_of(ref)[-1] else 1
        strides = self.steps(ref)[-1], self.strides_of(ref)[-1]
        return View(self.bases[ref], self.program.dtype[ref], (self.block, columns), strides)

    def _element(self, view: View) -> str:
        return f"{view.name}[{index_text(view.strides, [self.lane, self.column])}]"

    def _taken(self, ref: Ref) -> list[str]:
        """Statements that turn an operand, unless it lies well; what an out may overwrite is copied."""
        view, wide = self._at(ref), self.program.wide[ref]
        overwritten = not wide and self.program.ins[ref[1]].name in {v.name for v in self.program.outs}
        self.views[ref] = view
        if not overwritten and view.strides[0] in (0, 1):
            return []
        self.views[ref] = self._hold("b" if wide else "n", view.dtype)
        store = f"{self._element(self.views[ref])} = {self._element(view)};"
        return [self._rows_and_columns(store) if wide else loop(self.lane, 0, self.width, store)]

    def _rows_and_columns(self, text: str) -> str:
        return loop(self.lane, 0, self.width, loop(self.column, 0, self.program.columns, text))

    # -- values ------------------------------------------------------------------------------------------

    def _each(self, block: str) -> list[str]:
        return ["GN_INDEPENDENT", f"for (long {self.lane} = 0; {self.lane} < {self.width}; ++{self.lane}) {block}"]

    def _numbers(self, stage: int) -> list[str]:
        """The loop that computes the numbers of rows known from this stage on."""
        p, targets = self.program, []
        instrs = p.narrow(stage)
        for ref in (i.result for i in instrs):
            targets += [(ref, self._hold("n", p.dtype[ref]))] if p.wanted_later(ref) else []
            targets += [(ref, self._at(ref))] if self.plain_out(ref) else []
        if not targets:
            return []
        lines = self._each(self.assigned(targets, instrs, [self.lane, "0"]))
        self.views |= {ref: view for ref, view in targets if view.name in self.held}
        return lines

    def _loop(self, stage: int) -> list[str]:
        p = self.program
        outs = [ref for ref in self.turned if p.stored[ref[1]] == stage]
        targets = [(ref, self.turned[ref]) for ref in outs]
        targets += [
            (r, self.views[r])
            for r in p.made
            if r in p.kept and p.stage[r] == stage and self.views[r] is not self.turned.get(r)
        ]
        if not targets:
            return []
        block = self.assigned(targets, p.instructions(stage), [self.lane, self.column])
        return [loop(self.column, 0, p.columns, "\n".join(self._each(block)))]

    def _reduced(self, r: Reduce) -> list[str]:
        fold, lane = fold_of(r.op, r.dtype, few=True), self.lane
        value = fold.lift.format(self.element(r.operand, [lane, self.column]))
        self.views[r.result] = own = self._hold("n", r.dtype)
        done = [f"{own.name}[{lane}] = {fold.lower.format(f'acc[{lane}]')};"]
        if self.plain_out(r.result):
            done.append(f"{self._element(self._at(r.result))} = {own.name}[{lane}];")
        lines = [
            f"{fold.ctype} acc[{self.block}];",
            loop(lane, 0, self.width, f"acc[{lane}] = {fold.start};"),
            loop(self.column, 0, self.program.columns, loop(lane, 0, self.width, fold.into(f"acc[{lane}]", value))),
            loop(lane, 0, self.width, "\n".join(done)),
        ]
        self.folds += fold.helpers
        return ["{", indent("\n".join(lines)), "}"]
