"""Convolution in C: every geometry and layout against its definition, sharing, epilogues, and numbers that are none."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from graphnet.kernels.c import conv, conv_weight
from graphnet.kernels.c.phase import Job
from graphnet.kernels.c.tile import ISAS, targeting
from graphnet.kernels.numpy import SCRATCH, TABLE
from graphnet.kernels.numpy import run as run_numpy
from graphnet.kernels.text.view import View

PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
EVERYTHING = {"stride": (2, 1), "padding": ((2, 1), (0, 1)), "dilation": (1, 2), "groups": 2}
CASES = {
    "plain": ((2, 3, 7, 6), (4, 3, 3, 2), {}),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "one by one": ((3, 4, 5, 5), (2, 4, 1, 1), {}),
    "one by one, strided": ((3, 4, 7, 8), (2, 4, 1, 1), {"stride": (3, 2)}),
    "whole image": ((9, 3, 4, 5), (6, 3, 4, 5), {}),
    "whole vectors": ((3, 2, 10, 18), (7, 2, 3, 3), {}),
    "stride": ((2, 2, 9, 8), (3, 2, 3, 3), {"stride": (2, 3)}),
    "stride leaves a rest": ((1, 2, 8, 8), (3, 2, 3, 3), {"stride": (3, 2)}),
    "stride beyond the kernel": ((2, 2, 13, 13), (3, 2, 2, 3), {"stride": (5, 4), "dilation": (2, 1)}),
    "padding": ((2, 2, 5, 4), (3, 2, 3, 3), {"padding": ((1, 1), (1, 1))}),
    "uneven padding": ((2, 2, 5, 4), (3, 2, 3, 3), {"padding": ((0, 2), (3, 1))}),
    "padding beyond the image": ((1, 1, 2, 2), (1, 1, 2, 2), {"padding": ((3, 3), (4, 2)), "stride": (2, 2)}),
    "dilation": ((2, 2, 9, 9), (3, 2, 3, 2), {"dilation": (2, 3)}),
    "dilation and stride share a factor": ((2, 2, 19, 9), (3, 2, 3, 2), {"dilation": (4, 2), "stride": (6, 2)}),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 3), {"groups": 2}),
    "depthwise": ((2, 4, 6, 6), (4, 1, 3, 3), {"groups": 4, "padding": ((1, 1), (1, 1))}),
    "all of it": ((3, 4, 9, 8), (6, 2, 3, 2), EVERYTHING),
    "many images": ((40, 2, 6, 6), (23, 2, 3, 3), {}),
}


def out_shape(x, w, a):
    size = (
        (x[2 + d] + sum(a["padding"][d]) - a["dilation"][d] * (w[2 + d] - 1) - 1) // a["stride"][d] + 1 for d in (0, 1)
    )
    return (x[0], w[0], *size)


def taps(x, w, y, a):
    """For each group and kernel element: slices of the padded image, of the weights and of the result."""
    (sh, sw), (dh, dw) = a["stride"], a["dilation"]
    inputs, outputs = w[1], w[0] // a["groups"]
    for group, i, j in product(range(a["groups"]), range(w[2]), range(w[3])):
        rows, columns = (slice(k, k + (n - 1) * s + 1, s) for k, n, s in ((i * dh, y[2], sh), (j * dw, y[3], sw)))
        channels, made = (slice(group * n, (group + 1) * n) for n in (inputs, outputs))
        yield np.s_[:, channels, rows, columns], np.s_[made, :, i, j], np.s_[:, made]


def by_definition(x, w, g, a):
    """y, and the gradients of x and w, in float64, one product for each kernel element."""
    (top, bottom), (left, right) = a["padding"]
    image = np.pad(x.astype("float64"), ((0, 0), (0, 0), (top, bottom), (left, right)))
    w, g = w.astype("float64"), g.astype("float64")
    y, of_image, of_w = np.zeros(g.shape), np.zeros(image.shape), np.zeros(w.shape)
    for met, weight, made in taps(x.shape, w.shape, g.shape, a):
        y[made] += np.einsum("nchw,oc->nohw", image[met], w[weight])
        of_image[met] += np.einsum("nohw,oc->nchw", g[made], w[weight])
        of_w[weight] += np.einsum("nohw,nchw->oc", g[made], image[met])
    return y, of_image[:, :, top : top + x.shape[2], left : left + x.shape[3]], of_w


def spread(x):
    """An equal array, no axis of which is contiguous, reversed along the last."""
    room = np.full([2 * n + 1 for n in x.shape], 77, x.dtype)
    view = room[tuple(slice(1, None, 2) for _ in x.shape)][..., ::-1]
    view[...] = x
    return view


def turned(x):
    """An equal array whose axes lie the other way round in memory."""
    return np.ascontiguousarray(x.T).T


def channels_first(x):
    """An equal array that holds a channel of all images, or an input channel of all weights, in one piece."""
    return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)


LAYOUTS = [np.ascontiguousarray, spread, turned, channels_first]


@pytest.fixture
def run_all(run_c):
    """``run_all(jobs, threads)``: runs (op, out, ins, attrs) one after the other, out of one file."""

    def run(jobs, threads=1, epilogue=None, extra=()):
        jobs = [(op, [out], list(ins), attrs) for op, out, ins, attrs in jobs]

        def split(outs, ins):
            outs, ins = list(outs), list(ins)
            for op, own, read, attrs in jobs:
                yield op, [outs.pop(0) for _ in own], [ins.pop(0) for _ in read], attrs

        def writer(outs, ins, attrs, job):
            made = []
            for op, own, read, attributes in split(outs, ins):
                for phase in getattr(conv, op)(own, read, attributes, job):
                    for axis, view in zip(phase.axes, (*own, *read), strict=bool(phase.axes)):
                        assert axis is None or phase.units == 1 or view.shape[axis] % phase.units == 0
                    made.append(replace(phase, axes=()))
            return made

        def scratch(outs, ins, attrs, threads):
            return max(getattr(conv, f"{op}_scratch")(o, i, a, threads) for op, o, i, a in split(outs, ins))

        outs = [out for _, own, _, _ in jobs for out in own]
        ins = [x for _, _, read, _ in jobs for x in read]
        return run_c(writer, outs, ins, {}, threads, scratch, epilogue, extra)

    return run


def all_three(x, w, g, attrs, layout=np.ascontiguousarray):
    """Jobs of the three ops on new arrays, and their results."""
    x, w, g = layout(x), layout(w), layout(g)
    y, gx, gw = (layout(np.full(a.shape, 55, a.dtype)) for a in (g, x, w))
    jobs = [
        ("conv2d", y, (x, w), attrs),
        ("conv2d_input", gx, (g, w), attrs | {"shape": x.shape}),
        ("conv2d_weight", gw, (x, g), attrs | {"shape": w.shape}),
    ]
    return jobs, (y, gx, gw)


def integers(rng, x, w, attrs, dtype="float32"):
    """x, w and g of small integers, so that all sums are exact."""
    return [rng.integers(-3, 4, s).astype(dtype) for s in (x, w, out_shape(x, w, attrs))]


def normal(rng, x, w, attrs, dtype="float32"):
    return [rng.standard_normal(s).astype(dtype) for s in (x, w, out_shape(x, w, attrs))]


def check(results, expected):
    for name, got, want in zip(("y", "gradient of x", "gradient of w"), results, expected, strict=True):
        np.testing.assert_array_equal(got, want, name)


@pytest.mark.parametrize("name", CASES)
def test_all_three_follow_their_definition(run_all, rng, name):
    """In contiguous and strided layouts, shared by three threads; float32 and float64 in turn."""
    x, w, changes = CASES[name]
    attrs = PLAIN | changes
    number = list(CASES).index(name)
    jobs, results = [], []
    arrays = integers(rng, x, w, attrs, ("float32", "float64")[number % 2])
    expected = by_definition(*arrays, attrs)
    for layout in (LAYOUTS[0], LAYOUTS[1 + number % 3]):
        more, made = all_three(*arrays, attrs, layout)
        jobs += more
        results.append(made)
    run_all(jobs, threads=3)
    for made in results:
        check(made, expected)


@pytest.mark.parametrize("isa", ISAS)
def test_every_vector_length_gives_the_same(run_all, rng, isa):
    """Tiles for other machines are plain C and compute the same here."""
    arrays = integers(rng, (5, 4, 9, 8), (6, 2, 3, 2), EVERYTHING)
    jobs, results = all_three(*arrays, EVERYTHING)
    with targeting(isa):
        run_all(jobs, threads=2)
    check(results, by_definition(*arrays, EVERYTHING))


@pytest.mark.parametrize(
    ("x", "w", "attrs"),
    [
        ((21, 3, 12, 12), (10, 3, 5, 5), PLAIN),
        ((2, 4, 40, 24), (6, 2, 3, 2), EVERYTHING),
    ],
)
def test_bits_do_not_depend_on_threads(run_all, rng, monkeypatch, x, w, attrs):
    """Also where images are cut in bands of rows and blocks of channels, for want of images or memory."""
    for module in (conv, conv_weight):
        monkeypatch.setattr(module, "ROWS_BYTES", 4 << 10)
    monkeypatch.setattr(conv, "_LARGE", 1000)
    monkeypatch.setattr(conv_weight, "_NEAR", 1 << 10)
    arrays = normal(rng, x, w, attrs)
    expected = by_definition(*arrays, attrs)
    found = []
    for threads in (1, 2, 5):
        jobs, results = all_three(*arrays, attrs)
        phases = run_all(jobs, threads)
        found.append(results)
    assert len(phases) == 5
    assert min(p.units for p in phases) > 1
    for results in found:
        for got, first, want in zip(results, found[0], expected, strict=True):
            assert got.tobytes() == first.tobytes()
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_images_do_not_mix(run_all, rng):
    """A unit reads and writes its own image: what is NaN in one stays there."""
    x, w, g = normal(rng, (4, 2, 7, 7), (5, 2, 3, 3), PLAIN)
    x[1], g[2] = np.nan, np.nan
    jobs, (y, gx, _) = all_three(x, w, g, PLAIN)
    run_all(jobs[:2], threads=4)
    np.testing.assert_array_equal(np.isnan(y).all((1, 2, 3)), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(y).any((1, 2, 3)), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(gx).any((1, 2, 3)), [False, False, True, False])


@pytest.mark.parametrize("attrs", [PLAIN, PLAIN | {"stride": (2, 3)}, EVERYTHING])
def test_infinities_reach_what_they_meet_and_nothing_else(run_all, rng, attrs):
    """Lanes behind the last pixel, and rows behind the last tile, are cut off, not multiplied by zero."""
    x, w, g = integers(rng, (3, 4, 9, 8), (6, 4 // attrs["groups"], 3, 2), attrs, "float64")
    x[0, 1, 0, 0] = x[2, 3, 8, 7] = np.inf
    g[1, 2, -1, -1] = -np.inf
    ones = [np.ones_like(a) for a in (x, w, g)]
    large = ones[1].copy()
    large[2, 0, 1, 0] = np.inf
    for changed, which in (((x, w, ones[2]), (0, 2)), ((ones[0], w, g), (1, 2)), ((ones[0], large, ones[2]), (0, 1))):
        jobs, results = all_three(*changed, attrs)
        run_all(jobs, threads=2)
        for k in which:
            op, out, ins, more = jobs[k]
            want = np.empty_like(out)
            with np.errstate(all="ignore"):
                run_numpy(TABLE[op](want, *ins, scratch=np.zeros(SCRATCH[op](ins, more), np.uint8), **more))
            np.testing.assert_array_equal(np.isfinite(results[k]), np.isfinite(want), op)


@pytest.mark.parametrize("attrs", [PLAIN, PLAIN | {"groups": 2, "padding": ((1, 1), (0, 2))}])
def test_the_epilogue_gets_each_result_once(run_all, rng, attrs):
    """Bias and relu, and a count of visits: tiles that overlap hand on what is new."""
    x, w, g = integers(rng, (2, 4, 9, 8), (14, 4 // attrs["groups"], 3, 3), attrs)
    bias, visits = rng.integers(-9, 9, 14).astype("float32"), np.zeros(g.shape, "int32")
    y, pixels = np.full_like(g, 55), g[0, 0].size

    def epilogue(index, value):
        n, o, p = index
        place = f"({n} * 14L + {o}) * {pixels}L + {p}"
        return f"const float v = {value} + p3[{o}];\np0[{place}] = v > 0 ? v : 0;\np4[{place}] += 1;"

    run_all([("conv2d", y, (x, w), attrs)], 2, epilogue, (bias, visits))
    want = by_definition(x, w, g, attrs)[0] + bias[:, None, None]
    np.testing.assert_array_equal(y, np.maximum(want, 0))
    assert (visits == 1).all()


def test_nothing_to_sum_gives_zeros(run_all):
    """No images give no work, an empty image inside padding zeros; an epilogue still sees them."""
    padded = PLAIN | {"padding": ((2, 1), (2, 1))}
    for x, w, attrs in [((0, 2, 5, 5), (3, 2, 3, 3), PLAIN), ((2, 2, 0, 4), (3, 2, 2, 2), padded)]:
        g = np.ones(out_shape(x, w, attrs), "float32")
        jobs, results = all_three(np.ones(x, "float32"), np.ones(w, "float32"), g, attrs)
        run_all(jobs, threads=2)
        check(results, [np.zeros(r.shape) for r in results])
    y = np.ones((2, 3, 2, 6), "float32")
    ins = np.ones((2, 2, 0, 4), "float32"), np.ones((3, 2, 2, 2), "float32")
    run_all([("conv2d", y, ins, padded)], epilogue=lambda i, v: f"p0[({i[0]} * 3 + {i[1]}) * 12 + {i[2]}] = {v} + 4;")
    assert (y == 4).all()


@pytest.mark.parametrize(("c", "size", "o"), [(1, 28, 20), (20, 12, 50)])
def test_lenet(run_all, rng, c, size, o):
    """Within rounding of float64, with scratch that does not grow with the batch but for sums of its chunks."""
    arrays = normal(rng, (6, c, size, size), (o, c, 5, 5), PLAIN)
    jobs, results = all_three(*arrays, PLAIN)
    run_all(jobs)
    for got, want in zip(results, by_definition(*arrays, PLAIN), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5 * np.abs(want).max())

    def scratch(op, batch):
        x = View("x", "float32", (batch, c, size, size), (c * size**2, size**2, size, 1))
        w = View("w", "float32", (o, c, 5, 5), (c * 25, 25, 5, 1))
        y = View("y", "float32", (batch, o, size - 4, size - 4), (o * (size - 4) ** 2, (size - 4) ** 2, size - 4, 1))
        outs, ins = {"conv2d": ([y], [x, w]), "conv2d_input": ([x], [y, w]), "conv2d_weight": ([w], [x, y])}[op]
        return getattr(conv, f"{op}_scratch")(outs, ins, PLAIN, 2)

    assert all(scratch(op, 1000) == scratch(op, 100) < 1 << 18 for op in ("conv2d", "conv2d_input"))
    assert scratch("conv2d_weight", 1000) < 1 << 21


def test_the_text_is_the_same_every_time():
    """And it names the way it was done."""
    x = View("x", "float32", (100, 1, 28, 28), (784, 784, 28, 1))
    w = View("w", "float32", (20, 1, 5, 5), (25, 25, 5, 1))
    y = View("y", "float32", (100, 20, 24, 24), (11520, 576, 24, 1))
    first, second = (conv.conv2d([y], [x, w], PLAIN, Job()) for _ in range(2))
    assert first == second
    (phase,) = first
    assert phase.units == 100
    assert phase.axes == (0, 0, None)
    assert phase.note.startswith("implicit GEMM")
