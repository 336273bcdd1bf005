"""What stands at the top of every generated CUDA file."""

from __future__ import annotations

FLAGS = ("--std=c++17", "--fmad=false")
"""Options of NVRTC and nvcc: products and sums contract only where the text says fmaf, as on the CPU."""

HEADER = """\
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
"""
