"""Samples of the constants of the point, which have no gradient."""

import numpy as np

from .base import Sample, apart, binary, odd_and_even, unary

SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), ()), ((0, 3), (3,))]
SPECIAL = np.array([[0.0, -0.0, 1.5], [np.nan, np.inf, -np.inf]])


def comparison(ufunc):
    special = Sample((SPECIAL, SPECIAL[::-1]), {}, (), ufunc)
    return [*binary(apart, ufunc, SHAPES, ()), special]


def test(ufunc):
    special = [Sample((np.asarray(x),), {}, (), ufunc) for x in (SPECIAL, np.nan, -np.inf)]
    return [*unary(apart, ufunc, wrt=()), *special]


SAMPLES = {
    ufunc.__name__: comparison(ufunc)
    for ufunc in (
        *(np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal),
        *(np.logical_and, np.logical_or, np.logical_xor),
    )
} | {
    ufunc.__name__: test(ufunc)
    for ufunc in (
        *(np.logical_not, np.isnan, np.isinf, np.isfinite),
        *(np.sign, np.floor, np.ceil, np.trunc),
    )
} | {
    "floor_divide": odd_and_even(np.floor_divide, wrt=()),
    "round": [
        Sample((x,), {"decimals": n}, (), np.round)
        for x in (apart(3, 4) * 10, np.array(2.5), np.zeros((0, 3)), SPECIAL)
        for n in (0, 2, -1)
    ],
}  # fmt: skip
