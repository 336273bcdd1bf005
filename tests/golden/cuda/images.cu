/* images:training: 13 steps, 4 kernels, arena 5,760 B
 * Written by graphnet. Positions, buffers and formulas are those of the schedule. */
#if defined(GN_EMULATED)
#include "emulated.h"
#elif defined(__CUDACC_RTC__)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define INT32_MIN (-2147483647 - 1)
#define INT64_MIN (-9223372036854775807LL - 1)
#define INFINITY __builtin_bit_cast(float, 0x7f800000)
#define NAN __builtin_bit_cast(float, 0x7fc00000)
#else
#include <math.h>
#include <stdint.h>
#endif
#define GN_INLINE static __device__ __forceinline__ __attribute__((unused))
#define restrict __restrict__
#define _Bool bool
#define THREADS 256
/* the maths that C and CUDA share names these as gcc does */
#ifndef GN_EMULATED
#define __builtin_fmaf(a, b, c) fmaf(a, b, c)
#define __builtin_fma(a, b, c) fma(a, b, c)
#define __builtin_fabsf(a) fabsf(a)
#define __builtin_fabs(a) fabs(a)
#define __builtin_copysignf(a, b) copysignf(a, b)
#define __builtin_copysign(a, b) copysign(a, b)
#define __builtin_isunordered(a, b) ((a) != (a) || (b) != (b))
#define __builtin_memcpy(to, from, n) memcpy(to, from, n)
/* what a loop does that waits for another block */
#define GN_PAUSE() (void)0
/* a block's shared memory; the emulator has one for each block that is alive */
#define GN_SHARED(bytes) __shared__ __align__(16) char gn_shared[bytes]
#define GN_DYNAMIC() extern __shared__ __align__(16) char gn_dynamic[]
#endif


struct net {
    char *A;            /* the arena */
    int64_t *note;      /* failed, step, value, rows, losses kept, kept before that failed; the losses */
    uint32_t *barrier;  /* where all blocks meet, and how many have ended */
    char *H[7];
};
/* memory that outlives a call:
 *   H[0] input x, 2,048 B
 *   H[1] param images/conv2d_1/w, 108 B
 *   H[2] param images/conv2d_1/b, 12 B
 *   H[3] param images/dense_1/w, 432 B
 *   H[4] param images/dense_1/b, 16 B
 *   H[5] input target, 32 B
 *   H[6] hyper optimizer/lr, 8 B
 */

/* Notes the first index that was out of range; nothing is written to parameters after it. */
GN_INLINE void gn_fail(const struct net &net, int step, int64_t value, int64_t rows)
{
    if (atomicCAS((unsigned long long *)net.note, 0ULL, 1ULL) == 0ULL) {
        net.note[1] = step;
        net.note[2] = value;
        net.note[3] = rows;
        net.note[5] = net.note[4];
    }
}
#define GN_FAIL(index, count) gn_fail(net, gn_step, (index), (count))
GN_INLINE bool gn_failed(const struct net &net) { return *(volatile int64_t *)net.note != 0; }


/* Adds to a word that all blocks share, after all that was written before, and gives what it held. */
GN_INLINE uint32_t gn_arrive(uint32_t *word, uint32_t more)
{
#if defined(GN_EMULATED)
    return atomicAdd(word, more);
#else
    uint32_t before;
    asm volatile("atom.add.acq_rel.gpu.u32 %0, [%1], %2;" : "=r"(before) : "l"(word), "r"(more) : "memory");
    return before;
#endif
}


/* Whether all other blocks have ended; what they wrote is seen then. */
GN_INLINE bool gn_last(uint32_t *barrier)
{
    __syncthreads();
    const bool last = __syncthreads_or(threadIdx.x == 0 && gn_arrive(barrier + 1, 1u) == gridDim.x - 1);
    if (last && threadIdx.x == 0)
        barrier[1] = 0;
    return last;
}

/* N neighbours, at a multiple of their size, are one access */
template <int N, typename T> struct alignas(N * sizeof(T)) gn_run {
    T at[N];
};

template <int N, typename T> GN_INLINE void gn_take(T *to, const T *from)
{
    const gn_run<N, T> run = *(const gn_run<N, T> *)from;
#pragma unroll
    for (int e = 0; e < N; ++e)
        to[e] = run.at[e];
}

template <int N, typename T> GN_INLINE void gn_put(T *to, const T *from)
{
    gn_run<N, T> run;
#pragma unroll
    for (int e = 0; e < N; ++e)
        run.at[e] = from[e];
    *(gn_run<N, T> *)to = run;
}

/* N neighbours, or zeros; in one access if memory begins at a multiple of their size */
template <int N, typename T> GN_INLINE void gn_fetch(T *to, const T *from, bool in, bool whole)
{
    if (in && whole) {
        gn_take<N>(to, from);
    } else {
#pragma unroll
        for (int e = 0; e < N; ++e)
            to[e] = in ? from[e] : 0;
    }
}

