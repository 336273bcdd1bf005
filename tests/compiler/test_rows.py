"""Steps over the same rows become one: what joins, what stays apart, and that the numbers are the same."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_numpy import NumpyBackend
from graphnet.compiler import build as b
from graphnet.compiler.compile import compile_graph
from graphnet.compiler.ir import NOWHERE, Graph, Type, leaf
from graphnet.compiler.lower import lower
from graphnet.compiler.ops.control import cond, scan
from graphnet.compiler.passes import Context
from graphnet.compiler.printers.buffers import homes_of
from graphnet.compiler.printers.numbering import number
from graphnet.compiler.printers.schedule import Writer
from graphnet.compiler.rows import merge_rows
from graphnet.compiler.schedule import END, REDUCTIONS, Array, Branch, Fused, Kernel, Loop, Rows, Storage, flat

F = "float32"


def inputs(*shapes):
    return [leaf(f"x{i}", "input", Type(s, F)) for i, s in enumerate(shapes)]


def graph_of(*nodes):
    return Graph((), tuple((f"y{i}", n) for i, n in enumerate(nodes)))


def total(x, axis=-1, op="sum"):
    return b.apply(op, x, axes=(axis % len(x.shape),), keepdims=True)


def exponentials(x):
    e = b.unary("exp", b.sub(x, total(x, op="max")))
    return e, total(e)


def softmax(x):
    e, s = exponentials(x)
    return b.div(e, s)


def results(plan, backend):
    """Results for the same drawn numbers in every input."""
    run = backend.bind(plan, {})
    run.arena.fill(255)
    rng = np.random.default_rng(1)
    for name in sorted(run.inputs):
        run.inputs[name][...] = rng.standard_normal(run.inputs[name].shape)
    run.run()
    return {name: a.copy() for name, a in run.outputs.items()}


@pytest.fixture
def merged(c_backend):
    """``merged(*nodes)``: the plan's programs over rows and the names of its other steps; the results are right."""

    def compiled(*nodes):
        graph = graph_of(*nodes)
        expected = results(compile_graph(graph, Context()), NumpyBackend())
        for threads in (1, 3):
            backend = c_backend(threads)
            plan = compile_graph(graph, Context(target=backend.target))
            for name, found in results(plan, backend).items():
                np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-5)
        steps = list(flat(plan.steps))
        return [s for s in steps if isinstance(s, Rows)], [s.op for s in steps if not isinstance(s, Rows)], plan

    return compiled


# -- what joins ---------------------------------------------------------------------------------------------


def test_softmax_is_one_step_that_stores_its_result_only(merged):
    (rows,), others, plan = merged(softmax(*inputs((12, 40))))
    assert (others, rows.shape, [o.shape for o in rows.outputs]) == ([], (12, 40), [(12, 40)])
    assert plan.memory.arena == 12 * 40 * 4


def test_a_layer_norm_is_one_step_though_its_rows_have_two_axes(merged):
    x, scale, shift = inputs((4, 5, 3, 7), (3, 7), (3, 7))

    def mean(v):
        return b.div(b.apply("sum", v, axes=(2, 3), keepdims=True), b.scalar(21, F))

    centred = b.sub(x, mean(x))
    y = b.div(centred, b.unary("sqrt", b.add(mean(b.unary("square", centred)), b.scalar(1e-5, F))))
    (rows,), others, _ = merged(b.add(b.mul(y, scale), shift))
    assert (others, rows.shape) == ([], (4, 5, 21))
    assert {a.shape for a in rows.inputs} == {(4, 5, 21), (1, 1, 21), (1, 1, 1)}


def test_the_gradient_of_a_softmax_between_products_is_one_step(merged):
    """It joins the softmax: nothing that it reads is made of the product between."""
    x, w, u, g = inputs((16, 24), (24, 24), (24, 8), (16, 8))
    y = softmax(b.matmul(x, w))
    dy = b.matmul(g, b.transpose(u, (1, 0)))
    dx = b.mul(y, b.sub(dy, total(b.mul(dy, y))))
    (rows,), others, _ = merged(b.matmul(y, u), b.matmul(dx, w))
    assert (len(rows.program), len(rows.outputs)) == (9, 2)
    assert others == ["matmul"] * 4


