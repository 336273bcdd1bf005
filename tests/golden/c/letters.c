/* letters:training: 41 steps, arena 140,160 B, 2 threads
 * Written by graphnet. Positions, buffers and formulas are those of the schedule. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__)
#define GN_CONTRACT
#define GN_CONTRACTED _Pragma("clang fp contract(fast)")
#else
#define GN_CONTRACT __attribute__((optimize("fp-contract=fast")))
#define GN_CONTRACTED
#endif
#define GN_INLINE static inline __attribute__((always_inline, unused))
#define GN_ALIGNED __attribute__((aligned(64)))

#define THREADS 2
/* where the share of thread t begins */
#define CUT(units, t) ((long)(units) * (t) / THREADS)

struct net {
    char *A;                /* the arena */
    int (*parallel)(void (*work)(void *, int), void *argument, int threads);
    void (*barrier)(void);
    int64_t part;           /* what to run: 0 for all */
    int64_t failed, step, value, rows;
    char *H[28];
};

/* Notes the first index that was out of range; nothing is written to parameters after it. */
__attribute__((unused)) static void gn_fail(struct net *net, int step, int64_t value, int64_t rows)
{
    int64_t none = 0;
    if (__atomic_compare_exchange_n(&net->failed, &none, 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        net->step = step;
        net->value = value;
        net->rows = rows;
    }
}
#define GN_FAIL(index, count) gn_fail(net, gn_step, (index), (count))

/* memory that outlives a call:
 *   H[0] input ids, 640 B
 *   H[1] state letters/lstm_1/h, 2,048 B
 *   H[2] state letters/lstm_1/c, 2,048 B
 *   H[3] param letters/lstm_1/wh, 4,096 B
 *   H[4] param letters/embedding_1/w, 448 B
 *   H[5] param letters/lstm_1/wx, 4,096 B
 *   H[6] param letters/lstm_1/b, 256 B
 *   H[7] param letters/dense_1/w, 448 B
 *   H[8] param letters/dense_1/b, 28 B
 *   H[9] input target, 640 B
 *   H[10] slot optimizer/t, 4 B
 *   H[11] hyper optimizer/beta1, 8 B
 *   H[12] hyper optimizer/lr, 8 B
 *   H[13] hyper optimizer/beta2, 8 B
 *   H[14] slot m/letters/dense_1/b, 28 B
 *   H[15] hyper optimizer/clip_norm, 8 B
 *   H[16] slot v/letters/dense_1/b, 28 B
 *   H[17] hyper optimizer/eps, 8 B
 *   H[18] slot m/letters/dense_1/w, 448 B
 *   H[19] slot v/letters/dense_1/w, 448 B
 *   H[20] slot m/letters/lstm_1/wh, 4,096 B
 *   H[21] slot v/letters/lstm_1/wh, 4,096 B
 *   H[22] slot m/letters/lstm_1/b, 256 B
 *   H[23] slot v/letters/lstm_1/b, 256 B
 *   H[24] slot m/letters/lstm_1/wx, 4,096 B
 *   H[25] slot v/letters/lstm_1/wx, 4,096 B
 *   H[26] slot m/letters/embedding_1/w, 448 B
 *   H[27] slot v/letters/embedding_1/w, 448 B
 */
/* One copy, called: else gcc makes one for every set of arguments, which costs compile time. */
#if defined(__clang__)
#define GN_ONCE static __attribute__((noinline, unused))
#else
#define GN_ONCE static __attribute__((noipa, unused))
#endif
/* Keeps a vector in its register: what it holds cannot be loaded again, or foreseen. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX__)
#define GN_KEEP(x) __asm__("" : "+x"(x))
#else
#define GN_KEEP(x) (void)0
#endif
typedef float gn_vfloat
    __attribute__((vector_size(32), aligned(4), may_alias));
#define GN_VFLOAT(p) (*(gn_vfloat *)(p))
typedef double gn_vdouble
    __attribute__((vector_size(32), aligned(8), may_alias));
#define GN_VDOUBLE(p) (*(gn_vdouble *)(p))

GN_CONTRACT GN_ONCE void gn_tile_7x1_float(long K, const float *restrict a,
    const float *restrict b, float *restrict t, int add, long ai, long ak, long bk, long ti)
{
    GN_CONTRACTED
    gn_vfloat c0_0 = {0};
    gn_vfloat c1_0 = {0};
    gn_vfloat c2_0 = {0};
    gn_vfloat c3_0 = {0};
    gn_vfloat c4_0 = {0};
    gn_vfloat c5_0 = {0};
    gn_vfloat c6_0 = {0};
    if (add) {
        c0_0 = GN_VFLOAT(t + 0);
        c1_0 = GN_VFLOAT(t + ti);
        c2_0 = GN_VFLOAT(t + 2 * ti);
        c3_0 = GN_VFLOAT(t + 3 * ti);
        c4_0 = GN_VFLOAT(t + 4 * ti);
        c5_0 = GN_VFLOAT(t + 5 * ti);
        c6_0 = GN_VFLOAT(t + 6 * ti);
    }
    for (long k = 0; k < K; ++k) {
        const float *x = a + k * ak, *y = b + k * bk;
        gn_vfloat b0 = GN_VFLOAT(y + 0);
        float s;
        s = x[0]; c0_0 += s * b0;
        s = x[ai]; c1_0 += s * b0;
        s = x[2 * ai]; c2_0 += s * b0;
        s = x[3 * ai]; c3_0 += s * b0;
        s = x[4 * ai]; c4_0 += s * b0;
        s = x[5 * ai]; c5_0 += s * b0;
        s = x[6 * ai]; c6_0 += s * b0;
    }
    GN_VFLOAT(t + 0) = c0_0;
    GN_VFLOAT(t + ti) = c1_0;
    GN_VFLOAT(t + 2 * ti) = c2_0;
    GN_VFLOAT(t + 3 * ti) = c3_0;
    GN_VFLOAT(t + 4 * ti) = c4_0;
    GN_VFLOAT(t + 5 * ti) = c5_0;
    GN_VFLOAT(t + 6 * ti) = c6_0;
}

/* no iteration of the loop that follows reads what another one writes */
#if defined(__GNUC__) && !defined(__clang__)
#define GN_INDEPENDENT _Pragma("GCC ivdep")
#else
#define GN_INDEPENDENT
#endif
/* The row that an index means: counted from the end if negative, row 0 if it is out of range. */
GN_INLINE long gn_row(int64_t index, int64_t rows)
{
    index += index < 0 ? rows : 0;
    return (uint64_t)index < (uint64_t)rows ? (long)index : 0;
}

GN_INLINE uint32_t gn_bits(float x) { uint32_t u; __builtin_memcpy(&u, &x, 4); return u; }
GN_INLINE float gn_float(uint32_t u) { float x; __builtin_memcpy(&x, &u, 4); return x; }
/* x - n * ln 2, with n the integer nearest to x / ln 2; the low bits of *shifted hold n */
GN_INLINE float gn_reduce(float x, float *shifted)
{
    *shifted = __builtin_fmaf(x, 1.44269502f, 12582912.0f); /* 1.5 * 2**23: the sum is rounded to an integer */
    float n = *shifted - 12582912.0f;
    float r = __builtin_fmaf(n, -0.693147182f, x);
    return __builtin_fmaf(n, 1.9046543e-09f, r);
}
/* e**r for |r| <= ln(2) / 2: 1 + r + r**2 * polynomial, 2**-28 */
GN_INLINE float gn_exp_part(float r)
{
    float s = r * r;
    float p = __builtin_fmaf(0.00138212589f, r, 0.00836866815f);
    p = __builtin_fmaf(p, s, __builtin_fmaf(0.0416682586f, r, 0.166665211f));
    p = __builtin_fmaf(p, r, 0.49999994f);
    return __builtin_fmaf(p, s, r) + 1.0f;
}
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
}
GN_INLINE float gn_sigmoidf(float x) { return 1.0f / (1.0f + gn_expf(-x)); }
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
}
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
}
GN_CONTRACT GN_ONCE void gn_tile_2x4_float(long K, const float *restrict a,
    const float *restrict b, float *restrict t, int add, long ai, long ak, long bk, long ti)
{
    GN_CONTRACTED
    gn_vfloat c0_0 = {0}, c0_1 = {0}, c0_2 = {0}, c0_3 = {0};
    gn_vfloat c1_0 = {0}, c1_1 = {0}, c1_2 = {0}, c1_3 = {0};
    if (add) {
        c0_0 = GN_VFLOAT(t + 0); c0_1 = GN_VFLOAT(t + 8); c0_2 = GN_VFLOAT(t + 16); c0_3 = GN_VFLOAT(t + 24);
        c1_0 = GN_VFLOAT(t + ti); c1_1 = GN_VFLOAT(t + ti + 8); c1_2 = GN_VFLOAT(t + ti + 16); c1_3 = GN_VFLOAT(t + ti + 24);
    }
    for (long k = 0; k < K; ++k) {
        const float *x = a + k * ak, *y = b + k * bk;
        gn_vfloat b0 = GN_VFLOAT(y + 0), b1 = GN_VFLOAT(y + 8), b2 = GN_VFLOAT(y + 16), b3 = GN_VFLOAT(y + 24);
        GN_KEEP(b0); GN_KEEP(b1); GN_KEEP(b2); GN_KEEP(b3);
        float s;
        s = x[0]; c0_0 += s * b0; c0_1 += s * b1; c0_2 += s * b2; c0_3 += s * b3;
        s = x[ai]; c1_0 += s * b0; c1_1 += s * b1; c1_2 += s * b2; c1_3 += s * b3;
    }
    GN_VFLOAT(t + 0) = c0_0; GN_VFLOAT(t + 8) = c0_1; GN_VFLOAT(t + 16) = c0_2; GN_VFLOAT(t + 24) = c0_3;
    GN_VFLOAT(t + ti) = c1_0; GN_VFLOAT(t + ti + 8) = c1_1; GN_VFLOAT(t + ti + 16) = c1_2; GN_VFLOAT(t + ti + 24) = c1_3;
}

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
}
GN_INLINE float gn_logf(float x)
{
    float normal = x < 1.17549435e-38f ? x * 8388608.0f : x; /* denormals times 2**23 */
    uint32_t u = gn_bits(normal) - 0x3f3504f3u;              /* bits of sqrt(1/2) */
    float n = (float)((int32_t)u >> 23) + (x < 1.17549435e-38f ? -23.0f : 0.0f);
    float y = gn_log_part(gn_float((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f, n);
    y = x < INFINITY ? y : x;
    y = x == 0.0f ? -INFINITY : y;
    return x < 0.0f ? NAN : y;
}
GN_INLINE float gn_max_float(float a, float b) { return ((b > a) | (b != b)) ? b : a; }

GN_INLINE float s23_value(float x0)
{
    return x0 * x0;
}

GN_CONTRACT GN_ONCE void gn_tile_4x2_float(long K, const float *restrict a,
    const float *restrict b, float *restrict t, int add, long ai, long ak, long bk, long ti)
{
    GN_CONTRACTED
    gn_vfloat c0_0 = {0}, c0_1 = {0};
    gn_vfloat c1_0 = {0}, c1_1 = {0};
    gn_vfloat c2_0 = {0}, c2_1 = {0};
    gn_vfloat c3_0 = {0}, c3_1 = {0};
    if (add) {
        c0_0 = GN_VFLOAT(t + 0); c0_1 = GN_VFLOAT(t + 8);
        c1_0 = GN_VFLOAT(t + ti); c1_1 = GN_VFLOAT(t + ti + 8);
        c2_0 = GN_VFLOAT(t + 2 * ti); c2_1 = GN_VFLOAT(t + 2 * ti + 8);
        c3_0 = GN_VFLOAT(t + 3 * ti); c3_1 = GN_VFLOAT(t + 3 * ti + 8);
    }
    for (long k = 0; k < K; ++k) {
        const float *x = a + k * ak, *y = b + k * bk;
        gn_vfloat b0 = GN_VFLOAT(y + 0), b1 = GN_VFLOAT(y + 8);
        GN_KEEP(b0); GN_KEEP(b1);
        float s;
        s = x[0]; c0_0 += s * b0; c0_1 += s * b1;
        s = x[ai]; c1_0 += s * b0; c1_1 += s * b1;
        s = x[2 * ai]; c2_0 += s * b0; c2_1 += s * b1;
        s = x[3 * ai]; c3_0 += s * b0; c3_1 += s * b1;
    }
    GN_VFLOAT(t + 0) = c0_0; GN_VFLOAT(t + 8) = c0_1;
    GN_VFLOAT(t + ti) = c1_0; GN_VFLOAT(t + ti + 8) = c1_1;
    GN_VFLOAT(t + 2 * ti) = c2_0; GN_VFLOAT(t + 2 * ti + 8) = c2_1;
    GN_VFLOAT(t + 3 * ti) = c3_0; GN_VFLOAT(t + 3 * ti + 8) = c3_1;
}

typedef float gn_8float __attribute__((vector_size(32), aligned(4), may_alias));
typedef float gn_4float __attribute__((vector_size(16), aligned(4), may_alias));
GN_ONCE void gn_transpose_float(long n, long m, const float *restrict src, long lds,
    float *restrict dst, long ldd)
{
    long j = 0;
#if defined(__clang__) || __GNUC__ >= 12
    for (; j + 8 <= n; j += 8)
        for (long k = 0; k + 4 <= m; k += 4) {
            const float *s = src + j * lds + k;
            float *d = dst + k * ldd + j;
            const gn_8float r0 = __builtin_shufflevector(*(const gn_4float *)(s + 0 * lds), *(const gn_4float *)(s + 4 * lds), 0, 1, 2, 3, 4, 5, 6, 7);
            const gn_8float r1 = __builtin_shufflevector(*(const gn_4float *)(s + 1 * lds), *(const gn_4float *)(s + 5 * lds), 0, 1, 2, 3, 4, 5, 6, 7);
            const gn_8float r2 = __builtin_shufflevector(*(const gn_4float *)(s + 2 * lds), *(const gn_4float *)(s + 6 * lds), 0, 1, 2, 3, 4, 5, 6, 7);
            const gn_8float r3 = __builtin_shufflevector(*(const gn_4float *)(s + 3 * lds), *(const gn_4float *)(s + 7 * lds), 0, 1, 2, 3, 4, 5, 6, 7);
            const gn_8float t0 = __builtin_shufflevector(r0, r1, 0, 8, 1, 9, 4, 12, 5, 13);
            const gn_8float t1 = __builtin_shufflevector(r0, r1, 2, 10, 3, 11, 6, 14, 7, 15);
            const gn_8float t2 = __builtin_shufflevector(r2, r3, 0, 8, 1, 9, 4, 12, 5, 13);
            const gn_8float t3 = __builtin_shufflevector(r2, r3, 2, 10, 3, 11, 6, 14, 7, 15);
            *(gn_8float *)(d + 0 * ldd) = __builtin_shufflevector(t0, t2, 0, 1, 8, 9, 4, 5, 12, 13);
            *(gn_8float *)(d + 1 * ldd) = __builtin_shufflevector(t0, t2, 2, 3, 10, 11, 6, 7, 14, 15);
            *(gn_8float *)(d + 2 * ldd) = __builtin_shufflevector(t1, t3, 0, 1, 8, 9, 4, 5, 12, 13);
            *(gn_8float *)(d + 3 * ldd) = __builtin_shufflevector(t1, t3, 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (; j + 4 <= n; j += 4)
        for (long k = 0; k + 4 <= m; k += 4) {
            const float *s = src + j * lds + k;
            float *d = dst + k * ldd + j;
            const gn_4float r0 = *(const gn_4float *)(s + 0 * lds);
            const gn_4float r1 = *(const gn_4float *)(s + 1 * lds);
            const gn_4float r2 = *(const gn_4float *)(s + 2 * lds);
            const gn_4float r3 = *(const gn_4float *)(s + 3 * lds);
            const gn_4float t0 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);
            const gn_4float t1 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
            const gn_4float t2 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
            const gn_4float t3 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
            *(gn_4float *)(d + 0 * ldd) = __builtin_shufflevector(t0, t2, 0, 1, 4, 5);
            *(gn_4float *)(d + 1 * ldd) = __builtin_shufflevector(t0, t2, 2, 3, 6, 7);
            *(gn_4float *)(d + 2 * ldd) = __builtin_shufflevector(t1, t3, 0, 1, 4, 5);
            *(gn_4float *)(d + 3 * ldd) = __builtin_shufflevector(t1, t3, 2, 3, 6, 7);
        }
#endif
    for (long i = 0; i < n; ++i)
        for (long k = i < j ? m / 4 * 4 : 0; k < m; ++k)
            dst[k * ldd + i] = src[i * lds + k];
}

GN_INLINE float s27_value(float x0)
{
    return x0 * x0;
}

GN_CONTRACT GN_ONCE void gn_tile_6x2_float(long K, const float *restrict a,
    const float *restrict b, float *restrict t, int add, long ai, long ak, long bk, long ti)
{
    GN_CONTRACTED
    gn_vfloat c0_0 = {0}, c0_1 = {0};
    gn_vfloat c1_0 = {0}, c1_1 = {0};
    gn_vfloat c2_0 = {0}, c2_1 = {0};
    gn_vfloat c3_0 = {0}, c3_1 = {0};
    gn_vfloat c4_0 = {0}, c4_1 = {0};
    gn_vfloat c5_0 = {0}, c5_1 = {0};
    if (add) {
        c0_0 = GN_VFLOAT(t + 0); c0_1 = GN_VFLOAT(t + 8);
        c1_0 = GN_VFLOAT(t + ti); c1_1 = GN_VFLOAT(t + ti + 8);
        c2_0 = GN_VFLOAT(t + 2 * ti); c2_1 = GN_VFLOAT(t + 2 * ti + 8);
        c3_0 = GN_VFLOAT(t + 3 * ti); c3_1 = GN_VFLOAT(t + 3 * ti + 8);
        c4_0 = GN_VFLOAT(t + 4 * ti); c4_1 = GN_VFLOAT(t + 4 * ti + 8);
        c5_0 = GN_VFLOAT(t + 5 * ti); c5_1 = GN_VFLOAT(t + 5 * ti + 8);
    }
    for (long k = 0; k < K; ++k) {
        const float *x = a + k * ak, *y = b + k * bk;
        gn_vfloat b0 = GN_VFLOAT(y + 0), b1 = GN_VFLOAT(y + 8);
        float s;
        s = x[0]; c0_0 += s * b0; c0_1 += s * b1;
        s = x[ai]; c1_0 += s * b0; c1_1 += s * b1;
        s = x[2 * ai]; c2_0 += s * b0; c2_1 += s * b1;
        s = x[3 * ai]; c3_0 += s * b0; c3_1 += s * b1;
        s = x[4 * ai]; c4_0 += s * b0; c4_1 += s * b1;
        s = x[5 * ai]; c5_0 += s * b0; c5_1 += s * b1;
    }
    GN_VFLOAT(t + 0) = c0_0; GN_VFLOAT(t + 8) = c0_1;
    GN_VFLOAT(t + ti) = c1_0; GN_VFLOAT(t + ti + 8) = c1_1;
    GN_VFLOAT(t + 2 * ti) = c2_0; GN_VFLOAT(t + 2 * ti + 8) = c2_1;
    GN_VFLOAT(t + 3 * ti) = c3_0; GN_VFLOAT(t + 3 * ti + 8) = c3_1;
    GN_VFLOAT(t + 4 * ti) = c4_0; GN_VFLOAT(t + 4 * ti + 8) = c4_1;
    GN_VFLOAT(t + 5 * ti) = c5_0; GN_VFLOAT(t + 5 * ti + 8) = c5_1;
}

GN_INLINE float s35_value(float x0)
{
    return x0 * x0;
}

/* The row that an index means: counted from the end if negative, -1 if it is out of range. */
GN_INLINE long gn_own_row(int64_t index, int64_t rows)
{
    index += index < 0 ? rows : 0;
    return (uint64_t)index < (uint64_t)rows ? (long)index : -1;
}

/* to += rows of n elements, one after another. Not inlined: the compiler would exchange the loops of the caller. */
static __attribute__((noinline, unused)) void gn_add1_float(float *restrict to, const float *restrict a, long n)
{
    for (long j = 0; j < n; j++)
        to[j] += a[j];
}
static __attribute__((noinline, unused)) void gn_add4_float(float *restrict to, const float *restrict a,
    const float *restrict b, const float *restrict c, const float *restrict d, long n)
{
    for (long j = 0; j < n; j++)
        to[j] = (((to[j] + a[j]) + b[j]) + c[j]) + d[j];
}

GN_INLINE float s39_value(float x0)
{
    return x0 * x0;
}

GN_INLINE float s42_value(float x0)
{
    return x0 * x0;
}

GN_CONTRACT GN_ONCE void gn_tile_8x1_float(long K, const float *restrict a,
    const float *restrict b, float *restrict t, int add, long ai, long ak, long bk, long ti)
{
    GN_CONTRACTED
    gn_vfloat c0_0 = {0};
    gn_vfloat c1_0 = {0};
    gn_vfloat c2_0 = {0};
    gn_vfloat c3_0 = {0};
    gn_vfloat c4_0 = {0};
    gn_vfloat c5_0 = {0};
    gn_vfloat c6_0 = {0};
    gn_vfloat c7_0 = {0};
    if (add) {
        c0_0 = GN_VFLOAT(t + 0);
        c1_0 = GN_VFLOAT(t + ti);
        c2_0 = GN_VFLOAT(t + 2 * ti);
        c3_0 = GN_VFLOAT(t + 3 * ti);
        c4_0 = GN_VFLOAT(t + 4 * ti);
        c5_0 = GN_VFLOAT(t + 5 * ti);
        c6_0 = GN_VFLOAT(t + 6 * ti);
        c7_0 = GN_VFLOAT(t + 7 * ti);
    }
    for (long k = 0; k < K; ++k) {
        const float *x = a + k * ak, *y = b + k * bk;
        gn_vfloat b0 = GN_VFLOAT(y + 0);
        float s;
        s = x[0]; c0_0 += s * b0;
        s = x[ai]; c1_0 += s * b0;
        s = x[2 * ai]; c2_0 += s * b0;
        s = x[3 * ai]; c3_0 += s * b0;
        s = x[4 * ai]; c4_0 += s * b0;
        s = x[5 * ai]; c5_0 += s * b0;
        s = x[6 * ai]; c6_0 += s * b0;
        s = x[7 * ai]; c7_0 += s * b0;
    }
    GN_VFLOAT(t + 0) = c0_0;
    GN_VFLOAT(t + ti) = c1_0;
    GN_VFLOAT(t + 2 * ti) = c2_0;
    GN_VFLOAT(t + 3 * ti) = c3_0;
    GN_VFLOAT(t + 4 * ti) = c4_0;
    GN_VFLOAT(t + 5 * ti) = c5_0;
    GN_VFLOAT(t + 6 * ti) = c6_0;
    GN_VFLOAT(t + 7 * ti) = c7_0;
}

/* NaN if either is, x where they are equal; in two steps, because gcc 12 vectorises no chain of x >= y || x != x */
GN_INLINE double gn_maximum_float64(double x, double y)
{
    double larger = x < y ? y : x;
    return y != y ? y : larger;
}
GN_INLINE double gn_minimum_float64(double x, double y)
{
    double smaller = x > y ? y : x;
    return y != y ? y : smaller;
}
GN_INLINE float s45_value(float x0)
{
    return x0 * x0;
}

static const int32_t c44[7] GN_ALIGNED = {0, 1, 2, 3, 4, 5, 6};
static const float c45[1] GN_ALIGNED = {0.0f};
static const float c46[1] GN_ALIGNED = {-0.00625f};
static const float c54[1] GN_ALIGNED = {160.0f};
static const int32_t c56[1] GN_ALIGNED = {1};
static const double c57[1] GN_ALIGNED = {1.0};
static const float c61[1] GN_ALIGNED = {0.00625f};
static const float c76[1] GN_ALIGNED = {1.0f};
static const double c92[1] GN_ALIGNED = {1e-06};
/*    0 matmul (7,64) float32  at test_c_text.py:26 letters/lstm_1
 *        out0 [arena+0x3000 1,792 B]
 *        <- in0 [param letters/embedding_1/w] (7,16)
 *        <- in1 [param letters/lstm_1/wx] (16,64)
 *        <- in2 [param letters/lstm_1/b] (7,64) strides (0,1)
 *        out0 = matmul + in2
 * tiles of 7 x 8, right operand in place */
static void s0(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x3000);
    const float *restrict in0 = (const float *)(H[4]);
    const float *restrict in1 = (const float *)(H[5]);
    const float *restrict in2 = (const float *)(H[6]);
    float tile[56] GN_ALIGNED;
    for (long column = 0; column < 64; column += 8) {
        const long start = column, stop = column + 8;
        for (long row = 0; row < 7; row += 7) {
            const long top = row, end = row + 7;
            gn_tile_7x1_float(16, in0 + top * 16L, in1 + start, tile, 0, 16, 1, 64, 8);
            for (long i = row; i < end; ++i) {
                GN_INDEPENDENT
                for (long j = column; j < stop; ++j) {
                    {
                        const float x0 = tile[(i - top) * 8 + j - start];
                        const float x1 = in2[j];
                        out0[64 * i + j] = x0 + x1;
                    }
                }
            }
        }
    }
}

/*    2 copy (32,16) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0xa000 2,048 B] <- [state letters/lstm_1/h] (32,16)
 * 512 */
static void s2(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0xa000);
    const float *restrict in0 = (const float *)(H[1]);
    GN_INDEPENDENT
    for (long i = lo * 16; i < hi * 16; ++i) {
        const float x0 = in0[i];
        out0[i] = x0;
    }
}

/*    3 copy (32,16) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0xd000 2,048 B] <- [state letters/lstm_1/c] (32,16)
 * 512 */
static void s3(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0xd000);
    const float *restrict in0 = (const float *)(H[2]);
    GN_INDEPENDENT
    for (long i = lo * 16; i < hi * 16; ++i) {
        const float x0 = in0[i];
        out0[i] = x0;
    }
}

