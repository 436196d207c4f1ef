"""Reductions over axes, and broadcasting, which is the transpose of a sum.

Each takes `axis` (None for all, a number, a tuple of them; negative ones count from the end) and
`keepdims`, as in NumPy. Sums and products run in an order that depends on the shape alone, never
on the memory layout, and so does all that is made of them. Where the gradient is a matter of
convention (ties, zeros, infinities) the convention stands in the docstring.
"""

import math

import numpy as np

from .. import kernels
from ..errors import ShapeError, UsageError
from ..graph import Op, register
from .elementwise import absolute, astype, exp, power, square, where
from .scan import products_of_others
from .shape import as_array, axes_of, axis_of, moveaxis

# --- axes ----------------------------------------------------------------------------------------


def _axes(op: str, axis, ndim: int) -> tuple[int, ...]:
    """The positions of the axes to reduce. Raises `ShapeError`, `UsageError`."""
    return tuple(range(ndim)) if axis is None else axes_of(op, axis, ndim)


def _kept(shape, axis) -> tuple[int, ...]:
    """`shape` as a reduction over `axis` leaves it with keepdims."""
    axes = _axes("reduction", axis, len(shape))
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


def _count(op: str, shape, axis) -> int:
    """How many elements are reduced to one."""
    return math.prod([shape[i] for i in _axes(op, axis, len(shape))])


def _some(op: str, x, axis) -> tuple[int, ...]:
    """The positions of the axes, among which there is something to choose from."""
    axes = _axes(op, axis, x.ndim)
    if math.prod([x.shape[i] for i in axes]) == 0:
        raise ShapeError(
            f"{op}: of nothing",
            f"expected at least one element along the axes {axes}, got shape {x.shape}",
            "check the axis, or leave empty arrays out",
        )
    return axes


def _floats(x):
    """x as an array or tensor of floats; integers and booleans become float64."""
    x = as_array(x)
    return astype(x, np.float64) if x.dtype.kind in "iub" else x


def _spread(g, x, axis):
    """`g`, the cotangent of a reduction of x over axis, spread over the shape of x."""
    return broadcast_to(g.reshape(_kept(x.shape, axis)), shape=x.shape)


# --- sums, and broadcasting ----------------------------------------------------------------------

_sum = register(
    Op(
        "sum",
        lambda x, *, axis, keepdims: kernels.sum(x, _axes("sum", axis, x.ndim), keepdims),
        vjps=[lambda g, out, x, *, axis, keepdims: _spread(g, x, axis)],
        doc="The sum over axes. Gradient: g to every element.",
    ),
)


def sum(x, axis=None, keepdims=False):
    """The sum over `axis` (None for all, a number, a tuple), in an order that the shape sets.

    With `keepdims` the axes stay, with length 1. The sum of nothing is 0. Raises `ShapeError`.

    >>> mg.sum(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    array([4., 6.])
    """
    return _sum(as_array(x), axis=axis, keepdims=keepdims)


def _sum_to(x, *, shape):
    lead = np.ndim(x) - len(shape)
    axes = tuple(range(lead)) + tuple(
        i + lead for i, n in enumerate(shape) if n == 1 and np.shape(x)[i + lead] != 1
    )
    return kernels.sum(x, axes, True).reshape(shape)


# The backward pass finds it by name, to undo broadcasting.
sum_to = register(
    Op(
        "sum_to",
        _sum_to,
        vjps=[lambda g, out, x, *, shape: broadcast_to(g, shape=x.shape)],
        doc="The transpose of broadcasting `shape` to the shape of x. Gradient: g, broadcast.",
    ),
)


def _broadcast(x, *, shape):
    try:
        return np.broadcast_to(x, shape)
    except (ValueError, TypeError) as error:
        raise ShapeError(
            "broadcast_to: shape",
            f"expected one to which shape {x.shape} broadcasts, got {shape!r}",
            "an axis must have the same length or length 1; new axes come in front",
        ) from error


