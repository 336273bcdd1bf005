"""What every test may use: golden files, real data, the `gpu` marker, and repeatable hypothesis runs."""

from __future__ import annotations

import ctypes
import difflib
import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).resolve().parent

# The verifier runs after each pass of every compilation in the tests, in the processes they start too.
os.environ.setdefault("GRAPHNET_VERIFY", "1")

# Most tests ask what is computed, not by whom: the numpy backend compiles nothing. Those that compare backends
# (conformance, random graphs, the five models, the C backend's own) name the ones they take.
os.environ.setdefault("GRAPHNET_BACKEND", "numpy")

# The same examples in every run, so that a red build is red again on the next machine. To look for new ones:
# pytest --hypothesis-profile thorough
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="run only the tests that use golden files, and write those files instead of comparing",
    )
    parser.addoption(
        "--apart",
        action="store_true",
        help="compile each graph of the conformance tests on its own: slow, but each has memory of its own to overrun",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Stop at once, with the remedy, where `graphnet` is only the checkout's folder, not installed."""
    spec = importlib.util.find_spec("graphnet")
    folders = spec.submodule_search_locations if spec else None
    # Asked of the finders, so that a graphnet that fails at import fails in the tests and not here.
    if not any(finder.find_spec("graphnet.compiler", folders) for finder in sys.meta_path):
        remedy = "run `make venv`, or pip install -e '.[dev]'"
        raise pytest.UsageError(f"graphnet is not installed for this Python: {remedy}")


def pytest_report_header() -> str:
    spec = importlib.util.find_spec("graphnet")
    data = os.environ.get("GRAPHNET_DATA") or "(GRAPHNET_DATA is unset)"
    return f"graphnet: {spec.origin if spec else None}, data: {data}"


def why_no_gpu() -> str | None:
    """The reason that CUDA cannot be used here, or None where it can."""
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no CUDA device: {error}"
    return None if count else "no CUDA device"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("real_data")
    if hasattr(config, "workerinput"):  # a long test at the end of one worker's list would leave the others waiting
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and (reason := why_no_gpu()):
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason=reason))
    if config.getoption("--update-golden"):
        others = [item for item in items if "golden" not in getattr(item, "fixturenames", ())]
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=others)


@dataclass(frozen=True)
class Golden:
    """Compares text with the file of that name in `folder`, byte for byte, or writes it on `update`."""

    folder: Path
    update: bool

    def __call__(self, name: str, text: str) -> None:
        __tracebackhide__ = True
        path = self.folder / name
        new = text.encode()
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(new)
            return
        remedy = "if the change is meant, run `make golden` (pytest --update-golden) and read the diff"
        if not path.is_file():
            pytest.fail(f"golden file {name} does not exist: {remedy}", pytrace=False)
        old = path.read_bytes()
        if old != new:
            pytest.fail(f"golden file {name} differs: {remedy}\n{unified_diff(name, old, new)}", pytrace=False)


