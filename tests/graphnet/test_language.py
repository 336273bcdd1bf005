"""What a model function may do while it is traced: Python around tensors, nested models and their names, states."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import graphnet as gn

X = np.arange(6, dtype=np.float32).reshape(2, 3)
SPEC = gn.spec((2, 3))


@pytest.fixture(autouse=True)
def _verified(monkeypatch):
    """The verifier runs after every pass."""
    monkeypatch.setenv("GRAPHNET_VERIFY", "1")


def names(model, *specs, **options):
    """The parameters that compiling the model declares, in order."""
    return list(gn.compile(model, *(specs or (SPEC,)), **options).params)


# -- Python around tensors ------------------------------------------------------------------------------


def test_helper_functions_closures_and_comprehensions():
    """Code between model functions is plain Python and leaves no name."""
    offsets = [1.0, 2.0]

    def shift(t, by):
        return t + by

    @gn.model
    def shifted(x):
        return gn.stack([shift(x, o) for o in offsets]).sum(axis=0)

    net = gn.compile(shifted, SPEC)
    np.testing.assert_array_equal(net(X), 2 * X + 3)


def test_python_loops_and_conditionals_on_python_values():
    """They choose at trace time which ops there are."""

    @gn.model
    def tower(x, widths=(4,), activation="relu", final=None):
        for width in widths:
            x = getattr(gn, activation)(gn.layers.dense(x, width))
        if final is not None:
            x = gn.layers.dense(x, final)
        return x

    assert len(names(tower)) == 2
    assert len(names(tower, widths=(4, 5, 6), activation="tanh", final=2)) == 8
    assert gn.compile(tower, SPEC, widths=(), final=None)(X).tolist() == X.tolist()


def test_conditionals_on_shapes_and_dtypes():
    """Shapes are Python ints, dtypes are names: both are known while tracing."""

    @gn.model
    def flattened(x):
        assert all(type(n) is int for n in x.shape)
        return gn.flatten(x) if x.ndim > 2 and x.dtype == "float32" else x

    assert gn.compile(flattened, gn.spec((2, 3, 4)))(np.ones((2, 3, 4))).shape == (2, 12)
    assert gn.compile(flattened, SPEC)(X).shape == (2, 3)


def test_recursion():
    """A model function may call itself; each level has a scope of its own."""

    @gn.model
    def deep(x, levels):
        x = gn.layers.dense(x, 3, bias=False)
        return deep(x, levels - 1) if levels > 1 else x

    assert names(deep, levels=3) == ["deep/dense_1/w", "deep/deep_1/dense_1/w", "deep/deep_1/deep_1/dense_1/w"]


def test_recursion_of_helpers():
    """A balanced tree of sums."""

    def tree_sum(parts):
        middle = len(parts) // 2
        return parts[0] if len(parts) == 1 else tree_sum(parts[:middle]) + tree_sum(parts[middle:])

    net = gn.compile(lambda x: tree_sum([x[:, i] for i in range(3)]), SPEC)
    np.testing.assert_array_equal(net(X), X.sum(axis=1))


def test_options_partials_and_keyword_models():
    """Options come from gn.compile's keywords, from a partial or from defaults."""

    @gn.model
    def scaled(x, by=1.0, *, plus=0.0):
        return x * by + plus

    for net in (
        gn.compile(scaled, SPEC, by=2.0, plus=1.0),
        gn.compile(functools.partial(scaled, by=2.0), SPEC, plus=1.0),
        gn.compile(functools.partial(scaled, by=2.0, plus=1.0), SPEC),
        gn.compile(lambda x: scaled(x, plus=1.0, by=2.0), SPEC),
    ):
        np.testing.assert_array_equal(net(X), 2 * X + 1)


def test_layers_as_arguments():
    """Model functions are values: a block takes the layer it repeats."""

    @gn.model
    def twice(x, layer):
        return layer(layer(x))

    assert names(twice, layer=functools.partial(gn.layers.dense, units=3, bias=False)) == [
        "twice/dense_1/w",
        "twice/dense_2/w",
    ]


def test_several_inputs_and_nests_of_outputs():
    """Inputs take the names of the function's arguments, outputs come back in the nest that was returned."""

    @gn.model
    def pair(x, y, *more):
        return {"sum": x + y, "rest": [t * 2 for t in more], "none": None}

    net = gn.compile(pair, SPEC, SPEC, gn.spec(2), gn.spec(2))
    found = net(X, X, np.ones(2), np.zeros(2))
    np.testing.assert_array_equal(found["sum"], X + X)
    assert [r.tolist() for r in found["rest"]] == [[2, 2], [0, 0]]
    assert found["none"] is None
    assert net.program.names == ["x", "y", "more0", "more1"]


def test_a_spec_may_be_an_example_array():
    """Its shape and dtype are taken; float64 stays, int64 becomes the int32 that ids have."""
    net = gn.compile(lambda x, ids: gn.take(x, ids, axis=0), X.astype(np.float64), np.array([1, 0, 1]))
    assert [str(t) for t in net.input_types] == ["float64(2, 3)", "int32(3)"]
    np.testing.assert_array_equal(net(X.astype(np.float64), np.array([1, 0, 1])), X[[1, 0, 1]])


