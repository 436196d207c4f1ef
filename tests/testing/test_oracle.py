"""The oracle: the truth lies inside its bar, kinks are found, and nothing is believed unseen."""

import threading

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.graph import Tensor, registry
from minigrad.testing import oracle
from minigrad.testing.oracle import (
    estimate,
    lent,
    numerical_jacobian,
    numerical_jvp,
    one_sided,
    rounding,
)

FEW = (
    1 + settings().max_examples // 5
)  # points of each of many tests: more where a profile has more


def chain(x):
    h = 0 * x
    for _ in range(20):
        h = 0.9 * h + 0.5 * np.tanh(x + h)
    return h


def chain_slope(x):
    h = d = mpmath.mpf(0)
    for _ in range(20):
        t = mpmath.tanh(x + h)
        h, d = 0.9 * h + 0.5 * t, mpmath.mpf(0.9) * d + (1 - t * t) * (1 + d) / 2
    return d


# The function, its derivative in many digits, and from where to where.
FUNCTIONS = {
    "tanh": (np.tanh, lambda x: mpmath.sech(x) ** 2, (-6, 6)),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: mpmath.sech(x / 2) ** 2 / 4, (-12, 12)),
    "log": (np.log, lambda x: 1 / x, (1e-3, 5)),
    "sin, far": (np.sin, mpmath.cos, (900, 1100)),
    "cube": (lambda x: x * x * x, lambda x: 3 * x * x, (5e3, 2e4)),
    "1e6 + tanh": (lambda x: 1e6 + np.tanh(x), lambda x: mpmath.sech(x) ** 2, (-3, 3)),
    "1/x": (lambda x: 1 / x, lambda x: -1 / x**2, (0.01, 3)),
    "sqrt": (np.sqrt, lambda x: 1 / (2 * mpmath.sqrt(x)), (1e-6, 1)),
    "exp": (np.exp, mpmath.exp, (-30, 30)),
    "steep": (lambda x: np.tanh(1e4 * x), lambda x: 1e4 * mpmath.sech(1e4 * x) ** 2, (-3e-4, 3e-4)),
    "chain": (chain, chain_slope, (-2, 2)),
}


def along(f, x, method="auto", t=1.0):
    """The estimate for a function of one number."""
    return numerical_jvp(f, (np.asarray(x, float),), (np.full(np.shape(x), t),), method=method)


def inside(e, truth):
    return bool(np.all(np.abs(e.value - truth) <= e.error))


