"""One function at one point: PyTorch's and JAX's names, on minigrad's laws."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import UsageError
from minigrad.testing import (
    GradcheckError,
    InconclusiveError,
    check_grads,
    gradcheck,
    gradgradcheck,
)

X, Y = np.linspace(-1.5, 2, 6).reshape(2, 3), np.linspace(0.5, 2, 3)


def pair(vjp):
    return lambda x, y: x * y, vjp


RIGHT = pair(lambda g, out, x, y: (g * y, (g * x).sum(0)))


@pytest.mark.parametrize(
    ("f", "inputs"),
    [
        (mg.tanh, X),
        (mg.multiply, (X, Y)),
        (lambda x: mg.split(x, 3, axis=1), (X,)),
        (lambda d: mg.tanh(d["x"]) @ d["w"], ({"x": X, "w": Y},)),
        (lambda x, k: x**k, (X, 3)),
        (lambda x: (x * x).sum(), mg.tensor(X, requires_grad=True)),
        (RIGHT, (X, Y)),
        (mg.tanh, X.astype(np.float32)),
        (mg.relu, np.array([-1.0, 0.0, 2.0])),
    ],
)
def test_what_is_right_passes(f, inputs):
    assert gradcheck(f, inputs) is True


@pytest.mark.parametrize(
    ("vjp", "law", "cause"),
    [
        (lambda g, out, x, y: (g * y, 2 * (g * x).sum(0)), "P7", "factor"),
        (lambda g, out, x, y: (g * y, g * x), "P2", "missing reduction"),
        (lambda g, out, x, y: (-g * y, (g * x).sum(0)), "P7", "sign"),
        (lambda g, out, x, y: (g * y * (1 + 1e-9), (g * x).sum(0)), "P7", ""),
    ],
)
def test_what_is_wrong_is_named(vjp, law, cause):
    with pytest.raises(GradcheckError, match=rf"{law} does not hold") as caught:
        gradcheck(pair(vjp), (X, Y), name="product")
    text = str(caught.value)
    assert text.startswith("product: the gradient of ") and cause in text
    assert max(map(len, text.splitlines())) <= 100
    assert gradcheck(pair(vjp), (X, Y), raise_exception=False) is False


def test_only_inputs_that_require_a_gradient_are_checked():
    wrong_in_y = pair(lambda g, out, x, y: (g * y, 0 * (g * x).sum(0)))
    f = mg.Op("half_right", wrong_in_y[0], vjps=[lambda g, out, x, y: g * y, lambda g, *_: 0 * g])
    x, y = mg.tensor(X, requires_grad=True), mg.tensor(Y)
    assert gradcheck(f, (x, y))
    assert not gradcheck(f, (X, Y), raise_exception=False)


def test_pytorch_s_keywords():
    tight = pair(lambda g, out, x, y: (g * y * (1 + 1e-5), (g * x).sum(0)))
    assert not gradcheck(tight, (X, Y), raise_exception=False)
    assert gradcheck(tight, (X, Y), eps=1e-6, atol=1e-3, rtol=1e-3, fast_mode=True, nondet_tol=1)
    with pytest.raises(UsageError, match="there is no vmap"):
        gradcheck(mg.tanh, X, check_batched_grad=True)
    with pytest.raises(UsageError, match="at least one array of float32 or float64"):
        gradcheck(mg.tanh, np.arange(3))
    with pytest.raises(UsageError, match="expected a function, an op, or a pair"):
        gradcheck(3, X)


def constant_slope():
    """tanh whose rule takes the output as a constant: right to the first order alone."""
    return mg.Op("tanh_", np.tanh, vjps=[lambda g, out, x: g * (1 - _data(out) ** 2)])


def _data(out):
    return out.data if isinstance(out, mg.Tensor) else out


def test_second_order():
    assert gradgradcheck(mg.tanh, X)
    assert gradcheck(constant_slope(), X)
    with pytest.raises(GradcheckError, match="P14 does not hold"):
        gradgradcheck(constant_slope(), X)
    with pytest.raises(UsageError, match="got a pair, which has no second order"):
        gradgradcheck(RIGHT, (X, Y))


def test_check_grads_goes_to_any_order():
    check_grads(lambda x, y: mg.sin(x) * y, (X, Y), order=3)
    check_grads(constant_slope(), X, order=1)
    with pytest.raises(GradcheckError):
        check_grads(constant_slope(), X, order=2)
    with pytest.raises(UsageError, match="expected an integer from 1"):
        check_grads(mg.tanh, X, order=0)


def test_what_no_oracle_can_tell_is_neither_right_nor_wrong():
    noise = np.random.default_rng(0)
    rough = (lambda x: x + noise.normal(size=x.shape), lambda g, out, x: (g.copy(),))
    with pytest.raises((InconclusiveError, GradcheckError)):
        gradcheck(rough, X)
