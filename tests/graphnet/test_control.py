"""gn.scan, gn.cond and gn.while_loop against unrolled Python loops, values and gradients of first and second order."""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn
from graphnet import tree

DRAW = np.random.default_rng(0)
START, OTHER = DRAW.normal(size=(2, 3)), DRAW.normal(size=(2, 3))
XS = DRAW.normal(size=(5, 2, 3))
W = DRAW.normal(size=(3, 3)) / 2


def unrolled(cell, carry, xs=None, length=None, reverse=False):
    """What gn.scan promises to compute, as a Python loop."""
    rows, structure = tree.flatten(xs)
    count = rows[0].shape[0] if rows else length
    ys = {}
    for i in reversed(range(count)) if reverse else range(count):
        carry, ys[i] = cell(carry, tree.unflatten(structure, [x[i] for x in rows]))
    found = [tree.flatten(ys[i])[0] for i in range(count)]
    return carry, tree.unflatten(
        tree.flatten(ys[0])[1], [gn.stack(list(column)) for column in zip(*found, strict=True)]
    )


def total(nest):
    """A scalar that weighs every element of every leaf differently."""
    return sum((gn.sum(leaf * gn.cos(gn.cumsum(gn.ravel(leaf))[-1] + leaf)) for leaf in tree.flatten(nest)[0]), 0.0)


def assert_same(found, expected, tolerance=1e-12):
    (ours, structure), (theirs, other) = tree.flatten(found), tree.flatten(expected)
    assert structure == other
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def rnn(c, x):
    h = gn.tanh(c @ W + x)
    return h, h


def carried_before(c, x):
    return gn.tanh(c + x), c


def both_sides(c, x):
    new = gn.sin(c * x)
    return new, (c, new, c + new)


def swap(c, x):
    a, b = c
    return (b, a * x), {"a": a, "b": b}


def fibonacci(c, x):
    a, b = c
    return (b, a + b), a * x


def same_twice(c, x):
    new = c[0] * gn.cos(c[1]) + x
    return (new, new), new


def forgets(c, x):
    return x, c * x


def constant_carry(c, x):
    return gn.zeros((2, 3), "float64") + 0.5, c * x


def untouched(c, x):
    return c, c * x


def nothing_stacked(c, x):
    return gn.exp(-c * c) + x, None


def input_stacked(c, x):
    return c + x, (x, x * x)


def captured_product(c, x):
    return gn.tanh(c + gn.exp(x) @ W), gn.sum(c @ W.T, axis=1)


CELLS = {
    **{f.__name__: (f, START) for f in (rnn, carried_before, both_sides, forgets, constant_carry, untouched)},
    **{f.__name__: (f, START) for f in (nothing_stacked, input_stacked, captured_product)},
    **{f.__name__: (f, (START, OTHER)) for f in (swap, fibonacci, same_twice)},
}


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", CELLS)
def test_scan_is_the_unrolled_loop(name, reverse):
    """Carries, stacks and the gradients with respect to the first carry and the inputs, in both directions."""
    cell, start = CELLS[name]

    def whole(loop, carry, xs):
        result = loop(cell, carry, xs, reverse=reverse)
        return total(result)

    assert_same(*(gn.jit(lambda c, x, f=f: f(cell, c, x, reverse=reverse))(start, XS) for f in (gn.scan, unrolled)))
    found, expected = (
        gn.value_and_grad(lambda c, x, f=f: whole(f, c, x), argnums=(0, 1))(start, XS) for f in (gn.scan, unrolled)
    )
    assert_same(found, expected)


@pytest.mark.parametrize("name", ["rnn", "both_sides", "swap", "captured_product"])
def test_gradient_of_a_gradient_of_scan(name):
    """The gradient of the squared norm of the gradient, through the loop's own gradient loop."""
    cell, start = CELLS[name]

    def squared(loop):
        def norm(carry, xs):
            inner = gn.grad(lambda c, x: total(loop(cell, c, x)), argnums=(0, 1))(carry, xs)
            return sum(gn.sum(g * g) for g in tree.flatten(inner)[0])

        return gn.value_and_grad(norm, argnums=(0, 1))(start, XS)

    assert_same(squared(gn.scan), squared(unrolled), 1e-11)


