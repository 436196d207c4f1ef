"""Time: the loop over a sequence, lengths, direction, states of any form, choice of fused path."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from fused_cells import CELLS, op_of, parts
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.cells import lstm_step
from minigrad.errors import DtypeError, ShapeError, UsageError
from minigrad.graph import Tensor
from minigrad.unfold import FUSED, detach_state, fused_op, padded

T, N, I, H = 5, 4, 3, 2  # noqa: E741


class Running(mg.nn.Cell):
    """A sum over time, and how often each method was called."""

    def __init__(self):
        self.calls = {"begin": 0, "step": 0, "initial_state": 0}

    def initial_state(self, batch_size, dtype):
        self.calls["initial_state"] += 1
        return Tensor(np.zeros((batch_size, I), dtype))

    def begin(self):
        self.calls["begin"] += 1
        return self

    def __call__(self, x, state):
        self.calls["step"] += 1
        state = state + x
        return 2 * state, state


def sequence(seed=0, shape=(T, N, I), dtype=np.float64) -> np.ndarray:
    """Small whole numbers, so that sums are exact."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)


def data(value) -> np.ndarray:
    return value.data if isinstance(value, Tensor) else value


def message(error, *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        mg.unfold(*args, **kwargs)
    lines = str(caught.value).split("\n  ")
    assert len(lines) == 3 and lines[2].startswith("remedy: ")
    return "\n".join(lines[:2])


# --- the loop ------------------------------------------------------------------------------------


def test_each_step_sees_the_state_that_the_last_one_left():
    xs = sequence()
    ys, last = mg.unfold(Running(), xs)
    assert np.array_equal(data(ys), 2 * xs.cumsum(0))
    assert np.array_equal(data(last), xs.sum(0))
    start = sequence(1, (N, I))
    ys, last = mg.unfold(Running(), xs, start)
    assert np.array_equal(data(ys), 2 * (start + xs.cumsum(0)))
    assert np.array_equal(data(last), start + xs.sum(0))


def test_hooks_are_called_once_a_sequence_and_the_step_once_a_step():
    cell = Running()
    mg.unfold(cell, sequence())
    assert cell.calls == {"begin": 1, "step": T, "initial_state": 1}
    mg.unfold(cell, sequence(), sequence(1, (N, I)), lengths=[1] * N)
    assert cell.calls == {"begin": 2, "step": 2 * T, "initial_state": 1}


def test_what_depends_on_parameters_alone_is_computed_once_a_sequence():
    cell = mg.nn.LSTMCell(I, H, rng=0)
    calls, weights = [], cell.weights
    cell.weights = lambda: calls.append(1) or weights()
    for fused in (True, False):
        mg.unfold(cell, sequence(), fused=fused)
    assert len(calls) == 2


@given(st.lists(st.integers(0, T), min_size=N, max_size=N), st.booleans())
def test_lengths_and_direction_by_a_loop_over_rows(lengths, reverse):
    xs, start = sequence(), sequence(1, (N, I))
    ys, last = mg.unfold(Running(), xs, start, lengths, reverse)
    for r, n in enumerate(lengths):
        state, expected = start[r], np.zeros((T, I))
        for t in reversed(range(n)) if reverse else range(n):
            state = state + xs[t, r]
            expected[t] = 2 * state
        assert np.array_equal(data(ys)[:, r], expected)
        assert np.array_equal(data(last)[r], state)


def test_lengths_may_be_any_sequence_of_integers():
    expected = data(mg.unfold(Running(), sequence(), lengths=[1, 5, 0, 3])[0])
    for lengths in (
        (1, 5, 0, 3),
        np.array([1, 5, 0, 3], np.int32),
        np.array([1, 5, 0, 3], np.uint8),
    ):
        assert np.array_equal(data(mg.unfold(Running(), sequence(), lengths=lengths)[0]), expected)
    full = mg.unfold(Running(), sequence(), lengths=[T] * N)[0]
    assert np.array_equal(data(full), data(mg.unfold(Running(), sequence())[0]))


def test_arrays_stay_arrays_in_the_values_and_the_arguments_are_left_alone():
    xs, start = sequence(), sequence(1, (N, I))
    for a in (xs, start):
        a.flags.writeable = False
    ys, last = mg.unfold(Running(), xs, start, lengths=[1, 5, 0, 3], reverse=True)
    data(ys)[...] = 0  # a result is the caller's own
    data(last)[...] = 0


def test_the_dtype_of_the_sequence_is_kept():
    for dtype in (np.float32, np.float64):
        for fused in (True, False):
            for make in CELLS.values():
                xs, lengths = sequence(dtype=dtype), [1, 5, 0, 3]
                ys, last = mg.unfold(make(I, H, dtype=dtype, rng=0), xs, None, lengths, fused=fused)
                assert {a.dtype for a in (ys, *parts(last))} == {np.dtype(dtype)}


@pytest.mark.parametrize("kind", [mg.nn.RNNCell, mg.nn.LSTMCell, mg.nn.GRUCell])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_built_in_cell_unfolded_is_its_steps_by_hand(kind, reverse):
    cell, xs = kind(I, H, rng=0), sequence() / 9
    ys, last = mg.unfold(cell, xs, reverse=reverse)
    state, expected = cell.initial_state(N, np.float64), [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        expected[t], state = cell(xs[t], state)
    # One step's product has the chain that the sequence's has, so the bits agree in C.
    close = np.array_equal if mg.show_config()["backend"] == "c" else np.allclose
    assert close(ys.data, np.stack([y.data for y in expected]))
    pairs = zip(last, state, strict=True) if isinstance(state, tuple) else [(last, state)]
    assert all(close(a.data, b.data) for a, b in pairs)


# --- states --------------------------------------------------------------------------------------


class Nested(mg.nn.Cell):
    """A state of nested tuples: a sum, a count of steps, and the last input but one."""

    def initial_state(self, batch_size, dtype):
        zeros = Tensor(np.zeros((batch_size, I), dtype))
        return zeros, (Tensor(np.zeros((batch_size, 1, 1), dtype)), (zeros, zeros))

    def __call__(self, x, state):
        total, (count, (last, _)) = state
        return last, (total + x, (count + 1, (x, last)))


def test_a_state_may_be_nested_tuples_of_any_shapes():
    xs, lengths = sequence(), [1, 5, 0, 3]
    ys, (total, (count, (last, before))) = mg.unfold(Nested(), xs, lengths=lengths)
    assert count.shape == (N, 1, 1)
    for r, n in enumerate(lengths):
        assert np.array_equal(data(total)[r], xs[:n, r].sum(0))
        assert data(count)[r] == n
        assert np.array_equal(data(last)[r], xs[n - 1, r] if n > 0 else np.zeros(I))
        assert np.array_equal(data(before)[r], xs[n - 2, r] if n > 1 else np.zeros(I))
        expected = np.zeros((T, I))
        expected[1:n] = xs[: max(0, n - 1), r]
        assert np.array_equal(data(ys)[:, r], expected)


def test_outputs_and_inputs_may_have_any_number_of_axes():
    class Picture(mg.nn.Cell):
        def initial_state(self, batch_size, dtype):
            return Tensor(np.zeros((batch_size, 2, 3), dtype))

        def __call__(self, x, state):
            return (state + x).sum(axis=(1, 2)), state + x

    xs = sequence(shape=(T, N, 2, 3))
    ys, last = mg.unfold(Picture(), xs, lengths=[1, 5, 0, 3], reverse=True)
    assert ys.shape == (T, N) and last.shape == (N, 2, 3)
    assert np.array_equal(data(ys)[:, 1], xs[::-1, 1].cumsum(0)[::-1].sum((1, 2)))
    assert np.array_equal(data(ys)[:, 3], [*xs[2::-1, 3].cumsum(0)[::-1].sum((1, 2)), 0, 0])


def test_the_gradient_reaches_the_initial_state_the_inputs_and_the_cell():
    class Decay(mg.nn.Cell):
        def __init__(self):
            self.rate = mg.nn.Parameter(np.array(0.5))

        def initial_state(self, batch_size, dtype):
            return Tensor(np.zeros((batch_size, I), dtype))

        def __call__(self, x, state):
            state = self.rate * state + x
            return state, state

    cell, lengths = Decay(), [1, 5, 0, 3]
    xs, start = (
        mg.tensor(sequence(), requires_grad=True),
        mg.tensor(sequence(1, (N, I)), requires_grad=True),
    )
    _, last = mg.unfold(cell, xs, start, lengths)
    last.sum().backward()
    rate = 0.0
    for r, n in enumerate(lengths):
        # last = 0.5^n start + sum over t of 0.5^(n-1-t) x(t)
        assert (start.grad.data[r] == 0.5**n).all()
        for t in range(T):
            assert (xs.grad.data[t, r] == (0.5 ** (n - 1 - t) if t < n else 0)).all()
            if t < n - 1:
                rate += (n - 1 - t) * 0.5 ** (n - 2 - t) * xs.data[t, r].sum()
        if n:
            rate += n * 0.5 ** (n - 1) * start.data[r].sum()
    assert cell.rate.grad.item() == rate  # exact: all terms are whole multiples of 1/16


def test_detach_state_cuts_every_part_and_keeps_the_values():
    xs = mg.tensor(sequence(), requires_grad=True)
    _, state = mg.unfold(Nested(), xs)
    cut = detach_state(state)
    assert not any(part.requires_grad for part in (cut[0], cut[1][0], *cut[1][1]))
    assert cut[0].data is state[0].data and cut[1][1][0].data is state[1][1][0].data
    array = np.ones(2)
    assert detach_state((array, state[0]))[0] is array


@pytest.mark.parametrize("fused", [True, False])
def test_a_gradient_does_not_cross_a_detached_state(fused):
    cell, xs = mg.nn.LSTMCell(I, H, rng=0), mg.tensor(sequence() / 9, requires_grad=True)
    _, state = mg.unfold(cell, xs[:3], fused=fused)
    ys, _ = mg.unfold(cell, xs[3:], detach_state(state), fused=fused)
    ys.sum().backward()
    assert not xs.grad.data[:3].any() and (xs.grad.data[3:] != 0).all()


# --- the fused path ------------------------------------------------------------------------------


def ops_behind(tensor: Tensor) -> set[str]:
    """Names of all ops in the graph behind a tensor."""
    names, seen, stack = set(), set(), [tensor.node]
    while stack:
        node = stack.pop()
        if node.op is not None and node not in seen:
            seen.add(node)
            names.add(node.op.name)
            stack += [a.node for a in node.args if isinstance(a, Tensor) and a.node is not None]
    return names


@pytest.mark.parametrize("fused, op", [("auto", True), (True, True), (False, False)])
@pytest.mark.parametrize("name", CELLS)
def test_the_path_is_the_one_asked_for(name, fused, op):
    ys, last = mg.unfold(CELLS[name](I, H, rng=0), sequence(), fused=fused)
    for out in (ys, *parts(last)):
        assert (op_of(name).name in ops_behind(out)) == op
        assert ("affine" in ops_behind(out)) != op


@pytest.mark.parametrize("fused", ["auto", False])
def test_a_subclass_with_its_own_step_is_unfolded(fused):
    class Doubled(mg.nn.LSTMCell):
        def __call__(self, x, state):
            return super().__call__(2 * x, state)

    class Wrapped(mg.nn.LSTMCell):
        def __call__(self, x, state):
            y, state = super().__call__(x, state)
            return 2 * y, state

    class Begun(mg.nn.LSTMCell):
        def begin(self):
            step = super().begin()
            return lambda x, state: step(2 * x, state)

    plain = mg.unfold(mg.nn.LSTMCell(I, H, rng=0), 2 * sequence())[0].data
    for kind in (Doubled, Begun):
        assert fused_op(kind(I, H, rng=0)) is None
        ys, _ = mg.unfold(kind(I, H, rng=0), sequence(), fused=fused)
        np.testing.assert_allclose(ys.data, plain, rtol=1e-12)
    assert fused_op(Wrapped(I, H, rng=0)) is None
    ys, _ = mg.unfold(Wrapped(I, H, rng=0), 2 * sequence(), fused=fused)
    np.testing.assert_allclose(ys.data, 2 * plain, rtol=1e-12)


def test_a_subclass_with_another_step_function_is_not_fused():
    class Other(mg.nn.LSTMCell):
        step = staticmethod(lambda x, state, *weights: (x, state))

    assert fused_op(Other(I, H)) is None
    ys, _ = mg.unfold(Other(I, H), sequence())
    assert np.array_equal(data(ys), sequence())


def test_a_subclass_that_adds_only_parameters_is_fused():
    class Named(mg.nn.LSTMCell):
        pass

    assert fused_op(Named(I, H)) is fused_op(mg.nn.LSTMCell(I, H)) is FUSED[lstm_step]


def test_each_cell_has_the_fused_op_of_its_step():
    for name, make in CELLS.items():
        cell = make(I, H)
        assert fused_op(cell) is FUSED[cell.step] is op_of(name)
    assert len({op_of(name).name for name in CELLS}) == len(CELLS)


class Doubled(mg.nn.RNNCell):
    """A step of its own, so no fused path."""

    def __call__(self, x, state):
        return super().__call__(2 * x, state)


@pytest.mark.parametrize("cell", [Doubled(I, H), Running()])
def test_asking_for_a_fused_path_that_does_not_exist_raises(cell):
    assert message(UsageError, cell, sequence(), fused=True) == (
        f"unfold: fused=True for {type(cell).__name__}\n"
        "expected a cell with a fused path, got one that has none"
    )
    assert message(UsageError, cell, sequence(), fused="yes") == (
        "unfold: fused\nexpected True, False or \"auto\", got 'yes'"
    )


# --- nothing to do -------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", ["auto", False])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [0] * N])
@pytest.mark.parametrize("kind", [mg.nn.RNNCell, mg.nn.LSTMCell, mg.nn.GRUCell])
def test_no_steps(kind, lengths, reverse, fused):
    cell = kind(I, H, dtype=np.float32, rng=0)
    start = cell.initial_state(N, np.float32)
    for part in start if isinstance(start, tuple) else (start,):
        part.data[...] = 7
        part.requires_grad = True
    ys, last = mg.unfold(
        cell, sequence(shape=(0, N, I), dtype=np.float32), start, lengths, reverse, fused
    )
    assert ys.shape == (0, N, H) and ys.dtype == np.float32
    parts = last if isinstance(last, tuple) else (last,)
    assert all((part.data == 7).all() for part in parts)
    parts[0].sum().backward()
    assert (data((start[0] if isinstance(start, tuple) else start).grad) == 1).all()


@pytest.mark.parametrize("fused", ["auto", False])
@pytest.mark.parametrize("lengths", [None, np.zeros(0, int)])
@pytest.mark.parametrize("kind", [mg.nn.RNNCell, mg.nn.LSTMCell, mg.nn.GRUCell])
def test_no_rows(kind, lengths, fused):
    cell = kind(I, H, rng=0)
    xs = mg.tensor(sequence(shape=(T, 0, I)), requires_grad=True)
    ys, last = mg.unfold(cell, xs, lengths=lengths, reverse=lengths is not None, fused=fused)
    assert ys.shape == (T, 0, H)
    assert (last[0] if isinstance(last, tuple) else last).shape == (0, H)
    ys.sum().backward()
    assert xs.grad.shape == xs.shape
    assert not cell.weight_ih.grad.data.any() and cell.weight_hh.grad.shape == cell.weight_hh.shape


def test_lengths_all_zero():
    for fused in (True, False):
        cell, start = mg.nn.LSTMCell(I, H, rng=0), (np.full((N, H), 3.0), np.full((N, H), 4.0))
        xs = mg.tensor(np.full((T, N, I), np.nan), requires_grad=True)
        ys, (h, c) = mg.unfold(cell, xs, start, [0] * N, fused=fused)
        (ys.sum() + h.sum() + c.sum()).backward()
        assert not ys.data.any() and (h.data == 3).all() and (c.data == 4).all()
        assert not xs.grad.data.any() and not cell.weight_ih.grad.data.any()


# --- lists of sequences --------------------------------------------------------------------------


def test_a_list_of_sequences_is_padded_with_zeros_and_brings_its_lengths():
    rows = [sequence(r, (n, I)) for r, n in enumerate([2, 0, 5, 1])]
    xs, lengths = padded(rows, None)
    assert xs.shape == (5, 4, I) and lengths.tolist() == [2, 0, 5, 1] and lengths.dtype == np.int64
    for r, row in enumerate(rows):
        assert np.array_equal(xs[: len(row), r], row) and not xs[len(row) :, r].any()
    ys, last = mg.unfold(Running(), tuple(rows))
    assert np.array_equal(data(last), [row.sum(0) for row in rows])
    assert ys.shape == (5, 4, I)


def test_tensors_in_a_list_get_their_gradients():
    rows = [mg.tensor(sequence(r, (n, I)), requires_grad=True) for r, n in enumerate([2, 0, 5])]
    _, last = mg.unfold(Running(), rows)
    last.sum().backward()
    assert all(
        (row.grad.data == 1).all() and row.grad.shape == row.shape for row in rows if len(row)
    )
    assert mg.unfold(Running(), [sequence(0, (0, I))] * 2)[0].shape == (0, 2, I)


# --- errors --------------------------------------------------------------------------------------


def test_sequences_that_mean_nothing_are_refused():
    assert message(ShapeError, Running(), np.ones(3)) == (
        "unfold: xs\nexpected (T, N, ...), time first, got (3,)"
    )
    rows = [np.ones((2, 3)), np.ones((4, 5))]
    assert message(ShapeError, Running(), rows) == (
        "unfold: a list of sequences\n"
        "expected at least one, all (T_n, I) with the same I, got [(2, 3), (4, 5)]"
    )
    assert message(ShapeError, Running(), []).endswith("got []")
    message(ShapeError, Running(), [np.ones((2, 3)), np.ones((2, 3, 1))])
    assert message(UsageError, Running(), rows[:1], lengths=[2]) == (
        "unfold: lengths beside a list of sequences\nexpected one of the two, got both"
    )


@pytest.mark.parametrize("lengths", [[1, 2], [1, 2, 3, 6], [1, 2, -1, 3], [1.0, 2.0, 3.0, 4.0], 3])
@pytest.mark.parametrize("fused", [True, False])
def test_lengths_that_mean_nothing_are_refused(lengths, fused):
    got = message(ShapeError, mg.nn.LSTMCell(I, H), sequence(), lengths=lengths, fused=fused)
    assert got.startswith(
        f"lengths: one for each row of the batch\nexpected {N} integers from 0 to {T}"
    )


@pytest.mark.parametrize("fused", [True, False])
def test_a_state_or_a_sequence_that_does_not_fit_the_cell_is_refused(fused):
    cell, state = mg.nn.LSTMCell(I, H), np.zeros((N, H))
    message(ShapeError, cell, sequence(), (state, np.zeros((N, H + 1))), fused=fused)
    message(ShapeError, cell, sequence(), (np.zeros((N + 1, H)), state), fused=fused)
    message(ShapeError, cell, sequence(shape=(T, N, I + 1)), fused=fused)
    message(DtypeError, cell, sequence(dtype=np.float32), fused=fused)
    message(DtypeError, cell, sequence(), (state, state.astype(np.float32)), fused=fused)


@pytest.mark.parametrize("fused", ["auto", False])
def test_a_state_of_the_wrong_form_is_refused(fused):
    h = np.zeros((N, H))
    for state in (h, (h,), (h, h, h), [h, h]):
        message(mg.MinigradError, mg.nn.LSTMCell(I, H), sequence(), state, fused=fused)
    for kind in (mg.nn.RNNCell, mg.nn.GRUCell):
        for state in ((h,), (h, h), [h]):
            message(mg.MinigradError, kind(I, H), sequence(), state, fused=fused)


@pytest.mark.parametrize("kind", [mg.nn.RNNCell, mg.nn.LSTMCell, mg.nn.GRUCell])
def test_a_sequence_without_its_three_axes_is_refused_by_the_built_in_cells(kind):
    message(ShapeError, kind(I, H), sequence(shape=(T, I)))
    message(ShapeError, kind(I, H), sequence(shape=(T, N, 1, I)))


def test_no_warning_reaches_the_caller():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xs = np.full((T, N, I), np.inf)
        mg.unfold(mg.nn.LSTMCell(I, H, rng=0), xs, lengths=[0] * N)
