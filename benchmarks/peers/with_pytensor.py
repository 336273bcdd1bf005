"""PyTensor, in C and with numba: the whole step is one function with updates of shared variables."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from peers.cases import Arrays, Case
from peers.peer import Peer

K = 5


def blas_flags() -> str:
    """Settings that let PyTensor's C code call SciPy's OpenBLAS, under the names that library gives its functions.

    Installed from PyPI, PyTensor finds no BLAS and takes the long way through NumPy.
    """
    folder = Path(scipy.__file__).parent.parent / "scipy.libs"
    found = sorted(folder.glob("libscipy_openblas-*.so"))
    if not found:
        return ""
    names = [f"{kind}{function}_" for kind in "sd" for function in ("gemm", "gemv", "ger", "dot")]
    defines = " ".join(f"-D{name}=scipy_{name}" for name in names)
    ctypes.CDLL(str(found[0]))  # so that what PyTensor compiles finds it: a run path cannot be written in these flags
    return f"blas__ldflags=-L{folder} -l:{found[0].name},gcc__cxxflags={defines}"


BLAS = blas_flags()
os.environ["PYTENSOR_FLAGS"] = ",".join(filter(None, [os.environ.get("PYTENSOR_FLAGS"), "floatX=float32", BLAS]))

import pytensor  # noqa: E402
import pytensor.tensor as pt  # noqa: E402


def larger(x: Any, y: Any) -> Any:
    """The maximum, whose gradient goes to one of two equal operands (pt.maximum gives it to both)."""
    return pt.switch(pt.ge(x, y), x, y)


class Function(Peer):
    """pytensor.function in mode CVM (C) or NUMBA."""

    packages = ("pytensor", "numba", "numpy")

    def __init__(self, case: Case, params: Arrays, threads: int, mode: str = "CVM") -> None:
        super().__init__(case, params, threads)
        self.mode = mode
        self.v = {name: pytensor.shared(p, name, borrow=True) for name, p in params.items()}
        hidden = case.hidden if case.model == "charlm" else ()
        zeros = [np.zeros((case.batch, units), np.float32) for units in hidden]
        self.states = [(pytensor.shared(z), pytensor.shared(z.copy())) for z in zeros]
        self.carried: list[tuple[Any, Any]] = []
        x = pt.tensor("x", dtype=case.dtype, shape=case.shape)
        y = pt.tensor("y", dtype=case.target[1], shape=case.target[0])
        output = self.forward(x)
        if case.mode == "infer":
            result = output.swapaxes(0, 1) if case.model == "charlm" else output
            self.function = self.compile([x], result, self.carried)
        else:
            loss = self.loss(output, y)
            grads = pytensor.grad(loss, list(self.v.values()))
            updates = self.updates(dict(zip(self.v, grads, strict=True)))
            self.function = self.compile([x, y], loss, [*updates, *self.carried])

    def compile(self, inputs: list[Any], result: Any, updates: list[tuple[Any, Any]]) -> Any:
        function = pytensor.function(inputs, result, updates=updates, mode=self.mode)
        function.trust_input = True
        return function

    def dense(self, index: int, x: Any) -> Any:
        return pt.dot(x, self.v[f"dense_{index}/w"]) + self.v[f"dense_{index}/b"]

    def block(self, index: int, x: Any, size: int, channels: int) -> Any:
        """Convolution of images (N, H, W, C) as one product of patches, 2x2 pooling, bias, relu."""
        h = size - K + 1
        parts = [x[:, i : i + h, j : j + h, :] for i in range(K) for j in range(K)]
        kernel = self.v[f"conv2d_{index}/w"].transpose(2, 3, 1, 0).reshape((K * K * channels, -1))
        y = pt.dot(pt.concatenate(parts, axis=3).reshape((-1, K * K * channels)), kernel)
        y = y.reshape((self.case.batch, h, h, -1))
        upper = larger(y[:, ::2, ::2], y[:, ::2, 1::2])
        lower = larger(y[:, 1::2, ::2], y[:, 1::2, 1::2])
        return relu(larger(upper, lower) + self.v[f"conv2d_{index}/b"])

    def lstm(self, index: int, x: Any, state: tuple[Any, Any]) -> Any:
        """One layer over (time, batch, features): the inputs' product outside the scan."""
        wx, wh, b = (self.v[f"lstm_{index}/{part}"] for part in ("wx", "wh", "b"))
        units = self.case.hidden[index - 1]
        rows = pt.dot(x.reshape((-1, wx.shape[0])), wx) + b
        rows = rows.reshape((self.case.time, self.case.batch, 4 * units))

        def cell(row: Any, h: Any, c: Any, wh: Any) -> list[Any]:
            gates = row + pt.dot(h, wh)
            i, f, g, o = (gates[:, k * units : (k + 1) * units] for k in range(4))
            c = pt.sigmoid(f) * c + pt.sigmoid(i) * pt.tanh(g)
            return [pt.sigmoid(o) * pt.tanh(c), c]

        h, c = pytensor.scan(
            cell,
            sequences=[rows],
            outputs_info=list(state),
            non_sequences=[wh],
            strict=True,
            return_updates=False,
            mode=self.mode,
        )
        self.carried += [(state[0], h[-1]), (state[1], c[-1])]
        return h

    def forward(self, x: Any) -> Any:
        case = self.case
        if case.model == "empty":
            return self.v["w"] * x
        if case.model == "charlm":
            x = self.v["embedding_1/w"][x.T]
            for index, state in enumerate(self.states, 1):
                x = self.lstm(index, x, state)
            scores = self.dense(1, x.reshape((case.time * case.batch, case.hidden[-1])))
            return scores.reshape((case.time, case.batch, case.vocabulary))
        if case.model == "lenet":
            x = self.block(1, x.reshape((case.batch, 28, 28, 1)), 28, 1)
            x = self.block(2, x, 12, 20).transpose(0, 3, 1, 2).reshape((case.batch, 800))
            return self.dense(2, relu(self.dense(1, x)))
        x = x.reshape((case.batch, -1))
        count = len(self.v) // 2
        for index in range(1, count):
            x = relu(self.dense(index, x))
        return self.dense(count, x)

    def loss(self, output: Any, y: Any) -> Any:
        if self.case.squared:
            return pt.mean(pt.square(output - y))
        rows, ids = output, y
        if self.case.model == "charlm":
            rows, ids = output.reshape((-1, self.case.vocabulary)), y.T.reshape((-1,))
        logs = pt.special.log_softmax(rows, axis=-1)
        return -pt.mean(logs[pt.arange(rows.shape[0]), ids])

    def updates(self, grads: dict[str, Any]) -> list[tuple[Any, Any]]:
        lr = np.float32(self.case.lr)
        if self.case.clip:
            norm = pt.sqrt(sum(pt.sum(pt.square(g)) for g in grads.values()))
            factor = pt.minimum(np.float32(self.case.clip) / (norm + np.float32(1e-6)), np.float32(1))
            grads = {name: g * factor for name, g in grads.items()}
        if not self.case.adam:
            return [(self.v[name], self.v[name] - lr * g) for name, g in grads.items()]
        done = pytensor.shared(np.float32(0))
        t = done + np.float32(1)
        rate, root = lr / (1 - np.float32(0.9) ** t), pt.sqrt(1 - np.float32(0.999) ** t)
        pairs = [(done, t)]
        for name, g in grads.items():
            zeros = np.zeros_like(self.v[name].get_value())
            m, v = pytensor.shared(zeros), pytensor.shared(zeros.copy())
            first = np.float32(0.9) * m + np.float32(0.1) * g
            second = np.float32(0.999) * v + np.float32(0.001) * g * g
            step = rate * first / (pt.sqrt(second) / root + np.float32(1e-8))
            pairs += [(m, first), (v, second), (self.v[name], self.v[name] - step)]
        return pairs

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.function(x, y))

    def infer(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.function(x))

    def facts(self) -> dict[str, Any]:
        return {"blas": pytensor.config.blas__ldflags or "none"}


def relu(x: Any) -> Any:
    return pt.switch(x > 0, x, np.float32(0))
