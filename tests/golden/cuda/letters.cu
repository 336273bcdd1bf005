/* letters:training: 41 steps, 11 kernels, arena 144,640 B
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
    char *H[28];
};
/* memory that outlives a call:
 *   H[0] input ids, 640 B
 *   H[1] state letters/lstm_1/h, 2,048 B
 *   H[2] state letters/lstm_1/c, 2,048 B
 *   H[3] param letters/embedding_1/w, 448 B
 *   H[4] param letters/lstm_1/wx, 4,096 B
 *   H[5] param letters/lstm_1/b, 256 B
 *   H[6] param letters/lstm_1/wh, 4,096 B
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


/* What a word that blocks arrive at holds; what they wrote before is seen then. */
GN_INLINE uint32_t gn_arrived(const uint32_t *word)
{
#if defined(GN_EMULATED)
    return *(const volatile uint32_t *)word;
#else
    uint32_t now;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(now) : "l"(word) : "memory");
    return now;
#endif
}

/* All blocks of the grid meet; each then sees what the others wrote before. What they add makes 2^31 together, so
   that the highest bit changes when the last has come, and the others are as they were. */
GN_INLINE void gn_meet(uint32_t *barrier)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        const uint32_t before = gn_arrive(barrier, blockIdx.x == 0 ? 0x80000001u - gridDim.x : 1u);
        while (((before ^ gn_arrived(barrier)) & 0x80000000u) == 0)
            GN_PAUSE();
    }
    __syncthreads();
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

GN_INLINE float s23_value(float x0)
{
    return x0 * x0;
}

GN_INLINE float s27_value(float x0)
{
    return x0 * x0;
}

GN_INLINE float s36_value(float x0)
{
    return x0 * x0;
}

GN_INLINE float s40_value(float x0)
{
    return x0 * x0;
}

