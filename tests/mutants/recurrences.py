"""Backpropagation through time by hand, and the bugs that people make in it.

A cell is two functions, one time step forward and one back:

    step(x, state, weights, t) -> new state, what the step back needs (first of all x)
    back(d, kept, weights, t) -> dx, gradient of the state before, gradients of the weights

for x (N, I) and a state that is a tuple of (N, H), `d` being the gradient of the new state. Two
loops, `run` and `run_back`, take them through time for every cell; there, and only there, stands
what happens to a row of the batch that has ended. `t` is there for bugs that ask which step it is.

Weights lie with a row for each output; gate orders are LSTM `i f g o` and GRU `r z n`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import Mutant, Specimen, add, bug, specimen, specimens

# What some bugs keep from one call to the next.
_kept_from_before: dict = {}


# --- arithmetic ----------------------------------------------------------------------------------


def sigmoid(a):
    """1 / (1 + exp(-a)), written so that exp never overflows; analytic, so `a` may be complex."""
    negative = a.real < 0
    e = np.exp(np.where(negative, a, -a))
    return np.where(negative, e, 1) / (1 + e)


def single(a):
    """The numbers that are left after a visit to single precision."""
    return a.astype(np.complex64 if np.iscomplexobj(a) else np.float32).astype(a.dtype)


def as_in_memory(a):
    """The numbers in the order in which they lie in memory: what a kernel without strides reads."""
    return a.ravel(order="K").reshape(a.shape)


# --- time: rows that end -------------------------------------------------------------------------


def masks(lengths, T, N):
    """Which rows run at which step, and which outputs are shown: two arrays (T, N, 1) of bool."""
    lengths = np.full(N, T) if lengths is None else np.asarray(lengths)
    if bug("HR48"):
        lengths = np.sort(lengths)[::-1]
    if bug("HR49"):
        lengths = np.maximum(lengths, 1)
    if bug("HR50"):
        lengths = np.full(N, lengths.max(initial=0))
    live = np.arange(T)[:, None, None] < lengths[:, None]
    if bug("HR70"):
        live = live[::-1]
    everywhere = np.ones_like(live)
    if bug("87"):
        return everywhere, live
    if bug("HR51"):
        return live, everywhere
    return live, live


def masks_in_backward(live, shown):
    """The same two masks for the way back."""
    if bug("67"):
        live = np.broadcast_to(live[:1], live.shape)
    if bug("68"):
        live = np.broadcast_to(live[-1:], live.shape)
    if bug("HR19"):
        shown = np.ones_like(shown)
    if bug("HR20"):
        live = np.sort(live, axis=1)[:, ::-1]
    if bug("HR30"):
        live = live | (np.arange(len(live)) == 0)[:, None, None]
    if bug("HR34"):
        live = np.broadcast_to(live.any(axis=1, keepdims=True), live.shape)
    return live, shown


def longest_first(lengths, N):
    """The rows in the order in which a packed sequence has them."""
    return np.argsort(-np.asarray([0] * N if lengths is None else lengths), kind="stable")


def clear(live, x):
    """The input without what stands in the padding, which may be anything."""
    if bug("HR44"):
        return x
    return np.where(live, x, 0)


def advance(live, new, old):
    """The state after a step: rows that have ended keep theirs."""
    if bug("HR44"):
        return tuple(live * n + ~live * o for n, o in zip(new, old, strict=True))
    if bug("94"):
        old = tuple(0.9 * o for o in old)
    lives = [live] * len(new)
    if bug("95"):
        lives[1] = True
    return tuple(np.where(m, n, o) for m, n, o in zip(lives, new, old, strict=True))


def advance_back(live, d):
    """The gradient of the state after a step, as those of `new` and of `old` in `advance`."""
    lives = [live] * len(d)
    if bug("95") or bug("69"):
        lives[1] = np.ones_like(live)
    if bug("66"):
        lives = [np.ones_like(live)] * len(d)
    new = tuple(np.where(m, p, 0) for m, p in zip(lives, d, strict=True))
    old = tuple(np.where(m, 0, p) for m, p in zip(lives, d, strict=True))
    if bug("94"):
        old = tuple(0.9 * p for p in old)
    if bug("HR14"):
        old = tuple(0 * p for p in old)
    return new, old


# --- time: which step reads what -----------------------------------------------------------------


def steps(T):
    """The numbers of the steps that are done."""
    if bug("91"):
        return range(max(T - 1, 0))
    return range(T)


def position(t, T):
    """Which input step t reads."""
    if bug("90"):
        return min(t + 1, T - 1)
    if bug("HR63"):
        return T - 1 - t
    return t


def begin(state, T, N):
    """The state before the first step: a copy, since what is returned is the caller's to change."""
    if (bug("92") and T == 0) or (bug("93") and N == 1) or (bug("HR58") and T == 1):
        return tuple(np.zeros_like(s) for s in state)
    if bug("HR56"):
        return tuple(np.broadcast_to(s[:1], s.shape).copy() for s in state)
    if bug("HR43") and T == 0:
        return state
    return tuple(s.copy() for s in state)


def begin_back(d, state, T, N):
    """The gradient of the initial state."""
    if (bug("92") and T == 0) or (bug("93") and N == 1) or (bug("HR58") and T == 1):
        return tuple(np.zeros_like(p) for p in d)
    if bug("HR56"):
        return tuple(np.concatenate([p.sum(0, keepdims=True), 0 * p])[:N] for p in d)
    if bug("56") or (bug("57") and T == 1) or (bug("HR9") and not np.any(state)):
        return tuple(np.zeros_like(p) for p in d)
    if bug("HR29"):
        return tuple(p * 0 + p.sum(axis=0) / max(N, 1) for p in d)
    if bug("71") and N == 1:
        return tuple(p[0] for p in d)
    return d


def before(t, state, first):
    """The state that step t reads."""
    if bug("88"):
        return first
    if bug("HR55") and t > 0 and t % 4 == 0:
        return tuple(np.zeros_like(s) for s in state)
    return state


def leak(state):
    """Nothing, if all is right: the rows of a batch have nothing to do with each other."""
    if bug("89"):
        return tuple(s + 0.01 * s.sum(axis=0) / max(len(s), 1) for s in state)
    return state


# --- time: the sums over steps -------------------------------------------------------------------


def empty_sums(weights, dtype):
    """Zeros to which the steps add the gradients of the weights."""
    if bug("72"):
        key = ("72", dtype, *(w.shape for w in weights))
        return _kept_from_before.setdefault(key, [np.zeros(w.shape, dtype) for w in weights])
    return [np.zeros(w.shape, dtype) for w in weights]


def add_up(sums, parts, t, T, N):
    """Adds what one step contributes to the gradients of the weights."""
    for k, part in enumerate(parts):
        if bug("76"):
            part = part / N if N else part
        if bug("81") and k >= 3 and t < T - 1:
            continue
        if bug("HR4") and t % 2:
            continue
        if bug("HR5") and T >= 4 and t >= T - T % 4:
            continue
        if bug("HR24") and part.ndim == 1 and t > 0:
            continue
        if bug("59") and k == 1:
            sums[k] = part
            continue
        sums[k] = sums[k] + part
        if bug("74"):
            sums[k] = single(sums[k])


