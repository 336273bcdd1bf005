"""Convolution in CUDA: every geometry and layout against its definition, parts of terms, epilogues, and infinities."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from graphnet.kernels.cuda import conv, conv_parts, gemm_phases
from graphnet.kernels.cuda.gemm_plan import Plan
from graphnet.kernels.cuda.gemm_tensor import TensorTile
from graphnet.kernels.cuda.gemm_tile import Side, Tile
from graphnet.kernels.cuda.phase import Job
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


def all_three(run_cases, x, w, g, attrs, layout=np.ascontiguousarray):
    """Cases of the three ops on new arrays, and their results."""
    x, w, g = layout(x), layout(w), layout(g)
    y, gx, gw = (layout(np.full(a.shape, 55, a.dtype)) for a in (g, x, w))
    jobs = [
        ("conv2d", y, (x, w), attrs),
        ("conv2d_input", gx, (g, w), attrs | {"shape": x.shape}),
        ("conv2d_weight", gw, (x, g), attrs | {"shape": w.shape}),
    ]
    cases = [
        run_cases.Case(getattr(conv, op), [out], ins, more, scratch=getattr(conv, f"{op}_scratch"))
        for op, out, ins, more in jobs
    ]
    return cases, (y, gx, gw)


def integers(rng, x, w, attrs, dtype="float32"):
    """x, w and g of small integers, so that all sums are exact."""
    return [rng.integers(-3, 4, s).astype(dtype) for s in (x, w, out_shape(x, w, attrs))]


def normal(rng, x, w, attrs, dtype="float32"):
    return [rng.standard_normal(s).astype(dtype) for s in (x, w, out_shape(x, w, attrs))]


def check(results, expected):
    for name, got, want in zip(("y", "gradient of x", "gradient of w"), results, expected, strict=True):
        np.testing.assert_array_equal(got, want, name)


NUMBERS = dict(zip(CASES, range(len(CASES)), strict=True))


@pytest.mark.parametrize("names", [list(CASES)[i::3] for i in range(3)], ids=str)
def test_all_three_follow_their_definition(run_cases, rng, names):
    """In contiguous and strided layouts; float32 and float64 in turn."""
    cases, found = [], []
    for name in names:
        x, w, changes = CASES[name]
        attrs, number = PLAIN | changes, NUMBERS[name]
        arrays = integers(rng, x, w, attrs, ("float32", "float64")[number % 2])
        for layout in (LAYOUTS[0], LAYOUTS[1 + number % 3]):
            more, made = all_three(run_cases, *arrays, attrs, layout)
            cases += more
            found.append((made, by_definition(*arrays, attrs)))
    run_cases(cases)
    for made, expected in found:
        check(made, expected)


WAYS = {
    "large": (Tile(Side(8, 4), Side(16, 4), 16), 1),
    "small, in parts": (Tile(Side(4, 2), Side(4, 4), 32), 4),
    "odd, in parts": (Tile(Side(4, 5), Side(8, 3), 32), 3),
    "tensor": (TensorTile(Side(1, 16), Side(4, 16), 16), 1),
    "tensor, in parts": (TensorTile(Side(2, 16), Side(1, 24), 32), 3),
}


@pytest.mark.parametrize("name", WAYS)
def test_other_tiles_and_parts_of_terms_give_the_same(run_cases, rng, monkeypatch, name):
    """Whatever the model of costs chooses; kernels of one element are read in runs of 4."""
    monkeypatch.setattr(gemm_phases, "choose", lambda shape: Plan(*WAYS[name], 0.0))
    cases, found = [], []
    for x, w, attrs in (((3, 4, 9, 8), (22, 2, 3, 2), EVERYTHING), ((4, 8, 6, 6), (12, 8, 1, 1), PLAIN)):
        arrays = integers(rng, x, w, attrs)
        more, made = all_three(run_cases, *arrays, attrs)
        cases += more
        found.append((made, by_definition(*arrays, attrs)))
    results = run_cases(cases)
    for made, expected in found:
        check(made, expected)
    assert "gn_fetch<4>(&right_next" in results[3].phases[0].body
    assert len(results[2].phases) == (2 if "parts" in name else 1)


def test_rows_of_any_number_are_compared_where_they_must_be(run_cases, rng, monkeypatch):
    """What is not there has a row far outside if that has a number; else loads ask for lines and terms as well."""
    attrs = PLAIN | {"padding": ((1, 2), (0, 1))}
    arrays = integers(rng, (3, 3, 6, 6), (5, 3, 3, 3), attrs)
    for near in (conv_parts.NEAR, 0):
        monkeypatch.setattr(conv_parts, "NEAR", near)
        cases, made = all_three(run_cases, *arrays, attrs)
        results = run_cases(cases)
        check(made, by_definition(*arrays, attrs))
        assert ("right_in[q]" in results[0].phases[0].body) == (near == 0)


def test_images_do_not_mix(run_cases, rng):
    """What is NaN in one image stays there."""
    x, w, g = normal(rng, (4, 2, 7, 7), (5, 2, 3, 3), PLAIN)
    x[1], g[2] = np.nan, np.nan
    cases, (y, gx, _) = all_three(run_cases, x, w, g, PLAIN)
    run_cases(cases[:2])
    np.testing.assert_array_equal(np.isnan(y).all((1, 2, 3)), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(y).any((1, 2, 3)), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(gx).any((1, 2, 3)), [False, False, True, False])


def test_infinities_reach_what_they_meet_and_nothing_else(run_cases, rng):
    """What is beyond an edge is zero on both sides, so that no infinity is multiplied by padding of a tile.

    In the gradient of the image, elements that the stride passes over or that the border cuts off are zeros, too.
    """
    batches = []
    for attrs in (PLAIN, PLAIN | {"stride": (2, 3)}, EVERYTHING):
        x, w, g = integers(rng, (3, 4, 9, 8), (6, 4 // attrs["groups"], 3, 2), attrs, "float64")
        x[0, 1, 0, 0] = x[2, 3, 8, 7] = np.inf
        g[1, 2, -1, -1] = -np.inf
        ones = [np.ones_like(a) for a in (x, w, g)]
        for changed, which in (((x, w, ones[2]), (0, 2)), ((ones[0], w, g), (1, 2))):
            cases, results = all_three(run_cases, *changed, attrs)
            batches += [(cases[i], results[i], changed, attrs, i) for i in which]
    run_cases([b[0] for b in batches])
    for case, got, _, _, _ in batches:
        op, ins, more = case.phases.__name__, case.ins, case.attrs
        want = np.empty_like(got)
        with np.errstate(all="ignore"):
            run_numpy(TABLE[op](want, *ins, scratch=np.zeros(SCRATCH[op](ins, more), np.uint8), **more))
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want), op)


def test_the_epilogue_gets_each_result_once(run_cases, rng):
    """Bias and relu, and a count of visits."""
    cases, found = [], []
    for attrs in (PLAIN, PLAIN | {"groups": 2, "padding": ((1, 1), (0, 2))}):
        x, w, g = integers(rng, (2, 4, 9, 8), (14, 4 // attrs["groups"], 3, 3), attrs)
        bias, visits = rng.integers(-9, 9, 14).astype("float32"), np.zeros(g.shape, "int32")
        y = np.full_like(g, 55)

        def epilogue(index, value, pixels=g[0, 0].size):
            n, o, p = index
            place = f"({n} * 14 + {o}) * {pixels} + {p}"
            store = f"out0[{place}] = v > 0 ? v : 0;\nextra1[{place}] += 1;"
            return f"const float v = {value} + extra0[{o}];\n{store}"

        cases.append(run_cases.Case(conv.conv2d, [y], (x, w), attrs, 0, epilogue, (bias, visits)))
        found.append((y, visits, by_definition(x, w, g, attrs)[0] + bias[:, None, None]))
    run_cases(cases)
    for y, visits, want in found:
        np.testing.assert_array_equal(y, np.maximum(want, 0))
        assert (visits == 1).all()


@pytest.mark.parametrize("way", [None, *WAYS])
def test_epilogues_of_gradients_get_each_element_once(run_cases, rng, monkeypatch, way):
    """Twice the value and a count of visits; strides that leave pixels over, groups, rows outermost, terms in parts."""
    if way:
        monkeypatch.setattr(gemm_phases, "choose", lambda shape: Plan(*WAYS[way], 0.0))
    cases, found = [], []
    for attrs in (PLAIN, EVERYTHING, PLAIN | {"stride": (2, 3), "padding": ((1, 1), (0, 2))}):
        arrays = integers(rng, (3, 4, 9, 8), (14, 4 // attrs["groups"], 3, 2), attrs)
        more, made = all_three(run_cases, *arrays, attrs)
        for case, out, want in zip(more[1:], made[1:], by_definition(*arrays, attrs)[1:], strict=True):
            visits = np.zeros(out.shape, "int32")

            def epilogue(index, value, shape=out.shape):
                first, second, rest = index
                place = f"({first} * {shape[1]} + {second}) * {shape[2] * shape[3]} + {rest}"
                return f"out0[{place}] = 2 * {value};\nextra0[{place}] += 1;"

            case.epilogue, case.extra = epilogue, (visits,)
            cases.append(case)
            found.append((out, visits, want))
    run_cases(cases)
    for out, visits, want in found:
        np.testing.assert_array_equal(out, 2 * want)
        assert (visits == 1).all()


def test_nothing_to_sum_gives_zeros(run_cases):
    """No images give no work, an empty image inside padding zeros; an epilogue still sees them."""
    padded = PLAIN | {"padding": ((2, 1), (2, 1))}
    cases, found = [], []
    for x, w, attrs in [((0, 2, 5, 5), (3, 2, 3, 3), PLAIN), ((2, 2, 0, 4), (3, 2, 2, 2), padded)]:
        g = np.ones(out_shape(x, w, attrs), "float32")
        more, results = all_three(run_cases, np.ones(x, "float32"), np.ones(w, "float32"), g, attrs)
        cases += more
        found += results
    y = np.ones((2, 3, 2, 6), "float32")
    ins = np.ones((2, 2, 0, 4), "float32"), np.ones((3, 2, 2, 2), "float32")

    def epilogue(i, v):
        return f"out0[({i[0]} * 3 + {i[1]}) * 12 + {i[2]}] = {v} + 4;"

    run_cases([*cases, run_cases.Case(conv.conv2d, [y], ins, padded, epilogue=epilogue)])
    assert all((r == 0).all() for r in found)
    assert (y == 4).all()


def lenet(op, batch, c, size, o):
    """Views of one of LeNet's convolutions."""
    x, w, y = (
        View(name, "float32", shape, tuple(int(np.prod(shape[i + 1 :])) for i in range(4)))
        for name, shape in (("x", (batch, c, size, size)), ("w", (o, c, 5, 5)), ("y", (batch, o, size - 4, size - 4)))
    )
    return {"conv2d": ([y], [x, w]), "conv2d_input": ([x], [y, w]), "conv2d_weight": ([w], [x, y])}[op]


