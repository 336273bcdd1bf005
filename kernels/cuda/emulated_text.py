"""What stands in front of CUDA text that is compiled as C++: CUDA's words, for threads that are fibers.

INTERFACE is shared with the runtime (runtime.py), which switches between threads; EMULATED is what the text sees.
"""

from __future__ import annotations

INTERFACE = """\
#include <stddef.h>
#include <stdint.h>

enum gn_kind { GN_SYNC, GN_OR, GN_AND, GN_COUNT, GN_SYNCWARP, GN_SHUFFLE, GN_BALLOT };
struct gn_index { unsigned x, y, z; };
/* where the running thread is, and what it asks of the runtime */
struct gn_host {
    struct gn_index thread, block, threads, blocks;
    int (*barrier)(int kind, int predicate, int line);
    uint64_t (*warp)(int kind, unsigned mask, uint64_t value, unsigned source, int line);
    void (*pause)(void);
    unsigned (*active)(void);
    char *(*shared)(const void *site, size_t bytes);
    char *(*dynamic)(void);
    void (*fault)(const char *what, int line);
};
"""

_WORDS = """\
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct gn_host *gn_host;
#define GN_VISIBLE extern "C" __attribute__((visibility("default")))
GN_VISIBLE void gn_connect(const struct gn_host *host) { gn_host = host; }

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define threadIdx (gn_host->thread)
#define blockIdx (gn_host->block)
#define blockDim (gn_host->threads)
#define gridDim (gn_host->blocks)
#define warpSize 32
#define GN_PAUSE() gn_host->pause()
#define GN_SHARED(bytes) char *const gn_shared = ({ static char site; gn_host->shared(&site, (bytes)); })
#define GN_DYNAMIC() char *const gn_dynamic = gn_host->dynamic()
#define GN_WORD inline __attribute__((always_inline))
#define GN_LINE int line = __builtin_LINE()
"""

_SYNC = """\
GN_WORD void __syncthreads(GN_LINE) { gn_host->barrier(GN_SYNC, 0, line); }
GN_WORD int __syncthreads_or(int p, GN_LINE) { return gn_host->barrier(GN_OR, p, line); }
GN_WORD int __syncthreads_and(int p, GN_LINE) { return gn_host->barrier(GN_AND, p, line); }
GN_WORD int __syncthreads_count(int p, GN_LINE) { return gn_host->barrier(GN_COUNT, p, line); }
GN_WORD void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
GN_WORD void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
GN_WORD void __nanosleep(unsigned) { gn_host->pause(); }

GN_WORD unsigned gn_lane() { return gn_host->thread.x & 31; }
GN_WORD void __syncwarp(unsigned mask = 0xffffffffu, GN_LINE) { gn_host->warp(GN_SYNCWARP, mask, 0, gn_lane(), line); }
GN_WORD unsigned __ballot_sync(unsigned mask, int p, GN_LINE)
{
    return (unsigned)gn_host->warp(GN_BALLOT, mask, p != 0, gn_lane(), line);
}
GN_WORD int __any_sync(unsigned mask, int p, GN_LINE) { return __ballot_sync(mask, p, line) != 0; }
GN_WORD int __all_sync(unsigned mask, int p, GN_LINE) { return __ballot_sync(mask, !p, line) == 0; }
GN_WORD unsigned __activemask() { return gn_host->active(); }

template <class T> inline T gn_shuffle(unsigned mask, T value, unsigned source, int line)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = gn_host->warp(GN_SHUFFLE, mask, bits, source, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <class T> inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, GN_LINE)
{
    return gn_shuffle(mask, value, (gn_lane() & ~(width - 1)) | (source & (width - 1)), line);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, GN_LINE)
{
    unsigned lane = gn_lane();
    return gn_shuffle(mask, value, (lane & (width - 1)) >= by ? lane - by : lane, line);
}
template <class T> inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, GN_LINE)
{
    unsigned lane = gn_lane();
    return gn_shuffle(mask, value, (lane & (width - 1)) + by < (unsigned)width ? lane + by : lane, line);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32, GN_LINE)
{
    unsigned lane = gn_lane(), source = lane ^ by;
    return gn_shuffle(mask, value, source <= (lane | (width - 1)) ? source : lane, line);
}
"""

