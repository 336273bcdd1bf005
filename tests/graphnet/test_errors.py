"""Programs that must be rejected while they are traced, each with its message and the line it starts with.

Every case is a model function of one (2, 3) tensor (``model_is``) or a plain function (``call_is``). The comment
``# here`` marks the line the message must start with; in a one-line case it is the only line there is.
"""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest

import graphnet as gn

CASES = []
TWO_BY_THREE = gn.spec((2, 3))
ARRAY = np.ones((2, 3), np.float32)


def call_is(error, pattern):
    """The decorated function raises ``error`` with a message that matches after its ``file:line: ``."""

    def add(function):
        CASES.append(pytest.param(function, function, error, pattern, id=function.__name__))
        return function

    return add


def model_is(error, pattern):
    """Compiling the decorated function for a (2, 3) float32 input raises ``error``."""

    def add(function):
        CASES.append(
            pytest.param(function, lambda: gn.compile(function, TWO_BY_THREE), error, pattern, id=function.__name__)
        )
        return function

    return add


@pytest.mark.parametrize(("function", "run", "error", "pattern"), CASES)
def test_mistakes_are_named_with_line_cause_and_remedy(function, run, error, pattern):
    """One line: file:line of the mistake, the operation, shapes or names, what to do."""
    lines, first = inspect.getsourcelines(function)
    line = first + next(i for i, text in enumerate(lines) if text.rstrip().endswith("# here"))
    with pytest.raises(error) as caught:
        run()
    message = str(caught.value)
    assert "\n" not in message
    found = re.match(r"(.+?):(\d+): (.*)", message)
    assert found, message
    assert (Path(found[1]).name, int(found[2])) == (Path(__file__).name, line), message
    assert re.search(pattern, found[3]), message


# -- shapes, axes, indices ------------------------------------------------------------------------------


@model_is(gn.ShapeError, r"^matmul: \(2, 3\) x \(4, 5\): inner sizes differ \(3, 4\)$")
def matmul_of_sizes_that_differ(x):
    w = gn.zeros((4, 5))
    return gn.matmul(x, w)  # here


@model_is(gn.ShapeError, r"^matmul: \(4, 5\) x \(2, 3\): inner sizes differ")
def operator_of_an_array_and_a_tensor(x):
    return np.zeros((4, 5), np.float32) @ x  # here


@model_is(gn.ShapeError, r"^add: \(2, 3\) x \(4\): shapes do not broadcast: sizes 3 and 4 of axis -1 differ$")
def shapes_that_do_not_broadcast(x):
    return x + gn.zeros(4)  # here


@model_is(gn.ShapeError, r"^matmul: \(2, 3\) x \(5, 5\)")
def helper_functions_are_user_code_too(x):
    def project(t):
        return t @ gn.zeros((5, 5))  # here

    return project(x)


@model_is(gn.ShapeError, r"^reshape: \(2, 3\) cannot become \(4, 2\): 6 elements, not 8$")
def reshape_to_another_size(x):
    return x.reshape(4, 2)  # here


@model_is(gn.ShapeError, r"^sum: axis 2 does not exist: the value has 2 axes$")
def axis_that_does_not_exist(x):
    return gn.sum(x, axis=2)  # here


@model_is(gn.ShapeError, r"^mean: axis -3 does not exist: the value has 2 axes$")
def negative_axis_that_does_not_exist(x):
    return x.mean(-3)  # here


@model_is(gn.ShapeError, r"^concat: axis 5 does not exist")
def concatenation_along_no_axis(x):
    return np.concatenate([x, x], axis=5)  # here


@model_is(gn.ShapeError, r"^concat: .*\(2, 3\).*\(2, 4\)")
def concatenation_of_unequal_parts(x):
    return gn.concat([x, gn.zeros((2, 4))], axis=0)  # here


@model_is(gn.ShapeError, r"^getitem: index 5 is out of bounds for axis 0 of \(2, 3\)$")
def index_out_of_bounds(x):
    return x[5]  # here


@model_is(gn.ShapeError, r"^getitem: index -4 is out of bounds for axis 1 of \(2, 3\)$")
def negative_index_out_of_bounds(x):
    return x[:, -4]  # here


@model_is(gn.ShapeError, r"^getitem: too many indices for \(2, 3\): 3$")
def too_many_indices(x):
    return x[0, 0, 0]  # here


@model_is(gn.ShapeError, r"^getitem: index 7 is out of bounds for axis 0 of size 2$")
def index_array_out_of_bounds(x):
    return x[np.array([0, 7])]  # here


@model_is(gn.TraceError, r"^a scalar tensor has no length$")
def length_of_a_scalar(x):
    return len(x.sum())  # here