def unified_diff(name: str, old: bytes, new: bytes) -> str:
    """The diff of two texts; lines that look alike but differ (line ends, odd bytes) are shown escaped."""
    before, after = (text.decode(errors="backslashreplace").split("\n") for text in (old, new))
    lines = difflib.unified_diff(before, after, f"tests/golden/{name}", "this run", lineterm="")
    return "\n".join(line.replace("\r", "\\r") for line in lines)


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` fails with a diff unless text equals tests/golden/NAME byte for byte."""
    return Golden(TESTS / "golden", request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets; the test is skipped where there is none."""
    value = os.environ.get("GRAPHNET_DATA")
    if not value:
        pytest.skip("needs real data: set GRAPHNET_DATA to the folder that holds it")
    path = Path(value).resolve()
    if not path.is_dir():
        pytest.skip(f"needs real data: GRAPHNET_DATA={value} is not a folder")
    return path


@pytest.fixture(scope="session")
def c_backend():
    """`c_backend(threads)`: the C backend, splitting all work among the threads, however small it is."""
    from graphnet.backend_c import CBackend
    from graphnet.kernels.c.toolchain import find

    if find() is None:
        pytest.skip("needs a C compiler")

    @functools.cache
    def make(threads=1):
        return CBackend(threads, least_work=0.0)

    return make


@pytest.fixture(scope="session")
def emulated():
    """`emulated(options, order)`: the CUDA backend on the emulated device, with 3 blocks at most."""
    from graphnet.backend_cuda import CudaBackend
    from graphnet.device_emulated import EmulatedDevice
    from graphnet.kernels.c.toolchain import find

    if find() is None:
        pytest.skip("needs a C compiler")

    def make(options=None, order="forward"):
        return CudaBackend(EmulatedDevice(grid=3, order=order, library=False), options=options)

    return make


@pytest.fixture(scope="session")
def nvrtc():
    """`nvrtc(text)`: the PTX that NVIDIA's compiler makes of a CUDA text for sm_90; it needs no GPU."""
    from graphnet.kernels.cuda.prelude import FLAGS

    found = importlib.util.find_spec("nvidia")
    folders = found.submodule_search_locations or () if found else ()
    files = [file for folder in folders for file in Path(folder).glob("**/libnvrtc.so*")]
    if not files:
        pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc")
    library = ctypes.CDLL(str(files[0]))

    def text_of(program, what):
        size = ctypes.c_size_t()
        assert getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
        text = ctypes.create_string_buffer(size.value)
        assert getattr(library, f"nvrtcGet{what}")(program, text) == 0
        return text.value.decode()

    def ptx(text):
        program = ctypes.c_void_p()
        assert library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"text.cu", 0, None, None) == 0
        flags = [flag.encode() for flag in (*FLAGS, "--gpu-architecture=compute_90")]
        failed = library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
        log = text_of(program, "ProgramLog").strip()
        assert not failed, log
        assert not log, f"NVRTC warns: {log}"
        return text_of(program, "PTX")

    return ptx


@pytest.fixture(scope="session")
def together(request):
    """`together(backend, asked)`: for each (leaves, arrays, nodes) a function that gives the nodes' values.

    It takes other arrays for the leaves, or none. A backend that compiles gets all that is asked as one graph, so
    that its compiler starts once. Leaves of equal name, type and array are one, and what is asked twice is done once.
    """

    def make(backend, asked):
        if backend.name == "numpy" or request.config.getoption("--apart"):
            return [run for one in asked for run in bound_together(backend, [one])]
        return bound_together(backend, asked)

    return make


def bound_together(backend, asked):
    from graphnet.compiler.compile import compile_graph
    from graphnet.compiler.ir import Graph, leaf, substitute
    from graphnet.compiler.passes import Context

    own, places, results = {}, [], {}
    for leaves, arrays, nodes in asked:
        keys = [(n, a.tobytes()) for n, a in zip(leaves, arrays, strict=True)]
        for key, array in zip(keys, arrays, strict=True):
            own.setdefault(key, (leaf(f"in{len(own)}", "input", key[0].out), array))
        new = substitute(nodes, {key[0]: own[key][0] for key in keys})
        names = [results.setdefault(new[n], f"out{len(results)}") for n in nodes]
        places.append(([own[key][0].attrs["name"] for key in keys], arrays, names))
    named = tuple((name, node) for node, name in results.items())
    context = Context(verify=True, target=backend.target)
    executable = backend.bind(compile_graph(Graph(tuple(n for n, _ in own.values()), named), context), {})
    for node, array in own.values():
        backend.write(executable.inputs[node.attrs["name"]], array)

    def runner(inputs, given, outputs):
        def run(*arrays):
            for name, array in zip(inputs, arrays or given, strict=True):
                backend.write(executable.inputs[name], array)
            executable.run()
            return [backend.read(executable.outputs[name]).copy() for name in outputs]

        return run

    return [runner(*place) for place in places]
