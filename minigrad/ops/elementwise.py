"""Elementwise functions with a gradient, with NumPy's names, values and broadcasting.

At a kink the convention is PyTorch's, and stands in the op's line of documentation.

exp, log, tanh and erf are the kernels' own: the same bits on every machine. The others are NumPy's,
which may round their last bit differently on another processor; on one machine they depend on the
numbers alone, not on their place, the length of the array, or its layout in memory. A gradient that
is infinite (sqrt at 0) comes out as inf, and NumPy warns of it as of any division by zero (see
`np.errstate`).
"""

import math
from collections.abc import Callable

import numpy as np

from .. import kernels
from ..arguments import FLOATS
from ..errors import DtypeError, UsageError
from ..graph import Op, Tensor, register
from .logic import floor_divide, logical_and, logical_or, sign

_LN2, _LN10 = math.log(2), math.log(10)


def _numpys(ufunc: np.ufunc) -> Callable:
    """A function of NumPy's, of one or two arguments, that is handed its arrays in C order.

    Of functions that IEEE 754 does not fix to the last bit NumPy has a loop over vectors and one
    over single numbers, which round differently, and takes the second for some strides: those of a
    reversed array, on a processor with AVX-512. One element of a reversed array counts as in order
    and still has its stride; its copy has not. Numbers stay numbers, beside which a float32 array
    keeps its dtype.
    """
    if ufunc.nin == 1:

        def unary(x):
            x = np.asarray(x, order="C")
            return ufunc(x if x.size != 1 else x.copy())

        return unary

    def binary(x, y):
        if type(x) is np.ndarray:
            x = np.asarray(x, order="C")
            x = x if x.size != 1 else x.copy()
        if type(y) is np.ndarray:
            y = np.asarray(y, order="C")
            y = y if y.size != 1 else y.copy()
        return ufunc(x, y)

    return binary


# --- arithmetic ----------------------------------------------------------------------------------

add = register(
    Op(
        "add",
        np.add,
        vjps=[lambda g, out, x, y: g, lambda g, out, x, y: g],
        doc="x + y. Gradient: g to both.",
    ),
)
subtract = register(
    Op(
        "subtract",
        np.subtract,
        vjps=[lambda g, out, x, y: g, lambda g, out, x, y: -g],
        doc="x - y. Gradient: g to x, -g to y.",
    ),
)
multiply = register(
    Op(
        "multiply",
        np.multiply,
        vjps=[lambda g, out, x, y: g * y, lambda g, out, x, y: g * x],
        doc="x y. Gradient: g y to x, g x to y.",
    ),
)
divide = register(
    Op(
        "divide",
        np.divide,
        vjps=[lambda g, out, x, y: g / y, lambda g, out, x, y: -(g * out) / y],
        doc="x / y. Gradient: g / y to x, -g x / y^2 to y.",
    ),
)
remainder = register(
    Op(
        "remainder",
        np.remainder,
        vjps=[lambda g, out, x, y: g, lambda g, out, x, y: -g * floor_divide(x, y)],
        doc="x - y floor(x / y), with the sign of y. Gradient: g to x, -g floor(x / y) to y.",
    ),
)
negative = register(
    Op("negative", np.negative, vjps=[lambda g, out, x: -g], doc="-x. Gradient: -g."),
)
positive = register(
    Op("positive", np.positive, vjps=[lambda g, out, x: g], doc="+x, a copy. Gradient: g."),
)
absolute = register(
    Op(
        "absolute",
        np.absolute,
        vjps=[lambda g, out, x: g * sign(x)],
        doc="|x|. Gradient: g sign(x), so 0 at 0.",
    ),
)
reciprocal = register(
    Op(
        "reciprocal",
        np.reciprocal,
        vjps=[lambda g, out, x: -(g * out) * out],
        doc="1 / x. Gradient: -g / x^2.",
    ),
)
square = register(
    Op("square", np.square, vjps=[lambda g, out, x: g * (2 * x)], doc="x x. Gradient: 2 g x."),
)
sqrt = register(
    Op(
        "sqrt",
        np.sqrt,
        vjps=[lambda g, out, x: g / (2 * out)],
        doc="The square root. Gradient: g / (2 sqrt(x)), so inf at 0.",
    ),
)
hypot = register(
    Op(
        "hypot",
        _numpys(np.hypot),
        vjps=[
            lambda g, out, x, y: g * (x / where(out == 0, 1, out)),
            lambda g, out, x, y: g * (y / where(out == 0, 1, out)),
        ],
        doc="sqrt(x^2 + y^2), never overflowing on the way. Gradient: g x / out to x, g y / out "
        "to y; 0 to both where both are 0 (NaN in PyTorch).",
    ),
)


# --- powers --------------------------------------------------------------------------------------

