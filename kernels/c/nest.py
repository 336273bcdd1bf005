"""Fused elementwise programs as C: one loop nest over the results' shape, every value a local constant.

    t = x + b                      for (long i = lo; i < hi; ++i) {
    y = relu(t)                ->      const float x1 = p2[i];
    over (128, 256), b (128, 1)        for (long j = 0; j < 256; ++j) {
                                           const float x0 = p1[256 * i + j];
                                           const float t0 = x0 + x1;
                                           p0[256 * i + j] = t0 <= 0.0f ? 0.0f : t0;

What does not vary in an inner loop is loaded and computed outside of it. An out may be the same view as an
in: each element is read before it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.c.collapse import (
    TILE,
    Loop,
    Share,
    bounds_of,
    broadcast_strides,
    index_text,
    loops_of,
    own_axis,
    share_of,
    stop_of,
    tiled_loop,
)
from graphnet.kernels.c.expression import functions_of, literal, print_expr
from graphnet.kernels.c.maths import definitions
from graphnet.kernels.c.strided import offset
from graphnet.kernels.c.view import CTYPES, ITEMSIZE, Attrs, Job, Phase, View

Ref = tuple[str, int]
"""("in", i), ("out", i) or ("tmp", i)."""

INDEPENDENT = """\
/* no iteration of the loop that follows reads what another one writes */
#if defined(__GNUC__) && !defined(__clang__)
#define GN_INDEPENDENT _Pragma("GCC ivdep")
#else
#define GN_INDEPENDENT
#endif"""

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


def fused(outs: Sequence[View], ins: Sequence[View], program: Iterable[Instr], job: Job) -> list[Phase]:
    """The program on every element of the outs, which have one shape; ins broadcast to it as NumPy's do.

    Raises ValueError for shapes that do not fit and for programs that read what nobody wrote.
    """
    return _nest(outs, ins, program, job, {})


def _nest(
    outs: Sequence[View], ins: Sequence[View], program: Iterable[Instr], job: Job, given: Mapping[int, str]
) -> list[Phase]:
    shape = outs[0].shape
    if any(v.shape != shape for v in outs):
        raise ValueError(f"outs of different shapes: {', '.join(str(v.shape) for v in outs)}")
    if job.epilogue is not None:
        raise ValueError("an elementwise program takes what would be its epilogue as further instructions")
    if not prod(shape):
        return []
    found = Program(outs, ins, program)
    found.name(given, (v.name for v in (*outs, *ins)))
    strides = [broadcast_strides(v, shape) for v in (*outs, *ins)]
    loops = loops_of(shape, strides, len(outs))
    share, tiled = share_of(loops, shape, job.threads), tiled_loop(loops)
    names = variables(len(loops), (v.name for v in (*outs, *ins)))
    heads, depth_of = _heads(loops, share, tiled, names)
    for number, value in enumerate(found.values[: len(ins)]):
        moved = [d for loop, d in zip(loops, depth_of, strict=True) if loop.strides[len(outs) + number]]
        value.depth = max(moved, default=0)

    def at(operand: int) -> str:
        return index_text([loop.strides[operand] for loop in loops], names)

    lines = found.stored(at, given, len(heads))
    return [
        Phase(
            _body(heads, lines, stop_of(loops, share, names)),
            share.units,
            tuple(own_axis(v, shape, share) for v in (*outs, *(v for k, v in enumerate(ins) if k not in given))),
            (*found.helpers(), INDEPENDENT) if loops else found.helpers(),
            nanoseconds(found, loops),
            " x ".join(str(loop.size) for loop in loops) + (" in tiles" if tiled is not None else ""),
        )
    ]


def nanoseconds(program: Program, loops: Sequence[Loop]) -> float:
    """Arithmetic, and memory at 150 bytes/ns, at 25 where no cache holds it."""
    elements = prod(loop.size for loop in loops)
    moved = sum(
        ITEMSIZE[v.dtype] for k, v in enumerate((*program.outs, *program.ins)) if loops and loops[-1].strides[k]
    )
    return elements * (program.work + moved / (150 if elements * moved < 1 << 24 else 25))


def function_cost(name: str) -> float:
    """Nanoseconds an element in a vectorised loop, as measured."""
    return 0.03 if "_from_" in name else _NS.get(name, 6.0)


def variables(count: int, taken: Iterable[str]) -> list[str]:
    """Names of loop variables that no operand has."""
    words, suffix = set(taken), ""
    names = "ijklmn"[:count] if count <= 6 else [f"i{k}" for k in range(count)]
    while words & {f"{n}{more}" for n in (n + suffix for n in names) for more in ("", "_tile", "_stop")}:
        suffix += "_"
    return [n + suffix for n in names]


def _heads(
    loops: Sequence[Loop], share: Share, tiled: int | None, variables: Sequence[str]
) -> tuple[list[str], list[int]]:
    """The ``for`` of each depth, and for each loop how deep its variable is known."""
    bounds = [bounds_of(loops, share, k, name) for k, name in enumerate(variables)]
    plain = [f"for (long {v} = {a}; {v} < {b}; ++{v})" for v, (a, b) in zip(variables, bounds, strict=True)]
    if tiled is None:
        return plain, list(range(1, len(loops) + 1))
    pair = (tiled, len(loops) - 1)
    others = [k for k in range(len(loops)) if k not in pair]
    outer, inner = [plain[k] for k in others], []
    for k in pair:
        name, (start, stop) = variables[k], bounds[k]
        outer.append(f"for (long {name}_tile = {start}; {name}_tile < {stop}; {name}_tile += {TILE})")
        end = f"{name}_tile + {TILE}"
        divided = share.units > 1 and k == share.loop
        whole = (share.factor if divided else loops[k].size) % TILE == 0 and not stop.endswith("_stop")
        limit = end if whole else f"({end} < {stop} ? {end} : {stop})"
        inner.append(f"for (long {name} = {name}_tile; {name} < {limit}; ++{name})")
    depths = {k: d for d, k in enumerate(others, 1)} | {pair[0]: len(others) + 3, pair[1]: len(others) + 4}
    return outer + inner, [depths[k] for k in range(len(loops))]


def _body(heads: Sequence[str], lines: Sequence[Sequence[str]], before: Sequence[str]) -> str:
    text = [*before, *lines[0]]
    for depth, head in enumerate(heads, 1):
        indent = "    " * (depth - 1)
        if depth == len(heads):
            text.append(f"{indent}GN_INDEPENDENT")
        text.append(f"{indent}{head} {{")
        text += [f"{indent}    {line}" for line in lines[depth]]
    text += ["    " * depth + "}" for depth in reversed(range(len(heads)))]
    return "\n".join(f"    {line}" for line in text)


def copy(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """outs[0] = ins[0], broadcast; both of one dtype. Transposition goes by square tiles."""
    return _nest(outs, ins, single("x", "x", outs[0].dtype), job, {})


def fill(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """outs[0] = attrs["value"] everywhere."""
    dtype = outs[0].dtype
    return _nest(outs, [View("", dtype, (), ())], single("x", "x", dtype), job, {0: literal(attrs["value"], dtype)})