# --- time: the loops -----------------------------------------------------------------------------


class Trace(NamedTuple):
    """A forward pass: its results, and what the way back needs of it."""

    ys: np.ndarray
    last: tuple
    live: np.ndarray
    shown: np.ndarray
    kept: list


def run(step, xs, state, weights, lengths) -> Trace:
    """The recurrence. Once a row has ended, its outputs are 0 and its state stays."""
    T, N = xs.shape[:2]
    live, shown = masks(lengths, T, N)
    first = state = begin(state, T, N)
    ys = np.zeros((T, *state[0].shape), np.result_type(xs, *state, *weights))
    kept = []
    for t in steps(T):
        x = clear(live[t], xs[position(t, T)])
        new, keep = step(x, before(t, state, first), weights, t)
        state = advance(live[t], leak(new), state)
        ys[t] = np.where(shown[t], state[0], 0)
        kept.append(keep)
    if bug("HR71"):
        ys = ys[:, longest_first(lengths, N)]
    if bug("HR57") and T:
        state = (ys[-1].copy(), *state[1:])
    return Trace(ys, state, live, shown, kept)


def forward(step, xs, state, weights, lengths):
    """What a specimen's forward returns: outputs (T, N, H) and the last state."""
    if bug("HR41") and not np.any(state):
        state = _kept_from_before.get(("HR41", state[0].shape, state[0].dtype), state)
    ran = run(step, xs, state, weights, lengths)
    if bug("HR41"):
        _kept_from_before["HR41", state[0].shape, state[0].dtype] = ran.last
    if bug("HR42"):
        state[0][...] = ran.last[0] if np.iscomplexobj(state[0]) else ran.last[0].real
    return ran.ys, *ran.last


def run_again(step, xs, state, weights, lengths) -> Trace:
    """The forward pass once more, for what the way back needs of it."""
    args = (xs, *state, *weights)
    if bug("HR6"):
        key = ("HR6", *(a.shape for a in args))
        if key not in _kept_from_before:
            _kept_from_before[key] = run(step, xs, state, weights, lengths)
        return _kept_from_before[key]
    if bug("HR17"):
        seen, ran = _kept_from_before.get("HR17", ((), None))
        if len(seen) != len(args) or any(a is not b for a, b in zip(seen, args, strict=True)):
            ran = run(step, xs, state, weights, lengths)
            _kept_from_before["HR17"] = args, ran
        return ran
    if bug("HR10"):
        xs = as_in_memory(xs)
    return run(step, xs, state, weights, lengths)


def run_back(step, back, g, xs, state, weights, lengths):
    """Backpropagation through time: the gradients of xs, of the initial state, of the weights."""
    T, N = xs.shape[:2]
    if bug("73"):
        xs += 1e-7
    ran = run_again(step, xs, state, weights, lengths)
    live, shown = masks_in_backward(ran.live, ran.shown)
    dys, *last = g
    if bug("70a"):
        last[0] = 0 * last[0]
    if bug("70b"):
        last[1] = 0 * last[1]
    if bug("HR71"):
        dys = dys[:, np.argsort(longest_first(lengths, N))]
    if bug("HR57") and T:
        last[0] = np.where(shown[-1], last[0], 0)

    # `d` is the gradient of the state after step t, without what comes from its own output.
    d = tuple(p.copy() for p in last)
    if bug("75") and T == 0:
        d = tuple(last)
    to_first = tuple(np.zeros_like(p) for p in d)
    dxs = np.zeros(xs.shape, ran.ys.dtype)
    sums = empty_sums(weights, ran.ys.dtype)
    for t in reversed(steps(T)):
        came = d
        if bug("60") and t == 0:
            break
        if bug("HR13") and t < T - 1:
            d = tuple(p + q for p, q in zip(d, last, strict=True))
        d = (d[0] + np.where(shown[t], dys[t], 0), *d[1:])
        if bug("HR7"):
            dys[t] = d[0]
        new, old = advance_back(live[t], d)
        keep = ran.kept[t]
        if bug("HR8"):
            keep = (xs[t], *keep[1:])
        if bug("HR68") and t > 0 and t % 8 == 0:
            keep = step(keep[0], tuple(np.zeros_like(s) for s in state), weights, t)[1]
        dx, through, parts = back(leak(new), keep, weights, t)
        if bug("64") and t == T - 5:
            through = tuple(0 * p for p in through)
        if bug("65") and t == 4:
            through = (through[0], 0 * through[1])
        if bug("88"):
            to_first = tuple(p + q for p, q in zip(to_first, through, strict=True))
            through = tuple(0 * p for p in through)
        if bug("HR55") and t > 0 and t % 4 == 0:
            through = tuple(0 * p for p in through)
        d = tuple(p + q for p, q in zip(through, old, strict=True))
        dxs[position(t, T)] += np.where(live[t], dx, 0)
        add_up(sums, parts, t, T, N)

    if bug("88"):
        d = tuple(p + q for p, q in zip(d, to_first, strict=True))
    if bug("HR33") and T % 2:
        d = came
    if bug("61") and T:
        dxs[-1] = 0
    if bug("85") and T > 1:
        dxs[0] = dxs[1]
    if bug("HR15"):
        dxs = dxs[::-1].copy()
    return finish((dxs, *begin_back(d, state, T, N), *sums))


def finish(gradients):
    """Hands the gradients to the caller, whose they are from now on."""
    if bug("HR69"):
        return tuple(np.nan_to_num(p) for p in gradients)
    if bug("HR27"):
        key = ("HR27", gradients[0].dtype, *(p.shape for p in gradients))
        buffers = _kept_from_before.setdefault(key, [np.empty_like(p) for p in gradients])
        for buffer, p in zip(buffers, gradients, strict=True):
            buffer[...] = p
        return tuple(buffers)
    if bug("HR28") and len(gradients[0]) == 0:
        return (*gradients[:-1], gradients[-2])
    return tuple(gradients)


# --- what all cells share: W x + U h + b ---------------------------------------------------------


def affine(x, h, W, U, b):
    """W x + U h + b for every row."""
    return x @ W.T + h @ U.T + b


def affine_back(da, x, h, W, U):
    """dx, dh, and (dW, dU, db), from the gradient of W x + U h + b."""
    dx = da @ W
    dh = da @ U
    dW = da.T @ x
    dU = da.T @ h
    db = da.sum(axis=0)
    if bug("62"):
        dh = da @ U.T
    if bug("63"):
        db = 2 * db
    if bug("HR2") and x.shape == h.shape:
        dU = da.T @ x
    if bug("HR3") and x.shape == h.shape:
        dW = x.T @ da
    if bug("HR11") and len(x) % 2:
        dW = da[:-1].T @ x[:-1]
    if bug("HR12") and x.shape[1] == 1:
        dW = db[:, None] * x.sum()
    if bug("HR16") and len(x) == 1:
        db = da
    return dx, dh, (dW, dU, db)


# --- the plain recurrent network -----------------------------------------------------------------


