"""What needs a GPU: CuPy, NVRTC, CUDA graphs and cuBLAS as they are. Run them all with ``pytest -m gpu``.

The same text runs in the emulator in test_backend_cuda.py and in the conformance tests, which take the GPU as well.
"""

from __future__ import annotations

import copy
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_cuda import CudaBackend
from graphnet.cli.lookup import find_model, model_names
from graphnet.compiler.cuda import Gemm, Options
from graphnet.device_cupy import gpu
from graphnet.device_emulated import EmulatedDevice
from graphnet.lazy import Loss
from graphnet.train import Run

pytestmark = pytest.mark.gpu

STEPS = 200
"""Steps in which a race would show."""


@gn.model
def small(x, classes=3, hidden=8):
    x = gn.layers.dropout(gn.tanh(gn.layers.dense(x, hidden)), 0.2)
    return gn.layers.dense(x, classes)


def compiled(device="cuda", backend="auto", shape=(6, 4), **options):
    optimizer, loss = gn.optim.Adam(lr=0.05, clip_norm=1.0), gn.losses.softmax_cross_entropy
    return gn.compile(small, gn.spec(shape), loss=loss, optimizer=optimizer, device=device, backend=backend, **options)


@pytest.fixture(scope="module")
def data():
    chosen = np.random.default_rng(0)
    return chosen.normal(size=(6, 4)).astype("float32"), chosen.integers(0, 3, 6)


def params(net):
    return {name: net.backend.read(value).copy() for name, value in net.params.items()}


