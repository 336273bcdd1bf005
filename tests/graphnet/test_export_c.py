"""Exported C: built with make, run without Python, and compared with the net it came from, bit for bit."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_c import CBackend
from graphnet.cli import main
from graphnet.export_c import export_c, import_weights
from graphnet.export_c_plans import identifier, prepare
from graphnet.export_c_text import quoted
from graphnet.kernels.c import toolchain
from graphnet.models.lenet import lenet

pytestmark = pytest.mark.skipif(
    toolchain.find() is None or shutil.which("make") is None, reason="needs a C compiler and make"
)

STRICT = "-O3 -Wall -Wextra -Werror"
QUICK = "-O0 -Wall -Wextra -Werror"
SANITIZED = "-O1 -g -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all"


@gn.model
def small(x, classes=3):
    x = gn.layers.dropout(gn.tanh(gn.layers.dense(x, 8)), 0.2)
    return gn.layers.dense(x, classes)


@gn.model
def reader(ids):
    x = gn.layers.embedding(ids, 7, 6)
    return gn.layers.dense(gn.layers.lstm(x, 5, stateful=True), 7)


@gn.model
def shapes(a, flags):
    """Results of every kind: strided, several, an input, a parameter, a constant."""
    w = gn.param("w", (3, 4), init=gn.init.uniform(-1, 1))
    table = np.arange(2000, dtype="float32")
    return (
        gn.transpose(a * 2.0),
        gn.where(flags, a, w),
        a,
        w,
        w[::-1, 1:3],
        np.arange(5, dtype="int32"),
        table + gn.sum(a),
        gn.sum(a),
    )


def split(threads: int) -> CBackend:
    """A backend that gives each thread its share of all work, however small it is."""
    return CBackend(threads, least_work=0.0)


def compiled(monkeypatch, model=small, spec=None, threads=1, **options):
    """A net on the C backend."""
    monkeypatch.setattr("graphnet.api.choose", lambda *_: split(threads))
    return gn.compile(model, *(spec or [gn.spec((6, 4))]), **options)


@pytest.fixture
def net(monkeypatch):
    adam = gn.optim.Adam(lr=0.05, clip_norm=1.0)
    return compiled(monkeypatch, threads=2, loss=gn.losses.softmax_cross_entropy, optimizer=adam)


@pytest.fixture(scope="module")
def data():
    chosen = np.random.default_rng(0)
    return chosen.normal(size=(2, 6, 4)).astype("float32"), chosen.integers(0, 3, (2, 6)).astype("int32")


def build(folder: Path, flags: str = STRICT) -> None:
    """Compile; a warning is an error."""
    done = subprocess.run(
        ["make", "-s", "-j2", "-C", str(folder), f"CFLAGS={flags}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def run(folder: Path, *words: object, code: int = 0, **options) -> str:
    """Output of the example program, or its one line of error."""
    (program,) = (p for p in folder.iterdir() if p.suffix == "" and os.access(p, os.X_OK) and p.is_file())
    done = subprocess.run(
        [f"./{program.name}", *map(str, words)], cwd=folder, capture_output=True, check=False, **options
    )
    assert done.returncode == code, done.stderr.decode()
    return (done.stderr if code else done.stdout).decode()


def written(folder: Path, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        (folder / name).write_bytes(array.tobytes())


def losses(text: str) -> np.ndarray:
    return np.array([line.split()[3] for line in text.splitlines()], "float32")


def shared(folder: Path, name: str) -> ctypes.CDLL:
    """The built library as an object that ctypes loads."""
    made = folder / "shared.so"
    whole = ["-Wl,--whole-archive", f"lib{name}.a", "-Wl,--no-whole-archive"]
    subprocess.run(["cc", "-shared", "-pthread", "-o", made.name, *whole, "-lm"], cwd=folder, check=True)
    library = ctypes.CDLL(str(made))
    for call in ("open", "array"):
        getattr(library, f"{name}_{call}").restype = ctypes.c_void_p
    getattr(library, f"{name}_error").restype = ctypes.c_char_p
    return library


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


# -- what it computes ---------------------------------------------------------------------------------


def test_training_in_c_is_training_in_python(net, data, tmp_path):
    """Dropout, Adam, clipping, two threads: losses, saved weights, results and later steps are equal bit for bit."""
    x, y = data
    net.step(x[0], y[0])
    folder = export_c(net, tmp_path / "c")
    written(folder, x=x, y=y)
    build(folder)
    expected = [net.step(x[i % 2], y[i % 2]) for i in range(5)]
    np.testing.assert_array_equal(losses(run(folder, "train", "x", "y", 5, "save=after")), np.float32(expected))
    results = np.array(run(folder, "infer", "x", "weights=after").split(), "float32").reshape(2, 6, 3)
    np.testing.assert_array_equal(results, [net(x[0]), net(x[1])])
    expected = [net.step(x[i % 2], y[i % 2]) for i in range(3)]
    np.testing.assert_array_equal(losses(run(folder, "train", "x", "y", 3, "weights=after")), np.float32(expected))


def test_weights_trained_in_c_go_back_into_python(net, data, tmp_path):
    x, y = data
    folder = export_c(net, tmp_path / "c", threads=1)
    written(folder, x=x, y=y)
    build(folder)
    run(folder, "train", "x", "y", 4, "lr=0.25", "save=after")
    net.optimizer.lr = 0.25
    expected = [net.step(x[i % 2], y[i % 2]) for i in range(6)][4:]
    for array in net._arrays():
        array[...] = 0
    net.optimizer.lr = 0.125
    import_weights(net, folder / "after")
    assert net.optimizer.lr == 0.25
    assert [net.step(x[i], y[i]) for i in range(2)] == expected


def test_lenet_is_lenet(monkeypatch, tmp_path):
    chosen = np.random.default_rng(0)
    x, y = chosen.random((10, 1, 28, 28), dtype="float32"), chosen.integers(0, 10, 10).astype("int32")
    sgd = gn.optim.SGD(lr=0.1)
    spec = [gn.spec(x.shape)]
    net = compiled(monkeypatch, lenet, spec, loss=gn.losses.softmax_cross_entropy, optimizer=sgd)
    folder = export_c(net, tmp_path / "c", threads=2)
    written(folder, x=x, y=y)
    build(folder)
    np.testing.assert_array_equal(
        losses(run(folder, "train", "x", "y", 4, "save=lenet.weights")), np.float32([net.step(x, y) for _ in range(4)])
    )
    printed = run(folder, "infer", "-", input=x.tobytes())
    np.testing.assert_array_equal(np.array(printed.split(), "float32").reshape(10, 10), net(x))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A recurrent net with states, its library, and the folder."""
    folder = tmp_path_factory.mktemp("reader") / "c"
    with pytest.MonkeyPatch.context() as patch:
        spec = [gn.spec((2, 3), "int32")]
        options = {"loss": gn.losses.softmax_cross_entropy, "optimizer": gn.optim.SGD(lr=0.5, momentum=0.5)}
        net = compiled(patch, reader, spec, **options)
        export_c(net, folder)
    build(folder)
    return net, shared(folder, "reader"), folder


