"""Samples of the products and of the fused ops."""

import numpy as np

from .base import Sample, binary, normal


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


MATMUL = [
    *(((2, 3), (3, 4)), ((1, 3), (3, 1)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,))),
    *(((2, 2, 3), (3, 4)), ((2, 2, 3), (2, 3, 4)), ((2, 3), (5, 3, 2)), ((2, 1, 2, 3), (4, 3, 1))),
    *(((3,), (2, 3, 4)), ((2, 2, 3), (3,)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0))),
    *(((2, 3, 2, 3), (2, 1, 3, 2)), ((3,), (2, 2, 3, 1)), ((1, 2, 3), (3, 3, 2)), ((0,), (0,))),
    *(((2, 3), (0, 3, 2)), ((0, 2, 3), (3, 2)), ((2, 2, 1, 3), (3,)), ((3, 2), (1, 2, 2, 3))),
]

SAMPLES = {
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
    "addmm": [
        Sample(tuple(normal(*s) for s in shapes), wrt=(0, 1, 2),
               reference=lambda start, x, y: start + np.einsum("...k,kn->...n", x, y))
        for shapes in [
            *(((4,), (2, 3), (3, 4)), ((2, 4), (2, 3), (3, 4)), ((), (2, 3), (3, 4))),
            *(((2, 1), (2, 3), (3, 4)), ((1, 4), (2, 3), (3, 4)), ((4,), (3,), (3, 4))),
            *(((1,), (3,), (3, 4)), ((4,), (5, 2, 3), (3, 4)), ((5, 1, 4), (5, 2, 3), (3, 4))),
            *(((5, 2, 4), (5, 2, 3), (3, 4)), ((3,), (2, 0), (0, 3)), ((2,), (0, 3), (3, 2))),
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
    "lstm": [
        *(lstm_sample(3, 2, 2, 3), lstm_sample(1, 1, 1, 1), lstm_sample(4, 3, 2, 2, [4, 2, 0])),
        *(lstm_sample(2, 1, 3, 2, [1]), lstm_sample(2, 0, 2, 2), lstm_sample(3, 1, 1, 5)),
    ],
}  # fmt: skip
