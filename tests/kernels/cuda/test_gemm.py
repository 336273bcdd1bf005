"""Matrix products in CUDA: every layout, edge, dtype and kind of tile, parts of the terms, epilogues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphnet.kernels.cuda import gemm, gemm_phases
from graphnet.kernels.cuda.gemm_load import Kind
from graphnet.kernels.cuda.gemm_plan import Plan, Shape, choose
from graphnet.kernels.cuda.gemm_tensor import TensorTile
from graphnet.kernels.cuda.gemm_tile import Side, Tile
from graphnet.kernels.cuda.phase import Job
from graphnet.kernels.text.program import Finish, Instr
from graphnet.kernels.text.view import View


def plain(x):
    return x


def turned(x):
    """The same matrix with its columns in one piece."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def padded(x):
    """The same matrix in a larger one: no row follows the one before."""
    room = np.full((*x.shape[:-2], x.shape[-2] + 2, x.shape[-1] + 3), 77, x.dtype)
    room[..., 1:-1, 2:-1] = x
    return room[..., 1:-1, 2:-1]


def spread(x):
    """The same matrix with gaps between all elements."""
    room = np.full((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), 77, x.dtype)
    room[..., ::2, 1::3] = x
    return room[..., ::2, 1::3]


def reversed_(x):
    """The same matrix, stored backwards."""
    return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]


LAYOUTS = [plain, turned, padded, spread, reversed_]


def random(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def view(name, shape, dtype="float32"):
    return View(name, dtype, shape, tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape))))


def assert_product(out, left, right, expected=None):
    """Within the bound for one chain of k multiply-adds, from float64."""
    exact = left.astype("f8") @ right.astype("f8") if expected is None else expected
    bound = np.abs(left.astype("f8")) @ np.abs(right.astype("f8"))
    eps = np.finfo(out.dtype).eps * max(left.shape[-1], 1) * (1 if out.dtype == np.float32 else 2)
    assert (np.abs(out - exact) <= eps * bound + 1e-300).all()


def products(run_cases, triples, **options):
    """Runs matmul for each (out, left, right), all in one text."""
    cases = [run_cases.Case(gemm.matmul, [out], pair, scratch=gemm.matmul_scratch, **options) for out, *pair in triples]
    return run_cases(cases)


def fresh(left, right, make=plain):
    with np.errstate(invalid="ignore"):
        return make(np.full((left @ right).shape, 55, left.dtype)), left, right


SHAPES = [
    ((1, 1), (1, 1)),
    ((3, 4), (4, 5)),
    ((5, 1), (1, 7)),
    ((1, 300), (300, 40)),
    ((40, 300), (300, 1)),
    ((17, 33), (33, 10)),
    ((36, 60), (60, 52)),
    ((50, 31), (31, 70)),
]


def test_products_of_every_layout_agree_with_float64(run_cases):
    """Plain, transposed, padded, spread and backward operands and results."""
    triples = []
    for left, right in SHAPES:
        for number, make in enumerate(LAYOUTS):
            pair = make(random(left)), LAYOUTS[number - 2](random(right))
            triples.append(fresh(*pair, LAYOUTS[number - 1]))
    products(run_cases, triples)
    for triple in triples:
        assert_product(*triple)


TILES = {
    "large": (Tile(Side(16, 8), Side(16, 8), 16), 1),
    "flat": (Tile(Side(8, 4), Side(32, 4), 8), 1),
    "ways": (Tile(Side(4, 8), Side(8, 4), 32), 1),
    "many ways": (Tile(Side(2, 4), Side(4, 2), 64), 1),
    "odd sides": (Tile(Side(4, 7), Side(8, 3), 32), 1),
    "parts": (Tile(Side(4, 4), Side(8, 4), 16), 3),
    "many parts": (Tile(Side(4, 1), Side(4, 6), 16), 40),
    "one row": (Tile(Side(1, 1), Side(8, 4), 32), 2),
    "tensor": (TensorTile(Side(2, 64), Side(4, 32), 16), 1),
    "tensor ways": (TensorTile(Side(1, 32), Side(2, 16), 64), 1),
    "tensor parts": (TensorTile(Side(4, 16), Side(2, 24), 16), 3),
    "tensor one piece": (TensorTile(Side(1, 16), Side(1, 8), 64), 1),
}