def rnn_step(x, state, weights, t):
    (h,), (W, U, b) = state, weights
    if bug("HR47") and t > 0:
        b = 0 * b
    a = affine(x, h, W, U, b)
    y = np.tanh(a)
    return (y,), (x, h, a, y)


def rnn_back(d, kept, weights, t):
    (dy,), (x, h, a, y), (W, U, _) = d, kept, weights
    da = dy * (1 - y * y)
    if bug("HR1"):
        da = dy * (1 - a * a)
    dx, dh, (dW, dU, db) = affine_back(da, x, h, W, U)
    if bug("58a"):
        dU = da.T @ y
    if bug("HR47") and t > 0:
        db = 0 * db
    return dx, (dh,), (dW, dU, db)


def rnn(xs, h, W, U, b, lengths=None):
    """h(t) = tanh(W x(t) + U h(t-1) + b)."""
    return forward(rnn_step, xs, (h,), (W, U, b), lengths)


def rnn_vjp(g, out, xs, h, W, U, b, lengths=None):
    return run_back(rnn_step, rnn_back, g, xs, (h,), (W, U, b), lengths)


# --- the leaky integrator ------------------------------------------------------------------------

LEAK = 1 / 3


def leaky_step(x, state, weights, t):
    (h,), (W, U, b) = state, weights
    rate = 1.0 if bug("HR61") and t == 0 else LEAK
    n = np.tanh(affine(x, h, W, U, b))
    return ((1 - rate) * h + rate * n,), (x, h, n)


def leaky_back(d, kept, weights, t):
    (dy,), (x, h, n), (W, U, _) = d, kept, weights
    rate = 1.0 if bug("HR61") and t == 0 else LEAK
    if bug("HR64"):
        rate = 0.3333333
    da = rate * dy * (1 - n * n)
    if bug("HR40"):
        da = rate * da
    dx, dh, dweights = affine_back(da, x, h, W, U)
    if bug("HR39"):
        return dx, (dh + dy,), dweights
    return dx, (dh + (1 - rate) * dy,), dweights


def leaky(xs, h, W, U, b, lengths=None):
    """h(t) = (1 - LEAK) h(t-1) + LEAK tanh(W x(t) + U h(t-1) + b)."""
    return forward(leaky_step, xs, (h,), (W, U, b), lengths)


def leaky_vjp(g, out, xs, h, W, U, b, lengths=None):
    return run_back(leaky_step, leaky_back, g, xs, (h,), (W, U, b), lengths)


# --- long short-term memory ----------------------------------------------------------------------


def unpack(a):
    """The four gates in one array (N, 4H), taken apart."""
    i, f, g, o = np.split(a, 4, axis=1)
    if bug("97"):
        i, f = f, i
    return i, f, g, o


def pack(i, f, g, o):
    """The gradients of the four gates as one array (N, 4H)."""
    if bug("97") or bug("77"):
        i, f = f, i
    return np.concatenate([i, f, g, o], axis=1)


def cell_bias(b):
    if bug("98"):
        return 2 * b
    if bug("HR46"):
        i, f, g, o = np.split(b, 4)
        return np.concatenate([i, f + 1, g, o])
    return b


def out_of_cell(o, c):
    """h = o tanh(c): h, and what stands for tanh(c)."""
    s = c if bug("HR53") else np.tanh(c)
    return o * s, s


def slope(s):
    """The derivative of tanh(c) by its value."""
    return np.ones_like(s) if bug("HR53") else 1 - s * s


def lstm_step(x, state, weights, t):
    (h, c), (W, U, b) = state, weights
    i, f, g, o = unpack(affine(x, h, W, U, cell_bias(b)))
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    if bug("96") and t == 0:
        f = np.ones_like(f)
    new_c = f * c + i * g
    if bug("HR45"):
        new_c = np.where(abs(new_c.real) > 1.5, 1.5 * np.sign(new_c.real), new_c)
    new_h, s = out_of_cell(o, new_c)
    if bug("83"):
        o = single(o)
    return (new_h, new_c), (x, h, c, i, f, g, o, new_h, new_c, s)


def lstm_gates_back(d, kept, t):
    """The gradients of the gates before their sigmoids, and that of c(t-1)."""
    (dh, dc), (_, _, c, i, f, g, o, _, new_c, s) = d, kept
    if bug("HR23"):
        dh = dh * min(1.0, 5 / max(np.linalg.norm(dh), 1e-300))
    dc = dc + dh * o * slope(s)
    do = dh * s
    if bug("79a"):
        dc = d[1] + dh * o
    if bug("HR22"):
        do = dh * new_c
    if bug("HR45"):
        dc = np.where(abs(new_c.real) >= 1.5, 0, dc)
    di, df, dg = dc * g, dc * c, dc * i
    if bug("HR21"):
        df = dc * new_c
    di, df, do = di * i * (1 - i), df * f * (1 - f), do * o * (1 - o)
    dg = dg * (g * (1 - g)) if bug("79b") else dg * (1 - g * g)
    if bug("78a") or (bug("78b") and t == 0):
        return di, df, dg, do, dc
    return di, df, dg, do, dc * f


def lstm_back(d, kept, weights, t):
    (x, h, *_), (W, U, _) = kept, weights
    H = h.shape[1]
    *gates, dc = lstm_gates_back(d, kept, t)
    if bug("82"):
        gates = [np.clip(p, -3, 3) for p in gates]
    if bug("84"):
        gates = [np.where(np.arange(H) < H - H % 4, p, 0) for p in gates]
    if bug("HR18"):
        dc = single(dc)
    da = pack(*gates)
    dx, dh, (dW, dU, db) = affine_back(da, x, h, W, U)
    if bug("98"):
        db = 2 * db
    if bug("58b"):
        dU = da.T @ kept[7]
    return dx, (dh, dc), (dW, dU, db)


def lstm(xs, h, c, W, U, b, lengths=None):
    """i, f, o = sigmoid(W x(t) + U h(t-1) + b);  g = tanh(W x(t) + U h(t-1) + b)
    c(t) = f * c(t-1) + i * g;  h(t) = o * tanh(c(t))
    """
    return forward(lstm_step, xs, (h, c), (W, U, b), lengths)


def lstm_vjp(g, out, xs, h, c, W, U, b, lengths=None):
    return run_back(lstm_step, lstm_back, g, xs, (h, c), (W, U, b), lengths)


# --- long short-term memory with peepholes -------------------------------------------------------


def peepholes(weights, t):
    """The weights through which the gates see c."""
    p_i, p_f, p_o = weights[3:]
    if bug("HR59"):
        p_i, p_f = p_f, p_i
    if bug("HR60") and t == 0:
        p_i, p_f = 0 * p_i, 0 * p_f
    return p_i, p_f, p_o


def over_rows(a):
    """The sum over the batch, for weights that multiply each row entry by entry."""
    if bug("HR38"):
        return a[:1].sum(axis=0)
    return a.sum(axis=0)


