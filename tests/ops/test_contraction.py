"""Contractions against NumPy's, exactly on whole numbers, with derivatives up to the third."""

import string

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples.multilinear import check_multilinear

import minigrad as mg
from minigrad.backward import gradients

sides = st.sampled_from([2, 3, 1, 2, 3, 2, 3, 0])  # few sums of nothing
shapes = st.lists(sides, max_size=3).map(tuple)
vectors = st.lists(sides, min_size=1, max_size=3).map(tuple)
native = pytest.mark.native  # the twins promise no bits
few = settings(max_examples=40)  # each checks three orders of derivatives
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


# --- NumPy's products ----------------------------------------------------------------------------


@given(vectors, vectors)
@few
def test_dot(a, b):
    place = max(len(b) - 2, 0)
    b = (*b[:place], a[-1], *b[place + 1 :])
    check_multilinear(mg.dot, np.dot, a, b)


@given(vectors, vectors)
@few
def test_inner(a, b):
    check_multilinear(mg.inner, np.inner, a, (*b[:-1], a[-1]))


@given(shapes)
@few
def test_a_number_multiplies(shape):
    for mine, numpys in ((mg.dot, np.dot), (mg.inner, np.inner)):
        check_multilinear(mine, numpys, (), shape)
        check_multilinear(mine, numpys, shape, ())


@given(shapes, st.randoms())
@few
def test_vdot(shape, random):
    other = list(shape)
    random.shuffle(other)
    check_multilinear(mg.vdot, np.vdot, shape, tuple(other))


@given(shapes, shapes)
@few
def test_outer_and_kron(a, b):
    check_multilinear(mg.outer, np.outer, a, b)
    check_multilinear(mg.kron, np.kron, a, b)


@given(st.data(), shapes, shapes)
@few
def test_tensordot(data, a, b):
    n = data.draw(st.integers(0, min(len(a), len(b))))
    b_axes = data.draw(st.permutations(range(len(b))))[:n]
    a_axes = data.draw(st.permutations(range(len(a))))[:n]
    b = list(b)
    for i, j in zip(a_axes, b_axes, strict=True):
        b[j] = a[i]
    a_axes = [i - data.draw(st.sampled_from([0, len(a)])) for i in a_axes]
    b_axes = [j - data.draw(st.sampled_from([0, len(b)])) for j in b_axes]
    axes = (a_axes, tuple(b_axes))
    if n == 1 and data.draw(st.booleans()):
        axes = [a_axes[0], b_axes[0]]
    check_multilinear(
        lambda x, y: mg.tensordot(x, y, axes), lambda x, y: np.tensordot(x, y, axes), a, tuple(b)
    )


@given(st.data(), shapes, shapes)
@few
def test_tensordot_over_so_many_axes(data, a, b):
    n = data.draw(st.integers(0, min(len(a), len(b))))
    b = (*a[len(a) - n :], *b[n:])
    check_multilinear(lambda x, y: mg.tensordot(x, y, n), lambda x, y: np.tensordot(x, y, n), a, b)


def test_tensordot_takes_axes_as_arrays_and_ranges():
    x, y = np.arange(24.0).reshape(2, 3, 4), np.arange(24.0).reshape(3, 4, 2)
    expected = np.tensordot(x, y)
    for axes in (np.array(2), np.array([[1, 2], [0, 1]]), (range(1, 3), np.array([0, 1]))):
        assert (mg.tensordot(x, y, axes) == expected).all()


@given(st.data(), st.lists(sides, min_size=2, max_size=4).map(tuple))
@few
def test_trace(data, shape):
    a, b = data.draw(st.permutations(range(-len(shape), 0)))[:2]
    k = data.draw(st.integers(-2, 2))
    check_multilinear(
        lambda x: mg.trace(x, k, a, axis2=b), lambda x: np.trace(x, k, a, axis2=b), shape
    )


def test_methods():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert x.dot(x).data.tolist() == [[7.0, 10.0], [15.0, 22.0]]
    assert x.trace().item() == 5.0
    assert x.trace(offset=1).item() == 2.0


# --- einsum --------------------------------------------------------------------------------------