@pytest.fixture
def tiled(monkeypatch):
    """``tiled(tile, parts)``: products are cut that way from now on."""

    def cut(tile, parts):
        monkeypatch.setattr(gemm_phases, "choose", lambda shape: Plan(tile, parts, 0.0))

    return cut


@pytest.mark.parametrize("name", TILES)
def test_every_kind_of_tile_agrees(run_cases, tiled, name):
    """Whole and cut off at all edges, in runs of 4 and alone, operands along lines and along terms; integers."""
    tiled(*TILES[name])
    rng = np.random.default_rng(3)
    triples = []
    wide = "f4" if name in ("large", "odd sides") or "tensor" in name else "f8"
    for m, k, n, dtype in ((136, 80, 132, "f4"), (33, 70, 131, "f4"), (30, 700, 25, wide), (128, 64, 128, "f4")):
        for make in (plain, turned):
            left, right = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((m, k), (k, n)))
            triples.append(fresh(make(left), turned(right) if m % 8 else right, make))
    results = products(run_cases, triples)
    for out, left, right in triples:
        np.testing.assert_array_equal(out, left @ right)
    parts = TILES[name][1]
    assert [len(r.phases) for r in results] == [1 + (parts > 1)] * len(results)


def test_what_is_beyond_an_edge_is_neither_read_nor_written(run_cases, tiled):
    """Elements around the operands are NaN, and what is around the result stays."""
    triples = []
    for tile, parts in (TILES["ways"], TILES["parts"]):
        tiled(tile, parts)
        for k in (40, 41):
            left, right = (np.full(s, np.nan, "f4") for s in ((40, k + 8), (k + 8, 44)))
            left[4:-3, 4:-4], right[4:-4, 4:-4] = random((33, k)), random((k, 36))
            room = np.full((36, 40), 7, "f4")
            triples.append((room[:33, :36], left[4:-3, 4:-4], right[4:-4, 4:-4]))
    products(run_cases, triples)
    for triple in triples:
        assert_product(*triple)
        assert (triple[0].base[33:] == 7).all()
        assert (triple[0].base[:, 36:] == 7).all()


def test_operands_off_a_boundary_of_16_bytes_are_read_all_the_same(run_cases):
    """Runs of 4 are loaded one by one where memory does not begin at a multiple of their size."""
    room = [np.zeros(33 * 64 + 1, "f4"), np.zeros(64 * 36 + 1, "f4")]
    left, right = room[0][1:].reshape(33, 64), room[1][1:].reshape(64, 36)
    left[...], right[...] = random((33, 64)), random((64, 36))
    triples = [fresh(left, right), fresh(left.copy(), right.copy())]
    first, _ = products(run_cases, triples)
    assert "gn_fetch<4>" in first.phases[0].body
    np.testing.assert_array_equal(triples[0][0], triples[1][0])
    assert_product(*triples[0])


def test_rows_that_begin_off_a_boundary_or_end_inside_a_run_are_read_one_by_one(run_cases):
    """A pitch that is no multiple of 4, and terms or columns that are none in a larger matrix full of NaN."""
    triples = []
    for pitch, k, n in ((66, 64, 64), (68, 62, 62)):
        rooms = [np.full((rows, pitch), np.nan, "f4") for rows in (33, k)]
        assert all(room.ctypes.data % 16 == 0 for room in rooms)
        for room, columns in zip(rooms, (k, n), strict=True):
            room[:, :columns] = random((len(room), columns))
        left, right = rooms[0][:, :k], rooms[1][:, :n]
        triples += [fresh(left, right), fresh(right.T, left.T)]
    products(run_cases, triples)
    for triple in triples:
        assert_product(*triple)


