"""A shadow of the arena: every byte remembers who wrote it last, through all iterations and branches of a plan.

The memory plan itself works with lifetimes; this checker knows none. A step that reads bytes another storage has
written since has lost its operand.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphnet.cli.lookup import find_model
from graphnet.compiler import build as b
from graphnet.compiler import lower
from graphnet.compiler.c import c_target
from graphnet.compiler.compile import compile_graph
from graphnet.compiler.passes import PIPELINE, Context
from graphnet.compiler.record import REGISTRY
from graphnet.compiler.schedule import Branch, Fused, Kernel, Loop, Many, Rows
from graphnet.compiler.target import NUMPY
from graphnet.train import Run

OPTIONAL = frozenset(p.name for p in PIPELINE if p.optional)
relaxed = settings(suppress_health_check=list(HealthCheck))


class Shadow:
    """The arena as bytes that remember which storage wrote them last: a read of another's bytes is an error."""

    def __init__(self, plan):
        self.plan, self.loops = plan, {}
        self.owner = np.full(plan.memory.arena, -1)
        assert plan.memory.lower_bound <= plan.memory.arena <= plan.memory.total_temporaries
        self.steps(plan.steps)
        for name, array in plan.outputs.items():
            self.read(array, f"output {name}")

    def cells(self, array):
        """Bytes of the arena an array covers, in the order of its elements; none for memory outside the arena."""
        storage = self.plan.storages[array.storage]
        start = array.offset + sum(t.at(self.loops[t.loop]) for t in array.terms)
        at = np.full(array.shape, start)
        for axis, (n, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
            at += (np.arange(n) * stride).reshape(-1, *(1,) * (len(array.shape) - 1 - axis))
        at = at[..., None] * array.itemsize + np.arange(array.itemsize)
        assert not at.size or (at.min() >= 0 and at.max() < storage.nbytes), f"{array} leaves its storage"
        return at.reshape(-1) + storage.offset if storage.kind == "temp" else np.empty(0, int)

    def read(self, array, what):
        wrong = self.owner[self.cells(array)] != array.storage
        assert not wrong.any(), f"{what} reads bytes of storage {array.storage} that another one holds"

    def steps(self, steps):
        for step in steps:
            if isinstance(step, Loop):
                for k in range(step.length):
                    self.loops[step.id] = k
                    self.steps(step.body)
            elif isinstance(step, Branch):
                self.read(step.predicate, "cond")
                before = self.owner.copy()
                self.steps(step.then)
                then, self.owner = self.owner, before
                self.steps(step.orelse)
                self.owner = np.where(then == self.owner, then, -2)
            else:
                self.leaf(step)

    def leaf(self, step):
        written = [*step.outputs, *([step.scratch] if step.scratch is not None else [])]
        places = [self.cells(a) for a in written]
        for a in step.inputs:
            self.read(a, f"{step.op} at {step.position}")
            for target, place in zip(written, places, strict=True):
                source = self.cells(a)
                shared = np.isin(source, place).any()
                may = isinstance(step, (Fused, Many, Rows)) or step.epilogue is not None or _in_place(step.op)
                same = source.size == place.size and (source == place).all()
                assert not shared or (may and same), f"{step.op} at {step.position} overwrites what it reads"
                assert not shared or target.storage == a.storage
        for target, place in zip(written, places, strict=True):
            self.owner[place] = target.storage
        assert np.unique(np.concatenate(places)).size == sum(p.size for p in places), "results overlap"


def _in_place(op):
    return op in REGISTRY and REGISTRY[op].in_place


def train(graph):
    """Gradient descent, as an optimiser would add it."""
    leaves = {n.attrs["name"]: n for n in graph.leaves()}
    found = [(leaves[n[5:]], b.sub(leaves[n[5:]], g)) for n, g in graph.outputs if n.startswith("grad/")]
    return graph.with_results(updates=(*graph.updates, *found))


@relaxed
@given(data=st.data(), keep=st.booleans(), bare=st.booleans(), target=st.sampled_from((NUMPY, c_target(2, "avx2"))))
def test_no_step_of_a_random_plan_reads_memory_another_value_has_taken(random_graphs, data, keep, bare, target):
    graph, _ = data.draw(random_graphs.cases())
    disabled = OPTIONAL if bare else frozenset()
    context = Context(differentiate=True, keep_gradients=keep, update=train, disabled=disabled, target=target)
    Shadow(compile_graph(graph, context))


@pytest.mark.parametrize("reuse", [True, False])
def test_the_graph_that_faults_are_planted_in_passes_without_them(random_graphs, reuse):
    graph, _ = random_graphs.entangled()
    Shadow(compile_graph(graph, Context(), reuse=reuse))


def test_a_memory_planner_that_ignores_a_lifetime_is_found(random_graphs, monkeypatch):
    """By the shadow, and by the numbers."""
    real = lower.plan_memory

    def careless(storages, *options):
        report = real(storages, *options)
        alive = [s for s in storages if s.kind == "temp" and s.last >= 0]
        one, other = next((s, t) for s in alive for t in alive if s.first < t.first <= s.last)
        other.offset = one.offset
        return report

    graph, arrays = random_graphs.entangled()
    (expected,) = random_graphs.expected_of(graph, arrays).values()
    right = compile_graph(graph, Context())
    monkeypatch.setattr(lower, "plan_memory", careless)
    wrong = compile_graph(graph, Context())
    with pytest.raises(AssertionError, match=r"another one holds|overwrites what it reads"):
        Shadow(wrong)
    np.testing.assert_allclose(random_graphs.execute(right, arrays)["y"], expected)
    assert not np.allclose(random_graphs.execute(wrong, arrays)["y"], expected)


def test_a_view_that_leaves_its_storage_is_found(random_graphs):
    plan = compile_graph(random_graphs.entangled()[0], Context())
    outside = {name: replace(array, offset=1) for name, array in plan.outputs.items()}
    with pytest.raises(AssertionError, match="leaves its storage"):
        Shadow(replace(plan, outputs=outside))


def test_memory_that_nothing_has_written_is_found_when_it_is_read(random_graphs):
    plan = compile_graph(random_graphs.entangled()[0], Context())
    with pytest.raises(AssertionError, match="another one holds"):
        Shadow(replace(plan, steps=plan.steps[1:]))


@pytest.mark.parametrize("name", ["softmax", "mlp", "lenet", "charlm"])
def test_no_step_of_a_reference_models_c_plan_reads_memory_another_value_has_taken(name, c_backend):
    """Epilogues, rows, packs and pooling in one pass move steps: the plan has to follow."""
    model, data = find_model(name).with_data(None, None)
    net = Run(model.function, {**model.recipe, "steps": 3}, data, batch_size=8, backend="c").net
    assert {"matmul"} <= {s.op for s in net.plan.steps if isinstance(s, Kernel) and s.epilogue is not None}
    assert any(isinstance(s, Rows) for s in net.plan.steps)
    Shadow(net.plan)
