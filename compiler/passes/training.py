"""From a forward graph with a loss to the whole training step as one graph.

differentiate   {loss}             ->  {loss, grad/<param> ...}
update          {.., grad/<param>} ->  {loss} with updates  param <- new value, slot <- new value
"""

from __future__ import annotations

from graphnet.compiler import build as b
from graphnet.compiler.autodiff import gradients, zeros_unless
from graphnet.compiler.ir import Graph, is_leaf
from graphnet.compiler.passes.pipeline import Context


def differentiate(graph: Graph, context: Context) -> Graph:
    """Add ``grad/<param>`` outputs of the loss for every parameter in use."""
    if not context.differentiate or not graph.has("loss"):
        return graph
    loss = graph.output("loss")
    params = [n for n in graph.nodes() if is_leaf(n) and n.attrs["role"] == "param"]
    with b.at(loss.where):
        seed = b.full(loss.shape, 1.0, loss.dtype)
    found = gradients([(loss, seed)], params)
    outputs = list(graph.outputs)
    for leaf, gradient in zip(params, found, strict=True):
        with b.at(leaf.where):
            if gradient is None:
                context.decline("differentiate", leaf, "the loss does not depend on it: its gradient is zero")
            outputs.append((f"grad/{leaf.attrs['name']}", zeros_unless(gradient, leaf)))
    return graph.with_results(outputs=outputs)


def update(graph: Graph, context: Context) -> Graph:
    """Let the optimiser turn gradients into new values of parameters and slots."""
    if context.update is not None:
        graph = context.update(graph)
    if context.keep_gradients:
        return graph
    return graph.with_results(outputs=[(n, v) for n, v in graph.outputs if not n.startswith("grad/")])
