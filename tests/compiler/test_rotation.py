"""Loops turned: which ones, what becomes of steps, positions and memory, and that nothing is computed otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_numpy import NumpyBackend
from graphnet.compiler import lower
from graphnet.compiler.ir import NOWHERE
from graphnet.compiler.rotation import rotate_loops
from graphnet.compiler.schedule import END, Array, Branch, Fused, Instruction, Kernel, Loop, LoopTerm, Storage, flat
from graphnet.compiler.target import NUMPY

F = "float32"

# -- steps ----------------------------------------------------------------------------------------------------

M, N, L = 8, 6, 9


class Cell:
    """fill dh; loop: g = dh * x, dh' = g @ w; then a sum over what dh ends as; fields may be changed before ``run``.

    Storages: 0 w, 1 x (an entry an iteration), 2 dh in two slots, 3 g (an entry an iteration), 4 the sum, 5 for others.
    """

    def __init__(self, modulo=2):
        sizes = [N * N * 4, L * M * N * 4, modulo * M * N * 4, L * M * N * 4, 4, M * N * 4]
        kinds = ["param", "input", "temp", "temp", "temp", "temp"]
        spans = [(0, 3), (0, 3), (0, 3), (1, 2), (3, 3), (1, 2)]
        self.storages = [
            Storage(i, *of, kinds[i], NOWHERE, *spans[i], level=0)
            for i, of in enumerate(zip(sizes, kinds, strict=True))
        ]
        w = Array(0, F, (N, N), (N, 1))
        self.x, self.g = (Array(i, F, (M, N), (N, 1), 0, (LoopTerm(0, M * N, 0, L),)) for i in (1, 3))
        self.old, self.new = (Array(2, F, (M, N), (N, 1), 0, (LoopTerm(0, M * N, i, modulo),)) for i in (0, 1))
        self.other = Array(5, F, (M, N), (N, 1))
        multiply = Instruction("mul", {}, (("in", 0), ("in", 1)), ("out", 0))
        self.begin = Fused((multiply,), (self.old, self.x), (self.g,), (), None, NOWHERE, 1, "backward")
        self.product = Kernel("matmul", {}, (self.g, w), (self.new,), None, NOWHERE, 2, "backward")
        first = replace(self.old, terms=())
        self.fill = Kernel("fill", {"value": 0}, (), (first,), None, NOWHERE, 0, "backward")
        end = replace(first, offset=L % 2 * M * N)
        self.sum = Kernel("sum", {}, (end,), (Array(4, F, (), ()),), None, NOWHERE, 3, "backward")
        self.length, self.after, self.kept, self.library = L, (self.sum,), set(), lambda step: False
        self.body = None

    def run(self):
        body = self.body or (self.begin, self.product)
        steps = [self.fill, Loop(0, self.length, body, NOWHERE, 1, "backward"), *self.after]
        self.found = rotate_loops(steps, self.storages, self.kept, self.library)
        return self.found

    @property
    def refused(self):
        before = [replace(s) for s in self.storages]
        body = self.body or (self.begin, self.product)
        steps = self.run()
        return steps[1].body == body and steps[1].length == self.length and self.storages == before


def at(array, k):
    return replace(array, offset=array.offset + sum(t.at(k) for t in array.terms), terms=())


def test_the_first_steps_go_in_front_and_behind_the_product_of_the_iteration_before():
    cell = Cell()
    _, begin, loop, end, last = cell.run()
    product, following = loop.body
    own = product.outputs[0]
    assert (begin.inputs, begin.outputs) == ((at(cell.old, 0), at(cell.x, 0)), (at(cell.g, 0),))
    assert loop.length == L - 1
    assert product.inputs == cell.product.inputs
    later = [replace(a, terms=(replace(a.terms[0], shift=1),)) for a in (cell.x, cell.g)]
    assert (following.inputs, following.outputs) == ((own, later[0]), (later[1],))
    assert own == Array(6, F, (M, N), (N, 1))
    assert (end.inputs, end.outputs) == ((at(cell.g, L - 1), cell.product.inputs[1]), (at(cell.new, L - 1),))
    assert end.outputs == last.inputs


def test_positions_follow_the_order_of_steps_and_lifetimes_cover_every_use():
    cell = Cell()
    steps = cell.run()
    positions = [s.position for s in flat(tuple(steps)) if not isinstance(s, Loop)]
    assert positions == list(range(len(positions)))
    assert steps[2].position == steps[2].body[0].position
    for step in flat(tuple(steps)):
        if not isinstance(step, Loop):
            for array in (*step.inputs, *step.outputs):
                s = cell.storages[array.storage]
                assert s.first <= step.position <= s.last
    # what one iteration leaves to the next is alive throughout
    assert [(cell.storages[i].first, cell.storages[i].last) for i in (3, 5, 6)] == [(1, 4)] * 3


def test_the_last_product_is_left_out_if_nobody_reads_it():
    cell = Cell()
    cell.after = ()
    assert [s.op for s in cell.run()] == ["fill", "fused", "scan"]
    cell = Cell()
    cell.after, cell.kept = (), {2}
    assert [s.op for s in cell.run()] == ["fill", "fused", "scan", "matmul"]


def test_steps_behind_the_first_stay_where_they_are_and_are_done_for_the_last_iteration_too():
    cell = Cell()
    cell.body = (cell.begin, Kernel("neg", {}, (cell.g,), (cell.other,), None, NOWHERE, 2, "backward"), cell.product)
    cell.body = (*cell.body[:2], replace(cell.product, position=3))
    cell.after = ()
    _, _, loop, last = cell.run()
    assert [s.op for s in loop.body] == ["neg", "matmul", "fused"]
    assert (last.op, last.inputs) == ("neg", (at(cell.g, L - 1),))


def test_a_loop_inside_a_loop_is_turned_and_what_comes_behind_moves_on():
    cell = Cell()
    inner = Loop(0, L, (cell.begin, cell.product), NOWHERE, 1, "backward")
    late = Kernel("neg", {}, (cell.other,), (cell.other,), None, NOWHERE, 4, "backward")
    branch = Branch(Array(5, "bool", (), ()), (late,), (), NOWHERE, 3, "backward")
    outer = Loop(1, 2, (cell.fill, inner, cell.sum), NOWHERE, 0, "backward")
    cell.storages[5].first = cell.storages[5].last = 4
    cell.storages[0].last = END
    steps = rotate_loops([outer, replace(branch, position=4)], cell.storages, set(), cell.library)
    assert [s.op for s in steps[0].body] == ["fill", "fused", "scan", "matmul", "sum"]
    assert (steps[0].length, steps[0].body[2].length) == (2, L - 1)
    assert (steps[1].position, steps[1].then[0].position) == (6, 6)
    assert (cell.storages[5].first, cell.storages[5].last, cell.storages[0].last) == (6, 6, END)


def changed(name, **fields):
    return lambda cell: setattr(cell, name, replace(getattr(cell, name), **fields))


def reading_twice(cell):
    cell.body = (replace(cell.begin, inputs=(cell.old, cell.old)), cell.product)


def read_by_another(cell):
    other = Kernel("neg", {}, (cell.old,), (cell.other,), None, NOWHERE, 2, "backward")
    cell.body = (cell.begin, other, cell.product)


def written_by_another(cell):
    other = Kernel("neg", {}, (cell.x,), (cell.new,), None, NOWHERE, 2, "backward")
    cell.body = (cell.begin, other, cell.product)


def product_first(cell):
    cell.body = (cell.product, cell.begin)


def something_else_first(cell):
    other = Kernel("sum", {}, (cell.x,), (Array(4, F, (), ()),), None, NOWHERE, 1, "backward")
    cell.body = (other, cell.begin, cell.product)


def a_loop_within(cell):
    cell.body = (cell.begin, Loop(1, 2, (), NOWHERE, 1, "backward"), cell.product)


def a_carry_that_is_a_home(cell):
    cell.storages[2].kind = "state"


def with_sum(cell, late=()):
    """dh' = p + d, where d is written at the beginning; the product leaves p."""
    d = Array(5, F, (M, N), (N, 1))
    p = Array(6, F, (M, N), (N, 1))
    cell.storages.append(Storage(6, M * N * 4, "temp", "p", NOWHERE, 2, 3, level=1))
    cell.storages[5].level = 1
    multiply = cell.begin.program[0]
    program = (multiply, Instruction("neg", {}, (("in", 0),), ("out", 1)))
    begin = replace(cell.begin, program=program, outputs=(cell.g, d))
    add = Kernel("add", {}, (p, d), (cell.new,), None, NOWHERE, 3, "backward")
    cell.body = (begin, replace(cell.product, outputs=(p,)), add, *late)
    cell.after = ()
    return d, p, add


