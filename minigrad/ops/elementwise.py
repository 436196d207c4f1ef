"""Elementwise ops, with NumPy's broadcasting.

At a kink the convention is PyTorch's: the gradient of relu and of abs at 0 is 0; where both
arguments of maximum or minimum are equal, each gets half.
"""

import numpy as np

from .. import kernels
from ..graph import Op, register

add = register(
    Op("add", np.add, vjps=[lambda g, out, x, y: g, lambda g, out, x, y: g]),
)
subtract = register(
    Op("subtract", np.subtract, vjps=[lambda g, out, x, y: g, lambda g, out, x, y: -g]),
)
multiply = register(
    Op("multiply", np.multiply, vjps=[lambda g, out, x, y: g * y, lambda g, out, x, y: g * x]),
)
divide = register(
    Op(
        "divide",
        np.divide,
        vjps=[lambda g, out, x, y: g / y, lambda g, out, x, y: -(g * out) / y],
    ),
)
negative = register(Op("negative", np.negative, vjps=[lambda g, out, x: -g]))

exp = register(Op("exp", kernels.exp, vjps=[lambda g, out, x: g * out]))
log = register(Op("log", kernels.log, vjps=[lambda g, out, x: g / x]))
sqrt = register(Op("sqrt", np.sqrt, vjps=[lambda g, out, x: g / (2 * out)]))
tanh = register(
    Op(
        "tanh",
        kernels.tanh,
        vjps=[lambda g, out, x: g * (1 - out * out)],
        array_vjps=[lambda g, out, x: kernels.tanh_rule(g, out)],
    )
)
sigmoid = register(
    Op(
        "sigmoid",
        kernels.sigmoid,
        vjps=[lambda g, out, x: g * out * (1 - out)],
        array_vjps=[lambda g, out, x: kernels.sigmoid_rule(g, out)],
    )
)
softplus = register(Op("softplus", kernels.softplus, vjps=[lambda g, out, x: g * sigmoid(x)]))

# Signs and comparisons are constants of the point: they carry no gradient of their own.
_sign = register(Op("sign", np.sign, vjps=[None]))


def _share(x, y):
    """What x gets of the cotangent of max(x, y): all where it is larger, half of a tie."""
    return np.where(x == y, 0.5, np.greater(x, y)).astype(np.result_type(x, y))


_above = register(Op("above", _share, vjps=[None, None]))
_positive = register(Op("positive_part", lambda x: (x > 0).astype(x.dtype), vjps=[None]))

absolute = register(Op("absolute", np.absolute, vjps=[lambda g, out, x: g * _sign(x)]))
relu = register(
    Op("relu", lambda x: np.maximum(x, 0), vjps=[lambda g, out, x: g * _positive(x)]),
)
maximum = register(
    Op(
        "maximum",
        np.maximum,
        vjps=[lambda g, out, x, y: g * _above(x, y), lambda g, out, x, y: g * _above(y, x)],
    ),
)
minimum = register(
    Op(
        "minimum",
        np.minimum,
        vjps=[lambda g, out, x, y: g * _above(y, x), lambda g, out, x, y: g * _above(x, y)],
    ),
)

# x ** p for a number p.
power = register(
    Op(
        "power",
        lambda x, *, exponent: x * x if exponent == 2 else np.power(x, exponent),
        vjps=[
            lambda g, out, x, *, exponent: (
                g * (exponent * power(x, exponent=exponent - 1)) if exponent else g * 0
            )
        ],
    ),
)

# where(condition, x, y): a NaN in the branch not taken must not leak into a gradient, so the rules
# select, and never multiply by a mask.
where = register(
    Op(
        "where",
        np.where,
        vjps=[
            None,
            lambda g, out, condition, x, y: where(condition, g, 0),
            lambda g, out, condition, x, y: where(condition, 0, g),
        ],
    ),
)

_astype = register(
    Op(
        "astype",
        lambda x, *, dtype: x.astype(dtype),
        vjps=[lambda g, out, x, *, dtype: astype(g, dtype=x.dtype)],
    ),
)
_to_integers = register(Op("to_integers", lambda x, *, dtype: x.astype(dtype), vjps=[None]))


def astype(x, dtype):
    """x converted to another dtype; the gradient is converted back, and integers have none.

    >>> mg.astype(np.array([1.5]), np.float32)
    array([1.5], dtype=float32)
    """
    return (_to_integers if np.dtype(dtype).kind in "iub" else _astype)(x, dtype=np.dtype(dtype))
