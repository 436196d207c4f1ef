"""Conventions at kinks and edges, where derivatives do not decide; powers; clip; dtypes.

The gradients at kinks are PyTorch's, save where a line says otherwise.
"""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import ops
from minigrad.graph import registry
from minigrad.ops import activations, elementwise, logic
from minigrad.testing.example import LAYOUTS, lay, signed

NAN, INF = math.nan, math.inf
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def gradient(f, *args):
    return mg.grad(lambda *a: f(*a).sum(), argnums=tuple(range(len(args))))(*args)


def gradients_at(f, points, cotangent=None):
    """The gradients at columns of numbers, for given cotangents, as lists."""
    leaves = [mg.tensor(np.array(p, float), requires_grad=True) for p in points]
    out = f(*leaves)
    out.backward(np.ones(out.shape) if cotangent is None else np.array(cotangent, float))
    return [t.grad.data.tolist() for t in leaves]


def pairs(*of):
    """Pairs (x, y) as a column of x and a column of y."""
    return [list(column) for column in zip(*of, strict=True)]


def assert_equal(got, expected):
    np.testing.assert_array_equal(np.array(got), np.array(expected))


# --- the family as a whole -----------------------------------------------------------------------


@pytest.mark.parametrize("module", [elementwise, activations, logic], ids=lambda m: m.__name__)
def test_every_op_has_a_line_that_speaks_of_its_gradient(module):
    own = {name: f for name, f in vars(module).items() if isinstance(f, mg.Op)}
    assert own
    for op in own.values():
        assert "radient" in op.__doc__, op.name


def test_second_names():
    assert (mg.abs, mg.mod, mg.true_divide) == (mg.absolute, mg.remainder, mg.divide)


def test_functions_that_numpy_has_carry_its_name():
    ours = {"erf", "gelu", "leaky_relu", "elu", "relu", "silu", "sigmoid", "softplus"}
    public = {
        name
        for module in (elementwise, activations, logic)
        for name in vars(module)
        if name in ops.__all__
    }
    assert {name for name in public if not hasattr(np, name)} == ours


# Each line: a function of a float32 tensor, with numbers or float64 scalars beside it.
F32 = [
    lambda t: mg.power(2, t),
    lambda t: mg.power(2.5, t),
    lambda t: mg.power(t, 3),
    lambda t: mg.power(t, 0),
    lambda t: mg.power(t, np.float64(1.5)),
    lambda t: mg.power(t, np.array([2, 0, 1])),
    lambda t: mg.remainder(t, 2) + mg.remainder(3.0, t),
    lambda t: mg.hypot(t, 1) * mg.arctan2(t, 2) * mg.arctan2(0.5, t),
    lambda t: mg.maximum(t, 1.0) * mg.minimum(1, t),
    lambda t: mg.clip(t, 0, np.float64(1)) * mg.clip(t, None, 5) * mg.clip(t, a_min=0.25),
    lambda t: mg.logaddexp(t, 0) * mg.logaddexp(np.float64(1), t),
    lambda t: mg.where(t > 1, t, 0.5) * mg.where(t > 1, np.float64(2), t),
    lambda t: mg.leaky_relu(t - 1, np.float64(0.5)) * mg.elu(t - 1, np.float64(0.5)),
    lambda t: mg.gelu(t) * mg.gelu(t, "tanh") * mg.silu(t) * mg.erf(t),
    lambda t: mg.exp2(t) * mg.log2(t) * mg.log10(t) * mg.arcsinh(t) * mg.reciprocal(t),
]


@pytest.mark.parametrize("f", F32, ids=range(len(F32)))
def test_a_number_beside_a_float32_tensor_leaves_its_dtype(f):
    x = mg.tensor(np.array([0.5, 1.0, 1.75], np.float32), requires_grad=True)
    y = f(x)
    assert y.dtype == np.float32
    y.sum().backward(create_graph=True)
    first, x.grad = x.grad, None
    assert first.dtype == np.float32
    if first.requires_grad:
        (first * x).sum().backward()
        assert x.grad.dtype == np.float32


