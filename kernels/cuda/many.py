"""One elementwise program on arrays of several sizes: a unit is a block of one of them.

    a = a - lr * g   over a of 103, 26368 and 1024 elements

    if (unit < 1)                 first = 0, size = 103, out0 = a0, in1 = g0
    else if (unit < 104)   ->     first = 1, size = 26368, out0 = a1, in1 = g1
    else                          first = 104, size = 1024, out0 = a2, in1 = g2
    i = (unit - first) * 256 + threadIdx.x
    if (i < size)
        out0[i] = out0[i] - x0 * in1[i]

The member is found by halves, so that a pass over hundreds takes a few comparisons. As in nest.py, a thread has
several elements where there are many, and reads them all first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphnet.kernels.cuda.nest import block, body_of, per_thread
from graphnet.kernels.cuda.phase import THREADS, Job, Phase
from graphnet.kernels.text.program import Instr, Member, Program
from graphnet.kernels.text.view import View


def block_of(members: Sequence[Member]) -> int:
    """Elements of a unit; the last of a member may have fewer."""
    return THREADS * per_thread(sum(m.size for m in members))


def many(
    outs: Sequence[View], ins: Sequence[View], program: Iterable[Instr], members: Sequence[Member], job: Job
) -> list[Phase]:
    """The program on all elements of every member, bit for bit as each alone.

    ``outs`` and ``ins`` are what the program's operands are for one member. Ins without axes are shared, and are
    declared around the body; the names of all others are set to each member's ``pointers``, in the order in which
    the names come. Ins may be outs; otherwise nothing that is written overlaps anything else.
    """
    members = [m for m in members if m.size]
    if not members:
        return []
    views = (*outs, *ins)
    own = list(dict.fromkeys(v.name for v in views if v.shape))
    ctypes = {v.name: f"const {v.ctype}" for v in ins} | {v.name: v.ctype for v in outs}
    found = Program(outs, ins, program)
    names = (*(v.name for v in views), "first", "size", "unit", "start", "i", "q")
    found.name({}, names)
    for value, view in zip(found.values, ins, strict=False):
        value.depth = len(view.shape)
    large = max(m.size for m in members) >= (1 << 31) - 4 * THREADS
    index, each = "long long" if large else "int", block_of(members) // THREADS
    loaded = [k for k, v in enumerate(ins) if v.shape and found.values[k].uses]
    given = {k: found.values[k].name for k in loaded}
    # what does not vary from element to element is computed once
    before, lines = found.stored(lambda k: "i" if views[k].shape else "0", given, 1)
    text = [
        *before,
        f"{index} first, size; /* the first unit of the member that has this one, and its elements */",
        *(f"{ctypes[name]} *{name};" for name in own),
        *_choice(members, _firsts(members), own),
        f"const {index} start = (unit - first) * {each * THREADS} + (int)threadIdx.x;",
    ]
    loads = [(ins[k].ctype, found.values[k].name, f"{ins[k].name}[i]") for k in loaded]
    text += _turns(loads, lines, index, each)
    units = _firsts(members)[-1] + -(-members[-1].size // block_of(members))
    note = f"{sum(m.size for m in members)} in {len(members)} arrays"
    return [Phase(body_of(text), units, helpers=found.helpers(), note=note)]


def _firsts(members: Sequence[Member]) -> list[int]:
    """The number of each member's first unit."""
    firsts, units = [], 0
    for member in members:
        firsts.append(units)
        units += -(-member.size // block_of(members))
    return firsts


def _choice(members: Sequence[Member], firsts: Sequence[int], own: Sequence[str]) -> list[str]:
    """Sets what is known of the member that has this unit."""
    if len(members) == 1:
        pointers = [f"{name} = {text};" for name, text in zip(own, members[0].pointers, strict=True)]
        return [" ".join([f"first = {firsts[0]}; size = {members[0].size};", *pointers])]
    half = len(members) // 2
    text = block(f"if (unit < {firsts[half]})", _choice(members[:half], firsts[:half], own))
    return [*text[:-1], *block("} else", _choice(members[half:], firsts[half:], own))]


def _turns(loads: Sequence[tuple[str, str, str]], lines: Sequence[str], index: str, each: int) -> list[str]:
    """The elements of a thread: the loads of all, then the lines for each."""

    def turn(inner: Sequence[str]) -> list[str]:
        at = f"const {index} i = start{f' + q * {THREADS}' if each > 1 else ''};"
        body = [at, *block("if (i < size)", inner)]
        return body if each == 1 else ["#pragma unroll", *block(f"for (int q = 0; q < {each}; ++q)", body)]

    if each == 1:
        return turn([*(f"const {c} {name} = {text};" for c, name, text in loads), *lines])
    return [
        *(f"{c} {name}_of[{each}];" for c, name, _ in loads),
        *turn([f"{name}_of[q] = {text};" for _, name, text in loads]),
        *turn([*(f"const {c} {name} = {name}_of[q];" for c, name, _ in loads), *lines]),
    ]
