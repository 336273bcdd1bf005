"""What every kernel test needs: binding with hostile scratch, strided views, and a meter for allocations."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from graphnet.kernels.numpy import SCRATCH, TABLE, run


def bind(op, out, *ins, **attrs):
    """Calls of a kernel on scratch of exactly the size it asked for, off alignment and full of NaN."""
    if op in SCRATCH:
        size = SCRATCH[op](ins, attrs)
        attrs["scratch"] = np.full(size + 8, 255, np.uint8)[8:]
    return TABLE[op](out, *ins, **attrs)


def execute(op, out, *ins, **attrs):
    """Bind and run; returns out, whose old contents were garbage unless it is one of the inputs."""
    if not any(np.may_share_memory(out, x) for x in ins):
        out.fill(77)
    with np.errstate(all="ignore"):
        run(bind(op, out, *ins, **attrs))
    return out


def strided(x):
    """An equal array, no axis of which is contiguous, reversed along the last."""
    wide = np.empty([2 * n + 1 for n in x.shape], x.dtype)
    view = wide[(..., *(slice(1, None, 2) for _ in x.shape))]
    if x.ndim:
        view = view[..., ::-1]
    view[...] = x
    return view


def peak(calls):
    """Most bytes allocated at once while calls run, once they have run before.

    NumPy converts dtypes and gathers short rows through buffers of a fixed number of elements, however large
    the arrays are; the smallest such number hides them.
    """
    with np.errstate(all="ignore"):
        usual = np.setbufsize(16)
        run(calls)
        tracemalloc.start()
        try:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            run(calls)
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
            np.setbufsize(usual)


@pytest.fixture(scope="session")
def k():
    """The helpers above in one namespace: k.bind, k.execute, k.strided, k.peak."""
    return SimpleNamespace(bind=bind, execute=execute, strided=strided, peak=peak)


@pytest.fixture
def rng():
    """The same numbers in every test run."""
    return np.random.default_rng(5)
