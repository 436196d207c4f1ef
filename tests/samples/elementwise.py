"""Samples of the elementwise functions that have a gradient."""

import math

import numpy as np

from minigrad.testing.oracle import ANALYTIC  # noqa: F401

from .base import Sample, apart, binary, distinct_pairs, normal, odd_and_even, positive, unary


def inside(*shape):
    """Numbers within (-0.9, 0.9)."""
    return np.asarray(np.tanh(normal(*shape)) * 0.9)


def above_one(*shape):
    return np.asarray(positive(*shape) + 1)


def real_erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)


X = np.array([[1.5, 2.0, 0.5], [0.7, 1.0, 3.0]])

POWERS = [
    *binary(positive, np.power),
    *(Sample((X, p), {}, (0,), np.power) for p in (3, 2, 1, 0, -1, -2.5, 0.5, 2.0)),
    *(Sample((-X, p), {}, (0,), np.power) for p in (3, 2, 1, 0, -2, 4.0)),
    *(Sample((p, X - 1), {}, (1,), np.power) for p in (2, 0.5, 1, 10.0)),
    Sample((-X, np.array([3.0, 2.0, -1.0])), {}, (0,), np.power),
    Sample((X, np.array([0.0, 1.0, 2.0])), {}, (0, 1), np.power),
]

BOUNDED = [
    (apart(*s), np.asarray(a + 1 / 16), np.asarray(b + 1 / 16))
    for s, a, b in [
        ((3, 4), -0.25, 0.25),
        ((5,), np.array([-0.25, -1.0, 1.0, 0.0, -0.125]), 0.125),
        ((2, 1), -0.25, np.array([0.5, 0.125, -0.5])),
        ((), -1.0, np.array([-0.25, 1.0])),
        ((0, 3), np.zeros(3), np.ones(3)),
        ((), 0.0, 0.5),
    ]
]

SAMPLES = {
    "add": binary(normal, np.add),
    "subtract": binary(normal, np.subtract),
    "multiply": binary(normal, np.multiply),
    "divide": binary(positive, np.divide),
    "remainder": odd_and_even(np.remainder),
    "negative": unary(normal, np.negative),
    "positive": unary(normal, np.positive),
    "absolute": unary(apart, np.absolute, holomorphic=False),
    "reciprocal": unary(positive, np.reciprocal),
    "square": unary(normal, np.square),
    "sqrt": unary(positive, np.sqrt),
    "hypot": binary(normal, np.hypot),
    "power": POWERS,
    "flat_power": [
        Sample((np.array([[0.0, np.nan, np.inf, 5e-324, -2.0]]), np.array([[0.0], [1.0]])), {}, (),
               lambda x, y: np.array([[True, True, False, True, False], [False] * 5])),
    ],
    "exp": unary(normal, np.exp),
    "exp2": unary(normal, np.exp2),
    "expm1": unary(normal, np.expm1),
    "log": unary(positive, np.log),
    "log2": unary(positive, np.log2),
    "log10": unary(positive, np.log10),
    "log1p": unary(positive, np.log1p),
    "erf": unary(normal, real_erf),
    "sin": unary(normal, np.sin),
    "cos": unary(normal, np.cos),
    "tan": unary(inside, np.tan),
    "arcsin": unary(inside, np.arcsin),
    "arccos": unary(inside, np.arccos),
    "arctan": unary(normal, np.arctan),
    "arctan2": binary(normal, np.arctan2),
    "sinh": unary(normal, np.sinh),
    "cosh": unary(normal, np.cosh),
    "tanh": unary(normal, np.tanh),
    "arcsinh": unary(normal, np.arcsinh),
    "arccosh": unary(above_one, np.arccosh),
    "arctanh": unary(inside, np.arctanh),
    "where": [
        Sample((np.array(condition), normal(*s), normal(*t)), wrt=(1, 2), reference=np.where)
        for condition, s, t in [
            *(([[True, False, True], [False, False, True]], (2, 3), (2, 3)), (True, (2,), ())),
            *(([True, False, True], (2, 1), ()), ([[True], [False]], (3,), (1, 3))),
            (np.zeros((0, 2), bool), (2,), (0, 1)),
        ]
    ],
    "maximum": distinct_pairs(np.maximum),
    "minimum": distinct_pairs(np.minimum),
    "clip": [
        *(Sample(args, {}, (0, 1, 2), np.clip) for args in BOUNDED),
        Sample((apart(3, 4), -0.3125, 0.3125), {}, (0,), np.clip),
    ],
    "astype": [
        Sample((apart(*s),), {"dtype": np.dtype(d)}, (0,), lambda x, dtype: x.astype(dtype), False)
        for s in [(2, 3), (), (0,)]
        for d in (np.float32, np.float64)
    ],
    "to_integers": [
        Sample((apart(2, 3),), {"dtype": np.dtype(int)}, (), lambda x, dtype: x.astype(dtype))
    ],
    "identity": unary(normal, lambda x: x),
}  # fmt: skip
