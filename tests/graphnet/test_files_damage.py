"""Files that are no saved nets, or no longer: truncated, altered, forged. Each is one FileError line."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import graphnet as gn
from graphnet.container import pack, unpack

MARK = b'"graphnet":"{\\"checksum\\":\\"'
Document = dict[str, Any]
Arrays = dict[str, np.ndarray]


@gn.model
def small(x: Any) -> Any:
    x = gn.layers.dropout(gn.layers.batch_norm(gn.layers.dense(x, 2)), 0.5)
    return gn.layers.dense(gn.scan(lambda c, row: (c + row, c), x[0], x)[1], 3)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small saved net with batch statistics, dropout, a loop and an optimiser."""
    loss = gn.losses.softmax_cross_entropy
    net = gn.compile(small, gn.spec((3, 2)), loss=loss, optimizer=gn.optim.Adam())
    net.step(np.ones((3, 2), "f4"), np.zeros(3, "i4"))
    return net.save(tmp_path_factory.mktemp("good") / "a.gnet", classes=["x"]).read_bytes()


def refusal(folder: Path, data: bytes) -> str:
    """The one line that loading these bytes ends with, without the path in front."""
    path = folder / "bad.gnet"
    path.write_bytes(data)
    with pytest.raises(gn.FileError) as caught:
        gn.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


