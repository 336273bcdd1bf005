"""Steps that become one: what merges, what must not, and that results stay what they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphnet.compiler import build as b
from graphnet.compiler.compile import compile_graph
from graphnet.compiler.epilogues import merge_epilogues
from graphnet.compiler.ir import NOWHERE, Graph, Type, leaf
from graphnet.compiler.ops.control import scan
from graphnet.compiler.passes import Context
from graphnet.compiler.prologues import merge_prologues
from graphnet.compiler.schedule import Array, Kernel, Storage, flat

D = "float64"


def inputs(*shapes, dtype=D, role="input"):
    return [leaf(f"x{i}", role, Type(s, dtype)) for i, s in enumerate(shapes)]


def values(graph):
    chosen = np.random.default_rng(0)
    return {n.attrs["name"]: np.asarray(chosen.standard_normal(n.shape), n.dtype) for n in graph.leaves()}


@pytest.fixture
def merged(random_graphs, c_backend):
    """``merged(*nodes)``: the steps of their plan, once it has given what the interpreter says, for any threads."""

    def run(*nodes, updates=(), rtol=1e-12):
        graph = Graph((), tuple((f"y{i}", n) for i, n in enumerate(nodes)), tuple(updates))
        arrays, found = values(graph), []
        for threads in (1, 2, 3):
            plan = compile_graph(graph, Context(target=c_backend(threads).target))
            found.append(random_graphs.execute(plan, arrays, c_backend(threads)))
        for name, value in random_graphs.expected_of(graph, arrays).items():
            np.testing.assert_allclose(found[0][name], value, rtol=rtol, err_msg=name)
            assert all(value.dtype == f[name].dtype and f[name].tobytes() == found[0][name].tobytes() for f in found)
        return list(map(shown, flat(plan.steps)))

    return run


def shown(step):
    """Its op, after < where it takes a program's value, before > where a program takes its result."""
    before, behind = getattr(step, "prologue", None), getattr(step, "epilogue", None)
    return f"{'<' if before else ''}{step.op}{'>' if behind else ''}"


def square(x):
    return b.unary("square", x)


# -- products -----------------------------------------------------------------------------------------------


def test_a_reader_that_repeats_a_product_does_not_join_it(merged):
    """(4, 1) spread over (4, 10): more elements than the product has."""
    x, w, bias = inputs((4, 3), (3, 1), (10,))
    assert merged(b.add(b.matmul(x, w), bias)) == ["matmul", "add"]
    assert merged(b.add(b.matmul(x, w), b.slice_(bias, (0,), (1,), (1,)))) == ["matmul>"]


# -- reductions that take the expression of their operand ---------------------------------------------------


@pytest.mark.parametrize("op", ["sum", "max", "min"])
@pytest.mark.parametrize("shape", [(5,), (40, 30), (3, 4, 300), (300, 300), (9, 20_000)])
def test_a_reduction_takes_an_expression_instead_of_an_operand(merged, op, shape):
    """Over axes that are not rows, short and long, in one stage and in two."""
    x, y = inputs(shape, shape[-1:], dtype="float32")
    sets = {(0,), tuple(range(len(shape) - 1)) or (0,), tuple(range(len(shape)))}
    nodes = [b.reduce(op, square(b.sub(x, b.mul(y, float(i)))), axes, bool(i)) for i, axes in enumerate(sorted(sets))]
    found = merged(*nodes, rtol=1e-5 if op == "sum" else 0)
    assert [step for step in found if op in step] == [f"<{op}"] * len(sets)


def test_an_operand_seen_in_another_order_or_shape_is_no_obstacle(merged):
    x, y, row = inputs((6, 8, 10), (6, 8, 10), (8, 1))
    product = b.mul(b.mul(x, row), y)
    for axes in ((0,), (1,), (2,), (0, 2), (0, 1, 2)):
        assert merged(b.sum_(b.transpose(product, (2, 0, 1)), axes)) == ["<sum"]
    folded = b.reshape(b.mul(x, y), (48, 10))
    other = b.transpose(b.reshape(b.add(x, y), (6, 80)), (1, 0))
    assert merged(b.sum_(folded, (0,)), b.sum_(other, (1,))) == ["<sum", "<sum"]