/* The row that an index means: counted from the end if negative, -1 if it is out of range. */
GN_INLINE int64_t gn_own_row(int64_t index, int64_t rows)
{
    index += index < 0 ? rows : 0;
    return (uint64_t)index < (uint64_t)rows ? index : -1;
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
GN_INLINE float gn_fold_max_float(float a, float b) { return b > a || b != b ? b : a; }

static __device__ const int32_t c15[4] = {0, 1, 2, 3};
static __device__ const float c16[1] = {0.0f};
static __device__ const float c17[1] = {-0.125f};
static __device__ const float c25[1] = {8.0f};
static __device__ const float c28[1] = {0.125f};
/*    0 conv2d (8,3,36) float32  at test_cuda_text.py:20 images/conv2d_1
 *        out0 [arena+0x0 3,456 B]
 *        <- in0 [input x] (8,1,8,8)
 *        <- in1 [param images/conv2d_1/w] (3,1,3,3)
 *        <- in2 [param images/conv2d_1/b] (8,3,36) strides (0,1,0)
 *        out0 = relu(conv2d + in2)
 * tiles of 4 x 16 by 16, 4 ways */
GN_INLINE void s0(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1, const float * in2)
{
    const int tid = threadIdx.x;
    const int top = 0, start = unit * 16;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 256);
    int *const right_table = (int *)(gn_shared + 1280);
    const int left_line = tid / 8 % 4, left_term = tid % 8 + tid / 32 * 8;
    int left_at[1];
    bool left_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 4;
        left_at[q] = line * 9;
        left_in[q] = line < 3;
    }
    float left_next[1] = {};
    const int right_line = tid % 16, right_term = tid / 16;
    int right_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 16;
        right_at[q] = (line / 36) * 64 + ((line / 6 % 6)) * 8 + ((line % 6));
    }
    float right_next[1];
    const int group = tid / 64;
    const int row = tid / 8 % 4, column = tid / 32 % 2 * 8 + tid % 8;
    float sum[1][1] = {};
    {
        const int slot = 255 - tid;
        if (slot < 16) {
            const int k = 0 + slot;
            right_table[slot] = (k / 9) * 64 + (k / 3 % 3) * 8 + (k % 3);
        }
    }
    __syncthreads();
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 64;
        const int k = 0 + slot;
        if (slot < 16) {
            const int left_depth = k;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                left_next[q] = left_in[q] & (k < 9) ? *(in1 + (left_at[q] + left_depth)) : 0;
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 16;
        const int k = 0 + slot;
        int right_entry[1];
        right_entry[0] = right_table[slot];
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            right_next[q] = k < 9 ? *(in0 + (right_at[q] + right_entry[0])) : 0;
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 64;
        if (slot < 16) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                lefts[slot * 4 + left_line + q * 4] = left_next[q];
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 16;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            rights[slot * 16 + right_line + q * 16] = right_next[q];
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 4;
        const float *const right_now = rights + (group) * 16;
        const int steps = 9 < 16 ? (9 + 3) / 4 : 4;
        #pragma unroll 1
        for (int first = 0; first < steps; first += 4) {
            #pragma unroll
            for (int step = first; step < first + 4; ++step) {
                float a[1], b[1];
                const float *const left_step = left_now + step * 16;
                a[0] = left_step[row];
                const float *const right_step = right_now + step * 64;
                b[0] = right_step[column];
                #pragma unroll
                for (int y = 0; y < 1; ++y) {
                    #pragma unroll
                    for (int x = 0; x < 1; ++x) {
                        sum[y][x] = fmaf(a[y], b[x], sum[y][x]);
                    }
                }
            }
        }
    }
    __syncthreads();
    float *const sums = (float *)gn_shared;
#pragma unroll
    for (int y = 0; y < 1; ++y) {
        float *const to = sums + (group * 4 + row + y) * 16;
        to[column] = sum[y][0];
    }
    __syncthreads();
    {
        const int c = tid % 16;
        #pragma unroll 1
        for (int r = tid / 16; r < 4; r += 16) {
            const int i = top + r, j = start + c;
            if (i < 3) {
                float value = sums[r * 16 + c];
                #pragma unroll 3
                for (int g = 1; g < 4; ++g) {
                    value += sums[g * 64 + r * 16 + c];
                }
                const int n = j / 36, o = i, p = j % 36;
                {
                    const float x1 = in2[o];
                    const float t0 = value + x1;
                    out0[108 * n + 36 * o + p] = t0 <= 0.0f ? 0.0f : t0;
                }
            }
        }
    }
}

/*    2 max_pool kernel=>(2,2) stride=>(2,2) (8,3,3,3) uint8, (8,3,3,3) float32  at test_cuda_text.py:20 images
 *        [arena+0x1480 216 B], [arena+0xd80 864 B] <- [arena+0x0 3,456 B] (8,3,6,6)
 * a window a thread */
GN_INLINE void s2(const struct net &net, const int unit, uint8_t *restrict out0,
    float *restrict out1, const float * in0)
{
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 216) {
        const int i1 = e / 9, y = e / 3 % 3, z = e % 3;
        float best = in0[i1 * 36 + (y * 2) * 6 + z * 2];
        int at = 0;
        #pragma unroll
        for (int i = 0; i < 2; ++i) {
            #pragma unroll
            for (int j = 0; j < 2; ++j) {
                const int row = y * 2 + i, column = z * 2 + j;
                const float v = in0[i1 * 36 + row * 6 + column];
                if (!(v <= best) && best == best) {
                    best = v;
                    at = i * 2 + j;
                }
            }
        }
        out0[i1 * 9 + y * 3 + z] = (uint8_t)at;
        out1[i1 * 9 + y * 3 + z] = best;
    }
}

