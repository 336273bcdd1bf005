"""Indexing as NumPy does it, and gathers, scatters and sorting by index.

    x[a, 1:, idx]     slices and ints are views; index arrays become one gather of rows: the indexed axes move
                      to the front, are flattened, and their indices combined into one

Indices known while tracing are checked; those computed by the model count from the end when negative and are
otherwise the model's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError, ShapeError
from graphnet.compiler.ir import Node
from graphnet.compiler.ops.elementwise import broadcast_shapes
from graphnet.functions.arguments import flag, host_array, index_dtype, integer, node, one_axis
from graphnet.tensor import constant, to_node, traced

Entry = int | slice | Node | None


@traced
def getitem(x: Any, key: Any) -> Node:
    """x[key] by NumPy's rules: ints, slices, None, ``...``, and integer lists, arrays or tensors."""
    x = node(x)
    entries, separated = _entries(key, x)
    if any(isinstance(e, Node) for e in entries):
        return _advanced(x, entries, separated)
    sliced = _slices(x, entries)
    return b.reshape(sliced, _shape_after(sliced, entries))


def _entries(key: Any, x: Node) -> tuple[list[Entry], bool]:
    """One entry an axis of x (None: a new axis), ``...`` written out; whether ``...`` parts index arrays."""
    parts = [_part(p) for p in (key if isinstance(key, tuple) else (key,))]
    used = sum(p.ndim if isinstance(p, np.ndarray) else p is not None and p is not ... for p in parts)
    if used > x.ndim:
        raise ShapeError(f"too many indices for {x.shape}: {used}")
    dots = sum(p is ... for p in parts)
    if dots > 1:
        raise ShapeError("an index can hold only one ...")
    if not dots:
        parts.append(...)
    fill: list[Entry] = [slice(None)] * (x.ndim - used)
    entries: list[Entry] = []
    separated = False
    for i, part in enumerate(parts):
        if part is ...:
            separated = any(map(_is_index, entries)) and any(map(_is_index, parts[i + 1 :]))
            entries.extend(fill)
        elif isinstance(part, np.ndarray):
            entries.extend(_where_true(part, x, sum(e is not None for e in entries)))
        else:
            entries.append(part)
    return entries, separated


def _is_index(entry: Any) -> bool:
    return isinstance(entry, (int, Node, np.ndarray))


def _part(part: Any) -> Any:
    """A part of a key as it is if basic; an index as int or node, a constant mask as a bool array."""
    if part is None or part is ... or isinstance(part, slice):
        return part
    if isinstance(part, bool):
        raise DTypeError("a bool is not an index: use gn.where to choose on values")
    if isinstance(part, int):
        return part
    found = constant(np.zeros(0, np.int32)) if isinstance(part, list) and not part else node(part)
    host = host_array(found)
    if found.dtype == "bool":
        if host is None or host.ndim == 0:
            raise DTypeError(
                "a boolean index gives a result whose size depends on values: use gn.where(mask, x, other)"
            )
        return host
    if found.out.is_float:
        raise DTypeError(f"an index must be an integer, got {found.dtype}: cast with .astype('int32')")
    return int(host) if host is not None and host.ndim == 0 else found


def _where_true(mask: np.ndarray, x: Node, axis: int) -> list[Node]:
    """The positions a mask known while tracing selects, one index an axis."""
    if mask.shape != x.shape[axis : axis + mask.ndim]:
        raise ShapeError(f"a mask of shape {mask.shape} does not fit axis {axis} and on of {x.shape}")
    return [constant(i.astype(np.int32)) for i in np.nonzero(mask)]


def _slices(x: Node, entries: Sequence[Entry]) -> Node:
    """x sliced along every axis; ints as slices of one, index arrays left for later."""
    starts, sizes, steps = [], [], []
    for axis, entry in enumerate(e for e in entries if e is not None):
        n = x.shape[axis]
        if isinstance(entry, int):
            if not -n <= entry < n:
                raise ShapeError(f"index {entry} is out of bounds for axis {axis} of {x.shape}")
            start, size, step = entry % n, 1, 1
        elif isinstance(entry, slice):
            start, size, step = _slice(entry, n)
        else:
            start, size, step = 0, n, 1
        starts.append(start)
        sizes.append(size)
        steps.append(step)
    return b.slice_(x, starts, sizes, steps)


def _slice(entry: slice, n: int) -> tuple[int, int, int]:
    """Start, size and step of a slice of an axis of size n."""
    values = (entry.start, entry.stop, entry.step)
    bounds = [None if v is None else integer(to_node(v), "a slice bound") for v in values]
    if bounds[2] == 0:
        raise ShapeError("a slice step cannot be 0")
    reach = range(*slice(*bounds).indices(n))
    if len(reach) < 2:
        return (reach.start if len(reach) else 0, len(reach), 1)
    return (reach.start, len(reach), reach.step)


