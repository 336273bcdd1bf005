"""Programs over rows as C: softmax, its logarithm, cross-entropy and layer norm in one pass over memory.

    m = max x                    for (long i = lo; i < hi; ++i) {
    e = exp(x - m)                   const float *restrict row1 = in0 + 1000 * i;
    s = sum e             ->         n0 = the maximum of row1, in lanes
    y = e / s                        for (long j = 0; j < 1000; ++j)  b0[j] = gn_expf(row1[j] - n0);
                                     n1 = the sum of b0, in lanes
                                     for (long j = 0; j < 1000; ++j)  row0[j] = b0[j] / n1;

A row stays in the first cache from its first loop to its last. Narrow rows go stage by stage in blocks, so that none
waits for its own sums. Very short ones that do not fill vectors are done side by side: those of a block are turned, so
that the loops over a block's rows are the inner ones, and turned back where they are stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod

from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.reduction import fold_row
from graphnet.kernels.c.row_text import RowText, used
from graphnet.kernels.c.rows_beside import Beside
from graphnet.kernels.text.axes import indent
from graphnet.kernels.text.collapse import index_text, own_axis
from graphnet.kernels.text.program import Instr, Ref, function_cost
from graphnet.kernels.text.row_program import Reduce, RowInstrs, RowProgram
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, View

SHORT = 32
"""Columns below which rows are done side by side, unless they fill vectors."""
STACK_BYTES = 1 << 16
"""The most that a function keeps of its rows."""


def rows(
    outs: Sequence[View], ins: Sequence[View], program: RowInstrs, shape: tuple[int, ...], job: Job
) -> list[Phase]:
    """The program on every row of ``shape``, whose last axis are the columns; see `RowProgram` for the operands.

    An out may be the same view as an in: a row is read before it is written. Raises ValueError for programs that
    do not fit their operands and for empty shapes.
    """
    if not prod(shape) or job.epilogue is not None:
        raise ValueError(f"rows of shape {shape}: empty, or with an epilogue, which further instructions would be")
    found = _writer(RowProgram(outs, ins, program, shape), job.threads)
    axes = tuple(own_axis(v, shape, found.share) for v in (*outs, *ins))
    return [Phase(found.body(), found.share.units, axes, found.helpers(), found.cost(), found.note())]


def kept_bytes(outs: Sequence[View], ins: Sequence[View], program: RowInstrs, shape: tuple[int, ...]) -> int:
    """Bytes on the stack that the program needs; more than STACK_BYTES are too many."""
    return _writer(RowProgram(outs, ins, program, shape), 1).stack_bytes()


def _writer(program: RowProgram, threads: int) -> RowText:
    beside = 1 < program.columns < SHORT and program.columns % 8 and prod(program.shape[:-1]) > 1
    return (Beside if beside else _Along)(program, threads)


BLOCK = 16
"""Rows that narrow ones do together, a stage after the other."""
NARROW = 128
"""Columns below which a row alone would wait for its own sums more than it computes."""
LATE = 64
"""Rows whose last numbers wait to be used together."""
ROLLED = """\
/* the loop that follows stays a loop, and the lanes of a sum are folded as vectors */
#if defined(__GNUC__) && !defined(__clang__)
#define GN_ROLLED _Pragma("GCC unroll 1")
#define GN_STORED(lanes) __asm__ volatile("" : "+m"(lanes))
#else
#define GN_ROLLED
#define GN_STORED(lanes)
#endif"""
UNROLLED = 96
"""Columns below which gcc would unroll the loops of a row altogether and add up its lanes one by one."""


