"""Activation functions: nonlinearities of a network's units, all elementwise.

Each is one op and not a composition: between the passes a node keeps its argument and its output
and nothing else, where a composition would keep every step on the way. What a rule needs besides is
computed again. Rules are made of other ops, so all orders follow as if composed.

All have the same bits on every machine, save elu, which rests on NumPy's expm1.
"""

import math

import numpy as np

from .. import kernels
from ..errors import UsageError
from ..graph import Op, register
from .elementwise import _clip, erf, exp, expm1, tanh, where

sigmoid = register(
    Op(
        "sigmoid",
        kernels.sigmoid,
        vjps=[lambda g, out, x: g * out * (1 - out)],
        array_vjps=[lambda g, out, x: kernels.sigmoid_rule(g, out)],
        doc="s(x) = 1 / (1 + e^-x). Gradient: g s(x) (1 - s(x)).",
    ),
)
softplus = register(
    Op(
        "softplus",
        kernels.softplus,
        vjps=[lambda g, out, x: g * sigmoid(x)],
        doc="log(1 + e^x). Gradient: g sigmoid(x).",
    ),
)


# --- log(e^x + e^y): softplus of two arguments ---------------------------------------------------


def _subtract(x, y):
    with np.errstate(invalid="ignore"):
        return np.where(np.equal(x, y), 0, np.subtract(x, y))


_difference = register(
    Op(
        "difference",
        _subtract,
        vjps=[lambda g, out, x, y: g, lambda g, out, x, y: -g],
        doc="x - y, and 0 between equal infinities. Gradient: g to x, -g to y.",
    ),
)


def _logaddexp(x, y):
    top, low = np.maximum(x, y), np.minimum(x, y)
    return top + kernels.softplus(_subtract(low, top))


logaddexp = register(
    Op(
        "logaddexp",
        _logaddexp,
        vjps=[
            lambda g, out, x, y: g * sigmoid(_difference(x, y)),
            lambda g, out, x, y: g * sigmoid(_difference(y, x)),
        ],
        doc="log(e^x + e^y), never overflowing. Gradient: g e^x / (e^x + e^y) to x, "
        "g e^y / (e^x + e^y) to y; half to each of two equal infinities (NaN in PyTorch).",
    ),
)


# --- piecewise -----------------------------------------------------------------------------------

relu = register(
    Op(
        "relu",
        lambda x: np.maximum(x, 0),
        vjps=[lambda g, out, x: where(x <= 0, 0, g)],
        doc="max(x, 0), NaN of NaN. Gradient: g where x > 0 or NaN, 0 elsewhere, also at 0.",
    ),
)

_leaky_relu = register(
    Op(
        "leaky_relu",
        lambda x, *, negative_slope: np.where(np.greater(x, 0), x, np.multiply(x, negative_slope)),
        vjps=[lambda g, out, x, *, negative_slope: where(x > 0, g, g * negative_slope)],
        doc="x above 0, negative_slope x elsewhere. Gradient: g above 0, negative_slope g "
        "elsewhere, also at 0.",
    ),
)


def _number(what: str, value) -> float:
    """`value` as a Python number, which leaves the dtype of what it is multiplied by alone."""
    if isinstance(value, int | float | np.integer | np.floating):
        return float(value)
    raise UsageError(
        what,
        f"expected a number, got {type(value).__name__}",
        "write the function with mg.where for one that varies or learns",
    )


def leaky_relu(x, negative_slope=0.01):
    """Rectifier that keeps a slope below 0.

    out = x where x > 0, negative_slope * x elsewhere

    x has any shape, out the same. The gradient at 0 is `negative_slope`. Raises `UsageError` for a
    slope that is not a number.

    Source: Maas, Hannun, Ng (2013), Rectifier nonlinearities improve neural network acoustic
    models.

    >>> mg.leaky_relu(np.array([-2.0, 0.0, 3.0]), negative_slope=0.5)
    array([-1.,  0.,  3.])
    """
    return _leaky_relu(x, negative_slope=_number("leaky_relu: negative_slope", negative_slope))


