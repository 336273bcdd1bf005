"""Loops and branches on values: ``scan``, ``cond`` and ``while_loop``. Each traces its functions once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from graphnet import tree
from graphnet.compiler import build as b
from graphnet.compiler.autodiff import depends_on
from graphnet.compiler.errors import DTypeError, ShapeError, TraceError
from graphnet.compiler.ir import (
    Graph,
    Node,
    Type,
    Where,
    is_leaf,
    leaf,
    made_since,
    node_count,
    substitute,
    toposort,
)
from graphnet.compiler.ops import control
from graphnet.tensor import Tensor, as_node, user_where
from graphnet.trace import Trace, check_call, current


def _nodes(leaves: Sequence[Any], where: Where, dtype: str = "float32") -> list[Node]:
    """Nodes of tensors, arrays and numbers; Python floats become ``dtype``."""
    with b.at(where):
        return [as_node(v, dtype) for v in leaves]


def _float_of(values: Sequence[Any]) -> str:
    """The widest float dtype among tensors and arrays: what a Python float beside them means."""
    wide = any(str(getattr(v, "dtype", "")) == "float64" for v in values if not isinstance(v, float))
    return "float64" if wide else "float32"


@contextlib.contextmanager
def _body(trace: Trace, time: tuple[Node, int] | None = None) -> Iterator[None]:
    trace.depth += 1
    if time is not None:
        trace.times.append(time)
    try:
        with b.outside():
            yield
    finally:
        trace.depth -= 1
        if time is not None:
            trace.times.pop()


def _captured(results: Sequence[Node], inputs: Sequence[Node]) -> list[Node]:
    """Values from outside the body that it reads: maximal, so that what does not vary is computed outside."""
    nodes = toposort(results)
    varying = depends_on(nodes, inputs)
    found: dict[Node, None] = {}
    for node in nodes:
        if node in varying:
            found.update((i, None) for i in node.inputs if i not in varying and not _literal(i))
    found.update((r, None) for r in results if r not in varying and not _literal(r))
    return list(found)


def _read_by(results: Sequence[Node], inputs: Sequence[Node], made: set[Node]) -> list[Node]:
    """Values from outside a branch that it reads. What branches make stays inside them: only one of two runs."""
    inside = depends_on(toposort(results), inputs) | made
    found: dict[Node, None] = {}
    stack = list(reversed(results))
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen or node in inputs or _literal(node):
            continue
        seen.add(node)
        if node in inside and not is_leaf(node):
            stack.extend(reversed(node.inputs))
        else:
            found[node] = None
    return list(found)


def _literal(node: Node) -> bool:
    """Small constants and index ramps are repeated inside the body instead of being passed in."""
    return node.op == "iota" or (node.op == "constant" and node.out.size == 1)


def _const_leaves(captured: Sequence[Node], depth: int) -> dict[Node, Node]:
    return {n: leaf(f"const{i}", "const", n.out, n.where, depth) for i, n in enumerate(captured)}


def scan(
    cell: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Loop over the leading axis of ``xs`` without unrolling: ``carry, y = cell(carry, x)`` at each entry.

    ``carry`` and ``xs`` are tensors or nests of them; the carry keeps its shapes and dtypes. Returns the last
    carry and the stacked ``y`` (leading axis = number of iterations, in the order of ``xs``). ``length`` is
    needed when there are no ``xs``; ``reverse`` runs from the last entry to the first. The cell is traced
    once: compile time does not grow with the number of iterations.
    """
    trace = current("gn.scan")
    where = user_where(trace.scope)
    carry_leaves, carry_tree = tree.flatten(carry)
    x_leaves, x_tree = tree.flatten(xs)
    rows = _nodes(x_leaves, where)
    wide = _float_of([*carry_leaves, *map(Tensor, rows)])
    carries = _nodes(carry_leaves, where, wide)
    steps = _length(rows, length, where)
    depth = trace.depth + 1
    time = leaf("time", "time", Type((), "int32"), where, depth)
    body_carries = [leaf(f"carry{i}", "carry", n.out, where, depth) for i, n in enumerate(carries)]
    body_xs = [leaf(f"x{i}", "x", Type(n.shape[1:], n.dtype), where, depth) for i, n in enumerate(rows)]
    inner = tree.unflatten(carry_tree, list(map(Tensor, body_carries)))
    row = tree.unflatten(x_tree, list(map(Tensor, body_xs)))
    check_call(cell, "scan: the cell", (inner, row))
    with _body(trace, (time, steps)):
        result = cell(inner, row)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TraceError(f"{where}: scan: the cell must return (carry, y), it returned {type(result).__name__}")
    new_leaves, new_tree = tree.flatten(result[0])
    if new_tree != carry_tree:
        raise TraceError(f"{where}: scan: the carry is {carry_tree}, the cell returned {new_tree}")
    y_leaves, y_tree = tree.flatten(result[1])
    new = _matching(_nodes(new_leaves, where, wide), carries, where)
    ys = _nodes(y_leaves, where, wide)
    inputs = [*body_carries, *body_xs, time]
    consts = _const_leaves(_captured([*new, *ys], inputs), depth)
    renamed = substitute([*new, *ys], consts)
    groups = ([renamed[n] for n in new], [renamed[n] for n in ys], [])
    node = control.scan(carries, rows, list(consts), [*inputs, *consts.values()], groups, steps, reverse, where)
    results = [Tensor(b.item(node, i)) for i in range(len(new) + len(ys))]
    return tree.unflatten(carry_tree, results[: len(new)]), tree.unflatten(y_tree, results[len(new) :])


