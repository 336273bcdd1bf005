"""The GPU's side by a CuPy that only plays one: what is asked of the device, in which order, and when it is waited for.

See conftest.py. What CUDA itself makes of the calls is for test_backend_cuda_gpu.py.
"""

from __future__ import annotations

import ctypes
import time
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import graphnet as gn
from graphnet import device_cupy, device_nvrtc
from graphnet.backend_cuda import CudaBackend
from graphnet.compiler.cuda import Options
from graphnet.compiler.ir import Type
from graphnet.device import Call
from graphnet.device_emulated import EmulatedDevice
from graphnet.kernels.c import toolchain
from graphnet.kernels.cuda.prelude import HEADER

pytestmark = pytest.mark.skipif(toolchain.find() is None, reason="the emulator needs a C++ compiler")


@gn.model
def small(x):
    return gn.layers.dense(gn.layers.dropout(gn.tanh(gn.layers.dense(x, 8)), 0.2), 3)


def compiled(backend="auto"):
    optimizer = gn.optim.Adam(lr=0.05)
    loss = gn.losses.softmax_cross_entropy
    return gn.compile(small, gn.spec((6, 4)), loss=loss, optimizer=optimizer, device="cuda", backend=backend)


def batches(count):
    chosen = np.random.default_rng(0)
    return [(chosen.normal(size=(6, 4)).astype("float32"), chosen.integers(0, 3, 6)) for _ in range(count)]


def host(array):
    return np.asarray(array.get())


def test_training_gives_what_the_emulated_device_gives(gpu):
    net, other = compiled(), compiled(CudaBackend(EmulatedDevice(library=False)))
    losses, expected = ([float(one.step(x, y)) for x, y in batches(7)] for one in (net, other))
    assert losses == expected
    for name, value in other.params.items():
        np.testing.assert_array_equal(host(net.params[name]), value)
    x = batches(1)[0][0]
    np.testing.assert_array_equal(net(x), other(x))
    assert net.loss(*batches(1)[0]) == other.loss(*batches(1)[0])


def test_a_new_learning_rate_is_one_small_copy_and_the_graph_stays(gpu):
    net = compiled()
    x, y = batches(1)[0]
    for _ in range(3):
        net.step(x, y)
    gpu.log.clear()
    net.step(x, y)
    usual = gpu.log[:]
    net.optimizer.lr = 0.01
    gpu.log.clear()
    net.step(x, y)
    assert gpu.log == ["upload", *usual]


def test_arrays_on_the_gpu_are_copied_there_once_and_then_read_where_they_lie(gpu):
    net, other = compiled(), compiled()
    x, y = batches(1)[0]
    there = gpu.on_gpu(x), gpu.on_gpu(y.astype("int32"))
    losses, found = [net.step(x, y)], []
    for _ in range(4):
        gpu.log.clear()
        losses.append(net.step(*there))
        found.append([w.split()[0] for w in gpu.log if "event" not in w])
    assert found == [["move", "move", "graph"], ["capture", "graph"], ["graph"], ["graph"]]
    assert [float(loss) for loss in losses] == [float(other.step(x, y)) for _ in losses]


def test_a_slice_of_a_parameter_or_at_an_odd_address_is_copied_every_time(gpu):
    net = compiled()
    x, y = batches(1)[0]
    for _ in range(3):
        net.step(x, y)
    memory = gpu.on_gpu(np.zeros(6 * 4 * 4 + 64, np.uint8))
    odd = gpu.ndarray((6, 4), "float32", memory.data + 4)
    for _ in range(3):
        gpu.log.clear()
        net.step(odd, y)
        assert "move" in gpu.log
        assert not any(w.startswith("capture") for w in gpu.log)


def test_at_most_eight_places_get_graphs_of_their_own(gpu):
    net = compiled()
    x, y = batches(1)[0]
    for _ in range(3):
        net.step(x, y)
    places = [(gpu.on_gpu(x), gpu.on_gpu(y.astype("int32"))) for _ in range(10)]
    gpu.log.clear()
    for _ in range(3):
        for place in places:
            net.step(*place)
    assert sum(w.startswith("capture") for w in gpu.log) == 8


def test_results_are_on_the_gpu_where_an_argument_is_and_streams_wait_for_each_other(gpu):
    net = compiled()
    x, _ = batches(1)[0]
    expected = net(x)
    assert isinstance(expected, np.ndarray)
    there = types.SimpleNamespace(array=gpu.on_gpu(x), shape=x.shape, __dlpack_device__=lambda: (2, 0))
    for value in (gpu.on_gpu(x), there):
        found = net(value)
        assert isinstance(found, gpu.ndarray)
        assert found.data.ptr != net._last["infer"].outputs[0].data.ptr
        net.backend.device.synchronize()
        np.testing.assert_array_equal(host(found), expected)
    gpu.current = gpu.cuda.Stream()
    gpu.log.clear()
    net(gpu.on_gpu(x))
    assert gpu.log.count("stream waits") >= 2


