"""The reductions: NumPy's arguments, conventions at ties and kinks, infinities, order of sums."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels, operators
from minigrad.graph import Tensor

EPS = np.finfo(np.float64).eps

# What NumPy has, under NumPy's names.
OVER_AXES = ["sum", "mean", "prod", "max", "min", "amax", "amin", "ptp", "var", "std"]
OVER_AXES += ["any", "all", "count_nonzero"]
ALONG = ["argmax", "argmin"]
SCANS = ["cumsum", "cumprod"]
FROM_SOMETHING = ["max", "min", "amax", "amin", "ptp", "argmax", "argmin"]
SECOND = ["amax", "amin"]  # second names of max and min
SOFT = ["logsumexp", "softmax", "log_softmax"]


def leaf(value, dtype=np.float64):
    return mg.tensor(value, dtype=dtype, requires_grad=True)


def assert_three_lines(error, *starts):
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    for line, start in zip(lines, starts, strict=False):
        assert start in line
    assert lines[2].startswith("  remedy: ")


# --- NumPy's arguments ---------------------------------------------------------------------------

GIVEN = {
    "float64": np.array([[0.5, -2.0, 3.0], [1.5, 0.0, 3.0]]),
    "float32": np.array([[0.5, -2.0, 3.0], [1.5, 0.0, 3.0]], np.float32),
    "integers": np.array([[1, -2, 3], [4, 0, 3]]),
    "small integers": np.array([[100, -2, 100], [100, 0, 3]], np.int8),
    "booleans": np.array([[True, False, True], [True, True, True]]),
    "list": [[1.5, 2.0], [3.0, 4.5]],
    "number": 2.5,
    "0-d": np.array(2.5),
    "vector": np.array([3.0, 1.0, 2.0]),
    "three axes": np.arange(24.0).reshape(2, 3, 4) % 7,
    "no rows": np.zeros((0, 3)),
    "NaN": np.array([[np.nan, 1.0], [2.0, 3.0]]),
}


def axes_for(name, ndim):
    yield None
    yield from range(-ndim, ndim)
    if name in OVER_AXES:
        yield ()
        yield from [(0, -1), (-1,)][ndim < 2 : 1 + (ndim > 0)]


@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("name", OVER_AXES + ALONG)
def test_what_numpy_gives(name, kind):
    x = GIVEN[kind]
    a = np.asarray(x)
    mine, numpys = getattr(mg, name), getattr(np, name)
    if kind == "booleans" and name == "ptp":
        pytest.skip("NumPy refuses to subtract booleans")
    tried = 0
    for axis in axes_for(name, a.ndim):
        axes = range(a.ndim) if axis is None else np.atleast_1d(axis).astype(int)
        of_nothing = 0 in [a.shape[i] for i in axes]
        if of_nothing and name in [*FROM_SOMETHING, "mean", "var", "std"]:
            continue  # see below
        for keepdims in (False, True):
            expected = numpys(a, axis=axis, keepdims=keepdims)
            got = mine(x, axis=axis, keepdims=keepdims)
            assert not isinstance(got, Tensor)
            assert (np.shape(got), np.asarray(got).dtype) == (
                expected.shape if isinstance(expected, np.ndarray) else (),
                np.asarray(expected).dtype,
            )
            np.testing.assert_allclose(got, expected, rtol=8 * EPS if a.itemsize > 4 else 1e-6)
            tensor = mine(mg.tensor(x), axis, keepdims)
            assert isinstance(tensor, Tensor)
            assert tensor.dtype == np.asarray(got).dtype
            np.testing.assert_array_equal(tensor.data, got)
            tried += 1
    assert tried or kind == "no rows"


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("kind", [k for k in GIVEN if k not in ("number", "0-d")])
@pytest.mark.parametrize("name", SCANS)
def test_running_sums_and_products_are_numpys(name, kind, axis):
    x = GIVEN[kind]
    expected = getattr(np, name)(x, axis=axis)
    for got in (getattr(mg, name)(x, axis), getattr(mg, name)(mg.tensor(x), axis=axis).data):
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(got, expected)


def test_running_sums_of_a_number():
    assert mg.cumsum(2.0).tolist() == np.cumsum(2.0).tolist() == [2.0]
    assert mg.cumprod(mg.tensor(3.0)).data.tolist() == [3.0]


def test_methods_are_the_functions():
    x = leaf([[1.0, 5.0, 3.0], [4.0, 2.0, 6.0]])
    mine = [*OVER_AXES, *ALONG, *SCANS]
    found = [name for name in operators._METHODS if name in mine]
    assert len(found) == 13
    for name in found:
        got = getattr(x, name)(axis=1)
        expected = getattr(x.data, name)(axis=1)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got.data, expected, rtol=4 * EPS)
        np.testing.assert_array_equal(getattr(mg, name)(x, 1).data, got.data)
        assert got.requires_grad == (name not in ("all", "any", "argmax", "argmin"))
    assert x.std(0, ddof=1).data.tolist() == np.std(x.data, 0, ddof=1).tolist()


ALL = {name: getattr(mg, name) for name in (*OVER_AXES, *ALONG, *SOFT, "norm", *SCANS)}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("axis", [2, -3, 1.5, "rows"])
def test_an_axis_that_is_not_there(name, axis):
    kind = mg.ShapeError if isinstance(axis, int) else mg.UsageError
    for x in (np.ones((2, 3)), mg.tensor(np.ones((2, 3))), leaf(np.ones((2, 3)))):
        with pytest.raises(kind) as error:
            ALL[name](x, axis=axis)
        assert_three_lines(error, f"{name.removeprefix('a') if name in SECOND else name}: axis")


@pytest.mark.parametrize("name", [name for name in ALL if name not in (*ALONG, *SCANS)])
def test_an_axis_given_twice(name):
    with pytest.raises(mg.ShapeError) as error:
        ALL[name](np.ones((2, 3)), axis=(0, -2))
    assert_three_lines(error, "an axis given twice")


@pytest.mark.parametrize("name", FROM_SOMETHING)
@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((0, 3), 0), ((2, 0), 1), ((0, 0), 0)])
def test_the_extreme_of_nothing_is_refused(name, shape, axis):
    for x in (np.ones(shape), mg.tensor(np.ones(shape)), leaf(np.ones(shape))):
        with pytest.raises(mg.ShapeError) as error:
            getattr(mg, name)(x, axis=axis)
        own = name.removeprefix("a") if name in SECOND else name
        assert_three_lines(error, f"{own}: of nothing", str(shape), "empty")


def test_nothing_to_choose_is_no_error_where_nothing_is_asked_for():
    for name in FROM_SOMETHING:
        assert getattr(mg, name)(mg.tensor(np.ones((0, 3))), axis=1).shape == (0,)


def test_the_mean_of_nothing_is_nan_and_numpy_warns():
    for name in ("mean", "var", "std"):
        with pytest.warns(RuntimeWarning, match="invalid value"):
            assert np.isnan(getattr(mg, name)(leaf(np.ones((0, 2))), axis=0).data).all()
    assert mg.sum(leaf([])).item() == 0
    assert mg.prod(leaf([])).item() == 1


@pytest.mark.parametrize("name", [*OVER_AXES[:10], *SOFT, "norm", *SCANS])
def test_float32_stays_float32(name):
    x = leaf([[1.0, 2.0, 4.0], [0.5, 3.0, 2.0]], np.float32)
    for axis in (None, 0, 1):
        out = ALL[name](x, axis=axis)
        assert out.dtype == np.float32
        assert mg.grad(lambda x, axis=axis: ALL[name](x, axis=axis).sum())(x).dtype == np.float32
        assert np.asarray(ALL[name](x.data, axis=axis)).dtype == np.float32


def test_a_shape_to_which_nothing_broadcasts():
    assert mg.broadcast_to([1.0, 2.0], (2, 2)).tolist() == [[1.0, 2.0]] * 2
    for shape in (2, (3, 2), (-1, 3), (), (2.0, 3), "rows"):
        for x in (np.ones(3), leaf(np.ones(3))):
            with pytest.raises(mg.ShapeError) as error:
                mg.broadcast_to(x, shape)
            assert_three_lines(error, "broadcast_to: shape", f"(3,) broadcasts, got {shape!r}")


# --- extremes ------------------------------------------------------------------------------------


def test_ties_share_the_gradient():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    g = mg.grad(lambda x: (x.max(axis=1) * np.array([2.0, 3.0])).sum())(x)
    assert g.tolist() == [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert mg.grad(lambda x: x.min())(np.zeros(4)).tolist() == [0.25] * 4
    assert mg.grad(mg.ptp)(np.array([3.0, 1.0, 3.0])).tolist() == [0.5, -1.0, 0.5]


def test_nans_share_the_gradient():
    for f in (mg.max, mg.min):
        x = leaf([np.nan, 1.0, np.nan])
        out = f(x)
        assert np.isnan(out.data)
        out.backward()
        assert x.grad.data.tolist() == [0.5, 0.0, 0.5]


def test_an_infinite_cotangent_reaches_the_extreme_alone():
    x = leaf([1.0, 3.0])
    x.max().backward(np.array(np.inf))
    assert x.grad.data.tolist() == [0.0, np.inf]


def test_the_first_of_equal_ones_is_found():
    x = [[2.0, 1.0, 2.0, 1.0], [np.nan, 0.0, np.nan, 9.0]]
    assert mg.argmax(x, axis=1).tolist() == [0, 0]
    assert mg.argmin(x, axis=1).tolist() == [1, 0]
    assert mg.argmin(x[0]) == 1
    assert mg.argmax(np.array(x).T, axis=0, keepdims=True).tolist() == [[0, 0]]


# --- products ------------------------------------------------------------------------------------

small = st.lists(st.integers(-3, 3), min_size=1, max_size=6)  # zeros are frequent


def product(xs):
    return float(math.prod(xs))


@given(small)
def test_the_gradient_of_a_product_is_exact_beside_zeros(xs):
    x = np.array(xs, float)
    n = range(len(xs))
    assert mg.grad(mg.prod)(x).tolist() == [product(xs[:i] + xs[i + 1 :]) for i in n]
    columns = mg.grad(lambda x: x.prod(axis=0).sum())(np.array([xs, xs], float).T)
    assert columns.T.tolist() == [mg.grad(mg.prod)(x).tolist()] * 2


@given(small)
def test_the_second_derivative_of_a_product_is_exact_beside_zeros(xs):
    x = np.array(xs, float)
    n = range(len(xs))
    for i in n:
        row = mg.grad(lambda x, i=i: mg.grad(mg.prod)(x)[i])(x)
        others = [[x for k, x in enumerate(xs) if k not in (i, j)] for j in n]
        assert row.tolist() == [product(others[j]) if j != i else 0.0 for j in n]


def test_the_third_derivative_of_a_product_beside_two_zeros():
    def second(x):
        return mg.grad(lambda x: mg.grad(mg.prod)(x)[0])(x)[2]

    x = np.array([0.0, 5.0, 0.0, 7.0, 2.0])
    assert second(x) == 5 * 7 * 2
    assert mg.grad(second)(x).tolist() == [0.0, 14.0, 0.0, 10.0, 35.0]


@given(small, st.data())
def test_the_gradient_of_running_products_is_exact_beside_zeros(xs, data):
    n = len(xs)
    g = data.draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    x = leaf(xs)
    mg.cumprod(x).backward(np.array(g, float))
    expected = [
        math.fsum(g[k] * product(xs[:i] + xs[i + 1 : k + 1]) for k in range(i, n)) for i in range(n)
    ]
    assert x.grad.data.tolist() == expected


@given(small)
def test_a_product_is_the_last_of_the_running_products_to_second_order(xs):
    x = np.array(xs, float)
    v = np.arange(1.0, len(xs) + 1)
    for f in (mg.prod, lambda x: mg.cumprod(x)[-1]):
        slope = mg.grad(lambda x, f=f: (mg.grad(f)(x) * v).sum())(x)
        n = range(len(xs))
        assert slope.tolist() == [
            math.fsum(
                v[i] * product([x for k, x in enumerate(xs) if k not in (i, j)])
                for i in n
                if i != j
            )
            for j in n
        ]


def test_a_long_product_does_not_divide_by_what_it_is_made_of():
    """The usual out / x is 0 / 0 where the product underflows, or 0 where an element is small."""
    x = np.array([1e-200, 1e-200, 2.0])
    assert mg.prod(x) == 0.0
    assert mg.grad(mg.prod)(x).tolist() == [2e-200, 2e-200, 0.0]


# --- means and spreads ---------------------------------------------------------------------------


def test_mean():
    x = mg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    assert mg.mean(x).item() == 2.5
    assert mg.mean(x, axis=0).data.tolist() == [1.5, 2.5, 3.5]
    assert mg.mean(x, axis=-1, keepdims=True).data.tolist() == [[1.0], [4.0]]
    assert mg.mean(x, axis=(0, 1)).item() == 2.5
    x.mean(axis=0).backward(np.array([2.0, 4.0, 6.0]))
    assert x.grad.data.tolist() == [[1.0, 2.0, 3.0]] * 2
    assert type(mg.mean(x.data)) is not mg.Tensor


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    value=st.floats(-1000, 1000, width=32),
    shape=st.sampled_from([(1,), (3,), (97,), (100, 3), (7, 11)]),
)
def test_equal_numbers_have_no_spread(dtype, value, shape):
    """Although their mean is not always one of them: three times 0.1 over 3 is not 0.1."""
    x = np.full(shape, value, dtype)
    for axis in (None, 0):
        assert (mg.var(x, axis=axis) == 0).all()
        assert (mg.grad(lambda x, axis=axis: mg.std(x, axis=axis).sum())(x) == 0).all()


def test_second_derivatives_where_there_is_no_spread_are_finite():
    slope = mg.grad(lambda x: mg.grad(mg.std)(x)[0])
    assert np.isfinite(slope(np.full(3, 0.1))).all()


@pytest.mark.parametrize("shift", [0.0, 2.0**30, -(2.0**40)])
def test_a_large_mean_costs_no_digit_of_the_variance(shift):
    """In eighths all steps of the two passes are exact; the mean of squares would lose them all."""
    x = np.array([1.0, 3.0, 4.0, 8.0]) / 8
    assert mg.var(x + shift) == mg.var(x)
    assert mg.var(x) == float(Fraction(1 + 9 + 16 + 64, 4 * 64) - Fraction(16, 32) ** 2)
    np.testing.assert_array_equal(mg.grad(mg.std)(x + shift), mg.grad(mg.std)(x))


@pytest.mark.parametrize("f", [mg.var, mg.std])
@pytest.mark.parametrize("ddof", [0, 1, 0.5, np.float64(1), np.int64(2)])
def test_ddof_and_correction_are_one(f, ddof):
    x = np.array([[1.0, 2.0, 4.0], [0.5, 3.0, 9.0]])
    expected = getattr(np, f.__name__)(x, axis=1, ddof=ddof)
    np.testing.assert_allclose(f(x, axis=1, ddof=ddof), expected, rtol=4 * EPS)
    assert (f(x, axis=1, ddof=ddof) == f(x, axis=1, correction=ddof)).all()
    assert f(leaf(x, np.float32), ddof=ddof).dtype == np.float32
    with pytest.raises(mg.UsageError) as error:
        f(x, ddof=1, correction=1)
    assert_three_lines(error, f"{f.__name__}: ddof and correction", "ddof=1 and correction=1")
    with pytest.raises(mg.UsageError) as error:
        f(x, correction="1")
    assert_three_lines(error, f"{f.__name__}: correction", "got '1'")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_too_few_elements_for_a_variance_give_what_numpy_gives():
    for x, ddof in (([1.0], 1), ([1.0, 2.0], 2), ([1.0, 2.0], 3)):
        np.testing.assert_equal(mg.var(x, ddof=ddof), np.var(x, ddof=ddof))
        assert not np.isfinite(mg.grad(lambda x, d=ddof: mg.var(x, ddof=d))(np.array(x))).any()


# --- softmax and its kin -------------------------------------------------------------------------


def test_softmax_and_its_kin_are_safe_from_overflow():
    x = np.array([[1000.0, 1000.0], [-1000.0, 0.0], [0.0, -np.inf]])
    assert mg.softmax(x)[1:].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert mg.logsumexp(x, axis=1)[1:].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(mg.logsumexp(x, axis=1)[0], 1000 + np.log(2), rtol=1e-15)
    assert mg.log_softmax(x)[1].tolist() == [-1000.0, 0.0]
    assert mg.logsumexp(np.full(3, -np.inf)) == -np.inf
    assert mg.logsumexp(np.array([np.inf, 0.0])) == np.inf
    assert mg.logsumexp(np.zeros((2, 0)), axis=1).tolist() == [-np.inf, -np.inf]


INF = np.inf


@pytest.mark.parametrize(
    ("x", "shares"),
    [
        ([-INF, -INF], [0.5, 0.5]),
        ([INF, 0.0], [1.0, 0.0]),
        ([INF, 7.0, INF, -INF], [0.5, 0.0, 0.5, 0.0]),
        ([-INF, 0.0], [0.0, 1.0]),
        ([np.nan, 0.0], [np.nan, np.nan]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_infinities_share(x, shares, dtype):
    """And no warning: the rows beside them are what they are alone."""
    for rows in (np.array([x], dtype), np.array([x, np.arange(len(x))], dtype)):
        np.testing.assert_array_equal(mg.softmax(rows)[0], shares)
        np.testing.assert_array_equal(mg.log_softmax(rows)[0], kernels.log(np.array(shares, dtype)))
        out = mg.logsumexp(rows, axis=1)
        np.testing.assert_array_equal(out[0], np.max(x))
        g = mg.grad(lambda x: mg.logsumexp(x, axis=1).sum())(rows)
        np.testing.assert_array_equal(g[0], shares)
        if len(rows) > 1:
            assert (mg.softmax(rows)[1] == mg.softmax(rows[1])).all()


def test_a_logsumexp_of_two_is_logaddexp_at_infinities_too():
    for pair in ([0.5, -1.0], [INF, INF], [-INF, -INF], [INF, -INF], [-INF, 3.0]):
        x, y = (np.array(v) for v in pair)
        np.testing.assert_array_equal(mg.logsumexp(pair), mg.logaddexp(x, y))
        both = mg.grad(mg.logsumexp)(np.array(pair))
        one = mg.grad(mg.logaddexp)(x, y)
        np.testing.assert_allclose(both[0], one, rtol=4 * EPS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_shift_of_all_logits_changes_no_bit(dtype):
    x = np.array([[3.0, 1.0, -2.0], [0.0, 0.0, 5.0]], dtype)
    for f in (mg.softmax, mg.log_softmax):
        assert (f(x + dtype(1000)) == f(x)).all()
    g = mg.grad(lambda x: mg.logsumexp(x, axis=1).sum())
    assert (g(x + dtype(1000)) == g(x)).all()


def test_softmax_of_integers_and_over_several_axes():
    x = np.array([[1, 2], [3, 4]])
    for t in (x, x.tolist(), mg.tensor(x)):
        assert np.asarray(mg.softmax(t)).tolist() == mg.softmax(x.astype(float)).tolist()
        np.testing.assert_allclose(np.sum(np.asarray(mg.softmax(t, axis=None))), 1, rtol=4 * EPS)
    assert (mg.softmax(x, axis=(0, 1)) == mg.softmax(x, axis=None)).all()
    assert np.isneginf(mg.logsumexp([], axis=0))


# --- norms ---------------------------------------------------------------------------------------

X = np.array([[3.0, -4.0, 0.5], [1.0, 2.0, -2.0]])
ORDERS = [None, 2, 1, 0, INF, -INF, 3, 1.5, 0.5, -1, -2.5, np.float64(3), np.int64(2)]


@pytest.mark.parametrize("ord", ORDERS, ids=repr)
@pytest.mark.parametrize("keepdims", [False, True])
def test_the_norms_of_vectors_are_numpys(ord, keepdims):
    for x, axis in [(X, 0), (X, -1), (X[0], None), (X.tolist(), (1,)), (np.array([[3, 4]]), 1)]:
        expected = np.linalg.norm(x, ord, axis, keepdims)
        got = mg.norm(x, ord, axis, keepdims)
        np.testing.assert_allclose(got, expected, rtol=8 * EPS)
        assert np.shape(got) == np.shape(expected)
        assert np.linalg.norm(leaf(x), ord, axis, keepdims).data.tolist() == np.array(got).tolist()
        single = np.asarray(x, np.float32)
        assert mg.norm(single, ord, axis, keepdims).dtype == np.float32


def test_the_norms_of_matrices_are_frobenius_only():
    x = np.arange(24.0).reshape(2, 3, 4)
    for ord, axis in [(None, (0, 2)), ("fro", (-1, 0)), (None, None)]:
        np.testing.assert_allclose(
            mg.norm(x, ord, axis), np.linalg.norm(x, ord, axis), rtol=8 * EPS
        )
    np.testing.assert_allclose(mg.norm(X, "fro"), np.linalg.norm(X, "fro"), rtol=8 * EPS)
    np.testing.assert_array_equal(mg.norm(np.array(-2.0)), 2.0)
    for ord in ("nuc", 2, -2, 1, INF, "f"):
        with pytest.raises(mg.UsageError) as error:
            mg.norm(leaf(X), ord)
        assert_three_lines(error, f"norm: ord={ord!r} of matrices", "'fro'")
    for ord in ("fro", "nuc", math.nan, [2], 1j):
        with pytest.raises(mg.UsageError) as error:
            mg.norm(X, ord, axis=1)
        assert_three_lines(error, f"norm: ord={ord!r} of vectors", "number")
    for ord, axis in [(None, (0, 1, 2)), (2, None), ("fro", None), (1, ())]:
        with pytest.raises(mg.ShapeError) as error:
            mg.norm(x, ord, axis)
        assert_three_lines(error, "norm: the number of axes", "(2, 3, 4)")


@pytest.mark.parametrize("p", [2, 3, 1.5, 0.5, -1, -2.5])
def test_the_derivatives_of_norms(p):
    """u = sign(x) |x / n|^(p-1), and H = (p-1) / n (diag |x / n|^(p-2) - u u^T)."""
    x = X[0]
    n = np.sum(np.abs(x) ** p) ** (1 / p)
    u = np.sign(x) * np.abs(x / n) ** (p - 1)
    np.testing.assert_allclose(mg.grad(lambda x: mg.norm(x, p))(x), u, rtol=40 * EPS)
    hessian = (p - 1) / n * (np.diag(np.abs(x / n) ** (p - 2)) - np.outer(u, u))
    for i in range(3):
        row = mg.grad(lambda x, i=i: mg.grad(lambda x: mg.norm(x, p))(x)[i])(x)
        scale = np.max(np.abs(hessian)) + np.max(np.abs(np.outer(u, u))) * abs((p - 1) / n)
        np.testing.assert_allclose(row, hessian[i], rtol=0, atol=80 * EPS * scale)


@pytest.mark.parametrize(
    ("p", "x", "gradient"),
    [  # PyTorch 2.13: torch.linalg.vector_norm
        *((p, [0.0, 0.0], [0.0, 0.0]) for p in (2, 1, INF, -INF, 3, 1.5, 0.5, -1)),
        *((p, [0.0, 3.0], [0.0, 1.0]) for p in (2, 1, INF, 3, 1.5, 0.5)),
        *((p, [0.0, 3.0], [0.0, 0.0]) for p in (-INF, -1)),
        *((p, [-3.0, 3.0], [-0.5, 0.5]) for p in (INF, -INF)),
        (1, [-3.0, 3.0], [-1.0, 1.0]),
        (0.5, [-3.0, 3.0], [-2.0, 2.0]),
        (-1, [-3.0, 3.0], [-0.25, 0.25]),
    ],
)
def test_the_gradient_of_a_norm_at_zeros_and_ties(p, x, gradient):
    got = mg.grad(lambda x: mg.norm(x, p))(np.array(x))
    np.testing.assert_allclose(got, gradient, rtol=4 * EPS, atol=0)
    rows = mg.grad(lambda x: mg.norm(x, p, axis=1).sum())(np.array([x, x]))
    np.testing.assert_array_equal(rows, [got, got])
    assert not mg.norm(leaf(x), 0).requires_grad


def test_a_norm_of_zero_passes_no_gradient_to_any_order():
    slope = mg.grad(lambda x: mg.grad(lambda x: mg.norm(x) * x.sum())(x).sum())
    assert np.isfinite(slope(np.zeros(3))).all()


# --- the order of sums ---------------------------------------------------------------------------

ORDERED = {
    **{name: ALL[name] for name in ("sum", "prod", "mean", "var", "std", *SOFT, "norm", *SCANS)},
    "norm 3": lambda x, axis: mg.norm(x if axis is not None else mg.ravel(x), 3, axis),
    "kernels.sum": kernels.sum,
    "kernels.prod": kernels.prod,
}


def misaligned(x):
    """A copy of x that begins at an odd address, which NumPy goes through in blocks of its own."""
    copy = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def layouts(x):
    """Arrays equal to x, which lie otherwise in memory."""
    yield np.asfortranarray(x)
    yield np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3]
    yield x[::-1].copy()[::-1]
    yield np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    yield misaligned(x)
    yield np.stack([x, x])[1]


@pytest.mark.parametrize("name", ORDERED)
@given(st.integers(1, 40), st.integers(1, 9), st.sampled_from([np.float32, np.float64]), st.data())
def test_the_order_depends_on_the_shape_alone(name, rows, columns, dtype, data):
    rng = np.random.default_rng(rows * columns)
    x = rng.normal(size=(rows, columns)).astype(dtype)
    axis = data.draw(st.sampled_from([None, 0, 1]))
    f = ORDERED[name]
    expected = f(x, axis=axis)
    for other in layouts(x):
        np.testing.assert_array_equal(f(other, axis=axis), expected)
    if name.startswith("kernels"):
        return
    slope = mg.grad(lambda x: (f(x, axis=axis) * f(x, axis=axis)).sum())
    for other in layouts(x):
        np.testing.assert_array_equal(slope(other), slope(x))


@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (3, 9_000), (9_000, 3)])
def test_the_order_of_a_long_sum_does_not_depend_on_where_it_lies(name, shape):
    """NumPy's blocks have 8192 elements."""
    x = np.random.default_rng(0).normal(1, 0.01, size=shape).astype(np.float32)
    for axis in (None, 0, 1):
        expected = ORDERED[name](x, axis=axis)
        for other in layouts(x):
            np.testing.assert_array_equal(ORDERED[name](other, axis=axis), expected)


@given(st.integers(1, 40), st.integers(1, 300))
def test_a_row_is_reduced_alone_as_among_others(rows, columns):
    x = np.random.default_rng(columns).normal(size=(rows, columns))
    for name, f in ORDERED.items():
        out = f(x, axis=1)
        for i in (0, rows - 1):
            np.testing.assert_array_equal(f(x[i : i + 1], axis=1)[0], out[i], err_msg=name)
