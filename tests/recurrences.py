"""Recurrences for the tests of laws: right ones, and ones with a bug planted.

Cells as users write them; an LSTM by hand, `HandWritten`, whose bugs are methods written otherwise.
`rnn(bug)` is a pair (forward, vjp) such as somebody writes by hand:

    h(t) = tanh(W x(t) + U h(t-1) + p * c(t-1) + b);  c(t) = c(t-1) / 2 + q * h(t);  y(t) = h(t)
"""

from functools import partial

import numpy as np

import minigrad as mg
from minigrad.testing.cell_info import CellInfo
from minigrad.testing.cell_laws import CELL_LAWS
from minigrad.testing.laws import Broken, Finding, NotApplicable, Trial
from minigrad.testing.recurrence import of_cell, of_pair
from minigrad.testing.run import Result, attempt, run
from minigrad.testing.strategies import sequences


class Leaky(mg.nn.Cell):
    def __init__(self, input_size, hidden_size, rng=0):
        rng = np.random.default_rng(rng)
        self.hidden_size = hidden_size
        self.W = mg.nn.Parameter(rng.normal(size=(hidden_size, input_size)))
        self.U = mg.nn.Parameter(rng.normal(size=(hidden_size, hidden_size)) / hidden_size)
        self.b = mg.nn.Parameter(np.zeros(hidden_size))
        self.rate = mg.nn.Parameter(np.linspace(-2, 4, hidden_size))

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.zeros((batch_size, self.hidden_size), dtype))

    def __call__(self, x, h):
        a = mg.sigmoid(self.rate)
        h = a * h + (1 - a) * mg.tanh(mg.affine(h, self.U, mg.affine(x, self.W, self.b)))
        return h, h


class Nested(mg.nn.Cell):
    """A state of three parts, nested: what is put out, what is kept, and a mean of the inputs."""

    def __init__(self, input_size, hidden_size, rng=0):
        self.inner = mg.nn.LSTMCell(input_size, hidden_size, rng=rng)
        self.rate = mg.nn.Parameter(np.full(input_size, 0.4))

    def initial_state(self, batch_size, dtype):
        mean = np.zeros((batch_size, self.inner.input_size), dtype)
        return self.inner.initial_state(batch_size, dtype), mg.tensor(mean)

    def __call__(self, x, state):
        inner, mean = state
        mean = mean + self.rate * (x - mean)
        y, inner = self.inner(x - mean, inner)
        return y * y, (inner, mean)


class Three(mg.nn.Cell):
    """A state of three parts, a peephole, and an output that is no part of the state."""

    def __init__(self, input_size, hidden_size, rng=0):
        rng, n = np.random.default_rng(rng), hidden_size
        self.hidden_size = n
        self.W = mg.nn.Parameter(rng.normal(size=(2 * n, input_size)))
        self.U = mg.nn.Parameter(rng.normal(size=(2 * n, n)) / np.sqrt(n))
        self.bias = mg.nn.Parameter(rng.normal(size=2 * n))
        self.peep = mg.nn.Parameter(rng.normal(size=n))

    def initial_state(self, batch_size, dtype):
        part = mg.tensor(np.zeros((batch_size, self.hidden_size), dtype))
        return part, part, part

    def __call__(self, x, state):
        h, c, m = state
        a = mg.affine(h, self.U, mg.affine(x, self.W, self.bias))
        f, g = mg.split(a, sections=2, axis=-1)
        c = mg.sigmoid(f + self.peep * m) * c + mg.tanh(g)
        m = 0.5 * (m + h)
        h = mg.tanh(c - m)
        return 2 * h, (h, c, m)


