"""Convolution against a loop that spells the definition; its adjoints by the dot-product identity."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import signal

PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}

CASES = {
    "plain": ((2, 3, 7, 6), (4, 3, 3, 2), {}),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "one by one": ((3, 4, 5, 5), (2, 4, 1, 1), {}),
    "whole image": ((2, 3, 4, 5), (6, 3, 4, 5), {}),
    "stride": ((2, 2, 9, 8), (3, 2, 3, 3), {"stride": (2, 3)}),
    "stride leaves a rest": ((1, 2, 8, 8), (3, 2, 3, 3), {"stride": (3, 2)}),
    "padding": ((2, 2, 5, 4), (3, 2, 3, 3), {"padding": ((1, 1), (1, 1))}),
    "uneven padding": ((2, 2, 5, 4), (3, 2, 3, 3), {"padding": ((0, 2), (3, 1))}),
    "padding beyond the image": ((1, 1, 2, 2), (1, 1, 2, 2), {"padding": ((3, 3), (4, 2)), "stride": (2, 2)}),
    "dilation": ((2, 2, 9, 9), (3, 2, 3, 2), {"dilation": (2, 3)}),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 3), {"groups": 2}),
    "depthwise": ((2, 4, 6, 6), (4, 1, 3, 3), {"groups": 4, "padding": ((1, 1), (1, 1))}),
    "all of it": (
        (3, 4, 9, 8),
        (6, 2, 3, 2),
        {"stride": (2, 1), "padding": ((2, 1), (0, 1)), "dilation": (1, 2), "groups": 2},
    ),
    "no images": ((0, 2, 5, 5), (3, 2, 3, 3), {}),
    "several blocks": ((9, 2, 90, 90), (2, 2, 3, 3), {}),
}


def out_shape(x, w, a):
    size = (
        (x[2 + d] + sum(a["padding"][d]) - a["dilation"][d] * (w[2 + d] - 1) - 1) // a["stride"][d] + 1 for d in (0, 1)
    )
    return (x[0], w[0], *size)


def by_definition(x, w, a):
    """One strided product for each tap of the kernel, in float64."""
    out = np.zeros(out_shape(x.shape, w.shape, a))
    padded = np.pad(x.astype("float64"), ((0, 0), (0, 0), *a["padding"]))
    (sh, sw), (dh, dw) = a["stride"], a["dilation"]
    outputs, inputs = w.shape[0] // a["groups"], w.shape[1]
    for group, i, j in product(range(a["groups"]), range(w.shape[2]), range(w.shape[3])):
        image = padded[:, group * inputs : (group + 1) * inputs, i * dh :: sh, j * dw :: sw]
        image = image[:, :, : out.shape[2], : out.shape[3]]
        part = slice(group * outputs, (group + 1) * outputs)
        out[:, part] += np.einsum("nchw,oc->nohw", image, w[part, :, i, j])
    return out


@pytest.fixture(params=CASES)
def case(request, rng):
    """x, w and g of small integers, so that all sums are exact, and the attributes."""
    x, w, changes = CASES[request.param]
    attrs = PLAIN | changes
    return *(rng.integers(-3, 4, s) for s in (x, w, out_shape(x, w, attrs))), attrs


def test_reference_agrees_with_scipy(rng):
    """The tester tested: SciPy's correlation of one image."""
    x, w = rng.random((1, 1, 6, 7)), rng.random((1, 1, 3, 2))
    np.testing.assert_allclose(by_definition(x, w, PLAIN)[0, 0], signal.correlate2d(x[0, 0], w[0, 0], "valid"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_conv2d_follows_its_definition(k, case, dtype):
    """In every layout of operands and result."""
    x, w, _, attrs = case
    x, w = x.astype(dtype), w.astype(dtype)
    expected = by_definition(x, w, attrs)
    out = np.empty(expected.shape, dtype)
    np.testing.assert_array_equal(k.execute("conv2d", out, x, w, **attrs), expected)
    got = k.execute("conv2d", k.strided(out), k.strided(x), k.strided(w), **attrs)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adjoints_satisfy_the_dot_product_identity(k, case, dtype):
    """<g, conv(x, w)> = <conv2d_input(g, w), x> = <conv2d_weight(x, g), w>, exactly."""
    x, w, g, attrs = case
    value = (by_definition(x, w, attrs) * g).sum()
    x, w, g = (a.astype(dtype) for a in (x, w, g))
    for view in (np.copy, k.strided):
        of_x = k.execute("conv2d_input", view(x), view(g), view(w), shape=x.shape, **attrs)
        of_w = k.execute("conv2d_weight", view(w), view(x), view(g), shape=w.shape, **attrs)
        assert (of_x.astype("float64") * x).sum() == value
        assert (of_w.astype("float64") * w).sum() == value


def test_adjoints_follow_single_taps(k, rng):
    """The gradient of one output in one weight is the pixel it meets, and in one pixel the weight."""
    attrs = PLAIN | {"stride": (2, 2), "padding": ((1, 0), (0, 1))}
    x, w = rng.random((1, 1, 5, 5)), rng.random((1, 1, 3, 2))
    g = np.zeros(out_shape(x.shape, w.shape, attrs))
    g[0, 0, 1, 1] = 1
    of_w = k.execute("conv2d_weight", np.empty_like(w), x, g, shape=w.shape, **attrs)
    np.testing.assert_array_equal(of_w[0, 0], x[0, 0, 1:4, 2:4])
    of_x = k.execute("conv2d_input", np.empty_like(x), g, w, shape=x.shape, **attrs)
    expected = np.zeros((5, 5))
    expected[1:4, 2:4] = w[0, 0]
    np.testing.assert_array_equal(of_x[0, 0], expected)


@pytest.mark.parametrize(("c", "size", "o"), [(1, 28, 20), (20, 12, 50)])
def test_lenet_convolutions_allocate_nothing(k, c, size, o):
    """Patches and products live in scratch, which stays small whatever the batch."""
    x, w = np.ones((100, c, size, size), "f4"), np.ones((o, c, 5, 5), "f4")
    g = np.ones(out_shape(x.shape, w.shape, PLAIN), "f4")
    bound = [
        k.bind("conv2d", np.empty_like(g), x, w, **PLAIN),
        k.bind("conv2d_input", np.empty_like(x), g, w, shape=x.shape, **PLAIN),
        k.bind("conv2d_weight", np.empty_like(w), x, g, shape=w.shape, **PLAIN),
    ]
    for calls in bound:
        assert k.peak(calls) < 4096
        assert calls[-1][1][-1].nbytes < 1 << 24
