"""Kept plans: one that is found is the one that would be made, and its key leaves out nothing it depends on."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import graphnet as gn
from graphnet.cli.lookup import find_model, model_names
from graphnet.compiler import build as b
from graphnet.compiler import compile as compiling
from graphnet.compiler import kept
from graphnet.compiler.c import LEAST_WORK, c_target, emit, identity
from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import NOWHERE, Constant, Graph, Type, Where, leaf, make, reintern, session
from graphnet.compiler.ops.control import bodies, scan
from graphnet.compiler.passes import PIPELINE, Context
from graphnet.compiler.printers import dot, explain, export, html, listing, memory, schedule
from graphnet.compiler.target import NUMPY
from graphnet.kernels.c import cache
from graphnet.kernels.c.tile import targeting
from graphnet.train import Run

TARGET = c_target(2, "avx2")
INDEX = Type((), "int32")
X, Y = (leaf(f"kept_{name}", "input", Type((2, 3), "float32")) for name in "xy")
P, Q = (leaf(f"kept_{name}", "param", Type((2, 3), "float32")) for name in "pq")


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    """A cache folder of this test, and compilations as users have them: the verifier sees every pass run."""
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAPHNET_VERIFY")
    monkeypatch.setattr(cache, "_temporary", [])
    return tmp_path / "cache" / "c"


@pytest.fixture
def lowered(monkeypatch):
    """The names of the graphs that were lowered, so not found."""
    names, lower = [], compiling.lower

    def noting(graph, *args):
        names.append(graph.name)
        return lower(graph, *args)

    monkeypatch.setattr(compiling, "lower", noting)
    return names


def graph_of(node, name="y", updates=()):
    return Graph((X, Y), ((name, node),), updates, "small")


SMALL = graph_of(b.matmul(b.unary("exp", b.add(X, b.mul(Y, 2.0))), b.transpose(Y, (1, 0))))


def compiled(graph=SMALL, **options):
    context = Context(**{"target": TARGET, **options})
    return compiling.compile_graph(graph, context), context


def dumps(plan, context):
    """Everything that a person or a compiler is shown of a plan."""
    with targeting("avx2"):
        source = emit(plan, 2).text
    return {
        "listing": listing.plan_listing(plan),
        "schedule": schedule.listing(plan),
        "memory": memory.table(plan),
        "timeline": memory.timeline(plan),
        "dot": dot.dot(plan),
        "json": export.to_json(plan),
        "graphml": export.to_graphml(plan.graph),
        "html": html.html(plan, "net", ""),
        "explain": explain.explain(context, plan),
        "c": source,
        "identity": identity(plan, 2, LEAST_WORK),
    }


def assert_same_plan(found, made):
    """Equal in every part; the graphs are one graph when they are of one session."""
    for part in ("steps", "storages", "leaves", "outputs", "memory", "phases", "target"):
        assert repr(getattr(found, part)) == repr(getattr(made, part)), part
    with session():
        assert reintern(found.graph) == reintern(made.graph)


# -- hits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["step", "phases", "infer"])
@pytest.mark.parametrize("name", model_names())
def test_the_plan_found_is_the_plan_made_for_every_model(name, mode, lowered):
    """All parts of it, and all that is printed of it, lines of the user's code included."""
    model, data = find_model(name).with_data(None, None)
    net = Run(model.function, model.recipe, data, batch_size=8, backend="numpy").net
    lowered.clear()

    def plan():
        target = net._default_target(net.input_types) if mode != "infer" else None
        _, made, context = net._compiled(mode, net.input_types, target, SimpleNamespace(target=TARGET))
        return made, context

    made, found = plan(), plan()
    assert len(lowered) == 1
    assert_same_plan(found[0], made[0])
    assert dumps(*found) == dumps(*made)
    assert found[1].declined == made[1].declined


def test_explain_says_which_passes_were_not_run_now():
    """Those that build the whole step run each time, the rest once, with the times they took then."""
    (made, first), (found, second) = compiled(), compiled()
    assert [(r.name, r.before, r.after) for r in second.trail] == [(r.name, r.before, r.after) for r in first.trail]
    assert [r.name for r in first.trail] == [p.name for p in PIPELINE]
    assert not any(r.kept for r in first.trail)
    assert [r.name for r in second.trail if not r.kept][-1] == "update"
    assert [r.seconds for r in second.trail if r.kept] == [r.seconds for r in first.trail[compiling.WHOLE :]]
    assert "kept" not in explain.explain(first, made, times=True)
    assert "\n  kept: ran in an earlier compilation" in explain.explain(second, found, times=True)