/*    4 pack groups=>4 width=>32 (4096,) uint8  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x2000 4,096 B] <- [param letters/lstm_1/wh] (16,64)
 * packs the right operand in panels of 32, 8 columns of each of 4 groups */
static void s4(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    uint8_t *restrict out0 = (uint8_t *)(A + 0x2000);
    const float *restrict in0 = (const float *)(H[3]);
    for (long u = 0; u < 2; ++u) {
        const long column = u * 8;
        const long start = column;
        float *panel = (float *)(out0) + column * 64L;
        for (long g = 0; g < 4; ++g)
            for (long d = 0; d < 16; ++d)
                for (long c = 0; c < 8; ++c)
                    panel[d * 32 + g * 8 + c] = in0[d * 64L + ((start + g * 16) + c)];
    }
}

/*    4 take (32,64) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x0 8,192 B] <- [arena+0x3000 1,792 B] (7,64), [input ids+4*k0] (32,) strides (5,)
 * row by row */
static void s4_2(struct net *net, long lo, long hi, long k0)
{
    char *A = net->A;
    char *const *H = net->H;
    const int gn_step = 4;
    float *restrict out0 = (float *)(A + 0x0);
    const float *restrict in0 = (const float *)(A + 0x3000);
    const int32_t *restrict in1 = (const int32_t *)(H[0] + k0 * 4);
    {
        int32_t low = in1[0], high = in1[0];
        for (long i0 = 0; i0 < 32; i0++) {
            low = in1[i0 * 5] < low ? in1[i0 * 5] : low;
            high = in1[i0 * 5] > high ? in1[i0 * 5] : high;
        }
        const int64_t lowest = low, highest = high, rows = 7;
        if (highest >= rows)
            GN_FAIL((long)highest, 7);
        else if (lowest < -rows)
            GN_FAIL((long)lowest, 7);
    }
    for (long i0 = lo; i0 < hi; i0++) {
        const float *from = in0 + gn_row(in1[i0 * 5], 7) * 64;
        for (long i1 = 0; i1 < 64; i1++)
            out0[i0 * 64 + i1] = from[i1];
    }
}

