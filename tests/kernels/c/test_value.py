"""A program's result as an expression: what the program says at every index, and sums of it as of the stored values."""

from __future__ import annotations

import re

import numpy as np
import pytest

from graphnet.compiler.ops import REGISTRY
from graphnet.kernels.c.phase import Phase
from graphnet.kernels.c.reduction import reduce_of, reduce_scratch
from graphnet.kernels.text.program import Instr, value_of
from graphnet.kernels.text.view import View

SHAPE = (6, 20, 30)


def do(op, operands, result="out0", dtype="float32"):
    """An instruction: ``do("sub", "in0 tmp1", "tmp0")``."""
    record = REGISTRY[op]
    refs = [(re.match(r"[a-z]+", text).group(), int(text[-1])) for text in (*operands.split(), result)]
    return Instr(record.expr, record.inputs, tuple(refs[:-1]), refs[-1], dtype)


def value(shape, ins, program):
    return value_of("k_value", View("value", program[-1].dtype, shape, (0,) * len(shape)), ins, program)


def stored(program):
    """Writes the value at each index, with indices that are no plain variables."""

    def write(outs, ins, attrs, job):
        found = value(outs[0].shape, ins, program)
        heads = "".join(f"for (long i{a} = 1; i{a} <= {n}; i{a}++) " for a, n in enumerate(outs[0].shape))
        index = [f"i{a} - 1" for a in range(len(outs[0].shape))]
        return [Phase(f"{heads}{outs[0].at(*index)} = {found.element(index)};", helpers=found.helpers)]

    return write


PROGRAMS = {
    "each value used once": (
        [do("mul", "in0 in1", "tmp0"), do("sub", "tmp0 in2", "tmp0"), do("abs", "tmp0")],
        lambda x, y, z: abs(x * y - z),
    ),
    "values used several times": (
        [do("sub", "in0 in1", "tmp0"), do("mul", "tmp0 tmp0", "tmp1"), do("add", "tmp1 tmp0")],
        lambda x, y, z: (x - y) * (x - y) + (x - y),
    ),
    "places written twice": (
        [do("mul", "in0 in2"), do("neg", "out0", "tmp0"), do("abs", "tmp0", "tmp0"), do("add", "tmp0 out0")],
        lambda x, y, z: abs(-(x * z)) + x * z,
    ),
    "conditions": (
        [do("gt", "in0 in1", "tmp0", "bool"), do("logical_not", "tmp0", "tmp1", "bool"), do("where", "tmp1 in1 in2")],
        lambda x, y, z: np.where(x <= y, y, z),
    ),
    "a truth value": (
        [
            do("gt", "in0 in1", "tmp0", "bool"),
            do("gt", "in1 in2", "tmp1", "bool"),
            do("logical_or", "tmp0 tmp1", dtype="bool"),
        ],
        lambda x, y, z: (x > y) | (y > z),
    ),
    "wider numbers": (
        [do("cast", "in0", "tmp0", "float64"), do("mul", "tmp0 tmp0", dtype="float64")],
        lambda x, y, z: x.astype("float64") * x + 0 * y,
    ),
    "whole numbers": (
        [do("mul", "in0 in1", "tmp0"), do("cast", "tmp0", dtype="int32")],
        lambda x, y, z: (x * y).astype("int32"),
    ),
    "one operand of three": ([do("square", "in1")], lambda x, y, z: np.broadcast_to(y * y, SHAPE)),
    "an operand as it is": ([do("identity", "in1")], lambda x, y, z: np.broadcast_to(y, SHAPE)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_value_at_every_index(run_c, rng, name):
    """Dense, transposed, reversed, spaced and broadcast operands, bit for bit."""
    program, meaning = PROGRAMS[name]
    x, y, z = (3 * rng.standard_normal(s).astype("float32") for s in (SHAPE, (20, 1), SHAPE[::-1]))
    spaced = x.repeat(2, 2)[:, ::-1, ::-2]
    for ins in ([x, y, z.T], [spaced, y[3], np.asarray(np.float32(3))]):
        out = np.empty(SHAPE, program[-1].dtype)
        run_c(stored(program), [out], ins)
        np.testing.assert_array_equal(out, meaning(*ins))


def test_values_of_integers(run_c, rng):
    """They wrap around and meet truth values; x != x of an integer needs no operand at all."""
    x, y = (rng.integers(-(2**31), 2**31, (5, 7)).astype("int32") for _ in range(2))
    odd = rng.integers(0, 2, 7).astype(bool)
    for program, ins, want in (
        (
            [do("mul", "in0 in1", "tmp0", "int32"), do("where", "in2 tmp0 in1", dtype="int32")],
            [x, y, odd],
            np.where(odd, x * y, y),
        ),
        ([do("add", "in0 in0", "tmp0", "int32"), do("mul", "tmp0 tmp0", dtype="int32")], [x], (x + x) * (x + x)),
        ([do("ne", "in0 in0", dtype="bool")], [x], np.zeros((5, 7), bool)),
    ):
        out = np.empty((5, 7), program[-1].dtype)
        run_c(stored(program), [out], ins)
        np.testing.assert_array_equal(out, want)


def reduced(op, program, shape):
    def write(outs, ins, attrs, job):
        found = value(shape, ins, program)
        first, *rest = reduce_of(op, outs, ins, attrs, job, found.element, shape)
        return [Phase(first.body, first.units, first.axes, (*found.helpers, *first.helpers)), *rest]

    return write


@pytest.mark.parametrize("op", ["sum", "max", "min"])
@pytest.mark.parametrize("shape", [(40, 50), (700, 130), (3, 40, 700), (90_000,)])
def test_a_reduction_of_a_value(run_c, rng, op, shape):
    """Over any axes, in lanes, columns and parts, with operands that repeat along axes; equal for any threads."""
    program = [do("sub", "in0 in1", "tmp0"), do("mul", "tmp0 tmp0")]
    ins = [rng.standard_normal(shape).astype("float32"), rng.standard_normal(shape[-1:]).astype("float32")]
    want = np.square(ins[0] - ins[1]).astype("float64")
    for axes in {(0,), (len(shape) - 1,), tuple(range(len(shape)))}:
        found = []
        for threads in (1, 3):
            out = np.empty([n for a, n in enumerate(shape) if a not in axes], "float32")
            attrs = {"axes": axes, "keepdims": False}
            scratch = lambda o, i, a, t: reduce_scratch(o, i, a, t, shape)  # noqa: E731
            run_c(reduced(op, program, shape), [out], ins, attrs, threads, scratch)
            found.append(out)
        np.testing.assert_array_equal(*found)
        np.testing.assert_allclose(found[0], getattr(np, op)(want, axes), rtol=2e-6)
