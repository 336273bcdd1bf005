"""``graphnet train mlp --data mnist`` as a PyTorch script: python -m peers.mnist_torch FOLDER EPOCHS"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from peers import mnist


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.inference_mode():
        return float((model(x).argmax(1) == y).float().mean())


def main(folder: str, epochs: int) -> None:
    torch.manual_seed(0)
    x, y, x_test, y_test = map(torch.from_numpy, mnist.load(folder))
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    for layer in (model[0], model[2]):
        nn.init.uniform_(layer.weight, -mnist.SPREAD, mnist.SPREAD)
        nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=mnist.RATE)
    for epoch in range(1, epochs + 1):
        total = 0.0
        for rows, ids in zip(x.split(mnist.BATCH), y.split(mnist.BATCH), strict=True):
            loss = nn.functional.cross_entropy(model(rows), ids)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        train, test = accuracy(model, x, y), accuracy(model, x_test, y_test)
        mean = total * mnist.BATCH / len(x)
        print(f"epoch {epoch}/{epochs}  loss {mean:.4f}  train accuracy {train:.4f}  test accuracy {test:.4f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
