"""Products with an epilogue, left to a cublasLt that computes as its manual says: on columns."""

from __future__ import annotations

import ctypes
import enum
import inspect
import sys

import numpy as np
import pytest

import graphnet as gn
from graphnet import device_cupy
from graphnet.backend import PRECISIONS
from graphnet.backend_cuda import CudaBackend
from graphnet.compiler.cuda import products
from graphnet.compiler.ir import Type
from graphnet.device import Operand, Product


class FakeCublasLt:
    """cublasLt as its manual has it: descriptions that are set by name and size, column-major products on addresses.

    ``refused`` are epilogues that it knows no algorithm for; ``relu`` is what it takes for relu. Names and numbers are
    those of nvmath's bindings: see the test of them.
    """

    Epilogue = enum.IntEnum("Epilogue", {"RELU": 2, "BIAS": 4, "RELU_BIAS": 6, "BGRADA": 256})
    MatmulDescAttribute = enum.IntEnum(
        "MatmulDescAttribute", {"TRANSA": 3, "TRANSB": 4, "EPILOGUE": 7, "BIAS_POINTER": 8}
    )
    MatmulPreferenceAttribute = enum.IntEnum(
        "MatmulPreferenceAttribute",
        {"MAX_WORKSPACE_BYTES": 1, **{f"MIN_ALIGNMENT_{m}_BYTES": 5 + i for i, m in enumerate("ABCD")}},
    )
    matmul_heuristic_result_dtype = np.dtype(
        [
            ("algo", [("data_", "<u8", (8,))]),
            ("workspace_size", "<u8"),
            ("state", "<i4"),
            ("waves_count", "<f4"),
            ("reserved", "<i4", (4,)),
        ]
    )

    class cuBLASLtError(Exception):  # noqa: N801 - nvmath's name
        pass

    def __init__(self, streams, columns):
        self.version, self.refused, self.relu = 130200, set(), lambda x: np.maximum(x, 0)
        self.asked, self.computed, self._made = [], [], {}
        self._streams, self._columns = streams, columns

    def get_version(self):
        return self.version

    def create(self):
        return 9

    def _new(self, **facts):
        self._made[number := 1000 + len(self._made)] = facts
        return number

    def matmul_desc_create(self, compute_type, scale_type):
        return self._new(compute=compute_type, scale=scale_type)

    def matrix_layout_create(self, type, rows, cols, ld):
        assert ld >= rows
        return self._new(type=type, rows=rows, cols=cols, ld=ld)

    def matmul_preference_create(self):
        return self._new()

    def get_matmul_desc_attribute_dtype(self, attr):
        return {3: np.int32, 4: np.int32, 7: np.uint32, 8: np.int64}[attr]

    def get_matmul_preference_attribute_dtype(self, attr):
        return np.uint64 if attr == 1 else np.uint32

    def matmul_desc_set_attribute(self, matmul_desc, attr, buf, size_in_bytes):
        dtype = self.get_matmul_desc_attribute_dtype(attr)
        self._made[matmul_desc][self.MatmulDescAttribute(attr).name] = self._value(buf, size_in_bytes, dtype)

    def matmul_preference_set_attribute(self, pref, attr, buf, size_in_bytes):
        dtype = self.get_matmul_preference_attribute_dtype(attr)
        self._made[pref][self.MatmulPreferenceAttribute(attr).name] = self._value(buf, size_in_bytes, dtype)

    @staticmethod
    def _value(buf, nbytes, dtype):
        assert nbytes == np.dtype(dtype).itemsize
        return int(np.frombuffer(ctypes.string_at(buf, nbytes), dtype)[0])

    def matmul_desc_destroy(self, matmul_desc):
        del self._made[matmul_desc]

    matrix_layout_destroy = matmul_preference_destroy = matmul_desc_destroy

    def matmul_algo_get_heuristic(
        self,
        light_handle,
        operation_desc,
        adesc,
        bdesc,
        cdesc,
        ddesc,
        preference,
        requested_algo_count,
        heuristic_results_array,
        return_algo_count,
    ):
        operation = self._made[operation_desc]
        name = self.Epilogue(operation["EPILOGUE"]).name
        self.asked.append((name, self._made[preference]))
        assert (light_handle, requested_algo_count, cdesc) == (9, 1, ddesc)
        assert ("BIAS_POINTER" in operation) is (name != "RELU")
        if name in self.refused:
            raise self.cuBLASLtError("CUBLAS_STATUS_NOT_SUPPORTED")
        result = np.zeros((), self.matmul_heuristic_result_dtype)
        result["algo"]["data_"] = operation["EPILOGUE"]
        ctypes.memmove(heuristic_results_array, result.ctypes.data, result.nbytes)
        ctypes.c_int.from_address(return_algo_count).value = 1

    def matmul(
        self,
        light_handle,
        compute_desc,
        alpha,
        a,
        adesc,
        b,
        bdesc,
        beta,
        c,
        cdesc,
        d,
        ddesc,
        algo,
        workspace,
        workspace_size_in_bytes,
        stream,
    ):
        operation, one, two, out = (self._made[i] for i in (compute_desc, adesc, bdesc, ddesc))
        kind, name = operation["EPILOGUE"], self.Epilogue(operation["EPILOGUE"]).name
        assert (light_handle, c, cdesc) == (9, d, ddesc)
        assert ctypes.c_uint64.from_address(algo).value == kind
        assert workspace
        assert workspace_size_in_bytes == 32 << 20
        scalar = ctypes.c_double if operation["scale"] else ctypes.c_float
        assert [scalar.from_address(p).value for p in (alpha, beta)] == [1.0, 0.0]
        dtype = np.dtype(["float32", "float64"][operation["scale"]])
        self.computed.append((name, operation["compute"]))
        row = self._columns(operation["BIAS_POINTER"], dtype, 1, out["rows"], 1)[:, 0] if name != "RELU" else None

        def run():
            left, right, result = (
                self._columns(p, dtype, m["ld"], m["rows"], m["cols"]) for p, m in ((a, one), (b, two), (d, out))
            )
            left = left.T if operation["TRANSA"] else left
            right = right.T if operation["TRANSB"] else right
            value = left @ right
            if name == "BGRADA":
                row[...] = left.sum(1)
            elif row is not None:
                value = value + row[:, None]
            result[...] = self.relu(value) if "RELU" in name else value

        self._streams[stream].add(run)