_broadcast_to = register(
    Op(
        "broadcast_to",
        _broadcast,
        vjps=[lambda g, out, x, *, shape: g],  # the pass sums g back to the shape of x
        doc="x repeated along axes of length one, and along new ones in front; g is summed.",
    ),
)


def broadcast_to(x, shape):
    """x as a view of `shape`, repeated along axes of length one and along new ones in front.

    The gradients of the copies add up. Raises `ShapeError` where x does not broadcast.

    >>> mg.broadcast_to(np.array([1.0, 2.0]), (2, 2))
    array([[1., 2.],
           [1., 2.]])
    """
    return _broadcast_to(as_array(x), shape=shape)


def mean(x, axis=None, keepdims=False):
    """The mean over `axis`: sum(x) / n.

    With `keepdims` the axes stay, with length 1. The mean of nothing is NaN, of which NumPy warns.
    Raises `ShapeError`.

    >>> mg.mean(np.array([[1.0, 3.0], [5.0, 7.0]]), axis=0)
    array([3., 5.])
    """
    x = as_array(x)
    n = _count("mean", x.shape, axis)
    return sum(x, axis, keepdims) / n


# --- products ------------------------------------------------------------------------------------


def _others(x, axis):
    """At each element of x the product of all others over the axes."""
    axes = _axes("prod", axis, x.ndim)
    kept = x.ndim - len(axes)
    last = tuple(range(kept, x.ndim))
    moved = moveaxis(x, axes, last)
    rows = moved.reshape((*moved.shape[:kept], math.prod(moved.shape[kept:])))
    return moveaxis(products_of_others(rows).reshape(moved.shape), last, axes)


_prod = register(
    Op(
        "prod",
        lambda x, *, axis, keepdims: kernels.prod(x, _axes("prod", axis, x.ndim), keepdims),
        vjps=[lambda g, out, x, *, axis, keepdims: _spread(g, x, axis) * _others(x, axis)],
        doc="The product over axes. Gradient: g times the product of all other elements, exact "
        "where elements are 0.",
    ),
)


def prod(x, axis=None, keepdims=False):
    """The product over `axis` (None for all, a number, a tuple), in an order that the shape sets.

    With `keepdims` the axes stay, with length 1. The product of nothing is 1. Gradients of every
    order are exact where elements are 0: they are made of the products of the others, and nothing
    is divided by. Raises `ShapeError`.

    >>> x = np.array([2.0, 0.0, 3.0])
    >>> mg.prod(x + 1)
    np.float64(12.0)
    >>> mg.grad(mg.prod)(x)
    array([0., 6., 0.])
    """
    return _prod(as_array(x), axis=axis, keepdims=keepdims)


# --- the spread ----------------------------------------------------------------------------------


def _centred(x, axis):
    """x less its mean, and less what rounding left of that: exactly 0 where all are equal."""
    for _ in range(2):
        x = x - mean(x, axis, keepdims=True)
    return x


def _freedom(x, axis, ddof):
    """What the sum of squares is divided by."""
    n = _count("var", x.shape, axis)
    return n - ddof if n > ddof else 0


def _var_forward(x, *, axis, ddof, keepdims):
    c = _centred(x, axis)
    return kernels.sum(c * c, _axes("var", axis, x.ndim), keepdims) / _freedom(x, axis, ddof)


_var = register(
    Op(
        "var",
        _var_forward,
        vjps=[
            lambda g, out, x, *, axis, ddof, keepdims: (
                _spread(g, x, axis) * (2 * _centred(x, axis) / _freedom(x, axis, ddof))
            )
        ],
        doc="The sum of (x - mean)^2 over n - ddof. Gradient: 2 g (x - mean) / (n - ddof).",
    ),
)


# sqrt for sums of squares, whose own gradient vanishes where theirs would be infinite.
_root = register(
    Op(
        "root",
        np.sqrt,
        vjps=[lambda g, out, x: g / where(out == 0, math.inf, 2 * out)],
        doc="The square root. Gradient: g / (2 sqrt(x)), and 0 at 0.",
    ),
)


