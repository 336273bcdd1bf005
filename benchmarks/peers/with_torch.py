"""PyTorch: eager with modules and its fused optimisers, and the whole step under torch.compile.

On a GPU products and convolutions are of strict float32 (no TF32), and cuDNN picks its algorithms by trying them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peers.cases import Arrays, Case
from peers.peer import Peer

State = tuple[Tensor, Tensor]


def tensor(array: np.ndarray) -> Tensor:
    """A tensor of its own memory."""
    return torch.from_numpy(np.array(array))


class Scale(nn.Module):
    """One parameter times a scalar."""

    def __init__(self, params: Arrays) -> None:
        super().__init__()
        self.w = nn.Parameter(tensor(params["w"]))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


def linear(params: Arrays, index: int) -> nn.Linear:
    w = params[f"dense_{index}/w"]
    layer = nn.Linear(*w.shape)
    layer.weight.data, layer.bias.data = tensor(w.T), tensor(params[f"dense_{index}/b"])
    return layer


def convolution(params: Arrays, index: int) -> nn.Conv2d:
    w = params[f"conv2d_{index}/w"]
    layer = nn.Conv2d(w.shape[1], w.shape[0], w.shape[2])
    layer.weight.data, layer.bias.data = tensor(w), tensor(params[f"conv2d_{index}/b"])
    return layer


class LayerLSTM(nn.Module):
    """``torch.nn.LSTM`` as it comes; time first, which is what it runs fastest on."""

    def __init__(self, params: Arrays, index: int) -> None:
        super().__init__()
        wx, wh, b = (params[f"lstm_{index}/{part}"] for part in ("wx", "wh", "b"))
        self.lstm = nn.LSTM(len(wx), len(wh))
        self.lstm.weight_ih_l0.data, self.lstm.weight_hh_l0.data = tensor(wx.T), tensor(wh.T)
        self.lstm.bias_ih_l0.data, self.lstm.bias_hh_l0.data = tensor(b), torch.zeros(len(b))
        # graphnet's LSTM has one bias; a second one that learns would double its steps
        self.lstm.bias_hh_l0.requires_grad_(False)
        self.lstm.flatten_parameters()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        out, (h, c) = self.lstm(x, (state[0][None], state[1][None]))
        return out, (h[0], c[0])


class CellLSTM(nn.Module):
    """The same by cells, the product of the inputs of all steps taken out of the loop by hand."""

    def __init__(self, params: Arrays, index: int) -> None:
        super().__init__()
        for part in ("wx", "wh", "b"):
            setattr(self, part, nn.Parameter(tensor(params[f"lstm_{index}/{part}"])))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        out = []
        for row in (x @ self.wx + self.b).unbind(0):
            i, f, g, o = torch.addmm(row, h, self.wh).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            out.append(h)
        return torch.stack(out), (h, c)


class Charlm(nn.Module):
    """Embedding, LSTM layers whose state is given and returned, dense."""

    def __init__(self, case: Case, params: Arrays, layer: type[nn.Module]) -> None:
        super().__init__()
        table = tensor(params["embedding_1/w"])
        self.embedding = nn.Embedding(*table.shape)
        self.embedding.weight.data = table
        self.lstms = nn.ModuleList(layer(params, i) for i in range(1, len(case.hidden) + 1))
        self.dense = linear(params, 1)

    def forward(self, ids: Tensor, states: Sequence[State]) -> tuple[Tensor, list[State]]:
        x, after = self.embedding(ids.T), []
        for lstm, state in zip(self.lstms, states, strict=True):
            x, state = lstm(x, state)
            after.append(state)
        return self.dense(x), after


def module_of(case: Case, params: Arrays, layer: type[nn.Module]) -> nn.Module:
    """The model as a module."""
    if case.model == "empty":
        return Scale(params)
    if case.model == "charlm":
        return Charlm(case, params, layer)
    if case.model == "lenet":
        pooled = [nn.MaxPool2d(2), nn.ReLU()]  # relu of the maximum is the maximum of relu, on a quarter of the data
        convolutions = [convolution(params, 1), *pooled, convolution(params, 2), *pooled]
        return nn.Sequential(*convolutions, nn.Flatten(), linear(params, 1), nn.ReLU(), linear(params, 2))
    layers: list[nn.Module] = [nn.Flatten()]
    for index in range(1, len(params) // 2 + 1):
        layers += [linear(params, index), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Eager(Peer):
    """Eager PyTorch; ``cells`` chooses the LSTM by hand."""

    packages = ("torch", "numpy")
    ids: Any = np.int64

    def __init__(
        self, case: Case, params: Arrays, threads: int, cells: bool = False, device: str = "cpu", **rule: Any
    ) -> None:
        """``rule`` are options of the optimiser."""
        super().__init__(case, params, threads, device)
        torch.set_num_threads(threads)
        if device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.benchmark = True
        self.module = module_of(case, params, CellLSTM if cells else LayerLSTM).to(device)
        self.learned = [p for p in self.module.parameters() if p.requires_grad]
        kind: Any = torch.optim.Adam if case.adam else torch.optim.SGD
        self.optimizer = kind(self.learned, lr=case.lr, fused=True, **rule)
        shapes = [(case.batch, units) for units in case.hidden if case.model == "charlm"]
        self.states = [(torch.zeros(s, device=device), torch.zeros(s, device=device)) for s in shapes]

    def put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def taken(self, batch: Sequence[Any]) -> list[Tensor]:
        """A batch as tensors on the device."""
        return [a if isinstance(a, Tensor) else torch.from_numpy(a).to(self.device, non_blocking=True) for a in batch]

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def fetch(self, result: Tensor) -> np.ndarray:
        return result.detach().cpu().numpy()

    def keep(self, states: Sequence[State]) -> None:
        """The LSTMs' states for the next step."""
        self.states = [(h.detach(), c.detach()) for h, c in states]

    def forward(self, x: Tensor) -> Tensor:
        if self.case.model != "charlm":
            return self.module(x)
        scores, states = self.module(x, self.states)
        self.keep(states)
        return scores

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        if self.case.squared:
            return F.mse_loss(output, y)
        if self.case.model == "charlm":
            return F.cross_entropy(output.flatten(0, 1), y.T.flatten())
        return F.cross_entropy(output, y)

    def train(self, x: Tensor, y: Tensor) -> Tensor:
        """One step; the loss as a tensor."""
        loss = self.loss(self.forward(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        if self.case.clip:
            nn.utils.clip_grad_norm_(self.learned, self.case.clip)
        self.optimizer.step()
        return loss

    def outputs(self, x: Tensor) -> Tensor:
        """The output, batch first."""
        output = self.forward(x)
        return output.transpose(0, 1) if self.case.model == "charlm" else output

    def start(self, *batch: Any) -> Tensor:
        if self.case.mode == "train":
            return self.train(*self.taken(batch))
        with torch.inference_mode():
            return self.outputs(*self.taken(batch))

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return self.start(x, y).item()

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.fetch(self.start(x))


class Compiled(Eager):
    """One compiled function for the whole step: loss, gradients, clipping, update.

    ``mode`` is torch.compile's. In those with CUDA graphs all that changes in place is at addresses that stay, which
    is what lets the update into the graph.
    """

    def __init__(self, case: Case, params: Arrays, threads: int, mode: str | None = None, device: str = "cpu") -> None:
        super().__init__(case, params, threads, cells=True, device=device)
        self.values = {name: p.detach() for name, p in self.module.named_parameters()}
        self.slots = [{n: torch.zeros_like(p) for n, p in self.values.items()} for _ in range(2 * case.adam)]
        self.count = torch.zeros((), device=device)
        self.graphed = mode is not None
        if self.graphed:
            lasting = [self.count, *self.values.values(), *(p for slot in self.slots for p in slot.values())]
            for t in (*lasting, *(part for state in self.states for part in state)):
                torch._dynamo.mark_static_address(t)
        how: Any = {"fullgraph": True, "dynamic": False, "mode": mode}
        self.whole: Callable[..., Any] = torch.compile(self.whole_step, **how)
        self.inference: Callable[..., Any] = torch.compile(self.whole_inference, **how)

    def called(self, params: dict[str, Tensor], x: Tensor, states: list[State]) -> tuple[Tensor, Sequence[State]]:
        """The module as a function of its parameters: its output and the states after."""
        if self.case.model != "charlm":
            return torch.func.functional_call(self.module, params, (x,)), states
        return torch.func.functional_call(self.module, params, (x, states))

    def whole_step(
        self, params: dict[str, Tensor], slots: list[dict[str, Tensor]], t: Tensor, states: Any, x: Tensor, y: Tensor
    ) -> Tensor:
        def loss_of(params: dict[str, Tensor]) -> tuple[Tensor, Any]:
            output, after = self.called(params, x, states)
            loss = self.loss(output, y)
            return loss, (loss, after)

        grads, (loss, after) = torch.func.grad(loss_of, has_aux=True)(params)
        if self.case.clip:
            norm = torch.sqrt(sum(torch.sum(g * g) for g in grads.values()))
            factor = torch.clamp(self.case.clip / (norm + 1e-6), max=1.0)
            grads = {name: g * factor for name, g in grads.items()}
        if self.case.adam:
            t += 1
            first, second = slots
            for name, g in grads.items():
                first[name].mul_(0.9).add_(g, alpha=0.1)
                second[name].mul_(0.999).addcmul_(g, g, value=0.001)
                size = second[name].sqrt() * (1 - 0.999**t).rsqrt() + 1e-8
                params[name] -= self.case.lr / (1 - 0.9**t) * first[name] / size
        else:
            for name, g in grads.items():
                params[name] -= self.case.lr * g
        put_back(states, after)
        return loss

    def whole_inference(self, params: dict[str, Tensor], states: Any, x: Tensor) -> Tensor:
        output, after = self.called(params, x, states)
        put_back(states, after)
        return output.transpose(0, 1) if self.case.model == "charlm" else output

    def train(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return self.whole(self.values, self.slots, self.count, self.states, x, y)

    def outputs(self, x: Tensor) -> Tensor:
        return self.inference(self.values, self.states, x)

    def notes(self) -> list[str]:
        skipped = self.graphed and torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
        return ["without CUDA graphs"] if skipped else []


def put_back(states: Sequence[State], after: Sequence[State]) -> None:
    """Write the states after a step over those before it."""
    for old, new in zip(states, after, strict=True):
        for place, value in zip(old, new, strict=True):
            if place is not value:
                place.copy_(value)
