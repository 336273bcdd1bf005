"""Minibatches and sequences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphnet.compiler.errors import DataError
from graphnet.data import minibatches, sequences
from graphnet.data.batching import permutation

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10)


def test_batches_in_order_are_views() -> None:
    """In order, every batch shares memory with the arrays, and the short last one is there."""
    batches = minibatches(X, Y, batch_size=4)
    assert len(batches) == len(list(batches)) == 3
    assert [y.tolist() for _, y in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(np.shares_memory(x, X) and np.shares_memory(y, Y) for x, y in batches)


def test_drop_last_leaves_the_short_batch_out() -> None:
    """With drop_last every batch is full, and len counts only those."""
    batches = minibatches(X, Y, batch_size=4, drop_last=True)
    assert len(batches) == len(list(batches)) == 2
    assert {len(y) for _, y in batches} == {4}
    assert len(minibatches(X, batch_size=5, drop_last=True)) == len(minibatches(X, batch_size=5)) == 2


def test_single_array_comes_as_a_tuple_of_one() -> None:
    """Each batch holds as many arrays as were given, one too."""
    assert [type(batch) for batch in minibatches(Y, batch_size=10)] == [tuple]
    ((y,),) = minibatches(Y, batch_size=10)
    assert y.tolist() == Y.tolist()


def test_lists_are_taken_as_arrays() -> None:
    """Nested lists do as arrays do."""
    assert [(a.tolist(), b.tolist()) for a, b in minibatches([1, 2], [[3], [4]], batch_size=2)] == [
        ([1, 2], [[3], [4]])
    ]


def test_shuffle_keeps_rows_together_and_loses_none() -> None:
    """Shuffled batches pair the same rows as before, each exactly once."""
    batches = list(minibatches(X, Y, batch_size=4, shuffle=True))
    ids = np.concatenate([y for _, y in batches])
    assert ids.tolist() != Y.tolist()
    assert sorted(ids) == Y.tolist()
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X[ids])


def test_shuffle_depends_on_seed_and_epoch_alone() -> None:
    """The same seed and epoch give the same order, in every iteration; another of either gives another."""

    def order(**options: int) -> list[int]:
        batches = minibatches(np.arange(50), batch_size=7, shuffle=True, **options)
        first = [int(i) for (ids,) in batches for i in ids]
        assert first == [int(i) for (ids,) in batches for i in ids]
        return first

    assert order(seed=1, epoch=2) == order(seed=1, epoch=2)
    orders = [
        order(),
        order(epoch=1),
        order(seed=1),
        order(seed=1, epoch=1),
        order(seed=-1),
        order(seed=2**70),
    ]
    assert len({tuple(o) for o in orders[:5]}) == 5


def test_permutation_is_pinned() -> None:
    """The order is part of what a seed promises: it does not change with a NumPy release."""
    assert permutation(8, seed=3, epoch=1).tolist() == [7, 3, 5, 6, 4, 0, 2, 1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: minibatches(X, Y[:9], batch_size=4), "lengths differ (10, 9)"),
        (lambda: minibatches(batch_size=4), "no arrays"),
        (lambda: minibatches(np.float32(1), batch_size=4), "a scalar has no rows"),
        (lambda: minibatches(X[:0], batch_size=4), "have no rows"),
        (lambda: minibatches([[1], [2, 3]], batch_size=1), "not an array"),
        (lambda: minibatches(X, batch_size=0), "batch_size is 0: pass an integer of 1 or more"),
        (lambda: minibatches(X, batch_size=2.0), "batch_size is 2.0"),  # type: ignore[arg-type]
        (lambda: minibatches(X, batch_size=True), "batch_size is True"),
        (lambda: minibatches(X, batch_size=2, seed="a"), "seed is 'a': pass an integer"),  # type: ignore[arg-type]
        (lambda: minibatches(X, batch_size=11, drop_last=True), "10 rows make no full batch of 11"),
        (lambda: sequences(Y, 2, 5), "10 ids are too few for one batch of 2 x 5, which needs 11"),
        (lambda: sequences(X, 2, 2), "pass a 1-D array of integers"),
        (lambda: sequences(X[:, 0], 2, 2), "ids are float32(10,)"),
        (lambda: sequences(Y, 0, 2), "batch_size is 0"),
        (lambda: sequences(Y, 2, -1), "steps is -1"),
        (lambda: sequences(Y + 2**31, 2, 2), "do not fit in int32"),
    ],
)
def test_misuse_is_one_line(call: Callable[[], object], words: str) -> None:
    """A wrong call fails at the call, not at the first batch, with one line that says what is wrong."""
    with pytest.raises(DataError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sequences_shift_by_one_and_carry_on() -> None:
    """Row b of a batch continues row b of the one before it, and y is x one place ahead."""
    ids = np.arange(27)
    batches = list(sequences(ids, batch_size=2, steps=4))
    assert len(batches) == len(sequences(ids, 2, 4)) == 3
    x = np.concatenate([x for x, _ in batches], axis=1)
    y = np.concatenate([y for _, y in batches], axis=1)
    assert x.tolist() == [list(range(12)), list(range(12, 24))]
    np.testing.assert_array_equal(y, x + 1)
    for x, y in batches:
        assert x.shape == y.shape == (2, 4)
        assert x.dtype == y.dtype == np.int32
        assert x.flags.c_contiguous
        assert y.flags.c_contiguous


@pytest.mark.parametrize(("count", "batches"), [(9, 1), (16, 1), (17, 2), (24, 2), (25, 3)])
def test_sequences_count_is_a_floor(count: int, batches: int) -> None:
    """There are floor((N - 1) / (batch_size * steps)) batches: the last id is only ever a target."""
    assert len(list(sequences(np.arange(count), 2, 4))) == len(sequences(np.arange(count), 2, 4)) == batches


def test_sequences_of_the_complete_works() -> None:
    """The recipe's 5,589,887 characters in batches of 128 x 100 make 436 steps an epoch."""
    assert len(sequences(np.zeros(5_589_887, dtype=np.int32), 128, 100)) == 436
