"""Updates by one program become one pass: which do, which must not, and that nobody sees a difference."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_numpy import NumpyBackend
from graphnet.cli.lookup import find_model
from graphnet.compiler import lower, printers
from graphnet.compiler.c import c_target, emit
from graphnet.compiler.ir import Where
from graphnet.compiler.many import SLIVER, merge_many
from graphnet.compiler.order import is_phased
from graphnet.compiler.printers.buffers import homes_of
from graphnet.compiler.schedule import Array, Kernel, Many, Storage
from graphnet.compiler.strides import contiguous_strides
from graphnet.kernels.c.tile import targeting
from graphnet.train import Run


class Steps:
    """Steps made by hand: memory lives from the first step that touches it to the last.

    ``room`` bytes are alive in the first step besides, next to which a gradient that is kept does not count.
    """

    def __init__(self, room=1 << 20):
        self.storages, self.steps = [Storage(0, room, "temp", "", Where(), 0, 0)], []

    def array(self, kind, *shape, dtype="float32"):
        nbytes = math.prod(shape) * (8 if dtype == "float64" else 4)
        self.storages.append(Storage(len(self.storages), nbytes, kind, "", Where()))
        return Array(len(self.storages) - 1, dtype, shape, contiguous_strides(shape))

    def step(self, op, out, *inputs, phase="update", scope=""):
        where = Where("net.py", 3, scope)
        self.steps.append(Kernel(op, {}, inputs, (out,), None, where, len(self.steps), phase))
        for array in (out, *inputs):
            s = self.storages[array.storage]
            s.first, s.last = min(s.first, len(self.steps) - 1), len(self.steps) - 1

    def update(self, *shape, op="sub", dtype="float32", **options):
        """A parameter and its update by a gradient; returns both."""
        p, g = self.array("param", *shape, dtype=dtype), self.array("temp", *shape, dtype=dtype)
        self.step(op, p, p, g, **options)
        return p, g

    def merged(self):
        """The steps afterwards: the op of each, and for a pass over many the sizes of its members."""
        self.steps = merge_many(self.steps, self.storages)
        return [[m.outputs[0].size for m in s.members] if isinstance(s, Many) else s.op for s in self.steps]


def test_updates_of_other_shapes_become_one_at_the_place_of_the_last():
    """Only the number of elements matters, one element included; steps that are not concerned stay between."""
    s = Steps()
    x, y = s.array("temp", 7), s.array("temp", 7)
    s.update(2, 3, scope="net/a")
    s.step("exp", y, x)
    s.update(1, scope="net/c")
    s.step("exp", x, y)
    s.update(5, scope="net/a/d")
    s.step("exp", y, x)
    assert s.merged() == ["exp", "exp", [6, 1, 5], "exp"]
    assert (s.steps[2].position, s.steps[2].phase) == (4, "update")
    assert str(s.steps[2].where) == "net.py:3"
    assert s.steps[2].where.scope == "net"


def test_gradients_live_until_the_pass():
    s = Steps()
    _, first = s.update(5)
    x = s.array("temp", 1000)
    s.step("exp", x, x)
    s.update(6)
    s.merged()
    assert s.storages[first.storage].last == 2


def test_another_program_type_or_phase_is_another_pass():
    s = Steps()
    for options in ({}, {"op": "add"}, {"dtype": "float64"}, {"phase": "backward"}):
        for _ in range(2):
            s.update(9, **options)
    assert s.merged() == [[9, 9], [9, 9], [9, 9], [9, 9]]
    assert [(m.members[0].program[0].op, m.outputs[0].dtype, m.phase) for m in s.steps] == [
        ("sub", "float32", "update"),
        ("add", "float32", "update"),
        ("sub", "float64", "update"),
        ("sub", "float32", "backward"),
    ]


def test_factors_must_be_the_same_memory():
    """Members with one learning rate are one pass, also one of a single element; with another they are another."""
    s = Steps()
    rates = [s.array("hyper"), s.array("hyper")]
    for rate, n in zip(rates * 3, (4, 5, 1, 1, 6, 7), strict=True):
        p = s.array("param", n)
        s.step("mul", p, p, rate)
    assert s.merged() == [[4, 1, 6], [5, 1, 7]]
    assert [m.inputs[: len(m.shared)] for m in s.steps] == [(rates[0],), (rates[1],)]
    assert all(m.shared == (1,) for m in s.steps)


def test_an_operand_in_another_order_is_read_by_a_step_of_its_own():
    s = Steps()
    s.update(4, 4)
    p, q, g = s.array("param", 4, 4), s.array("param", 4, 4), s.array("temp", 4, 4)
    s.step("sub", p, p, replace(g, strides=(1, 4)))
    s.step("sub", q, q, s.array("temp", 4))
    s.update(4, 4)
    assert s.merged() == ["sub", "sub", [16, 16]]


def test_of_two_writes_to_one_home_the_second_stays_the_second():
    s = Steps()
    p = s.array("state", 8)
    for _ in range(2):
        s.step("exp", p, s.array("input", 8))
    s.step("exp", s.array("state", 8), s.array("input", 8))
    assert s.merged() == ["exp", [8, 8]]


def test_operands_must_be_one_memory_in_all_members_or_in_none():
    """p - g over p, and q - h over another home, are different loops."""
    s = Steps()
    s.update(8)
    q, h, other = s.array("param", 8), s.array("temp", 8), s.array("slot", 8)
    s.step("sub", other, q, h)
    assert s.merged() == ["sub", "sub"]


def test_a_temporary_is_not_put_off():
    """Only homes: what is computed for a later step stays where that step finds it in the cache."""
    s = Steps()
    for _ in range(2):
        s.step("exp", s.array("temp", 8), s.array("temp", 8))
    assert s.merged() == ["exp", "exp"]


def test_an_update_that_another_one_reads_stays_before_it():
    """q -= p after p -= g is no member beside it; a third one is."""
    s = Steps()
    p, _ = s.update(8)
    q = s.array("param", 8)
    s.step("sub", q, q, p)
    s.update(9)
    assert s.merged() == ["sub", [8, 9]]


def test_averages_of_new_values_are_a_pass_behind_the_updates():
    """a = a * p for each p after its update: both passes are whole."""
    s = Steps()
    for n in (8, 9):
        p, _ = s.update(n)
        a = s.array("slot", n)
        s.step("mul", a, a, p)
    assert s.merged() == [[8, 9], [8, 9]]
    assert [m.members[0].program[0].op for m in s.steps] == ["sub", "mul"]


@pytest.mark.parametrize("touch", ["reads the parameter", "writes the gradient", "writes the parameter"])
def test_a_step_between_that_would_see_a_difference_keeps_the_update_in_its_place(touch):
    s = Steps()
    p, g = s.update(8)
    x = s.array("temp", 8)
    out, operand = {"reads": (x, p), "writes": (g if "gradient" in touch else p, x)}[touch.split()[0]]
    s.step("exp", out, operand)
    s.update(9)
    s.update(7)
    assert s.merged() == ["sub", "exp", [9, 7]]


def test_those_that_cannot_go_to_the_last_meet_earlier():
    s = Steps()
    first, second = s.update(8)[0], s.update(9)[0]
    x = s.array("temp", 8)
    s.step("exp", x, first)
    s.step("exp", x, second)
    s.update(7)
    s.update(6)
    assert s.merged() == [[8, 9], "exp", "exp", [7, 6]]


def test_a_large_gradient_is_not_kept_through_the_peak_and_a_small_one_is():
    """It would cost more than a sliver of the memory that is alive there."""
    s = Steps(room=0)
    s.update(1000)
    s.update(10)
    x = s.array("temp", 100_000)
    s.step("exp", x, x)
    s.update(20)
    assert s.merged() == ["sub", "exp", [10, 20]]


def test_memory_in_no_ones_way_may_be_kept():
    """The same gradient, where the peak is behind it."""
    s = Steps(room=0)
    x = s.array("temp", 100_000)
    s.step("exp", x, x)
    s.update(1000)
    y = s.array("temp", 90_000)
    s.step("exp", y, y)
    s.update(20)
    assert s.merged() == ["exp", "exp", [1000, 20]]


# -- whole nets -----------------------------------------------------------------------------------------------


@gn.model
def mixed(x):
    """Parameters of 1 to 1,500 elements; no product, which would update its weights itself."""
    x = gn.tanh(x * gn.param("scale", (50, 30)) + gn.param("shift", (30,)))
    x = gn.mean(x * gn.param("weights", (50, 1)), axis=(1, 2), keepdims=True)
    return gn.reshape(x, (6, 1)) + gn.param("bias", (1,))


OPTIMIZERS = {
    "sgd": lambda: gn.optim.SGD(lr=0.05),
    "sgd l1 l2": lambda: gn.optim.SGD(lr=0.05, l1=0.01, l2=0.1),
    "momentum clipped": lambda: gn.optim.SGD(lr=0.05, momentum=0.9, clip_norm=0.5),
    "nesterov": lambda: gn.optim.SGD(lr=0.05, momentum=0.9, nesterov=True),
    "adagrad clipped": lambda: gn.optim.Adagrad(lr=0.05, clip_norm=0.5),
    "adadelta": lambda: gn.optim.Adadelta(),
    "rmsprop": lambda: gn.optim.RMSprop(lr=0.01, eps=0.01, momentum=0.5, centered=True),
    "adam": lambda: gn.optim.Adam(lr=0.01),
    "adam clipped": lambda: gn.optim.Adam(lr=0.01, clip_norm=0.5, l2=0.1),
    "adamw": lambda: gn.optim.AdamW(lr=0.01, clip_norm=0.5),
}


def on(backend, made):
    """The same net on the backend that was asked for."""
    return gn.net.Net(made.program, made.input_types, made.target_type, made.optimizer, backend, 4)


def net_of(optimizer, backend):
    made = gn.compile(mixed, gn.spec((6, 50, 30)), loss=gn.losses.mse, optimizer=optimizer, backend="numpy")
    return on(backend, made)


def trained(optimizer, backend):
    """Parameters after three steps, and the step's plan."""
    chosen = np.random.default_rng(3)
    x = chosen.standard_normal((6, 50, 30)).astype("float32")
    y = chosen.standard_normal((6, 1)).astype("float32")
    net = net_of(OPTIMIZERS[optimizer](), backend)
    for _ in range(3):
        net.step(x, y)
    return {n: p.copy() for n, p in net.params.items()}, net.plan


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_computes_the_same_bits_in_one_pass_as_in_several(optimizer, c_backend, monkeypatch):
    """For one, two and three threads; and what the numpy backend computes, within rounding."""
    # else updates without clipping are done where the gradients are, and there is nothing left to gather
    monkeypatch.setattr(lower, "merge_epilogues", lambda steps, *rest: list(steps))
    with monkeypatch.context() as patch:
        patch.setattr(lower, "merge_many", lambda steps, storages: list(steps))
        expected, plan = trained(optimizer, c_backend(1))
        assert not any(isinstance(s, Many) for s in plan.steps)
    for threads in (1, 2, 3):
        found, plan = trained(optimizer, c_backend(threads))
        (one,) = [s for s in plan.steps if isinstance(s, Many)]
        assert sorted(m.outputs[0].size for m in one.members) == [1, 30, 50, 1500]
        assert all(np.array_equal(found[n], expected[n]) for n in expected), threads
    reference, _ = trained(optimizer, NumpyBackend())
    for name, value in reference.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