def test_reasons_of_passes_are_told_once_and_again_on_a_hit():
    """What an early pass and a late one decline alike is one line, found or made."""
    table = leaf("table", "param", Type((500, 4), "float32"))
    ids = leaf("ids", "input", Type((2, 3), "int32"))
    graph = Graph((ids,), (("y", b.matmul(b.apply("take", table, ids, axis=0), b.full((4, 5), 1.0, "float32"))),))
    declined = [compiled(graph)[1].declined for _ in range(2)]
    assert declined[0] == declined[1]
    assert declined[0]
    assert len(set(declined[0])) == len(declined[0])


def test_a_long_chain_of_nodes_is_kept():
    """Longer than Python's stack is deep."""
    node = X
    for _ in range(3 * sys.getrecursionlimit()):
        node = b.unary("exp", node)
    graph = graph_of(node)
    found = kept.thaw(kept.freeze(graph))
    assert len(found.nodes()) == len(graph.nodes())
    with session():
        assert reintern(found) == reintern(graph)


def test_the_nodes_of_a_plan_found_are_its_own():
    """They are interned in a session that is over, so what is traced later has its own lines."""
    plan = compiled()[0]
    found = compiled()[0]
    assert not set(found.graph.nodes()) & {*plan.graph.nodes(), *SMALL.nodes()}


# -- misses -----------------------------------------------------------------------------------------------


def looped(change=lambda x: x):
    """A loop whose body adds up exp(x)."""
    row = Type((3,), "float32")
    carry, x, time = leaf("c", "carry", row, depth=1), leaf("x", "x", row, depth=1), leaf("t", "time", INDEX, depth=1)
    new = b.add(carry, change(b.unary("exp", x)))
    node = scan([b.full((3,), 0.0, "float32")], [X], [], (carry, x, time), ([new], [], []), 2, False, NOWHERE)
    return graph_of(b.item(node, 0))


def literal(values, where=None):
    data = np.asarray(values, "float32")
    value = Constant(data.tobytes(), data.shape, "float32")
    return make("constant", (), {"value": value}, Type(data.shape, "float32"), *([where] if where else []))


def of_leaf(shape, dtype):
    x = leaf("x", "input", Type(shape, dtype))
    return Graph((x,), (("y", b.unary("exp", x)),))


def with_where(where):
    with session():
        return reintern(graph_of(make("exp", (X,), {}, X.type, where)))


