"""The exceptions graphnet raises: one line each, starting with the user's ``file:line`` where there is one."""

from __future__ import annotations


class GraphnetError(Exception):
    """Base of every error graphnet raises on purpose."""

    def __str__(self) -> str:
        # not KeyError's quoted form, which NameError_ would inherit
        return str(self.args[0]) if self.args else ""


class TraceError(GraphnetError):
    """The model function did something a traced graph cannot hold (a Python ``if`` on a tensor, say)."""


class ShapeError(TraceError):
    """Shapes do not fit each other or the operation."""


class DTypeError(TraceError):
    """Data types do not fit each other or the operation."""


class NameError_(TraceError, KeyError):  # noqa: N801 - exported as gn.NameError, which would hide the builtin in this module
    """An unknown name, or a parameter or state declared twice; a KeyError too, so that mappings work as mappings."""


class CompileError(GraphnetError):
    """A pass or the verifier found the graph wrong: a fault of graphnet or of a custom op record."""


class PlanError(GraphnetError):
    """A call does not fit the compiled plans: wrong shapes, too many plans, phases out of order."""


class DataError(GraphnetError):
    """A data set is missing, truncated or altered."""


class FileError(GraphnetError):
    """A saved net is missing, truncated, altered or not one of ours."""


class BackendError(GraphnetError):
    """The requested device or backend is not available here."""


class NumericsError(GraphnetError):
    """Check mode found a NaN or an infinity; the message names the op and the line that made it."""
