"""simplify, rule by rule: the graph before, the graph expected after, and equal values of both."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.backend_numpy import NumpyBackend
from graphnet.compiler import build as b
from graphnet.compiler.autodiff import gradients
from graphnet.compiler.ir import NOWHERE, Graph, Type, Where, leaf
from graphnet.compiler.lower import lower
from graphnet.compiler.ops.control import cond, scan
from graphnet.compiler.passes import Context
from graphnet.compiler.passes.simplify import simplify
from graphnet.compiler.verify import verify


def given(name, *shape, dtype="float64"):
    return leaf(name, "input", Type(shape, dtype))


X, Y = given("x", 2, 3), given("y", 2, 3)
ROW, COLUMN, SCALAR = given("row", 3), given("column", 2, 1), given("scalar")
WIDE, IDS = given("wide", 4, 6), given("ids", 2, 3, dtype="int32")


def run(graph):
    """Values of a graph's results, for inputs drawn by name."""
    executable = NumpyBackend().bind(lower(graph), {})
    for name, array in executable.inputs.items():
        draw = np.random.default_rng(sum(name.encode()))
        array[...] = draw.integers(0, 5, array.shape) if array.dtype.kind == "i" else draw.normal(size=array.shape) ** 2
    executable.run()
    return {name: array.copy() for name, array in executable.outputs.items()}


def simplified(node):
    """The node that simplify makes of ``node``; checks types, values and that a second run changes nothing."""
    before = Graph((), (("y", node),))
    after = simplify(before, Context())
    verify(after, "after simplify")
    assert simplify(after, Context()) == after
    assert after.output("y").out == node.out
    np.testing.assert_allclose(run(after)["y"], run(before)["y"], rtol=1e-14)
    return after.output("y")


def zeros(*shape):
    return b.full(shape, 0.0, "float64")


def ones(*shape):
    return b.full(shape, 1.0, "float64")


def cut(x, starts, sizes, steps=None):
    return b.apply("slice", x, starts=starts, sizes=sizes, steps=steps or (1,) * x.ndim)


def placed(x, shape, starts, steps=None):
    return b.apply("place", x, shape=shape, starts=starts, steps=steps or (1,) * len(shape))


def total(x, axes, keepdims=False):
    return b.apply("sum", x, axes=axes, keepdims=keepdims)


