/* images:training: 14 steps, arena 7,168 B, 2 threads
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
    char *H[7];
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
 *   H[0] input x, 2,048 B
 *   H[1] param images/conv2d_1/w, 108 B
 *   H[2] param images/conv2d_1/b, 12 B
 *   H[3] param images/dense_1/w, 432 B
 *   H[4] param images/dense_1/b, 16 B
 *   H[5] input target, 32 B
 *   H[6] hyper optimizer/lr, 8 B
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

/* Outputs o in [first, stop) are those below count for which o * stride + offset lies in [0, size). */
GN_INLINE long gn_met_first(long offset, long stride)
{
    return offset < 0 ? (stride - 1 - offset) / stride : 0;
}
GN_INLINE long gn_met_stop(long size, long count, long offset, long stride)
{
    const long stop = offset < size ? (size - 1 - offset) / stride + 1 : 0;
    return stop < count ? stop : count;
}

GN_CONTRACT static __attribute__((noinline)) void gn_patches_3x3_float32(long K, const float *restrict a, long ai,
    long ak, const float *restrict b, const int32_t *restrict at, float *restrict t, long ti, int add)
{
    GN_CONTRACTED
    gn_vfloat c0_0 = {0}, c0_1 = {0}, c0_2 = {0};
    gn_vfloat c1_0 = {0}, c1_1 = {0}, c1_2 = {0};
    gn_vfloat c2_0 = {0}, c2_1 = {0}, c2_2 = {0};
    if (add) {
        c0_0 = GN_VFLOAT(t + 0 * ti + 0); c0_1 = GN_VFLOAT(t + 0 * ti + 8); c0_2 = GN_VFLOAT(t + 0 * ti + 16);
        c1_0 = GN_VFLOAT(t + 1 * ti + 0); c1_1 = GN_VFLOAT(t + 1 * ti + 8); c1_2 = GN_VFLOAT(t + 1 * ti + 16);
        c2_0 = GN_VFLOAT(t + 2 * ti + 0); c2_1 = GN_VFLOAT(t + 2 * ti + 8); c2_2 = GN_VFLOAT(t + 2 * ti + 16);
    }
    for (long k = 0; k < K; ++k, a += ak) {
        const float *y = b + at[k];
        gn_vfloat b0 = GN_VFLOAT(y + 0), b1 = GN_VFLOAT(y + 8), b2 = GN_VFLOAT(y + 16);
        GN_KEEP(b0); GN_KEEP(b1); GN_KEEP(b2);
        float s;
        s = a[0 * ai]; c0_0 += s * b0; c0_1 += s * b1; c0_2 += s * b2;
        s = a[1 * ai]; c1_0 += s * b0; c1_1 += s * b1; c1_2 += s * b2;
        s = a[2 * ai]; c2_0 += s * b0; c2_1 += s * b1; c2_2 += s * b2;
    }
    GN_VFLOAT(t + 0 * ti + 0) = c0_0; GN_VFLOAT(t + 0 * ti + 8) = c0_1; GN_VFLOAT(t + 0 * ti + 16) = c0_2;
    GN_VFLOAT(t + 1 * ti + 0) = c1_0; GN_VFLOAT(t + 1 * ti + 8) = c1_1; GN_VFLOAT(t + 1 * ti + 16) = c1_2;
    GN_VFLOAT(t + 2 * ti + 0) = c2_0; GN_VFLOAT(t + 2 * ti + 8) = c2_1; GN_VFLOAT(t + 2 * ti + 16) = c2_2;
}

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