/*    5 matmul_packed groups=>4 width=>32 7 x (32,16) float32  at test_c_text.py:26 letters/lstm_1
 *        out0 [arena+0x10000+2048*k0 2,048 B]
 *        out1 [arena+0x1a000+2048*k0 2,048 B]
 *        out2 [arena+0x15000+2048*k0 2,048 B]
 *        out3 [arena+0x17800+2048*k0 2,048 B]
 *        out4 [arena+0xd000+2048*(k0+1) 2,048 B]
 *        out5 [arena+0x12800+2048*k0 2,048 B]
 *        out6 [arena+0xa000+2048*(k0+1) 2,048 B]
 *        <- in0 [arena+0xa000+2048*k0 2,048 B] (32,16)
 *        <- in1 [arena+0x2000 4,096 B] (4096,)
 *        <- in2 [arena+0xd000+2048*k0 2,048 B] (32,16)
 *        <- in3 [arena+0x0 2,048 B] (32,16) strides (64,1)
 *        <- in4 [arena+0x40 2,048 B] (32,16) strides (64,1)
 *        <- in5 [arena+0x80 2,048 B] (32,16) strides (64,1)
 *        <- in6 [arena+0xc0 2,048 B] (32,16) strides (64,1)
 *        out0 = sigmoid(in6 + matmul_packed[3])
 *        out1 = sigmoid(in4 + matmul_packed[1])
 *        out2 = sigmoid(in3 + matmul_packed[0])
 *        out3 = tanh(in5 + matmul_packed[2])
 *        out4 = out1 * in2 + out2 * out3
 *        out5 = tanh(out4)
 *        out6 = out0 * out5
 * tiles of 2 x 32, right operand packed before, 8 columns of each of 4 groups */
