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

from graphnet.kernels.c.view import CTYPES, ITEMSIZE

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
#define GN_ONCE static __attribute__((noinline, noclone, unused))
#endif
/* Keeps a loaded vector in its register, where gcc would rather load it again for each use. */
#if defined(__GNUC__) && !defined(__clang__) && defined(GUARD)
#define GN_KEEP(x) __asm__("" : "+CLASS"(x))
#else
#define GN_KEEP(x) (void)0
#endif
"""


def _times(factor: int | str, stride: Stride) -> str:
    """The C expression factor * stride, folded where both are numbers."""
    if isinstance(factor, int) and isinstance(stride, int):
        return str(factor * stride)
    if factor == 0 or stride == 0:
        return "0"
    if 1 in (factor, stride):
        return str(stride if factor == 1 else factor)
    return f"{factor} * {stride}" + ("L" if isinstance(stride, int) else "")


def _sum(first: str, second: int) -> str:
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
    extra = "".join(f", long {s}" for s in dict.fromkeys((ai, ak, bk, ti)) if isinstance(s, str))
    v = vector.upper()
    at = [[f"{v}(t + {_sum(_times(i, ti), j * width)})" for j in range(nv)] for i in range(mr)]
    zero = [", ".join(f"c{i}_{j} = {{0}}" for j in range(nv)) for i in range(mr)]
    load = [" ".join(f"c{i}_{j} = {at[i][j]};" for j in range(nv)) for i in range(mr)]
    step = [f"s = x[{_times(i, ai)}]; " + " ".join(f"c{i}_{j} += s * b{j};" for j in range(nv)) for i in range(mr)]
    store = [" ".join(f"{at[i][j]} = c{i}_{j};" for j in range(nv)) for i in range(mr)]
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
        f"        const {ctype} *x = a + {_times('k', ak)}, *y = b + {_times('k', bk)};",
        f"        {vector} " + ", ".join(f"b{j} = {v}(y + {j * width})" for j in range(nv)) + ";",
        *([" ".join(f"GN_KEEP(b{j});" for j in range(nv))] if mr <= 4 else []),
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


CHAINS = 8
"""Interleaved sums of ``sums``: enough to hide the latency of a multiply-add."""


def sums_name(nv: int, dtype: str) -> str:
    """The function that ``sums(nv, dtype)`` defines."""
    return f"gn_sums_{nv}_{CTYPES[dtype]}"


def sums_widths(isa: str | None = None) -> list[int]:
    """The nv for which the accumulators of ``sums`` fit in registers."""
    return [nv for nv in (1, 2, 3) if CHAINS * nv + 2 <= ISAS[isa or target()].registers]


def sums(nv: int, dtype: str, isa: str | None = None) -> str:
    """Text of a function for vector times matrix, where the results lie side by side; needs ``vectors()``.

    ``NAME(long K, long safe, const T *v, long vs, const T *g, long gk, const T *tail, T *t)`` computes
    t[j] = sum over k < K of v[k*vs] * g[k*gk + j] for j < nv * lanes(dtype) in eight interleaved sums over k.
    Rows from ``safe`` on are read from ``tail``, one after another in full vectors, instead of from g.
    """
    ctype, vector, width = CTYPES[dtype], vector_type(dtype), lanes(dtype, isa)
    v, every = vector.upper(), range(nv)

    def add(chain: int, row: str) -> str:
        return " ".join(f"c{chain}_{j} += s * {v}(y + {_sum(row, j * width)});" for j in every)

    lines = [
        f"GN_CONTRACT GN_ONCE void {sums_name(nv, dtype)}(long K, long safe, const {ctype} *restrict v, long vs,",
        f"    const {ctype} *restrict g, long gk, const {ctype} *restrict tail, {ctype} *restrict t)",
        "{",
        "    GN_CONTRACTED",
        *(f"    {vector} " + ", ".join(f"c{c}_{j} = {{0}}" for j in every) + ";" for c in range(CHAINS)),
        "    long k = 0;",
        f"    for (; k + {CHAINS} <= safe; k += {CHAINS}) {{",
        f"        const {ctype} *x = v + k * vs, *y = g + k * gk;",
        f"        {ctype} s;",
        *(f"        s = x[{_times(c, 'vs')}]; {add(c, _times(c, 'gk'))}" for c in range(CHAINS)),
        "    }",
        "    for (; k < K; ++k) {",
        f"        const {ctype} *y = k < safe ? g + k * gk : tail + (k - safe) * {nv * width};",
        f"        const {ctype} s = v[k * vs];",
        f"        {add(0, '0')}",
        "    }",
        *(f"    {v}(t + {j * width}) = {_tree([f'c{c}_{j}' for c in range(CHAINS)])};" for j in every),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _tree(terms: Sequence[str]) -> str:
    """The terms summed by halves."""
    half = len(terms) // 2
    return terms[0] if not half else f"({_tree(terms[:half])} + {_tree(terms[half:])})"


def dot_lanes(dtype: str) -> int:
    """Partial sums of a dot product, the same for every instruction set."""
    return 64 // ITEMSIZE[dtype]


def dot_types(dtype: str) -> str:
    """Helper text: vectors of 64 bytes, lane masks for them and the sum of their lanes, by halves."""
    ctype, item = CTYPES[dtype], ITEMSIZE[dtype]
    lane_sum = "(s[0] + s[2]) + (s[1] + s[3])" if item == 4 else "s[0] + s[1]"
    return f"""\
