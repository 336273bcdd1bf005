"""What an exported net is made of: its plans as C text, and its memory laid out as in the weights file."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphnet.backend_c import CBackend
from graphnet.compiler.c import Source
from graphnet.compiler.compile import compile_graph
from graphnet.compiler.errors import BackendError
from graphnet.compiler.ir import Type
from graphnet.compiler.passes import Context
from graphnet.compiler.printers.text import Places, clean
from graphnet.compiler.schedule import Array, Fused, Kernel, Plan, flat
from graphnet.plan_memory import HOMES
from graphnet.plans import for_mode
from graphnet.tensor import user_where

if TYPE_CHECKING:
    from graphnet.net import Net

MAGIC, VERSION = b"graphnet", 1
HEADER = struct.Struct("<8sIIQQQ24x")
"""The weights file's header: magic, version, number of entries, layout, bytes, checksum."""

LINE = 64
KINDS = {"param": "p", "state": "s", "initial": "i", "slot": "o", "hyper": "h", "rng": "r", "constant": "c"}
"""Kinds of entries in the order of the file, and the letters that the C text has for them."""

_TAKEN = ("main", "threads", "makefile", "gnumakefile", "all", "lib", "clean", "gn")


@dataclass(frozen=True)
class Entry:
    """A piece of memory that outlives a call: its place in the weights file's data and the array it comes from."""

    name: str
    kind: str
    array: np.ndarray
    offset: int

    @property
    def type(self) -> str:
        return f"{self.array.dtype} ({', '.join(map(str, self.array.shape))})"


@dataclass(frozen=True)
class Argument:
    """A parameter of a C function: its name there and in the model, and its entry in the plan's table, if read."""

    name: str
    model_name: str
    type: Type
    slot: int | None


@dataclass(frozen=True)
class Result:
    """A result of a plan: the C parameter it goes to, and where it lies; ``base`` as in ``_base``."""

    name: str
    array: Array
    base: str


@dataclass(frozen=True)
class Part:
    """One plan: ``table`` has for each entry of its table H the place in the file's data, None for an argument."""

    mode: str
    plan: Plan
    source: Source
    arguments: tuple[Argument, ...]
    table: tuple[int | None, ...]
    results: tuple[Result, ...]
    random: bool

    def places(self) -> Iterator[tuple[int, str]]:
        """(position, ``lenet.py:14: take``) of each step that reads integers, which may be bad indices."""
        where = Places.of(self.plan.graph)
        for step in flat(self.plan.steps):
            if isinstance(step, (Kernel, Fused)) and any(a.dtype.startswith("int") for a in step.inputs):
                at = where(step.where) if step.where.file in where.files else ""
                what = clean(step.where.scope.rpartition("/")[2] or step.op)
                yield step.position, f"{at}: {what}" if at else what


@dataclass(frozen=True)
class Export:
    """A net ready to be written. ``id`` is its name in C, ``title`` the one it has in Python."""

    id: str
    title: str
    parts: tuple[Part, ...]
    entries: tuple[Entry, ...]
    backend: CBackend

    @property
    def threads(self) -> int:
        return max(part.source.threads for part in self.parts)

    @property
    def arena(self) -> int:
        return max(part.plan.memory.arena for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights file's data."""
        return sum(_room(e.array.nbytes) for e in self.entries)

    @property
    def layout(self) -> int:
        """A number that differs for other names, types or places of the entries."""
        rows = "\n".join(f"{e.offset} {e.kind} {e.type} {e.name}" for e in self.entries)
        return int.from_bytes(hashlib.sha256(f"{self.id}\n{rows}".encode()).digest()[:8], "little")

    def weights(self) -> bytes:
        """The weights file."""
        data = b"".join(e.array.tobytes().ljust(_room(e.array.nbytes), b"\0") for e in self.entries)
        return HEADER.pack(MAGIC, VERSION, len(self.entries), self.layout, len(data), checksum(data)) + data

    def offset(self, name: str) -> int:
        return next(e.offset for e in self.entries if e.name == name)

    def part(self, mode: str) -> Part | None:
        return next((p for p in self.parts if p.mode == mode), None)


def checksum(data: bytes | memoryview) -> int:
    """Sum of the 8-byte words, word i times 2i + 1, modulo 2**64."""
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

    The plan for inference, and that of the training step if the net has an optimiser. ``threads`` as those of
    the net's C backend if it has one. Raises BackendError without a C compiler and for an input without elements.
    """
    same = isinstance(net.backend, CBackend) and threads in (None, net.backend.threads)
    backend = net.backend if same else CBackend(threads)
    trains = net.optimizer is not None and net.trainable
    lowered = [_lower(net, mode, backend) for mode in ("infer", *(["step"] if trains else []))]
    if trains:
        net._load_hyper()
    entries = _entries(net, [(plan, source, homes) for _, plan, source, homes, _ in lowered])
    offsets = {id(e.array): e.offset for e in entries if e.kind != "constant"}
    constants = {e.array.tobytes(): e.offset for e in entries if e.kind == "constant"}
    parts = []
    for mode, plan, source, homes, arguments in lowered:
        found = {
            s.id: constants[s.data] if s.data is not None else offsets[id(homes[s.name])]
            for s in (*source.table, *_results_constants(plan))
            if s.kind in HOMES or s.data is not None
        }
        table = tuple(found.get(s.id) for s in source.table)
        results = tuple(_results(plan, source, found, arguments))
        parts.append(Part(mode, plan, source, arguments, table, results, "rng/step" in plan.leaves))
    return Export(identifier(net.program.name), net.program.name, tuple(parts), entries, backend)