@pytest.mark.parametrize("method", ["differences", "auto"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_truth_lies_inside_the_bar(name, method):
    f, slope, (low, high) = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    with mpmath.workdps(40):
        for x in rng.uniform(low, high, FEW):
            e = along(f, x, method)
            truth = slope(mpmath.mpf(float(x)))
            assert abs(mpmath.mpf(float(e.value)) - truth) <= e.error, x
            assert not e.kink
            if method == "auto":
                assert e.method == "complex step"
                assert e.error <= 1e-9 * max(1, abs(e.value))


def softmax(x):
    e = np.exp(x - x.real.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normed(x):
    c = x - x.mean(-1, keepdims=True)
    return c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)


@pytest.mark.parametrize("f", [softmax, normed, lambda x: np.prod(x, -1), lambda x: np.cos(9 * x)])
def test_differences_of_vectors_cover_the_complex_step(f):
    rng = np.random.default_rng(0)
    for _ in range(30):
        x = rng.normal(size=(2, 8)) * 10 ** rng.uniform(-2, 1.5)
        t = rng.uniform(0.5, 1.5, x.shape) * rng.choice([-1, 1], x.shape)
        sharp, rough = (numerical_jvp(f, (x,), (t,), method=m) for m in ("auto", "differences"))
        assert (sharp.method, rough.method) == ("complex step", "differences")
        assert np.all(np.abs(sharp.value - rough.value) <= sharp.error + rough.error)


def test_entries_that_move_by_other_last_bits_have_honest_bars():
    """Where x is 0, every step is exact; where it is 1, it is rounded to the last bits of 1."""
    y, x = np.eye(1, 8)[0], np.repeat([1.0, 0.0], 4)
    rng = np.random.default_rng(0)
    with lent():
        for _ in range(FEW):
            u = rng.uniform(0.5, 1.5, 8)
            (e,) = estimate(lambda y, x: (mg.arctan2(y, x),), [y, x], [u, None])
            truth = u[:4] / (1 + y[:4] ** 2)
            assert np.all(np.abs(e.value[:4] - truth) <= e.error[:4] + np.spacing(truth))


STAIRS = {
    "1 - tanh^2": (lambda x: 1 - np.tanh(x) ** 2, 1.0),
    "sigmoid'": (lambda x: 1 / (1 + np.exp(-2 * x)) * (1 - 1 / (1 + np.exp(-2 * x))), 0.25),
    "times a number": (lambda x: 0.7 * (1 - np.tanh(x) ** 2), 0.7),
}


@pytest.mark.parametrize("method", ["differences", "auto"])
@pytest.mark.parametrize("name", STAIRS)
def test_a_staircase_is_not_believed(name, method):
    """1 - y^2 for y near 1 is a multiple of 2^-53: its plateaus have derivatives of their own."""
    f, scale = STAIRS[name]
    rng = np.random.default_rng(0)
    with mpmath.workdps(60):
        for x, t in [(14.92, 1.0), *rng.uniform((8, 0.5), (15, 1.5), (FEW, 2))]:
            e = along(f, x, method, t)
            z = mpmath.mpf(float(x))
            truth = float(-2 * scale * t * mpmath.sech(z) ** 2 * mpmath.tanh(z))
            assert abs(e.value - truth) <= e.error + abs(np.spacing(truth)), (x, t)
            assert not e.kink


# --- kinks ---------------------------------------------------------------------------------------


def bent(x):
    return np.maximum(x, 0) + 0.1 * np.sin(x)


@pytest.mark.parametrize("method", ["differences", "auto"])
@pytest.mark.parametrize(("d", "kink"), [
    (0.0, True), (1e-8, True), (1e-6, True), (1e-5, True),
    (1e-4, False), (1e-3, False), (1e-2, False),
])  # fmt: skip
def test_the_table_of_kinks(d, kink, method):
    e = along(bent, d, method)
    assert bool(e.kink) == kink
    assert inside(e, 1 + 0.1 * np.cos(d))


NEAR = {
    "corner": (bent, lambda x: (x > 0) + 0.1 * np.cos(x)),
    "small corner": (lambda x: x + 1e-4 * np.abs(x), lambda x: 1 + 1e-4 * np.sign(x)),
    "two": (lambda x: np.abs(x) + np.abs(x - 1e-3), lambda x: np.sign(x) + np.sign(x - 1e-3)),
    "hat": (lambda x: np.clip(x, -1e-4, 1e-4), lambda x: float(abs(x) < 1e-4)),
    "jump": (lambda x: np.sign(x) + x * x, lambda x: 2 * x),
    "floor": (lambda x: np.floor(x) + x / 2, lambda x: 0.5),
    "root": (lambda x: np.sqrt(np.abs(x)), lambda x: np.sign(x) / (2 * np.sqrt(abs(x)))),
    "pole": (lambda x: 1 / x, lambda x: -1 / x**2),
}


@pytest.mark.parametrize("method", ["differences", "auto"])
@pytest.mark.parametrize("name", NEAR)
@settings(max_examples=FEW)
@given(exponent=st.floats(-8, -1), sign=st.sampled_from([-1, 1]))
def test_near_a_kink_it_is_right_or_says_so(name, method, exponent, sign):
    f, slope = NEAR[name]
    x = sign * 10**exponent
    e = along(f, x, method)
    assert e.kink or inside(e, slope(x) * (1 + np.sign(e.value - slope(x)) * 1e-15))


@pytest.mark.parametrize("f", [np.sign, np.floor, lambda x: np.sqrt(np.abs(x)), lambda x: x > 0])
def test_nothing_is_known_at_a_jump(f):
    e = along(f, 0.0)
    assert e.kink or e.error == np.inf


def test_a_kink_is_one_of_its_entry():
    e = along(lambda x: np.maximum(x, 0) + 0 * x, [0.0, 1.0, -1.0])
    assert e.kink.tolist() == [True, False, False]
    assert e.value[1:].tolist() == [1.0, 0.0] and np.all(e.error[1:] < 1e-14)


def test_one_sided_derivatives_at_a_corner_and_at_a_smooth_point():
    left, right = one_sided(
        lambda x: (np.abs(x) + np.exp(x),), [np.array([0.0, 1.0])], [np.ones(2)]
    )
    assert inside(left[0], [0, 1 + np.e]) and inside(right[0], [2, 1 + np.e])
    assert np.all(left[0].error < 1e-6) and np.all(right[0].error < 1e-6)


@pytest.mark.parametrize("method", ["differences", "auto"])
@pytest.mark.parametrize("power", [2, 3, 5, 9])
def test_a_flat_power_at_zero_is_flat(power, method):
    e = along(lambda x: x**power, 0.0, method)
    assert inside(e, 0.0) and not e.kink and e.error < 1e-14


def test_the_domain_ends():
    assert inside(along(np.log, 1e-5, "differences"), 1e5)
    assert along(np.log, -1.0).error == np.inf
    assert along(np.sqrt, 0.0).error == np.inf


# --- the complex step is not believed unseen -----------------------------------------------------


@pytest.mark.parametrize(("f", "slope"), [
    (lambda x: np.abs(x) * x, lambda x: 2 * np.abs(x)),
    (lambda x: x.real * x, lambda x: 2 * x),
    (lambda x: np.conj(x) * x * x, lambda x: 3 * x * x),
    (lambda x: x.astype(np.float64) * x, lambda x: 2 * x),
    (lambda x: np.where(np.abs(x) > 0, np.real(x), 0) + x, lambda x: 2 + 0 * x),
])  # fmt: skip
def test_a_complex_step_that_lies_is_found_out(f, slope):
    x = np.array([1.5, -0.75])
    e = along(f, x)
    assert e.method == "differences" and inside(e, slope(x))


def test_a_complex_step_cannot_always_be_had():
    with pytest.raises(mg.errors.UsageError, match="complex step: of a function") as error:
        along(lambda x: np.floor(x) + x, 0.5, "complex step")
    assert len(str(error.value).splitlines()) == 3


def test_what_was_confirmed_before_takes_few_calls():
    assert along(np.tanh, 0.5, "complex step").evaluations == 2 + oracle.WIGGLES


# --- forms ---------------------------------------------------------------------------------------


def test_several_outputs_integers_and_numbers():
    def f(x, i, y):
        return x[i] * y, (x.sum(), np.zeros((0, 3)))

    x, i, y = np.array([1.0, 2.0, 3.0]), np.array([2, 0]), 4.0
    one, two, three = numerical_jvp(f, (x, i, y), (np.array([1.0, 0.0, -1.0]), None, 0.5))
    assert inside(one, [-4 + 1.5, 4 + 0.5]) and inside(two, 0.0)
    assert (two.value.shape, three.value.shape) == ((), (0, 3))


def test_what_does_not_move_has_no_derivative():
    e = numerical_jvp(lambda x, y: x * y, (np.ones(2), np.ones(2)), (None, np.zeros(2)))
    assert (e.value.tolist(), e.error.tolist(), e.evaluations) == ([0, 0], [0, 0], 1)


def test_functions_in_float32():
    f = lambda x: np.tanh(np.float32(3) * x.astype(np.float32))  # noqa: E731
    e = along(f, [0.1, 0.2], "differences")
    assert inside(e, 3 / np.cosh(3 * np.array([0.1, 0.2])) ** 2) and np.all(e.error < 1e-3)


def test_functions_of_tensors_and_their_parameters():
    x = np.array([0.5, -1.0])
    assert inside(along(lambda x: mg.erf(x).detach(), x), 2 / np.sqrt(np.pi) * np.exp(-x * x))
    w = mg.tensor([2.0, 3.0], requires_grad=True)
    assert inside(along(lambda x: w * x, x), [2, 3])


def test_the_jacobian_of_a_matrix_is_the_matrix():
    m = np.arange(6.0).reshape(2, 3)
    e = numerical_jacobian(lambda y, x: m @ x, (1.0, np.ones((3, 2))), -1)
    assert e.value.shape == (2, 2, 3, 2) and e.method == "complex step"
    assert inside(e, np.einsum("ij,kl->ikjl", m, np.eye(2)))
    empty = numerical_jacobian(lambda x: np.zeros(2), (np.zeros((0, 3)),))
    assert empty.value.shape == empty.kink.shape == (2, 0, 3)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: a[::-1], lambda a: a[:, ::2]])
