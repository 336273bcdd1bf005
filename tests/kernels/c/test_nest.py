"""Elementwise nests: any shape, strides, dtypes and number of threads give what the program says."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

from graphnet.kernels.c.nest import copy, fill, fused
from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.c.prelude import FLAGS, HEADER
from graphnet.kernels.text.program import helpers, single, statements
from graphnet.kernels.text.view import CTYPES, View

SHAPES = [(), (1,), (3,), (1, 1), (17, 33), (4, 5, 6), (2, 1, 300), (64, 64), (3, 2, 5, 7), (40, 1, 40), (7000,)]
EMPTY = [(0,), (0, 3), (3, 0, 2)]
THREADS = (1, 2, 5, 16)


def evaluated(k, shape, ins, lines):
    """The results by the numpy kernels, over the whole shape."""
    return [np.broadcast_to(out, shape) for out in k.evaluated(shape, ins, lines)]


def writer(k, *lines):
    return lambda outs, ins, attrs, job: fused(outs, ins, k.program(*lines), job)


def arrays(rng, *shapes):
    return [np.asarray(rng.standard_normal(s), "float32") for s in shapes]


@pytest.fixture(scope="module")
def many(run_c):
    """``many(cases)``: each case (outs, ins, writer), all in one compilation; by ``threads`` shares of each."""

    def run(cases, threads=1):
        def write(outs, ins, attrs, job):
            outs, ins, phases = list(outs), list(ins), []
            for o, i, writer in cases:
                own = [outs.pop(0) for _ in o], [ins.pop(0) for _ in i]
                for phase in writer(*own, {}, job):
                    assert len(phase.axes) == len(o) + len(i)
                    phases.append(Phase(phase.body, phase.units, (), phase.helpers))
            return phases

        run_c(write, [a for o, _, _ in cases for a in o], [a for _, i, _ in cases for a in i], threads=threads)

    return run


def test_shapes_and_layouts(many, k, rng):
    """Dense, transposed, reversed and gapped results and operands, bit for bit, for several numbers of threads."""
    cases, wanted = [], []
    for shape in (*SHAPES, *EMPTY):
        ins = [np.asarray(np.abs(x)) for x in arrays(rng, shape, shape, shape)]
        want = evaluated(k, shape, ins, k.ARITHMETIC)
        for number in range(3):
            outs = [list(k.layouts(np.full(shape, np.nan, "float32")))[number] for _ in range(2)]
            own = [list(k.layouts(x))[(number + shift) % 3] for shift, x in enumerate(ins)]
            cases.append((outs, own, writer(k, *k.ARITHMETIC)))
            wanted.append(want)
    for threads in THREADS:
        for outs, _, _ in cases:
            for out in outs:
                out[...] = np.nan
        many(cases, threads)
        for (outs, _, _), want in zip(cases, wanted, strict=True):
            assert all(np.array_equal(out, want[i]) for i, out in enumerate(outs)), (threads, outs[0].shape)


def test_broadcast_operands(many, k, rng):
    """Operands with fewer axes, axes of size 1 and zero strides; scalars; a bias along each axis."""
    shape = (6, 20, 30)
    cases, wanted = [], []
    for own in ((), (1,), (30,), (20, 1), (6, 1, 1), (1, 20, 30), (6, 20, 1), (1, 1, 1), (6, 1, 30)):
        ins = [np.asarray(np.abs(x)) for x in arrays(rng, shape, own, ())]
        ins[2] = np.broadcast_to(ins[2], shape)
        cases.append(([np.empty(shape, "float32") for _ in range(2)], ins, writer(k, *k.ARITHMETIC)))
        wanted.append(evaluated(k, shape, ins, k.ARITHMETIC))
    for threads in (1, 7):
        many(cases, threads)
        for (outs, ins, _), want in zip(cases, wanted, strict=True):
            assert all(np.array_equal(out, want[i]) for i, out in enumerate(outs)), (threads, ins[1].shape)


def test_a_transposed_operand_is_read_in_tiles(many, k, rng):
    """Sides that are and are not multiples of the tile, all shares, more axes around and between."""
    cases, wanted = [], []
    for shape in ((64, 48), (65, 47), (3, 50, 100), (50, 3, 100), (33, 2, 2, 70)):
        x = np.asfortranarray(*arrays(rng, shape))
        cases.append(([np.empty(shape, "float32")], [x], writer(k, "out0 = add(in0, in0)")))
        wanted.append(x + x)
    for threads in (1, 3):
        many(cases, threads)
        assert all(np.array_equal(outs[0], want) for (outs, _, _), want in zip(cases, wanted, strict=True))
    views = [View("p", "float32", (64, 48), (48, 1)), View("q", "float32", (64, 48), (1, 64))]
    assert "i_tile" in fused(views[:1], views[1:], k.program("out0 = add(in0, in0)"), Job())[0].body


def test_results_over_their_operands(run_c, k, rng):
    """An out that is an in: every element is read first, also where another result is written over it."""
    lines = ("tmp0 = mul(in0, in1)", "out0 = sub(in1, in0)", "out1 = add(tmp0, in1)")
    x, y = arrays(rng, (30, 40), (30, 40))
    want = evaluated(k, (30, 40), [x.copy(), y.copy()], lines)
    run_c(writer(k, *lines), [x, y], [x, y], threads=3)
    assert np.array_equal(x, want[0])
    assert np.array_equal(y, want[1])


def test_temporaries_and_results_are_written_again(run_c, k, rng):
    """A program may reuse temporaries, overwrite an out, and store one value twice or an operand as it is."""
    ins = arrays(rng, (50, 60), (50, 60))
    outs = [np.empty((50, 60), "float32") for _ in range(3)]
    phases = run_c(writer(k, *k.REUSING), outs, ins)
    want = evaluated(k, (50, 60), ins, k.REUSING)
    assert all(np.array_equal(out, want[i]) for i, out in enumerate(outs))
    assert "exp" not in phases[0].body, "nobody reads tmp1"


def test_mixed_dtypes(many, k, rng):
    """Truth values as masks, results and factors beside floats; integers and conversions in one nest."""
    shape = (20, 50)
    x, y = arrays(rng, shape, shape)
    ins = [x * 5, y, x > 0.3, rng.integers(-9, 9, shape), np.array(3.7)]
    outs = [np.empty(shape, d) for d in ("bool", "float32", "int32", "float64", "uint8")]
    many([(outs, ins, writer(k, *k.MIXED))], threads=2)
    want = evaluated(k, shape, ins, k.MIXED)
    assert all(np.array_equal(out, want[i]) for i, out in enumerate(outs))


def test_functions_within_4_ulp_of_the_numpy_kernels(many, k, rng):
    """An LSTM cell on columns of a wider matrix."""
    gates, state = arrays(rng, (32, 128), (32, 32))
    ins = [gates[:, 32 * i : 32 * i + 32] for i in range(4)] + [state]
    outs = [np.empty((32, 32), "float32") for _ in range(6)]
    many([(outs, ins, writer(k, *k.CELL))], threads=4)
    products = outs[1] * state, outs[2] * outs[3]
    assert np.array_equal(outs[4], products[0] + products[1])
    gates = zip(
        ("sigmoid", "sigmoid", "sigmoid", "tanh", "tanh"), (*ins[:4], outs[4]), (*outs[:4], outs[5]), strict=True
    )
    for op, x, out in gates:
        want = k.execute(op, np.empty_like(out), x)
        assert (np.abs(out - want) <= 4 * np.spacing(np.abs(want))).all(), op


def test_units_touch_only_their_part(run_c, k, rng):
    """What ``axes`` promises: unit u writes part u along the named axis, and nothing else."""
    checked = 0
    for shape, turned in (((12, 40, 10), False), ((40, 30), True), ((320,), False), ((1, 16, 40), False)):
        x = arrays(rng, shape)[0]
        out = np.full(shape, 7, "float32")
        if turned:
            out = out.T.copy().T
        for unit in (0, 1):

            def write(outs, ins, attrs, job, unit=unit):
                (phase,) = fused(outs, ins, k.program("out0 = add(in0, in0)"), job)
                body = f"    lo = {unit};\n    hi = {unit + 1};\n{phase.body}"
                return [Phase(body, phase.units, phase.axes, phase.helpers)]

            (phase,) = run_c(write, [out], [x])
            axis = phase.axes[0]
            assert phase.axes == (axis, axis)
            assert shape[axis] % phase.units == 0
            parts = np.split(out, phase.units, axis), np.split(x + x, phase.units, axis)
            assert np.array_equal(parts[0][unit], parts[1][unit])
            assert all((p == 7).all() for p in parts[0][unit + 1 :])
            checked += 1
    assert checked == 8


def test_how_work_is_divided(k):
    """The leading axis if it has parts enough, else a longer one, else cache lines; small nests are not divided."""

    def units(shape, threads, *others):
        strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
        x = View("p", "float32", shape, tuple(strides))
        ins = [x, *(View(f"q{i}", "float32", o, (1,) * len(o)) for i, o in enumerate(others))]
        lines = ["tmp0 = neg(in0)", *(f"tmp0 = add(tmp0, in{i + 1})" for i in range(len(others)))]
        (phase,) = fused([x], ins, k.program(*lines, "out0 = neg(tmp0)"), Job(threads=threads))
        return phase.units, phase.axes

    assert units((128, 256), 4) == (128, (0, 0))
    assert units((128, 256), 4, (256,)) == (128, (0, 0, None))
    assert units((128, 100, 93), 8, (93,)) == (128, (0, 0, None))
    assert units((4, 100, 93), 8, (93,)) == (400, (None, None, None))
    assert units((1, 64, 32), 2) == (64, (1, 1))
    assert units((3, 1000), 2) == (188, (None, None))
    assert units((2048,), 2) == (128, (0, 0))
    assert units((2049,), 2) == (129, (None, None))
    assert units((10, 10), 16) == (1, (None, None))


def test_what_does_not_vary_is_computed_outside(k):
    """Scalars before all loops, a row's values in the row's loop, and only the rest in the innermost loop."""
    x, row, one = (
        View(n, "float32", s, t) for n, s, t in (("p", (50, 60), (60, 1)), ("r", (50, 1), (1, 1)), ("s", (), ()))
    )
    lines = k.program("tmp0 = exp(in2)", "tmp1 = div(in1, tmp0)", "tmp2 = log(tmp1)", "out0 = sub(in0, tmp2)")
    (phase,) = fused([x], [x, row, one], lines, Job())
    before, rows, inner = re.split(r"for \(.*\) \{", phase.body)
    assert "gn_expf" in before
    assert "/" in rows
    assert "gn_logf" in rows
    assert not re.search(r"exp|log|/|\br\[|\bs\[", inner)
    (phase,) = fused([x], [one], k.program("out0 = exp(in0)"), Job())
    assert "gn_expf" in phase.body.split("for")[0], "also where it is the result itself"


def test_nests_with_many_operands_vectorise(k, tmp_path):
    """Adam with scalar hyperparameters, masks, a cell, and clipping become vector loops, even if pointers may alias."""
    shape, unit = (100, 64), (64, 1)
    p, m, v, g, h = (View(n, "float32", shape, unit) for n in "pmvgh")
    mask = View("mask", "bool", shape, unit)
    scalars = [View(f"s{i}", "float32", (), ()) for i in range(8)]
    adam = k.program(
        "tmp0 = mul(in3, in10)", "tmp1 = mul(in1, in5)", "tmp2 = mul(tmp0, in6)", "out1 = add(tmp1, tmp2)",
        "tmp1 = mul(in2, in7)", "tmp2 = square(tmp0)", "tmp2 = mul(tmp2, in8)", "out2 = add(tmp1, tmp2)",
        "tmp0 = mul(out2, in11)", "tmp0 = sqrt(tmp0)", "tmp0 = add(tmp0, in9)", "tmp0 = div(out1, tmp0)",
        "tmp0 = mul(tmp0, in4)", "out0 = sub(in0, tmp0)",
    )  # fmt: skip
    masks = k.program(
        "out1 = gt(in0, in1): bool", "tmp0 = logical_and(out1, in2): bool", "out0 = where(tmp0, in0, in1)"
    )
    cell = k.program("out0 = sigmoid(in0)", "tmp0 = tanh(in1)", "tmp1 = log(in2)", "tmp0 = mul(tmp0, tmp1)",
                     "tmp2 = erf(in3)", "out1 = add(tmp0, tmp2)")  # fmt: skip
    clip = k.program("tmp0 = maximum(in0, in2)", "tmp1 = minimum(tmp0, in3)", "tmp2 = pow(tmp1, in2)",
                     "tmp3 = relu(tmp2)", "out0 = log(tmp3)", "tmp4 = eq(tmp1, in0): bool",
                     "out1 = where(tmp4, in1, in3)")  # fmt: skip
    cases = [([p, m, v], [p, m, v, g, *scalars], adam), ([p, mask], [m, v, mask], masks), ([p, m], [v, g, h, p], cell)]
    cases.append(([p, m], [v, g, *scalars[:2]], clip))
    lines, heads = [], []
    for number, (outs, ins, instructions) in enumerate(cases):
        (phase,) = fused(outs, ins, instructions, Job())
        heads += [h for h in phase.helpers if h not in heads]
        names = dict.fromkeys(f"{CTYPES[x.dtype]} *{x.name}" for x in (*outs, *ins))
        lines.append(f"void f{number}({', '.join(names)}, long lo, long hi)\n{{\n{phase.body}\n}}")
    source = tmp_path / "v.c"
    source.write_text("\n".join([HEADER, *heads, *lines]))
    command = ["gcc", *FLAGS, "-march=native", "-Wall", "-Wextra", "-Werror", "-fopt-info-vec-optimized", "-c", source]
    try:
        done = subprocess.run([*command, "-o", tmp_path / "v.o"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs gcc")
    found = {int(n) for n in re.findall(r"v\.c:(\d+):\d+: optimized: loop vectorized", done.stderr)}
    text = source.read_text().split("\n")
    loops = {n for n, line in enumerate(text, 1) if line.startswith("    for (long i")}
    assert len(loops) == 4
    assert loops <= found, done.stderr
    assert "versioned" not in done.stderr


def test_statements_for_one_element(run_c, k, rng):
    """The epilogue of a product: the value is given, operands are read at the product's index."""
    lines = k.program(
        "tmp0 = add(in0, in1)", "tmp1 = mul(tmp0, in2)", "out0 = tanh(tmp1)", "out1 = gt(tmp1, in3): bool"
    )

    def write(outs, ins, attrs, job):
        found = View("value", "float32", outs[0].shape, (1, 1))
        own = [found, *ins]
        block = statements(outs, own, lines, ("r + 2", "y1"), {0: "x1 * 0.5f"})
        body = f"for (long r = -2; r < 3; ++r) for (long y1 = 0; y1 < 6; ++y1) {{ const float x1 = r + y1; {block} }}"
        return [Phase(body, helpers=helpers(outs, own, lines))]

    bias, scale, limit = arrays(rng, (6,), (5, 1), ())
    outs = [np.empty((6, 5), "float32").T, np.empty((5, 6), "bool")]
    run_c(write, outs, [bias, scale, limit])
    value = 0.5 * (np.arange(5)[:, None] - 2 + np.arange(6)).astype("float32")
    want = (value + bias) * scale
    assert np.allclose(outs[0], np.tanh(want), rtol=4e-7, atol=0)
    assert np.array_equal(outs[1], want > limit)


