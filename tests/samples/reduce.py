"""Samples of the reductions, and of broadcasting."""

import numpy as np

from .base import Sample, apart, normal, reduction


def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def softmax(x, axis=-1):
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


def along_axis(reference):
    cases = [((3, 4), {}), ((3, 4), {"axis": 0}), ((2, 3, 4), {"axis": 1}), ((0, 3), {})]
    return [Sample((normal(*s),), p, reference=reference) for s, p in cases]


def sum_to(x, shape):
    return np.einsum("aij->ij", x).reshape(shape) if x.ndim == 3 else x.sum(1, keepdims=True)


SAMPLES = {
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
    "tie_share": [
        Sample((np.array([[1.0, 2, 2], [3, 1, 1]]), np.array([2.0, 3])), {"axis": 1}, (),
               lambda x, out, axis: np.array([[0, 0.5, 0.5], [1, 0, 0]])),
        Sample((np.array([4.0, 4, 4, 4]), np.array(4.0)), {}, (), lambda x, out: np.full(4, 0.25)),
    ],
}  # fmt: skip