def test_nothing_given_is_written(layout):
    x = layout(np.arange(1.0, 13).reshape(3, 4))
    t = np.ones(x.shape)
    x.flags.writeable = t.flags.writeable = False
    assert inside(numerical_jvp(lambda x: x**3, (x,), (t,)), 3 * x**2)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scales_change_nothing(scale):
    x = np.array([0.3, 2.0])
    plain, long = along(np.tanh, x), along(np.tanh, x, t=scale)
    assert np.all(np.abs(long.value / scale - plain.value) <= plain.error)
    small = along(lambda x: scale * np.tanh(x), x)
    assert small.method == "complex step" and inside(small, scale / np.cosh(x) ** 2)


@pytest.mark.parametrize(("call", "what"), [
    (lambda: numerical_jvp(np.sin, np.ones(2), (np.ones(2),)), "primals"),
    (lambda: numerical_jvp(np.sin, (np.ones(2),), ()), "tangents"),
    (lambda: numerical_jvp(np.sin, (np.ones(2),), (np.ones(3),)), "tangent 0"),
    (lambda: numerical_jvp(np.sin, (np.ones(2, int),), (np.ones(2),)), "tangent 0"),
    (lambda: numerical_jvp(np.sin, (np.ones(2),), (np.full(2, np.nan),)), "tangent 0"),
    (lambda: numerical_jvp(np.sin, (1j,), (1.0,)), "primal 0"),
    (lambda: numerical_jvp(np.sin, (1.0,), (1.0,), method="guess"), "method"),
    (lambda: numerical_jvp(str, (1.0,), (1.0,)), "what the function returns"),
    (lambda: numerical_jacobian(np.sin, (1.0,), 1), "argnum"),
    (lambda: numerical_jacobian(np.sin, (1,)), "argument 0"),
])  # fmt: skip
def test_errors_have_three_lines(call, what):
    with pytest.raises(mg.errors.MinigradError, match=what) as error:
        call()
    assert len(str(error.value).splitlines()) == 3


