"""Programs over rows as CUDA: softmax and its kin in one pass, for any number of columns, layout and dtype."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.cuda.phase import SHARED, Job
from graphnet.kernels.cuda.rows import fits, kept_bytes, rows
from graphnet.kernels.text.view import View

COLUMNS = (1, 3, 10, 17, 103, 1000)


def writer(k, lines, shape, dtype="float32"):
    return lambda outs, ins, attrs, job: rows(outs, ins, k.program(*lines, dtype=dtype), shape, job)


def check(run_cases, k, asked, rtol=3e-6, atol=1e-6, strange=np.copy):
    """Each asked (shape, ins, lines, dtype): what NumPy gives. ``strange`` lays the outs out. Returns the phases."""
    cases, expected = [], []
    for shape, ins, lines, dtype in asked:
        wanted = k.evaluated(shape, ins, lines, dtype)
        outs = [strange(np.zeros(np.broadcast_shapes(e.shape, (1,) * len(shape)), e.dtype)) for e in wanted]
        cases.append(run_cases.Case(writer(k, lines, shape, dtype), outs, ins))
        expected.append(wanted)
    results = run_cases(cases)
    for result, wanted in zip(results, expected, strict=True):
        for out, e in zip(result.outs, wanted, strict=True):
            np.testing.assert_allclose(out, e, rtol=rtol, atol=atol, equal_nan=True)
    return [phase for result in results for phase in result.phases]


def normal(rng, *shape, dtype="float32"):
    return np.asarray(rng.standard_normal(shape), dtype)


def scalars(*values, dtype="float32"):
    return [np.full((1, 1), v, dtype) for v in values]


def test_softmax_and_its_logarithm_of_rows_of_any_length(run_cases, k, rng):
    lines = [*k.SOFTMAX, "tmp4 = log(tmp3)", "out1 = sub(tmp1, tmp4)"]
    for dtype, rtol in (("float32", 3e-6), ("float64", 1e-13)):
        shapes = [(rows, n) for n in COLUMNS for rows in ((40, 5) if n < 1000 else (5,))]
        check(run_cases, k, [(s, [5 * normal(rng, *s, dtype=dtype)], lines, dtype) for s in shapes], rtol=rtol)


def test_cross_entropy_and_its_gradient_in_one_pass(run_cases, k, rng):
    asked = []
    for shape in ((7, 30, 1), (7, 30, 3), (7, 30, 10), (10, 60, 10), (7, 30, 103), (2, 2, 1000)):
        ins = [4 * normal(rng, *shape), *k.labels(rng, shape), *scalars(0, -0.1, 0.1)]
        asked.append((shape, ins, k.CROSS_ENTROPY, "float32"))
    check(run_cases, k, asked)


def test_layer_norm_keeps_its_rows_between_two_sums(run_cases, k, rng):
    asked = []
    for shape in ((33, 1), (33, 10), (70, 103), (33, 512), (3, 5000), (2, 20_000)):
        scale, shift = normal(rng, 1, shape[-1]), normal(rng, shape[-1])
        ins = [3 + normal(rng, *shape), scale, shift, *scalars(1 / shape[-1], 1e-5)]
        asked.append((shape, ins, k.LAYER_NORM, "float32"))
    check(run_cases, k, asked, rtol=2e-5, atol=2e-5)


def test_rows_too_long_for_registers_keep_what_is_dear_in_shared_memory(run_cases, k, rng):
    shape = (3, 9000)
    ins = [4 * normal(rng, *shape), *k.labels(rng, shape), *scalars(0, -0.1, 0.1)]
    (phase,) = check(run_cases, k, [(shape, ins, k.CROSS_ENTROPY, "float32")])
    assert phase.units == 3
    assert 4 * 9000 <= phase.shared <= SHARED


@pytest.mark.parametrize("order", [(0, 2), (2, 0)])
def test_a_row_is_read_before_its_result_overwrites_it(run_cases, k, rng, order):
    """The result lies where the operand lay, though the operand is read in every loop."""
    lines = ["tmp0 = max(in0)", "out0 = sub(in0, tmp0)", "tmp1 = exp(in0)", "tmp2 = sum(tmp1)"]
    lines += ["tmp3 = add(in0, tmp2)", "tmp4 = sum(tmp3)", "out1 = add(tmp2, in1)", "tmp5 = mul(tmp4, in1)"]
    lines += ["out2 = mul(in0, tmp5)"]
    cases, expected = [], []
    for columns in (3, 10, 103, 300, 8400):
        shape = (50 if columns < 8400 else 2, columns)
        x, d = normal(rng, *shape), normal(rng, shape[0], 1)
        expected.append(k.evaluated(shape, [x, d], lines))
        other = np.empty_like(x)
        cases.append(
            run_cases.Case(writer(k, lines, shape), [x, d, other] if order == (0, 2) else [other, d, x], [x, d])
        )
    for result, wanted in zip(run_cases(cases), expected, strict=True):
        for out, e in zip(result.outs, wanted, strict=True):
            np.testing.assert_allclose(out, e, rtol=1e-5)


def test_a_number_of_a_row_is_read_by_all_before_it_is_overwritten(run_cases, k):
    """Also where no reduction makes the row's threads wait."""
    cases = []
    for shape in ((6, 5), (9, 300), (40, 200)):
        x, d = np.ones(shape, "float32"), np.full((shape[0], 1), 3, "float32")
        out = np.empty_like(x)
        cases.append(
            run_cases.Case(writer(k, ["out0 = add(in1, in1)", "out1 = mul(in0, in1)"], shape), [d, out], [x, d])
        )
    for case, result in zip(cases, run_cases(cases), strict=True):
        assert (result.outs[0] == 6).all()
        assert (result.outs[1] == 3).all(), case


