"""Stages as kernels: one each, or many in one kernel whose blocks all meet between them.

for (int unit = blockIdx.x; unit < 96; unit += gridDim.x) {       a stage of two functions
    if (unit < 64)
        s3(net, unit, gn_shared, (float *)(A + 0x40), ...);
    else
        s4(net, unit - 64, ...);
}

for (int k0 = 0; k0 < 100; ++k0) {                                 a loop: one cooperative kernel
    for (int unit = blockIdx.x; ...) { ... }
    gn_meet(net.barrier);
}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphnet.compiler.cuda.source import Gemm, Launch
from graphnet.compiler.cuda.stages import BranchOf, Library, LoopOf, Node, accesses, stages
from graphnet.compiler.cuda.steps import Function
from graphnet.compiler.text.programs import indented, uses

STATIC = 48 * 1024
"""Shared memory that a kernel may have without asking for it at launch."""

LARGEST = 220 * 1024
"""Shared memory of a block on the largest GPUs (H100); what stays on chip is given up beyond."""

TAIL_UNITS = 2
"""Units of a stage that are left to the last block of the kernel before it: a launch takes longer."""

MEET = "gn_meet(net.barrier);"

MOST_BLOCKS = 1 << 16
"""Blocks of a launch; more units are done in turn."""


def functions_in(nodes: Sequence[Node]) -> list[Function]:
    """All functions of nodes, those inside loops and branches too."""
    found: list[Function] = []
    for node in nodes:
        if isinstance(node, Function):
            found.append(node)
        elif isinstance(node, LoopOf):
            found += functions_in(node.body)
        elif isinstance(node, BranchOf):
            found += functions_in((*node.sides[0], *node.sides[1]))
    return found


@dataclass
class Kernels:
    """Writes kernels and remembers them by their text; ``unroll`` is the most launches a loop may become.

    With ``apart`` no two phases share a stage. Loops keep on chip what fits ``room`` bytes of shared memory.
    """

    unroll: int = 0
    apart: bool = False
    room: int = LARGEST
    texts: dict[str, str] = field(default_factory=dict)

    def launches(self, nodes: Sequence[Node], together: bool) -> list[Launch | Gemm]:
        """A part as launches; ``together`` makes what lies between the library's products one kernel each."""
        found: list[Launch | Gemm] = []
        waiting: list[tuple[Node, ...]] = []
        for stage, tails in self._with_tails(stages(nodes, self.apart)):
            if together and not isinstance(stage[0], Library):
                waiting += [stage, *tails]
                continue
            found += self._meeting(waiting)
            waiting = []
            found += self._stage(stage, tails=tails)
        return found + self._meeting(waiting)

    def _with_tails(self, found: Sequence[tuple[Node, ...]]) -> list[tuple[tuple[Node, ...], list[tuple[Node, ...]]]]:
        """Each stage with the small ones behind it that its last block can do."""
        pairs: list[tuple[tuple[Node, ...], list[tuple[Node, ...]]]] = []
        for stage in found:
            units = sum(f.units for f in stage if isinstance(f, Function))
            small = isinstance(stage[0], Function) and units <= TAIL_UNITS and not any(f.load for f in stage)  # type: ignore[union-attr]
            if small and pairs and isinstance(pairs[-1][0][0], Function) and not self.apart:
                pairs[-1][1].append(stage)
            else:
                pairs.append((stage, []))
        return pairs

    def _stage(
        self,
        stage: tuple[Node, ...],
        iterations: tuple[tuple[str, int], ...] = (),
        tails: Sequence[tuple[Node, ...]] = (),
    ) -> list[Launch | Gemm]:
        first = stage[0]
        if isinstance(first, Library):
            return [first.gemm]
        if isinstance(first, LoopOf) and self._unrolls(first):
            inner = stages(first.body, self.apart)
            found: list[Launch | Gemm] = []
            for k in range(first.loop.length):
                for s, small in self._with_tails(inner):
                    found += self._stage(s, (*iterations, (f"k{first.loop.id}", k)), small)
            return found
        if isinstance(first, (LoopOf, BranchOf)):
            return self._meeting([stage], iterations)
        return [self._plain(functions_in(stage), [functions_in(tail) for tail in tails], iterations)]

    def _unrolls(self, node: LoopOf) -> bool:
        return _launches(node, self.apart) <= self.unroll

    # -- text -----------------------------------------------------------------------------------------

    def _plain(
        self,
        functions: Sequence[Function],
        tails: Sequence[Sequence[Function]],
        iterations: tuple[tuple[str, int], ...],
    ) -> Launch:
        """A kernel of one stage; the block that ends last does the tails."""
        known = [k for k, _ in iterations]
        units = sum(f.units for f in functions)
        everything = [*functions, *(f for tail in tails for f in tail)]
        shared = max(f.shared for f in everything)
        resident = max(f.resident for f in functions)
        place = f"gn_shared + {shared}" if shared else "gn_shared"
        lines = [*_memory(shared + resident), *_units(functions, {f: place for f in functions if f.load}, {}, True)]
        if tails:
            lines += ["if (gn_last(net.barrier)) {", *(f"    {line}" for line in _tails(tails)), "}"]
        name = self._add("_".join(("step", *_names(everything))), known, lines)
        dynamic = shared + resident if shared + resident > STATIC else 0
        return Launch(
            name, min(units, MOST_BLOCKS), tuple(v for _, v in iterations), dynamic, False, _positions(everything)
        )

    def _meeting(
        self, found: Sequence[tuple[Node, ...]], iterations: tuple[tuple[str, int], ...] = ()
    ) -> list[Launch | Gemm]:
        """One cooperative kernel of several stages; one that is a single stage needs no meeting."""
        if not found:
            return []
        if len(found) == 1 and isinstance(found[0][0], Function):
            return self._stage(found[0], iterations)
        functions = functions_in([n for stage in found for n in stage])
        if not functions:
            return []
        shared = _aligned(max(f.shared for f in functions))
        passing, needed = -1, 0
        while passing < needed:  # what needs more room to pass leaves less of it to what stays
            passing = needed
            writer = _Meeting(shared, passing, self.room)
            body = writer.sequence(found, {})
            needed = max((_aligned(f.resident) for f in functions if f.load and f not in writer.staying), default=0)
        lines = [*_memory(writer.used), *body]
        units = max(sum(f.units for f in s if isinstance(f, Function)) for s in writer.stages)
        name = self._add("_".join(("run", *_ends(functions))), [k for k, _ in iterations], lines)
        dynamic = writer.used if writer.used > STATIC else 0
        grid = max(1, min(units, MOST_BLOCKS))
        return [Launch(name, grid, tuple(v for _, v in iterations), dynamic, True, _positions(functions))]

    def _add(self, wanted: str, iterations: Sequence[str], lines: Sequence[str]) -> str:
        """The name of a kernel of these lines, a new one unless there is one like it."""
        text = "\n".join(lines)
        head = [f"char *const {p} = net.A;" if p == "A" else f"char *const *const {p} = net.H;" for p in "AH"]
        head = [h for h, p in zip(head, "AH", strict=True) if uses(text, p)]
        parameters = ", ".join(["const __grid_constant__ struct net net", *(f"const int {k}" for k in iterations)])
        body = indented("\n".join([*head, *lines]))
        name, number = wanted, 1
        while True:
            signature = f'extern "C" __global__ void __launch_bounds__(THREADS) {name}({parameters})'
            whole = f"{signature}\n{{\n{body}\n}}\n"
            if self.texts.setdefault(name, whole) == whole:
                return name
            number += 1
            name = f"{wanted}_{number}"


