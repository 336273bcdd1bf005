"""One elementwise program on arrays of several sizes: a single loop, entered once for each member.

    a = a - lr * g   over a of 103, 26368 and 1024 elements

    const struct { float *out0; const float *in1; long size, first; } members[3] = {
        {a0, g0, 103, 0}, {a1, g1, 26368, 1}, {a2, g2, 1024, 104}};
    for (long m = 0; m < 3; ++m)
        for (long i = ...; i < ...; ++i)      the part of member m that lies in the units lo to hi - 1
            out0[i] = out0[i] - x0 * in1[i];

A unit is a block of one member; the blocks are small, so that equal shares of units are equal work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphnet.kernels.c.nest import INDEPENDENT, nanoseconds
from graphnet.kernels.c.phase import Job, Phase
from graphnet.kernels.text.collapse import Loop
from graphnet.kernels.text.program import Instr, Member, Program
from graphnet.kernels.text.view import View

BLOCK = 256
"""Elements of a unit; the last of a member may have fewer."""


def many(
    outs: Sequence[View], ins: Sequence[View], program: Iterable[Instr], members: Sequence[Member], job: Job
) -> list[Phase]:
    """The program on all elements of every member, bit for bit as each alone.

    ``outs`` and ``ins`` are what the program's operands are in the loop. Ins without axes are shared, and are
    declared around the body; the names of all others are set to each member's ``pointers``, in the order in which
    the names come. Ins may be outs; otherwise nothing that is written overlaps anything else.
    """
    own = list(dict.fromkeys(v.name for v in (*outs, *ins) if v.shape))
    ctypes = {v.name: f"const {v.ctype}" for v in ins} | {v.name: v.ctype for v in outs}
    found = Program(outs, ins, program)
    found.name({}, (v.name for v in (*outs, *ins)))
    for value, view in zip(found.values, ins, strict=False):
        value.depth = len(view.shape)
    # what does not vary from element to element is computed once for all members
    before, inside = found.stored(lambda k: "i" if (*outs, *ins)[k].shape else "0", {}, 1)
    rows, units = [], 0
    for member in members:
        rows.append(f"    {{{', '.join(member.pointers)}, {member.size}, {units}}},")
        units += -(-member.size // BLOCK)
    text = [
        "const struct {",
        *(f"    {ctypes[name]} *{name};" for name in own),
        "    long size, first; /* elements, and the first block among those of all */",
        f"}} members[{len(members)}] = {{",
        *rows,
        "};",
        *before,
        f"for (long m = 0; m < {len(members)}; ++m) {{",
        "    const long size = members[m].size, first = members[m].first;",
        f"    const long start = lo > first ? (lo - first) * {BLOCK} : 0;",
        f"    const long stop = (hi - first) * {BLOCK} < size ? (hi - first) * {BLOCK} : size;",
        *(f"    {ctypes[name]} *restrict {name} = members[m].{name};" for name in own),
        "    GN_INDEPENDENT",
        "    for (long i = start; i < stop; ++i) {",
        *(f"        {line}" for line in inside),
        "    }",
        "}",
    ]
    total = sum(member.size for member in members)
    cost = nanoseconds(found, [Loop(total, tuple(len(v.shape) for v in (*outs, *ins)), (0,))])
    body = "\n".join(f"    {line}" for line in text)
    return [Phase(body, units, (), (*found.helpers(), INDEPENDENT), cost, f"{total} in {len(members)} arrays")]
