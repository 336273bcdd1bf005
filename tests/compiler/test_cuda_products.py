"""Which products cuBLAS can compute, how they are told to it, and that the rest of a plan gets the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_cuda import CudaBackend
from graphnet.compiler import build as b
from graphnet.compiler.compile import compile_graph
from graphnet.compiler.cuda import Gemm, cuda_target, emit, products
from graphnet.compiler.cuda.products import LARGE, gemm, is_large
from graphnet.compiler.epilogues import with_epilogue
from graphnet.compiler.ir import NOWHERE, Graph, Type, leaf
from graphnet.compiler.passes import Context
from graphnet.compiler.schedule import Array, Kernel, LoopTerm
from graphnet.compiler.strides import contiguous_strides
from graphnet.device_emulated import EmulatedDevice
from graphnet.models.mlp import mlp


def array(*shape, strides=None, dtype="float32", terms=()):
    return Array(0, dtype, shape, strides or contiguous_strides(shape), 0, terms)


def product(left, right, dtype="float32"):
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    out = array(*batch, left.shape[-2], right.shape[-1], dtype=dtype)
    return Kernel("matmul", {}, (left, right), (out,), None, NOWHERE, 0, "forward")


@pytest.fixture
def all_large(monkeypatch):
    """Every product is large enough."""
    monkeypatch.setattr(products, "LARGE", 1)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (array(4, 6), array(6, 5)),
        (array(4, 6, strides=(1, 4)), array(6, 5, strides=(1, 6))),
        (array(4, 6, strides=(9, 1)), array(6, 5)),
        (array(3, 4, 6), array(3, 6, 5)),
        (array(3, 4, 6), array(6, 5)),
        (array(2, 3, 4, 6), array(2, 3, 6, 5)),
        (array(3, 4, 6, strides=(6, 18, 1)), array(6, 5)),
        (array(1, 6), array(6, 1)),
    ],
    ids=["rows", "both transposed", "rows apart", "batch", "one for all", "two batch axes", "batch inside", "vectors"],
)
def test_the_library_takes_matrices_with_rows_or_columns_in_one_piece(all_large, left, right):
    assert is_large(product(left, right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (array(4, 6, strides=(12, 2)), array(6, 5)),
        (array(4, 6, strides=(-6, 1)), array(6, 5)),
        (array(4, 6, strides=(0, 1)), array(6, 5)),
        (array(2, 3, 4, 6, strides=(100, 24, 6, 1)), array(6, 5)),
        (array(4, 6, terms=(LoopTerm(0, 24, 0, 5),)), array(6, 5)),
        (array(4, 6, dtype="int32"), array(6, 5, dtype="int32")),
        (array(0, 6), array(6, 5)),
    ],
    ids=["columns apart", "backwards", "repeated rows", "uneven batch", "moved by a loop", "integers", "empty"],
)
def test_graphnet_computes_the_others_itself(all_large, left, right):
    assert not is_large(product(left, right, left.dtype))


def test_small_products_stay_and_fuse():
    limit = LARGE
    assert is_large(product(array(limit // 512, 32), array(32, 16)))
    assert not is_large(product(array(limit // 512 - 1, 32), array(32, 16)))


@gn.model
def views(x):
    """Products of transposed, sliced, batched and broadcast operands, with work behind them."""
    w = gn.param("w", (6, 5), gn.init.normal(0.0, 1.0))
    v = gn.param("v", (3, 5, 4), gn.init.normal(0.0, 1.0))
    y = gn.relu(gn.matmul(x, w) + 1.0)
    z = gn.matmul(y, v) + gn.matmul(gn.transpose(x[:, :, 1:5], (0, 2, 1)), x)[:, :4, :4]
    return gn.sum(z * z)


def test_products_of_the_library_and_generated_ones_train_alike(all_large):
    """The same steps on NumPy, and on the emulated device with and without its library."""
    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")

    def train(library, **where):
        if library is not None:
            where = {"device": "cuda", "backend": CudaBackend(EmulatedDevice(grid=3, library=library))}
        net = gn.compile(views, gn.spec(x.shape), optimizer=gn.optim.SGD(lr=1e-4), seed=3, **where)
        losses = [float(net.step(x)) for _ in range(3)]
        return losses, net

    expected, _ = train(None, backend="numpy")
    for library in (True, False):
        found, net = train(library)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        source = net.backend.emit(net.plan)
        assert any(isinstance(item, Gemm) for item in source.parts[""]) is library


# -- epilogues ----------------------------------------------------------------------------------------------


def calls(*results, fuses=lambda call: True, **options):
    """The epilogues of a graph's products, in order, and how many launches there are besides."""
    target = cuda_target(True, fuses=fuses, fusing="test", **options)
    graph = Graph((), tuple((f"y{i}", node) for i, node in enumerate(results)))
    launches = emit(compile_graph(graph, Context(target=target, verify=True)), target).parts[""]
    found = [item.epilogue for item in launches if isinstance(item, Gemm)]
    return found, len(launches) - len(found)


