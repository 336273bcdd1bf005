"""One program over many arrays in CUDA: each gets what it would get alone."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.cuda.many import block_of, many
from graphnet.kernels.cuda.phase import THREADS, WAVE, Job
from graphnet.kernels.text.program import Member
from graphnet.kernels.text.view import View

SIZES = [(1,), (1000,), (4097,), (3, 1, 4097, 1000, 512, 257, 7), (3, 0, 5), (40_000, 2, 1024), (300, 65_000)]


def operands(dtype):
    p, v, g = (View(n, dtype, (9,), (1,)) for n in ("own0", "own1", "own2"))
    return [p, v, View("own3", "bool", (9,), (1,))], [p, v, g]


def members_of(sizes, outs, gradients):
    return [
        Member(n, tuple(v.name for v in (*outs[3 * i : 3 * i + 3], gradients[i]))) for i, n in enumerate(sizes)
    ]  # fmt: skip


def writer(k, sizes, dtype):
    def write(outs, ins, attrs, job):
        own_outs, own_ins = operands(dtype)
        return many(
            own_outs, [*own_ins, ins[0]], k.program(*k.ADAGRAD, dtype=dtype), members_of(sizes, outs, ins[1:]), job
        )

    return write


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_member_gets_what_numpy_computes(run_cases, k, rng, dtype):
    """Three results, two of them over their operands, bit for bit; a shared factor; 1, 2 or 4 elements a thread."""
    cases, made = [], []
    for sizes in SIZES:
        lr, members, wanted = k.adagrad(rng, sizes, dtype)
        outs = [a for m in members for a in m[:3]]
        cases.append(run_cases.Case(writer(k, sizes, dtype), outs, [lr, *(m[3] for m in members)]))
        made.append((members, wanted))
    results = run_cases(cases)
    for sizes, (members, wanted), result in zip(SIZES, made, results, strict=True):
        block = block_of([Member(n, ()) for n in sizes])
        assert [p.units for p in result.phases] == [sum(-(-n // block) for n in sizes)]
        for member, want in zip(members, wanted, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(member[:3], want, strict=True)), sizes


def test_a_unit_is_one_block_of_one_member(k):
    """Of one element a thread up to a device's worth of units, then of two, then of four."""
    for total, each in ((THREADS * WAVE, 1), (THREADS * WAVE + 1, 2), (1 << 20, 4)):
        assert block_of([Member(total - 7, ()), Member(7, ())]) == each * THREADS
    outs, ins = operands("float32")
    rows = [Member(n, tuple(f"a{k}{j}" for j in range(4))) for k, n in enumerate((5, 513, 3))]
    (phase,) = many(outs, [*ins, View("in3", "float32", (), ())], k.program(*k.ADAGRAD), rows, Job())
    assert phase.units == 1 + 3 + 1
    assert "first = 1; size = 513; own0 = a10;" in phase.body


def test_members_may_read_the_same_array(run_cuda, k, rng):
    """Two parameters with one gradient."""
    lr, (first, second), wanted = k.adagrad(rng, (700, 700), "float32")
    g = first[3]
    expected = second[0] - lr * (g / np.sqrt(second[1] + g * g))

    def write(outs, ins, attrs, job):
        own_outs, own_ins = operands("float32")
        rows = members_of((700, 700), outs, [ins[1], ins[1]])
        return many(own_outs, [*own_ins, ins[0]], k.program(*k.ADAGRAD), rows, job)

    run_cuda(write, [*first[:3], *second[:3]], [lr, g])
    assert np.array_equal(first[0], wanted[0][0])
    assert np.array_equal(second[0], expected)


def test_what_all_share_is_computed_once(k):
    """The factor's own function stands in front of the elements."""
    p, s = View("out0", "float32", (9,), (1,)), View("in1", "float32", (), ())
    program = k.program("tmp0 = exp(in1)", "out0 = mul(in0, tmp0)")
    (phase,) = many([p], [p, s], program, [Member(9, ("a",)), Member(40, ("c",))], Job())
    before, inside = phase.body.split("first, size;", 1)
    assert "gn_expf" in before
    assert "gn_expf" not in inside


def test_no_elements_are_no_phase(k):
    """Members without elements are left out."""
    outs, ins = operands("float32")
    scale = View("in3", "float32", (), ())
    assert many(outs, [*ins, scale], k.program(*k.ADAGRAD), [Member(0, ("a", "c", "d", "e"))], Job()) == []
