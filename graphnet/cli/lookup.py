"""The reference models, their recipes and their data, by name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphnet import data
from graphnet.compiler.errors import DataError, NameError_
from graphnet.data.suggest import suggest

# Models import graphnet, never the other way round: here they are found by what is installed.
_PACKAGE = f"{__name__.partition('.')[0]}.models"


@dataclass(frozen=True)
class Model:
    """A reference model: its function and one of its recipes."""

    name: str
    function: Callable[..., Any]
    recipe_name: str
    recipe: Mapping[str, Any]

    @property
    def embedded(self) -> str:
        """The data set that needs no network."""
        return str(self.recipe["embedded"]["data"])

    def with_data(self, chosen: str | None, data_dir: str | None) -> tuple[Model, data.Dataset | data.Text]:
        """The model with its data: the chosen set, the real one if a folder is given, else the embedded one.

        On the embedded one the recipe changes as it says.
        """
        name = chosen or (str(self.recipe["data"]) if data_dir else self.embedded)
        differs = self.recipe["embedded"] if name == self.embedded else {"data": name}
        found = load_data(name, data_dir, self.recipe["task"])
        return replace(self, recipe={**self.recipe, **differs}), found


def model_names() -> list[str]:
    """The names of the reference models."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    return sorted(module.name for module in pkgutil.iter_modules(folders))


def find_model(name: str, recipe: str | None = None) -> Model:
    """The model called ``name`` with its default recipe or another; raises NameError with what there is."""
    if name not in model_names():
        raise NameError_(suggest("model", name, model_names()))
    module = importlib.import_module(f"{_PACKAGE}.{name}")
    recipes: dict[str, Any] = module.RECIPES
    chosen = recipe or next(iter(recipes))
    if chosen not in recipes:
        raise NameError_(f"{name}: {suggest('recipe', chosen, recipes)}")
    return Model(name, getattr(module, name), chosen, recipes[chosen])


def load_data(name: str, data_dir: str | None, task: str) -> data.Dataset | data.Text:
    """A data set by name, or for language models any text file."""
    if task == "text" and name not in data.NAMES and Path(name).suffix and not Path(name).exists():
        raise DataError(f"{name}: there is no such file, nor a data set of that name ({', '.join(data.NAMES)})")
    if task == "text" and name not in data.NAMES and Path(name).is_file():
        try:
            text = Path(name).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise DataError(f"{name}: {reason}: name a readable text file") from None
        path = os.path.abspath(name)
        return data.Text(text, path, path)
    return data.load(name, data_dir)
