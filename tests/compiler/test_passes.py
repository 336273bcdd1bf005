"""fold, fuse, drop_markers, differentiate and update: hand-written graphs before and after, and equal values."""

from __future__ import annotations

import numpy as np
import pytest

from graphnet.backend_numpy import NumpyBackend
from graphnet.compiler import build as b
from graphnet.compiler.ir import NOWHERE, Constant, Graph, Type, leaf, make
from graphnet.compiler.lower import lower
from graphnet.compiler.ops.control import scan
from graphnet.compiler.passes import Context, training
from graphnet.compiler.passes.fold import LIMIT, fold
from graphnet.compiler.passes.fuse import fuse
from graphnet.compiler.passes.simplify import drop_markers
from graphnet.compiler.verify import verify


def given(name, *shape, role="input", dtype="float64"):
    return leaf(name, role, Type(shape, dtype))


X, Y, Z = (given(n, 2, 3) for n in "xyz")


def graph(**results):
    return Graph((), tuple(results.items()))


def run(g, **homes):
    """Values of a graph's results, for inputs drawn by name; ``homes`` are the arrays of parameters."""
    executable = NumpyBackend().bind(lower(g), homes)
    for name, array in executable.inputs.items():
        array[...] = np.random.default_rng(sum(name.encode())).normal(size=array.shape)
    executable.run()
    return {name: array.copy() for name, array in executable.outputs.items()}


def applied(function, before):
    """The graph after a pass; checks types, values and that a second run changes nothing."""
    after = function(before, Context())
    verify(after, f"after {function.__name__}")
    assert function(after, Context()) == after
    expected, found = run(before), run(after)
    assert list(expected) == list(found)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-14)
    return after


def literal(values, dtype="float64"):
    array = np.asarray(values, dtype)
    value = Constant(array.tobytes(), array.shape, dtype)
    return make("constant", (), {"value": value}, Type(array.shape, dtype))


# -- fold -----------------------------------------------------------------------------------------------


def test_operations_on_constants_are_computed():
    """mul(iota, 10) and everything above it becomes one constant."""
    numbers = b.mul(b.iota((4,), 0), 10)
    after = applied(fold, graph(y=b.add(given("v", 4, dtype="int32"), b.sub(numbers, 5))))
    assert after.output("y") is b.add(given("v", 4, dtype="int32"), literal([-5, 5, 15, 25], "int32"))


def test_folding_uses_the_kernels():
    """The constant has the bits that the run would have given."""
    angles = literal(np.linspace(0, 3, 7))
    after = applied(fold, graph(y=b.unary("sin", angles)))
    np.testing.assert_array_equal(run(after)["y"], np.sin(np.linspace(0, 3, 7)))
    assert after.output("y").op == "constant"


def test_views_of_constants_and_large_results_stay():
    """A repeated number needs no memory, and a folded large array would swell the graph."""
    assert applied(fold, graph(y=b.full((2, 3), 1.0, "float64"))).output("y").op == "broadcast_to"
    large = b.mul(b.iota((LIMIT + 1,), 0), 2)
    assert applied(fold, graph(y=large)).output("y") is large
    small = b.mul(b.iota((LIMIT,), 0), 2)
    assert applied(fold, graph(y=small)).output("y").op == "constant"


def test_what_depends_on_inputs_is_not_folded():
    """The graph comes back as it was."""
    before = graph(y=b.add(X, b.mul(Y, 2.0)), z=b.iota((3,), 0))
    assert applied(fold, before) == before


# -- fuse -----------------------------------------------------------------------------------------------


def body_ops(node):
    return [n.op for n in node.attrs["body"].nodes() if n.op != "input"]


def test_connected_elementwise_operations_become_one_group():
    """u = x * y + z is one node of three operands with a body of two operations."""
    after = applied(fuse, graph(u=b.add(b.mul(X, Y), Z)))
    get = after.output("u")
    fused = get.inputs[0]
    assert (get.op, fused.op, fused.inputs) == ("get", "fused", (X, Y, Z))
    leaves = [leaf(f"in{i}", "const", X.out, depth=-1) for i in range(3)]
    expected = Graph(tuple(leaves), (("out0", b.add(b.mul(leaves[0], leaves[1]), leaves[2])),), name="body")
    assert fused.attrs["body"] == expected


def test_a_group_gives_every_value_that_is_read_outside():
    """Here the product, which is a result, and the sum."""
    product = b.mul(X, Y)
    after = applied(fuse, graph(p=product, s=b.add(product, Z), m=b.matmul(b.add(product, Z), b.transpose(X, (1, 0)))))
    p, s = after.output("p"), after.output("s")
    assert p.inputs[0] is s.inputs[0]
    assert len(p.inputs[0].types) == 2
    assert after.output("m").inputs[0] is s


def test_broadcast_operands_and_other_shapes():
    """A group has one shape; smaller operands are read by broadcasting, smaller results are computed before."""
    row = given("row", 3)
    scaled = b.mul(row, 2.0)
    after = applied(fuse, graph(y=b.mul(b.add(X, scaled), Y)))
    fused = after.output("y").inputs[0]
    assert body_ops(fused) == ["add", "mul"]
    assert scaled in fused.inputs


def test_a_group_does_not_span_what_depends_on_it_and_feeds_it():
    """e = exp(x) and e / sum(e) cannot be one group: the sum lies between them."""
    e = b.unary("exp", b.mul(X, 2.0))
    softmax = b.div(e, b.sum_(e, [1], True))
    after = applied(fuse, graph(y=b.mul(softmax, Y)))
    groups = [n for n in after.nodes() if n.op == "fused"]
    assert [body_ops(g) for g in groups] == [["mul", "exp"], ["div", "mul"]]


