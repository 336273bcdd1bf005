"""Recurrent layers against NumPy loops in float64: values, gradients, state, direction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit as sigmoid

import graphnet as gn

DRAW = np.random.default_rng(0)
BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 6
X = DRAW.normal(size=(BATCH, TIME, FEATURES))
SPEC = gn.spec(X.shape, "float64")


def rnn_step(x, carry, p):
    h = np.tanh(x @ p["wx"] + p["b"] + carry[0] @ p["wh"])
    return (h,)


def gru_step(x, carry, p):
    """PyTorch's formulas: the reset gate scales the product with h and its bias."""
    (h,) = carry
    wx, wh, b = (np.split(p[n], 3, axis=-1) for n in ("wx", "wh", "b"))
    r = sigmoid(x @ wx[0] + b[0] + h @ wh[0])
    z = sigmoid(x @ wx[1] + b[1] + h @ wh[1])
    n = np.tanh(x @ wx[2] + b[2] + r * (h @ wh[2] + p["bh"]))
    return ((1 - z) * n + z * h,)


def lstm_step(x, carry, p):
    h, c = carry
    i, f, g, o = np.split(x @ p["wx"] + p["b"] + h @ p["wh"], 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


LAYERS = {
    "rnn": (gn.layers.rnn, rnn_step, 1),
    "gru": (gn.layers.gru, gru_step, 1),
    "lstm": (gn.layers.lstm, lstm_step, 2),
}
each_layer = pytest.mark.parametrize(("layer", "step", "size"), LAYERS.values(), ids=LAYERS)


def unroll(step, x, params, carry, reverse=False):
    """(batch, time, units) and the last carry."""
    p = {name.split("/")[-1]: value for name, value in params.items()}
    order = range(x.shape[1])
    ys = [None] * len(order)
    for t in reversed(order) if reverse else order:
        carry = step(x[:, t], carry, p)
        ys[t] = carry[0]
    return np.stack(ys, 1), carry


def zeros(size):
    return (np.zeros((BATCH, UNITS)),) * size


def compiled(model, **options):
    """A float64 net with every parameter drawn anew."""
    net = gn.compile(model, SPEC, **options)
    for name in net.params:
        net.params[name] = DRAW.normal(size=net.params[name].shape) * 0.5
    return net


TRAINED = {"loss": gn.losses.mse, "optimizer": gn.optim.SGD(lr=0.0)}


@each_layer
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_recurrent_layers_agree_with_loops(layer, step, size, reverse):
    """Values for every time step and gradients of every parameter."""
    net = compiled(lambda x: layer(x, UNITS, reverse=reverse), **TRAINED)
    expected, _ = unroll(step, X, net.params, zeros(size), reverse)
    np.testing.assert_allclose(net(X), expected, rtol=1e-12, atol=1e-13)
    assert net.check_gradients(X, DRAW.normal(size=expected.shape)).max_error < 1e-5


@each_layer
def test_the_last_carry_is_returned_and_the_first_given(layer, step, size):
    """return_state and initial: two halves of a sequence are as good as the whole."""

    def halves(x):
        first, state = layer(x[:, :2], UNITS, return_state=True, init=0.3)
        return first, state

    net = compiled(halves)
    ys, last = net(X)
    expected, carry = unroll(step, X[:, :2], net.params, zeros(size))
    np.testing.assert_allclose(ys, expected, rtol=1e-12)
    for found, wanted in zip(last if size == 2 else (last,), carry, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)

    start = tuple(DRAW.normal(size=(BATCH, UNITS)) for _ in range(size))
    net = compiled(lambda x: layer(x, UNITS, initial=start if size == 2 else start[0]))
    np.testing.assert_allclose(net(X), unroll(step, X, net.params, start)[0], rtol=1e-12)


@each_layer
def test_stateful_layers_go_on_where_the_last_call_ended(layer, step, size):
    """Training and inference share the state; reset_states starts again from zeros."""
    net = compiled(lambda x: layer(x, UNITS, stateful=True), **TRAINED)
    first, carry = unroll(step, X, net.params, zeros(size))
    second, carry = unroll(step, X, net.params, carry)
    np.testing.assert_allclose(net(X), first, rtol=1e-12)
    np.testing.assert_allclose(net.step(X, np.zeros_like(second)), (second**2).mean(), rtol=1e-11)
    for name, value in zip(("h", "c"), carry, strict=False):
        np.testing.assert_allclose(net.states[f"model/{layer.__name__}_1/{name}"], value, rtol=1e-12)
    net.reset_states()
    np.testing.assert_allclose(net(X), first, rtol=1e-12)


@each_layer
def test_stateful_gradients_stop_at_the_start_of_the_call(layer, step, size):
    """Back-propagation is truncated there: gradients are those for a constant start."""
    net = compiled(lambda x: layer(x, UNITS, stateful=True), **TRAINED)
    target = DRAW.normal(size=(BATCH, TIME, UNITS))
    net.forward(X)
    net.backward(target)
    net.update()
    start = tuple(np.array(net.states[f"model/{layer.__name__}_1/{n}"]) for n in ("h", "c")[:size])
    net.forward(X)
    net.backward(target)
    given = gn.compile(lambda x: layer(x, UNITS, initial=start if size == 2 else start[0]), SPEC, **TRAINED)
    for name in given.params:
        given.params[name] = net.params[name]
    given.forward(X)
    given.backward(target)
    for name in given.grads:
        np.testing.assert_allclose(net.grads[name], given.grads[name], rtol=1e-10, atol=1e-14)


def test_lstm_starts_with_open_forget_gates():
    """The bias is zero but for the forget gate's quarter; forget_bias sets it."""
    bias = gn.compile(lambda x: gn.layers.lstm(x, 2), SPEC).params["model/lstm_1/b"]
    np.testing.assert_array_equal(bias, [0, 0, 1, 1, 0, 0, 0, 0])
    bias = gn.compile(lambda x: gn.layers.lstm(x, 2, forget_bias=0), SPEC).params["model/lstm_1/b"]
    np.testing.assert_array_equal(bias, np.zeros(8))


def test_rnn_takes_an_activation():
    """Any function of a tensor."""
    net = compiled(lambda x: gn.layers.rnn(x, UNITS, activation=gn.relu))
    expected, _ = unroll(
        lambda x, c, p: (np.maximum(x @ p["wx"] + p["b"] + c[0] @ p["wh"], 0),), X, net.params, zeros(1)
    )
    np.testing.assert_allclose(net(X), expected, rtol=1e-12)


def test_layers_stack_and_run_both_ways():
    """A bidirectional layer is two layers and a concatenation."""

    def both(x):
        x = gn.concat([gn.layers.lstm(x, UNITS), gn.layers.lstm(x, UNITS, reverse=True)], axis=-1)
        return gn.layers.gru(x, 2)

    net = compiled(both, **TRAINED)
    assert net(X).shape == (BATCH, TIME, 2)
    assert net.check_gradients(X, DRAW.normal(size=(BATCH, TIME, 2))).max_error < 1e-5


REFUSED = [
    (lambda x: gn.layers.lstm(x[0], 3), "lstm: the input must be (batch, time, features), got shape (5, 4)"),
    (lambda x: gn.layers.gru(x, -1), "gru: units must be at least 1, got -1"),
    (lambda x: gn.layers.lstm(x, 3, initial=x[:, 0]), "lstm: initial must be (h, c)"),
    (lambda x: gn.layers.rnn(x, 3, initial=x[:, 0]), "rnn: initial h has shape (3, 4), it needs (3, 3)"),
    (
        lambda x: gn.layers.rnn(x, 4, initial=x[:, 0], stateful=True),
        "rnn: give initial= or stateful=True, not both",
    ),
]


@pytest.mark.parametrize(("model", "message"), REFUSED, ids=range(len(REFUSED)))
def test_recurrent_layers_refuse_in_one_line(model, message):
    """The line is the user's."""
    with pytest.raises(gn.GraphnetError) as caught:
        gn.compile(model, SPEC)
    assert message in str(caught.value)
    assert "test_layers_recurrent.py:" in str(caught.value).split(" ")[0]
