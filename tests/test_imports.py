"""The arrows between the four folders, models -> graphnet -> compiler -> kernels, read from the sources.

Every import counts: at the top, inside a function, under TYPE_CHECKING, relative, or an
`import_module("...")` with its name written out. A name computed at run time (the CLI's `graphnet train
NAME`) is no arrow of the code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each folder of the checkout, under its installed name, with the layers that it may import.
PACKAGES = {
    "models": "graphnet.models",
    "graphnet": "graphnet",
    "compiler": "graphnet.compiler",
    "kernels": "graphnet.kernels",
}
MAY_IMPORT = {
    "models": {"models", "graphnet"},
    "graphnet": {"graphnet", "compiler", "kernels"},
    "compiler": {"compiler", "kernels"},
    "kernels": {"kernels"},
}


def layer_of(module: str) -> str | None:
    """The folder that a dotted name belongs to, or None for other people's modules."""
    for layer in ("models", "compiler", "kernels", "graphnet"):
        if f"{module}.".startswith(f"{PACKAGES[layer]}."):
            return layer
    return None


def imported(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of all that the module imports; relative names start at `package`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*above, *filter(None, [node.module])])
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
                called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if called in ("import_module", "__import__"):
                    yield node.lineno, name


def private_attributes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every `gn._name`, for the names that `import graphnet` binds."""
    bound = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "graphnet"
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner in bound and is_private(name):
                yield node.lineno, f"{owner}.{name}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def faults(source: str, file: str) -> list[str]:
    """What is wrong with the imports of `source`, which is the file `file` of the checkout, a line each."""
    path = Path(file)
    layer = path.parts[0]
    package = ".".join([PACKAGES[layer], *path.parent.parts[1:]])
    tree = ast.parse(source, file)
    found = []
    for line, module in imported(tree, package):
        target = layer_of(module)
        if module.split(".")[0] in ("compiler", "kernels", "models"):
            found.append((line, f"{module} is not the installed name: write graphnet.{module}"))
        elif target is not None and target not in MAY_IMPORT[layer]:
            found.append((line, f"{layer} may not import {target} ({module})"))
        elif layer == "models" and target == "graphnet" and any(map(is_private, module.split("."))):
            found.append((line, f"models use only graphnet's public names, not {module}"))
    if layer == "models":
        found += [(n, f"models use only graphnet's public names, not {what}") for n, what in private_attributes(tree)]
    return [f"{file}:{line}: {what}" for line, what in sorted(found)]


def sources() -> list[str]:
    files = (path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


def test_all_imports_follow_the_arrows() -> None:
    """No file of the four folders imports against models -> graphnet -> compiler -> kernels."""
    files = sources()
    assert {file.split("/")[0] for file in files} == set(PACKAGES), "a folder holds no Python files"
    found = [fault for file in files for fault in faults((ROOT / file).read_text(encoding="utf-8"), file)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("kernels/numpy/a.py", "import graphnet.compiler.ir", "kernels may not import compiler"),
        ("kernels/numpy/a.py", "from ...compiler import ir", "kernels may not import compiler"),
        ("kernels/numpy/a.py", "from graphnet import compiler", "kernels may not import compiler"),
        ("kernels/a.py", "from graphnet import net", "kernels may not import graphnet"),
        ("kernels/a.py", "import graphnet as gn", "kernels may not import graphnet"),
        (
            "compiler/a.py",
            "def f():\n    from graphnet.models import lenet",
            "compiler may not import models",
        ),
        ("compiler/__init__.py", "from .. import net", "compiler may not import graphnet"),
        ("compiler/ops/a.py", "from ...data.mnist import load", "compiler may not import graphnet"),
        (
            "compiler/a.py",
            "if TYPE_CHECKING:\n    from graphnet.net import Net",
            "compiler may not import graphnet",
        ),
        ("compiler/a.py", "importlib.import_module('graphnet.net')", "compiler may not import graphnet"),
        ("graphnet/cli.py", "from graphnet.models import lenet", "graphnet may not import models"),
        ("graphnet/data/a.py", "from ..models.lenet import lenet", "graphnet may not import models"),
        ("models/a.py", "from graphnet.kernels.numpy import matmul", "models may not import kernels"),
        ("models/a.py", "from graphnet import compiler", "models may not import compiler"),
        ("models/a.py", "from graphnet._trace import Frame", "models use only graphnet's public names"),
        (
            "models/a.py",
            "import graphnet as gn\ngn._frames.clear()",
            "models use only graphnet's public names",
        ),
        (
            "compiler/a.py",
            "from kernels.numpy import matmul",
            "kernels.numpy.matmul is not the installed name",
        ),
    ],
)
def test_planted_wrong_arrow_is_found(file: str, source: str, fault: str) -> None:
    """Each way of writing an import against the arrows is reported once, with its file and line."""
    line = source.count("\n") + 1
    (found,) = faults(source, file)
    assert found.startswith(f"{file}:{line}: {fault}")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("models/a.py", "import graphnet as gn\nfrom graphnet.data import mnist\ngn.__version__"),
        (
            "graphnet/a.py",
            "from graphnet.compiler.ir import Node\nfrom graphnet.kernels import numpy\nfrom . import _b",
        ),
        ("graphnet/data/a.py", "from ..compiler import ir\nfrom .. import net"),
        (
            "compiler/passes/a.py",
            "from ..ir import Node\nfrom ...kernels.numpy import matmul\nimport networkx",
        ),
        ("kernels/numpy/a.py", "import numpy\nfrom . import scratch\nfrom ..layout import strides"),
        ("graphnet/a.py", "import graphnetwork, kernels_of_others"),
    ],
)
def test_imports_along_the_arrows_are_accepted(file: str, source: str) -> None:
    """Imports within a layer, down the arrows, or of others' packages are no fault."""
    assert faults(source, file) == []