GN_INLINE float s43_value(float x0)
{
    return x0 * x0;
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
GN_INLINE float s46_value(float x0)
{
    return x0 * x0;
}

static __device__ const int32_t c44[7] = {0, 1, 2, 3, 4, 5, 6};
static __device__ const float c45[1] = {0.0f};
static __device__ const float c46[1] = {-0.00625f};
static __device__ const float c54[1] = {160.0f};
static __device__ const int32_t c56[1] = {1};
static __device__ const double c57[1] = {1.0};
static __device__ const float c61[1] = {0.00625f};
static __device__ const float c75[1] = {1.0f};
static __device__ const double c89[1] = {1e-06};
/* what stays on chip */
GN_INLINE void s5_2_load(const struct net &net, const int unit, char *const gn_resident,
    const uint8_t * in1)
{
    float *const panel = (float *)gn_resident;
    const float *const from = (const float *)in1 + (int)unit % 16 * 64;
    for (int e = threadIdx.x * 4; e < 64; e += 1024)
        gn_put<4>(&panel[e], &from[e]);
}

/* what stays on chip */
GN_INLINE void s33_2_load(const struct net &net, const int unit, char *const gn_resident,
    const uint8_t * in1)
{
    float *const panel = (float *)gn_resident;
    const float *const from = (const float *)in1 + (int)unit % 8 * 128;
    for (int e = threadIdx.x * 4; e < 128; e += 1024)
        gn_put<4>(&panel[e], &from[e]);
}

/*    0 matmul (7,64) float32  at test_cuda_text.py:27 letters/lstm_1
 *        out0 [arena+0x10000 1,792 B]
 *        <- in0 [param letters/embedding_1/w] (7,16)
 *        <- in1 [param letters/lstm_1/wx] (16,64)
 *        <- in2 [param letters/lstm_1/b] (7,64) strides (0,1)
 *        out0 = matmul + in2
 * tiles of 4 x 16 by 16, 4 ways */
GN_INLINE void s0(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1, const float * in2)
{
    const int tid = threadIdx.x;
    const int top = unit / 4 * 4, start = unit % 4 * 16;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 256);
    const int left_line = tid / 2 % 4, left_term = tid % 2 * 4 + tid / 8 * 8;
    int left_at[1];
    bool left_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 4;
        left_at[q] = line * 16;
        left_in[q] = line < 7;
    }
    const bool left_whole = (uint64_t)(in0) % 16 == 0;
    float left_next[4] = {};
    const int right_line = tid % 4 * 4, right_term = tid / 4;
    int right_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 16;
        right_at[q] = line;
    }
    const bool right_whole = (uint64_t)(in1) % 16 == 0;
    float right_next[4] = {};
    const int group = tid / 64;
    const int row = tid / 8 % 4, column = tid / 32 % 2 * 8 + tid % 8;
    float sum[1][1] = {};
    const int c = tid % 16, r = tid / 16;
    const int i = top + r, j = start + c;
    const bool mine = tid < 64 && i < 7;
    const float ahead1 = mine ? in2[j] : 0;
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 256;
        const int k = 0 + slot;
        if (slot < 16) {
            const int left_depth = k;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&left_next[q * 4], in0 + (left_at[q] + left_depth), left_in[q], left_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 64;
        const int k = 0 + slot;
        if (slot < 16) {
            const int right_depth = k * 64;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&right_next[q * 4], in1 + (right_at[q] + right_depth), true, right_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 256;
        if (slot < 16) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                #pragma unroll
                for (int e = 0; e < 4; ++e) {
                    lefts[slot * 4 + left_line + q * 4 + e * 4] = left_next[q * 4 + e];
                }
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 64;
        if (slot < 16) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_put<4>(&rights[slot * 16 + right_line + q * 16], &right_next[q * 4]);
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 4;
        const float *const right_now = rights + (group) * 16;
        #pragma unroll 4
        for (int step = 0; step < 4; ++step) {
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
    __syncthreads();
    float *const sums = (float *)gn_shared;
#pragma unroll
    for (int y = 0; y < 1; ++y) {
        float *const to = sums + (group * 4 + row + y) * 16;
        to[column] = sum[y][0];
    }
    __syncthreads();
    if (mine) {
        float value = sums[r * 16 + c];
        #pragma unroll 3
        for (int g = 1; g < 4; ++g) {
            value += sums[g * 64 + r * 16 + c];
        }
        {
            out0[64 * i + j] = value + ahead1;
        }
    }
}

/*    2 take (5,32,64) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x0 40,960 B] <- [arena+0x10000 1,792 B] (7,64), [input ids] (5,32) strides (1,5)
 * element by element */
GN_INLINE void s2(const struct net &net, const int unit, float *restrict out0, const float * in0,
    const int32_t * in1)
{
    const int gn_step = 2;
    int bad = 0;
    const int e = unit * 256 + (int)threadIdx.x;
    const int i0 = e / 2048, i1 = e / 64 % 32, i2 = e % 64;
    const int row = (int)gn_own_row((int64_t)in1[i0 + 5 * i1], 7);
    bad |= row < 0;
    const float value = in0[(row < 0 ? 0 : row) * 64 + i2];
    out0[2048 * i0 + 64 * i1 + i2] = value;
    if (__syncthreads_or(bad) && threadIdx.x == 0) {
        int64_t low = (int64_t)in1[0], high = low;
        for (long i0 = 0; i0 < 160; i0++) {
            const int64_t index = (int64_t)in1[i0];
            low = index < low ? index : low;
            high = index > high ? index : high;
        }
        if (high >= 7)
            GN_FAIL(high, 7);
        else
            GN_FAIL(low, 7);
    }
}

/*    3 copy (32,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0xa000 2,048 B] <- [state letters/lstm_1/h] (32,16)
 * 512 */
GN_INLINE void s3(const struct net &net, const int unit, float *restrict out0, const float * in0)
{
    const int e = unit * 256 + (int)threadIdx.x;
    const float x0 = in0[e];
    out0[e] = x0;
}

/*    4 copy (32,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0xd000 2,048 B] <- [state letters/lstm_1/c] (32,16)
 * 512 */
GN_INLINE void s4(const struct net &net, const int unit, float *restrict out0, const float * in0)
{
    const int e = unit * 256 + (int)threadIdx.x;
    const float x0 = in0[e];
    out0[e] = x0;
}

/*    5 pack groups=>4 width=>4 (4096,) uint8  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x1c800 4,096 B] <- [param letters/lstm_1/wh] (16,64)
 * panels of 4, 1 columns of each of 4 groups */
GN_INLINE void s5(const struct net &net, const int unit, uint8_t *restrict out0, const float * in0)
{
#pragma unroll
    for (int e = (int)unit * 1024 + threadIdx.x; e < (int)(unit + 1) * 1024; e += 256) {
        const int c = e % 4, k = e / 4 % 16;
        const int column = e / 64 * 1 + c % 1;
        ((float *)out0)[e] = in0[k * 64 + (c / 1 * 16 + column)];
    }
}

/*    5 matmul_packed groups=>4 width=>4 7 x (32,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        out0 [arena+0x10000+2048*k0 2,048 B]
 *        out1 [arena+0x1a000+2048*k0 2,048 B]
 *        out2 [arena+0x15000+2048*k0 2,048 B]
 *        out3 [arena+0x17800+2048*k0 2,048 B]
 *        out4 [arena+0xd000+2048*(k0+1) 2,048 B]
 *        out5 [arena+0x12800+2048*k0 2,048 B]
 *        out6 [arena+0xa000+2048*(k0+1) 2,048 B]
 *        <- in0 [arena+0xa000+2048*k0 2,048 B] (32,16)
 *        <- in1 [arena+0x1c800 4,096 B] (4096,)
 *        <- in2 [arena+0xd000+2048*k0 2,048 B] (32,16)
 *        <- in3 [arena+0x0+8192*k0 2,048 B] (32,16) strides (64,1)
 *        <- in4 [arena+0x40+8192*k0 2,048 B] (32,16) strides (64,1)
 *        <- in5 [arena+0x80+8192*k0 2,048 B] (32,16) strides (64,1)
 *        <- in6 [arena+0xc0+8192*k0 2,048 B] (32,16) strides (64,1)
 *        out0 = sigmoid(in6 + matmul_packed[3])
 *        out1 = sigmoid(in4 + matmul_packed[1])
 *        out2 = sigmoid(in3 + matmul_packed[0])
 *        out3 = tanh(in5 + matmul_packed[2])
 *        out4 = out1 * in2 + out2 * out3
 *        out5 = tanh(out4)
 *        out6 = out0 * out5
 * tiles of 16 x 4 by 16, 4 ways, panel on chip */
GN_INLINE void s5_2(const struct net &net, const int unit, char *const gn_shared,
    char *const gn_resident, float *restrict out0, float *restrict out1, float *restrict out2,
    float *restrict out3, float *restrict out4, float *restrict out5, float *restrict out6,
    const float * in0, const float * in2, const float * in3, const float * in4, const float * in5,
    const float * in6)
{
    const int tid = threadIdx.x;
    const int top = unit / 16 * 16, start = unit % 16 * 4;
    float *const lefts = (float *)gn_shared;
    const float *const rights = (const float *)gn_resident;
    const int left_line = tid / 2 % 16, left_term = tid % 2 * 4 + tid / 32 * 8;
    int left_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 16;
        left_at[q] = line * 16;
    }
    const bool left_whole = (uint64_t)(in0) % 16 == 0;
    float left_next[4] = {};
    const int group = tid / 64;
    const int row = tid / 4 % 16, column = tid % 4;
    float sum[1][1] = {};
    const int c = tid % 1, r = tid / 1;
    const int i = top + r, j = start / 4 + c;
    const bool mine = tid < 16;
    const float ahead2 = mine ? in2[i * 16 + j] : 0;
    const float ahead5 = mine ? in3[i * 64 + j] : 0;
    const float ahead6 = mine ? in4[i * 64 + j] : 0;
    const float ahead7 = mine ? in5[i * 64 + j] : 0;
    const float ahead8 = mine ? in6[i * 64 + j] : 0;
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 64;
        const int k = 0 + slot;
        if (slot < 16) {
            const int left_depth = k;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&left_next[q * 4], in0 + (left_at[q] + left_depth), true, left_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 64;
        if (slot < 16) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                #pragma unroll
                for (int e = 0; e < 4; ++e) {
                    lefts[slot * 20 + left_line + q * 16 + e * 20] = left_next[q * 4 + e];
                }
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 20;
        const float *const right_now = rights + (group) * 4;
        #pragma unroll 4
        for (int step = 0; step < 4; ++step) {
            float a[1], b[1];
            const float *const left_step = left_now + step * 80;
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
        float value0 = sums[r * 4 + c];
        #pragma unroll 3
        for (int g = 1; g < 4; ++g) {
            value0 += sums[g * 64 + r * 4 + c];
        }
        float value1 = sums[r * 4 + 1 + c];
        #pragma unroll 3
        for (int g = 1; g < 4; ++g) {
            value1 += sums[g * 64 + r * 4 + 1 + c];
        }
        float value2 = sums[r * 4 + 2 + c];
        #pragma unroll 3
        for (int g = 1; g < 4; ++g) {
            value2 += sums[g * 64 + r * 4 + 2 + c];
        }
        float value3 = sums[r * 4 + 3 + c];
        #pragma unroll 3
        for (int g = 1; g < 4; ++g) {
            value3 += sums[g * 64 + r * 4 + 3 + c];
        }
        {
            const float t0 = ahead5 + value0;
            const float t1 = ahead6 + value1;
            const float t2 = ahead7 + value2;
            const float t3 = ahead8 + value3;
            const float y0 = gn_sigmoidf(t3);
            const float y1 = gn_sigmoidf(t1);
            const float y2 = gn_sigmoidf(t0);
            const float y3 = gn_tanhf(t2);
            const float t4 = y1 * ahead2;
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

/*    8 matmul (32,5,7) float32  at test_cuda_text.py:27 letters/dense_1
 *        [arena+0x1f000 4,480 B]
 *        <- [arena+0xa800 10,240 B] (32,5,16) strides (16,512,1)
 *        <- [param letters/dense_1/w] (16,7)
 * tiles of 8 x 8 by 16, 4 ways */
GN_INLINE void s8(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1)
{
    const int tid = threadIdx.x;
    const int entry = unit;
    const int top = 0, start = 0;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 768);
    const int left_line = tid / 2 % 8, left_term = tid % 2 * 4 + tid / 16 * 8;
    int left_at[1];
    bool left_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 8;
        left_at[q] = line * 512;
        left_in[q] = line < 5;
    }
    const bool left_whole = (uint64_t)((in0 + entry * 16)) % 16 == 0;
    float left_next[4] = {};
    const int right_line = tid % 8, right_term = tid / 8;
    int right_at[1];
    bool right_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 8;
        right_at[q] = line;
        right_in[q] = line < 7;
    }
    float right_next[1] = {};
    const int group = tid / 64;
    const int row = tid / 8 % 8, column = tid % 8;
    float sum[1][1] = {};
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 128;
        const int k = 0 + slot;
        if (slot < 16) {
            const int left_depth = k;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&left_next[q * 4], (in0 + entry * 16) + (left_at[q] + left_depth), left_in[q], left_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 32;
        const int k = 0 + slot;
        if (slot < 16) {
            const int right_depth = k * 7;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                right_next[q] = right_in[q] ? *(in1 + (right_at[q] + right_depth)) : 0;
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 128;
        if (slot < 16) {
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
        const int slot = right_term + p * 32;
        if (slot < 16) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                rights[slot * 8 + right_line + q * 8] = right_next[q];
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 12;
        const float *const right_now = rights + (group) * 8;
        #pragma unroll 4
        for (int step = 0; step < 4; ++step) {
            float a[1], b[1];
            const float *const left_step = left_now + step * 48;
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
    __syncthreads();
    float *const sums = (float *)gn_shared;
#pragma unroll
    for (int y = 0; y < 1; ++y) {
        float *const to = sums + (group * 8 + row + y) * 8;
        to[column] = sum[y][0];
    }
    __syncthreads();
    {
        const int c = tid % 8;
        #pragma unroll 1
        for (int r = tid / 8; r < 8; r += 32) {
            const int i = top + r, j = start + c;
            if (i < 5 && j < 7) {
                float value = sums[r * 8 + c];
                #pragma unroll 3
                for (int g = 1; g < 4; ++g) {
                    value += sums[g * 64 + r * 8 + c];
                }
                out0[entry * 35 + i * 7 + j] = value;
            }
        }
    }
}

/*   11 bounded size=>7 wrap=>False (32,5) int32  at test_cuda_text.py:50 softmax_cross_entropy
 *        [arena+0x0 640 B] <- [input target] (32,5) */
GN_INLINE void s11(const struct net &net, const int unit, int32_t *restrict out0,
    const int32_t * in0)
{
    const int gn_step = 11;
    int bad = 0;
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 160) {
        const int i0 = e;
        const int32_t index = in0[i0];
        const int64_t row = index >= 0 && index < 7 ? (int64_t)index : -1;
        bad |= row < 0;
        out0[i0] = (int32_t)(row < 0 ? 0 : row);
    }
    if (__syncthreads_or(bad) && threadIdx.x == 0) {
        int64_t low = (int64_t)in0[0], high = low;
        for (long i1 = 0; i1 < 160; i1++) {
            const int64_t index = (int64_t)in0[i1];
            low = index < low ? index : low;
            high = index > high ? index : high;
        }
        if (high >= 7)
            GN_FAIL(high, 7);
        else
            GN_FAIL(low, 7);
    }
}

/*   12 rows of 7: (32,5,1) float32, (32,5,7) float32  at test_cuda_text.py:50 softmax_cross_entropy
 *        out0 [arena+0x280 640 B]
 *        out1 [arena+0x1f000 4,480 B]
 *        <- in0 [arena+0x1f000 4,480 B] (32,5,7)
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
 * rows of 7 columns, 1 threads each */
GN_INLINE void s12(const struct net &net, const int unit, float *restrict out0,
    float *restrict out1, const float * in1, const int32_t * in2)
{
    const int lane = 0;
    const int place = threadIdx.x;
    const bool here = place < 160;
    const int row = here ? place : 159;
    const int i0 = row;
    float h0[7];
    float h1[7];
    int32_t h2[7];
    float b0[7];
#pragma unroll
    for (int c = 0; c < 7; ++c) {
        const int j = lane + 1 * c;
        h0[c] = here ? out1[7 * i0 + j] : 0;
        h1[c] = here ? in1[j] : 0;
        h2[c] = here ? c44[j] : 0;
    }
    const int32_t n0 = here ? in2[i0] : 0;
    const float n1 = c45[0];
    const float n2 = c46[0];
    const float n3 = c61[0];
    float acc5 = -INFINITY;
#pragma unroll
    for (int c = 0; c < 7; ++c) {
        acc5 = gn_fold_max_float(acc5, here ? (h0[c] + h1[c]) : -INFINITY);
    }
    const float n4 = acc5;
#pragma unroll
    for (int c = 0; c < 7; ++c) {
        if (here) {
            const float x0 = h0[c];
            const float x1 = h1[c];
            const float t0 = x0 + x1;
            const float t1 = t0 - n4;
            b0[c] = gn_expf(t1);
        }
    }
    float acc6 = 0;
#pragma unroll
    for (int c = 0; c < 7; ++c) {
        acc6 += here ? b0[c] : 0;
    }
    const float n5 = acc6;
    float acc7 = 0;
#pragma unroll
    for (int c = 0; c < 7; ++c) {
        acc7 += here ? ((n0 == h2[c]) ? ((h0[c] + h1[c]) - n4) : n1) : 0;
    }
    const float n6 = acc7;
    const float n7 = gn_logf(n5);
    const float n8 = n7 - n6;
    const float n9 = n3 / n5;
#pragma unroll
    for (int c = 0; c < 7; ++c) {
        const int j = lane + 1 * c;
        if (here) {
            const int32_t x1 = h2[c];
            const float x5 = b0[c];
            const _Bool t0 = n0 == x1;
            const float t1 = t0 ? n2 : n1;
            const float t2 = n9 * x5;
            out1[7 * i0 + j] = t1 + t2;
        }
    }
    if (here) {
        out0[i0] = n8;
    }
}

/*   16 sum axes=>(0,1) () float32  at test_cuda_text.py:50 softmax_cross_entropy
 *        out0 [arena+0x23380 4 B] <- in0 [arena+0x280 640 B] (32,5)
 *        out0 = sum / 160
 * 256 threads a line */
GN_INLINE void s16(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0)
{
    const int t = threadIdx.x;
    const float v0 = t < 160 ? in0[t] : 0;
    float acc = v0;
    acc += __shfl_xor_sync(0xffffffffu, acc, 16);
    acc += __shfl_xor_sync(0xffffffffu, acc, 8);
    acc += __shfl_xor_sync(0xffffffffu, acc, 4);
    acc += __shfl_xor_sync(0xffffffffu, acc, 2);
    acc += __shfl_xor_sync(0xffffffffu, acc, 1);
    float *const warps = (float *)gn_shared;
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = acc;
    __syncthreads();
    if (t == 0) {
        const float total = (((warps[0] + warps[1]) + (warps[2] + warps[3])) + ((warps[4] + warps[5]) + (warps[6] + warps[7])));
        {
            const float x1 = c54[0];
            out0[0] = total / x1;
        }
    }
}

/*   18 fused () int32, 2 x () float32  at test_cuda_text.py:27 optimizer/letters/dense_1
 *        out0 [slot optimizer/t]
 *        out1 [arena+0x233c0 4 B]
 *        out2 [arena+0x23400 4 B]
 *        <- in0 [slot optimizer/t] ()
 *        <- in1 [hyper optimizer/beta1] ()
 *        <- in2 [hyper optimizer/lr] ()
 *        <- in3 [hyper optimizer/beta2] ()
 *        out0 = in0 + 1
 *        t0 = cast(out0, dtype=float64)
 *        out1 = cast(in2 / (1 - in1 ** t0), dtype=float32)
 *        out2 = cast(reciprocal(sqrt(1 - in3 ** t0)), dtype=float32) */
GN_INLINE void s18(const struct net &net, const int unit, int32_t *restrict out0,
    float *restrict out1, float *restrict out2, const double * in2, const double * in4,
    const double * in5)
{
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
    const float y1 = (float)t3;
    const double t4 = pow(x5, t0);
    const double t5 = x3 - t4;
    const double t6 = sqrt(t5);
    const double t7 = 1.0 / t6;
    const float y2 = (float)t7;
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 1) {
        out0[0] = y0;
        out1[0] = y1;
        out2[0] = y2;
    }
}

/*   19 cast () float32  at test_cuda_text.py:27 optimizer/letters/dense_1
 *        [arena+0x23440 4 B] <- [hyper optimizer/beta1] () */
GN_INLINE void s19(const struct net &net, const int unit, float *restrict out0, const double * in0)
{
    const double x0 = in0[0];
    const float y0 = (float)x0;
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 1) {
        out0[0] = y0;
    }
}

/*   22 sum axes=>(0,1) (7,) float32  at test_cuda_text.py:27 letters/dense_1
 *        [arena+0x23340 28 B] <- [arena+0x1f000 4,480 B] (32,5,7)
 * 32 threads a line */
GN_INLINE void s22(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0)
{
    const int t = threadIdx.x / 8;
    const int line = threadIdx.x % 8;
    const int k = line < 7 ? line : 6;
    const int i2 = k;
    float acc = 0;
    int r = t;
    for (; r < 128; r += 128) {
        const float v0 = in0[r * 7 + i2];
        const float v1 = in0[(r + 32) * 7 + i2];
        const float v2 = in0[(r + 64) * 7 + i2];
        const float v3 = in0[(r + 96) * 7 + i2];
        acc += (v0 + v1) + (v2 + v3);
    }
    const float v0 = in0[r * 7 + i2];
    acc += v0;
    float *const sums = (float *)gn_shared;
    sums[threadIdx.x] = acc;
    __syncthreads();
    if (t < 16)
        sums[threadIdx.x] += sums[threadIdx.x + 128];
    __syncthreads();
    if (t < 8)
        sums[threadIdx.x] += sums[threadIdx.x + 64];
    __syncthreads();
    if (t == 0 && line < 7) {
        out0[i2] = (((sums[threadIdx.x] + sums[threadIdx.x + 8]) + (sums[threadIdx.x + 16] + sums[threadIdx.x + 24])) + ((sums[threadIdx.x + 32] + sums[threadIdx.x + 40]) + (sums[threadIdx.x + 48] + sums[threadIdx.x + 56])));
    }
}

/*   23 sum axes=>(0,) () float32  optimizer
 *        out0 [arena+0x23480 4 B] <- in0 [arena+0x23340 28 B] (7,)
 *        sum of square(in0)
 * 8 threads a line */
GN_INLINE void s23(const struct net &net, const int unit, float *restrict out0, const float * in0)
{
    const int t = threadIdx.x % 8;
    const int line = threadIdx.x / 8;
    const float v0 = t < 7 ? s23_value(in0[t]) : 0;
    float acc = v0;
    acc += __shfl_xor_sync(0xffffffffu, acc, 4);
    acc += __shfl_xor_sync(0xffffffffu, acc, 2);
    acc += __shfl_xor_sync(0xffffffffu, acc, 1);
    if (t == 0 && line < 1) {
        out0[0] = acc;
    }
}

/*   25 copy (32,5,16) float32  at test_cuda_text.py:27 letters/dense_1
 *        [arena+0x0 10,240 B] <- [arena+0xa800 10,240 B] (32,5,16) strides (16,512,1)
 * 32 x 5 x 16 */
GN_INLINE void s25(const struct net &net, const int unit, float *restrict out0, const float * in0)
{
    const int e = unit * 256 + (int)threadIdx.x;
    const int i = e / 80, j = e / 16 % 5, k = e % 16;
    const float x0 = in0[16 * i + 512 * j + k];
    out0[80 * i + 16 * j + k] = x0;
}

/*   26 matmul (16,7) float32  at test_cuda_text.py:27 letters/dense_1
 *        [arena+0x23180 448 B] <- [arena+0x0 10,240 B] (16,160) strides (1,16), [arena+0x1f000 4,480 B] (160,7)
 * tiles of 8 x 2 by 256, 16 ways */
GN_INLINE void s26(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1)
{
    const int tid = threadIdx.x;
    const int top = unit / 4 * 8, start = unit % 4 * 2;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 8192);
    const int left_line = tid % 2 * 4, left_term = tid / 2;
    int left_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 8;
        left_at[q] = line;
    }
    const bool left_whole = (uint64_t)(in0) % 16 == 0;
    float left_next[8];
    const int right_line = tid % 2, right_term = tid / 2;
    int right_at[1];
    bool right_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 2;
        right_at[q] = line;
        right_in[q] = line < 7;
    }
    float right_next[2];
    const int group = tid / 16;
    const int row = tid / 2 % 8, column = tid % 2;
    float sum[1][1] = {};
#pragma unroll
    for (int p = 0; p < 2; ++p) {
        const int slot = left_term + p * 128;
        const int k = 0 + slot;
        const int left_depth = k * 16;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            gn_fetch<4>(&left_next[p * 4], in0 + (left_at[q] + left_depth), k < 160, left_whole);
        }
    }
