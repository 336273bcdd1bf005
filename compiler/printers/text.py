"""What all printers share: how numbers, shapes, attributes, names and source lines are written.

Nothing written here depends on the run: no addresses, hashes, times or folders of this machine.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphnet.compiler.ir import NOWHERE, Constant, Graph, Node, Type, Where, is_leaf
from graphnet.compiler.ops.control import bodies

_STRUCT = {"bool": "?", "uint8": "B", "int32": "i", "int64": "q", "uint32": "I", "uint64": "Q"}
_STRUCT |= {"float32": "f", "float64": "d"}

# Attributes that a printer shows in another way, or that only keep nodes apart.
HIDDEN = frozenset({"name", "role", "depth", "value", "index", "body", "then", "orelse"})

# Values that mean "as if the attribute were not there".
_NEUTRAL = {"dilation": 1, "groups": 1, "padding": 0, "stride": 1, "steps": 1, "keepdims": False}
_NEUTRAL |= {"reverse": False, "descending": False, "carries": 0, "xs": 0, "stacks": 0, "sums": 0}


def clean(name: str) -> str:
    """``name`` on one line: line ends and other characters that do not print are escaped."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def count(n: int) -> str:
    """An integer with thousands separated: 51,200."""
    return f"{n:,}"


def plural(n: int, what: str, several: str = "") -> str:
    """``1 step``, ``2 steps``."""
    return f"{count(n)} {what if n == 1 else several or what + 's'}"


def number(value: Any) -> str:
    """A number with six significant digits at most."""
    return format(value, ".6g") if isinstance(value, float) else str(value)


def shape(sizes: Sequence[int]) -> str:
    """(100,784) or (10,) or ()."""
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({','.join(map(str, sizes))})"


def type_(value: Type) -> str:
    """(100,784) float32."""
    return f"{shape(value.shape)} {value.dtype}"


def several(found: Iterable[str]) -> str:
    """Texts in a row, equal neighbours counted: ``2 x (16,) float32, (3,) bool``."""
    runs = [(text, len(list(same))) for text, same in itertools.groupby(found)]
    return ", ".join(text if n == 1 else f"{n} x {text}" for text, n in runs)


def types(node: Node) -> str:
    """The type of a node; several different ones in brackets."""
    found = list(map(type_, node.types))
    return several(found) if len(set(found)) == 1 else f"[{several(found)}]"


def literal(value: Constant) -> str | None:
    """The number an array of one element holds, else None."""
    code = _STRUCT[value.dtype]
    if len(value.data) != struct.calcsize(f"<{code}"):
        return None
    return number(struct.unpack(f"<{code}", value.data)[0])


def attribute(value: Any) -> str:
    """An attribute's value on one line."""
    if isinstance(value, tuple):
        inner = ",".join(map(attribute, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if value is None or isinstance(value, (bool, int, float)):
        return number(value)
    if isinstance(value, Constant):
        return literal(value) or f"{shape(value.shape)} {value.dtype}"
    return clean(value) if isinstance(value, str) else type(value).__name__


def attributes(attrs: Mapping[str, Any], result: Type | None = None) -> dict[str, str]:
    """The attributes worth reading, sorted by name: none that says nothing, or what the type ``result`` says."""
    found = {name: attrs[name] for name in sorted(attrs) if name not in HIDDEN}
    found = {name: value for name, value in found.items() if not _says_nothing(name, value)}
    if result is not None:
        told = {"shape": result.shape, "sizes": result.shape, "dtype": result.dtype}
        found = {name: value for name, value in found.items() if told.get(name) != value}
    return {name: attribute(value) for name, value in found.items()}


def _says_nothing(name: str, value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_says_nothing(name, v) for v in value)
    return name in _NEUTRAL and bool(value == _NEUTRAL[name])


def within(graph: Graph) -> list[Node]:
    """Every node of a graph, those of nested graphs after the one that holds them, unused leaves last."""
    found: list[Node] = []
    for node in graph.nodes():
        found.append(node)
        for body in bodies(node):
            found += within(body)
    return list(dict.fromkeys((*found, *graph.leaves())))


def origin(node: Node) -> Where:
    """The user line to show for a node.

    None for leaves that no line declares, and none for plain numbers: one node stands for all equal ones, so that
    its line is only that of the first.
    """
    if is_leaf(node) and node.attrs["role"] not in ("param", "state", "slot"):
        return NOWHERE
    if node.op == "constant" and node.out.size == 1:
        return NOWHERE
    return node.where


class Places:
    """Writes source lines as ``lenet.py:14``: each file by the shortest end of its path that is its own."""

    def __init__(self, wheres: Iterable[Where]) -> None:
        paths = {w.file: _parts(w.file) for w in wheres if w.line}
        self._names = {
            file: clean("/".join(_own_end(parts, [p for p in paths.values() if p != parts])))
            for file, parts in paths.items()
        }

    @classmethod
    def of(cls, graph: Graph) -> Places:
        return cls(origin(n) for n in within(graph))

    def __call__(self, where: Where) -> str:
        """``lenet.py:14``, or nothing for a node that no user line made."""
        return f"{self._names[where.file]}:{where.line}" if where.line else ""

    def at(self, where: Where) -> str:
        """``  at lenet.py:14``, or nothing."""
        return f"  at {self(where)}" if where.line else ""


def _parts(file: str) -> tuple[str, ...]:
    return tuple(part for part in file.replace("\\", "/").split("/") if part not in ("", ".")) or (file,)


def _own_end(parts: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    least = 2 if parts[-1] == "__init__.py" else 1
    for length in range(least, len(parts)):
        if all(other[-length:] != parts[-length:] for other in others):
            return parts[-length:]
    return parts
