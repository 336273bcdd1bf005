"""The gradient of an image in CUDA where rows of the kernel are left out that lie beyond the border."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from graphnet.kernels.cuda import conv, conv_input, gemm_phases
from graphnet.kernels.cuda.conv_input import Adjoint
from graphnet.kernels.cuda.conv_parts import conv_of
from graphnet.kernels.cuda.gemm_phases import text_of
from graphnet.kernels.cuda.gemm_plan import Plan, Shape, choose
from graphnet.kernels.cuda.gemm_tensor import TensorTile
from graphnet.kernels.cuda.gemm_tile import Side, Tile
from graphnet.kernels.cuda.phase import Job
from graphnet.kernels.numpy import SCRATCH, TABLE
from graphnet.kernels.numpy import run as run_numpy
from graphnet.kernels.text.view import View

PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
CASES = {
    "several images": ((5, 3, 7, 6), (4, 3, 5, 3), {}),
    "one image": ((1, 2, 9, 7), (3, 2, 4, 3), {}),
    "kernel as large as the image": ((3, 2, 4, 5), (3, 2, 4, 5), {}),
    "kernel larger than the image": ((2, 2, 3, 4), (3, 2, 5, 3), {"padding": ((1, 2), (0, 1))}),
    "padding beyond the image": ((2, 1, 2, 2), (2, 1, 2, 2), {"padding": ((3, 3), (4, 2)), "stride": (2, 2)}),
    "uneven padding": ((2, 2, 6, 4), (3, 2, 4, 3), {"padding": ((0, 2), (3, 1))}),
    "dilation": ((2, 2, 11, 9), (3, 2, 3, 2), {"dilation": (3, 2)}),
    "stride of two": ((3, 2, 11, 8), (3, 2, 5, 3), {"stride": (2, 1)}),
    "stride of three": ((2, 2, 13, 9), (3, 2, 5, 3), {"stride": (3, 2), "padding": ((2, 0), (1, 1))}),
    "stride beyond the kernel": ((2, 2, 13, 13), (3, 2, 2, 3), {"stride": (5, 4), "dilation": (2, 1)}),
    "dilation and stride share a factor": ((2, 2, 19, 9), (3, 2, 3, 2), {"dilation": (4, 2), "stride": (6, 2)}),
    "dilation beyond the stride": ((2, 2, 14, 9), (3, 2, 4, 2), {"dilation": (3, 1), "stride": (2, 1)}),
    "groups": ((3, 6, 6, 5), (4, 3, 4, 3), {"groups": 2, "padding": ((1, 0), (1, 1))}),
    "groups and strides": ((3, 4, 9, 8), (6, 2, 4, 3), {"groups": 2, "stride": (3, 2), "dilation": (2, 1)}),
}


def geometry(x, w, changes):
    attrs = PLAIN | changes
    size = (
        (x[2 + d] + sum(attrs["padding"][d]) - attrs["dilation"][d] * (w[2 + d] - 1) - 1) // attrs["stride"][d] + 1
        for d in (0, 1)
    )
    return attrs, (x[0], w[0], *size)


def view(name, shape):
    return View(name, "float32", shape, tuple(int(np.prod(shape[i + 1 :])) for i in range(4)))


def adjoint(x, w, changes):
    attrs, g = geometry(x, w, changes)
    return Adjoint.of(conv_of(view("x", x), view("w", w), view("g", g), attrs))


def by_numpy(x, w, g, attrs):
    """The gradient that the numpy kernel computes."""
    out = np.empty(x, g.dtype)
    more = attrs | {"shape": x}
    scratch = np.zeros(SCRATCH["conv2d_input"]([g, w], more), np.uint8)
    run_numpy(TABLE["conv2d_input"](out, g, w, scratch=scratch, **more))
    return out


def case_of(run_cases, out, g, w, attrs):
    more = attrs | {"shape": out.shape}
    return run_cases.Case(conv.conv2d_input, [out], (g, w), more, scratch=conv.conv2d_input_scratch)


@pytest.fixture
def tiled(monkeypatch):
    """``tiled(tile, parts)``: products are cut that way from now on, and every gradient has rows outermost."""

    def cut(tile, parts=1):
        monkeypatch.setattr(conv_input, "SKIPPED", 0.0)
        monkeypatch.setattr(gemm_phases, "choose", lambda shape: Plan(tile, parts, 0.0))

    return cut


TILES = {
    "less than a row": (Tile(Side(4, 1), Side(4, 1), 16), 1),
    "over borders of rows": (Tile(Side(4, 2), Side(8, 4), 8), 1),
    "in two parts": (Tile(Side(4, 1), Side(16, 1), 8), 2),
    "in more parts than chunks": (Tile(Side(2, 2), Side(4, 3), 32), 5),
    "on tensor cores": (TensorTile(Side(1, 16), Side(1, 8), 64), 2),
}


@pytest.mark.parametrize("name", TILES)
def test_what_is_left_out_is_zero(run_cases, rng, tiled, name):
    """Every geometry in every cut gives what the numpy kernel gives, in integers."""
    tiled(*TILES[name])
    cases, found = [], []
    for x, w, changes in CASES.values():
        attrs, shape = geometry(x, w, changes)
        assert adjoint(x, w, changes).span
        g, weights = (rng.integers(-3, 4, s).astype("float32") for s in (shape, w))
        out = np.full(x, 55, "float32")
        cases.append(case_of(run_cases, out, g, weights, attrs))
        found.append((out, by_numpy(x, weights, g, attrs)))
    run_cases(cases)
    for label, (got, want) in zip(CASES, found, strict=True):
        np.testing.assert_array_equal(got, want, label)


@pytest.mark.parametrize("parts", [1, 3])
def test_tiles_go_through_the_terms_that_are_counted_and_no_others(run_cases, tiled, parts):
    """A row of the kernel that is NaN makes those tiles NaN that have it among their terms."""
    tile = Tile(Side(4, 1), Side(8, 1), 8)
    tiled(tile, parts)
    cases, found = [], []
    for label in ("several images", "stride of three", "groups and strides"):
        x, w, changes = CASES[label]
        attrs, shape = geometry(x, w, changes)
        for row in range(w[2]):
            weights = np.ones(w, "float32")
            weights[:, :, row] = np.nan
            out = np.zeros(x, "float32")
            cases.append(case_of(run_cases, out, np.ones(shape, "float32"), weights, attrs))
            found.append((out, poisoned(adjoint(x, w, changes), tile.columns.size, row)))
    run_cases(cases)
    for got, want in found:
        np.testing.assert_array_equal(np.isnan(got), want)


def poisoned(made, wide, row):
    """Pixels in tiles that go through this row of the kernel, in all images and channels."""
    conv, span = made.conv, made.span
    images, _, height, width = conv.x.shape
    found = np.zeros(conv.x.shape, bool)
    for h, n, v in product(range(height), range(images), range(width)):
        residue, across = h % conv.rows.stride, v % conv.columns.stride
        entry = residue * conv.columns.residues + across
        column = (h // conv.rows.stride * images + n) * conv.columns.pixels + v // conv.columns.stride
        begin = column // wide * wide
        end = min(begin + wide, made.n)
        first = conv.rows.first(residue)[0]
        met = [first + t * conv.rows.step for t in range(conv.rows.taps)]
        low, high = (span.terms_of(entry, begin, end)[x] // span.terms for x in (0, 1))
        found[n, :, h, v] = row in met[low:high] and conv.columns.first(across)[0] < conv.columns.kernel
    return found


def test_no_tile_leaves_out_an_element_that_is_met():
    """By trying all pixels and elements, for tiles of 1 to 9 columns; one row of pixels has nothing superfluous."""
    for x, w, changes in CASES.values():
        conv, made = adjoint(x, w, changes).conv, adjoint(x, w, changes).rows_needed()
        rows, n = conv.rows, adjoint(x, w, changes).n
        for residue in range(rows.residues):
            needed = [met_by(rows, p * rows.stride + residue) for p in range(rows.pixels)]
            for wide in (1, 2, 5, 9):
                for begin in range(0, n, wide):
                    end = min(begin + wide, n)
                    low, high = made.terms_of(residue * made.below, begin, end)
                    blocks = range(begin // made.width, (end - 1) // made.width + 1)
                    met = set().union(*(needed[b] for b in blocks))
                    assert met <= set(range(low // made.terms, high // made.terms))
                    assert len(blocks) > 1 or len(met) * made.terms == high - low


def met_by(rows, pixel):
    """Which of the elements of its residue a pixel meets inside the result, by the definition of a convolution."""
    elements = range(rows.first(pixel % rows.stride)[0], rows.kernel, rows.step)
    places = [(pixel + rows.before - i * rows.dilation) for i in elements]
    return {t for t, y in enumerate(places) if y % rows.stride == 0 and 0 <= y // rows.stride < rows.result}


def test_runs_of_tiles_are_the_tiles():
    """However wide: their terms one by one, and on average."""
    made = adjoint(*CASES["stride of three"])
    span, n = made.rows_needed(), made.n
    for wide in (1, 2, 3, 7, 12, 50, 1000):
        rows = []
        for entry in range(made.entries):
            tiles = [span.many(entry, b, min(b + wide, n)) for b in range(0, n, wide)]
            assert [t for many, t in span.runs(entry, n, wide) for _ in range(many)] == tiles
            rows += tiles
        assert span.average(made.entries, n, wide) == pytest.approx(sum(rows) / len(rows))


def lenet(batch):
    """Of LeNet's second convolution."""
    return adjoint((batch, 20, 12, 12), (50, 20, 5, 5), {})


