"""What learners fall into with other libraries, one section a trap, and what meets them here."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import cells, kernels
from minigrad.backward import gradients
from minigrad.graph import Tensor

T, N, I, H = 7, 4, 3, 2  # noqa: E741
U = np.finfo(float).eps / 2


def leaf(value) -> Tensor:
    return mg.tensor(value, dtype=np.float64, requires_grad=True)


def normal(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def lines(error: Exception | Warning) -> list[str]:
    """The three lines of a message, without their indents and labels."""
    what, expected, remedy = str(error).split("\n")
    assert expected.startswith("  ") and remedy.startswith("  remedy: ")
    return [what, expected.strip(), remedy.removeprefix("  remedy: ")]


def refusal(kind: type[Exception], f, *args, **kwargs) -> list[str]:
    with pytest.raises(kind) as caught:
        f(*args, **kwargs)
    return lines(caught.value)


def parts(state) -> tuple:
    return state if isinstance(state, tuple) else (state,)


# --- 1. a second backward pass corrupts ----------------------------------------------------------


def test_two_passes_over_one_graph_give_twice_the_gradient_and_not_three_times():
    """The example that goes wrong where interior nodes keep their gradient: 1 and then 3."""
    a, b, d = leaf(3.0), leaf(2.0), leaf(1.0)
    inner = a + b
    e = inner * d
    found = []
    for _ in range(2):
        e.backward(retain_graph=True)
        found.append((a.grad.item(), b.grad.item(), d.grad.item()))
    assert found == [(1.0, 1.0, 5.0), (2.0, 2.0, 10.0)]
    assert inner.grad is e.grad is None


@given(
    st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99), st.integers(0, 99)), max_size=8),
    st.integers(1, 6),
    st.lists(st.integers(-3, 3), min_size=3, max_size=3),
)
def test_n_passes_give_exactly_n_times_the_gradient(steps, n, values):
    """On any graph; small whole numbers, so that sums are exact."""
    functions = {"+": mg.add, "-": mg.subtract, "*": mg.multiply}
    leaves = [leaf(v) for v in values]
    made = list(leaves)
    for name, i, j in steps:
        x, y = made[i % len(made)], made[j % len(made)]
        if name == "*" and len(made) > 6:  # no more squares of squares: they would not be exact
            name = "+"
        made.append(functions[name](x, y))
    made.append(made[-1] + made[0])
    once = gradients([made[-1]], leaves)
    for _ in range(n):
        made[-1].backward(retain_graph=True)
    for x, g in zip(leaves, once, strict=True):
        assert (x.grad is None) == (g is None)
        assert g is None or x.grad.item() == n * g.item()
    assert all(t.grad is None for t in made[3:])


# --- 2. zero_grad is forgotten -------------------------------------------------------------------


def forgetful(optimizer, p, steps=3):
    for _ in range(steps):
        (p * p).sum().backward()
        optimizer.step()


def test_a_forgotten_zero_grad_is_told_once_and_by_name():
    layer = mg.nn.Linear(2, 1, rng=0)
    optimizer = mg.optim.SGD(layer.named_parameters(), lr=0.1)
    with pytest.warns(mg.GradientWarning) as caught:
        forgetful(optimizer, layer.weight)
    (warning,) = caught
    assert lines(warning.message) == [
        "SGD.step: the gradient of weight",
        "expected that of one backward pass, got the sum of 2",
        "call zero_grad() before each backward pass; if the sum is meant, run the passes within "
        "`with optimizer.accumulate():`",
    ]
    assert warning.filename == __file__


def test_without_names_a_parameter_is_told_by_place_and_shape():
    p = mg.nn.Parameter(np.ones((2, 3)))
    with pytest.warns(mg.GradientWarning, match=r"^Adam\.step: the gradient of parameter 0 \(2, 3"):
        forgetful(mg.optim.Adam([p]), p)


@pytest.mark.parametrize("clear", ["optimizer", "module", "by hand"])
def test_who_clears_is_not_warned(clear):
    layer = mg.nn.Linear(2, 1, bias=False, rng=0)
    optimizer = mg.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        if clear == "optimizer":
            optimizer.zero_grad()
        elif clear == "module":
            layer.zero_grad()
        else:
            layer.weight.grad = None
        forgetful(optimizer, layer.weight, steps=1)


def test_what_is_summed_on_purpose_is_no_mistake():
    p, q = mg.nn.Parameter(np.array([1.0])), mg.nn.Parameter(np.array([1.0]))
    one, two = mg.optim.SGD([p], lr=0.5), mg.optim.SGD([q], lr=0.5)
    for _ in range(2):
        one.zero_grad(), two.zero_grad()
        with one.accumulate():
            for part in (0.25, 0.5):
                (p * p * part).sum().backward()
        one.step()
        (q * q * 0.75).sum().backward()
        two.step()
        assert p.data == q.data
    with one.accumulate():  # a step within is no mistake either
        forgetful(one, p)


def test_a_block_of_passes_counts_as_one_so_that_forgetting_still_shows():
    p = mg.nn.Parameter(np.array([1.0]))
    optimizer = mg.optim.SGD([p], lr=0.5)
    for warned in (False, True):
        with optimizer.accumulate():
            for _ in range(3):
                (p * 2).sum().backward()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer.step()
        assert [str(w.message).split("\n")[1] for w in caught] == warned * [
            "  expected that of one backward pass, got the sum of 2"
        ]


def test_the_functional_layer_has_no_such_state():
    p = mg.nn.Parameter(np.array([1.0]))
    for _ in range(3):
        gradients([(p * p).sum()], [p])
    forgetful(mg.optim.SGD([p], lr=0.1), p, steps=1)


# --- 3. a zero is shown for what was not computed ------------------------------------------------


def test_no_gradient_is_none_and_not_zero():
    x, unreached, constant = leaf([1.0]), leaf([1.0]), mg.tensor([1.0])
    y = x * 0 * constant
    assert x.grad is None
    y.sum().backward()
    assert x.grad.data.tolist() == [0.0]  # computed, and zero
    assert unreached.grad is constant.grad is y.grad is None
    assert gradients([x * 2], [unreached, constant]) == [None, None]
    halve = mg.Op("halve", lambda a, by: a / by, vjps=[lambda g, out, a, by: g / by, None])
    halve(x, unreached).sum().backward()
    assert unreached.grad is None  # not differentiable is not zero


def test_a_step_without_any_gradient_is_refused_and_counts_for_nothing():
    layer = mg.nn.Linear(2, 1, rng=0)
    optimizer = mg.optim.Adam(layer.parameters())
    with mg.no_grad():
        layer(np.ones((1, 2))).sum()
    assert refusal(mg.GradientError, optimizer.step) == [
        "Adam.step: no parameter has a gradient",
        "expected a backward pass that reaches one of 2, got none since zero_grad()",
        "call loss.backward() first; check that the loss is computed from these very parameters, "
        "not under no_grad() and without .detach()",
    ]
    assert optimizer.steps == 0


# --- 4. the state is not cut from its past -------------------------------------------------------

CARRIED = [
    (mg.nn.LSTM(I, H, rng=0), "stack"),
    (mg.nn.Recurrent(mg.nn.LSTMCell(I, H, rng=0)), "lstm"),
    (mg.nn.Recurrent(mg.nn.RNNCell(I, H, rng=0)), "stack"),
]


@pytest.mark.parametrize("layer, op", CARRIED, ids=["layers", "fused", "unfolded"])
def test_a_state_carried_without_a_cut_says_which_call_is_missing(layer, op):
    ys, state = layer(normal(T, N, I))
    ys.sum().backward()
    ys, _ = layer(normal(T, N, I), state)
    what, expected, remedy = refusal(mg.GraphFreedError, ys.sum().backward)
    assert what.startswith("backward: through ") and what.endswith(", whose graph is gone")
    assert expected == "expected a graph that no earlier backward pass has used up"
    assert remedy == (
        "run the forward pass again, or pass retain_graph=True to the first backward; "
        "for a state carried on from an earlier piece of a sequence: mg.detach_state(state)"
    )
    ys, _ = layer(normal(T, N, I), mg.detach_state(state))
    ys.sum().backward()


def test_the_error_names_the_line_that_made_the_old_state():
    x = leaf([1.0])
    h = mg.tanh(x)
    h.node.where = "model.py:41"  # what mg.debug() notes
    h.sum().backward()
    what, *_ = refusal(mg.GraphFreedError, (h * 2).sum().backward)
    assert what == "backward: through tanh (model.py:41), whose graph is gone"


def test_states_of_any_form_are_cut():
    h, a = leaf([1.0]) * 2, np.ones(2)
    state = {"layers": [cells.LSTMState(h, h), (h, None)], "window": a}
    cut = mg.detach_state(state)
    first, second = cut["layers"]
    assert type(first) is cells.LSTMState and type(second) is tuple
    assert not any(t.requires_grad for t in (*first, second[0]))
    assert first.h.data is h.data and second[1] is None and cut["window"] is a
    assert refusal(mg.UsageError, mg.detach_state, [h, "text"]) == [
        "detach_state: the state",
        "expected a tensor, an array, None, or a tuple, list or dict of them, got str",
        "detach the tensors that it holds with .detach()",
    ]


MODELS = [
    mg.nn.LSTM(I, H, num_layers=2, rng=0),
    mg.nn.GRU(I, H, batch_first=True, reset="before", rng=0),
    mg.nn.RNNCell(I, H, rng=0),
    mg.nn.LSTMCell(I, H, rng=0),
]


def run_whole(model, xs, state, lengths):
    if isinstance(model, mg.nn.Cell):
        return mg.unfold(model, xs, state, lengths)
    return model(xs, state, lengths)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("lengths", [None, (7, 0, 3, 4)], ids=["full", "ragged"])
@pytest.mark.parametrize("k", [1, 3, 7, 100])
def test_truncated_passes_see_their_own_piece_only(model, lengths, k):
    """Against a run of each piece by itself from a constant state, and the whole run's values."""
    axis = int(getattr(model, "batch_first", False))
    shape = (N, T, I) if axis else (T, N, I)
    xs, parameters = leaf(normal(*shape)), list(model.parameters())
    whole, end = run_whole(model, xs.data, None, lengths)

    values, start, begun = [], None, 0
    for steps, ys, last in mg.tbptt(model, xs, k, lengths=lengths):  # noqa: B007
        assert (steps.start, steps.stop) == (begun, min(begun + k, T))
        begun = steps.stop
        here = (slice(None),) * axis + (steps,)
        left = None if lengths is None else np.clip(np.array(lengths) - steps.start, 0, k)
        left = None if left is None else np.minimum(left, steps.stop - steps.start)
        alone = leaf(xs.data[here])
        ys_alone, state_alone = run_whole(model, alone, start, left)
        expected = gradients([(ys_alone * ys_alone).sum()], [alone, *parameters])

        xs.grad = None
        model.zero_grad()
        (ys * ys).sum().backward()
        beyond = xs.grad.data.copy()
        assert np.array_equal(beyond[here], expected[0])
        beyond[here] = 0
        assert not beyond.any()
        for p, g in zip(parameters, expected[1:], strict=True):
            assert np.array_equal(p.grad.data, g)
        values.append(ys.data)
        start = mg.detach_state(state_alone)
    assert begun == T
    same = np.array_equal if kernels.backend() == "c" else np.allclose
    assert same(np.concatenate(values, axis), whole.data)
    assert type(last) is type(end)
    assert all(same(a.data, b.data) for a, b in zip(parts(last), parts(end), strict=True))
    model.zero_grad()


