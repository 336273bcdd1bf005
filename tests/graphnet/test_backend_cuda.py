"""The CUDA backend on the emulated device, from a user's side: numpy's results, whatever the grid and the order."""

from __future__ import annotations

import copy
import subprocess

import numpy as np
import pytest

import graphnet as gn
from graphnet import backend as backends
from graphnet.backend_cuda import CudaBackend
from graphnet.compiler.cuda import Options
from graphnet.device_emulated import EmulatedDevice
from graphnet.kernels.c import toolchain
from graphnet.lazy import Loss

pytestmark = pytest.mark.skipif(toolchain.find() is None, reason="the emulator needs a C++ compiler")


@gn.model
def small(x, classes=3):
    x = gn.layers.dropout(gn.tanh(gn.layers.dense(x, 8)), 0.2)
    return gn.layers.dense(x, classes)


@gn.model
def counter(x):
    total = gn.state("total", (2,))
    total.assign(total + gn.sum(x, axis=0))
    return x * gn.param("w", (2,), init=gn.init.constant(2.0)) + total


def compiled(model=small, backend="emulated", shape=(6, 4), loss=gn.losses.softmax_cross_entropy, **options):
    device = "cpu" if backend in ("numpy", "c") else "cuda"
    optimizer = gn.optim.Adam(lr=0.05, clip_norm=1.0)
    return gn.compile(model, gn.spec(shape), loss=loss, optimizer=optimizer, device=device, backend=backend, **options)


@pytest.fixture(scope="module")
def data():
    chosen = np.random.default_rng(0)
    return chosen.normal(size=(6, 4)).astype("float32"), chosen.integers(0, 3, 6).astype("int32")


def values(net):
    return {name: np.array(value) for name, value in (*net.params.items(), *net.slots.items())}


