"""Pooling in CUDA against the NumPy kernels: geometries, layouts, ties, NaN, hostile indices."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.cuda import pool
from graphnet.kernels.numpy import SCRATCH, TABLE
from graphnet.kernels.numpy import run as run_numpy

NONE = ((0, 0), (0, 0))
CASES = {
    "halves": ((2, 3, 8, 6), (2, 2), (2, 2), NONE),
    "thirds": ((2, 2, 6, 9), (2, 3), (2, 3), NONE),
    "rest is dropped": ((2, 3, 7, 9), (2, 2), (2, 2), NONE),
    "rows are dropped": ((2, 3, 7, 8), (2, 2), (3, 2), NONE),
    "overlapping": ((2, 2, 7, 6), (3, 2), (2, 1), NONE),
    "gaps": ((2, 2, 9, 9), (2, 2), (3, 4), NONE),
    "padded": ((2, 2, 6, 5), (3, 3), (2, 2), ((1, 1), (1, 0))),
    "windows of padding": ((1, 2, 3, 4), (2, 2), (1, 2), ((3, 2), (4, 5))),
    "one by one": ((1, 2, 3, 3), (1, 1), (1, 1), NONE),
    "one column": ((2, 2, 9, 4), (9, 1), (9, 1), NONE),
    "large": ((1, 3, 20, 19), (20, 14), (1, 5), NONE),
    "many": ((3, 20, 16, 10), (4, 2), (4, 2), NONE),
    "no images": ((0, 3, 4, 4), (2, 2), (2, 2), NONE),
}
OPS = ["max_pool", "max_pool_index", "pool_gather", "pool_scatter", "window_sum", "window_spread"]


def spread(x):
    """An equal array, no axis of which is contiguous, reversed along the last."""
    room = np.full([2 * n + 1 for n in x.shape], 77, x.dtype)
    view = room[tuple(slice(1, None, 2) for _ in x.shape)][..., ::-1]
    view[...] = x
    return view


def turned(x):
    """An equal array whose axes lie the other way round in memory."""
    return np.ascontiguousarray(x.T).T


def by_numpy(op, out, *ins, **attrs):
    out = np.full(out.shape, 7, out.dtype)
    if op in SCRATCH:
        attrs["scratch"] = np.zeros(SCRATCH[op](ins, attrs), np.uint8)
    with np.errstate(all="ignore"):
        run_numpy(TABLE[op](out, *ins, **attrs))
    return out


def attributes(case):
    shape, kernel, stride, padding = CASES[case]
    size = ((shape[2 + d] + sum(padding[d]) - kernel[d]) // stride[d] + 1 for d in (0, 1))
    return shape, (*shape[:2], *size), {"kernel": kernel, "stride": stride, "padding": padding}


def numbers(rng, shape, dtype, few=True):
    """With ties if they are few; else all of the range."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("float"):
        return rng.integers(-3, 4, shape).astype(dtype) if few else rng.standard_normal(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return (
        rng.integers(max(-3, limits.min), 4, shape).astype(dtype)
        if few
        else rng.choice(np.array([limits.min, limits.max, 1], dtype), shape)
    )


@pytest.fixture
def check(run_cases):
    """``check([(x, g, idx, attrs, layout), ..])``: all six ops on each, in one text, against NumPy.

    Bit for bit but for the payload of a NaN, and for the sign of a zero that is the sum of nothing but zeros.
    """

    def run(given):
        cases, expected = [], []
        for x, g, idx, attrs, layout in given:
            x, g, idx = layout(x), layout(g), layout(idx)
            new = [layout(np.full(a.shape, 1, a.dtype)) for a in (idx, g, idx, g, x, g, x)]
            image = attrs | {"shape": x.shape}
            operands = [(new[:2], [x]), (new[2:3], [x]), (new[3:4], [x, idx]), (new[4:5], [g, idx]), (new[5:6], [x]),
                        (new[6:], [g])]  # fmt: skip
            chosen = by_numpy("max_pool_index", idx, x, **attrs)
            expected += [
                [chosen, by_numpy("pool_gather", g, x, chosen, **attrs)],
                [chosen],
                [by_numpy("pool_gather", g, x, idx, **attrs)],
                [by_numpy("pool_scatter", x, g, idx, **image)],
                [by_numpy("window_sum", g, x, **attrs)],
                [by_numpy("window_spread", x, g, **image)],
            ]
            for op, (outs, ins) in zip(OPS, operands, strict=True):
                more = image if op in ("pool_scatter", "window_spread") else attrs
                cases.append(run_cases.Case(getattr(pool, op), outs, ins, more))
        run_cases(cases)
        for case, wanted in zip(cases, expected, strict=True):
            name = case.phases.__name__
            for got, want in zip(case.outs, wanted, strict=True):
                np.testing.assert_array_equal(got, want, f"{name} {case.attrs}")
                if "pool" in name and got.dtype.kind == "f":
                    np.testing.assert_array_equal(np.signbit(got)[got == 0], np.signbit(want)[got == 0], name)

    return run


def test_every_op_does_what_numpy_does(check, rng):
    """With random numbers, whose sums show the order; all indices are inside the window."""
    given = []
    for number, case in enumerate(CASES):
        shape, small, attrs = attributes(case)
        x, g = (numbers(rng, s, ("float32", "float64")[number % 2], few=number % 3 == 0) for s in (shape, small))
        idx = rng.integers(0, attrs["kernel"][0] * attrs["kernel"][1], small)
        idx = idx.astype("int32" if number % 2 or case == "large" else "uint8")
        given.append((x, g, idx, attrs, (np.ascontiguousarray, spread, turned)[number % 3]))
    check(given)


def test_every_layout(check, rng):
    """In order, with gaps and reversed, with the axes turned, and the same number everywhere with strides of 0."""
    given = []
    for case in ("halves", "overlapping", "padded"):
        shape, small, attrs = attributes(case)
        x, g = numbers(rng, shape, "float32"), numbers(rng, small, "float32", few=False)
        given += [(x, g, numbers(rng, small, "uint8"), attrs, layout) for layout in (np.asarray, spread, turned)]
    check(given)


def test_operands_with_strides_of_0(run_cases, rng):
    """The gradient of a mean of windows is one number, broadcast."""
    cases, wanted = [], []
    for case in ("halves", "overlapping", "padded"):
        shape, small, attrs = attributes(case)
        g, x = np.broadcast_to(np.float32(0.3), small), np.broadcast_to(np.float32(0.7), shape)
        cases.append(run_cases.Case(pool.window_spread, [np.zeros(shape, "f4")], [g], attrs | {"shape": shape}))
        cases.append(run_cases.Case(pool.window_sum, [np.zeros(small, "f4")], [x], attrs))
        wanted += [by_numpy("window_spread", x, g, shape=shape, **attrs), by_numpy("window_sum", g, x, **attrs)]
    run_cases(cases)
    for case, want in zip(cases, wanted, strict=True):
        np.testing.assert_array_equal(case.outs[0], want)


def test_integers_wrap_around_and_booleans_are_ored(check, rng):
    """The lowest integer is above padding; sums overflow as NumPy's do."""
    given = []
    for dtype in ("int32", "int64", "uint8", "bool"):
        for case in ("halves", "padded"):
            shape, small, attrs = attributes(case)
            x, g = (numbers(rng, s, dtype, few=False) for s in (shape, small))
            given.append((x, g, numbers(rng, small, "int32"), attrs, np.asarray))
    check(given)


def test_nan_infinity_and_zeros_of_either_sign(check, rng):
    """The first NaN beats all, -inf beats padding, -0 ties with 0; nothing leaks into a neighbour."""
    special, given = np.array([np.nan, -np.inf, np.inf, 0.0, -0.0, 1], "float32"), []
    for case in ("halves", "thirds", "overlapping", "padded", "windows of padding"):
        shape, small, attrs = attributes(case)
        x, g = (rng.choice(special, s, p=[0.15, 0.35, 0.05, 0.2, 0.2, 0.05]) for s in (shape, small))
        idx = rng.integers(0, attrs["kernel"][0] * attrs["kernel"][1], small).astype("uint8")
        given.append((x, g, idx, attrs, np.asarray))
    check(given)


def test_indices_that_name_nothing_are_harmless(check, rng):
    """Beyond the window, negative, or of padding: they give 0 and take nothing."""
    given = []
    for index in ("uint8", "int32", "int64"):
        limits = np.iinfo(index)
        some = np.array([0, 1, 3, 4, 5, 6, 200, limits.min, limits.max, limits.max - 1, limits.min + 2], index)
        for case in ("halves", "overlapping", "windows of padding", "gaps"):
            shape, small, attrs = attributes(case)
            x, g = numbers(rng, shape, "float32", few=False), numbers(rng, small, "float32", few=False)
            given.append((x, g, rng.choice(some, small), attrs, np.asarray))
    check(given)


def test_many_windows_with_one_maximum_add_in_the_order_of_places(check, rng):
    """Nine terms of different size: every other order rounds otherwise."""
    attrs = {"kernel": (3, 3), "stride": (1, 1), "padding": ((1, 1), (1, 1))}
    x = np.zeros((2, 3, 8, 8), "float32")
    x[:, :, 1::3, 2::3] = 1
    g = rng.standard_normal(x.shape).astype("float32")
    idx = by_numpy("max_pool_index", np.empty(x.shape, "uint8"), x, **attrs)
    check([(x, g, idx, attrs, np.asarray)])