def _elu_forward(x, *, alpha):
    return np.where(np.greater(x, 0), x, alpha * expm1.forward(np.minimum(x, 0)))


_elu = register(
    Op(
        "elu",
        _elu_forward,
        # exp sees no large x, whose overflow would be thrown away, but not its warning.
        vjps=[lambda g, out, x, *, alpha: where(x <= 0, g * (alpha * exp(where(x <= 0, x, 0))), g)],
        doc="x above 0, alpha (e^x - 1) elsewhere. Gradient: g where x > 0 or NaN, alpha g e^x "
        "elsewhere, so alpha g at 0.",
    ),
)


def elu(x, alpha=1.0):
    """Exponential linear unit.

    out = x where x > 0, alpha * (e^x - 1) elsewhere

    x has any shape, out the same. The gradient at 0 is `alpha`. Raises `UsageError` for an alpha
    that is not a number.

    Source: Clevert, Unterthiner, Hochreiter (2016), Fast and accurate deep network learning by
    exponential linear units.

    >>> mg.elu(np.array([-np.inf, 0.0, 3.0]), alpha=2.0)
    array([-2.,  0.,  3.])
    """
    return _elu(x, alpha=_number("elu: alpha", alpha))


# --- x times a probability -----------------------------------------------------------------------


def _silu_to_x(g, out, x):
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


silu = register(
    Op(
        "silu",
        lambda x: x * kernels.sigmoid(x),
        vjps=[_silu_to_x],
        doc="x s(x) with s = sigmoid, also called swish. Gradient: g s(x) (1 + x (1 - s(x))).",
    ),
)

_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)
_CUBIC = 0.044715


def _middle(x):
    """x without its far ends, where P and Q are 0 or 1 to the bit: its powers do not overflow."""
    return _clip(x, -40, 40)


def _gelu_exact(x):
    return x * ((1 + erf(x * _ROOT_HALF)) / 2)


def _gelu_exact_to_x(g, out, x):
    z = _middle(x)
    return g * ((1 + erf(x * _ROOT_HALF)) / 2 + z * (_DENSITY * exp(z * z / -2)))


def _bend(z):
    return tanh(2 * _DENSITY * (z + _CUBIC * (z * z * z)))


def _gelu_tanh(x):
    return x * ((1 + _bend(_middle(x))) / 2)


def _gelu_tanh_to_x(g, out, x):
    z = _middle(x)
    t = _bend(z)
    slope = _DENSITY * (1 + 3 * _CUBIC * (z * z))  # half the slope of what tanh is taken of
    return g * ((1 + t) / 2 + z * ((1 - t * t) * slope))


_gelu = {
    "none": register(
        Op(
            "gelu",
            _gelu_exact,
            vjps=[_gelu_exact_to_x],
            doc="x P(x), P the normal distribution function. Gradient: g (P(x) + x P'(x)).",
        ),
    ),
    "tanh": register(
        Op(
            "gelu_tanh",
            _gelu_tanh,
            vjps=[_gelu_tanh_to_x],
            doc="x Q(x), Q(x) = (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2. "
            "Gradient: g (Q(x) + x Q'(x)).",
        ),
    ),
}


def gelu(x, approximate="none"):
    """Gaussian error linear unit: x times the probability that a standard normal is below x.

    out = x * (1 + erf(x / sqrt(2))) / 2, with approximate="tanh"
    out = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2

    x has any shape, out the same. Raises `UsageError` for another `approximate`.

    Source: Hendrycks, Gimpel (2016), Gaussian error linear units.

    >>> mg.gelu(np.array([-100.0, 0.0, 100.0]))
    array([ -0.,   0., 100.])
    """
    if approximate not in ("none", "tanh"):
        raise UsageError(
            "gelu: approximate",
            f"expected 'none' or 'tanh', got {approximate!r}",
            "leave it out for the exact function",
        )
    return _gelu[approximate](x)