_VECTORS = """\
#define GN_VECTOR2(V, T, n) \\
    struct __align__(n) V { T x, y; }; \\
    GN_WORD V make_##V(T x, T y) { return V{x, y}; }
#define GN_VECTOR3(V, T) \\
    struct V { T x, y, z; }; \\
    GN_WORD V make_##V(T x, T y, T z) { return V{x, y, z}; }
#define GN_VECTOR4(V, T, n) \\
    struct __align__(n) V { T x, y, z, w; }; \\
    GN_WORD V make_##V(T x, T y, T z, T w) { return V{x, y, z, w}; }
GN_VECTOR2(char2, signed char, 2) GN_VECTOR4(char4, signed char, 4)
GN_VECTOR2(uchar2, unsigned char, 2) GN_VECTOR4(uchar4, unsigned char, 4)
GN_VECTOR2(int2, int, 8) GN_VECTOR3(int3, int) GN_VECTOR4(int4, int, 16)
GN_VECTOR2(uint2, unsigned, 8) GN_VECTOR3(uint3, unsigned) GN_VECTOR4(uint4, unsigned, 16)
GN_VECTOR2(float2, float, 8) GN_VECTOR3(float3, float) GN_VECTOR4(float4, float, 16)
GN_VECTOR2(double2, double, 16)
GN_VECTOR2(longlong2, long long, 16) GN_VECTOR2(ulonglong2, unsigned long long, 16)

template <class T> GN_WORD T __ldg(const T *p) { return *p; }
template <class T> GN_WORD T __ldca(const T *p) { return *p; }
template <class T> GN_WORD T __ldcg(const T *p) { return *p; }
template <class T> GN_WORD T __ldcs(const T *p) { return *p; }
template <class T> GN_WORD T __ldcv(const T *p) { return *(const volatile T *)p; }
template <class T> struct gn_same { typedef T type; };
template <class T> GN_WORD void __stcg(T *p, typename gn_same<T>::type v) { *p = v; }
template <class T> GN_WORD void __stcs(T *p, typename gn_same<T>::type v) { *p = v; }
template <class T> GN_WORD void __stwt(T *p, typename gn_same<T>::type v) { *p = v; }
"""

_ATOMICS = """\
/* as CUDA has them, with long beside long long, as int64_t may be either; none for floats, whose sums have an order */
#define GN_ATOMIC(T, name, change) \\
    inline T name(T *p, T v) { T old = __atomic_load_n(p, __ATOMIC_SEQ_CST); *(volatile T *)p = change; return old; }
#define GN_ATOMICS(T) \\
    GN_ATOMIC(T, atomicMax, (old > v ? old : v)) GN_ATOMIC(T, atomicMin, (old < v ? old : v)) \\
    GN_ATOMIC(T, atomicAnd, (old & v)) GN_ATOMIC(T, atomicOr, (old | v)) GN_ATOMIC(T, atomicXor, (old ^ v))
#define GN_ATOMICS_ADD(T) \\
    GN_ATOMIC(T, atomicAdd, (old + v)) GN_ATOMIC(T, atomicExch, v) \\
    inline T atomicCAS(T *p, T expected, T v) \\
    { \\
        T old = __atomic_load_n(p, __ATOMIC_SEQ_CST); \\
        if (old == expected) \\
            *(volatile T *)p = v; \\
        return old; \\
    }
GN_ATOMICS(int) GN_ATOMICS(unsigned) GN_ATOMICS(long) GN_ATOMICS(unsigned long)
GN_ATOMICS(long long) GN_ATOMICS(unsigned long long)
GN_ATOMICS_ADD(int) GN_ATOMICS_ADD(unsigned) GN_ATOMICS_ADD(unsigned long) GN_ATOMICS_ADD(unsigned long long)
GN_ATOMIC(int, atomicSub, (old - v)) GN_ATOMIC(unsigned, atomicSub, (old - v))
"""

