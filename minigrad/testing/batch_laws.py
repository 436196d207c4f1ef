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
from .cell_info import CELL_LAWS, CellInfo
from .example import Sequences, generator
from .laws import NotApplicable, Trial, law
from .runs import (
    Batch,
    Named,
    Results,
    batch,
    cotangents_of,
    filled,
    needs_cell,
    needs_lengths,
    noise_of,
    over,
    ragged,
    rows_of,
    total,
)
from .subject import Traced


@law(CELL_LAWS, "C5", "rows in another order give the same in that order", share=0.6)
def C5(trial: Trial, info: CellInfo, example: Sequences):
    """R(P xs, P s) = P R(xs, s) for a permutation P of the rows; dW stays what it is.

    Finds rows that are mixed, and lengths or masks that are looked up by another index.
    """
    of = batch(trial, info, example)
    order = generator(example.seed, 61).permutation(example.N)
    if example.N > 1 and (order == np.arange(example.N)).all():
        order = order[::-1]
    got = of.rows(order).results(cotangents_of(of, order))
    expected = rows_of(of, of.base, order)
    expected.gradients.update({k: of.base.gradients[k] for k in of.weights})
    facts = {"order": tuple(map(int, order))}
    of.agree(got, expected, "permuted", loose=of.weights, facts=facts)


def _row_by_row(of: Batch, ends: list, when: str) -> None:
    """The batch against each of its rows alone, up to its end; gradients of weights add up."""
    found = []
    for b, end in enumerate(ends):
        alone = of.rows(b)
        if end is not None:
            alone = replace(alone.piece(slice(0, end)), lengths=None)
        got = alone.results(cotangents_of(of, b, end))
        found.append({k: got.gradients.pop(k) for k in of.weights})
        facts = {"row": b, "end": end}
        of.agree(rows_of(of, of.base, b, end), got, when.format(b, end), facts=facts)
    summed = total([of.no_weights(), *found])
    of.agree(of.base, Results({}, summed), "against the rows' sum", loose=summed)


@law(CELL_LAWS, "C6", "a row does not know the other rows", share=0.4)
def C6(trial: Trial, info: CellInfo, example: Sequences):
    """R of a batch = the rows' own R, side by side; dW = the sum of theirs.

    And whatever the other rows hold, NaN too, a row stays what it is. Finds a leak across the
    batch, a mean where there should be a sum, and a batch of one that is treated differently.
    """
    of = batch(trial, info, example)
    _row_by_row(of, [None] * example.N, "of row {} against it alone")
    if example.N > 1:
        b = example.seed % example.N
        others = np.arange(example.N) != b
        rng = generator(example.seed, 62)
        arrays = {k: np.array(of.arrays[k]) for k in ("xs", *of.state_names)}
        for name, a in arrays.items():
            rows: Any = (slice(None), others) if name == "xs" else others
            a[rows] = np.nan if example.seed % 2 else rng.standard_normal(a[rows].shape)
        got = rows_of(of, of.at(arrays).results(of.gs), b)
        expected, when = rows_of(of, of.base, b), f"of row {b} beside others"
        of.agree(got, expected, when, facts={"row": b})


