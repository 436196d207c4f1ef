"""Samples of the ops that move blocks: shapes, order of axes, joining, taking apart.

These are the ops that carry rules; `tests/ops/test_shape.py` checks the functions made of them.
"""

import numpy as np

from .base import Sample, normal

SAMPLES = {
    "reshape": [
        Sample((normal(*s),), {"shape": t}, reference=lambda x, shape: x.reshape(shape))
        for s, t in [((2, 6), (3, 4)), ((2, 6), (-1,)), ((), (1, 1)), ((1,), ()), ((0, 3), (3, 0))]
    ],
    "transpose": [
        Sample((normal(*s),), {"axes": t}, reference=lambda x, axes: x.transpose(axes))
        for s, t in [
            *(((2, 3), None), ((2, 3, 4), (1, 2, 0)), ((2, 3, 4, 2), (2, 0, 3, 1)), ((), None)),
            *(((), ()), ((0, 3), (1, 0))),
        ]
    ],
    "concatenate": [
        Sample(
            tuple(normal(*s) for s in shapes),
            {"axis": axis},
            tuple(range(len(shapes))),
            lambda *xs, axis: np.concatenate(xs, axis),
        )
        for shapes, axis in [
            *(([(2, 3), (1, 3)], 0), ([(2, 3), (2, 1), (2, 2)], -1), ([(2,)], 0)),
            *(([(0, 2), (3, 2)], 0), ([(2, 1, 2), (2, 3, 2)], 1), ([(0,), (0,)], -1)),
        ]
    ],
    "stack": [
        Sample(
            tuple(normal(*shape) for _ in range(n)),
            {"axis": axis},
            tuple(range(n)),
            lambda *xs, axis: np.stack(xs, axis),
        )
        for shape, n, axis in [
            *(((2, 3), 2, 0), ((2, 3), 3, 2), ((2, 3), 1, 1), ((), 2, 0), ((0, 2), 2, 1)),
            *(((0, 2), 2, 0), ((1, 1), 3, 0)),
        ]
    ],
    "unstack": [
        Sample((normal(*s),), {"axis": axis}, reference=lambda x, axis: tuple(np.rollaxis(x, axis)))
        for s, axis in [((3, 2), 0), ((3, 2), 1), ((2, 3, 2), 2), ((2, 0), 0), ((2,), 0)]
    ],
    "split": [
        Sample(
            (normal(*s),),
            {"sections": sections, "axis": axis},
            reference=lambda x, sections, axis: np.split(x, sections, axis),
        )
        for s, sections, axis in [
            *(((4, 3), 2, 0), ((2, 6), 3, 1), ((5,), (1, 3), 0), ((2, 3), (0, 3), 1)),
            *(((0, 4), 2, 1), ((0, 4), 3, 0), ((3,), (), 0), ((2, 3), 1, 1)),
        ]
    ],
}