def test_what_adds_to_the_product_and_what_begins_become_one_step():
    """In place, where what is added is what the beginning writes for the iteration after; nothing is left to end."""
    cell = Cell()
    d, p, _ = with_sum(cell)
    _, begin, loop = cell.run()
    product, joined = loop.body
    assert begin.outputs == (at(cell.g, 0), d)
    assert (product.op, product.outputs) == ("matmul", (p,))
    moved = [replace(a, terms=(replace(a.terms[0], shift=1),)) for a in (cell.x, cell.g)]
    assert (joined.inputs, joined.outputs) == ((p, d, moved[0]), (moved[1], d))
    assert joined.program == (
        Instruction("add", {}, (("in", 0), ("in", 1)), ("tmp", 0)),
        Instruction("mul", {}, (("tmp", 0), ("in", 2)), ("out", 0)),
        Instruction("neg", {}, (("tmp", 0),), ("out", 1)),
    )
    assert joined.temps == (F,)


def test_the_end_of_the_last_iteration_has_memory_of_its_own():
    """So that each value has one writer and its readers can be counted; what the beginning touches is shared."""
    cell = Cell()
    _, p, add = with_sum(cell)
    cell.kept = {2}
    *_, product, last = cell.run()
    assert (product.op, last.op, last.outputs) == ("matmul", "add", (at(cell.new, L - 1),))
    (own,) = product.outputs
    assert own.storage not in (p.storage, *(a.storage for s in cell.found[2].body for a in s.outputs))
    assert last.inputs == (own, add.inputs[1])
    assert cell.storages[own.storage].nbytes == M * N * 4


