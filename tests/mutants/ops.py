"""Bugs in hand-written gradients of ops: sections A and B of the catalogue, and HO1.. of our own.

Each specimen is a pair in plain NumPy, as a careful person writes it: right for every layout, for
size 0 and 1 where the function has a value there, for float32 and float64, at ties, in saturation.
The forwards take complex arrays where the function is analytic, and so do the rules. The first call
is what the documentation of a checker would have one test; the others are an expert's. An argument
that is positive in every call has to be positive. Whole numbers, masks and sizes are parameters.
Some bugs write into what they are given: with one switched on, check copies of the calls.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import Mutant, Specimen, add, bug, specimen, specimens

# --- what the pairs have in common ---------------------------------------------------------------


def own(g, x):
    """g as a gradient of x: in the dtype of x (or complex, if g is), in memory of its own."""
    return np.array(g, dtype=np.result_type(g, x.dtype) if np.iscomplexobj(g) else x.dtype)


def unbroadcast(g, x, reduce=np.sum, ones=True):
    """g added up over the axes that broadcasting gave to x; a gradient of x."""
    lead = np.ndim(g) - x.ndim
    stretched = [lead + i for i, n in enumerate(x.shape) if n == 1 != np.shape(g)[lead + i]]
    g = reduce(g, axis=(*range(lead), *(stretched if ones else ())), keepdims=True)
    return own(g.reshape(x.shape if ones else g.shape[lead:]), x)


def axes_of(x, axis):
    return tuple(range(x.ndim)) if axis is None else tuple(int(a) % x.ndim for a in np.ravel(axis))


def count(x, axis):
    """How many numbers a reduction over these axes adds up."""
    return math.prod(x.shape[a] for a in axes_of(x, axis))


def restore(g, x, axis, keepdims=False):
    """g with the axes that were reduced, as axes of size 1."""
    return np.asarray(g) if keepdims else np.expand_dims(g, axes_of(x, axis))


def swap(x):
    return np.swapaxes(x, -1, -2)


def rows(x):
    """x as a matrix, all axes but the last in one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def as_if_contiguous(x):
    """What a loop sees that never asks for strides: numbers in the order of memory, from the lowest
    address of x, as far as its memory goes."""
    if x.size == 0:
        return x
    forwards = tuple(slice(None, None, -1 if s < 0 else 1) for s in x.strides)
    reach = sum(abs(s) * (n - 1) for s, n in zip(x.strides, x.shape, strict=True)) // x.itemsize + 1
    flat = np.lib.stride_tricks.as_strided(x[forwards], (min(reach, x.size),), (x.itemsize,))
    return np.resize(flat, x.shape)


def logistic(x):
    e = np.exp(np.where(x.real > 0, -x, x))
    return np.where(x.real > 0, 1, e) / (1 + e)


# --- what shows that a bug is there --------------------------------------------------------------


def each(out):
    """The outputs of a call, be it one or several; and so the cotangents."""
    return out if isinstance(out, tuple) else (out,)


def cotangent(out, start=1.0):
    """Generic numbers of both signs in the shape of an output, other ones for each."""
    if isinstance(out, tuple):
        return tuple(cotangent(y, i + 1.5) for i, y in enumerate(out))
    n = np.arange(np.size(out)) + start
    return np.asarray(np.cos(n * n).reshape(np.shape(out)), dtype=np.asarray(out).dtype)


def run(name, *args, g=None, **params):
    """The cotangent, the output and the gradients of one call."""
    s = specimens[name]
    with np.errstate(all="ignore"):
        out = s.forward(*args, **params)
        g = cotangent(out) if g is None else g
        return g, out, s.vjp(g, out, *args, **params)


def slopes(name, g, *args, **params):
    """The gradients from the forward alone: a complex step for each number of each argument.

    Where the forward is not analytic (abs), it is linear on either side of 0, and there a
    difference is exact.
    """
    forward = specimens[name].forward

    def moved(i, index, by):
        x = args[i].astype(np.result_type(args[i], by))
        x[index] += by
        return forward(*args[:i], x, *args[i + 1 :], **params)

    every = []
    for i, x in enumerate(args):
        slope = np.zeros(x.shape)
        for index in np.ndindex(x.shape):
            out = moved(i, index, 1e-100j)
            if all(map(np.iscomplexobj, each(out))):
                d = [y.imag / 1e-100 for y in each(out)]
            else:
                h = x[index] / 2
                d = [(moved(i, index, h) - moved(i, index, -h)) / (2 * h)]
            slope[index] = sum(np.sum(v * dy) for v, dy in zip(each(g), d, strict=True))
        every.append(slope)
    return every


def wrong(name, *args, g=None, **params):
    """Whether a gradient is missing, has a wrong shape or dtype, or is off by more than 1e-6."""
    try:
        g, _, got = run(name, *args, g=g, **params)
    except (ValueError, IndexError):
        return True
    want = slopes(name, g, *args, **params)
    return any(
        a is None or a.shape != x.shape or a.dtype != x.dtype or not np.all(abs(a - b) <= 1e-6)
        for a, b, x in zip(got, want, args, strict=True)
    )


def misfits(name, *args, **params):
    """Whether the forward differs from the reference by more than 1e-6."""
    s = specimens[name]
    with np.errstate(all="ignore"):
        return not np.all(abs(s.forward(*args, **params) - s.reference(*args, **params)) <= 1e-6)


def shares(name, *args, **params):
    """Whether a gradient has memory in common with the call's arrays or another gradient."""
    g, out, got = run(name, *args, **params)
    given = (*args, *each(g), *map(np.asarray, each(out)))
    return any(np.shares_memory(a, b) for i, a in enumerate(got) for b in (*given, *got[:i]))


def writes(name, *args, **params):
    """Whether a call changes an argument, a parameter, the cotangent or the output."""
    s = specimens[name]
    given = [*args, *params.values()]
    before = copy.deepcopy(given)
    out = s.forward(*args, **params)
    g = cotangent(out)
    given += [*each(out), *each(g)]
    before += copy.deepcopy([*each(out), *each(g)])
    s.vjp(g, out, *args, **params)
    return not all(np.array_equal(a, b) for a, b in zip(before, given, strict=True))


def at_a_tie(name, *args):
    """Whether the gradients fail to add up to the cotangent where all arguments move together."""
    _, _, got = run(name, *args, g=np.ones(np.shape(specimens[name].forward(*args))))
    return abs(sum(np.sum(a) for a in got) - 1) > 1e-6


# --- writing them down ---------------------------------------------------------------------------

_rng = np.random.default_rng(20)


def normal(*shape):
    return _rng.standard_normal(shape)


def positive(*shape):
    return _rng.uniform(0.5, 2.0, shape)


def op(name: str, forward: Callable, vjp: Callable, *calls: Any, reference=None) -> None:
    """A specimen; a call is a tuple of arrays, the last item may be a dict of parameters."""
    split = [(c[:-1], c[-1]) if isinstance(c[-1], dict) else (c, {}) for c in calls]
    specimen(Specimen(name, "op", forward, vjp, tuple(split), reference=reference))


LINE = np.array([0.3, -1.2, 2.1])
SQUARE = np.array([[0.5, -1.5], [2.5, 0.25]])
WIDE = np.array([[0.5, -1.5, 1.0], [2.5, 0.25, -0.75]])
CUBE = np.sin(np.arange(1.0, 9.0) ** 2).reshape(2, 2, 2)

# --- A: arithmetic -------------------------------------------------------------------------------


def plus(x, y):
    return x + y


def plus_vjp(g, out, x, y):
    if bug("1"):
        return own(g, x), own(g, y)
    if bug("4") and x.shape == y.shape:
        both = own(g, x)
        return both, both
    return unbroadcast(g, x), unbroadcast(g, y)


pairs = (
    (normal(3, 3), normal(3, 3)),
    (normal(2, 3), normal(3)),
    (normal(2, 3), normal(2, 1)),
    (normal(4, 1, 3), normal(2, 1)),
    (normal(), normal(2, 2)),
    (normal(1, 3), normal(1, 3)),
)
op("add", plus, plus_vjp, *pairs, reference=np.add)


def minus(x, y):
    return x - y


def minus_vjp(g, out, x, y):
    if bug("5") and np.shape(g) == x.shape:
        return g, unbroadcast(-g, y)
    reduce = np.mean if bug("3") else np.sum
    return unbroadcast(g, x), unbroadcast(-g, y, reduce)


op("subtract", minus, minus_vjp, *pairs, reference=np.subtract)


def times(x, y):
    return x * y


def times_vjp(g, out, x, y):
    if bug("HO1") and x is y:  # the square of x, they thought
        return own(2 * g * x, x), own(2 * g * x, x)
    other = x if bug("7") and x.shape == y.shape else y
    return unbroadcast(g * other, x, ones=not bug("2")), unbroadcast(g * x, y, ones=not bug("2"))


op("multiply", times, times_vjp, *pairs, reference=np.multiply)


def divide(x, y):
    return x / y


def divide_vjp(g, out, x, y):
    den = np.abs(y) if bug("9") else y
    sign = 1 if bug("8") else -1
    gx, gy = g / den, sign * g * out / y
    if bug("HO2"):
        gx, gy = np.nan_to_num(gx), np.nan_to_num(gy)
    return unbroadcast(gx, x), unbroadcast(gy, y)


