"""Layers without memory: Linear, Embedding and Dropout."""

from __future__ import annotations

import numpy as np

from ..arguments import numbers
from ..errors import DtypeError, ShapeError, UsageError
from ..graph import Tensor
from ..module import Module, Parameter, check_sizes, generator
from ..ops import affine, getitem, multiply


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


class Dropout(Module):
    """In training, x with every element put to 0 with probability p; in evaluation, x itself.

    y = x * m / (1 - p),  m = 0 with probability p and 1 otherwise, for each element by itself

    So y is x in the mean, and nothing needs to be scaled in evaluation. `rng`, a seed or a
    generator, gives the masks: a new one at each call, the same again from the same seed and in
    either dtype; the gradient of a call goes through its own. Within `mg.checkpoint`, which calls
    twice, it is refused there. Raises `UsageError` for a p that is no probability, `DtypeError` for
    an x that is not of floats.

    Source: Srivastava et al. 2014; Goodfellow et al., Deep Learning, section 7.12.

    >>> drop = mg.nn.Dropout(0.5, rng=0)
    >>> drop(np.ones(6))
    array([2., 0., 0., 0., 2., 2.])
    >>> drop.eval()(np.ones(6))
    array([1., 1., 1., 1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, *, rng: int | np.random.Generator | None = None):
        check_rate("Dropout: p", p, "try 0.5, or 0.2 for inputs")
        self.p, self.rng = float(p), generator(rng)

    def __call__(self, x):
        if not isinstance(x, Tensor | np.ndarray):
            x = numbers("Dropout: x", x)
        if x.dtype.kind not in "fc":  # complex arrays make a complex step
            raise DtypeError(
                "Dropout: x",
                f"expected floats, which can be scaled, got {x.dtype}",
                "convert with .astype(np.float64)",
            )
        if not self.training or self.p == 0:
            return x
        kept = self.rng.random(x.shape) >= self.p
        scaled = np.where(kept, 1 / (1 - self.p) if self.p < 1 else 0.0, 0.0)
        return multiply(x, scaled.astype(x.dtype))


def check_rate(what: str, p, remedy: str) -> None:
    """Raises `UsageError`, about `what`, for a p that is no probability."""
    is_number = isinstance(p, int | float | np.integer | np.floating) and not isinstance(p, bool)
    if not is_number or not 0 <= p <= 1:
        raise UsageError(what, f"expected a probability from 0 to 1, got {p!r}", remedy)
