"""Gates in the tiles of a recurrent product: which steps become one, which must not, and what the one computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import graphnet as gn
from graphnet.compiler.gates import merge_gates
from graphnet.compiler.ir import NOWHERE
from graphnet.compiler.schedule import Array, Epilogue, Fused, Instruction, Kernel, Loop, LoopTerm, Storage, flat

F = "float32"

# -- steps ----------------------------------------------------------------------------------------------------

M, N, K = 8, 6, 6


class Cell:
    """A loop over p = h @ w + x, h' = p[:, :n] * p[:, n:]; fields may be changed before ``merged`` is asked for.

    Storages: 0 w, 1 its pack, 2 h, 3 p, 4 x, 5 for others.
    """

    def __init__(self, modulo=2, own=True):
        sizes = [K * 2 * N * 4, 99, modulo * M * N * 4, M * 2 * N * 4, M * 2 * N * 4, M * 2 * N * 4]
        kinds = ["param", "temp", "temp", "temp", "input", "temp"]
        self.storages = [
            Storage(i, size, kind, kind, NOWHERE, 0, 9) for i, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
        ]
        right, self.packed = Array(0, F, (K, 2 * N), (2 * N, 1)), Array(1, "uint8", (99,), (1,))
        self.pack = Kernel("pack", {"width": 5}, (right,), (self.packed,), None, NOWHERE, 0, "forward")
        self.old, self.new = (Array(2, F, (M, N), (N, 1), 0, (LoopTerm(0, M * N, i, modulo),)) for i in (0, 1))
        self.p = Array(3, F, (M, 2 * N), (2 * N, 1))
        self.x = Array(4, F, (M, 2 * N), (0, 1))
        add = Instruction("add", {}, (("in", 1), ("in", 0)), ("out", 0))
        epilogue = Epilogue((add,), (), 2, (1,), (M, 2 * N), F, "add", NOWHERE) if own else None
        inputs = (self.old, self.packed, *([self.x] if own else []))
        attrs = {"width": 5}
        self.product = Kernel("matmul_packed", attrs, inputs, (self.p,), None, NOWHERE, 1, "forward", epilogue)
        self.halves = [replace(self.p, shape=(M, N), offset=i * N) for i in (0, 1)]
        # the second half comes first
        multiply = Instruction("mul", {}, (("in", 1), ("in", 0)), ("out", 0))
        ins = (self.halves[1], self.halves[0])
        self.gates = Fused((multiply,), ins, (self.new,), (), None, NOWHERE, 2, "forward")
        self.kept, self.between, self.after, self.asked = set(), (), (), []

    def packing(self, out, left, right, groups):
        self.asked.append((out, left, right, groups))
        return 10, 640

    def merged(self):
        body = (self.product, *self.between, self.gates, *self.after)
        steps = [self.pack, Loop(0, 9, body, NOWHERE, 1, "forward")]
        return merge_gates(steps, self.storages, self.packing, self.kept)

    @property
    def refused(self):
        pack, loop = self.merged()
        return pack == self.pack and self.product in loop.body and self.gates in loop.body


def test_a_product_takes_the_program_that_reads_its_halves():
    """The product's own program is done for each half, with that half of its operands."""
    cell = Cell()
    pack, loop = cell.merged()
    (step,) = loop.body
    assert cell.asked == [(cell.p, cell.old, cell.pack.inputs[0], 2)]
    assert pack.attrs == step.attrs == {"width": 10, "groups": 2}
    assert pack.outputs == (step.inputs[1],) == (replace(cell.packed, shape=(640,)),)
    assert cell.storages[1].nbytes == 640
    biases = [replace(cell.x, shape=(M, N), offset=i * N) for i in (0, 1)]
    assert (step.inputs, step.outputs) == ((cell.old, step.inputs[1], *biases), (cell.new,))
    assert step.epilogue.products == (1, 0)
    assert step.epilogue.program == (
        Instruction("add", {}, (("in", 1), ("in", 2)), ("tmp", 0)),
        Instruction("add", {}, (("in", 0), ("in", 3)), ("tmp", 1)),
        Instruction("mul", {}, (("tmp", 0), ("tmp", 1)), ("out", 0)),
    )
    assert step.epilogue.temps == (F, F)


def test_a_bare_product_takes_the_program_as_it_is():
    cell = Cell(own=False)
    step = cell.merged()[1].body[0]
    assert step.epilogue.program == cell.gates.program
    assert step.epilogue.products == (1, 0)
    assert step.inputs[2:] == ()


def test_a_step_between_that_touches_neither_stays():
    cell = Cell()
    other = Array(5, F, (M, N), (N, 1))
    cell.between = (Kernel("neg", {}, (other,), (other,), None, NOWHERE, 2, "forward"),)
    assert [s.op for s in cell.merged()[1].body] == ["matmul_packed", "neg"]


def test_gates_stay_apart_where_the_product_still_reads_what_they_write():
    """A carry in one slot, or in two that a program writes the wrong one of; h' over what the product adds."""
    assert Cell(modulo=1).refused
    cell = Cell()
    cell.gates = replace(cell.gates, outputs=(cell.old,))
    assert cell.refused
    cell = Cell()
    cell.gates = replace(cell.gates, outputs=(replace(cell.x, shape=(M, N), strides=(N, 1)),))
    assert cell.refused


