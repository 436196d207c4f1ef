"""Laws over rows, lengths, directions, layers: right recurrences pass, each law finds its bugs."""

import contextlib
import sys

import numpy as np
import pytest
from recurrences import RIGHT, caught, of_rnn, rnn, shapes, trials

import minigrad as mg
from minigrad.testing import batch_laws, recurrence
from minigrad.testing.cell_info import CellInfo
from minigrad.testing.cell_laws import CELL_LAWS
from minigrad.testing.example import Sequences
from minigrad.testing.laws import NotApplicable, Trial
from minigrad.testing.recurrence import of_cell, of_pair

IDS = ("C5", "C6", "C7", "C8", "C9", "C11", "C12", "C13")
module = sys.modules["minigrad.unfold"]


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("id", IDS)
def test_a_right_recurrence(id, name):
    info = RIGHT[name]()
    if reason := CELL_LAWS[id].unless(info):
        assert reason == "reverse=: code written by hand has none"
        return
    made, finding = trials(info, id, 8)
    assert finding is None, finding
    assert all(t.resolution < 1e-12 for t in made)


BY_HAND = [
    ("C5", "lengths sorted"),
    ("C5", "rows rolled"),
    ("C6", "rows leak"),
    ("C6", "mean over rows"),
    ("C6", "one row without a state"),
    ("C7", "mask times inputs"),
    ("C7", "NaN times 0"),
    ("C7", "mask on the output only"),
    ("C7", "state mask missing backward"),
    ("C8", "c not masked"),
    ("C8", "dc not masked"),
    ("C8", "decay over padding"),
    ("C8", "mask of the first step"),
    ("C9", "one step too few in ragged rows"),
    ("C9", "mask on the output only"),
    ("C12", "dx over dy"),
    ("C12", "dys scaled"),
    ("C13", "kept by the last call"),
    ("C13", "dys scaled"),
]


@pytest.mark.parametrize(("id", "bug"), BY_HAND)
def test_a_bug_by_hand(id, bug):
    finding = caught(of_rnn(bug), id)
    assert finding.facts["N"] >= 1 and "lengths" in finding.facts


class Rolled(mg.nn.RNNCell):
    def __call__(self, x, h):
        return self.step(x, mg.roll(h, 1, 0), *self.weights())


class Sorted(mg.nn.RNNCell):
    def __call__(self, x, h):
        return self.step(mg.sort(x, 0), h, *self.weights())


class Normalised(mg.nn.RNNCell):
    """The mean over the batch is subtracted, as a batch norm does."""

    def __call__(self, x, h):
        return self.step(x, h - h.mean(0), *self.weights())


class TimesZero(mg.nn.RNNCell):
    """A row that is NaN reaches the others through a product with 0."""

    def __call__(self, x, h):
        return self.step(x + 0 * x.sum(0), h, *self.weights())


@pytest.mark.parametrize(
    ("id", "cell"), [("C5", Rolled), ("C5", Sorted), ("C6", Normalised), ("C6", TimesZero)]
)
def test_a_bug_in_a_cell(id, cell):
    caught(CellInfo(of_cell(cell)), id)


def test_padding_that_is_read(monkeypatch):
    monkeypatch.setattr(module, "_select_time", lambda active, xs: xs)
    assert "in the padding" in caught(RIGHT["GRUCell"](), "C7").what


def test_a_mask_that_multiplies(monkeypatch):
    def times(active, x, y):
        on = active.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)
        return on * x + (1 - on) * y

    monkeypatch.setattr(module, "_select", times)
    monkeypatch.setattr(module, "_select_time", lambda active, xs: xs)
    caught(RIGHT["Leaky"](), "C7")  # which has no fused path


def test_one_part_of_the_state_is_not_masked(monkeypatch):
    right = module._map

    def first_only(f, *states):
        if len(states) == 2 and isinstance(states[0], tuple):
            return (right(f, states[0][0], states[1][0]), *states[0][1:])
        return right(f, *states)

    monkeypatch.setattr(module, "_map", first_only)
    finding = caught(RIGHT["Nested"](), "C8")
    assert "the last s2" in finding.what


def test_a_mask_that_lets_no_gradient_through(monkeypatch):
    right = module._select

    def cut(active, x, y):
        return right(active, x, y.detach() if isinstance(y, mg.Tensor) else y)

    monkeypatch.setattr(module, "_select", cut)
    finding = caught(RIGHT["Leaky"](), "C8")  # which has no fused path
    assert finding.input == "h0" and finding.facts["lengths"][finding.facts["row"]] == 0


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell"])
def test_lengths_that_are_off_by_one(name, monkeypatch):
    right = module.check_lengths

    def fewer(lengths, *sizes):
        lengths = right(lengths, *sizes)
        return lengths if lengths is None else np.maximum(lengths - 1, 0)

    monkeypatch.setattr(module, "check_lengths", fewer)
    finding = caught(RIGHT[name](), "C9")
    assert "end" in finding.facts


def test_a_last_state_that_is_not_the_rows_own(monkeypatch):
    def unfold(cell, xs, state=None, lengths=None, *rest):
        ys, last = mg.unfold(cell, xs, state, lengths, *rest)
        early = lengths is not None and (np.asarray(lengths) < len(xs)).all()
        end = mg.unfold(cell, xs, state).state if early else last
        return module.Output(ys, end)

    monkeypatch.setattr(recurrence, "unfold", unfold)
    assert "the last h of row" in caught(RIGHT["RNNCell"](), "C9").what