@pytest.mark.parametrize("layout", ["columns", "reversed", "gaps", "axes"])
def test_operands_and_results_may_lie_in_any_order(run_cases, k, rng, layout):
    def strange(x):
        if layout == "columns":
            return np.array(x, order="F")
        if layout == "axes":
            return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
        wide = np.zeros([2 * n for n in x.shape], x.dtype)
        found = wide[tuple(slice(None, None, -2) if layout == "reversed" else slice(None, None, 2) for _ in x.shape)]
        found[...] = x
        return found

    asked = []
    for columns in (5, 40):
        shape = (6, 20, columns)
        ins = [4 * normal(rng, *shape), *k.labels(rng, shape), *scalars(0, -0.1, 0.1)]
        asked.append((shape, [strange(x) if x.ndim == 3 else x for x in ins], k.CROSS_ENTROPY, "float32"))
    check(run_cases, k, asked, strange=strange)


def test_integers_wrap_around_and_booleans_are_found(run_cases, k, rng):
    lines = ["tmp0 = sum(in0)", "tmp1 = min(in0)", "tmp2 = sub(in0, tmp1)", "tmp3 = mul(tmp2, tmp0)"]
    lines += ["out0 = sum(tmp3)", "tmp4 = lt(in0, tmp0): bool", "out1 = max(tmp4): bool"]
    lines += ["out2 = logical_not(tmp4): bool"]
    shapes = ((20, 4), (20, 100), (20, 300))
    asked = [(s, [rng.integers(-(2**31), 2**31 - 1, s, "int32")], lines, "int32") for s in shapes]
    check(run_cases, k, asked, rtol=0, atol=0)


def test_a_row_with_nan_is_nan_and_no_other(run_cases, k, rng):
    asked = []
    for columns in (4, 100, 1000):
        x = normal(rng, 24, columns)
        x[3, columns - 1] = np.nan
        x[5] = -np.inf
        x[6, 0] = np.inf
        lines = ["out0 = max(in0)", "out1 = min(in0)", "tmp0 = sub(in0, out1)", "out2 = sum(tmp0)"]
        asked.append((x.shape, [x], lines, "float32"))
    check(run_cases, k, asked, rtol=1e-5, atol=1e-5)


