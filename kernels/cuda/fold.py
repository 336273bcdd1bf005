"""How values become one on a GPU: sums, extrema and their places, in a thread, over lanes and over warps.

Every order is fixed: a thread joins its own elements a group at a time, lanes are joined by exchanges that halve
their distance, warps in the order of their numbers. It depends on shapes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphnet.kernels.cuda.phase import THREADS
from graphnet.kernels.text.view import CTYPES

WARP = 32
"""Lanes that exchange values without shared memory."""

EXACT = 32
"""Elements of a thread from which a float32 sum goes on in double."""

_ACCUMULATORS = {"uint8": "uint32_t", "bool": "uint32_t", "int32": "uint32_t", "int64": "uint64_t"}
_BYTES = {"float": 4, "double": 8, "int32_t": 4, "uint32_t": 4, "int64_t": 8, "uint64_t": 8}
FLOATS = ("float32", "float64")
_LOWEST = {"int32": "(-2147483647 - 1)", "int64": "(-9223372036854775807LL - 1)"}
_HIGHEST = {
    "int32": "2147483647",
    "int64": "9223372036854775807LL",
    "uint8": "255u",
    "uint32": "4294967295u",
    "uint64": "18446744073709551615ULL",
    "bool": "1u",
}


@dataclass(frozen=True, slots=True)
class Fold:
    """An accumulator's C type, size and first value, how two of them join, and how a result leaves it.

    ``each`` is the C type in which a group of elements is joined before the accumulator takes it; ``lift`` makes
    one of an element and its place along the line, ``other`` the accumulator of the lane at a distance.
    """

    ctype: str
    nbytes: int
    start: str
    operator: str = ""
    function: str = ""
    each: str = ""
    lift: str = "{value}"
    lower: str = "{}"
    other: str = "__shfl_xor_sync(0xffffffffu, {}, {})"
    alike: bool = True  # a joined with b has the bits of b joined with a
    helpers: tuple[str, ...] = ()

    def join(self, a: str, b: str) -> str:
        return f"({a} {self.operator} {b})" if self.operator else f"{self.function}({a}, {b})"

    def into(self, target: str, value: str) -> str:
        """The statement that joins a value to an accumulator."""
        if not self.operator:
            return f"{target} = {self.join(target, value)};"
        return f"{target} {self.operator}= {value[1:-1] if value.startswith('(') else value};"

    def tree(self, values: Sequence[str]) -> str:
        """Values joined in pairs, and these in pairs, from left to right."""
        if len(values) == 1:
            return values[0]
        half = 1 << (len(values) - 1).bit_length() - 1
        return self.join(self.tree(values[:half]), self.tree(values[half:]))

    @property
    def element(self) -> str:
        return self.each or self.ctype

    @property
    def joined(self) -> Fold:
        """The fold of accumulators."""
        return replace(self, each="", lift="{value}")


def _sum(dtype: str, chain: int) -> Fold:
    """Integers wrap around; long float32 sums go through double, a group of elements at a time."""
    ctype = _ACCUMULATORS.get(dtype, CTYPES[dtype])
    if dtype == "float32" and chain > EXACT:
        return Fold("double", 8, "0", "+", each="float")
    lower = "{}" if ctype == CTYPES[dtype] else f"({CTYPES[dtype]}){{}}"
    return Fold(ctype, _BYTES[ctype], "0", "|" if dtype == "bool" else "+", lower=lower)


def _extreme(dtype: str, low: bool) -> Fold:
    """NaN if there is one."""
    inexact = dtype in FLOATS
    ctype = _ACCUMULATORS[dtype] if dtype in ("uint8", "bool") else CTYPES[dtype]
    name = f"gn_fold_{'min' if low else 'max'}_{ctype}"
    test = f"b {'<' if low else '>'} a{' || b != b' * inexact}"
    helper = f"GN_INLINE {ctype} {name}({ctype} a, {ctype} b) {{ return {test} ? b : a; }}\n"
    lower = "{}" if ctype == CTYPES[dtype] else f"({CTYPES[dtype]}){{}}"
    start = limit(dtype, not low)
    return Fold(ctype, _BYTES[ctype], start, function=name, lower=lower, alike=not inexact, helpers=(helper,))


def limit(dtype: str, low: bool) -> str:
    """The constant that no number of dtype is below, or above."""
    if dtype in FLOATS:
        return "-INFINITY" if low else "INFINITY"
    return _LOWEST.get(dtype, "0") if low else _HIGHEST[dtype]


def fold_of(op: str, dtype: str, chain: int = 1) -> Fold:
    """How a "sum", "max" or "min" goes whose threads have ``chain`` elements each."""
    return _sum(dtype, chain) if op == "sum" else _extreme(dtype, op == "min")


_FIRST = """\
/* a value and its place; of equal ones the first{what} */
struct {name} {{ {value} value; {place} at; }};
GN_INLINE {name} {name}_join({name} a, {name} b)
{{
{test}
}}
GN_INLINE {name} {name}_other({name} a, int distance)
{{
    return {{__shfl_xor_sync(0xffffffffu, a.value, distance), __shfl_xor_sync(0xffffffffu, a.at, distance)}};
}}
"""
_EXACT_TEST = "    return b.value {sign} a.value || (b.value == a.value && b.at < a.at) ? b : a;"
_FLOAT_TEST = """\
    const bool none = a.value != a.value, also = b.value != b.value;
    const bool level = a.value == b.value || (none && also);
    return b.value {sign} a.value || (also && !none) || (level && b.at < a.at) ? b : a;"""


def first_of(low: bool, dtype: str, place: str) -> Fold:
    """How the place of the first minimum or maximum goes; ``place`` is the C type of places."""
    value = _ACCUMULATORS[dtype] if dtype in ("uint8", "bool") else CTYPES[dtype]
    wide = place == "long long"
    name = f"gn_first_{'min' if low else 'max'}_{value}{'_wide' * wide}"
    last = "9223372036854775807LL" if wide else "2147483647"
    inexact = dtype in FLOATS
    test = (_FLOAT_TEST if inexact else _EXACT_TEST).format(sign="<" if low else ">")
    what = ", of NaN the first before all others" if inexact else ""
    helper = _FIRST.format(name=name, value=value, place=place, test=test, what=what)
    return Fold(
        name,
        16 if wide or _BYTES[value] == 8 else 8,
        f"{name}{{{limit(dtype, not low)}, {last}}}",
        function=f"{name}_join",
        lift=f"{name}{{{{{{value}}, {{at}}}}}}",
        lower="{}.at",
        other=f"{name}_other({{}}, {{}})",
        helpers=(helper,),
    )


# -- over the threads of a block ------------------------------------------------------------------------------------


def over_lanes(fold: Fold, acc: str, lanes: int) -> list[str]:
    """Statements after which each of ``lanes`` neighbouring lanes has what all of them joined; every lane runs them."""
    lines = []
    distance = lanes // 2
    while distance:
        lines.append(fold.into(acc, fold.other.format(acc, distance)))
        distance //= 2
    return lines


def over_warps(fold: Fold, acc: str, warps: int, place: str) -> tuple[list[str], str]:
    """Statements that leave every warp's accumulator in ``place``, and the expression that joins a thread's ``warps``.

    ``place`` is shared memory for as many accumulators as a block has warps; the statements end with a barrier.
    """
    lines = [
        f"if (threadIdx.x % {WARP} == 0)",
        f"    {place}[threadIdx.x / {WARP}] = {acc};",
        "__syncthreads();",
    ]
    if warps == THREADS // WARP:
        return lines, fold.tree([f"{place}[{w}]" for w in range(warps)])
    first = f"threadIdx.x / {WARP * warps} * {warps}"
    return lines, fold.tree([f"{place}[{first} + {w}]" if w else f"{place}[{first}]" for w in range(warps)])


def power(number: int) -> int:
    """The largest power of two that is not above a number; at least 1."""
    return 1 << max(number, 1).bit_length() - 1


def power_above(number: int) -> int:
    """The smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()
