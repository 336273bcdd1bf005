"""Where arrays of a plan are in generated C: pointer expressions, and the table of memory that is handed in.

A + 0x1240            a temporary, in the arena
H[3]                  a parameter, slot, state, input or large constant: entry 3 of the table
c5                    a small constant, an array of the file
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphnet.compiler.ir import ITEMSIZE
from graphnet.compiler.printers.text import clean, count
from graphnet.compiler.schedule import HOMES, Array, Branch, Loop, Plan, Step, Storage, flat
from graphnet.kernels.text.view import CTYPES, View

INLINE_BYTES = 4096
"""Constants up to this size stand in the file, larger ones are handed in like parameters."""

_CODES = {"float32": "f", "float64": "d", "int32": "i", "int64": "q", "uint8": "B", "bool": "B"}
_CODES |= {"uint32": "I", "uint64": "Q"}


@dataclass(frozen=True)
class Operand:
    """A view, and the type (with ``*``) and value of the pointer that its name stands for.

    Both are empty for a constant of the file, and for a name that an operand before it has declared.
    """

    view: View
    pointer_type: str = ""
    address: str = ""

    @property
    def declaration(self) -> str:
        return f"{self.pointer_type}{self.view.name} = {self.address};" if self.address else ""


class Memory:
    """Names of all storages of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._storages = {s.id: s for s in plan.storages}
        self.lengths = {s.id: s.length for s in flat(plan.steps) if isinstance(s, Loop)}
        dtypes: dict[int, set[str]] = {}
        for array in _used(plan):
            dtypes.setdefault(array.storage, set()).add(array.dtype)
        self.table: list[Storage] = []
        self.constants: list[tuple[Storage, str]] = []
        for s in plan.storages:
            if s.kind == "temp" or s.id not in dtypes:
                continue
            if s.kind == "constant" and s.nbytes <= INLINE_BYTES and len(dtypes[s.id]) == 1:
                self.constants += [(s, dtype) for dtype in dtypes[s.id]]
            else:
                self.table.append(s)
        self._index = {s.id: i for i, s in enumerate(self.table)}
        self._inline = {s.id for s, _ in self.constants}

    def table_comment(self) -> str:
        """What the entries of the table are, as a comment that no name can end; empty without any."""
        if not self.table:
            return ""
        names = [clean(s.name).replace("*/", "* /").replace("/*", "/ *") for s in self.table]
        facts = (f"{s.kind} {name}, {count(s.nbytes)} B" for s, name in zip(self.table, names, strict=True))
        return "\n".join(["/* memory that outlives a call:", *(f" *   H[{i}] {f}" for i, f in enumerate(facts)), " */"])

    def storage(self, array: Array) -> Storage:
        return self._storages[array.storage]

    def is_constant(self, storage: int) -> bool:
        return self._storages[storage].kind == "constant"

    def is_home(self, storage: int) -> bool:
        """Whether it outlives a run: a parameter, a state, a slot."""
        return self._storages[storage].kind in HOMES

    def index(self, array: Array) -> int | None:
        """The array's entry in the table, None for one in the arena or the file."""
        return self._index.get(array.storage)

    def address(self, array: Array) -> str:
        """The array's first element as a ``char *``, or as an element pointer for constants of the file."""
        s = self.storage(array)
        start = array.offset * array.itemsize
        if s.id in self._inline:
            moved = "".join(self._term(t.loop, t.stride, t.shift, t.modulo) for t in array.terms)
            return f"c{s.id}{f' + {array.offset}' if array.offset else ''}{moved}"
        base = f"A + {s.offset + start:#x}" if s.kind == "temp" else f"H[{self._index[s.id]}]"
        if s.kind != "temp" and start:
            base += f" + {start:#x}"
        size = array.itemsize
        return base + "".join(self._term(t.loop, t.stride * size, t.shift, t.modulo) for t in array.terms)

    def _term(self, loop: int, step: int, shift: int, modulo: int) -> str:
        index = f"k{loop}"
        if shift:
            index = f"({index} + {shift})"
        if self.lengths[loop] + shift > modulo:
            index = f"({index} % {modulo})"
        if min(self.lengths[loop] + shift, modulo) * abs(step) >= 1 << 31:
            index = f"(int64_t){index}"
        return f" {'-' if step < 0 else '+'} {index} * {abs(step)}"

    def operands(self, outs: Sequence[Array], ins: Sequence[Array]) -> list[Operand]:
        """Views of a step's arrays, named out0, in0 and so on; equal memory of one dtype has one name."""
        names: dict[tuple[str, str], str] = {}
        found = []
        for i, array in enumerate((*outs, *ins)):
            own = f"out{i}" if i < len(outs) else f"in{i - len(outs)}"
            found.append(self._operand(array, own, i < len(outs), names))
        return found

    def _operand(self, array: Array, own: str, written: bool, names: dict[tuple[str, str], str]) -> Operand:
        if array.storage in self._inline:
            name = self.address(array)
            view = View(name if name.isidentifier() else f"({name})", array.dtype, array.shape, array.strides)
            return Operand(view)
        address = self.address(array)
        name = names.setdefault((address, array.dtype), own)
        view = View(name, array.dtype, array.shape, array.strides)
        if name != own:
            return Operand(view)
        const = "" if written else "const "
        return Operand(view, f"{const}{CTYPES[array.dtype]} *restrict ", self.pointer(array, written))

    def pointer(self, array: Array, written: bool) -> str:
        """The array's first element as a pointer of its own type."""
        return f"({'' if written else 'const '}{CTYPES[array.dtype]} *)({self.address(array)})"