typedef {ctype} gn_w{ctype} __attribute__((vector_size(64), aligned({item}), may_alias));
typedef {ctype} gn_q{ctype} __attribute__((vector_size(16), aligned({item}), may_alias));
typedef int{8 * item}_t gn_m{ctype} __attribute__((vector_size(64)));

static inline {ctype} gn_lanes_{ctype}(const gn_w{ctype} *p)
{{
    const gn_q{ctype} *q = (const gn_q{ctype} *)p;
    const gn_q{ctype} s = (q[0] + q[2]) + (q[1] + q[3]);
    return {lane_sum};
}}
"""


def dots_name(rows: int, dtype: str) -> str:
    """The function that ``dots(rows, dtype)`` defines."""
    return f"gn_dots_{rows}_{CTYPES[dtype]}"


def dots(rows: int, dtype: str) -> str:
    """Text of a function for matrix times vector, where each row lies in one piece; needs ``dot_types(dtype)``.

    ``NAME(long K, const T *g, long gn, const T *v, T *t)`` computes t[r] = sum over k < K of g[r*gn + k] * v[k]
    for r < rows, K at least dot_lanes(dtype), in 64 bytes of partial sums whatever the instruction set.
    """
    ctype, count = CTYPES[dtype], dot_lanes(dtype)
    wide, ints = f"gn_w{ctype}", f"gn_m{ctype}"
    load = f"*(const {wide} *)"
    at = ["g + ", *(f"g + {_times(r, 'gn')} + " for r in range(1, rows))]
    lines = [
        f"GN_CONTRACT GN_ONCE void {dots_name(rows, dtype)}(long K, const {ctype} *restrict g, long gn,",
        f"    const {ctype} *restrict v, {ctype} *restrict t)",
        "{",
        "    GN_CONTRACTED",
        f"    {wide} " + ", ".join(f"c{r} = {{0}}" for r in range(rows)) + ";",
        "    long k = 0;",
        f"    for (; k + {count} <= K; k += {count}) {{",
        f"        const {wide} x = {load}(v + k);",
        *(f"        c{r} += x * {load}({at[r]}k);" for r in range(rows)),
        "    }",
        "    /* the last vector reaches back; lanes that are done are cleared */",
        f"    const {ints} lane = {{{', '.join(map(str, range(count)))}}};",
        f"    const {ints} keep = lane >= ({ints}){{0}} + ({'int' if ctype == 'float' else 'long long'})"
        f"({count} - (K - k));",
        f"    const {wide} x = ({wide})(({ints}){load}(v + K - {count}) & keep);",
        *(f"    c{r} += x * ({wide})(({ints}){load}({at[r]}K - {count}) & keep);" for r in range(rows)),
        *(f"    t[{r}] = gn_lanes_{ctype}(&c{r});" for r in range(rows)),
        "}",
    ]
    return "\n".join(lines) + "\n"
