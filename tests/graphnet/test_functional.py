"""gn.jit, gn.grad and gn.value_and_grad on plain functions of arrays and nests of arrays."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

import graphnet as gn

# -- the three examples of the seed documents -----------------------------------------------------------


@pytest.mark.parametrize("sin", [gn.sin, np.sin], ids=["gn", "np"])
def test_sine_differentiated_once_twice_and_three_times(sin):
    """At pi/6: 0.8660, -0.5, -0.8660."""
    first = gn.grad(sin)
    second = gn.grad(first)
    third = gn.grad(second)
    found = [f(math.pi / 6) for f in (first, second, third)]
    np.testing.assert_allclose(found, [math.sqrt(3) / 2, -0.5, -math.sqrt(3) / 2], rtol=1e-15)
    assert [f"{f:.4f}" for f in found] == ["0.8660", "-0.5000", "-0.8660"]


def logistic(x):
    """l = 4 l (1 - l), three times from x; in closed form sin(8 arcsin(sqrt(x)))**2."""
    for _ in range(3):
        x = 4 * x * (1 - x)
    return x


def logistic_in_a_scan(x):
    return gn.scan(lambda v, _: (4 * v * (1 - v), None), x, length=3)[0]


@pytest.mark.parametrize("iterate", [logistic, logistic_in_a_scan])
@pytest.mark.parametrize("x", [0.2, 0.4, 0.713])
def test_logistic_map_differentiated(iterate, x):
    """With t = arcsin(sqrt(x)): dl/dx = 8 sin(16 t) / (2 sqrt(x (1 - x)))."""
    t = math.asin(math.sqrt(x))
    value, slope = gn.value_and_grad(iterate)(x)
    assert abs(value - math.sin(8 * t) ** 2) < 1e-14
    assert abs(slope - 8 * math.sin(16 * t) / (2 * math.sqrt(x * (1 - x)))) < 1e-12


def by_where(v):
    """exp(x) where x <= 0 and log(x) otherwise, added up."""
    return gn.sum(gn.where(v <= 0, gn.exp(v), gn.log(v)))


def by_cond(v):
    return sum(gn.cond(e <= 0, gn.exp, gn.log, e) for e in v)


def by_cond_on_captured(v):
    return sum(gn.cond(e <= 0, lambda e=e: gn.exp(e), lambda e=e: gn.log(e)) for e in v)


def by_scan_of_cond(v):
    return gn.scan(lambda s, e: (s + gn.cond(e <= 0, gn.exp, gn.log, e), None), 0.0, v)[0]


@pytest.mark.parametrize("f", [by_where, by_cond, by_cond_on_captured, by_scan_of_cond])
def test_exp_below_zero_and_log_above(f):
    """Over (0.88, -2.52, 1.55): value 0.390881, gradient (1.136364, 0.080460, 0.645161)."""
    value, gradient = gn.value_and_grad(f)(np.array([0.88, -2.52, 1.55]))
    assert f"{value:.6f}" == "0.390881"
    assert [f"{g:.6f}" for g in gradient] == ["1.136364", "0.080460", "0.645161"]


# -- gradients ------------------------------------------------------------------------------------------


def test_derivatives_of_different_variables_are_not_confused():
    """x * d(x*y)/dy is x**2 (Siskind and Pearlmutter 2005), in every way of writing the inner point."""
    assert gn.grad(lambda x: x * gn.grad(lambda y: x * y)(x))(3.0) == 6
    assert gn.grad(lambda x: x * gn.grad(lambda y: x * y)(2.0))(3.0) == 6
    assert gn.grad(lambda x: x * gn.grad(lambda y: x + y)(x))(3.0) == 1
    assert gn.grad(lambda x: gn.grad(lambda y: x * y * y)(x))(3.0) == 12
    # y and z are both taken at x, and are still two variables
    same_point = gn.jit(lambda x: gn.grad(lambda y: y * gn.grad(lambda z: y * z)(x))(x))
    assert same_point(3.0) == 6
    twice = gn.jit(lambda x: gn.grad(lambda a, b: a * b * b, (0, 1))(x, x))
    assert twice(3.0) == (9, 18)


def test_mixed_second_derivatives_are_symmetric():
    """d2f/dxdy both ways round."""

    def f(x, y):
        return gn.sin(x * y) * gn.exp(y) / x

    xy = gn.grad(lambda x, y: gn.grad(f, 1)(x, y), 0)(0.7, 1.3)
    yx = gn.grad(lambda x, y: gn.grad(f, 0)(x, y), 1)(0.7, 1.3)
    assert abs(xy - yx) < 1e-13


def test_hessian_vector_product():
    """The gradient of grad(f)(v) . u is H u; for a quadratic form H is known."""
    a = np.arange(9.0).reshape(3, 3)

    def f(v):
        return v @ a @ v

    u, v = np.array([1.0, -2.0, 0.5]), np.ones(3)
    product = gn.grad(lambda w: gn.sum(gn.grad(f)(w) * u))(v)
    np.testing.assert_allclose(product, (a + a.T) @ u)


def test_fifth_derivative():
    """To any order: of x**5 it is 120."""
    f = lambda x: x**5  # noqa: E731 - a function that is wrapped again and again
    for _ in range(5):
        f = gn.grad(f)
    assert f(0.3) == pytest.approx(120, rel=1e-12)


def test_gradients_come_in_the_nest_of_the_argument():
    """Dicts, tuples and lists; a leaf the value does not depend on has gradient zero."""

    def f(p):
        return gn.sum(p["w"][0] * 2 + p["b"][1] ** 2)

    found = gn.grad(f)({"w": [np.ones(2)], "b": (1.0, np.full(2, 3.0))})
    assert isinstance(found["b"], tuple)
    np.testing.assert_array_equal(found["w"][0], [2, 2])
    np.testing.assert_array_equal(found["b"][1], [6, 6])
    assert found["b"][0] == 0


def test_argnums_choose_arguments():
    """One index gives one gradient, several give a tuple; negative ones count from the end."""

    def f(x, y):
        return x * y * y

    assert gn.grad(f)(2.0, 3.0) == 9
    assert gn.grad(f, 1)(2.0, 3.0) == 12
    assert gn.grad(f, -1)(2.0, 3.0) == 12
    assert gn.grad(f, (1, 0))(2.0, 3.0) == (12, 9)
    assert gn.value_and_grad(f, (0, 1))(2.0, 3.0) == (18, (9, 12))


def test_keyword_arguments_and_other_values_are_passed_on():
    """Strings, None and functions choose the code that is traced; keywords are not differentiated."""

    def f(x, op, scale=None, power=1):
        y = op(x) if callable(op) else getattr(gn, op)(x)
        return (y if scale is None else y * scale) ** power

    assert gn.grad(f)(0.0, "exp") == 1
    assert gn.grad(f)(0.0, gn.exp, scale=3.0, power=2) == 18
    assert gn.grad(f)(0.0, np.sin, power=1) == 1


def test_stop_gradient():
    """The value passes, the gradient does not."""
    assert gn.value_and_grad(lambda x: x * gn.stop_gradient(x * x))(3.0) == (27, 9)


def test_the_gradient_of_a_constant_is_zero():
    """A function that returns a number of its own."""
    assert gn.value_and_grad(lambda x: 3.5)(2.0) == (3.5, 0)
    np.testing.assert_array_equal(gn.grad(lambda x: 0)(np.ones(2)), [0, 0])


# -- types ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "dtype"),
    [
        (1.5, np.float64),
        (np.float32(1.5), np.float32),
        (np.float64(1.5), np.float64),
        (np.array([1.5], np.float32), np.float32),
        (np.array([1.5], np.float16), np.float32),
        (np.array([1.5]), np.float64),
        (3, np.float64),
        (np.array([3]), np.float64),
    ],
    ids=str,
)
def test_gradients_have_the_float_type_of_the_argument(argument, dtype):
    """float32 in, float32 out; Python numbers and integers are differentiated in float64."""
    value, gradient = gn.value_and_grad(lambda x: gn.sum(x * x) * 0.5)(argument)
    assert (value.dtype, gradient.dtype) == (dtype, dtype)
    np.testing.assert_allclose(gradient, np.asarray(argument, dtype))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "uint32", "uint64", "float32", "float64"])
def test_jit_gives_back_what_numpy_would(dtype):
    """The identity keeps every dtype, shape and value."""
    x = np.array([[0, 1], [1, 1]]).astype(dtype)
    found = gn.jit(lambda a: a)(x)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, x)


def test_jit_results_are_numpy_and_stay_what_they_are():
    """A second call does not write over the first one's arrays; scalars are NumPy scalars."""
    double = gn.jit(lambda x: {"y": x * 2, "n": None, "s": gn.sum(x)})
    first = double(np.ones(3))
    double(np.zeros(3))
    np.testing.assert_array_equal(first["y"], [2, 2, 2])
    assert isinstance(first["y"], np.ndarray)
    assert isinstance(first["s"], np.float64)
    assert first["n"] is None


