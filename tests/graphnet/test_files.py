"""Saving and loading: what comes back, resumed runs, metadata, and files that survive a broken write."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

import graphnet as gn

RNG = np.random.default_rng(7)
Pair = namedtuple("Pair", "first second")


@gn.model
def mlp(x: Any, rate: float = 0.0) -> Any:
    x = gn.layers.dropout(gn.relu(gn.layers.dense(x, 5)), rate)
    return gn.layers.dense(x, 3)


@gn.model
def reader(x: Any) -> Any:
    """Dropout, batch statistics and a state that goes from call to call."""
    x = gn.layers.lstm(x, 4, stateful=True)
    x = gn.layers.dropout(gn.layers.batch_norm(x[:, -1]), 0.4)
    return gn.layers.dense(x, 3)


def compiled(model: Callable[..., Any], *shape: int, optimizer: Any = None, **options: Any) -> gn.Net:
    optimizer = gn.optim.Adam(lr=0.05, clip_norm=1.0) if optimizer is None else optimizer
    loss = gn.losses.softmax_cross_entropy
    return gn.compile(model, gn.spec(shape), loss=loss, optimizer=optimizer, seed=3, **options)


def batches(count: int, *shape: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(RNG.normal(size=shape).astype("f4"), RNG.integers(0, 3, shape[0], "i4")) for _ in range(count)]


def slots(net: gn.Net) -> dict[str, np.ndarray]:
    """The optimiser's arrays without its settings."""
    settings = {f"optimizer/{name}" for name in net.optimizer.hyper}
    return {name: array for name, array in net.slots.items() if name not in settings}


RESUME = """
import sys
import numpy as np
import graphnet as gn

net = gn.load(sys.argv[1])
with np.load(sys.argv[2]) as data:
    for x, y in zip(data["x"], data["y"]):
        net.step(x, y)
net.save(sys.argv[3])
"""


def test_resumed_run_in_a_process_without_the_function_equals_an_unbroken_one(tmp_path: Path) -> None:
    """Three steps, save, load elsewhere, four steps: every byte of the file is that of seven steps here."""
    shape = (6, 3, 2)
    net, data = compiled(reader, *shape), batches(7, *shape)
    for x, y in data[:3]:
        net.step(x, y)
    net.save(tmp_path / "broken.gnet", note="kept")
    for x, y in data[3:]:
        net.step(x, y)
    net.save(tmp_path / "unbroken.gnet", note="kept")
    np.savez(tmp_path / "rest.npz", x=[x for x, _ in data[3:]], y=[y for _, y in data[3:]])
    arguments = [tmp_path / "broken.gnet", tmp_path / "rest.npz", tmp_path / "resumed.gnet"]
    subprocess.run([sys.executable, "-c", RESUME, *arguments], check=True, cwd=tmp_path)
    assert (tmp_path / "resumed.gnet").read_bytes() == (tmp_path / "unbroken.gnet").read_bytes()


@pytest.mark.parametrize(
    "optimizer",
    [
        gn.optim.SGD(lr=0.1, momentum=0.9, nesterov=True),
        gn.optim.RMSprop(centered=True, momentum=0.5),
        gn.optim.AdamW(l1=0.01, clip_norm=math.inf),
        gn.optim.Adagrad(initial_accumulator=0.5),
    ],
    ids=lambda o: type(o).__name__,
)
def test_optimiser_goes_on_with_its_slots_and_settings(tmp_path: Path, optimizer: Any) -> None:
    """The loaded optimiser has the same configuration and takes the same steps."""
    net, data = compiled(mlp, 4, 2, optimizer=optimizer, rate=0.5), batches(5, 4, 2)
    for x, y in data[:3]:
        net.step(x, y)
    net.optimizer.lr = 0.025
    again = gn.load(net.save(tmp_path / "a.gnet"))
    assert again.optimizer.config() == net.optimizer.config()
    assert [net.step(x, y) for x, y in data[3:]] == [again.step(x, y) for x, y in data[3:]]
    assert all(np.array_equal(net.params[name], again.params[name]) for name in net.params)
    assert list(net.params) == list(again.params)