def test_a_number_beside_a_float32_tensor_is_differentiated_too():
    x = mg.tensor(np.array([-1.0, 0.0, 2.0], np.float32), requires_grad=True)
    y = mg.maximum(x, 0.0) + mg.where(x > 1, x, 0.5)
    assert (y.dtype, y.data.tolist()) == (np.float32, [0.5, 0.5, 4.0])
    y.sum().backward()
    assert (x.grad.dtype, x.grad.data.tolist()) == (np.float32, [0.0, 0.5, 2.0])


# --- kinks ---------------------------------------------------------------------------------------


@FLOATS
def test_kinks(dtype):
    zero, one = np.zeros(1, dtype), np.ones(1, dtype)
    (g,) = gradient(mg.absolute, zero)
    assert (g.tolist(), g.dtype) == ([0.0], dtype)
    for f in (mg.maximum, mg.minimum):
        for g in gradient(f, one, one):
            assert (g.tolist(), g.dtype) == ([0.5], dtype)
    assert [g.tolist() for g in gradient(mg.maximum, one, zero)] == [[1.0], [0.0]]
    assert [g.tolist() for g in gradient(mg.minimum, one, zero)] == [[0.0], [1.0]]


def test_a_nan_in_maximum_and_minimum_takes_the_value_and_leaves_both_gradients():
    x, y = pairs((NAN, 1.0), (1.0, NAN), (NAN, NAN), (INF, INF))
    for f in (mg.maximum, mg.minimum):
        assert_equal(f(np.array(x), np.array(y)), [NAN, NAN, NAN, INF])
        assert gradients_at(f, [x, y]) == [[1.0, 1.0, 1.0, 0.5]] * 2


def test_what_is_not_taken_gets_nothing_even_of_a_nan():
    x, y = [1.0, 2.0], [2.0, 1.0]
    bad = [NAN, 3.0]
    assert_equal(gradients_at(mg.maximum, [x, y], bad), [[0.0, 3.0], [NAN, 0.0]])
    assert_equal(gradients_at(mg.minimum, [x, y], bad), [[NAN, 0.0], [0.0, 3.0]])
    clip = lambda x: mg.clip(x, 0.0, 1.5)  # noqa: E731
    assert gradients_at(clip, [[2.0, 1.0]], bad) == [[0.0, 3.0]]
    assert gradients_at(clip, [[-2.0, 1.0]], [INF, 3.0]) == [[0.0, 3.0]]


def test_nan_does_not_leak_from_the_branch_not_taken():
    x = mg.tensor([1.0, np.nan, np.inf], requires_grad=True)
    taken = np.array([True, False, False])
    y = mg.where(taken, x, 7.0)
    y.backward(np.array([3.0, np.nan, np.inf]))
    assert y.data.tolist() == [1.0, 7.0, 7.0]
    assert x.grad.data.tolist() == [3.0, 0.0, 0.0]
    z = mg.tensor([0.0, 0.0, 0.0], requires_grad=True)
    mg.where(taken, x.detach(), z).backward(np.array([np.nan, 5.0, 6.0]))
    assert z.grad.data.tolist() == [0.0, 5.0, 6.0]


def test_gradients_at_the_origin():
    x, y = pairs((0.0, 0.0), (-0.0, 0.0), (3.0, 4.0), (0.0, -2.0))
    assert gradients_at(mg.hypot, [x, y]) == [
        [0.0, 0.0, 0.6, 0.0],
        [0.0, 0.0, 0.8, -1.0],
    ]  # not NaN
    assert gradients_at(mg.arctan2, [x, y]) == [[0.0, 0.0, 0.16, -0.5], [0.0, 0.0, -0.12, 0.0]]


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (mg.sqrt, 0.0, INF),
        (mg.log, 0.0, INF),
        (mg.log2, 0.0, INF),
        (mg.log10, 0.0, INF),
        (mg.log1p, -1.0, INF),
        (mg.arcsin, 1.0, INF),
        (mg.arcsin, -1.0, INF),
        (mg.arccos, 1.0, -INF),
        (mg.arccos, -1.0, -INF),
        (mg.arccosh, 1.0, INF),
        (mg.reciprocal, 0.0, -INF),
        (mg.power, (0.0, 0.5), INF),
        (mg.power, (0.0, -1.0), -INF),
    ],
)
def test_an_infinite_gradient_is_inf(f, x, expected):
    x, *rest = x if isinstance(x, tuple) else (x,)
    with np.errstate(all="ignore"):
        assert gradients_at(lambda t: f(t, *rest), [[x]]) == [[expected]]


