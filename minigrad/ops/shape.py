"""Ops that move elements and change no value."""

import numpy as np

from .. import kernels
from ..graph import Op, Tensor, register

reshape = register(
    Op(
        "reshape",
        lambda x, *, shape: np.reshape(x, shape),
        vjps=[lambda g, out, x, *, shape: g.reshape(x.shape)],
    ),
)

transpose = register(
    Op(
        "transpose",
        lambda x, *, axes=None: np.transpose(x, axes),
        vjps=[
            lambda g, out, x, *, axes=None: transpose(
                g, axes=None if axes is None else tuple(np.argsort([a % x.ndim for a in axes]))
            )
        ],
    ),
)


def moveaxis(x, source, destination):
    """x with one axis moved to another place, the others in their order.

    >>> mg.moveaxis(np.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    n = np.ndim(x.data if isinstance(x, Tensor) else x)
    order = [i for i in range(n) if i != source % n]
    order.insert(destination % n, source % n)
    return transpose(x, axes=tuple(order))


def swapaxes(x, axis1, axis2):
    """x with two axes exchanged.

    >>> mg.swapaxes(np.zeros((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    order = list(range(np.ndim(x.data if isinstance(x, Tensor) else x)))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, axes=tuple(order))


def expand_dims(x, axis):
    """x with an axis of length one put in at `axis` (a number or a tuple).

    >>> mg.expand_dims(np.zeros(3), 0).shape
    (1, 3)
    """
    return reshape(x, shape=np.expand_dims(x.data if isinstance(x, Tensor) else x, axis).shape)


def squeeze(x, axis=None):
    """x without its axes of length one (or without `axis`).

    >>> mg.squeeze(np.zeros((1, 3, 1)), axis=0).shape
    (3, 1)
    """
    return reshape(x, shape=np.squeeze(x.data if isinstance(x, Tensor) else x, axis).shape)


# --- putting together and taking apart -----------------------------------------------------------


def _slice(x, axis, start, stop):
    return x[(slice(None),) * (axis % x.ndim) + (slice(start, stop),)]


def _concatenate_vjp(needs, g, out, *xs, axis):
    stops = np.cumsum([x.shape[axis] for x in xs])
    return [
        _slice(g, axis, stop - x.shape[axis], stop) if need else None
        for x, stop, need in zip(xs, stops, needs, strict=True)
    ]


_concatenate = register(
    Op("concatenate", lambda *xs, axis: np.concatenate(xs, axis), vjp=_concatenate_vjp),
)


def concatenate(xs, axis=0):
    """The arrays or tensors of a sequence joined along an existing axis.

    >>> mg.concatenate([np.zeros((2, 3)), np.ones((1, 3))]).shape
    (3, 3)
    """
    return _concatenate(*xs, axis=axis)


_stack = register(
    Op(
        "stack",
        lambda *xs, axis: np.stack(xs, axis),
        vjp=lambda needs, g, out, *xs, axis: unstack(g, axis=axis),
    ),
)


def stack(xs, axis=0):
    """The arrays or tensors of a sequence joined along a new axis.

    >>> mg.stack([np.zeros(3), np.ones(3)], axis=1).shape
    (3, 2)
    """
    return _stack(*xs, axis=axis)


# unstack(x, axis): the slices of x along an axis, without that axis. One node for all of them: the
# gradient is one stack, where indexing step by step would add T arrays of the size of x.
unstack = register(
    Op(
        "unstack",
        lambda x, *, axis=0: tuple(np.moveaxis(x, axis, 0)),
        vjp=lambda needs, g, out, x, *, axis=0: [stack(g, axis)],
        multi=True,
    ),
)


def _pieces(x, sections, axis):
    if isinstance(sections, int) and axis == -1:
        n = x.shape[-1]
        if n % sections == 0:
            w = n // sections
            return [x[..., i : i + w] for i in range(0, n, w)]
    return np.split(x, sections, axis)


split = register(
    Op(
        "split",
        lambda x, *, sections, axis=0: _pieces(x, sections, axis),
        vjp=lambda needs, g, out, x, *, sections, axis=0: [concatenate(g, axis)],
        multi=True,
    ),
)


# --- indexing ------------------------------------------------------------------------------------


def _is_rows(index) -> bool:
    return isinstance(index, np.ndarray) and index.dtype.kind in "iu"


def _is_basic(index) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or isinstance(i, int | np.integer | slice) for i in items)


def _put(g, *, index, shape):
    if _is_rows(index):
        return kernels.scatter_rows(index, g, shape)
    out = np.zeros(shape, g.dtype)
    if _is_basic(index):
        out[index] = g
    else:
        np.add.at(out, index, g)
    return out


# getitem(x, index): NumPy's basic and advanced indexing. put(g, index, shape) is its transpose:
# zeros with g added at the places that were read, repeats adding up.
getitem = register(
    Op(
        "getitem",
        lambda x, *, index: x[index],
        vjps=[lambda g, out, x, *, index: _put_op(g, index=index, shape=x.shape)],
    ),
)
_put_op = register(
    Op("put", _put, vjps=[lambda g, out, x, *, index, shape: getitem(g, index=index)]),
)


def _flip_rows(x, *, lengths):
    if lengths is None:
        return x[::-1]
    t = np.arange(len(x))[:, None]
    return x[np.where(t < lengths, lengths - 1 - t, t), np.arange(x.shape[1])]


# flip_rows(x, lengths): time reversed, each row (axis 1) within its own length; what stands past it
# stays where it is. Its own inverse, and its own transpose.
flip_rows = register(
    Op(
        "flip_rows",
        _flip_rows,
        vjps=[lambda g, out, x, *, lengths: flip_rows(g, lengths=lengths)],
    ),
)