#pragma unroll
    for (int p = 0; p < 2; ++p) {
        const int slot = right_term + p * 128;
        const int k = 0 + slot;
        const int right_depth = k * 7;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            right_next[p] = right_in[q] & (k < 160) ? *(in1 + (right_at[q] + right_depth)) : 0;
        }
    }
#pragma unroll
    for (int p = 0; p < 2; ++p) {
        const int slot = left_term + p * 128;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            gn_put<4>(&lefts[slot * 8 + left_line + q * 8], &left_next[p * 4]);
        }
    }
#pragma unroll
    for (int p = 0; p < 2; ++p) {
        const int slot = right_term + p * 128;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            rights[slot * 4 + right_line + q * 2] = right_next[p];
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 8;
        const float *const right_now = rights + (group) * 4;
        const int steps = 160 < 256 ? (160 + 15) / 16 : 16;
        #pragma unroll 1
        for (int first = 0; first < steps; first += 16) {
            #pragma unroll
            for (int step = first; step < first + 16; ++step) {
                float a[1], b[1];
                const float *const left_step = left_now + step * 128;
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
        float *const to = sums + (group * 8 + row + y) * 4;
        to[column] = sum[y][0];
    }
    __syncthreads();
    {
        const int c = tid % 2;
        #pragma unroll 1
        for (int r = tid / 2; r < 8; r += 128) {
            const int i = top + r, j = start + c;
            if (j < 7) {
                float value = sums[r * 4 + c];
                #pragma unroll 8
                for (int g = 1; g < 16; ++g) {
                    value += sums[g * 32 + r * 4 + c];
                }
                out0[i * 7 + j] = value;
            }
        }
    }
}

/*   27 sum axes=>(0,1) () float32  optimizer
 *        out0 [arena+0x234c0 4 B] <- in0 [arena+0x23180 448 B] (16,7)
 *        sum of square(in0)
 * 128 threads a line */
GN_INLINE void s27(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0)
{
    const int t = threadIdx.x % 128;
    const int line = threadIdx.x / 128;
    const float v0 = t < 112 ? s27_value(in0[t]) : 0;
    float acc = v0;
    acc += __shfl_xor_sync(0xffffffffu, acc, 16);
    acc += __shfl_xor_sync(0xffffffffu, acc, 8);
    acc += __shfl_xor_sync(0xffffffffu, acc, 4);
    acc += __shfl_xor_sync(0xffffffffu, acc, 2);
    acc += __shfl_xor_sync(0xffffffffu, acc, 1);
    float *const warps = (float *)gn_shared;
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = acc;
    __syncthreads();
    if (t == 0 && line < 1) {
        out0[0] = ((warps[threadIdx.x / 128 * 4] + warps[threadIdx.x / 128 * 4 + 1]) + (warps[threadIdx.x / 128 * 4 + 2] + warps[threadIdx.x / 128 * 4 + 3]));
    }
}

/*   29 matmul (160,16) float32  at test_cuda_text.py:27 letters/dense_1
 *        [arena+0x1c800 10,240 B] <- [arena+0x1f000 4,480 B] (160,7), [param letters/dense_1/w] (7,16) strides (1,7)
 * tiles of 4 x 16 by 8, 4 ways */
GN_INLINE void s29(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1)
{
    const int tid = threadIdx.x;
    const int top = unit * 4, start = 0;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 128);
    const int left_line = tid / 8 % 4, left_term = tid % 8 + tid / 32 * 8;
    int left_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 4;
        left_at[q] = line * 7;
    }
    float left_next[1] = {};
    const int right_line = tid / 8 % 16, right_term = tid % 8 + tid / 128 * 8;
    int right_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 16;
        right_at[q] = line * 7;
    }
    float right_next[1] = {};
    const int group = tid / 64;
    const int row = tid / 8 % 4, column = tid / 32 % 2 * 8 + tid % 8;
    float sum[1][1] = {};
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 64;
        const int k = 0 + slot;
        if (slot < 8) {
            const int left_depth = k;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                left_next[q] = k < 7 ? *(in0 + (left_at[q] + left_depth)) : 0;
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 16;
        const int k = 0 + slot;
        if (slot < 8) {
            const int right_depth = k;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                right_next[q] = k < 7 ? *(in1 + (right_at[q] + right_depth)) : 0;
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 64;
        if (slot < 8) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                lefts[slot * 4 + left_line + q * 4] = left_next[q];
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 16;
        if (slot < 8) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                rights[slot * 20 + right_line + q * 16] = right_next[q];
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 4;
        const float *const right_now = rights + (group) * 20;
        const int steps = 7 < 8 ? (7 + 3) / 4 : 2;
        #pragma unroll 1
        for (int first = 0; first < steps; first += 2) {
            #pragma unroll
            for (int step = first; step < first + 2; ++step) {
                float a[1], b[1];
                const float *const left_step = left_now + step * 16;
                a[0] = left_step[row];
                const float *const right_step = right_now + step * 80;
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
            float value = sums[r * 16 + c];
            #pragma unroll 3
            for (int g = 1; g < 4; ++g) {
                value += sums[g * 64 + r * 16 + c];
            }
            out0[i * 16 + j] = value;
        }
    }
}

/*   30 copy (32,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x20180 2,048 B] <- [constant 0] (32,16) strides (0,0)
 * 512 */
GN_INLINE void s30(const struct net &net, const int unit, float *restrict out0)
{
    const float x0 = c45[0];
    const int e = unit * 256 + (int)threadIdx.x;
    out0[e] = x0;
}

/*   31 copy (32,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x21180 2,048 B] <- [constant 0] (32,16) strides (0,0)
 * 512 */
GN_INLINE void s31(const struct net &net, const int unit, float *restrict out0)
{
    const float x0 = c45[0];
    const int e = unit * 256 + (int)threadIdx.x;
    out0[e] = x0;
}

/*   32 fused 5 x (32,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        out0 [arena+0x8000 2,048 B]
 *        out1 [arena+0x8040 2,048 B]
 *        out2 [arena+0x8080 2,048 B]
 *        out3 [arena+0x80c0 2,048 B]
 *        out4 [arena+0x21980 2,048 B]
 *        <- in0 [arena+0x20180 2,048 B] (32,16)
 *        <- in1 [arena+0x1c900 2,048 B] (32,16) strides (80,1)
 *        <- in2 [arena+0x12000 2,048 B] (32,16)
 *        <- in3 [arena+0x14800 2,048 B] (32,16)
 *        <- in4 [arena+0x21180 2,048 B] (32,16)
 *        <- in5 [arena+0x19800 2,048 B] (32,16)
 *        <- in6 [arena+0x17000 2,048 B] (32,16)
 *        <- in7 [arena+0xf000 2,048 B] (32,16)
 *        <- in8 [arena+0x1c000 2,048 B] (32,16)
 *        t0 = in0 + in1
 *        t1 = in4 + t0 * in2 * (1 - in3 * in3)
 *        out0 = t1 * in5 * (in6 * (1 - in6))
 *        out1 = t1 * in7 * (in8 * (1 - in8))
 *        out2 = t1 * in6 * (1 - in5 * in5)
 *        out3 = t0 * in3 * (in2 * (1 - in2))
 *        out4 = t1 * in8
 * 32 x 16 */
GN_INLINE void s32(const struct net &net, const int unit, float *restrict out0,
    float *restrict out1, float *restrict out2, float *restrict out3, float *restrict out4,
    const float * in0, const float * in1, const float * in2, const float * in3, const float * in5,
    const float * in6, const float * in7, const float * in8, const float * in9)
{
    const float x4 = c75[0];
    const int e = unit * 256 + (int)threadIdx.x;
    const int i = e / 16, j = e % 16;
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

/*   33 pack width=>2 (4096,) uint8  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x1f000 4,096 B] <- [param letters/lstm_1/wh] (64,16) strides (1,64)
 * panels of 2 */
GN_INLINE void s33(const struct net &net, const int unit, uint8_t *restrict out0, const float * in0)
{
#pragma unroll
    for (int e = (int)unit * 1024 + threadIdx.x; e < (int)(unit + 1) * 1024; e += 256) {
        const int c = e % 2, k = e / 2 % 64;
        const int column = e / 128 * 2 + c % 2;
        ((float *)out0)[e] = in0[k + column * 64];
    }
}

/*   33 matmul_packed width=>2 5 x (32,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        out0 [arena+0x8000-8192*(k1+1) 2,048 B]
 *        out1 [arena+0x8040-8192*(k1+1) 2,048 B]
 *        out2 [arena+0x8080-8192*(k1+1) 2,048 B]
 *        out3 [arena+0x80c0-8192*(k1+1) 2,048 B]
 *        out4 [arena+0x21180+2048*(k1%2) 2,048 B]
 *        <- in0 [arena+0x8000-8192*k1 8,192 B] (32,64)
 *        <- in1 [arena+0x1f000 4,096 B] (4096,)
 *        <- in2 [arena+0x1c900-64*(k1+1) 2,048 B] (32,16) strides (80,1)
 *        <- in3 [arena+0x12000-2048*(k1+1) 2,048 B] (32,16)
 *        <- in4 [arena+0x14800-2048*(k1+1) 2,048 B] (32,16)
 *        <- in5 [arena+0x21180+2048*((k1+1)%2) 2,048 B] (32,16)
 *        <- in6 [arena+0x19800-2048*(k1+1) 2,048 B] (32,16)
 *        <- in7 [arena+0x17000-2048*(k1+1) 2,048 B] (32,16)
 *        <- in8 [arena+0xf000-2048*(k1+1) 2,048 B] (32,16)
 *        <- in9 [arena+0x1c000-2048*(k1+1) 2,048 B] (32,16)
 *        t0 = matmul_packed + in2
 *        t1 = in5 + t0 * in3 * (1 - in4 * in4)
 *        out0 = t1 * in6 * (in7 * (1 - in7))
 *        out1 = t1 * in8 * (in9 * (1 - in9))
 *        out2 = t1 * in7 * (1 - in6 * in6)
 *        out3 = t0 * in4 * (in3 * (1 - in3))
 *        out4 = t1 * in9
 * tiles of 16 x 2 by 64, 8 ways, panel on chip */
GN_INLINE void s33_2(const struct net &net, const int unit, char *const gn_shared,
    char *const gn_resident, float *restrict out0, float *restrict out1, float *restrict out2,
    float *restrict out3, float *restrict out4, const float * in0, const float * in2,
    const float * in3, const float * in4, const float * in6, const float * in7, const float * in8,
    const float * in9, const float * in10)
{
    const int tid = threadIdx.x;
    const int top = unit / 8 * 16, start = unit % 8 * 2;
    float *const lefts = (float *)gn_shared;
    const float *const rights = (const float *)gn_resident;
    const int left_line = tid / 2 % 16, left_term = tid % 2 * 4 + tid / 32 * 8;
    int left_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 16;
        left_at[q] = line * 64;
    }
    const bool left_whole = (uint64_t)(in0) % 16 == 0;
    float left_next[4];
    const int group = tid / 32;
    const int row = tid / 2 % 16, column = tid % 2;
    float sum[1][1] = {};
    const int c = tid % 2, r = tid / 2;
    const int i = top + r, j = start + c;
    const bool mine = tid < 32;
    const float ahead1 = mine ? in2[i * 80 + j] : 0;
    const float ahead2 = mine ? in3[i * 16 + j] : 0;
    const float ahead3 = mine ? in4[i * 16 + j] : 0;
    const float ahead5 = mine ? in6[i * 16 + j] : 0;
    const float ahead6 = mine ? in7[i * 16 + j] : 0;
    const float ahead7 = mine ? in8[i * 16 + j] : 0;
    const float ahead8 = mine ? in9[i * 16 + j] : 0;
    const float ahead9 = mine ? in10[i * 16 + j] : 0;
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 64;
        const int k = 0 + slot;
        const int left_depth = k;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            gn_fetch<4>(&left_next[q * 4], in0 + (left_at[q] + left_depth), true, left_whole);
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 64;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            #pragma unroll
            for (int e = 0; e < 4; ++e) {
                lefts[slot * 20 + left_line + q * 16 + e * 20] = left_next[q * 4 + e];
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 20;
        const float *const right_now = rights + (group) * 2;
        #pragma unroll 8
        for (int step = 0; step < 8; ++step) {
            float a[1], b[1];
            const float *const left_step = left_now + step * 160;
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
        #pragma unroll 7
        for (int g = 1; g < 8; ++g) {
            value += sums[g * 64 + r * 4 + c];
        }
        {
            const float x4 = c75[0];
            const float t0 = value + ahead1;
            const float t1 = t0 * ahead2;
            const float t2 = ahead3 * ahead3;
            const float t3 = x4 - t2;
            const float t4 = t1 * t3;
            const float t5 = ahead5 + t4;
            const float t6 = t5 * ahead6;
            const float t7 = x4 - ahead7;
            const float t8 = ahead7 * t7;
            const float t9 = t5 * ahead8;
            const float t10 = x4 - ahead9;
            const float t11 = ahead9 * t10;
            const float t12 = t5 * ahead7;
            const float t13 = ahead6 * ahead6;
            const float t14 = x4 - t13;
            const float t15 = t0 * ahead3;
            const float t16 = x4 - ahead2;
            const float t17 = ahead2 * t16;
            out0[64 * i + j] = t6 * t8;
            out1[64 * i + j] = t9 * t11;
            out2[64 * i + j] = t12 * t14;
            out3[64 * i + j] = t15 * t17;
            out4[16 * i + j] = t5 * ahead9;
        }
    }
}

/*   35 matmul (16,64) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x22180 4,096 B] <- [arena+0xa000 10,240 B] (16,160) strides (1,16), [arena+0x0 40,960 B] (160,64)
 * tiles of 4 x 4 by 256, 16 ways */
GN_INLINE void s35(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1)
{
    const int tid = threadIdx.x;
    const int top = unit / 16 * 4, start = unit % 16 * 4;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 4096);
    const int left_line = tid % 1 * 4, left_term = tid / 1;
    int left_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 4;
        left_at[q] = line;
    }
    const bool left_whole = (uint64_t)(in0) % 16 == 0;
    float left_next[4];
    const int right_line = tid % 1 * 4, right_term = tid / 1;
    int right_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 4;
        right_at[q] = line;
    }
    const bool right_whole = (uint64_t)(in1) % 16 == 0;
    float right_next[4];
    const int group = tid / 16;
    const int row = tid / 4 % 4, column = tid % 4;
    float sum[1][1] = {};
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 256;
        const int k = 0 + slot;
        const int left_depth = k * 16;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            gn_fetch<4>(&left_next[q * 4], in0 + (left_at[q] + left_depth), k < 160, left_whole);
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 256;
        const int k = 0 + slot;
        const int right_depth = k * 64;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            gn_fetch<4>(&right_next[q * 4], in1 + (right_at[q] + right_depth), k < 160, right_whole);
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 256;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            gn_put<4>(&lefts[slot * 4 + left_line + q * 4], &left_next[q * 4]);
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 256;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            gn_put<4>(&rights[slot * 4 + right_line + q * 4], &right_next[q * 4]);
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 4;
        const float *const right_now = rights + (group) * 4;
        const int steps = 160 < 256 ? (160 + 15) / 16 : 16;
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
    __syncthreads();
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
            float value = sums[r * 4 + c];
            #pragma unroll 8
            for (int g = 1; g < 16; ++g) {
                value += sums[g * 16 + r * 4 + c];
            }
            out0[i * 64 + j] = value;
        }
    }
}

