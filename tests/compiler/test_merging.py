"""Steps that become one: what merges, what must not, and that results stay what they were."""

from __future__ import annotations

import numpy as np

from graphnet.compiler import build as b
from graphnet.compiler.ir import Graph, Type, leaf
from graphnet.compiler.lower import lower

D = "float64"


def inputs(*shapes, dtype=D):
    return [leaf(f"x{i}", "input", Type(s, dtype)) for i, s in enumerate(shapes)]


def values(graph):
    chosen = np.random.default_rng(0)
    return {n.attrs["name"]: np.asarray(chosen.standard_normal(n.shape), n.dtype) for n in graph.leaves()}


def merged(tools, backend, *nodes, updates=(), rtol=1e-12):
    """The plan of a graph, once it has given what the interpreter says."""
    graph = Graph((), tuple((f"y{i}", n) for i, n in enumerate(nodes)), tuple(updates))
    plan, arrays = lower(graph, target=backend.target), values(graph)
    got = tools.execute(plan, arrays, backend)
    for name, value in tools.expected_of(graph, arrays).items():
        np.testing.assert_allclose(got[name], value, rtol=rtol, err_msg=name)
    return plan


def steps(plan):
    """The op of each step, and > behind one that has a reader in it."""
    return [f"{s.op}{'>' if getattr(s, 'epilogue', None) else ''}" for s in plan.steps]


def test_a_reader_that_repeats_a_product_does_not_join_it(random_graphs, c_backend):
    """(4, 1) spread over (4, 10): more elements than the product has."""
    x, w, bias = inputs((4, 3), (3, 1), (10,))
    assert steps(merged(random_graphs, c_backend(), b.add(b.matmul(x, w), bias))) == ["matmul", "add"]
    one = b.slice_(bias, (0,), (1,), (1,))
    assert steps(merged(random_graphs, c_backend(), b.add(b.matmul(x, w), one))) == ["matmul>"]
