"""Ops that move whole blocks of elements and change no value: shapes, axes, joining, taking apart.

Each is the transpose of another one here: joining of taking apart, an order of axes of its inverse.
"""

import itertools
import operator
from functools import lru_cache

import numpy as np

from ..errors import ShapeError, UsageError
from ..graph import Op, Tensor, register

# --- arguments -----------------------------------------------------------------------------------


def as_array(x):
    """x as it is if it is an array or a tensor; lists and numbers as arrays."""
    return x if isinstance(x, (np.ndarray, Tensor)) else np.asarray(x)


def whole(op: str, name: str, number) -> int:
    """`number` as an int. Raises `UsageError` for anything but a whole number."""
    try:
        return operator.index(number)
    except TypeError:
        raise UsageError(
            f"{op}: {name}",
            f"expected a whole number, got {number!r}",
            "pass an int, or a tuple of them where the function takes several",
        ) from None


def axis_of(op: str, axis, ndim: int) -> int:
    """The position of `axis`, which may count from the end. Raises `ShapeError`, `UsageError`."""
    if type(axis) is not int:
        axis = whole(op, "axis", axis)
    if not -ndim <= axis < ndim:
        raise ShapeError(
            f"{op}: axis {axis}",
            f"expected an axis of an array that has {ndim}, got {axis}",
            "axes count from 0, or from -1 backwards",
        )
    return axis % ndim


def axes_of(op: str, axes, ndim: int) -> tuple[int, ...]:
    """The positions of `axes`, a number or several, no two of them the same."""
    axes = axes if isinstance(axes, tuple | list) else (axes,)
    positions = tuple([axis_of(op, axis, ndim) for axis in axes])
    if len(set(positions)) < len(positions):
        raise ShapeError(
            f"{op}: an axis given twice",
            f"expected different axes, got {tuple(axes)} of an array that has {ndim}",
            "name each axis once",
        )
    return positions


def _several(op: str, xs) -> tuple:
    """The arrays that a function is to join. Raises `UsageError` for none."""
    try:
        xs = tuple(xs)
    except TypeError:
        xs = ()
    if not xs:
        raise UsageError(
            f"{op}: what to join",
            "expected a sequence of at least one array",
            "pass a list or a tuple of arrays or tensors",
        )
    return xs


# --- shapes and the order of axes ----------------------------------------------------------------


def _reshaped(x, *, shape):
    try:
        return x.reshape(shape)
    except TypeError:
        raise UsageError(
            "reshape: shape",
            f"expected whole numbers, got {shape!r}",
            "pass an int or a tuple of ints; one of them may be -1",
        ) from None


_reshape = register(
    Op(
        "reshape",
        _reshaped,
        vjps=[lambda g, out, x, *, shape: g.reshape(x.shape)],
        doc="The elements in the same order under another shape; the gradient is reshaped back.",
    ),
)


def reshape(x, shape):
    """The elements of x, in C order, under another shape.

    `shape` is a number or a tuple with as many elements as x; one entry may be -1 and is worked
    out. Raises `ShapeError`, and `UsageError` for what is no shape.

    >>> mg.reshape(np.arange(6), (2, -1))
    array([[0, 1, 2],
           [3, 4, 5]])
    """
    return _reshape(as_array(x), shape=shape)


def ravel(x):
    """The elements of x, in C order, along one axis: shape (x.size,).

    >>> mg.ravel([[1, 2], [3, 4]])
    array([1, 2, 3, 4])
    """
    return _reshape(as_array(x), shape=(-1,))


def flatten(x):
    """The same as `ravel`, under the name that it has as a method.

    >>> mg.flatten([[1, 2], [3, 4]])
    array([1, 2, 3, 4])
    """
    return ravel(x)


def expand_dims(x, axis):
    """x with axes of length one put in.

    `axis` (a number or a tuple) says where the new axes stand in the result. Raises `ShapeError`.

    >>> mg.expand_dims(np.zeros(3), 0).shape
    (1, 3)
    """
    x = as_array(x)
    n = x.ndim + (len(axis) if isinstance(axis, tuple | list) else 1)
    new = axes_of("expand_dims", axis, n)
    old = iter(x.shape)
    return _reshape(x, shape=tuple([1 if i in new else next(old) for i in range(n)]))