static void s5(struct net *net, long lo, long hi, long k0)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x10000 + k0 * 2048);
    float *restrict out1 = (float *)(A + 0x1a000 + k0 * 2048);
    float *restrict out2 = (float *)(A + 0x15000 + k0 * 2048);
    float *restrict out3 = (float *)(A + 0x17800 + k0 * 2048);
    float *restrict out4 = (float *)(A + 0xd000 + (k0 + 1) * 2048);
    float *restrict out5 = (float *)(A + 0x12800 + k0 * 2048);
    float *restrict out6 = (float *)(A + 0xa000 + (k0 + 1) * 2048);
    const float *restrict in0 = (const float *)(A + 0xa000 + k0 * 2048);
    const uint8_t *restrict in1 = (const uint8_t *)(A + 0x2000);
    const float *restrict in2 = (const float *)(A + 0xd000 + k0 * 2048);
    const float *restrict in3 = (const float *)(A + 0x0);
    const float *restrict in4 = (const float *)(A + 0x40);
    const float *restrict in5 = (const float *)(A + 0x80);
    const float *restrict in6 = (const float *)(A + 0xc0);
    const float *packed = (const float *)(in1);
    float tile[64] GN_ALIGNED;
    for (long column = 0; column < 16; column += 8) {
        const long start = column, stop = column + 8;
        for (long row = lo; row < hi; row += 2) {
            const long end = row + 2 < hi ? row + 2 : hi, top = end > 2 ? end - 2 : 0;
            gn_tile_2x4_float(16, in0 + top * 16L, packed + column * 64L, tile, 0, 16, 1, 32, 32);
            for (long i = row; i < end; ++i) {
                GN_INDEPENDENT
                for (long j = column; j < stop; ++j) {
                    {
                        const float x0 = tile[(i - top) * 32 + 24 + j - start];
                        const float x1 = tile[(i - top) * 32 + 8 + j - start];
                        const float x2 = in2[16 * i + j];
                        const float x3 = tile[(i - top) * 32 + j - start];
                        const float x4 = tile[(i - top) * 32 + 16 + j - start];
                        const float x5 = in3[64 * i + j];
                        const float x6 = in4[64 * i + j];
                        const float x7 = in5[64 * i + j];
                        const float x8 = in6[64 * i + j];
                        const float t0 = x5 + x3;
                        const float t1 = x6 + x1;
                        const float t2 = x7 + x4;
                        const float t3 = x8 + x0;
                        const float y0 = gn_sigmoidf(t3);
                        const float y1 = gn_sigmoidf(t1);
                        const float y2 = gn_sigmoidf(t0);
                        const float y3 = gn_tanhf(t2);
                        const float t4 = y1 * x2;
                        const float t5 = y2 * y3;
                        const float y4 = t4 + t5;
                        const float y5 = gn_tanhf(y4);
                        out0[16 * i + j] = y0;
                        out1[16 * i + j] = y1;
                        out2[16 * i + j] = y2;
                        out3[16 * i + j] = y3;
                        out4[16 * i + j] = y4;
                        out5[16 * i + j] = y5;
                        out6[16 * i + j] = y0 * y5;
                    }
                }
            }
        }
    }
}

/*    8 matmul (32,5,7) float32  at test_c_text.py:26 letters/dense_1
 *        [arena+0x2800 4,480 B]
 *        <- [arena+0xa800 10,240 B] (32,5,16) strides (16,512,1)
 *        <- [param letters/dense_1/w] (16,7)
 * plain loops */
static void s8(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x2800);
    const float *restrict in0 = (const float *)(A + 0xa800);
    const float *restrict in1 = (const float *)(H[7]);
    for (long e = 0; e < 32; ++e) {
        float *out_e = out0 + e * 35L;
        const float *left_e = in0 + e * 16L;
        const float *right_e = in1;
        for (long i = 0; i < 5; ++i) {
            for (long j = 0; j < 7; ++j) {
                float sum = 0;
                for (long k = 0; k < 16; ++k)
                    sum += left_e[i * 512L + k] * right_e[k * 7L + j];
                out_e[i * 7L + j] = sum;
            }
        }
    }
}

/*   11 bounded size=>7 wrap=>False (32,5) int32  at test_c_text.py:38 softmax_cross_entropy
 *        [arena+0x0 640 B] <- [input target] (32,5) */
static void s11(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    const int gn_step = 11;
    int32_t *restrict out0 = (int32_t *)(A + 0x0);
    const int32_t *restrict in0 = (const int32_t *)(H[9]);
    {
        int32_t low = in0[0], high = in0[0];
        for (long i1 = 0; i1 < 160; i1++) {
            low = in0[i1] < low ? in0[i1] : low;
            high = in0[i1] > high ? in0[i1] : high;
        }
        const int64_t lowest = low, highest = high, rows = 7;
        if (highest >= rows)
            GN_FAIL((long)highest, 7);
        else if (lowest < 0)
            GN_FAIL((long)lowest, 7);
    }
    for (long i0 = lo; i0 < hi; i0++) {
        for (long i1 = 0; i1 < 5; i1++)
            out0[i0 * 5 + i1] = (int32_t)gn_row(in0[i0 * 5 + i1], 7);
    }
}

/*   12 rows of 7: (32,5,1) float32, (32,5,7) float32  at test_c_text.py:38 softmax_cross_entropy
 *        out0 [arena+0x280 640 B]
 *        out1 [arena+0x2800 4,480 B]
 *        <- in0 [arena+0x2800 4,480 B] (32,5,7)
 *        <- in1 [param letters/dense_1/b] (1,1,7)
 *        <- in2 [arena+0x0 640 B] (32,5,1)
 *        <- in3 [constant] (1,1,7)
 *        t0 = in0 + in1
 *        t1 = t0 - max(t0)
 *        t2 = exp(t1)
 *        t3 = in2 == in3
 *        t4 = sum(t2)
 *        out0 = log(t4) - sum(where(t3, t1, 0))
 *        out1 = where(t3, -0.00625, 0) + 0.00625 / t4 * t2
 * rows of 7 side by side */
static void s12(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x280);
    float *restrict out1 = (float *)(A + 0x2800);
    const float *restrict in1 = (const float *)(H[8]);
    const int32_t *restrict in2 = (const int32_t *)(A + 0x0);
    float b0[448] GN_ALIGNED;
    float b1[448] GN_ALIGNED;
    float b2[448] GN_ALIGNED;
    float n3[64] GN_ALIGNED;
    float n4[64] GN_ALIGNED;
    float n5[64] GN_ALIGNED;
    float n6[64] GN_ALIGNED;
    const float n0 = c45[0];
    const float n1 = c46[0];
    const float n2 = c61[0];
    for (long i = lo * 5; i < hi * 5; i += 64) {
        const long width = hi * 5 - i < 64 ? hi * 5 - i : 64;
        float *restrict row0 = out0 + i;
        float *restrict row1 = out1 + 7 * i;
        const int32_t *restrict row3 = in2 + i;
        for (long k = 0; k < width; k++) {
            for (long j = 0; j < 7; j++)
                b0[k + 64 * j] = row1[7 * k + j];
        }
        {
            float acc[64];
            for (long k = 0; k < width; k++)
                acc[k] = -INFINITY;
            for (long j = 0; j < 7; j++) {
                for (long k = 0; k < width; k++)
                    acc[k] = gn_max_float(acc[k], (b0[k + 64 * j] + in1[j]));
            }
            for (long k = 0; k < width; k++)
                n3[k] = acc[k];
        }
        for (long j = 0; j < 7; j++) {
            GN_INDEPENDENT
            for (long k = 0; k < width; ++k) {
                const float x0 = b0[k + 64 * j];
                const float x1 = in1[j];
                const float x2 = n3[k];
                const float t0 = x0 + x1;
                const float t1 = t0 - x2;
                b2[k + 64 * j] = gn_expf(t1);
            }
        }
        {
            float acc[64];
            for (long k = 0; k < width; k++)
                acc[k] = 0;
            for (long j = 0; j < 7; j++) {
                for (long k = 0; k < width; k++)
                    acc[k] += b2[k + 64 * j];
            }
            for (long k = 0; k < width; k++)
                n4[k] = acc[k];
        }
        {
            float acc[64];
            for (long k = 0; k < width; k++)
                acc[k] = 0;
            for (long j = 0; j < 7; j++) {
                for (long k = 0; k < width; k++)
                    acc[k] += (row3[k] == c44[j]) ? ((b0[k + 64 * j] + in1[j]) - n3[k]) : n0;
            }
            for (long k = 0; k < width; k++)
                n5[k] = acc[k];
        }
        GN_INDEPENDENT
        for (long k = 0; k < width; ++k) {
            const float x0 = n4[k];
            const float x1 = n5[k];
            const float t0 = gn_logf(x0);
            row0[k] = t0 - x1;
            n6[k] = n2 / x0;
        }
        for (long j = 0; j < 7; j++) {
            GN_INDEPENDENT
            for (long k = 0; k < width; ++k) {
                const int32_t x0 = row3[k];
                const int32_t x1 = c44[j];
                const float x4 = n6[k];
                const float x5 = b2[k + 64 * j];
                const _Bool t0 = x0 == x1;
                const float t1 = t0 ? n1 : n0;
                const float t2 = x4 * x5;
                b1[k + 64 * j] = t1 + t2;
            }
        }
        for (long k = 0; k < width; k++) {
            for (long j = 0; j < 7; j++)
                row1[7 * k + j] = b1[k + 64 * j];
        }
    }
}

