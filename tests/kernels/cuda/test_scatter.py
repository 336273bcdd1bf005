"""Scatter-add in CUDA against NumPy's, term by term in the order of the indices."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.cuda import scatter
from graphnet.kernels.cuda.phase import SHARED, WAVE, Job
from graphnet.kernels.text.view import View

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


def case(g, idx, rows, out=None):
    """(out, g, idx)"""
    return filled((rows, *g.shape[idx.ndim :]), g.dtype) if out is None else out, g, idx


def batch(run_cases, cases):
    """The results of all cases, in one text."""
    return run_cases([
        run_cases.Case(scatter.scatter_add, [out], [g, idx], {"rows": len(out)}, scatter.scatter_add_scratch)
        for out, g, idx in cases
    ])  # fmt: skip


def added(g, idx, rows):
    out = np.zeros((rows, *g.shape[idx.ndim :]), g.dtype)
    np.add.at(out, idx, g)
    return out


@pytest.mark.parametrize("tail", [(), (3,), (2, 3), (40,), (300,)])
def test_it_is_the_adjoint_of_take(run_cases, rng, tail):
    """Short rows, long rows, repeated and negative indices, any layout; whole numbers, so that sums are exact."""
    cases = []
    for ids in ((), (0,), (40,), (5, 8), (2, 3, 4)):
        idx = rng.integers(-6, 6, ids).astype("int32")
        g = rng.integers(-4, 5, (*ids, *tail)).astype("float32")
        cases += [case(g, idx, 6), case(strided(g), strided(idx), 6), case(np.ascontiguousarray(g.T).T, idx, 6)]
        cases.append(case(g, idx, 6, strided(filled((6, *tail), "float32"))))
    batch(run_cases, cases)
    for out, g, idx in cases:
        np.testing.assert_array_equal(out, added(g, idx, 6))


def test_every_dtype(run_cases, rng):
    """Integers wrap around, bools are or-ed, a broadcast g has strides of 0, most of many rows stay 0."""
    idx = rng.integers(0, 5, 60).astype("int64")
    cases = [
        case(rng.integers(0, 2, (60, 4)).astype(d), idx, 5) for d in ("float64", "int64", "uint8", "uint64", "bool")
    ]
    cases.append(case(np.full((60, 2), 2**31 - 1, "int32"), idx, 5))
    cases.append(case(np.broadcast_to(np.float32(0.5), (60, 40)), idx, 5))
    cases.append(case(np.broadcast_to(np.float32(0.5), (60,)), idx, 6000))
    cases.append(case(rng.integers(0, 9, (100, 33)).astype("float32"), rng.integers(0, 3000, 100), 3000))
    batch(run_cases, cases)
    for out, g, idx in cases:
        np.testing.assert_array_equal(out, added(g, idx, len(out)))


def test_rows_are_added_in_the_order_of_the_indices(run_cases, rng):
    """The bits are those of adding one after another, also where a unit takes several turns."""
    cases = []
    for shape, rows in (((255, 96), 31), ((50, 5, 20), 200), ((2100, 3), 900)):
        idx = rng.integers(-rows, rows, shape[: len(shape) - 1]).astype("int32")
        g = rng.standard_normal(shape).astype("float32")
        cases += [case(g, idx, rows), case(g, np.zeros_like(idx), rows)]
    results = batch(run_cases, cases)
    for (out, g, idx), result in zip(cases, results, strict=True):
        assert len(result.phases) == 1
        np.testing.assert_array_equal(out, added(g, idx, len(out)))


def test_many_indices_of_few_rows_are_cut_by_their_number(run_cases, rng):
    """Each part is added in order, then the parts: the result has the bits of that."""
    cases, cut = [], []
    for shape, rank, rows, parts in (((3000, 17), 1, 5, 11), ((40, 30, 4, 80), 2, 3, 4), ((1024,), 1, 40, 3)):
        g = rng.standard_normal(shape).astype("float32")
        cases.append(case(g, rng.integers(-rows, rows, shape[:rank]).astype("uint8") % rows, rows))
        cut.append(parts)
    results = batch(run_cases, cases)
    for (out, g, idx), parts, result in zip(cases, cut, results, strict=True):
        assert [p.note for p in result.phases][1:] == [f"sums of {parts} parts"]
        flat, ids = g.reshape(idx.size, *g.shape[idx.ndim :]), idx.reshape(-1)
        step = -(-idx.size // parts)
        want = added(flat[:step], ids[:step], len(out))
        for start in range(step, idx.size, step):
            want += added(flat[start : start + step], ids[start : start + step], len(out))
        np.testing.assert_array_equal(out, want)


def test_bad_indices_are_named_and_add_nothing(run_cases):
    """The largest if one is too large, else the smallest, of all parts; rows around the result stay as they were."""
    cases, wanted = [], []
    for count in (30, 3000):
        for dtype in INTEGERS:
            for bad in (5, -6):
                if bad < 0 and dtype.startswith("u"):
                    continue
                idx = np.arange(count).astype(dtype) % 5
                idx[9], idx[11], idx[-1] = bad, bad * 2, bad
                cases.append(case(np.ones((count, 3), "float32"), idx, 5))
                wanted.append(bad * 2)
    results = batch(run_cases, cases)
    for (out, g, idx), result, bad in zip(cases, results, wanted, strict=True):
        assert result.note == (bad, 5)
        good = (idx.astype("int64") >= -5) & (idx.astype("int64") < 5)
        np.testing.assert_array_equal(out, added(g[good], idx[good], 5))


def test_bad_indices_of_nothing(run_cases):
    """They are reported though nothing would be written."""
    cases = [
        case(np.zeros((2, 3)), np.array([-1, -2]), 0),
        case(np.zeros((2, 0)), np.array([4, 3]), 4),
        case(np.zeros((2, 0)), np.array([-4, 3]), 4),
    ]
    assert [r.note for r in batch(run_cases, cases)] == [(-2, 0), (4, 4), None]


def test_work_is_shared_out():
    """The gradient of a table of characters, and that of a large vocabulary: units for a device, little scratch."""
    for count, rows, width, phases in ((12_800, 92, 1024, 2), (100, 50_000, 512, 1), (1 << 20, 8, 1, 2)):
        out, g = View("out0", "float32", (rows, width), (width, 1)), View("in0", "float32", (count, width), (width, 1))
        idx = View("in1", "int32", (count,), (1,))
        found = scatter.scatter_add([out], [g, idx], {"rows": rows}, Job())
        assert len(found) == phases
        assert found[0].units >= WAVE
        assert found[0].shared <= SHARED
        assert scatter.scatter_add_scratch([out], [g, idx], {"rows": rows}) <= g.nbytes / 8
