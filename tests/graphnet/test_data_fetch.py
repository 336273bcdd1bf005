"""Finding data files in the folders and verifying them, without a network."""

from __future__ import annotations

import gzip
import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from graphnet.compiler.errors import DataError, GraphnetError
from graphnet.data import mnist, shakespeare, sources
from graphnet.data.fetch import cache_folder, fetch
from graphnet.data.sources import Source

CONTENTS = bytes(range(256)) * 1000
BOOK = b"The Project Gutenberg EBook of Plays\r\nEnter a ghost.\r\n*** END OF THIS PROJECT GUTENBERG EBOOK\r\n"
PLAIN = Source("toy/toy.bin", ("http://toy",), len(CONTENTS), hashlib.sha256(CONTENTS).hexdigest())
PACKED = Source("toy/toy.gz", ("http://toy",), len(CONTENTS), hashlib.sha256(CONTENTS).hexdigest())


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, no GRAPHNET_DATA, no network."""

    def urlopen(request: object, timeout: float) -> None:
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.delenv("GRAPHNET_DATA", raising=False)
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return tmp_path / "cache" / "data"


def put(folder: Path, source: Source, raw: bytes) -> Path:
    path = folder / source.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def message(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_data_dir_comes_before_environment_before_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first folder in the order data_dir, GRAPHNET_DATA, cache that has the file is the one read."""
    given, environment = tmp_path / "given", tmp_path / "environment"
    for folder in (cache, environment, given):
        path = put(folder, PLAIN, CONTENTS)
        monkeypatch.setenv("GRAPHNET_DATA", str(environment) if environment.exists() else "")
        found = fetch(PLAIN, given if given.exists() else None)
        assert (found.path, found.contents, found.url) == (path, CONTENTS, None)


def test_data_dir_without_the_file_is_passed_over(tmp_path: Path, cache: Path) -> None:
    """A folder that exists but lacks the file does not stop the search."""
    path = put(cache, PLAIN, CONTENTS)
    assert fetch(PLAIN, tmp_path).path == path


def test_cache_folder_falls_back_to_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without GRAPHNET_CACHE downloads go to graphnet's own folder among the user's caches."""
    monkeypatch.delenv("GRAPHNET_CACHE")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert tmp_path in cache_folder().parents
    assert cache_folder().parts[-2:] == ("graphnet", "data")


def test_offline_error_names_file_places_and_remedy(tmp_path: Path, cache: Path) -> None:
    """Without a network the one line says what is missing, where it was looked for, and what to do."""
    error = message(lambda: mnist(tmp_path))
    assert error.startswith("mnist/train-images-idx3-ubyte.gz: not in data_dir ")
    for part in (
        str(tmp_path),
        "GRAPHNET_DATA (unset)",
        str(cache),
        "Network is unreachable",
        "set GRAPHNET_DATA",
    ):
        assert part in error
    for url in sources.MNIST_TRAIN_IMAGES.urls:
        assert url in error
    assert list(tmp_path.iterdir()) == []


def test_cache_path_that_is_a_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the cache folder should be is named, not overwritten."""
    file = tmp_path / "file"
    file.write_text("mine")
    monkeypatch.setenv("GRAPHNET_CACHE", str(file))
    assert "cannot be read (Not a directory)" in message(lambda: fetch(PLAIN))
    assert file.read_text() == "mine"


