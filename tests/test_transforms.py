import gc
import threading
import tracemalloc
import weakref
from collections import namedtuple
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

RNG = np.random.default_rng(0)
W, X = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 3))


def lines(caught):
    return [line.strip() for line in str(caught.value).splitlines()]


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


# --- where there is no gradient ------------------------------------------------------------------


def test_what_does_not_depend_on_an_argument_has_gradient_zero():
    x = np.array([1.0, 2.0], np.float32)
    for f in (lambda x: mg.tensor(3.0), lambda x: x.detach().sum(), lambda x: mg.sum(0 * x) * 0):
        g = mg.grad(f)(x)
        assert (type(g), g.dtype, g.tolist()) == (np.ndarray, np.float32, [0.0, 0.0])
    first, second = mg.grad(lambda x, y: x * 2, argnums=(0, 1))(1.0, np.float32(2))
    assert (float(first), float(second), second.dtype) == (2.0, 0.0, np.float32)
    assert mg.hessian(lambda x: x.sum())(x).tolist() == [[0.0, 0.0]] * 2
    assert mg.jacobian(lambda x: mg.tensor([1.0, 2.0, 3.0]))(x).shape == (3, 2)
    assert mg.hvp(lambda x: x.sum(), (x,), (x,))[0].tolist() == [0.0, 0.0]
    value, moved = mg.jvp(lambda x: mg.tensor([3.0]), (x,), (x,))
    assert (value.tolist(), moved.tolist()) == ([3.0], [0.0])


def test_derivatives_beyond_the_degree_of_a_polynomial_are_zero():
    f = lambda x: x * x  # noqa: E731
    assert derivatives(f, 3.0, 5) == [6.0, 2.0, 0.0, 0.0, 0.0]
    assert derivatives(lambda x: 4 * x, 3.0, 3) == [4.0, 0.0, 0.0]
    t = mg.tensor(3.0, requires_grad=True)
    assert mg.grad(mg.grad(mg.grad(f)))(t).item() == 0.0


LOST = "compute with the arguments themselves; check for .detach(), .item(), .numpy()"
BESIDE = "return what is no tensor beside the result, with has_aux=True"


@pytest.mark.parametrize(
    ("result", "got", "remedy"),
    [
        (lambda x: 3.0, "float", LOST),
        (lambda x: x.item(), "float", LOST),
        (lambda x: x.detach().numpy(), "float64", LOST),
        (lambda x: np.complex128(1), "complex128", LOST),
        (lambda x: mg.tensor(1), "int64", LOST),
        (lambda x: x > 0, "bool", LOST),
        (lambda x: None, "NoneType", LOST),
        (lambda x: (x, "note"), "str", BESIDE),
        (lambda x: [x, {"n": 1}], "int", BESIDE),
    ],
)
def test_a_result_that_is_no_tensor_of_floats_is_refused(result, got, remedy):
    for name, call in {
        "grad": lambda: mg.grad(result)(1.0),
        "vjp": lambda: mg.vjp(result, 1.0),
        "jvp": lambda: mg.jvp(result, (1.0,), (1.0,)),
        "jacobian": lambda: mg.jacobian(result)(1.0),
    }.items():
        with pytest.raises(mg.GradientError) as caught:
            call()
        assert lines(caught) == [
            f"{name}: the result of the function",
            f"expected tensors of floats, got {got}",
            f"remedy: {remedy}",
        ]


@pytest.mark.parametrize(
    ("argument", "got"),
    [
        (3, "int"),
        (True, "bool"),
        (np.int64(2), "int64"),
        (np.arange(3), "int64"),
        (mg.tensor([1, 2]), "int64"),
        (1j, "complex128"),
        (np.ones(2, np.float16), "float16"),
        (None, "NoneType"),
        ("x", "str"),
    ],
)
def test_an_argument_without_floats_is_refused(argument, got):
    for name, call in {
        "grad: argument 1": lambda: mg.grad(lambda y, x: y, argnums=1)(2.0, argument),
        "vjp: argument 0": lambda: mg.vjp(lambda x: x, argument),
        "jvp: argument 0": lambda: mg.jvp(lambda x: x, (argument,), (argument,)),
        "hvp: argument 0": lambda: mg.hvp(lambda x: x, (argument,), (argument,)),
        "jacobian: argument 0": lambda: mg.jacobian(lambda x: x)(argument),
    }.items():
        with pytest.raises(mg.DtypeError) as caught:
            call()
        assert lines(caught) == [
            f"{name}: nothing to differentiate by",
            f"expected float32 or float64, got {got}",
            "remedy: convert with .astype(np.float64), write 3.0 for 3, or leave the argument out",
        ]
    with pytest.raises(mg.DtypeError) if got in ("float16", "complex128") else nullcontext():
        assert mg.grad(lambda x: x["x"])({"x": 1.0, "n": argument}) == {"x": 1.0, "n": None}


def test_a_cotangent_must_fit():
    _, pull = mg.vjp(lambda x: x * x, np.ones(2))
    with pytest.raises(mg.ShapeError):
        pull(np.ones(3))


def test_a_result_with_several_elements_is_refused_with_the_way_out():
    with pytest.raises(mg.GradientError, match=r"several elements\n.*\(2,\)\n.*vjp"):
        mg.grad(lambda x: x * x)(np.ones(2))


@pytest.mark.parametrize("transform", [mg.grad, mg.jacobian, mg.hessian])
def test_argnums_are_checked(transform):
    f = lambda x, y: x * y  # noqa: E731
    for wrong in (2, -3, (0, 0), (1, -1)):
        with pytest.raises(mg.UsageError, match=r"argnums\n.*among 2 argument\(s\), got") as caught:
            transform(f, argnums=wrong)(1.0, 2.0)
        assert len(lines(caught)) == 3
    for wrong in (1.0, "x", None, ("x",), ()):
        with pytest.raises(mg.UsageError, match=r"argnums\n.*expected a whole number") as caught:
            transform(f, argnums=wrong)
        assert len(lines(caught)) == 3
    assert float(mg.grad(f, argnums=-1)(3.0, 2.0)) == 3.0
    assert float(mg.grad(f, argnums=np.int64(1))(3.0, 2.0)) == 3.0
    assert [float(g) for g in mg.grad(f, argnums=[-1, 0])(3.0, 2.0)] == [3.0, 2.0]


