"""The verifier: every node's type follows from its operands, every body is closed, every update fits."""

from __future__ import annotations

from graphnet.compiler.errors import CompileError
from graphnet.compiler.infer import infer
from graphnet.compiler.ir import Graph, Node, is_leaf
from graphnet.compiler.ops.control import bodies


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
    if is_leaf(node):
        return
    try:
        expected = infer(node.op, node.inputs, node.attrs)
    except CompileError as error:
        raise CompileError(f"{when}: {node.where}: {node!r}: {error}") from None
    if expected != node.type:
        raise CompileError(f"{when}: {node.where}: {node!r}: its operands give {expected}")
    for body in bodies(node):
        verify(body, when, outer=False)