GRAPHS = {
    "an op": (lambda: graph_of(b.unary("exp", X)), lambda: graph_of(b.unary("log", X))),
    "an operand": (lambda: graph_of(b.sub(X, Y)), lambda: graph_of(b.sub(Y, X))),
    "an attribute": (lambda: graph_of(b.sum_(X, (0,))), lambda: graph_of(b.sum_(X, (1,)))),
    "a flag": (lambda: graph_of(b.sum_(X, (0,), True)), lambda: graph_of(b.sum_(X, (0,), False))),
    "a constant": (lambda: graph_of(literal([1, 2, 3])), lambda: graph_of(literal([1, 2, 4]))),
    "the sign of a zero": (lambda: graph_of(literal([0.0])), lambda: graph_of(literal([-0.0]))),
    "a shape of a constant": (lambda: graph_of(literal([1, 2])), lambda: graph_of(literal([[1, 2]]))),
    "a dtype": (lambda: graph_of(b.cast(X, "float64")), lambda: graph_of(b.cast(X, "int32"))),
    "a leaf's shape": (lambda: of_leaf((2, 3), "float32"), lambda: of_leaf((3, 2), "float32")),
    "a leaf's dtype": (lambda: of_leaf((2, 3), "float32"), lambda: of_leaf((2, 3), "float64")),
    "which leaves are inputs": (lambda: graph_of(b.add(X, Y)), lambda: replace(graph_of(b.add(X, Y)), inputs=(X,))),
    "a body": (looped, lambda: looped(lambda x: b.mul(x, 2.0))),
    "a result's name": (lambda: graph_of(X, "y"), lambda: graph_of(X, "loss")),
    "the graph's name": (lambda: graph_of(X), lambda: replace(graph_of(X), name="other")),
    "the order of inputs": (lambda: graph_of(X), lambda: replace(graph_of(X), inputs=(Y, X))),
    "an update": (lambda: graph_of(X, "y", ((P, X),)), lambda: graph_of(X, "y", ((P, Y),))),
    "the home of an update": (lambda: graph_of(X, "y", ((P, X),)), lambda: graph_of(X, "y", ((Q, X),))),
    "a line": (lambda: with_where(Where("m.py", 3, "net")), lambda: with_where(Where("m.py", 4, "net"))),
    "a file": (lambda: with_where(Where("m.py", 3, "net")), lambda: with_where(Where("n.py", 3, "net"))),
    "a scope": (lambda: with_where(Where("m.py", 3, "net")), lambda: with_where(Where("m.py", 3, "net/dense"))),
    "which result is which": (
        lambda: replace(graph_of(X), outputs=(("a", b.unary("exp", X)), ("b", b.unary("exp", Y)))),
        lambda: replace(graph_of(X), outputs=(("a", b.unary("exp", Y)), ("b", b.unary("exp", X)))),
    ),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_graphs_that_differ_have_different_keys(what):
    """In one thing each. The same graph made again has the same key."""
    one, other = GRAPHS[what]
    keys = []
    for make_it in (one, other, one, other):
        with session():
            keys.append(kept.digest(reintern(make_it()), TARGET))
    assert keys[0] == keys[2] != keys[1] == keys[3]


def test_bodies_are_looked_into(lowered):
    """A loop with another body is another plan, also where the outer graph is the same node for node."""
    assert bodies(next(n for n in looped().nodes() if n.op == "scan"))
    for graph in (looped(), looped(lambda x: b.unary("tanh", x)), looped()):
        compiled(graph)
    assert len(lowered) == 2


@pytest.mark.parametrize("target", [c_target(1, "avx2"), c_target(2, "avx512")], ids=["threads", "instructions"])
def test_another_target_is_another_plan(target, lowered):
    """Threads and vectors decide on scratch memory and packing."""
    compiled()
    compiled(target=target)
    assert len(lowered) == 2
    compiled(target=c_target(2, "avx2"))
    assert len(lowered) == 2


def test_changed_code_is_another_key(tmp_path, monkeypatch):
    """Any file of the compiler and the kernels counts, in folders below too; caches and editors' marks do not."""
    for root in ("compiler", "kernels"):
        assert f"{os.sep}{root}{os.sep}" in kept.SOURCES
    assert f"passes{os.sep}simplify.py:" in kept.SOURCES
    assert f"numpy{os.sep}elementwise.py:" in kept.SOURCES
    (tmp_path / "code" / "deep" / "__pycache__").mkdir(parents=True)
    file = tmp_path / "code" / "deep" / "a.py"
    file.write_text("one")
    states = [cache.sources(tmp_path / "code")]
    (tmp_path / "code" / "deep" / "__pycache__" / "a.pyc").write_text("")
    (tmp_path / "code" / "deep" / ".#a.py").symlink_to("somebody@somewhere")
    assert cache.sources(tmp_path / "code") == states[0]
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    states.append(cache.sources(tmp_path / "code"))
    file.write_text("three")
    os.utime(file, ns=(1, 1))
    states.append(cache.sources(tmp_path / "code"))
    (tmp_path / "code" / "b.py").write_text("")
    states.append(cache.sources(tmp_path / "code"))
    assert len(set(states)) == 4
    keys = set()
    for state in states:
        monkeypatch.setattr(kept, "SOURCES", state)
        keys.add(kept.digest(SMALL, TARGET))
    assert len(keys) == 4


def test_what_folds_constants_is_in_the_key(monkeypatch):
    """Another numpy, or the same one told to use other instructions, may round differently."""
    keys = [kept.digest(SMALL, TARGET)]
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "AVX512F")
    keys.append(kept.digest(SMALL, TARGET))
    monkeypatch.setattr(kept.numpy, "__version__", "0.0")
    keys.append(kept.digest(SMALL, TARGET))
    monkeypatch.setattr(kept, "machine", lambda: "another")
    keys.append(kept.digest(SMALL, TARGET))
    assert len(set(keys)) == 4


def test_the_key_is_the_same_in_every_process():
    """Whatever Python's hashes of text are there."""
    program = (
        "from graphnet.compiler import build as b, kept; from graphnet.compiler.c import c_target\n"
        "from graphnet.compiler.ir import Graph, Type, leaf\n"
        "x = leaf('x', 'input', Type((2, 3), 'float32'))\n"
        "y = b.sum_(b.mul(b.unary('exp', x), 2.0), (1,), True)\n"
        "print(kept.digest(Graph((x,), (('y', y),)), c_target(2, 'avx2')))"
    )
    keys = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        keys.add(done.stdout)
    assert len(keys) == 1


# -- the optimiser ----------------------------------------------------------------------------------------


@gn.model
def line(x):
    return gn.layers.dense(x, 3)


def step_of(optimizer):
    """The training step of a small net, for the C target."""
    net = gn.compile(line, gn.spec((4, 5)), loss=gn.losses.mse, optimizer=optimizer, backend="numpy")
    target = net.target_type
    return net._compiled("step", net.input_types, target, SimpleNamespace(target=TARGET))[1]


