"""``graphnet train mlp --data mnist`` as a JAX script: python -m peers.mnist_jax FOLDER EPOCHS"""

from __future__ import annotations

import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from peers import mnist


def scores(params: Any, x: Any) -> Any:
    (w1, b1), (w2, b2) = params
    return jax.nn.relu(x @ w1 + b1) @ w2 + b2


def loss(params: Any, x: Any, y: Any) -> Any:
    logs = jax.nn.log_softmax(scores(params, x))
    return -jnp.mean(jnp.take_along_axis(logs, y[:, None], axis=1))


@functools.partial(jax.jit, donate_argnums=0)
def step(params: Any, x: Any, y: Any) -> Any:
    value, grads = jax.value_and_grad(loss)(params, x, y)
    return value, jax.tree.map(lambda p, g: p - mnist.RATE * g, params, grads)


@jax.jit
def accuracy(params: Any, x: Any, y: Any) -> Any:
    return jnp.mean(scores(params, x).argmax(1) == y)


def main(folder: str, epochs: int) -> None:
    x, y, x_test, y_test = mnist.load(folder)
    y, y_test = y.astype(np.int32), y_test.astype(np.int32)
    rng = np.random.default_rng(0)

    def layer(rows: int, units: int) -> Any:
        return jnp.array(rng.uniform(-mnist.SPREAD, mnist.SPREAD, (rows, units)), jnp.float32), jnp.zeros(units)

    params = (layer(784, 64), layer(64, 10))
    for epoch in range(1, epochs + 1):
        total = 0.0
        for start in range(0, len(x), mnist.BATCH):
            rows = slice(start, start + mnist.BATCH)
            value, params = step(params, x[rows], y[rows])
            total += float(value)
        train, test = float(accuracy(params, x, y)), float(accuracy(params, x_test, y_test))
        mean = total * mnist.BATCH / len(x)
        print(f"epoch {epoch}/{epochs}  loss {mean:.4f}  train accuracy {train:.4f}  test accuracy {test:.4f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