/*    4 matmul (8,4) float32  at test_cuda_text.py:21 images/dense_1
 *        out0 [arena+0x1580 128 B]
 *        <- in0 [arena+0xd80 864 B] (8,27)
 *        <- in1 [param images/dense_1/w] (27,4)
 *        <- in2 [param images/dense_1/b] (8,4) strides (0,1)
 *        out0 = matmul + in2
 * tiles of 8 x 4 by 32, 8 ways */
GN_INLINE void s4(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1, const float * in2)
{
    const int tid = threadIdx.x;
    const int top = 0, start = 0;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 1536);
    const int left_line = tid / 8 % 8, left_term = tid % 8 + tid / 64 * 8;
    int left_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 8;
        left_at[q] = line * 27;
    }
    float left_next[1];
    const int right_line = tid % 1 * 4, right_term = tid / 1;
    int right_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 4;
        right_at[q] = line;
    }
    const bool right_whole = (uint64_t)(in1) % 16 == 0;
    float right_next[4] = {};
    const int group = tid / 32;
    const int row = tid / 4 % 8, column = tid % 4;
    float sum[1][1] = {};
    const int c = tid % 4, r = tid / 4;
    const int i = top + r, j = start + c;
    const bool mine = tid < 32;
    const float ahead1 = mine ? in2[j] : 0;
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 32;
        const int k = 0 + slot;
        const int left_depth = k;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            left_next[q] = k < 27 ? *(in0 + (left_at[q] + left_depth)) : 0;
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 256;
        const int k = 0 + slot;
        if (slot < 32) {
            const int right_depth = k * 4;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&right_next[q * 4], in1 + (right_at[q] + right_depth), k < 27, right_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 32;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            lefts[slot * 12 + left_line + q * 8] = left_next[q];
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 256;
        if (slot < 32) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_put<4>(&rights[slot * 4 + right_line + q * 4], &right_next[q * 4]);
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 12;
        const float *const right_now = rights + (group) * 4;
        const int steps = 27 < 32 ? (27 + 7) / 8 : 4;
        #pragma unroll 1
        for (int first = 0; first < steps; first += 4) {
            #pragma unroll
            for (int step = first; step < first + 4; ++step) {
                float a[1], b[1];
                const float *const left_step = left_now + step * 96;
                a[0] = left_step[row];
                const float *const right_step = right_now + step * 32;
                b[0] = right_step[column];
                #pragma unroll
                for (int y = 0; y < 1; ++y) {
                    #pragma unroll
                    for (int x = 0; x < 1; ++x) {
                        sum[y][x] = fmaf(a[y], b[x], sum[y][x]);
                    }
                }
            }
        }
    }
    __syncthreads();
    float *const sums = (float *)gn_shared;
#pragma unroll
    for (int y = 0; y < 1; ++y) {
        float *const to = sums + (group * 8 + row + y) * 4;
        to[column] = sum[y][0];
    }
    __syncthreads();
    if (mine) {
        float value = sums[r * 4 + c];
        #pragma unroll 7
        for (int g = 1; g < 8; ++g) {
            value += sums[g * 32 + r * 4 + c];
        }
        {
            out0[4 * i + j] = value + ahead1;
        }
    }
}

/*    7 bounded size=>4 wrap=>False (8,) int32  at test_cuda_text.py:50 softmax_cross_entropy
 *        [arena+0x0 32 B] <- [input target] (8,) */
GN_INLINE void s7(const struct net &net, const int unit, int32_t *restrict out0,
    const int32_t * in0)
{
    const int gn_step = 7;
    int bad = 0;
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 8) {
        const int i0 = e;
        const int32_t index = in0[i0];
        const int64_t row = index >= 0 && index < 4 ? (int64_t)index : -1;
        bad |= row < 0;
        out0[i0] = (int32_t)(row < 0 ? 0 : row);
    }
    if (__syncthreads_or(bad) && threadIdx.x == 0) {
        int64_t low = (int64_t)in0[0], high = low;
        for (long i0 = 0; i0 < 8; i0++) {
            const int64_t index = (int64_t)in0[i0];
            low = index < low ? index : low;
            high = index > high ? index : high;
        }
        if (high >= 4)
            GN_FAIL(high, 4);
        else
            GN_FAIL(low, 4);
    }
}

/*    8 rows of 4: (8,1) float32, (8,4) float32  at test_cuda_text.py:50 softmax_cross_entropy
 *        out0 [arena+0x40 32 B]
 *        out1 [arena+0x1580 128 B]
 *        <- in0 [arena+0x1580 128 B] (8,4)
 *        <- in1 [arena+0x0 32 B] (8,1)
 *        <- in2 [constant] (1,4)
 *        t0 = in0 - max(in0)
 *        t1 = exp(t0)
 *        t2 = in1 == in2
 *        t3 = sum(t1)
 *        out0 = log(t3) - sum(where(t2, t0, 0))
 *        out1 = where(t2, -0.125, 0) + 0.125 / t3 * t1
 * rows of 4 columns, 4 threads each */
