"""Losses against SciPy and by-hand formulas in float64, their gradients, targets and refusals."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.special

import graphnet as gn
from graphnet import losses
from graphnet.compiler.ir import Type

DRAW = np.random.default_rng(0)
LOGITS = DRAW.normal(size=(4, 3, 5)) * 5
IDS = DRAW.integers(0, 5, size=(4, 3)).astype(np.int32)
TARGET = DRAW.normal(size=(4, 3, 5))
SHARES = DRAW.dirichlet(np.ones(5), size=(4, 3))
TRUTHS = (TARGET > 0).astype(np.float64)


def nll(logits, shares):
    """Cross entropy of rows of probabilities, averaged over rows."""
    return -(shares * scipy.special.log_softmax(logits, -1)).sum(-1).mean()


CASES = {
    "mse": (losses.mse, TARGET, lambda x, z: ((x - z) ** 2).mean()),
    "huber": (losses.huber, TARGET, lambda x, z: scipy.special.huber(1.0, x - z).mean()),
    "huber with delta": (
        functools.partial(losses.huber, delta=2.5),
        TARGET,
        lambda x, z: scipy.special.huber(2.5, x - z).mean(),
    ),
    "sigmoid": (
        losses.sigmoid_cross_entropy,
        TRUTHS,
        lambda x, z: -(z * scipy.special.log_expit(x) + (1 - z) * scipy.special.log_expit(-x)).mean(),
    ),
    "softmax of ids": (losses.softmax_cross_entropy, IDS, lambda x, z: nll(x, np.eye(5)[z])),
    "softmax of shares": (losses.softmax_cross_entropy, SHARES, nll),
}


@pytest.mark.parametrize(("loss", "target", "reference"), CASES.values(), ids=CASES)
def test_losses_agree_with_their_formulas(loss, target, reference):
    """One scalar, the mean over everything but the class axis."""
    found = gn.jit(loss)(LOGITS, target)
    assert found.shape == ()
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, reference(LOGITS, target), rtol=1e-12)


@pytest.mark.parametrize(("loss", "target", "reference"), CASES.values(), ids=CASES)
def test_gradients_agree_with_differences(loss, target, reference):
    """The gradient with respect to the output, against central differences of the formula."""
    found = gn.grad(lambda x: loss(x, target))(LOGITS)
    for index in [(0, 0, 0), (1, 2, 4), (3, 1, 2), (2, 0, IDS[2, 0])]:
        shift = np.zeros_like(LOGITS)
        shift[index] = 1e-6
        slope = (reference(LOGITS + shift, target) - reference(LOGITS - shift, target)) / 2e-6
        np.testing.assert_allclose(found[index], slope, rtol=1e-6, atol=1e-9)


def test_one_hot_targets_equal_ids():
    """Integer ids, one-hot floats, one-hot integers and uint8 ids give one loss."""
    expected = gn.jit(losses.softmax_cross_entropy)(LOGITS, IDS)
    for target in (
        np.eye(5)[IDS],
        np.eye(5, dtype=np.int32)[IDS],
        IDS.astype(np.uint8),
        IDS.astype(np.int64),
    ):
        found = gn.jit(losses.softmax_cross_entropy)(LOGITS, target)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("size", [50.0, 1000.0, 1e30])
def test_cross_entropies_do_not_overflow(size):
    """Large logits give the exact limit and finite gradients, in float32."""
    logits = np.array([[size, -size, 0.0]], np.float32)
    right, wrong = np.array([0], np.int32), np.array([1], np.int32)
    loss = gn.jit(losses.softmax_cross_entropy)
    assert loss(logits, right) == 0
    np.testing.assert_allclose(loss(logits, wrong), 2 * size, rtol=1e-6)
    slope = gn.grad(lambda x: losses.softmax_cross_entropy(x, wrong))(logits)
    np.testing.assert_allclose(slope, [[1, -1, 0]], atol=1e-20)
    truth = np.array([[1.0, 1.0, 1.0]], np.float32)
    found = gn.jit(losses.sigmoid_cross_entropy)(logits, truth)
    np.testing.assert_allclose(found, (size + np.log(2)) / 3, rtol=1e-6)


def test_sigmoid_cross_entropy_has_its_gradient_at_zero():
    """sigmoid(0) - z, where max(x, 0) and |x| alone would have none."""
    grad = gn.grad(lambda x: losses.sigmoid_cross_entropy(x, np.array([0.0, 1.0])))(np.zeros(2))
    np.testing.assert_allclose(grad, [0.25, -0.25])


def test_losses_are_functions_to_call():
    """Inside a user's loss they add up like any other function."""

    def both(x, z):
        return losses.mse(x, z) + 0.5 * losses.huber(x, z)

    expected = CASES["mse"][2](LOGITS, TARGET) + 0.5 * CASES["huber"][2](LOGITS, TARGET)
    np.testing.assert_allclose(gn.jit(both)(LOGITS, TARGET), expected, rtol=1e-12)


def test_target_types():
    """Class numbers for softmax_cross_entropy, the output's type for the others and for users' functions."""
    output = Type((8, 20, 5), "float32")
    assert losses.target_type(losses.softmax_cross_entropy, output) == Type((8, 20), "int32")
    others = [losses.mse, losses.huber, losses.sigmoid_cross_entropy, lambda x, z: losses.mse(x, z)]
    for loss in (*others, functools.partial(losses.huber, delta=2.0)):
        assert losses.target_type(loss, output) == output
    assert losses.target_type(functools.partial(losses.softmax_cross_entropy), output).dtype == "int32"


def test_users_losses_can_say_their_target():
    """The decorator is public."""

    @losses.loss(target=lambda output: Type(output.shape[:1], "int64"))
    def mine(output, target):
        return losses.softmax_cross_entropy(output, target)

    assert losses.target_type(mine, Type((3, 4), "float32")) == Type((3,), "int64")


REFUSED = [
    (
        losses.mse,
        np.zeros((3, 1)),
        np.zeros(3),
        gn.ShapeError,
        "mse: the output has shape (3, 1), the target (3,)",
    ),
    (
        losses.huber,
        np.zeros(3),
        np.zeros(4),
        gn.ShapeError,
        "huber: the output has shape (3,), the target (4,)",
    ),
    (
        losses.softmax_cross_entropy,
        np.zeros((3, 5)),
        np.zeros((4,), np.int32),
        gn.ShapeError,
        "softmax_cross_entropy: the logits have shape (3, 5), the target (4,): give class numbers of shape "
        "(3,) or probabilities of shape (3, 5)",
    ),
    (
        losses.softmax_cross_entropy,
        np.zeros((3, 5)),
        np.zeros(3),
        gn.DTypeError,
        "class numbers are float64: cast",
    ),
    (losses.softmax_cross_entropy, np.float64(1), np.int32(1), gn.ShapeError, "the logits are a scalar"),
    (
        functools.partial(losses.huber, delta=0.0),
        np.zeros(3),
        np.zeros(3),
        gn.TraceError,
        "delta must be positive",
    ),
]


@pytest.mark.parametrize(("loss", "output", "target", "error", "message"), REFUSED, ids=range(len(REFUSED)))
def test_losses_refuse_in_one_line(loss, output, target, error, message):
    """Shapes never broadcast silently; the line is the user's."""
    with pytest.raises(error) as caught:
        gn.jit(lambda x, z: loss(x, z))(output, target)
    text = str(caught.value)
    assert message in text
    assert "test_losses.py:" in text.split(" ")[0]
    assert "\n" not in text
