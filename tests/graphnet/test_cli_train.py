"""`graphnet train`: what it prints and writes, how it goes on with a saved run, how it refuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnet as gn
from graphnet.cli import main, train
from graphnet.train import Run

Capture = pytest.CaptureFixture[str]


def epochs_in(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("epoch")]


def results(path: Path) -> list[dict[str, Any]]:
    """The objects in a --json file without what differs from run to run."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "samples_per_second")} for row in rows]


def refused(capsys: Capture, *argv: str) -> str:
    """The one line of an error that ends with exit code 2."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("graphnet: ")
    return line


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """A small text, long enough for a batch of 4 streams of 100 characters."""
    path = tmp_path / "letters.txt"
    path.write_text("abcd efgh, ijkl.\n" * 60, encoding="utf-8")
    return path


def test_defaults_train_on_embedded_data_and_say_so(capsys: Capture) -> None:
    """Without options the model trains on data that need no network, and names the real data set."""
    assert main(["train", "softmax", "--epochs", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("data: digits, 1,437 training and 360 test examples, from scikit-learn's load_digits\n")
    assert "graphnet train softmax --data mnist" in out
    assert "softmax: 7,850 parameters, recipe knet8, SGD(lr=0.2" in out
    first, second = epochs_in(out)
    pattern = r"epoch 1/2  loss \d\.\d{4}  train accuracy 0\.\d{4}  test accuracy 0\.\d{4}  [\d.]+ s  [\d,]+ samples/s"
    assert re.fullmatch(pattern, first)
    assert second.startswith("epoch 2/2")


def test_regression_shows_the_loss_before_and_after(capsys: Capture) -> None:
    """linreg prints the loss over all rows, also before the first step."""
    assert main(["train", "linreg", "--epochs", "3", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "epoch 0/3  loss 29074.481900"
    assert [line.split("  ")[0] for line in lines[1:]] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


def test_language_models_show_perplexity(letters: Path, capsys: Capture) -> None:
    """charlm takes a text file, and counts characters."""
    argv = ["train", "charlm", "--data", str(letters), "--batch-size", "4", "--epochs", "1"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "1,020 characters, 16 distinct" in out
    assert re.search(r"epoch 1/1  loss \d\.\d{4}  perplexity \d+\.\d{3}  [\d.]+ s  [\d,]+ characters/s", out)


def test_options_reach_the_run(tmp_path: Path, capsys: Capture) -> None:
    """Batch size, rate, seed and shuffling are used, and shown."""
    argv = "train mlp --epochs 1 --batch-size 32 --lr 0.05 --seed 7 --shuffle --backend numpy --device cpu"
    assert main(argv.split()) == 0
    out = capsys.readouterr().out
    assert "SGD(lr=0.05" in out
    assert "batches of 32, shuffled, 1 epochs, seed 7, backend numpy" in out


def test_quiet_prints_epochs_only(capsys: Capture) -> None:
    """With --quiet there are no notes."""
    assert main(["train", "softmax", "--epochs", "1", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert captured.err == ""


def test_a_terminal_gets_a_progress_bar(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, stderr shows epoch, loss and samples per second; --quiet leaves them out."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["train", "lenet", "--epochs", "1"]) == 0
    err = capsys.readouterr().err
    assert "epoch 1/1" in err
    assert "samples/s, loss " in err
    assert main(["train", "softmax", "--epochs", "1", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_json_lines_hold_every_epoch(tmp_path: Path) -> None:
    """Each epoch appends one JSON object; a second run appends to the first one's."""
    path = tmp_path / "log.jsonl"
    for _ in range(2):
        assert main(["train", "softmax", "--epochs", "2", "--quiet", "--json", str(path)]) == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 1, 2]
    first = rows[0]
    assert (first["model"], first["recipe"], first["data"], first["seed"]) == ("softmax", "knet8", "digits", 0)
    assert first["samples"] == 1437
    assert first["seconds"] > 0
    assert first["samples_per_second"] > 0
    assert 0 < first["test_accuracy"] <= 1
    assert first["lr"] == 0.2
    assert results(path)[:2] == results(path)[2:], "the same seed gives the same results"


