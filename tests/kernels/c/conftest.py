"""Compiles what a kernel writer wrote and runs it on NumPy arrays, share by share as threads would."""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import shlex
import shutil
import subprocess

import numpy as np
import pytest

from graphnet.kernels.c.phase import Job
from graphnet.kernels.c.prelude import FLAGS, HEADER
from graphnet.kernels.text.view import View

COMPILER = shlex.split(os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") or "")
FAILED = """
static long gn_failed[3];
#define GN_FAIL(value, rows) (gn_failed[0] = 1, gn_failed[1] = (value), gn_failed[2] = (rows))
"""
counter = itertools.count()


class BadIndex(Exception):
    """A body called GN_FAIL."""


def view_of(name, array):
    size = array.dtype.itemsize
    assert all(s % size == 0 for s in array.strides)
    return View(name, array.dtype.name, array.shape, tuple(s // size for s in array.strides))


def source(phases, arrays, views):
    """The file: helpers, then a function a phase with every pointer as parameter."""
    lines = [HEADER, FAILED]
    lines += dict.fromkeys(h for p in phases for h in p.helpers)
    for number, phase in enumerate(phases):
        declared = dict.fromkeys(f"{v.ctype} *restrict {v.name} __attribute__((unused))" for v in views)
        lines.append(
            f"void phase{number}({', '.join(declared)}, char *restrict scratch __attribute__((unused)),\n"
            f"    int tid __attribute__((unused)), long lo __attribute__((unused)), long hi __attribute__((unused)))\n"
            f"{{\n{phase.body}\n}}\n"
        )
    lines.append("long *failed(void) { return gn_failed; }\n")
    return "\n".join(lines)


@pytest.fixture(scope="session")
def run_c(tmp_path_factory):
    """``run_c(writer, outs, ins, attrs, threads=1, scratch_size=None, epilogue=None)``: runs in place on ``outs``.

    Arrays that are the same object share a name. Every unit runs once, in ``threads`` shares; the text must
    compile without warnings. Raises BadIndex if a body reported one. Returns the phases.
    """
    if not COMPILER:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("c")

    @functools.cache
    def compiled(text):
        stem = folder / f"k{next(counter)}"
        stem.with_suffix(".c").write_text(text)
        command = [*COMPILER, *FLAGS, "-march=native", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        done = subprocess.run(
            [*command, str(stem.with_suffix(".c")), "-o", str(stem.with_suffix(".so")), "-lm"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + text
        library = ctypes.CDLL(str(stem.with_suffix(".so")))
        library.failed.restype = ctypes.POINTER(ctypes.c_long)
        return library

    def run(writer, outs, ins, attrs=None, threads=1, scratch_size=None, epilogue=None, extra=()):
        names, views, arrays = {}, [], []
        for array in (*outs, *ins, *extra):
            key = (array.__array_interface__["data"][0], array.strides, array.shape) if array.size else id(array)
            names.setdefault(key, f"p{len(names)}")
            views.append(view_of(names[key], array))
            arrays.append(array)
        attrs = attrs or {}
        job = Job(threads=threads, epilogue=epilogue, unique="k")
        n = len(outs)
        m = n + len(ins)
        nbytes = scratch_size(views[:n], views[n:m], attrs, threads) if scratch_size else 0
        raw = np.full(nbytes + 128, 0xA5, np.uint8)
        start = -raw.ctypes.data % 64
        phases = writer(views[:n], views[n:m], attrs, job)
        library = compiled(source(phases, arrays, views))
        flag = library.failed()
        flag[0] = 0  # of a run of the same text before
        pointers = dict(zip((v.name for v in views), (a.ctypes.data for a in arrays), strict=True))
        arguments = [ctypes.c_void_p(p) for p in pointers.values()]
        arguments.append(ctypes.c_void_p(raw.ctypes.data + start))
        for number, phase in enumerate(phases):
            assert phase.units == 0 or len(phase.axes) in (0, m), "an entry of axes for each of outs and ins"
            for tid in range(threads):
                lo, hi = phase.units * tid // threads, phase.units * (tid + 1) // threads
                if hi > lo:
                    getattr(library, f"phase{number}")(*arguments, tid, ctypes.c_long(lo), ctypes.c_long(hi))
        assert (raw[start + nbytes : start + nbytes + 64 - start % 64] == 0xA5).all(), "wrote behind its scratch"
        if flag[0]:
            raise BadIndex(f"index {flag[1]} is out of range for {flag[2]} rows")
        return phases

    run.BadIndex = BadIndex
    return run