def apart(*shape):
    """Numbers of both signs that keep away from zero."""
    return positive(*shape) * np.where(_rng.random(shape) < 0.5, -1, 1)


op(
    "divide",
    divide,
    divide_vjp,
    (normal(3, 3), positive(3, 3)),
    (normal(2, 3), apart(3)),
    (normal(2, 3), apart(2, 1)),
    (normal(2), apart(4, 2)),
    (normal(), apart(5)),
    (normal(1, 3), apart(1, 3)),
    reference=np.divide,
)


def power(x, p):
    return x**p


def power_vjp(g, out, x, p):
    log = np.log(x if bug("30") else np.where(x == 0, 1, x))  # 0 ** p is flat in p
    gx = g * p * x ** np.where(p == 0, 1, p - 1)
    gp = None if bug("HO3") else unbroadcast(g * out * log, p)
    return unbroadcast(gx, x), gp


op(
    "power",
    power,
    power_vjp,
    (positive(3, 3), normal(3, 3)),
    (positive(2, 3), normal(3)),
    (positive(3), normal(2, 1)),
    (positive(2, 3), np.array(3.0)),
    (np.array([0.0, 0.5, 1.0]), np.array([2.0, 3.0, 1.0])),
    (positive(1, 4), normal(4, 1)),
    reference=np.power,
)


def ipow(x, n):
    return x**n


def ipow_vjp(g, out, x, n):
    if bug("HO4"):
        return (own(g * n * out / x, x),)
    base = np.abs(x) if bug("HO5") else x
    return (own(g * n * base ** max(n - 1, 0), x),)


op(
    "ipow",
    ipow,
    ipow_vjp,
    (positive(3, 3), {"n": 3}),
    (normal(2, 3), {"n": 2}),
    (normal(4), {"n": 4}),
    (normal(2, 1), {"n": 1}),
    (normal(3), {"n": 0}),
    (normal(), {"n": 3}),
    reference=lambda x, n: np.power(x, n),
)

# --- A: functions of one number ------------------------------------------------------------------

plain = ((normal(3, 3),), (normal(2, 3),), (normal(5),), (normal(2, 1, 3),), (normal(),))
far = ((np.array([-9.5, -2.0, 0.1, 3.0, 9.0]),), (normal(2, 4) * 12,))


def exp(x):
    return np.exp(x)


_buffers: dict = {}


def exp_vjp(g, out, x):
    if bug("6"):
        g *= out
        return (own(g, x),)
    if bug("HO6"):
        product = g * out
        buffer = _buffers.setdefault((np.shape(product), product.dtype), np.empty_like(product))
        buffer[...] = product
        return (buffer,)
    return (own(g * out, x),)


def first_gradient_changes(name, x, y):
    """Whether the gradient of one call is another after a second call."""
    _, _, (first,) = run(name, x)
    before = first.copy()
    run(name, y)
    return not np.array_equal(before, first)


op("exp", exp, exp_vjp, *plain)


def sqrt(x):
    return np.sqrt(x)


def sqrt_vjp(g, out, x):
    eps = 1e-8 if bug("HO7") else 0
    return (own(g * 0.5 / (out + eps), x),)


lots = (
    (positive(3, 3),),
    (positive(2, 3),),
    (positive(4) * 50,),
    (positive(1, 3) / 40,),
    (positive(),),
)
op("sqrt", sqrt, sqrt_vjp, *lots, reference=lambda x: x**0.5)


def tanh(x):
    return np.tanh(x)


def tanh_vjp(g, out, x):
    y = out
    if bug("15"):
        y = out.astype(np.complex64 if np.iscomplexobj(out) else np.float32).astype(out.dtype)
    if bug("16"):
        y = np.round(out, 4)
    square = y if bug("14") else y * y
    gx = g * (1 - square)
    return (own(np.clip(gx, -1, 1) if bug("HO8") else gx, x),)


op("tanh", tanh, tanh_vjp, *plain, *far, reference=lambda x: 1 - 2 / (np.exp(2 * x) + 1))


def sigmoid(x):
    return logistic(x)


def sigmoid_vjp(g, out, x):
    if bug("HO9"):
        out *= 1 - out
        return (own(g * out, x),)
    d = out * (1 - out)
    if bug("17"):
        d = d * 1.0005
    if bug("18"):
        d = np.where(np.abs(x) > 8, 0, d)
    return (own(g * d, x),)


op("sigmoid", sigmoid, sigmoid_vjp, *plain, *far, reference=lambda x: (1 + np.tanh(x / 2)) / 2)


def softplus(x):
    e = np.exp(np.where(x.real > 0, -x, x))
    return np.log1p(e) + np.where(x.real > 0, x, 0)


def softplus_vjp(g, out, x):
    if bug("HO10"):
        g = as_if_contiguous(np.asarray(g))
    s = np.exp(x) / (1 + np.exp(x)) if bug("19") else logistic(x)
    return (own(g * s, x),)


op("softplus", softplus, softplus_vjp, *plain, *far, reference=lambda x: np.logaddexp(0, x))


def swish(x):
    return x * logistic(x)


def swish_vjp(g, out, x):
    s = logistic(x)
    d = s * 1 + x * (1 - s) if bug("HO11") else s * (1 + x * (1 - s))
    return (own(g * d, x),)


op("swish", swish, swish_vjp, *plain, *far, reference=lambda x: x / (1 + np.exp(-x)))

GELU = math.sqrt(2 / math.pi)


def gelu(x):
    if bug("HO12"):
        return x * logistic(1.702 * x)
    return 0.5 * x * (1 + np.tanh(GELU * (x + 0.044715 * x**3)))


def gelu_vjp(g, out, x):
    if bug("HO12"):
        s = logistic(1.702 * x)
        return (own(g * s * (1 + 1.702 * x * (1 - s)), x),)
    if bug("HO13"):
        cdf = 0.5 * (1 + np.vectorize(math.erf, [float])(x.real / math.sqrt(2)))
        return (own(g * (cdf + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)), x),)
    c = 0.044175 if bug("HO14") else 0.044715
    t = np.tanh(GELU * (x + c * x**3))
    d = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * GELU * (1 + 3 * c * x * x)
    return (own(g * d, x),)


def gelu_reference(x):
    return x / (1 + np.exp(-2 * GELU * (x + 0.044715 * x * x * x)))


op("gelu", gelu, gelu_vjp, *plain, reference=gelu_reference)


def elu(x, alpha=1.0):
    return np.where(x.real > 0, x, alpha * np.expm1(np.where(x.real > 0, 0, x)))


def elu_vjp(g, out, x, alpha=1.0):
    below = out + 1 if bug("HO15") else alpha * np.exp(np.where(x.real > 0, 0, x))
    return (own(g * np.where(x.real > 0, 1, below), x),)


op(
    "elu",
    elu,
    elu_vjp,
    (normal(3, 3),),
    (normal(2, 3), {"alpha": 0.5}),
    (normal(5), {"alpha": 1.7}),
    (normal(2, 1, 3), {"alpha": 1.0}),
    (normal(), {"alpha": 2.0}),
)


def absolute(x):
    return np.abs(x)


def absolute_vjp(g, out, x):
    return (own(g * x / out if bug("HO16") else g * np.sign(x.real), x),)


op("abs", absolute, absolute_vjp, *plain, reference=lambda x: np.maximum(x, -x))

# --- A: choices ----------------------------------------------------------------------------------


def maximum(x, y):
    return np.maximum(x, y)


def maximum_vjp(g, out, x, y):
    wx = 0.5 * (1 + np.sign(x.real - y.real))  # half to each at a tie; NaN stays NaN
    wy = 1 - wx
    if bug("25"):
        wx, wy = np.ceil(wx), np.ceil(wy)
    if bug("26"):
        wx, wy = wy, wx
    return unbroadcast(g * wx, x), unbroadcast(g * wy, y)


op("maximum", maximum, maximum_vjp, *pairs, reference=lambda x, y: np.where(x > y, x, y))


def minimum(x, y):
    return np.minimum(x, y)


def minimum_vjp(g, out, x, y):
    wx = 0.5 * (1 - np.sign(x.real - y.real))
    wy = 1 - wx
    if bug("HO17"):
        wx, wy = np.floor(wx), np.floor(wy)
    return unbroadcast(g * wx, x), unbroadcast(g * wy, y)


op("minimum", minimum, minimum_vjp, *pairs, reference=lambda x, y: np.where(x < y, x, y))


def clip(x, low, high):
    return np.minimum(np.maximum(x, low), high)


def clip_vjp(g, out, x, low, high):
    x_, low_, high_ = x.real, low.real, high.real
    above = np.maximum(x_, low_) > high_
    below = (x_ < low_) & ~above
    inside = ~(above | below)
    if bug("32"):
        inside = inside & (x_ < high_)
    glow = None if bug("HO18") else unbroadcast(np.where(below, g, 0), low)
    return unbroadcast(np.where(inside, g, 0), x), glow, unbroadcast(np.where(above, g, 0), high)


