"""JAX: the whole step under jit, its state donated, pooling by reshape (faster than reduce_window on a CPU).

On a GPU products and convolutions are of strict float32 (no TF32).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from peers.cases import Arrays, Case
from peers.peer import Peer

Tree = Any


def dense(params: Tree, index: int, x: Any) -> Any:
    return x @ params[f"dense_{index}/w"] + params[f"dense_{index}/b"]


def block(params: Tree, index: int, x: Any) -> Any:
    """Convolution, 2x2 pooling, relu."""
    layout = ("NCHW", "OIHW", "NCHW")
    y = lax.conv_general_dilated(x, params[f"conv2d_{index}/w"], (1, 1), "VALID", dimension_numbers=layout)
    n, c, h, w = y.shape
    y = y.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
    return jax.nn.relu(y + params[f"conv2d_{index}/b"][:, None, None])


def lstm(params: Tree, index: int, x: Any, state: Any) -> Any:
    """One layer over (time, batch, features): the inputs' product outside the scan."""
    wh = params[f"lstm_{index}/wh"]

    def cell(carry: Any, row: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(row + h @ wh, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return lax.scan(cell, state, x @ params[f"lstm_{index}/wx"] + params[f"lstm_{index}/b"])


class Jitted(Peer):
    """jax.jit of one function."""

    packages = ("jax", "jaxlib", "numpy")

    def __init__(self, case: Case, params: Arrays, threads: int, device: str = "cpu") -> None:
        super().__init__(case, params, threads, device)
        if device == "cuda":
            jax.config.update("jax_default_matmul_precision", "highest")
            try:
                jax.devices("cuda")
            except (AssertionError, RuntimeError) as error:  # without its plugin JAX only asserts
                raise RuntimeError(f"JAX finds no GPU: {error}") from None
        learned = {name: jnp.array(p) for name, p in params.items()}
        zeros = [{name: jnp.zeros_like(p) for name, p in learned.items()} for _ in range(2 * case.adam)]
        states = [tuple(jnp.zeros((case.batch, units)) for _ in range(2)) for units in case.hidden]
        self.held = (learned, zeros, jnp.zeros((), jnp.int32), states if case.model == "charlm" else [])
        self.compiled = jax.jit(self.whole_step, donate_argnums=0)
        self.outputs = jax.jit(self.whole_inference)
        self.result: Any = None

    def forward(self, params: Tree, states: Any, x: Any) -> tuple[Any, Any]:
        model = self.case.model
        if model == "empty":
            return params["w"] * x, states
        if model == "charlm":
            x, after = params["embedding_1/w"][x.T], []
            for index, state in enumerate(states, 1):
                state, x = lstm(params, index, x, state)
                after.append(state)
            return dense(params, 1, x), after
        if model == "lenet":
            x = block(params, 2, block(params, 1, x)).reshape(len(x), -1)
            return dense(params, 2, jax.nn.relu(dense(params, 1, x))), states
        x = x.reshape(len(x), -1)
        count = len(params) // 2
        for index in range(1, count):
            x = jax.nn.relu(dense(params, index, x))
        return dense(params, count, x), states

    def loss(self, params: Tree, states: Any, x: Any, y: Any) -> tuple[Any, Any]:
        output, states = self.forward(params, states, x)
        if self.case.squared:
            return jnp.mean((output - y) ** 2), states
        if self.case.model == "charlm":
            y = y.T
        logs = jax.nn.log_softmax(output)
        return -jnp.mean(jnp.take_along_axis(logs, y[..., None], axis=-1)), states

    def whole_step(self, held: Any, x: Any, y: Any) -> tuple[Any, Any]:
        params, slots, t, states = held
        (loss, states), grads = jax.value_and_grad(self.loss, has_aux=True)(params, states, x, y)
        if self.case.clip:
            norm = jnp.sqrt(sum(jnp.sum(g * g) for g in grads.values()))
            factor = jnp.minimum(self.case.clip / (norm + 1e-6), 1.0)
            grads = {name: g * factor for name, g in grads.items()}
        if not self.case.adam:
            return loss, ({name: p - self.case.lr * grads[name] for name, p in params.items()}, slots, t, states)
        t = t + 1
        m = {name: 0.9 * slots[0][name] + 0.1 * g for name, g in grads.items()}
        v = {name: 0.999 * slots[1][name] + 0.001 * g * g for name, g in grads.items()}
        rate, root = self.case.lr / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        new = {name: p - rate * m[name] / (jnp.sqrt(v[name]) / root + 1e-8) for name, p in params.items()}
        return loss, (new, [m, v], t, states)

    def whole_inference(self, params: Tree, states: Any, x: Any) -> tuple[Any, Any]:
        """The output, batch first, and the states after."""
        output, states = self.forward(params, states, x)
        return output.swapaxes(0, 1) if self.case.model == "charlm" else output, states

    def start(self, *batch: Any) -> Any:
        if self.case.mode == "train":
            self.result, self.held = self.compiled(self.held, *batch)
        else:
            params, slots, t, states = self.held
            self.result, states = self.outputs(params, states, *batch)
            self.held = (params, slots, t, states)
        return self.result

    def put(self, array: np.ndarray) -> Any:
        return jax.device_put(array)

    def wait(self) -> None:
        jax.block_until_ready((self.result, self.held))

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.start(x, y))

    def infer(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.start(x))
