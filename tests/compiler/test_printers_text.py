"""The parts printers are made of: formulas of fused groups, source lines, attributes, folding, the layer summary."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnet.compiler import build as b
from graphnet.compiler.ir import NOWHERE, Graph, Node, Type, Where, leaf, make, session
from graphnet.compiler.printers.expression import formulas
from graphnet.compiler.printers.listing import graph_listing
from graphnet.compiler.printers.summary import summary
from graphnet.compiler.printers.text import Places, attributes, clean, count, literal, plural, shape, types
from graphnet.compiler.schedule import Instruction

Ref = tuple[str, int]
F = "float32"


@pytest.fixture(autouse=True)
def own_nodes() -> Iterator[None]:
    """Nodes of other tests leave no lines behind."""
    with session():
        yield


def program(*steps: tuple[str, Sequence[Ref], Ref], **attrs: object) -> list[Instruction]:
    return [Instruction(op, attrs, tuple(operands), result) for op, operands, result in steps]


X, Y, Z, OUT, TMP = ("in", 0), ("in", 1), ("in", 2), ("out", 0), ("tmp", 0)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("sub", (Y, Z), TMP), ("sub", (X, TMP), OUT)], "x - (y - z)"),
        ([("sub", (X, Y), TMP), ("sub", (TMP, Z), OUT)], "x - y - z"),
        ([("add", (X, Y), TMP), ("mul", (TMP, Z), OUT)], "(x + y) * z"),
        ([("mul", (X, Y), TMP), ("add", (TMP, Z), OUT)], "x * y + z"),
        ([("div", (Y, Z), TMP), ("mul", (X, TMP), OUT)], "x * (y / z)"),
        ([("neg", (X,), TMP), ("pow", (TMP, Y), OUT)], "(-x) ** y"),
        ([("pow", (X, Y), TMP), ("neg", (TMP,), OUT)], "-x ** y"),
        ([("pow", (X, Y), TMP), ("pow", (TMP, Z), OUT)], "(x ** y) ** z"),
        ([("gt", (X, Y), TMP), ("eq", (TMP, Z), OUT)], "(x > y) == z"),
        ([("gt", (X, Y), TMP), ("where", (TMP, X, Z), OUT)], "where(x > y, x, z)"),
        ([("stop_gradient", (X,), TMP), ("exp", (TMP,), OUT)], "exp(x)"),
    ],
)
def test_formula_has_the_parentheses_it_needs(steps: list[tuple[str, Sequence[Ref], Ref]], expected: str) -> None:
    """Infix notation keeps the program's order of evaluation with as few parentheses as that takes."""
    assert formulas(program(*steps), ["x", "y", "z"]) == [f"out0 = {expected}"]


def test_value_used_twice_has_a_name() -> None:
    """A temporary that two instructions read is written once."""
    steps = program(("exp", (X,), TMP), ("mul", (TMP, TMP), OUT))
    assert formulas(steps, ["x"]) == ["t0 = exp(x)", "out0 = t0 * t0"]


def test_overwritten_temporary_is_two_values() -> None:
    """A temporary's place that is written again stands for the new value from there on."""
    steps = program(("exp", (X,), TMP), ("log", (TMP,), TMP), ("add", (TMP, X), OUT))
    assert formulas(steps, ["x"]) == ["out0 = log(exp(x)) + x"]


def test_attributes_are_part_of_a_formula() -> None:
    """A cast says to what."""
    assert formulas(program(("cast", (X,), OUT), dtype="int32"), ["x"]) == ["out0 = cast(x, dtype=int32)"]


BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "pow": lambda x, y: abs(x) % 3 ** (y % 2),
    "lt": lambda x, y: x < y,
}


