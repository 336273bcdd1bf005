"""The C backend as lowering sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphnet.compiler.schedule import REDUCTIONS, Array, Rows
from graphnet.compiler.target import Target
from graphnet.compiler.text.programs import rows_program
from graphnet.kernels.c import gemm, reduction
from graphnet.kernels.c.phase import Job
from graphnet.kernels.c.rows import STACK_BYTES, kept_bytes
from graphnet.kernels.c.table import SCRATCH
from graphnet.kernels.c.tile import targeting
from graphnet.kernels.text.view import View


def c_target(threads: int, isa: str) -> Target:
    """Scratch and packing as the kernel writers ask for them; every operand is read as it lies."""

    def scratch(op: str, attrs: Mapping[str, Any], inputs: Sequence[Array], output: Array) -> int:
        if op not in SCRATCH:
            return 0
        outs, ins = [_view("out0", output)], [_view(f"in{i}", a) for i, a in enumerate(inputs)]
        with targeting(isa):
            return SCRATCH[op](outs, ins, attrs, threads)

    def reduced_scratch(
        op: str, attrs: Mapping[str, Any], inputs: Sequence[Array], output: Array, shape: tuple[int, ...]
    ) -> int:
        ins = [_view(f"in{i}", a) for i, a in enumerate(inputs)]
        return reduction.reduce_scratch([_view("out0", output)], ins, attrs, threads, shape)

    def packing(out: Array, left: Array, right: Array, groups: int) -> tuple[int, int]:
        ins = [_view("in0", left), _view("in1", right)]
        with targeting(isa):
            width = gemm.packed_width([_view("out0", out)], ins, {"groups": groups}, Job(threads=threads))
            return width, gemm.packed_bytes(ins[1], width, groups) if width else 0

    return Target(
        "c",
        scratch,
        lambda temps, shape: 0,
        lambda op, position, array: False,
        compiled=True,
        epilogues=("matmul", "conv2d"),
        reductions=REDUCTIONS,
        reduced_scratch=reduced_scratch,
        rows=_fits,
        packing=packing,
        identity=f"c {threads} {isa}",
    )


def _fits(step: Rows) -> bool:
    """Whether a thread's stack has room for what is kept of a row."""
    outs = [_view(f"out{i}", a) for i, a in enumerate(step.outputs)]
    ins = [_view(f"in{i}", a) for i, a in enumerate(step.inputs)]
    return kept_bytes(outs, ins, rows_program(step), step.shape) <= STACK_BYTES


def _view(name: str, array: Array) -> View:
    return View(name, array.dtype, array.shape, array.strides)