def test_truncated_passes_begin_with_a_state_and_take_lists_and_functions():
    cell = mg.nn.RNNCell(I, H, rng=0)
    rows = [normal(5, I), normal(2, I, seed=1)]
    ys, last = mg.unfold(cell, rows, np.ones((2, H)))
    *_, (_, zs, state) = mg.tbptt(cell, rows, 4, state=np.ones((2, H)))
    same = np.array_equal if kernels.backend() == "c" else np.allclose
    assert same(zs.data, ys.data[4:]) and same(state.data, last.data)

    def running_sum(x, state):
        total = x.sum(0) + (0 if state is None else state)
        return total, total

    found = [s.tolist() for _, _, s in mg.tbptt(running_sum, np.ones((5, 1)), 2)]
    assert found == [[2.0], [4.0], [5.0]]
    assert list(mg.tbptt(cell, np.ones((0, 2, I)), 3)) == []


def test_truncated_passes_refuse_what_has_no_meaning():
    cell, xs = mg.nn.RNNCell(I, H, rng=0), np.ones((T, N, I))
    for k in (0, -1, 2.5, True, None, "2"):
        assert refusal(mg.UsageError, mg.tbptt, cell, xs, k)[:2] == [
            "tbptt: k",
            f"expected a number of steps from 1, got {k!r}",
        ]
    for backwards in (mg.nn.LSTM(I, H, bidirectional=True), mg.nn.Recurrent(cell, reverse=True)):
        assert refusal(mg.UsageError, mg.tbptt, backwards, xs, 2) == [
            f"tbptt: of {type(backwards).__name__}",
            "expected a model that reads forward in time, got one that reads backwards",
            "a state can be carried forward only: give each piece to the model by itself",
        ]
    assert refusal(mg.UsageError, next, mg.tbptt(lambda x, s: x, xs, 2)) == [
        "unfold: what the model returns",
        "expected a pair (output, new state), got ndarray",
        "return both, also where they are the same: return h, h",
    ]


