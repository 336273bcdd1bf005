"""The data sets by name, for the command line and for scripts that take a name."""

from __future__ import annotations

import os
from collections.abc import Callable

from graphnet.compiler.errors import DataError
from graphnet.data.images import digits, mnist
from graphnet.data.records import Dataset, Text
from graphnet.data.suggest import suggest
from graphnet.data.tables import diabetes, housing
from graphnet.data.texts import python_topics, shakespeare

_Folder = str | os.PathLike[str] | None

_LOADERS: dict[str, Callable[[_Folder], Dataset | Text]] = {
    "mnist": mnist,
    "housing": housing,
    "shakespeare": shakespeare,
    "tinyshakespeare": lambda data_dir: shakespeare(data_dir, edition="tinyshakespeare"),
    "digits": lambda data_dir: digits(),
    "diabetes": lambda data_dir: diabetes(),
    "topics": lambda data_dir: python_topics(),
}

NAMES = tuple(_LOADERS)


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset | Text:
    """The data set called ``name``, one of ``NAMES``.

    ``data_dir`` is where to look first for the sets that lie in files; digits, diabetes and topics have none.
    Raises DataError for an unknown name, and as the set's own loader does.
    """
    if name not in NAMES:
        raise DataError(f"load: {suggest('data set', name, NAMES)}")
    return _LOADERS[name](data_dir)