def test_labels_of_64_bits_on_the_gpu_are_narrowed_there(gpu):
    net, other = compiled(), compiled()
    x, y = batches(1)[0]
    for _ in range(3):
        assert float(net.step(gpu.on_gpu(x), gpu.on_gpu(y.astype("int64")))) == float(other.step(x, y))
    with pytest.raises(gn.DataError, match="index 2147483647 is out of range"):
        float(net.step(gpu.on_gpu(x), gpu.on_gpu(y.astype("int64") + (1 << 40))))


def test_a_data_set_on_the_gpu_is_evaluated_where_it_lies(gpu):
    """It is put there once; from then on its rows pass the host no more."""
    net = compiled()
    x, y = (np.concatenate(arrays) for arrays in zip(*batches(3), strict=True))
    expected = net.evaluate(x[:14], y[:14])
    kept = gn.data.on_device(x[:14], y[:14])
    assert net.evaluate(kept) == expected
    gpu.log.clear()
    assert net.evaluate(kept) == expected
    assert "upload" not in gpu.log


def test_a_bad_label_is_told_when_the_loss_is_read(gpu):
    net = compiled()
    x, y = batches(1)[0]
    net.step(x, y)
    good, bad = net.step(x, y), net.step(x, y + 7)
    with pytest.raises(gn.DataError, match="out of range for 3 rows"):
        float(bad)
    assert float(good) > 0
    assert np.isfinite(net.step(x, y))


def test_a_cooperative_kernel_gets_as_many_blocks_as_the_gpu_holds(gpu):
    device = device_cupy.gpu()
    signature = 'extern "C" __global__ void __launch_bounds__(256)'
    text = f"{HEADER}\n{signature} fill(int *x, int k) {{ x[blockIdx.x] = k; }}\n"
    out = device.allocate(Type((99,), "int32"))
    arguments = (device.address(out).to_bytes(8, "little"), (5).to_bytes(4, "little"))
    module = device.load(text)
    device.capture([Call(module, "fill", 99, arguments, 0, together) for together in (True, False)])
    assert gpu.grids == [6, 99]
    with pytest.raises(gn.BackendError, match=r"fill needs 120,000 B of shared memory .* has 99,000"):
        device.capture([Call(module, "fill", 1, arguments, 120_000)])


def test_memory_that_cannot_be_had_is_one_line(gpu, monkeypatch):
    net = compiled()
    type(gpu).free = 100
    with pytest.raises(gn.BackendError, match=r"small:inference needs .* 100 of 34,359,738,368 B are free"):
        net(batches(1)[0][0])
    monkeypatch.setattr(gpu.cuda, "Memory", lambda n: (_ for _ in ()).throw(gpu.Error("out of memory")))
    with pytest.raises(gn.BackendError, match=r"4,000 B of GPU memory cannot be had"):
        device_cupy.CupyDevice(gpu).allocate(Type((1000,), "float32"))


def test_memory_that_cupys_pool_holds_for_later_is_room_for_a_plan(gpu):
    """A user who prepared data with CuPy has given it back, and the pool has not."""
    type(gpu).free, type(gpu).pooled = 0, 1 << 20
    assert float(compiled().step(*batches(1)[0])) > 0
    assert (gpu.free, gpu.pooled) == (1 << 20, 0)


@pytest.mark.parametrize("wide", [4, 40])  # bytes that go through the ring, and more
def test_a_gradient_that_lies_turned_is_written_where_its_elements_are(gpu, wide):
    @gn.model
    def turned(x):
        return x @ gn.transpose(gn.param("w", (3, wide), init=gn.init.normal(std=1.0)))

    loss, optimizer, values = gn.losses.softmax_cross_entropy, gn.optim.SGD(lr=1.0), np.arange(3.0 * wide)
    for given in (np.asarray, gpu.on_gpu):
        net = gn.compile(turned, gn.spec((6, wide)), loss=loss, optimizer=optimizer, device="cuda")
        before = net.backend.read(net.params["turned/w"])
        net.forward(np.ones((6, wide), "float32"))
        net.backward(np.arange(6) % 3)
        assert net.grads["turned/w"].strides == (4, 12)
        net.grads["turned/w"] = given(values.reshape(3, wide).astype("float32"))
        net.update()
        np.testing.assert_allclose(
            net.backend.read(net.params["turned/w"]), before - values.reshape(3, wide), atol=1e-5
        )


def test_why_there_is_no_gpu_is_one_line_without_cupys_advice(gpu, monkeypatch):
    framed = (
        "=====\nCuPy failed to load libcuda.so.1:\n\nmuch advice\n\nOriginal error:\n  ImportError: not found\n====="
    )

    def broken(name):
        raise ImportError(framed)

    assert device_cupy.no_gpu() == ""
    gpu.cuda.runtime.getDeviceCount = lambda: 0
    assert device_cupy.no_gpu() == "device 'cuda': there is no GPU here: use device='cpu'"
    monkeypatch.setattr(device_cupy.importlib, "import_module", broken)
    assert device_cupy.no_gpu().startswith("device 'cuda' needs CuPy (ImportError: not found): pip install ")
    with pytest.raises(gn.BackendError, match=r"^tests/graphnet/test_device_cupy.py:\d+: device 'cuda' needs CuPy"):
        device_cupy.cupy_or_error()


