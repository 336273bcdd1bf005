"""Download a data file: mirror after mirror, into a temporary file, verified before it gets its name."""

from __future__ import annotations

import http.client
import os
import secrets
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from graphnet.compiler.errors import DataError
from graphnet.data.sources import Source
from graphnet.data.verify import RejectedError, verify

_TIMEOUT = 15.0  # seconds without a byte
_CHUNK = 1 << 16
_LARGEST = 1 << 26  # bytes; the largest of our files has under 10 MB
_NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)


def download(source: Source, target: Path, looked: str) -> tuple[bytes, str]:
    """Fetch ``source`` from its first sound mirror into ``target``; returns the contents and that address.

    ``looked`` lists in words the folders searched before, for the error. Raises DataError when every mirror
    fails or ``target`` cannot be written; then, as on an interrupt, no file is left behind.
    """
    failures = []
    for url in source.urls:
        print(f"graphnet: {source.file} is not in {looked}: downloading {url}", file=sys.stderr)
        try:
            return _from_mirror(source, url, target), url
        except RejectedError as fault:
            failures.append(f"{url}: {fault}")
    raise DataError(
        f"{source.file}: not in {looked}, and the download failed ({'; '.join(failures)}): connect to the "
        f"network, or put the file at {target}, or set GRAPHNET_DATA to a folder that holds {source.file}"
    )


def _from_mirror(source: Source, url: str, target: Path) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "graphnet"})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except _NETWORK_ERRORS as error:
        raise _unreachable(error) from error
    with response, _temporary(target) as (file, temporary):
        _copy(response, file, source.file)
        file.close()
        contents = verify(source, temporary.read_bytes(), downloaded=True)
        os.replace(temporary, target)
    return contents


@contextmanager
def _temporary(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside ``target`` that is gone afterwards, whatever happened, unless it was renamed."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file, temporary
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror or error}): make room there, "
            "or set GRAPHNET_CACHE to a folder you can write to"
        ) from error
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    # The folder itself may be what could not be made; then there is no file to remove either.
    if os.path.lexists(temporary):
        temporary.unlink()


def _copy(response: http.client.HTTPResponse, file: BinaryIO, name: str) -> None:
    from tqdm import tqdm

    announced = response.headers.get("Content-Length") or ""
    total = int(announced) if announced.isdecimal() else None
    size = 0
    # disable=None: no bar where stderr is not a terminal
    with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None) as bar:
        while chunk := _receive(response):
            file.write(chunk)
            size += len(chunk)
            bar.update(len(chunk))
            if size > _LARGEST:
                raise RejectedError(f"sent more than {_LARGEST:,} bytes")
    # http.client ends a body that breaks off as if it were whole when it is read in pieces
    if total is not None and size != total:
        raise RejectedError(f"broke off after {size:,} of {total:,} bytes")


def _receive(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except _NETWORK_ERRORS as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> RejectedError:
    """The reason in one line: the HTTP status, or the system's word for it."""
    code = getattr(error, "code", None)
    reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
    return RejectedError(f"HTTP {code} {reason}" if code else reason)