def test_time_turned_round_with_its_padding(monkeypatch):
    monkeypatch.setattr(module, "flip_rows", lambda x, lengths=None: mg.flip(x, 0))
    assert caught(RIGHT["GRUCell"](), "C11").facts["lengths"] is not None


def test_outputs_left_in_the_order_of_reading(monkeypatch):
    right, calls = module.flip_rows, []

    def once(x, lengths=None):
        calls.append(x)
        return right(x, lengths=lengths) if len(calls) % 2 else x

    monkeypatch.setattr(module, "flip_rows", once)
    assert caught(RIGHT["LSTMCell"](), "C11").what == "ys in reverse"


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "Leaky"])
def test_two_directions_that_are_not(name, monkeypatch):
    def unfold(cell, xs, state, lengths, reverse=False, fused="auto"):
        return mg.unfold(cell, xs, state, lengths)

    monkeypatch.setattr(sys.modules["minigrad.nn.recurrent"], "unfold", unfold)
    monkeypatch.setattr(batch_laws, "unfold", unfold)
    assert caught(RIGHT[name](), "C12").what == "ys of two directions"


@pytest.mark.parametrize("name", ["GRUCell", "Nested"])
def test_one_direction_without_a_gradient(name, monkeypatch):
    def unfold(cell, xs, state, lengths, reverse=False, fused="auto"):
        if reverse and isinstance(xs, mg.Tensor):
            xs = xs.detach()
        return mg.unfold(cell, xs, state, lengths, reverse)

    monkeypatch.setattr(sys.modules["minigrad.nn.recurrent"], "unfold", unfold)
    monkeypatch.setattr(batch_laws, "unfold", unfold)
    finding = caught(RIGHT[name](), "C12")
    assert finding.what == "the gradient of xs of two directions"


@pytest.mark.parametrize("name", ["LSTMCell", "Nested"])
def test_layers_that_are_cut_apart(name, monkeypatch):
    calls = []

    def unfold(cell, xs, state, lengths, reverse=False, fused="auto"):
        calls.append(cell)
        return mg.unfold(cell, xs if len(calls) % 3 else xs.detach(), state, lengths, reverse)

    monkeypatch.setattr(sys.modules["minigrad.nn.recurrent"], "unfold", unfold)
    monkeypatch.setattr(batch_laws, "unfold", unfold)
    assert "of three layers" in caught(RIGHT[name](), "C13").what


def test_layers_that_share_a_state(monkeypatch):
    layers = sys.modules["minigrad.nn.recurrent"]._Layers
    right = layers._unstacked
    monkeypatch.setattr(
        layers, "_unstacked", lambda self, s, rows: [right(self, s, rows)[0]] * len(self.cells)
    )
    caught(RIGHT["LSTMCell"](), "C13")


def test_code_that_knows_no_lengths():
    def forward(xs, h, w):
        return w * xs, h + (w * xs).sum(0)

    def vjp(g, out, xs, h, w):
        dys, dh = g
        return w * (dys + dh), dh.copy(), ((dys + dh) * xs).sum((0, 1))

    info = CellInfo(of_pair(forward, vjp, lambda I, H: ([(I,)], {"w": (I,)})))  # noqa: E741
    ragged = Sequences(3, 2, 2, 2, lengths=(3, 1))
    for id in ("C7", "C8", "C9"):
        assert CELL_LAWS[id].unless(info) == "its forward takes no lengths"
        with pytest.raises(NotApplicable, match="takes no lengths"):
            CELL_LAWS[id].check(Trial(), info, ragged)
    for id in ("C1", "C5", "C6", "C12", "C13"):
        CELL_LAWS[id].check(Trial(), info, ragged)


def test_code_that_leaves_what_it_likes_in_the_padding():
    """By hand, outputs past a row's end may be anything: nobody reads them."""
    forward, vjp = rnn()

    def kept(xs, h, c, W, U, b, p, q, lengths=None):
        ys, h, c = forward(xs, h, c, W, U, b, p, q, lengths)
        T, N = xs.shape[:2]
        on = np.arange(T)[:, None] < (np.full(N, T) if lengths is None else lengths)
        return np.where(on[:, :, None], ys, 7.0), h, c

    info = CellInfo(of_pair(kept, vjp, shapes))
    for id in ("C1", "C5", "C6", "C7", "C8", "C9"):
        _, finding = trials(info, id, 8)
        assert finding is None, finding


class Sum(mg.nn.Cell):
    """A cell that learns nothing."""

    def __init__(self, size):
        self.size = size

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.zeros((batch_size, self.size), dtype))

    def __call__(self, x, state):
        state = state + x
        return state, state


@pytest.mark.parametrize("lengths", [None, ()])
@pytest.mark.parametrize("id", [*IDS, "C1", "C2", "C3", "C4", "C10", "C14", "C20"])
def test_no_rows_and_no_weights(id, lengths):
    summing = CellInfo(of_cell(lambda I, H: Sum(I), "sum"))  # noqa: E741
    for info in (summing, RIGHT["GRUCell"](), of_rnn()):
        for T in (0, 2):
            example = Sequences(T, 0, 3, 2, lengths=lengths)
            if CELL_LAWS[id].unless(info) is None:
                with contextlib.suppress(NotApplicable):
                    CELL_LAWS[id].check(Trial(), info, example)
    if CELL_LAWS[id].unless(summing) is None:
        _, finding = trials(summing, id, 5)
        assert finding is None, finding
