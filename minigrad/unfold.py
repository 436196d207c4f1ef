"""Time: a cell run over a sequence, node by node or as one fused op, with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import cells
from .arguments import numbers
from .cells import Cell, GatedCell, State
from .debug import observer, tell, tells, timed
from .errors import DtypeError, ShapeError, UsageError
from .expand import identity
from .graph import Op, Tensor, no_grad
from .kernels import check_lengths
from .ops import concatenate, flip_rows, stack, swapaxes, unstack, where
from .ops.fused import fused as fused_layer
from .recurrent import KINDS


class Output(NamedTuple):
    """What a recurrence returns: `ys` of every step, and the last `state`. Unpack it, or name them.

    The state of a row is the one after the row's *own* last step, in the direction of reading:

        forward    h(0) -> h(1) -> ... -> h(T-1)      state = ys[T-1, ..., :H]
        backward   h(0) <- h(1) <- ... <- h(T-1)      state = ys[0, ..., H:]

    So with two directions `ys[-1]` is not the last state: its backward half has read one step only.
    With lengths, the forward state of row n is `ys[lengths[n] - 1, n, :H]`.

    >>> out = mg.nn.GRU(2, 3, bidirectional=True, rng=0)(np.ones((5, 4, 2)))
    >>> bool((out.state.data[1] == out.ys.data[0, :, 3:]).all())
    True
    """

    ys: Any
    state: State


def run(step: Callable, xs, state: State, lengths: np.ndarray | None = None) -> Output:
    """Unfolds `step` over xs (T, N, ...), T >= 1, one node after another: (ys, last state).

    Past its length a row gives 0 and keeps its state.
    """
    ys = []
    for t, x in timed(unstack(xs), lengths):
        made = step(x, state)
        if not isinstance(made, tuple) or len(made) != 2:
            raise _no_pair(made, "the cell")
        y, new = made
        if lengths is not None and not (active := t < lengths).all():
            if (got := form_of(new)) != (expected := form_of(state)):
                raise ShapeError(
                    f"unfold: the state after step {t}",
                    f"expected the form {expected} of the state before, got {got}",
                    "with lengths, a state keeps its form over time",
                )
            y = _select(active, y, 0)
            new = _map(lambda n, o, active=active: _select(active, n, o), new, state)
        ys.append(y)
        state = new
    return Output(stack(ys), _map(_apart, state))


def _apart(s):
    """A last state as a place of its own, as a fused op has it, apart from the last output."""
    return identity(s) if isinstance(s, Tensor) else s


def _no_pair(made, what: str) -> UsageError:
    got = f"a tuple of {len(made)}" if isinstance(made, tuple) else type(made).__name__
    return UsageError(
        f"unfold: what {what} returns",
        f"expected a pair (output, new state), got {got}",
        "return both, also where they are the same: return h, h",
    )


def no_cell(name: str, cell) -> UsageError:
    """What to say to who passes something else where a cell is wanted."""
    return UsageError(
        f"{name}: cell",
        f"expected a Cell, got {type(cell).__name__}",
        "pass an instance of mg.nn.Cell; a layer such as mg.nn.LSTM is called by itself",
    )


def as_array(what: str, xs):
    """xs as it is if it is an array or a tensor, anything else as an array of numbers."""
    return xs if isinstance(xs, np.ndarray | Tensor) else numbers(what, xs)


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
        return like(states[0], [_map(f, *parts) for parts in zip(*states, strict=True)])
    return f(*states)


def like(state: tuple, parts: Sequence) -> tuple:
    """A tuple of the kind that `state` is, named or plain."""
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def detach_state(state: State) -> State:
    """The same state cut from the graph that made it: the step between two truncated passes.

    A state is a tensor, an array, None, or a tuple, list or dict of states. Raises `UsageError`.

    >>> cell = mg.nn.RNNCell(1, 2, rng=0)
    >>> _, last = mg.unfold(cell, np.ones((3, 1, 1)))
    >>> last.requires_grad, mg.detach_state(last).requires_grad
    (True, False)
    """
    if isinstance(state, tuple):
        return like(state, [detach_state(s) for s in state])
    if isinstance(state, list):
        return [detach_state(s) for s in state]
    if isinstance(state, dict):
        return {k: detach_state(s) for k, s in state.items()}
    if isinstance(state, Tensor):
        return state.detach()
    if state is None or isinstance(state, np.ndarray):
        return state
    raise UsageError(
        "detach_state: the state",
        f"expected a tensor, an array, None, or a tuple, list or dict of them, "
        f"got {type(state).__name__}",
        "detach the tensors that it holds with .detach()",
    )


def tbptt(
    model: Callable, xs, k: int, state: State = None, lengths=None
) -> Iterator[tuple[slice, Any, State]]:
    """Truncated back-propagation through time: runs over xs in pieces of k steps.

    Yields `(steps, ys, state)` for each piece: the slice of time that it covers, its outputs and
    its last state. The state is carried into the next piece and cut from its graph on the way, so
    `backward` reaches back to the beginning of the piece and no further; the values are those of
    one run over all of xs, to the bit.

    model: a cell, or anything called as `model(xs, state) -> (ys, state)`, with time first unless
    it has `batch_first`; with lengths, as `model(xs, state, lengths)`. The last piece may be
    shorter. Raises `UsageError` for k below 1, and for a model that reads backwards in time.

    Source: Goodfellow et al., Deep Learning, section 10.2.2; Williams and Peng 1990.

    >>> cell = mg.nn.RNNCell(1, 2, rng=0)
    >>> xs = np.ones((7, 1, 1))
    >>> for steps, ys, state in mg.tbptt(cell, xs, 3):
    ...     ys.sum().backward()
    ...     print(steps.start, steps.stop, ys.shape)
    0 3 (3, 1, 2)
    3 6 (3, 1, 2)
    6 7 (1, 1, 2)
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise UsageError(
            "tbptt: k", f"expected a number of steps from 1, got {k!r}", "try 32, or 64"
        )
    if getattr(model, "bidirectional", False) or getattr(model, "reverse", False):
        raise UsageError(
            f"tbptt: of {type(model).__name__}",
            "expected a model that reads forward in time, got one that reads backwards",
            "a state can be carried forward only: give each piece to the model by itself",
        )
    if not callable(model):
        raise UsageError(
            "tbptt: model",
            f"expected a cell, a layer or a function, got {type(model).__name__}",
            "pass what is called as model(xs, state) -> (ys, state)",
        )
    return _pieces(model, xs, int(k), state, lengths)


