"""Fused elementwise programs as C: one loop nest over the results' shape, every value a local constant.

    t = x + b                      for (long i = lo; i < hi; ++i) {
    y = relu(t)                ->      const float x1 = p2[i];
    over (128, 256), b (128, 1)        for (long j = 0; j < 256; ++j) {
                                           const float x0 = p1[256 * i + j];
                                           const float t0 = x0 + x1;
                                           p0[256 * i + j] = t0 <= 0.0f ? 0.0f : t0;

What does not vary in an inner loop is loaded and computed outside of it. An out may be the same view as an
in: each element is read before it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.text.collapse import (
    TILE,
    Loop,
    Share,
    bounds_of,
    broadcast_strides,
    index_text,
    loops_of,
    own_axis,
    share_of,
    stop_of,
    tiled_loop,
)
from graphnet.kernels.text.expression import literal
from graphnet.kernels.text.program import Instr, Program, single
from graphnet.kernels.text.view import ITEMSIZE, Attrs, View

INDEPENDENT = """\
/* no iteration of the loop that follows reads what another one writes */
#if defined(__GNUC__) && !defined(__clang__)
#define GN_INDEPENDENT _Pragma("GCC ivdep")
#else
#define GN_INDEPENDENT
#endif"""


def fused(outs: Sequence[View], ins: Sequence[View], program: Iterable[Instr], job: Job) -> list[Phase]:
    """The program on every element of the outs, which have one shape; ins broadcast to it as NumPy's do.

    Raises ValueError for shapes that do not fit and for programs that read what nobody wrote.
    """
    return _nest(outs, ins, program, job, {})


def _nest(
    outs: Sequence[View], ins: Sequence[View], program: Iterable[Instr], job: Job, given: Mapping[int, str]
) -> list[Phase]:
    shape = outs[0].shape
    if any(v.shape != shape for v in outs):
        raise ValueError(f"outs of different shapes: {', '.join(str(v.shape) for v in outs)}")
    if job.epilogue is not None:
        raise ValueError("an elementwise program takes what would be its epilogue as further instructions")
    if not prod(shape):
        return []
    found = Program(outs, ins, program)
    found.name(given, (v.name for v in (*outs, *ins)))
    strides = [broadcast_strides(v, shape) for v in (*outs, *ins)]
    loops = loops_of(shape, strides, len(outs))
    share, tiled = share_of(loops, shape, job.threads), tiled_loop(loops)
    names = variables(len(loops), (v.name for v in (*outs, *ins)))
    heads, depth_of = _heads(loops, share, tiled, names)
    for number, value in enumerate(found.values[: len(ins)]):
        moved = [d for loop, d in zip(loops, depth_of, strict=True) if loop.strides[len(outs) + number]]
        value.depth = max(moved, default=0)

    def at(operand: int) -> str:
        return index_text([loop.strides[operand] for loop in loops], names)

    lines = found.stored(at, given, len(heads))
    return [
        Phase(
            _body(heads, lines, stop_of(loops, share, names)),
            share.units,
            tuple(own_axis(v, shape, share) for v in (*outs, *(v for k, v in enumerate(ins) if k not in given))),
            (*found.helpers(), INDEPENDENT) if loops else found.helpers(),
            nanoseconds(found, loops),
            " x ".join(str(loop.size) for loop in loops) + (" in tiles" if tiled is not None else ""),
        )
    ]


def nanoseconds(program: Program, loops: Sequence[Loop]) -> float:
    """Arithmetic, and memory at 150 bytes/ns, at 25 where no cache holds it."""
    elements = prod(loop.size for loop in loops)
    moved = sum(
        ITEMSIZE[v.dtype] for k, v in enumerate((*program.outs, *program.ins)) if loops and loops[-1].strides[k]
    )
    return elements * (program.work + moved / (150 if elements * moved < 1 << 24 else 25))


def variables(count: int, taken: Iterable[str]) -> list[str]:
    """Names of loop variables that no operand has."""
    words, suffix = set(taken), ""
    names = "ijklmn"[:count] if count <= 6 else [f"i{k}" for k in range(count)]
    while words & {f"{n}{more}" for n in (n + suffix for n in names) for more in ("", "_tile", "_stop")}:
        suffix += "_"
    return [n + suffix for n in names]


def _heads(
    loops: Sequence[Loop], share: Share, tiled: int | None, variables: Sequence[str]
) -> tuple[list[str], list[int]]:
    """The ``for`` of each depth, and for each loop how deep its variable is known."""
    bounds = [bounds_of(loops, share, k, name) for k, name in enumerate(variables)]
    plain = [f"for (long {v} = {a}; {v} < {b}; ++{v})" for v, (a, b) in zip(variables, bounds, strict=True)]
    if tiled is None:
        return plain, list(range(1, len(loops) + 1))
    pair = (tiled, len(loops) - 1)
    others = [k for k in range(len(loops)) if k not in pair]
    outer, inner = [plain[k] for k in others], []
    for k in pair:
        name, (start, stop) = variables[k], bounds[k]
        outer.append(f"for (long {name}_tile = {start}; {name}_tile < {stop}; {name}_tile += {TILE})")
        end = f"{name}_tile + {TILE}"
        divided = share.units > 1 and k == share.loop
        whole = (share.factor if divided else loops[k].size) % TILE == 0 and not stop.endswith("_stop")
        limit = end if whole else f"({end} < {stop} ? {end} : {stop})"
        inner.append(f"for (long {name} = {name}_tile; {name} < {limit}; ++{name})")
    depths = {k: d for d, k in enumerate(others, 1)} | {pair[0]: len(others) + 3, pair[1]: len(others) + 4}
    return outer + inner, [depths[k] for k in range(len(loops))]


def _body(heads: Sequence[str], lines: Sequence[Sequence[str]], before: Sequence[str]) -> str:
    text = [*before, *lines[0]]
    for depth, head in enumerate(heads, 1):
        indent = "    " * (depth - 1)
        if depth == len(heads):
            text.append(f"{indent}GN_INDEPENDENT")
        text.append(f"{indent}{head} {{")
        text += [f"{indent}    {line}" for line in lines[depth]]
    text += ["    " * depth + "}" for depth in reversed(range(len(heads)))]
    return "\n".join(f"    {line}" for line in text)


def copy(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """outs[0] = ins[0], broadcast; both of one dtype. Transposition goes by square tiles."""
    return _nest(outs, ins, single("x", "x", outs[0].dtype), job, {})


def fill(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """outs[0] = attrs["value"] everywhere."""
    dtype = outs[0].dtype
    return _nest(outs, [View("", dtype, (), ())], single("x", "x", dtype), job, {0: literal(attrs["value"], dtype)})