def test_integers_are_exact_and_wrap(run_cases):
    """As in NumPy, for every width, signed or not."""
    rng = np.random.default_rng(1)
    triples = []
    for dtype in ("int32", "int64", "uint8", "uint32", "uint64"):
        info = np.iinfo(dtype)
        left, right = (rng.integers(info.min, info.max, s, dtype, True) for s in ((9, 200), (200, 6)))
        triples.append(fresh(left, turned(right)))
    products(run_cases, triples)
    for out, left, right in triples:
        np.testing.assert_array_equal(out, left @ right)


@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((2, 3), (3, 0)), ((0, 2, 4), (4, 3))], ids=str)
def test_empty_products_have_no_phases(shapes):
    views = [view("in0", shapes[0]), view("in1", shapes[1])]
    out = view("out0", (np.ones(shapes[0]) @ np.ones(shapes[1])).shape)
    assert gemm.matmul([out], views, {}, Job()) == []
    assert gemm.matmul_scratch([out], views, {}) == 0


def test_sums_of_no_terms_are_zeros(run_cases):
    """An epilogue sees them, too."""
    triples = [fresh(random((3, 0)), random((0, 300))), fresh(random((2, 3, 0)), random((0, 4)), turned)]
    products(run_cases, triples)
    assert all((out == 0).all() for out, _, _ in triples)
    case = run_cases.Case(gemm.matmul, [out := np.ones((2, 3), "f4")], [random((2, 0)), random((0, 3))])
    case.epilogue = lambda index, value: f"out0[{index[0]} * 3 + {index[1]}] = {value} + 4;"
    run_cases([case])
    assert (out == 4).all()


