"""Views as arithmetic: against NumPy's own views on the same memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnet.compiler import build as b
from graphnet.compiler.ir import Type, leaf
from graphnet.compiler.schedule import Array, LoopTerm, slot
from graphnet.compiler.strides import contiguous_strides, matrix_ready, reshaped, view


def array(shape, strides=None, offset=0):
    return Array(0, "float64", tuple(shape), tuple(strides or contiguous_strides(shape)), offset)


def seen(a, memory):
    """What an array shows of flat memory."""
    strides = [s * 8 for s in a.strides]
    return np.ndarray(a.shape, "float64", memory, a.offset * 8, strides) if a.size else np.empty(a.shape)


MEMORY = np.arange(400.0)


def test_contiguous_strides_are_those_of_c_order():
    assert contiguous_strides((2, 3, 4)) == (12, 4, 1)
    assert contiguous_strides(()) == ()
    assert array((2, 3)).contiguous
    assert array((1, 3), (99, 1)).contiguous
    assert not array((2, 3), (1, 2)).contiguous
    assert array((0, 3), (1, 2)).contiguous


@st.composite
def strided(draw):
    """An array that a few transposes, slices and broadcasts made, and the node that a reshape of it would be."""
    a = array(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        x = leaf("x", "input", Type(a.shape, "float64"))
        kind = draw(st.sampled_from(["transpose", "slice", "broadcast", "back"]))
        if kind == "transpose":
            node = b.transpose(x, draw(st.permutations(range(len(a.shape)))))
        elif kind == "broadcast":
            node = b.broadcast_to(x, (2, *a.shape))
        elif kind == "back":
            node = b.slice_(x, [n - 1 for n in a.shape], a.shape, [-1] * len(a.shape))
        else:
            node = b.slice_(x, [0] * len(a.shape), [(n + 1) // 2 for n in a.shape], [2] * len(a.shape))
        a = a if node is x else view(node, a)
    return a


@given(strided(), st.data())
def test_a_reshape_is_a_view_exactly_where_numpy_has_one(a, data):
    size, shape = a.size, []
    while size > 1 or not shape:
        n = data.draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
        shape, size = [*shape, n], size // n
        if len(shape) == 4 or (n == 1 and size == 1):
            shape, size = [*shape, size], 1
    given_view = seen(a, MEMORY)
    found = reshaped(a, tuple(shape))
    expected = given_view.reshape(shape)
    if found is None:
        assert not np.shares_memory(expected, MEMORY), f"{a} has a view of shape {shape}"
    else:
        np.testing.assert_array_equal(seen(found, MEMORY), expected)


@given(strided())
def test_slices_and_transposes_of_views_show_what_numpy_shows(a):
    x = leaf("x", "input", Type(a.shape, "float64"))
    shown = seen(a, MEMORY)
    turned = b.transpose(x, range(len(a.shape))[::-1])
    np.testing.assert_array_equal(seen(a if turned is x else view(turned, a), MEMORY), shown.T)
    last = b.slice_(x, [n - 1 for n in a.shape], [1] * len(a.shape), [1] * len(a.shape))
    np.testing.assert_array_equal(
        seen(a if last is x else view(last, a), MEMORY), shown[tuple(slice(-1, None) for _ in a.shape)]
    )


def test_an_empty_array_reshapes_to_any_empty_shape():
    assert reshaped(array((0, 3), (1, 7)), (3, 0)).shape == (3, 0)


def test_a_broadcast_repeats_by_a_stride_of_zero():
    x = leaf("x", "input", Type((3, 1), "float64"))
    found = view(b.broadcast_to(x, (2, 3, 4)), array((3, 1)))
    assert found.strides == (0, 1, 0)


@pytest.mark.parametrize(
    ("shape", "strides", "ready"),
    [
        ((3, 4), (4, 1), True),
        ((3, 4), (1, 3), True),
        ((3, 4), (8, 1), True),
        ((3, 4), (8, 2), False),
        ((3, 4), (-4, 1), False),
        ((3, 4), (0, 1), False),
        ((3, 1), (2, 5), True),
        ((1, 4), (5, 2), True),
        ((3, 1), (0, 5), False),
        ((1, 1), (5, 7), True),
        ((2, 3, 4), (0, 4, 1), True),
    ],
)
def test_matrices_that_a_blas_reads_as_they_lie(shape, strides, ready):
    """Rows or columns next to each other, and far enough apart."""
    assert matrix_ready(array(shape, strides)) is ready


def test_a_loop_term_turns_round_within_its_modulo():
    term = LoopTerm(0, 10, 1, 2)
    assert [term.at(k) for k in range(4)] == [10, 0, 10, 0]
    assert [LoopTerm(0, -3, 0, 5).at(k) for k in range(3)] == [0, -3, -6]


def test_a_slot_is_entry_k_or_the_mirrored_one_in_a_reversed_loop():
    rows = array((3, 2), offset=4)
    for reverse in (False, True):
        entry = slot(rows, 7, 3, reverse)
        starts = [entry.offset + entry.terms[0].at(k) for k in range(3)]
        assert starts == ([8, 6, 4] if reverse else [4, 6, 8])
        assert (entry.shape, entry.strides) == ((2,), (1,))
