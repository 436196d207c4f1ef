"""Operators and methods of tensors, and what NumPy's own functions do with them."""

import copy
import operator
import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import operators
from minigrad.graph import Tensor


def leaf(value, dtype=np.float64):
    return mg.tensor(value, dtype=dtype, requires_grad=True)


# --- Python's operators --------------------------------------------------------------------------

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv]
ARRAY = np.array([[1.0, 2.0], [4.0, 8.0]])


@pytest.mark.parametrize("op", [*BINARY, operator.matmul], ids=lambda op: op.__name__)
@pytest.mark.parametrize("other", [ARRAY.T, mg.tensor(ARRAY.T)], ids=["array", "tensor"])
def test_binary_operators_in_both_orders(op, other):
    x = leaf(ARRAY)
    plain = other.data if isinstance(other, Tensor) else other
    for left, right, a, b in [(x, other, ARRAY, plain), (other, x, plain, ARRAY)]:
        y = op(left, right)
        assert isinstance(y, Tensor)
        assert y.requires_grad
        assert (y.data == op(a, b)).all()


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
@pytest.mark.parametrize("number", [3, 2.5, np.float64(2.5)], ids=lambda n: type(n).__name__)
def test_numbers_in_both_orders(op, number):
    x = leaf([1.0, 2.0])
    assert (op(x, number).data == op(x.data, number)).all()
    y = op(number, x)
    assert isinstance(y, Tensor)
    assert (y.data == op(number, x.data)).all()


@pytest.mark.parametrize(
    ("op", "gradient"),
    [(operator.sub, -1.0), (operator.truediv, -8.0 / 4), (operator.add, 1.0), (operator.mul, 8.0)],
    ids=lambda p: getattr(p, "__name__", ""),
)
def test_gradients_of_reflected_operators(op, gradient):
    for left in (8.0, np.array([8.0])):
        x = leaf([2.0])
        op(left, x).sum().backward()
        assert x.grad.data.tolist() == [gradient]


def test_unary_operators():
    x = leaf([-2.0, 3.0])
    y = abs(-x) * x**2
    assert y.data.tolist() == [8.0, 27.0]
    y.sum().backward()
    assert x.grad.data.tolist() == [-12.0, 27.0]  # 3 x |x|


def test_augmented_assignment_makes_a_new_tensor():
    x = leaf([1.0])
    y = x
    y += 1
    assert x.data.tolist() == [1.0]
    assert y.data.tolist() == [2.0]
    with pytest.raises(mg.UsageError, match=r"never written into\n.*\n.*mg\.where"):
        x[0] = 3.0


def test_a_tensor_as_exponent_gets_its_gradient():
    x = leaf([2.0, 3.0])
    for call in (lambda: x**x, lambda: np.power(x, x)):
        x.grad = None
        y = call()
        assert y.data.tolist() == [4.0, 27.0]
        y.sum().backward()  # x^x (1 + log(x))
        np.testing.assert_allclose(x.grad.data, y.data * (1 + np.log(x.data)), rtol=4e-16)


@pytest.mark.parametrize(
    "op", [operator.lt, operator.le, operator.gt, operator.ge], ids=lambda op: op.__name__
)
def test_comparisons(op):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
    for left, right in [(leaf(a), b), (a, leaf(b)), (leaf(a), leaf(b)), (leaf(a), 2.0)]:
        y = op(left, right)
        assert isinstance(y, Tensor)
        assert (y.dtype, y.requires_grad) == (np.bool_, False)
        assert y.data.tolist() == op(a, b).tolist()
    assert op(2.0, leaf(a)).data.tolist() == op(2.0, a).tolist()


def test_tensors_are_keys():
    x, y = leaf([1.0]), leaf([1.0])
    assert {x: "x", y: "y"}[x] == "x"
    assert x in [x]


# --- methods -------------------------------------------------------------------------------------


