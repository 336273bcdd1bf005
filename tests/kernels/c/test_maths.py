"""The float32 functions keep the error bounds that their docstring states, at every magnitude and special value."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess

import numpy as np
import pytest
from scipy import special

from graphnet.kernels.c.phase import Phase
from graphnet.kernels.c.prelude import FLAGS, HEADER
from graphnet.kernels.text import maths

COMPILER = shlex.split(os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") or "")
EXACT = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x < -88.722836, 0, special.expit(x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "erf": special.erf,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
}
BOUNDS = {name: float(ulp) for name, ulp in re.findall(r"^    (\w+) +(\d\.\d\d) ", maths.__doc__, re.MULTILINE)}
SPECIAL = [0, -0.0, 1, -1, 0.5, 2, -2, 3, -3, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754942e-38, -1e-30]
SPECIAL += [3.4e38, -3.4e38, 88.72283, 88.72284, -103.97, -103.98, -104, 89, 1e10, -1e10, -17.3, -18.1, 4, -4, 2.5]
SPECIAL += [2.0**45, 2.0**66, 2.0**87, 2.0**108, 2.0**127, 1 + 2.0**-23, 1 - 2.0**-24, -1 + 2.0**-24, 1e-10, 10.1]


def patterns(count):
    """Floats of evenly spaced bit patterns: all signs and exponents, NaNs, denormals."""
    return (np.arange(count, dtype=np.uint64) * (2**32 // count) + 77).astype(np.uint32).view(np.float32)


def ulps(got, exact):
    """Distance from ``exact`` (float64) in units of float32's last place there; infinite where kinds differ."""
    with np.errstate(all="ignore"):
        nearest = exact.astype(np.float32)
        exponent = np.frexp(np.maximum(np.abs(exact), 2.0**-126))[1]
        distance = np.abs(got.astype(np.float64) - exact) / np.ldexp(1.0, np.minimum(exponent, 128) - 24)
    distance[np.isnan(got) & np.isnan(exact)] = 0
    distance[np.isinf(nearest) & (got == nearest)] = 0
    distance[(nearest == 0) & (got == 0) & (np.signbit(got) != np.signbit(nearest))] = np.inf
    return np.where(np.isnan(distance), np.inf, distance)


def mapped(calls):
    """A writer of one loop for each out: out[i] = call, an expression of x and y at i."""

    def write(outs, ins, attrs, job):
        loads = "".join(f"const float {n} = {v.name}[i]; " for n, v in zip("xy", ins, strict=False))
        lines = [
            f"    for (long i = 0; i < {out.size}; ++i) {{ {loads}{out.name}[i] = {call}; }}"
            for out, call in zip(outs, calls, strict=True)
        ]
        names = dict.fromkeys(re.findall(r"gn_\w+", " ".join(calls)))
        return [Phase("\n".join(lines), helpers=maths.definitions(names))]

    return write


@pytest.fixture(scope="module")
def results(run_c):
    """x, and each function's results on it."""
    ranges = [np.linspace(-a, a, 1 << 19) for a in (1, 10, 100)] + [1 + np.linspace(-0.5, 1, 1 << 17)]
    x = np.concatenate([patterns(1 << 21), *(r.astype(np.float32) for r in ranges), np.array(SPECIAL, np.float32)])
    outs = [np.empty_like(x) for _ in EXACT]
    run_c(mapped([f"gn_{name}f(x)" for name in EXACT]), outs, [x])
    return x, dict(zip(EXACT, outs, strict=True))


def test_the_docstring_has_a_bound_for_every_function_and_none_exceeds_4():
    """Each function of float32 that is not the C library's has a row."""
    own = {n[3:-1] for n in maths._DEFINED if re.fullmatch(r"gn_[a-z0-9]+f", n)}
    assert set(BOUNDS) == own == {*EXACT, "pow"}
    assert max(BOUNDS.values()) < 4


@pytest.mark.parametrize("name", EXACT)
def test_errors_stay_below_the_stated_bound(results, name):
    """Against float64, from denormals to overflow, with NaN, infinities and signed zeros where they belong."""
    x, got = results
    with np.errstate(all="ignore"):
        distance = ulps(got[name], EXACT[name](x.astype(np.float64)))
    worst = distance.argmax()
    assert distance[worst] <= BOUNDS[name], f"{name}({x[worst]!r}) = {got[name][worst]!r}"


def test_the_meter_sees_a_wrong_bit():
    """One ulp off is one ulp; NaN for a number, a number for NaN and the wrong sign of zero are infinitely wrong."""
    exact = np.array([1.0, 3e-39, 0.0, np.nan, 1e39])
    near = np.float32([1 + 2.0**-23, 3e-39 + 2.0**-149, 0, np.nan, np.inf])
    assert np.allclose(ulps(near, exact), [1, 1, 0, 0, 0], rtol=0, atol=0.6)
    wrong = np.float32([np.nan, np.inf, -0.0, 1, np.nan])
    assert np.isinf(ulps(wrong, exact)).all()
    assert ulps(np.float32([3e38]), np.array([1e39]))[0] > 1e6