def _shape_after(x: Node, entries: Sequence[Entry]) -> list[int]:
    """Shape with the axes of ints dropped and those of None added."""
    sizes = iter(x.shape)
    shape = []
    for entry in entries:
        if entry is None:
            shape.append(1)
            continue
        n = next(sizes)
        if not isinstance(entry, int):
            shape.append(n)
    return shape


def _advanced(x: Node, entries: list[Entry], separated: bool) -> Node:
    """Slices first, then one gather over the axes of index arrays, its axes where NumPy puts them."""
    spots = [i for i, e in enumerate(entries) if _is_index(e)]
    together = not separated and spots == list(range(spots[0], spots[-1] + 1))
    x = _slices(x, entries)
    x = b.reshape(x, _shape_after(x, entries))
    rest = [e for e in entries if not isinstance(e, int)]
    axes = [i for i, e in enumerate(rest) if isinstance(e, Node)]
    place = sum(not _is_index(e) for e in entries[: spots[0]]) if together else 0
    return gather_axes(x, axes, [e for e in rest if isinstance(e, Node)], place)


def gather_axes(x: Node, axes: Sequence[int], indices: Sequence[Node], place: int) -> Node:
    """x indexed along ``axes`` together; the axes of the indices stand at ``place`` of the result."""
    sizes = [x.shape[a] for a in axes]
    for axis, n, index in zip(axes, sizes, indices, strict=True):
        check_bounds(index, n, axis)
    if len(axes) == 1 and (view := _as_slice(x, axes[0], indices[0])) is not None and place == axes[0]:
        return view
    others = [a for a in range(x.ndim) if a not in axes]
    front = b.transpose(x, (*axes, *others))
    index = combine(indices, sizes)
    rows = b.reshape(front, (math.prod(sizes), *front.shape[len(axes) :]))
    y = b.apply("take", rows, index)
    k = index.ndim
    return b.transpose(y, (*range(k, k + place), *range(k), *range(k + place, y.ndim)))


def check_bounds(index: Node, n: int, axis: int) -> None:
    """Raise ShapeError if an index known while tracing is outside an axis of size n."""
    host = host_array(index)
    if host is not None and host.size:
        worst = host.max() if host.max() >= n else host.min()
        if not -n <= worst < n:
            raise ShapeError(f"index {worst} is out of bounds for axis {axis} of size {n}")
    elif n == 0 and index.out.size:
        raise ShapeError(f"axis {axis} is empty: there is nothing to index")


def _as_slice(x: Node, axis: int, index: Node) -> Node | None:
    """The view that a 1-D constant index with an even step stands for."""
    host = host_array(index)
    if host is None or host.ndim != 1 or host.size == 0:
        return None
    wrapped = np.where(host < 0, host.astype(np.int64) + x.shape[axis], host)
    gaps = np.unique(np.diff(wrapped))
    if len(gaps) > 1 or (len(gaps) and gaps[0] == 0):
        return None
    starts, sizes, steps = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[axis], sizes[axis], steps[axis] = int(wrapped[0]), host.size, int(gaps[0]) if len(gaps) else 1
    return b.slice_(x, starts, sizes, steps)


def combine(indices: Sequence[Node], sizes: Sequence[int]) -> Node:
    """One index into the flattened axes of these sizes, from one index each (broadcast together)."""
    if len(indices) == 1:
        return indices[0]
    dtype = index_dtype(math.prod(sizes))
    shape = broadcast_shapes([i.shape for i in indices])
    hosts = [host_array(i) for i in indices]
    known = [h for h in hosts if h is not None]
    if len(known) == len(hosts):
        wrapped = [np.where(h < 0, h.astype(np.int64) + n, h) for h, n in zip(known, sizes, strict=True)]
        flat = np.zeros(shape, np.int64)
        for h, n in zip(wrapped, sizes, strict=True):
            flat = flat * n + h
        return constant(flat.astype(dtype))
    parts = [wrap(b.cast(index, dtype), n) for index, n in zip(indices, sizes, strict=True)]
    total = parts[0]
    for part, n in zip(parts[1:], sizes[1:], strict=True):
        total = b.add(b.mul(total, n), part)
    return b.broadcast_to(total, shape)


def wrap(index: Node, n: int) -> Node:
    """Negative indices count from the end; others than those of the axis are an error when the net runs."""
    host = host_array(index)
    source = index
    while source.op in ("reshape", "broadcast_to", "transpose", "cast"):
        source = source.inputs[0]
    if source.op in ("iota", "argsort", "argmax", "argmin", "bounded") or (host is not None and (host >= 0).all()):
        return index
    return b.apply("bounded", index, size=n, wrap=True)