@pytest.mark.parametrize("label", ["data_dir", "GRAPHNET_DATA"])
def test_folder_that_is_not_one_is_an_error(label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data folder that was named must exist and be a folder: a slip must not start a download."""
    (tmp_path / "file").write_text("")
    for name, why in (("file", "not a folder"), ("absent", "No such file or directory")):
        folder = tmp_path / name
        if label == "GRAPHNET_DATA":
            monkeypatch.setenv("GRAPHNET_DATA", str(folder))
        error = message(lambda folder=folder: fetch(PLAIN, folder if label == "data_dir" else None))
        assert error.startswith(f"{label} {str(folder)!a}: {why}: name a folder")


def test_data_dir_of_a_wrong_type_is_an_error() -> None:
    """Something that is no path at all is refused by its type."""
    assert message(lambda: mnist(3)).startswith("data_dir is a int, not a path")  # type: ignore[arg-type]


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """A folder in the place of the file, which nobody can read, is named with the reason."""
    (tmp_path / "toy/toy.bin").mkdir(parents=True)
    assert message(lambda: fetch(PLAIN, tmp_path)).startswith(
        f"{tmp_path / 'toy/toy.bin'}: cannot be read (Is a directory)"
    )


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (gzip.compress(CONTENTS)[:-20], "truncated: the gzip stream ends early"),
        (gzip.compress(CONTENTS[:-1]), "truncated: holds 255,999 bytes"),
        (gzip.compress(CONTENTS[::-1]), "altered: the data's sha256"),
        (gzip.compress(bytes(10 * len(CONTENTS))), "altered: holds more than 256,000 bytes"),
        (gzip.compress(CONTENTS)[:-8] + bytes(8), "not a sound gzip file (CRC"),
        (gzip.compress(CONTENTS)[:30] + bytes(300), "not a sound gzip file"),
        (CONTENTS, "not a sound gzip file (Not a gzipped file"),
        (b"", "is empty"),
    ],
)
def test_broken_file_is_an_error_and_is_not_passed_over(tmp_path: Path, cache: Path, raw: bytes, why: str) -> None:
    """A broken local file is named with its fault, although the cache holds a sound one."""
    put(cache, PACKED, gzip.compress(CONTENTS))
    path = put(tmp_path, PACKED, raw)
    error = message(lambda: fetch(PACKED, tmp_path))
    assert error.startswith(f"{path}: {why}")
    assert error.endswith("replace it, or remove it to look elsewhere and download")
    assert path.read_bytes() == raw


def test_repacked_file_is_accepted(tmp_path: Path) -> None:
    """The hash is that of the contents: another gzip of the same data passes."""
    put(tmp_path, PACKED, gzip.compress(CONTENTS, compresslevel=1))
    assert fetch(PACKED, tmp_path).contents == CONTENTS


def test_altered_mnist_is_a_graphnet_error(tmp_path: Path) -> None:
    """The public loader verifies too: a short file under MNIST's name never becomes a Dataset."""
    put(tmp_path, sources.MNIST_TRAIN_IMAGES, gzip.compress(bytes(2000)))
    with pytest.raises(GraphnetError, match="truncated: holds 2,000 bytes of data where 47,040,016 belong"):
        mnist(tmp_path)


def test_any_edition_of_shakespeare_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing pins the text; every character of the file is kept, and its measure is printed."""
    put(tmp_path, sources.SHAKESPEARE, b"\xef\xbb\xbf" + BOOK)
    text = shakespeare(tmp_path)
    assert text.text == "\ufeff" + BOOK.decode()
    assert f"{len(BOOK) + 1} characters, {len(set(BOOK)) + 1} distinct" in capsys.readouterr().err


def test_older_latin1_edition_is_accepted(tmp_path: Path) -> None:
    """A text that is not UTF-8 is read as Latin-1, one character for each byte."""
    put(tmp_path, sources.SHAKESPEARE, "Olivia's naïveté".encode("latin-1"))
    assert shakespeare(tmp_path).text == "Olivia's naïveté"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (BOOK[:50], "truncated: Project Gutenberg's closing line is missing"),
        (b"To be\0or not to be", "not a text: holds NUL bytes"),
        (b"", "is empty"),
    ],
)
def test_broken_shakespeare_is_an_error(tmp_path: Path, raw: bytes, why: str) -> None:
    """Any edition will do, but half a book or no text at all will not."""
    path = put(tmp_path, sources.SHAKESPEARE, raw)
    assert message(lambda: shakespeare(tmp_path)).startswith(f"{path}: {why}")