def test_arguments_are_not_changed():
    """Even where the function returns them, or works on their memory in place."""
    x = np.arange(3.0)
    found = gn.jit(lambda a: (a, a + 1))(x)
    found[0][:] = 7
    np.testing.assert_array_equal(x, [0, 1, 2])


# -- caching --------------------------------------------------------------------------------------------


def test_jit_traces_once_for_each_shape_type_and_structure():
    """Python runs at the first call of a kind only."""
    traces = []

    @gn.jit
    def f(x, option=None):
        traces.append(option)
        return gn.sum(x["a"] if isinstance(x, dict) else x)

    for _ in range(2):
        f(np.ones(3))
        f(np.zeros(3))
    assert len(traces) == 1
    f(np.ones(4))
    f(np.ones(3, np.float32))
    f({"a": np.ones(3)})
    f(np.ones(3), option="twice")
    assert len(traces) == 5
    f(np.ones(4), option=None)
    f(2.0)
    f(3.0)
    assert len(traces) == 7


def test_grad_traces_once_too():
    """The gradient of a function is compiled as one function."""
    traces = []
    slope = gn.grad(lambda x: traces.append(x) or x * x)
    assert [slope(x) for x in (1.0, 2.0, 3.0)] == [2, 4, 6]
    assert len(traces) == 1