def _variance(op: str, x, axis, keepdims, ddof, correction):
    """`var` under the name of the function that is called; `correction` stands in for `ddof`."""
    if correction is not None and ddof != 0:
        raise UsageError(
            f"{op}: ddof and correction",
            f"expected one of them, got ddof={ddof!r} and correction={correction!r}",
            "they are two names for the same number: leave one out",
        )
    number = ddof if correction is None else correction
    if not isinstance(number, int | float | np.integer | np.floating):
        raise UsageError(
            f"{op}: {'ddof' if correction is None else 'correction'}",
            f"expected a number, got {number!r}",
            "pass 0 to divide by n, 1 to divide by n - 1",
        )
    x = as_array(x)
    return _var(x, axis=_axes(op, axis, x.ndim), ddof=float(number), keepdims=keepdims)


def var(x, axis=None, keepdims=False, *, ddof=0, correction=None):
    """The variance over `axis` (None for all, a number, a tuple).

    out = sum((x - mean(x))^2) / (n - ddof)

    The mean is formed first, so that a large one costs no digits, and equal elements give exactly
    0. `ddof` is 0 as in NumPy, where PyTorch has 1; `correction` is its name in the array standard.
    Where n <= ddof out is NaN or inf, of which NumPy warns. Raises `ShapeError`, `UsageError`.

    Source: Chan, Golub, LeVeque (1983), Algorithms for computing the sample variance.

    >>> mg.var(np.array([1.0, 2.0, 3.0]), ddof=1)
    np.float64(1.0)
    """
    return _variance("var", x, axis, keepdims, ddof, correction)


def std(x, axis=None, keepdims=False, *, ddof=0, correction=None):
    """The standard deviation over `axis`: the square root of `var`, with the same arguments.

    Where it is 0, all elements being equal, its gradient is 0, as in PyTorch. Raises `ShapeError`,
    `UsageError`.

    >>> mg.std(np.array([[1.0, 3.0], [5.0, 9.0]]), axis=1)
    array([1., 2.])
    """
    return _root(_variance("std", x, axis, keepdims, ddof, correction))


# --- extremes ------------------------------------------------------------------------------------


def _ties(x, out, *, axis):
    hit = ((x == out.reshape(_kept(x.shape, axis))) | (x != x)).astype(x.dtype)
    return hit / kernels.sum(hit, _axes("max", axis, x.ndim), True)


_tie_share = register(
    Op(
        "tie_share",
        _ties,
        vjps=[None, None],
        doc="1 at the extremes `out` of x, shared equally among ties, 0 elsewhere; NaNs are the "
        "extremes where there are any. A constant of the point: no gradient.",
    ),
)


def _extreme_to_x(g, out, x, *, axis, keepdims):
    share = _tie_share(x, out, axis=axis)
    return where(share > 0, _spread(g, x, axis), 0) * share


def _extreme(name, ufunc, which):
    return register(
        Op(
            name,
            lambda x, *, axis, keepdims: ufunc.reduce(
                x, axis=_some(name, x, axis), keepdims=keepdims
            ),
            vjps=[_extreme_to_x],
            doc=f"The {which} element over axes, NaN if there is one. Gradient: g, shared equally "
            "among ties, and among NaNs.",
        ),
    )


_max = _extreme("max", np.maximum, "largest")
_min = _extreme("min", np.minimum, "smallest")


def max(x, axis=None, keepdims=False):
    """The largest element over `axis` (None for all, a number, a tuple).

    NaN if there is one. Equal ones share the gradient equally, and so do NaNs, as in PyTorch's
    amax and max. Raises `ShapeError`, also for the largest of nothing.

    >>> mg.max(np.array([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    array([2., 4.])
    """
    return _max(as_array(x), axis=axis, keepdims=keepdims)


