"""Matrix products in C: every layout, edge and kind, sharing among threads, epilogues, packing apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphnet.kernels.c import gemm, tile
from graphnet.kernels.c.phase import Job
from graphnet.kernels.text.view import View

SHAPES = [
    ((1, 1), (1, 1)),
    ((3, 4), (4, 5)),
    ((5, 1), (1, 7)),
    ((1, 40), (40, 1)),
    ((1, 37), (37, 29)),
    ((31, 37), (37, 1)),
    ((506, 13), (13, 1)),
    ((13, 506), (506, 1)),
    ((17, 33), (33, 10)),
    ((20, 33), (33, 70)),
    ((33, 65), (65, 64)),
    ((50, 31), (31, 113)),
]


def plain(x):
    return x


def turned(x):
    """The same matrix with its columns in one piece."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def padded(x):
    """The same matrix in a larger one: no row follows the one before."""
    room = np.full((*x.shape[:-2], x.shape[-2] + 2, x.shape[-1] + 3), np.nan, x.dtype)
    room[..., 1:-1, 2:-1] = x
    return room[..., 1:-1, 2:-1]


def spread(x):
    """The same matrix with gaps between all elements."""
    room = np.full((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), np.nan, x.dtype)
    room[..., ::2, 1::3] = x
    return room[..., ::2, 1::3]


def reversed_(x):
    """The same matrix, stored backwards."""
    return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]


LAYOUTS = [plain, turned, padded, spread, reversed_]


def view(name, shape, dtype="float32", strides=None):
    steps = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    return View(name, dtype, shape, tuple(strides or steps))


def random(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_product(out, left, right, expected=None):
    """Within the bound for one chain of k multiply-adds, from float64."""
    exact = left.astype("f8") @ right.astype("f8") if expected is None else expected
    bound = np.abs(left.astype("f8")) @ np.abs(right.astype("f8"))
    eps = np.finfo(out.dtype).eps * max(left.shape[-1], 1) * (1 if out.dtype == np.float32 else 2)
    assert (np.abs(out - exact) <= eps * bound + 1e-300).all()


def products(run_c, triples, threads=1):
    """Runs matmul for each (out, left, right), all in one file."""
    starts = range(0, 3 * len(triples), 3)

    def views(outs, ins):
        both = [v for o, pair in zip(outs, zip(ins[::2], ins[1::2], strict=True), strict=True) for v in (o, *pair)]
        return [both[i : i + 3] for i in starts]

    def writer(outs, ins, attrs, job):
        made = [gemm.matmul([o], [x, y], attrs, job) for o, x, y in views(outs, ins)]
        return [replace(phase, axes=()) for phases in made for phase in phases]

    def scratch(outs, ins, attrs, threads):
        return max(gemm.matmul_scratch([o], [x, y], attrs, threads) for o, x, y in views(outs, ins))

    outs, ins = [t[0] for t in triples], [x for t in triples for x in t[1:]]
    return run_c(writer, outs, ins, threads=threads, scratch_size=scratch)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_products_of_every_layout_agree_with_float64(run_c, shapes):
    """Plain, transposed, padded, spread and backward operands and results."""
    triples = []
    for number, make in enumerate(LAYOUTS):
        left, right = (f(random(s)) for f, s in zip((make, LAYOUTS[number - 2]), shapes, strict=True))
        triples.append((LAYOUTS[number - 1](np.full((left.shape[0], right.shape[1]), np.nan, "f4")), left, right))
    products(run_c, triples)
    for triple in triples:
        assert_product(*triple)


def test_products_in_float64_agree(run_c):
    """Tiles, few columns, a matrix times a vector either way."""
    triples = []
    for m, k, n in ((33, 70, 40), (40, 200, 5), (21, 90, 1), (1, 90, 21), (20, 5, 1)):
        for make in (plain, turned):
            triples.append((np.full((m, n), np.nan), random((m, k), "f8"), make(random((k, n), "f8"))))
    products(run_c, triples)
    for triple in triples:
        assert_product(*triple)


@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((2, 0, 4), (4, 3))], ids=str)
def test_empty_products_are_zeros_of_their_shape(run_c, shapes):
    left, right = (random(s) for s in shapes)
    out = np.full((left @ right).shape, np.nan, "f4")
    run_c(gemm.matmul, [out], [left, right], scratch_size=gemm.matmul_scratch)
    np.testing.assert_array_equal(out, left @ right)


