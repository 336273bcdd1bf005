"""PyTorch: eager with modules and its fused optimisers, and the whole step under torch.compile."""

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

    def __init__(self, case: Case, params: Arrays, threads: int, cells: bool = False) -> None:
        super().__init__(case, params, threads)
        torch.set_num_threads(threads)
        self.module = module_of(case, params, CellLSTM if cells else LayerLSTM)
        self.learned = [p for p in self.module.parameters() if p.requires_grad]
        rule: Any = torch.optim.Adam if case.adam else torch.optim.SGD
        self.optimizer = rule(self.learned, lr=case.lr, fused=True)
        self.states = [(torch.zeros(case.batch, units), torch.zeros(case.batch, units)) for units in case.hidden]

    def forward(self, x: Tensor) -> Tensor:
        if self.case.model != "charlm":
            return self.module(x)
        scores, states = self.module(x, self.states)
        self.states = [(h.detach(), c.detach()) for h, c in states]
        return scores

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        if self.case.squared:
            return F.mse_loss(output, y)
        if self.case.model == "charlm":
            return F.cross_entropy(output.flatten(0, 1), y.T.flatten())
        return F.cross_entropy(output, y)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        loss = self.loss(self.forward(torch.from_numpy(x)), torch.from_numpy(y))
        self.optimizer.zero_grad()
        loss.backward()
        if self.case.clip:
            nn.utils.clip_grad_norm_(self.learned, self.case.clip)
        self.optimizer.step()
        return loss.item()

    def infer(self, x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            output = self.forward(torch.from_numpy(x))
            return output.transpose(0, 1).numpy() if self.case.model == "charlm" else output.numpy()


class Compiled(Peer):
    """One compiled function for the whole step: loss, gradients, clipping, update."""

    packages = ("torch", "numpy")
    ids: Any = np.int64

    def __init__(self, case: Case, params: Arrays, threads: int) -> None:
        super().__init__(case, params, threads)
        torch.set_num_threads(threads)
        self.eager = Eager(case, params, threads, cells=True)
        self.module = self.eager.module
        self.learned = {name: p.detach() for name, p in self.module.named_parameters()}
        self.slots = [{n: torch.zeros_like(p) for n, p in self.learned.items()} for _ in range(2 * case.adam)]
        self.count = torch.zeros(())
        self.states = self.eager.states
        self.compiled: Callable[..., Any] = torch.compile(self.whole_step, fullgraph=True, dynamic=False)
        self.outputs: Callable[..., Any] = torch.compile(self.forward, fullgraph=True, dynamic=False)

    def forward(self, params: dict[str, Tensor], x: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        if self.case.model != "charlm":
            return torch.func.functional_call(self.module, params, (x,)), states
        return torch.func.functional_call(self.module, params, (x, states))

    def whole_step(
        self, params: dict[str, Tensor], slots: list[dict[str, Tensor]], t: Tensor, states: Any, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Any]:
        def loss_of(params: dict[str, Tensor]) -> tuple[Tensor, Any]:
            output, after = self.forward(params, x, states)
            return self.eager.loss(output, y), after

        grads, (loss, after) = torch.func.grad(lambda p: (lambda r: (r[0], (r[0], r[1])))(loss_of(p)), has_aux=True)(
            params
        )
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
        return loss, after

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        inputs = torch.from_numpy(x), torch.from_numpy(y)
        with torch.no_grad():
            loss, self.states = self.compiled(self.learned, self.slots, self.count, self.states, *inputs)
        return loss.item()

    def infer(self, x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            output, self.states = self.outputs(self.learned, torch.from_numpy(x), self.states)
            return output.transpose(0, 1).numpy() if self.case.model == "charlm" else output.numpy()
