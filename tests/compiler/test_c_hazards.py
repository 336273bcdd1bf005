"""Barriers of generated C: there where threads meet in memory, and only there."""

from __future__ import annotations

import pytest

from graphnet.compiler.ir import NOWHERE, Graph
from graphnet.compiler.schedule import Array, Loop, LoopTerm, MemoryReport, Plan, Storage
from graphnet.compiler.text.hazards import FAILED, Access, Choice, Piece, Repeat, access, place_barriers
from graphnet.compiler.text.memory import Memory

ROWS = ("windows", 64, 10, 0)


def piece(*accesses, parallel=True):
    return Piece(tuple(accesses), parallel)


def write(low=0, high=640, tag=ROWS, space=-1):
    return Access(space, low, high, tag, True)


def read(low=0, high=640, tag=ROWS, space=-1):
    return Access(space, low, high, tag, False)


def barriers(*items):
    place_barriers(items)
    return [p.barrier for p in items if isinstance(p, Piece)]


def test_a_reader_of_its_own_share_does_not_wait():
    assert barriers(piece(write()), piece(read())) == [False, False]


def test_a_reader_of_everything_waits_for_all_shares():
    assert barriers(piece(write()), piece(read(tag=None))) == [False, True]


def test_shares_cut_another_way_wait():
    assert barriers(piece(write()), piece(read(tag=("windows", 32, 20, 0)))) == [False, True]


def test_readers_do_not_wait_for_each_other():
    assert barriers(piece(read(tag=None)), piece(read(tag=None))) == [False, False]


def test_a_write_waits_for_readers_of_what_was_there_before():
    assert barriers(piece(read(tag=None)), piece(write())) == [False, True]


def test_memory_apart_does_not_matter():
    assert barriers(piece(write()), piece(read(640, 700, None), read(0, 640, None, space=3))) == [False, False]


def test_pieces_of_thread_0_follow_each_other_and_wait_for_the_others():
    serial = [piece(write(tag=None), parallel=False), piece(read(tag=None), parallel=False)]
    assert barriers(*serial) == [False, False]
    assert barriers(*serial, piece(read())) == [False, False, True]


def test_every_thread_sees_the_same_note_of_a_bad_index():
    """Threads that look meet after all that may note one, and before what may note the next, whoever runs both."""
    fails, polls = (Access(FAILED, 0, 1, None, write) for write in (False, True))
    for first in (True, False):
        for second in (True, False):
            a, c = piece(fails, parallel=first), piece(polls, parallel=second)
            assert barriers(a, c, piece(fails, parallel=first)) == [False, True, True]
            assert barriers(piece(fails, parallel=first), piece(fails, parallel=second)) == [False, False]
            assert barriers(piece(polls, parallel=first), piece(polls, parallel=second)) == [False, False]
    assert barriers(piece(fails, parallel=False), piece(write()), piece(read(tag=None)), piece(polls)) == [
        False,
        False,
        True,
        False,
    ]


def test_one_barrier_serves_all_that_came_before():
    first, second = write(0, 64, None), write(64, 128, None)
    assert barriers(piece(first), piece(second), piece(read(0, 64, None)), piece(read(64, 128, None))) == [
        False,
        False,
        True,
        False,
    ]


def test_a_loop_meets_its_own_last_iteration():
    """Within an iteration nothing meets; what the body reads of the round before was written by all threads."""
    reads, writes = piece(read(tag=None)), piece(write())
    place_barriers([Repeat([reads, writes])])
    assert (reads.barrier, writes.barrier) == (True, True)
    reads, writes = piece(read()), piece(write())
    place_barriers([Repeat([reads, writes])])
    assert (reads.barrier, writes.barrier) == (False, False)


def test_what_follows_a_choice_waits_for_either_side():
    then, orelse, after = piece(write(0, 64, None)), piece(write(64, 128, None)), piece(read(64, 128, None))
    place_barriers([Choice(piece(read(space=5)), ([then], [orelse])), after])
    assert after.barrier


