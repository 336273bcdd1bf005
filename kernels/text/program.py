"""Elementwise programs as statements: a value of its own for each assignment, each printed once as a scalar expression.

t = x + b            const float x0 = in0[i];
y = relu(t)    ->    const float x1 = in1[j];
                     const float t0 = x0 + x1;
                     out0[i] = t0 <= 0.0f ? 0.0f : t0;
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphnet.kernels.text.axes import offset
from graphnet.kernels.text.collapse import broadcast_strides, index_text
from graphnet.kernels.text.expression import functions_of, print_expr
from graphnet.kernels.text.maths import definitions
from graphnet.kernels.text.view import CTYPES, View

Ref = tuple[str, int]
"""("in", i), ("out", i) or ("tmp", i)."""

_NS = {
    "gn_expf": 0.14, "gn_expm1f": 0.14, "gn_logf": 0.24, "gn_log1pf": 0.3, "gn_tanhf": 0.25, "gn_sigmoidf": 0.16,
    "gn_softplusf": 0.7, "gn_erff": 0.33, "gn_sinf": 0.85, "gn_cosf": 0.85, "gn_tanf": 1.0, "gn_powf": 1.7,
    "sqrtf": 0.05, "sqrt": 0.2, "fabsf": 0.0, "fabs": 0.0, "floorf": 0.0, "ceilf": 0.0, "rintf": 0.0,
    "gn_maximum_float32": 0.01, "gn_minimum_float32": 0.01, "gn_maximum_float64": 0.02, "gn_minimum_float64": 0.02,
}  # fmt: skip
"""Nanoseconds an element in a vectorised loop; conversions take about 0.03, calls of the C library about 6."""


@dataclass(frozen=True, slots=True)
class Instr:
    """result = expr over operands; ``names`` are what ``expr`` calls them, ``dtype`` is the result's.

    A "tmp" holds a value of the program; an "out" may be read again once it is written.
    """

    expr: str
    names: tuple[str, ...]
    operands: tuple[Ref, ...]
    result: Ref
    dtype: str


def single(expr: str, names: Sequence[str], dtype: str) -> tuple[Instr, ...]:
    """The program of one op whose operands are the ins in order; ``dtype`` is that of its result."""
    return (Instr(expr, tuple(names), tuple(("in", i) for i in range(len(names))), ("out", 0), dtype),)


@dataclass(frozen=True, slots=True)
class Member:
    """``size`` elements of every array in ``pointers``: a C expression for each name of the program's own arrays."""

    size: int
    pointers: tuple[str, ...]


@dataclass(slots=True)
class _Value:
    """What an instruction computes, or the element of an in (no ``instr``); operands are values by number."""

    dtype: str
    instr: Instr | None = None
    operands: tuple[int, ...] = ()
    name: str = ""
    depth: int = 0
    uses: int = 0

    def print(self, dtype_in: str, operands: Iterable[str]) -> str:
        """The expression over these operand texts."""
        assert self.instr is not None
        return print_expr(self.instr.expr, dict(zip(self.instr.names, operands, strict=True)), dtype_in, self.dtype)


