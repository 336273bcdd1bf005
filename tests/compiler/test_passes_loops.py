"""merge_loops, hoist_loops, sink_loops and prune_loops: hand-written loops before and after, and equal values."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_numpy import NumpyBackend
from graphnet.compiler import build as b
from graphnet.compiler.autodiff import gradients
from graphnet.compiler.ir import NOWHERE, Graph, Type, leaf
from graphnet.compiler.lower import lower
from graphnet.compiler.ops.control import parts, scan
from graphnet.compiler.passes import Context
from graphnet.compiler.passes.loop_passes import hoist_loops, merge_loops, prune_loops, sink_loops
from graphnet.compiler.passes.pipeline import count_nodes
from graphnet.compiler.schedule import flat
from graphnet.compiler.verify import verify

STEPS = 5


def given(name, *shape, role="input", dtype="float64", depth=0):
    return leaf(name, role, Type(shape, dtype), depth=depth)


# a loop over rows x (2, 4) with carry c (2, 3) and weights w (4, 3), u (3, 3); outside and inside names
C0, XS, W, U = given("c0", 2, 3), given("xs", STEPS, 2, 4), given("w0", 4, 3), given("u0", 3, 3)
C, X = given("c", 2, 3, role="carry", depth=1), given("x", 2, 4, role="x", depth=1)
WI, UI = given("w", 4, 3, role="const", depth=1), given("u", 3, 3, role="const", depth=1)
TIME = given("time", role="time", dtype="int32", depth=1)


def loop(carry, stacks=(), sums=(), reverse=False):
    """The scan with these body results."""
    return scan([C0], [XS], [W, U], (C, X, TIME, WI, UI), ([carry], stacks, sums), STEPS, reverse, NOWHERE)


def results(node, count=None):
    """A graph of the results of a loop."""
    return Graph((), tuple((f"r{i}", b.item(node, i)) for i in range(len(node.types) if count is None else count)))


def run(graph):
    """Values of a graph's results, for inputs drawn by name."""
    executable = NumpyBackend().bind(lower(graph), {})
    for name, array in executable.inputs.items():
        draw = np.random.default_rng(sum(name.encode()))
        array[...] = draw.integers(0, 2, array.shape) if array.dtype.kind == "i" else draw.normal(size=array.shape)
    executable.run()
    return {name: array.copy() for name, array in executable.outputs.items()}


def applied(function, before, context=None):
    """The graph after a pass; checks types, values and that a second run changes nothing."""
    after = function(before, context or Context())
    verify(after, f"after {function.__name__}")
    assert function(after, Context()) == after
    expected, found = run(before), run(after)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-13)
    return after


def scans(graph):
    return [n for n in graph.nodes() if n.op == "scan"]


def body_ops(node):
    return [n.op for n in node.attrs["body"].nodes() if n.op != "input"]


def rows(x, w):
    """x @ w for all iterations, as one product of two matrices."""
    time, batch, inner = x.shape
    product = b.matmul(b.reshape(x, (time * batch, inner)), w)
    return b.reshape(product, (time, batch, w.shape[1]))


# -- merge_loops ----------------------------------------------------------------------------------------

NEW = b.unary("tanh", b.add(b.matmul(C, UI), b.matmul(X, WI)))


def test_loops_that_differ_in_what_they_collect_become_one():
    """The union of stacks and sums, each once; the results are read from it."""
    h, squared = b.mul(NEW, 2.0), b.unary("square", NEW)
    one, two = loop(NEW, [NEW, h], [squared]), loop(NEW, [squared, h], [squared, h])
    before = Graph((), tuple((f"r{k}{i}", b.item(n, i)) for k, n in enumerate((one, two)) for i in range(len(n.types))))
    union = loop(NEW, [NEW, h, squared], [squared, h])
    #                 carry stack0 stack1 sum0 | carry stack0 stack1 sum0 sum1
    places = (0, 1, 2, 4, 0, 3, 2, 4, 5)
    expected = Graph((), tuple((n, b.item(union, i)) for (n, _), i in zip(before.outputs, places, strict=True)))
    assert applied(merge_loops, before) == expected


