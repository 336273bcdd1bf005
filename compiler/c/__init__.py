"""Plans as C files."""

from graphnet.compiler.c.file import LEAST_WORK, Source, emit
from graphnet.compiler.c.target import c_target

__all__ = ["LEAST_WORK", "Source", "c_target", "emit"]
