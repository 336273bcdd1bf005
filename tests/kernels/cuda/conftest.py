"""Runs what writers of CUDA kernels wrote in the emulator: on several grids, in several orders, to the same bits."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from graphnet.kernels.c import toolchain
from graphnet.kernels.cuda.emulator import load
from graphnet.kernels.cuda.phase import SHARED, Job, Phase
from graphnet.kernels.cuda.prelude import FLAGS, HEADER
from graphnet.kernels.text.view import View

RUNS = ((1, "forward"), (3, "reverse"), (7, ("shuffled", 1)))
"""(blocks, order) of the runs whose results must be the same."""

FENCE = 256
"""Bytes in front of and behind memory that must stay as they are."""

STRICT = ("-Wall", "-Wextra", "-Werror", "-Wno-sign-compare", "-Wno-unused-parameter", "-Wno-unknown-pragmas")

FAILED = """
#define GN_FAIL(value, rows) (note[0] = 1, note[2] = (value), note[3] = (rows))
"""


class BadIndex(Exception):
    """A body called GN_FAIL."""


@dataclass
class Case:
    """A call of a writer, or phases that are written already, and the arrays to run on.

    ``outs`` and ``ins`` are arrays, strided or broadcast as they may be, named out0, out1, .., in0, ..; one that has
    the same memory, shape and strides as one before shares its name. Or they are (View, array), to choose the name.
    ``scratch`` is bytes or a writer's scratch function. ``extra`` arrays are those of the epilogue: extra0, ..
    ``tensor`` is the job's.
    """

    phases: Sequence[Phase] | Callable[..., list[Phase]]
    outs: Sequence[Any]
    ins: Sequence[Any] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    scratch: Any = 0
    epilogue: Any = None
    extra: Sequence[Any] = ()
    tensor: int = 0


def view_of(name, array):
    size = array.dtype.itemsize
    assert all(s % size == 0 for s in array.strides)
    return View(name, array.dtype.name, array.shape, tuple(s // size for s in array.strides))


def bounds(array):
    """The addresses of the first byte and of the one behind the last."""
    reach = [s * (n - 1) for n, s in zip(array.shape, array.strides, strict=True)]
    low = array.__array_interface__["data"][0] + sum(min(r, 0) for r in reach)
    return low, low + (sum(abs(r) for r in reach) + array.dtype.itemsize if array.size else 0)


class Memory:
    """A copy of all arrays with fences around each piece; arrays that overlap lie in one piece as they did."""

    def __init__(self, arrays):
        self.pieces = []  # (low, high, bytes, start)
        low = high = 0
        for begin, end in [*sorted(bounds(a) for a in arrays if a.size), (1 << 63, 0)]:
            if begin >= high and high:
                self.pieces.append(
                    (low, high, *fenced(np.frombuffer(ctypes.string_at(low, high - low), np.uint8), low))
                )
            low, high = (begin, end) if begin >= high else (low, max(high, end))
        self.nowhere = fenced(np.zeros(0, np.uint8), 0)[0]

    def at(self, array):
        """(bytes of the piece, offset in it) of the array's element at index 0."""
        address = array.__array_interface__["data"][0]
        for low, high, raw, start in self.pieces:
            if array.size and low <= address < high:
                return raw, start + address - low
        return self.nowhere, FENCE

    def view(self, array):
        """The array of the same shape here."""
        raw, offset = self.at(array)
        return np.ndarray(array.shape, array.dtype, raw.data, offset, array.strides)

    def fences_hold(self):
        return all(
            (raw[:s] == 0xA5).all() and (raw[s + high - low :] == 0xA5).all() for low, high, raw, s in self.pieces
        )

    def bits(self):
        return [raw[start : start + high - low] for low, high, raw, start in self.pieces]


def fenced(content, low, boundary=16):
    """(bytes with a fence on both sides of the content, its start); as far off a boundary as ``low`` is."""
    raw = np.full(len(content) + 2 * FENCE + boundary, 0xA5, np.uint8)
    start = FENCE + (low - raw.ctypes.data - FENCE) % boundary
    raw[start : start + len(content)] = content
    return raw, start


