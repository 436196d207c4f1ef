"""Initialisers: each fills a parameter in place with numbers drawn from an explicit generator.

`rng` is a seed or a `numpy.random.Generator`; the same seed gives the same numbers everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import ShapeError, UsageError
from ..graph import Tensor, note_write
from ..module import Seed, generator


def _fill(name: str, p: Tensor, values: Callable[[], object], matrix: bool = False) -> Tensor:
    """p with the values that `values` draws, once it is known that there is a p to fill."""
    if not isinstance(p, Tensor):
        raise UsageError(
            f"{name}: what is to be filled",
            f"expected a tensor, got {type(p).__name__}",
            "pass the parameter itself and not its array",
        )
    if matrix and p.ndim != 2:
        raise ShapeError(
            f"{name}: what is to be filled",
            f"expected (out, in), got {p.shape}",
            "use uniform_, normal_ or constant_ for what is no matrix",
        )
    try:
        p.data[...] = values()
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(
            f"{name}: its numbers",
            f"expected some that fill {p.dtype} {p.shape}, got: {error}",
            "pass numbers, low before high, and a spread of 0 or above",
        ) from None
    note_write(p)
    return p


def uniform_(p: Tensor, low: float, high: float, *, rng: Seed) -> Tensor:
    """p ~ U(low, high).

    >>> mg.nn.init.uniform_(mg.nn.Parameter(np.zeros(2)), 0.0, 1.0, rng=0).shape
    (2,)
    """
    rng = generator(rng)
    return _fill("uniform_", p, lambda: rng.uniform(low, high, p.shape))


def normal_(p: Tensor, mean: float = 0.0, std: float = 1.0, *, rng: Seed) -> Tensor:
    """p ~ N(mean, std^2).

    >>> mg.nn.init.normal_(mg.nn.Parameter(np.zeros(2)), rng=0).shape
    (2,)
    """
    rng = generator(rng)
    return _fill("normal_", p, lambda: rng.normal(mean, std, p.shape))


def xavier_uniform_(p: Tensor, gain: float = 1.0, *, rng: Seed) -> Tensor:
    """p ~ U(-a, a) with a = gain sqrt(6 / (fan_in + fan_out)), for p (out, in).

    Source: Glorot and Bengio 2010.

    >>> mg.nn.init.xavier_uniform_(mg.nn.Parameter(np.zeros((2, 3))), rng=0).shape
    (2, 3)
    """
    rng = generator(rng)

    def values():
        bound = gain * np.sqrt(6 / (p.shape[0] + p.shape[1]))
        return rng.uniform(-bound, bound, p.shape)

    return _fill("xavier_uniform_", p, values, matrix=True)


def orthogonal_(p: Tensor, gain: float = 1.0, *, rng: Seed) -> Tensor:
    """p (out, in) with orthonormal rows or columns, times gain.

    Source: Saxe et al. 2014.

    >>> p = mg.nn.init.orthogonal_(mg.nn.Parameter(np.zeros((3, 3))), rng=0)
    >>> bool(np.allclose(p.data @ p.data.T, np.eye(3)))
    True
    """
    rng = generator(rng)

    def values():
        rows, columns = p.shape
        a = rng.normal(size=(max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(a)
        q = q * np.sign(np.diag(r))
        return gain * (q if rows >= columns else q.T)

    return _fill("orthogonal_", p, values, matrix=True)


def constant_(p: Tensor, value: float) -> Tensor:
    """p = value.

    >>> mg.nn.init.constant_(mg.nn.Parameter(np.zeros(2)), 1.0).data
    array([1., 1.])
    """
    return _fill("constant_", p, lambda: value)
