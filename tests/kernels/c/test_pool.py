"""Pooling in C against the NumPy kernels: geometries, layouts, ties, NaN, hostile indices, sharing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphnet.kernels.c import conv_text, pool
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
def run_all(run_c):
    """``run_all(x, g, idx, attrs, layout, threads)``: results of all six ops, out of one file.

    They are idx and values of max_pool, idx of max_pool_index, pool_gather, pool_scatter, window_sum, window_spread.
    """

    def run(x, g, idx, attrs, layout=np.ascontiguousarray, threads=1):
        x, g, idx = layout(x), layout(g), layout(idx)
        outs = [layout(np.full(a.shape, 1, a.dtype)) for a in (idx, g, idx, g, x, g, x)]
        operands = [(2, (0,)), (1, (0,)), (1, (0, 2)), (1, (1, 2)), (1, (0,)), (1, (1,))]

        def writer(outs, ins, attrs, job):
            made, outs = [], list(outs)
            for op, (count, read) in zip(OPS, operands, strict=True):
                own = [outs.pop(0) for _ in range(count)]
                more = {"shape": ins[0].shape} if op in ("pool_scatter", "window_spread") else {}
                views = [ins[k] for k in read]
                for phase in getattr(pool, op)(own, views, attrs | more, job):
                    for axis, view in zip(phase.axes, (*own, *views), strict=bool(phase.axes)):
                        assert axis is None or phase.units == 1 or view.shape[axis] % phase.units == 0
                    made.append(replace(phase, axes=()))
            return made

        run_c(writer, outs, [x, g, idx], attrs, threads)
        return outs

    return run


def check_all(results, x, g, idx, attrs):
    """Against NumPy, bit for bit but for the payload of a NaN."""
    chosen = by_numpy("max_pool_index", idx, x, **attrs)
    expected = [
        chosen,
        by_numpy("pool_gather", g, x, chosen, **attrs),
        chosen,
        by_numpy("pool_gather", g, x, idx, **attrs),
        by_numpy("pool_scatter", x, g, idx, shape=x.shape, **attrs),
        by_numpy("window_sum", g, x, **attrs),
        by_numpy("window_spread", x, g, shape=x.shape, **attrs),
    ]
    for name, got, want in zip((OPS[0], *OPS), results, expected, strict=True):
        np.testing.assert_array_equal(got, want, name)
        if "pool" in name and x.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(got)[got == 0], np.signbit(want)[got == 0], name)


@pytest.mark.parametrize("case", CASES)
def test_every_op_does_what_numpy_does(run_all, rng, case):
    """With random numbers, whose sums show the order; all indices are inside the window."""
    shape, small, attrs = attributes(case)
    number = list(CASES).index(case)
    x, g = (numbers(rng, s, ("float32", "float64")[number % 2], few=number % 3 == 0) for s in (shape, small))
    idx = rng.integers(0, attrs["kernel"][0] * attrs["kernel"][1], small)
    idx = idx.astype("int32" if number % 2 or case == "large" else "uint8")
    layout = (np.ascontiguousarray, spread, turned)[number % 3]
    check_all(run_all(x, g, idx, attrs, layout, threads=2), x, g, idx, attrs)


@pytest.mark.parametrize("case", ["halves", "overlapping", "padded"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, spread, turned])
def test_every_layout(run_all, rng, case, layout):
    shape, small, attrs = attributes(case)
    x, g, idx = numbers(rng, shape, "float32"), numbers(rng, small, "float32", few=False), numbers(rng, small, "uint8")
    check_all(run_all(x, g, idx, attrs, layout), x, g, idx, attrs)


@pytest.mark.parametrize("case", ["halves", "padded"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_integers_wrap_around_and_booleans_are_ored(run_all, rng, case, dtype):
    """The lowest integer is above padding; sums overflow as NumPy's do."""
    shape, small, attrs = attributes(case)
    x, g, idx = (*(numbers(rng, s, dtype, few=False) for s in (shape, small)), numbers(rng, small, "int32"))
    check_all(run_all(x, g, idx, attrs, threads=3), x, g, idx, attrs)