@given(st.lists(st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_formulas_compute_what_the_program_computes(steps: list[tuple[str, int, int]]) -> None:
    """Python reads the printed lines as the same values, whatever was written inside what."""
    places: list[Ref] = [("in", 0), ("in", 1)]
    values: list[Number] = [Number(3), Number(-2)]
    made = []
    for index, (op, i, j) in enumerate(steps):
        i, j = i % len(places), j % len(places)
        last = index == len(steps) - 1
        made.append((op, (places[i], places[j]), ("out", 0) if last else ("tmp", index)))
        values.append(Number(BINARY[op](values[i].value, values[j].value)))
        places.append(made[-1][2])
    names = {"x": Number(3), "y": Number(-2)}
    for line in formulas(program(*made), ["x", "y"]):
        name, _, text = line.partition(" = ")
        names[name] = eval(text, {}, names)
    assert names["out0"].value == values[-1].value


class Number:
    """An integer whose operators are those of BINARY, so that no value grows without bound."""

    def __init__(self, value: int) -> None:
        self.value = int(value) % 1009

    def __add__(self, other: Number) -> Number:
        return Number(BINARY["add"](self.value, other.value))

    def __sub__(self, other: Number) -> Number:
        return Number(BINARY["sub"](self.value, other.value))

    def __mul__(self, other: Number) -> Number:
        return Number(BINARY["mul"](self.value, other.value))

    def __pow__(self, other: Number) -> Number:
        return Number(BINARY["pow"](self.value, other.value))

    def __lt__(self, other: Number) -> Number:
        return Number(BINARY["lt"](self.value, other.value))


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        (["/home/a/net.py"], ["net.py:1"]),
        (["net.py", "models/layers.py"], ["net.py:1", "layers.py:1"]),
        (["/p/encoder/net.py", "/p/decoder/net.py"], ["encoder/net.py:1", "decoder/net.py:1"]),
        (["/p/net.py", "net.py"], ["p/net.py:1", "net.py:1"]),
        (["/p/models/__init__.py"], ["models/__init__.py:1"]),
        (["C:\\work\\net.py"], ["net.py:1"]),
        (["<stdin>"], ["<stdin>:1"]),
    ],
)
def test_file_is_named_by_the_shortest_end_of_its_own(files: list[str], shown: list[str]) -> None:
    """Folders appear only where two files would be confused."""
    wheres = [Where(file, 1) for file in files]
    places = Places(wheres)
    assert [places(where) for where in wheres] == shown


def test_no_line_is_invented() -> None:
    """Nodes that no user line made show none."""
    assert Places([])(NOWHERE) == ""
    assert Places([]).at(NOWHERE) == ""


def test_attributes_that_say_nothing_are_left_out() -> None:
    """Neutral strides and what the result's type tells anyway are not repeated."""
    attrs = {"stride": (1, 1), "padding": ((0, 0), (1, 0)), "groups": 1, "shape": (2, 3), "axis": 1, "rate": 1 / 3}
    shown = {"padding": "((0,0),(1,0))", "axis": "1", "rate": "0.333333"}
    assert attributes(attrs, Type((2, 3), F)) == shown
    assert attributes({"stride": (1, 2), "shape": (6,)}, Type((2, 3), F)) == {"stride": "(1,2)", "shape": "(6,)"}


def test_numbers_and_shapes_are_written_one_way() -> None:
    """Thousands are separated, shapes look like tuples, equal types are counted."""
    assert [count(51200), plural(1, "step"), plural(2, "pass", "passes")] == ["51,200", "1 step", "2 passes"]
    assert [shape(()), shape((3,)), shape((3, 4))] == ["()", "(3,)", "(3,4)"]
    kinds = (Type((3,), F), Type((3,), F), Type((), "bool"))
    assert types(make("several", (), {}, kinds)) == "[2 x (3,) float32, () bool]"
    assert types(make("alike", (), {}, kinds[:2])) == "2 x (3,) float32"


@pytest.mark.parametrize(
    ("value", "dtype", "shown"),
    [(0.1, F, "0.1"), (math.inf, F, "inf"), (math.nan, F, "nan"), (True, "bool", "True"), (-3, "int64", "-3")],
)
def test_constant_shows_its_number(value: float, dtype: str, shown: str) -> None:
    """A single number is printed with six digits, so 0.1 in float32 is 0.1."""
    assert literal(b.scalar(value, dtype).attrs["value"]) == shown


def test_clean_keeps_letters_of_all_alphabets() -> None:
    """Only what does not print is escaped."""
    assert clean("öğrenme/katman_1") == "öğrenme/katman_1"
    assert clean("a\nb\u2028c") == "a\\nb\\u2028c"


