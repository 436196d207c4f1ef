import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad.graph import registry

shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
whole = st.integers(-9, 9)


@given(st.data(), shapes)
def test_put_is_the_transpose_of_getitem(data, shape):
    """<x[i], g> = <x, put(g)>, exactly for integers, whatever the index."""
    index = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True)
        | hnp.integer_array_indices(shape)
        | hnp.arrays(bool, shape)
    )
    x = data.draw(hnp.arrays(np.float64, shape, elements=whole))
    g = data.draw(hnp.arrays(np.float64, np.shape(x[index]), elements=whole))
    put = registry["put"](g, index=index, shape=shape)
    assert put.shape == shape
    assert np.sum(x[index] * g) == np.sum(x * put)


@given(st.data(), shapes)
def test_moving_axes_and_back(data, shape):
    n = len(shape)
    x = mg.tensor(np.arange(np.prod(shape), dtype=float).reshape(shape))
    axis = st.integers(-n, n - 1)
    a, b = data.draw(axis), data.draw(axis)
    order = data.draw(st.permutations(range(n)))
    assert (mg.swapaxes(x, a, b).data == np.swapaxes(x.data, a, b)).all()
    assert (mg.moveaxis(x, a, b).data == np.moveaxis(x.data, a, b)).all()
    assert (mg.transpose(x, axes=tuple(order)).data == np.transpose(x.data, order)).all()
    new = data.draw(st.integers(-n - 1, n))
    assert mg.expand_dims(x, new).shape == np.expand_dims(x.data, new).shape
    assert (mg.squeeze(mg.expand_dims(x, new), new).data == x.data).all()
    assert mg.squeeze(x).shape == np.squeeze(x.data).shape


@given(st.integers(0, 5), st.integers(1, 4), st.data())
def test_flip_rows_is_its_own_inverse(steps, rows, data):
    lengths = np.array(data.draw(st.lists(st.integers(0, steps), min_size=rows, max_size=rows)))
    x = np.arange(steps * rows * 2.0).reshape(steps, rows, 2)
    for n in (None, lengths):
        once = mg.flip_rows(x, lengths=n)
        assert (mg.flip_rows(once, lengths=n) == x).all()
        assert (np.sort(once, axis=0) == np.sort(x, axis=0)).all()
    assert all((once[lengths[n] :, n] == x[lengths[n] :, n]).all() for n in range(rows))


def test_joining_tensors_and_arrays():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = mg.concatenate([np.zeros(1), x, x[:1]])
    assert y.data.tolist() == [0.0, 1.0, 2.0, 1.0]
    (y * np.array([9.0, 1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.data.tolist() == [101.0, 10.0]
    z = mg.stack([x, np.zeros(2)], axis=1)
    assert z.data.tolist() == [[1.0, 0.0], [2.0, 0.0]]


def test_unstacking_costs_one_node():
    x = mg.tensor(np.ones((50, 2)), requires_grad=True)
    rows = mg.unstack(x)
    assert len({row.node for row in rows}) == 1
    assert [row.index for row in rows] == list(range(50))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.reshape(4, 2),
        lambda x: x.transpose(0, 0),
        lambda x: mg.split(x, sections=2),
        lambda x: mg.concatenate([x, np.ones((2, 3))]),
        lambda x: mg.stack([x, np.ones((2, 3))]),
        lambda x: mg.broadcast_to(x, shape=(3, 3)),
        lambda x: mg.unstack(x, axis=2),
    ],
)
def test_shapes_that_do_not_fit(call):
    with pytest.raises(mg.ShapeError, match=r"got shapes \(3, 2\)"):
        call(mg.tensor(np.ones((3, 2))))
