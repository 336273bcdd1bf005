"""Runs generated CUDA text on the CPU: compiled as C++, every CUDA thread a fiber.

    text ──> C++ of emulated_text.py + text + a caller for each kernel ──> shared object ──> launch(name, grid, ...)

Blocks run one after another, or all in turn where a launch is cooperative; the threads of a block run, each until it
must wait, in an order that the launch chooses. A text whose results depend on that order, that waits for what never
comes, or that uses memory as a GPU would not let it, shows it here without a GPU.

What is not here: grids and blocks of more than one dimension; ``__shared__`` (text says GN_SHARED); assembly, tensor
cores, half precision and approximate maths. Memory is sequentially consistent, so a missing ``__threadfence()`` is not
found; reads outside of shared memory are only under AddressSanitizer (``CC="gcc -fsanitize=address"``). A loop that
waits for another thread must have GN_PAUSE() in it, or it never ends.
"""

from __future__ import annotations

import ctypes
import functools
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphnet.kernels.c import toolchain
from graphnet.kernels.c.toolchain import Compiler, ToolchainError
from graphnet.kernels.cuda.emulated_text import EMULATED
from graphnet.kernels.cuda.phase import THREADS
from graphnet.kernels.cuda.runtime import RUNTIME

FLAGS = (
    "-x",
    "c++",
    "-std=gnu++17",
    "-nostdinc++",
    "-DGN_EMULATED",
    "-fno-exceptions",
    "-fno-rtti",
    "-Og",
    "-fvisibility=hidden",
)
"""Options beside those of C, whose language and level these replace: the text is compiled more often than it is run."""

CHECKS = ("-fsanitize=null,alignment,bounds,integer-divide-by-zero", "-fno-sanitize-recover=all")
"""Options that find what a GPU would trap on, where the compiler has them; EMULATED says what is then done."""

DYNAMIC = 227 * 1024
"""Bytes of dynamic shared memory that a block may have."""

Argument = int | bytes | ctypes.Structure | ctypes.c_void_p | ctypes.c_int | ctypes.c_int64 | ctypes.c_float
"""What a kernel is given: a ctypes value of the parameter's size, its bytes, or an int for an integer or a pointer."""

ORDERS = ("forward", "reverse", "shuffled")

Order = str | tuple[str, int]
"""In which order blocks and threads run: "forward", "reverse" or ("shuffled", seed)."""