# --- 5. batch_first leaves h_0 alone -------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [mg.nn.RNN, mg.nn.LSTM, mg.nn.GRU])
def test_a_state_that_is_batch_first_is_recognised(kind, batch_first):
    layer = kind(I, H, num_layers=2, batch_first=batch_first, rng=0)
    xs, h = np.ones((N, T, I) if batch_first else (T, N, I)), np.ones((N, 2, H))
    state = (np.ones((2, N, H)), h) if kind is mg.nn.LSTM else h
    name = "c" if kind is mg.nn.LSTM else "h"
    assert refusal(mg.ShapeError, layer, xs, state) == [
        f"{kind.__name__}: {name} of the initial state",
        "expected (num_layers * directions, N, hidden_size) = (2, 4, 2), got (4, 2, 2)",
        f"it is batch first, and batch_first does not apply to states: pass {name}.swapaxes(0, 1)",
    ]
    layer(xs, (h.swapaxes(0, 1),) * 2 if kind is mg.nn.LSTM else h.swapaxes(0, 1))  # the remedy


def test_a_state_without_the_axis_of_layers_is_recognised():
    h = np.ones((N, H))
    assert refusal(mg.ShapeError, mg.nn.GRU(I, H, rng=0), np.ones((T, N, I)), h)[2] == (
        "the axis of layers and directions is missing: pass h[None]"
    )
    mg.nn.GRU(I, H, rng=0)(np.ones((T, N, I)), h[None])
    wrong = np.ones((1, N + 1, H))
    assert refusal(mg.ShapeError, mg.nn.GRU(I, H, rng=0), np.ones((T, N, I)), wrong)[2] == (
        "a state has the rows of its xs; batch_first does not apply to it"
    )


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_sequence_of_a_wrong_shape_is_told_both_layouts_and_the_likely_slip(batch_first):
    layer = mg.nn.LSTM(I, H, batch_first=batch_first, rng=0)
    here, other = ("(N, T, I)", "(T, N, I)") if batch_first else ("(T, N, I)", "(N, T, I)")
    expected = f"expected {here} with I = 3, got {{}}; with batch_first={not batch_first} it is "
    place = "xs[None]" if batch_first else "xs[:, None]"
    cases = {
        (T, I): f"one sequence is a batch of one row: pass {place}",
        (N, I, T): "features come last: move that axis with mg.moveaxis(xs, axis, -1)",
        (T, N, I + 4): "T steps, N rows of the batch, I features",
    }
    for shape, remedy in cases.items():
        assert refusal(mg.ShapeError, layer, np.ones(shape)) == [
            "LSTM: xs",
            expected.format(shape) + other,
            remedy,
        ]
    one = np.ones((T, I))
    layer(one[None] if batch_first else one[:, None])
    layer(mg.moveaxis(np.ones((N, I, T)), 1, -1))


