"""TensorFlow: the whole step in one ``tf.function``, executed by its graph runtime (oneDNN), not XLA."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from peers.cases import Arrays, Case
from peers.peer import Peer


def channels_last(params: Arrays) -> Arrays:
    """LeNet's parameters for images (N, H, W, C), the only layout TensorFlow convolves on a CPU."""
    w = params["dense_1/w"].reshape(50, 4, 4, -1).transpose(1, 2, 0, 3).reshape(800, -1)
    kernels = {f"conv2d_{i}/w": params[f"conv2d_{i}/w"].transpose(2, 3, 1, 0) for i in (1, 2)}
    return {**params, **kernels, "dense_1/w": w}


class Graphed(Peer):
    """tf.function of one step over variables."""

    packages = ("tensorflow", "numpy")

    def __init__(self, case: Case, params: Arrays, threads: int) -> None:
        super().__init__(case, params, threads)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        params = channels_last(params) if case.model == "lenet" else params
        self.v = {name: tf.Variable(p) for name, p in params.items()}
        slots = params if case.adam else {}
        self.m, self.s = ({n: tf.Variable(np.zeros_like(p)) for n, p in slots.items()} for _ in range(2))
        self.t = tf.Variable(0.0)
        self.states = [[tf.Variable(tf.zeros((case.batch, n))) for _ in range(2)] for n in case.hidden * self.recurrent]
        spec = tf.TensorSpec(case.shape, case.dtype)
        self.compiled = tf.function(self.whole_step, input_signature=(spec, tf.TensorSpec(*case.target)))
        self.outputs = tf.function(self.forward, input_signature=(spec,))

    @property
    def recurrent(self) -> bool:
        return self.case.model == "charlm"

    def dense(self, index: int, x: Any) -> Any:
        return tf.linalg.matmul(x, self.v[f"dense_{index}/w"]) + self.v[f"dense_{index}/b"]

    def block(self, index: int, x: Any) -> Any:
        """Convolution, relu, 2x2 pooling, the order in which oneDNN fuses the first two."""
        y = tf.nn.conv2d(x, self.v[f"conv2d_{index}/w"], 1, "VALID")
        return tf.nn.max_pool2d(tf.nn.relu(tf.nn.bias_add(y, self.v[f"conv2d_{index}/b"])), 2, 2, "VALID")

    def lstm(self, index: int, x: Any, state: list[Any]) -> Any:
        """One layer over (time, batch, features), unrolled, the inputs' product outside the loop."""
        wx, wh, b = (self.v[f"lstm_{index}/{part}"] for part in ("wx", "wh", "b"))
        rows = tf.unstack(tf.tensordot(x, wx, 1) + b, num=self.case.time)
        h, c = state[0].read_value(), state[1].read_value()
        out = []
        for row in rows:
            i, f, g, o = tf.split(row + tf.linalg.matmul(h, wh), 4, axis=1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
            out.append(h)
        state[0].assign(h)
        state[1].assign(c)
        return tf.stack(out)

    def forward(self, x: Any) -> Any:
        case = self.case
        if case.model == "empty":
            return self.v["w"] * x
        if self.recurrent:
            x = tf.gather(self.v["embedding_1/w"], tf.transpose(x))
            for index, state in enumerate(self.states, 1):
                x = self.lstm(index, x, state)
            scores = tf.tensordot(x, self.v["dense_1/w"], 1) + self.v["dense_1/b"]
            return tf.transpose(scores, (1, 0, 2)) if case.mode == "infer" else scores
        if case.model == "lenet":
            x = self.block(2, self.block(1, tf.reshape(x, (case.batch, 28, 28, 1))))
            return self.dense(2, tf.nn.relu(self.dense(1, tf.reshape(x, (case.batch, 800)))))
        x = tf.reshape(x, (case.batch, -1))
        count = len(self.v) // 2
        for index in range(1, count):
            x = tf.nn.relu(self.dense(index, x))
        return self.dense(count, x)

    def loss(self, x: Any, y: Any) -> Any:
        output = self.forward(x)
        if self.case.squared:
            return tf.reduce_mean(tf.square(output - y))
        y = tf.transpose(y) if self.recurrent else y
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, output))

    def whole_step(self, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = self.loss(x, y)
        names = list(self.v)
        grads = [tf.convert_to_tensor(g) for g in tape.gradient(loss, [self.v[name] for name in names])]
        if self.case.clip:
            norm = tf.sqrt(tf.add_n([tf.reduce_sum(g * g) for g in grads]))
            factor = tf.minimum(self.case.clip / (norm + 1e-6), 1.0)
            grads = [g * factor for g in grads]
        self.update(dict(zip(names, grads, strict=True)))
        return loss

    def update(self, grads: dict[str, Any]) -> None:
        lr = self.case.lr
        if not self.case.adam:
            for name, g in grads.items():
                self.v[name].assign_sub(lr * g)
            return
        t = self.t.assign_add(1.0)
        rate = lr * tf.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        eps = 1e-8 * tf.sqrt(1 - 0.999**t)
        for name, g in grads.items():
            # the library's own fused kernel; its eps stands before the correction of the second moment
            tf.raw_ops.ResourceApplyAdam(
                var=self.v[name].handle,
                m=self.m[name].handle,
                v=self.s[name].handle,
                beta1_power=0.0,
                beta2_power=0.0,
                lr=rate,
                beta1=0.9,
                beta2=0.999,
                epsilon=eps,
                grad=g,
            )

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.compiled(x, y))

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.outputs(x).numpy()
