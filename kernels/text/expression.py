"""Prints the scalar expressions of op records as typed C.

    "x > 0 || x != x ? x : 0", x = "a[i]", float32   ->   a[i] > 0.0f || a[i] != a[i] ? a[i] : 0.0f

Records write an expression once for every dtype. Here each value gets its type: literals are written in the
operands' dtype, functions become those of that dtype (maths.py), signed integers compute in unsigned numbers
and so wrap around without undefined behaviour, and conversions say what becomes of numbers that do not fit.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphnet.kernels.text.maths import definitions, is_defined
from graphnet.kernels.text.view import CTYPES

Tree = tuple[Any, ...]
"""("name", x), ("number", text), ("cast", t), ("!" | "negate", t), (operator, t, t), ("?", t, t, t), (function, *t)."""

_TOKEN = re.compile(r"\s*(\(T\)|[A-Za-z_]\w*|\d+\.?\d*(?:[eE][-+]?\d+)?|&&|\|\||[<>=!]=|[-+*/()<>?:!,])")
_LEVELS = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/"))
_BINDS = {operator: level + 4 for level, operators in enumerate(_LEVELS) for operator in operators}
_TERNARY, _UNARY, _ATOM = 3, 14, 20
_COMPARISONS = {*_LEVELS[2], *_LEVELS[3]}
_FLOATS = {"float32": "f", "float64": ""}
_SIGNED = {"int32": "uint32_t", "int64": "uint64_t"}
_WIDTHS = {"uint8": 8, "uint32": 32, "uint64": 64, "int32": 32, "int64": 64}
_ROUNDING = ("floor", "ceil", "nearbyint")
_TRUTH = "bool"


class _Parser:
    """Recursive descent over C's operators as far as records use them."""

    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.findall(text)
        if "".join(self.tokens) != re.sub(r"\s", "", text):
            raise ValueError(f"expression {text!r} has characters that are not understood")
        self.text, self.at = text, 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise ValueError(f"expression {self.text!r}: expected {expected or 'a value'!r}, found {token!r}")
        self.at += 1
        return token

    def choice(self) -> Tree:
        test = self.binary(0)
        if self.peek() != "?":
            return test
        self.take()
        then = self.choice()
        self.take(":")
        return ("?", test, then, self.choice())

    def binary(self, level: int) -> Tree:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek() in _LEVELS[level]:
            left = (self.take(), left, self.binary(level + 1))
        return left

    def unary(self) -> Tree:
        token = self.peek()
        if token in ("-", "!", "(T)"):
            self.take()
            return ({"-": "negate", "!": "!", "(T)": "cast"}[token], self.unary())
        return self.primary()

    def primary(self) -> Tree:
        token = self.take()
        if token == "(":
            found = self.choice()
            self.take(")")
            return found
        if token[0].isdigit():
            return ("number", token)
        if not token[0].isalpha() and token[0] != "_":
            raise ValueError(f"expression {self.text!r}: {token!r} is not a value")
        if self.peek() != "(":
            return ("name", token)
        self.take()
        arguments = [self.choice()]
        while self.peek() == ",":
            self.take()
            arguments.append(self.choice())
        self.take(")")
        return (token, *arguments)


@lru_cache(maxsize=256)
def _parsed(text: str) -> Tree:
    parser = _Parser(text)
    found = parser.choice()
    if parser.peek():
        raise ValueError(f"expression {text!r} stops making sense at {parser.peek()!r}")
    return _recognised(found)


def _matches(pattern: Tree, tree: Tree, bound: dict[str, Tree]) -> bool:
    """True if ``tree`` is ``pattern`` with something for each name, which ``bound`` then holds."""
    if pattern[0] == "name":
        return bound.setdefault(pattern[1], tree) == tree
    if pattern[0] != tree[0] or len(pattern) != len(tree):
        return False
    if pattern[0] == "number":
        return bool(pattern == tree)
    return all(_matches(p, t, bound) for p, t in zip(pattern[1:], tree[1:], strict=True))


