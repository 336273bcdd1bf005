"""A fused program as the formulas a person would write: ``out0 = relu(in0 + in1)``.

Each value that is used once is written where it is used; others, and those that would make a line long, get
a line and a name of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphnet.compiler.printers.text import attributes
from graphnet.compiler.schedule import Instruction

# Infix notation: symbol and how tightly it binds (more is tighter).
_INFIX = {
    "logical_or": ("|", 1),
    "logical_xor": ("^", 1),
    "logical_and": ("&", 2),
    "eq": ("==", 3),
    "ne": ("!=", 3),
    "lt": ("<", 3),
    "le": ("<=", 3),
    "gt": (">", 3),
    "ge": (">=", 3),
    "add": ("+", 4),
    "sub": ("-", 4),
    "mul": ("*", 5),
    "div": ("/", 5),
    "floor_div": ("//", 5),
    "mod": ("%", 5),
    "pow": ("**", 7),
}
_NEGATION, _ATOM = 6, 9
_LONG = 64


@dataclass(frozen=True)
class _Text:
    text: str
    binds: int = _ATOM

    def inside(self, binds: int) -> str:
        """In parentheses if it binds less tightly than what stands around it."""
        return self.text if self.binds >= binds else f"({self.text})"


def _write(op: str, operands: Sequence[_Text], attrs: Mapping[str, object]) -> _Text:
    if op in _INFIX and len(operands) == 2:
        symbol, binds = _INFIX[op]
        left, right = operands
        # a power's base and both sides of a comparison need parentheses at their own level, too
        first = binds + 1 if symbol == "**" or binds == 3 else binds
        return _Text(f"{left.inside(first)} {symbol} {right.inside(binds + 1)}", binds)
    if op == "neg":
        return _Text(f"-{operands[0].inside(_NEGATION + 1)}", _NEGATION)
    if op == "stop_gradient" or (op == "identity" and len(operands) == 1):
        return operands[0]
    options = [f"{name}={value}" for name, value in attributes(attrs).items()]
    return _Text(f"{op}({', '.join([*(o.text for o in operands), *options])})")


def formulas(program: Sequence[Instruction], inputs: Sequence[str]) -> list[str]:
    """One line ``name = formula`` for each output and each value that needs a name, in order.

    ``inputs`` are what the operands are called; outputs are ``out0``, ``out1``, other values ``t0``, ``t1``.
    """
    uses = _uses(program)
    now: dict[tuple[str, int], _Text] = {("in", i): _Text(name) for i, name in enumerate(inputs)}
    lines: list[str] = []
    names = 0
    for index, step in enumerate(program):
        value = _write(step.op, [now[o] for o in step.operands], step.attrs)
        kind, place = step.result
        if kind == "out":
            lines.append(f"out{place} = {value.text}")
            value = _Text(f"out{place}")
        elif value.binds != _ATOM or "(" in value.text:
            if uses[index] > 1 or len(value.text) > _LONG:
                lines.append(f"t{names} = {value.text}")
                value = _Text(f"t{names}")
                names += 1
        now[step.result] = value
    return lines


def _uses(program: Sequence[Instruction]) -> list[int]:
    """How often each instruction's result is read before its place is written again."""
    found = [0] * len(program)
    writer: dict[tuple[str, int], int] = {}
    for index, step in enumerate(program):
        for operand in step.operands:
            if operand in writer:
                found[writer[operand]] += 1
        writer[step.result] = index
    return found
