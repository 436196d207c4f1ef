"""What samples are made of.

`tests/ops/test_all.py` runs all its tests on each; an op without samples fails the suite. Points
lie away from kinks, so that derivatives exist; the conventions at kinks have tests of their own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Sample(NamedTuple):
    """One call of an op.

    args: float64 arrays, and whatever else the op takes. params: keyword parameters. wrt: the
    positions of the arguments that have a gradient. reference: the same in NumPy alone, called
    like the op. holomorphic: whether the op means the same for complex arguments, so that a
    complex step can serve as the oracle; where it does not, the op is piecewise linear.
    """

    args: tuple
    params: dict = {}  # noqa: RUF012
    wrt: tuple = (0,)
    reference: Callable | None = None
    holomorphic: bool = True


_rng = np.random.default_rng(10)


def normal(*shape):
    return np.asarray(_rng.normal(size=shape))


def apart(*shape):
    """Numbers all different by at least 1/8, none nearer to 0 than 1/8, in eighths."""
    n = int(np.prod(shape))
    values = _rng.permutation(np.r_[-(n // 2) : 0, 1 : n - n // 2 + 1])
    return np.asarray(values.reshape(shape) / 8)


def positive(*shape):
    return np.asarray(_rng.uniform(0.5, 2, size=shape))


def unary(draw, reference, **more):
    return [Sample((draw(*s),), reference=reference, **more) for s in [(3, 4), (5,), (), (0, 3)]]


# Pairs of shapes that broadcast, in one direction or in both, from a scalar, and over no rows.
PAIRS = [
    *(((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((4, 1, 3), (2, 1))),
    *(((), (2,)), ((2,), ()), ((), ()), ((0, 3), (3,)), ((0, 1), (1, 2))),
]


def binary(draw, reference, pairs=PAIRS, wrt=(0, 1)):
    return [Sample((draw(*s), draw(*t)), wrt=wrt, reference=reference) for s, t in pairs]


def odd_and_even(reference, pairs=PAIRS, wrt=(0, 1)):
    """For remainders: odd numbers by even ones, so that no quotient is near an integer."""

    def draw(choices, shape):
        return np.asarray(_rng.choice(choices, shape))

    odd, even = [-5.0, -3.0, -1.0, 1.0, 3.0, 5.0], [-4.0, -2.0, 2.0, 4.0]
    return [
        Sample((draw(odd, s), draw(even, t)), {}, wrt, reference, holomorphic=False)
        for s, t in pairs
    ]


def distinct_pairs(reference):
    """For maximum and minimum: no element of one argument equals one of the other."""
    both = [(apart(*s), np.asarray(apart(*t) + 1 / 16)) for s, t in PAIRS]
    return [Sample(pair, wrt=(0, 1), reference=reference) for pair in both]
