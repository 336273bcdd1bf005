"""The verifier: every node's type follows from its operands, every body is closed, every update fits."""

from __future__ import annotations

from collections.abc import Callable

from graphnet.compiler.errors import CompileError, GraphnetError
from graphnet.compiler.ir import Graph, Node, is_leaf
from graphnet.compiler.ops.control import bodies, parts
from graphnet.compiler.record import lookup

STRUCTURAL = ("input", "constant", "get", "scan", "cond", "fused")


def verify(graph: Graph, when: str = "", outer: bool = True) -> None:
    """Raise CompileError naming the first node that breaks a rule of the IR."""
    nodes = graph.nodes()
    for node in nodes:
        _check_node(node, when)
    names = [name for name, _ in graph.outputs]
    if len(set(names)) != len(names):
        raise CompileError(f"{when}: output names repeat: {names}")
    for home, value in graph.updates:
        if not is_leaf(home) or home.out != value.out:
            raise CompileError(f"{when}: update of {home} by a value of type {value.types}")
    if not outer:
        declared = set(graph.inputs)
        for node in nodes:
            if is_leaf(node) and node not in declared:
                raise CompileError(f"{when}: {graph.name} reads {node}, which is not one of its inputs")


def _check_node(node: Node, when: str) -> None:
    def fail(why: str) -> None:
        raise CompileError(f"{when}: {node.where}: {node!r}: {why}")

    if node.op not in STRUCTURAL:
        try:
            expected = lookup(node.op).infer([i.out for i in node.inputs], node.attrs)
        except GraphnetError as error:
            fail(str(error))
        if expected != node.type:
            fail(f"its operands give {expected}")
    elif node.op == "get" and node.type != node.inputs[0].types[node.attrs["index"]]:
        fail(f"result {node.attrs['index']} is {node.inputs[0].types}")
    elif node.op == "scan":
        _check_scan(node, fail)
    elif node.op == "cond" and [i.out for i in node.inputs[1:]] != [i.out for i in node.attrs["then"].inputs]:
        fail("operands and branch inputs differ")
    elif node.op == "fused" and [i.out for i in node.inputs] != [i.out for i in node.attrs["body"].inputs]:
        fail("operands and body inputs differ")
    for body in bodies(node):
        verify(body, when, outer=False)


def _check_scan(node: Node, complain: Callable[[str], None]) -> None:
    p = parts(node)
    if [c.out for c in p.carries] != [c.out for c in p.body_carries]:
        complain("carries and body inputs differ")
    if [x.shape for x in p.xs] != [(p.length, *x.shape) for x in p.body_xs]:
        complain("xs and body inputs differ")
    if [c.out for c in p.consts] != [c.out for c in p.body_consts]:
        complain("consts and body inputs differ")
    if [r.out for r in p.results[: len(p.carries)]] != [c.out for c in p.carries]:
        complain("a carry changes type")
    if len(p.results) != len(p.carries) + p.stacks + p.sums:
        complain("results are miscounted")
