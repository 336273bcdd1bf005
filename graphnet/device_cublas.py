"""Products by cuBLAS, through the bindings of nvmath-python: CuPy's own refuse while a CUDA graph is captured.

cuBLAS thinks in columns: a row-major (m, n) matrix is a column-major (n, m) one of the same memory. So
out = left @ right is asked for as out' = right' @ left', and no matrix is turned. Those with an epilogue are for
cublasLt, in ``device_cublaslt``; for all others cuBLAS itself chooses how.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from graphnet.backend import PRECISIONS
from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import Type
from graphnet.device import Device, Operand, Product
from graphnet.device_cublaslt import Epilogues
from graphnet.tensor import user_where

LOG = logging.getLogger("graphnet")

WORKSPACE = 32 << 20
"""Bytes that cuBLAS works in: what NVIDIA advises for its largest GPUs. One of its own, so that a captured call
allocates nothing and gives the same bits every time."""

NAN_SIZE = 64
"""Rows and columns of the product that shows what relu of NaN is."""


def library_or_none(device: Device) -> Library | None:
    """cuBLAS; None, and a line in the log, where nvmath-python or cuBLAS is missing."""
    try:
        cublas = importlib.import_module("nvmath.bindings.cublas")
        return Library(cublas, device)
    except (ImportError, RuntimeError) as error:  # nvmath's own errors for libraries it does not find
        LOG.info("graphnet: no cuBLAS (%s): products are computed by graphnet's own kernels", error)
        return None


class Library:
    """cuBLAS and, where it is found, cublasLt, with memory of the device to work in."""

    def __init__(self, cublas: Any, device: Device) -> None:
        self._cublas, self._device = cublas, device
        self._handle = cublas.create()
        self._workspace = device.allocate(Type((WORKSPACE,), "uint8"))
        compute, types = cublas.ComputeType, _TYPES
        self._kinds = {
            ("float32", "float32"): (types["float32"], int(compute.COMPUTE_32F)),
            ("float32", "tf32x3"): (types["float32"], int(compute.COMPUTE_32F)),
            ("float32", "tf32"): (types["float32"], int(compute.COMPUTE_32F_FAST_TF32)),
            ("float32", "bf16"): (types["float32"], int(compute.COMPUTE_32F_FAST_16BF)),
        }
        self._kinds |= {("float64", p): (types["float64"], int(compute.COMPUTE_64F)) for p in PRECISIONS}
        # read by cuBLAS when it is called, from host memory
        self._scalars = {d: (np.ones((), d), np.zeros((), d)) for d in types}
        self._epilogues = self._epilogues_or_none()

    def _epilogues_or_none(self) -> Epilogues | None:
        """cublasLt; None, and a line in the log, where it is missing or too old."""
        try:
            lt = importlib.import_module("nvmath.bindings.cublasLt")
            return Epilogues(lt, self._kinds, self._scalars, (self._device.address(self._workspace), WORKSPACE))
        except (ImportError, RuntimeError) as error:
            LOG.info("graphnet: no cublasLt (%s): cuBLAS computes products and nothing besides", error)
            return None

    @property
    def fusing(self) -> str:
        """What computes products with an epilogue, with its version; "" if nothing does."""
        return f"cublasLt {self._epilogues.version}" if self._epilogues is not None else ""

    def fuses(self, p: Product) -> bool:
        """Whether a product is computed with its epilogue as graphnet's own kernels would."""
        if self._epilogues is None or ("relu" in p.epilogue and not self._relu_keeps_nan):
            return False
        return self._epilogues.fuses(p)

    @functools.cached_property
    def _relu_keeps_nan(self) -> bool:
        """Whether relu of NaN is NaN; where cublasLt makes it 0, that would hide what went wrong."""
        n, device = NAN_SIZE, self._device
        values, result = (device.allocate(Type((n, n), "float32")) for _ in range(2))
        device.write(values, np.nan)
        given, out = (Operand(device.address(a), n, False, 0) for a in (values, result))
        product = Product(n, n, n, 1, "float32", "float32", given, given, out, "relu")
        if self._epilogues is None or not self._epilogues.fuses(product):
            return False
        device.times([product])
        keeps = bool(np.isnan(device.read(result)).all())
        if not keeps:
            LOG.info("graphnet: relu of NaN is 0 in %s: relu stays in graphnet's own kernels", self.fusing)
        return keeps

    def bound(self, p: Product) -> Callable[[Any], None]:
        """A function of a stream that starts a product there, or adds it to what is captured there.

        Raises BackendError where there is nothing for its epilogue.
        """
        if not p.epilogue:
            return lambda stream: self._multiply(p, stream)
        if self._epilogues is None or not self._epilogues.fuses(p):
            raise BackendError(f"{user_where()}: a plan has {p.epilogue} computed by cublasLt, which cannot do it here")
        return self._epilogues.bound(p)

    def _multiply(self, p: Product, stream: Any) -> None:
        cublas, handle = self._cublas, self._handle
        kind, compute = self._kinds[p.dtype, p.precision]
        one, zero = (s.ctypes.data for s in self._scalars[p.dtype])
        cublas.set_stream(handle, stream.ptr)
        # a new stream has put cuBLAS's own workspace back
        cublas.set_workspace(handle, self._device.address(self._workspace), WORKSPACE)
        first, second = self._operation(p.right), self._operation(p.left)
        a, b, c = p.right, p.left, p.out
        algorithm = int(cublas.GemmAlgo.DFALT)
        if p.batch == 1:
            left, right = (a.address, kind, a.stride), (b.address, kind, b.stride)
            out = (c.address, kind, c.stride)
            cublas.gemm_ex(handle, first, second, p.n, p.m, p.k, one, *left, *right, zero, *out, compute, algorithm)
            return
        left, right = (a.address, kind, a.stride, a.step), (b.address, kind, b.stride, b.step)
        out = (c.address, kind, c.stride, c.step)
        cublas.gemm_strided_batched_ex(
            handle, first, second, p.n, p.m, p.k, one, *left, *right, zero, *out, p.batch, compute, algorithm
        )

    def _operation(self, operand: Operand) -> int:
        kinds = self._cublas.Operation
        return int(kinds.T if operand.transposed else kinds.N)

    def describe(self) -> str:
        """Its version, as ``graphnet info`` shows it."""
        number = self._cublas.get_version(self._handle)
        besides = f"epilogues by {self.fusing}" if self.fusing else "no cublasLt: no epilogues"
        return f"cuBLAS {number // 10000}.{number // 100 % 100}.{number % 100} by nvmath, {besides}"


_TYPES = {"float32": 0, "float64": 1}
"""cudaDataType: CUDA_R_32F, CUDA_R_64F."""
