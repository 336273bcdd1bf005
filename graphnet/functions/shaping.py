"""Functions that move or repeat elements: reshape, transpose, concatenate, split, pad, flip, tile, roll.

Shapes, axes and counts are Python numbers: they must be known while tracing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphnet.compiler import build as b
from graphnet.compiler.errors import ShapeError
from graphnet.compiler.ir import Node
from graphnet.functions.arguments import (
    Axis,
    gather_runs,
    host_array,
    integer,
    integers,
    many_axes,
    node,
    one_axis,
    shape_tuple,
)
from graphnet.tensor import traced


@traced
def reshape(x: Any, shape: int | Sequence[int], *more: int) -> Node:
    """The elements in C order under another shape; one size may be -1. ``reshape(x, 2, -1)`` works too."""
    x = node(x)
    sizes = integers((shape, *more) if more else shape, "shape")
    unknown, known = sizes.count(-1), math.prod(n for n in sizes if n != -1)
    if unknown > 1 or any(n < -1 for n in sizes):
        raise ShapeError(f"shape {sizes} may hold one -1 and no other negative size")
    if unknown:
        if known == 0 or x.out.size % known:
            raise ShapeError(f"{x.shape} cannot become {sizes}: {x.out.size} elements are not a multiple of {known}")
        sizes = tuple(x.out.size // known if n == -1 else n for n in sizes)
    elif known != x.out.size:
        raise ShapeError(f"{x.shape} cannot become {sizes}: {x.out.size} elements, not {known}")
    return b.reshape(x, sizes)


@traced
def flatten(x: Any, start: int = 1) -> Node:
    """Axes from ``start`` on as one: (N, C, H, W) becomes (N, C*H*W)."""
    x = node(x)
    start = integer(start, "start")
    if not 0 <= start <= x.ndim:
        raise ShapeError(f"start {start} of a value with {x.ndim} axes")
    return b.reshape(x, (*x.shape[:start], math.prod(x.shape[start:])))


@traced
def ravel(x: Any) -> Node:
    """All elements in C order along one axis."""
    x = node(x)
    return b.reshape(x, (x.out.size,))


@traced
def transpose(x: Any, axes: Sequence[int] | None = None) -> Node:
    """Axis i of the result is axis axes[i] of x; None reverses the axes."""
    x = node(x)
    perm = tuple(range(x.ndim))[::-1] if axes is None else many_axes(axes, x.ndim)
    if len(perm) != x.ndim:
        raise ShapeError(f"axes {axes} are not a permutation of the {x.ndim} axes of {x.shape}")
    return b.transpose(x, perm)


@traced
def swapaxes(x: Any, axis1: int, axis2: int) -> Node:
    """Two axes exchanged."""
    x = node(x)
    first, second = one_axis(axis1, x.ndim), one_axis(axis2, x.ndim)
    perm = list(range(x.ndim))
    perm[first], perm[second] = second, first
    return b.transpose(x, perm)


@traced
def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Node:
    """Axes ``source`` at positions ``destination``, the others in their order."""
    x = node(x)
    old, new = many_axes(source, x.ndim), many_axes(destination, x.ndim)
    if len(old) != len(new):
        raise ShapeError(f"{len(old)} source axes, but {len(new)} destinations")
    perm = [a for a in range(x.ndim) if a not in old]
    for place, axis in sorted(zip(new, old, strict=True)):
        perm.insert(place, axis)
    return b.transpose(x, perm)


@traced
def expand_dims(x: Any, axis: int | Sequence[int]) -> Node:
    """New axes of size 1 at these positions of the result."""
    x = node(x)
    return b.expand(x, many_axes(axis, x.ndim + len(integers(axis, "axis"))))


@traced
def squeeze(x: Any, axis: Axis = None) -> Node:
    """x without these axes of size 1; None drops them all."""
    x = node(x)
    axes = [a for a, n in enumerate(x.shape) if n == 1] if axis is None else many_axes(axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"axis {a} of {x.shape} has size {x.shape[a]}, not 1")
    return b.reshape(x, [n for a, n in enumerate(x.shape) if a not in axes])


@traced
def broadcast_to(x: Any, shape: int | Sequence[int]) -> Node:
    """x repeated along size-1 and new leading axes."""
    return b.broadcast_to(node(x), shape_tuple(shape))


def _several(xs: Any) -> list[Node]:
    if isinstance(xs, Node):
        xs = [b.reshape(b.narrow(xs, 0, i, 1), xs.shape[1:]) for i in range(xs.shape[0])] if xs.ndim else []
    parts = [node(x) for x in xs]
    if not parts:
        raise ShapeError("needs at least one tensor")
    return parts


@traced
def concat(xs: Sequence[Any], axis: int | None = 0) -> Node:
    """Tensors one after the other along an axis; None flattens them first."""
    parts = _several(xs)
    if axis is None:
        return b.concat([b.reshape(p, (p.out.size,)) for p in parts], 0)
    if any(p.ndim == 0 for p in parts):
        raise ShapeError("scalars have no axis to join along: use stack")
    return b.concat(parts, one_axis(axis, parts[0].ndim))


concatenate = concat


@traced
def stack(xs: Sequence[Any], axis: int = 0) -> Node:
    """Tensors of one shape along a new axis."""
    parts = _several(xs)
    if len({p.shape for p in parts}) > 1:
        raise ShapeError(f"shapes differ: {', '.join(dict.fromkeys(str(p.shape) for p in parts))}")
    place = one_axis(axis, parts[0].ndim + 1)
    return b.concat([b.expand(p, [place]) for p in parts], place)


@traced
def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Node]:
    """A list of parts along an axis: so many equal ones, or cut at these indices."""
    x = node(x)
    axis = one_axis(axis, x.ndim)
    size = x.shape[axis]
    if isinstance(indices_or_sections, (list, tuple)):
        cuts = [slice(None, i).indices(size)[1] for i in integers(indices_or_sections, "index")]
        cuts = [0, *cuts, size]
    else:
        count = integer(indices_or_sections, "sections")
        if count < 1 or size % count:
            raise ShapeError(f"axis {axis} of size {size} does not split into {count} equal parts")
        cuts = [size // count * i for i in range(count + 1)]
    return [
        b.narrow(x, axis, start if stop > start else 0, stop - start if stop > start else 0)
        for start, stop in pairwise(cuts)
    ]


def _widths(widths: Any, ndim: int) -> list[tuple[int, int]]:
    host = host_array(widths) if isinstance(widths, Node) else widths
    try:
        table = np.broadcast_to(np.asarray(host, dtype=object), (ndim, 2)).tolist()
    except ValueError:
        raise ShapeError(f"pad widths {widths} are not one (before, after) for each of {ndim} axes") from None
    pairs = [(integer(before, "pad width"), integer(after, "pad width")) for before, after in table]
    if any(n < 0 for both in pairs for n in both):
        raise ShapeError(f"pad widths {widths} must not be negative")
    return pairs


@traced
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Node:
    """x with a border: ``pad_width`` is n, (before, after), or one (before, after) an axis.

    Modes: "constant", "edge", "reflect" (without the edge), "symmetric" (with it), "wrap".
    """
    x = node(x)
    widths = _widths(pad_width, x.ndim)
    if mode == "constant":
        return _pad_constant(x, widths, constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ShapeError(f'mode {mode!r} is not one of "constant", "edge", "reflect", "symmetric", "wrap"')
    for axis, both in enumerate(widths):
        if any(both):
            if x.shape[axis] == 0:
                raise ShapeError(f"axis {axis} of {x.shape} is empty: mode {mode!r} has nothing to repeat")
            x = gather_runs(x, axis, np.pad(np.arange(x.shape[axis]), both, mode=mode))  # type: ignore[call-overload]
    return x


def _pad_constant(x: Node, widths: list[tuple[int, int]], value: Any) -> Node:
    if not any(n for both in widths for n in both):
        return x
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
    where = {"shape": shape, "starts": tuple(before for before, _ in widths), "steps": (1,) * x.ndim}
    if x.out.size == 0:
        return b.broadcast_to(b.cast(node(value), x.dtype), shape)
    placed = b.apply("place", x, **where)
    if isinstance(value, (int, float)) and value == 0:
        return placed
    inside = b.apply("place", b.full(x.shape, True, "bool"), **where)
    return b.where(inside, placed, b.cast(node(value), x.dtype))


@traced
def flip(x: Any, axis: Axis = None) -> Node:
    """x backwards along axes; None means all."""
    x = node(x)
    axes = many_axes(axis, x.ndim)
    backwards = [a in axes and n > 0 for a, n in enumerate(x.shape)]
    starts = [n - 1 if back else 0 for n, back in zip(x.shape, backwards, strict=True)]
    return b.slice_(x, starts, x.shape, [-1 if back else 1 for back in backwards])


@traced
def tile(x: Any, reps: int | Sequence[int]) -> Node:
    """x side by side ``reps`` times along each axis; missing axes are added in front."""
    x, times = node(x), integers(reps, "reps")
    ndim = max(x.ndim, len(times))
    times = (1,) * (ndim - len(times)) + times
    shape = (1,) * (ndim - x.ndim) + x.shape
    pairs = list(zip(times, shape, strict=True))
    spread = b.broadcast_to(b.reshape(x, [n for s in shape for n in (1, s)]), [n for both in pairs for n in both])
    return b.reshape(spread, [t * s for t, s in pairs])


@traced
def repeat(x: Any, repeats: int | Sequence[int], axis: int | None = None) -> Node:
    """Each entry along an axis ``repeats`` times in a row; None flattens x first."""
    x, times = node(x), integers(repeats, "repeats")
    if axis is None:
        x, axis = b.reshape(x, (x.out.size,)), 0
    axis = one_axis(axis, x.ndim)
    if any(n < 0 for n in times) or len(times) not in (1, x.shape[axis]):
        raise ShapeError(f"repeats {repeats} must be one count, or one for each of {x.shape[axis]} entries")
    if len(times) > 1:
        return gather_runs(x, axis, np.repeat(np.arange(x.shape[axis]), times))
    wide = b.expand(x, [axis + 1])
    shape = list(wide.shape)
    shape[axis + 1] = times[0]
    return b.reshape(b.broadcast_to(wide, shape), [*x.shape[:axis], x.shape[axis] * times[0], *x.shape[axis + 1 :]])


@traced
def roll(x: Any, shift: int | Sequence[int], axis: Axis = None) -> Node:
    """x moved on by ``shift`` along axes, around the end; None rolls all elements in C order."""
    x, shifts = node(x), integers(shift, "shift")
    if axis is None:
        return b.reshape(_roll(b.reshape(x, (x.out.size,)), sum(shifts), 0), x.shape)
    axes = integers(axis, "axis")
    if len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise ShapeError(f"{len(shifts)} shifts for {len(axes)} axes")
    count = max(len(shifts), len(axes))
    for by, along in zip(
        shifts * count if len(shifts) == 1 else shifts, axes * count if len(axes) == 1 else axes, strict=True
    ):
        x = _roll(x, by, one_axis(along, x.ndim))
    return x


def _roll(x: Node, shift: int, axis: int) -> Node:
    n = x.shape[axis]
    cut = -shift % n if n else 0
    return x if cut == 0 else b.concat([b.narrow(x, axis, cut, n - cut), b.narrow(x, axis, 0, cut)], axis)


@traced
def tril(x: Any, k: int = 0) -> Node:
    """The last two axes with zeros above diagonal ``k``."""
    x = node(x)
    return b.where(_below(x, integer(k, "k")), x, 0)


@traced
def triu(x: Any, k: int = 0) -> Node:
    """The last two axes with zeros below diagonal ``k``."""
    x = node(x)
    return b.where(_below(x, integer(k, "k") - 1), 0, x)


def _below(x: Node, k: int) -> Node:
    """(rows, columns): True on and below diagonal ``k``."""
    if x.ndim < 2:
        raise ShapeError(f"needs two axes or more, got {x.shape}")
    return b.le(b.iota(x.shape[-2:], 1), b.add(b.iota(x.shape[-2:], 0), k))