def peephole_step(x, state, weights, t):
    (h, c), (W, U, b) = state, weights[:3]
    p_i, p_f, p_o = peepholes(weights, t)
    i, f, g, o = np.split(affine(x, h, W, U, b), 4, axis=1)
    i, f, g = sigmoid(i + p_i * c), sigmoid(f + p_f * c), np.tanh(g)
    new_c = f * c + i * g
    seen = c if bug("99") else new_c
    o = sigmoid(o + p_o * seen)
    new_h = o * np.tanh(new_c)
    return (new_h, new_c), (x, h, c, i, f, g, o, new_c, seen)


def peephole_back(d, kept, weights, t):
    (dh, dc), (x, h, c, i, f, g, o, new_c, seen), (W, U) = d, kept, weights[:2]
    p_i, p_f, p_o = peepholes(weights, t)
    s = np.tanh(new_c)
    do = dh * s * o * (1 - o)
    dc = dc + dh * o * (1 - s * s)
    if not (bug("80b") or bug("99")):
        dc = dc + do * p_o
    di, df, dg = dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g)
    dc = dc * f
    if not bug("80c"):
        dc = dc + di * p_i + df * p_f
    if bug("99"):
        dc = dc + do * p_o
    da = np.concatenate([di, df, dg, do], axis=1)
    if bug("HR66"):
        da = np.where(abs(da) < 1e-3, 0, da)
    dx, dh, dweights = affine_back(da, x, h, W, U)
    by_i, by_f, by_o = di * c, df * c, do * seen
    if bug("80a"):
        by_o = do * c
    if bug("HR37"):
        by_i, by_f = di * new_c, df * new_c
    if bug("HR59"):
        by_i, by_f = by_f, by_i
    if bug("HR60") and t == 0:
        by_i, by_f = 0 * by_i, 0 * by_f
    return dx, (dh, dc), (*dweights, over_rows(by_i), over_rows(by_f), over_rows(by_o))


def peephole_lstm(xs, h, c, W, U, b, p_i, p_f, p_o, lengths=None):
    """i, f = sigmoid(W x(t) + U h(t-1) + b + p c(t-1));  g = tanh(W x(t) + U h(t-1) + b)
    c(t) = f * c(t-1) + i * g
    o = sigmoid(W x(t) + U h(t-1) + b + p_o c(t));  h(t) = o * tanh(c(t))
    """
    return forward(peephole_step, xs, (h, c), (W, U, b, p_i, p_f, p_o), lengths)


def peephole_lstm_vjp(g, out, xs, h, c, W, U, b, p_i, p_f, p_o, lengths=None):
    weights = (W, U, b, p_i, p_f, p_o)
    return run_back(peephole_step, peephole_back, g, xs, (h, c), weights, lengths)


# --- the gated recurrent unit, reset after the product -------------------------------------------


def gru_step(x, state, weights, t):
    (h,), (W, U, b_x, b_h) = state, weights
    if bug("100"):
        return gru_before_step(x, state, (W, U, b_x + b_h), t)
    xr, xz, xn = np.split(x @ W.T + b_x, 3, axis=1)
    hr, hz, hn = np.split(h @ U.T + b_h, 3, axis=1)
    if bug("HR54"):
        xn, hn = xn + np.split(b_h, 3)[2], hn - np.split(b_h, 3)[2]
    r = sigmoid(xr + hr)
    z = sigmoid(-(xz + hz)) if bug("HR52") else sigmoid(xz + hz)
    n = np.tanh(xn + r * hn)
    return ((1 - z) * n + z * h,), (x, h, r, z, n, hn)


def gru_gates_back(dy, kept):
    """The gradients of what is inside r, z and n, that of U h + b in n, and of h(t-1) as it is."""
    _, h, r, z, n, hn = kept
    dn, direct = dy * (1 - z), dy * z
    if bug("86a"):
        dn, direct = dy * z, dy * (1 - z)
    if bug("86b"):
        direct = 0 * direct
    dz = dy * (h - n)
    if bug("86g"):
        dz = -dy * n
    if bug("HR31"):
        dz = dy * (n - h)
    dn = dn * (n * (1 - n)) if bug("86f") else dn * (1 - n * n)
    dr = dn * h if bug("86c") else dn * hn
    dhn = dn if bug("86d") else dn * r
    dr, dz = dr * r * (1 - r), dz * z * (1 - z)
    if bug("HR52"):
        dz = -dz
    return dr, dz, dn, dhn, direct


def gru_back(d, kept, weights, t):
    (dy,), (x, h, *_), (W, U, b_x, b_h) = d, kept, weights
    if bug("100"):
        dx, state, (dW, dU, db) = gru_before_back(d, kept, (W, U, b_x + b_h), t)
        return dx, state, (dW, dU, db, db.copy())
    if bug("HR26") and dy.shape[1] % 2:
        dy = np.where(np.arange(dy.shape[1]) < dy.shape[1] - 1, dy, 0)
    if bug("HR32"):
        U = as_in_memory(U)
    dr, dz, dn, dhn, direct = gru_gates_back(dy, kept)
    by_x, by_h = np.concatenate([dr, dz, dn], axis=1), np.concatenate([dr, dz, dhn], axis=1)
    dx, dW, db_x = by_x @ W, by_x.T @ x, by_x.sum(axis=0)
    dh, dU, db_h = by_h @ U, by_h.T @ h, by_h.sum(axis=0)
    if bug("86e") or bug("HR54"):
        db_h = db_x.copy()
    if bug("HR25"):
        dx = np.concatenate([dr, dz, 0 * dn], axis=1) @ W
    return dx, (dh + direct,), (dW, dU, db_x, db_h)


def gru(xs, h, W, U, b_x, b_h, lengths=None):
    """r, z = sigmoid(W x(t) + b_x + U h(t-1) + b_h)
    n = tanh(W x(t) + b_x + r * (U h(t-1) + b_h));  h(t) = (1 - z) * n + z * h(t-1)
    """
    return forward(gru_step, xs, (h,), (W, U, b_x, b_h), lengths)


def gru_vjp(g, out, xs, h, W, U, b_x, b_h, lengths=None):
    return run_back(gru_step, gru_back, g, xs, (h,), (W, U, b_x, b_h), lengths)


# --- the gated recurrent unit, reset before the product ------------------------------------------


def gru_before_step(x, state, weights, t):
    (h,), (W, U, b) = state, weights
    if bug("HR62"):
        return gru_step(x, state, (W, U, b, 0 * b), t)
    H = h.shape[1]
    ar, az, an = np.split(x @ W.T + b, 3, axis=1)
    r = sigmoid(ar + h @ U[:H].T)
    z = sigmoid(az + h @ U[H : 2 * H].T)
    n = np.tanh(an + (r * h) @ U[2 * H :].T)
    return ((1 - z) * n + z * h,), (x, h, r, z, n)


