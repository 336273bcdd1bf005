"""The C backend from a user's side: same results as numpy, for any number of threads, and nothing lost on errors."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import graphnet as gn
from graphnet import backend as backends
from graphnet.kernels.c import toolchain
from graphnet.models.lenet import lenet

pytestmark = pytest.mark.skipif(toolchain.find() is None, reason="needs a C compiler")


@gn.model
def small(x, classes=3):
    x = gn.layers.dropout(gn.tanh(gn.layers.dense(x, 8)), 0.2)
    return gn.layers.dense(x, classes)


@gn.model
def counter(x):
    total = gn.state("total", (2,))
    total.assign(total + gn.sum(x, axis=0))
    return x * gn.param("w", (2,), init=gn.init.constant(2.0)) + total


def compiled(model=small, backend="c", threads=1, shape=(6, 4), loss=gn.losses.softmax_cross_entropy, **options):
    return gn.compile(
        model,
        gn.spec(shape),
        loss=loss,
        optimizer=gn.optim.Adam(lr=0.05, clip_norm=1.0),
        backend=backend,
        threads=threads if backend == "c" else None,
        **options,
    )


@pytest.fixture(scope="module")
def data():
    chosen = np.random.default_rng(0)
    return chosen.normal(size=(6, 4)).astype("float32"), chosen.integers(0, 3, 6).astype("int32")


def test_losses_parameters_and_masks_are_those_of_the_numpy_backend(data):
    nets = [compiled(backend=name) for name in ("numpy", "c")]
    losses = np.array([[net.step(*data) for _ in range(20)] for net in nets])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert losses[0, -1] < losses[0, 0]
    for name, value in nets[0].params.items():
        np.testing.assert_allclose(nets[1].params[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(nets[1](data[0]), nets[0](data[0]), rtol=1e-4, atol=1e-5)
    assert nets[1].loss(*data) == pytest.approx(nets[0].loss(*data), rel=1e-5)


def test_results_do_not_depend_on_the_number_of_threads(data, monkeypatch):
    from graphnet.backend_c import CBackend

    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr("graphnet.api.choose", lambda *_, n=threads: CBackend(n, least_work=0.0))
        net = compiled()
        found.append(
            [np.array([net.step(*data) for _ in range(5)]).tobytes(), *(p.tobytes() for p in net.params.values())]
        )
    assert found[0] == found[1] == found[2]


def test_a_plan_found_in_the_cache_computes_the_same_bits(data, tmp_path, monkeypatch):
    """With a plan that is not kept, one that is being kept, and the one found: losses, parameters and slots."""
    from graphnet.compiler import compile as compiling

    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path))
    found = []
    for verify, lower in (("1", compiling.lower), ("0", compiling.lower), ("0", None)):
        monkeypatch.setenv("GRAPHNET_VERIFY", verify)
        monkeypatch.setattr(compiling, "lower", lower)
        net = compiled()
        losses = np.array([net.step(*data) for _ in range(5)])
        found.append([losses.tobytes(), *(a.tobytes() for a in net._arrays())])
    assert found[0] == found[1] == found[2]
    assert "kept" in net.explain()


def test_the_three_phases_apart_do_what_a_step_does(data):
    whole, apart = compiled(), compiled()
    for _ in range(3):
        loss = whole.step(*data)
        apart.forward(data[0])
        assert apart.backward(data[1]) == pytest.approx(loss, rel=1e-6)
        assert set(apart.grads) == set(whole.params)
        apart.update()
    for name, value in whole.params.items():
        np.testing.assert_allclose(apart.params[name], value, rtol=1e-5, atol=1e-7)


def test_arguments_of_other_dtypes_layouts_and_kinds_give_the_same_step(data):
    x, y = data
    ways = [
        (x, y),
        (x.astype("float64"), y.astype("int64")),
        (np.asfortranarray(x), y.astype("uint8")),
        (x.tolist(), y.tolist()),
        (np.repeat(x, 2, axis=1)[:, ::2], np.repeat(y, 2)[::2]),
    ]
    nets = [compiled() for _ in ways]
    losses = [[net.step(*way) for _ in range(3)] for net, way in zip(nets, ways, strict=True)]
    assert all(row == losses[0] for row in losses)


def test_a_label_out_of_range_is_one_line_and_changes_nothing(data):
    net = compiled()
    net.step(*data)
    before = [p.copy() for p in (*net.params.values(), *net.slots.values())]
    wrong = data[1].copy()
    wrong[2] = 3
    for labels in (wrong, wrong.astype("int64")):
        with pytest.raises(gn.DataError, match=r"index 3 is out of range for 3 rows") as caught:
            net.step(data[0], labels)
        assert "\n" not in str(caught.value)
    for old, new in zip(before, (*net.params.values(), *net.slots.values()), strict=True):
        np.testing.assert_array_equal(new, old)
    assert np.isfinite(net.step(*data))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_leave_a_step_with_a_bad_label_together(threads):
    """None goes on with the update, then or in a later call of this net or another one: labels are thread 0's work."""
    chosen = np.random.default_rng(0)
    x, y = chosen.normal(size=(100, 1, 28, 28)).astype("float32"), chosen.integers(0, 10, 100).astype("int32")
    wrong = y.copy()
    wrong[5] = 10
    loss, optimizer = gn.losses.softmax_cross_entropy, gn.optim.SGD(lr=0.1)
    nets = [
        gn.compile(lenet, gn.spec(x.shape), loss=loss, optimizer=optimizer, backend="c", threads=threads)
        for _ in range(2)
    ]
    before = {name: np.array(p) for name, p in nets[0].params.items()}
    expected = nets[0].loss(x, y)
    for _ in range(10):
        with pytest.raises(gn.DataError, match="index 10 is out of range"):
            nets[0].step(x, wrong)
        assert [net.loss(x, y) for net in nets] == [expected] * 2
    for net in nets:
        for name, p in net.params.items():
            np.testing.assert_array_equal(p, before[name])


