"""Data sets on the device: every row once an epoch, in an order that every device computes the same."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import graphnet as gn
from graphnet.device_emulated import EmulatedDevice
from graphnet.kernels.c import toolchain
from graphnet.kernels.cuda import gather

emulated = pytest.mark.skipif(toolchain.find() is None, reason="the emulator needs a C++ compiler")


@gn.model
def line(x):
    return gn.layers.dense(x, 3)


def compiled(backend="emulated", batch=4, **options):
    device = "cuda" if backend == "emulated" else "cpu"
    optimizer, loss = gn.optim.SGD(lr=0.1), gn.losses.softmax_cross_entropy
    spec = gn.spec((batch, 5))
    return gn.compile(line, spec, loss=loss, optimizer=optimizer, device=device, backend=backend, **options)


@pytest.fixture(scope="module")
def data():
    chosen = np.random.default_rng(0)
    return chosen.normal(size=(150, 5)).astype("float32"), chosen.integers(0, 3, 150)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 16, 17, 1000])
def test_an_epochs_order_has_every_row_once(rows):
    found = gather.rows_at(np.arange(rows), rows, gather.order(seed=7, epoch=3, shuffle=True))
    assert sorted(found) == list(range(rows))


def test_orders_differ_by_seed_and_epoch_and_repeat():
    keys = [(seed, epoch) for seed in (0, 1, (1 << 64) - 1) for epoch in (0, 1)]
    orders = [gather.rows_at(np.arange(50), 50, gather.order(*key, True)).tolist() for key in keys]
    assert len({tuple(o) for o in orders}) == len(orders)
    assert gather.rows_at(np.arange(50), 50, gather.order(*keys[3], True)).tolist() == orders[3]
    assert gather.rows_at(np.arange(50), 50, gather.order(0, 0, False)).tolist() == list(range(50))


@pytest.mark.parametrize(("rows", "bound"), [(10, 27.9), (16, 37.7)])
def test_each_row_is_as_likely_at_the_first_place(rows, bound):
    """Pearson's statistic, rows - 1 degrees of freedom: above the bound in one run of a thousand."""
    firsts = [gather.rows_at(np.arange(1), rows, gather.order(0, epoch, True))[0] for epoch in range(2000)]
    expected = 2000 / rows
    assert ((np.bincount(firsts, minlength=rows) - expected) ** 2 / expected).sum() < bound


@emulated
@pytest.mark.parametrize("grid", [None, 1])
def test_the_kernel_copies_the_rows_that_numpy_says(grid):
    """Rows of 80, 4, 3 and 24 bytes: words of 16, 4, 1 and 8."""
    chosen = np.random.default_rng(0)
    rows, batch, first = 23, 7, 3
    arrays = [
        chosen.normal(size=(rows, 5, 4)).astype("float32"),
        np.arange(rows, dtype="int32"),
        chosen.integers(0, 255, (rows, 3)).astype("uint8"),
        chosen.normal(size=(rows, 3)),
    ]
    device = EmulatedDevice(grid=grid, order="reverse")
    words = gather.order(seed=5, epoch=2, shuffle=True, base=4, start=first)
    note = np.array([0, 0, 0, 0, 5, 0, 0, 0])  # one run since the epoch began
    outs = [np.zeros((batch, *a.shape[1:]), a.dtype) for a in arrays]
    text, units = gather.gather(rows, batch, [a[0].nbytes for a in arrays])
    module = device.load(text)
    argument = struct.pack("<10Q", *(a.ctypes.data for a in (words, note, *arrays, *outs)))
    module.launch(gather.KERNEL, units if grid is None else grid, [argument])
    expected = gather.rows_at(np.arange(first + batch, first + 2 * batch), rows, words)
    for array, out in zip(arrays, outs, strict=True):
        np.testing.assert_array_equal(out, array[expected])


@emulated
def test_an_epoch_on_the_device_is_the_same_steps_as_on_the_cpu(data):
    """150 rows in batches of 4: 37 steps in launches of 32, 4 and 1, and a last batch of 2."""
    x, y = data
    nets = [compiled(name) for name in ("numpy", "emulated")]
    histories = [net.fit(gn.data.on_device(x, y), epochs=2, verbose=False) for net in nets]
    np.testing.assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=1e-5)
    assert histories[0]["loss"][1] < histories[0]["loss"][0]
    for name, value in nets[0].params.items():
        np.testing.assert_allclose(nets[1].params[name], value, rtol=1e-4, atol=1e-6)
    for net in nets:
        net.fit(gn.data.on_device(x, y), epochs=1, batch_size=4, shuffle=False, drop_last=True, verbose=False)
    np.testing.assert_allclose(nets[1].params["line/dense_1/w"], nets[0].params["line/dense_1/w"], rtol=1e-4, atol=1e-6)


