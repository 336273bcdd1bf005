"""What a trace records: specs, parameters and states with their lines, scopes, streams of random numbers."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import graphnet as gn
from graphnet import program, trace
from graphnet.compiler import ir

HERE = Path(__file__).name


def traced(model, *specs, training=False, **options):
    """The trace of a model function, as a net makes it."""
    found = [program.spec_of(s) for s in specs]
    return program.FunctionProgram(model, found, None, options).trace([s.type for s in found], None, training)


def line_of(function, text):
    """The number of the line of ``function`` that contains ``text``."""
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


# -- specs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3), (2, 3)),
        ([2, 3], (2, 3)),
        (5, (5,)),
        ((), ()),
        (np.int64(4), (4,)),
        ((np.int32(2), 0), (2, 0)),
        (np.array([2, 3]), (2, 3)),
    ],
    ids=str,
)
def test_spec_takes_sizes_of_any_integer_type(shape, expected):
    """And keeps them as Python ints."""
    found = gn.spec(shape)
    assert found.shape == expected
    assert all(type(n) is int for n in found.shape)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("float32", "float32"),
        (np.float64, "float64"),
        (float, "float64"),
        (int, "int64"),
        (bool, "bool"),
        (np.dtype("u1"), "uint8"),
        ("f4", "float32"),
    ],
    ids=str,
)
def test_spec_takes_every_way_of_naming_a_dtype(dtype, name):
    """NumPy's names, types and dtypes, and Python's types."""
    assert gn.spec((), dtype).dtype == name


def test_spec_of_arrays_and_specs():
    """Example arrays give shape and dtype; half precision and 64-bit ids are narrowed to what graphnet computes in."""
    assert program.spec_of(np.zeros((2, 3), np.float16)) == gn.spec((2, 3))
    assert program.spec_of(np.zeros(3, np.int64)) == gn.spec(3, "int32")
    assert program.spec_of(np.zeros(3, np.float64)) == gn.spec(3, "float64")
    named = gn.spec(3, name="ids")
    assert program.spec_of(named) is named


# -- declarations ---------------------------------------------------------------------------------------


def test_parameters_and_states_are_recorded_with_their_lines():
    """Name, type, initial value and the line of the declaration."""

    @gn.model
    def declares(x):
        w = gn.param("w", (3, 2), init=0.5)
        s = gn.state("s", 2, dtype="float64")
        s.assign(gn.sum(x @ w, axis=0))
        return s + 1

    found = traced(declares, gn.spec((4, 3)))
    w, s = found.params["declares/w"], found.states["declares/s"]
    assert (w.name, w.node.out, w.init) == ("declares/w", ir.Type((3, 2), "float32"), 0.5)
    assert (s.name, s.node.out, s.init) == ("declares/s", ir.Type((2,), "float64"), 0.0)
    assert (Path(w.where.file).name, w.where.line) == (HERE, line_of(declares, 'gn.param("w"'))
    assert (s.where.line, s.where.scope) == (line_of(declares, 'gn.state("s"'), "declares")
    ((home, value),) = found.graph.updates
    assert home is s.node
    assert value.out == s.node.out


def test_a_parameter_in_a_loop_is_declared_once():
    """The cell is traced once, so its parameters are shared by all iterations."""

    def model(x):
        return gn.scan(lambda c, row: (c + row @ gn.param("w", (3, 3)), None), x[0] * 0, x)[0]

    assert list(traced(model, gn.spec((4, 3))).params) == ["model/w"]


def test_the_lines_of_nodes_are_those_of_user_code():
    """Through graphnet's layers and composites to the innermost line outside of graphnet."""

    @gn.model
    def model(x):
        y = gn.layers.dense(x, 4)
        return gn.softmax(y)

    graph = traced(model, gn.spec((2, 3))).graph
    by_op = {n.op: n.where for n in graph.nodes()}
    assert {Path(w.file).name for w in by_op.values()} == {HERE}
    assert (by_op["matmul"].line, by_op["matmul"].scope) == (line_of(model, "dense"), "model/dense_1")
    assert (by_op["exp"].line, by_op["exp"].scope) == (line_of(model, "softmax"), "model")


