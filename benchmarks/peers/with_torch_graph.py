"""Eager PyTorch with its whole step captured by hand as one CUDA graph, update included.

Batches are copied to the memory that the graph reads; the loss stays where the graph writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from peers.cases import Arrays, Case
from peers.with_torch import Eager, State, put_back

WARMED = 3  # steps before the capture: libraries allocate and choose algorithms in their first ones


class Captured(Eager):
    """One ``torch.cuda.CUDAGraph``; without a GPU the same step is taken eagerly, on the same memory."""

    def __init__(self, case: Case, params: Arrays, threads: int, cells: bool = False, device: str = "cpu") -> None:
        rule = {"capturable": True} if case.adam and device == "cuda" else {}
        super().__init__(case, params, threads, cells, device, **rule)
        kinds = {"float32": torch.float32, "int32": torch.int64}
        shapes = [(case.shape, case.dtype), case.target][: 1 if case.mode == "infer" else 2]
        self.given = [torch.zeros(shape, dtype=kinds[dtype], device=device) for shape, dtype in shapes]
        self.replay = self.captured()

    def keep(self, states: Sequence[State]) -> None:
        self.after = states  # gradients still need those before

    def whole(self) -> None:
        """The step on the graph's own memory."""
        self.after = self.states
        with torch.set_grad_enabled(self.case.mode == "train"):
            result = self.train(*self.given) if self.case.mode == "train" else self.outputs(*self.given)
        with torch.no_grad():
            put_back(self.states, self.after)
        self.result = result.detach()

    def captured(self) -> Callable[[], Any]:
        """What runs the step; everything that the warming changed is as it was before."""
        lasting: list[Tensor] = [*self.learned, *(part for state in self.states for part in state)]
        before = [t.detach().clone() for t in lasting]
        side: Any = torch.cuda.Stream() if self.device == "cuda" else None
        self.wait()
        with torch.cuda.stream(side):
            for _ in range(WARMED):
                self.whole()
        self.wait()
        with torch.no_grad():
            for t, value in zip(lasting, before, strict=True):
                t.copy_(value)
            for slots in self.optimizer.state.values():
                for value in slots.values():
                    if isinstance(value, Tensor):
                        value.zero_()
        if side is None:
            return self.whole
        self.optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.whole()
        return graph.replay

    def start(self, *batch: Any) -> Tensor:
        with torch.no_grad():
            for place, value in zip(self.given, batch, strict=True):
                place.copy_(value if isinstance(value, Tensor) else torch.from_numpy(value), non_blocking=True)
        self.replay()
        return self.result