def test_loops_that_differ_otherwise_stay_apart():
    """Another direction, another new carry or other operands."""
    other = scan([C0], [b.mul(XS, 2.0)], [W, U], (C, X, TIME, WI, UI), ([NEW], [NEW], []), STEPS, False, NOWHERE)
    nodes = (loop(NEW, [NEW]), loop(NEW, [NEW], reverse=True), loop(b.mul(NEW, 2.0), [NEW]), other)
    before = Graph((), tuple((f"r{i}", b.item(n, 1)) for i, n in enumerate(nodes)))
    assert applied(merge_loops, before) == before


def test_the_scan_that_collects_for_the_gradient_merges_into_the_first():
    """Differentiation makes a second forward loop; after the pass there is one, and one backward."""
    loss = b.sum_(b.unary("square", b.item(loop(NEW, [NEW]), 1)), [0, 1, 2])
    found = gradients([(loss, b.scalar(1.0, "float64"))], [W, U, C0])
    before = Graph((), (("loss", loss), *((f"g{i}", g) for i, g in enumerate(found))))
    assert [parts(s).reverse for s in scans(before)].count(False) == 2
    after = applied(merge_loops, before)
    assert sorted(parts(s).reverse for s in scans(after)) == [False, True]


# -- hoist_loops ----------------------------------------------------------------------------------------


def test_products_of_inputs_move_in_front_of_the_loop():
    """tanh(c @ u + x @ w): all x @ w at once, and the loop reads them row by row."""
    after = applied(hoist_loops, results(loop(NEW, [NEW])))
    ahead = given("ahead0", 2, 3, role="x", depth=1)
    new = b.unary("tanh", b.add(b.matmul(C, UI), ahead))
    inputs = (C, X, ahead, TIME, WI, UI)
    expected = scan([C0], [XS, rows(XS, W)], [W, U], inputs, ([new], [new], []), STEPS, False, NOWHERE)
    assert after == results(expected)


def test_products_with_their_bias_and_activation_move_together():
    """What is hoisted ends where the carry enters."""
    gate = b.unary("sigmoid", b.add(b.matmul(X, WI), 1.0))
    after = applied(hoist_loops, results(loop(b.mul(C, gate))))
    (node,) = scans(after)
    assert body_ops(node) == ["mul"]
    (lifted,) = [x for x in parts(node).xs if x is not XS]
    assert lifted is b.unary("sigmoid", b.add(rows(XS, W), 1.0))


def test_what_does_not_change_in_the_loop_is_computed_once_before_it():
    """Even if it is cheap: u * 2 for all iterations."""
    after = applied(hoist_loops, results(loop(b.unary("tanh", b.matmul(C, b.mul(UI, 2.0))))))
    fixed = given("fixed0", 3, 3, role="const", depth=1)
    new = b.unary("tanh", b.matmul(C, fixed))
    inputs = (C, X, TIME, WI, UI, fixed)
    expected = scan([C0], [XS], [W, U, b.mul(U, 2.0)], inputs, ([new], [], []), STEPS, False, NOWHERE)
    assert after == results(expected)


def test_cheap_work_on_inputs_stays_in_the_loop():
    """Its values for all iterations would only cost memory."""
    before = results(loop(b.mul(C, b.sum_(b.unary("exp", X), [1], True))))
    assert applied(hoist_loops, before) == before


def test_work_that_cannot_be_done_for_all_iterations_stays_and_says_why():
    """A scatter has no form with a leading time axis."""
    ids = b.cast(b.unary("abs", b.narrow(X, 1, 0, 1)), "int32")
    rows_ = b.apply("scatter_add", b.matmul(X, WI), b.mul(b.reshape(ids, (2,)), 0), rows=2)
    context = Context()
    before = results(loop(b.add(C, rows_)))
    assert applied(hoist_loops, before, context) == before
    assert context.declined == [
        "hoist_loops: <graphnet>:0: scatter_add: stays in the loop: scatter_add has no form for all iterations at once"
    ]


def test_work_on_the_loop_counter_moves_too():
    """The counter of all iterations is an index ramp."""
    weight = b.matmul(b.mul(X, b.cast(TIME, "float64")), WI)
    after = applied(hoist_loops, results(loop(b.add(C, weight))))
    assert body_ops(scans(after)[0]) == ["add"]
    assert "iota" in [n.op for n in after.nodes()]


@pytest.mark.parametrize("reverse", [False, True])
def test_hoisting_from_a_reversed_loop(reverse):
    """Rows keep their places: only the order of reading differs."""
    before = results(loop(NEW, [NEW], reverse=reverse))
    assert body_ops(scans(applied(hoist_loops, before))[0]).count("matmul") == 1