def test_options_of_the_optimiser_are_part_of_the_step(lowered):
    """What changes the graph is another plan; the value of a hyperparameter is not in it."""
    rules = [
        gn.optim.SGD(lr=0.1),
        gn.optim.SGD(lr=0.1, momentum=0.9),
        gn.optim.SGD(lr=0.1, momentum=0.9, nesterov=True),
        gn.optim.SGD(lr=0.1, clip_norm=1.0),
        gn.optim.SGD(lr=0.1, l2=0.01),
        gn.optim.Adam(lr=0.1),
    ]
    texts = {schedule.listing(step_of(rule)) for rule in rules}
    assert len(texts) == len(rules)
    count = sum(1 for _ in lowered)
    step_of(gn.optim.SGD(lr=0.7))
    assert len(lowered) == count + 1, "the numpy plan, which is not kept"


def test_a_rule_of_the_users_own_is_looked_at_each_time():
    """Its name tells nothing: what it builds does, so a rule that was changed is another step."""

    def rule_with(op):
        class Mine(gn.optim.Optimizer):
            def __init__(self):
                super().__init__({"lr": 0.1})

            def rule(self, p, g, slots, s):
                return b.sub(p, b.mul(s["lr"], b.unary(op, g))), {}

        return Mine()

    texts = [schedule.listing(step_of(rule_with(op))) for op in ("sign", "tanh", "sign")]
    assert "sign" in texts[0]
    assert "tanh" in texts[1]
    assert texts[0] == texts[2]


# -- entries ----------------------------------------------------------------------------------------------


def entry_of(base):
    (entry,) = (path.parent for path in base.glob(f"*/{kept.FILE}"))
    return entry


def truncate(entry):
    os.truncate(entry / kept.FILE, 100)


def change(entry):
    data = bytearray((entry / kept.FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (entry / kept.FILE).write_bytes(data)


def lose_sum(entry):
    (entry / cache.SUM).unlink()


def lose_plan(entry):
    (entry / kept.FILE).unlink()


@pytest.mark.parametrize("damage", [truncate, change, lose_sum, lose_plan])
def test_a_damaged_entry_is_made_again(base, damage, lowered):
    """Nothing of it is read, and the next one finds it mended."""
    plan, entry = compiled()[0], entry_of(base)
    damage(entry)
    assert_same_plan(compiled()[0], plan)
    assert len(lowered) == 2
    assert_same_plan(compiled()[0], plan)
    assert len(lowered) == 2


def test_a_folder_that_others_can_write_is_not_read(base, lowered, capsys):
    """A pickle can run anything: what somebody else may have put there is not opened."""
    compiled()
    base.chmod(0o770)
    compiled()
    assert len(lowered) == 2
    assert "can be written by others" in capsys.readouterr().err


def test_a_folder_that_cannot_hold_more_is_one_line(monkeypatch):
    """As for compiled code."""

    def full(*_):
        raise cache.ToolchainError("/cache/c: compiled code cannot be kept: no space left")

    monkeypatch.setattr(cache, "obtain", full)
    with pytest.raises(BackendError, match=r"^/cache/c: compiled code cannot be kept: no space left$"):
        compiled()


def test_plans_with_large_constants_are_not_kept(base, monkeypatch, lowered):
    """They would fill the cache."""
    monkeypatch.setattr(kept, "LARGEST", 1000)
    for _ in range(2):
        compiled()
    assert len(lowered) == 2
    assert not list(base.glob("*"))


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ({"target": NUMPY}, {}),
        ({"verify": True}, {}),
        ({"disabled": frozenset({"fuse"})}, {}),
        ({"debug": 1}, {}),
        ({}, {"GRAPHNET_VERIFY": "1"}),
        ({}, {"GRAPHNET_DEBUG": "1"}),
        ({}, {"GRAPHNET_CHECK": "1"}),
    ],
)
def test_what_asks_to_see_passes_run_neither_finds_nor_keeps(options, variables, base, monkeypatch, lowered):
    """A plan made to be looked at is made; so is every plan of the numpy backend, which binds for longer than that."""
    compiled()
    before = sorted(base.glob("*"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        compiled(**options)
    assert len(lowered) == 3
    assert sorted(base.glob("*")) == before


def test_a_plan_whose_memory_is_not_shared_is_not_kept(base, lowered):
    """``reuse`` off is for tests of the planner, and not in the key."""
    for _ in range(2):
        compiling.compile_graph(SMALL, Context(target=TARGET), reuse=False)
    assert len(lowered) == 2
    assert not base.exists()
