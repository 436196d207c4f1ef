import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import Dropout, Embedding, Linear


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


# --- Dropout -------------------------------------------------------------------------------------


def spread(*shape, dtype=np.float64):
    return np.random.default_rng(5).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_scales_what_it_keeps_and_keeps_its_share(dtype, p):
    x = spread(100, 100, dtype=dtype)
    y = Dropout(p, rng=0)(x)
    assert y.dtype == dtype
    kept = y != 0
    assert (y[kept] == (x * dtype(1 / (1 - p)))[kept]).all()
    # a binomial number lies within 6 standard deviations but for once in 10^8
    assert abs(kept.sum() - x.size * (1 - p)) <= 6 * np.sqrt(x.size * p * (1 - p))
    rows = kept.sum(axis=0)  # each element by itself: no row and no column as a whole
    assert rows.max() < 100 or p < 0.5
    assert rows.min() > 0 or p > 0.5


def test_the_ends_of_dropout():
    x = spread(20)
    assert not Dropout(1, rng=0)(x).any()
    none = Dropout(0.0, rng=0)
    assert none(x) is x
    assert none.rng.random() == np.random.default_rng(0).random()  # nothing was drawn


def test_dropout_in_evaluation_is_the_identity():
    drop, x = Dropout(0.5, rng=0), mg.tensor(spread(4), requires_grad=True)
    assert drop(x) is not x
    assert drop.eval()(x) is x
    drop.train()
    assert (drop(x).data != x.data).all()


def test_masks_come_from_the_seed_one_after_the_other():
    x = spread(50)
    one, two, other = Dropout(0.5, rng=7), Dropout(0.5, rng=7), Dropout(0.5, rng=8)
    first, second = one(x), one(x)
    assert (two(x) == first).all() and (two(x) == second).all()
    assert (first != second).any() and (other(x) != first).any()
    single = Dropout(0.5, rng=7)(x.astype(np.float32))
    assert ((single != 0) == (first != 0)).all()  # the same in either dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_goes_through_the_mask_of_its_call(dtype):
    drop, x = Dropout(0.25, rng=0), mg.tensor(np.ones((8, 9), dtype), requires_grad=True)
    y = drop(x)
    drop(x)  # another mask in between
    g = spread(8, 9, dtype=dtype)
    y.backward(g)
    assert (x.grad.data == g * y.data).all() and (y.data == 0).any()


def test_the_second_order_through_a_mask():
    drop, x = Dropout(0.5, rng=0), mg.tensor(spread(30), requires_grad=True)
    mask = Dropout(0.5, rng=0)(np.ones(30))
    first = mg.grad(lambda x: (drop(x) ** 3).sum())
    assert (first(x.data) == 3 * (x.data * mask) ** 2 * mask).all()
    drop.rng = np.random.default_rng(0)
    second = mg.grad(lambda x: first(x).sum())(x.data)
    np.testing.assert_allclose(second, 6 * x.data * mask**3, rtol=1e-15)


def test_a_checkpoint_does_not_draw_another_mask_unseen():
    drop, x = Dropout(0.5, rng=0), mg.tensor(spread(30), requires_grad=True)
    y = mg.checkpoint(drop)(x)
    with pytest.raises(mg.GradientError, match="checkpoint"):
        y.sum().backward()


@pytest.mark.parametrize("p", [-0.1, 1.5, np.nan, "0.5", None, True, 1j, np.full(2, 0.5)])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(mg.UsageError) as caught:
        Dropout(p)
    assert str(caught.value).split("\n") == [
        "Dropout: p",
        f"  expected a probability from 0 to 1, got {p!r}",
        "  remedy: try 0.5, or 0.2 for inputs",
    ]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("x", [[1, 2], np.ones(2, int), "text", None, np.array([None])])
def test_dropout_refuses_what_cannot_be_scaled(x, train):
    with pytest.raises(mg.DtypeError, match=r"Dropout: x.*\n  expected .*\n  remedy: "):
        Dropout(0.5, rng=0).train(train)(x)
