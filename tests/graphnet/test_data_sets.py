"""What the loaders return; the tests on real files skip where GRAPHNET_DATA does not hold them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphnet.compiler.errors import DataError
from graphnet.data import (
    NAMES,
    Dataset,
    Text,
    diabetes,
    digits,
    housing,
    load,
    mnist,
    python_topics,
    sequences,
    shakespeare,
    sources,
)
from graphnet.data.fetch import Found
from graphnet.data.images import _bilinear, parse_idx


def held(folder: Path, *wanted: sources.Source) -> Path:
    missing = [source.file for source in wanted if not (folder / source.file).is_file()]
    if missing:
        pytest.skip(f"GRAPHNET_DATA does not hold {', '.join(missing)}")
    return folder


def test_mnist_is_the_genuine_one(data_dir: Path) -> None:
    """Shapes, types, range, and figures known of MNIST: the first labels and the mean pixel."""
    folder = held(
        data_dir,
        sources.MNIST_TRAIN_IMAGES,
        sources.MNIST_TRAIN_LABELS,
        sources.MNIST_TEST_IMAGES,
        sources.MNIST_TEST_LABELS,
    )
    data = mnist(folder)
    assert (data.x_train.shape, data.x_test.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.int32)
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.x_train.mean(dtype=np.float64) == pytest.approx(0.1306604, abs=1e-6)
    assert str(folder / "mnist") in data.source


def test_housing_columns_are_normalised(data_dir: Path) -> None:
    """Every column has mean 0 and standard deviation 1 (n - 1), and y stays in $1000s."""
    folder = held(data_dir, sources.HOUSING)
    data = housing(folder)
    assert (data.x_train.shape, data.y_train.shape) == ((506, 13), (506, 1))
    assert data.x_train.dtype == data.y_train.dtype == np.float32
    np.testing.assert_allclose(data.x_train.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(data.x_train.std(axis=0, ddof=1, dtype=np.float64), 1, atol=1e-6)
    assert data.y_train[:3, 0].tolist() == pytest.approx([24.0, 21.6, 34.7])
    assert data.feature_names[0] == "CRIM"
    assert data.feature_names[-1] == "LSTAT"
    assert data.x_test is data.x_train
    assert data.y_test is data.y_train


def test_complete_works_keep_every_character(data_dir: Path) -> None:
    """The known edition of 5,589,889 bytes is 5,589,887 characters: its mark of 3 bytes is one of them."""
    folder = held(data_dir, sources.SHAKESPEARE)
    path = folder / sources.SHAKESPEARE.file
    if path.stat().st_size != 5_589_889:
        pytest.skip("GRAPHNET_DATA holds another edition")
    text = shakespeare(folder)
    assert (len(text.text), len(text.vocabulary)) == (5_589_887, 93)
    assert text.text.encode() == path.read_bytes()
    assert len(sequences(text.ids, 128, 100)) == 436
    assert text.decode(text.ids[-2000:]) == text.text[-2000:]


def test_tinyshakespeare_is_the_genuine_one(data_dir: Path) -> None:
    """1,115,394 characters of 65, as everyone who trains on it reports."""
    folder = held(data_dir, sources.TINYSHAKESPEARE)
    text = load("tinyshakespeare", folder)
    assert isinstance(text, Text)
    assert (len(text.text), len(text.vocabulary), text.name) == (1_115_394, 65, "tinyshakespeare")
    assert text.text.startswith("First Citizen:\n")


def test_digits_look_like_mnist_and_split_by_class() -> None:
    """1,437 and 360 images in MNIST's form, every digit in proportion, the same split every time."""
    pytest.importorskip("sklearn")
    data = digits()
    assert (data.x_train.shape, data.x_test.shape) == ((1437, 1, 28, 28), (360, 1, 28, 28))
    assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.int32)
    assert data.x_train.min() == 0
    assert data.x_train.max() == 1
    share = np.bincount(data.y_test) / np.bincount(np.concatenate([data.y_train, data.y_test]))
    np.testing.assert_allclose(share, 360 / 1797, atol=0.005)
    assert np.bincount(data.y_test).sum() == 360
    again = digits()
    np.testing.assert_array_equal(again.x_test, data.x_test)
    assert data.y_test[:10].tolist() == [0, 0, 0, 5, 8, 2, 3, 3, 3, 3]


def test_digits_enlarge_without_shifting() -> None:
    """Enlarging keeps brightness and mirror images, and a ramp stays one between the outer pixel centres."""
    enlarge = _bilinear(8, 28)
    np.testing.assert_allclose(enlarge.sum(axis=1), 1)
    np.testing.assert_allclose(enlarge, enlarge[::-1, ::-1], atol=1e-15)
    np.testing.assert_allclose(np.diff(enlarge @ np.arange(8.0))[2:-2], 8 / 28)


def test_diabetes_keeps_the_raw_target() -> None:
    """x is normalised like housing; y is the study's own scale, 25 to 346."""
    pytest.importorskip("sklearn")
    data = diabetes()
    assert (data.x_train.shape, data.y_train.shape) == ((442, 10), (442, 1))
    np.testing.assert_allclose(data.x_train.std(axis=0, ddof=1, dtype=np.float64), 1, atol=1e-6)
    assert (data.y_train.min(), data.y_train.max()) == (25, 346)
    assert data.feature_names[:3] == ("age", "sex", "bmi")


