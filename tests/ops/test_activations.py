"""Activation functions at kinks and at large arguments; logaddexp between infinities."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.graph import registry

NAN, INF = math.nan, math.inf


def gradients_at(f, *points, cotangent=None):
    leaves = [mg.tensor(np.array(p, float), requires_grad=True) for p in points]
    out = f(*leaves)
    out.backward(np.ones(out.shape) if cotangent is None else np.array(cotangent, float))
    return [t.grad.data.tolist() for t in leaves]


def assert_equal(got, expected):
    np.testing.assert_array_equal(np.array(got), np.array(expected))


# --- kinks: PyTorch's conventions ----------------------------------------------------------------

X = [-1.0, -0.0, 0.0, 2.0, NAN]


@pytest.mark.parametrize(
    ("f", "value", "slope"),
    [
        (mg.relu, [0.0, 0.0, 0.0, 2.0, NAN], [0.0, 0.0, 0.0, 1.0, 1.0]),
        (mg.leaky_relu, [-0.01, 0.0, 0.0, 2.0, NAN], [0.01, 0.01, 0.01, 1.0, 0.01]),
        (lambda x: mg.leaky_relu(x, 3), [-3.0, 0.0, 0.0, 2.0, NAN], [3.0, 3.0, 3.0, 1.0, 3.0]),
        (lambda x: mg.leaky_relu(x, 0), [0.0, 0.0, 0.0, 2.0, NAN], [0.0, 0.0, 0.0, 1.0, 0.0]),
        (mg.elu, [math.expm1(-1), 0.0, 0.0, 2.0, NAN], [math.exp(-1), 1.0, 1.0, 1.0, 1.0]),
        (
            lambda x: mg.elu(x, alpha=2),
            [2 * math.expm1(-1), 0.0, 0.0, 2.0, NAN],
            [2 * math.exp(-1), 2.0, 2.0, 1.0, 1.0],
        ),
    ],
    ids=["relu", "leaky_relu", "leaky_relu 3", "leaky_relu 0", "elu", "elu 2"],
)
def test_kinks(f, value, slope):
    np.testing.assert_allclose(f(np.array(X)), value, rtol=1e-15)
    np.testing.assert_allclose(gradients_at(f, X)[0], slope, rtol=4e-16)


def test_relu_passes_nothing_on_where_it_is_flat():
    assert gradients_at(mg.relu, [-1.0, 0.0, 1.0], cotangent=[NAN, INF, 3.0]) == [[0.0, 0.0, 3.0]]


def test_elu_keeps_its_digits_near_zero():
    assert mg.elu(np.array(-1e-12)) == np.expm1(-1e-12)


def test_second_derivatives_at_the_kink():
    second = mg.grad(mg.grad(lambda x: mg.elu(x, 2.0) + 0 * mg.exp(x)))
    assert [float(second(np.array(x))) for x in (0.0, 1.0)] == [2.0, 0.0]


# --- large arguments -----------------------------------------------------------------------------

FUNCTIONS = {
    "sigmoid": (mg.sigmoid, [0, 1], [0, 0]),
    "softplus": (mg.softplus, [0, 1e4], [0, 1]),
    "relu": (mg.relu, [0, 1e4], [0, 1]),
    "leaky_relu": (mg.leaky_relu, [-100, 1e4], [0.01, 1]),
    "elu": (mg.elu, [-1, 1e4], [0, 1]),
    "silu": (mg.silu, [0, 1e4], [0, 1]),
    "gelu": (mg.gelu, [0, 1e4], [0, 1]),
    "gelu_tanh": (lambda x: mg.gelu(x, approximate="tanh"), [0, 1e4], [0, 1]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_large_arguments_stay_finite_to_the_second_order(name):
    f, value, slope = FUNCTIONS[name]
    big = np.array([-1e4, 1e4])
    assert f(big).tolist() == value
    assert gradients_at(f, big) == [slope]
    x = mg.tensor(big, requires_grad=True)
    (mg.grad(lambda x: f(x).sum())(x) + 0 * x).sum().backward()
    assert (x.grad.data == 0).all()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize(("dtype", "huge"), [(np.float32, 1e30), (np.float64, 1e200)])
def test_gelu_does_not_overflow_on_the_way(approximate, dtype, huge):
    x = mg.tensor(np.array([-huge, huge], dtype), requires_grad=True)
    y = mg.gelu(x, approximate)
    assert (y.data == np.maximum(x.data, 0)).all() and y.dtype == dtype
    y.sum().backward()
    assert x.grad.data.tolist() == [0.0, 1.0]
    infinite = mg.tensor([INF], requires_grad=True)
    assert mg.gelu(infinite, approximate).item() == INF
    assert gradients_at(lambda x: mg.gelu(x, approximate), [INF]) == [[1.0]]


# --- against mpmath ------------------------------------------------------------------------------

EXACT = {
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "gelu_tanh": lambda x: (
        x * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + x**3 * 44715 / 10**6))) / 2
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_gradients_are_right_to_a_few_ulp_of_the_largest(name):
    f = FUNCTIONS[name][0]
    xs = np.linspace(-6, 6, 97)
    with mpmath.workdps(40):
        points = [mpmath.mpf(x) for x in xs]
        value = [float(EXACT[name](x)) for x in points]
        slope = [float(mpmath.diff(EXACT[name], x)) for x in points]
    # The probability is rounded at size 1, and multiplied by x.
    np.testing.assert_allclose(f(xs), value, rtol=0, atol=6 * 4 * np.finfo(float).eps)
    np.testing.assert_allclose(gradients_at(f, xs)[0], slope, rtol=0, atol=6 * 4 * 2.3e-16)


# --- logaddexp -----------------------------------------------------------------------------------


def test_logaddexp_between_infinities():
    x = [-INF, INF, -INF, INF, 0.0, NAN, -INF]
    y = [-INF, INF, 0.0, 0.0, INF, 0.0, INF]
    with np.errstate(invalid="ignore"):  # NumPy's warns of NaN
        expected = np.logaddexp(x, y)
    assert_equal(mg.logaddexp(np.array(x), np.array(y)), expected)
    to_x, to_y = gradients_at(mg.logaddexp, x, y)
    assert_equal(to_x, [0.5, 0.5, 0.0, 1.0, 0.0, NAN, 0.0])
    assert_equal(to_y, [0.5, 0.5, 1.0, 0.0, 1.0, NAN, 1.0])


def test_logaddexp_of_equal_numbers_has_a_second_derivative():
    x = mg.tensor([0.7], requires_grad=True)
    mg.logaddexp(x, x.detach()).sum().backward(create_graph=True)
    first, x.grad = x.grad, None
    first.sum().backward()
    assert (first.data, x.grad.data) == (0.5, 0.25)


finite = st.floats(-1e300, 1e300)


@given(finite, finite)
def test_logaddexp_is_numpys(x, y):
    got, expected = mg.logaddexp(np.array(x), np.array(y)), np.logaddexp(x, y)
    # Both add to the larger a number of at most log 2, each right to 2 ulp.
    assert abs(got - expected) <= 4 * np.spacing(max(abs(expected), math.log(2)))
    to_x, to_y = gradients_at(mg.logaddexp, [x], [y])
    assert abs(to_x[0] + to_y[0] - 1) <= 4 * np.finfo(float).eps
    assert mg.logaddexp(np.array(y), np.array(x)) == got


def test_softplus_is_logaddexp_with_zero():
    x = np.linspace(-40, 40, 801)
    assert mg.logaddexp(x, 0).tolist() == (np.maximum(x, 0) + mg.softplus(-np.abs(x))).tolist()
    np.testing.assert_allclose(mg.logaddexp(x, 0), mg.softplus(x), rtol=1e-15)


# --- memory, and errors --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_activation_is_one_node(name):
    x = mg.tensor([1.0], requires_grad=True)
    y = FUNCTIONS[name][0](x)
    assert y.node.op is registry[name] and y.node.args == (x,)


@pytest.mark.parametrize(
    ("call", "what", "expected", "remedy"),
    [
        (
            lambda x: mg.gelu(x, approximate="sigmoid"),
            "gelu: approximate",
            "expected 'none' or 'tanh', got 'sigmoid'",
            "leave it out for the exact function",
        ),
        (
            lambda x: mg.gelu(x, None),
            "gelu: approximate",
            "expected 'none' or 'tanh', got None",
            "leave it out for the exact function",
        ),
        (
            lambda x: mg.leaky_relu(x, mg.tensor(0.1, requires_grad=True)),
            "leaky_relu: negative_slope",
            "expected a number, got Tensor",
            "write the function with mg.where for one that varies or learns",
        ),
        (
            lambda x: mg.elu(x, np.ones(3)),
            "elu: alpha",
            "expected a number, got ndarray",
            "write the function with mg.where for one that varies or learns",
        ),
    ],
)
def test_errors(call, what, expected, remedy):
    for x in (np.ones(3), mg.tensor(np.ones(3))):
        with pytest.raises(mg.UsageError) as error:
            call(x)
        assert str(error.value) == f"{what}\n  {expected}\n  remedy: {remedy}"