def opened(library, folder: Path):
    made = library.reader_open(str(folder / "reader.weights").encode())
    assert made, library.reader_error()
    return ctypes.c_void_p(made)


def test_states_live_across_calls_and_can_be_reset(library):
    net, c, folder = library
    ids, out = np.array([[1, 2, 3], [4, 5, 6]], "int32"), np.empty((2, 3, 7), "float32")
    handle = opened(c, folder)
    net.reset_states()
    seen = []
    for _ in range(3):
        assert c.reader_infer(handle, pointer(ids), pointer(out)) == 0
        np.testing.assert_array_equal(out, net(ids))
        seen.append(out.copy())
    assert (seen[0] != seen[1]).any()
    c.reader_reset_states(handle)
    assert c.reader_infer(handle, pointer(ids), pointer(out)) == 0
    np.testing.assert_array_equal(out, seen[0])
    net.reset_states()
    c.reader_close(handle)
    c.reader_close(None)


def test_an_index_out_of_range_is_an_error_that_changes_nothing(library):
    net, c, folder = library
    handle, loss, size = opened(c, folder), ctypes.c_float(), ctypes.c_size_t()
    c.reader_array.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    name = next(iter(net.params))
    at = c.reader_array(handle, name.encode(), ctypes.byref(size))
    before = ctypes.string_at(at, size.value)
    assert before == net.params[name].tobytes()
    ids, wrong = np.ones((2, 3), "int32"), np.full((2, 3), 7, "int32")
    for x, y in ((wrong, ids), (ids, wrong)):
        assert c.reader_step(handle, pointer(x), pointer(y), ctypes.byref(loss)) == 1
        assert b"index 7 is out of range for 7 rows" in c.reader_error()
        assert c.reader_error().startswith((b"test_export_c.py:", b"layers.py:"))
        assert ctypes.string_at(at, size.value) == before
    assert c.reader_step(handle, pointer(ids), pointer(ids), ctypes.byref(loss)) == 0
    assert np.isfinite(loss.value)
    assert ctypes.string_at(at, size.value) != before
    assert not c.reader_array(handle, b"no", None)
    assert c.reader_error() == b"there is no array no"
    c.reader_close(handle)


