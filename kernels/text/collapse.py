"""Which loops an elementwise nest needs: axes ordered, merged, and divided among threads.

(128, 100, 93) + bias (93,)   ->   loops of 12800 and 93; 128 units of 100 iterations of the first
(64, 32, 3, 3), all dense     ->   one loop of 18432; 64 units of 288
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from graphnet.kernels.text.view import View

CHUNK = 16
"""Elements of a unit where the innermost loop is divided: a cache line of float32."""
TILE = 16
"""Side of the square tiles in which an operand is read whose order differs from the result's."""
SMALL = 256
"""Nests with fewer elements are not divided."""


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop over ``axes`` of the common shape, merged; ``strides`` has an entry for each operand."""

    size: int
    strides: tuple[int, ...]
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """``units`` equal parts of loop number ``loop``, ``factor`` iterations each (the last may have fewer).

    ``axis`` of the common shape falls into the same parts, if any does.
    """

    loop: int = 0
    units: int = 1
    factor: int = 0
    axis: int | None = None


def broadcast_strides(view: View, shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of ``view`` as seen from ``shape``, to which it broadcasts: 0 along axes it lacks or repeats.

    Raises ValueError if it does not broadcast.
    """
    missing = len(shape) - len(view.shape)
    if missing < 0 or any(own not in (1, n) for own, n in zip(view.shape, shape[missing:], strict=True)):
        raise ValueError(f"{view.shape} does not broadcast to {tuple(shape)}")
    own = (s if n != 1 else 0 for n, s in zip(view.shape, view.strides, strict=True))
    return (0,) * missing + tuple(own)


def loops_of(shape: Sequence[int], strides: Sequence[Sequence[int]], outs: int) -> list[Loop]:
    """The loops over ``shape``, outermost first, for operands with these strides; the first ``outs`` are written.

    Axes go by the strides of what is written, largest outermost, so that the innermost loop is unit-stride
    where it can be. Neighbours become one loop if every operand steps through both evenly.
    """
    axes = [a for a, n in enumerate(shape) if n > 1]
    axes.sort(key=lambda a: -sum(abs(s[a]) for s in strides[:outs]))
    found: list[Loop] = []
    for a in axes:
        here = Loop(shape[a], tuple(s[a] for s in strides), (a,))
        if found and all(x == y * here.size for x, y in zip(found[-1].strides, here.strides, strict=True)):
            outer = found.pop()
            here = Loop(outer.size * here.size, here.strides, outer.axes + here.axes)
        found.append(here)
    return found


def share_of(loops: Sequence[Loop], shape: Sequence[int], threads: int) -> Share:
    """How the nest is divided: along its outermost axis, unless that has too few parts for the threads."""
    if prod(loop.size for loop in loops) < SMALL:
        return Share()
    for number, loop in enumerate(loops):
        first = loop.axes[0]
        inner = number == len(loops) - 1
        if not (inner and len(loop.axes) == 1) and _enough(shape[first], threads):
            return Share(number, shape[first], loop.size // shape[first], first)
        if not inner and _enough(loop.size, threads):
            return Share(number, loop.size, 1, first if len(loop.axes) == 1 else None)
    number = max(range(len(loops)), key=lambda i: loops[i].size)
    loop = loops[number]
    whole = len(loop.axes) == 1 and loop.size % CHUNK == 0
    return Share(number, -(-loop.size // CHUNK), CHUNK, loop.axes[0] if whole else None)


def _enough(parts: int, threads: int) -> bool:
    return parts >= 4 * threads or (parts >= threads and parts % threads == 0 and parts > 1)


def tiled_loop(loops: Sequence[Loop]) -> int | None:
    """The loop to be tiled together with the innermost one, because some operand is dense along it instead."""
    if len(loops) < 2:
        return None
    inner = loops[-1]
    for operand, stride in enumerate(inner.strides):
        if abs(stride) > 1 and inner.size >= 8:
            for number, loop in enumerate(loops[:-1]):
                if abs(loop.strides[operand]) == 1 and loop.size >= 8 and loop.size * inner.size >= 4 * TILE * TILE:
                    return number
    return None


def index_text(strides: Sequence[int], variables: Sequence[str]) -> str:
    """``256 * i - j``: the offset of an element at these loop variables."""
    text = ""
    for stride, name in zip(strides, variables, strict=True):
        if stride:
            term = name if abs(stride) == 1 else f"{abs(stride)} * {name}"
            sign = "-" if stride < 0 else "+"
            text = f"{text} {sign} {term}" if text else f"{'-' * (stride < 0)}{term}"
    return text or "0"


def own_axis(view: View, shape: Sequence[int], share: Share) -> int | None:
    """The view's axis that is divided as the units are."""
    if share.axis is None or share.units == 1:
        return None
    own = share.axis - (len(shape) - len(view.shape))
    return own if own >= 0 and view.shape[own] == shape[share.axis] else None


def stop_of(loops: Sequence[Loop], share: Share, variables: Sequence[str]) -> list[str]:
    """The end of a share whose last unit may be smaller than the others."""
    if share.units == 1 or loops[share.loop].size == share.units * share.factor:
        return []
    size, name = loops[share.loop].size, variables[share.loop]
    return [f"const long {name}_stop = hi * {share.factor} < {size} ? hi * {share.factor} : {size};"]


def bounds_of(loops: Sequence[Loop], share: Share, number: int, name: str) -> tuple[str, str]:
    """Where loop ``number`` of a share begins and ends; ``stop_of`` defines what the text may need."""
    if share.units == 1 or number != share.loop:
        return "0", str(loops[number].size)
    if loops[number].size != share.units * share.factor:
        return f"lo * {share.factor}", f"{name}_stop"
    return ("lo", "hi") if share.factor == 1 else (f"lo * {share.factor}", f"hi * {share.factor}")
