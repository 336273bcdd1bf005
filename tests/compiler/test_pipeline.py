"""The driver of the passes: order, verification after each pass, times, declined work, debug output."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphnet as gn
from graphnet.compiler import build as b
from graphnet.compiler.compile import compile_graph
from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Graph, Type, leaf, make
from graphnet.compiler.passes import PIPELINE, Context, Pass, check_order, run_passes
from graphnet.compiler.passes.pipeline import count_nodes
from graphnet.compiler.passes.simplify import simplify

X = leaf("x", "input", Type((2, 3), "float64"))


def graph(node):
    return Graph((X,), (("y", node),))


def a_pass(name, run=lambda g, context: g, needs=(), establishes=(), **options):
    return Pass(name, run, frozenset(needs), frozenset(establishes), **options)


# -- order ----------------------------------------------------------------------------------------------


def test_the_pipeline_is_in_order_and_its_names_are_unique():
    """Every pass finds what it needs established; names tell them apart in explain() and in disabled."""
    check_order(PIPELINE)
    names = [p.name for p in PIPELINE]
    assert len(set(names)) == len(names)


def test_a_pass_before_what_it_needs_is_refused():
    """By name, with the fact that is missing."""
    first, second = a_pass("parse", establishes=["parsed"]), a_pass("check", needs=["parsed", "typed"])
    with pytest.raises(CompileError, match=r"^pass 'check' needs typed established before it$"):
        check_order((first, second))
    with pytest.raises(CompileError, match=r"^pass 'check' needs parsed, typed established before it$"):
        check_order((second, first))
    check_order((first, a_pass("type", needs=["parsed"], establishes=["typed"]), second))


def test_every_graph_starts_as_a_graph():
    """The one fact that needs no pass."""
    check_order((a_pass("any", needs=["graph"]),))


@pytest.mark.parametrize("missing", ["differentiate", "update", "drop_markers"])
def test_the_pipeline_cannot_lose_a_pass_that_others_need(missing):
    """Leaving one out is found before any graph is compiled."""
    with pytest.raises(CompileError, match="established before it"):
        check_order([p for p in PIPELINE if p.name != missing])


def test_swapping_dependent_passes_is_found():
    """Every pair in which the first establishes what only it gives the second."""
    swaps = 0
    for i, j in itertools.combinations(range(len(PIPELINE)), 2):
        passes = list(PIPELINE)
        passes[i], passes[j] = passes[j], passes[i]
        if PIPELINE[i].establishes & PIPELINE[j].needs:
            swaps += 1
            with pytest.raises(CompileError):
                check_order(passes)
    assert swaps >= 10


# -- running --------------------------------------------------------------------------------------------


def test_passes_run_in_order_and_leave_a_trail():
    """Name, seconds, and node counts before and after."""
    context = Context()
    doubled = a_pass("double", lambda g, _: graph(b.mul(g.output("y"), 2.0)))
    found = run_passes(graph(b.neg(b.neg(X))), (a_pass("same"), doubled, a_pass("simplify", simplify)), context)
    assert found == graph(b.mul(X, 2.0))
    assert [(r.name, r.before, r.after) for r in context.trail] == [
        ("same", 3, 3),
        ("double", 3, 5),
        ("simplify", 5, 3),
    ]
    assert all(r.seconds >= 0 for r in context.trail)


def test_disabled_passes_are_left_out_but_required_ones_are_not():
    """Tests compare results with and without a pass."""
    ran = []
    passes = [a_pass(n, lambda g, _, n=n: ran.append(n) or g, optional=n != "must") for n in ("a", "must", "c")]
    context = Context(disabled=frozenset({"a", "must"}))
    run_passes(graph(X), passes, context)
    assert ran == ["must", "c"]
    assert [r.name for r in context.trail] == ["must", "c"]


def test_the_driver_verifies_after_every_pass():
    """A pass that makes a node of the wrong type is named."""

    def careless(g, context):
        (_, node), *_ = g.outputs
        return graph(make("neg", (node,), {}, Type((3, 2), "float64")))

    passes = (a_pass("fine"), a_pass("careless", careless), a_pass("never"))
    context = Context(verify=True)
    with pytest.raises(
        CompileError, match=r"^after pass 'careless': <graphnet>:0: <neg float64\(3, 2\)>: its operands"
    ):
        run_passes(graph(X), passes, context)
    assert [r.name for r in context.trail] == ["fine", "careless"]
    run_passes(graph(X), passes, Context(verify=False))


def test_graphnet_verify_switches_the_verifier_on(monkeypatch):
    """For nets and for plain functions."""
    seen = []
    monkeypatch.setattr("graphnet.compiler.verify.verify", lambda g, when: seen.append(when))
    monkeypatch.delenv("GRAPHNET_VERIFY")
    gn.jit(lambda x: x * 2)(1.0)
    assert seen == []
    monkeypatch.setenv("GRAPHNET_VERIFY", "1")
    gn.jit(lambda x: x * 3)(1.0)
    assert seen == [f"after pass {p.name!r}" for p in PIPELINE]


def test_declined_work_is_listed_once():
    """With the pass, the user's line, the operation and the reason."""
    from graphnet.compiler.ir import Where

    context = Context()
    with b.at(Where("net.py", 12, "net")):
        node = b.unary("exp", X)
    for _ in range(2):
        context.decline("some_pass", node, "it would not pay")
    assert context.declined == ["some_pass: net.py:12: exp: it would not pay"]


