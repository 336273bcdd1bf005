"""Gathers and placements in CUDA against NumPy; indices out of range are named and touch nothing."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.cuda import index, nest

INTEGERS = ["int32", "int64", "uint8", "uint32"]
HUGE = {"int32": 2**31 - 1, "int64": -(2**63), "uint8": 255, "uint32": 2**32 - 1}


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


def take(x, idx, out=None):
    """(writer, out, ins, attrs)"""
    return index.take, filled(x[idx].shape, x.dtype) if out is None else out, [x, idx], {}


def batch(run_cases, cases):
    """The results of all cases, in one text."""
    return run_cases([run_cases.Case(writer, [out], ins, attrs) for writer, out, ins, attrs in cases])


def test_take_gathers_rows(run_cases, rng):
    """Any integer type, any layout, rows of any shape; negative indices count from the end."""
    cases = []
    for dtype in INTEGERS:
        for rows, ids in (((5, 3), (4,)), ((5,), (2, 3)), ((5, 2, 3), ()), ((5, 3), (0,)), ((5, 0), (2,)),
                          ((5, 40), (9, 1, 2))):  # fmt: skip
            x = rng.random(rows, "float32")
            idx = rng.integers(0 if dtype.startswith("u") else -5, 5, ids).astype(dtype)
            cases += [
                take(x, idx),
                take(strided(x), strided(idx)),
                take(x.T.copy().T, idx, strided(filled(x[idx].shape, "f4"))),
            ]
    results = batch(run_cases, cases)
    for (_, out, (x, idx), _), result in zip(cases, results, strict=True):
        np.testing.assert_array_equal(out, x[idx])
        assert result.note is None


def test_take_of_other_tables(run_cases, rng, monkeypatch):
    """Rows of every item size, broadcast and reversed tables; several elements a thread."""
    monkeypatch.setattr(nest, "per_thread", lambda total, most=4: most)
    cases = []
    for dtype in ("float64", "int64", "uint8", "bool"):
        x = rng.integers(0, 2, (7, 6)).astype(dtype)
        idx = rng.integers(-7, 7, (70, 3)).astype("int32")
        cases += [take(x, idx), take(np.broadcast_to(x[:1], (7, 6)), idx[0]), take(x[::-1], idx[:, 0])]
    batch(run_cases, cases)
    for _, out, (x, idx), _ in cases:
        np.testing.assert_array_equal(out, x[idx])


def test_take_hands_rows_to_an_epilogue(run_cuda, rng):
    """The statement gets every index of the result."""
    x, idx = rng.integers(0, 99, (5, 2, 3)).astype("float32"), np.array([[1, -1, 0, 2]], "int32")
    out = filled((1, 4, 2, 3), "float32")

    def epilogue(i, value):
        return f"out0[({i[0]}) * 24 + ({i[1]}) * 6 + ({i[2]}) * 3 + ({i[3]})] = 2 * {value};"

    run_cuda(index.take, [out], [x, idx], {}, epilogue=epilogue)
    np.testing.assert_array_equal(out, 2 * x[idx])


def test_a_bad_index_is_named_and_reads_row_0(run_cases):
    """The largest one if it is too large, else the smallest, whichever units meet one."""
    cases, wanted = [], []
    for dtype in INTEGERS:
        for bad in (5, HUGE[dtype], *([] if dtype.startswith("u") else [-6])):
            idx = np.zeros(600, dtype)
            idx[9], idx[11], idx[500] = bad, 5 if bad > 0 else -6, bad
            cases.append(take(np.ones((5, 3), "float32"), idx, filled((600, 3), "float32")))
            wanted.append(bad)
    for (_, out, _, _), result, bad in zip(cases, batch(run_cases, cases), wanted, strict=True):
        assert result.note == (bad, 5)
        assert (out == 1).all()


def test_bad_indices_of_empty_rows(run_cases):
    """They are reported though nothing would be read; good ones of empty rows are not."""
    cases = [
        take(np.zeros((7, 0)), np.array([7]), np.zeros((1, 0))),
        take(np.zeros((0, 3)), np.array([-2, -1]), np.zeros((2, 3))),
        take(np.zeros((7, 0)), np.array([-7, 6]), np.zeros((2, 0))),
    ]
    assert [r.note for r in batch(run_cases, cases)] == [(7, 7), (-2, 0), None]


@pytest.mark.parametrize("wrap", [False, True])
def test_bounded_counts_from_the_start(run_cases, rng, wrap):
    """Its own indices pass; others are named, and give 0."""
    cases = []
    for dtype in INTEGERS:
        low = 0 if dtype.startswith("u") or not wrap else -6
        for shape in ((3, 40), (), (0,), (30, 29)):
            idx = rng.integers(low, 6, shape).astype(dtype)
            for source in (idx, strided(idx)):
                cases.append((index.bounded, filled(shape, dtype), [source], {"size": 6, "wrap": wrap}))
    good = len(cases)
    for bad in (6, -7 if wrap else -1):
        idx = np.array([1, bad, 5], "int32")
        cases.append((index.bounded, filled(3, "int32"), [idx], {"size": 6, "wrap": wrap}))
    results = batch(run_cases, cases)
    for _, out, (idx,), _ in cases[:good]:
        np.testing.assert_array_equal(out, np.remainder(idx, np.array(6, idx.dtype)))
    for (_, out, (idx,), _), result in zip(cases[good:], results[good:], strict=True):
        assert result.note == (idx[1], 6)
        assert out.tolist() == [1, 0, 5]
    assert all(r.note is None for r in results[:good])


def test_place_is_the_adjoint_of_a_slice(run_cases, rng):
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
            (index.place, o, [v], attrs)
            for o in (filled(n, x.dtype), strided(filled(n, x.dtype)))
            for v in (x, strided(x))
        ]
    batch(run_cases, cases)
    for _, out, (x,), attrs in cases:
        steps = zip(attrs["starts"], attrs["steps"], x.shape, strict=True)
        expected = np.zeros(out.shape)
        expected[np.ix_(*(start + step * np.arange(m) for start, step, m in steps))] = x
        np.testing.assert_array_equal(out, expected)


def test_iota_is_the_index_along_an_axis(run_cases):
    """Of every dtype; small integers wrap around."""
    cases = []
    for dtype in ("float32", "float64", "int32", "int64", "uint8", "uint32", "uint64", "bool"):
        for shape, axis in (((300, 2), 0), ((3, 4), 1), ((1, 1), 0), ((0, 2), 0), ((2, 1, 5), 2)):
            attrs = {"shape": shape, "axis": axis, "dtype": dtype}
            cases += [(index.iota, o, [], attrs) for o in (filled(shape, dtype), strided(filled(shape, dtype)))]
    batch(run_cases, cases)
    for _, out, _, attrs in cases:
        np.testing.assert_array_equal(out, np.indices(out.shape)[attrs["axis"]].astype(out.dtype))
