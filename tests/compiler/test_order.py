"""The order of steps: phases one after the other, and every reader of an old value before the new one is written."""

from __future__ import annotations

import pytest

from graphnet.compiler import build as b
from graphnet.compiler.ir import Graph, Type, leaf
from graphnet.compiler.order import order, phase_of, step_of

D = "float64"


def home(name, role="state", shape=(2,)):
    return leaf(name, role, Type(shape, D))


S, T, X, W = home("s"), home("t"), home("x", "input"), home("w", "param")
LR = home("optimizer/lr", "hyper")


def place(nodes):
    return {n: i for i, n in enumerate(nodes)}


def test_operands_come_before_users():
    y = b.mul(b.add(X, W), b.neg(X))
    nodes = order(Graph((X,), (("y", y),))).nodes
    at = place(nodes)
    assert all(at[i] < at[n] for n in nodes for i in n.inputs)


def test_a_new_value_is_written_in_place_after_the_last_reader_of_the_old_one():
    """s' = sin s may overwrite s once cos s has been read."""
    new, other = b.unary("sin", S), b.unary("cos", S)
    found = order(Graph((), (("y", other),), ((S, new),)))
    assert found.direct == {S: new}
    assert place(found.nodes)[other] < place(found.nodes)[new]


def test_a_view_s_readers_count_as_readers():
    new, other = b.unary("sin", S), b.unary("cos", b.reshape(S, (2, 1)))
    found = order(Graph((), (("y", other),), ((S, new),)))
    assert found.direct == {S: new}
    assert place(found.nodes)[other] < place(found.nodes)[new]


def test_a_reader_that_needs_the_new_value_keeps_the_old_one_in_its_place():
    new = b.unary("sin", S)
    found = order(Graph((), (("y", b.mul(b.unary("tanh", new), S)),), ((S, new),)))
    assert found.direct == {}


def test_two_states_that_swap_through_arithmetic_cannot_both_be_written_in_place():
    found = order(Graph((), (), ((S, b.add(T, 1.0)), (T, b.add(S, 1.0)))))
    assert len(found.direct) <= 1


@pytest.mark.parametrize("value", [T, b.reshape(b.reshape(T, (2, 1)), (2,)), b.slice_(T, (1,), (2,), (-1,))])
def test_a_home_that_an_update_shows_a_view_of_is_not_written_early(value):
    found = order(Graph((), (), ((S, value), (T, b.unary("sin", T)))))
    assert T not in found.direct


def test_a_home_that_is_a_result_is_not_written_early():
    assert order(Graph((), (("old", S),), ((S, b.unary("sin", S)),))).direct == {}


def test_a_value_that_is_a_result_or_goes_to_two_homes_has_one_place_only():
    new = b.unary("sin", S)
    assert order(Graph((), (("y", new),), ((S, new),))).direct == {}
    assert len(order(Graph((), (), ((S, new), (T, new)))).direct) == 1


def test_products_are_not_written_over_their_operands():
    s = home("m", shape=(2, 2))
    assert order(Graph((), (), ((s, b.matmul(s, s)),))).direct == {}


def test_a_whole_step_is_forward_up_to_the_loss_backward_from_it_and_update_from_the_optimiser():
    loss = b.sum_(b.mul(W, W), [0])
    gradient = b.mul(W, 2.0)
    moved = b.sub(W, b.mul(gradient, LR))
    phases = phase_of(Graph((), (("loss", loss),), ((W, moved),)))
    assert phases[loss] == "forward"
    assert phases[gradient] == "backward"
    assert phases[moved] == "update"


def phased():
    """Forward y, backward loss and gradient, and a state whose new value is forward work."""
    new = b.mul(S, 2.0)
    y = b.add(b.mul(W, X), new)
    gradient = b.mul(X, S)
    return new, y, gradient, Graph((X,), (("output", y), ("loss", b.sum_(y, [0])), ("grad/w", gradient)), ((S, new),))


def test_phases_called_apart_run_one_after_the_other():
    _, y, gradient, graph = phased()
    found = order(graph)
    assert found.phase[y] == "forward"
    assert found.phase[gradient] == "backward"
    ranks = [("forward", "backward", "update").index(found.phase[n]) for n in found.nodes if n.inputs]
    assert ranks == sorted(ranks)


def test_a_state_the_backward_phase_reads_is_not_overwritten_in_the_forward_phase():
    assert order(phased()[3]).direct == {}


def test_the_step_of_a_taken_result_is_the_node_with_several_results():
    pair = b.add(X, W)
    assert step_of(pair) is pair


def test_the_order_is_the_same_every_time():
    graph = phased()[3]
    assert order(graph).nodes == order(graph).nodes