@pytest.mark.parametrize("length", [0, 1, 2, 7])
def test_scan_by_length(length):
    """Without xs the loop runs length times; x is None."""
    powers = gn.jit(lambda c: gn.scan(lambda s, x: (s * c, s) if x is None else None, c, length=length))
    last, before = powers(3.0)
    assert last == 3.0 ** (length + 1)
    np.testing.assert_array_equal(before, 3.0 ** np.arange(1, length + 1))
    slope = gn.grad(lambda c: gn.scan(lambda s, _: (s * c, None), c, length=length)[0])
    assert slope(2.0) == (length + 1) * 2.0**length


def test_scan_over_no_rows_is_its_first_carry():
    """The gradient of what never ran is zero."""

    def run(w, xs):
        return gn.sum(gn.scan(lambda c, x: (c @ w + x, None), gn.ones(3, "float64"), xs)[0])

    value, (gw, gx) = gn.value_and_grad(run, argnums=(0, 1))(W, np.zeros((0, 3)))
    assert value == 3
    np.testing.assert_array_equal(gw, np.zeros((3, 3)))
    assert gx.shape == (0, 3)


def test_scan_of_nests():
    """Carries, inputs and results may be dicts, tuples and lists; the nest comes back as it went in."""

    def cell(carry, x):
        seen = {"sum": carry["sum"] + x["a"] + x["b"][0], "n": carry["n"] + 1}
        return seen, [seen["sum"], (x["b"][1],)]

    def run(a, b, c):
        return gn.scan(cell, {"sum": 0.0, "n": 0}, {"a": a, "b": [b, c]})

    a, b, c = np.arange(3.0), np.ones(3), np.full(3, 7.0)
    carry, ys = gn.jit(run)(a, b, c)
    assert carry == {"sum": 6.0, "n": 3}
    assert carry["n"].dtype == np.int32
    np.testing.assert_array_equal(ys[0], [1, 3, 6])
    np.testing.assert_array_equal(ys[1][0], c)


@pytest.mark.parametrize("reverse", [False, True])
def test_captured_tensors_get_gradients(reverse):
    """Values the cell takes from around it: weights, and what is computed from them outside."""

    def run(loop, w, bias, xs):
        scaled = gn.exp(w) / 3
        return total(
            loop(lambda c, x: (gn.tanh(c @ scaled + bias * x), c @ w), gn.zeros((2, 3), "float64"), xs, None, reverse)
        )

    found, expected = (
        gn.value_and_grad(lambda w, b, x, f=f: run(f, w, b, x), argnums=(0, 1, 2))(W, OTHER[0], XS)
        for f in (gn.scan, unrolled)
    )
    assert_same(found, expected)


def nested(loop, w, start, xs):
    """A loop over rows in a loop over time: the inner one sees the outer carry, weights and input."""

    def outer(c, x):
        def inner(h, row):
            h = gn.tanh(h @ w + row * c[0])
            return h, h * x[0]

        last, hs = loop(inner, c[1], x)
        return gn.stack([last, gn.mean(hs, axis=0)]), hs

    return loop(outer, start, xs)


def test_nested_scans():
    """Values and gradients with respect to everything, twice over."""
    args = (W, START, XS)
    assert_same(*(gn.jit(lambda *a, f=f: nested(f, *a))(*args) for f in (gn.scan, unrolled)))
    found, expected = (
        gn.value_and_grad(lambda *a, f=f: total(nested(f, *a)), argnums=(0, 1, 2))(*args) for f in (gn.scan, unrolled)
    )
    assert_same(found, expected)

    def norm(loop, w):
        return gn.sum(gn.grad(lambda v: total(nested(loop, v, START, XS)))(w) ** 2)

    assert_same(*(gn.grad(lambda w, f=f: norm(f, w))(W) for f in (gn.scan, unrolled)), 1e-10)


