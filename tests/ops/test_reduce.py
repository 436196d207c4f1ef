import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels


def test_ties_share_the_gradient():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    g = mg.grad(lambda x: (x.max(axis=1) * np.array([2.0, 3.0])).sum())(x)
    assert g.tolist() == [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert mg.grad(lambda x: x.min())(np.zeros(4)).tolist() == [0.25] * 4


def test_mean():
    x = mg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    assert mg.mean(x).item() == 2.5
    assert mg.mean(x, axis=0).data.tolist() == [1.5, 2.5, 3.5]
    assert mg.mean(x, axis=-1, keepdims=True).data.tolist() == [[1.0], [4.0]]
    assert mg.mean(x, axis=(0, 1)).item() == 2.5
    x.mean(axis=0).backward(np.array([2.0, 4.0, 6.0]))
    assert x.grad.data.tolist() == [[1.0, 2.0, 3.0]] * 2
    assert type(mg.mean(x.data)) is not mg.Tensor


def test_softmax_and_its_kin_are_safe_from_overflow():
    x = np.array([[1000.0, 1000.0], [-1000.0, 0.0], [0.0, -np.inf]])
    assert mg.softmax(x)[1:].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert mg.logsumexp(x, axis=1)[1:].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(mg.logsumexp(x, axis=1)[0], 1000 + np.log(2), rtol=1e-15)
    assert mg.log_softmax(x)[1].tolist() == [-1000.0, 0.0]
    assert mg.logsumexp(np.full(3, -np.inf)) == -np.inf
    assert mg.logsumexp(np.array([np.inf, 0.0])) == np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_shift_of_all_logits_changes_no_bit(dtype):
    x = np.array([[3.0, 1.0, -2.0], [0.0, 0.0, 5.0]], dtype)
    for f in (mg.softmax, mg.log_softmax):
        assert (f(x + dtype(1000)) == f(x)).all()


@given(st.integers(1, 40), st.integers(1, 5), st.sampled_from([np.float32, np.float64]))
def test_the_order_of_a_sum_does_not_depend_on_the_memory_layout(rows, columns, dtype):
    rng = np.random.default_rng(rows * columns)
    x = rng.normal(size=(rows, columns)).astype(dtype)
    layouts = [np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x[::-1].copy()[::-1]]
    for axis in (None, 0, 1):
        expected = kernels.sum(x, axis)
        for other in layouts:
            assert (kernels.sum(other, axis) == expected).all()


@pytest.mark.parametrize("axis", [2, -3, (0, 2)])
def test_an_axis_that_is_not_there(axis):
    for f in (mg.sum, mg.max, mg.logsumexp):
        with pytest.raises(mg.ShapeError, match="axis"):
            f(mg.tensor(np.ones((2, 3))), axis=axis)


def test_the_extreme_of_nothing_is_refused():
    with pytest.raises(mg.ShapeError, match="max"):
        mg.tensor(np.ones((0, 3))).max(axis=0)
    assert mg.tensor(np.ones((0, 3))).max(axis=1).shape == (0,)