@pytest.mark.parametrize(("c", "size", "o"), [(1, 28, 20), (20, 12, 50)])
def test_lenet(run_cases, rng, c, size, o):
    """Within rounding of float64; enough units for all multiprocessors, with scratch that the batch does not change."""
    arrays = normal(rng, (2, c, size, size), (o, c, 5, 5), PLAIN)
    cases, results = all_three(run_cases, *arrays, PLAIN)
    run_cases(cases)
    for got, want in zip(results, by_definition(*arrays, PLAIN), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5 * np.abs(want).max())
    for op in ("conv2d", "conv2d_input", "conv2d_weight"):
        for batch in (100, 1000):
            outs, ins = lenet(op, batch, c, size, o)
            phases = getattr(conv, op)(outs, ins, PLAIN, Job())
            assert phases[0].units >= 64
            assert all(p.shared <= 48 * 1024 for p in phases)
            scratch = getattr(conv, f"{op}_scratch")(outs, ins, PLAIN)
            assert scratch < 1 << 23 if op == "conv2d_weight" else scratch == 0


def test_the_text_is_the_same_every_time():
    """And it names the way it was done."""
    outs, ins = lenet("conv2d", 100, 1, 28, 20)
    first, second = (conv.conv2d(outs, ins, PLAIN, Job()) for _ in range(2))
    assert first == second
    assert first[0].note.startswith("tiles of")