class Zoneout(mg.nn.Cell):
    """Units keep their old value at random in training, and in the mean in evaluation."""

    def __init__(self, input_size, hidden_size, zoneout=0.3, rng=0):
        self.rng, self.hidden_size = np.random.default_rng(rng), hidden_size
        self.zoneout = zoneout
        self.W = mg.nn.Parameter(self.rng.normal(size=(hidden_size, input_size)))
        self.U = mg.nn.Parameter(self.rng.normal(size=(hidden_size, hidden_size)) / hidden_size)
        self.bias = mg.nn.Parameter(self.rng.normal(size=hidden_size))

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.zeros((batch_size, self.hidden_size), dtype))

    def __call__(self, x, h):
        new = mg.tanh(mg.affine(h, self.U, mg.affine(x, self.W, self.bias)))
        if self.training:
            new = mg.where(self.rng.random(new.shape) < self.zoneout, h, new)
        else:
            new = self.zoneout * h + (1 - self.zoneout) * new
        return new, new


# --- a recurrence by hand ------------------------------------------------------------------------


def shapes(I, H):  # noqa: E741
    return [(H,), (H,)], {"W": (H, I), "U": (H, H), "b": (H,), "p": (H,), "q": (H,)}


def _inputs(bug, xs, lengths):
    """The inputs that are read, the steps that are made, and who is running, (T, N, 1)."""
    T, N = xs.shape[:2]
    own = np.full(N, T) if lengths is None else np.asarray(lengths)
    if bug == "lengths sorted":
        own = np.sort(own)[::-1]
    if bug == "one step too few in ragged rows" and lengths is not None:
        own = np.maximum(own - 1, 0)
    on = (np.arange(T)[:, None] < own)[:, :, None]
    if bug == "mask of the first step":
        on = np.broadcast_to(on[:1], on.shape)
    xs = xs * on if bug == "mask times inputs" else np.where(on, xs, 0.0)
    if bug == "reads ahead":
        xs = xs + 0.1 * np.concatenate([xs[1:], xs[-1:]])
    if bug == "mean over time" and T:
        xs = xs - xs.mean(0)
    steps = range(T - 1) if bug == "last step skipped" else range(T)
    return xs, steps, on


def _forward(bug, xs, h, c, W, U, b, p, q, lengths):
    first = h
    if bug == "no steps, no state" and len(xs) == 0:
        h = np.zeros_like(h)
    if bug == "one row without a state" and xs.shape[1] == 1:
        h = np.zeros_like(h)
    xs, steps, on = _inputs(bug, xs, lengths)
    ys = np.zeros((len(xs), *h.shape))
    kept = []
    for t in steps:
        h_in = first if bug == "first state at every step" else h
        if bug == "rows rolled":
            h_in = np.roll(h_in, 1, 0)
        if bug == "rows leak":
            h_in = h_in + 0.01 * h_in.mean(0)
        h_new = np.tanh(xs[t] @ W.T + h_in @ U.T + p * c + b)
        c_new = c / 2 + q * h_new
        kept.append((h_in, c, h_new))
        ys[t] = np.where(on[t], h_new, 0.0)
        h = h_new if bug == "mask on the output only" else np.where(on[t], h_new, h)
        c = c_new if bug == "c not masked" else np.where(on[t], c_new, c)
        if bug == "decay over padding":
            c = np.where(on[t], c, 0.99 * c)
    return (ys, h, c), kept, (xs, steps, on)


def _alike(a, b):
    return len(a) == len(b) > 0 and a[0][0].shape == b[0][0].shape


