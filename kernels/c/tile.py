"""Register tiles: the innermost loops of matrix products and convolutions, and the vectors they are made of.

The text is generated for an instruction set, which decides the vector length and how many accumulators fit in
registers. It is plain C with vector extensions, so it compiles and gives the same results everywhere, only slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache

from graphnet.kernels.text.view import CTYPES, ITEMSIZE

Stride = int | str
"""Elements between neighbours along an axis: a number, or the name of a ``long`` parameter of the function."""


@dataclass(frozen=True, slots=True)
class Isa:
    """A vector unit: bytes in a vector, vector registers, multiply-adds and loads a cycle, cycles of latency."""

    vector: int
    registers: int
    fmas: float = 2.0
    loads: float = 2.0
    latency: int = 4


ISAS = {
    "avx512": Isa(64, 32),
    "avx2": Isa(32, 16),
    "neon": Isa(16, 32),
    "generic": Isa(16, 16),
}

_target: ContextVar[str] = ContextVar("isa", default="avx512")


def target() -> str:
    """The instruction set that text is generated for now: a key of ISAS."""
    return _target.get()


@contextmanager
def targeting(isa: str) -> Iterator[None]:
    """Generate for ``isa`` inside the with block; KeyError if it is not a key of ISAS."""
    ISAS[isa]
    token = _target.set(isa)
    try:
        yield
    finally:
        _target.reset(token)


def lanes(dtype: str, isa: str | None = None) -> int:
    """Elements of a float dtype in a vector."""
    return ISAS[isa or target()].vector // ITEMSIZE[dtype]


def vector_type(dtype: str) -> str:
    """The C name of the vector of a float dtype, defined by ``vectors()``."""
    return f"gn_v{CTYPES[dtype]}"


def vectors(isa: str | None = None) -> str:
    """Helper text with the vector types: they may lie at any element and alias arrays of their element type."""
    size = ISAS[isa or target()].vector
    keep = {64: ("__AVX512F__", "v"), 32: ("__AVX__", "x"), 16: ("__SSE2__", "x")}[size]
    if (isa or target()) == "neon":
        keep = ("__aarch64__", "w")
    return MACROS.replace("GUARD", keep[0]).replace("CLASS", keep[1]) + "".join(
        f"typedef {c} {v}\n    __attribute__((vector_size({size}), aligned({item}), may_alias));\n"
        f"#define {v.upper()}(p) (*({v} *)(p))\n"
        for c, v, item in ((CTYPES[d], vector_type(d), ITEMSIZE[d]) for d in ("float32", "float64"))
    )


MACROS = """\
/* One copy, called: else gcc makes one for every set of arguments, which costs compile time. */
#if defined(__clang__)
#define GN_ONCE static __attribute__((noinline, unused))
#else
#define GN_ONCE static __attribute__((noipa, unused))
#endif
/* Keeps a vector in its register: what it holds cannot be loaded again, or foreseen. */
#if defined(__GNUC__) && !defined(__clang__) && defined(GUARD)
#define GN_KEEP(x) __asm__("" : "+CLASS"(x))
#else
#define GN_KEEP(x) (void)0
#endif
"""


def times(factor: int | str, stride: Stride) -> str:
    """The C expression factor * stride, folded where both are numbers."""
    if isinstance(factor, int) and isinstance(stride, int):
        return str(factor * stride)
    if factor == 0 or stride == 0:
        return "0"
    if 1 in (factor, stride):
        return str(stride if factor == 1 else factor)
    return f"{factor} * {stride}" + ("L" if isinstance(stride, int) else "")


def plus(first: str, second: int) -> str:
    """The C expression first + second."""
    if not second:
        return first
    return str(int(first) + second) if first.isdigit() else f"{first} + {second}"


def micro(
    name: str,
    mr: int,
    nv: int,
    dtype: str,
    ai: Stride,
    ak: Stride,
    bk: Stride,
    ti: Stride,
    isa: str | None = None,
) -> str:
    """Text of a function that multiplies mr rows of a by nv vectors of columns of b, held in registers.

    ``NAME(long K, const T *a, const T *b, T *t, int add)`` computes, for i < mr and j < nv * lanes(dtype),
    t[i*ti + j] = (add ? t[i*ti + j] : 0) + sum over k < K of a[i*ai + k*ak] * b[k*bk + j].
    No pointer needs more alignment than its element, t overlaps neither a nor b. Every element is one chain of
    multiply-adds in the order of k, so neither the shape of the tile nor cutting K in pieces changes a bit.
    Strides given as names become ``long`` parameters after ``add``, in the order ai, ak, bk, ti (each once).
    Needs ``vectors()`` before it. With 8 x 3 vectors of AVX-512 it runs at the peak of the machine.
    """
    ctype, vector, width = CTYPES[dtype], vector_type(dtype), lanes(dtype, isa)
    used = (ak, bk) if mr == 1 else (ai, ak, bk, ti)
    named = [s for s in dict.fromkeys((ai, ak, bk, ti)) if isinstance(s, str)]
    extra = "".join(f", long {s}" + ("" if s in used else " __attribute__((unused))") for s in named)
    v = vector.upper()
    at = [[f"{v}(t + {plus(times(i, ti), j * width)})" for j in range(nv)] for i in range(mr)]
    zero = [", ".join(f"c{i}_{j} = {{0}}" for j in range(nv)) for i in range(mr)]
    load = [" ".join(f"c{i}_{j} = {at[i][j]};" for j in range(nv)) for i in range(mr)]
    step = [f"s = x[{times(i, ai)}]; " + " ".join(f"c{i}_{j} += s * b{j};" for j in range(nv)) for i in range(mr)]
    store = [" ".join(f"{at[i][j]} = c{i}_{j};" for j in range(nv)) for i in range(mr)]
    # kept: loaded once for few rows; a lone sum, which gcc would rather multiply and add apart in a loop
    kept = ["c0_0"] if mr * nv == 1 else [f"b{j}" for j in range(nv)] if mr <= 4 else []
    lines = [
        f"GN_CONTRACT GN_ONCE void {name}(long K, const {ctype} *restrict a,",
        f"    const {ctype} *restrict b, {ctype} *restrict t, int add{extra})",
        "{",
        "    GN_CONTRACTED",
        *(f"    {vector} {row};" for row in zero),
        "    if (add) {",
        *(f"        {row}" for row in load),
        "    }",
        "    for (long k = 0; k < K; ++k) {",
        f"        const {ctype} *x = a + {times('k', ak)}, *y = b + {times('k', bk)};",
        f"        {vector} " + ", ".join(f"b{j} = {v}(y + {j * width})" for j in range(nv)) + ";",
        *(["        " + " ".join(f"GN_KEEP({x});" for x in kept)] if kept else []),
        f"        {ctype} s;",
        *(f"        {row}" for row in step),
        "    }",
        *(f"    {row}" for row in store),
        "}",
    ]
    return "\n".join(lines) + "\n"


def tile_cycles(mr: int, nv: int, isa: str | None = None) -> float:
    """Estimated cycles of one step of k of a tile: bound by multiply-adds, by loads or by latency."""
    unit = ISAS[isa or target()]
    return max(mr * nv / unit.fmas, (mr + nv) / unit.loads, unit.latency) + 0.25


def tiles(isa: str | None = None) -> list[tuple[int, int]]:
    """Every (mr, nv) whose accumulators, row of b and element of a fit in registers."""
    registers = ISAS[isa or target()].registers
    return [(mr, nv) for nv in range(1, 8) for mr in range(1, 29) if mr * nv + nv + 1 <= registers]


@lru_cache(maxsize=8)
def by_size(isa: str) -> tuple[tuple[int, int], ...]:
    """The tiles of an instruction set, those with most accumulators first."""
    return tuple(sorted(tiles(isa), key=lambda t: -t[0] * t[1]))


@lru_cache(maxsize=4096)
def _best(shares: tuple[int, ...], columns: int, width: int, isa: str) -> tuple[int, int]:
    total = -(-columns // width)

    def cost(tile: tuple[int, int]) -> tuple[float, float]:
        mr, nv = tile
        count = sum(-(-rows // mr) for rows in shares) * -(-total // nv)
        return count * tile_cycles(mr, nv, isa), (mr + nv) / (mr * nv)

    return min((t for t in tiles(isa) if t[1] <= max(total, 1)), key=cost)


def best_tile(m: int | Sequence[int], n: int, dtype: str = "float32", isa: str | None = None) -> tuple[int, int]:
    """The (mr, nv) that covers m rows (or each of these numbers of rows) by n columns in the fewest cycles.

    Tiles that stick out over an edge count in full, as when edges are padded.
    """
    shares = (m,) if isinstance(m, int) else tuple(m)
    return _best(shares, n, lanes(dtype, isa), isa or target())