# --- 6. the last state and the last output of two directions -------------------------------------


@pytest.mark.parametrize("kind", [mg.nn.RNN, mg.nn.LSTM, mg.nn.GRU])
@pytest.mark.parametrize("lengths", [(T,) * N, (7, 1, 3, 4)], ids=["full", "ragged"])
def test_the_last_state_is_the_output_at_the_end_of_each_direction(kind, lengths):
    layer = kind(I, H, num_layers=2, bidirectional=True, rng=0)
    out = layer(normal(T, N, I), lengths=lengths)
    h = parts(out.state)[0].data
    forward, backward = out.ys.data[..., :H], out.ys.data[..., H:]
    for row, n in enumerate(lengths):
        assert np.array_equal(h[2, row], forward[n - 1, row])
        assert np.array_equal(h[3, row], backward[0, row])
    assert not np.array_equal(h[3, 0], backward[T - 1, 0])  # what one takes it for


def test_what_a_layer_returns_has_names_and_can_be_unpacked():
    xs = normal(T, N, I)
    layer, cell = mg.nn.LSTM(I, H, rng=0), mg.nn.LSTMCell(I, H, rng=0)
    for out in (layer(xs), mg.unfold(cell, xs), mg.nn.Recurrent(cell)(xs)):
        assert isinstance(out, mg.Output) and isinstance(out, tuple)
        ys, (h, c) = out
        assert out.ys is ys and out.state.h is h and out.state.c is c
    assert "ys[-1]" in mg.Output.__doc__


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("steps", [0, 1, T])
@pytest.mark.parametrize("lengths", [None, (0, 1, 0, 1)])
def test_the_state_of_an_lstm_keeps_its_names_however_it_is_run(fused, steps, lengths):
    lengths = lengths and np.minimum(lengths, steps)
    xs, zeros = normal(steps, N, I), np.zeros((N, H))
    cell = mg.nn.LSTMCell(I, H, rng=0)
    for state in (None, (zeros, zeros), cells.LSTMState(zeros, zeros)):
        _, last = mg.unfold(cell, xs, state, lengths, fused=fused)
        assert type(last) is cells.LSTMState
        assert type(mg.detach_state(last)) is cells.LSTMState
        _, last = mg.nn.LSTM(I, H, rng=0)(xs, lengths=lengths, fused=fused)
        assert type(last) is cells.LSTMState


