"""Samples of the reductions, of broadcasting, and of running sums and products."""

import numpy as np

from .base import Sample, apart, normal, positive, unary

AXES = [
    *(((3, 4), None, False), ((3, 4), 0, False), ((3, 4), -1, True), ((2, 3, 4), (0, -1), False)),
    *(((2, 3, 4), (2, 1), True), ((), None, False), ((5, 1), 1, False), ((1, 1), None, True)),
    *(((0, 3), 1, False), ((2, 3), (), False)),
]
EMPTY = [((0, 3), 0, False), ((0, 3), None, False), ((2, 0), 1, True)]


def reduction(reference, draw=normal, cases=(*AXES, *EMPTY), wrt=(0,), **more):
    """Samples over one axis, several, all; with and without keepdims; over nothing."""
    return [
        Sample((draw(*s),), {"axis": axis, "keepdims": keepdims, **more}, wrt, reference)
        for s, axis, keepdims in cases
    ]


def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def softmax(x, axis=-1):
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


def along_axis(reference):
    cases = [((3, 4), -1), ((3, 4), 0), ((2, 3, 4), 1), ((0, 3), -1), ((3, 4), None), ((2, 0), 1)]
    cases += [((2, 3, 4), (0, 2)), ((), None)]
    return [Sample((normal(*s),), {"axis": axis}, reference=reference) for s, axis in cases]


def sum_to(x, shape):
    return np.einsum("aij->ij", x).reshape(shape) if x.ndim == 3 else x.sum(1, keepdims=True)


# Rows with no zero, with one at either end or between, with two, with nothing else.
ZEROS = np.array(
    [[2.0, -0.5, 3, 1.5], [0, 2, -3, 0.5], [2, 0, 3, -1], [1, 2, 3, 0], [0, 2, 0, 3], [0, 0, 0, 0]]
)
HALF_ZERO = np.where(apart(4, 3, 2) > 0, 0, normal(4, 3, 2))


def with_zeros(*axes):
    return [(x, axis) for x in (ZEROS, ZEROS.T.copy(), HALF_ZERO) for axis in axes]


def scan(reference):
    cases = [((3, 4), 0), ((3, 4), 1), ((2, 3, 2), 1), ((5,), 0), ((1,), 0), ((0, 3), 0)]
    cases = [(normal(*s), axis) for s, axis in [*cases, ((3, 0), 0)]]
    return [
        Sample((x,), {"axis": axis, "reverse": r}, reference=walked(reference))
        for x, axis in [*cases, *with_zeros(0, 1)]
        for r in (False, True)
    ]


def walked(reference):
    def both_ways(x, axis, reverse):
        return np.flip(reference(np.flip(x, axis), axis), axis) if reverse else reference(x, axis)

    return both_ways


def recurrence(a, b, axis, reverse):
    """s = L^-1 b, where L has 1 on its diagonal and -a below."""
    n = b.shape[axis]
    a, b = (np.moveaxis(v, axis, -1)[..., :: -1 if reverse else 1] for v in (a, b))
    steps = np.eye(n) - a[..., None] * np.eye(n, k=-1)
    s = np.linalg.solve(steps, b[..., None])[..., 0]
    return np.moveaxis(s[..., :: -1 if reverse else 1], -1, axis)


FLAGS = [np.array([[0.0, 1.5, 0.0], [0.0, 0.0, np.nan]]), np.zeros((0, 2)), np.ones((2, 0))]


def flags(reference):
    return [
        Sample((x,), {"axis": axis, "keepdims": keepdims}, (), reference)
        for x in (*FLAGS, np.array([[True, False], [True, True]]), np.array([[0, 2], [0, 1]]))
        for axis, keepdims in ((None, False), (0, False), (-1, True), ((0, 1), False))
    ]


def place(reference):
    xs = (np.array([[3.0, 1.0, 3.0], [1.0, 1.0, 2.0]]), np.array([[1.0, np.nan], [np.nan, 5.0]]))
    return [
        Sample((x,), {"axis": axis, "keepdims": keepdims}, (), reference)
        for x in (*xs, np.array([[2, 1, 1], [0, 4, 4]]))
        for axis, keepdims in ((None, False), (0, False), (1, True), (None, True))
    ]


SAMPLES = {
    "sum": reduction(np.sum),
    "prod": [
        *reduction(np.prod),
        *(
            Sample((x,), {"axis": axis, "keepdims": False}, (0,), np.prod)
            for x, axis in [*with_zeros(None, 0, 1, (0, 1)), (HALF_ZERO, (2, 0))]
        ),
    ],
    "max": reduction(np.max, apart, AXES),
    "min": reduction(np.min, apart, AXES),
    "var": [
        *reduction(np.var, cases=AXES, ddof=0),
        *reduction(np.var, cases=AXES[:5], ddof=1),
        *reduction(np.var, cases=AXES[:2], ddof=0.5),
    ],
    "root": unary(positive, np.sqrt),
    "logsumexp": reduction(logsumexp, cases=AXES),
    "log_softmax": along_axis(lambda x, axis: np.log(softmax(x, axis))),
    "softmax": along_axis(softmax),
    "argmax": place(np.argmax),
    "argmin": place(np.argmin),
    "any": flags(np.any),
    "all": flags(np.all),
    "count_nonzero": flags(np.count_nonzero),
    "cumsum": scan(np.cumsum),
    "cumprod": scan(np.cumprod),
    "recurrence": [
        Sample((a(*s), normal(*s)), {"axis": axis, "reverse": r}, (0, 1), recurrence)
        for a in (normal, lambda *s: np.where(apart(*s) > 0, 0, apart(*s)))
        for s, axis in [((4, 3), 0), ((2, 5), 1), ((2, 3, 2), 1), ((1,), 0), ((0, 2), 0)]
        for r in (False, True)
    ],
    "sum_to": [
        Sample((normal(*s),), {"shape": t}, reference=sum_to)
        for s, t in [((4, 2, 3), (2, 3)), ((4, 3), (4, 1)), ((0, 2, 3), (2, 3)), ((2, 0), (2, 1))]
    ],
    "broadcast_to": [
        Sample((normal(*s),), {"shape": t}, reference=lambda x, shape: x + np.zeros(shape))
        for s, t in [((3,), (2, 3)), ((2, 1), (4, 2, 3)), ((), (2, 2)), ((1, 3), (0, 3)), ((), ())]
    ],
    "tie_share": [
        Sample((np.array([[1.0, 2, 2], [3, 1, 1]]), np.array([2.0, 3])), {"axis": 1}, (),
               lambda x, out, axis: np.array([[0, 0.5, 0.5], [1, 0, 0]])),
        Sample((np.array([4.0, 4, 4, 4]), np.array(4.0)), {"axis": None}, (),
               lambda x, out, axis: np.full(4, 0.25)),
        Sample((np.array([np.nan, 4, np.nan, 4]), np.array(np.nan)), {"axis": 0}, (),
               lambda x, out, axis: np.array([0.5, 0, 0.5, 0])),
    ],
}  # fmt: skip