def test_plain_functions_and_lambdas_are_models():
    """gn.compile takes any function; its name heads the parameter names, a lambda is called model."""

    def plain(x):
        return gn.layers.dense(x, 2, bias=False)

    assert names(plain) == ["plain/dense_1/w"]
    assert names(lambda x: plain(x)) == ["model/dense_1/w"]


def test_constants_returned_by_a_model():
    """A result need not depend on the input."""
    net = gn.compile(lambda x: (gn.ones(2), 3.0, X), SPEC)
    ones, three, array = net(X)
    assert ones.tolist() == [1, 1]
    assert three == 3
    np.testing.assert_array_equal(array, X)


def test_captured_arrays_are_constants_and_listed():
    """A host array used in a model is legal, fixed at compile time, and shows in the dump with its line."""
    table = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    net = gn.compile(lambda x: x @ table, SPEC)
    expected = X @ table
    np.testing.assert_allclose(net(X), expected, rtol=1e-6)
    listing = str(net)
    rows = [row for row in listing.splitlines() if "const" in row.lower()]
    assert any("3, 4" in row or "(3,4)" in row for row in rows), listing
    table[:] = 0
    np.testing.assert_allclose(net(X), expected, rtol=1e-6)


# -- names ----------------------------------------------------------------------------------------------


def test_layers_are_numbered_by_kind_in_each_scope():
    """lenet/conv2d_1, lenet/conv2d_2, lenet/dense_1, lenet/dense_2."""

    @gn.model
    def lenet(x, classes=10):
        x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 2, kernel=5)), 2)
        x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 3, kernel=5)), 2)
        x = gn.relu(gn.layers.dense(gn.flatten(x), 5))
        return gn.layers.dense(x, classes)

    expected = [f"lenet/{kind}_{i}/{p}" for kind in ("conv2d", "dense") for i in (1, 2) for p in ("w", "b")]
    assert names(lenet, gn.spec((1, 1, 28, 28))) == expected


def test_nested_models():
    """Scopes nest; numbers start anew in each."""

    @gn.model
    def block(x):
        return gn.layers.dense(gn.layers.dense(x, 4, bias=False), 3, bias=False)

    @gn.model
    def net(x):
        return block(block(x))

    assert names(net) == [f"net/block_{i}/dense_{j}/w" for i in (1, 2) for j in (1, 2)]


def test_explicit_names():
    """name= in a call sets the scope's name."""

    @gn.model
    def net(x):
        x = gn.layers.dense(x, 4, bias=False, name="hidden")
        return gn.layers.dense(x, 3, bias=False, name="out")

    assert names(net) == ["net/hidden/w", "net/out/w"]


def test_a_model_called_twice_has_parameters_of_its_own_each_time():
    """Sharing is by passing a parameter on, not by calling again."""

    @gn.model
    def separate(x):
        return gn.layers.dense(x, 3, bias=False) + gn.layers.dense(x, 3, bias=False)

    net = gn.compile(separate, SPEC)
    one, two = net.params.values()
    assert not np.array_equal(one, two)
    np.testing.assert_allclose(net(X), X @ one + X @ two, rtol=1e-5)

    @gn.model
    def shared(x):
        w = gn.param("w", (3, 3))
        return (x @ w) @ w

    net = gn.compile(shared, SPEC)
    (w,) = net.params.values()
    np.testing.assert_allclose(net(X), X @ w @ w, rtol=1e-4, atol=1e-5)


def test_parameters_without_training():
    """trainable=False: initialised and named, but without a gradient and untouched by the optimiser."""

    @gn.model
    def partly(x):
        fixed = gn.param("fixed", (3, 3), init=1.0, trainable=False)
        return x @ fixed @ gn.param("free", (3, 1), init=1.0)

    net = gn.compile(partly, SPEC, loss=gn.losses.mse, optimizer=gn.optim.SGD(lr=0.01))
    net.step(X, np.zeros((2, 1), np.float32))
    np.testing.assert_array_equal(net.params["partly/fixed"], np.ones((3, 3)))
    assert (net.params["partly/free"] != 1).all()
    net.forward(X)
    net.backward(np.zeros((2, 1), np.float32))
    assert list(net.grads) == ["partly/free"]


def test_initial_values_depend_on_the_seed_and_the_name_only():
    """Not on the order of declarations, and not on what else there is."""

    @gn.model
    def one(x):
        return gn.layers.dense(x, 3, bias=False, name="a")

    @gn.model
    def two(x):
        return gn.layers.dense(gn.layers.dense(x, 3, bias=False, name="b"), 3, bias=False, name="a")

    first = gn.compile(gn.model(lambda x: one(x, name="m")), SPEC, seed=5).params
    second = gn.compile(gn.model(lambda x: two(x, name="m")), SPEC, seed=5).params
    name = next(n for n in first if n.endswith("a/w"))
    np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first[name], gn.compile(lambda x: one(x, name="m"), SPEC, seed=6).params["model/m/a/w"])


def test_every_node_knows_its_line_and_scope():
    """where survives to the compiled plan: file, line and the model functions around it."""

    @gn.model
    def marked(x):
        return gn.exp(x) @ gn.param("w", (3, 2))

    net = gn.compile(marked, SPEC)
    steps = {s.op: s.where for s in net.schedule}
    assert {w.file.split("/")[-1] for w in steps.values()} == {"test_language.py"}
    assert {w.scope for w in steps.values()} == {"marked"}
    assert len({w.line for w in steps.values()}) == 1


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
