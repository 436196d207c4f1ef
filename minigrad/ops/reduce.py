"""Reductions, and broadcasting, which is their transpose."""

import math

import numpy as np

from .. import kernels
from ..graph import Op, register
from .elementwise import exp


def _axes(axis, ndim: int) -> tuple[int, ...]:
    """`axis` (None, a number, a tuple; negative allowed) as a sorted tuple of positions."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    return tuple(sorted(np.lib.array_utils.normalize_axis_tuple(axes, ndim)))


def _kept(shape, axis) -> tuple[int, ...]:
    """`shape` as a reduction over `axis` leaves it with keepdims."""
    axes = _axes(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _spread(g, x, axis):
    """`g`, the cotangent of a reduction of x over axis, spread over the shape of x."""
    return broadcast_to(g.reshape(_kept(x.shape, axis)), shape=x.shape)


_sum = register(
    Op(
        "sum",
        lambda x, *, axis=None, keepdims=False: kernels.sum(x, axis, keepdims),
        vjps=[lambda g, out, x, *, axis=None, keepdims=False: _spread(g, x, axis)],
        doc="The sum over axes; the gradient is spread over them.",
    ),
)


def sum(x, axis=None, keepdims=False):
    """The sum over `axis` (None for all, a number, a tuple), in an order that the shape sets.

    >>> mg.sum(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    array([4., 6.])
    """
    return _sum(x, axis=axis, keepdims=keepdims)


def _sum_to(x, *, shape):
    lead = np.ndim(x) - len(shape)
    axes = tuple(range(lead)) + tuple(
        i + lead for i, n in enumerate(shape) if n == 1 and np.shape(x)[i + lead] != 1
    )
    return kernels.sum(x, axes, True).reshape(shape)


# sum_to(x, shape): the transpose of broadcasting `shape` to x's shape. The backward pass finds it
# by name to undo broadcasting.
sum_to = register(
    Op("sum_to", _sum_to, vjps=[lambda g, out, x, *, shape: broadcast_to(g, shape=x.shape)]),
)

_broadcast_to = register(
    Op(
        "broadcast_to",
        lambda x, *, shape: np.broadcast_to(x, shape),
        vjps=[lambda g, out, x, *, shape: g],  # the pass sums g back to the shape of x
        doc="x repeated along axes of length one, and along new ones in front; g is summed.",
    ),
)


def broadcast_to(x, shape):
    """x as a view of `shape`, repeated along axes of length one and along new ones in front.

    >>> mg.broadcast_to(np.array([1.0, 2.0]), (2, 2))
    array([[1., 2.],
           [1., 2.]])
    """
    return _broadcast_to(x, shape=shape)


def mean(x, axis=None, keepdims=False):
    """The mean over `axis`: sum(x) / n.

    >>> mg.mean(np.array([[1.0, 3.0], [5.0, 7.0]]), axis=0)
    array([3., 5.])
    """
    shape = np.shape(x)
    n = math.prod(shape[i] for i in _axes(axis, len(shape)))
    return sum(x, axis=axis, keepdims=keepdims) / n


def _ties(x, out, *, axis=None):
    """1 at the extremes along `axis`, shared equally among ties, 0 elsewhere."""
    hit = (x == out.reshape(_kept(x.shape, axis))).astype(x.dtype)
    return hit / kernels.sum(hit, _axes(axis, x.ndim), True)


_tie_share = register(Op("tie_share", _ties, vjps=[None, None]))


def _extreme(name, ufunc):
    return register(
        Op(
            name,
            lambda x, *, axis=None, keepdims=False: ufunc.reduce(
                x, axis=_axes(axis, x.ndim), keepdims=keepdims
            ),
            vjps=[
                lambda g, out, x, *, axis=None, keepdims=False: (
                    _spread(g, x, axis) * _tie_share(x, out, axis=axis)
                )
            ],
        ),
    )


# Among equal extremes the gradient is shared equally, as in PyTorch's amax and amin.
_max = _extreme("max", np.maximum)
_min = _extreme("min", np.minimum)


def max(x, axis=None, keepdims=False):
    """The largest element over `axis` (None for all, a number, a tuple).

    >>> mg.max(np.array([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    array([2., 4.])
    """
    return _max(x, axis=axis, keepdims=keepdims)


def min(x, axis=None, keepdims=False):
    """The smallest element over `axis` (None for all, a number, a tuple).

    >>> mg.min(np.array([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    array([1., 3.])
    """
    return _min(x, axis=axis, keepdims=keepdims)


def _lowered(x, axes):
    """x less its maximum over the axes (so that exp cannot overflow), and that maximum."""
    top = np.maximum.reduce(x, axis=axes, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return x - top, top


def _logsumexp(x, *, axis=None, keepdims=False):
    axes = _axes(axis, x.ndim)
    low, top = _lowered(x, axes)
    out = kernels.log(kernels.sum(kernels.exp(low), axes, True)) + top
    return out if keepdims else out.reshape([n for i, n in enumerate(x.shape) if i not in axes])


def _log_softmax(x, *, axis=-1):
    low, _ = _lowered(x, axes := _axes(axis, x.ndim))
    return low - kernels.log(kernels.sum(kernels.exp(low), axes, True))


def _softmax(x, *, axis=-1):
    e = kernels.exp(_lowered(x, axes := _axes(axis, x.ndim))[0])
    return e / kernels.sum(e, axes, True)


# log(sum(exp(x))), safe against overflow.
logsumexp = register(
    Op(
        "logsumexp",
        _logsumexp,
        vjps=[
            lambda g, out, x, *, axis=None, keepdims=False: (
                _spread(g, x, axis) * exp(x - out.reshape(_kept(x.shape, axis)))
            )
        ],
    ),
)

log_softmax = register(
    Op(
        "log_softmax",
        _log_softmax,
        vjps=[
            lambda g, out, x, *, axis=-1: g - exp(out) * sum(g, axis=axis, keepdims=True),
        ],
    ),
)

softmax = register(
    Op(
        "softmax",
        _softmax,
        vjps=[
            lambda g, out, x, *, axis=-1: out * (g - sum(g * out, axis=axis, keepdims=True)),
        ],
    ),
)

__all__ = [
    "broadcast_to", "log_softmax", "logsumexp", "max", "mean", "min", "softmax", "sum",
    "sum_to",
]  # fmt: skip
