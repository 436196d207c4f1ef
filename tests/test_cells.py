"""One step of each cell, against its equations written out by hand."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import cells
from minigrad.errors import DtypeError, ShapeError
from minigrad.graph import Tensor

I, H, N = 3, 5, 4  # noqa: E741
U = np.finfo(float).eps / 2


def sigma(x):
    return 1 / (1 + np.exp(-x))


def arguments(gates: int, biases: int, seed=0) -> list[np.ndarray]:
    """x, h, c, W, U and biases."""
    rng = np.random.default_rng(seed)
    shapes = [(N, I), (N, H), (N, H), (gates * H, I), (gates * H, H)] + biases * [(gates * H,)]
    return [rng.normal(size=shape) for shape in shapes]


def bound(*args) -> float:
    """How far two ways of computing a step may lie apart, in float64.

    A pre-activation is a sum of I + H + 2 products, so each way errs by (I + H + 2) u times the
    sum of absolute values, which is at most the largest row sum times the largest input. Each of
    at most 8 operations after it adds at most 4 u, and no gate is steeper than 1, nor multiplies
    by more than 1 + |state|.
    """
    x, h, c, w, u, *b = args
    state = 1 + max(np.abs(h).max(), np.abs(c).max())
    row = np.abs(w).sum(1).max() * np.abs(x).max() + np.abs(u).sum(1).max() * state
    magnitude = row + sum(np.abs(bias).max() for bias in b)
    return 2 * 4 * state * ((I + H + 2) * U * magnitude + 32 * U)


# The equations, with one matrix for each gate: the gates' places in W are written in `slots`.


def rnn_by_hand(x, h, c, w, u, bx, bh):
    return np.tanh(x @ w.T + bx + h @ u.T + bh)


def lstm_by_hand(x, h, c, w, u, b, slots="ifgo"):
    z = {g: (x @ w.T + h @ u.T + b)[:, k * H : (k + 1) * H] for k, g in enumerate(slots)}
    c = sigma(z["f"]) * c + sigma(z["i"]) * np.tanh(z["g"])
    return sigma(z["o"]) * np.tanh(c), c


def gru_by_hand(x, h, c, w, u, bx, bh, slots="rzn", reset="after"):
    zx = {g: (x @ w.T + bx)[:, k * H : (k + 1) * H] for k, g in enumerate(slots)}
    zh = {g: (h @ u.T + bh)[:, k * H : (k + 1) * H] for k, g in enumerate(slots)}
    r, z = sigma(zx["r"] + zh["r"]), sigma(zx["z"] + zh["z"])
    k = slots.index("n")
    rows = slice(k * H, (k + 1) * H)
    recurrent = r * zh["n"] if reset == "after" else (r * h) @ u[rows].T + bh[rows]
    return (1 - z) * np.tanh(zx["n"] + recurrent) + z * h


def within(got, expected, tolerance) -> bool:
    return bool((np.abs(got - expected) <= tolerance).all())


@pytest.mark.parametrize("seed", range(5))
def test_rnn_step_is_its_equation(seed):
    args = arguments(1, 2, seed)
    x, h, _, w, u, bx, bh = args
    y, state = cells.rnn_step(x, h, w, u, bx, bh)
    assert y is state
    assert within(y, rnn_by_hand(*args), bound(*args))


@pytest.mark.parametrize("seed", range(5))
def test_lstm_step_is_its_equations(seed):
    args = arguments(4, 1, seed)
    x, h, c, w, u, b = args
    y, (new_h, new_c) = cells.lstm_step(x, (h, c), w, u, b)
    by_hand = lstm_by_hand(*args)
    assert y is new_h
    assert within(new_h, by_hand[0], bound(*args)) and within(new_c, by_hand[1], bound(*args))


@pytest.mark.parametrize("seed", range(5))
def test_gru_step_is_its_equations(seed):
    args = arguments(3, 2, seed)
    x, h, _, w, u, bx, bh = args
    y, state = cells.gru_step(x, h, w, u, bx, bh)
    assert y is state
    assert within(y, gru_by_hand(*args), bound(*args))


def test_no_other_order_of_gates_and_no_other_reset_fits():
    args = arguments(4, 1)
    x, h, c, w, u, b = args
    _, (new_h, _) = cells.lstm_step(x, (h, c), w, u, b)
    fitting = [
        "".join(slots)
        for slots in itertools.permutations("ifgo")
        if within(lstm_by_hand(*args, slots)[0], new_h, 1e-3)
    ]
    assert fitting == ["ifgo"] == [cells.LSTM_GATES]

    args = arguments(3, 2)
    x, h, c, w, u, bx, bh = args
    new_h, _ = cells.gru_step(x, h, w, u, bx, bh)
    fitting = [
        "".join(slots)
        for slots in itertools.permutations("rzn")
        if within(gru_by_hand(*args, slots), new_h, 1e-3)
    ]
    assert fitting == ["rzn"] == [cells.GRU_GATES]
    assert not within(gru_by_hand(*args, reset="before"), new_h, 1e-3)


STEPS = [(cells.rnn_step, 1, 2), (cells.lstm_step, 4, 1), (cells.gru_step, 3, 2)]


@pytest.mark.parametrize("step, gates, biases", STEPS, ids=["rnn", "lstm", "gru"])
def test_a_step_serves_arrays_and_tensors_with_the_same_bits(step, gates, biases):
    x, h, c, *weights = arguments(gates, biases)
    state = (h, c) if step is cells.lstm_step else h
    y, new = step(x, state, *weights)
    assert isinstance(y, np.ndarray)
    tensors = [mg.tensor(w, requires_grad=True) for w in weights]
    z, new_z = step(x, state, *tensors)
    assert isinstance(z, Tensor) and z.requires_grad
    assert np.array_equal(y, z.data)
    last = lambda s: s[1] if isinstance(s, tuple) else s  # noqa: E731
    assert np.array_equal(last(new), last(new_z).data)


@pytest.mark.parametrize("step, gates, biases", STEPS, ids=["rnn", "lstm", "gru"])
def test_a_step_sends_a_gradient_to_every_argument(step, gates, biases):
    args = [mg.tensor(a, requires_grad=True) for a in arguments(gates, biases)]
    x, h, c, *weights = args
    y, _ = step(x, (h, c) if step is cells.lstm_step else h, *weights)
    y.sum().backward()
    for i, a in enumerate(args):
        if a is c and step is not cells.lstm_step:
            assert a.grad is None
        else:
            assert np.abs(a.grad.data).min() > 0, i


# --- the cells -----------------------------------------------------------------------------------

CELLS = [(mg.nn.RNNCell, 1), (mg.nn.LSTMCell, 4), (mg.nn.GRUCell, 3)]


@pytest.mark.parametrize("kind, gates", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_cell_has_the_names_and_shapes_of_pytorch(kind, gates, dtype):
    cell = kind(I, H, dtype=dtype, rng=0)
    assert [(k, v.shape, v.dtype) for k, v in cell.state_dict().items()] == [
        ("weight_ih", (gates * H, I), dtype),
        ("weight_hh", (gates * H, H), dtype),
        ("bias_ih", (gates * H,), dtype),
        ("bias_hh", (gates * H,), dtype),
    ]
    assert list(kind(I, H, bias=False).state_dict()) == ["weight_ih", "weight_hh"]


@pytest.mark.parametrize("kind, gates", CELLS)
def test_a_cell_is_its_step(kind, gates):
    cell = kind(I, H, rng=0)
    x, h, c, *_ = arguments(gates, 1)
    w, u, bx, bh = cell.state_dict().values()
    if kind is mg.nn.LSTMCell:
        y, (new_h, new_c) = cell(x, (h, c))
        expected = cells.lstm_step(x, (h, c), w, u, bx + bh)[1]
        assert np.array_equal(new_h.data, expected[0]) and np.array_equal(new_c.data, expected[1])
    else:
        y, new_h = cell(x, h)
        step = cells.rnn_step if kind is mg.nn.RNNCell else cells.gru_step
        assert np.array_equal(new_h.data, step(x, h, w, u, bx, bh)[0])
    assert np.array_equal(y.data, new_h.data)


@pytest.mark.parametrize("kind, gates", CELLS)
def test_without_a_bias_a_cell_adds_nothing(kind, gates):
    bare, full = kind(I, H, bias=False, rng=0), kind(I, H, rng=0)
    full.bias_ih.data[...] = full.bias_hh.data[...] = 0
    x, h, c, *_ = arguments(gates, 1)
    state = (h, c) if kind is mg.nn.LSTMCell else h
    assert np.array_equal(bare(x, state)[0].data, full(x, state)[0].data)


@pytest.mark.parametrize("kind, gates", CELLS)
def test_initial_states_are_zeros_of_the_right_kind(kind, gates):
    state = kind(I, H, rng=0).initial_state(N, np.float32)
    parts = state if isinstance(state, tuple) else (state,)
    assert len(parts) == (2 if kind is mg.nn.LSTMCell else 1)
    for part in parts:
        assert isinstance(part, Tensor) and not part.requires_grad
        assert part.shape == (N, H) and part.dtype == np.float32 and not part.data.any()


@pytest.mark.parametrize("kind, gates", CELLS)
def test_weights_are_drawn_from_the_seed_within_their_bounds(kind, gates):
    first, again, other = (kind(I, 16, rng=seed).state_dict() for seed in (0, 0, 1))
    for name, value in first.items():
        assert np.array_equal(value, again[name]) and not np.array_equal(value, other[name])
        assert 0.15 < np.abs(value).max() <= 1 / 4  # uniform in +-1/sqrt(16)
    rng = np.random.default_rng(0)
    one, two = kind(I, H, rng=rng), kind(I, H, rng=rng)
    assert not np.array_equal(one.weight_ih.data, two.weight_ih.data)


def test_a_cell_must_be_written():
    cell = mg.nn.Cell()
    with pytest.raises(NotImplementedError, match=r"^Cell must define initial_state$"):
        cell.initial_state(1, float)
    with pytest.raises(NotImplementedError, match=r"^Cell must define __call__$"):
        cell(np.ones((1, 1)), np.ones((1, 1)))


@pytest.mark.parametrize("kind, gates", CELLS)
def test_a_step_that_does_not_fit_is_refused(kind, gates):
    cell = kind(I, H, rng=0)
    x, h, c, *_ = arguments(gates, 1)
    state = (h, c) if kind is mg.nn.LSTMCell else h
    with pytest.raises(ShapeError, match=r"got \(4, 2\) and \(\d+, 3\)"):
        cell(x[:, :2], state)
    with pytest.raises(
        DtypeError, match="expected float32 like the arguments before it, got float64"
    ):
        cell(x.astype(np.float32), state)


def test_the_equations_stand_in_the_docstrings():
    for name in ("rnn_step", "lstm_step", "gru_step"):
        text = inspect.getdoc(getattr(cells, name))
        assert "h(t) = " in text and "Source: " in text