class _Meeting:
    """The body of a cooperative kernel: stages with grid-wide barriers between them.

    Its shared memory: ``shared`` bytes for one phase at a time, ``passing`` bytes for what a phase loads unit by unit,
    then what the functions ``staying`` keep throughout a loop; ``used`` in all, which ``room`` bounds.
    """

    def __init__(self, shared: int, passing: int, room: int) -> None:
        self._passing = f"gn_shared + {shared}" if shared else "gn_shared"
        self.used, self._room = shared + passing, room
        self.staying: set[Function] = set()
        self.stages: list[tuple[Node, ...]] = []

    def sequence(self, found: Sequence[tuple[Node, ...]], kept: Mapping[Function, str]) -> list[str]:
        """Stages one after another; all blocks meet between two, but not after the last."""
        lines: list[str] = []
        for number, stage in enumerate(found):
            if number:
                lines.append(MEET)
            self.stages.append(stage)
            first = stage[0]
            if isinstance(first, LoopOf):
                lines += self._loop(first, kept)
            elif isinstance(first, BranchOf):
                lines += self._branch(first, kept)
            else:
                functions = [f for f in stage if isinstance(f, Function)]
                places = {f: kept.get(f, self._passing) for f in functions if f.load}
                lines += _units(functions, places, kept, False)
        return lines

    def _loop(self, node: LoopOf, kept: Mapping[Function, str]) -> list[str]:
        """A loop; what its functions keep on chip is loaded in front of it where each block has one unit."""
        inner = stages(node.body)
        mine = self._kept(node, inner)
        lines = []
        for f, place in mine.items():
            load = f.call("blockIdx.x", place, load=True)
            head = f"if (gridDim.x >= {f.units} && blockIdx.x < {f.units})"
            lines += [head, *(f"    {line}" for line in load), "__syncthreads();"]
        body = self.sequence(inner, {**kept, **mine})
        k, length = f"k{node.loop.id}", node.loop.length
        body += [f"if ({k} < {length - 1})", f"    {MEET}"]
        return [*lines, f"for (int {k} = 0; {k} < {length}; ++{k}) {{", *(f"    {line}" for line in body), "}"]

    def _kept(self, node: LoopOf, inner: Sequence[tuple[Node, ...]]) -> dict[Function, str]:
        """Functions of the loop whose loaded operands nothing in the loop writes, and where what they load stays."""
        written = [a for n in node.body for a in accesses(n) if a.write]
        kept: dict[Function, str] = {}
        for stage in inner:
            for f in stage:
                if not isinstance(f, Function) or not f.load or any(a.meets(w) for a in f.loaded for w in written):
                    continue
                if self.used + _aligned(f.resident) <= self._room:
                    kept[f] = f"gn_shared + {self.used}"
                    self.used += _aligned(f.resident)
                    self.staying.add(f)
        return kept

    def _branch(self, node: BranchOf, kept: Mapping[Function, str]) -> list[str]:
        """Both sides; memory of the predicate may be used anew once all blocks have read it."""
        holds = f"holds{node.branch.position}"
        over = [a for side in node.sides for n in side for a in accesses(n) if a.write]
        meet = [MEET] if any(a.meets(r) for a in over for r in node.reads) else []
        sides = [self.sequence(stages(side), kept) for side in node.sides]
        then, orelse = ([f"    {line}" for line in side] for side in sides)
        orelse = ["} else {", *orelse] if orelse else []
        return [f"const bool {holds} = {node.predicate};", *meet, f"if ({holds}) {{", *then, *orelse, "}"]