_EXACT: dict[float, Callable] = {0: np.ones_like, 1: np.positive, 2: np.square}
_pow = _numpys(np.power)


def _power(x, y):
    """x ** y; for the numbers 0, 1, 2 it is 1, x, x * x to the bit, whatever the platform's pow."""
    if type(y) in (int, float) and y in _EXACT and getattr(x, "dtype", None) in FLOATS:
        return _EXACT[y](x)
    try:
        if type(y) is np.ndarray and y.ndim and y.shape != getattr(x, "shape", ()):
            # An exponent with a stride of 0, broadcast or alone in its row, has paths of its own
            # for -1, 1/2 and 2: a row would depend on how many there are.
            y = np.broadcast_to(y, np.broadcast_shapes(np.shape(x), y.shape))
        return _pow(x, y)
    except ValueError:
        if np.asarray(x).dtype.kind in "iu" and np.any(np.less(y, 0)):
            raise UsageError(
                "power: integers to a negative power",
                "expected floats, or exponents of 0 and above: the result is no integer",
                "convert the base with .astype(np.float64)",
            ) from None
        raise


def _flat_for_good(x, y):
    """Where x ** y is 1 for every x (y is 0), and 1 / x is no number to be multiplied by that 0."""
    with np.errstate(all="ignore"):
        return np.equal(y, 0) & ~np.isfinite(np.divide(1, x))


_flat = register(
    Op(
        "flat_power",
        _flat_for_good,
        vjps=[None, None],
        doc="Where y is 0 and x has no finite reciprocal. A constant of the point: no gradient.",
    ),
)


def _power_to_base(g, out, x, y):
    """g y x^(y-1), and 0 where y is 0, NaN and infinities of x included."""
    if isinstance(y, int | float):
        return g * (y * power(x, y - 1)) if y else g * 0
    return g * (y * power(where(_flat(x, y), 1, x), y - 1))


def _power_to_exponent(g, out, x, y):
    """g out log(x), and 0 where x is 0 and y is not below: there x ** y is 0, or 1, around y."""
    base = where(logical_and(x == 0, y >= 0), 1, x)
    return g * (out * log(_astype(base, dtype=out.dtype)))  # x may be a number


power = register(
    Op(
        "power",
        _power,
        vjps=[_power_to_base, _power_to_exponent],
        doc="x^y; x^2 is x x to the bit. Gradient: g y x^(y-1) to x, and 0 where y is 0; "
        "g x^y log(x) to y, and 0 where x is 0 and y >= 0.",
    ),
)


# --- exponentials and logarithms -----------------------------------------------------------------

exp = register(
    Op("exp", kernels.exp, vjps=[lambda g, out, x: g * out], doc="e^x. Gradient: g e^x.")
)
exp2 = register(
    Op(
        "exp2",
        _numpys(np.exp2),
        vjps=[lambda g, out, x: g * (out * _LN2)],
        doc="2^x. Gradient: g 2^x log(2).",
    ),
)
expm1 = register(
    Op(
        "expm1",
        _numpys(np.expm1),
        vjps=[lambda g, out, x: g * exp(x)],  # out + 1 would lose the digits of a small e^x
        doc="e^x - 1, exact near 0. Gradient: g e^x.",
    ),
)
log = register(
    Op(
        "log",
        kernels.log,
        vjps=[lambda g, out, x: g / x],
        doc="The natural logarithm. Gradient: g / x.",
    ),
)
log2 = register(
    Op(
        "log2",
        _numpys(np.log2),
        vjps=[lambda g, out, x: g / (x * _LN2)],
        doc="The logarithm to base 2. Gradient: g / (x log(2)).",
    ),
)
log10 = register(
    Op(
        "log10",
        _numpys(np.log10),
        vjps=[lambda g, out, x: g / (x * _LN10)],
        doc="The logarithm to base 10. Gradient: g / (x log(10)).",
    ),
)
log1p = register(
    Op(
        "log1p",
        _numpys(np.log1p),
        vjps=[lambda g, out, x: g / (1 + x)],
        doc="log(1 + x), exact near 0. Gradient: g / (1 + x).",
    ),
)
erf = register(
    Op(
        "erf",
        kernels.erf,
        vjps=[lambda g, out, x: g * (2 / math.sqrt(math.pi) * exp(-(x * x)))],
        doc="The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x. "
        "Gradient: 2/sqrt(pi) g e^(-x^2).",
    ),
)


# --- angles --------------------------------------------------------------------------------------

# 1 - x^2 is written (1 - x)(1 + x), which keeps its digits where x is near 1.

