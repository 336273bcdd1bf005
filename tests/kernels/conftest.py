"""What every kernel test needs: binding with hostile scratch, strided views, and a meter for allocations.

And what the tests of the writers of C and of CUDA have in common: programs, their results by NumPy, and cases.
"""

from __future__ import annotations

import re
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from graphnet.compiler.ops import REGISTRY
from graphnet.kernels.numpy import SCRATCH, TABLE, run
from graphnet.kernels.text.program import Instr
from graphnet.kernels.text.row_program import Reduce

REDUCTIONS = ("sum", "max", "min")

PROGRAMS = {
    "ARITHMETIC": ["tmp0 = mul(in0, in1)", "tmp0 = sub(tmp0, in2)", "out0 = sqrt(in1)", "out1 = add(out0, tmp0)"],
    "REUSING": [  # temporaries and an out are written again, a value is stored twice and an operand as it is
        *("tmp0 = add(in0, in1)", "out0 = neg(tmp0)", "tmp0 = mul(tmp0, out0)", "out1 = identity(tmp0)"),
        *("out0 = sub(tmp0, in1)", "tmp1 = exp(in0)", "out2 = identity(in1)"),
    ],
    "MIXED": [  # truth values beside floats, integers and conversions
        *("out0 = gt(in0, in1): bool", "tmp0 = logical_and(out0, in2): bool", "out1 = where(tmp0, in0, in1)"),
        *("tmp1 = cast(in2)", "tmp1 = mul(tmp1, in0)", "out2 = cast(tmp1): int32", "tmp2 = cast(in3): int32"),
        *("out2 = maximum(out2, tmp2): int32", "tmp3 = cast(in3): float64", "out3 = div(tmp3, in4): float64"),
        *("tmp4 = logical_not(tmp0): bool", "tmp4 = logical_xor(tmp4, in2): bool", "out4 = cast(tmp4): uint8"),
    ],
    "CELL": [  # of an LSTM
        *("out0 = sigmoid(in0)", "out1 = sigmoid(in1)", "out2 = sigmoid(in2)", "out3 = tanh(in3)"),
        *("tmp0 = mul(out1, in4)", "tmp1 = mul(out2, out3)", "out4 = add(tmp0, tmp1)", "out5 = tanh(out4)"),
    ],
    "ADAGRAD": [  # out1 = v + g * g; out0 = p - lr * g / sqrt(out1); out2 = g > lr, of p, v, g and lr
        *("tmp0 = square(in2)", "out1 = add(in1, tmp0)", "tmp0 = sqrt(out1)", "tmp0 = div(in2, tmp0)"),
        *("tmp0 = mul(in3, tmp0)", "out0 = sub(in0, tmp0)", "out2 = gt(in2, in3): bool"),
    ],
    "SOFTMAX": (
        softmax := [
            *("tmp0 = max(in0)", "tmp1 = sub(in0, tmp0)", "tmp2 = exp(tmp1)", "tmp3 = sum(tmp2)"),
            "out0 = div(tmp2, tmp3)",
        ]
    ),
    "CROSS_ENTROPY": [  # and its gradient, of scores, labels, column numbers, 0, and what a label and a column weigh
        *softmax[:4],
        *("tmp4 = eq(in1, in2): bool", "tmp5 = where(tmp4, tmp1, in3)", "tmp6 = sum(tmp5)", "tmp7 = log(tmp3)"),
        *("out0 = sub(tmp7, tmp6)", "tmp8 = where(tmp4, in4, in3)", "tmp9 = div(in5, tmp3)", "tmp10 = mul(tmp9, tmp2)"),
        "out1 = add(tmp8, tmp10)",
    ],
    "LAYER_NORM": [
        *("tmp0 = sum(in0)", "tmp1 = mul(tmp0, in3)", "tmp2 = sub(in0, tmp1)", "tmp3 = square(tmp2)"),
        *("tmp4 = sum(tmp3)", "tmp5 = mul(tmp4, in3)", "tmp6 = add(tmp5, in4)", "tmp7 = sqrt(tmp6)"),
        *("tmp8 = div(tmp2, tmp7)", "tmp9 = mul(tmp8, in1)", "out0 = add(tmp9, in2)", "out1 = identity(tmp7)"),
    ],
}

LONG = [  # shapes, and the axes that are reduced
    *[((300, 1024), (0, 1)), ((70_001,), (0,)), ((3001, 93), (0,)), ((997, 93), (1,)), ((40, 10, 16, 16), (0, 2, 3))],
    *[((1100, 64, 2), (0, 2)), ((3, 30_000), (1,)), ((3, 30_000), (0,)), ((8, 3000), (0,)), ((17, 5000), (1,))],
    *[((9, 1000, 11), (1,)), ((128, 30, 33), (2,))],
]


