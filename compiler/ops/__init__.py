"""The op records, one module a family; importing this package fills the registry."""

from graphnet.compiler.ops import control, elementwise, indexing, linear, reduction, shape
from graphnet.compiler.record import REGISTRY, NoGradient, Op, Sample, lookup, register

__all__ = [
    "REGISTRY",
    "NoGradient",
    "Op",
    "Sample",
    "control",
    "elementwise",
    "indexing",
    "linear",
    "lookup",
    "reduction",
    "register",
    "shape",
]
