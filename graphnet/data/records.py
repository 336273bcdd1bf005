"""What the loaders return: ``Dataset`` for arrays of examples, ``Text`` for a text as character ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphnet.compiler.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples and targets, split for training and testing; the first axis of every array counts examples.

    ``name`` is the name ``load`` knows the set by, ``source`` says in words where the contents came from, and
    ``feature_names`` names the columns of a table (empty for images).
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[Any]
    x_test: NDArray[np.float32]
    y_test: NDArray[Any]
    name: str
    source: str
    feature_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        fields = ("x_train", "y_train", "x_test", "y_test")
        arrays = ", ".join(f"{name}={getattr(self, name).dtype}{getattr(self, name).shape}" for name in fields)
        return f"Dataset({self.name}: {arrays}, from {self.source})"


@dataclass(frozen=True, eq=False, repr=False)
class Text:
    """A text and its characters as ids.

    Attributes:
        text: the characters, line ends as they are in the file.
        name: the name ``load`` knows the text by.
        source: where the text came from, in words.
        vocabulary: the distinct characters in code point order; a character's index is its id.
        ids: int32 (len(text),), the id of every character.
    """

    text: str
    name: str
    source: str
    vocabulary: str = field(init=False)
    ids: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        points = _points(self.text)
        seen = np.zeros(0x110000, dtype=bool)
        seen[points] = True
        alphabet = np.flatnonzero(seen)
        table = np.zeros(0x110000, dtype=np.int32)
        table[alphabet] = np.arange(alphabet.size, dtype=np.int32)
        object.__setattr__(self, "vocabulary", "".join(map(chr, alphabet.tolist())))
        object.__setattr__(self, "ids", table[points])

    def __repr__(self) -> str:
        size = f"{len(self.text):,} characters, {len(self.vocabulary)} distinct"
        return f"Text({self.name}: {size}, from {self.source})"

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of the characters of ``text``: int32 (len(text),). DataError for one outside the vocabulary."""
        alphabet, points = _points(self.vocabulary), _points(text)
        ids = np.searchsorted(alphabet, points)
        known = np.zeros(points.size, dtype=bool)
        if alphabet.size:
            known = alphabet[np.minimum(ids, alphabet.size - 1)] == points
        if not known.all():
            at = int(np.argmin(known))
            raise DataError(
                f"{self.name}: encode: character {text[at]!a} at position {at} is not among the "
                f"{alphabet.size} of the vocabulary: remove or replace it"
            )
        return ids.astype(np.int32)

    def decode(self, ids: ArrayLike) -> str:
        """The characters of ``ids``, integers (N,) or one alone. DataError for one outside the vocabulary."""
        array = np.atleast_1d(np.asarray(ids))
        if array.ndim != 1:
            raise DataError(f"{self.name}: decode: ids have shape {array.shape}: decode one row at a time")
        if array.size and array.dtype.kind not in "iu":
            raise DataError(f"{self.name}: decode: ids are {array.dtype}: pass integers")
        size = len(self.vocabulary)
        wrong = np.flatnonzero((array < 0) | (array >= size))
        if wrong.size:
            at = int(wrong[0])
            raise DataError(f"{self.name}: decode: id {array[at]} at position {at}: ids run from 0 to {size - 1}")
        return "".join([self.vocabulary[i] for i in array.tolist()])


def _points(text: str) -> NDArray[np.uint32]:
    """Code points of a string; lone surrogates pass, so that any Python string can be looked up."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
