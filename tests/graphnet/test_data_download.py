"""Downloading data files from a server on this machine: what is kept, and that nothing half-written is."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from graphnet.compiler.errors import DataError
from graphnet.data import download, sources
from graphnet.data.fetch import describe, fetch
from graphnet.data.sources import Source

CONTENTS = bytes(range(256)) * 1000
BOOK = b"The Project Gutenberg EBook of Plays\r\nEnter a ghost.\r\n*** END OF THIS PROJECT GUTENBERG EBOOK\r\n"


class Server:
    """Serves ``pages``: path -> (status, body, announced length or None for none)."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, bytes, int | None]] = {}
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                status, body, length = server.pages.get(self.path, (404, b"", 0))
                self.send_response(status)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the test output clean."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def serve(self, path: str, body: bytes, status: int = 200, length: int | None = -1) -> str:
        self.pages[path] = (status, body, len(body) if length == -1 else length)
        return self.address + path

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, no GRAPHNET_DATA, and no proxy between the test and its server."""
    monkeypatch.delenv("GRAPHNET_DATA", raising=False)
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "data"


def toy(*urls: str) -> Source:
    return Source("toy/toy.bin", urls, len(CONTENTS), hashlib.sha256(CONTENTS).hexdigest())


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def message(source: Source) -> str:
    with pytest.raises(DataError) as caught:
        fetch(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_download_is_kept_and_used_again(server: Server, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A download is announced, verified and kept; the second fetch asks no server."""
    url = server.serve("/toy.gz", gzip.compress(CONTENTS))
    source = Source("toy/toy.gz", (url,), len(CONTENTS), hashlib.sha256(CONTENTS).hexdigest())
    found = fetch(source)
    assert (found.contents, found.path) == (CONTENTS, cache / "toy/toy.gz")
    assert describe(found) == f"{cache / 'toy/toy.gz'} (downloaded from {server.address[7:]})"
    assert "toy/toy.gz" in capsys.readouterr().err
    assert files(cache) == [found.path]
    again = fetch(source)
    assert (again.contents, again.url, server.requests) == (CONTENTS, None, ["/toy.gz"])


def test_second_mirror_serves_when_the_first_fails(server: Server, cache: Path) -> None:
    """A missing page and an altered one are passed over for a mirror with the genuine file."""
    gone = server.address + "/gone"
    altered = server.serve("/altered", CONTENTS[::-1])
    good = server.serve("/good", CONTENTS)
    assert fetch(toy(gone, altered, good)).url == good
    assert files(cache) == [cache / "toy/toy.bin"]


@pytest.mark.parametrize(
    ("body", "length", "status", "why"),
    [
        (CONTENTS[:-1], -1, 200, "truncated: holds 255,999 bytes"),
        (CONTENTS[:5000], len(CONTENTS), 200, "broke off after 5,000 of 256,000 bytes"),
        (CONTENTS[:5000], None, 200, "truncated: holds 5,000 bytes"),
        (CONTENTS[::-1], -1, 200, "altered: the data's sha256 is"),
        (CONTENTS + b"!", -1, 200, "altered: holds more than"),
        (b"", -1, 200, "is empty"),
        (b"", -1, 503, "HTTP 503 Service Unavailable"),
    ],
)
def test_failed_download_leaves_no_file(
    server: Server, cache: Path, body: bytes, length: int | None, status: int, why: str
) -> None:
    """Whatever the server sends in place of the file, the error says so in one line and nothing is kept."""
    url = server.serve("/toy.bin", body, status, length)
    error = message(toy(url))
    assert error.startswith("toy/toy.bin: not in GRAPHNET_DATA (unset), the cache ")
    assert f"({url}: {why}" in error
    assert f"put the file at {cache / 'toy/toy.bin'}" in error
    assert files(cache.parent) == []


def test_endless_download_is_cut_off(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends far more than any data file cannot fill the disk."""
    monkeypatch.setattr(download, "_LARGEST", 70_000)
    url = server.serve("/toy.bin", CONTENTS)
    assert "sent more than 70,000 bytes" in message(toy(url))
    assert files(cache) == []


def test_interrupted_download_leaves_no_file(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in mid-download removes the part that was written, and stays a KeyboardInterrupt."""
    chunks = iter([b"half", KeyboardInterrupt()])
    written = []

    def receive(response: object) -> bytes:
        chunk = next(chunks)
        written.append(len(files(cache)))
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    monkeypatch.setattr(download, "_receive", receive)
    url = server.serve("/toy.bin", CONTENTS)
    with pytest.raises(KeyboardInterrupt):
        fetch(toy(url))
    assert written == [1, 1]
    assert files(cache) == []


def test_connection_lost_in_mid_download_is_one_line(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket error while reading counts as that mirror's failure."""

    class Lost:
        def read(self, size: int) -> bytes:
            raise TimeoutError("timed out")

    receive = download._receive
    monkeypatch.setattr(download, "_receive", lambda response: receive(Lost()))
    url = server.serve("/toy.bin", CONTENTS)
    assert f"({url}: timed out)" in message(toy(url))
    assert files(cache) == []


def test_unwritable_cache_is_reported(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that cannot be written is named, with the variable that moves it."""
    url = server.serve("/toy.bin", CONTENTS)
    genuine = Path.open

    def refuse(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if mode == "xb":
            raise PermissionError(13, "Permission denied")
        return genuine(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    error = message(toy(url))
    assert "toy.bin: cannot be written (Permission denied)" in error
    assert "set GRAPHNET_CACHE" in error


def test_full_disk_leaves_no_file(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error at the last moment, while the file gets its name, removes the temporary file too."""

    def refuse(old: object, new: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    url = server.serve("/toy.bin", CONTENTS)
    assert "No space left on device" in message(toy(url))
    assert files(cache) == []


def test_sign_in_page_does_not_pass_for_shakespeare(server: Server, cache: Path) -> None:
    """A page that answers every address with a greeting is not kept as the book; the second mirror is."""
    page = server.serve("/100-0.txt", b"<html>Welcome to the hotel's network</html>")
    book = server.serve("/pg100.txt", BOOK)
    source = Source(sources.SHAKESPEARE.file, (page, book), None, None)
    assert fetch(source).url == book
    error = message(Source("other.txt", (page,), None, None))
    assert f"({page}: not a Project Gutenberg text)" in error
    assert files(cache) == [cache / "shakespeare/100.txt"]
