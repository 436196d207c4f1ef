"""The laws of paths that ought to agree: they hold for what is right, and find planted bugs."""

import importlib
from contextlib import contextmanager

import numpy as np
import pytest
from recurrences import HandWritten, Leaky, Zoneout, by_hand, infos, tried

import minigrad as mg
from minigrad import kernels
from minigrad.graph import registry
from minigrad.testing import path_laws
from minigrad.testing.cell_info import CellInfo
from minigrad.testing.recurrence import of_cell
from minigrad.unfold import fused_op


def has_fused(info: CellInfo) -> bool:
    return info.cell is not None and fused_op(info.cell(1, 1)) is not None


LAWS = ("C15", "C16", "C17", "C18", "C19", "C24", "C25", "C26", "C27")
INFOS = infos()
BY_HAND = {"by hand", "LSTM by hand"}
SKIPPED = {  # law: the recurrences of which it says nothing
    "C15": {name for name, info in INFOS.items() if not has_fused(info)} - {"LSTM by hand"},
    "C16": BY_HAND,
    "C18": BY_HAND,
    "C19": set(INFOS) - {"Zoneout"},
}
FRACTIONS = {"Three", "Zoneout"}  # of which C16 says nothing, unless all is whole by chance


@pytest.mark.parametrize("name", INFOS)
@pytest.mark.parametrize("id", LAWS)
def test_holds(id, name):
    result = tried(id, INFOS[name], 1 if id == "C26" else 6)
    skipped = result.verdict == "skip"
    assert result.verdict in ("pass", "skip"), result.finding
    assert skipped == (name in SKIPPED.get(id, ())) or (id == "C16" and name in FRACTIONS)
    assert result.reason or not skipped


REFUSED = ("C17", "C18", "C26")  # here minigrad itself may refuse to go on, which is found, too

# --- planted bugs --------------------------------------------------------------------------------


def cell(make) -> CellInfo:
    return CellInfo(of_cell(make))