def test_phases_run_apart_update_in_one_pass(c_backend):
    """forward, backward and update as calls of their own give what a whole step gives."""

    def run(apart):
        made = net_of(gn.optim.Adam(), c_backend(2))
        x = np.linspace(-1, 1, 6 * 1500, dtype="float32").reshape(6, 50, 30)
        y = np.ones((6, 1), "float32")
        for _ in range(2):
            if apart:
                made.forward(x)
                made.backward(y)
                made.update()
            else:
                made.step(x, y)
        return made

    whole, parts = run(False), run(True)
    assert all(np.array_equal(whole.params[n], parts.params[n]) for n in whole.params)
    (plan,) = [b.info.plan for b in parts._bound.values() if is_phased(b.info.plan.graph)]
    (one,) = [s for s in plan.steps if isinstance(s, Many)]
    assert one.phase == "update"
    assert len(one.members) == 4


def plan_of(name, **options):
    """A reference model's training step as lowered for C."""
    model, data = find_model(name).with_data(None, None)
    net = Run(model.function, {**model.recipe, "steps": 3}, data, backend="numpy", **options).net
    return net._compiled("step", net.input_types, net.target_type, SimpleNamespace(target=c_target(2, "avx2")))[1]


@pytest.fixture(scope="module")
def clipped():
    """charlm's Adam, which has a norm to wait for."""
    return plan_of("charlm", batch_size=8)


