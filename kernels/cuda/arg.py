"""Places of extrema along an axis: a fold of values with their places, in which the first of equal ones wins."""

from __future__ import annotations

from collections.abc import Sequence

from graphnet.kernels.cuda.fold import Fold, first_of
from graphnet.kernels.cuda.phase import Job, Phase, index_type
from graphnet.kernels.cuda.reduction import Space, fold_space, scratch_of, space_of
from graphnet.kernels.text.axes import at
from graphnet.kernels.text.view import Attrs, View

__all__ = ["argmax", "argmin"]


def _space(out: View, x: View, axis: int) -> Space:
    onto = tuple(out.strides[a - (a > axis)] if a != axis else 0 for a in range(len(x.shape)))
    reduced = frozenset([axis] if x.shape[axis] != 1 else [])
    return space_of(x.shape, reduced, [x.strides], [onto])


def _argument(low: bool, out: View, x: View, axis: int, job: Job) -> list[Phase]:
    if not out.size:
        return []
    space, fold = _space(out, x, axis), _fold(low, x)

    def store(acc: str) -> str:
        place = [i for a, i in enumerate(space.here) if a != axis]
        return f"{at(out, place)} = {fold.lower.format(acc)};"

    return fold_space(space, lambda chain: fold, lambda i: at(x, i), store, job, index_type(out, x))


def _fold(low: bool, x: View) -> Fold:
    return first_of(low, x.dtype, index_type(x))


def argmax(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Index of the first maximum along attrs axis, of the first NaN if there is one; out is int32 or int64."""
    return _argument(False, outs[0], ins[0], attrs["axis"], job)


def argmin(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Index of the first minimum along attrs axis, of the first NaN if there is one; out is int32 or int64."""
    return _argument(True, outs[0], ins[0], attrs["axis"], job)


def argmax_scratch(outs: Sequence[View], ins: Sequence[View], attrs: Attrs) -> int:
    """Bytes for the results of parts."""
    space = _space(outs[0], ins[0], attrs["axis"])
    return scratch_of(space, lambda chain: _fold(False, ins[0])) if outs[0].size else 0


argmin_scratch = argmax_scratch
