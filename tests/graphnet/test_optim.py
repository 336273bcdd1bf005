"""Optimisers against hand-written NumPy formulas over five steps, options, hyperparameters, saving."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

import graphnet as gn
from graphnet import optim
from graphnet.compiler.ir import Graph, Type, is_leaf, leaf
from graphnet.compiler.verify import verify

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(6, 4)), DRAW.normal(size=(6, 3))
W, B = DRAW.normal(size=(4, 3)), DRAW.normal(size=(3,))
STEPS = 5


def sgd(p, g, s, t, lr=0.1, momentum=0.0, nesterov=False):
    s["velocity"] = momentum * s.get("velocity", 0) + g
    return p - lr * (g + momentum * s["velocity"] if nesterov else s["velocity"])


def adagrad(p, g, s, t, lr=0.1, start=0.0, eps=1e-10):
    s["sum"] = s.get("sum", start) + g * g
    return p - lr * g / (np.sqrt(s["sum"]) + eps)


def adadelta(p, g, s, t, lr=0.5, rho=0.8, eps=1e-5):
    s["square"] = rho * s.get("square", 0) + (1 - rho) * g * g
    step = np.sqrt(s.get("step", 0) + eps) / np.sqrt(s["square"] + eps) * g
    s["step"] = rho * s.get("step", 0) + (1 - rho) * step * step
    return p - lr * step


def rmsprop(p, g, s, t, lr=0.1, alpha=0.9, eps=1e-6, momentum=0.0, centered=False):
    s["square"] = alpha * s.get("square", 0) + (1 - alpha) * g * g
    s["mean"] = alpha * s.get("mean", 0) + (1 - alpha) * g
    spread = s["square"] - s["mean"] ** 2 if centered else s["square"]
    s["velocity"] = momentum * s.get("velocity", 0) + g / (np.sqrt(spread) + eps)
    return p - lr * s["velocity"]


def adam(p, g, s, t, lr=0.1, beta1=0.8, beta2=0.9, eps=1e-6, decay=0.0):
    p = p - lr * decay * p
    s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g * g
    return p - lr / (1 - beta1**t) * s["m"] / (np.sqrt(s["v"]) / np.sqrt(1 - beta2**t) + eps)


RULES = {
    "sgd": (lambda **o: optim.SGD(lr=0.1, **o), sgd, {}),
    "momentum": (lambda **o: optim.SGD(0.1, 0.7, **o), sgd, {"momentum": 0.7}),
    "nesterov": (
        lambda **o: optim.SGD(0.1, 0.7, nesterov=True, **o),
        sgd,
        {"momentum": 0.7, "nesterov": True},
    ),
    "adagrad": (lambda **o: optim.Adagrad(lr=0.1, **o), adagrad, {}),
    "adagrad from 0.5": (
        lambda **o: optim.Adagrad(0.1, initial_accumulator=0.5, **o),
        adagrad,
        {"start": 0.5},
    ),
    "adadelta": (lambda **o: optim.Adadelta(0.5, rho=0.8, eps=1e-5, **o), adadelta, {}),
    "rmsprop": (lambda **o: optim.RMSprop(0.1, alpha=0.9, eps=1e-6, **o), rmsprop, {}),
    "rmsprop centered": (
        lambda **o: optim.RMSprop(0.1, alpha=0.9, eps=1e-6, momentum=0.5, centered=True, **o),
        rmsprop,
        {"momentum": 0.5, "centered": True},
    ),
    "adam": (lambda **o: optim.Adam(0.1, 0.8, 0.9, 1e-6, **o), adam, {}),
    "adamw": (lambda **o: optim.AdamW(0.1, 0.8, 0.9, 1e-6, weight_decay=0.3, **o), adam, {"decay": 0.3}),
}
each_rule = pytest.mark.parametrize(("make", "rule", "options"), RULES.values(), ids=RULES)


def linear(optimizer, dtype="float64"):
    """A linear net that starts at W and B."""

    @gn.model
    def net(x):
        return gn.layers.dense(x, 3, init=W, bias_init=B)

    return gn.compile(net, gn.spec(X.shape, dtype), loss=gn.losses.mse, optimizer=optimizer)


def gradients(p):
    """Of the mean squared error, by hand."""
    error = 2 * (X @ p["w"] + p["b"] - Y) / Y.size
    return {"w": X.T @ error, "b": error.sum(0)}


def penalised(g, p, l1=0.0, l2=0.0, clip_norm=np.inf):
    """Penalties first, then all gradients scaled by one factor."""
    g = {n: g[n] + l1 * np.sign(p[n]) + l2 * p[n] for n in g}
    norm = np.sqrt(sum((v**2).sum() for v in g.values()))
    return {n: v * min(1.0, clip_norm / (norm + 1e-6)) for n, v in g.items()}


def by_hand(rule, options, extras=None, steps=STEPS):
    """The parameters after some steps."""
    p, slots = {"w": W, "b": B}, {"w": {}, "b": {}}
    for t in range(1, steps + 1):
        g = penalised(gradients(p), p, **(extras or {}))
        p = {n: rule(p[n], g[n], slots[n], t, **options) for n in p}
    return p


def by_net(net, steps=STEPS):
    for _ in range(steps):
        net.step(X, Y)
    return {n: net.params[f"net/dense_1/{n}"] for n in ("w", "b")}


def close(found, expected, rtol=1e-10):
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=1e-13)


@each_rule
def test_optimizers_follow_their_formulas(make, rule, options):
    """Five steps in float64."""
    close(by_net(linear(make())), by_hand(rule, options))


@each_rule
def test_optimizers_train_in_float32(make, rule, options):
    """Hyperparameters are float64 scalars, slots and arithmetic are the parameter's dtype."""
    net = linear(make(), "float32")
    found = by_net(net)
    assert found["w"].dtype == np.float32
    close(found, by_hand(rule, options), rtol=2e-3)