/*   16 sum axes=>(0,1) () float32  at test_c_text.py:38 softmax_cross_entropy
 *        out0 [arena+0x22200 4 B] <- in0 [arena+0x280 640 B] (32,5)
 *        out0 = sum / 160
 * in lanes */
static void s16(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x22200);
    const float *restrict in0 = (const float *)(A + 0x280);
    float lane[16];
    for (long l = 0; l < 16; l++)
        lane[l] = in0[l];
    for (long i1 = 16; i1 < 160; i1 += 16) {
        for (long l = 0; l < 16; l++)
            lane[l] += in0[i1 + l];
    }
    for (long l = 0; l < 8; l++)
        lane[l] += lane[l + 8];
    for (long l = 0; l < 4; l++)
        lane[l] += lane[l + 4];
    {
        const float x0 = ((lane[0] + lane[2]) + (lane[1] + lane[3]));
        const float x1 = c54[0];
        out0[0] = x0 / x1;
    }
}

/*   18 fused () int32, 2 x () float32  at test_c_text.py:26 optimizer/letters/dense_1
 *        out0 [slot optimizer/t]
 *        out1 [arena+0x22240 4 B]
 *        out2 [arena+0x22280 4 B]
 *        <- in0 [slot optimizer/t] ()
 *        <- in1 [hyper optimizer/beta1] ()
 *        <- in2 [hyper optimizer/lr] ()
 *        <- in3 [hyper optimizer/beta2] ()
 *        out0 = in0 + 1
 *        t0 = cast(out0, dtype=float64)
 *        out1 = cast(in2 / (1 - in1 ** t0), dtype=float32)
 *        out2 = cast(reciprocal(sqrt(1 - in3 ** t0)), dtype=float32) */
static void s18(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    int32_t *restrict out0 = (int32_t *)(H[10]);
    float *restrict out1 = (float *)(A + 0x22240);
    float *restrict out2 = (float *)(A + 0x22280);
    const double *restrict in2 = (const double *)(H[11]);
    const double *restrict in4 = (const double *)(H[12]);
    const double *restrict in5 = (const double *)(H[13]);
    const int32_t x0 = out0[0];
    const int32_t x1 = c56[0];
    const double x2 = in2[0];
    const double x3 = c57[0];
    const double x4 = in4[0];
    const double x5 = in5[0];
    const int32_t y0 = (int32_t)((uint32_t)x0 + (uint32_t)x1);
    const double t0 = (double)y0;
    const double t1 = pow(x2, t0);
    const double t2 = x3 - t1;
    const double t3 = x4 / t2;
    const double t4 = pow(x5, t0);
    const double t5 = x3 - t4;
    const double t6 = sqrt(t5);
    const double t7 = 1.0 / t6;
    out0[0] = y0;
    out1[0] = (float)t3;
    out2[0] = (float)t7;
}

/*   19 cast () float32  at test_c_text.py:26 optimizer/letters/dense_1
 *        [arena+0x222c0 4 B] <- [hyper optimizer/beta1] () */
static void s19(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x222c0);
    const double *restrict in0 = (const double *)(H[11]);
    const double x0 = in0[0];
    out0[0] = (float)x0;
}

/*   22 sum axes=>(0,1) (7,) float32  at test_c_text.py:26 letters/dense_1
 *        [arena+0x221c0 28 B] <- [arena+0x2800 4,480 B] (32,5,7)
 * by columns */
static void s22(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x221c0);
    const float *restrict in0 = (const float *)(A + 0x2800);
    float acc[7];
    for (long l = 0; l < 7; l++)
        acc[l] = 0;
    for (long i1 = 0; i1 < 160; i1 += 4) {
        for (long l = 0; l < 7; l++)
            acc[l] += (in0[i1 * 7 + l] + in0[(i1 + 1) * 7 + l]) + (in0[(i1 + 2) * 7 + l] + in0[(i1 + 3) * 7 + l]);
    }
    for (long l = 0; l < 7; l++)
        out0[l] = acc[l];
}

/*   23 sum axes=>(0,) () float32  optimizer
 *        out0 [arena+0x22300 4 B] <- in0 [arena+0x221c0 28 B] (7,)
 *        sum of square(in0)
 * in lanes */
static void s23(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x22300);
    const float *restrict in0 = (const float *)(A + 0x221c0);
    float lane[4];
    for (long l = 0; l < 4; l++)
        lane[l] = s23_value(in0[l]);
    for (long l = 0; l < 3; l++)
        lane[l] += s23_value(in0[4 + l]);
    out0[0] = ((lane[0] + lane[2]) + (lane[1] + lane[3]));
}

/*   25 copy (32,5,16) float32  at test_c_text.py:26 letters/dense_1
 *        [arena+0x0 10,240 B] <- [arena+0xa800 10,240 B] (32,5,16) strides (16,512,1)
 * 32 x 5 x 16 */
static void s25(struct net *net, long lo, long hi)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x0);
    const float *restrict in0 = (const float *)(A + 0xa800);
    for (long i = lo; i < hi; ++i) {
        for (long j = 0; j < 5; ++j) {
            GN_INDEPENDENT
            for (long k = 0; k < 16; ++k) {
                const float x0 = in0[16 * i + 512 * j + k];
                out0[80 * i + 16 * j + k] = x0;
            }
        }
    }
}

/*   26 matmul (16,7) float32  at test_c_text.py:26 letters/dense_1
 *        [arena+0x22000 448 B] <- [arena+0x0 10,240 B] (16,160) strides (1,16), [arena+0x2800 4,480 B] (160,7)
 * tiles of 4 x 16, left operand transposed, in place */
static void s26(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x22000);
    const float *restrict in0 = (const float *)(A + 0x0);
    const float *restrict in1 = (const float *)(A + 0x2800);
    float tile[64] GN_ALIGNED;
    for (long column = 0; column < 16; column += 16) {
        const long start = column, stop = column + 16;
        for (long row = 0; row < 7; row += 4) {
            const long end = row + 4 < 7 ? row + 4 : 7, top = end - 4;
            gn_tile_4x2_float(160, in1 + top, in0 + start, tile, 0, 1, 7, 16, 16);
            gn_transpose_float(end - row, stop - column, tile + (row - top) * 16 + column - start, 16, out0 + row + column * 7L, 7L);
        }
    }
}

/*   27 sum axes=>(0,1) () float32  optimizer
 *        out0 [arena+0x22340 4 B] <- in0 [arena+0x22000 448 B] (16,7)
 *        sum of square(in0)
 * in lanes */
static void s27(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x22340);
    const float *restrict in0 = (const float *)(A + 0x22000);
    float lane[16];
    for (long l = 0; l < 16; l++)
        lane[l] = s27_value(in0[l]);
    for (long i1 = 16; i1 < 112; i1 += 16) {
        for (long l = 0; l < 16; l++)
            lane[l] += s27_value(in0[i1 + l]);
    }
    for (long l = 0; l < 8; l++)
        lane[l] += lane[l + 8];
    for (long l = 0; l < 4; l++)
        lane[l] += lane[l + 4];
    out0[0] = ((lane[0] + lane[2]) + (lane[1] + lane[3]));
}

/*   29 matmul (160,16) float32  at test_c_text.py:26 letters/dense_1
 *        [arena+0x1c800 10,240 B]
 *        <- [arena+0x2800 4,480 B] (160,7)
 *        <- [param letters/dense_1/w] (7,16) strides (1,7)
 *        <- scratch [arena+0x0 448 B]
 * tiles of 6 x 16, right operand packed by panels */
static void s29(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x1c800);
    const float *restrict in0 = (const float *)(A + 0x2800);
    const float *restrict in1 = (const float *)(H[7]);
    char *scratch = A + 0x0;
    float *panel = (float *)(scratch) + 0 * 112L;
    for (long column = 0; column < 16; column += 16) {
        const long start = column;
        gn_transpose_float(16, 7, in1 + start * 7L, 7L, panel, 16);
        for (long row = 0; row < 160; row += 6) {
            const long end = row + 6 < 160 ? row + 6 : 160, top = end - 6;
            gn_tile_6x2_float(7, in0 + top * 7L, panel, out0 + top * 16L + start, 0, 7, 1, 16, 16);
        }
    }
}