def _used(plan: Plan) -> Iterator[Array]:
    """Arrays of every storage that stands in the text."""
    for step in flat(plan.steps):
        yield from arrays_of(step)
    yield from plan.outputs.values()
    # inputs keep their places in the table also if nothing reads them
    yield from (array for name, array in plan.leaves.items() if name)


def arrays_of(step: Step) -> tuple[Array, ...]:
    """The arrays a step reads or writes itself, scratch left out."""
    if isinstance(step, Loop):
        return ()
    if isinstance(step, Branch):
        return (step.predicate,)
    return (*step.outputs, *step.inputs)


def constant_text(storage: Storage, dtype: str, qualifiers: str = "static const", aligned: str = " GN_ALIGNED") -> str:
    """The definition of a constant as a static array of the file."""
    data = storage.data or b""
    values = [v for (v,) in struct.iter_unpack("=" + _CODES[dtype], data)]
    items = [_literal(v, dtype) for v in values] or ["0"]
    lines, line = [], ""
    for item in items:
        if len(line) + len(item) > 100:
            lines.append(line.rstrip())
            line = ""
        line += item + ", "
    body = "\n    ".join([*lines, line.rstrip(", ")])
    head = f"{qualifiers} {CTYPES[dtype]} c{storage.id}[{max(1, len(data) // ITEMSIZE[dtype])}]{aligned} = "
    return f"{head}{{{body}}};" if not lines else f"{head}{{\n    {body}}};"


def _literal(value: float | int, dtype: str) -> str:
    if isinstance(value, float):
        if math.isnan(value):
            return "NAN"
        if math.isinf(value):
            return "INFINITY" if value > 0 else "-INFINITY"
        if dtype == "float64":
            return repr(value)
        short = next(t for t in (f"{value:.{n}g}" for n in range(6, 10)) if _single(t) == value)
        return (short if any(c in short for c in ".e") else short + ".0") + "f"
    if dtype == "int64" and value == -(1 << 63):
        return "INT64_MIN"
    if dtype == "int32" and value == -(1 << 31):
        return "INT32_MIN"
    return f"{value}{ {'int64': 'L', 'uint32': 'U', 'uint64': 'UL'}.get(dtype, '') }"


def _single(text: str) -> float:
    found: float = struct.unpack("=f", struct.pack("=f", float(text)))[0]
    return found
