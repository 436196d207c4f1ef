"""Running sums and products along an axis.

They have no rule that divides by an element: the gradient of a product is exact where elements are
0, to every order. All rests on one op, the linear recurrence, whose transpose is itself with the
axis walked the other way.
"""

import numpy as np

from ..graph import Op, register
from .index import _getitem, _pad
from .shape import as_array, axis_of, ravel


def _walked(x, axis, reverse):
    """A view of x with `axis` in front, in the order in which a scan walks it."""
    return np.moveaxis(x, axis, 0)[:: -1 if reverse else 1]


def _before(x, axis, reverse, first):
    """What stands before each element on the way along an axis, and `first` before the first."""
    n = x.shape[axis]
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, 1) if reverse else (1, 0)
    padded = _pad(x, widths=tuple(widths), values=((first, first),) * x.ndim)
    kept = slice(1, n + 1) if reverse else slice(n)
    return _getitem(padded, index=(*[slice(None)] * axis, kept))


# --- s[i] = a[i] s[i-1] + b[i] -------------------------------------------------------------------


def _recur(a, b, *, axis, reverse):
    s = np.empty(b.shape, np.result_type(a, b))
    a, b, steps = (_walked(x, axis, reverse) for x in (a, b, s))
    for i in range(len(steps)):
        steps[i] = a[i] * steps[i - 1] + b[i] if i else b[i]
    return s


def _recurrence_rule(needs, g, out, a, b, *, axis, reverse):
    after = _before(a, axis, not reverse, 0)
    db = _recurrence(after, g, axis=axis, reverse=not reverse)
    return [db * _before(out, axis, reverse, 0), db]


_recurrence = register(
    Op(
        "recurrence",
        _recur,
        vjp=_recurrence_rule,
        doc="s[i] = a[i] s[i-1] + b[i] along an axis, from either end, s being 0 before it. "
        "Gradient: db[i] = g[i] + a[i+1] db[i+1] to b, db[i] s[i-1] to a.",
    ),
)


# --- sums and products ---------------------------------------------------------------------------


def _accumulated(ufunc):
    """The forward of a running sum or product."""

    def forward(x, *, axis, reverse):
        if not reverse:
            return ufunc.accumulate(x, axis)
        out = np.empty(x.shape, x.dtype)
        ufunc.accumulate(_walked(x, axis, True), 0, out=_walked(out, axis, True))
        return out

    return forward


_cumsum = register(
    Op(
        "cumsum",
        _accumulated(np.add),
        vjps=[lambda g, out, x, *, axis, reverse: _cumsum(g, axis=axis, reverse=not reverse)],
        doc="Running sums along an axis, from either end. Gradient: running sums of g from the "
        "other end.",
    ),
)


def _cumprod_to_x(g, out, x, *, axis, reverse):
    """dx[i] = x[0] ... x[i-1] s[i], where s[i] = g[i] + x[i+1] s[i+1]: nothing is divided by."""
    s = _recurrence(_before(x, axis, not reverse, 0), g, axis=axis, reverse=not reverse)
    return _before(out, axis, reverse, 1) * s


_cumprod = register(
    Op(
        "cumprod",
        _accumulated(np.multiply),
        vjps=[_cumprod_to_x],
        doc="Running products along an axis, from either end. Gradient: the sum of g[k] times the "
        "product of all others up to k, for k >= i; exact where elements are 0.",
    ),
)


def products_of_others(rows):
    """At each element of rows (..., n), the product of all others of its row; exact beside zeros.

    It is the product of those before times the product of those behind.
    """
    axis = rows.ndim - 1
    before, behind = (
        _before(_cumprod(rows, axis=axis, reverse=reverse), axis, reverse, 1)
        for reverse in (False, True)
    )
    return before * behind


def _along(op, x, axis):
    """x and the position of an axis of it; x flattened, and 0, if that is None."""
    x = as_array(x)
    return (ravel(x), 0) if axis is None else (x, axis_of(op, axis, x.ndim))


def cumsum(x, axis=None):
    """The running sums of x along an axis, or of its elements in C order if that is None.

    out[i] = x[0] + ... + x[i]

    x has any shape, out the same, or (x.size,) without an axis. The sums are formed one after the
    other, whatever the memory layout. Raises `ShapeError`.

    >>> mg.cumsum(np.array([1.0, 2.0, 3.0]))
    array([1., 3., 6.])
    """
    x, axis = _along("cumsum", x, axis)
    return _cumsum(x, axis=axis, reverse=False)


def cumprod(x, axis=None):
    """The running products of x along an axis, or of its elements in C order if that is None.

    out[i] = x[0] ... x[i]

    x has any shape, out the same, or (x.size,) without an axis. Gradients of every order are exact
    where elements are 0, because nothing is divided by; they cost a step in Python for each
    element along the axis. Raises `ShapeError`.

    >>> mg.cumprod(np.array([1.0, 2.0, 3.0]))
    array([1., 2., 6.])
    """
    x, axis = _along("cumprod", x, axis)
    return _cumprod(x, axis=axis, reverse=False)