@gn.model
def looping(x: Any) -> Any:
    table = np.arange(12, dtype="f4").reshape(3, 4)
    kept, rows = gn.scan(lambda c, r: (c * 0.5 + r, gn.cond(gn.sum(r) > 0, gn.tanh, gn.abs, r)), x[0], x)
    last = gn.while_loop(lambda v: gn.sum(v) < 20.0, lambda v: v + 1.0, kept, max_steps=7)
    slope = gn.grad(lambda v: gn.sum(gn.tanh(v) ** 2))(last[:2])
    return gn.layers.dense(gn.concatenate([rows + table[0], last[None] * gn.sum(slope)], axis=0), 3)


@gn.model
def picture(x: Any) -> Any:
    x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 2, kernel=3, padding="same", stride=1)), 2)
    x = x + gn.random_normal(x.shape, std=0.1)
    return gn.layers.dense(gn.flatten(gn.where(x > 0, x, math.nan if x.ndim == 0 else 0.0)), 3)


@pytest.mark.parametrize(("model", "shape"), [(mlp, (4, 2)), (looping, (3, 4)), (picture, (2, 1, 4, 4))])
def test_loaded_net_computes_and_saves_the_same(tmp_path: Path, model: Any, shape: tuple[int, ...]) -> None:
    """Loops, branches, inner gradients, constants and images: the same numbers, and the same file again."""
    rows = 4 if model is looping else shape[0]
    net, x = compiled(model, *shape), RNG.normal(size=shape).astype("f4")
    y = RNG.integers(0, 3, rows, "i4")
    first = net.save(tmp_path / "first.gnet")
    again = gn.load(first)
    assert again.save(tmp_path / "again.gnet").read_bytes() == first.read_bytes()
    for _ in range(2):
        assert net.step(x, y) == again.step(x, y)
        np.testing.assert_array_equal(net(x), again(x))
        assert net.loss(x, y) == again.loss(x, y)
    np.testing.assert_array_equal(net.forward(x), again.forward(x))
    assert net.backward(y) == again.backward(y)
    for name in net.grads:
        np.testing.assert_array_equal(net.grads[name], again.grads[name])


def test_same_net_gives_the_same_bytes(tmp_path: Path) -> None:
    """Nothing in a file depends on when or where it was written; a step changes it."""
    net = compiled(mlp, 4, 2)
    first = net.save(tmp_path / "a.gnet", names=["x", "y"]).read_bytes()
    assert net.save(tmp_path / "b.gnet", names=["x", "y"]).read_bytes() == first
    net.step(*batches(1, 4, 2)[0])
    assert net.save(tmp_path / "b.gnet", names=["x", "y"]).read_bytes() != first


def test_any_safetensors_reader_opens_the_arrays(tmp_path: Path) -> None:
    """The container is plain safetensors: parameters by name, the rest in one JSON entry without folders."""
    net = compiled(mlp, 4, 2)
    with safetensors.safe_open(net.save(tmp_path / "a.gnet"), framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("param/mlp/dense_1/w"), net.params["mlp/dense_1/w"])
        entries = file.metadata()
    document = json.loads(entries["graphnet"])
    assert document["name"] == "mlp"
    files = {file for file, _, _ in document["where"]}
    assert "test_files.py" in files
    assert not any(os.sep in file for file in files)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: {"b": x, "a": [x * 2, (x, None)]},
        lambda x: Pair(x, Pair([x], x + 1)),
        lambda x: (x,),
    ],
    ids=["dict", "named", "tuple"],
)
def test_nests_of_outputs_come_back(tmp_path: Path, build: Callable[[Any], Any]) -> None:
    """Dicts, lists, tuples, named tuples and None hold the outputs as before."""
    net, x = gn.compile(build, gn.spec((2,))), np.ones(2, "f4")
    again = gn.load(net.save(tmp_path / "a.gnet"))
    assert str(again(x)) == str(net(x))
    assert getattr(again(x), "_fields", None) == getattr(net(x), "_fields", None)