RULES = {
    "x + 0": (b.add(X, 0.0), X),
    "0 + x": (b.add(0.0, X), X),
    "x + zeros": (b.add(X, zeros(2, 3)), X),
    "row + zeros of a matrix": (b.add(ROW, zeros(2, 3)), b.broadcast_to(ROW, (2, 3))),
    "x - 0": (b.sub(X, 0.0), X),
    "x + -y": (b.add(X, b.neg(Y)), b.sub(X, Y)),
    "x - -y": (b.sub(X, b.neg(Y)), b.add(X, Y)),
    "-(-x)": (b.neg(b.neg(X)), X),
    "x * 1": (b.mul(X, 1.0), X),
    "1 * x": (b.mul(1.0, X), X),
    "x * ones": (b.mul(X, ones(1, 3)), X),
    "x / 1": (b.div(X, 1.0), X),
    "x ** 1": (b.pow_(X, 1.0), X),
    "x ** 2": (b.pow_(X, 2.0), b.unary("square", X)),
    "x ** -1": (b.pow_(X, -1.0), b.unary("reciprocal", X)),
    "x ** 0.5": (b.pow_(X, 0.5), b.unary("sqrt", X)),
    "cast to its own dtype": (b.apply("cast", X, dtype="float64"), X),
    "reshape to its own shape": (b.apply("reshape", X, shape=(2, 3)), X),
    "reshape of a reshape": (b.reshape(b.reshape(X, (6,)), (3, 2)), b.reshape(X, (3, 2))),
    "reshape there and back": (b.reshape(b.reshape(X, (6,)), (2, 3)), X),
    "transpose that moves nothing": (b.apply("transpose", X, perm=(0, 1)), X),
    "transpose there and back": (b.transpose(b.transpose(X, (1, 0)), (1, 0)), X),
    "two transposes": (
        b.transpose(b.transpose(b.reshape(WIDE, (4, 2, 3)), (2, 0, 1)), (0, 2, 1)),
        b.transpose(b.reshape(WIDE, (4, 2, 3)), (2, 1, 0)),
    ),
    "broadcast to its own shape": (b.apply("broadcast_to", X, shape=(2, 3)), X),
    "broadcast of a broadcast": (
        b.broadcast_to(b.broadcast_to(ROW, (2, 3)), (4, 2, 3)),
        b.broadcast_to(ROW, (4, 2, 3)),
    ),
    "broadcast operand": (b.mul(X, b.broadcast_to(ROW, (2, 3))), b.mul(X, ROW)),
    "broadcast operands": (
        b.mul(b.broadcast_to(COLUMN, (2, 3)), b.broadcast_to(ROW, (2, 3))),
        b.mul(COLUMN, ROW),
    ),
    "slice of everything": (cut(X, (0, 0), (2, 3)), X),
    "slice of a slice": (
        cut(cut(WIDE, (1, 5), (3, 3), (1, -2)), (2, 1), (1, 2), (1, 1)),
        cut(WIDE, (3, 3), (1, 2), (1, -2)),
    ),
    "slice of what was placed there": (cut(placed(X, (4, 6), (1, 0), (1, 2)), (1, 0), (2, 3), (1, 2)), X),
    "part of a concatenation": (cut(b.concat([X, ROW_ := b.reshape(ROW, (1, 3)), Y], 0), (2, 0), (1, 3)), ROW_),
    "sum over axes of size 1": (total(COLUMN, (1,)), b.reshape(COLUMN, (2,))),
    "sum of a sum": (total(total(b.reshape(WIDE, (4, 2, 3)), (1,)), (1,)), total(b.reshape(WIDE, (4, 2, 3)), (1, 2))),
    "rules one after another": (b.mul(b.add(b.neg(b.neg(X)), 0.0), b.pow_(Y, 1.0)), b.mul(X, Y)),
}


@pytest.mark.parametrize("name", RULES)
def test_rule(name):
    """The expected node itself: equal nodes are one object."""
    before, expected = RULES[name]
    assert simplified(before) is expected