sin = register(
    Op(
        "sin",
        _numpys(np.sin),
        vjps=[lambda g, out, x: g * cos(x)],
        doc="The sine. Gradient: g cos(x).",
    ),
)
cos = register(
    Op(
        "cos",
        _numpys(np.cos),
        vjps=[lambda g, out, x: -g * sin(x)],
        doc="The cosine. Gradient: -g sin(x).",
    ),
)
tan = register(
    Op(
        "tan",
        _numpys(np.tan),
        vjps=[lambda g, out, x: g * (1 + out * out)],
        doc="The tangent. Gradient: g (1 + tan(x)^2).",
    ),
)
arcsin = register(
    Op(
        "arcsin",
        _numpys(np.arcsin),
        vjps=[lambda g, out, x: g / sqrt((1 - x) * (1 + x))],
        doc="The angle in [-pi/2, pi/2] with sine x. Gradient: g / sqrt(1 - x^2), inf at -1 and 1.",
    ),
)
arccos = register(
    Op(
        "arccos",
        _numpys(np.arccos),
        vjps=[lambda g, out, x: -g / sqrt((1 - x) * (1 + x))],
        doc="The angle in [0, pi] with cosine x. Gradient: -g / sqrt(1 - x^2), -inf at -1 and 1.",
    ),
)
arctan = register(
    Op(
        "arctan",
        _numpys(np.arctan),
        vjps=[lambda g, out, x: g / (1 + x * x)],
        doc="The angle in [-pi/2, pi/2] with tangent x. Gradient: g / (1 + x^2).",
    ),
)


def _across(g, x, y):
    """g x / (x^2 + y^2), which neither overflows on the way nor is NaN at the origin."""
    r = hypot(x, y)
    r = where(r == 0, 1, r)
    return g * (x / r / r)


arctan2 = register(
    Op(
        "arctan2",
        _numpys(np.arctan2),
        vjps=[lambda g, out, y, x: _across(g, x, y), lambda g, out, y, x: -_across(g, y, x)],
        doc="The angle in [-pi, pi] of the point (x, y), from y and x. Gradient: "
        "g x / (x^2 + y^2) to y, -g y / (x^2 + y^2) to x; 0 to both at the origin.",
    ),
)
sinh = register(
    Op(
        "sinh",
        _numpys(np.sinh),
        vjps=[lambda g, out, x: g * cosh(x)],
        doc="(e^x - e^-x) / 2. Gradient: g cosh(x).",
    ),
)
cosh = register(
    Op(
        "cosh",
        _numpys(np.cosh),
        vjps=[lambda g, out, x: g * sinh(x)],
        doc="(e^x + e^-x) / 2. Gradient: g sinh(x).",
    ),
)
tanh = register(
    Op(
        "tanh",
        kernels.tanh,
        vjps=[lambda g, out, x: g * (1 - out * out)],
        array_vjps=[lambda g, out, x: kernels.tanh_rule(g, out)],
        doc="sinh(x) / cosh(x). Gradient: g (1 - tanh(x)^2).",
    ),
)
arcsinh = register(
    Op(
        "arcsinh",
        _numpys(np.arcsinh),
        vjps=[lambda g, out, x: g / hypot(x, 1)],
        doc="The number with hyperbolic sine x. Gradient: g / sqrt(x^2 + 1).",
    ),
)
arccosh = register(
    Op(
        "arccosh",
        _numpys(np.arccosh),
        vjps=[lambda g, out, x: g / (sqrt(x - 1) * sqrt(x + 1))],
        doc="The number >= 0 with hyperbolic cosine x. Gradient: g / sqrt(x^2 - 1), inf at 1.",
    ),
)
arctanh = register(
    Op(
        "arctanh",
        _numpys(np.arctanh),
        vjps=[lambda g, out, x: g / ((1 - x) * (1 + x))],
        doc="The number with hyperbolic tangent x. Gradient: g / (1 - x^2), inf at -1 and 1.",
    ),
)


# --- choosing ------------------------------------------------------------------------------------

# A NaN in what is not taken must not leak into a gradient, so these rules select, and never
# multiply by a mask.


_BITS = {np.dtype(np.float32): np.int32, np.dtype(np.float64): np.int64}


def _kept(condition, x):
    """x where the condition holds, 0 elsewhere: the bits of x and a mask of ones or zeros.

    np.where branches at every element, and of a random condition a processor foresees half. Most
    rules here choose between g and 0; so done, that takes a quarter of the time.
    """
    bits = _BITS.get(x.dtype) if type(x) is np.ndarray else None
    if bits is None or type(condition) is not np.ndarray or condition.dtype != bool:
        return np.where(condition, x, 0)
    return (np.negative(condition.astype(bits)) & x.view(bits)).view(x.dtype)


def _where(condition, x, y):
    if type(y) is int and y == 0:
        return _kept(condition, x)
    if type(x) is int and x == 0:
        return _kept(np.logical_not(condition), y)
    return np.where(condition, x, y)


