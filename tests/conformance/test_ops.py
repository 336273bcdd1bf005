"""One conformance test over every op record, sample and backend; and the tests of that test.

A check compares a record with the independent reference, with central differences, or with its own other parts.
Which checks apply follows from the record (kind, gradient, batch rule) and the sample, never from an exception.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphnet.backend_c import CBackend
from graphnet.compiler import build as b
from graphnet.compiler.autodiff import gradients
from graphnet.compiler.compile import compile_graph
from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Graph, Type, leaf, make
from graphnet.compiler.ops import REGISTRY
from graphnet.compiler.passes import Context
from graphnet.compiler.record import NoGradient, Op, Sample
from graphnet.kernels.c.nest import fused, single
from graphnet.kernels.c.table import WRITERS

TOLERANCE = {"float32": {"rtol": 3e-5, "atol": 3e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}
EPSILON = 1e-6


def operands(record: Op, sample: Sample, dtype: str) -> list[np.ndarray]:
    """Arrays for one call: all floats differ from each other and keep away from halves, where rounding jumps."""
    chosen = np.random.default_rng(len(record.name) + 10 * sum(map(len, sample.shapes)))
    kinds = [*sample.dtypes, *["float"] * (len(sample.shapes) - len(sample.dtypes))]
    total = sum(int(np.prod(s)) for s, kind in zip(sample.shapes, kinds, strict=True) if kind == "float")
    grid = (np.arange(total) + 0.5 + chosen.uniform(-0.3, 0.3, total)) / max(total, 1)
    pool = chosen.permutation(sample.low + (sample.high - sample.low) * grid)
    if record.kind == "elementwise":
        pool = np.where(abs(pool * 2 - np.rint(pool * 2)) < 0.02, pool + 0.013, pool)
    found = []
    for shape, kind in zip(sample.shapes, kinds, strict=True):
        size = int(np.prod(shape))
        if kind == "float" and dtype == "int32":  # second operands divide and are exponents
            values = chosen.integers(1 if found else -4, 5, size).astype(dtype)
        elif kind == "float":
            values, pool = pool[:size].astype(dtype), pool[size:]
        elif kind == "bool":
            values = chosen.integers(0, 2, size).astype(bool)
        elif kind == "uint64":
            values = chosen.integers(0, 1 << 32, size, "uint64")
        elif kind == "inside":  # window positions that padding does not touch
            values = np.full(size, sample.attrs["kernel"][1], "uint8")
        elif kind.startswith("index"):
            rows = int(kind[5:])
            values = chosen.integers(-rows if size > 1 else 0, rows, size).astype("int32")
        else:
            values = chosen.integers(0, int(kind[6:]), size).astype("uint8")
        found.append(values.reshape(shape))
    return found


def node_of(record: Op, sample: Sample, arrays: list[np.ndarray]):
    leaves = [leaf(f"in{i}", "input", Type(a.shape, a.dtype.name)) for i, a in enumerate(arrays)]
    return leaves, call(record, leaves, sample)


def call(record: Op, inputs, sample: Sample):
    return make(record.name, inputs, sample.attrs, record.infer([n.out for n in inputs], sample.attrs))


def bind(backend, leaves, outputs):
    """`run(*arrays) -> results` of a compiled graph."""
    named = tuple((f"y{i}", n) for i, n in enumerate(outputs))
    context = Context(verify=True, target=backend.target)
    executable = backend.bind(compile_graph(Graph(tuple(leaves), named), context), {})

    def run(*arrays):
        for node, value in zip(leaves, arrays, strict=True):
            np.copyto(executable.inputs[node.attrs["name"]], value)
        executable.run()
        return [executable.outputs[name].copy() for name, _ in named]

    return run


def expected_of(record: Op, sample: Sample, arrays, reference) -> np.ndarray:
    wide = [a.astype("float64") if a.dtype.kind == "f" else a for a in arrays]
    with np.errstate(all="ignore"):
        return np.asarray(reference[record.name](*wide, **sample.attrs))


# -- the checks: each raises AssertionError -----------------------------------------------------------------


def check_value(record: Op, sample: Sample, backend, reference, scalar, dtype="float32", strided=False) -> None:
    """Result, shape and dtype are those of the reference; operands may be transposed views."""
    arrays = operands(record, sample, dtype)
    leaves, node = node_of(record, sample, arrays)
    expected = expected_of(record, sample, arrays, reference)
    kind = expected.dtype.name if expected.dtype.kind != "f" else sample.attrs.get("dtype", dtype)
    assert node.out == Type(expected.shape, kind), f"{record.name}: rule says {node.out}, it is {kind}{expected.shape}"
    if strided:
        leaves = [leaf(f"in{i}", "input", Type(a.shape[::-1], a.dtype.name)) for i, a in enumerate(arrays)]
        node = call(record, [b.transpose(n, range(n.ndim)[::-1]) for n in leaves], sample)
        arrays = [a.T for a in arrays]
    (got,) = bind(backend, leaves, [node])(*arrays)
    assert got.dtype.name == kind
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, **TOLERANCE.get(kind, {"rtol": 0, "atol": 0}))


def check_double(record: Op, sample: Sample, backend, reference, scalar) -> None:
    check_value(record, sample, backend, reference, scalar, "float64")


def check_strided(record: Op, sample: Sample, backend, reference, scalar) -> None:
    check_value(record, sample, backend, reference, scalar, "float64", strided=True)


def check_integer(record: Op, sample: Sample, backend, reference, scalar) -> None:
    check_value(record, sample, backend, reference, scalar, "int32")


def check_expr(record: Op, sample: Sample, backend, reference, scalar) -> None:
    """The scalar expression, evaluated apart, gives what the kernel gives."""
    arrays = operands(record, sample, "float64")
    leaves, node = node_of(record, sample, arrays)
    expected = scalar(record.expr, record.inputs, arrays, node.dtype)
    (got,) = bind(backend, leaves, [node])(*arrays)
    np.testing.assert_allclose(got, expected, **TOLERANCE["float64"])


def cotangent_graph(record: Op, sample: Sample, arrays):
    """Leaves (operands, then a cotangent), the float ones among them, and (leaf, its gradient) pairs."""
    leaves, node = node_of(record, sample, arrays)
    g = leaf("g", "input", node.out)
    floats = [n for n in leaves if n.out.is_float]
    found = gradients([(node, g)], floats)
    return leaves, node, g, floats, found


def slopes(function, arrays, which: int, chosen) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of a scalar function in some elements of one array: flat positions and slopes."""
    picks = chosen.permutation(arrays[which].size)[:12]
    found = []
    for i in picks:
        ends = []
        for step in (EPSILON, -EPSILON):
            moved = [a.copy() for a in arrays]
            moved[which].reshape(-1)[i] += step
            ends.append(function(*moved))
        found.append((ends[0] - ends[1]) / (2 * EPSILON))
    return picks, np.array(found)