def min(x, axis=None, keepdims=False):
    """The smallest element over `axis` (None for all, a number, a tuple).

    NaN if there is one. Equal ones share the gradient equally, and so do NaNs, as in PyTorch's
    amin and min. Raises `ShapeError`, also for the smallest of nothing.

    >>> mg.min(np.array([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    array([1., 3.])
    """
    return _min(as_array(x), axis=axis, keepdims=keepdims)


# NumPy's second names.
amax, amin = max, min


def ptp(x, axis=None, keepdims=False):
    """The range over `axis`, peak to peak: max(x) - min(x).

    Gradients as of `max` and `min`. Raises `ShapeError`, also for the range of nothing.

    >>> mg.ptp(np.array([3.0, 1.0, 7.0]))
    np.float64(6.0)
    """
    x = as_array(x)
    axes = _some("ptp", x, axis)
    return max(x, axes, keepdims) - min(x, axes, keepdims)


# --- constants of the point ----------------------------------------------------------------------


def _constant(name, forward, doc):
    return register(Op(name, forward, vjps=[None], doc=f"{doc} A constant of the point."))


def _place(name, numpys, which):
    return _constant(
        name,
        lambda x, *, axis, keepdims: numpys(x, axis=axis, keepdims=keepdims),
        f"The place of the {which} element along an axis, or in x flattened.",
    )


_argmax = _place("argmax", np.argmax, "first largest")
_argmin = _place("argmin", np.argmin, "first smallest")
_any = _constant(
    "any",
    lambda x, *, axis, keepdims: np.any(x, axis=_axes("any", axis, x.ndim), keepdims=keepdims),
    "Whether an element over axes is other than 0.",
)
_all = _constant(
    "all",
    lambda x, *, axis, keepdims: np.all(x, axis=_axes("all", axis, x.ndim), keepdims=keepdims),
    "Whether all elements over axes are other than 0.",
)
_count_nonzero = _constant(
    "count_nonzero",
    lambda x, *, axis, keepdims: kernels.sum(
        x != 0, _axes("count_nonzero", axis, x.ndim), keepdims
    ),
    "How many elements over axes are other than 0.",
)


def _at_extreme(op, x, axis, keepdims):
    x = as_array(x)
    axis = axis if axis is None else axis_of(op.name, axis, x.ndim)
    _some(op.name, x, axis)
    return op(x, axis=axis, keepdims=keepdims)


def argmax(x, axis=None, keepdims=False):
    """The place of the largest element along an axis, or in x flattened if that is None.

    The first among equal ones, and the first NaN if there is one. A constant of the point, without
    a gradient. Raises `ShapeError`, also for the largest of nothing, and `UsageError`.

    >>> mg.argmax(np.array([[1.0, 3.0, 3.0], [4.0, 2.0, 0.0]]), axis=1)
    array([1, 0])
    """
    return _at_extreme(_argmax, x, axis, keepdims)


def argmin(x, axis=None, keepdims=False):
    """The place of the smallest element along an axis, or in x flattened if that is None.

    The first among equal ones, and the first NaN if there is one. A constant of the point, without
    a gradient. Raises `ShapeError`, also for the smallest of nothing, and `UsageError`.

    >>> mg.argmin(np.array([[1.0, 3.0, 3.0], [4.0, 2.0, 0.0]]), axis=1)
    array([0, 2])
    """
    return _at_extreme(_argmin, x, axis, keepdims)


def any(x, axis=None, keepdims=False):
    """Whether an element over `axis` (None for all, a number, a tuple) is other than 0.

    NaN is. A constant of the point, without a gradient. Raises `ShapeError`.

    >>> mg.any(np.array([[0.0, 2.0], [0.0, 0.0]]), axis=1)
    array([ True, False])
    """
    return _any(as_array(x), axis=axis, keepdims=keepdims)


def all(x, axis=None, keepdims=False):
    """Whether all elements over `axis` (None for all, a number, a tuple) are other than 0.

    NaN is. A constant of the point, without a gradient. Raises `ShapeError`.

    >>> mg.all(np.array([[1.0, 2.0], [0.0, 1.0]]), axis=1)
    array([ True, False])
    """
    return _all(as_array(x), axis=axis, keepdims=keepdims)


