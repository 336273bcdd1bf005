"""Programs over rows: softmax and its kin in one pass, for any number of columns, layout, dtype and threads."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.c.phase import Job
from graphnet.kernels.c.rows import STACK_BYTES, kept_bytes, rows
from graphnet.kernels.text.row_program import RowProgram
from graphnet.kernels.text.view import View

COLUMNS = [1, 3, 10, 16, 17, 103, 1000]


def writer(k, lines, shape, dtype="float32"):
    return lambda outs, ins, attrs, job: rows(outs, ins, k.program(*lines, dtype=dtype), shape, job)


def check(run_c, k, shape, ins, lines, dtype="float32", threads=(2,), rtol=3e-6, atol=1e-6, strange=None):
    """Every number of threads gives the same bits, and what NumPy gives. ``strange`` lays the outs out."""
    expected = k.evaluated(shape, ins, lines, dtype)
    first = None
    for count in threads:
        outs = [
            (strange or np.copy)(np.zeros(np.broadcast_shapes(e.shape, (1,) * len(shape)), e.dtype)) for e in expected
        ]
        phases = run_c(writer(k, lines, shape, dtype), outs, ins, threads=count)
        first = first or [o.copy() for o in outs]
        for out, e, one in zip(outs, expected, first, strict=True):
            np.testing.assert_array_equal(out, one)
            np.testing.assert_allclose(out, e, rtol=rtol, atol=atol, equal_nan=True)
    return phases


def normal(rng, *shape, dtype="float32"):
    return np.asarray(rng.standard_normal(shape), dtype)


def scalars(*values, dtype="float32"):
    return [np.full((1, 1), v, dtype) for v in values]


@pytest.mark.parametrize("columns", COLUMNS)
def test_softmax_and_its_logarithm_of_rows_of_any_length(run_c, k, rng, columns):
    for dtype, rtol in (("float32", 3e-6), ("float64", 1e-13)):
        x = 5 * normal(rng, 40, columns, dtype=dtype)
        check(
            run_c, k, (40, columns), [x], [*k.SOFTMAX, "tmp4 = log(tmp3)", "out1 = sub(tmp1, tmp4)"], dtype, rtol=rtol
        )


@pytest.mark.parametrize("columns", COLUMNS)
def test_cross_entropy_and_its_gradient_in_one_pass(run_c, k, rng, columns):
    shape = (7, 30, columns)
    ins = [4 * normal(rng, *shape), *k.labels(rng, shape), *scalars(0, -0.1, 0.1)]
    check(run_c, k, shape, ins, k.CROSS_ENTROPY, threads=(1, 2))


@pytest.mark.parametrize("columns", COLUMNS)
def test_layer_norm_keeps_its_rows_between_two_sums(run_c, k, rng, columns):
    shape = (33, columns)
    scale, shift = normal(rng, 1, columns), normal(rng, columns)
    ins = [3 + normal(rng, *shape), scale, shift, *scalars(1 / columns, 1e-5)]
    check(run_c, k, shape, ins, k.LAYER_NORM, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("columns", [3, 10, 103])
def test_a_row_is_read_before_its_result_overwrites_it(run_c, k, rng, columns):
    """The result lies where the operand lay, though the operand is read in every loop."""
    shape = (50, columns)
    x, d = 4 * normal(rng, *shape), normal(rng, 50, 1)
    lines = ["tmp0 = max(in0)", "out0 = sub(in0, tmp0)", "tmp1 = exp(in0)", "tmp2 = sum(tmp1)"]
    lines += ["tmp3 = add(in0, tmp2)", "tmp4 = sum(tmp3)", "out1 = add(tmp2, in1)", "tmp5 = mul(tmp4, in1)"]
    lines += ["out2 = mul(in0, tmp5)"]
    expected = k.evaluated(shape, [x, d], lines)
    for order in ((0, 2), (2, 0)):
        a, n = x.copy(), d.copy()
        other = np.empty_like(a)
        outs = [a, n, other] if order == (0, 2) else [other, n, a]
        run_c(writer(k, lines, shape), outs, [a, n], threads=2)
        for out, e in zip(outs, expected, strict=True):
            np.testing.assert_allclose(out, e, rtol=1e-5)


@pytest.mark.parametrize("columns", [5, 40])
@pytest.mark.parametrize("layout", ["columns", "reversed", "gaps", "axes"])
def test_operands_and_results_may_lie_in_any_order(run_c, k, rng, columns, layout):
    def strange(x):
        if layout == "columns":
            return np.array(x, order="F")
        if layout == "axes":
            return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
        wide = np.zeros([2 * n for n in x.shape], x.dtype)
        found = wide[tuple(slice(None, None, -2) if layout == "reversed" else slice(None, None, 2) for _ in x.shape)]
        found[...] = x
        return found

    shape = (6, 20, columns)
    ins = [4 * normal(rng, *shape), *k.labels(rng, shape), *scalars(0, -0.1, 0.1)]
    ins = [strange(x) if x.ndim == 3 else x for x in ins]
    check(run_c, k, shape, ins, k.CROSS_ENTROPY, strange=strange)


@pytest.mark.parametrize("columns", [4, 100])
def test_integers_wrap_around_and_booleans_are_found(run_c, k, rng, columns):
    shape = (20, columns)
    x = rng.integers(-(2**31), 2**31 - 1, shape, "int32")
    lines = [
        "tmp0 = sum(in0)",
        "tmp1 = min(in0)",
        "tmp2 = sub(in0, tmp1)",
        "tmp3 = mul(tmp2, tmp0)",
        "out0 = sum(tmp3)",
    ]
    lines += ["tmp4 = lt(in0, tmp0): bool", "out1 = max(tmp4): bool", "out2 = logical_not(tmp4): bool"]
    check(run_c, k, shape, [x], lines, "int32", rtol=0, atol=0)


@pytest.mark.parametrize("columns", [4, 100])
def test_a_row_with_nan_is_nan_and_no_other(run_c, k, rng, columns):
    x = normal(rng, 24, columns)
    x[3, columns - 1] = np.nan
    x[5] = -np.inf
    x[6, 0] = np.inf
    lines = ["out0 = max(in0)", "out1 = min(in0)", "tmp0 = sub(in0, out1)", "out2 = sum(tmp0)"]
    check(run_c, k, x.shape, [x], lines, rtol=1e-5)


@pytest.mark.parametrize("columns", [6, 16, 60, 200])
def test_functions_that_no_row_waits_for_see_the_numbers_of_their_own_row(run_c, k, rng, columns):
    """150 rows: two blocks and a part of one; the operand of a row is overwritten by what is made of it."""
    x, d = normal(rng, 150, columns), normal(rng, 150, 1)
    lines = ["tmp0 = exp(in0)", "tmp1 = sum(tmp0)", "tmp2 = log(tmp1)", "tmp3 = sub(tmp2, in1)"]
    lines += ["out0 = mul(tmp3, in2)", "out1 = div(tmp0, tmp1)"]
    expected = k.evaluated(x.shape, [x, d, *scalars(3)], lines)
    out = np.empty_like(x)
    run_c(writer(k, lines, x.shape), [d, out], [x, d, *scalars(3)], threads=2)
    np.testing.assert_allclose(d, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, expected[1], rtol=1e-5)


@pytest.mark.parametrize("columns", [6, 60])
def test_a_number_a_row_is_stored_in_every_column_where_an_out_wants_it(run_c, k, rng, columns):
    x = normal(rng, 18, columns)
    out = np.empty_like(x)
    run_c(writer(k, ["tmp0 = max(in0)", "out0 = add(tmp0, tmp0)"], x.shape), [out], [x])
    np.testing.assert_array_equal(out, np.broadcast_to(2 * x.max(1, keepdims=True), x.shape))


def test_long_rows_are_summed_as_exactly_as_by_a_reduction_alone(run_c, k, rng):
    """A plain running sum in float32 would lose three digits here."""
    x = np.full((4, 4000), 0.1, "float32")
    out = np.empty((4, 1), "float32")
    run_c(writer(k, ["tmp0 = mul(in0, in0)", "out0 = sum(tmp0)"], x.shape), [out], [x])
    np.testing.assert_allclose(out, np.square(x.astype(float)).sum(1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize(("shape", "units"), [((64, 3, 20), 64), ((2, 60, 20), 120), ((3, 1000), 3), ((2, 3, 4), 1)])
def test_rows_are_dealt_out_whole(run_c, k, rng, shape, units):
    phases = check(run_c, k, shape, [normal(rng, *shape)], k.SOFTMAX, threads=(1, 3, 16))
    assert phases[0].units == units or units == 1


@pytest.mark.parametrize("columns", [5, 50])
def test_the_last_block_of_rows_may_be_smaller(run_c, k, rng, columns):
    """The labels lie by time, so that 150 rows of each unit are a loop of their own."""
    shape = (16, 150, columns)
    hot, iota = k.labels(rng, shape)
    ins = [normal(rng, *shape), np.array(hot, order="F"), iota, *scalars(0, -0.1, 0.1)]
    (phase,) = check(run_c, k, shape, ins, k.CROSS_ENTROPY)
    assert phase.units == 16


def test_units_own_their_rows_of_operands_that_have_rows(k):
    x, y = (View(n, "float32", (64, 20, 30), (600, 30, 1)) for n in ("x", "y"))
    scale = View("g", "float32", (30,), (1,))
    (phase,) = rows(
        [y],
        [x, scale],
        k.program("tmp0 = sum(in0)", "tmp1 = mul(in0, tmp0)", "out0 = mul(tmp1, in1)"),
        x.shape,
        Job(threads=2),
    )
    assert (phase.units, phase.axes) == (64, (0, 0, None))


def test_what_costs_little_is_done_again_and_what_costs_more_is_kept(k):
    def kept(*lines):
        x = View("x", "float32", (64, 200), (200, 1))
        outs = [View("y", "float32", (64, 200), (200, 1))]
        return kept_bytes(outs, [x], k.program(*lines), x.shape)

    assert kept(*k.SOFTMAX) == 800
    assert kept("tmp0 = max(in0)", "tmp1 = sub(in0, tmp0)", "tmp2 = sum(tmp1)", "out0 = mul(tmp1, tmp2)") == 0
    # what an out holds already is read from there
    assert kept("out0 = exp(in0)", "tmp0 = sum(out0)") == 0
    assert (
        kept(
            *k.SOFTMAX[:3],
            "tmp3 = sum(tmp2)",
            "tmp4 = tanh(tmp2)",
            "tmp5 = mul(tmp4, tmp3)",
            "tmp6 = sum(tmp5)",
            "tmp7 = mul(tmp6, tmp4)",
            "out0 = add(tmp7, tmp2)",
        )
        == 1600
    )
    assert STACK_BYTES >= 1 << 14


def test_programs_that_cannot_be_are_refused(k):
    x = View("x", "float32", (4, 8), (8, 1))
    n = View("n", "float32", (4, 1), (1, 1))
    for outs, lines, what in (
        ([x], ["out0 = exp(tmp0)"], "before it is written"),
        ([x], ["out0 = exp(in0)", "out0 = exp(in0)"], "second"),
        ([n], ["out0 = exp(in0)"], "cannot hold"),
        ([x], ["tmp0 = exp(in0)"], "cannot hold"),
        ([x], ["out0 = lt(in0, in0): bool"], "cannot hold"),
    ):
        with pytest.raises(ValueError, match=what):
            RowProgram(outs, [x], k.program(*lines), x.shape)
    with pytest.raises(ValueError, match="empty"):
        rows([View("y", "float32", (0, 8), (8, 1))], [], [], (0, 8), Job())