def squeeze(x, axis=None):
    """x without its axes of length one, or without those in `axis` (a number or a tuple).

    Raises `ShapeError` for an axis of another length.

    >>> mg.squeeze(np.zeros((1, 3, 1)), axis=0).shape
    (3, 1)
    """
    x = as_array(x)
    if axis is None:
        return _reshape(x, shape=tuple([n for n in x.shape if n != 1]))
    axes = axes_of("squeeze", axis, x.ndim)
    for i in axes:
        if x.shape[i] != 1:
            raise ShapeError(
                f"squeeze: axis {i}",
                f"expected length 1, got {x.shape[i]} in shape {x.shape}",
                "name axes of length 1 only, or take one slice with x[...]",
            )
    return _reshape(x, shape=tuple([n for i, n in enumerate(x.shape) if i not in axes]))


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


_transpose = register(
    Op(
        "transpose",
        lambda x, *, axes: x.transpose(axes),
        vjps=[
            lambda g, out, x, *, axes: _transpose(g, axes=None if axes is None else _inverse(axes))
        ],
        doc="The axes in another order; the gradient gets the inverse order.",
    ),
)


def transpose(x, axes=None):
    """x with its axes in another order, or in the opposite one.

    out.shape[i] = x.shape[axes[i]]

    Raises `ShapeError` where `axes` is not an order of all axes.

    >>> mg.transpose(np.zeros((2, 3, 4)), (1, 2, 0)).shape
    (3, 4, 2)
    """
    x = as_array(x)
    if axes is not None:
        axes = axes_of("transpose", axes, x.ndim)
        if len(axes) != x.ndim:
            raise ShapeError(
                "transpose: axes",
                f"expected all {x.ndim} axes of shape {x.shape}, got {axes}",
                "name each axis once",
            )
    return _transpose(x, axes=axes)