@model_is(gn.TraceError, r"^a scalar tensor has no length$")
def unpacking_a_scalar(x):
    a, b = x.sum()  # here
    return a + b


# -- dtypes ---------------------------------------------------------------------------------------------


@model_is(gn.DTypeError, r"^embedding: ids are float32, need integers: cast with \.astype\('int32'\)$")
def embedding_of_floats(x):
    return gn.layers.embedding(x, 4, 5)  # here


@model_is(gn.DTypeError, r"^getitem: an index must be an integer, got float32: cast with \.astype\('int32'\)$")
def float_index(x):
    return x[x[0]]  # here


@model_is(gn.DTypeError, r"^getitem: a boolean index gives a result whose size depends on values: use gn\.where")
def boolean_mask(x):
    return x[x > 0]  # here


@model_is(gn.DTypeError, r"^and: needs truth values, got float32: compare first")
def bitwise_operator_on_numbers(x):
    return x & x  # here


@model_is(gn.DTypeError, r"^add: needs a tensor, an array or a number, got str$")
def string_operand(x):
    return x + "1"  # here


@model_is(gn.DTypeError, r"^add: needs a tensor, an array or a number, got NoneType$")
def missing_operand(x):
    return x + None  # here


@model_is(gn.DTypeError, r"^an array of dtype complex128 cannot be used in a model$")
def complex_array(x):
    return x * np.ones(3, complex)  # here


@model_is(gn.DTypeError, r"^dtype complex64 is not supported: use one of bool, uint8, int32, int64, ")
def unknown_dtype(x):
    return x @ gn.param("w", (3, 3), dtype="complex64")  # here


@model_is(gn.DTypeError, r"^random_uniform: random numbers are floats, not int32: cast them with \.astype")
def random_integers(x):
    return x + gn.random_uniform((2, 3), dtype="int32")  # here


# -- values that are not known yet ----------------------------------------------------------------------


@model_is(gn.TraceError, r"^a Python truth value .*`if`.* of a traced tensor bool\(\): .*gn\.where\(.*gn\.cond\(")
def python_if(x):
    if x.sum() > 0:  # here
        return x
    return -x


@model_is(gn.TraceError, r"^a Python truth value .*`while`.*gn\.while_loop$")
def python_while(x):
    while x.sum() > 0:  # here
        x = x - 1
    return x


@model_is(gn.TraceError, r"^a Python truth value .*`and`, `or`")
def python_and(x):
    return (x > 0) and (x < 1)  # here


@model_is(gn.TraceError, r"^a Python truth value .*of a traced tensor bool\(2, 3\)")
def chain_of_comparisons(x):
    return 0 < x < 1  # here


@model_is(gn.TraceError, r"^a Python truth value ")
def membership(x):
    return x * (3 in x)  # here


@model_is(gn.TraceError, r"^a Python truth value ")
def assertion_on_values(x):
    assert x.sum() > 0  # here
    return x


@model_is(gn.TraceError, r"^float\(\) of a traced tensor float32\(\): its value is not known .*keep it a tensor")
def python_float(x):
    return float(x.sum())  # here


@model_is(gn.TraceError, r"^float\(\) of a traced tensor float32\(\)")
def math_function(x):
    return math.sin(x[0, 0])  # here


@model_is(gn.TraceError, r"^int\(\) of a traced tensor float32\(\): .*pass the number as a Python argument")
def python_int(x):
    return int(x.sum())  # here


@model_is(gn.TraceError, r"^int\(\) of a traced tensor ")
def python_range(x):
    return x + sum(range(x.sum()))  # here


@model_is(gn.TraceError, r"^a NumPy array of a traced tensor float32\(2, 3\): .*use gn functions or NumPy ufuncs")
def conversion_to_numpy(x):
    return np.asarray(x)  # here


@model_is(gn.TraceError, r"^a format of a traced tensor float32\(\)")
def format_of_the_value(x):
    return x + len(f"{x.sum():.3f}")  # here


@model_is(gn.TraceError, r"^a tensor cannot be changed in place: use gn\.where\(.*gn\.scatter_add")
def item_assignment(x):
    x[0] = 1.0  # here
    return x


@model_is(gn.TraceError, r"^np\.add: out is not supported on a traced tensor$")
def in_place_into_an_array(x):
    total = np.zeros((2, 3))
    total += x  # here
    return total


@model_is(gn.NameError, r"^a traced tensor has no attribute 'numpy': its operations are the gn functions$")
def unknown_attribute(x):
    return x.numpy()  # here


@model_is(gn.TraceError, r"^np\.svd has no traced form")
def numpy_function_without_traced_form(x):
    return np.linalg.svd(x)  # here