@st.composite
def sums(draw):
    """Subscripts, and shapes that fit them."""
    letters = draw(
        st.lists(st.sampled_from(string.ascii_letters), min_size=2, max_size=4, unique=True)
    )
    length = {c: draw(st.sampled_from([2, 2, 3, 3, 1, 0])) for c in letters}
    rest = draw(st.lists(st.sampled_from([1, 2, 3]), max_size=2))
    terms, shapes, widest = [], [], 0
    for _ in range(draw(st.integers(1, 4))):
        term = draw(st.lists(st.sampled_from(letters), max_size=3))
        one = {c for c in term if draw(st.integers(0, 5)) == 0}  # repeated along these
        shape = [1 if c in one else length[c] for c in term]
        if draw(st.integers(0, 2)) == 0:
            place, n = draw(st.integers(0, len(term))), draw(st.integers(0, len(rest)))
            more = [1 if draw(st.integers(0, 5)) == 0 else k for k in rest[len(rest) - n :]]
            term.insert(place, "...")
            shape[place:place] = more
            widest = max(widest, n)
        terms.append(term)
        shapes.append(tuple(shape))
    subscripts = ",".join(map("".join, terms))
    if draw(st.booleans()):
        given = sorted({c for term in terms for c in term} - {"..."})
        output = draw(st.permutations(given))[: draw(st.integers(0, len(given)))]
        if widest or draw(st.booleans()):
            output.insert(draw(st.integers(0, len(output))), "...")
        subscripts += "->" + "".join(output)
    if draw(st.booleans()):
        subscripts = subscripts.replace(",", " , ").replace("->", " -> ")
    return subscripts, shapes


@given(sums())
@settings(max_examples=200)
@example(("ij,jk->ik", [(2, 3), (3, 4)]))
@example(("ij,jk->ik", [(2, 1), (3, 4)]))
@example(("ij,jk->ik", [(2, 3), (1, 4)]))
@example(("aCb,bdD", [(2, 3, 2), (2, 3, 4)]))
@example(("bij,bkj->kbi", [(2, 3, 2), (1, 2, 2)]))
@example(("...ii,...i", [(2, 1, 3, 3), (3, 1)]))
@example(("i,i,i", [(3,), (1,), (3,)]))
@example(("iij,ikk,->", [(2, 2, 3), (2, 2, 2), ()]))
@example(("ij,kl,jk->il", [(2, 3), (2, 2), (3, 2)]))
@example(("iii", [(2, 2, 2)]))
@example(("Ba, aB ->", [(2, 3), (3, 2)]))
@example(("", [()]))
def test_einsum_is_that_of_numpy_to_the_third_derivative(case):
    subscripts, shapes = case
    check_multilinear(
        lambda *xs: mg.einsum(subscripts, *xs), lambda *xs: np.einsum(subscripts, *xs), *shapes
    )


def test_one_tensor_in_several_places():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    mg.einsum("ij,jk,ki->", x, x, x).backward()  # the trace of x^3
    assert (x.grad.data == 3 * (x.data @ x.data).T).all()
    assert (mg.grad(lambda x: mg.einsum("ii,jj", x, x))(x.data) == 10 * np.eye(2)).all()


# --- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("subscripts", ["ij,jk", "ij,kl->", "ij,ij->ij", "ij,jk->", "ii,jk->jk"])
@pytest.mark.parametrize("b", [np.int8, np.uint8, np.int32, np.bool_, np.float64])
@pytest.mark.parametrize("a", [np.int8, np.int16, np.bool_])
def test_whole_numbers_are_summed_as_numpy_does(subscripts, a, b):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 127, (3, 3)).astype(a), rng.integers(0, 2, (3, 3)).astype(b)
    expected = np.einsum(subscripts, x, y)
    for got in (
        mg.einsum(subscripts, x, y),
        mg.einsum(subscripts, mg.tensor(x), mg.tensor(y)).data,
    ):
        assert got.dtype == expected.dtype
        assert (got == expected).all()