GN_INLINE void s8(const struct net &net, const int unit, float *restrict out0,
    float *restrict out1, const int32_t * in1)
{
    const int lane = threadIdx.x % 4;
    const int place = threadIdx.x / 4;
    const bool here = place < 8;
    const int row = here ? place : 7;
    const int i0 = row;
    float h0[1];
    int32_t h1[1];
    float b0[1];
#pragma unroll
    for (int c = 0; c < 1; ++c) {
        const int j = lane;
        h0[0] = here ? out1[4 * i0 + j] : 0;
        h1[0] = here ? c15[j] : 0;
    }
    const int32_t n0 = here ? in1[i0] : 0;
    const float n1 = c16[0];
    const float n2 = c17[0];
    const float n3 = c28[0];
    float acc5 = -INFINITY;
#pragma unroll
    for (int c = 0; c < 1; ++c) {
        acc5 = gn_fold_max_float(acc5, here ? h0[0] : -INFINITY);
    }
    acc5 = gn_fold_max_float(acc5, __shfl_xor_sync(0xffffffffu, acc5, 2));
    acc5 = gn_fold_max_float(acc5, __shfl_xor_sync(0xffffffffu, acc5, 1));
    const float n4 = __shfl_sync(0xffffffffu, acc5, 0, 4);
#pragma unroll
    for (int c = 0; c < 1; ++c) {
        if (here) {
            const float x0 = h0[0];
            const float t0 = x0 - n4;
            b0[0] = gn_expf(t0);
        }
    }
    float acc6 = 0;
#pragma unroll
    for (int c = 0; c < 1; ++c) {
        acc6 += here ? b0[0] : 0;
    }
    acc6 += __shfl_xor_sync(0xffffffffu, acc6, 2);
    acc6 += __shfl_xor_sync(0xffffffffu, acc6, 1);
    const float n5 = acc6;
    float acc7 = 0;
#pragma unroll
    for (int c = 0; c < 1; ++c) {
        acc7 += here ? ((n0 == h1[0]) ? (h0[0] - n4) : n1) : 0;
    }
    acc7 += __shfl_xor_sync(0xffffffffu, acc7, 2);
    acc7 += __shfl_xor_sync(0xffffffffu, acc7, 1);
    const float n6 = acc7;
    const float n7 = gn_logf(n5);
    const float n8 = n7 - n6;
    const float n9 = n3 / n5;
#pragma unroll
    for (int c = 0; c < 1; ++c) {
        const int j = lane;
        if (here) {
            const int32_t x1 = h1[0];
            const float x5 = b0[0];
            const _Bool t0 = n0 == x1;
            const float t1 = t0 ? n2 : n1;
            const float t2 = n9 * x5;
            out1[4 * i0 + j] = t1 + t2;
        }
    }
    if (lane == 0 && here) {
        out0[i0] = n8;
    }
}

/*   12 sum axes=>(0,) () float32  at test_cuda_text.py:50 softmax_cross_entropy
 *        out0 [arena+0x1600 4 B] <- in0 [arena+0x40 32 B] (8,)
 *        out0 = sum / 8
 * 8 threads a line */
GN_INLINE void s12(const struct net &net, const int unit, float *restrict out0, const float * in0)
{
    const int t = threadIdx.x % 8;
    const int line = threadIdx.x / 8;
    float acc = 0;
    int r = t;
    for (; r < 8; r += 8) {
        const float v0 = in0[r];
        acc += v0;
    }
    acc += __shfl_xor_sync(0xffffffffu, acc, 4);
    acc += __shfl_xor_sync(0xffffffffu, acc, 2);
    acc += __shfl_xor_sync(0xffffffffu, acc, 1);
    if (t == 0 && line < 1) {
        const float total = acc;
        {
            const float x1 = c25[0];
            out0[0] = total / x1;
        }
    }
}

/*   14 cast () float32  at test_cuda_text.py:21 optimizer/images/dense_1
 *        [arena+0x1640 4 B] <- [hyper optimizer/lr] () */
GN_INLINE void s14(const struct net &net, const int unit, float *restrict out0, const double * in0)
{
    const double x0 = in0[0];
    const float y0 = (float)x0;
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 1) {
        out0[0] = y0;
    }
}

/*   17 sum axes=>(0,) (4,) float32  at test_cuda_text.py:21 images/dense_1
 *        out0 [param images/dense_1/b]
 *        <- in0 [arena+0x1580 128 B] (8,4)
 *        <- in1 [arena+0x1640 4 B] (4,) strides (0,)
 *        <- in2 [param images/dense_1/b] (4,)
 *        out0 = in2 - in1 * sum
 * 8 threads a line */
GN_INLINE void s17(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1)
{
    const int t = threadIdx.x / 32;
    const int line = threadIdx.x % 32;
    const int k = line < 4 ? line : 3;
    const int i1 = k;
    float acc = 0;
    int r = t;
    for (; r < 8; r += 8) {
        const float v0 = in0[r * 4 + i1];
        acc += v0;
    }
    float *const sums = (float *)gn_shared;
    sums[threadIdx.x] = acc;
    __syncthreads();
    if (t == 0 && line < 4) {
        const float total = (((sums[threadIdx.x] + sums[threadIdx.x + 32]) + (sums[threadIdx.x + 64] + sums[threadIdx.x + 96])) + ((sums[threadIdx.x + 128] + sums[threadIdx.x + 160]) + (sums[threadIdx.x + 192] + sums[threadIdx.x + 224])));
        {
            const float x0 = in1[0];
            const float x2 = out0[i1];
            const float t0 = x0 * total;
            out0[i1] = x2 - t0;
        }
    }
}

