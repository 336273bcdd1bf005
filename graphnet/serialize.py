"""What a saved net holds, as a document of plain values and named arrays, and back.

    param/NAME  slot/NAME  state/N  state_init/N  constant/N  rng/seed  rng/step      arrays
    everything else: traced graphs, names in order, optimiser, types, metadata        the document

Reading trusts nothing: whatever is wrong is one CompileError (or another GraphnetError), and no array is
larger than the file it came from.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnet import tree
from graphnet.compiler.infer import check_type, fail
from graphnet.compiler.ir import Constant, Node, Type, leaf, reintern, session
from graphnet.compiler.serialize import Reader, Writer, count, entries, fields, read_type, text, write_type
from graphnet.container import plain, restored
from graphnet.optim import Optimizer, from_config
from graphnet.program import Traced
from graphnet.trace import Declared

FORMAT = 1
KEYS = (
    *("format", "name", "loss", "backend", "inputs", "target", "targets", "max_plans", "optimizer", "metadata"),
    *("params", "slots", "states", "traced", "constants", "where"),
)
MAX_LEVELS = 30
MAX_FIELDS = 1000
Json = Any
StateKey = tuple[str, Type]
_SCALAR = Type((), "uint64")


@dataclass(frozen=True)
class Contents:
    """Everything a file keeps of a net. ``states`` maps name and type to the value and the initial value."""

    name: str
    loss_name: str
    backend: str
    inputs: tuple[Type, ...]
    target: Type | None
    targets: Mapping[Type, Type]
    max_plans: int
    optimizer: Optimizer | None
    metadata: Mapping[str, Any]
    traced: tuple[Traced, ...]
    params: Mapping[str, np.ndarray]
    slots: Mapping[str, np.ndarray]
    states: Mapping[StateKey, tuple[np.ndarray, np.ndarray]]
    seed: int
    step: int


# -- writing ------------------------------------------------------------------------------------------


def write_contents(c: Contents) -> tuple[dict[str, Json], dict[str, np.ndarray]]:
    """The document and the arrays; the same net gives the same ones."""
    writer = Writer()
    document = {
        "format": FORMAT,
        "name": c.name,
        "loss": c.loss_name,
        "backend": c.backend,
        "inputs": [write_type(t) for t in c.inputs],
        "target": _write_optional(c.target),
        "targets": [[write_type(output), write_type(target)] for output, target in c.targets.items()],
        "max_plans": c.max_plans,
        "optimizer": _write_optimizer(c.optimizer, writer),
        "metadata": {name: plain(value) for name, value in c.metadata.items()},
        "params": list(c.params),
        "slots": list(c.slots),
        "states": [[name, write_type(type_)] for name, type_ in c.states],
        "traced": [_write_traced(t, writer) for t in c.traced],
    }
    document |= {"constants": len(writer.constants), "where": writer.wheres}
    arrays = {f"param/{name}": array for name, array in c.params.items()}
    arrays |= {f"slot/{name}": array for name, array in c.slots.items()}
    for i, (value, initial) in enumerate(c.states.values()):
        arrays |= {f"state/{i}": value, f"state_init/{i}": initial}
    for i, constant in enumerate(writer.constants):
        arrays[f"constant/{i}"] = np.frombuffer(constant.data, constant.dtype).reshape(constant.shape)
    arrays |= {"rng/seed": np.array(c.seed, np.uint64), "rng/step": np.array(c.step, np.uint64)}
    # not ascontiguousarray, which gives scalars an axis
    return document, {name: np.asarray(array, order="C") for name, array in arrays.items()}


def _write_optional(type_: Type | None) -> Json:
    return None if type_ is None else write_type(type_)


def _write_optimizer(optimizer: Optimizer | None, writer: Writer) -> Json:
    if optimizer is None:
        return None
    config = optimizer.config()
    values = {key: {n: writer.value(v) for n, v in config[key].items()} for key in ("hyper", "fixed")}
    return {"name": config["name"], **values}


def _write_traced(traced: Traced, writer: Writer) -> Json:
    with session():
        graph = writer.graph(reintern(traced.graph))
    return {
        "graph": graph,
        "target": _write_optional(traced.target.out if traced.target is not None else None),
        "params": [[name, d.node.attrs["role"] == "param", writer.where(d.where)] for name, d in traced.params.items()],
        "states": [[name, write_type(d.node.out), writer.where(d.where)] for name, d in traced.states.items()],
        "outputs": _write_structure(traced.outputs, writer),
    }


def _write_structure(structure: tree.Structure, writer: Writer) -> Json:
    kind = structure.kind
    if kind is None:
        return "*"
    if kind is type(None):
        return None
    children = [_write_structure(child, writer) for child in structure.children]
    if issubclass(kind, dict):
        return {"dict": [[writer.value(k), c] for k, c in zip(structure.keys, children, strict=True)]}
    names = getattr(kind, "_fields", None)
    if names is not None:
        return {"named": [kind.__name__, list(names), children]}
    return {"list" if issubclass(kind, list) else "tuple": children}


# -- reading ------------------------------------------------------------------------------------------


class _Arrays:
    """The arrays of a file, each of which must be wanted once."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._left = dict(arrays)

    def take(self, name: str, type_: Type | None = None) -> np.ndarray:
        """The array of this name (and type)."""
        array = self._left.pop(name, None)
        if array is None:
            fail(f"array {name!r} is missing")
        found = check_type(type_of(array), f"array {name!r}")
        if type_ is not None and found != type_:
            fail(f"array {name!r} is {found}, its graph needs {type_}")
        if found.dtype == "bool" and array.size and array.view(np.uint8).max() > 1:
            fail(f"array {name!r} holds bytes that are neither true nor false")
        return array

    def finish(self) -> None:
        if self._left:
            fail(f"array {next(iter(self._left))!r} belongs to nothing")


