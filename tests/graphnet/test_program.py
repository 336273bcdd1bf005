"""Programs: the graphs a model function gives for input types, a loss and a mode, and programs that were saved."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import graphnet as gn
from graphnet import tree
from graphnet.compiler.ir import Type
from graphnet.program import FunctionProgram, SavedProgram

F23, F24, IDS = Type((2, 3), "float32"), Type((2, 4), "float32"), Type((2,), "int32")


@gn.model
def linear(x):
    return gn.layers.dense(x, 4)


SPECS = (gn.spec((2, 3)),)


def program(fn=linear, specs=SPECS, loss=gn.losses.mse, **options):
    return FunctionProgram(fn, specs, loss, options)


def test_the_graph_has_the_output_and_with_a_target_the_loss():
    """Inputs are leaves named as the function's arguments; the target is a leaf of its own."""
    bare = program().trace([F23], None, training=False)
    assert [n for n, _ in bare.graph.outputs] == ["output"]
    assert bare.target is None
    whole = program().trace([F23], F24, training=True)
    assert [(n, v.out) for n, v in whole.graph.outputs] == [("output", F24), ("loss", Type((), "float32"))]
    assert [n.attrs["name"] for n in whole.inputs] == ["x"]
    assert whole.target.attrs["role"] == "target"
    assert whole.signature == ((F23,), F24, True)
    assert (bare.graph.name, whole.graph.name) == ("linear:inference", "linear:training")


def test_a_model_that_returns_a_float_scalar_is_its_own_loss():
    """Only without loss=, and only a single 0-d float."""

    def energy(x):
        return gn.sum(x * x)

    assert program(energy, loss=None).trace([F23], None, True).graph.has("loss")
    assert not program(gn.argmax, loss=None).trace([F23], None, True).graph.has("loss")
    assert not program(lambda x: (gn.sum(x), gn.sum(x)), loss=None).trace([F23], None, True).graph.has("loss")
    assert not program(gn.relu, loss=None).trace([F23], None, True).graph.has("loss")


def test_a_model_that_is_its_own_loss_trains():
    """step takes the inputs only."""

    def energy(x):
        return gn.mean((x - gn.param("m", (3,), init=0.0)) ** 2)

    net = gn.compile(energy, gn.spec((2, 3)), optimizer=gn.optim.SGD(lr=0.75))
    x = np.array([[1, 2, 3], [3, 4, 5]], np.float32)
    losses = [net.step(x) for _ in range(40)]
    assert losses[0] == pytest.approx(np.mean(x**2))
    np.testing.assert_allclose(net.params["energy/m"], [2, 3, 4], rtol=1e-5)


def test_outputs_of_nests_are_numbered():
    """The structure is kept beside the graph."""
    found = program(lambda x: {"b": x, "a": [x + 1, None]}, loss=None).trace([F23], None, False)
    assert [n for n, _ in found.graph.outputs] == ["output/0", "output/1"]
    assert str(found.outputs) == "dict('a': list(0: *, 1: NoneType()), 'b': *)"
    assert found.outputs != tree.LEAF


def test_losses_may_take_nests():
    """A loss of one's own gets what the model returned."""

    def pair(x):
        return {"a": gn.layers.dense(x, 4), "b": x}

    def both(out, target):
        return gn.mean((out["a"] - target) ** 2) + gn.mean(out["b"])

    net = gn.compile(pair, gn.spec((2, 3)), loss=both, optimizer=gn.optim.SGD(lr=0.1), target=gn.spec((2, 4)))
    assert np.isfinite(net.step(np.ones((2, 3)), np.zeros((2, 4))))


@pytest.mark.parametrize(
    ("fn", "specs", "names"),
    [
        (lambda x, y: x, 2, ["x", "y"]),
        (lambda *xs: xs[0], 3, ["xs0", "xs1", "xs2"]),
        (lambda x, *more: x, 3, ["x", "more0", "more1"]),
        (functools.partial(lambda k, x: x * k, 2.0), 1, ["x"]),
        (functools.partial(lambda x, k: x * k, k=2.0), 1, ["x"]),
    ],
    ids=["two", "star", "star after one", "partial", "partial keyword"],
)
def test_inputs_are_named_after_arguments(fn, specs, names):
    """Star arguments are numbered; bound arguments are no inputs."""
    assert program(fn, [gn.spec(2)] * specs, loss=None).names == names


def test_spec_names_win():
    """gn.spec(name=) names the input."""
    assert program(lambda x, y: x, [gn.spec(2, name="left"), gn.spec(2)], None).names == ["left", "y"]


def test_the_names_of_programs():
    """Those of the functions, through partials and decorators."""
    assert program().name == "linear"
    assert program(functools.partial(linear)).name == "linear"
    assert program(lambda x: x).name == "model"
    assert program().loss_name == "mse"
    assert program(loss=functools.partial(gn.losses.huber, delta=2.0)).loss_name == "huber"
    assert program(loss=None).loss_name == ""


def test_default_targets():
    """Class numbers for softmax_cross_entropy, the output's own type for mse, nothing for a loss of one's own."""
    assert program().target_type(F24) == F24
    assert program(loss=gn.losses.softmax_cross_entropy).target_type(F24) == IDS
    assert program(loss=None).target_type(F24) is None


def test_tracing_again_for_another_batch_size():
    """A program gives graphs for any shapes the function accepts, with the same parameters."""
    one, two = (program().trace([Type((n, 3), "float32")], None, False) for n in (2, 7))
    assert list(one.params) == list(two.params)
    assert two.graph.output("output").shape == (7, 4)


def test_saved_programs_know_the_graphs_they_hold():
    """Others are refused with the shapes there are."""
    held = program().trace([F23], F24, True), program().trace([F23], None, False)
    saved = SavedProgram("linear", "mse", held, {F24: F24})
    assert saved.trace([F23], None, False) is held[1]
    assert saved.target_type(F24) == F24
    assert saved.names == ["x"]
    with pytest.raises(
        gn.PlanError, match=r"test_program\.py:\d+: this saved net has no inference graph for float32\(9, 3\)"
    ):
        saved.trace([Type((9, 3), "float32")], None, False)