@pytest.fixture
def cublaslt(cublas, gpu, monkeypatch):
    """The cublasLt in the place of nvmath's, beside the cuBLAS."""
    fake = FakeCublasLt(gpu.streams, cublas.columns)
    monkeypatch.setitem(sys.modules, "nvmath.bindings.cublasLt", fake)
    return fake


def placed(device, values, transposed=False, margin=2):
    """Where a matrix lies, stored by columns if ``transposed``, within a larger one; and the array of it."""
    stored = np.ascontiguousarray(values.T if transposed else values)
    high, wide = stored.shape
    array = device.allocate(Type((high, wide + margin), values.dtype.name))
    device.write(array, np.pad(stored, ((0, 0), (0, margin))))
    return Operand(device.address(array), wide + margin, transposed, 0), array


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("kind", ["bias", "relu", "relu_bias", "bgrada"])
def test_epilogues_are_asked_of_cublaslt_with_operands_exchanged(cublas, cublaslt, kind, turned):
    device = device_cupy.gpu()
    chosen = np.random.default_rng(0)
    m, n, k = 3, 4, 5
    left, right, row = (chosen.normal(size=s) for s in ((m, k), (k, n), (1, n)))
    operands, arrays = zip(
        placed(device, left, turned[0]), placed(device, right, turned[1]), placed(device, np.zeros((m, n))), strict=True
    )
    at, numbers = placed(device, row)
    product = Product(m, n, k, 1, "float64", "float32", *operands, kind, 0 if kind == "relu" else at.address)
    assert device.fuses(product)
    device.capture([product]).launch()
    expected = left @ right + (row if "bias" in kind else 0)
    expected = np.maximum(expected, 0) if "relu" in kind else expected
    np.testing.assert_allclose(device.read(arrays[2])[:, :n], expected, rtol=1e-12)
    sums = right.sum(0) if kind == "bgrada" else row[0]
    np.testing.assert_allclose(device.read(numbers)[0, :n], sums, rtol=1e-12)
    assert cublaslt.computed[-1] == (kind.upper(), 70)
    assert not cublas.log


def like(device, kind="bias", precision="float32", addresses=(0, 0, 0), row=0, m=8):
    operands = [Operand(a, 16, False, 0) for a in addresses]
    return Product(m, 8, 8, 1, "float32", precision, *operands, kind, row)


def test_an_algorithm_is_asked_for_once_a_shape_and_does_not_depend_on_where_operands_lie(cublaslt):
    """A plan that was read from a folder asks when it is bound; then what it finds is what lowering found."""
    device = device_cupy.gpu()
    for address in (0, 1 << 20, 1 << 30):
        assert device.fuses(like(device, addresses=(address, address + 16, address + 32), row=address))
    assert len(cublaslt.asked) == 1
    assert device.fuses(like(device, addresses=(4, 8, 0)))
    assert device.fuses(like(device, m=9))
    assert device.fuses(like(device, precision="tf32"))
    limits = {"MAX_WORKSPACE_BYTES": 32 << 20, **{f"MIN_ALIGNMENT_{m}_BYTES": 16 for m in "ABCD"}}
    odd = limits | {"MIN_ALIGNMENT_A_BYTES": 8, "MIN_ALIGNMENT_B_BYTES": 4}
    assert cublaslt.asked == [("BIAS", limits), ("BIAS", odd), ("BIAS", limits), ("BIAS", limits)]


def test_precisions_reach_cublaslt(cublaslt):
    device = device_cupy.gpu()
    block = device.allocate(Type((16, 16), "float32"))
    at = [device.address(block)] * 3
    device.capture([like(device, "bias", p, at, at[0]) for p in PRECISIONS])
    assert cublaslt.computed == [("BIAS", 68), ("BIAS", 68), ("BIAS", 77), ("BIAS", 75)]