@pytest.mark.parametrize("loader", [digits, diabetes])
def test_missing_sklearn_is_one_line(loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn the embedded sets say what to install."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"^(digits|diabetes): needs scikit-learn .*pip install scikit-learn$"):
        loader()  # type: ignore[operator]


def test_import_is_light() -> None:
    """Importing graphnet.data does not load scikit-learn, which takes longer than all the rest."""
    script = "import sys, graphnet.data; print([m for m in sys.modules if m == 'sklearn'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_topics_are_a_text_of_some_size() -> None:
    """Python's help is there without a network, long enough to train on."""
    text = python_topics()
    assert len(text.text) > 300_000
    assert 80 < len(text.vocabulary) < 300
    assert "pydoc_data.topics of" in text.source


def test_missing_topics_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that comes without its help topics is told apart from a bug."""
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"^topics: this Python comes without pydoc_data\.topics"):
        python_topics()


def test_vocabulary_is_sorted_and_indexed_by_id() -> None:
    """The vocabulary is the sorted set of characters, a character's index its id, beyond the BMP too."""
    text = Text("béa\r\nab😀\ud800", "toy", "a test")
    assert text.vocabulary == "".join(sorted(set(text.text)))
    assert text.ids.dtype == np.int32
    assert [text.vocabulary[i] for i in text.ids] == list(text.text)
    np.testing.assert_array_equal(text.encode(text.text), text.ids)
    assert text.decode(text.ids) == text.text
    assert text.decode(text.ids.tolist()) == text.text
    assert text.decode(text.ids[0]) == "b"
    assert text.encode("").shape == (0,)
    assert text.decode([]) == ""


def test_unknown_character_is_one_line() -> None:
    """A character outside the vocabulary is named with its place, in ASCII whatever it is."""
    text = Text("abc", "toy", "a test")
    with pytest.raises(DataError, match=r"^toy: encode: character '\\xe9' at position 2 is not among the 3"):
        text.encode("abé")
    with pytest.raises(DataError, match=r"character '\\n' at position 0"):
        text.encode("\n")
    with pytest.raises(DataError, match="not among the 0"):
        Text("", "empty", "a test").encode("a")


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([0, 3], "id 3 at position 1: ids run from 0 to 2"),
        ([-1], "id -1 at position 0"),
        ([0.5], "ids are float64: pass integers"),
        ([[0, 1]], r"ids have shape \(1, 2\): decode one row at a time"),
    ],
)
def test_wrong_ids_are_one_line(ids: list[object], words: str) -> None:
    """Ids that name no character are refused rather than wrapped around."""
    with pytest.raises(DataError, match=words):
        Text("abc", "toy", "a test").decode(ids)  # type: ignore[arg-type]


def test_records_print_in_one_line() -> None:
    """A Dataset or Text shows its shapes and origin, not its contents, and cannot be reassigned."""
    zeros = np.zeros((2, 3), dtype=np.float32)
    data = Dataset(zeros, zeros, zeros, zeros, "toy", "a test")
    assert repr(data).startswith("Dataset(toy: x_train=float32(2, 3), ")
    assert repr(Text("abca", "toy", "a test")) == "Text(toy: 4 characters, 3 distinct, from a test)"
    with pytest.raises(AttributeError):
        data.name = "other"  # type: ignore[misc]


def idx(contents: bytes) -> Found:
    return Found(contents, Path("toy.gz"), None)


def test_idx_file_becomes_an_array() -> None:
    """Rank and sizes come from the header, the data row-major."""
    header = bytes((0, 0, 8, 2)) + (2).to_bytes(4, "big") + (3).to_bytes(4, "big")
    assert parse_idx(idx(header + bytes(range(6)))).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "not an IDX file"),
        (bytes((0, 0, 8, 3)) + bytes(8), "not an IDX file"),
        (bytes((0, 0, 13, 1)) + bytes(4), "not an IDX file"),
        (bytes((0, 0, 8, 0)) + bytes(4), r"shape \(\) needs"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 9)) + bytes(8), r"holds 16 bytes where shape \(9,\) needs 17"),
        (bytes((0, 0, 8, 2)) + b"\xff" * 8, "needs 18,446,744,065,119,617,037"),
    ],
)
def test_short_idx_file_is_one_line(contents: bytes, words: str) -> None:
    """A file shorter than its header promises is named, with both sizes."""
    with pytest.raises(DataError, match=f"^toy.gz: .*{words}"):
        parse_idx(idx(contents))


def test_load_knows_the_names() -> None:
    """Every name leads to its set; a slip is answered with the nearest name and all of them."""
    assert NAMES == ("mnist", "housing", "shakespeare", "tinyshakespeare", "digits", "diabetes", "topics")
    assert load("topics").name == "topics"
    with pytest.raises(DataError, match=r"unknown data set 'minst': did you mean 'mnist'\? use one of mnist, "):
        load("minst")
    with pytest.raises(DataError, match=r"unknown data set 'xyz\\n': use one of"):
        load("xyz\n")
    with pytest.raises(DataError, match=r"^shakespeare: unknown edition 100: did you mean '100'\?"):
        shakespeare(edition=100)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["digits", "diabetes", "topics"])
def test_embedded_sets_carry_their_own_name(name: str) -> None:
    """load(name).name is name, so that a report can be traced back."""
    if name != "topics":
        pytest.importorskip("sklearn")
    assert load(name).name == name
