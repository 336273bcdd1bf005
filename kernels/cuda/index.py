"""Gathering and placing elements by position.

Indices come from users, so no address is made of one that was not checked. A unit that meets a bad one goes on as if
it pointed at row 0, or nowhere, and then looks through all of them: whoever reports with GN_FAIL names the same one,
the largest if it is too large, else the smallest. `take` honours an epilogue.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphnet.kernels.cuda.nest import block, body_of, elements, fill
from graphnet.kernels.cuda.phase import Job, Phase
from graphnet.kernels.text.axes import at, by_stride, loops, merge, offset, position
from graphnet.kernels.text.collapse import index_text, loops_of
from graphnet.kernels.text.view import Attrs, View

OWN_ROW = """\
/* The row that an index means: counted from the end if negative, -1 if it is out of range. */
GN_INLINE int64_t gn_own_row(int64_t index, int64_t rows)
{
    index += index < 0 ? rows : 0;
    return (uint64_t)index < (uint64_t)rows ? index : -1;
}
"""


def _extremes(idx: View) -> list[str]:
    """Declares the lowest and the highest index."""
    dims = merge(idx.shape, by_stride(idx.shape, [idx.strides]), [idx.strides])
    here = at(idx, position(len(idx.shape), [(d, d.var) for d in dims]))
    look = [
        f"const int64_t index = (int64_t){here};",
        "low = index < low ? index : low;",
        "high = index > high ? index : high;",
    ]
    first = at(idx, ["0"] * len(idx.shape))
    return [f"int64_t low = (int64_t){first}, high = low;", *loops(dims, "\n".join(look)).split("\n")]


def report(idx: View, rows: int) -> list[str]:
    """Statements behind those that set ``int bad`` in the threads that met an index out of range."""
    name = [f"if (high >= {rows})", f"    GN_FAIL(high, {rows});", "else", f"    GN_FAIL(low, {rows});"]
    return block("if (__syncthreads_or(bad) && threadIdx.x == 0)", [*_extremes(idx), *name])


def only_check(idx: View, rows: int) -> list[Phase]:
    """What is left where no element is read or written."""
    if not idx.size:
        return []
    name = [
        f"if (high >= {rows})",
        f"    GN_FAIL(high, {rows});",
        f"else if (low < {-rows})",
        f"    GN_FAIL(low, {rows});",
    ]
    text = block("if (threadIdx.x == 0)", [*_extremes(idx), *name])
    return [Phase(body_of(text), 1, note="checks the indices", fails=True)]


def bounded(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out = idx counted from the start of an axis of attrs size; others than its own are reported, and give 0.

    With attrs wrap, indices count from the end if negative; without, those are reported too.
    """
    out, idx, size = outs[0], ins[0], attrs["size"]
    if not out.size:
        return []
    walk = loops_of(out.shape, [out.strides, idx.strides], 1)
    names = [f"i{k}" for k in range(len(walk))]
    to, source = (index_text([loop.strides[k] for loop in walk], names) for k in (0, 1))
    shape = elements([(n, loop.size) for n, loop in zip(names, walk, strict=True)], out, idx)
    own = f"gn_own_row((int64_t)index, {size})"
    if not attrs["wrap"]:
        own = f"index < {size} ? (int64_t)index : -1"
        own = own if idx.dtype.startswith("uint") else f"index >= 0 && {own}"
    lines = [
        f"const int64_t row = {own};",
        "bad |= row < 0;",
        f"{out.name}[{to}] = ({out.ctype})(row < 0 ? 0 : row);",
    ]
    body = shape.staged([(idx.ctype, "index", f"{idx.name}[{source}]")], lines)
    body = "\n".join([body_of(["int bad = 0;"]), body, body_of(report(idx, size))])
    return [Phase(body, shape.units, helpers=(OWN_ROW,), fails=True)]


