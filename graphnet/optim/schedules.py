"""Learning rate schedules: objects that set ``optimizer.lr`` when told that an epoch (or any period) is over.

    schedule = gn.optim.schedules.Cosine(net.optimizer, total=10)
    for epoch in range(10):
        ...
        schedule.step()

``step`` also takes a metric, which only ReduceOnPlateau looks at, so that loops need not know which kind they
hold. The compiled step is untouched: the rate is one of its runtime scalars.
"""

from __future__ import annotations

import math
from typing import Any

from graphnet.compiler.errors import GraphnetError, NameError_
from graphnet.optim.base import Optimizer
from graphnet.tensor import user_where


class Schedule:
    """Base of the schedules: counts periods and sets the rate that ``rate(period)`` gives.

    ``base_lr`` is the optimiser's rate when the schedule is made. A ``step()`` overwrites rates set by hand.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.base_lr: float = optimizer.lr
        self.period = 0

    def rate(self, period: int) -> float:
        """The rate for a period, counted from 0."""
        return self.base_lr

    def step(self, metric: float | None = None) -> float:
        """A period is over: set the next one's rate and return it."""
        self.period += 1
        self.optimizer.lr = rate = self.rate(self.period)
        return rate

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` needs to go on from here, as JSON can hold it."""
        return {
            "name": type(self).__name__,
            "period": self.period,
            "base_lr": self.base_lr,
            "lr": self.optimizer.lr,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; raises NameError if it is another schedule's."""
        if state.get("name") != type(self).__name__ or set(state) != set(self.state_dict()):
            raise NameError_(
                f"{user_where()}: {type(self).__name__} cannot go on from the state of {state.get('name')}"
            )
        self.period, self.base_lr = int(state["period"]), float(state["base_lr"])
        self.optimizer.lr = state["lr"]

    def _check(self, good: bool, what: str) -> None:
        if not good:
            raise GraphnetError(f"{user_where()}: {type(self).__name__}: {what}")


class Step(Schedule):
    """base_lr * gamma ** (period // step_size)"""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self._check(step_size >= 1, f"step_size must be at least 1, got {step_size}")
        self._check(gamma >= 0, f"gamma must not be negative, got {gamma}")
        self.step_size, self.gamma = step_size, gamma

    def rate(self, period: int) -> float:
        return self.base_lr * self.gamma ** (period // self.step_size)


class Exponential(Schedule):
    """base_lr * gamma ** period"""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        super().__init__(optimizer)
        self._check(gamma >= 0, f"gamma must not be negative, got {gamma}")
        self.gamma = gamma

    def rate(self, period: int) -> float:
        return self.base_lr * self.gamma**period


class Cosine(Schedule):
    """Half a cosine from base_lr to min_lr at period ``total``; min_lr after (Loshchilov, Hutter 2017)."""

    def __init__(self, optimizer: Optimizer, total: int, min_lr: float = 0.0) -> None:
        super().__init__(optimizer)
        self._check(total >= 1, f"total must be at least 1, got {total}")
        self._check(min_lr >= 0, f"min_lr must not be negative, got {min_lr}")
        self.total, self.min_lr = total, min_lr

    def rate(self, period: int) -> float:
        if period >= self.total:
            return self.min_lr
        return self.min_lr + (self.base_lr - self.min_lr) * (1 + math.cos(math.pi * period / self.total)) / 2


class Warmup(Schedule):
    """A straight rise to base_lr: base_lr * (period + 1) / total for ``total`` periods (Goyal et al., 2017).

    Afterwards ``then``, a schedule of the same optimiser made before this one, counts on from its period 0.
    """

    def __init__(self, optimizer: Optimizer, total: int, then: Schedule | None = None) -> None:
        super().__init__(optimizer)
        self._check(total >= 1, f"total must be at least 1, got {total}")
        plain = then is None or type(then).step is Schedule.step
        self._check(plain, "the schedule to follow must depend on the period only")
        self.total, self.then = total, then
        optimizer.lr = self.rate(0)

    def rate(self, period: int) -> float:
        if period < self.total:
            return self.base_lr * (period + 1) / self.total
        return self.base_lr if self.then is None else self.then.rate(period - self.total)


class ReduceOnPlateau(Schedule):
    """Multiply the rate by ``factor`` when the metric has not got better for more than ``patience`` periods.

    Better is below best * (1 - threshold), or for mode "max" above best * (1 + threshold), as in PyTorch. The
    rate never falls below min_lr.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 0.1,
        patience: int = 10,
        min_lr: float = 0.0,
        mode: str = "min",
        threshold: float = 1e-4,
    ) -> None:
        super().__init__(optimizer)
        self._check(0 <= factor < 1, f"factor must be in [0, 1), got {factor}")
        self._check(patience >= 0, f"patience must not be negative, got {patience}")
        self._check(mode in ("min", "max"), f'mode must be "min" or "max", got {mode!r}')
        self.factor, self.patience, self.min_lr = factor, patience, min_lr
        self.mode, self.threshold = mode, threshold
        self.best: float | None = None
        self.bad = 0

    def step(self, metric: float | None = None) -> float:
        """A period is over with this metric: set the next one's rate and return it."""
        if metric is None or isinstance(metric, bool):
            raise GraphnetError(f"{user_where()}: ReduceOnPlateau: step needs the metric: step(loss)")
        self.period += 1
        if self._better(float(metric)):
            self.best, self.bad = float(metric), 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            self.bad = 0
            self.optimizer.lr = max(self.optimizer.lr * self.factor, min(self.min_lr, self.optimizer.lr))
        rate: float = self.optimizer.lr
        return rate

    def _better(self, metric: float) -> bool:
        if self.best is None:
            return not math.isnan(metric)
        if self.mode == "min":
            return metric < self.best * (1 - self.threshold)
        return metric > self.best * (1 + self.threshold)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best": self.best, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.best, self.bad = state["best"], state["bad"]
