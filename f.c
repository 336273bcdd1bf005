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
/* One copy, called: else gcc makes one for every set of arguments, which costs compile time. */
#if defined(__clang__)
#define GN_ONCE static __attribute__((noinline, unused))
#else
#define GN_ONCE static __attribute__((noipa, unused))
#endif
/* Keeps a loaded vector in its register, where gcc would rather load it again for each use. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512F__)
#define GN_KEEP(x) __asm__("" : "+v"(x))
#else
#define GN_KEEP(x) (void)0
#endif
typedef float gn_vfloat
    __attribute__((vector_size(64), aligned(4), may_alias));
#define GN_VFLOAT(p) (*(gn_vfloat *)(p))
typedef double gn_vdouble
    __attribute__((vector_size(64), aligned(8), may_alias));
#define GN_VDOUBLE(p) (*(gn_vdouble *)(p))
GN_CONTRACT GN_ONCE void gn_sums_1_float(long K, long safe, const float *restrict v, long vs,
    const float *restrict g, long gk, const float *restrict tail, float *restrict t)
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
    long k = 0;
    for (; k + 8 <= K; k += 8) {
        const float *x = v + k * vs, *y = k < safe ? g + k * gk : tail + (k - safe) * 16;
        const long row = k < safe ? gk : 16;
        float s;
        s = x[0]; c0_0 += s * GN_VFLOAT(y + 0);
        s = x[vs]; c1_0 += s * GN_VFLOAT(y + row);
        s = x[2 * vs]; c2_0 += s * GN_VFLOAT(y + 2 * row);
        s = x[3 * vs]; c3_0 += s * GN_VFLOAT(y + 3 * row);
        s = x[4 * vs]; c4_0 += s * GN_VFLOAT(y + 4 * row);
        s = x[5 * vs]; c5_0 += s * GN_VFLOAT(y + 5 * row);
        s = x[6 * vs]; c6_0 += s * GN_VFLOAT(y + 6 * row);
        s = x[7 * vs]; c7_0 += s * GN_VFLOAT(y + 7 * row);
    }
    const float *y = k < safe ? g + k * gk : tail + (k - safe) * 16;
    const long row = k < safe ? gk : 16;
    float s;
    if (k + 0 < K) { s = v[(k + 0) * vs]; c0_0 += s * GN_VFLOAT(y + 0); }
    if (k + 1 < K) { s = v[(k + 1) * vs]; c1_0 += s * GN_VFLOAT(y + row); }
    if (k + 2 < K) { s = v[(k + 2) * vs]; c2_0 += s * GN_VFLOAT(y + 2 * row); }
    if (k + 3 < K) { s = v[(k + 3) * vs]; c3_0 += s * GN_VFLOAT(y + 3 * row); }
    if (k + 4 < K) { s = v[(k + 4) * vs]; c4_0 += s * GN_VFLOAT(y + 4 * row); }
    if (k + 5 < K) { s = v[(k + 5) * vs]; c5_0 += s * GN_VFLOAT(y + 5 * row); }
    if (k + 6 < K) { s = v[(k + 6) * vs]; c6_0 += s * GN_VFLOAT(y + 6 * row); }
    GN_VFLOAT(t + 0) = (((c0_0 + c1_0) + (c2_0 + c3_0)) + ((c4_0 + c5_0) + (c6_0 + c7_0)));
}
typedef float gn_dot64float __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t gn_lane64float __attribute__((vector_size(64)));
typedef float gn_dot16float __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t gn_lane16float __attribute__((vector_size(16)));

GN_INLINE float gn_sum16float(const gn_dot16float *p) { return ((*p)[0] + (*p)[2]) + ((*p)[1] + (*p)[3]); }
GN_INLINE float gn_sum64float(const gn_dot64float *p)
{
    const gn_dot16float *q = (const gn_dot16float *)p, sum = (q[0] + q[2]) + (q[1] + q[3]);
    return gn_sum16float(&sum);
}
GN_CONTRACT GN_ONCE void gn_dots_2x2x16_float(long K, const float *restrict g,
    long gn, const float *restrict v, long vn, float *restrict t)
{
    GN_CONTRACTED
    gn_dot64float c0_0 = {0}, c0_1 = {0};
    gn_dot64float c1_0 = {0}, c1_1 = {0};
    gn_dot64float x;
    long k = 0;
    for (; k + 16 <= K; k += 16) {
        const gn_dot64float y0 = *(const gn_dot64float *)(v + k);
        const gn_dot64float y1 = *(const gn_dot64float *)(v + vn + k);
        x = *(const gn_dot64float *)(g + k); c0_0 += x * y0; c0_1 += x * y1;
        x = *(const gn_dot64float *)(g + gn + k); c1_0 += x * y0; c1_1 += x * y1;
    }
    if (k < K) { /* the last vector reaches back; lanes that are done are cleared */
        const gn_lane64float lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const gn_lane64float keep = lane >= (gn_lane64float){0} + (int)(16 - (K - k));
        const gn_dot64float y0 = (gn_dot64float)((gn_lane64float)*(const gn_dot64float *)(v + K - 16) & keep);
        const gn_dot64float y1 = (gn_dot64float)((gn_lane64float)*(const gn_dot64float *)(v + vn + K - 16) & keep);
        x = (gn_dot64float)((gn_lane64float)*(const gn_dot64float *)(g + K - 16) & keep); c0_0 += x * y0; c0_1 += x * y1;
        x = (gn_dot64float)((gn_lane64float)*(const gn_dot64float *)(g + gn + K - 16) & keep); c1_0 += x * y0; c1_1 += x * y1;
    }
    t[0] = gn_sum64float(&c0_0);
    t[1] = gn_sum64float(&c0_1);
    t[2] = gn_sum64float(&c1_0);
    t[3] = gn_sum64float(&c1_1);
}
GN_CONTRACT GN_ONCE void gn_dots_2x2x4_float(long K, const float *restrict g,
    long gn, const float *restrict v, long vn, float *restrict t)
{
    GN_CONTRACTED
    gn_dot16float c0_0 = {0}, c0_1 = {0};
    gn_dot16float c1_0 = {0}, c1_1 = {0};
    gn_dot16float x;
    long k = 0;
    for (; k + 4 <= K; k += 4) {
        const gn_dot16float y0 = *(const gn_dot16float *)(v + k);
        const gn_dot16float y1 = *(const gn_dot16float *)(v + vn + k);
        x = *(const gn_dot16float *)(g + k); c0_0 += x * y0; c0_1 += x * y1;
        x = *(const gn_dot16float *)(g + gn + k); c1_0 += x * y0; c1_1 += x * y1;
    }
    if (k < K) { /* the last vector reaches back; lanes that are done are cleared */
        const gn_lane16float lane = {0, 1, 2, 3};
        const gn_lane16float keep = lane >= (gn_lane16float){0} + (int)(4 - (K - k));
        const gn_dot16float y0 = (gn_dot16float)((gn_lane16float)*(const gn_dot16float *)(v + K - 4) & keep);
        const gn_dot16float y1 = (gn_dot16float)((gn_lane16float)*(const gn_dot16float *)(v + vn + K - 4) & keep);
        x = (gn_dot16float)((gn_lane16float)*(const gn_dot16float *)(g + K - 4) & keep); c0_0 += x * y0; c0_1 += x * y1;
        x = (gn_dot16float)((gn_lane16float)*(const gn_dot16float *)(g + gn + K - 4) & keep); c1_0 += x * y0; c1_1 += x * y1;
    }
    t[0] = gn_sum16float(&c0_0);
    t[1] = gn_sum16float(&c0_1);
    t[2] = gn_sum16float(&c1_0);
    t[3] = gn_sum16float(&c1_1);
}
GN_CONTRACT GN_ONCE void mm(long K, const float *restrict a,
    const float *restrict b, float *restrict t, int add, long ai, long ak, long bk, long ti)
{
    GN_CONTRACTED
    gn_vfloat c0_0 = {0}, c0_1 = {0};
    gn_vfloat c1_0 = {0}, c1_1 = {0};
    gn_vfloat c2_0 = {0}, c2_1 = {0};
    gn_vfloat c3_0 = {0}, c3_1 = {0};
    if (add) {
        c0_0 = GN_VFLOAT(t + 0); c0_1 = GN_VFLOAT(t + 16);
        c1_0 = GN_VFLOAT(t + ti); c1_1 = GN_VFLOAT(t + ti + 16);
        c2_0 = GN_VFLOAT(t + 2 * ti); c2_1 = GN_VFLOAT(t + 2 * ti + 16);
        c3_0 = GN_VFLOAT(t + 3 * ti); c3_1 = GN_VFLOAT(t + 3 * ti + 16);
    }
    for (long k = 0; k < K; ++k) {
        const float *x = a + k * ak, *y = b + k * bk;
        gn_vfloat b0 = GN_VFLOAT(y + 0), b1 = GN_VFLOAT(y + 16);
GN_KEEP(b0); GN_KEEP(b1);
        float s;
        s = x[0]; c0_0 += s * b0; c0_1 += s * b1;
        s = x[ai]; c1_0 += s * b0; c1_1 += s * b1;
        s = x[2 * ai]; c2_0 += s * b0; c2_1 += s * b1;
        s = x[3 * ai]; c3_0 += s * b0; c3_1 += s * b1;
    }
    GN_VFLOAT(t + 0) = c0_0; GN_VFLOAT(t + 16) = c0_1;
    GN_VFLOAT(t + ti) = c1_0; GN_VFLOAT(t + ti + 16) = c1_1;
    GN_VFLOAT(t + 2 * ti) = c2_0; GN_VFLOAT(t + 2 * ti + 16) = c2_1;
    GN_VFLOAT(t + 3 * ti) = c3_0; GN_VFLOAT(t + 3 * ti + 16) = c3_1;
}
GN_CONTRACT GN_ONCE void m1(long K, const float *restrict a,
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
void*p[]={gn_sums_1_float,gn_dots_2x2x16_float,gn_dots_2x2x4_float,mm,m1};