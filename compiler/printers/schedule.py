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
from graphnet.compiler.schedule import Array, Branch, Fused, Kernel, Loop, Plan, Step, flat

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
        self.places = Places(s.where for s in flat(plan.steps))

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
        options = [] if isinstance(step, Fused) else _options(step)
        what = " ".join([step.op, *options, _types(step.outputs)])
        return [
            self._head(step.position, what, step.where, indent),
            *(f"{indent}       {line}" for line in self._details(step)),
        ]

    def _head(self, position: int, what: str, where: Where, indent: str) -> str:
        scope = f" {clean(where.scope)}" if where.scope else ""
        return f"{indent}{position:4} {what}{self.places.at(where) or (scope and ' ')}{scope}"

    def _body(self, steps: Iterable[Step], indent: str) -> list[str]:
        lines = [line for step in steps for line in self.step(step, f"{indent}   | ")]
        return lines or [f"{indent}   |      nothing"]

    def _details(self, step: Kernel | Fused) -> list[str]:
        """Buffers on one line, or on a line each where that gets long; then the formulas of programs."""
        epilogue = step.epilogue if isinstance(step, Kernel) else None
        prologue = step.prologue if isinstance(step, Kernel) else None
        own = len(step.inputs) if epilogue is None else epilogue.own
        # operands of a kernel without a program of its own are in no formula
        first = own if isinstance(step, Kernel) and prologue is None else 0
        named = isinstance(step, Fused) or epilogue is not None or prologue is not None
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
        if isinstance(step, Fused):
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

    def _named(self, kind: str, arrays: Sequence[Array], fused: bool, write: Callable[[Array], str]) -> list[str]:
        return [f"{kind}{i} {write(a)}" if fused else write(a) for i, a in enumerate(arrays)]


def _options(step: Kernel) -> list[str]:
    result = Type(step.outputs[0].shape, step.outputs[0].dtype)
    return [f"{name}=>{value}" for name, value in attributes(step.attrs, result).items()]


def _types(arrays: Sequence[Array]) -> str:
    return several(f"{shape(a.shape)} {a.dtype}" for a in arrays)
