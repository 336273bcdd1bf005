"""Einstein summation as transposes, reshapes and matrix products.

einsum("bij,bjk->bik", x, y)     each pair of operands, in the order numpy.einsum_path finds:
    labels of both, kept         batch axes of the product
    labels of both, not kept     the inner axis
    labels of one                its rows or columns; summed first if nothing else needs them
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphnet.compiler import build as b
from graphnet.compiler.errors import ShapeError
from graphnet.compiler.ir import Node
from graphnet.functions.arguments import countable, node
from graphnet.functions.linalg import diagonal_of, product
from graphnet.tensor import traced

Term = tuple[Node, str]


@traced
def einsum(subscripts: str, *operands: Any) -> Node:
    """Sum of products over labelled axes, as numpy.einsum: "ij,jk->ik", "ii->i", "...ij->...ji", "ij,jk"."""
    if not isinstance(subscripts, str):
        raise ShapeError(f"the first argument is the subscripts, a string, got {type(subscripts).__name__}")
    if not operands:
        raise ShapeError(f'"{subscripts}" has no operands')
    nodes = b.operands(*map(node, operands))
    labels, out = _parse(subscripts.replace(" ", ""), nodes)
    sizes = _sizes(labels, nodes)
    for label in out:
        if label not in sizes:
            raise ShapeError(f'"{subscripts}": result label {label!r} is in no operand')
    terms = [_diagonals(x, names) for x, names in zip(nodes, labels, strict=True)]
    for picked in _order(labels, nodes, out):
        chosen = [terms.pop(i) for i in sorted(picked, reverse=True)][::-1]
        needed = set(out).union(*(names for _, names in terms))
        terms.append(_fold(chosen, needed))
    return _arrange(*_keep(terms[0], set(out)), out, sizes)


def _parse(subscripts: str, nodes: Sequence[Node]) -> tuple[list[str], str]:
    """Labels of each operand and of the result, with ``...`` replaced by labels of their own."""
    left, arrow, right = subscripts.partition("->")
    terms = left.split(",")
    if len(terms) != len(nodes):
        raise ShapeError(f'"{subscripts}" names {len(terms)} operands, got {len(nodes)}')
    unused = [c for c in string.ascii_letters if c not in subscripts]
    extra = [
        x.ndim - len(term.replace("...", "")) if "..." in term else 0 for term, x in zip(terms, nodes, strict=True)
    ]
    width = max(0, *extra)
    if width > len(unused):
        raise ShapeError(f'"{subscripts}": more axes than letters')
    dots = "".join(unused[:width])
    labels = [term.replace("...", dots[width - n :]) for term, n in zip(terms, extra, strict=True)]
    for term, names, x in zip(terms, labels, nodes, strict=True):
        if len(names) != x.ndim or (not names.isalpha() and names):
            raise ShapeError(f'"{subscripts}": {term!r} does not label the axes of {x.shape}')
    if not arrow:
        once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
        return labels, dots + "".join(once)
    out = right.replace("...", dots)
    if len(set(out)) != len(out) or (out and not out.isalpha()):
        raise ShapeError(f'"{subscripts}": {right!r} is not a list of different labels')
    return labels, out


def _sizes(labels: Sequence[str], nodes: Sequence[Node]) -> dict[str, int]:
    """Size of each label; size 1 broadcasts."""
    sizes: dict[str, int] = {}
    for names, x in zip(labels, nodes, strict=True):
        for name, n in zip(names, x.shape, strict=True):
            if sizes.setdefault(name, n) == 1:
                sizes[name] = n
            if n not in (1, sizes[name]):
                raise ShapeError(f"label {name!r} has sizes {sizes[name]} and {n}")
    return sizes


def _order(labels: Sequence[str], nodes: Sequence[Node], out: str) -> list[tuple[int, ...]]:
    """Which operands to contract in turn; results go to the end of the list."""
    if len(nodes) <= 2:
        return [tuple(range(len(nodes)))]
    # einsum_path looks at shapes only: broadcast zeros take no memory
    stand_ins = [np.broadcast_to(np.zeros(()), x.shape) for x in nodes]
    strategy = "optimal" if len(nodes) <= 4 else "greedy"
    path = np.einsum_path(",".join(labels) + "->" + out, *stand_ins, optimize=strategy)[0][1:]
    return [tuple(step) for step in path]


def _diagonals(x: Node, names: str) -> Term:
    """A label that names several axes stands for their diagonal."""
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            if x.shape[first] != x.shape[second]:
                one = first if x.shape[first] == 1 else second
                x = b.reshape(x, x.shape[:one] + x.shape[one + 1 :])
                names = names[:one] + names[one + 1 :]
                continue
            x = diagonal_of(x, first, second)
            names = "".join(c for i, c in enumerate(names) if i not in (first, second)) + name
    return x, names


def _fold(terms: list[Term], needed: set[str]) -> Term:
    """All operands of a step into one, two at a time."""
    term = terms[0]
    for i, other in enumerate(terms[1:], 2):
        later = needed.union(*(names for _, names in terms[i:]))
        term = _contract(term, other, later)
    return _keep(term, needed)


def _keep(term: Term, needed: set[str]) -> Term:
    """Sum over the labels nothing needs."""
    x, names = term
    axes = [i for i, name in enumerate(names) if name not in needed]
    if axes:
        x = b.sum_(countable(x), axes)
    return x, "".join(name for name in names if name in needed)


def _contract(first: Term, second: Term, needed: set[str]) -> Term:
    first, second = _drop_ones(first, second), _drop_ones(second, first)
    x, left = _keep(first, needed | set(second[1]))
    y, right = _keep(second, needed | set(left))
    shared = [name for name in left if name in right]
    batch = [name for name in shared if name in needed]
    inner = [name for name in shared if name not in needed]
    rows = [name for name in left if name not in right]
    columns = [name for name in right if name not in left]
    if not inner or not (rows or columns):
        names = [*batch, *rows, *columns, *inner]
        both = b.mul(_spread(x, left, names), _spread(y, right, names))
        return _keep((both, "".join(names)), needed)
    sizes = dict(zip(right, y.shape, strict=True)) | dict(zip(left, x.shape, strict=True))
    a = _grouped(x, left, [batch, rows, inner], sizes)
    c = _grouped(y, right, [batch, inner, columns], sizes)
    z = product(a, c) if batch else product(b.reshape(a, a.shape[1:]), b.reshape(c, c.shape[1:]))
    names = [*batch, *rows, *columns]
    return b.reshape(z, [sizes[name] for name in names]), "".join(names)


def _drop_ones(term: Term, other: Term) -> Term:
    """Without the size-1 axes that broadcast against the other operand's."""
    (x, names), (y, theirs) = term, other
    wide = {name for name, n in zip(theirs, y.shape, strict=True) if n != 1}
    drop = [i for i, name in enumerate(names) if x.shape[i] == 1 and name in wide]
    kept = [i for i in range(len(names)) if i not in drop]
    return b.reshape(x, [x.shape[i] for i in kept]), "".join(names[i] for i in kept)


def _grouped(x: Node, names: str, groups: Sequence[Sequence[str]], sizes: dict[str, int]) -> Node:
    """One axis for each group of labels."""
    order = [names.index(name) for group in groups for name in group]
    shape = [int(np.prod([sizes[name] for name in group], dtype=np.int64)) for group in groups]
    return b.reshape(b.transpose(x, order), shape)


def _spread(x: Node, names: str, wanted: Sequence[str]) -> Node:
    """Axes in the order of ``wanted``, size 1 where x has no such label."""
    x = b.transpose(x, [names.index(name) for name in wanted if name in names])
    return b.expand(x, [i for i, name in enumerate(wanted) if name not in names])


def _arrange(x: Node, names: str, out: str, sizes: dict[str, int]) -> Node:
    x = b.transpose(x, [names.index(name) for name in out])
    return b.broadcast_to(x, [sizes[name] for name in out])