STACKS = [
    ((6, 3, 4), (4, 5)),
    ((2, 6, 9, 14), (14, 20)),
    ((6, 3, 4), (6, 4, 5)),
    ((5, 1, 40), (5, 40, 20)),
    ((6, 3, 4), (1, 4, 5)),
    ((3, 4), (6, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((3, 1, 30, 33), (2, 33, 35)),
]


def test_leading_axes_broadcast(run_cases):
    """As NumPy's matmul, in order and with gaps."""
    triples = []
    for shapes in STACKS:
        left, right = (random(s) for s in shapes)
        triples += [fresh(left, right), fresh(spread(left), turned(right), spread)]
    products(run_cases, triples)
    for triple in triples:
        assert_product(*triple)


def test_leading_axes_have_parts_of_terms_as_well(run_cases, tiled):
    """Each entry's sums are added up on their own."""
    tiled(*TILES["parts"])
    triples = [fresh(random((2, 3, 20, 90)), random((3, 90, 9)), make) for make in (plain, turned)]
    products(run_cases, triples)
    for triple in triples:
        assert_product(*triple)


def test_operands_that_repeat_by_a_stride_of_zero_are_read_as_they_are(run_cases):
    """Rows, columns or whole matrices that are one in memory."""
    ones = np.ones(1, "f4")
    row, column = random((1, 70)), random((40, 1))
    pairs = (
        (np.broadcast_to(row, (40, 70)), random((70, 33))),
        (random((33, 40)), np.broadcast_to(column, (40, 70))),
        (np.broadcast_to(ones, (20, 200)), np.broadcast_to(ones, (200, 3))),
        (np.broadcast_to(random((20, 30)), (4, 20, 30)), random((4, 30, 21))),
    )
    triples = [fresh(*pair) for pair in pairs]
    products(run_cases, triples)
    for triple in triples:
        assert_product(*triple)


@pytest.mark.parametrize("name", ["large", "ways", "odd sides", "parts", "many parts"])
def test_an_epilogue_gets_every_element_once_in_place_of_the_store(run_cases, tiled, name):
    """relu(x @ w + b) and a count, for rows and for columns in one piece."""
    tiled(*TILES[name])
    cases, expected = [], []
    for make, (m, k, n) in ((plain, (133, 40, 50)), (turned, (33, 100, 24))):
        left, right, bias = random((m, k)), random((k, n), seed=1), random(n, seed=2)
        out, count = make(np.zeros((m, n), "f4")), make(np.zeros((m, n), "i4"))

        def epilogue(index, value, down=out.strides[0] // 4, across=out.strides[1] // 4):
            at = f"{index[0]} * {down} + {index[1]} * {across}"
            return f"const float y = {value} + extra0[{index[1]}];\nout0[{at}] = y > 0 ? y : 0;\nextra1[{at}] += 1;"

        options = {"scratch": gemm.matmul_scratch, "epilogue": epilogue, "extra": (bias, count)}
        cases.append(run_cases.Case(gemm.matmul, [out], [left, right], **options))
        expected.append((out, count, left, right, np.maximum(left.astype("f8") @ right + bias, 0)))
    run_cases(cases)
    for out, count, left, right, exact in expected:
        assert (count == 1).all()
        assert_product(out, left, right, exact)


def test_an_epilogue_in_place_reads_the_old_element(run_cases):
    """w -= 0.5 * (x^T @ g)."""
    x, g, w = random((50, 70)), random((50, 40)), random((70, 40))
    expected = w - 0.5 * (x.T.astype("f8") @ g)
    case = run_cases.Case(gemm.matmul, [w], [x.T, g], scratch=gemm.matmul_scratch)
    case.epilogue = lambda index, value: f"out0[{index[0]} * 40 + {index[1]}] -= 0.5f * {value};"
    run_cases([case])
    np.testing.assert_allclose(w, expected, rtol=1e-4, atol=1e-4)


def scaled(out, bias, scale):
    """out = product * scale + bias as an epilogue whose operands are known."""
    views = [
        View(n, "float32", a.shape, tuple(x // 4 for x in a.strides)) for n, a in (("extra0", bias), ("extra1", scale))
    ]
    program = [
        Instr("x * y", ("x", "y"), (("in", 0), ("in", 2)), ("tmp", 0), "float32"),
        Instr("x + y", ("x", "y"), (("tmp", 0), ("in", 1)), ("out", 0), "float32"),
    ]
    return Finish([view("out0", out.shape)], [view("product", out.shape), *views], program, (0,))


def test_small_tiles_load_what_their_epilogue_reads_before_the_product(run_cases, tiled):
    """Whole and cut off at the edges; large tiles, and parts, do so in the end."""
    seen = []
    for tile, parts, m, n in (
        (Tile(Side(2, 4), Side(4, 8), 64), 1, 24, 64),
        (Tile(Side(2, 2), Side(4, 4), 64), 1, 23, 62),
        (TILES["large"][0], 1, 24, 64),
        (Tile(Side(2, 4), Side(4, 8), 64), 2, 24, 64),
    ):
        tiled(tile, parts)
        left, right, bias = random((m, 130)), random((130, n), seed=1), random(n, seed=2)
        scale, out = random((m, n), seed=3), np.zeros((m, n), "f4")
        options = {"scratch": gemm.matmul_scratch, "epilogue": scaled(out, bias, scale), "extra": (bias, scale)}
        (result,) = run_cases([run_cases.Case(gemm.matmul, [out], [left, right], **options)])
        np.testing.assert_allclose(out, (left.astype("f8") @ right) * scale + bias, rtol=1e-4, atol=1e-4)
        before = result.phases[0].body.split("__syncthreads")[0]
        seen.append([name in before for name in ("extra0[", "extra1[", "mine ?")])
    assert seen == [[True, True, False], [True, True, True], [False] * 3, [False] * 3]


def test_one_number_for_all_is_not_loaded_ahead():
    out, one = np.zeros((3, 4), "f4"), np.broadcast_to(np.float32(2), (3, 4))
    assert list(scaled(out, one, out).operands(("i", "j"))) == [2]


def test_inf_and_nan_stay_in_their_rows_and_columns(run_cases):
    """No operand is multiplied by padding."""
    triples = []
    for m, k, n in ((30, 4, 5), (40, 70, 1), (1, 70, 40), (40, 200, 5), (20, 43, 50)):
        left, right = random((m, k)), random((k, n), seed=1)
        left[m // 2, k - 1], right[0, n // 2] = np.inf, np.nan
        triples += [fresh(left, make(right)) for make in (plain, turned)]
    products(run_cases, triples)
    for out, left, right in triples:
        with np.errstate(invalid="ignore"):
            expected = left.astype("f8") @ right
        np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)


def units(m, k, n, left="depth", right="line"):
    """(units, parts) of a product."""
    plan = choose(Shape("float32", m, n, k, 1, Kind(left, 4), Kind(right, 4)))
    tile = plan.tile
    return -(-m // tile.rows.size) * -(-n // tile.columns.size) * plan.parts, plan.parts


def test_products_of_the_models_fill_the_machine():
    """About a unit for each multiprocessor; only results of few tiles have their terms cut."""
    for m, k, n in ((100, 784, 64), (128, 1024, 256), (128, 256, 1024), (784, 100, 64)):
        count, parts = units(m, k, n)
        assert parts == 1
        assert 64 <= count <= 132
    for m, k, n in ((256, 12800, 1024), (64, 12800, 10), (92, 12800, 256)):
        count, parts = units(m, k, n, "line")
        assert parts > 1
        assert 64 <= count <= 132
    assert units(12800, 256, 1024)[1] == 1


def test_tiles_of_large_products_are_large():
    tile = choose(Shape("float32", 4096, 4096, 4096, 1, Kind("depth", 4), Kind("line", 4))).tile
    assert (tile.rows.size, tile.columns.size, tile.ways) == (128, 128, 1)


def test_the_text_is_the_same_every_time():
    views = [view("out0", (100, 64)), view("in0", (100, 784)), view("in1", (784, 64))]
    first, again = (gemm.matmul(views[:1], views[1:], {}, Job()) for _ in range(2))
    assert first == again
    assert first[0].note.startswith("tiles of")


FAULTS = {
    "an edge without its guard": ("if (i < 13 && j < 10)", "if (j < 10)"),
    "a term too few": ("k < stop", "k < stop - 1"),
    "a part that begins too early": ("begin = part * 16", "begin = part * 15"),
    "one way left out": ("for (int g = 1; g < 4; ++g)", "for (int g = 2; g < 4; ++g)"),
    "no barrier before the sums": ("}\n__syncthreads();\nfloat *const sums", "}\nfloat *const sums"),
    "one part left out": ("for (int part = 0; part < 3; ++part)", "for (int part = 0; part < 2; ++part)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(run_cases, tiled, fault):
    """What these tests compare, on the grids and in the orders they run, tells a wrong text from a right one."""
    tiled(Tile(Side(8, 2), Side(8, 2), 16), 3)
    left, right = np.full((13, 41), 2, "f4"), np.full((41, 10), 3, "f4")
    names = [View("out0", "float32", (13, 10), (10, 1)), View("in0", "float32", (13, 41), (41, 1))]
    names.append(View("in1", "float32", (41, 10), (10, 1)))
    phases = gemm.matmul(names[:1], names[1:], {}, Job())
    right_text, wrong = FAULTS[fault]
    assert sum(right_text in phase.body for phase in phases) == 1
    scratch = gemm.matmul_scratch(names[:1], names[1:], {})

    def run(texts):
        out = np.zeros((13, 10), "f4")
        made = [replace(phase, body=text) for phase, text in zip(phases, texts, strict=True)]
        run_cases([run_cases.Case(made, [out], [left, right], scratch=scratch)])
        np.testing.assert_array_equal(out, left @ right)

    run([phase.body for phase in phases])
    with pytest.raises(AssertionError):
        run([phase.body.replace(right_text, wrong) for phase in phases])


def test_threads_without_a_line_of_the_tile_load_nothing(tiled):
    """Where sides are no powers of two, some threads have none, though no tile is cut off."""
    tiled(*TILES["odd sides"])
    views = [view("out0", (28, 24)), view("in0", (28, 64)), view("in1", (64, 24))]
    (phase,) = gemm.matmul(views[:1], views[1:], {}, Job())
    assert "left_in[q] = line < 28;" in phase.body
    assert "right_in[q] = line < 24;" in phase.body
    assert "left_in[q], left_whole);" in phase.body
    assert "right_in[q], right_whole);" in phase.body
