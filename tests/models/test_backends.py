"""The five reference models give the same losses on all backends, step after step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphnet.cli.lookup import find_model, model_names
from graphnet.kernels.c import toolchain
from graphnet.train import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(toolchain.find() is None, reason="needs a C compiler"),
]
STEPS = 100
SMALLER = {"charlm": 32}
"""Batches that are smaller than the recipe's, for time."""
RATES = {"lenet": 0.003}
"""On this small data set the recipe's rate makes the loss of lenet jump: rounding errors then grow tenfold a step."""


EMULATED = {"linreg": (50, 20), "softmax": (50, 10), "mlp": (50, 5), "lenet": (3, 2), "charlm": (2, 1)}
"""Batches and steps in the emulator of CUDA, which takes seconds for what a GPU does in a millisecond."""


def losses(name, backend, batch=None, steps=STEPS):
    model, data = find_model(name).with_data(None, None)
    batch = batch or SMALLER.get(name)
    device = "cuda" if backend == "emulated" else "cpu"
    run = Run(model.function, model.recipe, data, batch_size=batch, backend=backend, device=device)
    run.net.optimizer.lr = RATES.get(name, run.net.optimizer.lr)
    assert run.net.backend.name == backend
    batches = itertools.chain.from_iterable(run.batches(epoch) for epoch in itertools.count(1))
    return np.array([float(run.net.step(x, y)) for x, y in itertools.islice(batches, steps)])


@pytest.mark.parametrize("name", model_names())
def test_losses_agree_over_a_hundred_steps(name):
    expected, found = losses(name, "numpy"), losses(name, "c")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert expected[-10:].mean() < expected[:10].mean(), "nothing was learned, so nothing was compared"


@pytest.mark.parametrize("name", model_names())
def test_the_cuda_text_gives_the_losses_of_numpy(name):
    """The first steps on small batches, in the emulator."""
    expected, found = (losses(name, backend, *EMULATED[name]) for backend in ("numpy", "emulated"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
