"""Scalar functions in C that expressions call: which exist, how exact they are, and their text.

float32 functions are branch-free, so that a loop over them vectorises, and use IEEE operations, fma and bit
patterns only: they give the same bits on every machine, whatever the compiler vectorises or contracts.
(Without an fma instruction they are as right, but slow.) The largest error found, in ulp of the exact result,
over every seventh float32 (pow: 2**26 pairs); results may be denormal; NaN, infinities, overflow and the sign of
zero are as in C:

    function    ulp     how
    exp         1.01    2**n * polynomial
    expm1       1.29    the same, with the constant term kept apart
    log         0.87    polynomial about 1
    log1p       1.46    the same, with the rounding error of 1 + x
    tanh        1.63    e / (e + 1) with e = expm1(2x) / 2, corrected
    sigmoid     2.45    1 / (1 + exp(-x)); 0 below -88.72, where exp(-x) overflows, as the formula says
    softplus    1.71    max(x, 0) + log1p(exp(-|x|))
    erf         1.08    x * polynomial below 1, 1 - exp(polynomial) above
    sin         0.51    in double, the argument reduced exactly enough for every float32
    cos         0.51    likewise
    tan         0.51    likewise
    pow         0.55    in double

sqrt, fabs, floor, ceil and round are exact. Polynomials and how they were fitted: maths_float.py,
maths_wide.py. The other functions of float32 (sinh, cosh, asin, acos, atan, asinh, acosh, atanh, atan2) and
all of float64 are the C library's, one call an element: their last bits are the library's. Floor division,
remainders and integer powers follow NumPy; a negative power of an integer, an error there, loses its fraction
here.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphnet.kernels.text import maths_float as f
from graphnet.kernels.text import maths_wide as w
from graphnet.kernels.text.view import CTYPES

_UNSIGNED = {"int32": "uint32_t", "int64": "uint64_t", "uint8": "uint32_t", "uint32": "uint32_t", "uint64": "uint64_t"}

_FLOAT_DIVISION = """\
/* Python's floor division and remainder, as NumPy computes them */
GN_INLINE {c} gn_mod_{dtype}({c} x, {c} y)
{{
    {c} r = fmod{f}(x, y);
    if (r == 0)
        return copysign{f}(({c})0, y);
    return (r < 0) != (y < 0) ? r + y : r;
}}
GN_INLINE {c} gn_floor_div_{dtype}({c} x, {c} y)
{{
    if (y == 0)
        return x / y;
    {c} r = fmod{f}(x, y);
    {c} q = (x - r) / y;
    if (r != 0 && (r < 0) != (y < 0))
        q -= 1;
    if (q == 0)
        return copysign{f}(({c})0, x / y);
    {c} whole = floor{f}(q);
    return q - whole > ({c})0.5 ? whole + 1 : whole;
}}"""

_EXTREMA = """\
/* NaN if either is, x where they are equal; in two steps, because gcc 12 vectorises no chain of x >= y || x != x */
GN_INLINE {c} gn_maximum_{dtype}({c} x, {c} y)
{{
    {c} larger = x < y ? y : x;
    return y != y ? y : larger;
}}
GN_INLINE {c} gn_minimum_{dtype}({c} x, {c} y)
{{
    {c} smaller = x > y ? y : x;
    return y != y ? y : smaller;
}}"""

_SIGNED_DIVISION = """\
/* rounded towards minus infinity; 0 where y is 0, and the smallest number divided by -1 is itself */
GN_INLINE {c} gn_floor_div_{dtype}({c} x, {c} y)
{{
    if (y == 0)
        return 0;
    if (y == -1)
        return ({c})(0 - ({u})x);
    return x / y - (x % y != 0 && (x < 0) != (y < 0));
}}
GN_INLINE {c} gn_mod_{dtype}({c} x, {c} y)
{{
    if (y == 0 || y == -1)
        return 0;
    {c} r = x % y;
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}}"""

_UNSIGNED_DIVISION = """\
GN_INLINE {c} gn_floor_div_{dtype}({c} x, {c} y) {{ return y == 0 ? 0 : x / y; }}
GN_INLINE {c} gn_mod_{dtype}({c} x, {c} y) {{ return y == 0 ? 0 : x % y; }}"""

_SIGNED_POWER = """\
GN_INLINE {c} gn_pow_{dtype}({c} x, {c} y)
{{
    if (y < 0) /* 1 / x**-y without its fraction */
        return x == 1 || x == -1 ? (y & 1 ? x : 1) : 0;
    {u} power = 1, base = ({u})x;
    for ({u} n = ({u})y; n; n >>= 1, base *= base)
        power *= n & 1 ? base : 1;
    return ({c})power;
}}"""

_UNSIGNED_POWER = """\
GN_INLINE {c} gn_pow_{dtype}({c} x, {c} y)
{{
    {u} power = 1, base = x;
    for ({u} n = y; n; n >>= 1, base *= base)
        power *= n & 1 ? base : 1;
    return ({c})power;
}}"""

_TO_SIGNED = """\
/* truncates; the smallest {to} where x is NaN or out of range */
GN_INLINE {t} gn_{to}_from_{dtype}({c} x)
{{
    return x >= -{limit} && x < {limit} ? ({t})x : {to_upper}_MIN;
}}"""

_TO_UNSIGNED = """\
/* truncates, modulo 2**{bits}; 0 where x is NaN or does not fit {wide} */
GN_INLINE {t} gn_{to}_from_{dtype}({c} x) {{ return ({t})gn_{wide}_from_{dtype}(x); }}"""

_TO_UINT64 = """\
/* truncates, negative numbers modulo 2**64; 2**63 where x is NaN or below -2**63, 0 from 2**64 on */
GN_INLINE uint64_t gn_uint64_from_{dtype}({c} x)
{{
    uint64_t half = (uint64_t)1 << 63;
    return x >= {limit} ? (uint64_t)gn_int64_from_{dtype}(x - {limit}) ^ half : (uint64_t)gn_int64_from_{dtype}(x);
}}"""


def _float32() -> dict[str, tuple[tuple[str, ...], str]]:
    reduced, logs, quarter = ("gn_reduce", "gn_exp_part"), ("gn_log_part",), ("gn_quarter",)
    return {
        "gn_bits": ((), f.BITS),
        "gn_reduce": (("gn_bits",), f.REDUCE),
        "gn_exp_part": ((), f.EXP_PART),
        "gn_expf": (reduced, f.EXP),
        "gn_expm1_half": (("gn_reduce",), f.EXPM1_PART),
        "gn_expm1f": (("gn_expm1_half",), f.EXPM1),
        "gn_tanhf": (("gn_expm1_half",), f.TANH),
        "gn_sigmoidf": (("gn_expf",), f.SIGMOID),
        "gn_log_part": (("gn_bits",), f.LOG_PART),
        "gn_logf": (logs, f.LOG),
        "gn_log1p_part": (logs, f.LOG1P_PART),
        "gn_log1pf": (("gn_log1p_part",), f.LOG1P),
        "gn_softplusf": (("gn_expf", "gn_log1p_part"), f.SOFTPLUS),
        "gn_erff": (reduced, f.ERF),
        "gn_wide_bits": ((), w.WIDE_BITS),
        "gn_quarter": (("gn_wide_bits",), w.QUARTER),
        "gn_sinf": (quarter, w.SIN),
        "gn_cosf": (quarter, w.COS),
        "gn_tanf": (quarter, w.TAN),
        "gn_pow_parts": (("gn_bits", "gn_wide_bits"), w.POW_PARTS),
        "gn_powf": (("gn_pow_parts",), w.POW),
    }


def _integers() -> dict[str, tuple[tuple[str, ...], str]]:
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for dtype, unsigned in _UNSIGNED.items():
        names = {"c": CTYPES[dtype], "u": unsigned, "dtype": dtype}
        signed = dtype.startswith("int")
        division = (_SIGNED_DIVISION if signed else _UNSIGNED_DIVISION).format(**names)
        found[f"gn_floor_div_{dtype}"] = found[f"gn_mod_{dtype}"] = ((), division)
        found[f"gn_pow_{dtype}"] = ((), (_SIGNED_POWER if signed else _UNSIGNED_POWER).format(**names))
    return found


def _floats() -> dict[str, tuple[tuple[str, ...], str]]:
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for dtype, suffix in (("float32", "f"), ("float64", "")):
        names = {"c": CTYPES[dtype], "dtype": dtype}
        division = _FLOAT_DIVISION.format(f=suffix, **names)
        found[f"gn_floor_div_{dtype}"] = found[f"gn_mod_{dtype}"] = ((), division)
        extrema = _EXTREMA.format(**names)
        found[f"gn_maximum_{dtype}"] = found[f"gn_minimum_{dtype}"] = ((), extrema)
        for to, bits in (("int32", 31), ("int64", 63)):
            more = {"to": to, "to_upper": to.upper(), "t": CTYPES[to], "limit": f"0x1p{bits}{suffix}"}
            found[f"gn_{to}_from_{dtype}"] = ((), _TO_SIGNED.format(**names, **more))
        for to, wide, bits in (("uint8", "int32", 8), ("uint32", "int64", 32)):
            text = _TO_UNSIGNED.format(**names, to=to, t=CTYPES[to], wide=wide, bits=bits)
            found[f"gn_{to}_from_{dtype}"] = ((f"gn_{wide}_from_{dtype}",), text)
        text = _TO_UINT64.format(**names, limit=f"0x1p63{suffix}")
        found[f"gn_uint64_from_{dtype}"] = ((f"gn_int64_from_{dtype}",), text)
    return found


_DEFINED = _float32() | _integers() | _floats()


def is_defined(name: str) -> bool:
    """True if ``name`` is a function of this module, not of the C library."""
    return name in _DEFINED


def definitions(names: Iterable[str]) -> tuple[str, ...]:
    """C texts that define these functions and what they need, in an order that compiles; each is one helper.

    Names that the C library defines are left out.
    """
    found: dict[str, None] = {}
    for name in names:
        if name in _DEFINED:
            needs, text = _DEFINED[name]
            found |= dict.fromkeys((*definitions(needs), text))
    return tuple(found)


def prelude(names: Iterable[str]) -> str:
    """The definitions of these functions as one text."""
    return "\n".join(definitions(names))
