"""NumPy by hand: what a careful person writes without a framework, every array made once and written over.

The dense models are here; ``numpy_lenet`` and ``numpy_charlm`` hold the other two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from peers.cases import Arrays, Case
from peers.peer import Peer


class SGD:
    """p -= lr * g, in place."""

    def __init__(self, params: Arrays, lr: float) -> None:
        self.params, self.lr = params, np.float32(lr)

    def update(self, grads: Arrays) -> None:
        for name, g in grads.items():
            g *= self.lr
            self.params[name] -= g


class Adam:
    """Adam with all parameters and gradients laid end to end, so that each rule is one call for all of them."""

    def __init__(self, params: Arrays, lr: float, clip: float) -> None:
        self.lr, self.clip, self.t = lr, clip, 0
        self.flat, views = laid_out(params)
        for name, view in views.items():
            view[...] = params[name]
            params[name] = view
        self.gradient, self.grads = laid_out(params)
        self.m, self.v, self.work = (np.zeros_like(self.flat) for _ in range(3))

    def update(self) -> None:
        g, m, v, work = self.gradient, self.m, self.v, self.work
        norm = float(np.sqrt(np.dot(g, g)))
        g *= np.float32(min(1.0, self.clip / (norm + 1e-6)))
        self.t += 1
        np.multiply(g, np.float32(0.1), out=work)
        m *= np.float32(0.9)
        m += work
        np.multiply(g, g, out=work)
        work *= np.float32(0.001)
        v *= np.float32(0.999)
        v += work
        np.sqrt(v, out=work)
        work *= np.float32((1 - 0.999**self.t) ** -0.5)
        work += np.float32(1e-8)
        np.divide(m, work, out=work)
        work *= np.float32(self.lr / (1 - 0.9**self.t))
        self.flat -= work


def laid_out(params: Arrays) -> tuple[np.ndarray, Arrays]:
    """One array for all, and a view of it for each."""
    flat = np.zeros(sum(p.size for p in params.values()), np.float32)
    views, start = {}, 0
    for name, p in params.items():
        views[name] = flat[start : start + p.size].reshape(p.shape)
        start += p.size
    return flat, views


class Softmax:
    """Mean cross entropy of rows of scores and its gradient, in buffers of its own."""

    def __init__(self, rows: int, classes: int) -> None:
        self.best, self.total = (np.zeros((rows, 1), np.float32) for _ in range(2))
        self.picked = np.zeros(rows, np.float32)
        self.start = np.arange(rows) * classes
        self.index = np.zeros(rows, np.intp)
        self.rows = rows

    def __call__(self, scores: np.ndarray, ids: np.ndarray, gradient: np.ndarray) -> float:
        """The loss; ``scores`` are used up and ``gradient`` may be the same array."""
        np.max(scores, axis=1, keepdims=True, out=self.best)
        scores -= self.best
        np.add(self.start, ids, out=self.index)
        np.take(scores.reshape(-1), self.index, out=self.picked, mode="clip")
        np.exp(scores, out=gradient)
        np.sum(gradient, axis=1, keepdims=True, out=self.total)
        loss = (float(np.log(self.total).sum()) - float(self.picked.sum())) / self.rows
        self.total *= np.float32(self.rows)
        gradient /= self.total
        gradient.reshape(-1)[self.index] -= np.float32(1 / self.rows)
        return loss


class Empty(Peer):
    """One parameter times a scalar."""

    def __init__(self, case: Case, params: Arrays, threads: int) -> None:
        super().__init__(case, params, threads)
        self.w = params["w"]
        self.lr = np.float32(case.lr)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        error = self.w * x - y
        self.w -= self.lr * 2 * error * x
        return float(error * error)

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.w * x


class Dense(Peer):
    """Dense layers with relu between them: linreg, softmax and mlp."""

    def __init__(self, case: Case, params: Arrays, threads: int) -> None:
        super().__init__(case, params, threads)
        count = len(params) // 2
        self.w = [params[f"dense_{i}/w"] for i in range(1, count + 1)]
        self.b = [params[f"dense_{i}/b"] for i in range(1, count + 1)]
        self.out = [np.zeros((case.batch, w.shape[1]), np.float32) for w in self.w]
        self.gradient = [np.zeros_like(out) for out in self.out]
        self.off = [np.zeros(out.shape, bool) for out in self.out]
        self.grads = {name: np.zeros_like(p) for name, p in params.items()}
        self.optimizer = SGD(params, case.lr)
        self.softmax = None if case.squared else Softmax(case.batch, 10)

    def forward(self, x: np.ndarray) -> np.ndarray:
        for w, b, out in zip(self.w, self.b, self.out, strict=True):
            np.matmul(x, w, out=out)
            out += b
            if out is not self.out[-1]:
                np.maximum(out, 0, out=out)
            x = out
        return x

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        x = x.reshape(len(x), -1)
        scores, g = self.forward(x), self.gradient[-1]
        if self.softmax is None:
            np.subtract(scores, y, out=g)
            loss = float(np.dot(g.reshape(-1), g.reshape(-1))) / g.size
            g *= np.float32(2 / g.size)
        else:
            loss = self.softmax(scores, y, g)
        for i in reversed(range(len(self.w))):
            below = self.out[i - 1] if i else x
            np.matmul(below.T, g, out=self.grads[f"dense_{i + 1}/w"])
            np.sum(g, axis=0, out=self.grads[f"dense_{i + 1}/b"])
            if i:
                np.matmul(g, self.w[i].T, out=self.gradient[i - 1])
                g = self.gradient[i - 1]
                np.equal(below, 0, out=self.off[i - 1])
                np.copyto(g, 0, where=self.off[i - 1])
        self.optimizer.update(self.grads)
        return loss

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x.reshape(len(x), -1)).copy()


def by_hand(case: Case, params: Arrays, threads: int) -> Peer:
    """The program for a case."""
    from peers.numpy_charlm import Charlm
    from peers.numpy_lenet import Lenet

    kinds: dict[str, Any] = {"empty": Empty, "lenet": Lenet, "charlm": Charlm}
    return kinds.get(case.model, Dense)(case, params, threads)


class ByHand(Peer):
    """Picks the program for a case."""

    def __new__(cls, case: Case, params: Arrays, threads: int) -> Peer:  # type: ignore[misc]
        return by_hand(case, params, threads)
