"""``graphnet dump MODEL|FILE.gnet``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphnet.atomic import write_atomically
from graphnet.cli import options
from graphnet.cli.lookup import find_model, model_names
from graphnet.compiler.errors import NameError_, PlanError
from graphnet.data.suggest import suggest
from graphnet.files import load
from graphnet.inspection import DUMPS
from graphnet.net import Net
from graphnet.train import Run

TEXTS: dict[str, Callable[[Net], str]] = {
    "listing": lambda net: net.listing(),
    "summary": lambda net: net.summary(),
    "schedule": lambda net: str(net.schedule),
    "memory": lambda net: str(net.memory),
    "timeline": lambda net: net.memory.timeline(),
    "explain": lambda net: net.explain(),
    "source": lambda net: net.source(),
}
FORMATS = {**TEXTS, **{suffix[1:]: write for suffix, write in DUMPS.items() if suffix != ".txt"}}

EPILOG = """\
formats:
  listing    numbered ops with shapes and buffers, as print(net) gives (the default)
  summary    a row a layer: output shape, parameters and their share
  schedule   the steps in order, as the backend runs them
  memory     the memory plan as a table: bytes, lifetimes, which line owns each buffer
  timeline   the memory plan drawn over the schedule
  explain    the passes with their times, and what declined and why
  source     what the backend executes
  dot        Graphviz             json       networkx node-link
  graphml    GraphML              html       a page to read in a browser
  c          the C file that the C backend compiles
  cu         the CUDA file of --device cuda (with --backend emulated no GPU is needed)

With -o FILE and no --format the suffix decides: .txt (listing) .dot .json .graphml .html .c .cu

examples:
  graphnet dump lenet --format summary
  graphnet dump lenet -o lenet.html"""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "dump",
        help="show what the compiler made of a model",
        description="Show the compiled training step of a reference model or of a saved net.",
        epilog=EPILOG,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("model", metavar="MODEL|FILE.gnet", help=f"one of {', '.join(model_names())}, or a saved net")
    add("-o", "--output", metavar="FILE", help="write to a file instead of the terminal")
    add("--collapse", type=int, metavar="N", help="one line a model function N levels deep (listing only)")
    add("--format", choices=sorted(FORMATS), metavar="FORMAT", help="see below (listing)")
    add("--recipe", metavar="NAME", help="compile by this recipe")
    add("--batch-size", type=options.count, metavar="N", help="samples in a step (the recipe's)")
    options.add_data(parser, "one that needs no network; its shapes are compiled for")
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Print or write the dump; returns the exit code."""
    if args.output:
        options.check_writable("-o", args.output)
    net = _net(args)
    if args.output and not args.format:
        net.dump(args.output)
        return 0
    chosen = args.format or "listing"
    if args.collapse is not None and (chosen != "listing" or args.collapse < 1):
        raise PlanError("--collapse N goes with the listing and takes a number of at least 1")
    text = (net.listing(args.collapse) if args.collapse else FORMATS[chosen](net)).rstrip("\n") + "\n"
    if args.output:
        write_atomically(Path(args.output), text.encode())
    else:
        sys.stdout.write(text)
    return 0


def _net(args: argparse.Namespace) -> Net:
    if args.model in model_names():
        model, data = find_model(args.model, args.recipe).with_data(args.data, args.data_dir)
        run = Run(
            model.function,
            model.recipe,
            data,
            batch_size=args.batch_size,
            **options.device_of(args),
        )
        return run.net
    if not Path(args.model).exists() and not args.model.endswith(".gnet"):
        raise NameError_(f"dump: {suggest('model', args.model, model_names())}, or a saved file")
    for option in ("recipe", "batch_size", "data", "data_dir"):
        if getattr(args, option) is not None:
            name = f"--{option.replace('_', '-')}"
            raise NameError_(f"dump {args.model}: a saved net is shown as it is: leave {name} out")
    net: Net = load(args.model, **options.device_of(args))
    return net