def test_one_loop_is_written_for_all_parameters(clipped):
    """charlm's Adam: six members, one square root, and a part for every thread."""
    (one,) = [s for s in clipped.steps if isinstance(s, Many)]
    assert len(one.members) == 6
    with targeting("avx2"):
        text = emit(clipped, 2).text
    assert text.count("out2[i] = ") == 1
    assert f"s{one.position}(net, CUT(" in text


def test_the_listing_shows_the_program_once_and_a_line_a_member(clipped):
    listing = printers.schedule.listing(clipped).split("\n")
    head = next(i for i, line in enumerate(listing) if " many 6 updates of " in line)
    end = next(i for i in range(head + 1, len(listing)) if not listing[i].startswith("       "))
    lines = [line.strip() for line in listing[head + 1 : end]]
    assert sum(line.startswith("out2 = ") for line in lines) == 1
    assert "<- in1 [out0], in6 [out1], in11 [out2]" in lines
    (bias,) = [line for line in lines if "[param charlm/dense_1/b]" in line]
    assert bias.startswith("(103,) out0 [slot m/charlm/dense_1/b], out1 [slot v/charlm/dense_1/b], out2 [param ")
    assert "<- in2 [arena+" in bias
    assert bias.endswith("  at charlm.py:36 optimizer/charlm/dense_1")
    assert sum(line.startswith("(") for line in lines) == 6


def test_the_listing_finds_every_members_buffers_at_its_nodes(clipped):
    (one,) = [s for s in clipped.steps if isinstance(s, Many)]
    found = {(home.array, home.position) for home in homes_of(clipped).values()}
    assert all((array, one.position) in found for m in one.members for array in m.outputs)


@pytest.mark.parametrize("name", ["linreg", "softmax", "mlp", "lenet", "charlm"])
def test_the_arena_of_a_reference_model_grows_by_a_sliver_at_most(name, monkeypatch):
    merged = plan_of(name).memory.arena
    monkeypatch.setattr(lower, "merge_many", lambda steps, storages: list(steps))
    assert merged <= plan_of(name).memory.arena * (1 + SLIVER)