def test_a_remainder_has_the_sign_of_the_divisor_and_its_gradient():
    # 1 / 0.1 is 10 in floats, and yet 0.1 goes into 1 nine times only: 0.1 is a little more.
    x, y = pairs((5.0, 3.0), (-5.0, 3.0), (5.0, -3.0), (-5.0, -3.0), (1.0, 0.1))
    assert mg.remainder(np.array(x), np.array(y)).tolist()[:4] == [2.0, 1.0, -1.0, -2.0]
    ones, quotients = gradients_at(mg.remainder, [x, y])
    assert (ones, quotients) == ([1.0] * 5, [-1.0, 2.0, 2.0, -1.0, -9.0])


# --- the same numbers, the same bits -------------------------------------------------------------

UNARY = [
    *(mg.absolute, mg.reciprocal, mg.square, mg.sqrt, mg.negative, mg.positive),
    *(mg.exp, mg.exp2, mg.expm1, mg.log, mg.log2, mg.log10, mg.log1p, mg.erf),
    *(mg.sin, mg.cos, mg.tan, mg.arcsin, mg.arccos, mg.arctan),
    *(mg.sinh, mg.cosh, mg.tanh, mg.arcsinh, mg.arccosh, mg.arctanh),
    *(mg.sigmoid, mg.softplus, mg.relu, mg.leaky_relu, mg.elu, mg.silu, mg.gelu),
]
PAIRED = [
    *(mg.add, mg.subtract, mg.multiply, mg.divide, mg.remainder, mg.maximum, mg.minimum),
    *(mg.hypot, mg.power, mg.arctan2, mg.logaddexp),
]
SPECIAL = [0.0, -0.0, NAN, INF, -INF, 1.0, -1.0, 0.5, 2.0, 5e-324, 1e-40, 800.0, 1e5, -1e22]


def numbers(shape, dtype, seed, place):
    """Of all sizes, some special, some alike."""
    rng = np.random.default_rng([seed, place])
    x = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3, shape)
    few = rng.choice(SPECIAL, shape)
    return np.where(rng.random(shape) < 0.25, few, x).astype(dtype)


def laid(x, layout):
    if layout != "misaligned":
        return lay(x, layout)
    held = np.ndarray(x.shape, x.dtype, bytearray(x.nbytes + 1), 1)
    held[...] = x
    return held


def assert_bits(got, expected):
    np.testing.assert_array_equal(got, expected)
    numbers = ~np.isnan(expected)  # the sign of a NaN means nothing
    np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(expected)[numbers])


def values_and_gradients(f, args, g):
    with np.errstate(all="ignore"):
        leaves = [mg.tensor(a, requires_grad=True) for a in args]
        out = f(*leaves)
        out.backward(g)
        return [f(*args), out.data, *[t.grad.data for t in leaves]]