def test_has_aux_wants_a_pair():
    for f, got in ((lambda x: x, "Tensor"), (lambda x: (x, x, x), "a tuple of 3")):
        for name, call in {
            "grad": lambda f=f: mg.grad(f, has_aux=True)(1.0),
            "vjp": lambda f=f: mg.vjp(f, 1.0, has_aux=True),
            "jvp": lambda f=f: mg.jvp(f, (1.0,), (1.0,), has_aux=True),
            "jacobian": lambda f=f: mg.jacobian(f, has_aux=True)(1.0),
        }.items():
            with pytest.raises(mg.UsageError) as caught:
                call()
            assert lines(caught) == [
                f"{name}: the result of a function with has_aux=True",
                f"expected a tuple (result, anything), got {got}",
                "remedy: return two things, or leave has_aux out",
            ]


def test_aux_comes_back_from_every_transformation_as_it_is_but_for_tensors():
    module = mg.nn.Linear(1, 1)

    def f(x):
        return (x * x).sum(), {"twice": [2 * x], "module": module, "note": None}

    x = np.array([1.0, 2.0])
    y, pull, a = mg.vjp(f, x, has_aux=True)
    z, moved, b = mg.jvp(f, (x,), (x,), has_aux=True)
    j, c = mg.jacobian(f, has_aux=True)(x)
    h, d = mg.hessian(f, has_aux=True)(x)
    assert (float(y), pull(1.0)[0].tolist()) == (5.0, [2.0, 4.0])
    assert (float(z), float(moved), j.tolist()) == (5.0, 10.0, [2.0, 4.0])
    assert h.tolist() == [[2.0, 0.0], [0.0, 2.0]]
    for aux in (a, b, c, d):
        assert type(aux["twice"][0]) is np.ndarray
        assert (aux["twice"][0].tolist(), aux["module"], aux["note"]) == ([2.0, 4.0], module, None)


def test_a_gradient_of_more_than_one_tensor_is_refused():
    with pytest.raises(mg.GradientError) as caught:
        mg.grad(lambda x: (x, x))(1.0)
    assert lines(caught) == [
        "grad: the result of the function",
        "expected one tensor, got a tuple of 2",
        "remedy: return the loss alone, or (loss, anything) with has_aux=True",
    ]


# --- nested arguments ----------------------------------------------------------------------------

Pair = namedtuple("Pair", "a b")


def test_gradients_have_the_form_of_their_arguments():
    def f(state, factor):
        assert isinstance(state["pair"], Pair)
        w, (b, n) = state["w"], state["rest"]
        return (w[0] * factor + b * n * state["pair"].a).sum()

    w, b = np.array([1.0, 2.0]), np.array([3.0], np.float64)
    state = {"w": [w], "rest": (b, 5), "name": "x", "pair": Pair(2.0, np.arange(2)), "none": None}
    value, (g, by_factor) = mg.value_and_grad(f, argnums=(0, 1))(state, 10.0)
    assert float(value) == 90.0 and float(by_factor) == 3.0
    assert list(g) == list(state)
    assert (g["w"][0].tolist(), g["rest"][0].tolist(), g["rest"][1]) == ([10.0, 10.0], [20.0], None)
    assert isinstance(g["pair"], Pair) and (float(g["pair"].a), g["pair"].b) == (30.0, None)
    assert (g["name"], g["none"]) == (None, None)
    assert state["w"][0] is w and state["rest"] == (b, 5)

    _, pull = mg.vjp(f, state, 10.0)
    again, _ = pull(1.0)
    assert repr(again) == repr(g)
    moved = mg.tree.map(lambda x, dx: None if dx is None else np.ones_like(dx), state, g)
    _, along = mg.jvp(f, (state, 10.0), (moved, 0.0))
    assert float(along) == 20.0 + 20.0 + 30.0
    (product, _) = mg.hvp(f, (state, 10.0), (moved, 1.0))
    assert product["w"][0].tolist() == [1.0, 1.0]
    assert (product["rest"][0].tolist(), product["rest"][1]) == ([10.0], None)
    h = mg.hessian(f)(state, 10.0)
    assert h["rest"][0]["pair"].a.tolist() == [10.0] and h["rest"][1] is None


def test_nested_results():
    def f(x):
        return {"sum": x.sum(), "all": (x * x, [mg.tensor(1.0)])}

    x = np.array([2.0, 3.0])
    y, pull = mg.vjp(f, x)
    assert (float(y["sum"]), y["all"][0].tolist()) == (5.0, [4.0, 9.0])
    (g,) = pull({"all": (np.array([1.0, 10.0]), [0.0]), "sum": 100.0})
    assert g.tolist() == [104.0, 160.0]
    z, moved = mg.jvp(f, (x,), (np.array([1.0, 10.0]),))
    assert repr(z) == repr(y)
    assert (float(moved["sum"]), moved["all"][0].tolist()) == (11.0, [4.0, 60.0])
    assert float(moved["all"][1][0]) == 0.0
    j = mg.jacobian(f)(x)
    assert j["sum"].tolist() == [1.0, 1.0] and j["all"][0].tolist() == [[4.0, 0.0], [0.0, 6.0]]
    assert j["all"][1][0].tolist() == [0.0, 0.0]
    for wrong in ({"sum": 1.0}, (1.0, 1.0), {"sum": 1.0, "all": (x, 1.0)}):
        with pytest.raises(mg.UsageError, match=r"^vjp: the cotangent.*: its form\n"):
            pull(wrong)
    with pytest.raises(mg.ShapeError, match=r"^vjp: the cotangent\n  expected float64 \(\), got"):
        pull({"sum": x, "all": (x, [0.0])})


