"""Lowering: views become strides, parts of a larger value are computed where they end up, loops alternate slots."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.backend_numpy import NumpyBackend
from graphnet.compiler import build as b
from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import NOWHERE, Graph, Type, leaf
from graphnet.compiler.lower import lower
from graphnet.compiler.ops.control import cond, scan
from graphnet.compiler.schedule import Loop, flat

D = "float64"


def inputs(*shapes):
    return [leaf(f"x{i}", "input", Type(s, D)) for i, s in enumerate(shapes)]


def plan_of(*nodes, updates=()):
    return lower(Graph((), tuple((f"y{i}", n) for i, n in enumerate(nodes)), tuple(updates)))


def ops(plan):
    return [s.op for s in flat(plan.steps)]


def results(plan, **homes):
    """Results for inputs 0, 1, 2, ... in every array."""
    run = NumpyBackend().bind(plan, homes)
    run.arena.fill(255)
    for array in run.inputs.values():
        array[...] = np.arange(array.size).reshape(array.shape)
    run.run()
    return [a.copy() for a in run.outputs.values()]


# -- views --------------------------------------------------------------------------------------------------


def test_views_make_no_steps():
    (x,) = inputs((2, 3, 4))
    y = b.slice_(b.transpose(b.reshape(x, (6, 4)), (1, 0)), (3, 0), (2, 3), (-2, 2))
    plan = plan_of(y)
    assert plan.steps == ()
    assert plan.outputs["y0"].storage == plan.leaves["x0"].storage
    np.testing.assert_array_equal(results(plan)[0], np.arange(24.0).reshape(6, 4).T[::-2, ::2])


def test_a_reshape_no_strides_can_express_makes_one_copy():
    (x,) = inputs((2, 3))
    plan = plan_of(b.reshape(b.transpose(x, (1, 0)), (6,)))
    assert ops(plan) == ["copy"]
    np.testing.assert_array_equal(results(plan)[0], np.arange(6.0).reshape(2, 3).T.reshape(-1))


def test_a_matrix_no_blas_can_read_is_copied_for_the_product():
    x, y = inputs((4, 6), (3, 2))
    plan = plan_of(b.matmul(b.slice_(x, (0, 0), (4, 3), (1, 2)), y))
    assert ops(plan) == ["copy", "matmul"]
    assert ops(plan_of(b.matmul(b.transpose(y, (1, 0)), y))) == ["matmul"]


# -- concatenation ------------------------------------------------------------------------------------------


def test_parts_of_a_concatenation_are_computed_in_place():
    x, y = inputs((2, 3), (2, 3))
    plan = plan_of(b.concat([b.unary("sin", x), b.matmul(y, b.transpose(x, (1, 0)))], 1))
    assert ops(plan) == ["sin", "matmul"]
    assert len({s.outputs[0].storage for s in plan.steps}) == 1
    assert [s.outputs[0].offset for s in plan.steps] == [0, 3]


def test_a_concatenation_in_a_concatenation_is_in_place_too():
    (x,) = inputs((2,))
    inner = b.concat([b.unary("sin", x), b.unary("cos", x)], 0)
    plan = plan_of(b.concat([inner, b.unary("tanh", x)], 0))
    assert sorted(ops(plan)) == ["cos", "sin", "tanh"]
    values = np.arange(2.0)
    np.testing.assert_allclose(results(plan)[0], np.concatenate([np.sin(values), np.cos(values), np.tanh(values)]))


def test_a_part_used_twice_and_a_part_that_is_an_input_are_copied():
    (x,) = inputs((2,))
    y = b.unary("sin", x)
    plan = plan_of(b.concat([y, x, y], 0))
    assert ops(plan) == ["sin", "copy", "copy"]
    np.testing.assert_allclose(results(plan)[0], np.concatenate([np.sin([0, 1]), [0, 1], np.sin([0, 1])]))


# -- updates ------------------------------------------------------------------------------------------------


def test_a_new_value_is_written_straight_into_its_home():
    s = leaf("s", "state", Type((3,), D))
    plan = plan_of(updates=[(s, b.unary("sin", s))])
    (step,) = plan.steps
    assert step.inputs == step.outputs
    assert plan.memory.arena == 0


def test_a_single_kernel_does_not_write_over_an_operand_it_also_reads_in_another_order():
    """s + s' into s would read elements it has written: NumPy would copy behind our back, C would be wrong."""
    s = leaf("s", "state", Type((2, 2), D))
    plan = plan_of(updates=[(s, b.add(s, b.transpose(s, (1, 0))))])
    assert ops(plan) == ["add", "copy"]
    home = np.array([[1.0, 2.0], [3.0, 4.0]])
    results(plan, s=home)
    np.testing.assert_array_equal(home, [[2.0, 5.0], [5.0, 8.0]])


