"""The scalar C expressions of elementwise records, evaluated in Python, give what the backends' kernels give."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from graphnet.compiler.ops import REGISTRY

TOKEN = re.compile(r"\s*(\(T\)|[A-Za-z_]\w*|\d+\.?\d*|&&|\|\||[<>=!]=|[-+*/()<>?:!,])")
OPERATORS = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/"))
FUNCTIONS = {
    **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "floor", "ceil")},
    **{name: getattr(np, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "fabs")},
    **{name: getattr(np, f"arc{name[1:]}") for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh")},
    "atan2": np.arctan2,
    "pow": np.power,
    "nearbyint": np.rint,
    "erf": math.erf,
}


class Translator:
    """C to Python, fully bracketed: C's precedence is spelled out and Python's never asked."""

    def __init__(self, text: str) -> None:
        self.tokens = TOKEN.findall(text)
        assert "".join(self.tokens) == text.replace(" ", ""), f"unread characters in {text!r}"
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, token: str) -> None:
        assert self.peek() == token, f"expected {token!r}, found {self.peek()!r} in {self.tokens}"
        self.at += 1

    def whole(self) -> str:
        found = self.choice()
        assert self.at == len(self.tokens), f"stopped at {self.peek()!r} in {self.tokens}"
        return found

    def choice(self) -> str:
        test = self.binary(0)
        if self.peek() != "?":
            return test
        self.next()
        then = self.choice()
        self.expect(":")
        return f"({then} if {test} else {self.choice()})"

    def binary(self, level: int) -> str:
        if level == len(OPERATORS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek() in OPERATORS[level]:
            sign = self.next()
            word = {"&&": "and", "||": "or"}.get(sign, sign)
            left = f"({left} {word} {self.binary(level + 1)})"
            left = f"int(bool({left}))" if level < 4 else left
        return left

    def unary(self) -> str:
        if self.peek() in ("-", "!", "(T)"):
            sign = self.next()
            return {"-": "(-{})", "!": "int(not {})", "(T)": "T({})"}[sign].format(self.unary())
        return self.primary()

    def primary(self) -> str:
        token = self.next()
        if token == "(":
            found = self.choice()
            self.expect(")")
            return f"({found})"
        if self.peek() != "(":
            return token
        self.next()
        arguments = [self.choice()]
        while self.peek() == ",":
            self.next()
            arguments.append(self.choice())
        self.expect(")")
        return f"{token}({', '.join(arguments)})"


def evaluate_scalar(expr, names, arrays, dtype):
    """A record's C expression on every element, broadcast."""
    code = compile(Translator(expr).whole(), expr, "eval")
    known = {**FUNCTIONS, "T": np.dtype(dtype).type, "bool": bool, "int": int}
    spread = np.broadcast_arrays(*arrays)
    out = np.empty(spread[0].shape, dtype)
    for index in np.ndindex(out.shape):
        values = {name: x[index] for name, x in zip(names, spread, strict=True)}
        out[index] = eval(code, {"__builtins__": {}}, known | values)
    return out


# -- expressions and kernels --------------------------------------------------------------------------------

ELEMENTWISE = [record for record in REGISTRY.values() if record.kind == "elementwise"]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, 1e-300, 90.0, -800.0])
CLOSED = [
    n for n, r in REGISTRY.items() if r.kind == "elementwise" and "float" not in r.expr and not r.samples[0].dtypes
]
PAIRED = ["add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "pow", "arctan2"]


def compare(backend, together, cases, rtol=1e-12, atol=1e-13):
    """Of each (case, arrays): the expression's values and the kernel's."""
    asked = [(*case.graph(arrays), arrays) for case, arrays in cases]
    runs = together(backend, [(leaves, arrays, [node]) for leaves, node, arrays in asked])
    for (case, arrays), (_, node, _), run in zip(cases, asked, runs, strict=True):
        with np.errstate(all="ignore"):
            expected = evaluate_scalar(case.record.expr, case.record.inputs, arrays, node.dtype)
        np.testing.assert_allclose(run()[0], expected, rtol=rtol, atol=atol, err_msg=str(case))


def test_expressions_and_kernels_agree(backend, together, cases_of):
    """On every sample of every elementwise record."""
    cases = [case for record in ELEMENTWISE for case in cases_of(record)]
    compare(backend, together, [(case, case.operands("float64")) for case in cases])


def test_expressions_and_kernels_agree_on_nan_infinity_and_zero(backend, together, cases_of):
    cases = [cases_of(REGISTRY[n])[0] for n in CLOSED if len(REGISTRY[n].inputs) == 1 or n in PAIRED]
    pair = [SPECIAL, SPECIAL[:, None].copy()]
    compare(backend, together, [(case, pair[: len(case.record.inputs)]) for case in cases], atol=0)


WRONG_EXPRESSIONS = [("relu", "x > 0 ? x : -x"), ("sigmoid", "1 / (1 + exp(x))"), ("maximum", "x <= y ? x : y")]
WRONG_EXPRESSIONS += [("sub", "y - x"), ("logical_and", "x || y"), ("logical_not", "x"), ("exp", "exp(x) * 1.001")]


@pytest.mark.parametrize("backend", ["numpy"], indirect=True)
@pytest.mark.parametrize(("name", "expr"), WRONG_EXPRESSIONS)
def test_a_wrong_expression_is_found(backend, together, cases_of, name, expr):
    case = cases_of(replace(REGISTRY[name], expr=expr))[0]
    with pytest.raises(AssertionError, match=name):
        compare(backend, together, [(case, case.operands("float64"))])


# -- the translator -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("x > 0 ? 1 : x < 0 ? 2 : 3", 2), ("1 - 2 - 3", -4), ("!x || x == -1 && 2 > 3", 0), ("-x * 2 + 1", 3)],
)
def test_the_translator_of_expressions_follows_c(text, value):
    """Right-associative choice, left-associative minus, && before ||, unary before binary."""
    assert evaluate_scalar(text, ["x"], [np.array(-1.0)], "float64") == value
