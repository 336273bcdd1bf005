"""Generated Philox numbers in CUDA are those of the NumPy kernels, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.cuda.random import random_uniform
from graphnet.kernels.cuda.random import stream_key as cuda_stream_key
from graphnet.kernels.numpy import random as reference
from graphnet.kernels.numpy import run

KEYS = [
    (0, 0, 0, None),
    (12345, 7, 3, np.array(2, "int32")),
    (2**64 - 1, 2**63 + 5, 2**33 + 1, None),
    (1, 2, 0, np.array(-1, "int64")),
    (1, 2, 5, np.array(200, "uint8")),
]


def expected(shape, dtype, ins, stream):
    out = np.empty(shape, dtype)
    scratch = np.empty(reference.random_scratch((), {"shape": shape}), np.uint8)
    run(reference.random_uniform(out, *ins, stream=stream, scratch=scratch))
    return out


def operands(seed, step, t):
    return [np.array(seed, "uint64"), np.array(step, "uint64"), *([] if t is None else [t])]


def check(run_cases, cases):
    """(result, inputs, stream) of each case, all in one text."""
    run_cases([run_cases.Case(random_uniform, [out], ins, {"stream": stream}) for out, ins, stream in cases])
    for out, ins, stream in cases:
        np.testing.assert_array_equal(out, expected(out.shape, out.dtype.name, ins, stream))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_are_those_of_numpy(run_cases, dtype):
    """Every seed, stream, step and loop index; a shape that ends inside a counter."""
    check(run_cases, [(np.full((7, 97), 77, dtype), operands(a, b, t), stream) for a, stream, b, t in KEYS])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes(run_cases, dtype):
    """Units join without a seam."""
    shapes = [(), (1,), (3,), (513,), (4099,), (9, 64), (40, 33, 4), (2, 3000), (1, 16, 64), (5, 1), (0, 3)]
    check(run_cases, [(np.full(shape, 77, dtype), operands(3, 4, None), 9) for shape in shapes])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_may_lie_anywhere(run_cases, dtype):
    """Transposed, reversed and with gaps: the same numbers at the same indices."""
    cases = []
    for shape in ((40, 128), (3, 700), (6, 5, 33), (2, 1, 2)):
        gaps = np.full([2 * n for n in shape], 77, dtype)
        views = gaps[tuple(slice(None, None, -2) for _ in shape)], np.full(shape[::-1], 77, dtype).T
        cases += [(view, operands(3, 4, None), 1) for view in views]
    check(run_cases, cases)
    for view, _, _ in cases[::2]:
        assert (view.base == 77).sum() == view.base.size - view.size


@pytest.mark.parametrize("shape", [(40, 128), (1, 30), (5, 1, 210), ()])
def test_an_epilogue_takes_the_numbers(run_cuda, shape):
    """A mask is made without storing what it is made of."""
    ins = operands(8, 1, None)
    out = np.full(shape, 77, "float32")

    def epilogue(index, value):
        where = " + ".join(f"({i}) * {int(np.prod(shape[a + 1 :]))}" for a, i in enumerate(index)) or "0"
        return f"out0[{where}] = {value} < 0.5f ? 2 : 0;"

    run_cuda(random_uniform, [out], ins, {"stream": 1, "shape": shape, "dtype": "float32"}, epilogue=epilogue)
    np.testing.assert_array_equal(out, 2.0 * (expected(shape, "float32", ins, 1) < 0.5))


def test_streams_are_mixed_alike():
    """The key of a stream does not depend on the backend."""
    for stream in (0, 1, 2**63 + 5):
        assert cuda_stream_key(stream) == reference.stream_key(stream)
