"""What ``graphnet info`` says of the GPU and of the packages for it."""

from __future__ import annotations

import importlib.metadata

from graphnet.device_cupy import INSTALL, cupy_or_error, gpu


def describe() -> list[str]:
    """What ``graphnet info`` says of the GPU, the driver and libraries; raises BackendError without a GPU."""
    cupy = cupy_or_error()
    device = gpu()
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(device.number)["name"].decode()
    free, total = device.room()
    major, minor = device.capability[:-1], device.capability[-1]
    lines = [
        f"{name}, compute capability {major}.{minor}, {device.multiprocessors} multiprocessors, "
        f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    ]
    versions = [
        f"driver {_version(runtime.driverGetVersion())}",
        f"CUDA {_version(runtime.runtimeGetVersion())}",
        f"NVRTC {'.'.join(map(str, cupy.cuda.nvrtc.getVersion()))}",
        f"CuPy {cupy.__version__}",
    ]
    lines.append(", ".join(versions))
    lines.append(device._library.describe() if device._library else f"cuBLAS by nvmath: not found: {INSTALL}")
    return lines


def installed() -> str:
    """The packages for GPUs that are installed."""
    found = []
    for title, names in (("CuPy", ("cupy-cuda13x", "cupy-cuda12x", "cupy")), ("nvmath", ("nvmath-python",))):
        versions = [v for name in names if (v := _installed(name))]
        found.append(f"{title} {versions[0] if versions else 'not installed'}")
    return ", ".join(found)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
