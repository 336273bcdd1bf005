"""The cases: which model in which sizes, its first parameters and its data, as NumPy arrays.

Everything is drawn from fixed seeds and needs no network. The shapes, batches, losses and optimisers are those of
the recipes in ``graphnet.models``, all in float32; the data imitate theirs closely enough that training goes on for
as long as a measurement lasts. Every peer gets the same arrays from one file, so libraries may differ in how they
compute, not in what.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
POOL = 4  # batches that steps take in turn, so that none finds its input in the cache only because it was the last
FEEDS = {
    "device": "inputs on the device, the result left there",
    "host": "NumPy arrays in, the result left on the device",
    "read": "NumPy arrays in, the result read",
}
"""Ways to feed a step, and what becomes of its loss (for inference its output)."""


@dataclass(frozen=True)
class Case:
    """A model with its sizes and its optimiser.

    model      empty, linreg, softmax, mlp, lenet or charlm
    batch      samples in a step; 0 for ``empty``, whose input is a scalar
    lr, adam   learning rate; Adam with a gradient norm of at most 5 instead of SGD
    hidden     units of the hidden layers of an mlp, or of the LSTM layers of charlm
    spread     hidden layers start uniform in (-spread, spread)
    """

    name: str
    model: str
    batch: int
    lr: float
    adam: bool = False
    hidden: tuple[int, ...] = ()
    spread: float = 0.1
    time: int = 100
    vocabulary: int = 92
    embedding: int = 256
    mode: str = "train"

    @property
    def clip(self) -> float | None:
        """The largest norm of all gradients together."""
        return 5.0 if self.adam else None

    @property
    def squared(self) -> bool:
        """Whether the loss is the mean of squares; else it is the mean cross entropy of the softmax."""
        return self.model in ("empty", "linreg")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one batch of inputs."""
        shapes = {"empty": (), "linreg": (self.batch, 13), "charlm": (self.batch, self.time)}
        return shapes.get(self.model, (self.batch, 1, 28, 28))

    @property
    def dtype(self) -> str:
        """The type of the inputs."""
        return "int32" if self.model == "charlm" else "float32"

    @property
    def target(self) -> tuple[tuple[int, ...], str]:
        """Shape and type of one batch of targets."""
        shapes = {"empty": (), "linreg": (self.batch, 1), "charlm": self.shape}
        return shapes.get(self.model, (self.batch,)), "float32" if self.squared else "int32"

    @property
    def text(self) -> str:
        """What is computed, in a few words."""
        sizes = {
            "empty": "one parameter, scalar input",
            "linreg": "13-1",
            "softmax": "784-10",
            "mlp": "-".join(map(str, (784, *self.hidden, 10))),
            "lenet": "conv 20, conv 50, dense 500, dense 10",
            "charlm": f"embedding {self.embedding}, LSTM {' and '.join(map(str, self.hidden))}, "
            f"vocabulary {self.vocabulary}",
        }[self.model]
        batch = {"empty": "", "charlm": f", batch {self.batch} x {self.time}"}.get(self.model, f", batch {self.batch}")
        if self.mode == "infer":
            return f"{sizes}{batch}, inference"
        rule = "Adam, gradient norm at most 5" if self.adam else "SGD"
        return f"{sizes}{batch}, {rule}"

    def inference(self, batch: int) -> Case:
        """The same model, only its outputs, for ``batch`` samples."""
        return replace(self, mode="infer", batch=batch if self.batch else 0)

    def config(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return asdict(self)

    @classmethod
    def restore(cls, config: Mapping[str, Any]) -> Case:
        """The case whose ``config()`` this is."""
        return cls(**{**config, "hidden": tuple(config["hidden"])})


_CHARLM = Case("charlm", "charlm", 128, 0.002, adam=True, hidden=(256,))
_LENET = Case("lenet", "lenet", 100, 0.1)

CASES = {
    case.name: case
    for case in (
        Case("linreg", "linreg", 506, 0.1),
        Case("softmax", "softmax", 100, 0.5),
        Case("mlp", "mlp", 100, 0.5, hidden=(64,)),
        _LENET,
        _CHARLM,
        Case("mlp-large", "mlp", 512, 0.05, hidden=(2048, 2048, 2048), spread=0.03),
        replace(_LENET, name="lenet-b10", batch=10),
        replace(_LENET, name="lenet-b1000", batch=1000),
        replace(_CHARLM, name="charlm-h512", hidden=(512,)),
        replace(_CHARLM, name="charlm-l2", hidden=(256, 256)),
        Case("empty", "empty", 0, 0.1),
    )
}


def parameters(case: Case) -> Arrays:
    """The first parameters by graphnet's names without the model's: dense_1/w (in, out), lstm_1/wx (in, 4 units)."""
    rng = np.random.default_rng(1)
    found: Arrays = {}

    def uniform(name: str, shape: tuple[int, ...], spread: float) -> None:
        found[name] = rng.uniform(-spread, spread, shape).astype(np.float32)

    def dense(index: int, rows: int, units: int, spread: float) -> None:
        uniform(f"dense_{index}/w", (rows, units), spread)
        found[f"dense_{index}/b"] = np.zeros(units, np.float32)

    if case.model == "empty":
        found["w"] = np.float32(0.5).reshape(())
    elif case.model == "linreg":
        dense(1, 13, 1, 0.0)
    elif case.model in ("softmax", "mlp"):
        sizes = (784, *case.hidden, 10)
        for index, (rows, units) in enumerate(itertools.pairwise(sizes), 1):
            dense(index, rows, units, case.spread)
    elif case.model == "lenet":
        for index, (channels, filters) in enumerate(((1, 20), (20, 50)), 1):
            uniform(f"conv2d_{index}/w", (filters, channels, 5, 5), case.spread)
            found[f"conv2d_{index}/b"] = np.zeros(filters, np.float32)
        dense(1, 800, 500, case.spread)
        dense(2, 500, 10, case.spread)
    else:
        found["embedding_1/w"] = rng.standard_normal((case.vocabulary, case.embedding)).astype(np.float32)
        sizes = (case.embedding, *case.hidden)
        for index, (rows, units) in enumerate(itertools.pairwise(sizes), 1):
            uniform(f"lstm_{index}/wx", (rows, 4 * units), math.sqrt(6 / (rows + 4 * units)))
            uniform(f"lstm_{index}/wh", (units, 4 * units), math.sqrt(6 / (5 * units)))
            found[f"lstm_{index}/b"] = np.repeat(np.float32([0, 1, 0, 0]), units)
        dense(1, sizes[-1], case.vocabulary, math.sqrt(6 / (sizes[-1] + case.vocabulary)))
    return found


def batches(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """POOL batches of inputs (POOL, *shape) and targets; floats are float32, class numbers and ids int32."""
    rng = np.random.default_rng(2)
    if case.model == "empty":
        return rng.uniform(1, 2, POOL).astype(np.float32), rng.uniform(1, 2, POOL).astype(np.float32)
    if case.model == "linreg":
        x = rng.standard_normal((POOL, *case.shape))
        y = x @ rng.standard_normal((13, 1)) + rng.standard_normal((POOL, case.batch, 1)) + 22
        return x.astype(np.float32), y.astype(np.float32)
    if case.model == "charlm":
        return _texts(case, rng)
    # like handwritten digits: a fifth of the pixels are set, each class has its own, some are disturbed
    classes = rng.integers(0, 10, (POOL, case.batch))
    drawn = rng.random((10, 784)) * (rng.random((10, 784)) < 0.2)
    x = drawn[classes] * rng.random((POOL, case.batch, 784)) * 2
    x += rng.random(x.shape) * (rng.random(x.shape) < 0.05)
    return np.minimum(x, 1).reshape(POOL, *case.shape).astype(np.float32), classes.astype(np.int32)


def _texts(case: Case, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ids of a source in which most symbols have one likely successor, and the id after each."""
    likely = rng.permutation(case.vocabulary)
    length = POOL * case.time + 1
    guesses = rng.integers(0, case.vocabulary, (case.batch, length))
    kept = rng.random((case.batch, length)) < 0.7
    ids = np.zeros((case.batch, length), np.int32)
    for t in range(1, length):
        ids[:, t] = np.where(kept[:, t], likely[ids[:, t - 1]], guesses[:, t])
    x, y = (part.reshape(case.batch, POOL, case.time).swapaxes(0, 1) for part in (ids[:, :-1], ids[:, 1:]))
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def write(case: Case, path: Path) -> None:
    """Write parameters and batches to a .npz file for every worker to read."""
    x, y = batches(case)
    np.savez(path, x=x, y=y, **{f"param/{name}": value for name, value in parameters(case).items()})


def read(path: Path) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """Parameters, inputs and targets of a file that ``write`` made."""
    with np.load(path) as file:
        named = {name.removeprefix("param/"): file[name] for name in file.files if name.startswith("param/")}
        return named, file["x"], file["y"]
