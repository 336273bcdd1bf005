"""A plan as one C file: a function a step, and the function that runs them in order on every thread."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from graphnet.compiler.c.hazards import Access, Choice, Item, Piece, Repeat, access, clear, place_barriers
from graphnet.compiler.c.memory import Memory, constant_text
from graphnet.compiler.c.steps import FAILED, Function, Steps, block_comment, is_elementwise_op
from graphnet.compiler.printers.schedule import Writer
from graphnet.compiler.printers.text import clean, count, plural
from graphnet.compiler.schedule import Branch, Loop, Plan, Step, Storage, flat
from graphnet.kernels.c.prelude import HEADER
from graphnet.kernels.c.view import CTYPES

LEAST_WORK = 2500.0
"""Nanoseconds of work below which a phase is left to thread 0: meeting costs about as much."""

SERIAL = 5
"""Below so many times as much work in the whole step, one thread does it all."""


@dataclass(frozen=True)
class Source:
    """The text, the storages its table H is to be filled with, how many threads run it, and its parts' names.

    ``pieces`` are the text cut into files that can be compiled at the same time.
    """

    text: str
    table: tuple[Storage, ...]
    threads: int
    parts: tuple[str, ...]
    pieces: tuple[str, ...]


@dataclass
class _Call:
    """A function call in the run: what it waits for is on its piece."""

    function: Function
    polls: bool = False


@dataclass
class _Loop:
    loop: Loop
    body: list[_Node]
    item: Repeat


@dataclass
class _Branch:
    branch: Branch
    sides: tuple[list[_Node], list[_Node]]
    item: Choice


_Node = _Call | _Loop | _Branch


def emit(plan: Plan, threads: int = 1, timed: bool = False, least_work: float = LEAST_WORK) -> Source:
    """The C text of a plan for a number of threads; ``timed`` adds each step as a part of its own.

    Phases of less than ``least_work`` nanoseconds are not split among the threads.
    """
    file = _File(plan, threads, least_work)
    if threads > 1 and file.steps.cost * file.repeats < SERIAL * least_work:
        file = _File(plan, 1, least_work)
    runs, parts = file.runs(timed)
    whole = file.assemble(file.functions, runs)
    return Source(whole, tuple(file.memory.table), file.threads, parts, file.pieces(whole, runs))


def phases_apart(plan: Plan) -> tuple[str, ...]:
    """The phases that are parts of their own, after part 0, which is everything: those of a plan run by phases."""
    changes = sum(a.phase != b.phase for a, b in itertools.pairwise(plan.steps))
    return plan.phases if len(plan.phases) > 1 and changes == len(plan.phases) - 1 else ()


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
        self._comments = Writer(plan)
        self._number = 0
        self._failing = False
        self.functions: list[Function] = []
        self._nodes = [self._node(s) for s in plan.steps]

    # -- steps to nodes -------------------------------------------------------------------------------

    def _node(self, step: Step) -> list[_Node]:
        if isinstance(step, Loop):
            item = Repeat()
            body = self._nodes_of(step.body)
            item.body += [i for n in body for i in _items([n])]
            return [_Loop(step, body, item)]
        if isinstance(step, Branch):
            then, orelse = self._nodes_of(step.then), self._nodes_of(step.orelse)
            test = access(self.memory, step.predicate, False, None, 1)
            piece = Piece((test,) if test else (), True)
            return [_Branch(step, (then, orelse), Choice(piece, (_items(then), _items(orelse))))]
        calls: list[_Node] = []
        for f in self.steps.functions(step, step.position, self._comments.step(step, "")):
            self.functions.append(f)
            calls.append(_Call(f, polls=f.writes_home and self._failing))
            if calls and isinstance(calls[-1], _Call) and calls[-1].polls:
                _poll(f)
                self._failing = False
            self._failing |= f.fails
        return calls

    def _nodes_of(self, steps: Sequence[Step]) -> list[_Node]:
        return [node for step in steps for node in self._node(step)]

    # -- text -----------------------------------------------------------------------------------------

    def runs(self, timed: bool) -> tuple[list[str], tuple[str, ...]]:
        """Functions that run everything, a phase or a step, with a table of them; and their names."""
        everything = [n for nodes in self._nodes for n in nodes]
        parts: list[tuple[str, list[_Node]]] = [("step", everything)]
        for phase in phases_apart(self.plan):
            pairs = zip(self.plan.steps, self._nodes, strict=True)
            parts.append((phase, [n for s, nodes in pairs if s.phase == phase for n in nodes]))
        if timed:
            parts += [(f"part{i}", nodes) for i, nodes in enumerate(self._nodes)]
        names = tuple(name for name, _ in parts)
        table = f"static void (*const parts[])(struct net *, int) = {{{', '.join(names)}}};\n"
        return [*(self._run(name, nodes) for name, nodes in parts), table, ENTRY], names

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
        weights = [len(f.text) + sum(map(len, f.helpers)) for f in self.functions]
        if sum(weights) < SPLIT_CHARACTERS:
            return (whole,)
        # neighbours in the order of their helpers share them
        order = sorted(range(len(weights)), key=lambda i: (self.functions[i].helpers, i))
        half, first = 0, []
        for i in order:
            if half < sum(weights) / 2:
                first.append(i)
                half += weights[i]
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
        table = [f" *   H[{i}] {s.kind} {_safe(s.name)}, {count(s.nbytes)} B" for i, s in enumerate(self.memory.table)]
        entries = "\n".join(["/* memory that outlives a call:", *table, " */"]) if table else ""
        return "\n".join([*lines, NET.replace("ENTRIES", str(max(1, len(table)))), entries])

    def _run(self, name: str, nodes: list[_Node]) -> str:
        items = _items(nodes)
        clear(items)
        place_barriers(items)
        lines = self._lines(nodes, "    ")
        unused = "" if self.threads > 1 and any("tid" in line for line in lines) else "    (void)tid;\n"
        unused += "" if lines else "    (void)net;\n"
        body = "\n".join(lines)
        return f"static void {name}(struct net *net, int tid)\n{{\n{unused}{body}\n}}\n"

    def _lines(self, nodes: Sequence[_Node], indent: str) -> list[str]:
        lines: list[str] = []
        serial: list[str] = []

        def flush() -> None:
            if serial:
                lines.append(f"{indent}if (tid == 0) {{")
                lines.extend(f"    {line}" for line in serial)
                lines.append(f"{indent}}}")
                serial.clear()

        for group in _groups(nodes):
            node = group[0]
            if len(group) > 1:
                flush()
                lines.extend(self._blocked(group, indent))
                continue
            if self.threads > 1 and _serial([node]):
                head = next(_calls([node]), None)
                if head is not None and _barrier_inside([node]):
                    flush()
                    lines += self._barrier(True, indent)
                serial.extend(self._plain(node, indent))
                continue
            flush()
            lines.extend(self._threaded(node, indent))
        flush()
        return lines

    def _plain(self, node: _Node, indent: str) -> list[str]:
        """A node that one thread runs."""
        if isinstance(node, _Call):
            poll = [f"{indent}if (net->failed) return;"] if node.polls else []
            return [*poll, f"{indent}{node.function.call(self.threads)}"]
        if isinstance(node, _Loop):
            inner = [line for n in node.body for line in self._plain(n, indent + "    ")]
            return [f"{indent}{_for(node.loop)}", *inner, f"{indent}}}"]
        return self._choice(node, indent, lambda n, i: self._plain(n, i))

    def _threaded(self, node: _Node, indent: str) -> list[str]:
        """A node that all threads run; without threads the same, with nothing to wait for."""
        if isinstance(node, _Call):
            lines = self._barrier(node.function.piece.barrier, indent)
            if self.threads > 1 and not node.function.piece.parallel:
                *poll, call = self._plain(node, "")
                return [*lines, *(indent + p for p in poll), f"{indent}if (tid == 0)", f"{indent}    {call}"]
            return [*lines, *self._plain(node, indent)]
        if isinstance(node, _Loop):
            lines = self._barrier(node.item.barrier, indent)
            return [*lines, f"{indent}{_for(node.loop)}", *self._lines(node.body, indent + "    "), f"{indent}}}"]
        lines = self._barrier(node.item.test.barrier, indent)
        return [*lines, *self._choice(node, indent, lambda n, i: self._lines([n], i))]

    def _barrier(self, wanted: bool, indent: str) -> list[str]:
        return [f"{indent}net->barrier();"] if wanted and self.threads > 1 else []

    def _blocked(self, group: Sequence[_Node], indent: str) -> list[str]:
        """Calls that each thread runs block by block, so that what one wrote is still in the cache for the next."""
        calls = [n for n in group if isinstance(n, _Call)]
        first = calls[0].function
        start, end = (
            ("0", str(first.units))
            if self.threads == 1
            else (f"CUT({first.units}, tid)", f"CUT({first.units}, tid + 1)")
        )
        block = _block(calls)
        return [
            *self._barrier(first.piece.barrier, indent),
            f"{indent}for (long u = {start}, end = {end}; u < end; u += {block}) {{",
            f"{indent}    const long v = u + {block} < end ? u + {block} : end;",
            *(f"{indent}    {c.function.call(self.threads, ('u', 'v'))}" for c in calls),
            f"{indent}}}",
        ]

    def _choice(self, node: _Branch, indent: str, write: Callable[[_Node, str], list[str]]) -> list[str]:
        predicate = node.branch.predicate
        pointer = self.memory.address(predicate).replace("A +", "net->A +").replace("H[", "net->H[")
        value = f"*(const {CTYPES[predicate.dtype]} *)({pointer})"
        inner = indent + "    "
        sides = [[line for n in side for line in write(n, inner)] for side in node.sides]
        return [f"{indent}if ({value}) {{", *sides[0], f"{indent}}} else {{", *sides[1], f"{indent}}}"]


HIDDEN = '__attribute__((visibility("hidden"))) '

SPLIT_CHARACTERS = 30_000
"""Text from which on a file is cut in two to be compiled."""

BLOCKS = ("fused", "copy", "max_pool", "pool_scatter", "pool_gather", "conv2d", "conv2d_input")
"""Ops whose phases cost the same in several pieces as in one; elementwise ops besides."""

CACHE_BYTES = 1 << 20
BLOCK_BYTES = 1 << 18
"""Calls that touch more than a core's cache holds are run in blocks that touch a part of it."""