def type_of(array: np.ndarray) -> Type:
    return Type(tuple(array.shape), array.dtype.name)


def read_contents(document: Json, arrays: Mapping[str, np.ndarray]) -> Contents:
    """Check and read what ``write_contents`` made; raises CompileError or another GraphnetError."""
    version = document.get("format") if isinstance(document, dict) else None
    if type(version) is int and version > FORMAT:
        fail(f"it has format {version}, this graphnet reads up to {FORMAT}: install a newer one")
    data, left = fields(document, KEYS, "the document"), _Arrays(arrays)
    count(version, "format", FORMAT + 1)
    constants = [_constant(left.take(f"constant/{i}")) for i in range(count(data["constants"], "constants"))]
    reader = Reader(data["where"], constants)
    params = {name: left.take(f"param/{name}") for name in _names(data["params"], "params")}
    types = {name: type_of(array) for name, array in params.items()}
    traced = tuple(_read_traced(t, reader, types) for t in entries(data["traced"], "traced"))
    optimizer = _read_optimizer(data["optimizer"], reader)
    slots = slot_types(optimizer, traced)
    states = _state_keys(data["states"])
    c = Contents(
        name=text(data["name"], "name"),
        loss_name=text(data["loss"], "loss"),
        backend=text(data["backend"], "backend"),
        inputs=tuple(read_type(t) for t in entries(data["inputs"], "inputs")),
        target=_read_optional(data["target"]),
        targets=dict(_read_targets(data["targets"])),
        max_plans=count(data["max_plans"], "max_plans"),
        optimizer=optimizer,
        metadata={name: restored(v) for name, v in _object(data["metadata"]).items()},
        traced=traced,
        params=params,
        slots={n: left.take(f"slot/{n}", _known(slots, n)) for n in _names(data["slots"], "slots")},
        states={
            key: (left.take(f"state/{i}", key[1]), left.take(f"state_init/{i}", key[1])) for i, key in enumerate(states)
        },
        seed=int(left.take("rng/seed", _SCALAR)),
        step=int(left.take("rng/step", _SCALAR)),
    )
    left.finish()
    _check_whole(c)
    return c


def _object(data: Json) -> dict[str, Json]:
    return data if isinstance(data, dict) else fail("metadata: need an object")


