"""exchange_gather: hand-written graphs before and after, reasons for declining, and equal values."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_numpy import NumpyBackend
from graphnet.compiler import build as b
from graphnet.compiler.ir import Graph, Type, leaf
from graphnet.compiler.lower import lower
from graphnet.compiler.passes import Context
from graphnet.compiler.passes.exchange import exchange_gather
from graphnet.compiler.verify import verify


def given(name, *shape, dtype="float64"):
    return leaf(name, "input", Type(shape, dtype))


ROWS = 5
TABLE, W, ROW = given("table", ROWS, 4), given("w", 4, 3), given("row", 3)
IDS, FEW, FLAT = (given(n, *s, dtype="int32") for n, s in (("ids", (3, 6)), ("few", (2, 2)), ("flat", (18,))))


def take(table, ids):
    return b.apply("take", table, ids)


def scatter(g, ids):
    return b.apply("scatter_add", g, ids, rows=ROWS)


def run(graph):
    """Values of a graph's results, for inputs drawn by name; ids are rows of the table."""
    executable = NumpyBackend().bind(lower(graph), {})
    for name, array in executable.inputs.items():
        draw = np.random.default_rng(sum(name.encode()))
        array[...] = draw.integers(0, ROWS, array.shape) if array.dtype.kind == "i" else draw.normal(size=array.shape)
    executable.run()
    return executable.outputs["y"].copy()


def exchanged(node, context=None):
    """The node the pass makes of ``node``; checks types, values and that a second run changes nothing."""
    before = Graph((), (("y", node),))
    after = exchange_gather(before, context or Context())
    verify(after, "after exchange_gather")
    assert exchange_gather(after, Context()) == after
    assert after.output("y").out == node.out
    np.testing.assert_allclose(run(after), run(before), rtol=1e-12, atol=1e-14)
    return after.output("y")


def test_the_table_is_multiplied_before_rows_are_gathered():
    """18 gathers from 5 rows: the product of the table has 5 rows instead of 18."""
    assert exchanged(b.matmul(take(TABLE, IDS), W)) is take(b.matmul(TABLE, W), IDS)


def test_a_bias_and_an_activation_follow():
    """Row by row operations with one row for all."""
    before = b.unary("tanh", b.add(b.matmul(take(TABLE, IDS), W), ROW))
    assert exchanged(before) is take(b.unary("tanh", b.add(b.matmul(TABLE, W), ROW)), IDS)


def test_transposed_and_reshaped_gathers_are_gathers_of_transposed_ids():
    """As recurrent layers make them: time first, or all rows in one axis."""
    gathered = take(TABLE, IDS)
    assert exchanged(b.transpose(gathered, (1, 0, 2))) is take(TABLE, b.transpose(IDS, (1, 0)))
    assert exchanged(b.reshape(gathered, (18, 4))) is take(TABLE, b.reshape(IDS, (18,)))
    product = b.matmul(b.transpose(gathered, (1, 0, 2)), W)
    assert exchanged(product) is take(b.matmul(TABLE, W), b.transpose(IDS, (1, 0)))


def test_gradients_are_summed_by_row_before_they_are_multiplied():
    """scatter(g @ w', ids) -> scatter(g, ids) @ w', the gradient of the table."""
    g = given("g", 3, 6, 3)
    transposed = b.transpose(W, (1, 0))
    assert exchanged(scatter(b.matmul(g, transposed), IDS)) is b.matmul(scatter(g, IDS), transposed)


def test_the_weight_gradient_goes_through_the_table():
    """take(table)' @ g -> table' @ scatter(g)."""
    g = given("g2", 18, 3)
    before = b.matmul(b.transpose(take(TABLE, FLAT), (1, 0)), g)
    assert exchanged(before) is b.matmul(b.transpose(TABLE, (1, 0)), scatter(g, FLAT))


@pytest.mark.parametrize(
    "node",
    [
        b.matmul(take(TABLE, FEW), W),
        b.unary("exp", take(TABLE, IDS)),
        b.add(take(TABLE, IDS), given("other", 3, 6, 4)),
        b.add(take(TABLE, IDS), given("column", 3, 6, 1)),
        b.mul(take(TABLE, IDS), take(given("table2", ROWS, 4), IDS)),
        b.transpose(take(TABLE, IDS), (0, 2, 1)),
        b.reshape(take(TABLE, IDS), (3, 24)),
        b.matmul(take(given("line", ROWS), IDS), given("v", 6, 2)),
    ],
    ids=[
        "fewer gathers than rows",
        "function that is not finite everywhere",
        "operand with rows of its own",
        "operand with a number for each row",
        "two gathers",
        "transposed feature axis",
        "reshaped feature axis",
        "table of numbers",
    ],
)
def test_what_gains_nothing_or_changes_values_is_left_alone(node):
    """The same node comes back."""
    assert exchanged(node) is node


def test_declining_says_why():
    """The sizes that decide, for net.explain()."""
    context = Context()
    exchanged(b.matmul(take(TABLE, FEW), W), context)
    assert context.declined == [
        f"exchange_gather: <graphnet>:0: matmul: the table's {ROWS} rows are not fewer than 4 gathers"
    ]


def language_model(ids, vocabulary):
    x = gn.layers.embedding(ids, vocabulary, 4)
    return gn.layers.dense(gn.layers.lstm(x, 3), 7)


def compiled(vocabulary):
    return gn.compile(
        language_model,
        gn.spec((2, 10), "int32"),
        loss=gn.losses.softmax_cross_entropy,
        optimizer=gn.optim.SGD(lr=0.1),
        vocabulary=vocabulary,
    )


def shapes(net, op):
    return [tuple(i.shape for i in n.inputs) for n in net.plans[0].plan.graph.nodes() if n.op == op]


def test_a_language_model_multiplies_its_table():
    """20 ids of 7 letters: forward and both gradients work on 7 rows, and explain() has nothing to say."""
    net = compiled(7)
    products = shapes(net, "matmul")
    assert ((7, 4), (4, 12)) in products  # table @ wx
    assert ((4, 7), (7, 12)) in products  # table' @ summed gates: the gradient of wx
    assert ((7, 12), (12, 4)) in products  # summed gates @ wx': the gradient of the table
    assert not [p for p in products if p[0] in ((20, 4), (4, 20))]
    assert "exchange_gather:" not in net.explain()


def test_a_language_model_with_a_large_table_gathers_first():
    """20 ids of 50 words: the product has 20 rows, and explain() gives the sizes."""
    net = compiled(50)
    products = shapes(net, "matmul")
    assert ((20, 4), (4, 12)) in products
    assert not [p for p in products if 50 in p[0]]
    assert "the table's 50 rows are not fewer than 20 gathers" in net.explain()


def test_both_ways_train_alike():
    """A table with unused rows makes the pass decline; the losses are those of the small table."""
    draw = np.random.default_rng(0)
    ids, target = draw.integers(0, 7, (2, 10)), draw.integers(0, 7, (2, 10))
    small, large = compiled(7), compiled(50)
    for name, value in small.params.items():
        large.params[name][: len(value)] = value
    for _ in range(5):
        assert small.step(ids, target) == pytest.approx(large.step(ids, target), rel=1e-5)