# -- sink_loops -----------------------------------------------------------------------------------------


def test_products_of_what_is_stacked_move_behind_the_loop():
    """y_t = h_t @ u: stack h_t, one product of all of them."""
    new = b.unary("tanh", C)
    after = applied(sink_loops, results(loop(new, [b.matmul(new, UI)])))
    collected = loop(new, [new])
    expected = Graph((), (("r0", b.item(collected, 0)), ("r1", rows(b.item(collected, 1), U))))
    assert after == expected


def test_a_sum_of_outer_products_is_one_product():
    """dw = sum over t of x_t' @ h_t is one product over time and batch."""
    new = b.unary("tanh", C)
    after = applied(sink_loops, results(loop(new, sums=[b.matmul(b.transpose(X, (1, 0)), new)])))
    collected = loop(new, [new])
    wide = b.reshape(b.transpose(b.transpose(XS, (0, 2, 1)), (1, 0, 2)), (4, STEPS * 2))
    product = b.matmul(wide, b.reshape(b.item(collected, 1), (STEPS * 2, 3)))
    assert after == Graph((), (("r0", b.item(collected, 0)), ("r1", product)))


def test_a_product_with_a_factor_that_does_not_change_sums_the_other_first():
    """sum of h_t @ u = (sum of h_t) @ u."""
    new = b.unary("tanh", C)
    after = applied(sink_loops, results(loop(new, sums=[b.matmul(new, UI)])))
    collected = loop(new, [new])
    expected = b.matmul(b.sum_(b.item(collected, 1), [0]), U)
    assert after == Graph((), (("r0", b.item(collected, 0)), ("r1", expected)))


def test_reductions_of_what_is_stacked_anyway_move_with_it():
    """The bias gradient beside the weight gradient: no accumulator is left in the loop."""
    new = b.unary("tanh", C)
    outer, bias = b.matmul(b.transpose(X, (1, 0)), new), b.sum_(new, [0])
    (node,) = scans(applied(sink_loops, results(loop(new, sums=[outer, bias]))))
    assert (parts(node).stacks, parts(node).sums) == (1, 0)
    assert body_ops(node) == ["tanh"]


def test_what_the_carry_needs_stays_in_the_loop():
    """A product the next iteration reads, and cheap stacks and sums."""
    product = b.matmul(C, UI)
    before = results(loop(b.unary("tanh", product), [product, b.mul(C, 2.0)], [b.unary("exp", C)]))
    assert applied(sink_loops, before) == before


# -- prune_loops ----------------------------------------------------------------------------------------


def test_results_operands_and_carries_nobody_reads_disappear():
    """A loop with two carries, of which the results need one."""
    d0, d = given("d0", 7), given("d", 7, role="carry", depth=1)
    new_c, new_d = b.unary("tanh", b.add(C, b.matmul(X, WI))), b.mul(d, 2.0)
    groups = ([new_c, new_d], [b.mul(C, 3.0), new_d], [b.matmul(C, UI)])
    node = scan([C0, d0], [XS], [W, U], (C, d, X, TIME, WI, UI), groups, STEPS, False, NOWHERE)
    after = applied(prune_loops, Graph((), (("stack", b.item(node, 2)),)))
    pruned = scan([C0], [XS], [W], (C, X, TIME, WI), ([new_c], [b.mul(C, 3.0)], []), STEPS, False, NOWHERE)
    assert after == Graph((), (("stack", b.item(pruned, 1)),))


def test_a_carry_that_another_one_reads_is_kept():
    """Fibonacci: the last b needs a."""
    d0, d = given("d0", 2, 3), given("d", 2, 3, role="carry", depth=1)
    node = scan([C0, d0], [], [], (C, d, TIME), ([d, b.add(C, d)], [], []), STEPS, False, NOWHERE)
    before = Graph((), (("last", b.item(node, 1)),))
    assert applied(prune_loops, before) == before


def test_pruning_one_loop_prunes_what_only_it_read():
    """Stacks of a first loop that a second one no longer takes."""
    first = loop(b.unary("tanh", C), [b.mul(C, 2.0), b.mul(C, 3.0)])
    x, y = given("p", 2, 3, role="x", depth=1), given("q", 2, 3, role="x", depth=1)
    operands = ([C0], [b.item(first, 1), b.item(first, 2)], [])
    second = scan(*operands, (C, x, y, TIME), ([b.add(C, x)], [y], []), STEPS, False, NOWHERE)
    after = applied(prune_loops, Graph((), (("last", b.item(second, 0)),)))
    assert [parts(s).stacks for s in scans(after)] == [1, 0]
    assert [len(parts(s).xs) for s in scans(after)] == [0, 1]


