"""LeNet in NumPy by hand: patches laid out in rows, a product for each convolution, images as (N, H, W, C) within."""

from __future__ import annotations

import numpy as np

from peers.cases import Arrays, Case
from peers.peer import Peer
from peers.with_numpy import SGD, Softmax

K = 5


class Convolution:
    """A 5x5 convolution with relu and 2x2 pooling, forward and backward."""

    def __init__(self, name: str, params: Arrays, grads: Arrays, shape: tuple[int, int, int, int]) -> None:
        batch, height, width, channels = shape
        self.w, self.b = params[f"{name}/w"], params[f"{name}/b"]
        self.gw, self.gb = grads[f"{name}/w"], grads[f"{name}/b"]
        filters, self.size = len(self.w), K * K * channels
        h, w = height - K + 1, width - K + 1
        self.patches = np.zeros((batch, h, w, K, K, channels), np.float32)
        self.rows = self.patches.reshape(-1, self.size)
        self.kernel = np.zeros((self.size, filters), np.float32)  # w with (K, K, channels) first
        self.kernel_gradient = np.zeros_like(self.kernel)
        self.out = np.zeros((batch, h, w, filters), np.float32)
        self.gradient = np.zeros_like(self.out)
        half = (batch, h // 2, w // 2, filters)
        self.pooled, self.low = np.zeros(half, np.float32), np.zeros(half, np.float32)
        self.first, self.last, self.upper = (np.zeros(half, bool) for _ in range(3))
        self.masks = [np.zeros(half, bool) for _ in range(4)]

    def order(self, kernel: np.ndarray) -> np.ndarray:
        """(K*K*channels, filters) seen as (filters, channels, K, K)."""
        filters = kernel.shape[1]
        return kernel.reshape(K, K, -1, filters).transpose(3, 2, 0, 1)

    @staticmethod
    def corners(image: np.ndarray) -> list[np.ndarray]:
        """The four positions of each 2x2 window."""
        return [image[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (N, H, W, C) to (N, H', W', filters)."""
        windows = np.lib.stride_tricks.sliding_window_view(x, (K, K), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
        np.copyto(self.patches, windows)
        np.copyto(self.order(self.kernel), self.w)
        np.matmul(self.rows, self.kernel, out=self.out.reshape(-1, len(self.w)))
        a, b, c, d = self.corners(self.out)
        # relu and bias come after the maximum: neither changes which element is the largest
        np.maximum(a, b, out=self.pooled)
        np.maximum(c, d, out=self.low)
        np.greater_equal(a, b, out=self.first)
        np.greater_equal(c, d, out=self.last)
        np.greater_equal(self.pooled, self.low, out=self.upper)
        np.maximum(self.pooled, self.low, out=self.pooled)
        self.pooled += self.b
        np.maximum(self.pooled, 0, out=self.pooled)
        return self.pooled

    def backward(self, g: np.ndarray, below: np.ndarray | None) -> None:
        """Gradients from that of the pooled output (used up); ``below`` receives the input's."""
        np.copyto(g, 0, where=np.equal(self.pooled, 0, out=self.masks[0]))
        first, last, upper = self.first, self.last, self.upper
        np.logical_and(upper, first, out=self.masks[0])
        np.greater(upper, first, out=self.masks[1])
        np.greater(last, upper, out=self.masks[2])
        np.logical_or(upper, last, out=self.masks[3])
        np.logical_not(self.masks[3], out=self.masks[3])
        for corner, mask in zip(self.corners(self.gradient), self.masks, strict=True):
            np.multiply(g, mask, out=corner)
        flat = self.gradient.reshape(-1, len(self.w))
        np.matmul(self.rows.T, flat, out=self.kernel_gradient)
        np.copyto(self.gw, self.order(self.kernel_gradient))
        np.sum(g, axis=(0, 1, 2), out=self.gb)
        if below is not None:
            np.matmul(flat, self.kernel.T, out=self.rows)  # the patches are needed no more
            below[...] = 0
            h, w = self.out.shape[1:3]
            for i in range(K):
                for j in range(K):
                    below[:, i : i + h, j : j + w] += self.patches[:, :, :, i, j]


class Lenet(Peer):
    """Two convolutions, two dense layers."""

    def __init__(self, case: Case, params: Arrays, threads: int) -> None:
        super().__init__(case, params, threads)
        n = case.batch
        self.params, self.grads = params, {name: np.zeros_like(p) for name, p in params.items()}
        self.conv1 = Convolution("conv2d_1", params, self.grads, (n, 28, 28, 1))
        self.conv2 = Convolution("conv2d_2", params, self.grads, (n, 12, 12, 20))
        # the dense layer takes features in the order of channels first
        self.flat, self.flat_gradient = (np.zeros((n, 800), np.float32) for _ in range(2))
        self.hidden, self.hidden_gradient = (np.zeros((n, 500), np.float32) for _ in range(2))
        self.scores = np.zeros((n, 10), np.float32)
        self.gradient2 = np.zeros((n, 4, 4, 50), np.float32)
        self.gradient1 = np.zeros((n, 12, 12, 20), np.float32)
        self.softmax, self.optimizer = Softmax(n, 10), SGD(params, case.lr)

    @staticmethod
    def images(flat: np.ndarray) -> np.ndarray:
        """(N, 800) seen as (N, 4, 4, 50)."""
        return flat.reshape(-1, 50, 4, 4).transpose(0, 2, 3, 1)

    def forward(self, x: np.ndarray) -> np.ndarray:
        p = self.params
        pooled = self.conv2.forward(self.conv1.forward(x.transpose(0, 2, 3, 1)))
        np.copyto(self.images(self.flat), pooled)
        np.matmul(self.flat, p["dense_1/w"], out=self.hidden)
        self.hidden += p["dense_1/b"]
        np.maximum(self.hidden, 0, out=self.hidden)
        np.matmul(self.hidden, p["dense_2/w"], out=self.scores)
        self.scores += p["dense_2/b"]
        return self.scores

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        scores, grads, p = self.forward(x), self.grads, self.params
        loss = self.softmax(scores, y, scores)
        np.matmul(self.hidden.T, scores, out=grads["dense_2/w"])
        np.sum(scores, axis=0, out=grads["dense_2/b"])
        g = np.matmul(scores, p["dense_2/w"].T, out=self.hidden_gradient)
        np.copyto(g, 0, where=self.hidden == 0)
        np.matmul(self.flat.T, g, out=grads["dense_1/w"])
        np.sum(g, axis=0, out=grads["dense_1/b"])
        np.matmul(g, p["dense_1/w"].T, out=self.flat_gradient)
        np.copyto(self.gradient2, self.images(self.flat_gradient))
        self.conv2.backward(self.gradient2, self.gradient1)
        self.conv1.backward(self.gradient1, None)
        self.optimizer.update(grads)
        return loss

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x).copy()
