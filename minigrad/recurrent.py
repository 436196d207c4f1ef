"""Doors to the kernels that run a recurrent layer over a whole sequence, and their NumPy twins.

What the kernels compute, for which cells and in which order of operations, stands in
`csrc/minigrad.h`; the meaning of each is a step of `cells.py`, unfolded. As in `kernels.py`, a door
checks its arguments, allocates the results and calls; the twins take complex arrays too.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import kernels
from .errors import ShapeError
from .kernels import affine, check_lengths, matmul, sigmoid, tanh


class Weights(NamedTuple):
    """The weights of a cell as the kernels name them; None where it has no such one."""

    w: Any
    u: Any
    v: Any = None
    b_x: Any = None
    b_h: Any = None
    b_v: Any = None
    p: tuple = ()


class Kind:
    """A cell that the kernels know: `gates` sums with x, `recurrent` sums with h for each unit.

    A call has the arguments of the cell's step, unfolded: xs, the state, which is h or (h, c), and
    the weights W, U, then U_n if there is a `second` product, a bias for each (one for both where
    the sums are `joined`, as in an LSTM), and three `peepholes` i f o. `saved` values of each unit
    are kept for the backward pass. `apart`: the cotangents of the sums with h are others than
    those of the sums with x.
    """

    def __init__(
        self, name: str, code: int, *, gates: int, recurrent: int, saved: int, twin: Callable,
        twin_back: Callable, joined=False, second=False, peepholes=False, apart=False,
    ):  # fmt: skip
        self.name, self.code, self.gates, self.recurrent = name, code, gates, recurrent
        self.saved, self.twin, self.twin_back = saved, twin, twin_back
        self.joined, self.second, self.peepholes, self.apart = joined, second, peepholes, apart
        self.states = 2 if joined else 1
        self.labels = ["xs", "h0", *["c0"] * joined, "weight_ih", "weight_hh"]
        self.labels += ["weight_hh of n"] * second + ["bias_ih"] + ["bias_hh"] * (not joined)
        self.labels += ["bias_hh of n"] * second
        self.labels += [f"peephole {gate}" for gate in "ifo" if peepholes]
        # the arguments as the kernels want them; one behind all others is not there
        wanted = ["xs", "h0", "c0", "weight_ih", "weight_hh", "weight_hh of n"]
        wanted += ["bias_ih", "bias_hh", "bias_hh of n"]
        at = [self.labels.index(w) if w in self.labels else -1 for w in wanted]
        self.places = operator.itemgetter(*at)

    def __repr__(self):
        return f"<Kind {self.name}>"

    def weights(self, args: tuple) -> Weights:
        """The weights among the arguments of a call."""
        if self.joined:
            _, _, _, w, u, b, *p = args
            return Weights(w, u, b_x=b, p=tuple(p))
        if self.second:
            return Weights(*args[2:])
        return Weights(args[2], args[3], None, args[4], args[5])

    def shapes(self, steps: int, rows: int, inputs: int, hidden: int) -> list[tuple]:
        """The shapes of the arguments of a call."""
        g, r, state = self.gates * hidden, self.recurrent * hidden, (rows, hidden)
        found = [(steps, rows, inputs), *[state] * self.states, (g, inputs), (r, hidden)]
        found += [(hidden, hidden)] * self.second + [(g,)] + [(r,)] * (not self.joined)
        return found + [(hidden,)] * (self.second + 3 * self.peepholes)


# --- doors ---------------------------------------------------------------------------------------

_from_buffer: Any = None if kernels.ffi is None else kernels.ffi.from_buffer
_empty, _code, _contiguous = kernels._empty, kernels._CODE, kernels._contiguous
_NULL = None if kernels.ffi is None else kernels.ffi.NULL


@functools.lru_cache(1024)
def _plan(kind: Kind, code: int, *sizes: int) -> tuple[list, int]:
    """The shapes that the arguments must have, and the bytes of scratch."""
    return kind.shapes(*sizes), kernels.lib.mg_recurrent_scratch(code, kind.code, *sizes)


def _check(kind: Kind, args: tuple, shapes: list) -> None:
    """Raises for the first argument whose shape does not fit."""
    if args[0].ndim != 3 or args[1].ndim != 2:
        raise ShapeError(
            f"{kind.name}: xs and the initial state",
            f"expected (T, N, I) and (N, H), got {args[0].shape} and {args[1].shape}",
            "time comes first; use batch_first=True in the layer for (N, T, I)",
        )
    for name, array, shape in zip(kind.labels, args, shapes, strict=True):
        if array.shape != shape:
            raise ShapeError(
                f"{kind.name}: {name}",
                f"expected {shape} beside xs {args[0].shape}, got {array.shape}",
                "check the sizes of the cell and of its state",
            )


def forward(kind: Kind, save: bool, lengths, args: tuple):
    """A recurrent layer over a whole sequence: `(ys, h), saved` or `(ys, h, c), saved`.

    args: xs (T, N, I), the state h (N, H) or h and c, and the weights, see `Kind`; ys (T, N, H).
    Rows past their length give 0 and keep their state. saved (T, N, S, H) is what `backward` needs,
    None unless `save`. Raises `ShapeError` and `DtypeError`.
    """
    xs, h0 = args[:2]
    if xs.ndim != 3 or h0.ndim != 2:
        _check(kind, args, [])
    (steps, rows, inputs), hidden, dtype = xs.shape, h0.shape[1], xs.dtype
    if lengths is not None:
        lengths = check_lengths(lengths, steps, rows)
    one_dtype = dtype in _code
    for a in args:
        if a.dtype is not dtype:
            one_dtype = False
    if kernels.lib is None or not one_dtype:
        _check(kind, args, kind.shapes(steps, rows, inputs, hidden))
        if not kernels._in_c(*args):
            return _forward_twin(kind, save, lengths, args)
        dtype = kernels._dtype(kind.name, *args)
    code = _code[dtype]
    shapes, scratch = _plan(kind, code, steps, rows, inputs, hidden)
    if [a.shape for a in args] != shapes:
        _check(kind, args, shapes)
    try:
        pointers = [*map(_from_buffer, args)]
    except ValueError:  # not in C order
        return forward(kind, save, lengths, tuple([np.asarray(a, order="C") for a in args]))
    p = _from_buffer(np.concatenate(args[6:])) if kind.peepholes else _NULL
    pointers.append(_NULL)
    x, h0, c0, w, u, v, b_x, b_h, b_v = kind.places(pointers)
    ys, h = _empty((steps, rows, hidden), dtype), np.empty((rows, hidden), dtype)
    c = np.empty((rows, hidden), dtype) if kind.joined else None
    saved = _empty((steps, rows, kind.saved, hidden), dtype) if save and kind.saved else None
    kernels.lib.mg_recurrent_forward(
        code, kind.code, steps, rows, inputs, hidden, x, w, u, v, b_x, b_h, b_v, p, h0, c0,
        _NULL if lengths is None else kernels._pointer(lengths),
        _from_buffer(ys), _from_buffer(h), _NULL if c is None else _from_buffer(c),
        _NULL if saved is None else _from_buffer(saved), kernels._scratch.pointer(scratch),
    )  # fmt: skip
    return ((ys, h) if c is None else (ys, h, c)), saved


def backward(kind: Kind, g: tuple, lengths, args: tuple, ys, saved):
    """Back-propagation through time: the cotangents `dz, dz_h, dh0` and `dc0` (or None).

    g: the cotangents of the outputs of `forward`, whose args, ys and saved are the others. dz
    (T, N, G H) belongs to the sums with x and dz_h to those with h: weight and input gradients
    follow from them as ordinary products.
    """
    dys, dh, dc = g if kind.joined else (*g, None)
    steps, rows, hidden = ys.shape
    h0, c0 = args[1], args[2] if kind.joined else None
    weights = kind.weights(args)
    lengths = check_lengths(lengths, steps, rows)
    state = (rows, hidden)
    expected = [
        ("dys", dys, ys.shape), ("dh", dh, state), ("h0", h0, state),
        ("weight_hh", weights.u, (kind.recurrent * hidden, hidden)),
    ]  # fmt: skip
    if kind.saved:
        expected.append(("saved", saved, (steps, rows, kind.saved, hidden)))
    if kind.joined:
        expected += [("dc", dc, state), ("c0", c0, state)]
        named = zip("ifo", weights.p, strict=False)
        expected += [(f"peephole {gate}", p, (hidden,)) for gate, p in named]
    if kind.second:
        expected.append(("weight_hh of n", weights.v, (hidden, hidden)))
    for name, array, shape in expected:
        if array is None or array.shape != shape:
            raise ShapeError(
                f"{kind.name} backward: {name}",
                f"expected {shape} beside ys {ys.shape}, got {getattr(array, 'shape', None)}",
                "do not replace the data of a tensor between the forward and the backward pass",
            )
    arrays = (dys, dh, dc, h0, c0, weights.u, weights.v, *weights.p, ys, saved)
    if not kernels._in_c(*arrays):
        return _backward_twin(kind, (dys, dh, dc), lengths, h0, c0, weights, ys, saved)
    dtype = kernels._dtype(f"{kind.name} backward", *arrays)
    dz = _empty((steps, rows, kind.gates * hidden), dtype)
    dz_h = _empty((steps, rows, kind.recurrent * hidden), dtype) if kind.apart else None
    dh0 = np.empty(state, dtype)
    dc0 = np.empty(state, dtype) if kind.joined else None
    code = _code[dtype]
    scratch = _plan(kind, code, steps, rows, 0, hidden)[1]
    p = np.concatenate(weights.p) if weights.p else None
    inputs = weights.u, weights.v, p, h0, c0
    kernels.lib.mg_recurrent_backward(
        code, kind.code, steps, rows, hidden, *map(_contiguous, inputs),
        _NULL if lengths is None else kernels._pointer(lengths),
        *map(_contiguous, (ys, saved, dys, dh, dc, dz, dz_h, dh0, dc0)),
        kernels._scratch.pointer(scratch),
    )  # fmt: skip
    return dz, _dz_h(kind, dz, dz_h), dh0, dc0


def _dz_h(kind: Kind, dz, dz_h):
    """The cotangent of the sums with h: an array of its own, or the first gates of dz, or dz."""
    if dz_h is not None:
        return dz_h
    return dz[..., : kind.recurrent * (dz.shape[-1] // kind.gates)]


# --- twins ---------------------------------------------------------------------------------------


def _forward_twin(kind: Kind, save: bool, lengths, args: tuple):
    weights, (xs, h), c = kind.weights(args), args[:2], args[2] if kind.joined else None
    ys: list = []
    kept: list = []
    for t, x in enumerate(xs):
        new_h, new_c, saved = kind.twin(affine(x, weights.w, weights.b_x), h, c, weights)
        y = new_h
        if lengths is not None:
            active = (t < lengths)[:, None]
            y, new_h = np.where(active, new_h, 0), np.where(active, new_h, h)
            new_c = None if c is None else np.where(active, new_c, c)
            saved = [np.where(active, s, 0) for s in saved]
        h, c = new_h, new_c
        ys.append(y)
        kept.append(np.stack(saved, axis=1) if saved else None)
    found = [np.stack(ys) if ys else np.zeros((0, *h.shape), h.dtype), np.array(h)]
    if c is not None:
        found.append(np.array(c))
    if not save or not kind.saved:
        return tuple(found), None
    empty = np.zeros((0, len(h), kind.saved, h.shape[1]), h.dtype)
    return tuple(found), np.stack(kept) if kept else empty


def _backward_twin(kind: Kind, g, lengths, h0, c0, weights: Weights, ys, saved):
    dys, dh, dc = g
    (steps, rows, hidden), dtype = ys.shape, np.result_type(dys, dh, weights.u, ys)
    dz = np.zeros((steps, rows, kind.gates * hidden), dtype)
    dz_h = np.zeros((steps, rows, kind.recurrent * hidden), dtype)
    for t in reversed(range(steps)):
        h_prev = ys[t - 1] if t else h0
        c_prev = None if c0 is None else saved[t - 1, :, -1] if t else c0
        kept = [] if saved is None else list(np.moveaxis(saved[t], 1, 0))
        active = np.True_ if lengths is None else (t < lengths)[:, None]
        dy = np.where(active, dys[t], 0)
        x_part, h_part, new_dh, new_dc = kind.twin_back(
            dy + dh, dc, h_prev, c_prev, ys[t], kept, weights
        )
        dz[t] = np.where(active, np.concatenate(x_part, axis=1), 0)
        dz_h[t] = np.where(active, np.concatenate(h_part, axis=1), 0)
        dh = np.where(active, new_dh + matmul(dz_h[t], weights.u), dh)
        dc = None if dc is None else np.where(active, new_dc, dc)
    return dz, dz_h, np.array(dh), None if dc is None else np.array(dc)


def _lstm_twin(candidate, a, h, c, weights: Weights):
    zi, zf, zg, zo = np.split(affine(h, weights.u, a), 4, axis=1)
    pi, pf, po = weights.p or (0, 0, 0)
    i, f, g = sigmoid(zi + c * pi), sigmoid(zf + c * pf), candidate(zg)
    new = f * c + i * g
    o = sigmoid(zo + new * po)
    return o * tanh(new), new, [i, f, g, o, new]


def _lstm_twin_back(slope, dh, dc, h_prev, c_prev, y, saved, weights: Weights):
    i, f, g, o, c = saved
    pi, pf, po = weights.p or (0, 0, 0)
    tc = tanh(c)
    dzo = dh * tc * o * (1 - o)
    dc = dc + (dh * o) * (1 - tc * tc) + dzo * po
    dzi, dzf, dzg = dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * slope(g)
    dz = [dzi, dzf, dzg, dzo]
    return dz, dz, 0, dc * f + dzf * pf + dzi * pi


def _gru_twin(a, h, c, weights: Weights):
    (ar, az, an), (er, ez, en) = (
        np.split(a, 3, axis=1),
        np.split(affine(h, weights.u, weights.b_h), 3, axis=1),
    )
    r, z = sigmoid(ar + er), sigmoid(az + ez)
    n = tanh(an + r * en)
    return (1 - z) * n + z * h, None, [r, z, n, en]


def _gru_twin_back(dh, dc, h_prev, c_prev, y, saved, weights: Weights):
    r, z, n, en = saved
    dz, dn = (dh * h_prev - dh * n) * z * (1 - z), dh * (1 - z) * (1 - n * n)
    dr = dn * en * r * (1 - r)
    return [dr, dz, dn], [dr, dz, dn * r], dh * z, None


def _gru_before_twin(a, h, c, weights: Weights):
    ar, az, an = np.split(a, 3, axis=1)
    er, ez = np.split(affine(h, weights.u, weights.b_h), 2, axis=1)
    r, z = sigmoid(ar + er), sigmoid(az + ez)
    n = tanh(an + affine(r * h, weights.v, weights.b_v))
    return (1 - z) * n + z * h, None, [r, z, n]


def _gru_before_twin_back(dh, dc, h_prev, c_prev, y, saved, weights: Weights):
    r, z, n = saved
    dz, dn = (dh * h_prev - dh * n) * z * (1 - z), dh * (1 - z) * (1 - n * n)
    d = matmul(dn, weights.v)
    dr = d * h_prev * r * (1 - r)
    return [dr, dz, dn], [dr, dz], dh * z + d * r, None


def _relu(x):
    return np.where(x.real <= 0, 0, x)


def _rnn_twin(f, a, h, c, weights: Weights):
    return f(affine(h, weights.u, weights.b_h) + a), None, []


def _rnn_twin_back(rule, dh, dc, h_prev, c_prev, y, saved, weights: Weights):
    dz = [rule(dh, y)]
    return dz, dz, 0, None


def _kinds() -> dict[str, Kind]:
    part = functools.partial
    gru: dict[str, Any] = {"twin": _gru_twin, "twin_back": _gru_twin_back}
    before: dict[str, Any] = {"twin": _gru_before_twin, "twin_back": _gru_before_twin_back}
    lstm: dict[str, Any] = {"joined": True, "twin": part(_lstm_twin, tanh)}
    lstm["twin_back"] = part(_lstm_twin_back, lambda g: 1 - g * g)
    sigmoid_lstm = lstm | {"twin": part(_lstm_twin, sigmoid)}
    sigmoid_lstm["twin_back"] = part(_lstm_twin_back, lambda g: g * (1 - g))
    rnn: dict[str, Any] = {"twin": part(_rnn_twin, tanh)}
    rnn["twin_back"] = part(_rnn_twin_back, lambda g, y: g * (1 - y * y))
    relu: dict[str, Any] = {"twin": part(_rnn_twin, _relu)}
    relu["twin_back"] = part(_rnn_twin_back, lambda g, y: np.where(y.real <= 0, 0, g))
    four: dict[str, Any] = {"gates": 4, "recurrent": 4, "saved": 5}
    one: dict[str, Any] = {"gates": 1, "recurrent": 1, "saved": 0}
    found = [  # the codes are those of MG_LSTM ... MG_RNN_RELU
        Kind("lstm", 0, **four, **lstm),
        Kind("lstm_sigmoid", 1, **four, **sigmoid_lstm),
        Kind("lstm_peephole", 0, **four, **lstm, peepholes=True),
        Kind("lstm_peephole_sigmoid", 1, **four, **sigmoid_lstm, peepholes=True),
        Kind("gru", 2, gates=3, recurrent=3, saved=4, apart=True, **gru),
        Kind("gru_before", 3, gates=3, recurrent=2, saved=3, second=True, **before),
        Kind("rnn", 4, **one, **rnn),
        Kind("rnn_relu", 5, **one, **relu),
    ]
    return {kind.name: kind for kind in found}


KINDS = _kinds()
