"""The function that runs steps in order on every thread: shares, barriers, loops, branches and blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from graphnet.compiler.c.steps import Function
from graphnet.compiler.schedule import Branch, Loop
from graphnet.compiler.text.hazards import FAILED, Access, Choice, Item, Repeat, clear, place_barriers
from graphnet.compiler.text.memory import Memory
from graphnet.compiler.text.programs import is_elementwise_op
from graphnet.kernels.text.view import CTYPES

BLOCKS = (
    *("fused", "rows", "copy", "bounded", "max", "sum"),
    *("max_pool", "pool_scatter", "pool_gather", "conv2d", "conv2d_input"),
)
"""Ops whose phases cost the same in several pieces as in one; elementwise ops besides."""

CACHE_BYTES = 1 << 20
BLOCK_BYTES = 1 << 18
"""Calls that touch more than a core's cache holds are run in blocks that touch a part of it."""


@dataclass
class Call:
    """A function call in the run: what it waits for is on its piece."""

    function: Function
    polls: bool = False


@dataclass
class LoopOf:
    loop: Loop
    body: list[Node]
    item: Repeat


@dataclass
class BranchOf:
    branch: Branch
    sides: tuple[list[Node], list[Node]]
    item: Choice


Node = Call | LoopOf | BranchOf


@dataclass(frozen=True)
class Runner:
    """Writes such functions for a number of threads."""

    memory: Memory
    threads: int

    def write(self, name: str, nodes: list[Node]) -> str:
        """The function ``name(net, tid)`` that runs these nodes, with barriers where threads meet."""
        items = items_of(nodes)
        clear(items)
        place_barriers(items)
        lines = self._lines(nodes, "    ")
        unused = "" if self.threads > 1 and any("tid" in line for line in lines) else "    (void)tid;\n"
        unused += "" if lines else "    (void)net;\n"
        body = "\n".join(lines)
        return f"static void {name}(struct net *net, int tid)\n{{\n{unused}{body}\n}}\n"

    def _lines(self, nodes: Sequence[Node], indent: str) -> list[str]:
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

    def _plain(self, node: Node, indent: str) -> list[str]:
        """A node that one thread runs."""
        if isinstance(node, Call):
            return [*_look(node, indent), f"{indent}{node.function.call(self.threads)}"]
        if isinstance(node, LoopOf):
            inner = [line for n in node.body for line in self._plain(n, indent + "    ")]
            return [f"{indent}{_for(node.loop)}", *inner, f"{indent}}}"]
        return self._choice(node, indent, lambda n, i: self._plain(n, i))

    def _threaded(self, node: Node, indent: str) -> list[str]:
        """A node that all threads run; without threads the same, with nothing to wait for."""
        if isinstance(node, Call):
            lines = self._barrier(node.function.piece.barrier, indent)
            if self.threads > 1 and not node.function.piece.parallel:
                *poll, call = self._plain(node, "")
                return [*lines, *(indent + p for p in poll), f"{indent}if (tid == 0)", f"{indent}    {call}"]
            return [*lines, *self._plain(node, indent)]
        if isinstance(node, LoopOf):
            lines = self._barrier(node.item.barrier, indent)
            return [*lines, f"{indent}{_for(node.loop)}", *self._lines(node.body, indent + "    "), f"{indent}}}"]
        lines = self._barrier(node.item.test.barrier, indent)
        return [*lines, *self._choice(node, indent, lambda n, i: self._lines([n], i))]

    def _barrier(self, wanted: bool, indent: str) -> list[str]:
        return [f"{indent}net->barrier();"] if wanted and self.threads > 1 else []

    def _blocked(self, group: Sequence[Node], indent: str) -> list[str]:
        """Calls that each thread runs block by block, so that what one wrote is still in the cache for the next."""
        calls = [n for n in group if isinstance(n, Call)]
        first = calls[0].function
        start, end = (
            ("0", str(first.units))
            if self.threads == 1
            else (f"CUT({first.units}, tid)", f"CUT({first.units}, tid + 1)")
        )
        block = _block(calls)
        return [
            *self._barrier(first.piece.barrier, indent),
            *_look(calls[0], indent),
            f"{indent}for (long u = {start}, end = {end}; u < end; u += {block}) {{",
            f"{indent}    const long v = u + {block} < end ? u + {block} : end;",
            *(f"{indent}    {c.function.call(self.threads, ('u', 'v'))}" for c in calls),
            f"{indent}}}",
        ]

    def _choice(self, node: BranchOf, indent: str, write: Callable[[Node, str], list[str]]) -> list[str]:
        predicate = node.branch.predicate
        pointer = self.memory.address(predicate).replace("A +", "net->A +").replace("H[", "net->H[")
        value = f"*(const {CTYPES[predicate.dtype]} *)({pointer})"
        inner = indent + "    "
        sides = [[line for n in side for line in write(n, inner)] for side in node.sides]
        return [f"{indent}if ({value}) {{", *sides[0], f"{indent}}} else {{", *sides[1], f"{indent}}}"]


