"""``graphnet train MODEL``."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphnet.cli import options
from graphnet.cli.lookup import Model, find_model, model_names
from graphnet.cli.outputs import Bar, JsonLines, Sink, TensorBoard, check_plot, epoch_line, plot
from graphnet.compiler.errors import FileError, GraphnetError
from graphnet.data import NAMES, Dataset, Text
from graphnet.files import load
from graphnet.net import Net
from graphnet.train import Run

EPILOG = """\
Without --data a small data set that needs no network is used: scikit-learn's digits for the image models,
its diabetes table for linreg, CPython's help texts for charlm. With --data mnist, housing or shakespeare the
files are looked for in --data-dir, $GRAPHNET_DATA and the cache, then downloaded.

Loss and accuracy: the loss is the mean over the epoch's steps, each before its update (linreg: over all
training rows after the epoch); accuracies are measured after the epoch. samples/s counts the steps alone; a
sample of charlm is a character.

--save keeps the run after each epoch, so that an interrupted one goes on where it was:
  graphnet train lenet --data mnist --save lenet.gnet --plot lenet.png
  graphnet train lenet --load lenet.gnet --save lenet.gnet --epochs 20

Exit codes: 0 done, 2 an error, told in one line, 130 interrupted."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "train",
        help="train one of the reference models",
        description="Train one of the reference models by its recipe; one line is printed for each epoch.",
        epilog=EPILOG,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("model", metavar="MODEL", help=f"one of {', '.join(model_names())}")
    add("--recipe", metavar="NAME", help="charlm: adam (default) or knet7; mlp: knet8 (default) or shuffled")
    add("--epochs", type=options.count, help="epochs in all, those of a loaded file included (the recipe's)")
    add("--batch-size", type=options.count, metavar="N", help="samples in a step (the recipe's)")
    add("--lr", type=options.rate, help="learning rate (the recipe's)")
    add("--seed", type=options.seed, help="for the initial weights and the order of the samples (0)")
    add("--shuffle", action="store_true", help="a new order of the samples in each epoch")
    options.add_data(parser, "one that needs no network, see below")
    options.add_device(parser)
    add("--save", metavar="FILE.gnet", help="save the run after each epoch")
    add("--load", metavar="FILE.gnet", help="go on with a saved run")
    add("--plot", metavar="FILE.png", help="draw the learning curve at the end (png, svg, pdf)")
    add("--log-dir", metavar="DIR", help="write TensorBoard event files")
    add("--json", metavar="FILE", help="append one JSON object an epoch")
    add("--quiet", action="store_true", help="epoch lines only: no notes, no progress bar")


def run(args: argparse.Namespace) -> int:
    """Train as asked; returns the exit code."""
    saved, curve = _check_outputs(args)
    model, training, epochs, notes = _resumed(args) if args.load else _started(args)
    if not args.quiet:
        print(*notes, _describe(model, training, epochs, args.precision), sep="\n", flush=True)
    with contextlib.ExitStack() as stack:
        sinks = _sinks(args, model, training)
        for sink in sinks:
            stack.callback(sink.close)
        if curve:
            stack.callback(_plot, curve, model, training)
        _train(args, model, training, epochs, saved, sinks)
    if not args.quiet:
        for option, what in (("save", "saved"), ("plot", "learning curve"), ("log_dir", "TensorBoard")):
            if getattr(args, option):
                print(f"{what}: {getattr(args, option)}")
    return 0


def _train(
    args: argparse.Namespace,
    model: Model,
    training: Run,
    epochs: int,
    saved: Path | None,
    sinks: Sequence[Sink],
) -> None:
    unit = "characters" if isinstance(training.data, Text) else "samples"
    digits = 6 if model.recipe["task"] == "regression" else 4
    before = training.loss_before() if training.epoch == 0 else None
    if before is not None:
        print(f"epoch {0:{len(str(epochs))}}/{epochs}  loss {before:.{digits}f}", flush=True)
    kept = training.epoch if saved and args.load and saved.samefile(args.load) else None
    try:
        for report in training.train(epochs, Bar(epochs, unit, args.quiet)):
            if saved:
                training.save(saved, **_metadata(model, epochs))
                kept = report.epoch
            for sink in sinks:
                sink.add(report)
            print(epoch_line(report, epochs, unit, digits), flush=True)
    except KeyboardInterrupt:
        line = f"interrupted in epoch {training.epoch + 1}"
        if kept is None:
            raise KeyboardInterrupt(f"{line}; nothing was saved") from None
        again = f"graphnet train {model.name} --load {saved} --save {saved}"
        raise KeyboardInterrupt(f"{line}; {saved} holds epoch {kept}: go on with {again}") from None


