"""Wrong uses of loops, branches, gn.grad, gn.jit and of what needs a trace, each with its message.

The comment ``# here`` marks the line that the message must start with.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import graphnet as gn

X = np.ones((2, 3), np.float32)

CASES = []


def rejected(error, pattern):
    """Calling the function, or compiling it for a (2, 3) input where it takes one, raises ``error``."""

    def add(function):
        CASES.append(pytest.param(function, error, pattern, id=function.__name__))
        return function

    return add


# -- loops and branches ---------------------------------------------------------------------------------


@rejected(gn.TraceError, r"^scan: the cell must return \(carry, y\), it returned Tensor$")
def cell_without_y(x):
    return gn.scan(lambda c, row: c + row, x[0], x)  # here


@rejected(gn.NameError, r"^scan: the cell\(c\): too many positional arguments$")
def cell_of_one_argument(x):
    return gn.scan(lambda c: (c, c), x[0], x)  # here


@rejected(gn.TraceError, r"^scan: the carry is \*, the cell returned tuple\(0: \*, 1: \*\)$")
def carry_of_another_structure(x):
    return gn.scan(lambda c, row: ((c, c), row), x[0], x)  # here


@rejected(gn.ShapeError, r"^scan: carry 0 has shape \(3,\), the cell returned \(2, 3\)$")
def carry_of_another_shape(x):
    return gn.scan(lambda c, row: (x * c, row), x[0], x)  # here


@rejected(gn.DTypeError, r"^scan: carry 0 is int32, the cell returned float32: start from a float32 carry, or return")
def carry_that_would_be_rounded(x):
    return gn.scan(lambda c, row: (c + row.sum(), None), 0, x)  # here


@rejected(gn.TraceError, r"^scan: give xs or length=$")
def scan_over_nothing(x):
    return gn.scan(lambda c, _: (c, c), x)  # here


@rejected(gn.ShapeError, r"^scan: leading sizes differ: \[2, 7\]$")
def length_that_differs_from_xs(x):
    return gn.scan(lambda c, row: (c, row), x[0], x, length=7)  # here


@rejected(gn.TraceError, r"^scan: length must be a non-negative integer, got -1$")
def negative_length(x):
    return gn.scan(lambda c, _: (c, c), x, length=-1)  # here


@rejected(gn.TraceError, r"^scan: length must be a non-negative integer, got 2\.5$")
def fractional_length(x):
    return gn.scan(lambda c, _: (c, c), x, length=2.5)  # here


@rejected(gn.ShapeError, r"^scan: xs must have a leading axis to loop over$")
def scan_over_a_scalar(x):
    return gn.scan(lambda c, row: (c, row), x, x.sum())  # here


@rejected(gn.TraceError, r"^mul: a tensor from inside a loop or branch \(at \S+:\d+\) is used outside of it: return it")
def tensor_that_escapes_a_loop(x):
    kept = []
    gn.scan(lambda c, row: (kept.append(row) or c, c), x[0], x)
    return kept[0] * 2  # here


@rejected(gn.TraceError, r"^sub: a tensor from inside a loop or branch ")
def tensor_that_escapes_a_branch(x):
    kept = []
    gn.cond(x.sum() > 0, lambda t: kept.append(t) or t, lambda t: t, x)
    return kept[0] - 1  # here


@rejected(gn.TraceError, r"^state 's': declared inside a loop or branch: declare it outside$")
def state_declared_in_a_loop(x):
    def cell(c, row):
        return c, row * gn.state("s", (3,))  # here

    return gn.scan(cell, x[0], x)


@rejected(gn.TraceError, r"^state 'state_assigned_in_a_loop/s': assigned inside a loop or branch: assign the loop's")
def state_assigned_in_a_loop(x):
    s = gn.state("s", (3,))

    def cell(c, row):
        s.assign(row)  # here
        return c, row

    return gn.scan(cell, x[0], x)


@rejected(gn.NameError, r"^state 'state_assigned_twice/s' is assigned twice in one call$")
def state_assigned_twice(x):
    s = gn.state("s", (3,))
    s.assign(x[0])
    s.assign(x[1])  # here
    return x


@rejected(gn.ShapeError, r"^state 'state_of_another_shape/s' has shape \(3,\), the assigned value \(2, 3\)$")
def state_of_another_shape(x):
    gn.state("s", (3,)).assign(x)  # here
    return x


@rejected(gn.ShapeError, r"^cond: the predicate has shape \(2, 3\): use gn\.where for arrays$")
def condition_on_an_array(x):
    return gn.cond(x > 0, lambda: x, lambda: -x)  # here


@rejected(gn.ShapeError, r"^cond: the branches return different things: float32\(2, 3\) and float32\(\)$")
def branches_of_different_shapes(x):
    return gn.cond(x.sum() > 0, lambda: x, lambda: x.sum())  # here


@rejected(gn.ShapeError, r"^cond: the branches return different things: tuple\(0: \*, 1: \*\) and \*$")
def branches_of_different_structures(x):
    return gn.cond(x.sum() > 0, lambda: (x, x), lambda: x)  # here


@rejected(gn.NameError, r"^cond: branch 1\(\): too many positional arguments$")
def branch_without_parameters(x):
    return gn.cond(x.sum() > 0, lambda: x, lambda: x, x)  # here


@rejected(gn.NameError, r"^cond: branch 2 must be a function, got Tensor$")
def branch_that_is_a_tensor(x):
    return gn.cond(x.sum() > 0, lambda: x, -x)  # here


@rejected(gn.TraceError, r"^while_loop: max_steps must be a non-negative integer, got -1$")
def negative_bound(x):
    return gn.while_loop(lambda v: v.sum() > 0, lambda v: v - 1, x, max_steps=-1)  # here


@rejected(gn.ShapeError, r"^cond: the branches return different things: float32\(\) and float32\(2, 3\)$")
def loop_value_that_changes_shape(x):
    return gn.while_loop(lambda v: v.sum() > 0, lambda v: v.sum(), x, max_steps=2)  # here


# -- gn.grad and gn.jit ---------------------------------------------------------------------------------


@rejected(gn.ShapeError, r"^grad: the function must return a scalar, it returned shape \(2, 3\)$")
def gradient_of_an_array():
    gn.grad(gn.sin)(X)  # here


@rejected(gn.ShapeError, r"^grad: the function must return a scalar, it returned tuple$")
def gradient_of_a_tuple():
    gn.grad(lambda x: (x, x))(1.0)  # here


@rejected(gn.ShapeError, r"^grad: the function must return a scalar, it returned NoneType$")
def gradient_of_nothing():
    gn.grad(lambda x: None)(1.0)  # here


@rejected(gn.DTypeError, r"^grad: the function must return a float, it returned int32$")
def gradient_of_a_position():
    gn.grad(gn.argmax)(X)  # here


@rejected(gn.TraceError, r"^grad: argnums 2 of a call with 1 positional arguments$")
def argument_that_is_not_there():
    gn.grad(lambda x: x, argnums=2)(1.0)  # here


@rejected(gn.TraceError, r"^grad: argnums \(1, 1\) names an argument twice$")
def argument_named_twice():
    gn.grad(lambda x, y: x * y, argnums=(1, 1))(1.0, 2.0)  # here


@rejected(gn.TraceError, r"^grad: the function must be callable, got int$")
def gradient_of_a_number():
    gn.grad(3)  # here


@rejected(gn.TraceError, r"^jit: the function must be callable, got ndarray$")
def jit_of_an_array():
    gn.jit(X)  # here


@rejected(gn.TraceError, r"^param 'w': gn\.jit and gn\.grad take plain functions: pass it as argument$")
def parameter_in_a_plain_function():
    gn.jit(lambda x: x + gn.param("w", (3,)))(X)  # here


@rejected(gn.TraceError, r"^state 's': gn\.jit and gn\.grad take plain functions$")
def state_in_a_plain_function():
    gn.jit(lambda x: x + gn.state("s", (3,)))(X)  # here


@rejected(gn.DTypeError, r"^sin: needs a tensor, an array or a number, got complex$")
def complex_argument():
    gn.jit(gn.sin)(1j)  # here


@rejected(gn.TraceError, r"^arguments that are not arrays must be hashable, got set$")
def unhashable_argument():
    gn.jit(lambda x, names: x)(1.0, {"a"})  # here


@rejected(gn.TraceError, r"^a Python truth value ")
def branch_in_a_plain_function():
    gn.grad(lambda x: x if x > 0 else -x)(1.0)  # here


# -- outside of a trace ---------------------------------------------------------------------------------


@rejected(gn.TraceError, r"^model function 'dense' works only while a model is traced: call it inside a @gn\.model")
def layer_called_on_arrays():
    gn.layers.dense(X, 3)  # here


@rejected(gn.TraceError, r"^gn\.param\('w'\) works only while a model is traced")
def parameter_outside():
    gn.param("w", (3,))  # here


@rejected(gn.TraceError, r"^gn\.state\('s'\) works only while a model is traced")
def state_outside():
    gn.state("s", (3,))  # here


@rejected(gn.TraceError, r"^gn\.training\(\) works only while a model is traced")
def training_outside():
    gn.training()  # here


@rejected(gn.TraceError, r"^gn\.random_uniform works only while a model is traced")
def random_numbers_outside():
    gn.random_uniform((3,))  # here


@rejected(gn.TraceError, r"^gn\.scan works only while a model is traced")
def scan_outside():
    gn.scan(lambda c, x: (c, x), X, X)  # here


@rejected(gn.TraceError, r"^add: a tensor from another trace \(at \S+:\d+\) is used outside of it: pass it as an arg")
def tensor_of_an_earlier_trace():
    kept = []
    gn.jit(lambda x: kept.append(x) or x)(1.0)
    gn.jit(lambda x: x + kept[0])(1.0)  # here


# -- the test -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "error", "pattern"), CASES)
def test_mistakes_in_loops_and_plain_functions_name_line_cause_and_remedy(function, error, pattern):
    """The message is one line: file:line of the mistake, then what is wrong and what to do."""
    lines, first = inspect.getsourcelines(function)
    line = first + next(i for i, text in enumerate(lines) if text.rstrip().endswith("# here"))
    with pytest.raises(error) as caught:
        gn.compile(function, gn.spec((2, 3))) if inspect.signature(function).parameters else function()
    file, number, message = re.fullmatch(r"(.+?):(\d+): (.*)", str(caught.value)).groups()
    assert (Path(file).name, int(number)) == (Path(__file__).name, line), message
    assert re.search(pattern, message), message