# --- 8. the recursion limit ----------------------------------------------------------------------


class Leaky(mg.nn.Cell):
    def __init__(self):
        self.rate = mg.nn.Parameter(np.array([0.5]))

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.zeros((batch_size, 1), dtype))

    def __call__(self, x, h):
        h = mg.tanh(h * self.rate + x)
        return h, h


def test_a_recurrence_of_a_hundred_thousand_steps():
    limit, steps = sys.getrecursionlimit(), 100_000
    cell, xs = Leaky(), leaf(np.full((steps, 1, 1), 0.1))
    ys, last = mg.unfold(cell, xs, fused=False)
    last.sum().backward()
    h, hs = 0.0, []
    for _ in range(steps):
        h = float(kernels.tanh(np.array([h * 0.5 + 0.1]))[0])
        hs.append(h)
    assert np.array_equal(ys.data.ravel(), hs)
    # d last / d x(T-1-k) is a product of k + 1 slopes, of four roundings each, here and there
    slopes = np.array([(1 - h) * (1 + h) for h in reversed(hs[-500:])])
    expected = np.cumprod(slopes) * 0.5 ** np.arange(500)
    got = xs.grad.data.ravel()[::-1]
    assert (np.abs(got[:500] / expected - 1) <= 8 * U * np.arange(1, 501)).all()
    assert (np.abs(got[500:]) < expected[-1]).all()
    assert sys.getrecursionlimit() == limit