def swapaxes(x, axis1, axis2):
    """x with two axes exchanged. Raises `ShapeError` for an axis that x has not.

    >>> mg.swapaxes(np.zeros((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    x = as_array(x)
    n = x.ndim
    i, j = axis_of("swapaxes", axis1, n), axis_of("swapaxes", axis2, n)
    order = list(range(n))
    order[i], order[j] = j, i
    return _transpose(x, axes=tuple(order))


def moveaxis(x, source, destination):
    """x with the axes `source` moved to the places `destination`, the others in their order.

    Both are numbers, or tuples of the same length. Raises `ShapeError`.

    >>> mg.moveaxis(np.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = as_array(x)
    froms, tos = (axes_of("moveaxis", axes, x.ndim) for axes in (source, destination))
    if len(froms) != len(tos):
        raise ShapeError(
            "moveaxis: source and destination",
            f"expected one place for each axis, got {len(tos)} for {len(froms)}",
            "give as many destinations as sources",
        )
    order = [i for i in range(x.ndim) if i not in froms]
    for place, axis in sorted(zip(tos, froms, strict=True)):
        order.insert(place, axis)
    return _transpose(x, axes=tuple(order))


# --- joining along an axis, and cutting along one ------------------------------------------------


def _misfit(op: str, xs, axis, error: object) -> ShapeError:
    return ShapeError(
        f"{op}: arrays that do not fit together",
        f"got shapes {', '.join(str(np.shape(x)) for x in xs)} along axis {axis!r}: {error}",
        "check the axis and the shapes of the parts",
    )


def _joined(*xs, axis):
    try:
        return np.concatenate(xs, axis)
    except (ValueError, TypeError) as error:
        raise _misfit("concatenate", xs, axis, error) from error


def _cut(g, xs, axis):
    """The pieces of g that belong to the arrays that were joined."""
    lengths = [x.shape[axis] for x in xs]
    return _split(g, sections=tuple(itertools.accumulate(lengths[:-1])), axis=axis % g.ndim)


_concatenate = register(
    Op(
        "concatenate",
        _joined,
        vjp=lambda needs, g, out, *xs, axis: _cut(g, xs, axis),
        doc="The arguments one after the other along an axis; each gets its piece of the gradient.",
    ),
)


def concatenate(xs, axis=0):
    """The arrays or tensors of a sequence, one after the other along an axis.

    Their shapes agree but for that axis; with `axis=None` each is flattened first. Raises
    `ShapeError`, and `UsageError` for an empty sequence.

    >>> mg.concatenate([np.zeros((2, 3)), np.ones((1, 3))]).shape
    (3, 3)
    """
    xs = _several("concatenate", xs)
    if axis is None:
        xs, axis = tuple([ravel(x) for x in xs]), 0
    return _concatenate(*xs, axis=axis)


def _stacked(*xs, axis):
    try:
        # np.array is twice as fast as np.stack, which checks each array in Python.
        return np.array(xs) if axis == 0 else np.stack(xs, axis)
    except (ValueError, TypeError) as error:
        raise _misfit("stack", xs, axis, "they must all be the same") from error


_stack = register(
    Op(
        "stack",
        _stacked,
        vjp=lambda needs, g, out, *xs, axis: _unstack(g, axis=axis),
        doc="The arguments along a new axis; each gets its slice of the gradient.",
    ),
)


def stack(xs, axis=0):
    """The arrays or tensors of a sequence, all of one shape, along a new axis.

    `axis` is where the new axis stands in the result. Raises `ShapeError`, and `UsageError` for an
    empty sequence.

    >>> mg.stack([np.zeros(3), np.ones(3)], axis=1).shape
    (3, 2)
    """
    xs = _several("stack", xs)
    return _stack(*xs, axis=axis_of("stack", axis, as_array(xs[0]).ndim + 1))


def vstack(xs):
    """The arrays or tensors of a sequence one below the other: joined along axis 0.

    A vector counts as a row. Raises `ShapeError`, and `UsageError` for an empty sequence.

    >>> mg.vstack([np.zeros(3), np.ones((2, 3))]).shape
    (3, 3)
    """
    return concatenate([_at_least(2, x) for x in _several("vstack", xs)])


def hstack(xs):
    """The arrays or tensors of a sequence side by side: joined along axis 1, vectors along axis 0.

    Raises `ShapeError`, and `UsageError` for an empty sequence.

    >>> mg.hstack([np.zeros((2, 1)), np.ones((2, 3))]).shape
    (2, 4)
    """
    xs = [_at_least(1, x) for x in _several("hstack", xs)]
    return concatenate(xs, axis=0 if xs[0].ndim == 1 else 1)


def _at_least(ndim: int, x):
    """x with as many axes of length one before its own as it lacks."""
    x = as_array(x)
    return x if x.ndim >= ndim else _reshape(x, shape=(1,) * (ndim - x.ndim) + x.shape)


def _slices(axis: int, bounds) -> tuple:
    """Indices of the pieces of an array between bounds along an axis."""
    lead = (slice(None),) * axis
    return tuple([(*lead, slice(start, stop)) for start, stop in itertools.pairwise(bounds)])


@lru_cache(maxsize=64)  # a recurrent cell asks for the same pieces in every step
def _equal_slices(axis: int, n: int, sections: int) -> tuple:
    return _slices(axis, [n * i // sections for i in range(sections + 1)])


def _pieces(x, *, sections, axis):
    n = x.shape[axis]
    if isinstance(sections, tuple):
        indices = _slices(axis, (0, *sections, n))
    else:
        indices = _equal_slices(axis, n, sections)
    return tuple([x[index] for index in indices])


_split = register(
    Op(
        "split",
        _pieces,
        vjps=[lambda g, out, x, *, sections, axis: _concatenate(*g, axis=axis)],
        array_vjps=[lambda g, out, x, *, sections, axis: np.concatenate(g, axis)],
        multi=True,
        doc="The pieces of x between ascending cuts, or so many equal ones; "
        "the gradients of the pieces are joined.",
    ),
)


def split(x, sections, axis=0):
    """The pieces of x along an axis, as a tuple: so many equal ones, or cut at given places.

    A tuple of `sections` (i, j, ...) gives x[:i], x[i:j], ... along the axis, as slices do. Raises
    `ShapeError` where pieces would not be equal, `UsageError` for no whole or positive number.

    >>> mg.split(np.arange(6), 3)
    (array([0, 1]), array([2, 3]), array([4, 5]))
    >>> mg.split(np.arange(6), (1, 4))
    (array([0]), array([1, 2, 3]), array([4, 5]))
    """
    x = as_array(x)
    shape = x.shape
    axis = axis_of("split", axis, len(shape))
    if type(sections) is not int:
        if np.ndim(sections):
            return _split_at(x, sections, axis)
        sections = whole("split", "sections", sections)
    if sections < 1 or shape[axis] % sections:
        raise _unequal("split", sections, axis, shape)
    return _split.apply((x,), {"sections": sections, "axis": axis})  # the way of each time step


def _split_at(x, cuts, axis):
    n = x.shape[axis]
    cuts = [whole("split", "sections", cut) for cut in cuts]
    cuts = [min(cut, n) if cut >= 0 else max(cut + n, 0) for cut in cuts]
    if cuts != sorted(cuts):  # NumPy has it so: then pieces leave gaps, or overlap
        return tuple([x[index] for index in _slices(axis, (0, *cuts, n))])
    return _split(x, sections=tuple(cuts), axis=axis)


def _unequal(op, sections, axis, shape):
    if sections < 1:
        return UsageError(
            f"{op}: sections",
            f"expected at least 1, got {sections}",
            "pass the number of pieces, or a tuple of places to cut at",
        )
    return ShapeError(
        f"{op}: into {sections} equal pieces along axis {axis}",
        f"expected a length divisible by {sections}, got {shape[axis]} in shape {shape}",
        "use array_split for pieces that differ by one, or pass the places to cut at",
    )


def array_split(x, sections, axis=0):
    """The pieces of x along an axis, as `split` gives them, but that their lengths may differ.

    Where the length is not divisible by `sections` the first pieces are longer by one. Raises
    `ShapeError` for an axis that x has not, `UsageError` for no positive number.

    >>> mg.array_split(np.arange(5), 2)
    (array([0, 1, 2]), array([3, 4]))
    """
    x = as_array(x)
    axis = axis_of("array_split", axis, x.ndim)
    if np.ndim(sections):
        return _split_at(x, sections, axis)
    sections = whole("array_split", "sections", sections)
    if sections < 1:
        raise _unequal("array_split", sections, axis, x.shape)
    size, longer = divmod(x.shape[axis], sections)
    return _split_at(x, [i * size + min(i, longer) for i in range(1, sections)], axis)


_unstack = register(
    Op(
        "unstack",
        lambda x, *, axis: tuple(x if axis == 0 else np.moveaxis(x, axis, 0)),
        vjps=[lambda g, out, x, *, axis: _stack(*g, axis=axis)],
        array_vjps=[lambda g, out, x, *, axis: _stacked(*g, axis=axis)],
        multi=True,
        doc="The slices of x along an axis, without it; the gradients of the slices are stacked.",
    ),
)


def unstack(x, axis=0):
    """The slices of x along an axis, without that axis, as a tuple.

    One call for all of them: the gradient is one stack, where indexing step by step would add as
    many arrays of the size of x. Raises `ShapeError`.

    >>> a, b = mg.unstack(np.array([[1, 2], [3, 4]]), axis=1)
    >>> a
    array([1, 3])
    """
    x = as_array(x)
    return _unstack(x, axis=axis_of("unstack", axis, x.ndim))


# --- constants of a shape ------------------------------------------------------------------------


def full_like(x, fill_value, dtype=None):
    """A constant of the shape of x, and of its dtype if no other is given, filled with a value.

    No gradient flows from it to x. Raises `DtypeError` for a tensor of a dtype not supported.

    >>> mg.full_like(np.zeros((2, 2)), 7.0)
    array([[7., 7.],
           [7., 7.]])
    """
    x = as_array(x)
    full = np.full(x.shape, np.asarray(fill_value), x.dtype if dtype is None else dtype)
    return Tensor(full) if isinstance(x, Tensor) else full


def zeros_like(x, dtype=None):
    """Zeros of the shape of x, and of its dtype if no other is given: a constant.

    >>> mg.zeros_like(np.array([1.0, 2.0]))
    array([0., 0.])
    """
    return full_like(x, 0, dtype)


def ones_like(x, dtype=None):
    """Ones of the shape of x, and of its dtype if no other is given: a constant.

    >>> mg.ones_like(np.array([1.0, 2.0]))
    array([1., 1.])
    """
    return full_like(x, 1, dtype)
