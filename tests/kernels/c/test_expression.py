"""Every record's expression, printed for every dtype it permits, computes what the numpy kernel computes."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import warnings

import numpy as np
import pytest

from graphnet.compiler.ops import REGISTRY
from graphnet.kernels.c.phase import Phase
from graphnet.kernels.c.prelude import HEADER
from graphnet.kernels.text.expression import functions_of, helpers_of, literal, print_expr
from graphnet.kernels.text.maths import definitions
from graphnet.kernels.text.view import CTYPES

COMPILER = shlex.split(os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") or "")
FLOATS, INTS, UNSIGNED = (
    ("float32", "float64"),
    ("int32", "int64", "uint8", "uint32", "uint64"),
    ("uint8", "uint32", "uint64"),
)
NUMBERS, ALL = FLOATS + INTS, (*FLOATS, *INTS, "bool")
BOOLEAN = {"isnan", "isfinite", "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or"}
BOOLEAN |= {"logical_xor"}
PERMITTED = {
    **dict.fromkeys(("neg", "abs", "sign", "square", "add", "sub", "mul", "pow", "maximum", "minimum"), NUMBERS),
    **dict.fromkeys(("mod", "floor_div"), NUMBERS),
    **dict.fromkeys(("isnan", "isfinite", "identity", "eq", "ne", "lt", "le", "gt", "ge", "where"), ALL),
    **dict.fromkeys(("logical_not", "logical_and", "logical_or", "logical_xor"), ("bool",)),
}
RECORDS = [r for r in REGISTRY.values() if r.kind == "elementwise"]
EXACT = {"neg", "abs", "sign", "sqrt", "square", "reciprocal", "floor", "ceil", "round", "relu", "identity", "where"}
EXACT |= BOOLEAN | {"add", "sub", "mul", "div", "maximum", "minimum", "mod", "floor_div", "stop_gradient"}
EDGES = {
    "float32": [
        0,
        -0.0,
        1,
        -1,
        0.5,
        -1.5,
        2.5,
        3.5,
        -7,
        1e-45,
        -1e-40,
        3.4e38,
        -3.4e38,
        np.inf,
        -np.inf,
        np.nan,
        80,
        1e9,
    ],
    "float64": [0, -0.0, 1, -1, 0.5, -1.5, 2.5, 3.5, -7, 5e-324, 1e308, -1e308, np.inf, -np.inf, np.nan, 80, 1e18],
    "bool": [False, True],
}


LIMITS = [s * 2.0**n for n in (31, 32, 63, 64) for s in (1, -1)]
EDGES["float32"] += LIMITS
EDGES["float64"] += [*LIMITS, 2.0**31 - 0.5, -(2.0**31) - 0.5, 2.0**63 - 1024]


def edges(dtype):
    """Values at which a dtype's arithmetic differs from that of numbers."""
    if dtype in EDGES:
        return np.array(EDGES[dtype], dtype)
    info = np.iinfo(dtype)
    found = [0, 1, 2, 3, 7, 10, 31, info.max // 2, info.max - 1, info.max]
    return np.array(found if info.min == 0 else [*found, -1, -2, -7, info.min, info.min + 1, info.min // 2], dtype)


def operands(record, dtype):
    """Every pair of edge values, and more that a vectorised loop can take in bulk."""
    rng = np.random.default_rng(11)
    values = edges(dtype)
    more = rng.uniform(-4, 4, 200) if dtype in FLOATS else rng.integers(0, 2 if dtype == "bool" else 100, 200)
    values = np.concatenate([values, more.astype(dtype)]) if len(record.inputs) == 1 else values
    grid = [g.ravel().copy() for g in np.meshgrid(*[values] * (2 if len(record.inputs) > 1 else 1))]
    if record.name == "pow" and dtype not in FLOATS:
        grid[1] = np.abs(grid[1].astype("float64")).clip(0, 40).astype(dtype)
    return [np.arange(grid[0].size) % 3 == 0, *grid] if record.name == "where" else grid


def printed(cases):
    """A writer: for each case (expr, names, dtype_in, dtype_out) a loop over operands that follow each other."""

    def write(outs, ins, attrs, job):
        lines, helpers, ins = [], [], list(ins)
        for out, (expr, names, dtype_in, dtype_out) in zip(outs, cases, strict=True):
            own = {name: ins.pop(0) for name in names}
            text = print_expr(expr, {n: f"{v.name}[i]" for n, v in own.items()}, dtype_in, dtype_out)
            lines.append(f"    for (long i = 0; i < {out.size}; ++i) {out.name}[i] = {text};")
            helpers += helpers_of(expr, dtype_in, dtype_out)
        return [Phase("\n".join(lines), helpers=tuple(helpers))]

    return write


def equal(a, b):
    with np.errstate(invalid="ignore"):
        same = (a == b) & (np.signbit(a) == np.signbit(b)) if a.dtype.kind == "f" else a == b
        return same | ((a != a) & (b != b))


def close(a, b):
    """Within 4 units in the last place of float32, or 1e-15 of float64."""
    with np.errstate(all="ignore"):
        unit = np.maximum(np.spacing(np.abs(b)), 0) if a.dtype == np.float32 else 5e-16 * np.abs(b) + 5e-324
        return equal(a, b) | (np.abs(a.astype("float64") - b) <= 4 * unit.astype("float64"))


def compare(run_c, k, dtype, records):
    """One compilation for all records of a dtype."""
    cases, arrays, outs = [], [], []
    for r in records:
        xs = operands(r, dtype)
        out = "bool" if r.name in BOOLEAN else dtype
        cases.append((r.expr, r.inputs, dtype, out))
        arrays.append(xs)
        outs.append(np.empty(xs[0].shape, out))
    run_c(printed(cases), outs, [x for xs in arrays for x in xs])
    for r, xs, out in zip(records, arrays, outs, strict=True):
        kernel = "identity" if r.name == "stop_gradient" else r.name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = k.execute(kernel, np.empty_like(out), *xs)
        fine = equal(out, want) if r.name in EXACT or dtype not in FLOATS else close(out, want)
        if r.name in ("relu", "maximum", "minimum", "abs", "sign"):
            fine |= (out == 0) & (want == 0)
        bad = np.flatnonzero(~fine)
        assert not bad.size, (r.name, dtype, [x[bad[:4]] for x in xs], out[bad[:4]], want[bad[:4]])


@pytest.mark.parametrize("dtype", ALL)
def test_every_record_agrees_with_its_numpy_kernel(run_c, k, dtype):
    """Bit for bit where only IEEE operations or integers occur, else within 4 ulp; at edge values and in bulk."""
    compare(run_c, k, dtype, [r for r in RECORDS if dtype in PERMITTED.get(r.name, FLOATS) and r.name != "cast"])


def test_casts_agree_with_numpy_where_it_defines_them(run_c):
    """All pairs of dtypes in one compilation; floats that do not fit become the smallest int32 or int64."""
    pairs = [(a, b) for a in ALL for b in ALL]
    xs = [edges(a) for a, _ in pairs]
    outs = [np.empty(x.shape, b) for x, (_, b) in zip(xs, pairs, strict=True)]
    run_c(printed([("(T)x", ("x",), a, b) for a, b in pairs]), outs, xs)
    for x, out, (a, b) in zip(xs, outs, pairs, strict=True):
        with np.errstate(all="ignore"):
            want = x.astype(b)
        if a in FLOATS and b in INTS:
            info = np.iinfo(b)
            with np.errstate(invalid="ignore"):
                inside = (np.trunc(x) >= float(info.min)) & (np.trunc(x) < 2.0 ** info.max.bit_length())
            assert (out[inside] == want[inside]).all(), (a, b)
            if b in ("int32", "int64"):
                assert (out[~inside] == info.min).all(), (a, b)
        else:
            assert equal(out, want).all(), (a, b, x, out, want)


def test_conversions_that_wrap(run_c):
    """uint8 and uint32 keep the low bits of an int32 or int64, uint64 wraps around; NaN is 0, 0 and 2**63."""
    x = np.array([300, -1, -300.7, 255.9, 2.0**40, np.nan, np.inf], "float64")
    outs = [np.empty(x.shape, d) for d in UNSIGNED]
    run_c(printed([("(T)x", ("x",), "float64", d) for d in UNSIGNED]), outs, [x, x.copy(), x.copy()])
    assert outs[0].tolist() == [44, 255, 212, 255, 0, 0, 0]
    assert outs[1].tolist() == [300, 2**32 - 1, 2**32 - 300, 255, 0, 0, 0]
    assert outs[2].tolist() == [300, 2**64 - 1, 2**64 - 300, 255, 2**40, 2**63, 0]


def test_integers_are_computed_without_undefined_behaviour(tmp_path):
    """UBSan watches every integer op and every cast at edge values and stays silent."""
    lines, names = [HEADER, "volatile double sink;"], []
    body = []
    for dtype in (*FLOATS, *INTS):
        exprs = [r for r in RECORDS if dtype in PERMITTED.get(r.name, ()) and r.name != "where"]
        exprs = exprs if dtype in INTS else []
        cases = [(r.expr, r.inputs, "bool" if r.name in BOOLEAN else dtype) for r in exprs]
        cases += [("(T)x", ("x",), to) for to in ALL]
        values = ", ".join(literal(v.item(), dtype) for v in edges(dtype))
        body.append(f"    {{ static const {CTYPES[dtype]} v[] = {{{values}}}; const int n = sizeof(v) / sizeof(*v);")
        body.append(
            f"    for (int a = 0; a < n; ++a) for (int b = 0; b < n; ++b) {{ {CTYPES[dtype]} x = v[a], y = v[b];"
        )
        for expr, inputs, to in cases:
            text = print_expr(expr, {i: i for i in inputs}, dtype, to)
            body.append(f"        {{ {CTYPES[to]} r = {text}; sink = (double)r; (void)y; }}")
            names += functions_of(expr, dtype, to)
        body.append("    } }")
    lines += [*definitions(names), "int main(void)", "{", *body, "    return 0;", "}"]
    source, program = tmp_path / "ub.c", tmp_path / "ub"
    source.write_text("\n".join(lines))
    checks = "-fsanitize=undefined,float-cast-overflow"
    done = subprocess.run(
        [*COMPILER, "-std=gnu11", "-O1", checks, source, "-o", program, "-lm"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no sanitizer: {done.stderr[:200]}")
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_text_is_typed():
    """Literals and functions have the operands' type, so nothing is computed in double on the way."""
    assert print_expr("x > 0 || x != x ? x : 0", {"x": "t"}, "float32", "float32") == "t <= 0.0f ? 0.0f : t"
    assert print_expr("1 / (1 + exp(-x))", {"x": "t"}, "float32", "float32") == "gn_sigmoidf(t)"
    assert print_expr("1 / (1 + exp(-x))", {"x": "t"}, "float64", "float64") == "1.0 / (1.0 + exp(-t))"
    assert print_expr("x + y", {"x": "a", "y": "b"}, "int32", "int32") == "(int32_t)((uint32_t)a + (uint32_t)b)"
    assert print_expr("x != x", {"x": "a"}, "int64", "bool") == "0"
    assert print_expr("(T)x", {"x": "a"}, "float32", "bool") == "a != 0"
    assert print_expr("-x", {"x": "-1.0f"}, "float32", "float32") == "-(-1.0f)"
    assert print_expr("x * y", {"x": "a + b", "y": "c[i + 1]"}, "float32", "float32") == "(a + b) * c[i + 1]"
    assert print_expr("x - (x - 0.5)", {"x": "a"}, "float32", "float32") == "a - (a - 0.5f)"
    for record in RECORDS:
        text = print_expr(record.expr, {n: n for n in record.inputs}, "float32", "float32")
        assert "." not in re.sub(r"\b\d+\.\d+f\b", "", text), text
        assert all(name.endswith(("f", "_float32")) for name in re.findall(r"(\w+)\(", text)), text


def test_what_is_not_understood_is_refused():
    """A typing error in a record is found when its text is printed, not in the C compiler."""
    for expr in ("x $ y", "x +", "(x", "x y", "exp(x,", "? x", ""):
        with pytest.raises(ValueError, match="expression"):
            print_expr(expr, {"x": "x", "y": "y"}, "float32", "float32")
    for expr, dtype in (("x / y", "int32"), ("exp(x)", "int64"), ("x + 0.5", "int32"), ("pow(x, y)", "bool")):
        with pytest.raises(ValueError, match=r"int|bool"):
            print_expr(expr, {"x": "x", "y": "y"}, dtype, dtype)


def test_literals_are_exact(run_c):
    """Every constant comes back with the bits it went in with."""
    values = {d: edges(d) for d in ALL}
    values["float32"] = np.append(values["float32"], np.float32([0.1, 1 / 3, 16777216, 3.4028235e38]))

    def write(outs, ins, attrs, job):
        lines = [
            f"    {out.name}[{i}] = {literal(v.item(), out.dtype)};"
            for out in outs
            for i, v in enumerate(values[out.dtype])
        ]
        return [Phase("\n".join(lines))]

    outs = [np.empty_like(v) for v in values.values()]
    run_c(write, outs, [])
    for out, want in zip(outs, values.values(), strict=True):
        assert equal(out, want).all(), (out, want)
    assert literal(1e39, "float32") == "INFINITY"
    assert literal(math.nan, "float64") == "NAN"
    with pytest.raises(OverflowError):
        literal(256, "uint8")