# --- 9. writing into an array that a graph still needs -------------------------------------------


def spoil_by_step(p, optimizer):
    optimizer.step()


def spoil_by_loading(p, optimizer):
    module = mg.nn.Module()
    module.weight = p
    module.load_state_dict({"weight": np.zeros((2, 2))})


def spoil_by_filling(p, optimizer):
    mg.nn.init.constant_(p, 0.0)


def spoil_by_a_vector(p, optimizer):
    mg.nn.utils.vector_to_parameters(np.zeros(4), [p])


@pytest.mark.parametrize(
    "spoil", [spoil_by_step, spoil_by_loading, spoil_by_filling, spoil_by_a_vector]
)
def test_a_write_between_forward_and_backward_is_caught_and_one_after_it_is_not(spoil):
    p = mg.nn.Parameter(np.ones((2, 2)))
    optimizer = mg.optim.SGD([p], lr=0.5)
    p.grad = np.ones((2, 2))
    loss = (mg.tensor(np.ones((2, 2))) @ p).sum()
    spoil(p, optimizer)
    assert refusal(mg.GradientError, loss.backward) == [
        "backward: through matmul, argument 1",
        "expected the array float64 (2, 2) of the forward pass, got one that was written to since",
        "call backward before the step of the optimiser, or run forward again",
    ]
    optimizer.zero_grad()
    for _ in range(2):
        loss = (mg.tensor(np.ones((2, 2))) @ p).sum()
        loss.backward()
        spoil(p, optimizer)
        optimizer.zero_grad()


def test_a_retained_graph_is_spoilt_by_the_step_between_two_passes():
    p = mg.nn.Parameter(np.ones(2))
    optimizer = mg.optim.SGD([p], lr=0.5)
    loss = (p * p).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    assert refusal(mg.GradientError, loss.backward)[0] == "backward: through multiply, argument 0"


def test_the_step_of_an_optimiser_spoils_its_own_parameters_only():
    p, other = mg.nn.Parameter(np.ones(2)), mg.nn.Parameter(np.ones(2))
    loss = mg.tanh(other).sum()
    p.grad = np.ones(2)
    mg.optim.SGD([p], lr=0.5).step()
    loss.backward()
    assert other.grad is not None


def test_a_frozen_parameter_that_was_written_to_is_found_when_it_is_thawed():
    p = mg.nn.Parameter(np.ones(2))
    loss = (p * p).sum()
    p.requires_grad = False
    mg.nn.init.constant_(p, 5.0)
    p.requires_grad = True
    assert refusal(mg.GradientError, loss.backward)[0] == "backward: through multiply, argument 0"


# --- 10. a GRU that disagrees with another library -----------------------------------------------


def layer_by_hand(layer, xs):
    """One layer in one direction, step by step, on plain arrays."""
    h = np.zeros((xs.shape[1], H))
    w, u, bx, bh = layer.state_dict().values()
    ys = []
    for x in xs:
        if layer.cells[0].reset == "after":
            h, _ = cells.gru_step(x, h, w, u, bx, bh)
        else:
            n = 2 * H
            h, _ = cells.gru_step_before(x, h, w, u[:n], u[n:], bx, bh[:n], bh[n:])
        ys.append(h)
    return np.stack(ys)