/*   36 sum axes=>(0,1) () float32  optimizer
 *        out0 [arena+0x1f000 4 B] <- in0 [arena+0x22180 4,096 B] (16,64)
 *        sum of square(in0)
 * 256 threads a line */
GN_INLINE void s36(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0)
{
    const int t = threadIdx.x;
    float acc = 0;
    int r = t;
    for (; r < 1024; r += 1024) {
        const float v0 = s36_value(in0[r]);
        const float v1 = s36_value(in0[r + 256]);
        const float v2 = s36_value(in0[r + 512]);
        const float v3 = s36_value(in0[r + 768]);
        acc += (v0 + v1) + (v2 + v3);
    }
    acc += __shfl_xor_sync(0xffffffffu, acc, 16);
    acc += __shfl_xor_sync(0xffffffffu, acc, 8);
    acc += __shfl_xor_sync(0xffffffffu, acc, 4);
    acc += __shfl_xor_sync(0xffffffffu, acc, 2);
    acc += __shfl_xor_sync(0xffffffffu, acc, 1);
    float *const warps = (float *)gn_shared;
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = acc;
    __syncthreads();
    if (t == 0) {
        out0[0] = (((warps[0] + warps[1]) + (warps[2] + warps[3])) + ((warps[4] + warps[5]) + (warps[6] + warps[7])));
    }
}

