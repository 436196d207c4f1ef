"""Samples of the elementwise ops."""

import numpy as np

from .base import Sample, apart, binary, distinct_pairs, normal, positive, unary

COMPARISON = [((2, 3), (2, 3)), ((2, 3), (3,)), ((), ()), ((0, 3), (3,))]

SAMPLES = {
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
    "to_integers": [
        Sample((apart(2, 3),), {"dtype": np.dtype(int)}, (), lambda x, dtype: x.astype(dtype))
    ],
    "identity": unary(normal, lambda x: x),
    "sign": unary(apart, np.sign, wrt=()),
    "positive_part": unary(apart, lambda x: np.where(x > 0, 1.0, 0.0), wrt=()),
    "above": binary(apart, lambda x, y: (np.sign(x - y) + 1) / 2, wrt=()),
    "greater": binary(apart, np.greater, COMPARISON, ()),
    "greater_equal": binary(apart, np.greater_equal, COMPARISON, ()),
    "less": binary(apart, np.less, COMPARISON, ()),
    "less_equal": binary(apart, np.less_equal, COMPARISON, ()),
    "equal": binary(apart, np.equal, COMPARISON, ()),
    "not_equal": binary(apart, np.not_equal, COMPARISON, ()),
}  # fmt: skip
