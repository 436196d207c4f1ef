"""Laws over time hold for right recurrences, and each of them finds what it is there for."""

import numpy as np
import pytest
from recurrences import RIGHT, Leaky, caught, of_rnn, trials

import minigrad as mg
from minigrad.testing import recurrence
from minigrad.testing.cell_info import CellInfo
from minigrad.testing.cell_laws import CELL_LAWS, check_cell
from minigrad.testing.example import Sequences
from minigrad.testing.laws import Trial
from minigrad.testing.recurrence import of_cell, of_pair

IDS = ("C1", "C2", "C3", "C4", "C10", "C14", "C20")


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("id", IDS)
def test_a_right_recurrence(id, name):
    info = RIGHT[name]()
    if reason := CELL_LAWS[id].unless(info):
        assert reason == "a single step: code written by hand has none"
        return
    made, finding = trials(info, id, 8)
    assert finding is None, finding
    # Where nothing is compared to the bit, an error of 1e-12 would have been seen.
    assert all(t.resolution < 1e-12 for t in made)


BY_HAND = [
    ("C1", "last step skipped"),
    ("C1", "first state at every step"),
    ("C1", "truncated"),
    ("C1", "no gradient of h0, one step"),
    ("C1", "last input gradient missing"),
    ("C2", "U overwritten"),
    ("C2", "first step left out"),
    ("C2", "x of the step before"),
    ("C3", "no steps, no state"),
    ("C3", "no steps, the cotangent itself"),
    ("C10", "reads ahead"),
    ("C10", "mean over time"),
    ("C14", "c's cotangent ignored"),
    ("C14", "h's cotangent ignored"),
    ("C14", "no gradient of c0"),
    ("C20", "U overwritten"),
    ("C20", "bias not cleared"),
    ("C20", "kept by the last call"),
]


@pytest.mark.parametrize(("id", "bug"), BY_HAND)
def test_a_bug_by_hand(id, bug):
    finding = caught(of_rnn(bug), id)
    assert finding.facts["gates"] == {} and finding.facts["T"] >= 0


class Begins(mg.nn.RNNCell):
    """What `begin` returns is not what the cell is."""

    def __call__(self, x, state):
        return self.step(x, state, *self.weights())


class ForgetsFirst(Begins):
    def begin(self):
        first = [True]

        def step(x, h):
            h = 0 * h if first.pop() else h
            first.append(False)
            return self(x, h)

        return step


class NoBias(Begins):
    def begin(self):
        W, U, b, _ = self.weights()
        return lambda x, h: self.step(x, h, W, U, b, 0 * b)


class FixedWeight(Begins):
    def begin(self):
        W, U, *biases = self.weights()
        return lambda x, h: self.step(x, h, W, U.detach(), *biases)


class LearnsOnce(Begins):
    """Only the first step of a sequence has a gradient of U."""

    def begin(self):
        W, U, *biases = self.weights()
        us = [U, U.detach()]
        return lambda x, h: self.step(x, h, W, us.pop(0) if len(us) > 1 else us[0], *biases)


class CutsC(mg.nn.LSTMCell):
    def __call__(self, x, state):
        h, c = state
        return self.step(x, (h, c.detach()), *self.weights())


class CutsH(mg.nn.LSTMCell):
    def __call__(self, x, state):
        y, (h, c) = self.step(x, state, *self.weights())
        return y, (h.detach(), c)


@pytest.mark.parametrize(
    ("id", "cell"),
    [
        ("C1", ForgetsFirst),
        ("C1", LearnsOnce),
        ("C2", LearnsOnce),
        ("C4", ForgetsFirst),
        ("C4", NoBias),
        ("C4", FixedWeight),
        ("C14", CutsH),
        ("C20", LearnsOnce),
        ("C20", FixedWeight),
    ],
)
def test_a_bug_in_a_cell(id, cell):
    caught(CellInfo(of_cell(cell)), id)


def test_a_part_of_the_state_without_a_gradient():
    finding = caught(CellInfo(of_cell(CutsC)), "C14")
    assert finding.input == "c0" and finding.axes == ("row", "unit")
    assert not finding.facts["gradients"]["c0"].any()