def test_hyperparameters_are_set_and_read_by_name(library):
    _, c, folder = library
    handle, value = opened(c, folder), ctypes.c_double()
    assert c.reader_get(handle, b"lr", ctypes.byref(value)) == 0
    assert value.value == 0.5
    assert c.reader_set(handle, b"lr", ctypes.c_double(0.25)) == 0
    assert c.reader_get(handle, b"lr", ctypes.byref(value)) == 0
    assert value.value == 0.25
    for name, wrong in ((b"rate", 1.0), (b"lr", -1.0), (b"lr", float("nan"))):
        assert c.reader_set(handle, name, ctypes.c_double(wrong)) == 3
    c.reader_close(handle)


def test_a_saved_file_holds_what_the_net_holds_and_is_written_whole_or_not_at_all(library, tmp_path):
    _, c, folder = library
    handle = opened(c, folder)
    assert c.reader_save(handle, str(tmp_path / "again").encode()) == 0
    assert (tmp_path / "again").read_bytes() == (folder / "reader.weights").read_bytes()
    assert c.reader_save(handle, str(tmp_path / "no" / "file").encode()) == 4
    assert b"No such file" in c.reader_error()
    (tmp_path / "folder").mkdir()
    assert c.reader_save(handle, str(tmp_path / "folder").encode()) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "folder"]
    c.reader_close(handle)


def test_results_of_every_kind_and_several_inputs(monkeypatch, tmp_path):
    """Under ASan and UBSan."""
    net = compiled(monkeypatch, shapes, [gn.spec((3, 4)), gn.spec((3, 4), "bool")])
    folder = export_c(net, tmp_path / "c")
    build(folder, SANITIZED)
    chosen = np.random.default_rng(0)
    a, flags = chosen.normal(size=(3, 4)).astype("float32"), chosen.random((3, 4)) < 0.5
    written(folder, a=a, flags=flags)
    expected = net(a, flags)
    titles, values = [], []
    for line in run(folder, "infer", "a", "flags").splitlines():
        if line.startswith("output"):
            titles.append(line)
            values.append([])
        else:
            values[-1] += line.split()
    assert titles[0] == "output0 float32(4, 3)"
    assert len(titles) == len(expected)
    for title, got, wanted in zip(titles, values, expected, strict=True):
        np.testing.assert_array_equal(np.array(got, wanted.dtype), wanted.reshape(-1), err_msg=title)


def test_training_and_inference_are_clean_under_the_sanitizers(net, data, tmp_path):
    x, y = data
    folder = export_c(net, tmp_path / "c")
    written(folder, x=x, y=y)
    build(folder, SANITIZED)
    assert run(folder, "train", "x", "y", 3, "save=small.weights").count("\n") == 3
    assert run(folder, "infer", "x").count("\n") == 12
    assert "steps" in run(folder, "train", "x", "y", "no", code=2)


# -- bad files and arguments --------------------------------------------------------------------------


def test_bad_files_are_one_clear_line(net, data, tmp_path):
    folder = export_c(net, tmp_path / "c", threads=1)
    build(folder, QUICK)
    x, y = data
    written(folder, x=x, y=y, odd=x.reshape(-1)[:-1], long=np.concatenate([y, y]), empty=x[:0])
    good = (folder / "small.weights").read_bytes()
    flipped = bytearray(good)
    flipped[200] ^= 4
    other = bytearray(good)
    other[17] ^= 1
    files = {
        "short": (good[:-1], "is truncated", "truncated or damaged"),
        "cut": (good[:40], "is no weights file", "is no weights file"),
        "longer": (good + b"x", "is longer than it should be", "truncated or damaged"),
        "flipped": (bytes(flipped), "is damaged: its checksum does not match", "truncated or damaged"),
        "other": (bytes(other), "belongs to another model", "belongs to another model"),
        "text": (b"hello" * 100, "is no weights file", "is no weights file"),
    }
    for name, (content, said, raised) in files.items():
        (folder / name).write_bytes(content)
        assert run(folder, "infer", "x", f"weights={name}", code=2).startswith(f"small: {name}: {said}")
        before = [a.copy() for a in net._arrays()]
        with pytest.raises(gn.FileError, match=raised) as caught:
            import_weights(net, folder / name)
        assert "\n" not in str(caught.value)
        assert all((a == b).all() for a, b in zip(before, net._arrays(), strict=True))
    assert "cannot be opened: No such file" in run(folder, "infer", "x", "weights=none", code=2)
    assert "not whole batches of 96" in run(folder, "infer", "odd", code=2)
    assert "0 bytes are not whole batches" in run(folder, "infer", "empty", code=2)
    assert "holds 4 batches, the file before it 2" in run(folder, "train", "x", "long", 1, code=2)
    assert "there is no hyperparameter rate" in run(folder, "train", "x", "y", 1, "rate=1", code=2)
    assert "lr=x: is no NAME=NUMBER" in run(folder, "train", "x", "y", 1, "lr=x", code=2)
    assert "0: is no number of steps" in run(folder, "train", "x", "y", 0, code=2)
    assert run(folder, code=2).startswith("usage: ./small infer X [weights=FILE]\n")
    with pytest.raises(gn.FileError, match="cannot be read"):
        import_weights(net, folder / "none")


