"""The intermediate representation: one frozen, hash-consed ``Node`` and a ``Graph`` of them.

    Type(shape, dtype)                what a value is
    Where(file, line, scope)          the user's line that asked for it
    Node(op, inputs, attrs, type)     a value; equal nodes are the same object
    Graph(inputs, outputs, updates)   named results and new values for the leaves that live across calls

Every node is made by :func:`make`, which interns it: two calls with equal op, inputs and attributes return
one object, so common subexpressions are shared by construction and ``is`` means "computes the same value".
Nothing here knows what an op does; shapes and gradients live in ``graphnet.compiler.ops``.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

ITEMSIZE = {
    "bool": 1,
    "uint8": 1,
    "int32": 4,
    "int64": 8,
    "uint32": 4,
    "uint64": 8,
    "float32": 4,
    "float64": 8,
}
FLOATS = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class Type:
    """Shape (a tuple of ints) and dtype (a NumPy dtype name) of a value."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of a contiguous array of this type."""
        return self.size * ITEMSIZE[self.dtype]

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    def __str__(self) -> str:
        return f"{self.dtype}({', '.join(map(str, self.shape))})"


@dataclass(frozen=True, slots=True)
class Where:
    """The user's source line a node comes from, and the model functions around it (``lenet/conv2d_1``)."""

    file: str = "<graphnet>"
    line: int = 0
    scope: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = Where()


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal array as bytes in C order: hashable, so equal constants are one node."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str

    def __repr__(self) -> str:
        return f"Constant({len(self.data)} bytes)"


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Node:
    """One value of the graph. Never constructed directly: see :func:`make`."""

    op: str
    inputs: tuple[Node, ...]
    attrs: Mapping[str, Any]
    type: Type | tuple[Type, ...]
    where: Where = field(default=NOWHERE)

    @property
    def out(self) -> Type:
        """The type of a single-result node."""
        if isinstance(self.type, tuple):
            raise TypeError(f"{self.op} has {len(self.type)} results")
        return self.type

    @property
    def shape(self) -> tuple[int, ...]:
        return self.out.shape

    @property
    def dtype(self) -> str:
        return self.out.dtype

    @property
    def ndim(self) -> int:
        return len(self.out.shape)

    @property
    def types(self) -> tuple[Type, ...]:
        return self.type if isinstance(self.type, tuple) else (self.type,)

    def __repr__(self) -> str:
        name = f" {self.attrs['name']}" if "name" in self.attrs else ""
        return f"<{self.op}{name} {' '.join(map(str, self.types))}>"


