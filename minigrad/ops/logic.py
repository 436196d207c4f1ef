"""Constants of the point: comparisons, logic, tests, signs and rounding, with NumPy's broadcasting.

Each of these is flat wherever it has a derivative. That derivative says nothing about the function,
so none is recorded: the result needs no gradient, whatever the arguments do. (PyTorch records
zeros for sign and for rounding; what reaches the leaves is the same.)
"""

import operator

import numpy as np

from ..errors import UsageError
from ..graph import Op, register


def _constant(ufunc: np.ufunc, doc: str) -> Op:
    doc = f"{doc} A constant of the point: no gradient."
    return register(Op(ufunc.__name__, ufunc, vjps=[None] * ufunc.nin, doc=doc))


greater = _constant(np.greater, "x > y, element by element.")
greater_equal = _constant(np.greater_equal, "x >= y, element by element.")
less = _constant(np.less, "x < y, element by element.")
less_equal = _constant(np.less_equal, "x <= y, element by element.")
equal = _constant(np.equal, "x == y, element by element; NaN equals nothing.")
not_equal = _constant(np.not_equal, "x != y, element by element; NaN equals nothing.")

logical_and = _constant(np.logical_and, "Whether x and y are both other than 0.")
logical_or = _constant(np.logical_or, "Whether x or y, or both, are other than 0.")
logical_xor = _constant(np.logical_xor, "Whether exactly one of x and y is other than 0.")
logical_not = _constant(np.logical_not, "Whether x is 0.")

isnan = _constant(np.isnan, "Whether x is NaN.")
isinf = _constant(np.isinf, "Whether x is inf or -inf.")
isfinite = _constant(np.isfinite, "Whether x is neither NaN nor infinite.")

sign = _constant(np.sign, "-1, 0 or 1, with the sign of x; NaN of NaN.")
floor = _constant(np.floor, "The largest integer not above x.")
ceil = _constant(np.ceil, "The smallest integer not below x.")
trunc = _constant(np.trunc, "x without its fraction: the nearest integer on the side of 0.")
floor_divide = _constant(np.floor_divide, "floor(x / y), as `remainder` counts it.")

_round = register(
    Op(
        "round",
        lambda x, *, decimals: np.round(x, decimals),
        vjps=[None],
        doc="x with so many decimals, halves to even. A constant of the point: no gradient.",
    ),
)


def round(x, decimals=0):
    """x rounded to `decimals` places, halves to the even neighbour.

    out = round(x * 10^decimals) / 10^decimals; a constant of the point, without a gradient.

    x has any shape, out the same; negative `decimals` round before the point. Raises `UsageError`
    for `decimals` that are no integer.

    >>> mg.round(np.array([0.5, 1.5, -2.345]), 1)
    array([ 0.5,  1.5, -2.3])
    >>> mg.round(mg.tensor([0.5, 1.5, 2.5]))
    tensor([0., 2., 2.])
    """
    try:
        return _round(x, decimals=operator.index(decimals))
    except TypeError:
        raise UsageError(
            "round: decimals",
            f"expected an integer, got {decimals!r}",
            "pass the number of places behind the point, negative for tens and hundreds",
        ) from None