def test_grad_inside_a_cell():
    """A loop of gradient descent on a quartic, and the gradient of where it ends with respect to the rate."""

    def descend(loop, rate):
        return loop(lambda x, _: (x - rate * gn.grad(lambda v: v**4 - v * v)(x), x), rate * 0 + 2.0, length=6)

    found, expected = (gn.value_and_grad(lambda r, f=f: total(descend(f, r)))(0.05) for f in (gn.scan, unrolled))
    assert_same(found, expected)


def test_integer_and_boolean_carries():
    """They have no gradient and do not disturb that of the others."""

    def cell(c, x):
        count, seen, value = c
        return (count + 1, seen | (x > 1), value * x + gn.astype(count, "float64")), count

    def run(x):
        return gn.scan(cell, (0, False, 1.0), x)

    x = np.array([0.5, 2.0, 0.25])
    (count, seen, value), counts = gn.jit(run)(x)
    assert (count, seen) == (3, True)
    assert counts.tolist() == [0, 1, 2]
    assert value == ((0.5 * 2) + 1) * 0.25 + 2
    np.testing.assert_allclose(gn.grad(lambda v: run(v)[0][2])(x), [0.5, 0.125, 2.0])


def test_a_python_number_in_the_carry_takes_the_width_of_the_inputs():
    """0.1 beside float64 inputs is not rounded to float32."""
    last, ys = gn.jit(lambda x: gn.scan(lambda c, v: (c + v, 0.1), 0.1, x))(np.zeros(2))
    assert (last, ys[0]) == (0.1, 0.1)


# -- cond -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [-1.5, 2.0])
def test_cond_takes_one_branch(x):
    """Value, gradient and second derivative are those of the chosen branch."""

    def f(v):
        return gn.cond(v < 0, lambda t: t**3, lambda t: gn.exp(t * 2), v)

    chosen = [x**3, 3 * x**2, 6 * x] if x < 0 else [np.exp(2 * x) * 2**i for i in range(3)]
    found = [gn.jit(f)(x), gn.grad(f)(x), gn.grad(gn.grad(f))(x)]
    np.testing.assert_allclose(found, chosen, rtol=1e-14)


def test_cond_with_captured_tensors_and_nests():
    """Branches read what is around them; the nest comes back; gradients reach captured tensors and operands."""

    def f(flag, w, x):
        both = gn.cond(flag, lambda t: {"y": t @ w, "n": gn.sum(w)}, lambda t: {"y": t * 2, "n": 0.0}, x)
        return gn.sum(both["y"]) + both["n"], both

    for flag in (True, False):
        gw, gx = gn.grad(lambda w, x, flag=flag: f(flag, w, x)[0], argnums=(0, 1))(W, START)
        value, nest = gn.jit(f)(flag, W, START)
        expected = START @ W if flag else START * 2
        np.testing.assert_allclose(nest["y"], expected, rtol=1e-14)
        np.testing.assert_allclose(value, expected.sum() + (W.sum() if flag else 0), rtol=1e-13)
        np.testing.assert_allclose(gw, np.outer(START.sum(0), np.ones(3)) + 1 if flag else np.zeros((3, 3)))
        np.testing.assert_allclose(gx, np.tile(W.sum(1), (2, 1)) if flag else np.full((2, 3), 2.0))


@pytest.mark.parametrize("good", [True, False])
def test_only_the_chosen_branch_runs(good, monkeypatch):
    """Check mode stops at the first NaN, and a logarithm of -1 in the branch that is not taken makes none."""
    monkeypatch.setenv("GRAPHNET_CHECK", "1")

    @gn.model
    def guarded(x):
        return gn.cond(x[0] > 0, lambda: gn.log(x[0]), lambda: gn.log(x[1]))

    net = gn.compile(guarded, gn.spec(2))
    x = np.array([1.0, -1.0] if good else [-1.0, -1.0], np.float32)
    if good:
        assert net(x) == 0
    else:
        with pytest.raises(gn.NumericsError, match=r"test_control\.py:\d+: log: made NaN"):
            net(x)


