"""Sequences drawn from a model, one symbol after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import UsageError
from .graph import Tensor, no_grad


def sample(
    step: Callable[[np.ndarray, Any], tuple[Any, Any]],
    first: int,
    state: Any,
    length: int,
    temperature: float = 1.0,
    rng: int | np.random.Generator = 0,
) -> list[int]:
    """`length` symbols, each drawn from the model's distribution after those before it.

    p(s) = softmax(logits / temperature)[s]

    step: `(ids, state) -> (logits, state)` for ids (1, 1) and logits (1, 1, V); `first` is the
    symbol that is fed in first. A temperature below 1 favours likely symbols; 0 always takes the
    likeliest. `rng`: a seed or a generator. Raises `UsageError` for a length, a temperature or a
    seed below 0.

    Source: Goodfellow et al., Deep Learning, section 10.2.3.

    >>> always_two = lambda ids, state: (np.array([[[0.0, 0.0, 99.0]]]), state)
    >>> sample(always_two, 0, None, length=4)
    [2, 2, 2, 2]
    """
    if not temperature >= 0:
        raise UsageError(
            "sample: temperature", f"expected 0 or more, got {temperature}", "1 leaves p as it is"
        )
    if length < 0:
        raise UsageError("sample: length", f"expected 0 or more, got {length}", "raise it")
    if isinstance(rng, int) and rng < 0:
        raise UsageError("sample: rng", f"expected a seed of 0 or more, got {rng}", "drop the sign")
    rng = np.random.default_rng(rng)
    symbols, symbol = [], int(first)
    with no_grad(), np.errstate(over="ignore"):  # by a tiny temperature: exp(-inf) = 0 is right
        for _ in range(length):
            logits, state = step(np.array([[symbol]]), state)
            row = logits.data if isinstance(logits, Tensor) else logits
            z = np.asarray(row, np.float64).reshape(-1)
            if temperature == 0:
                symbol = int(z.argmax())
            else:
                p = np.exp((z - z.max()) / temperature).cumsum()
                symbol = int(np.searchsorted(p, rng.random() * p[-1], side="right"))
            symbols.append(symbol)
    return symbols