@emulated
def test_without_shuffling_it_is_the_steps_of_a_loop_in_order(data):
    x, y = data[0][:10], data[1][:10]
    net, loop = compiled(), compiled()
    net.fit(gn.data.on_device(x, y), shuffle=False, verbose=False)
    for start in (0, 4, 8):
        loop.step(x[start : start + 4], y[start : start + 4])
    for name, value in loop.params.items():
        np.testing.assert_array_equal(net.params[name], value)


@emulated
def test_a_learning_rate_set_between_epochs_is_used_and_steps_between_do_not_matter(data):
    x, y = data[0][:12], data[1][:12]
    nets = [compiled(name) for name in ("numpy", "emulated")]
    for net in nets:
        kept = gn.data.on_device(x, y)
        net.fit(kept, verbose=False)
        net.step(x[:4], y[:4])
        net.optimizer.lr = 0.5
        net.fit(kept, initial_epoch=1, verbose=False)
    np.testing.assert_allclose(nets[1].params["line/dense_1/w"], nets[0].params["line/dense_1/w"], rtol=1e-4, atol=1e-6)


@emulated
def test_a_bad_label_stops_the_epoch_in_one_line(data):
    x, y = data
    y = y.copy()
    y[60] = 3
    net = compiled()
    with pytest.raises(gn.DataError, match=r"index 3 is out of range for 3 rows.* given to step 16 .* the 21 started"):
        net.fit(gn.data.on_device(x, y), shuffle=False, verbose=False)
    assert np.isfinite(net.fit(gn.data.on_device(x, data[1]), verbose=False)["loss"][0])


@emulated
def test_labels_that_do_not_fit_the_compiled_dtype_are_refused(data):
    with pytest.raises(gn.DataError, match="does not fit the compiled dtype int32"):
        compiled().fit(gn.data.on_device(data[0], data[1] + (1 << 40)), verbose=False)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((), "pass arrays of one dimension"),
        ((np.float32(1),), "pass arrays of one dimension"),
        ((np.zeros((3, 2)), np.zeros(4)), r"lengths \(3, 4\)"),
        ((np.zeros((0, 2)),), r"lengths \(0,\)"),
    ],
)
def test_what_is_no_data_set_is_one_line(arrays, message):
    with pytest.raises(gn.DataError, match=message):
        gn.data.on_device(*arrays)


@emulated
def test_it_is_evaluated_as_its_arrays_are_and_as_validation_data(data):
    """10 rows in batches of 4, the last of 2; float64 and int64 become what the net was compiled for."""
    x, y = data[0][:10], data[1][:10]
    for net in (compiled("numpy"), compiled()):
        kept = gn.data.on_device(x.astype("float64"), y)
        expected = net.evaluate(x, y)
        assert net.evaluate(kept) == expected
        assert net.evaluate(kept, batch_size=20) == pytest.approx(expected, rel=1e-6)
        net.optimizer.lr = 0.0
        histories = [net.fit(kept, validation=v, verbose=False) for v in (kept, (kept,), (x, y))]
        assert [h["val_loss"] for h in histories] == [[expected]] * 3


@emulated
def test_what_takes_arrays_alone_says_so_in_one_line(data):
    net, kept = compiled("numpy"), gn.data.on_device(*data)
    for call in (net, net.forward, lambda d: net.step(d, data[1]), lambda d: net.loss(d, data[1])):
        with pytest.raises(gn.DataError, match=r"^test.*: a data set on the device is for net\.fit and net\.evaluate"):
            call(kept)
    with pytest.raises(gn.DataError, match="evaluate: a data set on the device holds its target: leave y out"):
        net.evaluate(kept, data[1])
    with pytest.raises(gn.PlanError, match="loss takes 1 input and a target: it got 1 in all"):
        compiled().evaluate(gn.data.on_device(data[0]))


def test_fit_takes_it_alone_and_says_what_does_not_fit(data):
    kept = gn.data.on_device(*data)
    with pytest.raises(gn.DataError, match="leave y out"):
        compiled("numpy").fit(kept, data[1])
    with pytest.raises(gn.DataError, match="150 rows make no full batch of 200"):
        compiled("numpy").fit(kept, batch_size=200, drop_last=True)
