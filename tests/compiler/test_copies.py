"""Copies that the step before writes: which ones, and that values and lifetimes are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import graphnet as gn
from graphnet.compiler.copies import merge_copies
from graphnet.compiler.ir import NOWHERE
from graphnet.compiler.schedule import Array, Fused, Instruction, Kernel, Loop, Storage, flat

F = "float32"
SIZE = 24


def array(storage, **fields):
    return Array(storage, F, (4, 6), (6, 1), **fields)


def copy(source, target, position=1, phase="forward"):
    return Kernel("copy", {}, (source,), (target,), None, NOWHERE, position, phase)


class Steps:
    """fused y = -t, t = x * x, and a copy of y; storages: 0 x, 1 y, 2 the copy, 3 and 4 for others."""

    def __init__(self):
        self.storages = [Storage(i, SIZE * 4, "temp", "", NOWHERE, i, 9) for i in range(5)]
        square = Instruction("mul", {}, (("in", 0), ("in", 0)), ("tmp", 0))
        negative = Instruction("neg", {}, (("tmp", 0),), ("out", 0))
        other = Instruction("mul", {}, (("in", 0), ("out", 0)), ("tmp", 0))
        more = Instruction("neg", {}, (("tmp", 0),), ("out", 1))
        program, outputs = (square, negative, other, more), (array(1), array(3))
        self.fused = Fused(program, (array(0),), outputs, (F,), None, NOWHERE, 0, "forward")
        self.copy, self.between, self.apart = copy(array(1), array(2)), (), False

    def merged(self):
        return merge_copies([self.fused, *self.between, self.copy], self.storages, self.apart)

    @property
    def refused(self):
        return self.merged() == [self.fused, *self.between, self.copy]


def test_the_step_writes_the_copy_right_behind_its_result():
    """Its operands may be written over further on in the program."""
    steps = Steps()
    (found,) = steps.merged()
    again = replace(steps.fused.program[1], result=("out", 2))
    assert found.program == (*steps.fused.program[:2], again, *steps.fused.program[2:])
    assert found.outputs == (array(1), array(3), array(2))
    assert steps.storages[2].first == 0


def test_a_single_op_becomes_a_program_of_two_results():
    steps = Steps()
    steps.fused = Kernel("neg", {}, (array(0),), (array(1),), None, NOWHERE, 0, "forward")
    (found,) = steps.merged()
    assert [i.result for i in found.program] == [("out", 0), ("out", 1)]
    assert found.outputs == (array(1), array(2))


def test_copies_in_loops_and_of_several_results_are_merged():
    steps = Steps()
    body = (steps.fused, steps.copy, copy(array(3), array(4), 2))
    (loop,) = merge_copies([Loop(0, 5, body, NOWHERE, 0, "forward")], steps.storages, False)
    assert [s.op for s in loop.body] == ["fused"]
    assert loop.body[0].outputs == (array(1), array(3), array(2), array(4))


def another_phase(steps):
    steps.apart, steps.copy = True, replace(steps.copy, phase="backward")


def a_part(steps):
    steps.copy = copy(replace(array(1), shape=(2, 6)), replace(array(2), shape=(2, 6)))


def turned(steps):
    steps.copy = copy(replace(array(1), strides=(1, 4)), array(2))


def over_an_operand(steps):
    steps.copy = copy(array(1), array(0))


def over_a_result(steps):
    steps.copy = copy(array(1), array(3))


def read_between(steps):
    steps.between = (copy(array(2), array(4)),)


def written_between(steps):
    steps.between = (copy(array(0), array(2)),)


def result_written_again(steps):
    steps.between = (Kernel("sum", {}, (array(0),), (array(1),), None, NOWHERE, 1, "forward"),)


@pytest.mark.parametrize(
    "change",
    [
        another_phase,
        a_part,
        turned,
        over_an_operand,
        over_a_result,
        read_between,
        written_between,
        result_written_again,
    ],
    ids=lambda f: f.__name__,
)
def test_other_copies_stay(change):
    steps = Steps()
    change(steps)
    assert steps.refused


@gn.model
def twice(x):
    """A value in two concatenations."""
    w = gn.param("w", (6,), init=gn.init.normal(1.0))
    y = gn.tanh(x * w)
    return gn.concat([gn.concat([y, x], axis=1) * 2.0, gn.concat([x, y], axis=1)], axis=1)


@pytest.mark.parametrize("where", [{"backend": "c"}, {"device": "cuda", "backend": "emulated"}], ids=str)
def test_values_are_those_of_numpy(where):
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(F)
    expected = gn.compile(twice, gn.spec(x.shape), backend="numpy")(x)
    net = gn.compile(twice, gn.spec(x.shape), **where)
    np.testing.assert_allclose(np.asarray(net(x)), expected, rtol=1e-6)
    copies = [s for s in flat(net.plan.steps) if isinstance(s, Kernel) and s.op == "copy"]
    assert len(copies) == len([s for s in copies if s.inputs[0].storage == net.plan.leaves["x"].storage])