/* no iteration of the loop that follows reads what another one writes */
#if defined(__GNUC__) && !defined(__clang__)
#define GN_INDEPENDENT _Pragma("GCC ivdep")
#else
#define GN_INDEPENDENT
#endif
#if defined(__clang__)
#define GN_SHUFFLE_float32(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t gn_lanes_float32 __attribute__((vector_size(32)));
#define GN_SHUFFLE_float32(a, b, ...) __builtin_shuffle(a, b, (gn_lanes_float32){__VA_ARGS__})
#endif
#define GN_FOLD4_float32(a, b) \
    (GN_SHUFFLE_float32(a, b, 0, 1, 2, 3, 8, 9, 10, 11) \
    + GN_SHUFFLE_float32(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#define GN_FOLD2_float32(a, b) \
    (GN_SHUFFLE_float32(a, b, 0, 1, 4, 5, 8, 9, 12, 13) \
    + GN_SHUFFLE_float32(a, b, 2, 3, 6, 7, 10, 11, 14, 15))
#define GN_FOLD1_float32(a, b) \
    (GN_SHUFFLE_float32(a, b, 0, 2, 4, 6, 8, 10, 12, 14) \
    + GN_SHUFFLE_float32(a, b, 1, 3, 5, 7, 9, 11, 13, 15))

GN_CONTRACT static __attribute__((noinline)) void gn_pixels_3x3_float32(long segments, long steps, long rest,
    const float *a, long as, long ai, const float *b, long bs, long bi, float *t)
{
    GN_CONTRACTED
    GN_ALIGNED float last[3][8] = {{0}};
    gn_vfloat c0_0 = {0}, c0_1 = {0}, c0_2 = {0};
    gn_vfloat c1_0 = {0}, c1_1 = {0}, c1_2 = {0};
    gn_vfloat c2_0 = {0}, c2_1 = {0}, c2_2 = {0};
    for (long s = 0; s < segments; ++s) {
        const float *x = a + s * as, *y = b + s * bs;
        long row = bi;
        for (long step = 0; step < steps + (rest > 0); ++step) {
            if (step == steps) {
                for (int j = 0; j < 3; ++j)
                    for (long l = 0; l < rest; ++l)
                        last[j][l] = y[j * bi + l];
                y = last[0];
                row = 8;
            }
            gn_vfloat b0 = GN_VFLOAT(y + 0 * row), b1 = GN_VFLOAT(y + 1 * row), b2 = GN_VFLOAT(y + 2 * row), v;
            GN_KEEP(b0); GN_KEEP(b1); GN_KEEP(b2);
            v = GN_VFLOAT(x + 0 * ai); GN_KEEP(v); c0_0 += v * b0; c0_1 += v * b1; c0_2 += v * b2;
            v = GN_VFLOAT(x + 1 * ai); GN_KEEP(v); c1_0 += v * b0; c1_1 += v * b1; c1_2 += v * b2;
            v = GN_VFLOAT(x + 2 * ai); GN_KEEP(v); c2_0 += v * b0; c2_1 += v * b1; c2_2 += v * b2;
            x += 8;
            y += 8;
        }
    }
    c0_0 = GN_FOLD4_float32(c0_0, c0_1);
    c0_2 = GN_FOLD4_float32(c0_2, c1_0);
    c1_1 = GN_FOLD4_float32(c1_1, c1_2);
    c2_0 = GN_FOLD4_float32(c2_0, c2_1);
    c2_2 = GN_FOLD4_float32(c2_2, c2_2);
    c0_0 = GN_FOLD2_float32(c0_0, c0_2);
    c1_1 = GN_FOLD2_float32(c1_1, c2_0);
    c2_2 = GN_FOLD2_float32(c2_2, c2_2);
    c0_0 = GN_FOLD1_float32(c0_0, c1_1);
    c2_2 = GN_FOLD1_float32(c2_2, c2_2);
    GN_VFLOAT(t + 0) = c0_0;
    GN_VFLOAT(t + 8) = c2_2;
}

static const int32_t c16[4] GN_ALIGNED = {0, 1, 2, 3};
static const float c17[1] GN_ALIGNED = {0.0f};
static const float c18[1] GN_ALIGNED = {-0.125f};
static const float c26[1] GN_ALIGNED = {8.0f};
static const float c29[1] GN_ALIGNED = {0.125f};
/*    0 conv2d (8,3,36) float32  at test_c_text.py:19 images/conv2d_1
 *        out0 [arena+0x0 3,456 B]
 *        <- in0 [input x] (8,1,8,8)
 *        <- in1 [param images/conv2d_1/w] (3,1,3,3)
 *        <- in2 [param images/conv2d_1/b] (8,3,36) strides (0,1,0)
 *        <- scratch [arena+0xd80 2,176 B]
 *        out0 = relu(conv2d + in2)
 * implicit GEMM, tiles of 3 x 24 */
static void s0(struct net *net, int tid, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x0);
    const float *restrict in0 = (const float *)(H[0]);
    const float *restrict in1 = (const float *)(H[1]);
    const float *restrict in2 = (const float *)(H[2]);
    char *scratch = A + 0xd80;
    float *rows = (float *)(scratch + 0 + tid * 1088L);
    int32_t *at = (int32_t *)(scratch + 704 + tid * 1088L);
    float *tile = (float *)(scratch + 768 + tid * 1088L);
    for (long k = 0; k < 9; ++k) {
        const long i = k / 3 % 3;
        at[k] = (int32_t)((k / 9 * 3 + k % 3) * 48 + i * 6);
    }
    for (long n = lo; n < hi; ++n) {
        const long pixels = 36;
        const float *image = in0 + n * 64L;
        const float *weights = in1;
        for (long c = 0; c < 1; ++c) {
            for (long j = 0; j < 3; ++j) {
                for (long q = 0; q < 8; ++q) {
                    const long h = q;
                    const float *from = image + c * 64L + h * 8L + j;
                    float *to = rows + (c * 3 + j) * 48 + q * 6;
                    for (long z = 0; z < 6; ++z)
                        to[z] = from[z];
                }
            }
        }
        for (long panel = 0; panel < pixels; panel += 24) {
            for (long top = 0; top < 3; top += 3) {
                const long row = top;
                gn_patches_3x3_float32(9, weights + row * 9L, 9, 1, rows + panel, at, tile, 24, 0);
                const long width = pixels - panel < 24 ? pixels - panel : 24;
                for (long i = 0; i < 3; ++i) {
                    const long o = row + i;
                    const float *sum = tile + i * 24;
                    for (long q = 0; q < width; ++q) {
                        const long p = panel + q;
                        {
                            const float x0 = sum[q];
                            const float x1 = in2[o];
                            const float t0 = x0 + x1;
                            out0[108 * n + 36 * o + p] = t0 <= 0.0f ? 0.0f : t0;
                        }
                    }
                }
            }
        }
    }
}

/*    2 max_pool kernel=>(2,2) stride=>(2,2) (8,3,3,3) uint8, (8,3,3,3) float32  at test_c_text.py:19 images
 *        [arena+0x1980 216 B], [arena+0x1600 864 B] <- [arena+0x0 3,456 B] (8,3,6,6)
 * maxima of rows, then of windows */
static void s2(struct net *net, long lo, long hi)
{
    char *A = net->A;
    uint8_t *restrict out0 = (uint8_t *)(A + 0x1980);
    float *restrict out1 = (float *)(A + 0x1600);
    const float *restrict in0 = (const float *)(A + 0x0);
    for (long u = lo; u < hi; ++u) {
        const float *image = in0 + u * 108L;
        uint8_t *index = out0 + u * 27L;
        GN_ALIGNED float high[54];
        GN_ALIGNED int32_t which[54], place[27];
        float *values = out1 + u * 27L;
        for (long first = 0; first < 9; first += 9) {
            const long rows = 9;
            float *best = values + first * 3;
            for (long r = 0; r < rows; ++r) {
                const long t = first + r;
                float *top = high + r * 6 + 0;
                int32_t *at = which + r * 6 + 0;
                const float *row = image + t * 12L;
                for (long q = 0; q < 6; ++q) {
                    const float m = row[q], v = row[q + 6L];
                    const int32_t own = 0, new = 2;
                    const int take = !(v <= m) & (m == m);
                    top[q] = take ? v : m;
                    at[q] = take ? new : own;
                }
            }
            for (long q = 0; q < rows * 3; ++q) {
                const float m = high[q * 2], v = high[q * 2 + 1];
                const int32_t own = which[q * 2], new = which[q * 2 + 1] + 1;
                const int take = (!(v <= m) & (m == m)) | ((new < own) & ((v == m) | (v != v)));
                best[q] = take ? v : m;
                place[q] = take ? new : own;
            }
            for (long q = 0; q < rows * 3; ++q)
                index[first * 3 + q] = (uint8_t)place[q];
        }
    }
}

/*    4 matmul (8,4) float32  at test_c_text.py:20 images/dense_1
 *        out0 [arena+0x0 128 B]
 *        <- in0 [arena+0x1600 864 B] (8,27)
 *        <- in1 [param images/dense_1/w] (27,4)
 *        <- in2 [param images/dense_1/b] (8,4) strides (0,1)
 *        out0 = matmul + in2
 * plain loops */
static void s4(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x0);
    const float *restrict in0 = (const float *)(A + 0x1600);
    const float *restrict in1 = (const float *)(H[3]);
    const float *restrict in2 = (const float *)(H[4]);
    for (long i = 0; i < 8; ++i) {
        for (long j = 0; j < 4; ++j) {
            float sum = 0;
            for (long k = 0; k < 27; ++k)
                sum += in0[i * 27L + k] * in1[k * 4L + j];
            {
                const float x1 = in2[j];
                out0[4 * i + j] = sum + x1;
            }
        }
    }
}

