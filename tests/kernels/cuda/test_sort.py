"""Sorting in CUDA against NumPy's stable argsort."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.cuda import sort
from graphnet.kernels.text.view import CTYPES


def strided(x):
    """An equal array, no axis of which is contiguous, reversed along the last."""
    wide = np.full([2 * n + 1 for n in x.shape], 77, x.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in x.shape)][..., ::-1]
    view[...] = x
    return view


def numbers(rng, shape, dtype):
    """With many ties; floats with NaN, infinities and zeros of both signs, integers with their extremes."""
    x = rng.integers(0, 2 if dtype == "bool" else 4, shape).astype(dtype)
    if dtype.startswith(("int", "float")):
        x = x * rng.choice([-1, 1], shape).astype(dtype)
    if dtype.startswith("float"):
        x[rng.random(shape) < 0.1] = np.nan
        x[rng.random(shape) < 0.1] = -np.nan
        x[rng.random(shape) < 0.1] = np.inf
    elif dtype != "bool" and x.size > 20:
        x.flat[7], x.flat[9] = np.iinfo(dtype).min, np.iinfo(dtype).max
    return x


def argsort(x, axis, descending, out=None):
    """(out, x, attrs)"""
    return np.full(x.shape, 77, "int32") if out is None else out, x, {"axis": axis, "descending": descending}


def check(run_cases, cases):
    """Runs all cases in one text and compares; returns the number of phases of each."""
    results = run_cases([
        run_cases.Case(sort.argsort, [out], [x], attrs, sort.argsort_scratch) for out, x, attrs in cases
    ])  # fmt: skip
    for out, x, attrs in cases:
        key = x
        if attrs["descending"]:
            key = -x if x.dtype.kind == "f" else ~x
        np.testing.assert_array_equal(out, np.argsort(key, attrs["axis"], kind="stable"))
    return [len(r.phases) for r in results]


@pytest.mark.parametrize("dtype", CTYPES)
def test_argsort_is_stable_both_ways(run_cases, rng, dtype):
    """Equal values keep their order even where the largest come first; NaN come last, zeros are equal."""
    cases = []
    for shape in ((3, 20), (2, 300), (33,), (1, 1), (0, 4), (2, 3, 17), (70, 2)):
        x = numbers(rng, shape, dtype)
        for axis in range(x.ndim):
            for descending in (False, True):
                cases.append(argsort(strided(x) if axis else x, axis, descending))
    cases.append(argsort(cases[0][1], 0, False, strided(np.full((3, 20), 77, "int64"))))
    assert set(check(run_cases, cases)) == {0, 1}


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_long_lines_are_merged(run_cases, rng, dtype, monkeypatch):
    """Runs of 16 make lines that end inside a run, in the first of two, or in the second; along any axis."""
    monkeypatch.setattr(sort, "RUN", 16)
    cases = []
    for shape in ((17,), (32,), (3, 33), (2, 64), (2, 3, 100), (49,), (300,)):
        x = numbers(rng, shape, dtype)
        cases += [argsort(x, x.ndim - 1, False), argsort(strided(x), x.ndim - 1, True)]
        cases.append(argsort(np.ascontiguousarray(np.moveaxis(x, -1, 0)), 0, False))
    assert set(check(run_cases, cases)) == {2, 3, 4, 6}


def test_the_longest_line_of_one_phase_and_the_next(run_cases, rng):
    """Random float64, whose ties are few."""
    cases = [argsort(rng.standard_normal(n), 0, False) for n in (sort.RUN, sort.RUN + 1)]
    assert check(run_cases, cases) == [1, 2]
