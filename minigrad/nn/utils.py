"""Gradient clipping, with PyTorch's names and return values."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .. import kernels
from ..errors import GradientError
from ..graph import Tensor


def _with_gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [p for p in parameters if p.grad is not None]


def _norm(arrays: list[np.ndarray]) -> float:
    """The Euclidean norm of all elements; of finite ones finite, however large."""
    with np.errstate(over="ignore"):
        squares = [float(kernels.sum(a * a)) for a in arrays]
    if all(map(math.isfinite, squares)):
        return math.sqrt(math.fsum(squares))
    largest = float(np.max([np.abs(a).max() for a in arrays if a.size]))  # NaN wins
    if not math.isfinite(largest):
        return largest
    return largest * math.sqrt(math.fsum(float(kernels.sum((a / largest) ** 2)) for a in arrays))


def clip_grad_norm_(
    parameters: Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False
) -> float:
    """Scales all gradients, as one vector, down to the norm `max_norm`; returns the norm before.

    if ||g|| > v: g <- g v / ||g||

    Parameters without a gradient are passed over. Raises `GradientError` for a norm that is NaN
    or infinite, if `error_if_nonfinite`; otherwise such gradients are scaled like any other.

    Source: Goodfellow et al., Deep Learning, equation 10.48; Pascanu et al. 2013.

    >>> p = mg.nn.Parameter(np.zeros(2))
    >>> p.grad = mg.tensor([3.0, 4.0])
    >>> mg.nn.utils.clip_grad_norm_([p], 1.0), p.grad.data
    (5.0, array([0.6, 0.8]))
    """
    found = _with_gradients(parameters)
    norm = _norm([p.grad.data for p in found])  # type: ignore[union-attr]
    if error_if_nonfinite and not math.isfinite(norm):
        raise GradientError(
            "clip_grad_norm_: the norm of the gradients",
            f"expected a finite number, got {norm}",
            "look for a division by zero or a diverging loss; lower the learning rate",
        )
    if norm > max_norm or math.isnan(norm):
        with np.errstate(invalid="ignore"):  # an infinite gradient times 0 is NaN, and shows
            for p in found:
                p.grad.data[...] *= p.dtype.type(max_norm / norm)  # type: ignore[union-attr]
    return norm


def clip_grad_value_(parameters: Iterable[Tensor], clip_value: float) -> None:
    """Limits every element of every gradient to [-clip_value, clip_value].

    Source: Goodfellow et al., Deep Learning, section 10.11.1; Mikolov 2012.

    >>> p = mg.nn.Parameter(np.zeros(2))
    >>> p.grad = mg.tensor([3.0, -0.5])
    >>> mg.nn.utils.clip_grad_value_([p], 1.0)
    >>> p.grad.data
    array([ 1. , -0.5])
    """
    for p in _with_gradients(parameters):
        np.clip(p.grad.data, -clip_value, clip_value, out=p.grad.data)  # type: ignore[union-attr]