class Program:
    """A program with a value of its own for each assignment; ``results`` are the numbers of the outs' values."""

    def __init__(self, outs: Sequence[View], ins: Sequence[View], program: Iterable[Instr]) -> None:
        self.outs, self.ins = outs, ins
        self.values = [_Value(v.dtype) for v in ins]
        now: dict[Ref, int] = {("in", i): i for i in range(len(ins))}
        for instr in program:
            missing = [o for o in instr.operands if o not in now]
            if missing:
                raise ValueError(f"{instr.expr!r} reads {missing[0]} before it is written")
            now[instr.result] = self._assign(_Value(instr.dtype, instr, tuple(now[o] for o in instr.operands)))
        self.results = [now[("out", i)] for i in range(len(outs))]
        for out, number in zip(outs, self.results, strict=True):
            if self.values[number].dtype != out.dtype:
                raise ValueError(f"{self.values[number].dtype} cannot be stored to {out.name} of {out.dtype}")
        self.functions: list[str] = []
        self._count_uses()

    def _assign(self, value: _Value) -> int:
        """The number of a new value, or of the operand that it repeats."""
        texts = [f"operand{k}" for k in range(len(value.operands))]
        text = value.print(self.dtype_in(value), texts)
        if text in texts and self.values[value.operands[texts.index(text)]].dtype == value.dtype:
            return value.operands[texts.index(text)]
        self.values.append(value)
        return len(self.values) - 1

    def dtype_in(self, value: _Value) -> str:
        """The dtype that an expression computes in: its last operand's, which no condition is."""
        return self.values[value.operands[-1]].dtype if value.operands else value.dtype

    def needs(self, value: _Value) -> list[int]:
        """The operands that the printed expression still has: of an integer, x != x is printed as 0."""
        if value.instr is None:
            return []
        text = value.print(self.dtype_in(value), [f"operand{o}" for o in value.operands])
        return [o for o in value.operands if re.search(rf"\boperand{o}\b", text)]

    def text(self, value: _Value) -> str:
        return value.print(self.dtype_in(value), [self.values[o].name for o in value.operands])

    def helpers(self) -> tuple[str, ...]:
        return definitions(self.functions)

    def _count_uses(self) -> None:
        for number in self.results:
            self.values[number].uses += 1
        for value in reversed(self.values):
            if value.uses and value.instr is not None:
                for number in self.needs(value):
                    self.values[number].uses += 1
                self.functions[:0] = functions_of(value.instr.expr, self.dtype_in(value), value.dtype)

    def name(self, given: Mapping[int, str], taken: Iterable[str]) -> None:
        """Names that no text of ``taken`` contains: x for ins, y for results that are used again, t for others."""
        known = {word for text in taken for word in re.findall(r"[A-Za-z_]\w*", text)}
        suffix = ""
        while any(re.fullmatch(rf"[xyt]\d+{suffix}", word) for word in known):
            suffix += "_"
        temporaries = 0
        for number, value in enumerate(self.values):
            if value.instr is None:
                value.name = given[number] if given.get(number, "").isidentifier() else f"x{number}{suffix}"
            elif number in self.results:
                value.name = f"y{self.results.index(number)}{suffix}"
            elif value.uses:
                value.name = f"t{temporaries}{suffix}"
                temporaries += 1

    @property
    def work(self) -> float:
        """Nanoseconds of arithmetic for an element: functions as measured, 0.005 for other operations."""
        return sum(map(function_cost, self.functions)) + 0.005 * len(self.values)

    def lines(
        self, at: Callable[[int], str], given: Mapping[int, str], depths: int
    ) -> tuple[list[list[str]], list[tuple[int, str]]]:
        """Statements for each loop depth, and the outs' numbers with the text of each one's value.

        ``at`` is the index text of an operand, outs first; ins have their depth.
        """
        lines: list[list[str]] = [[] for _ in range(depths + 1)]
        found: list[tuple[int, str]] = []
        for number, value in enumerate(self.values):
            if not value.uses:
                continue
            outs = [k for k, r in enumerate(self.results) if r == number]
            needs = self.needs(value)
            value.depth = max([value.depth, *(self.values[o].depth for o in needs)])
            text = value.name
            if value.instr is None:
                source = given.get(number) or f"{self.ins[number].name}[{at(len(self.outs) + number)}]"
                if source != value.name:
                    lines[value.depth].append(f"const {CTYPES[value.dtype]} {value.name} = {source};")
            elif len(outs) == value.uses == 1 and value.depth == depths:
                text = self.text(value)
            else:
                ctype = "_Bool" if value.dtype == "bool" else CTYPES[value.dtype]
                lines[value.depth].append(f"const {ctype} {value.name} = {self.text(value)};")
            found += [(k, text) for k in outs]
        return lines, found

    def stored(self, at: Callable[[int], str], given: Mapping[int, str], depths: int) -> list[list[str]]:
        """Statements for each loop depth, the stores of all outs last."""
        lines, found = self.lines(at, given, depths)
        lines[depths] += [f"{self.outs[k].name}[{at(k)}] = {text};" for k, text in found]
        return lines