where = register(
    Op(
        "where",
        _where,
        vjps=[
            None,
            lambda g, out, condition, x, y: where(condition, g, 0),
            lambda g, out, condition, x, y: where(condition, 0, g),
        ],
        doc="x where the condition holds, y elsewhere. Gradient: g to the one taken, 0 to the "
        "other, and none to the condition.",
    ),
)


def _share(g, lower, taken, other):
    """What `taken` gets of g: nothing where it is the `lower` choice, half of a tie, else all."""
    return where(lower, 0, where(taken == other, g / 2, g))


maximum = register(
    Op(
        "maximum",
        np.maximum,
        vjps=[
            lambda g, out, x, y: _share(g, x < y, x, y),
            lambda g, out, x, y: _share(g, y < x, y, x),
        ],
        doc="The larger of x and y, NaN if either is. Gradient: g to the larger, half to each "
        "where they are equal, g to both where either is NaN.",
    ),
)
minimum = register(
    Op(
        "minimum",
        np.minimum,
        vjps=[
            lambda g, out, x, y: _share(g, x > y, x, y),
            lambda g, out, x, y: _share(g, y > x, y, x),
        ],
        doc="The smaller of x and y, NaN if either is. Gradient: g to the smaller, half to each "
        "where they are equal, g to both where either is NaN.",
    ),
)

# For every x one of the three gets g, so that it is never lost and never counted twice.
_clip = register(
    Op(
        "clip",
        np.clip,
        vjps=[
            lambda g, out, x, low, high: where(logical_and(low <= x, x <= high), g, 0),
            lambda g, out, x, low, high: where(logical_and(x < low, low < high), g, 0),
            lambda g, out, x, low, high: where(
                logical_or(x > high, logical_and(x < low, high <= low)), g, 0
            ),
        ],
        doc="min(max(x, low), high). Gradient: g to x within the bounds and on them, to the bound "
        "taken elsewhere, and 0 where x is NaN.",
    ),
)


def _bounds(dtype: np.dtype) -> tuple[float, float]:
    """The least and the greatest number of a dtype."""
    if dtype.kind == "b":
        return False, True
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return -math.inf, math.inf


def clip(x, a_min=None, a_max=None):
    """x held between two bounds: out = min(max(x, a_min), a_max).

    x, a_min and a_max broadcast; None is no bound. The gradient goes to x within the bounds and on
    them, to the bound taken elsewhere, and to none where x is NaN. Where a_min lies above a_max,
    out is a_max. Raises `ShapeError` for shapes that do not broadcast.

    >>> x = mg.tensor([-2.0, 0.5, 3.0], requires_grad=True)
    >>> mg.clip(x, 0.0, 1.0)
    tensor([0. , 0.5, 1. ], op=clip)
    >>> mg.grad(lambda x: mg.clip(x, 0.0, 1.0).sum())(x)
    tensor([0., 1., 0.])
    """
    if a_min is None or a_max is None:
        least, greatest = _bounds(x.dtype if isinstance(x, Tensor) else np.asarray(x).dtype)
        a_min = least if a_min is None else a_min
        a_max = greatest if a_max is None else a_max
    return _clip(x, a_min, a_max)


# --- dtypes --------------------------------------------------------------------------------------

_astype = register(
    Op(
        "astype",
        lambda x, *, dtype: np.asarray(x).astype(dtype),
        vjps=[lambda g, out, x, *, dtype: _astype(g, dtype=x.dtype)],
        doc="x in another float dtype. Gradient: g in the dtype of x.",
    ),
)
_to_integers = register(
    Op(
        "to_integers",
        lambda x, *, dtype: np.asarray(x).astype(dtype),
        vjps=[None],
        doc="x in a dtype of integers or booleans. No gradient.",
    ),
)


def astype(x, dtype):
    """A copy of x in another dtype; the gradient comes back in the dtype of x.

    x has any shape. `dtype` is float32, float64, or integers or booleans, which carry no gradient.
    Raises `DtypeError` for others.

    >>> x = mg.tensor([1.5, 2.5], requires_grad=True)
    >>> mg.astype(x, np.float32)
    tensor([1.5, 2.5], dtype=float32, op=astype)
    >>> mg.astype(x, int)
    tensor([1, 2], dtype=int64)
    """
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        wanted = None
    if wanted is None or not (wanted in FLOATS or wanted.kind in "iub"):
        raise DtypeError(
            "astype: a dtype minigrad does not compute with",
            f"expected float32, float64, integers or booleans, got {wanted or repr(dtype)}",
            "choose np.float32 or np.float64",
        )
    return (_astype if wanted in FLOATS else _to_integers)(x, dtype=wanted)


# NumPy's second names.
abs, mod, true_divide = absolute, remainder, divide
