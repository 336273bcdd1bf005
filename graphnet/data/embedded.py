"""The one door to scikit-learn, opened only when a set that comes with it is asked for."""

from __future__ import annotations

import importlib
from types import ModuleType

from graphnet.compiler.errors import DataError


def sklearn_datasets(name: str) -> ModuleType:
    """The module ``sklearn.datasets``; DataError naming the data set when scikit-learn cannot be imported."""
    try:
        return importlib.import_module("sklearn.datasets")
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: needs scikit-learn ({reason}): pip install scikit-learn") from error
