"""What ``nvidia-smi`` tells of the GPU that is measured: asked as a program, so that no library is needed for it.

Whether there is one that graphnet can use is for ``graphnet.device_cupy.no_gpu`` to say.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

FIELDS = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit")


class NoGpuError(Exception):
    """Nothing is told of the GPU; the message is one line."""


def number() -> str:
    """The GPU to use, as ``nvidia-smi -i`` takes it: the first visible one."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"


def ask(*fields: str) -> list[str]:
    """The fields of the GPU, as text; raises NoGpuError."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "-i", number()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        raise NoGpuError("nothing tells of the GPU: there is no nvidia-smi here") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoGpuError(f"nothing tells of the GPU: nvidia-smi: {error}") from None
    lines = [line for line in done.stdout.splitlines() + done.stderr.splitlines() if line.strip()]
    found = [part.strip() for part in (lines or [""])[0].split(",")]
    if done.returncode or len(found) != len(fields):
        raise NoGpuError(f"nothing tells of the GPU: nvidia-smi: {(lines or ['no answer'])[0].strip()}")
    return found


@dataclass(frozen=True)
class Gpu:
    """The GPU's name and what bounds its speed, as the driver has them."""

    name: str
    driver: str
    memory_mb: str
    clock_mhz: str
    watts: str

    @property
    def text(self) -> str:
        return (
            f"{self.name}, {self.memory_mb} MB, up to {self.clock_mhz} MHz and {self.watts} W, driver {self.driver}, "
            f"GPU {number()}"
        )


def describe() -> Gpu:
    """The GPU that is measured; raises NoGpuError in one line."""
    name, driver, memory, clock, watts = ask(*FIELDS)
    return Gpu(name, driver, memory, clock, watts)


def used_mb() -> float | None:
    """MB of its memory in use by all processes; None where that is not told."""
    try:
        return float(ask("memory.used")[0]) * 1.048576
    except (NoGpuError, ValueError):
        return None
