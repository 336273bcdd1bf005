"""What a model function may do while it is traced: Python around tensors, nested models and their names."""

from __future__ import annotations

import functools

import numpy as np

import graphnet as gn

X = np.arange(6, dtype=np.float32).reshape(2, 3)
SPEC = gn.spec((2, 3))


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