def compare_slopes(function, leaves, arrays, exact) -> None:
    """`exact` pairs a leaf with the gradient it should have; None means zero."""
    chosen = np.random.default_rng(3)
    for node, gradient in exact:
        which = leaves.index(node)
        picks, expected = slopes(function, arrays, which, chosen)
        got = np.zeros(arrays[which].size) if gradient is None else gradient.reshape(-1)
        assert got.size == arrays[which].size, f"the gradient of {node} has shape {gradient.shape}"
        np.testing.assert_allclose(got[picks], expected, rtol=1e-5, atol=1e-7)


def evaluated(backend, leaves, nodes, arrays) -> list:
    """The arrays of nodes that exist, None for those that do not."""
    there = [n for n in nodes if n is not None]
    values = iter(bind(backend, leaves, there)(*arrays) if there else [])
    return [None if n is None else next(values) for n in nodes]


def check_gradient(record: Op, sample: Sample, backend, reference, scalar) -> None:
    """The gradient of sum(y * g) agrees with central differences of y."""
    arrays = operands(record, sample, "float64")
    leaves, node, g, floats, found = cotangent_graph(record, sample, arrays)
    cotangent = np.random.default_rng(1).normal(size=node.shape)
    run = bind(backend, leaves, [node])
    found = evaluated(backend, [*leaves, g], found, [*arrays, cotangent])
    compare_slopes(lambda *xs: np.sum(run(*xs)[0] * cotangent), leaves, arrays, list(zip(floats, found, strict=True)))