def test_a_value_that_no_view_of_the_operands_gives_is_stored(merged):
    """A row repeated along an axis that the reduction sees folded into another."""
    x, row = inputs((6, 4), (4,))
    assert merged(b.sum_(b.reshape(b.mul(x, row), (24,)), (0,))) == ["mul", "sum"]
    assert merged(b.sum_(b.reshape(b.mul(x, x), (24,)), (0,))) == ["<sum"]


def test_part_of_a_value_is_reduced_from_memory(merged):
    (x,) = inputs((6, 4))
    assert merged(b.sum_(b.narrow(square(x), 0, 1, 4), (0,))) == ["square", "sum"]


def test_operands_in_different_orders_are_combined_in_tiles_before(merged):
    x, y = inputs((20, 30), (30, 20))
    assert merged(b.sum_(b.mul(x, b.transpose(y, (1, 0))), (0,))) == ["mul", "sum"]
    assert merged(b.sum_(b.transpose(square(y), (1, 0)), (0,))) == ["<sum"]


def test_what_others_read_is_stored(merged):
    """Two readers, and a result."""
    (x,) = inputs((6, 4))
    t = square(x)
    assert merged(b.sum_(t, (0,)), b.reduce("max", t, (1,))) == ["square", "sum", "max"]
    assert merged(b.sum_(t, (0,)), t) == ["square", "sum"]


def test_no_elements(merged):
    x, y = inputs((0, 4), (4, 0))
    found = merged(b.add(b.sum_(square(x), (0,)), 1.0), b.sum_(square(y), (0,)))
    assert not any("<" in op for op in found)


def test_a_reduction_in_a_loop(merged):
    rows, start = inputs((5, 300), ())
    carry, row = leaf("carry0", "carry", Type((), D), depth=1), leaf("x0", "x", Type((300,), D), depth=1)
    time = leaf("time", "time", Type((), "int32"), depth=1)
    new = b.add(b.mul(carry, 0.5), b.sum_(b.mul(row, row), (0,)))
    node = scan([start], [rows], [], [carry, row, time], ([new], [new], []), 5, False, NOWHERE)
    found = merged(b.item(node, 0), b.item(node, 1))
    assert found[found.index("scan") + 1 :] == ["<sum>"]


# -- the places of merged steps -----------------------------------------------------------------------------


def step(op, reads, writes, position, **attrs):
    """A step on storages of 8 numbers each; a sum writes one."""
    of = lambda s: Array(s, D, (8,), (1,))  # noqa: E731
    out = Array(writes, D, (), ()) if op == "sum" else of(writes)
    return Kernel(op, attrs, tuple(map(of, reads)), (out,), None, NOWHERE, position, "forward")


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ("copy 4 5", ["<sum", "copy"]),
        ("copy 4 0", ["<sum", "copy"]),  # x is written: the sum moves up
        ("copy 2 4", ["copy", "<sum"]),  # the sum's place is read: the square moves down
        ("copy 4 2", ["copy", "<sum"]),
        ("copy 2 0", ["square", "copy", "sum"]),  # both
        ("copy 1 4", ["square", "copy", "sum"]),  # the square has two readers
        ("copy 4 1", ["square", "copy", "sum"]),  # and two writers
    ],
)
def test_a_step_between_decides_where_the_merged_one_stands(c_backend, between, expected):
    """Storages: 0 holds x, 1 its square, 2 the sum; 4 and 5 have nothing to do with them."""
    storages = [Storage(i, 64, "temp" if i == 1 else "state", "", NOWHERE, 0, 2) for i in range(6)]
    op, source, target = between.split()
    steps = [step("square", [0], 1, 0), step(op, [int(source)], int(target), 1)]
    steps.append(step("sum", [1], 2, 2, axes=(0,), keepdims=False))
    found = merge_prologues(steps, storages, c_backend().target, set(), apart=False)
    assert list(map(shown, found)) == expected
    assert [s.position for s in found] == sorted({s.position for s in found})


def test_a_reduction_does_not_write_over_what_its_expression_reads(c_backend):
    """A parameter of one number that the sum of its squares replaces."""
    storages = [Storage(i, 64, "temp" if i == 1 else "param", "", NOWHERE, 0, 1) for i in range(2)]
    steps = [step("square", [0], 1, 0), step("sum", [1], 0, 1, axes=(0,), keepdims=False)]
    found = merge_prologues(steps, storages, c_backend().target, set(), apart=False)
    assert list(map(shown, found)) == ["square", "sum"]