def _names(data: Json, what: str) -> list[str]:
    names = [text(name, what) for name in entries(data, what)]
    if len(set(names)) != len(names):
        fail(f"{what}: a name repeats")
    return names


def _known(types: Mapping[str, Type], name: str) -> Type:
    if name not in types:
        fail(f"slot {name!r} belongs to no parameter and optimiser of the file")
    return types[name]


def _constant(array: np.ndarray) -> Constant:
    return Constant(array.tobytes(), tuple(array.shape), array.dtype.name)


def _read_optional(data: Json) -> Type | None:
    return None if data is None else read_type(data)


def _read_targets(data: Json) -> Iterable[tuple[Type, Type]]:
    for item in entries(data, "targets"):
        output, target = entries(item, "targets", 2)
        yield read_type(output), read_type(target)


def _state_keys(data: Json) -> list[StateKey]:
    keys = []
    for item in entries(data, "states"):
        name, type_ = entries(item, "state", 2)
        keys.append((text(name, "state"), read_type(type_)))
    if len(set(keys)) != len(keys):
        fail("states: one repeats")
    return keys


def _read_optimizer(data: Json, reader: Reader) -> Optimizer | None:
    if data is None:
        return None
    data = fields(data, ("name", "hyper", "fixed"), "optimizer")
    values = {key: {n: reader.value(v) for n, v in _object(data[key]).items()} for key in ("hyper", "fixed")}
    optimizer = from_config({"name": text(data["name"], "optimizer"), **values})
    usual = type(optimizer)().config()["fixed"]
    if any(type(value) is not type(usual[name]) for name, value in values["fixed"].items()):
        fail(f"optimizer {data['name']}: an option has the wrong type")
    return optimizer


def slot_types(optimizer: Optimizer | None, traced: Iterable[Traced]) -> dict[str, Type]:
    """Every slot that the optimiser may keep for these models."""
    if optimizer is None:
        return {}
    types = {"optimizer/t": Type((), "int32")} if optimizer.counts else {}
    for t in traced:
        for name, declared in t.params.items():
            if declared.node.attrs["role"] == "param":
                types |= {f"{slot}/{name}": declared.node.out for slot in optimizer.active_slots()}
    return types


def _read_traced(data: Json, reader: Reader, types: Mapping[str, Type]) -> Traced:
    with session():
        return _read_model(data, reader, types)


def _read_model(data: Json, reader: Reader, types: Mapping[str, Type]) -> Traced:
    data = fields(data, ("graph", "target", "params", "states", "outputs"), "traced model")
    graph = reader.graph(data["graph"])
    target_type = _read_optional(data["target"])
    target = None if target_type is None else leaf("target", "target", target_type)
    params, states = {}, {}
    for item in entries(data["params"], "params"):
        name, trainable, where = entries(item, "param", 3)
        if type(trainable) is not bool or text(name, "param") not in types:
            fail(f"param {name!r} has no array")
        role = "param" if trainable else "state"
        params[name] = _declared(name, role, types[name], reader, where)
    for item in entries(data["states"], "states"):
        name, type_, where = entries(item, "state", 3)
        states[text(name, "state")] = _declared(name, "state", read_type(type_), reader, where)
    outputs = _read_structure(data["outputs"], reader, 0)
    traced = Traced(graph, params, states, graph.inputs, target, outputs)
    _check_leaves(traced)
    _check_results(traced)
    return traced


def _declared(name: str, role: str, type_: Type, reader: Reader, where: Json) -> Declared:
    # the values are in the file; initialisers are not, and nothing asks for them
    return Declared(leaf(name, role, type_, reader.where(where)), 0.0, reader.where(where))


def _check_leaves(traced: Traced) -> None:
    """Every leaf of the graph is a declared one; memory is found by name, so no two share a name."""
    declared = [*(d.node for d in traced.params.values()), *(d.node for d in traced.states.values())]
    targets = [traced.target] if traced.target is not None else []
    counters = [leaf(name, "rng", _SCALAR) for name in ("rng/seed", "rng/step")]
    known: set[Node] = {*traced.inputs, *declared, *targets, *counters}
    names = [n.attrs["name"] for n in known]
    if len(set(names)) != len(names):
        fail("two inputs, parameters or states share a name")
    for node in traced.graph.leaves():
        if node not in known:
            fail(f"{node} is not declared, or declared with another type or role")
    if any(n.attrs["role"] != "input" for n in traced.inputs):
        fail("an input has another role")
    states = {d.node for d in traced.states.values()}
    if any(home not in states for home, _ in traced.graph.updates):
        fail("something else than a state is updated")