_MATHS = """\
template <class To, class From> GN_WORD To gn_bits_as(From from)
{
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
GN_WORD float __int_as_float(int x) { return gn_bits_as<float>(x); }
GN_WORD int __float_as_int(float x) { return gn_bits_as<int>(x); }
GN_WORD float __uint_as_float(unsigned x) { return gn_bits_as<float>(x); }
GN_WORD unsigned __float_as_uint(float x) { return gn_bits_as<unsigned>(x); }
GN_WORD long long __double_as_longlong(double x) { return gn_bits_as<long long>(x); }
GN_WORD double __longlong_as_double(long long x) { return gn_bits_as<double>(x); }
GN_WORD int __popc(unsigned x) { return __builtin_popcount(x); }
GN_WORD int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
GN_WORD int __ffs(int x) { return __builtin_ffs(x); }
GN_WORD int __ffsll(long long x) { return __builtin_ffsll(x); }
GN_WORD int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
GN_WORD int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
GN_WORD unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
GN_WORD unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
GN_WORD float __fadd_rn(float a, float b) { return a + b; }
GN_WORD float __fsub_rn(float a, float b) { return a - b; }
GN_WORD float __fmul_rn(float a, float b) { return a * b; }
GN_WORD float __fdiv_rn(float a, float b) { return a / b; }
GN_WORD float __fsqrt_rn(float a) { return sqrtf(a); }
GN_WORD float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
GN_WORD double __dadd_rn(double a, double b) { return a + b; }
GN_WORD double __dmul_rn(double a, double b) { return a * b; }
GN_WORD double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
GN_WORD int __float2int_rn(float x) { return (int)__builtin_rintf(x); }
GN_WORD int __float2int_rz(float x) { return (int)x; }
GN_WORD float rsqrtf(float x) { return 1.0f / sqrtf(x); }
GN_WORD double rsqrt(double x) { return 1.0 / sqrt(x); }

#define GN_EXTREMES(T) \\
    GN_WORD T min(T a, T b) { return a < b ? a : b; } \\
    GN_WORD T max(T a, T b) { return a > b ? a : b; }
GN_EXTREMES(int) GN_EXTREMES(unsigned) GN_EXTREMES(long) GN_EXTREMES(unsigned long)
GN_EXTREMES(long long) GN_EXTREMES(unsigned long long)
GN_WORD unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
GN_WORD unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
GN_WORD unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
GN_WORD unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
GN_WORD float min(float a, float b) { return fminf(a, b); }
GN_WORD float max(float a, float b) { return fmaxf(a, b); }
GN_WORD double min(double a, double b) { return fmin(a, b); }
GN_WORD double max(double a, double b) { return fmax(a, b); }
GN_WORD long abs(long x) { return labs(x); }
GN_WORD long long abs(long long x) { return llabs(x); }
GN_WORD float abs(float x) { return fabsf(x); }
GN_WORD double abs(double x) { return fabs(x); }
#define GN_OF1(name) GN_WORD float name(float x) { return name##f(x); }
#define GN_OF2(name) GN_WORD float name(float x, float y) { return name##f(x, y); }
GN_OF1(acos) GN_OF1(acosh) GN_OF1(asin) GN_OF1(asinh) GN_OF1(atan) GN_OF1(atanh) GN_OF1(cbrt) GN_OF1(ceil)
GN_OF1(cos) GN_OF1(cosh) GN_OF1(erf) GN_OF1(erfc) GN_OF1(exp) GN_OF1(exp2) GN_OF1(expm1) GN_OF1(fabs)
GN_OF1(floor) GN_OF1(log) GN_OF1(log10) GN_OF1(log1p) GN_OF1(log2) GN_OF1(rint) GN_OF1(round) GN_OF1(sin)
GN_OF1(sinh) GN_OF1(sqrt) GN_OF1(tan) GN_OF1(tanh) GN_OF1(trunc)
GN_OF2(atan2) GN_OF2(copysign) GN_OF2(fmax) GN_OF2(fmin) GN_OF2(fmod) GN_OF2(hypot) GN_OF2(pow)
GN_WORD float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
"""

_CALLS = """\
/* how the runtime calls a kernel: with a pointer to each argument, as cudaLaunchKernel does */
template <int N, int... I> struct gn_numbers : gn_numbers<N - 1, N - 1, I...> {};
template <int... I> struct gn_numbers<0, I...> {};
template <class... A> struct gn_kernel {
    template <int... I> static void call(void (*f)(A...), const void *const *p, gn_numbers<0, I...>)
    {
        (void)p;
        f(*(const A *)p[I]...);
    }
    static const int *sizes()
    {
        static const int bytes[] = {(int)sizeof...(A), (int)sizeof(A)...};
        return bytes;
    }
};
template <class... A> inline void gn_call(void (*f)(A...), const void *const *p)
{
    gn_kernel<A...>::call(f, p, gn_numbers<sizeof...(A)>());
}
template <class... A> inline const int *gn_sizes(void (*)(A...)) { return gn_kernel<A...>::sizes(); }
#define GN_KERNEL(name) \\
    GN_VISIBLE void gn_call_##name(const void *const *p) { gn_call(name, p); } \\
    GN_VISIBLE const int *gn_sizes_##name(void) { return gn_sizes(name); }
"""

_CHECKS = """\
/* what the compiler's checks call, if they are on: see CHECKS in emulator.py */
struct gn_place { const char *file; uint32_t line, column; };
#ifdef __ELF__ /* ours, whatever else is loaded */
#define GN_OURS(name) __asm__(".hidden __ubsan_handle_" #name "_abort");
#else
#define GN_OURS(name)
#endif
#define GN_CHECK(name, what, ...) \\
    GN_OURS(name) \\
    extern "C" __attribute__((noreturn, used)) void __ubsan_handle_##name##_abort(void *place, __VA_ARGS__) \\
    { \\
        gn_host->fault(what, (int)((const struct gn_place *)place)->line); \\
        __builtin_unreachable(); \\
    }
GN_CHECK(type_mismatch_v1, "uses an address that is 0 or not a multiple of the type's alignment", void *)
GN_CHECK(out_of_bounds, "uses an index outside of an array", void *)
GN_CHECK(divrem_overflow, "divides by zero", void *, void *)
"""

EMULATED = "\n".join([INTERFACE, _WORDS, _SYNC, _VECTORS, _ATOMICS, _MATHS, _CALLS, _CHECKS])