/*   38 scatter_add rows=>7 (7,64) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x10000 1,792 B] <- [arena+0x0 40,960 B] (5,32,64), [input ids] (5,32) strides (1,5)
 * 1 rows by 64 columns */
GN_INLINE void s38(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const int32_t * in1)
{
    const int gn_step = 38;
    const int lane = threadIdx.x % 64, group = threadIdx.x / 64;
    const int part = 0, rows = unit % 7, columns = 0;
    const int begin = rows * 1, column = columns * 64 + lane;
    float *sum = (float *)gn_shared;
    int *from = (int *)(gn_shared + 256);
    int *into = (int *)(gn_shared + 4352), *hits = into + 1024;
    int bad = 0;
    for (int r = group; r < 1; r += 4) {
        sum[r * 64 + lane] = 0;
    }
    const int first = part * 160, stop = first + 160;
    for (int start = first; start < stop; start += 1024) {
        int row[4], place = 0, count = 0, own = 0;
        const unsigned before = (1u << threadIdx.x % 32) - 1;
        #pragma unroll
        for (int q = 0; q < 4; ++q) {
            const int i = start + 4 * (int)threadIdx.x + q;
            row[q] = -1;
            if (i < stop) {
                const int i0 = i / 32, i1 = i % 32;
                const int64_t found = gn_own_row((int64_t)in1[i0 + i1 * 5], 7);
                bad |= found < 0;
                row[q] = found >= begin && found < begin + 1 ? (int)(found - begin) : -1;
            }
            const unsigned hit = __ballot_sync(0xffffffffu, row[q] >= 0);
            place += __popc(hit & before);
            own += __popc(hit);
        }
        if (threadIdx.x % 32 == 0) {
            hits[threadIdx.x / 32] = own;
        }
        __syncthreads();
        for (int w = 0; w < 8; ++w) {
            place += w < (int)threadIdx.x / 32 ? hits[w] : 0;
            count += hits[w];
        }
        #pragma unroll
        for (int q = 0; q < 4; ++q) {
            if (row[q] >= 0) {
                const int i = start + 4 * (int)threadIdx.x + q;
                const int i0 = i / 32, i1 = i % 32;
                from[place] = i0 * 2048 + i1 * 64;
                into[place++] = row[q];
            }
        }
        __syncthreads();
        int k = 0;
        for (; k + 8 <= count; k += 8) {
            float value[8];
            #pragma unroll
            for (int u = 0; u < 8; ++u) {
                if (into[k + u] % 4 == group) {
                    value[u] = (float)in0[from[k + u] + column];
                }
            }
            #pragma unroll
            for (int u = 0; u < 8; ++u) {
                if (into[k + u] % 4 == group) {
                    sum[into[k + u] * 64 + lane] += value[u];
                }
            }
        }
        for (; k < count; ++k) {
            if (into[k] % 4 == group) {
                sum[into[k] * 64 + lane] += (float)in0[from[k] + column];
            }
        }
        __syncthreads();
    }
    for (int r = group; r < 1; r += 4) {
        const int row = begin + r;
        if (row < 7) {
            out0[row * 64 + column] = (float)sum[r * 64 + lane];
        }
    }
    if (__syncthreads_or(bad) && threadIdx.x == 0) {
        int64_t low = (int64_t)in1[0], high = low;
        for (long i0 = 0; i0 < 160; i0++) {
            const int64_t index = (int64_t)in1[i0];
            low = index < low ? index : low;
            high = index > high ? index : high;
        }
        if (high >= 7)
            GN_FAIL(high, 7);
        else
            GN_FAIL(low, 7);
    }
}

/*   39 sum axes=>(0,) (64,) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x10700 256 B] <- [arena+0x10000 1,792 B] (7,64)
 * 4 threads a line */
GN_INLINE void s39(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0)
{
    const int t = threadIdx.x / 64;
    const int k = threadIdx.x % 64;
    const int i1 = k;
    const float v0 = in0[t * 64 + i1];
    const float v1 = t + 4 < 7 ? in0[(t + 4) * 64 + i1] : 0;
    float acc = (v0 + v1);
    float *const sums = (float *)gn_shared;
    sums[threadIdx.x] = acc;
    __syncthreads();
    if (t == 0) {
        out0[i1] = ((sums[threadIdx.x] + sums[threadIdx.x + 64]) + (sums[threadIdx.x + 128] + sums[threadIdx.x + 192]));
    }
}

