"""Plans as CUDA files: kernels for the steps of a schedule, and the launches that run them."""

from graphnet.compiler.cuda.file import Options, emit
from graphnet.compiler.cuda.source import BY_VALUE, NOTES, RING, Gemm, Launch, Matrix, Row, Source
from graphnet.compiler.cuda.target import cuda_target

__all__ = [
    "BY_VALUE",
    "NOTES",
    "RING",
    "Gemm",
    "Launch",
    "Matrix",
    "Options",
    "Row",
    "Source",
    "cuda_target",
    "emit",
]