def _sinks(args: argparse.Namespace, model: Model, training: Run) -> list[Sink]:
    about = {
        "model": model.name,
        "recipe": model.recipe_name,
        "data": training.data.name,
        "seed": training.seed,
    }
    sinks: list[Sink] = []
    if args.log_dir:
        sinks.append(TensorBoard(args.log_dir))
    if args.json:
        sinks.append(JsonLines(Path(args.json), about))
    return sinks


def _plot(path: Path, model: Model, training: Run) -> None:
    if training.history:
        title = f"{model.name} on {training.data.name} (recipe {model.recipe_name}, seed {training.seed})"
        plot(path, training.history, title)


def _check_outputs(args: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """The files to save and plot to, checked before the training and not after it."""
    saved = options.check_writable("--save", args.save) if args.save else None
    curve = options.check_writable("--plot", args.plot) if args.plot else None
    if args.json:
        options.check_writable("--json", args.json)
    if curve:
        check_plot(curve)
    return saved, curve


def _started(args: argparse.Namespace) -> tuple[Model, Run, int, list[str]]:
    model, data = find_model(args.model, args.recipe).with_data(args.data, args.data_dir)
    training = Run(
        model.function,
        model.recipe,
        data,
        batch_size=args.batch_size,
        lr=args.lr,
        seed=args.seed or 0,
        shuffle=args.shuffle or None,
        **options.device_of(args),
    )
    return model, training, args.epochs or int(model.recipe["epochs"]), _data_notes(args, model, data)


def _resumed(args: argparse.Namespace) -> tuple[Model, Run, int, list[str]]:
    """The saved run; what is fixed by the file may be repeated on the command line, not changed."""
    net = load(args.load, **options.device_of(args))
    kept = net.metadata.get("train")
    fields = {"model": str, "recipe": str, "data": str, "epochs": int}
    if not isinstance(kept, dict) or not all(isinstance(kept.get(n), kind) for n, kind in fields.items()):
        raise FileError(f"--load {args.load}: not saved by graphnet train: load it in Python with gn.load")
    if kept["model"] != args.model:
        raise FileError(
            f"--load {args.load}: holds the model {kept['model']}, not {args.model}: graphnet train "
            f"{kept['model']} --load {args.load}"
        )
    model, data = find_model(args.model, kept["recipe"]).with_data(args.data or kept["data"], args.data_dir)
    training = Run.resume(net, model.recipe, data)
    fixed = {
        "recipe": kept["recipe"],
        "seed": training.seed,
        "batch_size": training.batch_size,
        "shuffle": training.shuffle,
    }
    for name, value in fixed.items():
        given = getattr(args, name)
        if given not in (None, False) and given != value:
            option = f"--{name.replace('_', '-')}"
            had = f"{option} {value}" if not isinstance(value, bool) else f"no {option}"
            raise GraphnetError(f"--load {args.load}: was trained with {had}: leave {option} out, or train anew")
    epochs = args.epochs or int(kept["epochs"])
    if epochs <= training.epoch:
        raise GraphnetError(
            f"--load {args.load}: {training.epoch} epochs are done: give --epochs, the number in all, above it"
        )
    if args.lr is not None and net.optimizer is not None:
        net.optimizer.lr = args.lr
    notes = _data_notes(args, model, data)
    return model, training, epochs, [*notes, f"resumed: {args.load} after epoch {training.epoch}"]


def _metadata(model: Model, epochs: int) -> dict[str, Any]:
    name = model.recipe["data"]
    data = name if name in NAMES else os.path.abspath(name)
    return {"train": {"model": model.name, "recipe": model.recipe_name, "data": data, "epochs": epochs}}


def _data_notes(args: argparse.Namespace, model: Model, data: Dataset | Text) -> list[str]:
    if isinstance(data, Text):
        size = f"{len(data.ids):,} characters, {len(data.vocabulary)} distinct"
    elif data.x_test is data.x_train:
        size = f"{len(data.x_train):,} examples"
    else:
        size = f"{len(data.x_train):,} training and {len(data.x_test):,} test examples"
    notes = [f"data: {data.name}, {size}, from {data.source}"]
    if not args.data and model.recipe["data"] == model.embedded:
        real = f"graphnet train {model.name} --data {find_model(model.name).recipe['data']}"
        notes.append(f"      a small data set that needs no network; the real one: {real}")
    return notes


def _describe(model: Model, training: Run, epochs: int, precision: str) -> str:
    net, shuffled = training.net, ", shuffled" if training.shuffle else ""
    products = f", products in {precision}" if precision != "float32" else ""
    return (
        f"{model.name}: {parameters(net):,} parameters, recipe {model.recipe_name}, {net.optimizer!r}, batches "
        f"of {training.batch_size}{shuffled}, {epochs} epochs, seed {training.seed}, backend {net.backend.name}"
        f"{products}"
    )


def parameters(net: Net) -> int:
    """The number of trained numbers."""
    return sum(array.size for array in net.params.values())
