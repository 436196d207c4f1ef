import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import Embedding, Linear


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (0, 3)])
def test_linear(dtype, shape):
    layer = Linear(3, 2, dtype=dtype, rng=0)
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    y = layer(x)
    assert (y.shape, y.dtype) == ((*shape[:-1], 2), dtype)
    expected = x @ layer.weight.data.T + layer.bias.data
    np.testing.assert_allclose(y.data, expected, rtol=8 * np.finfo(dtype).eps, atol=1e-6)
    y.sum().backward()
    rows = x.reshape(-1, 3)
    np.testing.assert_allclose(layer.weight.grad.data, [rows.sum(0)] * 2, rtol=1e-5, atol=1e-6)
    assert layer.bias.grad.data.tolist() == [len(rows)] * 2


def test_linear_without_bias():
    layer = Linear(3, 2, bias=False, rng=0)
    assert list(layer.state_dict()) == ["weight"]
    y = layer(np.ones(3))
    np.testing.assert_allclose(y.data, layer.weight.data.sum(axis=1), rtol=1e-15)


def test_parameters_are_drawn_from_the_seed_within_the_bound():
    one, two, other = Linear(400, 5, rng=7), Linear(400, 5, rng=7), Linear(400, 5, rng=8)
    assert list(one.state_dict()) == ["weight", "bias"]
    for name, a in one.state_dict().items():
        assert (a == two.state_dict()[name]).all()
        assert (a != other.state_dict()[name]).any()
        assert np.abs(a).max() <= 1 / 20
    assert np.abs(one.weight.data).max() > 0.99 / 20
    rng = np.random.default_rng(7)
    first, second = Linear(3, 3, rng=rng), Linear(3, 3, rng=rng)
    assert (first.weight.data != second.weight.data).all()  # a generator moves on


def test_linear_refuses_another_number_of_features():
    with pytest.raises(mg.ShapeError, match=r"got \(5, 4\) and \(2, 3\)"):
        Linear(3, 2, rng=0)(np.ones((5, 4)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embedding_with_repeated_ids(dtype):
    table = Embedding(5, 3, dtype=dtype, rng=0)
    ids = np.array([[1, 4, 1], [1, 0, 4]])
    y = table(ids)
    assert (y.shape, y.dtype) == ((2, 3, 3), dtype)
    assert (y.data == table.weight.data[ids]).all()
    g = np.arange(18, dtype=dtype).reshape(2, 3, 3)
    y.backward(g)
    expected = np.zeros((5, 3))
    for i, row in zip(ids.reshape(-1), g.reshape(-1, 3), strict=True):
        expected[i] += row
    assert table.weight.grad.dtype == dtype
    assert table.weight.grad.data.tolist() == expected.tolist()


def test_one_table_looked_up_twice():
    table = Embedding(4, 2, rng=0)
    (table([1, 1]) * 2 + table([1, 2]) * 3).sum().backward()
    assert table.weight.grad.data.tolist() == [[0.0] * 2, [7.0] * 2, [3.0] * 2, [0.0] * 2]


def test_the_second_order_through_a_lookup():
    w = np.arange(1.0, 7.0).reshape(3, 2)
    ids = np.array([2, 0, 2])
    first = mg.grad(lambda w: (mg.getitem(w, index=ids) ** 3).sum())
    second = mg.grad(lambda w: first(w).sum())
    counts = np.array([[1.0], [0.0], [2.0]])
    assert (first(w) == 3 * w**2 * counts).all()
    assert (second(w) == 6 * w * counts).all()


@pytest.mark.parametrize("ids", [np.zeros(0, int), np.zeros((2, 0), int), np.uint8(3), [3], 3])
def test_ids_of_any_shape_and_none_at_all(ids):
    table = Embedding(5, 3, rng=0)
    y = table(ids)
    assert y.shape == (*np.shape(ids), 3)
    y.sum().backward()
    assert table.weight.grad.data.sum() == 3 * np.size(ids)
    assert table(mg.tensor([1, 2])).shape == (2, 3)


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ([5], mg.ShapeError),
        ([-1], mg.ShapeError),
        ([1.0], mg.DtypeError),
        ([True], mg.DtypeError),
    ],
)
def test_ids_that_do_not_fit(ids, error):
    with pytest.raises(error, match="Embedding: ids"):
        Embedding(5, 3, rng=0)(ids)