def test_a_result_that_something_else_reads_is_stored():
    """A result of the plan, and one that a step before or behind the gates, or the gates themselves, read otherwise."""
    cell = Cell()
    cell.kept = {3}
    assert cell.refused
    for place in ("between", "after"):
        cell = Cell()
        setattr(
            cell, place, (Kernel("neg", {}, (cell.p,), (replace(cell.p, storage=5),), None, NOWHERE, 2, "forward"),)
        )
        assert cell.refused
    cell = Cell()
    cell.gates = replace(cell.gates, inputs=(*cell.gates.inputs, replace(cell.halves[0], strides=(2 * N, 0))))
    assert cell.refused


@pytest.mark.parametrize(
    "halves",
    [
        [(0, N), (N - 1, N)],  # they overlap
        [(0, N)],
        [(0, N), (0, N)],
        [(0, N // 2), (N // 2, N // 2), (N, N // 2)],  # a part is left
    ],
    ids=str,
)
def test_parts_that_do_not_make_up_the_result_are_refused(halves):
    cell = Cell()
    parts = [replace(cell.p, shape=(M, size), offset=start) for start, size in halves]
    out = replace(cell.new, shape=parts[0].shape)
    cell.gates = replace(cell.gates, inputs=tuple(parts), outputs=(out,))
    assert cell.refused


def test_a_pack_that_another_product_reads_stays_as_it_is():
    cell = Cell()
    other = Array(5, F, (M, N), (N, 1))
    cell.between = (Kernel("matmul_packed", {"width": 5}, (other, cell.packed), (other,), None, NOWHERE, 1, "forward"),)
    assert cell.refused


def test_columns_that_the_kernel_cannot_tile_in_groups_are_refused():
    cell = Cell()
    cell.packing = lambda out, left, right, groups: (0, 0)
    assert cell.refused


def test_a_step_between_that_writes_what_the_gates_read_keeps_them_apart():
    cell = Cell()
    half = cell.halves[0]
    cell.between = (Kernel("neg", {}, (replace(half, storage=4),), (half,), None, NOWHERE, 2, "forward"),)
    assert cell.refused


# -- cells ----------------------------------------------------------------------------------------------------


@gn.model
def lstm(x):
    return gn.layers.dense(gn.layers.lstm(x, 31), 3)


@gn.model
def backward_gru(x):
    return gn.layers.dense(gn.layers.gru(x, 30, reverse=True), 3)


@gn.model
def highway(x):
    """A cell by hand, two gates of a product of its own."""
    w = gn.param("w", (17, 34), init=gn.init.normal(0.3))

    def cell(h, row):
        a, b = gn.split(gn.matmul(h, w), 2, axis=-1)
        h = h + gn.sigmoid(a) * (gn.tanh(b + row) - h)
        return h, h

    _, hs = gn.scan(cell, gn.zeros((x.shape[0], 17)), gn.transpose(gn.layers.dense(x, 17), (1, 0, 2)))
    return gn.layers.dense(gn.transpose(hs, (1, 0, 2)), 3)


CELLS = [(lstm, 4), (backward_gru, 3), (highway, 2)]


def trained(model, backend=None):
    """A net, its losses over three steps and what it then predicts for as many rows."""
    chosen = np.random.default_rng(0)
    x, y = chosen.normal(size=(11, 5, 4)).astype(F), chosen.normal(size=(11, 5, 3)).astype(F)
    net = gn.compile(model, gn.spec(x.shape), loss=gn.losses.mse, optimizer=gn.optim.SGD(lr=0.5), backend="numpy")
    if backend is not None:
        net = gn.net.Net(net.program, net.input_types, net.target_type, net.optimizer, backend, 0)
    return net, np.array([net.step(x, y) for _ in range(3)]), net(x)


def groups(net):
    return [
        s.attrs["groups"] for s in flat(net.plan.steps) if isinstance(s, Kernel) and s.epilogue and "groups" in s.attrs
    ]


@pytest.mark.parametrize(("model", "gates"), CELLS, ids=lambda v: getattr(v, "__name__", v))
def test_cells_with_gates_in_tiles_compute_what_numpy_computes(model, gates, c_backend):
    """Losses, and predictions after three updates; bit for bit the same with one, two and three threads."""
    _, losses, predicted = trained(model)
    found = []
    for threads in (1, 2, 3):
        net, *values = trained(model, c_backend(threads))
        assert groups(net) == [gates]
        np.testing.assert_allclose(values[0], losses, rtol=1e-5)
        np.testing.assert_allclose(values[1], predicted, rtol=1e-4, atol=1e-5)
        found.append([v.tobytes() for v in values])
    assert found[0] == found[1] == found[2]


def test_the_listing_tells_the_parts_of_a_product_apart(c_backend):
    text = str(trained(highway, c_backend())[0].schedule)
    assert "sigmoid(matmul_packed[0])" in text
    assert "tanh(matmul_packed[1] + " in text
