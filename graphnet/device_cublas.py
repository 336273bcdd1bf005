"""Products by cuBLAS, through the bindings of nvmath-python: CuPy's own refuse while a CUDA graph is captured.

cuBLAS thinks in columns: a row-major (m, n) matrix is a column-major (n, m) one of the same memory. So
out = left @ right is asked for as out' = right' @ left', and no matrix is turned.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from graphnet.compiler.ir import Type
from graphnet.device import Operand, Product

LOG = logging.getLogger("graphnet")

WORKSPACE = 32 << 20
"""Bytes that cuBLAS works in: what NVIDIA advises for its largest GPUs. One of its own, so that a captured call
allocates nothing and gives the same bits every time."""


def library_or_none(allocate: Callable[[Type], Any]) -> Library | None:
    """cuBLAS; None, and a line in the log, where nvmath-python or cuBLAS is missing."""
    try:
        cublas = importlib.import_module("nvmath.bindings.cublas")
        return Library(cublas, allocate)
    except (ImportError, RuntimeError) as error:  # nvmath's own errors for libraries it does not find
        LOG.info("graphnet: no cuBLAS (%s): products are computed by graphnet's own kernels", error)
        return None


class Library:
    """A cuBLAS handle with memory to work in."""

    def __init__(self, cublas: Any, allocate: Callable[[Type], Any]) -> None:
        self._cublas = cublas
        self._handle = cublas.create()
        self._workspace = allocate(Type((WORKSPACE,), "uint8"))
        compute, types = cublas.ComputeType, _TYPES
        self._kinds = {
            ("float32", "float32"): (types["float32"], int(compute.COMPUTE_32F)),
            ("float32", "tf32"): (types["float32"], int(compute.COMPUTE_32F_FAST_TF32)),
            ("float32", "bf16"): (types["float32"], int(compute.COMPUTE_32F_FAST_16BF)),
        }
        self._kinds |= {
            ("float64", p): (types["float64"], int(compute.COMPUTE_64F)) for p in ("float32", "tf32", "bf16")
        }
        # read by cuBLAS when it is called, from host memory
        self._scalars = {d: (np.ones((), d), np.zeros((), d)) for d in types}

    def multiply(self, p: Product, stream: Any) -> None:
        """Start a product on a stream, or add it to what is captured there."""
        cublas, handle = self._cublas, self._handle
        kind, compute = self._kinds[p.dtype, p.precision]
        one, zero = (s.ctypes.data for s in self._scalars[p.dtype])
        cublas.set_stream(handle, stream.ptr)
        # a new stream has put cuBLAS's own workspace back
        cublas.set_workspace(handle, self._workspace.data.ptr, WORKSPACE)
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
        return f"cuBLAS {number // 10000}.{number // 100 % 100}.{number % 100} by nvmath"


_TYPES = {"float32": 0, "float64": 1}
"""cudaDataType: CUDA_R_32F, CUDA_R_64F."""
