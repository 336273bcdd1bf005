"""What stands at the top of every generated file."""

from __future__ import annotations

FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
"""Compiler options of generated code; contraction is allowed only where GN_CONTRACT stands."""

GCC_FLAGS = ("-fno-ivopts",)
"""For gcc alone, whose choice of induction variables (seen in gcc 12.2 at -O1 and above) can write an address as a
number and a distance from another array: the store then seems to touch no memory, and a step that does nothing but such
stores is left out of the net."""

HEADER = """\
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
"""
