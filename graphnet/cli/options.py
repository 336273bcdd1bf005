"""Command line arguments: types that say what they want, and errors in one line."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any, NoReturn

from graphnet.backend import PRECISIONS
from graphnet.compiler.errors import FileError, GraphnetError
from graphnet.tensor import user_where


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are GraphnetErrors, so that they end as all others do."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(**kwargs)

    def error(self, message: str) -> NoReturn:
        command = self.prog.removeprefix("graphnet").strip()
        raise GraphnetError(f"{command + ': ' if command else ''}{message}: see {self.prog} --help")


def one_line(error: GraphnetError) -> str:
    """The message without the user's line where that is only the script that called the command line."""
    return " ".join(str(error).removeprefix(f"{user_where()}: ").split())


def count(text: str) -> int:
    """An integer of 1 or more."""
    return _integer(text, 1, "an integer of 1 or more")


def natural(text: str) -> int:
    """An integer of 0 or more."""
    return _integer(text, 0, "an integer of 0 or more")


def seed(text: str) -> int:
    """An integer from 0 to 2**64 - 1."""
    value = _integer(text, 0, "an integer from 0 to 2**64 - 1")
    if value >= 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 0 to 2**64 - 1")
    return value


def _integer(text: str, least: int, wanted: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


def rate(text: str) -> float:
    """A finite number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def temperature(text: str) -> float:
    """A finite number of 0 or more."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def check_writable(option: str, path: str) -> Path:
    """The path of a file that is to be written later; raises FileError if that cannot work."""
    target = Path(path)
    if target.is_dir():
        raise FileError(f"{option} {path}: is a folder: name a file")
    if not target.parent.is_dir():
        raise FileError(f"{option} {path}: there is no folder {target.parent}: make it, or name another")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise FileError(f"{option} {path}: cannot be written: permission denied")
    return target


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, --backend and --precision."""
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, or cuda for a GPU (default: cpu)")
    parser.add_argument(
        "--backend", default="auto", help="what runs the schedule; graphnet info lists them (default: auto)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        metavar="NAME",
        help="what products on a GPU may round their operands to: float32, tf32x3, tf32 or bf16 (default: float32)",
    )


def device_of(args: argparse.Namespace) -> dict[str, str]:
    """What ``add_device`` declared, as keywords of ``gn.load`` and of a run."""
    return {"device": args.device, "backend": args.backend, "precision": args.precision}


def add_data(parser: argparse.ArgumentParser, embedded: str) -> None:
    """--data and --data-dir; ``embedded`` says what is used without them."""
    parser.add_argument(
        "--data",
        metavar="NAME",
        help=f"data set: mnist, housing, shakespeare, tinyshakespeare, digits, diabetes, topics; for charlm "
        f"also a text file (default: {embedded})",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with the real data, looked at before $GRAPHNET_DATA and the cache; without --data it "
        "chooses the model's real data set",
    )