def test_an_input_without_elements_and_no_threads_are_refused(net, monkeypatch, tmp_path):
    empty = compiled(monkeypatch, lambda x: gn.sum(x), [gn.spec((0, 4))])
    with pytest.raises(gn.BackendError, match="has no elements"):
        export_c(empty, tmp_path / "c")
    with pytest.raises(gn.BackendError, match="threads must be"):
        export_c(net, tmp_path / "c", threads=0)


# -- the text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet", "lenet"),
        ("Net_2", "Net_2"),
        ("_hidden", "hidden"),
        ("modèle", "mod_le"),
        ("main", "net_main"),
        ("Threads", "net_Threads"),
        ("网", "net"),
        ("2d", "net_2d"),
        ("x" * 300, "x" * 40),
        ('"; system("rm', "system_rm"),
    ],
)
def test_names_in_c_are_letters_digits_and_underscores(name, expected):
    assert identifier(name) == expected


def test_a_string_literal_holds_any_text(tmp_path):
    text = 'a"b\\c??/ %s */ é\n\x00\x7f'
    source = (
        f"#include <stdio.h>\nint main(void) {{ const char t[] = {quoted(text)}; fwrite(t, sizeof t - 1, 1, stdout); }}"
    )
    (tmp_path / "t.c").write_text(source)
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", "t", "t.c"], cwd=tmp_path, check=True)
    assert subprocess.run(["./t"], cwd=tmp_path, capture_output=True, check=True).stdout.decode() == text


def test_names_that_users_chose_stay_text(monkeypatch, tmp_path):
    """A model called like a keyword, a parameter that would end comments and strings, an input called like a type."""

    @gn.model
    def double(float):
        w = gn.param('* " %s ??) \\', (4,), init=gn.init.constant(2.0))
        return float * w + gn.state("*\n#error", (4,))

    net = compiled(monkeypatch, double, [gn.spec((2, 4), name="*/ #error")])
    folder = export_c(net, tmp_path / "c")
    written(folder, x=np.ones((2, 4), "float32"))
    build(folder, QUICK)
    assert run(folder, "infer", "x") == "2 2 2 2\n2 2 2 2\n"


