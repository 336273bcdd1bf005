"""Arguments on their way to a GPU while it is at other work, on a CuPy that only plays one; see conftest.py.

Everything is tried with copies that are done as late as they may be, and as early.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn
from graphnet import device_cupy, device_feed
from graphnet.compiler.ir import Type
from graphnet.device_inputs import Arguments
from graphnet.device_lane import CupyLane
from graphnet.kernels.c import toolchain
from graphnet.lazy import Loss

pytestmark = pytest.mark.skipif(toolchain.find() is None, reason="the emulator needs a C++ compiler")


@pytest.fixture(params=["late", "early"])
def played(gpu, request):
    """The GPU, with copies that are late and with copies that are early."""
    type(gpu).early = request.param == "early"
    return gpu


@gn.model
def small(x):
    return gn.layers.dense(gn.tanh(gn.layers.dense(x, 8)), 3)


def compiled(backend="auto"):
    loss, optimizer = gn.losses.softmax_cross_entropy, gn.optim.SGD(lr=0.1)
    return gn.compile(small, gn.spec((6, 4)), loss=loss, optimizer=optimizer, device="cuda", backend=backend)


def batches(count):
    chosen = np.random.default_rng(0)
    return [(chosen.normal(size=(6, 4)).astype("float32"), chosen.integers(0, 3, 6)) for _ in range(count)]


def expected(count):
    """The losses of the first steps, each waited for."""
    net = compiled("emulated")
    return [float(net.step(*batch)) for batch in batches(count)]


def losses(net, count, put=lambda x, y: (x, y)):
    """The losses of steps that nobody waited for, on arguments that change as soon as a step has returned."""
    found = []
    for x, y in batches(count):
        found.append(net.step(*put(x, y)))
        x[:], y[:] = 1e9, 99
    return [float(loss) for loss in found]


def test_arguments_may_change_as_soon_as_a_step_has_returned(played):
    assert losses(compiled(), 9) == expected(9)


def test_arguments_of_which_some_lie_on_the_gpu(played):
    assert losses(compiled(), 9, lambda x, y: (played.on_gpu(x), y)) == expected(9)
    assert losses(compiled(), 9, lambda x, y: (x, played.on_gpu(y.astype("int32")))) == expected(9)
    net, labels = compiled(), played.on_gpu(batches(1)[0][1].astype("int32"))
    found = [net.step(x, labels) for x, _ in batches(9)]  # from the third on read where they lie
    net = compiled("emulated")
    assert [float(loss) for loss in found] == [float(net.step(x, batches(1)[0][1])) for x, _ in batches(9)]


FAULTS = {
    "a step does not wait for its copy": ("wait_event", lambda stream: not stream.apart),
    "a copy does not wait for the step that reads its block": ("wait_event", lambda stream: stream.apart),
    "the host does not wait for the copy from its memory": ("wait", lambda lane: True),
    "a step does not tell when it is done": ("used", lambda lane: lane._copied.place is not None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wait_that_is_missing_shows(gpu, fault, monkeypatch):
    """Copies that are late show one half of them, early ones the other."""
    name, faulty = FAULTS[fault]
    owner = gpu.cuda.Stream if name == "wait_event" else CupyLane
    right = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda self, *args: None if faulty(self) else right(self, *args))
    found = []
    for early in (False, True):
        type(gpu).early = early
        try:
            found.append(losses(compiled(), 9) == expected(9))
        except gn.DataError:  # labels of the next call
            found.append(False)
    assert not all(found)


def test_a_new_block_is_zeroed_before_it_is_filled(played):
    device = device_cupy.gpu()
    block = device.allocate(Type((8,), "uint8"))
    lane = device.lane(block)
    lane.host[:] = 7
    lane.upload(2, 3)
    np.testing.assert_array_equal(device.read(block), [0, 0, 7, 7, 7, 0, 0, 0])


def test_the_host_goes_on_until_four_steps_are_not_done(played):
    net = compiled()
    steps = []
    for x, y in batches(12):
        loss = net.step(x, y)
        assert isinstance(loss, Loss)
        blocks = net._last["step"].run.arguments._blocks
        steps.append(blocks[(len(steps) + 1) % 2].lane._used.place)  # the first step was none of theirs
        open_ = sum(not place.passed for place in steps[1:])
        assert open_ <= 4
    assert open_ == 4
    played.log.clear()
    float(loss)
    assert played.log == ["download", "synchronize"]


def test_the_second_block_gets_its_graph_when_it_is_first_used(played):
    net = compiled()
    captured = []
    for x, y in batches(5):
        played.log.clear()
        net.step(x, y)
        captured.append(sum(w.startswith("capture") for w in played.log))
    assert captured == [1, 0, 1, 0, 0]


def test_float64_and_wide_integers_are_converted_on_the_way(played):
    net = compiled()
    assert losses(net, 9, lambda x, y: (x.astype("float64"), y.astype("uint16"))) == expected(9)
    played.log.clear()
    net.step(batches(1)[0][0].astype("float64"), batches(1)[0][1])
    assert not {"synchronize", "download"} & set(played.log)
    there = played.on_gpu(batches(1)[0][0].astype("float64"))
    played.log.clear()
    net.step(there, batches(1)[0][1])
    assert not {"synchronize", "download"} & set(played.log)


def test_a_step_behind_an_epoch_on_the_device_does_not_disturb_it(played, monkeypatch):
    data = [np.concatenate(arrays) for arrays in zip(*batches(8), strict=True)]

    def run(backend="auto"):
        net = compiled(backend)
        warm = [net.step(*batches(1)[0]) for _ in range(3)]
        kept = gn.data.on_device(*data)
        found = [loss for launch in device_feed.epoch(net, kept, 6, True, False, 0) for loss, _ in launch]
        found += [net.step(*batch) for batch in batches(3)]
        return [float(loss) for loss in warm + found]

    assert run() == run("emulated")
    if played.early:
        monkeypatch.setattr(Arguments, "used", lambda self: None)
        assert run() != run("emulated")


def test_arguments_of_a_call_that_failed_do_not_come_back_later(played, monkeypatch):
    def run():
        net, found = compiled(), []
        for x, y in batches(9):
            found.append(net.step(x, y))
            with pytest.raises(gn.DataError, match="does not fit"):
                net.step([[7.0] * 4] * 6, y.astype("int64") + (1 << 33))
        return [float(loss) for loss in found]

    assert run() == expected(9)
    if played.early:
        monkeypatch.setattr(Arguments, "used", lambda self: None)
        assert run() != expected(9)


def test_results_that_are_inputs_are_those_of_the_call(played):
    @gn.model
    def pair(x):
        return x, x[1:] * 2

    net = gn.compile(pair, gn.spec((3, 2)), device="cuda")
    for i in range(5):
        x = np.full((3, 2), i, "float32")
        np.testing.assert_array_equal(net(x)[0], x)
        there = played.on_gpu(x)
    for _ in range(4):
        found = net(there)[0]
        net.backend.device.synchronize()
        np.testing.assert_array_equal(found.get(), there.get())


def test_waiting_for_the_device_leaves_nothing_in_any_stream(played):
    net = compiled()
    for x, y in batches(4):
        net.step(x, y)
    device = device_cupy.gpu()
    for stream in (device._stream, device._copies):
        stream.add(lambda: None)
    device.synchronize()
    assert not any(stream.queue for stream in played.streams.values())


def test_both_blocks_of_inputs_are_counted(gpu):
    net = compiled()
    assert net.memory.homes["input"] == 2 * (6 * 4 * 4 + 6 * 4)
    assert "240 B  fixed home, 2 blocks in turn" in str(net.memory)
    type(gpu).free = 100
    with pytest.raises(gn.BackendError, match=r"\(.* B for temporaries, 1,024 B for 2 blocks of inputs\) beside"):
        compiled()