def test_every_truncation_is_found(good: bytes, tmp_path: Path) -> None:
    """Cut anywhere, also inside the header and just before the end, a file is refused."""
    cuts = {*range(1, 70), *range(100, len(good), len(good) // 70), *range(len(good) - 30, len(good))}
    for cut in sorted(cuts):
        assert "truncated" in refusal(tmp_path, good[:cut]) or cut < 8
    assert "it is empty" in refusal(tmp_path, b"")
    assert "does not match" in refusal(tmp_path, good + b"\0")


def test_every_flipped_bit_is_found(good: bytes, tmp_path: Path) -> None:
    """200 bits spread over length, header, checksum, padding and arrays: none changes unseen."""
    for place in np.linspace(0, len(good) * 8 - 1, 200, dtype=int):
        data = bytearray(good)
        data[place // 8] ^= 1 << place % 8
        refusal(tmp_path, bytes(data))


@hypothesis.given(st.binary(max_size=300), st.integers(0, 60))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int) -> None:
    """Random bytes, alone and behind a header length that fits or a start that looks right."""
    folder = tmp_path_factory.mktemp("random")
    refusal(folder, data)
    refusal(folder, size.to_bytes(8, "little") + data)
    text = b'{"__metadata__":{' + MARK + b"0" * size + data
    refusal(folder, len(text).to_bytes(8, "little") + text)


def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, a folder, a pipe without end, and one that may not be read."""
    os.mkfifo(tmp_path / "pipe")
    expected = {
        tmp_path / "none.gnet": "cannot be read: No such file or directory: give the path of a saved net",
        tmp_path: "it is no regular file: give the path of a saved net",
        tmp_path / "pipe": "it is no regular file: give the path of a saved net",
        tmp_path / "a\0b": "",
    }
    for path, message in expected.items():
        with pytest.raises(gn.FileError) as caught:
            gn.load(path)
        assert message in str(caught.value)

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.gnet").touch()
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(gn.FileError, match="cannot be read: Permission denied"):
        gn.load(str(tmp_path / "a.gnet"))


# -- forgeries: the checksum is right ------------------------------------------------------------------


def sealed(header: bytes, arrays: bytes) -> bytes:
    """A container with any header and the checksum it claims; worked out here anew, to pin the format."""
    start = header.index(MARK) + len(MARK)
    blank = header[:start] + b"0" * 64 + header[start + 64 :]
    data = len(header).to_bytes(8, "little") + blank + arrays
    digits = hashlib.sha256(data).hexdigest().encode()
    return data[: 8 + start] + digits + data[8 + start + 64 :]


def parts(good: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(good[:8], "little")
    return good[8 : 8 + size], good[8 + size :]


def test_checksum_is_sha256_of_the_file_with_its_digits_zero(good: bytes) -> None:
    """The format, worked out a second time."""
    assert sealed(*parts(good)) == good


W = b'"param/small/dense_1/w":{"dtype":"F32","shape":[2,2]'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (W, W.replace(b"[2,2]", b"[-2,-2]"), "SafetensorError"),
        (W, W.replace(b"[2,2]", b"[4611686018427387904,4611686018427387904]"), "SafetensorError"),
        (W, W.replace(b"[2,2]", b"[1000000,1000000]"), "SafetensorError"),
        (W, W.replace(b"[2,2]", b"[4,1]"), "not declared"),
        (W, W.replace(b"F32", b"I32"), "not declared"),
        (W, W.replace(b"F32", b"F33"), "Error"),
        (W, W.replace(b"F32", b"BF16").replace(b"[2,2]", b"[8]"), "Error"),
        (W, W.replace(b"F32", b"F16").replace(b"[2,2]", b"[8]"), "float16(8)"),
        (W, W + b',"shape":[2,2]', "a key repeats"),
        (W, W.replace(b"small", b"sm\xffll"), "UnicodeDecodeError"),
        (W, W.replace(b"small", b"other"), "missing"),
        (W, b'"more":' + b"[" * 100_000 + b"]" * 100_000 + b"," + W, "RecursionError"),
        (W, b'"more":NaN,' + W, "NaN is not JSON"),
        (W, b'"more":1e999,' + W, "1e999 is not JSON"),
        (W, b'"more":' + b"9" * 5000 + b"," + W, "ValueError"),
        (b'"data_offsets":[0,', b'"data_offsets":[8,', "SafetensorError"),
        (b'{"__metadata__":{', b'{"__metadata__":{"more":"x",', "its metadata is not that of a saved net"),
        (b'\\"format\\":1', b'\\"format\\":2', "install a newer one"),
        (b'\\"format\\":1', b'\\"format\\":0.5', "need an integer"),
        (b'\\"format\\":1', b'\\"form\\":1', "need an object with"),
        (b'\\"max_plans\\":16', b'\\"max_plans\\":NaN', "NaN is not JSON"),
    ],
    ids=lambda v: None if isinstance(v, str) else v[:40].decode(errors="replace"),
)
def test_forged_headers_are_refused(good: bytes, tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    """Shapes, dtypes, offsets, names and numbers that no writer writes."""
    header, arrays = parts(good)
    assert old in header
    assert said in refusal(tmp_path, sealed(header.replace(old, new, 1), arrays))


def test_header_length_beyond_the_file_allocates_nothing(good: bytes, tmp_path: Path) -> None:
    """A length of 2**64 - 1 is compared with the file, not read."""
    assert "truncated" in refusal(tmp_path, b"\xff" * 8 + good[8:])


def node_of(document: Document, op: str) -> Document:
    """The first node of this op in the first graph that has one."""
    nodes = [n for traced in document["traced"] for n in traced["graph"]["nodes"]]
    return next(n for n in nodes if n["op"] == op)


def graph(document: Document) -> Document:
    found: Document = document["traced"][0]["graph"]
    return found


def put(path: str, value: Any) -> Callable[[Document, Arrays], None]:
    """An edit: the entry at ``a/0/b`` of the document becomes ``value``."""

    def edit(document: Document, arrays: Arrays) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        functools.reduce(lambda at, key: at[key], way, document)[last] = value

    return edit


def nested(document: Document, arrays: Arrays) -> None:
    body = node_of(document, "scan")["attrs"]["body"]
    for _ in range(80):
        body = {"graph": {"name": "", "inputs": [], "nodes": [], "outputs": [], "updates": []}}
        node = copy.deepcopy(node_of(document, "scan"))
        body["graph"]["nodes"] = [node]
        node_of(document, "scan")["attrs"]["body"] = body


FORGERIES: dict[str, tuple[Callable[[Document, Arrays], object], str]] = {
    "unknown op": (lambda d, a: node_of(d, "matmul").update(op="system"), "unknown op 'system'"),
    "fused op": (lambda d, a: node_of(d, "matmul").update(op="fused"), "unknown op 'fused'"),
    "forward reference": (put("traced/0/graph/nodes/1/inputs", [2]), "no earlier node"),
    "own result": (lambda d, a: node_of(d, "matmul").update(inputs=[99, 99]), "no earlier node"),
    "negative reference": (lambda d, a: node_of(d, "matmul").update(inputs=[-1, -1]), "no earlier node"),
    "boolean reference": (lambda d, a: node_of(d, "matmul").update(inputs=[True, 0]), "no earlier node"),
    "operand count": (lambda d, a: node_of(d, "matmul").update(inputs=[0]), "takes x, y, got 1"),
    "wrong type": (lambda d, a: node_of(d, "matmul").update(type=["float64", 3, 2]), "its operands give"),
    "huge type": (put("traced/0/graph/nodes/0/type", ["float32", 10**9, 10**9]), "larger than"),
    "long type": (put("traced/0/graph/nodes/0/type", ["float32", *[1] * 99]), "not a type"),
    "negative size": (put("traced/0/graph/nodes/0/type", ["float32", -3, 2]), "need an integer"),
    "dtype": (put("traced/0/graph/nodes/0/type", ["object", 3, 2]), "not a type"),
    "dtype is a list": (put("traced/0/graph/nodes/0/type", [[], 3, 2]), "need a dtype"),
    "role": (put("traced/0/graph/nodes/0/attrs/role", "slot"), "another role"),
    "body role outside": (put("traced/0/graph/nodes/0/attrs/role", "carry"), "not possible here"),
    "name": (put("traced/0/graph/nodes/0/attrs/name", "a\nb"), "attribute name may not be"),
    "extra attribute": (lambda d, a: node_of(d, "matmul")["attrs"].update(x=1), "attributes are none"),
    "missing attribute": (lambda d, a: node_of(d, "scan")["attrs"].pop("length"), "attributes are body"),
    "attribute kind": (lambda d, a: node_of(d, "scan")["attrs"].update(length=3.0), "length may not be"),
    "long loop": (lambda d, a: node_of(d, "scan")["attrs"].update(length=10**15), "scan"),
    "loop of other length": (lambda d, a: node_of(d, "scan")["attrs"].update(length=4), "differ"),
    "loop counts": (lambda d, a: node_of(d, "scan")["attrs"].update(carries=9), "do not add up"),
    "no body": (lambda d, a: node_of(d, "scan")["attrs"].update(body=3), "body may not be"),
    "deep bodies": (nested, "nested more than"),
    "deep attribute": (
        lambda d, a: node_of(d, "scan")["attrs"].update(length=json.loads("[" * 200 + "]" * 200)),
        "nested more than",
    ),
    "result twice": (lambda d, a: graph(d)["outputs"].append(graph(d)["outputs"][0]), "repeat"),
    "no result": (lambda d, a: graph(d)["outputs"].clear(), "not those of a model"),
    "input twice": (lambda d, a: graph(d)["inputs"].append(graph(d)["inputs"][0]), "listed twice"),
    "node is a number": (put("traced/0/graph/nodes/0", 3), "need an object"),
    "nodes are a number": (put("traced/0/graph/nodes", 3), "need a list"),
    "source line": (put("traced/0/graph/nodes/0/where", 10**6), "source line"),
    "source file": (put("where/0/0", "a\nb"), "need printable text"),
    "constant": (put("constants", 0), "constant"),
    "many constants": (put("constants", 10**12), "missing"),
    "no graphs": (put("traced", []), "belongs to no parameter"),
    "graph twice": (lambda d, a: d["traced"].append(d["traced"][0]), "traced twice"),
    "other inputs": (put("inputs", [["float32", 9, 2]]), "no inference graph"),
    "other target": (put("target", ["int32", 9]), "no inference graph"),
    "nest": (put("traced/0/outputs", {"list": ["*", "*"]}), "not those of a model"),
    "nest kind": (put("traced/0/outputs", {"set": ["*"]}), "unknown kind 'set'"),
    "nest fields": (put("traced/0/outputs", {"named": ["P", ["__class__"], ["*"]]}), "underscore"),
    "deep nest": (put("traced/0/outputs", json.loads('{"list":[' * 90 + '"*"' + "]}" * 90)), "too deep"),
    "state repeats": (lambda d, a: d["states"].append(d["states"][0]), "repeats"),
    "param is a state": (put("traced/0/params/0/1", False), "not declared"),
    "param of no array": (put("traced/0/params/0/0", "other"), "has no array"),
    "param without use": (lambda d, a: d["params"].append("more"), "'param/more' is missing"),
    "optimiser": (put("optimizer/name", "Opt"), "optimizer 'Opt' is not one of"),
    "hyperparameter": (put("optimizer/hyper/lr", "0.1"), "lr must be a number"),
    "hyperparameter name": (put("optimizer/hyper/more", 0.1), "do not fit: more"),
    "hyperparameters": (put("optimizer/hyper", []), "need an object"),
    "other optimiser": (
        put("optimizer", {"name": "SGD", "hyper": {"lr": 0.1}, "fixed": {"nesterov": False}}),
        "belongs to no parameter and optimiser",
    ),
    "option kind": (
        put("optimizer", {"name": "SGD", "hyper": {"lr": 0.1}, "fixed": {"nesterov": 1}}),
        "an option has the wrong type",
    ),
    "no slot": (lambda d, a: a.pop(f"slot/{d['slots'].pop()}"), "is missing"),
    "metadata": (put("metadata", []), "need an object"),
    "metadata number": (put("metadata/x", {"float": []}), "TypeError"),
    "max_plans": (put("max_plans", 0), "max_plans is 0"),
    "array missing": (lambda d, a: a.pop("state/0"), "'state/0' is missing"),
    "array too many": (lambda d, a: a.update(more=np.ones(3)), "'more' belongs to nothing"),
    "array shape": (lambda d, a: a.update({"state/0": np.ones(3, "f4")}), "float32(3)"),
    "array dtype": (lambda d, a: a.update({"rng/step": np.zeros((), "f8")}), "float64()"),
    "half floats": (lambda d, a: a.update({"param/small/dense_1/b": np.zeros(2, "f2")}), "float16(2)"),
}


@pytest.mark.parametrize(("edit", "said"), FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_documents_are_refused(
    good: bytes, tmp_path: Path, edit: Callable[[Document, Arrays], object], said: str
) -> None:
    """Whatever a document claims, the checksum being right, the answer is one line and no allocation."""
    document, arrays = unpack(good)
    edit(document, arrays)
    data = pack(json.dumps(document), arrays)
    tracemalloc.start()
    try:
        assert said in refusal(tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every entry of a document."""
    keys = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*way, key) for key, _ in keys] + [w for key, v in keys for w in places(v, (*way, key))]


ODD = st.sampled_from(
    [None, True, -1, 0, 1, 2, 10**6, 2**63, 0.5, "", "x", "float32", "add", [], [0, 0], {}, {"constant": 0}]
)


@hypothesis.given(st.data())
def test_random_changes_load_or_are_refused(
    good: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """One entry of the document replaced by another value: a FileError line, or a net that runs."""
    document, arrays = unpack(good)
    *way, last = data.draw(st.sampled_from(places(document)))
    functools.reduce(lambda at, key: at[key], way, document)[last] = data.draw(ODD)
    path = tmp_path_factory.mktemp("changed") / "a.gnet"
    path.write_bytes(pack(json.dumps(document), arrays))
    try:
        net, line = gn.load(path), ""
    except gn.FileError as error:
        net, line = None, str(error)
    assert line.isprintable()
    assert net is None or net(np.ones((3, 2), "f4")).shape == (3, 3)