# --- modules -------------------------------------------------------------------------------------


class Tagger(mg.nn.Module):
    def __init__(self, dtype=np.float64):
        self.lstm = mg.nn.LSTM(3, 4, dtype=dtype, rng=0)
        self.head = mg.nn.Linear(4, 5, dtype=dtype, rng=1)

    def loss(self, xs, ids, fused="auto"):
        ys, _ = self.lstm(xs, fused=fused)
        return mg.nn.cross_entropy(self.head(ys), ids)


XS, IDS = RNG.normal(size=(6, 2, 3)), RNG.integers(0, 5, (6, 2))


@pytest.mark.parametrize("fused", [pytest.param(True, marks=pytest.mark.native), False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_styles_give_the_same_bits_on_the_same_model(dtype, fused):
    model, xs = Tagger(dtype), mg.tensor(XS.astype(dtype), requires_grad=True)
    loss = model.loss(xs, IDS, fused)
    loss.backward()
    value, (g, gx) = mg.value_and_grad(Tagger.loss, argnums=(0, 1))(model, xs.data, IDS, fused)
    assert type(value) is np.ndarray and value == loss.data
    assert (gx == xs.grad.data).all()
    assert list(g) == [name for name, _ in model.named_parameters()]
    for name, p in model.named_parameters():
        assert type(g[name]) is np.ndarray and g[name].dtype == dtype
        assert (g[name] == p.grad.data).all() and np.abs(g[name]).max() > 0
    _, pull = mg.vjp(lambda m, x: m.loss(x, IDS, fused), model, xs.data)
    for name, p in pull(np.ones((), dtype))[0].items():
        assert (g[name] == p).all()


def test_a_module_is_left_alone_also_when_the_function_raises():
    model = Tagger()
    before = [(p, p.data, p.source, p.grad) for p in model.parameters()]

    def fails(m):
        assert m is not model and type(m) is Tagger and m.lstm.cells[0] is not model.lstm.cells[0]
        assert all(isinstance(p, mg.nn.Parameter) for p in m.parameters())
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        mg.grad(fails)(model)
    mg.grad(Tagger.loss)(model, XS, IDS)
    after = [(p, p.data, p.source, p.grad) for p in model.parameters()]
    assert all(
        a is b for x, y in zip(before, after, strict=True) for a, b in zip(x, y, strict=True)
    )
    with pytest.raises(mg.UsageError, match="argnums"):  # no trace is left open either
        mg.grad(lambda m: m, argnums=3)(model)
    assert type(mg.grad(lambda x: x)(1.0)) is np.ndarray


def test_a_parameter_beside_its_module_is_another_variable():
    """The function sees a copy; what it closes over is the original, and constant."""
    model = mg.nn.Linear(1, 1, rng=0)
    model.weight.data[...] = 3.0
    g = mg.grad(lambda m: (m.weight * model.weight).sum())(model)
    assert g["weight"].item() == 3.0
    two = mg.grad(lambda m, n: (m.weight * n.weight * 2).sum(), argnums=(0, 1))(model, model)
    assert [h["weight"].item() for h in two] == [6.0, 6.0]


def test_tied_and_frozen_parameters():
    class Tied(mg.nn.Module):
        def __init__(self):
            self.a = mg.nn.Parameter(np.array([2.0]))
            self.inner = mg.nn.Linear(1, 1, bias=False)
            self.inner.weight.data[...] = 5.0
            self.b = self.a
            self.c = mg.nn.Parameter(np.array([7.0]))

    tied = Tied()
    tied.c.requires_grad = False
    g = mg.grad(lambda m: (m.a * m.b * m.c * m.inner.weight).sum())(tied)
    assert {k: v.item() for k, v in g.items()} == {"a": 140.0, "inner.weight": 28.0}


def test_second_derivatives_of_a_module_against_differences():
    model = mg.nn.Linear(2, 1, rng=0)
    x = np.array([[0.5, -1.0], [2.0, 0.25]])
    loss = lambda m: (mg.tanh(m(x)) ** 2).sum()  # noqa: E731
    h = mg.hessian(loss)(model)
    v = {"weight": np.array([[1.0, -2.0]]), "bias": np.array([0.5])}
    (product,) = mg.hvp(loss, (model,), (v,))
    _, along = mg.jvp(mg.grad(loss), (model,), (v,))
    for k in v:
        # sums of a few dozen rounded terms of order one in each
        expected = sum(np.tensordot(h[k][j], v[j], v[j].ndim) for j in v)
        np.testing.assert_allclose(product[k], expected, rtol=0, atol=2**-46)
        np.testing.assert_allclose(along[k], expected, rtol=0, atol=2**-46)
    moved = lambda s: {k: p + s * v[k] for k, p in before.items()}  # noqa: E731
    before, s = model.state_dict(), 2.0**-12
    slopes = []
    for sign in (1, -1):
        model.load_state_dict(moved(sign * s))
        slopes.append(mg.grad(loss)(model))
    for k in v:
        # The error of a central difference is s^2/6 times a third derivative, here at most
        # 16 (3^3 2 + 2^3 2): the fourth of tanh^2, the change of m(x) along v cubed, times x.
        numeric = (slopes[0][k] - slopes[1][k]) / (2 * s)
        np.testing.assert_allclose(product[k], numeric, rtol=0, atol=s * s / 6 * 16 * 70)


def test_a_gradient_penalty_of_a_module_in_both_styles():
    model = Tagger()
    model.loss(XS, IDS).backward(create_graph=True)
    first = [p.grad for p in model.parameters()]
    penalty = sum((g * g).sum() for g in first)
    model.zero_grad()
    penalty.backward()

    def functional(m):
        return sum((g * g).sum() for g in mg.grad(Tagger.loss)(m, XS, IDS).values())

    value, g = mg.value_and_grad(functional)(model)
    assert value == penalty.data
    for name, p in model.named_parameters():
        assert (g[name] == p.grad.data).all() and np.abs(g[name]).max() > 0


# --- forward mode, jacobians ---------------------------------------------------------------------


def three(x, y):
    """A multi-output op, a product shared by two steps, broadcasting; sizes 2 and (2, 2)."""
    h = mg.tanh(mg.affine(mg.tanh(mg.affine(x, y, x)), y, x))
    a, b = mg.unstack(mg.sort(h) * mg.exp(-h))
    return mg.stack([a * b, a + x.sum(), b * b, mg.logsumexp(y)])


POINT = (np.array([0.5, -0.25]), np.array([[0.75, -0.5], [0.25, 1.5]]))
TANGENT = (np.array([1.0, -2.0]), np.array([[0.5, 3.0], [-1.0, 0.25]]))


def test_jvp_vjp_and_jacobian_agree():
    value, moved = mg.jvp(three, POINT, TANGENT)
    plain, pull = mg.vjp(three, *POINT)
    by_x, by_y = mg.jacobian(three, argnums=(0, 1))(*POINT)
    assert (by_x.shape, by_y.shape) == ((4, 2), (4, 2, 2))
    assert (value == plain).all() and type(moved) is np.ndarray
    for i, row in enumerate(np.eye(4)):
        gx, gy = pull(row)
        assert (gx == by_x[i]).all() and (gy == by_y[i]).all()
    expected = by_x @ TANGENT[0] + (by_y * TANGENT[1]).sum((1, 2))
    # the same few hundred products, of order 2^3 at most, in another order
    np.testing.assert_allclose(moved, expected, rtol=0, atol=2**-43)
    steps = [three(*(mg.tensor(p + s * t) for p, t in zip(POINT, TANGENT, strict=True))).data
             for s in (2.0**-13, -(2.0**-13))]  # fmt: skip
    np.testing.assert_allclose(moved, (steps[0] - steps[1]) * 2**12, rtol=0, atol=2**-14)


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_jvp_of_one_op_after_another_is_the_chain_rule(x, dx):
    value, moved = mg.jvp(lambda x: mg.sin(x) * x, (x,), (dx,))
    np.testing.assert_allclose(value, np.sin(x) * x, rtol=2**-50, atol=2**-1070)
    scale = (abs(np.sin(x)) + abs(x * np.cos(x))) * abs(dx)
    expected = (np.sin(x) + x * np.cos(x)) * dx
    assert abs(moved - expected) <= 2**-49 * scale + 2**-1070
    assert value.dtype == moved.dtype == np.float64


def test_jvp_of_a_function_that_ignores_an_argument_or_returns_it():
    value, moved = mg.jvp(lambda x, y: (x, x, 2 * x), (1.0, 2.0), (3.0, 4.0))
    assert [float(v) for v in (*value, *moved)] == [1.0, 1.0, 2.0, 3.0, 3.0, 6.0]


def test_jvp_where_rules_would_overflow_at_a_cotangent_of_one():
    x, big = np.float32(1e-20), np.float32(1e20)
    f = lambda x: x * big * np.sqrt(big) * np.sqrt(big)  # noqa: E731
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert mg.grad(f)(x) == np.inf
    _, moved = mg.jvp(f, (x,), (x,))
    np.testing.assert_allclose(moved, 1e20, rtol=2**-20)


@pytest.mark.native
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jvp_of_a_fused_op_has_the_bits_of_the_unfolded_one(dtype):
    rng = np.random.default_rng(0)
    model = mg.nn.LSTM(3, 4, dtype=dtype, rng=0)
    xs, dxs = rng.normal(size=(2, 5, 2, 3)).astype(dtype)
    moved = {k: rng.normal(size=v.shape).astype(dtype) for k, v in model.state_dict().items()}
    pairs = []
    for fused in (True, False):
        f = lambda m, xs, fused=fused: m(xs, lengths=[5, 3], fused=fused)  # noqa: E731
        pairs.append(mg.tree.flatten(mg.jvp(f, (model, xs), (moved, dxs)))[0])
    assert len(pairs[0]) == 6
    for a, b in zip(*pairs, strict=True):
        assert (a == b).all() and np.abs(a).max() > 0
    # <u, J t> = <J^T u, t>, up to the rounding of a few thousand terms
    us = [rng.normal(size=a.shape).astype(dtype) for a in pairs[0][:3]]
    _, pull = mg.vjp(lambda m, xs: m(xs, lengths=[5, 3]), model, xs)
    g, gx = pull((us[0], (us[1], us[2])))
    left = sum((u * d).sum(dtype=np.float64) for u, d in zip(us, pairs[0][3:], strict=True))
    parts = [*((g[k], moved[k]) for k in moved), (gx, dxs)]
    right = sum((a * b).sum(dtype=np.float64) for a, b in parts)
    size = sum(np.abs(a * b).sum(dtype=np.float64) for a, b in parts)
    assert abs(left - right) <= 2**6 * np.finfo(dtype).eps * size


def test_the_arguments_of_jvp_and_hvp_are_checked():
    f = lambda x, n: (x["w"] ** 2).sum()  # noqa: E731
    good = ({"w": np.ones(2), "n": 3}, 1.0)
    for name, transform in (("jvp", mg.jvp), ("hvp", mg.hvp)):
        for primals, tangents, got in (
            (good, (good[0],), "a tuple of 2 and a tuple of 1"),
            (good[1], good[1], "float and float"),
            (np.ones(2), np.ones(2), "ndarray and ndarray"),
        ):
            with pytest.raises(mg.UsageError) as caught:
                transform(f, primals, tangents)
            assert lines(caught) == [
                f"{name}: primals and tangents",
                f"expected two tuples of one length, got {got}",
                "remedy: give a tuple of the arguments, also for one: (x,), and a tangent for each",
            ]
        for tangent, kind, what in (
            ({"w": np.ones(3), "n": None}, mg.ShapeError, r"expected float64 \(2,\), got float64 "),
            ({"w": np.ones(2, int), "n": None}, mg.ShapeError, r"float64 \(2,\), got int64 \(2,\)"),
            ({"w": None, "n": None}, mg.ShapeError, r"expected float64 \(2,\), got NoneType"),
            ({"w": np.ones(2), "n": 1}, mg.UsageError, "None for a leaf .*, got int"),
            ({"w": np.ones(2)}, mg.UsageError, "its form"),
            (np.ones(2), mg.UsageError, "its form"),
        ):
            with pytest.raises(kind, match=what) as caught:
                transform(f, good, (tangent, 1.0))
            assert lines(caught)[0].startswith(f"{name}: tangent 0")
            assert len(lines(caught)) == 3
        assert transform(f, good, ({"n": None, "w": np.ones(2)}, 1))
    _, moved = mg.jvp(lambda x: x * x, (np.float32(2),), (3,))
    assert (float(moved), moved.dtype) == (12.0, np.float32)


def test_jacobian_shapes():
    f = lambda x: mg.stack([x, 2 * x])  # noqa: E731
    assert mg.jacobian(f)(3.0).tolist() == [1.0, 2.0]
    assert mg.jacobian(f)(np.ones((3, 4), np.float32)).shape == (2, 3, 4, 3, 4)
    assert mg.jacobian(f)(np.ones((3, 4), np.float32)).dtype == np.float32
    assert mg.jacobian(f)(np.ones((0, 4))).shape == (2, 0, 4, 0, 4)
    assert mg.jacobian(lambda x: x.sum())(np.ones(3)).tolist() == [1.0, 1.0, 1.0]
    both = mg.jacobian(lambda x, y: (x * y, x), argnums=(1, 0))(2.0, 3.0)
    assert [[float(d) for d in row] for row in both] == [[2.0, 3.0], [0.0, 1.0]]
    g = mg.grad(lambda x: (mg.jacobian(lambda z: z * z * x)(x) ** 2).sum())
    # J = diag(2 x^2): the sum of its squares is 4 x^4; but the inner x is another variable
    x = np.array([1.0, 2.0])
    assert g(x).tolist() == (16 * x**3).tolist()
    empty = mg.grad(lambda x: mg.sum(mg.jacobian(lambda z: z[:0] * x[:0])(x)))
    assert empty(x).tolist() == [0.0, 0.0]


def quartic(x):
    return (x[0] ** 3 * x[1] + mg.exp(x[0] * x[2]) + mg.matmul(x, x) ** 2) / 4


def test_hessian_is_symmetric_and_right():
    x = np.array([0.5, -1.5, 0.75])
    a, b, c = x
    e, s = np.exp(a * c), x @ x
    own = np.array([[6 * a * b, 3 * a * a, 0], [3 * a * a, 0, 0], [0, 0, 0]])
    own += np.array([[c * c * e, 0, (1 + a * c) * e], [0, 0, 0], [(1 + a * c) * e, 0, a * a * e]])
    own = (own + 8 * np.outer(x, x) + 4 * s * np.eye(3)) / 4
    h = mg.hessian(quartic)(x)
    np.testing.assert_allclose(h, own, rtol=0, atol=2**-46)  # a dozen terms below 2^4
    np.testing.assert_allclose(h, h.T, rtol=0, atol=2**-46)
    v = np.array([1.0, 10.0, -3.0])
    np.testing.assert_allclose(mg.hvp(quartic, (x,), (v,))[0], own @ v, rtol=0, atol=2**-42)
    blocks = mg.hessian(lambda a, b: a * a * b, argnums=(0, 1))(3.0, 5.0)
    assert [[float(d) for d in row] for row in blocks] == [[10.0, 6.0], [6.0, 0.0]]


# --- in any combination --------------------------------------------------------------------------


def test_ways_to_the_second_derivative_agree():
    """Each by another route through the same products; equal to the bit where the route is."""
    x, v = np.array([0.5, -1.5, 0.75]), np.array([1.0, 10.0, -3.0])
    dot = lambda a, b: (a * b).sum()  # noqa: E731
    slope = mg.grad(quartic)
    routes = {
        "hvp": mg.hvp(quartic, (x,), (v,))[0],
        "vjp of grad": mg.vjp(slope, x)[1](v)[0],
        "jvp of grad": mg.jvp(slope, (x,), (v,))[1],
        "grad of grad . v": mg.grad(lambda x: dot(slope(x), v))(x),
        "grad of vjp": mg.grad(lambda x: dot(mg.vjp(quartic, x)[1](1.0)[0], v))(x),
        "grad of jvp": mg.grad(lambda x: mg.jvp(quartic, (x,), (v,))[1])(x),
        "hessian v": mg.hessian(quartic)(x) @ v,
        "jacobian of grad, v": mg.jacobian(slope)(x) @ v,
    }
    assert (routes["hvp"] == routes["vjp of grad"]).all()
    assert (routes["hvp"] == routes["grad of grad . v"]).all()
    assert (routes["hvp"] == routes["grad of vjp"]).all()
    assert (routes["hessian v"] == routes["jacobian of grad, v"]).all()
    for name, route in routes.items():  # some hundred products of numbers below 2^6
        np.testing.assert_allclose(route, routes["hvp"], rtol=0, atol=2**-40, err_msg=name)
    twice = mg.jvp(lambda x: mg.jvp(quartic, (x,), (v,))[1], (x,), (v,))[1]
    np.testing.assert_allclose(twice, v @ routes["hessian v"], rtol=2**-44)


@given(st.floats(-2, 2))
def test_order_three_by_every_mix_of_modes(x):
    f = lambda x: x * x * mg.exp(x)  # noqa: E731
    push = lambda f: lambda x: mg.jvp(f, (x,), (1.0,))[1]  # noqa: E731
    product = lambda f: lambda x: mg.hvp(f, (x,), (1.0,))[0]  # noqa: E731
    cube = lambda f: lambda x: mg.jacobian(f)(x)  # noqa: E731
    exact = (x * x + 6 * x + 6) * np.exp(x)
    bound = 2**-47 * (x * x + 6 * abs(x) + 6) * np.exp(x)  # fewer than 32 rounded terms
    first = (mg.grad, push, cube)
    mixes = [a(b(c(f))) for a in first for b in first for c in first]
    mixes += [a(product(f)) for a in first] + [product(a(f)) for a in first]
    mixes += [mg.hessian(a(f)) for a in first]
    for mix in mixes:
        assert abs(float(mix(x)) - exact) <= bound


def test_perturbations_are_not_confused():
    grad = mg.grad
    push = lambda f: lambda x: mg.jvp(f, (x,), (1.0,))[1]  # noqa: E731
    for outer in (grad, push):
        for inner in (grad, push):
            assert float(outer(lambda x, d=inner: x * d(lambda y: x + y)(1.0))(5.0)) == 1.0
            assert float(outer(lambda x, d=inner: x * d(lambda y: x * y)(1.0))(5.0)) == 10.0
            assert float(outer(lambda x, d=inner: d(lambda y: x * y * y)(x))(5.0)) == 20.0
            assert (
                float(outer(lambda x, d=inner: d(lambda y: d(lambda z: x * y * z)(x))(x))(5.0)) == 1
            )
    assert float(grad(lambda x: mg.jvp(lambda y: x * y, (1.0,), (x,))[1])(3.0)) == 6.0
    assert float(grad(lambda x: mg.vjp(lambda y: x * y, 1.0)[1](x)[0])(3.0)) == 6.0
    assert float(grad(lambda x: mg.hvp(lambda y: x * y * y, (x,), (x,))[0])(3.0)) == 12.0
    assert mg.jacobian(lambda x: mg.jacobian(lambda y: x * y)(x))(3.0).tolist() == 1.0
    for wrap in (lambda f: f, mg.checkpoint):
        f = lambda x, w=wrap: grad(lambda y: w(lambda z: z * z * x)(y))(x)  # noqa: E731
        assert derivatives(wrap(f), 3.0, 3) == [12.0, 4.0, 0.0]


def test_a_derivative_within_a_function_keeps_what_it_depends_on():
    """x reaches the result through the inner tangent, the inner point and the closure."""

    def f(x):
        value, moved = mg.jvp(lambda y: y * y * x, (x * x,), (x,))
        return value + moved  # x^5 + 2 x^4

    assert derivatives(f, 2.0, 3) == [5 * 16 + 8 * 8, 20 * 8 + 24 * 4, 60 * 4.0 + 48 * 2]


def test_transformations_respect_no_grad_inside_the_function_and_not_outside():
    with mg.no_grad():
        assert derivatives(lambda x: x**3, 2.0, 3) == [12.0, 12.0, 6.0]
        assert float(mg.hessian(lambda x: x**3)(2.0)) == 12.0
        assert float(mg.jvp(mg.grad(lambda x: x**3), (2.0,), (1.0,))[1]) == 12.0
        assert float(mg.grad(mg.checkpoint(lambda x: x**3))(2.0)) == 12.0
        x = mg.tensor(2.0, requires_grad=True)
        outs = [mg.grad(lambda x: x * x)(x), *mg.jvp(lambda x: x * x, (x,), (1.0,))]
        assert all(isinstance(y, mg.Tensor) and not y.requires_grad for y in outs)
    _, pull = mg.vjp(lambda x: x * x, x)
    assert pull(1.0)[0].requires_grad
    with mg.no_grad():
        assert not pull(x)[0].requires_grad
        assert not mg.is_grad_enabled()

    def held(x):
        with mg.no_grad():
            slope = mg.grad(lambda y: y * y * x)(x)  # a constant here
            assert not slope.requires_grad
        return x * slope

    assert float(mg.grad(held)(3.0)) == 18.0
    assert float(mg.grad(lambda x: x * mg.grad(lambda y: y * y * x)(x))(3.0)) == 54.0


def test_transformations_in_threads_do_not_meet():
    results, errors = {}, []
    model = Tagger()
    expected = mg.hvp(lambda m: m.loss(XS, IDS), (model,), (model.state_dict(),))[0]
    barrier = threading.Barrier(4)

    def work(i):
        try:
            barrier.wait()
            for _ in range(5):
                loss = (
                    mg.checkpoint(lambda m: m.loss(XS, IDS)) if i % 2 else lambda m: m.loss(XS, IDS)
                )
                results[i] = mg.hvp(loss, (model,), (model.state_dict(),))[0]
                assert type(mg.grad(lambda x: x * x)(1.0)) is np.ndarray
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors and len(results) == 4
    for g in results.values():
        for name, value in g.items():
            assert (value == expected[name]).all()


# --- checkpoint ----------------------------------------------------------------------------------


def deep(x, w):
    for _ in range(3):
        x = mg.tanh(mg.affine(x, w, x)) * x
    return x, {"sum": x.sum()}


def chained(wrap):
    def f(x, w):
        total = 0
        for _ in range(3):
            x, rest = wrap(deep)(x, w=w)
            total = total + rest["sum"] * w.sum()
        return total + (x * w[0]).sum()

    return f


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_checkpoint_changes_no_bit_at_any_order(dtype):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3)).astype(dtype), (rng.normal(size=(3, 3)) / 2).astype(dtype)
    v = rng.normal(size=(3, 3)).astype(dtype)
    twice = lambda f: mg.checkpoint(mg.checkpoint(f))  # noqa: E731
    found = []
    for wrap in (lambda f: f, mg.checkpoint, twice, lambda f: twice(twice(f))):
        f = chained(wrap)
        first = mg.grad(f, argnums=(0, 1))
        second = mg.grad(lambda x, w, d=first: (d(x, w)[1] * v).sum(), argnums=(0, 1))
        third = mg.grad(lambda x, w, d=second: (d(x, w)[1] * v).sum(), argnums=(0, 1))
        values = [f(mg.tensor(x), mg.tensor(w)).data, *first(x, w), *second(x, w), *third(x, w)]
        values += [mg.jvp(f, (x, w), (x, v))[1], mg.hvp(f, (x, w), (x, v))[1]]
        xt, wt = (mg.tensor(a, requires_grad=True) for a in (x, w))
        f(xt, wt).backward()
        found.append([*values, xt.grad.data, wt.grad.data])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a.dtype == b.dtype == dtype and (a == b).all() and np.abs(a).max() > 0