class Tail(HandWritten):
    def into_gates(self, *args):
        parts = super().into_gates(*args)
        for p in parts:
            p[:, 8 * (p.shape[1] // 8) :] *= p.shape[1] < 8
        return parts


class Truncated(HandWritten):
    def vjp(self, gs, out, xs, h0, c0, *weights, lengths=None):
        if len(xs) < 4:
            return super().vjp(gs, out, xs, h0, c0, *weights, lengths=lengths)
        found = super().vjp(gs, out, xs, h0, c0, *weights, lengths=lengths)
        return found[0], 0 * found[1], *found[2:]


class KeptIn32(HandWritten):
    def into_gates(self, dh, dc, c, i, f, g, o, th):
        return super().into_gates(dh, dc, c, i.astype(np.float32), f, g, o, th)


class SummedIn32(HandWritten):
    def into_bias(self, da):
        return da.astype(np.float32).sum(0)


class NoStrides(HandWritten):
    def forward(self, xs, *rest, lengths=None):
        xs = xs if xs.flags.c_contiguous else xs[::-1]
        return super().forward(xs, *rest, lengths=lengths)


class Restarted(HandWritten):
    def run(self, xs, h, c, W, U, b, lengths):
        if len(xs) <= 1024:
            return super().run(xs, h, c, W, U, b, lengths)
        (first, _, _), tape = super().run(xs[:1024], h, c, W, U, b, lengths)
        (ys, *last), more = super().run(xs[1024:], h, c, W, U, b, lengths)
        return (np.concatenate([first, ys]), *last), tape + more


class Recursive(HandWritten):
    def run(self, xs, h, c, W, U, b, lengths):
        def deeper(t):
            return t and deeper(t - 1)

        deeper(len(xs))
        return super().run(xs, h, c, W, U, b, lengths)


class Leftovers(HandWritten):
    """An accumulator that is not cleared, of a buffer kept for each shape."""

    def __init__(self):
        self.kept = {}

    def vjp(self, *args, lengths=None):
        found = super().vjp(*args, lengths=lengths)
        kept = self.kept.setdefault(found[-1].shape, np.zeros_like(found[-1]))
        kept += found[-1]
        return *found[:-1], kept.copy()


class LastTape(HandWritten):
    """The backward pass uses what the last forward pass has left."""

    def forward(self, xs, *rest, lengths=None):
        self.last = xs
        return super().forward(xs, *rest, lengths=lengths)

    def vjp(self, gs, out, xs, *rest, lengths=None):
        xs = self.last if self.last.shape == xs.shape else xs
        return super().vjp(gs, out, xs, *rest, lengths=lengths)


class NearIdentity(Leaky):
    """A rule that is wrong in the twelfth digit."""

    op = mg.Op("identity", lambda x: x, vjps=[lambda g, out, x: g * (1 + 2.0**-40)])

    def __call__(self, x, h):
        return super().__call__(x, self.op(h))


class SometimesCut(Leaky):
    """No gradient to the state of three rows."""

    def __call__(self, x, h):
        return super().__call__(x, h.detach() if h.shape[0] == 3 else h)


class Counting(Leaky):
    calls = 0

    def __call__(self, x, h):
        Counting.calls += 1
        y, h = super().__call__(x, h)
        return y * (1 + 1e-9 * Counting.calls), h


class In32(Leaky):
    def __call__(self, x, h):
        if x.dtype == np.float64:
            x = mg.astype(mg.astype(x, np.float32), np.float64)
        return super().__call__(x, h)


class Packed(Leaky):
    """The weights of the first call are kept."""

    packed = None

    def __call__(self, x, h):
        if self.packed is None:
            self.packed = np.array(self.W.data)
        if self.packed.shape == self.W.shape and self.W.requires_grad and x.ndim == 2:
            h = h + 0 * mg.sum(self.W) + mg.sum(self.packed - self.W.data) * 1e-3
        return super().__call__(x, h)


class StaysOn(Zoneout):
    def __call__(self, x, h):
        self.training = True
        return super().__call__(x, h)


class NeverOff(Zoneout):
    """A rate with a lower bound in training."""

    def __call__(self, x, h):
        rate, self.zoneout = self.zoneout, max(self.zoneout, 0.2) if self.training else self.zoneout
        try:
            return super().__call__(x, h)
        finally:
            self.zoneout = rate


class OtherMask(Zoneout):
    """A mask drawn anew on the way back."""

    def __call__(self, x, h):
        rng = self.rng

        def drop(a):
            return a * (rng.random(a.shape) < 0.7)

        op = mg.Op("drop", drop, vjps=[lambda g, out, x: drop(g)])
        y, h = super().__call__(x, op(h) if self.training else h)
        return y, h


@contextmanager
def patched(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def fused_rule(change):
    op = registry["lstm"]
    rule = op.vjp
    return patched(op, "vjp", lambda *args, **kw: change(list(rule(*args, **kw))))


def fused_forward(change):
    op = registry["lstm"]
    forward = op.forward_saving

    def changed(*args, **kw):
        outs, saved = forward(*args, **kw)
        return (change(outs[0]), *outs[1:]), saved

    return patched(op, "forward_saving", changed)


def tail_ulp(ys):
    ys = ys.copy()
    ys[..., 8 * (ys.shape[-1] // 8) :] *= 1 + 4 * np.finfo(ys.dtype).eps * (ys.shape[-1] > 8)
    return ys


def other_threads(ys):
    """Wrong only where there is work for two threads."""
    big = ys.size * ys.shape[-1] > 2**21
    return ys * (1 + 2.0**-20) if kernels.threads() == 1 and big else ys


def unfold_module():
    return importlib.import_module("minigrad.unfold")


def longer_windows():
    module = unfold_module()
    pieces = module._pieces
    return patched(module, "_pieces", lambda m, xs, k, *rest: pieces(m, xs, k + 1, *rest))


def half_cut(state):
    return state if isinstance(state, mg.Tensor) else mg.detach_state(state)


def cut_within(function):
    """A checkpoint that loses the gradient of the state."""
    return lambda xs, state: function(xs, mg.detach_state(state))


def reshaped(x, i, j):
    return mg.reshape(x, (x.shape[1], x.shape[0], *x.shape[2:]))


LSTM = INFOS["LSTMCell"]
native = pytest.mark.native
BUGS = [
    ("C15", by_hand(Tail()), None),
    pytest.param("C15", LSTM, lambda: fused_forward(tail_ulp), marks=native),
    pytest.param("C15", LSTM, lambda: fused_forward(other_threads), marks=native),
    ("C15", LSTM, lambda: fused_rule(lambda gs: [*gs[:2], 0 * gs[2], *gs[3:]])),
    ("C16", cell(NearIdentity), None),
    ("C16", cell(SometimesCut), None),
    ("C17", by_hand(Truncated()), None),
    ("C17", INFOS["GRUCell"], longer_windows),
    ("C17", INFOS["GRUCell"], lambda: patched(unfold_module(), "detach_state", half_cut)),
    ("C18", cell(Counting), None),
    ("C18", LSTM, lambda: patched(path_laws, "checkpoint", cut_within)),
    ("C19", cell(StaysOn), None),
    ("C19", cell(NeverOff), None),
    ("C19", cell(OtherMask), None),
    ("C24", by_hand(KeptIn32()), None),
    ("C24", by_hand(SummedIn32()), None),
    ("C24", cell(In32), None),
    ("C25", by_hand(NoStrides()), None),
    ("C25", LSTM, lambda: patched(importlib.import_module("minigrad.nn.recurrent"), "swapaxes",
                                  reshaped)),
    ("C26", by_hand(Restarted()), None),
    ("C26", by_hand(Recursive()), None),
    ("C27", by_hand(Leftovers()), None),
    ("C27", by_hand(LastTape()), None),
    ("C27", cell(Packed), None),
]  # fmt: skip


@pytest.mark.parametrize("id, info, plant", BUGS)
def test_finds(id, info, plant):
    if plant is None:
        result = tried(id, info)
    else:
        with plant():
            result = tried(id, info)
    assert result.verdict == "fail", result
    assert "error" not in result.finding.facts or id in REFUSED, result.finding


def test_linear_mode_leaves_nothing():
    before = {k: (op.forward, op.vjps, op.array_vjps) for k, op in registry.items()}
    with pytest.raises(ZeroDivisionError), path_laws.linear_mode():
        assert registry["tanh"].forward is not before["tanh"][0]
        raise ZeroDivisionError
    assert before == {k: (op.forward, op.vjps, op.array_vjps) for k, op in registry.items()}


def test_linear_mode_is_exact():
    """Sums far below any tolerance: 2^40 + 1 is not 2^40."""
    with path_laws.linear_mode():
        x = mg.tensor([-3.0, -1.0, 0.5, 1.0, 3.0], requires_grad=True)
        y = mg.tanh(x) + mg.sigmoid(x) * 2.0**40
        y.sum().backward()
    assert y.data.tolist() == [-1, -1, 2.0**39 + 0.5, 2.0**40 + 1, 2.0**40 + 1]
    assert x.grad.data.tolist() == [0, 1, 2.0**40 + 1, 2.0**40 + 1, 0]