def test_model_that_is_its_own_loss_and_model_without_one(tmp_path: Path) -> None:
    """A scalar model trains on after loading; one without loss runs and says that it has none."""
    fit = gn.model(lambda x: gn.mean((x @ gn.param("w", (3, 1)) - 1.0) ** 2))
    net = gn.compile(fit, gn.spec((2, 3)), optimizer=gn.optim.SGD(lr=0.1))
    again, x = gn.load(net.save(tmp_path / "a.gnet")), np.ones((2, 3), "f4")
    assert [net.step(x) for _ in range(3)] == [again.step(x) for _ in range(3)]
    again = gn.load(gn.compile(mlp, gn.spec((4, 2))).save(tmp_path / "b.gnet"))
    assert again(np.ones((4, 2), "f4")).shape == (4, 3)
    with pytest.raises(gn.PlanError, match="compiled without a loss"):
        again.step(np.ones((4, 2)), np.zeros(4))


def test_loaded_net_runs_for_the_shapes_seen_and_names_them_for_others(tmp_path: Path) -> None:
    """Shapes run before saving work in every mode, with their own states; another one is a PlanError."""
    net = compiled(reader, 6, 3, 2)
    (x, y), (other, labels) = batches(1, 6, 3, 2)[0], batches(1, 2, 3, 2)[0]
    net.step(x, y)
    net(other)
    again = gn.load(net.save(tmp_path / "a.gnet"))
    assert net.states.keys() == again.states.keys()
    assert again.step(other, labels) == net.step(other, labels)
    assert again.loss(x, y) == net.loss(x, y)
    with pytest.raises(gn.PlanError, match="no inference graph for float32\\(3, 3, 2\\)"):
        again(np.ones((3, 3, 2), "f4"))


def test_states_reset_to_their_first_values_after_loading(tmp_path: Path) -> None:
    """Running variances start at 1 and not at what they were when saved."""
    net, (x, y) = compiled(reader, 6, 3, 2), batches(1, 6, 3, 2)[0]
    net.step(x, y)
    again = gn.load(net.save(tmp_path / "a.gnet"))
    assert not np.array_equal(again.states["reader/batch_norm_1/var"], np.ones(4))
    again.reset_states()
    np.testing.assert_array_equal(again.states["reader/batch_norm_1/var"], np.ones(4))


def test_diverged_net_is_saved_bit_for_bit(tmp_path: Path) -> None:
    """NaN and infinities are values like others."""
    net = compiled(mlp, 4, 2)
    net.params["mlp/dense_1/b"][:3] = np.nan, np.inf, -0.0
    again = gn.load(net.save(tmp_path / "a.gnet"))
    assert again.params["mlp/dense_1/b"].tobytes() == net.params["mlp/dense_1/b"].tobytes()