@pytest.mark.parametrize("reset", ["after", "before"])
def test_the_reset_of_a_gru_is_said_and_not_guessed(reset):
    xs = normal(T, N, I)
    layer = mg.nn.GRU(I, H, reset=reset, rng=0)
    ys, _ = layer(xs)
    assert np.array_equal(ys.data, layer_by_hand(layer, xs))
    cell = mg.nn.GRUCell(I, H, reset=reset, rng=0)
    assert np.array_equal(mg.unfold(cell, xs)[0].data, ys.data)


def test_the_two_resets_differ_and_after_is_what_pytorchs_names_mean():
    xs = normal(T, N, I)
    default, after, before = (
        mg.nn.GRU(I, H, rng=0, **options)(xs)[0].data
        for options in ({}, {"reset": "after"}, {"reset": "before"})
    )
    assert np.array_equal(default, after)
    assert not np.array_equal(after[0], before[0])  # even from zeros: r multiplies b_n, or not
    assert np.abs(after - before).max() > 1e-3
    one, two = (mg.nn.GRU(I, H, reset=r, rng=0) for r in ("after", "before"))
    two.load_state_dict(one.state_dict())  # nothing in a state dict says which one it is for
    assert [k for k, _ in one.named_parameters()] == [k for k, _ in two.named_parameters()]


@pytest.mark.parametrize("kind", [mg.nn.GRU, mg.nn.GRUCell])
@pytest.mark.parametrize("reset", ["both", None, True])
def test_another_reset_is_refused(kind, reset):
    assert refusal(mg.UsageError, kind, I, H, reset=reset) == [
        "GRUCell: reset",
        f'expected "after" or "before" the recurrent product, got {reset!r}',
        '"after" for weights from PyTorch, cuDNN or Keras, "before" for the original form',
    ]


def gru_before_by_hand(x, h, w, u, u_n, bx, bh, bn):
    """Cho et al. 2014, equations 5 to 8, on arrays that may be complex."""
    (xr, xz, xn), (hr, hz) = np.split(x @ w.T + bx, 3, axis=1), np.split(h @ u.T + bh, 2, axis=1)
    r, z = 1 / (1 + np.exp(-xr - hr)), 1 / (1 + np.exp(-xz - hz))
    return (1 - z) * np.tanh(xn + (r * h) @ u_n.T + bn) + z * h


def test_a_reset_before_is_its_equations_and_its_gradients_those_of_a_complex_step():
    """Along a direction v, d loss = Im loss(p + i eps v) / eps, exact but for rounding."""
    shapes = [(N, I), (N, H), (3 * H, I), (2 * H, H), (H, H), (3 * H,), (2 * H,), (H,)]
    args = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    # about 50 roundings lie on each path, of terms that are below 4 here
    tolerance = 50 * 4 * U
    y, state = cells.gru_step_before(*args)
    assert y is state
    assert np.abs(y - gru_before_by_hand(*args)).max() <= tolerance

    found = mg.grad(lambda *a: (cells.gru_step_before(*a)[0] ** 2).sum(), tuple(range(8)))(*args)
    for i, g in enumerate(found):
        v = normal(*shapes[i], seed=20 + i)
        moved = [a + 1e-30j * v if j == i else a for j, a in enumerate(args)]
        slope = (gru_before_by_hand(*moved) ** 2).sum().imag / 1e-30
        assert abs((g * v).sum() - slope) <= tolerance * (1 + np.abs(g * v).sum()), i


