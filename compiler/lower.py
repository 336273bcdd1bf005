"""Lowering: an ordered graph becomes storages and steps.

Views become strides. A value that ends up inside a larger one (a part of a concatenation, the entry of a
stack that an iteration makes, a parameter's new value) is written straight to its place: ``_destinations``
decides that before any step is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from graphnet.compiler.build import item
from graphnet.compiler.copies import merge_copies
from graphnet.compiler.epilogues import merge_epilogues
from graphnet.compiler.errors import CompileError
from graphnet.compiler.gates import merge_gates
from graphnet.compiler.grouping import hoist_packs, pair_pools
from graphnet.compiler.ir import NOWHERE, Graph, Node, Type, Where, is_leaf
from graphnet.compiler.lower_loops import lower_cond, lower_scan
from graphnet.compiler.many import merge_many
from graphnet.compiler.masks import recompute_masks
from graphnet.compiler.memory import plan_memory
from graphnet.compiler.merging import drop_unused
from graphnet.compiler.order import PHASES, Order, is_phased, is_view, order, producible
from graphnet.compiler.program import clashes, fused_program, overlaps, renamed, reuse_operands
from graphnet.compiler.prologues import merge_prologues
from graphnet.compiler.record import lookup
from graphnet.compiler.rotation import rotate_loops
from graphnet.compiler.rows import merge_rows
from graphnet.compiler.schedule import END, Array, Fused, Kernel, Plan, Step, Storage
from graphnet.compiler.strides import contiguous_strides, view
from graphnet.compiler.sums import sum_with_products
from graphnet.compiler.target import NUMPY, Target

Values = dict[Node, Array]

RESTING = 2
"""Steps for which memory rests before it is used anew."""

RESTING_BYTES = 1 << 19
"""Scratch that rests, at most."""


class Lowering:
    """State of one lowering: storages so far, the position of the next step, the loops around it."""

    def __init__(self, reuse: bool = True, target: Target = NUMPY) -> None:
        self.storages: list[Storage] = []
        self.position = 0
        self.loops: list[tuple[int, set[int]]] = []
        self.phase = PHASES[0]
        self.reuse = reuse
        self.target = target
        self.loop_count = 0
        self._constants: dict[Node, Array] = {}

    # -- memory ---------------------------------------------------------------------------------------

    def allocate(self, type_: Type, kind: str, name: str, where: Where = NOWHERE, data: bytes | None = None) -> Array:
        """A new storage holding one contiguous array."""
        level = len(self.loops) if kind == "temp" else 0
        storage = Storage(len(self.storages), type_.nbytes, kind, name, where, level=level, data=data)
        self.storages.append(storage)
        return Array(storage.id, type_.dtype, type_.shape, contiguous_strides(type_.shape))

    def touch(self, array: Array) -> Array:
        """Note that the step at the current position uses ``array``."""
        s = self.storages[array.storage]
        s.first, s.last = min(s.first, self.position), max(s.last, self.position)
        for _, touched in self.loops[s.level :]:
            touched.add(s.id)
        return array

    def scratch(self, nbytes: int, where: Where) -> Array | None:
        """Scratch memory for the step at the current position."""
        if not nbytes:
            return None
        return self.touch(self.allocate(Type((nbytes,), "uint8"), "temp", "scratch", where))

    def constant(self, node: Node) -> Array:
        if node not in self._constants:
            value = node.attrs["value"]
            self._constants[node] = self.allocate(node.out, "constant", "constant", node.where, value.data)
        return self._constants[node]

    # -- graphs ---------------------------------------------------------------------------------------

    def graph(self, sequence: Sequence[Node], values: Values, dest: Values, phases: Order | None) -> list[Step]:
        """Steps for ``sequence``; fills ``values``. ``dest`` says where results are to be written."""
        self._concat_destinations(sequence, dest)
        steps: list[Step] = []
        for node in sequence:
            if phases is not None:
                self.phase = phases.phase[node]
            if node in values:
                continue
            if node.op == "constant":
                values[node] = self.constant(node)
            elif is_leaf(node):
                raise CompileError(f"{node.where}: {node!r} has no storage")
            elif node.op == "get":
                self._get(node, values, dest)
            elif is_view(node):
                self._view(node, values, steps)
            elif node.op == "scan":
                lower_scan(self, node, values, dest, steps)
            elif node.op == "cond":
                lower_cond(self, node, values, dest, steps)
            elif node.op == "fused":
                self._fused(node, values, dest, steps)
            elif node.op == "concat":
                self._concat(node, values, dest, steps)
            else:
                self._kernel(node, values, dest, steps)
        return steps

    def _concat_destinations(self, sequence: Sequence[Node], dest: Values) -> None:
        """Let the parts of a concatenation be computed in place, outermost concatenations first."""
        own = set(sequence)
        for node in reversed(sequence):
            if node.op != "concat":
                continue
            whole = dest.get(node)
            if whole is None:
                whole = dest[node] = self.allocate(node.out, "temp", node.op, node.where)
            start = 0
            for part in node.inputs:
                here = _narrow(whole, node.attrs["axis"], start, part.shape[node.attrs["axis"]])
                start += part.shape[node.attrs["axis"]]
                if producible(part) and part not in dest and part in own:
                    dest[part] = here

    def result(self, node: Node, type_: Type, dest: Values, name: str = "") -> Array:
        """Where a result goes: its destination, or new temporary memory."""
        return dest.get(node) or self.allocate(type_, "temp", name or node.op, node.where)

    def copy(self, source: Array, target: Array, where: Where, steps: list[Step]) -> None:
        """A step that copies, unless both are the same memory already."""
        if source == target:
            return
        self.touch(source)
        self.touch(target)
        steps.append(Kernel("copy", {}, (source,), (target,), None, where, self.position, self.phase))
        self.position += 1

    def _get(self, node: Node, values: Values, dest: Values) -> None:
        if node not in values:
            raise CompileError(f"{node.where}: {node!r} was not computed")

    def _view(self, node: Node, values: Values, steps: list[Step]) -> None:
        source = values[node.inputs[0]]
        found = view(node, source)
        if found is None:
            own = self.allocate(Type(source.shape, source.dtype), "temp", "copy", node.where)
            self.copy(source, own, node.where, steps)
            found = view(node, own)
        if found is None:
            raise CompileError(f"{node.where}: {node!r}: a contiguous copy has no such view")
        values[node] = found

    def _concat(self, node: Node, values: Values, dest: Values, steps: list[Step]) -> None:
        whole, start, axis = dest[node], 0, node.attrs["axis"]
        for part in node.inputs:
            size = part.shape[axis]
            self.copy(values[part], _narrow(whole, axis, start, size), node.where, steps)
            start += size
        values[node] = whole

    def _kernel(self, node: Node, values: Values, dest: Values, steps: list[Step]) -> None:
        record = lookup(node.op)
        inputs = [values[i] for i in node.inputs]
        # where the kernel would copy an operand on every call, the copy is a step with planned memory
        for i, a in enumerate(inputs):
            if self.target.copied(node.op, i, a):
                inputs[i] = self._packed(a, node.where, steps)
        out = self.result(node, node.out, dest)
        # an operand may be written over where it lies, but not while it is also read in another order
        if any(overlaps(a, out) and not (record.in_place and a == out) for a in inputs):
            out = self.allocate(node.out, "temp", node.op, node.where)
        for array in (*inputs, out):
            self.touch(array)
        scratch = self.scratch(self.target.scratch(node.op, node.attrs, inputs, out), node.where)
        steps.append(Kernel(node.op, node.attrs, tuple(inputs), (out,), scratch, node.where, self.position, self.phase))
        self.position += 1
        values[node] = out

    def _packed(self, array: Array, where: Where, steps: list[Step]) -> Array:
        if array.size == 0:
            return array
        own = self.allocate(Type(array.shape, array.dtype), "temp", "copy", where)
        self.copy(array, own, where, steps)
        return own

    def _fused(self, node: Node, values: Values, dest: Values, steps: list[Step]) -> None:
        body: Graph = node.attrs["body"]
        program, temps = fused_program(body)
        inputs = [values[i] for i in node.inputs]
        outputs = []
        for index, type_ in enumerate(node.types):
            got = item(node, index)
            out = self.result(got, type_, dest, body.outputs[index][1].op)
            if clashes(program, inputs, out, index):
                out = self.allocate(type_, "temp", body.outputs[index][1].op, node.where)
            outputs.append(out)
        for array in (*inputs, *outputs):
            self.touch(array)
        scratch = self.scratch(self.target.fused_scratch(temps, node.types[0].shape), node.where)
        steps.append(
            Fused(program, tuple(inputs), tuple(outputs), temps, scratch, node.where, self.position, self.phase)
        )
        self.position += 1
        for index, out in enumerate(outputs):
            values[item(node, index)] = out


def _narrow(array: Array, axis: int, start: int, size: int) -> Array:
    shape = (*array.shape[:axis], size, *array.shape[axis + 1 :])
    return replace(array, shape=shape, offset=array.offset + start * array.strides[axis])


def lower(graph: Graph, reuse: bool = True, target: Target = NUMPY) -> Plan:
    """Order, lower and plan a whole graph; ``reuse`` off gives every temporary its own memory (for tests)."""
    low = Lowering(reuse, target)
    ordered = order(graph)
    values: Values = {}
    for leaf in graph.leaves():
        role, name = leaf.attrs["role"], leaf.attrs["name"]
        kind = "input" if role == "target" else role
        values[leaf] = low.allocate(leaf.out, kind, name, leaf.where)
    leaves = {str(leaf.attrs["name"]): values[leaf] for leaf in graph.leaves()}
    dest = {value: values[home] for home, value in ordered.direct.items()}
    steps: list[Step] = []
    saved = _save_homes(low, graph, values, steps)
    steps += low.graph(ordered.nodes, values, dest, ordered)
    low.phase = PHASES[-1]
    _write_updates(low, graph, values, steps)
    outputs = {}
    for name, node in graph.outputs:
        array = values[node]
        outputs[name] = array = replace(array, storage=saved.get(array.storage, array.storage))
        storage = low.storages[array.storage]
        storage.first, storage.last = min(storage.first, low.position), END
    if target.compiled and reuse:
        kept = {a.storage for a in outputs.values()}
        apart = is_phased(graph)
        steps = merge_copies(steps, low.storages, apart)
        if target.waits:
            steps = rotate_loops(steps, low.storages, kept, target.library)
        steps = recompute_masks(steps, low.storages, kept, target.library)
        steps = sum_with_products(steps, low.storages, apart, target.library)
        steps = merge_epilogues(steps, low.storages, target.epilogues, kept, apart, target.library)
        steps = merge_rows(steps, low.storages, target.rows, kept, apart)
        steps = merge_prologues(steps, low.storages, target, kept, apart)
        steps = merge_epilogues(steps, low.storages, target.reductions, kept, apart)
        steps = hoist_packs(steps, low.storages, target.packing)
        steps = merge_gates(steps, low.storages, target.packing, kept)
        steps = pair_pools(steps, low.storages)
        drop_unused(steps, low.storages, kept)
        _rest((s for s in low.storages if s.name == "scratch"), RESTING_BYTES)
    if reuse:
        rename = reuse_operands(steps, low.storages)
        steps = [renamed(step, rename) for step in steps]
        outputs = {n: replace(a, storage=rename(a.storage)) for n, a in outputs.items()}
    if target.compiled and reuse:
        steps = merge_many(steps, low.storages)
        _rest((s for s in low.storages if s.name != "scratch" or s.nbytes > RESTING_BYTES), target.resting)
    memory = plan_memory(low.storages, reuse, target.blocks)
    phases = tuple(p for p in PHASES if any(s.phase == p for s in steps))
    return Plan(graph, tuple(steps), tuple(low.storages), leaves, outputs, memory, phases, target.name)


def _rest(storages: Iterable[Storage], most: int) -> None:
    """Leave memory alone for two steps more, up to so many bytes of it: who writes there need not wait for its readers.

    Threads that share rows go on with the next step; on a GPU steps stand side by side.
    """
    for s in storages:
        if s.kind == "temp" and 0 <= s.last < END and s.nbytes <= most:
            s.last += RESTING


def _save_homes(low: Lowering, graph: Graph, values: Values, steps: list[Step]) -> dict[int, int]:
    """Copy what results are views of and does not last: homes that updates overwrite, inputs that lie in any block.

    A result is the value from before the call.
    """
    changing = {home for home, _ in graph.updates}
    if low.target.blocks > 1:
        changing |= {leaf for leaf in graph.leaves() if leaf.attrs["role"] in ("input", "target")}
    saved: dict[int, int] = {}
    for _, node in graph.outputs:
        while is_view(node) and node.op != "get":
            node = node.inputs[0]
        if node in changing and values[node].storage not in saved:
            own = low.allocate(node.out, "temp", "copy", node.where)
            low.copy(values[node], own, node.where, steps)
            saved[values[node].storage] = own.storage
    return saved


def _write_updates(low: Lowering, graph: Graph, values: Values, steps: list[Step]) -> None:
    """Copy new values that were not written in place; values that are views of homes are saved first."""
    waiting = []
    homes = {values[home].storage for home, _ in graph.updates}
    for home, value in graph.updates:
        source, target = values[value], values[home]
        if source.storage in homes and source != target:
            own = low.allocate(home.out, "temp", "copy", home.where)
            low.copy(source, own, home.where, steps)
            source = own
        waiting.append((source, target, home.where))
    for source, target, where in waiting:
        low.copy(source, target, where, steps)