class _Along(RowText):
    """Row after row, or a block of narrow rows stage by stage; the inner loops go along the columns."""

    style = "in lanes"

    def __init__(self, program: RowProgram, threads: int) -> None:
        super().__init__(program, threads)
        self.space = (program.columns,)
        self.rolled = 16 <= program.columns < UNROLLED
        self.late = self._wait()
        together = program.columns < NARROW and bool(self.loops)
        self.block = BLOCK if together else LATE if self.late else 1
        self.together = together
        self.declared: list[str] = []
        self._ctypes: dict[str, str] = {}
        self.held: dict[Ref, View] = {}
        self.folds += [ROLLED] * self.rolled
        # what goes to an out in its own loop is read again from there
        self.kept = [r for r in program.made if r in program.kept and not self._lies_in_out(r)]

    def _lies_in_out(self, ref: Ref) -> bool:
        own = ref[0] == "out" and self.program.stored[ref[1]] == self.program.stage[ref]
        return own and self.strides_of(ref)[-1] == 1

    def _wait(self) -> list[Instr]:
        """Functions of numbers that nothing in a row waits for are left to a loop over rows, which is vectorised."""
        p = self.program
        used: set[Ref] = {("out", i) for i in p.stored}
        late: list[Instr] = []
        for instr in reversed(p.program):
            if isinstance(instr, Instr) and not p.wide[instr.result] and instr.result not in used:
                late.insert(0, instr)
            else:
                used.update(instr.operands if isinstance(instr, Instr) else (instr.operand,))
        dear = any(function_cost(f) >= 0.1 for instr in late for f in p.functions(instr))
        return late if dear and self.loops else []

    def stack_bytes(self) -> int:
        rows = BLOCK if self.together else 1
        return rows * sum(self.program.columns * ITEMSIZE[self.program.dtype[r]] for r in self.kept)

    def buffers(self) -> list[str]:
        return self.declared

    def within(self, pointers: Mapping[str, str]) -> str:
        stages = self._stages()
        p = self.program
        kept = [self.views[ref] for ref in self.kept]
        rows = BLOCK if self.together else 1
        self.declared = [f"{v.ctype} {v.name}{'_rows' * self.together}[{rows * v.size}] GN_ALIGNED;" for v in kept]
        self.declared += [f"{v.ctype} {v.name}[{v.size}] GN_ALIGNED;" for v in self.held.values()]
        if not self.together:
            return used("\n".join(line for stage in stages for line in stage), pointers)
        row = f"{self.vars[-1]} - {self._first}"
        own = {v.name: f"{v.ctype} *{v.name} = {v.name}_rows + ({row}) * {p.columns};" for v in kept}
        loops = []
        for at, stage in enumerate(stages):
            text, rest = "\n".join(stage), "\n".join(line for later in stages[at + 1 :] for line in later)
            made = [n for n, c in self._ctypes.items() if re.search(rf"^(const )?{c} {n}\b", text, re.MULTILINE)]
            wanted = [n for n in made if re.search(rf"\b{n}\b", rest)]
            self.declared += [f"{self._ctypes[n]} {n}_rows[{BLOCK}] GN_ALIGNED;" for n in wanted]
            read = {n: f"const {c} {n} = {n}_rows[{row}];" for n, c in self._ctypes.items() if n not in made}
            text = "\n".join([used(text, {**pointers, **own, **read}), *(f"{n}_rows[{row}] = {n};" for n in wanted)])
            loops.append(super().looped(len(self.loops) - 1, self._first, f"{self.vars[-1]}_end", text))
        return "\n".join(loops)

    @property
    def _first(self) -> str:
        return f"{self.vars[-1]}_first"

    def _stages(self) -> list[list[str]]:
        """The statements for a row, in parts that wait for what the part before has reduced."""
        p = self.program
        self.views = {ref: View(f"b{n}", p.dtype[ref], self.space, (1,)) for n, ref in enumerate(self.kept)}
        for ref in [*(r for r in p.kept if r not in self.kept), *(r for r in self.ins if p.wide[r])]:
            self.views[ref] = self._at(ref)
        rest = [r for r in self.ins if r not in self.views and r not in self.texts]
        lines = [line for r in rest for line in self._number(r, f"{self.bases[r]}[0]")]
        found = []
        for stage in range(p.stages):
            for instr in p.narrow(stage):
                if instr not in self.late:
                    lines += self._number(instr.result, p.printed(instr, [self.texts[o] for o in instr.operands]))
            lines += self._loop(stage)
            for r in p.reductions:
                lines += self._reduced(r) if p.stage[r.operand] == stage else []
            found.append(lines)
            lines = []
        made = [instr.result for instr in self.late]
        wanted = dict.fromkeys(o for instr in self.late for o in instr.operands if o not in made)
        held = [ref for ref in wanted if ref not in self.ins or any(self.strides_of(ref))]
        self.held = {ref: View(f"late{n}", p.dtype[ref], (self.block,), (1,)) for n, ref in enumerate(held)}
        here = f"{self.vars[-1]} - {self._first}" if held else ""
        found[-1] += [f"{v.name}[{here}] = {self.texts[ref]};" for ref, v in self.held.items()]
        return found

    def looped(self, number: int, low: str, high: str, text: str) -> str:
        if number < len(self.loops) - 1 or self.block == 1:
            return super().looped(number, low, high, text)
        first, end = self._first, f"{self.vars[number]}_end"
        lines = [f"const long {end} = {first} + {self.block} < {high} ? {first} + {self.block} : {high};"]
        lines += [text if self.together else super().looped(number, first, end, text)]
        lines += self._late_loop(first, end) if self.late else []
        head = f"for (long {first} = {low}; {first} < {high}; {first} += {self.block}) {{"
        return "\n".join([head, *map(indent, lines), "}"])

    def _late_loop(self, first: str, end: str) -> list[str]:
        """What was left for after the rows from ``first`` to before ``end``."""
        lines: list[str] = []
        targets: list[tuple[Ref, View]] = []
        for ref in (i.result for i in self.late if self.plain_out(i.result)):
            view = self.program.outs[ref[1]]
            name = f"late{len(self.held) + len(targets)}"
            place = index_text(self.steps(ref), [*self.vars[:-1], first])
            lines.append(f"{view.ctype} *restrict {name} = {view.name} + {place};")
            targets.append((ref, View(name, view.dtype, (self.block,), (self.steps(ref)[-1],))))
        # numbers of a row are known inside its loop only
        self.texts = {ref: text for ref, text in self.texts.items() if ref in self.ins and ref not in self.held}
        self.views = dict(self.held)
        block = self.assigned(targets, self.late, [self.lane])
        return [
            *lines,
            "GN_INDEPENDENT",
            f"for (long {self.lane} = 0; {self.lane} < {end} - {first}; ++{self.lane}) {block}",
        ]

    def _at(self, ref: Ref) -> View:
        """An operand's row."""
        return View(self.bases[ref], self.program.dtype[ref], self.space, (self.strides_of(ref)[-1],))

    def _number(self, ref: Ref, value: str) -> list[str]:
        """The declaration of a number of the row, and its store if it is an out."""
        self.texts[ref] = name = self.numbered()
        self._ctypes[name] = self.ctype(ref)
        return [f"const {self.ctype(ref)} {name} = {value};", *self._stored(ref)]

    def _stored(self, ref: Ref) -> list[str]:
        return [f"{self.bases[ref]}[0] = {self.texts[ref]};"] if self.plain_out(ref) else []

    def _loop(self, stage: int) -> list[str]:
        targets = [(r, self.views[r]) for r in self.kept if self.program.stage[r] == stage]
        targets += [(("out", i), self._at(("out", i))) for i, loop_ in self.program.stored.items() if loop_ == stage]
        if not targets:
            return []
        j = self.column
        block = self.assigned(targets, self.program.instructions(stage), [j])
        return [
            "GN_INDEPENDENT" + " GN_ROLLED" * self.rolled,
            f"for (long {j} = 0; {j} < {self.program.columns}; ++{j}) {block}",
        ]

    def _reduced(self, r: Reduce) -> list[str]:
        name = self.numbered()
        self._ctypes[name] = CTYPES[r.dtype]
        text, helpers = fold_row(
            r.op,
            r.dtype,
            self.program.columns,
            lambda index: self.element(r.operand, [index]),
            lambda value: f"{name} = {value};",
            "GN_ROLLED" * self.rolled,
            "GN_STORED(lane);" * (self.rolled and r.op == "sum" and self.program.columns % 16 == 0),
        )
        self.folds += helpers
        self.texts[r.result] = name
        return [f"{CTYPES[r.dtype]} {name};", "{", indent(text), "}", *self._stored(r.result)]