def test_metadata_comes_back_as_it_was(tmp_path: Path) -> None:
    """What JSON holds, infinities and NaN included, is added to net.metadata in the file."""
    net = compiled(mlp, 4, 2)
    net.metadata["kept"] = {"float": "a", "deep": [{"dict": {"float": 2.5}}, {"float": 1}]}
    net.save(tmp_path / "a.gnet", self="é\ud800\n", path=[1, True, None, -math.inf, 10**20], none={})
    found = gn.load(tmp_path / "a.gnet").metadata
    extra = {"self": "é\ud800\n", "path": [1, True, None, -math.inf, 10**20], "none": {}}
    assert found == {**net.metadata, **extra}
    assert list(net.metadata) == ["kept"]
    net.save(tmp_path / "a.gnet", loss=math.nan)
    assert math.isnan(gn.load(tmp_path / "a.gnet").metadata["loss"])


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value", [np.ones(2), (1, 2), {1: "a"}, {"deep": [object()]}, b"bytes", LOOP], ids=lambda v: type(v).__name__
)
def test_metadata_that_would_change_is_refused(tmp_path: Path, value: Any) -> None:
    """Arrays, tuples and integer keys would come back as something else: one line names the entry."""
    with pytest.raises(gn.FileError, match=r"metadata 'extra' is not what JSON holds .*: convert it") as e:
        compiled(mlp, 4, 2).save(tmp_path / "a.gnet", extra=value)
    assert "\n" not in str(e.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"), [("Own", "optimizer 'Own' is not one of"), ("SGD", "'SGD' is a class of your own")]
)
def test_optimiser_that_no_file_can_name_is_refused(tmp_path: Path, name: str, said: str) -> None:
    """A class of the user's own is no part of a file, so saving says so and not the next load."""
    own = type(name, (gn.optim.SGD,), {})
    with pytest.raises(gn.FileError, match=f"cannot be saved: .*{said}"):
        compiled(mlp, 4, 2, optimizer=own(lr=0.1)).save(tmp_path / "a.gnet")


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["full disk", "interrupt"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_broken_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    """Whatever stops a save, the file at the path is the old one, whole, and nothing lies beside it."""
    net = compiled(mlp, 4, 2)
    old = net.save(tmp_path / "a.gnet").read_bytes()
    net.step(*batches(1, 4, 2)[0])

    def broken(*args: Any) -> None:
        raise error

    monkeypatch.setattr(os, call, broken)
    expected = gn.FileError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        net.save(tmp_path / "a.gnet")
    monkeypatch.undo()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.gnet", old)]
    gn.load(tmp_path / "a.gnet")


def test_unusable_paths_are_one_line(tmp_path: Path) -> None:
    """A folder that is missing or is a file, a folder in place of the file, and what is no path."""
    net = compiled(mlp, 4, 2)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "a.gnet", tmp_path / "file" / "a.gnet", tmp_path / "folder"):
        with pytest.raises(gn.FileError, match=f"{path}: cannot be written: "):
            net.save(path)
    with pytest.raises(gn.FileError, match="3: is no path"):
        net.save(3)
    with pytest.raises(gn.FileError, match="None: is no path"):
        gn.load(None)
    with pytest.raises(gn.BackendError, match="no_such"):
        gn.load(net.save(tmp_path / "a.gnet"), backend="no_such")


def test_restore_puts_a_file_into_a_net_of_another_batch_size(tmp_path: Path) -> None:
    """Parameters, slots, counters and states of the same type; those of the batch size stay and are named."""
    net, data = compiled(reader, 6, 3, 2), batches(3, 6, 3, 2)
    for x, y in data:
        net.step(x, y)
    net.save(tmp_path / "a.gnet")
    other = compiled(reader, 2, 3, 2)
    assert other.restore(tmp_path / "a.gnet") == ("reader/lstm_1/c", "reader/lstm_1/h")
    for mine, theirs in ((other.params, net.params), (slots(other), slots(net))):
        assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    same = compiled(reader, 6, 3, 2)
    same.step(*data[0])
    assert same.restore(tmp_path / "a.gnet") == ()
    assert [same.step(x, y) for x, y in data] == [net.step(x, y) for x, y in data]


def test_restore_of_a_file_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    """One line lists the first differences; an optimiser of another kind can be left as it is."""
    file = compiled(mlp, 4, 2).save(tmp_path / "a.gnet")
    wide = compiled(mlp, 4, 7)
    before = {name: array.copy() for name, array in wide.params.items()}
    wanted = r"param 'mlp/dense_1/w' is float32\(2, 5\) in the file, float32\(7, 5\) here; slot "
    with pytest.raises(gn.FileError, match=f"a.gnet: it does not fit this net: {wanted}"):
        wide.restore(file)
    assert all(np.array_equal(before[name], array) for name, array in wide.params.items())
    other = compiled(mlp, 4, 2, optimizer=gn.optim.SGD(lr=0.1, momentum=0.9))
    with pytest.raises(gn.FileError, match="slots=False leaves the optimiser as it is"):
        other.restore(file)
    assert other.restore(file, slots=False) == ()
    assert np.array_equal(other.params["mlp/dense_1/w"], gn.load(file).params["mlp/dense_1/w"])
    with pytest.raises(gn.FileError, match=r"'mlp/dense_1/b' is only in the file; .* and \d+ more"):
        compiled(reader, 6, 3, 2).restore(file)
