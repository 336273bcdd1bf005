"""Generated reductions against NumPy in float64: every set of axes, layout and dtype; bit-equal for any threads."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from graphnet.kernels.c import reduction
from graphnet.kernels.c.phase import Job
from graphnet.kernels.text.axes import at
from graphnet.kernels.text.view import View


class Case:
    """One op on fresh results; `batch` runs many in one compilation."""

    def __init__(self, op, x, out=None, **attrs):
        self.op, self.x, self.attrs = op, x, attrs
        shape = expected_shape(op, x, attrs)
        dtype = "int32" if op.startswith("arg") else x.dtype
        self.out = np.full(shape, 77, dtype) if out is None else out


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
    return Case(op, x, axes=which, keepdims=keepdims)


def scratch(outs, ins, attrs, threads):
    return reduction.reduce_scratch(outs, ins, attrs, threads) if "axes" in attrs else 0


def batch(run_c, cases, threads=1):
    """Every case in one file, each with the scratch it asks for and not a byte more."""

    def sizes(outs, ins, threads):
        wanted = (scratch([o], [i], c.attrs, threads) for o, i, c in zip(outs, ins, cases, strict=True))
        return [-(-n // 64) * 64 for n in wanted]

    def writer(outs, ins, attrs, job):
        phases, start = [], 0
        for out, x, case, size in zip(outs, ins, cases, sizes(outs, ins, job.threads), strict=True):
            made = getattr(reduction, case.op)([out], [x], case.attrs, replace(job, scratch=f"(scratch + {start})"))
            assert all(len(p.axes) == 2 and p.cost > 0 for p in made)
            phases += [replace(p, axes=()) for p in made]
            start += size
        return phases

    total = lambda outs, ins, attrs, threads: sum(sizes(outs, ins, threads))  # noqa: E731
    return run_c(writer, [c.out for c in cases], [c.x for c in cases], {}, threads, total)


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


def numpy_of(case):
    name, attrs = case.op, dict(case.attrs)
    if name == "cumsum":
        x = np.flip(case.x, attrs["axis"]) if attrs["reverse"] else case.x
        y = np.add.accumulate(x, attrs["axis"], x.dtype)
        return np.flip(y, attrs["axis"]) if attrs["reverse"] else y
    if name.startswith("arg"):
        return getattr(np, name)(case.x, attrs["axis"])
    if name == "sum":
        return np.sum(case.x, axis=attrs["axes"], keepdims=attrs["keepdims"], dtype=case.x.dtype)
    return getattr(np, name)(case.x, axis=attrs["axes"], keepdims=attrs["keepdims"])


def check(cases):
    for c in cases:
        np.testing.assert_array_equal(
            c.out, numpy_of(c), err_msg=f"{c.op} {c.x.dtype} {c.x.shape} {c.x.strides} {c.attrs}"
        )


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "uint32", "uint64", "bool"])
def test_any_axes_of_any_layout(run_c, rng, dtype):
    """Whole numbers, so that sums are exact in any order."""
    x = rng.integers(0, 2 if dtype == "bool" else 9, (2, 3, 1, 5)).astype(dtype)
    sets = [s for n in range(5) for s in combinations(range(4), n)]
    ways = [*layouts(x)]
    cases = []
    for number, which in enumerate(sets if dtype in ("float32", "int32", "bool") else sets[::2]):
        for k, op in enumerate(("max", "min", "sum")[: 2 if dtype == "bool" else 3]):
            chosen = ways if dtype == "float32" and op == "sum" else [ways[(number + k) % 5]]
            cases += [axes(op, source, *which, keepdims=bool(number % 3)) for source in chosen]
    batch(run_c, cases)
    check(cases)


def test_results_may_lie_anywhere(run_c, rng):
    """Strided, reversed and transposed results."""
    x = rng.integers(-9, 9, (12, 20, 30)).astype("float32")
    wide = np.zeros((60, 40), "float32")
    cases = [
        Case("sum", x, np.zeros((24, 60), "float32")[::-2, ::2], axes=(1,), keepdims=False),
        Case("max", x, np.zeros((20, 12), "float32").T, axes=(2,), keepdims=False),
        Case("min", x, wide[::-2, ::-2].T, axes=(0,), keepdims=False),
        Case("cumsum", x, np.zeros((30, 20, 12), "float32").T, axis=1, reverse=False),
        Case("argmax", x, np.zeros((24, 60), "int32")[::-2, ::2], axis=1),
    ]
    assert all(c.out.shape == expected_shape(c.op, c.x, c.attrs) for c in cases)
    batch(run_c, cases)
    check(cases)


@pytest.mark.parametrize("op", ["sum", "max"])
def test_long_reductions_for_any_threads(run_c, k, rng, op):
    """Chunks, lanes, columns and blocks: close to float64 and bit-equal however units are shared out."""
    chosen = k.LONG if op == "sum" else k.LONG[::2]
    inputs = [rng.standard_normal(shape).astype("float32") for shape, _ in chosen]
    outs = []
    for threads in (1, 2, 5) if op == "sum" else (1, 3):
        cases = [axes(op, x, *which) for x, (_, which) in zip(inputs, chosen, strict=True)]
        batch(run_c, cases, threads)
        outs.append([c.out for c in cases])
        for c in cases:
            wide = c.x.astype("float64")
            exact, size = getattr(np, op)(wide, c.attrs["axes"]), np.abs(wide).sum(c.attrs["axes"])
            assert (np.abs(c.out - exact) <= (2e-6 * np.sqrt(size) if op == "sum" else 0)).all()
    for other in outs[1:]:
        for a, b in zip(outs[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_axes_that_are_kept_as_one_need_no_more_memory_than_axes_that_go(run_c, rng):
    """The strides of a kept axis of size 1 say nothing about how to walk it."""
    x = rng.integers(-9, 9, (6, 8, 10)).astype("float32")
    cases = [axes("sum", x, 0, 1, 2, keepdims=keep) for keep in (True, False)]
    batch(run_c, cases)
    check(cases)


def test_a_long_sum_is_as_exact_as_pairwise_summation(run_c):
    """A hundredth, three million times: one float32 accumulator would be off by percents."""
    x = np.full(3_000_000, 0.01, "float32")
    case = axes("sum", x, 0)
    batch(run_c, [case])
    assert abs(case.out / (x[0].astype("float64") * x.size) - 1) < 2e-7


def test_short_and_long_rows_with_nan_and_infinity(run_c, rng):
    """NaN of either sign wins over everything, wherever it stands; infinities and signed zeros are numbers."""
    cases = []
    for n in (1, 2, 10, 17, 93, 300):
        for dtype in ("float32", "float64"):
            x = rng.standard_normal((9, n)).astype(dtype)
            x[0], x[1], x[2] = -np.inf, np.inf, 0.0
            x[3, n // 2], x[4, -1], x[5, 0] = np.nan, -np.nan, np.copysign(np.nan, -1)
            x[6, n // 3] = np.inf
            x[7] = -1e30
            cases += [axes(op, x, a) for op in ("max", "min") for a in ((0, 1) if n > 16 else (1,))]
    batch(run_c, cases)
    check(cases)


def test_extremes_of_integers(run_c):
    """The ends of each range."""
    cases = []
    for dtype in ("int32", "int64", "uint8", "uint32", "uint64"):
        info = np.iinfo(dtype)
        x = np.full((20, 40), info.max, dtype)
        x[3, 5], x[7] = info.min, info.min
        cases += [axes(op, x, *which) for op in ("max", "min", "sum") for which in ((0,), (1,), (0, 1))]
    batch(run_c, cases)
    check(cases)


def test_nothing_to_reduce(run_c):
    """Empty axes sum to zero; empty results are no work; no axes and axes of size 1 copy."""
    x = np.arange(6, dtype="float32").reshape(2, 1, 3)
    cases = [axes("sum", np.zeros((2, 0, 3), "float32"), 1, 2, keepdims=True)]
    cases += [axes("sum", np.zeros((0, 3), "float32"), 0), axes("sum", np.zeros((300, 0), "float32"), 1)]
    cases += [axes(op, x, *which) for op in ("sum", "max", "min") for which in ((), (1,))]
    cases += [axes("sum", np.array(3.0), keepdims=False), axes("max", np.ones((1, 1), "int32"), 0, 1)]
    batch(run_c, cases)
    check(cases)
    for op in ("sum", "max"):
        assert not batch(run_c, [axes(op, np.zeros((0, 3), "float32"), 1)])


def test_a_broadcast_input(run_c, rng):
    """Strides of 0, inside and outside."""
    row = rng.integers(0, 9, (1, 50)).astype("float32")
    cases = []
    for x in (np.broadcast_to(row, (40, 50)), np.broadcast_to(row.T, (50, 40)), np.broadcast_to(row[0, 0], (40, 50))):
        cases += [axes("sum", x, *which) for which in ((0,), (1,), (0, 1))]
    batch(run_c, cases)
    check(cases)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool"])
def test_argument_of_the_first_extremum(run_c, rng, dtype):
    """Ties go to the first index along any axis, in short rows, lanes and columns; the first NaN beats all."""
    cases = []
    shapes = [(3, 4, 5), (2, 777), (0, 5)]
    shapes += [(1, 1), (7,), (9, 64), (30, 200), (5, 2000)] if dtype == "float32" else []
    for shape in shapes:
        x = rng.integers(0, 2 if dtype == "bool" else 5, shape).astype(dtype)
        if dtype.startswith("float") and x.size > 500:
            x[1, 3], x[1, 40], x[-1, -1], x[0, ::2] = np.nan, np.nan, np.nan, -0.0
        ways = [*layouts(x)]
        for axis in range(x.ndim):
            if x.shape[axis]:
                cases += [Case(op, ways[(axis + k) % 5], axis=axis) for k, op in enumerate(("argmax", "argmin"))]
    batch(run_c, cases, threads=2)
    check(cases)


def test_running_sums(run_c, rng):
    """In the order of NumPy, so bit-equal to it; both directions, any axis and layout, bools as or."""
    cases = []
    for x in (
        rng.standard_normal((3, 1, 4)).astype("float32"),
        rng.standard_normal((5, 3000)),
        rng.integers(0, 2**31, (9, 20)).astype("int32"),
    ):
        for number, source in enumerate(layouts(x)):
            directions = enumerate((False, True)) if x.size < 100 else [(0, bool(number % 2))]
            cases += [Case("cumsum", source, axis=(k + number) % x.ndim, reverse=way) for k, way in directions]
    cases += [Case("cumsum", np.array([[0, 1, 0]], bool), axis=1, reverse=False)]
    cases += [Case("cumsum", np.zeros((0, 2)), axis=0, reverse=True)]
    batch(run_c, cases, threads=3)
    check(cases)


def test_an_expression_is_reduced_without_a_temporary(run_c, rng):
    """Values are multiplied on the way, with a broadcast operand; an epilogue takes the results."""
    x, scale = rng.integers(-4, 5, (60, 7, 40)).astype("float32"), rng.integers(1, 3, 40).astype("float32")
    for which in ((0,), (2,), (0, 2), (0, 1, 2), (1,)):
        kept = [n for a, n in enumerate(x.shape) if a not in which]
        out = np.zeros(kept, "float32")
        attrs = {"axes": which, "keepdims": False}

        def writer(outs, ins, attrs, job):
            values, factors = ins

            def element(index):
                return f"({at(values, index)} * {at(factors, index[2:])})"

            return reduction.reduce_of("sum", outs, ins, attrs, job, element)

        def epilogue(index, value, shape=kept):
            where = " + ".join(f"({i}) * {int(np.prod(shape[a + 1 :]))}" for a, i in enumerate(index)) or "0"
            return f"{{ const float y = {value}; p0[{where}] = 2 * y; }}"

        run_c(writer, [out], [x, scale], attrs, 2, reduction.reduce_scratch, epilogue)
        np.testing.assert_array_equal(out, 2 * (x * scale).sum(which))


@pytest.mark.parametrize(
    ("shape", "which"),
    [((40, 30), (1,)), ((1, 40, 30), (2,)), ((40, 10, 30), (1,)), ((12, 4096), (0,)), ((2, 9, 30, 20), (0, 3))],
)
def test_a_unit_keeps_to_its_part(run_c, rng, shape, which):
    """What a phase's axes promise: one unit reads and writes only its own equal part of an array."""
    x = rng.standard_normal(shape).astype("float32")
    whole = axes("sum", x, *which)
    (phase,) = batch(run_c, [whole])
    written, read = promise(whole)
    assert None not in (written, read)
    own, other = part(whole.out, written, 3, phase.units), whole.out.copy()
    other[own] = 77
    hidden, kept = np.full_like(x, np.nan), part(x, read, 3, phase.units)
    hidden[kept] = x[kept]

    def third(outs, ins, attrs, job):
        (phase,) = reduction.sum(outs, ins, attrs, job)
        return [replace(phase, body=f"lo = 3;\nhi = 4;\n{phase.body}", units=1)]

    out = np.full_like(whole.out, 77)
    run_c(third, [out], [hidden], whole.attrs)
    np.testing.assert_array_equal(out[own], whole.out[own])
    out[own] = 77
    assert (out == 77).all()


def promise(case):
    views = [View("p", a.dtype.name, a.shape, tuple(s // a.itemsize for s in a.strides)) for a in (case.out, case.x)]
    return reduction.sum(views[:1], views[1:], case.attrs, Job())[0].axes


def part(array, axis, number, units):
    size = array.shape[axis] // units
    index = [slice(None)] * array.ndim
    index[axis] = slice(number * size, (number + 1) * size)
    return tuple(index)
