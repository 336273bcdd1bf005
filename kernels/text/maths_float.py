"""C text of the float32 functions that stay in float32: exponentials, logarithms, tanh, sigmoid, softplus, erf.

Polynomials are weighted minimax fits, made by iteratively reweighted least squares (C. L. Lawson, 1961) in
float64 on 600 Chebyshev nodes against 120-bit values; coefficients were rounded to float32 one after another,
lowest power first, and the others fitted again after each. "2**-28" beside a polynomial is the largest
relative error left, before rounding in its evaluation.

Every product that is added to something goes through fma, so a compiler that contracts a * b + c on its own
changes nothing here.
"""

from __future__ import annotations

BITS = """\
GN_INLINE uint32_t gn_bits(float x) { uint32_t u; __builtin_memcpy(&u, &x, 4); return u; }
GN_INLINE float gn_float(uint32_t u) { float x; __builtin_memcpy(&x, &u, 4); return x; }"""

REDUCE = """\
/* x - n * ln 2, with n the integer nearest to x / ln 2; the low bits of *shifted hold n */
GN_INLINE float gn_reduce(float x, float *shifted)
{
    *shifted = __builtin_fmaf(x, 1.44269502f, 12582912.0f); /* 1.5 * 2**23: the sum is rounded to an integer */
    float n = *shifted - 12582912.0f;
    float r = __builtin_fmaf(n, -0.693147182f, x);
    return __builtin_fmaf(n, 1.9046543e-09f, r);
}"""

EXP_PART = """\
/* e**r for |r| <= ln(2) / 2: 1 + r + r**2 * polynomial, 2**-28 */
GN_INLINE float gn_exp_part(float r)
{
    float s = r * r;
    float p = __builtin_fmaf(0.00138212589f, r, 0.00836866815f);
    p = __builtin_fmaf(p, s, __builtin_fmaf(0.0416682586f, r, 0.166665211f));
    p = __builtin_fmaf(p, r, 0.49999994f);
    return __builtin_fmaf(p, s, r) + 1.0f;
}"""

EXP = """\
GN_INLINE float gn_expf(float x)
{
    float shifted;
    float r = gn_reduce(x, &shifted);
    uint32_t n = gn_bits(shifted) - 0x4b400000u;
    uint32_t half = (uint32_t)((int32_t)n >> 1);
    /* 2**n in two factors, so that the product rounds once where it is denormal or overflows */
    float y = gn_exp_part(r) * gn_float((half << 23) + 0x3f800000u) * gn_float(((n - half) << 23) + 0x3f800000u);
    y = x > 89.0f ? INFINITY : y;
    return x < -104.0f ? 0.0f : y;
}"""

EXPM1_PART = """\
/* (e**x - 1) / 2 for x from -18 to 89: 2**(n - 1) * (e**r - 1) + (2**(n - 1) - 1/2); r + r**2 * polynomial, 2**-26 */
GN_INLINE float gn_expm1_half(float x)
{
    float shifted;
    float r = gn_reduce(x, &shifted);
    float p = __builtin_fmaf(0.00138703163f, r, 0.00836625602f);
    p = __builtin_fmaf(p, r, 0.041667439f);
    p = __builtin_fmaf(p, r, 0.166665465f);
    p = __builtin_fmaf(p, r, 0.49999997f);
    float power = gn_float((gn_bits(shifted) << 23) + 0x3f000000u);
    return __builtin_fmaf(p, r * r * power, __builtin_fmaf(power, r, power - 0.5f));
}"""

EXPM1 = """\
GN_INLINE float gn_expm1f(float x)
{
    float y = 2.0f * gn_expm1_half(x);
    y = x > 89.0f ? INFINITY : y;
    y = x < -18.0f ? -1.0f : y;
    return __builtin_fabsf(x) < 1e-10f ? x : y; /* denormals and -0 */
}"""

TANH = """\
/* e / (e + 1) with e = (e**(2|x|) - 1) / 2; what the rounded sum and quotient lost is added */
GN_INLINE float gn_tanhf(float x)
{
    float a = __builtin_fabsf(x);
    float e = gn_expm1_half(2.0f * a);
    float d = e + 1.0f;
    float inverse = 1.0f / d;
    float y = e * inverse;
    float rest = __builtin_fmaf(-y, d, e);
    rest = __builtin_fmaf(-y, e - (d - 1.0f), rest);
    y = __builtin_fmaf(rest, inverse, y);
    y = a > 10.0f ? 1.0f : y;
    return __builtin_copysignf(y, x);
}"""

SIGMOID = """\
GN_INLINE float gn_sigmoidf(float x) { return 1.0f / (1.0f + gn_expf(-x)); }"""

