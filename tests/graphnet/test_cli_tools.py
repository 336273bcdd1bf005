"""`graphnet dump`, `generate`, `bench` and `info`, and the command as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphnet as gn
from graphnet import backend as backends
from graphnet.backend_numpy import NumpyBackend
from graphnet.cli import main
from graphnet.cli.dump import FORMATS
from graphnet.cli.generate import Uniform, draw, generate
from graphnet.kernels.c import toolchain

Capture = pytest.CaptureFixture[str]
COMMANDS = ("train", "dump", "generate", "bench", "export-c", "info")
TEXT = "abcd efgh, ijkl.\n" * 60


def refused(capsys: Capture, *argv: str) -> str:
    """The one line of an error that ends with exit code 2."""
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("graphnet: ")
    return line


@pytest.fixture(scope="module")
def charlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of a small text after a few steps."""
    folder = tmp_path_factory.mktemp("charlm")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    argv = ["train", "charlm", "--batch-size", "4", "--epochs", "2", "--quiet", "--lr", "0.02"]
    assert main([*argv, "--data", str(folder / "text.txt"), "--save", str(folder / "net.gnet")]) == 0
    return folder / "net.gnet"


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_is_enough(command: tuple[str, ...], capsys: Capture) -> None:
    """--help of each command ends with exit code 0 and names its arguments."""
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    wanted = {
        (): " ".join(COMMANDS),
        (
            "train",
        ): "--epochs --batch-size --lr --seed --data --data-dir --device --backend --precision --save --load --plot "
        "--log-dir --json --recipe --shuffle --quiet",
        ("dump",): f"--output --format --batch-size {' '.join(FORMATS)}",
        ("generate",): "--length --temperature --prompt --seed",
        ("bench",): "--repeats --json",
        ("export-c",): "--output --checkpoint --threads --force",
        ("info",): "--data-dir",
    }
    for word in wanted[command].split():
        assert word in out