STACKS = [
    ((6, 3, 4), (4, 5)),
    ((2, 6, 9, 14), (14, 20)),
    ((6, 3, 4), (6, 4, 5)),
    ((5, 17, 40), (5, 40, 20)),
    ((5, 1, 40), (5, 40, 20)),
    ((6, 3, 4), (1, 4, 5)),
    ((3, 4), (6, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((3, 1, 30, 33), (2, 33, 35)),
    ((1, 1, 30, 33), (1, 33, 35)),
]


@pytest.mark.parametrize("shapes", STACKS, ids=str)
def test_leading_axes_broadcast(run_c, shapes):
    """As NumPy's matmul, in order and with gaps, and the same for any number of threads."""
    left, right = (random(s) for s in shapes)
    results = []
    for threads in (1, 3):
        outs = [make(np.full((left @ right).shape, np.nan, "f4")) for make in (plain, spread)]
        products(run_c, [(outs[0], left, right), (outs[1], spread(left), spread(right))], threads)
        assert_product(outs[0], left, right)
        assert_product(outs[1], left, right)
        results.append(outs)
    np.testing.assert_array_equal(*results)


def test_operands_that_repeat_by_a_stride_of_zero_are_read_as_they_are(run_c):
    """Rows, columns or whole matrices that are one in memory."""
    ones = np.ones(1, "f4")
    row, column = random((1, 70)), random((40, 1))
    pairs = (
        (np.broadcast_to(row, (40, 70)), random((70, 33))),
        (random((33, 40)), np.broadcast_to(column, (40, 70))),
        (np.broadcast_to(ones, (20, 200)), np.broadcast_to(ones, (200, 3))),
        (np.broadcast_to(random((20, 30)), (4, 20, 30)), random((4, 30, 21))),
    )
    triples = [(np.full((left @ right).shape, np.nan, "f4"), left, right) for left, right in pairs]
    products(run_c, triples)
    for triple in triples:
        assert_product(*triple)


SHARED = [
    (100, 300, 64),
    (100, 300, 10),
    (300, 100, 10),
    (7, 500, 200),
    (5, 700, 600),
    (4000, 7, 1),
    (1, 3000, 400),
    (700, 600, 1),
    (130, 200, 150),
    (40, 4000, 90),
    (90, 4000, 40),
]


def test_results_do_not_depend_on_the_number_of_threads(run_c):
    """Bit for bit, split over rows or columns, packed or not, in blocks of k or not."""
    pairs = [
        (make_left(random((m, k))), make_right(random((k, n), seed=1)))
        for m, k, n in SHARED
        for make_left, make_right in ((plain, plain), (plain, turned), (turned, plain))
    ]
    results = []
    for threads in (1, 2, 3):
        triples = [(np.full((len(left), right.shape[1]), np.nan, "f4"), left, right) for left, right in pairs]
        phases = products(run_c, triples, threads)
        assert sum(phase.units > 1 for phase in phases) >= (len(pairs) if threads > 1 else 0)
        results.append(triples)
    for one, two, three in zip(*results, strict=True):
        assert_product(*one)
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[0], three[0])


def test_small_products_are_not_split():
    """Handing out work costs more than it."""
    views = [view("z", (20, 20)), view("x", (20, 20)), view("y", (20, 20))]
    assert [p.units for p in gemm.matmul(views[:1], views[1:], {}, Job(threads=4))] == [1]


EPILOGUES = [
    (1200, 256, 93),
    (6, 5, 7),
    (40, 70, 1),
    (1, 70, 40),
    (40, 200, 5),
    (100, 200, 64),
    (33, 40, 50),
    (60, 60, 11),
    (12, 150, 90),
    (40, 4000, 45),
]


@pytest.mark.parametrize("shape", EPILOGUES, ids=str)
def test_an_epilogue_gets_every_element_once_in_place_of_the_store(run_c, shape):
    """relu(x @ w + b) over the old result and a count, for rows and for columns in one piece, 1 and 2 threads."""
    m, k, n = shape
    left, right, bias = random((m, k)), random((k, n), seed=1), random(n, seed=2)
    exact = np.maximum(left.astype("f8") @ right + bias, 0)
    for make, threads in ((plain, 2), (turned, 1)):
        out, count = make(np.zeros((m, n), "f4")), make(np.zeros((m, n), "i4"))
        seen = []

        def epilogue(index, value, out=out, count=count, seen=seen):
            i, j = index
            seen.append(index)
            at = f"({i}) * {out.strides[0] // 4} + ({j}) * {out.strides[1] // 4}"
            return f"const float y = {value} + p3[{j}];\np0[{at}] = y > 0 ? y : 0;\np4[{at}] += 1;"

        run_c(
            gemm.matmul,
            [out],
            [left, right],
            threads=threads,
            scratch_size=gemm.matmul_scratch,
            epilogue=epilogue,
            extra=(bias, count),
        )
        assert seen
        assert (count == 1).all()
        assert_product(out, left, right, exact)


def test_an_epilogue_in_place_reads_the_old_element(run_c):
    """w -= 0.5 * (x^T @ g), straight from the tiles."""
    x, g, w = random((50, 70)), random((50, 40)), random((70, 40))
    expected = w - 0.5 * (x.T.astype("f8") @ g)

    def epilogue(index, value):
        return f"p0[{index[0]} * 40 + {index[1]}] -= 0.5f * {value};"

    for threads in (1, 2):
        out = w.copy()
        run_c(gemm.matmul, [out], [x.T, g], threads=threads, scratch_size=gemm.matmul_scratch, epilogue=epilogue)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_inf_and_nan_stay_in_their_rows_and_columns(run_c):
    """No operand is multiplied by padding."""
    triples = []
    for m, k, n in ((30, 4, 5), (40, 70, 1), (1, 70, 40), (40, 200, 5), (20, 40, 50)):
        left, right = random((m, k)), random((k, n), seed=1)
        left[m // 2, k - 1], right[0, n // 2] = np.inf, np.nan
        triples += [(np.zeros((m, n), "f4"), left, make(right)) for make in (plain, turned)]
    products(run_c, triples)
    for out, left, right in triples:
        with np.errstate(invalid="ignore"):
            expected = left.astype("f8") @ right
        np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)


def packed(run_c, left, right, threads, epilogue=None):
    """The product through pack and matmul_packed."""
    out = np.full((left.shape[0], right.shape[1]), np.nan, np.float32)
    views = [
        view(n, a.shape, strides=[s // 4 for s in a.strides]) for n, a in zip("zxy", (out, left, right), strict=True)
    ]
    width = gemm.packed_width(views[:1], views[1:], {}, Job(threads=threads))
    assert width
    panels = np.full(gemm.packed_bytes(views[2], width), 0x7F, np.uint8)
    run_c(gemm.pack, [panels], [right], {"width": width}, threads=threads)
    phases = run_c(gemm.matmul_packed, [out], [left, panels], {"width": width}, threads=threads, epilogue=epilogue)
    return out, phases


@pytest.mark.parametrize("shape", [(128, 256, 100), (30, 50, 9), (64, 1100, 70)], ids=str)
def test_a_product_with_a_packed_operand_is_bit_for_bit_the_same(run_c, shape):
    """For plain and transposed operands; its one phase is split by rows, without another barrier."""
    m, k, n = shape
    for make in (plain, turned):
        left, right = random((m, k)), make(random((k, n), seed=1))
        expected = np.empty((m, n), "f4")
        run_c(gemm.matmul, [expected], [left, right], scratch_size=gemm.matmul_scratch)
        for threads in (1, 3):
            out, phases = packed(run_c, left, right, threads)
            np.testing.assert_array_equal(out, expected)
            assert [(p.units, p.axes) for p in phases] == [(m if threads > 1 else 1, (0, 0, None))]


@pytest.mark.parametrize("shape", [(256, 1024), (257, 352), (100, 4096)], ids=str)
def test_a_vector_times_a_packed_matrix_is_bit_for_bit_the_same(run_c, shape):
    """Shared by panels, with and without an epilogue."""
    k, n = shape
    left, right = random((1, k)), random((k, n), seed=1)
    expected = np.empty((1, n), "f4")
    run_c(gemm.matmul, [expected], [left, right], scratch_size=gemm.matmul_scratch)
    for threads in (1, 3):
        out, phases = packed(run_c, left, right, threads)
        np.testing.assert_array_equal(out, expected)
        assert [p.axes for p in phases] == [(1, None, 0)]
        assert phases[0].units > 8
        assert n % phases[0].units == 0


def test_what_cannot_be_packed_apart_says_so():
    """Small or transposed matrices times vectors, stacks, little work and a k that is cut in blocks."""
    for m, k, n in ((1, 100, 100), (1, 256, 1000), (100, 100, 1), (4, 4, 4), (100, 10000, 100)):
        views = [view("z", (m, n)), view("x", (m, k)), view("y", (k, n))]
        assert gemm.packed_width(views[:1], views[1:], {}, Job()) == 0
    across = [view("z", (1, 512)), view("x", (1, 512)), view("y", (512, 512), strides=[1, 512])]
    assert gemm.packed_width(across[:1], across[1:], {}, Job()) == 0
    stack = [view("z", (2, 50, 50)), view("x", (2, 50, 50)), view("y", (50, 50))]
    assert gemm.packed_width(stack[:1], stack[1:], {}, Job()) == 0


@pytest.mark.parametrize("isa", tile.ISAS)
def test_every_instruction_set_gives_the_same_bits(run_c, isa):
    """Text for another vector length compiles here and computes the same: tiles, sums and dot products."""
    pairs = [
        (random((m, k)), make(random((k, n), seed=1)))
        for m, k, n in ((33, 50, 40), (30, 200, 5), (21, 90, 1), (1, 90, 21))
        for make in (plain, turned)
    ]
    expected, got = (
        [(np.full((len(left), right.shape[1]), np.nan, "f4"), left, right) for left, right in pairs] for _ in range(2)
    )
    products(run_c, expected)
    with tile.targeting(isa):
        products(run_c, got)
    for one, two in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one[0], two[0])


def test_best_tiles_fit_registers_and_waste_little():
    """A hundred rows in tens, not in eights; no tile is wider than the columns need."""
    for isa, unit in tile.ISAS.items():
        for m, n in ((100, 64), (50, 500), (784, 10), (1, 1), (3, 1000)):
            mr, nv = tile.best_tile(m, n, "float32", isa)
            assert mr * nv + nv + 1 <= unit.registers
            assert mr <= max(m, 1) or m == 1
            assert (nv - 1) * tile.lanes("float32", isa) < n
    mr, nv = tile.best_tile(100, 64, "float32", "avx512")
    assert 100 % mr == 0
    assert 4 % nv == 0
    with pytest.raises(KeyError), tile.targeting("abacus"):
        pass


def test_the_text_is_the_same_every_time():
    views = [view("z", (100, 64)), view("x", (100, 784)), view("y", (784, 64))]
    first, again = (gemm.matmul(views[:1], views[1:], {}, Job(threads=2)) for _ in range(2))
    assert first == again
    assert first[-1].axes == (0, 0, None)