def _units(
    functions: Sequence[Function], places: Mapping[Function, str], kept: Mapping[Function, str], last: bool
) -> list[str]:
    """The loop over the units of a stage; ``places`` are where loads go, ``last`` if the kernel ends with it."""
    total = sum(f.units for f in functions)
    lines: list[str] = []
    first = 0
    for number, f in enumerate(functions):
        unit = f"unit - {first}" if first else "unit"
        body = _unit(f, unit, places.get(f, ""), f in kept)
        first += f.units
        if len(functions) > 1:
            final = number == len(functions) - 1
            head = "else {" if final else f"{'else ' if number else ''}if (unit < {first}) {{"
            body = [head, *(f"    {line}" for line in body), "}"]
        lines += body
    if any(f.shared or f.resident for f in functions):
        lines += [f"if (unit + gridDim.x < {total})", "    __syncthreads();"] if last else ["__syncthreads();"]
    head = f"for (int unit = blockIdx.x; unit < {total}; unit += gridDim.x) {{"
    return [head, *(f"    {line}" for line in lines), "}"]


def _tails(tails: Sequence[Sequence[Function]]) -> list[str]:
    """Small stages one after another, all units of each, by one block."""
    lines: list[str] = []
    for functions in tails:
        for f in functions:
            for unit in range(f.units):
                lines += ["__syncthreads();", *_unit(f, str(unit), "", False)]
    return lines[1:]


def _unit(f: Function, unit: str, place: str, stays: bool) -> list[str]:
    """The statements of one unit: what it loads, unless that stays on chip, and its body."""
    body = f.call(unit, place)
    if f.load:
        load = [*f.call(unit, place, load=True), "__syncthreads();"]
        body[:0] = [f"if (gridDim.x < {f.units}) {{", *(f"    {line}" for line in load), "}"] if stays else load
    return ["if (!gn_failed(net)) {", *(f"    {line}" for line in body), "}"] if f.writes_home else body


def _memory(used: int) -> list[str]:
    """The declaration of a kernel's shared memory."""
    if not used:
        return []
    return [f"GN_SHARED({used});"] if used <= STATIC else ["GN_DYNAMIC();", "char *const gn_shared = gn_dynamic;"]


def _aligned(nbytes: int) -> int:
    return -(-nbytes // 16) * 16


def _launches(node: LoopOf, apart: bool) -> int:
    """How many launches a loop unrolled is; many if it holds what cannot be unrolled."""
    count = 0
    for stage in stages(node.body, apart):
        first = stage[0]
        if isinstance(first, BranchOf):
            return 1 << 60
        count += _launches(first, apart) if isinstance(first, LoopOf) else 1
    return count * node.loop.length


def _names(functions: Sequence[Function]) -> list[str]:
    return [f.name[1:] for f in functions] if len(functions) <= 4 else _ends(functions)


def _ends(functions: Sequence[Function]) -> list[str]:
    return list(dict.fromkeys((functions[0].name[1:], functions[-1].name[1:])))


def _positions(functions: Sequence[Function]) -> tuple[int, ...]:
    return tuple(sorted({f.step for f in functions}))