def test_the_header_is_c_plus_plus_too(net, tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    folder = export_c(net, tmp_path / "c")
    (folder / "t.cc").write_text(
        '#include "small.h"\nint main() { small_close(nullptr); return small_open("") != nullptr; }'
    )
    command = ["c++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "t.cc"]
    subprocess.run(command, cwd=folder, check=True)


def test_the_same_net_gives_the_same_bytes(monkeypatch, tmp_path):
    def files(name):
        sgd = gn.optim.SGD(lr=0.1)
        net = compiled(monkeypatch, threads=2, loss=gn.losses.softmax_cross_entropy, optimizer=sgd)
        return {p.name: p.read_bytes() for p in export_c(net, tmp_path / name).iterdir()}

    first = files("a")
    assert first == files("b")
    assert set(first) == {
        *("small.h", "small.c", "small_infer.c", "small_step.c", "small.weights", "threads.c"),
        *("main.c", "Makefile", "README.md"),
    }
    assert all(line == line.rstrip() for name in first if name != "small.weights" for line in first[name].split(b"\n"))


def test_a_net_of_the_numpy_backend_is_exported_as_that_of_the_c_backend(net, tmp_path):
    adam = gn.optim.Adam(lr=0.05, clip_norm=1.0)
    other = gn.compile(small, gn.spec((6, 4)), loss=gn.losses.softmax_cross_entropy, optimizer=adam, backend="numpy")
    assert prepare(other, 2).weights() == prepare(net).weights()
    assert len(other.plans) == 1


def test_a_net_without_optimizer_only_infers(monkeypatch, tmp_path):
    folder = export_c(compiled(monkeypatch), tmp_path / "c")
    assert not (folder / "small_step.c").exists()
    assert not (folder / "threads.c").exists()
    assert "_step" not in (folder / "small.h").read_text()
    written(folder, x=np.ones((6, 4), "float32"))
    build(folder, QUICK)
    assert run(folder, "infer", "x").count("\n") == 6
    assert "lr=1: is no option" in run(folder, "infer", "x", "lr=1", code=2)


# -- the folder ---------------------------------------------------------------------------------------


def test_an_export_is_replaced_and_other_folders_are_not(net, monkeypatch, tmp_path):
    folder = export_c(net, tmp_path / "c")
    assert oct(folder.stat().st_mode & 0o777) == oct(0o777 & ~umask())
    (folder / "mine.txt").write_text("kept")
    (folder / "main.c").write_text("changed")
    export_c(net, folder, threads=1)
    assert "changed" not in (folder / "main.c").read_text()
    assert (folder / "mine.txt").read_text() == "kept"
    assert not (folder / "threads.c").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["c"]

    def another(x):
        return x * 2.0

    other = compiled(monkeypatch, another)
    with pytest.raises(gn.FileError, match="is not empty, and no export of another"):
        export_c(other, folder)
    export_c(other, folder, force=True)
    assert (folder / "mine.txt").read_text() == "kept"
    (tmp_path / "empty").mkdir()
    export_c(net, tmp_path / "empty")
    with pytest.raises(gn.FileError, match="there is no folder"):
        export_c(net, tmp_path / "no" / "c")
    with pytest.raises(gn.FileError, match="is a file"):
        export_c(net, folder / "mine.txt")


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_folder_that_cannot_be_written_is_one_line_and_leaves_nothing(net, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphnet.export_c.os.rename", full)
    with pytest.raises(gn.FileError, match="No space left on device"):
        export_c(net, tmp_path / "c")
    assert not list(tmp_path.iterdir())


# -- the command --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("mlp") / "net.gnet"
    assert main(["train", "mlp", "--epochs", "1", "--lr", "0.125", "--quiet", "--save", str(path)]) == 0
    return path


def test_the_command_exports_a_model_a_checkpoint_and_another_batch_size(checkpoint, tmp_path, capsys):
    assert main(["export-c", "mlp", "-o", str(tmp_path / "a"), "--threads", "1", "--seed", "3"]) == 0
    assert f"build it with: make -C {tmp_path / 'a'}" in capsys.readouterr().out
    given = ["export-c", "mlp", "--checkpoint", str(checkpoint), "--threads", "1"]
    assert main([*given, "-o", str(tmp_path / "b")]) == 0
    assert main([*given, "-o", str(tmp_path / "c"), "--batch-size", "1"]) == 0
    assert main(["export-c", str(checkpoint), "-o", str(tmp_path / "d"), "--threads", "1"]) == 0
    weights = [(tmp_path / name / "mlp.weights").read_bytes() for name in "abcd"]
    assert weights[0] != weights[1] == weights[2] == weights[3]
    assert "#define MLP_X_SHAPE {1, 1, 28, 28}" in (tmp_path / "c" / "mlp.h").read_text()
    net = gn.load(checkpoint, backend="numpy")
    net.optimizer.lr = 1.0
    import_weights(net, tmp_path / "c" / "mlp.weights")
    assert net.optimizer.lr == 0.125


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("mlpp -o {here}/x", "export-c: unknown model 'mlpp': did you mean 'mlp'?"),
        ("mlp", "the following arguments are required: -o/--output"),
        ("mlp -o {here}/no/x", "{here}/no/x: there is no folder"),
        ("mlp -o {here}", "{here}: is not empty, and no export of mlp: name another folder, or pass force (--force)"),
        ("lenet --checkpoint {net} -o {here}/x", "--checkpoint {net}: holds the model mlp, not lenet"),
        ("lenet --checkpoint {net} --batch-size 2 -o {here}/x", "holds the model mlp, not lenet"),
        ("{net} --batch-size 2 -o {here}/x", "a saved net is exported as it is: leave --batch-size out"),
        ("{net} --checkpoint {net} -o {here}/x", "leave --checkpoint out"),
        ("mlp --threads 0 -o {here}/x", "argument --threads: '0' is not an integer of 1 or more"),
        ("mlp --checkpoint {here}/none.gnet -o {here}/x", "none.gnet: cannot be read"),
    ],
)
def test_what_the_command_refuses(argv, said, checkpoint, capsys):
    words = {"here": checkpoint.parent, "net": checkpoint}
    assert main(["export-c", *(word.format(**words) for word in argv.split())]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said.format(**words) in line
    assert not (checkpoint.parent / "x").exists()