@gn.model
def counters(ids):
    """Two states so large that both are changed block by block."""
    a, b = (gn.state(name, (2000, 1000), start) for name, start in (("a", 1.0), ("b", 2.0)))
    a.assign(a * 1.5)
    b.assign(gn.tanh(b))
    return gn.layers.embedding(ids, 5, 4)


@pytest.mark.parametrize("threads", [1, 2])
def test_states_that_are_changed_block_by_block_stay_as_they_were_at_a_bad_index(threads):
    net = gn.compile(counters, gn.spec((3,), "int32"), backend="c", threads=threads)
    with pytest.raises(gn.DataError, match="index 7 is out of range"):
        net(np.array([1, 7, 2], "int32"))
    assert (net.states["counters/a"] == 1.0).all()
    assert (net.states["counters/b"] == 2.0).all()
    net(np.array([1, 4, 2], "int32"))
    assert (net.states["counters/a"] == 1.5).all()
    assert "for (long u = " in net.source()


def test_an_integer_that_does_not_fit_is_refused_not_wrapped(data):
    net = compiled()
    with pytest.raises(gn.DataError, match="does not fit"):
        net.step(data[0], data[1].astype("int64") + (1 << 33))


def test_a_parameter_given_as_the_input_is_copied_first():
    @gn.model
    def square(x):
        return gn.sum(gn.param("w", (3,), init=gn.init.constant(2.0)) * x)

    net = gn.compile(square, gn.spec((3,)), optimizer=gn.optim.SGD(lr=0.5), backend="c")
    assert net.step(net.params["square/w"]) == 12.0
    np.testing.assert_array_equal(net.params["square/w"], [1.0, 1.0, 1.0])


def test_states_live_across_calls_and_can_be_reset():
    net = gn.compile(counter, gn.spec((3, 2)), backend="c")
    x = np.ones((3, 2), "float32")
    first, second = net(x), net(x)
    np.testing.assert_array_equal(second - first, np.full((3, 2), 3.0))
    net.reset_states()
    np.testing.assert_array_equal(net(x), first)


def test_another_batch_size_and_back_again(data):
    c, reference = compiled(), compiled(backend="numpy")
    x, y = data
    for n in (6, 4, 6, 1, 4):
        assert c.step(x[:n], y[:n]) == pytest.approx(reference.step(x[:n], y[:n]), rel=1e-4)


def test_the_learning_rate_takes_effect_at_the_next_step(data):
    net = compiled()
    net.step(*data)
    net.optimizer.lr = 0.0
    before = {n: p.copy() for n, p in net.params.items()}
    net.step(*data)
    for name, value in before.items():
        np.testing.assert_array_equal(net.params[name], value)