def test_a_sum_that_something_behind_it_would_see_differently_stays():
    cell = Cell()
    d, *_ = with_sum(cell)
    cell.body = (*cell.body, Kernel("neg", {}, (cell.x,), (d,), None, NOWHERE, 4, "backward"))
    assert cell.refused
    cell = Cell()
    _, p, add = with_sum(cell)
    # the beginning reads the sum after it has written over what is added
    begin = replace(cell.body[0], program=tuple(reversed(cell.body[0].program)))
    cell.body = (begin, cell.body[1], replace(add, inputs=(p, replace(add.inputs[1], strides=(1, M)))))
    assert cell.refused


REFUSED = {
    "few iterations": lambda cell: setattr(cell, "length", 2),
    "a product of the library": lambda cell: setattr(cell, "library", lambda step: True),
    "another op": changed("product", op="conv2d"),
    "a part of the result is read": lambda cell: changed("begin", inputs=(replace(cell.old, strides=(0, 1)), cell.x))(
        cell
    ),
    "the new value is read": lambda cell: changed("begin", inputs=(cell.new, cell.x))(cell),
    "columns down": lambda cell: changed("product", outputs=(replace(cell.new, strides=(1, M)),))(cell),
}
OTHERS = (
    reading_twice,
    read_by_another,
    written_by_another,
    product_first,
    something_else_first,
    a_loop_within,
    a_carry_that_is_a_home,
)
REFUSED |= {f.__name__.replace("_", " "): f for f in OTHERS}


@pytest.mark.parametrize("why", REFUSED)
def test_other_loops_stay_as_they_are(why):
    cell = Cell()
    REFUSED[why](cell)
    assert cell.refused


def test_a_carry_that_is_kept_for_every_iteration_stays():
    assert Cell(modulo=L + 1).refused


# -- cells ----------------------------------------------------------------------------------------------------


@gn.model
def lstm(x):
    return gn.layers.dense(gn.layers.lstm(x, 5), 3)


@gn.model
def backward_rnn(x):
    return gn.layers.dense(gn.layers.rnn(x, 5, reverse=True), 3)


