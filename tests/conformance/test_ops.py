"""One conformance test over every op record, sample and backend; and the tests of that test.

A check compares a record with the independent reference, with central differences, or with its own other parts.
Which checks apply follows from the record (kind, gradient, batch rule) and the sample, never from an exception.
All checks of a record are one graph where a backend compiles: a check yields the graphs it needs and is given the
functions that run them. A failure names the op, the sample and the check.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest

from graphnet.backend_c import CBackend
from graphnet.compiler import build as b
from graphnet.compiler.autodiff import gradients
from graphnet.compiler.errors import CompileError
from graphnet.compiler.ir import Type, leaf
from graphnet.compiler.ops import REGISTRY
from graphnet.compiler.record import NoGradient, Op
from graphnet.kernels.c.nest import fused
from graphnet.kernels.c.phase import Phase
from graphnet.kernels.c.table import WRITERS
from graphnet.kernels.text.program import single

TOLERANCE = {"float32": {"rtol": 3e-5, "atol": 3e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}
EPSILON = 1e-6
Check = Generator[list, list, None]
"""Yields (leaves, arrays, nodes) of each graph, gets `run(*arrays)` of each; raises AssertionError."""


# -- the checks: each raises AssertionError -----------------------------------------------------------------


def check_value(case, dtype="float32", strided=False) -> Check:
    """Result, shape and dtype are those of the reference; operands may be transposed views."""
    arrays = case.operands(dtype)
    leaves, node = case.graph(arrays)
    expected = case.expected(arrays)
    kind = expected.dtype.name if expected.dtype.kind != "f" else case.sample.attrs.get("dtype", dtype)
    assert node.out == Type(expected.shape, kind), f"the rule says {node.out}, it is {kind}{expected.shape}"
    if strided:
        leaves = [leaf(f"in{i}", "input", Type(a.shape[::-1], a.dtype.name)) for i, a in enumerate(arrays)]
        node = case.node([b.transpose(n, range(n.ndim)[::-1]) for n in leaves])
        arrays = [a.T for a in arrays]
    (run,) = yield [(leaves, arrays, [node])]
    (got,) = run()
    assert got.dtype.name == kind
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, **TOLERANCE.get(kind, {"rtol": 0, "atol": 0}))


def check_double(case) -> Check:
    return check_value(case, "float64")


def check_strided(case) -> Check:
    return check_value(case, "float64", strided=True)


def check_integer(case) -> Check:
    return check_value(case, "int32")


def cotangent_graph(case, arrays):
    """Leaves (operands, then a cotangent), the float ones among them, and (leaf, its gradient) pairs."""
    leaves, node = case.graph(arrays)
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


def filled(nodes, values) -> list:
    """The arrays of nodes that exist, None for those that do not."""
    values = iter(values)
    return [None if n is None else next(values) for n in nodes]


def present(nodes) -> list:
    return [n for n in nodes if n is not None]


def check_gradient(case) -> Check:
    """The gradient of sum(y * g) agrees with central differences of y."""
    arrays = case.operands("float64")
    leaves, node, g, floats, found = cotangent_graph(case, arrays)
    cotangent = np.random.default_rng(1).normal(size=node.shape)
    run, slope = yield [(leaves, arrays, [node]), ([*leaves, g], [*arrays, cotangent], present(found))]
    exact = zip(floats, filled(found, slope()), strict=True)
    compare_slopes(lambda *xs: np.sum(run(*xs)[0] * cotangent), leaves, arrays, exact)


def check_second(case) -> Check:
    """The gradient of the gradient, also with respect to the cotangent, agrees with differences of the gradient."""
    arrays = case.operands("float64")
    leaves, node, g, floats, found = cotangent_graph(case, arrays)
    chosen = np.random.default_rng(2)
    arrays, leaves = [*arrays, chosen.normal(size=node.shape)], [*leaves, g]
    firsts = present(found)
    seeds = [leaf(f"h{i}", "input", n.out) for i, n in enumerate(firsts)]
    weights = [chosen.normal(size=n.shape) for n in firsts]
    wrt = [*floats, g]
    second = gradients(list(zip(firsts, seeds, strict=True)), wrt)
    run, slope = yield [(leaves, arrays, firsts), ([*leaves, *seeds], [*arrays, *weights], present(second))]

    def total(*xs):
        return sum(np.sum(y * w) for y, w in zip(run(*xs), weights, strict=True))

    compare_slopes(total, leaves, arrays, zip(wrt, filled(second, slope()), strict=True))


def check_flat(case) -> Check:
    """A float result without a gradient does not change with its operands."""
    arrays = case.operands("float64")
    leaves, node = case.graph(arrays)
    (run,) = yield [(leaves, arrays, [node])]
    compare_slopes(lambda *xs: np.sum(run(*xs)[0]), leaves, arrays, [(n, None) for n in leaves if n.out.is_float])


def check_batch(case) -> Check:
    """The rule for a leading axis on some operands gives the results of the single calls, one after the other."""
    singles = [case.operands("float64") for _ in range(3)]
    for k, arrays in enumerate(singles):
        singles[k] = [np.roll(a.reshape(-1), k).reshape(a.shape) for a in arrays]
    operands = range(len(case.sample.shapes))
    masks = [[bool(bits >> i & 1) for i in operands] for bits in range(1, 1 << len(operands))]
    asked = []
    for on in masks:
        arrays = [np.stack([s[i] for s in singles]) if flag else singles[0][i] for i, flag in enumerate(on)]
        _, single = case.graph(singles[0])
        leaves = [leaf(f"in{i}", "input", Type(a.shape, a.dtype.name)) for i, a in enumerate(arrays)]
        node = case.record.batch(single, leaves, on)
        assert node.shape == (3, *single.shape)
        asked.append((leaves, arrays, [node]))
    for on, run in zip(masks, (yield asked), strict=True):
        (got,) = run()
        for k in range(3):
            own = [singles[k][i] if flag else singles[0][i] for i, flag in enumerate(on)]
            np.testing.assert_allclose(got[k], case.expected(own), **TOLERANCE["float64"])


FLOATS_ONLY = {"reciprocal", "sigmoid", "relu", "softplus", "erf", "floor", "ceil", "round", "sqrt", "div"}
FLOATS_ONLY |= {name for name in REGISTRY if name.startswith(("exp", "log", "arc", "sin", "cos", "tan"))}
FLOATS_ONLY -= {name for name in REGISTRY if name.startswith("logical")}


def checks_of(case) -> list:
    """(case, check) for each check that the record and the sample allow."""
    record, sample = case.record, case.sample
    found = [check_value, check_double]
    numbers = record.kind == "elementwise" and record.name not in FLOATS_ONLY and "bool" not in sample.dtypes
    found += [check_integer] if numbers else []
    found += [check_strided] if any(len(s) > 1 for s in sample.shapes) else []
    found += [check_batch] if record.batch is not None else []
    leaves, node = case.graph(case.operands("float64"))
    floats = node.out.is_float and any(n.out.is_float for n in leaves)
    if record.name != "stop_gradient" and floats:
        found += [check_gradient, check_second] if record.differentiable else [check_flat]
    return [(case, check) for check in found]


@contextlib.contextmanager
def noted(failures: list[str], name: str):
    """An exception becomes a line of `failures`."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 -- whatever it is, the other cases are run too
        failures.append(f"{name}: {type(error).__name__}: {error}")


