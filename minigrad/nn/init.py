"""Initialisers: each fills a parameter in place with numbers drawn from an explicit generator.

`rng` is a seed or a `numpy.random.Generator`; the same seed gives the same numbers everywhere.
"""

from __future__ import annotations

import numpy as np

from ..graph import Tensor

Seed = int | np.random.Generator


def uniform_(p: Tensor, low: float, high: float, *, rng: Seed) -> Tensor:
    """p ~ U(low, high).

    >>> mg.nn.init.uniform_(mg.nn.Parameter(np.zeros(2)), 0.0, 1.0, rng=0).shape
    (2,)
    """
    p.data[...] = np.random.default_rng(rng).uniform(low, high, p.shape)
    return p


def normal_(p: Tensor, mean: float = 0.0, std: float = 1.0, *, rng: Seed) -> Tensor:
    """p ~ N(mean, std^2).

    >>> mg.nn.init.normal_(mg.nn.Parameter(np.zeros(2)), rng=0).shape
    (2,)
    """
    p.data[...] = np.random.default_rng(rng).normal(mean, std, p.shape)
    return p


def xavier_uniform_(p: Tensor, gain: float = 1.0, *, rng: Seed) -> Tensor:
    """p ~ U(-a, a) with a = gain sqrt(6 / (fan_in + fan_out)), for p (out, in).

    Source: Glorot and Bengio 2010.

    >>> mg.nn.init.xavier_uniform_(mg.nn.Parameter(np.zeros((2, 3))), rng=0).shape
    (2, 3)
    """
    bound = gain * np.sqrt(6 / (p.shape[0] + p.shape[1]))
    return uniform_(p, -bound, bound, rng=rng)


def orthogonal_(p: Tensor, gain: float = 1.0, *, rng: Seed) -> Tensor:
    """p (out, in) with orthonormal rows or columns, times gain.

    Source: Saxe et al. 2014.

    >>> p = mg.nn.init.orthogonal_(mg.nn.Parameter(np.zeros((3, 3))), rng=0)
    >>> bool(np.allclose(p.data @ p.data.T, np.eye(3)))
    True
    """
    rows, columns = p.shape
    a = np.random.default_rng(rng).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(a)
    q = q * np.sign(np.diag(r))
    p.data[...] = gain * (q if rows >= columns else q.T)
    return p


def constant_(p: Tensor, value: float) -> Tensor:
    """p = value.

    >>> mg.nn.init.constant_(mg.nn.Parameter(np.zeros(2)), 1.0).data
    array([1., 1.])
    """
    p.data[...] = value
    return p