def test_names_of_operands_are_kept_apart(k):
    """Pointers and given values called like the text's own names do not clash with them."""
    views = [View(n, "float32", (400, 2), (4, 1)) for n in ("i", "x0", "y0", "t0", "j_tile")]
    lines = ("tmp0 = add(in0, in1)", "tmp1 = add(in2, in3)", "tmp0 = mul(tmp0, tmp1)", "out0 = add(tmp0, tmp0)")
    (phase,) = fused(views[:1], views[1:], k.program(*lines), Job())
    declared = re.findall(r"(?:const \w+|long) (\w+) =", phase.body)
    assert len(declared) == len(set(declared))
    assert not set(declared) & {v.name for v in views}
    assert [phase] == fused(views[:1], views[1:], k.program(*lines), Job()), "the text is deterministic"


def test_programs_that_cannot_be(k):
    """Reads before writes, wrong dtypes, shapes that do not broadcast, and epilogues are refused."""
    x, y = View("x", "float32", (4, 5), (5, 1)), View("y", "float32", (3, 5), (5, 1))
    with pytest.raises(ValueError, match="before it is written"):
        fused([x], [x], k.program("out0 = add(in0, tmp0)"), Job())
    with pytest.raises(ValueError, match="cannot be stored"):
        fused([x], [x], k.program("out0 = gt(in0, in0): bool"), Job())
    with pytest.raises(ValueError, match="does not broadcast"):
        fused([x], [y], k.program("out0 = neg(in0)"), Job())
    with pytest.raises(ValueError, match="different shapes"):
        fused([x, y], [x], k.program("out0 = neg(in0)", "out1 = neg(in0)"), Job())
    with pytest.raises(ValueError, match="epilogue"):
        fused([x], [x], k.program("out0 = neg(in0)"), Job(epilogue=lambda index, value: ""))