@pytest.fixture
def conform(backend, together):
    """`conform(pairs)` runs all (case, check) together; AssertionError names those that fail."""

    def run(pairs, backend=backend):
        failures, waiting = [], []
        for case, check in pairs:
            name = f"{case}, {check.__name__}"
            with noted(failures, name):
                running = check(case)
                waiting.append((name, running, next(running)))
        try:
            runs = iter(together(backend, [one for *_, asked in waiting for one in asked]))
        except Exception:
            for name, _, asked in waiting:  # whose fault is it?
                with noted(failures, name):
                    together(backend, asked)
            if not failures:
                raise
            waiting.clear()
        for name, running, asked in waiting:
            given = [next(runs) for _ in asked]
            with noted(failures, name), pytest.raises(StopIteration):
                running.send(given)
        if failures:
            raise AssertionError("\n\n".join(failures))

    return run


@pytest.mark.parametrize("name", list(REGISTRY))
def test_op_conforms(conform, cases_of, name):
    """Every op on every backend: value, dtype, shape, batching, first and second gradient."""
    conform([pair for case in cases_of(REGISTRY[name]) for pair in checks_of(case)])


# -- what the cases rest on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_record_is_complete(reference, cases_of, name):
    """Each record has a reference, samples that fit it, a cost, and a gradient or the reason for none."""
    record = REGISTRY[name]
    assert name in reference, f"{name}: add it to REFERENCE in {reference and 'tests/conformance/conftest.py'}"
    assert not isinstance(record.grad, NoGradient) or record.grad.reason
    for case in cases_of(record):
        sample = case.sample
        assert set(sample.attrs) == set(record.attrs)
        needed = len(record.inputs) - record.variadic
        assert len(sample.shapes) == needed or (record.variadic and len(sample.shapes) > needed)
        leaves, node = case.graph(case.operands("float32"))
        assert min(record.cost([n.out for n in leaves], node.out, sample.attrs)) >= 0


def test_a_record_with_a_missing_field_fails_when_it_is_made():
    with pytest.raises(CompileError, match="op record 'add': missing kernel, expr"):
        replace(REGISTRY["add"], kernel=None, expr="")
    with pytest.raises(CompileError, match="missing samples"):
        replace(REGISTRY["sum"], samples=())


