import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples.multilinear import check_multilinear

import minigrad as mg
from minigrad import kernels
from minigrad.backward import gradients
from minigrad.graph import registry
from minigrad.ops.linear import RowSum, products, row_sums

sizes = st.integers(0, 5)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
native = pytest.mark.native


def whole(seed, *shape):
    """Integers: sums of their products are exact in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)


@given(sizes, sizes, sizes)
def test_products_are_exact_for_integers(m, k, n):
    a, b, s, c = whole(0, m, k), whole(1, k, n), whole(2, n), whole(3, m, n)
    assert (kernels.matmul(a, b) == a @ b).all()
    assert (kernels.affine(a, b.T, s) == a @ b + s).all()
    assert (products(a, c, a[:1], c[:1]) == a.T @ c + a[:1].T @ c[:1]).all()
    assert (row_sums(a, a[:1]) == a.sum(axis=0) + a[:1].sum(axis=0)).all()


@given(st.integers(1, 4), st.integers(1, 4))
def test_operands_may_lie_in_memory_in_any_order(m, n):
    a, b = whole(0, m, 3), whole(1, 3, n)
    expected = a @ b
    for left in (np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2], a[::-1].copy()[::-1]):
        for right in (np.asfortranarray(b), b[:, ::-1].copy()[:, ::-1]):
            assert (kernels.matmul(left, right) == expected).all()


def test_a_column_of_ones_is_a_row_sum():
    g = whole(0, 3, 2)
    assert (RowSum.total([RowSum(g), RowSum(g[:1])]) == g.sum(0) + g[0]).all()


def test_the_gradient_of_a_bias_is_gathered():
    x, w = whole(0, 4, 3), whole(1, 2, 3)
    b = mg.tensor(np.zeros(2), requires_grad=True)
    (mg.affine(x, w, b) + mg.affine(x[:2], w, b).sum()).sum().backward()
    assert b.grad.data.tolist() == [4.0 + 8 * 2, 4.0 + 8 * 2]


def test_a_start_for_every_row_gets_the_cotangent_itself():
    start = mg.tensor(whole(0, 2, 4), requires_grad=True)
    g = whole(1, 2, 4)
    mg.affine(whole(2, 2, 3), whole(3, 4, 3), start).backward(g)
    assert (start.grad.data == g).all()


# Vectors, matrices, stacks that broadcast, in NumPy's own words.
factors = hnp.mutually_broadcastable_shapes(
    signature=np.matmul.signature, max_dims=2, min_side=0, max_side=3
)


@contextlib.contextmanager
def small_products(most):
    """Products go the short way up to so many elements of the right matrix."""
    before, kernels.SMALL_PRODUCT = kernels.SMALL_PRODUCT, most
    try:
        yield
    finally:
        kernels.SMALL_PRODUCT = before


# All the short way, all the long way, and short only for stacks of the smallest.
ways = pytest.mark.parametrize("most", [kernels.SMALL_PRODUCT, -1, 4])


@ways
@given(factors)
def test_matmul_is_that_of_numpy_to_the_third_derivative(most, shapes):
    with small_products(most):
        check_multilinear(mg.matmul, np.matmul, *shapes.input_shapes)


@native  # the twins promise no bits
@dtypes
@ways
@given(factors, st.integers(0, 999))
def test_a_row_of_a_stack_is_the_row_alone(dtype, most, shapes, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=s).astype(dtype) for s in shapes.input_shapes)
    a, b = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    with small_products(most):
        out = mg.matmul(a, b)
    stack = out.shape[:-2]
    a, b = (np.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b))
    for index in np.ndindex(*stack):
        for row in range(a.shape[-2]):
            alone = mg.matmul(a[index][row : row + 1], b[index])
            assert (out[index][row] == alone[0]).all()


@native
def test_rows_that_meet_the_same_matrix_make_one_product(monkeypatch):
    shapes = []
    gemm = kernels._gemm
    monkeypatch.setattr(
        kernels, "_gemm", lambda a, b, *rest: shapes.append((a.shape, b.shape)) or gemm(a, b, *rest)
    )
    merged, one = ((10, 3), (3, 4)), ((2, 3), (3, 4))
    for a, b, calls in [
        *(((5, 2, 3), (3, 4), [merged]), ((5, 2, 3), (1, 3, 4), [merged])),
        *(((2, 5, 2, 3), (2, 1, 3, 4), [merged] * 2), ((5, 2, 3), (3,), [((10, 3), (3, 1))])),
        *(((2, 3), (5, 3, 4), [one] * 5), ((5, 1, 2, 3), (1, 4, 3, 4), [one] * 20)),
        ((0, 2, 3), (0, 3, 4), []),
    ]:
        shapes.clear()
        with small_products(-1):
            out = mg.matmul(np.ones(a), np.ones(b))
        assert out.shape == np.matmul(np.ones(a), np.ones(b)).shape
        assert shapes == calls
    shapes.clear()
    a, b = np.ones((3000, 1, 4)), np.ones((3000, 4, 1))
    assert (mg.matmul(a, b) == 4).all()
    assert shapes == []  # a stack of small matrices is a loop in C


def test_whole_numbers_stay_whole_and_become_floats_beside_floats():
    a, b = np.array([[1, 2], [3, 4]]), np.array([[2, 0], [1, 1]])
    s = np.array([1, 2])
    for f, expected in [
        (lambda a, b, s: mg.matmul(a, b), a @ b),
        (lambda a, b, s: mg.affine(a, b, s), a @ b.T + s),
        (lambda a, b, s: mg.addmm(s, a, b), s + a @ b),
    ]:
        for x, y, z, dtype in [
            *((a, b, s, np.int64), (a.astype(np.float32), b, s, np.float64)),
            *((a, b.astype(np.float64), s, np.float64), (a, b.tolist(), s.tolist(), np.int64)),
        ]:
            got = f(x, y, z)
            assert got.dtype == dtype
            assert (got == expected).all()
            t = f(mg.tensor(a, dtype=np.float32), b, s)
            assert (t.dtype, t.data.tolist()) == (np.float32, expected.tolist())
    assert mg.matmul(a > 1, b > 0).tolist() == ((a > 1) @ (b > 0)).tolist()
    assert mg.matmul(mg.tensor(a), mg.tensor(b)).dtype == np.int64
    assert mg.matmul(mg.tensor(a > 1), mg.tensor(b, dtype=np.float32)).dtype == np.float32
    x = mg.tensor(a, dtype=np.float32, requires_grad=True)
    assert mg.addmm(0.5, x, b).dtype == mg.addmm(1, x.data, x.data).dtype == np.float32


@native
@pytest.mark.parametrize("most", [kernels.SMALL_PRODUCT, -1])
@given(*[st.integers(0, 4)] * 3, st.integers(0, 999))
def test_addmm_is_affine_with_the_other_matrix_transposed(most, m, k, n, seed):
    rng = np.random.default_rng(seed)
    g = rng.normal(size=(m, n))
    x, w = rng.normal(size=(m, k)), rng.normal(size=(n, k))
    for shape in [(n,), (m, n)]:
        start = rng.normal(size=shape)
        leaves = [[mg.tensor(a, requires_grad=True) for a in (start, x, w)] for _ in range(2)]
        with small_products(most):
            out = mg.addmm(leaves[0][0], leaves[0][1], leaves[0][2].T)
        outs = (out, mg.affine(leaves[1][1], leaves[1][2], leaves[1][0]))
        grads = [gradients([o], t, [g]) for o, t in zip(outs, leaves, strict=True)]
        assert (outs[0].data == outs[1].data).all()
        for a, b in zip(*grads, strict=True):
            assert a.shape == b.shape
            assert (a == b).all()


@pytest.fixture
def gathered(monkeypatch):
    """How many operands each call of `products` and of `row_sums` is given."""
    calls = []
    for name in ("products", "row_sums"):
        op = registry[name]

        def counted(*xs, name=name, forward=op.forward):
            calls.append((name, len(xs)))
            return forward(*xs)

        monkeypatch.setattr(op, "forward", counted)
    return calls


STEPS = {
    "x @ w": (lambda w, b, h: mg.matmul(h, w), (2, 3), [("products", 8)]),
    "x @ w, x a vector": (lambda w, b, h: mg.matmul(h, w), (3,), [("products", 8)]),
    "w @ x, x a vector": (lambda w, b, h: mg.matmul(w, h), (3,), [("products", 8)]),
    "w @ x, x a stack": (lambda w, b, h: mg.matmul(w, h), (2, 3, 2), [("products", 8)]),
    "addmm": (lambda w, b, h: mg.addmm(b, h, w), (2, 3), [("products", 8), ("row_sums", 4)]),
    "affine": (lambda w, b, h: mg.affine(h, w, b), (2, 3), [("products", 8), ("row_sums", 4)]),
    "dot": (lambda w, b, h: mg.dot(h, w), (2, 2, 3), [("products", 8)]),
    "tensordot": (lambda w, b, h: mg.tensordot(h, w, 1), (2, 2, 3), [("products", 8)]),
    "einsum": (lambda w, b, h: mg.einsum("...i,ij->...j", h, w), (2, 2, 3), [("products", 8)]),
}


@pytest.mark.parametrize("name", STEPS)
def test_products_of_a_weight_shared_over_time_are_gathered(gathered, name):
    step, shape, calls = STEPS[name]
    w, b = (mg.tensor(whole(i, *s), requires_grad=True) for i, s in enumerate([(3, 3), (3,)]))
    own = [mg.tensor(w.data, requires_grad=True) for _ in range(4)]  # one for each step
    for weights in ([w] * 4, own):
        gathered.clear()
        h = mg.tensor(whole(2, *shape))
        for v in weights:
            h = step(v, b, h)
        h.sum().backward()
        assert weights is own or sorted(gathered) == calls
    assert (w.grad.data == sum(v.grad.data for v in own)).all()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda x: mg.matmul(x, np.ones((2, 4))),
            mg.ShapeError,
            "matmul: the inner sizes of its arguments\n"
            "  expected (..., M, K) and (..., K, N), got (2, 3) and (2, 4)\n"
            "  remedy: transpose one side, or check which axis is contracted",
        ),
        (
            lambda x: mg.matmul(np.ones((2, 2, 3)), np.ones((3, 3, 2))),
            mg.ShapeError,
            "matmul: the stacks of its arguments\n"
            "  expected shapes that broadcast but for their last two axes, "
            "got (2, 2, 3) and (3, 3, 2)\n"
            "  remedy: put in axes of length 1 where one side is to be repeated",
        ),
        (
            lambda x: mg.addmm(np.ones(4), x, np.ones((2, 4))),
            mg.ShapeError,
            "addmm: x and y\n"
            "  expected (..., K) and (K, N), got (2, 3) and (2, 4)\n"
            "  remedy: transpose one side, or check which axis is contracted",
        ),
        (
            lambda x: mg.addmm(np.ones(3), x, np.ones((3, 3, 4))),
            mg.ShapeError,
            "addmm: x and y\n"
            "  expected (..., K) and (K, N), got (2, 3) and (3, 3, 4)\n"
            "  remedy: transpose one side, or check which axis is contracted",
        ),
        (
            lambda x: mg.addmm(np.ones(3), x, np.ones((3, 4))),
            mg.ShapeError,
            "addmm: start\n"
            "  expected a shape that broadcasts to (2, 4), got (3,)\n"
            "  remedy: give a number, an entry for each column of y, or one for each of the result",
        ),
        (
            lambda x: mg.addmm(np.ones((1, 2, 4)), x.data, np.ones((3, 4))),
            mg.ShapeError,
            "addmm: start\n"
            "  expected a shape that broadcasts to (2, 4), got (1, 2, 4)\n"
            "  remedy: give a number, an entry for each column of y, or one for each of the result",
        ),
        (
            lambda x: mg.matmul(x, np.ones((3, 2), np.float32)),
            mg.DtypeError,
            "matmul: argument 1\n"
            "  expected float64 like the arguments before it, got float32\n"
            "  remedy: convert one side, for example with .astype(np.float64)",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_three_lines(call, error, text):
    with pytest.raises(error) as caught:
        call(mg.tensor(np.ones((2, 3)), requires_grad=True))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (2, 3)), ((3,), (2,)), ((), (2,)), ((2, 2, 3), (4, 4))]
)
def test_inner_sizes_that_differ(a, b):
    with pytest.raises(mg.ShapeError, match="matmul: the inner sizes"):
        mg.matmul(mg.tensor(np.ones(a)), np.ones(b))


def test_stacks_that_do_not_fit():
    with pytest.raises(mg.ShapeError, match="matmul"):
        mg.matmul(mg.tensor(np.ones((2, 2, 3))), np.ones((3, 3, 2)))


@pytest.mark.parametrize(
    ("shapes", "culprit"),
    [
        (((2, 3), (4, 2), (4,)), "affine: x and weight"),
        (((2, 3), (3,), (4,)), "affine: x and weight"),
        (((2, 3), (5, 4, 3), (4,)), "affine: x and weight"),
        (((2, 3), (4, 3), (3,)), "affine: start"),
        (((2, 3), (4, 3), (1, 4)), "affine: start"),
        (((2, 3), (4, 3), ()), "affine: start"),
    ],
)
def test_an_affine_map_that_does_not_fit(shapes, culprit):
    with pytest.raises(mg.ShapeError, match=culprit):
        mg.affine(mg.tensor(np.ones(shapes[0])), *(np.ones(s) for s in shapes[1:]))


def test_products_of_unequal_rows():
    with pytest.raises(mg.ShapeError, match="products: pair 1"):
        products(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), np.ones((1, 3)))


def test_rows_that_are_not_there():
    for wrong in ([4], [-5]):
        with pytest.raises(mg.ShapeError, match="scatter_rows: index"):
            kernels.scatter_rows(np.array(wrong), np.ones((1, 2)), (4, 2))


def test_rows_are_added_in_order():
    g = np.array([[2.0**53], [1.0], [1.0]])
    index = np.array([1, 1, -1])
    assert kernels.scatter_rows(index, g, (2, 1)).tolist() == [[0.0], [2.0**53]]
    assert kernels.scatter_rows(index, g[::-1], (2, 1)).tolist() == [[0.0], [2.0**53 + 2]]
