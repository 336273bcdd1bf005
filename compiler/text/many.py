"""A pass over many members as the kernel writer sees it: the operands of one member, and where those of each lie."""

from __future__ import annotations

from dataclasses import replace

from graphnet.compiler.schedule import Many
from graphnet.compiler.text.memory import Memory, Operand
from graphnet.kernels.text.program import Member
from graphnet.kernels.text.view import View


def operands_of(step: Many, memory: Memory) -> tuple[list[Operand], list[Member]]:
    """The program's operands, outs first: shared ones are declared and have no axes, others have one.

    Arrays that are one memory in each member have one name.
    """
    first = step.members[0]
    numbers = [f"out{i}" for i in range(len(first.outputs))] + [f"in{i}" for i in range(len(first.inputs))]
    shared = {f"in{i}" for i in step.shared}
    found = []
    own: dict[tuple[int, int, str], str] = {}
    operands = memory.operands(first.outputs, first.inputs)
    for array, operand, name in zip((*first.outputs, *first.inputs), operands, numbers, strict=True):
        if name in shared:
            found.append(replace(operand, view=replace(operand.view, shape=(), strides=())))
        else:
            name = own.setdefault((array.storage, array.offset, array.dtype), name)
            found.append(Operand(View(name, array.dtype, (array.size,), (1,))))
    named = [numbers.index(name) for name in own.values()]
    members = []
    for member in step.members:
        arrays = (*member.outputs, *member.inputs)
        pointers = tuple(memory.pointer(arrays[n], n < len(first.outputs)) for n in named)
        members.append(Member(member.outputs[0].size, pointers))
    return found, members