/*   40 sum axes=>(0,) () float32  optimizer
 *        out0 [arena+0x10800 4 B] <- in0 [arena+0x10700 256 B] (64,)
 *        sum of square(in0)
 * 64 threads a line */
GN_INLINE void s40(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0)
{
    const int t = threadIdx.x % 64;
    const int line = threadIdx.x / 64;
    float acc = 0;
    int r = t;
    for (; r < 64; r += 64) {
        const float v0 = s40_value(in0[r]);
        acc += v0;
    }
    acc += __shfl_xor_sync(0xffffffffu, acc, 16);
    acc += __shfl_xor_sync(0xffffffffu, acc, 8);
    acc += __shfl_xor_sync(0xffffffffu, acc, 4);
    acc += __shfl_xor_sync(0xffffffffu, acc, 2);
    acc += __shfl_xor_sync(0xffffffffu, acc, 1);
    float *const warps = (float *)gn_shared;
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = acc;
    __syncthreads();
    if (t == 0 && line < 1) {
        out0[0] = (warps[threadIdx.x / 64 * 2] + warps[threadIdx.x / 64 * 2 + 1]);
    }
}

/*   42 matmul (16,64) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x0 4,096 B] <- [param letters/embedding_1/w] (16,7) strides (1,16), [arena+0x10000 1,792 B] (7,64)
 * tiles of 4 x 16 by 8, 4 ways */