/*    7 bounded size=>4 wrap=>False (8,) int32  at test_c_text.py:38 softmax_cross_entropy
 *        [arena+0x80 32 B] <- [input target] (8,) */
static void s7(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    const int gn_step = 7;
    int32_t *restrict out0 = (int32_t *)(A + 0x80);
    const int32_t *restrict in0 = (const int32_t *)(H[5]);
    {
        int32_t low = in0[0], high = in0[0];
        for (long i0 = 0; i0 < 8; i0++) {
            low = in0[i0] < low ? in0[i0] : low;
            high = in0[i0] > high ? in0[i0] : high;
        }
        const int64_t lowest = low, highest = high, rows = 4;
        if (highest >= rows)
            GN_FAIL((long)highest, 4);
        else if (lowest < 0)
            GN_FAIL((long)lowest, 4);
    }
    for (long i0 = lo; i0 < hi; i0++)
        out0[i0] = (int32_t)gn_row(in0[i0], 4);
}

/*    8 rows of 4: (8,1) float32, (8,4) float32  at test_c_text.py:38 softmax_cross_entropy
 *        out0 [arena+0xc0 32 B]
 *        out1 [arena+0x0 128 B]
 *        <- in0 [arena+0x0 128 B] (8,4)
 *        <- in1 [arena+0x80 32 B] (8,1)
 *        <- in2 [constant] (1,4)
 *        t0 = in0 - max(in0)
 *        t1 = exp(t0)
 *        t2 = in1 == in2
 *        t3 = sum(t1)
 *        out0 = log(t3) - sum(where(t2, t0, 0))
 *        out1 = where(t2, -0.125, 0) + 0.125 / t3 * t1
 * rows of 4 side by side */
