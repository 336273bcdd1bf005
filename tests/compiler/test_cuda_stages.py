"""Which pieces of a CUDA plan run side by side, and how stages become kernels and launches."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from graphnet.compiler.cuda.kernels import LARGEST, STATIC, TAIL_UNITS, Kernels
from graphnet.compiler.cuda.source import Gemm, Launch, Matrix
from graphnet.compiler.cuda.stages import MANY_UNITS, BranchOf, Library, LoopOf, stages
from graphnet.compiler.cuda.steps import ALL_FAILING, Function, failing
from graphnet.compiler.ir import NOWHERE
from graphnet.compiler.schedule import Array, Branch, Loop
from graphnet.compiler.text.hazards import Access, Piece


def touch(low, high, write=False):
    return Access(-1, low, high, None, write)


def function(name, *accesses, units=4, **fields):
    """A function that touches these bytes of the arena."""
    made = Function(
        name, f"/* {name} */\n", ("unit",), units, 0, 0, "", (), (), (), Piece(accesses, True), False, False, 0
    )
    return replace(made, step=int(re.sub(r"\D", "", name) or 0), **fields)


def names(found):
    return [[node.name for node in stage] for stage in found]


def test_pieces_that_meet_in_no_memory_share_a_stage():
    a = function("s1", touch(0, 8, write=True))
    c = function("s2", touch(8, 16, write=True))
    d = function("s3", touch(0, 4), touch(16, 24, write=True))
    assert names(stages([a, c, d])) == [["s1", "s2"], ["s3"]]


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_write_keeps_its_order_to_every_other_access(first, second):
    a, c = function("s1", touch(0, 8, first)), function("s2", touch(4, 12, second))
    assert names(stages([a, c])) == [["s1"], ["s2"]]


def test_reads_of_the_same_memory_go_side_by_side():
    assert names(stages([function("s1", touch(0, 8)), function("s2", touch(0, 8))])) == [["s1", "s2"]]


def test_a_later_piece_moves_up_to_the_first_stage_that_it_may_share():
    """What stands last needs only the first."""
    a = function("s1", touch(0, 8, True))
    c = function("s2", touch(0, 8), touch(8, 16, True))
    d = function("s3", touch(8, 16), touch(16, 24, True))
    e = function("s4", touch(0, 8), touch(24, 32, True))
    assert names(stages([a, c, d, e])) == [["s1"], ["s2", "s4"], ["s3"]]
    assert names(stages([a, c, d, e], apart=True)) == [["s1"], ["s2"], ["s3"], ["s4"]]


def test_inside_a_loop_only_what_one_iteration_touches_counts():
    """One reads an entry of a stack while the next entry is written; a double buffer; not so from outside."""

    def moving(shift, write, modulo=9, step=8):
        return Access(-1, 0, 72, None, write, 8, (0, 8), ((0, modulo, step, shift),))

    for modulo, expected in ((9, [["s1", "s2"]]), (2, [["s1", "s2"]]), (1, [["s1"], ["s2"]])):
        a = function("s1", moving(0, False, modulo))
        c = function("s2", moving(1, True, modulo))
        assert names(stages([a, c])) == expected
    a, c = function("s1", moving(0, False)), function("s2", moving(0, True))
    assert names(stages([a, c])) == [["s1"], ["s2"]]
    a, c = function("s1", moving(0, False, step=7)), function("s2", moving(1, True, step=7))
    assert names(stages([a, c])) == [["s1"], ["s2"]]
    inner = LoopOf(Loop(0, 9, (), NOWHERE, 0, "forward"), (function("s1", moving(0, False)),))
    assert len(stages([inner, function("s2", moving(1, True))])) == 2


def test_what_stays_on_chip_stands_first_and_alone_of_its_kind():
    """Its blocks are those from 0 on, whatever stands beside it."""
    a, c, d = (function(f"s{i}", touch(8 * i, 8 * i + 8, True)) for i in (1, 2, 3))
    c, d = (replace(f, resident=64, load="/* */") for f in (c, d))
    assert names(stages([a, c, d])) == [["s2", "s1"], ["s3"]]


def test_two_large_phases_have_kernels_of_their_own():
    a, c = (function(f"s{i}", touch(8 * i, 8 * i + 8, True), units=MANY_UNITS) for i in (1, 2))
    assert names(stages([a, c])) == [["s1"], ["s2"]]


def test_homes_are_written_after_all_that_may_note_a_bad_index_and_the_notes_go_side_by_side():
    checks = [function(f"s{i}", failing(i), fails=True) for i in (1, 2)]
    homes = [function(f"s{i}", touch(8 * i, 8 * i + 8, True), writes_home=True) for i in (3, 4)]
    assert ALL_FAILING.meets(failing(7))
    assert names(stages([*checks, *homes])) == [["s1", "s2"], ["s3", "s4"]]


def launches(nodes, together=False, **options):
    kernels = Kernels(**options)
    return kernels.launches(nodes, together), kernels.texts


def test_a_stage_is_one_kernel_that_deals_its_units_out():
    a, c = function("s1", touch(0, 8, True), units=3), function("s2", touch(8, 16, True), units=5)
    (found,), texts = launches([a, c])
    assert found == Launch("step_1_2", 8, steps=(1, 2))
    text = texts["step_1_2"]
    assert "unit < 8" in text
    assert "if (unit < 3) {\n            s1(net, unit);" in text
    assert "else {\n            s2(net, unit - 3);" in text


def chain(*units):
    """Functions of which each reads what the one before wrote."""
    return [
        function(f"s{i}", touch(8 * i - 8, 8 * i), touch(8 * i, 8 * i + 8, True), units=n)
        for i, n in enumerate(units, 1)
    ]


def test_small_stages_are_done_by_the_last_block_of_the_kernel_before_them():
    (found,), texts = launches(chain(40, 1, TAIL_UNITS))
    assert found == Launch("step_1_2_3", 40, steps=(1, 2, 3))
    _, _, tail = texts["step_1_2_3"].partition("if (gn_last(net.barrier)) {")
    assert tail.count("__syncthreads();") == TAIL_UNITS
    assert [int(n) for n in re.findall(r"s(\d)\(net, \d\);", tail)] == [2, *(3,) * TAIL_UNITS]


def test_larger_stages_have_kernels_of_their_own():
    found, _ = launches(chain(40, TAIL_UNITS + 1, 1))
    assert [f.kernel for f in found] == ["step_1", "step_2_3"]
    assert [f.kernel for f in launches(chain(1, 1), apart=True)[0]] == ["step_1", "step_2"]


def test_equal_kernels_are_written_once():
    a = function("s1", touch(0, 8, True))
    kernels = Kernels()
    first, second = (kernels.launches([a], False) for _ in range(2))
    assert first == second
    assert len(kernels.texts) == 1


def loop(*body, length=5, number=0):
    return LoopOf(Loop(number, length, (), NOWHERE, 0, "forward"), body)


def test_a_loop_is_one_cooperative_kernel_whose_blocks_meet_between_stages_and_iterations():
    a, c = function("s1", touch(0, 8, True), units=3), function("s2", touch(0, 8), touch(8, 16, True), units=7)
    (found,), texts = launches([loop(a, c)])
    assert (found.kernel, found.grid, found.cooperative) == ("run_1_2", 7, True)
    text = texts["run_1_2"]
    assert "for (int k0 = 0; k0 < 5; ++k0)" in text
    assert text.count("gn_meet(net.barrier);") == 2
    assert "if (k0 < 4)\n            gn_meet" in text


def test_a_short_loop_is_unrolled_if_asked_to():
    a, c = function("s1", touch(0, 8, True), arguments=("unit", "k0")), function("s2", touch(0, 8), touch(8, 16, True))
    found, texts = launches([loop(a, c, length=3)], unroll=6)
    assert [(f.kernel, f.iterations) for f in found] == [(f"step_{s}", (k,)) for k in range(3) for s in (1, 2)]
    assert "const int k0" in texts["step_1"]
    assert len(launches([loop(a, c, length=3)], unroll=5)[0]) == 1


def product():
    matrix = Matrix(0, 0, 1)
    return Library(Gemm(1, 1, 1, 1, "float32", matrix, matrix, matrix, (9,)), (touch(8, 16, True), touch(0, 8)))


def test_together_makes_what_lies_between_products_of_the_library_one_kernel():
    a, c = function("s1", touch(0, 8, True)), function("s2", touch(8, 16), touch(16, 24, True))
    d = function("s3", touch(16, 24), touch(24, 32, True))
    found, texts = launches([a, product(), c, d], together=True)
    assert [getattr(f, "kernel", "product") for f in found] == ["step_1", "product", "run_2_3"]
    assert texts["run_2_3"].count("gn_meet") == 1


def test_memory_of_a_predicate_is_used_anew_only_when_all_blocks_have_read_it():
    predicate = Array(0, "bool", (), ())
    branch = Branch(predicate, (), (), NOWHERE, 3, "forward")
    for low, meets in ((0, 1), (64, 0)):
        side = function("s4", touch(low, low + 8, True))
        _, texts = launches([BranchOf(branch, "*p", (touch(0, 1),), ((side,), ()))])
        (text,) = texts.values()
        assert "const bool holds3 = *p;" in text
        assert text.count("gn_meet") == meets


def kept(length=5, resident=64, loaded=(100, 108), **fields):
    """A loop whose one function keeps what it loads, and the text of its kernel."""
    f = function(
        "s1", touch(0, 8, True), units=3, load="/* load */", resident=resident, shared=32, loaded=(touch(*loaded),)
    )
    names = ("unit", "gn_shared", "gn_resident")
    f = replace(f, arguments=names, loading=names, **fields)
    (found,), texts = launches([loop(f, length=length)])
    return found, texts[found.kernel]


def test_what_a_loop_does_not_change_is_loaded_once_where_each_block_has_one_unit():
    found, text = kept()
    before, _, inside = text.partition("for (int k0")
    assert (
        "if (gridDim.x >= 3 && blockIdx.x < 3)\n        s1_load(net, blockIdx.x, gn_shared, gn_shared + 32);" in before
    )
    assert "if (gridDim.x < 3) {" in inside
    assert "s1(net, unit, gn_shared, gn_shared + 32);" in inside
    assert found.dynamic == 0


def test_what_a_loop_changes_is_loaded_in_every_iteration():
    _, text = kept(loaded=(4, 12))
    before, _, inside = text.partition("for (int k0")
    assert "s1_load" not in before
    assert "gridDim.x < 3" not in inside
    assert "s1_load(net, unit, gn_shared, gn_shared + 32);" in inside


def test_shared_memory_beyond_the_static_limit_is_asked_for_at_launch():
    found, text = kept(resident=STATIC)
    assert found.dynamic > STATIC
    assert "GN_DYNAMIC();" in text
    assert found.dynamic <= LARGEST


def chips(room, *sizes):
    """Loads of one loop, of so many bytes each, in ``room``: their places in shared memory, and the kernel's bytes."""
    names, functions = ("unit", "gn_resident"), []
    for number, size in enumerate(sizes, 1):
        f = function(f"s{number}", touch(0, 8, True), load="/* load */", resident=size, loaded=(touch(100, 108),))
        functions.append(replace(f, arguments=names, loading=names))
    made = Kernels(room=room)
    (found,) = made.launches([loop(*functions)], False)
    places = re.findall(r"(s\d)_load\(net, unit, gn_shared(?: \+ (\d+))?\)", made.texts[found.kernel])
    return [int(place or 0) for _, place in sorted(places)], found.dynamic


def test_no_load_reaches_into_what_stays_on_chip():
    """What is loaded unit by unit has room for the largest such load, also for one that this room drove out."""
    sizes = (100 << 10, 90 << 10, 64 << 10)
    places, used = chips(220 << 10, *sizes)
    assert (places, used) == ([90 << 10, 0, 0], 190 << 10)  # the first stays, behind what the others take in turn


def test_a_gpu_with_less_shared_memory_keeps_less_on_chip():
    sizes = (64 << 10, 64 << 10)
    assert chips(LARGEST, *sizes)[1] == 128 << 10
    assert chips(99 << 10, *sizes)[1] == 64 << 10