def statements(
    outs: Sequence[View],
    ins: Sequence[View],
    program: Iterable[Instr],
    index: Sequence[str],
    given: Mapping[int, str] | None = None,
) -> str:
    """The block that does one element: C expressions ``index`` say where in the outs' shape.

    Ins in ``given`` are not loaded; their value is that expression. The block needs ``helpers`` of the program.
    """
    given = given or {}
    found = Program(outs, ins, program)
    found.name(given, [*index, *given.values(), *(v.name for v in (*outs, *ins))])
    places = [i if i.isidentifier() else f"({i})" for i in index]
    strides = [broadcast_strides(v, outs[0].shape) for v in (*outs, *ins)]
    lines = found.stored(lambda k: index_text(strides[k], places), given, 0)[0]
    return "\n".join(("{", *(f"    {line}" for line in lines), "}"))


@dataclass(frozen=True, slots=True)
class Finish:
    """A program as the epilogue of a kernel: its ins of the numbers ``products`` are the values that it is handed.

    What it reads besides can be loaded ahead, before these values are known: ``operands`` gives, by number, the C type
    and the expression of each; a call with ``ahead`` takes them from variables of the names ``ahead0``, ``ahead1``, ...
    """

    outs: Sequence[View]
    ins: Sequence[View]
    program: Sequence[Instr]
    products: tuple[int, ...]

    def __call__(self, index: Sequence[str], /, *values: str, ahead: bool = False) -> str:
        given = dict(zip(self.products, values, strict=True))
        if ahead:
            given |= {k: f"ahead{k}" for k in self.operands(index)}
        return statements(self.outs, self.ins, self.program, index, given)

    def operands(self, index: Sequence[str]) -> dict[int, tuple[str, str]]:
        """Operands that differ from element to element, at one element."""
        found, shape = Program(self.outs, self.ins, self.program), self.outs[0].shape
        strides = {k: broadcast_strides(v, shape) for k, v in enumerate(self.ins) if k not in self.products}
        used = [k for k, s in strides.items() if any(s) and found.values[k].uses]
        return {k: (CTYPES[self.ins[k].dtype], f"{self.ins[k].name}[{offset(strides[k], index)}]") for k in used}


def helpers(outs: Sequence[View], ins: Sequence[View], program: Iterable[Instr]) -> tuple[str, ...]:
    """The definitions at file scope that ``statements`` of this program need."""
    return Program(outs, ins, program).helpers()


@dataclass(frozen=True, slots=True)
class Value:
    """A program's result where it is not stored: ``element`` gives the C expression at an index.

    The expression calls a function that is the last of ``helpers``; ``work`` is nanoseconds for an element.
    """

    element: Callable[[Sequence[str]], str]
    helpers: tuple[str, ...]
    work: float


def value_of(name: str, out: View, ins: Sequence[View], program: Iterable[Instr]) -> Value:
    """The program of one result as a function ``name``; ``out`` says of which dtype, for indices into which shape.

    Raises ValueError as ``fused`` does.
    """
    found = Program([out], ins, program)
    used = [k for k in range(len(ins)) if found.values[k].uses]
    given = {k: f"x{k}" for k in used}
    found.name(given, ())
    strides = {k: broadcast_strides(ins[k], out.shape) for k in used}
    (lines,), ((_, text),) = found.lines(lambda k: "", given, 0)
    parameters = ", ".join(f"{CTYPES[ins[k].dtype]} {given[k]}" for k in used) or "void"
    body = "\n".join(f"    {line}" for line in (*lines, f"return {text};"))
    function = f"GN_INLINE {CTYPES[out.dtype]} {name}({parameters})\n{{\n{body}\n}}\n"

    def element(index: Sequence[str]) -> str:
        return f"{name}({', '.join(f'{ins[k].name}[{offset(strides[k], index)}]' for k in used)})"

    return Value(element, (*found.helpers(), function), found.work)


def function_cost(name: str) -> float:
    """Nanoseconds an element in a vectorised loop, as measured."""
    return 0.03 if "_from_" in name else _NS.get(name, 6.0)
