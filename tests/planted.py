"""Bugs planted in small ops and in a small recurrence, each with the cause that is right for it.

They have one law in common, G: the gradient is that of the function, by the complex step, with the
facts that the laws of the checker give.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minigrad.testing import strategies as mgst
from minigrad.testing.example import Array
from minigrad.testing.laws import Law, law
from minigrad.testing.op_laws import OP_LAWS, OpInfo
from minigrad.testing.run import Result, run
from minigrad.testing.subject import Pair

G: dict[str, Law] = {}


def slopes(forward, args, cotangents, wrt):
    """J^T V by the complex step, entry by entry."""
    found = {}
    for i in wrt:
        found[i] = np.zeros(args[i].shape)
        for k in np.ndindex(args[i].shape):
            moved = [a.astype(complex) if a.dtype.kind == "f" else a for a in args]
            moved[i] = moved[i].copy()
            moved[i][k] += 1e-100j
            outs = forward(*moved)
            found[i][k] = sum(
                float(np.sum(v * np.asarray(o).imag)) / 1e-100
                for v, o in zip(cotangents, outs, strict=True)
            )
    return found


def compare(trial, names, axes, wrt, got, expected, facts):
    size = max(float(np.abs(e).max(initial=0)) for e in expected.values())
    for i, g in zip(wrt, got, strict=True):
        name = names(i)
        trial.close(
            g, expected[i], 1e-12 * size + 1e-15, f"the gradient of {name}",
            input=name, axes=axes(name),
            facts=facts
            | {
                "gradients": {names(j): h for j, h in zip(wrt, got, strict=True)},
                "numeric": {names(j): expected[j] for j in wrt},
            },
        )  # fmt: skip


@law(G, "G", "the gradient is that of the function")
def of_an_op(trial, info, example):
    args = example.arrays()
    outs, pull = info.subject.linearise(args, example.params, example.wrt)
    V = example.cotangents(outs)
    got = [np.asarray(g) for g in pull(*V)]
    forward = lambda *a: info.subject.forward(a, example.params)  # noqa: E731
    expected = slopes(forward, args, V, example.wrt)
    facts = {"args": args, "outputs": list(outs), "cotangents": V}
    compare(trial, info.argument, lambda name: (), example.wrt, got, expected, facts)


@dataclass
class Recurrence:
    """What the law of a recurrence needs: `forward` and `vjp` of a pair, shapes(I, H)."""

    subject: Pair
    shapes: Any
    gates: dict = field(default_factory=dict)

    name = property(lambda self: self.subject.name)

    def argument(self, i):
        return ("xs", "h0", *self.shapes(1, 1)[1])[i]


def axes_of(name):
    if name == "xs":
        return ("t", "row", "feature")
    return ("row", "unit") if name == "h0" else ("unit", "column") if name != "b" else ("unit",)


@law(G, "R", "the gradient is that of the recurrence")
def of_a_recurrence(trial, info, e):
    state, weights = info.shapes(e.I, e.H)
    args = [e.xs(), *e.state(state), *e.weights(weights).values()]
    params = {"lengths": e.lengths}
    outs, pull = info.subject.linearise(args, params, range(len(args)))
    V = e.cotangents(outs)
    got = pull(*V)
    expected = slopes(lambda *a: info.subject.forward(a, params), args, V, range(len(args)))
    facts = {"T": e.T, "N": e.N, "H": e.H, "lengths": e.lengths, "gates": info.gates}
    compare(trial, info.argument, axes_of, range(len(args)), got, expected, facts)


class Planted(NamedTuple):
    """A bug: its cause, the subject, how it is called, the law that sees it."""

    cause: str
    pair: tuple
    inputs: Any
    law: Law = G["G"]
    names: tuple = ("x", "y")
    domain: Any = None
    gates: dict = {}  # noqa: RUF012


def find(bug: Planted, seed=0, simplify=None, examples=100) -> tuple[Any, Result]:
    """What is known about the bug's subject, and what its law says."""
    if bug.law is G["R"]:
        info: Any = Recurrence(Pair(*bug.pair, name="gated"), shapes, bug.gates)
        return info, run(bug.law, info, bug.inputs, examples, seed, simplify)
    info = OpInfo(Pair(*bug.pair, name="planted"), names=bug.names)
    structure = mgst.dressed(bug.inputs, bug.domain)
    return info, run(bug.law, info, structure, examples, seed, simplify)


# --- ops -----------------------------------------------------------------------------------------


def fit(g, x):
    """The sum over the axes along which x was broadcast."""
    g = g.sum(axis=tuple(range(g.ndim - x.ndim)))
    return g.sum(axis=tuple([i for i, s in enumerate(x.shape) if s == 1]), keepdims=True)


def times(x, y):
    return x * y


def softmax(x):
    z = np.exp(x - x.real.max(-1, keepdims=True)) if x.size else x
    return z / z.sum(-1, keepdims=True)