def test_count_nodes_counts_bodies():
    """A fused node and what it holds."""
    from graphnet.compiler.passes.fuse import fuse

    before = graph(b.mul(b.unary("exp", X), 2.0))
    after = fuse(before, Context())
    assert count_nodes(before) == 4
    # outside x, 2, fused, get; inside two leaves, exp, mul
    assert count_nodes(after) == 8


# -- debug output and reports ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
def test_debug_levels(level, monkeypatch, capsys):
    """1 passes with times, 2 also verifies, 3 also the plan in bytes, 4 also graphs and kernels; all on stderr."""
    monkeypatch.setenv("GRAPHNET_DEBUG", str(level))
    net = gn.compile(lambda x: gn.tanh(gn.layers.dense(x, 4)), gn.spec((2, 3)))
    text = capsys.readouterr()
    assert text.out == ""
    names = [p.name for p in PIPELINE]
    assert [n for n in names if f"\n{n} " in f"\n{text.err}"] == (names if level else [])
    assert (" ms " in text.err) == (level >= 1)
    assert ("arena" in text.err) == (level >= 3)
    assert ("matmul" in text.err) == (level >= 3)
    assert (text.err.count("matmul") > len(names)) == (level == 4)
    assert net(np.ones((2, 3))).shape == (2, 4)


def test_explain_lists_passes_with_times():
    """net.explain() gives them without the environment variable."""
    text = gn.compile(lambda x: gn.layers.dense(x, 4), gn.spec((2, 3))).explain()
    for p in PIPELINE:
        assert p.name in text
    assert " ms" in text


# -- the whole ------------------------------------------------------------------------------------------


def model(x):
    x = gn.relu(gn.layers.dense(x, 4))
    y, _ = gn.scan(lambda c, row: (gn.tanh(c + row), c), x[0], x)
    return gn.cond(gn.sum(y) > 0, lambda t: t * 2, lambda t: gn.exp(t), y)


def traced():
    net = gn.compile(model, gn.spec((3, 5)), loss=gn.losses.mse, optimizer=gn.optim.Adam(lr=0.1))
    return net, net.program.trace(net.input_types, net.target_type, training=True).graph


def test_compiling_is_deterministic():
    """The same graph gives the same nodes in the same order, however often."""
    _, graph = traced()

    def dump(g):
        numbers = {n: i for i, n in enumerate(g.nodes())}
        return [(n.op, [numbers[i] for i in n.inputs], str(n.types), str(n.where)) for n in numbers]

    plans = [compile_graph(graph, Context(differentiate=True, keep_gradients=True)) for _ in range(2)]
    assert dump(plans[0].graph) == dump(plans[1].graph)
    assert plans[0].memory == plans[1].memory


@pytest.mark.parametrize("name", [p.name for p in PIPELINE])
def test_every_pass_leaves_the_graph_correct_and_is_idempotent_in_place(name):
    """Each pass, run where it stands in the pipeline and at once again: the second run changes nothing."""
    _, graph = traced()
    context = Context(differentiate=True, keep_gradients=True, verify=True)
    at = [p.name for p in PIPELINE].index(name)
    before = run_passes(graph, PIPELINE[:at], context)
    once = run_passes(before, PIPELINE[at : at + 1], context)
    if name != "differentiate":  # it would add the same outputs again
        assert run_passes(once, PIPELINE[at : at + 1], context) == once


@pytest.mark.parametrize("disabled", [p.name for p in PIPELINE if p.optional])
def test_training_is_the_same_without_any_one_pass(disabled, monkeypatch):
    """Three steps of Adam."""
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    target = np.linspace(-1, 1, 4, dtype=np.float32)
    losses = []
    for names in (frozenset(), frozenset({disabled})):
        monkeypatch.setattr(
            "graphnet.planner.Context", lambda names=names, **o: Context(**o, disabled=names, verify=True)
        )
        net = gn.compile(model, gn.spec((3, 5)), loss=gn.losses.mse, optimizer=gn.optim.Adam(lr=0.1))
        losses.append([net.step(x, target) for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