/*   30 copy (32,16) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x1f000 2,048 B] <- [constant 0] (32,16) strides (0,0)
 * 512 */
static void s30(struct net *net, long lo, long hi)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x1f000);
    const float x0 = c45[0];
    GN_INDEPENDENT
    for (long i = lo * 16; i < hi * 16; ++i) {
        out0[i] = x0;
    }
}

/*   31 copy (32,16) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x20000 2,048 B] <- [constant 0] (32,16) strides (0,0)
 * 512 */
static void s31(struct net *net, long lo, long hi)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x20000);
    const float x0 = c45[0];
    GN_INDEPENDENT
    for (long i = lo * 16; i < hi * 16; ++i) {
        out0[i] = x0;
    }
}

/*   32 pack width=>16 (4096,) uint8  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x21000 4,096 B] <- [param letters/lstm_1/wh] (64,16) strides (1,64)
 * packs the right operand in panels of 16 */
static void s32(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    uint8_t *restrict out0 = (uint8_t *)(A + 0x21000);
    const float *restrict in0 = (const float *)(H[3]);
    for (long u = 0; u < 1; ++u) {
        const long column = u * 16;
        const long start = column;
        float *panel = (float *)(out0) + column * 64L;
        gn_transpose_float(16, 64, in0 + start * 64L, 64L, panel, 16);
    }
}

/*   32 fused 5 x (32,16) float32  at test_c_text.py:26 letters/lstm_1
 *        out0 [arena+0x8000-8192*k1 2,048 B]
 *        out1 [arena+0x8040-8192*k1 2,048 B]
 *        out2 [arena+0x8080-8192*k1 2,048 B]
 *        out3 [arena+0x80c0-8192*k1 2,048 B]
 *        out4 [arena+0x20000+2048*((k1+1)%2) 2,048 B]
 *        <- in0 [arena+0x1f000+2048*(k1%2) 2,048 B] (32,16)
 *        <- in1 [arena+0x1c900-64*k1 2,048 B] (32,16) strides (80,1)
 *        <- in2 [arena+0x12000-2048*k1 2,048 B] (32,16)
 *        <- in3 [arena+0x14800-2048*k1 2,048 B] (32,16)
 *        <- in4 [arena+0x20000+2048*(k1%2) 2,048 B] (32,16)
 *        <- in5 [arena+0x19800-2048*k1 2,048 B] (32,16)
 *        <- in6 [arena+0x17000-2048*k1 2,048 B] (32,16)
 *        <- in7 [arena+0xf000-2048*k1 2,048 B] (32,16)
 *        <- in8 [arena+0x1c000-2048*k1 2,048 B] (32,16)
 *        t0 = in0 + in1
 *        t1 = in4 + t0 * in2 * (1 - in3 * in3)
 *        out0 = t1 * in5 * (in6 * (1 - in6))
 *        out1 = t1 * in7 * (in8 * (1 - in8))
 *        out2 = t1 * in6 * (1 - in5 * in5)
 *        out3 = t0 * in3 * (in2 * (1 - in2))
 *        out4 = t1 * in8
 * 32 x 16 */
static void s32_2(struct net *net, long lo, long hi, long k1)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x8000 - k1 * 8192);
    float *restrict out1 = (float *)(A + 0x8040 - k1 * 8192);
    float *restrict out2 = (float *)(A + 0x8080 - k1 * 8192);
    float *restrict out3 = (float *)(A + 0x80c0 - k1 * 8192);
    float *restrict out4 = (float *)(A + 0x20000 + ((k1 + 1) % 2) * 2048);
    const float *restrict in0 = (const float *)(A + 0x1f000 + (k1 % 2) * 2048);
    const float *restrict in1 = (const float *)(A + 0x1c900 - k1 * 64);
    const float *restrict in2 = (const float *)(A + 0x12000 - k1 * 2048);
    const float *restrict in3 = (const float *)(A + 0x14800 - k1 * 2048);
    const float *restrict in5 = (const float *)(A + 0x20000 + (k1 % 2) * 2048);
    const float *restrict in6 = (const float *)(A + 0x19800 - k1 * 2048);
    const float *restrict in7 = (const float *)(A + 0x17000 - k1 * 2048);
    const float *restrict in8 = (const float *)(A + 0xf000 - k1 * 2048);
    const float *restrict in9 = (const float *)(A + 0x1c000 - k1 * 2048);
    const float x4 = c76[0];
    for (long i = lo; i < hi; ++i) {
        GN_INDEPENDENT
        for (long j = 0; j < 16; ++j) {
            const float x0 = in0[16 * i + j];
            const float x1 = in1[80 * i + j];
            const float x2 = in2[16 * i + j];
            const float x3 = in3[16 * i + j];
            const float x5 = in5[16 * i + j];
            const float x6 = in6[16 * i + j];
            const float x7 = in7[16 * i + j];
            const float x8 = in8[16 * i + j];
            const float x9 = in9[16 * i + j];
            const float t0 = x0 + x1;
            const float t1 = t0 * x2;
            const float t2 = x3 * x3;
            const float t3 = x4 - t2;
            const float t4 = t1 * t3;
            const float t5 = x5 + t4;
            const float t6 = t5 * x6;
            const float t7 = x4 - x7;
            const float t8 = x7 * t7;
            const float t9 = t5 * x8;
            const float t10 = x4 - x9;
            const float t11 = x9 * t10;
            const float t12 = t5 * x7;
            const float t13 = x6 * x6;
            const float t14 = x4 - t13;
            const float t15 = t0 * x3;
            const float t16 = x4 - x2;
            const float t17 = x2 * t16;
            out0[64 * i + j] = t6 * t8;
            out1[64 * i + j] = t9 * t11;
            out2[64 * i + j] = t12 * t14;
            out3[64 * i + j] = t15 * t17;
            out4[16 * i + j] = t5 * x9;
        }
    }
}

/*   33 matmul_packed width=>16 (32,16) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x1f000+2048*((k1+1)%2) 2,048 B]
 *        <- [arena+0x8000-8192*k1 8,192 B] (32,64)
 *        <- [arena+0x21000 4,096 B] (4096,)
 * tiles of 4 x 16, right operand packed before */
static void s33(struct net *net, long lo, long hi, long k1)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x1f000 + ((k1 + 1) % 2) * 2048);
    const float *restrict in0 = (const float *)(A + 0x8000 - k1 * 8192);
    const uint8_t *restrict in1 = (const uint8_t *)(A + 0x21000);
    const float *packed = (const float *)(in1);
    for (long column = 0; column < 16; column += 16) {
        const long start = column;
        for (long row = lo; row < hi; row += 4) {
            const long end = row + 4 < hi ? row + 4 : hi, top = end > 4 ? end - 4 : 0;
            gn_tile_4x2_float(64, in0 + top * 64L, packed + column * 64L, out0 + top * 16L + start, 0, 64, 1, 16, 16);
        }
    }
}

/*   34 matmul (16,64) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x10000 4,096 B] <- [arena+0xa000 10,240 B] (16,160) strides (1,16), [arena+0x0 40,960 B] (160,64)
 * tiles of 4 x 16, right operand in place */
static void s34(struct net *net, long lo, long hi)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x10000);
    const float *restrict in0 = (const float *)(A + 0xa000);
    const float *restrict in1 = (const float *)(A + 0x0);
    for (long column = 0; column < 64; column += 16) {
        const long start = column;
        for (long row = lo; row < hi; row += 4) {
            const long end = row + 4 < hi ? row + 4 : hi, top = end > 4 ? end - 4 : 0;
            gn_tile_4x2_float(160, in0 + top, in1 + start, out0 + top * 64L + start, 0, 1, 16, 64, 64);
        }
    }
}

/*   35 sum axes=>(0,1) () float32  optimizer
 *        out0 [arena+0x11700 4 B] <- in0 [arena+0x10000 4,096 B] (16,64)
 *        sum of square(in0)
 * in lanes */
static void s35(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x11700);
    const float *restrict in0 = (const float *)(A + 0x10000);
    float lane[64];
    for (long l = 0; l < 64; l++)
        lane[l] = s35_value(in0[l]);
    for (long i1 = 64; i1 < 1024; i1 += 64) {
        for (long l = 0; l < 64; l++)
            lane[l] += s35_value(in0[i1 + l]);
    }
    for (long l = 0; l < 32; l++)
        lane[l] += lane[l + 32];
    for (long l = 0; l < 16; l++)
        lane[l] += lane[l + 16];
    for (long l = 0; l < 8; l++)
        lane[l] += lane[l + 8];
    for (long l = 0; l < 4; l++)
        lane[l] += lane[l + 4];
    out0[0] = ((lane[0] + lane[2]) + (lane[1] + lane[3]));
}

/*   37 scatter_add rows=>7 (7,64) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x11000 1,792 B] <- [arena+0x0 40,960 B] (5,32,64), [input ids] (5,32) strides (1,5)
 * columns shared out */
