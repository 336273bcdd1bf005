"""The command line: ``graphnet train|dump|export-c|generate|bench|info``.

What a user can do wrong ends in one line on stderr that starts with ``graphnet:``, and exit code 2; with
GRAPHNET_DEBUG set, in a traceback. An interrupted command exits with 130.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from graphnet.cli import bench, dump, export_c, generate, info, train
from graphnet.cli.options import Parser, one_line
from graphnet.compiler.errors import GraphnetError

COMMANDS = (train, dump, export_c, generate, bench, info)


def parser() -> Parser:
    """The parser of all commands; each parsed command carries its ``run``."""
    top = Parser(
        prog="graphnet",
        description="Train, inspect and measure compiled neural networks.",
        epilog="graphnet COMMAND --help tells all about a command.",
    )
    top.add_argument("--version", action="version", version=f"graphnet {version('graphnet')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command (``sys.argv`` by default) and return its exit code."""
    try:
        args = parser().parse_args(argv)
        code: int = args.run(args)
        sys.stdout.flush()
    except GraphnetError as error:
        if os.environ.get("GRAPHNET_DEBUG"):
            raise
        print(f"graphnet: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"graphnet: {interrupt or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of a pipe (head, less) has seen enough; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