shapes = st.one_of(
    st.tuples(st.integers(0, 70)),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@pytest.mark.parametrize(
    "f", [*UNARY, *PAIRED], ids=lambda f: f.name if isinstance(f, mg.Op) else f.__name__
)
@FLOATS
@settings(max_examples=1 + settings().max_examples // 4)  # of each of 72
@given(
    shape=shapes,
    layouts=st.lists(st.sampled_from([*LAYOUTS, "misaligned"]), min_size=3, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_layout_and_place_change_no_bit(f, dtype, shape, layouts, seed):
    n = 2 if f in PAIRED else 1
    args = [laid(numbers(shape, dtype, seed, i), layouts[i]) for i in range(n)]
    g = laid(np.asarray(signed(shape, seed), dtype), layouts[2])
    found = values_and_gradients(f, args, g)
    plain = values_and_gradients(f, [np.array(a, order="C") for a in args], np.array(g, order="C"))
    for a, b in zip(found, plain, strict=True):
        assert_bits(a, b)
    for k in range(shape[0] if shape else 0)[:: 1 + (shape or (0,))[0] // 8]:
        # a row alone, as a batch of one
        row = values_and_gradients(f, [a[k : k + 1] for a in args], g[k : k + 1])
        for a, b in zip(row, plain, strict=True):
            assert_bits(a, b[k : k + 1])


@FLOATS
@pytest.mark.parametrize("wide", [1, 2, 7])
@pytest.mark.parametrize("exponent", [-1.0, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_a_power_is_the_same_in_a_row_alone(wide, exponent, dtype):
    """NumPy computes x^-1, x^(1/2), x^2 otherwise where the exponent has a stride of 0."""
    x = np.abs(numbers((60, wide), dtype, 0, 0))
    x = np.where((x > 1e-6) & (x < 1e6), x, 1.25).astype(dtype)
    for y in (np.full((60, 1), exponent, dtype), np.full((60, wide), exponent, dtype)):
        every = values_and_gradients(mg.power, [x, y], np.ones_like(x))
        for k in range(60):
            part = [a[k : k + 1] for a in (x, y)]
            for a, b in zip(values_and_gradients(mg.power, part, np.ones((1, wide), dtype)), every,
                            strict=True):  # fmt: skip
                assert_bits(a, b[k : k + 1])
    shared = np.full((1, 1), exponent, dtype)
    every = mg.power(x, shared)
    for k in range(60):
        assert_bits(mg.power(x[k : k + 1], shared), every[k : k + 1])


# --- large and small arguments -------------------------------------------------------------------


def test_large_arguments_stay_finite():
    big = np.array([-1e4, 1e4])
    assert mg.tanh(big).tolist() == [-1.0, 1.0]
    assert mg.erf(big).tolist() == [-1.0, 1.0]
    assert mg.exp(big).tolist() == [0.0, np.inf]
    assert mg.log(np.array([0.0])).tolist() == [-np.inf]
    assert np.isnan(mg.log(np.array([-1.0]))).all()
    for f in (mg.tanh, mg.erf):
        assert gradient(f, big)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("f", "points", "expected"),
    [
        # The textbook's formulas lose all digits in these places, or overflow.
        (mg.expm1, [-50.0], [math.exp(-50)]),
        (mg.arcsin, [1 - 2**-40], [1 / math.sqrt(2**-39 * (1 - 2**-41))]),
        (mg.arccos, [1 - 2**-40], [-1 / math.sqrt(2**-39 * (1 - 2**-41))]),
        (mg.arctanh, [1 - 2**-40], [1 / (2**-39 * (1 - 2**-41))]),
        (mg.arccosh, [1 + 2**-40], [1 / math.sqrt(2**-39 * (1 + 2**-41))]),
        (mg.arcsinh, [1e200], [1e-200]),
        (mg.arccosh, [1e200], [1e-200]),
        (mg.hypot, [3e200, 4e200], [0.6, 0.8]),
        (mg.hypot, [3e-200, 4e-200], [0.6, 0.8]),
        (mg.arctan2, [1e200, 1e200], [5e-201, -5e-201]),
        (mg.arctan2, [1e-200, 1e-200], [5e199, -5e199]),
        (mg.log1p, [1e-17], [1.0]),
    ],
)
def test_gradients_keep_their_digits(f, points, expected):
    got = gradients_at(f, [[p] for p in points])
    np.testing.assert_allclose([g for (g,) in got], expected, rtol=2e-15)


# --- powers --------------------------------------------------------------------------------------


def derivatives(f, x, orders):
    """f, f', f'', ... at the number x."""
    values = [float(f(mg.tensor(x)).data)]
    for _ in range(orders):
        f = mg.grad(f)
        values.append(float(f(mg.tensor(x)).data))
    return values


@pytest.mark.parametrize("x", [-2.0, -0.5, 0.0, 3.0])
@pytest.mark.parametrize("p", [0, 1, 2, 3, 4, 5, 2.0, 3.0, 0.0])
@pytest.mark.parametrize("array", [False, True], ids=["number", "array"])
def test_whole_powers_have_all_derivatives_everywhere(x, p, array):
    exponent = np.array(float(p)) if array else p
    n = int(p)
    falling = [math.perm(n, k) * x ** (n - k) if k <= n else 0.0 for k in range(4)]
    # 0 e^t keeps a path to t at every order.
    assert derivatives(lambda t: mg.power(t, exponent) + 0 * mg.exp(t), x, 3) == falling


@pytest.mark.parametrize("x", [-2.0, 0.5])
def test_negative_powers(x):
    assert derivatives(lambda t: t**-1, x, 3) == [1 / x, -1 / x**2, 2 / x**3, -6 / x**4]
    assert derivatives(lambda t: t**-2.0, x, 2) == [1 / x**2, -2 / x**3, 6 / x**4]


def test_powers_at_edges():
    x, y = pairs(
        (0.0, 0.0), (0.0, 1.0), (0.0, 2.0), (NAN, 0.0), (INF, 0.0), (-2.0, 2.0), (2.0, 0.0)
    )
    to_x, to_y = gradients_at(mg.power, [x, y])
    assert to_x == [0.0, 1.0, 0.0, 0.0, 0.0, -4.0, 0.0]
    assert_equal(to_y, [0.0, 0.0, 0.0, NAN, INF, NAN, np.log(2.0)])
    with np.errstate(divide="ignore"):
        assert gradients_at(lambda y: mg.power(0, y), [[-1.0]]) == [[-INF]]
    for tiny in (5e-324, -5e-324, 0.0, INF, NAN):
        assert gradients_at(lambda x: mg.power(x, np.zeros(1)), [[tiny]]) == [[0.0]]
        assert gradients_at(lambda x: mg.power(x, 0), [[tiny]]) == [[0.0]]


def test_the_mixed_derivative_where_the_exponent_is_zero():
    """d/dy d/dx x^y = x^(y-1) (1 + y log x): 1 / x at y = 0, where the gradient in x is 0."""
    x, y = mg.tensor([2.0, 4.0], requires_grad=True), mg.tensor([0.0, 0.0], requires_grad=True)
    mg.power(x, y).sum().backward(create_graph=True)
    slope, y.grad = x.grad, None
    assert slope.data.tolist() == [0.0, 0.0]
    slope.sum().backward()
    assert y.grad.data.tolist() == [0.5, 0.25]


@FLOATS
@pytest.mark.parametrize("x", [-2.0, 0.0, 3.0, 1e-30])
def test_a_square_is_a_product_to_the_bit(dtype, x):
    x = np.array([x / 3], dtype)
    for y in (mg.tensor(x) ** 2, mg.tensor(x) ** 2.0, mg.square(mg.tensor(x))):
        assert (y.data == x * x).all() and y.dtype == dtype
    for y in (mg.power(x, 1), mg.power(x, 1.0)):
        assert y == x and y.dtype == dtype and not np.shares_memory(x, y)


@pytest.mark.parametrize("p", [1, 2, 2.0])
def test_a_square_does_not_rest_on_the_pow_of_the_platform(p, monkeypatch):
    def forbidden(*args):
        raise AssertionError("pow was called")

    monkeypatch.setattr(elementwise, "_pow", forbidden)
    x = mg.tensor([3.0], requires_grad=True)
    y = x**p
    y.sum().backward()
    assert (y.item(), x.grad.item()) == (3.0**p, p * 3.0 ** (p - 1))
    with pytest.raises(AssertionError, match="pow was called"):
        x**3


def test_powers_of_a_number():
    y = mg.tensor([0.0, 1.0, -2.0], requires_grad=True)
    out = mg.power(2, y)
    assert out.data.tolist() == [1.0, 2.0, 0.25]
    out.sum().backward()
    assert y.grad.data.tolist() == [x * float(mg.log(np.array(2.0))) for x in (1.0, 2.0, 0.25)]
    assert mg.power(2, 3) == 8 and mg.power(np.arange(3), 2).tolist() == [0, 1, 4]
    assert (
        mg.power(np.arange(3), 2).dtype.kind == "i" and mg.power(np.arange(3), 2.0).dtype == float
    )


def test_integers_to_a_negative_power_are_refused():
    for x in (np.array([2]), mg.tensor([2])):
        with pytest.raises(
            mg.UsageError, match=r"^power: integers to a negative power\n.*\n.*astype"
        ):
            mg.power(x, -1)
    with pytest.raises(mg.ShapeError, match=r"^power: .*\n.*\(2,\), \(3,\)"):
        mg.power(mg.tensor([1.0, 2.0]), np.ones(3))
    with pytest.raises(mg.ShapeError, match=r"^power: "):
        mg.power(mg.tensor([1, 2]), np.array([1, 2, 3]))
    assert mg.power(2.0, -1) == mg.power(mg.tensor([2.0]), -1).item() == 0.5


# --- clip ----------------------------------------------------------------------------------------


def test_clip_at_its_bounds():
    x = [-2.0, -1.0, 0.0, 1.0, 2.0, NAN]
    assert gradients_at(lambda x: mg.clip(x, -1.0, 1.0), [x]) == [[0.0, 1.0, 1.0, 1.0, 0.0, 0.0]]
    assert gradients_at(lambda x: mg.clip(x, -1.0), [x]) == [[0.0, 1.0, 1.0, 1.0, 1.0, 0.0]]
    assert gradients_at(lambda x: mg.clip(x, None, 1.0), [x]) == [[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]]
    assert gradients_at(lambda x: mg.clip(x), [x]) == [[1.0] * 5 + [0.0]]
    assert gradients_at(lambda x: mg.clip(x), [[INF, -INF]]) == [[1.0, 1.0]]


def test_exactly_one_argument_of_clip_gets_the_gradient():
    grid = [-1.0, 0.0, 1.0]
    x, low, high = pairs(*((a, b, c) for a in grid for b in grid for c in grid))
    out = mg.clip(*(np.array(a) for a in (x, low, high)))
    shares = np.array(gradients_at(mg.clip, [x, low, high]))
    assert set(shares.flat) == {0.0, 1.0}
    assert (shares.sum(axis=0) == 1).all()
    # The one that gets it is the one whose value comes out.
    assert (np.array([x, low, high]).T[shares.T == 1] == out).all()


def test_clip_keeps_the_dtype_where_a_bound_is_left_out():
    for dtype in (np.int8, np.uint8, np.int64, np.uint64, np.float32):
        x = np.array([0, 3, 100], dtype)
        for low, high in [(None, 5), (1, None), (None, None), (1, 5)]:
            got, expected = mg.clip(x, low, high), np.clip(x, low, high)
            assert got.dtype == expected.dtype == mg.clip(mg.tensor(x), low, high).dtype == dtype
            assert got.tolist() == expected.tolist()
    booleans = mg.clip(np.array([True, False]), None, True)
    assert (booleans.tolist(), booleans.dtype) == ([True, False], bool)
    assert mg.clip([1, 7], None, 5).tolist() == [1, 5]


eighths = st.integers(-24, 24).map(lambda n: n / 8)


def arrays(shape):
    return hnp.arrays(np.float64, shape, elements=eighths)


@given(st.data())
def test_clip_is_numpys(data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3))
    args = [data.draw(arrays(s)) for s in shapes.input_shapes]
    expected = np.clip(*args)
    tensors = [mg.tensor(a, requires_grad=True) for a in args]
    out = mg.clip(*tensors)
    assert out.shape == expected.shape and (out.data == expected).all()
    out.sum().backward()
    assert [t.grad.shape for t in tensors] == [a.shape for a in args]
    assert sum(t.grad.data.sum() for t in tensors) == out.size


# --- broadcasting against NumPy ------------------------------------------------------------------

BINARY = {
    **{f: arrays for f in ("add", "subtract", "multiply", "maximum", "minimum")},
    **{f: arrays for f in ("hypot", "arctan2")},
}
NONZERO = ("divide", "remainder", "floor_divide", "power")


@pytest.mark.parametrize("name", [*BINARY, *NONZERO])
@given(data=st.data())
def test_values_are_numpys_for_all_shapes(name, data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
    x, y = (data.draw(arrays(s)) for s in shapes.input_shapes)
    if name in NONZERO:
        x, y = np.abs(x) + 1, np.where(y == 0, 1, y)
    expected = getattr(np, name)(x, y)
    a, b = mg.tensor(x, requires_grad=True), mg.tensor(y, requires_grad=True)
    for out in (getattr(mg, name)(x, y), getattr(mg, name)(a, b).data):
        assert out.dtype == expected.dtype and out.shape == expected.shape
        assert (out == expected).all()
    if name == "floor_divide":
        return
    getattr(mg, name)(a, b).sum().backward()
    assert (a.grad.shape, b.grad.shape) == (x.shape, y.shape)
    assert np.isfinite(a.grad.data).all() and np.isfinite(b.grad.data).all()


def test_shapes_that_do_not_broadcast_are_named():
    x = mg.tensor(np.ones((2, 3)))
    for name in ("add", "remainder", "hypot", "arctan2", "power", "maximum", "logaddexp"):
        with pytest.raises(mg.ShapeError, match=rf"^{name}: .*\n.*\(2, 3\), \(2,\)"):
            getattr(mg, name)(x, np.ones(2))
    with pytest.raises(mg.ShapeError, match=r"^clip: "):
        mg.clip(x, np.zeros(2), 1.0)
    with pytest.raises(mg.ShapeError, match=r"^where: "):
        mg.where(x > 0, x, np.zeros(2))


@given(st.data())
def test_where_is_numpys_to_the_bit(data):
    """With 0 on one side, where a mask of bits chooses, and without."""
    special = st.sampled_from([0.0, -0.0, np.nan, -np.inf, np.inf, 1.3, 5e-324, -(2.0**-149)])
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
    condition = data.draw(hnp.arrays(bool, shapes.input_shapes[0]))
    x = data.draw(hnp.arrays(np.float64, shapes.input_shapes[1], elements=special)).astype(dtype)
    x = data.draw(st.sampled_from([x, x.T.copy().T, x[..., ::-1] if x.ndim else x]))
    for c in (condition, condition * dtype(0.5)):
        for branches in [(x, 0), (0, x), (x, 0.0), (-0.0, x), (x, -x), (x, 1)]:
            expected = np.where(c, *branches)
            tensors = [mg.tensor(b) if b is x else b for b in branches]
            for got in (np.asarray(mg.where(c, *branches)), mg.where(c, *tensors).data):
                assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
                assert got.tobytes() == expected.tobytes()


def test_where_takes_three_arguments():
    with pytest.raises(TypeError, match="'x' and 'y'"):
        mg.where(mg.tensor([True, False]))


# --- astype --------------------------------------------------------------------------------------


def test_astype_moves_the_gradient_between_dtypes():
    x = mg.tensor(np.array([1.5, 2.5], np.float32), requires_grad=True)
    for y in (x.astype(np.float64), mg.astype(x, "float64")):
        assert y.dtype == np.float64
        x.grad = None
        (y * np.array([2.0, 3.0])).sum().backward()
        assert (x.grad.dtype, x.grad.data.tolist()) == (np.float32, [2.0, 3.0])


def test_rounding_to_integers_carries_no_gradient():
    x = mg.tensor([1.5], requires_grad=True)
    n = x.astype(np.int64)
    assert (n.data.tolist(), n.dtype) == ([1], np.int64)
    assert not n.requires_grad
    assert mg.astype(x, bool).data.tolist() == [True]


@pytest.mark.parametrize("dtype", [np.float16, np.complex128, "O", "U3", "nonsense", ">f8"])
def test_astype_refuses_what_minigrad_does_not_compute_with(dtype):
    for x in (np.ones(2), mg.tensor([1.0])):
        with pytest.raises(mg.DtypeError) as error:
            mg.astype(x, dtype)
        assert error.value.what == "astype: a dtype minigrad does not compute with"
        assert error.value.expected_and_got.startswith(
            "expected float32, float64, integers or booleans, got "
        )
        assert error.value.remedy == "choose np.float32 or np.float64"


def test_the_registry_names_carry_no_underscore():
    for op in registry.values():
        assert not op.name.startswith("_")
