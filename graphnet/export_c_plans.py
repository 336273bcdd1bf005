"""What an exported net is made of: its plans as C text, and its memory laid out as in the weights file."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnet.backend_c import CBackend
from graphnet.compiler.c import Source
from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import Type
from graphnet.compiler.printers.text import Places, clean
from graphnet.compiler.schedule import HOMES, Array, Leaf, Plan, Storage, flat
from graphnet.plan_memory import Homes
from graphnet.tensor import user_where

if TYPE_CHECKING:
    from graphnet.net import Net

MAGIC, VERSION = b"graphnet", 1
HEADER = struct.Struct("<8sIIQQQ24x")
"""The weights file's header: magic, version, number of entries, layout, bytes, checksum."""

LINE = 64
"""Each entry starts at a multiple of so many bytes, as the plans expect their memory."""

KINDS = ("param", "state", "initial", "slot", "hyper", "rng", "constant")
"""Kinds of entries in the order of the file; their first letters but for o, an optimiser's slot, tell them in C."""

_TAKEN = ("main", "threads", "makefile", "gnumakefile", "all", "lib", "clean", "gn")


@dataclass(frozen=True)
class Entry:
    """Memory that outlives a call: the array it comes from and its place in the weights file's data."""

    name: str
    kind: str
    array: np.ndarray
    offset: int

    @property
    def type(self) -> str:
        return str(Type(self.array.shape, self.array.dtype.name))

    @property
    def room(self) -> int:
        return -(-self.array.nbytes // LINE) * LINE


@dataclass(frozen=True)
class Argument:
    """A parameter of a C function: its name there and in Python, and the plan's storage for it, if it is read."""

    name: str
    python: str
    type: Type
    storage: int | None


@dataclass(frozen=True)
class Part:
    """One plan. ``homes`` says where in the weights file's data a storage lies; results are by their C names."""

    mode: str
    plan: Plan
    source: Source
    arguments: tuple[Argument, ...]
    results: Mapping[str, Array]
    homes: Mapping[int, int]

    @property
    def random(self) -> bool:
        return "rng/step" in self.plan.leaves

    def places(self) -> Iterator[tuple[int, str]]:
        """(position, ``lenet.py:14: take``) of each step that reads integers, which may be bad indices."""
        steps = [s for s in flat(self.plan.steps) if isinstance(s, Leaf)]
        places = Places(s.where for s in steps)
        for step in steps:
            if any(a.dtype.startswith("int") for a in step.inputs):
                what = clean(step.where.scope.rpartition("/")[2] or step.op)
                yield step.position, ": ".join(filter(None, (places(step.where), what)))


@dataclass(frozen=True)
class Export:
    """A net ready to be written. ``id`` is its name in C, ``title`` the one it has in Python."""

    id: str
    title: str
    parts: tuple[Part, ...]
    entries: tuple[Entry, ...]
    backend: CBackend

    @property
    def infer(self) -> Part:
        return self.parts[0]

    @property
    def step(self) -> Part | None:
        return self.parts[1] if len(self.parts) > 1 else None

    @property
    def threads(self) -> int:
        return max(part.source.threads for part in self.parts)

    @property
    def arena(self) -> int:
        """Bytes of temporaries of the plan with most of them; plans run one at a time."""
        return max(part.plan.memory.arena for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights file's data."""
        return sum(e.room for e in self.entries)

    @property
    def layout(self) -> int:
        """A number that differs for other names, types or places of the entries."""
        rows = "\n".join(f"{e.offset} {e.kind} {e.type} {e.name}" for e in self.entries)
        return int.from_bytes(hashlib.sha256(f"{self.id}\n{rows}".encode()).digest()[:8], "little")

    def offset(self, name: str) -> int:
        """Where the first entry of this name lies in the file's data."""
        return next(e.offset for e in self.entries if e.name == name)

    def has(self, kind: str) -> bool:
        return any(e.kind == kind for e in self.entries)

    def weights(self) -> bytes:
        """The weights file."""
        data = b"".join(e.array.tobytes().ljust(e.room, b"\0") for e in self.entries)
        return HEADER.pack(MAGIC, VERSION, len(self.entries), self.layout, len(data), checksum(data)) + data


def checksum(data: bytes | memoryview) -> int:
    """The sum of the 8-byte words, word i times 2i + 1, modulo 2**64."""
    words = np.frombuffer(data, "<u8")
    total = 0
    for start in range(0, len(words), 1 << 20):
        some = words[start : start + (1 << 20)]
        odd = np.arange(start, start + len(some), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        total += int((some * odd).sum(dtype=np.uint64))
    return total % (1 << 64)


def identifier(name: str) -> str:
    """A model's name as the start of C names and of file names: ASCII letters, digits and underscores."""
    text = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:40]
    return text if text[:1].isalpha() and text.lower() not in _TAKEN else f"net_{text}".rstrip("_")


def prepare(net: Net, threads: int | None = None) -> Export:
    """Compile the net's plans to C text and lay out their memory.

    There is a plan for inference, and one for the training step if the net has an optimiser and a loss. Without
    ``threads`` they run on as many as the net's own. Raises BackendError without a C compiler, and for an input
    without elements or a wrong number of threads.
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise BackendError(f"{user_where()}: export: threads must be an integer of at least 1, got {threads!r}")
    own: Any = net.backend
    backend = own if isinstance(own, CBackend) and threads in (None, own.threads) else CBackend(threads)
    modes = ["infer", "step"] if net.optimizer is not None and net.trainable else ["infer"]
    plans = {mode: _plan(net, mode, backend) for mode in modes}
    if "step" in modes:
        net._load_hyper()  # the values of now, into homes that the plan may just have made
    lowered = [(mode, plan, backend.emit(plan), net._home_map(plan)) for mode, plan in plans.items()]
    wanted = {mode: _wanted(plan, source, homes) for mode, plan, source, homes in lowered}
    entries = _entries(net, [found for of_plan in wanted.values() for found in of_plan])
    offsets = {_key(e.array, e.kind): e.offset for e in entries}
    parts = [
        Part(
            mode,
            plan,
            source,
            tuple(_arguments(net, mode, plan)),
            dict(_results(plan)),
            {s.id: offsets[_key(array, s.kind)] for s, array in wanted[mode]},
        )
        for mode, plan, source, _ in lowered
    ]
    title = net.program.name
    return Export(identifier(title), title, tuple(parts), tuple(entries), backend)


def _plan(net: Net, mode: str, backend: CBackend) -> Plan:
    for name, type_ in zip(net.program.names, net.input_types, strict=True):
        if not type_.size:
            raise BackendError(f"{user_where()}: export: input {name!r} of type {type_} has no elements")
    _, plan, _ = net._compiled(mode, net.input_types, net.target_type if mode == "step" else None, backend)
    return plan


def _wanted(plan: Plan, source: Source, homes: Homes) -> list[tuple[Storage, np.ndarray]]:
    """The plan's storages whose memory is in the weights file, with the arrays that hold it here.

    Those of the table but for inputs; and constants that are results as they are, which the plan's text keeps.
    """
    outputs = [plan.storages[a.storage] for a in plan.outputs.values()]
    storages = {s.id: s for s in (*source.table, *(s for s in outputs if s.kind == "constant"))}
    found = []
    for s in storages.values():
        if s.kind in HOMES:
            found.append((s, homes[s.name]))
        elif s.data is not None:
            found.append((s, np.frombuffer(s.data, np.uint8)))
    return found


def _entries(net: Net, wanted: list[tuple[Storage, np.ndarray]]) -> list[Entry]:
    """Each array once, by kind and then in the net's order; a state is followed by its initial value."""
    initial = {id(net._states[key]): value for key, value in net._state_init.items()}
    rank = {id(array): i for i, array in enumerate(net._arrays())}
    if net.optimizer is not None:
        rank |= {id(net._slots.get(f"optimizer/{name}")): i for i, name in enumerate(net.optimizer.hyper)}
    kinds: dict[object, tuple[str, str, np.ndarray]] = {}
    for s, array in wanted:
        name = s.name if s.kind != "constant" else f"constant/{sum(k[0] == 'constant' for k in kinds.values())}"
        kinds.setdefault(_key(array, s.kind), (s.kind, name, array))
    entries: list[Entry] = []
    at = 0
    for kind, name, array in sorted(kinds.values(), key=lambda e: (KINDS.index(e[0]), rank.get(id(e[2]), 0))):
        pieces = [(name, kind, array)]
        if kind == "state" and id(array) in initial:
            pieces.append((name, "initial", initial[id(array)]))
        for piece in pieces:
            entries.append(Entry(*piece, at))
            at += entries[-1].room
    return entries


def _key(array: np.ndarray, kind: str) -> object:
    """What makes two storages the same memory: equal bytes for constants."""
    return array.tobytes() if kind == "constant" else id(array)


def _arguments(net: Net, mode: str, plan: Plan) -> Iterator[Argument]:
    """The model's inputs and, for a training step, its target."""
    names, types = list(net.program.names), list(net.input_types)
    shown = ["x"] if len(names) == 1 else [f"x{i}" for i in range(len(names))]
    if mode == "step" and net.target_type is not None:
        names, types, shown = [*names, "target"], [*types, net.target_type], [*shown, "y"]
    for name, type_, short in zip(names, types, shown, strict=True):
        yield Argument(short, name, type_, plan.leaves[name].storage if name in plan.leaves else None)


def _results(plan: Plan) -> Iterator[tuple[str, Array]]:
    for name, array in plan.outputs.items():
        if name == "loss" or name.startswith("output"):
            yield name.replace("/", ""), array