@pytest.mark.parametrize("fused", [pytest.param(True, marks=pytest.mark.native), False])
def test_a_checkpointed_module_has_the_gradients_of_the_plain_one(fused):
    """Nothing but closed-over parameters needs a gradient here."""
    grads = []
    for wrap in (lambda f: f, mg.checkpoint):
        model = Tagger()
        layer = wrap(lambda xs, m=model: m.lstm(xs, fused=fused))
        ys, (h, c) = layer(XS)
        loss = mg.nn.cross_entropy(wrap(model.head)(ys), IDS) + (h * c).sum()
        loss.backward()
        outer = mg.grad(lambda m, w=wrap: w(Tagger.loss)(m, XS, IDS, fused=fused))(model)
        grads.append([p.grad.data for p in model.parameters()] + list(outer.values()))
    for a, b in zip(*grads, strict=True):
        assert (a == b).all() and np.abs(a).max() > 0


@pytest.mark.native
def test_a_fused_op_within_checkpoints_within_checkpoints_can_be_differentiated_twice():
    model = Tagger()
    found = []
    for depth in range(4):
        f = Tagger.loss
        for _ in range(depth):
            f = mg.checkpoint(f)
        found.append(mg.hvp(lambda m, f=f: f(m, XS, IDS), (model,), (model.state_dict(),))[0])
    for other in found[1:]:
        assert all((found[0][k] == v).all() for k, v in other.items())