# --- ops and cells -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", oracle.ANALYTIC)
def test_lent_forwards_are_given_back(name):
    own = registry[name].forward
    x = np.array([0.5, -30.0, 3.0])
    with pytest.raises(ZeroDivisionError), lent(), lent():
        assert registry[name].forward is not own
        raise ZeroDivisionError
    assert registry[name].forward is own
    if name in ("absolute", "erf"):
        with lent():
            assert registry[name](x).tobytes() == own(x).tobytes()


def test_lent_in_several_threads():
    before = {name: op.forward for name, op in registry.items()}

    def borrow():
        for _ in range(50):
            with lent():
                pass

    threads = [threading.Thread(target=borrow) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {name: op.forward for name, op in registry.items()} == before


@pytest.mark.parametrize(("f", "xs"), [
    (lambda x, y: mg.arctan2(x, y), ([1.0, -2.0, 3.0], [-1.0, 0.5, 0.0])),
    (lambda x, y: mg.hypot(x, y), ([1.0, -2.0, 1e-3], [-1.0, 0.5, 7.0])),
    (lambda x, y: mg.remainder(x, y), ([5.5, -2.25, 3.5], [2.0, 0.5, 1.0])),
    (lambda x, y: mg.erf(x) * mg.abs(y), ([8.0, -40.0, 0.0], [1.0, -1.0, 2.0])),
    (lambda x, y: mg.astype(x, np.float64) * mg.sign(y), ([8.0, -4.0, 0.5], [1.0, -1.0, 2.0])),
])  # fmt: skip
def test_ops_with_lent_forwards_take_the_complex_step(f, xs):
    xs = tuple(np.array(x) for x in xs)
    ts = (np.ones(3), np.full(3, -0.5))
    e = numerical_jvp(f, xs, ts)
    rough = numerical_jvp(f, xs, ts, method="differences")
    assert (e.method, rough.method) == ("complex step", "differences")
    smooth = ~(e.kink | rough.kink)
    assert np.all((np.abs(e.value - rough.value) <= e.error + rough.error)[smooth])


@pytest.mark.parametrize("cell", [mg.nn.RNNCell, mg.nn.LSTMCell, mg.nn.GRUCell])
@pytest.mark.parametrize("given_state", [False, True])
def test_unfolded_cells_take_complex_arrays(cell, given_state):
    cell = cell(2, 3, rng=0)
    xs = np.random.default_rng(0).normal(size=(4, 2, 2))
    start = cell.initial_state(2, np.float64) if given_state else None
    names = [name for name, _ in cell.named_parameters()]
    weights = [p.data for _, p in cell.named_parameters()]

    def forward(xs, *weights):
        for name, w in zip(names, weights, strict=True):
            object.__setattr__(cell, name, Tensor.at(w, None))
        state = start
        if state is not None and xs.dtype.kind == "c":
            lift = lambda s: Tensor.at(s.data + 0j, None)  # noqa: E731
            state = tuple(map(lift, state)) if isinstance(state, tuple) else lift(state)
        return (mg.unfold(cell, Tensor.at(xs, None), state, fused=False)[0].data,)

    arrays, tangents = [xs, *weights], [np.ones(a.shape) for a in (xs, *weights)]
    (e,) = estimate(forward, arrays, tangents, forward)
    (rough,) = estimate(forward, arrays, tangents)
    assert (e.method, rough.method) == ("complex step", "differences")
    assert np.all(np.abs(e.value - rough.value) <= e.error + rough.error)


def test_rounding_sees_a_billionth_in_one_entry():
    g = np.ones(1000)
    assert rounding(np.float64, 1000, g, g, size=1000.0) < 1e-9
    assert rounding(np.float32, 1, size=1.0) == 8 * 2.0**-24
    # tanh' at 30 is 0 in floating point: an absolute error that the floor must take in
    assert 4 * np.exp(-60.0) < rounding(np.float64, 1, np.zeros(1))
