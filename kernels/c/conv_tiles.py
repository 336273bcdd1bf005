"""Register tiles of convolutions: sums over scattered rows, and sums along rows.

Both hold their results in registers. The first walks over a table of offsets, so that its right operand may be
the patches of an image where they lie in packed rows (see conv_rows), without a copy of each patch. The second
multiplies vectors along the pixels of both operands, so neither has to be transposed.
"""

from __future__ import annotations

from functools import lru_cache

from graphnet.kernels.c.tile import ISAS, lanes, target, vector_type
from graphnet.kernels.c.view import CTYPES, ITEMSIZE


def _counted(pattern: str, count: int, between: str = " ") -> str:
    return between.join(pattern.format(j) for j in range(count))


def patch_tile(mr: int, nv: int, dtype: str) -> tuple[str, str]:
    """Name and text of a function that adds up rows of b that lie anywhere.

    ``NAME(long K, const T *a, long ai, long ak, const T *b, const int32_t *at, T *t, long ti, int add)``:
    t[i*ti + j] = (add ? t[i*ti + j] : 0) + sum over k < K of a[i*ai + k*ak] * b[at[k] + j], for i < mr and
    j < nv * lanes. Every element is one chain of multiply-adds in the order of k. Needs ``tile.vectors()``.
    """
    ctype, vector, width = CTYPES[dtype], vector_type(dtype), lanes(dtype)
    name, v = f"gn_patches_{mr}x{nv}_{dtype}", vector.upper()
    at = [[f"{v}(t + {i} * ti + {j * width})" for j in range(nv)] for i in range(mr)]
    loads = ", ".join(f"b{j} = {v}(y + {j * width})" for j in range(nv))
    lines = [
        f"GN_CONTRACT static __attribute__((noinline)) void {name}(long K, const {ctype} *restrict a, long ai,",
        f"    long ak, const {ctype} *restrict b, const int32_t *restrict at, {ctype} *restrict t, long ti, int add)",
        "{",
        "    GN_CONTRACTED",
        *(f"    {vector} {_counted(f'c{i}_{{0}} = {{{{0}}}}', nv, ', ')};" for i in range(mr)),
        "    if (add) {",
        *("        " + " ".join(f"c{i}_{j} = {at[i][j]};" for j in range(nv)) for i in range(mr)),
        "    }",
        "    for (long k = 0; k < K; ++k, a += ak) {",
        f"        const {ctype} *y = b + at[k];",
        f"        {vector} {loads};",
        *([f"        {_counted('GN_KEEP(b{0});', nv)}"] if mr <= 4 else []),
        f"        {ctype} s;",
        *(f"        s = a[{i} * ai]; {_counted(f'c{i}_{{0}} += s * b{{0}};', nv)}" for i in range(mr)),
        "    }",
        *("    " + " ".join(f"{at[i][j]} = c{i}_{j};" for j in range(nv)) for i in range(mr)),
        "}",
    ]
    return name, "\n".join(lines) + "\n"