@each_rule
@pytest.mark.parametrize(
    "extras", [{"clip_norm": 0.3}, {"l1": 0.05, "l2": 0.1}, {"clip_norm": 0.3, "l2": 0.5}], ids=str
)
def test_penalties_and_clipping_come_before_the_rule(make, rule, options, extras):
    """In that order: the penalty is part of the loss whose gradient is clipped."""
    close(by_net(linear(make(**extras))), by_hand(rule, options, extras))


def test_clipping_leaves_small_gradients_alone():
    """A bound above the norm changes nothing."""
    close(by_net(linear(optim.SGD(0.1, clip_norm=1e6))), by_hand(sgd, {}))


def test_the_three_phases_equal_a_step():
    """forward, backward and update move parameters and slots as step does."""
    net = linear(optim.Adam(0.1, 0.8, 0.9, 1e-6))
    for _ in range(STEPS):
        net.forward(X)
        net.backward(Y)
        net.update()
    close(by_net(net, 0), by_hand(adam, {}))


def test_hyperparameters_change_between_steps():
    """Every one of them, without a new plan."""
    net = linear(optim.SGD(0.1, momentum=0.5, clip_norm=0.3, l2=0.1))
    net.step(X, Y)
    plans = len(net.plans)
    net.optimizer.lr, net.optimizer.momentum = 0.02, 0.9
    net.optimizer.clip_norm, net.optimizer.l2 = 0.1, 0.0
    net.step(X, Y)
    assert len(net.plans) == plans
    p, slots = {"w": W, "b": B}, {"w": {}, "b": {}}
    changes = [({"lr": 0.1, "momentum": 0.5}, {"clip_norm": 0.3, "l2": 0.1})]
    changes.append(({"lr": 0.02, "momentum": 0.9}, {"clip_norm": 0.1}))
    for options, extras in changes:
        g = penalised(gradients(p), p, **extras)
        p = {n: sgd(p[n], g[n], slots[n], 0, **options) for n in p}
    close(by_net(net, 0), p)


def graph_of(optimizer, *dtypes):
    """The update graph of one parameter for each dtype."""
    params = {f"p{i}": leaf(f"p{i}", "param", Type((3, 2), d)) for i, d in enumerate(dtypes)}
    grads = {name: leaf(f"g/{name}", "input", p.out) for name, p in params.items()}
    return Graph((), (), tuple(optimizer.updates(params, grads)))


