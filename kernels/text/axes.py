"""Axes of strided arrays: put in order and merged, and the text of loops and addresses over them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from graphnet.kernels.text.view import View

Strides = tuple[int, ...]
Index = Sequence[str]


@dataclass(frozen=True, slots=True)
class Dim:
    """Neighbouring axes that one loop walks: the last of ``axes`` counts to ``size``, the others stay 0."""

    axes: tuple[int, ...]
    size: int

    @property
    def var(self) -> str:
        return f"i{self.axes[-1]}"


def indent(text: str) -> str:
    """The lines of text moved right by 4 spaces."""
    return "\n".join("    " + line if line else line for line in text.split("\n"))


def loop(var: str, start: int | str, stop: int | str, body: str, step: int = 1) -> str:
    """A ``for`` loop from start to before stop."""
    advance = f"{var}++" if step == 1 else f"{var} += {step}"
    head = f"for (long {var} = {start}; {var} < {stop}; {advance})"
    single = "\n" not in body and body.count(";") == 1
    return f"{head}\n{indent(body)}" if single else f"{head} {{\n{indent(body)}\n}}"


def loops(dims: Iterable[Dim], body: str) -> str:
    """The body inside a loop for each dim, the first outermost."""
    for dim in reversed(list(dims)):
        body = loop(dim.var, 0, dim.size, body)
    return body


def position(ndim: int, values: Iterable[tuple[Dim, str]]) -> list[str]:
    """Index expressions of ndim axes where each dim stands at a value."""
    index = ["0"] * ndim
    for dim, value in values:
        index[dim.axes[-1]] = value
    return index


def offset(strides: Strides, index: Index) -> str:
    """The sum of index times stride, leaving out what is 0."""
    terms = []
    for i, s in zip(index, strides, strict=True):
        if s and i != "0":
            plain = i.isidentifier() or i.isdigit()
            terms.append(i if s == 1 else f"{i} * {s}" if plain else f"({i}) * {s}")
    return " + ".join(terms) or "0"


def at(view: View, index: Index) -> str:
    """The element of a view at index expressions, one for each axis."""
    return f"{view.name}[{offset(view.strides, index)}]"


def spread(view: View, shape: tuple[int, ...]) -> Strides | None:
    """Strides of view broadcast to shape as NumPy does it, or None if it does not broadcast."""
    missing = len(shape) - len(view.shape)
    if missing < 0 or any(n not in (1, m) for n, m in zip(view.shape, shape[missing:], strict=True)):
        return None
    own = (0 if n == 1 else s for n, s in zip(view.shape, view.strides, strict=True))
    return (*(0,) * missing, *own)


def by_stride(shape: tuple[int, ...], strides: Sequence[Strides]) -> list[int]:
    """Axes of other sizes than 1, the widest stride first."""
    axes = [a for a, n in enumerate(shape) if n != 1]
    return sorted(axes, key=lambda a: -max((abs(s[a]) for s in strides), default=0))


def merge(
    shape: tuple[int, ...],
    order: Sequence[int],
    strides: Sequence[Strides],
    key: Callable[[int], Hashable] = lambda axis: None,
) -> list[Dim]:
    """Axes in this order as few loops: neighbours of one key that every array steps through evenly become one."""
    dims: list[Dim] = []
    for a in order:
        last = dims[-1].axes[-1] if dims else a
        if dims and key(last) == key(a) and all(s[last] == s[a] * shape[a] for s in strides):
            dims[-1] = Dim((*dims[-1].axes, a), dims[-1].size * shape[a])
        else:
            dims.append(Dim((a,), shape[a]))
    return dims