static void s8(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0xc0);
    float *restrict out1 = (float *)(A + 0x0);
    const int32_t *restrict in1 = (const int32_t *)(A + 0x80);
    float b0[32] GN_ALIGNED;
    float b1[32] GN_ALIGNED;
    float b2[32] GN_ALIGNED;
    float n3[8] GN_ALIGNED;
    float n4[8] GN_ALIGNED;
    float n5[8] GN_ALIGNED;
    float n6[8] GN_ALIGNED;
    const float n0 = c17[0];
    const float n1 = c18[0];
    const float n2 = c29[0];
    for (long i = 0; i < 8; i += 8) {
        float *restrict row0 = out0 + i;
        float *restrict row1 = out1 + 4 * i;
        const int32_t *restrict row2 = in1 + i;
        for (long k = 0; k < 8; k++) {
            for (long j = 0; j < 4; j++)
                b0[k + 8 * j] = row1[4 * k + j];
        }
        {
            float acc[8];
            for (long k = 0; k < 8; k++)
                acc[k] = -INFINITY;
            for (long j = 0; j < 4; j++) {
                for (long k = 0; k < 8; k++)
                    acc[k] = gn_max_float(acc[k], b0[k + 8 * j]);
            }
            for (long k = 0; k < 8; k++)
                n3[k] = acc[k];
        }
        for (long j = 0; j < 4; j++) {
            GN_INDEPENDENT
            for (long k = 0; k < 8; ++k) {
                const float x0 = b0[k + 8 * j];
                const float x1 = n3[k];
                const float t0 = x0 - x1;
                b2[k + 8 * j] = gn_expf(t0);
            }
        }
        {
            float acc[8];
            for (long k = 0; k < 8; k++)
                acc[k] = 0;
            for (long j = 0; j < 4; j++) {
                for (long k = 0; k < 8; k++)
                    acc[k] += b2[k + 8 * j];
            }
            for (long k = 0; k < 8; k++)
                n4[k] = acc[k];
        }
        {
            float acc[8];
            for (long k = 0; k < 8; k++)
                acc[k] = 0;
            for (long j = 0; j < 4; j++) {
                for (long k = 0; k < 8; k++)
                    acc[k] += (row2[k] == c16[j]) ? (b0[k + 8 * j] - n3[k]) : n0;
            }
            for (long k = 0; k < 8; k++)
                n5[k] = acc[k];
        }
        GN_INDEPENDENT
        for (long k = 0; k < 8; ++k) {
            const float x0 = n4[k];
            const float x1 = n5[k];
            const float t0 = gn_logf(x0);
            row0[k] = t0 - x1;
            n6[k] = n2 / x0;
        }
        for (long j = 0; j < 4; j++) {
            GN_INDEPENDENT
            for (long k = 0; k < 8; ++k) {
                const int32_t x0 = row2[k];
                const int32_t x1 = c16[j];
                const float x4 = n6[k];
                const float x5 = b2[k + 8 * j];
                const _Bool t0 = x0 == x1;
                const float t1 = t0 ? n1 : n0;
                const float t2 = x4 * x5;
                b1[k + 8 * j] = t1 + t2;
            }
        }
        for (long k = 0; k < 8; k++) {
            for (long j = 0; j < 4; j++)
                row1[4 * k + j] = b1[k + 8 * j];
        }
    }
}

