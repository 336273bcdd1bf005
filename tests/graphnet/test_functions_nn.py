"""Convolutions and pooling against loops over windows in float64, and their errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphnet as gn

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.normal(size=(2, 4, 7, 6))


def windows(x, kernel, stride, padding, dilation=(1, 1), fill=0.0):
    """(N, C, H', W', kh, kw): the window at each position, copied one by one."""
    x = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=fill)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    sizes = [(n - span) // s + 1 for n, span, s in zip(x.shape[2:], spans, stride, strict=True)]
    out = np.empty((*x.shape[:2], *sizes, *kernel))
    for i, j in itertools.product(*map(range, sizes)):
        top, left = i * stride[0], j * stride[1]
        out[:, :, i, j] = x[:, :, top : top + spans[0] : dilation[0], left : left + spans[1] : dilation[1]]
    return out


def convolve(x, w, stride, padding, dilation, groups):
    """The definition of a grouped cross-correlation."""
    seen = windows(x, w.shape[2:], stride, padding, dilation)
    parts = zip(np.split(seen, groups, 1), np.split(w, groups, 0), strict=True)
    return np.concatenate([np.einsum("ncijpq,ocpq->noij", s, v) for s, v in parts], axis=1)


CONVOLUTIONS = [
    ((3, 3), 1, 0, 1, 1),
    ((3, 2), 2, 1, 1, 1),
    ((1, 1), 1, 0, 1, 2),
    ((2, 3), (2, 1), (1, 2), (2, 1), 4),
    ((3, 3), 1, ((0, 2), (1, 0)), 2, 2),
    ((7, 6), 1, 0, 1, 1),
    ((2, 2), 1, "valid", 1, 1),
]


def both(value):
    return (value, value) if isinstance(value, int) else value


def pairs(padding):
    """((top, bottom), (left, right))."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    return (
        padding
        if isinstance(padding, tuple) and isinstance(padding[0], tuple)
        else tuple((p, p) for p in both(padding))
    )


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), CONVOLUTIONS)
def test_conv2d_is_its_definition(kernel, stride, padding, dilation, groups):
    """Every form of stride, padding, dilation and groups, with a bias."""
    w, bias = RANDOM.normal(size=(8, 4 // groups, *kernel)), RANDOM.normal(size=8)
    found = gn.jit(lambda x, w, b: gn.conv2d(x, w, b, stride, padding, dilation, groups))(IMAGE, w, bias)
    expected = convolve(IMAGE, w, both(stride), pairs(padding), both(dilation), groups) + bias[:, None, None]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_gives_ceil_of_size_over_stride(kernel, stride):
    """The odd pixel is added at the end."""
    w = RANDOM.normal(size=(3, 4, kernel, kernel))
    found = gn.jit(lambda x, w: gn.conv2d(x, w, stride=stride, padding="same"))(IMAGE, w)
    assert found.shape[2:] == (-(-7 // stride), -(-6 // stride))
    totals = [max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in (7, 6)]
    border = tuple((t // 2, t - t // 2) for t in totals)
    expected = convolve(IMAGE, w, (stride, stride), border, (1, 1), 1)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 2, 2), (3, (2, 0), 1, 4)])
def test_conv1d_is_conv2d_of_height_one(stride, padding, dilation, groups):
    """(N, C, L) with (O, C/groups, k)."""
    x, w, bias = IMAGE[:, :, 0], RANDOM.normal(size=(4, 4 // groups, 3)), RANDOM.normal(size=4)
    found = gn.jit(lambda x, w, b: gn.conv1d(x, w, b, stride, padding, dilation, groups))(x, w, bias)
    border = ((0, 0), (padding, padding) if isinstance(padding, int) else padding)
    expected = convolve(x[:, :, None], w[:, :, None], (1, stride), border, (1, dilation), groups)[:, :, 0]
    np.testing.assert_allclose(found, expected + bias[:, None], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("stride", "padding", "extra", "dilation", "groups"),
    [
        (1, 0, 0, 1, 1),
        (2, 1, 0, 1, 1),
        (2, 1, 1, 1, 2),
        (3, (1, 0), (2, 1), (1, 2), 1),
        (1, ((0, 1), (1, 0)), 0, 2, 4),
    ],
)
def test_conv_transpose2d_is_the_adjoint_of_conv2d(stride, padding, extra, dilation, groups):
    """<conv(y), x> = <y, conv_transpose(x)>, with PyTorch's result sizes."""
    w = RANDOM.normal(size=(4, 8 // groups, 3, 2))
    function = gn.jit(lambda x, w: gn.conv_transpose2d(x, w, None, stride, padding, extra, dilation, groups))
    found = function(IMAGE, w)
    s, p, e, d = both(stride), pairs(padding), both(extra), both(dilation)
    sizes = [(IMAGE.shape[2 + i] - 1) * s[i] - sum(p[i]) + d[i] * (w.shape[2 + i] - 1) + e[i] + 1 for i in (0, 1)]
    assert found.shape == (2, 8, *sizes)
    y = RANDOM.normal(size=found.shape)
    np.testing.assert_allclose((convolve(y, w, s, p, d, groups) * IMAGE).sum(), (y * found).sum(), rtol=1e-9)


def test_conv_transpose2d_adds_a_bias():
    """One a result channel."""
    w, bias = RANDOM.normal(size=(4, 3, 2, 2)), np.arange(3.0)
    plain = gn.jit(lambda x, w: gn.conv_transpose2d(x, w))(IMAGE, w)
    np.testing.assert_allclose(gn.jit(gn.conv_transpose2d)(IMAGE, w, bias), plain + bias[:, None, None])


POOLS = [
    (2, None, 0),
    (3, 2, 1),
    ((2, 3), (1, 2), (1, 0)),
    (2, 3, 0),
    (3, 1, ((0, 2), (1, 1))),
    (3, 2, "same"),
    (7, 1, "valid"),
]


def border_of(padding, kernel, stride):
    if padding == "same":
        totals = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip((7, 6), kernel, stride, strict=True)]
        return tuple((t // 2, t - t // 2) for t in totals)
    return pairs(padding)


@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS[:-1])
def test_max_pool2d_is_the_largest_of_each_window(kernel, stride, padding):
    """Padding never wins, also over negative pixels."""
    k, s = both(kernel), both(kernel if stride is None else stride)
    found = gn.jit(lambda x: gn.max_pool2d(x, kernel, stride, padding))(IMAGE - 5)
    expected = windows(IMAGE - 5, k, s, border_of(padding, k, s), fill=-np.inf).max((-1, -2))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS[:-1])
def test_avg_pool2d_is_the_mean_of_each_window(kernel, stride, padding, count):
    """Padding counts as zeros or not at all."""
    k, s = both(kernel), both(kernel if stride is None else stride)
    border = border_of(padding, k, s)
    found = gn.jit(lambda x: gn.avg_pool2d(x, kernel, stride, padding, count_include_pad=count))(IMAGE)
    seen = windows(IMAGE, k, s, border)
    inside = np.ones_like(seen) if count else windows(np.ones_like(IMAGE), k, s, border)
    np.testing.assert_allclose(found, seen.sum((-1, -2)) / inside.sum((-1, -2)), rtol=1e-12, atol=1e-13)


def test_pooling_of_sequences():
    """(N, C, L) pools along the length."""
    x = IMAGE[:, :, 0]
    np.testing.assert_array_equal(gn.jit(lambda x: gn.max_pool1d(x, 2))(x), x.reshape(2, 4, 3, 2).max(-1))
    np.testing.assert_allclose(gn.jit(lambda x: gn.avg_pool1d(x, 3))(x), x.reshape(2, 4, 2, 3).mean(-1))
    found = gn.jit(lambda x: gn.avg_pool1d(x, 3, 1, 1, count_include_pad=False))(x)
    np.testing.assert_allclose(found[:, :, 0], x[:, :, :2].mean(-1))


def test_global_pooling():
    """One number a channel, with axes of size 1 if asked."""
    np.testing.assert_allclose(gn.jit(gn.global_avg_pool2d)(IMAGE), IMAGE.mean((2, 3)))
    found = gn.jit(lambda x: gn.global_max_pool2d(x, keepdims=True))(IMAGE)
    np.testing.assert_array_equal(found, IMAGE.max((2, 3), keepdims=True))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x, w: gn.conv2d(x[0], w),
            r"conv2d: x must be \(batch, channels, height, width\), got \(4, 7, 6\)",
        ),
        (lambda x, w: gn.conv2d(x, w[0]), r"conv2d: w must be \(out, in/groups"),
        (lambda x, w: gn.conv2d(x[:, :3], w), "conv2d: .*3 input channels, but the kernel takes 4"),
        (lambda x, w: gn.conv2d(x[:, :, :2], w), "conv2d: .*larger than the padded image"),
        (lambda x, w: gn.conv2d(x, w, padding="full"), "conv2d: padding 'full' is neither"),
        (
            lambda x, w: gn.conv2d(x, w, stride=0),
            "conv2d: stride must be one or two integers of at least 1, got 0",
        ),
        (lambda x, w: gn.conv2d(x, w, groups=0), "conv2d: groups must be at least 1"),
        (lambda x, w: gn.conv2d(x, w, w[0, 0, 0]), r"conv2d: b must be \(5,\), one a channel, got \(3,\)"),
        (lambda x, w: gn.conv_transpose2d(x, w), "conv_transpose2d: x has 4 channels, w takes 5"),
        (
            lambda x, w: gn.conv_transpose2d(x, w[:4], output_padding=1),
            r"conv_transpose2d: output_padding \(1, 1\) must be smaller than stride \(1, 1\)",
        ),
        (
            lambda x, w: gn.max_pool2d(x, 2, padding=2),
            "max_pool2d: padding .* must be smaller than the kernel",
        ),
        (lambda x, w: gn.max_pool2d(x, 9), "max_pool2d: the window .* is larger than the padded image"),
        (lambda x, w: gn.avg_pool2d(x[0], 2), "avg_pool2d: x must be"),
        (lambda x, w: gn.max_pool1d(x, 2), r"max_pool1d: x must be \(batch, channels, length\)"),
    ],
)
def test_errors_say_what_is_expected(function, message):
    """Each starts with this file's line."""
    with pytest.raises(gn.ShapeError, match=rf"test_functions_nn.py:\d+: {message}"):
        gn.jit(function)(IMAGE, np.ones((5, 4, 3, 3)))