def test_stop_gradient_passes_no_gradient_on():
    x = leaf("x", "input", Type((2,), "float64"))
    assert gradients([(b.unary("stop_gradient", x), x)], [x]) == [None]


# -- planted faults: the checks must find them --------------------------------------------------------------


IN_KERNELS = ("add", "exp", "matmul", "take")


def wrong_gradient(record: Op) -> Op:
    def grad(g, y, *inputs):
        return [n if n is None else b.mul(n, 1.0005) for n in record.grad(g, y, *inputs)]

    return replace(record, grad=grad)


def wrong_kernel(record: Op) -> Op:
    def kernel(out, *ins, **attrs):
        return [*record.kernel(out, *ins, **attrs), (np.multiply, (out, np.array(1.001, out.dtype), out))]

    return replace(record, kernel=kernel)


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
    *((name, wrong_gradient, check_gradient) for name in ("tanh", "matmul", "sum", "conv2d", "slice")),
    *((name, wrong_gradient, check_second) for name in ("tanh", "matmul", "mul", "exp")),
    *((name, wrong_kernel, check) for name in IN_KERNELS for check in (check_value, check_double)),
    *((name, wrong_shape, check_value) for name in ("tanh", "matmul", "sum", "concat", "argmax")),
    *((name, wrong_dtype, check_value) for name in ("eq", "argmax", "add", "max_pool_index")),
    *((name, wrong_batch, check_batch) for name in ("matmul", "cumsum", "take")),
]


@pytest.mark.parametrize("backend", ["numpy"], indirect=True)
@pytest.mark.parametrize(("name", "plant", "check"), FAULTS)
def test_a_planted_fault_is_found(conform, cases_of, monkeypatch, name, plant, check):
    """A gradient wrong by 0.05 %, a kernel wrong by 0.1 %, a wrong shape, dtype or batch rule: none gets through."""
    record = REGISTRY[name]
    conform([(cases_of(record)[0], check)])
    monkeypatch.setitem(REGISTRY, name, plant(record))
    with pytest.raises(AssertionError, match=rf"^{name} of Sample.*, {check.__name__}: AssertionError"):
        conform([(cases_of(REGISTRY[name])[0], check)])


def scaled(outs, job) -> list[Phase]:
    """What comes out, times 1.001."""
    phases = fused(outs, outs, single("x * 1.001", ("x",), outs[0].dtype), job)
    return [replace(phase, axes=()) for phase in phases]


def garbled(outs, job) -> list[Phase]:
    return [Phase("this is not C")]


def plant_in_text(monkeypatch, name, fault, mark, fits=lambda out: True) -> CBackend:
    """An op's text in C gets a fault where its result fits; returns a backend for it.

    Compiled text is kept by what the plan is, not by the record: `mark` sets the plans of each fault apart.
    """
    record, real = REGISTRY[name], WRITERS.get(name)
    if record.kind == "elementwise":
        monkeypatch.setitem(REGISTRY, name, replace(record, expr=f"({record.expr}) * 1.001"))
    else:

        def writer(outs, ins, attrs, job):
            return [*real(outs, ins, attrs, job), *(fault(outs, job) if fits(outs[0]) else [])]

        monkeypatch.setitem(WRITERS, name, writer)
    return CBackend(1, least_work=mark)


IN_C = pytest.mark.parametrize("backend", ["c"], indirect=True)


@IN_C
@pytest.mark.parametrize("name", IN_KERNELS)
def test_a_fault_in_an_ops_c_is_found_in_every_case_of_its_file(conform, cases_of, monkeypatch, name):
    backend = plant_in_text(monkeypatch, name, scaled, 0.125)
    cases = [case for case in cases_of(REGISTRY[name]) if case.expected(case.operands("float64")).any()]
    with pytest.raises(AssertionError) as caught:
        conform([(case, check) for case in cases for check in (check_value, check_double)], backend)
    for case in cases:
        for check in (check_value, check_double):
            assert f"{case}, {check.__name__}: AssertionError" in str(caught.value)


@IN_C
@pytest.mark.parametrize(("fault", "mark", "error"), [(scaled, 0.25, "AssertionError"), (garbled, 0.5, "BackendError")])
def test_a_fault_in_the_c_of_one_case_is_found_in_it_alone(conform, cases_of, monkeypatch, fault, mark, error):
    """A wrong product of one shape, and one that does not compile."""
    cases = cases_of(REGISTRY["matmul"])
    wrong = cases[2]
    _, node = wrong.graph(wrong.operands("float32"))
    backend = plant_in_text(monkeypatch, "matmul", fault, mark, lambda out: Type(out.shape, out.dtype) == node.out)
    with pytest.raises(AssertionError, match=f"{re.escape(str(wrong))}, check_value: {error}") as caught:
        conform([(case, check) for case in cases for check in (check_value, check_double)], backend)
    assert str(caught.value).count("matmul of Sample") == 1
