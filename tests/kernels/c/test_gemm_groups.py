"""Products whose columns are in groups: packs, tiles that have the same columns of all groups, their epilogues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphnet.kernels.c import gemm, tile
from graphnet.kernels.c.phase import Job
from graphnet.kernels.text.view import View

# rows, k, groups, columns of a group: whole vectors of every instruction set, none of them, fewer than a vector
SHAPES = [(21, 33, 2, 48), (12, 40, 3, 21), (9, 70, 4, 35), (40, 30, 4, 3), (6, 64, 4, 128), (30, 20, 5, 17)]


def random(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def turned(x):
    """The same matrix with its columns in one piece."""
    return np.ascontiguousarray(x.T).T


def view(name, array):
    return View(name, array.dtype.name, array.shape, tuple(s // array.itemsize for s in array.strides))


def cases(dtypes=("float32",)):
    """(left, right, groups) of every shape, with plain and with transposed right operands."""
    return [
        (random((m, k), dtype), make(random((k, groups * columns), dtype, 1)), groups)
        for m, k, groups, columns in SHAPES
        for dtype in dtypes
        for make in (np.asarray, turned)
    ]


def widest(right, groups):
    """Columns of a tile with a vector of each group, or two where they fit."""
    length = tile.lanes(right.dtype.name)
    return groups * length * (2 if groups < 4 and right.shape[1] // groups > length else 1)


def aligned(nbytes):
    room = np.full(nbytes + 64, 0x7F, np.uint8)
    return room[-room.ctypes.data % 64 :][:nbytes]


def products(run_c, found, threads=1, epilogue=None, totals=()):
    """Packs and multiplies for each case, all in one file: the packs, the results and the products' phases."""
    attrs = [{"width": widest(right, groups), "groups": groups} for _, right, groups in found]
    outs = [np.full((len(left), right.shape[1]), np.nan, left.dtype) for left, right, _ in found]
    packs = [aligned(gemm.packed_bytes(view("y", x[1]), **a)) for x, a in zip(found, attrs, strict=True)]
    made = []

    def writer(views, ins, _, job):
        n, every = len(found), []
        for i, options in enumerate(attrs):
            given = None if epilogue is None else epilogue(views[2 * n + i].name, *found[i][1:])
            one = replace(job, epilogue=given)
            every += gemm.pack([views[n + i]], [ins[2 * i + 1]], options, job)
            made.append(gemm.matmul_packed([views[i]], [ins[2 * i], views[n + i]], options, one))
            every += made[-1]
        return [replace(phase, axes=()) for phase in every]

    run_c(writer, [*outs, *packs, *totals], [x for left, right, _ in found for x in (left, right)], threads=threads)
    return packs, outs, made


def laid_out(right, width, groups):
    """What a pack holds, by NumPy."""
    k, n = right.shape
    columns, run = n // groups, width // groups
    parts = right.reshape(k, groups, columns)
    found = []
    for start in range(0, columns, run):
        panel = np.zeros((k, groups, run), right.dtype)
        piece = parts[:, :, max(0, min(start, columns - run)) :][:, :, :run]
        panel[:, :, : piece.shape[2]] = piece
        found.append(panel.ravel())
    return np.concatenate(found)


@pytest.mark.parametrize("isa", tile.ISAS)
def test_a_pack_in_groups_holds_the_same_columns_of_each(run_c, isa):
    """The last panel reaches back, one wider than the columns of a group is padded with zeros."""
    found = cases()
    with tile.targeting(isa):
        packs, _, _ = products(run_c, found, 3)
        for pack, (_, right, groups) in zip(packs, found, strict=True):
            np.testing.assert_array_equal(pack.view("f4"), laid_out(right, widest(right, groups), groups))


@pytest.mark.parametrize("isa", tile.ISAS)
def test_products_in_groups_are_bit_for_bit_the_same(run_c, isa):
    """Whatever the number of groups and of threads; the one phase is split by rows."""
    found = cases(("float32", "float64"))

    def writer(outs, ins, attrs, job):
        made = [gemm.matmul([out], ins[2 * i : 2 * i + 2], attrs, job) for i, out in enumerate(outs)]
        return [replace(phase, axes=()) for phases in made for phase in phases]

    def scratch(outs, ins, attrs, threads):
        return max(gemm.matmul_scratch([o], ins[2 * i : 2 * i + 2], attrs, threads) for i, o in enumerate(outs))

    expected = [np.empty((len(left), right.shape[1]), left.dtype) for left, right, _ in found]
    run_c(writer, expected, [x for left, right, _ in found for x in (left, right)], scratch_size=scratch)
    with tile.targeting(isa):
        for threads in (1, 3):
            _, outs, made = products(run_c, found, threads)
            for out, exact, phases in zip(outs, expected, made, strict=True):
                np.testing.assert_array_equal(out, exact)
                assert [(p.units, p.axes) for p in phases] == [(len(out) if threads > 1 else 1, (0, 0, None))]


@pytest.mark.parametrize("isa", tile.ISAS)
def test_an_epilogue_gets_the_element_of_every_group_once(run_c, isa):
    """Weighted by group, added to what is there; every element of the result is there in one call."""

    def epilogue(total, right, groups):
        def weighted(index, *values):
            assert len(values) == groups
            terms = " + ".join(f"{g} * {value}" for g, value in enumerate(values, 1))
            return f"{total}[{index[0]} * {right.shape[1] // groups} + {index[1]}] += {terms};"

        return weighted

    found = cases()
    with tile.targeting(isa):
        for threads in (1, 2):
            totals = [np.full((len(left), right.shape[1] // groups), 5, "f4") for left, right, groups in found]
            products(run_c, found, threads, epilogue, totals)
            for total, (left, right, groups) in zip(totals, found, strict=True):
                parts = (left.astype("f8") @ right).reshape(len(left), groups, -1)
                expected = parts.transpose(0, 2, 1) @ np.arange(1, groups + 1) + 5
                np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-3)


def test_what_pads_a_group_never_meets_another(run_c):
    """Infinities times the zeros of a panel go nowhere."""
    left, right = random((9, 300)), np.ones((300, 4 * 20), "f4")
    left[3] = np.inf
    for columns in (20, 3):
        _, (out,), _ = products(run_c, [(left, right[:, : 4 * columns], 4)])
        assert np.isposinf(out[3]).all()
        assert np.isfinite(np.delete(out, 3, 0)).all()


def chosen(m, k, n, groups):
    """The width that is chosen for a product in groups."""
    views = [view(name, np.empty(shape, "f4")) for name, shape in zip("zxy", ((m, n), (m, k), (k, n)), strict=True)]
    return gemm.packed_width(views[:1], views[1:], {"groups": groups}, Job())


@pytest.mark.parametrize("isa", tile.ISAS)
def test_tiles_have_a_vector_of_each_gate(isa):
    """Of an LSTM and of a GRU; with AVX-512 these are sixteen columns."""
    with tile.targeting(isa):
        assert chosen(64, 256, 1024, 4) == 4 * tile.lanes("float32")
        assert chosen(64, 256, 768, 3) % (3 * tile.lanes("float32")) == 0


def test_columns_that_are_no_good_in_groups_say_so():
    """Groups that do not divide the columns, more than any tile has vectors, or so narrow that most is padding."""
    for groups, n in ((3, 1024), (8, 1024), (4, 4 * 9)):
        assert chosen(64, 256, n, 1)
        assert chosen(64, 256, n, groups) == 0
