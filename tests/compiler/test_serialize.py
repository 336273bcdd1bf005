"""Graphs written as plain values and read back: nothing is lost, and nothing wrong is let through."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

import graphnet.compiler.ops
from graphnet.compiler import build as b
from graphnet.compiler.errors import CompileError
from graphnet.compiler.infer import MAX_BYTES
from graphnet.compiler.ir import NOWHERE, Constant, Graph, Node, Type, Where, leaf, make, session
from graphnet.compiler.ops import control
from graphnet.compiler.record import REGISTRY, Op, Sample
from graphnet.compiler.serialize import MAX_CALLS, Reader, Writer, read_type, write_type

X = leaf("x", "input", Type((2, 3), "float32"), Where("/home/someone/model.py", 7, "net/dense_1"))
DTYPES = {"float": "float32", "bool": "bool", "uint64": "uint64", "window4": "uint8", "window9": "uint8"}


def graph_of(*results: Node, inputs: Sequence[Node] = (X,), name: str = "test") -> Graph:
    return Graph(tuple(inputs), tuple((f"output/{i}", n) for i, n in enumerate(results)), (), name)


def copied(graph: Graph) -> Graph:
    """The graph after a way through JSON text."""
    writer = Writer()
    plain = json.loads(json.dumps(writer.graph(graph), allow_nan=False))
    return Reader(writer.wheres, writer.constants).graph(plain)


def plain(graph: Graph) -> tuple[Any, Reader]:
    """The plain values of a graph, to be spoilt, and a reader for them."""
    writer = Writer()
    values = writer.graph(graph)
    return values, Reader(writer.wheres, writer.constants)


def summed(length: int, inner: Graph | None = None) -> Node:
    """A loop that adds up the rows of x ``length`` times."""
    depth = 1 if inner is None else 2
    carry, time = (
        leaf("carry0", "carry", Type((), "float32"), depth=depth),
        leaf("time", "time", Type((), "int32"), depth=depth),
    )
    new = b.add(carry, 1.0)
    loop = control.scan([b.scalar(0.0, "float32")], [], [], [carry, time], ([new], [], []), length, False, NOWHERE)
    return b.item(loop, 0)


SAMPLES = [(op, i, sample) for op in REGISTRY.values() for i, sample in enumerate(op.samples)]


@pytest.mark.parametrize(("op", "index", "sample"), SAMPLES, ids=[f"{op.name}{i}" for op, i, _ in SAMPLES])
def test_every_op_comes_back(op: Op, index: int, sample: Sample) -> None:
    """A call of each op's samples is the very same interned node after writing and reading."""
    kinds = sample.dtypes or ("float",) * len(sample.shapes)
    dtypes = [DTYPES.get(kind, "int32" if kind.startswith("index") else kind) for kind in kinds]
    leaves = [
        leaf(f"x{i}", "input", Type(shape, dtype))
        for i, (shape, dtype) in enumerate(zip(sample.shapes, dtypes, strict=True))
    ]
    attrs = {**dict.fromkeys(op.attrs, 0), **sample.attrs}
    if op.name == "cast":
        attrs = {"dtype": "float64", **sample.attrs}
    graph = graph_of(b.apply(op.name, *leaves, **attrs), inputs=leaves)
    assert copied(graph) == graph


def test_loops_branches_updates_and_constants_come_back() -> None:
    """Nested bodies, an updated state and constants of every dtype."""
    test, inner = leaf("x", "input", Type((), "bool")), leaf("a", "const", Type((2, 3), "float32"), depth=1)
    then, orelse = graph_of(b.neg(inner), inputs=[inner]), graph_of(b.add(inner, math.inf), inputs=[inner])
    chosen = b.item(control.cond(test, then, orelse, [X], NOWHERE), 0)
    values = [b.cast(b.scalar(1, dtype), "float32") for dtype in ("bool", "uint8", "int64", "uint64", "float64")]
    table = make("constant", (), {"value": Constant(b"\0\1", (2,), "bool"), "captured": True}, Type((2,), "bool"))
    home = leaf("s", "state", Type((), "float32"))
    results = graph_of(chosen, summed(5), *values, table, inputs=[X, test])
    graph = results.with_results(updates=[(home, summed(5))])
    assert copied(graph) == graph


def test_source_lines_come_back_without_folders() -> None:
    """The user's file, line and scope are kept, the folders are not: they are private and differ."""
    values, reader = plain(graph_of(b.neg(X)))
    with session():
        found = reader.graph(json.loads(json.dumps(values))).inputs[0].where
    assert found == Where("model.py", 7, "net/dense_1")


@pytest.mark.parametrize("value", [1.5, -0.0, math.inf, -math.inf, True, 0, -3, "é", None, ((), (1, ("a",)))])
def test_attribute_values_come_back(value: Any) -> None:
    """Numbers, texts and nests of tuples, infinities included."""
    found = Reader([], []).value(json.loads(json.dumps(Writer().value(value), allow_nan=False)))
    assert repr(found) == repr(value)


def test_what_has_no_plain_form_is_refused() -> None:
    """Lists, sets and objects are no attributes."""
    with pytest.raises(CompileError, match="an attribute of type list has no plain form"):
        Writer().value([1])


@pytest.mark.parametrize(
    "value",
    [{}, {"float": "1e5"}, {"float": 1}, {"constant": 0}, {"graph": 3}, {"a": 1}, {"float": "nan", "b": 1}, 2**63],
)
def test_wrong_attribute_values_are_refused(value: Any) -> None:
    """Objects of no known kind, references to nothing, integers of more than 64 bits."""
    with pytest.raises(CompileError):
        Reader([], []).value(value)


