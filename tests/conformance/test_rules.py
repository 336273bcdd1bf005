"""The shape and dtype rules refuse what does not fit, in words a user can act on."""

from __future__ import annotations

import pytest

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError, ShapeError
from graphnet.compiler.ir import Type, Where, leaf
from graphnet.compiler.ops import REGISTRY

F, D, N, B = "float32", "float64", "int32", "bool"
POOL = {"kernel": (3, 3), "stride": (1, 1), "padding": ((0, 0), (0, 0))}
CONV = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}


def types(*parts):
    return [Type(shape, dtype) for shape, dtype in parts]


SHAPES = [
    ("add", types(((3,), F), ((4,), F)), {}, "shapes do not broadcast: sizes 3 and 4 of axis -1 differ"),
    ("where", types(((2, 1), B), ((3, 1), F), ((), F)), {}, "sizes 2 and 3 of axis -2 differ"),
    ("reshape", types(((2, 3), F)), {"shape": (4,)}, "6 elements, not 4"),
    ("transpose", types(((2, 3), F)), {"perm": (0, 0)}, "not a permutation of 2 axes"),
    ("broadcast_to", types(((2,), F)), {"shape": (3,)}, r"does not broadcast to \(3,\)"),
    ("broadcast_to", types(((1, 2), F)), {"shape": (2,)}, "does not broadcast"),
    (
        "slice",
        types(((3,), F)),
        {"starts": (1,), "sizes": (3,), "steps": (1,)},
        "from 1 to 3 is outside axis 0 of size 3",
    ),
    ("slice", types(((3,), F)), {"starts": (1,), "sizes": (3,), "steps": (-1,)}, "from 1 to -1 is outside"),
    ("place", types(((2,), F)), {"shape": (3,), "starts": (2,), "steps": (1,)}, "outside axis 0 of size 3"),
    ("concat", types(((2, 3), F), ((2, 4), F)), {"axis": 0}, "sizes other than those of axis 0 differ"),
    ("sum", types(((2,), F)), {"axes": (1,), "keepdims": False}, "of a value with 1 axes"),
    ("sum", types(((2, 2), F)), {"axes": (1, 0), "keepdims": False}, "axes"),
    ("max", types(((0, 2), F)), {"axes": (0,), "keepdims": False}, "has no elements"),
    ("argmin", types(((2, 0), F)), {"axis": 1}, "has no elements"),
    ("matmul", types(((2, 3), F), ((4, 2), F)), {}, r"inner sizes differ \(3, 4\)"),
    ("matmul", types(((3,), F), ((3, 2), F)), {}, "two axes or more"),
    ("matmul", types(((2, 2, 3), F), ((3, 3, 2), F)), {}, "sizes 2 and 3"),
    ("conv2d", types(((1, 2, 4, 4), F), ((1, 3, 2, 2), F)), CONV, "2 input channels, but the kernel takes 3"),
    ("conv2d", types(((1, 1, 2, 2), F), ((1, 1, 3, 3), F)), CONV, "larger than the padded image"),
    ("take", types(((), F), ((2,), N)), {}, "cannot index a scalar"),
    ("take", types(((0, 2), F), ((2,), N)), {}, "has no rows"),
    ("scatter_add", types(((3, 2), F), ((2,), N)), {"rows": 2}, "must be those of the indices"),
    ("max_pool_index", types(((1, 1, 2, 2), F)), POOL, "larger than the padded image"),
    ("window_sum", types(((1, 4, 4), F)), POOL, "batch, channels, height, width"),
    ("window_spread", types(((1, 1, 3, 3), F)), POOL | {"shape": (1, 1, 4, 4)}, "is not what the window makes of"),
]
DTYPES = [
    ("add", types(((2,), F), ((2,), D)), {}, "dtypes differ: float32, float64"),
    ("exp", types(((2,), N)), {}, r"needs a float, got int32: cast with .astype\('float32'\)"),
    ("neg", types(((2,), B)), {}, "not defined for bool"),
    ("logical_and", types(((2,), F), ((2,), B)), {}, "needs bool, got float32, bool: compare first"),
    ("where", types(((2,), F), ((2,), F), ((2,), F)), {}, "needs a bool condition"),
    ("sum", types(((2,), B)), {"axes": (0,), "keepdims": False}, "not defined for bool"),
    ("matmul", types(((2, 2), N), ((2, 2), N)), {}, "needs floats of one dtype, got int32, int32"),
    ("conv2d", types(((1, 1, 2, 2), F), ((1, 1, 2, 2), D)), CONV, "needs floats of one dtype"),
    ("concat", types(((2,), F), ((2,), D)), {"axis": 0}, "dtypes differ"),
    ("take", types(((2,), F), ((2,), F)), {}, "indices are float32, need integers"),
    ("scatter_add", types(((2,), F), ((2,), B)), {"rows": 2}, "indices are bool"),
    ("random_uniform", types(((), N), ((), N)), {"stream": 1, "shape": (2,), "dtype": F}, "uint64 scalars"),
]


@pytest.mark.parametrize(("name", "given", "attrs", "message"), SHAPES)
def test_shapes_that_do_not_fit_are_refused(name, given, attrs, message):
    with pytest.raises(ShapeError, match=message):
        REGISTRY[name].infer(given, attrs)


@pytest.mark.parametrize(("name", "given", "attrs", "message"), DTYPES)
def test_dtypes_that_do_not_fit_are_refused(name, given, attrs, message):
    with pytest.raises(DTypeError, match=message):
        REGISTRY[name].infer(given, attrs)


def test_apply_puts_the_line_the_op_and_the_shapes_in_front():
    x, y = leaf("x", "input", Type((2, 3), F)), leaf("y", "input", Type((4, 2), F))
    with b.at(Where("net.py", 7)), pytest.raises(ShapeError) as caught:
        b.apply("matmul", x, y)
    assert str(caught.value) == "net.py:7: matmul: (2, 3) x (4, 2): inner sizes differ (3, 4)"