class Bound:
    """A case with its views, its phases and the text of their kernels."""

    def __init__(self, number, case):
        named, views, self.arrays = {}, [], []
        for prefix, given in (("out", case.outs), ("in", case.ins), ("extra", case.extra)):
            for i, one in enumerate(given):
                view, array = one if isinstance(one, tuple) else (None, one)
                key = (bounds(array), array.shape, array.strides, array.dtype) if array.size else id(array)
                views.append(view or view_of(named.setdefault(key, f"{prefix}{i}"), array))
                self.arrays.append(array)
        n, m = len(case.outs), len(case.outs) + len(case.ins)
        outs, ins = views[:n], views[n:m]
        self.outs, self.written = self.arrays[:n], self.arrays[:n] + self.arrays[m:]
        self.scratch = case.scratch(outs, ins, case.attrs) if callable(case.scratch) else case.scratch
        job = Job(epilogue=case.epilogue, unique=f"k{number}", tensor=case.tensor)
        self.phases = list(case.phases(outs, ins, case.attrs, job) if callable(case.phases) else case.phases)
        self.names = [f"case{number}_{i}" for i in range(len(self.phases))]
        changed = {v.name for v in (*outs, *views[m:])}
        self.pointers = {v.name: a for v, a in zip(views, self.arrays, strict=True)}
        self.ins = [v.name for v in ins]
        self.parameters = {
            v.name: f"{'' if v.name in changed else 'const '}{v.ctype} *restrict {v.name}" for v in views
        }

    def text(self):
        return "\n".join(self.kernel(name, phase) for name, phase in zip(self.names, self.phases, strict=True))

    def load(self, name, phase):
        """What fills gn_resident, as a function that sees the ins that it may read and nothing else."""
        seen = dict.fromkeys(self.ins[i] for i in phase.loaded)
        parameters = ["char *gn_resident", "const int unit", *(self.parameters[v] for v in seen)]
        text = f"GN_INLINE void {name}_load({', '.join(parameters)})\n{{\n{phase.load}\n}}\n"
        return text, f"{name}_load({', '.join(['gn_resident', 'unit', *seen])});\n__syncthreads();"

    def kernel(self, name, phase):
        assert phase.shared <= SHARED, f"{phase.note}: {phase.shared} bytes of shared memory"
        resident = -(-phase.shared // 16) * 16
        total = resident + phase.resident
        function, load = self.load(name, phase) if phase.load else ("", "")
        memory = f"GN_SHARED({total});" if total <= SHARED else "GN_DYNAMIC();\nchar *const gn_shared = gn_dynamic;"
        parameters = ", ".join([*self.parameters.values(), "char *restrict scratch", "int64_t *note"])
        lines = [
            function,
            f'extern "C" __global__ void __launch_bounds__(THREADS) {name}({parameters})\n{{',
            memory if total else "",
            f"char *const gn_resident = gn_shared + {resident};" if phase.resident else "",
            f"for (int unit = blockIdx.x; unit < {phase.units}; unit += gridDim.x) {{",
            load,
            f"{{\n{phase.body}\n}}",
            "__syncthreads();" if total else "",
            "}\n}\n",
        ]
        return "\n".join(line for line in lines if line)

    def run(self, emulated, grid, order):
        """(the memory after a run, the note)"""
        memory, note = Memory(self.arrays), np.zeros(4, np.int64)
        scratch, start = fenced(np.full(self.scratch, 0xFF, np.uint8), 0, 256)
        addresses = [raw.ctypes.data + offset for raw, offset in map(memory.at, self.pointers.values())]
        addresses += [scratch.ctypes.data + start, note.ctypes.data]
        for name, phase in zip(self.names, self.phases, strict=True):
            if phase.units:
                total = -(-phase.shared // 16) * 16 + phase.resident
                emulated.launch(name, grid, addresses, dynamic=total if total > SHARED else 0, order=order)
        assert memory.fences_hold(), "wrote outside of its arrays"
        outside = np.concatenate([scratch[:start], scratch[start + self.scratch :]])
        assert (outside == 0xA5).all(), "wrote outside of its scratch"
        return memory, note

    def finish(self, runs):
        """Compares the runs, looks at what must not have changed, and puts the results into the arrays."""
        (memory, note), *others = runs
        for (other, noted), (grid, order) in zip(others, RUNS[1:], strict=True):
            differ = f"on {grid} blocks, {order}, differs from that on {RUNS[0][0]}, {RUNS[0][1]}"
            assert note[0] == noted[0], f"whether an index is bad {differ}"
            if not note[0]:
                pairs = zip(memory.bits(), other.bits(), strict=True)
                assert all((a == b).all() for a, b in pairs), f"the result {differ}"
        before, own = Memory(self.arrays), Memory(self.arrays)
        for raw in own.bits():
            raw[:] = 0
        for array in self.written:
            own.view(array).view(f"V{array.dtype.itemsize}")[...] = np.void(b"\xff" * array.dtype.itemsize)
        for new, old, mine in zip(memory.bits(), before.bits(), own.bits(), strict=True):
            assert ((new == old) | (mine == 0xFF)).all(), "wrote elements that are not its own"
        for array in self.written:
            array[...] = memory.view(array)
        return SimpleNamespace(
            outs=self.outs,
            note=(int(note[2]), int(note[3])) if note[0] else None,
            phases=self.phases,
        )


@pytest.fixture(scope="session")
def run_cases():
    """``run_cases([Case(..), ..])``: all cases in one text, each run in place on its ``outs``.

    Returns for each its ``outs``, its ``phases`` and a ``note``: None, or (value, rows) of a bad index. Every case is
    run on RUNS, with the same bits; memory that is not its own must stay; the text must compile without warnings.
    """
    if toolchain.find() is None:
        pytest.skip("needs a C++ compiler")

    def run(cases):
        bound = [Bound(number, case) for number, case in enumerate(cases)]
        helpers = dict.fromkeys(h for b in bound for p in b.phases for h in p.helpers)
        emulated = load("\n".join([HEADER, FAILED, *helpers, *(b.text() for b in bound)]), STRICT)
        return [b.finish([b.run(emulated, grid, order) for grid, order in RUNS]) for b in bound]

    run.Case = Case
    return run


@pytest.fixture(scope="session")
def run_phases(run_cases):
    """``run_phases(phases, outs, ins=(), scratch_bytes=0)``: as run_cases, for the phases of one case."""
    return lambda phases, outs, ins=(), scratch_bytes=0: run_cases([Case(phases, outs, ins, scratch=scratch_bytes)])[0]


@pytest.fixture(scope="session")
def run_cuda(run_cases):
    """``run_cuda(writer, outs, ins, attrs=None, scratch_size=None, epilogue=None, extra=())``: one call of a writer.

    Raises BadIndex if a body reported one. Returns the phases.
    """

    def run(writer, outs, ins, attrs=None, scratch_size=None, epilogue=None, extra=()):
        (result,) = run_cases([Case(writer, outs, ins, attrs or {}, scratch_size or 0, epilogue, extra)])
        if result.note:
            raise BadIndex("index {} is out of range for {} rows".format(*result.note))
        return result.phases

    run.BadIndex = BadIndex
    return run


@pytest.fixture(scope="session")
def nvcc_compiles(tmp_path_factory):
    """``nvcc_compiles(text)``: nvcc makes code for sm_90 of it, without warnings. It takes seconds."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("needs nvcc")
    folder = tmp_path_factory.mktemp("nvcc")

    def compiles(text):
        path = folder / "kernels.cu"
        path.write_text(text)
        command = [
            nvcc,
            "-cubin",
            "-arch=sm_90",
            *FLAGS,
            "-Werror=all-warnings",
            "-o",
            str(folder / "cubin"),
            str(path),
        ]
        plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}  # a sanitizer's, not nvcc's
        done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr + text

    return compiles
