"""The schedule as a listing: what runs, in order, on which memory.

   4 fused (100,500) float32  at lenet.py:14 lenet/dense_1
       out0 [arena+0x1240 200,000 B] <- in0 [arena+0x1240 200,000 B] (100,500), in1 [param lenet/dense_1/b] (500,)
       out0 = relu(in0 + in1)

A result stands left of the arrow, operands right of it; positions count the steps inside loops and branches too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from graphnet.compiler.ir import Type, Where
from graphnet.compiler.printers.buffers import Buffers
from graphnet.compiler.printers.expression import formulas
from graphnet.compiler.printers.text import Places, attributes, clean, count, plural, several, shape
from graphnet.compiler.schedule import Array, Branch, Fused, Kernel, Leaf, Loop, Many, Plan, Rows, Step, flat

_LONG = 110


def listing(plan: Plan) -> str:
    """Every step by phase: position, op, user line, buffers with shapes, and formulas of fused groups."""
    writer = Writer(plan)
    m = plan.memory
    lines = [
        f"schedule {clean(plan.graph.name)}: {plural(len(list(flat(plan.steps))), 'step')}, "
        f"arena {count(m.arena)} B (lower bound {count(m.lower_bound)} B)"
    ]
    # a phase heads each run of its steps, so that nothing is lost if phases interleave
    phase = None
    for step in plan.steps:
        if step.phase != phase:
            phase = step.phase
            lines.append(f"{phase}:")
        lines += writer.step(step, "")
    return "\n".join(lines) + "\n"


class Writer:
    """Writes steps of one plan; also what stands above each function of generated C."""

    def __init__(self, plan: Plan) -> None:
        self.buffers = Buffers(plan)
        steps = [m for s in flat(plan.steps) for m in (s, *(s.members if isinstance(s, Many) else ()))]
        self.places = Places(s.where for s in steps)

    def step(self, step: Step, indent: str) -> list[str]:
        """The lines of one step, those of its body indented."""
        if isinstance(step, Loop):
            lines = [self._head(step.position, f"loop k{step.id} of {step.length}", step.where, indent)]
            return [*lines, *self._body(step.body, indent)]
        if isinstance(step, Branch):
            predicate = self.buffers.name(step.predicate)
            lines = [self._head(step.position, f"if {predicate}", step.where, indent)]
            lines += [*self._body(step.then, indent), f"{indent}     else"]
            return [*lines, *self._body(step.orelse, indent)]
        if isinstance(step, Many):
            return self._many(step, indent)
        options = _options(step) if isinstance(step, Kernel) else []
        if isinstance(step, Rows):
            options = [f"of {step.shape[-1]}:"]
        what = " ".join([step.op, *options, _types(step.outputs)])
        return [
            self._head(step.position, what, step.where, indent),
            *(f"{indent}       {line}" for line in self._details(step)),
        ]

    def _head(self, position: int, what: str, where: Where, indent: str) -> str:
        return f"{indent}{position:4} {what}{self._place(where)}"

    def _place(self, where: Where) -> str:
        scope = f" {clean(where.scope)}" if where.scope else ""
        return f"{self.places.at(where) or (scope and ' ')}{scope}"

    def _body(self, steps: Iterable[Step], indent: str) -> list[str]:
        lines = [line for step in steps for line in self.step(step, f"{indent}   | ")]
        return lines or [f"{indent}   |      nothing"]

    def _details(self, step: Leaf) -> list[str]:
        """Buffers on one line, or on a line each where that gets long; then the formulas of programs."""
        epilogue = step.epilogue if isinstance(step, Kernel) else None
        prologue = step.prologue if isinstance(step, Kernel) else None
        own = len(step.inputs) if epilogue is None else epilogue.own
        # operands of a kernel without a program of its own are in no formula
        first = own if isinstance(step, Kernel) and prologue is None else 0
        named = not isinstance(step, Kernel) or epilogue is not None or prologue is not None
        results = self._named("out", step.outputs, named, self.buffers.name)
        literals = [self.buffers.literal(a) if i >= first else None for i, a in enumerate(step.inputs)]
        held = [a for a, text in zip(step.inputs, literals, strict=True) if text is None]
        operands = self._named("in", held, named, self.buffers.named)
        if step.scratch is not None:
            operands.append(f"scratch {self.buffers.name(step.scratch)}")
        lines = [f"{', '.join(results)} <- {', '.join(operands) or 'nothing'}"]
        if len(lines[0]) > _LONG:
            lines = [*results, *(f"<- {text}" for text in operands)]
        names = iter(f"in{i}" for i in range(len(held)))
        written = [text if text is not None else next(names) for text in literals]
        if isinstance(step, (Fused, Rows)):
            lines += formulas(step.program, written)
        if prologue is not None:
            *before, value = formulas(prologue.program, written[:own])
            lines += [*before, f"{step.op} of {value.removeprefix('out0 = ')}"]
        if epilogue is not None:
            taken = written[own:]
            for group, place in sorted(enumerate(epilogue.products), key=lambda pair: pair[1]):
                taken.insert(place, f"{step.op}[{group}]" if len(epilogue.products) > 1 else step.op)
            lines += formulas(epilogue.program, taken)
        return lines

    def _many(self, step: Many, indent: str) -> list[str]:
        """What all members share and the formulas, then a line for each member's own buffers."""
        first = step.members[0]
        literals = [self.buffers.literal(a) if i in step.shared else None for i, a in enumerate(first.inputs)]
        numbers = iter(f"in{i}" for i in range(len(first.inputs)))
        names = [text if text is not None else next(numbers) for text in literals]
        shared = [i for i in step.shared if literals[i] is None]
        # what is updated where it lies is named as a result
        over = {i: k for i, a in enumerate(first.inputs) for k, o in enumerate(first.outputs) if a == o}
        own = [i for i in range(len(first.inputs)) if i not in (*step.shared, *over)]
        lines = [f"<- {names[i]} {self.buffers.named(first.inputs[i])}" for i in shared]
        lines += [f"<- {', '.join(f'{names[i]} [out{k}]' for i, k in over.items())}"] if over else []
        lines += formulas(first.program, names)
        for m in step.members:
            results = self._named("out", m.outputs, True, self.buffers.name)
            read = [f"{names[i]} {self.buffers.name(m.inputs[i])}" for i in own]
            buffers = f"{', '.join(results)} <- {', '.join(read) or 'nothing'}"
            lines.append(f"{shape(m.outputs[0].shape)} {buffers}{self._place(m.where)}")
        elements = count(sum(m.outputs[0].size for m in step.members))
        types = several(a.dtype for a in first.outputs)
        what = f"{step.op} {len(step.members)} updates of {elements} elements, {types}"
        return [self._head(step.position, what, step.where, indent), *(f"{indent}       {line}" for line in lines)]

    def _named(self, kind: str, arrays: Sequence[Array], fused: bool, write: Callable[[Array], str]) -> list[str]:
        return [f"{kind}{i} {write(a)}" if fused else write(a) for i, a in enumerate(arrays)]


def _options(step: Kernel) -> list[str]:
    result = Type(step.outputs[0].shape, step.outputs[0].dtype)
    return [f"{name}=>{value}" for name, value in attributes(step.attrs, result).items()]


def _types(arrays: Sequence[Array]) -> str:
    return several(f"{shape(a.shape)} {a.dtype}" for a in arrays)
