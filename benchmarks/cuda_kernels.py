"""Single products and convolutions: graphnet's own kernels beside cuBLAS and cuDNN, which PyTorch calls.

Each side computes the same from the same arrays. A graph of many copies of the call is started and waited for, round
after round, one side after the other; the time is that of one copy, which is what the call adds to a step.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from peers.with_choices import backend

import graphnet as gn

LENGTH = 2e-3  # seconds that a graph of copies should take
MOST = 200  # copies in a graph


@dataclass(frozen=True)
class Operation:
    """A product or a convolution.

    ours     a function of traced tensors
    theirs   the same of torch and its tensors
    shapes   of the operands, all float32
    flops    two for each multiply-add
    """

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    flops: int

    def arrays(self) -> list[np.ndarray]:
        """Operands drawn from a fixed seed."""
        rng = np.random.default_rng(3)
        return [rng.standard_normal(shape).astype(np.float32) for shape in self.shapes]


@dataclass
class Timing:
    """Microseconds of one call on each side, and how far their results are apart; None where there is no library."""

    operation: Operation
    ours_us: float
    theirs_us: float | None = None
    difference: float | None = None


def product(name: str, m: int, k: int, n: int, left: bool = False, right: bool = False) -> Operation:
    """(m, k) @ (k, n); an operand that is ``left`` or ``right`` True lies transposed."""
    shapes = ((k, m) if left else (m, k), (n, k) if right else (k, n))

    def ours(a: Any, b: Any) -> Any:
        return (a.T if left else a) @ (b.T if right else b)

    def theirs(torch: Any, a: Any, b: Any) -> Any:
        return torch.mm(a.T if left else a, b.T if right else b)

    text = f"{name}: {m}x{k}{' T' if left else ''} @ {k}x{n}{' T' if right else ''}"
    return Operation(text, ours, theirs, shapes, 2 * m * k * n)


def layer(name: str, batch: int, inputs: int, units: int, below: bool = True) -> list[Operation]:
    """A dense layer's products: forward, the gradient of its weights, and that of its inputs if wanted."""
    found = [product(f"{name} forward", batch, inputs, units)]
    found.append(product(f"{name} weights", inputs, batch, units, left=True))
    return [*found, product(f"{name} inputs", batch, units, inputs, right=True)] if below else found


def convolution(name: str, batch: int, channels: int, size: int, filters: int, below: bool = True) -> list[Operation]:
    """A 5 x 5 convolution: forward, the gradient of its kernel, and that of its image if wanted."""
    x, w = (batch, channels, size, size), (filters, channels, 5, 5)
    g = (batch, filters, size - 4, size - 4)
    flops = 2 * math.prod(g) * channels * 25

    def gradient(mask: Sequence[bool]) -> Callable[..., Any]:
        """PyTorch's gradient of what ``mask`` names of image, kernel and bias."""

        def theirs(torch: Any, x: Any, w: Any, g: Any) -> Any:
            plain = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1, list(mask))
            found = torch.ops.aten.convolution_backward(g, x, w, None, *plain)
            return next(part for part in found if part is not None)

        return theirs

    def weights(x: Any, w: Any, g: Any) -> Any:
        return gn.grad(lambda w: gn.sum(gn.conv2d(x, w) * g))(w)

    def image(x: Any, w: Any, g: Any) -> Any:
        return gn.grad(lambda x: gn.sum(gn.conv2d(x, w) * g))(x)

    def forward(torch: Any, x: Any, w: Any) -> Any:
        return torch.nn.functional.conv2d(x, w)

    text = f"{'x'.join(map(str, x))} * {'x'.join(map(str, w))}"
    found = [Operation(f"{name} forward: {text}", gn.conv2d, forward, (x, w), flops)]
    found.append(Operation(f"{name} weights: {text}", weights, gradient((False, True, False)), (x, w, g), flops))
    if below:
        found.append(Operation(f"{name} image: {text}", image, gradient((True, False, False)), (x, w, g), flops))
    return found


PRODUCTS = (
    *layer("softmax", 100, 784, 10, below=False),
    *layer("mlp 1", 100, 784, 64, below=False),
    *layer("mlp 2", 100, 64, 10),
    *layer("lenet 3", 100, 800, 500),
    *layer("lenet-b1000 3", 1000, 800, 500),
    *layer("mlp-large 1", 512, 784, 2048, below=False),
    *layer("mlp-large 2", 512, 2048, 2048),
    product("charlm one step", 128, 256, 1024),
    product("charlm one step back", 128, 1024, 256, right=True),
    product("charlm recurrent weights", 256, 12800, 1024, left=True),
    *layer("charlm scores", 12800, 256, 92),
)
CONVOLUTIONS = (
    *convolution("lenet 1", 100, 1, 28, 20, below=False),
    *convolution("lenet 2", 100, 20, 12, 50),
    *convolution("lenet-b1000 1", 1000, 1, 28, 20, below=False),
    *convolution("lenet-b1000 2", 1000, 20, 12, 50),
)


def library() -> Any:
    """torch, set to strict float32 and to choose algorithms by trying; None where it or its GPU is missing."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return torch


Side = tuple[Callable[[], None], Callable[[], None], int]
"""What starts a graph of copies, what waits for it, and how many copies there are."""


def copies_for(seconds: float) -> int:
    """Copies of a call that took so long."""
    return max(1, min(MOST, math.ceil(LENGTH / max(seconds, 1e-9))))


def ours(operation: Operation, **choices: Any) -> tuple[Side, np.ndarray]:
    """graphnet's side, and its result."""
    device = backend(**choices)
    net = gn.compile(operation.ours, *(gn.spec(s) for s in operation.shapes), device="cuda", backend=device)
    return side_of(net, device.device), np.asarray(net(*operation.arrays()))


def side_of(net: gn.Net, device: Any) -> Side:
    """Copies of a net's only plan, on the arguments of its last call."""
    work = next(iter(net._bound.values())).run.work()
    once = device.capture(work)

    def wait() -> None:
        device.synchronize()

    once.launch()
    wait()
    start = time.perf_counter()
    once.launch()
    wait()
    count = copies_for(time.perf_counter() - start)
    return device.capture(list(work) * count).launch, wait, count


def theirs(operation: Operation, torch: Any) -> tuple[Side, np.ndarray]:
    """The library's side, and its result."""
    given = [torch.from_numpy(array).cuda() for array in operation.arrays()]
    wait = torch.cuda.synchronize
    for _ in range(3):
        result = operation.theirs(torch, *given)
    wait()
    start = time.perf_counter()
    operation.theirs(torch, *given)
    wait()
    count = copies_for(time.perf_counter() - start)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(count):
            operation.theirs(torch, *given)
    return (graph.replay, wait, count), result.cpu().numpy()


def seconds(side: Side) -> float:
    """Seconds of one copy, of one run of all."""
    launch, wait, count = side
    start = time.perf_counter()
    launch()
    wait()
    return (time.perf_counter() - start) / count


def compare(operation: Operation, torch: Any, rounds: int, **choices: Any) -> Timing:
    """Both sides in turn; medians over the rounds, after one that is not counted."""
    mine, result = ours(operation, **choices)
    if torch is None:
        return Timing(operation, median([seconds(mine) for _ in range(rounds + 1)][1:]) * 1e6)
    other, expected = theirs(operation, torch)
    times = [(seconds(mine), seconds(other)) for _ in range(rounds + 1)][1:]
    apart = float(np.linalg.norm(result - expected) / np.linalg.norm(expected))
    a, b = (median(side) * 1e6 for side in zip(*times, strict=True))
    return Timing(operation, a, b, apart)