def check_second(record: Op, sample: Sample, backend, reference, scalar) -> None:
    """The gradient of the gradient, also with respect to the cotangent, agrees with differences of the gradient."""
    arrays = operands(record, sample, "float64")
    leaves, node, g, floats, found = cotangent_graph(record, sample, arrays)
    chosen = np.random.default_rng(2)
    arrays, leaves = [*arrays, chosen.normal(size=node.shape)], [*leaves, g]
    firsts = [n for n in found if n is not None]
    seeds = [leaf(f"h{i}", "input", n.out) for i, n in enumerate(firsts)]
    weights = [chosen.normal(size=n.shape) for n in firsts]
    wrt = [*floats, g]
    second = gradients(list(zip(firsts, seeds, strict=True)), wrt)
    second = evaluated(backend, [*leaves, *seeds], second, [*arrays, *weights])
    run = bind(backend, leaves, firsts)

    def total(*xs):
        return sum(np.sum(y * w) for y, w in zip(run(*xs), weights, strict=True))

    compare_slopes(total, leaves, arrays, list(zip(wrt, second, strict=True)))


def check_flat(record: Op, sample: Sample, backend, reference, scalar) -> None:
    """A float result without a gradient does not change with its operands."""
    arrays = operands(record, sample, "float64")
    leaves, node = node_of(record, sample, arrays)
    run = bind(backend, leaves, [node])
    compare_slopes(lambda *xs: np.sum(run(*xs)[0]), leaves, arrays, [(n, None) for n in leaves if n.out.is_float])


def check_batch(record: Op, sample: Sample, backend, reference, scalar) -> None:
    """The rule for a leading axis on some operands gives the results of the single calls, one after the other."""
    singles = [operands(record, sample, "float64") for _ in range(3)]
    for k, arrays in enumerate(singles):
        singles[k] = [np.roll(a.reshape(-1), k).reshape(a.shape) for a in arrays]
    for mask in range(1, 1 << len(sample.shapes)):
        on = [bool(mask >> i & 1) for i in range(len(sample.shapes))]
        arrays = [np.stack([s[i] for s in singles]) if flag else singles[0][i] for i, flag in enumerate(on)]
        _, single = node_of(record, sample, singles[0])
        leaves = [leaf(f"in{i}", "input", Type(a.shape, a.dtype.name)) for i, a in enumerate(arrays)]
        node = record.batch(single, leaves, on)
        assert node.shape == (3, *single.shape)
        (got,) = bind(backend, leaves, [node])(*arrays)
        for k in range(3):
            own = [singles[k][i] if flag else singles[0][i] for i, flag in enumerate(on)]
            np.testing.assert_allclose(got[k], expected_of(record, sample, own, reference), **TOLERANCE["float64"])


FLOATS_ONLY = {"reciprocal", "sigmoid", "relu", "softplus", "erf", "floor", "ceil", "round", "sqrt", "div"}
FLOATS_ONLY |= {name for name in REGISTRY if name.startswith(("exp", "log", "arc", "sin", "cos", "tan"))}
FLOATS_ONLY -= {name for name in REGISTRY if name.startswith("logical")}


