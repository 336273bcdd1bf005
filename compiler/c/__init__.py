"""Plans as C files."""

from graphnet.compiler.c.file import LEAST_WORK, Source, emit, identity
from graphnet.compiler.c.target import c_target
from graphnet.compiler.text.memory import Memory

__all__ = ["LEAST_WORK", "Memory", "Source", "c_target", "emit", "identity"]
