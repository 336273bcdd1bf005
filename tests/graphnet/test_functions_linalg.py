"""Matrix products and einsum against NumPy in float64."""

from __future__ import annotations

import string

import numpy as np
import pytest

import graphnet as gn


def draw(*shapes, seed=0):
    """Normal float64 arrays of these shapes."""
    random = np.random.default_rng(seed)
    return [random.normal(size=s) for s in shapes]


def check(function, reference, *arrays):
    """Both give the same."""
    found, expected = gn.jit(function)(*arrays), np.asarray(reference(*arrays))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (4, 2)),
        ((4,), (4,)),
        ((4,), (4, 2)),
        ((3, 4), (4,)),
        ((5, 3, 4), (4,)),
        ((4,), (5, 4, 2)),
        ((5, 3, 4), (4, 2)),
        ((3, 4), (5, 4, 2)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((0, 4), (4, 2)),
        ((3, 0), (0, 2)),
        ((1, 1), (1, 1)),
    ],
)
def test_matmul_agrees_with_numpy(shapes):
    """1-D operands, broadcast batches and empty sizes."""
    check(gn.matmul, np.matmul, *draw(*shapes))


@pytest.mark.parametrize(
    "shapes",
    [((), (3,)), ((4,), (4,)), ((3, 4), (4,)), ((3, 4), (4, 2)), ((2, 3, 4), (5, 4, 2)), ((4,), (5, 4, 2))],
)
def test_dot_agrees_with_numpy(shapes):
    """Scalars multiply, more axes contract the last with the last but one."""
    check(gn.dot, np.dot, *draw(*shapes))


def test_outer_flattens():
    """All products of elements."""
    check(gn.outer, np.outer, *draw((2, 3), (4,)))


@pytest.mark.parametrize("axes", [0, 1, 2, ((1, 2), (0, 1)), ((2,), (1,)), (2, 1), ((-2, -1), (0, 1))])
def test_tensordot_agrees_with_numpy(axes):
    """A count or pairs of axes."""
    check(
        lambda x, y: gn.tensordot(x, y, axes),
        lambda x, y: np.tensordot(x, y, axes),
        *draw((2, 3, 3), (3, 3, 5)),
    )


@pytest.mark.parametrize("offset", [-3, -1, 0, 2, 4])
def test_diagonal_agrees_with_numpy(offset):
    """Any pair of axes and any offset."""
    (x,) = draw((3, 2, 4))
    check(lambda x: gn.diagonal(x, offset, 0, 2), lambda x: np.diagonal(x, offset, 0, 2), x)
    check(lambda x: gn.diagonal(x, offset, 2, 1), lambda x: np.diagonal(x, offset, 2, 1), x)


def test_integer_products_are_exact():
    """int32 stays int32."""
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    found = gn.jit(lambda x: gn.matmul(x, gn.transpose(x)))(x)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, x @ x.T)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: gn.matmul(x, x), r"matmul: \(2, 3\) x \(2, 3\): inner sizes differ \(3, 2\)"),
        (lambda x: gn.matmul(x, 2.0), "matmul: a scalar operand"),
        (lambda x: gn.tensordot(x, x, 3), "tensordot: .*cannot contract 3 axes"),
        (lambda x: gn.tensordot(x, x, 1), "tensordot: .*different sizes"),
        (lambda x: gn.einsum("ij,jk", x), "einsum: .*names 2 operands, got 1"),
        (lambda x: gn.einsum("ijk", x), "einsum: .*'ijk' does not label the axes"),
        (lambda x: gn.einsum("ij->ik", x), "einsum: .*'k' is in no operand"),
        (lambda x: gn.einsum("ij->ii", x), "einsum: .*not a list of different labels"),
        (lambda x: gn.einsum("ij,jk", x, x), "einsum: label 'j' has sizes 3 and 2"),
        (lambda x: gn.einsum("i?", x), "einsum: .*does not label the axes"),
        (lambda x: gn.einsum(x, x), "einsum: the first argument is the subscripts"),
    ],
)
def test_linalg_errors(function, message):
    """Each says what does not fit."""
    with pytest.raises(gn.ShapeError, match=rf"test_functions_linalg.py:\d+: {message}"):
        gn.jit(function)(np.ones((2, 3)))


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ba", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("iii->i", (3, 3, 3)),
    ("i,i", (3,), (3,)),
    ("i,j", (3,), (4,)),
    ("i,i->i", (3,), (3,)),
    ("ij,ij->", (2, 3), (2, 3)),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("bij,bkj->bki", (5, 2, 3), (5, 4, 3)),
    ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("bthd,bshd->bhts", (2, 4, 3, 5), (2, 6, 3, 5)),
    ("bij,jk->bik", (5, 2, 3), (3, 4)),
    ("ij,k->ik", (2, 3), (4,)),
    ("ijk,jl->il", (2, 3, 4), (3, 5)),
    (",ij->ij", (), (2, 3)),
    ("...ij->...ji", (5, 2, 3)),
    ("...ij,...jk->...ik", (5, 2, 3), (5, 3, 4)),
    ("...ij,...jk", (5, 1, 2, 3), (6, 3, 4)),
    ("...,...", (2, 3), (3,)),
    ("i...,i...->...", (3, 2), (3, 2)),
    ("...i->...", (2, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("ij,jk,kl,lm->im", (2, 3), (3, 4), (4, 5), (5, 2)),
    ("a,ab,abc->c", (2,), (2, 3), (2, 3, 4)),
    ("i,i,i->i", (3,), (3,), (3,)),
    ("i,j,k->kij", (2,), (3,), (4,)),
    ("bi,bj,bij->b", (5, 2), (5, 3), (5, 2, 3)),
    ("ij,jk->ik", (2, 1), (3, 4)),
    ("ij,ij->ij", (2, 1), (1, 3)),
    ("ij,jk->ik", (0, 3), (3, 4)),
    ("ij,jk->ik", (2, 0), (0, 4)),
    ("ii,ij->j", (3, 3), (3, 2)),
    (" i j , j k -> i k ", (2, 3), (3, 4)),
]


@pytest.mark.parametrize("case", EINSUMS, ids=lambda c: c[0] + str(c[1:]))
def test_einsum_agrees_with_numpy(case):
    """Products, diagonals, ellipses, broadcasting, implicit results, chains."""
    subscripts, *shapes = case
    check(lambda *xs: gn.einsum(subscripts, *xs), lambda *xs: np.einsum(subscripts, *xs), *draw(*shapes))


@pytest.mark.parametrize("seed", range(60))
def test_einsum_of_random_subscripts(seed):
    """Up to four operands of up to four axes from five labels."""
    random = np.random.default_rng(seed)
    sizes = dict(zip(string.ascii_lowercase[:5], random.integers(1, 5, 5), strict=True))
    terms = ["".join(random.choice(list(sizes), random.integers(0, 5))) for _ in range(random.integers(1, 5))]
    used = sorted(set("".join(terms)))
    out = "".join(random.permutation(used)[: random.integers(0, len(used) + 1)])
    arrays = [random.normal(size=[sizes[c] for c in term]) for term in terms]
    subscripts = ",".join(terms) + "->" + out
    check(lambda *xs: gn.einsum(subscripts, *xs), lambda *xs: np.einsum(subscripts, *xs), *arrays)


def test_einsum_of_integers():
    """Integers are multiplied and added exactly, bools counted."""
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.testing.assert_array_equal(gn.jit(lambda x: gn.einsum("ij,kj->ik", x, x))(x), x @ x.T)
