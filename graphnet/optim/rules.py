"""The optimisers, with PyTorch's names, defaults and formulas. p parameter, g gradient, all elementwise."""

from __future__ import annotations

from collections.abc import Mapping

from graphnet.compiler import build as b
from graphnet.compiler.errors import GraphnetError
from graphnet.compiler.ir import Node
from graphnet.optim.base import Optimizer
from graphnet.tensor import user_where

Nodes = Mapping[str, Node]
Result = tuple[Node, dict[str, Node]]


def _blend(old: Node, new: Node, keep: Node, rest: Node) -> Node:
    """keep * old + rest * new"""
    return b.add(b.mul(keep, old), b.mul(rest, new))


def _root(x: Node) -> Node:
    return b.unary("sqrt", x)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al., ICML 2013).

    velocity = momentum * velocity + g;   p = p - lr * velocity
    nesterov:                             p = p - lr * (g + momentum * velocity)
    """

    slots = ("velocity",)

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        clip_norm: float | None = None,
        l1: float | None = None,
        l2: float | None = None,
    ) -> None:
        if nesterov and momentum == 0:
            raise GraphnetError(f"{user_where()}: SGD: nesterov needs momentum: give momentum=0.9, say")
        fixed = {"nesterov": bool(nesterov)}
        super().__init__({"lr": lr}, {"momentum": momentum}, fixed, clip_norm=clip_norm, l1=l1, l2=l2)

    def active_slots(self) -> tuple[str, ...]:
        return self.slots if self.on("momentum") else ()

    def rule(self, p: Node, g: Node, slots: Nodes, s: Nodes) -> Result:
        if not slots:
            return b.sub(p, b.mul(s["lr"], g)), {}
        velocity = b.add(b.mul(s["momentum"], slots["velocity"]), g)
        step = b.add(g, b.mul(s["momentum"], velocity)) if self.on("nesterov") else velocity
        return b.sub(p, b.mul(s["lr"], step)), {"velocity": velocity}


class Adagrad(Optimizer):
    """Adagrad (Duchi et al., JMLR 2011): steps shrink where gradients were large.

    square_sum = square_sum + g*g;   p = p - lr * g / (sqrt(square_sum) + eps)
    """

    slots = ("square_sum",)

    def __init__(
        self,
        lr: float = 0.01,
        initial_accumulator: float = 0.0,
        eps: float = 1e-10,
        *,
        clip_norm: float | None = None,
        l1: float | None = None,
        l2: float | None = None,
    ) -> None:
        fixed = {"initial_accumulator": self.checked("initial_accumulator", initial_accumulator)}
        super().__init__({"lr": lr, "eps": eps}, fixed=fixed, clip_norm=clip_norm, l1=l1, l2=l2)

    def slot_init(self, name: str) -> float:
        start: float = self.initial_accumulator
        return start

    def rule(self, p: Node, g: Node, slots: Nodes, s: Nodes) -> Result:
        total = b.add(slots["square_sum"], b.unary("square", g))
        step = b.div(b.mul(s["lr"], g), b.add(_root(total), s["eps"]))
        return b.sub(p, step), {"square_sum": total}


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012): steps in the units of the parameter.

    square_mean = rho * square_mean + (1 - rho) * g*g
    step        = sqrt(step_mean + eps) / sqrt(square_mean + eps) * g
    step_mean   = rho * step_mean + (1 - rho) * step*step;   p = p - lr * step
    """

    slots = ("square_mean", "step_mean")

    def __init__(
        self,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        *,
        clip_norm: float | None = None,
        l1: float | None = None,
        l2: float | None = None,
    ) -> None:
        super().__init__({"lr": lr, "rho": rho, "eps": eps}, clip_norm=clip_norm, l1=l1, l2=l2)

    def scalars(self, hyper: Nodes) -> dict[str, Node]:
        return {**hyper, "rest": b.sub(1.0, hyper["rho"])}

    def rule(self, p: Node, g: Node, slots: Nodes, s: Nodes) -> Result:
        squares = _blend(slots["square_mean"], b.unary("square", g), s["rho"], s["rest"])
        scale = b.div(_root(b.add(slots["step_mean"], s["eps"])), _root(b.add(squares, s["eps"])))
        step = b.mul(scale, g)
        steps = _blend(slots["step_mean"], b.unary("square", step), s["rho"], s["rest"])
        return b.sub(p, b.mul(s["lr"], step)), {"square_mean": squares, "step_mean": steps}