def test_steps_that_see_the_rows_in_another_shape_join(merged):
    """(6, 50) and (2, 3, 50) are the same rows."""
    x, y = inputs((6, 50), (2, 3, 50))
    s = b.reshape(total(x), (2, 3, 1))
    (rows,), others, _ = merged(b.mul(b.reshape(x, (2, 3, 50)), b.add(y, s)))
    assert (others, len(rows.program)) == ([], 3)


def test_one_pass_writes_over_the_operand_it_needs_no_more(merged):
    """The product's result, its softmax: one buffer."""
    x, w = inputs((16, 24), (24, 64))
    (rows,), _, plan = merged(softmax(b.matmul(x, w)))
    assert rows.outputs[0].storage == rows.inputs[0].storage
    assert plan.memory.arena == 16 * 64 * 4


def loop(rows, columns):
    """c' = softmax(c + x), with c' and s = the sums of exponentials stacked: s is a result of its own."""
    start, xs = inputs((rows, columns), (4, rows, columns))
    carry = leaf("carry0", "carry", Type((rows, columns), F), depth=1)
    row = leaf("x0", "x", Type((rows, columns), F), depth=1)
    time = leaf("time", "time", Type((), "int32"), depth=1)
    e, s = exponentials(b.add(carry, row))
    new = b.div(e, s)
    return scan([start], [xs], [], [carry, row, time], ([new], [new, s], []), 4, False, NOWHERE)


def test_the_body_of_a_loop_merges_and_stores_what_later_iterations_and_steps_read(merged):
    node = loop(6, 40)
    (rows,), others, plan = merged(b.item(node, 0), b.item(node, 1), b.item(node, 2))
    (body,) = (s.body for s in plan.steps if isinstance(s, Loop))
    assert body == (rows,)
    assert [o.shape for o in rows.outputs] == [(6, 1), (6, 40)]
    assert "copy" in others


def test_each_side_of_a_branch_merges_for_itself(merged):
    (x,) = inputs((6, 40))
    given = leaf("const0", "const", Type((6, 40), F), depth=1)
    sides = Graph((given,), (("r", softmax(given)),)), Graph((given,), (("r", b.mul(given, total(given))),))
    node = cond(b.gt(b.sum_(x, [0, 1]), b.scalar(0, F)), *sides, [x], NOWHERE)
    (then, orelse), _, plan = merged(b.item(node, 0))
    (branch,) = (s for s in plan.steps if isinstance(s, Branch))
    assert (branch.then, branch.orelse) == ((then,), (orelse,))


# -- what stays ---------------------------------------------------------------------------------------------


def test_a_value_that_another_step_reads_is_stored(merged):
    x, w = inputs((8, 40), (40, 3))
    e, s = exponentials(x)
    (rows,), others, _ = merged(b.div(e, s), b.matmul(e, w))
    assert others == ["matmul"]
    assert [o.shape for o in rows.outputs] == [(8, 40), (8, 40)]


def test_a_value_that_is_a_result_is_stored(merged):
    e, s = exponentials(*inputs((8, 40)))
    (rows,), _, _ = merged(b.div(e, s), s, e)
    assert sorted(o.shape for o in rows.outputs) == [(8, 1), (8, 40), (8, 40)]


def test_what_needs_all_rows_at_once_is_no_part_of_them(merged):
    """Each row is divided by the sum of all rows: two passes, with the sum of sums between."""
    e, s = exponentials(*inputs((8, 40)))
    rows, others, _ = merged(b.mul(b.div(e, b.sum_(s, [0, 1])), s))
    assert [len(r.program) for r in rows] == [4]
    assert others == ["sum", "fused"]


def test_reductions_over_other_axes_and_of_single_or_long_rows_stay(merged):
    x, row, long, empty = inputs((6, 8, 10), (1, 40), (3, 5000), (0, 40))
    rows, _, _ = merged(
        *(b.mul(x, b.apply("sum", x, axes=axes, keepdims=True)) for axes in ((0,), (1,), (0, 2), (0, 1, 2))),
        *(b.mul(v, total(v)) for v in (row, long, empty)),
    )
    assert rows == []


# -- on steps -----------------------------------------------------------------------------------------------


def lowered(*nodes):
    """The steps of a plan without reuse of memory, its storages, and those its results lie in."""
    plan = lower(graph_of(*nodes), reuse=False)
    return list(plan.steps), list(plan.storages), {a.storage for a in plan.outputs.values()}