def bind(op, out, *ins, **attrs):
    """Calls of a kernel on scratch of exactly the size it asked for, off alignment and full of NaN."""
    if op in SCRATCH:
        size = SCRATCH[op](ins, attrs)
        attrs["scratch"] = np.full(size + 8, 255, np.uint8)[8:]
    return TABLE[op](out, *ins, **attrs)


def execute(op, out, *ins, **attrs):
    """Bind and run; returns out, whose old contents were garbage unless it is one of the inputs."""
    if not any(np.may_share_memory(out, x) for x in ins):
        out.fill(77)
    with np.errstate(all="ignore"):
        run(bind(op, out, *ins, **attrs))
    return out


def strided(x):
    """An equal array, no axis of which is contiguous, reversed along the last."""
    wide = np.empty([2 * n + 1 for n in x.shape], x.dtype)
    view = wide[(..., *(slice(1, None, 2) for _ in x.shape))]
    if x.ndim:
        view = view[..., ::-1]
    view[...] = x
    return view


def peak(calls):
    """Most bytes allocated at once while calls run, once they have run before.

    NumPy converts dtypes and gathers short rows through buffers of a fixed number of elements, however large
    the arrays are; the smallest such number hides them.
    """
    with np.errstate(all="ignore"):
        usual = np.setbufsize(16)
        run(calls)
        tracemalloc.start()
        try:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            run(calls)
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
            np.setbufsize(usual)


def layouts(x):
    """Equal arrays: dense, in Fortran order, with gaps and reversed, with axes in another order."""
    yield x
    yield np.array(x, order="F")
    wide = np.zeros([2 * n + 1 for n in x.shape], x.dtype)
    turned = wide[(..., *(slice(-2, None, -2) if n else slice(0) for n in x.shape))]
    turned[...] = x
    yield turned
    yield np.ascontiguousarray(np.moveaxis(x, 0, -1)) if x.ndim else x.copy()


def labels(rng, shape):
    """A label for each row of ``shape``, and the numbers of its columns."""
    return [rng.integers(0, shape[-1], (*shape[:-1], 1), "int32"), np.arange(shape[-1], dtype="int32")]


def adagrad(rng, sizes, dtype):
    """The learning rate; for each size (p, v, room for out2, g), and what its outs must be by ADAGRAD."""
    lr = np.asarray(0.3, dtype)
    members, wanted = [], []
    for n in sizes:
        p, v, g = (np.asarray(rng.standard_normal(n), dtype) for _ in range(3))
        v = abs(v)
        new = v + g * g
        wanted.append((p - lr * (g / np.sqrt(new)), new, g > lr))
        members.append((p, v, np.zeros(n, bool), g))
    return lr, members, wanted


def ref(text):
    return re.match(r"[a-z]+", text).group(), int(re.search(r"\d+", text).group())


def program(*lines, dtype="float32"):
    """``"tmp0 = sub(in0, tmp1)"``, with ``: dtype`` behind it unless that is the usual one, as instructions."""
    found = []
    for line in lines:
        result, op, operands, own = re.fullmatch(r"(\w+) = (\w+)\((.*?)\)(?:: (\w+))?", line).groups()
        operands, own = tuple(ref(o) for o in operands.split(", ")), own or dtype
        if op in REDUCTIONS:
            found.append(Reduce(op, operands[0], ref(result), own))
        else:
            found.append(Instr(REGISTRY[op].expr, REGISTRY[op].inputs, operands, ref(result), own))
    return found


def evaluated(shape, ins, lines, dtype="float32"):
    """The outs by NumPy, one instruction after another on whole arrays; sums over the columns of shape in float64."""
    now = {("in", i): x for i, x in enumerate(ins)}
    for line, instr in zip(lines, program(*lines, dtype=dtype), strict=True):
        op = re.search(r"= (\w+)", line).group(1)
        if op in REDUCTIONS:
            x = np.broadcast_to(now[instr.operand], (*now[instr.operand].shape[:-1], shape[-1]))
            exact = {"dtype": "float64"} if op == "sum" and instr.dtype.startswith("float") else {}
            with np.errstate(all="ignore"):
                now[instr.result] = getattr(np, op)(x, axis=-1, keepdims=True, **exact).astype(instr.dtype)
            continue
        operands = [now[o] for o in instr.operands]
        out = np.empty(np.broadcast_shapes(*(o.shape for o in operands)), instr.dtype)
        now[instr.result] = execute(op, out, *operands)
    return [now["out", i] for i in range(sum(kind == "out" for kind, _ in now))]


@pytest.fixture(scope="session")
def k():
    """The helpers above in one namespace: k.bind, k.execute, .., and the programs by name: k.SOFTMAX, .."""
    functions = (bind, execute, strided, peak, layouts, labels, adagrad, program, evaluated)
    return SimpleNamespace(**{f.__name__: f for f in functions}, **PROGRAMS, LONG=LONG)


@pytest.fixture
def rng():
    """The same numbers in every test run."""
    return np.random.default_rng(5)