def test_old_traces_make_room():
    """The bound on traces of one function drops the oldest; nothing else changes."""
    from graphnet.functional import MAX_TRACES

    traces = []
    f = gn.jit(lambda x: traces.append(x.shape) or gn.sum(x))
    for n in (*range(MAX_TRACES + 1), 0):
        assert f(np.ones(n)) == n
    assert traces == [*((n,) for n in range(MAX_TRACES + 1)), (0,)]


def test_jit_inside_a_trace_is_traced_with_it():
    """A jitted function called from another one, or from a model, is part of that graph."""
    double = gn.jit(lambda x: x * 2)
    assert gn.grad(lambda x: double(x) * double(3.0))(1.0) == 12
    net = gn.compile(lambda x: double(x) + double(1.0), gn.spec(2))
    np.testing.assert_array_equal(net(np.ones(2)), [4, 4])


def test_wrapped_functions_keep_their_name_and_signature():
    """functools.wraps: tools that print functions show the user's."""

    def energy(x):
        """Half the square."""
        return x * x / 2

    for wrap in (gn.jit, gn.grad, gn.value_and_grad):
        assert wrap(energy).__name__ == "energy"
        assert wrap(energy).__doc__ == "Half the square."


def test_methods_partials_and_callables():
    """Anything that can be called."""

    class Scale:
        def __init__(self, by):
            self.by = by

        def __call__(self, x):
            return self.by * x * x

        def method(self, x):
            return self(x)

    assert gn.grad(Scale(3).method)(1.0) == 6
    assert gn.grad(functools.partial(lambda s, x: s * x * x, 5.0))(1.0) == 10
    assert gn.grad(Scale(3))(1.0) == 6


def test_random_numbers_of_plain_functions_change_from_call_to_call():
    """They are counted from the first call, so that two jits of one function draw the same sequence."""

    def draw(x):
        return x + gn.random_uniform((4,), dtype="float64")

    one, other = gn.jit(draw), gn.jit(draw)
    first, second = one(0.0), one(0.0)
    assert (first != second).all()
    np.testing.assert_array_equal(other(0.0), first)
    np.testing.assert_array_equal(other(0.0), second)