def test_a_checkpoint_of_tensors_of_two_dtypes():
    x, y = (
        mg.tensor([1.0, 2.0], requires_grad=True),
        mg.tensor([3.0], np.float32, requires_grad=True),
    )
    z = mg.checkpoint(lambda x, y: x * y.astype(np.float64))(x, y)
    z.sum().backward()
    assert (x.grad.data.tolist(), y.grad.data.tolist()) == ([3.0, 3.0], [3.0])
    assert y.grad.dtype == np.float32


def test_what_a_checkpoint_hands_through_is_the_same_tensor():
    x, w = mg.tensor([2.0], requires_grad=True), mg.tensor([3.0], requires_grad=True)
    a, b, c, (d, n) = mg.checkpoint(lambda x: (x, w, mg.tensor([1.0]), (x * w, "text")))(x)
    assert (a is x, b is w, c.requires_grad, n) == (True, True, False, "text")
    assert d.node.op.name == "checkpoint"
    assert mg.checkpoint(lambda: 3)() == 3
    with mg.no_grad():
        assert not mg.checkpoint(lambda x: x * x)(x).requires_grad
    order = []
    for wrap in (lambda f: f, mg.checkpoint):  # contributions to x arrive in the same order
        x = mg.tensor(np.float32(0.1), requires_grad=True)
        y, z = wrap(lambda x: (x, mg.exp(x)))(x)
        u = x * np.float32(1e8)
        (y * np.float32(-1e8) + u + z).backward()
        order.append(x.grad.data)
    assert order[0] == order[1]