def test_pytorchs_gru_is_reset_after():
    torch = pytest.importorskip("torch", reason="PyTorch, an optional oracle, is not installed")
    theirs, xs = torch.nn.GRU(I, H).double(), normal(T, N, I)
    state = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    expected = theirs(torch.tensor(xs))[0].detach().numpy()
    found = {}
    for reset in ("after", "before"):
        layer = mg.nn.GRU(I, H, reset=reset)
        layer.load_state_dict(state)
        found[reset] = np.abs(layer(xs)[0].data - expected).max()
    assert found["after"] < 1e-12 < 1e-3 < found["before"]


# --- 11. two biases look like one too many -------------------------------------------------------


def shift_biases(cell, gate: int, amount: float) -> None:
    """Takes from one bias what it gives to the other, for one gate."""
    rows = slice(gate * H, (gate + 1) * H)
    cell.bias_ih.data[rows] += amount
    cell.bias_hh.data[rows] -= amount


def exact_biases(cell) -> None:
    """Biases in eighths, whose sums are exact."""
    for i, b in enumerate((cell.bias_ih, cell.bias_hh)):
        b.data[...] = np.random.default_rng(i).integers(-8, 9, b.shape) / 8


def biased(kind, gate: int | None, **options) -> np.ndarray:
    cell = kind(I, H, rng=0, **options)
    exact_biases(cell)
    if gate is not None:
        shift_biases(cell, gate, 0.5)
    return mg.unfold(cell, normal(T, N, I))[0].data


def test_only_the_sum_of_the_two_biases_matters_to_an_lstm():
    for gate in range(4):
        assert np.array_equal(biased(mg.nn.LSTMCell, None), biased(mg.nn.LSTMCell, gate))


@pytest.mark.parametrize(
    "kind, gate, options",
    [
        (mg.nn.RNNCell, 0, {}),
        (mg.nn.GRUCell, 0, {}),
        (mg.nn.GRUCell, 1, {}),
        *((mg.nn.GRUCell, gate, {"reset": "before"}) for gate in range(3)),
    ],
)
def test_only_the_sum_matters_to_an_rnn_and_to_the_gates_of_a_gru(kind, gate, options):
    """But for rounding: a step errs by some 20 roundings of numbers below 16, and adds to the
    error of the step before, that it can at most double."""
    one, two = biased(kind, None, **options), biased(kind, gate, **options)
    assert np.abs(one - two).max() <= 20 * 16 * U * 2**T


def test_the_sum_is_not_all_for_the_candidate_of_a_gru_that_resets_after():
    n = cells.GRU_GATES.index("n")
    assert np.abs(biased(mg.nn.GRUCell, None) - biased(mg.nn.GRUCell, n)).max() > 1e-2


@pytest.mark.parametrize("kind", [mg.nn.RNNCell, mg.nn.LSTMCell, mg.nn.GRUCell])
def test_both_biases_get_the_same_gradient_where_the_sum_is_all(kind):
    cell = kind(I, H, rng=0)
    (mg.unfold(cell, normal(T, N, I))[0] ** 2).sum().backward()
    one, two = cell.bias_ih.grad.data, cell.bias_hh.grad.data
    if kind is mg.nn.GRUCell:
        n = cells.GRU_GATES.index("n") * H
        assert not (one[n:] == two[n:]).any()
        one, two = one[:n], two[:n]
    assert np.array_equal(one, two)
    assert "only their sum matters" in " ".join(cells.GatedCell.__doc__.split())


# --- 12. there is no compiler --------------------------------------------------------------------


def test_without_the_extension_it_runs_and_says_so_in_one_line():
    program = (
        "import sys; sys.modules['minigrad._native'] = None\n"
        "import minigrad as mg, numpy as np\n"
        "mg.nn.LSTM(2, 3, rng=0)(np.ones((4, 1, 2)))[0].sum().backward()\n"
        "print(mg.show_config()['backend'])"
    )
    env = {k: v for k, v in os.environ.items() if k != "MINIGRAD_KERNELS"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("numpy (no C extension: ")