def test_profiles_are_measured_by_events(gpu):
    profile = compiled().profile(*batches(1)[0], repeats=2)
    assert all(seconds >= 1e-3 for _, seconds in profile)


def test_an_argument_on_a_gpu_is_refused_by_a_net_on_the_cpu(gpu):
    net = gn.compile(small, gn.spec((6, 4)), backend="numpy")
    with pytest.raises(
        gn.DTypeError, match="is a Array on a GPU, the net is on the CPU: compile it with device='cuda'"
    ):
        net(gpu.on_gpu(batches(1)[0][0]))


def test_steps_come_between_what_is_asked_on_a_stream_of_the_users_own(gpu):
    """With arguments of NumPy, too: the parameters are live arrays."""
    net = compiled()
    x, y = batches(1)[0]
    for _ in range(3):
        net.step(x, y)
    w = net.params["small/dense_1/b"]
    seen = []
    gpu.current = gpu.cuda.Stream(non_blocking=True)
    for first in (net.backend.device, gpu.current):  # does nothing that it was not told to wait for
        gpu.current.add(lambda: ctypes.memset(w.data.ptr, 0, w.nbytes))
        net.step(x, y)
        gpu.current.add(lambda: seen.append(host(w)))
        first.synchronize()
        gpu.current.synchronize()
        assert 0 < np.abs(seen[-1]).max() <= 0.06, "one step of Adam from 0"


def test_the_driver_is_called_with_the_nets_gpu_current(gpu, monkeypatch):
    """Another may be: of a thread that is new, or by the user's choice, who gets it back."""
    net, current = compiled(), []
    launch = gpu.launch
    monkeypatch.setattr(gpu, "launch", lambda *given: (current.append(gpu.device), launch(*given)))
    gpu.device = 1
    for x, y in batches(3):
        net.step(x, y)
    assert set(current) == {0}
    assert gpu.device == 1


def test_threads_with_nets_of_their_own_do_not_meet_in_a_capture(gpu, monkeypatch):
    device, inside, most = device_cupy.gpu(), [], []

    def bound(one):
        inside.append(one)
        time.sleep(0.01)
        most.append(len(inside))
        inside.pop()
        return lambda stream: None

    monkeypatch.setattr(device, "_bound", bound)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: device.capture([n, n]), range(4)))
    assert (len(most), max(most)) == (8, 1)


@pytest.mark.parametrize(
    ("known", "capability", "expected"),
    [
        ((80, 90, 120), "90", "sm_90"),
        ((80, 90, 120), "103", "compute_90"),  # a GPU takes PTX of what came before it, and not of what came later
        ((80, 90, 120), "121", "compute_120"),
        ((80, 90, 120), "75", "GPU has compute capability 7.5, NVRTC 13.0 compiles for 8.0 and later"),
    ],
)
def test_what_is_compiled_for_a_gpu_is_what_it_runs(gpu, monkeypatch, tmp_path, known, capability, expected):
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path))
    gpu.cuda.nvrtc.getSupportedArchs = lambda: known
    gpu.cuda.nvrtc.getPTX = gpu.cuda.nvrtc.getCUBIN
    found = []
    gpu.cuda.nvrtc.compileProgram = lambda program, flags: found.append(flags[-1])
    try:
        device_nvrtc.compiled(gpu, [HEADER], capability)
    except gn.BackendError as error:
        found.append(str(error))
    assert expected in found[0]


def test_a_gpu_without_tensor_cores_for_tf32_computes_in_float32(gpu):
    gpu.cuda.Device = lambda number: types.SimpleNamespace(compute_capability="75")
    backend = CudaBackend(device_cupy.gpu(), "tf32")
    assert not backend.target.tensor
    assert backend.precision == "float32", "what products of the library are asked for"
    assert CudaBackend(EmulatedDevice(), "tf32").target.tensor


def test_loops_keep_on_chip_no_more_than_the_gpu_has(gpu):
    assert CudaBackend(device_cupy.gpu()).options.shared == 99_000
    assert CudaBackend(EmulatedDevice()).options == Options()


def test_a_text_that_nvrtc_refuses_is_told_at_the_users_line(gpu):
    def refuse(program, flags):
        raise gpu.Error("NVRTC_ERROR_COMPILATION")

    gpu.cuda.nvrtc.compileProgram = refuse
    gpu.cuda.nvrtc.getProgramLog = lambda program: "graphnet.cu(1): error: x is undefined\n"
    with pytest.raises(gn.BackendError, match=r"^tests/graphnet/test_device_cupy.py:\d+: NVRTC refuses .*: error: x"):
        device_nvrtc.compiled(gpu, ["no CUDA"], "90")
