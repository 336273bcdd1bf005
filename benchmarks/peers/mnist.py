"""MNIST as the training scripts of the peers read it."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

BATCH, RATE, SPREAD = 100, 0.5, 0.1


def images(path: Path) -> np.ndarray:
    """(N, 784), float32 in 0..1."""
    data = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
    return np.divide(data.reshape(-1, 784), np.float32(255), dtype=np.float32)


def labels(path: Path) -> np.ndarray:
    """(N,), the digits as int64."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=8).astype(np.int64)


def load(folder: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels."""
    place = Path(folder)
    train = images(place / "train-images-idx3-ubyte.gz"), labels(place / "train-labels-idx1-ubyte.gz")
    return *train, images(place / "t10k-images-idx3-ubyte.gz"), labels(place / "t10k-labels-idx1-ubyte.gz")
