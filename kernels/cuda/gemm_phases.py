"""A product as phases: its tiles, and the sums of the parts that its terms were cut into.

tiles     unit: entry, part, tile     ->   scratch (part, entry, i, j)   or the result
sums      thread: entry, i, j         ->   the parts added in order      ->   the result
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphnet.kernels.cuda.gemm_load import block, declared, unrolled
from graphnet.kernels.cuda.gemm_plan import Plan, Shape, choose
from graphnet.kernels.cuda.gemm_tensor import TensorText, TensorTile
from graphnet.kernels.cuda.gemm_tile import Product, Text
from graphnet.kernels.cuda.phase import THREADS, Job, Phase
from graphnet.kernels.text.program import Finish

SLICES = 8
"""Threads that share the parts of one sum where there are few sums."""


def ahead_of(job: Job) -> Callable[[str, str], Mapping[int, tuple[str, str]]] | None:
    """What an epilogue reads besides the product's element at (i, j), if it is one that can be asked."""
    epilogue = job.epilogue
    return (lambda i, j: epilogue.operands((i, j))) if isinstance(epilogue, Finish) else None


def text_of(product: Product, tensor: int) -> Text:
    """The tiles of a product; ``tensor`` is the job's."""
    p = product
    shape = Shape(p.dtype, p.m, p.n, p.k, p.entries, p.left.kind, p.right.kind, span=p.span, tensor=tensor)
    return text_for(p, choose(shape), tensor)


def text_for(product: Product, plan: Plan, tensor: int) -> Text:
    """The tiles that a plan chose; ``tensor`` is the job's."""
    if isinstance(plan.tile, TensorTile):
        return TensorText(product, plan.tile, plan.parts, tensor)
    return Text(product, plan.tile, plan.parts)


def sums_bytes(product: Product, tensor: int) -> int:
    """Scratch for the sums of all parts of a product."""
    if not product.size or not product.k:
        return 0
    parts = text_of(product, tensor).parts
    return parts * product.size * product.sum_bytes if parts > 1 else 0


def phases(product: Product, job: Job) -> list[Phase]:
    """The tiles and, where they are of parts of the terms, the sums of these; no phases for an empty product."""
    if not product.size:
        return []
    if not product.k:
        return [zeros(product)]
    text = text_of(product, job.tensor)
    tiles = tiles_phase(text, job)
    return [tiles, added(product, text.parts, job.scratch)] if text.parts > 1 else [tiles]


def tiles_phase(text: Text, job: Job) -> Phase:
    """The phase whose units are tiles."""
    tile = text.tile
    ways = f", {tile.ways} ways" if tile.ways > 1 else ""
    parts = f", terms in {text.parts} parts" if text.parts > 1 else ""
    share = f", {100 * text.share:.0f} % of the terms" if text.product.span else ""
    where = f" on tensor cores{', three times' if text.split else ''}" if isinstance(text, TensorText) else ""
    note = f"tiles of {tile.rows.size} x {tile.columns.size} by {tile.depth}{ways}{parts}{share}{where}"
    return Phase("\n".join(text.lines(job.scratch)), text.units, text.shared, helpers=text.helpers, note=note)


def zeros(product: Product) -> Phase:
    """Sums of nothing."""
    p, total = product, product.size
    lines = [f"const {p.reach} e = ({p.reach})unit * {THREADS} + threadIdx.x;"]
    lines += _element(p, "0", [f"e < {total}"] if total % THREADS else [])
    return Phase("\n".join(lines), -(-total // THREADS), note="no terms")


def added(product: Product, parts: int, scratch: str) -> Phase:
    """The parts of each sum added in order, by one thread or, in slices, by several."""
    p, ctype, total = product, product.sum_type, product.size
    slices = SLICES if total < THREADS * THREADS // 2 and parts >= 2 * SLICES else 1
    each, wide = -(-parts // slices), THREADS // slices
    guard = [f"e < {total}"] if total % wide else []
    lines = [
        "const int tid = threadIdx.x;",
        f"const {p.reach} e = ({p.reach})unit * {wide} + {f'tid % {wide}' if slices > 1 else 'tid'};",
        f"const {ctype} *const parts = (const {ctype} *){scratch};",
        f"{ctype} value = 0;",
    ]
    first, last = "0", str(parts)
    if slices > 1:
        end = f"first + {each}"
        end = end if slices * each == parts else f"{end} < {parts} ? {end} : {parts}"
        lines.append(f"const int slice = tid / {wide}, first = slice * {each}, last = {end};")
        first, last = "first", "last"
    place = f"({p.reach})part * {total} + e" if p.reach != "int" else f"part * {total} + e"
    add = unrolled(f"for (int part = {first}; part < {last}; ++part)", [f"value += parts[{place}];"], "8")
    lines += block(f"if ({guard[0]})", add) if guard else add
    if slices > 1:
        lines += [f"{ctype} *const sums = ({ctype} *)gn_shared;", "sums[tid] = value;", "__syncthreads();"]
        more = unrolled(f"for (int x = 1; x < {slices}; ++x)", [f"value += sums[x * {wide} + tid];"])
        guard = [f"tid < {wide}", *guard]
        lines += block(f"if ({' && '.join(guard)})", [*more, *_element(p, "value", [])])
    else:
        lines += _element(p, "value", guard)
    shared = THREADS * p.sum_bytes if slices > 1 else 0
    return Phase("\n".join(lines), -(-total // wide), shared, note=f"sums of {parts} parts")


def _element(p: Product, value: str, guards: Sequence[str]) -> list[str]:
    """Stores element number e."""
    near, far = ("i", "j") if p.down else ("j", "i")
    sizes = {"i": p.m, "j": p.n}
    body = p.store("i", "j", p.cast(value)).splitlines()
    rest = f" % {sizes[far]}" if p.entries > 1 else ""
    places = {near: f"e % {sizes[near]}", far: f"e / {sizes[near]}{rest}", "entry": f"e / {p.m * p.n}"}
    body = [*declared(p.reach, places, body), *body]
    return block(f"if ({' && '.join(guards)})" if guards else "", body)
