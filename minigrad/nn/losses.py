"""Losses: each returns a scalar tensor."""

from __future__ import annotations

import numpy as np

from ..arguments import numbers
from ..errors import DtypeError, ShapeError, UsageError
from ..graph import Tensor
from ..kernels import check_lengths
from ..ops import getitem, log_softmax, mean, reshape, sum, where


def _array(what: str, value) -> np.ndarray:
    return value.data if isinstance(value, Tensor) else numbers(what, value)


def _logits(name: str, logits, least: int):
    logits = logits if isinstance(logits, Tensor) else numbers(f"{name}: logits", logits)
    if logits.ndim < least:
        raise ShapeError(
            f"{name}: logits",
            f"expected {'(T, N, V)' if least == 3 else '(..., V)'}, got {tuple(logits.shape)}",
            "the last axis has one number for each class",
        )
    return logits


def _ids(name: str, targets, shape: tuple, classes: int) -> np.ndarray:
    ids = _array(f"{name}: targets", targets)
    if ids.shape != shape or ids.dtype.kind not in "iu":
        error = DtypeError if ids.dtype.kind not in "iu" else ShapeError
        raise error(
            f"{name}: targets",
            f"expected integers of shape {shape}, got {ids.dtype} {ids.shape}",
            "targets are class numbers, one for each row of logits",
        )
    if ids.size and not 0 <= ids.min() <= ids.max() < classes:
        raise ShapeError(
            f"{name}: targets",
            f"expected class numbers from 0 to {classes - 1}, got {ids.min()} to {ids.max()}",
            "give the logits as many columns as there are classes",
        )
    return ids


def _reduced(losses, reduction: str, count: int):
    if not isinstance(reduction, str) or reduction not in ("mean", "sum", "none"):
        raise UsageError(
            "loss: reduction", f'expected "mean", "sum" or "none", got {reduction!r}', "pick one"
        )
    if reduction == "none":
        return losses
    return sum(losses) / count if reduction == "mean" else sum(losses)


def _log_likelihoods(logits, ids):
    """log p(target) for each row of logits (..., V): shape (...)."""
    classes = logits.shape[-1]
    rows = reshape(log_softmax(logits), shape=(-1, classes))
    picked = getitem(rows, index=(np.arange(ids.size), ids.reshape(-1)))
    return reshape(picked, shape=ids.shape)


def cross_entropy(logits, targets, reduction: str = "mean"):
    """-log softmax(logits)[target], in nats, averaged over all rows.

    logits (..., V), targets (...) of integers from 0 to V-1; reduction "mean", "sum" or "none".
    Raises `ShapeError`, `DtypeError`.

    Source: Goodfellow et al., Deep Learning, section 6.2.2.3.

    >>> round(mg.nn.cross_entropy(mg.tensor(np.zeros((2, 4))), [0, 3]).item(), 6) # log 4
    1.386294
    """
    logits = _logits("cross_entropy", logits, 1)
    ids = _ids("cross_entropy", targets, logits.shape[:-1], logits.shape[-1])
    return _reduced(-_log_likelihoods(logits, ids), reduction, max(1, ids.size))


def sequence_cross_entropy(logits, targets, lengths=None, reduction: str = "mean"):
    """The negative log-likelihood of sequences, over real steps only.

    L = sum over rows n and steps t < lengths[n] of -log p(target(t, n)), divided by the number of
    real steps for "mean".

    logits (T, N, V), targets (T, N), lengths (N,). Raises `ShapeError`, `DtypeError`.

    Source: Goodfellow et al., Deep Learning, equations 10.12 to 10.14.

    >>> logits = mg.tensor(np.zeros((3, 2, 4)))
    >>> loss = mg.nn.sequence_cross_entropy(logits, np.zeros((3, 2), int), [3, 1], "sum")
    >>> float(round(loss.item() / np.log(4), 6))
    4.0
    """
    if lengths is None:
        return cross_entropy(logits, targets, reduction)
    logits = _logits("sequence_cross_entropy", logits, 3)
    steps, rows = logits.shape[:2]
    lengths = check_lengths(lengths, steps, rows)
    real = np.arange(steps)[:, None] < lengths
    ids = _array("sequence_cross_entropy: targets", targets)
    if ids.shape == real.shape:
        ids = np.where(real, ids, 0)
    ids = _ids("sequence_cross_entropy", ids, (steps, rows), logits.shape[-1])
    losses = where(real, -_log_likelihoods(where(real[..., None], logits, 0), ids), 0)
    return _reduced(losses, reduction, max(1, int(real.sum())))


def mse_loss(x, y):
    """The mean of (x - y)^2 over all elements; raises `ShapeError` for unequal shapes.

    >>> mg.nn.mse_loss(mg.tensor([1.0, 3.0]), np.array([1.0, 1.0])).item()
    2.0
    """
    x = x if isinstance(x, Tensor) else Tensor(numbers("mse_loss: argument 0", x))
    y = y if isinstance(y, Tensor) else Tensor(numbers("mse_loss: argument 1", y))
    if x.shape != y.shape:
        raise ShapeError(
            "mse_loss: its two arguments",
            f"expected equal shapes, got {x.shape} and {y.shape}",
            "reshape one side; broadcasting would average over pairs that were never meant",
        )
    d = x - y
    return mean(d * d)
