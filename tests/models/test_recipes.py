"""Every reference model holds complete recipes, and runs as a script of its own."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

import graphnet as gn
from graphnet.train import Run

MODELS = ("linreg", "softmax", "mlp", "lenet", "charlm")
PARAMETERS = {"linreg": 11, "softmax": 7_850, "mlp": 50_890, "lenet": 431_080}
REQUIRED = {"task", "data", "embedded", "batch_size", "epochs", "loss", "optimizer", "lr"}
OPTIONAL = {"dtype", "options", "shuffle", "steps", "loss_terms"}


def module(name: str) -> Any:
    return importlib.import_module(f"graphnet.models.{name}")


@pytest.mark.parametrize("name", MODELS)
def test_recipes_have_every_field_and_no_unknown_one(name: str) -> None:
    """A recipe names its task, data, batch, epochs, loss, optimiser and rate; the first one is the default."""
    recipes = module(name).RECIPES
    assert next(iter(recipes.values())) is module(name).RECIPE
    for recipe in recipes.values():
        assert REQUIRED <= set(recipe) <= REQUIRED | OPTIONAL
        assert recipe["data"] in gn.data.NAMES
        assert recipe["embedded"]["data"] in gn.data.NAMES
        assert set(recipe["embedded"]) <= {"data", "lr", "epochs"}
        assert isinstance(recipe["optimizer"](recipe["lr"]), gn.optim.Optimizer)


@pytest.mark.parametrize("name", PARAMETERS)
def test_models_have_the_sizes_of_the_seed_documents(name: str) -> None:
    """The numbers of parameters follow from the layers that the tutorial lists."""
    recipe = module(name).RECIPE
    run = Run(getattr(module(name), name), recipe, gn.data.load(recipe["embedded"]["data"]))
    assert sum(array.size for array in run.net.params.values()) == PARAMETERS[name]


def test_charlm_has_the_sizes_of_the_slides() -> None:
    """Embedding 256, one LSTM of 256 units and a projection to the vocabulary, here of 5 characters."""
    net = gn.compile(module("charlm").charlm, gn.spec((2, 3), "int32"), vocabulary=5)
    shapes = {name: array.shape for name, array in net.params.items()}
    assert shapes == {
        "charlm/embedding_1/w": (5, 256),
        "charlm/lstm_1/wx": (256, 1024),
        "charlm/lstm_1/wh": (256, 1024),
        "charlm/lstm_1/b": (1024,),
        "charlm/dense_1/w": (256, 5),
        "charlm/dense_1/b": (5,),
    }


def test_the_summed_loss_is_the_mean_times_the_steps() -> None:
    """Knet7 adds the losses of the 100 steps up, where the default loss averages over them."""
    charlm = module("charlm")
    text = gn.data.Text("to be or not to be, that is the question " * 9, "hamlet", "a test")
    nets = [
        gn.compile(charlm.charlm, gn.spec((2, 100), "int32"), vocabulary=len(text.vocabulary), loss=loss)
        for loss in (gn.losses.softmax_cross_entropy, charlm.summed)
    ]
    (x, y), *_ = gn.data.sequences(text.ids, 2, 100)
    assert nets[1].loss(x, y) == pytest.approx(100 * nets[0].loss(x, y), rel=1e-5)


@pytest.mark.parametrize("name", ["linreg", "softmax", "mlp", "lenet"])
def test_models_run_as_scripts(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m graphnet.models.NAME` trains on the embedded data and prints a line for each epoch."""
    recipe = module(name).RECIPE
    monkeypatch.setitem(recipe, "epochs", 2)
    monkeypatch.setitem(recipe, "embedded", {**recipe["embedded"], "epochs": 2})
    module(name).main()
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("epoch 0")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1", "epoch 2"]
    numbers = [float(re.findall(r"\d+\.\d+", line)[0]) for line in lines]
    assert numbers[1] < numbers[0] if name == "linreg" else numbers[1] > numbers[0]


def test_charlm_runs_as_a_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The language model's script prints loss and perplexity."""
    charlm = module("charlm")
    for key, value in {"epochs": 2, "batch_size": 8, "steps": 10}.items():
        monkeypatch.setitem(charlm.RECIPE, key, value)
    text = gn.data.python_topics().text[:2000]
    monkeypatch.setattr(gn.data, "load", lambda name: gn.data.Text(text, name, "a test"))
    charlm.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all("perplexity" in line for line in lines)