def checks_of(record: Op, sample: Sample) -> list:
    """Those that the record and the sample allow."""
    found = [check_value, check_double]
    numbers = record.kind == "elementwise" and record.name not in FLOATS_ONLY and "bool" not in sample.dtypes
    found += [check_integer] if numbers else []
    found += [check_strided] if any(len(s) > 1 for s in sample.shapes) else []
    found += [check_expr] if record.kind == "elementwise" else []
    found += [check_batch] if record.batch is not None else []
    inputs = operands(record, sample, "float64")
    result = record.infer([Type(a.shape, a.dtype.name) for a in inputs], sample.attrs)
    floats = result.is_float and any(a.dtype.kind == "f" for a in inputs)
    if record.name != "stop_gradient" and floats:
        found += [check_gradient, check_second] if record.differentiable else [check_flat]
    return found


def test_op_conforms(backend, reference, scalar, name, sample, check):
    """Every op on every backend: value, dtype, shape, expression, batching, first and second gradient."""
    check(REGISTRY[name], sample, backend, reference, scalar)


# -- what the cases rest on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_record_is_complete(reference, samples_of, name):
    """Each record has a reference, samples that fit it, a cost, and a gradient or the reason for none."""
    record = REGISTRY[name]
    assert name in reference, f"{name}: add it to REFERENCE in {reference and 'tests/conformance/conftest.py'}"
    assert not isinstance(record.grad, NoGradient) or record.grad.reason
    for sample in samples_of(record):
        assert set(sample.attrs) == set(record.attrs)
        needed = len(record.inputs) - record.variadic
        assert len(sample.shapes) == needed or (record.variadic and len(sample.shapes) > needed)
        types = [Type(a.shape, a.dtype.name) for a in operands(record, sample, "float32")]
        flops, nbytes = record.cost(types, record.infer(types, sample.attrs), sample.attrs)
        assert min(flops, nbytes) >= 0


