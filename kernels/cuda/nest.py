"""Fused elementwise programs as CUDA: a thread does a few elements, 256 apart, with every value a local constant.

    t = x + b                      for (int q = 0; q < 4; ++q) {
    y = relu(t)                ->      const int e = unit * 1024 + q * 256 + (int)threadIdx.x;
    over (512, 256), b (512, 1)        const int i = e / 256, j = e % 256;
                                       out0[256 * i + j] = ...

Consecutive threads have consecutive elements of the results. Where a thread has several, it reads what all of them
need before it writes the first, so that the reads are under way together. An operand that is dense along another
axis than the results goes through a square tile in shared memory: read along its own dense axis, used along theirs.
An out may be the same view as an in: each element is read before it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.cuda.phase import SHARED, THREADS, WAVE, Job, Phase, index_type
from graphnet.kernels.text.collapse import Loop, broadcast_strides, index_text, loops_of, tiled_loop
from graphnet.kernels.text.expression import literal
from graphnet.kernels.text.program import Instr, Program, single
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Attrs, View

MOST = 4
"""Elements of a thread, at most."""
SIDE = 32
"""Elements of a tile's side: the threads of a warp."""


# -- which thread does what ---------------------------------------------------------------------------------------


def per_thread(total: int, most: int = MOST) -> int:
    """Elements of a thread: more than one where there still are units enough for a whole device."""
    return next((n for n in (1, 2, 4) if n >= most or total <= n * THREADS * WAVE), most)


