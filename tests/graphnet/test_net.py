"""What a net does between its calls: copies, targets, threads, mappings, arguments that do not fit."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import graphnet as gn

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.arange(8) % 3
CROSS = gn.losses.softmax_cross_entropy


@gn.model
def scores(x):
    return gn.layers.dense(x, 3)


def made(model=scores, loss=CROSS, **options):
    return gn.compile(model, gn.spec((8, 4)), loss=loss, optimizer=gn.optim.SGD(lr=0.1, momentum=0.9), **options)


def test_a_deep_copy_trains_on_by_itself_as_the_net_would():
    net = made()
    net.step(X, Y)
    twin = copy.deepcopy(net)
    before = twin.params["scores/dense_1/w"].copy()
    losses = [net.step(X, Y) for _ in range(3)]
    np.testing.assert_array_equal(twin.params["scores/dense_1/w"], before)
    assert [twin.step(X, Y) for _ in range(3)] == losses


@pytest.mark.parametrize("action", [pickle.dumps, copy.copy])
def test_pickling_and_shallow_copies_are_refused(action):
    with pytest.raises(gn.PlanError, match=r"net\.save"):
        action(made())


def own(output, target):
    return CROSS(output, target)


@pytest.mark.parametrize("options", [{}, {"target": gn.spec((8,), "int32")}, {"target": Y}])
def test_a_loss_of_ones_own_takes_class_numbers(options):
    """With or without a target spec, as the built-in loss does."""
    assert made(loss=own, **options).step(X, Y) == made().step(X, Y)


def test_a_target_spec_is_kept_in_the_plan():
    net = made(loss=gn.losses.mse, target=gn.spec((8, 3), "float64"))
    net.step(X, np.ones((8, 3), "float32"))
    assert {str(plan.target) for plan in net.plans} == {"float64(8, 3)"}


def test_several_outputs_need_a_target_spec():
    def named(x):
        return {"a": scores(x)}

    def first(outputs, target):
        return CROSS(outputs["a"], target)

    with pytest.raises(gn.CompileError, match=r"target=gn\.spec"):
        made(named, first)
    assert made(named, first, target=gn.spec((8,), "int32")).step(X, Y) > 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(8, 2**32), "4294967296 does"),
        (np.full(8, -1), "index -1 is"),
        (np.full(8, 7), "index 7 is"),
    ],
)
def test_labels_that_are_no_class_are_errors(labels, message):
    """None of them wraps around to a class."""
    net = made()
    before = net.params["scores/dense_1/w"].copy()
    with pytest.raises(gn.DataError, match=message):
        net.step(X, labels)
    np.testing.assert_array_equal(net.params["scores/dense_1/w"], before)


def test_example_arrays_of_large_integers_keep_their_dtype():
    net = gn.compile(lambda x: x + 1, np.array([2**40]))
    assert net(np.array([2**40])) == 2**40 + 1


def test_the_optimiser_cannot_be_exchanged():
    net = made()
    with pytest.raises(gn.PlanError, match="compile again"):
        net.optimizer = gn.optim.Adam()


def test_threads_get_their_own_results():
    net = gn.compile(lambda x: gn.layers.dense(gn.layers.dense(x, 64), 64), gn.spec((8, 4)))
    inputs = [X + i for i in range(4)]
    expected = [net(x) for x in inputs]
    wrong = []

    def work(i):
        wrong.extend(i for _ in range(100) if not np.array_equal(net(inputs[i]), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_mappings_of_arrays_behave_as_mappings():
    net = made()
    assert "nope" not in net.params
    assert net.params.get("nope", 3) == 3
    with pytest.raises(gn.NameError, match="parameter 'nope' is unknown: there are scores/dense_1/w"):
        net.params["nope"]


def test_repr_names_model_and_size():
    assert repr(made()) == "<Net scores: 15 parameters, 1 plans>"


def test_check_mode_blames_a_nan_in_the_input_on_the_input(monkeypatch):
    monkeypatch.setenv("GRAPHNET_CHECK", "1")
    bad = X.copy()
    bad[0, 0] = np.nan
    with pytest.raises(gn.NumericsError, match="input 'x' holds NaN"):
        made().step(bad, Y)


def test_check_mode_watches_plain_functions_too(monkeypatch):
    monkeypatch.setenv("GRAPHNET_CHECK", "1")
    with pytest.raises(gn.NumericsError, match=r"div: made infinity"):
        gn.grad(lambda x: gn.sum(gn.sqrt(x)))(np.array([0.0, 1.0]))


def test_numpy_integers_are_seeds():
    assert made(seed=np.int64(3)).step(X, Y) == made(seed=3).step(X, Y)


@pytest.mark.parametrize("kept", [False, True], ids=["arrays", "on the device"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0$"),
        ({"batch_size": -3}, "batch_size must be an integer of at least 1, got -3$"),
        ({"batch_size": 2.5}, "batch_size must be an integer of at least 1, got 2.5$"),
        ({"epochs": -1}, "epochs must be an integer of at least 0, got -1$"),
    ],
)
def test_fit_and_evaluate_refuse_sizes_that_are_none(options, message, kept):
    @gn.model
    def linear(x):
        return gn.layers.dense(x, 1)

    x, y = np.ones((6, 2), np.float32), np.ones((6, 1), np.float32)
    net = gn.compile(linear, gn.spec((3, 2)), loss=gn.losses.mse, optimizer=gn.optim.SGD(lr=0.1), backend="numpy")
    given = (gn.data.on_device(x, y),) if kept else (x, y)
    with pytest.raises(gn.DataError, match=rf"test_net.py:\d+: fit: {message}"):
        net.fit(*given, verbose=False, **options)
    if "epochs" not in options:
        with pytest.raises(gn.DataError, match=rf"test_net.py:\d+: evaluate: {message}"):
            net.evaluate(*given, **options)


def test_fit_names_the_line_that_gave_arrays_of_unequal_length():
    with pytest.raises(gn.DataError, match=r"test_net\.py:\d+: .*8.*3"):
        made().fit(X, Y[:3], verbose=False)