def centred(x):
    return x - x.sum(-1, keepdims=True) / x.shape[-1]


def take(x, index):
    return x[index]


def largest(x):
    at = np.argmax(x.real, -1)[..., None]
    return np.take_along_axis(x, at, -1)[..., 0]


def product(a, b):
    return a @ b


def lost(g, out, x, i):
    """Assigns where it ought to add."""
    d = np.zeros_like(x)
    d[i] = g
    return (d,)


def tied(g, out, x):
    return (np.where(x == out[..., None], g[..., None], 0.0),)


def memory_order(g, out, x):
    slope = 1 - np.tanh(np.asarray(x).ravel("K").reshape(x.shape)) ** 2
    return (g * slope,)


def upset(g, out, x):
    with np.errstate(all="ignore"):
        return (g * np.exp(x) / (1 + np.exp(x)) / (1 + np.exp(x)),)


def tail_of_four(g, out, x):
    d = g * (1 - out * out)
    d[..., x.shape[-1] // 4 * 4 :] = 0
    return (d,)


def single(g, out, a, b):
    da = g @ b.T
    return (da * (0.5 if a.shape[1] == 1 else 1.0), a.T @ g)


def sums(x):
    return x.sum(0)


def means(x):
    return x.sum(0) / len(x)


def logistic(x):
    return 1 / (1 + np.exp(-x))


two = mgst.broadcastable(2)
one = mgst.broadcastable(1, ndim=(1, 2), sides=(2, 3, 4, 5))
rows = mgst.broadcastable(1, ndim=(1, 2), sides=(3, 2, 4, 5))
units = mgst.broadcastable(1, ndim=(1, 2), sides=(1, 2, 3, 4, 5, 6, 7, 8, 9, 11))
matrices = mgst.broadcastable(1, ndim=(2, 2), sides=(2, 3, 4))
same = mgst.calls(lambda c: mgst.Call((Array(s := mgst.shape(c, (1, 2))), Array(s))))
square = mgst.calls(lambda c: mgst.Call((Array((n := c.integer(1, 4), n)), Array((n, n)))))


def _matmul(c):
    m, k, n = (c.one_of((2, 3, 1, 4)) for _ in range(3))
    return mgst.Call((Array((m, k)), Array((k, n))))


def _taken(c):
    n, places = c.integer(1, 4), c.integer(1, 4)
    index = np.array([c.integer(0, n - 1) for _ in range(places)])
    return mgst.Call((Array((n, 2)), index))


right = lambda g, out, x: (g * (1 - out * out),)  # noqa: E731  of tanh
OPS = {
    "zero": Planted("zero", (times, lambda g, out, x, y: (fit(g * y, x), 0 * y)), two),
    "sign": Planted("sign", (times, lambda g, out, x, y: (fit(-g * y, x), fit(g * x, y))), two),
    "twice": Planted("factor", (np.tanh, lambda g, out, x: (2 * g * (1 - out * out),)), one),
    "a little": Planted("factor", (np.tanh, lambda g, out, x: (1.0005 * g * (1 - out**2),)), one),
    "not divided": Planted(
        "factor", (means, lambda g, out, x: (np.broadcast_to(g, x.shape) + 0 * x,)), rows
    ),
    "divided": Planted(
        "mean for sum",
        (times, lambda g, out, x, y: (fit(g * y, x) * x.size / max(1, g.size), fit(g * x, y))),
        two,
    ),
    "transposed": Planted(
        "transposed",
        (product, lambda g, out, a, b: ((b @ g.T) if g.shape == a.shape else g @ b.T, a.T @ g)),
        square,
    ),
    "other": Planted(
        "other input", (times, lambda g, out, x, y: (fit(g * x, x), fit(g * x, y))), same
    ),
    "swapped": Planted("swapped", (times, lambda g, out, x, y: (g * x, g * y)), same),
    "kept in float32": Planted(
        "float32",
        (np.tanh, lambda g, out, x: (g * (1 - out.astype(np.float32).astype(float) ** 2),)),
        one,
    ),
    "rounded": Planted(
        "float32", (np.tanh, lambda g, out, x: (g * (1 - np.round(out, 4) ** 2),)), one
    ),
    "softmax": Planted("missing term", (softmax, lambda g, out, x: (g * out,)), rows),
    "centred": Planted("missing term", (centred, lambda g, out, x: (g.copy(),)), rows),
    "duplicates": Planted("duplicates", (take, lost), mgst.calls(_taken)),
    "ties": Planted("ties", (largest, tied), rows),
    "strides": Planted("layout", (np.tanh, memory_order), matrices),
    "overflow": Planted("not finite", (logistic, upset), one, domain=(650.0, 760.0)),
    "last units": Planted("tail", (np.tanh, tail_of_four), units),
    "one column": Planted("edge size", (product, single), mgst.calls(_matmul)),
    "formula": Planted("wrong formula", (np.tanh, lambda g, out, x: (g * (1 - out),)), one),
    "absolute": Planted(
        "wrong formula",
        (lambda x: 1 / x, lambda g, out, x: (-g / np.abs(x) ** 3,)),
        one,
        domain=(-4.0, -0.2),
    ),
    "not summed": Planted(
        "missing reduction",
        (times, lambda g, out, x, y: (g * y, fit(g * x, y))),
        two,
        OP_LAWS["P2"],
    ),
    "single precision": Planted(
        "float32",
        (np.tanh, lambda g, out, x: (right(g, out, x)[0].astype(np.float32),)),
        one,
        OP_LAWS["P2"],
    ),
}


class Stale:
    """A buffer that is not cleared between calls."""

    def __init__(self):
        self.buffer = {}

    def __call__(self, g, out, x):
        kept = self.buffer.setdefault(x.shape, np.zeros(x.shape))
        kept += g * (1 - out * out)
        return (kept.copy(),)


OPS["stale"] = Planted("stale", (np.tanh, Stale()), one, OP_LAWS["P5"])


# --- a recurrence --------------------------------------------------------------------------------


def shapes(I, H):  # noqa: E741
    return [(H,)], {"W": (2 * H, I), "U": (2 * H, H), "b": (2 * H,)}


def gated(bug=""):
    """h' = h + sigmoid(a) tanh(c) with a, c = W x + U h + b, where a row has not ended."""

    def steps(xs, h, W, U, b, lengths):
        H, kept = h.shape[1], []
        for t, x in enumerate(xs):
            on = np.ones((len(h), 1)) if lengths is None else (t < np.array(lengths))[:, None] * 1.0
            z = np.where(on, x, 0) @ W.T + h @ U.T + b
            i, c = 1 / (1 + np.exp(-z[:, :H])), np.tanh(z[:, H:])
            kept.append((h, i, c, on))
            h = h + on * (i * c)
        return h, kept

    def forward(xs, h0, W, U, b, lengths=None):
        h, kept = steps(xs, h0, W, U, b, lengths)
        ys = [
            np.where(k[3], y, 0) for k, y in zip(kept, [*[k[0] for k in kept], h][1:], strict=True)
        ]
        return (np.stack(ys) if ys else np.zeros((0, *h0.shape), h0.dtype)), h

    def vjp(g, out, xs, h0, W, U, b, lengths=None):
        dys, dh = g
        T, N, H = len(xs), len(h0), h0.shape[1]
        _, kept = steps(xs, h0, W, U, b, lengths)
        dxs, dW, dU, db = np.zeros_like(xs), np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
        for t in reversed(range(T)):
            h, i, c, on = kept[t]
            dh = dh + np.where(on, dys[t], 0)
            if bug == "mask":
                on = np.ones_like(on)
            dz = np.concatenate([dh * on * c * i * (1 - i), dh * on * i * (1 - c * c)], 1)
            if bug == "tail":
                dz[:, [*range(H // 4 * 4, H), *range(H + H // 4 * 4, 2 * H)]] = 0
            if bug == "row":
                dz[0] *= 1.5
            if bug == "one row" and N == 1:
                dz = dz * 1.5
            if bug == "overwritten":
                dW = dz.T @ np.where(kept[t][3], xs[t], 0)
            else:
                dW += dz.T @ np.where(kept[t][3], xs[t], 0)
            dU += dz.T @ h
            db += dz.sum(0) * (2 if bug == "bias" else 1)
            dxs[t] = dz @ W
            dh = dh + dz @ (U[::-1] if bug == "chain" else U)
            if bug == "truncated" and T - t >= 3:
                dh = np.zeros_like(dh)
        if bug == "first":
            dxs[:1] = 0
        if bug == "last":
            dxs[-1:] = 0
        if bug == "state":
            dh = np.zeros_like(dh)
        if bug == "mean":
            dW, dU, db = dW / max(1, N), dU / max(1, N), db / max(1, N)
        if bug == "gates":
            dW = np.roll(dW, H, axis=0)
        return dxs, dh.copy(), dW, dU, db

    return forward, vjp


CELLS = {
    bug: Planted(
        cause,
        gated(bug),
        mgst.sequences(T=(0, 6), N=(1, 3), I=(1, 2), H=(1, 6)),
        G["R"],
        gates={"W": "ic", "U": "ic", "b": "ic"},
    )
    for bug, cause in {
        "mask": "mask",
        "tail": "tail",
        "row": "row",
        "one row": "edge size",
        "overwritten": "accumulation",
        "bias": "factor",
        "truncated": "truncated",
        "first": "first step",
        "last": "last step",
        "state": "zero",
        "mean": "mean for sum",
        "gates": "gates",
        "chain": "wrong formula",
    }.items()
}

BUGS = OPS | CELLS
