"""Writers of C text by op name.

`WRITERS[op](outs, ins, attrs, job)` gives the phases of an op; `SCRATCH[op](outs, ins, attrs, threads)` the bytes
of scratch that the ops named there use. Elementwise ops go through `nest.fused`.
"""

from __future__ import annotations

from graphnet.kernels.c import conv, gemm, index, nest, pool, random, reduction, sort
from graphnet.kernels.c.phase import ScratchSize, Writer

__all__ = ["SCRATCH", "WRITERS"]

WRITERS: dict[str, Writer] = {
    "matmul": gemm.matmul,
    "matmul_packed": gemm.matmul_packed,
    "pack": gemm.pack,
    "conv2d": conv.conv2d,
    "conv2d_input": conv.conv2d_input,
    "conv2d_weight": conv.conv2d_weight,
    "max_pool": pool.max_pool,
    "max_pool_index": pool.max_pool_index,
    "pool_gather": pool.pool_gather,
    "pool_scatter": pool.pool_scatter,
    "window_sum": pool.window_sum,
    "window_spread": pool.window_spread,
    "sum": reduction.sum,
    "max": reduction.max,
    "min": reduction.min,
    "argmax": reduction.argmax,
    "argmin": reduction.argmin,
    "cumsum": reduction.cumsum,
    "bounded": index.bounded,
    "take": index.take,
    "scatter_add": index.scatter_add,
    "place": index.place,
    "iota": index.iota,
    "argsort": sort.argsort,
    "copy": nest.copy,
    "fill": nest.fill,
    "random_uniform": random.random_uniform,
}

_MODULES = (conv, gemm, index, pool, random, reduction, sort)

SCRATCH: dict[str, ScratchSize] = {
    op: getattr(module, f"{op}_scratch") for op in WRITERS for module in _MODULES if hasattr(module, f"{op}_scratch")
}