def _groups(nodes: Sequence[Node]) -> list[list[Node]]:
    """Runs of calls over the same units that meet in no other unit's memory, where blocks of them pay."""
    found: list[list[Node]] = []
    for node in nodes:
        last = found[-1] if found else []
        if last and _goes_on(last[-1], node):
            last.append(node)
        else:
            found.append([node])
    return [part for group in found for part in ([group] if _pays(group) else [[n] for n in group])]


def _goes_on(before: Node, node: Node) -> bool:
    if not isinstance(before, Call) or not isinstance(node, Call) or node.polls:
        return False
    a, c = before.function, node.function
    blocks = all(f.op in BLOCKS or is_elementwise_op(f.op) for f in (a, c))
    same = a.piece.parallel and c.piece.parallel and a.units == c.units
    return blocks and same and not c.piece.barrier


def _unit_bytes(calls: Sequence[Call]) -> int:
    """Bytes that one unit touches in all calls together."""
    seen: dict[tuple[int, int], int] = {}
    for call in calls:
        for a in call.function.piece.accesses:
            if a.tag is not None and a.tag[0] == "windows":
                seen[a.space, a.low] = max(seen.get((a.space, a.low), 0), a.nbytes)
    return sum(seen.values()) // calls[0].function.units


def _pays(group: Sequence[Node]) -> bool:
    calls = [n for n in group if isinstance(n, Call)]
    if len(calls) < 2:
        return False
    units = calls[0].function.units
    return _unit_bytes(calls) * units > CACHE_BYTES and _block(calls) * 2 <= units


def _block(calls: Sequence[Call]) -> int:
    return max(1, BLOCK_BYTES // max(1, _unit_bytes(calls)))


def _look(call: Call, indent: str) -> list[str]:
    """What all threads do in front of a call that polls: they leave together, or none does."""
    return [f"{indent}if (net->failed) return;"] if call.polls else []


def poll(function: Function) -> None:
    """Threads agree on whether an index was bad before they write homes."""
    piece = function.piece
    piece.accesses = (*piece.accesses, Access(FAILED, 0, 1, None, True))


def _for(loop: Loop) -> str:
    k = f"k{loop.id}"
    return f"for (long {k} = 0; {k} < {loop.length}; ++{k}) {{"


def items_of(nodes: Sequence[Node]) -> list[Item]:
    return [n.function.piece if isinstance(n, Call) else n.item for n in nodes]


def _calls(nodes: Sequence[Node]) -> Iterator[Call]:
    for node in nodes:
        if isinstance(node, Call):
            yield node
        elif isinstance(node, LoopOf):
            yield from _calls(node.body)
        else:
            for side in node.sides:
                yield from _calls(side)


def _serial(nodes: Sequence[Node]) -> bool:
    """True if thread 0 runs all of it."""
    if any(isinstance(n, BranchOf) for n in nodes):
        return False
    return all(
        not n.function.piece.parallel if isinstance(n, Call) else _serial(n.body)
        for n in nodes
        if not isinstance(n, BranchOf)
    ) and not any(c.polls for c in _calls(nodes))


def _barrier_inside(nodes: Sequence[Node]) -> bool:
    loops = any(n.item.barrier or _barrier_inside(n.body) for n in nodes if isinstance(n, LoopOf))
    return loops or any(c.function.piece.barrier for c in _calls(nodes))