@law(CELL_LAWS, "C7", "what stands in the padding changes nothing", needs_lengths, share=0.7)
def C7(trial: Trial, info: CellInfo, example: Sequences):
    """R with NaN, inf or a huge number in the padding, and with more steps of it behind, = R.

    That is: the outputs at valid steps, the last state, every gradient; that of xs is exactly 0 in
    the padding. Finds a mask on the output but not on the state, and one that multiplies by 0,
    which does not undo a NaN.
    """
    of = batch(trial, info, ragged(info, example))
    value = (np.nan, np.inf, 1e30)[example.seed % 3]
    T, more = example.T, 1 + example.seed % 2
    clean = not of.own.ys[~of.active].any()
    longer = np.concatenate([of.xs, np.zeros((more, *of.xs.shape[1:]), of.xs.dtype)])
    padded = of.at({"xs": longer})
    padded = padded.at({"xs": np.where(over(padded.active, longer), longer, value)})
    dys = np.concatenate([of.gs[0], np.full((more, *of.gs[0].shape[1:]), float(clean))])
    got = padded.results([dys, *of.gs[1:]])
    outputs = dict(of.base.outputs)
    for named in (outputs, got.outputs):
        named["ys"] = named["ys"][:T]
        if not clean or named is outputs:  # by hand, whatever stands out there
            named["ys"] = np.where(over(of.active, named["ys"]), named["ys"], 0)
    for found, active in ((of.base, of.active), (got, padded.active)):
        beyond = np.where(over(active, found.gradients["xs"]), 0, found.gradients["xs"])
        zero = Results({}, {"xs": np.zeros_like(beyond)})
        of.agree(Results({}, {"xs": beyond}), zero, "in the padding", exact=True)
    got.gradients["xs"] = got.gradients["xs"][:T]
    loose = () if info.promises_bits else of.weights
    expected, when = Results(outputs, of.base.gradients), f"with {value} in the padding"
    of.agree(got, expected, when, loose=loose, facts={"padding": value})


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
    of = batch(trial, info, replace(example, lengths=tuple(map(int, lengths))))
    none, facts = np.flatnonzero(lengths == 0), {"row": int(never)}
    got = rows_of(of, of.base, none)
    outputs = {p: s[none] for p, s in zip(of.sized.parts, of.state, strict=True)}
    gradients = {p: g[none] for p, g in zip(of.state_names, of.gs[1:], strict=True)}
    of.agree(got, Results(outputs, gradients), "of rows of length 0", exact=True, facts=facts)

    b = int(np.argmax(lengths * (lengths < example.T)))  # the longest that ends early
    if not 0 < (end := int(lengths[b])) < example.T:
        return
    short = replace(of.piece(slice(0, end)), lengths=None)
    only: list = [None, *map(np.zeros_like, of.gs[1:])]
    for g, whole in zip(only[1:], of.gs[1:], strict=True):
        g[b] = whole[b]
    run = short.run()
    when, facts = f"of row {b}, which ends after step {end - 1},", {"row": b, "end": end}
    alone = rows_of(of, Results(of.outputs(run)), b)
    of.agree(rows_of(of, of.base, b, end), alone, when, facts=facts)
    gradients = of.gradients(of.own, only)
    gradients["xs"] = gradients["xs"][:end]
    expected = Results({}, of.gradients(run, only))
    loose, when = () if info.promises_bits else of.weights, f"{when} for its last state"
    of.agree(Results({}, gradients), expected, when, loose=loose, facts=facts)


@law(
    CELL_LAWS, "C9", "a ragged batch gives what its rows give one by one", needs_lengths, share=0.4
)
def C9(trial: Trial, info: CellInfo, example: Sequences):
    """R with lengths = R of each row by itself, cut at its own length and without lengths.

    The last state is that of the row's own last step; dW = the sum over the rows. Finds a last
    state taken at step T, and lengths that are off by one.
    """
    of = batch(trial, info, ragged(info, example))
    assert of.lengths is not None
    _row_by_row(of, of.lengths.tolist(), "of row {} against it alone, of length {}")


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
    of = batch(trial, info, example, reverse=True)
    turned = replace(of, xs=flipped(of.xs, of.lengths), how={})
    expected = turned.results([flipped(of.gs[0], of.lengths), *of.gs[1:]])
    for named, name in zip(expected, ("ys", "xs"), strict=True):
        named[name] = flipped(named[name], of.lengths)
    of.agree(of.base, expected, "in reverse")


@law(CELL_LAWS, "C12", "two directions are two recurrences on the same inputs", share=0.3)
def C12(trial: Trial, info: CellInfo, example: Sequences):
    """[ys, zs] = [R(xs), R'(xs)], R' with other weights and in reverse; dxs is the sum of both.

    The library's layers are compared with two runs, as are two runs of a cell joined in one graph.
    Code by hand gets its two halves of one array of cotangents as views, and must leave it as it
    is. Finds a gradient of xs from one direction only, and dx written over dy.
    """
    if info.cell is None and example.seed % 2:  # where it fits, dx may lie in the memory of dy
        example = replace(example, I=example.H)
    first, second = (batch(trial, info, replace(example, seed=_other(example, k))) for k in (0, 1))
    second = replace(second, xs=first.xs, lengths=first.lengths)
    if info.cell is None:
        return _halves_by_hand(first, second)
    return _joined([first, replace(second, how={"reverse": True})], _bidirectional, [2])


def _other(example: Sequences, k: int) -> int:
    """Another seed, for k > 0."""
    return (example.seed + 0x9E3779B1 * k) % 2**32


def _halves_by_hand(first: Batch, second: Batch) -> None:
    if first.own.ys.ndim < 3 or not first.own.ys.shape[-1]:
        raise NotApplicable("outputs without an axis of units")
    # The second reads backwards, so its part of the inputs and cotangents is turned round.
    second = replace(second, xs=flipped(second.xs, second.lengths))
    two = [first, second]
    dys = [first.gs[0], flipped(second.gs[0], second.lengths)]
    joint = np.concatenate(dys, axis=-1)
    kept = joint.copy()
    expected = [
        of.gradients(of.own, [d.copy(), *of.gs[1:]]) for of, d in zip(two, dys, strict=True)
    ]
    halves = np.split(joint, 2, axis=-1)
    got = [of.gradients(of.own, [h, *of.gs[1:]]) for of, h in zip(two, halves, strict=True)]
    for of, g, e, which in zip(two, got, expected, ("first", "second"), strict=True):
        when = f"of the {which} direction, its half of dys being a view"
        of.agree(Results({}, g), Results({}, e), when)
    what = "the cotangent of both directions, after the backward pass"
    first.trial.same(joint, kept, what, facts=first.facts())