def same(net, other, **tolerance):
    mine, theirs = values(net), values(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_allclose(theirs[name], value, err_msg=name, **tolerance)


def test_losses_parameters_and_masks_are_those_of_the_numpy_backend(data):
    nets = [compiled(backend=name) for name in ("numpy", "emulated")]
    losses = np.array([[net.step(*data) for _ in range(20)] for net in nets])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert losses[0, -1] < losses[0, 0]
    same(*nets, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(nets[1](data[0]), nets[0](data[0]), rtol=1e-4, atol=1e-5)
    assert nets[1].loss(*data) == pytest.approx(nets[0].loss(*data), rel=1e-5)


def test_results_depend_neither_on_the_grid_nor_on_the_order_nor_on_how_kernels_are_cut(data):
    ways = [
        CudaBackend(EmulatedDevice()),
        CudaBackend(EmulatedDevice(grid=1, order="reverse")),
        CudaBackend(EmulatedDevice(grid=3, order=("shuffled", 5))),
        CudaBackend(EmulatedDevice(grid=2, order=("shuffled", 1)), options=Options(together=True)),
    ]
    nets = [compiled(backend=way) for way in ways]
    found = []
    for net in nets:
        losses = np.array([float(net.step(*data)) for _ in range(4)])
        found.append([losses.tobytes(), *(v.tobytes() for v in values(net).values())])
    assert found[0] == found[1] == found[2] == found[3]


def test_a_step_returns_a_loss_that_is_read_when_it_is_looked_at(data):
    net = compiled()
    losses = [net.step(*data) for _ in range(3)]
    assert all(isinstance(loss, Loss) and not loss.read for loss in losses[1:])
    assert losses[0] > losses[2]
    assert all(loss.read for loss in losses)


def test_a_loss_is_read_before_its_place_is_used_again(data, monkeypatch):
    expected = compiled(backend="numpy")
    for module in ("compiler.cuda.file", "device_plan"):
        monkeypatch.setattr(f"graphnet.{module}.RING", 3)
    net = compiled()
    losses = [net.step(*data) for _ in range(8)]
    assert [loss.read for loss in losses] == [True] * 6 + [False] * 2
    np.testing.assert_allclose([float(x) for x in losses], [expected.step(*data) for _ in range(8)], rtol=1e-5)


def test_the_three_phases_apart_do_what_a_step_does(data):
    whole, apart = compiled(), compiled()
    for _ in range(3):
        loss = whole.step(*data)
        apart.forward(data[0])
        assert apart.backward(data[1]) == pytest.approx(float(loss), rel=1e-6)
        assert set(apart.grads) == set(whole.params)
        apart.update()
    same(whole, apart, rtol=1e-5, atol=1e-7)


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
    losses = [[float(net.step(*way)) for _ in range(3)] for net, way in zip(nets, ways, strict=True)]
    assert all(row == losses[0] for row in losses)


def test_a_label_out_of_range_is_told_when_its_loss_is_read_and_changes_nothing(data):
    net = compiled()
    first = net.step(*data)
    before = values(net)
    wrong = data[1].copy()
    wrong[2] = 3
    for labels in (wrong, wrong.astype("int64")):
        loss = net.step(data[0], labels)
        late = net.step(*data)  # started after the bad one, so it did nothing either
        for one in (loss, late, loss):
            with pytest.raises(gn.DataError, match=r"index 3 is out of range for 3 rows") as caught:
                float(one)
            assert "\n" not in str(caught.value)
    for name, value in values(net).items():
        np.testing.assert_array_equal(value, before[name])
    assert float(first) > float(net.step(*data))


def test_a_label_out_of_range_names_its_step_among_those_of_its_shape_and_how_many_were_dropped(data):
    """Steps of another shape are not among them; calls by phases are not counted, so nothing is said of them."""
    net, (x, y) = compiled(), data
    for n in (6, 4, 6, 6):
        net.step(x[:n], y[:n])
    net.step(x, y + 3)
    for _ in range(3):
        net.step(x, y)
    told = r"labels given to step 4 of those with inputs \(6, 4\), \(6,\) since the net was made; "
    with pytest.raises(gn.DataError, match=told + "the 3 started after it were not done either$"):
        net.step(x[:4], y[:4])
    net.step(x[:4], y[:4])
    net.step(x[:4], y[:4] + 3)
    late = net.step(x[:4], y[:4])
    told = r"given to step 3 of those with inputs \(4, 4\), \(4,\) .*; the one started after it was not done either$"
    with pytest.raises(gn.DataError, match=told):
        float(late)
    told = r"given to call 1 of those with inputs \(6, 4\), \(6,\) since the net was made$"
    with pytest.raises(gn.DataError, match=told):
        net.loss(x, y + 3)
    net.forward(x)
    with pytest.raises(gn.DataError, match=r"check the ids or labels given$"):
        net.backward(y + 3)


def test_a_label_out_of_range_that_nobody_read_is_told_where_the_device_is_waited_for(data, tmp_path):
    net = compiled()
    net.step(*data)
    for wait in (lambda: net.params, lambda: net.save(tmp_path / "n.gnet"), lambda: copy.deepcopy(net)):
        net.step(data[0], data[1] + 5)
        with pytest.raises(gn.DataError, match="out of range for 3 rows"):
            wait()
        wait()


def test_an_integer_that_does_not_fit_is_refused_not_wrapped(data):
    net = compiled()
    net.step(*data)
    with pytest.raises(gn.DataError, match="does not fit"):
        net.step(data[0], data[1].astype("int64") + (1 << 33))


def test_a_parameter_given_as_the_input_is_copied_first():
    @gn.model
    def square(x):
        return gn.sum(gn.param("w", (3,), init=gn.init.constant(2.0)) * x)

    net = gn.compile(square, gn.spec((3,)), optimizer=gn.optim.SGD(lr=0.5), device="cuda", backend="emulated")
    assert net.step(net.params["square/w"]) == 12.0
    np.testing.assert_array_equal(net.params["square/w"], [1.0, 1.0, 1.0])


def test_states_live_across_calls_and_can_be_reset():
    net = gn.compile(counter, gn.spec((3, 2)), device="cuda", backend="emulated")
    x = np.ones((3, 2), "float32")
    first, second = net(x), net(x)
    np.testing.assert_array_equal(second - first, np.full((3, 2), 3.0))
    net.reset_states()
    np.testing.assert_array_equal(net(x), first)
    net.states["counter/total"] = [5.0, 5.0]
    np.testing.assert_array_equal(net(x), np.full((3, 2), 7.0))


def test_another_batch_size_and_back_again(data):
    cuda, reference = compiled(), compiled(backend="numpy")
    x, y = data
    for n in (6, 4, 6, 4):
        assert float(cuda.step(x[:n], y[:n])) == pytest.approx(reference.step(x[:n], y[:n]), rel=1e-4)


def test_the_learning_rate_takes_effect_at_the_next_step(data):
    net = compiled()
    net.step(*data)
    net.optimizer.lr = 0.0
    before = values(net)
    net.step(*data)
    for name in net.params:
        np.testing.assert_array_equal(net.params[name], before[name])


def test_a_saved_net_goes_on_as_it_would_have_on_either_device(data, tmp_path):
    net = compiled()
    net.step(*data)
    net.save(tmp_path / "n.gnet")
    again = gn.load(tmp_path / "n.gnet", device="cuda", backend="emulated")
    host = gn.load(tmp_path / "n.gnet", backend="numpy")
    loss = float(net.step(*data))
    assert again.step(*data) == loss
    assert host.step(*data) == pytest.approx(loss, rel=1e-5)
    net.restore(tmp_path / "n.gnet")
    assert net.step(*data) == loss


def test_a_copied_net_is_one_of_its_own_with_equal_values(data):
    net = compiled()
    net.step(*data)
    twin = copy.deepcopy(net)
    assert twin.step(*data) == net.step(*data)
    same(net, twin)


def test_the_source_is_cuda_with_the_users_lines_and_says_the_same_every_time(tmp_path):
    first, second = compiled(), compiled()
    assert first.source() == second.source()
    assert "test_backend_cuda.py:" in first.source()
    first.dump(tmp_path / "net.cu")
    assert (tmp_path / "net.cu").read_text() == first.source()
    compiled(backend="numpy").dump(tmp_path / "host.cu")
    assert (tmp_path / "host.cu").read_text() == first.source()
    with pytest.raises(gn.BackendError, match="backend='c'"):
        first.dump(tmp_path / "net.c")


def test_gradients_are_checked_on_the_device(data):
    report = compiled().check_gradients(*data, samples=3)
    assert len(report.entries) == 12
    assert report.max_error < 1e-5


def test_the_profile_names_every_step_and_leaves_the_net_as_it_was(data):
    net = compiled()
    kept = net.step(*data)
    before = values(net)
    profile = net.profile(*data, repeats=2)
    assert [step.op for step, _ in profile] == [step.op for step in net.plan.steps]
    assert all(seconds > 0 for _, seconds in profile)
    for name, value in values(net).items():
        np.testing.assert_array_equal(value, before[name])
    assert net.step(*data) < kept


def test_a_net_on_a_device_is_exported_as_c(data, tmp_path):
    net = compiled()
    net.step(*data)
    folder = net.export_c(tmp_path / "out", threads=1)
    made = subprocess.run(["make", "-s", "-C", str(folder)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    from graphnet.export_c import import_weights

    other = compiled()
    import_weights(other, folder / "small.weights")
    same(net, other)


def test_a_plan_that_does_not_fit_is_refused_before_anything_is_allocated():
    backend = CudaBackend(EmulatedDevice(bytes_in_all=100_000))
    with pytest.raises(gn.BackendError, match=r"small:training.* B are free: use a smaller batch") as caught:
        compiled(backend=backend, shape=(4096, 4))
    assert "test_backend_cuda.py:" in str(caught.value).partition("owned by ")[2]
    assert "\n" not in str(caught.value)


def test_plans_of_another_backend_are_refused():
    net = compiled(backend="numpy")
    with pytest.raises(gn.BackendError, match="lowered for numpy, not for cuda"):
        compiled().backend.bind(net.plan, net._home_map(net.plan))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precision": "half"}, gn.BackendError, r"one of 'float32', 'tf32x3', 'tf32', 'bf16', got 'half'"),
        ({"precision": "tf32"}, gn.BackendError, r"precision 'tf32' is for device='cuda'"),
        ({"device": "cuda", "backend": "c"}, gn.BackendError, "backend 'c' is one of device='cpu', not of 'cuda'"),
        ({"backend": "emulated"}, gn.BackendError, "backend 'emulated' is one of device='cuda', not of 'cpu'"),
        ({"device": "cuda", "backend": "metal"}, gn.BackendError, "use one of auto, cuda, emulated$"),
    ],
)
def test_what_a_device_cannot_do_is_one_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        gn.compile(small, gn.spec((6, 4)), **options)
    assert str(caught.value).startswith("test")
    assert "\n" not in str(caught.value)


def test_the_environment_chooses_among_the_backends_of_the_device(monkeypatch):
    monkeypatch.setenv("GRAPHNET_BACKEND", "emulated")
    assert backends.choose("cuda", "auto").name == "emulated"
    assert backends.choose("cpu", "numpy").name == "numpy"


def test_check_mode_looks_into_every_step_on_the_reference_backend(monkeypatch):
    monkeypatch.setenv("GRAPHNET_CHECK", "1")
    assert backends.choose("cuda", "emulated").name == "numpy"


def test_a_bad_label_stops_steps_of_every_shape():
    """It is told before a plan of another shape runs, once, and nothing has been changed."""
    net, chosen = compiled(), np.random.default_rng(0)
    shape = net.input_types[0].shape

    def batch(rows):
        return chosen.random((rows, *shape[1:]), "float32"), np.zeros(rows, "int32")

    large, small = batch(shape[0]), batch(shape[0] - 1)
    float(net.step(*small))
    float(net.step(*large))
    before = {name: np.array(array) for name, array in net.params.items()}
    net.step(large[0], np.full(shape[0], 1000, "int32"))
    with pytest.raises(gn.DataError, match="index 1000 is out of range"):
        net.step(*small)
    for name, array in net.params.items():
        np.testing.assert_array_equal(array, before[name])
    assert np.isfinite(float(net.step(*small)))