def count_nonzero(x, axis=None, keepdims=False):
    """How many elements over `axis` (None for all, a number, a tuple) are other than 0.

    NaN is. A constant of the point, without a gradient. Raises `ShapeError`.

    >>> mg.count_nonzero(np.array([[1.0, 0.0], [3.0, 4.0]]), axis=0)
    array([2, 1])
    """
    return _count_nonzero(as_array(x), axis=axis, keepdims=keepdims)


# --- exponentials and their sums -----------------------------------------------------------------

# Equal infinities differ by 0 here: they share, as in the limit of equal numbers that grow.


def _lowered(x, axes):
    """x less its maximum over the axes (so that exp cannot overflow), and that maximum."""
    top = np.maximum.reduce(x, axis=axes, keepdims=True, initial=-math.inf)
    if np.isfinite(top).all():
        return x - top, top
    with np.errstate(invalid="ignore"):
        return np.where(x == top, 0, x - top), top


def _logsumexp_forward(x, *, axis, keepdims):
    axes = _axes("logsumexp", axis, x.ndim)
    low, top = _lowered(x, axes)
    out = kernels.log(kernels.sum(kernels.exp(low), axes, True)) + top
    return out if keepdims else out.reshape([n for i, n in enumerate(x.shape) if i not in axes])


def _log_softmax_forward(x, *, axis):
    low, _ = _lowered(x, axes := _axes("log_softmax", axis, x.ndim))
    return low - kernels.log(kernels.sum(kernels.exp(low), axes, True))


def _softmax_forward(x, *, axis):
    e = kernels.exp(_lowered(x, axes := _axes("softmax", axis, x.ndim))[0])
    return e / kernels.sum(e, axes, True)


_logsumexp = register(
    Op(
        "logsumexp",
        _logsumexp_forward,
        # exp(x - out) would be the same, less the digits that there is no room for in a large out.
        vjps=[lambda g, out, x, *, axis, keepdims: _spread(g, x, axis) * softmax(x, axis)],
        doc="log(sum(e^x)) over axes, never overflowing. Gradient: g softmax(x); equal infinities "
        "share it (NaN in PyTorch).",
    ),
)
_log_softmax = register(
    Op(
        "log_softmax",
        _log_softmax_forward,
        vjps=[lambda g, out, x, *, axis: g - exp(out) * sum(g, axis=axis, keepdims=True)],
        doc="x - logsumexp(x), never overflowing. Gradient: g - softmax(x) sum(g).",
    ),
)
_softmax = register(
    Op(
        "softmax",
        _softmax_forward,
        vjps=[lambda g, out, x, *, axis: out * (g - sum(g * out, axis=axis, keepdims=True))],
        doc="e^x / sum(e^x), never overflowing; equal infinities share (NaN in PyTorch). "
        "Gradient: s (g - sum(g s)), s the softmax.",
    ),
)


def logsumexp(x, axis=None, keepdims=False):
    """The logarithm of the sum of e^x over `axis` (None for all, a number, a tuple).

    out = log(sum(e^x)), with gradient softmax(x)

    Never overflows: the maximum is taken out first. -inf where all elements are, and for none;
    where out is infinite the elements equal to it share the gradient, which is NaN in PyTorch.
    Raises `ShapeError`.

    Source: Goodfellow et al., Deep Learning, section 4.1.

    >>> mg.logsumexp(np.array([[1000.0, -np.inf], [-1000.0, -2000.0]]), axis=1)
    array([ 1000., -1000.])
    """
    return _logsumexp(_floats(x), axis=axis, keepdims=keepdims)


def softmax(x, axis=-1):
    """The exponentials of x over their sum along `axis` (None for all, a number, a tuple).

    out[i] = e^x[i] / sum_j e^x[j]

    x has any shape, out the same. Never overflows. The largest elements share where they are
    infinite, of one sign or the other: [inf, 0] gives [1, 0], all -inf gives 1/n, where PyTorch
    gives NaN. Raises `ShapeError`.

    Source: Goodfellow et al., Deep Learning, section 4.1.

    >>> mg.softmax(np.array([1000.0, 1000.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    """
    return _softmax(_floats(x), axis=axis)


