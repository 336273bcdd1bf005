"""Which products cuBLAS can compute, how they are told to it, and that the rest of a plan gets the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_cuda import CudaBackend
from graphnet.compiler.cuda import Gemm, products
from graphnet.compiler.cuda.products import LARGE, is_large
from graphnet.compiler.ir import NOWHERE
from graphnet.compiler.schedule import Array, Kernel, LoopTerm
from graphnet.compiler.strides import contiguous_strides
from graphnet.device_emulated import EmulatedDevice


def array(*shape, strides=None, dtype="float32", terms=()):
    return Array(0, dtype, shape, strides or contiguous_strides(shape), 0, terms)


def product(left, right, dtype="float32"):
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    out = array(*batch, left.shape[-2], right.shape[-1], dtype=dtype)
    return Kernel("matmul", {}, (left, right), (out,), None, NOWHERE, 0, "forward")


@pytest.fixture
def all_large(monkeypatch):
    """Every product is large enough."""
    monkeypatch.setattr(products, "LARGE", dict.fromkeys(LARGE, 1))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (array(4, 6), array(6, 5)),
        (array(4, 6, strides=(1, 4)), array(6, 5, strides=(1, 6))),
        (array(4, 6, strides=(9, 1)), array(6, 5)),
        (array(3, 4, 6), array(3, 6, 5)),
        (array(3, 4, 6), array(6, 5)),
        (array(2, 3, 4, 6), array(2, 3, 6, 5)),
        (array(3, 4, 6, strides=(6, 18, 1)), array(6, 5)),
        (array(1, 6), array(6, 1)),
    ],
    ids=["rows", "both transposed", "rows apart", "batch", "one for all", "two batch axes", "batch inside", "vectors"],
)
def test_the_library_takes_matrices_with_rows_or_columns_in_one_piece(all_large, left, right):
    assert is_large(product(left, right), "float32")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (array(4, 6, strides=(12, 2)), array(6, 5)),
        (array(4, 6, strides=(-6, 1)), array(6, 5)),
        (array(4, 6, strides=(0, 1)), array(6, 5)),
        (array(2, 3, 4, 6, strides=(100, 24, 6, 1)), array(6, 5)),
        (array(4, 6, terms=(LoopTerm(0, 24, 0, 5),)), array(6, 5)),
        (array(4, 6, dtype="int32"), array(6, 5, dtype="int32")),
        (array(0, 6), array(6, 5)),
    ],
    ids=["columns apart", "backwards", "repeated rows", "uneven batch", "moved by a loop", "integers", "empty"],
)
def test_graphnet_computes_the_others_itself(all_large, left, right):
    assert not is_large(product(left, right, left.dtype), "float32")


def test_small_products_stay_and_fuse():
    limit = LARGE["float32"]
    assert is_large(product(array(limit // 512, 32), array(32, 16)), "float32")
    assert not is_large(product(array(limit // 512 - 1, 32), array(32, 16)), "float32")


@gn.model
def views(x):
    """Products of transposed, sliced, batched and broadcast operands, with work behind them."""
    w = gn.param("w", (6, 5), gn.init.normal(0.0, 1.0))
    v = gn.param("v", (3, 5, 4), gn.init.normal(0.0, 1.0))
    y = gn.relu(gn.matmul(x, w) + 1.0)
    z = gn.matmul(y, v) + gn.matmul(gn.transpose(x[:, :, 1:5], (0, 2, 1)), x)[:, :4, :4]
    return gn.sum(z * z)


def test_products_of_the_library_and_generated_ones_train_alike(all_large):
    """The same steps on NumPy, and on the emulated device with and without its library."""
    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")

    def train(library, **where):
        if library is not None:
            where = {"device": "cuda", "backend": CudaBackend(EmulatedDevice(grid=3, library=library))}
        net = gn.compile(views, gn.spec(x.shape), optimizer=gn.optim.SGD(lr=1e-4), seed=3, **where)
        losses = [float(net.step(x)) for _ in range(3)]
        return losses, net

    expected, _ = train(None, backend="numpy")
    for library in (True, False):
        found, net = train(library)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        source = net.backend.emit(net.plan)
        assert any(isinstance(item, Gemm) for item in source.parts[""]) is library