def test_a_single_operation_is_not_a_group():
    """Nor are operations that are not elementwise."""
    before = graph(y=b.matmul(b.unary("tanh", X), b.transpose(Y, (1, 0))), z=b.sum_(b.unary("exp", Z), [0]))
    assert applied(fuse, before) == before


def test_groups_are_made_inside_loops():
    """The body of a scan is fused as a graph of its own."""
    c, x, time = (
        leaf("c", "carry", X.out, depth=1),
        leaf("x", "x", X.out, depth=1),
        leaf("t", "time", Type((), "int32")),
    )
    xs = given("xs", 4, 2, 3)
    new = b.unary("tanh", b.add(c, b.mul(x, 2.0)))
    node = scan([X], [xs], [], (c, x, time), ([new], [new], []), 4, False, NOWHERE)
    after = applied(fuse, graph(last=b.item(node, 0), all=b.item(node, 1)))
    body = after.output("last").inputs[0].attrs["body"]
    assert [n.op for n in body.nodes() if n.op not in ("input", "constant")] == ["fused", "get"]


def test_phases_that_run_apart_do_not_share_a_group():
    """With gradients as results, forward and backward are called one after the other."""
    w = given("w", 2, 3, role="param")
    forward = b.mul(b.add(X, w), 2.0)
    outputs = {"output": forward, "loss": b.sum_(forward, [0, 1]), "grad/w": b.mul(b.mul(forward, Y), Z)}
    after = fuse(graph(**outputs), Context())
    verify(after)
    assert [body_ops(n) for n in after.nodes() if n.op == "fused"] == [["add", "mul"], ["mul", "mul"]]


# -- drop_markers ---------------------------------------------------------------------------------------


def test_markers_disappear():
    """stop_gradient and identity mean something to differentiation only, also inside bodies."""
    marked = b.unary("stop_gradient", b.apply("identity", X, tag=3))
    after = drop_markers(graph(y=b.mul(marked, Y), x=marked), Context())
    assert after == graph(y=b.mul(X, Y), x=X)
    assert drop_markers(after, Context()) == after
    c, time = leaf("c", "carry", X.out, depth=1), leaf("t", "time", Type((), "int32"))

    def loop(new):
        return graph(y=b.item(scan([X], [], [], (c, time), ([new], [], []), 4, False, NOWHERE), 0))

    before = loop(b.mul(b.unary("stop_gradient", c), 2.0))
    assert applied(drop_markers, before) == loop(b.mul(c, 2.0))


# -- differentiate and update ---------------------------------------------------------------------------

W, V = given("w", 3, role="param"), given("v", 3, role="param")
LOSS = b.sum_(b.unary("square", b.mul(X, W)), [0, 1])
GRADIENT = "grad/w"


def test_differentiate_adds_a_gradient_for_every_parameter():
    """grad/<name>, of the parameter's own type; here 2 w sum(x**2)."""
    before = graph(output=b.mul(X, W), loss=LOSS)
    after = training.differentiate(before, Context(differentiate=True))
    verify(after)
    assert [n for n, _ in after.outputs] == ["output", "loss", GRADIENT]
    assert after.output(GRADIENT).out == W.out
    assert after.output("loss") is LOSS
    w = np.array([0.5, -1.0, 2.0])
    values = run(after.with_results([*after.outputs, ("x", b.mul(X, 1.0))]), w=w)
    np.testing.assert_allclose(values[GRADIENT], 2 * w * (values["x"] ** 2).sum(axis=0), rtol=1e-14)


def test_differentiate_reports_parameters_the_loss_does_not_depend_on():
    """Their gradient is zeros, and net.explain() says so."""
    context = Context(differentiate=True)
    after = training.differentiate(graph(output=b.mul(X, V), loss=LOSS), context)
    assert after.output("grad/v") is b.zeros_like(V)
    assert context.declined == [
        "differentiate: <graphnet>:0: input: the loss does not depend on it: its gradient is zero"
    ]


@pytest.mark.parametrize("wanted", [True, False])
def test_differentiate_does_nothing_for_inference_or_without_a_loss(wanted):
    """The graph comes back as it was."""
    before = graph(output=b.mul(X, W)) if wanted else graph(output=b.mul(X, W), loss=LOSS)
    assert training.differentiate(before, Context(differentiate=wanted)) is before


def descent(g):
    """An optimiser as gn.compile hands it in: w <- w - 0.1 grad/w."""
    return g.with_results(updates=[*g.updates, (W, b.sub(W, b.mul(g.output(GRADIENT), 0.1)))])


def test_update_turns_gradients_into_new_values():
    """The gradients are then no results any more."""
    before = training.differentiate(graph(loss=LOSS), Context(differentiate=True))
    after = training.update(before, Context(update=descent))
    verify(after)
    assert [n for n, _ in after.outputs] == ["loss"]
    assert after.updates == ((W, b.sub(W, b.mul(before.output(GRADIENT), 0.1))),)
    w = np.array([0.5, -1.0, 2.0])
    run(after, w=w)
    expected = run(before, w=np.array([0.5, -1.0, 2.0]))[GRADIENT]
    np.testing.assert_allclose(w, [0.5, -1.0, 2.0] - 0.1 * expected)


def test_update_keeps_gradients_where_they_are_asked_for():
    """For the three phases, with an optimiser and without."""
    before = training.differentiate(graph(loss=LOSS), Context(differentiate=True))
    assert training.update(before, Context(keep_gradients=True)) is before
    kept = training.update(before, Context(keep_gradients=True, update=descent))
    assert kept.outputs == before.outputs
    assert len(kept.updates) == 1
    assert training.update(before, Context()) == graph(loss=LOSS)
