"""The reference bodies of every op in NumPy, by op name.

`TABLE[op](out, *ins, **attrs)` returns calls; `SCRATCH[op](in_types, attrs)` gives the bytes of the `scratch`
that the kernels named there also take. Groups of fused elementwise ops run through `fused.fused`.
"""

from __future__ import annotations

from graphnet.kernels.numpy import conv, elementwise, index, linear, pool, random, reduction
from graphnet.kernels.numpy.call import Array, Call, Kernel, ScratchSize, run

__all__ = ["SCRATCH", "TABLE", "Array", "Call", "Kernel", "ScratchSize", "run"]

TABLE: dict[str, Kernel] = {
    **elementwise.ELEMENTWISE,
    "sum": reduction.sum,
    "prod": reduction.prod,
    "max": reduction.max,
    "min": reduction.min,
    "all": reduction.all,
    "argmax": reduction.argmax,
    "argmin": reduction.argmin,
    "cumsum": reduction.cumsum,
    "matmul": linear.matmul,
    "conv2d": conv.conv2d,
    "conv2d_input": conv.conv2d_input,
    "conv2d_weight": conv.conv2d_weight,
    "max_pool_index": pool.max_pool_index,
    "pool_gather": pool.pool_gather,
    "pool_scatter": pool.pool_scatter,
    "window_max": pool.window_max,
    "window_sum": pool.window_sum,
    "window_spread": pool.window_spread,
    "bounded": index.bounded,
    "take": index.take,
    "scatter_add": index.scatter_add,
    "place": index.place,
    "concat": index.concat,
    "copy": index.copy,
    "argsort": index.argsort,
    "iota": index.iota,
    "fill": index.fill,
    "random_bits": random.random_bits,
    "random_uniform": random.random_uniform,
}

SCRATCH: dict[str, ScratchSize] = {
    "argmax": reduction.argument_scratch,
    "argmin": reduction.argument_scratch,
    "conv2d": conv.conv2d_scratch,
    "conv2d_input": conv.conv2d_input_scratch,
    "conv2d_weight": conv.conv2d_weight_scratch,
    "max_pool_index": pool.max_pool_index_scratch,
    "pool_gather": pool.pool_gather_scratch,
    "pool_scatter": pool.pool_scatter_scratch,
    "take": index.take_scratch,
    "scatter_add": index.scatter_add_scratch,
    "random_bits": random.random_scratch,
    "random_uniform": random.random_scratch,
}
