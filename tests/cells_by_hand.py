"""More recurrences for the tests of laws: cells as users write them, and an LSTM by hand."""

import numpy as np
from recurrences import RIGHT

import minigrad as mg
from minigrad.testing.cell_info import CellInfo
from minigrad.testing.cell_laws import CELL_LAWS
from minigrad.testing.recurrence import of_cell, of_pair
from minigrad.testing.run import Result, run
from minigrad.testing.strategies import sequences


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


# --- a pair --------------------------------------------------------------------------------------


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
        return self.run(xs, h, c, W, U, b, lengths)[0]

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


def shapes(I, H):  # noqa: E741
    return [(H,), (H,)], {"W": (4 * H, I), "U": (4 * H, H), "b": (4 * H,)}


def by_hand(code: HandWritten) -> CellInfo:
    right = HandWritten()
    return CellInfo(
        of_pair(code.forward, code.vjp, shapes, "lstm by hand"),
        gates=dict.fromkeys(("W", "U", "b"), "ifgo"),
        reference=lambda *args, lengths=None: right.forward(*args, lengths=lengths),
    )


def infos() -> dict[str, CellInfo]:
    """Recurrences that are right, by name."""
    made = {name: make() for name, make in RIGHT.items()}
    cells = {"Three": of_cell(Three), "Zoneout": of_cell(Zoneout)}
    made |= {name: CellInfo(r) for name, r in cells.items()}
    return {**made, "LSTM by hand": by_hand(HandWritten())}


def tried(id: str, info: CellInfo, examples: int = 30, seed: int = 0) -> Result:
    """A law on a recurrence; skipped where it says so."""
    law = CELL_LAWS[id]
    reason = law.unless(info)
    if reason:
        return Result(law, "skip", reason)
    return run(law, info, sequences(), examples, seed)