static void s37(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    const int gn_step = 37;
    float *restrict out0 = (float *)(A + 0x11000);
    const float *restrict in0 = (const float *)(A + 0x0);
    const int32_t *restrict in1 = (const int32_t *)(H[0]);
    {
        int32_t low = in1[0], high = in1[0];
        for (long i0 = 0; i0 < 160; i0++) {
            low = in1[i0] < low ? in1[i0] : low;
            high = in1[i0] > high ? in1[i0] : high;
        }
        const int64_t lowest = low, highest = high, rows = 7;
        if (highest >= rows)
            GN_FAIL((long)highest, 7);
        else if (lowest < -rows)
            GN_FAIL((long)lowest, 7);
    }
    const long begin = lo * 16, width = (hi * 16) - begin;
    for (long r = 0; r < 7; r++) {
        for (long j = 0; j < width; j++)
            out0[r * 64 + begin + j] = 0;
    }
    for (long i0 = 0; i0 < 5; i0++) {
        for (long i1 = 0; i1 < 32; i1++) {
            const long row = gn_own_row(in1[i0 + i1 * 5], 7);
            if (row >= 0)
                gn_add1_float(out0 + row * 64 + begin, in0 + i0 * 2048 + i1 * 64 + begin, width);
        }
    }
}

/*   38 sum axes=>(0,) (64,) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x19c0 256 B] <- [arena+0x11000 1,792 B] (7,64)
 * by columns */
static void s38(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x19c0);
    const float *restrict in0 = (const float *)(A + 0x11000);
    float acc[64];
    for (long l = 0; l < 64; l++)
        acc[l] = 0;
    for (long i0 = 0; i0 < 7; i0++) {
        for (long l = 0; l < 64; l++)
            acc[l] += in0[i0 * 64 + l];
    }
    for (long l = 0; l < 64; l++)
        out0[l] = acc[l];
}

/*   39 sum axes=>(0,) () float32  optimizer
 *        out0 [arena+0x1ac0 4 B] <- in0 [arena+0x19c0 256 B] (64,)
 *        sum of square(in0)
 * in lanes */
static void s39(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x1ac0);
    const float *restrict in0 = (const float *)(A + 0x19c0);
    float lane[16];
    for (long l = 0; l < 16; l++)
        lane[l] = s39_value(in0[l]);
    for (long i0 = 16; i0 < 64; i0 += 16) {
        for (long l = 0; l < 16; l++)
            lane[l] += s39_value(in0[i0 + l]);
    }
    for (long l = 0; l < 8; l++)
        lane[l] += lane[l + 8];
    for (long l = 0; l < 4; l++)
        lane[l] += lane[l + 4];
    out0[0] = ((lane[0] + lane[2]) + (lane[1] + lane[3]));
}

/*   41 matmul (16,64) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x0 4,096 B] <- [param letters/embedding_1/w] (16,7) strides (1,16), [arena+0x11000 1,792 B] (7,64)
 * tiles of 4 x 16, right operand in place */
static void s41(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x0);
    const float *restrict in0 = (const float *)(H[4]);
    const float *restrict in1 = (const float *)(A + 0x11000);
    for (long column = 0; column < 64; column += 16) {
        const long start = column;
        for (long row = 0; row < 16; row += 4) {
            const long top = row;
            gn_tile_4x2_float(7, in0 + top, in1 + start, out0 + top * 64L + start, 0, 1, 16, 64, 64);
        }
    }
}

/*   42 sum axes=>(0,1) () float32  optimizer
 *        out0 [arena+0x1b00 4 B] <- in0 [arena+0x0 4,096 B] (16,64)
 *        sum of square(in0)
 * in lanes */
static void s42(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x1b00);
    const float *restrict in0 = (const float *)(A + 0x0);
    float lane[64];
    for (long l = 0; l < 64; l++)
        lane[l] = s42_value(in0[l]);
    for (long i1 = 64; i1 < 1024; i1 += 64) {
        for (long l = 0; l < 64; l++)
            lane[l] += s42_value(in0[i1 + l]);
    }
    for (long l = 0; l < 32; l++)
        lane[l] += lane[l + 32];
    for (long l = 0; l < 16; l++)
        lane[l] += lane[l + 16];
    for (long l = 0; l < 8; l++)
        lane[l] += lane[l + 8];
    for (long l = 0; l < 4; l++)
        lane[l] += lane[l + 4];
    out0[0] = ((lane[0] + lane[2]) + (lane[1] + lane[3]));
}

/*   44 matmul (7,16) float32  at test_c_text.py:26 letters/lstm_1
 *        [arena+0x1800 448 B]
 *        <- [arena+0x11000 1,792 B] (7,64)
 *        <- [param letters/lstm_1/wx] (64,16) strides (1,64)
 *        <- scratch [arena+0x1000 2,048 B]
 * tiles of 8 x 8, left operand transposed, packed by panels */
static void s44(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x1800);
    const float *restrict in0 = (const float *)(A + 0x11000);
    const float *restrict in1 = (const float *)(H[5]);
    char *scratch = A + 0x1000;
    float *panel = (float *)(scratch) + 0 * 512L;
    float tile[64] GN_ALIGNED;
    const long column = 0, start = 0, stop = 7;
    memset(panel, 0, sizeof(*panel) * 64 * 8);
    gn_transpose_float(7, 64, in0 + start * 64L, 64L, panel, 8);
    for (long row = 0; row < 16; row += 8) {
        const long top = row, end = row + 8;
        gn_tile_8x1_float(64, in1 + top * 64L, panel, tile, 0, 64, 1, 8, 8);
        gn_transpose_float(end - row, stop - column, tile + (row - top) * 8 + column - start, 8, out0 + row + column * 16L, 16L);
    }
}

/*   45 sum axes=>(0,1) () float32  optimizer
 *        out0 [arena+0x1b40 4 B]
 *        <- in0 [arena+0x1800 448 B] (7,16)
 *        <- in1 [arena+0x22300 4 B] ()
 *        <- in2 [arena+0x22340 4 B] ()
 *        <- in3 [arena+0x11700 4 B] ()
 *        <- in4 [arena+0x1ac0 4 B] ()
 *        <- in5 [arena+0x1b00 4 B] ()
 *        <- in6 [hyper optimizer/clip_norm] ()
 *        sum of square(in0)
 *        t0 = cast(in1, dtype=float64) + cast(in2, dtype=float64) + cast(in3, dtype=float64)
 *        t1 = t0 + cast(in4, dtype=float64) + cast(in5, dtype=float64) + cast(sum, dtype=float64)
 *        out0 = cast(minimum(in6 / (sqrt(t1) + 1e-06), 1), dtype=float32)
 * in lanes */
static void s45(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x1b40);
    const float *restrict in0 = (const float *)(A + 0x1800);
    const float *restrict in1 = (const float *)(A + 0x22300);
    const float *restrict in2 = (const float *)(A + 0x22340);
    const float *restrict in3 = (const float *)(A + 0x11700);
    const float *restrict in4 = (const float *)(A + 0x1ac0);
    const float *restrict in5 = (const float *)(A + 0x1b00);
    const double *restrict in7 = (const double *)(H[15]);
    float lane[16];
    for (long l = 0; l < 16; l++)
        lane[l] = s45_value(in0[l]);
    for (long i1 = 16; i1 < 112; i1 += 16) {
        for (long l = 0; l < 16; l++)
            lane[l] += s45_value(in0[i1 + l]);
    }
    for (long l = 0; l < 8; l++)
        lane[l] += lane[l + 8];
    for (long l = 0; l < 4; l++)
        lane[l] += lane[l + 4];
    {
        const float x0 = in1[0];
        const float x1 = in2[0];
        const float x2 = in3[0];
        const float x3 = in4[0];
        const float x4 = in5[0];
        const float x5 = ((lane[0] + lane[2]) + (lane[1] + lane[3]));
        const double x6 = c92[0];
        const double x7 = in7[0];
        const double x8 = c57[0];
        const double t0 = (double)x0;
        const double t1 = (double)x1;
        const double t2 = t0 + t1;
        const double t3 = (double)x2;
        const double t4 = t2 + t3;
        const double t5 = (double)x3;
        const double t6 = t4 + t5;
        const double t7 = (double)x4;
        const double t8 = t6 + t7;
        const double t9 = (double)x5;
        const double t10 = t8 + t9;
        const double t11 = sqrt(t10);
        const double t12 = t11 + x6;
        const double t13 = x7 / t12;
        const double t14 = gn_minimum_float64(t13, x8);
        out0[0] = (float)t14;
    }
}

/*   48 fused () float32  at test_c_text.py:26 optimizer/letters/dense_1
 *        out0 [arena+0x1000 4 B] <- in0 [hyper optimizer/beta1] ()
 *        out0 = cast(1 - in0, dtype=float32) */
static void s48(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x1000);
    const double *restrict in1 = (const double *)(H[11]);
    const double x0 = c57[0];
    const double x1 = in1[0];
    const double t0 = x0 - x1;
    out0[0] = (float)t0;
}

/*   49 cast () float32  at test_c_text.py:26 optimizer/letters/dense_1
 *        [arena+0x1040 4 B] <- [hyper optimizer/beta2] () */
static void s49(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x1040);
    const double *restrict in0 = (const double *)(H[13]);
    const double x0 = in0[0];
    out0[0] = (float)x0;
}

/*   50 fused () float32  at test_c_text.py:26 optimizer/letters/dense_1
 *        out0 [arena+0x1080 4 B] <- in0 [hyper optimizer/beta2] ()
 *        out0 = cast(1 - in0, dtype=float32) */
static void s50(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x1080);
    const double *restrict in1 = (const double *)(H[13]);
    const double x0 = c57[0];
    const double x1 = in1[0];
    const double t0 = x0 - x1;
    out0[0] = (float)t0;
}

/*   51 cast () float32  at test_c_text.py:26 optimizer/letters/dense_1
 *        [arena+0x10c0 4 B] <- [hyper optimizer/eps] () */