@pytest.mark.parametrize("case", ["halves", "thirds", "overlapping", "padded", "windows of padding"])
def test_nan_infinity_and_zeros_of_either_sign(run_all, rng, case):
    """The first NaN beats all, -inf beats padding, -0 ties with 0; nothing leaks into a neighbour."""
    shape, small, attrs = attributes(case)
    special = np.array([np.nan, -np.inf, np.inf, 0.0, -0.0, 1], "float32")
    x, g = (rng.choice(special, s, p=[0.15, 0.35, 0.05, 0.2, 0.2, 0.05]) for s in (shape, small))
    idx = rng.integers(0, attrs["kernel"][0] * attrs["kernel"][1], small).astype("uint8")
    check_all(run_all(x, g, idx, attrs), x, g, idx, attrs)


@pytest.mark.parametrize("index", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("case", ["halves", "overlapping", "windows of padding", "gaps"])
def test_indices_that_name_nothing_are_harmless(run_all, rng, case, index):
    """Beyond the window, negative, or of padding: they give 0 and take nothing."""
    shape, small, attrs = attributes(case)
    x, g = numbers(rng, shape, "float32", few=False), numbers(rng, small, "float32", few=False)
    limits = np.iinfo(index)
    idx = rng.choice(np.array([0, 1, 3, 4, 5, 6, 200, limits.min, limits.max], index), small)
    idx.reshape(-1)[:2] = limits.max - 1, limits.min + 2
    check_all(run_all(x, g, idx, attrs), x, g, idx, attrs)


def test_many_windows_with_one_maximum_add_in_the_order_of_places(run_all, rng):
    """Nine terms of different size: every other order rounds otherwise."""
    attrs = {"kernel": (3, 3), "stride": (1, 1), "padding": ((1, 1), (1, 1))}
    x = np.zeros((2, 3, 8, 8), "float32")
    x[:, :, 1::3, 2::3] = 1
    g = rng.standard_normal(x.shape).astype("float32")
    idx = by_numpy("max_pool_index", np.empty(x.shape, "uint8"), x, **attrs)
    check_all(run_all(x, g, idx, attrs), x, g, idx, attrs)


def test_threads_and_blocks_do_not_change_results(run_all, rng, monkeypatch):
    """Also where a large image is dealt out by its channels, and where a row is cut for want of room."""
    shape, attrs = (1, 5, 120, 130), {"kernel": (3, 2), "stride": (2, 2), "padding": ((1, 0), (2, 1))}
    x, g = numbers(rng, shape, "float32", few=False), numbers(rng, (1, 5, 60, 66), "float32", few=False)
    idx = rng.integers(0, 6, g.shape).astype("uint8")
    check_all(run_all(x, g, idx, attrs, threads=3), x, g, idx, attrs)
    for module in (pool, conv_text):
        monkeypatch.setattr(module, "WIDEST", 40)
    monkeypatch.setattr(conv_text, "_BLOCK", 100)
    check_all(run_all(x, g, idx, attrs, threads=2), x, g, idx, attrs)
    attrs = {"kernel": (2, 2), "stride": (2, 2), "padding": NONE}
    x, idx = x[:, :, :, :-2].copy(), idx[:, :, :, :64] % 4
    g = g[:, :, :, :64].copy()
    check_all(run_all(x, g, idx, attrs, threads=2), x, g, idx, attrs)


def test_images_are_units(run_c):
    """Unit u touches image u of every operand, or channel u of a single large image."""
    attrs = {"kernel": (2, 2), "stride": (2, 2), "padding": NONE}
    for shape, units, axis in [((6, 2, 4, 4), 6, 0), ((1, 9, 100, 100), 9, 1), ((1, 9, 4, 4), 1, 0)]:
        x = np.ones(shape, "float32")
        out = np.ones((*shape[:2], shape[2] // 2, shape[3] // 2), "float32")
        (phase,) = run_c(pool.max_pool, [np.ones(out.shape, "uint8"), out], [x], attrs)
        assert (phase.units, phase.axes) == (units, (axis,) * 3)
