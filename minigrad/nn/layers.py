"""Layers without memory: Linear and Embedding."""

from __future__ import annotations

import numpy as np

from ..arguments import numbers
from ..errors import DtypeError, ShapeError
from ..graph import Tensor
from ..module import Module, Parameter, check_sizes, generator
from ..ops import affine, getitem


class Linear(Module):
    """y = x W^T + b, for x (..., in_features): y (..., out_features).

    `weight` (out, in) and `bias` (out,) are drawn from U(-1/sqrt(in), 1/sqrt(in)) by `rng`, a seed
    or a generator. Raises `ShapeError` for another number of features.

    >>> mg.nn.Linear(3, 2, rng=0)(np.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype=np.float64,
        rng: int | np.random.Generator | None = None,
    ):
        rng = generator(rng)
        check_sizes(self, dtype, in_features=in_features, out_features=out_features)
        bound = 1 / np.sqrt(max(1, in_features))

        def draw(*shape):
            return Parameter(rng.uniform(-bound, bound, shape).astype(dtype))

        self.weight = draw(out_features, in_features)
        self.bias: Tensor = draw(out_features) if bias else Tensor(np.zeros(out_features, dtype))

    def __call__(self, x):
        return affine(x, self.weight, self.bias)


class Embedding(Module):
    """Rows of a table looked up by number: ids (...) of integers give (..., embedding_dim).

    `weight` (num_embeddings, embedding_dim) is drawn from N(0, 1) by `rng`, a seed or a generator.
    Raises `DtypeError` for ids that are no integers, `ShapeError` for ids out of range.

    >>> mg.nn.Embedding(10, 4, rng=0)(np.array([[1, 2, 1]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype=np.float64,
        rng: int | np.random.Generator | None = None,
    ):
        rng = generator(rng)
        sizes = {"num_embeddings": num_embeddings, "embedding_dim": embedding_dim}
        check_sizes(self, dtype, **sizes)
        self.weight = Parameter(rng.normal(size=(num_embeddings, embedding_dim)).astype(dtype))

    def __call__(self, ids):
        ids = ids.data if isinstance(ids, Tensor) else numbers("Embedding: ids", ids)
        rows = self.weight.shape[0]
        if ids.dtype.kind not in "iu":
            raise DtypeError(
                "Embedding: ids",
                f"expected integers, got {ids.dtype}",
                "convert with .astype(np.int64)",
            )
        if ids.size and not 0 <= ids.min() <= ids.max() < rows:
            raise ShapeError(
                "Embedding: ids",
                f"expected numbers from 0 to {rows - 1}, got {ids.min()} to {ids.max()}",
                "make the table as large as the vocabulary",
            )
        return getitem(self.weight, index=ids)