def rnn(bug=None):
    """The pair, right or with a bug."""
    memory = {}

    def forward(xs, h0, c0, W, U, b, p, q, lengths=None):
        out, kept, _ = _forward(bug, xs, h0.copy(), c0.copy(), W, U, b, p, q, lengths)
        memory["kept"] = kept
        return out

    def vjp(g, out, xs, h0, c0, W, U, b, p, q, lengths=None):
        dys, dh, dc = g
        if len(xs) == 0 and bug == "no steps, the cotangent itself":
            return np.zeros_like(xs), dh, dc, *[np.zeros_like(w) for w in (W, U, b, p, q)]
        _, kept, (read, steps, on) = _forward(bug, xs, h0, c0, W, U, b, p, q, lengths)
        if bug == "kept by the last call" and _alike(kept, memory["kept"]):
            kept = memory["kept"]
        if bug == "c's cotangent ignored":
            dc = 0 * dc
        if bug == "h's cotangent ignored":
            dh = 0 * dh
        dh, dc, dxs = dh.copy(), dc.copy(), np.zeros(xs.shape)
        dW, dU, db, dp, dq = (np.zeros_like(w) for w in (W, U, b, p, q))
        if bug == "bias not cleared":
            db = memory.setdefault("db", {}).setdefault(b.shape, db)
        for t in reversed(steps):
            h, c, h_new = kept[t]
            m = on[t]
            if bug == "state mask missing backward":
                m = np.ones_like(m)
            m_c = np.ones_like(m) if bug == "dc not masked" else m
            new_c = np.where(m_c, dc, 0)
            new_h = np.where(m, dh, 0) + np.where(on[t], dys[t], 0) + q * new_c
            a = new_h * (1 - h_new**2)
            if bug == "truncated" and len(steps) - t > 3:
                a = 0 * a
            dxs[t] = a @ W
            if bug == "dx over dy" and dys[t].shape == dxs[t].shape:
                dys[t] = dxs[t]
            if bug == "U overwritten":
                dU = a.T @ h
            elif not (bug == "first step left out" and t == 0):
                dU += a.T @ h
            dW += a.T @ (read[max(t - 1, 0)] if bug == "x of the step before" else read[t])
            db += a.sum(0)
            dp += (a * c).sum(0)
            dq += (new_c * h_new).sum(0)
            dh = np.where(m, a @ U, dh)
            dc = np.where(m_c, dc / 2 + p * a, dc)
        if bug == "mean over rows":
            dW /= xs.shape[1]
        if bug == "no gradient of c0":
            dc = 0 * dc
        if bug == "no gradient of h0, one step" and len(xs) == 1:
            dh = 0 * dh
        if bug == "NaN times 0":
            dxs = dxs + 0 * xs
        if bug == "dys scaled":
            dys *= 0.5
        if bug == "last input gradient missing" and len(xs):
            dxs[-1] = 0
        return dxs, dh, dc, dW, dU, db.copy(), dp, dq

    return forward, vjp


def of_rnn(bug=None) -> CellInfo:
    return CellInfo(of_pair(*rnn(bug), shapes, name="rnn"))


# --- an LSTM by hand -----------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class HandWritten:
    """An LSTM by hand; a bug is a method written otherwise."""

    def cut(self, a):
        return np.split(a, 4, axis=1)  # i, f, g, o

    def step(self, x, h, c, W, U, b):
        i, f, g, o = self.cut(x @ W.T + h @ U.T + b)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        new = f * c + i * g
        return o * np.tanh(new), new, (i, f, g, o)

    def run(self, xs, h, c, W, U, b, lengths):
        ys, tape = np.zeros((*xs.shape[:2], h.shape[1]), xs.dtype), []
        for t, x in enumerate(xs):
            valid = np.ones((len(x), 1), bool)
            if lengths is not None:
                valid = t < np.asarray(lengths)[:, None]
            x = np.where(valid, x, 0)
            new_h, new_c, gates = self.step(x, h, c, W, U, b)
            tape.append((valid, x, h, c, new_c, *gates))
            ys[t] = np.where(valid, new_h, 0)
            h, c = np.where(valid, new_h, h), np.where(valid, new_c, c)
        return (ys, h, c), tape

    def forward(self, xs, h, c, W, U, b, lengths=None):
        return self.run(xs, h.copy(), c.copy(), W, U, b, lengths)[0]

    def into_gates(self, dh, dc, c, i, f, g, o, th):
        """The gradient of the sums that the gates are taken of."""
        return [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g),
                dh * th * o * (1 - o)]  # fmt: skip

    def into_cell(self, dh, dc, o, th):
        return dc + dh * o * (1 - th * th)

    def vjp(self, gs, out, xs, h0, c0, W, U, b, lengths=None):
        _, tape = self.run(xs, h0, c0, W, U, b, lengths)
        dys, dh, dc = gs
        dx, dW, dU, db = (np.zeros_like(a) for a in (xs, W, U, b))
        for t in reversed(range(len(xs))):
            valid, x, h, c, new_c, i, f, g, o = tape[t]
            th = np.tanh(new_c)
            own_h = np.where(valid, dh + dys[t], 0)
            own_c = self.into_cell(own_h, np.where(valid, dc, 0), o, th)
            da = np.concatenate(self.into_gates(own_h, own_c, c, i, f, g, o, th), axis=1)
            dx[t] = da @ W
            dW += da.T @ x
            dU += da.T @ h
            db += self.into_bias(da)
            dh, dc = np.where(valid, da @ U, dh), np.where(valid, own_c * f, dc)
        return dx, dh.copy(), dc.copy(), dW, dU, db  # memory of its own, after no steps too

    def into_bias(self, da):
        return da.sum(0)