def test_copies(many, k, rng):
    """Every dtype, layout and broadcast, transposition included."""
    cases = []
    for turn, dtype in enumerate(CTYPES):
        x = rng.integers(0, 2 if dtype == "bool" else 99, (20, 3, 40)).astype(dtype)
        for number, source in enumerate(k.layouts(x)):
            if dtype == "float32" or number == turn % 4:
                cases.append(([list(k.layouts(np.full_like(source, 1)))[(number + 1) % 3]], [source], copy))
    cases.append(([np.zeros((30, 40), "float32")], arrays(rng, (30, 1)), copy))
    cases.append(([np.zeros((30, 40), "float32")], arrays(rng, ()), copy))
    cases.append(([np.zeros((0, 4), "float32")], arrays(rng, (0, 4)), copy))
    for threads in (1, 3):
        for (out,), _, _ in cases:
            out[...] = 1
        many(cases, threads)
        for (out,), (x,), _ in cases:
            assert np.array_equal(out, np.broadcast_to(x, out.shape))


def test_fills(run_c):
    """Numbers, NaN, infinities and the sign of zero; views leave the gaps between their elements alone."""
    for dtype, value in (
        ("float32", -0.0),
        ("float32", np.nan),
        ("float64", -np.inf),
        ("int64", -(2**63)),
        ("bool", True),
    ):
        whole = np.zeros((40, 30), dtype)
        run_c(fill, [whole[:, ::2]], [], {"value": value}, threads=3)
        want = np.zeros((40, 30), dtype)
        want[:, ::2] = value
        assert np.array_equal(whole, want, equal_nan=dtype.startswith("float"))
        assert np.array_equal(np.signbit(whole), np.signbit(want)) if dtype == "float32" else True


def test_one_op_as_a_program(run_c):
    """``single`` takes the ins in order."""
    x, y = np.float32([1, 5, 2]), np.float32([4, 2, 2])
    out = np.empty(3, "bool")
    run_c(lambda o, i, a, job: fused(o, i, single("x > y", "xy", "bool"), job), [out], [x, y])
    assert out.tolist() == [False, True, False]