def ops(steps):
    return [s.op for s in steps]


def test_a_backend_says_which_programs_it_takes():
    steps, storages, kept = lowered(softmax(*inputs((8, 40))))
    assert ops(steps) == ["max", "sub", "exp", "sum", "div"]
    assert merge_rows(steps, storages, lambda rows: False, kept, False) == steps
    some = merge_rows(steps, storages, lambda rows: len(rows.program) < 4, kept, False)
    assert ops(some) == ["rows", "rows"]


def test_phases_that_run_apart_stay_apart():
    steps, storages, kept = lowered(softmax(*inputs((8, 40))))
    steps[3:] = [replace(s, phase="backward") for s in steps[3:]]
    found = merge_rows(steps, storages, lambda rows: True, kept, True)
    assert [(s.op, s.phase) for s in found] == [("rows", "forward"), ("rows", "backward")]
    assert [s.phase for s in merge_rows(steps, storages, lambda rows: True, kept, False)] == ["forward"]


def by_hand(kinds, lines, kept):
    """Steps ``"mul x s -> y"`` in order; what is capital is (8, 40), else (8, 1). ``kinds`` of storages but "temp"."""
    storages, steps, ids = [], [], {}
    for position, line in enumerate(lines):
        op, *operands, _, out = line.split()
        for name in (*operands, out):
            if name not in ids:
                ids[name] = len(storages)
                shape = (8, 40 if name.isupper() else 1)
                storages.append(Storage(ids[name], 4 * prod(shape), kinds.get(name, "temp"), name, NOWHERE))
            s = storages[ids[name]]
            s.first, s.last = min(s.first, position), END if name in kept else max(s.last, position)
        arrays = [
            Array(ids[n], F, (8, 40 if n.isupper() else 1), (40 if n.isupper() else 1, 1)) for n in (*operands, out)
        ]
        attrs = {"axes": (1,), "keepdims": True} if op in REDUCTIONS else {}
        steps.append(Kernel(op, attrs, tuple(arrays[:-1]), (arrays[-1],), None, NOWHERE, position, "forward"))
    return steps, storages, ids


def merge(kinds, *lines, kept="Y", fits=lambda rows: True):
    """The merged steps, and the lifetimes of storages by name."""
    steps, storages, ids = by_hand(kinds, lines, kept)
    found = merge_rows(steps, storages, fits, {i for n, i in ids.items() if n in kept}, False)
    return found, {name: (storages[i].first, storages[i].last) for name, i in ids.items()}


APART = {
    "what a step between makes of the first is read": ("sum X -> s", "matmul s s -> P", "mul X P -> Y"),
    "a step between writes over what both read": ("sum X -> s", "copy Z -> X", "mul X s -> Y"),
    "a step between reads what would be written early": ("sum X -> s", "matmul s Y -> P", "mul X s -> Y"),
    "a result would have to live for longer than it saves": ("sum X -> s", "matmul s s -> P", "mul X s -> Y"),
    "the second writes over what the first reads": ("sum X -> s", "mul Z s -> X"),
    "a step writes over its own operand": ("sum X -> s", "add Y s -> Y"),
}


@pytest.mark.parametrize("why", APART)
def test_steps_stay_apart_if(why):
    found, _ = merge({}, *APART[why], kept="XY")
    assert ops(found) == [line.split()[0] for line in APART[why]]


def test_parameters_are_not_written_by_rows():
    """Their updates have to wait until all indices are known to be good."""
    lines = ("sum X -> s", "mul X s -> Y")
    assert ops(merge({"Y": "param"}, *lines)[0]) == ["sum", "mul"]
    assert ops(merge({}, *lines)[0]) == ["rows"]


def test_the_second_step_moves_up_if_that_saves_memory_and_lifetimes_follow():
    """The sum is read between, so it cannot move down; E is not stored any more, Y in its place."""
    lines = ("exp X -> E", "sum E -> s", "matmul s s -> P", "matmul P P -> Q", "mul E s -> Z", "add Z X -> Y")
    (rows, *others), alive = merge({}, *lines)
    assert (rows.position, ops(others)) == (0, ["matmul", "matmul"])
    assert [o.shape for o in rows.outputs] == [(8, 1), (8, 40)]
    assert (alive["X"], alive["Y"], alive["s"], alive["P"]) == ((0, 0), (0, END), (0, 2), (2, 3))


