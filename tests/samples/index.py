"""Samples of the ops that pick elements by their places.

These are the ops that carry rules; `tests/ops/test_index.py` checks the functions made of them.
"""

import numpy as np

from .base import Sample, apart, normal


def put(x, index, shape):
    out = np.zeros(shape, x.dtype)
    np.add.at(out, index, x)
    return out


def flip_rows(x, lengths):
    out = x.copy()
    for n in range(x.shape[1]):
        last = len(x) if lengths is None else lengths[n]
        out[:last, n] = x[:last, n][::-1]
    return out


at = np.array
all_of = slice(None)
INDICES = {
    (): [(), None, at(True)],
    (3,): [at([True, False, True]), at(-1), at([2, 2, 0])],
    (0, 3): [slice(0, 0), (all_of, at([1, 1])), (at([], int), at([], int))],
    (4, 0): [at([1, 1])],
    (4, 3): [
        *(2, -1, slice(1, None, 2), slice(None, None, -1), (all_of, 1), (1, -1), (0, True)),
        *(None, (Ellipsis, None), at([0, 2, 0, -1]), at([[1, 1], [0, 1]]), at([], int)),
        *((at([1, 1]),), (at([0, 0, 3]), at([1, 1, 2])), (at([[0], [-1]]), at([0, -3, 0]))),
        *((slice(1), at([2, 2])), (None, at([1, 1])), (at([1, 1]), None, Ellipsis)),
        *(at([True, False, True, True]), (at([True, False, False, True]), at([2, 2]))),
    ],
    (2, 3, 2): [
        *(at([1, 1]), (at([0, 0, 1]), at([2, 2, 0])), (all_of, at([2, 0, 2])), (1, at([2, 2]))),
        *((Ellipsis, at([1, 1])), (at([1, 1]), slice(None, None, 2), at([0, 1]))),
        *((all_of, at([True, False, True])), (at([[True, False, True]] * 2), at([1, 0, 1, 1]))),
    ],
}
INDICES = [(shape, index) for shape, indices in INDICES.items() for index in indices]

SAMPLES = {
    "getitem": [
        Sample((normal(*s),), {"index": i}, reference=lambda x, index: x[index]) for s, i in INDICES
    ],
    "put": [
        Sample((normal(*np.zeros(s)[i].shape),), {"index": i, "shape": s}, reference=put)
        for s, i in INDICES
    ],
    "argsort": [
        Sample((apart(*s),), {"axis": axis}, (), lambda x, axis: np.argsort(x, axis))
        for s, axis in [((3, 4), 0), ((3, 4), -1), ((5,), 0), ((0, 3), 1), ((2, 0), 1)]
    ],
    "roll": [
        Sample((normal(*s),), {"shift": shift, "axis": axis}, reference=np.roll)
        for s, shift, axis in [
            *(
                ((5,), (2,), (0,)),
                ((3, 4), (1,), None),
                ((3, 4), (-1, 6), (0, 1)),
                ((), (1,), None),
            ),
            *(((3, 4), (1,), (0, 1)), ((3, 4), (1, 2), (0,)), ((0, 3), (1,), (1,))),
        ]
    ],
    "pad": [
        Sample(
            (normal(*s),),
            {"widths": widths, "values": values},
            reference=lambda x, widths, values: (
                x if x.ndim == 0 else np.pad(x, widths, constant_values=values)
            ),
        )
        for s, widths, values in [
            *(((3,), ((1, 2),), ((0, 0),)), ((2, 3), ((0, 1), (2, 0)), ((1.5, 2), (-1, 0)))),
            *(((), (), ()), ((0, 2), ((1, 1), (0, 0)), ((3, 4), (0, 0)))),
        ]
    ],
    "flip_rows": [
        Sample((normal(*s),), {"lengths": n}, reference=flip_rows)
        for s, n in [
            *(((3, 2), None), ((4, 3, 2), at([4, 0, 3])), ((3, 1, 2), at([2])), ((0, 2), None)),
            *(((0, 2), at([0, 0])), ((3, 0), at([], int))),
        ]
    ],
}