def _groups(nodes: Sequence[_Node]) -> list[list[_Node]]:
    """Runs of calls over the same units that meet in no other unit's memory, where blocks of them pay."""
    found: list[list[_Node]] = []
    for node in nodes:
        last = found[-1] if found else []
        if last and _goes_on(last[-1], node):
            last.append(node)
        else:
            found.append([node])
    return [part for group in found for part in ([group] if _pays(group) else [[n] for n in group])]


def _goes_on(before: _Node, node: _Node) -> bool:
    if not isinstance(before, _Call) or not isinstance(node, _Call) or node.polls:
        return False
    a, c = before.function, node.function
    blocks = all(f.op in BLOCKS or is_elementwise_op(f.op) for f in (a, c))
    same = a.piece.parallel and c.piece.parallel and a.units == c.units
    return blocks and same and not c.piece.barrier and not c.fails


def _unit_bytes(calls: Sequence[_Call]) -> int:
    """Bytes that one unit touches in all calls together."""
    seen: dict[tuple[int, int], int] = {}
    for call in calls:
        for a in call.function.piece.accesses:
            if a.tag is not None and a.tag[0] == "windows":
                seen[a.space, a.low] = max(seen.get((a.space, a.low), 0), a.nbytes)
    return sum(seen.values()) // calls[0].function.units


