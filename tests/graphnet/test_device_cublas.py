"""Products left to cuBLAS, by a cuBLAS that computes as its manual says: on columns."""

from __future__ import annotations

import ctypes
import sys
import types

import numpy as np
import pytest

from graphnet import device_cupy
from graphnet.backend import PRECISIONS
from graphnet.compiler.ir import Type
from graphnet.device import Operand, Product


class FakeCublas:
    """cublasGemmEx and its like as their manual has them: column-major, on addresses."""

    ComputeType = types.SimpleNamespace(
        COMPUTE_32F=68, COMPUTE_32F_FAST_TF32=77, COMPUTE_32F_FAST_16BF=75, COMPUTE_64F=70
    )
    Operation = types.SimpleNamespace(N=0, T=1)
    GemmAlgo = types.SimpleNamespace(DFALT=-1)

    def __init__(self, streams):
        self.log, self._streams = [], streams

    def create(self):
        return 7

    def get_version(self, handle):
        return 130002

    def set_stream(self, handle, stream):
        self.stream = self._streams[stream]
        self.workspace = None

    def set_workspace(self, handle, address, nbytes):
        self.workspace = nbytes

    def gemm_ex(self, handle, ta, tb, m, n, k, one, a, at, lda, b, bt, ldb, zero, c, ct, ldc, compute, algorithm):
        given = (one, a, at, lda, 0, b, bt, ldb, 0, zero, c, ct, ldc, 0, 1, compute, algorithm)
        self.gemm_strided_batched_ex(handle, ta, tb, m, n, k, *given)

    def gemm_strided_batched_ex(self, handle, ta, tb, m, n, k, *given):
        one, a, at, lda, sa, b, bt, ldb, sb, zero, c, ct, ldc, sc, batch, compute, algorithm = given
        assert self.workspace
        assert algorithm == -1
        assert at == bt == ct
        scalar = ctypes.c_double if at else ctypes.c_float
        assert [scalar.from_address(p).value for p in (one, zero)] == [1.0, 0.0]
        self.log.append(compute)
        dtype = np.dtype(["float32", "float64"][at])

        def columns(address, ld, rows, cols):
            interface = {"shape": (rows, cols), "typestr": dtype.str, "data": (address, False), "version": 3}
            interface["strides"] = (dtype.itemsize, ld * dtype.itemsize)
            return np.asarray(types.SimpleNamespace(__array_interface__=interface))

        def run():
            for i in range(batch):
                left = columns(a + i * sa * dtype.itemsize, lda, *((k, m) if ta else (m, k)))
                right = columns(b + i * sb * dtype.itemsize, ldb, *((n, k) if tb else (k, n)))
                result = columns(c + i * sc * dtype.itemsize, ldc, m, n)
                result[...] = (left.T if ta else left) @ (right.T if tb else right)

        self.stream.add(run)


@pytest.fixture
def cublas(gpu, monkeypatch):
    """The cuBLAS in the place of nvmath's."""
    fake = FakeCublas(gpu.streams)
    for name in ("nvmath", "nvmath.bindings", "nvmath.bindings.cublas"):
        monkeypatch.setitem(sys.modules, name, fake)
    return fake


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_products_are_asked_of_cublas_with_operands_exchanged(cublas, turned, batch):
    device = device_cupy.gpu()
    assert device.library
    chosen = np.random.default_rng(0)
    m, n, k = 3, 4, 5
    operands, matrices = [], []
    for (rows, columns), t in zip(((m, k), (k, n), (m, n)), (*turned, False), strict=True):
        high, wide = (columns, rows) if t else (rows, columns)
        stride = wide + 2  # rows of a larger matrix
        values = chosen.normal(size=(batch, high, stride))
        array = device.allocate(Type(values.shape, "float64"))
        device.write(array, values)
        operands.append(Operand(device.address(array), stride, t, high * stride))
        matrices.append((array, values[:, :, :wide].transpose(0, 2, 1) if t else values[:, :, :wide]))
    device.capture([Product(m, n, k, batch, "float64", "tf32", *operands)]).launch()
    found = device.read(matrices[2][0])
    np.testing.assert_allclose(found[:, :, :n], matrices[0][1] @ matrices[1][1], rtol=1e-12)
    assert cublas.log == [70]


def test_the_precision_asked_for_reaches_cublas(cublas):
    device = device_cupy.gpu()
    block = device.address(device.allocate(Type((4, 4), "float32")))
    operand = Operand(block, 4, False, 0)
    work = [Product(2, 2, 2, 1, "float32", p, operand, operand, operand) for p in PRECISIONS]
    device.capture(work)
    assert cublas.log == [68, 77, 75]