def test_phases_that_are_run_apart_stay_apart(c_backend):
    storages = [Storage(i, 64, "temp" if i == 1 else "state", "", NOWHERE, 0, 1) for i in range(3)]
    steps = [step("square", [0], 1, 0), step("sum", [1], 2, 1, axes=(0,), keepdims=False)]
    steps[1] = replace(steps[1], phase="update")
    for apart, expected in ((True, ["square", "sum"]), (False, ["<sum"])):
        assert list(map(shown, merge_prologues(steps, storages, c_backend().target, set(), apart))) == expected


# -- reductions that hand their result on -------------------------------------------------------------------


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(200, 70), (300, 300), (4000, 30), (3, 40, 50)])
def test_a_reader_takes_the_results(merged, shape, keepdims):
    """A bias updated by its gradient, in one stage and in two; with an expression before it."""
    x, y, bias = inputs(shape, (), shape[-1:], dtype="float32")
    lead = tuple(range(len(shape) - 1))
    for source, expected in ((x, "sum>"), (b.add(b.mul(x, x), 1.0), "<sum>")):
        assert merged(b.sub(bias, b.mul(b.sum_(source, lead, keepdims), y)), rtol=1e-4) == [expected]


def test_a_mean_and_a_root_of_it(merged):
    (x,) = inputs((300, 70), dtype="float32")
    mean = b.div(b.sum_(square(x), (0, 1)), float(300 * 70))
    assert merged(b.unary("sqrt", mean), rtol=1e-5) == ["<sum>"]
    assert merged(b.unary("exp", b.reduce("max", x, (0,))), rtol=1e-5) == ["max>"]


def test_a_reader_in_place(merged):
    """The reader's operand and result are one parameter."""
    (bias,) = inputs((300,), role="param")
    x = leaf("x", "input", Type((200, 300), D))
    assert merged(updates=[(bias, b.sub(bias, b.mul(b.sum_(x, (0,)), 0.1)))], rtol=1e-9) == ["sum>"]


def test_a_result_that_is_repeated_or_read_twice_is_stored(merged):
    (x,) = inputs((6, 4))
    total = b.sum_(x, (0,), keepdims=True)
    assert merged(b.mul(x, total)) == ["sum", "mul"]
    assert merged(b.add(total, 1.0), b.reduce("max", total, (0,)))[0] == "sum"
    assert merged(b.add(total, 1.0), total) == ["sum", "add"]


def test_of_several_results_the_last_is_handed_on(merged):
    """So that no reduction has to move."""
    x, y, z = inputs((6, 4), (5, 4), (7, 4))
    first, second, third = (b.reduce(op, square(v), (0, 1)) for op, v in (("sum", x), ("max", y), ("min", z)))
    assert merged(b.unary("sqrt", b.add(b.add(first, second), third))) == ["<sum", "<max", "<min>"]


@pytest.mark.parametrize(("nbytes", "expected"), [(1 << 10, ["copy", "sum>"]), (1 << 20, ["sum", "copy", "add"])])
def test_a_large_operand_does_not_wait_for_a_late_reader(nbytes, expected):
    """Storages: 0 dies with the sum, 1 holds it, 3 is written before the reader and read by it."""
    storages = [Storage(i, 8, "temp" if i < 2 else "state", "", NOWHERE, 0, 2) for i in range(5)]
    storages[0].nbytes, storages[0].last = nbytes, 0
    number = lambda s: Array(s, D, (), ())  # noqa: E731
    steps = [step("sum", [0], 1, 0, axes=(0,), keepdims=False)]
    steps.append(Kernel("copy", {}, (number(2),), (number(3),), None, NOWHERE, 1, "forward"))
    steps.append(Kernel("add", {}, (number(1), number(3)), (number(4),), None, NOWHERE, 2, "forward"))
    found = merge_epilogues(steps, storages, ("sum",), set(), apart=False)
    assert list(map(shown, found)) == expected
    assert storages[0].last == (2 if expected[-1] == "sum>" else 0)
