"""Nested lists, tuples, named tuples and dicts of leaves: flatten to a list and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Structure:
    """The shape of a nest: container kind, its keys or length, and the structures inside. Leaves have none."""

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        inner = ", ".join(f"{k!r}: {c}" for k, c in zip(self.keys, self.children, strict=True))
        return f"{self.kind.__name__}({inner})"


LEAF = Structure(None)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """Leaves in order and the structure. Dicts go by sorted key; None is an empty nest."""
    if tree is None:
        return [], Structure(type(None))
    if isinstance(tree, dict):
        keys = tuple(sorted(tree, key=str))
        values = [tree[k] for k in keys]
    elif isinstance(tree, (list, tuple)):
        keys, values = tuple(range(len(tree))), list(tree)
    else:
        return [tree], LEAF
    leaves: list[Any] = []
    children = []
    for value in values:
        found, child = flatten(value)
        leaves += found
        children.append(child)
    return leaves, Structure(type(tree), keys, tuple(children))


def unflatten(structure: Structure, leaves: list[Any]) -> Any:
    """The nest of ``structure`` holding ``leaves``."""
    return _build(structure, iter(leaves))


def _build(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure.kind is None:
        return next(leaves)
    if structure.kind is type(None):
        return None
    values = [_build(child, leaves) for child in structure.children]
    if issubclass(structure.kind, dict):
        return dict(zip(structure.keys, values, strict=True))
    return structure.kind(*values) if hasattr(structure.kind, "_fields") else structure.kind(values)
