"""A plan on a device: its memory, the graphs of its parts, and the losses that runs leave behind.

arena | inputs | inputs | large constants      blocks of the plan's own
homes                                          the net's, shared by all plans
note: failed step value rows runs ... | ring of losses   words that the kernels write
"""

from __future__ import annotations

import itertools
import struct
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnet.compiler.cuda import NOTES, RING, Gemm, Launch, Matrix, Source
from graphnet.compiler.errors import BackendError, DataError
from graphnet.compiler.ir import Type
from graphnet.compiler.schedule import HOMES, Array, Leaf, Plan, Step, Storage, flat
from graphnet.device import Address, Call, Graph, Operand, Product, Work, aligned
from graphnet.device_inputs import Arguments, Place
from graphnet.device_room import ensure_room
from graphnet.lazy import Loss
from graphnet.plan_memory import Homes, bad_index

if TYPE_CHECKING:
    from graphnet.backend_cuda import CudaBackend

FAILED, STEP, VALUE, ROWS, FAILING = 0, 1, 2, 3, 5
"""Words of the note; see ``graphnet.compiler.cuda.source``."""


class CudaExecutable:
    """A plan bound to memory of a device and to its kernels; see ``graphnet.backend.Executable``.

    ``run`` waits for the device; ``call`` does not. What went wrong on the device is told when a loss of it is read,
    or by ``check``.
    """

    counts = True

    def __init__(self, backend: CudaBackend, plan: Plan, homes: Homes) -> None:
        if plan.target != "cuda":
            raise BackendError(f"the plan of {plan.graph.name} was lowered for {plan.target}, not for cuda")
        self.plan = plan
        self._backend, self._device = backend, backend.device
        self._tables: list[Any] = []
        self._source = backend.emit(plan)
        self._steps = {s.position: s for s in flat(plan.steps) if isinstance(s, Leaf)}
        self._allocate(homes)
        self._module = self._device.load(self._source.text, self._source.pieces)
        self._graphs: dict[str, Graph] = {}
        self._has_loss = "loss" in plan.outputs
        self._runs = 0
        self._in_phases = False  # whether runs of single phases were asked for, which do not count as calls do
        self._unread: dict[int, weakref.ref[Loss]] = {}
        self._asked = False
        self.arguments = self._arguments()
        # memory and kernels may not go while they are in use
        weakref.finalize(self, self._device.synchronize).atexit = False

    # -- memory ---------------------------------------------------------------------------------------

    def _allocate(self, homes: Homes) -> None:
        plan, device = self.plan, self._device
        inputs = {a.storage for a in plan.leaves.values() if plan.storages[a.storage].kind not in HOMES}
        sizes = [aligned(plan.storages[i].nbytes) for i in inputs]
        self._offsets = dict(zip(inputs, itertools.accumulate(sizes, initial=0), strict=False))
        shown = {a.storage for a in plan.outputs.values()}
        kept = [s for s in plan.storages if s.data is not None and (s.id in shown or s in self._source.table)]
        ensure_room(device, plan, sum(sizes) * plan.memory.blocks, sum(s.nbytes for s in kept))
        self.arena = device.allocate(_bytes(plan.memory.arena))
        self._blocks = [device.allocate(_bytes(sum(sizes))) for _ in range(plan.memory.blocks)]
        self._note = device.allocate(Type((NOTES + RING,), "int64"))
        self._barrier = device.allocate(Type((2,), "uint32"))
        self._homes = {s.id: homes[s.name] for s in plan.storages if s.kind in HOMES}
        for s in kept:
            self._homes[s.id] = device.allocate(_bytes(s.nbytes))
            device.write(self._homes[s.id], np.frombuffer(s.data or b"", np.uint8))
        self.inputs = {name: self._array(a) for name, a in plan.leaves.items() if a.storage in inputs}
        self.outputs = {name: self._array(a) for name, a in plan.outputs.items()}

    def _array(self, a: Array) -> Any:
        """The device's view of an array."""
        block, start = self._place(self.plan.storages[a.storage])
        strides = [s * a.itemsize for s in a.strides]
        return self._device.view(block, Type(a.shape, a.dtype), start + a.offset * a.itemsize, strides)

    def _place(self, s: Storage) -> tuple[Any, int]:
        """The block that a storage is in, and where in it, in bytes."""
        if s.kind == "temp":
            return self.arena, s.offset
        if s.id in self._offsets:
            return self._blocks[0], self._offsets[s.id]
        return self._homes[s.id], 0

    def _address(self, s: Storage, moved: Mapping[int, Address]) -> Address:
        if s.id in moved:
            return moved[s.id]
        block, start = self._place(s)
        return self._device.address(block) + start

    def spans(self) -> list[tuple[Address, int]]:
        """Address and bytes of what the plan may write: arguments must not lie there."""
        blocks = [self.arena, *self._homes.values()]
        return [(self._device.address(b), b.nbytes) for b in blocks]

    # -- work -----------------------------------------------------------------------------------------

    def work(
        self, part: str = "", moved: Mapping[int, Address] | None = None, source: Source | None = None
    ) -> list[Work]:
        """The calls of a part, with the input storages ``moved`` to other addresses."""
        source, module = source or self._source, self._module
        if source is not self._source:
            module = self._device.load(source.text, source.pieces)
        net = self._struct(source, moved or {})
        found: list[Work] = []
        for launch in source.parts[part]:
            if isinstance(launch, Launch):
                numbers = (struct.pack("<i", k) for k in launch.iterations)
                given = (launch.kernel, launch.grid, (net, *numbers), launch.dynamic, launch.cooperative)
                found.append(Call(module, *given))
            else:
                found.append(self._product(launch, moved or {}))
        return found

    def _product(self, g: Gemm, moved: Mapping[int, Address]) -> Product:
        place = lambda storage: self._address(self.plan.storages[storage], moved)  # noqa: E731 - a name for a parameter
        return product_of(g, self._backend.precision, place)

    def _struct(self, source: Source, moved: Mapping[int, Address]) -> bytes:
        """``struct net`` as bytes."""
        table = [self._address(s, moved) for s in source.table] or [0]
        if not source.by_value:
            kept = self._device.allocate(Type((len(table),), "uint64"))
            self._device.write(kept, np.array(table, np.uint64))
            self._tables.append(kept)
            table = [self._device.address(kept)]
        fixed = [self._device.address(block) for block in (self.arena, self._note, self._barrier)]
        return struct.pack(f"<{3 + len(table)}Q", *fixed, *table)

    def graph(self, part: str = "") -> Graph:
        """The graph of a part on ``inputs``."""
        if not part:
            return self.arguments.graph()
        if part not in self._graphs:
            self._graphs[part] = self._device.capture(self.work(part))
        return self._graphs[part]

    # -- runs -----------------------------------------------------------------------------------------

    def _arguments(self) -> Arguments:
        leaves = [self.plan.leaves[name] for name in self.inputs]
        places = [Place(a.storage, Type(a.shape, a.dtype), self._offsets[a.storage]) for a in leaves]
        capture = lambda moved: self._device.capture(self.work("", moved))  # noqa: E731 - a name for a parameter
        return Arguments(self._device, places, self._blocks, self.spans(), capture)

    def filled(self) -> None:
        self.arguments.used()

    def call(self, *args: Any) -> Any:
        """Start the plan on arguments as they are, which may lie on the device; does not wait for it.

        Returns the ``Loss`` (or True without one), and False if nothing was started because they do not fit.
        """
        self.make_room(1)
        if not self.arguments.start(args):
            return False
        return self._next() if self._has_loss else self._counted(1)

    def _counted(self, count: int) -> bool:
        self._asked = True
        self._runs += count
        return True

    def _next(self) -> Loss:
        """The loss of one more run."""
        loss = Loss(self.settle)
        self._unread[self._runs] = weakref.ref(loss)
        self._counted(1)
        return loss

    def started(self, count: int) -> list[Loss]:
        """The losses of ``count`` runs that were just started on ``inputs``."""
        self.arguments.used()
        return [self._next() for _ in range(count)]

    def make_room(self, count: int) -> None:
        """Read losses that are still wanted before ``count`` new ones take their places."""
        for run in range(self._runs - RING, self._runs - RING + count):
            kept = self._unread.get(run)
            if kept is None:
                continue
            if kept() is not None:
                self.settle()
                return
            del self._unread[run]

    @property
    def note(self) -> Address:
        """Where the words are that kernels of the plan write."""
        return self._device.address(self._note)

    @property
    def runs(self) -> int:
        """How many runs were started: what the device has counted once they are done."""
        return self._runs

    def loss(self) -> Loss:
        """The loss of the last run."""
        kept = self._unread.get(self._runs - 1)
        found = kept() if kept is not None else None
        if found is None:
            found = Loss(self.settle)
            self._unread[self._runs - 1] = weakref.ref(found)
        return found

    def run(self, phase: str | None = None) -> None:
        if phase is not None and phase not in self.plan.phases:
            return
        part = phase if phase in self._source.parts else ""
        self._in_phases |= phase is not None
        counter = self._homes.get(self.plan.leaves["rng/step"].storage) if "rng/step" in self.plan.leaves else None
        before = self._device.read(counter) if counter is not None and phase is not None and not part else None
        self.make_room(1)
        self.graph(part).launch()
        self.arguments.used()
        self._counted(0 if part else 1)
        self.check()
        if before is not None:  # a plan of one phase has moved it on; phase by phase, the net does that
            self._device.write(counter, before)

    def settle(self) -> DataError | None:
        """Wait for the device and hand out what it left: losses, or the error that stopped it, which is returned."""
        note = self._device.read(self._note)
        self._asked = False
        unread = list(self._unread.items())
        self._unread.clear()
        error = None
        if note[FAILED]:
            self._device.write(self._device.view(self._note, Type((ROWS + 1,), "int64")), 0)
            to = self._given_to(int(note[FAILING]))
            error = bad_index(self._steps[int(note[STEP])], int(note[VALUE]), int(note[ROWS]), to)
        ring = note[NOTES:].view(np.float64)
        for run, kept in unread:
            loss = kept()
            if loss is None:
                continue
            if error is None or run < note[FAILING]:
                loss.set(float(ring[run % RING]))
            else:
                loss.fail(error)
        return error

    def _given_to(self, failing: int) -> str:
        """Which of the plan's runs was stopped, and how many later ones with it; empty where they are not counted."""
        if not self._has_loss or self._in_phases:
            return ""
        what = "step" if "backward" in self.plan.phases else "call"
        shapes = ", ".join(str(tuple(own.shape)) for own in self.inputs.values())
        later = self._runs - failing - 1
        rest = "the one started after it was" if later == 1 else f"the {later} started after it were"
        which = f" to {what} {failing + 1} of those with inputs {shapes} since the net was made"
        return which + (f"; {rest} not done either" if later else "")

    def check(self) -> None:
        """Wait for what was started; raises DataError if an index was out of range."""
        if self._asked:
            error = self.settle()
            if error is not None:
                raise error

    def copies(self, arrays: Sequence[Any], there: bool) -> list[Any]:
        """Copies of outputs of the last run: ``there`` on the device, else NumPy arrays."""
        if there:
            return [self._device.copied(a) for a in arrays]
        self.check()
        return [self._device.read(a) for a in arrays]

    def profile(self, repeats: int) -> list[tuple[Step, float]]:
        source = self._backend.emit(self.plan, apart=True)
        work = self.work("", None, source)
        index = {s.position: i for i, step in enumerate(self.plan.steps) for s in flat((step,))}
        owners = [index.get(launch.position) for launch in source.parts[""]]
        self.settle()
        self._device.times(work)  # the first time loads the kernels
        seconds: list[list[float]] = [[] for _ in self.plan.steps]
        for _ in range(repeats):
            sums = [0.0] * len(seconds)
            for owner, spent in zip(owners, self._device.times(work), strict=True):
                if owner is not None:  # what ends a run belongs to no step
                    sums[owner] += spent
            for record, spent in zip(seconds, sums, strict=True):
                record.append(spent)
        self.arguments.used()
        self._counted(repeats + 1)
        self.check()
        return [(step, float(np.median(r))) for step, r in zip(self.plan.steps, seconds, strict=True)]


def product_of(g: Gemm, precision: str, place: Callable[[int], Address]) -> Product:
    """A call of the library with the addresses at which ``place`` says that storages begin."""

    def operand(m: Matrix) -> Operand:
        return Operand(place(m.storage) + m.offset, m.stride, m.transposed, m.step)

    row = place(g.row.storage) + g.row.offset if g.row is not None else 0
    matrices = (operand(g.left), operand(g.right), operand(g.out))
    return Product(g.m, g.n, g.k, g.batch, g.dtype, precision, *matrices, g.epilogue, row)


def _bytes(count: int) -> Type:
    return Type((count,), "uint8")
