"""What graphnet's graphs and the steps of its schedules cost, as the records of their ops say: FLOPs and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from graphnet.compiler.ir import Graph, Type
from graphnet.compiler.record import REGISTRY, lookup
from graphnet.compiler.schedule import Array, Branch, Fused, Instruction, Kernel, Loop, Many, Rows, Step


def costs(graph: Graph) -> tuple[int, int]:
    """FLOPs and bytes moved by all ops of a compiled graph, as their records have them; loops count in full."""
    flops = nbytes = 0
    for node in graph.nodes():
        inner = [value for value in node.attrs.values() if isinstance(value, Graph)]
        if inner:
            counted = [costs(body) for body in inner]
            # a loop runs its body many times, a branch the costlier of its two
            found = max(counted, key=lambda cost: cost[0])
            times = node.attrs.get("length", 1)
        elif not node.inputs or node.op == "get":
            continue
        else:
            found, times = lookup(node.op).cost([i.out for i in node.inputs], node.out, node.attrs), 1
        flops, nbytes = flops + found[0] * times, nbytes + found[1] * times
    return flops, nbytes


def least_bytes(graph: Graph) -> int:
    """What a step must touch however it is computed: every leaf read once, every new value and result written once."""
    read = sum(node.out.nbytes for node in graph.leaves())
    return read + sum(node.out.nbytes for node in graph.roots())


def cost(step: Step) -> dict[str, Any]:
    """A step's FLOPs, its bytes (every operand read once, every result written once) and the shape of its result.

    A loop's are those of its body times its length, a branch's those of its costlier side.
    """
    flops, nbytes = _cost(step)
    return {"flops": flops, "bytes": nbytes, "shape": list(_shape(step))}


def _cost(step: Step) -> tuple[int, int]:
    if isinstance(step, Loop):
        flops, nbytes = _sum(step.body)
        return flops * step.length, nbytes * step.length
    if isinstance(step, Branch):
        return max(_sum(step.then), _sum(step.orelse))
    if isinstance(step, Many):
        return _sum(step.members)
    return _flops(step), sum(_touched(a) for a in dict.fromkeys((*step.inputs, *step.outputs)))


def _sum(steps: Sequence[Step]) -> tuple[int, int]:
    found = [_cost(s) for s in steps]
    return sum(flops for flops, _ in found), sum(nbytes for _, nbytes in found)


def _flops(step: Kernel | Fused | Rows) -> int:
    if isinstance(step, Rows):
        return _program(step.program, step.shape)
    if isinstance(step, Fused):
        return _program(step.program, step.outputs[0].shape)
    ins = [Type(a.shape, a.dtype) for a in step.inputs]
    out = Type(step.outputs[0].shape, step.outputs[0].dtype)
    more = 0
    if step.epilogue is not None:
        ins, out = ins[: step.epilogue.own], Type(step.epilogue.shape, step.epilogue.dtype)
        more += _program(step.epilogue.program, step.outputs[0].shape)
    if step.prologue is not None:
        ins = [Type(step.prologue.shape, out.dtype)]
        more += _program(step.prologue.program, step.prologue.shape)
    if step.op not in REGISTRY:  # made by lowering, to move values or to compare them
        return more
    return lookup(step.op).cost(ins, out, step.attrs)[0] + more


def _program(program: Sequence[Instruction], shape: Sequence[int]) -> int:
    one = Type((), "float32")
    elementwise = [i for i in program if i.op in REGISTRY and REGISTRY[i.op].kind == "elementwise"]
    each = sum(lookup(i.op).cost([one] * len(i.operands), one, i.attrs)[0] for i in elementwise)
    return prod(shape) * (each + len(program) - len(elementwise))  # a reduction over columns: one for each element


def _touched(a: Array) -> int:
    """Bytes of an operand; an axis that repeats the same elements counts once."""
    return a.itemsize * prod(n for n, s in zip(a.shape, a.strides, strict=True) if s)


def _shape(step: Step) -> tuple[int, ...]:
    if isinstance(step, Loop):
        return (step.length,)
    if isinstance(step, Branch):
        return ()
    if isinstance(step, Rows):
        return step.shape
    return step.outputs[0].shape