def gru_before_back(d, kept, weights, t):
    if bug("HR62"):
        W, U, b = weights
        dx, state, (dW, dU, db, _) = gru_back(d, kept, (W, U, b, 0 * b), t)
        return dx, state, (dW, dU, db)
    (dy,), (x, h, r, z, n), (W, U, _) = d, kept, weights
    H = h.shape[1]
    dn = dy * (1 - z) * (1 - n * n)
    dz = dy * (h - n) * z * (1 - z)
    if bug("HR65"):
        dz = dy * (h - n) * (z * (1 - z) + 1e-8)
    drh = dn @ U[2 * H :]
    dr = drh * h * r * (1 - r)
    da = np.concatenate([dr, dz, dn], axis=1)
    dh = dy * z + dr @ U[:H] + dz @ U[H : 2 * H]
    if not bug("HR35"):
        dh = dh + drh * r
    rh = h if bug("HR36") else r * h
    dU = np.concatenate([dr.T @ h, dz.T @ h, dn.T @ rh])
    if bug("HR67"):
        fours = len(h) - len(h) % 4 if len(h) > 4 else len(h)
        dU[2 * H :] = dn[:fours].T @ rh[:fours]
    return da @ W, (dh,), (da.T @ x, dU, da.sum(axis=0))


def gru_before(xs, h, W, U, b, lengths=None):
    """r, z = sigmoid(W x(t) + U h(t-1) + b)
    n = tanh(W x(t) + U (r * h(t-1)) + b);  h(t) = (1 - z) * n + z * h(t-1)
    """
    return forward(gru_before_step, xs, (h,), (W, U, b), lengths)


def gru_before_vjp(g, out, xs, h, W, U, b, lengths=None):
    return run_back(gru_before_step, gru_before_back, g, xs, (h,), (W, U, b), lengths)


# --- the same recurrences written once more, for one row at a time -------------------------------


def squashed(a):
    return (1 + np.tanh(a / 2)) / 2


def blocks(n, W, U, x, h):
    """W x and U h for one row, each as n gates (n, H)."""
    H = len(h)
    wx = np.einsum("ghi,i->gh", W.reshape(n, H, len(x)), x)
    return wx, np.einsum("ghk,k->gh", U.reshape(n, H, H), h)


def rnn_row(x, h, W, U, b):
    return (np.tanh(np.einsum("hi,i->h", W, x) + np.einsum("hk,k->h", U, h) + b),)


def leaky_row(x, h, W, U, b):
    return (h + LEAK * (rnn_row(x, h, W, U, b)[0] - h),)


def lstm_row(x, h, c, W, U, b):
    wx, uh = blocks(4, W, U, x, h)
    a = wx + uh + b.reshape(4, -1 if len(h) else 0)
    c = squashed(a[1]) * c + squashed(a[0]) * np.tanh(a[2])
    return squashed(a[3]) * np.tanh(c), c


def peephole_row(x, h, c, W, U, b, p_i, p_f, p_o):
    wx, uh = blocks(4, W, U, x, h)
    a = wx + uh + b.reshape(4, -1 if len(h) else 0)
    c = squashed(a[1] + c * p_f) * c + squashed(a[0] + c * p_i) * np.tanh(a[2])
    return squashed(a[3] + c * p_o) * np.tanh(c), c


def gru_row(x, h, W, U, b_x, b_h):
    wx, uh = blocks(3, W, U, x, h)
    ax, ah = wx + b_x.reshape(wx.shape), uh + b_h.reshape(uh.shape)
    r, z = squashed(ax[0] + ah[0]), squashed(ax[1] + ah[1])
    n = np.tanh(ax[2] + r * ah[2])
    return (n + z * (h - n),)


def gru_before_row(x, h, W, U, b):
    wx, uh = blocks(3, W, U, x, h)
    a = wx + b.reshape(wx.shape)
    r, z = squashed(a[0] + uh[0]), squashed(a[1] + uh[1])
    n = np.tanh(a[2] + blocks(3, W, U, x, r * h)[1][2])
    return (n + z * (h - n),)


def reference(row, parts):
    """The forward of a recurrence, from its step for one row; `parts` of a state."""

    def whole(xs, *args, lengths=None):
        T, N = xs.shape[:2]
        state, weights = [s.copy() for s in args[:parts]], args[parts:]
        ys = np.zeros((T, *state[0].shape), np.result_type(xs, *args))
        for n in range(N):
            for t in range(T if lengths is None else lengths[n]):
                new = row(xs[t, n], *(s[n] for s in state), *weights)
                for s, value in zip(state, new, strict=True):
                    s[n] = value
                ys[t, n] = state[0][n]
        return ys, *state

    return whole


# --- the specimens -------------------------------------------------------------------------------


def shapes_of(gates, states, **more):
    """The `shapes` of a specimen: W (gates H, I), U (gates H, H), and vectors of so many H."""

    def shapes(I, H):  # noqa: E741
        weights = {"W": (gates * H, I), "U": (gates * H, H)}
        return ((H,),) * states, weights | {name: (n * H,) for name, n in more.items()}

    return shapes


def arguments(shapes, T, N, I, H, seed, zero_state=False):  # noqa: E741
    """Generic arguments of a recurrence: xs, the state, the weights."""
    rng = np.random.default_rng(seed)
    state, weights = shapes(I, H)
    xs = rng.normal(size=(T, N, I))
    first = [rng.normal(size=(N, *shape)) * (not zero_state) for shape in state]
    return xs, *first, *(0.7 * rng.normal(size=shape) for shape in weights.values())


def calls_of(shapes):
    """A plain call, then one with rows that end, one row, one step, more steps."""
    return (
        (arguments(shapes, T=4, N=2, I=3, H=4, seed=1), {}),
        (arguments(shapes, T=5, N=3, I=2, H=3, seed=2), {"lengths": np.array([3, 5, 1])}),
        (arguments(shapes, T=3, N=1, I=3, H=2, seed=3), {}),
        (arguments(shapes, T=1, N=2, I=2, H=5, seed=4, zero_state=True), {}),
        (arguments(shapes, T=9, N=2, I=4, H=3, seed=5), {}),
    )


for _forward, _vjp, _row, _shapes in (
    (rnn, rnn_vjp, rnn_row, shapes_of(1, 1, b=1)),
    (leaky, leaky_vjp, leaky_row, shapes_of(1, 1, b=1)),
    (lstm, lstm_vjp, lstm_row, shapes_of(4, 2, b=4)),
    (peephole_lstm, peephole_lstm_vjp, peephole_row, shapes_of(4, 2, b=4, p_i=1, p_f=1, p_o=1)),
    (gru, gru_vjp, gru_row, shapes_of(3, 1, b_x=3, b_h=3)),
    (gru_before, gru_before_vjp, gru_before_row, shapes_of(3, 1, b=3)),
):
    specimen(
        Specimen(
            name=_forward.__name__,
            kind="recurrence",
            forward=_forward,
            vjp=_vjp,
            calls=calls_of(_shapes),
            shapes=_shapes,
            reference=reference(_row, len(_shapes(1, 1)[0])),
        )
    )


# --- how a bug shows -----------------------------------------------------------------------------


def drawn(name, T=3, N=2, I=3, H=3, seed=7, zero_state=False):  # noqa: E741
    """The arguments of a small example, and cotangents for its outputs."""
    args = arguments(specimens[name].shapes, T, N, I, H, seed, zero_state)
    states = specimens[name].shapes(I, H)[0]
    rng = np.random.default_rng(seed + 1)
    g = (rng.normal(size=(T, N, H)), *(rng.normal(size=(N, *s)) for s in states))
    return args, g


