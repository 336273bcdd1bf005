"""Gradients as graph: sums where paths meet, None where nothing flows, loops and branches to any order."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn
from graphnet.compiler import build as b
from graphnet.compiler.autodiff import depends_on, gradients, zeros_unless
from graphnet.compiler.ir import Type, Where, leaf

D = "float64"
X, Y, G = (leaf(n, "input", Type((2, 3), D)) for n in ("left", "right", "seed"))


def test_the_gradient_of_a_leaf_with_respect_to_itself_is_the_seed():
    assert gradients([(X, G)], [X]) == [G]


def test_paths_that_meet_are_added_up():
    (found,) = gradients([(b.add(X, X), G)], [X])
    assert found is b.add(G, G)


def test_seeds_of_several_results_are_added_up():
    (found,) = gradients([(b.neg(X), G), (X, Y)], [X])
    assert found is b.add(Y, b.neg(G))


def test_what_a_result_does_not_depend_on_has_no_gradient():
    assert gradients([(b.neg(X), G)], [Y]) == [None]
    assert zeros_unless(None, Y) is b.zeros_like(Y)
    assert zeros_unless(G, Y) is G


def test_nothing_flows_through_steps_comparisons_indices_and_integers():
    ids = b.cast(X, "int32")
    for blocked in (b.unary("floor", X), b.cast(b.gt(X, Y), D), b.cast(ids, D), b.unary("stop_gradient", X)):
        assert gradients([(blocked, G)], [X]) == [None]


def test_the_gradient_of_a_broadcast_operand_has_its_own_shape():
    row, column = leaf("r", "input", Type((3,), D)), leaf("c", "input", Type((2, 1), D))
    found = gradients([(b.mul(b.add(X, row), column), G)], [row, column, X])
    assert [n.shape for n in found] == [(3,), (2, 1), (2, 3)]


def test_the_gradient_of_a_cast_operand_has_its_own_dtype():
    x = leaf("x", "input", Type((2, 3), "float32"))
    assert gradients([(b.mul(x, Y), G)], [x])[0].dtype == "float32"


def test_an_intermediate_node_can_be_what_is_differentiated_for():
    middle = b.unary("sin", X)
    (found,) = gradients([(b.mul(middle, Y), G)], [middle])
    assert found is b.mul(G, Y)


def test_gradient_nodes_belong_to_the_line_of_what_they_are_the_gradient_of():
    with b.at(Where("net.py", 12, "net")):
        y = b.unary("tanh", X)
    (found,) = gradients([(y, G)], [X])
    assert found.where == Where("net.py", 12, "net")


def test_depends_on_follows_operands():
    y = b.neg(X)
    z = b.add(y, Y)
    assert depends_on((X, Y, y, z), [X]) == {X, y, z}


# -- to any order -------------------------------------------------------------------------------------------


def derivatives(f, x, order):
    found = []
    for _ in range(order):
        f = gn.grad(f)
        found.append(float(f(x)))
    return found


def test_powers_to_the_fourth_order():
    assert derivatives(lambda x: x * x * x * x, 2.0, 4) == pytest.approx([32, 48, 48, 24])


@pytest.mark.parametrize(("x", "expected"), [(3.0, [54, 36, 12]), (-3.0, [2, 0, 0])])
def test_a_branch_to_the_third_order(x, expected):
    """The seeds of a second gradient are not those of the first, which are operands by then."""
    assert derivatives(lambda x: 2 * gn.cond(x > 0, lambda v: v * v * v, lambda v: v, x), x, 3) == expected


def test_a_branch_in_a_branch_to_the_second_order():
    def inner(v):
        return gn.cond(v > 2.0, lambda u: u * u * u, lambda u: u * u, v)

    def f(x):
        return 3 * gn.cond(x > 0.0, lambda v: 5 * inner(v) * v, lambda v: v, x)

    assert derivatives(f, 3.0, 2) == pytest.approx([15 * 4 * 27, 15 * 12 * 9])
    assert derivatives(f, 1.0, 2) == pytest.approx([15 * 3, 15 * 6])


def power(x, n, reverse=False):
    return gn.scan(lambda c, _: (c * x, None), np.ones(()), length=n, reverse=reverse)[0]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_to_the_third_order(reverse):
    found = derivatives(lambda x: 2 * power(x, 5, reverse), 1.5, 3)
    assert found == pytest.approx([10 * 1.5**4, 40 * 1.5**3, 120 * 1.5**2])


def test_a_loop_in_a_loop_to_the_second_order():
    """(x**3)**2 and the sum of the inner powers of each round."""

    def f(x):
        def outer(c, _):
            last, all_of_them = gn.scan(lambda d, _: (d * x, d), c, length=3)
            return last, gn.sum(all_of_them)

        last, sums = gn.scan(outer, np.ones(()), length=2)
        return last + gn.sum(sums)

    coefficients = [np.poly1d([1, 1, 1, 1, 1, 1, 1]).deriv(n)(1.3) for n in (1, 2)]
    assert derivatives(f, 1.3, 2) == pytest.approx(coefficients)


def test_a_branch_in_a_loop_to_the_second_order():
    """The carry is squared once it is above 2, else multiplied by x."""

    def f(x):
        def cell(c, _):
            return gn.cond(c > 2.0, lambda v: v * v, lambda v: v * x, c), None

        return gn.scan(cell, np.ones(()), length=3)[0]

    # 1.6 -> 1.6 ** 2 = 2.56 -> 2.56 ** 2 = x ** 4
    assert derivatives(f, 1.6, 2) == pytest.approx([4 * 1.6**3, 12 * 1.6**2])


def test_rows_taken_of_a_scanned_table_are_hoisted_with_their_gradient():
    """A gather whose table changes with the iteration: one gather over all of them."""
    tables, ids = np.arange(24.0).reshape(4, 3, 2), np.array([[0, 2], [1, -1], [2, 2], [0, 0]])

    def fixed(tables):
        return gn.scan(lambda c, t: (c + gn.sum(gn.take(t, ids[1], axis=0) ** 2), None), np.zeros(()), tables)[0]

    def varying(tables):
        cell = lambda c, row: (c + gn.sum(gn.take(row[0], row[1], axis=0) ** 2), None)  # noqa: E731
        return gn.scan(cell, np.zeros(()), (tables, ids))[0]

    for f, chosen in ((fixed, np.tile(ids[1], (4, 1))), (varying, ids)):
        expected = np.zeros_like(tables)
        for k in range(4):
            for i in chosen[k]:
                expected[k, i] += 2 * tables[k, i]
        assert gn.jit(f)(tables) == pytest.approx(sum((tables[k][chosen[k]] ** 2).sum() for k in range(4)))
        np.testing.assert_allclose(gn.grad(f)(tables), expected)


def test_an_index_out_of_range_in_a_loop_is_refused_not_taken_from_the_next_table():
    tables, ids = np.ones((3, 2, 2)), np.array([[0], [2], [1]])

    def f(tables, ids):
        return gn.scan(lambda c, row: (c + gn.take(row[0], row[1], axis=0)[0], None), np.zeros(2), (tables, ids))[0]

    with pytest.raises((ValueError, IndexError, gn.GraphnetError), match="out of range"):
        gn.jit(f)(tables, ids)


def test_gradients_of_int_operands_are_left_out_of_loops():
    ids = np.array([0, 1, 1])

    def f(w):
        return gn.sum(gn.scan(lambda c, i: (c + gn.take(w, i, axis=0), c), np.zeros(2), ids)[0])

    np.testing.assert_array_equal(gn.grad(f)(np.zeros((3, 2))), [[1, 1], [2, 2], [0, 0]])


def test_a_loop_without_iterations_passes_the_gradient_of_its_start_through():
    def f(x):
        return gn.sum(gn.scan(lambda c, _: (c * 2, c), x, length=0)[0] * np.array([3.0, 5.0]))

    np.testing.assert_array_equal(gn.grad(f)(np.ones(2)), [3, 5])
