"""Algebra that never changes a result, view composition, and sums of placed slices.

    add(x, 0)                  -> x                 reshape(reshape(x))   -> reshape(x)
    mul(x, 1)                  -> x                 transpose(transpose)  -> one transpose
    neg(neg(x))                -> x                 slice(slice(x))       -> one slice
    pow(x, 2)                  -> square(x)         slice(concat(a, b))   -> a     (exactly one part)
    op(broadcast_to(x), y)     -> op(x, y)          sum(sum(x))           -> sum over both
    op(broadcast_to(x))        -> broadcast_to(op(x))
    place(a) + place(b) + ..   -> concat(a, b, ..)  (when the places tile the whole)

Exists because gradient rules are written for clarity: the gradient of four gate slices arrives as four
padded arrays added up, and should be one array the four parts are written into.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from graphnet.compiler import build as b
from graphnet.compiler.ir import Graph, Node, rebuild, rewrite
from graphnet.compiler.ops.control import BODIES
from graphnet.compiler.ops.elementwise import broadcast_shapes
from graphnet.compiler.passes.pipeline import Context
from graphnet.compiler.passes.pooling import masked_scatter, summed_scatter
from graphnet.compiler.record import REGISTRY

Rule = Callable[[Node, Sequence[Node]], Node | None]


def in_bodies(node: Node, function: Callable[[Graph], Graph]) -> Node:
    """The node with ``function`` applied to each graph it holds."""
    from graphnet.compiler.ir import make

    names = BODIES.get(node.op)
    if names is None:
        return node
    changed = {name: function(node.attrs[name]) for name in names}
    if all(changed[name] == node.attrs[name] for name in names):
        return node
    return make(node.op, node.inputs, {**node.attrs, **changed}, node.type, node.where)


def simplify(graph: Graph, context: Context) -> Graph:
    """Apply the rules bottom-up, also inside bodies."""

    def visit(old: Node, inputs: tuple[Node, ...]) -> Node:
        with b.at(old.where):
            node = in_bodies(rebuild(old, inputs), lambda g: simplify(g, context))
            for _ in range(8):
                rule = RULES.get(node.op)
                found = rule(node, node.inputs) if rule else None
                if found is None and node.op in REGISTRY and REGISTRY[node.op].kind == "elementwise":
                    found = _strip_broadcasts(node)
                if found is None or found is node:
                    return node
                node = found
            return node

    return rewrite(graph, visit)


def _strip_broadcasts(node: Node) -> Node | None:
    """Elementwise ops broadcast by themselves; where every operand repeats, the result does instead."""
    if not any(i.op == "broadcast_to" for i in node.inputs):
        return None
    inputs = list(node.inputs)
    for index, operand in enumerate(inputs):
        if operand.op == "broadcast_to":
            shapes = [n.shape for n in inputs]
            shapes[index] = operand.inputs[0].shape
            if broadcast_shapes(shapes) == node.shape:
                inputs[index] = operand.inputs[0]
    if inputs != list(node.inputs):
        return rebuild(node, inputs)
    small = [i.inputs[0] if i.op == "broadcast_to" else i for i in inputs]
    return b.broadcast_to(b.apply(node.op, *small, **node.attrs), node.shape)


def _like(x: Node, node: Node) -> Node | None:
    """``x`` in place of ``node`` if the types allow."""
    if x.dtype != node.dtype:
        return None
    return b.broadcast_to(x, node.shape)


def _value_is(node: Node, number: float) -> bool:
    value = b.scalar_value(node)
    return value is not None and not isinstance(value, bool) and value == number


def _add(node: Node, inputs: Sequence[Node]) -> Node | None:
    x, y = inputs
    if _value_is(y, 0):
        return _like(x, node)
    if _value_is(x, 0):
        return _like(y, node)
    if y.op == "neg" and node.out.is_float:
        return b.sub(x, y.inputs[0])
    return _tiled(node)


def _sub(node: Node, inputs: Sequence[Node]) -> Node | None:
    x, y = inputs
    if _value_is(y, 0):
        return _like(x, node)
    return b.add(x, y.inputs[0]) if y.op == "neg" else None


def _mul(node: Node, inputs: Sequence[Node]) -> Node | None:
    x, y = inputs
    if _value_is(y, 1):
        return _like(x, node)
    return _like(y, node) if _value_is(x, 1) else None


def _div(node: Node, inputs: Sequence[Node]) -> Node | None:
    return _like(inputs[0], node) if _value_is(inputs[1], 1) else None


def _neg(node: Node, inputs: Sequence[Node]) -> Node | None:
    return inputs[0].inputs[0] if inputs[0].op == "neg" else None


def _pow(node: Node, inputs: Sequence[Node]) -> Node | None:
    x, exponent = inputs
    if not node.out.is_float or x.shape != node.shape:
        return None
    if _value_is(exponent, 1):
        return x
    for value, op in ((2, "square"), (-1, "reciprocal"), (0.5, "sqrt")):
        if _value_is(exponent, value):
            return b.unary(op, x)
    return None


def _cast(node: Node, inputs: Sequence[Node]) -> Node | None:
    return inputs[0] if inputs[0].dtype == node.dtype else None


def _reshape(node: Node, inputs: Sequence[Node]) -> Node | None:
    x = inputs[0]
    if x.shape == node.shape:
        return x
    return b.reshape(x.inputs[0], node.shape) if x.op == "reshape" else None


def _transpose(node: Node, inputs: Sequence[Node]) -> Node | None:
    x, perm = inputs[0], node.attrs["perm"]
    if perm == tuple(range(len(perm))):
        return x
    if x.op == "transpose":
        return b.transpose(x.inputs[0], [x.attrs["perm"][p] for p in perm])
    return None


def _broadcast(node: Node, inputs: Sequence[Node]) -> Node | None:
    x = inputs[0]
    if x.shape == node.shape:
        return x
    return b.broadcast_to(x.inputs[0], node.shape) if x.op == "broadcast_to" else None


def _slice(node: Node, inputs: Sequence[Node]) -> Node | None:
    x, a = inputs[0], node.attrs
    if node.shape == x.shape and all(s == 1 for s in a["steps"]):
        return x
    if x.op == "slice":
        inner = x.attrs
        starts = [i + s * t for i, s, t in zip(inner["starts"], a["starts"], inner["steps"], strict=True)]
        steps = [s * t for s, t in zip(a["steps"], inner["steps"], strict=True)]
        return b.slice_(x.inputs[0], starts, node.shape, steps)
    if x.op == "place" and all(x.attrs[k] == a[k] for k in ("starts", "steps")) and x.inputs[0].shape == node.shape:
        return x.inputs[0]
    return _part_of_concat(node, x) if x.op == "concat" else None


def _part_of_concat(node: Node, x: Node) -> Node | None:
    axis, start = x.attrs["axis"], 0
    others = [i for i in range(x.ndim) if i != axis]
    if any(s != 1 for s in node.attrs["steps"]) or any(node.shape[i] != x.shape[i] for i in others):
        return None
    for part in x.inputs:
        if start == node.attrs["starts"][axis] and part.shape == node.shape:
            return part
        start += part.shape[axis]
    return None


def _sum(node: Node, inputs: Sequence[Node]) -> Node | None:
    x, axes, keep = inputs[0], node.attrs["axes"], node.attrs["keepdims"]
    if all(x.shape[a] == 1 for a in axes):
        return b.reshape(x, node.shape)
    if x.op == "sum" and not keep and not x.attrs["keepdims"]:
        left = [i for i in range(x.inputs[0].ndim) if i not in x.attrs["axes"]]
        return b.sum_(x.inputs[0], sorted([*x.attrs["axes"], *(left[a] for a in axes)]))
    return summed_scatter(node)


def _where(node: Node, inputs: Sequence[Node]) -> Node | None:
    return masked_scatter(node)


# Elements that a sum of places fills, for sums seen so far: long chains are walked once, when they may be whole.
_filled: weakref.WeakKeyDictionary[Node, int] = weakref.WeakKeyDictionary()


def _fills(node: Node) -> int | None:
    """How many elements a place, or a sum of places, fills; None for anything else."""
    if node.op == "place" and all(s == 1 for s in node.attrs["steps"]):
        return node.inputs[0].out.size
    return _filled.get(node)


def _terms(node: Node) -> list[Node]:
    """The places a sum adds up."""
    terms, work = [], [node]
    while work:
        n = work.pop()
        if n.op == "place":
            terms.append(n)
        else:
            work.extend(n.inputs)
    return terms


def _tiled(node: Node) -> Node | None:
    """A sum of places that together cover the whole once is a concatenation."""
    counts = [_fills(i) for i in node.inputs if i.shape == node.shape]
    if len(counts) < 2 or counts[0] is None or counts[1] is None:
        return None
    _filled[node] = counts[0] + counts[1]
    if _filled[node] != node.out.size:
        return None
    terms = _terms(node)
    axes = [i for i in range(node.ndim) if any(t.inputs[0].shape[i] != node.shape[i] for t in terms)]
    if len(axes) != 1:
        return None
    axis, end = axes[0], 0
    ordered = sorted(terms, key=lambda t: int(t.attrs["starts"][axis]))
    for t in ordered:
        if t.attrs["starts"][axis] != end:
            return None
        end += t.inputs[0].shape[axis]
    return b.concat([t.inputs[0] for t in ordered], axis) if end == node.shape[axis] else None


RULES: dict[str, Rule] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "pow": _pow,
    "cast": _cast,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_to": _broadcast,
    "slice": _slice,
    "sum": _sum,
    "where": _where,
}


def drop_markers(graph: Graph, context: Context) -> Graph:
    """stop_gradient(x) -> x and identity(x) -> x: they mean something to differentiation only."""

    def visit(old: Node, inputs: tuple[Node, ...]) -> Node:
        if old.op in ("stop_gradient", "identity"):
            return inputs[0]
        return in_bodies(rebuild(old, inputs), lambda g: drop_markers(g, context))

    return rewrite(graph, visit)
