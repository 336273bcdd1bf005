"""Products left to cuBLAS, by a cuBLAS that computes as its manual says: on columns. See conftest.py."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet import device_cupy
from graphnet.backend import PRECISIONS
from graphnet.compiler.ir import Type
from graphnet.device import Operand, Product


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
    assert cublas.log == [68, 68, 77, 75]