/*   12 sum axes=>(0,) () float32  at test_c_text.py:38 softmax_cross_entropy
 *        out0 [arena+0x1b80 4 B] <- in0 [arena+0xc0 32 B] (8,)
 *        out0 = sum / 8
 * in lanes */
static void s12(struct net *net)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x1b80);
    const float *restrict in0 = (const float *)(A + 0xc0);
    float lane[8];
    for (long l = 0; l < 8; l++)
        lane[l] = in0[l];
    for (long l = 0; l < 4; l++)
        lane[l] += lane[l + 4];
    {
        const float x0 = ((lane[0] + lane[2]) + (lane[1] + lane[3]));
        const float x1 = c26[0];
        out0[0] = x0 / x1;
    }
}

/*   14 cast () float32  at test_c_text.py:20 optimizer/images/dense_1
 *        [arena+0x1bc0 4 B] <- [hyper optimizer/lr] () */
static void s14(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0x1bc0);
    const double *restrict in0 = (const double *)(H[6]);
    const double x0 = in0[0];
    out0[0] = (float)x0;
}

/*   17 sum axes=>(0,) (4,) float32  at test_c_text.py:20 images/dense_1
 *        out0 [param images/dense_1/b]
 *        <- in0 [arena+0x0 128 B] (8,4)
 *        <- in1 [arena+0x1bc0 4 B] (4,) strides (0,)
 *        <- in2 [param images/dense_1/b] (4,)
 *        out0 = in2 - in1 * sum
 * by columns */
