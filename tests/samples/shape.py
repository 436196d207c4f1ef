"""Samples of the ops that move elements."""

import numpy as np

from .base import Sample, normal


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


INDICES = [
    *(((4, 3), 2), ((4, 3), -1), ((4, 3), slice(1, None, 2)), ((4, 3), slice(None, None, -1))),
    *(((4, 3), (slice(None), 1)), ((4, 3), (Ellipsis, None)), ((4, 3), (1, -1)), ((), ())),
    *(((4, 3), np.array([0, 2, 0, -1])), ((4, 3), np.array([[1, 1], [0, 1]]))),
    *(((4, 3), np.array([], int)), ((4, 0), np.array([1, 1])), ((4,), np.array(2))),
    *(((4, 3), (np.array([0, 0, 3]), np.array([1, 1, 2]))), ((4, 3), (slice(1), np.array([2, 2])))),
    *(((3,), np.array([True, False, True])), ((0, 3), slice(0, 0)), ((5, 2, 2), np.array([4, 4]))),
]

SAMPLES = {
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
}  # fmt: skip