def test_what_cublaslt_has_no_algorithm_for_is_told_once_and_not_fused(cublaslt, caplog):
    device = device_cupy.gpu()
    cublaslt.refused = {"BGRADA"}
    with caplog.at_level("INFO", "graphnet"):
        assert [device.fuses(like(device, kind)) for kind in ("bgrada", "bias", "bgrada")] == [False, True, False]
    assert [r.getMessage() for r in caplog.records] == [
        "graphnet: cublasLt has no bgrada for (8, 8) @ (8, 8): CUBLAS_STATUS_NOT_SUPPORTED"
    ]
    with pytest.raises(gn.BackendError, match="a plan has bgrada computed by cublasLt, which cannot do it here"):
        device.capture([like(device, "bgrada")])


def test_a_relu_that_loses_nan_is_not_used(cublaslt, caplog):
    """As that of some versions does: a net whose parameters are NaN would have a finite loss."""
    device = device_cupy.gpu()
    cublaslt.relu = lambda x: np.where(x > 0, x, 0)
    with caplog.at_level("INFO", "graphnet"):
        kinds = ("relu", "bias", "relu_bias", "bgrada")
        assert [device.fuses(like(device, kind)) for kind in kinds] == [False, True, False, True]
    assert [r.getMessage() for r in caplog.records] == [
        "graphnet: relu of NaN is 0 in cublasLt 130200: relu stays in graphnet's own kernels"
    ]


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "too old"])
def test_without_a_cublaslt_of_use_cublas_computes_products_alone(cublas, cublaslt, monkeypatch, caplog, missing):
    cublaslt.version = 11000
    if missing:
        monkeypatch.setitem(sys.modules, "nvmath.bindings.cublasLt", None)
    with caplog.at_level("INFO", "graphnet"):
        device = device_cupy.gpu()
        assert device.library
        assert not device.fusing
        assert not device.fuses(like(device))
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().endswith("cuBLAS computes products and nothing besides")


def test_the_version_and_the_gpu_are_part_of_a_plans_identity(cublaslt):
    assert device_cupy.gpu()._library.describe() == "cuBLAS 13.0.2 by nvmath, epilogues by cublasLt 130200"
    assert "cublasLt 130200 90 3" in CudaBackend(device_cupy.gpu()).target.identity
    assert "cublasLt" not in CudaBackend(device_cupy.gpu(), epilogues=False).target.identity


@gn.model
def layers(x):
    return gn.layers.dense(gn.relu(gn.layers.dense(x, 12)), 3)


def test_a_net_trains_by_cublas_and_cublaslt_as_on_numpy(cublas, cublaslt, monkeypatch):
    monkeypatch.setattr(products, "LARGE", 1)
    chosen = np.random.default_rng(0)
    x, y = chosen.normal(size=(8, 7)).astype("float32"), chosen.integers(0, 3, 8)
    found = []
    for where in ({"device": "cuda"}, {"backend": "numpy"}):
        loss, optimizer = gn.losses.softmax_cross_entropy, gn.optim.SGD(lr=0.1)
        net = gn.compile(layers, gn.spec(x.shape), loss=loss, optimizer=optimizer, **where)
        found.append([float(net.step(x, y)) for _ in range(4)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    # a product with NaN to begin with; then a graph for each of the two blocks of inputs
    step = ["RELU_BIAS", "BIAS", "BGRADA", "BGRADA"]
    assert [name for name, _ in cublaslt.computed] == ["RELU", *step, *step]
    assert cublas.log == [68, 68]


def test_names_and_numbers_are_those_of_nvmaths_bindings():
    lt = pytest.importorskip("nvmath.bindings.cublasLt")
    for name in ("Epilogue", "MatmulDescAttribute", "MatmulPreferenceAttribute"):
        for member in getattr(FakeCublasLt, name):
            assert getattr(lt, name)[member.name] == member
    fake = FakeCublasLt({}, None)
    for attribute in FakeCublasLt.MatmulDescAttribute:
        assert lt.get_matmul_desc_attribute_dtype(attribute) == fake.get_matmul_desc_attribute_dtype(attribute)
    for attribute in FakeCublasLt.MatmulPreferenceAttribute:
        found = lt.get_matmul_preference_attribute_dtype(attribute)
        assert found == fake.get_matmul_preference_attribute_dtype(attribute)
    assert lt.matmul_heuristic_result_dtype == FakeCublasLt.matmul_heuristic_result_dtype
    assert issubclass(lt.cuBLASLtError, Exception)
    called = [name for name in vars(FakeCublasLt) if name.startswith(("matmul", "matrix")) or name == "create"]
    for name in called:
        if callable(getattr(fake, name)) and not name.endswith("destroy"):
            theirs = inspect.signature(getattr(lt, name)).parameters
            assert list(theirs) == list(inspect.signature(getattr(fake, name)).parameters), name