@model_is(gn.TraceError, r"^np\.sum on a traced tensor: .*'dtype'")
def numpy_option_without_traced_form(x):
    return np.sum(x, dtype="float64")  # here


# -- names ----------------------------------------------------------------------------------------------


@model_is(gn.NameError, r"^param 'declared_twice/w' is declared twice, first at \S+:\d+: rename one, or declare it")
def declared_twice(x):
    w = gn.param("w", (3,))
    v = gn.param("w", (3,))  # here
    return x * w * v


@model_is(gn.NameError, r"^state 'parameter_and_state/w' is declared twice, first at ")
def parameter_and_state(x):
    w = gn.param("w", (3,))
    return x * w + gn.state("w", (3,))  # here


@model_is(gn.NameError, r"^param 'same_explicit_name/a/w' is declared twice")
def same_explicit_name(x):
    x = gn.layers.dense(x, 3, name="a")
    return gn.layers.dense(x, 3, name="a")  # here


@model_is(gn.NameError, r"^param: 'a/b' is not a name: use letters without '/'$")
def slash_in_a_parameter_name(x):
    return x * gn.param("a/b", (3,))  # here


@model_is(gn.NameError, r"^state: '' is not a name")
def empty_state_name(x):
    return x * gn.state("", (3,))  # here


@model_is(gn.NameError, r"^dense: name='a/b' is not a name")
def slash_in_a_scope(x):
    return gn.layers.dense(x, 3, name="a/b")  # here


@model_is(gn.NameError, r"^dense\(x, units, bias=True.*\): got an unexpected keyword argument 'unit'$")
def unknown_keyword_of_a_layer(x):
    return gn.layers.dense(x, 3, unit=4)  # here


@model_is(gn.NameError, r"^dense\(x, units.*\): missing a required argument: 'units'$")
def missing_argument_of_a_layer(x):
    return gn.layers.dense(x)  # here


@model_is(gn.NameError, r"^inner\(x, units\): too many positional arguments$")
def too_many_arguments_of_a_model(x):
    @gn.model
    def inner(x, units):
        return x * units

    return inner(x, 1, 2)  # here


# -- initial values, layers -----------------------------------------------------------------------------


@model_is(gn.ShapeError, r"^param 'initial_value_of_another_shape/w': .*\(3, 2\).*\(2, 2\)")
def initial_value_of_another_shape(x):
    return x @ gn.param("w", (3, 2), init=np.zeros((2, 2)))  # here


@model_is(gn.ShapeError, r"^spec: sizes must be non-negative integers, got \(3, -1\)$")
def negative_size(x):
    return x @ gn.param("w", (3, -1))  # here


@model_is(gn.ShapeError, r"^random_uniform: sizes must be non-negative integers")
def random_numbers_of_negative_size(x):
    return x + gn.random_uniform((2, -3))  # here


@model_is(gn.TraceError, r"^dropout: rate must be a number in \[0, 1\), got 1\.5$")
def dropout_rate_above_one(x):
    return gn.layers.dropout(x, 1.5)  # here


@model_is(gn.ShapeError, r"^conv2d: the input must be \(batch, channels, height, width\), got shape \(2, 3\)$")
def convolution_of_a_matrix(x):
    return gn.layers.conv2d(x, 20, kernel=5)  # here


# -- outside of a trace ---------------------------------------------------------------------------------


@call_is(gn.TraceError, r"^model function 'dense' works only while a model is traced: call it inside a @gn\.model")
def layer_called_on_arrays():
    gn.layers.dense(ARRAY, 3)  # here


@call_is(gn.TraceError, r"^gn\.param\('w'\) works only while a model is traced")
def parameter_outside():
    gn.param("w", (3,))  # here


@call_is(gn.TraceError, r"^gn\.state\('s'\) works only while a model is traced")
def state_outside():
    gn.state("s", (3,))  # here


@call_is(gn.TraceError, r"^gn\.training\(\) works only while a model is traced")
def training_outside():
    gn.training()  # here


@call_is(gn.TraceError, r"^gn\.random_uniform works only while a model is traced")
def random_numbers_outside():
    gn.random_uniform((3,))  # here


@call_is(gn.TraceError, r"^gn\.scan works only while a model is traced")
def scan_outside():
    gn.scan(lambda c, x: (c, x), ARRAY, ARRAY)  # here


@call_is(gn.TraceError, r"^add: a tensor from another trace \(at \S+:\d+\) is used outside of it: pass it as an arg")
def tensor_of_an_earlier_trace():
    kept = []
    gn.jit(lambda x: kept.append(x) or x)(1.0)
    gn.jit(lambda x: x + kept[0])(1.0)  # here
