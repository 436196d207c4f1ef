"""The cells that have a fused path: what holds for one is to hold for each.

A cell is one entry of `CELLS`; a test sees to it that none is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

import minigrad as mg
from minigrad.cells import GatedCell
from minigrad.graph import Op
from minigrad.recurrent import KINDS, Kind
from minigrad.unfold import fused_op

CELLS: dict[str, Callable[..., GatedCell]] = {
    "lstm": mg.nn.LSTMCell,
    "lstm sigmoid": partial(mg.nn.LSTMCell, candidate="sigmoid"),
    "lstm peephole": partial(mg.nn.LSTMCell, peephole=True),
    "lstm peephole sigmoid": partial(mg.nn.LSTMCell, peephole=True, candidate="sigmoid"),
    "gru": mg.nn.GRUCell,
    "gru before": partial(mg.nn.GRUCell, reset="before"),
    "rnn": mg.nn.RNNCell,
    "rnn relu": partial(mg.nn.RNNCell, nonlinearity="relu"),
}


def op_of(name: str) -> Op:
    """The fused op of a cell."""
    op = fused_op(CELLS[name](1, 1))
    assert op is not None
    return op


def kind_of(name: str) -> Kind:
    """What the kernels call a cell."""
    return KINDS[op_of(name).name]


def parts(state) -> tuple:
    """The parts of a state, which may be a tensor alone."""
    return state if isinstance(state, tuple) else (state,)


def states(name: str) -> tuple[str, ...]:
    """The names of these parts."""
    return ("h", "c")[: kind_of(name).states]


def arguments(kind: Kind, T, N, I, H, dtype=np.float64, seed=0) -> tuple[np.ndarray, ...]:  # noqa: E741
    """Random arguments for the doors of `recurrent`: xs, the state and the weights."""
    rng = np.random.default_rng(seed)
    return tuple(
        (rng.normal(size=shape) * (0.7 if label.startswith("weight") else 1)).astype(dtype)
        for label, shape in zip(kind.labels, kind.shapes(T, N, I, H), strict=True)
    )