LEFT_ALONE = {
    "x * 0, which is NaN where x is infinite": b.mul(X, 0.0),
    "0 - x": b.sub(0.0, X),
    "x - x": b.sub(X, X),
    "x / x": b.div(X, X),
    "x ** 3": b.pow_(X, 3.0),
    "integer power": b.pow_(IDS, 2),
    "cast that rounds": b.cast(b.cast(X, "int32"), "float64"),
    "slice across two parts": cut(b.concat([X, Y], 0), (1, 0), (2, 3)),
    "slice of part of a part": cut(b.concat([X, Y], 0), (0, 1), (2, 2)),
    "slice beside what was placed": cut(placed(X, (4, 6), (1, 0)), (0, 0), (2, 3)),
    "sum that keeps axes of a sum": total(total(X, (0,), True), (1,), True),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_might_change_a_result_is_left_alone(name):
    """The same node comes back."""
    assert simplified(LEFT_ALONE[name]) is LEFT_ALONE[name]


def test_an_operation_on_repeated_values_is_done_before_they_are_repeated():
    """exp(broadcast_to(row)) -> broadcast_to(exp(row)); numbers beside it do not hinder."""
    big = b.broadcast_to(ROW, (2, 3))
    assert simplified(b.unary("exp", big)) is b.broadcast_to(b.unary("exp", ROW), (2, 3))
    assert simplified(b.mul(big, 2.0)) is b.broadcast_to(b.mul(ROW, 2.0), (2, 3))


# -- sums of places -------------------------------------------------------------------------------------

PARTS = [given(f"part{i}", 2, n) for i, n in enumerate((3, 1, 2, 3))]
STARTS = (0, 3, 4, 6)


def quarters(order):
    places = [placed(PARTS[i], (2, 9), (0, STARTS[i])) for i in order]
    return places


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_a_sum_of_four_places_is_a_concatenation(order):
    """Whatever their order, and however the additions nest."""
    p, q, r, s = quarters(order)
    expected = b.concat(PARTS, 1)
    assert simplified(b.add(b.add(b.add(p, q), r), s)) is expected
    assert simplified(b.add(b.add(p, q), b.add(r, s))) is expected
    assert simplified(b.add(p, b.add(q, b.add(r, s)))) is expected


def test_the_gradient_of_four_gates_is_a_concatenation():
    """What the rule is for: slices of one product, differentiated, give one array."""
    whole = given("whole", 2, 12)
    gates = [b.narrow(whole, 1, 3 * i, 3) for i in range(4)]
    loss = b.sum_(b.mul(b.mul(gates[0], gates[1]), b.add(b.unary("tanh", gates[2]), gates[3])), [0, 1])
    (found,) = gradients([(loss, b.scalar(1.0, "float64"))], [whole])
    assert [n.op for n in Graph((), (("g", found),)).nodes()].count("place") == 4
    after = simplified(found)
    assert after.op == "concat"
    assert len(after.inputs) == 4
    assert "place" not in [n.op for n in Graph((), (("g", after),)).nodes()]


def test_a_chain_of_many_places():
    """The gradient of 3,000 indexed rows, one addition each, is one concatenation."""
    rows = [given(f"row{i}", 1, 2) for i in range(3000)]
    chain = placed(rows[0], (3000, 2), (0, 0))
    for i, row in enumerate(rows[1:], 1):
        chain = b.add(chain, placed(row, (3000, 2), (i, 0)))
    assert simplify(Graph((), (("y", chain),)), Context()).output("y") is b.concat(rows, 0)


def test_places_that_do_not_tile_stay_a_sum():
    """A gap, an overlap, both at once, another axis, a step or another summand."""
    p, q, r, s = quarters((0, 1, 2, 3))
    for terms in (
        (p, q, s),
        (p, placed(PARTS[3], (2, 9), (0, 2)), r, s),
        (p, placed(PARTS[1], (2, 9), (0, 2)), r, s),
        (p, q, r, s, given("more", 2, 9)),
        (placed(PARTS[0], (4, 6), (0, 0)), placed(PARTS[3], (4, 6), (2, 3))),
        (placed(PARTS[0], (2, 6), (0, 0), (1, 2)), placed(PARTS[3], (2, 6), (0, 1), (1, 2))),
    ):
        node = terms[0]
        for term in terms[1:]:
            node = b.add(node, term)
        assert simplified(node).op == "add"


# -- bodies ---------------------------------------------------------------------------------------------


def test_bodies_are_simplified_too():
    """In loops and in both branches."""
    c, x, time = (
        leaf("c", "carry", X.out, depth=1),
        leaf("x", "x", ROW.out, depth=1),
        leaf("t", "time", Type((), "int32")),
    )
    xs = given("xs", 4, 3)

    def loop(new):
        return b.item(scan([X], [xs], [], (c, x, time), ([new], [], []), 4, False, NOWHERE), 0)

    assert simplified(loop(b.mul(b.neg(b.neg(c)), b.broadcast_to(x, (2, 3))))) is loop(b.mul(c, x))
    inner = leaf("c", "const", X.out, depth=1)

    def branch(then, orelse):
        graphs = [Graph((inner,), (("result", n),), name="body") for n in (then, orelse)]
        return b.item(cond(b.gt(SCALAR, 0.0), *graphs, [X], NOWHERE), 0)

    before = branch(b.add(inner, 0.0), b.mul(b.pow_(inner, 2.0), 1.0))
    assert simplified(before) is branch(inner, b.unary("square", inner))


def test_lines_survive_rewriting():
    """The new node belongs to the line of the node it replaces."""
    a = given("a", 5)
    with b.at(Where("user.py", 7, "net")):
        node = b.pow_(a, 2.0)
    after = simplify(Graph((), (("y", node),)), Context()).output("y")
    assert after.op == "square"
    assert after.where == Where("user.py", 7, "net")
