"""Random graphs give one result: by a plain interpreter, with every pass off, each off alone, and all on."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphnet.backend_numpy import NumpyBackend
from graphnet.compiler import build as b
from graphnet.compiler import program
from graphnet.compiler.compile import compile_graph
from graphnet.compiler.cuda import Options
from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Graph, Type, leaf
from graphnet.compiler.passes import PIPELINE, Context, fuse, simplify
from graphnet.compiler.passes.training import differentiate
from graphnet.compiler.record import lookup

OPTIONAL = [p.name for p in PIPELINE if p.optional]
WAYS = [((), True), (OPTIONAL, True), ((), False), (OPTIONAL, False), *(([name], True) for name in OPTIONAL)]
relaxed = settings(suppress_health_check=list(HealthCheck))


def check_results(got, expected, what):
    for name, value in expected.items():
        scale = 1 + np.abs(value).max(initial=0)
        np.testing.assert_allclose(got[name], value, rtol=1e-8, atol=1e-9 * scale, err_msg=f"{name}, {what}")


def train(graph):
    """Gradient descent, as an optimiser would add it."""
    leaves = {n.attrs["name"]: n for n in graph.leaves()}
    found = [(leaves[n[5:]], b.sub(leaves[n[5:]], b.mul(g, 0.1))) for n, g in graph.outputs if n.startswith("grad/")]
    return graph.with_results(updates=(*graph.updates, *found))


class Meaning:
    """What a graph should compute, by the interpreter; `check` compiles it one way and compares."""

    def __init__(self, tools, graph, arrays, **options):
        self.tools, self.graph, self.arrays, self.options = tools, graph, arrays, options
        meant = differentiate(graph, Context(differentiate=True)) if options.get("differentiate") else graph
        meant = train(meant) if options.get("update") else meant
        self.expected = tools.expected_of(meant, arrays)
        if not options.get("keep_gradients"):
            self.expected = {k: v for k, v in self.expected.items() if not k.startswith("grad/")}

    def check(self, disabled=(), reuse=True, backend=None):
        backend = backend or NumpyBackend()
        context = Context(disabled=frozenset(disabled), verify=True, target=backend.target, **self.options)
        plan = compile_graph(self.graph, context, reuse=reuse)
        found = self.tools.execute(plan, self.arrays, backend)
        check_results(found, self.expected, f"{backend.name} without {sorted(disabled)}, reuse {reuse}")


# -- properties ---------------------------------------------------------------------------------------------


@relaxed
@given(data=st.data())
def test_results_do_not_depend_on_passes_or_on_the_memory_plan(random_graphs, data):
    meaning = Meaning(random_graphs, *data.draw(random_graphs.cases()))
    for disabled, reuse in WAYS:
        meaning.check(disabled, reuse)


@relaxed
@given(data=st.data(), keep=st.booleans())
def test_training_steps_do_not_depend_on_passes_or_on_the_memory_plan(random_graphs, data, keep):
    """Loss, gradients, new parameters and states; with gradients kept, also when the phases are run apart."""
    case = data.draw(random_graphs.cases())
    meaning = Meaning(random_graphs, *case, differentiate=True, keep_gradients=keep, update=train)
    for disabled, reuse in WAYS:
        meaning.check(disabled, reuse)


@relaxed
@given(data=st.data(), seed=st.integers(0, 9))
def test_gradients_agree_with_central_differences(random_graphs, data, seed):
    """Along a random direction through all parameters."""
    graph, arrays = data.draw(random_graphs.cases())
    meaning = Meaning(random_graphs, graph, arrays, differentiate=True, keep_gradients=True)
    meaning.check()
    chosen = np.random.default_rng(seed)
    gradients = {n[5:]: g for n, g in meaning.expected.items() if n.startswith("grad/")}
    ways = {n: chosen.normal(size=g.shape) for n, g in gradients.items()}
    ends = []
    for step in (1e-6, -1e-6):
        moved = arrays | {n: arrays[n] + step * way for n, way in ways.items()}
        ends.append(random_graphs.expected_of(graph.with_results(updates=()), moved)["loss"])
    slope = sum(np.sum(gradients[n] * way) for n, way in ways.items())
    size = sum(np.abs(g).sum() for g in gradients.values())
    assert abs(slope - (ends[0] - ends[1]) / 2e-6) <= 1e-5 * (1 + size)


@pytest.mark.slow
@settings(relaxed, max_examples=25)
@given(data=st.data(), threads=st.sampled_from((1, 3)), training=st.booleans())
def test_the_c_backend_computes_the_same(random_graphs, c_backend, data, threads, training):
    """With every pass on and off; every phase is split among threads, however small it is."""
    options = {"differentiate": True, "keep_gradients": data.draw(st.booleans()), "update": train} if training else {}
    meaning = Meaning(random_graphs, *data.draw(random_graphs.cases()), **options)
    for disabled, reuse in (((), True), (OPTIONAL, False)):
        meaning.check(disabled, reuse, c_backend(threads))


CUTS = (Options(), Options(together=True), Options(unroll=64), Options(apart=True))
"""Ways to cut a plan into CUDA kernels."""


@pytest.mark.slow
@settings(relaxed, max_examples=15)
@given(data=st.data(), training=st.booleans(), cut=st.sampled_from(CUTS), order=st.sampled_from(("forward", "reverse")))
def test_the_cuda_text_computes_the_same(random_graphs, emulated, data, training, cut, order):
    """In the emulator, on few blocks, however the plan is cut into kernels and whichever thread comes first."""
    options = {"differentiate": True, "keep_gradients": data.draw(st.booleans()), "update": train} if training else {}
    meaning = Meaning(random_graphs, *data.draw(random_graphs.cases()), **options)
    meaning.check((), True, emulated(cut, order))


# -- planted faults -----------------------------------------------------------------------------------------


def test_the_graph_that_faults_are_planted_in_passes_without_them(random_graphs):
    meaning = Meaning(random_graphs, *random_graphs.entangled())
    for disabled, reuse in WAYS:
        meaning.check(disabled, reuse)


def test_a_fusion_that_forgets_the_cycle_check_is_found(random_graphs, monkeypatch):
    monkeypatch.setattr(sys.modules[fuse.__module__]._Groups, "_path", lambda *_: False)
    with pytest.raises(CompileError, match="depends on itself"):
        Meaning(random_graphs, *random_graphs.entangled()).check()


def test_groups_that_interleave_with_others_are_kept_apart(random_graphs):
    """p = sin x + cos y and q = cos y + r, with r from sin x, cannot both be fused with cos y and with sin x.

    r stands before cos y in the order, and yet depends on the group of sin x, which depends on that of cos y.
    """
    x, y = leaf("x", "input", Type((3, 4), "float64")), leaf("y", "input", Type((4,), "float64"))
    sine, cosine = b.unary("sin", x), b.unary("cos", y)
    r = b.sum_(sine, [0])
    graph = Graph((x, y), (("r", r), ("p", b.add(sine, cosine)), ("q", b.add(cosine, r))))
    Meaning(random_graphs, graph, {"x": np.arange(12.0).reshape(3, 4), "y": np.arange(4.0)}).check()


def test_a_rewrite_that_changes_a_result_is_found(random_graphs, monkeypatch):
    """cos(x) taken for sin(x): every way that simplifies is wrong, the others are right."""
    rules = sys.modules[simplify.__module__].RULES
    monkeypatch.setitem(rules, "cos", lambda node, inputs: b.unary("sin", inputs[0]))
    meaning = Meaning(random_graphs, *random_graphs.entangled())
    meaning.check(OPTIONAL)
    with pytest.raises(AssertionError, match="Not equal"):
        meaning.check()


def test_writing_over_an_operand_that_is_still_needed_is_found(random_graphs, monkeypatch):
    """Two kernels read a = sin x; the first of them is told that it may write over it."""
    real = program._may_take

    def greedy(step, operand, index, old, new, find):
        same = old.kind == new.kind == "temp" and old.nbytes == new.nbytes
        return (
            same and lookup(step.op).in_place
            if step.op in ("add", "sub")
            else real(step, operand, index, old, new, find)
        )

    monkeypatch.setattr(program, "_may_take", greedy)
    meaning = Meaning(random_graphs, *random_graphs.entangled())
    meaning.check(OPTIONAL, reuse=False)
    with pytest.raises(AssertionError, match="Not equal"):
        meaning.check(OPTIONAL)
