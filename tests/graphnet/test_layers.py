"""Dense, convolution, embedding, dropout and normalisation layers against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn

DRAW = np.random.default_rng(0)
IMAGES = DRAW.normal(size=(2, 4, 7, 6))


def compiled(model, x, **options):
    """A net for arrays like ``x``, its parameters drawn anew so that none is trivially 0 or 1."""
    net = gn.compile(model, gn.spec(x.shape, x.dtype), loss=gn.losses.mse, optimizer=gn.optim.SGD(lr=0.0), **options)
    for name in net.params:
        net.params[name] = DRAW.normal(size=net.params[name].shape)
    return net


def agrees(model, x, reference):
    """The net's output is the reference's of its parameters, and its gradients pass the net's own check."""
    net = compiled(model, x)
    expected = reference(x, **{name.split("/")[-1]: value for name, value in net.params.items()})
    found = net(x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    assert net.check_gradients(x, DRAW.normal(size=found.shape)).max_error < 1e-5
    return net


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (0, 5)])
def test_dense_is_a_product_over_the_last_axis(shape):
    """Whatever the leading axes."""
    net = compiled(lambda x: gn.layers.dense(x, 4), x := DRAW.normal(size=shape))
    w, b = net.params["model/dense_1/w"], net.params["model/dense_1/b"]
    assert w.shape == (5, 4)
    np.testing.assert_allclose(net(x), x @ w + b, rtol=1e-12)


def test_dense_gradients():
    """Of weights and bias, for a matrix and for a batch of matrices."""
    agrees(lambda x: gn.layers.dense(x, 4), DRAW.normal(size=(3, 5)), lambda x, w, b: x @ w + b)
    agrees(lambda x: gn.layers.dense(x, 4), DRAW.normal(size=(2, 3, 5)), lambda x, w, b: x @ w + b)


def test_dense_without_bias_and_with_initial_values():
    """bias=False declares no b; init and bias_init set the first values."""
    net = gn.compile(lambda x: gn.layers.dense(x, 4, bias=False, init=2.0), gn.spec((1, 3)))
    assert list(net.params) == ["model/dense_1/w"]
    np.testing.assert_array_equal(net(np.ones((1, 3))), np.full((1, 4), 6, np.float32))
    net = gn.compile(lambda x: gn.layers.dense(x, 4, init=np.ones((3, 4)), bias_init=0.5), gn.spec((1, 3)))
    np.testing.assert_array_equal(net(np.ones((1, 3))), np.full((1, 4), 3.5, np.float32))


def test_dense_of_integers_computes_in_float32():
    """Bytes of an image need no cast."""
    net = gn.compile(lambda x: gn.layers.dense(x, 4), gn.spec((1, 3), "uint8"))
    x = np.array([[0, 7, 255]], np.uint8)
    assert net.params["model/dense_1/w"].dtype == np.float32
    np.testing.assert_allclose(net(x), x @ net.params["model/dense_1/w"], rtol=1e-5)


def correlate(x, w, b, stride=1, padding=0, dilation=1, groups=1):
    """The definition of conv2d, one output pixel at a time."""
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    n, _, height, width = x.shape
    filters, inner, kh, kw = w.shape
    rows = (height - dilation * (kh - 1) - 1) // stride + 1
    columns = (width - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((n, filters, rows, columns))
    for o in range(filters):
        first = o // (filters // groups) * inner
        for i in range(rows):
            for j in range(columns):
                top, left = i * stride, j * stride
                patch = x[:, first : first + inner, top : top + dilation * kh : dilation]
                patch = patch[:, :, :, left : left + dilation * kw : dilation]
                y[:, o, i, j] = (patch[:, :, :kh, :kw] * w[o]).sum((1, 2, 3)) + b[o]
    return y


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"dilation": 2},
        {"groups": 2, "padding": 2},
        {"groups": 4, "stride": 3},
    ],
    ids=str,
)
def test_conv2d_is_cross_correlation(options):
    """Strides, padding, dilation and groups."""
    agrees(
        lambda x: gn.layers.conv2d(x, 4, kernel=(3, 2), **options),
        IMAGES,
        lambda x, w, b: correlate(x, w, b, **options),
    )


def test_conv2d_same_keeps_the_size():
    """A square kernel may be one number."""
    net = compiled(lambda x: gn.layers.conv2d(x, 8, 3, padding="same", bias=False), IMAGES)
    assert net(IMAGES).shape == (2, 8, 7, 6)
    assert net.params["model/conv2d_1/w"].shape == (8, 4, 3, 3)
    assert len(net.params) == 1