def test_methods_are_the_functions():
    x = leaf([[1.0, 5.0, 3.0], [4.0, 2.0, 6.0]])
    a = x.data
    for got, expected in [
        *((x.sum(), a.sum()), (x.sum(axis=0), a.sum(0)), (x.sum(1, True), a.sum(1, keepdims=True))),
        *((x.mean(axis=1), a.mean(1)), (x.max(axis=0), a.max(0)), (x.min(axis=-1), a.min(-1))),
        *((x.reshape(3, 2), a.reshape(3, 2)), (x.reshape((6,)), a.reshape(6))),
        *((x.T, a.T), (x.transpose(), a.T), (x.transpose(1, 0), a.T), (x.transpose((0, 1)), a)),
        *((x.astype(np.float32), a.astype(np.float32)), (x.reshape(-1, 2), a.reshape(-1, 2))),
    ]:
        assert got.requires_grad
        assert got.dtype == expected.dtype
        assert got.data.tolist() == expected.tolist()


def test_iteration():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    first, second = x
    (first * second).sum().backward()
    assert x.grad.data.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert max(leaf([1.0, 3.0, 2.0]), key=lambda t: t.item()).item() == 3.0


# --- indexing ------------------------------------------------------------------------------------

INDICES = [
    *(1, -1, slice(0, 2), slice(None, None, -1), (1, 2), (slice(None), 1), (Ellipsis, 0), None),
    *([2, 0, 2], (slice(None), [1, 1]), ([0, 1], [2, 2]), np.array([[0, 2], [2, 2]])),
    *(np.array([True, False, True]), ARRAY[0] > 0, np.int64(1), [True, False, True], []),
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_indexing(index):
    a = np.arange(9.0).reshape(3, 3)
    if isinstance(index, np.ndarray) and index.shape == (2,):
        a = a[:2]
    x = leaf(a)
    y = x[index]
    assert y.shape == a[index].shape
    assert (y.data == a[index]).all()
    g = np.arange(1.0, y.size + 1).reshape(y.shape)
    expected = np.zeros_like(a)
    np.add.at(expected, index, g)
    y.backward(g)
    assert (x.grad.data == expected).all()


def test_a_tensor_as_index():
    x = leaf([1.0, 2.0, 3.0])
    assert x[mg.tensor([2, 0])].data.tolist() == [3.0, 1.0]
    assert x[x > 1.5].data.tolist() == [2.0, 3.0]
    assert x[(mg.tensor([1]),)].data.tolist() == [2.0]


# --- NumPy's functions ---------------------------------------------------------------------------

X = np.array([[1.5, 0.5, 2.0], [0.25, 1.0, 3.0]])
Y = np.array([[0.5, 2.0, 1.0], [1.25, 3.0, 0.75]])

# How each function of NumPy is called on x; those of one or two arguments are called with X, or
# with Y and X.
CALLS = {
    **{
        f: lambda f, x: f(x) if f.nin == 1 else f(Y, x)
        for f in operators._NUMPY
        if isinstance(f, np.ufunc)
    },
    **{f: lambda f, x: f(x, axis=1, keepdims=True) for f in (np.sum, np.max, np.min, np.prod)},
    **{f: lambda f, x: f(x, axis=1, keepdims=True) for f in (np.amax, np.amin, np.any, np.all)},
    **{f: lambda f, x: f(x, axis=1, keepdims=True) for f in (np.argmax, np.argmin, np.ptp)},
    **{f: lambda f, x: f(x, axis=(0, 1), ddof=1) for f in (np.var, np.std)},
    **{f: lambda f, x: f(x, axis=1) for f in (np.cumsum, np.cumprod, np.count_nonzero)},
    **{f: lambda f, x: f(X > 1, x > 2) for f in (np.bitwise_and, np.bitwise_or, np.bitwise_xor)},
    np.invert: lambda f, x: f(x > 1),
    np.linalg.norm: lambda f, x: f(x, 2, axis=1),
    **{f: lambda f, x: f(x, axis=1) for f in (np.sort, np.argsort, np.flip)},
    **{f: lambda f, x: f(x) for f in (np.shape, np.ndim, np.size, np.transpose, np.squeeze)},
    **{f: lambda f, x: f(x) for f in (np.ravel, np.diag, np.diagonal, np.triu, np.tril)},
    **{f: lambda f, x: f(x) for f in (np.zeros_like, np.ones_like, np.round)},
    **{f: lambda f, x: f([Y, x]) for f in (np.stack, np.vstack, np.hstack)},
    **{f: lambda f, x: f(x, 3, axis=1)[1] for f in (np.split, np.array_split)},
    **{f: lambda f, x: f(x, 2) for f in (np.repeat, np.tile, np.roll, np.pad, np.full_like)},
    **{f: lambda f, x: f(x, axis=0)[1] for f in (getattr(np, "unstack", None),) if f},
    **{f: lambda f, x: f(Y.T, x) for f in (np.matmul, np.dot)},
    **{f: lambda f, x: f(Y, x) for f in (np.inner, np.vdot, np.outer, np.kron, np.tensordot)},
    np.einsum: lambda f, x: f("ij,kj->ik", Y, x),
    np.trace: lambda f, x: f(x, offset=1),
    np.power: lambda f, x: f(x, 3),
    np.arcsin: lambda f, x: f(x / 4),
    np.arccos: lambda f, x: f(x / 4),
    np.arctanh: lambda f, x: f(x / 4),
    np.arccosh: lambda f, x: f(x + 1),
    np.clip: lambda f, x: f(x, 0.5, a_max=2),
    np.mean: lambda f, x: f(x, axis=0),
    np.reshape: lambda f, x: f(x, (3, 2)),
    np.moveaxis: lambda f, x: f(x, 0, -1),
    np.swapaxes: lambda f, x: f(x, 0, 1),
    np.expand_dims: lambda f, x: f(x, 1),
    np.concatenate: lambda f, x: f([x, Y], axis=1),
    np.where: lambda f, x: f(X > 1, x, Y),
    np.broadcast_to: lambda f, x: f(x, (2, 2, 3)),
    **{f: lambda f, x: f(x, np.float32) for f in (getattr(np, "astype", None),) if f},
    np.take: lambda f, x: f(x, [1, 1, 0], axis=1),
    np.take_along_axis: lambda f, x: f(x, np.array([[1], [0]]), axis=1),
}
CONSTANT = (np.zeros_like, np.ones_like, np.full_like, np.round, np.sign, np.floor, np.ceil)
CONSTANT += (np.trunc, np.floor_divide)


def test_every_allowed_function_is_tried():
    assert set(CALLS) == set(operators._NUMPY)


@pytest.mark.parametrize("function", CALLS, ids=lambda f: f.__name__)
def test_allowed_functions(function):
    x = leaf(X)
    got, expected = CALLS[function](function, x), CALLS[function](function, X)
    if function in (np.shape, np.ndim, np.size):
        assert got == expected
        return
    assert isinstance(got, Tensor)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(got.data, expected, rtol=1e-15)
    if expected.dtype.kind == "f" and function not in CONSTANT:
        got.sum().backward()
        assert x.grad.shape == X.shape
    else:
        assert not got.requires_grad


@pytest.mark.parametrize(
    ("name", "call", "instead"),
    [
        ("cbrt", np.cbrt, "the ops of minigrad"),
        ("nansum", np.nansum, r"where\(isnan\(x\), 0, x\)\.sum\(\)"),
        ("nanargmax", np.nanargmax, r"mg\.argmax"),
        ("inv", lambda x: np.linalg.inv(x[:, None]), "an Op of your own"),
        ("logaddexp2", lambda x: np.logaddexp2(x, x), r"mg\.logaddexp"),
    ],
)
def test_anything_else_is_refused_with_the_nearest_thing_and_the_way_out(name, call, instead):
    for x in (mg.tensor([1.0, 2.0]), leaf([1.0, 2.0])):
        with pytest.raises(mg.GradientError) as caught:
            call(x)
        assert re.match(rf"numpy\.{name}: .*\n.*\n.*{instead}.*\.detach\(\)", str(caught.value))


def test_an_argument_that_only_numpy_knows_is_refused():
    with pytest.raises(mg.UsageError, match=r"^numpy\.sum: of a tensor, with dtype="):
        np.sum(leaf([1.0]), dtype=np.float32)


def test_dlpack_both_ways_shares_memory():
    x = mg.tensor([1.0, 2.0])
    a = np.from_dlpack(x)
    a[0] = 5.0
    assert x.data.tolist() == [5.0, 2.0]
    back = mg.from_dlpack(a)
    assert (back.requires_grad, back.dtype) == (False, np.float64)
    assert np.shares_memory(back.data, x.data)
    with pytest.raises(mg.GradientError, match=r"\.detach\(\)"):
        np.from_dlpack(leaf([1.0]))
    with pytest.raises(mg.DtypeError, match="complex128"):
        mg.from_dlpack(np.array([1j]))


def test_an_allowed_function_is_allowed_as_a_plain_call_only():
    x = leaf([1.0, 2.0])
    for call in (
        lambda: np.add(x, x, out=np.ones(2)),
        lambda: np.add(x, x, where=np.array([True, False])),
        lambda: np.add.reduce(x),
        lambda: np.multiply.outer(x, x),
    ):
        with pytest.raises(mg.GradientError, match=r"a plain call\n.*\n.*\.detach\(\)"):
            call()


def test_an_array_does_not_swallow_a_tensor():
    a = np.ones(2)
    with pytest.raises(mg.GradientError):
        a += leaf([1.0, 2.0])
    assert a.tolist() == [1.0, 1.0]
    with pytest.raises(mg.GradientError):
        a[:] = leaf([1.0, 2.0])
    with pytest.raises(mg.GradientError):
        np.array([leaf(1.0), leaf(2.0)])
    assert a.tolist() == [1.0, 1.0]
    assert np.asarray(mg.tensor([1, 2])).tolist() == [1, 2]
    assert np.array(mg.tensor([1.5]), dtype=np.float32).dtype == np.float32


def test_equality_is_elementwise_and_a_tensor_is_found_by_identity():
    x, same = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    assert (x == np.array([1.0, 3.0])).data.tolist() == [True, False]
    assert (np.array([1.0, 3.0]) != x).data.tolist() == [False, True]
    assert not (x == same).requires_grad
    assert {x: "x"}.get(x) == "x" and len({x, same}) == 2


def test_arguments_in_numpys_order_and_its_defaults():
    x = leaf(X)
    for got, expected in [
        (np.sum(x, 0, None, None, True), np.sum(X, 0, None, None, True)),
        (np.max(x, 0, None, True), np.max(X, 0, None, True)),
        (np.var(x, 0, None, None, 1), np.var(X, 0, None, None, 1)),
        (np.concatenate([x, Y], 0, None), np.concatenate([X, Y], 0, None)),
        (np.cumsum(x, 1, None), np.cumsum(X, 1, None)),
        (np.clip(x, min=0.5, max=2.0), np.clip(X, 0.5, 2.0)),
    ]:
        assert np.array_equal(got.data, expected)
    with pytest.raises(mg.UsageError, match=r"numpy\.cumsum: of a tensor, with dtype="):
        np.cumsum(x, 0, np.float32)


def test_logic_is_for_booleans():
    yes, no = mg.tensor([True, True]), np.array([True, False])
    assert (yes & no).data.tolist() == (no & yes).data.tolist() == [True, False]
    assert (True & yes).data.tolist() == [True, True]
    assert (~yes | no).data.tolist() == [True, False]
    assert (no ^ yes).data.tolist() == [False, True]
    for call in (lambda: ~mg.tensor([1, 2]), lambda: mg.tensor([6]) & mg.tensor([3])):
        with pytest.raises(mg.DtypeError, match=r"^operator .: of what is not boolean"):
            call()


def test_a_tensor_of_one_integer_counts():
    assert list(range(mg.tensor(3))) == [0, 1, 2]
    assert ["a", "b"][mg.tensor([1])] == "b"
    for wrong in (mg.tensor(1.0), mg.tensor([1, 2])):
        with pytest.raises(TypeError):
            range(wrong)


def test_a_deep_copy_is_apart_and_a_graph_has_none():
    layer = mg.nn.Linear(2, 1, rng=0)
    twin = copy.deepcopy(layer)
    assert type(twin.weight) is mg.nn.Parameter and twin.weight.requires_grad
    twin.weight.data += 1
    assert not np.array_equal(twin.weight.data, layer.weight.data)
    (twin.weight * 2).sum().backward()
    assert layer.weight.grad is None
    with pytest.raises(mg.GradientError, match=r"^deepcopy: of a computed tensor"):
        copy.deepcopy(leaf([1.0]) * 2)
