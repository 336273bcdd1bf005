"""``graphnet info``."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from graphnet.backend import DEVICES, choose
from graphnet.cli.lookup import model_names
from graphnet.cli.options import one_line
from graphnet.compiler.errors import GraphnetError
from graphnet.data import sources
from graphnet.data.fetch import cache_folder
from graphnet.device_info import describe as describe_gpu
from graphnet.device_info import installed
from graphnet.kernels.c.toolchain import describe

PACKAGES = ("numpy", "scipy", "networkx", "scikit-learn", "safetensors", "matplotlib", "tqdm", "tensorboardX")
SLOWING = {
    "OPENBLAS_CORETYPE": "makes OpenBLAS use that processor's kernels instead of this one's",
    "OPENBLAS_L2_SIZE": "makes OpenBLAS cut matrices for that cache instead of this one's",
}
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
SETTINGS = (
    "GRAPHNET_DEBUG",
    "GRAPHNET_BACKEND",
    "GRAPHNET_THREADS",
    "CC",
    "GRAPHNET_CHECK",
    "GRAPHNET_DATA",
    "GRAPHNET_CACHE",
)
FILES = {
    "mnist": (
        sources.MNIST_TRAIN_IMAGES,
        sources.MNIST_TRAIN_LABELS,
        sources.MNIST_TEST_IMAGES,
        sources.MNIST_TEST_LABELS,
    ),
    "housing": (sources.HOUSING,),
    "shakespeare": (sources.SHAKESPEARE,),
    "tinyshakespeare": (sources.TINYSHAKESPEARE,),
}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "info",
        help="show versions, devices, the BLAS in use and where the data are",
        description="Show versions, devices and backends, the BLAS in use, and which data sets were found.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--data-dir", metavar="DIR", help="look here for data first, as train would")


def run(args: argparse.Namespace) -> int:
    """Print what was found; returns the exit code."""
    sections = {
        "versions": versions(),
        "devices": devices(),
        "compiler": iter(describe()),
        "blas": blas(),
        "settings": settings(),
        "data": data_sets(args.data_dir),
        "models": iter([", ".join(model_names())]),
    }
    for title, lines in sections.items():
        for number, line in enumerate(lines):
            print(f"{title if number == 0 else '':10}{line}")
    return 0


def versions() -> Iterator[str]:
    """graphnet, Python, the packages it uses."""
    yield f"graphnet {version('graphnet')}, {platform.python_implementation()} {platform.python_version()}"
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} (not installed)")
    yield ", ".join(found)
    yield f"{platform.platform()}, {sys.executable}"


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices() -> Iterator[str]:
    """Devices with the backends that run on them, and compilers that were found."""
    auto = choose("cpu", "auto").name
    yield f"cpu: {processor()}, {cores()} cores, backends {', '.join(DEVICES['cpu'])} (auto: {auto})"
    try:
        first, *others = describe_gpu()
    except GraphnetError as error:
        first, others = one_line(error), [installed()]
    yield f"cuda: {first}"
    yield from (f"      {line}" for line in others)
    yield f"      backends {', '.join(DEVICES['cuda'])} (emulated runs the CUDA text on the CPU)"
    yield f"nvcc: {shutil.which('nvcc') or 'not found'}"


def blas() -> Iterator[str]:
    """The BLAS in use, and variables that slow it down or set its threads."""
    yield numpy_blas()
    for name, effect in SLOWING.items():
        if name in os.environ:
            yield f"slow: {name}={os.environ[name]} {effect}: unset {name}"
    for name in THREADS:
        if name in os.environ:
            yield f"note: {name}={os.environ[name]}"


def numpy_blas() -> str:
    """NumPy's BLAS: name, version, and where scikit-learn's threadpoolctl is there, kernels and threads."""
    built: Any = np.show_config(mode="dicts")
    found = built.get("Build Dependencies", {}).get("blas", {})
    name = f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return name
    for pool in threadpool_info():
        if pool.get("user_api") == "blas" and "numpy" in str(pool.get("filepath")):
            kernels = pool.get("architecture") or "unknown"
            return f"{name}, {kernels} kernels, {pool.get('num_threads')} threads"
    return name


def settings() -> Iterator[str]:
    """graphnet's environment variables."""
    for name in SETTINGS:
        yield f"{name}={os.environ[name]}" if name in os.environ else f"{name} is unset"


def data_sets(data_dir: str | None) -> Iterator[str]:
    """The folders data are looked for in, and each data set's place."""
    candidates = (data_dir, os.environ.get("GRAPHNET_DATA"), cache_folder())
    folders = [Path(folder).expanduser() for folder in candidates if folder]
    for name, files in FILES.items():
        places = [folder for folder in folders if all((folder / file.file).is_file() for file in files)]
        place = (places[0] / files[0].file).parent if places else "not found: downloaded when asked for"
        yield f"{name}: {place}"
    yield "digits, diabetes: come with scikit-learn; topics: comes with Python"
    yield f"cache: {cache_folder()}"
