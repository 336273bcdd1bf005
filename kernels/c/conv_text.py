"""Lines of C for loops over images and windows: shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterable

from graphnet.kernels.c.view import View

RANGES = """\
/* Outputs o in [first, stop) are those below count for which o * stride + offset lies in [0, size). */
GN_INLINE long gn_first(long offset, long stride) { return offset < 0 ? (stride - 1 - offset) / stride : 0; }
GN_INLINE long gn_stop(long size, long count, long offset, long stride)
{
    const long stop = offset < size ? (size - 1 - offset) / stride + 1 : 0;
    return stop < count ? stop : count;
}
"""


def indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" if line else line for line in lines]


def block(head: str, lines: Iterable[str]) -> list[str]:
    """A statement with its body, in braces unless that is one line."""
    inner = indent(lines)
    return [head, *inner] if len(inner) == 1 else [f"{head} {{", *inner, "}"]


def loop(variable: str, count: int | str, lines: Iterable[str], step: int | str = 1) -> list[str]:
    """A loop from 0 to count."""
    advance = f"++{variable}" if step == 1 else f"{variable} += {step}"
    return block(f"for (long {variable} = 0; {variable} < {count}; {advance})", lines)


def downwards(variable: str, count: int, lines: Iterable[str]) -> list[str]:
    """A loop from count - 1 to 0."""
    return block(f"for (long {variable} = {count - 1}; {variable} >= 0; --{variable})", lines)


def unit_axis(shape: tuple[int, ...]) -> int:
    """What is dealt to threads: images, or the channels of a single large image."""
    return 1 if shape[0] == 1 and shape[1] * shape[2] * shape[3] > 1 << 16 else 0


def part(view: View, axis: int, unit: str = "u") -> str:
    """Pointer to what a unit has of a view."""
    step = view.strides[axis]
    return f"{view.name} + {unit} * {step}L" if step else view.name


def packed(view: View, axis: int) -> bool:
    """What a unit has of a view lies in order, without gaps."""
    return View(view.name, view.dtype, view.shape[axis + 1 :], view.strides[axis + 1 :]).contiguous
