"""Programs over rows as CUDA: softmax, its logarithm, cross-entropy and layer norm in one pass over memory.

    m = max x             const int lane = threadIdx.x % 32, i0 = unit * 8 + threadIdx.x / 32;
    e = exp(x - m)        for (c = 0; c < 4; ++c)  h0[c] = in0[103 * i0 + j];           j = lane + 32 * c
    s = sum e        ->   n0 = the maximum of h0 over c and over the lanes
    y = e / s             for (c = 0; c < 4; ++c)  b0[c] = gn_expf(h0[c] - n0);
                          n1 = the sum of b0 over c and over the lanes
                          for (c = 0; c < 4; ++c)  out0[103 * i0 + j] = b0[c] / n1;

A row is read once: its threads hold it, and what is kept of it, in registers. Rows too long for that have a block each,
which reads them anew in every loop and keeps what is dear in shared memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod

from graphnet.kernels.cuda.lines import threads_for
from graphnet.kernels.cuda.phase import SHARED, THREADS, Job, Phase
from graphnet.kernels.cuda.row_text import WARPS, RowText, bare
from graphnet.kernels.text.axes import indent
from graphnet.kernels.text.program import Ref
from graphnet.kernels.text.row_program import RowInstrs, RowProgram
from graphnet.kernels.text.view import ITEMSIZE, View

__all__ = ["fits", "kept_bytes", "rows"]

REGISTERS = 64
"""Words of a row that a thread holds."""


def rows(
    outs: Sequence[View], ins: Sequence[View], program: RowInstrs, shape: tuple[int, ...], job: Job
) -> list[Phase]:
    """The program on every row of ``shape``, whose last axis are the columns; see `RowProgram` for the operands.

    An out may be the same view as an in: a row is read before it is written. Raises ValueError for programs that
    do not fit their operands and for empty shapes.
    """
    if not prod(shape) or job.epilogue is not None:
        raise ValueError(f"rows of shape {shape}: empty, or with an epilogue, which further instructions would be")
    found = _writer(RowProgram(outs, ins, program, shape))
    body = found.body()
    note = f"rows of {shape[-1]} columns, {found.across} threads each"
    return [Phase(body, found.units, found.shared, helpers=found.helpers(), note=note)]


def kept_bytes(outs: Sequence[View], ins: Sequence[View], program: RowInstrs, shape: tuple[int, ...]) -> int:
    """Bytes of shared memory that the program needs."""
    found = _writer(RowProgram(outs, ins, program, shape))
    found.body()
    return found.shared


def fits(outs: Sequence[View], ins: Sequence[View], program: RowInstrs, shape: tuple[int, ...]) -> bool:
    """Whether shared memory has room for what the program keeps."""
    return kept_bytes(outs, ins, program, shape) <= SHARED


def _writer(program: RowProgram) -> RowText:
    across = threads_for(prod(program.shape[:-1]), program.columns)
    wide = [program.dtype[r] for r in (*program.read, *program.kept) if program.wide[r]]
    words = sum(-(-ITEMSIZE[dtype] // 4) for dtype in wide)
    while -(-program.columns // across) * words > REGISTERS and across < THREADS:
        across *= 2
    return (_Held if -(-program.columns // across) * words <= REGISTERS else _Long)(program, across)


class _Held(RowText):
    """A thread's columns are in registers from the first loop to the last; its loops are unrolled."""

    @property
    def _sure(self) -> str:
        """The test that a column and its row are there, if some are not."""
        p = self.program
        return " && ".join(filter(None, (self.here, f"j < {p.columns}" if p.columns % self.across else "")))

    def opened(self) -> list[str]:
        p = self.program
        held = [r for r in self.ins if p.wide[r]]
        kept = [r for r in p.made if r in p.kept]
        arrays = {r: self.own(f"h{n}", r, "c") for n, r in enumerate(held)}
        loads = [
            f"{self.place(view, self.at)} = {self.guarded(self.place(self.over(r), self.at), '0')};"
            for r, view in arrays.items()
        ]
        self.views = arrays | {r: self.own(f"b{n}", r, "c") for n, r in enumerate(kept)}
        declared = [f"{v.ctype} {v.name}[{self.each}];" for v in self.views.values()]
        return [*declared, *(self.looped("\n".join(loads)) if loads else [])]

    def looped(self, body: str) -> list[str]:
        step = f" + {self.across} * c" if self.each > 1 else ""
        column = [f"    const int j = lane{step};"] if re.search(r"\bj\b", body) else []
        return ["#pragma unroll", f"for (int c = 0; c < {self.each}; ++c) {{", *column, indent(body), "}"]

    def guarded(self, value: str, otherwise: str) -> str:
        return f"{self._sure} ? {value} : {otherwise}" if self._sure else value

    def stored(self, block: str) -> str:
        return f"if ({self._sure}) {block}" if self._sure else bare(block)


class _Long(RowText):
    """A block a row, which is read in every loop that needs it; what is kept lies in shared memory."""

    def opened(self) -> list[str]:
        p, lines = self.program, []
        self.views: dict[Ref, View] = {r: self.over(r) for r in self.ins if p.wide[r]}
        for n, ref in enumerate(r for r in p.made if r in p.kept):
            self.views[ref] = view = self.own(f"b{n}", ref, "j")
            lines.append(f"{view.ctype} *const {view.name} = ({view.ctype} *)(gn_shared + {self.shared});")
            self.shared += -(-p.columns * ITEMSIZE[p.dtype[ref]] // (8 * WARPS)) * 8 * WARPS
        return lines

    def looped(self, body: str) -> list[str]:
        return [
            "#pragma unroll 4",
            f"for (int j = lane; j < {self.program.columns}; j += {THREADS}) {{",
            indent(body),
            "}",
        ]

    def guarded(self, value: str, otherwise: str) -> str:
        return value

    def stored(self, block: str) -> str:
        return bare(block)
