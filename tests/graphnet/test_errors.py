"""Models that must be rejected while they are traced, each with its message.

The comment ``# here`` marks the line that the message must start with: the user's, in whatever helper it is.
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


def rejected(error, pattern):
    """Calling the function, or compiling it for a (2, 3) input where it takes one, raises ``error``."""

    def add(function):
        CASES.append(pytest.param(function, error, pattern, id=function.__name__))
        return function

    return add


# -- shapes, axes, indices ------------------------------------------------------------------------------


@rejected(gn.ShapeError, r"^matmul: \(2, 3\) x \(4, 5\): inner sizes differ \(3, 4\)$")
def matmul_of_sizes_that_differ(x):
    w = gn.zeros((4, 5))
    return gn.matmul(x, w)  # here


@rejected(gn.ShapeError, r"^matmul: \(4, 5\) x \(2, 3\): inner sizes differ")
def operator_of_an_array_and_a_tensor(x):
    return np.zeros((4, 5), np.float32) @ x  # here


@rejected(gn.ShapeError, r"^add: \(2, 3\) x \(4\): shapes do not broadcast: sizes 3 and 4 of axis -1 differ$")
def shapes_that_do_not_broadcast(x):
    return x + gn.zeros(4)  # here


@rejected(gn.ShapeError, r"^matmul: \(2, 3\) x \(5, 5\)")
def helper_functions_are_user_code_too(x):
    def project(t):
        return t @ gn.zeros((5, 5))  # here

    return project(x)


@rejected(gn.ShapeError, r"^reshape: \(2, 3\) cannot become \(4, 2\): 6 elements, not 8$")
def reshape_to_another_size(x):
    return x.reshape(4, 2)  # here


@rejected(gn.ShapeError, r"^sum: axis 2 does not exist: the value has 2 axes$")
def axis_that_does_not_exist(x):
    return gn.sum(x, axis=2)  # here


@rejected(gn.ShapeError, r"^mean: axis -3 does not exist: the value has 2 axes$")
def negative_axis_that_does_not_exist(x):
    return x.mean(-3)  # here


@rejected(gn.ShapeError, r"^concat: axis 5 does not exist")
def concatenation_along_no_axis(x):
    return np.concatenate([x, x], axis=5)  # here


@rejected(gn.ShapeError, r"^concat: .*\(2, 3\).*\(2, 4\)")
def concatenation_of_unequal_parts(x):
    return gn.concat([x, gn.zeros((2, 4))], axis=0)  # here


@rejected(gn.ShapeError, r"^getitem: index 5 is out of bounds for axis 0 of \(2, 3\)$")
def index_out_of_bounds(x):
    return x[5]  # here


@rejected(gn.ShapeError, r"^getitem: index -4 is out of bounds for axis 1 of \(2, 3\)$")
def negative_index_out_of_bounds(x):
    return x[:, -4]  # here


@rejected(gn.ShapeError, r"^getitem: too many indices for \(2, 3\): 3$")
def too_many_indices(x):
    return x[0, 0, 0]  # here


@rejected(gn.ShapeError, r"^getitem: index 7 is out of bounds for axis 0 of size 2$")
def index_array_out_of_bounds(x):
    return x[np.array([0, 7])]  # here


@rejected(gn.TraceError, r"^a scalar tensor has no length$")
def length_of_a_scalar(x):
    return len(x.sum())  # here


@rejected(gn.TraceError, r"^a scalar tensor has no length$")
def unpacking_a_scalar(x):
    a, b = x.sum()  # here
    return a + b


# -- dtypes ---------------------------------------------------------------------------------------------


@rejected(gn.DTypeError, r"^embedding: ids are float32, need integers: cast with \.astype\('int32'\)$")
def embedding_of_floats(x):
    return gn.layers.embedding(x, 4, 5)  # here


@rejected(gn.DTypeError, r"^getitem: an index must be an integer, got float32: cast with \.astype\('int32'\)$")
def float_index(x):
    return x[x[0]]  # here


@rejected(gn.DTypeError, r"^getitem: a boolean index gives a result whose size depends on values: use gn\.where")
def boolean_mask(x):
    return x[x > 0]  # here


@rejected(gn.DTypeError, r"^and: needs truth values, got float32: compare first")
def bitwise_operator_on_numbers(x):
    return x & x  # here


@rejected(gn.DTypeError, r"^add: needs a tensor, an array or a number, got str$")
def string_operand(x):
    return x + "1"  # here


@rejected(gn.DTypeError, r"^add: needs a tensor, an array or a number, got NoneType$")
def missing_operand(x):
    return x + None  # here


@rejected(gn.DTypeError, r"^an array of dtype complex128 cannot be used in a model$")
def complex_array(x):
    return x * np.ones(3, complex)  # here


@rejected(gn.DTypeError, r"^dtype complex64 is not supported: use one of bool, uint8, int32, int64, ")
def unknown_dtype(x):
    return x @ gn.param("w", (3, 3), dtype="complex64")  # here


@rejected(gn.DTypeError, r"^random_uniform: random numbers are floats, not int32: cast them with \.astype")
def random_integers(x):
    return x + gn.random_uniform((2, 3), dtype="int32")  # here


# -- values that are not known yet ----------------------------------------------------------------------


@rejected(gn.TraceError, r"^a Python truth value .*`if`.* of a traced tensor bool\(\): .*gn\.where\(.*gn\.cond\(")
def python_if(x):
    if x.sum() > 0:  # here
        return x
    return -x


@rejected(gn.TraceError, r"^a Python truth value .*`while`.*gn\.while_loop$")
def python_while(x):
    while x.sum() > 0:  # here
        x = x - 1
    return x


@rejected(gn.TraceError, r"^a Python truth value .*`and`, `or`")
def python_and(x):
    return (x > 0) and (x < 1)  # here


@rejected(gn.TraceError, r"^a Python truth value .*of a traced tensor bool\(2, 3\)")
def chain_of_comparisons(x):
    return 0 < x < 1  # here


@rejected(gn.TraceError, r"^a Python truth value ")
def membership(x):
    return x * (3 in x)  # here


@rejected(gn.TraceError, r"^a Python truth value ")
def assertion_on_values(x):
    assert x.sum() > 0  # here
    return x


@rejected(gn.TraceError, r"^float\(\) of a traced tensor float32\(\): its value is not known .*keep it a tensor")
def python_float(x):
    return float(x.sum())  # here


@rejected(gn.TraceError, r"^float\(\) of a traced tensor float32\(\)")
def math_function(x):
    return math.sin(x[0, 0])  # here


@rejected(gn.TraceError, r"^int\(\) of a traced tensor float32\(\): .*pass the number as a Python argument")
def python_int(x):
    return int(x.sum())  # here


@rejected(gn.TraceError, r"^int\(\) of a traced tensor ")
def python_range(x):
    return x + sum(range(x.sum()))  # here


@rejected(gn.TraceError, r"^a NumPy array of a traced tensor float32\(2, 3\): .*use gn functions or NumPy ufuncs")
def conversion_to_numpy(x):
    return np.asarray(x)  # here


@rejected(gn.TraceError, r"^a format of a traced tensor float32\(\)")
def format_of_the_value(x):
    return x + len(f"{x.sum():.3f}")  # here


@rejected(gn.TraceError, r"^a tensor cannot be changed in place: use gn\.where\(.*gn\.scatter_add")
def item_assignment(x):
    x[0] = 1.0  # here
    return x


@rejected(gn.TraceError, r"^np\.add: out is not supported on a traced tensor$")
def in_place_into_an_array(x):
    total = np.zeros((2, 3))
    total += x  # here
    return total


@rejected(gn.NameError, r"^a traced tensor has no attribute 'colour': its operations are the gn functions$")
def unknown_attribute(x):
    return x.colour()  # here


@rejected(gn.NameError, r"^a traced tensor has no attribute 'view': use x.reshape\(shape\)$")
def habit_of_another_library(x):
    return x.view(-1)  # here


@rejected(gn.TraceError, r"^np\.svd has no traced form")
def numpy_function_without_traced_form(x):
    return np.linalg.svd(x)  # here


@rejected(gn.TraceError, r"^np\.sum on a traced tensor: .*'dtype'")
def numpy_option_without_traced_form(x):
    return np.sum(x, dtype="float64")  # here


# -- names ----------------------------------------------------------------------------------------------


@rejected(gn.NameError, r"^param 'declared_twice/w' is declared twice, first at \S+:\d+: rename one, or declare it")
def declared_twice(x):
    w = gn.param("w", (3,))
    v = gn.param("w", (3,))  # here
    return x * w * v


@rejected(gn.NameError, r"^state 'parameter_and_state/w' is declared twice, first at ")
def parameter_and_state(x):
    w = gn.param("w", (3,))
    return x * w + gn.state("w", (3,))  # here


@rejected(gn.NameError, r"^param 'same_explicit_name/a/w' is declared twice")
def same_explicit_name(x):
    x = gn.layers.dense(x, 3, name="a")
    return gn.layers.dense(x, 3, name="a")  # here


@rejected(gn.NameError, r"^param: 'a/b' is not a name: use letters without '/'$")
def slash_in_a_parameter_name(x):
    return x * gn.param("a/b", (3,))  # here


@rejected(gn.NameError, r"^state: '' is not a name")
def empty_state_name(x):
    return x * gn.state("", (3,))  # here


@rejected(gn.NameError, r"^dense: name='a/b' is not a name")
def slash_in_a_scope(x):
    return gn.layers.dense(x, 3, name="a/b")  # here


@rejected(gn.NameError, r"^dense\(x, units, bias=True.*\): got an unexpected keyword argument 'unit'$")
def unknown_keyword_of_a_layer(x):
    return gn.layers.dense(x, 3, unit=4)  # here


@rejected(gn.NameError, r"^dense\(x, units.*\): missing a required argument: 'units'$")
def missing_argument_of_a_layer(x):
    return gn.layers.dense(x)  # here


@rejected(gn.NameError, r"^inner\(x, units\): too many positional arguments$")
def too_many_arguments_of_a_model(x):
    @gn.model
    def inner(x, units):
        return x * units

    return inner(x, 1, 2)  # here


# -- initial values, layers -----------------------------------------------------------------------------


@rejected(gn.ShapeError, r"^param 'initial_value_of_another_shape/w': .*\(3, 2\).*\(2, 2\)")
def initial_value_of_another_shape(x):
    return x @ gn.param("w", (3, 2), init=np.zeros((2, 2)))  # here


@rejected(gn.ShapeError, r"^spec: sizes must be non-negative integers, got \(3, -1\)$")
def negative_size(x):
    return x @ gn.param("w", (3, -1))  # here


@rejected(gn.ShapeError, r"^random_uniform: sizes must be non-negative integers")
def random_numbers_of_negative_size(x):
    return x + gn.random_uniform((2, -3))  # here


@rejected(gn.TraceError, r"^dropout: rate must be a number in \[0, 1\), got 1\.5$")
def dropout_rate_above_one(x):
    return gn.layers.dropout(x, 1.5)  # here


@rejected(gn.ShapeError, r"^conv2d: the input must be \(batch, channels, height, width\), got shape \(2, 3\)$")
def convolution_of_a_matrix(x):
    return gn.layers.conv2d(x, 20, kernel=5)  # here


# -- the test -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "error", "pattern"), CASES)
def test_mistakes_in_a_model_name_line_cause_and_remedy(function, error, pattern):
    """The message is one line: file:line of the mistake, then what is wrong and what to do."""
    lines, first = inspect.getsourcelines(function)
    line = first + next(i for i, text in enumerate(lines) if text.rstrip().endswith("# here"))
    with pytest.raises(error) as caught:
        gn.compile(function, gn.spec((2, 3))) if inspect.signature(function).parameters else function()
    file, number, message = re.fullmatch(r"(.+?):(\d+): (.*)", str(caught.value)).groups()
    assert (Path(file).name, int(number)) == (Path(__file__).name, line), message
    assert re.search(pattern, message), message
