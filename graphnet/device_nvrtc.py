"""CUDA text compiled by NVRTC, kept beside the C backend's objects, and loaded.

CuPy's RawModule would do it, but it adds ``-ftz=true`` to every text: subnormal numbers would become 0, and bits
would differ from the CPU's. So NVRTC is called here, through CuPy's binding, with graphnet's options alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from graphnet.compiler.errors import BackendError
from graphnet.kernels.c import cache
from graphnet.kernels.c.cache import ToolchainError
from graphnet.kernels.cuda.prelude import FLAGS
from graphnet.tensor import user_where


def compiled(cupy: Any, text: str, capability: str) -> Path:
    """The file with the machine code of a text for a GPU of a compute capability ("90").

    It is a cubin, or PTX for a GPU that this NVRTC does not know yet. Raises BackendError if the text is refused.
    """
    nvrtc = cupy.cuda.nvrtc
    known = [str(arch) for arch in nvrtc.getSupportedArchs()]
    machine = capability in known
    arch = f"sm_{capability}" if machine else f"compute_{max(known, key=int)}"
    flags = (*FLAGS, f"--gpu-architecture={arch}")
    version = ".".join(map(str, nvrtc.getVersion()))
    key = hashlib.sha256("\n".join([version, *flags, text]).encode()).hexdigest()

    def build(work: Path) -> None:
        (work / "code.cu").write_text(text)
        (work / cache.OBJECT).write_bytes(_compile(nvrtc, text, flags, machine))

    try:
        return cache.obtain(key, build)
    except ToolchainError as error:
        raise BackendError(f"{user_where()}: {error}") from None


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