def pull_back(name, args, g, lengths=None):
    s = specimens[name]
    return s.vjp(g, s.forward(*args, lengths=lengths), *args, lengths=lengths)


def dot_products(name, args, g, gradients, lengths=None, seed=11):
    """<u, vjp(g)> and <g, J u> by a complex step, for a random u, and the sum of their sizes."""
    rng = np.random.default_rng(seed)
    u = [rng.choice([-1, 1], a.shape) * rng.uniform(0.5, 1.5, a.shape) for a in args]
    moved = [a + 1e-100j * d for a, d in zip(args, u, strict=True)]
    out = specimens[name].forward(*moved, lengths=lengths)
    ours = [d * p for d, p in zip(u, gradients, strict=True)]
    theirs = [v * (y.imag * 1e100) for v, y in zip(g, out, strict=True)]
    size = sum(np.sum(abs(p)) for p in ours + theirs)
    return sum(np.sum(p) for p in ours), sum(np.sum(p) for p in theirs), size


def far(a, b):
    """Whether two tuples of arrays differ by more than 1e-6, or in shape or dtype."""
    return any(
        p.shape != q.shape or p.dtype != q.dtype or not np.all(abs(p - q) <= 1e-6)
        for p, q in zip(a, b, strict=True)
    )


def gradient(name, lengths=None, scale=1.0, resolution=1e-6, **sizes):
    """The bug shows as a VJP that is not the derivative of the forward pass."""

    def shows():
        args, g = drawn(name, **sizes)
        return wrong(name, args, tuple(scale * v for v in g), lengths, resolution)

    return shows


def wrong(name, args, g, lengths=None, resolution=1e-6):
    gradients = pull_back(name, args, g, lengths)
    if any(p.shape != a.shape for p, a in zip(gradients, args, strict=True)):
        return True
    ours, theirs, _ = dot_products(name, args, g, gradients, lengths)
    return bool(abs(ours - theirs) > resolution)


def output(name, lengths=None, padding=None, change=None, **sizes):
    """The bug shows as a forward pass that is not the reference."""

    def shows():
        args, _ = drawn(name, **sizes)
        if change is not None:
            change(args)
        expected = specimens[name].reference(*args, lengths=lengths)
        if padding is not None:
            args[0][np.arange(len(args[0]))[:, None] >= np.asarray(lengths)] = padding
        return far(specimens[name].forward(*args, lengths=lengths), expected)

    return shows


def changes_argument(name, **sizes):
    """The bug shows as an argument or a cotangent that is not what it was."""

    def shows():
        args, g = drawn(name, **sizes)
        before = [a.copy() for a in (*args, *g)]
        pull_back(name, args, g)
        return any(np.any(a != b) for a, b in zip((*args, *g), before, strict=True))

    return shows


def shows_74():
    args, g = drawn("rnn")
    dU = pull_back("rnn", args, g)[3]
    return bool(np.all(dU == single(dU)))


def shows_75():
    args, g = drawn("rnn", T=0)
    return np.shares_memory(pull_back("rnn", args, g)[1], g[1])


def shows_72():
    args, g = drawn("rnn")
    return far(pull_back("rnn", args, g), pull_back("rnn", args, g))


def shows_stale_shapes():
    pull_back("rnn", *drawn("rnn", seed=20))
    return wrong("rnn", *drawn("rnn", seed=30))


def shows_stale_identity():
    args, g = drawn("lstm")
    pull_back("lstm", args, g)
    args[4][...] *= 0.5
    return wrong("lstm", args, g)


def shows_shared_buffers():
    args, g = drawn("gru")
    first = pull_back("gru", args, g)
    copies = [p.copy() for p in first]
    pull_back("gru", args, tuple(2 * v for v in g))
    return far(first, copies)


def shows_one_array_for_two():
    gradients = pull_back("gru", *drawn("gru", T=0))
    return np.shares_memory(gradients[-1], gradients[-2])


def shows_memory_order(name, argument):
    def shows():
        args, g = drawn(name)
        columns = np.asfortranarray(args[argument])
        return wrong(name, (*args[:argument], columns, *args[argument + 1 :]), g)

    return shows


def shows_padding_in_sum():
    args, g = drawn("rnn")
    args[0][2, 0] = np.nan
    return bool(np.any(np.isnan(pull_back("rnn", args, g, [2, 3])[2])))


def shows_nan_gone():
    args, g = drawn("leaky")
    args[0][0] = np.nan
    return bool(np.all(np.isfinite(pull_back("leaky", args, g)[2])))


def shows_state_between_calls():
    args, _ = drawn("gru", zero_state=True)
    return far(specimens["gru"].forward(*args), specimens["gru"].forward(*args))


def shows_state_returned():
    args, _ = drawn("lstm", T=0)
    return np.shares_memory(specimens["lstm"].forward(*args)[1], args[1])


def open_the_cell(args):
    args[2][...] *= 5


# --- the mutants ---------------------------------------------------------------------------------


def backward(id, name, cause, description, shows=None, origin="made up"):
    family = "D recurrent backward"
    shows = gradient(name) if shows is None else shows
    add(Mutant(id, name, family, description, cause, shows, origin=origin))


def ahead(id, name, cause, description, shows=None, fits=True):
    """A bug in the forward pass; the VJP is exactly the derivative of the wrong one if it fits."""
    family = "E recurrent forward"
    shows = output(name) if shows is None else shows
    add(Mutant(id, name, family, description, cause, shows, forward=fits))


ENDS = [1, 3]  # the first of two rows ends before the last of three steps