/*   20 matmul (8,27) float32  at test_cuda_text.py:21 images/dense_1
 *        out0 [arena+0x1100 864 B]
 *        <- in0 [arena+0x1580 128 B] (8,4)
 *        <- in1 [param images/dense_1/w] (4,27) strides (1,4)
 *        <- in2 [arena+0xd80 864 B] (8,27)
 *        out0 = where(in2 > 0, matmul, 0)
 * tiles of 8 x 16 by 8, 2 ways */
GN_INLINE void s20(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1, const float * in2)
{
    const int tid = threadIdx.x;
    const int top = 0, start = unit * 16;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 384);
    const int left_line = tid / 2 % 8, left_term = tid % 2 * 4 + tid / 16 * 8;
    int left_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 8;
        left_at[q] = line * 4;
    }
    const bool left_whole = (uint64_t)(in0) % 16 == 0;
    float left_next[4] = {};
    const int right_line = tid / 2 % 16, right_term = tid % 2 * 4 + tid / 32 * 8;
    int right_at[1];
    bool right_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 16;
        right_at[q] = line * 4;
        right_in[q] = line < 27;
    }
    const bool right_whole = (uint64_t)(in1) % 16 == 0;
    float right_next[4] = {};
    const int group = tid / 128;
    const int row = tid / 64 % 2 * 4 + tid / 8 % 4, column = tid / 32 % 2 * 8 + tid % 8;
    float sum[1][1] = {};
    const int c = tid % 16, r = tid / 16;
    const int i = top + r, j = start + c;
    const bool mine = tid < 128 && j < 27;
    const float ahead0 = mine ? in2[i * 27 + j] : 0;
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 128;
        const int k = 0 + slot;
        if (slot < 8) {
            const int left_depth = k;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&left_next[q * 4], in0 + (left_at[q] + left_depth), k < 4, left_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 64;
        const int k = 0 + slot;
        if (slot < 8) {
            const int right_depth = k;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&right_next[q * 4], in1 + (right_at[q] + right_depth), right_in[q] & (k < 4), right_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 128;
        if (slot < 8) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                #pragma unroll
                for (int e = 0; e < 4; ++e) {
                    lefts[slot * 12 + left_line + q * 8 + e * 12] = left_next[q * 4 + e];
                }
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 64;
        if (slot < 8) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                #pragma unroll
                for (int e = 0; e < 4; ++e) {
                    rights[slot * 20 + right_line + q * 16 + e * 20] = right_next[q * 4 + e];
                }
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 12;
        const float *const right_now = rights + (group) * 20;
        const int steps = 4 < 8 ? (4 + 1) / 2 : 4;
        #pragma unroll 1
        for (int first = 0; first < steps; first += 4) {
            #pragma unroll
            for (int step = first; step < first + 4; ++step) {
                float a[1], b[1];
                const float *const left_step = left_now + step * 24;
                a[0] = left_step[row];
                const float *const right_step = right_now + step * 40;
                b[0] = right_step[column];
                #pragma unroll
                for (int y = 0; y < 1; ++y) {
                    #pragma unroll
                    for (int x = 0; x < 1; ++x) {
                        sum[y][x] = fmaf(a[y], b[x], sum[y][x]);
                    }
                }
            }
        }
    }
    __syncthreads();
    float *const sums = (float *)gn_shared;
#pragma unroll
    for (int y = 0; y < 1; ++y) {
        float *const to = sums + (group * 8 + row + y) * 16;
        to[column] = sum[y][0];
    }
    __syncthreads();
    if (mine) {
        float value = sums[r * 16 + c];
        #pragma unroll 1
        for (int g = 1; g < 2; ++g) {
            value += sums[g * 128 + r * 16 + c];
        }
        {
            const float x1 = c16[0];
            const _Bool t0 = ahead0 > x1;
            out0[27 * i + j] = t0 ? value : x1;
        }
    }
}

/*   21 matmul (27,4) float32  at test_cuda_text.py:21 images/dense_1
 *        out0 [param images/dense_1/w]
 *        <- in0 [arena+0xd80 864 B] (27,8) strides (1,27)
 *        <- in1 [arena+0x1580 128 B] (8,4)
 *        <- in2 [arena+0x1640 4 B] (27,4) strides (0,0)
 *        <- in3 [param images/dense_1/w] (27,4)
 *        out0 = in3 - in2 * matmul
 * tiles of 16 x 4 by 8, 4 ways */
