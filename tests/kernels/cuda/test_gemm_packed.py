"""Right operands packed in front of a loop: what a pack holds, products in groups, panels on chip or not."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.cuda import gemm, gemm_packed
from graphnet.kernels.cuda.phase import SHARED, Job
from graphnet.kernels.text.view import View

# rows, k, groups, columns of a group, columns of a panel
SHAPES = [
    (21, 33, 2, 48, 16),
    (12, 40, 3, 21, 24),
    (9, 70, 4, 35, 16),
    (40, 30, 4, 3, 16),
    (33, 64, 4, 16, 32),
    (1, 90, 1, 70, 8),
    (30, 20, 5, 17, 5),
]


def random(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def turned(x):
    """The same matrix with its columns in one piece."""
    return np.ascontiguousarray(x.T).T


def view(name, array):
    return View(name, array.dtype.name, array.shape, tuple(s // array.itemsize for s in array.strides))


def aligned(nbytes):
    room = np.full(nbytes + 64, 0x7F, np.uint8)
    return room[-room.ctypes.data % 64 :][:nbytes]


def found(dtypes=("float32", "float64")):
    """(left, right, groups, width) of every shape, with plain and with transposed right operands."""
    return [
        (random((m, k), dtype), make(random((k, groups * columns), dtype, 1)), groups, width)
        for m, k, groups, columns, width in SHAPES
        for dtype, make in zip(dtypes, (np.asarray, turned), strict=True)
    ]


def products(run_cases, cases, epilogue=None, totals=()):
    """Packs, then multiplies, for each case: packs, results and the phases of the products."""
    attrs = [{"width": width, "groups": groups} for _, _, groups, width in cases]
    packs = [aligned(gemm.packed_bytes(view("y", x[1]), **a)) for x, a in zip(cases, attrs, strict=True)]
    outs = [np.full((len(x[0]), x[1].shape[1]), 55, x[0].dtype) for x in cases]
    run_cases([run_cases.Case(gemm.pack, [p], [x[1]], a) for p, x, a in zip(packs, cases, attrs, strict=True)])
    made = []
    for i, (left, right, groups, _) in enumerate(cases):
        options = {} if epilogue is None else {"epilogue": epilogue(right, groups), "extra": [totals[i]]}
        made.append(run_cases.Case(gemm.matmul_packed, [outs[i]], [left, packs[i]], attrs[i], **options))
    return packs, outs, run_cases(made)


def laid_out(right, width, groups):
    """What a pack holds, by NumPy."""
    k, n = right.shape
    columns, run = n // groups, width // groups
    panels = -(-columns // run)
    room = np.zeros((k, groups, panels * run), right.dtype)
    room[:, :, :columns] = right.reshape(k, groups, columns)
    return room.reshape(k, groups, panels, run).transpose(2, 0, 1, 3).ravel()


def test_products_in_groups_agree(run_cases):
    """From packs that hold the same columns of each group, filled up with zeros; one phase with its panel on chip."""
    cases = found()
    packs, outs, results = products(run_cases, cases)
    for pack, out, result, (left, right, groups, width) in zip(packs, outs, results, cases, strict=True):
        np.testing.assert_array_equal(pack.view(right.dtype), laid_out(right, width, groups))
        exact, bound = (f(left.astype("f8")) @ f(right.astype("f8")) for f in (np.asarray, np.abs))
        assert (np.abs(out - exact) <= 2 * np.finfo(out.dtype).eps * left.shape[1] * bound).all()
        (phase,) = result.phases
        assert phase.loaded == (1,)
        assert phase.resident >= left.shape[1] * width * right.itemsize
        assert "in1" in phase.load
        assert "in1" not in phase.body


def test_a_panel_that_does_not_stay_on_chip_comes_in_chunks(run_cases, monkeypatch):
    """With the same results."""
    cases = found()
    _, outs, _ = products(run_cases, cases)
    monkeypatch.setattr(gemm_packed, "RESIDENT", 0)
    _, again, results = products(run_cases, cases)
    for out, other, result in zip(outs, again, results, strict=True):
        np.testing.assert_allclose(out, other, rtol=1e-4, atol=1e-4)
        assert (result.phases[0].load, result.phases[0].resident, result.phases[0].loaded) == ("", 0, ())


def test_an_epilogue_gets_the_element_of_every_group_once(run_cases):
    """Weighted by group, added to what is there; every element of the result is there in one call."""

    def epilogue(right, groups):
        def weighted(index, *values):
            assert len(values) == groups
            terms = " + ".join(f"{g} * {value}" for g, value in enumerate(values, 1))
            return f"extra0[{index[0]} * {right.shape[1] // groups} + {index[1]}] += {terms};"

        return weighted

    cases = found(("float32", "float32"))
    totals = [np.full((len(left), right.shape[1] // groups), 5, "f4") for left, right, groups, _ in cases]
    products(run_cases, cases, epilogue, totals)
    for total, (left, right, groups, _) in zip(totals, cases, strict=True):
        parts = (left.astype("f8") @ right).reshape(len(left), groups, -1)
        expected = parts.transpose(0, 2, 1) @ np.arange(1, groups + 1) + 5
        np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-3)


def test_what_fills_up_a_panel_never_meets_an_element(run_cases):
    """Infinities times the zeros of a panel go nowhere."""
    cases = []
    for columns in (20, 3):
        left, right = random((9, 100)), np.ones((100, 4 * columns), "f4")
        left[3] = np.inf
        cases.append((left, right, 4, 32))
    _, outs, _ = products(run_cases, cases)
    for out in outs:
        assert np.isposinf(out[3]).all()
        assert np.isfinite(np.delete(out, 3, 0)).all()


def chosen(m, k, n, groups=1):
    """The width that is chosen, and the product's one phase."""
    out, left, right = (
        view(name, np.empty(shape, "f4")) for name, shape in (("out0", (m, n)), ("in0", (m, k)), ("in1", (k, n)))
    )
    width = gemm.packed_width([out], [left, right], {"groups": groups})
    if not width:
        return 0, None
    packed = View("in1", "uint8", (gemm.packed_bytes(right, width, groups),), (1,))
    (phase,) = gemm.matmul_packed([out], [left, packed], {"width": width, "groups": groups}, gemm.Job())
    return width, phase


