"""The verifier names the first node that breaks a rule; passes are checked by the driver, not by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphnet.compiler import build as b
from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Graph, Type, Where, leaf, make
from graphnet.compiler.ops.control import cond, scan
from graphnet.compiler.passes import Context, Pass, check_order, run_passes
from graphnet.compiler.verify import verify

F = "float32"
X = leaf("image", "input", Type((3, 2), F))
ROW = leaf("x0", "x", Type((2,), F), depth=1)
CARRY = leaf("carry0", "carry", Type((2,), F), depth=1)
TIME = leaf("time", "time", Type((), "int32"), depth=1)


def graph(node, updates=()):
    return Graph((X,), (("y", node),), updates)


def loop(**changes):
    start = leaf("start", "input", Type((2,), F))
    node = scan([start], [X], [], [CARRY, ROW, TIME], ([b.add(CARRY, ROW)], [ROW], []), 3, False, Where("net.py", 4))
    return make("scan", node.inputs, {**node.attrs, **changes}, node.type, node.where)


def test_a_right_graph_passes():
    verify(graph(b.item(loop(), 1), ((X, b.neg(X)),)))


def test_a_type_that_does_not_follow_from_the_operands_is_found_with_its_line():
    wrong = make("add", (X, X), {}, Type((2, 3), F), Where("net.py", 8))
    with pytest.raises(CompileError, match=r"after pass 'p': net.py:8: .*its operands give float32\(3, 2\)"):
        verify(graph(b.neg(wrong)), "after pass 'p'")


def test_operands_that_the_rule_refuses_are_found():
    wrong = make("matmul", (X, X), {}, Type((3, 2), F))
    with pytest.raises(CompileError, match="inner sizes differ"):
        verify(graph(wrong))


def test_an_unknown_op_is_found():
    with pytest.raises(CompileError, match="unknown op 'nothing'"):
        verify(graph(make("nothing", (X,), {}, X.type)))


def test_a_result_of_another_type_than_its_node_gives_is_found():
    with pytest.raises(CompileError, match=r"its operands give float32\(3, 2\)"):
        verify(graph(make("get", (loop(),), {"index": 1}, Type((3, 3), F))))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"length": 2}, "operands and body inputs differ"),
        ({"sums": 1}, "do not add up"),
        (
            {"body": Graph((CARRY, TIME, ROW), (("carry0", CARRY), ("stack0", ROW)), name="body")},
            "operands and body inputs differ",
        ),
        ({"body": Graph((CARRY, ROW, TIME), (("carry0", TIME), ("stack0", ROW)), name="body")}, "a carry changes type"),
    ],
)
def test_a_loop_that_does_not_fit_its_body_is_found(changes, why):
    with pytest.raises(CompileError, match=why):
        verify(graph(b.item(loop(**changes), 0)))


def test_a_body_that_reads_what_is_not_its_input_is_found():
    body = Graph((CARRY, ROW, TIME), (("carry0", b.add(CARRY, b.sum_(X, [0]))), ("stack0", ROW)), name="body")
    with pytest.raises(CompileError, match=r"body reads <input image float32.*>, which is not one of its inputs"):
        verify(graph(b.item(loop(body=body), 0)))


def test_a_branch_with_other_operands_than_it_is_given_is_found():
    given = leaf("const0", "const", X.out, depth=1)
    body = Graph((given,), (("r", b.neg(given)),), name="body")
    test = leaf("test", "input", Type((), "bool"))
    right = cond(test, body, body, [X], Where())
    verify(graph(b.item(right, 0)))
    wrong = make("cond", (test, b.sum_(X, [0])), right.attrs, right.type)
    with pytest.raises(CompileError, match="operands and branch inputs differ"):
        verify(graph(b.item(wrong, 0)))


def test_a_fused_node_that_does_not_fit_its_body_is_found():
    inner = leaf("in0", "const", Type((2,), F), depth=-1)
    body = Graph((inner,), (("out0", b.neg(inner)),), name="body")
    with pytest.raises(CompileError, match="operands and body inputs differ"):
        verify(graph(make("fused", (X,), {"body": body}, (Type((2,), F),))))


def test_updates_go_to_leaves_of_their_type():
    with pytest.raises(CompileError, match="update of"):
        verify(graph(X, ((b.neg(X), X),)))
    with pytest.raises(CompileError, match="by a value of type"):
        verify(graph(X, ((X, b.sum_(X, [0])),)))


def test_names_of_results_do_not_repeat():
    with pytest.raises(CompileError, match=r"output names repeat: \['y', 'y'\]"):
        verify(Graph((X,), (("y", X), ("y", b.neg(X)))))


def test_the_driver_verifies_after_each_pass_and_names_the_pass():
    def spoil(graph, context):
        return graph.with_results(outputs=[("y", make("neg", (X,), {}, Type((7,), F)))])

    passes = (Pass("fine", lambda g, c: g, frozenset({"graph"}), frozenset()),)
    passes += (Pass("spoil", spoil, frozenset({"graph"}), frozenset()),)
    run_passes(graph(X), passes, Context())
    with pytest.raises(CompileError, match="after pass 'spoil'"):
        run_passes(graph(X), passes, Context(verify=True))
    run_passes(graph(X), passes, Context(verify=True, disabled=frozenset({"spoil"})))
    required = (replace(passes[1], optional=False),)
    with pytest.raises(CompileError, match="after pass 'spoil'"):
        run_passes(graph(X), required, Context(verify=True, disabled=frozenset({"spoil"})))


def test_a_pass_that_finds_its_needs_unmet_is_an_error_of_the_pipeline():
    late = Pass("late", lambda g, c: g, frozenset({"gradients"}), frozenset())
    with pytest.raises(CompileError, match="pass 'late' needs gradients established before it"):
        check_order((late,))