def test_losses_parameters_and_masks_are_those_of_the_numpy_backend(data):
    cuda, reference = compiled(), compiled("cpu", "numpy")
    losses = [cuda.step(*data) for _ in range(20)]
    assert isinstance(losses[-1], Loss)
    np.testing.assert_allclose([float(x) for x in losses], [reference.step(*data) for _ in range(20)], rtol=1e-4)
    for name, value in reference.params.items():
        np.testing.assert_allclose(params(cuda)[name], value, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(cuda(data[0]), reference(data[0]), rtol=1e-3, atol=1e-4)


def test_the_gpu_gives_the_bits_of_the_emulator(data):
    """graphnet's own kernels have an order of sums that no grid changes, and maths of IEEE operations only."""
    nets = [compiled(backend=CudaBackend(device, library=False)) for device in (gpu(), EmulatedDevice())]
    losses = [[float(net.step(*data)) for _ in range(10)] for net in nets]
    assert losses[0] == losses[1]
    for name, value in params(nets[1]).items():
        np.testing.assert_array_equal(params(nets[0])[name], value, err_msg=name)


@pytest.mark.parametrize("options", [Options(together=True), Options(unroll=1000), Options(apart=True)])
def test_how_a_plan_is_cut_into_kernels_changes_no_bit(data, options):
    nets = [compiled(backend=CudaBackend(gpu(), options=o)) for o in (None, options)]
    assert [float(nets[0].step(*data)) for _ in range(5)] == [float(nets[1].step(*data)) for _ in range(5)]


@pytest.mark.parametrize("name", model_names())
def test_the_five_models_train_as_on_the_cpu(name):
    found = []
    for device, backend in (("cuda", "auto"), ("cpu", "numpy")):
        model, rows = find_model(name).with_data(None, None)
        run = Run(model.function, model.recipe, rows, device=device, backend=backend)
        batches = itertools.chain.from_iterable(run.batches(epoch) for epoch in itertools.count(1))
        found.append([float(run.net.step(x, y)) for x, y in itertools.islice(batches, 5)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arguments_may_change_as_soon_as_a_step_has_returned(dtype):
    """Copies run beside steps: a wait that is missing shows as another loss."""
    rows = 4096
    chosen = np.random.default_rng(0)
    batches = [(chosen.normal(size=(rows, 256)).astype(dtype), chosen.integers(0, 3, rows)) for _ in range(8)]
    net, other = compiled(shape=(rows, 256)), compiled(shape=(rows, 256))
    x, y = batches[0][0].copy(), batches[0][1].copy()
    losses, expected = [], []
    for batch in batches * 8:
        x[:], y[:] = batch
        losses.append(net.step(x, y))
    for batch in batches * 8:
        expected.append(float(other.step(*batch)))
    assert [float(loss) for loss in losses] == expected


def test_results_that_are_inputs_are_those_of_the_call():
    import cupy

    net = gn.compile(lambda x: (x, x[1:]), gn.spec((3, 2)), device="cuda")
    there = cupy.zeros((3, 2), "float32")
    for i in range(5):
        x = np.full((3, 2), i, "float32")
        np.testing.assert_array_equal(net(x)[0], x)
        there[...] = i
        np.testing.assert_array_equal(cupy.asnumpy(net(there)[1]), x[1:])


def test_arrays_on_the_gpu_are_read_where_they_lie_and_changes_to_them_are_seen(data):
    import cupy

    net, other = compiled(), compiled()
    x, y = cupy.asarray(data[0]), cupy.asarray(data[1].astype("int32"))
    for i in range(6):  # copied, captured, then launched
        x[...] = cupy.asarray(data[0] + i)
        assert float(net.step(x, y)) == float(other.step(data[0] + np.float32(i), data[1]))
    result = net(x)
    assert isinstance(result, cupy.ndarray)
    np.testing.assert_array_equal(cupy.asnumpy(result), net(cupy.asnumpy(x)))
    assert float(net.step(x, cupy.asarray(data[1]))) > 0  # labels of 64 bits are narrowed there


def test_tensors_of_pytorch_come_in_and_go_out_by_dlpack(data):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    net, other = compiled(), compiled()
    x, y = torch.tensor(data[0], device="cuda"), torch.tensor(data[1], device="cuda")
    for _ in range(4):
        assert float(net.step(x, y)) == float(other.step(*data))
    back = torch.from_dlpack(net(x))
    np.testing.assert_array_equal(back.cpu().numpy(), net(data[0]))


def test_steps_on_a_stream_of_the_users_own_wait_for_it(data):
    import cupy

    net, other = compiled(), compiled()
    with cupy.cuda.Stream(non_blocking=True):
        for i in range(20):
            x = cupy.full((6, 4), i, "float32") * 0.01
            loss = net.step(x, cupy.asarray(data[1].astype("int32")))
            assert float(loss) == float(other.step(np.full((6, 4), i, "float32") * np.float32(0.01), data[1]))


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("tf32", 2e-3), ("bf16", 2e-2)])
def test_large_products_are_those_of_cublas_in_the_precision_asked_for(precision, tolerance):
    if not gpu().library:
        pytest.skip("nvmath or cuBLAS is missing")

    @gn.model
    def product(x):
        return gn.matmul(x, gn.param("w", (1024, 1024), init=gn.init.normal(std=1.0)))

    net = gn.compile(product, gn.spec((1024, 1024)), device="cuda", precision=precision)
    assert any(isinstance(launch, Gemm) for launch in net.backend.emit(net.plan).parts[""])
    x = np.random.default_rng(0).normal(size=(1024, 1024)).astype("float32")
    expected = x.astype("float64") @ params(net)["product/w"].astype("float64")
    error = np.abs(net(x) - expected).max() / np.abs(expected).max()
    assert error < tolerance
    assert precision == "float32" or error > 1e-6, "tensor cores would have rounded"
    np.testing.assert_array_equal(net(x), net(x))


@gn.model
def wide(x):
    return gn.layers.dense(gn.relu(gn.layers.dense(x, 1024)), 1024)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_epilogues_of_cublaslt_are_what_graphnets_kernels_compute(precision):
    """Losses, parameters and results, the same in every run; and NaN stays NaN."""
    if not gpu().fusing:
        pytest.skip("nvmath or cublasLt is missing")
    x = np.random.default_rng(0).normal(size=(512, 1024)).astype("float32")
    y = np.arange(512)
    found, used = [], []
    for epilogues in (True, True, False):
        backend = CudaBackend(gpu(), precision, epilogues=epilogues)
        loss, optimizer = gn.losses.softmax_cross_entropy, gn.optim.SGD(lr=0.1)
        net = gn.compile(wide, gn.spec(x.shape), loss=loss, optimizer=optimizer, device="cuda", backend=backend)
        used.append({i.epilogue for i in backend.emit(net.plan).parts[""] if isinstance(i, Gemm)} - {""})
        found.append(([float(net.step(x, y)) for _ in range(5)], params(net), net(x)))
        broken = x.copy()
        broken[3, 5] = np.nan
        assert np.isnan(net(broken)[3]).all()
        assert np.isfinite(net(broken)[:3]).all()
    assert used[0]
    assert not used[2]
    assert found[0][0] == found[1][0]
    tolerance = {"float32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}[precision]
    np.testing.assert_allclose(found[0][0], found[2][0], rtol=tolerance)
    np.testing.assert_allclose(found[0][2], found[2][2], rtol=tolerance, atol=tolerance)
    for name, value in found[0][1].items():
        np.testing.assert_array_equal(found[1][1][name], value)
        np.testing.assert_allclose(found[2][1][name], value, rtol=tolerance, atol=tolerance)


def test_a_bad_label_stops_the_step_and_the_next_goes_on(data):
    net = compiled()
    net.step(*data)
    before = params(net)
    good, bad = net.loss(*data), net.step(data[0], data[1] + 5)
    with pytest.raises(gn.DataError, match="out of range for 3 rows"):
        float(bad)
    for name, value in params(net).items():
        np.testing.assert_array_equal(value, before[name])
    assert net.loss(*data) == good
    assert np.isfinite(net.step(*data))


def test_many_steps_without_a_look_at_a_loss_leave_all_losses_right(data):
    """More than the device's ring of 1024 holds."""
    net, other = compiled(), compiled()
    losses = [net.step(*data) for _ in range(1500)]
    expected = [float(other.step(*data)) for _ in range(1500)]
    assert [float(loss) for loss in losses] == expected


def test_an_epoch_on_the_device_is_the_same_steps_as_on_the_emulated_one():
    chosen = np.random.default_rng(0)
    x, y = chosen.normal(size=(1003, 4)).astype("float32"), chosen.integers(0, 3, 1003)
    nets = [compiled(backend=CudaBackend(device, library=False)) for device in (gpu(), EmulatedDevice())]
    for net in nets:
        net.fit(gn.data.on_device(x, y), epochs=2, verbose=False)
    for name, value in params(nets[1]).items():
        np.testing.assert_array_equal(params(nets[0])[name], value, err_msg=name)


def test_phases_saving_copying_and_profiling_work_there(data, tmp_path):
    net, whole = compiled(), compiled()
    for _ in range(3):
        net.forward(data[0])
        net.backward(data[1])
        net.update()
        whole.step(*data)
    for name, value in params(whole).items():
        np.testing.assert_allclose(params(net)[name], value, rtol=1e-5, atol=1e-7)
    whole.save(tmp_path / "n.gnet")
    again = gn.load(tmp_path / "n.gnet", device="cuda")
    twin = copy.deepcopy(whole)
    loss = float(whole.step(*data))
    assert again.step(*data) == loss
    assert twin.step(*data) == loss
    profile = whole.profile(*data, repeats=3)
    assert profile.total > 0
    whole.params["small/dense_1/b"] = np.ones(8)
    np.testing.assert_array_equal(params(whole)["small/dense_1/b"], np.ones(8, "float32"))


def test_a_plan_that_does_not_fit_is_refused_in_one_line():
    rows = gpu().room()[1] // 16
    with pytest.raises(gn.BackendError, match="B are free: use a smaller batch"):
        gn.compile(lambda x: gn.tanh(gn.exp(x)), gn.spec((rows, 8)), device="cuda")


def test_a_step_is_done_with_what_is_filled_anew_on_a_stream_of_the_users_own():
    """Nothing waits on the host: the step before still reads what the stream is told to overwrite."""
    import cupy

    rows = 4096
    y = np.random.default_rng(0).integers(0, 3, rows).astype("int32")
    net, other = compiled(shape=(rows, 256)), compiled(shape=(rows, 256))
    expected = [float(other.step(np.full((rows, 256), i, "float32"), y)) for i in range(30)]
    with cupy.cuda.Stream(non_blocking=True):
        x, labels = cupy.empty((rows, 256), "float32"), cupy.asarray(y)
        losses = []
        for i in range(30):
            x.fill(i)
            losses.append(net.step(x, labels))
        found = [float(loss) for loss in losses]
    assert found == expected


def test_threads_train_nets_of_their_own(data):
    """Each thread's first calls are among those that the driver refuses where no GPU is current."""

    def train(seed):
        net = compiled(seed=seed)
        losses = [net.step(data[0] + np.float32(seed), data[1]) for _ in range(50)]
        return [float(loss) for loss in losses]

    expected = [train(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(train, range(4))) == expected


def test_elementwise_maths_have_the_emulators_bits():
    """Subnormal numbers, too, which other options of NVRTC would make 0; quotients and roots are rounded right."""
    tiny = np.finfo("float32").smallest_subnormal
    special = [0.0, -0.0, tiny, -tiny, 1e-40, 1.2e-38, np.inf, -np.inf, np.nan, 3.4e38, 88.7, -87.4, -103.9, 1.0]
    x = np.concatenate([special, np.random.default_rng(0).normal(size=4082) * 30]).astype("float32")
    functions = (gn.exp, gn.log, gn.tanh, gn.sigmoid, gn.softplus, gn.sqrt, gn.erf, gn.sin, gn.log1p, gn.expm1)

    def model(x):
        return *(f(x) for f in functions), 1.0 / x, x / 3.0, x * 0.5, x * x + x, gn.maximum(x, 0.1), x**1.7

    backends = [CudaBackend(device) for device in (gpu(), EmulatedDevice())]
    found = [gn.compile(model, gn.spec(x.shape), device="cuda", backend=b)(x) for b in backends]
    for number, (one, other) in enumerate(zip(*found, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"result {number}")
        np.testing.assert_array_equal(np.signbit(one[one == 0]), np.signbit(other[other == 0]))


@gn.model
def recurrent(x):
    return gn.layers.dense(gn.layers.lstm(x, 128)[:, -1], 10)


@pytest.mark.parametrize("options", [Options(), Options(together=True), Options(shared=48 << 10)])
def test_loops_whose_blocks_meet_give_the_same_bits_every_time(options):
    """A block that went on too early, or saw what was there before, would show in one of so many steps."""
    chosen = np.random.default_rng(0)
    x, y = chosen.normal(size=(64, 40, 32)).astype("float32"), chosen.integers(0, 10, 64)
    loss, optimizer, found = gn.losses.softmax_cross_entropy, gn.optim.Adam(lr=0.01), []
    for own in (Options(unroll=10_000), options, options):
        backend = CudaBackend(gpu(), options=own)
        net = gn.compile(recurrent, gn.spec(x.shape), loss=loss, optimizer=optimizer, device="cuda", backend=backend)
        losses = [net.step(x, y) for _ in range(STEPS)]
        found.append([float(loss) for loss in losses])
    assert found[1] == found[2] == found[0]


@pytest.mark.parametrize("name", ["lenet", "charlm"])
def test_generated_tiles_for_tensor_cores_train_near_float32(name):
    """Fragments that are laid out otherwise than NVIDIA's would give other losses at once."""
    found = []
    for precision in ("tf32", "float32"):
        model, rows = find_model(name).with_data(None, None)
        backend = CudaBackend(gpu(), precision, library=False)
        run = Run(model.function, model.recipe, rows, device="cuda", backend=backend)
        found.append([float(run.net.step(x, y)) for x, y in itertools.islice(run.batches(1), 5)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-2)
    assert found[0] != found[1], "tensor cores would have rounded"
