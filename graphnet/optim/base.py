"""What all optimisers share: checked hyperparameters, penalties, clipping, and the update as graph.

An optimiser computes nothing. It says once how new parameters follow from old ones and gradients; that graph
is compiled with the rest of the step. Hyperparameters are leaves of it, so they can change between steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from graphnet.compiler import build as b
from graphnet.compiler.errors import GraphnetError, NameError_, TraceError
from graphnet.compiler.ir import Node, Type, Where, leaf
from graphnet.tensor import user_where

Nodes = Mapping[str, Node]
_SHARED = Where(scope="optimizer")
_NONE: Mapping[str, Any] = MappingProxyType({})
_BELOW_ONE = ("alpha", "beta1", "beta2", "momentum", "rho")
_EXTRAS = ("clip_norm", "l1", "l2")


class Optimizer:
    """Base of the optimisers: hyperparameters are float attributes that may be set at any time.

    ``opt.lr = 0.05`` takes effect at the next step. Options of every optimiser, in the graph only if given:

    clip_norm  scale all gradients by min(1, clip_norm / (norm + 1e-6)) by the norm of all of them together
               (Pascanu et al., ICML 2013; the formula is that of torch.nn.utils.clip_grad_norm_)
    l1, l2     add l1 * sign(p) + l2 * p to each gradient: that of the penalty l1 * sum|p| + l2/2 * sum p*p.
               The penalty is part of the loss, so it comes before clipping; l2 is PyTorch's weight_decay

    Raises GraphnetError, one line, for a value out of range, NameError for an unknown attribute and
    TraceError for one that was left out when the optimiser was made.

    A subclass defines ``rule``, and where needed ``slots``, ``counts``, ``scalars`` and ``slot_init``.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays kept for each parameter."""
    counts: ClassVar[bool] = False
    """Whether the rule needs the number of the step."""

    _values: dict[str, float]
    _off: dict[str, float | None]
    _fixed: dict[str, Any]

    def __init__(
        self,
        values: Mapping[str, float],
        optional: Mapping[str, float] = _NONE,
        fixed: Mapping[str, Any] = _NONE,
        **extras: float | None,
    ) -> None:
        """``optional`` values are left out of the graph if they are 0, ``extras`` if they are None."""
        given = {name: value for name, value in optional.items() if value != 0}
        given |= {name: value for name, value in extras.items() if value is not None}
        self._setup({**values, **given}, {**dict.fromkeys(optional, 0.0), **dict.fromkeys(_EXTRAS)}, fixed)

    def _setup(
        self, values: Mapping[str, float], optional: Mapping[str, float | None], fixed: Mapping[str, Any]
    ) -> None:
        checked = {name: self.checked(name, value) for name, value in values.items()}
        # past __setattr__, which knows hyperparameters only
        self.__dict__["_values"] = checked
        self.__dict__["_off"] = {name: value for name, value in optional.items() if name not in checked}
        self.__dict__["_fixed"] = dict(fixed)

    @property
    def hyper(self) -> Mapping[str, float]:
        """The current values of the hyperparameters in the graph, by name: a live read-only view."""
        return MappingProxyType(self._values)

    def __getattr__(self, name: str) -> Any:
        # only asked for what is not found otherwise; names with an underscore are never hyperparameters
        if not name.startswith("_"):
            for table in (self._values, self._off, self._fixed):
                if name in table:
                    return table[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self).__name__
        if name in self._values:
            self._values[name] = self.checked(name, value)
        elif name in self._fixed or (name in self._off and value is not None and value != self._off[name]):
            raise TraceError(f"{user_where()}: {kind}: {name} is fixed at the start: give {name}= to {kind}(...)")
        elif name not in self._off:
            known = ", ".join([*self._values, *self._off])
            raise NameError_(f"{user_where()}: {kind} has no hyperparameter {name!r}: it has {known}")

    def checked(self, name: str, value: Any) -> float:
        """``value`` as a float if it may be hyperparameter ``name``; raises GraphnetError."""
        below_one, positive = name in _BELOW_ONE, name == "clip_norm"
        good = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        # written so that NaN fails
        good = good and (value > 0 if positive else value >= 0)
        good = good and (value < 1 if below_one else positive or value < math.inf)
        if not good:
            wanted = "in [0, 1)" if below_one else "positive" if positive else "finite and at least 0"
            raise GraphnetError(
                f"{user_where()}: {type(self).__name__}: {name} must be a number, {wanted}, got {value!r}"
            )
        return float(value)

    def __repr__(self) -> str:
        values = {**self._values, **self._fixed}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def config(self) -> dict[str, Any]:
        """Name and hyperparameters as JSON can hold them; ``gn.optim.from_config`` reads it."""
        return {"name": type(self).__name__, "hyper": dict(self._values), "fixed": dict(self._fixed)}

    @classmethod
    def restore(cls, config: Mapping[str, Any]) -> Self:
        """The optimiser of this class whose ``config()`` this is: what was on is on, also where it is 0."""
        made = cls()  # type: ignore[call-arg]  # every rule has defaults
        hyper, fixed = config["hyper"], config["fixed"]
        needed, optional = set(made._values), set(made._off)
        wrong = (needed - set(hyper)) | (set(hyper) - needed - optional) | (set(fixed) ^ set(made._fixed))
        if wrong:
            raise NameError_(f"{cls.__name__}: the saved hyperparameters do not fit: {', '.join(sorted(wrong))}")
        made._setup(hyper, made._off, fixed)
        return made

    def slot_init(self, name: str) -> float:
        """What the slot leaf ``name`` (``velocity/lenet/dense_1/w``) is filled with before the first step."""
        return 0.0

    def active_slots(self) -> tuple[str, ...]:
        """The slots this configuration needs."""
        return self.slots

    def on(self, name: str) -> bool:
        """Whether an option is in the graph."""
        return name in self._values or bool(self._fixed.get(name))

    def updates(self, params: Nodes, grads: Nodes) -> list[tuple[Node, Node]]:
        """Pairs (leaf, new value) for every parameter in ``grads``, its slots and the step counter.

        New leaves: ``optimizer/NAME`` (role hyper, float64 scalar) for each of ``hyper``; ``SLOT/PARAM``
        (role slot) like its parameter; ``optimizer/t`` (role slot, int32 scalar: steps done).
        """
        pairs = []
        with b.at(_SHARED):
            hyper = {name: leaf(f"optimizer/{name}", "hyper", Type((), "float64")) for name in self._values}
            if self.counts:
                done = leaf("optimizer/t", "slot", Type((), "int32"), _SHARED)
                pairs.append((done, b.add(done, 1)))
                hyper["t"] = b.cast(pairs[0][1], "float64")
            scalars = self.scalars(hyper)
        grads = _clipped(hyper, _penalised(hyper, params, grads))
        for name, gradient in grads.items():
            p = params[name]
            with b.at(_of(p)):
                slots = {slot: leaf(f"{slot}/{name}", "slot", p.out, p.where) for slot in self.active_slots()}
                own = {key: b.cast(value, p.dtype) for key, value in scalars.items()}
                new, moved = self.rule(p, gradient, slots, own)
            pairs += [(p, new), *((slots[slot], moved[slot]) for slot in slots)]
        return pairs

    def scalars(self, hyper: Nodes) -> dict[str, Node]:
        """What the rule needs, float64 scalars worked out once a step; ``hyper["t"]`` counts from 1."""
        return dict(hyper)

    def rule(self, p: Node, g: Node, slots: Nodes, s: Nodes) -> tuple[Node, dict[str, Node]]:
        """New values of ``p`` and its slots, elementwise, from gradient ``g`` and scalars of p's dtype."""
        raise TraceError(f"{type(self).__name__} has no update rule: define rule(p, g, slots, s)")