@law(CELL_LAWS, "C13", "layers on each other are a composition", share=0.25)
def C13(trial: Trial, info: CellInfo, example: Sequences):
    """R3(R2(R1(xs))) in one graph = the three, one after another; the gradient of one layer's xs
    is the cotangent of the ys of the layer below.

    Code by hand runs all three forward, then all three backward, and is compared with layers that
    go forward anew before each goes back. Finds a layer in the middle that works on the memory of
    another, and what a call leaves behind for the next one.
    """
    first = batch(trial, info, example)
    if first.own.ys.ndim != 3 or not first.own.ys.shape[2]:
        raise NotApplicable("outputs (T, N, H) are wanted, to be inputs of the next layer")
    layers = [first]
    for k in (1, 2):
        below = layers[-1].own.ys
        upper = replace(example, I=below.shape[2], seed=_other(example, k), layout="C")
        layers.append(replace(batch(trial, info, upper), xs=below, lengths=first.lengths))
    if info.cell is not None:
        return _joined(layers, _stacked, [1, 1, 1])
    runs = [of.own for of in layers]
    dys = fresh = layers[-1].gs[0]
    for k in (2, 1, 0):
        of = layers[k]
        got = of.gradients(runs[k], [dys, *of.gs[1:]])
        expected = of.results([fresh, *of.gs[1:]]).gradients
        when, facts = f"in layer {k} of three", {"layer": k}
        of.agree(Results({}, got), Results({}, expected), when, facts=facts)
        dys, fresh = got["xs"], expected["xs"]
    return None


# --- several recurrences in one graph ------------------------------------------------------------

LAYERS: dict[type, Callable] = {RNNCell: RNN, LSTMCell: LSTM, GRUCell: GRU}


def _joined(batches: list[Batch], join: Callable, widths: list[int]) -> None:
    """Compares recurrences of cells joined in one graph with runs of their own.

    widths: how many recurrences each layer has: [2] side by side, [1, 1, 1] on each other.
    """
    first, side = batches[0], len(widths) == 1
    n = len(first.state)
    own = [[*of.state, *of.weights.values()] for of in batches]
    names = ["xs", *[f"{a} {k}" for k, of in enumerate(batches) for a in of.sized.names[1:]]]
    out_names = ["ys", *[f"{p} {k}" for k, of in enumerate(batches) for p in of.sized.parts]]

    def graph(xs, *rest):
        cells, states = [], []
        for of, args in zip(batches, own, strict=True):
            mine, rest = rest[: len(args)], rest[len(args) :]
            cell = of.sized.cell
            assert cell is not None
            cells.append(with_tensors(cell, dict(zip(of.weights, mine[n:], strict=True))))
            _, form = flatten(cell.initial_state(1, np.float64))
            states.append(form.build(mine[:n]))
        ys, last = join(cells, xs, states, first.lengths)
        return ys, *[part for s in last for part in flatten(s)[0]]

    dys = [of.gs[0] for of in batches]
    cotangents = [np.concatenate(dys, -1) if side else dys[-1],
                  *[g for of in batches for g in of.gs[1:]]]  # fmt: skip

    def together(arrays: Named) -> Results:
        args = list(arrays.values())
        outs, pull = Traced(graph).linearise(args, {}, range(len(args)))
        found = filled(pull(*cotangents), args)
        return Results(
            dict(zip(out_names, outs, strict=True)), dict(zip(names, found, strict=True))
        )

    outs = [np.concatenate([of.own.ys for of in batches], -1) if side else batches[-1].own.ys,
            *[s for of in batches for s in of.own.last]]  # fmt: skip
    found, above = [], dys[-1]
    for k, of in reversed(list(enumerate(batches))):
        found.append(of.own.pull(dys[k] if side else above, of.gs[1:]))
        above = found[-1].xs
    found.reverse()
    dxs = found[0].xs + found[1].xs if side else above
    gradients = [dxs, *[a for f in found for a in (*f.state, *f.weights.values())]]
    expected = Results(
        dict(zip(out_names, outs, strict=True)), dict(zip(names, gradients, strict=True))
    )
    arrays = dict(zip(names, [first.xs, *[a for args in own for a in args]], strict=True))
    noise = noise_of(arrays, first.example.seed, together)
    when = "of two directions" if side else "of three layers"
    first.agree(together(arrays), expected, when, noise=noise)


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
