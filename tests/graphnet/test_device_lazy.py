"""A loss that is read late behaves as the float it will be."""

from __future__ import annotations

import copy
import math
import numbers
import operator

import numpy as np
import pytest

import graphnet as gn
from graphnet.lazy import Loss


def waiting(value=2.5):
    """A loss, and the list of times it was waited for."""
    asked = []

    def settle():
        asked.append(value)
        loss.set(value)

    loss = Loss(settle)
    return loss, asked


def test_it_is_waited_for_once_and_only_when_it_is_looked_at():
    loss, asked = waiting()
    kept = [loss]
    assert not asked
    assert not loss.read
    assert kept[0] is loss
    assert float(loss) == loss.item() == 2.5
    assert asked == [2.5]


@pytest.mark.parametrize(
    "use",
    [
        lambda x: f"{x:.2f} {x} {x!r}",
        lambda x: [x + 1, 1 + x, x - 1, 1 - x, 3 * x, x / 2, 5 / x, x**2, 2**x],
        lambda x: [x // 2, x % 2, -x, +x, abs(x), divmod(x, 2)],
        lambda x: [x > 2, x <= 2, x == 2.5, x != 2.5, x < 3, bool(x), max(x, 3), min(x, 1.0), sorted([3, x])],
        lambda x: [round(x), round(x, 1), int(x), math.floor(x), math.ceil(x), math.exp(x), math.isfinite(x)],
        lambda x: [np.mean([x, x]), np.float64(2) * x, (x * np.ones(2)).tolist(), (np.ones(2) - x).tolist()],
        lambda x: [np.asarray(x).dtype, np.isfinite(x), np.asarray(x, "float32"), np.array([x, 1]).tolist()],
        lambda x: [sum([x, x]), hash(x), copy.deepcopy(x), isinstance(x, numbers.Real), operator.add(x, x)],
    ],
)
def test_it_can_be_used_where_a_float_can(use):
    loss, _ = waiting()
    assert use(loss) == use(2.5)


def test_what_it_cannot_be_combined_with_is_the_same_error():
    with pytest.raises(TypeError, match="unsupported operand"):
        waiting()[0] + "text"


def test_an_error_of_its_step_is_raised_every_time_it_is_read():
    loss = Loss(lambda: loss.fail(gn.DataError("index 3 is out of range")))
    for _ in range(2):
        with pytest.raises(gn.DataError, match="index 3"):
            float(loss)
