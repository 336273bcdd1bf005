"""Nests of lists, tuples, named tuples and dicts."""

from __future__ import annotations

from collections import defaultdict, namedtuple

import pytest

from graphnet import tree

Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("nest", "leaves"),
    [
        (1, [1]),
        ([], []),
        ((), []),
        ({}, []),
        (None, []),
        ([1, (2, 3)], [1, 2, 3]),
        ({"b": 1, "a": 2}, [2, 1]),
        ({"a": [1, None, {"c": 2}]}, [1, 2]),
        (Point(1, [2]), [1, 2]),
        ((None, 1, None), [1]),
        ("text", ["text"]),
    ],
    ids=str,
)
def test_flatten_and_back(nest, leaves):
    """Leaves in order, dicts by sorted key; unflatten rebuilds equal nests of the same types."""
    found, structure = tree.flatten(nest)
    assert found == leaves
    rebuilt = tree.unflatten(structure, found)
    assert rebuilt == nest
    assert type(rebuilt) is type(nest)
    assert tree.flatten(rebuilt)[1] == structure


def test_named_tuples_come_back_as_themselves():
    """With their fields."""
    found, structure = tree.flatten({"p": Point(1, 2)})
    assert tree.unflatten(structure, found)["p"].y == 2


def test_structures_tell_nests_apart():
    """By kind of container, keys, length and depth; not by the values of the leaves."""
    nests = [[1], (1,), {"a": 1}, {"b": 1}, [1, 2], [[1]], 1, None, [None], Point(1, 2)]
    structures = [tree.flatten(n)[1] for n in nests]
    assert len(set(structures)) == len(nests)
    assert tree.flatten([5])[1] == structures[0]


def test_dicts_of_equal_keys_in_another_order_are_alike():
    """The order of insertion does not matter."""
    assert tree.flatten({"a": 1, "b": 2})[1] == tree.flatten({"b": 3, "a": 4})[1]


def test_kinds_of_dicts_come_back_as_dicts():
    """Their constructors may want something else than pairs."""
    leaves, structure = tree.flatten(defaultdict(list, b=1, a=2))
    assert tree.unflatten(structure, leaves) == {"a": 2, "b": 1}


def test_structures_print_their_shape():
    """Stars stand for leaves: what error messages show."""
    assert str(tree.flatten(3)[1]) == "*"
    assert str(tree.flatten([1, {"a": 2}])[1]) == "list(0: *, 1: dict('a': *))"
