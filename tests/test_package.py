"""The wheel holds the four folders under `graphnet` and claims no other name; the test house itself works."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "graphnet": "graphnet",
    "compiler": "graphnet/compiler",
    "kernels": "graphnet/kernels",
    "models": "graphnet/models",
}


def files(folder: str) -> list[Path]:
    """The files of a folder, relative to the checkout, without what running Python leaves behind."""
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def installed(path: Path) -> str:
    """The place in the wheel of a file of the checkout."""
    return "/".join([FOLDERS[path.parts[0]], *path.parts[1:]])


def test_setup_cfg_lists_every_package() -> None:
    """A folder with an `__init__.py` is in setup.cfg's packages, and each package there is such a folder."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = config["options"]["packages"].split()
    inits = [path for folder in FOLDERS for path in files(folder) if path.name == "__init__.py"]
    present = {installed(path.parent).replace("/", ".") for path in inits}
    assert sorted(listed) == sorted(present)


def test_python_files_lie_in_packages() -> None:
    """No module of the four folders is left out of the wheel for want of an `__init__.py`."""
    modules = [path for folder in FOLDERS for path in files(folder) if path.suffix == ".py"]
    assert [str(path) for path in modules if not (ROOT / path.parent / "__init__.py").is_file()] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in the wheel, built from a copy: setuptools leaves its work beside the sources."""
    pytest.importorskip("setuptools", minversion="77", reason="building the wheel needs setuptools 77")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(out)],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("graphnet-*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


@pytest.mark.slow
def test_wheel_claims_only_graphnet(wheel: list[str]) -> None:
    """Other people's top-level names `compiler`, `kernels` and `models` stay theirs."""
    tops = {name.split("/")[0] for name in wheel}
    assert {re.sub(r"-.*\.dist-info", ".dist-info", top) for top in tops} == {
        "graphnet",
        "graphnet.dist-info",
    }


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_four_folders(wheel: list[str]) -> None:
    """Sources and data files alike: a data file that setup.cfg's package_data forgets is found here."""
    expected = {installed(path) for folder in FOLDERS for path in files(folder)}
    assert {name for name in wheel if name.startswith("graphnet/")} == expected


@pytest.mark.slow
def test_wheel_carries_the_licence_and_the_command(wheel: list[str]) -> None:
    """The licence text, and the `graphnet` command with the module that it starts, are in the wheel."""
    names = {name.partition("/")[2] for name in wheel if ".dist-info/" in name}
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= names
    assert "graphnet/cli/__init__.py" in wheel


@pytest.fixture
def golden_in(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bool], Callable[[str, str], None]]:
    """Makes `golden` over an empty folder, updating or not."""
    kind = type(request.getfixturevalue("golden"))
    return lambda update: kind(tmp_path, update)


def test_golden_compares_bytes_and_shows_the_difference(golden_in) -> None:
    """Equal text passes; a changed line, even in its line end alone, fails with a diff and the remedy."""
    golden_in(True)("lenet/dump.txt", "one\ntwo\n")
    golden_in(False)("lenet/dump.txt", "one\ntwo\n")
    with pytest.raises(pytest.fail.Exception, match=r"(?s)make golden.*\n-two\n\+three\n"):
        golden_in(False)("lenet/dump.txt", "one\nthree\n")
    with pytest.raises(pytest.fail.Exception, match=r"\+two\\r"):
        golden_in(False)("lenet/dump.txt", "one\ntwo\r\n")


def test_golden_file_that_does_not_exist_is_a_failure(golden_in) -> None:
    """A missing file is never written silently: that takes --update-golden."""
    with pytest.raises(pytest.fail.Exception, match=r"new.txt does not exist: .*--update-golden"):
        golden_in(False)("new.txt", "text")
