"""Images of handwritten digits: MNIST, and scikit-learn's small set for places without a network."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphnet.compiler.errors import DataError
from graphnet.data import sources
from graphnet.data.batching import permutation
from graphnet.data.embedded import sklearn_datasets
from graphnet.data.fetch import Found, describe, fetch
from graphnet.data.records import Dataset

_DIGITS_TEST = 360
_UBYTE = 0x08


def mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits.

    x is float32 (N, 1, 28, 28) in 0..1 (the bytes divided by 255), y int32 (N,) in 0..9, in the files' order.
    Raises DataError. Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    wanted = (
        sources.MNIST_TRAIN_IMAGES,
        sources.MNIST_TRAIN_LABELS,
        sources.MNIST_TEST_IMAGES,
        sources.MNIST_TEST_LABELS,
    )
    found = [fetch(source, data_dir) for source in wanted]
    x_train, y_train, x_test, y_test = (parse_idx(file) for file in found)
    return Dataset(
        _pixels(x_train),
        y_train.astype(np.int32),
        _pixels(x_test),
        y_test.astype(np.int32),
        "mnist",
        describe(*found),
    )


def parse_idx(file: Found) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes: two zero bytes, type, rank, big-endian sizes, data."""
    contents = file.contents
    rank = contents[3] if len(contents) >= 4 else 0
    start = 4 + 4 * rank
    if len(contents) < max(start, 8) or contents[:3] != bytes((0, 0, _UBYTE)):
        raise DataError(f"{file.path}: not an IDX file of unsigned bytes: replace it with the genuine file")
    shape = tuple(int(size) for size in np.frombuffer(contents, dtype=">u4", count=rank, offset=4))
    expected = start + int(np.prod(shape, dtype=object))
    if len(contents) != expected:
        raise DataError(
            f"{file.path}: holds {len(contents):,} bytes where shape {shape} needs {expected:,}: "
            "replace it with the genuine file"
        )
    return np.frombuffer(contents, dtype=np.uint8, offset=start).reshape(shape)


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.divide(images[:, None], np.float32(255), dtype=np.float32)


def digits() -> Dataset:
    """scikit-learn's 1,797 digits in MNIST's form, needing neither network nor files.

    The 8 x 8 images are enlarged bilinearly to x float32 (N, 1, 28, 28) in 0..1; y is int32 (N,) in 0..9.
    1,437 images train and 360 test: the same ones in every run and on every machine, each digit in
    proportion, in the original order. Raises DataError without scikit-learn. Source: Alpaydin and Kaynak,
    "Optical Recognition of Handwritten Digits", UCI repository.
    """
    bunch = sklearn_datasets("digits").load_digits()
    enlarge = _bilinear(8, 28)
    small = np.asarray(bunch.images, dtype=np.float64) / 16
    x = (enlarge @ small @ enlarge.T).astype(np.float32)[:, None]
    y = np.asarray(bunch.target, dtype=np.int32)
    test = _stratified(y, _DIGITS_TEST)
    return Dataset(x[~test], y[~test], x[test], y[test], "digits", "scikit-learn's load_digits")


def _bilinear(size: int, larger: int) -> NDArray[np.float64]:
    """Interpolation matrix (larger, size) between pixel centres; the edge pixels continue outwards."""
    centres = np.clip((np.arange(larger) + 0.5) * size / larger - 0.5, 0, size - 1)
    distance = np.abs(centres[:, None] - np.arange(size)[None, :])
    return np.maximum(0.0, 1.0 - distance)


def _stratified(labels: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Mask of ``count`` examples in which every class has its share, rounded by largest remainder."""
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * count / labels.size
    quota = np.floor(shares).astype(np.int64)
    largest = np.argsort(quota - shares, kind="stable")[: count - int(quota.sum())]
    quota[largest] += 1
    mask: NDArray[Any] = np.zeros(labels.size, dtype=bool)
    for label, size, chosen in zip(classes, sizes, quota, strict=True):
        members = np.flatnonzero(labels == label)
        mask[members[permutation(int(size), seed=0, epoch=int(label))[:chosen]]] = True
    return mask
