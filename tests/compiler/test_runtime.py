"""A compiled net as it runs: no allocation in a steady state, repeatable to the bit, updates that never tear."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import graphnet as gn


@gn.model
def mlp(x, hidden=16):
    return gn.layers.dense(gn.relu(gn.layers.dense(x, hidden)), 3)


@gn.model
def lenet(x):
    x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 3, kernel=3)), 2)
    x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 4, kernel=2)), 2)
    return gn.layers.dense(gn.layers.dropout(gn.flatten(x), 0.25), 3)


@gn.model
def tagger(ids):
    x = gn.layers.embedding(ids, 7, 5)
    return gn.layers.dense(gn.layers.lstm(x, 6, stateful=True), 7)


def batch(name, rows=8):
    chosen = np.random.default_rng(3)
    if name == "tagger":
        return chosen.integers(0, 7, (rows, 4)).astype("int32"), chosen.integers(0, 7, (rows, 4)).astype("int32")
    shape = (rows, 5) if name == "mlp" else (rows, 1, 12, 12)
    return chosen.normal(size=shape).astype("float32"), chosen.integers(0, 3, rows).astype("int32")


MODELS = {"mlp": mlp, "lenet": lenet, "tagger": tagger}


def made(name, optimizer=None, **options):
    optimizer = optimizer or gn.optim.Adam(lr=0.01, clip_norm=1.0)
    x, _ = batch(name)
    return gn.compile(MODELS[name], x, loss=gn.losses.softmax_cross_entropy, optimizer=optimizer, seed=5, **options)


def fingerprint(net):
    """Every number a net has learned or remembers, as bytes."""
    return b"".join(a.tobytes() for kind in (net.params, net.slots, net.states) for a in kind.values())


# -- allocation ---------------------------------------------------------------------------------------------


def peak(run):
    """Most bytes allocated at once during a call that was made before.

    NumPy converts dtypes and gathers short rows through buffers of a fixed number of elements, however large the
    arrays are; the smallest such number hides them.
    """
    usual = np.setbufsize(16)
    for _ in range(3):
        run()
    gc.collect()
    tracemalloc.start()
    try:
        run()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        run()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        np.setbufsize(usual)


@pytest.mark.parametrize("name", MODELS)
def test_a_steady_step_allocates_no_array(name):
    """What is left are Python objects and iterators of NumPy: little, and as much for ten times the rows."""
    net = made(name)
    few, many = (peak(functools.partial(net.step, *batch(name, rows))) for rows in (8, 80))
    assert max(few, many) < 8192
    assert many - few < 1024
    assert net.plans[1].plan.memory.total_temporaries > 32 * 1024


def test_the_meter_sees_an_array_that_is_allocated():
    assert peak(lambda: np.ones(10_000)) >= 80_000


# -- repeatability ------------------------------------------------------------------------------------------


def trained(name, steps=4):
    net = made(name)
    losses = [net.step(*batch(name)) for _ in range(steps)]
    return net, losses


@pytest.mark.parametrize("name", MODELS)
def test_two_nets_of_one_seed_are_equal_to_the_bit_after_training(name):
    (one, first), (other, second) = trained(name), trained(name)
    assert first == second
    assert fingerprint(one) == fingerprint(other)
    assert np.isfinite(first).all()
    assert first[-1] < first[0]


SCRIPT = """
import hashlib, importlib.util, sys
spec = importlib.util.spec_from_file_location("runtime", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for name in module.MODELS:
    net, losses = module.trained(name)
    print(name, [loss.hex() for loss in losses], hashlib.sha256(module.fingerprint(net)).hexdigest())
    print(hashlib.sha256(net.source().encode()).hexdigest())
"""


def test_two_processes_with_other_hash_seeds_are_equal_to_the_bit():
    """Losses, parameters and the schedule itself: no order comes out of a set."""
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, __file__], env=environment, capture_output=True, text=True, check=True
        )
        found.append(run.stdout)
    assert found[0] == found[1]
    assert "tagger" in found[0]


# -- plans and phases ---------------------------------------------------------------------------------------


def test_a_new_learning_rate_takes_effect_at_the_next_step():
    net = made("mlp", gn.optim.SGD(lr=0.1))
    x, y = batch("mlp")
    net.step(x, y)
    before = {n: a.copy() for n, a in net.params.items()}
    net.optimizer.lr = 0.0
    net.step(x, y)
    assert all((before[n] == a).all() for n, a in net.params.items())
    net.optimizer.lr = 0.5
    net.forward(x)
    net.backward(y)
    gradients = {n: a.copy() for n, a in net.grads.items()}
    net.step(x, y)
    for name, value in net.params.items():
        np.testing.assert_allclose(value, before[name] - 0.5 * gradients[name], rtol=1e-5, atol=1e-7)


def test_another_batch_size_makes_a_second_plan_on_the_same_parameters():
    net = made("mlp")
    net.step(*batch("mlp", 8))
    assert [p.mode for p in net.plans] == ["step"]
    home = net.params["mlp/dense_1/w"]
    before = home.copy()
    net.step(*batch("mlp", 3))
    assert [p.inputs[0].shape for p in net.plans] == [(8, 5), (3, 5)]
    assert net.params["mlp/dense_1/w"] is home
    assert (home != before).any()
    net.step(*batch("mlp", 8))
    assert len(net.plans) == 2


def test_one_plan_more_than_the_bound_is_an_error_that_says_what_to_do():
    net = made("mlp", max_plans=2)
    for rows in (8, 3):
        net.step(*batch("mlp", rows))
    with pytest.raises(gn.PlanError, match=r"number 3, the bound is 2: .*pad the last batch.*max_plans") as caught:
        net.step(*batch("mlp", 5))
    assert str(caught.value).startswith("tests/compiler/test_runtime.py:") or "test_runtime.py:" in str(caught.value)
    assert "\n" not in str(caught.value)
    net.step(*batch("mlp", 3))


@pytest.mark.parametrize("name", ["mlp", "tagger"])
def test_the_three_phases_equal_a_step(name):
    """Losses, parameters, slots and states; results may differ by rounding, as other things are fused."""
    whole, apart = made(name), made(name)
    x, y = batch(name)
    for _ in range(3):
        loss = whole.step(x, y)
        apart.forward(x)
        assert apart.backward(y) == pytest.approx(loss, rel=1e-5)
        apart.update()
    for kind in ("params", "slots", "states"):
        for key, value in getattr(whole, kind).items():
            np.testing.assert_allclose(getattr(apart, kind)[key], value, rtol=2e-4, atol=1e-5, err_msg=key)


def test_phases_out_of_order_are_refused():
    net = made("mlp")
    x, y = batch("mlp")
    with pytest.raises(gn.PlanError, match=r"call forward first"):
        net.backward(y)
    net.forward(x)
    with pytest.raises(gn.PlanError, match=r"call backward first"):
        net.update()
    with pytest.raises(gn.PlanError, match=r"none before net\.backward"):
        _ = net.grads


def test_profile_leaves_the_net_as_it_was():
    net = made("lenet")
    x, y = batch("lenet")
    net.step(x, y)
    before = fingerprint(net)
    profile = net.profile(x, y, repeats=3)
    assert fingerprint(net) == before
    assert len(list(profile)) == len(net.schedule)
    other, _ = trained("lenet", 1)
    assert net.step(x, y) == other.step(x, y)


# -- check mode ---------------------------------------------------------------------------------------------


@gn.model
def overflowing(x):
    w = gn.param("w", (3,), init=1.0)
    y = gn.tanh(x * w)
    return gn.mean(gn.log(y))  # the line the forward test names


@gn.model
def steep(x):
    w = gn.param("w", (3,), init=0.0)
    root = gn.sqrt(x * w)  # the line the backward test names
    return gn.mean(root + x)


def line_of(text):
    with open(__file__) as file:
        return next(i for i, line in enumerate(file, 1) if text in line)


@pytest.mark.parametrize(
    ("model", "text", "op", "phase"),
    [
        (overflowing, "the line the forward test", "log", "forward"),
        (steep, "the line the backward test", "div", "backward"),
    ],
)
def test_check_mode_names_the_op_and_the_line_that_made_a_nan(monkeypatch, model, text, op, phase):
    x = np.array([1.0, 2.0, -3.0], "float32")
    x = abs(x) if phase == "backward" else x
    quiet = gn.compile(model, x, optimizer=gn.optim.SGD(lr=0.1))
    quiet.step(x)
    monkeypatch.setenv("GRAPHNET_CHECK", "1")
    net = gn.compile(model, x, optimizer=gn.optim.SGD(lr=0.1))
    with pytest.raises(gn.NumericsError) as caught:
        net.step(x)
    message = str(caught.value)
    assert f"test_runtime.py:{line_of(text)}: " in message
    assert op in message.split(":")[2].split()
    assert f"in the {phase} phase" in message


def test_check_mode_is_silent_on_finite_numbers(monkeypatch):
    monkeypatch.setenv("GRAPHNET_CHECK", "1")
    net, losses = trained("lenet", 2)
    monkeypatch.delenv("GRAPHNET_CHECK")
    other, expected = trained("lenet", 2)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for name, value in net.params.items():
        np.testing.assert_allclose(value, other.params[name], rtol=1e-3, atol=1e-5)


# -- updates in place ---------------------------------------------------------------------------------------


def states_after(model, calls, *shapes):
    net = gn.compile(model, *(gn.spec(s, "float64") for s in shapes))
    outputs = [net(*(np.ones(s) for s in shapes)) for _ in range(calls)]
    return {name.rpartition("/")[2]: a.copy() for name, a in net.states.items()}, outputs


def state(name, value):
    return gn.state(name, np.shape(value), init=np.asarray(value, float), dtype="float64")


def test_two_states_that_swap_keep_both_values():
    @gn.model
    def swap(x):
        a, c = state("a", [1.0, 2.0]), state("c", [3.0, 4.0])
        a.assign(c), c.assign(a)
        return x + 0

    assert {n: a.tolist() for n, a in states_after(swap, 1, (2,))[0].items()} == {"a": [3, 4], "c": [1, 2]}
    assert {n: a.tolist() for n, a in states_after(swap, 2, (2,))[0].items()} == {"a": [1, 2], "c": [3, 4]}


def test_three_states_that_rotate_through_arithmetic_use_old_values_only():
    @gn.model
    def rotate(x):
        a, c, d = state("a", [1.0]), state("c", [10.0]), state("d", [100.0])
        a.assign(c + d), c.assign(a * 2), d.assign(a + c)
        return x + 0

    found = {n: a.tolist() for n, a in states_after(rotate, 2, (1,))[0].items()}
    assert found == {"a": [13.0], "c": [220.0], "d": [112.0]}


@pytest.mark.parametrize("view", ["transpose", "reverse", "roll", "sum"])
def test_a_state_assigned_from_a_view_of_itself_is_read_before_it_is_written(view):
    start = np.arange(9.0).reshape(3, 3)

    def step(s):
        if view == "transpose":
            return s.T
        if view == "reverse":
            return s[::-1, ::-1]
        return np.concatenate([s[1:], s[:1]]) if view == "roll" else s + s.T

    @gn.model
    def turn(x):
        s = state("s", start)
        s.assign(step(s))
        return x + 0

    expected = start
    for calls in (1, 2, 3):
        expected = step(expected)
        assert (states_after(turn, calls, (2,))[0]["s"] == expected).all()


def test_a_result_that_is_a_state_or_a_view_of_it_is_the_value_from_before_the_call():
    @gn.model
    def counter(x):
        s = state("s", [[1.0, 2.0]])
        s.assign(s * 10)
        return s, s.T, s[0, 1] + x[0]

    _, outputs = states_after(counter, 3, (2,))
    assert [o[0].tolist() for o in outputs] == [[[1, 2]], [[10, 20]], [[100, 200]]]
    assert [o[1].tolist() for o in outputs] == [[[1], [2]], [[10], [20]], [[100], [200]]]
    assert [o[2].tolist() for o in outputs] == [3, 21, 201]


def test_a_state_that_the_backward_pass_reads_is_overwritten_after_it_in_phases_too():
    """The doubled state is forward work, the gradient of w reads the old one later."""

    @gn.model
    def doubling(x):
        w = gn.param("w", (2,), init=1.0)
        s = gn.state("s", (2,), init=1.0)
        double = s * 2
        s.assign(double)
        return gn.mean(w * s) + gn.sum(double) + gn.sum(x)

    x = np.ones(2, "float32")
    whole, apart = (gn.compile(doubling, x, optimizer=gn.optim.SGD(lr=0.1)) for _ in range(2))
    for _ in range(3):
        whole.step(x)
        apart.forward(x), apart.backward(), apart.update()
    np.testing.assert_allclose(whole.params["doubling/w"], [0.65, 0.65], rtol=1e-6)
    np.testing.assert_array_equal(apart.params["doubling/w"], whole.params["doubling/w"])
    np.testing.assert_array_equal(apart.states["doubling/s"], whole.states["doubling/s"])


def test_a_parameter_used_twice_gets_the_sum_of_both_gradients():
    @gn.model
    def twice(x):
        w = gn.param("w", (2, 2), init=np.array([[1.0, 2.0], [3.0, 4.0]]), dtype="float64")
        return gn.sum(gn.matmul(gn.matmul(x, w), w.T)) + gn.sum(w * w)

    x = np.array([[1.0, -2.0]])
    net = gn.compile(twice, x, optimizer=gn.optim.SGD(lr=0.1))
    w = np.array([[1.0, 2.0], [3.0, 4.0]])
    ones = np.ones((1, 2))
    net.step(x)
    gradient = x.T @ ones @ w + ones.T @ x @ w + 2 * w
    np.testing.assert_allclose(net.params["twice/w"], w - 0.1 * gradient, rtol=1e-12)


def test_rows_that_are_never_gathered_get_no_nan_from_an_exchanged_product():
    """sqrt of the table's zero row has an infinite gradient, but that row is not used."""

    @gn.model
    def rows(ids):
        table = gn.param("table", (2, 1), init=np.array([[1.0], [0.0]]))
        return gn.sum(gn.sqrt(gn.take(table, ids, axis=0)))

    ids = np.zeros(3, "int32")
    net = gn.compile(rows, ids, optimizer=gn.optim.SGD(lr=0.1))
    net.step(ids)
    np.testing.assert_allclose(net.params["rows/table"], [[0.85], [0.0]], rtol=1e-6)


def test_backward_twice_gives_the_same_gradients():
    """The second call starts from the forward phase again; it does not read what the first one overwrote."""
    net, _ = trained("mlp", 1)
    x, y = batch("mlp")
    net.forward(x)
    net.backward(y)
    first = {name: g.copy() for name, g in net.grads.items()}
    net.backward(y)
    for name, g in net.grads.items():
        np.testing.assert_array_equal(g, first[name])
    net.step(x, y)
    with pytest.raises(gn.PlanError, match="call backward first"):
        net.update()