def test_several_python_threads_take_turns(data):
    net, alone = compiled(threads=2), compiled(threads=2)
    losses = []
    workers = [threading.Thread(target=lambda: losses.append(net.step(*data))) for _ in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert sorted(losses) == sorted(alone.step(*data) for _ in range(8))


def test_saved_and_loaded_nets_go_on_as_they_would_have(data, tmp_path):
    net = compiled()
    net.step(*data)
    net.save(tmp_path / "n.gnet")
    again = gn.load(tmp_path / "n.gnet", backend="c")
    assert again.backend.name == "c"
    assert again.step(*data) == net.step(*data)


def test_the_source_is_c_with_the_users_lines_and_says_the_same_every_time(data, tmp_path):
    first, second = compiled(), compiled()
    assert first.source() == second.source()
    assert "test_backend_c.py:" in first.source()
    first.dump(tmp_path / "net.c")
    assert (tmp_path / "net.c").read_text() == first.source()


def test_gradients_are_checked_on_the_c_backend():
    @gn.model
    def images(x):
        x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 3, kernel=3)), 2)
        return gn.layers.dense(gn.flatten(x), 5)

    chosen = np.random.default_rng(0)
    net = compiled(images, shape=(8, 1, 8, 8))
    report = net.check_gradients(chosen.normal(size=(8, 1, 8, 8)).astype("float32"), chosen.integers(0, 5, 8))
    assert max(e.error for e in report.entries) < 1e-5


def test_a_plan_of_another_backend_is_refused():
    """Its scratch would be too small for kernels that it was not made for."""
    net = compiled(backend="numpy")
    with pytest.raises(gn.BackendError, match="lowered for numpy, not for c"):
        compiled().backend.bind(net.plan, net._home_map(net.plan))


def test_a_numpy_net_has_no_c_text(tmp_path):
    with pytest.raises(gn.BackendError, match="backend='c'"):
        compiled(backend="numpy").dump(tmp_path / "net.c")


def test_the_profile_names_every_step_and_leaves_the_net_as_it_was(data):
    net = compiled()
    net.step(*data)
    before = {n: p.copy() for n, p in net.params.items()}
    profile = net.profile(*data, repeats=3)
    assert [step.op for step, _ in profile] == [step.op for step in net.plan.steps]
    assert profile.total > 0
    for name, value in before.items():
        np.testing.assert_array_equal(net.params[name], value)


def test_without_a_compiler_auto_is_numpy_and_says_so_once(monkeypatch, caplog):
    backends._fastest.cache_clear()
    monkeypatch.setattr(backends, "compiler_or_none", lambda: None)
    monkeypatch.delenv("GRAPHNET_BACKEND", raising=False)
    try:
        assert [backends.choose("cpu", "auto").name for _ in range(3)] == ["numpy"] * 3
        assert len(caplog.messages) == 1
        assert "pip install ziglang" in caplog.messages[0]
    finally:
        backends._fastest.cache_clear()


@pytest.mark.parametrize(("value", "message"), [("0", "GRAPHNET_THREADS"), ("many", "GRAPHNET_THREADS")])
def test_a_bad_number_of_threads_in_the_environment_is_one_line(monkeypatch, value, message):
    monkeypatch.setenv("GRAPHNET_THREADS", value)
    with pytest.raises(gn.BackendError, match=message):
        compiled(threads=None)


def test_a_bad_number_of_threads_is_one_line():
    with pytest.raises(gn.CompileError, match="threads must be"):
        compiled(threads=0)


@pytest.mark.parametrize(("batch", "hidden"), [(2, 8), (8, 12), (9, 16), (16, 8)])
def test_no_step_is_left_out_by_the_compiler(batch, hidden):
    """Small layers, whose products are plain loops over floats beside bytes: gcc took some for code without effect."""

    @gn.model
    def small(x):
        return gn.layers.dense(gn.relu(gn.layers.dense(x, hidden)), 10)

    chosen = np.random.default_rng(0)
    x, y = chosen.random((batch, 20), "float32"), chosen.integers(0, 10, batch).astype("int32")
    nets = []
    for backend in ("numpy", "c"):
        nets.append(
            gn.compile(
                small,
                gn.spec(x.shape),
                loss=gn.losses.softmax_cross_entropy,
                optimizer=gn.optim.SGD(lr=0.1),
                backend=backend,
                seed=1,
            )
        )
        nets[-1].step(x, y)
    for name, expected in nets[0].params.items():
        np.testing.assert_allclose(nets[1].params[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
