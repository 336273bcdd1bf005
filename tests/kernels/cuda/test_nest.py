"""Elementwise nests in CUDA: any shape, strides and dtypes give what the program says, bit for bit."""

from __future__ import annotations

import re

import numpy as np
import pytest

from graphnet.kernels.cuda import nest
from graphnet.kernels.cuda.nest import copy, fill, fused
from graphnet.kernels.cuda.phase import THREADS, WAVE, Job
from graphnet.kernels.text.view import CTYPES, View

SHAPES = [(), (1,), (3,), (1, 1), (17, 33), (4, 5, 6), (2, 1, 300), (64, 64), (3, 2, 5, 7), (40, 1, 40)]
EMPTY = [(0,), (3, 0, 2)]


def evaluated(k, shape, ins, lines):
    """The results by the numpy kernels, over the whole shape."""
    return [np.broadcast_to(out, shape) for out in k.evaluated(shape, ins, lines)]


def writer(k, *lines):
    return lambda outs, ins, attrs, job: fused(outs, ins, k.program(*lines), job)


def views(prefix, arrays):
    """Of float32 arrays."""
    return [View(f"{prefix}{i}", "float32", a.shape, tuple(s // 4 for s in a.strides)) for i, a in enumerate(arrays)]


def arrays(rng, *shapes):
    return [np.asarray(rng.standard_normal(s), "float32") for s in shapes]


def check(run_cases, cases, wanted):
    """Runs (outs, ins, writer) of each case in one text and compares the outs with what is wanted, bit for bit."""
    run_cases([run_cases.Case(w, outs, ins) for outs, ins, w in cases])
    for (outs, _, _), want in zip(cases, wanted, strict=True):
        assert all(np.array_equal(out, want[i], equal_nan=True) for i, out in enumerate(outs)), outs[0].shape


def test_shapes_and_layouts(run_cases, k, rng):
    """Dense, transposed, reversed and gapped results and operands."""
    cases, wanted = [], []
    for shape in (*SHAPES, *EMPTY):
        ins = [np.asarray(np.abs(x)) for x in arrays(rng, shape, shape, shape)]
        want = evaluated(k, shape, ins, k.ARITHMETIC)
        for number in range(3):
            outs = [list(k.layouts(np.full(shape, np.nan, "float32")))[number] for _ in range(2)]
            own = [list(k.layouts(x))[(number + shift) % 3] for shift, x in enumerate(ins)]
            cases.append((outs, own, writer(k, *k.ARITHMETIC)))
            wanted.append(want)
    check(run_cases, cases, wanted)


def test_broadcast_operands(run_cases, k, rng):
    """Operands with fewer axes, axes of size 1 and zero strides; scalars; a bias along each axis."""
    shape = (6, 20, 30)
    cases, wanted = [], []
    for own in ((), (1,), (30,), (20, 1), (6, 1, 1), (1, 20, 30), (6, 20, 1), (1, 1, 1), (6, 1, 30)):
        ins = [np.asarray(np.abs(x)) for x in arrays(rng, shape, own, ())]
        ins[2] = np.broadcast_to(ins[2], shape)
        cases.append(([np.empty(shape, "float32") for _ in range(2)], ins, writer(k, *k.ARITHMETIC)))
        wanted.append(evaluated(k, shape, ins, k.ARITHMETIC))
    check(run_cases, cases, wanted)


def test_several_elements_a_thread(run_cases, k, rng, monkeypatch):
    """Two or four, as large results have them; sizes that are and are not multiples of a unit."""
    cases, wanted = [], []
    for each in (2, 4):
        monkeypatch.setattr(nest, "per_thread", lambda total, most=4, each=each: min(each, most))
        for shape, own in (((2, 1024), (1024,)), ((3, 7, 111), (7, 1)), ((5,), ()), ((50, 60), (50, 60))):
            ins = [np.asarray(np.abs(x)) for x in arrays(rng, shape, own, ())]
            outs = [np.empty(shape, "float32") for _ in range(2)]
            # written now, while a thread has this many
            phases = fused(views("out", outs), views("in", ins), k.program(*k.ARITHMETIC), Job())
            assert phases[0].units == -(-outs[0].size // (each * THREADS))
            cases.append(run_cases.Case(phases, outs, ins))
            wanted.append(evaluated(k, shape, ins, k.ARITHMETIC))
    run_cases(cases)
    for case, want in zip(cases, wanted, strict=True):
        assert all(np.array_equal(out, want[i]) for i, out in enumerate(case.outs)), case.outs[0].shape


def test_large_results_have_units_for_a_device_and_several_elements_a_thread():
    """One element a thread up to a device's worth of units, then two, then four."""
    for total, each in ((100, 1), (THREADS * WAVE, 1), (THREADS * WAVE + 1, 2), (1 << 16, 2), (1 << 20, 4)):
        (phase,) = fill([View("out0", "float32", (total,), (1,))], [], {"value": 1}, Job())
        assert phase.units == -(-total // (each * THREADS))
        assert ("q < " in phase.body) == (each > 1)


def test_indices_are_wider_where_offsets_do_not_fit(k):
    """A result of 3 * 2**30 elements, and a stride that reaches as far."""
    for shape, strides in (((3 << 30,), (1,)), ((4, 3), (1 << 30, 1))):
        (phase,) = fill([View("out0", "float32", shape, strides)], [], {"value": 1}, Job())
        assert "const long long e = (long long)unit" in phase.body
    (phase,) = fill([View("out0", "float32", (4, 3), (1 << 20, 1))], [], {"value": 1}, Job())
    assert "long long" not in phase.body


def test_a_transposed_operand_is_read_in_tiles(run_cases, k, rng):
    """Sides that are and are not multiples of a tile's, axes around and between, reversed ones, several operands."""
    cases, wanted = [], []
    for shape in ((64, 48), (65, 47), (3, 50, 100), (50, 3, 100), (33, 2, 2, 70), (8, 200)):
        x, y = arrays(rng, shape, shape)
        ins = [np.asfortranarray(x), np.asfortranarray(y)[::-1, ..., ::-1], arrays(rng, shape[-1:])[0], y]
        lines = ("tmp0 = mul(in0, in1)", "tmp0 = add(tmp0, in2)", "out0 = sub(tmp0, in3)")
        cases.append(([np.empty(shape, "float32")], ins, writer(k, *lines)))
        wanted.append(evaluated(k, shape, ins, lines))
    check(run_cases, cases, wanted)
    views = [View("p", "float32", (64, 48), (48, 1)), View("q", "float32", (64, 48), (1, 64))]
    (phase,) = fused(views[:1], views[1:], k.program("out0 = add(in0, in0)"), Job())
    assert (phase.units, phase.shared) == (4, 32 * 33 * 4)


def test_tiles_fit_shared_memory(run_cases, k, rng):
    """Six transposed operands of float64 need more than there is: those that do not fit are read as they lie."""
    shape = (40, 50)
    ins = [np.asfortranarray(rng.standard_normal(shape)) for _ in range(6)]
    lines = ["tmp0 = add(in0, in1): float64", *(f"tmp0 = sub(tmp0, in{i}): float64" for i in range(2, 6))]
    lines.append("out0 = identity(tmp0): float64")
    out = np.empty(shape)
    check(run_cases, [([out], ins, writer(k, *lines))], [evaluated(k, shape, ins, lines)])


def test_results_over_their_operands(run_cases, k, rng):
    """An out that is an in: every element is read first, also where another result is written over it."""
    lines = ("tmp0 = mul(in0, in1)", "out0 = sub(in1, in0)", "out1 = add(tmp0, in1)")
    cases, wanted = [], []
    for order in "CF":
        x, y = arrays(rng, (30, 40), (30, 40))
        y = np.array(y, order=order)
        wanted.append(evaluated(k, (30, 40), [x.copy(), y.copy()], lines))
        cases.append(([x, y], [x, y], writer(k, *lines)))
    check(run_cases, cases, wanted)


def test_temporaries_and_results_are_written_again(run_cuda, k, rng):
    """A program may reuse temporaries, overwrite an out, and store one value twice or an operand as it is."""
    ins = arrays(rng, (50, 60), (50, 60))
    outs = [np.empty((50, 60), "float32") for _ in range(3)]
    phases = run_cuda(writer(k, *k.REUSING), outs, ins)
    want = evaluated(k, (50, 60), ins, k.REUSING)
    assert all(np.array_equal(out, want[i]) for i, out in enumerate(outs))
    assert "exp" not in phases[0].body, "nobody reads tmp1"


def test_mixed_dtypes(run_cases, k, rng):
    """Truth values as masks, results and factors beside floats; integers and conversions in one nest."""
    shape = (20, 50)
    x, y = arrays(rng, shape, shape)
    ins = [x * 5, np.asfortranarray(y), np.asfortranarray(x > 0.3), rng.integers(-9, 9, shape), np.array(3.7)]
    outs = [np.empty(shape, d) for d in ("bool", "float32", "int32", "float64", "uint8")]
    check(run_cases, [(outs, ins, writer(k, *k.MIXED))], [evaluated(k, shape, ins, k.MIXED)])


def test_functions_within_4_ulp_of_the_numpy_kernels(run_cuda, k, rng):
    """An LSTM cell on columns of a wider matrix."""
    gates, state = arrays(rng, (32, 128), (32, 32))
    ins = [gates[:, 32 * i : 32 * i + 32] for i in range(4)] + [state]
    outs = [np.empty((32, 32), "float32") for _ in range(6)]
    run_cuda(writer(k, *k.CELL), outs, ins)
    assert np.array_equal(outs[4], outs[1] * state + outs[2] * outs[3])
    pairs = zip(("sigmoid",) * 3 + ("tanh",) * 2, (*ins[:4], outs[4]), (*outs[:4], outs[5]), strict=True)
    for op, x, out in pairs:
        want = k.execute(op, np.empty_like(out), x)
        assert (np.abs(out - want) <= 4 * np.spacing(np.abs(want))).all(), op


def test_scalars_are_computed_once(k):
    """In front of a thread's elements; a result that does not vary, too."""
    x, one = View("p", "float32", (500, 600), (600, 1)), View("s", "float32", (), ())
    (phase,) = fused([x], [x, one], k.program("tmp0 = exp(in1)", "out0 = div(in0, tmp0)"), Job())
    assert "gn_expf" in phase.body.split("for")[0]
    assert "gn_expf" not in phase.body.split("for", 1)[1]
    (phase,) = fused([x], [one], k.program("out0 = exp(in0)"), Job())
    assert "gn_expf" in phase.body.split("for")[0]


def test_names_of_operands_are_kept_apart(k):
    """Pointers called like the text's own names do not clash with them."""
    for strides in ((4, 1), (1, 400)):
        views = [View("i", "float32", (400, 32), (32, 1))]
        views += [View(n, "float32", (400, 32), strides) for n in ("x0", "y0", "t0", "j_tile", "e", "q")]
        lines = ["tmp0 = add(in0, in1)", *(f"tmp0 = mul(tmp0, in{i})" for i in range(2, 6)), "out0 = add(tmp0, tmp0)"]
        (phase,) = fused(views[:1], views[1:], k.program(*lines), Job())
        declared = re.findall(r"(?:const float|const int|,|int) (\w+)(?:\[\d+\])? =", phase.body)
        assert not {"x0", "y0", "t0", "e", "q", "i", "j_tile"} & set(declared)
        assert [phase] == fused(views[:1], views[1:], k.program(*lines), Job()), "the text is deterministic"


def test_programs_that_cannot_be(k):
    """Reads before writes, wrong dtypes, shapes that do not broadcast, and epilogues are refused."""
    x, y = View("x", "float32", (4, 5), (5, 1)), View("y", "float32", (3, 5), (5, 1))
    with pytest.raises(ValueError, match="before it is written"):
        fused([x], [x], k.program("out0 = add(in0, tmp0)"), Job())
    with pytest.raises(ValueError, match="cannot be stored"):
        fused([x], [x], k.program("out0 = gt(in0, in0): bool"), Job())
    with pytest.raises(ValueError, match="does not broadcast"):
        fused([x], [y], k.program("out0 = neg(in0)"), Job())
    with pytest.raises(ValueError, match="different shapes"):
        fused([x, y], [x], k.program("out0 = neg(in0)", "out1 = neg(in0)"), Job())
    with pytest.raises(ValueError, match="epilogue"):
        fused([x], [x], k.program("out0 = neg(in0)"), Job(epilogue=lambda index, value: ""))


def test_copies(run_cases, k, rng):
    """Every dtype, layout and broadcast, transposition included."""
    cases = []
    for turn, dtype in enumerate(CTYPES):
        x = rng.integers(0, 2 if dtype == "bool" else 99, (20, 3, 40)).astype(dtype)
        for number, source in enumerate(k.layouts(x)):
            if dtype == "float32" or number == turn % 4:
                cases.append(([list(k.layouts(np.full_like(source, 1)))[(number + 1) % 3]], [source], copy))
    cases.append(([np.zeros((30, 40), "float32")], arrays(rng, (30, 1)), copy))
    cases.append(([np.zeros((30, 40), "float32")], arrays(rng, ()), copy))
    cases.append(([np.zeros((0, 4), "float32")], arrays(rng, (0, 4)), copy))
    check(run_cases, cases, [{0: np.broadcast_to(x, out.shape)} for (out,), (x,), _ in cases])


def test_fills(run_cases):
    """Numbers, NaN, infinities and the sign of zero; views leave the gaps between their elements alone."""
    values = [("float32", -0.0), ("float32", np.nan), ("float64", -np.inf), ("int64", -(2**63)), ("bool", True)]
    whole = [np.zeros((40, 30), dtype) for dtype, _ in values]
    run_cases([
        run_cases.Case(fill, [w[:, ::2]], [], {"value": value}) for w, (_, value) in zip(whole, values, strict=True)
    ])  # fmt: skip
    for found, (dtype, value) in zip(whole, values, strict=True):
        want = np.zeros((40, 30), dtype)
        want[:, ::2] = value
        assert np.array_equal(found, want, equal_nan=dtype.startswith("float"))
        assert np.array_equal(np.signbit(found), np.signbit(want)) if dtype == "float32" else True
