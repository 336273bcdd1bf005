"""Make a virtual environment with the libraries that graphnet is measured beside.

    python benchmarks/install_peers.py .bench-venv                       what requirements-peers.txt lists
    python benchmarks/install_peers.py .bench-venv torch==2.13.0 jax     these instead (pip's arguments in quotes)

Each line or argument is installed by itself: one that fails is reported, the others go on. Lines whose packages are
there already cost a second. The exit code is 0 as long as the environment could be made.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements-peers.txt")


def wanted() -> list[list[str]]:
    """The pip arguments of each line of the requirements."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return [shlex.split(line) for line in lines if line]


def reachable(url: str) -> bool:
    """Whether a package index answers: pip would wait long for one that does not."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (OSError, ValueError):
        return False


def without_unreachable(arguments: list[str]) -> list[str]:
    """The arguments without an extra index that cannot be reached."""
    if "--extra-index-url" not in arguments:
        return arguments
    place = arguments.index("--extra-index-url")
    if reachable(arguments[place + 1]):
        return arguments
    print(f"  {arguments[place + 1]} cannot be reached: the configured index is used alone", flush=True)
    return arguments[:place] + arguments[place + 2 :]


def install(python: Path, arguments: list[str]) -> bool:
    """Install with pip; says in a line how it went."""
    print(f"installing {' '.join(arguments)}", flush=True)
    command = [str(python), "-m", "pip", "install", "--quiet", *without_unreachable(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR")] or done.stdout.splitlines()
        print(f"  left out: {(lines or ['pip failed'])[0]}", flush=True)
    return done.returncode == 0


def main(argv: list[str]) -> int:
    """Install and report."""
    if not argv:
        print(__doc__)
        return 2
    folder = Path(argv[0])
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        (folder / ".gitignore").write_text("*\n")
    lines = [shlex.split(argument) for argument in argv[1:]] or wanted()
    there = [line for line in lines if install(python, line)]
    print(f"{len(there)} of {len(lines)} installed in {folder}; the rest will be rows that say they are missing")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