def _pays(group: Sequence[_Node]) -> bool:
    calls = [n for n in group if isinstance(n, _Call)]
    if len(calls) < 2:
        return False
    units = calls[0].function.units
    return _unit_bytes(calls) * units > CACHE_BYTES and _block(calls) * 2 <= units


def _block(calls: Sequence[_Call]) -> int:
    return max(1, BLOCK_BYTES // max(1, _unit_bytes(calls)))


def _poll(function: Function) -> None:
    """Threads agree on whether an index was bad before they write homes."""
    piece = function.piece
    piece.accesses = (*piece.accesses, Access(FAILED, 0, 1, None, True))


def _for(loop: Loop) -> str:
    k = f"k{loop.id}"
    return f"for (long {k} = 0; {k} < {loop.length}; ++{k}) {{"


def _items(nodes: Sequence[_Node]) -> list[Item]:
    return [n.function.piece if isinstance(n, _Call) else n.item for n in nodes]


def _calls(nodes: Sequence[_Node]) -> Iterator[_Call]:
    for node in nodes:
        if isinstance(node, _Call):
            yield node
        elif isinstance(node, _Loop):
            yield from _calls(node.body)
        else:
            for side in node.sides:
                yield from _calls(side)


def _serial(nodes: Sequence[_Node]) -> bool:
    """True if thread 0 runs all of it."""
    if any(isinstance(n, _Branch) for n in nodes):
        return False
    return all(
        not n.function.piece.parallel if isinstance(n, _Call) else _serial(n.body)
        for n in nodes
        if not isinstance(n, _Branch)
    ) and not any(c.polls for c in _calls(nodes))


def _barrier_inside(nodes: Sequence[_Node]) -> bool:
    loops = any(n.item.barrier or _barrier_inside(n.body) for n in nodes if isinstance(n, _Loop))
    return loops or any(c.function.piece.barrier for c in _calls(nodes))


def _safe(name: str) -> str:
    return clean(name).replace("*/", "* /").replace("/*", "/ *")


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
