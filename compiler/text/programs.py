"""Programs of steps with their records' scalar expressions, as kernel writers take them; comments, indents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphnet.compiler.record import REGISTRY, lookup
from graphnet.compiler.schedule import REDUCTIONS, Epilogue, Fused, Instruction, Kernel, Leaf, Rows
from graphnet.kernels.text.program import Finish, Instr, helpers
from graphnet.kernels.text.row_program import Reduce
from graphnet.kernels.text.view import View


def instr(step: Instruction, dtypes: Mapping[tuple[str, int], str]) -> Instr:
    """An instruction with its record's scalar expression."""
    record = lookup(step.op)
    return Instr(record.expr, record.inputs, step.operands, step.result, dtypes[step.result])


def instrs(
    program: Sequence[Instruction], temps: Sequence[str], ins: Sequence[View], outs: Sequence[View]
) -> list[Instr]:
    """A program with scalar expressions and dtypes."""
    dtypes = {("in", i): v.dtype for i, v in enumerate(ins)}
    dtypes |= {("out", i): v.dtype for i, v in enumerate(outs)}
    dtypes |= {("tmp", i): t for i, t in enumerate(temps)}
    return [instr(i, dtypes) for i in program]


def program_of(step: Kernel | Fused) -> list[Instr]:
    """A fused program, or a single elementwise op as a program of one instruction."""
    dtypes = _dtypes(step)
    if isinstance(step, Fused):
        return [instr(i, dtypes) for i in step.program]
    operands = tuple(("in", i) for i in range(len(step.inputs)))
    return [instr(Instruction(step.op, step.attrs, operands, ("out", 0)), dtypes)]


def rows_program(step: Rows) -> list[Instr | Reduce]:
    """A program over rows as the writer takes it."""
    dtypes = _dtypes(step)
    return [
        Reduce(i.op, i.operands[0], i.result, dtypes[i.result]) if i.op in REDUCTIONS else instr(i, dtypes)
        for i in step.program
    ]


def _dtypes(step: Leaf) -> dict[tuple[str, int], str]:
    """The dtypes of a program's places."""
    dtypes = {("in", i): a.dtype for i, a in enumerate(step.inputs)}
    dtypes |= {("out", i): a.dtype for i, a in enumerate(step.outputs)}
    if not isinstance(step, Kernel):
        dtypes |= {("tmp", i): t for i, t in enumerate(step.temps)}
    return dtypes


def epilogue_of(epilogue: Epilogue, outs: Sequence[View], ins: Sequence[View]) -> tuple[Finish, tuple[str, ...]]:
    """What writes the statements for one element of the program, and the helpers they need."""
    product = replace(outs[0], name="product", dtype=epilogue.dtype)
    operands = list(ins)
    for place in sorted(epilogue.products):
        operands.insert(place, product)
    program = instrs(epilogue.program, epilogue.temps, operands, outs)
    return Finish(outs, operands, program, epilogue.products), helpers(outs, operands, program)


def is_elementwise_op(op: str) -> bool:
    return op in REGISTRY and REGISTRY[op].kind == "elementwise"


def block_comment(lines: Sequence[str]) -> str:
    """A comment that nothing in ``lines`` can end or open anew."""
    safe = [line.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").rstrip("\\ ") for line in lines]
    return "/* " + "\n * ".join(safe or [""]) + " */"


def indented(body: str) -> str:
    """The body at one level, unless it is indented already."""
    lines = body.strip("\n").split("\n")
    if all(line.startswith(("    ", "#")) or not line.strip() for line in lines):
        return "\n".join(lines)
    return "\n".join(f"    {line}" if line.strip() and not line.startswith("#") else line for line in lines)


def declared_name(line: str) -> str:
    """The name a declaration declares."""
    return line.split(" = ")[0].rpartition(" ")[2].lstrip("*")


def uses(text: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None
