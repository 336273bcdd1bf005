"""The second half of an "unknown name" error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(kind: str, given: object, known: Iterable[str]) -> str:
    """One line: the unknown name, the closest known one if any is close, and all known ones."""
    names = list(known)
    close = difflib.get_close_matches(str(given).lower(), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {kind} {given!a}: {hint}use one of {', '.join(names)}"