_IDIOMS = tuple(
    (_Parser(pattern).choice(), function, names)
    for pattern, function, names in (
        ("x - y * floor(x / y)", "mod", "xy"),
        ("floor(x / y)", "floor_div", "xy"),
        ("x < 0 ? -x : x", "fabs", "x"),
        ("x >= y || x != x ? x : y", "maximum", "xy"),
        ("x <= y || x != x ? x : y", "minimum", "xy"),
        ("1 / (1 + exp(-x))", "sigmoid", "x"),
        ("(x > 0 ? x : 0) + log1p(exp(-fabs(x)))", "softplus", "x"),
    )
)
"""What is better computed as a whole: exactly, without traps, in vectors, or with the sign of zero NumPy gives."""

_SIMPLER = ((_Parser("x > 0 || x != x ? x : 0").choice(), _Parser("x <= 0 ? 0 : x").choice()),)
"""Equal for every value, NaN included, and a single comparison."""


def _recognised(tree: Tree) -> Tree:
    if tree[0] in ("name", "number"):
        return tree
    bound: dict[str, Tree]
    for pattern, simpler in _SIMPLER:
        bound = {}
        if _matches(pattern, tree, bound):
            return _bound(simpler, bound)
    for pattern, function, names in _IDIOMS:
        bound = {}
        if _matches(pattern, tree, bound):
            return ("idiom", function, tree, *(_recognised(bound[n]) for n in names))
    return (tree[0], *map(_recognised, tree[1:]))


def _bound(tree: Tree, bound: Mapping[str, Tree]) -> Tree:
    """``tree`` with what its names stand for."""
    if tree[0] == "name":
        return _recognised(bound[tree[1]])
    return tree if tree[0] == "number" else (tree[0], *(_bound(t, bound) for t in tree[1:]))


@dataclass(frozen=True, slots=True)
class _Text:
    """C text, its type, and how tightly it binds. A type is a dtype, "int", or "number" for a literal."""

    text: str
    dtype: str
    binds: int = _ATOM

    def inside(self, binds: int) -> str:
        return self.text if self.binds >= binds else f"({self.text})"


