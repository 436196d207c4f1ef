import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels
from minigrad.ops.linear import RowSum, products, row_sums

sizes = st.integers(0, 5)


def whole(seed, *shape):
    """Integers: sums of their products are exact in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)


@given(sizes, sizes, sizes)
def test_products_are_exact_for_integers(m, k, n):
    a, b, s, c = whole(0, m, k), whole(1, k, n), whole(2, n), whole(3, m, n)
    assert (kernels.matmul(a, b) == a @ b).all()
    assert (kernels.affine(a, b.T, s) == a @ b + s).all()
    assert (products(a, c, a[:1], c[:1]) == a.T @ c + a[:1].T @ c[:1]).all()
    assert (row_sums(a, a[:1]) == a.sum(axis=0) + a[:1].sum(axis=0)).all()


@given(st.integers(1, 4), st.integers(1, 4))
def test_operands_may_lie_in_memory_in_any_order(m, n):
    a, b = whole(0, m, 3), whole(1, 3, n)
    expected = a @ b
    for left in (np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2], a[::-1].copy()[::-1]):
        for right in (np.asfortranarray(b), b[:, ::-1].copy()[:, ::-1]):
            assert (kernels.matmul(left, right) == expected).all()


def test_a_column_of_ones_is_a_row_sum():
    g = whole(0, 3, 2)
    assert (RowSum.total([RowSum(g), RowSum(g[:1])]) == g.sum(0) + g[0]).all()


def test_the_gradient_of_a_bias_is_gathered():
    x, w = whole(0, 4, 3), whole(1, 2, 3)
    b = mg.tensor(np.zeros(2), requires_grad=True)
    (mg.affine(x, w, b) + mg.affine(x[:2], w, b).sum()).sum().backward()
    assert b.grad.data.tolist() == [4.0 + 8 * 2, 4.0 + 8 * 2]


def test_a_start_for_every_row_gets_the_cotangent_itself():
    start = mg.tensor(whole(0, 2, 4), requires_grad=True)
    g = whole(1, 2, 4)
    mg.affine(whole(2, 2, 3), whole(3, 4, 3), start).backward(g)
    assert (start.grad.data == g).all()


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (2, 3)), ((3,), (2,)), ((), (2,)), ((2, 2, 3), (4, 4))]
)
def test_inner_sizes_that_differ(a, b):
    with pytest.raises(mg.ShapeError, match="matmul: the inner sizes"):
        mg.matmul(mg.tensor(np.ones(a)), np.ones(b))


def test_stacks_that_do_not_fit():
    with pytest.raises(mg.ShapeError, match="matmul"):
        mg.matmul(mg.tensor(np.ones((2, 2, 3))), np.ones((3, 3, 2)))


@pytest.mark.parametrize(
    ("shapes", "culprit"),
    [
        (((2, 3), (4, 2), (4,)), "affine: x and weight"),
        (((2, 3), (3,), (4,)), "affine: x and weight"),
        (((2, 3), (4, 3), (3,)), "affine: start"),
        (((2, 3), (4, 3), (1, 4)), "affine: start"),
        (((2, 3), (4, 3), ()), "affine: start"),
    ],
)
def test_an_affine_map_that_does_not_fit(shapes, culprit):
    with pytest.raises(mg.ShapeError, match=culprit):
        mg.affine(mg.tensor(np.ones(shapes[0])), *(np.ones(s) for s in shapes[1:]))


def test_products_of_unequal_rows():
    with pytest.raises(mg.ShapeError, match="products: pair 1"):
        products(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), np.ones((1, 3)))


def test_rows_that_are_not_there():
    for wrong in ([4], [-5]):
        with pytest.raises(mg.ShapeError, match="scatter_rows: index"):
            kernels.scatter_rows(np.array(wrong), np.ones((1, 2)), (4, 2))


def test_rows_are_added_in_order():
    g = np.array([[2.0**53], [1.0], [1.0]])
    index = np.array([1, 1, -1])
    assert kernels.scatter_rows(index, g, (2, 1)).tolist() == [[0.0], [2.0**53]]
    assert kernels.scatter_rows(index, g[::-1], (2, 1)).tolist() == [[0.0], [2.0**53 + 2]]
