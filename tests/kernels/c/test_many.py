"""One program over many arrays: each gets what it would get alone, whoever does which blocks."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

from graphnet.kernels.c.many import BLOCK, many
from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.prelude import FLAGS, HEADER
from graphnet.kernels.text.program import Member
from graphnet.kernels.text.view import CTYPES, View

SIZES = [(1,), (3,), (1000,), (4097,), (BLOCK,), (3, 1, 4097, 1000, 2 * BLOCK, BLOCK + 1, 7)]


def operands(dtype):
    p, v, g = (View(n, dtype, (9,), (1,)) for n in ("out0", "out1", "in2"))
    return [p, v, View("out2", "bool", (9,), (1,))], [p, v, g]


def write(k, sizes, dtype):
    def writer(outs, ins, attrs, job):
        rows = [Member(n, tuple(v.name for v in (*outs[3 * i : 3 * i + 3], ins[1 + i]))) for i, n in enumerate(sizes)]
        own_outs, own_ins = operands(dtype)
        return many(own_outs, [*own_ins, ins[0]], k.program(*k.ADAGRAD, dtype=dtype), rows, job)

    return writer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_member_gets_what_numpy_computes_whatever_the_shares(run_c, k, rng, sizes, dtype):
    """Three results, two of them over their operands, bit for bit; a shared factor; 1, 2, 3 and 16 shares."""
    for threads in (1, 2, 3, 16):
        lr, members, wanted = k.adagrad(rng, sizes, dtype)
        outs = [a for m in members for a in m[:3]]
        (phase,) = run_c(write(k, sizes, dtype), outs, [lr, *(m[3] for m in members)], threads=threads)
        assert phase.units == sum(-(-n // BLOCK) for n in sizes)
        for member, want in zip(members, wanted, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(member[:3], want, strict=True)), threads


def test_a_unit_is_one_block_of_one_member(run_c, k, rng):
    """Every element is written by exactly one unit, in the order of the members."""
    sizes = (5, 2 * BLOCK + 1, 3)
    owners = ([0] * 5, [1] * BLOCK + [2] * BLOCK + [3], [4] * 3)
    for unit in range(5):
        lr, members, wanted = k.adagrad(rng, sizes, "float32")
        before = [m[0].copy() for m in members]

        def alone(outs, ins, attrs, job, unit=unit):
            (phase,) = write(k, sizes, "float32")(outs, ins, attrs, job)
            assert phase.units == 5
            return [Phase(f"    lo = {unit};\n    hi = {unit + 1};\n{phase.body}", helpers=phase.helpers)]

        run_c(alone, [a for m in members for a in m[:3]], [lr, *(m[3] for m in members)])
        for member, old, want, owner in zip(members, before, wanted, owners, strict=True):
            assert np.array_equal(member[0], np.where(np.array(owner) == unit, want[0], old))


def test_members_may_read_the_same_array(run_c, k, rng):
    """Two parameters with one gradient."""
    lr, members, wanted = k.adagrad(rng, (700, 700), "float32")
    first, second = members
    g = first[3]
    new = second[1] + g * g
    expected = second[0] - lr * (g / np.sqrt(new))

    def writer(outs, ins, attrs, job):
        rows = [Member(700, tuple(v.name for v in (*outs[3 * k : 3 * k + 3], ins[1]))) for k in range(2)]
        own_outs, own_ins = operands("float32")
        return many(own_outs, [*own_ins, ins[0]], k.program(*k.ADAGRAD), rows, job)

    run_c(writer, [*first[:3], *second[:3]], [lr, g], threads=2)
    assert np.array_equal(first[0], wanted[0][0])
    assert np.array_equal(second[0], expected)


def test_what_all_share_is_computed_once(k):
    """The factor's own function stands in front of the loops."""
    p, s = View("out0", "float32", (9,), (1,)), View("in1", "float32", (), ())
    program = k.program("tmp0 = exp(in1)", "out0 = mul(in0, tmp0)")
    (phase,) = many([p], [p, s], program, [Member(9, ("a",)), Member(40, ("c",))], Job())
    before, inside = phase.body.split("for (long m", 1)
    assert "gn_expf" in before
    assert "gn_expf" not in inside


def test_more_elements_cost_more_and_members_make_no_difference(k):
    """What a pass costs follows from its elements, so that small ones are left to one thread."""

    def cost(*sizes):
        outs, ins = operands("float32")
        rows = [Member(n, ("a", "c", "d", "e")) for n in sizes]
        (phase,) = many(outs, [*ins, View("in3", "float32", (), ())], k.program(*k.ADAGRAD), rows, Job())
        return phase.cost

    assert cost(1000, 3000) == cost(4000) == pytest.approx(4 * cost(1000))


def test_the_loop_becomes_a_vector_loop(k, tmp_path):
    """Without checks whether the members' arrays overlap: the pointers come from a table."""
    outs, ins = operands("float32")
    names = [[f"{n}{k}" for n in "pvmg"] for k in range(3)]
    rows = [Member(1000 + k, tuple(n)) for k, n in enumerate(names)]
    (phase,) = many(outs, [*ins, View("lr", "float32", (), ())], k.program(*k.ADAGRAD), rows, Job())
    types = {"p": "float32", "v": "float32", "m": "bool", "g": "float32"}
    given = [f"{CTYPES[types[n[0]]]} *{n}" for own in names for n in own]
    source = tmp_path / "v.c"
    head = f"void f({', '.join(given)}, const float *lr, long lo, long hi)"
    source.write_text("\n".join([HEADER, *phase.helpers, head, "{", phase.body, "}", ""]))
    command = ["gcc", *FLAGS, "-march=native", "-Wall", "-Wextra", "-Werror", "-fopt-info-vec-optimized", "-c", source]
    try:
        done = subprocess.run([*command, "-o", tmp_path / "v.o"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs gcc")
    (loop,) = [n for n, line in enumerate(source.read_text().split("\n"), 1) if "for (long i" in line]
    assert loop in {int(n) for n in re.findall(r"v\.c:(\d+):\d+: optimized: loop vectorized", done.stderr)}
    assert "versioned" not in done.stderr
