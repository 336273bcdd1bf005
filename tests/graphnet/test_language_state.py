"""What the net keeps and draws from call to call: training mode, states, truncated back-propagation, randomness."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn

X = np.arange(6, dtype=np.float32).reshape(2, 3)
SPEC = gn.spec((2, 3))


# -- training and inference -----------------------------------------------------------------------------


def test_training_is_known_while_tracing():
    """True for step and the three phases, False for calls and loss."""

    @gn.model
    def mode(x):
        w = gn.param("w", (), init=1.0)
        return x * w * (10.0 if gn.training() else 1.0)

    net = gn.compile(mode, gn.spec(()), loss=lambda y, t: gn.abs(y - t), optimizer=gn.optim.SGD(lr=0.0))
    assert net(1.0) == 1
    assert net.loss(1.0, 0.0) == 1
    assert net.step(1.0, 0.0) == 10
    assert net.forward(1.0) == 10


# -- states ---------------------------------------------------------------------------------------------


def test_a_state_is_read_before_it_is_assigned():
    """Reading gives the value from before the call, wherever in the model the assignment stands."""

    @gn.model
    def counter(x):
        n = gn.state("n", (), init=5.0)
        before = n + 0.0
        n.assign(n + x)
        return before, n * 1.0

    net = gn.compile(counter, gn.spec(()))
    assert net(2.0) == (5, 5)
    assert net(3.0) == (7, 7)
    assert net.states["counter/n"] == 10
    net.reset_states()
    assert net.states["counter/n"] == 5
    assert net(0.0) == (5, 5)


def test_states_swap():
    """Each assignment sees the old values of all states."""

    @gn.model
    def swapped(x):
        a, b = gn.state("a", (2,), init=1.0), gn.state("b", (2,), init=2.0)
        a.assign(b)
        b.assign(a)
        return a + b * x

    net = gn.compile(swapped, gn.spec(()))
    net(0.0)
    assert (net.states["swapped/a"].tolist(), net.states["swapped/b"].tolist()) == ([2, 2], [1, 1])
    net(0.0)
    assert (net.states["swapped/a"].tolist(), net.states["swapped/b"].tolist()) == ([1, 1], [2, 2])


def test_states_are_live_and_settable():
    """net.states maps names to the arrays themselves; assigning copies in."""

    @gn.model
    def remember(x):
        s = gn.state("s", (2, 3))
        s.assign(x)
        return s + 0.0

    net = gn.compile(remember, SPEC)
    view = net.states["remember/s"]
    net(X)
    np.testing.assert_array_equal(view, X)
    net.states["remember/s"] = np.full((2, 3), 9)
    np.testing.assert_array_equal(net(X), np.full((2, 3), 9))


def test_plans_of_other_batch_sizes_share_states_of_equal_shape():
    """A state that does not depend on the batch is one array for all plans."""

    @gn.model
    def seen(x):
        n = gn.state("n", (), dtype="int32", init=0)
        n.assign(n + x.shape[0])
        return x

    net = gn.compile(seen, SPEC)
    net(X)
    net(np.ones((5, 3)))
    net(X)
    assert net.states["seen/n"] == 9
    assert len(net.plans) == 2


def test_no_gradient_flows_into_a_state():
    """Truncated back-propagation: the state carries the value from batch to batch, and cuts the gradient."""

    @gn.model
    def leaky(x):
        w = gn.param("w", (), init=0.5)
        h = gn.state("h", (), init=1.0)
        new, _ = gn.scan(lambda c, row: (c * w + row, None), h, x)
        h.assign(new)
        return new

    net = gn.compile(leaky, gn.spec(2), loss=lambda y, t: y - t, optimizer=gn.optim.SGD(lr=0.0))
    h, w = 1.0, 0.5
    for x in (np.array([1.0, 2.0]), np.array([3.0, -1.0])):
        net.forward(x)
        loss = net.backward(0.0)
        net.update()
        # new = (h w + x0) w + x1, so that with h held fixed d new / d w = 2 h w + x0
        assert net.grads["leaky/w"] == pytest.approx(2 * h * w + x[0])
        h = (h * w + x[0]) * w + x[1]
        assert loss == pytest.approx(h)
        assert net.states["leaky/h"] == pytest.approx(h)


def test_a_stateful_lstm_continues_where_the_last_batch_ended():
    """Two calls of two steps are one call of four, up to the gradient that is cut."""

    def model(x, stateful):
        return gn.layers.lstm(x, 3, stateful=stateful)

    x = np.random.default_rng(0).normal(size=(2, 4, 5))
    whole = gn.compile(model, gn.spec((2, 4, 5), "float64"), stateful=False)
    parts = gn.compile(model, gn.spec((2, 2, 5), "float64"), stateful=True)
    found = np.concatenate([parts(x[:, :2]), parts(x[:, 2:])], axis=1)
    np.testing.assert_allclose(found, whole(x), rtol=1e-12)
    parts.reset_states()
    np.testing.assert_allclose(parts(x[:, :2]), whole(x)[:, :2], rtol=1e-12)


# -- random numbers -------------------------------------------------------------------------------------


@gn.model
def noisy(x, rate=0.5):
    return gn.layers.dropout(x, rate) * gn.param("one", (), init=1.0)


def noisy_net(seed=3, **options):
    return gn.compile(
        noisy, gn.spec((8, 8)), loss=lambda y, t: gn.sum(y - t), optimizer=gn.optim.SGD(lr=0.0), seed=seed, **options
    )


def masks(net, count=4):
    """What the training graph keeps of ones, at each step."""
    found = []
    for _ in range(count):
        found.append(net.forward(np.ones((8, 8))) > 0)
        net.backward(np.zeros((8, 8)))
        net.update()
    return np.array(found)


def test_masks_are_those_of_the_seed():
    """Two nets of one seed draw the same masks, step by step; another seed draws others."""
    first = masks(noisy_net())
    np.testing.assert_array_equal(first, masks(noisy_net()))
    assert (first != masks(noisy_net(seed=4))).any(axis=(1, 2)).all()


def test_masks_change_from_step_to_step():
    """And keep about the share that they should."""
    found = masks(noisy_net(), 20)
    assert len({m.tobytes() for m in found}) == 20
    assert abs(found.mean() - 0.5) < 0.05


def test_step_and_the_three_phases_draw_the_same():
    """The loss of a step is that of forward and backward at the same point of the sequence."""
    ones, zeros = np.ones((8, 8)), np.zeros((8, 8))
    whole, apart = noisy_net(), noisy_net()
    for _ in range(3):
        apart.forward(ones)
        loss = apart.backward(zeros)
        apart.update()
        assert whole.step(ones, zeros) == loss


def test_inference_draws_nothing():
    """Dropout is off, and calls between steps do not shift the sequence of masks."""
    net = noisy_net()
    np.testing.assert_array_equal(net(np.ones((8, 8))), np.ones((8, 8)))
    np.testing.assert_array_equal(masks(net), masks(noisy_net()))


def test_a_resumed_run_draws_the_masks_it_would_have_drawn(tmp_path):
    """Saving after two steps and loading gives steps three and four."""
    net = noisy_net()
    unbroken = masks(net, 4)
    first = noisy_net()
    masks(first, 2)
    first.save(tmp_path / "half.gnet")
    np.testing.assert_array_equal(masks(gn.load(tmp_path / "half.gnet"), 2), unbroken[2:])


def test_every_draw_in_a_model_and_in_a_loop_is_its_own():
    """Two calls, and the iterations of a scan, give independent numbers."""

    @gn.model
    def draws(x):
        _, rows = gn.scan(lambda c, _: (c, gn.random_uniform((16,))), x, length=3)
        return gn.concat([gn.random_uniform((1, 16)), gn.random_uniform((1, 16)), rows], 0)

    rows = gn.compile(draws, gn.spec(()))(0.0)
    assert len({r.tobytes() for r in rows}) == 5
    assert ((rows >= 0) & (rows < 1)).all()


def test_normal_numbers():
    """Mean and standard deviation as asked for; none is infinite."""
    draw = gn.compile(lambda x: gn.random_normal((20000,), mean=2.0, std=3.0) + x, gn.spec(()))
    found = draw(0.0)
    assert abs(found.mean() - 2) < 0.1
    assert abs(found.std() - 3) < 0.1
    assert np.isfinite(found).all()