static void s17(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(H[4]);
    const float *restrict in0 = (const float *)(A + 0x0);
    const float *restrict in1 = (const float *)(A + 0x1bc0);
    float acc[4];
    for (long l = 0; l < 4; l++)
        acc[l] = 0;
    for (long i0 = 0; i0 < 8; i0++) {
        for (long l = 0; l < 4; l++)
            acc[l] += in0[i0 * 4 + l];
    }
    for (long l = 0; l < 4; l++) {
        {
            const float x0 = in1[0];
            const float x1 = acc[l];
            const float x2 = out0[l];
            const float t0 = x0 * x1;
            out0[l] = x2 - t0;
        }
    }
}

/*   20 matmul (8,27) float32  at test_c_text.py:20 images/dense_1
 *        out0 [arena+0xd80 864 B]
 *        <- in0 [arena+0x0 128 B] (8,4)
 *        <- in1 [param images/dense_1/w] (4,27) strides (1,4)
 *        <- in2 [arena+0x1600 864 B] (8,27)
 *        out0 = where(in2 > 0, matmul, 0)
 * plain loops */
static void s20(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(A + 0xd80);
    const float *restrict in0 = (const float *)(A + 0x0);
    const float *restrict in1 = (const float *)(H[3]);
    const float *restrict in2 = (const float *)(A + 0x1600);
    for (long i = 0; i < 8; ++i) {
        for (long j = 0; j < 27; ++j) {
            float sum = 0;
            for (long k = 0; k < 4; ++k)
                sum += in0[i * 4L + k] * in1[k + j * 4L];
            {
                const float x0 = in2[27 * i + j];
                const float x1 = c17[0];
                const _Bool t0 = x0 > x1;
                out0[27 * i + j] = t0 ? sum : x1;
            }
        }
    }
}

/*   21 matmul (27,4) float32  at test_c_text.py:20 images/dense_1
 *        out0 [param images/dense_1/w]
 *        <- in0 [arena+0x1600 864 B] (27,8) strides (1,27)
 *        <- in1 [arena+0x0 128 B] (8,4)
 *        <- in2 [arena+0x1bc0 4 B] (27,4) strides (0,0)
 *        <- in3 [param images/dense_1/w] (27,4)
 *        out0 = in3 - in2 * matmul
 * plain loops */
static void s21(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(H[3]);
    const float *restrict in0 = (const float *)(A + 0x1600);
    const float *restrict in1 = (const float *)(A + 0x0);
    const float *restrict in2 = (const float *)(A + 0x1bc0);
    for (long i = 0; i < 27; ++i) {
        for (long j = 0; j < 4; ++j) {
            float sum = 0;
            for (long k = 0; k < 8; ++k)
                sum += in0[i + k * 27L] * in1[k * 4L + j];
            {
                const float x0 = in2[0];
                const float x2 = out0[4 * i + j];
                const float t0 = x0 * sum;
                out0[4 * i + j] = x2 - t0;
            }
        }
    }
}

/*   23 sum axes=>(0,2,3) (3,) float32  at test_c_text.py:19 images/conv2d_1
 *        out0 [param images/conv2d_1/b]
 *        <- in0 [arena+0xd80 864 B] (8,3,3,3)
 *        <- in1 [arena+0x1bc0 4 B] (3,) strides (0,)
 *        <- in2 [param images/conv2d_1/b] (3,)
 *        out0 = in2 - in1 * sum
 * in lanes */
static void s23(struct net *net, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(H[2]);
    const float *restrict in0 = (const float *)(A + 0xd80);
    const float *restrict in1 = (const float *)(A + 0x1bc0);
    for (long i1 = lo; i1 < hi; i1++) {
        float lane[8];
        for (long l = 0; l < 8; l++)
            lane[l] = 0;
        for (long i0 = 0; i0 < 8; i0++) {
            for (long i3 = 0; i3 < 8; i3 += 8) {
                for (long l = 0; l < 8; l++)
                    lane[l] += in0[i0 * 27 + i1 * 9 + i3 + l];
            }
            for (long l = 0; l < 1; l++)
                lane[l] += in0[i0 * 27 + i1 * 9 + 8 + l];
        }
        for (long l = 0; l < 4; l++)
            lane[l] += lane[l + 4];
        {
            const float x0 = in1[0];
            const float x1 = ((lane[0] + lane[2]) + (lane[1] + lane[3]));
            const float x2 = out0[i1];
            const float t0 = x0 * x1;
            out0[i1] = x2 - t0;
        }
    }
}

