"""What the CUDA backend needs of a GPU: memory, copies, kernels, and lists of calls kept to be run again.

    launches of a Source ──addresses──> calls ──capture──> a graph that is launched once a step

Two devices offer it: ``device_cupy`` is a GPU, ``device_emulated`` runs the same text on the CPU. Their arrays are
CuPy's and NumPy's; a device hands them out, reads and writes them, and nothing else looks into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from graphnet.compiler.ir import Type

Address = int
"""Where something lies in the device's memory."""

ALIGNED = 256
"""The boundary at which every block of device memory begins, in bytes."""


@dataclass(frozen=True, slots=True)
class Call:
    """A kernel of a loaded text with all it is started with; ``arguments`` are the bytes of each parameter."""

    module: Any
    kernel: str
    grid: int
    arguments: tuple[bytes, ...]
    dynamic: int = 0
    cooperative: bool = False


@dataclass(frozen=True, slots=True)
class Operand:
    """A row-major matrix, or its transpose, at an address: see ``graphnet.compiler.cuda.Matrix``."""

    address: Address
    stride: int
    transposed: bool
    step: int


@dataclass(frozen=True, slots=True)
class Product:
    """out (m, n) = left (m, k) @ right (k, n), ``batch`` of them, of one dtype, computed in ``precision``.

    ``epilogue`` is what is done besides, with the numbers at ``row``: see ``graphnet.compiler.cuda.Gemm``.
    """

    m: int
    n: int
    k: int
    batch: int
    dtype: str
    precision: str
    left: Operand
    right: Operand
    out: Operand
    epilogue: str = ""
    row: Address = 0


Work = Call | Product


def aligned(nbytes: int) -> int:
    """Bytes up to the next boundary of ALIGNED."""
    return -(-nbytes // ALIGNED) * ALIGNED


class Graph(Protocol):
    """Calls in order, ready to be run as one."""

    def launch(self) -> None:
        """Start them; they are done when what is read afterwards says so."""


class Lane(Protocol):
    """A block of device memory with pinned memory of its size on the host, copied beside the device's other work."""

    host: np.ndarray
    """The bytes on the host, which may be written behind ``wait``."""

    def wait(self) -> None:
        """Return once no copy from the host's bytes is outstanding."""

    def upload(self, start: int, nbytes: int) -> None:
        """Copy bytes to the block, once what ``used`` told of is done; work asked for later waits for the copy."""

    def used(self) -> None:
        """Tell that work asked for so far may be at the block."""

    def finish(self) -> None:
        """Return once the work that ``used`` told of is done."""


class Device(Protocol):
    """A GPU, or what stands in for one. What it is asked to do is done in the order of asking; lanes have their own.

    ``name`` is the backend's, ``library`` says whether it has products of its own. ``fusing`` names what computes
    products with an epilogue, where its answers to ``fuses`` may differ; "" if nothing. A block has at most ``shared``
    bytes of shared memory; ``tensor`` says whether tensor cores take TF32.
    """

    name: str
    library: bool
    fusing: str
    shared: int
    tensor: bool

    def fuses(self, product: Product) -> bool:
        """Whether the library computes a product with its epilogue; of the addresses only the rest by 16 counts."""

    def allocate(self, type_: Type) -> Any:
        """A zeroed array at a boundary of ALIGNED bytes; raises BackendError where there is no room for it."""

    def view(self, block: Any, type_: Type, offset: int = 0, strides: Sequence[int] | None = None) -> Any:
        """An array on a block of bytes; offset and strides count bytes."""

    def address(self, array: Any) -> Address:
        """Where an array's first element lies."""

    def holds(self, value: Any) -> bool:
        """Whether a value is an array in GPU memory, of CuPy or of another library that speaks DLPack."""

    def taken(self, value: Any, dtype: str | None = None) -> Any:
        """Such a value as an array of this device, contiguous, and of ``dtype`` if given."""

    def write(self, array: Any, value: Any) -> None:
        """Put a value into an array, from NumPy or from the device, converted to its dtype."""

    def read(self, array: Any) -> np.ndarray:
        """An array's values in new NumPy memory, once everything asked before is done."""

    def copied(self, array: Any) -> Any:
        """A new array of the device with the values of another."""

    def move(self, to: Address, source: Address, nbytes: int) -> None:
        """Copy bytes from one place of the device to another."""

    def lane(self, block: Any) -> Lane:
        """A way for a block of bytes to be filled from the host."""

    def load(self, text: str, pieces: Sequence[str] = ()) -> Any:
        """A compiled text, the module of calls; ``pieces`` are the text in files to be compiled at the same time.

        Raises BackendError if it cannot be compiled.
        """

    def capture(self, work: Sequence[Work]) -> Graph:
        """The calls as one graph."""

    def times(self, work: Sequence[Work]) -> list[float]:
        """Run the calls and return the seconds of each."""

    def room(self) -> tuple[int, int]:
        """Bytes of memory that are free, and there are in all."""

    def synchronize(self) -> None:
        """Return once everything that was asked is done."""
