"""The helpers below the kernels: carving scratch, cutting blocks, windows at an edge."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.kernels.numpy.blocks import blocks
from graphnet.kernels.numpy.scratch import ALIGNMENT, carve, carve_bytes
from graphnet.kernels.numpy.windows import overlap


@pytest.mark.parametrize("offset", [0, 1, 63])
def test_carved_arrays_are_aligned_and_disjoint(offset):
    """Whatever the buffer's own alignment, carve_bytes is enough."""
    specs = [((3, 5), "float32"), ((0, 4), "int64"), ((7,), "uint8"), ((), "float64")]
    scratch = np.empty(carve_bytes(*specs) + 128, np.uint8)[offset:][: carve_bytes(*specs)]
    views = carve(scratch, *specs)
    assert [(v.shape, v.dtype.name) for v in views] == specs
    for i, view in enumerate(views):
        assert view.ctypes.data % ALIGNMENT == 0 or not view.size
        view.fill(i)
    assert all((v == i).all() for i, v in enumerate(views))


def test_carving_too_much_is_an_error():
    """Kernels never write beyond what was planned."""
    with pytest.raises(ValueError, match="scratch of 100 bytes is too small"):
        carve(np.empty(100, np.uint8), ((100,), "float64"))


def test_no_arrays_need_no_scratch():
    """Nothing is reserved for nothing."""
    assert carve_bytes() == 0
    assert carve_bytes(((0, 3), "float32")) == 0


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4, 5), (1, 9, 1), (0, 3), (2, 0)])
@pytest.mark.parametrize("limit", [1, 4, 6, 20, 1000])
def test_blocks_cover_every_element_once(shape, limit):
    """In row-major order, none larger than the limit."""
    x = np.arange(int(np.prod(shape))).reshape(shape)
    seen = [x[index].ravel() for index in blocks(shape, limit)]
    assert all(0 < part.size <= limit for part in seen)
    np.testing.assert_array_equal(np.concatenate([np.empty(0, int), *seen]), x.ravel())


def test_overlap_finds_the_outputs_that_meet_elements():
    """Against trying every output."""
    for size in (1, 2, 5):
        for count in (0, 1, 4):
            for offset in range(-7, 8):
                for stride in (1, 2, 3):
                    met = [(o, o * stride + offset) for o in range(count) if 0 <= o * stride + offset < size]
                    outputs, elements = overlap(size, count, offset, stride)
                    got = list(zip(range(count)[outputs], range(size)[elements], strict=True))
                    assert got == met
