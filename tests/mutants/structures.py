"""How the specimens are called when the checker is tried on them: what a person would write who
knows what the function takes, and nothing of its bugs."""

import math

import numpy as np
from samples.calls import (
    FULL,
    POSITIVE,
    alike,
    an_axis,
    axes,
    axis,
    joined,
    matrices,
    none,
    one,
    order,
    outer_vectors,
    powers,
    quotients,
    reshaped,
    several,
    take_indices,
    ufunc,
    wheres,
)

from minigrad.testing.example import Array
from minigrad.testing.strategies import SIDES, Call, broadcastable, shape


def inputs(how: dict) -> dict:
    """The keyword arguments of `check_op` without the function itself."""
    return {k: v for k, v in how.items() if k not in ("f", "reference") and v is not None}


def unary(domain=None):
    return ufunc(None, 1, domain)


def reduced(draw=axis, sides=FULL, ndim=(1, 3), **more):
    return one(None, draw, sides, ndim, **more)


def clips(c):
    call = broadcastable(3).build(c)
    if c.flip():  # at the limits, too
        s = call.args[0].shape
        x = [c.one_of((-1.0, 0.0, 1.0, 2.0, -2.0)) for _ in range(math.prod(s))]
        ends = [
            Array(a.shape, data=np.full(a.shape, v))
            for a, v in zip(call.args[1:], (-1, 1), strict=True)
        ]
        return Call((Array(s, data=np.reshape(x, s)), *ends))
    low, high = (
        Array(a.shape, domain=d)
        for a, d in zip(call.args[1:], ((-1.0, 0.0), (0.0, 1.0)), strict=True)
    )
    return Call((call.args[0], low, high))


def masked(c):
    condition, x, y = wheres(c).args
    return Call((x, y), {"mask": condition})


def normed(c):
    s = shape(c, (1, 3), FULL)
    return Call((Array(s), Array(s[-1:]), Array(s[-1:])), {"eps": c.one_of((1e-5, 0.1))})


def polynomials(c):
    return Call((Array((c.one_of((2, 3, 1, 4)),)), Array(shape(c, (0, 2)))))


def pairs_alike(c):
    s = shape(c, (1, 3), FULL)
    return Call((Array(s), Array(s)))


def classified(c):
    t, b, k = c.one_of((2, 1, 3)), c.one_of((2, 1, 3)), c.one_of((3, 2, 4))
    targets = np.array([c.integer(0, k - 1) for _ in range(t * b)]).reshape(t, b)
    lengths = np.array([c.integer(1, t) for _ in range(b)])
    return Call((Array((t, b, k)),), {"targets": targets, "lengths": lengths})


def affines(c):
    n, k, m = (c.one_of((2, 3, 1, 4)) for _ in range(3))
    lead = c.one_of(((n,), (2, n)))
    return Call((Array((*lead, k)), Array((k, m)), Array((m,))))


def quadratics(c):
    n = c.one_of((2, 3, 1, 4))
    return Call((Array((n,)), Array((n, n))))


def dots(c):
    s = shape(c, (0, 2), FULL)
    n = c.one_of((2, 3, 1, 5, 17))
    other = s[c.integer(0, len(s)) :]
    return Call((Array((*s, n)), Array((*other, n))))


def convolutions(c):
    t, i, o, k = (c.one_of((3, 2, 1, 4)) for _ in range(4))
    lead = c.one_of(((), (2,)))
    return Call((Array((t, *lead, i)), Array((k, i, o))), {"dilation": c.one_of((1, 2))})


def slices(c):
    s = shape(c, (1, 3), FULL)
    i = an_axis(c, s)
    kinds = [(0, None, 1), (1, None, 2), (None, None, -1), (-1, 0, -2), (1, 2, 1)]
    start, stop, step = c.one_of(kinds)
    return Call((Array(s),), {"start": start, "stop": stop, "step": step, "axis": i})


def gathered(c, s):
    drawn = take_indices(c, s)
    if drawn["axis"] is None:
        n, i = s[0], 0
        count = c.integer(0, 4) if n else 0
        return {"indices": np.array([c.integer(-n, n - 1) for _ in range(count)], int), "axis": i}
    return drawn | {"indices": np.ravel(drawn["indices"])}


def blocks(c, s):
    return {"size": c.integer(1, max(1, s[-1]))}


def ddof(c, s):
    i = an_axis(c, s)
    return {"axis": i, "ddof": c.integer(0, 1) if s[i] > 1 else 0}


def halves(c, s):
    i = an_axis(c, s)
    return {"at": c.integer(0, s[i]), "axis": i}


STRUCTURES: dict[str, dict] = {
    "add": ufunc(None, 2),
    "subtract": ufunc(None, 2),
    "multiply": ufunc(None, 2),
    "divide": several(None, quotients),
    "power": several(None, powers),
    "ipow": one(None, lambda c, s: {"n": c.integer(0, 4)}, ndim=(0, 3)),
    "exp": unary(),
    "sqrt": unary(POSITIVE),
    "tanh": unary(),
    "sigmoid": unary(),
    "softplus": unary(),
    "swish": unary(),
    "gelu": unary(),
    "elu": one(None, lambda c, s: {"alpha": c.one_of((1.0, 0.5))}, ndim=(0, 3)),
    "abs": unary(),
    "maximum": ufunc(None, 2),
    "minimum": ufunc(None, 2),
    "clip": several(None, clips),
    "where": several(None, masked),
    "huber": several(None, lambda c: Call(
        broadcastable(2).build(c).args, {"delta": c.one_of((1.0, 0.5))})),
    "dropout": one(None, lambda c, s: {"rate": c.one_of((0.5, 0.25)), "seed": c.integer(0, 9)}),
    "sum": reduced(axes, SIDES, (0, 3)),
    "mean": reduced(axes, ndim=(0, 3)),
    "variance": reduced(ddof),
    "norm": reduced(values=("generic", "large")),
    "unit": reduced(lambda c, s: {"eps": c.one_of((1e-6, 0.5))}),
    "softmax": reduced(),
    "log_softmax": reduced(),
    "logsumexp": reduced(),
    "max": reduced(),
    "prod": reduced(values=("generic", "small", "zeros", "integers", "ties")),
    "cumsum": reduced(sides=SIDES),
    "layer_norm": several(None, normed),
    "polyval": several(None, polynomials, values=("generic", "small", "integers")),
    "mse": several(None, pairs_alike),
    "cross_entropy": several(None, classified),
    "matmul": several(None, matrices),
    "affine": several(None, affines),
    "moments": reduced(none),
    "split": one(None, halves),
    "outer": several(None, outer_vectors),
    "gram": reduced(none, ndim=(2, 2)),
    "quadratic": several(None, quadratics),
    "dot": several(None, dots),
    "conv": several(None, convolutions),
    "take": one(None, gathered),
    "concatenate": several(None, joined),
    "slice": several(None, slices),
    "reshape": one(None, reshaped),
    "transpose": one(None, lambda c, s: {"axes": order(c, len(s))}),
    "stack": several(None, alike),
    "roll": one(None, lambda c, s: {"shift": c.integer(-3, 3), "axis": an_axis(c, s)}, FULL),
    "pad": one(None, lambda c, s: {"before": c.integer(0, 2), "after": c.integer(0, 2)}),
    "tile": one(None, lambda c, s: {"n": c.integer(1, 3)}),
    "sort": reduced(),
    "average_pool": reduced(blocks),
    "diff": reduced(none),
    "tril": one(None, lambda c, s: {"k": c.integer(-1, 1)}, SIDES, (2, 3)),
}  # fmt: skip