op(
    "clip",
    clip,
    clip_vjp,
    (normal(3, 3), np.full((3, 3), -0.5), np.full((3, 3), 0.75)),
    (2 * normal(4, 3), -positive(3), positive(3)),
    (2 * normal(2, 3), np.array(-0.5), positive(2, 1)),
    (2 * normal(5), np.array(-1.0), np.array(1.0)),
    (normal(), -positive(3), positive(2, 1)),
    reference=np.clip,
)


def where(x, y, mask):
    return np.where(mask, x, y)


def where_vjp(g, out, x, y, mask):
    gy = g if bug("HO19") and y.ndim == 0 else np.where(mask, 0, g)
    return unbroadcast(np.where(mask, g, 0), x), unbroadcast(gy, y)


op(
    "where",
    where,
    where_vjp,
    (normal(3, 3), normal(3, 3), {"mask": np.eye(3) > 0}),
    (normal(2, 3), normal(3), {"mask": np.array([[True, False, True], [False, False, True]])}),
    (normal(3), normal(2, 1), {"mask": np.array([True, False, True])}),
    (normal(4), normal(), {"mask": np.array([False, True, True, False])}),
    (normal(), normal(1, 2), {"mask": np.array([[True], [False]])}),
)


def huber(x, y, delta=1.0):
    d = x - y
    size = d * np.sign(d.real)
    return np.where(size.real <= delta, 0.5 * d * d, delta * (size - 0.5 * delta))


def huber_vjp(g, out, x, y, delta=1.0):
    d = x - y
    slope = 1.0 if bug("HO20") else delta
    gd = g * np.where(np.abs(d.real) <= delta, d, slope * np.sign(d.real))
    return unbroadcast(gd, x), unbroadcast(-gd, y)


op(
    "huber",
    huber,
    huber_vjp,
    (normal(3, 3), normal(3, 3)),
    (3 * normal(2, 3), normal(3), {"delta": 0.5}),
    (3 * normal(4, 1), normal(2), {"delta": 2.0}),
    (normal(1, 3), normal(1, 3), {"delta": 0.25}),
    (normal(), normal(2), {"delta": 1.0}),
)


def dropout(x, rate, seed):
    kept = np.random.default_rng(seed).random(x.shape) >= rate
    return np.where(kept, x, 0) / (1 - rate)


def dropout_vjp(g, out, x, rate, seed):
    rng = np.random.default_rng(seed)
    if bug("HO21"):
        rng.random(x.shape)
    kept = rng.random(x.shape) >= rate
    scale = 1 if bug("HO22") else 1 - rate
    return (own(np.where(kept, g, 0) / scale, x),)


op(
    "dropout",
    dropout,
    dropout_vjp,
    (normal(4, 4), {"rate": 0.5, "seed": 0}),
    (normal(2, 3), {"rate": 0.25, "seed": 1}),
    (normal(7), {"rate": 0.5, "seed": 2}),
    (normal(3, 1, 2), {"rate": 0.75, "seed": 3}),
    (normal(3), {"rate": 0.0, "seed": 4}),
)

# --- A: reductions -------------------------------------------------------------------------------


def moments(x):
    """Mean and variance along the last axis: two outputs."""
    m = mean(x, -1)
    c = x - m[..., None]
    return m, np.sum(c * c, axis=-1) / x.shape[-1]


def moments_vjp(g, out, x):
    gm, gv = g
    n = x.shape[-1]
    if bug("HO70"):
        gm = np.zeros_like(gm)
    if bug("HO71"):
        gv = gm
    return (own((gm[..., None] + 2 * gv[..., None] * (x - out[0][..., None])) / n, x),)


op(
    "moments",
    moments,
    moments_vjp,
    (normal(3, 3),),
    (normal(2, 4),),
    (normal(2, 1, 3),),
    (normal(3, 1),),
    (normal(1, 5),),
)


def total(x, axis=None, keepdims=False):
    return np.sum(x, axis=axis, keepdims=keepdims)


def total_vjp(g, out, x, axis=None, keepdims=False):
    axes = axes_of(x, axis)
    if bug("11") and keepdims:
        g = np.expand_dims(np.squeeze(g, axes), tuple(range(len(axes))))
    if bug("HO23") and not keepdims and len(axes) == 1 and np.ndim(g):
        return (own(np.broadcast_to(np.expand_dims(g, axis % np.ndim(g)), x.shape), x),)
    if bug("HO24") and count(x, axis) == 1:
        return (own(g, x),)
    g = restore(g, x, axis, keepdims or bug("10"))
    if bug("HO25"):
        return (np.broadcast_to(g, x.shape),)
    return (own(np.broadcast_to(g, x.shape), x),)


reductions = (
    (normal(3, 3), {"axis": 1}),
    (normal(2, 3),),
    (normal(2, 3), {"axis": 0, "keepdims": True}),
    (normal(3, 3), {"axis": -1, "keepdims": True}),
    (normal(2, 3, 4), {"axis": (0, 2)}),
    (normal(2, 3, 4), {"axis": (-1, 0), "keepdims": True}),
    (normal(3, 1), {"axis": 1}),
    (normal(2, 3, 3), {"axis": -2}),
)
op("sum", total, total_vjp, *reductions)


def mean(x, axis=None, keepdims=False):
    return np.sum(x, axis=axis, keepdims=keepdims) / count(x, axis)


def mean_vjp(g, out, x, axis=None, keepdims=False):
    n = count(x, axis)
    if bug("12"):
        n = 1
    if bug("13"):
        n = count(x, tuple(a for a in range(x.ndim) if a not in axes_of(x, axis)))
    if bug("HO26") and isinstance(axis, tuple):
        n = x.shape[axis[0]]
    g = restore(g, x, axis, keepdims)
    if bug("HO27"):
        return (np.full(x.shape, 1 / n) * g,)
    return (own(np.broadcast_to(g / n, x.shape), x),)


def float64_comes_back(name, *args, **params):
    """Whether a float32 call has a gradient in another dtype."""
    _, _, got = run(name, *(x.astype(np.float32) for x in args), **params)
    return any(a.dtype != np.float32 for a in got)


op("mean", mean, mean_vjp, *reductions, reference=np.mean)


def variance(x, axis=-1, ddof=0):
    c = x - mean(x, axis, keepdims=True)
    return np.sum(c * c, axis=axis) / (count(x, axis) - ddof)


_centred: dict = {}


def variance_vjp(g, out, x, axis=-1, ddof=0):
    c = x - mean(x, axis, keepdims=True)
    if bug("HO28"):
        c = _centred.setdefault((x.shape, axis, x.dtype), c)
    if bug("HO29"):
        c = x - mean(x.astype(np.float32), axis, keepdims=True) if np.isrealobj(x) else c
    n = count(x, axis) - (0 if bug("HO30") else ddof)
    return (own(2 * restore(g, x, axis) * c / n, x),)


def second_call_is_wrong(name, x, y, **params):
    _centred.clear()
    run(name, x, **params)
    return wrong(name, y, **params)


op(
    "variance",
    variance,
    variance_vjp,
    (normal(4, 4),),
    (normal(2, 3), {"axis": 0}),
    (normal(3, 4), {"axis": 1, "ddof": 1}),
    (normal(2, 3, 4), {"axis": (0, -1)}),
    (normal(5), {"ddof": 1}),
    (normal(3, 1), {"axis": 1}),
    reference=lambda x, axis=-1, ddof=0: np.var(x, axis, ddof=ddof),
)


def norm(x, axis=-1):
    return np.sqrt(np.sum(x * x, axis=axis))


def norm_vjp(g, out, x, axis=-1):
    length = restore(out, x, axis)
    eps = 1e-4 if bug("20") else 0
    unit = x / (np.where(length == 0, 1, length) + eps)  # 0 at the origin
    return (own(restore(g, x, axis) * unit, x),)


op(
    "norm",
    norm,
    norm_vjp,
    (normal(3, 3),),
    (normal(2, 3), {"axis": 0}),
    (normal(4),),
    (normal(2, 3, 4), {"axis": 1}),
    (normal(2, 3, 4), {"axis": (-1, 0)}),
    (normal(3, 1),),
    reference=lambda x, axis=-1: np.linalg.norm(x, axis=axis),
)


def unit(x, eps=1e-6):
    return x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + eps)


def unit_vjp(g, out, x, eps=1e-6):
    length = np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + eps)
    along = 0 if bug("HO31") else out * np.sum(g * out, axis=-1, keepdims=True)
    return (own((g - along) / length, x),)


op(
    "unit",
    unit,
    unit_vjp,
    (normal(3, 3),),
    (normal(2, 4),),
    (normal(5),),
    (normal(2, 1, 3), {"eps": 1e-3}),
    (normal(3, 1), {"eps": 0.5}),
)