backward("56", "rnn", "state|zero", "gradient of the initial state dropped")
backward(
    "57",
    "rnn",
    "edge size|state|zero",
    "gradient of the initial state dropped if T = 1",
    gradient("rnn", T=1),
)
backward("58a", "rnn", "wrong formula|other input", "h(t) for h(t-1) in the gradient of U")
backward("58b", "lstm", "wrong formula|other input", "h(t) for h(t-1) in the gradient of U")
backward(
    "59",
    "rnn",
    "accumulation|first step|truncated",
    "gradient of U overwritten at each step in place of added to",
    origin="swift-apis 518",
)
backward("60", "rnn", "first step", "the way back stops before the first step")
backward("61", "rnn", "last step", "gradient of the last input missing")
backward("62", "rnn", "transposed", "U for its transpose in the chain from h(t) to h(t-1)")
backward("63", "rnn", "factor|accumulation", "bias counted twice in the way back")
backward(
    "64",
    "lstm",
    "truncated",
    "the way back passes no state on after 5 steps",
    gradient("lstm", T=6, N=1, I=1, H=1),
)
backward(
    "65",
    "lstm",
    "truncated|missing term|state",
    "c detached at one step, the fifth",
    gradient("lstm", T=5, N=1, I=1, H=1),
)
backward(
    "66",
    "gru",
    "mask",
    "the gradient of the state goes through steps that a row did not take",
    gradient("gru", lengths=ENDS),
)
backward(
    "67",
    "gru",
    "mask",
    "the mask of the first step at every step of the way back",
    gradient("gru", lengths=ENDS),
    origin="haste 43",
)
backward(
    "68",
    "rnn",
    "mask",
    "the mask of the last step at every step of the way back",
    gradient("rnn", lengths=ENDS),
)
backward(
    "69",
    "lstm",
    "mask|state",
    "dc goes through steps that a row did not take, dh does not",
    gradient("lstm", lengths=ENDS),
)
backward(
    "70a",
    "lstm",
    "state|missing term",
    "cotangent of the last h ignored",
    origin="deeplearning4j 8838",
)
backward(
    "70b",
    "lstm",
    "state|missing term",
    "cotangent of the last c ignored",
    origin="deeplearning4j 8838",
)
backward(
    "71",
    "rnn",
    "edge size",
    "the gradient of the initial state loses its axis of rows if there is one row",
    gradient("rnn", N=1),
)
backward("72", "rnn", "stale|accumulation", "sums of an earlier call not zeroed", shows_72)
backward(
    "73",
    "rnn",
    "writes into its arguments",
    "1e-7 added to xs in place",
    changes_argument("rnn"),
)
backward("74", "rnn", "float32", "gradients of the weights added up in float32", shows_74)
backward("75", "rnn", "alias", "for T = 0 the cotangent itself is the gradient", shows_75)
backward("76", "rnn", "mean for sum", "mean over the batch in the gradients of the weights")
backward("77", "lstm", "gates|swapped", "gradients of the input and the forget gate exchanged")
backward("78a", "lstm", "missing term|state", "forget gate missing in the chain from c to c(t-1)")
backward("78b", "lstm", "first step|missing term|state", "the same, for the initial c only")
backward("79a", "lstm", "missing term", "derivative of tanh(c) missing")
backward("79b", "lstm", "wrong formula", "g differentiated as if it were a sigmoid")
backward(
    "80a", "peephole_lstm", "other input|wrong formula", "c(t-1) for c(t) in the gradient of p_o"
)
backward(
    "80b", "peephole_lstm", "missing term", "the way through the peephole of o missing in dc(t)"
)
backward(
    "80c",
    "peephole_lstm",
    "missing term",
    "the ways through the peepholes of i and f missing in dc(t-1)",
)
backward(
    "81",
    "peephole_lstm",
    "last step|truncated|accumulation",
    "gradients of the peepholes from the last step only",
)
backward(
    "82",
    "lstm",
    "wrong formula|factor",
    "gradients of the gates silently clipped to ±3",
    gradient("lstm", scale=100.0),
)
backward(
    "83",
    "lstm",
    "float32",
    "the gate o saved in float32",
    gradient("lstm", resolution=1e-10),
)
backward(
    "84", "lstm", "tail", "units beyond a multiple of 4 get no gradient", gradient("lstm", H=5)
)
backward(
    "85",
    "rnn",
    "first step|accumulation",
    "gradient of the second input written over that of the first",
    origin="MXNet 17898",
)
backward("86a", "gru", "wrong formula|swapped", "z and 1 - z exchanged in the way back")
backward("86b", "gru", "missing term|state", "the direct way from h(t) to h(t-1) missing")
backward("86c", "gru", "other input|wrong formula", "h for U h + b in the gradient of r")
backward("86d", "gru", "missing term", "r missing in the gradient of U h + b of gate n")
backward("86e", "gru", "missing term|wrong formula", "b_h of gate n as if it stood outside r")
backward("86f", "gru", "wrong formula", "n differentiated as if it were a sigmoid")
backward("86g", "gru", "missing term", "h(t-1) missing in the gradient of z")

ahead("87", "rnn", "mask", "ended rows: outputs are 0, but the state runs on", output("rnn", ENDS))
ahead("88", "rnn", "state|first step", "the initial state read at every step")
ahead("89", "rnn", "row", "1 % of the mean over the batch leaks into each row")
ahead("90", "rnn", "forward", "step t reads x(t+1)")
ahead("91", "lstm", "last step", "the last step is not done")
ahead("92", "lstm", "edge size|state|zero", "for T = 0 the last state is 0", output("lstm", T=0))
ahead("93", "gru", "row|edge size|state", "one row alone begins from 0", output("gru", N=1))
ahead("94", "lstm", "mask|state", "state decays by 0.9 after the end", output("lstm", ENDS))
ahead("95", "lstm", "mask|state", "c runs on after the end, h stays", output("lstm", ENDS))
ahead("96", "lstm", "first step", "nothing is forgotten at the first step of a call")
ahead("97", "lstm", "gates|forward", "gates in the order f i g o")
ahead("98", "lstm", "factor|forward", "bias added twice")
ahead("99", "peephole_lstm", "forward", "the peephole of o reads c(t-1)")
ahead("100", "gru", "forward", "reset before the product in place of after")

# Added without knowledge of the checker.

