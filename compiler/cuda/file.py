"""A plan as one CUDA file: device functions for its steps, kernels for its stages, and the launches that run them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphnet.compiler.cuda.kernels import LARGEST, Kernels, functions_in
from graphnet.compiler.cuda.products import gemm
from graphnet.compiler.cuda.source import BY_VALUE, NOTES, RING, Gemm, Launch, Source
from graphnet.compiler.cuda.stages import BranchOf, Library, LoopOf, Node
from graphnet.compiler.cuda.steps import ALL_FAILING, Function, Steps
from graphnet.compiler.printers.schedule import Writer
from graphnet.compiler.printers.text import clean, count, plural
from graphnet.compiler.schedule import Branch, Kernel, Loop, Plan, Step, flat, phases_apart
from graphnet.compiler.target import Target
from graphnet.compiler.text.hazards import Access, Piece, access
from graphnet.compiler.text.memory import Memory, constant_text
from graphnet.compiler.text.programs import block_comment, uses
from graphnet.kernels.cuda.prelude import HEADER

MOST_PIECES, PIECE = 8, 8_000
"""Files that a text is cut into at most, and characters of kernels and functions that are worth one."""

NOTE = -3
"""The space of the losses and counters that a run leaves behind."""


@dataclass(frozen=True)
class Options:
    """How a plan is cut into kernels.

    together  what lies between the library's products is one cooperative kernel, not one a stage
    unroll    the most launches that a loop may become; one that would be more is a cooperative kernel
    apart     no two phases share a kernel, for profiles
    shared    bytes of shared memory up to which a loop keeps on chip what it loads; it changes no result
    """

    together: bool = False
    unroll: int = 0
    apart: bool = False
    shared: int = LARGEST


def emit(plan: Plan, target: Target, options: Options | None = None) -> Source:
    """The CUDA text of a plan that was lowered for ``target``, and its launches."""
    return _File(plan, target, options or Options()).source()


class _File:
    def __init__(self, plan: Plan, target: Target, options: Options) -> None:
        self.plan = plan
        self.options = options
        self.memory = Memory(plan)
        self._target = target
        self._steps = Steps(self.memory, target.tensor)
        self._comments = Writer(plan)
        nodes = [self._nodes(s) for s in plan.steps]
        self.fails = any(f.fails for f in functions_in([n for part in nodes for n in part]))
        self._parts = nodes if self.fails else [[_unguarded(n) for n in part] for part in nodes]

    # -- steps to nodes -------------------------------------------------------------------------------

    def _nodes(self, step: Step) -> list[Node]:
        if isinstance(step, Loop):
            return [LoopOf(step, tuple(n for s in step.body for n in self._nodes(s)))] if step.length else []
        if isinstance(step, Branch):
            sides = (
                tuple(n for s in step.then for n in self._nodes(s)),
                tuple(n for s in step.orelse for n in self._nodes(s)),
            )
            reads = access(self.memory, step.predicate, False, None, 1)
            value = f"*{self.memory.pointer(step.predicate, False)}"
            return [BranchOf(step, value, (reads,) if reads else (), sides)]
        if isinstance(step, Kernel) and self._target.library(step):
            call = gemm(step)
            assert call is not None
            arrays = [*((a, True) for a in step.outputs), *((a, False) for a in step.inputs)]
            found = [access(self.memory, a, write, None, 1) for a, write in arrays]
            return [Library(call, tuple(a for a in found if a))]
        return list(self._steps.functions(step, step.position, self._comments.step(step, "")))

    def _finish(self) -> list[Node]:
        """What ends a run: the loss is kept, random numbers move on."""
        loss, counter = self.plan.outputs.get("loss"), self.plan.leaves.get("rng/step")
        lines, found = [], [Access(NOTE, 0, 1, None, True)]
        if counter is not None:
            lines.append(f"++*{self.memory.pointer(counter, True)};")
            found.append(access(self.memory, counter, True, None, 1))  # type: ignore[arg-type]
        if self.fails:
            found.append(ALL_FAILING)
        if counter is not None and self.fails:
            lines = ["if (!gn_failed(net))", f"    {lines[0]}"]
        if loss is not None:
            value = f"(double)*{self.memory.pointer(loss, False)}"
            lines += [
                f"((double *)(net.note + {NOTES}))[net.note[4] % {RING}] = {value};",
                "++net.note[4];",
            ]
            found.append(access(self.memory, loss, False, None, 1))  # type: ignore[arg-type]
        if not lines:
            return []
        pointers = [f"    char *const {p} = net.A;" for p in "A" if any(uses(line, p) for line in lines)]
        pointers += ["    char *const *const H = net.H;"] if any(uses(line, "H") for line in lines) else []
        body = "\n".join(f"        {line}" for line in lines)
        text = "\n".join(
            [
                block_comment(["keeps the loss, and moves counters on"]),
                "GN_INLINE void s_end(const struct net &net, const int unit)",
                "{",
                *pointers,
                "    if (threadIdx.x == 0 && unit == 0) {",
                body,
                "    }",
                "}\n",
            ]
        )
        touched = tuple(a for a in found if a is not None)
        return [Function("s_end", text, ("unit",), 1, 0, 0, "", (), (), (), Piece(touched, True), False, False, -1)]

    # -- text -----------------------------------------------------------------------------------------

    def source(self) -> Source:
        kernels = Kernels(self.options.unroll, self.options.apart, self.options.shared)
        everything = [n for part in self._parts for n in part]
        end = self._finish()
        parts: dict[str, tuple[Launch | Gemm, ...]] = {
            "": tuple(kernels.launches([*everything, *end], self.options.together))
        }
        for phase in phases_apart(self.plan):
            pairs = zip(self.plan.steps, self._parts, strict=True)
            nodes = [n for s, found in pairs if s.phase == phase for n in found]
            parts[phase] = tuple(kernels.launches(nodes, self.options.together))
        functions = functions_in([*everything, *end])
        texts = list(kernels.texts.values())
        pieces = [self._text(_called(functions, piece), piece) for piece in _cut(functions, texts)]
        return Source(self._text(functions, texts), tuple(self.memory.table), parts, tuple(pieces))

    def _text(self, functions: Sequence[Function], kernels: Sequence[str]) -> str:
        """A file of these kernels and the functions that they call."""
        written = [*(f.load for f in functions if f.load), *(f.text for f in functions), *kernels]
        whole = "\n".join(written)
        # a constant that is a result is read by no step
        constants = [(s, dtype) for s, dtype in self.memory.constants if uses(whole, f"c{s.id}")]
        meets, ends = (any(word in text for text in kernels) for word in ("gn_meet(", "gn_last("))
        return "\n".join(
            [
                self._head(len(kernels)),
                HEADER,
                self._net(),
                *([FAIL] if self.fails else []),
                *([ARRIVE] if meets or ends else []),
                *([MEETING] if meets else []),
                *([LAST] if ends else []),
                *dict.fromkeys(h for f in functions for h in f.helpers),
                *(constant_text(s, dtype, "static __device__ const", "") for s, dtype in constants),
                *written,
            ]
        )

    def _head(self, kernels: int) -> str:
        steps = plural(len(list(flat(self.plan.steps))), "step")
        name, arena = clean(self.plan.graph.name), count(self.plan.memory.arena)
        return block_comment(
            [
                f"{name}: {steps}, {plural(kernels, 'kernel')}, arena {arena} B",
                "Written by graphnet. Positions, buffers and formulas are those of the schedule.",
            ]
        )

    def _net(self) -> str:
        table = self.memory.table
        homes = "char *const *H;" if len(table) > BY_VALUE else f"char *H[{max(1, len(table))}];"
        return NET.replace("HOMES", homes) + self.memory.table_comment()


def _called(functions: Sequence[Function], kernels: Sequence[str]) -> list[Function]:
    """The functions that kernels call."""
    words = set(re.findall(r"\w+", "\n".join(kernels)))
    return [f for f in functions if f.name in words]


def _cut(functions: Sequence[Function], kernels: Sequence[str]) -> list[list[str]]:
    """Kernels dealt out to a few files of about equal work for a compiler; one file where there is little."""
    work = {k: len(k) + sum(len(f.text) + len(f.load) for f in _called(functions, [k])) for k in kernels}
    count = min(MOST_PIECES, len(kernels), 1 + sum(work.values()) // PIECE)
    pieces: list[list[str]] = [[] for _ in range(count)]
    for kernel in sorted(kernels, key=lambda k: -work[k]):
        min(pieces, key=lambda piece: sum(work[k] for k in piece)).append(kernel)
    return [[k for k in kernels if k in piece] for piece in pieces]


def _unguarded(node: Node) -> Node:
    """The node where no index can be out of range: homes are written without a look at the note."""
    if isinstance(node, Function):
        return replace(node, writes_home=False)
    if isinstance(node, LoopOf):
        return LoopOf(node.loop, tuple(map(_unguarded, node.body)))
    if isinstance(node, BranchOf):
        sides = (tuple(map(_unguarded, node.sides[0])), tuple(map(_unguarded, node.sides[1])))
        return BranchOf(node.branch, node.predicate, node.reads, sides)
    return node


NET = """
struct net {
    char *A;            /* the arena */
    int64_t *note;      /* failed, step, value, rows, losses kept, kept before that failed; the losses */
    uint32_t *barrier;  /* where all blocks meet, and how many have ended */
    HOMES
};
"""

FAIL = """
/* Notes the first index that was out of range; nothing is written to parameters after it. */
GN_INLINE void gn_fail(const struct net &net, int step, int64_t value, int64_t rows)
{
    if (atomicCAS((unsigned long long *)net.note, 0ULL, 1ULL) == 0ULL) {
        net.note[1] = step;
        net.note[2] = value;
        net.note[3] = rows;
        net.note[5] = net.note[4];
    }
}
#define GN_FAIL(index, count) gn_fail(net, gn_step, (index), (count))
GN_INLINE bool gn_failed(const struct net &net) { return *(volatile int64_t *)net.note != 0; }
"""

ARRIVE = """
/* Adds to a word that all blocks share, after all that was written before, and gives what it held. */
GN_INLINE uint32_t gn_arrive(uint32_t *word, uint32_t more)
{
#if defined(GN_EMULATED)
    return atomicAdd(word, more);
#else
    uint32_t before;
    asm volatile("atom.add.acq_rel.gpu.u32 %0, [%1], %2;" : "=r"(before) : "l"(word), "r"(more) : "memory");
    return before;
#endif
}
"""

MEETING = """
/* What a word that blocks arrive at holds; what they wrote before is seen then. */
GN_INLINE uint32_t gn_arrived(const uint32_t *word)
{
#if defined(GN_EMULATED)
    return *(const volatile uint32_t *)word;
#else
    uint32_t now;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(now) : "l"(word) : "memory");
    return now;
#endif
}

/* All blocks of the grid meet; each then sees what the others wrote before. What they add makes 2^31 together, so
   that the highest bit changes when the last has come, and the others are as they were. */
GN_INLINE void gn_meet(uint32_t *barrier)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        const uint32_t before = gn_arrive(barrier, blockIdx.x == 0 ? 0x80000001u - gridDim.x : 1u);
        while (((before ^ gn_arrived(barrier)) & 0x80000000u) == 0)
            GN_PAUSE();
    }
    __syncthreads();
}
"""

LAST = """
/* Whether all other blocks have ended; what they wrote is seen then. */
GN_INLINE bool gn_last(uint32_t *barrier)
{
    __syncthreads();
    const bool last = __syncthreads_or(threadIdx.x == 0 && gn_arrive(barrier + 1, 1u) == gridDim.x - 1);
    if (last && threadIdx.x == 0)
        barrier[1] = 0;
    return last;
}
"""
