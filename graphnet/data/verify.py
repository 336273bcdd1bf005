"""Decide whether the bytes of a file are the data set they should be."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib

from graphnet.data.sources import Source

# Gutenberg texts announce themselves at the top and close with one of these, the older ones with the second.
_GUTENBERG = re.compile(rb"project gutenberg", re.IGNORECASE)
_GUTENBERG_END = re.compile(rb"\*\*\* ?END|End of th(e|is) (Project Gutenberg )?(Etext|EBook)", re.IGNORECASE)
_HEADER = 4096


class RejectedError(Exception):
    """The contents are not the data set; the message says why, in words that follow the file's name."""


def verify(source: Source, raw: bytes, downloaded: bool = False) -> bytes:
    """The contents of a file, decompressed; RejectedError if they are truncated, altered or something else.

    ``downloaded`` is stricter where any edition passes: a sign-in page that answers in place of the text must
    not pass for Shakespeare, while a text someone trimmed by hand may.
    """
    contents = _gunzip(raw, source.length) if source.compressed else raw
    if not contents:
        raise RejectedError("is empty")
    if source.length is not None and len(contents) != source.length:
        fault = "truncated" if len(contents) < source.length else "altered"
        size = f"more than {source.length:,}" if len(contents) > source.length else f"{len(contents):,}"
        raise RejectedError(f"{fault}: holds {size} bytes of data where {source.length:,} belong")
    if source.sha256 is None:
        _check_text(contents, downloaded)
        return contents
    digest = hashlib.sha256(contents).hexdigest()
    if digest != source.sha256:
        raise RejectedError(f"altered: the data's sha256 is {digest[:12]}..., the genuine one {source.sha256[:12]}...")
    return contents


def _gunzip(raw: bytes, length: int | None) -> bytes:
    """Decompress, one byte past the expected length at most: a small file must not fill the memory."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            return file.read(-1 if length is None else length + 1)
    except EOFError as error:
        raise RejectedError("truncated: the gzip stream ends early") from error
    except (OSError, zlib.error) as error:
        raise RejectedError(f"not a sound gzip file ({error})") from error


def _check_text(contents: bytes, downloaded: bool) -> None:
    if b"\0" in contents:
        raise RejectedError("not a text: holds NUL bytes")
    gutenberg = _GUTENBERG.search(contents[:_HEADER]) is not None
    if downloaded and not gutenberg:
        raise RejectedError("not a Project Gutenberg text")
    if gutenberg and not _GUTENBERG_END.search(contents):
        raise RejectedError("truncated: Project Gutenberg's closing line is missing")