GN_INLINE void s21(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1, const float * in2)
{
    const int tid = threadIdx.x;
    const int top = unit * 16, start = 0;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 512);
    const int left_line = tid % 16, left_term = tid / 16;
    int left_at[1];
    bool left_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 16;
        left_at[q] = line;
        left_in[q] = line < 27;
    }
    float left_next[1] = {};
    const int right_line = tid % 1 * 4, right_term = tid / 1;
    int right_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 4;
        right_at[q] = line;
    }
    const bool right_whole = (uint64_t)(in1) % 16 == 0;
    float right_next[4] = {};
    const int group = tid / 64;
    const int row = tid / 4 % 16, column = tid % 4;
    float sum[1][1] = {};
    const int c = tid % 4, r = tid / 4;
    const int i = top + r, j = start + c;
    const bool mine = tid < 64 && i < 27;
    const float ahead2 = mine ? out0[i * 4 + j] : 0;
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 16;
        const int k = 0 + slot;
        if (slot < 8) {
            const int left_depth = k * 27;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                left_next[q] = left_in[q] ? *(in0 + (left_at[q] + left_depth)) : 0;
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 256;
        const int k = 0 + slot;
        if (slot < 8) {
            const int right_depth = k * 4;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&right_next[q * 4], in1 + (right_at[q] + right_depth), true, right_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 16;
        if (slot < 8) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                lefts[slot * 16 + left_line + q * 16] = left_next[q];
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 256;
        if (slot < 8) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_put<4>(&rights[slot * 4 + right_line + q * 4], &right_next[q * 4]);
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 16;
        const float *const right_now = rights + (group) * 4;
        #pragma unroll 2
        for (int step = 0; step < 2; ++step) {
            float a[1], b[1];
            const float *const left_step = left_now + step * 64;
            a[0] = left_step[row];
            const float *const right_step = right_now + step * 16;
            b[0] = right_step[column];
            #pragma unroll
            for (int y = 0; y < 1; ++y) {
                #pragma unroll
                for (int x = 0; x < 1; ++x) {
                    sum[y][x] = fmaf(a[y], b[x], sum[y][x]);
                }
            }
        }
    }
    __syncthreads();
    float *const sums = (float *)gn_shared;
#pragma unroll
    for (int y = 0; y < 1; ++y) {
        float *const to = sums + (group * 16 + row + y) * 4;
        to[column] = sum[y][0];
    }
    __syncthreads();
    if (mine) {
        float value = sums[r * 4 + c];
        #pragma unroll 3
        for (int g = 1; g < 4; ++g) {
            value += sums[g * 64 + r * 4 + c];
        }
        {
            const float x0 = in2[0];
            const float t0 = x0 * value;
            out0[4 * i + j] = ahead2 - t0;
        }
    }
}

/*   23 sum axes=>(0,2,3) (3,) float32  at test_cuda_text.py:20 images/conv2d_1
 *        out0 [param images/conv2d_1/b]
 *        <- in0 [arena+0x1100 864 B] (8,3,3,3)
 *        <- in1 [arena+0x1640 4 B] (3,) strides (0,)
 *        <- in2 [param images/conv2d_1/b] (3,)
 *        out0 = in2 - in1 * sum
 * 64 threads a line */
GN_INLINE void s23(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1)
{
    const int t = threadIdx.x % 64;
    const int line = threadIdx.x / 64;
    const int k = line < 3 ? line : 2;
    const int i1 = k;
    const float v0 = in0[(t / 9) * 27 + i1 * 9 + t % 9];
    const float v1 = t + 64 < 72 ? in0[((t + 64) / 9) * 27 + i1 * 9 + (t + 64) % 9] : 0;
    float acc = (v0 + v1);
    acc += __shfl_xor_sync(0xffffffffu, acc, 16);
    acc += __shfl_xor_sync(0xffffffffu, acc, 8);
    acc += __shfl_xor_sync(0xffffffffu, acc, 4);
    acc += __shfl_xor_sync(0xffffffffu, acc, 2);
    acc += __shfl_xor_sync(0xffffffffu, acc, 1);
    float *const warps = (float *)gn_shared;
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = acc;
    __syncthreads();
    if (t == 0 && line < 3) {
        const float total = (warps[threadIdx.x / 64 * 2] + warps[threadIdx.x / 64 * 2 + 1]);
        {
            const float x0 = in1[0];
            const float x2 = out0[i1];
            const float t0 = x0 * total;
            out0[i1] = x2 - t0;
        }
    }
}

/*   25 pool_scatter kernel=>(2,2) stride=>(2,2) (8,3,6,6) float32  at test_cuda_text.py:20 images
 *        [arena+0x0 3,456 B] <- [arena+0x1100 864 B] (8,3,3,3), [arena+0x1480 216 B] (8,3,3,3)
 * an element a thread */
GN_INLINE void s25(const struct net &net, const int unit, float *restrict out0, const float * in0,
    const uint8_t * in1)
{
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 864) {
        const int i1 = e / 36, h = e / 6 % 6, w = e % 6;
        float value = 0;
        for (int i = (h) % 2; i < 2; i += 2) {
            const int y = (h - i) / 2;
            for (int j = (w) % 2; j < 2; j += 2) {
                const int z = (w - j) / 2;
                const float part = in0[i1 * 9 + y * 3 + z];
                value = in1[i1 * 9 + y * 3 + z] == i * 2 + j ? part : 0;
            }
        }
        out0[i1 * 36 + h * 6 + w] = value;
    }
}

/*   26 conv2d_weight shape=>(3,1,3,3) (3,1,9) float32  at test_cuda_text.py:20 images/conv2d_1
 *        out0 [param images/conv2d_1/w]
 *        <- in0 [input x] (8,1,8,8)
 *        <- in1 [arena+0x0 3,456 B] (8,3,6,6)
 *        <- in2 [arena+0x1640 4 B] (3,1,9) strides (0,0,0)
 *        <- in3 [param images/conv2d_1/w] (3,1,9)
 *        out0 = in3 - in2 * conv2d_weight
 * tiles of 4 x 4 by 256, 16 ways */