@pytest.mark.parametrize(
    "data",
    [
        *(None, {}, [], ["float16", 1], ["float32", -1], ["float32", 1.0], ["float32", True], [3, 3]),
        *(["float32", MAX_BYTES], ["float32", 2**40, 2**40], ["float32", 0, 2**60], ["float32", *[1] * 33]),
    ],
    ids=repr,
)
def test_wrong_types_are_refused(data: Any) -> None:
    """Sizes are non-negative integers whose array could exist."""
    with pytest.raises(CompileError):
        read_type(data)


def test_type_is_a_list_of_dtype_and_sizes() -> None:
    assert write_type(Type((2, 0), "bool")) == ["bool", 2, 0]
    assert read_type(["bool", 2, 0]) == Type((2, 0), "bool")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("op", "scan", "the attributes are"),
        ("op", 3, "op: need printable text"),
        ("inputs", [0, 0], "neg: takes x, got 2"),
        ("inputs", {}, "need a list"),
        ("attrs", [], "need an object"),
        ("type", ["float32", 3, 2], "its operands give"),
        ("type", None, "its operands give"),
        ("where", 5, "source line"),
        ("more", 5, "need an object with op"),
    ],
)
def test_wrong_nodes_are_refused(key: str, value: Any, said: str) -> None:
    """Each part of a node is checked, and the message counts the node."""
    values, reader = plain(graph_of(b.neg(X)))
    values["nodes"][1][key] = value
    with pytest.raises(CompileError, match=f"^node 1: .*{said}"):
        reader.graph(values)


WEIGHT = leaf("w", "param", Type((4, 3, 2, 2), "float32"))
GRADIENT = leaf("g", "input", Type((2, 4, 3, 5), "float32"))
NO_PADDING = ((0, 0), (0, 0))
POOLED = b.apply("window_sum", GRADIENT, kernel=(2, 2), stride=(1, 1), padding=NO_PADDING)
ADJOINT = b.apply(
    "conv2d_input",
    GRADIENT,
    WEIGHT,
    shape=(2, 3, 4, 6),
    stride=(1, 1),
    padding=NO_PADDING,
    dilation=(1, 1),
    groups=1,
)


@pytest.mark.parametrize(
    ("node", "attrs", "said"),
    [
        (b.sum_(X, [1]), {"axes": (5,)}, "axes"),
        (b.sum_(X, [1]), {"axes": (-1,)}, "axes may not be"),
        (b.sum_(X, [1]), {"keepdims": 1}, "keepdims may not be 1"),
        (b.apply("cumsum", X, axis=0, reverse=False), {"axis": 7}, "there is no axis 7"),
        (b.iota((2, 2), 0), {"axis": 2}, "there is no axis 2"),
        (b.iota((2, 2), 0), {"shape": (10**9, 10**9)}, "larger than"),
        (b.iota((2, 2), 0), {"dtype": "complex64"}, "dtype may not be"),
        (b.concat([X, X], 0), {"axis": -1}, "axis may not be -1"),
        (b.reshape(X, (6,)), {"shape": (-6,)}, "shape may not be"),
        (b.slice_(X, (0, 0), (1, 1), (1, 1)), {"starts": (0,)}, "slice"),
        (b.slice_(X, (0, 0), (1, 1), (1, 1)), {"starts": (1, 9)}, "outside axis 1"),
        (POOLED, {"stride": (0, 0)}, "stride may not be"),
        (ADJOINT, {"shape": (9, 3, 99, 99)}, "gives"),
        (ADJOINT, {"shape": (2,)}, "conv2d_input"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(node: Node, attrs: dict[str, Any], said: str) -> None:
    """Also where a shape rule takes the attribute on trust."""
    wrong = make(node.op, node.inputs, {**node.attrs, **attrs}, node.type)
    values, reader = plain(graph_of(wrong, inputs=node.inputs))
    with pytest.raises(CompileError, match=said):
        reader.graph(values)


def test_loops_that_would_run_for_ever_are_refused() -> None:
    """Nested loops multiply; what no machine unrolls is refused before it tries."""
    copied(graph_of(summed(1000), inputs=[]))
    with pytest.raises(CompileError, match=f"more than {MAX_CALLS:,} ops"):
        copied(graph_of(summed(MAX_CALLS), inputs=[]))


def test_bodies_are_closed() -> None:
    """A body that reads a leaf of the outer graph is refused."""
    values, reader = plain(graph_of(summed(3), inputs=[]))
    scan = next(n for n in values["nodes"] if n["op"] == "scan")
    body = scan["attrs"]["body"]["graph"]
    body["nodes"].append({**body["nodes"][0], "attrs": {"name": "y", "role": "const", "depth": 1}})
    body["outputs"][0][1] = len(body["nodes"]) - 1
    with pytest.raises(CompileError, match="which is not one of its inputs"):
        reader.graph(values)


def test_registry_is_what_reading_knows() -> None:
    """Every op of the package can be in a file; those that passes make cannot."""
    assert graphnet.compiler.ops.REGISTRY is REGISTRY
    values, reader = plain(graph_of(b.neg(X)))
    values["nodes"][1]["op"] = "fused"
    with pytest.raises(CompileError, match="unknown op 'fused'"):
        reader.graph(values)
