"""Products with an epilogue by cublasLt, through the bindings of nvmath-python.

What ``device_cublas`` says of rows and columns holds here: out' = right' @ left', so a row of numbers for the columns
of out is one for the rows of what cublasLt computes, as its biases are, and ``bgrada`` sums its first operand, right'.

cublasLt is asked once which algorithm it takes for a shape, from facts that no run changes: sizes, strides, and how
far addresses are behind multiples of 16 bytes. The same product is computed in the same way in every run, and a call
that is captured decides and allocates nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphnet.device import Address, Operand, Product

LOG = logging.getLogger("graphnet")

OLDEST = 111103
"""The first version with a bias' gradient (CUDA 11.8)."""

ALIGNED = 16
"""Bytes of whose multiples addresses are known to be, or how far behind one."""


@dataclass(frozen=True)
class Way:
    """How a product is computed: cublasLt's descriptions of it, and the algorithm it chose, in host memory."""

    operation: int
    layouts: tuple[int, int, int]
    chosen: np.ndarray


class Epilogues:
    """A cublasLt handle that works in ``workspace``; its version is ``version``.

    ``kinds`` gives cudaDataType and cublasComputeType of a dtype and a precision, ``scalars`` one and zero of a dtype.
    """

    def __init__(
        self,
        lt: Any,
        kinds: dict[tuple[str, str], tuple[int, int]],
        scalars: dict[str, tuple[np.ndarray, np.ndarray]],
        workspace: tuple[Address, int],
    ) -> None:
        self._lt, self._kinds, self._scalars = lt, kinds, scalars
        self.version = int(lt.get_version())
        if self.version < OLDEST:
            raise RuntimeError(f"cublasLt {self.version} is older than {OLDEST}")
        self._handle = lt.create()
        self._workspace, self._nbytes = workspace
        self._ways: dict[Product, Way | None] = {}

    def fuses(self, p: Product) -> bool:
        """Whether cublasLt computes the product with its epilogue."""
        return self._way(p) is not None

    def bound(self, p: Product) -> Callable[[Any], None]:
        """A function of a stream that starts the product there; ``fuses`` holds for it."""
        way, lt = self._way(p), self._lt
        assert way is not None
        one, zero = (s.ctypes.data for s in self._scalars[p.dtype])
        a, b, out = way.layouts

        def start(stream: Any) -> None:
            if p.row:  # read from the description when it is called
                self._describe(way.operation, "BIAS_POINTER", p.row)
            operands = (one, p.right.address, a, p.left.address, b, zero, p.out.address, out, p.out.address, out)
            algorithm = way.chosen.ctypes.data
            given = (*operands, algorithm, self._workspace, self._nbytes, stream.ptr)
            lt.matmul(self._handle, way.operation, *given)

        return start

    def _way(self, p: Product) -> Way | None:
        """How such a product is computed; None, and a line in the log, where cublasLt knows none."""
        key = _placed(p)
        if key not in self._ways:
            self._ways[key] = self._find(key)
        return self._ways[key]

    def _find(self, p: Product) -> Way | None:
        lt = self._lt
        kind, compute = self._kinds[p.dtype, p.precision]
        operation = lt.matmul_desc_create(compute, kind)
        self._describe(operation, "TRANSA", int(p.right.transposed))
        self._describe(operation, "TRANSB", int(p.left.transposed))
        self._describe(operation, "EPILOGUE", int(lt.Epilogue[p.epilogue.upper()]))
        if p.row:  # some row: what is asked here depends on there being one
            self._describe(operation, "BIAS_POINTER", self._workspace + ALIGNED)
        sizes = ((p.right, p.k, p.n), (p.left, p.m, p.k), (p.out, p.m, p.n))
        a, b, out = (_layout(lt, kind, *given) for given in sizes)
        preference = self._preference(p)
        found, count = np.zeros(1, lt.matmul_heuristic_result_dtype), np.zeros(1, np.int32)
        given = (preference, 1, found.ctypes.data, count.ctypes.data)
        try:
            lt.matmul_algo_get_heuristic(self._handle, operation, a, b, out, out, *given)
            failed = "" if count[0] and not found["state"][0] else "no algorithm"
        except lt.cuBLASLtError as error:
            failed = str(error)
        lt.matmul_preference_destroy(preference)
        if not failed:
            return Way(operation, (a, b, out), found)
        LOG.info("graphnet: cublasLt has no %s for (%d, %d) @ (%d, %d): %s", p.epilogue, p.m, p.k, p.k, p.n, failed)
        for layout in (a, b, out):
            lt.matrix_layout_destroy(layout)
        lt.matmul_desc_destroy(operation)
        return None

    def _describe(self, operation: int, name: str, value: int) -> None:
        lt = self._lt
        attribute = lt.MatmulDescAttribute[name]
        held = np.array(value, lt.get_matmul_desc_attribute_dtype(attribute))
        lt.matmul_desc_set_attribute(operation, int(attribute), held.ctypes.data, held.nbytes)

    def _preference(self, p: Product) -> int:
        """The algorithms to choose from: those that do with the workspace and with the operands' addresses."""
        lt = self._lt
        preference: int = lt.matmul_preference_create()
        alignments = [_alignment(m.address) for m in (p.right, p.left, p.out, p.out)]
        limits = {"MAX_WORKSPACE_BYTES": self._nbytes}
        limits |= {f"MIN_ALIGNMENT_{m}_BYTES": n for m, n in zip("ABCD", alignments, strict=True)}
        for name, value in limits.items():
            attribute = lt.MatmulPreferenceAttribute[name]
            held = np.array(value, lt.get_matmul_preference_attribute_dtype(attribute))
            lt.matmul_preference_set_attribute(preference, int(attribute), held.ctypes.data, held.nbytes)
        return preference


def _placed(p: Product) -> Product:
    """The product with all that its algorithm may depend on, and of its addresses no more."""

    def rest(operand: Operand) -> Operand:
        return replace(operand, address=operand.address % ALIGNED)

    row = int(p.epilogue != "relu")
    return replace(p, left=rest(p.left), right=rest(p.right), out=rest(p.out), row=row)


def _alignment(address: Address) -> int:
    """The largest power of two, up to ALIGNED, of which an address is a multiple."""
    return address & -address if address % ALIGNED else ALIGNED


def _layout(lt: Any, kind: int, operand: Operand, rows: int, columns: int) -> int:
    """cublasLt's description of a row-major (rows, columns), or of what is stored in its place: columns by rows."""
    high, wide = (columns, rows) if operand.transposed else (rows, columns)
    found: int = lt.matrix_layout_create(kind, wide, high, operand.stride)
    return found