def test_the_reference_models_count_as_user_code():
    """Errors and dumps of models/*.py show their lines, not those of whoever compiled them."""
    from graphnet.models import lenet

    graph = traced(lenet.lenet, gn.spec((1, 1, 28, 28))).graph
    files = {Path(n.where.file).name for n in graph.nodes() if n.op in ("conv2d", "matmul")}
    assert files == {"lenet.py"}


# -- scopes ---------------------------------------------------------------------------------------------


def test_scopes_are_numbered_below_the_top_level():
    """The first model function is not numbered, a second one beside it is."""
    running = trace.Trace(training=False)

    def enter(name, explicit=None):
        with running.inside(name, explicit):
            return running.scope

    assert [enter("net"), enter("net"), enter("net", "mine")] == ["net", "net_2", "mine"]
    with running.inside("net", None):
        assert [enter("dense"), enter("conv2d"), enter("dense"), enter("dense", "out")] == [
            f"net_4/{name}" for name in ("dense_1", "conv2d_1", "dense_2", "out")
        ]


def test_a_failing_model_leaves_no_trace_behind():
    """After an error the next trace starts from the top level."""

    @gn.model
    def broken(x):
        raise KeyError("the user's own")

    with pytest.raises(KeyError, match="the user's own"):
        gn.compile(broken, gn.spec(2))
    assert not trace.tracing()
    with pytest.raises(gn.TraceError, match="works only while a model is traced"):
        gn.training()
    assert gn.compile(lambda x: x * 2, gn.spec(2))(np.ones(2)).tolist() == [2, 2]


def test_traces_of_equal_models_are_equal_however_often():
    """Nothing of an earlier trace shows in a later one: same graph, same lines, same order."""

    @gn.model
    def model(x):
        return gn.layers.dropout(gn.layers.dense(x, 4), 0.5) + gn.random_normal((2, 4))

    def dump(graph):
        numbers = {n: i for i, n in enumerate(graph.nodes())}
        return [
            (n.op, [numbers[i] for i in n.inputs], sorted(map(str, n.attrs.items())), str(n.where)) for n in numbers
        ]

    first = dump(traced(model, gn.spec((2, 3)), training=True).graph)
    gn.compile(lambda x: gn.layers.dense(x, 4), gn.spec((2, 3)))
    assert dump(traced(model, gn.spec((2, 3)), training=True).graph) == first


# -- random numbers -------------------------------------------------------------------------------------


def test_streams_are_counted_per_trace():
    """The n-th draw of a model has stream n, in training and in inference alike."""

    def model(x):
        return x + gn.random_uniform((2,)) + gn.random_uniform((2,))

    for training in (False, True):
        nodes = traced(model, gn.spec(2), training=training).graph.nodes()
        assert [n.attrs["stream"] for n in nodes if n.op == "random_uniform"] == [1, 2]


def test_uniform_numbers_in_a_range():
    """low and high scale and shift."""
    draw = gn.jit(lambda x: x + gn.random_uniform((1000,), low=-2.0, high=3.0, dtype="float64"))
    found = draw(0.0)
    assert found.dtype == np.float64
    assert -2 <= found.min() < -1.9
    assert 2.9 < found.max() < 3


def test_draws_in_nested_loops_differ_in_every_iteration():
    """The loop counters of all loops around a draw enter its key."""

    def model(x):
        def outer(c, _):
            return c, gn.scan(lambda d, _: (d, gn.random_uniform((2,))), c, length=3)[1]

        return gn.scan(outer, x, length=4)[1]

    found = gn.compile(model, gn.spec(()))(0.0)
    assert found.shape == (4, 3, 2)
    assert len(np.unique(found)) == found.size