def test_homes_that_swap_are_saved_before_either_is_written():
    s, t = (leaf(name, "state", Type((2,), D)) for name in "st")
    plan = plan_of(updates=[(s, t), (t, s)])
    one, other = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    results(plan, s=one, t=other)
    assert (one.tolist(), other.tolist()) == ([3, 4], [1, 2])


def test_a_result_that_is_an_updated_home_is_its_old_value():
    s = leaf("s", "state", Type((2,), D))
    plan = plan_of(b.slice_(s, (1,), (2,), (-1,)), updates=[(s, b.add(s, 10.0))])
    home = np.array([1.0, 2.0])
    assert results(plan, s=home)[0].tolist() == [2, 1]
    assert home.tolist() == [11, 12]


# -- scratch ------------------------------------------------------------------------------------------------


def test_a_kernel_that_takes_scratch_gets_some_even_for_empty_operands():
    g, idx = leaf("g", "input", Type((0, 2), D)), leaf("i", "input", Type((0,), "int32"))
    plan = plan_of(b.apply("scatter_add", g, idx, rows=3))
    assert plan.steps[0].scratch is not None
    assert (results(plan)[0] == 0).all()


def test_scratch_lives_for_one_step():
    x, idx = leaf("x", "input", Type((4, 3), D)), leaf("i", "input", Type((4,), "int32"))
    plan = plan_of(b.unary("sin", b.apply("take", x, idx)))
    scratch = plan.storages[plan.steps[0].scratch.storage]
    assert scratch.first == scratch.last == plan.steps[0].position


# -- loops --------------------------------------------------------------------------------------------------


def loop(stack="none", reverse=False, length=4):
    """c' = c + x, with nothing, old or new carries stacked."""
    start, rows = inputs((2,), (length, 2))
    carry, row = leaf("carry0", "carry", Type((2,), D), depth=1), leaf("x0", "x", Type((2,), D), depth=1)
    time = leaf("time", "time", Type((), "int32"), depth=1)
    new = b.add(carry, row)
    stacks = {"none": [], "old": [carry], "new": [new], "both": [carry, new], "input": [row]}[stack]
    node = scan([start], [rows], [], [carry, row, time], ([new], stacks, []), length, reverse, NOWHERE)
    return [b.item(node, i) for i in range(len(node.types))]


def expected(stack, reverse, length):
    rows, carry, olds, news = np.arange(2.0 * length).reshape(length, 2), np.arange(2.0), [], []
    for row in rows[::-1] if reverse else rows:
        olds.append(carry)
        carry = carry + row
        news.append(carry)
    olds, news = (np.array(a[::-1] if reverse else a).reshape(length, 2) for a in (olds, news))
    return [carry, *{"none": [], "old": [olds], "new": [news], "both": [olds, news], "input": [rows]}[stack]]


@pytest.mark.parametrize("length", [4, 1, 0])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("stack", ["none", "old", "new", "both", "input"])
def test_a_loop_gives_what_python_gives(stack, reverse, length):
    found = results(plan_of(*loop(stack, reverse, length)))
    for got, value in zip(found, expected(stack, reverse, length), strict=True):
        np.testing.assert_array_equal(got, value)


