"""The fixtures of the writers' tests run phases as a kernel does, and find what a phase must not do."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.c.toolchain import ToolchainError
from graphnet.kernels.cuda.phase import Phase
from graphnet.kernels.cuda.prelude import HEADER
from graphnet.kernels.text.view import View

EACH = "for (int i = threadIdx.x; i < 10; i += THREADS) "


def doubled(outs, ins, attrs, job):
    """A writer: rows of any layout."""
    (out,), (x,) = outs, ins
    body = f"{EACH}\n    {out.at('unit', 'i')} = {x.at('unit', 'i')} * {attrs['by']};"
    return [Phase(body, units=out.shape[0])]


def test_phases_run_one_after_another(run_phases):
    """All units of a phase are done before the next, with scratch between them, in place on the arrays."""
    x, y = np.arange(30, dtype=np.float32), np.zeros(30, np.float32)
    first = Phase(EACH + "((float *)scratch)[unit * 10 + i] = in0[unit * 10 + i];", units=3)
    last = Phase(EACH + "out0[unit * 10 + i] = ((float *)scratch)[29 - unit * 10 - i];", units=3)
    result = run_phases([first, last], [y], [x], 120)
    assert (y == x[::-1]).all()
    assert result.outs[0] is y
    assert result.note is None


def test_arrays_of_any_layout(run_cases):
    """Strided, reversed, broadcast, overlapping and named arrays of several cases in one text."""
    x, wide, row = np.random.default_rng(0).random((4, 10)), np.ones((4, 25)), np.arange(10.0)
    out = wide[::-1, 2:22:2]
    named = np.zeros((4, 10))
    cases = [
        run_cases.Case(doubled, [out], [x], {"by": 2}),
        run_cases.Case(doubled, [np.zeros((3, 10))], [np.broadcast_to(row, (3, 10))], {"by": 3}),
        run_cases.Case(doubled, [x[2:]], [x[2:]], {"by": 4}),
        run_cases.Case(doubled, [(View("result", "float64", (4, 10), (10, 1)), named)], [x], {"by": 1}),
        run_cases.Case([Phase("", 0)], [np.zeros((0, 3))]),
    ]
    before = x.copy()
    results = run_cases(cases)
    assert (out == 2 * before).all()
    assert (wide[:, 1:23:2] == 1).all()
    assert (results[1].outs[0] == 3 * row).all()
    assert (x[:2] == before[:2]).all()
    assert (x[2:] == 4 * before[2:]).all()
    assert (named[:2] == before[:2]).all()
    assert "result[" in results[3].phases[0].body


def test_shared_and_resident_memory(run_phases):
    """A phase has both, filled for each unit by `load`, and more than 48 kB together where it asks for that."""
    x, y = np.arange(30, dtype=np.int32), np.zeros(30, np.int32)
    load = EACH + "((int *)gn_resident)[10000 + i] = in0[unit * 10 + i];"
    body = EACH + "((int *)gn_shared)[i] = ((int *)gn_resident)[10000 + i];\n__syncthreads();\n"
    body += EACH + "out0[unit * 10 + i] = ((int *)gn_shared)[9 - i];"
    run_phases([Phase(body, 3, shared=40, resident=50000, load=load, loaded=(0,))], [y], [x])
    assert (y.reshape(3, 10) == x.reshape(3, 10)[:, ::-1]).all()


def test_load_sees_only_the_ins_that_it_names(run_phases):
    """What a load reads besides is not there."""
    phase = Phase("", 1, resident=64, load="((int *)gn_resident)[0] = in1[0];", loaded=(0,))
    with pytest.raises(ToolchainError, match="in1"):
        run_phases([phase], [np.zeros(3, np.int32)], [np.zeros(3, np.int32), np.ones(3, np.int32)])


def test_a_bad_index_is_noted(run_cases, run_cuda):
    """GN_FAIL's value and rows are the case's note, or an exception of the fixture that runs one writer."""
    body = (
        "if (threadIdx.x == 0 && in0[unit] > 6) { GN_FAIL(in0[unit], 7); } else if (threadIdx.x == 0) out0[unit] = 1;"
    )
    phases = [Phase(body, 3, fails=True)]
    good, bad = np.array([1, 2, 3]), np.array([1, 9, 3])
    results = run_cases([run_cases.Case(phases, [np.zeros(3)], [ids]) for ids in (good, bad)])
    assert [r.note for r in results] == [None, (9, 7)]
    with pytest.raises(run_cuda.BadIndex, match="index 9 is out of range for 7 rows"):
        run_cuda(lambda *_: phases, [np.zeros(3)], [bad])


MISTAKES = {
    "depends on the grid": (
        "if (threadIdx.x == 0) out0[unit] = gridDim.x;",
        "the result on 3 blocks, reverse, differs",
    ),
    "reads another unit's": (
        "if (threadIdx.x == 0) out0[unit] = unit ? out0[unit - 1] + 1 : 1;",
        "the result on 3 blocks, reverse, differs",
    ),
    "writes behind the array": ("out0[unit * 3 + 1] = 1;", "wrote outside of its arrays"),
    "writes between elements": (
        "if (threadIdx.x == 0 && unit < 3) out0[2 * unit + 1] = 1;",
        "wrote elements that are not its own",
    ),
    "writes behind scratch": ("scratch[unit * 3 + 4] = 1;", "wrote outside of its scratch"),
    "fails now and then": ("if (gridDim.x == 3) GN_FAIL(unit, 1);", "whether an index is bad on 3 blocks"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_phase_that_does_what_it_must_not_is_found(run_phases, mistake):
    """Results that depend on grid or order, and writes to what is not its own."""
    body, message = MISTAKES[mistake]
    step = 2 if "between" in mistake else 1
    with pytest.raises(AssertionError, match=message):
        run_phases([Phase(body, 4)], [np.zeros(4 * step, np.float32)[::step]], [], 8)


def test_warnings_are_errors(run_phases, nvcc_compiles):
    """A variable that nothing uses is found by both compilers."""
    with pytest.raises(ToolchainError, match="unused"):
        run_phases([Phase("int unused;", 1)], [np.zeros(1)])
    with pytest.raises(AssertionError, match="unused"):
        nvcc_compiles(HEADER + 'extern "C" __global__ void k() { int unused; }\n')