def _penalised(hyper: Nodes, params: Nodes, grads: Nodes) -> dict[str, Node]:
    result = {}
    for name, g in grads.items():
        p = params[name]
        with b.at(_of(p)):
            if "l1" in hyper:
                g = b.add(g, b.mul(b.cast(hyper["l1"], p.dtype), b.unary("sign", p)))
            if "l2" in hyper:
                g = b.add(g, b.mul(b.cast(hyper["l2"], p.dtype), p))
        result[name] = g
    return result


def _clipped(hyper: Nodes, grads: Nodes) -> Nodes:
    if "clip_norm" not in hyper or not grads:
        return grads
    with b.at(_SHARED):
        squares = [b.sum_(b.unary("square", g), range(g.ndim)) for g in grads.values()]
        norm = b.unary("sqrt", functools.reduce(b.add, [b.cast(s, "float64") for s in squares]))
        factor = b.minimum(b.div(hyper["clip_norm"], b.add(norm, 1e-6)), 1.0)
        return {name: b.mul(g, b.cast(factor, g.dtype)) for name, g in grads.items()}


def _of(p: Node) -> Where:
    """The parameter's line, in the optimiser's scope."""
    return Where(p.where.file, p.where.line, "/".join(filter(None, ["optimizer", p.where.scope])))
