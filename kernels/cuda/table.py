"""Writers of CUDA text by op name.

`WRITERS[op](outs, ins, attrs, job)` gives the phases of an op; `SCRATCH[op](outs, ins, attrs)` the bytes of scratch
that the ops named there use. Elementwise ops go through `nest.fused`.
"""

from __future__ import annotations

from graphnet.kernels.cuda import (
    arg,
    conv,
    cumsum,
    gemm,
    gemm_packed,
    index,
    nest,
    pool,
    random,
    reduction,
    scatter,
    sort,
)
from graphnet.kernels.cuda.phase import ScratchSize, Writer

__all__ = ["PRODUCTS", "SCRATCH", "WRITERS"]

WRITERS: dict[str, Writer] = {
    "matmul": gemm.matmul,
    "matmul_packed": gemm_packed.matmul_packed,
    "pack": gemm_packed.pack,
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
    "argmax": arg.argmax,
    "argmin": arg.argmin,
    "cumsum": cumsum.cumsum,
    "bounded": index.bounded,
    "take": index.take,
    "scatter_add": scatter.scatter_add,
    "place": index.place,
    "iota": index.iota,
    "argsort": sort.argsort,
    "copy": nest.copy,
    "fill": nest.fill,
    "random_uniform": random.random_uniform,
}

_MODULES = (arg, conv, cumsum, gemm, gemm_packed, index, pool, random, reduction, scatter, sort)

PRODUCTS = ("matmul", "conv2d", "conv2d_input", "conv2d_weight")
"""Ops whose scratch functions also take ``tensor``, as their writers do with the job."""

SCRATCH: dict[str, ScratchSize] = {
    op: getattr(module, f"{op}_scratch") for op in WRITERS for module in _MODULES if hasattr(module, f"{op}_scratch")
}