LOG_PART = """\
/* ln(1 + f) + n * ln 2 for 1 + f from sqrt(1/2) to sqrt(2): f - f**2 / 2 + f**3 * polynomial, 2**-27 */
GN_INLINE float gn_log_part(float f, float n)
{
    float p = __builtin_fmaf(-0.0763639957f, f, 0.127621993f);
    p = __builtin_fmaf(p, f, -0.131596133f);
    p = __builtin_fmaf(p, f, 0.142015815f);
    p = __builtin_fmaf(p, f, -0.166234091f);
    p = __builtin_fmaf(p, f, 0.200012416f);
    p = __builtin_fmaf(p, f, -0.250008196f);
    p = __builtin_fmaf(p, f, 0.333333313f);
    p = __builtin_fmaf(p, f, -0.5f) * f;
    float high = n * 0.693145752f; /* ln 2 to 16 bits: the product is exact */
    float sum = high + f;
    float rest = (high - sum) + f; /* what the sum lost */
    return sum + __builtin_fmaf(p, f, __builtin_fmaf(n, 1.42860682e-06f, rest));
}"""

LOG = """\
GN_INLINE float gn_logf(float x)
{
    float normal = x < 1.17549435e-38f ? x * 8388608.0f : x; /* denormals times 2**23 */
    uint32_t u = gn_bits(normal) - 0x3f3504f3u;              /* bits of sqrt(1/2) */
    float n = (float)((int32_t)u >> 23) + (x < 1.17549435e-38f ? -23.0f : 0.0f);
    float y = gn_log_part(gn_float((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f, n);
    y = x < INFINITY ? y : x;
    y = x == 0.0f ? -INFINITY : y;
    return x < 0.0f ? NAN : y;
}"""

LOG1P_PART = """\
/* ln(1 + x) for -1 < x < infinity but x = -0: the rounding error of 1 + x is made good */
GN_INLINE float gn_log1p_part(float x)
{
    float large = x > 1.0f ? x : 1.0f;
    float sum = 1.0f + x;
    float rest = (x > 1.0f ? 1.0f : x) - (sum - large);
    uint32_t u = gn_bits(sum) - 0x3f3504f3u;
    int32_t n = (int32_t)u >> 23;
    float power = gn_float(0x3f800000u - ((uint32_t)(n < 126 ? n : 126) << 23)); /* 2**-n; beyond, rest is nothing */
    return gn_log_part(__builtin_fmaf(rest, power, gn_float((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f), (float)n);
}"""

LOG1P = """\
GN_INLINE float gn_log1pf(float x)
{
    float y = gn_log1p_part(x);
    y = x < INFINITY ? y : x;
    y = x == -1.0f ? -INFINITY : y;
    y = x < -1.0f ? NAN : y;
    return __builtin_copysignf(y, x); /* -0 stays -0 */
}"""

SOFTPLUS = """\
GN_INLINE float gn_softplusf(float x)
{
    return (x > 0.0f ? x : 0.0f) + gn_log1p_part(gn_expf(-__builtin_fabsf(x)));
}"""

ERF = """\
/* below 1: x + x * polynomial(x**2), 2**-29; above: 1 - e**polynomial, 2**-29; from 4 on it is 1 */
GN_INLINE float gn_erff(float x)
{
    float a = __builtin_fabsf(x);
    float s = a * a;
    float p = __builtin_fmaf(7.80690316e-05f, s, -0.00079978531f);
    p = __builtin_fmaf(p, s, 0.0051871622f);
    p = __builtin_fmaf(p, s, -0.0268533472f);
    p = __builtin_fmaf(p, s, 0.112835787f);
    p = __builtin_fmaf(p, s, -0.37612626f);
    p = __builtin_fmaf(p, s, 0.128379166f);
    float small = __builtin_fmaf(p, a, a);
    float q = __builtin_fmaf(0.000186390185f, a, -0.00294773746f);
    q = __builtin_fmaf(q, a, 0.0218382869f);
    q = __builtin_fmaf(q, a, -0.103107065f);
    q = __builtin_fmaf(q, a, -0.638144612f);
    q = __builtin_fmaf(q, a, -1.12708926f);
    q = __builtin_fmaf(q, a, -0.000341515988f);
    float shifted;
    float r = gn_reduce(q, &shifted);
    float y = 1.0f - gn_exp_part(r) * gn_float((gn_bits(shifted) << 23) + 0x3f800000u);
    y = a > 4.0f ? 1.0f : y;
    y = a < 1.0f ? small : y;
    return __builtin_copysignf(y, x);
}"""
