"""Samples of the products and of the fused ops."""

from functools import partial

import numpy as np

from minigrad.recurrent import KINDS

from .base import Sample, binary, normal


def sigma(z):
    return 1 / (1 + np.exp(-z))


def lstm(candidate, x, h, c, w, u, b, p_i=0, p_f=0, p_o=0):
    i, f, g, o = np.split(w @ x + u @ h + b, 4)
    new = sigma(f + p_f * c) * c + sigma(i + p_i * c) * candidate(g)
    return sigma(o + p_o * new) * np.tanh(new), new


def gru(x, h, w, u, b_x, b_h):
    (xr, xz, xn), (hr, hz, hn) = np.split(w @ x + b_x, 3), np.split(u @ h + b_h, 3)
    z = sigma(xz + hz)
    return ((1 - z) * np.tanh(xn + sigma(xr + hr) * hn) + z * h,)


def gru_before(x, h, w, u, u_n, b_x, b_h, b_n):
    (xr, xz, xn), (hr, hz) = np.split(w @ x + b_x, 3), np.split(u @ h + b_h, 2)
    z = sigma(xz + hz)
    return ((1 - z) * np.tanh(xn + u_n @ (sigma(xr + hr) * h) + b_n) + z * h,)


def rnn(f, x, h, w, u, b_x, b_h):
    return (f(w @ x + b_x + u @ h + b_h),)


STEPS = {
    "lstm": partial(lstm, np.tanh),
    "lstm_sigmoid": partial(lstm, sigma),
    "lstm_peephole": partial(lstm, np.tanh),
    "lstm_peephole_sigmoid": partial(lstm, sigma),
    "gru": gru,
    "gru_before": gru_before,
    "rnn": partial(rnn, np.tanh),
    "rnn_relu": partial(rnn, lambda z: np.where(z.real <= 0, 0, z)),
}


def over_time(name, xs, *args, lengths=None):
    """The equations of a step, one row of the batch after another."""
    parts = KINDS[name].states
    states, weights = [s.copy() for s in args[:parts]], args[parts:]
    ys = np.zeros((len(xs), *states[0].shape), states[0].dtype)
    for n in range(xs.shape[1]):
        for t in range(len(xs) if lengths is None else lengths[n]):
            new = STEPS[name](xs[t, n], *[s[n] for s in states], *weights)
            for s, value in zip(states, new, strict=True):
                s[n] = value
            ys[t, n] = new[0]
    return ys, *states


def layer_sample(name, steps, rows, inputs, units, lengths=None):
    args = tuple(normal(*shape) for shape in KINDS[name].shapes(steps, rows, inputs, units))
    params = {} if lengths is None else {"lengths": np.array(lengths)}
    return Sample(args, params, tuple(range(len(args))), partial(over_time, name))


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
    "scale": [
        Sample((normal(*s), normal(*s[-1:])), wrt=(0, 1), reference=np.multiply)
        for s in [(2, 3), (3,), (4, 2, 3), (0, 3), (2, 0), (1, 1)]
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
    **{
        name: [
            layer_sample(name, 3, 2, 2, 3), layer_sample(name, 1, 1, 1, 1),
            layer_sample(name, 4, 3, 2, 2, [4, 2, 0]), layer_sample(name, 2, 1, 3, 2, [1]),
            layer_sample(name, 2, 0, 2, 2), layer_sample(name, 3, 1, 1, 5),
        ]
        for name in STEPS
    },
}  # fmt: skip