@pytest.mark.parametrize(
    ("m", "k", "columns", "groups"), [(128, 256, 256, 4), (64, 512, 512, 4), (128, 256, 256, 3), (128, 1024, 256, 1)]
)
def test_recurrent_products_fill_the_machine_and_stay_on_chip(m, k, columns, groups):
    """Of an LSTM and of a GRU: about a unit for each multiprocessor, whose panel fits beside its chunks."""
    width, phase = chosen(m, k, columns * groups, groups)
    assert width % groups == 0
    assert 64 <= phase.units <= 132
    assert 0 < phase.resident <= 128 * 1024
    assert phase.shared <= 48 * 1024


@pytest.mark.parametrize(("m", "k", "n"), [(500, 500, 500), (100, 500, 2048)])
def test_the_sums_of_doubles_have_room_in_shared_memory(m, k, n):
    """Where a thread has fewer rows than are needed to hand them in a run at a time, other tiles are chosen."""
    out, left, right = (View(x, "float64", s, (s[1], 1)) for x, s in (("o", (m, n)), ("a", (m, k)), ("b", (k, n))))
    attrs = {"width": gemm_packed.packed_width([out], [left, right], {})}
    packed = View("p", "uint8", (gemm_packed.packed_bytes(right, attrs["width"]),), (1,))
    (phase,) = gemm_packed.matmul_packed([out], [left, packed], attrs, Job())
    assert phase.shared <= SHARED


def test_what_cannot_be_packed_apart_says_so():
    """Groups that do not divide the columns, vectors, stacks and little work."""
    assert chosen(64, 256, 1024, 3)[0] == 0
    assert chosen(100, 100, 1)[0] == 0
    assert chosen(4, 4, 4)[0] == 0
    stack = [view(n, np.empty(s, "f4")) for n, s in (("z", (2, 50, 50)), ("x", (2, 50, 50)), ("y", (50, 50)))]
    assert gemm.packed_width(stack[:1], stack[1:], {}) == 0
