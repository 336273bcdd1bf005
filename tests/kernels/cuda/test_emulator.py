"""Emulated CUDA computes what CUDA would, and what CUDA forbids is found."""

from __future__ import annotations

import numpy as np

from graphnet.kernels.cuda.phase import Phase

DOUBLE = Phase(
    "for (int i = threadIdx.x; i < 10; i += THREADS) out0[unit * 10 + i] = in0[unit * 10 + i] * 2.0f;", units=3
)


def test_phases_run_on_arrays(run_phases):
    """A phase's units are all done, on every grid, in place on the arrays."""
    x, y = np.arange(30, dtype=np.float32), np.zeros(30, np.float32)
    run_phases([DOUBLE], [y], [x])
    assert (y == 2 * x).all()
