"""A plan as one C file: a function a step, and the function that runs them in order on every thread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphnet.compiler.c.run import BranchOf, Call, LoopOf, Node, Runner, items_of, poll
from graphnet.compiler.c.steps import Function, Steps
from graphnet.compiler.printers.schedule import Writer
from graphnet.compiler.printers.text import clean, count, plural
from graphnet.compiler.schedule import Branch, Loop, Plan, Step, Storage, flat, phases_apart
from graphnet.compiler.text.hazards import Choice, Piece, Repeat, access
from graphnet.compiler.text.memory import Memory, constant_text
from graphnet.compiler.text.programs import block_comment
from graphnet.kernels.c.prelude import HEADER

LEAST_WORK = 2500.0
"""Nanoseconds of work below which a phase is left to thread 0: meeting costs about as much."""

SERIAL = 5
"""Below so many times as much work in the whole step, one thread does it all."""


@dataclass(frozen=True)
class Source:
    """The text, the storages its table H is to be filled with, and how many threads run it.

    ``pieces`` are the text cut into files that can be compiled at the same time.
    """

    text: str
    table: tuple[Storage, ...]
    threads: int
    pieces: tuple[str, ...]


def emit(plan: Plan, threads: int = 1, timed: bool = False, least_work: float = LEAST_WORK) -> Source:
    """The C text of a plan for a number of threads; ``timed`` adds each step as a part of its own.

    Phases of less than ``least_work`` nanoseconds are not split among the threads.
    """
    file = _File(plan, threads, least_work)
    if threads > 1 and file.steps.cost * file.repeats < SERIAL * least_work:
        file = _File(plan, 1, least_work)
    runs = file.runs(timed)
    whole = file.assemble(file.functions, runs)
    return Source(whole, tuple(file.memory.table), file.threads, file.pieces(whole, runs))


def identity(plan: Plan, threads: int, least_work: float) -> str:
    """What ``emit`` makes its text of: plans of one identity have one text, for one instruction set."""
    facts = (plan.steps, plan.storages, plan.leaves, plan.outputs, plan.memory, plan.phases, plan.graph.name)
    return repr((threads, least_work, *facts))


class _File:
    def __init__(self, plan: Plan, threads: int, least_work: float) -> None:
        self.plan = plan
        self.threads = threads
        self.memory = Memory(plan)
        self.steps = Steps(self.memory, threads, least_work)
        self.repeats = max([s.length for s in flat(plan.steps) if isinstance(s, Loop)], default=1)
        self._runner = Runner(self.memory, threads)
        self._comments = Writer(plan)
        self._number = 0
        self._failing = False
        self.functions: list[Function] = []
        self._nodes = [self._node(s) for s in plan.steps]

    # -- steps to nodes -------------------------------------------------------------------------------

    def _node(self, step: Step) -> list[Node]:
        if isinstance(step, Loop):
            item = Repeat()
            body = self._nodes_of(step.body)
            item.body += [i for n in body for i in items_of([n])]
            return [LoopOf(step, body, item)]
        if isinstance(step, Branch):
            then, orelse = self._nodes_of(step.then), self._nodes_of(step.orelse)
            test = access(self.memory, step.predicate, False, None, 1)
            piece = Piece((test,) if test else (), True)
            return [BranchOf(step, (then, orelse), Choice(piece, (items_of(then), items_of(orelse))))]
        calls: list[Node] = []
        for f in self.steps.functions(step, step.position, self._comments.step(step, "")):
            self.functions.append(f)
            calls.append(Call(f, polls=f.writes_home and self._failing))
            if calls and isinstance(calls[-1], Call) and calls[-1].polls:
                poll(f)
                self._failing = False
            self._failing |= f.fails
        return calls

    def _nodes_of(self, steps: Sequence[Step]) -> list[Node]:
        return [node for step in steps for node in self._node(step)]

    # -- text -----------------------------------------------------------------------------------------

    def runs(self, timed: bool) -> list[str]:
        """Functions that run everything, a phase or a step, with a table of them."""
        everything = [n for nodes in self._nodes for n in nodes]
        parts: list[tuple[str, list[Node]]] = [("step", everything)]
        for phase in phases_apart(self.plan):
            pairs = zip(self.plan.steps, self._nodes, strict=True)
            parts.append((phase, [n for s, nodes in pairs if s.phase == phase for n in nodes]))
        if timed:
            parts += [(f"part{i}", nodes) for i, nodes in enumerate(self._nodes)]
        names = ", ".join(name for name, _ in parts)
        table = f"static void (*const parts[])(struct net *, int) = {{{names}}};\n"
        return [*(self._runner.write(name, nodes) for name, nodes in parts), table, ENTRY]

    def assemble(self, functions: Sequence[Function], runs: Sequence[str], elsewhere: Sequence[Function] = ()) -> str:
        """A file of these functions; those ``elsewhere`` are declared, and none is static where there are any."""
        written = "\n".join([*(f.text for f in functions), *runs])
        # a constant that is a result is read by no step
        constants = [(s, dtype) for s, dtype in self.memory.constants if re.search(rf"\bc{s.id}\b", written)]
        apart = bool(elsewhere)
        sections = [
            self._head(),
            HEADER,
            self._net(),
            *dict.fromkeys(h for f in functions for h in f.helpers),
            *(constant_text(s, dtype) for s, dtype in constants),
            *(f"{HIDDEN}{f.signature};" for f in elsewhere if runs),
            *(f.text.replace(f"static {f.signature}", HIDDEN + f.signature, 1) if apart else f.text for f in functions),
            *runs,
        ]
        return "\n".join(sections)

    def pieces(self, whole: str, runs: Sequence[str]) -> tuple[str, ...]:
        """The file in two halves of about equal work for a compiler, or as it is where that is little."""
        # neighbours in the order of their helpers share them
        order = sorted(range(len(self.functions)), key=lambda i: (self.functions[i].helpers, i))
        ordered = [self.functions[i] for i in order]
        if _work(ordered) < SPLIT_WORK:
            return (whole,)
        more = sum(map(len, runs)) // 2
        cut = min(range(1, len(order)), key=lambda k: abs(_work(ordered[:k]) + more - _work(ordered[k:])))
        first = {*order[:cut]}
        one = [f for i, f in enumerate(self.functions) if i in first]
        other = [f for i, f in enumerate(self.functions) if i not in first]
        return self.assemble(one, runs, other), self.assemble(other, (), one)

    def _head(self) -> str:
        m = self.plan.memory
        steps = plural(len(list(flat(self.plan.steps))), "step")
        return block_comment(
            [
                f"{clean(self.plan.graph.name)}: {steps}, arena {count(m.arena)} B, {plural(self.threads, 'thread')}",
                "Written by graphnet. Positions, buffers and formulas are those of the schedule.",
            ]
        )

    def _net(self) -> str:
        lines = [f"#define THREADS {self.threads}"]
        if self.threads > 1:
            lines.append("/* where the share of thread t begins */")
            lines.append("#define CUT(units, t) ((long)(units) * (t) / THREADS)")
        return "\n".join(
            [*lines, NET.replace("ENTRIES", str(max(1, len(self.memory.table)))), self.memory.table_comment()]
        )


HIDDEN = '__attribute__((visibility("hidden"))) '

SPLIT_WORK = 12_000
"""Work from which on a file is cut in two to be compiled."""


def _work(functions: Sequence[Function]) -> int:
    """A measure of what a compiler has to do: characters of functions, and of helpers once, which are simpler."""
    code = [f.text.partition("*/")[2] for f in functions]
    return sum(map(len, code)) + sum(map(len, {h for f in functions for h in f.helpers})) * 2 // 5


NET = """
struct net {
    char *A;                /* the arena */
    int (*parallel)(void (*work)(void *, int), void *argument, int threads);
    void (*barrier)(void);
    int64_t part;           /* what to run: 0 for all */
    int64_t failed, step, value, rows;
    char *H[ENTRIES];
};

/* Notes the first index that was out of range; nothing is written to parameters after it. */
__attribute__((unused)) static void gn_fail(struct net *net, int step, int64_t value, int64_t rows)
{
    int64_t none = 0;
    if (__atomic_compare_exchange_n(&net->failed, &none, 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        net->step = step;
        net->value = value;
        net->rows = rows;
    }
}
#define GN_FAIL(index, count) gn_fail(net, gn_step, (index), (count))
"""

ENTRY = """\
static void work(void *argument, int tid)
{
    struct net *net = argument;
    parts[net->part](net, tid);
}

/* Runs one part; returns 1 if an index was out of range, -1 if threads could not be had, else 0.
   Part -1 runs nothing and returns how many threads the others run on. */
int gn_run(struct net *net, int part)
{
    if (part < 0)
        return THREADS;
    net->part = part;
    net->failed = 0;
    if (THREADS == 1)
        work(net, 0);
    else if (net->parallel(work, net, THREADS))
        return -1;
    return (int)net->failed;
}
"""