def test_numbers_and_whole_numbers_take_the_dtype_of_a_tensor():
    x = mg.tensor([[1.0, 2.0]], dtype=np.float32, requires_grad=True)
    for got, expected in [
        *((mg.dot(2.5, x), [[2.5, 5.0]]), (mg.inner(x, 2), [[2.0, 4.0]])),
        *((mg.outer(x, 0.5), [[0.5], [1.0]]), (mg.kron(2.0, x), [[2.0, 4.0]])),
        *((mg.tensordot(0.5, x, 0), [[0.5, 1.0]]), (mg.einsum(",ij->j", 0.5, x), [0.5, 1.0])),
        *((mg.dot(x, np.array([1, 2])), [5.0]), (mg.dot(x, [1, 2]), [5.0])),
        *((mg.einsum("ij,j", x, [1, 2]), [5.0]), (mg.inner([3, 4], x), [11.0])),
        (mg.einsum("ij,k->i", x, np.array([100, 100], np.int8)), [600.0]),
    ]:
        assert got.dtype == np.float32
        assert got.requires_grad
        assert got.data.tolist() == expected
    with pytest.raises(mg.DtypeError, match="argument 1"):
        mg.einsum("ij,j->i", x, np.ones(2))


# --- one chain for each element ------------------------------------------------------------------


def same(products, *arrays):
    """All of them, and their gradients, have the bits of the first."""
    leaves = [[mg.tensor(a, requires_grad=True) for a in arrays] for _ in products]
    outs = [f(*ts) for f, ts in zip(products, leaves, strict=True)]
    g = np.random.default_rng(1).normal(size=outs[0].shape).astype(outs[0].dtype)
    grads = [gradients([o], ts, [g]) for o, ts in zip(outs, leaves, strict=True)]
    for out, ds in zip(outs, grads, strict=True):
        assert out.shape == outs[0].shape
        assert (out.data == outs[0].data).all()
        for d, e in zip(ds, grads[0], strict=True):
            assert (d == e).all()


@native
@dtypes
@given(*[st.integers(1, 9)] * 4, st.integers(0, 999))
@few
def test_a_contraction_has_the_bits_of_matmul(dtype, b, m, k, n, seed):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(dtype)

    matrices = [
        *(mg.matmul, mg.dot, lambda x, y: mg.einsum("ij,jk->ik", x, y)),
        *(lambda x, y: mg.tensordot(x, y, 1), lambda x, y: mg.einsum("ij,jk", x, y)),
        *(lambda x, y: mg.addmm(0.0, x, y), lambda x, y: mg.inner(x, y.T)),
        *(lambda x, y: mg.einsum("ji,jk", x.T, y), lambda x, y: mg.einsum("ab,cb->ac", x, y.T)),
        lambda x, y: mg.einsum("ij,jk->ki", x, y).T,
    ]
    same(matrices, normal(m, k), normal(k, n))
    same([mg.matmul, mg.dot, mg.inner, mg.vdot, lambda x, y: mg.einsum("i,i", x, y)],
         normal(k), normal(k))  # fmt: skip
    rows = [
        *(mg.matmul, mg.dot, lambda x, w: mg.einsum("bti,ij->btj", x, w)),
        *(lambda x, w: mg.einsum("...i,ij", x, w), lambda x, w: mg.tensordot(x, w, (2, 0))),
    ]
    same(rows, normal(b, m, k), normal(k, n))
    stacks = [
        *(mg.matmul, lambda x, y: mg.einsum("bij,bjk->bik", x, y)),
        lambda x, y: mg.stack([mg.einsum("ij,jk", p, q) for p, q in zip(x, y, strict=True)]),
    ]
    same(stacks, normal(b, m, k), normal(b, k, n))
    several = [
        lambda x, y: mg.matmul(x.reshape(b, -1), y.reshape(-1, n)),
        lambda x, y: mg.einsum("bij,ijn->bn", x, y),
        *(mg.tensordot, lambda x, y: mg.tensordot(x, y, ((1, 2), (0, 1)))),
    ]
    same(several, normal(b, m, k), normal(m, k, n))
    in_turn = [lambda x, y, z: (x @ y) @ z, lambda x, y, z: mg.einsum("ij,jk,kl->il", x, y, z)]
    same(in_turn, normal(m, k), normal(k, n), normal(n, b))


@native
@pytest.mark.parametrize("subscripts", ["aij,ibk->jk", "aij,iak->ajk", "aij,kbj->", "aij,iak->aj"])
def test_a_layout_in_memory_changes_no_bit(subscripts):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 5, 5)), rng.normal(size=(5, 5, 5))
    expected = mg.einsum(subscripts, x, y)
    layouts = [
        *(np.asfortranarray, lambda a: a[::-1].copy()[::-1], lambda a: np.repeat(a, 2, 1)[:, ::2])
    ]
    for first in layouts:
        for second in layouts:
            assert (mg.einsum(subscripts, first(x), second(y)) == expected).all()