def _masks(half: int, width: int) -> tuple[str, str]:
    """Which lanes of two vectors are the first and the second half of their parts of 2 * half lanes."""
    lists = [[n for n in range(2 * width) if n // half % 2 == part] for part in (0, 1)]
    return ", ".join(map(str, lists[0])), ", ".join(map(str, lists[1]))


def folding(dtype: str) -> str:
    """Helper text: GN_FOLD{half}_{dtype}(a, b) halves the parts of two vectors, those of a first, by adding."""
    width, index = lanes(dtype), f"gn_lanes_{dtype}"
    half = width // 2
    text = f"""\
#if defined(__clang__)
#define GN_SHUFFLE_{dtype}(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int{8 * ITEMSIZE[dtype]}_t {index} __attribute__((vector_size({width * ITEMSIZE[dtype]})));
#define GN_SHUFFLE_{dtype}(a, b, ...) __builtin_shuffle(a, b, ({index}){{__VA_ARGS__}})
#endif
"""
    while half:
        first, second = _masks(half, width)
        text += f"#define GN_FOLD{half}_{dtype}(a, b) \\\n"
        text += f"    (GN_SHUFFLE_{dtype}(a, b, {first}) \\\n    + GN_SHUFFLE_{dtype}(a, b, {second}))\n"
        half //= 2
    return text


def _folded(names: list[str], dtype: str) -> tuple[list[str], list[str]]:
    """Statements that sum the lanes of each vector, and the vectors that hold the sums in order."""
    half, lines = lanes(dtype) // 2, []
    while half:
        pairs = [(names[n], names[min(n + 1, len(names) - 1)]) for n in range(0, len(names), 2)]
        lines += [f"{a} = GN_FOLD{half}_{dtype}({a}, {b});" for a, b in pairs]
        names = [a for a, _ in pairs]
        half //= 2
    return lines, names


def pixel_tile(mr: int, nr: int, dtype: str) -> tuple[str, str]:
    """Name and text of a function that multiplies mr rows of a by nr rows of b, element by element.

    ``NAME(long segments, long steps, long rest, const T *a, long as, long ai, const T *b, long bs, long bi, T *t)``:
    t[i*nr + j] = sum over s < segments and p < steps * lanes + rest of a[s*as + i*ai + p] * b[s*bs + j*bi + p].
    With rest, which is below lanes, a is read up to a whole vector and must hold zeros there; b is not read there.
    Lanes add up apart and are summed by halves at the end; t has room for whole vectors. Needs ``tile.vectors()``
    and ``folding()``.
    """
    ctype, vector, width = CTYPES[dtype], vector_type(dtype), lanes(dtype)
    name, v = f"gn_pixels_{mr}x{nr}_{dtype}", vector.upper()
    loads = ", ".join(f"b{j} = {v}(y + {j} * row)" for j in range(nr))
    folds, total = _folded([f"c{i}_{j}" for i in range(mr) for j in range(nr)], dtype)
    lines = [
        f"GN_CONTRACT static __attribute__((noinline)) void {name}(long segments, long steps, long rest,",
        f"    const {ctype} *a, long as, long ai, const {ctype} *b, long bs, long bi, {ctype} *t)",
        "{",
        "    GN_CONTRACTED",
        f"    GN_ALIGNED {ctype} last[{nr}][{width}] = {{{{0}}}};",
        *(f"    {vector} {_counted(f'c{i}_{{0}} = {{{{0}}}}', nr, ', ')};" for i in range(mr)),
        "    for (long s = 0; s < segments; ++s) {",
        f"        const {ctype} *x = a + s * as, *y = b + s * bs;",
        "        long row = bi;",
        "        for (long step = 0; step < steps + (rest > 0); ++step) {",
        "            if (step == steps) {",
        f"                for (int j = 0; j < {nr}; ++j)",
        "                    for (long l = 0; l < rest; ++l)",
        "                        last[j][l] = y[j * bi + l];",
        "                y = last[0];",
        f"                row = {width};",
        "            }",
        f"            {vector} {loads}, v;",
        f"            {_counted('GN_KEEP(b{0});', nr)}",
        *(
            f"            v = {v}(x + {i} * ai); GN_KEEP(v); {_counted(f'c{i}_{{0}} += v * b{{0}};', nr)}"
            for i in range(mr)
        ),
        f"            x += {width};",
        f"            y += {width};",
        "        }",
        "    }",
        *(f"    {line}" for line in folds),
        *(f"    {v}(t + {e * width}) = {vector_name};" for e, vector_name in enumerate(total)),
        "}",
    ]
    return name, "\n".join(lines) + "\n"


@lru_cache(maxsize=1024)
def _pixel_shape(m: int, n: int, isa: str) -> tuple[int, int]:
    unit = ISAS[isa]

    def cost(tile: tuple[int, int]) -> tuple[float, int]:
        mr, nr = tile
        cycles = max(mr * nr / unit.fmas, (mr + 1.5 * nr) / unit.loads, unit.latency)
        return -(-m // mr) * -(-n // nr) * (cycles + 0.5), -mr * nr

    shapes = ((mr, nr) for mr in range(1, m + 1) for nr in range(1, n + 1) if (mr + 1) * nr < unit.registers)
    return min((s for s in shapes if max(s) <= 8), key=cost)


def pixel_shape(m: int, n: int) -> tuple[int, int]:
    """The (mr, nr), neither larger than m and n, whose tiles cover m by n results in the fewest cycles."""
    return _pixel_shape(m, n, target())