def test_branches_alike_in_two_conds_stay_in_their_branches():
    """The same expression in branches of different conditions is not computed outside of either."""

    def f(p, q, x):
        first = gn.cond(p, lambda t: gn.exp(t), lambda t: t, x)
        return first + gn.cond(q, lambda t: gn.exp(t) * gn.log(x), lambda t: t, x) + gn.cond(p, gn.log, gn.exp, x)

    for p, q in ((True, True), (True, False), (False, True)):
        parts = [np.exp(2.0) if p else 2, np.exp(2.0) * np.log(2) if q else 2, np.log(2) if p else np.exp(2)]
        assert abs(gn.jit(f)(p, q, 2.0) - sum(parts)) < 1e-14
    assert gn.grad(f, argnums=2)(False, False, 0.0) == 3


def test_cond_inside_scan():
    """Each iteration chooses; the gradient takes the same branches."""

    def cell(c, x):
        c = gn.cond(x > 0, lambda t: gn.sin(t) + x, lambda t: t * c * x, c)
        return c, c

    def chosen(c, x):
        c = gn.where(x > 0, gn.sin(c) + x, c * c * x)
        return c, c

    x = np.array([0.5, -1.2, 0.7, -0.3])
    found = gn.value_and_grad(lambda c, v: total(gn.scan(cell, c, v)), argnums=(0, 1))(0.8, x)
    expected = gn.value_and_grad(lambda c, v: total(unrolled(chosen, c, v)), argnums=(0, 1))(0.8, x)
    assert_same(found, expected)


def test_scan_inside_cond():
    """A loop in a branch, differentiated with respect to what the branch captures."""

    def f(flag, w):
        return gn.cond(flag, lambda: gn.scan(lambda c, _: (c * w, None), w, length=3)[0], lambda: w * w)

    assert [gn.grad(f, argnums=1)(flag, 2.0) for flag in (True, False)] == [32, 4]


def test_cond_without_operands_and_without_dependence():
    """Constant branches have gradient zero."""
    f = gn.jit(lambda v: gn.cond(v > 0, lambda: 1.0, lambda: -1.0))
    assert [f(2.0), f(-2.0)] == [1, -1]
    assert gn.grad(lambda v: gn.cond(v > 0, lambda: 1.0, lambda: -1.0) + v * 0)(3.0) == 0


# -- while_loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_steps", "value", "slope"), [(0, 3, 1), (1, 9, 6), (2, 81, 108), (9, 6561, 17496)])
def test_while_loop_stops_at_the_condition_or_the_bound(max_steps, value, slope):
    """x -> x*x while x < 100: from 3 it stops after three squarings, or earlier at the bound."""

    def f(x):
        return gn.while_loop(lambda v: v < 100, lambda v: v * v, x, max_steps)

    assert gn.value_and_grad(f)(3.0) == (value, slope)


def test_while_loop_of_a_nest():
    """Newton's iteration for the square root, with its number of steps."""

    def root(a):
        def better(s):
            return {"x": (s["x"] + a / s["x"]) / 2, "n": s["n"] + 1}

        return gn.while_loop(lambda s: gn.abs(s["x"] ** 2 - a) > 1e-12, better, {"x": a, "n": 0}, max_steps=30)

    found = gn.jit(root)(2.0)
    assert abs(found["x"] - 2**0.5) < 1e-12
    assert found["n"] == 5
    slope = gn.grad(lambda a: root(a)["x"])(2.0)
    assert abs(slope - 0.5 / 2**0.5) < 1e-9


def test_while_loop_whose_condition_never_holds():
    """The value comes back as it was."""
    assert gn.jit(lambda x: gn.while_loop(lambda v: v > 10, lambda v: v * 0, x, max_steps=5))(3.0) == 3
