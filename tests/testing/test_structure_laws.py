"""The laws of what a cell is made of: they hold for what is right, and find planted bugs."""

from contextlib import contextmanager

import mpmath
import numpy as np
import pytest
from recurrences import HandWritten, Leaky, Three, by_hand, infos, sigmoid, tried

import minigrad as mg
from minigrad.cells import GRUCell
from minigrad.testing.cell_info import CellInfo
from minigrad.testing.recurrence import of_cell, of_pair
from minigrad.testing.structure_laws import axes_of, family, reference_of

LAWS = ("C21", "C22", "C23", "C28")
INFOS = infos()
OWN = {"Leaky", "Nested", "Three", "Zoneout", "by hand"}  # no letters of gates, no reference


@pytest.mark.parametrize("name", INFOS)
@pytest.mark.parametrize("id", LAWS)
def test_holds(id, name):
    result = tried(id, INFOS[name], 8)
    expected = "skip" if id in ("C23", "C28") and name in OWN else "pass"
    if (id, name) == ("C22", "Nested"):  # its state has features, too
        expected = "skip"
    assert result.verdict == expected, result.finding
    assert result.verdict != "skip" or result.reason


# --- other forms of the same recurrence ----------------------------------------------------------


class Joined(HandWritten):
    """One matrix for h and x side by side, and gates unit by unit."""

    def apart(self, M, H):
        by_gate = np.arange(4 * H).reshape(H, 4).T.reshape(-1)
        return by_gate, M[by_gate, H:], M[by_gate, :H]

    def forward(self, xs, h, c, M, b, lengths=None):
        rows, W, U = self.apart(M, h.shape[1])
        return super().forward(xs, h, c, W, U, b[rows], lengths=lengths)

    def vjp(self, gs, out, xs, h, c, M, b, lengths=None):
        rows, W, U = self.apart(M, h.shape[1])
        dx, dh, dc, dW, dU, db = super().vjp(gs, out, xs, h, c, W, U, b[rows], lengths=lengths)
        dM, d = np.zeros_like(M), np.zeros_like(b)
        dM[rows], d[rows] = np.concatenate([dU, dW], axis=1), db
        return dx, dh, dc, dM, d


def joined(code) -> CellInfo:
    def shapes(I, H):  # noqa: E741
        return [(H,), (H,)], {"M": (4 * H, H + I), "b": (4 * H,)}

    return CellInfo(of_pair(code.forward, code.vjp, shapes, "joined"))


@pytest.mark.parametrize("id", ["C21", "C22"])
def test_holds_of_a_joined_matrix(id):
    assert tried(id, joined(Joined()), 10).verdict == "pass"


class Apart(mg.nn.Cell):
    """A matrix and a bias for each gate."""

    def __init__(self, input_size, hidden_size, rng=0):
        rng, self.hidden_size = np.random.default_rng(rng), hidden_size
        for gate in "fg":
            for name, shape in (("W", (hidden_size, input_size)), ("b", (hidden_size,))):
                setattr(self, f"{name}_{gate}", mg.nn.Parameter(rng.normal(size=shape)))

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.zeros((batch_size, self.hidden_size), dtype))

    def __call__(self, x, h):
        f = mg.sigmoid(mg.affine(x, self.W_f, self.b_f))
        h = f * h + mg.tanh(mg.affine(x, self.W_g, self.b_g))
        return h, h


def test_holds_of_gates_apart():
    assert tried("C22", CellInfo(of_cell(Apart)), 10).verdict == "pass"


# --- planted bugs --------------------------------------------------------------------------------


def cell(make) -> CellInfo:
    return CellInfo(of_cell(make))


class ByPlace(HandWritten):
    def into_bias(self, da):
        db = da.sum(0)
        db[0] *= 2
        return db


class MeanOfRows(HandWritten):
    def into_bias(self, da):
        return da.sum(0) / len(da)


class LastUnitIdle(HandWritten):
    def step(self, x, h, c, W, U, b):
        h, c, gates = super().step(x, h, c, W, U, b)
        h[:, -1] = 0
        return h, c, gates


class Shifted(Leaky):
    """What ought to be the unit's own is its neighbour's."""

    def __call__(self, x, h):
        _, new = super().__call__(x, h)
        return new, new + 0.1 * mg.roll(h, 1, axis=-1)


class BiasTwice(HandWritten):
    def step(self, x, h, c, W, U, b):
        return super().step(x, h, c, W, U, 2 * b)

    def into_bias(self, da):
        return 2 * da.sum(0)


