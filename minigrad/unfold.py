"""Time: a cell run over a sequence, node by node or as one fused op, with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .cells import Cell, GatedCell, State, lstm_step
from .debug import observer, tell, tells, timed
from .errors import DtypeError, ShapeError, UsageError
from .graph import Op, Tensor, no_grad
from .kernels import check_lengths
from .ops import concatenate, flip_rows, stack, unstack, where
from .ops.fused import fused_lstm


def run(step: Callable, xs, state: State, lengths: np.ndarray | None = None) -> tuple[Any, State]:
    """Unfolds `step` over xs (T, N, ...), T >= 1, one node after another: (ys, last state).

    Past its length a row gives 0 and keeps its state.
    """
    ys = []
    for t, x in timed(unstack(xs), lengths):
        y, new = step(x, state)
        if lengths is not None and not (active := t < lengths).all():
            y = _select(active, y, 0)
            new = _map(lambda n, o, active=active: _select(active, n, o), new, state)
        ys.append(y)
        state = new
    return stack(ys), state


def _select(active: np.ndarray, x, y):
    return where(active.reshape(-1, *[1] * (x.ndim - 1)), x, y)


def form_of(state: State) -> Any:
    """The nested shapes of a state: of a tuple of tensors, a tuple of lists."""
    if isinstance(state, tuple):
        return tuple(form_of(s) for s in state)
    return list(state.shape) if isinstance(state, Tensor | np.ndarray) else type(state).__name__


def _map(f: Callable, *states: State) -> State:
    """`f` applied to the parts of states: tensors, or equally nested tuples of them."""
    if isinstance(states[0], tuple):
        return tuple(_map(f, *parts) for parts in zip(*states, strict=True))
    return f(*states)


def detach_state(state: State) -> State:
    """The same state cut from the graph that made it: the step between two truncated passes.

    >>> cell = mg.nn.RNNCell(1, 2, rng=0)
    >>> _, last = mg.unfold(cell, np.ones((3, 1, 1)))
    >>> last.requires_grad, mg.detach_state(last).requires_grad
    (True, False)
    """
    return _map(lambda s: s.detach() if isinstance(s, Tensor) else s, state)


# --- fused paths ---------------------------------------------------------------------------------


def _lstm_unfolded(xs, h0, c0, weight, recurrent, bias, *, lengths=None):
    """The meaning of the fused LSTM: its step function, unfolded."""
    ys, (h, c) = run(
        lambda x, state: lstm_step(x, state, weight, recurrent, bias), xs, (h0, c0), lengths
    )
    return ys, h, c


# Step functions that have a fused op: (xs, *state, *weights, lengths=) -> (ys, *last state).
FUSED: dict[Callable, Op] = {lstm_step: fused_lstm(_lstm_unfolded)}


def fused_op(cell: Cell) -> Op | None:
    """The fused op that runs this cell over a sequence, or None if there is none."""
    plain = isinstance(cell, GatedCell) and (
        type(cell).__call__ is GatedCell.__call__ and type(cell).begin is GatedCell.begin
    )
    return FUSED.get(type(cell).step) if plain else None  # type: ignore[attr-defined]


# --- unfold --------------------------------------------------------------------------------------


@tells
def unfold(
    cell: Cell,
    xs,
    state: State = None,
    lengths=None,
    reverse: bool = False,
    fused: bool | str = "auto",
) -> tuple[Any, State]:
    """Runs a cell over a sequence: `(ys, last state)`.

    h(t), y(t) = cell(x(t), h(t-1))

    xs: (T, N, I), or a list of N arrays (T_n, I), which sets `lengths`. state: what
    `cell.initial_state` gives unless passed. lengths: (N,) integers from 0 to T; past its length
    a row's outputs are 0, its state stays, and what stands in the padding changes nothing.
    reverse: time runs backwards, in each row from its own last step. fused: True takes the fused
    op and raises `UsageError` if the cell has none, False unfolds node by node, "auto" takes the
    fused op where there is one, but not within `mg.debug()`. All give the same bits, gradients
    included.

    ys: (T, N, H), y(t) at its own place in time also under `reverse`.

    Source: Goodfellow et al., Deep Learning, sections 10.1 and 10.2.

    >>> cell = mg.nn.LSTMCell(2, 4, rng=0)
    >>> xs = np.ones((5, 3, 2))
    >>> ys, (h, c) = mg.unfold(cell, xs, lengths=[5, 2, 0])
    >>> zs, _ = mg.unfold(cell, xs, lengths=[5, 2, 0], fused=False)
    >>> bool((ys.data == zs.data).all())
    True
    """
    if isinstance(xs, list | tuple):
        xs, lengths = padded(xs, lengths)
    if xs.ndim < 2:
        raise ShapeError(
            "unfold: xs",
            f"expected (T, N, ...), time first, got {xs.shape}",
            "add the axes that are missing; one sequence is a batch of one row",
        )
    steps, rows = xs.shape[:2]
    if isinstance(cell, GatedCell) and (xs.ndim != 3 or xs.shape[2] != cell.input_size):
        raise ShapeError(
            f"unfold: xs for {type(cell).__name__}",
            f"expected (T, N, {cell.input_size}), got {tuple(xs.shape)}",
            "time comes first, then the rows of the batch, then the features",
        )
    lengths = check_lengths(lengths, steps, rows)
    if state is None:
        state = cell.initial_state(rows, xs.dtype)
    elif isinstance(cell, GatedCell):
        expected, got = form_of(cell.initial_state(rows, xs.dtype)), form_of(state)
        if got != expected:
            raise ShapeError(
                f"unfold: state for {type(cell).__name__}",
                f"expected the form {expected}, got {got}",
                "pass the state in the form that initial_state gives",
            )
    if not isinstance(fused, bool | np.bool_) and fused != "auto":
        raise UsageError(
            "unfold: fused",
            f'expected True, False or "auto", got {fused!r}',
            '"auto" takes the fused path where there is one; the bits are the same',
        )
    tell(cell=type(cell).__name__, direction="reverse" if reverse else "forward")
    op = fused_op(cell) if fused else None
    if fused != "auto" and fused and op is None:
        raise UsageError(
            f"unfold: fused=True for {type(cell).__name__}",
            "expected a cell with a fused path, got one that has none",
            'pass fused=False, or "auto" to take a fused path only where there is one',
        )
    if fused == "auto" and observer() is not None:
        op = None  # mg.debug() wants to see every step

    if lengths is not None:  # whatever stands in the padding (NaN, inf) must not enter a product
        xs = _select_time(np.arange(steps)[:, None] < lengths, xs)
    if steps == 0:
        with no_grad():
            y, _ = cell(np.zeros((rows, *xs.shape[2:]), xs.dtype), state)
        return Tensor(np.zeros((0, *y.shape), y.dtype)), state
    if reverse:
        xs = flip_rows(xs, lengths=lengths)
    if op is not None:
        ys, *last = op(xs, *_parts(state), *cell.weights(), lengths=lengths)  # type: ignore[attr-defined]
        last = tuple(last) if isinstance(state, tuple) else last[0]
    else:
        ys, last = run(cell.begin(), xs, state, lengths)
    return (flip_rows(ys, lengths=lengths) if reverse else ys), last


def _parts(state: State) -> tuple:
    return state if isinstance(state, tuple) else (state,)


def _select_time(active: np.ndarray, xs):
    return where(active.reshape(*active.shape, *[1] * (xs.ndim - 2)), xs, 0)


def padded(rows: Sequence, lengths) -> tuple[Any, np.ndarray]:
    """A list of sequences (T_n, ...) as one array (T, N, ...) filled up with zeros, and lengths."""
    if lengths is not None:
        raise UsageError(
            "unfold: lengths beside a list of sequences",
            "expected one of the two, got both",
            "leave lengths out: a list brings its own",
        )
    forms = [form_of(r) for r in rows]
    if not rows or any(not isinstance(f, list) or not f or f[1:] != forms[0][1:] for f in forms):
        raise ShapeError(
            "unfold: a list of sequences",
            "expected at least one, all (T_n, I) with the same I, got "
            + str([tuple(f) if isinstance(f, list) else f for f in forms]),
            "give each sequence the same features",
        )
    if len({r.dtype for r in rows}) > 1:
        raise DtypeError(
            "unfold: a list of sequences",
            f"expected one dtype, got {', '.join(sorted({str(r.dtype) for r in rows}))}",
            "convert them with .astype",
        )
    steps = max(len(r) for r in rows)
    filled = [
        concatenate([r, np.zeros((steps - len(r), *r.shape[1:]), r.dtype)]) if len(r) < steps else r
        for r in rows
    ]
    return stack(filled, axis=1), np.array([len(r) for r in rows], np.int64)
