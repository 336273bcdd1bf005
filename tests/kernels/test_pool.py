"""Pooling against loops over windows: strides, padding, ties, NaN; adjoints by the dot-product identity."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

NONE = ((0, 0), (0, 0))
CASES = {
    "halves": ((2, 3, 8, 6), (2, 2), (2, 2), NONE),
    "rest is dropped": ((2, 3, 7, 9), (2, 2), (2, 2), NONE),
    "overlapping": ((2, 2, 7, 6), (3, 2), (2, 1), NONE),
    "gaps": ((2, 2, 9, 9), (2, 2), (3, 4), NONE),
    "padded": ((2, 2, 6, 5), (3, 3), (2, 2), ((1, 1), (1, 0))),
    "one by one": ((1, 2, 3, 3), (1, 1), (1, 1), NONE),
    "whole image": ((2, 3, 4, 5), (4, 5), (1, 1), NONE),
    "no images": ((0, 3, 4, 4), (2, 2), (2, 2), NONE),
}


@pytest.fixture(params=CASES)
def case(request, rng):
    """x with ties, g, and the attributes."""
    shape, kernel, stride, padding = CASES[request.param]
    size = ((shape[2 + d] + sum(padding[d]) - kernel[d]) // stride[d] + 1 for d in (0, 1))
    x = rng.integers(-3, 4, shape).astype("float32")
    g = rng.integers(-3, 4, (*shape[:2], *size)).astype("float32")
    return x, g, {"kernel": kernel, "stride": stride, "padding": padding}


def windows(x, shape, a, fill):
    """All windows, row by row: (N, C, oh, ow, kh * kw)."""
    padded = np.pad(x, (*NONE, *a["padding"]), constant_values=fill)
    out = np.empty((*shape, a["kernel"][0] * a["kernel"][1]), x.dtype)
    for y, z in product(range(shape[2]), range(shape[3])):
        top, left = y * a["stride"][0], z * a["stride"][1]
        part = padded[:, :, top : top + a["kernel"][0], left : left + a["kernel"][1]]
        out[:, :, y, z] = part.reshape(*part.shape[:2], out.shape[-1])
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("index", ["uint8", "int32"])
def test_index_is_that_of_the_first_maximum(k, case, dtype, index):
    """Ties go to the first element, padding is never chosen."""
    x, g, attrs = case
    fill = -np.inf if dtype != "int32" else -100
    expected = windows(x.astype(dtype), g.shape, attrs, fill).argmax(-1) if g.size else np.empty(g.shape)
    for view in (np.copy, k.strided):
        out = view(np.empty(g.shape, index))
        np.testing.assert_array_equal(k.execute("max_pool_index", out, view(x.astype(dtype)), **attrs), expected)


def test_nan_is_the_maximum_and_minus_infinity_beats_padding(k):
    """The first NaN of a window is chosen, and only windows that hold one are touched by it."""
    x = np.array([[1, np.nan, 5, 6], [np.nan, 3, 8, 7]], "float32").reshape(1, 1, 2, 4)
    attrs = {"kernel": (2, 2), "stride": (2, 2), "padding": NONE}
    idx = k.execute("max_pool_index", np.empty((1, 1, 1, 2), "uint8"), x, **attrs)
    np.testing.assert_array_equal(idx[0, 0, 0], [1, 2])
    low = np.full((1, 1, 1, 1), -np.inf, "float32")
    attrs = {"kernel": (2, 2), "stride": (1, 1), "padding": ((1, 0), (1, 0))}
    assert k.execute("max_pool_index", np.empty((1, 1, 1, 1), "uint8"), low, **attrs).item() == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gather_picks_what_index_chose(k, case, dtype):
    """Gathering by the index of the maximum gives the maximum, as window_max does."""
    x, g, attrs = case
    x = x.astype(dtype)
    expected = windows(x, g.shape, attrs, -np.inf).max(-1)
    idx = k.execute("max_pool_index", np.empty(g.shape, "uint8"), x, **attrs)
    for view in (np.copy, k.strided):
        out = view(np.empty(g.shape, dtype))
        np.testing.assert_array_equal(k.execute("pool_gather", out, view(x), view(idx), **attrs), expected)
        np.testing.assert_array_equal(k.execute("window_max", out, view(x), **attrs), expected)


def test_gather_and_scatter_do_not_mix_elements(k):
    """Infinity next to the chosen element stays where it is."""
    x = np.array([1, np.inf, 2, 3], "float32").reshape(1, 1, 2, 2)
    attrs = {"kernel": (2, 2), "stride": (2, 2), "padding": NONE}
    idx = np.full((1, 1, 1, 1), 3, "uint8")
    assert k.execute("pool_gather", np.empty((1, 1, 1, 1), "f4"), x, idx, **attrs).item() == 3
    g = np.full((1, 1, 1, 1), np.nan, "f4")
    got = k.execute("pool_scatter", np.empty_like(x), g, idx, shape=x.shape, **attrs)
    np.testing.assert_array_equal(got.ravel(), [0, 0, 0, np.nan])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scatter_is_the_adjoint_of_gather(k, case, dtype):
    """<g, gather(x)> = <scatter(g), x>, exactly, and overlapping windows add."""
    x, g, attrs = (a.astype(dtype) if isinstance(a, np.ndarray) else a for a in case)
    idx = k.execute("max_pool_index", np.empty(g.shape, "uint8"), x, **attrs)
    value = (g * k.execute("pool_gather", np.empty_like(g), x, idx, **attrs)).sum()
    for view in (np.copy, k.strided):
        got = k.execute("pool_scatter", view(x), view(g), view(idx), shape=x.shape, **attrs)
        assert (got * x).sum() == value
        assert np.count_nonzero(got) <= np.count_nonzero(g)


def test_sum_and_its_adjoint(k, case):
    """Padding counts as zero; <g, sum(x)> = <spread(g), x>."""
    x, g, attrs = case
    expected = windows(x, g.shape, attrs, 0).sum(-1)
    for view in (np.copy, k.strided):
        np.testing.assert_array_equal(k.execute("window_sum", view(g), view(x), **attrs), expected)
        spread = k.execute("window_spread", view(x), view(g), shape=x.shape, **attrs)
        assert (spread * x).sum() == (expected * g).sum()


def test_lenet_pooling_allocates_nothing(k):
    """Masks live in scratch."""
    x, y = np.ones((100, 20, 24, 24), "f4"), np.ones((100, 20, 12, 12), "f4")
    idx = np.zeros(y.shape, "uint8")
    attrs = {"kernel": (2, 2), "stride": (2, 2), "padding": NONE}
    assert k.peak(k.bind("max_pool_index", idx, x, **attrs)) < 4096
    assert k.peak(k.bind("pool_gather", y, x, idx, **attrs)) < 4096
    assert k.peak(k.bind("pool_scatter", x, y, idx, shape=x.shape, **attrs)) < 4096
    assert k.peak(k.bind("window_sum", y, x, **attrs)) < 4096
    assert k.peak(k.bind("window_spread", x, y, shape=x.shape, **attrs)) < 4096
