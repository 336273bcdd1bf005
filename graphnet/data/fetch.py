"""Find a data file in the known folders, or download it; either way, hand over only verified contents."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from graphnet.compiler.errors import DataError
from graphnet.data.download import download
from graphnet.data.sources import Source
from graphnet.data.verify import RejectedError, verify


class Found(NamedTuple):
    """Decompressed contents, the file they were read from, and the address if it was downloaded just now."""

    contents: bytes
    path: Path
    url: str | None


def fetch(source: Source, data_dir: str | os.PathLike[str] | None = None) -> Found:
    """The verified contents of ``source``, from the first folder that has the file, else from the network.

    A file that is there but truncated, altered or unreadable is an error, never a reason to look further: the
    reader should learn that it is broken. Raises DataError.
    """
    looked = []
    for label, folder in _folders(data_dir):
        if folder is None:
            looked.append(f"{label} (unset)")
            continue
        path = folder / source.file
        raw = _read(path)
        if raw is not None:
            return Found(_accept(source, raw, path), path, None)
        looked.append(f"{label} {folder}")
    target = cache_folder() / source.file
    contents, url = download(source, target, ", ".join(looked))
    return Found(contents, target, url)


def describe(*found: Found) -> str:
    """Where the files came from, in words: the files' folder or the one file, and the site if downloaded."""
    paths = [str(file.path) for file in found]
    place = paths[0] if len(paths) == 1 else ", ".join(sorted({str(file.path.parent) for file in found}))
    sites = sorted({file.url.split("/")[2] for file in found if file.url})
    return f"{place} (downloaded from {', '.join(sites)})" if sites else place


def cache_folder() -> Path:
    """Where downloads go: ``data`` in ``$GRAPHNET_CACHE`` or in the platform's cache folder for graphnet."""
    chosen = os.environ.get("GRAPHNET_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen)) / "data"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "graphnet" / "data"


def _folders(data_dir: str | os.PathLike[str] | None) -> Iterator[tuple[str, Path | None]]:
    if data_dir is not None:
        yield "data_dir", _folder("data_dir", data_dir)
    chosen = os.environ.get("GRAPHNET_DATA")
    yield "GRAPHNET_DATA", _folder("GRAPHNET_DATA", chosen) if chosen else None
    yield "the cache", cache_folder()


def _folder(label: str, path: str | os.PathLike[str]) -> Path:
    remedy = "name a folder that holds the data, or leave it out to download"
    try:
        folder = Path(os.path.expanduser(os.fsdecode(path)))
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except TypeError as error:
        raise DataError(f"{label} is a {type(path).__name__}, not a path: {remedy}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{label} {os.fsdecode(path)!a}: {reason}: {remedy}") from error
    if not is_folder:
        raise DataError(f"{label} {str(folder)!a}: not a folder: {remedy}")
    return folder


def _read(path: Path) -> bytes | None:
    """The bytes of a file, None if there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}): make it a readable file or remove it"
        ) from error


def _accept(source: Source, raw: bytes, path: Path) -> bytes:
    try:
        return verify(source, raw)
    except RejectedError as fault:
        raise DataError(f"{path}: {fault}: replace it, or remove it to look elsewhere and download") from fault