_INCLUDE = '#include "emulated.h"\n'
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+(?:void|__launch_bounds__\s*\([^)]*\)|\s)+\s(\w+)\s*\(')
_running = threading.Lock()  # one launch at a time: the runtime has one queue


class EmulationError(Exception):
    """A kernel did what CUDA forbids: one line with its name, the block and what."""


@dataclass(frozen=True)
class Emulated:
    """A compiled text. ``kernels`` are the names of its ``extern "C" __global__`` functions, in order."""

    kernels: tuple[str, ...]
    _library: ctypes.CDLL
    _runtime: ctypes.CDLL
    _sizes: Mapping[str, tuple[int, ...]]

    def launch(
        self,
        name: str,
        grid: int,
        arguments: Sequence[Argument],
        *,
        block: int = THREADS,
        dynamic: int = 0,
        cooperative: bool = False,
        order: Order = "forward",
    ) -> None:
        """Run a kernel to its end, on ``grid`` blocks of ``block`` threads with ``dynamic`` bytes of shared memory.

        The blocks of a ``cooperative`` launch are alive together, so that they may wait for each other in loops with
        GN_PAUSE(). Raises EmulationError if the kernel is wrong, ValueError if the launch is.
        """
        if name not in self._sizes:
            raise ValueError(f"{name}: no such kernel: there are {', '.join(self.kernels) or 'none'}")
        if grid < 1 or not 1 <= block <= 1024 or not 0 <= dynamic <= DYNAMIC:
            raise ValueError(f"{name}: cannot run on {grid} blocks of {block} threads with {dynamic} bytes")
        how, seed = (order, 0) if isinstance(order, str) else order
        if how not in ORDERS:
            raise ValueError(f"{name}: cannot run in order {how}: there are {', '.join(ORDERS)}")
        memory, pointers = _packed(name, self._sizes[name], arguments)
        call = getattr(self._library, f"gn_call_{name}")
        with _running:
            fault = self._runtime.gn_launch(call, pointers, grid, block, dynamic, cooperative, ORDERS.index(how), seed)
        del memory
        if fault:
            raise EmulationError(f"{name}: {fault.decode()}")


def load(text: str, extra: Sequence[str] = ()) -> Emulated:
    """Compile a whole generated file, which begins with prelude.HEADER, or find it in the cache of compiled code.

    ``extra`` options of the compiler come last. Raises ToolchainError if there is no C++ compiler here or it refuses
    the text; lines in its messages are those of the text.
    """
    compiler = toolchain.find()
    if compiler is None:
        raise ToolchainError(f"no C++ compiler: {toolchain.REMEDY}")
    return _load(text, compiler, tuple(extra))


@functools.lru_cache(maxsize=256)
def _load(text: str, compiler: Compiler, extra: tuple[str, ...]) -> Emulated:
    kernels = tuple(dict.fromkeys(_KERNEL.findall(text)))
    library = toolchain.load(_source(text, kernels), _with_options(compiler), extra)
    runtime = _runtime(compiler)
    library.gn_connect(ctypes.c_void_p(runtime.gn_runtime()))
    return Emulated(kernels, library, runtime, {name: _parameters(library, name) for name in kernels})


@functools.cache
def _with_options(compiler: Compiler) -> Compiler:
    """The compiler with the options for C++ text, CHECKS among them if it has what they need."""
    kept = tuple(flag for flag in compiler.flags if not flag.startswith(("-std=", "-O")))
    for checks in (CHECKS, ()):
        chosen = replace(compiler, flags=(*FLAGS, *checks, *kept))
        try:
            toolchain.compile_shared(EMULATED, chosen)
            return chosen
        except ToolchainError as error:
            fault = str(error).splitlines()[0]
    raise ToolchainError(f"no C++ compiler: install g++ or clang++: {fault}")


def _source(text: str, kernels: Sequence[str]) -> str:
    before, found, after = text.partition(_INCLUDE)
    if not found:
        raise ValueError("the text does not begin with prelude.HEADER")
    line = before.count("\n") + 2
    callers = "\n".join(f"GN_KERNEL({name})" for name in kernels)
    return f'{before}{EMULATED}\n#line {line} "kernels.cu"\n{after}\n{callers}\n'


@functools.cache
def _runtime(compiler: Compiler) -> ctypes.CDLL:
    library = toolchain.load(RUNTIME, compiler)
    library.gn_runtime.restype = ctypes.c_void_p
    library.gn_launch.restype = ctypes.c_char_p
    library.gn_launch.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_uint64,
    )
    return library


def _parameters(library: ctypes.CDLL, name: str) -> tuple[int, ...]:
    """The bytes of each parameter of a kernel."""
    function = getattr(library, f"gn_sizes_{name}")
    function.restype = ctypes.POINTER(ctypes.c_int)
    sizes = function()
    return tuple(sizes[1 : sizes[0] + 1])


def _packed(
    name: str, sizes: Sequence[int], arguments: Sequence[Argument]
) -> tuple[object, ctypes.Array[ctypes.c_void_p]]:
    """The arguments' bytes, each at a 16-byte boundary, and a pointer to each."""
    if len(arguments) != len(sizes):
        raise ValueError(f"{name}: takes {len(sizes)} arguments, not {len(arguments)}")
    data = bytearray()
    starts: list[int] = []
    for size, argument in zip(sizes, arguments, strict=True):
        value = argument.to_bytes(size, "little", signed=argument < 0) if isinstance(argument, int) else bytes(argument)
        if len(value) != size:
            raise ValueError(f"{name}: argument {len(starts)} has {len(value)} bytes, not {size}")
        starts.append(len(data))
        data += value + bytes(-size % 16)
    memory = (ctypes.c_char * (len(data) + 16)).from_buffer_copy(data + bytes(16))
    base = ctypes.addressof(memory)
    return memory, (ctypes.c_void_p * len(starts))(*(base + start for start in starts))
