"""Convolutions taken apart: rows and columns, and where an index of results or of the kernel leads in the image.

What pixel (n, y, z) of a result and element (c, i, j) of the kernel meet in the image is a sum: its place, its row and
its column each have a part that depends on the one alone and a part that depends on the other alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod

from graphnet.kernels.cuda.gemm_load import NEAR, times
from graphnet.kernels.cuda.phase import index_type
from graphnet.kernels.text.view import Attrs, View


@dataclass(frozen=True, slots=True)
class Axis:
    """Rows or columns of a convolution: how many there are in image, result and kernel.

    Element i of the kernel meets ``image[y * stride + i * dilation - before]`` for ``result[y]``.
    """

    image: int
    result: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def padded(self) -> bool:
        return self.before > 0 or self.after > 0

    @property
    def step(self) -> int:
        """Pixels whose numbers leave the same residue by the stride meet every ``step``-th element of the kernel."""
        return self.stride // gcd(self.stride, self.dilation)

    @property
    def pace(self) -> int:
        """How far apart in the result a pixel meets these elements."""
        return self.step * self.dilation // self.stride

    @property
    def residues(self) -> int:
        return min(self.stride, self.image)

    @property
    def taps(self) -> int:
        """Elements of the kernel that pixels of one residue meet, at most."""
        return -(-self.kernel // self.step)

    @property
    def pixels(self) -> int:
        """Pixels of one residue, at most."""
        return -(-self.image // self.stride)

    def first(self, residue: int) -> tuple[int, int]:
        """The first element that pixels of a residue meet, and where pixel 0 of these does in the result.

        The element is the kernel's size if there is none.
        """
        for i in range(min(self.step, self.kernel)):
            if (residue + self.before - i * self.dilation) % self.stride == 0:
                return i, (residue + self.before - i * self.dilation) // self.stride
        return self.kernel, 0

    @property
    def partial(self) -> bool:
        """Whether pixels of some residue meet fewer elements than ``taps``."""
        return any(self.first(r)[0] + (self.taps - 1) * self.step >= self.kernel for r in range(self.residues))


@dataclass(frozen=True, slots=True)
class Conv:
    """The arrays of a convolution, image, weights and result, and its rows and columns."""

    x: View
    w: View
    y: View
    groups: int
    rows: Axis
    columns: Axis

    @property
    def channels(self) -> int:
        """Of the image, in a group."""
        return self.w.shape[1]

    @property
    def outputs(self) -> int:
        """Channels of the result, in a group."""
        return self.w.shape[0] // self.groups

    @property
    def images(self) -> int:
        return self.x.shape[0]

    @property
    def size(self) -> int:
        """Pixels of a channel of the result."""
        return self.rows.result * self.columns.result

    @property
    def kernel(self) -> int:
        """Elements of the kernel for each channel."""
        return self.rows.kernel * self.columns.kernel

    @property
    def reach(self) -> str:
        return index_type(self.x, self.w, self.y)

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to sum."""
        return not (self.x.size and self.w.size and self.y.size)

    @property
    def limits(self) -> tuple[int, ...]:
        """What rows and columns of the image must be below, where the padding is met."""
        return tuple(a.image for a in (self.rows, self.columns) if a.padded)

    @property
    def near(self) -> bool:
        """Whether all rows and columns, those of the padding too, have small numbers."""
        return max(a.image + a.before + a.after for a in (self.rows, self.columns)) < NEAR

    def group(self, stride: int) -> str:
        """Where the group begins of which the unit's product is."""
        return times("entry", stride) if self.groups > 1 else "0"

    def of_result(self, index: str) -> tuple[str, ...]:
        """The part of the place in the image, and of row and column where there is padding, for pixel (n, y, z)."""
        n, y, z = split(index, self.rows.result, self.columns.result)
        found = [scaled(v, a.stride, -a.before) for v, a in ((y, self.rows), (z, self.columns))]
        strides = self.x.strides
        place = add(times(n, strides[0]), times(found[0], strides[2]), times(found[1], strides[3]))
        return add(place, self.group(self.channels * strides[1])), *self._padded(found)

    def of_kernel(self, index: str) -> tuple[str, ...]:
        """The other part, for element (c, i, j) of the kernel."""
        c, i, j = split(index, self.rows.kernel, self.columns.kernel)
        found = [times(v, a.dilation) for v, a in ((i, self.rows), (j, self.columns))]
        strides = self.x.strides
        down, across = times(i, self.rows.dilation * strides[2]), times(j, self.columns.dilation * strides[3])
        return add(times(c, strides[1]), down, across), *self._padded(found)

    def _padded(self, found: list[str]) -> list[str]:
        return [text for text, axis in zip(found, (self.rows, self.columns), strict=True) if axis.padded]


def conv_of(x: View, w: View, y: View, attrs: Attrs) -> Conv:
    """The convolution of ``conv2d``'s attrs between these arrays."""
    stride, dilation, padding = attrs["stride"], attrs["dilation"], attrs["padding"]
    rows, columns = (
        Axis(x.shape[2 + a], y.shape[2 + a], w.shape[2 + a], stride[a], dilation[a], *padding[a]) for a in (0, 1)
    )
    return Conv(x, w, y, attrs["groups"], rows, columns)


def in_order(view: View, axes: slice) -> bool:
    """Whether these axes count through elements that lie side by side."""
    sizes, strides = view.shape[axes], view.strides[axes]
    return all(n == 1 or s == prod(sizes[a + 1 :]) for a, (n, s) in enumerate(zip(sizes, strides, strict=True)))


# -- C expressions


def add(*terms: str) -> str:
    """The sum of terms that are products or quotients."""
    return " + ".join(t for t in terms if t != "0") or "0"


def split(index: str, *sizes: int) -> list[str]:
    """The places of an index along a first axis and axes of these sizes, through which it counts."""
    below = 1
    found: list[str] = []
    for size in reversed(sizes):
        high = index if below == 1 else f"{index} / {below}"
        found.insert(0, "0" if size == 1 else f"({high} % {size})")
        below *= size
    return [index if below == 1 else f"({index} / {below})", *found]


def scaled(index: str, factor: int, shift: int) -> str:
    """index * factor + shift, as one term."""
    text = times(index, factor)
    if not shift:
        return text if text == "0" else f"({text})"
    return f"({shift})" if text == "0" else f"({text} {'+' if shift > 0 else '-'} {abs(shift)})"