def lstm_shapes(I, H):  # noqa: E741
    return [(H,), (H,)], {"W": (4 * H, I), "U": (4 * H, H), "b": (4 * H,)}


def by_hand(code: HandWritten) -> CellInfo:
    right = HandWritten()
    return CellInfo(
        of_pair(code.forward, code.vjp, lstm_shapes, "lstm by hand"),
        gates=dict.fromkeys(("W", "U", "b"), "ifgo"),
        reference=lambda *args, lengths=None: right.forward(*args, lengths=lengths),
    )


# --- what laws say of them -----------------------------------------------------------------------

RIGHT = {
    "RNNCell": lambda: CellInfo(of_cell(mg.nn.RNNCell)),
    "LSTMCell": lambda: CellInfo(of_cell(mg.nn.LSTMCell)),
    "GRUCell": lambda: CellInfo(of_cell(mg.nn.GRUCell)),
    "GRUCell-before": lambda: CellInfo(of_cell(partial(mg.nn.GRUCell, reset="before"), "GRU")),
    "Leaky": lambda: CellInfo(of_cell(Leaky)),
    "Nested": lambda: CellInfo(of_cell(Nested)),
    "by hand": of_rnn,
    "Three": lambda: CellInfo(of_cell(Three)),
    "Zoneout": lambda: CellInfo(of_cell(Zoneout)),
    "LSTM by hand": lambda: by_hand(HandWritten()),
}


def infos() -> dict[str, CellInfo]:
    """Recurrences that are right, by name."""
    return {name: make() for name, make in RIGHT.items()}


def tried(id: str, info: CellInfo, examples: int = 30, seed: int = 0) -> Result:
    """A law on a recurrence; skipped where it says so."""
    law = CELL_LAWS[id]
    reason = law.unless(info)
    if reason:
        return Result(law, "skip", reason)
    return run(law, info, sequences(), examples, seed)


def trials(info: CellInfo, id: str, examples: int, seed: int = 0):
    """A law on sampled examples: the trials, and the finding that ended them, if any."""
    made: list[Trial] = []
    for i in range(examples):
        made.append(Trial(id))
        try:
            attempt(CELL_LAWS[id], info, sequences().sample(seed, i), made[-1])
        except NotApplicable:
            pass
        except Broken as broken:
            return made, broken.finding
    return made, None


def caught(info: CellInfo, id: str, examples: int = 60) -> Finding:
    """What a law finds; not that the code cannot be called."""
    _, finding = trials(info, id, examples)
    assert finding is not None, f"{id} sees nothing"
    assert "error" not in finding.facts, finding
    return finding