# Nodes made outside any session, by whoever builds graphs by hand, share this table.
_shared: weakref.WeakValueDictionary[Any, Node] = weakref.WeakValueDictionary()
_table: ContextVar[MutableMapping[Any, Node]] = ContextVar("table", default=_shared)


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Intern nodes in a table of their own, so that what was traced before leaves no mark on lines or order."""
    token = _table.set({})
    try:
        yield
    finally:
        _table.reset(token)


def node_count() -> int:
    """Number of nodes of the session so far: a mark for :func:`made_since`."""
    return len(_table.get())


def made_since(mark: int) -> set[Node]:
    """The nodes that this session has made since :func:`node_count` returned ``mark``."""
    return set(itertools.islice(_table.get().values(), mark, None))


def make(
    op: str,
    inputs: Sequence[Node],
    attrs: Mapping[str, Any],
    type_: Type | tuple[Type, ...],
    where: Where = NOWHERE,
) -> Node:
    """The interned node for these parts; ``where`` is kept from the first call and is not part of identity."""
    inputs = tuple(inputs)
    key = (op, tuple(map(id, inputs)), tuple(sorted(attrs.items())), type_)
    table = _table.get()
    node = table.get(key)
    if node is None:
        node = Node(op, inputs, dict(attrs), type_, where)
        table[key] = node
    return node


def leaf(name: str, role: str, type_: Type, where: Where = NOWHERE, depth: int = 0) -> Node:
    """A graph input. Roles: input target param state slot hyper rng; in bodies: carry x const time."""
    return make("input", (), {"name": name, "role": role, "depth": depth}, type_, where)


def is_leaf(node: Node) -> bool:
    """True for graph inputs (not for constants)."""
    return node.op == "input"


def toposort(outputs: Iterable[Node]) -> tuple[Node, ...]:
    """Every node reachable from ``outputs``, inputs before users, in depth-first order (deterministic)."""
    seen: set[Node] = set()
    order: list[Node] = []
    for root in outputs:
        if root in seen:
            continue
        seen.add(root)
        stack: list[tuple[Node, Iterator[Node]]] = [(root, iter(root.inputs))]
        while stack:
            node, pending = stack[-1]
            for child in pending:
                if child not in seen:
                    seen.add(child)
                    stack.append((child, iter(child.inputs)))
                    break
            else:
                stack.pop()
                order.append(node)
    return tuple(order)


@dataclass(frozen=True)
class Graph:
    """Named results of a set of leaves. Two graphs with the same parts are equal (bodies are attributes).

    ``inputs`` fixes the order of leaves for calls (nested bodies need it; a top-level graph lists its model
    inputs). ``updates`` pairs a leaf that lives across calls with the value it takes after the call.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[tuple[str, Node], ...]
    updates: tuple[tuple[Node, Node], ...] = ()
    name: str = "graph"

    def roots(self) -> tuple[Node, ...]:
        """All result nodes: outputs, then new values of leaves."""
        return tuple(node for _, node in self.outputs) + tuple(value for _, value in self.updates)

    def nodes(self) -> tuple[Node, ...]:
        """Every node needed for the results, inputs before users."""
        return self._nodes

    @cached_property
    def _nodes(self) -> tuple[Node, ...]:
        return toposort(self.roots())

    def leaves(self) -> tuple[Node, ...]:
        """Graph inputs in use, declared ones first, and leaves that are only updated."""
        found = dict.fromkeys(self.inputs)
        found.update(dict.fromkeys(n for n in self.nodes() if is_leaf(n)))
        found.update(dict.fromkeys(home for home, _ in self.updates))
        return tuple(found)

    def output(self, name: str) -> Node:
        """The result called ``name``."""
        return dict(self.outputs)[name]

    def has(self, name: str) -> bool:
        return any(n == name for n, _ in self.outputs)

    def with_results(
        self,
        outputs: Iterable[tuple[str, Node]] | None = None,
        updates: Iterable[tuple[Node, Node]] | None = None,
    ) -> Graph:
        """A copy with other outputs or updates."""
        return Graph(
            self.inputs,
            self.outputs if outputs is None else tuple(outputs),
            self.updates if updates is None else tuple(updates),
            self.name,
        )

    def map(self, mapping: Mapping[Node, Node]) -> Graph:
        """A copy whose results are looked up in ``mapping``."""
        return self.with_results(
            [(name, mapping.get(n, n)) for name, n in self.outputs],
            [(home, mapping.get(n, n)) for home, n in self.updates],
        )


def rebuild(node: Node, inputs: Sequence[Node]) -> Node:
    """``node`` with other inputs of the same types."""
    if tuple(inputs) == node.inputs:
        return node
    return make(node.op, inputs, node.attrs, node.type, node.where)


def substitute(roots: Iterable[Node], mapping: Mapping[Node, Node]) -> dict[Node, Node]:
    """Old node -> new node for everything reachable from ``roots`` after replacing the keys of ``mapping``."""
    done: dict[Node, Node] = dict(mapping)
    for node in toposort(roots):
        if node not in done:
            done[node] = rebuild(node, [done[i] for i in node.inputs])
    return done


def rewrite(graph: Graph, rule: Callable[[Node, tuple[Node, ...]], Node]) -> Graph:
    """Rebuild bottom-up: ``rule(old, new_inputs)`` returns the replacement of each node."""
    done: dict[Node, Node] = {}
    for node in graph.nodes():
        done[node] = rule(node, tuple(done[i] for i in node.inputs))
    return graph.map(done)


def reintern(graph: Graph) -> Graph:
    """The same graph made of nodes of the current session, nested graphs too."""
    done: dict[Node, Node] = {}
    for node in (*graph.leaves(), *graph.nodes()):
        if node not in done:
            attrs = {k: reintern(v) if isinstance(v, Graph) else v for k, v in node.attrs.items()}
            done[node] = make(node.op, [done[i] for i in node.inputs], attrs, node.type, node.where)
    return Graph(
        tuple(done[n] for n in graph.inputs),
        tuple((name, done[n]) for name, n in graph.outputs),
        tuple((done[home], done[n]) for home, n in graph.updates),
        graph.name,
    )


def users(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """Node -> the nodes that read it, in order."""
    found: dict[Node, list[Node]] = {}
    for node in nodes:
        found.setdefault(node, [])
        for i in dict.fromkeys(node.inputs):
            found.setdefault(i, []).append(node)
    return found
