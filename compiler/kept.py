"""Plans are kept in the cache folder, beside the code compiled of them, and found by what they were made of.

    graph of a whole step, target, the code that makes plans, numpy   ->   key   ->   <folder>/<key>/plan

The passes behind the optimiser's, and lowering, see nothing but these, so a plan that is found is the plan they would
make, to the last line number: the key is a digest of every node with its attributes, its type and its source line.

An entry is a pickle. It is trusted as the object code beside it is: nobody else can write to the folder, and an entry
that is damaged is made again.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import networkx
import numpy

from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import Constant, Graph, Node, Type, Where, make, session, toposort
from graphnet.compiler.passes import PassRun
from graphnet.compiler.schedule import Plan
from graphnet.compiler.target import Target
from graphnet.kernels.c import cache
from graphnet.kernels.c.threads import usable_cores
from graphnet.kernels.c.toolchain import machine

FORMAT = "1"
"""Part of every key: raised when an entry's form changes."""

FILE = "plan"
LARGEST = 16 << 20
"""Bytes beyond which a plan is not kept: it holds large constants, which its C text needs as well."""

SOURCES = cache.sources(Path(__file__).parent, Path(cache.__file__).parent.parent)
"""The code that makes plans and folds constants, by its files as they were when it was loaded."""

READ_BY_NUMPY = ("NPY_", "OPENBLAS_", "MKL_", "OMP_")
"""How the names of environment variables begin on which the last bits of a folded constant may depend."""


@dataclass(frozen=True)
class Made:
    """A plan, and what the passes behind the optimiser's had to say."""

    plan: Plan
    trail: tuple[PassRun, ...]
    declined: tuple[str, ...]


def recall(graph: Graph, target: Target, finish: Callable[[], Made]) -> Made:
    """What ``finish`` makes of ``graph`` for ``target``: as it was kept, or made now and kept.

    Raises BackendError, one line, if the folder cannot be used.
    """
    key = digest(graph, target)
    try:
        data = cache.read(key, FILE)
        if data is not None:
            found: Made = thaw(data)
            return replace(found, trail=tuple(replace(run, kept=True) for run in found.trail))
        new = finish()
        data = freeze(new)
        if len(data) <= LARGEST:
            cache.obtain(key, functools.partial(_write, data), FILE)
    except cache.ToolchainError as error:
        raise BackendError(str(error)) from None
    return new


def _write(data: bytes, work: Path) -> None:
    (work / FILE).write_bytes(data)


# -- keys ---------------------------------------------------------------------------------------------


def digest(graph: Graph, target: Target) -> str:
    """The key of the plan of ``graph`` for ``target``, made by this code on this machine."""
    settings = sorted(item for item in os.environ.items() if item[0].startswith(READ_BY_NUMPY))
    versions = (sys.version, numpy.__version__, networkx.__version__)
    facts = (FORMAT, SOURCES, *versions, machine(), usable_cores(), settings, target.identity, _plain(graph))
    return hashlib.sha256(repr(facts).encode(errors="backslashreplace")).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """A graph or an attribute as values whose ``repr`` says all of it."""
    if isinstance(value, Graph):
        nodes, *results = _rows(value)
        return [_plain_node(*node) for node in nodes], results
    if isinstance(value, Constant):
        return hashlib.sha256(value.data).hexdigest(), value.shape, value.dtype
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def _plain_node(
    op: str, inputs: Sequence[int], attrs: Mapping[str, Any], type_: Type | tuple[Type, ...], where: Where
) -> tuple[Any, ...]:
    items = [(name, _plain(attrs[name])) for name in sorted(attrs)]
    types = [(t.dtype, t.shape) for t in type_] if isinstance(type_, tuple) else (type_.dtype, type_.shape)
    return op, inputs, items, types, (where.file, where.line, where.scope)


# -- entries ------------------------------------------------------------------------------------------


def freeze(value: Any) -> bytes:
    """A plan, or what holds one, as bytes."""
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(value)
    return file.getvalue()


def thaw(data: bytes) -> Any:
    """What was frozen, its nodes interned in a session of their own."""
    with session():
        return pickle.loads(data)


class _Pickler(pickle.Pickler):
    """Records as calls with their fields, which are read much faster; graphs flat, as chains of nodes can be long."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind is Graph:
            return _graph, _rows(value)
        return (kind, tuple(getattr(value, f) for f in _fields(kind))) if is_dataclass(kind) else NotImplemented


@functools.cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


def _rows(graph: Graph) -> tuple[Any, ...]:
    """A graph's nodes, each with numbers of earlier ones as its inputs, and the rest of it with such numbers."""
    nodes = toposort([*graph.inputs, *(home for home, _ in graph.updates), *graph.roots()])
    index = {node: i for i, node in enumerate(nodes)}
    return (
        [(n.op, tuple([index[i] for i in n.inputs]), n.attrs, n.type, n.where) for n in nodes],
        tuple(index[n] for n in graph.inputs),
        tuple((name, index[n]) for name, n in graph.outputs),
        tuple((index[home], index[n]) for home, n in graph.updates),
        graph.name,
    )


def _graph(
    rows: Sequence[tuple[Any, ...]],
    inputs: Sequence[int],
    outputs: Sequence[tuple[str, int]],
    updates: Sequence[tuple[int, int]],
    name: str,
) -> Graph:
    """The graph of :func:`_rows`."""
    nodes: list[Node] = []
    for op, operands, attrs, type_, where in rows:
        nodes.append(make(op, [nodes[i] for i in operands], attrs, type_, where))
    return Graph(
        tuple(nodes[i] for i in inputs),
        tuple((key, nodes[i]) for key, i in outputs),
        tuple((nodes[home], nodes[i]) for home, i in updates),
        name,
    )