def take(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out[i] = x[idx[i]]: out.shape = idx.shape + x.shape[1:]; idx any integers, negative from the end."""
    out, (x, idx) = outs[0], ins[:2]
    rank = len(idx.shape)
    if not out.size or not x.size:
        return only_check(idx, x.shape[0])
    full = idx.shape + x.shape[1:]
    strides = [out.strides, idx.strides + (0,) * (len(full) - rank), (0,) * rank + x.strides[1:]]
    if job.epilogue:
        index = [f"i{a}" if n > 1 else "0" for a, n in enumerate(full)]
        shape = elements([(f"i{a}", n) for a, n in enumerate(full) if n > 1], out, x, idx)
        number, within = offset(strides[1], index), offset(strides[2], index)
        store = job.epilogue(index, "value")
    else:
        walk = loops_of(full, strides, 1)
        names = [f"i{loop.axes[-1]}" for loop in walk]
        shape = elements([(n, loop.size) for n, loop in zip(names, walk, strict=True)], out, x, idx)
        to, number, within = (index_text([loop.strides[k] for loop in walk], names) for k in range(3))
        store = f"{out.name}[{to}] = value;"
    find = [
        f"const {shape.ctype} row = ({shape.ctype})gn_own_row((int64_t){idx.name}[{number}], {x.shape[0]});",
        "bad |= row < 0;",
    ]
    value = f"{x.name}[(row < 0 ? 0 : row) * {x.strides[0]} + {within}]"
    body = shape.staged([(x.ctype, "value", value)], store.split("\n"), find)
    body = "\n".join([body_of(["int bad = 0;"]), body, body_of(report(idx, x.shape[0]))])
    return [Phase(body, shape.units, helpers=(OWN_ROW,), note="element by element", fails=True)]


# -- by position --------------------------------------------------------------------------------------------------


def place(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """Adjoint of a strided slice: out is zero but for out[starts + i * steps] = x[i]; steps may be negative."""
    out, x, ndim = outs[0], ins[0], len(outs[0].shape)
    if not out.size:
        return []
    if not x.size:
        return fill(outs, [], {"value": 0}, job)
    steps = list(zip(attrs["starts"], attrs["steps"], strict=True))
    whole = [x.shape[a] == n and steps[a] == (0, 1) for a, n in enumerate(out.shape)]
    order = by_stride(out.shape, [out.strides])
    dims = merge(out.shape, order, [out.strides, x.strides], lambda a: -1 if whole[a] else a)
    index = position(ndim, [(d, d.var) for d in dims])
    shape = elements([(d.var, d.size) for d in dims], out, x)
    taken, tests, lines = list(index), [], []
    for d in dims:
        a = d.axes[-1]
        if whole[a]:
            continue
        start, step = steps[a]
        taken[a] = f"from{a}"
        away = d.var if start == 0 else f"({d.var} - {start})"
        lines.append(f"const {shape.ctype} from{a} = {away if step == 1 else f'{away} / {step}'};")
        tests += [f"from{a} * {step} == {away}"] * (abs(step) != 1)
        tests += [f"from{a} >= 0", f"from{a} < {x.shape[a]}"]
    value = at(x, taken) if not tests else f"{' && '.join(tests)} ? {at(x, taken)} : 0"
    body = shape.staged([(x.ctype, "value", value)], [f"{at(out, index)} = value;"], lines)
    return [Phase(body, shape.units)]


def iota(outs: Sequence[View], ins: Sequence[View], attrs: Attrs, job: Job) -> list[Phase]:
    """out = its own index along attrs axis."""
    out, axis = outs[0], attrs["axis"] % max(len(outs[0].shape), 1)
    if not out.size:
        return []
    dims = merge(out.shape, by_stride(out.shape, [out.strides]), [out.strides], lambda a: a if a == axis else -1)
    here = position(len(out.shape), [(d, d.var) for d in dims])
    shape = elements([(d.var, d.size) for d in dims], out)
    value = f"{here[axis]} != 0" if out.dtype == "bool" else f"({out.ctype}){here[axis]}"
    return [Phase(body_of(shape.turn([f"{at(out, here)} = {value};"])), shape.units)]