/*   25 pool_scatter kernel=>(2,2) stride=>(2,2) (8,3,6,6) float32  at test_c_text.py:19 images
 *        [arena+0x0 3,456 B] <- [arena+0xd80 864 B] (8,3,3,3), [arena+0x1980 216 B] (8,3,3,3)
 * rows of disjoint windows */
static void s25(struct net *net, long lo, long hi)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x0);
    const float *restrict in0 = (const float *)(A + 0xd80);
    const uint8_t *restrict in1 = (const uint8_t *)(A + 0x1980);
    for (long u = lo; u < hi; ++u) {
        float *image = out0 + u * 108L;
        const float *part = in0 + u * 27L;
        const uint8_t *index = in1 + u * 27L;
        GN_ALIGNED float values[54];
        GN_ALIGNED uint32_t hits[54]; /* the place, counted from its column */
        for (long first = 0; first < 9; first += 9) {
            const long rows = 9;
            for (long q = 0; q < rows * 3; ++q) {
                const float v = part[first * 3 + q];
                values[q * 2 + 0] = v;
                values[q * 2 + 1] = v;
                const uint32_t k = (uint32_t)index[first * 3 + q];
                hits[q * 2 + 0] = k - 0;
                hits[q * 2 + 1] = k - 1;
            }
            for (long r = 0; r < rows; ++r) {
                const long t = first + r;
                for (long q = 0; q < 6; ++q) {
                    image[(t * 2 + 0) * 6L + q] = hits[r * 6 + q] == 0 ? values[r * 6 + q] : 0;
                    image[(t * 2 + 1) * 6L + q] = hits[r * 6 + q] == 2 ? values[r * 6 + q] : 0;
                }
            }
        }
    }
}

/*   26 conv2d_weight (3,1,3,3) float32  at test_c_text.py:19 images/conv2d_1
 *        [arena+0x1b00 108 B] <- [input x] (8,1,8,8), [arena+0x0 3,456 B] (8,3,6,6), scratch [arena+0xd80 3,456 B]
 * 8 chunks of images, tiles of 3 x 3 */
static void s26a(struct net *net, int tid, long lo, long hi)
{
    char *A = net->A;
    char *const *H = net->H;
    const float *restrict in0 = (const float *)(H[0]);
    const float *restrict in1 = (const float *)(A + 0x0);
    char *scratch = A + 0xd80;
    float *rows = (float *)(scratch + 896 + tid * 1280L);
    float *tile = (float *)(scratch + 1536 + tid * 1280L);
    int32_t *at = (int32_t *)(scratch + 1600 + tid * 1280L);
    float *signal = (float *)(scratch + 1664 + tid * 1280L);
    for (long q = 0; q < 3; ++q)
        at[q] = (int32_t)(q / 3 * 9 + q % 3);
    for (long u = lo; u < hi; ++u) {
        const long chunk = u / 1, end = (chunk + 1) * 8 / 8;
        float *sums = (float *)scratch + chunk * 27L;
        int more = 0; /* whether sums hold something */
        for (long n = chunk * 8 / 8; n < end; n += 1) {
            const long images = end - n < 1 ? end - n : 1;
            for (long m = 0; m < images; ++m) {
                for (long c = 0; c < 1; ++c) {
                    for (long j = 0; j < 3; ++j) {
                        for (long q = 0; q < 8; ++q) {
                            const long h = q;
                            const float *from = in0 + (n + m) * 64L + c * 64L + h * 8L + j;
                            float *to = rows + m * 6 + (c * 3 + j) * 48 + q * 6 * images;
                            for (long z = 0; z < 6; ++z)
                                to[z] = from[z];
                        }
                    }
                }
            }
            const float *from = in1 + n * 108L;
            for (long o = 0; o < 3; ++o) {
                for (long y = 0; y < 6; ++y) {
                    for (long m = 0; m < images; ++m) {
                        for (long z = 0; z < 6; ++z)
                            signal[o * 40 + (y * images + m) * 6 + z] = from[m * 108L + o * 36L + y * 6L + z];
                    }
                }
                for (long q = images * 36; q < 40; ++q)
                    signal[o * 40 + q] = 0;
            }
            for (long first = 0; first < 3; first += 3) {
                for (long top = 0; top < 3; top += 3) {
                    for (long i = 0; i < 3; ++i) {
                        const long o = top, p = first;
                        gn_pixels_3x3_float32(1, images * 36 / 8, images * 36 % 8, signal + o * 40L, 0, 40, rows + p * 48 + i * 6 * images, 0, 48, tile);
                        for (long a = 0; a < 3; ++a) {
                            float *to = sums + (o + a) * 9 + i * 3;
                            for (long b = 0; b < 3; ++b) {
                                float *sum = to + at[p + b];
                                *sum = more ? *sum + tile[a * 3 + b] : tile[a * 3 + b];
                            }
                        }
                    }
                }
            }
            more = 1;
        }
    }
}