def _check_results(traced: Traced) -> None:
    results = dict(traced.graph.outputs)
    leaves = _leaf_count(traced.outputs)
    expected = ["output"] if leaves == 1 else [f"output/{i}" for i in range(leaves)]
    names = [name for name, _ in traced.graph.outputs]
    if not leaves or names not in (expected, [*expected, "loss"]):
        fail("the results are not those of a model")
    if "loss" in results and (results["loss"].shape != () or not results["loss"].out.is_float):
        fail("the loss is no scalar")


def _leaf_count(structure: tree.Structure) -> int:
    return 1 if structure.kind is None else sum(map(_leaf_count, structure.children))


def _read_structure(data: Json, reader: Reader, level: int) -> tree.Structure:
    if data == "*":
        return tree.LEAF
    if data is None:
        return tree.Structure(type(None))
    if not isinstance(data, dict) or len(data) != 1 or level > MAX_LEVELS:
        fail("the nest of outputs is wrong or too deep")
    ((kind, inner),) = data.items()
    if kind == "dict":
        pairs = [entries(item, "outputs", 2) for item in entries(inner, "outputs")]
        keys = tuple(reader.value(key) for key, _ in pairs)
        if len(set(keys)) != len(keys):
            fail("outputs: a key repeats")
        return tree.Structure(dict, keys, _read_children([c for _, c in pairs], reader, level))
    if kind == "named":
        name, names, inner = entries(inner, "outputs", 3)
        named = _named_tuple(name, entries(names, "outputs", len(entries(inner, "outputs"))))
        return tree.Structure(named, tuple(range(len(inner))), _read_children(inner, reader, level))
    if kind not in ("list", "tuple"):
        fail(f"outputs: unknown kind {kind!r}")
    children = _read_children(entries(inner, "outputs"), reader, level)
    return tree.Structure(list if kind == "list" else tuple, tuple(range(len(children))), children)


def _read_children(items: Sequence[Json], reader: Reader, level: int) -> tuple[tree.Structure, ...]:
    return tuple(_read_structure(item, reader, level + 1) for item in items)


def _named_tuple(name: Json, names: list[Json]) -> type:
    if len(names) > MAX_FIELDS:
        fail(f"outputs: more than {MAX_FIELDS} fields")
    try:
        return collections.namedtuple(text(name, "outputs"), [text(n, "outputs") for n in names])
    except ValueError as error:
        fail(f"outputs: {error}")


def _check_whole(c: Contents) -> None:
    """What the parts must agree on."""
    if not c.max_plans:
        fail("max_plans is 0")
    signatures = [t.signature for t in c.traced]
    if len(set(signatures)) != len(signatures):
        fail("a model is traced twice for the same inputs")
    if (c.inputs, None, False) not in signatures or (c.inputs, c.target, False) not in signatures:
        fail("there is no inference graph for the compiled inputs")
    if len({tuple(n.attrs["name"] for n in t.inputs) for t in c.traced}) != 1:
        fail("the inputs have several names")
    declared = {(name, d.node.out) for t in c.traced for name, d in t.states.items()}
    if declared != set(c.states) or {name for t in c.traced for name in t.params} != set(c.params):
        fail("the declared parameters and states are not those of the file")
    names = {n.attrs["name"] for t in c.traced for n in t.graph.leaves()} | {n for n, _ in c.states}
    hyper = {f"optimizer/{name}" for name in c.optimizer.hyper} if c.optimizer is not None else set()
    taken = sorted((names | set(c.params)) & (hyper | set(slot_types(c.optimizer, c.traced))))
    if taken:
        fail(f"{taken[0]!r} names a parameter and a slot of the optimiser")
