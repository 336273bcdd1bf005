"""Make a folder from which Python imports this checkout as if it were installed, where nothing can be installed.

    python3 benchmarks/from_checkout.py /tmp/graphnet-path
    PYTHONPATH=/tmp/graphnet-path python3 -P -m graphnet.cli bench --device cuda

Installing maps the folders compiler, kernels and models to graphnet.compiler and so on; here links do. The folder also
tells the version to those who ask for it. -P keeps the current folder, which may be the checkout, off the path. What
graphnet depends on must be installed.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSIDE = ("compiler", "kernels", "models")


def make(folder: Path) -> None:
    """Fill ``folder``; what is there from before is replaced."""
    package = folder / "graphnet"
    package.mkdir(parents=True, exist_ok=True)
    wanted = [path for path in (ROOT / "graphnet").iterdir() if path.name != "__pycache__"]
    for path in [*wanted, *(ROOT / name for name in INSIDE)]:
        link = package / path.name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, version = project["name"], project["version"]
    told = folder / f"{name}-{version}.dist-info"
    told.mkdir(exist_ok=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")


def main(argv: list[str]) -> int:
    """Make the folder that is named."""
    if len(argv) != 1 or argv[0].startswith("-"):
        print(__doc__)
        return 2
    make(Path(argv[0]))
    print(f"PYTHONPATH={argv[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