def test_a_carry_alternates_between_two_slots():
    plan = plan_of(*loop())
    (step,) = next(s for s in plan.steps if isinstance(s, Loop)).body
    read, write = step.inputs[0].terms[0], step.outputs[0].terms[0]
    assert (read.modulo, read.shift, write.shift) == (2, 0, 1)
    assert plan.storages[step.outputs[0].storage].nbytes == 2 * 16


def test_a_carry_that_is_stacked_lives_in_the_stack_and_is_not_copied():
    plan = plan_of(*loop("both"))
    assert ops(plan) == ["copy", "scan", "add"]
    last, olds, news = plan.outputs.values()
    assert last.storage == olds.storage == news.storage
    assert news.offset - olds.offset == 2


def test_a_sum_over_iterations_starts_from_zero_at_every_run():
    (rows,) = inputs((3, 2))
    row, time = leaf("x0", "x", Type((2,), D), depth=1), leaf("time", "time", Type((), "int32"), depth=1)
    node = scan([], [rows], [], [row, time], ([], [], [b.mul(row, 2.0)]), 3, False, NOWHERE)
    run = NumpyBackend().bind(plan_of(b.item(node, 0)), {})
    run.inputs["x0"][...] = np.arange(6.0).reshape(3, 2)
    for _ in range(2):
        run.run()
        assert run.outputs["y0"].tolist() == [12, 18]


def test_two_carries_that_swap_keep_both_values():
    x, y = inputs((2,), (2,))
    one, other = (leaf(f"carry{i}", "carry", Type((2,), D), depth=1) for i in range(2))
    time = leaf("time", "time", Type((), "int32"), depth=1)
    node = scan([b.add(x, 5.0), y], [], [], [one, other, time], ([other, one], [], []), 3, False, NOWHERE)
    found = results(plan_of(b.item(node, 0), b.item(node, 1)))
    assert [a.tolist() for a in found] == [[0, 1], [5, 6]]


@pytest.mark.parametrize("value", [3.0, -3.0])
def test_a_branch_runs_one_side_and_both_write_the_same_place(value):
    (x,) = inputs((2,))
    given = leaf("const0", "const", Type((2,), D), depth=1)
    then = Graph((given,), (("r", b.unary("sin", given)),), name="body")
    orelse = Graph((given,), (("r", given),), name="body")
    node = cond(b.gt(b.scalar(value, D), b.sum_(x, [0])), then, orelse, [x], NOWHERE)
    got = results(plan_of(b.item(node, 0)))[0]
    np.testing.assert_allclose(got, np.sin([0, 1]) if value > 1 else [0, 1])


def test_a_leaf_without_memory_is_an_error_of_graphnet():
    stray = leaf("carry0", "carry", Type((2,), D), depth=1)
    row, time = leaf("x0", "x", Type((2,), D), depth=1), leaf("time", "time", Type((), "int32"), depth=1)
    (rows,) = inputs((3, 2))
    node = scan([], [rows], [], [row, time], ([], [b.add(row, stray)], []), 3, False, NOWHERE)
    with pytest.raises(CompileError, match="has no storage"):
        plan_of(b.item(node, 0))


def test_operands_that_numpy_would_copy_are_copied_by_a_planned_step():
    """A strided matrix for BLAS, and a table that is not contiguous for a gather; a transposed matrix is fine."""
    x, ids = leaf("wide", "input", Type((6, 8), "float32")), leaf("ids", "input", Type((3,), "int32"))
    turned, strided = b.transpose(x, (1, 0)), b.slice_(x, (0, 0), (6, 4), (1, 2))
    expected = {
        b.apply("take", turned, ids): ["copy", "take"],
        b.apply("take", x, ids): ["take"],
        b.matmul(turned, x): ["matmul"],
        b.matmul(x, b.transpose(x, (1, 0))): ["matmul"],
        b.matmul(b.transpose(x, (1, 0)), strided): ["copy", "matmul"],
    }
    for node, ops in expected.items():
        assert [s.op for s in lower(Graph((x, ids), (("output", node),))).steps] == ops
