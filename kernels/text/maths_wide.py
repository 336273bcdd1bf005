"""C text of the float32 functions that compute in double: sine, cosine, tangent, power.

Only the last step rounds to float32, so they are hardly ever not the nearest number. Polynomials were fitted
as those of maths_float.py, with coefficients in double.
"""

from __future__ import annotations

WIDE_BITS = """\
GN_INLINE uint64_t gn_wide_bits(double x) { uint64_t u; __builtin_memcpy(&u, &x, 8); return u; }
GN_INLINE double gn_double(uint64_t u) { double x; __builtin_memcpy(&x, &u, 8); return x; }"""

QUARTER = """\
/* x - n * pi / 2 in [-pi / 4, pi / 4]; the low two bits of *count are those of n.
   Large x is m * 2**k with k one of 21, 42, 63, 84; 2**k modulo 2 pi is a constant, high + low. */
GN_INLINE double gn_quarter(float x, uint64_t *count)
{
    double a = __builtin_fabs((double)x), m = x, high = 1.0, low = 0.0;
    m = a >= 0x1p45 ? x * 0x1p-21 : m;
    high = a >= 0x1p45 ? 0.67365205506242365 : high;
    low = a >= 0x1p45 ? 4.3995456553826349e-17 : low;
    m = a >= 0x1p66 ? x * 0x1p-42 : m;
    high = a >= 0x1p66 ? 1.6710001706720203 : high;
    low = a >= 0x1p66 ? -3.0730019410881768e-17 : low;
    m = a >= 0x1p87 ? x * 0x1p-63 : m;
    high = a >= 0x1p87 ? 1.5589959764209427 : high;
    low = a >= 0x1p87 ? 2.3305239782266665e-17 : low;
    m = a >= 0x1p108 ? x * 0x1p-84 : m;
    high = a >= 0x1p108 ? 2.3385375421782348 : high;
    low = a >= 0x1p108 ? -8.1071643985126086e-17 : low;
    double p = m * high;
    double p_rest = __builtin_fma(m, high, -p);
    double shifted = __builtin_fma(p, 0.63661977236758138, 6755399441055744.0); /* 1.5 * 2**52: rounds */
    double n = shifted - 6755399441055744.0;
    double q = n * 1.5707963267948966;
    double q_rest = __builtin_fma(n, 1.5707963267948966, -q);
    double rest = __builtin_fma(n, -6.123233995736766e-17, p_rest - q_rest);
    *count = gn_wide_bits(shifted);
    return (p - q) + __builtin_fma(m, low, rest);
}
/* sin r and, of s = r**2, cos r for |r| <= pi / 4; relative error 2**-37 and 2**-33 */
GN_INLINE double gn_sin_part(double r, double s)
{
    double p = __builtin_fma(2.7181141483896762e-06, s, -0.00019839311489129068);
    p = __builtin_fma(p, s, 0.0083333293024321926);
    p = __builtin_fma(p, s, -0.1666666664077642);
    return __builtin_fma(p * s, r, r);
}
GN_INLINE double gn_cos_part(double s)
{
    double p = __builtin_fma(2.4433082686569236e-05, s, -0.0013887315616269488);
    p = __builtin_fma(p, s, 0.04166664567014966);
    p = __builtin_fma(p, s, -0.5);
    return __builtin_fma(p, s, 1.0);
}"""

SIN = """\
GN_INLINE float gn_sinf(float x)
{
    uint64_t n;
    double r = gn_quarter(x, &n);
    double y = n & 1 ? gn_cos_part(r * r) : gn_sin_part(r, r * r);
    y = gn_double(gn_wide_bits(y) ^ (n & 2) << 62);
    return x == 0.0f ? x : (float)y; /* -0 stays -0 */
}"""

COS = """\
GN_INLINE float gn_cosf(float x)
{
    uint64_t n;
    double r = gn_quarter(x, &n);
    double y = n & 1 ? gn_sin_part(r, r * r) : gn_cos_part(r * r);
    return (float)gn_double(gn_wide_bits(y) ^ ((n + 1) & 2) << 62);
}"""

