"""Workers as processes: started pinned and with a clean environment, asked over pipes, ended when late.

A worker that waits for its next request sleeps in a read. ``asleep`` looks whether it really does, since thread
pools of some libraries go on spinning for a while after their last task.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gpu
from peers.registry import Entry

FOLDER = Path(__file__).resolve().parent
# Whatever these set is for someone's everyday use: it would favour or cripple one library against another.
CLEARED = (
    *("BLIS_", "DNNL_", "GOMP_", "GOTO_", "GRAPHNET_", "JAX_", "KMP_", "MKL_", "NPY_", "NUMBA_", "NUMEXPR_", "OMP_"),
    *("ONEDNN_", "OPENBLAS_", "PYTENSOR_", "TBB_", "TF_", "TORCH", "VECLIB_", "XLA_", "NPROC", "KERAS_"),
    *("CUBLAS", "CUDA_CACHE", "CUDA_DEVICE_", "CUDA_LAUNCH_", "CUDA_MODULE_", "CUDNN_", "CUPY_", "NVIDIA_TF32"),
    *("PYTORCH_", "TRITON_"),
)
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS", "GRAPHNET_THREADS", "NPROC"),
)


class WorkerError(Exception):
    """A worker failed, crashed or was late; the message is one line."""


def usable_cores() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cleared(environment: Mapping[str, str]) -> list[str]:
    """The variables that workers do not inherit."""
    return sorted(name for name in environment if name.startswith(CLEARED))


def environment(threads: int, cache: Path, path: Sequence[str] = (), device: str = "cpu") -> dict[str, str]:
    """What a worker inherits: nothing that steers a numerical library, but the thread count and a cache folder.

    On "cuda" it sees one GPU, of whose memory JAX takes what it needs, not most of it; else none.
    """
    dropped = cleared(os.environ)
    found = {name: value for name, value in os.environ.items() if name not in dropped}
    found |= dict.fromkeys(THREADS, str(threads))
    folders = {
        "CUDA_CACHE_PATH": "cuda",
        "CUPY_CACHE_DIR": "cupy",
        "GRAPHNET_CACHE": "graphnet",
        "JAX_COMPILATION_CACHE_DIR": "jax",
        "NUMBA_CACHE_DIR": "numba",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
    }
    found |= {name: str(cache / folder) for name, folder in folders.items()}
    found["PYTENSOR_FLAGS"] = f"base_compiledir={cache / 'pytensor'}"
    # JAX keeps only what took a second to compile unless told otherwise
    found |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    found |= {"TF_CPP_MIN_LOG_LEVEL": "2", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    if device == "cuda":
        # numbered as nvidia-smi numbers them
        found |= {"CUDA_VISIBLE_DEVICES": gpu.number(), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        found |= {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [*path, found.get("PYTHONPATH", "")]))
    return found


class Process:
    """A worker of one entry, in a process group of its own so that compilers it started end with it."""

    def __init__(self, entry: Entry, python: str, cores: Sequence[int], cache: Path) -> None:
        self.entry = entry
        self._said = cache / "stderr.txt"
        pinned = ",".join(map(str, cores))
        try:
            with self._said.open("wb") as errors:
                self._child = subprocess.Popen(
                    [python, "-m", "peers.worker", entry.target, "--cores", pinned],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    cwd=FOLDER,
                    env=environment(len(cores), cache, entry.path, entry.device),
                    start_new_session=True,
                )
        except OSError as error:
            raise WorkerError(f"{python}: {error.strerror or error}") from None
        self._buffer = b""

    def ask(self, do: str, limit: float, **request: Any) -> dict[str, Any]:
        """The answer to a request; raises WorkerError, after which the worker is gone."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is then seen below, with what it said
            self._child.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._child.stdin.flush()
        line = self._line(do, time.monotonic() + limit, limit)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            self.kill()
            raise WorkerError(f"answered nonsense: {line[:80]!r}") from None
        if "error" in answer:
            said = str(answer["error"])
            self.kill()
            raise WorkerError(self._missing(said) or first_line(said))
        return answer

    def _line(self, do: str, deadline: float, limit: float) -> bytes:
        assert self._child.stdout is not None
        handle = self._child.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.kill()
                raise WorkerError(f"stopped: {DOING.get(do, do)} took over {limit:g} s")
            data = os.read(handle, 1 << 16)
            if not data:
                said = self._end()
                raise WorkerError(said)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _missing(self, said: str) -> str:
        """A missing library in plain words."""
        if said.startswith(("ModuleNotFoundError: No module named", "ImportError: No module named")):
            module = said.rpartition("named ")[2].strip("'\" ")
            return f"not installed: no module {module} in {self._child.args[0]}"  # type: ignore[index]
        return ""

    def _end(self) -> str:
        """How a process that closed its pipe ended, with the last line it wrote."""
        self.kill(wait=5)
        code = self._child.returncode
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        lines = self._said.read_text(errors="replace").strip().splitlines()
        return f"crashed ({how})" + (f": {first_line(lines[-1])}" if lines else "")

    def asleep(self, patience: float = 2.0) -> bool:
        """Wait until the process uses no processor time; False if it still does after ``patience`` seconds."""
        end = time.monotonic() + patience
        before = processor_ticks(self._child.pid)
        if before is None:
            time.sleep(0.2)
            return True
        while time.monotonic() < end:
            time.sleep(0.03)
            now = processor_ticks(self._child.pid)
            if now == before:
                return True
            before = now
        return False

    def kill(self, wait: float = 0) -> None:
        """End the process and whatever it started; ``wait`` gives it a moment to end by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(wait)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def close(self) -> None:
        """End the process and give back its pipes."""
        self.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


DOING = {
    "load": "import and compilation",
    "check": "the first steps",
    "warm": "warming up",
    "round": "a round",
    "kernels": "a profile",
}


def first_line(text: str, width: int = 160) -> str:
    """The first line that says something, cut to a row's width."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else "no message"
    return line if len(line) <= width else line[: width - 2] + ".."


def processor_ticks(pid: int) -> int | None:
    """Processor time of all threads of a process in the kernel's ticks; None where /proc does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])