GN_INLINE void s42(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1)
{
    const int tid = threadIdx.x;
    const int top = unit / 4 * 4, start = unit % 4 * 16;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 128);
    const int left_line = tid % 1 * 4, left_term = tid / 1;
    int left_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 4;
        left_at[q] = line;
    }
    const bool left_whole = (uint64_t)(in0) % 16 == 0;
    float left_next[4] = {};
    const int right_line = tid % 4 * 4, right_term = tid / 4;
    int right_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 16;
        right_at[q] = line;
    }
    const bool right_whole = (uint64_t)(in1) % 16 == 0;
    float right_next[4] = {};
    const int group = tid / 64;
    const int row = tid / 8 % 4, column = tid / 32 % 2 * 8 + tid % 8;
    float sum[1][1] = {};
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 256;
        const int k = 0 + slot;
        if (slot < 8) {
            const int left_depth = k * 16;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&left_next[q * 4], in0 + (left_at[q] + left_depth), k < 7, left_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 64;
        const int k = 0 + slot;
        if (slot < 8) {
            const int right_depth = k * 64;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&right_next[q * 4], in1 + (right_at[q] + right_depth), k < 7, right_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 256;
        if (slot < 8) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_put<4>(&lefts[slot * 4 + left_line + q * 4], &left_next[q * 4]);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 64;
        if (slot < 8) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_put<4>(&rights[slot * 16 + right_line + q * 16], &right_next[q * 4]);
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 4;
        const float *const right_now = rights + (group) * 16;
        const int steps = 7 < 8 ? (7 + 3) / 4 : 2;
        #pragma unroll 1
        for (int first = 0; first < steps; first += 2) {
            #pragma unroll
            for (int step = first; step < first + 2; ++step) {
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
            float value = sums[r * 16 + c];
            #pragma unroll 3
            for (int g = 1; g < 4; ++g) {
                value += sums[g * 64 + r * 16 + c];
            }
            out0[i * 64 + j] = value;
        }
    }
}

/*   43 sum axes=>(0,1) () float32  optimizer
 *        out0 [arena+0x11c0 4 B] <- in0 [arena+0x0 4,096 B] (16,64)
 *        sum of square(in0)
 * 256 threads a line */
GN_INLINE void s43(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0)
{
    const int t = threadIdx.x;
    float acc = 0;
    int r = t;
    for (; r < 1024; r += 1024) {
        const float v0 = s43_value(in0[r]);
        const float v1 = s43_value(in0[r + 256]);
        const float v2 = s43_value(in0[r + 512]);
        const float v3 = s43_value(in0[r + 768]);
        acc += (v0 + v1) + (v2 + v3);
    }
    acc += __shfl_xor_sync(0xffffffffu, acc, 16);
    acc += __shfl_xor_sync(0xffffffffu, acc, 8);
    acc += __shfl_xor_sync(0xffffffffu, acc, 4);
    acc += __shfl_xor_sync(0xffffffffu, acc, 2);
    acc += __shfl_xor_sync(0xffffffffu, acc, 1);
    float *const warps = (float *)gn_shared;
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = acc;
    __syncthreads();
    if (t == 0) {
        out0[0] = (((warps[0] + warps[1]) + (warps[2] + warps[3])) + ((warps[4] + warps[5]) + (warps[6] + warps[7])));
    }
}

/*   45 matmul (7,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [arena+0x1000 448 B] <- [arena+0x10000 1,792 B] (7,64), [param letters/lstm_1/wx] (64,16) strides (1,64)
 * tiles of 2 x 16 by 64, 8 ways */
GN_INLINE void s45(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1)
{
    const int tid = threadIdx.x;
    const int top = unit * 2, start = 0;
    float *const lefts = (float *)gn_shared;
    float *const rights = (float *)(gn_shared + 1024);
    const int left_line = tid / 2 % 2, left_term = tid % 2 * 4 + tid / 4 * 8;
    int left_at[1];
    bool left_in[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = top + left_line + q * 2;
        left_at[q] = line * 64;
        left_in[q] = line < 7;
    }
    const bool left_whole = (uint64_t)(in0) % 16 == 0;
    float left_next[4] = {};
    const int right_line = tid / 2 % 16, right_term = tid % 2 * 4 + tid / 32 * 8;
    int right_at[1];
#pragma unroll
    for (int q = 0; q < 1; ++q) {
        const int line = start + right_line + q * 16;
        right_at[q] = line * 64;
    }
    const bool right_whole = (uint64_t)(in1) % 16 == 0;
    float right_next[4];
    const int group = tid / 32;
    const int row = tid / 8 % 2, column = tid / 16 % 2 * 8 + tid % 8;
    float sum[1][1] = {};
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 512;
        const int k = 0 + slot;
        if (slot < 64) {
            const int left_depth = k;
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                gn_fetch<4>(&left_next[q * 4], in0 + (left_at[q] + left_depth), left_in[q], left_whole);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 64;
        const int k = 0 + slot;
        const int right_depth = k;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            gn_fetch<4>(&right_next[q * 4], in1 + (right_at[q] + right_depth), true, right_whole);
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = left_term + p * 512;
        if (slot < 64) {
            #pragma unroll
            for (int q = 0; q < 1; ++q) {
                #pragma unroll
                for (int e = 0; e < 4; ++e) {
                    lefts[slot * 4 + left_line + q * 2 + e * 4] = left_next[q * 4 + e];
                }
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 1; ++p) {
        const int slot = right_term + p * 64;
        #pragma unroll
        for (int q = 0; q < 1; ++q) {
            #pragma unroll
            for (int e = 0; e < 4; ++e) {
                rights[slot * 20 + right_line + q * 16 + e * 20] = right_next[q * 4 + e];
            }
        }
    }
    __syncthreads();
    {
        const float *const left_now = lefts + (group) * 4;
        const float *const right_now = rights + (group) * 20;
        #pragma unroll 8
        for (int step = 0; step < 8; ++step) {
            float a[1], b[1];
            const float *const left_step = left_now + step * 32;
            a[0] = left_step[row];
            const float *const right_step = right_now + step * 160;
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
        float *const to = sums + (group * 2 + row + y) * 16;
        to[column] = sum[y][0];
    }
    __syncthreads();
    {
        const int c = tid % 16;
        #pragma unroll 1
        for (int r = tid / 16; r < 2; r += 16) {
            const int i = top + r, j = start + c;
            if (i < 7) {
                float value = sums[r * 16 + c];
                #pragma unroll 7
                for (int g = 1; g < 8; ++g) {
                    value += sums[g * 32 + r * 16 + c];
                }
                out0[i * 16 + j] = value;
            }
        }
    }
}

/*   46 sum axes=>(0,1) () float32  optimizer
 *        out0 [arena+0x1200 4 B]
 *        <- in0 [arena+0x1000 448 B] (7,16)
 *        <- in1 [arena+0x23480 4 B] ()
 *        <- in2 [arena+0x234c0 4 B] ()
 *        <- in3 [arena+0x1f000 4 B] ()
 *        <- in4 [arena+0x10800 4 B] ()
 *        <- in5 [arena+0x11c0 4 B] ()
 *        <- in6 [hyper optimizer/clip_norm] ()
 *        sum of square(in0)
 *        t0 = cast(in1, dtype=float64) + cast(in2, dtype=float64) + cast(in3, dtype=float64)
 *        t1 = t0 + cast(in4, dtype=float64) + cast(in5, dtype=float64) + cast(sum, dtype=float64)
 *        out0 = cast(minimum(in6 / (sqrt(t1) + 1e-06), 1), dtype=float32)
 * 128 threads a line */
GN_INLINE void s46(const struct net &net, const int unit, char *const gn_shared,
    float *restrict out0, const float * in0, const float * in1, const float * in2,
    const float * in3, const float * in4, const float * in5, const double * in7)
{
    const int t = threadIdx.x % 128;
    const int line = threadIdx.x / 128;
    const float v0 = t < 112 ? s46_value(in0[t]) : 0;
    float acc = v0;
    acc += __shfl_xor_sync(0xffffffffu, acc, 16);
    acc += __shfl_xor_sync(0xffffffffu, acc, 8);
    acc += __shfl_xor_sync(0xffffffffu, acc, 4);
    acc += __shfl_xor_sync(0xffffffffu, acc, 2);
    acc += __shfl_xor_sync(0xffffffffu, acc, 1);
    float *const warps = (float *)gn_shared;
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = acc;
    __syncthreads();
    if (t == 0 && line < 1) {
        const float total = ((warps[threadIdx.x / 128 * 4] + warps[threadIdx.x / 128 * 4 + 1]) + (warps[threadIdx.x / 128 * 4 + 2] + warps[threadIdx.x / 128 * 4 + 3]));
        {
            const float x0 = in1[0];
            const float x1 = in2[0];
            const float x2 = in3[0];
            const float x3 = in4[0];
            const float x4 = in5[0];
            const double x6 = c89[0];
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
            const double t9 = (double)total;
            const double t10 = t8 + t9;
            const double t11 = sqrt(t10);
            const double t12 = t11 + x6;
            const double t13 = x7 / t12;
            const double t14 = gn_minimum_float64(t13, x8);
            out0[0] = (float)t14;
        }
    }
}

/*   49 fused () float32  at test_cuda_text.py:27 optimizer/letters/dense_1
 *        out0 [arena+0x1240 4 B] <- in0 [hyper optimizer/beta1] ()
 *        out0 = cast(1 - in0, dtype=float32) */
GN_INLINE void s49(const struct net &net, const int unit, float *restrict out0, const double * in1)
{
    const double x0 = c57[0];
    const double x1 = in1[0];
    const double t0 = x0 - x1;
    const float y0 = (float)t0;
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 1) {
        out0[0] = y0;
    }
}

/*   50 cast () float32  at test_cuda_text.py:27 optimizer/letters/dense_1
 *        [arena+0x1280 4 B] <- [hyper optimizer/beta2] () */
GN_INLINE void s50(const struct net &net, const int unit, float *restrict out0, const double * in0)
{
    const double x0 = in0[0];
    const float y0 = (float)x0;
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 1) {
        out0[0] = y0;
    }
}

/*   51 fused () float32  at test_cuda_text.py:27 optimizer/letters/dense_1
 *        out0 [arena+0x11c0 4 B] <- in0 [hyper optimizer/beta2] ()
 *        out0 = cast(1 - in0, dtype=float32) */
GN_INLINE void s51(const struct net &net, const int unit, float *restrict out0, const double * in1)
{
    const double x0 = c57[0];
    const double x1 = in1[0];
    const double t0 = x0 - x1;
    const float y0 = (float)t0;
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 1) {
        out0[0] = y0;
    }
}

/*   52 cast () float32  at test_cuda_text.py:27 optimizer/letters/dense_1
 *        [arena+0x12c0 4 B] <- [hyper optimizer/eps] () */
GN_INLINE void s52(const struct net &net, const int unit, float *restrict out0, const double * in0)
{
    const double x0 = in0[0];
    const float y0 = (float)x0;
    const int e = unit * 256 + (int)threadIdx.x;
    if (e < 1) {
        out0[0] = y0;
    }
}

/*   58 many 6 updates of 2,343 elements, 3 x float32  optimizer/letters
 *        <- in0 [arena+0x23440 4 B] ()
 *        <- in3 [arena+0x1200 4 B] ()
 *        <- in4 [arena+0x1240 4 B] ()
 *        <- in5 [arena+0x1280 4 B] ()
 *        <- in7 [arena+0x11c0 4 B] ()
 *        <- in8 [arena+0x23400 4 B] ()
 *        <- in9 [arena+0x12c0 4 B] ()
 *        <- in10 [arena+0x233c0 4 B] ()
 *        <- in1 [out0], in6 [out1], in11 [out2]
 *        t0 = in2 * in3
 *        out0 = in0 * in1 + in4 * t0
 *        out1 = in5 * in6 + in7 * square(t0)
 *        out2 = in11 - in10 * (out0 / (sqrt(out1) * in8 + in9))
 *        (7,) out0 [slot m/letters/dense_1/b], out1 [slot v/letters/dense_1/b], out2 [param letters/dense_1/b] <- in2 [arena+0x23340 28 B]  at test_cuda_text.py:27 optimizer/letters/dense_1
 *        (16,7) out0 [slot m/letters/dense_1/w], out1 [slot v/letters/dense_1/w], out2 [param letters/dense_1/w] <- in2 [arena+0x23180 448 B]  at test_cuda_text.py:27 optimizer/letters/dense_1
 *        (16,64) out0 [slot m/letters/lstm_1/wh], out1 [slot v/letters/lstm_1/wh], out2 [param letters/lstm_1/wh] <- in2 [arena+0x22180 4,096 B]  at test_cuda_text.py:27 optimizer/letters/lstm_1
 *        (64,) out0 [slot m/letters/lstm_1/b], out1 [slot v/letters/lstm_1/b], out2 [param letters/lstm_1/b] <- in2 [arena+0x10700 256 B]  at test_cuda_text.py:27 optimizer/letters/lstm_1
 *        (16,64) out0 [slot m/letters/lstm_1/wx], out1 [slot v/letters/lstm_1/wx], out2 [param letters/lstm_1/wx] <- in2 [arena+0x0 4,096 B]  at test_cuda_text.py:27 optimizer/letters/lstm_1
 *        (7,16) out0 [slot m/letters/embedding_1/w], out1 [slot v/letters/embedding_1/w], out2 [param letters/embedding_1/w] <- in2 [arena+0x1000 448 B]  at test_cuda_text.py:26 optimizer/letters/embedding_1
 * 2343 in 6 arrays */
GN_INLINE void s58(const struct net &net, const int unit, const float * in0, const float * in3,
    const float * in4, const float * in5, const float * in7, const float * in8, const float * in9,
    const float * in10)
{
    char *const A = net.A;
    char *const *const H = net.H;
    const float x0 = in0[0];
    const float x3 = in3[0];
    const float x4 = in4[0];
    const float x5 = in5[0];
    const float x7 = in7[0];
    const float x8 = in8[0];
    const float x9 = in9[0];
    const float x10 = in10[0];
    int first, size; /* the first unit of the member that has this one, and its elements */
    float *out0;
    float *out1;
    float *out2;
    const float *in2;
    if (unit < 6) {
        if (unit < 1) {
            first = 0; size = 7; out0 = (float *)(H[14]); out1 = (float *)(H[16]); out2 = (float *)(H[8]); in2 = (const float *)(A + 0x23340);
        } else {
            if (unit < 2) {
                first = 1; size = 112; out0 = (float *)(H[18]); out1 = (float *)(H[19]); out2 = (float *)(H[7]); in2 = (const float *)(A + 0x23180);
            } else {
                first = 2; size = 1024; out0 = (float *)(H[20]); out1 = (float *)(H[21]); out2 = (float *)(H[6]); in2 = (const float *)(A + 0x22180);
            }
        }
    } else {
        if (unit < 7) {
            first = 6; size = 64; out0 = (float *)(H[22]); out1 = (float *)(H[23]); out2 = (float *)(H[5]); in2 = (const float *)(A + 0x10700);
        } else {
            if (unit < 11) {
                first = 7; size = 1024; out0 = (float *)(H[24]); out1 = (float *)(H[25]); out2 = (float *)(H[4]); in2 = (const float *)(A + 0x0);
            } else {
                first = 11; size = 112; out0 = (float *)(H[26]); out1 = (float *)(H[27]); out2 = (float *)(H[3]); in2 = (const float *)(A + 0x1000);
            }
        }
    }
    const int start = (unit - first) * 256 + (int)threadIdx.x;
    const int i = start;
    if (i < size) {
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

/*   59 copy (32,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [state letters/lstm_1/h] <- [arena+0xc800 2,048 B] (32,16)
 * 512 */
GN_INLINE void s59(const struct net &net, const int unit, float *restrict out0, const float * in0)
{
    const int e = unit * 256 + (int)threadIdx.x;
    const float x0 = in0[e];
    out0[e] = x0;
}

/*   60 copy (32,16) float32  at test_cuda_text.py:27 letters/lstm_1
 *        [state letters/lstm_1/c] <- [arena+0xf800 2,048 B] (32,16)
 * 512 */
GN_INLINE void s60(const struct net &net, const int unit, float *restrict out0, const float * in0)
{
    const int e = unit * 256 + (int)threadIdx.x;
    const float x0 = in0[e];
    out0[e] = x0;
}

/* keeps the loss, and moves counters on */
GN_INLINE void s_end(const struct net &net, const int unit)
{
    char *const A = net.A;
    if (threadIdx.x == 0 && unit == 0) {
        ((double *)(net.note + 8))[net.note[4] % 1024] = (double)*(const float *)(A + 0x23380);
        ++net.note[4];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_0_31(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(1280);
    for (int unit = blockIdx.x; unit < 18; unit += gridDim.x) {
        if (unit < 8) {
            s0(net, unit, gn_shared, (float *)(A + 0x10000), (const float *)(H[3]), (const float *)(H[4]),
                (const float *)(H[5]));
        }
        else if (unit < 10) {
            s3(net, unit - 8, (float *)(A + 0xa000), (const float *)(H[1]));
        }
        else if (unit < 12) {
            s4(net, unit - 10, (float *)(A + 0xd000), (const float *)(H[2]));
        }
        else if (unit < 13) {
            s5(net, unit - 12, (uint8_t *)(A + 0x1c800), (const float *)(H[6]));
        }
        else if (unit < 14) {
            s19(net, unit - 13, (float *)(A + 0x23440), (const double *)(H[11]));
        }
        else if (unit < 16) {
            s30(net, unit - 14, (float *)(A + 0x20180));
        }
        else {
            s31(net, unit - 16, (float *)(A + 0x21180));
        }
        if (unit + gridDim.x < 18)
            __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_2(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    for (int unit = blockIdx.x; unit < 40; unit += gridDim.x) {
        s2(net, unit, (float *)(A + 0x0), (const float *)(A + 0x10000), (const int32_t *)(H[0]));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) run_5_2(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    GN_SHARED(1536);
    if (gridDim.x >= 32 && blockIdx.x < 32)
        s5_2_load(net, blockIdx.x, gn_shared + 1280, (const uint8_t *)(A + 0x1c800));
    __syncthreads();
    for (int k0 = 0; k0 < 5; ++k0) {
        for (int unit = blockIdx.x; unit < 32; unit += gridDim.x) {
            if (gridDim.x < 32) {
                s5_2_load(net, unit, gn_shared + 1280, (const uint8_t *)(A + 0x1c800));
                __syncthreads();
            }
            s5_2(net, unit, gn_shared, gn_shared + 1280, (float *)(A + 0x10000 + k0 * 2048),
                (float *)(A + 0x1a000 + k0 * 2048), (float *)(A + 0x15000 + k0 * 2048),
                (float *)(A + 0x17800 + k0 * 2048), (float *)(A + 0xd000 + (k0 + 1) * 2048),
                (float *)(A + 0x12800 + k0 * 2048), (float *)(A + 0xa000 + (k0 + 1) * 2048),
                (const float *)(A + 0xa000 + k0 * 2048), (const float *)(A + 0xd000 + k0 * 2048),
                (const float *)(A + 0x0 + k0 * 8192), (const float *)(A + 0x40 + k0 * 8192),
                (const float *)(A + 0x80 + k0 * 8192), (const float *)(A + 0xc0 + k0 * 8192));
            __syncthreads();
        }
        if (k0 < 4)
            gn_meet(net.barrier);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_8_11_12_18(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(1280);
    for (int unit = blockIdx.x; unit < 33; unit += gridDim.x) {
        if (unit < 32) {
            s8(net, unit, gn_shared, (float *)(A + 0x1f000), (const float *)(A + 0xa800),
                (const float *)(H[7]));
        }
        else {
            s11(net, unit - 32, (int32_t *)(A + 0x0), (const int32_t *)(H[9]));
        }
        if (unit + gridDim.x < 33)
            __syncthreads();
    }
    if (gn_last(net.barrier)) {
        s12(net, 0, (float *)(A + 0x280), (float *)(A + 0x1f000), (const float *)(H[8]),
            (const int32_t *)(A + 0x0));
        __syncthreads();
        if (!gn_failed(net)) {
            s18(net, 0, (int32_t *)(H[10]), (float *)(A + 0x233c0), (float *)(A + 0x23400),
                (const double *)(H[11]), (const double *)(H[12]), (const double *)(H[13]));
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_16_22_29(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(1024);
    for (int unit = blockIdx.x; unit < 42; unit += gridDim.x) {
        if (unit < 1) {
            s16(net, unit, gn_shared, (float *)(A + 0x23380), (const float *)(A + 0x280));
        }
        else if (unit < 2) {
            s22(net, unit - 1, gn_shared, (float *)(A + 0x23340), (const float *)(A + 0x1f000));
        }
        else {
            s29(net, unit - 2, gn_shared, (float *)(A + 0x1c800), (const float *)(A + 0x1f000),
                (const float *)(H[7]));
        }
        if (unit + gridDim.x < 42)
            __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_23_25_32(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    for (int unit = blockIdx.x; unit < 13; unit += gridDim.x) {
        if (unit < 1) {
            s23(net, unit, (float *)(A + 0x23480), (const float *)(A + 0x23340));
        }
        else if (unit < 11) {
            s25(net, unit - 1, (float *)(A + 0x0), (const float *)(A + 0xa800));
        }
        else {
            s32(net, unit - 11, (float *)(A + 0x8000), (float *)(A + 0x8040), (float *)(A + 0x8080),
                (float *)(A + 0x80c0), (float *)(A + 0x21980), (const float *)(A + 0x20180),
                (const float *)(A + 0x1c900), (const float *)(A + 0x12000), (const float *)(A + 0x14800),
                (const float *)(A + 0x21180), (const float *)(A + 0x19800), (const float *)(A + 0x17000),
                (const float *)(A + 0xf000), (const float *)(A + 0x1c000));
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_26_27_33(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(12288);
    for (int unit = blockIdx.x; unit < 8; unit += gridDim.x) {
        s26(net, unit, gn_shared, (float *)(A + 0x23180), (const float *)(A + 0x0),
            (const float *)(A + 0x1f000));
        if (unit + gridDim.x < 8)
            __syncthreads();
    }
    if (gn_last(net.barrier)) {
        s27(net, 0, gn_shared, (float *)(A + 0x234c0), (const float *)(A + 0x23180));
        __syncthreads();
        s33(net, 0, (uint8_t *)(A + 0x1f000), (const float *)(H[6]));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) run_33_2(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    GN_SHARED(5632);
    if (gridDim.x >= 16 && blockIdx.x < 16)
        s33_2_load(net, blockIdx.x, gn_shared + 5120, (const uint8_t *)(A + 0x1f000));
    __syncthreads();
    for (int k1 = 0; k1 < 4; ++k1) {
        for (int unit = blockIdx.x; unit < 16; unit += gridDim.x) {
            if (gridDim.x < 16) {
                s33_2_load(net, unit, gn_shared + 5120, (const uint8_t *)(A + 0x1f000));
                __syncthreads();
            }
            s33_2(net, unit, gn_shared, gn_shared + 5120, (float *)(A + 0x8000 - (k1 + 1) * 8192),
                (float *)(A + 0x8040 - (k1 + 1) * 8192), (float *)(A + 0x8080 - (k1 + 1) * 8192),
                (float *)(A + 0x80c0 - (k1 + 1) * 8192), (float *)(A + 0x21180 + (k1 % 2) * 2048),
                (const float *)(A + 0x8000 - k1 * 8192), (const float *)(A + 0x1c900 - (k1 + 1) * 64),
                (const float *)(A + 0x12000 - (k1 + 1) * 2048), (const float *)(A + 0x14800 - (k1 + 1) * 2048),
                (const float *)(A + 0x21180 + ((k1 + 1) % 2) * 2048),
                (const float *)(A + 0x19800 - (k1 + 1) * 2048), (const float *)(A + 0x17000 - (k1 + 1) * 2048),
                (const float *)(A + 0xf000 - (k1 + 1) * 2048), (const float *)(A + 0x1c000 - (k1 + 1) * 2048));
            __syncthreads();
        }
        if (k1 < 3)
            gn_meet(net.barrier);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_35_38(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(8480);
    for (int unit = blockIdx.x; unit < 71; unit += gridDim.x) {
        if (unit < 64) {
            s35(net, unit, gn_shared, (float *)(A + 0x22180), (const float *)(A + 0xa000),
                (const float *)(A + 0x0));
        }
        else {
            s38(net, unit - 64, gn_shared, (float *)(A + 0x10000), (const float *)(A + 0x0),
                (const int32_t *)(H[0]));
        }
        if (unit + gridDim.x < 71)
            __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_36_51(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    char *const *const H = net.H;
    GN_SHARED(6144);
    for (int unit = blockIdx.x; unit < 30; unit += gridDim.x) {
        if (unit < 1) {
            s36(net, unit, gn_shared, (float *)(A + 0x1f000), (const float *)(A + 0x22180));
        }
        else if (unit < 2) {
            s39(net, unit - 1, gn_shared, (float *)(A + 0x10700), (const float *)(A + 0x10000));
        }
        else if (unit < 18) {
            s42(net, unit - 2, gn_shared, (float *)(A + 0x0), (const float *)(H[3]),
                (const float *)(A + 0x10000));
        }
        else if (unit < 22) {
            s45(net, unit - 18, gn_shared, (float *)(A + 0x1000), (const float *)(A + 0x10000),
                (const float *)(H[4]));
        }
        else if (unit < 23) {
            s49(net, unit - 22, (float *)(A + 0x1240), (const double *)(H[11]));
        }
        else if (unit < 24) {
            s50(net, unit - 23, (float *)(A + 0x1280), (const double *)(H[13]));
        }
        else if (unit < 25) {
            s52(net, unit - 24, (float *)(A + 0x12c0), (const double *)(H[17]));
        }
        else if (unit < 27) {
            if (!gn_failed(net)) {
                s59(net, unit - 25, (float *)(H[1]), (const float *)(A + 0xc800));
            }
        }
        else if (unit < 29) {
            if (!gn_failed(net)) {
                s60(net, unit - 27, (float *)(H[2]), (const float *)(A + 0xf800));
            }
        }
        else {
            s_end(net, unit - 29);
        }
        if (unit + gridDim.x < 30)
            __syncthreads();
    }
    if (gn_last(net.barrier)) {
        s40(net, 0, gn_shared, (float *)(A + 0x10800), (const float *)(A + 0x10700));
        __syncthreads();
        s43(net, 0, gn_shared, (float *)(A + 0x11c0), (const float *)(A + 0x0));
        __syncthreads();
        s46(net, 0, gn_shared, (float *)(A + 0x1200), (const float *)(A + 0x1000),
            (const float *)(A + 0x23480), (const float *)(A + 0x234c0), (const float *)(A + 0x1f000),
            (const float *)(A + 0x10800), (const float *)(A + 0x11c0), (const double *)(H[15]));
        __syncthreads();
        s51(net, 0, (float *)(A + 0x11c0), (const double *)(H[13]));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) step_58(const __grid_constant__ struct net net)
{
    char *const A = net.A;
    for (int unit = blockIdx.x; unit < 12; unit += gridDim.x) {
        if (!gn_failed(net)) {
            s58(net, unit, (const float *)(A + 0x23440), (const float *)(A + 0x1200),
                (const float *)(A + 0x1240), (const float *)(A + 0x1280), (const float *)(A + 0x11c0),
                (const float *)(A + 0x23400), (const float *)(A + 0x12c0), (const float *)(A + 0x233c0));
        }
    }
}
