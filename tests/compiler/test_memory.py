"""The memory plan: offsets from lifetimes, the bound no plan can beat, memory taken over where an operand dies."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from graphnet.compiler import build as b
from graphnet.compiler.compile import compile_graph
from graphnet.compiler.ir import NOWHERE, Graph, Type, leaf
from graphnet.compiler.memory import ALIGN, aligned, live_bytes, plan_memory
from graphnet.compiler.ops.control import scan
from graphnet.compiler.passes import PIPELINE, Context
from graphnet.compiler.schedule import END, Storage, flat

D = "float64"
BARE = frozenset(p.name for p in PIPELINE if p.optional)


def temp(index, first, last, nbytes):
    return Storage(index, nbytes, "temp", f"t{index}", NOWHERE, first, last)


def apart(storages):
    """No two temporaries that live at one time share a byte."""
    return all(
        s.last < t.first or t.last < s.first or s.offset + s.nbytes <= t.offset or t.offset + t.nbytes <= s.offset
        for s, t in itertools.combinations([s for s in storages if s.kind == "temp" and s.nbytes], 2)
    )


def test_bytes_are_rounded_up_to_whole_cache_lines():
    assert [aligned(n) for n in (0, 1, ALIGN, ALIGN + 1)] == [0, ALIGN, ALIGN, 2 * ALIGN]


def test_a_dead_value_gives_its_bytes_to_the_next():
    storages = [temp(0, 0, 1, 64), temp(1, 1, 2, 64), temp(2, 2, 3, 64)]
    report = plan_memory(storages)
    assert [s.offset for s in storages] == [0, 64, 0]
    assert (report.arena, report.lower_bound, report.total_temporaries) == (128, 128, 192)


def test_values_alive_at_the_same_position_never_meet_not_even_where_one_ends_and_one_begins():
    storages = [temp(0, 0, 1, 10), temp(1, 1, 1, 10)]
    plan_memory(storages)
    assert storages[0].offset != storages[1].offset


def test_without_reuse_every_temporary_has_memory_of_its_own():
    storages = [temp(i, i, i, 100) for i in range(3)]
    report = plan_memory(storages, reuse=False)
    assert [s.offset for s in storages] == [0, 128, 256]
    assert report.arena == report.total_temporaries == 384


def test_homes_and_values_never_used_get_no_arena():
    home = Storage(0, 40, "param", "w", NOWHERE, 0, 5)
    unused = Storage(1, 40, "temp", "t", NOWHERE)
    report = plan_memory([home, unused])
    assert (home.offset, unused.offset, report.arena) == (-1, -1, 0)
    assert report.homes == {"param": 40}


def test_the_bound_is_the_largest_live_set_and_says_where_it_is():
    storages = [temp(0, 0, 2, 64), temp(1, 2, END, 128), temp(2, 3, 3, 64)]
    assert live_bytes(storages) == (192, 2)


def test_the_second_placement_order_wins_where_it_needs_less():
    """Largest first wastes the gap that birth order fills: the plan takes the smaller arena."""
    storages = [temp(0, 0, 1, 64), temp(1, 0, 3, 64), temp(2, 2, 3, 128), temp(3, 4, 5, 192)]
    report = plan_memory(storages)
    assert report.arena == report.lower_bound == 192
    assert apart(storages)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 300)), max_size=12))
def test_random_lifetimes_are_kept_apart_between_the_bound_and_the_total(drawn):
    storages = [temp(i, first, first + length, nbytes) for i, (first, length, nbytes) in enumerate(drawn)]
    report = plan_memory(storages)
    assert report.lower_bound <= report.arena <= report.total_temporaries
    assert all(s.offset % ALIGN == 0 and s.offset + s.nbytes <= report.arena for s in storages)
    assert apart(storages)


# -- plans of graphs ----------------------------------------------------------------------------------------


def plan_of(outputs, disabled=frozenset(), **options):
    leaves = tuple(n for n in Graph((), outputs).leaves())
    return compile_graph(Graph(leaves, outputs), Context(disabled=disabled), **options)


def chain(length):
    x = leaf("x", "input", Type((100,), D))
    for _ in range(length):
        x = b.unary("sin", b.unary("cos", x))
    return (("y", x),)


def test_a_chain_of_elementwise_steps_runs_in_one_buffer():
    plan = plan_of(chain(5), BARE)
    assert len(plan.steps) == 10
    assert plan.memory.arena == aligned(800)


def test_fused_it_needs_its_result_only_and_scratch_that_does_not_grow():
    assert plan_of(chain(5)).memory.arena == plan_of(chain(50)).memory.arena <= 3 * aligned(800)


def test_an_operand_read_again_later_is_not_taken_over():
    x = leaf("x", "input", Type((100,), D))
    kept = b.unary("sin", x)
    plan = plan_of((("y", b.add(b.unary("cos", kept), kept)),), BARE)
    assert plan.memory.arena == 2 * aligned(800)


def test_inputs_are_never_written_over():
    x = leaf("x", "input", Type((100,), D))
    plan = plan_of((("y", b.unary("sin", x)),), BARE)
    (step,) = plan.steps
    assert step.outputs[0].storage != step.inputs[0].storage
    assert plan.storages[step.inputs[0].storage].kind == "input"


def test_results_stay_alive_to_the_end():
    x = leaf("x", "input", Type((100,), D))
    first = b.matmul(b.reshape(x, (10, 10)), b.reshape(x, (10, 10)))
    later = b.matmul(b.matmul(first, first), first)
    plan = plan_of((("first", first), ("later", later)), BARE)
    storage = plan.storages[plan.outputs["first"].storage]
    assert storage.last == END
    assert apart(plan.storages)


def test_a_value_read_in_a_loop_lives_through_all_of_it():
    x, start = leaf("x", "input", Type((4, 2), D)), leaf("c", "input", Type((2,), D))
    outside = b.unary("sin", b.add(start, 1.0))
    carry, row = leaf("carry0", "carry", Type((2,), D), depth=1), leaf("x0", "x", Type((2,), D), depth=1)
    time, const = leaf("time", "time", Type((), "int32"), depth=1), leaf("const0", "const", Type((2,), D), depth=1)
    early = b.mul(const, row)
    late = b.unary("tanh", b.add(b.unary("sin", b.add(early, carry)), row))
    node = scan([start], [x], [outside], [carry, row, time, const], ([late], [], []), 4, False, NOWHERE)
    plan = plan_of((("y", b.item(node, 0)),), BARE)
    (loop,) = [s for s in plan.steps if s.op == "scan"]
    inside = [s.position for s in flat(loop.body)]
    read = next(s for s in flat(loop.body) if s.op == "mul").inputs
    storage = next(plan.storages[a.storage] for a in read if plan.storages[a.storage].kind == "temp")
    assert storage.first < min(inside)
    assert storage.last >= max(inside)


def test_a_plan_is_the_same_every_time_it_is_made():
    first, second = (plan_of(chain(3)) for _ in range(2))
    assert first.steps == second.steps
    assert [s.offset for s in first.storages] == [s.offset for s in second.storages]