@pytest.mark.parametrize("batch", [100, 1000])
def test_two_thirds_of_the_terms_of_lenet_are_left(batch):
    """44 % of all multiply-adds have an element of the result, and so 66 % of those that are done."""
    text = text_of(lenet(batch).product(), False)
    p, wide = text.product, text.tile.columns.size
    done = sum(p.span.many(0, b, min(b + wide, p.n)) for b in range(0, p.n, wide))
    useful = 50 * 25 * 64 * batch / (p.n * p.k)
    assert useful == pytest.approx(0.444, abs=1e-3)
    assert text.share == done / (p.k * text.across) < 0.68
    assert useful / text.share > 0.65
    assert f"{100 * text.share:.0f} % of the terms" in gemm_phases.tiles_phase(text, Job()).note


def test_the_model_of_costs_knows_what_is_left_out():
    """Two thirds of the time where tiles are many; where they are few, no tile has much more than its share."""
    for batch, most in ((100, 0.75), (1000, 0.7)):
        p = lenet(batch).product()
        shape = Shape(p.dtype, p.m, p.n, p.k, p.entries, p.left.kind, p.right.kind, span=p.span)
        assert choose(shape).clocks < most * choose(replace(shape, span=None)).clocks
    columns = choose(replace(shape, n=14400, span=lenet(100).span)).tile.columns.size
    assert -(-14400 // columns) > 132


def test_rows_stay_inside_where_little_would_be_left_out():
    """A kernel of 3 x 3 with padding meets nearly all; pixels are in the order in which they lie."""
    made = adjoint((100, 8, 28, 28), (8, 8, 3, 3), {"padding": ((1, 1), (1, 1))})
    assert made.span is None
    assert made.pixel("j")[0] == "(j / 784)"
    assert made.rows_needed().average(1, made.n, 64) > 0.9 * made.product().k
    assert adjoint((0, 8, 28, 28), (8, 8, 5, 5), {}).span is None


FAULTS = {
    "the first row left out": ("const int low = start / 30 + -2", "const int low = start / 30 + -1"),
    "the last row left out": ("/ 30 + 1;", "/ 30 + 0;"),
    "a tile's last column forgotten": ("start + 7 < 210 ? start + 7 : 209", "start"),
    "a part that begins too late": ("begin = needed + part * share", "begin = needed + 1 + part * share"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(run_cases, rng, tiled, fault):
    """The comparison with the numpy kernel tells a text that leaves out too much."""
    tiled(Tile(Side(4, 1), Side(8, 1), 8), 3)
    x, w, changes = CASES["several images"]
    attrs, shape = geometry(x, w, changes)
    g, weights = (rng.integers(1, 4, s).astype("float32") for s in (shape, w))
    right_text, wrong = FAULTS[fault]
    names = [view("out0", x)], [view("in0", shape), view("in1", w)]
    phases = conv.conv2d_input(*names, attrs, Job())
    scratch = conv.conv2d_input_scratch(*names, attrs)
    assert phases[0].body.count(right_text) == 1
    for found in (False, True):
        out = np.zeros(x, "float32")
        body = phases[0].body.replace(right_text, wrong) if found else phases[0].body
        run_cases([run_cases.Case([replace(phases[0], body=body), *phases[1:]], [out], [g, weights], scratch=scratch)])
        assert (out != by_numpy(x, weights, g, attrs)).any() == found