def test_a_record_with_a_missing_field_fails_when_it_is_made():
    with pytest.raises(CompileError, match="op record 'add': missing kernel, expr"):
        replace(REGISTRY["add"], kernel=None, expr="")
    with pytest.raises(CompileError, match="missing samples"):
        replace(REGISTRY["sum"], samples=())


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, 1e-300, 90.0, -800.0])
CLOSED = [
    n for n, r in REGISTRY.items() if r.kind == "elementwise" and "float" not in r.expr and not r.samples[0].dtypes
]
PAIRED = ["add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "pow", "arctan2"]


@pytest.mark.parametrize("name", [n for n in CLOSED if len(REGISTRY[n].inputs) == 1 or n in PAIRED])
def test_expression_and_kernel_agree_on_nan_infinity_and_zero(backend, scalar, name):
    record = REGISTRY[name]
    arrays = [SPECIAL] if len(record.inputs) == 1 else [SPECIAL, SPECIAL[:, None].copy()]
    leaves, node = node_of(record, record.samples[0], arrays)
    with np.errstate(all="ignore"):
        expected = scalar(record.expr, record.inputs, arrays, node.dtype)
    np.testing.assert_allclose(bind(backend, leaves, [node])(*arrays)[0], expected, rtol=1e-12)


def test_stop_gradient_passes_no_gradient_on():
    x = leaf("x", "input", Type((2,), "float64"))
    assert gradients([(b.unary("stop_gradient", x), x)], [x]) == [None]


# -- planted faults: the checks must find them --------------------------------------------------------------


def wrong_gradient(record: Op) -> Op:
    def grad(g, y, *inputs):
        return [n if n is None else b.mul(n, 1.0005) for n in record.grad(g, y, *inputs)]

    return replace(record, grad=grad)


def wrong_kernel(record: Op) -> Op:
    def kernel(out, *ins, **attrs):
        return [*record.kernel(out, *ins, **attrs), (np.multiply, (out, np.array(1.001, out.dtype), out))]

    return replace(record, kernel=kernel)


def wrong_text(record: Op, monkeypatch) -> Op:
    """The same fault in C: in the expression, or as a phase after the writer's own."""
    if record.kind == "elementwise":
        return replace(record, expr=f"({record.expr}) * 1.001")
    real = WRITERS[record.name]

    def writer(outs, ins, attrs, job):
        scaled = fused(outs, outs, single("x * 1.001", ("x",), outs[0].dtype), job)
        return [*real(outs, ins, attrs, job), *(replace(phase, axes=()) for phase in scaled)]

    monkeypatch.setitem(WRITERS, record.name, writer)
    return record


def wrong_shape(record: Op) -> Op:
    def infer(types, attrs):
        right = record.infer(types, attrs)
        return Type((*right.shape[:-1], right.shape[-1] + 1), right.dtype)

    return replace(record, infer=infer)


def wrong_dtype(record: Op) -> Op:
    return replace(record, infer=lambda types, attrs: Type(record.infer(types, attrs).shape, "float64"))


def wrong_batch(record: Op) -> Op:
    return replace(record, batch=lambda n, ins, on: b.neg(b.neg(b.mul(record.batch(n, ins, on), 1.001))))


FAULTS = [
    *(
        (name, wrong_gradient, check)
        for name in ("tanh", "matmul", "sum", "conv2d", "slice")
        for check in (check_gradient,)
    ),
    *((name, wrong_gradient, check_second) for name in ("tanh", "matmul", "mul", "exp")),
    *(
        (name, wrong_kernel, check)
        for name in ("add", "exp", "matmul", "take")
        for check in (check_value, check_double)
    ),
    *((name, wrong_shape, check_value) for name in ("tanh", "matmul", "sum", "concat", "argmax")),
    *((name, wrong_dtype, check_value) for name in ("eq", "argmax", "add", "max_pool_index")),
    *((name, wrong_batch, check_batch) for name in ("matmul", "cumsum", "take")),
]


@pytest.mark.parametrize(("name", "plant", "check"), FAULTS)
def test_a_planted_fault_is_found(backend, reference, scalar, monkeypatch, name, plant, check):
    """A gradient wrong by 0.05 %, a kernel wrong by 0.1 %, a wrong shape, dtype or batch rule: none gets through."""
    record = REGISTRY[name]
    check(record, record.samples[0], backend, reference, scalar)
    in_c = plant is wrong_kernel and backend.name == "c"
    if in_c:  # cached text is kept by what the plan is, not by the record: this backend's is its own
        backend = CBackend(least_work=0.125)
    monkeypatch.setitem(REGISTRY, name, wrong_text(record, monkeypatch) if in_c else plant(record))
    with pytest.raises(AssertionError):
        check(REGISTRY[name], record.samples[0], backend, reference, scalar)


WRONG_EXPRESSIONS = [("relu", "x > 0 ? x : -x"), ("sigmoid", "1 / (1 + exp(x))"), ("maximum", "x <= y ? x : y")]
WRONG_EXPRESSIONS += [("sub", "y - x"), ("logical_and", "x || y"), ("logical_not", "x"), ("exp", "exp(x) * 1.001")]


@pytest.mark.parametrize(("name", "expr"), WRONG_EXPRESSIONS)
def test_a_wrong_expression_is_found(backend, reference, scalar, name, expr):
    faulty = replace(REGISTRY[name], expr=expr)
    with pytest.raises(AssertionError):
        check_expr(faulty, faulty.samples[0], backend, reference, scalar)


@pytest.mark.parametrize(
    ("text", "value"),
    [("x > 0 ? 1 : x < 0 ? 2 : 3", 2), ("1 - 2 - 3", -4), ("!x || x == -1 && 2 > 3", 0), ("-x * 2 + 1", 3)],
)
def test_the_translator_of_expressions_follows_c(scalar, text, value):
    """Right-associative choice, left-associative minus, && before ||, unary before binary."""
    assert scalar(text, ["x"], [np.array(-1.0)], "float64") == value