def test_one_output_of_a_checkpoint_may_go_unused():
    x = mg.tensor([2.0], requires_grad=True)
    y, _ = mg.checkpoint(lambda x: (x * x, x * x * x))(x)
    y.sum().backward()
    assert x.grad.data.tolist() == [4.0]


def test_a_checkpoint_may_be_walked_twice_or_used_up():
    x = mg.tensor([2.0], requires_grad=True)
    y = mg.checkpoint(lambda x: x * x * x)(x).sum()
    y.backward(retain_graph=True)
    y.backward(create_graph=True)
    assert x.grad.data.tolist() == [24.0]
    y.backward()
    with pytest.raises(mg.GraphFreedError):
        y.backward()


def test_a_gradient_within_a_checkpoint_is_the_same_the_second_time():
    """The backward pass comes after the trace is over; what is computed again must not know."""

    def inner(x):
        return x * mg.grad(lambda y: x * y * y)(2.0)  # 4 x^2

    for f in (inner, mg.checkpoint(inner)):
        assert [float(d) for d in derivatives(f, 3.0, 3)] == [24.0, 8.0, 0.0]


def test_hooks_within_a_checkpoint_run():
    seen = []

    def f(x):
        y = x * x
        y.register_hook(lambda g: seen.append(g.item()))
        return 3 * y

    x = mg.tensor(2.0, requires_grad=True)
    mg.checkpoint(f)(x).backward()
    assert seen == [3.0]