static void s51(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x10c0);
    const double *restrict in0 = (const double *)(H[17]);
    const double x0 = in0[0];
    out0[0] = (float)x0;
}

/*   57 many 6 updates of 2,343 elements, 3 x float32  optimizer/letters
 *        <- in0 [arena+0x222c0 4 B] ()
 *        <- in3 [arena+0x1b40 4 B] ()
 *        <- in4 [arena+0x1000 4 B] ()
 *        <- in5 [arena+0x1040 4 B] ()
 *        <- in7 [arena+0x1080 4 B] ()
 *        <- in8 [arena+0x22280 4 B] ()
 *        <- in9 [arena+0x10c0 4 B] ()
 *        <- in10 [arena+0x22240 4 B] ()
 *        <- in1 [out0], in6 [out1], in11 [out2]
 *        t0 = in2 * in3
 *        out0 = in0 * in1 + in4 * t0
 *        out1 = in5 * in6 + in7 * square(t0)
 *        out2 = in11 - in10 * (out0 / (sqrt(out1) * in8 + in9))
 *        (7,) out0 [slot m/letters/dense_1/b], out1 [slot v/letters/dense_1/b], out2 [param letters/dense_1/b] <- in2 [arena+0x221c0 28 B]  at test_c_text.py:26 optimizer/letters/dense_1
 *        (16,7) out0 [slot m/letters/dense_1/w], out1 [slot v/letters/dense_1/w], out2 [param letters/dense_1/w] <- in2 [arena+0x22000 448 B]  at test_c_text.py:26 optimizer/letters/dense_1
 *        (16,64) out0 [slot m/letters/lstm_1/wh], out1 [slot v/letters/lstm_1/wh], out2 [param letters/lstm_1/wh] <- in2 [arena+0x10000 4,096 B]  at test_c_text.py:26 optimizer/letters/lstm_1
 *        (64,) out0 [slot m/letters/lstm_1/b], out1 [slot v/letters/lstm_1/b], out2 [param letters/lstm_1/b] <- in2 [arena+0x19c0 256 B]  at test_c_text.py:26 optimizer/letters/lstm_1
 *        (16,64) out0 [slot m/letters/lstm_1/wx], out1 [slot v/letters/lstm_1/wx], out2 [param letters/lstm_1/wx] <- in2 [arena+0x0 4,096 B]  at test_c_text.py:26 optimizer/letters/lstm_1
 *        (7,16) out0 [slot m/letters/embedding_1/w], out1 [slot v/letters/embedding_1/w], out2 [param letters/embedding_1/w] <- in2 [arena+0x1800 448 B]  at test_c_text.py:25 optimizer/letters/embedding_1
 * 2343 in 6 arrays */
static void s57(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    const float *restrict in0 = (const float *)(A + 0x222c0);
    const float *restrict in3 = (const float *)(A + 0x1b40);
    const float *restrict in4 = (const float *)(A + 0x1000);
    const float *restrict in5 = (const float *)(A + 0x1040);
    const float *restrict in7 = (const float *)(A + 0x1080);
    const float *restrict in8 = (const float *)(A + 0x22280);
    const float *restrict in9 = (const float *)(A + 0x10c0);
    const float *restrict in10 = (const float *)(A + 0x22240);
    const struct {
        float *out0;
        float *out1;
        float *out2;
        const float *in2;
        long size, first; /* elements, and the first block among those of all */
    } members[6] = {
        {(float *)(H[14]), (float *)(H[16]), (float *)(H[8]), (const float *)(A + 0x221c0), 7, 0},
        {(float *)(H[18]), (float *)(H[19]), (float *)(H[7]), (const float *)(A + 0x22000), 112, 1},
        {(float *)(H[20]), (float *)(H[21]), (float *)(H[3]), (const float *)(A + 0x10000), 1024, 2},
        {(float *)(H[22]), (float *)(H[23]), (float *)(H[6]), (const float *)(A + 0x19c0), 64, 6},
        {(float *)(H[24]), (float *)(H[25]), (float *)(H[5]), (const float *)(A + 0x0), 1024, 7},
        {(float *)(H[26]), (float *)(H[27]), (float *)(H[4]), (const float *)(A + 0x1800), 112, 11},
    };
    const float x0 = in0[0];
    const float x3 = in3[0];
    const float x4 = in4[0];
    const float x5 = in5[0];
    const float x7 = in7[0];
    const float x8 = in8[0];
    const float x9 = in9[0];
    const float x10 = in10[0];
    for (long m = 0; m < 6; ++m) {
        const long size = members[m].size, first = members[m].first;
        const long start = lo > first ? (lo - first) * 256 : 0;
        const long stop = (hi - first) * 256 < size ? (hi - first) * 256 : size;
        float *restrict out0 = members[m].out0;
        float *restrict out1 = members[m].out1;
        float *restrict out2 = members[m].out2;
        const float *restrict in2 = members[m].in2;
        GN_INDEPENDENT
        for (long i = start; i < stop; ++i) {
            const float x1 = out0[i];
            const float x2 = in2[i];
            const float x6 = out1[i];
            const float x11 = out2[i];
            const float t0 = x0 * x1;
            const float t1 = x2 * x3;
            const float t2 = x4 * t1;
            const float y0 = t0 + t2;
            const float t3 = x5 * x6;
            const float t4 = t1 * t1;
            const float t5 = x7 * t4;
            const float y1 = t3 + t5;
            const float t6 = sqrtf(y1);
            const float t7 = t6 * x8;
            const float t8 = t7 + x9;
            const float t9 = y0 / t8;
            const float t10 = x10 * t9;
            out0[i] = y0;
            out1[i] = y1;
            out2[i] = x11 - t10;
        }
    }
}

/*   58 copy (32,16) float32  at test_c_text.py:26 letters/lstm_1
 *        [state letters/lstm_1/h] <- [arena+0xc800 2,048 B] (32,16)
 * 512 */
static void s58(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(H[1]);
    const float *restrict in0 = (const float *)(A + 0xc800);
    GN_INDEPENDENT
    for (long i = lo * 16; i < hi * 16; ++i) {
        const float x0 = in0[i];
        out0[i] = x0;
    }
}

/*   59 copy (32,16) float32  at test_c_text.py:26 letters/lstm_1
 *        [state letters/lstm_1/c] <- [arena+0xf800 2,048 B] (32,16)
 * 512 */
static void s59(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(H[2]);
    const float *restrict in0 = (const float *)(A + 0xf800);
    GN_INDEPENDENT
    for (long i = lo * 16; i < hi * 16; ++i) {
        const float x0 = in0[i];
        out0[i] = x0;
    }
}

static void step(struct net *net, int tid)
{
    if (tid == 0) {
        s0(net);
    }
    s2(net, CUT(32, tid), CUT(32, tid + 1));
    s3(net, CUT(32, tid), CUT(32, tid + 1));
    if (tid == 0) {
        s4(net);
    }
    net->barrier();
    for (long k0 = 0; k0 < 5; ++k0) {
        s4_2(net, CUT(32, tid), CUT(32, tid + 1), k0);
        s5(net, CUT(32, tid), CUT(32, tid + 1), k0);
    }
    net->barrier();
    if (tid == 0) {
        s8(net);
    }
    s11(net, CUT(32, tid), CUT(32, tid + 1));
    net->barrier();
    s12(net, CUT(32, tid), CUT(32, tid + 1));
    net->barrier();
    if (tid == 0) {
        s16(net);
    }
    if (net->failed) return;
    if (tid == 0)
        s18(net);
    if (tid == 0) {
        s19(net);
        s22(net);
        s23(net);
    }
    net->barrier();
    s25(net, CUT(32, tid), CUT(32, tid + 1));
    net->barrier();
    if (tid == 0) {
        s26(net);
        s27(net);
        s29(net);
    }
    s30(net, CUT(32, tid), CUT(32, tid + 1));
    s31(net, CUT(32, tid), CUT(32, tid + 1));
    if (tid == 0) {
        s32(net);
    }
    net->barrier();
    for (long k1 = 0; k1 < 5; ++k1) {
        s32_2(net, CUT(32, tid), CUT(32, tid + 1), k1);
        s33(net, CUT(32, tid), CUT(32, tid + 1), k1);
    }
    net->barrier();
    s34(net, CUT(16, tid), CUT(16, tid + 1));
    net->barrier();
    if (tid == 0) {
        s35(net);
    }
    s37(net, CUT(4, tid), CUT(4, tid + 1));
    net->barrier();
    if (tid == 0) {
        s38(net);
        s39(net);
        s41(net);
        s42(net);
        s44(net);
        s45(net);
        s48(net);
        s49(net);
        s50(net);
        s51(net);
    }
    net->barrier();
    if (net->failed) return;
    s57(net, CUT(12, tid), CUT(12, tid + 1));
    s58(net, CUT(32, tid), CUT(32, tid + 1));
    s59(net, CUT(32, tid), CUT(32, tid + 1));
}

static void (*const parts[])(struct net *, int) = {step};

static void work(void *argument, int tid)
{
    struct net *net = argument;
    parts[net->part](net, tid);
}

/* Runs one part; returns 1 if an index was out of range, -1 if threads could not be had, else 0.
   Part -1 runs nothing and returns how many threads the others run on. */
int gn_run(struct net *net, int part)
{
    if (part < 0)
        return THREADS;
    net->part = part;
    net->failed = 0;
    if (THREADS == 1)
        work(net, 0);
    else if (net->parallel(work, net, THREADS))
        return -1;
    return (int)net->failed;
}
