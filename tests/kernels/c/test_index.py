"""Generated gathers, scatters and sorts against NumPy; indices out of range are named and touch nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphnet.kernels.c import index, sort

INTEGERS = ["int32", "int64", "uint8", "uint32"]


def strided(x):
    """An equal array, no axis of which is contiguous, reversed along the last."""
    if not x.ndim:
        return x.copy()
    wide = np.full([2 * n + 1 for n in x.shape], 77, x.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in x.shape)][..., ::-1]
    view[...] = x
    return view


def filled(shape, dtype):
    return np.full(shape, 77).astype(dtype)


def batch(run_c, cases, threads=1):
    """(writer, scratch function or None, out, ins, attrs) of each case, all in one compilation."""

    def sizes(outs, groups, threads):
        wanted = (c[1]([o], g, c[4], threads) if c[1] else 0 for c, o, g in zip(cases, outs, groups, strict=True))
        return [-(-n // 64) * 64 for n in wanted]

    def grouped(ins):
        ins = iter(ins)
        return [[next(ins) for _ in c[3]] for c in cases]

    def writer(outs, ins, attrs, job):
        phases, start, groups = [], 0, grouped(ins)
        for case, out, group, size in zip(cases, outs, groups, sizes(outs, groups, job.threads), strict=True):
            made = case[0]([out], group, case[4], replace(job, scratch=f"(scratch + {start})"))
            assert all(len(p.axes) == 1 + len(group) and p.cost > 0 for p in made)
            phases += [replace(p, axes=(), body=f"{{\n{p.body}\n}}") for p in made]
            start += size
        return phases

    def total(outs, ins, attrs, threads):
        return sum(sizes(outs, grouped(ins), threads))

    return run_c(writer, [c[2] for c in cases], [x for c in cases for x in c[3]], {}, threads, total)


def take(x, idx, out=None):
    return (index.take, None, filled(x[idx].shape, x.dtype) if out is None else out, [x, idx], {})


def scatter(g, idx, rows, out=None):
    shape = (rows, *g.shape[idx.ndim :])
    return (
        index.scatter_add,
        index.scatter_add_scratch,
        filled(shape, g.dtype) if out is None else out,
        [g, idx],
        {"rows": rows},
    )


def added(g, idx, rows):
    out = np.zeros((rows, *g.shape[idx.ndim :]), g.dtype)
    np.add.at(out, idx, g)
    return out


@pytest.mark.parametrize("dtype", INTEGERS)
def test_take_gathers_rows(run_c, rng, dtype):
    """Any integer type, any layout, rows of any shape; negative indices count from the end."""
    cases = []
    for rows, ids in (
        ((5, 3), (4,)),
        ((5,), (2, 3)),
        ((5, 2, 3), ()),
        ((5, 3), (0,)),
        ((5, 0), (2,)),
        ((5, 40), (9, 1, 2)),
    ):
        x = rng.random(rows, "float32")
        idx = rng.integers(0 if dtype.startswith("u") else -5, 5, ids).astype(dtype)
        cases += [
            take(x, idx),
            take(strided(x), strided(idx)),
            take(x.T.copy().T, idx, strided(filled(x[idx].shape, "f4"))),
        ]
    batch(run_c, cases, threads=2)
    for _, _, out, (x, idx), _ in cases:
        np.testing.assert_array_equal(out, x[idx])


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8", "bool"])
def test_take_of_other_tables(run_c, rng, dtype):
    """Rows of every item size, broadcast tables and many indices, which are looked through once."""
    x = rng.integers(0, 2, (7, 6)).astype(dtype)
    idx = rng.integers(-7, 7, (200, 100)).astype("int32")
    cases = [take(x, idx), take(np.broadcast_to(x[:1], (7, 6)), idx[0]), take(x[::-1], idx[:, 0])]
    batch(run_c, cases, threads=3)
    for _, _, out, (x, idx), _ in cases:
        np.testing.assert_array_equal(out, x[idx])


def test_take_hands_rows_to_an_epilogue(run_c, rng):
    """The statement gets every index of the result."""
    x, idx = rng.integers(0, 99, (5, 2, 3)).astype("float32"), np.array([[1, -1, 0, 2]], "int32")
    out = filled((1, 4, 2, 3), "float32")

    def epilogue(i, value):
        return f"p0[({i[0]}) * 24 + ({i[1]}) * 6 + ({i[2]}) * 3 + ({i[3]})] = 2 * {value};"

    run_c(index.take, [out], [x, idx], {}, epilogue=epilogue)
    np.testing.assert_array_equal(out, 2 * x[idx])


HUGE = {"int32": 2**31 - 1, "int64": -(2**63), "uint8": 255, "uint32": 2**32 - 1}


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("many", [False, True])
def test_a_bad_index_is_named_and_touches_nothing(run_c, dtype, many):
    """The largest one if it is too large, else the smallest; neighbours of the arrays stay as they were."""
    idx = np.zeros(20_000 if many else 30, dtype)
    idx[4::7] = 4
    signed = not dtype.startswith("u")
    for bad in (5, HUGE[dtype], *([-6] if signed else [])):
        idx[9], idx[11] = bad, 5 if bad > 0 else -6
        guard = np.full(64 + 5 * 3 + 64, 77, "float32")
        into, table = guard[64:79].reshape(5, 3), np.ones((5, 3), "float32")
        with pytest.raises(run_c.BadIndex, match=f"^index {bad} is out of range for 5 rows"):
            run_c(index.scatter_add, [into], [np.ones((idx.size, 3), "float32"), idx], {"rows": 5})
        assert (guard[:64] == 77).all()
        assert (guard[79:] == 77).all()
        assert (into <= (idx == 0).sum()).all()
        out = filled((idx.size, 3), "float32")
        with pytest.raises(run_c.BadIndex, match=f"^index {bad} is out of range for 5 rows"):
            run_c(index.take, [out], [table, idx])
        assert (out == 1).all()


def test_bad_indices_of_empty_rows_and_of_the_grouping_scatter(run_c):
    """They are reported though nothing would be read or written."""
    with pytest.raises(run_c.BadIndex, match="index 7 is"):
        run_c(index.take, [np.zeros((1, 0))], [np.zeros((7, 0)), np.array([7])])
    with pytest.raises(run_c.BadIndex, match="index -2 is out of range for 0 rows"):
        run_c(index.scatter_add, [np.zeros((0, 3))], [np.zeros((2, 3)), np.array([-1, -2])], {"rows": 0})
    g, idx, out = np.ones((3000, 96), "float32"), np.zeros(3000, "int64"), filled((4, 96), "float32")
    idx[7], idx[8] = 2**62, -(2**63)
    with pytest.raises(run_c.BadIndex, match=f"index {2**62} is out of range for 4 rows"):
        run_c(index.scatter_add, [out], [g, idx], {"rows": 4}, 2, index.scatter_add_scratch)
    np.testing.assert_array_equal(out, [[2998.0] * 96] + [[0.0] * 96] * 3)


@pytest.mark.parametrize("wrap", [False, True])
def test_bounded_counts_from_the_start(run_c, rng, wrap):
    """Its own indices pass; others are named."""
    cases = []
    for dtype in INTEGERS:
        low = 0 if dtype.startswith("u") or not wrap else -6
        for shape in ((3, 40), (), (0,), (300, 90)):
            idx = rng.integers(low, 6, shape).astype(dtype)
            for source in (idx, strided(idx)):
                cases.append((index.bounded, None, filled(shape, dtype), [source], {"size": 6, "wrap": wrap}))
    batch(run_c, cases, threads=2)
    for _, _, out, (idx,), _ in cases:
        np.testing.assert_array_equal(out, np.remainder(idx, np.array(6, idx.dtype)))
    for bad in (6, -7 if wrap else -1):
        with pytest.raises(run_c.BadIndex, match=f"index {bad} is out of range for 6 rows"):
            run_c(index.bounded, [filled(3, "int32")], [np.array([0, bad, 5], "int32")], {"size": 6, "wrap": wrap})


@pytest.mark.parametrize("tail", [(), (3,), (2, 3), (40,), (64,), (8, 9)])
def test_scatter_add_is_the_adjoint_of_take(run_c, rng, tail):
    """Short rows, long rows, repeated and negative indices, any layout; whole numbers, so that sums are exact."""
    cases = []
    for ids in ((), (0,), (40,), (5, 8), (2, 3, 4)):
        idx = rng.integers(-6, 6, ids).astype("int32")
        g = rng.integers(-4, 5, (*ids, *tail)).astype("float32")
        cases += [
            scatter(g, idx, 6),
            scatter(strided(g), strided(idx), 6),
            scatter(np.ascontiguousarray(g.T).T, idx, 6),
        ]
        cases.append(scatter(g, idx, 6, strided(filled((6, *tail), "float32"))))
    batch(run_c, cases, threads=3)
    for _, _, out, (g, idx), _ in cases:
        np.testing.assert_array_equal(out, added(g, idx, 6))


def test_scatter_add_of_every_dtype(run_c, rng):
    """Integers wrap around, bools are or-ed, a broadcast g has strides of 0."""
    idx = rng.integers(0, 5, 60).astype("int64")
    cases = [
        scatter(rng.integers(0, 2, (60, 4)).astype(d), idx, 5) for d in ("float64", "int64", "uint8", "uint64", "bool")
    ]
    cases.append(scatter(np.full((60, 2), 2**31 - 1, "int32"), idx, 5))
    cases.append(scatter(np.broadcast_to(np.float32(0.5), (60, 40)), idx, 5))
    cases.append(scatter(np.broadcast_to(np.float32(0.5), (60,)), idx, 6000))
    batch(run_c, cases, threads=2)
    for _, _, out, (g, idx), attrs in cases:
        np.testing.assert_array_equal(out, added(g, idx, attrs["rows"]))


@pytest.mark.parametrize(("shape", "rank"), [((3000, 96), 1), ((60, 50, 100), 2), ((900, 4, 80), 1)])
def test_scatter_add_in_order_for_any_threads(run_c, rng, shape, rank):
    """Grouping by row keeps the order of additions, so the bits are those of adding one after another."""
    g = rng.standard_normal(shape).astype("float32")
    for idx in (rng.integers(-30, 30, shape[:rank]).astype("int32"), np.zeros(shape[:rank], "uint8")):
        for threads in (1, 2, 7):
            case = scatter(g, idx, 31)
            phases = batch(run_c, [case], threads)
            assert len(phases) == 2
            np.testing.assert_array_equal(case[2], added(g, idx, 31))


def test_place_is_the_adjoint_of_a_slice(run_c, rng):
    """x lands where the slice would read, zero elsewhere; steps may be negative."""
    cases = []
    for n, starts, steps, size in [
        ((6,), (1,), (2,), (3,)),
        ((6,), (5,), (-1,), (6,)),
        ((6,), (4,), (-2,), (2,)),
        ((6,), (0,), (1,), (6,)),
        ((6,), (3,), (1,), (0,)),
        ((5,), (4,), (-2,), (3,)),
        ((5, 6), (4, 0), (-3, 5), (2, 2)),
        ((20, 6), (3, 0), (4, 1), (4, 6)),
        ((20, 6), (0, 5), (1, -2), (20, 3)),
        ((3, 20, 6), (2, 1, 0), (-1, 3, 1), (2, 5, 6)),
        ((2, 30), (0, 29), (1, -1), (2, 30)),
        ((), (), (), ()),
        ((0, 3), (0, 1), (1, 1), (0, 1)),
    ]:
        x = rng.random(size)
        attrs = {"shape": n, "starts": starts, "steps": steps}
        cases += [
            (index.place, None, o, [v], attrs)
            for o in (filled(n, x.dtype), strided(filled(n, x.dtype)))
            for v in (x, strided(x))
        ]
    batch(run_c, cases, threads=2)
    for _, _, out, (x,), attrs in cases:
        steps = zip(attrs["starts"], attrs["steps"], x.shape, strict=True)
        expected = np.zeros(out.shape)
        expected[np.ix_(*(start + step * np.arange(m) for start, step, m in steps))] = x
        np.testing.assert_array_equal(out, expected)


def test_iota_is_the_index_along_an_axis(run_c):
    """Of every dtype; small integers wrap around."""
    cases = []
    for dtype in ("float32", "float64", "int32", "int64", "uint8", "uint32", "uint64", "bool"):
        for shape, axis in (((300, 2), 0), ((3, 4), 1), ((1, 1), 0), ((0, 2), 0), ((2, 1, 5), 2)):
            attrs = {"shape": shape, "axis": axis, "dtype": dtype}
            cases += [(index.iota, None, o, [], attrs) for o in (filled(shape, dtype), strided(filled(shape, dtype)))]
    batch(run_c, cases, threads=2)
    for _, _, out, _, attrs in cases:
        np.testing.assert_array_equal(out, np.indices(out.shape)[attrs["axis"]].astype(out.dtype))


def argsort(x, axis, descending, out=None):
    attrs = {"axis": axis, "descending": descending}
    return (sort.argsort, sort.argsort_scratch, filled(x.shape, "int32") if out is None else out, [x], attrs)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "uint32", "uint64", "bool"])
def test_argsort_is_stable_both_ways(run_c, rng, dtype):
    """Equal values keep their order even where the largest come first; NaN come last, zeros are equal."""
    cases = []
    for shape in ((3, 20), (2, 500), (33,), (1, 1), (0, 4), (2, 3, 17)):
        x = rng.integers(0, 2 if dtype == "bool" else 4, shape).astype(dtype)
        if dtype.startswith(("int", "float")):
            x = x * rng.choice([-1, 1], shape).astype(dtype)
        if dtype.startswith("float"):
            x[rng.random(shape) < 0.1] = np.nan
            x[rng.random(shape) < 0.1] = -np.nan
            x[rng.random(shape) < 0.1] = np.inf
        elif dtype != "bool" and x.size > 20:
            x.flat[7], x.flat[9] = np.iinfo(dtype).min, np.iinfo(dtype).max
        for axis in range(x.ndim):
            for descending in (False, True):
                cases.append(argsort(strided(x) if axis else x, axis, descending))
    cases.append(argsort(cases[0][3][0], 0, False, strided(filled((3, 20), "int64"))))
    batch(run_c, cases, threads=2)
    for _, _, out, (x,), attrs in cases:
        key = x
        if attrs["descending"]:
            key = -x if dtype.startswith("float") else ~x
        np.testing.assert_array_equal(out, np.argsort(key, attrs["axis"], kind="stable"))
