"""Conventions at kinks and edges, where derivatives do not decide."""

import numpy as np
import pytest

import minigrad as mg


def gradient(f, *args):
    return mg.grad(lambda *a: f(*a).sum(), argnums=tuple(range(len(args))))(*args)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kinks(dtype):
    zero, one = np.zeros(1, dtype), np.ones(1, dtype)
    for f in (mg.relu, mg.absolute):
        (g,) = gradient(f, zero)
        assert (g.tolist(), g.dtype) == ([0.0], dtype)
    for f in (mg.maximum, mg.minimum):
        for g in gradient(f, one, one):
            assert (g.tolist(), g.dtype) == ([0.5], dtype)
    assert [g.tolist() for g in gradient(mg.maximum, one, zero)] == [[1.0], [0.0]]
    assert [g.tolist() for g in gradient(mg.minimum, one, zero)] == [[0.0], [1.0]]


def test_a_number_beside_a_float32_tensor():
    x = mg.tensor(np.array([-1.0, 0.0, 2.0], np.float32), requires_grad=True)
    y = mg.maximum(x, 0.0) + mg.where(x > 1, x, 0.5)
    assert (y.dtype, y.data.tolist()) == (np.float32, [0.5, 0.5, 4.0])
    y.sum().backward()
    assert (x.grad.dtype, x.grad.data.tolist()) == (np.float32, [0.0, 0.5, 2.0])


def test_nan_does_not_leak_from_the_branch_not_taken():
    x = mg.tensor([1.0, np.nan, np.inf], requires_grad=True)
    taken = np.array([True, False, False])
    y = mg.where(taken, x, 7.0)
    y.backward(np.array([3.0, np.nan, np.inf]))
    assert y.data.tolist() == [1.0, 7.0, 7.0]
    assert x.grad.data.tolist() == [3.0, 0.0, 0.0]
    z = mg.tensor([0.0, 0.0, 0.0], requires_grad=True)
    mg.where(taken, x.detach(), z).backward(np.array([np.nan, 5.0, 6.0]))
    assert z.grad.data.tolist() == [0.0, 5.0, 6.0]


def test_large_arguments_stay_finite():
    big = np.array([-1e4, 1e4])
    assert mg.sigmoid(big).tolist() == [0.0, 1.0]
    assert mg.tanh(big).tolist() == [-1.0, 1.0]
    assert mg.softplus(big).tolist() == [0.0, 1e4]
    assert mg.exp(big).tolist() == [0.0, np.inf]
    assert mg.log(np.array([0.0])).tolist() == [-np.inf]
    assert np.isnan(mg.log(np.array([-1.0]))).all()
    for f, expected in [(mg.sigmoid, [0, 0]), (mg.tanh, [0, 0]), (mg.softplus, [0, 1])]:
        assert gradient(f, big)[0].tolist() == expected


def test_small_powers_at_zero():
    zero = np.zeros(2)
    assert gradient(lambda x: x**2, zero)[0].tolist() == [0.0, 0.0]
    assert gradient(lambda x: x**1, zero)[0].tolist() == [1.0, 1.0]
    assert gradient(lambda x: x**0, zero)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("x", [-2.0, 0.0, 3.0])
def test_a_square_is_a_product_to_the_bit(x):
    x = mg.tensor([x / 3])
    assert (x**2).data == (x * x).data


def test_astype_moves_the_gradient_between_dtypes():
    x = mg.tensor(np.array([1.5, 2.5], np.float32), requires_grad=True)
    y = x.astype(np.float64)
    assert y.dtype == np.float64
    (y * np.array([2.0, 3.0])).sum().backward()
    assert (x.grad.dtype, x.grad.data.tolist()) == (np.float32, [2.0, 3.0])


def test_rounding_to_integers_carries_no_gradient():
    x = mg.tensor([1.5], requires_grad=True)
    n = x.astype(np.int64)
    assert (n.data.tolist(), n.dtype) == ([1], np.int64)
    assert not n.requires_grad