def test_all_threads_of_a_row_know_the_same_zero(run_cases, k):
    """Of zeros of both signs one is the maximum; its reciprocal is one infinity in every column."""
    cases = []
    for columns in (8, 64, 300):
        x = np.zeros((20, columns), "float32")
        x[:, ::2] = -0.0
        lines = ["tmp0 = max(in0)", "out0 = div(in1, tmp0)"]
        cases.append(run_cases.Case(writer(k, lines, x.shape), [np.empty_like(x)], [x, *scalars(1)]))
    for result in run_cases(cases):
        (out,) = result.outs
        assert np.isinf(out).all()
        assert (out == out[:, :1]).all()


def test_a_number_a_row_is_stored_in_every_column_where_an_out_wants_it(run_cases, k, rng):
    cases = []
    for columns in (6, 60):
        x = normal(rng, 18, columns)
        lines = ["tmp0 = max(in0)", "out0 = add(tmp0, tmp0)"]
        cases.append(run_cases.Case(writer(k, lines, x.shape), [np.empty_like(x)], [x]))
    for case, result in zip(cases, run_cases(cases), strict=True):
        np.testing.assert_array_equal(
            result.outs[0], np.repeat(2 * case.ins[0].max(1, keepdims=True), case.ins[0].shape[1], 1)
        )


def test_long_rows_are_summed_as_exactly_as_by_a_reduction_alone(run_cases, k):
    """A plain running sum in float32 would lose three digits here."""
    cases = []
    for shape in ((4, 4000), (2, 30_000)):
        x = np.full(shape, 0.1, "float32")
        lines = ["tmp0 = mul(in0, in0)", "out0 = sum(tmp0)"]
        cases.append(run_cases.Case(writer(k, lines, shape), [np.empty((shape[0], 1), "float32")], [x]))
    for case, result in zip(cases, run_cases(cases), strict=True):
        exact = np.square(case.ins[0].astype(float)).sum(1, keepdims=True)
        np.testing.assert_allclose(result.outs[0], exact, rtol=3e-7)


@pytest.mark.parametrize(
    ("shape", "units"), [((100, 10), 1), ((12800, 92), 1600), ((64, 100, 512), 800), ((64, 1000), 64), ((3, 4000), 3)]
)
def test_rows_are_dealt_out_whole(k, shape, units):
    strides = tuple(int(np.prod(shape[a + 1 :])) for a in range(len(shape)))
    x, y = (View(n, "float32", shape, strides) for n in ("in0", "out0"))
    (phase,) = rows([y], [x], k.program(*k.SOFTMAX), shape, Job())
    assert phase.units == units


def test_what_is_kept_of_a_long_row_is_known_beforehand(k):
    def kept(columns, lines=k.SOFTMAX, ask=kept_bytes):
        x, y = (View(n, "float32", (64, columns), (columns, 1)) for n in ("in0", "out0"))
        return ask([y], [x], k.program(*lines), x.shape)

    assert kept(100) == 0
    assert kept(4096) <= 256
    assert 40_000 < kept(10_000) <= SHARED < kept(12_500)
    assert kept(10_000, ask=fits)
    assert not kept(12_500, ask=fits)
    assert (
        kept(50_000, ["tmp0 = max(in0)", "tmp1 = sub(in0, tmp0)", "tmp2 = sum(tmp1)", "out0 = mul(tmp1, tmp2)"]) < 256
    )


def test_programs_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="empty"):
        rows([View("y", "float32", (0, 8), (8, 1))], [], [], (0, 8), Job())
    with pytest.raises(ValueError, match="epilogue"):
        rows([], [], [], (4, 8), Job(epilogue=lambda index, value: ""))