class BiasTwiceBack(HandWritten):
    def into_bias(self, da):
        return 2 * da.sum(0)


class TwoBiases(mg.nn.GRUCell):
    """The second bias goes without a part of its gradient."""

    def weights(self):
        W, U, b, a = super().weights()
        return W, U, b, 0.5 * a + 0.5 * mg.tensor(a.data)


class Swapped(HandWritten):
    """Gates in another order, forward and back."""

    order = (1, 0, 2, 3)

    def cut(self, a):
        parts = super().cut(a)
        return [parts[k] for k in self.order]

    def into_gates(self, *args):
        parts = super().into_gates(*args)
        return [parts[self.order.index(k)] for k in range(4)]


class GOSwapped(Swapped):
    order = (0, 1, 3, 2)


class NoForget(HandWritten):
    """The factor f is missing in the chain of dc."""

    def vjp(self, gs, out, xs, h0, c0, W, U, b, lengths=None):
        found = super().vjp(gs, out, xs, h0, c0, W, U, b, lengths=lengths)
        f = sigmoid(b[h0.shape[1] : 2 * h0.shape[1]])
        return *found[:2], found[2] / np.maximum(f, 0.1), *found[3:]


class OtherUpdate(mg.nn.GRUCell):
    """z and 1 - z exchanged."""

    @staticmethod
    def step(x, state, *weights):
        h, _ = mg.nn.GRUCell.step(x, state, *weights)
        W, U, b, a = weights
        z = mg.sigmoid(
            mg.split(mg.affine(x, W, b) + mg.affine(state, U, a), sections=3, axis=-1)[1]
        )
        n = (h - z * state) / (1 - z)
        h = z * n + (1 - z) * state
        return h, h


class NotCarried(mg.nn.RNNCell):
    @staticmethod
    def step(x, state, *weights):
        h, _ = mg.nn.RNNCell.step(x, 0.5 * state, *weights)
        return h, h


class OpenOutput(HandWritten):
    """No tanh between c and h: another function, though its gradient would be right."""

    def step(self, x, h, c, W, U, b):
        _, c, gates = super().step(x, h, c, W, U, b)
        return gates[-1] * c, c, gates


@contextmanager
def reset_on_the_other_side():
    before = GRUCell.weights
    GRUCell.weights = lambda self: before(self) if self.reset == "before" else (
        *before(self)[:2], *[0.999 * w for w in before(self)[2:]])  # fmt: skip
    try:
        yield
    finally:
        GRUCell.weights = before


BUGS = [
    ("C21", by_hand(ByPlace()), None),
    ("C21", by_hand(LastUnitIdle()), None),
    ("C21", cell(Shifted), None),
    ("C21", by_hand(GOSwapped()), None),
    ("C22", by_hand(BiasTwice()), None),
    ("C22", by_hand(BiasTwiceBack()), None),
    ("C22", by_hand(MeanOfRows()), None),
    ("C22", cell(TwoBiases), None),
    ("C23", by_hand(Swapped()), None),
    ("C23", by_hand(GOSwapped()), None),
    ("C23", by_hand(NoForget()), None),
    ("C23", cell(OtherUpdate), None),
    ("C23", cell(NotCarried), None),
    ("C28", by_hand(BiasTwice()), None),
    ("C28", by_hand(OpenOutput()), None),
    ("C28", by_hand(MeanOfRows()), None),
    ("C28", INFOS["GRUCell"], reset_on_the_other_side),
]


@pytest.mark.parametrize("id, info, plant", BUGS)
def test_finds(id, info, plant):
    if plant is None:
        result = tried(id, info)
    else:
        with plant():
            result = tried(id, info)
    assert result.verdict == "fail", result
    assert "error" not in result.finding.facts, result.finding


# --- what is found out about a recurrence --------------------------------------------------------


def test_axes():
    axes = axes_of(INFOS["LSTMCell"].recurrence)
    assert axes["weight_ih"] == ((4, 0, 0), (0, 1, 0))
    assert axes["weight_hh"] == ((4, 0, 0), (1, 0, 0))
    assert axes["c"] == axes["ys"] == ((1, 0, 0),)
    assert axes_of(joined(Joined()).recurrence)["M"] == ((4, 0, 0), (1, 1, 0))


