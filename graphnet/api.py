"""``gn.compile``: from a model function to a ``Net``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphnet.backend import Backend, choose
from graphnet.compiler.errors import CompileError
from graphnet.net import Net
from graphnet.optim import Optimizer
from graphnet.program import FunctionProgram, spec_of
from graphnet.tensor import user_where


def compile(
    fn: Callable[..., Any],
    *specs: Any,
    loss: Callable[..., Any] | None = None,
    optimizer: Optimizer | None = None,
    device: str = "cpu",
    backend: str | Backend = "auto",
    seed: int = 0,
    target: Any = None,
    max_plans: int = 16,
    threads: int | None = None,
    precision: str = "float32",
    **options: Any,
) -> Net:
    """Trace ``fn`` once, differentiate, rewrite, plan, and return the ``Net``.

    ``specs`` describe the inputs (``gn.spec(shape, dtype)`` or example arrays); other keyword ``options`` are
    passed to ``fn``. ``loss(output, target)`` gives the scalar to minimise; without one, a model that returns
    a float scalar is its own loss. ``target`` is the target's spec where the loss's default is not meant.
    With ``optimizer`` the training step is compiled now, else inference; other plans follow at first use, at
    most ``max_plans`` of them. ``seed`` fixes initial weights and all random numbers. ``threads`` is how many
    threads the C backend runs a step on (default: ``GRAPHNET_THREADS``, or the cores this process may use);
    results do not depend on it; beside another backend, or a GPU, it is refused. ``device="cuda"`` runs on a GPU;
    there, ``precision="tf32"`` or ``"bf16"`` lets products and convolutions round their operands for tensor cores, and
    ``"tf32x3"`` take each as two numbers that these know.
    """
    if not callable(fn):
        raise CompileError(f"{user_where()}: compile: the model must be a function, got {type(fn).__name__}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 64:
        raise CompileError(f"{user_where()}: compile: seed must be an integer from 0 to 2**64 - 1, got {seed!r}")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise CompileError(
            f"{user_where()}: compile: optimizer must be one of gn.optim (gn.optim.SGD(lr=0.1), say), "
            f"got {type(optimizer).__name__}"
        )
    if loss is not None and not callable(loss):
        raise CompileError(
            f"{user_where()}: compile: loss must be a function of (output, target) such as gn.losses.mse, "
            f"got {type(loss).__name__}"
        )
    if not isinstance(max_plans, int) or max_plans < 1:
        raise CompileError(f"{user_where()}: compile: max_plans must be an integer of at least 1, got {max_plans!r}")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise CompileError(f"{user_where()}: compile: threads must be an integer of at least 1, got {threads!r}")
    found = [spec_of(s) for s in specs]
    program = FunctionProgram(fn, found, loss, options)
    kind = spec_of(target).type if target is not None else None
    chosen = choose(device, backend, threads, precision)
    return Net(program, [s.type for s in found], kind, optimizer, chosen, int(seed), max_plans)
