"""Gather, scatter, place, concatenate, sort: against NumPy, with bad indices named."""

from __future__ import annotations

import numpy as np
import pytest

INTEGERS = ["int32", "int64", "uint8"]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("shapes", [((5, 3), (4,)), ((5,), (2, 3)), ((5, 2, 3), ()), ((5, 3), (0,)), ((5, 0), (2,))])
def test_take_gathers_rows(k, rng, shapes, dtype):
    """Any integer type, any layout; negative indices count from the end."""
    x = rng.random(shapes[0], "float32")
    idx = rng.integers(0 if dtype == "uint8" else -5, 5, shapes[1]).astype(dtype)
    expected = x[idx]
    out = np.empty(expected.shape, "float32")
    np.testing.assert_array_equal(k.execute("take", out, x, idx), expected)
    np.testing.assert_array_equal(k.execute("take", out, k.strided(x), k.strided(idx)), expected)
    np.testing.assert_array_equal(k.execute("take", k.strided(out), x, idx), expected)


def test_take_into_a_strided_result_goes_in_blocks(k, rng):
    """More rows than fit the block buffer."""
    x, idx = rng.random((7, 300), "float32"), rng.integers(0, 7, (40, 20))
    out = k.strided(np.empty((40, 20, 300), "float32"))
    np.testing.assert_array_equal(k.execute("take", out, x, idx), x[idx])


@pytest.mark.parametrize(("bad", "named"), [(5, "5"), (-6, "-6"), (900, "900")])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_bad_index_is_named(k, bad, named, dtype):
    """Nothing is written out of bounds: the run raises, and says which value."""
    idx = np.array([0, bad, 1], dtype)
    for op, out, x in (("take", np.zeros(3), np.zeros(5)), ("scatter_add", np.zeros(5), np.zeros(3))):
        with pytest.raises(ValueError, match=rf"index {named} is out of range for 5 rows"):
            k.execute(op, out, x, idx)


@pytest.mark.parametrize("tail", [(), (3,), (2, 3), (64,), (8, 9)])
@pytest.mark.parametrize("ids", [(), (0,), (40,), (5, 8), (2, 3, 4)])
def test_scatter_add_is_the_adjoint_of_take(k, rng, ids, tail):
    """Short rows, long rows, repeated and negative indices, any layout."""
    idx = rng.integers(-6, 6, ids).astype("int32")
    g = rng.integers(-4, 5, (*ids, *tail)).astype("float32")
    expected = np.zeros((6, *tail), "float32")
    np.add.at(expected, idx, g)
    for view in (np.copy, k.strided):
        got = k.execute("scatter_add", view(expected), view(g), view(idx), rows=6)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("shape", [(30_000, 64), (300, 40, 8), (9000, 4, 16)])
def test_scatter_add_of_many_ids_into_few_rows(k, rng, shape, dtype):
    """The one-hot product, over several blocks, gives the same sums: of integers, so exactly."""
    ids, width = shape[: len(shape) - (2 if shape[-1] == 16 else 1)], 64 if shape[-1] == 16 else shape[-1]
    idx = rng.integers(-30, 30, ids).astype("int32")
    g = rng.integers(-4, 5, shape).astype(dtype)
    expected = np.zeros((30, width), dtype)
    np.add.at(expected, idx.reshape(-1), g.reshape(-1, width))
    expected = expected.reshape(30, *shape[len(ids) :])
    for view in (np.copy, k.strided):
        got = k.execute("scatter_add", view(expected), view(g), idx, rows=30)
        np.testing.assert_array_equal(got, expected)


