"""Products that are not worth register tiles: plain loops, a matrix times a vector, few long dot products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphnet.kernels.c import gemm_pack
from graphnet.kernels.c.gemm_pack import block, steps
from graphnet.kernels.c.gemm_plan import GIGAHERTZ
from graphnet.kernels.c.gemm_tiles import Product, Split
from graphnet.kernels.c.tile import ISAS, lanes, plus, target, times, vector_type, vectors
from graphnet.kernels.text.view import CTYPES, ITEMSIZE, Epilogue


@dataclass(frozen=True, slots=True)
class Plain:
    """Loops, for few multiplications, for k = 1 and, with sums of nothing, for k = 0."""

    product: Product
    split: Split
    note = "plain loops"
    scratch = 0
    helpers: tuple[str, ...] = ()

    @property
    def cost(self) -> float:
        p = self.product
        return p.m * p.n * (1 + p.k) * 0.12

    def lines(self, bounds: tuple[str, str], epilogue: Epilogue | None, scratch: str) -> list[str]:
        p = self.product
        heads = []
        for index, axis, size in (("i", "m", p.m), ("j", "n", p.n)):
            lo, hi = bounds if axis == self.split.axis else ("0", str(size))
            heads.append(f"for (long {index} = {lo}; {index} < {hi}; ++{index})")
        if p.k <= 1:
            value = f"{p.left.element('i', '0')} * {p.right.element('0', 'j')}" if p.k else "0"
            outer, inner = heads[::-1] if p.out.down == 1 and p.n > 1 else heads
            return block(outer, block(inner, store(p, epilogue, f"({value})")))
        total = [
            f"{CTYPES[p.dtype]} sum = 0;",
            f"for (long k = 0; k < {p.k}; ++k)",
            f"    sum += {p.left.element('i', 'k')} * {p.right.element('k', 'j')};",
        ]
        return block(heads[0], block(heads[1], total + store(p, epilogue, "sum")))


def store(p: Product, epilogue: Epilogue | None, value: str) -> list[str]:
    """What is done with an element that is finished."""
    return epilogue(("i", "j"), value).splitlines() if epilogue else [f"{p.out.element('i', 'j')} = {value};"]


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
    Rows from ``safe`` on, K or a multiple of eight, are read from ``tail``, one after another in full vectors.
    """
    ctype, vector, width = CTYPES[dtype], vector_type(dtype), lanes(dtype, isa)
    v, every = vector.upper(), range(nv)

    def add(chain: int, row: str) -> str:
        return " ".join(f"c{chain}_{j} += s * {v}(y + {plus(row, j * width)});" for j in every)

    lines = [
        f"GN_CONTRACT GN_ONCE void {sums_name(nv, dtype)}(long K, long safe, const {ctype} *restrict v, long vs,",
        f"    const {ctype} *restrict g, long gk, const {ctype} *restrict tail, {ctype} *restrict t)",
        "{",
        "    GN_CONTRACTED",
        *(f"    {vector} " + ", ".join(f"c{c}_{j} = {{0}}" for j in every) + ";" for c in range(CHAINS)),
        "    long k = 0;",
        f"    for (; k + {CHAINS} <= K; k += {CHAINS}) {{",
        f"        const {ctype} *x = v + k * vs, *y = k < safe ? g + k * gk : tail + (k - safe) * {nv * width};",
        f"        const long row = k < safe ? gk : {nv * width};",
        f"        {ctype} s;",
        *(f"        s = x[{times(c, 'vs')}]; {add(c, times(c, 'row'))}" for c in range(CHAINS)),
        "    }",
        # not a loop: where a loop has one chain of sums, gcc may multiply and add apart
        f"    const {ctype} *y = k < safe ? g + k * gk : tail + (k - safe) * {nv * width};",
        f"    const long row = k < safe ? gk : {nv * width};",
        f"    {ctype} s;",
        *(f"    if (k + {c} < K) {{ s = v[(k + {c}) * vs]; {add(c, times(c, 'row'))} }}" for c in range(CHAINS - 1)),
        *(f"    {v}(t + {j * width}) = {_tree([f'c{c}_{j}' for c in range(CHAINS)])};" for j in every),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _tree(terms: Sequence[str]) -> str:
    """The terms summed by halves."""
    half = len(terms) // 2
    return terms[0] if not half else f"({_tree(terms[:half])} + {_tree(terms[half:])})"


def dot_lanes(dtype: str, k: int) -> int:
    """Partial sums of a dot product of length k, the same for every instruction set: 64 bytes of them, or 16."""
    lanes_64 = 64 // ITEMSIZE[dtype]
    return lanes_64 if k >= lanes_64 else 16 // ITEMSIZE[dtype]


def dot_types(dtype: str, count: int) -> str:
    """Helper text: the vector of ``count`` partial sums, 64 bytes or 16, its lane mask and the sum of its lanes."""
    ctype, item = CTYPES[dtype], ITEMSIZE[dtype]
    short = 16 // item
    lines = [
        f"typedef {ctype} gn_{n}_{ctype} __attribute__((vector_size({n * item}), aligned({item}), may_alias));"
        for n in dict.fromkeys((short, count))
    ]
    quarters = "q[0]" if count == short else "(q[0] + q[2]) + (q[1] + q[3])"
    return "\n".join(
        [
            *lines,
            f"typedef int{8 * item}_t gn_lanes_{count}_{ctype} __attribute__((vector_size({count * item})));",
            f"GN_INLINE {ctype} gn_sum_{count}_{ctype}(const gn_{count}_{ctype} *p)",
            "{",
            f"    const gn_{short}_{ctype} *q = (const gn_{short}_{ctype} *)p, s = {quarters};",
            f"    return {'(s[0] + s[2]) + (s[1] + s[3])' if short == 4 else 's[0] + s[1]'};",
            "}\n",
        ]
    )


def dots_name(rows: int, columns: int, count: int, dtype: str) -> str:
    """The function that ``dots(rows, columns, count, dtype)`` defines."""
    return f"gn_dots_{rows}x{columns}x{count}_{CTYPES[dtype]}"


def dots(rows: int, columns: int, count: int, dtype: str) -> str:
    """Text of a function for the dot products of rows of g with rows of v.

    ``NAME(long K, const T *g, long gn, const T *v, long vn, T *t)`` computes, for r < rows and c < columns,
    t[r * columns + c] = sum over k < K of g[r*gn + k] * v[c*vn + k]. ``count`` is dot_lanes(dtype, K). Needs
    ``dot_types(dtype, count)``.
    """
    ctype = CTYPES[dtype]
    wide, ints = f"gn_{count}_{ctype}", f"gn_lanes_{count}_{ctype}"
    left = [f"g + {times(r, 'gn')} + " if r else "g + " for r in range(rows)]
    right = [f"v + {times(c, 'vn')} + " if c else "v + " for c in range(columns)]

    def step(k: str, read: str) -> list[str]:
        lines = [f"const {wide} y{c} = {read.format(right[c] + k)};" for c in range(columns)]
        for r in range(rows):
            adds = " ".join(f"c{r}_{c} += x * y{c};" for c in range(columns))
            lines.append(f"x = {read.format(left[r] + k)}; {adds}")
        return lines

    load = f"*(const {wide} *)({{}})"
    unused = [" __attribute__((unused))" if size == 1 else "" for size in (rows, columns)]
    lines = [
        f"GN_CONTRACT GN_ONCE void {dots_name(rows, columns, count, dtype)}(long K, const {ctype} *restrict g,",
        f"    long gn{unused[0]}, const {ctype} *restrict v, long vn{unused[1]}, {ctype} *restrict t)",
        "{",
        "    GN_CONTRACTED",
        *(f"    {wide} " + ", ".join(f"c{r}_{c} = {{0}}" for c in range(columns)) + ";" for r in range(rows)),
        f"    {wide} x;",
        "    long k = 0;",
        f"    for (; k + {count} <= K; k += {count}) {{",
        *(f"        {line}" for line in step("k", load)),
        "    }",
        "    if (k < K) { /* the last vector reaches back; lanes that are done are cleared */",
        f"        const {ints} lane = {{{', '.join(map(str, range(count)))}}};",
        f"        const {ints} keep = lane >= ({ints}){{0}} + (int{8 * ITEMSIZE[dtype]}_t)({count} - (K - k));",
        *(f"        {line}" for line in step(f"K - {count}", f"({wide})(({ints}){load} & keep)")),
        "    }",
        *(
            f"    t[{r * columns + c}] = gn_sum_{count}_{ctype}(&c{r}_{c});"
            for r in range(rows)
            for c in range(columns)
        ),
        "}",
    ]
    return "\n".join(lines) + "\n"


def dot_tile(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of dot products to compute at a time, for so many in all."""
    unit = ISAS[target()]
    parts = 64 // unit.vector

    def cost(shape: tuple[int, int]) -> tuple[float, int]:
        r, c = shape
        step = max(r * c / unit.fmas, (r + c) / unit.loads, unit.latency / parts)
        return -(-rows // r) * -(-columns // c) * (step + 0.5), -r

    fitting = [
        (r, c)
        for r in range(1, min(rows, 8) + 1)
        for c in range(1, min(columns, 8) + 1)
        if parts * (r * c + c + 1) <= max(unit.registers - 1, 3 * parts)
    ]
    return min(fitting, key=cost)


@dataclass(frozen=True, slots=True)
class Dots:
    """Dot products of rows of left with columns of right, each in one piece; right is copied where it is not."""

    product: Product
    turned: bool
    split: Split
    rows: int
    columns: int

    @property
    def note(self) -> str:
        return f"dot products, {self.rows} x {self.columns} at a time"

    @property
    def cost(self) -> float:
        p = self.product
        cycles = p.m * p.n * (p.k / self.count * (0.6 if self.rows * self.columns > 8 else 1.0) + 3)
        return (cycles + self.copies * p.k * p.n) / GIGAHERTZ

    @property
    def count(self) -> int:
        return dot_lanes(self.product.dtype, self.product.k)

    @property
    def copies(self) -> bool:
        return self.product.right.down != 1

    @property
    def scratch(self) -> int:
        """A copy of right for each thread."""
        p = self.product
        return p.k * p.n * ITEMSIZE[p.dtype] * self.split.threads * self.copies

    @property
    def helpers(self) -> tuple[str, ...]:
        dtype = self.product.dtype
        found = (vectors(), dot_types(dtype, self.count), dots(self.rows, self.columns, self.count, dtype))
        turns = self.copies and self.product.n > 1 and self.product.right.across == 1
        return (*found, gemm_pack.transpose(dtype)) if turns else found

    def lines(self, bounds: tuple[str, str], epilogue: Epilogue | None, scratch: str) -> list[str]:
        p, ctype = self.product, CTYPES[self.product.dtype]
        r, c = ("j", "i") if self.turned else ("i", "j")
        axis = self.split.axis if not self.turned else {"m": "n", "n": "m", "": ""}[self.split.axis]
        lines = [f"{ctype} part[{self.rows * self.columns}];"]
        columns, apart = p.right.pointer("0", "start"), p.right.across
        if self.copies:
            lines += self._copy(scratch)
            columns, apart = f"copy + start * {p.k}", p.k
        name = dots_name(self.rows, self.columns, self.count, p.dtype)
        call = f"{name}({p.k}, {p.left.pointer('top', '0')}, {p.left.down}, {columns}, {apart}, part);"
        value = f"part[({r} - top) * {self.columns} + {c} - start]"
        last = store(p.turned if self.turned else p, epilogue, value)
        each = block(f"for (long {c} = column; {c} < stop; ++{c})", last)
        inner = [call, *block(f"for (long {r} = row; {r} < end; ++{r})", each)]
        share = bounds if axis == "n" else ("0", str(p.n))
        if self.columns == p.n:
            inner = [f"const long column = 0, start = 0, stop = {p.n};", *inner]
        else:
            inner = steps(("column", "start", "stop"), share, p.n, self.columns, inner)
        share = bounds if axis == "m" else ("0", str(p.m))
        return lines + steps(("row", "top", "end"), share, p.m, self.rows, inner)

    def _copy(self, scratch: str) -> list[str]:
        p, ctype = self.product, CTYPES[self.product.dtype]
        own = f" + tid * {p.k * p.n}L" if self.split.threads > 1 else ""
        head = f"{ctype} *copy = ({ctype} *)({scratch}){own}; /* the columns of the right operand, each in one piece */"
        if p.right.across == 1 and p.n > 1:
            name = gemm_pack.transpose_name(p.dtype)
            return [head, f"{name}({p.k}, {p.n}, {p.right.at}, {p.right.down}L, copy, {p.k});"]
        return [
            head,
            f"for (long c = 0; c < {p.n}; ++c)",
            f"    for (long k = 0; k < {p.k}; ++k)",
            f"        copy[c * {p.k} + k] = {p.right.element('k', 'c')};",
        ]


@dataclass(frozen=True, slots=True)
class Sums:
    """A matrix, whose columns lie in one piece each, times a vector: ``step`` results at a time."""

    product: Product
    turned: bool
    split: Split
    step: int
    note = "sums of rows"
    scratch = 0

    @property
    def cost(self) -> float:
        p = self.product
        return p.m * p.k * ITEMSIZE[p.dtype] / 60 + 100

    @property
    def helpers(self) -> tuple[str, ...]:
        dtype = self.product.dtype
        return (vectors(), sums(self.step // lanes(dtype), dtype))

    def lines(self, bounds: tuple[str, str], epilogue: Epilogue | None, scratch: str) -> list[str]:
        p, step = self.product, self.step
        index, other = ("j", "i") if self.turned else ("i", "j")
        lines = [f"const long {other} __attribute__((unused)) = 0;", f"{CTYPES[p.dtype]} part[{step}];"]
        tail, safe = p.left.at, p.k
        if p.m < step:
            over = -(-(step - p.m) // p.left.across)
            tail, safe = "tail", max(0, p.k - over) // CHAINS * CHAINS
            lines += gemm_pack.tail(p.dtype, p.left.turned, p.m, p.k, step, p.k - safe)
        call = (
            f"{sums_name(step // lanes(p.dtype), p.dtype)}({p.k}, {safe}, {p.right.at}, {p.right.down},"
            f" {p.left.pointer('top', '0')}, {p.left.across}, {tail}, part);"
        )
        last = store(p.turned if self.turned else p, epilogue, f"part[{index} - top]")
        inner = [call, *block(f"for (long {index} = row; {index} < end; ++{index})", last)]
        if p.m < step:
            return [*lines, f"const long row = 0, top = 0, end = {p.m};", *inner]
        share = bounds if self.split.axis else ("0", str(p.m))
        return lines + steps(("row", "top", "end"), share, p.m, step, inner)


LEAST_LINE = 16
"""Results that a thread needs for a share in the product of a matrix and a vector: at least a vector of them."""


def line(p: Product, split: Split) -> Dots | Sums | None:
    """The product of a matrix and a vector, or None if it is not one or the matrix lies badly.

    Which of them depends on shapes and strides only, as each adds in its own order. Shares are LEAST_LINE or more.
    """
    turned = p.n != 1
    if turned:
        p = p.turned
    if p.n != 1 or p.k < 2:
        return None
    least = split.shares("n" if turned else "m", p.m)[0]
    if p.left.across == 1 and p.k * ITEMSIZE[p.dtype] >= 16:
        return Dots(p, turned, split, *dot_tile(least, 1))
    length = lanes(p.dtype)
    overruns = p.m <= p.left.across
    if p.left.down != 1 or p.k < CHAINS or (p.m < length and not overruns):
        return None
    overruns = overruns and least == p.m
    fitting = [nv for nv in sums_widths() if (overruns and (nv - 1) * length < p.m) or nv * length <= least]
    best = min(fitting, key=lambda nv: (-(-least // (nv * length)) * nv, -nv))
    return Sums(p, turned, split, best * length)


def few(p: Product, split: Split) -> Dots | None:
    """The product as dot products if a side has too few rows or columns to fill vectors with, and k is long.

    Depends on nothing but shapes and strides, as sums of dot products are ordered their own way.
    """
    length = 64 // ITEMSIZE[p.dtype]
    for turned, q in ((False, p), (True, p.turned)):
        if q.n > 5 * length // 8 or q.k < 8 * length or q.left.across != 1 or (q.right.down != 1 and q.m < 32):
            continue
        rows = split.shares("n" if turned else "m", q.m)[0]
        columns = split.shares("m" if turned else "n", q.n)[0]
        return Dots(q, turned, split, *dot_tile(rows, columns))
    return None