def test_loops_in_loops_are_pruned():
    """An inner loop's unused stack."""
    ci, inner_time = given("ci", 2, 3, role="carry", depth=2), given("time", role="time", dtype="int32", depth=2)

    def outer(stacks, reads):
        groups = ([b.mul(ci, 0.5)], stacks, [])
        inner = scan([C], [], [], (ci, inner_time), groups, 3, False, NOWHERE)
        return scan([C0], [], [], (C, TIME), ([b.item(inner, reads)], [], []), STEPS, False, NOWHERE)

    after = applied(prune_loops, results(outer([b.mul(ci, 2.0)], 0)))
    assert after == results(outer([], 0))


# -- all together: the LSTM -----------------------------------------------------------------------------


def lstm(x):
    return gn.layers.lstm(x, 3)


def lstm_plan(steps):
    net = gn.compile(lstm, gn.spec((2, steps, 5)), loss=gn.losses.mse, optimizer=gn.optim.SGD(lr=0.1))
    return net.plans[0].plan


def test_one_product_remains_in_each_loop_of_an_lstm():
    """h @ wh forward and its transpose backward; products of inputs and weight gradients are outside, once each."""
    graph = lstm_plan(10).graph
    forward, backward = scans(graph)
    assert (parts(forward).reverse, parts(backward).reverse) == (False, True)
    assert body_ops(forward).count("matmul") == 1
    assert body_ops(backward).count("matmul") == 1
    assert [parts(s).sums for s in (forward, backward)] == [0, 0]
    products = sorted((tuple(i.shape for i in n.inputs), n.shape) for n in graph.nodes() if n.op == "matmul")
    assert products == [
        (((3, 20), (20, 12)), (3, 12)),  # all steps' h' @ gates
        (((5, 20), (20, 12)), (5, 12)),  # all steps' x' @ gates
        (((20, 5), (5, 12)), (20, 12)),  # all steps' x @ wx
    ]


def test_the_gradients_of_the_gates_are_written_side_by_side():
    """One concatenation of four parts, no padded arrays added up."""
    _, backward = scans(lstm_plan(10).graph)
    ops = body_ops(backward)
    assert (ops.count("concat"), ops.count("place")) == (1, 0)
    (concat,) = [n for n in backward.attrs["body"].nodes() if n.op == "concat"]
    assert [i.shape for i in concat.inputs] == [(2, 3)] * 4


def test_compile_size_does_not_grow_with_the_number_of_steps():
    """An LSTM over 100 steps has the nodes and schedule steps of one over 10."""
    short, long = lstm_plan(10), lstm_plan(100)
    assert count_nodes(short.graph) == count_nodes(long.graph)
    assert len(list(flat(short.steps))) == len(list(flat(long.steps)))
    assert len(short.storages) == len(long.storages)


@pytest.mark.parametrize("layer", [gn.layers.rnn, gn.layers.gru, gn.layers.lstm])
def test_loops_compute_the_same_with_every_loop_pass_off(layer):
    """The training step in float64, one optional pass left out at a time, and all of them."""
    from graphnet.compiler.compile import compile_graph
    from graphnet.compiler.passes import PIPELINE

    names = [p.name for p in PIPELINE if p.optional]
    net = gn.compile(lambda x: layer(x, 3), gn.spec((2, 4, 5), "float64"), loss=gn.losses.mse)
    target = net.target_type
    graph = net.program.trace(net.input_types, target, training=True).graph
    homes = {n: a.astype(np.float64) for n, a in net.params.items()}
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 4, 5)), draw.normal(size=target.shape)
    expected = None
    for disabled in ([], *([n] for n in names), names):
        context = Context(differentiate=True, keep_gradients=True, verify=True, disabled=frozenset(disabled))
        executable = NumpyBackend().bind(compile_graph(graph, context), homes)
        executable.inputs["x"][...] = x
        executable.inputs["target"][...] = y
        executable.run()
        found = {n: a.copy() for n, a in executable.outputs.items()}
        expected = expected or found
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-14, err_msg=f"{name} without {disabled}")