def test_version_is_that_of_the_package(capsys: Capture) -> None:
    """--version prints one line."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"graphnet {gn.__version__}\n"


def test_the_command_runs_as_a_process(tmp_path: Path) -> None:
    """In a process of its own, away from the checkout: output, exit codes, no progress bar without a terminal."""
    command = [sys.executable, "-m", "graphnet.cli"]
    done = subprocess.run(
        [*command, "train", "softmax", "--epochs", "1", "--save", "net.gnet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "epoch 1/1" in done.stdout
    assert (tmp_path / "net.gnet").exists()
    done = subprocess.run([*command, "train", "x"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("graphnet: unknown model 'x'")
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """With GRAPHNET_DEBUG the error is raised."""
    done = subprocess.run(
        [sys.executable, "-m", "graphnet.cli", "train", "x"],
        cwd=tmp_path,
        env={**os.environ, "GRAPHNET_DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """`graphnet dump lenet | head -1` ends quietly."""
    done = subprocess.run(
        f"{sys.executable} -m graphnet.cli dump lenet --format schedule | head -1",
        cwd=tmp_path,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_the_command_starts_without_heavy_imports(tmp_path: Path) -> None:
    """Importing the command line loads neither matplotlib nor scikit-learn nor tensorboardX nor tqdm."""
    heavy = "matplotlib", "sklearn", "tensorboardX", "tqdm"
    code = f"import sys, graphnet.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_dump_prints_every_format(name: str, capsys: Capture) -> None:
    """Each format is printed, and names the model or its layers."""
    if name in ("c", "cu") and toolchain.find() is None:
        pytest.skip("needs a C compiler")
    device, backend = {"c": ("cpu", "c"), "cu": ("cuda", "emulated")}.get(name, ("cpu", "numpy"))
    assert main(["dump", "mlp", "--format", name, "--device", device, "--backend", backend]) == 0
    out = capsys.readouterr().out
    assert "dense_1" in out or "mlp" in out


def test_a_precision_is_for_a_gpu_and_reaches_the_backend(
    charlm: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """On the CPU it is refused in one line; on cuda the backend is made with it, for new nets and loaded ones."""
    seen: list[str] = []
    monkeypatch.setitem(backends.BACKENDS, "cuda", lambda precision: seen.append(precision) or NumpyBackend())
    commands = [
        ("train", "linreg", "--epochs", "1"),
        ("dump", "linreg"),
        ("dump", str(charlm)),
        ("generate", str(charlm), "--length", "1"),
        ("bench", "linreg", "--repeats", "1"),
    ]
    for argv in commands:
        line = refused(capsys, *argv, "--precision", "tf32")
        assert line == "graphnet: precision 'tf32' is for device='cuda': on the CPU products are float32"
        assert main([*argv, "--device", "cuda", "--precision", "tf32"]) == 0
        assert set(seen) == {"tf32"}, argv
        shown = capsys.readouterr().out
        assert argv[0] != "train" or "backend numpy, products in tf32" in shown
        seen.clear()
    assert "use one of" in refused(capsys, "dump", "linreg", "--device", "gpu", "--precision", "bf16")


def test_dump_writes_what_the_suffix_says(tmp_path: Path, capsys: Capture) -> None:
    """-o FILE writes the format of the suffix, or the one of --format."""
    assert main(["dump", "softmax", "-o", str(tmp_path / "net.json")]) == 0
    assert isinstance(json.loads((tmp_path / "net.json").read_text()), dict)
    assert main(["dump", "softmax", "-o", str(tmp_path / "net.txt"), "--format", "summary"]) == 0
    written = (tmp_path / "net.txt").read_text()
    capsys.readouterr()
    assert main(["dump", "softmax", "--format", "summary"]) == 0
    assert capsys.readouterr().out == written


def test_dump_takes_the_batch_size(capsys: Capture) -> None:
    """The listing shows the shapes of the batch asked for."""
    assert main(["dump", "softmax", "--batch-size", "7"]) == 0
    assert "(7,1,28,28)" in capsys.readouterr().out


def test_dump_shows_a_saved_net(charlm: Path, capsys: Capture) -> None:
    """A file is dumped as the model was."""
    assert main(["dump", str(charlm), "--format", "summary"]) == 0
    assert "lstm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("dump lenett", "dump: unknown model 'lenett': did you mean 'lenet'?"),
        ("dump {here}/no.gnet", "{here}/no.gnet"),
        ("dump mlp -o {here}/x.bmp", "dump: .bmp is unknown"),
        ("dump mlp -o {here}/no/x.txt", "-o {here}/no/x.txt: there is no folder"),
        ("dump mlp --format bmp", "argument --format: invalid choice: 'bmp'"),
        ("dump {net} --batch-size 3", "a saved net is shown as it is: leave --batch-size out"),
        ("generate {here}/no.gnet", "{here}/no.gnet"),
        ("generate {net} --temperature -1", "argument --temperature: '-1' is not a number of 0 or more"),
        ("generate {net} --length x", "argument --length: 'x' is not an integer of 0 or more"),
        ("generate {net} --prompt aXb", "character 'X' at position 1 is not among the 16 of the vocabulary"),
        ("bench frob", "unknown model 'frob'"),
        ("bench --repeats 0", "argument --repeats: '0' is not an integer of 1 or more"),
        ("frob", "argument COMMAND: invalid choice: 'frob'"),
    ],
)
def test_mistakes_are_one_line(argv: str, said: str, tmp_path: Path, charlm: Path, capsys: Capture) -> None:
    """Each mistake is told in one line that starts with `graphnet:`, with exit code 2."""
    line = refused(capsys, *argv.format(here=tmp_path, net=charlm).split())
    assert said.format(here=tmp_path) in line


def test_generate_goes_on_from_the_prompt(charlm: Path, capsys: Capture) -> None:
    """The prompt and as many characters as asked for are printed, all of the vocabulary."""
    assert main(["generate", str(charlm), "--length", "50", "--prompt", "abc"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("abc")
    assert len(out) == 3 + 50 + 1
    assert set(out) <= set(TEXT)


def test_generate_is_repeatable(charlm: Path, capsys: Capture) -> None:
    """The same seed gives the same text, another one another; at temperature 0 the seed does not matter."""
    texts = {}
    for seed in ("0", "1"):
        for temperature in ("1", "0"):
            for again in range(2):
                argv = ["--length", "60", "--prompt", "a", "--seed", seed, "--temperature", temperature]
                assert main(["generate", str(charlm), *argv]) == 0
                texts[seed, temperature, again] = capsys.readouterr().out
    assert texts["0", "1", 0] == texts["0", "1", 1]
    assert texts["0", "1", 0] != texts["1", "1", 0]
    assert texts["0", "0", 0] == texts["1", "0", 0]


def test_generating_carries_the_state(charlm: Path) -> None:
    """At temperature 0 each character is the likeliest after all before it, not after the last one alone."""
    net = gn.load(charlm)
    size = len(net.metadata["vocabulary"])
    written = list(generate(net, size, [3, 4], 12, 0.0, 0))
    net.reset_states()
    expected, scores = [], np.zeros((1, 1, size))
    for index in [3, 4]:
        scores = net(np.array([[index]], np.int32))
    for _ in range(12):
        expected.append(int(scores[0, 0].argmax()))
        scores = net(np.array([[expected[-1]]], np.int32))
    assert written == expected


def test_nets_without_vocabulary_do_not_generate(tmp_path: Path, capsys: Capture) -> None:
    """Only language models have characters to write."""
    path = tmp_path / "net.gnet"
    assert main(["train", "softmax", "--epochs", "1", "--quiet", "--save", str(path)]) == 0
    capsys.readouterr()
    assert "holds no vocabulary" in refused(capsys, "generate", str(path))


def test_draw_follows_the_softmax_of_the_scores() -> None:
    """Frequencies approach softmax(scores / temperature); extremes of temperature do not overflow."""
    scores, uniform = np.array([1.0, 2.0, -1.0, 2.0]), Uniform(0)
    counts = np.bincount([draw(scores, 0.5, uniform) for _ in range(20_000)], minlength=4)
    weights = np.exp(scores / 0.5)
    np.testing.assert_allclose(counts / counts.sum(), weights / weights.sum(), atol=0.01)
    assert draw(scores, 0.0, uniform) == 1
    assert {draw(scores, 1e-300, uniform) for _ in range(50)} == {1, 3}
    assert {draw(scores, 1e300, uniform) for _ in range(200)} == {0, 1, 2, 3}


def test_bench_prints_a_table_and_writes_json(tmp_path: Path, capsys: Capture) -> None:
    """Each model gives a row; the file holds the same numbers and the machine."""
    path = tmp_path / "bench.json"
    assert main(["bench", "linreg", "softmax", "--repeats", "3", "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "batch", "compile", "ms", "median", "ms", "min", "ms", "max", "ms"]
    assert [line.split()[0] for line in lines[1:]] == ["linreg", "softmax"]
    written = json.loads(path.read_text())
    assert {"processor", "cores", "versions", "results"} <= set(written)
    for row in written["results"]:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]
        assert row["repeats"] == 3


def test_info_says_what_was_found(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions, devices, BLAS, variables that slow it down, data sets and the cache folder are listed."""
    (tmp_path / "housing").mkdir()
    (tmp_path / "housing" / "housing.data").touch()
    monkeypatch.setenv("GRAPHNET_DATA", str(tmp_path))
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for part in (
        f"graphnet {gn.__version__}",
        "numpy ",
        "backends numpy",
        "slow: OPENBLAS_CORETYPE=Haswell",
        f"housing: {tmp_path / 'housing'}",
        "mnist: not found",
        f"cache: {tmp_path / 'cache' / 'data'}",
        "charlm, lenet, linreg, mlp, softmax",
    ):
        assert part in out