def _pieces(model, xs, k, state, lengths):
    axis = int(getattr(model, "batch_first", False))
    run_piece = partial(unfold, model) if isinstance(model, Cell) else model
    if isinstance(xs, list | tuple):
        xs, lengths = padded(xs, lengths)
        xs = swapaxes(xs, 0, 1) if axis else xs
    xs = as_array("tbptt: xs", xs)
    if xs.ndim < 2:
        raise _no_rows("tbptt", xs)
    total = xs.shape[axis]
    lengths = check_lengths(lengths, total, xs.shape[1 - axis])
    for start in range(0, total, k):
        steps = slice(start, min(start + k, total))
        piece = xs[:, steps] if axis else xs[steps]
        left = () if lengths is None else (np.clip(lengths - start, 0, steps.stop - start),)
        made = run_piece(piece, state, *left)
        if not isinstance(made, tuple) or len(made) != 2:
            raise _no_pair(made, "the model")
        ys, state = made
        yield steps, ys, state
        del made, ys  # not needed while the next piece runs
        state = detach_state(state)


# --- fused paths ---------------------------------------------------------------------------------


def _fused(kind: str, step: Callable) -> Op:
    """The fused op of a step function, whose meaning is the step unfolded."""
    states = KINDS[kind].states

    def unfolded(xs, *args, lengths=None):
        state, weights = args[:states], args[states:]
        first = state if states > 1 else state[0]
        ys, last = run(lambda x, state: step(x, state, *weights), xs, first, lengths)
        return (ys, *_parts(last))

    return fused_layer(KINDS[kind], unfolded)


