"""The CUDA backend as lowering sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from graphnet.compiler.cuda.products import gemm, is_large
from graphnet.compiler.cuda.source import Gemm
from graphnet.compiler.epilogues import CONVOLUTIONS
from graphnet.compiler.schedule import REDUCTIONS, Array, Kernel, Rows
from graphnet.compiler.target import Target
from graphnet.compiler.text.programs import rows_program
from graphnet.kernels.cuda import gemm_packed, reduction
from graphnet.kernels.cuda.rows import fits
from graphnet.kernels.cuda.table import PRODUCTS, SCRATCH
from graphnet.kernels.text.view import View

RESTING = 32 << 20
"""Bytes of the largest temporaries that rest: two of LeNet's launches less, for a fifth more memory."""

TENSOR = {"float32": 0, "tf32x3": 3, "tf32": 1, "bf16": 1}
"""How many products tensor cores may compute for one of float32, by precision."""

BLOCKS = 2
"""Blocks of inputs: one is filled from the host while the device reads the other."""


def cuda_target(
    library: bool = False,
    precision: str = "float32",
    fuses: Callable[[Gemm], bool] | None = None,
    fusing: str = "",
) -> Target:
    """Scratch, packing and fusion as the kernel writers ask for them; every operand is read as it lies.

    With ``library`` large products are left to cuBLAS, but for those of "tf32x3". Below float32 ``precision`` it and
    the writers may use tensor cores: the writers with operands rounded to TF32, also for "bf16". ``fuses`` says of a
    product with an epilogue whether the library computes both (None: never), and ``fusing`` is another text where its
    answers may be others.
    """
    tensor = TENSOR[precision]

    def computes(step: Kernel) -> bool:
        mine = tensor == 3 and step.outputs[0].dtype == "float32"
        call = gemm(step) if is_large(step) and not mine else None
        if call is None or not call.epilogue:
            return call is not None
        # sums are of float32 whatever the precision of products is
        exact = precision == "float32" or call.epilogue != "bgrada"
        return exact and fuses is not None and fuses(call)

    return Target(
        "cuda",
        partial(_scratch, tensor),
        lambda temps, shape: 0,
        lambda op, position, array: False,
        compiled=True,
        waits=True,
        epilogues=("matmul", *CONVOLUTIONS),
        reductions=REDUCTIONS,
        reduced_scratch=_reduced_scratch,
        rows=_fits,
        packing=partial(_packing, tensor),
        library=computes if library else lambda step: False,
        tensor=tensor,
        blocks=BLOCKS,
        resting=RESTING,
        identity=f"cuda {library} {precision} {fusing}",
    )


def _scratch(tensor: int, op: str, attrs: Mapping[str, Any], inputs: Sequence[Array], output: Array) -> int:
    if op not in SCRATCH:
        return 0
    how = {"tensor": tensor} if op in PRODUCTS else {}
    return SCRATCH[op]([_view("out0", output)], [_view(f"in{i}", a) for i, a in enumerate(inputs)], attrs, **how)


def _reduced_scratch(
    op: str, attrs: Mapping[str, Any], inputs: Sequence[Array], output: Array, shape: tuple[int, ...]
) -> int:
    ins = [_view(f"in{i}", a) for i, a in enumerate(inputs)]
    return reduction.reduce_scratch([_view("out0", output)], ins, attrs, shape)


def _packing(tensor: int, out: Array, left: Array, right: Array, groups: int) -> tuple[int, int]:
    outs, ins = [_view("out0", out)], [_view("in0", left), _view("in1", right)]
    width = gemm_packed.packed_width(outs, ins, {"groups": groups}, tensor)
    return width, gemm_packed.packed_bytes(ins[1], width, groups) if width else 0


def _fits(step: Rows) -> bool:
    outs = [_view(f"out{i}", a) for i, a in enumerate(step.outputs)]
    ins = [_view(f"in{i}", a) for i, a in enumerate(step.inputs)]
    return fits(outs, ins, rows_program(step), step.shape)


def _view(name: str, array: Array) -> View:
    return View(name, array.dtype, array.shape, array.strides)
