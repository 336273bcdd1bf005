"""``graphnet generate FILE.gnet``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphnet.cli import options
from graphnet.compiler.errors import FileError
from graphnet.data import Text
from graphnet.files import load
from graphnet.net import Net

EPILOG = """\
example:
  graphnet train charlm --save charlm.gnet
  graphnet generate charlm.gnet --length 500 --temperature 0.7 --prompt "The "

The same seed gives the same text. Exit codes: 0 done, 2 an error, told in one line."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "generate",
        help="write text with a trained charlm",
        description="Write text with a saved character language model, one character at a time.",
        epilog=EPILOG,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("file", metavar="FILE.gnet", help="a net saved by graphnet train charlm --save")
    add("--length", type=options.natural, default=1000, metavar="N", help="characters to write (1000)")
    add(
        "--temperature",
        type=options.temperature,
        default=1.0,
        metavar="T",
        help="scores are divided by it: below 1 safer, above 1 wilder, 0 always the likeliest character (1)",
    )
    add("--prompt", default="", metavar="TEXT", help="text to go on from; it is printed too")
    add("--seed", type=options.seed, default=0, help="for the random choices (0)")
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Print prompt and generated text; returns the exit code."""
    net = load(args.file, **options.device_of(args))
    vocabulary = net.metadata.get("vocabulary")
    if not isinstance(vocabulary, str) or not vocabulary:
        raise FileError(f"{args.file}: holds no vocabulary: generate needs a net saved by graphnet train charlm")
    prompt = Text(vocabulary, args.file, args.file).encode(args.prompt).tolist()
    sys.stdout.write(args.prompt)
    for index in generate(net, len(vocabulary), prompt, args.length, args.temperature, args.seed):
        sys.stdout.write(vocabulary[index])
        if vocabulary[index] == "\n":
            sys.stdout.flush()
    sys.stdout.write("\n")
    return 0


def generate(net: Net, size: int, prompt: Sequence[int], length: int, temperature: float, seed: int) -> Iterator[int]:
    """``length`` character ids that follow ``prompt``; the net keeps its state from one to the next.

    Without a prompt the first character is drawn with equal chances, as a text may start anywhere.
    """
    net.reset_states()
    uniform = Uniform(seed)
    scores = np.zeros(size)
    for index in prompt:
        scores = _next(net, index)
    for place in range(length):
        index = draw(scores, temperature, uniform)
        yield index
        if place + 1 < length:
            scores = _next(net, index)


def _next(net: Net, index: int) -> np.ndarray:
    scores: np.ndarray = net(np.array([[index]], np.int32))
    return scores[0, -1].astype(np.float64)


class Uniform:
    """Numbers in [0, 1) from Philox's raw output, the same on every machine and NumPy release."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.Philox(key=seed)

    def __call__(self) -> float:
        return (int(self.bits.random_raw()) >> 11) * 2.0**-53


def draw(scores: np.ndarray, temperature: float, uniform: Uniform) -> int:
    """An index with probability softmax(scores / temperature); the first of the largest at temperature 0."""
    if temperature == 0:
        return int(scores.argmax())
    with np.errstate(over="ignore"):
        weights = np.exp((scores - scores.max()) / temperature)
    bounds = np.cumsum(weights)
    return int(np.searchsorted(bounds, uniform() * bounds[-1], side="right"))
