import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

RNG = np.random.default_rng(0)
W, X = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 3))


def loss(w, x):
    h = mg.tanh(mg.matmul(x, mg.transpose(w)))
    return (mg.softmax(h) * h).sum() + (w * w).mean()


# --- the same as backward ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_as_backward(dtype):
    w, x = (mg.tensor(a.astype(dtype), requires_grad=True) for a in (W, X))
    y = loss(w, x)
    y.backward()
    value, (gw, gx) = mg.value_and_grad(loss, argnums=(0, 1))(w.data, x.data)
    assert type(gw) is np.ndarray
    assert (value == y.data).all()
    assert (gw == w.grad.data).all()
    assert (gx == x.grad.data).all()
    assert (mg.grad(loss, argnums=1)(w.data, x.data) == gx).all()
    again, pull = mg.vjp(loss, w.data, x.data)
    assert (again == value).all()
    for _ in range(2):
        for pulled, g in zip(pull(np.ones((), dtype)), (gw, gx), strict=True):
            assert (pulled == g).all()
            assert pulled.dtype == dtype


def test_arguments_are_left_alone():
    w, x = mg.tensor(W, requires_grad=True), X.copy()
    x.flags.writeable = False
    mg.grad(loss, argnums=(0, 1))(w, x)
    mg.vjp(loss, w, x)
    assert w.grad is None
    assert (w.data == W).all()


def test_recording_is_on_inside_whatever_the_switch_outside():
    with mg.no_grad():
        assert float(mg.grad(lambda x: x * x)(3.0)) == 6.0
        assert not mg.is_grad_enabled()


def test_results_belong_to_the_caller():
    """They may be written to, and share no memory with each other or with what was passed."""
    x, y, seed = np.ones(3), np.ones(3), np.ones(3)
    _, pull = mg.vjp(lambda a, b: a + b, x, y)
    results = [*pull(seed), mg.grad(lambda a: a.sum())(x)]
    given_arrays = [x, y, seed]
    for i, g in enumerate(results):
        assert g.flags.writeable
        assert not any(np.shares_memory(g, other) for other in given_arrays + results[:i])


# --- nesting -------------------------------------------------------------------------------------


def derivatives(f, x, order):
    found = []
    for _ in range(order):
        f = mg.grad(f)
        found.append(float(f(x)))
    return found


@given(st.floats(-2, 2))
def test_a_power_to_order_four(x):
    f = lambda x: x * x * x * x * x  # noqa: E731
    expected = [5 * x**4, 20 * x**3, 60 * x**2, 120 * x]
    np.testing.assert_allclose(derivatives(f, x, 4), expected, rtol=1e-13, atol=1e-300)
    assert derivatives(lambda x: x**5, 3.0, 4) == [405.0, 540.0, 540.0, 360.0]


@given(st.floats(-3, 3))
def test_tanh_to_order_four(x):
    t = np.tanh(x)
    s = 1 - t * t
    expected = [s, -2 * t * s, s * (6 * t * t - 2), s * t * (16 - 24 * t * t)]
    np.testing.assert_allclose(derivatives(mg.tanh, x, 4), expected, rtol=1e-10, atol=1e-13)


@given(st.floats(-3, 3))
def test_exp_and_log_to_order_four(x):
    e = np.exp(x)
    np.testing.assert_allclose(derivatives(mg.exp, x, 4), [e] * 4, rtol=1e-13)
    expected = [1 / e, -1 / e**2, 2 / e**3, -6 / e**4]
    np.testing.assert_allclose(derivatives(mg.log, e, 4), expected, rtol=1e-13)


@given(st.floats(-3, 3))
def test_sigmoid_softplus_and_sqrt_to_order_three(x):
    s = 1 / (1 + np.exp(-x))
    slopes = [s * (1 - s), s * (1 - s) * (1 - 2 * s), s * (1 - s) * (1 - 6 * s + 6 * s * s)]
    np.testing.assert_allclose(derivatives(mg.sigmoid, x, 3), slopes, rtol=1e-10, atol=1e-13)
    expected = [s, *slopes[:2]]
    np.testing.assert_allclose(derivatives(mg.softplus, x, 3), expected, rtol=1e-10, atol=1e-13)
    r = np.exp(x / 2)
    expected = [1 / (2 * r), -1 / (4 * r**3), 3 / (8 * r**5)]
    np.testing.assert_allclose(derivatives(mg.sqrt, r * r, 3), expected, rtol=1e-12)


def test_mixed_derivatives():
    f = lambda x, y: x * x * y * y * y  # noqa: E731
    fx = mg.grad(f, argnums=0)
    fxy = mg.grad(fx, argnums=1)
    fxyy = mg.grad(fxy, argnums=1)
    fxyyx = mg.grad(fxyy, argnums=0)
    assert [float(d(2.0, 3.0)) for d in (fx, fxy, fxyy, fxyyx)] == [108.0, 108.0, 72.0, 36.0]


def test_a_gradient_inside_a_function_that_is_differentiated():
    """d/dy of y d/dx (x y) is 2 y: the inner result keeps its dependence on y."""
    f = lambda y: y * mg.grad(lambda x: x * y)(2.0)  # noqa: E731
    assert float(mg.grad(f)(3.0)) == 6.0