@gn.model
def learned_start(x):
    """The gradient of what the loop starts with is the carry's last value."""
    start = gn.broadcast_to(gn.param("start", (1, 5), init=gn.init.normal(0.5)), (x.shape[0], 5))
    return gn.layers.dense(gn.layers.lstm(x, 5, initial=(start, gn.tanh(start))), 3)


@gn.model
def two_layers(x):
    """Two recurrent layers in one loop."""
    first, second = (gn.param(f"w{i}", (5, 5), init=gn.init.normal(0.5)) for i in (0, 1))
    between = gn.param("between", (5, 5), init=gn.init.normal(0.5))

    def cell(carry, row):
        a, c = carry
        a = gn.tanh(row + gn.matmul(a, first))
        c = gn.tanh(gn.matmul(a, between) + gn.matmul(c, second))
        return (a, c), c

    start = gn.zeros((x.shape[0], 5))
    _, hs = gn.scan(cell, (start, start), gn.transpose(gn.layers.dense(x, 5), (1, 0, 2)))
    return gn.layers.dense(gn.transpose(hs, (1, 0, 2)), 3)


@gn.model
def gru(x):
    """The gradient of the state is a product and a term besides."""
    return gn.layers.dense(gn.layers.gru(x, 5), 3)


TURNED = {lstm: 1, backward_rnn: 1, learned_start: 1, two_layers: 1}


def trained(model, backend):
    chosen = np.random.default_rng(0)
    x, y = chosen.normal(size=(4, 7, 3)).astype(F), chosen.normal(size=(4, 7, 3)).astype(F)
    net = gn.compile(model, gn.spec(x.shape), loss=gn.losses.mse, optimizer=gn.optim.SGD(lr=0.5), backend="numpy")
    net = gn.net.Net(net.program, net.input_types, net.target_type, net.optimizer, backend, 0)
    return net, np.array([float(net.step(x, y)) for _ in range(3)]), np.asarray(net(x))


class Turning(NumpyBackend):
    """NumPy, for plans whose loops are turned and whose steps are left as they are otherwise."""

    def __init__(self):
        super().__init__()
        self.target = replace(NUMPY, compiled=True, waits=True)


@pytest.mark.parametrize("model", TURNED, ids=lambda m: m.__name__)
def test_a_turned_loop_computes_the_same_bits(model, monkeypatch):
    """Losses and predictions after three updates, with memory shared by lifetimes."""
    monkeypatch.setattr(lower, "merge_many", lambda steps, storages: list(steps))
    plain, *expected = trained(model, NumpyBackend())
    turned, *found = trained(model, Turning())
    lengths = [[s.length for s in flat(net.plan.steps) if isinstance(s, Loop)] for net in (plain, turned)]
    assert set(lengths[0]) == {7}
    assert lengths[1].count(6) == TURNED[model]
    for a, b in zip(expected, found, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("model", [*TURNED, gru], ids=lambda m: m.__name__)
def test_in_cuda_an_iteration_of_a_turned_loop_is_one_step(model, emulated):
    """The product's tiles do the elementwise work; the same losses as on NumPy, whatever the order of threads."""
    _, losses, predicted = trained(model, NumpyBackend())
    seen = []
    for order in ("forward", "reverse"):
        net, *found = trained(model, emulated(None, order))
        bodies = [s.body for s in flat(net.plan.steps) if isinstance(s, Loop) and s.length == 6]
        assert len(bodies) == TURNED.get(model, 1)
        if model is not two_layers:
            # a GRU's loop sums up the gradient of a bias besides
            assert [s.op.partition("_")[0] for body in bodies for s in body] == ["sum"] * (model is gru) + ["matmul"]
            assert bodies[0][-1].epilogue is not None
        np.testing.assert_allclose(found[0], losses, rtol=1e-5)
        np.testing.assert_allclose(found[1], predicted, rtol=1e-4, atol=1e-5)
        seen.append([v.tobytes() for v in found])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("model", [lstm, gru, backward_rnn], ids=lambda m: m.__name__)
def test_blocks_meet_once_an_iteration_of_a_turned_loop(emulated, model):
    net, *_ = trained(model, emulated())
    kernels = [text for text in net.source().split("__global__")[1:] if "< 6; ++k" in text]
    assert [text.count("gn_meet(") for text in kernels] == [1]
