"""Arguments for every op of the registry, with what NumPy says it should give.

`test_all.py` runs all its tests on each of these; an op without samples fails the suite. Points
lie away from kinks, so that derivatives exist; the conventions at kinks have tests of their own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Sample(NamedTuple):
    """One call of an op.

    args: float64 arrays, and whatever else the op takes. params: keyword parameters. wrt: the
    positions of the arguments that have a gradient. reference: the same in NumPy alone, called
    like the op. holomorphic: whether the op means the same for complex arguments, so that a
    complex step can serve as the oracle; where it does not, the op is piecewise linear.
    """

    args: tuple
    params: dict = {}  # noqa: RUF012
    wrt: tuple = (0,)
    reference: Callable | None = None
    holomorphic: bool = True


_rng = np.random.default_rng(10)


def normal(*shape):
    return np.asarray(_rng.normal(size=shape))


def apart(*shape):
    """Numbers all different by at least 1/8, none nearer to 0 than 1/8, in eighths."""
    n = int(np.prod(shape))
    values = _rng.permutation(np.r_[-(n // 2) : 0, 1 : n - n // 2 + 1])
    return np.asarray(values.reshape(shape) / 8)


def positive(*shape):
    return np.asarray(_rng.uniform(0.5, 2, size=shape))


def unary(draw, reference, **more):
    return [Sample((draw(*s),), reference=reference, **more) for s in [(3, 4), (5,), (), (0, 3)]]


# Pairs of shapes that broadcast, in one direction or in both, from a scalar, and over no rows.
PAIRS = [
    *(((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((4, 1, 3), (2, 1))),
    *(((), (2,)), ((2,), ()), ((), ()), ((0, 3), (3,)), ((0, 1), (1, 2))),
]


def binary(draw, reference, pairs=PAIRS, wrt=(0, 1)):
    return [Sample((draw(*s), draw(*t)), wrt=wrt, reference=reference) for s, t in pairs]


def distinct_pairs(reference):
    """For maximum and minimum: no element of one argument equals one of the other."""
    both = [(apart(*s), np.asarray(apart(*t) + 1 / 16)) for s, t in PAIRS]
    return [Sample(pair, wrt=(0, 1), reference=reference) for pair in both]


def reduction(reference, draw=normal, zero_size=True):
    cases = [
        *(((3, 4), {}), ((3, 4), {"axis": 0}), ((3, 4), {"axis": -1, "keepdims": True})),
        *(((2, 3, 4), {"axis": (0, -1)}), ((2, 3, 4), {"axis": (2, 1), "keepdims": True})),
        *(((), {}), ((5, 1), {"axis": 1}), ((1, 1), {"keepdims": True}), ((0, 3), {"axis": 1})),
    ]
    if zero_size:
        cases += [((0, 3), {"axis": 0}), ((0, 3), {})]
    return [Sample((draw(*s),), p, reference=reference) for s, p in cases]


def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def softmax(x, axis=-1):
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


def along_axis(reference):
    cases = [((3, 4), {}), ((3, 4), {"axis": 0}), ((2, 3, 4), {"axis": 1}), ((0, 3), {})]
    return [Sample((normal(*s),), p, reference=reference) for s, p in cases]


def sum_to(x, shape):
    return np.einsum("aij->ij", x).reshape(shape) if x.ndim == 3 else x.sum(1, keepdims=True)


def put(g, index, shape):
    out = np.zeros(shape, g.dtype)
    np.add.at(out, index, g)
    return out


def flip_rows(x, lengths):
    out = x.copy()
    for n in range(x.shape[1]):
        last = len(x) if lengths is None else lengths[n]
        out[:last, n] = x[:last, n][::-1]
    return out


def lstm(xs, h, c, w, u, b, lengths=None):
    """The equations, one row of the batch after another."""
    h, c, ys = h.copy(), c.copy(), np.zeros((len(xs), *h.shape), h.dtype)
    for n in range(xs.shape[1]):
        for t in range(len(xs) if lengths is None else lengths[n]):
            i, f, g, o = np.split(w @ xs[t, n] + u @ h[n] + b, 4)
            i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
            c[n] = f * c[n] + i * np.tanh(g)
            h[n] = ys[t, n] = o * np.tanh(c[n])
    return ys, h, c


def lstm_sample(steps, rows, inputs, units, lengths=None):
    args = (
        *(normal(steps, rows, inputs), normal(rows, units), normal(rows, units)),
        *(normal(4 * units, inputs), normal(4 * units, units), normal(4 * units)),
    )
    params = {} if lengths is None else {"lengths": np.array(lengths)}
    return Sample(args, params, wrt=tuple(range(6)), reference=lstm)


INDICES = [
    *(((4, 3), 2), ((4, 3), -1), ((4, 3), slice(1, None, 2)), ((4, 3), slice(None, None, -1))),
    *(((4, 3), (slice(None), 1)), ((4, 3), (Ellipsis, None)), ((4, 3), (1, -1)), ((), ())),
    *(((4, 3), np.array([0, 2, 0, -1])), ((4, 3), np.array([[1, 1], [0, 1]]))),
    *(((4, 3), np.array([], int)), ((4, 0), np.array([1, 1])), ((4,), np.array(2))),
    *(((4, 3), (np.array([0, 0, 3]), np.array([1, 1, 2]))), ((4, 3), (slice(1), np.array([2, 2])))),
    *(((3,), np.array([True, False, True])), ((0, 3), slice(0, 0)), ((5, 2, 2), np.array([4, 4]))),
]

COMPARISON = [((2, 3), (2, 3)), ((2, 3), (3,)), ((), ()), ((0, 3), (3,))]

MATMUL = [
    *(((2, 3), (3, 4)), ((1, 3), (3, 1)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,))),
    *(((2, 2, 3), (3, 4)), ((2, 2, 3), (2, 3, 4)), ((2, 3), (5, 3, 2)), ((2, 1, 2, 3), (4, 3, 1))),
    *(((3,), (2, 3, 4)), ((2, 2, 3), (3,)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0))),
]

SAMPLES = {
    # elementwise
    "add": binary(normal, np.add),
    "subtract": binary(normal, np.subtract),
    "multiply": binary(normal, np.multiply),
    "divide": binary(positive, np.divide),
    "negative": unary(normal, np.negative),
    "exp": unary(normal, np.exp),
    "log": unary(positive, np.log),
    "sqrt": unary(positive, np.sqrt),
    "tanh": unary(normal, np.tanh),
    "sigmoid": unary(normal, lambda x: 1 / (1 + np.exp(-x))),
    "softplus": unary(normal, lambda x: np.log(1 + np.exp(x))),
    "absolute": unary(apart, np.absolute, holomorphic=False),
    "relu": unary(apart, lambda x: np.where(x > 0, x, 0)),
    "maximum": distinct_pairs(np.maximum),
    "minimum": distinct_pairs(np.minimum),
    "power": [
        Sample((positive(2, 3),), {"exponent": p}, reference=lambda x, exponent: x**exponent)
        for p in (3, 2, 1, 0, -1, -2.5, 0.5)
    ]
    + [Sample((-positive(3),), {"exponent": 3}, reference=lambda x, exponent: x * x * x)],
    "where": [
        Sample((np.array(condition), normal(*s), normal(*t)), wrt=(1, 2), reference=np.where)
        for condition, s, t in [
            *(([[True, False, True], [False, False, True]], (2, 3), (2, 3)), (True, (2,), ())),
            *(([True, False, True], (2, 1), ()), ([[True], [False]], (3,), (1, 3))),
            (np.zeros((0, 2), bool), (2,), (0, 1)),
        ]
    ],
    "astype": [
        Sample((apart(*s),), {"dtype": np.dtype(d)}, (0,), lambda x, dtype: x.astype(dtype), False)
        for s in [(2, 3), (), (0,)]
        for d in (np.float32, np.float64)
    ],
    "identity": unary(normal, lambda x: x),
    # constants of the point
    "sign": unary(apart, np.sign, wrt=()),
    "positive_part": unary(apart, lambda x: np.where(x > 0, 1.0, 0.0), wrt=()),
    "above": binary(apart, lambda x, y: (np.sign(x - y) + 1) / 2, wrt=()),
    "greater": binary(apart, np.greater, COMPARISON, ()),
    "greater_equal": binary(apart, np.greater_equal, COMPARISON, ()),
    "less": binary(apart, np.less, COMPARISON, ()),
    "less_equal": binary(apart, np.less_equal, COMPARISON, ()),
    "equal": binary(apart, np.equal, COMPARISON, ()),
    "not_equal": binary(apart, np.not_equal, COMPARISON, ()),
    "tie_share": [
        Sample((np.array([[1.0, 2, 2], [3, 1, 1]]), np.array([2.0, 3])), {"axis": 1}, (),
               lambda x, out, axis: np.array([[0, 0.5, 0.5], [1, 0, 0]])),
        Sample((np.array([4.0, 4, 4, 4]), np.array(4.0)), {}, (), lambda x, out: np.full(4, 0.25)),
    ],
    # reductions
    "sum": reduction(np.sum),
    "max": reduction(np.max, apart, zero_size=False),
    "min": reduction(np.min, apart, zero_size=False),
    "logsumexp": reduction(logsumexp, zero_size=False),
    "log_softmax": along_axis(lambda x, axis=-1: x - logsumexp(x, axis, True)),
    "softmax": along_axis(softmax),
    "sum_to": [
        Sample((normal(*s),), {"shape": t}, reference=sum_to)
        for s, t in [((4, 2, 3), (2, 3)), ((4, 3), (4, 1)), ((0, 2, 3), (2, 3)), ((2, 0), (2, 1))]
    ],
    "broadcast_to": [
        Sample((normal(*s),), {"shape": t}, reference=lambda x, shape: x + np.zeros(shape))
        for s, t in [((3,), (2, 3)), ((2, 1), (4, 2, 3)), ((), (2, 2)), ((1, 3), (0, 3)), ((), ())]
    ],
    # shape
    "reshape": [
        Sample((normal(*s),), {"shape": t}, reference=lambda x, shape: x.reshape(shape))
        for s, t in [((2, 6), (3, 4)), ((2, 6), (-1,)), ((), (1, 1)), ((1,), ()), ((0, 3), (3, 0))]
    ],
    "transpose": [
        Sample((normal(*s),), {"axes": t}, reference=lambda x, axes: x.transpose(axes))
        for s, t in [((2, 3), None), ((2, 3, 4), (1, 2, 0)), ((2, 3, 4), (-1, 0, -2)), ((), None),
                     ((0, 3), (1, 0))]
    ],
    "concatenate": [
        Sample(tuple(normal(*s) for s in shapes), {"axis": axis}, tuple(range(len(shapes))),
               lambda *xs, axis: np.concatenate(xs, axis))
        for shapes, axis in [
            *(([(2, 3), (1, 3)], 0), ([(2, 3), (2, 1), (2, 2)], -1), ([(2,)], 0)),
            *(([(0, 2), (3, 2)], 0), ([(2, 1, 2), (2, 3, 2)], 1)),
        ]
    ],
    "stack": [
        Sample(tuple(normal(*shape) for _ in range(n)), {"axis": axis}, tuple(range(n)),
               lambda *xs, axis: np.stack(xs, axis))
        for shape, n, axis in [((2, 3), 2, 0), ((2, 3), 3, -1), ((2, 3), 1, 1), ((), 2, 0),
                               ((0, 2), 2, 1)]
    ],
    "unstack": [
        Sample((normal(*s),), p, reference=lambda x, axis=0: tuple(np.rollaxis(x, axis)))
        for s, p in [((3, 2), {}), ((3, 2), {"axis": 1}), ((2, 3, 2), {"axis": -2}), ((2, 0), {})]
    ],
    "split": [
        Sample((normal(*s),), p, reference=lambda x, sections, axis=0: np.split(x, sections, axis))
        for s, p in [((4, 3), {"sections": 2}), ((2, 6), {"sections": 3, "axis": -1}),
                     ((5,), {"sections": [1, 3]}), ((0, 4), {"sections": 2, "axis": 1})]
    ],
    "getitem": [
        Sample((normal(*s),), {"index": i}, reference=lambda x, index: x[index]) for s, i in INDICES
    ],
    "put": [
        Sample((normal(*np.zeros(s)[i].shape),), {"index": i, "shape": s}, reference=put)
        for s, i in INDICES
    ],
    "flip_rows": [
        Sample((normal(*s),), {"lengths": n}, reference=flip_rows)
        for s, n in [((3, 2), None), ((4, 3, 2), np.array([4, 0, 3])), ((3, 1, 2), np.array([2])),
                     ((0, 2), None)]
    ],
    # products
    "matmul": binary(normal, np.matmul, MATMUL),
    "affine": [
        Sample(tuple(normal(*s) for s in shapes), wrt=(0, 1, 2),
               reference=lambda x, w, b: np.einsum("...k,nk->...n", x, w) + b)
        for shapes in [
            *(((2, 3), (4, 3), (4,)), ((2, 3), (4, 3), (2, 4)), ((3,), (4, 3), (4,))),
            *(((5, 2, 3), (4, 3), (4,)), ((5, 2, 3), (4, 3), (5, 2, 4)), ((0, 3), (2, 3), (2,))),
            *(((2, 0), (3, 0), (3,)), ((1, 1), (1, 1), (1,)), ((2, 3), (0, 3), (0,))),
        ]
    ],
    "products": [
        Sample(tuple(normal(*s) for s in shapes), {}, tuple(range(len(shapes))),
               lambda *p: sum(np.tensordot(a, b, (range(a.ndim - 1),) * 2)
                              for a, b in zip(p[::2], p[1::2], strict=True)))
        for shapes in [
            *([(3, 2), (3, 4)], [(3, 2), (3, 4), (1, 2), (1, 4)], [(2, 3, 2), (2, 3, 1)]),
            *([(2, 3, 2), (2, 3, 1), (1, 2), (1, 1)], [(2,), (3,)], [(0, 2), (0, 3)]),
            [(3, 2), (3, 0)],
        ]
    ],
    "row_sums": [
        Sample(tuple(normal(*s) for s in shapes), {}, tuple(range(len(shapes))),
               lambda *xs: sum(x.reshape(-1, x.shape[-1]).sum(0) if x.shape[-1] else x.sum(
                   tuple(range(x.ndim - 1))) for x in xs))
        for shapes in [[(3, 2)], [(3, 2), (1, 2)], [(2, 3, 4), (5, 4)], [(0, 2)], [(2,)], [(2, 0)]]
    ],
    # fused
    "lstm": [
        *(lstm_sample(3, 2, 2, 3), lstm_sample(1, 1, 1, 1), lstm_sample(4, 3, 2, 2, [4, 2, 0])),
        *(lstm_sample(2, 1, 3, 2, [1]), lstm_sample(2, 0, 2, 2), lstm_sample(3, 1, 1, 5)),
    ],
}  # fmt: skip
