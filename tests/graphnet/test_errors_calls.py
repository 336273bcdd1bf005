"""Wrong uses of gn.spec, gn.compile and nets, each with its message.

The comment ``# here`` marks the line that the message must start with.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_numpy import NumpyBackend

X = np.ones((2, 3), np.float32)
Y = np.zeros((2, 4), np.float32)
TWO_BY_THREE = gn.spec((2, 3))


@gn.model
def linear(x):
    return gn.layers.dense(x, 4)


def net(**options):
    """A net of one dense layer, trained on mean squares unless the options say otherwise."""
    options = {"loss": gn.losses.mse, "optimizer": gn.optim.SGD(lr=0.1)} | options
    return gn.compile(linear, TWO_BY_THREE, **options)


CASES = []


def rejected(error, pattern):
    """Calling the function, or compiling it for a (2, 3) input where it takes one, raises ``error``."""

    def add(function):
        CASES.append(pytest.param(function, error, pattern, id=function.__name__))
        return function

    return add


# -- gn.spec and gn.compile -----------------------------------------------------------------------------


@rejected(gn.ShapeError, r"^spec: sizes must be non-negative integers, got \(2, -1\)$")
def spec_of_negative_size():
    gn.spec((2, -1))  # here


@rejected(gn.ShapeError, r"^spec: sizes must be non-negative integers, got \(2, 1\.5\)$")
def spec_of_fractional_size():
    gn.spec((2, 1.5))  # here


@rejected(gn.ShapeError, r"^spec: sizes must be non-negative integers, got None$")
def spec_of_no_shape():
    gn.spec(None)  # here


@rejected(gn.DTypeError, r"^dtype complex64 is not supported: use one of bool, ")
def spec_of_unknown_dtype():
    gn.spec((2,), "complex64")  # here


@rejected(gn.CompileError, r"^compile: the model must be a function, got int$")
def model_that_is_no_function():
    gn.compile(3, TWO_BY_THREE)  # here


@rejected(gn.TraceError, r"^compile: inputs are described by gn\.spec\(shape\) or an example array, got tuple$")
def input_that_is_a_bare_shape():
    gn.compile(linear, (2, 3))  # here


@rejected(gn.NameError, r"^compile: linear\(x\): got an unexpected keyword argument 'units'$")
def unknown_option():
    gn.compile(linear, TWO_BY_THREE, units=4)  # here


@rejected(gn.NameError, r"^compile: linear\(x\): missing a required argument: 'x'$")
def missing_spec():
    gn.compile(linear)  # here


@rejected(gn.NameError, r"^compile: input name 'a' is taken: give gn\.spec\(\.\.\., name=\) another$")
def inputs_of_one_name():
    gn.compile(lambda x, y: x + y, gn.spec(2, name="a"), gn.spec(2, name="a"))  # here


@rejected(gn.TraceError, r"^model 'forgetful' returned nothing: return a tensor")
def model_without_a_return():
    def forgetful(x):
        x * 2

    gn.compile(forgetful, TWO_BY_THREE)  # here


@rejected(gn.TraceError, r"^model 'wordy' must return tensors, it returned str$")
def model_that_returns_a_string():
    def wordy(x):
        return {"y": x, "note": "done"}

    gn.compile(wordy, TWO_BY_THREE)  # here


@rejected(gn.CompileError, r"^compile: seed must be an integer from 0 to 2\*\*64 - 1, got -1$")
def negative_seed():
    gn.compile(linear, TWO_BY_THREE, seed=-1)  # here


@rejected(gn.CompileError, r"^compile: optimizer must be one of gn\.optim .*, got str$")
def optimizer_by_name():
    gn.compile(linear, TWO_BY_THREE, optimizer="sgd")  # here


@rejected(gn.CompileError, r"^compile: loss must be a function .* such as gn\.losses\.mse, got str$")
def loss_by_name():
    gn.compile(linear, TWO_BY_THREE, loss="mse")  # here


@rejected(gn.BackendError, r"^backend 'tpu' is unknown: use one of auto, numpy")
def unknown_backend():
    gn.compile(linear, TWO_BY_THREE, backend="tpu")  # here


@rejected(gn.BackendError, r"^device 'tpu' is unknown: use one of cpu, cuda$")
def unknown_device():
    gn.compile(linear, TWO_BY_THREE, device="tpu")  # here


@rejected(gn.BackendError, r"^device 'gpu' is unknown: did you mean 'cuda'\? use one of cpu, cuda$")
def another_name_of_a_device():
    gn.compile(linear, TWO_BY_THREE, device="gpu")  # here


@rejected(
    gn.BackendError,
    r"^device 'cuda:1' is unknown: did you mean 'cuda'\? CUDA_VISIBLE_DEVICES=1 in the environment chooses the GPU$",
)
def device_with_a_number():
    gn.compile(linear, TWO_BY_THREE, device="cuda:1")  # here


@rejected(gn.BackendError, r"^device \['cuda'\] is unknown: use one of cpu, cuda$")
def device_that_is_no_name():
    gn.compile(linear, TWO_BY_THREE, device=["cuda"])  # here


@rejected(gn.BackendError, r"^threads is for backend='c': backend 'emulated' has none to set: leave it out$")
def threads_on_a_gpu():
    gn.compile(linear, TWO_BY_THREE, device="cuda", backend="emulated", threads=2)  # here


@rejected(gn.BackendError, r"^threads is for backend='c': backend 'numpy' has none to set: leave it out$")
def threads_of_numpy():
    gn.compile(linear, TWO_BY_THREE, backend="numpy", threads=2)  # here


@rejected(gn.BackendError, r"^threads and precision are given .* leave them out beside backend=NumpyBackend\(\.\.\.\)$")
def precision_beside_a_backend():
    gn.compile(linear, TWO_BY_THREE, backend=NumpyBackend(), precision="tf32")  # here


@rejected(gn.ShapeError, r"^loss 'distance' must return a scalar, it returned a tensor of shape \(2, 4\)$")
def loss_that_is_not_scalar():
    def distance(y, target):
        return y - target

    step = {"optimizer": gn.optim.SGD(lr=0.1), "target": gn.spec((2, 4))}
    gn.compile(linear, TWO_BY_THREE, loss=distance, **step)  # here


@rejected(gn.ShapeError, r"^mse: the output has shape \(2, 4\), the target \(5,\): reshape one to match$")
def target_spec_that_does_not_fit():
    gn.compile(linear, TWO_BY_THREE, loss=gn.losses.mse, optimizer=gn.optim.SGD(lr=0.1), target=gn.spec(5))  # here


# -- nets -----------------------------------------------------------------------------------------------


@rejected(gn.PlanError, r"^linear: step takes 1 input and a target: it got 1 in all$")
def step_without_target():
    net().step(X)  # here


@rejected(gn.PlanError, r"^linear: step takes 1 input and a target: it got 3 in all$")
def step_with_too_many_arrays():
    net().step(X, Y, Y)  # here


@rejected(gn.PlanError, r"^linear: infer takes 1 input: it got 2 in all$")
def inference_with_a_target():
    net()(X, Y)  # here


@rejected(gn.PlanError, r"^linear: loss takes 1 input and a target: it got 1 in all$")
def loss_without_target():
    net().loss(X)  # here


@rejected(gn.PlanError, r"^linear: forward takes 1 input: it got 2 in all$")
def forward_with_a_target():
    net().forward(X, Y)  # here


@rejected(gn.ShapeError, r"^input 'x' has shape \(3,\), the net was compiled for \(2, 3\)$")
def input_of_other_axes():
    net()(X[0])  # here


@rejected(gn.DTypeError, r"^input 'x' is complex64, the net was compiled for float32: convert it with \.astype")
def complex_input():
    net()(X * 1j)  # here


@rejected(gn.ShapeError, r"^a nested list whose rows have different lengths is no array$")
def ragged_input():
    net()([[1, 2], [3]])  # here


@rejected(
    gn.NameError, r"^fit: unknown option 'epoch': did you mean 'epochs'\? use one of epochs, batch_size, .*verbose$"
)
def option_that_fit_does_not_have():
    net().fit(X, Y, epoch=3)  # here


@rejected(gn.ShapeError, r"^mse: the output has shape \(2, 4\), the target \(2, 5\): reshape one to match$")
def target_of_another_shape():
    net().step(X, np.zeros((2, 5), np.float32))  # here


@rejected(
    gn.DTypeError, r"^softmax_cross_entropy: the target is float32, need int32: convert it with \.astype\('int32'\)$"
)
def float_class_numbers():
    net(loss=gn.losses.softmax_cross_entropy).step(X, np.zeros(2, np.float32))  # here


@rejected(gn.PlanError, r"^linear was compiled without an optimizer: pass optimizer=$")
def step_without_optimizer():
    net(optimizer=None).step(X, Y)  # here


@rejected(gn.PlanError, r"^linear was compiled without a loss: pass loss=$")
def step_without_loss():
    net(loss=None).step(X, Y)  # here


@rejected(gn.PlanError, r"^backward: call forward first: the order is forward, backward, update$")
def backward_before_forward():
    net().backward(Y)  # here


@rejected(gn.PlanError, r"^update: call backward first: the order is forward, backward, update$")
def update_before_backward():
    phases = net()
    phases.forward(X)
    phases.update()  # here


@rejected(gn.PlanError, r"^update: call backward first")
def update_twice():
    phases = net()
    phases.forward(X)
    phases.backward(Y)
    phases.update()
    phases.update()  # here


@rejected(gn.PlanError, r"^backward takes the target of the batch given to forward$")
def backward_without_target():
    phases = net()
    phases.forward(X)
    phases.backward()  # here


@rejected(gn.PlanError, r"^grads: there are none before net\.backward\(y\); net\.step keeps none$")
def gradients_before_backward():
    phases = net()
    phases.forward(X)
    phases.grads  # noqa: B018  # here


@rejected(gn.NameError, r"^parameter 'w' is unknown: there are linear/dense_1/w, linear/dense_1/b$")
def unknown_parameter():
    net().params["w"]  # here


@rejected(gn.ShapeError, r"^parameter 'linear/dense_1/w' has shape \(3, 4\), the value \(2, 2\)$")
def parameter_of_another_shape():
    net().params["linear/dense_1/w"] = np.zeros((2, 2))  # here


@rejected(gn.DTypeError, r"^parameter 'linear/dense_1/b' is float32, the value <U1$")
def parameter_of_words():
    net().params["linear/dense_1/b"] = list("abcd")  # here


@rejected(gn.NameError, r"^parameter 'linear/dense_1/b' belongs to the net and cannot be deleted$")
def deleted_parameter():
    del net().params["linear/dense_1/b"]  # here


@rejected(gn.NameError, r"^SGD has no hyperparameter 'learning_rate': it has lr, momentum, ")
def unknown_hyperparameter():
    net().optimizer.learning_rate = 0.5  # here


@rejected(gn.PlanError, r"^dump: \.foo is unknown: use \.txt, \.dot, \.json")
def unknown_dump():
    net().dump("net.foo")  # here


@rejected(
    gn.PlanError, r"^linear: a plan for infer\(float32\(5, 3\)\) would be number 3, the bound is 2: use fewer input"
)
def more_plans_than_allowed():
    bounded = net(max_plans=2)
    bounded(X)
    bounded(np.ones((5, 3), np.float32))  # here


# -- the test -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "error", "pattern"), CASES)
def test_wrong_calls_name_line_cause_and_remedy(function, error, pattern):
    """The message is one line: file:line of the mistake, then what is wrong and what to do."""
    lines, first = inspect.getsourcelines(function)
    line = first + next(i for i, text in enumerate(lines) if text.rstrip().endswith("# here"))
    with pytest.raises(error) as caught:
        gn.compile(function, gn.spec((2, 3))) if inspect.signature(function).parameters else function()
    file, number, message = re.fullmatch(r"(.+?):(\d+): (.*)", str(caught.value)).groups()
    assert (Path(file).name, int(number)) == (Path(__file__).name, line), message
    assert re.search(pattern, message), message
