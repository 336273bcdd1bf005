"""Tables for regression: Boston housing, and scikit-learn's diabetes study for places without a network."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from graphnet.data import sources
from graphnet.data.embedded import sklearn_datasets
from graphnet.data.fetch import describe, fetch
from graphnet.data.records import Dataset


def housing(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Boston housing: x float32 (506, 13) normalised, y float32 (506, 1), the median value in $1000s.

    Each column of x has its mean taken away and is divided by its standard deviation (n - 1), in float64. The
    usual recipe trains on all 506 rows, so nothing is held out: ``x_test`` and ``y_test`` are ``x_train`` and
    ``y_train`` themselves. Raises DataError. Source: Harrison and Rubinfeld (1978), UCI repository.
    """
    found = fetch(sources.HOUSING, data_dir)
    table = np.array(found.contents.split(), dtype=np.float64).reshape(-1, len(sources.HOUSING_FEATURES) + 1)
    return _regression(table[:, :-1], table[:, -1], "housing", describe(found), sources.HOUSING_FEATURES)


def diabetes() -> Dataset:
    """scikit-learn's diabetes study: x float32 (442, 10) normalised as in ``housing``, y float32 (442, 1).

    y is the raw measure of progression after a year (25 to 346), not normalised. As in ``housing``, the test
    arrays are the training arrays. Raises DataError without scikit-learn. Source: Efron et al. (2004), "Least
    angle regression".
    """
    bunch = sklearn_datasets("diabetes").load_diabetes(scaled=False)
    names = tuple(str(name) for name in bunch.feature_names)
    return _regression(bunch.data, bunch.target, "diabetes", "scikit-learn's load_diabetes", names)


def _regression(
    x: NDArray[np.float64], y: NDArray[np.float64], name: str, source: str, features: tuple[str, ...]
) -> Dataset:
    normalised = ((x - x.mean(axis=0)) / x.std(axis=0, ddof=1)).astype(np.float32)
    target = y.reshape(-1, 1).astype(np.float32)
    return Dataset(normalised, target, normalised, target, name, source, features)
