"""Writing over operands: which views of one storage are apart, whatever loops do to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnet.compiler.program import overlaps
from graphnet.compiler.schedule import Array, LoopTerm

F = "float32"


def slots(shift, modulo, stride=12, loop=0):
    """A (3, 4) matrix that is at slot (k + shift) % modulo in iteration k."""
    return Array(0, F, (3, 4), (4, 1), 0, (LoopTerm(loop, stride, shift, modulo),))


def columns(first, count):
    """So many columns of a (3, 6) matrix."""
    return Array(0, F, (3, count), (6, 1), first)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (slots(0, 2), slots(1, 2), False),  # a double buffer
        (slots(0, 101), slots(1, 101), False),
        (slots(3, 4, -12), slots(0, 4, -12), False),
        (slots(0, 2), slots(2, 2), True),
        (slots(0, 1), slots(1, 1), True),  # one slot
        (slots(0, 2, 11), slots(1, 2, 11), True),  # slots smaller than the matrix
        (slots(0, 2), slots(1, 3), True),  # they meet in some iteration
        (slots(0, 2), slots(1, 2, loop=1), True),
        (slots(0, 2), replace(slots(0, 2), terms=()), True),
        (slots(0, 2), replace(slots(1, 2), offset=1), True),
        (slots(0, 2), replace(slots(1, 2), storage=1), False),
        (slots(0, 1), replace(slots(0, 1), offset=12), False),
        (slots(0, 2), replace(slots(1, 2), dtype="float64"), True),
        (columns(0, 3), columns(3, 2), False),  # side by side in one matrix
        (columns(0, 3), columns(2, 2), True),
        (columns(0, 3), columns(3, 5), True),  # the last columns are the next row's first
        (columns(1, 2), columns(13, 1), True),  # another row's column
        (columns(0, 3), replace(columns(3, 2), strides=(8, 1)), True),
        (columns(0, 3), replace(columns(3, 2), terms=(LoopTerm(0, 1, 0, 9),)), True),
        (columns(0, 3), replace(columns(3, 2), dtype="float64"), True),
    ],
    ids=str,
)
def test_arrays_are_apart_only_if_they_are_in_every_iteration(first, second, expected):
    assert overlaps(first, second) is expected
    assert overlaps(second, first) is expected


terms = st.lists(
    st.builds(LoopTerm, st.integers(0, 1), st.integers(-4, 4), st.integers(0, 3), st.integers(1, 3)), max_size=2
)
arrays = st.builds(
    lambda shape, strides, offset, dtype, moved: Array(0, dtype, shape, strides, offset, tuple(moved)),
    st.tuples(st.integers(0, 3), st.integers(1, 3)),
    st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    st.integers(0, 12),
    st.sampled_from((F, "float64")),
    terms,
)


def touched(array, iterations):
    """The bytes of an array in an iteration of both loops."""
    start = array.offset + sum(t.at(iterations[t.loop]) for t in array.terms)
    at = start + np.add.outer(*(np.arange(n) * s for n, s in zip(array.shape, array.strides, strict=True)))
    return set((at.ravel()[:, None] * array.itemsize + np.arange(array.itemsize)).ravel().tolist())


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 5), st.integers(1, 5), st.integers(1, 7), st.integers(1, 4))
def test_columns_that_are_said_to_be_apart_share_no_byte(first, second, wide, other, pitch, times):
    a = Array(0, F, (3, wide), (pitch, 1), first)
    c = Array(0, F, (4, other), (pitch * times, 1), second)
    if not overlaps(a, c):
        assert not touched(a, ()) & touched(c, ())


@given(arrays, arrays, st.booleans())
def test_arrays_that_are_said_to_be_apart_share_no_byte(first, second, alike):
    if alike:
        second = replace(second, terms=tuple(replace(t, shift=t.shift + 1) for t in first.terms))
    if not overlaps(first, second):
        iterations = [(i, j) for i in range(6) for j in range(6)]
        assert not any(touched(first, k) & touched(second, k) for k in iterations)