@dataclass(frozen=True, slots=True)
class Elements:
    """``total`` elements in row-major order over ``dims`` (name, size), ``each`` to a thread.

    ``ctype`` is that of positions and coordinates; ``e`` and ``q`` are the names of a position and of a turn.
    """

    dims: tuple[tuple[str, int], ...]
    each: int
    ctype: str
    e: str = "e"
    q: str = "q"

    @property
    def total(self) -> int:
        return prod(n for _, n in self.dims)

    @property
    def block(self) -> int:
        """Elements of a unit."""
        return self.each * THREADS

    @property
    def units(self) -> int:
        return -(-self.total // self.block)

    def turn(self, lines: Sequence[str]) -> list[str]:
        """The statements for one element of each turn, behind the coordinates that they use."""
        unit = "unit" if self.ctype == "int" else f"({self.ctype})unit"
        turn = f" + {self.q} * {THREADS}" if self.each > 1 else ""
        inner = [*coordinates(self.dims, self.e, self.ctype, lines), *lines]
        guarded = inner if self.total % self.block == 0 else block(f"if ({self.e} < {self.total})", inner)
        body = [f"const {self.ctype} {self.e} = {unit} * {self.block}{turn} + (int)threadIdx.x;", *guarded]
        if self.each == 1:
            return body
        return ["#pragma unroll", *block(f"for (int {self.q} = 0; {self.q} < {self.each}; ++{self.q})", body)]

    def staged(self, values: Sequence[tuple[str, str, str]], lines: Sequence[str], first: Sequence[str] = ()) -> str:
        """The body that runs lines for each element, where each (ctype, name, expression) has its value as ``name``.

        The expressions of all of a thread's elements are evaluated before the lines of any, each behind ``first``.
        """
        if self.each == 1 or not values:
            return body_of(self.turn([*first, *(f"const {c} {name} = {text};" for c, name, text in values), *lines]))
        kept = [f"{c} {name}_of[{self.each}];" for c, name, _ in values]
        loads = self.turn([*first, *(f"{name}_of[{self.q}] = {text};" for _, name, text in values)])
        named = [f"const {c} {name} = {name}_of[{self.q}];" for c, name, _ in values]
        return body_of([*kept, *loads, *self.turn([*named, *lines])])


def elements(dims: Iterable[tuple[str, int]], *views: View, most: int = MOST) -> Elements:
    """Elements of an index space whose addresses are offsets into these views."""
    dims = tuple(dims)
    total = prod(n for _, n in dims)
    ctype = "int" if index_type(*views) == "int" and total < (1 << 31) - MOST * THREADS else "long long"
    return Elements(dims, per_thread(total, most), ctype)


def coordinates(dims: Sequence[tuple[str, int]], at: str, ctype: str, lines: Iterable[str]) -> list[str]:
    """Declares those of the row-major coordinates of position ``at`` that lines use."""
    values = {}
    for number, (name, size) in enumerate(dims):
        inner = prod(n for _, n in dims[number + 1 :])
        value = at if inner == 1 else f"{at} / {inner}"
        value = value if number == 0 else f"{value} % {size}"
        if name != at:
            values[name] = value if size > 1 else "0"
    return declared(ctype, values, lines)


def declared(ctype: str, values: Mapping[str, str], lines: Iterable[str]) -> list[str]:
    """Declares those of the values that lines use."""
    text = "\n".join(lines)
    found = [f"{name} = {value}" for name, value in values.items() if re.search(rf"\b{name}\b", text)]
    return [f"const {ctype} {', '.join(found)};"] if found else []


def block(head: str, lines: Iterable[str]) -> list[str]:
    """A statement with its body in braces."""
    return [f"{head} {{", *(f"    {line}" if line else line for line in lines), "}"]


def body_of(lines: Iterable[str]) -> str:
    """Lines as the body of a phase."""
    return "\n".join(f"    {line}" if line and not line.startswith("#") else line for line in lines)


# -- programs -----------------------------------------------------------------------------------------------------


def fused(outs: Sequence[View], ins: Sequence[View], program: Iterable[Instr], job: Job) -> list[Phase]:
    """The program on every element of the outs, which have one shape; ins broadcast to it as NumPy's do.

    Raises ValueError for shapes that do not fit and for programs that read what nobody wrote.
    """
    return _nest(outs, ins, program, job, {})


def copy(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """outs[0] = ins[0], broadcast; both of one dtype. Transposition goes by square tiles."""
    return _nest(outs, ins, single("x", "x", outs[0].dtype), job, {})


def fill(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """outs[0] = attrs["value"] everywhere."""
    dtype = outs[0].dtype
    return _nest(outs, [View("", dtype, (), ())], single("x", "x", dtype), job, {0: literal(attrs["value"], dtype)})


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
    views = (*outs, *ins)
    loops = loops_of(shape, [broadcast_strides(v, shape) for v in views], len(outs))
    names = variables(len(loops), (v.name for v in views))
    tiled = tiled_loop(loops)
    turned = [] if tiled is None else _turned(outs, ins, loops, tiled, found)
    if tiled is not None and turned:
        return [_in_tiles(found, given, loops, names, tiled, turned)]
    return [_in_order(found, given, loops, names)]


def variables(count: int, taken: Iterable[str]) -> list[str]:
    """Names of coordinates, and of a position and a turn behind them, that no operand has."""
    words, suffix = set(taken), ""
    names = [*("ijklmn"[:count] if count <= 6 else [f"i{k}" for k in range(count)]), "e", "q"]
    while any(re.fullmatch(rf"({'|'.join(names)}){suffix}(_tile\d*)?", word) for word in words):
        suffix += "_"
    return [n + suffix for n in names]


def _in_order(found: Program, given: Mapping[int, str], loops: Sequence[Loop], names: Sequence[str]) -> Phase:
    """The elements in the order of the results' memory."""
    *names, e, q = names
    views, outs = (*found.outs, *found.ins), len(found.outs)
    moved = [k for k, v in enumerate(found.ins) if k not in given and any(loop.strides[outs + k] for loop in loops)]
    used = [k for k in moved if found.values[k].uses]
    for k in moved:
        found.values[k].depth = 1
    dims = [(e, loops[0].size)] if len(loops) == 1 else [(n, loop.size) for n, loop in zip(names, loops, strict=True)]
    shape = elements(dims, *views, most=MOST if len(used) <= 8 else 2)
    shape = Elements(shape.dims, shape.each, shape.ctype, e, q)
    names = [n for n, _ in dims]

    def at(operand: int) -> str:
        return index_text([loop.strides[operand] for loop in loops], names)

    found.name(given, (*(v.name for v in views), *names, e, q))
    values = [(CTYPES[found.ins[k].dtype], found.values[k].name, f"{found.ins[k].name}[{at(outs + k)}]") for k in used]
    before, lines = found.stored(at, {**given, **{k: found.values[k].name for k in used}}, 1)
    body = "\n".join([body_of(before)] * bool(before) + [shape.staged(values, lines)])
    note = " x ".join(str(loop.size) for loop in loops)
    return Phase(body, shape.units, helpers=found.helpers(), note=note)


# -- tiles --------------------------------------------------------------------------------------------------------


def _turned(outs: Sequence[View], ins: Sequence[View], loops: Sequence[Loop], tiled: int, found: Program) -> list[int]:
    """Ins that are dense along loop number ``tiled`` instead of the last, as many as shared memory has room for."""
    written, room, turned = {v.name for v in outs}, SHARED, []
    for k, view in enumerate(ins):
        strides = [loop.strides[len(outs) + k] for loop in loops]
        nbytes = SIDE * (SIDE + 1) * ITEMSIZE[view.dtype]
        dense = abs(strides[tiled]) == 1 and abs(strides[-1]) > 1
        if dense and found.values[k].uses and view.name not in written and nbytes <= room:
            turned.append(k)
            room -= nbytes
    return turned


def _in_tiles(
    found: Program,
    given: Mapping[int, str],
    loops: Sequence[Loop],
    names: Sequence[str],
    tiled: int,
    turned: Sequence[int],
) -> Phase:
    """Tiles of loop number ``tiled`` and the last one: first the turned operands' elements, then the program."""
    *names, _, q = names
    outs, last = len(found.outs), len(loops) - 1
    ctype = index_type(*found.outs, *found.ins)
    down, along = names[tiled], names[last]
    for k in range(len(found.ins)):
        found.values[k].depth = int(any(loop.strides[outs + k] for loop in loops))

    def at(operand: int) -> str:
        return index_text([loop.strides[operand] for loop in loops], names)

    lane, row = f"{q} % {SIDE}", f"{q} / {SIDE}"
    inside = f"if ({down} < {loops[tiled].size} && {along} < {loops[last].size})"
    sweep = f"for (int {q} = threadIdx.x; {q} < {SIDE * SIDE}; {q} += {THREADS})"
    head, tiles, start = [], {}, 0
    for k in turned:
        view, tile = found.ins[k], f"{q}_tile{k}"
        head.append(f"{view.ctype} (*{tile})[{SIDE + 1}] = ({view.ctype} (*)[{SIDE + 1}])(gn_shared + {start});")
        tiles[k] = tile
        start += SIDE * (SIDE + 1) * ITEMSIZE[view.dtype]
    loads = [f"{tiles[k]}[{row}][{lane}] = {found.ins[k].name}[{at(outs + k)}];" for k in turned]
    taken = (*(v.name for v in (*found.outs, *found.ins)), *names, q)
    given = {**given, **{k: f"{tiles[k]}[{lane}][{row}]" for k in turned}}
    found.name(given, taken)
    before, lines = found.stored(at, given, 1)
    dims = [(n, loop.size) for n, loop in zip(names, loops, strict=True)]
    for k in (tiled, last):
        dims[k] = (f"{names[k]}_tile", -(-loops[k].size // SIDE))
    place = f"const {ctype} {down} = {down}_tile * {SIDE} + {{}}, {along} = {along}_tile * {SIDE} + {{}};"
    text = [
        *before,
        *coordinates(dims, "unit", ctype, [*lines, *loads, place]),
        *head,
        "#pragma unroll",
        *block(sweep, [place.format(lane, row), *block(inside, loads)]),
        "__syncthreads();",
        "#pragma unroll",
        *block(sweep, [place.format(row, lane), *block(inside, lines)]),
    ]
    note = " x ".join(str(loop.size) for loop in loops) + " in tiles"
    return Phase(body_of(text), prod(n for _, n in dims), start, helpers=found.helpers(), note=note)