/* sum of chunks */
static void s26b(struct net *net, long lo, long hi)
{
    char *A = net->A;
    float *restrict out0 = (float *)(A + 0x1b00);
    char *scratch = A + 0xd80;
    for (long o = lo; o < hi; ++o) {
        const float *sums = (const float *)scratch + o * 9;
        float *to = out0 + o * 9L;
        for (long q = 0; q < 9; ++q)
            to[q] = sums[q + 0L] + sums[q + 27L] + sums[q + 54L] + sums[q + 81L] + sums[q + 108L] + sums[q + 135L] + sums[q + 162L] + sums[q + 189L];
    }
}

/*   27 fused (3,1,3,3) float32  at test_c_text.py:19 optimizer/images/conv2d_1
 *        out0 [param images/conv2d_1/w]
 *        <- in0 [arena+0x1bc0 4 B] ()
 *        <- in1 [arena+0x1b00 108 B] (3,1,3,3)
 *        <- in2 [param images/conv2d_1/w] (3,1,3,3)
 *        out0 = in2 - in0 * in1
 * 27 */
static void s27(struct net *net)
{
    char *A = net->A;
    char *const *H = net->H;
    float *restrict out0 = (float *)(H[1]);
    const float *restrict in0 = (const float *)(A + 0x1bc0);
    const float *restrict in1 = (const float *)(A + 0x1b00);
    const float x0 = in0[0];
    GN_INDEPENDENT
    for (long i = 0; i < 27; ++i) {
        const float x1 = in1[i];
        const float x2 = out0[i];
        const float t0 = x0 * x1;
        out0[i] = x2 - t0;
    }
}

static void step(struct net *net, int tid)
{
    s0(net, tid, CUT(8, tid), CUT(8, tid + 1));
    s2(net, CUT(8, tid), CUT(8, tid + 1));
    net->barrier();
    if (tid == 0) {
        s4(net);
    }
    s7(net, CUT(8, tid), CUT(8, tid + 1));
    net->barrier();
    if (tid == 0) {
        s8(net);
        s12(net);
        s14(net);
    }
    if (net->failed) return;
    if (tid == 0)
        s17(net);
    if (tid == 0) {
        s20(net);
        s21(net);
    }
    net->barrier();
    s23(net, CUT(3, tid), CUT(3, tid + 1));
    s25(net, CUT(8, tid), CUT(8, tid + 1));
    net->barrier();
    s26a(net, tid, CUT(8, tid), CUT(8, tid + 1));
    net->barrier();
    s26b(net, CUT(3, tid), CUT(3, tid + 1));
    net->barrier();
    if (tid == 0) {
        s27(net);
    }
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