class _Printer:
    def __init__(self, operands: Mapping[str, str], dtype_in: str, dtype_out: str) -> None:
        self.operands, self.dtype_in, self.dtype_out = operands, dtype_in, dtype_out
        self.called: dict[str, None] = {}

    def call(self, function: str, dtype: str, *arguments: _Text) -> _Text:
        self.called[function] = None
        return _Text(f"{function}({', '.join(a.text for a in arguments)})", dtype)

    def write(self, tree: Tree) -> _Text:
        kind = tree[0]
        if kind == "name":
            text = self.operands[tree[1]]
            simple = re.fullmatch(r"[A-Za-z_]\w*(\[[^\[\]]*\])?|\d[\w.]*", text)
            return _Text(text, self.dtype_in, _ATOM if simple else 0)
        if kind == "number":
            return _Text(tree[1], "number")
        if kind == "idiom":
            return self.idiom(tree[1], tree[2], [self.write(t) for t in tree[3:]])
        parts = [self.write(t) for t in tree[1:]]
        if kind == "cast":
            return self.converted(parts[0], self.dtype_out)
        if kind == "negate":
            return self.negated(parts[0])
        if kind == "!":
            return _Text(f"!{parts[0].inside(_UNARY)}", _TRUTH, _UNARY)
        if kind == "?":
            return self.chosen(*parts)
        if kind in ("&&", "||"):
            return self.logical(kind, *parts)
        if kind in _COMPARISONS:
            return self.compared(kind, *parts)
        if kind in _BINDS:
            return self.arithmetic(kind, *parts)
        return self.function(kind, *parts)

    def typed(self, part: _Text, dtype: str) -> _Text:
        """A literal, or a truth value among numbers, as a number of ``dtype``."""
        if part.dtype == "number":
            return _Text(_number(part.text, dtype), dtype)
        return self.converted(part, dtype) if part.dtype in (_TRUTH, "int") and dtype not in (_TRUTH, "int") else part

    def common(self, *parts: _Text) -> tuple[str, list[_Text]]:
        dtypes = {p.dtype for p in parts} - {"number", "int", _TRUTH}
        if len(dtypes) > 1:
            raise ValueError(f"an expression mixes {' and '.join(sorted(dtypes))}")
        dtype = dtypes.pop() if dtypes else "int"
        return dtype, [self.typed(p, dtype) for p in parts]

    def converted(self, part: _Text, dtype: str) -> _Text:
        source = part.dtype
        if source == "number":
            return _Text(_number(part.text, dtype), dtype)
        if source == dtype or (source == "int" and dtype == _TRUTH):
            return _Text(part.text, dtype, part.binds)
        if dtype == _TRUTH:
            return _Text(f"{part.inside(_BINDS['!='] + 1)} != 0", _TRUTH, _BINDS["!="])
        if source in _FLOATS and dtype not in _FLOATS:
            return self.call(f"gn_{dtype}_from_{source}", dtype, part)
        return _Text(f"({CTYPES[dtype]}){part.inside(_UNARY)}", dtype, _UNARY)

    def negated(self, part: _Text) -> _Text:
        if part.dtype in (_TRUTH, "int", "number", *_FLOATS):
            # a space keeps the minus of -(-x) apart, which is no decrement
            inner = part.inside(_UNARY)
            return _Text(f"-{' ' * inner.startswith('-')}{inner}", part.dtype, _UNARY)
        return self.arithmetic("-", _Text("0", "number"), part)

    def chosen(self, test: _Text, then: _Text, other: _Text) -> _Text:
        if test.text in ("0", "1"):
            return then if test.text == "1" else other
        dtype, (then, other) = self.common(then, other)
        text = f"{test.inside(_TERNARY + 1)} ? {then.inside(_TERNARY + 1)} : {other.inside(_TERNARY)}"
        return _Text(text, dtype, _TERNARY)

    def logical(self, operator: str, left: _Text, right: _Text) -> _Text:
        decided = "1" if operator == "||" else "0"
        for known, other in ((left, right), (right, left)):
            if known.text in ("0", "1"):
                return _Text(decided, _TRUTH) if known.text == decided else other
        # gcc warns of && inside || without parentheses, so every operand but a comparison has them
        sides = [p.text if p.binds >= _BINDS["=="] else f"({p.text})" for p in (left, right)]
        return _Text(f" {operator} ".join(sides), _TRUTH, _BINDS[operator])

    def compared(self, operator: str, left: _Text, right: _Text) -> _Text:
        dtype, (left, right) = self.common(left, right)
        if dtype not in _FLOATS and left.text == right.text:
            return _Text("1" if operator in ("==", "<=", ">=") else "0", _TRUTH)
        if dtype.startswith("uint") and (operator, right.text) == ("<", "0"):
            return _Text("0", _TRUTH)
        binds = _BINDS["<"] + 1
        return _Text(f"{left.inside(binds)} {operator} {right.inside(binds)}", _TRUTH, _BINDS[operator])

    def arithmetic(self, operator: str, left: _Text, right: _Text) -> _Text:
        dtype, (left, right) = self.common(left, right)
        binds = _BINDS[operator]
        if dtype in _WIDTHS and operator == "/":
            raise ValueError(f"division of {dtype}: only floor(x / y) is defined")
        if dtype not in _FLOATS and operator == "-" and left.text == right.text:
            return _Text("0", dtype)
        if dtype not in _FLOATS and operator == "-" and right.text == "0":
            return left
        if dtype in _SIGNED:
            unsigned = _SIGNED[dtype]
            sides = [p.text if p.text.isdigit() else f"({unsigned}){p.inside(_UNARY)}" for p in (left, right)]
            return _Text(f"({CTYPES[dtype]})({f' {operator} '.join(sides)})", dtype, _UNARY)
        text = f"{left.inside(binds)} {operator} {right.inside(binds + 1)}"
        return _Text(f"(uint8_t)({text})", dtype, _UNARY) if dtype == "uint8" else _Text(text, dtype, binds)

    def idiom(self, function: str, written: Tree, parts: list[_Text]) -> _Text:
        dtype, parts = self.common(*parts)
        if function in ("sigmoid", "softplus") and dtype == "float32":
            return self.call(f"gn_{function}f", dtype, *parts)
        if function in ("sigmoid", "softplus") or (function in ("maximum", "minimum") and dtype not in _FLOATS):
            return self.write((written[0], *map(_recognised, written[1:])))
        if function != "fabs":
            return self.defined(f"{function}_{dtype}", dtype, *parts)
        if dtype in _FLOATS:
            return self.call(f"fabs{_FLOATS[dtype]}", dtype, *parts)
        return self.chosen(self.compared("<", parts[0], _Text("0", "number")), self.negated(parts[0]), parts[0])

    def function(self, name: str, *parts: _Text) -> _Text:
        dtype, arguments = self.common(*parts)
        if dtype in _FLOATS:
            # nearbyint and rint round alike; gcc has a vector instruction for rint everywhere
            name = ("rint" if name == "nearbyint" else name) + _FLOATS[dtype]
            return self.call(f"gn_{name}" if is_defined(f"gn_{name}") else name, dtype, *arguments)
        if name in _ROUNDING:
            return arguments[0]
        return self.defined(f"{name}_{dtype}", dtype, *arguments)

    def defined(self, name: str, dtype: str, *arguments: _Text) -> _Text:
        if not is_defined(f"gn_{name}"):
            raise ValueError(f"{name} is not a function of {', '.join(a.dtype for a in arguments)}")
        return self.call(f"gn_{name}", dtype, *arguments)


