"""Functions that move blocks, against NumPy with the same arguments; conventions, and messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples.moving import check_moves

import minigrad as mg
from minigrad.graph import registry

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
some_axes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3)


def axis_of(n):
    return st.integers(-n, n - 1)


def axes_of(draw, n, unique=True):
    """A number, or a tuple of different axes of n, counted from either end."""
    axes = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n)) if n else []
    axes = tuple(draw(st.sampled_from([a, a - n])) for a in axes)
    return axes[0] if len(axes) == 1 and draw(st.booleans()) else axes


# --- shapes and the order of axes ----------------------------------------------------------------


@given(st.data(), shapes)
def test_reshape(data, shape):
    size = int(np.prod(shape))
    new = list(data.draw(st.permutations(shape)))
    if new and data.draw(st.booleans()):
        new = [new[0], int(np.prod(new[1:]))]
    if size and new and data.draw(st.booleans()):
        new[data.draw(st.integers(0, len(new) - 1))] = -1
    new = tuple(new)
    check_moves(lambda x: mg.reshape(x, new), lambda x: np.reshape(x, new), shape)
    check_moves(lambda x: mg.reshape(x, -1), lambda x: np.reshape(x, -1), shape)


@given(shapes)
def test_ravel_and_flatten(shape):
    check_moves(mg.ravel, np.ravel, shape)
    check_moves(mg.flatten, lambda x: x.flatten(), shape)


@given(st.data(), shapes)
def test_transpose(data, shape):
    n = len(shape)
    check_moves(mg.transpose, np.transpose, shape)
    order = data.draw(st.permutations(range(n)))
    axes = tuple(data.draw(st.sampled_from([a, a - n])) for a in order)
    check_moves(lambda x: mg.transpose(x, axes), lambda x: np.transpose(x, axes), shape)
    axes = list(axes)
    check_moves(lambda x: mg.transpose(x, axes=axes), lambda x: np.transpose(x, axes), shape)


@given(st.data(), some_axes)
def test_swapaxes(data, shape):
    a, b = data.draw(axis_of(len(shape))), data.draw(axis_of(len(shape)))
    check_moves(lambda x: mg.swapaxes(x, a, b), lambda x: np.swapaxes(x, a, b), shape)


@given(st.data(), some_axes)
def test_moveaxis(data, shape):
    n = len(shape)
    a, b = data.draw(axis_of(n)), data.draw(axis_of(n))
    check_moves(lambda x: mg.moveaxis(x, a, b), lambda x: np.moveaxis(x, a, b), shape)
    count = data.draw(st.integers(0, n))
    froms, tos = (tuple(data.draw(st.permutations(range(n)))[:count]) for _ in range(2))
    tos = tuple(t - n for t in tos)
    check_moves(lambda x: mg.moveaxis(x, froms, tos), lambda x: np.moveaxis(x, froms, tos), shape)


@given(st.data(), shapes)
def test_expand_dims_and_squeeze(data, shape):
    extra = data.draw(st.integers(0, 2))
    n = len(shape) + extra
    axes = tuple(data.draw(st.permutations(range(n)))[:extra]) if extra else ()
    axes = tuple(data.draw(st.sampled_from([a, a - n])) for a in axes)
    check_moves(lambda x: mg.expand_dims(x, axes), lambda x: np.expand_dims(x, axes), shape)
    wide = np.expand_dims(np.zeros(shape), axes).shape
    check_moves(lambda x: mg.squeeze(x, axes), lambda x: np.squeeze(x, axes), wide)
    check_moves(mg.squeeze, np.squeeze, wide)
    axis = data.draw(axis_of(len(shape) + 1))
    check_moves(lambda x: mg.expand_dims(x, axis), lambda x: np.expand_dims(x, axis), shape)
    wide = np.expand_dims(np.zeros(shape), axis).shape
    check_moves(lambda x: mg.squeeze(x, axis), lambda x: np.squeeze(x, axis), wide)


def test_moving_axes_copies_nothing():
    x = np.zeros((2, 3, 1))
    views = [
        mg.reshape(x, (3, 2)), mg.ravel(x), mg.transpose(x), mg.moveaxis(x, 0, 2), mg.squeeze(x),
        mg.expand_dims(x, 0), *mg.unstack(x, axis=1), *mg.split(x, 3, axis=1),
    ]  # fmt: skip
    assert all(np.shares_memory(x, view) for view in views)
    assert np.shares_memory(x, mg.transpose(mg.Tensor(x)).data)


# --- joining and taking apart --------------------------------------------------------------------


@given(st.data(), some_axes, st.integers(1, 4))
def test_concatenate(data, shape, count):
    axis = data.draw(axis_of(len(shape)))
    parts = []
    for _ in range(count):
        part = list(shape)
        part[axis] = data.draw(st.integers(0, 3))
        parts.append(tuple(part))
    check_moves(lambda *xs: mg.concatenate(xs, axis), lambda *xs: np.concatenate(xs, axis), *parts)


@given(st.lists(shapes, min_size=1, max_size=3))
def test_concatenate_of_flattened(parts):
    check_moves(
        lambda *xs: mg.concatenate(xs, axis=None), lambda *xs: np.concatenate(xs, None), *parts
    )


@given(st.data(), shapes, st.integers(1, 4))
def test_stack(data, shape, count):
    axis = data.draw(axis_of(len(shape) + 1))
    parts = [shape] * count
    check_moves(lambda *xs: mg.stack(xs, axis), lambda *xs: np.stack(xs, axis), *parts)


@given(st.data(), hnp.array_shapes(min_dims=0, max_dims=1), st.integers(1, 3))
def test_vstack_and_hstack(data, shape, count):
    check_moves(lambda *xs: mg.vstack(xs), lambda *xs: np.vstack(xs), *[shape] * count)
    check_moves(lambda *xs: mg.hstack(xs), lambda *xs: np.hstack(xs), *[shape] * count)
    widths = [data.draw(st.integers(0, 3)) for _ in range(count)]
    below, beside = [(w, 2, 3) for w in widths], [(2, w, 3) for w in widths]
    check_moves(lambda *xs: mg.vstack(xs), lambda *xs: np.vstack(xs), *below)
    check_moves(lambda *xs: mg.hstack(xs), lambda *xs: np.hstack(xs), *beside)


def test_a_vector_is_a_row_for_vstack():
    check_moves(lambda *xs: mg.vstack(xs), lambda *xs: np.vstack(xs), (3,), (2, 3))


@given(st.data(), some_axes)
def test_split_into_equal_pieces(data, shape):
    axis = data.draw(axis_of(len(shape)))
    n = shape[axis]
    sections = data.draw(st.sampled_from([k for k in range(1, 5) if n % k == 0]))
    check_moves(lambda x: mg.split(x, sections, axis), lambda x: np.split(x, sections, axis), shape)
    assert isinstance(mg.split(np.zeros(shape), np.int64(sections), axis), tuple)


@given(st.data(), some_axes, st.lists(st.integers(-5, 5), max_size=4))
def test_split_at_places(data, shape, cuts):
    """Places in ascending order and not, negative, and outside; as a list, tuple and array."""
    axis = data.draw(axis_of(len(shape)))
    kind = data.draw(st.sampled_from([list, tuple, lambda c: np.array(c, int)]))
    check_moves(lambda x: mg.split(x, kind(cuts), axis), lambda x: np.split(x, cuts, axis), shape)


@given(st.data(), some_axes, st.integers(1, 5))
def test_array_split(data, shape, sections):
    axis = data.draw(axis_of(len(shape)))
    for s in (sections, [1, 2]):
        check_moves(
            lambda x, s=s: mg.array_split(x, s, axis),
            lambda x, s=s: np.array_split(x, s, axis),
            shape,
        )


@given(st.data(), some_axes)
def test_unstack(data, shape):
    axis = data.draw(axis_of(len(shape)))
    check_moves(lambda x: mg.unstack(x, axis), lambda x: list(np.moveaxis(x, axis, 0)), shape)


def test_taking_apart_costs_one_node():
    x = mg.tensor(np.ones((50, 2)), requires_grad=True)
    parts = (mg.unstack(x), mg.split(x, 50), mg.split(x, range(1, 50)), mg.array_split(x, 50))
    for rows in parts:
        assert len({row.node for row in rows}) == 1
        assert [row.index for row in rows] == list(range(50))


def test_places_to_cut_at_may_change_before_the_backward_pass():
    x = mg.tensor(np.arange(4.0), requires_grad=True)
    cuts = [1, 3]
    _, middle, _ = mg.split(x, cuts)
    cuts[0] = 2
    (middle * 5).sum().backward()
    assert x.grad.data.tolist() == [0.0, 5.0, 5.0, 0.0]


def test_joining_tensors_and_arrays():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = mg.concatenate([np.zeros(1), x, x[:1]])
    assert y.data.tolist() == [0.0, 1.0, 2.0, 1.0]
    (y * np.array([9.0, 1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.data.tolist() == [101.0, 10.0]
    z = mg.stack([x, np.zeros(2)], axis=1)
    assert z.data.tolist() == [[1.0, 0.0], [2.0, 0.0]]
    assert mg.concatenate(mg.tensor([[1.0], [2.0]])).data.tolist() == [1.0, 2.0]  # over its rows


def test_a_stack_is_contiguous_and_its_own():
    xs = [np.ones((2, 3)).T, np.zeros((3, 2))]
    for axis in range(3):
        assert mg.stack(xs, axis).flags.c_contiguous
    one = np.ones(3)
    assert not np.shares_memory(mg.stack([one]), one)
    assert not np.shares_memory(mg.concatenate([one]), one)


def test_the_array_rules_give_the_bits_of_the_others():
    g = [np.array([[1.0, -0.0]]), np.array([[np.inf, 5.0]])]
    for name, params in (("split", {"sections": 2, "axis": 1}), ("unstack", {"axis": 1})):
        op = registry[name]
        quick, text = (rules[0](g, None, None, **params) for rules in (op.array_vjps, op.vjps))
        assert quick.tobytes() == text.tobytes() and quick.shape == text.shape


# --- constants -----------------------------------------------------------------------------------


@given(shapes, st.sampled_from([np.float32, np.float64, np.int64]))
def test_constants_of_a_shape(shape, dtype):
    x = np.full(shape, 3, dtype)
    functions = (
        (mg.zeros_like, np.zeros_like, ()), (mg.ones_like, np.ones_like, ()),
        (mg.full_like, np.full_like, (2,)),
    )  # fmt: skip
    for mine, numpys, more in functions:
        for kind in ({}, {"dtype": np.float64}, {"dtype": "int32"}):
            expected = numpys(x, *more, **kind)
            for result in (mine(x, *more, **kind), mine(mg.Tensor(x), *more, **kind).data):
                assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
                assert (result == expected).all()


def test_constants_carry_no_gradient():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    for c in (mg.zeros_like(x), mg.ones_like(x), mg.full_like(x, 3.0)):
        assert not c.requires_grad
    with pytest.raises(mg.GradientError):
        mg.full_like(x, mg.tensor(1.0, requires_grad=True))  # its gradient would be lost
    with pytest.raises(mg.DtypeError):
        mg.zeros_like(x, dtype=complex)


# --- messages ------------------------------------------------------------------------------------

COUNT = "axes count from 0, or from -1 backwards"
NUMBERS = "pass an int, or a tuple of them where the function takes several"
MESSAGES = [
    (
        lambda x: mg.reshape(x, (2.0, 3.0)),
        mg.UsageError,
        "reshape: shape",
        "expected whole numbers, got (2.0, 3.0)",
        "pass an int or a tuple of ints; one of them may be -1",
    ),
    (
        lambda x: mg.expand_dims(x, 4),
        mg.ShapeError,
        "expand_dims: axis 4",
        "expected an axis of an array that has 3, got 4",
        COUNT,
    ),
    (
        lambda x: mg.expand_dims(x, "a"),
        mg.UsageError,
        "expand_dims: axis",
        "expected a whole number, got 'a'",
        NUMBERS,
    ),
    (
        lambda x: mg.squeeze(x, (-1,)),
        mg.ShapeError,
        "squeeze: axis 1",
        "expected length 1, got 2 in shape (3, 2)",
        "name axes of length 1 only, or take one slice with x[...]",
    ),
    (
        lambda x: mg.transpose(x, (0, -2)),
        mg.ShapeError,
        "transpose: an axis given twice",
        "expected different axes, got (0, -2) of an array that has 2",
        "name each axis once",
    ),
    (
        lambda x: mg.transpose(x, (0,)),
        mg.ShapeError,
        "transpose: axes",
        "expected all 2 axes of shape (3, 2), got (0,)",
        "name each axis once",
    ),
    (
        lambda x: mg.swapaxes(x, 0, 2),
        mg.ShapeError,
        "swapaxes: axis 2",
        "expected an axis of an array that has 2, got 2",
        COUNT,
    ),
    (
        lambda x: mg.moveaxis(x, (0, 1), 0),
        mg.ShapeError,
        "moveaxis: source and destination",
        "expected one place for each axis, got 1 for 2",
        "give as many destinations as sources",
    ),
    (
        lambda x: mg.concatenate([x, np.ones((2, 3))]),
        mg.ShapeError,
        "concatenate: arrays that do not fit together",
        "got shapes (3, 2), (2, 3) along axis 0: all the input array dimensions except for the "
        "concatenation axis must match exactly, but along dimension 1, the array at index 0 has "
        "size 2 and the array at index 1 has size 3",
        "check the axis and the shapes of the parts",
    ),
    (
        lambda x: mg.concatenate([x, x], axis=2),
        mg.ShapeError,
        "concatenate: arrays that do not fit together",
        "got shapes (3, 2), (3, 2) along axis 2: axis 2 is out of bounds for array of dimension 2",
        "check the axis and the shapes of the parts",
    ),
    (
        lambda x: mg.concatenate([x], axis="a"),
        mg.ShapeError,
        "concatenate: arrays that do not fit together",
        "got shapes (3, 2) along axis 'a': 'str' object cannot be interpreted as an integer",
        "check the axis and the shapes of the parts",
    ),
    (
        lambda x: mg.hstack([]),
        mg.UsageError,
        "hstack: what to join",
        "expected a sequence of at least one array",
        "pass a list or a tuple of arrays or tensors",
    ),
    (
        lambda x: mg.stack(5.0),
        mg.UsageError,
        "stack: what to join",
        "expected a sequence of at least one array",
        "pass a list or a tuple of arrays or tensors",
    ),
    (
        lambda x: mg.stack([x, np.ones((2, 2))]),
        mg.ShapeError,
        "stack: arrays that do not fit together",
        "got shapes (3, 2), (2, 2) along axis 0: they must all be the same",
        "check the axis and the shapes of the parts",
    ),
    (
        lambda x: mg.stack([x, np.ones((3, 1))], axis=-1),
        mg.ShapeError,
        "stack: arrays that do not fit together",
        "got shapes (3, 2), (3, 1) along axis 2: they must all be the same",
        "check the axis and the shapes of the parts",
    ),
    (
        lambda x: mg.stack([x, x], axis=3),
        mg.ShapeError,
        "stack: axis 3",
        "expected an axis of an array that has 3, got 3",
        COUNT,
    ),
    (
        lambda x: mg.split(x, 2),
        mg.ShapeError,
        "split: into 2 equal pieces along axis 0",
        "expected a length divisible by 2, got 3 in shape (3, 2)",
        "use array_split for pieces that differ by one, or pass the places to cut at",
    ),
    (
        lambda x: mg.split(x, 0),
        mg.UsageError,
        "split: sections",
        "expected at least 1, got 0",
        "pass the number of pieces, or a tuple of places to cut at",
    ),
    (
        lambda x: mg.array_split(x, -1),
        mg.UsageError,
        "array_split: sections",
        "expected at least 1, got -1",
        "pass the number of pieces, or a tuple of places to cut at",
    ),
    (
        lambda x: mg.split(x, [0.5]),
        mg.UsageError,
        "split: sections",
        "expected a whole number, got 0.5",
        NUMBERS,
    ),
    (
        lambda x: mg.split(x, sections=2, axis=-3),
        mg.ShapeError,
        "split: axis -3",
        "expected an axis of an array that has 2, got -3",
        COUNT,
    ),
    (
        lambda x: mg.unstack(x[0, 0]),
        mg.ShapeError,
        "unstack: axis 0",
        "expected an axis of an array that has 0, got 0",
        COUNT,
    ),
]


@pytest.mark.parametrize(("call", "kind", "what", "expected", "remedy"), MESSAGES)
def test_messages(call, kind, what, expected, remedy):
    for x in (np.ones((3, 2)), mg.tensor(np.ones((3, 2)), requires_grad=True)):
        with pytest.raises(kind) as caught:
            call(x)
        assert str(caught.value).split("\n") == [what, f"  {expected}", f"  remedy: {remedy}"]


@pytest.mark.parametrize("shape", [(4, 2), (-1, 4), (-1, -1)])
def test_a_shape_that_does_not_fit(shape):
    with pytest.raises(mg.ShapeError, match=r"^reshape: .*\n  got shapes \(3, 2\): "):
        mg.reshape(mg.tensor(np.ones((3, 2))), shape)
