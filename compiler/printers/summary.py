"""A net drawn down the page, a row a layer, in the manner of keras-sequential-ascii.

           OPERATION         DATA DIMENSIONS           WEIGHTS(N)   WEIGHTS(%)

                   x   #####    100    1   28   28
            conv2d_1    \\|/   --------------------           520         0.1%
                relu   #####    100   20   24   24

A layer is a call of a model function, or an op between such calls. An elementwise op right after a layer stands
beside the data it gives. Data is written as (batch, ...) sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphnet.compiler.autodiff import depends_on
from graphnet.compiler.ir import Graph, Node, Type, is_leaf, toposort, users
from graphnet.compiler.order import step_of
from graphnet.compiler.printers.collapse import call_of
from graphnet.compiler.printers.text import Places, clean, count
from graphnet.compiler.record import REGISTRY

_SYMBOLS = {
    "conv": r" \|/ ",
    "dense": "XXXXX",
    "matmul": "XXXXX",
    "linear": "XXXXX",
    "max_pool": "Y max",
    "avg_pool": "Y avg",
    "window_sum": "Y sum",
    "flatten": "|||||",
    "reshape": "|||||",
    "transpose": "  X  ",
    "concat": "\\___/",
    "dropout": "| || ",
    "embedding": "emb |",
    "take": "emb |",
    "lstm": "LLLLL",
    "gru": "GGGGG",
    "rnn": "RRRRR",
    "scan": "=>=>=",
    "batch_norm": r"_/^\_",
    "layer_norm": r"_/^\_",
    "sum": r"\ + /",
    "add": r"\ + /",
    "mul": r"\ x /",
}
_NAMES = {"pool_gather": "max_pool2d", "max_pool_index": "max_pool2d", "window_sum": "avg_pool2d"}
_MANY = 3


@dataclass
class _Row:
    name: str
    nodes: list[Node]
    call: str = ""
    after: str = ""
    params: list[str] = field(default_factory=list)


def summary(graph: Graph, params: Mapping[str, Type]) -> str:
    """The forward graph as traced, a row a layer; ``params`` are the parameters' types by name."""
    outputs = [node for name, node in graph.outputs if name != "loss" and not name.startswith("grad/")]
    nodes = toposort(outputs or [node for _, node in graph.outputs])
    rows = _rows(graph, nodes)
    rest = _assign(rows, params)
    total = sum(t.size for t in params.values())
    lines = [f"{'OPERATION':>20}   {'DATA DIMENSIONS':^27}  {'WEIGHTS(N)':>12}{'WEIGHTS(%)':>13}", ""]
    for leaf in graph.leaves():
        if leaf.attrs["role"] == "input":
            lines.append(_data(clean(str(leaf.attrs["name"])), leaf.out))
    reads, kept = users(nodes), set(outputs)
    for row in rows:
        lines.append(_layer(row.name, _symbol(row.name), sum(params[p].size for p in row.params), total))
        result = _result(row, reads, kept)
        lines.append(_data(row.after, result.out))
    if rest:
        lines.append(_layer("(not in the output)", "     ", sum(params[p].size for p in rest), total))
    nbytes = f"{count(sum(t.nbytes for t in params.values()))} B"
    lines += ["", f"{'TOTAL':>20}   {'':27}  {count(total):>12}{nbytes:>13}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _data(name: str, value: Type) -> str:
    sizes = "".join(f"{n:>5}" for n in value.shape) or "    1"
    dtype = "" if value.dtype == "float32" else f"  {value.dtype}"
    return f"{name:>20}   #####  {sizes}{dtype}"


def _layer(name: str, symbol: str, size: int, total: int) -> str:
    share = 100 * size / total if total else 0.0
    return f"{name:>20}   {symbol}  {'-' * 20}  {count(size):>12}{share:>12.1f}%"


def _symbol(name: str) -> str:
    """The picture for the longest known beginning of a layer's name."""
    known = [k for k in _SYMBOLS if name.startswith(k)]
    return _SYMBOLS[max(known, key=len)] if known else "  |  "


def _depth(graph: Graph, moving: Sequence[Node]) -> int:
    """How deep the scopes of layers are: below the model's own scope, if all is inside one."""
    scopes = {n.where.scope.partition("/")[0] for n in moving if n.where.scope}
    deeper = any("/" in n.where.scope for n in moving)
    model = graph.name.partition(":")[0]
    return 1 if len(scopes) == 1 and (deeper or scopes == {model}) else 0


def _rows(graph: Graph, nodes: Sequence[Node]) -> list[_Row]:
    """Layers in the order in which they are finished; what does not depend on the inputs makes no row."""
    sources = [n for n in nodes if is_leaf(n) and n.attrs["role"] in ("input", "target")]
    varying = depends_on(nodes, sources)
    moving = [n for n in nodes if n in varying and not is_leaf(n)]
    depth = _depth(graph, moving)
    calls: dict[str, list[Node]] = {}
    for node in moving:
        calls.setdefault(call_of(node, depth), []).append(node)
    rows: list[_Row] = []
    for node in moving:
        call = call_of(node, depth)
        if call and node is _last(calls[call]):
            rows.append(_Row(clean(call.split("/")[-1]), calls[call], call))
        elif not call and node.op != "get":
            rows.append(_Row(_name(node), [n for n in calls[""] if step_of(n) is node]))
    return _activations(_shorter(rows, Places.of(graph)))


def _last(nodes: Sequence[Node]) -> Node:
    """The last node that computes something: what is taken from it later does not move its row."""
    return [n for n in nodes if n.op != "get" or n is nodes[0]][-1]


def _name(node: Node) -> str:
    """What a person calls an op that stands outside of layers."""
    if node.op == "reshape" and node.ndim == 2 < node.inputs[0].ndim and node.shape[0] == node.inputs[0].shape[0]:
        return "flatten"
    return _NAMES.get(node.op, node.op)


def _shorter(rows: Sequence[_Row], places: Places) -> list[_Row]:
    """One row for the parts of one op, and one for a line that makes many."""
    runs: list[list[_Row]] = []
    for row in rows:
        same = runs and not row.call and not runs[-1][-1].call
        if same and runs[-1][-1].nodes[0].where == row.nodes[0].where:
            if runs[-1][-1].name == row.name and row.name in _NAMES.values():
                runs[-1][-1].nodes += row.nodes
            else:
                runs[-1].append(row)
        else:
            runs.append([row])
    found = []
    for run in runs:
        if len(run) > _MANY:
            nodes = [n for row in run for n in row.nodes]
            found.append(_Row(f"{len(run)} ops, {places(nodes[0].where)}", nodes))
        else:
            found += run
    return found


def _activations(rows: Sequence[_Row]) -> list[_Row]:
    """Elementwise ops of one operand go beside the data of the row above."""
    found: list[_Row] = []
    for row in rows:
        node = row.nodes[0]
        alone = len(row.nodes) == 1 and not row.call
        elementwise = node.op in REGISTRY and REGISTRY[node.op].kind == "elementwise"
        follows = found and not found[-1].after and len(node.inputs) == 1 and node.inputs[0] in found[-1].nodes
        if alone and elementwise and follows:
            found[-1].after = row.name
            found[-1].nodes.append(node)
        else:
            found.append(row)
    return found


def _result(row: _Row, reads: Mapping[Node, list[Node]], kept: set[Node]) -> Node:
    """The value a layer hands on: the last one that something outside of it reads."""
    own = set(row.nodes)
    single = [n for n in row.nodes if not isinstance(n.type, tuple)]
    read = [n for n in single if any(user not in own for user in reads.get(n, ()))]
    return (read or [n for n in single if n in kept] or single)[-1]


def _assign(rows: Sequence[_Row], params: Mapping[str, Type]) -> list[str]:
    """Give each parameter to its layer, or to the first op that reads it; returns those that are left."""
    waiting = dict.fromkeys(params)
    for row in rows:
        names = [p for p in waiting if row.call and p.startswith(f"{row.call}/")]
        row.params += names
        for name in names:
            del waiting[name]
    for row in rows:
        for node in toposort(row.nodes):
            name = str(node.attrs["name"]) if is_leaf(node) and node.attrs["role"] == "param" else ""
            if name in waiting:
                row.params.append(name)
                del waiting[name]
    return list(waiting)
