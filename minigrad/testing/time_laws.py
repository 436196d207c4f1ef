"""Laws of a recurrent cell over time: C1 to C4, C10, C14, C20.

R(xs, s) = (ys, last s) is the recurrence on a sequence xs from the state s, with its gradients for
a cotangent of ys and of every part of the last state.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from .cell_info import CELL_LAWS, CellInfo
from .example import Sequences, generator, signed
from .laws import Trial, law
from .recurrence import Run, step_of
from .runs import Batch, Named, Results, batch, filled, needs_cell, total
from .subject import Traced


@law(CELL_LAWS, "C1", "a sequence in two pieces, the state carried, gives the same as in one")
def C1(trial: Trial, info: CellInfo, example: Sequences):
    """R(xs, s) = R(xs[k:], R(xs[:k], s)) for any cut k, 0 and T among them.

    Backwards the gradient of the second piece's initial state is the cotangent of the first one's
    last state; gradients of weights add up. Finds what is special at the first or last step of a
    call, or at a number of steps; a state that is not carried on; truncation.
    """
    of, k = batch(trial, info, example), min(example.cut, example.T)
    when, facts = f"against two pieces, cut at step {k}", {"cut": k}
    of.agree(of.base, of.in_pieces([k], of.gs), when, loose=of.arrays, facts=facts)


@law(CELL_LAWS, "C2", "weights collect the gradients of all steps, chained by hand", share=0.3)
def C2(trial: Trial, info: CellInfo, example: Sequences):
    """dW = the sum over t of dW(t), where step t is run by itself, from the state before it, and
    pulls back dy(t) and the gradient of the state after it.

    Finds a gradient of a weight that is overwritten at each step in place of added, or counted
    twice; steps left out; the state of another step in a product.
    """
    of = batch(trial, info, example)
    states: list[Sequence] = [of.state]
    for t in range(example.T):
        states.append(_step(of, t, states[-1]).run().last)
    after, steps, xs = of.gs[1:], [], []
    for t in reversed(range(example.T)):  # each step is run anew: nothing in between
        found = _step(of, t, states[t]).run().pull(of.gs[0][t : t + 1], after)
        after = found.state
        steps.append(found.weights)
        xs.append(found.xs)
    chained = {"xs": np.concatenate([*xs[::-1], of.xs[:0]])}
    chained |= dict(zip(of.state_names, after, strict=True))
    chained |= total([of.no_weights(), *steps])
    facts = {"steps": _by_step(steps)}
    of.agree(of.base, Results({}, chained), "against step by step", loose=chained, facts=facts)


def _step(of: Batch, t: int, state) -> Batch:
    """Step t by itself."""
    return of.piece(slice(t, t + 1), state)


def _by_step(steps: list[Named]) -> Named:
    """The contributions (T, ...) of the steps, found newest first."""
    return {name: np.stack([s[name] for s in steps[::-1]]) for name in steps[0]} if steps else {}


@law(CELL_LAWS, "C3", "no steps: the state as it was, its gradients as they came", share=0.3)
def C3(trial: Trial, info: CellInfo, example: Sequences):
    """R((), s) = ((), s); ds = the cotangent of the last state, in memory of its own; dW = 0.

    Finds zeros returned for a state or its gradient, a cotangent handed back itself, so that who
    adds to one changes the other, and code that cannot do without a first step.
    """
    lengths = None if example.lengths is None else (0,) * example.N
    of = batch(trial, info, replace(example, T=0, lengths=lengths))
    parts, names, dlast = of.sized.parts, of.state_names, of.gs[1:]
    outputs = dict(zip(parts, of.state, strict=True))
    gradients = dict(zip(names, dlast, strict=True)) | of.no_weights()
    of.agree(of.base, Results(outputs, gradients), "after no steps", exact=True)
    for part, name, last, s in zip(parts, names, of.own.last, of.state, strict=True):
        trial.true(  # arrays by hand may be written to; a tensor is never
            info.cell is not None or not np.shares_memory(last, s),
            f"the last {part} after no steps", "memory of its own", f"that of {name}",
            facts=of.facts(),
        )  # fmt: skip
    state = [of.base.gradients[name] for name in names]
    for i, (name, g) in enumerate(zip(names, state, strict=True)):
        for what, other in (
            *((f"the cotangent of the last {p}", d) for p, d in zip(parts, dlast, strict=True)),
            *of.arrays.items(),
            *((f"the gradient of {n}", a) for n, a in zip(names, state[:i], strict=False)),
        ):
            trial.true(
                not np.shares_memory(g, other), f"the gradient of {name} after no steps",
                "memory of its own", f"that of {what}", input=name, facts=of.facts(),
            )  # fmt: skip


@law(CELL_LAWS, "C4", "one step is the cell itself", needs_cell("a single step"), share=0.6)
def C4(trial: Trial, info: CellInfo, example: Sequences):
    """R((x), s) = cell(x, s), outputs and gradients.

    Finds code for a single step that differs from that for many, and a cell that is not called as
    it is when it is unfolded.
    """
    of = batch(trial, info, replace(example, T=1, lengths=None))
    n, cell = len(of.state), of.sized.cell
    assert cell is not None

    def step(x, *rest):
        return step_of(cell, x, rest[:n], dict(zip(of.weights, rest[n:], strict=True)))

    args = [of.xs[0], *of.state, *of.weights.values()]
    outs, pull = Traced(step).linearise(args, {}, range(len(args)))
    got = dict(zip(("ys", *of.sized.parts), (outs[0][None], *outs[1:]), strict=True))
    found = filled(pull(of.gs[0][0], *of.gs[1:]), args)
    slopes = dict(zip(of.sized.names, [found[0][None], *found[1:]], strict=True))
    of.agree(of.base, Results(got, slopes), "of one step")


@law(CELL_LAWS, "C10", "what comes later has no influence", share=0.7)
def C10(trial: Trial, info: CellInfo, example: Sequences):
    """ys[:k] and their gradients stay as they are when xs[k:] changes; d ys[:k] / d xs[k:] = 0.

    Finds code that reads a step ahead, an index that is one too far, and statistics taken over all
    of time.
    """
    of, k = batch(trial, info, example), min(example.cut, example.T)
    xs = np.array(of.xs)
    xs[k:] = generator(example.seed, 60).standard_normal(xs[k:].shape)
    other = of.at({"xs": xs}).run()
    facts, when = {"cut": k}, f"before step {k}, with other inputs from there on"
    of.agree(Results({"ys": other.ys[:k]}), Results({"ys": of.own.ys[:k]}), when, facts=facts)

    dys = np.array(of.gs[0])
    dys[k:] = 0
    gs = [dys, *[None] * len(of.state)]
    found = of.gradients(of.own, gs)
    late = {"xs": found["xs"][k:]}
    zero = Results({}, {"xs": np.zeros_like(late["xs"])})
    when_late = f"from step {k} on, for outputs before it"
    of.agree(Results({}, late), zero, when_late, exact=True, facts=facts)
    got = Results({}, of.gradients(other, gs))
    of.agree(got, Results({}, found), f"of ys {when}", facts=facts)


@law(CELL_LAWS, "C14", "every cotangent counts, and every part of the initial state", share=0.6)
def C14(trial: Trial, info: CellInfo, example: Sequences):
    """The gradients for cotangents of ys, h(T), c(T), each one alone, add up to those for all at
    once; none of them is zero unless nothing depends, nor is that of any part of the initial state.

    A cotangent that is missing is one of zeros. What depends is found out by moving the arguments.
    Finds a cotangent of a last state that is ignored, and a gradient that never reaches a state.
    """
    of = batch(trial, info, example)
    alone = []
    for j, name in enumerate(of.base.outputs):
        only = [g if i == j else None for i, g in enumerate(of.gs)]
        alone.append(of.gradients(of.own, only))
        if not any(g.any() for g in alone[-1].values()):
            moved = _moves(of, of.arrays, j)
            what = name if name == "ys" else f"the last {name}"
            trial.true(
                not moved, f"the gradients for a cotangent of {what} alone",
                f"some that are not 0: it moves by {moved:.6g} along a direction", "only zeros",
                input=of.sized.names[0], facts=of.facts(gradients=alone[-1], output=name),
            )  # fmt: skip
    zeros = [of.gs[0], *[np.zeros_like(g) for g in of.gs[1:]]]
    explicit = Results({}, of.gradients(of.own, zeros))
    of.agree(explicit, Results({}, alone[0]), "for zeros in place of missing cotangents")
    summed, whole = Results({}, total(alone)), of.base.gradients
    of.agree(of.base, summed, "for all cotangents at once", loose=of.arrays)
    for name in of.state_names:
        if not whole[name].any() and (moved := _moves(of, [name], None)):
            trial.true(
                False, f"the gradient of {name}",
                f"not 0: the outputs move by {moved:.6g} along a direction", "only zeros",
                input=name, axes=of.axes(name), facts=of.facts(gradients=whole),
            )  # fmt: skip


def _moves(of: Batch, names: Collection[str], output: int | None) -> float:
    """The slope of one output, or of all, weighed with their cotangents, along a direction in some
    arguments; 0 if it is not clearly different from 0 on both sides."""
    h = 2.0**-16
    direction = {
        name: signed(a.shape, of.example.seed, 320, i)
        for i, (name, a) in enumerate(of.arrays.items())
        if name in names
    }

    def value(side: int) -> float:
        run = of.at({k: of.arrays[k] + side * h * d for k, d in direction.items()}).run()
        pairs = enumerate(zip(of.gs, (run.ys, *run.last), strict=True))
        return sum([float((g * o).sum()) for j, (g, o) in pairs if output in (None, j)])

    here, up, down = map(value, (0, 1, -1))
    right, left = (up - here) / h, (here - down) / h
    slope = (right + left) / 2
    return slope if abs(right - left) < abs(slope) / 8 and abs(slope) > 1e-6 else 0.0


@law(CELL_LAWS, "C20", "a shared weight gets the sum over separate copies", share=0.3)
def C20(trial: Trial, info: CellInfo, example: Sequences):
    """dW = the sum over t of dW(t) for T copies W(t) = W, one for each step, all in one graph.

    All steps go forward before the first goes back. Finds gradients that are kept for the wrong
    step, what one step leaves behind for another, and a cache that goes by the weights' identity.
    """
    of = batch(trial, info, example)
    steps = _copies_of_cell(of) if info.cell else _copies_by_hand(of)
    summed, facts = total([of.no_weights(), *steps]), {"steps": _by_step(steps[::-1])}
    when = "against the sum over copies, one for each step"
    of.agree(of.base, Results({}, summed), when, loose=summed, facts=facts)


def _copies_by_hand(of: Batch) -> list[Named]:
    runs: list[Run] = []
    state: Sequence = of.state
    after = of.gs[1:]  # first of all: of a run of its own
    for t in range(of.example.T):
        copies = {name: np.array(w) for name, w in of.weights.items()}
        runs.append(replace(_step(of, t, state), weights=copies).run())
        state = runs[-1].last
    found = []
    for t in reversed(range(len(runs))):
        g = runs[t].pull(of.gs[0][t : t + 1], after)
        after = g.state
        found.append(g.weights)
    return found[::-1]


def _copies_of_cell(of: Batch) -> list[Named]:
    """The cell's own steps, in one graph, and one backward pass through all of it."""
    from ..ops import where

    T, n, cell = of.example.T, len(of.state), of.sized.cell
    assert cell is not None
    if T == 0:
        return []
    names, mask = list(of.weights), of.active

    def over(t, a, b):
        return where(mask[t].reshape(-1, *[1] * (a.ndim - 1)), a, b)

    def steps(*args):
        xs, state, copies = args[:T], list(args[T : T + n]), args[T + n :]
        ys = []
        for t in range(T):
            own = dict(zip(names, copies[t * len(names) :][: len(names)], strict=True))
            y, *new = step_of(cell, xs[t], state, own)
            ys.append(over(t, y, 0))
            state = [over(t, a, b) for a, b in zip(new, state, strict=True)]
        return (*ys, *state)

    args = [*of.xs, *of.state, *[np.array(w) for _ in range(T) for w in of.weights.values()]]
    _, pull = Traced(steps).linearise(args, {}, range(len(args)))
    found = filled(pull(*of.gs[0], *of.gs[1:]), args)[T + n :]
    return [dict(zip(names, found[t * len(names) :][: len(names)], strict=True)) for t in range(T)]
