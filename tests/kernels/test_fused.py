"""Fused groups: the same values as op by op, in blocks, whatever the shapes and layouts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from graphnet.kernels.numpy import elementwise as e
from graphnet.kernels.numpy import run
from graphnet.kernels.numpy.fused import BLOCK, fused, fused_scratch

X, Y, Z = ("in", 0), ("in", 1), ("in", 2)
OUT, SECOND = ("out", 0), ("out", 1)
T0, T1, T2 = ("tmp", 0), ("tmp", 1), ("tmp", 2)


def execute(outs, ins, program, temps):
    scratch = np.full(fused_scratch(outs[0].shape, temps) + 8, 255, np.uint8)[8:]
    calls = fused(outs, ins, program, temps, scratch)
    run(calls)
    return calls


SHAPES = [
    (),
    (1,),
    (0, 5),
    (3, 4, 5),
    (BLOCK,),
    (BLOCK + 1,),
    (3, 7, BLOCK // 8),
    (2, 2 * BLOCK + 3),
    (1, 50_000, 1),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_group_gives_what_its_ops_give(k, rng, shape, dtype):
    """out = tanh(x * s + y), mask = out > y: two temporaries, two results, a scalar."""
    x, y = (rng.standard_normal(shape).astype(dtype) for _ in "xy")
    s = np.array(0.5, dtype)
    program = [
        (e.mul, {}, [X, Z], T0),
        (e.add, {}, [T0, Y], T1),
        (e.tanh, {}, [T1], OUT),
        (e.gt, {}, [OUT, Y], SECOND),
    ]
    temps = [(dtype, shape), (dtype, shape)]
    expected = np.tanh(x * s + y)
    for view in (np.copy, k.strided):
        outs = [view(np.empty(shape, dtype)), view(np.empty(shape, bool))]
        execute(outs, [view(x), view(y), s], program, temps)
        np.testing.assert_allclose(outs[0], expected, rtol=1e-6 if dtype == "float32" else 1e-14)
        np.testing.assert_array_equal(outs[1], outs[0] > y)


BROADCASTS = [
    ((100, 20, 24, 24), (20, 1, 1)),
    ((100, 500), (500,)),
    ((100, 500), (100, 1)),
    ((4, 3, 5), (1, 3, 1)),
    ((2, BLOCK + 5), (1, BLOCK + 5)),
    ((70_000, 2), (1, 2)),
]


@pytest.mark.parametrize(("shape", "small"), BROADCASTS)
def test_operands_and_temporaries_broadcast(k, rng, shape, small):
    """exp of a small operand is a small temporary, used against the whole."""
    x, b = rng.random(shape), rng.random(small)
    program = [
        (e.exp, {}, [Y], T0),
        (e.neg, {}, [T0], T1),
        (e.add, {}, [X, T1], T2),
        (e.mul, {}, [T2, T0], OUT),
    ]
    temps = [("float64", small), ("float64", small), ("float64", shape)]
    for view in (np.copy, k.strided, lambda a: a.T.copy().T):
        out = view(np.empty(shape))
        execute([out], [view(x), view(b)], program, temps)
        np.testing.assert_allclose(out, (x - np.exp(b)) * np.exp(b), rtol=1e-13, atol=1e-13)


def test_a_temporary_that_never_varies_is_computed_once(rng):
    """The square root of a scalar stands before all blocks, not in each."""
    x, s = rng.random(4 * BLOCK), np.array(4.0)
    out = np.empty_like(x)
    calls = execute([out], [x, s], [(e.sqrt, {}, [Y], T0), (e.mul, {}, [X, T0], OUT)], [("float64", ())])
    np.testing.assert_array_equal(out, 2 * x)
    assert [function for function, _ in calls] == [np.sqrt] + [np.multiply] * 4


def test_memory_of_finished_temporaries_is_used_again(rng):
    """A chain of ten temporaries lives in the memory of two."""
    x, out = rng.random(BLOCK), np.empty(BLOCK)
    refs = [("tmp", i) for i in range(10)]
    program = [(e.neg, {}, [X], refs[0])]
    program += [(e.neg, {}, [a], b) for a, b in pairwise(refs)]
    program += [(e.add, {}, [refs[-1], X], OUT)]
    temps = [("float64", (BLOCK,))] * 10
    calls = execute([out], [x], program, temps)
    np.testing.assert_array_equal(out, 2 * x)
    assert len({a[-1].ctypes.data for _, a in calls[:-1]}) == 2


def test_temporaries_of_several_dtypes_share_memory_safely(rng):
    """bool, float32 and float64 temporaries in one chain."""
    x, out = rng.random(3 * BLOCK, "float32"), np.empty(3 * BLOCK, "float32")
    program = [
        (e.cast, {"dtype": "float64"}, [X], T0),
        (e.gt, {}, [T0, Y], T1),
        (e.cast, {"dtype": "float32"}, [T1], T2),
        (e.where, {}, [T1, T2, X], ("tmp", 3)),
        (e.sigmoid, {}, [("tmp", 3)], OUT),
    ]
    temps = [("float64", x.shape), ("bool", x.shape), ("float32", x.shape), ("float32", x.shape)]
    execute([out], [x, np.array(0.5)], program, temps)
    np.testing.assert_allclose(out, 1 / (1 + np.exp(-np.where(x > 0.5, 1, x))), rtol=1e-6)


def test_results_may_overwrite_operands(rng):
    """A momentum step in place: v = 0.9 v + g, p = p - 0.1 v."""
    p, v, g = (rng.random(2 * BLOCK + 9) for _ in "pvg")
    mu, lr = np.array(0.9), np.array(0.1)
    program = [
        (e.mul, {}, [("in", 1), ("in", 3)], T0),
        (e.add, {}, [T0, ("in", 2)], SECOND),
        (e.mul, {}, [SECOND, ("in", 4)], T1),
        (e.sub, {}, [("in", 0), T1], OUT),
    ]
    new_v = v * 0.9 + g
    new_p = p - new_v * 0.1
    execute([p, v], [p, v, g, mu, lr], program, [("float64", p.shape)] * 2)
    np.testing.assert_allclose(v, new_v)
    np.testing.assert_allclose(p, new_p)


def test_groups_allocate_nothing(k, rng):
    """Twenty-five blocks, two temporaries."""
    x, out = rng.random((800, 1000), "float32"), np.empty((800, 1000), "float32")
    program = [(e.exp, {}, [X], T0), (e.add, {}, [T0, X], T1), (e.sigmoid, {}, [T1], OUT)]
    temps = [("float32", x.shape)] * 2
    assert fused_scratch(x.shape, temps) < 1 << 19
    scratch = np.empty(fused_scratch(x.shape, temps), np.uint8)
    assert k.peak(fused([out], [x], program, temps, scratch)) < 4096
