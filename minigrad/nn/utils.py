"""Gradient clipping, and all parameters as one vector; with PyTorch's names and return values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real

import numpy as np

from .. import kernels
from ..errors import DtypeError, GradientError, ShapeError, UsageError
from ..graph import Tensor, note_write
from ..ops import concatenate, ravel


def _with_gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    try:
        return [p for p in parameters if p.grad is not None]
    except (TypeError, AttributeError):
        raise UsageError(
            "clip_grad: parameters",
            f"expected tensors, got {type(parameters).__name__}",
            "pass model.parameters(), or a list of tensors",
        ) from None


def _limit(name: str, value: float) -> None:
    if not isinstance(value, Real) or not value >= 0:
        raise UsageError(
            f"{name}: the limit", f"expected a number from 0, got {value!r}", "try 1.0"
        )


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
    _limit("clip_grad_norm_", max_norm)
    found = _with_gradients(parameters)
    norm = _norm([p.grad.data for p in found])  # type: ignore[union-attr]
    if error_if_nonfinite and not math.isfinite(norm):
        raise _not_finite("clip_grad_norm_", norm)
    clip_grads_with_norm_(found, max_norm, norm)
    return norm


def _not_finite(name: str, norm: float) -> GradientError:
    return GradientError(
        f"{name}: the norm of the gradients",
        f"expected a finite number, got {norm}",
        "look for a division by zero or a diverging loss; lower the learning rate",
    )


def get_total_norm(tensors: Iterable, error_if_nonfinite: bool = False) -> float:
    """The Euclidean norm of tensors or arrays, all of them taken as one vector.

    Raises `GradientError` for a norm that is NaN or infinite, if `error_if_nonfinite`.

    >>> mg.nn.utils.get_total_norm([np.array([3.0, 0.0]), np.array([[4.0]])])
    5.0
    """
    norm = _norm([t.data if isinstance(t, Tensor) else np.asarray(t) for t in tensors])
    if error_if_nonfinite and not math.isfinite(norm):
        raise _not_finite("get_total_norm", norm)
    return norm


def clip_grads_with_norm_(parameters: Iterable[Tensor], max_norm: float, total_norm: float) -> None:
    """Scales all gradients by max_norm / total_norm, if that is below one.

    The second half of `clip_grad_norm_`, for a norm that is known already.

    >>> p = mg.nn.Parameter(np.zeros(2))
    >>> p.grad = mg.tensor([3.0, 4.0])
    >>> mg.nn.utils.clip_grads_with_norm_([p], 1.0, 10.0)
    >>> p.grad
    tensor([0.3, 0.4])
    """
    if total_norm > max_norm or math.isnan(total_norm):
        with np.errstate(invalid="ignore"):  # an infinite gradient times 0 is NaN, and shows
            for p in _with_gradients(parameters):
                p.grad.data[...] *= p.dtype.type(max_norm / total_norm)  # type: ignore[union-attr]


def clip_grad_value_(parameters: Iterable[Tensor], clip_value: float) -> None:
    """Limits every element of every gradient to [-clip_value, clip_value].

    Source: Goodfellow et al., Deep Learning, section 10.11.1; Mikolov 2012.

    >>> p = mg.nn.Parameter(np.zeros(2))
    >>> p.grad = mg.tensor([3.0, -0.5])
    >>> mg.nn.utils.clip_grad_value_([p], 1.0)
    >>> p.grad.data
    array([ 1. , -0.5])
    """
    _limit("clip_grad_value_", clip_value)
    for p in _with_gradients(parameters):
        np.clip(p.grad.data, -clip_value, clip_value, out=p.grad.data)  # type: ignore[union-attr]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, one after the other in the order given, as one vector.

    A tensor with its graph: what is computed from it can be differentiated by the parameters.
    Raises `UsageError` for none, `DtypeError` for two dtypes.

    >>> mg.nn.utils.parameters_to_vector(mg.nn.Linear(2, 3, rng=0).parameters()).shape
    (9,)
    """
    found = _some("parameters_to_vector", parameters)
    return concatenate([ravel(p) for p in found])


def vector_to_parameters(vec, parameters: Iterable[Tensor]) -> None:
    """Writes the parts of a vector, one after the other, into the parameters, in place.

    The inverse of `parameters_to_vector`. `vec` is an array or a tensor of one axis. Raises
    `ShapeError`, `DtypeError`, `UsageError` before anything is written.

    >>> layer = mg.nn.Linear(1, 2, rng=0)
    >>> mg.nn.utils.vector_to_parameters(np.arange(4.0), layer.parameters())
    >>> layer.bias.data
    array([2., 3.])
    """
    found = _some("vector_to_parameters", parameters)
    array = vec.data if isinstance(vec, Tensor) else np.asarray(vec)
    size = sum(p.size for p in found)
    if array.shape != (size,):
        raise ShapeError(
            "vector_to_parameters: vec",
            f"expected ({size},), the sizes of all parameters together, got {array.shape}",
            "pass the parameters that the vector was made of, in the same order",
        )
    if array.dtype != found[0].dtype:
        raise DtypeError(
            "vector_to_parameters: vec",
            f"expected {found[0].dtype} like the parameters, got {array.dtype}",
            f"convert with .astype(np.{found[0].dtype})",
        )
    array = array.copy()  # it may be a view of the parameters themselves
    start = 0
    for p in found:
        p.data[...] = array[start : start + p.size].reshape(p.shape)
        note_write(p)
        start += p.size


def _some(name: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters, at least one, all of one dtype."""
    found = list(parameters)
    if not found:
        raise UsageError(
            f"{name}: parameters",
            "expected at least one, got none",
            "pass model.parameters(); a generator can be used up only once",
        )
    dtypes = sorted({str(p.dtype) for p in found})
    if len(dtypes) > 1:
        raise DtypeError(
            f"{name}: parameters",
            f"expected one dtype, got {', '.join(dtypes)}",
            "make a vector for each dtype",
        )
    return found