def memory_of(*storages, loops=()):
    report = MemoryReport(1 << 20, 0, 0, {}, 0)
    steps = tuple(Loop(i, n, (), NOWHERE, 0, "forward") for i, n in loops)
    return Memory(Plan(Graph((), ()), steps, storages, {}, {}, report))


def temporary(number=0, nbytes=1 << 16, offset=0):
    return Storage(number, nbytes, "temp", "t", NOWHERE, 0, 1, offset=offset)


def test_rows_and_columns_of_rows_lie_in_the_same_windows():
    """(128, 1024) by rows, and its columns 256 to 511: row u is thread u's in both."""
    memory = memory_of(temporary(nbytes=128 * 4096))
    whole = access(memory, Array(0, "float32", (128, 1024), (1024, 1)), True, 0, 128)
    part = access(memory, Array(0, "float32", (128, 256), (1024, 1), 256), False, 0, 128)
    assert whole.tag == part.tag is not None
    assert (part.low, part.high) == (1024, 127 * 4096 + 2048)


def test_slots_of_a_stack_lie_in_the_same_windows():
    """(100, 128, 256): iteration k's rows, wherever the slot is."""
    memory = memory_of(temporary(nbytes=100 * 128 * 1024), loops=[(0, 99)])
    here = Array(0, "float32", (128, 256), (256, 1), 0, (LoopTerm(0, 128 * 256, 0, 100),))
    after = Array(0, "float32", (128, 256), (256, 1), 0, (LoopTerm(0, 128 * 256, 1, 100),))
    first, second = access(memory, here, False, 0, 128), access(memory, after, True, 0, 128)
    assert first.tag == second.tag is not None
    assert (first.low, first.high) == (0, 99 * 128 * 1024)


@pytest.mark.parametrize(("slots", "wide"), [(511, False), (512, True)])
def test_a_slot_more_than_two_gigabytes_into_a_stack_has_an_address_of_64_bits(slots, wide):
    memory = memory_of(temporary(nbytes=slots << 22), loops=[(0, slots)])
    slot = Array(0, "float32", (1 << 20,), (1,), 0, (LoopTerm(0, 1 << 20, 0, slots),))
    assert memory.address(slot) == f"A + 0x0 + {'(int64_t)' if wide else ''}k0 * 4194304"


def test_a_row_that_moves_within_its_window_keeps_to_it():
    """(128, 100, 256) read at [:, k]: row u's bytes stay in window u for every k."""
    memory = memory_of(temporary(nbytes=100 * 128 * 1024), loops=[(0, 100)])
    inside = Array(0, "float32", (128, 256), (25600, 1), 0, (LoopTerm(0, 256, 0, 100),))
    assert access(memory, inside, False, 0, 128).tag == ("windows", 102400, 128, 0)
    outside = Array(0, "float32", (128, 256), (25600, 1), 128, (LoopTerm(0, 256, 0, 100),))
    assert access(memory, outside, False, 0, 128).tag is None


def test_transposed_and_reversed_operands_keep_to_no_windows():
    memory = memory_of(temporary())
    assert access(memory, Array(0, "float32", (10, 20), (1, 10)), False, 0, 10).tag is None
    assert access(memory, Array(0, "float32", (10,), (-1,), 9), False, 0, 10).tag is None


def test_addresses_decide_where_storages_share_memory():
    """A dead value's bytes are another's: equal rows at an offset that is no multiple of a row do not fit."""
    memory = memory_of(temporary(0), temporary(1, offset=64 * 3))
    first = access(memory, Array(0, "float32", (10, 64), (64, 1)), True, 0, 10)
    second = access(memory, Array(1, "float32", (10, 64), (64, 1)), False, 0, 10)
    assert first.meets(second)
    assert first.tag != second.tag