def layers() -> tuple[Graph, Mapping[str, Type]]:
    """conv2d, relu, max pooling, flatten, dense with a bias, and a softmax written out on one line."""

    def at(line: int, scope: str) -> Where:
        return Where("net.py", line, scope)

    def param(name: str, scope: str, *sizes: int) -> Node:
        return leaf(f"{scope}/{name}", "param", Type(sizes, F), at(2, scope))

    x = leaf("x", "input", Type((8, 1, 6, 6), F), at(1, ""))
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}
    with b.at(at(3, "net/conv2d_1")):
        w = param("w", "net/conv2d_1", 4, 1, 3, 3)
        options = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
        y = b.apply("conv2d", x, w, **options)
    with b.at(at(4, "net")):
        y = b.unary("relu", y)
        y = b.apply("pool_gather", y, b.apply("max_pool_index", y, **window), **window)
    with b.at(at(5, "net")):
        y = b.reshape(y, (8, 16))
    with b.at(at(6, "net/dense_1")):
        y = b.matmul(y, param("w", "net/dense_1", 16, 3))
    with b.at(at(7, "net")):
        y = b.add(y, param("shift", "net", 3))
    with b.at(at(8, "net")):
        e = b.unary("exp", b.sub(y, b.reduce("max", y, (1,), True)))
        y = b.div(e, b.sum_(e, (1,), True))
    graph = Graph((x,), (("output", y),), name="net:inference")
    params = {str(n.attrs["name"]): n.out for n in graph.leaves() if n.attrs["role"] == "param"}
    return graph, params | {"net/head_1/unused": Type((9,), F)}


def test_summary_has_a_row_a_layer() -> None:
    """Calls and ops between them in order, with output shapes and parameters."""
    rows = [line.split() for line in summary(*layers()).splitlines() if line]
    assert rows[1:] == [
        ["x", "#####", "8", "1", "6", "6"],
        ["conv2d_1", "\\|/", "-" * 20, "36", "37.5%"],
        ["relu", "#####", "8", "4", "4", "4"],
        ["max_pool2d", "Y", "max", "-" * 20, "0", "0.0%"],
        ["#####", "8", "4", "2", "2"],
        ["flatten", "|||||", "-" * 20, "0", "0.0%"],
        ["#####", "8", "16"],
        ["dense_1", "XXXXX", "-" * 20, "48", "50.0%"],
        ["#####", "8", "3"],
        ["add", "\\", "+", "/", "-" * 20, "3", "3.1%"],
        ["#####", "8", "3"],
        ["5", "ops,", "net.py:8", "|", "-" * 20, "0", "0.0%"],
        ["#####", "8", "3"],
        ["(not", "in", "the", "output)", "-" * 20, "9", "9.4%"],
        ["TOTAL", "96", "384", "B"],
    ]


def test_summary_of_a_function_without_layers_names_its_ops() -> None:
    """Parameters of the model itself belong to the ops that read them."""
    where = Where("net.py", 2, "line")
    x = leaf("x", "input", Type((5, 2), F))
    w, shift = (leaf(f"line/{n}", "param", Type(s, F), where) for n, s in (("w", (2, 1)), ("b", (1,))))
    with b.at(where):
        graph = Graph((x,), (("output", b.add(b.matmul(x, w), shift)),), name="line:inference")
    rows = [line.split() for line in summary(graph, {"line/w": w.out, "line/b": shift.out}).splitlines() if line]
    assert [(row[0], row[-2]) for row in rows if row[-1].endswith("%")] == [("matmul", "2"), ("add", "1")]


def test_folding_shows_a_line_a_call_and_phase() -> None:
    """A call's ops, its parameters and the shapes on both sides are one line; ops between calls keep theirs."""
    graph, _ = layers()
    lines = graph_listing(graph, collapse=1).splitlines()
    assert lines[2] == "   2 net/conv2d_1(1)  [1 op, 36 parameters] (8,1,6,6) -> (8,4,4,4)"
    assert lines[3] == "   3 relu(2) name=>net shape=>(8,4,4,4) float32  at net.py:4"
    whole = graph_listing(graph, collapse=0).splitlines()
    assert whole[2] == "   2 net(1)  [12 ops, 87 parameters] (8,1,6,6) -> (8,3)"
