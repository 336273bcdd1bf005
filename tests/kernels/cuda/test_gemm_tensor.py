"""Products on tensor cores: operands rounded to TF32 and nothing else lost, in packs too; where they are taken."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend import PRECISIONS
from graphnet.backend_cuda import CudaBackend
from graphnet.compiler.cuda import cuda_target
from graphnet.device_emulated import EmulatedDevice
from graphnet.kernels.cuda import conv, gemm, gemm_packed, gemm_phases
from graphnet.kernels.cuda.gemm_load import Kind
from graphnet.kernels.cuda.gemm_plan import Plan, Shape, choose
from graphnet.kernels.cuda.gemm_tensor import TensorTile
from graphnet.kernels.cuda.gemm_tile import Side
from graphnet.kernels.cuda.phase import Job
from graphnet.kernels.text.view import View


def random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


def rounded(x):
    """x to 10 bits of fraction, ties away from zero."""
    return ((x.view("u4") + 0x1000) & 0xFFFFE000).view("f4")


def assert_rounded(out, left, right):
    """Within the bound of float32 sums, from float64 products of rounded operands; not those of the operands."""
    a, b = (rounded(x).astype("f8") for x in (left, right))
    bound = np.finfo("f4").eps * left.shape[1] * (np.abs(a) @ np.abs(b))
    error = np.abs(out - a @ b)
    assert (error <= bound).all()
    assert 10 * error.max() < np.abs(out - left.astype("f8") @ right).max()


@pytest.fixture
def tiled(monkeypatch):
    """``tiled(tile, parts)``: products are cut that way from now on."""

    def cut(tile, parts=1):
        for module in (gemm_phases, gemm_packed):
            monkeypatch.setattr(module, "choose", lambda shape: Plan(tile, parts, 0.0))

    return cut


SHAPES = [(64, 64, 64), (133, 260, 70), (40, 2000, 24), (17, 9, 300)]


@pytest.mark.parametrize("parts", [1, 3])
def test_operands_are_rounded_and_sums_are_not(run_cases, tiled, parts):
    """Whole tiles and edges, terms in parts; rows and columns in either order."""
    tiled(TensorTile(Side(2, 32), Side(2, 16), 32), parts)
    cases, expected = [], []
    for m, k, n in SHAPES:
        for turn in (False, True):
            left, right = random((m, k)), random((k, n), 1)
            right = np.ascontiguousarray(right.T).T if turn else right
            out = np.zeros((m, n), "f4")
            scratch = partial(gemm.matmul_scratch, tensor=1)
            cases.append(run_cases.Case(gemm.matmul, [out], [left, right], scratch=scratch, tensor=1))
            expected.append((out, left, right))
    results = run_cases(cases)
    assert all("on tensor cores" in r.phases[0].note for r in results)
    for triple in expected:
        assert_rounded(*triple)


def test_three_products_are_as_near_as_one_of_float32(run_cases, tiled):
    """Whole tiles and edges, and panels in parts: within the bound of float32 sums, where rounding alone is far off."""
    tiled(TensorTile(Side(2, 32), Side(2, 16), 32), 3)
    cases, found = [], []
    for m, k, n in SHAPES:
        left, right, out = random((m, k)), random((k, n), 1), np.zeros((m, n), "f4")
        scratch = partial(gemm.matmul_scratch, tensor=3)
        cases.append(run_cases.Case(gemm.matmul, [out], [left, right], scratch=scratch, tensor=3))
        found.append((out, left, right))
    results = run_cases(cases)
    assert all("on tensor cores, three times" in r.phases[0].note for r in results)
    for out, left, right in found:
        a, b = left.astype("f8"), right.astype("f8")
        error = np.abs(out - a @ b)
        assert (error <= np.finfo("f4").eps * left.shape[1] * (np.abs(a) @ np.abs(b))).all()
        assert 100 * error.max() < np.abs(rounded(left).astype("f8") @ rounded(right).astype("f8") - a @ b).max()


def test_packed_products_in_groups_are_taken_too(run_cases, tiled):
    """The panel is rounded as it is taken from the chip; groups of columns come out where they belong."""
    left, right, groups, width = random((33, 300)), random((300, 64), 1), 4, 32
    attrs = {"width": width, "groups": groups}
    tiled(TensorTile(Side(1, 16), Side(2, 16), 64))
    pack = np.zeros(gemm.packed_bytes(View("y", "float32", right.shape, (64, 1)), **attrs) + 64, np.uint8)
    pack = pack[-pack.ctypes.data % 64 :][: len(pack) - 64]
    out = np.zeros((33, 64), "f4")
    run_cases([run_cases.Case(gemm.pack, [pack], [right], attrs)])
    (result,) = run_cases([run_cases.Case(gemm.matmul_packed, [out], [left, pack], attrs, tensor=1)])
    assert "tensor cores, panel on chip" in result.phases[0].note
    assert_rounded(out, left, right)


def test_inf_and_nan_stay_in_their_rows_and_columns(run_cases, tiled):
    tiled(TensorTile(Side(1, 16), Side(2, 16), 64))
    left, right = random((40, 300)), random((300, 50), 1)
    left[3, 299], right[0, 7], right[5, 9] = np.inf, np.nan, -np.inf
    # the largest float32 becomes inf when it is rounded
    left[4, 1] = np.finfo("f4").max
    out = np.zeros((40, 50), "f4")
    scratch = partial(gemm.matmul_scratch, tensor=1)
    run_cases([run_cases.Case(gemm.matmul, [out], [left, right], scratch=scratch, tensor=1)])
    odd = ~np.isfinite(out)
    assert odd[3].all()
    assert odd[4].all()
    assert odd[:, 7].all()
    assert odd[:, 9].all()
    rest = np.delete(np.delete(out, [3, 4], 0), [7, 9], 1)
    assert np.isfinite(rest).all()


@pytest.mark.parametrize(("channels", "outputs", "kernel"), [(1, 20, 5), (6, 50, 5), (3, 8, 3), (1, 4, 3)])
def test_tiles_are_no_wider_than_a_blocks_threads_can_load(channels, outputs, kernel):
    """Of a first convolution: few rows, many columns, each loaded by itself."""
    side = 29 - kernel
    shapes = (100, channels, 28, 28), (outputs, channels, kernel, kernel), (100, outputs, side, side)
    steps = ([prod(shape[a + 1 :]) for a in range(4)] for shape in shapes)
    x, w, y = (View(name, "float32", *given) for name, *given in zip("xwy", shapes, map(tuple, steps), strict=True))
    attrs = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    job = Job(tensor=True)
    assert "on tensor cores" in conv.conv2d([y], [x, w], attrs, job)[0].note
    assert conv.conv2d_weight([w], [x, y], attrs, job)
    assert conv.conv2d_input([x], [y, w], attrs, job)


def test_only_products_of_float32_that_may_round_are_for_tensor_cores():
    """Large ones, and small ones where that is no slower."""

    def tile(m, n, k, dtype="float32", tensor=1):
        return choose(Shape(dtype, m, n, k, 1, Kind("depth", 4), Kind("line", 4), tensor=tensor)).tile

    assert isinstance(tile(512, 2048, 2048), TensorTile)
    assert not isinstance(tile(512, 2048, 2048, tensor=0), TensorTile)
    assert not isinstance(tile(512, 2048, 2048, "float64"), TensorTile)
    assert not isinstance(tile(1, 2048, 2048), TensorTile)
    assert isinstance(tile(512, 2048, 2048, tensor=3), TensorTile)


@gn.model
def letters(ids):
    x = gn.layers.embedding(ids, 7, 32)
    return gn.layers.dense(gn.layers.lstm(x, 64), 7)


def trained(precision):
    chosen = np.random.default_rng(0)
    ids, labels = (chosen.integers(0, 7, (64, 4)).astype("i4") for _ in range(2))
    loss = gn.losses.softmax_cross_entropy
    net = gn.compile(letters, gn.spec(ids.shape, "int32"), loss=loss, optimizer=gn.optim.SGD(lr=2.0), backend="numpy")
    if precision:
        backend = CudaBackend(EmulatedDevice(grid=3, library=False), precision)
        net = gn.net.Net(net.program, net.input_types, net.target_type, net.optimizer, backend, 0)
    return net, np.array([float(net.step(ids, labels)) for _ in range(3)])


def test_a_model_trains_in_the_precision_asked_for():
    """In TF32 near float32 and not the same, in two such numbers nearer; bf16 is computed alike; parameters stay."""
    _, exact = trained("")
    _, plain = trained("float32")
    net, found = trained("tf32")
    np.testing.assert_allclose(plain, exact, rtol=1e-5)
    np.testing.assert_allclose(found, exact, rtol=2e-3)
    assert not np.array_equal(found, plain)
    assert np.array_equal(trained("bf16")[1], found)
    np.testing.assert_allclose(trained("tf32x3")[1], exact, rtol=1e-5)
    assert {p.dtype.name for p in net.params.values()} == {"float32"}


def test_plans_of_one_precision_are_not_used_for_another():
    assert len({cuda_target(False, precision).identity for precision in PRECISIONS}) == len(PRECISIONS)