def test_conv1d_is_conv2d_of_height_one():
    """With stride, padding and dilation along the line."""
    x = DRAW.normal(size=(2, 4, 9))

    def reference(x, w, b):
        padded = np.pad(x, [(0, 0), (0, 0), (2, 2)])
        return correlate(padded[:, :, None], w[:, :, None], b, dilation=2)[:, :, 0, ::2]

    agrees(
        lambda x: gn.layers.conv1d(x, 6, 3, stride=2, padding=2, dilation=2),
        x,
        lambda x, w, b: reference(x, w, b),
    )


def test_embedding_looks_rows_up():
    """For ids of any shape; repeated ids add their gradients up."""
    ids = np.array([[1, 4, 1], [0, 1, 3]], np.int32)
    net = compiled(lambda ids: gn.layers.embedding(ids, 5, 3, dtype="float64"), ids)
    np.testing.assert_array_equal(net(ids), net.params["model/embedding_1/w"][ids])
    assert net.check_gradients(ids, DRAW.normal(size=(2, 3, 3))).max_error < 1e-5
    values = gn.compile(lambda ids: gn.layers.embedding(ids, 50, 30), gn.spec((2,), "int32")).params
    assert 0.09 < np.abs(values["model/embedding_1/w"]).max() <= 0.1


def test_dropout_zeroes_and_rescales_while_training():
    """Kept elements are divided by 1 - rate, so the mean stays; inference changes nothing."""
    x = np.ones((200, 50))
    net = gn.compile(
        lambda x: gn.layers.dropout(x, 0.3) * gn.param("one", (), 1.0, "float64"),
        gn.spec(x.shape, x.dtype),
        loss=gn.losses.mse,
        optimizer=gn.optim.SGD(lr=0.0),
    )
    np.testing.assert_array_equal(net(x), x)
    first = net.forward(x)
    assert set(np.unique(first)) == {0.0, 1 / 0.7}
    assert abs((first == 0).mean() - 0.3) < 0.02
    net.backward(x)
    net.update()
    assert (net.forward(x) != first).any()


def test_dropout_masks_repeat_with_the_seed():
    """The same seed gives the same masks, another seed others; float64 drops what float32 drops."""

    def masks(seed, dtype="float32"):
        net = gn.compile(
            lambda x: gn.layers.dropout(x, 0.5) * gn.param("one", (), 1.0, dtype),
            gn.spec((8, 8), dtype),
            loss=gn.losses.mse,
            optimizer=gn.optim.SGD(lr=0.0),
            seed=seed,
        )
        return net.forward(np.ones((8, 8), dtype)) != 0

    np.testing.assert_array_equal(masks(1), masks(1))
    np.testing.assert_array_equal(masks(1), masks(1, "float64"))
    assert (masks(1) != masks(2)).any()


def test_dropout_of_nothing_is_the_identity():
    """rate=0 draws no numbers."""
    net = gn.compile(lambda x: gn.layers.dropout(x, 0.0), gn.spec((2,)))
    np.testing.assert_array_equal(net([1.0, 2.0]), [1, 2])


def normalised(x, scale, shift, axis, eps=1e-5):
    """Batch normalisation by the batch's own moments."""
    others = tuple(i for i in range(x.ndim) if i != axis)
    across = [1 if i != axis else -1 for i in range(x.ndim)]
    mean, var = x.mean(others, keepdims=True), x.var(others, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * scale.reshape(across) + shift.reshape(across)


@pytest.mark.parametrize(("shape", "axis"), [((6, 3), 1), ((2, 3, 4, 5), 1), ((2, 4, 3), -1)])
def test_batch_norm_trains_on_the_moments_of_the_batch(shape, axis):
    """For each channel over all other axes, with the biased variance."""
    x = DRAW.normal(2.0, 3.0, size=shape)
    net = compiled(lambda x: gn.layers.batch_norm(x, axis=axis), x)
    scale, shift = (net.params[f"model/batch_norm_1/{n}"] for n in ("scale", "shift"))
    np.testing.assert_allclose(net.forward(x), normalised(x, scale, shift, axis % x.ndim), rtol=1e-10)
    assert net.check_gradients(x, DRAW.normal(size=shape)).max_error < 1e-5


def test_batch_norm_infers_with_running_moments():
    """They start at 0 and 1 and move by 1 - momentum, to the unbiased variance; inference leaves them."""
    x = DRAW.normal(2.0, 3.0, size=(2, 3, 4, 5))
    net = compiled(lambda x: gn.layers.batch_norm(x, momentum=0.8, eps=0.0), x)
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(3):
        net.step(x, np.zeros_like(x))
        mean = 0.8 * mean + 0.2 * x.mean((0, 2, 3))
        var = 0.8 * var + 0.2 * x.var((0, 2, 3), ddof=1)
    for _ in range(2):
        np.testing.assert_allclose(net.states["model/batch_norm_1/mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(net.states["model/batch_norm_1/var"], var, rtol=1e-12)
        scale, shift = (net.params[f"model/batch_norm_1/{n}"][:, None, None] for n in ("scale", "shift"))
        centred = (x - mean[:, None, None]) / np.sqrt(var[:, None, None])
        np.testing.assert_allclose(net(x), centred * scale + shift, rtol=1e-11)


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6)])
def test_layer_norm_is_over_the_last_axis(shape):
    """Training and inference are one."""

    def reference(x, scale, shift):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(var + 1e-5) * scale + shift

    agrees(gn.layers.layer_norm, DRAW.normal(1.0, 2.0, size=shape), reference)


