"""The files behind the data sets: their place under a data folder, their addresses, what they must hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One file: its place under a data folder, its public addresses, and its genuine contents.

    ``length`` (bytes) and ``sha256`` are those of the contents after decompression, so a file that was packed
    again still passes. Both are None where any edition of the text will do.
    """

    file: str
    urls: tuple[str, ...]
    length: int | None
    sha256: str | None

    @property
    def compressed(self) -> bool:
        return self.file.endswith(".gz")


_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def _mnist(name: str, length: int, sha256: str) -> Source:
    return Source(f"mnist/{name}", tuple(mirror + name for mirror in _MNIST_MIRRORS), length, sha256)


MNIST_TRAIN_IMAGES = _mnist(
    "train-images-idx3-ubyte.gz",
    47_040_016,
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
)
MNIST_TRAIN_LABELS = _mnist(
    "train-labels-idx1-ubyte.gz", 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
)
MNIST_TEST_IMAGES = _mnist(
    "t10k-images-idx3-ubyte.gz", 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
)
MNIST_TEST_LABELS = _mnist(
    "t10k-labels-idx1-ubyte.gz", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
)

HOUSING = Source(
    "housing/housing.data",
    ("https://archive.ics.uci.edu/ml/machine-learning-databases/housing/housing.data",),
    49_082,
    "baadf72995725d76efe787b664e1f083388c79ba21ef9a7990d87f774184735a",
)

# Project Gutenberg revises its texts: both addresses serve the edition of the day, so no hash is pinned.
SHAKESPEARE = Source(
    "shakespeare/100.txt",
    ("https://www.gutenberg.org/files/100/100-0.txt", "https://www.gutenberg.org/cache/epub/100/pg100.txt"),
    None,
    None,
)

TINYSHAKESPEARE = Source(
    "shakespeare/tinyshakespeare.txt",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    1_115_394,
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)

HOUSING_FEATURES = (
    *("CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE"),
    *("DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT"),
)