def _integer_index(idx: Any) -> Node:
    found = _part(idx)
    if not isinstance(found, (int, Node)):
        raise DTypeError("indices must be integers")
    return node(found)


@traced
def take(x: Any, indices: Any, axis: int | None = None) -> Node:
    """x at integer ``indices`` along an axis; the axes of indices take its place; None flattens x first."""
    x, index = node(x), _integer_index(indices)
    if axis is None:
        x, axis = b.reshape(x, (x.out.size,)), 0
    where = one_axis(axis, x.ndim)
    return gather_axes(x, [where], [index], where)


@traced
def gather(x: Any, indices: Any, axis: int = 0) -> Node:
    """Entries of one axis by integer ``indices`` of any shape, tf.gather's name for ``take(x, indices, axis)``."""
    return take(x, indices, axis)


@traced
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Node:
    """y[.., j] = x[.., indices[.., j]] along an axis; the other axes broadcast; None flattens both."""
    x, index = node(x), _integer_index(indices)
    if axis is None:
        x, index, axis = b.reshape(x, (x.out.size,)), b.reshape(index, (index.out.size,)), 0
    if index.ndim != x.ndim:
        raise ShapeError(f"indices {index.shape} must have as many axes as {x.shape}")
    where = one_axis(axis, x.ndim)
    check_bounds(index, x.shape[where], where)
    last = [*(a for a in range(x.ndim) if a != where), where]
    x, index = b.transpose(x, last), b.transpose(index, last)
    lead = broadcast_shapes([x.shape[:-1], index.shape[:-1]])
    n, m, rows = x.shape[-1], index.shape[-1], math.prod(lead)
    flat = b.reshape(b.broadcast_to(x, (*lead, n)), (rows * n,))
    index = b.reshape(b.broadcast_to(index, (*lead, m)), (rows, m))
    y = b.reshape(b.apply("take", flat, _in_rows(index, rows, n)), (*lead, m))
    return b.transpose(y, sorted(range(x.ndim), key=lambda i: last[i]))


def _in_rows(index: Node, rows: int, n: int) -> Node:
    """Indices into the columns of each of ``rows`` rows of n, as indices into all elements."""
    if rows == 1:
        return index
    dtype = index_dtype(rows * n)
    offset = b.mul(b.iota((rows, 1), 0, dtype), n)
    return b.add(wrap(b.cast(index, dtype), n), offset)


@traced
def scatter_add(x: Any, indices: Any, updates: Any) -> Node:
    """x with ``updates`` added to its rows at ``indices``; an index met twice adds twice.

    x (rows, ...), indices any integers (i, ...), updates broadcast to indices.shape + x.shape[1:].
    """
    x, index = node(x), _integer_index(indices)
    if x.ndim == 0:
        raise ShapeError("a scalar has no rows")
    check_bounds(index, x.shape[0], 0)
    added = b.broadcast_to(b.cast(node(updates), x.dtype), (*index.shape, *x.shape[1:]))
    return b.add(x, b.apply("scatter_add", added, index, rows=x.shape[0]))


@traced
def argsort(x: Any, axis: int | None = -1, descending: bool = False) -> Node:
    """The order (int32) that sorts x along an axis, equal elements as they stand; None flattens x first."""
    x, where = _sortable(node(x), axis)
    return b.apply("argsort", x, axis=where, descending=flag(descending, "descending"))


def _sortable(x: Node, axis: int | None) -> tuple[Node, int]:
    if axis is None:
        return b.reshape(x, (x.out.size,)), 0
    return x, one_axis(axis, x.ndim)


@traced
def sort(x: Any, axis: int | None = -1, descending: bool = False) -> Node:
    """x sorted along an axis; None flattens x first."""
    x, where = _sortable(node(x), axis)
    return take_along_axis(x, b.apply("argsort", x, axis=where, descending=flag(descending, "descending")), where)


@traced
def top_k(x: Any, k: int) -> tuple[Node, Node]:
    """The k largest elements along the last axis, largest first, and their indices (int32): (..., k) each."""
    x, count = node(x), integer(k, "k")
    if x.ndim == 0 or not 1 <= count <= x.shape[-1]:
        raise ShapeError(f"k is {count}, but must be from 1 to the size of the last axis of {x.shape}")
    last = x.ndim - 1
    order = b.narrow(b.apply("argsort", x, axis=last, descending=True), last, 0, count)
    return take_along_axis(x, order, last), order
