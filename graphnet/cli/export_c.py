"""``graphnet export-c MODEL|FILE.gnet``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from graphnet.cli import options
from graphnet.cli.lookup import find_model, model_names
from graphnet.compiler.errors import FileError, NameError_
from graphnet.data.suggest import suggest
from graphnet.export_c import export_c
from graphnet.files import load, read
from graphnet.net import Net
from graphnet.train import Run

EPILOG = """\
The folder holds C source, a header, the weights, an example program and a Makefile. A C compiler and make are all it
needs: make builds a library and the program, which runs inference and trains. Its README.md says how to call both.

With MODEL --checkpoint FILE.gnet the net is exported as it was saved; --batch-size, --recipe, --data and --data-dir
compile the model anew, and take parameters and optimiser from the file.

examples:
  graphnet export-c lenet -o lenet-c
  graphnet export-c lenet --checkpoint lenet.gnet --threads 4 -o lenet-c
  graphnet export-c lenet --checkpoint lenet.gnet --batch-size 1 -o lenet-1"""

ANEW = ("recipe", "batch_size", "data", "data_dir")
"""Options that need the model's function."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "export-c",
        help="write a net as C source that needs no Python",
        description="Write a reference model or a saved net as C source that runs inference and trains.",
        epilog=EPILOG,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("model", metavar="MODEL|FILE.gnet", help=f"one of {', '.join(model_names())}, or a saved net")
    add("-o", "--output", metavar="DIR", required=True, help="the folder to write: new, empty, or an earlier export")
    add("--checkpoint", metavar="FILE.gnet", help="take the weights from a saved net (initial ones)")
    add("--threads", type=options.count, metavar="N", help="threads that run a step (the cores there are)")
    add("--force", action="store_true", help="write into a folder that holds other things")
    add("--recipe", metavar="NAME", help="compile by this recipe")
    add("--batch-size", type=options.count, metavar="N", help="samples in a call (the recipe's, or the saved net's)")
    add("--seed", type=options.seed, default=0, help="for the initial weights (0)")
    options.add_data(parser, "one that needs no network; its shapes are compiled for")


def run(args: argparse.Namespace) -> int:
    """Write the folder and say what is in it; returns the exit code."""
    net = _net(args)
    folder = export_c(net, args.output, threads=args.threads, force=args.force)
    print(f"{folder}: {' '.join(sorted(path.name for path in folder.iterdir() if path.is_file()))}")
    print(f"build it with: make -C {folder}")
    return 0


def _net(args: argparse.Namespace) -> Net:
    # the numpy backend: what is written is compiled for C, here nothing is run
    anew = [name for name in ANEW if getattr(args, name) is not None]
    if args.model not in model_names():
        if not Path(args.model).exists() and not args.model.endswith(".gnet"):
            raise NameError_(f"export-c: {suggest('model', args.model, model_names())}, or a saved file")
        for name in [*anew, *(["checkpoint"] if args.checkpoint else [])]:
            option = f"--{name.replace('_', '-')}"
            raise NameError_(f"export-c {args.model}: a saved net is exported as it is: leave {option} out")
        net: Net = load(args.model, backend="numpy")
        return net
    if args.checkpoint and not anew:
        net = load(args.checkpoint, backend="numpy")
        _same_model(args, net.program.name)
        return net
    model, data = find_model(args.model, args.recipe).with_data(args.data, args.data_dir)
    net = Run(model.function, model.recipe, data, batch_size=args.batch_size, seed=args.seed, backend="numpy").net
    if args.checkpoint:
        contents = read(args.checkpoint)
        _same_model(args, contents.name)
        net.restore(args.checkpoint)
        if contents.optimizer is not None and type(contents.optimizer) is type(net.optimizer):
            for name in contents.optimizer.hyper.keys() & net.optimizer.hyper.keys():
                setattr(net.optimizer, name, contents.optimizer.hyper[name])
    return net


def _same_model(args: argparse.Namespace, found: str) -> None:
    if found != args.model:
        raise FileError(f"--checkpoint {args.checkpoint}: holds the model {found}, not {args.model}")