def operands(dtype="float32"):
    shapes = {"x": (8, 6), "w": (6, 4), "row": (4,), "column": (8, 1), "other": (8, 4)}
    return [leaf(name, "input", Type(shape, dtype)) for name, shape in shapes.items()]


def relu(x):
    return b.unary("relu", x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_bias_and_relu_are_computed_with_the_product(all_large, dtype):
    x, w, row, *_ = operands(dtype)
    p = b.matmul(x, w)
    assert calls(b.add(p, row)) == calls(b.add(row, p)) == (["bias"], 0)
    assert calls(relu(p)) == (["relu"], 0)
    assert calls(relu(b.add(row, p))) == (["relu_bias"], 0)
    second = b.slice_(b.concat([row, row], 0), (4,), (4,), (1,))
    assert calls(relu(b.add(p, second)))[0] == ["relu_bias"]


def test_what_the_library_cannot_compute_stays_a_kernel_behind_the_product(all_large):
    x, w, row, column, other = operands()
    p = b.matmul(x, w)
    part = b.slice_(b.concat([row, row], 0), (1,), (4,), (1,))
    kept = [b.add(p, column), b.add(p, other), b.add(p, 1.0), b.mul(p, row), b.unary("tanh", p), b.add(p, part)]
    kept += [b.mul(relu(p), 2.0), b.add(relu(p), row), relu(b.sub(p, row)), relu(b.add(b.add(p, row), row))]
    for node in kept:
        assert calls(node)[0] == [""], node
    assert calls(relu(b.add(p, row)), p) == ([""], 1)  # the product is a result itself
    batch = leaf("batch", "input", Type((2, 8, 6), "float32"))
    assert calls(b.add(b.matmul(batch, w), row)) == ([""], 1)


def test_a_bias_that_lies_where_the_result_goes_is_not_left_to_the_library(all_large):
    """It would be read while it is written over."""
    step = product(array(8, 6), array(6, 4))
    reader = Kernel("add", {}, (step.outputs[0], replace(array(4), storage=7)), step.outputs, None, NOWHERE, 1, "")
    apart = with_epilogue(step, replace(reader, outputs=(replace(array(8, 4), storage=8),)))
    over = with_epilogue(step, replace(reader, outputs=(replace(array(8, 4), storage=7),)))
    assert gemm(apart).epilogue == "bias"
    assert gemm(over) is None


def test_the_stages_behind_wait_for_both_results_of_a_product(all_large):
    x, _, row, _, dy = operands()
    dw, db = b.matmul(b.swap_last(x), dy), b.reduce("sum", dy, (0,), False)
    target = cuda_target(True, fuses=lambda call: True, fusing="test")
    graph = Graph((), (("dw", dw), ("b", b.unary("exp", b.add(row, db)))))
    first, second = emit(compile_graph(graph, Context(target=target, verify=True)), target).parts[""]
    assert isinstance(first, Gemm)
    assert not isinstance(second, Gemm)


def test_a_library_that_declines_gets_the_product_alone(all_large):
    x, w, row, *_ = operands()
    y = relu(b.add(b.matmul(x, w), row))
    asked = []
    assert calls(y, fuses=lambda call: asked.append(call)) == ([""], 1)
    assert {(call.epilogue, call.m, call.n, call.k) for call in asked} == {("relu_bias", 8, 4, 6)}
    assert calls(y, fuses=None) == ([""], 1)


def test_plans_for_libraries_that_may_answer_differently_are_kept_apart():
    assert cuda_target(True, fusing="1").identity != cuda_target(True, fusing="2").identity


def test_the_sum_of_a_right_operands_rows_comes_with_the_product(all_large):
    """As the gradients of weights and bias do; only where sums stay float32, and as long as it is that operand's."""
    x, _, _, _, dy = operands()
    dw = b.matmul(b.swap_last(x), dy)
    for keep in (False, True):
        assert calls(dw, b.reduce("sum", dy, (0,), keep)) == (["bgrada"], 0)
    split = b.reshape(dy, (2, 4, 4))
    assert calls(dw, b.reduce("sum", split, (0, 1), False)) == (["bgrada"], 0)
    assert calls(dw, b.reduce("sum", split, (0,), False)) == ([""], 1)
    assert calls(dw, b.reduce("sum", dy, (0,), False), precision="tf32") == ([""], 1)
    assert calls(dw, b.reduce("sum", dy, (1,), False)) == ([""], 1)
    assert calls(dw, b.reduce("sum", x, (0,), False)) == ([""], 1)
    assert calls(dw, b.reduce("max", dy, (0,), False)) == ([""], 1)
    assert calls(dw, b.reduce("sum", dy, (0,), False), fuses=lambda call: call.epilogue != "bgrada") == ([""], 1)


@gn.model
def layers(x):
    x = gn.relu(gn.layers.dense(x, 64))
    x = gn.relu(gn.layers.dense(x, 64))
    return gn.layers.dense(x, 10)


def compiled(model, x, y=None, **options):
    loss, optimizer = gn.losses.softmax_cross_entropy if y is not None else None, gn.optim.SGD(lr=1e-3)
    return gn.compile(model, gn.spec(x.shape), loss=loss, optimizer=optimizer, seed=3, **options)


def on_emulated(**options):
    return {"device": "cuda", "backend": CudaBackend(EmulatedDevice(), **options)}


@pytest.fixture
def hidden_large(monkeypatch):
    """Products of the hidden layers are large enough, those of the last are not."""
    monkeypatch.setattr(products, "LARGE", 100_000)


def test_a_hidden_layer_is_one_product_forward_and_two_products_and_a_mask_backward():
    """No kernel for bias, activation and the bias' gradient, and no mask in memory."""
    x, y = np.zeros((512, 1, 28, 28), "float32"), np.zeros(512, "int64")
    found = {}
    for epilogues in (True, False):
        net = compiled(mlp, x, y, hidden=(1024,) * 3, **on_emulated(epilogues=epilogues))
        launches = net.backend.emit(net.plan).parts[""]
        found[epilogues] = [i.epilogue for i in launches if isinstance(i, Gemm)], len(launches)
        written = {a.dtype for step in net.plan.steps for a in step.outputs}
        assert ("bool" in written) is not epilogues
    assert found[True] == (["relu_bias"] * 3 + ["bgrada", ""] * 2 + ["bgrada"], 15)
    assert found[False] == ([""] * 8, 20)


@gn.model
def summed(x):
    """relu's result is summed, and nothing reads it backward."""
    return gn.sum(gn.square(gn.sum(gn.relu(gn.layers.dense(x, 64)), 1)))


def test_a_mask_stays_where_the_value_that_it_is_of_would_be_held_for_it_alone(hidden_large):
    x = np.zeros((32, 64))
    net = compiled(summed, x, **on_emulated())
    assert "bool" in {a.dtype for step in net.plan.steps for a in step.outputs}
    assert "relu_bias" not in [i.epilogue for i in net.backend.emit(net.plan).parts[""] if isinstance(i, Gemm)]


@pytest.mark.parametrize("model", [layers, summed])
def test_nets_with_epilogues_train_as_those_without_and_as_numpys(hidden_large, model):
    chosen = np.random.default_rng(0)
    x, y = chosen.normal(size=(32, 64)).astype("float32"), chosen.integers(0, 10, 32)
    target = (y,) if model is layers else ()
    nets = [
        compiled(model, x, *target, **w) for w in ({"backend": "numpy"}, on_emulated(), on_emulated(epilogues=False))
    ]
    losses = [[float(net.step(x, *target)) for _ in range(4)] for net in nets]
    for net, found in zip(nets[1:], losses[1:], strict=True):
        np.testing.assert_allclose(found, losses[0], rtol=1e-5)
        for name, value in nets[0].params.items():
            np.testing.assert_allclose(net.params[name], value, rtol=1e-4, atol=1e-6)
    if model is layers:
        np.testing.assert_allclose(nets[1](x), nets[0](x), rtol=1e-4, atol=1e-5)
        for net in nets:  # phase by phase
            net.forward(x)
            net.backward(y)
            net.update()
        for name, value in nets[0].params.items():
            np.testing.assert_allclose(nets[1].params[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kept", [lambda p, b: p, lambda p, b: gn.relu(p + b)], ids=["product", "epilogue"])
def test_no_product_of_the_library_writes_a_state_as_it_cannot_see_that_a_label_was_bad(all_large, kept):
    """A step that is refused changes nothing; a call of the library is not held back."""

    @gn.model
    def remembering(x):
        w, b = gn.param("w", (6, 4), gn.init.normal(0.0, 1.0)), gn.param("b", (4,))
        last = gn.state("last", (8, 4))
        last.assign(kept(x @ w, b))
        return gn.layers.dense(x, 3)

    chosen = np.random.default_rng(0)
    x, y = chosen.normal(size=(8, 6)).astype("float32"), np.zeros(8, "int64")
    net = compiled(remembering, x, y, **on_emulated())
    net.step(x, y)
    before = np.array(net.states["remembering/last"])
    assert np.abs(before).max() > 0
    with pytest.raises(gn.DataError, match="out of range"):
        float(net.step(2 * x, y + 5))
    np.testing.assert_array_equal(net.states["remembering/last"], before)
    net.step(2 * x, y)
    assert np.abs(net.states["remembering/last"] - before).max() > 0