GN_INLINE void s26(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1, const float * in2)
{
    const int tid = threadIdx.x;
    const int top = 0, start = unit * 4;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 8192);
    int *const left_table = (int *)(gn_shared + 16384);
    int *const right_table = (int *)(gn_shared + 18432);
    const int left_line = tid / 2 % 4, left_term = tid % 2 * 4 + tid / 8 * 8;
    int left_at[1];
    bool left_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 4;
        left_at[q] = line * 36;
        left_in[q] = line < 3;
    }
    const bool left_whole = (uint64_t)(in1) % 16 == 0;
    float left_next[4];
    const int right_line = tid / 8 % 4, right_term = tid % 8 + tid / 32 * 8;
    int right_at[1];
    bool right_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 4;
        right_at[q] = (line / 9) * 64 + (line / 3 % 3) * 8 + (line % 3);
        right_in[q] = line < 9;
    }
    float right_next[4];
    const int group = tid / 16;
    const int row = tid / 4 % 4, column = tid % 4;
    float sum[1][1] = {};
    {
        const int slot = tid;
        const int k = 0 + slot;
        left_table[slot] = (k / 36) * 108 + (k % 36);
    }
    {
        const int slot = 255 - tid;
        const int k = 0 + slot;
        right_table[slot] = (k / 36) * 64 + ((k / 6 % 6)) * 8 + ((k % 6));
    }
    __syncthreads();
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 256;
        const int k = 0 + slot;
        int left_entry[1];
        left_entry[0] = left_table[slot];
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            gn_fetch<4>(&left_next[q * 4], in1 + (left_at[q] + left_entry[0]), left_in[q] & (k < 288), left_whole);
        }
    }
#pragma unroll
    for (int p = 0; p < 4; ++p) {
        const int slot = right_term + p * 64;
        const int k = 0 + slot;
        int right_entry[1];
        right_entry[0] = right_table[slot];
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            right_next[p] = right_in[q] & (k < 288) ? *(in0 + (right_at[q] + right_entry[0])) : 0;
        }
    }
    {
        const int slot = tid;
        const int k = 256 + slot;
        left_table[(1 * 256 + slot)] = (k / 36) * 108 + (k % 36);
    }
    {
        const int slot = 255 - tid;
        const int k = 256 + slot;
        right_table[(1 * 256 + slot)] = (k / 36) * 64 + ((k / 6 % 6)) * 8 + ((k % 6));
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 256;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            #pragma unroll
            for (int e = 0; e < 4; ++e) {
                lefts[slot * 4 + left_line + q * 4 + e * 4] = left_next[q * 4 + e];
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 4; ++p) {
        const int slot = right_term + p * 64;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            rights[slot * 4 + right_line + q * 4] = right_next[p];
        }
    }
    __syncthreads();
#pragma unroll 1
    for (int chunk = 0; chunk < 2; ++chunk) {
        const int now = chunk % 2, at = chunk * 256;
        if (chunk + 1 < 2) {
            #pragma unroll
            for (int p = 0; p < 1; ++p) {
                const int slot = left_term + p * 256;
                const int k = at + 256 + slot;
                int left_entry[1];
                left_entry[0] = left_table[((1 - now) * 256 + slot)];
                #pragma unroll
                for (int q = 0; q < 1; ++q) {
                    gn_fetch<4>(&left_next[q * 4], in1 + (left_at[q] + left_entry[0]), left_in[q] & (k < 288), left_whole);
                }
            }
            #pragma unroll
            for (int p = 0; p < 4; ++p) {
                const int slot = right_term + p * 64;
                const int k = at + 256 + slot;
                int right_entry[1];
                right_entry[0] = right_table[((1 - now) * 256 + slot)];
                #pragma unroll
                for (int q = 0; q < 1; ++q) {
                    right_next[p] = right_in[q] & (k < 288) ? *(in0 + (right_at[q] + right_entry[0])) : 0;
                }
            }
        }
        {
            const int slot = tid;
            const int k = at + 512 + slot;
            left_table[(now * 256 + slot)] = (k / 36) * 108 + (k % 36);
        }
        {
            const int slot = 255 - tid;
            const int k = at + 512 + slot;
            right_table[(now * 256 + slot)] = (k / 36) * 64 + ((k / 6 % 6)) * 8 + ((k % 6));
        }
        {
            const float *const left_now = lefts + (now * 256 + group) * 4;
            const float *const right_now = rights + (now * 256 + group) * 4;
            const int steps = 288 - at < 256 ? (288 - at + 15) / 16 : 16;
            #pragma unroll 1
            for (int first = 0; first < steps; first += 16) {
                #pragma unroll
                for (int step = first; step < first + 16; ++step) {
                    float a[1], b[1];
                    const float *const left_step = left_now + step * 64;
                    a[0] = left_step[row];
                    const float *const right_step = right_now + step * 64;
                    b[0] = right_step[column];
                    #pragma unroll
                    for (int y = 0; y < 1; ++y) {
                        #pragma unroll
                        for (int x = 0; x < 1; ++x) {
                            sum[y][x] = fmaf(a[y], b[x], sum[y][x]);
                        }
                    }
                }
            }
        }
        if (chunk + 1 < 2) {
            #pragma unroll
            for (int p = 0; p < 1; ++p) {
                const int slot = left_term + p * 256;
                #pragma unroll
                for (int q = 0; q < 1; ++q) {
                    #pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        lefts[((1 - now) * 256 + slot) * 4 + left_line + q * 4 + e * 4] = left_next[q * 4 + e];
                    }
                }
            }
            #pragma unroll
            for (int p = 0; p < 4; ++p) {
                const int slot = right_term + p * 64;
                #pragma unroll
                for (int q = 0; q < 1; ++q) {
                    rights[((1 - now) * 256 + slot) * 4 + right_line + q * 4] = right_next[p];
                }
            }
        }
        __syncthreads();
    }
    float *const sums = (float *)gn_shared;
