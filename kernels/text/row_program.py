"""What a program over rows computes in which loop over a row's columns, and which values a row has to keep.

    m = max x                 loop 0                      m = max x
    e = exp(x - m)       ->   loop 1: keep e = exp(x - m) s = sum e
    y = e / sum e             loop 2: y = e / s

A value over the columns belongs to the first loop that knows all it is made of; what a reduction gives is known
from the next loop on. A value that is wanted again, in a reduction or a later loop, is kept in a buffer of one row
if it costs more than a few plain operations, and computed anew if not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphnet.kernels.text.collapse import broadcast_strides
from graphnet.kernels.text.expression import functions_of, print_expr
from graphnet.kernels.text.program import Instr, Ref, function_cost
from graphnet.kernels.text.view import View

PLAIN = 4
"""Plain operations that are done again rather than kept."""


@dataclass(frozen=True, slots=True)
class Reduce:
    """result = "sum", "max" or "min" of operand over the columns of a row; ``dtype`` is that of both."""

    op: str
    operand: Ref
    result: Ref
    dtype: str


RowInstrs = Sequence[Instr | Reduce]

Site = tuple[int, int]
"""A loop over the columns: (twice its stage, -1), or (that + 1, number) for the one of a reduction."""


class RowProgram:
    """A program whose every value is assigned once, over rows of ``shape[-1]`` columns.

    Operands have the rank of ``shape`` and broadcast to it; outs of one column hold a number a row. Raises
    ValueError for a program that reads what nobody wrote, writes twice, or does not fit its outs.
    """

    def __init__(self, outs: Sequence[View], ins: Sequence[View], program: RowInstrs, shape: tuple[int, ...]) -> None:
        self.outs, self.ins, self.program, self.shape = outs, ins, tuple(program), shape
        self.columns = shape[-1]
        self.made: dict[Ref, Instr | Reduce] = {}
        self.dtype: dict[Ref, str] = {("in", i): v.dtype for i, v in enumerate(ins)}
        self.wide = {("in", i): broadcast_strides(v, shape)[-1] != 0 for i, v in enumerate(ins)}
        self.stage: dict[Ref, int] = dict.fromkeys(self.dtype, 0)
        self._light: dict[Ref, int] = {}
        for instr in self.program:
            self._add(instr)
        for i, out in enumerate(outs):
            ref = ("out", i)
            if self.dtype.get(ref) != out.dtype or (self.wide[ref] and not self.spread(i)):
                raise ValueError(f"{out.name} of {out.dtype} {out.shape} cannot hold what the program gives it")
        self._prune()
        self.reductions = [r for r in self.program if isinstance(r, Reduce)]
        self.stored = {i: self.stage["out", i] for i in range(len(outs)) if self.spread(i)}
        self._settle()
        self.stages = 1 + max([*self.stored.values(), *self.stage.values()])

    def spread(self, out: int) -> bool:
        """True if out number ``out`` has a place for each column."""
        return self.outs[out].shape[-1] == self.columns > 1

    def _add(self, instr: Instr | Reduce) -> None:
        operands = instr.operands if isinstance(instr, Instr) else (instr.operand,)
        missing = [o for o in operands if o not in self.dtype]
        if missing or instr.result in self.dtype:
            raise ValueError(f"{instr} reads {missing} before it is written, or is the second to write its result")
        ref = instr.result
        self.made[ref], self.dtype[ref] = instr, instr.dtype
        self.stage[ref] = max((self.stage[o] for o in operands), default=0)
        if isinstance(instr, Reduce):
            self.wide[ref] = False
            self.stage[ref] += 1
            return
        self.wide[ref] = any(self.wide[o] for o in operands)
        costly = "/" in instr.expr or sum(map(function_cost, self.functions(instr))) >= 0.1
        # operands that are dear themselves are kept where this value is not
        plain = [n for o in operands if (n := self._light.get(o, 0)) <= PLAIN]
        self._light[ref] = PLAIN + 1 if costly else 1 + sum(plain)

    def _prune(self) -> None:
        """Leave out what no out is made of."""
        used: set[Ref] = {("out", i) for i in range(len(self.outs))}
        for instr in reversed(self.program):
            if instr.result in used:
                used.update(instr.operands if isinstance(instr, Instr) else (instr.operand,))
        self.program = tuple(i for i in self.program if i.result in used)
        self.made = {ref: instr for ref, instr in self.made.items() if ref in used}
        self.read = {ref for ref in used if ref[0] == "in"}

    def dtype_in(self, instr: Instr) -> str:
        """The dtype that an expression computes in: its last operand's, which no condition is."""
        return self.dtype[instr.operands[-1]] if instr.operands else instr.dtype

    def functions(self, instr: Instr) -> tuple[str, ...]:
        """The C functions that an instruction calls."""
        return functions_of(instr.expr, self.dtype_in(instr), instr.dtype)

    # -- which values are kept -------------------------------------------------------------------------

    def _settle(self) -> None:
        """Decide what is kept and when outs are stored: not before the last read of an in with that memory."""
        while True:
            last = self._demands()
            late = {
                i: (last.get(("in", k), 0) + 1) // 2
                for i in self.stored
                for k, v in enumerate(self.ins)
                if v.name == self.outs[i].name
            }
            if all(self.stored[i] >= loop for i, loop in late.items()):
                return
            self.stored |= {i: max(self.stored[i], loop) for i, loop in late.items()}

    def _demands(self) -> dict[Ref, int]:
        """Find what is kept; returns the time of the last loop that reads each value over the columns."""
        sites: dict[Ref, set[Site]] = {}
        for i, loop in self.stored.items():
            sites.setdefault(("out", i), set()).add((2 * loop, -1))
        for number, r in enumerate(self.reductions):
            sites.setdefault(r.operand, set()).add((2 * self.stage[r.operand] + 1, number))
        self.kept: set[Ref] = set()
        for instr in reversed(self.program):
            ref = instr.result
            if isinstance(instr, Reduce) or not self.wide[ref] or ref not in sites:
                continue
            wanted = sites[ref]
            reduced = any(time % 2 for time, _ in wanted)
            if (reduced or len(wanted) > 1) and self._light[ref] > PLAIN:
                self.kept.add(ref)
                wanted = {(2 * self.stage[ref], -1)}
            for operand in instr.operands:
                sites.setdefault(operand, set()).update(wanted)
        return {ref: max(time for time, _ in found) for ref, found in sites.items()}

    # -- the parts of a row's work ---------------------------------------------------------------------

    def targets(self, loop: int) -> list[tuple[Ref, int | None]]:
        """What a loop over the columns has to give: values to be kept, and values with the outs they go to."""
        kept: list[tuple[Ref, int | None]] = [(r, None) for r in self.made if r in self.kept and self.stage[r] == loop]
        return kept + [(("out", i), i) for i, stored in self.stored.items() if stored == loop]

    def instructions(self, loop: int) -> list[Instr]:
        """What a loop over the columns computes for its targets, in order."""
        needed: set[Ref] = set()
        waiting = [ref for ref, _ in self.targets(loop)]
        while waiting:
            ref = waiting.pop()
            instr = self.made.get(ref)
            known = ref in needed or not self.wide[ref] or (ref in self.kept and self.stage[ref] < loop)
            if isinstance(instr, Instr) and not known:
                needed.add(ref)
                waiting += instr.operands
        return [i for i in self.program if isinstance(i, Instr) and i.result in needed]

    def narrow(self, stage: int) -> list[Instr]:
        """Instructions on numbers of a row that are known from a stage on, in order."""
        return [
            i
            for i in self.program
            if isinstance(i, Instr) and not self.wide[i.result] and self.stage[i.result] == stage
        ]

    def expression(self, ref: Ref, leaf: Callable[[Ref], str]) -> str:
        """A value as one expression of what ``leaf`` gives texts for: ins, numbers of a row, what is kept."""
        instr = self.made.get(ref)
        if not isinstance(instr, Instr) or not self.wide[ref] or ref in self.kept:
            return leaf(ref)
        return self.printed(instr, [self.expression(o, leaf) for o in instr.operands])

    def printed(self, instr: Instr, operands: Sequence[str]) -> str:
        """An instruction's expression over these operand texts."""
        return print_expr(instr.expr, dict(zip(instr.names, operands, strict=True)), self.dtype_in(instr), instr.dtype)

    def wanted_later(self, ref: Ref) -> bool:
        """True if a number of a row is used by more than the numbers known from the same stage on."""
        for i in self.program:
            if ref in (i.operands if isinstance(i, Instr) else (i.operand,)):
                late = isinstance(i, Reduce) or self.wide[i.result] or self.stage[i.result] > self.stage[ref]
                if late:
                    return True
        return ref[0] == "out" and ref[1] in self.stored
