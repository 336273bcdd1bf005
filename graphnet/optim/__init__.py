"""Optimisers, whose updates are part of the compiled step, and learning rate schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphnet.compiler.errors import NameError_
from graphnet.optim import schedules
from graphnet.optim.base import Optimizer
from graphnet.optim.rules import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "from_config",
    "schedules",
]

_CLASSES = {rule.__name__: rule for rule in (SGD, Adagrad, Adadelta, RMSprop, Adam, AdamW)}


def from_config(config: Mapping[str, Any]) -> Optimizer:
    """The optimiser whose ``config()`` this is; raises NameError for an unknown name or hyperparameter."""
    if config["name"] not in _CLASSES:
        raise NameError_(f"optimizer {config['name']!r} is not one of {', '.join(_CLASSES)}")
    return _CLASSES[config["name"]].restore(config)