def test_the_first_step_moves_down_where_that_needs_less_memory():
    lines = ("matmul P P -> X", "sum X -> s", "matmul P P -> Q", "mul X s -> Y", "matmul X Q -> Z")
    found, alive = merge({}, *lines)
    assert [(s.op, s.position) for s in found] == [("matmul", 0), ("matmul", 2), ("rows", 3), ("matmul", 4)]
    assert (alive["X"], alive["Y"]) == ((0, 4), (3, END))


def test_a_value_that_other_rows_read_is_stored():
    """E is made by one program and read by another, which the two are too much to join."""
    lines = ("max X -> m", "mul X m -> D", "exp D -> E", "sum E -> s", "mul E s -> Y")
    found, alive = merge({}, *lines, fits=lambda rows: not {"max", "sum"} <= {i.op for i in rows.program})
    first, second = found
    assert [[p.op for p in step.parts] for step in found] == [["max", "mul", "exp"], ["sum", "mul"]]
    assert first.outputs == second.inputs
    assert alive["E"] == (first.position, second.position)


def test_operands_in_another_order_are_not_what_was_written():
    """The second step adds the transposed exponentials: other rows."""
    (x,) = inputs((40, 40))
    e = b.unary("exp", x)
    steps, storages, kept = lowered(b.mul(b.transpose(e, (1, 0)), total(e)))
    found = merge_rows(steps, storages, lambda rows: True, kept, False)
    assert [len(s.program) for s in found if isinstance(s, Rows)] == [2]
    assert len(found) == 2


# -- what is told of them -----------------------------------------------------------------------------------


def test_the_schedule_shows_the_program(merged):
    (rows,), _, plan = merged(softmax(*inputs((12, 40))))
    head, *lines = Writer(plan).step(rows, "")
    assert head.split()[1:] == ["rows", "of", "40:", "(12,40)", "float32"]
    assert [line.strip() for line in lines[1:]] == ["t0 = exp(in0 - max(in0))", "out0 = t0 / sum(t0)"]


def test_nodes_of_a_program_are_found_where_it_stores_them(merged):
    """Both sums have one line and one shape; only the second is stored."""
    (x,) = inputs((8, 40))
    first = total(x)
    second = total(b.mul(x, first))
    (rows,), _, plan = merged(second, b.mul(x, first))
    homes, refs = homes_of(plan), number(plan.graph).refs
    by_name = dict(plan.graph.outputs)
    assert {homes[refs[by_name[n]]].array.storage for n in ("y0", "y1")} == {o.storage for o in rows.outputs}
    assert all(homes[refs[n]].position == rows.position for n in by_name.values())
    assert not [n for n in plan.graph.nodes() if n.op == "sum" and n is not by_name["y0"] and refs[n] in homes]


# -- cross-entropy, whole -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 3), (5, 4, 10), (3, 7, 60)])
def test_cross_entropy_and_its_gradient_are_one_step_with_numpys_numbers(shape, c_backend):
    rng = np.random.default_rng(3)
    logits, target = 3 * rng.standard_normal(shape), rng.integers(0, shape[-1], shape[:-1]).astype("int32")

    @gn.model
    def table(x):
        return x + gn.param("logits", shape, init=logits)

    net = gn.compile(
        table,
        gn.spec((1,)),
        loss=gn.losses.softmax_cross_entropy,
        optimizer=gn.optim.SGD(lr=1.0),
        backend="c",
        threads=2,
    )
    loss = net.step(np.zeros(1, F), target)
    (rows,) = (s for s in net.plan.steps if isinstance(s, Rows))
    assert {"sum", "max", "exp", "log", "div"} <= {i.op for i in rows.program}
    assert not any(i.op == "exp" for s in net.plan.steps if isinstance(s, Fused) for i in s.program)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    hot = np.eye(shape[-1])[target]
    np.testing.assert_allclose(loss, -(hot * np.log(p)).sum() / target.size, rtol=1e-5)
    np.testing.assert_allclose(net.params["table/logits"], logits - (p - hot) / target.size, rtol=1e-5, atol=1e-6)