def test_layers_are_named_by_the_functions_around_them():
    """Calls are numbered; ``name=`` sets a name."""

    @gn.model
    def lenet(x):
        x = gn.relu(gn.layers.conv2d(x, 2, 3))
        x = gn.relu(gn.layers.conv2d(x, 2, 3, name="second"))
        return gn.layers.dense(gn.flatten(x), 3)

    names = list(gn.compile(lenet, gn.spec((1, 1, 6, 6))).params)
    scopes = ["conv2d_1", "second", "dense_1"]
    assert names == [f"lenet/{scope}/{leaf}" for scope in scopes for leaf in ("w", "b")]


F4, F2 = gn.spec((2, 4, 7, 6)), gn.spec((2, 3))
REFUSED = [
    (
        lambda x: gn.layers.conv2d(x, 3, 3),
        F2,
        "conv2d: the input must be (batch, channels, height, width), got shape (2, 3)",
    ),
    (
        lambda x: gn.layers.conv1d(x, 3, 3),
        F2,
        "conv1d: the input must be (batch, channels, length), got shape (2, 3)",
    ),
    (lambda x: gn.layers.conv2d(x, 3, 9), F4, "the kernel (9, 9) is larger than the padded image (7, 6)"),
    (
        lambda x: gn.layers.conv2d(x, 3, (3, 3, 3)),
        F4,
        "conv2d: kernel must be 2 integers or one, got (3, 3, 3)",
    ),
    (
        lambda x: gn.layers.conv2d(x, 3, 3, groups=3),
        F4,
        "4 channels and 3 filters do not divide into 3 groups",
    ),
    (lambda x: gn.layers.dense(x, 0), F2, "dense: units must be at least 1, got 0"),
    (lambda x: gn.layers.dense(x, 2.5), F2, "dense: units must be an integer, got 2.5"),
    (lambda x: gn.layers.dense(x[0, 0], 2), F2, "dense: the input must be (..., features), got shape ()"),
    (lambda x: gn.layers.embedding(x, 5, 2), F2, "embedding: ids are float32, need integers"),
    (lambda x: gn.layers.dropout(x, 1.0), F2, "dropout: rate must be a number in [0, 1), got 1.0"),
    (lambda x: gn.layers.dropout(x, x), F2, "dropout: rate must be a number in [0, 1), got Tensor"),
    (
        lambda x: gn.layers.batch_norm(x, axis=2),
        F2,
        "batch_norm: an input of shape (2, 3) has no channel axis 2",
    ),
    (
        lambda x: gn.layers.batch_norm(x, momentum=1.5),
        F2,
        "batch_norm: momentum must be a number in [0, 1), got 1.5",
    ),
    (
        lambda x: gn.layers.dense(x, 2, init=np.ones((2, 3))),
        F2,
        "the declared shape is (3, 2), the initial value's (2, 3)",
    ),
]


@pytest.mark.parametrize(("model", "spec", "message"), REFUSED, ids=range(len(REFUSED)))
def test_layers_refuse_in_one_line(model, spec, message):
    """The line is the user's."""
    with pytest.raises(gn.GraphnetError) as caught:
        gn.compile(model, spec)
    assert message in str(caught.value)
    assert "test_layers.py:" in str(caught.value).split(" ")[0]
    assert "\n" not in str(caught.value)


def test_batch_norm_refuses_to_train_on_one_value():
    """Its variance would be 0; inference is fine."""
    model = lambda x: gn.layers.batch_norm(x)  # noqa: E731 - the layer alone
    assert gn.compile(model, gn.spec((1, 3)))(np.ones((1, 3))).shape == (1, 3)
    with pytest.raises(gn.ShapeError, match=r"needs two values or more a channel, the input has shape \(1, 3\)"):
        gn.compile(model, gn.spec((1, 3)), loss=gn.losses.mse, optimizer=gn.optim.SGD())
