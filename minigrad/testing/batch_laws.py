"""Laws of a recurrent cell over rows, lengths, directions and layers: C5 to C9, C11 to C13.

R(xs, s) = (ys, last s) is the recurrence on a batch of sequences xs from the states s, with its
gradients for a cotangent of ys and of every part of the last state. Row n of a batch is over at its
own length; what comes after that is padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..cells import Cell, GRUCell, LSTMCell, RNNCell
from ..module import with_tensors
from ..nn import GRU, LSTM, RNN
from ..ops import concatenate, stack
from ..tree import flatten
from ..unfold import unfold
from .case import (
    Bars,
    Case,
    Named,
    needs_cell,
    needs_lengths,
    padded_out,
    ragged,
    rows,
    total,
)
from .cell_info import CELL_LAWS, CellInfo
from .example import Sequences, generator
from .laws import NotApplicable, Trial, law
from .recurrence import Run
from .subject import Traced


@law(CELL_LAWS, "C5", "rows in another order give the same in that order", share=0.6)
def C5(trial: Trial, info: CellInfo, example: Sequences):
    """R(P xs, P s) = P R(xs, s) for a permutation P of the rows; dW stays what it is.

    Finds rows that are mixed, and lengths or masks that are looked up by another index.
    """
    case = Case(trial, info, example)
    order = generator(example.seed, 61).permutation(example.N)
    if example.N > 1 and (order == np.arange(example.N)).all():
        order = order[::-1]
    lengths = None if case.lengths is None else case.lengths[order]
    facts = {"order": tuple(map(int, order))}
    run = _of_rows(case, order, lengths)
    case.agree_outputs(case.outputs(run), _pick(case, case.run, order), "permuted", facts=facts)
    got = case.slopes(run.pull(*_cotangents(case, order)))
    expected = _pick_slopes(case, order)
    case.agree_gradients(
        got, {**expected, **case.gradients.weights}, "permuted", loose=case.weights, facts=facts
    )


def _of_rows(case: Case, keep, lengths=None, T: int | None = None) -> Run:
    """The recurrence on some of the rows, and on the first T steps."""
    state = [rows(s, keep, 0) for s in case.state]
    return case.at(xs=rows(case.xs[:T], keep, 1), state=state, lengths=lengths)


def _cotangents(case: Case, keep, T: int | None = None) -> tuple:
    return rows(case.dys[:T], keep, 1), [rows(d, keep, 0) for d in case.dlast]


def _pick(case: Case, run: Run, keep, T: int | None = None) -> Named:
    """What some of the rows put out, within the first T steps."""
    last = {p: rows(s, keep, 0) for p, s in zip(case.sized.parts, run.last, strict=True)}
    return {"ys": rows(run.ys[:T], keep, 1), **last}


def _pick_slopes(case: Case, keep, T: int | None = None) -> Named:
    """The gradients of xs and of the state, of some of the rows, within the first T steps."""
    found, names = case.gradients, case.sized.names[1:]
    state = {p: rows(s, keep, 0) for p, s in zip(names, found.state, strict=False)}
    return {"xs": rows(found.xs[:T], keep, 1), **state}


@law(CELL_LAWS, "C6", "a row does not know the other rows", share=0.4)
def C6(trial: Trial, info: CellInfo, example: Sequences):
    """R of a batch = the rows' own R, side by side; dW = the sum of theirs.

    And whatever the other rows hold, NaN too, a row stays what it is. Finds a leak across the
    batch, a mean where there should be a sum, and a batch of one that is treated differently.
    """
    case = Case(trial, info, example)
    found = []
    for b in range(example.N):
        lengths = None if case.lengths is None else case.lengths[[b]]
        alone, which, facts = _of_rows(case, b, lengths), f"of row {b} against it alone", {"row": b}
        case.agree_outputs(_pick(case, case.run, b), case.outputs(alone), which, facts=facts)
        found.append(alone.pull(*_cotangents(case, b)))
        own, slopes = _pick_slopes(case, b), case.slopes(found[-1])
        expected = {name: slopes[name] for name in own}
        case.agree_gradients(own, expected, which, facts=facts)
    summed = total([case.no_weights(), *[g.weights for g in found]])
    case.agree_gradients(case.gradients.weights, summed, "against the rows' sum", loose=summed)

    if example.N > 1:
        b = example.seed % example.N
        others = [n for n in range(example.N) if n != b]
        xs, state = np.array(case.xs), [np.array(s) for s in case.state]
        rng = generator(example.seed, 62)
        for a, axis in ((xs, 1), *((s, 0) for s in state)):
            where: Any = (slice(None), others) if axis else others
            a[where] = np.nan if example.seed % 2 else rng.standard_normal(a[where].shape)
        run = case.at(xs=xs, state=state)
        which, facts = f"of row {b} beside others", {"row": b}
        case.agree_outputs(_pick(case, run, b), _pick(case, case.run, b), which, facts=facts)
        slopes = case.slopes(run.pull(case.dys, case.dlast))
        own = _pick_slopes(case, b)
        got = {name: rows(slopes[name], b, int(name == "xs")) for name in own}
        case.agree_gradients(got, own, which, facts=facts)


@law(CELL_LAWS, "C7", "what stands in the padding changes nothing", needs_lengths, share=0.7)
def C7(trial: Trial, info: CellInfo, example: Sequences):
    """R with NaN, inf or a huge number in the padding, and with more steps of it behind, = R.

    That is: the outputs at valid steps, the last state, every gradient; that of xs is exactly 0 in
    the padding. Finds a mask on the output but not on the state, and one that multiplies by 0,
    which does not undo a NaN.
    """
    example = ragged(info, example)
    case = Case(trial, info, example)
    value = (np.nan, np.inf, 1e30)[example.seed % 3]
    more = 1 + example.seed % 2
    active = np.concatenate([case.active, np.zeros((more, example.N), bool)])
    longer = np.concatenate([case.xs, np.zeros((more, *case.xs.shape[1:]), case.xs.dtype)])
    run = case.at(xs=padded_out(longer, active, value))
    T, which, facts = example.T, f"with {value} in the padding", {"padding": value}

    ys, clean = run.ys[:T], not case.run.ys[~case.active].any()
    if not clean:  # whatever code by hand puts out there
        ys = padded_out(ys, case.active)
    expected = case.outputs(case.run) | {"ys": padded_out(case.run.ys, case.active)}
    got = case.outputs(run) | {"ys": ys}
    case.agree_outputs(got, expected, which, facts=facts)

    dys = np.concatenate([case.dys, np.zeros((more, *case.dys.shape[1:]), case.dys.dtype)])
    if clean:
        dys[T:] = 1
    slopes = case.slopes(run.pull(dys, case.dlast))
    for found in (case.gradients.xs, slopes["xs"]):
        mask = active[: len(found)]
        in_padding = np.where(mask.reshape(*mask.shape, *[1] * (found.ndim - 2)), 0, found)
        case.agree_gradients(
            {"xs": in_padding}, {"xs": np.zeros_like(in_padding)}, "in the padding", exact=True
        )
    slopes["xs"] = slopes["xs"][:T]
    loose = () if info.promises_bits else case.weights
    case.agree_gradients(slopes, case.slopes(case.gradients), which, loose=loose, facts=facts)


@law(
    CELL_LAWS,
    "C8",
    "past its end a row keeps its state, every part of it",
    needs_lengths,
    share=0.7,
)
def C8(trial: Trial, info: CellInfo, example: Sequences):
    """Where a row has ended, s(t) = s(t-1) and ds(t-1) = ds(t), for every part of a state.

    So a row of length 0 returns its state, and the state's gradient is the cotangent, to the bit;
    and a row of length l ends in the state that it has after l steps of a batch without lengths.
    Finds a part of the state that goes on, forwards or backwards, and a mask of another step.
    """
    example = ragged(info, example, least=1)
    if not example.N:
        raise NotApplicable("no rows")
    lengths = np.array(example.lengths)
    never = example.seed % example.N  # a row that never begins
    lengths[never] = 0
    example = replace(example, lengths=tuple(map(int, lengths)))
    case = Case(trial, info, example)
    parts, names = case.sized.parts, case.sized.names[1:]
    none = np.flatnonzero(lengths == 0)
    facts = {"row": int(never)}
    got = {p: s[none] for p, s in zip(parts, case.run.last, strict=True)}
    expected = {p: s[none] for p, s in zip(parts, case.state, strict=True)}
    case.agree_outputs(got, expected, "of rows of length 0", exact=True, facts=facts)
    got = {p: s[none] for p, s in zip(names, case.gradients.state, strict=False)}
    expected = {p: s[none] for p, s in zip(names, case.dlast, strict=False)}
    case.agree_gradients(got, expected, "of rows of length 0", exact=True, facts=facts)

    b = int(np.argmax(lengths * (lengths < example.T)))  # the longest that ends early
    if not 0 < (end := int(lengths[b])) < example.T:
        return
    short = case.at(xs=case.xs[:end], lengths=None)
    which, facts = f"of row {b}, which ends after step {end - 1},", {"row": b, "end": end}
    got = _pick(case, case.run, b, end)
    case.agree_outputs(got, _pick(case, short, b), which, facts=facts)
    only = [np.zeros_like(d) for d in case.dlast]
    for d, whole in zip(only, case.dlast, strict=True):
        d[b] = whole[b]
    slopes = case.slopes(case.run.pull(None, only))
    slopes["xs"] = slopes["xs"][:end]
    expected = case.slopes(short.pull(None, only))
    loose = () if info.promises_bits else case.weights
    case.agree_gradients(slopes, expected, f"{which} for its last state", loose=loose, facts=facts)


@law(
    CELL_LAWS, "C9", "a ragged batch gives what its rows give one by one", needs_lengths, share=0.4
)
def C9(trial: Trial, info: CellInfo, example: Sequences):
    """R with lengths = R of each row by itself, cut at its own length and without lengths.

    The last state is that of the row's own last step; dW = the sum over the rows. Finds a last
    state taken at step T, and lengths that are off by one.
    """
    example = ragged(info, example)
    case = Case(trial, info, example)
    assert case.lengths is not None
    found = []
    for b, end in enumerate(map(int, case.lengths)):
        run, which = _of_rows(case, b, None, end), f"of row {b} against it alone, of length {end}"
        facts = {"row": b, "end": end}
        case.agree_outputs(_pick(case, case.run, b, end), case.outputs(run), which, facts=facts)
        g = run.pull(*_cotangents(case, b, end))
        found.append(g.weights)
        expected = case.slopes(g)
        own = _pick_slopes(case, b, end)
        expected = {n: expected[n] for n in own}
        case.agree_gradients(own, expected, which, facts=facts)
    summed = total([case.no_weights(), *found])
    case.agree_gradients(case.gradients.weights, summed, "against the rows' sum", loose=summed)


def flipped(a: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """a (T, N, ...) with time reversed, each row within its own length."""
    if lengths is None:
        return a[::-1]
    out = np.array(a)
    for n, end in enumerate(lengths):
        out[:end, n] = a[:end, n][::-1]
    return out


@law(CELL_LAWS, "C11", "backwards is forwards on what is turned round", needs_cell("reverse="), 0.7)
def C11(trial: Trial, info: CellInfo, example: Sequences):
    """R_reverse(xs, s) = flip(R(flip(xs), s)), each row flipped within its own length.

    Finds a flip that takes the padding along, so that a row begins with it, outputs in the wrong
    place in time, and gradients that are not flipped back.
    """
    case = Case(trial, info, example, reverse=True)
    forward = Case(trial, info, example)
    turned = forward.at(xs=flipped(case.xs, case.lengths))
    expected = case.outputs(turned)
    expected["ys"] = flipped(expected["ys"], case.lengths)
    case.agree_outputs(case.outputs(case.run), expected, "in reverse")
    slopes = case.slopes(turned.pull(flipped(case.dys, case.lengths), case.dlast))
    slopes["xs"] = flipped(slopes["xs"], case.lengths)
    case.agree_gradients(case.slopes(case.gradients), slopes, "in reverse")


@law(CELL_LAWS, "C12", "two directions are two recurrences on the same inputs", share=0.3)
def C12(trial: Trial, info: CellInfo, example: Sequences):
    """[ys, zs] = [R(xs), R'(xs)], R' with other weights and in reverse; dxs is the sum of both.

    The library's layers are compared with two runs, as are two runs of a cell joined in one graph.
    Code by hand gets its two halves of one array of cotangents as views, and must leave it as it
    is. Finds a gradient of xs from one direction only, and dx written over dy.
    """
    if info.cell is None and example.seed % 2:  # where it fits, dx may lie in the memory of dy
        example = replace(example, I=example.H)
    two = [Case(trial, info, example), Case(trial, info, replace(example, seed=_other(example, 1)))]
    two[1].xs, two[1].lengths = two[0].xs, two[0].lengths
    if info.cell is None:
        return _halves_by_hand(two)
    two[1].how = {"reverse": True}
    return _joined(two, _bidirectional, [2])


def _other(example: Sequences, k: int) -> int:
    """Another seed."""
    return (example.seed + 0x9E3779B1 * k) % 2**32


def _halves_by_hand(two: list[Case]) -> None:
    ends = [two[0].lengths] * 2
    width = two[0].dys.shape[-1] if two[0].dys.ndim > 2 else 0
    if not width:
        raise NotApplicable("outputs without an axis of units")
    # The second reads backwards, so its part of the inputs and cotangents is turned round.
    runs = [two[0].run, two[1].at(xs=flipped(two[1].xs, ends[1]))]
    dys = [two[0].dys, flipped(two[1].dys, ends[1])]
    joint = np.concatenate(dys, axis=-1)
    kept = joint.copy()
    expected = [c.slopes(r.pull(d.copy(), c.dlast)) for c, r, d in zip(two, runs, dys, strict=True)]
    got = [
        c.slopes(r.pull(joint[..., k * width : (k + 1) * width], c.dlast))
        for k, (c, r) in enumerate(zip(two, runs, strict=True))
    ]
    for case, g, e, which in zip(two, got, expected, ("first", "second"), strict=True):
        case.agree_gradients(g, e, f"of the {which} direction, its half of dys being a view")
    two[0].trial.same(
        joint, kept, "the cotangent of both directions, after the backward pass",
        facts=two[0].facts(),
    )  # fmt: skip


@law(CELL_LAWS, "C13", "layers on each other are a composition", share=0.25)
def C13(trial: Trial, info: CellInfo, example: Sequences):
    """R3(R2(R1(xs))) in one graph = the three, one after another; the gradient of one layer's xs
    is the cotangent of the ys of the layer below.

    Code by hand runs all three forward, then all three backward, and is compared with layers that
    go forward anew before each goes back. Finds a layer in the middle that works on the memory of
    another, and what a call leaves behind for the next one.
    """
    first = Case(trial, info, example)
    if first.run.ys.ndim != 3 or not first.run.ys.shape[2]:
        raise NotApplicable("outputs (T, N, H) are wanted, to be inputs of the next layer")
    layers = [first]
    for k in (1, 2):
        below = layers[-1].run.ys
        upper = replace(example, I=below.shape[2], seed=_other(example, k), layout="C")
        layers.append(Case(trial, info, upper))
        layers[-1].xs, layers[-1].lengths = below, first.lengths
    if info.cell is not None:
        return _joined(layers, _stacked, [1, 1, 1])
    runs = [c.run for c in layers]
    dys, fresh = layers[-1].dys, layers[-1].dys
    for k in (2, 1, 0):
        case = layers[k]
        got = runs[k].pull(dys, case.dlast)
        expected = case.at().pull(fresh, case.dlast)
        which, facts = f"in layer {k} of three", {"layer": k}
        case.agree_gradients(case.slopes(got), case.slopes(expected), which, facts=facts)
        dys, fresh = got.xs, expected.xs
    return None


# --- several recurrences in one graph ------------------------------------------------------------

LAYERS: dict[type, Callable] = {RNNCell: RNN, LSTMCell: LSTM, GRUCell: GRU}


def _joined(cases: list[Case], join: Callable, widths: list[int]) -> None:
    """Compares recurrences of cells joined in one graph with runs of their own.

    widths: how many recurrences each layer has: [2] side by side, [1, 1, 1] on each other.
    """
    n, xs, lengths = len(cases[0].state), cases[0].xs, cases[0].lengths
    side = len(widths) == 1
    own = [[*c.state, *c.weights.values()] for c in cases]
    sizes = [len(a) for a in own]

    def graph(xs, *rest):
        cells, states = [], []
        for case, size in zip(cases, sizes, strict=True):
            args, rest = rest[:size], rest[size:]
            cell = case.sized.cell
            assert cell is not None
            weights = dict(zip(case.weights, args[n:], strict=True))
            cells.append(with_tensors(cell, weights))
            _, form = flatten(cell.initial_state(1, np.float64))
            states.append(form.build(args[:n]))
        ys, last = join(cells, xs, states, lengths)
        return ys, *[part for s in last for part in flatten(s)[0]]

    subject = Traced(graph)

    def together(arguments, cotangents) -> tuple[Named, Named]:
        outs, pull = subject.linearise(arguments, {}, range(len(arguments)))
        found = [
            np.zeros_like(a) if g is None else g
            for a, g in zip(arguments, pull(*cotangents), strict=True)
        ]
        return dict(zip(out_names, outs, strict=True)), dict(zip(names, found, strict=True))

    out_names = ["ys", *[f"{p} {k}" for k, c in enumerate(cases) for p in c.sized.parts]]
    names = ["xs", *[f"{a} {k}" for k, c in enumerate(cases) for a in c.sized.names[1:]]]
    dys = [c.dys for c in cases]
    dlast = [d for c in cases for d in c.dlast]
    arguments = [xs, *[a for args in own for a in args]]
    cotangents = [np.concatenate(dys, -1) if side else dys[-1], *dlast]
    outs, slopes = together(arguments, cotangents)

    ys = np.concatenate([c.run.ys for c in cases], -1) if side else cases[-1].run.ys
    expected = [ys, *[s for c in cases for s in c.run.last]]
    found, above = [], dys[-1]
    for k, case in reversed(list(enumerate(cases))):
        found.append(case.run.pull(dys[k] if side else above, case.dlast))
        above = found[-1].xs
    found.reverse()
    dxs = found[0].xs + found[1].xs if side else above
    gradients = [dxs, *[a for f in found for a in (*f.state, *f.weights.values())]]
    which = "of two directions" if side else "of three layers"
    case, bars = cases[0], Bars(cases[0], together, arguments, cotangents)
    case.agree_outputs(outs, dict(zip(out_names, expected, strict=True)), which, bars=bars)
    named = dict(zip(names, gradients, strict=True))
    case.agree_gradients(slopes, named, which, bars=bars)


def _bidirectional(cells: list[Cell], xs, states, lengths):
    if type(cells[0]) in LAYERS:
        return _by_layer(cells, xs, states, lengths, bidirectional=True)
    runs = [
        unfold(c, xs, s, lengths, reverse=bool(k))
        for k, (c, s) in enumerate(zip(cells, states, strict=True))
    ]
    return concatenate([r.ys for r in runs], axis=-1), [r.state for r in runs]


def _stacked(cells: list[Cell], xs, states, lengths):
    if type(cells[0]) in LAYERS:
        return _by_layer(cells, xs, states, lengths, num_layers=len(cells))
    last = []
    for cell, state in zip(cells, states, strict=True):
        xs, end = unfold(cell, xs, state, lengths)
        last.append(end)
    return xs, last


def _by_layer(cells: list, xs, states, lengths, **which):
    """What the library's own layer makes of these cells."""
    first = cells[0]
    layer = LAYERS[type(first)](first.input_size, first.hidden_size, rng=0, **which)
    layer.cells = cells
    parts = [stack([flatten(s)[0][i] for s in states]) for i in range(len(flatten(states[0])[0]))]
    ys, last = layer(xs, tuple(parts) if len(parts) > 1 else parts[0], lengths)
    ends = flatten(last)[0]
    return ys, [tuple(e[k] for e in ends) for k in range(len(cells))]
