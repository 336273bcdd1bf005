"""CUDA reductions against NumPy in float64: every set of axes, layout and dtype; the emulator compares grids."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from graphnet.kernels.cuda import arg, cumsum, reduction
from graphnet.kernels.cuda.lines import cut
from graphnet.kernels.cuda.phase import WAVE, Job
from graphnet.kernels.text.axes import at
from graphnet.kernels.text.program import Instr, value_of
from graphnet.kernels.text.view import View

WRITERS = {
    "sum": (reduction.sum, reduction.sum_scratch),
    "max": (reduction.max, reduction.max_scratch),
    "min": (reduction.min, reduction.min_scratch),
    "argmax": (arg.argmax, arg.argmax_scratch),
    "argmin": (arg.argmin, arg.argmin_scratch),
    "cumsum": (cumsum.cumsum, 0),
}


class Call:
    """An op on fresh results."""

    def __init__(self, op, x, out=None, **attrs):
        self.op, self.x, self.attrs = op, x, attrs
        dtype = "int32" if op.startswith("arg") else x.dtype
        self.out = np.full(expected_shape(op, x, attrs), 77, dtype) if out is None else out


def expected_shape(op, x, attrs):
    if op == "cumsum":
        return x.shape
    if op.startswith("arg"):
        return tuple(n for a, n in enumerate(x.shape) if a != attrs["axis"])
    kept = [
        1 if a in attrs["axes"] else n for a, n in enumerate(x.shape) if attrs["keepdims"] or a not in attrs["axes"]
    ]
    return tuple(kept)


def axes(op, x, *which, keepdims=False):
    return Call(op, x, axes=which, keepdims=keepdims)


def run(run_cases, calls):
    """All in one text, each with the scratch it asks for; returns the phases of each."""
    cases = []
    for call in calls:
        writer, scratch = WRITERS[call.op]
        cases.append(run_cases.Case(writer, [call.out], [call.x], call.attrs, scratch))
    return [result.phases for result in run_cases(cases)]


def layouts(x):
    """The same values in C order, transposed, reversed, and with gaps."""
    gaps = np.zeros([2 * n + 1 for n in x.shape], x.dtype)
    inner = gaps[tuple(slice(1, 2 * n + 1, 2) for n in x.shape)]
    inner[...] = x
    yield x
    yield np.ascontiguousarray(x.T).T
    yield np.ascontiguousarray(x[::-1])[::-1]
    yield np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    yield inner


def numpy_of(call):
    name, attrs = call.op, call.attrs
    if name == "cumsum":
        x = np.flip(call.x, attrs["axis"]) if attrs["reverse"] else call.x
        y = np.add.accumulate(x, attrs["axis"], x.dtype)
        return np.flip(y, attrs["axis"]) if attrs["reverse"] else y
    if name.startswith("arg"):
        return getattr(np, name)(call.x, attrs["axis"])
    if name == "sum":
        return np.sum(call.x, axis=attrs["axes"], keepdims=attrs["keepdims"], dtype=call.x.dtype)
    return getattr(np, name)(call.x, axis=attrs["axes"], keepdims=attrs["keepdims"])


def check(calls):
    for c in calls:
        about = f"{c.op} {c.x.dtype} {c.x.shape} {c.x.strides} {c.attrs}"
        np.testing.assert_array_equal(c.out, numpy_of(c), err_msg=about)


def test_any_axes_of_any_layout(run_cases, rng):
    """Whole numbers, so that sums are exact in any order; small, so that one unit does each."""
    calls = []
    sets = [s for n in range(5) for s in combinations(range(4), n)]
    for number, dtype in enumerate(("float32", "float64", "int32", "int64", "uint8", "uint32", "uint64", "bool")):
        x = rng.integers(0, 2 if dtype == "bool" else 9, (2, 3, 1, 5)).astype(dtype)
        ways = [*layouts(x)]
        for which in sets[number % 2 :: 2]:
            number += 1
            op = ("max", "min", "sum")[number % (2 if dtype == "bool" else 3)]
            calls.append(axes(op, ways[number % 5], *which, keepdims=bool(number % 3)))
    calls.append(axes("sum", np.array([[0, 0], [1, 1]], bool), 1))
    assert all(p.units == 1 for phases in run(run_cases, calls) for p in phases)
    check(calls)


def test_results_may_lie_anywhere(run_cases, rng):
    """Strided, reversed and transposed results."""
    x = rng.integers(-9, 9, (12, 20, 30)).astype("float32")
    wide = np.zeros((60, 40), "float32")
    calls = [
        Call("sum", x, np.zeros((24, 60), "float32")[::-2, ::2], axes=(1,), keepdims=False),
        Call("max", x, np.zeros((20, 12), "float32").T, axes=(2,), keepdims=False),
        Call("min", x, wide[::-2, ::-2].T, axes=(0,), keepdims=False),
        Call("cumsum", x, np.zeros((30, 20, 12), "float32").T, axis=1, reverse=False),
        Call("argmax", x, np.zeros((24, 60), "int32")[::-2, ::2], axis=1),
    ]
    assert all(c.out.shape == expected_shape(c.op, c.x, c.attrs) for c in calls)
    run(run_cases, calls)
    check(calls)


def test_long_reductions(run_cases, k, rng):
    """Threads, warps, units and parts of lines: sums close to float64, extrema exact."""
    calls = []
    for number, (shape, which) in enumerate([*k.LONG, ((50_000, 7), (0,))]):
        x = rng.standard_normal(shape).astype("float32")
        calls += [axes("sum", x, *which)] + [axes(("max", "min")[number % 2], x, *which)] * (number % 3 == 0)
    phases = run(run_cases, calls)
    for c in calls:
        wide = c.x.astype("float64")
        exact, size = getattr(np, c.op)(wide, c.attrs["axes"]), np.abs(wide).sum(c.attrs["axes"])
        assert (np.abs(c.out - exact) <= (2e-6 * np.sqrt(size) if c.op == "sum" else 0)).all(), c.x.shape
    assert {len(p) for p in phases} == {1, 2}, "some are cut into parts, some are not"


def test_a_long_sum_is_as_exact_as_pairwise_summation(run_cases):
    """A hundredth, half a million times: one float32 accumulator would be off by percents."""
    x = np.full(500_000, 0.01, "float32")
    calls = [axes("sum", x, 0), axes("sum", x.reshape(-1, 4), 0), axes("sum", x.reshape(5, -1), 1)]
    run(run_cases, calls)
    for c in calls:
        exact = x[0].astype("float64") * (x.size // c.out.size)
        assert (np.abs(c.out / exact - 1) < 2e-7).all()


def test_short_and_long_rows_with_nan_and_infinity(run_cases, rng):
    """NaN of either sign wins over everything, wherever it stands; infinities and signed zeros are numbers."""
    calls = []
    for n in (1, 10, 17, 300):
        for dtype in ("float32", "float64"):
            x = rng.standard_normal((17, n)).astype(dtype)
            x[0], x[1], x[2] = -np.inf, np.inf, 0.0
            x[3, n // 2], x[4, -1], x[5, 0] = np.nan, -np.nan, np.copysign(np.nan, -1)
            x[6, n // 3] = np.inf
            x[7] = -1e30
            calls += [axes(op, x, a) for op in ("max", "min") for a in ((0, 1) if n > 16 else (1,))]
    run(run_cases, calls)
    check(calls)


def test_extremes_of_integers(run_cases):
    """The ends of each range; sums wrap around."""
    calls = []
    for dtype in ("int32", "int64", "uint8", "uint32", "uint64"):
        info = np.iinfo(dtype)
        x = np.full((20, 40), info.max, dtype)
        x[3, 5], x[7] = info.min, info.min
        calls += [axes(op, x, *which) for op in ("max", "min", "sum") for which in ((0,), (1,))]
    run(run_cases, calls)
    check(calls)


def test_nothing_to_reduce(run_cases):
    """Empty axes sum to zero; empty results are no work; no axes and axes of size 1 copy."""
    x = np.arange(6, dtype="float32").reshape(2, 1, 3)
    calls = [axes("sum", np.zeros((2, 0, 3), "float32"), 1, 2, keepdims=True)]
    calls += [axes("sum", np.zeros((0, 3), "float32"), 0), axes("sum", np.zeros((300, 0), "float32"), 1)]
    calls += [axes(op, x, *which) for op in ("sum", "max", "min") for which in ((), (1,))]
    calls += [axes("sum", np.array(3.0), keepdims=False), axes("max", np.ones((1, 1), "int32"), 0, 1)]
    calls += [axes("max", np.arange(5000.0), keepdims=False)]
    run(run_cases, calls)
    check(calls)
    for op in ("sum", "max"):
        call = axes(op, np.zeros((0, 3), "float32"), 1)
        assert run(run_cases, [call]) == [[]]


def test_a_broadcast_input(run_cases, rng):
    """Strides of 0, inside and outside."""
    row = rng.integers(0, 9, (1, 50)).astype("float32")
    calls = []
    for x in (np.broadcast_to(row, (40, 50)), np.broadcast_to(row.T, (50, 40)), np.broadcast_to(row[0, 0], (40, 50))):
        calls += [axes("sum", x, *which) for which in ((0,), (1,), (0, 1))]
    run(run_cases, calls)
    check(calls)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool"])
def test_argument_of_the_first_extremum(run_cases, rng, dtype):
    """Ties go to the first index along any axis, over lanes, warps and parts; the first NaN beats all."""
    calls = []
    shapes = [(3, 4, 5), (2, 777), (0, 5)]
    shapes += [(1, 1), (7,), (9, 64), (5, 2000), (40_000, 2)] if dtype == "float32" else []
    for shape in shapes:
        x = rng.integers(0, 2 if dtype == "bool" else 5, shape).astype(dtype)
        if dtype.startswith("float") and x.size > 500:
            x[1, 0], x[1, -1], x[-1, -1], x[0, ::2] = np.nan, np.nan, np.nan, -0.0
        ways = [*layouts(x)]
        for axis in range(x.ndim):
            if x.shape[axis]:
                calls += [Call(op, ways[(axis + k) % 5], axis=axis) for k, op in enumerate(("argmax", "argmin"))]
    phases = run(run_cases, calls)
    check(calls)
    assert dtype != "float32" or max(map(len, phases)) == 2


def test_running_sums(run_cases, rng):
    """Both directions, any axis and layout, bools as or; whole numbers, so that they are exact in any order."""
    calls = []
    for x in (
        rng.integers(-9, 9, (3, 1, 4)).astype("float32"),
        rng.integers(-9, 9, (5, 3000)).astype("float64"),
        rng.integers(0, 2**31, (9, 60)).astype("int32"),
    ):
        for number, source in enumerate(layouts(x)):
            directions = enumerate((False, True)) if x.size < 100 else [(0, bool(number % 2))]
            calls += [Call("cumsum", source, axis=(k + number) % x.ndim, reverse=way) for k, way in directions]
    calls += [Call("cumsum", np.array([[0, 1, 0]], bool), axis=1, reverse=False)]
    calls += [Call("cumsum", np.arange(100) == 60, axis=0, reverse=True)]
    calls += [Call("cumsum", np.zeros((0, 2)), axis=0, reverse=True)]
    run(run_cases, calls)
    check(calls)


def test_a_running_sum_of_floats_is_no_less_exact_than_one_addition_after_another(run_cases, rng):
    x = rng.standard_normal((2, 5000)).astype("float32")
    call = Call("cumsum", x, axis=1, reverse=False)
    run(run_cases, [call])
    exact = np.cumsum(x, 1, "float64")
    assert np.abs(call.out - exact).max() <= np.abs(np.cumsum(x, 1) - exact).max()


def test_an_expression_is_reduced_without_a_temporary(run_cases, rng):
    """Values are multiplied on the way, with a broadcast operand; an epilogue takes the results."""
    cases, expected = [], []
    for shape in ((60, 7, 40), (9, 3, 1000)):
        x, scale = rng.integers(-4, 5, shape).astype("float32"), rng.integers(1, 3, shape[-1]).astype("float32")
        for which in ((0,), (2,), (0, 2), (0, 1, 2), (1,)):
            kept = [n for a, n in enumerate(x.shape) if a not in which]

            def writer(outs, ins, attrs, job):
                values, factors = ins
                element = lambda i: f"({at(values, i)} * {at(factors, i[2:])})"  # noqa: E731
                return reduction.reduce_of("sum", outs, ins, attrs, job, element)

            def epilogue(index, value, kept=kept):
                where = " + ".join(f"({i}) * {int(np.prod(kept[:a]))}" for a, i in enumerate(index)) or "0"
                return f"{{ const float y = {value}; extra0[{where}] = 2 * y; }}"

            # in the other order of axes, so that each index must be right
            product, extra = np.zeros(kept, "float32"), np.zeros(kept[::-1], "float32").T
            attrs = {"axes": which, "keepdims": False}
            cases.append(
                run_cases.Case(writer, [product], [x, scale], attrs, reduction.reduce_scratch, epilogue, [extra])
            )
            expected.append(2 * (x * scale).sum(which))
    for result, case, e in zip(run_cases(cases), cases, expected, strict=True):
        np.testing.assert_array_equal(case.extra[0], e)
        assert result.phases


def test_the_value_of_a_program_is_reduced(run_cases, rng):
    """In lines side by side and along lines, in parts; the operand repeats along axes."""
    expressions = [Instr("x - y", "xy", (("in", 0), ("in", 1)), ("tmp", 0), "float32")]
    expressions += [Instr("x * x", "x", (("tmp", 0),), ("out", 0), "float32")]

    def writer(op, shape):
        def write(outs, ins, attrs, job):
            value = value_of("k_value", View("value", "float32", shape, (0,) * len(shape)), ins, expressions)
            first, *rest = reduction.reduce_of(op, outs, ins, attrs, job, value.element, shape)
            return [replace(first, helpers=(*value.helpers, *first.helpers)), *rest]

        return write

    for shape in ((40, 50), (3, 40, 700), (20_000, 7)):
        ins = [rng.standard_normal(shape).astype("float32"), rng.standard_normal(shape[-1:]).astype("float32")]
        wide = np.square((ins[0] - ins[1]).astype("float64"))
        cases, expected = [], []
        for number, which in enumerate(((0,), (len(shape) - 1,), tuple(range(len(shape))))):
            op = ("sum", "max", "min")[number] if shape == (40, 50) else "sum"
            expected.append(getattr(np, op)(wide, which))
            out = np.empty(expected[-1].shape, "float32")
            scratch = lambda outs, ins, attrs, shape=shape: reduction.reduce_scratch(outs, ins, attrs, shape)  # noqa: E731
            attrs = {"axes": which, "keepdims": False}
            cases.append(run_cases.Case(writer(op, shape), [out], ins, attrs, scratch))
        for result, e in zip(run_cases(cases), expected, strict=True):
            np.testing.assert_allclose(result.outs[0], e, rtol=2e-6)


@pytest.mark.parametrize(
    ("shape", "which", "units"),
    [
        ((100, 10), (0,), [1]),
        ((12800, 92), (0,), [120, 1]),
        ((12800, 92), (1,), [1600]),
        ((100, 50, 8, 8), (0, 2, 3), [50]),
        ((256, 1024), (0, 1), [64, 1]),
        ((4096, 4096), (1,), [2048]),
    ],
)
def test_units_are_many_or_the_parts_are(shape, which, units):
    x = View("in0", "float32", shape, tuple(int(np.prod(shape[a + 1 :])) for a in range(len(shape))))
    kept = tuple(n for a, n in enumerate(shape) if a not in which)
    out = View("out0", "float32", kept, tuple(int(np.prod(kept[a + 1 :])) for a in range(len(kept))))
    phases = reduction.sum([out], [x], {"axes": which, "keepdims": False}, Job())
    assert [p.units for p in phases] == units


def test_no_cut_leaves_out_an_element():
    """Parts cover every line, and no part is empty."""
    for lines in (1, 3, 31, 32, 33, 92, 257, 5000):
        for length in (1, 2, 17, 64, 300, 5000, 100_001):
            for inward in (False, True):
                how = cut(lines, length, inward)
                assert how.looped or how.blocks * how.side >= lines
                assert how.parts == 1 or (how.parts - 1) * how.step < length <= how.parts * how.step
                assert how.parts == 1 or how.units <= 4 * WAVE