def test_a_checkpoint_that_does_not_hold_still_is_refused():
    def once(change):
        x = mg.tensor(np.ones(2), requires_grad=True)
        state = {"scale": 2.0, "pair": False}
        y = mg.checkpoint(lambda x: (x * state["scale"],) * (1 + state["pair"]))(x)[0]
        state.update(change)
        return x, y

    for run in (
        lambda x, y: y.sum().backward(),
        lambda x, y: y.sum().backward(create_graph=True),
    ):
        with pytest.raises(mg.GradientError) as caught:
            run(*once({"scale": 3.0}))
        assert lines(caught) == [
            "backward: checkpoint computed again, output 0",
            "expected the values of the forward pass, got others",
            "remedy: draw random numbers outside of the function, and change nothing that it reads",
        ]
        for change in ({"pair": True}, {"scale": np.ones((2, 2))[:, 0]}):
            x, y = once(change)
            with pytest.raises(mg.GradientError, match="backward: checkpoint computed again"):
                run(x, y)
    w = mg.tensor(np.ones(2), requires_grad=True)
    y = mg.checkpoint(lambda: w * 2)()
    w.requires_grad = False
    with pytest.raises(mg.GradientError, match="with a gradient as before"):
        y.sum().backward()


def test_the_arguments_of_a_checkpoint_are_kept_as_they_were():
    x = mg.tensor(np.ones(2), requires_grad=True)
    rows = [x]
    y = mg.checkpoint(lambda rows: sum(r * r for r in rows))(rows)
    x.data = np.full(2, 7.0)
    rows.append(x)
    y.sum().backward()
    assert x.grad.data.tolist() == [2.0, 2.0]