def test_plot_draws_the_curve(tmp_path: Path) -> None:
    """--plot writes a PNG picture with loss and accuracy."""
    path = tmp_path / "curve.png"
    assert main(["train", "softmax", "--epochs", "2", "--quiet", "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_log_dir_holds_tensorboard_events(tmp_path: Path) -> None:
    """--log-dir writes an event file with the scalars of each epoch."""
    pytest.importorskip("tensorboardX")
    assert main(["train", "softmax", "--epochs", "1", "--quiet", "--log-dir", str(tmp_path)]) == 0
    (events,) = tmp_path.glob("events.out.tfevents.*")
    contents = events.read_bytes()
    for tag in (b"loss/train", b"accuracy/train", b"accuracy/test", b"learning_rate"):
        assert tag in contents


def test_log_dir_without_tensorboard_is_one_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where tensorboardX is missing, the line says how to install it."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    line = refused(capsys, "train", "softmax", "--quiet", "--log-dir", str(tmp_path))
    assert line == "graphnet: --log-dir needs tensorboardX: pip install tensorboardX"


RESUMED = {
    "mlp": ["--shuffle", "--batch-size", "100"],
    "lenet": [],
    "linreg": [],
    "charlm": ["--data", "letters.txt", "--batch-size", "4"],
}


@pytest.mark.parametrize("model", RESUMED)
def test_a_resumed_run_equals_an_unbroken_one(
    model: str, tmp_path: Path, letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs, saved, loaded, and a third one give the parameters and reports of three, bit for bit."""
    monkeypatch.chdir(tmp_path)
    argv = ["train", model, "--quiet", "--seed", "3"]
    assert main([*argv, *RESUMED[model], "--epochs", "3", "--save", "whole.gnet", "--json", "whole"]) == 0
    assert main([*argv, *RESUMED[model], "--epochs", "2", "--save", "part.gnet", "--json", "part"]) == 0
    assert main([*argv, "--load", "part.gnet", "--epochs", "3", "--save", "part.gnet", "--json", "part"]) == 0
    assert results(Path("part")) == results(Path("whole"))
    nets = [gn.load("whole.gnet"), gn.load("part.gnet")]
    for kind in ("params", "slots", "states"):
        whole, part = (getattr(net, kind) for net in nets)
        assert list(whole) == list(part)
        assert all(np.array_equal(whole[name], part[name]) for name in whole)
    histories = [
        [{k: v for k, v in row.items() if not k.startswith("s")} for row in net.metadata["run"]["history"]]
        for net in nets
    ]
    assert histories[0] == histories[1]
    assert [row["epoch"] for row in histories[0]] == [1, 2, 3]


def test_a_loaded_run_takes_epochs_and_data_from_the_file(tmp_path: Path, capsys: Capture) -> None:
    """--load alone goes on to the number of epochs first asked for."""
    path = str(tmp_path / "net.gnet")
    assert main(["train", "softmax", "--epochs", "1", "--save", path, "--batch-size", "50"]) == 0
    capsys.readouterr()
    assert main(["train", "softmax", "--load", path, "--epochs", "2", "--lr", "0.1"]) == 0
    out = capsys.readouterr().out
    assert f"resumed: {path} after epoch 1" in out
    assert "SGD(lr=0.1" in out
    assert "batches of 50" in out
    assert epochs_in(out)[0].startswith("epoch 2/2")


def test_an_interrupted_run_keeps_the_last_epoch(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends in one line and exit code 130; the file holds the last whole epoch, the plot is drawn."""
    path, curve = tmp_path / "net.gnet", tmp_path / "curve.png"
    whole = Run.train_epoch

    def interrupted(run: Run, progress: Any = None) -> Any:
        if run.epoch == 2:
            raise KeyboardInterrupt
        return whole(run, progress)

    monkeypatch.setattr(Run, "train_epoch", interrupted)
    argv = ["train", "softmax", "--quiet", "--save", str(path), "--plot", str(curve)]
    assert main(argv) == 130
    captured = capsys.readouterr()
    assert len(epochs_in(captured.out)) == 2
    assert captured.err == (
        f"graphnet: interrupted in epoch 3; {path} holds epoch 2: go on with graphnet train softmax --load {path} "
        f"--save {path}\n"
    )
    assert gn.load(path).metadata["run"]["epoch"] == 2
    assert curve.exists()


def test_ctrl_c_ends_the_process_in_one_line(tmp_path: Path) -> None:
    """A real SIGINT in the middle of training."""
    command = [sys.executable, "-m", "graphnet.cli", "train", "softmax", "--epochs", "100000", "--save", "net.gnet"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # where the tests run in the background of a shell they inherit that SIGINT is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"graphnet: interrupted in epoch \d+; net.gnet holds epoch \d+: go on with .*\n", err)
    gn.load(tmp_path / "net.gnet")
    assert [path.name for path in tmp_path.iterdir()] == ["net.gnet"]


def test_an_interrupted_run_that_saves_nothing_says_so(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --save the line is honest."""

    def interrupted(run: Run, progress: Any = None) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "train_epoch", interrupted)
    assert main(["train", "softmax", "--quiet"]) == 130
    assert capsys.readouterr().err == "graphnet: interrupted in epoch 1; nothing was saved\n"


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, capsys: Capture) -> None:
    """A rate that is too high ends in one line, and the saved file stays the last good one."""
    path = tmp_path / "net.gnet"
    argv = ["train", "linreg", "--lr", "1e30", "--epochs", "50", "--quiet", "--save", str(path)]
    line = refused(capsys, *argv)
    assert re.fullmatch(r"graphnet: epoch \d+: the loss is (nan|inf): use a lower learning rate", line)
    if path.exists():
        assert np.isfinite(gn.load(path).metadata["run"]["history"][-1]["train_loss"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("train lennet", "unknown model 'lennet': did you mean 'lenet'? use one of charlm, lenet, linreg, mlp"),
        ("train", "train: the following arguments are required: MODEL: see graphnet train --help"),
        ("train mlp --epochs 0", "argument --epochs: '0' is not an integer of 1 or more"),
        ("train mlp --batch-size x", "argument --batch-size: 'x' is not an integer of 1 or more"),
        ("train mlp --lr -1", "argument --lr: '-1' is not a number above 0"),
        ("train mlp --lr nan", "argument --lr: 'nan' is not a number above 0"),
        ("train mlp --seed 18446744073709551616", "is not an integer from 0 to 2**64 - 1"),
        ("train mlp --frobnicate", "unrecognized arguments: --frobnicate: see graphnet"),
        ("train mlp --data mnits", "unknown data set 'mnits': did you mean 'mnist'?"),
        ("train mlp --data housing --data-dir {here}", "housing/housing.data"),
        ("train mlp --data diabetes", "data set diabetes is for regression: the model needs one for classif"),
        ("train charlm --data digits", "data set digits is for classification: the model needs one for text"),
        ("train charlm --shuffle", "topics: a text is read in order, its state goes on: leave shuffle out"),
        ("train mlp --recipe adam", "mlp: unknown recipe 'adam': use one of knet8, shuffled"),
        ("train mlp --device tpu", "device 'tpu'"),
        ("train mlp --backend tpu", "backend 'tpu' is unknown"),
        ("train mlp --save {here}", "--save {here}: is a folder: name a file"),
        ("train mlp --save {here}/no/net.gnet", "--save {here}/no/net.gnet: there is no folder {here}/no"),
        ("train mlp --plot {here}/curve.doc", "--plot {here}/curve.doc: the suffix must be one of ."),
        ("train mlp --json {here}", "--json {here}: is a folder: name a file"),
        ("train mlp --load {here}/no.gnet", "{here}/no.gnet"),
        ("train charlm --data {here}/binary", "{here}/binary: not UTF-8 text"),
    ],
)
def test_mistakes_are_one_line(
    argv: str, said: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mistake is told in one line that starts with `graphnet:`, with exit code 2."""
    monkeypatch.setenv("GRAPHNET_DATA", str(tmp_path))
    monkeypatch.setattr(train, "load", gn.load)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "housing").mkdir()
    (tmp_path / "housing" / "housing.data").write_text("cut off")
    line = refused(capsys, *argv.format(here=tmp_path).split())
    assert said.format(here=tmp_path) in line


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A softmax net after one epoch."""
    path = tmp_path_factory.mktemp("saved") / "net.gnet"
    assert main(["train", "softmax", "--epochs", "1", "--quiet", "--save", str(path)]) == 0
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("mlp", "holds the model softmax, not mlp: graphnet train softmax --load"),
        ("softmax --epochs 1", "1 epochs are done: give --epochs, the number in all, above it"),
        ("softmax --seed 1", "was trained with --seed 0: leave --seed out, or train anew"),
        ("softmax --batch-size 7", "was trained with --batch-size 100: leave --batch-size out"),
        ("softmax --shuffle", "was trained with no --shuffle: leave --shuffle out"),
        ("softmax --recipe other", "was trained with --recipe knet8: leave --recipe out"),
        ("softmax --data diabetes", "data set diabetes is for regression"),
    ],
)
def test_options_that_do_not_fit_a_saved_run_are_one_line(
    options: str, said: str, saved: Path, capsys: Capture
) -> None:
    """What the file fixes cannot be changed when it is loaded."""
    assert said in refused(capsys, "train", *options.split(), "--load", str(saved))


def test_nets_saved_by_a_program_are_not_resumed(tmp_path: Path, capsys: Capture) -> None:
    """A net that `net.save` wrote without a run has no epochs to go on from."""
    net = gn.compile(lambda x: gn.layers.dense(x, 1), gn.spec((2, 2)))
    net.save(tmp_path / "net.gnet")
    line = refused(capsys, "train", "softmax", "--load", str(tmp_path / "net.gnet"))
    assert line.endswith("not saved by graphnet train: load it in Python with gn.load")


def test_another_text_needs_the_same_characters(tmp_path: Path, letters: Path, capsys: Capture) -> None:
    """A language model goes on only with a text of its vocabulary."""
    path, other = tmp_path / "net.gnet", tmp_path / "other.txt"
    other.write_text("xyz " * 300)
    argv = ["train", "charlm", "--quiet", "--batch-size", "4"]
    assert main([*argv, "--data", str(letters), "--epochs", "1", "--save", str(path)]) == 0
    line = refused(capsys, "train", "charlm", "--load", str(path), "--data", str(other), "--epochs", "2")
    assert "was trained on a text with other characters than" in line
