"""A GPU played by the CPU: NumPy memory, and the emulator of CUDA text. For tests, and for looking into kernels."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import Type
from graphnet.device import ALIGNED, Address, Call, Operand, Product, Work
from graphnet.kernels.c.cache import ToolchainError
from graphnet.kernels.cuda import emulator
from graphnet.kernels.cuda.emulator import Emulated, Order
from graphnet.tensor import user_where

RESIDENT = 8
"""Blocks that the emulated GPU holds at once: cooperative kernels get no more."""


class EmulatedDevice:
    """Runs CUDA text on the CPU; see ``graphnet.device.Device``.

    Launches have at most ``grid`` blocks, if given; ``order`` is that of blocks and threads. Neither changes a result
    of a right kernel. ``library`` leaves large products to NumPy, as a GPU leaves them to cuBLAS; ``bytes_in_all`` is
    the memory it plays to have.
    """

    name = "emulated"
    fusing = "numpy"
    shared = 227 * 1024
    tensor = True

    def __init__(
        self,
        grid: int | None = None,
        order: Order = "forward",
        library: bool = True,
        bytes_in_all: int | None = None,
    ) -> None:
        self.grid = grid
        self.order = order
        self.library = library
        self._all = bytes_in_all or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._used = 0

    def fuses(self, product: Product) -> bool:
        return True

    # -- memory ---------------------------------------------------------------------------------------

    def allocate(self, type_: Type) -> np.ndarray:
        block = _aligned(type_.nbytes)
        self._used += type_.nbytes
        weakref.finalize(block.base, self._freed, type_.nbytes)
        return block.view(type_.dtype).reshape(type_.shape)

    def _freed(self, nbytes: int) -> None:
        self._used -= nbytes

    def view(self, block: np.ndarray, type_: Type, offset: int = 0, strides: Sequence[int] | None = None) -> np.ndarray:
        if not type_.size:
            return np.empty(type_.shape, type_.dtype)
        return np.ndarray(type_.shape, type_.dtype, block, offset, strides)

    def address(self, array: np.ndarray) -> Address:
        return array.ctypes.data

    def holds(self, value: Any) -> bool:
        return False

    def taken(self, value: Any, dtype: str | None = None) -> np.ndarray:
        return np.ascontiguousarray(value, dtype)

    def write(self, array: np.ndarray, value: Any) -> None:
        np.copyto(array, value, casting="unsafe")

    def read(self, array: np.ndarray) -> np.ndarray:
        return array.copy()

    def copied(self, array: np.ndarray) -> np.ndarray:
        return array.copy()

    def move(self, to: Address, source: Address, nbytes: int) -> None:
        _bytes_at(to, nbytes)[:] = _bytes_at(source, nbytes)

    def lane(self, block: np.ndarray) -> _Lane:
        return _Lane(block)

    def room(self) -> tuple[int, int]:
        return self._all - self._used, self._all

    # -- running --------------------------------------------------------------------------------------

    def load(self, text: str, pieces: Sequence[str] = ()) -> Emulated:
        try:
            return emulator.load(text)
        except ToolchainError as error:
            raise BackendError(f"{user_where()}: {error}") from None

    def capture(self, work: Sequence[Work]) -> _Calls:
        return _Calls([self._bound(one) for one in work])

    def times(self, work: Sequence[Work]) -> list[float]:
        seconds = []
        for one in work:
            run = self._bound(one)
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return seconds

    def synchronize(self) -> None:
        """Everything is done at once."""

    def _bound(self, one: Work) -> Callable[[], None]:
        if isinstance(one, Product):
            return lambda: _multiply(one)
        most = self.grid or (RESIDENT if one.cooperative else one.grid)
        grid = min(one.grid, most)
        return lambda: self._start(one, grid)

    def _start(self, call: Call, grid: int) -> None:
        call.module.launch(
            call.kernel,
            grid,
            call.arguments,
            dynamic=call.dynamic,
            cooperative=call.cooperative,
            order=self.order,
        )


class _Calls:
    """A list of calls."""

    def __init__(self, calls: Sequence[Callable[[], None]]) -> None:
        self._calls = calls

    def launch(self) -> None:
        for call in self._calls:
            call()


class _Lane:
    """Copies that are done when they are asked for."""

    def __init__(self, block: np.ndarray) -> None:
        self.host, self._block = _aligned(block.nbytes), block

    def upload(self, start: int, nbytes: int) -> None:
        self._block[start : start + nbytes] = self.host[start : start + nbytes]

    def wait(self) -> None:
        """Nothing is outstanding."""

    used = finish = wait


def _aligned(nbytes: int) -> np.ndarray:
    raw = np.zeros(nbytes + ALIGNED, np.uint8)
    start = -raw.ctypes.data % ALIGNED
    return raw[start : start + nbytes]


def _bytes_at(address: Address, nbytes: int) -> np.ndarray:
    """Memory as NumPy bytes; whoever asks keeps its owner alive."""
    interface = {"shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3}
    return np.asarray(type("Memory", (), {"__array_interface__": interface})())


def _multiply(p: Product) -> None:
    """The product by NumPy, matrix by matrix, with its epilogue."""
    row = _bytes_at(p.row, p.n * np.dtype(p.dtype).itemsize).view(p.dtype) if p.row else None
    for b in range(p.batch):
        left = _matrix(p.left, p.m, p.k, p.dtype, b)
        right = _matrix(p.right, p.k, p.n, p.dtype, b)
        result = left @ right
        if p.epilogue == "bgrada" and row is not None:
            right.sum(0, out=row)
        elif row is not None:
            result += row
        _matrix(p.out, p.m, p.n, p.dtype, b)[...] = np.maximum(result, 0) if "relu" in p.epilogue else result


def _matrix(operand: Operand, rows: int, columns: int, dtype: str, number: int) -> np.ndarray:
    size = np.dtype(dtype).itemsize
    high, wide = (columns, rows) if operand.transposed else (rows, columns)
    reach = ((high - 1) * operand.stride + wide) * size
    block = _bytes_at(operand.address + operand.step * number * size, reach)
    found = np.ndarray((high, wide), dtype, block, 0, (operand.stride * size, size))
    return found.T if operand.transposed else found