def _length(rows: Sequence[Node], length: int | None, where: Where) -> int:
    if not rows and length is None:
        raise TraceError(f"{where}: scan: give xs or length=")
    if length is not None and (not isinstance(length, int) or length < 0):
        raise TraceError(f"{where}: scan: length must be a non-negative integer, got {length!r}")
    if any(n.ndim == 0 for n in rows):
        raise ShapeError(f"{where}: scan: xs must have a leading axis to loop over")
    sizes = {n.shape[0] for n in rows} | ({length} if length is not None else set())
    if len(sizes) != 1:
        raise ShapeError(f"{where}: scan: leading sizes differ: {sorted(sizes)}")
    return int(sizes.pop())


def _matching(new: Sequence[Node], old: Sequence[Node], where: Where) -> list[Node]:
    with b.at(where):
        cast = [b.cast(n, o.dtype) for n, o in zip(new, old, strict=True)]
    for i, (n, o) in enumerate(zip(cast, old, strict=True)):
        if n.shape != o.shape:
            raise ShapeError(f"{where}: scan: carry {i} has shape {o.shape}, the cell returned {n.shape}")
    for i, (n, o) in enumerate(zip(new, old, strict=True)):
        if b.promote(n.dtype, o.dtype) != o.dtype:
            raise DTypeError(
                f"{where}: scan: carry {i} is {o.dtype}, the cell returned {n.dtype}: start from a {n.dtype} "
                f"carry, or return .astype('{o.dtype}')"
            )
    return cast


def cond(predicate: Any, then: Callable[..., Any], otherwise: Callable[..., Any], *operands: Any) -> Any:
    """``then(*operands)`` where ``predicate`` (a scalar) holds, else ``otherwise(*operands)``; only one runs.

    Both must return the same nest of the same shapes and dtypes.
    """
    trace = current("gn.cond")
    where = user_where(trace.scope)
    leaves, structure = tree.flatten(operands)
    outer = _nodes(leaves, where)
    test = _nodes([predicate], where)[0]
    if test.out.size != 1:
        raise ShapeError(f"{where}: cond: the predicate has shape {test.shape}: use gn.where for arrays")
    with b.at(where):
        test = b.reshape(b.cast(test, "bool"), ())
    depth = trace.depth + 1
    inputs = [leaf(f"const{i}", "const", n.out, where, depth) for i, n in enumerate(outer)]
    values, trees = [], []
    mark = node_count()
    for branch in (then, otherwise):
        given = tree.unflatten(structure, [Tensor(n) for n in inputs])
        check_call(branch, f"cond: branch {len(values) + 1}", given)
        with _body(trace):
            found, shape = tree.flatten(branch(*given))
        values.append(found)
        trees.append(shape)
    wide = _float_of([v for found in values for v in found])
    branches = [_nodes(found, where, wide) for found in values]
    if trees[0] != trees[1] or [n.out for n in branches[0]] != [n.out for n in branches[1]]:
        kinds = [", ".join(str(n.out) for n in branch) or "nothing" for branch in branches]
        if trees[0] != trees[1]:
            kinds = list(map(str, trees))
        raise ShapeError(f"{where}: cond: the branches return different things: {kinds[0]} and {kinds[1]}")
    trace.branch_nodes |= made_since(mark)
    captured = _read_by([*branches[0], *branches[1]], inputs, trace.branch_nodes)
    extra = {n: leaf(f"seen{i}", "const", n.out, n.where, depth) for i, n in enumerate(captured)}
    graphs = []
    for results in branches:
        renamed = substitute(results, extra)
        named = tuple((f"result{i}", renamed[n]) for i, n in enumerate(results))
        graphs.append(Graph((*inputs, *extra.values()), named, name="body"))
    node = control.cond(test, graphs[0], graphs[1], [*outer, *captured], where)
    return tree.unflatten(trees[0], [Tensor(b.item(node, i)) for i in range(len(branches[0]))])


def while_loop(condition: Callable[[Any], Any], body: Callable[[Any], Any], init: Any, max_steps: int) -> Any:
    """``while condition(value): value = body(value)``, at most ``max_steps`` times; returns the last value.

    The bound makes the memory plan exact and the loop differentiable: it is a scan whose iterations after
    the condition first fails do nothing. A loop that reaches the bound stops there, condition or not: return a
    flag of your own in the value if you need to know.
    """
    where = user_where(current("gn.while_loop").scope)
    if not isinstance(max_steps, int) or max_steps < 0:
        raise TraceError(f"{where}: while_loop: max_steps must be a non-negative integer, got {max_steps}")

    def step(value: Any, _: Any) -> tuple[Any, None]:
        return cond(condition(value), body, lambda same: same, value), None

    last, _ = scan(step, init, length=max_steps)
    return last
