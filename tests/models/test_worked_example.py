"""The worked example of Kuzovkin's slides "Deep Learning: theory, history, state of the art" (2016)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphnet as gn

HIDDEN = np.array([[0.15, 0.25], [0.20, 0.30]])
OUTPUT = np.array([[0.40, 0.50], [0.45, 0.55]])


@gn.model
def example(x: Any) -> Any:
    """Two sigmoid layers of two units, whose biases .35 and .60 stay as they are."""
    hidden = gn.sigmoid(x @ gn.param("hidden", (2, 2), HIDDEN, "float64") + 0.35)
    return gn.sigmoid(hidden @ gn.param("output", (2, 2), OUTPUT, "float64") + 0.60)


@gn.losses.loss()
def half_squares(output: Any, target: Any) -> Any:
    """sum((target - output)**2) / 2"""
    return gn.sum((target - output) ** 2) / 2


def test_two_layers_of_two_units_learn_as_the_slides_work_out() -> None:
    """Error .298371109, w5 from .4 to .35891648 by one step at rate .5, .291027774, and 3.5102e-05 at last."""
    x, target = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])
    net = gn.compile(example, gn.spec((1, 2), "float64"), loss=half_squares, optimizer=gn.optim.SGD(lr=0.5))
    assert net.step(x, target) == pytest.approx(0.298371109, abs=5e-10)
    assert net.params["example/output"][0, 0] == pytest.approx(0.35891648, abs=5e-9)
    assert net.loss(x, target) == pytest.approx(0.291027774, abs=5e-10)
    for _ in range(9_999):
        net.step(x, target)
    assert net.loss(x, target) == pytest.approx(3.5102e-05, abs=5e-10)