def test_powers(run_c):
    """pow over the whole plane, near one, with whole exponents of negative bases, and in C's special cases."""
    rng = np.random.default_rng(3)
    n = 1 << 19
    x, y = rng.permutation(patterns(n)), rng.permutation(patterns(n))
    base = np.abs(rng.permutation(patterns(n)))
    with np.errstate(all="ignore"):
        inside = (rng.uniform(-150, 130, n) / np.log2(base.astype(np.float64))).astype(np.float32)
    whole = rng.integers(-20, 20, n).astype(np.float32)
    edges = np.array(
        [0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 3, -3, np.inf, -np.inf, np.nan, 2.0**24, 1e-45, -3e38], np.float32
    )
    grid = np.meshgrid(edges, edges)
    bases = np.concatenate([x, base, rng.uniform(-30, 30, n).astype(np.float32), grid[0].ravel()])
    exponents = np.concatenate([y, inside, whole, grid[1].ravel()])
    out = np.empty_like(bases)
    run_c(mapped(["gn_powf(x, y)"]), [out], [bases, exponents])
    with np.errstate(all="ignore"):
        distance = ulps(out, np.power(bases.astype(np.float64), exponents.astype(np.float64)))
    worst = distance.argmax()
    assert distance[worst] <= BOUNDS["pow"], f"pow({bases[worst]!r}, {exponents[worst]!r}) = {out[worst]!r}"


def test_division_as_numpy_does(run_c):
    """Remainder and floor division of floats equal NumPy's in every bit, signs of zero included."""
    values = [0, -0.0, 1, -1, 0.1, -0.1, 0.3, 7, -7, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-45, 3e38, 1e10, -1e10]
    x, y = (a.ravel().copy() for a in np.meshgrid(np.float32(values), np.float32(values)))
    x = np.concatenate([x, np.linspace(-50, 50, 3001, dtype=np.float32)])
    y = np.concatenate([y, np.tile(np.float32([0.1, -0.1, 3]), 1001)[:3001]])
    outs = [np.empty_like(x), np.empty_like(x)]
    run_c(mapped(["gn_mod_float32(x, y)", "gn_floor_div_float32(x, y)"]), outs, [x, y])
    with np.errstate(all="ignore"):
        for out, function in zip(outs, (np.remainder, np.floor_divide), strict=True):
            want = function(x, y)
            same = (out == want) & (np.signbit(out) == np.signbit(want)) | (np.isnan(out) & np.isnan(want))
            assert same.all(), (function, x[~same][:5], y[~same][:5], out[~same][:5], want[~same][:5])


def test_the_same_bits_without_vectors_and_with_contraction(results, tmp_path):
    """Plain code, and code whose products and sums the compiler may fuse, give what the vectorised loops give."""
    x, got = results
    x = x[:: x.size // 50000].copy()
    lines = [HEADER, maths.prelude(f"gn_{name}f" for name in EXACT)]
    for name in EXACT:
        loop = f"for (long i = 0; i < n; ++i) y[i] = gn_{name}f(x[i]);"
        lines.append(f"void {name}_loop(float *y, const float *x, long n) {{ {loop} }}")
    source = tmp_path / "plain.c"
    source.write_text("\n".join(lines))
    fast = [f for f in FLAGS if not f.startswith("-ffp-contract")] + ["-ffp-contract=fast", "-march=native"]
    for number, flags in enumerate((["-std=gnu11", "-O1", "-ffp-contract=off"], fast)):
        library = tmp_path / f"plain{number}.so"
        subprocess.run([*COMPILER, *flags, "-shared", "-fPIC", source, "-o", library, "-lm"], check=True)
        loaded = ctypes.CDLL(str(library))
        for name in EXACT:
            y = np.empty_like(x)
            pointers = [ctypes.c_void_p(a.ctypes.data) for a in (y, x)]
            getattr(loaded, f"{name}_loop")(*pointers, ctypes.c_long(x.size))
            want = got[name][:: got[name].size // 50000]
            assert ((y.view(np.uint32) == want.view(np.uint32)) | (np.isnan(y) & np.isnan(want))).all(), name


def test_definitions_come_before_their_users_and_once():
    """Asking for several functions gives each shared part once, in an order that compiles."""
    texts = maths.definitions(["gn_softplusf", "gn_expf", "gn_logf", "sqrtf"])
    assert len(texts) == len(set(texts))
    assert maths.prelude(["gn_softplusf", "gn_expf", "gn_logf"]) == "\n".join(texts)
    defined = set()
    for text in texts:
        own = set(re.findall(r"^GN_INLINE \w+ (gn_\w+)\(", text, re.MULTILINE))
        assert set(re.findall(r"gn_\w+", text)) <= defined | own
        defined |= own
    assert maths.definitions(["sqrtf"]) == ()
    assert maths.is_defined("gn_expf")
    assert not maths.is_defined("expf")
