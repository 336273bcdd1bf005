"""Learning rate schedules: the rates of their formulas, saving, and refusals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import graphnet as gn
from graphnet.optim import SGD, schedules


def rates(schedule, count):
    """The rate at the start and after each of ``count`` steps."""
    return [schedule.optimizer.lr, *(schedule.step() for _ in range(count))]


def test_step_drops_every_so_many_periods():
    """lr * gamma ** (period // step_size)"""
    found = rates(schedules.Step(SGD(lr=0.8), step_size=2, gamma=0.5), 5)
    assert found == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


def test_exponential_decays():
    """lr * gamma ** period"""
    assert rates(schedules.Exponential(SGD(lr=1.0), gamma=0.9), 3) == pytest.approx([1, 0.9, 0.81, 0.729])


def test_cosine_ends_at_its_minimum_and_stays():
    """Half way it is half way; after ``total`` it stays at min_lr."""
    found = rates(schedules.Cosine(SGD(lr=1.0), total=4, min_lr=0.2), 6)
    quarter = 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2
    assert found[:3] == pytest.approx([1.0, quarter, 0.6])
    assert found[4:] == [0.2, 0.2, 0.2]


def test_warmup_rises_to_the_rate_and_hands_on():
    """It starts below at once; the schedule that follows counts from its own 0."""
    assert rates(schedules.Warmup(SGD(lr=1.0), total=4), 5) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    optimizer = SGD(lr=1.0)
    found = rates(schedules.Warmup(optimizer, 2, then=schedules.Exponential(optimizer, 0.5)), 4)
    assert found == pytest.approx([0.5, 1, 1, 0.5, 0.25])


def test_plateau_reduces_after_more_than_patience_bad_periods():
    """Two are borne, the third reduces; progress below the threshold is none; min_lr is the floor."""
    schedule = schedules.ReduceOnPlateau(SGD(lr=1.0), factor=0.1, patience=2, min_lr=0.05)
    assert [schedule.step(m) for m in (5.0, 4.0, 4.0, 3.9999)] == [1, 1, 1, 1]
    assert schedule.step(4.5) == pytest.approx(0.1)
    assert [schedule.step(m) for m in (9, 9)] == pytest.approx([0.1, 0.1])
    assert schedule.step(9) == 0.05
    assert schedule.step(1.0) == 0.05


def test_plateau_of_a_score_looks_for_the_largest():
    """mode="max" takes a rise for progress; NaN is none."""
    schedule = schedules.ReduceOnPlateau(SGD(lr=1.0), factor=0.5, patience=0, mode="max")
    assert [schedule.step(m) for m in (0.5, 0.6, 0.55, math.nan, 0.7)] == [1, 1, 0.5, 0.25, 0.25]


def test_plateau_never_raises_a_rate():
    """A rate already below min_lr stays where it is."""
    schedule = schedules.ReduceOnPlateau(SGD(lr=0.01), patience=0, min_lr=0.1)
    assert [schedule.step(1.0), schedule.step(1.0)] == [0.01, 0.01]


def test_every_schedule_takes_a_metric():
    """A loop need not know which schedule it holds."""
    assert schedules.Exponential(SGD(lr=1.0), 0.5).step(3.2) == 0.5


def make(kind):
    optimizer = SGD(lr=1.0)
    return {
        "step": lambda: schedules.Step(optimizer, 2),
        "exponential": lambda: schedules.Exponential(optimizer, 0.9),
        "cosine": lambda: schedules.Cosine(optimizer, 9),
        "warmup": lambda: schedules.Warmup(optimizer, 5),
        "plateau": lambda: schedules.ReduceOnPlateau(optimizer, patience=1),
    }[kind]()


@pytest.mark.parametrize("kind", ["step", "exponential", "cosine", "warmup", "plateau"])
def test_a_saved_schedule_goes_on_where_it_was(kind):
    """Through JSON, into a fresh schedule of a fresh optimiser whose rate has been reset."""
    metrics = [5.0, 4.0, 4.5, 4.5, 4.5, 4.5, 3.0, 3.0]
    whole, first, second = make(kind), make(kind), make(kind)
    expected = [whole.step(m) for m in metrics]
    for m in metrics[:3]:
        first.step(m)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.optimizer.lr == first.optimizer.lr
    assert [second.step(m) for m in metrics[3:]] == expected[3:]


def test_a_state_of_another_schedule_is_refused():
    """By name."""
    with pytest.raises(gn.NameError, match="Cosine cannot go on from the state of Step"):
        make("cosine").load_state_dict(make("step").state_dict())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda o: schedules.Step(o, 0), "Step: step_size must be at least 1, got 0"),
        (lambda o: schedules.Exponential(o, -1), "Exponential: gamma must not be negative, got -1"),
        (lambda o: schedules.Cosine(o, 0), "Cosine: total must be at least 1, got 0"),
        (lambda o: schedules.Warmup(o, 0), "Warmup: total must be at least 1, got 0"),
        (lambda o: schedules.ReduceOnPlateau(o, factor=2), "factor must be in [0, 1), got 2"),
        (lambda o: schedules.ReduceOnPlateau(o, mode="up"), 'mode must be "min" or "max", got \'up\''),
        (lambda o: schedules.ReduceOnPlateau(o).step(), "step needs the metric: step(loss)"),
        (lambda o: schedules.Warmup(o, 2, schedules.ReduceOnPlateau(o)), "must depend on the period only"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(build, message):
    """The line is the user's."""
    with pytest.raises(gn.GraphnetError) as caught:
        build(SGD(lr=1.0))
    assert message in str(caught.value)
    assert "test_schedules.py:" in str(caught.value).split(" ")[0]


def test_a_schedule_drives_a_net():
    """The compiled step reads the rate at its next call: a rate of 0 changes nothing."""

    @gn.model
    def net(x):
        return gn.layers.dense(x, 1)

    trained = gn.compile(net, gn.spec((2, 3)), loss=gn.losses.mse, optimizer=SGD(lr=0.1))
    x, y = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
    trained.step(x, y)
    schedules.Cosine(trained.optimizer, total=1).step()
    before = trained.params["net/dense_1/w"].copy()
    trained.step(x, y)
    np.testing.assert_array_equal(trained.params["net/dense_1/w"], before)