@each_rule
def test_update_graphs_are_sound(make, rule, options):
    """Parameters of both float types together; leaves have their roles and names; every slot is updated."""
    optimizer = make(clip_norm=1.0, l1=0.1, l2=0.2)
    graph = graph_of(optimizer, "float32", "float64")
    verify(graph, "updates")
    leaves = [n for n in graph.leaves() if is_leaf(n)]
    roles = {role: [n.attrs["name"] for n in leaves if n.attrs["role"] == role] for role in ("hyper", "slot", "param")}
    assert sorted(roles["hyper"]) == sorted(f"optimizer/{name}" for name in optimizer.hyper)
    slots = {f"{slot}/{name}" for slot in optimizer.active_slots() for name in ("p0", "p1")}
    assert set(roles["slot"]) == slots | ({"optimizer/t"} if optimizer.counts else set())
    assert {home.attrs["name"] for home, _ in graph.updates} == {*roles["slot"], *roles["param"]}
    assert all(n.out == Type((), "float64") for n in leaves if n.attrs["role"] == "hyper")


@each_rule
def test_rules_are_elementwise(make, rule, options):
    """No op but elementwise ones between a gradient and its parameter; scalars are worked out once."""
    from graphnet.compiler.record import lookup

    one, two = (graph_of(make(), *["float32"] * n) for n in (1, 2))
    for node in two.nodes():
        assert node.op in ("input", "constant") or lookup(node.op).kind == "elementwise"
    scalars = [sum(n.shape == () and not is_leaf(n) for n in g.nodes()) for g in (one, two)]
    assert scalars[0] == scalars[1]


def test_what_was_not_given_is_not_in_the_graph():
    """A plain SGD is one product and one difference an element."""
    graph = graph_of(optim.SGD(), "float32")
    assert [n.op for n in graph.nodes() if n.op != "input"] == ["cast", "mul", "sub"]
    assert optim.SGD().active_slots() == ()


def test_slots_start_where_the_optimizer_says():
    """Zeros, or Adagrad's accumulator."""
    assert optim.Adam().slot_init("m/net/w") == 0
    assert optim.Adagrad(initial_accumulator=0.25).slot_init("square_sum/net/w") == 0.25


def test_hyper_is_a_live_view():
    """Of the hyperparameters in the graph, including options that were given."""
    optimizer = optim.SGD(0.1, momentum=0.9, clip_norm=2)
    view = optimizer.hyper
    assert dict(view) == {"lr": 0.1, "momentum": 0.9, "clip_norm": 2.0}
    optimizer.lr = np.float32(0.5)
    assert view["lr"] == 0.5
    assert isinstance(view["lr"], float)
    assert optimizer.l2 is None
    assert optim.SGD().momentum == 0


REFUSED = [
    (lambda: optim.SGD(lr=-1), "SGD: lr must be a number, finite and at least 0, got -1"),
    (lambda: optim.SGD(lr=float("nan")), "SGD: lr must be a number, finite and at least 0, got nan"),
    (lambda: optim.SGD(lr=float("inf")), "SGD: lr must be a number, finite and at least 0, got inf"),
    (lambda: optim.Adam(lr="fast"), "Adam: lr must be a number, finite and at least 0, got 'fast'"),
    (lambda: optim.Adam(beta1=1.0), "Adam: beta1 must be a number, in [0, 1), got 1.0"),
    (lambda: optim.SGD(clip_norm=0), "SGD: clip_norm must be a number, positive, got 0"),
    (lambda: optim.SGD(nesterov=True), "SGD: nesterov needs momentum"),
    (lambda: optim.Adagrad(initial_accumulator=-1), "Adagrad: initial_accumulator must be a number"),
    (lambda: setattr(optim.SGD(), "lr", -0.1), "SGD: lr must be a number, finite and at least 0, got -0.1"),
    (lambda: setattr(optim.SGD(), "lr", None), "SGD: lr must be a number, finite and at least 0, got None"),
    (lambda: setattr(optim.SGD(), "l2", 0.1), "SGD: l2 is fixed at the start: give l2= to SGD(...)"),
    (lambda: setattr(optim.SGD(), "momentum", 0.9), "SGD: momentum is fixed at the start"),
    (lambda: setattr(optim.SGD(momentum=0.9), "nesterov", True), "SGD: nesterov is fixed at the start"),
    (lambda: setattr(optim.SGD(), "rate", 0.1), "SGD has no hyperparameter 'rate': it has lr, momentum"),
]