# --- what is refused -----------------------------------------------------------------------------

A, B = np.ones((2, 3)), np.ones((4, 5))

MESSAGES = [
    (
        lambda: mg.dot(A, B), mg.ShapeError,
        "dot: the lengths of the axes that are summed",
        "expected the same length, got 3 for axis 1 of (2, 3) and 4 for axis 0 of (4, 5)",
        "transpose one side, or check which axis is contracted",
    ),
    (
        lambda: mg.inner(A, B), mg.ShapeError,
        "inner: the lengths of the axes that are summed",
        "expected the same length, got 3 for axis 1 of (2, 3) and 5 for axis 1 of (4, 5)",
        "transpose one side, or check which axis is contracted",
    ),
    (
        lambda: mg.vdot(A, B), mg.ShapeError,
        "vdot: the lengths of the axes that are summed",
        "expected the same length, got 6 for axis 0 of (6,) and 20 for axis 0 of (20,)",
        "transpose one side, or check which axis is contracted",
    ),
    (
        lambda: mg.tensordot(A, B, ((0, 1), (0, 1))), mg.ShapeError,
        "tensordot: the lengths of the axes that are summed",
        "expected the same length, got 2 for axis 0 of (2, 3) and 4 for axis 0 of (4, 5)",
        "transpose one side, or check which axis is contracted",
    ),
    (
        lambda: mg.tensordot(A, B, (2, 0)), mg.ShapeError,
        "tensordot: axis 2",
        "expected an axis of an array that has 2, got 2",
        "axes count from 0, or from -1 backwards",
    ),
    (
        lambda: mg.tensordot(A, A, ((0, -2), (0, 1))), mg.ShapeError,
        "tensordot: an axis given twice",
        "expected different axes, got (0, -2) of an array that has 2",
        "name each axis once",
    ),
    (
        lambda: mg.tensordot(A, A, ((0, 1), 0)), mg.ShapeError,
        "tensordot: axes",
        "expected as many axes of each, got 2 of x and 1 of y",
        "name the axes of x and those of y in pairs",
    ),
    (
        lambda: mg.tensordot(A, A, 3), mg.ShapeError,
        "tensordot: axes",
        "expected 0 to 2 for shapes (2, 3) and (2, 3), got 3",
        "it is the number of axes that are summed",
    ),
    (
        lambda: mg.tensordot(A, A, -1), mg.ShapeError,
        "tensordot: axes",
        "expected 0 to 2 for shapes (2, 3) and (2, 3), got -1",
        "it is the number of axes that are summed",
    ),
    (
        lambda: mg.tensordot(A, A, (0, 1, 2)), mg.UsageError,
        "tensordot: axes",
        "expected a whole number, or the axes of x and those of y, got (0, 1, 2)",
        "write axes=2, or axes=((1, 2), (0, 1))",
    ),
    (
        lambda: mg.tensordot(A, A, 1.5), mg.UsageError,
        "tensordot: axes",
        "expected a whole number, or the axes of x and those of y, got 1.5",
        "write axes=2, or axes=((1, 2), (0, 1))",
    ),
    (
        lambda: mg.tensordot(A, A, ((0.5,), (0,))), mg.UsageError,
        "tensordot: axis",
        "expected a whole number, got 0.5",
        "pass an int, or a tuple of them where the function takes several",
    ),
    (
        lambda: mg.trace(A[0]), mg.ShapeError,
        "trace: of an array without matrices",
        "expected two axes or more, got shape (3,)",
        "use sum for a vector",
    ),
    (
        lambda: mg.trace(A, axis1=0, axis2=-2), mg.ShapeError,
        "trace: an axis given twice",
        "expected different axes, got (0, -2) of an array that has 2",
        "name each axis once",
    ),
    (
        lambda: mg.einsum("ij,jk->ik", A, B), mg.ShapeError,
        "einsum: the lengths of 'j' in 'ij,jk->ik'",
        "expected one length, got 3 and 4 in shapes (2, 3), (4, 5)",
        "transpose an operand, or give another letter to one of the axes",
    ),
    (
        lambda: mg.einsum("ii", A), mg.ShapeError,
        "einsum: the lengths of 'i' in 'ii'",
        "expected one length, got 2 and 3 in shapes (2, 3)",
        "transpose an operand, or give another letter to one of the axes",
    ),
    (
        lambda: mg.einsum("ii", A[:1]), mg.ShapeError,
        "einsum: the lengths of 'i' in 'ii'",
        "expected one length, got 1 and 3 in shapes (1, 3)",
        "transpose an operand, or give another letter to one of the axes",
    ),
    (
        lambda: mg.einsum("...,...", A, B), mg.ShapeError,
        "einsum: the lengths of '...' in '...,...'",
        "expected one length, got 2 and 4 in shapes (2, 3), (4, 5)",
        "transpose an operand, or give another letter to one of the axes",
    ),
    (
        lambda: mg.einsum("ijk,j", A, A[0]), mg.ShapeError,
        "einsum: operand 0 of 'ijk,j'",
        "expected an array with axes 'ijk', got shape (2, 3)",
        "give a letter for each axis; ... stands for all others",
    ),
    (
        lambda: mg.einsum("j,i", A[0], A), mg.ShapeError,
        "einsum: operand 1 of 'j,i'",
        "expected an array with axes 'i', got shape (2, 3)",
        "give a letter for each axis; ... stands for all others",
    ),
    (
        lambda: mg.einsum("i...jk", A), mg.ShapeError,
        "einsum: operand 0 of 'i...jk'",
        "expected an array with axes 'i...jk', got shape (2, 3)",
        "give a letter for each axis; ... stands for all others",
    ),
    (
        lambda: mg.einsum("ij,jk", A), mg.UsageError,
        "einsum: the subscripts 'ij,jk'",
        "expected an operand for each of 2 terms, got 1",
        "separate the terms of the operands by commas",
    ),
    (
        lambda: mg.einsum("i1", A), mg.UsageError,
        "einsum: the subscripts 'i1'",
        "expected letters, and '...' at most once in each operand, got 'i1'",
        'write for example "ij,jk->ik", or "...ij,...jk->...ik"',
    ),
    (
        lambda: mg.einsum("ij->ii", A), mg.UsageError,
        "einsum: the subscripts 'ij->ii'",
        "expected each letter of the output once and in an operand, got 'i' twice",
        "sum over a letter by leaving it out of the output",
    ),
    (
        lambda: mg.einsum("ij->ik", A), mg.UsageError,
        "einsum: the subscripts 'ij->ik'",
        "expected each letter of the output once and in an operand, got 'k' in none",
        "sum over a letter by leaving it out of the output",
    ),
    (
        lambda: mg.einsum("i...->i", A), mg.UsageError,
        "einsum: the subscripts 'i...->i'",
        "expected '...' in the output, for axes that have no letter",
        "write ... in the output, or give these axes letters and leave those out",
    ),
    (
        lambda: mg.einsum(A, [0, 1], B, [2, 3]), mg.UsageError,
        "einsum: the subscripts",
        "expected a string, got ndarray",
        'write for example einsum("ij,jk->ik", x, y)',
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case[2])
def test_messages(case):
    call, error, *lines = case
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == "{}\n  {}\n  remedy: {}".format(*lines)


@pytest.mark.parametrize(
    "subscripts",
    [
        *("i-", "i->j->i", "i->>", "..i", "....i", "...i...", "é", "\ti", "i;", "i->i,", "i."),
        *("->...i...", "i,", ",ij->ij"),
    ],
)
def test_what_numpy_cannot_read_is_refused(subscripts):
    with pytest.raises((ValueError, UnicodeError)):
        np.einsum(subscripts, np.ones((3, 3)))
    with pytest.raises(mg.UsageError, match="einsum: the subscripts"):
        mg.einsum(subscripts, np.ones((3, 3)))


def test_numpys_other_arguments_are_refused():
    x = mg.tensor(A, requires_grad=True)
    with pytest.raises(mg.UsageError, match="optimize"):
        np.einsum("ij->i", x, optimize=True)
    with pytest.raises(mg.UsageError, match="expected a string, got Tensor"):
        np.einsum(x, [0, 1])