def test_families():
    known = {"RNNCell": "rnn", "LSTMCell": "lstm", "GRUCell": "gru", "GRUCell-before": "gru"}
    known["LSTM by hand"] = "lstm"
    assert {k: family(i) for k, i in INFOS.items()} == {**dict.fromkeys(INFOS), **known}


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (mg.nn.RNNCell, {"nonlinearity": "relu"}, None),  # a relu of tiny numbers is not linear
        (mg.nn.LSTMCell, {"candidate": "sigmoid"}, None),  # it does not change sign, nor is it 0
        (mg.nn.LSTMCell, {"peephole": True}, "lstm"),
        (mg.nn.LSTMCell, {"peephole": True, "candidate": "sigmoid"}, None),
    ],
)
def test_a_variant_without_tanh_is_of_no_family(make, options, expected):
    info = CellInfo(of_cell(make, **options))
    assert family(info) == expected
    assert info.gates.get("weight_ch") == ("ifo" if "peephole" in options else None)
    assert reference_of(info) is not None


# --- the references themselves -------------------------------------------------------------------


def exact(name, xs, state, weights):
    """The last h at 50 digits: equations written out, number by number, with mpmath."""

    def vector(a):
        return [mpmath.mpf(float(v)) for v in a]

    def sums(M, v, b):
        return [mpmath.fdot(vector(row), v) + e for row, e in zip(M, vector(b), strict=True)]

    def s(v):
        return 1 / (1 + mpmath.exp(-v))

    W, U, b, a = weights
    h, c = vector(state[0]), vector(state[-1])
    H = len(h)
    for x in xs:
        p, q = sums(W, vector(x), b), sums(U, h, a)
        both = [u + v for u, v in zip(p, q, strict=True)]
        if name == "RNNCell":
            h = [mpmath.tanh(v) for v in both]
        elif name == "LSTMCell":
            for j in range(H):
                i, f, g, o = (both[k * H + j] for k in range(4))
                c[j] = s(f) * c[j] + s(i) * mpmath.tanh(g)
                h[j] = s(o) * mpmath.tanh(c[j])
        else:
            r, z = ([s(both[k * H + j]) for j in range(H)] for k in range(2))
            if name == "GRUCell-before":
                q = sums(U, [u * v for u, v in zip(r, h, strict=True)], a)
                r = [mpmath.mpf(1)] * H
            n = [mpmath.tanh(p[2 * H + j] + r[j] * q[2 * H + j]) for j in range(H)]
            h = [(1 - z[j]) * n[j] + z[j] * h[j] for j in range(H)]
    return h


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell", "GRUCell-before"])
def test_references_at_50_digits(name):
    info = INFOS[name]
    sized = info.recurrence.at(2, 3)
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(4, 1, 2))
    state = [rng.normal(size=(1, *s)) for s in sized.state]
    weights = {k: rng.normal(size=s) for k, s in sized.weights.items()}
    with mpmath.workdps(50):
        expected = np.array([float(v) for v in exact(
            name, xs[:, 0], [s[0] for s in state], list(weights.values())
        )])  # fmt: skip
    run = sized.run(xs, state, weights)
    plain = reference_of(info)(xs, *state, *weights.values())
    # Some 4 (I + H) roundings a step, each passed on by a contraction or nearly so.
    bar = 4 * 4 * (2 + 3) * np.finfo(float).eps
    assert np.abs(run.last[0][0] - expected).max() <= bar
    assert np.abs(plain[1][0] - expected).max() <= bar
    assert (run.ys[-1] == run.last[0]).all()


class NoReference(Three):
    pass


def test_a_reference_is_that_of_the_cell_itself():
    assert reference_of(cell(NoReference)) is None
    assert reference_of(cell(NotCarried)) is None  # a subclass is another cell


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    sized = INFOS[f"{name}Cell"].recurrence.at(2, 3)
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(4, 2, 2))
    state = [rng.normal(size=(2, *s)) for s in sized.state]
    weights = {k: rng.normal(size=s) for k, s in sized.weights.items()}
    layer = getattr(torch.nn, name)(2, 3).double()
    layer.load_state_dict({f"{k}_l0": torch.tensor(w) for k, w in weights.items()})
    start = tuple([torch.tensor(s[None]) for s in state])
    ys, _ = layer(torch.tensor(xs), start if len(start) > 1 else start[0])
    run = sized.run(xs, state, weights)
    assert np.abs(ys.detach().numpy() - run.ys).max() <= 4 * 4 * 5 * np.finfo(float).eps
