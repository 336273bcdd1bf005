"""CUDA text compiled by NVRTC, kept beside the C backend's objects, and loaded.

CuPy's RawModule would do it, but it adds ``-ftz=true`` to every text: subnormal numbers would become 0, and bits
would differ from the CPU's. So NVRTC is called here, through CuPy's binding, with graphnet's options alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from graphnet.compiler.errors import BackendError
from graphnet.kernels.c import cache
from graphnet.kernels.c.cache import ToolchainError
from graphnet.kernels.c.threads import usable_cores
from graphnet.kernels.cuda.prelude import FLAGS
from graphnet.tensor import user_where

KERNEL = re.compile(r'extern "C" __global__ void __launch_bounds__\(\w+\) (\w+)\(')


class Modules:
    """The kernels of texts, by name, loaded from their files on the GPU that is current."""

    def __init__(self, cupy: Any, texts: Sequence[str], files: Sequence[Path]) -> None:
        self._modules: dict[str, Any] = {}
        for text, path in zip(texts, files, strict=True):
            module = cupy.cuda.Module()
            module.load(path.read_bytes())
            self._modules |= dict.fromkeys(KERNEL.findall(text), module)

    def get_function(self, name: str) -> Any:
        return self._modules[name].get_function(name)


def compiled(cupy: Any, texts: Sequence[str], capability: str) -> list[Path]:
    """The files with the machine code of texts for a GPU of a compute capability ("90"), compiled side by side.

    Each is a cubin, or PTX for a GPU that this NVRTC does not know. Raises BackendError if a text is refused, and for
    a GPU that is older than all that NVRTC knows.
    """
    arch = _architecture(cupy.cuda.nvrtc, capability)
    try:
        with ThreadPoolExecutor(min(len(texts), usable_cores()), "graphnet-nvrtc") as workers:
            return list(workers.map(lambda text: _compiled(cupy.cuda.nvrtc, text, arch), texts))
    except ToolchainError as error:  # told here, as the user's line is not to be found in a worker
        raise BackendError(f"{user_where()}: {error}") from None


def _architecture(nvrtc: Any, capability: str) -> str:
    """What to compile for: the GPU itself, or else the newest before it, as it takes no PTX of later ones."""
    known = [arch for arch in map(int, nvrtc.getSupportedArchs()) if arch <= int(capability)]
    if not known:
        own, oldest = (f"{n // 10}.{n % 10}" for n in (int(capability), min(map(int, nvrtc.getSupportedArchs()))))
        raise BackendError(
            f"{user_where()}: this GPU has compute capability {own}, NVRTC {_version(nvrtc)} compiles for {oldest} and "
            "later: install CuPy for an older CUDA"
        )
    return f"sm_{capability}" if int(capability) in known else f"compute_{max(known)}"


def _version(nvrtc: Any) -> str:
    return ".".join(map(str, nvrtc.getVersion()))


def _compiled(nvrtc: Any, text: str, arch: str) -> Path:
    machine = arch.startswith("sm_")
    flags = (*FLAGS, f"--gpu-architecture={arch}")
    key = hashlib.sha256("\n".join([_version(nvrtc), *flags, text]).encode()).hexdigest()

    def build(work: Path) -> None:
        (work / "code.cu").write_text(text)
        (work / cache.OBJECT).write_bytes(_compile(nvrtc, text, flags, machine))

    return cache.obtain(key, build)


def _compile(nvrtc: Any, text: str, flags: tuple[str, ...], machine: bool) -> bytes:
    program = nvrtc.createProgram(text, "graphnet.cu", (), ())
    try:
        nvrtc.compileProgram(program, flags)
        code: bytes = nvrtc.getCUBIN(program) if machine else nvrtc.getPTX(program)
        return code
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program).strip()
        first = next((line for line in log.splitlines() if "error" in line), str(error))
        raise ToolchainError(f"NVRTC refuses the text of a plan, a fault of graphnet: {first}\n{log}") from None
    finally:
        nvrtc.destroyProgram(program)
