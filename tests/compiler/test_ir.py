"""Nodes are interned, typed and placed; graphs are rebuilt, never changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError
from graphnet.compiler.ir import (
    Graph,
    Type,
    Where,
    is_leaf,
    leaf,
    make,
    rebuild,
    reintern,
    rewrite,
    session,
    substitute,
    toposort,
    users,
)  # fmt: skip

F = "float32"
X, Y = (leaf(name, "input", Type((2, 3), F)) for name in ("left", "right"))


def test_a_type_knows_its_size_bytes_and_words():
    t = Type((2, 0, 3), "float64")
    assert (t.ndim, t.size, t.nbytes, t.is_float) == (3, 0, 0, True)
    assert Type((), "uint64").nbytes == 8
    assert str(Type((2, 3), "int32")) == "int32(2, 3)"
    assert not Type((), "bool").is_float


def test_equal_nodes_are_one_object_and_unequal_ones_are_not():
    assert b.add(X, Y) is b.add(X, Y)
    assert b.add(X, Y) is not b.add(Y, X)
    assert b.reshape(X, (6,)) is not b.reshape(X, (3, 2))
    assert leaf("left", "input", Type((2, 3), F)) is X
    assert leaf("left", "param", Type((2, 3), F)) is not X
    assert b.scalar(1.0, F) is b.scalar(1, F)
    assert b.scalar(0.0, F) is not b.scalar(-0.0, F)


def test_a_node_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        X.op = "other"


def test_a_node_keeps_the_line_it_was_first_made_at():
    with b.at(Where("net.py", 3, "net")):
        first = b.mul(X, 0.123)
    with b.at(Where("net.py", 9)):
        assert b.mul(X, 0.123) is first
    assert str(first.where) == "net.py:3"
    assert first.where.scope == "net"
    assert b.current_where().line == 0


def test_a_session_interns_apart_and_reintern_carries_a_graph_into_it():
    with b.at(Where("old.py", 1)):
        outer = b.mul(X, 0.321)
    graph = Graph((X,), (("y", outer),), ((X, outer),))
    with session():
        inner = reintern(graph)
        assert inner.output("y") is not outer
        assert inner.output("y").where == outer.where
        assert inner.updates[0] == (inner.inputs[0], inner.output("y"))
        assert reintern(inner).output("y") is inner.output("y")
    assert b.mul(X, 0.321) is outer


def test_toposort_puts_operands_first_and_needs_no_recursion():
    node = X
    for k in range(5000):
        node = b.add(node, float(k))
    order = toposort([node])
    place = {n: i for i, n in enumerate(order)}
    assert order[-1] is node
    assert all(place[i] < place[n] for n in order for i in n.inputs)
    assert len(set(order)) == len(order)


def test_a_graph_lists_roots_leaves_and_nodes():
    w = leaf("w", "param", Type((2, 3), F))
    s = leaf("s", "state", Type((2, 3), F))
    total = b.add(X, w)
    graph = Graph((X, Y), (("y", total),), ((s, total),))
    assert graph.roots() == (total, total)
    assert graph.nodes() == (X, w, total)
    assert graph.leaves() == (X, Y, w, s)
    assert graph.output("y") is total
    assert graph.has("y")
    assert not graph.has("loss")


def test_rebuild_of_the_same_operands_is_the_same_node():
    node = b.add(X, Y)
    assert rebuild(node, [X, Y]) is node
    assert rebuild(node, [Y, Y]) is b.add(Y, Y)


def test_substitute_replaces_leaves_and_all_that_reads_them():
    root = b.mul(b.add(X, Y), X)
    assert substitute([root], {X: Y})[root] is b.mul(b.add(Y, Y), Y)


def test_rewrite_visits_bottom_up_and_leaves_the_old_graph_alone():
    graph = Graph((X,), (("y", b.neg(b.neg(X))),))
    new = rewrite(graph, lambda old, ins: ins[0] if old.op == "neg" else rebuild(old, ins))
    assert new.output("y") is X
    assert graph.output("y").op == "neg"


def test_users_are_listed_once_for_each_reader():
    square, total = b.mul(X, X), b.add(X, Y)
    found = users([X, Y, square, total])
    assert found[X] == [square, total]
    assert found[Y] == [total]
    assert found[total] == []


def test_is_leaf_holds_for_inputs_and_not_for_constants():
    assert is_leaf(X)
    assert not is_leaf(b.scalar(1.0, F))


def test_a_node_with_two_results_has_no_single_type():
    pair = make("split", (X,), {}, (X.out, Type((), "int32")))
    assert b.item(pair, 1).out == Type((), "int32")
    with pytest.raises(TypeError, match="split has 2 results"):
        _ = pair.out


# -- building -----------------------------------------------------------------------------------------------


def test_numbers_take_the_dtype_of_the_other_operand_and_lower_dtypes_are_cast():
    i = leaf("i", "input", Type((3,), "int32"))
    assert b.add(X, 1).dtype == F
    assert b.add(i, 1).dtype == "int32"
    assert b.add(i, 0.5).dtype == F
    assert b.add(X, i).dtype == F
    assert b.add(X, leaf("d", "input", Type((), "float64"))).dtype == "float64"
    assert b.div(i, 2).dtype == F


@pytest.mark.parametrize(("value", "dtype"), [(300, "uint8"), (-1, "uint32"), (1 << 40, "int32")])
def test_a_number_that_does_not_fit_its_dtype_is_refused(value, dtype):
    with pytest.raises(DTypeError, match=f"the number {value} does not fit {dtype}"):
        b.scalar(value, dtype)


def test_scalar_value_reads_a_constant_through_broadcasts_only():
    assert b.scalar_value(b.full((2, 3), 2.5, F)) == 2.5
    assert b.scalar_value(b.scalar(True, "bool")) is True
    assert np.isnan(b.scalar_value(b.scalar(np.nan, F)))
    assert b.scalar_value(X) is None


def test_builders_that_change_nothing_return_their_operand():
    assert b.reshape(X, (2, 3)) is X
    assert b.transpose(X, (0, 1)) is X
    assert b.broadcast_to(X, (2, 3)) is X
    assert b.slice_(X, (0, 0), (2, 3), (1, 1)) is X
    assert b.concat([X], 0) is X
    assert b.cast(X, F) is X
    assert b.sum_(X, []) is X


def test_sum_to_undoes_broadcasting():
    wide = leaf("wide", "input", Type((4, 2, 3), F))
    for shape in ((2, 3), (1, 3), (2, 1), (), (1, 1, 1), (4, 1, 3)):
        assert b.sum_to(wide, shape).shape == shape