def test_an_argument_is_apart_from_the_same_tensor_used_beside_it():
    """d/dz (z x) at z = x is x, whose derivative is 1; z and x must not be taken for one."""
    f = lambda x: mg.grad(lambda z: z * x)(x)  # noqa: E731
    assert float(mg.grad(f)(3.0)) == 1.0
    t = mg.tensor(3.0, requires_grad=True)
    assert float(f(t).data) == 3.0


def test_a_hessian_vector_product_from_two_gradients():
    A = np.array([[2.0, 1.0], [1.0, 3.0]])
    v = np.array([1.0, 10.0])
    slope = mg.grad(lambda x: (x * mg.matmul(A, x) * x.sum()).sum() / 2)
    hvp = mg.grad(lambda x: (slope(x) * v).sum())
    x = np.array([1.0, 2.0])
    gradient = lambda x: A @ x * x.sum() + (x @ A @ x) / 2  # noqa: E731
    h = 0.5  # a central difference is exact for a quadratic
    expected = (gradient(x + h * v) - gradient(x - h * v)) / (2 * h)
    np.testing.assert_allclose(hvp(x), expected, rtol=1e-14)


def test_the_vjp_can_be_differentiated():
    x, g = np.array([2.0, 3.0]), np.array([1.0, 10.0])

    def pulled(x):
        _, pull = mg.vjp(lambda x: x * x * x, x)
        return pull(g)[0].sum()

    assert mg.grad(pulled)(x).tolist() == (6 * x * g).tolist()

    def in_the_cotangent(g):
        _, pull = mg.vjp(lambda x: x * x * x, x)
        return (pull(g)[0] * x).sum()

    assert mg.grad(in_the_cotangent)(g).tolist() == (3 * x**3).tolist()


def test_tensors_in_tensors_out():
    x = mg.tensor([2.0, 3.0], requires_grad=True)
    g = mg.grad(lambda x: (x * x * x).sum())(x)
    assert isinstance(g, mg.Tensor)
    g.sum().backward()
    assert x.grad.data.tolist() == [12.0, 18.0]


# --- arguments -----------------------------------------------------------------------------------


def test_argnums():
    f = lambda x, y, z: x * y + z  # noqa: E731
    assert float(mg.grad(f)(2.0, 3.0, 4.0)) == 3.0
    assert float(mg.grad(f, argnums=1)(2.0, 3.0, 4.0)) == 2.0
    assert [float(g) for g in mg.grad(f, argnums=(2, 0))(2.0, 3.0, 4.0)] == [1.0, 3.0]
    assert type(mg.grad(f, argnums=(0,))(2.0, 3.0, 4.0)) is tuple
    assert float(mg.grad(lambda x, *, k: x * k)(2.0, k=7.0)) == 7.0


def test_aux():
    f = lambda x: ((x * x).sum(), ("note", x * 2))  # noqa: E731
    g, (note, twice) = mg.grad(f, has_aux=True)(np.array([1.0, 2.0]))
    assert (g.tolist(), note, twice.tolist()) == ([2.0, 4.0], "note", [2.0, 4.0])
    assert type(twice) is np.ndarray
    (value, aux), g = mg.value_and_grad(f, has_aux=True)(np.array([1.0, 2.0]))
    assert (float(value), aux[0], g.tolist()) == (5.0, "note", [2.0, 4.0])


def test_vjp_of_several_outputs():
    (s, d), pull = mg.vjp(lambda x, y, z: (x + y, x - y), np.ones(2), np.zeros(2), np.ones(3))
    assert (s.tolist(), d.tolist()) == ([1.0, 1.0], [1.0, 1.0])
    gx, gy, gz = pull((np.array([1.0, 2.0]), np.array([10.0, 20.0])))
    assert (gx.tolist(), gy.tolist()) == ([11.0, 22.0], [-9.0, -18.0])
    assert gz.tolist() == [0.0, 0.0, 0.0]  # no dependence


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: mg.grad(lambda x: 3.0)(1.0), "a result that depends on none of its arguments"),
        (lambda: mg.grad(lambda x: x.detach() * 2)(1.0), "depends on none of its arguments"),
        (lambda: mg.grad(lambda x, y: x * 2, argnums=(0, 1))(1.0, 2.0), "respect to argument 1"),
        (lambda: mg.grad(lambda x: x * 2)(np.ones(3)), "several elements"),
    ],
)
def test_what_has_no_gradient_is_refused(call, what):
    with pytest.raises(mg.GradientError, match=what):
        call()


def test_integers_are_no_point_to_differentiate_at():
    with pytest.raises(mg.DtypeError, match="int64"):
        mg.grad(lambda x: x * x)(np.int64(2))


def test_a_cotangent_must_fit():
    _, pull = mg.vjp(lambda x: x * x, np.ones(2))
    with pytest.raises(mg.ShapeError):
        pull(np.ones(3))


def test_a_result_with_several_elements_is_refused_with_the_way_out():
    with pytest.raises(mg.GradientError, match=r"several elements\n.*\(2,\)\n.*vjp"):
        mg.grad(lambda x: x * x)(np.ones(2))