# Step functions that have a fused op: (xs, *state, *weights, lengths=) -> (ys, *last state).
_STEPS: dict[str, Callable] = {
    "lstm": cells.lstm_step,
    "lstm_sigmoid": cells.lstm_sigmoid_step,
    "lstm_peephole": cells.lstm_peephole_step,
    "lstm_peephole_sigmoid": cells.lstm_peephole_sigmoid_step,
    "gru": cells.gru_step,
    "gru_before": cells.gru_step_before,
    "rnn": cells.rnn_step,
    "rnn_relu": cells.rnn_relu_step,
}
FUSED: dict[Callable, Op] = {step: _fused(kind, step) for kind, step in _STEPS.items()}


def fused_op(cell: Cell) -> Op | None:
    """The fused op that runs this cell over a sequence, or None if there is none."""
    plain = isinstance(cell, GatedCell) and (
        type(cell).__call__ is GatedCell.__call__ and type(cell).begin is GatedCell.begin
    )
    return FUSED.get(cell.step) if plain else None  # type: ignore[attr-defined]


# --- unfold --------------------------------------------------------------------------------------


@tells
def unfold(
    cell: Cell,
    xs,
    state: State = None,
    lengths=None,
    reverse: bool = False,
    fused: bool | str = "auto",
) -> Output:
    """Runs a cell over a sequence: `(ys, last state)`, an `Output`.

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
    if not isinstance(cell, Cell):
        raise no_cell("unfold", cell)
    if isinstance(xs, list | tuple):
        xs, lengths = padded(xs, lengths)
    xs = as_array("unfold: xs", xs)
    if xs.ndim < 2:
        raise _no_rows("unfold", xs)
    steps, rows = xs.shape[:2]
    if isinstance(cell, GatedCell) and (xs.ndim != 3 or xs.shape[2] != cell.input_size):
        raise ShapeError(
            f"unfold: xs for {type(cell).__name__}",
            f"expected (T, N, {cell.input_size}), got {tuple(xs.shape)}",
            "time comes first, then the rows of the batch, then the features",
        )
    if isinstance(cell, GatedCell) and xs.dtype.kind == "f":
        _check_dtype(cell, xs)
    lengths = check_lengths(lengths, steps, rows)
    real = xs.dtype  # of complex arrays, which make a complex step, that of their parts
    if real.kind == "c":
        real = np.empty(0, real).real.dtype
    if state is None:
        state = cell.initial_state(rows, real)
        if real != xs.dtype:
            state = _map(lambda s: Tensor.at(s.data.astype(xs.dtype), s.source), state)
    elif isinstance(cell, GatedCell):
        start = cell.initial_state(rows, real)
        expected, got = form_of(start), form_of(state)
        if got != expected:
            raise ShapeError(
                f"unfold: state for {type(cell).__name__}",
                f"expected the form {expected}, got {got}",
                "pass the state in the form that initial_state gives",
            )
        state = like(start, state) if isinstance(start, tuple) else state
    if not isinstance(fused, bool | np.bool_) and not (isinstance(fused, str) and fused == "auto"):
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
        return Output(Tensor(np.zeros((0, *y.shape), y.dtype)), state)
    if reverse:
        xs = flip_rows(xs, lengths=lengths)
    if op is not None:
        ys, *last = op(xs, *_parts(state), *cell.weights(), lengths=lengths)  # type: ignore[attr-defined]
        last = like(state, last) if isinstance(state, tuple) else last[0]
    else:
        ys, last = run(cell.begin(), xs, state, lengths)
    return Output(flip_rows(ys, lengths=lengths) if reverse else ys, last)


def _check_dtype(cell: GatedCell, xs) -> None:
    """Raises for the commonest slip: float32 data in a layer of NumPy's default dtype."""
    expected = cell.weight_ih.dtype
    if xs.dtype != expected:
        raise DtypeError(
            f"unfold: xs for {type(cell).__name__}",
            f"expected {expected}, the dtype of its weights, got {xs.dtype}",
            f"convert with .astype(np.{expected}), or build it with dtype=np.{xs.dtype}",
        )


def _no_rows(name: str, xs) -> ShapeError:
    return ShapeError(
        f"{name}: xs",
        f"expected (T, N, ...), time first, got {tuple(xs.shape)}",
        "add the axes that are missing; one sequence is a batch of one row",
    )


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