SIZE, STEPS = 1 << 15, 12


def long_chain(wrap):
    def piece(x):
        for _ in range(STEPS):
            x = mg.sin(x)
        return x

    def f(x):
        for _ in range(STEPS):
            x = wrap(piece)(x)
        return x.sum()

    return f


@pytest.mark.parametrize("style", ["backward", "grad"])
def test_a_checkpoint_saves_memory(style):
    """A chain of n^2 arrays needs n^2 at once; in n pieces, n and, one piece at a time, n more."""

    def peak(wrap):
        f, x = long_chain(wrap), np.ones(SIZE)
        tracemalloc.start()
        try:
            if style == "grad":
                mg.grad(f)(x)
            else:
                f(mg.tensor(x, requires_grad=True)).backward()
            return tracemalloc.get_traced_memory()[1] / (SIZE * 8)
        finally:
            tracemalloc.stop()

    assert peak(lambda f: f) > STEPS * STEPS
    assert peak(mg.checkpoint) < 3 * STEPS


def test_a_checkpoint_lets_go_of_what_it_computed_and_makes_no_cycle():
    inside = []

    def f(x):
        y = mg.exp(x)
        inside.append(weakref.ref(y.node))
        return y * y

    gc.disable()
    try:
        x = mg.tensor(np.ones(3), requires_grad=True)
        y = mg.checkpoint(f)(x)
        assert inside[0]() is None
        node = weakref.ref(y.node)
        y.sum().backward()
        assert inside[1]() is None
        del y
        assert node() is None
    finally:
        gc.enable()


# --- checkpoints around, and within, everything else ---------------------------------------------

WRAPPED = {
    "gradient": lambda e: mg.grad(e),
    "of a checkpoint": lambda e: mg.grad(mg.checkpoint(e)),
    "of two": lambda e: mg.grad(mg.checkpoint(mg.checkpoint(e))),
    "within one": lambda e: mg.checkpoint(mg.grad(e)),
    "both": lambda e: mg.checkpoint(mg.grad(mg.checkpoint(e))),
    "forward": lambda e: lambda x: mg.jvp(e, (x,), (np.ones(x.shape),))[1] * x,
    "forward within one": lambda e: mg.checkpoint(
        lambda x: mg.jvp(e, (x,), (np.ones(x.shape),))[1] * x
    ),
    "hessian vector": lambda e: lambda x: mg.hvp(e, (x,), (np.ones(x.shape),))[0],
    "hessian vector within one": lambda e: mg.checkpoint(
        lambda x: mg.hvp(e, (x,), (np.ones(x.shape),))[0]
    ),
}


@pytest.mark.native  # the twins promise no bits
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("lengths", [None, [3, 1]], ids=["even", "ragged"])
@pytest.mark.parametrize("name", WRAPPED)
def test_a_second_derivative_through_checkpoints_is_the_same(name, lengths, fused):
    cell = mg.nn.LSTMCell(2, 3, rng=0)
    xs = np.random.default_rng(0).normal(size=(3, 2, 2))

    def energy(fused):
        return lambda x: (mg.unfold(cell, x, lengths=lengths, fused=fused)[0] ** 2).sum()

    def second(wrap, fused):
        return mg.grad(lambda x: (wrap(energy(fused))(x) ** 2).sum())(xs)

    plain = name.removesuffix(" within one")
    plain = "gradient" if plain in ("of a checkpoint", "of two", "within one", "both") else plain
    expected = second(WRAPPED[plain], False)
    assert np.array_equal(second(WRAPPED[name], fused), expected)
    assert np.any(expected)


def test_a_pull_after_a_step_of_an_optimiser_is_found_out():
    p = mg.nn.Parameter(np.array([1.0, 2.0]))
    model = mg.nn.Linear(2, 1, rng=0)
    _, pull = mg.vjp(lambda p: (p * p).sum(), p)
    _, pull_model = mg.vjp(lambda m: (m(np.ones(2)) ** 2).sum(), model)
    assert pull(np.array(1.0))[0].data.tolist() == [2.0, 4.0]
    optimizer = mg.optim.SGD([p, *model.parameters()], lr=0.1)
    ((p * p).sum() + (model(np.ones(2)) ** 2).sum()).backward()
    optimizer.step()
    for late in (pull, pull_model):
        with pytest.raises(mg.GradientError, match="written to since"):
            late(np.array(1.0))
    _, again = mg.vjp(lambda p: (p * p).sum(), p)
    assert again(np.array(1.0))[0].data.tolist() == (2 * p.data).tolist()
