"""Rules for gradients of max pooling: work is done on the pooled values, not on the image they came from.

    where(y > 0, pool_scatter(g, idx), 0)   ->  pool_scatter(where(pool_gather(y, idx) > 0, g, 0), idx)
    sum over the image of pool_scatter(g)   ->  sum of g

with idx = max_pool_index(y). The first is the gradient of relu before a pooling, the second that of its bias:
a scatter has nothing anywhere but at the chosen elements, so masks and sums need no more.
"""

from __future__ import annotations

from graphnet.compiler import build as b
from graphnet.compiler.ir import Node


def _spread_maxima(node: Node) -> bool:
    """True for a scatter of values to where the maxima of something were."""
    return node.op == "pool_scatter" and node.inputs[1].op == "max_pool_index"


def masked_scatter(node: Node) -> Node | None:
    """The first rule, for a ``where`` node."""
    condition, spread, zero = node.inputs
    if not _spread_maxima(spread) or b.scalar_value(zero) != 0 or condition.op != "gt":
        return None
    y, least = condition.inputs
    g, idx = spread.inputs
    if idx.inputs[0] is not y or b.scalar_value(least) is None or spread.shape != node.shape:
        return None
    window = {name: idx.attrs[name] for name in ("kernel", "stride", "padding")}
    pooled = b.apply("pool_gather", y, idx, **window)
    kept = b.where(b.apply("gt", pooled, b.cast(least, pooled.dtype)), g, 0)
    return b.apply("pool_scatter", kept, idx, **spread.attrs)


def summed_scatter(node: Node) -> Node | None:
    """The second rule, for a ``sum`` node."""
    x, axes = node.inputs[0], node.attrs["axes"]
    if not _spread_maxima(x) or not {2, 3} <= set(axes):
        return None
    return b.sum_(x.inputs[0], axes, keepdims=node.attrs["keepdims"])