TAN = """\
GN_INLINE float gn_tanf(float x)
{
    uint64_t n;
    double r = gn_quarter(x, &n);
    double a = gn_sin_part(r, r * r), b = gn_cos_part(r * r);
    double y = (n & 1 ? -b : a) / (n & 1 ? a : b);
    return x == 0.0f ? x : (float)y; /* -0 stays -0 */
}"""

POW_PARTS = """\
/* log2 of a finite a > 0: (1 + f) * 2**n with 1 + f from sqrt(1/2) to sqrt(2), f * polynomial, 2**-35 */
GN_INLINE double gn_log2_wide(float a)
{
    float normal = a < 1.17549435e-38f ? a * 8388608.0f : a; /* denormals times 2**23 */
    uint32_t u = gn_bits(normal) - 0x3f3504f3u;              /* bits of sqrt(1/2) */
    float n = (float)((int32_t)u >> 23) + (a < 1.17549435e-38f ? -23.0f : 0.0f);
    double f = gn_float((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
    double p = __builtin_fma(0.077370558931446357, f, -0.14283945130273767);
    p = __builtin_fma(p, f, 0.14474841270662103);
    p = __builtin_fma(p, f, -0.14315642462696632);
    p = __builtin_fma(p, f, 0.15876980199931001);
    p = __builtin_fma(p, f, -0.18030060499738002);
    p = __builtin_fma(p, f, 0.20617535970510056);
    p = __builtin_fma(p, f, -0.24045316542865394);
    p = __builtin_fma(p, f, 0.2885372934574863);
    p = __builtin_fma(p, f, -0.3606736748309104);
    p = __builtin_fma(p, f, 0.48089836139568709);
    p = __builtin_fma(p, f, -0.72134752086874177);
    p = __builtin_fma(p, f, 1.4426950408687047);
    return __builtin_fma(p, f, (double)n);
}
/* 2**t: 2**n * polynomial(t - n), 2**-29 */
GN_INLINE float gn_exp2_wide(double t)
{
    double shifted = t + 6755399441055744.0; /* 1.5 * 2**52: rounds to an integer */
    double r = t - (shifted - 6755399441055744.0);
    double p = __builtin_fma(0.00015476323790947726, r, 0.0013400296371664689);
    p = __builtin_fma(p, r, 0.0096180038118719932);
    p = __builtin_fma(p, r, 0.055503277247243486);
    p = __builtin_fma(p, r, 0.24022651346482971);
    p = __builtin_fma(p, r, 0.69314720627903526);
    p = __builtin_fma(p, r, 1.0);
    p = p * gn_double((gn_wide_bits(shifted) << 52) + 0x3ff0000000000000u);
    p = t > 130.0 ? (double)INFINITY : p;
    return (float)(t < -152.0 ? 0.0 : p);
}"""

POW = """\
/* 2**(y * log2|x|) and C's special cases. They are chosen by bit masks: gcc 12 does not vectorise conditions on x
   and y together where one of the two is the same for all elements. */
GN_INLINE uint32_t gn_choose(int condition, uint32_t yes, uint32_t no)
{
    uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}
GN_INLINE float gn_powf(float x, float y)
{
    float a = __builtin_fabsf(x), half = 0.5f * y;
    int whole = rintf(y) == y, odd = whole & (rintf(half) != half);
    int inside = gn_bits(a) - 1 < 0x7f7fffffu; /* 0 < a < infinity */
    uint32_t z = gn_bits(gn_exp2_wide(gn_log2_wide(a) * y));
    z = gn_choose(inside, z, gn_choose((a == 0.0f) == (y < 0.0f), 0x7f800000u, 0u));
    z = gn_choose(a == 1.0f, 0x3f800000u, z);
    uint32_t negative = gn_choose(inside & !whole, 0x7fc00000u, z ^ (uint32_t)odd << 31);
    z = gn_choose(gn_bits(x) >> 31 != 0, negative, z);
    z = gn_choose(__builtin_isunordered(x, y), 0x7fc00000u, z);
    return gn_float(gn_choose((x == 1.0f) | (y == 0.0f), 0x3f800000u, z));
}"""
