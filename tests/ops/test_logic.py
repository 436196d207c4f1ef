"""Constants of the point: values and dtypes as NumPy's, and no gradient, whatever depends on it."""

import operator

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.graph import Tensor

COMPARISONS = {
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "equal": operator.eq,
    "not_equal": operator.ne,
}
BINARY = [*COMPARISONS, "logical_and", "logical_or", "logical_xor", "floor_divide"]
TESTS = ["logical_not", "isnan", "isinf", "isfinite"]
ROUNDING = ["sign", "floor", "ceil", "trunc", "round"]

numbers = st.sampled_from([-2.5, -1.0, -0.0, 0.0, 0.5, 1.0, 1.5, 2.0]) | st.sampled_from(
    [np.nan, np.inf, -np.inf]
)


def assert_as_numpy(name, *args):
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*args)
        plain = getattr(mg, name)(*args)
        tensors = [mg.tensor(a, requires_grad=a.dtype.kind == "f") for a in args]
        out = getattr(mg, name)(*tensors)
    assert not isinstance(plain, Tensor) and isinstance(out, Tensor)
    assert not out.requires_grad
    for got in (np.asarray(plain), out.data):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))  # -0.0 as well


@pytest.mark.parametrize("name", BINARY)
@given(data=st.data())
def test_binary_functions_are_numpys(name, data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    args = [data.draw(hnp.arrays(dtype, s, elements=numbers)) for s in shapes.input_shapes]
    assert_as_numpy(name, *args)


@pytest.mark.parametrize("name", TESTS + ROUNDING)
@given(data=st.data())
def test_unary_functions_are_numpys(name, data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shape = data.draw(hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3))
    assert_as_numpy(name, data.draw(hnp.arrays(dtype, shape, elements=numbers)))


@pytest.mark.parametrize("name", COMPARISONS)
def test_operators_and_functions_are_the_same(name):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
    expected = COMPARISONS[name](a, b).tolist()
    for x, y in [(mg.tensor(a), mg.tensor(b)), (mg.tensor(a), b), (a, mg.tensor(b))]:
        assert getattr(mg, name)(x, y).data.tolist() == expected
        assert COMPARISONS[name](x, y).data.tolist() == expected


def test_logic_of_booleans_and_integers():
    t = mg.tensor([True, False, True])
    assert mg.logical_and(t, np.array([1, 1, 0])).data.tolist() == [True, False, False]
    assert mg.logical_not(t).data.tolist() == [False, True, False]
    assert mg.isfinite(mg.tensor([1, 2])).data.tolist() == [True, True]


@pytest.mark.parametrize("name", ROUNDING)
def test_a_gradient_beside_a_constant_of_the_point_is_untouched(name):
    """d/dx (x - floor(x)) = 1: nothing comes back through the constant."""
    x = mg.tensor([1.75, -0.25], requires_grad=True)
    (x - getattr(mg, name)(x)).sum().backward()
    assert x.grad.data.tolist() == [1.0, 1.0]
    with pytest.raises(mg.GradientError):
        getattr(mg, name)(x).sum().backward()


def test_floor_divide_agrees_with_the_remainder():
    x, y = np.array([1.0, -7.0, 7.0]), np.array([0.1, 2.0, -2.0])
    assert mg.floor_divide(x, y).tolist() == [9.0, -4.0, -4.0]  # and not 10, which is 1 / 0.1
    np.testing.assert_allclose(mg.floor_divide(x, y) * y + mg.remainder(x, y), x, rtol=1e-15)


@given(st.integers(-3, 3), hnp.arrays(np.float64, 4, elements=st.floats(-1e6, 1e6)))
def test_round_is_numpys(decimals, x):
    expected = np.round(x, decimals)
    for n in (decimals, np.int64(decimals)):
        assert mg.round(x, n).tolist() == expected.tolist()
        assert mg.round(mg.tensor(x), decimals=n).data.tolist() == expected.tolist()


def test_round_takes_halves_to_even():
    assert mg.round(np.array([0.5, 1.5, 2.5, -0.5])).tolist() == [0.0, 2.0, 2.0, -0.0]
    assert mg.round(np.array([25, 35]), -1).tolist() == [20, 40]


@pytest.mark.parametrize("decimals", [1.5, "1", None])
def test_round_refuses_decimals_that_are_no_integer(decimals):
    for x in (np.ones(2), mg.tensor([1.0])):
        with pytest.raises(mg.UsageError) as error:
            mg.round(x, decimals)
        assert str(error.value) == (
            f"round: decimals\n  expected an integer, got {decimals!r}\n  remedy: pass the number "
            "of places behind the point, negative for tens and hundreds"
        )


def test_shapes_that_do_not_broadcast_are_named():
    for name in BINARY:
        with pytest.raises(mg.ShapeError, match=rf"^{name}: .*\n.*\(2,\), \(3,\)"):
            getattr(mg, name)(mg.tensor([1.0, 2.0]), np.ones(3))
