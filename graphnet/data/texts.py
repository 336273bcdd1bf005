"""Texts for character models: Shakespeare, whole or in part, and Python's help, which needs no network."""

from __future__ import annotations

import os
import platform
import sys

from graphnet.compiler.errors import DataError
from graphnet.data import sources
from graphnet.data.fetch import describe, fetch
from graphnet.data.records import Text
from graphnet.data.suggest import suggest

_EDITIONS = {"100": sources.SHAKESPEARE, "tinyshakespeare": sources.TINYSHAKESPEARE}


def shakespeare(data_dir: str | os.PathLike[str] | None = None, edition: str = "100") -> Text:
    """The works of Shakespeare, Project Gutenberg's text 100, or Karpathy's extract "tinyshakespeare".

    The characters are the file's, none removed or translated: line ends stay CR LF where the file has them,
    and a byte order mark at the start is a character like any other. Gutenberg revises its text, so any
    edition of "100" is accepted, and its length and alphabet size are printed to stderr. Raises DataError.
    """
    if edition not in tuple(_EDITIONS):
        raise DataError(f"shakespeare: {suggest('edition', edition, _EDITIONS)}")
    found = fetch(_EDITIONS[edition], data_dir)
    name = "shakespeare" if edition == "100" else edition
    text = Text(_decode(found.contents), name, describe(found))
    if edition == "100":
        print(
            f"graphnet: {found.path}: {len(text.text):,} characters, {len(text.vocabulary)} distinct",
            file=sys.stderr,
        )
    return text


def python_topics() -> Text:
    """The help topics that come with CPython, in alphabetical order: some 450,000 characters.

    The contents differ between Python versions; ``source`` names the one at hand. Raises DataError where the
    interpreter comes without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError("topics: this Python comes without pydoc_data.topics: use a full CPython") from error
    text = "\n\n".join(topics[name].strip("\n") for name in sorted(topics))
    return Text(text, "topics", f"pydoc_data.topics of {platform.python_implementation()} {platform.python_version()}")


def _decode(contents: bytes) -> str:
    try:
        return contents.decode("utf-8")
    except UnicodeDecodeError:
        # Gutenberg's older editions are in Latin-1, which any byte string decodes as.
        return contents.decode("latin-1")