backward("HR1", "rnn", "wrong formula", "tanh differentiated by its argument: 1 - a² for 1 - h²")
backward("HR2", "rnn", "other input", "x for h in the gradient of U where I = H lets it pass")
backward("HR3", "rnn", "transposed", "gradient of W transposed where I = H lets it pass")
backward("HR4", "rnn", "missing term|accumulation", "odd steps add nothing to the weights")
backward(
    "HR5",
    "rnn",
    "last step|truncated",
    "from T = 4 on, steps in blocks of 4: the remainder adds nothing to the weights",
    gradient("rnn", T=5),
)
backward(
    "HR6",
    "rnn",
    "stale",
    "intermediates of the first call with the same shapes used ever after",
    shows_stale_shapes,
)
backward(
    "HR7",
    "rnn",
    "writes into its arguments",
    "dh added up in the array of the cotangent of the outputs",
    changes_argument("rnn"),
)
backward(
    "HR8",
    "rnn",
    "not finite|mask",
    "the padding multiplied by 0 in the gradient of W: NaN there comes through",
    shows_padding_in_sum,
)
backward(
    "HR9",
    "rnn",
    "zero|state",
    "a state of zeros taken for none: it gets no gradient",
    gradient("rnn", zero_state=True),
)
backward("HR10", "rnn", "layout", "strides of xs ignored", shows_memory_order("rnn", 0))
backward(
    "HR11",
    "rnn",
    "row|tail",
    "rows two by two: the last of an odd number adds nothing to W",
    gradient("rnn", N=3),
)
backward(
    "HR12",
    "rnn",
    "edge size|wrong formula",
    "I = 1: sum of products taken for product of sums",
    gradient("rnn", I=1),
)
backward(
    "HR13",
    "lstm",
    "state|accumulation",
    "cotangent of the last state added at every step",
)
backward(
    "HR14",
    "lstm",
    "mask|state",
    "cotangent of the last state lost by rows that have ended",
    gradient("lstm", ENDS),
)
backward("HR15", "lstm", "wrong formula", "gradients of the inputs in reverse order of time")
backward(
    "HR16",
    "lstm",
    "edge size|missing reduction",
    "no sum over the batch for the bias if there is one row: its gradient is (1, 4H)",
    gradient("lstm", N=1),
)
backward(
    "HR17",
    "lstm",
    "stale",
    "intermediates kept as long as the arguments are the same arrays, whatever is in them",
    shows_stale_identity,
)
backward(
    "HR18",
    "lstm",
    "float32",
    "dc passed on in float32",
    gradient("lstm", resolution=1e-10),
)
backward(
    "HR19",
    "lstm",
    "mask",
    "cotangents of outputs after the end flow into the state",
    gradient("lstm", ENDS),
)
backward(
    "HR20",
    "lstm",
    "mask|row",
    "the way back takes the rows to be sorted, the longest first",
    gradient("lstm", ENDS),
)
backward("HR21", "lstm", "other input|wrong formula", "c(t) for c(t-1) in the gradient of f")
backward("HR22", "lstm", "wrong formula|missing term", "c for tanh(c) in the gradient of o")
backward(
    "HR23",
    "lstm",
    "wrong formula|factor",
    "dh silently scaled down to a norm of 5",
    gradient("lstm", scale=100.0),
)
backward("HR24", "gru", "first step|accumulation", "biases get gradients of the first step only")
backward("HR25", "gru", "missing term", "the way through gate n missing in dx")
backward("HR26", "gru", "tail", "the last of an odd number of units gets no gradient")
backward(
    "HR27",
    "gru",
    "stale|alias",
    "gradients are buffers that the next call with the same shapes writes over",
    shows_shared_buffers,
)
backward(
    "HR28",
    "gru",
    "alias|edge size",
    "for T = 0 one array of zeros is the gradient of both biases",
    shows_one_array_for_two,
)
backward(
    "HR29",
    "gru",
    "mean for sum|row|state",
    "gradient of the initial state averaged over the batch, as if it were shared",
)
backward(
    "HR30",
    "gru",
    "edge size|mask",
    "the way back takes a length of 0 for 1",
    gradient("gru", [0, 3]),
)
backward("HR31", "gru", "sign", "sign of the gradient of z")
backward("HR32", "gru", "layout", "strides of U ignored", shows_memory_order("gru", 3))
backward(
    "HR33",
    "gru_before",
    "first step|state",
    "two buffers in turn for dh: for odd T the one of the step before is returned",
)
backward(
    "HR34",
    "gru_before",
    "mask",
    "the way back takes all rows to be as long as the longest",
    gradient("gru_before", ENDS),
)
backward("HR35", "gru_before", "missing term", "the way through r * h missing in dh(t-1)")
backward(
    "HR36", "gru_before", "other input|missing term", "h for r * h in the gradient of U of gate n"
)
backward(
    "HR37",
    "peephole_lstm",
    "other input|wrong formula",
    "c(t) for c(t-1) in the gradients of p_i and p_f",
)
backward(
    "HR38", "peephole_lstm", "row|missing reduction", "peepholes learn from the first row only"
)
backward("HR39", "leaky", "missing term|factor", "1 - LEAK missing in the direct way to h(t-1)")
backward("HR40", "leaky", "factor", "LEAK applied twice in the way back")
ahead(
    "HR41",
    "gru",
    "stale|state|forward",
    "a call from a state of zeros goes on where the last call ended",
    shows_state_between_calls,
    fits=False,
)
ahead(
    "HR42",
    "rnn",
    "writes into its arguments",
    "the forward pass keeps its state in the array of the initial state",
    changes_argument("rnn"),
    fits=False,
)
ahead(
    "HR43",
    "lstm",
    "alias|edge size",
    "for T = 0 the initial state itself is returned as the last",
    shows_state_returned,
)
ahead(
    "HR44",
    "lstm",
    "not finite|mask",
    "ended rows are masked by multiplication: NaN in the padding comes through",
    output("lstm", ENDS, padding=np.nan),
)
ahead(
    "HR45",
    "lstm",
    "forward",
    "c silently clipped to ±1.5",
    output("lstm", change=open_the_cell),
)
ahead("HR46", "lstm", "forward|gates", "1 added to the bias of the forget gate at every step")
ahead("HR47", "rnn", "first step|forward", "bias added at the first step only")
ahead(
    "HR48",
    "gru",
    "mask|row",
    "rows taken to be sorted, the longest first",
    output("gru", ENDS),
)
ahead("HR49", "gru", "edge size|mask", "a length of 0 taken for 1", output("gru", [0, 3]))
ahead("HR50", "rnn", "mask", "all rows run as long as the longest", output("rnn", ENDS))
ahead("HR51", "lstm", "mask", "outputs after the end repeat the last h", output("lstm", ENDS))
ahead("HR52", "gru", "forward|gates", "z and 1 - z exchanged, forward and back")
ahead("HR53", "lstm", "forward|missing term", "h = o * c, without the tanh")
ahead("HR54", "gru", "forward", "b_h of gate n outside r, forward and back")
ahead(
    "HR55",
    "rnn",
    "truncated|state",
    "in chunks of 4 steps, and the state is not carried over",
    output("rnn", T=5),
)
ahead("HR56", "rnn", "row|state", "all rows begin from the state of the first")
ahead(
    "HR57",
    "lstm",
    "mask|state",
    "the last h is the last output, which is 0 for rows that have ended",
    output("lstm", ENDS),
)
ahead(
    "HR58", "gru", "edge size|state", "for T = 1 the initial state is ignored", output("gru", T=1)
)
ahead("HR59", "peephole_lstm", "swapped|gates", "p_i and p_f exchanged, forward and back")
ahead("HR60", "peephole_lstm", "first step", "i and f do not see the initial c")
ahead("HR61", "leaky", "first step", "no leak at the first step: h(1) = tanh(...)")
ahead("HR62", "gru_before", "forward", "reset after the product in place of before")
ahead("HR63", "lstm", "forward", "inputs read from the last to the first")
backward(
    "HR64",
    "leaky",
    "factor|float32",
    "the constant LEAK typed in with 7 digits",
    gradient("leaky", resolution=1e-10),
)
backward(
    "HR65",
    "gru_before",
    "wrong formula|factor",
    "1e-8 added to z (1 - z), that it may never be 0",
    gradient("gru_before", resolution=1e-10),
)
backward(
    "HR66",
    "peephole_lstm",
    "wrong formula|zero",
    "gradients of the gates below 1e-3 taken for 0",
    gradient("peephole_lstm", scale=0.01),
)
backward(
    "HR67",
    "gru_before",
    "row|tail",
    "of more than 4 rows, those beyond a multiple of 4 add nothing to U of gate n",
    gradient("gru_before", N=5),
)
backward(
    "HR68",
    "lstm",
    "state|wrong formula",
    "steps done again in chunks of 8, each from a state of 0",
    gradient("lstm", T=9, N=1, I=1, H=1),
)
backward(
    "HR69",
    "leaky",
    "not finite",
    "NaN in a gradient silently replaced by 0",
    shows_nan_gone,
)
ahead(
    "HR70",
    "gru_before",
    "mask|forward",
    "padding taken to stand before the row, not after it",
    output("gru_before", ENDS),
)
ahead(
    "HR71",
    "leaky",
    "row|mask",
    "outputs left in the order of lengths, the longest row first",
    output("leaky", ENDS),
)
