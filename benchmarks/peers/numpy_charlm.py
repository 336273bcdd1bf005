"""The character LSTM in NumPy by hand: time first, one product for the inputs of all steps, one for their gradients."""

from __future__ import annotations

import numpy as np

from peers.cases import Arrays, Case
from peers.peer import Peer
from peers.with_numpy import Adam, Softmax


def sigmoid(x: np.ndarray) -> None:
    """1 / (1 + exp(-x)) in place, worked out as (tanh(x/2) + 1) / 2, which does not overflow."""
    x *= np.float32(0.5)
    np.tanh(x, out=x)
    x += np.float32(1)
    x *= np.float32(0.5)


class LSTM:
    """One layer over (time, batch, features), its state kept from call to call."""

    def __init__(self, name: str, params: Arrays, grads: Arrays, time: int, batch: int) -> None:
        self.wx, self.wh, self.b = (params[f"{name}/{part}"] for part in ("wx", "wh", "b"))
        self.gwx, self.gwh, self.gb = (grads[f"{name}/{part}"] for part in ("wx", "wh", "b"))
        units = self.units = len(self.wh)
        self.time, self.batch = time, batch
        # gates[t] is in turn what enters the gates, the gates, and the gradient of what enters them
        self.gates = np.zeros((time, batch, 4 * units), np.float32)
        self.recurrent = np.zeros((batch, 4 * units), np.float32)
        self.h, self.c = (np.zeros((time + 1, batch, units), np.float32) for _ in range(2))
        self.tanh_c = np.zeros((time, batch, units), np.float32)
        self.gradient = np.zeros((time * batch, len(self.wx)), np.float32)
        self.gh, self.gc, self.work, self.slope = (np.zeros((batch, units), np.float32) for _ in range(4))

    def parts(self, gates: np.ndarray) -> list[np.ndarray]:
        return [gates[:, k * self.units : (k + 1) * self.units] for k in range(4)]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (time * batch, features) to (time, batch, units)."""
        np.matmul(x, self.wx, out=self.gates.reshape(len(x), -1))
        self.gates += self.b
        self.h[0], self.c[0] = self.h[-1], self.c[-1]
        units, work = self.units, self.work
        for t in range(self.time):
            gates, c = self.gates[t], self.c[t + 1]
            gates += np.matmul(self.h[t], self.wh, out=self.recurrent)
            i, f, g, o = self.parts(gates)
            sigmoid(gates[:, : 2 * units])
            sigmoid(o)
            np.tanh(g, out=g)
            np.multiply(f, self.c[t], out=c)
            c += np.multiply(i, g, out=work)
            np.tanh(c, out=self.tanh_c[t])
            np.multiply(o, self.tanh_c[t], out=self.h[t + 1])
        return self.h[1:]

    def backward(self, x: np.ndarray, above: np.ndarray) -> np.ndarray:
        """The gradient of ``x`` from that of the output (time, batch, units), and those of the parameters."""
        gh, gc, work, slope = self.gh, self.gc, self.work, self.slope
        gh[...], gc[...] = 0, 0
        for t in reversed(range(self.time)):
            gates, tanh_c = self.gates[t], self.tanh_c[t]
            i, f, g, o = self.parts(gates)
            gh += above[t]
            # through h = o * tanh(c)
            np.multiply(tanh_c, tanh_c, out=slope)
            np.subtract(1, slope, out=slope)
            slope *= o
            slope *= gh
            gc += slope
            np.multiply(gh, tanh_c, out=work)
            self.through_sigmoid(o, work)
            # through c = f * old + i * g, each gate overwritten by the gradient of what entered it
            np.multiply(gc, i, out=gh)
            np.multiply(gc, g, out=work)
            np.multiply(g, g, out=slope)
            np.subtract(1, slope, out=slope)
            np.multiply(gh, slope, out=g)
            self.through_sigmoid(i, work)
            np.multiply(gc, self.c[t], out=work)
            gc *= f
            self.through_sigmoid(f, work)
            np.matmul(gates, self.wh.T, out=gh)
        rows = self.gates.reshape(len(x), -1)
        np.matmul(x.T, rows, out=self.gwx)
        np.matmul(self.h[:-1].reshape(len(x), -1).T, rows, out=self.gwh)
        np.sum(rows, axis=0, out=self.gb)
        return np.matmul(rows, self.wx.T, out=self.gradient)

    def through_sigmoid(self, s: np.ndarray, g: np.ndarray) -> None:
        """s becomes g * s * (1 - s)."""
        g *= s
        np.subtract(1, s, out=s)
        s *= g


class Charlm(Peer):
    """Embedding, LSTM layers, dense, cross entropy, Adam with clipping."""

    def __init__(self, case: Case, params: Arrays, threads: int) -> None:
        super().__init__(case, params, threads)
        self.optimizer = Adam(params, case.lr, case.clip or 1e30)
        self.params, self.grads = params, self.optimizer.grads
        time, batch = case.time, case.batch
        rows = time * batch
        names = [f"lstm_{i}" for i in range(1, len(case.hidden) + 1)]
        self.lstms = [LSTM(name, params, self.grads, time, batch) for name in names]
        self.ids, self.targets = (np.zeros((time, batch), np.int32) for _ in range(2))
        self.x = np.zeros((rows, case.embedding), np.float32)
        self.scores = np.zeros((rows, case.vocabulary), np.float32)
        self.above = np.zeros((rows, case.hidden[-1]), np.float32)
        self.one_hot = np.zeros((rows, case.vocabulary), np.float32)
        self.rows = np.arange(rows)
        self.softmax = Softmax(rows, case.vocabulary)

    def forward(self, ids: np.ndarray) -> np.ndarray:
        np.copyto(self.ids, ids.T)
        np.take(self.params["embedding_1/w"], self.ids.reshape(-1), axis=0, out=self.x, mode="clip")
        self.inputs = [self.x]
        for lstm in self.lstms:
            self.inputs.append(lstm.forward(self.inputs[-1]).reshape(len(self.x), -1))
        np.matmul(self.inputs[-1], self.params["dense_1/w"], out=self.scores)
        self.scores += self.params["dense_1/b"]
        return self.scores

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        scores, grads = self.forward(x), self.grads
        np.copyto(self.targets, y.T)
        loss = self.softmax(scores, self.targets.reshape(-1), scores)
        np.matmul(self.inputs[-1].T, scores, out=grads["dense_1/w"])
        np.sum(scores, axis=0, out=grads["dense_1/b"])
        g = np.matmul(scores, self.params["dense_1/w"].T, out=self.above)
        for lstm, below in zip(reversed(self.lstms), reversed(self.inputs[:-1]), strict=True):
            g = lstm.backward(below, g.reshape(self.case.time, self.case.batch, -1))
        # one row of the table collects the gradients of many places: a product with the ids as one-hot rows
        self.one_hot[...] = 0
        self.one_hot[self.rows, self.ids.reshape(-1)] = 1
        np.matmul(self.one_hot.T, g, out=grads["embedding_1/w"])
        self.optimizer.update()
        return loss

    def infer(self, x: np.ndarray) -> np.ndarray:
        scores = self.forward(x).reshape(self.case.time, self.case.batch, -1)
        return scores.transpose(1, 0, 2).copy()