#pragma unroll
    for (int y = 0; y < 1; ++y) {
        float *const to = sums + (group * 4 + row + y) * 4;
        to[column] = sum[y][0];
    }
    __syncthreads();
    {
        const int c = tid % 4;
        #pragma unroll 1
        for (int r = tid / 4; r < 4; r += 64) {
            const int i = top + r, j = start + c;
            if (i < 3 && j < 9) {
                float value = sums[r * 4 + c];
                #pragma unroll 8
                for (int g = 1; g < 16; ++g) {
                    value += sums[g * 16 + r * 4 + c];
                }
                const int o = i, p = j % 9;
                {
                    const float x0 = in2[0];
                    const float x2 = out0[9 * o + p];
                    const float t0 = x0 * value;
                    out0[9 * o + p] = x2 - t0;
                }
            }
        }
    }
}

/* keeps the loss, and moves counters on */
GN_INLINE void s_end(const struct net &net, const int unit)
{
    char *const A = net.A;
    if (threadIdx.x == 0 && unit == 0) {
        ((double *)(net.note + 8))[net.note[4] % 1024] = (double)*(const float *)(A + 0x1600);
        ++net.note[4];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_0_8(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(2048);
    for (int unit = blockIdx.x; unit < 19; unit += gridDim.x) {
        if (unit < 18) {
            s0(net, unit, gn_shared, (float *)(A + 0x0), (const float *)(H[0]), (const float *)(H[1]),
                (const float *)(H[2]));
        }
        else {
            s14(net, unit - 18, (float *)(A + 0x1640), (const double *)(H[6]));
        }
        if (unit + gridDim.x < 19)
            __syncthreads();
    }
    if (gn_last(net.barrier)) {
        s2(net, 0, (uint8_t *)(A + 0x1480), (float *)(A + 0xd80), (const float *)(A + 0x0));
        __syncthreads();
        s4(net, 0, gn_shared, (float *)(A + 0x1580), (const float *)(A + 0xd80), (const float *)(H[3]),
            (const float *)(H[4]));
        __syncthreads();
        s7(net, 0, (int32_t *)(A + 0x0), (const int32_t *)(H[5]));
        __syncthreads();
        s8(net, 0, (float *)(A + 0x40), (float *)(A + 0x1580), (const int32_t *)(A + 0x0));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_12_17_20(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(1024);
    for (int unit = blockIdx.x; unit < 4; unit += gridDim.x) {
        if (unit < 1) {
            s12(net, unit, (float *)(A + 0x1600), (const float *)(A + 0x40));
        }
        else if (unit < 2) {
            if (!gn_failed(net)) {
                s17(net, unit - 1, gn_shared, (float *)(H[4]), (const float *)(A + 0x1580),
                    (const float *)(A + 0x1640));
            }
        }
        else {
            s20(net, unit - 2, gn_shared, (float *)(A + 0x1100), (const float *)(A + 0x1580),
                (const float *)(H[3]), (const float *)(A + 0xd80));
        }
        if (unit + gridDim.x < 4)
            __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_21_23_25__end(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(1024);
    for (int unit = blockIdx.x; unit < 8; unit += gridDim.x) {
        if (unit < 2) {
            if (!gn_failed(net)) {
                s21(net, unit, gn_shared, (float *)(H[3]), (const float *)(A + 0xd80), (const float *)(A + 0x1580),
                    (const float *)(A + 0x1640));
            }
        }
        else if (unit < 3) {
            if (!gn_failed(net)) {
                s23(net, unit - 2, gn_shared, (float *)(H[2]), (const float *)(A + 0x1100),
                    (const float *)(A + 0x1640));
            }
        }
        else if (unit < 7) {
            s25(net, unit - 3, (float *)(A + 0x0), (const float *)(A + 0x1100), (const uint8_t *)(A + 0x1480));
        }
        else {
            s_end(net, unit - 7);
        }
        if (unit + gridDim.x < 8)
            __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_26(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(20480);
    for (int unit = blockIdx.x; unit < 3; unit += gridDim.x) {
        if (!gn_failed(net)) {
            s26(net, unit, gn_shared, (float *)(H[1]), (const float *)(H[0]), (const float *)(A + 0x0),
                (const float *)(A + 0x1640));
        }
        if (unit + gridDim.x < 3)
            __syncthreads();
    }
}
