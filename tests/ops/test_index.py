"""Functions that pick elements by place, against NumPy with the same arguments; and messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples.moving import check_moves

import minigrad as mg
from minigrad.backward import gradients
from minigrad.graph import registry

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
some_axes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)
filled = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
whole = st.integers(-9, 9)


def axis_of(n):
    return st.integers(-n, n - 1)


@st.composite
def indices(draw, shape):
    """Numbers, slices, arrays of integers and booleans, None and ... in one index."""
    n = draw(st.integers(1, 3))
    items, axis = [], 0
    while axis < len(shape) and draw(st.booleans()):
        size = shape[axis]
        kind = draw(st.sampled_from(["number", "slice", "integers", "integers", "mask"]))
        if kind == "number":
            items.append(draw(axis_of(size)))
        elif kind == "slice":
            items.append(draw(st.slices(size)))
        elif kind == "integers":
            form = draw(st.sampled_from([(n,), (1,), (2, n), (2, 1), ()]))
            items.append(draw(hnp.arrays(np.intp, form, elements=axis_of(size))))
        else:
            mask = np.arange(size) < min(size, n)
            items.append(np.array(draw(st.permutations(mask))) if size >= n else np.array([0] * n))
        axis += 1
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), None)
    if draw(st.booleans()):  # what follows it counts from the end: only if all axes are named
        items.insert(draw(st.integers(0, len(items))) if axis == len(shape) else len(items), ...)
    return tuple(items)


# --- reading places, and adding to them ----------------------------------------------------------


@given(st.data(), filled)
def test_getitem(data, shape):
    index = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True)
        | hnp.integer_array_indices(shape)
        | hnp.arrays(bool, shape)
        | indices(shape)
    )
    check_moves(lambda x: mg.getitem(x, index), lambda x: x[index], shape)
    check_moves(lambda x: x[index], lambda x: x[index], shape)


@given(st.data(), filled)
def test_put_is_the_transpose_of_getitem(data, shape):
    """<x[i], g> = <x, put(g)>, exactly for integers, whatever the index."""
    index = data.draw(hnp.integer_array_indices(shape) | hnp.arrays(bool, shape) | indices(shape))
    x = data.draw(hnp.arrays(np.float64, shape, elements=whole))
    g = data.draw(hnp.arrays(np.float64, np.shape(x[index]), elements=whole))
    put = registry["put"](g, index=index, shape=shape)
    assert put.shape == shape
    assert np.sum(x[index] * g) == np.sum(x * put)


@given(st.sampled_from([(), (1,), (3,)]), st.sampled_from([np.float32, np.float64]))
def test_repeats_add_up_in_order(rest, dtype):
    """Sums that rounding makes depend on the order: first to last, as np.add.at has it."""
    rng = np.random.default_rng(3)
    for index in (rng.integers(-4, 4, 200), (np.zeros(200, int), rng.integers(-4, 4, 200))):
        lead = (4,) if isinstance(index, np.ndarray) else (1, 4)
        g = (rng.normal(size=(200, *rest)) * 10.0 ** rng.integers(-6, 6, (200, *rest))).astype(
            dtype
        )
        expected = np.zeros((*lead, *rest), dtype)
        np.add.at(expected, index, g)
        put = registry["put"](g, index=index, shape=(*lead, *rest))
        assert put.dtype == dtype
        np.testing.assert_array_equal(put, expected)


def test_lists_tuples_and_tensors_as_indices():
    x = mg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    ones = mg.tensor([1, 1])
    for index in ([1, 1], ones, (ones,), ([1, 1],), ((1, 1),), ((1, 1), ...)):
        y = mg.getitem(x, index)
        assert y.data.tolist() == [[3.0, 4.0, 5.0]] * 2
        (g,) = gradients([y], [x], [np.ones((2, 3))])
        assert g.tolist() == [[0.0] * 3, [2.0] * 3]
    assert mg.getitem(x, []).shape == (0, 3)
    assert mg.getitem(x, (slice(None), [])).shape == (2, 0)
    assert mg.getitem(x, x > 3).data.tolist() == [4.0, 5.0]
    assert mg.getitem([5, 6], 1) == 6


def test_a_basic_index_gives_a_view():
    x = np.zeros((3, 4))
    for index in (1, slice(1, 3), (slice(None), 2), (..., None), np.int64(2)):
        assert np.shares_memory(mg.getitem(x, index), x)
        assert np.shares_memory(mg.Tensor(x)[index].data, x)
    assert np.shares_memory(mg.flip(x), x)


def change(array):
    array[...] = 0


@pytest.mark.parametrize(
    "call",
    [
        lambda x, k: mg.getitem(x, k),
        lambda x, k: mg.getitem(x, (k, k)),
        lambda x, k: mg.getitem(x, mg.Tensor(k)),
        lambda x, k: mg.take(x, k, axis=0),
        lambda x, k: mg.take(x, mg.Tensor(k)),
        lambda x, k: mg.take_along_axis(x, k[:, None], axis=0),
        lambda x, k: mg.repeat(x, k, axis=0),
        lambda x, k: mg.flip_rows(x, lengths=k),
        lambda x, k: mg.roll(x, k, axis=0),
        lambda x, k: mg.pad(x, k[:2]),
    ],
)
def test_index_arrays_may_change_before_the_backward_pass(call):
    def gradient(spoil):
        x = mg.tensor(np.arange(9.0).reshape(3, 3), requires_grad=True)
        k = np.array([2, 1, 2])
        y = call(x, k)
        spoil(k)
        return gradients([y], [x], [np.arange(y.size, dtype=float).reshape(y.shape)])[0]

    np.testing.assert_array_equal(gradient(change), gradient(lambda k: None))


# --- reading along an axis -----------------------------------------------------------------------


@given(st.data(), some_axes, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
def test_take(data, shape, form):
    axis = data.draw(st.none() | axis_of(len(shape)))
    n = int(np.prod(shape)) if axis is None else shape[axis]
    mode = data.draw(st.sampled_from(["raise", "wrap", "clip"]))
    reach = (-n, n - 1) if mode == "raise" else (-9, 9)
    if n == 0:
        form = (0,)
    k = data.draw(hnp.arrays(np.int64, form, elements=st.integers(*reach) if n else None))
    check_moves(
        lambda x: mg.take(x, k, axis, mode), lambda x: np.take(x, k, axis, mode=mode), shape
    )


@given(st.data(), filled)
def test_take_along_axis(data, shape):
    axis = data.draw(axis_of(len(shape)))
    n = shape[axis]
    form = [data.draw(st.sampled_from([1, m])) for m in shape]
    form[axis] = data.draw(st.integers(0, 3))
    k = data.draw(hnp.arrays(np.int64, tuple(form), elements=axis_of(n)))
    check_moves(
        lambda x: mg.take_along_axis(x, k, axis), lambda x: np.take_along_axis(x, k, axis), shape
    )
    flat = data.draw(hnp.arrays(np.int64, 3, elements=axis_of(int(np.prod(shape)))))
    check_moves(
        lambda x: mg.take_along_axis(x, flat, None),
        lambda x: np.take_along_axis(x, flat, None),
        shape,
    )


def test_take_along_axis_broadcasts_x_too():
    k = np.array([[0, 1], [2, 0], [1, 1]])
    check_moves(
        lambda x: mg.take_along_axis(x, k, 1), lambda x: np.take_along_axis(x, k, 1), (1, 3)
    )
    x = np.arange(6).reshape(2, 3)
    assert mg.take_along_axis(x, np.array([[1], [2]])).tolist() == [[1], [5]]  # the last axis


@given(st.data(), some_axes)
def test_sort_and_argsort(data, shape):
    axis = data.draw(st.none() | axis_of(len(shape)))
    check_moves(lambda x: mg.sort(x, axis), lambda x: np.sort(x, axis), shape)
    x = data.draw(hnp.arrays(np.float64, shape, elements=st.integers(0, 2)))
    order = np.argsort(x, axis, kind="stable")
    assert (mg.argsort(x, axis) == order).all()
    places = mg.argsort(mg.tensor(x, requires_grad=True), axis)
    assert (places.data == order).all() and places.data.dtype.kind == "i"
    assert not places.requires_grad
    assert (mg.sort(x, axis) == np.sort(x, axis)).all()


def test_sort_by_default_along_the_last_axis():
    check_moves(mg.sort, np.sort, (3, 4))
    assert mg.argsort(np.array([[2.0, 1.0], [1.0, 2.0]])).tolist() == [[1, 0], [0, 1]]


def test_equal_elements_keep_their_order_and_nan_comes_last():
    x = mg.tensor([2.0, np.nan, 1.0, 2.0, 1.0], requires_grad=True)
    y = mg.sort(x)
    np.testing.assert_array_equal(y.data, [1.0, 1.0, 2.0, 2.0, np.nan])
    (g,) = gradients([y], [x], [np.array([10.0, 20.0, 30.0, 40.0, 50.0])])
    assert g.tolist() == [30.0, 50.0, 10.0, 40.0, 20.0]


@given(st.data(), shapes)
def test_flip(data, shape):
    n = len(shape)
    axes = tuple(
        data.draw(st.sampled_from([a, a - n])) for a in range(n) if data.draw(st.booleans())
    )
    choices = [None, axes] + ([axes[0]] if axes else [])
    for axis in choices:
        check_moves(lambda x, a=axis: mg.flip(x, a), lambda x, a=axis: np.flip(x, a), shape)


@given(st.data(), some_axes)
def test_roll(data, shape):
    n, shift = len(shape), st.integers(-7, 7)
    axis = axis_of(n)
    s, a = data.draw(
        st.tuples(shift, st.none() | axis)
        | st.tuples(st.tuples(shift, shift), st.none() | axis)
        | st.tuples(shift, st.tuples(axis, axis))
        | st.tuples(st.tuples(shift, shift), st.tuples(axis, axis))
    )
    check_moves(lambda x: mg.roll(x, s, a), lambda x: np.roll(x, s, a), shape)


# --- more elements than there were ---------------------------------------------------------------


@given(st.data(), shapes)
def test_repeat(data, shape):
    axis = data.draw(st.none() | axis_of(len(shape))) if shape else None
    n = int(np.prod(shape)) if axis is None else shape[axis]
    count = st.integers(0, 3)
    repeats = data.draw(
        count | st.lists(count, min_size=n, max_size=n) | st.lists(count, min_size=1, max_size=1)
    )
    counts = np.array(repeats, int)
    check_moves(lambda x: mg.repeat(x, repeats, axis), lambda x: np.repeat(x, counts, axis), shape)


@given(shapes, st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=4).map(tuple))
def test_tile(shape, reps):
    check_moves(lambda x: mg.tile(x, reps), lambda x: np.tile(x, reps), shape)


@given(st.data(), shapes)
def test_pad_with_constants(data, shape):
    n, width, value = len(shape), st.integers(0, 3), st.integers(-5, -1)
    form = st.sampled_from([(), (1,), (2,), (1, 2), (n, 2), (n, 1)])
    widths = data.draw(hnp.arrays(np.int64, data.draw(form), elements=width))
    values = data.draw(hnp.arrays(np.float64, data.draw(form), elements=value))
    if not shape:  # np.pad leaves a number as it is, but refuses some ways to say so
        return check_moves(lambda x: mg.pad(x, widths, constant_values=values), np.copy, shape)
    check_moves(
        lambda x: mg.pad(x, widths.tolist(), constant_values=values),
        lambda x: np.pad(x, widths, constant_values=values),
        shape,
    )
    check_moves(lambda x: mg.pad(x, widths), lambda x: np.pad(x, widths), shape)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
@given(data=st.data(), shape=filled)
def test_pad_with_copies(mode, data, shape):
    """Widths beyond the length of an axis too, where a reflection is reflected again."""
    widths = data.draw(hnp.arrays(np.int64, (len(shape), 2), elements=st.integers(0, 9)))
    check_moves(lambda x: mg.pad(x, widths, mode), lambda x: np.pad(x, widths, mode), shape)


def test_a_constant_that_would_lose_its_gradient():
    x = mg.tensor([1.0], requires_grad=True)
    assert mg.pad(x, 1, constant_values=mg.tensor(2.0)).data.tolist() == [2.0, 1.0, 2.0]
    with pytest.raises(mg.GradientError):
        mg.pad(x, 1, constant_values=mg.tensor(2.0, requires_grad=True))


def test_an_empty_axis_may_stay_without_padding():
    check_moves(
        lambda x: mg.pad(x, ((0, 0), (1, 1)), "edge"),
        lambda x: np.pad(x, ((0, 0), (1, 1)), "edge"),
        (0, 2),
    )


# --- triangles and diagonals ---------------------------------------------------------------------


@given(some_axes, st.integers(-4, 4))
def test_triangles(shape, k):
    check_moves(lambda x: mg.tril(x, k), lambda x: np.tril(x, k), shape)
    check_moves(lambda x: mg.triu(x, k), lambda x: np.triu(x, k), shape)


def test_what_a_triangle_leaves_out_does_not_leak():
    x = mg.tensor([[1.0, np.inf], [np.nan, 2.0]], requires_grad=True)
    bad = np.array([[1.0, np.nan], [np.inf, 1.0]])
    for mine, kept in ((mg.tril, np.tril), (mg.triu, np.triu)):
        assert (mine(x)[0, 0] + mine(x)[1, 1]).item() == 3.0
        (g,) = gradients([mine(x)], [x], [bad])
        np.testing.assert_array_equal(g, kept(bad))


@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=3))
def test_diagonal(data, shape):
    n = len(shape)
    a, b = data.draw(st.permutations(range(n)))[:2]
    b -= data.draw(st.sampled_from([0, n]))
    offset = data.draw(st.integers(-4, 4))
    check_moves(
        lambda x: mg.diagonal(x, offset, a, b), lambda x: np.diagonal(x, offset, a, b), shape
    )
    check_moves(mg.diagonal, np.diagonal, shape)


@given(hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=3), st.integers(-4, 4))
def test_diag(shape, k):
    check_moves(lambda x: mg.diag(x, k), lambda x: np.diag(x, k), shape)


# --- time reversed -------------------------------------------------------------------------------


@given(st.integers(0, 5), st.integers(1, 4), st.data())
def test_flip_rows_is_its_own_inverse(steps, rows, data):
    lengths = np.array(data.draw(st.lists(st.integers(0, steps), min_size=rows, max_size=rows)))
    x = np.arange(steps * rows * 2.0).reshape(steps, rows, 2)
    for n in (None, lengths, lengths.tolist(), mg.Tensor(lengths)):
        once = mg.flip_rows(x, lengths=n)
        assert (mg.flip_rows(once, lengths=n) == x).all()
        assert (np.sort(once, axis=0) == np.sort(x, axis=0)).all()
    assert all((once[lengths[n] :, n] == x[lengths[n] :, n]).all() for n in range(rows))


# --- what it costs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        mg.flip, mg.tril, mg.triu,
        lambda x: mg.roll(x, (1, 2), (0, 1)),
        lambda x: mg.pad(x, 2),
        lambda x: mg.pad(x, ((0, 0), (1, 1)), "wrap"),
        lambda x: mg.repeat(x, 2, axis=1),
        lambda x: mg.take(x, [0, 0], axis=1),
        mg.sort,
    ],
)  # fmt: skip
def test_one_node(call):
    x = mg.tensor(np.ones((3, 4)), requires_grad=True)
    tensors = [a for a in call(x).node.args if isinstance(a, mg.Tensor)]
    assert [t.node is x.node for t in tensors] == [True]


# --- messages ------------------------------------------------------------------------------------

PLACES = "index with whole numbers, slices, or arrays of integers or booleans, within the shape"
COUNT = "axes count from 0, or from -1 backwards"
NUMBERS = "pass an int, or a tuple of them where the function takes several"
MESSAGES = [
    (
        lambda x: mg.getitem(x, (0, 2)),
        mg.ShapeError,
        "getitem: an index that does not fit",
        "got shape (3, 2): index 2 is out of bounds for axis 1 with size 2",
        PLACES,
    ),
    (
        lambda x: mg.getitem(x, [0, 3]),
        mg.ShapeError,
        "getitem: an index that does not fit",
        "got shape (3, 2): index 3 is out of bounds for axis 0 with size 3",
        PLACES,
    ),
    (
        lambda x: mg.getitem(x, (0, 0, 0)),
        mg.ShapeError,
        "getitem: an index that does not fit",
        "got shape (3, 2): too many indices for array: array is 2-dimensional, but 3 were indexed",
        PLACES,
    ),
    (
        lambda x: mg.getitem(x, np.array([True, False])),
        mg.ShapeError,
        "getitem: an index that does not fit",
        "got shape (3, 2): boolean index did not match indexed array along axis 0; size of axis "
        "is 3 but size of corresponding boolean axis is 2",
        PLACES,
    ),
    (
        lambda x: mg.getitem(x, slice(0.5, None)),
        mg.ShapeError,
        "getitem: an index that does not fit",
        "got shape (3, 2): slice indices must be integers or None or have an __index__ method",
        PLACES,
    ),
    (
        lambda x: mg.getitem(x, slice(None, None, 0)),
        mg.ShapeError,
        "getitem: an index that does not fit",
        "got shape (3, 2): slice step cannot be zero",
        PLACES,
    ),
    (
        lambda x: mg.getitem(x, (0, [[1], [1, 2]])),
        mg.UsageError,
        "getitem: index",
        "expected lists of equal lengths, got [[1], [1, 2]]",
        "pass an array, or lists of numbers",
    ),
    (
        lambda x: mg.getitem(x, [0.5]),
        mg.ShapeError,
        "getitem: an index that does not fit",
        "got shape (3, 2): arrays used as indices must be of integer (or boolean) type",
        PLACES,
    ),
    (
        lambda x: mg.pad(x, ((1, 2), 3)),
        mg.UsageError,
        "pad: pad_width",
        "expected lists of equal lengths, got ((1, 2), 3)",
        "pass an array, or lists of numbers",
    ),
    (
        lambda x: mg.take(x, [0, 2, -3], axis=1),
        mg.ShapeError,
        "take: indices outside axis 1",
        "expected -2 to 1 for shape (3, 2), got -3 to 2",
        "check the indices against the length of the axis",
    ),
    (
        lambda x: mg.take(x[:0], 0, axis=0, mode="wrap"),
        mg.ShapeError,
        "take: indices outside axis 0",
        "expected 0 to -1 for shape (0, 2), got 0 to 0",
        "check the indices against the length of the axis",
    ),
    (
        lambda x: mg.take(x, 0, axis=2),
        mg.ShapeError,
        "take: axis 2",
        "expected an axis of an array that has 2, got 2",
        COUNT,
    ),
    (
        lambda x: mg.take(x, [0.5]),
        mg.UsageError,
        "take: indices",
        "expected whole numbers, got float64",
        "convert with .astype(np.int64)",
    ),
    (
        lambda x: mg.take(x, 0, mode="warp"),
        mg.UsageError,
        "take: mode",
        "expected raise, wrap or clip, got 'warp'",
        "pass one of them",
    ),
    (
        lambda x: mg.take_along_axis(x, np.array([0])),
        mg.ShapeError,
        "take_along_axis: indices",
        "expected a shape that fits (3, 2) in all axes but 1, got (1,)",
        "give as many axes as x has, of the same lengths or of length 1",
    ),
    (
        lambda x: mg.take_along_axis(x, np.zeros((2, 1), int), axis=1),
        mg.ShapeError,
        "take_along_axis: indices",
        "expected a shape that fits (3, 2) in all axes but 1, got (2, 1)",
        "give as many axes as x has, of the same lengths or of length 1",
    ),
    (
        lambda x: mg.take_along_axis(x, np.full((1, 2), 3), axis=0),
        mg.ShapeError,
        "take_along_axis: indices outside axis 0",
        "expected -3 to 2 for shape (3, 2), got 3 to 3",
        "check the indices against the length of the axis",
    ),
    (
        lambda x: mg.sort(x, axis=2),
        mg.ShapeError,
        "sort: axis 2",
        "expected an axis of an array that has 2, got 2",
        COUNT,
    ),
    (
        lambda x: mg.argsort(x, axis="a"),
        mg.UsageError,
        "argsort: axis",
        "expected a whole number, got 'a'",
        NUMBERS,
    ),
    (
        lambda x: mg.flip(x, (0, 0)),
        mg.ShapeError,
        "flip: an axis given twice",
        "expected different axes, got (0, 0) of an array that has 2",
        "name each axis once",
    ),
    (
        lambda x: mg.roll(x, (1, 2, 3), (0, 1)),
        mg.ShapeError,
        "roll: shift and axis",
        "expected a shift for each axis, got 3 for 2",
        "give as many shifts as axes, or a single one",
    ),
    (
        lambda x: mg.roll(x, 0.5),
        mg.UsageError,
        "roll: shift",
        "expected a whole number, got 0.5",
        NUMBERS,
    ),
    (
        lambda x: mg.repeat(x, [1, 2], axis=0),
        mg.ShapeError,
        "repeat: repeats",
        "expected a count or 3, none negative, got [1, 2]",
        "give one count for each slice along axis 0, or one for all",
    ),
    (
        lambda x: mg.repeat(x, -1, axis=1),
        mg.ShapeError,
        "repeat: repeats",
        "expected a count or 2, none negative, got -1",
        "give one count for each slice along axis 1, or one for all",
    ),
    (
        lambda x: mg.tile(x, (2, -1)),
        mg.UsageError,
        "tile: reps",
        "expected no negative number, got (2, -1)",
        "pass how many times to lay x out along each axis",
    ),
    (
        lambda x: mg.pad(x, 0.5),
        mg.UsageError,
        "pad: pad_width",
        "expected whole numbers, got float64",
        "convert with .astype(np.int64)",
    ),
    (
        lambda x: mg.pad(x, -1),
        mg.UsageError,
        "pad: pad_width",
        "expected no negative number, got -1",
        "cut with slices: x[1:-1]",
    ),
    (
        lambda x: mg.pad(x, (1, 2, 3)),
        mg.ShapeError,
        "pad: pad_width",
        "expected a number, a pair, or a pair for each of 2 axes, got shape (3,)",
        "write ((before, after), ...)",
    ),
    (
        lambda x: mg.pad(x, 1, constant_values=((0, 0),) * 3),
        mg.ShapeError,
        "pad: constant_values",
        "expected a number, a pair, or a pair for each of 2 axes, got shape (3, 2)",
        "write ((before, after), ...)",
    ),
    (
        lambda x: mg.pad(x, 1, "mirror"),
        mg.UsageError,
        "pad: mode",
        "expected one of constant, edge, reflect, symmetric, wrap, got 'mirror'",
        "pass one of them",
    ),
    (
        lambda x: mg.pad(x[:, :0], 1, "edge"),
        mg.ShapeError,
        "pad: axis 1, which is empty",
        "expected an element to copy, got shape (5, 0)",
        'use mode="constant"',
    ),
    (
        lambda x: mg.triu(x[0, 0]),
        mg.ShapeError,
        "triu: of a number",
        "expected an array, got shape ()",
        "pass a matrix, or a stack of matrices",
    ),
    (
        lambda x: mg.tril(x, 0.5),
        mg.UsageError,
        "tril: k",
        "expected a whole number, got 0.5",
        NUMBERS,
    ),
    (
        lambda x: mg.diagonal(x[0]),
        mg.ShapeError,
        "diagonal: of an array without matrices",
        "expected two axes or more, got shape (2,)",
        "use diag to build a matrix from a vector",
    ),
    (
        lambda x: mg.diagonal(x, axis1=1),
        mg.ShapeError,
        "diagonal: an axis given twice",
        "expected different axes, got (1, 1) of an array that has 2",
        "name each axis once",
    ),
    (
        lambda x: mg.diag(x[None]),
        mg.ShapeError,
        "diag: of neither a vector nor a matrix",
        "expected one or two axes, got shape (1, 3, 2)",
        "use diagonal for stacks of matrices",
    ),
    (
        lambda x: mg.flip_rows(x, lengths=[3, 4]),
        mg.ShapeError,
        "flip_rows: lengths",
        "expected a length of 0 to T for each row of (T, N, ...), got [3, 4] for shape (3, 2)",
        "give one length for each row",
    ),
    (
        lambda x: mg.flip_rows(x[0], lengths=[1]),
        mg.ShapeError,
        "flip_rows: lengths",
        "expected a length of 0 to T for each row of (T, N, ...), got [1] for shape (2,)",
        "give one length for each row",
    ),
]


@pytest.mark.parametrize(("call", "kind", "what", "expected", "remedy"), MESSAGES)
def test_messages(call, kind, what, expected, remedy):
    for x in (np.ones((3, 2)), mg.tensor(np.ones((3, 2)), requires_grad=True)):
        with pytest.raises(kind) as caught:
            call(x)
        assert str(caught.value).split("\n") == [what, f"  {expected}", f"  remedy: {remedy}"]