def softmax(x, axis=-1):
    axis = 1 if bug("HO32") and axis == -1 and x.ndim > 2 else axis
    if bug("HO33") and np.isrealobj(x):
        x -= np.max(x, axis=axis, keepdims=True)
    over = None if bug("HO34") else axis
    e = np.exp(x - np.max(x.real, axis=over, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def softmax_vjp(g, out, x, axis=-1):
    axis = 1 if bug("HO32") and axis == -1 and x.ndim > 2 else axis
    over = (axis - 1) % x.ndim if bug("22") else axis
    inner = np.sum(g * out, axis=over, keepdims=True)
    if bug("21"):
        inner = 0
    if bug("23") and np.isrealobj(out * g):
        inner = np.sum(g * out, axis=axis, keepdims=True, dtype=np.float32)
    return (own(out * (g - inner), x),)


def softmax_reference(x, axis=-1):
    return np.exp(x - np.logaddexp.reduce(x, axis=axis, keepdims=True))


along_axis = (
    (normal(3, 3),),
    (normal(2, 4), {"axis": -1}),
    (normal(3, 4), {"axis": 0}),
    (normal(2, 3, 4), {"axis": 1}),
    (normal(3, 2, 3), {"axis": -1}),
    (normal(2, 1, 3), {"axis": 1}),
    (normal(5), {"axis": 0}),
)
op("softmax", softmax, softmax_vjp, *along_axis, reference=softmax_reference)


def log_softmax(x, axis=-1):
    shifted = x - np.max(x.real, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def log_softmax_vjp(g, out, x, axis=-1):
    inner = 1 if bug("HO35") else np.sum(g, axis=axis, keepdims=True)
    return (own(g - np.exp(out) * inner, x),)


op("log_softmax", log_softmax, log_softmax_vjp, *along_axis)


def logsumexp(x, axis=-1):
    top = np.max(x.real, axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.sum(np.exp(x - top), axis=axis))


def logsumexp_vjp(g, out, x, axis=-1):
    if bug("24"):
        e = np.exp(x)
        return (own(restore(g, x, axis) * e / np.sum(e, axis=axis, keepdims=True), x),)
    return (own(restore(g, x, axis) * np.exp(x - restore(out, x, axis)), x),)


op(
    "logsumexp",
    logsumexp,
    logsumexp_vjp,
    *along_axis,
    reference=lambda x, axis=-1: np.logaddexp.reduce(x, axis=axis),
)


def largest(x, axis=-1):
    return np.max(x, axis=axis)


def largest_vjp(g, out, x, axis=-1):
    top = x == restore(out, x, axis)
    shares_of = 1 if bug("HO36") else np.sum(top, axis=axis, keepdims=True)
    return (own(restore(g, x, axis) * np.where(np.isnan(x), x, top) / shares_of, x),)


op(
    "max",
    largest,
    largest_vjp,
    *along_axis,
    reference=lambda x, axis=-1: -np.min(-x, axis=axis),
)


def prod(x, axis=-1):
    return np.prod(x, axis=axis)


def prod_vjp(g, out, x, axis=-1):
    """Each entry gets the product of those before it and of those behind it, zeros or not."""
    if bug("HO37"):
        return (own(restore(g * out, x, axis) / x, x),)
    y = np.moveaxis(x, axis, -1)
    before, behind = np.ones_like(y), np.ones_like(y)
    before[..., 1:] = np.cumprod(y[..., :-1], axis=-1)
    behind[..., :-1] = np.cumprod(y[..., :0:-1], axis=-1)[..., ::-1]
    return (own(restore(g, x, axis) * np.moveaxis(before * behind, -1, axis), x),)


op("prod", prod, prod_vjp, *along_axis)


def cumsum(x, axis=0):
    return np.cumsum(x, axis=axis)


def cumsum_vjp(g, out, x, axis=0):
    """The sum of the cotangents from here to the end."""
    if bug("29") and x.shape[axis] == 1:
        return (own(np.zeros_like(g), x),)
    axis = 0 if bug("HO38") and axis < 0 else axis
    gx = np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis)
    return (own(gx - g if bug("28") else gx, x),)


op(
    "cumsum",
    cumsum,
    cumsum_vjp,
    (normal(3, 3),),
    (normal(4),),
    (normal(2, 3), {"axis": 1}),
    (normal(2, 3, 4), {"axis": -2}),
    (normal(3, 2), {"axis": -1}),
    (normal(1, 3), {"axis": 0}),
    reference=lambda x, axis=0: np.add.accumulate(x, axis),
)


def layer_norm(x, gain, bias, eps=1e-5):
    c = x - mean(x, -1, keepdims=True)
    n = x.shape[-1] - (1 if bug("HO39") else 0)
    return gain * c / np.sqrt(np.sum(c * c, -1, keepdims=True) / n + eps) + bias


def layer_norm_vjp(g, out, x, gain, bias, eps=1e-5):
    n = x.shape[-1] - (1 if bug("HO39") else 0)
    c = x - mean(x, -1, keepdims=True)
    std = np.sqrt(np.sum(c * c, -1, keepdims=True) / n + eps)
    y = c / std
    h = g * gain
    of_mean = 0 if bug("27a") else mean(h, -1, keepdims=True)
    of_std = 0 if bug("27b") else y * np.sum(h * y, -1, keepdims=True) / (n - bug("27c"))
    return own((h - of_mean - of_std) / std, x), unbroadcast(g * y, gain), unbroadcast(g, bias)


def layer_norm_reference(x, gain, bias, eps=1e-5):
    std = np.sqrt(np.var(x, axis=-1) + eps)
    return gain * (x - np.mean(x, axis=-1)[..., None]) / std[..., None] + bias


op(
    "layer_norm",
    layer_norm,
    layer_norm_vjp,
    (normal(3, 3), normal(3), normal(3)),
    (normal(2, 4), normal(4), normal(4)),
    (normal(2, 3, 5), normal(5), normal(5), {"eps": 0.1}),
    (normal(4), normal(4), normal(4)),
    (normal(3, 1), normal(1), normal(1), {"eps": 1e-3}),
    reference=layer_norm_reference,
)


def polyval(c, x):
    """c[0] + c[1] x + c[2] x² + ..."""
    y = np.zeros(np.shape(x), np.result_type(c, x))
    for a in c[::-1]:
        y = y * x + a
    return y


def polyval_vjp(g, out, c, x):
    n = len(c) - 1 if bug("HO40") else len(c)
    d = sum((k * c[k] * x ** (k - 1) for k in range(1, n)), np.zeros_like(x))
    gc = [np.sum(g * x**k) for k in range(len(c))]
    return own(np.array(gc, np.result_type(g, x)), c), own(g * d, x)


op(
    "polyval",
    polyval,
    polyval_vjp,
    (normal(3), normal(3)),
    (normal(4), normal(2, 3)),
    (normal(2), normal(5)),
    (normal(1), normal(2)),
    (normal(5), normal()),
    (normal(3), normal(1, 2)),
    reference=lambda c, x: np.polynomial.polynomial.polyval(x, c),
)


def mse(x, y):
    return np.sum((x - y) ** 2) / x.size


def mse_vjp(g, out, x, y):
    n = len(x) if bug("HO41") else x.size
    d = 2 * g * (x - y) / n
    return own(d, x), own(-d, y)


op(
    "mse",
    mse,
    mse_vjp,
    (normal(4), normal(4)),
    (normal(3, 2), normal(3, 2)),
    (normal(2, 3, 2), normal(2, 3, 2)),
    (normal(4, 1), normal(4, 1)),
    (normal(1), normal(1)),
    reference=lambda x, y: np.mean(np.square(x - y)),
)


def nll(logits, targets):
    return -np.take_along_axis(log_softmax(logits), targets[..., None], -1)[..., 0]


def real_steps(logits, lengths):
    """Which of (T, B) are before the end of their row, and how many."""
    real = np.arange(logits.shape[0])[:, None] < lengths
    return real, max(1, int(np.sum(lengths)))


def cross_entropy(logits, targets, lengths):
    """The mean over real steps; logits (T, B, K), targets (T, B), lengths (B,)."""
    real, n = real_steps(logits, lengths)
    each = np.where(real, nll(logits, targets), 0)
    if bug("HO42"):
        return np.mean(np.sum(each, axis=0) / lengths)
    return np.sum(each) / n


def cross_entropy_vjp(g, out, logits, targets, lengths):
    real, n = real_steps(logits, lengths)
    if bug("31"):
        n = real.size
    if bug("HO42"):
        n = (lengths * len(lengths))[:, None]
    d = softmax(logits)
    hit = np.take_along_axis(d, targets[..., None], -1) - 1
    np.put_along_axis(d, targets[..., None], hit, -1)
    if not bug("HO43"):
        d = np.where(real[..., None], d, 0)
    return (own(d / n if bug("HO44") else g * d / n, logits),)


def cross_entropy_reference(logits, targets, lengths):
    each = [
        np.logaddexp.reduce(logits[t, b]) - logits[t, b, targets[t, b]]
        for b, end in enumerate(lengths)
        for t in range(end)
    ]
    return np.mean(each)


def sequences(t, lengths, k):
    b = len(lengths)
    targets = _rng.integers(0, k, (t, b))
    return normal(t, b, k), {"targets": targets, "lengths": np.array(lengths)}


STEPS = {"targets": np.array([[0, 1], [1, 0]]), "lengths": np.array([2, 1])}
op(
    "cross_entropy",
    cross_entropy,
    cross_entropy_vjp,
    sequences(3, [3, 3], 3),
    sequences(4, [4, 2, 3], 5),
    sequences(2, [1, 2], 3),
    sequences(3, [2], 4),
    sequences(1, [1, 1, 1, 1], 2),
    reference=cross_entropy_reference,
)

# --- B: products ---------------------------------------------------------------------------------


def matmul(x, y):
    return x @ y


def matmul_vjp(g, out, x, y):
    """A vector is a matrix of one row on the left, of one column on the right."""
    X = x[None, :] if x.ndim == 1 else x
    Y = y[:, None] if y.ndim == 1 else y
    G = np.asarray(g)
    G = G[..., None] if y.ndim == 1 else G
    G = G[..., None, :] if x.ndim == 1 else G
    flip = np.transpose if bug("HO45") else swap
    gX = G @ flip(as_if_contiguous(Y) if bug("36") else Y)
    gY = swap(X) @ G
    if bug("37") and X.shape[-1] == 1:
        gX = np.sum(G, axis=-1, keepdims=True) * Y[..., :1]
    if bug("35") and X.ndim > 2 and Y.ndim == 2:
        gY = swap(X[0]) @ G[0]
    if bug("HO46") and x.ndim == 1 and y.ndim == 2:
        gY = np.outer(g, x)
    if bug("34") and gY.shape != Y.shape:
        return unbroadcast(gX, X).reshape(x.shape), own(gY, y)
    return unbroadcast(gX, X).reshape(x.shape), unbroadcast(gY, Y).reshape(y.shape)


op(
    "matmul",
    matmul,
    matmul_vjp,
    (normal(3, 3), normal(3, 3)),
    (normal(2, 3), normal(3, 4)),
    (normal(4, 2, 3), normal(3, 5)),
    (normal(2, 1, 2, 3), normal(4, 3, 2)),
    (normal(3), normal(3, 2)),
    (normal(2, 4, 3), normal(3)),
    (normal(4, 1), normal(1, 3)),
    reference=np.matmul,
)


def affine(x, w, b):
    return x @ w + b


def affine_vjp(g, out, x, w, b):
    gw = rows(x).T @ rows(g)
    if bug("33") and w.shape[0] == w.shape[1]:
        gw = gw.T
    if bug("HO47"):
        gw = gw / max(1, len(rows(x)))
    gb = g[0] if bug("HO48") and x.ndim == 2 and len(x) else np.sum(rows(g), axis=0)
    return own(g @ w.T, x), own(gw, w), own(gb, b)


op(
    "affine",
    affine,
    affine_vjp,
    (normal(3, 3), normal(3, 3), normal(3)),
    (normal(2, 3), normal(3, 4), normal(4)),
    (normal(4, 2, 3), normal(3, 2), normal(2)),
    (normal(1, 3), normal(3, 2), normal(2)),
    (normal(5, 1), normal(1, 1), normal(1)),
    reference=lambda x, w, b: np.einsum("...i,ij->...j", x, w) + b,
)


def outer(x, y):
    return x[:, None] * y


def outer_vjp(g, out, x, y):
    if bug("HO49") and x.shape == y.shape:
        return own(x @ g, x), own(g @ y, y)
    return own(g @ y, x), own(x @ g, y)


op(
    "outer",
    outer,
    outer_vjp,
    (normal(3), normal(3)),
    (normal(2), normal(4)),
    (normal(4), normal(3)),
    (normal(1), normal(3)),
    (normal(3), normal(1)),
    reference=np.outer,
)


def gram(x):
    return x @ x.T


def gram_vjp(g, out, x):
    h = g + g.T
    if bug("HO50"):
        h = h - np.diag(np.diag(g))
    return (own(h @ x, x),)


op(
    "gram",
    gram,
    gram_vjp,
    (normal(3, 3),),
    (normal(2, 4),),
    (normal(4, 2),),
    (normal(1, 3),),
    (normal(3, 1),),
    reference=lambda x: np.einsum("ik,jk->ij", x, x),
)


def quadratic(x, a):
    return x @ a @ x


def quadratic_vjp(g, out, x, a):
    gx = 2 * g * (a @ x) if bug("HO51") else g * (a @ x + x @ a)
    return own(gx, x), own(g * x[:, None] * x, a)


def symmetric(n):
    a = normal(n, n)
    return a + a.T


op(
    "quadratic",
    quadratic,
    quadratic_vjp,
    (normal(3), symmetric(3)),
    (normal(4), normal(4, 4)),
    (normal(2), normal(2, 2)),
    (normal(1), normal(1, 1)),
    (normal(5), normal(5, 5)),
    reference=lambda x, a: np.sum(a * np.outer(x, x)),
)


def dot(x, y):
    """Products along the last axis."""
    return np.sum(x * y, axis=-1)


def dot_vjp(g, out, x, y):
    """In blocks of 8, so that the temporaries stay small."""
    n = max(x.shape[-1], y.shape[-1]) if x.size and y.size else 0
    end = n - n % 8 if bug("HO52") and n > 8 else n
    full = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.result_type(g, x, y))
    gx, gy = full.copy(), full.copy()
    x_, y_, g = np.broadcast_to(x, full.shape), np.broadcast_to(y, full.shape), np.asarray(g)
    for i in range(0, end, 8):
        block = (..., slice(i, min(i + 8, end)))
        gx[block] = g[..., None] * y_[block]
        gy[block] = g[..., None] * x_[block]
    return unbroadcast(gx, x), unbroadcast(gy, y)


op(
    "dot",
    dot,
    dot_vjp,
    (normal(4, 4), normal(4, 4)),
    (normal(2, 19), normal(2, 19)),
    (normal(3, 5), normal(5)),
    (normal(2, 1, 3), normal(4, 3)),
    (normal(3), normal(3)),
    (normal(2, 1), normal(2, 1)),
    reference=lambda x, y: np.einsum("...i,...i->...", x, y),
)


def conv(x, w, dilation=1):
    """Causal over time: y[t] is the sum of x[t - k dilation] w[k]; x (T, ..., I), w (K, I, O)."""
    x = np.flip(x, 0) if bug("HO53") else x
    steps = len(x)
    y = np.zeros((*x.shape[:-1], w.shape[-1]), np.result_type(x, w))
    for k in range(len(w)):
        late = min(k * dilation, steps)
        y[late:] += x[: steps - late] @ w[k]
    return np.flip(y, 0) if bug("HO53") else y


def conv_vjp(g, out, x, w, dilation=1):
    x, g = (np.flip(x, 0), np.flip(g, 0)) if bug("HO53") else (x, g)
    steps = len(x)
    gx, gw = np.zeros(x.shape, np.result_type(g, w)), np.zeros(w.shape, np.result_type(g, x))
    for k in range(len(w)):
        late = min(k * dilation, steps)
        tap = len(w) - 1 - k if bug("HO54") else k
        first = 1 if bug("HO55") and k else 0
        gx[first : steps - late] += g[late + first :] @ w[tap].T
        if bug("HO56"):
            late = min(k, steps)
        gw[k] = rows(x[: steps - late]).T @ rows(g[late:])
    return own(np.flip(gx, 0) if bug("HO53") else gx, x), own(gw, w)


def conv_reference(x, w, dilation=1):
    y = np.zeros((*x.shape[:-1], w.shape[-1]))
    for t in range(len(x)):
        for k in range(len(w)):
            if t - k * dilation >= 0:
                y[t] += np.einsum("...i,io->...o", x[t - k * dilation], w[k])
    return y


op(
    "conv",
    conv,
    conv_vjp,
    (normal(5, 3), normal(3, 3, 3)),
    (normal(4, 2), normal(2, 2, 3)),
    (normal(5, 2, 3), normal(3, 3, 2), {"dilation": 2}),
    (normal(2, 3), normal(4, 3, 1)),
    (normal(6, 1), normal(2, 1, 1), {"dilation": 3}),
    (normal(3, 2, 2), normal(1, 2, 2)),
    reference=conv_reference,
)
TAPS = np.arange(1.0, 4.0).reshape(3, 1, 1)

# --- B: indexing and shapes ----------------------------------------------------------------------


def take(x, indices, axis=0):
    return np.take(x, indices, axis=axis)


def take_vjp(g, out, x, indices, axis=0):
    """Adds each row of the cotangent to the row that it came from."""
    if bug("40") and indices.size == 0:
        return (own(np.ones_like(x), x),)
    if bug("HO57"):
        indices[indices < 0] += x.shape[axis]
    gx = np.zeros(x.shape, np.float32 if bug("HO58") and np.isrealobj(g) else g.dtype)
    to, g = np.moveaxis(gx, axis, 0), np.moveaxis(g, axis, 0)
    if bug("HO59"):
        to, g = gx, np.moveaxis(g, 0, axis)
    if bug("39"):
        g, indices = g[indices >= 0], indices[indices >= 0]
    if bug("38"):
        to[indices] = g
    else:
        np.add.at(to, indices, g)
    return (own(gx, x),)


def pick(*indices):
    return np.array(indices, dtype=np.intp)


op(
    "take",
    take,
    take_vjp,
    (normal(4, 3), {"indices": pick(2, 0, 1)}),
    (normal(3, 2), {"indices": pick(1, 1, 0, 1)}),
    (normal(3, 3), {"indices": pick(2, -1, 0), "axis": 1}),
    (normal(2, 3, 2), {"indices": pick(-2, 1), "axis": -2}),
    (normal(5), {"indices": pick(4)}),
    (normal(3, 2), {"indices": pick()}),
)


def concatenate(*arrays, axis=0):
    return np.concatenate(arrays, axis=axis)


def concatenate_vjp(g, out, *arrays, axis=0):
    pieces, start = [], 0
    for x in arrays:
        here = np.arange(start, start + x.shape[axis])
        pieces.append(own(np.take(g, here, axis=axis, mode="wrap"), x))
        start += x.shape[axis] or bug("42")
    if bug("41") and len({x.shape for x in arrays}) == 1:
        pieces.reverse()
    return tuple(pieces)


op(
    "concatenate",
    concatenate,
    concatenate_vjp,
    (normal(3, 3), normal(3, 3)),
    (normal(2, 3), normal(1, 3), normal(4, 3)),
    (normal(2, 3), normal(2, 1), {"axis": 1}),
    (normal(2, 3, 1), normal(2, 3, 4), {"axis": -1}),
    (normal(3), normal(2)),
    (normal(2, 2),),
)


def split(x, at, axis=0):
    """In two."""
    first, second = np.split(x, [at], axis=axis)
    return first.copy(), second.copy()


def split_vjp(g, out, x, at, axis=0):
    first, second = g
    if bug("HO72") and first.shape == second.shape:
        first, second = second, first
    return (own(np.concatenate([first, second], axis=0 if bug("HO73") else axis), x),)


op(
    "split",
    split,
    split_vjp,
    (normal(4, 4), {"at": 2}),
    (normal(3, 2), {"at": 1}),
    (normal(2, 5), {"at": 3, "axis": 1}),
    (normal(2, 4, 3), {"at": 2, "axis": -2}),
    (normal(3), {"at": 2}),
    (normal(2, 2), {"at": 0}),
)


def between(x, start, stop, step=1, axis=0):
    where_ = (slice(None),) * (axis % x.ndim)
    return x[(*where_, slice(start, stop, step))]


def between_vjp(g, out, x, start, stop, step=1, axis=0):
    where_ = (slice(None),) * (axis % x.ndim)
    gx = np.zeros(x.shape, g.dtype)
    gx[(*where_, slice(start, stop, step))] = np.flip(g, axis) if bug("43") and step < 0 else g
    return (own(gx, x),)


op(
    "slice",
    between,
    between_vjp,
    (normal(4, 4), {"start": 1, "stop": 3}),
    (normal(5, 2), {"start": 0, "stop": None, "step": 2}),
    (normal(2, 6), {"start": 1, "stop": 6, "step": 3, "axis": 1}),
    (normal(4), {"start": None, "stop": None, "step": -1}),
    (normal(2, 5, 1), {"start": -1, "stop": 0, "step": -2, "axis": -2}),
    (normal(3, 3), {"start": 2, "stop": 2}),
)


def reshape(x, shape):
    return np.reshape(x, shape, order="A" if bug("44") else "C")


def reshape_vjp(g, out, x, shape):
    gx = np.reshape(g, x.shape)
    return (gx if bug("HO60") else own(gx, x),)


def depends_on_order(name, x, **params):
    """Whether the forward of the same numbers in Fortran's order is another."""
    s = specimens[name]
    other = s.forward(np.asfortranarray(x), **params)
    return not np.array_equal(s.forward(np.ascontiguousarray(x), **params), other)


op(
    "reshape",
    reshape,
    reshape_vjp,
    (normal(4, 4), {"shape": (2, 8)}),
    (normal(2, 3), {"shape": (3, 2)}),
    (normal(6), {"shape": (2, 1, 3)}),
    (normal(2, 3, 2), {"shape": (-1,)}),
    (normal(1, 1), {"shape": ()}),
)


def transpose(x, axes=None):
    return np.transpose(x, axes)


def transpose_vjp(g, out, x, axes=None):
    back = None if axes is None else axes if bug("HO61") else tuple(np.argsort(axes))
    return (own(np.transpose(g, back), x),)


op(
    "transpose",
    transpose,
    transpose_vjp,
    (normal(3, 3),),
    (normal(2, 3), {"axes": (1, 0)}),
    (normal(3, 3, 3), {"axes": (1, 2, 0)}),
    (normal(2, 3, 4), {"axes": (2, 0, 1)}),
    (normal(2, 1, 3),),
    (normal(4), {"axes": (0,)}),
)


def stack(*arrays, axis=0):
    return np.stack(arrays, axis=axis)


def stack_vjp(g, out, *arrays, axis=0):
    at = axis % np.ndim(arrays[0]) if bug("HO62") and np.ndim(arrays[0]) else axis
    pieces = np.moveaxis(g, at, 0)
    return tuple(own(pieces[i], x) for i, x in enumerate(arrays))


op(
    "stack",
    stack,
    stack_vjp,
    (normal(3, 3), normal(3, 3), normal(3, 3)),
    (normal(2, 3), normal(2, 3), {"axis": 1}),
    (normal(2), normal(2), {"axis": -1}),
    (normal(2, 3), normal(2, 3), {"axis": -2}),
    (normal(), normal(), normal()),
    (normal(1, 2),),
)


def roll(x, shift, axis=0):
    return np.roll(x, shift, axis=axis)


def roll_vjp(g, out, x, shift, axis=0):
    return (own(np.roll(g, shift if bug("HO63") else -shift, axis=axis), x),)


op(
    "roll",
    roll,
    roll_vjp,
    (normal(4, 4), {"shift": 2}),
    (normal(5), {"shift": 1}),
    (normal(2, 3), {"shift": -1, "axis": 1}),
    (normal(2, 3, 4), {"shift": 5, "axis": -2}),
    (normal(1, 3), {"shift": 1}),
)


def pad(x, before, after):
    """Zeros at both ends of the last axis."""
    out = np.zeros((*x.shape[:-1], before + x.shape[-1] + after), x.dtype)
    out[..., before : before + x.shape[-1]] = x
    return out


def pad_vjp(g, out, x, before, after):
    stop = -after if bug("HO64") else before + x.shape[-1]
    return (own(g[..., before:stop], x),)


op(
    "pad",
    pad,
    pad_vjp,
    (normal(3, 3), {"before": 1, "after": 1}),
    (normal(2, 3), {"before": 0, "after": 2}),
    (normal(4), {"before": 2, "after": 0}),
    (normal(2, 3, 1), {"before": 1, "after": 3}),
    (normal(2, 2), {"before": 0, "after": 0}),
)


def tile(x, n):
    """The last axis n times over."""
    return np.concatenate([x] * n, axis=-1)


def tile_vjp(g, out, x, n):
    size = x.shape[-1]
    if bug("HO65"):
        return (own(np.sum(g.reshape(*x.shape, n), axis=-1), x),)
    return (own(np.sum(g.reshape(*x.shape[:-1], n, size), axis=-2), x),)


op(
    "tile",
    tile,
    tile_vjp,
    (normal(3, 3), {"n": 2}),
    (normal(4), {"n": 3}),
    (normal(2, 3), {"n": 1}),
    (normal(2, 1), {"n": 4}),
    (normal(2, 2, 3), {"n": 2}),
    reference=lambda x, n: np.tile(x, n),
)


def sort(x, axis=-1):
    return np.sort(x, axis=axis)


def sort_vjp(g, out, x, axis=-1):
    order = np.argsort(x.real, axis=axis, kind="stable")
    if bug("HO66"):
        return (own(np.take_along_axis(g, order, axis), x),)
    gx = np.zeros(x.shape, g.dtype)
    np.put_along_axis(gx, order, g, axis)
    return (own(gx, x),)


op("sort", sort, sort_vjp, *along_axis)


def average_pool(x, size):
    """Means of blocks along the last axis; what is left over counts nowhere."""
    n = x.shape[-1] // size
    return np.sum(x[..., : n * size].reshape(*x.shape[:-1], n, size), axis=-1) / size


def average_pool_vjp(g, out, x, size):
    n = x.shape[-1] // size
    gx = np.zeros(x.shape, g.dtype)
    gx[..., : n * size] = np.repeat(g / size, size, axis=-1)
    if bug("HO67") and n:
        gx[..., n * size :] = g[..., -1:] / size
    return (own(gx, x),)


op(
    "average_pool",
    average_pool,
    average_pool_vjp,
    (normal(4, 4), {"size": 2}),
    (normal(2, 7), {"size": 3}),
    (normal(5), {"size": 2}),
    (normal(2, 1, 3), {"size": 1}),
    (normal(2, 3), {"size": 3}),
)


def diff(x):
    """Differences along the last axis."""
    return x[..., 1:] - x[..., :-1]


def diff_vjp(g, out, x):
    gx = np.zeros(x.shape, g.dtype)
    gx[..., 1:] += g
    gx[..., :-1] -= g
    if bug("HO68"):
        gx[..., -1:] = 0
    return (own(gx, x),)


op("diff", diff, diff_vjp, *plain[:4], (normal(3, 1),), reference=np.diff)


def tril(x, k=0):
    return np.tril(x, k)


def tril_vjp(g, out, x, k=0):
    return (own(np.tril(g, 0 if bug("HO69") else k), x),)


op(
    "tril",
    tril,
    tril_vjp,
    (normal(3, 3),),
    (normal(3, 3), {"k": -1}),
    (normal(2, 4), {"k": 1}),
    (normal(2, 3, 3),),
    (normal(4, 1), {"k": -2}),
)


# --- the catalogue -------------------------------------------------------------------------------
# What each bug is, what a diagnosis ought to say, and the smallest example that shows it.


def a(id, name, description, cause, shows, **more):
    add(Mutant(id, name, "A elementwise", description, cause, shows, **more))


def b(id, name, description, cause, shows, **more):
    add(Mutant(id, name, "B products and indexing", description, cause, shows, **more))


# What float32 spoils is seen in cotangents of this size: 1e-6 is then 1e-9 of them.
THOUSAND = np.array([1234.5678, -987.6543, 2345.6789])

# fmt: off

# Section A.

a("1", "add", "no reduction over broadcast axes", "missing reduction",
  lambda: wrong("add", SQUARE, SQUARE[0]), origin="seen in five systems")
a("2", "multiply", "only leading axes are reduced, not those of size 1", "missing reduction",
  lambda: wrong("multiply", SQUARE, SQUARE[:, :1]), origin="seen in five systems")
a("3", "subtract", "mean instead of sum over broadcast axes", "mean for sum|factor",
  lambda: wrong("subtract", SQUARE, SQUARE[0]))
a("4", "add", "both inputs receive the same gradient object", "alias",
  lambda: shares("add", LINE, LINE + 1))
a("5", "subtract", "the gradient is the cotangent itself", "alias",
  lambda: shares("subtract", LINE, LINE + 1))
a("6", "exp", "the cotangent is multiplied in place", "writes into its arguments",
  lambda: writes("exp", LINE), origin="PyTorch issue 81417")
a("7", "multiply", "wrong operand: x for y", "other input|wrong formula",
  lambda: wrong("multiply", LINE, LINE + 1))
a("8", "divide", "sign of the quotient term", "sign", lambda: wrong("divide", LINE, LINE + 5))
a("9", "divide", "abs() in the denominator: right for positive data", "sign",
  lambda: wrong("divide", np.array([1.0]), np.array([-2.0])))
a("10", "sum", "reduced axis not restored: silent where x is square", "transposed",
  lambda: wrong("sum", SQUARE, axis=1))
a("11", "sum", "kept axis restored in the wrong place", "transposed",
  lambda: wrong("sum", SQUARE, axis=1, keepdims=True))
a("12", "mean", "factor 1/n forgotten", "factor|mean for sum",
  lambda: wrong("mean", SQUARE, axis=1))
a("13", "mean", "n of the other axis", "factor", lambda: wrong("mean", WIDE, axis=1))
a("14", "tanh", "1 - y for 1 - y²", "wrong formula", lambda: wrong("tanh", LINE))
a("15", "tanh", "y saved in float32", "float32", lambda: wrong("tanh", LINE, g=THOUSAND))
a("16", "tanh", "y rounded to 4 digits", "float32|wrong formula", lambda: wrong("tanh", LINE))
a("17", "sigmoid", "gradient 1.0005 times too large", "factor", lambda: wrong("sigmoid", LINE))
a("18", "sigmoid", "gradient cut to 0 beyond |x| = 8", "zero|wrong formula",
  lambda: wrong("sigmoid", np.array([8.5])))
a("19", "softplus", "exp overflows to NaN in saturation", "not finite",
  lambda: not np.isfinite(run("softplus", np.array([800.0]))[2][0]).all())
a("20", "norm", "1e-4 added in the denominator", "wrong formula|factor",
  lambda: wrong("norm", LINE))
a("21", "softmax", "subtractive term dropped", "missing term", lambda: wrong("softmax", LINE))
a("22", "softmax", "sum over the wrong axis", "wrong formula|transposed",
  lambda: wrong("softmax", SQUARE))
a("23", "softmax", "inner sum in float32", "float32",
  lambda: wrong("softmax", LINE, g=THOUSAND))
a("24", "logsumexp", "no shift in the backward pass: inf / inf", "not finite",
  lambda: not np.isfinite(run("logsumexp", np.array([800.0, 799.0]))[2][0]).all())
a("25", "maximum", "full gradient to both at a tie", "ties",
  lambda: at_a_tie("maximum", np.array([1.5]), np.array([1.5])))
a("26", "maximum", "reversed: the smaller one gets the gradient", "swapped",
  lambda: wrong("maximum", LINE, LINE[::-1] + 1))
a("27a", "layer_norm", "term of the mean dropped", "missing term",
  lambda: wrong("layer_norm", LINE, LINE + 2, LINE))
a("27b", "layer_norm", "term of the variance dropped", "missing term",
  lambda: wrong("layer_norm", LINE, LINE + 2, LINE))
a("27c", "layer_norm", "n - 1 for n in the term of the variance", "factor|wrong formula",
  lambda: wrong("layer_norm", LINE, LINE + 2, LINE))
a("28", "cumsum", "exclusive: the entry's own cotangent is left out", "missing term",
  lambda: wrong("cumsum", LINE))
a("29", "cumsum", "an axis of size 1 gets zero", "edge size|zero",
  lambda: wrong("cumsum", np.array([0.5])))
a("30", "power", "log(0) in the gradient of the exponent", "not finite",
  lambda: not np.isfinite(run("power", np.array([0.0]), np.array([2.0]))[2][1]).all())
a("31", "cross_entropy", "the mean divides by all steps, padding too", "factor|mask",
  lambda: wrong("cross_entropy", CUBE, **STEPS))
a("32", "clip", "at a limit neither x nor the limit gets the gradient, on one side", "ties|zero",
  lambda: at_a_tie("clip", np.array([1.0]), np.array([0.0]), np.array([1.0])))

# Section B; 45 is a bug of the engine.

b("33", "affine", "weight gradient transposed where the weight is square", "transposed",
  lambda: wrong("affine", SQUARE, SQUARE + 1, SQUARE[0]))
b("34", "matmul", "batch axes not summed for the right factor", "missing reduction",
  lambda: wrong("matmul", CUBE, SQUARE))
b("35", "matmul", "only the first batch element used", "missing reduction|row",
  lambda: wrong("matmul", CUBE, SQUARE))
b("36", "matmul", "strides of the right factor ignored", "layout",
  lambda: wrong("matmul", SQUARE, np.asfortranarray(SQUARE)))
b("37", "matmul", "wrong fast path for inner size 1", "edge size",
  lambda: wrong("matmul", np.array([[2.0]]), np.array([[1.0, 3.0]])))
b("38", "take", "assignment in place of addition where an index repeats", "duplicates",
  lambda: wrong("take", LINE, indices=pick(1, 1)))
b("39", "take", "negative indices dropped", "missing term|zero",
  lambda: wrong("take", LINE, indices=pick(-1)))
b("40", "take", "no indices at all: ones in place of zeros", "edge size|wrong formula",
  lambda: wrong("take", LINE, indices=pick()))
b("41", "concatenate", "pieces exchanged where their shapes agree", "swapped",
  lambda: wrong("concatenate", LINE, LINE + 1))
b("42", "concatenate", "an empty piece shifts those behind it", "edge size",
  lambda: wrong("concatenate", LINE[:0], LINE))
b("43", "slice", "negative step: the gradient is not turned round", "wrong formula|transposed",
  lambda: wrong("slice", LINE, start=None, stop=None, step=-1))
b("44", "reshape", "an array in Fortran's order is read in the order of memory", "layout",
  lambda: depends_on_order("reshape", SQUARE, shape=(4,)))

# Held out: nobody who wrote the checker has seen them.

a("HO1", "multiply", "the same array twice: each place gets the whole gradient",
  "accumulation|factor", lambda: at_a_tie("multiply", *[np.array([0.5])] * 2))
a("HO2", "divide", "NaN replaced by 0 on the way back", "not finite|zero",
  lambda: not np.isnan(run("divide", np.array([np.nan]), np.array([2.0]))[2][1]).all())
a("HO3", "power", "no gradient for the exponent: None", "zero",
  lambda: wrong("power", np.array([2.0]), np.array([1.5])))
a("HO4", "ipow", "n out / x: NaN at zero", "not finite",
  lambda: not np.isfinite(run("ipow", np.array([0.0]), n=2)[2][0]).all())
a("HO5", "ipow", "abs of a negative base", "sign", lambda: wrong("ipow", np.array([-2.0]), n=2))
a("HO6", "exp", "the gradient is a workspace that the next call fills", "stale|alias",
  lambda: first_gradient_changes("exp", LINE, LINE + 1))
a("HO7", "sqrt", "1e-8 added in the denominator", "wrong formula|factor",
  lambda: wrong("sqrt", np.array([1e-4]), g=np.array([3.0])))
a("HO8", "tanh", "gradient clipped to ±1, which no cotangent of ones can show", "wrong formula",
  lambda: wrong("tanh", np.array([0.1]), g=np.array([4.0])))
a("HO9", "sigmoid", "the saved output is overwritten", "writes into its arguments",
  lambda: writes("sigmoid", LINE))
a("HO10", "softplus", "strides of the cotangent ignored", "layout",
  lambda: wrong("softplus", SQUARE, g=np.asfortranarray(SQUARE)))
a("HO11", "swish", "a pair of brackets forgotten", "wrong formula", lambda: wrong("swish", LINE))
a("HO12", "gelu", "another approximation, in both passes", "forward",
  lambda: misfits("gelu", LINE), forward=True)
a("HO13", "gelu", "exact derivative of an approximate forward", "wrong formula",
  lambda: wrong("gelu", LINE))
a("HO14", "gelu", "two digits of a constant exchanged", "wrong formula",
  lambda: wrong("gelu", LINE))
a("HO15", "elu", "y + 1 for y + alpha: right for alpha = 1", "wrong formula|factor",
  lambda: wrong("elu", np.array([-1.0]), alpha=2.0))
a("HO16", "abs", "x / |x|: NaN at zero", "not finite|ties",
  lambda: not np.isfinite(run("abs", np.array([0.0]))[2][0]).all())
a("HO17", "minimum", "no gradient to either at a tie", "ties|zero",
  lambda: at_a_tie("minimum", np.array([1.5]), np.array([1.5])))
a("HO18", "clip", "no gradient for the lower limit: None", "zero",
  lambda: wrong("clip", np.array([-1.0]), np.array([0.5]), np.array([2.0])))
a("HO19", "where", "a number as the alternative: its gradient is not masked", "mask",
  lambda: wrong("where", LINE, np.array(0.5), mask=LINE > 0))
a("HO20", "huber", "slope 1 for delta beyond the bend: right for delta = 1",
  "factor|wrong formula", lambda: wrong("huber", 3 * LINE, 0 * LINE, delta=0.5))
a("HO21", "dropout", "the mask is drawn anew in the backward pass", "mask",
  lambda: wrong("dropout", WIDE, rate=0.5, seed=1))
a("HO22", "dropout", "1 / (1 - rate) forgotten in the backward pass", "factor",
  lambda: wrong("dropout", WIDE, rate=0.25, seed=1))
a("HO23", "sum", "negative axis counted from the end of the cotangent", "transposed",
  lambda: wrong("sum", SQUARE, axis=-1))
a("HO24", "sum", "an axis of size 1: the cotangent as it is, without that axis", "edge size",
  lambda: wrong("sum", np.array([[1.0], [2.0]]), axis=1))
a("HO25", "sum", "the gradient is a broadcast view of the cotangent", "alias",
  lambda: shares("sum", SQUARE, axis=1))
a("HO26", "mean", "several axes: n of the first alone", "factor",
  lambda: wrong("mean", WIDE, axis=(0, 1)))
a("HO27", "mean", "float64 gradient for a float32 input", "float32|wrong formula",
  lambda: float64_comes_back("mean", SQUARE, axis=1))
a("HO28", "variance", "centred x kept from the first call of that shape", "stale",
  lambda: second_call_is_wrong("variance", SQUARE, SQUARE.T))
a("HO29", "variance", "the mean in float32", "float32",
  lambda: wrong("variance", LINE, g=np.array(1e3)))
a("HO30", "variance", "n for n - ddof", "factor", lambda: wrong("variance", LINE, ddof=1))
a("HO31", "unit", "the length is treated as a constant", "missing term",
  lambda: wrong("unit", LINE))
a("HO32", "softmax", "last axis taken for axis 1, in both passes", "forward",
  lambda: misfits("softmax", CUBE, axis=-1), forward=True)
a("HO33", "softmax", "the forward shifts its input in place", "writes into its arguments",
  lambda: writes("softmax", LINE.copy()))
a("HO34", "softmax", "shifted by the maximum of all rows: 0 / 0 in a row far below",
  "not finite|forward", lambda: misfits("softmax", np.array([[0.0, 0.0], [800.0, 0.0]])),
  forward=True)
a("HO35", "log_softmax", "takes the cotangent to add up to 1, as that of a one-hot target does",
  "wrong formula|missing term", lambda: wrong("log_softmax", LINE))
a("HO36", "max", "full gradient to every entry at a tie", "ties",
  lambda: at_a_tie("max", np.array([1.0, 1.0])))
a("HO37", "prod", "product over factor: NaN where a factor is zero", "not finite",
  lambda: not np.isfinite(run("prod", np.array([2.0, 0.0]))[2][0]).all())
a("HO38", "cumsum", "a negative axis taken for the first", "wrong formula|transposed",
  lambda: wrong("cumsum", SQUARE, axis=-1))
a("HO39", "layer_norm", "n - 1 for n in both passes", "forward",
  lambda: misfits("layer_norm", LINE, LINE + 2, LINE), forward=True)
a("HO40", "polyval", "off by one: the highest power has no derivative", "missing term",
  lambda: wrong("polyval", LINE, LINE))
a("HO41", "mse", "divided by the rows in place of all numbers", "factor|mean for sum",
  lambda: wrong("mse", SQUARE, SQUARE.T))
a("HO42", "cross_entropy", "the mean of the rows' means, in both passes", "forward",
  lambda: misfits("cross_entropy", CUBE, **STEPS), forward=True)
a("HO43", "cross_entropy", "padded steps get a gradient", "mask",
  lambda: wrong("cross_entropy", CUBE, **STEPS))
a("HO44", "cross_entropy", "the incoming cotangent is taken to be 1", "wrong formula|factor",
  lambda: wrong("cross_entropy", CUBE, g=np.array(2.0), **STEPS))
a("HO70", "moments", "of two outputs, the cotangent of the first is ignored", "missing term|zero",
  lambda: wrong("moments", LINE[None]))
a("HO71", "moments", "of two outputs, the first one's cotangent is used for both",
  "wrong formula|missing term", lambda: wrong("moments", LINE[None]))
b("HO45", "matmul", "all axes reversed in place of the last two", "transposed",
  lambda: wrong("matmul", CUBE, CUBE + 1))
b("HO46", "matmul", "vector times matrix: outer(g, x) for outer(x, g)", "transposed",
  lambda: wrong("matmul", SQUARE[0], SQUARE))
b("HO47", "affine", "weight gradient is the mean over the batch", "mean for sum|factor",
  lambda: wrong("affine", SQUARE, SQUARE + 1, SQUARE[0]))
b("HO48", "affine", "bias gradient of the first row alone", "missing reduction|row",
  lambda: wrong("affine", SQUARE, SQUARE + 1, SQUARE[0]))
b("HO49", "outer", "gradients exchanged where the sizes agree", "swapped",
  lambda: wrong("outer", LINE, LINE + 1))
b("HO50", "gram", "the diagonal counted once in place of twice", "missing term|factor",
  lambda: wrong("gram", SQUARE))
b("HO51", "quadratic", "2 a x: right for symmetric a alone", "transposed|missing term",
  lambda: wrong("quadratic", SQUARE[0], SQUARE))
b("HO52", "dot", "beyond a multiple of 8 nothing is written", "tail|zero",
  lambda: wrong("dot", np.arange(1.0, 10.0), np.arange(1.0, 10.0)))
b("HO53", "conv", "looks ahead in place of back, in both passes", "forward",
  lambda: misfits("conv", LINE[:, None], TAPS), forward=True)
b("HO54", "conv", "the kernel flipped once too often", "wrong formula|transposed",
  lambda: wrong("conv", LINE[:, None], TAPS))
b("HO55", "conv", "off by one: the first step gets nothing from later ones", "first step",
  lambda: wrong("conv", LINE[:, None], TAPS))
b("HO56", "conv", "dilation ignored in the weight gradient", "wrong formula",
  lambda: wrong("conv", LINE[:, None], TAPS, dilation=2))
b("HO57", "take", "negative indices made positive in the caller's list",
  "writes into its arguments", lambda: writes("take", LINE, indices=pick(-1, 0)))
b("HO58", "take", "added up in float32", "float32",
  lambda: wrong("take", LINE, indices=pick(1, 1), g=THOUSAND[:2]))
b("HO59", "take", "added along the first axis whatever the axis", "transposed|wrong formula",
  lambda: wrong("take", SQUARE, indices=pick(1, 1), axis=1))
b("HO60", "reshape", "the gradient is a view of the cotangent", "alias",
  lambda: shares("reshape", SQUARE, shape=(4,)))
b("HO61", "transpose", "axes in place of their inverse: silent for two axes", "transposed",
  lambda: wrong("transpose", CUBE, axes=(1, 2, 0)))
b("HO62", "stack", "negative axis counted without the new one", "transposed",
  lambda: wrong("stack", SQUARE[0], SQUARE[1], axis=-1))
b("HO63", "roll", "rolled on in place of back", "wrong formula|transposed",
  lambda: wrong("roll", LINE, shift=1))
b("HO64", "pad", "[before:-after] is empty for after = 0", "edge size",
  lambda: wrong("pad", LINE, before=1, after=0))
b("HO65", "tile", "added up as if each entry had been repeated", "wrong formula|transposed",
  lambda: wrong("tile", LINE, n=2))
b("HO66", "sort", "the order in place of its inverse: silent for two", "wrong formula",
  lambda: wrong("sort", np.array([2.0, 3.0, 1.0])))
b("HO67", "average_pool", "entries left over get the last block's gradient", "tail",
  lambda: wrong("average_pool", LINE, size=2))
b("HO68", "diff", "off by one: the last entry gets nothing", "last step|zero",
  lambda: wrong("diff", LINE))
b("HO69", "tril", "the number of the diagonal ignored", "mask|wrong formula",
  lambda: wrong("tril", SQUARE, k=-1))
b("HO72", "split", "cotangents of two outputs exchanged where their shapes agree", "swapped",
  lambda: wrong("split", SQUARE, at=1))
b("HO73", "split", "put together along the first axis whatever the axis",
  "wrong formula|transposed", lambda: wrong("split", CUBE[0], at=1, axis=1))

# fmt: on