def log_softmax(x, axis=-1):
    """The logarithm of `softmax`, whose small values keep their digits.

    out = x - logsumexp(x), along `axis` (None for all, a number, a tuple)

    x has any shape, out the same. Never overflows; infinities as in `softmax`. Raises `ShapeError`.

    Source: Goodfellow et al., Deep Learning, section 6.2.2.3.

    >>> mg.log_softmax(np.array([0.0, -1000.0]))
    array([    0., -1000.])
    """
    return _log_softmax(_floats(x), axis=axis)


# --- norms ---------------------------------------------------------------------------------------


def _size(x, p, axes, keepdims):
    """(sum |x|^p)^(1/p) for p other than 0 and infinities, with gradient 0 where it is 0.

    No gradient goes to an element that is 0, where |x|^p has none for p <= 1: PyTorch has it so.
    """
    zero = x == 0
    flat = (all if p > 0 else any)(zero, axes, keepdims)  # where the norm is 0
    powers = where(zero, 0, power(absolute(where(zero, 1, x)), p))
    total = where(flat, 1, sum(powers, axes, keepdims))
    return where(flat, 0, power(total, 1 / p))


def _vector_norm(x, p, axes, keepdims):
    if p == 2:
        return _root(sum(square(x), axes, keepdims))
    if p == 1:
        return sum(absolute(x), axes, keepdims)
    if p == 0:
        return astype(count_nonzero(x, axes, keepdims), x.dtype)
    if math.isinf(p):
        return (max if p > 0 else min)(absolute(x), axes, keepdims)
    return _size(x, p, axes, keepdims)


def norm(x, ord=None, axis=None, keepdims=False):
    """The norm of vectors along an axis, or of matrices in two: `numpy.linalg.norm`.

    out = (sum |x|^p)^(1/p) for p = `ord`; the largest |x| for inf, the smallest for -inf, the
    number of elements other than 0 for 0; the root of the sum of squares for None, and for "fro"

    `axis` is a number for vectors, a pair for matrices, None for x as a whole. A pair, or a matrix
    as a whole, takes None and "fro" only. The gradient is 0 where the norm is, and goes to no
    element that is 0 unless p > 1; ties of inf and -inf share it equally; all as in PyTorch. For
    p = 0 there is none. Raises `ShapeError`, and `UsageError` for other orders.

    Source: Goodfellow et al., Deep Learning, section 2.5.

    >>> mg.norm(np.array([[3.0, 4.0], [6.0, 8.0]]), axis=1)
    array([ 5., 10.])
    >>> mg.grad(mg.norm)(np.array([3.0, 4.0]))
    array([0.6, 0.8])
    """
    x = _floats(x)
    axes = _axes("norm", axis, x.ndim)
    euclidean = ord is None or (isinstance(ord, str) and ord == "fro" and len(axes) == 2)
    if len(axes) not in (1, 2) and not (axis is None and euclidean):
        raise ShapeError(
            "norm: the number of axes",
            f"expected one axis, or a pair for matrices, got {axes} of shape {x.shape}",
            "name one or two axes, or reshape first",
        )
    if euclidean:
        return _vector_norm(x, 2, axes, keepdims)
    if len(axes) == 2:
        raise UsageError(
            f"norm: ord={ord!r} of matrices",
            f"expected None or 'fro' for the axes {axes} of shape {x.shape}",
            "name one axis for norms of vectors, or build it from sums and extremes of mg.abs(x)",
        )
    if not isinstance(ord, int | float | np.integer | np.floating) or ord != ord:
        raise UsageError(
            f"norm: ord={ord!r} of vectors",
            "expected a number, or inf, or -inf",
            "leave it out for the Euclidean norm",
        )
    return _vector_norm(x, float(ord), axes, keepdims)