def test_scatter_add_keeps_nan_and_infinity_in_their_rows(k):
    """A gradient that is not finite reaches its own row only."""
    g, idx = np.ones((400, 64), "float32"), np.arange(400, dtype="int32") % 20
    g[3], g[4, 5] = np.nan, np.inf
    got = k.execute("scatter_add", np.empty((20, 64), "float32"), g, idx, rows=20)
    expected = np.full((20, 64), 20, "float32")
    expected[3], expected[4, 5] = np.nan, np.inf
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("n", "starts", "steps", "size"),
    [
        ((6,), (1,), (2,), (3,)),
        ((6,), (5,), (-1,), (6,)),
        ((6,), (4,), (-2,), (2,)),
        ((6,), (0,), (1,), (6,)),
        ((6,), (3,), (1,), (0,)),
        ((5,), (4,), (-2,), (3,)),
        ((5, 6), (4, 0), (-3, 5), (2, 2)),
        ((), (), (), ()),
    ],
)
def test_place_is_the_adjoint_of_a_slice(k, rng, n, starts, steps, size):
    """x lands where the slice would read, zero elsewhere; steps may be negative."""
    x = rng.random(size)
    got = k.execute("place", np.empty(n), x, shape=n, starts=starts, steps=steps)
    where = np.ix_(*(start + step * np.arange(m) for start, step, m in zip(starts, steps, size, strict=True)))
    expected = np.zeros(n)
    expected[where] = x
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_concat_along_any_axis(k, rng, axis):
    """Empty parts and parts that already lie in the result included."""
    parts = [rng.random(s) for s in (((2, 3), (0, 3), (1, 3)) if axis == 0 else ((2, 3), (2, 0), (2, 4)))]
    expected = np.concatenate(parts, axis)
    for out in (np.empty_like(expected), k.strided(expected)):
        np.testing.assert_array_equal(k.execute("concat", out, *map(k.strided, parts), axis=axis), expected)
    whole = expected.copy()
    lying = np.split(whole, np.cumsum([p.shape[axis] for p in parts])[:-1], axis)
    np.testing.assert_array_equal(k.execute("concat", whole, *lying, axis=axis), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
@pytest.mark.parametrize("descending", [False, True])
def test_argsort_is_stable_both_ways(k, rng, dtype, descending):
    """Equal values keep their order even where the largest come first."""
    x = rng.integers(0, 4, (3, 20)).astype(dtype)
    for axis in (0, 1):
        got = k.execute("argsort", np.empty(x.shape, "int32"), k.strided(x), axis=axis, descending=descending)
        signed = -x.astype("int64") if descending else x
        np.testing.assert_array_equal(got, np.argsort(signed, axis, kind="stable"))


@pytest.mark.parametrize(("descending", "order"), [(False, [2, 0, 1, 3]), (True, [0, 2, 1, 3])])
def test_argsort_puts_nan_last(k, descending, order):
    """In both directions, in order of appearance."""
    x = np.array([5, np.nan, 1, np.nan], "float32")
    got = k.execute("argsort", np.empty(4, "int64"), x, axis=0, descending=descending)
    np.testing.assert_array_equal(got, order)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_iota_and_fill(k, dtype):
    """The index along an axis; a constant."""
    for axis in (0, 1):
        out = k.strided(np.empty((3, 4), dtype))
        got = k.execute("iota", out, axis=axis, shape=(3, 4), dtype=dtype)
        np.testing.assert_array_equal(got, np.indices((3, 4))[axis])
    np.testing.assert_array_equal(k.execute("fill", np.empty((2, 3), dtype), value=7), 7)


def test_copy_materialises(k, rng):
    """A broadcast or reversed view becomes memory of its own."""
    x = np.broadcast_to(rng.random((1, 4)), (3, 4))[:, ::-1]
    np.testing.assert_array_equal(k.execute("copy", np.empty((3, 4)), x), x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
def test_columns_of_one_buffer_are_copied_without_a_detour(k, rng, dtype):
    """Interleaved views are no overlap: no copy of the source is made on the way."""
    buffer = rng.integers(0, 2, (300, 400)).astype(dtype)
    left, right = buffer[:, :200], buffer[:, 200:]
    expected = right.copy()
    calls = k.bind("copy", left, right)
    assert k.peak(calls) < 8192
    np.testing.assert_array_equal(left, expected)
    np.testing.assert_array_equal(right, expected)


def test_embedding_of_many_ids_allocates_nothing(k, rng):
    """Neither the gather of 12,800 rows, nor its adjoint, nor the adjoint for scalars in a long vector."""
    idx = rng.integers(0, 92, 12_800).astype("int32")
    table, rows = np.ones((92, 256), "f4"), np.ones((12_800, 256), "f4")
    assert k.peak(k.bind("take", rows, table, idx)) < 8192
    for attrs in ({}, {"rows": 92}):
        assert k.peak(k.bind("scatter_add", table, rows, idx, **attrs)) < 8192
    long = np.empty(1_200_000, "f4")
    assert k.peak(k.bind("scatter_add", long, rows[:, 0], idx)) < 8192
    assert k.peak(k.bind("take", rows[:, 0], long, idx)) < 8192