def test_a_state_that_nothing_depends_on_may_have_no_gradient():
    """A part of the state that the cell ignores; an output that does not depend on anything."""

    def forward(xs, h, c, w, lengths=None):
        return 1 + 0 * np.cumsum(w * xs, 0), h + (w * xs).sum(0), 0 * c

    def vjp(g, out, xs, h, c, w, lengths=None):
        dh = g[1]
        dxs = np.broadcast_to(w * dh, xs.shape).copy()
        return dxs, dh.copy(), np.zeros_like(c), (xs.sum(0) * dh).sum(0)

    info = CellInfo(of_pair(forward, vjp, lambda I, H: ([(I,), (H,)], {"w": (I,)})))  # noqa: E741
    case = Sequences(3, 2, 2, 2)
    CELL_LAWS["C14"].check(Trial(), info, case)


def unfold_like(change):
    def unfold(cell, xs, state=None, lengths=None, reverse=False, fused="auto"):
        return change(cell, xs, state, lengths)

    return unfold


def test_no_steps_of_a_cell(monkeypatch):
    fresh = unfold_like(
        lambda c, xs, s, n: mg.unfold(c, xs, s if len(xs) else c.initial_state(xs.shape[1], float))
    )
    monkeypatch.setattr(recurrence, "unfold", fresh)
    finding = caught(RIGHT["GRUCell"](), "C3")
    assert finding.what == "the last h after no steps"
    cut = unfold_like(lambda c, xs, s, n: mg.unfold(c, xs, s if len(xs) else mg.detach_state(s)))
    monkeypatch.setattr(recurrence, "unfold", cut)
    assert caught(RIGHT["LSTMCell"](), "C3").what == "the gradient of h0 after no steps"


def test_a_cell_that_sees_the_whole_sequence(monkeypatch):
    centred = unfold_like(lambda c, xs, s, n: mg.unfold(c, xs - mg.tensor(0.1) * xs.sum(0), s, n))
    monkeypatch.setattr(recurrence, "unfold", centred)
    assert caught(CellInfo(of_cell(Leaky)), "C10").what.startswith("ys before step")


def test_gradients_alone_that_look_ahead(monkeypatch):
    """The values are right, the gradient of an output reaches inputs after it."""

    def change(c, xs, s, n):
        ahead = xs - xs.detach() if len(xs) else xs
        return mg.unfold(c, xs + (ahead.sum(0) if len(xs) else 0), s, n)

    monkeypatch.setattr(recurrence, "unfold", unfold_like(change))
    finding = caught(CellInfo(of_cell(Leaky)), "C10")
    assert finding.what.startswith("the gradient of xs from step")


def test_a_gradient_of_the_weights_by_step():
    finding = caught(of_rnn("U overwritten"), "C20")
    assert finding.input == "U" and finding.axes == ("unit", "column")
    steps = finding.facts["steps"]["U"]
    assert len(steps) == finding.facts["T"]
    assert np.allclose(steps.sum(0), finding.numeric) and np.allclose(steps[0], finding.analytic)


def test_gates_have_letters():
    gates = CellInfo(of_cell(mg.nn.LSTMCell)).gates
    assert gates == dict.fromkeys(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), "ifgo")
    assert set(RIGHT["GRUCell-before"]().gates.values()) == {"rzn"}
    assert RIGHT["RNNCell"]().gates == {} == of_rnn().gates

    def shapes(I, H):  # noqa: E741
        return [(H,)], {"W": (2 * H, I), "peephole": (3, H), "b": (6,)}

    assert CellInfo(of_pair(len, len, shapes)).gates == {"W": "01"}
    assert CellInfo(of_pair(len, len, shapes), gates={"W": "zn"}).gates == {"W": "zn"}


def test_bits_are_noted_for_cells_that_promise_none():
    result = check_cell(Leaky, laws=["C1"], examples=5, seed=0).check.run_law("C1")
    assert result.verdict == "pass" and result.notes["bits"].endswith(f"of {result.examples}")
    notes = check_cell(mg.nn.LSTMCell, laws=["C3"]).check.run_law("C3", 10, 0).notes
    assert notes == {"bits": "3 of 3"}


def test_the_laws_stand_in_order():
    check = check_cell(mg.nn.LSTMCell).check
    assert list(check.laws) == sorted(check.laws, key=lambda id: (id[0] != "P", int(id[1:])))
