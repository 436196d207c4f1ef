"""Matrix products, whose weight gradients are gathered.

In an unfolded recurrence the gradient of a weight is a sum over time of products. The rules here
do not form T products and T sums: each returns its two operands as a `Product`, and the backward
pass has them all multiplied at once, in the order in which they arrived: newest step first.
"""

import numpy as np

from .. import kernels
from ..backward import Deferred
from ..errors import ShapeError
from ..graph import Op, register
from .reduce import broadcast_to
from .shape import swapaxes


class Product(Deferred):
    """The contribution a^T b, for a (..., M) and b (..., N) with rows summed: shape (M, N)."""

    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a, self.b = a, b

    @classmethod
    def total(cls, contributions):
        return products(*(x for c in contributions for x in (c.a, c.b)))


class RowSum(Deferred):
    """The contribution of all rows of g (..., C) summed: shape (C,), as a bias is given it."""

    __slots__ = ("g",)

    def __init__(self, g):
        self.g = g

    @classmethod
    def total(cls, contributions):
        return row_sums(*(c.g for c in contributions))


products = register(
    Op(
        "products",
        kernels.products,
        vjp=lambda needs, g, out, *pairs: [
            None
            if not need
            else matmul(pairs[i - 1], g)
            if i % 2
            else matmul(pairs[i + 1], swapaxes(g, 0, 1))
            for i, need in enumerate(needs)
        ],
        doc="The sum of a^T b over pairs a, b, a, b, ... as one chain. "
        "Gradient: b g^T to an a, a g to a b.",
    ),
)

row_sums = register(
    Op(
        "row_sums",
        kernels.row_sums,
        vjp=lambda needs, g, out, *xs: [
            broadcast_to(g, shape=x.shape) if need else None
            for x, need in zip(xs, needs, strict=True)
        ],
        doc="The sum of all rows of all arguments as one chain; g is spread over them.",
    ),
)


def _matmul_left(g, out, x, y):
    if x.ndim == 2 and y.ndim == 1:
        return Product(g, y)
    if x.ndim == 2 and y.ndim > 2:  # one chain over the stack
        return Product(swapaxes(g, -1, -2), swapaxes(y, -1, -2))
    if y.ndim == 1:
        return g[..., None] * y
    if x.ndim == 1:
        return matmul(y, g[..., None])[..., 0]
    return matmul(g, swapaxes(y, -1, -2))


def _matmul_right(g, out, x, y):
    if y.ndim == 2:
        return Product(x, g)
    if y.ndim == 1:  # one chain over all rows
        return g * x if x.ndim == 1 else matmul(g.reshape(g.size), x.reshape(g.size, y.size))
    if x.ndim == 1:
        return x[:, None] * g[..., None, :]
    return matmul(swapaxes(x, -1, -2), g)


matmul = register(
    Op(
        "matmul",
        kernels.matmul,
        vjps=[_matmul_left, _matmul_right],
        doc="x y by NumPy's rules for vectors and stacks, each element one chain begun at 0. "
        "Gradient: g y^T to x, x^T g to y.",
    ),
)

affine = register(
    Op(
        "affine",
        kernels.affine,
        vjps=[
            lambda g, out, x, weight, start: matmul(g, weight),
            lambda g, out, x, weight, start: Product(g, x),
            lambda g, out, x, weight, start: g if start.ndim > 1 or g.ndim == 1 else RowSum(g),
        ],
        doc="x weight^T + start for x (..., K), weight (N, K), start (N,) or (..., N), each "
        "element one chain begun at start. Gradient: g weight to x, g^T x to weight, g to start.",
    ),
)

addmm = register(
    Op(
        "addmm",
        kernels.addmm,
        vjps=[
            lambda g, out, start, x, y: RowSum(g) if start.shape == g.shape[-1:] else g,
            lambda g, out, start, x, y: matmul(g, swapaxes(y, 0, 1)),
            lambda g, out, start, x, y: Product(x, g),
        ],
        doc="start + x y for x (..., K), y (K, N) and start that broadcasts to (..., N), each "
        "element one chain begun at start. Gradient: g to start, g y^T to x, x^T g to y.",
    ),
)


def _scale(x, p):
    if p.ndim != 1 or x.shape[-1:] != p.shape:
        raise ShapeError(
            "scale: x and p",
            f"expected (..., C) and (C,), got {x.shape} and {p.shape}",
            "give a number for each column of x",
        )
    return np.multiply(x, p)


# A product by elements, as `multiply`, but for what p is given: with T steps that share p, one
# chain over all of their rows and not T sums.
scale = register(
    Op(
        "scale",
        _scale,
        vjps=[
            lambda g, out, x, p: g * p,
            lambda g, out, x, p: RowSum(g * x),
        ],
        doc="x * p for x (..., C) and a vector p (C,): each column by a number of its own. "
        "Gradient: g * p to x, the rows of g * x, summed as one chain, to p.",
    ),
)
