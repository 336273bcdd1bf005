"""What the README and the docs show is run and compared, so that it stays true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def blocks(page: str) -> list[str]:
    return PYTHON.findall((ROOT / page).read_text())


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["docs/language.md", "docs/training.md"])
def test_every_block_of_the_page_runs(page, tmp_path):
    """The page's blocks run one after the other in one program; their assertions hold."""
    code = "\n".join(blocks(page))
    assert "assert" in code
    run(code, tmp_path)


def test_the_optimiser_of_the_extending_page_trains(tmp_path):
    """The subclass shown is one: it compiles into a step that moves every weight by lr."""
    shown = next(code for code in blocks("docs/extending.md") if "class SignSGD" in code)
    use = """
import graphnet as gn
net = gn.compile(lambda x: gn.layers.dense(x, 1), gn.spec((2, 3)), loss=gn.losses.mse, optimizer=SignSGD(lr=0.25))
before = net.params["model/dense_1/w"].copy()
net.step([[1, 2, 3], [4, 5, 6]], [[9], [9]])
assert (abs(abs(net.params["model/dense_1/w"] - before) - 0.25) < 1e-6).all()
"""
    run(shown + use, tmp_path)


def test_the_readme_example_prints_what_the_readme_says(tmp_path):
    """The first Python block of the README prints exactly the text block that follows it."""
    text = (ROOT / "README.md").read_text()
    example = PYTHON.search(text)
    assert example
    printed = re.compile(r"```text\n(.*?)```", re.DOTALL).search(text, example.end())
    assert printed
    assert len([line for line in example[1].splitlines() if line.strip()]) <= 12
    assert run(example[1], tmp_path) == printed[1]


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))])
def test_links_between_pages_lead_somewhere(page):
    """Every relative link names a file of the repository."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target