def _number(text: str, dtype: str) -> str:
    if dtype not in _FLOATS:
        if not text.isdigit():
            raise ValueError(f"{text} is not a number of {dtype}")
        return text
    return text + ("" if re.search(r"[.eE]", text) else ".0") + _FLOATS[dtype]


def _printed(expr: str, operands: Mapping[str, str], dtype_in: str, dtype_out: str) -> tuple[str, tuple[str, ...]]:
    printer = _Printer(operands, dtype_in, dtype_out)
    return printer.converted(printer.write(_parsed(expr)), dtype_out).text, tuple(printer.called)


def print_expr(expr: str, operands: Mapping[str, str], dtype_in: str, dtype_out: str) -> str:
    """The C text of ``expr`` with a C expression for each operand name; its value has ``dtype_out``.

    ``dtype_in`` is the dtype of the operands (of a selection: of its branches; conditions are only tested). A
    truth value is 0 or 1. Operands may occur more than once, so their text should be short and without side
    effects. Raises ValueError for an expression that is not understood or not defined for the dtype.

    Integers wrap around; x / 0 and x % 0 are 0. A float that is converted to an integer is truncated;
    NaN and what does not fit become the smallest int32 or int64; uint8 and uint32 take the low bits of the
    int32 or int64; uint64 wraps around.
    """
    return _printed(expr, operands, dtype_in, dtype_out)[0]


def functions_of(expr: str, dtype_in: str, dtype_out: str) -> tuple[str, ...]:
    """Names of the C functions that the printed expression calls, each once."""
    return _printed(expr, {n: n for n in _names(_parsed(expr))}, dtype_in, dtype_out)[1]


def helpers_of(expr: str, dtype_in: str, dtype_out: str) -> tuple[str, ...]:
    """The definitions that the printed expression needs, for ``Phase.helpers``."""
    return definitions(functions_of(expr, dtype_in, dtype_out))


def _names(tree: Tree) -> Iterator[str]:
    if tree[0] == "name":
        yield tree[1]
    else:
        for part in tree[1:]:
            if isinstance(part, tuple):
                yield from _names(part)


def literal(value: float | int | bool, dtype: str) -> str:
    """The C constant of this value in ``dtype``, exactly; floats are rounded to it first.

    Raises OverflowError for an integer outside the dtype.
    """
    if dtype == _TRUTH:
        return "1" if value else "0"
    if dtype in _FLOATS:
        return _float_literal(float(value), dtype)
    number, bits = int(value), _WIDTHS[dtype]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype in _SIGNED else (0, (1 << bits) - 1)
    if not low <= number <= high:
        raise OverflowError(f"{number} is outside {dtype}")
    if number == low and low:
        return f"{dtype.upper()}_MIN"
    return f"{dtype.upper()}_C({number})" if bits == 64 else f"{number}{'u' * (dtype == 'uint32')}"


def _float_literal(value: float, dtype: str) -> str:
    if dtype == "float32" and abs(value) <= 3.4028235677973366e38:
        # the last float32 and what rounds to it; struct refuses what rounds to infinity
        value = struct.unpack("f", struct.pack("f", value))[0]
    elif dtype == "float32" and not math.isnan(value):
        value = math.copysign(math.inf, value)
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return _number(f"{value:.9g}" if dtype == "float32" else repr(value), dtype)