@pytest.mark.parametrize(("bad", "message"), REFUSED, ids=range(len(REFUSED)))
def test_bad_hyperparameters_are_refused_in_one_line(bad, message):
    """At construction and when set; the line is the user's."""
    with pytest.raises(gn.GraphnetError) as caught:
        bad()
    assert message in str(caught.value)
    assert "test_optim.py:" in str(caught.value).split(" ")[0]
    assert "\n" not in str(caught.value)


def test_options_may_be_switched_off_and_reads_of_nonsense_fail():
    """0 is a value like any other; what is off may be told so again; unknown names raise AttributeError."""
    optimizer = optim.SGD(momentum=0.9, l2=0.1)
    optimizer.momentum = optimizer.l2 = 0
    assert (optimizer.momentum, optimizer.l2) == (0, 0)
    plain = optim.SGD()
    plain.momentum, plain.clip_norm = 0, None
    assert not hasattr(plain, "rate")


@each_rule
def test_configurations_round_trip_through_json(make, rule, options):
    """With values changed meanwhile, and options that are on but 0."""
    optimizer = make(clip_norm=3.0, l1=0.5)
    optimizer.lr, optimizer.l1 = 0.123, 0.0
    again = optim.from_config(json.loads(json.dumps(optimizer.config())))
    assert type(again) is type(optimizer)
    assert again.config() == optimizer.config()
    assert again.active_slots() == optimizer.active_slots()
    assert again.l2 is None
    again.l1 = 0.25


def test_a_momentum_that_fell_to_zero_keeps_its_slot():
    """A restored optimiser must fit the saved slots."""
    optimizer = optim.SGD(momentum=0.9)
    optimizer.momentum = 0.0
    assert optim.from_config(optimizer.config()).active_slots() == ("velocity",)


def test_wrong_configurations_are_refused():
    """By the name of the class or of the hyperparameters that do not fit."""
    with pytest.raises(gn.NameError, match="optimizer 'Magic' is not one of SGD"):
        optim.from_config({"name": "Magic", "hyper": {}, "fixed": {}})
    config = optim.SGD().config()
    config["hyper"] = {"rate": 1.0}
    with pytest.raises(gn.NameError, match="SGD: the saved hyperparameters do not fit: lr, rate"):
        optim.from_config(config)


def test_optimizers_copy_and_show_themselves():
    """A copy has its own values; repr is the call that makes it."""
    first = optim.SGD(lr=0.1, momentum=0.5)
    second = copy.deepcopy(first)
    second.lr = 0.2
    assert (first.lr, second.lr) == (0.1, 0.2)
    assert repr(first) == "SGD(lr=0.1, momentum=0.5, nesterov=False)"


def test_users_write_their_own_rules():
    """A subclass states slots and a rule; the rest is the base's."""
    from graphnet.compiler import build as b

    class Lion(optim.Optimizer):
        """Signs of a blend (Chen et al., 2023), in one slot."""

        slots = ("m",)

        def __init__(self, lr=0.01, beta1=0.9):
            super().__init__({"lr": lr, "beta1": beta1})

        def scalars(self, hyper):
            return {**hyper, "rest": b.sub(1.0, hyper["beta1"])}

        def rule(self, p, g, slots, s):
            m = b.add(b.mul(s["beta1"], slots["m"]), b.mul(s["rest"], g))
            return b.sub(p, b.mul(s["lr"], b.unary("sign", m))), {"m": m}

    p, m = {"w": W, "b": B}, {"w": 0, "b": 0}
    for _ in range(3):
        g = gradients(p)
        m = {n: 0.9 * m[n] + (1 - 0.9) * g[n] for n in p}
        p = {n: p[n] - 0.01 * np.sign(m[n]) for n in p}
    close(by_net(linear(Lion()), 3), p)