class RMSprop(Optimizer):
    """RMSprop (Tieleman, Hinton, lecture 6.5, 2012); ``centered`` (Graves 2013) takes out the mean first.

    square_mean   = alpha * square_mean + (1 - alpha) * g*g
    gradient_mean = alpha * gradient_mean + (1 - alpha) * g                     (centered)
    step          = g / (sqrt(square_mean [- gradient_mean**2]) + eps)
    velocity      = momentum * velocity + step;   p = p - lr * velocity         (momentum; else lr * step)
    """

    slots = ("square_mean", "gradient_mean", "velocity")

    def __init__(
        self,
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        clip_norm: float | None = None,
        l1: float | None = None,
        l2: float | None = None,
    ) -> None:
        values, fixed = {"lr": lr, "alpha": alpha, "eps": eps}, {"centered": bool(centered)}
        super().__init__(values, {"momentum": momentum}, fixed, clip_norm=clip_norm, l1=l1, l2=l2)

    def active_slots(self) -> tuple[str, ...]:
        needed = {"square_mean": True, "gradient_mean": self.on("centered"), "velocity": self.on("momentum")}
        return tuple(slot for slot in self.slots if needed[slot])

    def scalars(self, hyper: Nodes) -> dict[str, Node]:
        return {**hyper, "rest": b.sub(1.0, hyper["alpha"])}

    def rule(self, p: Node, g: Node, slots: Nodes, s: Nodes) -> Result:
        squares = _blend(slots["square_mean"], b.unary("square", g), s["alpha"], s["rest"])
        moved, spread = {"square_mean": squares}, squares
        if "gradient_mean" in slots:
            mean = _blend(slots["gradient_mean"], g, s["alpha"], s["rest"])
            moved["gradient_mean"] = mean
            # rounding may take the difference below 0, where PyTorch's formula gives NaN
            spread = b.maximum(b.sub(squares, b.unary("square", mean)), 0.0)
        step = b.div(g, b.add(_root(spread), s["eps"]))
        if "velocity" in slots:
            step = moved["velocity"] = b.add(b.mul(s["momentum"], slots["velocity"]), step)
        return b.sub(p, b.mul(s["lr"], step)), moved


class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015), with bias-corrected moments; t is the number of the step, from 1.

    m = beta1 * m + (1 - beta1) * g;   v = beta2 * v + (1 - beta2) * g*g
    p = p - lr / (1 - beta1**t) * m / (sqrt(v) / sqrt(1 - beta2**t) + eps)
    """

    slots = ("m", "v")
    counts = True

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        clip_norm: float | None = None,
        l1: float | None = None,
        l2: float | None = None,
    ) -> None:
        values = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
        super().__init__(values, clip_norm=clip_norm, l1=l1, l2=l2)

    def scalars(self, hyper: Nodes) -> dict[str, Node]:
        beta1, beta2, t = hyper["beta1"], hyper["beta2"], hyper["t"]
        return {
            "beta1": beta1,
            "beta2": beta2,
            "eps": hyper["eps"],
            "rest1": b.sub(1.0, beta1),
            "rest2": b.sub(1.0, beta2),
            "step": b.div(hyper["lr"], b.sub(1.0, b.pow_(beta1, t))),
            # multiplied, not divided by: one reciprocal a step instead of a division an element
            "correct2": b.unary("reciprocal", _root(b.sub(1.0, b.pow_(beta2, t)))),
        }

    def rule(self, p: Node, g: Node, slots: Nodes, s: Nodes) -> Result:
        m = _blend(slots["m"], g, s["beta1"], s["rest1"])
        v = _blend(slots["v"], b.unary("square", g), s["beta2"], s["rest2"])
        size = b.add(b.mul(_root(v), s["correct2"]), s["eps"])
        return b.sub(p, b.mul(s["step"], b.div(m, size))), {"m": m, "v": v}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019): first p = (1 - lr * weight_decay) * p.

    Unlike l2, the decay is no part of the gradient: it is neither clipped nor scaled by the moments.
    """

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        clip_norm: float | None = None,
        l1: float | None = None,
        l2: float | None = None,
    ) -> None:
        values = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
        Optimizer.__init__(self, values, clip_norm=clip_norm, l1=l1, l2=l2)

    def scalars(self, hyper: Nodes) -> dict[str, Node]:
        return {**super().scalars(hyper), "shrink": b.sub(1.0, b.mul(hyper["lr"], hyper["weight_decay"]))}

    def rule(self, p: Node, g: Node, slots: Nodes, s: Nodes) -> Result:
        return super().rule(b.mul(s["shrink"], p), g, slots, s)
